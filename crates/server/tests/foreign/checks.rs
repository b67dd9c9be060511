//! What every gateway is asked, in both ways.

use std::time::{Duration, Instant, SystemTime};

use reqwest::{RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};

use crate::{forge, gateway::Gateway, house::House, support::json as json_of};

/// What a gateway can tell; the book says what it cannot.
pub struct Can {
    /// Another type of JWT from an access token, if it has the same claims.
    pub type_of_token: bool,
    /// The answer to a token of the server's that is for something else, if not 401.
    pub unsuitable: StatusCode,
    /// The answer to a good token when the server cannot be asked about it.
    pub unasked: StatusCode,
    /// The same when the keys that the gateway has are too old and cannot be fetched again. None: it
    /// keeps them for longer than a test waits.
    pub without_keys: Option<StatusCode>,
}

async fn ask(gateway: &Gateway, token: &str) -> Response {
    gateway.client.get(&gateway.url).bearer_auth(token).send().await.unwrap()
}

/// A good token gets through, and the backend learns whose it is from the gateway alone.
async fn a_good_token_is_let_through(house: &House, gateway: &Gateway, token: &str) {
    let seen = json_of(passed(ask(gateway, token).await)).await["headers"].clone();
    let client = json!([house.program.client_id]);
    assert_eq!((&seen["token-client"], &seen["token-scope"]), (&client, &json!(["orders:read orders:write"])));
    assert_eq!(seen["authorization"], Value::Null, "the token goes no further");

    let forged = gateway.client.post(&gateway.url).bearer_auth(token).body("one order");
    let forged = ["Token-Client", "token-client", "Token_Client", "Token-Scope", "Token_Scope"]
        .into_iter()
        .fold(forged, |request, name| request.header(name, "pcc_somebody_else"));
    let seen = json_of(passed(forged.send().await.unwrap())).await;
    assert!(!seen.to_string().contains("somebody_else"), "{seen}");
    assert_eq!((&seen["headers"]["token-client"], &seen["body"]), (&client, &"one order".into()));
}

/// A proxy drops what `Connection` names (RFC 9110, section 7.6.1): it must not drop what it has set itself, nor
/// tell the next one to.
async fn nobody_takes_the_names_away(house: &House, gateway: &Gateway, token: &str) {
    for named in [
        &["Token-Client, Token-Scope"][..],
        &["close, token-client,TOKEN-SCOPE"],
        &["keep-alive", "Token-Client", "Token_Client;x,Token-Scope"],
    ] {
        let request = gateway.client.get(&gateway.url).bearer_auth(token);
        let request = named.iter().fold(request, |request, value| request.header("connection", *value));
        let seen = json_of(passed(request.send().await.unwrap())).await["headers"].clone();
        let expected = (&json!([house.program.client_id]), &json!(["orders:read orders:write"]));
        assert_eq!((&seen["token-client"], &seen["token-scope"]), expected, "{named:?}");
        assert!(!seen["connection"].to_string().to_lowercase().contains("token"), "{named:?}: {seen}");
    }
}

fn passed(response: Response) -> Response {
    assert_eq!(response.status(), StatusCode::OK);
    response
}

/// Refused with a challenge, and nothing of it reached the backend.
async fn refused(house: &House, request: RequestBuilder, expected: &[StatusCode], what: &str) {
    let before = house.backend.hits();
    let response = request.send().await.unwrap();
    let status = response.status();
    assert!(expected.contains(&status), "{what}: {status}");
    if status == StatusCode::UNAUTHORIZED {
        let challenge = response.headers()["www-authenticate"].to_str().unwrap().to_owned();
        assert!(challenge.starts_with("Bearer"), "{what}: {challenge}");
    }
    assert_eq!(house.backend.hits(), before, "{what}");
}

