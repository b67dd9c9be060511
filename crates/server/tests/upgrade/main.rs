//! A rolling upgrade: the previous release and this one on one PostgreSQL, behind no balancer but the test.
//! The previous one serves; this one starts beside it, under load, and brings the schema up to date; both
//! serve, and what is done at one holds at the other; the previous one goes. `dev/upgrade` runs it.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use support::{cookie_of, postgres_database, process::Process};

#[allow(dead_code, unused_imports, unused_macros, reason = "the HTTP suite uses the rest of it")]
#[path = "../http/support.rs"]
mod support;

const MARIA: &str = "maria@acme.example";
const PASSWORD: &str = "tide lantern walnut orbit";
const CREDENTIAL: &str = "/api/v1/users/me/credential";

/// Maria at her browser. Any node will do.
struct Maria {
    client: Client,
    cookie: String,
}

impl Maria {
    async fn sign_in(node: &Process) -> Self {
        let client = Client::new();
        let body = json!({ "email": MARIA, "password": PASSWORD });
        let sent = client.post(format!("{}/api/v1/session", node.url())).json(&body).send().await.unwrap();
        assert_eq!(sent.status(), StatusCode::CREATED);
        Self { cookie: cookie_of(&sent).unwrap(), client }
    }

    async fn ask(&self, node: &Process, method: Method, path: &str) -> (StatusCode, Value) {
        let request = self.client.request(method, format!("{}{path}", node.url())).header("cookie", &self.cookie);
        let response = request.send().await.unwrap();
        (response.status(), response.json().await.unwrap_or_default())
    }

    async fn generate(&self, node: &Process) -> Program {
        let (status, made) = self.ask(node, Method::POST, &format!("{CREDENTIAL}/generate")).await;
        assert_eq!(status, StatusCode::CREATED, "{made}");
        let text = |name: &str| made[name].as_str().unwrap().to_owned();
        Program { client: Client::new(), id: text("client_id"), secret: text("client_secret") }
    }

    async fn revoke(&self, node: &Process) {
        let (status, gone) = self.ask(node, Method::POST, &format!("{CREDENTIAL}/revoke")).await;
        assert_eq!(status, StatusCode::OK, "{gone}");
    }
}

#[derive(Clone)]
struct Program {
    client: Client,
    id: String,
    secret: String,
}

impl Program {
    async fn oauth(&self, url: &str, endpoint: &str, form: &[(&str, &str)]) -> (StatusCode, Value) {
        let request = self.client.post(format!("{url}/oauth/{endpoint}"));
        let response = request.basic_auth(&self.id, Some(&self.secret)).form(form).send().await.unwrap();
        (response.status(), response.json().await.unwrap_or_default())
    }

    async fn ask(&self, url: &str) -> (StatusCode, Value) {
        self.oauth(url, "token", &[("grant_type", "client_credentials")]).await
    }

    async fn token(&self, node: &Process) -> String {
        let (status, answer) = self.ask(&node.url()).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        answer["access_token"].as_str().unwrap().to_owned()
    }

    async fn is_active(&self, node: &Process, token: &str) -> bool {
        let (status, answer) = self.oauth(&node.url(), "introspect", &[("token", token)]).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        answer["active"].as_bool().unwrap()
    }

    /// Asks this node for tokens until it is told to stop, and gives how many there were. None is refused.
    fn load(&self, node: &Process, until: &Arc<AtomicBool>) -> tokio::task::JoinHandle<u32> {
        let (program, url, until) = (self.clone(), node.url(), Arc::clone(until));
        tokio::spawn(async move {
            let mut tokens = 0;
            while !until.load(Ordering::Relaxed) {
                let (status, answer) = program.ask(&url).await;
                assert_eq!(status, StatusCode::OK, "after {tokens} tokens of {url}: {answer}");
                tokens += 1;
            }
            tokens
        })
    }
}

