//! A generated corpus of good and mangled tokens: the verifier takes exactly those that introspection
//! calls active (protocol 20). `PORTCULLIS_TEST_CORPUS` says how many; `dev/agreement` asks for a million.
//!
//! Bound tokens are left out: introspection calls one active and leaves its proof to whoever asked.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use portcullis::app::{
    introspection::Asker,
    tokens::{ClientProof, Given},
};
use portcullis_domain::{accounts::Role, audit::Origin};
use portcullis_verify::{Refusal, Verifier};
use proptest::{
    prelude::*,
    sample::Index,
    test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner},
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json as own};

use super::{is_refused, said, verifier};
use crate::support::{Person, Program, World, json};

/// How many tokens when nobody says.
const FEW: u32 = 4_000;

/// What is done to a good token.
#[derive(Debug, Clone)]
enum Mangling {
    Nothing,
    Replace(Index, char),
    Insert(Index, char),
    Remove(Index),
    Truncate(Index),
    Surround(String, String),
    /// A part of another token in place of its own.
    Swap(usize, Index),
    /// A member of header or claims set to something else, or removed, under the old signature.
    Edit(bool, &'static str, Value),
    /// Bits behind the last byte of a part.
    Loosen(usize),
    Another(String),
}

fn mangling() -> impl Strategy<Value = Mangling> {
    let symbol = || prop_oneof![8 => prop::char::ranges(vec!['!'..='~'].into()), 1 => any::<char>()];
    let name = prop::sample::select(vec![
        "alg",
        "typ",
        "kid",
        "crit",
        "jwk",
        "jku",
        "iss",
        "sub",
        "client_id",
        "aud",
        "iat",
        "exp",
        "nbf",
        "jti",
        "scope",
        "status",
        "cnf",
    ]);
    let value = prop::sample::select(vec![
        Value::Null,
        own!("none"),
        own!("HS256"),
        own!("at+jwt"),
        own!("JWT"),
        own!(0),
        own!(9_999_999_999_u64),
        own!("9999999999"),
        own!([]),
        own!({ "status_list": { "idx": 0, "uri": "https://elsewhere.example/oauth/status" } }),
    ]);
    prop_oneof![
        1 => Just(Mangling::Nothing),
        4 => (any::<Index>(), symbol()).prop_map(|(at, c)| Mangling::Replace(at, c)),
        2 => (any::<Index>(), symbol()).prop_map(|(at, c)| Mangling::Insert(at, c)),
        2 => any::<Index>().prop_map(Mangling::Remove),
        1 => any::<Index>().prop_map(Mangling::Truncate),
        1 => ("[.=A-Za-z0-9_-]{0,3}", "[.=A-Za-z0-9_-]{0,3}").prop_map(|(a, b)| Mangling::Surround(a, b)),
        2 => (0..3_usize, any::<Index>()).prop_map(|(part, other)| Mangling::Swap(part, other)),
        3 => (any::<bool>(), name, value).prop_map(|(header, name, value)| Mangling::Edit(header, name, value)),
        1 => (0..3_usize).prop_map(Mangling::Loosen),
        1 => "[ -~]{0,60}".prop_map(Mangling::Another),
    ]
}

/// The character position of an index in a text.
fn place(text: &str, at: &Index) -> usize {
    at.index(text.len())
}

fn edited(part: &str, name: &str, value: &Value) -> String {
    let mut object: serde_json::Map<String, Value> =
        serde_json::from_slice(&BASE64URL.decode(part).unwrap()).unwrap();
    if value.is_null() {
        object.remove(name);
    } else {
        object.insert(name.to_owned(), value.clone());
    }
    BASE64URL.encode(Value::Object(object).to_string())
}

impl Mangling {
    /// The token, which is ASCII, as it is afterwards.
    fn of(&self, token: &str, all: &[String]) -> String {
        let mut text = token.to_owned();
        let mut parts: Vec<String> = token.split('.').map(str::to_owned).collect();
        match self {
            Self::Nothing => return text,
            Self::Replace(at, c) => {
                let at = place(token, at);
                text.replace_range(at..=at, &c.to_string());
                return text;
            }
            Self::Insert(at, c) => {
                text.insert(place(token, at), *c);
                return text;
            }
            Self::Remove(at) => {
                text.remove(place(token, at));
                return text;
            }
            Self::Truncate(at) => {
                text.truncate(place(token, at));
                return text;
            }
            Self::Surround(before, after) => return format!("{before}{token}{after}"),
            Self::Another(text) => return text.clone(),
            Self::Swap(part, other) => other.get(all).split('.').nth(*part).unwrap().clone_into(&mut parts[*part]),
            Self::Edit(header, name, value) => {
                let part = usize::from(!header);
                parts[part] = edited(&parts[part], name, value);
            }
            Self::Loosen(part) => {
                const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
                let last = parts[*part].pop().unwrap();
                parts[*part].push(char::from(ALPHABET.as_bytes()[ALPHABET.find(last).unwrap() ^ 1]));
            }
        }
        parts.join(".")
    }
}

/// An API as its verifier sees it, and as introspection does.
struct Watched {
    verifier: Verifier,
    asker: Asker,
}

async fn watched(world: &World, id: uuid::Uuid, identifier: &str) -> Watched {
    let key = world.key_of(id).await;
    let given = Given::Secret(key.client_secret.clone().into());
    let proof = ClientProof { client_id: key.client_id.clone(), given, origin: Origin::default() };
    let asker = world.app.authenticate_asker(proof).await.unwrap();
    Watched { verifier: verifier(world, identifier, Some(&key)).await, asker }
}

async fn register(maria: &Person, identifier: &str, algorithm: &str) -> uuid::Uuid {
    let api = own!({ "name": algorithm, "identifier": identifier, "algorithm": algorithm,
                     "scopes": [{ "name": "orders:read", "description": "Read orders" }] });
    let response = maria.request(Method::POST, "/api/v1/apis").json(&api).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::CREATED);
    json(response).await["id"].as_str().unwrap().parse().unwrap()
}

