//! Clients that this project did not write: each gets tokens, uses, introspects and revokes them,
//! with nothing in it that is for this server alone.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use oauth2::{
    AccessToken, AuthType, ClientId, ClientSecret, HttpRequest, HttpResponse, IntrospectionUrl, RevocationUrl,
    Scope, StandardRevocableToken, TokenIntrospectionResponse, TokenResponse, TokenUrl, basic::BasicClient,
};
use serde_json::{Value, json};

use crate::house::{House, ORDERS};

/// How a client may authenticate, as the scripts are told of it: the secret in either place, a
/// private key, and the secret with tokens that are bound to a key.
const SECRET: &[&str] = &["basic", "body"];
const KEY: &[&str] = &["basic", "body", "private_key_jwt"];
const ALL: &[&str] = &["basic", "body", "private_key_jwt", "dpop"];

fn dev(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dev").join(path)
}

/// Runs it with the credential and the API's key in its environment, and gives what it printed.
fn run(house: &House, private_key: &str, mut command: Command) -> Value {
    command
        .env("PRIVATE_KEY", private_key)
        .env("ISSUER", &house.url)
        .env("RESOURCE", ORDERS)
        .envs([("CLIENT_ID", &house.program.client_id), ("CLIENT_SECRET", &house.program.client_secret)])
        .envs([("KEY_ID", &house.orders.client_id), ("KEY_SECRET", &house.orders.client_secret)])
        // As each of them is told whom to trust.
        .env("NODE_EXTRA_CA_CERTS", &house.trusted)
        .env("REQUESTS_CA_BUNDLE", &house.trusted);
    let name = format!("{command:?}");
    let Output { status, stdout, stderr } =
        command.output().unwrap_or_else(|e| panic!("{name} does not start ({e}): dev/test installs it"));
    assert!(status.success(), "{name}: {}", String::from_utf8_lossy(&stderr));
    serde_json::from_slice(&stdout).unwrap()
}

/// Looks at what a client says it has seen, and asks the server whether it is so.
async fn story_is_true(house: &House, story: &Value, introspects: bool) {
    assert_eq!(story["scope"], "users:read", "{story}");
    assert_eq!(story["users"]["users"][0]["email"], "maria@acme.example", "{story}");
    if introspects {
        let told = &story["told"];
        assert_eq!((&told["active"], &told["aud"]), (&true.into(), &ORDERS.into()), "{story}");
        assert_eq!((&told["scope"], &told["client_id"]), (&"orders:read".into(), &json!(house.program.client_id)));
    }
    let token = |name: &str| story[name].as_str().unwrap();
    assert!(!house.program.is_active(token("revoked")).await, "revoked");
    assert!(house.program.is_active(token("kept")).await, "and nothing else was");
}

async fn tells_the_story(program: &Path, script: &str, ways: &[&str], introspects: bool) {
    let house = House::build().await;
    let private_key = house.bind_key().await;
    for way in ways {
        let mut command = Command::new(program);
        command.arg(dev(&format!("clients/{script}"))).arg(way);
        let story = run(&house, &private_key, command);
        story_is_true(&house, &story, introspects).await;
        if *way == "dpop" {
            let told = &story["told"];
            assert!(told["token_type"] == "DPoP" && told["cnf"]["jkt"].is_string(), "{story}");
        }
    }
}

