//! Every change of the owner that stops a credential or lets it work again, made while programs ask
//! for tokens, use one and have one checked, on two nodes at once (C-9 to C-11). Whatever begins after
//! the change was acknowledged finds it done; whatever ended before it was asked for did not.

#![allow(clippy::disallowed_methods, reason = "what was acknowledged before what takes a clock")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use portcullis_domain::{
    accounts::{Role, Status},
    federation::{Provider, Settings},
    sessions::Opened,
};
use reqwest::{Method, StatusCode};
use tokio::task::JoinSet;

use crate::{
    mfa::tab::{Phone, Tab},
    support::{Person, Program, World, on_both},
};

on_both! {
    c11_whatever_stops_or_resumes_a_credential_holds_from_its_acknowledgement_on
}

const MARIA: &str = "maria@acme.example";

/// Something a program tried.
#[derive(Debug)]
struct Attempt {
    #[expect(dead_code, reason = "for the words of a failed assertion")]
    what: &'static str,
    begun: Instant,
    ended: Instant,
    good: bool,
}

/// What programs ask for over and over.
#[derive(Clone, Copy)]
enum Ask {
    /// A token.
    Token,
    /// The API, with a token from the beginning.
    Call,
    /// Whether that token is active, asked by the API it is for.
    Check,
}

impl Ask {
    async fn once(self, load: &Load, node: usize) -> Attempt {
        let begun = Instant::now();
        let program = &load.program[node];
        let (what, good) = match self {
            Self::Token => ("token", is_good(program.ask().await.status())),
            Self::Call => {
                let call = program.with(&load.token, Method::GET, "/api/v1/me");
                ("call", is_good(call.send().await.unwrap().status()))
            }
            Self::Check => ("check", load.other[node].is_active(&load.token).await),
        };
        Attempt { what, begun, ended: Instant::now(), good }
    }
}

/// A refusal is a refusal: anything but 200 and 401 is a fault of its own.
fn is_good(status: StatusCode) -> bool {
    assert!([StatusCode::OK, StatusCode::UNAUTHORIZED].contains(&status), "{status}");
    status == StatusCode::OK
}

struct Load {
    /// The program, at each node.
    program: [Program; 2],
    /// A program of somebody else's, at each node.
    other: [Program; 2],
    /// A token from the beginning.
    token: String,
}

impl Load {
    /// Makes a change under load. `before` and `after` say whether the credential works.
    async fn over(self: &Arc<Self>, name: &str, (before, after): (bool, bool), change: impl AsyncFnOnce()) {
        let stop = Arc::new(AtomicBool::new(false));
        let mut workers = JoinSet::new();
        let mut rounds = Vec::new();
        for (node, ask) in [0, 1].into_iter().flat_map(|n| [(n, Ask::Token), (n, Ask::Call), (n, Ask::Check)]) {
            let (load, stop, round) = (Arc::clone(self), Arc::clone(&stop), Arc::new(AtomicUsize::new(0)));
            rounds.push(Arc::clone(&round));
            workers.spawn(async move {
                let mut attempts = Vec::new();
                while !stop.load(Ordering::SeqCst) {
                    attempts.push(ask.once(&load, node).await);
                    round.fetch_add(1, Ordering::SeqCst);
                }
                attempts
            });
        }
        each_went_on(&rounds).await;
        let asked = Instant::now();
        change().await;
        let acknowledged = Instant::now();
        each_went_on(&rounds).await;
        stop.store(true, Ordering::SeqCst);
        let attempts: Vec<Attempt> = workers.join_all().await.into_iter().flatten().collect();
        let (mut early, mut late) = (0, 0);
        for attempt in &attempts {
            if attempt.ended <= asked {
                assert_eq!(attempt.good, before, "{name}: before it: {attempt:?}");
                early += 1;
            } else if attempt.begun >= acknowledged {
                let since = attempt.begun - acknowledged;
                assert_eq!(attempt.good, after, "{name}: {since:?} after its acknowledgement: {attempt:?}");
                late += 1;
            }
        }
        assert!(early >= 12 && late >= 12, "{name}: {early} before, {late} after of {}", attempts.len());
    }
}