async fn token_for(program: &Program, resource: &str) -> String {
    let response = program.oauth("token", &[("grant_type", "client_credentials"), ("resource", resource)]).await;
    assert_eq!(response.status(), StatusCode::OK);
    json(response).await["access_token"].as_str().unwrap().to_owned()
}

/// Tokens of every algorithm in every state, and the APIs that they are for.
async fn corpus(world: &World) -> (Vec<String>, Vec<Watched>) {
    let maria = world.maria().await;
    let own = format!("{}/api/v1", world.url);
    let apis = [(portcullis_domain::apis::OWN, own)];
    let mut apis = apis.to_vec();
    for (algorithm, identifier) in [("EdDSA", "https://orders.acme.example"), ("RS256", "urn:acme:stock")] {
        apis.push((register(&maria, identifier, algorithm).await, identifier.to_owned()));
    }
    let mut all = Vec::new();
    for (id, identifier) in &apis {
        all.push(watched(world, *id, identifier).await);
    }
    let good = maria.generate().await;
    let ana = world.person("ana@acme.example", Role::SuperAdmin).await;
    let paulo = world.person("paulo@acme.example", Role::SuperAdmin).await;
    let (revoked, suspended) = (ana.generate().await, paulo.generate().await);
    let mut tokens = Vec::new();
    for ((_, identifier), watched) in apis.iter().zip(&all) {
        let single = token_for(&good, identifier).await;
        assert_eq!(good.oauth("revoke", &[("token", &single)]).await.status(), StatusCode::OK);
        is_refused(&watched.verifier, &single, Refusal::Revoked).await;
        tokens.extend([single, token_for(&revoked, identifier).await, token_for(&suspended, identifier).await]);
        for _ in 0..3 {
            tokens.push(token_for(&good, identifier).await);
        }
    }
    assert_eq!(ana.revoke().await.status(), StatusCode::OK);
    let paulo = world.user_of("paulo@acme.example").await.id;
    assert_eq!(maria.post(&format!("/users/{paulo}/deactivate"), &[]).await.status(), StatusCode::SEE_OTHER);
    for (n, watched) in all.iter().enumerate() {
        is_refused(&watched.verifier, &tokens[n * 6 + 1], Refusal::Revoked).await;
        is_refused(&watched.verifier, &tokens[n * 6 + 2], Refusal::Suspended).await;
    }
    (tokens, all)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn protocol20_a_verifier_takes_exactly_what_introspection_calls_active() {
    let cases = std::env::var("PORTCULLIS_TEST_CORPUS").map_or(FEW, |text| text.parse().unwrap());
    let world = World::sqlite_of_now(&[]).await;
    let (tokens, watched) = corpus(&world).await;
    let config = Config { cases, max_global_rejects: 0, failure_persistence: None, ..Config::default() };
    // The same corpus each time: what fails once fails again.
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let strategy = (any::<Index>(), any::<Index>(), mangling());
    let (mut good, handle) = (std::cell::Cell::new(0_u32), tokio::runtime::Handle::current());
    let ran = tokio::task::block_in_place(|| {
        let ran = runner.run(&strategy, |(token, api, mangling)| {
            let text = mangling.of(&tokens[token.index(tokens.len())], &tokens);
            let at = api.get(watched.as_slice());
            let (said, active) = handle.block_on(async {
                let introspected =
                    async { world.app.introspect(&at.asker, world.app.look_up(&text).await?).await };
                (said(&at.verifier, &text).await, introspected.await)
            });
            let active = active.map_err(|e| TestCaseError::fail(e.to_string()))?.is_some();
            if active {
                good.set(good.get() + 1);
            }
            prop_assert_eq!(said.is_ok(), active, "{:?}: {}", said, text);
            Ok(())
        });
        ran.map_err(|failed| failed.to_string())
    });
    ran.unwrap();
    assert!(*good.get_mut() > cases / 200, "enough of them were good: {}", good.get());
}