/// The Python that has what `dev/requirements.txt` lists.
fn python() -> PathBuf {
    let python = std::env::var("PORTCULLIS_TEST_PYTHON");
    python
        .expect("PORTCULLIS_TEST_PYTHON is not set: run ./dev/test, or give a Python with dev/requirements.txt")
        .into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openid_client_needs_nothing_special() {
    tells_the_story(Path::new("node"), "openid-client.mjs", ALL, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn oauth4webapi_needs_nothing_special() {
    tells_the_story(Path::new("node"), "oauth4webapi.mjs", ALL, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn simple_oauth2_needs_nothing_special() {
    tells_the_story(Path::new("node"), "simple-oauth2.mjs", SECRET, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn authlib_needs_nothing_special() {
    tells_the_story(&python(), "authlib_client.py", KEY, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_oauthlib_needs_nothing_special() {
    tells_the_story(&python(), "requests_oauthlib_client.py", SECRET, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_needs_nothing_special() {
    let house = House::build().await;
    for &way in SECRET {
        let curl = |path: &str, (id, secret): (&str, &str), form: &[&str]| {
            let mut command = Command::new("curl");
            command.args(["--silent", "--show-error", "--fail-with-body", "--cacert"]).arg(&house.trusted);
            match way {
                "basic" => command.args(["--user", &format!("{id}:{secret}")]),
                _ => command
                    .args(["--data-urlencode", &format!("client_id={id}")])
                    .args(["--data-urlencode", &format!("client_secret={secret}")]),
            };
            for field in form {
                command.args(["--data-urlencode", field]);
            }
            command.arg(format!("{}/oauth/{path}", house.url));
            let output = command.output().unwrap();
            assert!(output.status.success(), "{path}: {output:?}");
            serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
        };
        let program = (&*house.program.client_id, &*house.program.client_secret);
        let key = (&*house.orders.client_id, &*house.orders.client_secret);
        let grant = "grant_type=client_credentials";
        let own = curl("token", program, &[grant, "scope=users:read"]);
        let mut users = Command::new("curl");
        users.args(["--silent", "--fail", "--cacert"]).arg(&house.trusted).arg("--oauth2-bearer");
        users.arg(own["access_token"].as_str().unwrap()).arg(format!("{}/api/v1/users", house.url));
        let users: Value = serde_json::from_slice(&users.output().unwrap().stdout).unwrap();
        let orders = curl("token", program, &[grant, "scope=orders:read", &format!("resource={ORDERS}")]);
        let token = format!("token={}", orders["access_token"].as_str().unwrap());
        let told = curl("introspect", key, &[&token]);
        curl("revoke", program, &[&token]);
        let story = json!({ "scope": own["scope"], "users": users, "told": told,
                            "revoked": orders["access_token"], "kept": own["access_token"] });
        story_is_true(&house, &story, true).await;
    }
}

async fn send(client: reqwest::Client, request: HttpRequest) -> Result<HttpResponse, reqwest::Error> {
    let response = client.execute(request.try_into()?).await?;
    let mut answer = HttpResponse::new(Vec::new());
    *answer.status_mut() = response.status();
    *answer.headers_mut() = response.headers().clone();
    *answer.body_mut() = response.bytes().await?.to_vec();
    Ok(answer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_oauth2_crate_needs_nothing_special() {
    let house = House::build().await;
    let client = &house.program.client;
    // The crate brings an older reqwest or takes a function.
    let http = &|request: HttpRequest| send(client.clone(), request);
    for way in [AuthType::BasicAuth, AuthType::RequestBody] {
        let url = |path: &str| format!("{}/oauth/{path}", house.url);
        let party = |id: &str, secret: &str| {
            BasicClient::new(ClientId::new(id.to_owned()))
                .set_client_secret(ClientSecret::new(secret.to_owned()))
                .set_auth_type(way.clone())
                .set_token_uri(TokenUrl::new(url("token")).unwrap())
                .set_introspection_url(IntrospectionUrl::new(url("introspect")).unwrap())
                .set_revocation_url(RevocationUrl::new(url("revoke")).unwrap())
        };
        let program = party(&house.program.client_id, &house.program.client_secret);
        let own = program.exchange_client_credentials().add_scope(Scope::new("users:read".to_owned()));
        let own = own.request_async(http).await.unwrap();
        let users = client.get(format!("{}/api/v1/users", house.url)).bearer_auth(own.access_token().secret());
        let users: Value = users.send().await.unwrap().json().await.unwrap();
        let orders = program.exchange_client_credentials().add_scope(Scope::new("orders:read".to_owned()));
        let orders = orders.add_extra_param("resource", ORDERS).request_async(http).await.unwrap();
        let token: &AccessToken = orders.access_token();
        let api = party(&house.orders.client_id, &house.orders.client_secret);
        let told = api.introspect(token).request_async(http).await.unwrap();
        assert!(told.active() && told.aud().is_some_and(|aud| aud == &[ORDERS.to_owned()]));
        let revocable = StandardRevocableToken::from(token.clone());
        program.revoke_token(revocable).unwrap().request_async(http).await.unwrap();
        let scopes: Vec<&str> = own.scopes().unwrap().iter().map(|scope| scope.as_str()).collect();
        let story = json!({ "scope": scopes.join(" "), "users": users,
                            "revoked": token.secret(), "kept": own.access_token().secret() });
        story_is_true(&house, &story, false).await;
    }
}