/// Waits until each worker began and ended at least two attempts from now on.
async fn each_went_on(rounds: &[Arc<AtomicUsize>]) {
    let marks: Vec<usize> = rounds.iter().map(|r| r.load(Ordering::SeqCst)).collect();
    while rounds.iter().zip(&marks).any(|(r, mark)| r.load(Ordering::SeqCst) < mark + 3) {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Does something to Maria as João, and sees that it was done.
async fn manage(joao: &Person, maria: &str, act: &str) {
    let response = joao.request(Method::POST, &format!("/api/v1/users/{maria}/{act}")).send().await.unwrap();
    assert!(response.status().is_success(), "{act}: {}", response.text().await.unwrap());
}

/// Maria's browser, with an authenticator app or without.
struct Browser<'a> {
    world: &'a World,
    tab: Tab,
    phone: Option<Phone>,
}

impl Browser<'_> {
    async fn turn_mfa_on(&mut self) {
        let (phone, _) = self.tab.set_up_app(self.world).await;
        self.phone = Some(phone);
    }

    async fn turn_mfa_off(&mut self) {
        let code = self.phone.take().unwrap().code(self.world);
        let page = self.tab.post("/account/mfa/off", &[("code", &code)]).await;
        assert_eq!(page.status, StatusCode::SEE_OTHER, "{}", page.text);
    }
}

async fn c11_whatever_stops_or_resumes_a_credential_holds_from_its_acknowledgement_on(world: World) {
    let node = world.another_node().await;
    let maria = world.maria().await;
    let joao = world.person("joao@acme.example", Role::SuperAdmin).await;
    let (program, other) = (maria.generate().await, world.watcher().await);
    let token = program.token().await;
    let load = Arc::new(Load {
        program: [program.clone(), program.at(&node)],
        other: [other.clone(), other.at(&node)],
        token,
    });
    let user = world.user_of(MARIA).await;
    let id = user.id.to_string();
    let (joao, id) = (&joao, id.as_str());
    let on_a = |act: &'static str| async move { manage(joao, id, act).await };
    let there = joao.at(&node);
    let on_b = |act: &'static str| {
        let there = &there;
        async move { manage(there, id, act).await }
    };

    let mut browser = Browser { world: &world, tab: Tab::of(&world, &maria), phone: None };
    load.over("MFA on", (true, false), async || browser.turn_mfa_on().await).await;
    load.over("MFA off", (false, true), async || browser.turn_mfa_off().await).await;
    load.over("demoted", (true, false), async || on_a("take-super-admin").await).await;
    load.over("restored", (false, true), async || on_b("give-super-admin").await).await;
    load.over("deactivated", (true, false), async || on_b("deactivate").await).await;
    assert!(!maria.at(&node).is_signed_in().await, "out on the next request");
    load.over("activated", (false, true), async || on_a("activate").await).await;

    let mut browser = Browser { world: &world, tab: Tab::of(&world, &world.sign_in(MARIA).await), phone: None };
    load.over("MFA on again", (true, false), async || browser.turn_mfa_on().await).await;
    load.over("MFA off by another", (false, true), async || on_a("turn-mfa-off").await).await;

    let federated = session_through_a_provider(&world, &user).await;
    assert!(federated.is_signed_in().await);
    let remove = format!("/providers/{}/remove", federated.provider);
    load.over("provider removed", (true, true), async || {
        assert_eq!(there.post(&remove, &[]).await.status(), StatusCode::SEE_OTHER);
    })
    .await;
    assert!(!federated.is_signed_in().await, "who came through it is out");
    assert!(world.sign_in(MARIA).await.is_signed_in().await, "A-7: the password still signs in");

    load.over("deleted", (true, false), async || on_b("delete").await).await;
    assert_eq!(
        world.app.store.read().await.unwrap().user(user.id).await.unwrap().unwrap().standing.status.0,
        Status::Deleted
    );
    world.log_is_whole().await;
}

/// A federated login, at a provider that nobody has to be asked at.
struct Federated {
    provider: uuid::Uuid,
    person: Person,
}

impl std::ops::Deref for Federated {
    type Target = Person;
    fn deref(&self) -> &Person {
        &self.person
    }
}

async fn session_through_a_provider(world: &World, user: &portcullis_domain::accounts::User) -> Federated {
    let settings = Settings {
        name: "Acme SSO".to_owned(),
        issuer: "https://sso.acme.example".to_owned(),
        client_id: "portcullis".to_owned(),
        scopes: vec!["openid".to_owned()],
        domains: Vec::new(),
        makes_users: false,
        role: Role::User,
    };
    let provider = Provider { id: world.clock.id(), settings, has_secret: false, made_at: world.clock.now() };
    let mut tx = world.app.store.write().await.unwrap();
    tx.add_provider(&provider).await.unwrap();
    tx.commit().await.unwrap();
    let person = world.session_opened_through(user, Opened::Provider, Some(provider.id)).await;
    Federated { provider: provider.id, person }
}