/// Requests that bring no token, or bring it in another way than one header.
async fn what_is_no_token_is_refused(house: &House, gateway: &Gateway, good: &str) {
    let get = || gateway.client.get(&gateway.url);
    let basic = get().basic_auth(&house.program.client_id, Some(&house.program.client_secret));
    let in_query = gateway.client.get(format!("{}&access_token={good}", gateway.url));
    let in_body = gateway.client.post(&gateway.url).form(&[("access_token", good)]);
    let said = get().header("Token-Client", &house.program.client_id).header("Token-Scope", "orders:read");
    for (request, what) in [
        (get(), "nothing"),
        (said, "its word alone"),
        (basic, "the secret itself"),
        (in_query, "in the query"),
        (in_body, "in the body"),
        (get().header("cookie", format!("access_token={good}; Authorization={good}")), "in a cookie"),
        (get().bearer_auth("x"), "garbage"),
        (get().bearer_auth("eyJhbGciOiJub25lIn0.e30."), "an empty one"),
        (get().bearer_auth("a.b.c"), "three parts of garbage"),
        (get().bearer_auth("a".repeat(6000)), "long garbage"),
        (get().bearer_auth(&good[..good.len() - 1]), "cut short"),
        (get().bearer_auth(good.rsplit_once('.').unwrap().0), "without its signature"),
    ] {
        refused(house, request, &[StatusCode::UNAUTHORIZED], what).await;
    }
}

/// Tokens that nobody issued.
async fn forged(house: &House, good: &str) -> Vec<(&'static str, String)> {
    let now = seconds();
    let ended = forge::changed(good, json!({ "exp": now - 5, "iat": now - 60 }));
    let mut all = vec![
        ("the algorithm none", forge::resigned(good, &header("none"), |_| Vec::new())),
        ("the algorithm nOnE", forge::resigned(good, &header("nOnE"), |_| Vec::new())),
        ("a signature of zeros", forge::resigned(good, &header("ES256"), |_| vec![0; 64])),
        ("another algorithm", forge::resigned(good, &header("RS256"), |_| vec![1; 256])),
        ("changed claims", with_other_claims(good)),
        ("a changed signature", with_another_signature(good)),
        ("ended", forge::signed(house, good, "at+jwt", &ended).await),
    ];
    all.extend(
        forge::with_the_public_key(house, good).await.into_iter().map(|t| ("HS256 with the public key", t)),
    );
    all
}