fn previous() -> PathBuf {
    std::env::var_os("PORTCULLIS_PREVIOUS").expect("PORTCULLIS_PREVIOUS is not set: run ./dev/upgrade").into()
}

/// What is done at one node holds at the other.
async fn both_are_one(maria: &Maria, [one, other]: [&Process; 2]) {
    let program = maria.generate(one).await;
    let tokens = [program.token(one).await, program.token(other).await];
    for node in [one, other] {
        for token in &tokens {
            assert!(program.is_active(node, token).await, "each takes what the other signed");
            let listed =
                program.client.get(format!("{}/api/v1/users", node.url())).bearer_auth(token).send().await;
            assert_eq!(listed.unwrap().status(), StatusCode::OK);
        }
    }
    let signed_in = Maria::sign_in(one).await;
    let (status, held) = signed_in.ask(other, Method::GET, CREDENTIAL).await;
    assert_eq!((status, held["client_id"].as_str()), (StatusCode::OK, Some(program.id.as_str())));
    assert_eq!(signed_in.ask(other, Method::POST, "/api/v1/session/end").await.0, StatusCode::NO_CONTENT);
    assert_eq!(signed_in.ask(one, Method::GET, CREDENTIAL).await.0, StatusCode::UNAUTHORIZED);

    let (status, _) = program.oauth(&one.url(), "revoke", &[("token", &tokens[1])]).await;
    assert_eq!(status, StatusCode::OK);
    assert!(!program.is_active(other, &tokens[1]).await && program.is_active(other, &tokens[0]).await);
    maria.revoke(one).await;
    for node in [one, other] {
        assert_eq!(program.ask(&node.url()).await.0, StatusCode::UNAUTHORIZED, "C-11");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_previous_release_and_this_one_serve_together_while_the_schema_changes() {
    let database = format!("database_url={}", postgres_database().await);
    let mut old = Process::of(previous(), &[&database]);
    old.super_admin(MARIA, PASSWORD);
    old.start();
    let maria = Maria::sign_in(&old).await;
    let program = maria.generate(&old).await;
    let before = program.token(&old).await;

    let mut new = Process::new(&[&database, &format!("public_url={}", old.url())]);
    std::fs::create_dir_all(new.data("master.key").parent().unwrap()).unwrap();
    std::fs::copy(old.data("master.key"), new.data("master.key")).unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let mut load: Vec<_> = (0..4).map(|_| program.load(&old, &done)).collect();
    // It brings the schema up to date while the previous release issues tokens.
    new.start();
    load.extend((0..4).map(|_| program.load(&new, &done)));
    for node in [&old, &new] {
        assert!(program.is_active(node, &before).await, "I5");
        assert_eq!(maria.ask(node, Method::GET, CREDENTIAL).await.0, StatusCode::OK, "the session lives on");
    }
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    done.store(true, Ordering::Relaxed);
    let mut tokens = Vec::new();
    for task in load {
        tokens.push(task.await.unwrap());
    }
    println!("tokens of the previous release and of this one: {tokens:?}");
    assert!(tokens.iter().all(|n| *n > 0));
    maria.revoke(&new).await;
    both_are_one(&maria, [&old, &new]).await;
    both_are_one(&maria, [&new, &old]).await;

    // A release that says nothing of working beside a newer schema refuses to start beside it, and says so.
    let program = maria.generate(&old).await;
    assert_eq!(old.terminate(), Some(0), "{}", old.errors());
    let looked = old.run_here(&["keys", "list"], "");
    println!("the previous release, started again beside the newer schema: {}", looked.err.trim());
    assert_eq!(looked.code, 1);
    assert!(looked.err.contains("newer than this program knows"), "{looked:?}");
    assert!(program.is_active(&new, &program.token(&new).await).await);
    maria.revoke(&new).await;
    assert_eq!(new.terminate(), Some(0));
    let verified = new.run_here(&["audit", "verify"], "");
    assert_eq!(verified.code, 0, "I4: {verified:?}");
}