/// What the server's own key has signed, for something else.
async fn unsuitable(house: &House, good: &str, can: &Can) -> Vec<(&'static str, String)> {
    let mut all = vec![
        ("for another API", house.token_for(&format!("{}/api/v1", house.url), "").await),
        ("an answer about it", signed_answer(house, good).await),
    ];
    for (what, changes) in [
        ("another issuer", json!({ "iss": "https://access.acme.example" })),
        ("another audience", json!({ "aud": "https://orders.acme.example.evil" })),
        ("no audience", json!({ "aud": null })),
        ("no issuer", json!({ "iss": null })),
        ("no client", json!({ "client_id": null })),
        ("bound to a key", json!({ "cnf": { "jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I" } })),
    ] {
        all.push((what, forge::signed(house, good, "at+jwt", &forge::changed(good, changes)).await));
    }
    if can.type_of_token {
        let same = forge::changed(good, json!({}));
        all.push(("another type", forge::signed(house, good, "token-introspection+jwt", &same).await));
    }
    all
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

fn header(algorithm: &str) -> Value {
    json!({ "alg": algorithm, "typ": "at+jwt" })
}

fn with_other_claims(token: &str) -> String {
    let parts: Vec<&str> = token.split('.').collect();
    // Another byte in the middle of the claims; what it decodes to is not the point.
    let at = parts[1].len() / 2;
    let other = if parts[1].as_bytes()[at] == b'A' { "B" } else { "A" };
    format!("{}.{}{other}{}.{}", parts[0], &parts[1][..at], &parts[1][at + 1..], parts[2])
}

fn with_another_signature(token: &str) -> String {
    let at = token.len() - 40;
    let other = if token.as_bytes()[at] == b'A' { "B" } else { "A" };
    format!("{}{other}{}", &token[..at], &token[at + 1..])
}

/// What the server signs about the token, for the same audience (RFC 9701): no token either.
async fn signed_answer(house: &House, token: &str) -> String {
    let orders = &house.orders;
    let request = orders.client.post(format!("{}/oauth/introspect", house.url));
    let request = request.basic_auth(&orders.client_id, Some(&orders.client_secret)).form(&[("token", token)]);
    request.header("accept", "application/token-introspection+jwt").send().await.unwrap().text().await.unwrap()
}

async fn everything_bad_is_refused(house: &House, gateway: &Gateway, can: &Can) {
    let good = house.token("").await;
    let with = |token: &str| gateway.client.get(&gateway.url).bearer_auth(token);
    a_good_token_is_let_through(house, gateway, &good).await;
    nobody_takes_the_names_away(house, gateway, &good).await;
    what_is_no_token_is_refused(house, gateway, &good).await;
    for (what, token) in forged(house, &good).await {
        refused(house, with(&token), &[StatusCode::UNAUTHORIZED], what).await;
    }
    for (what, token) in unsuitable(house, &good, can).await {
        refused(house, with(&token), &[StatusCode::UNAUTHORIZED, can.unsuitable], what).await;
    }
    let weak = house.token("orders:write").await;
    refused(house, with(&weak), &[StatusCode::FORBIDDEN], "without the scope").await;
    for (request, what) in [
        (with(&good).bearer_auth("x"), "two headers"),
        (
            gateway.client.get(&gateway.url).header("authorization", format!("Bearer {good}, Bearer {good}")),
            "a list",
        ),
    ] {
        let before = house.backend.hits();
        let status = request.send().await.unwrap().status();
        assert!(status.is_client_error() && house.backend.hits() == before, "{what}: {status}");
    }
    a_good_token_is_let_through(house, gateway, &good).await;
}

/// The keys count for a second: the recipe is told so.
pub async fn offline(house: &mut House, gateway: &Gateway, can: &Can) {
    everything_bad_is_refused(house, gateway, can).await;
    // One of yesterday that has not ended; and one that ends while the gateway knows it.
    let now = seconds();
    let good = house.token("").await;
    let old = forge::changed(&good, json!({ "iat": now - 86_000, "exp": now + 400 }));
    passed(ask(gateway, &forge::signed(house, &good, "at+jwt", &old).await).await);
    let short = forge::changed(&good, json!({ "exp": now + 3 }));
    let short = forge::signed(house, &good, "at+jwt", &short).await;
    passed(ask(gateway, &short).await);
    let begun = Instant::now();
    while ask(gateway, &short).await.status() == StatusCode::OK {
        assert!(begun.elapsed() < Duration::from_secs(4), "it has ended");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // And when the keys are too old.
    passed(ask(gateway, &good).await);
    drop(house.world.take());
    let Some(expected) = can.without_keys else { return };
    tokio::time::sleep(Duration::from_millis(2500)).await;
    for _ in 0..3 {
        assert_eq!(ask(gateway, &good).await.status(), expected);
    }
}

pub async fn introspection(house: &mut House, gateway: &Gateway, can: &Can) {
    everything_bad_is_refused(house, gateway, can).await;
    let (one, other) = (house.token("").await, house.token("").await);
    passed(ask(gateway, &one).await);
    passed(ask(gateway, &other).await);
    let revoked = house.program.oauth("revoke", &[("token", &one)]).await;
    assert_eq!(revoked.status(), StatusCode::OK);
    let with = |token: &str| gateway.client.get(&gateway.url).bearer_auth(token);
    refused(house, with(&one), &[StatusCode::UNAUTHORIZED], "revoked, from the acknowledgement on").await;
    passed(ask(gateway, &other).await);
    assert_eq!(house.maria.revoke().await.status(), StatusCode::OK);
    refused(house, with(&other), &[StatusCode::UNAUTHORIZED], "its credential revoked").await;
    // And when nobody answers, nobody comes in.
    drop(house.world.take());
    tokio::time::sleep(Duration::from_millis(200)).await;
    let before = house.backend.hits();
    assert_eq!(ask(gateway, &other).await.status(), can.unasked);
    assert_eq!(house.backend.hits(), before);
}
