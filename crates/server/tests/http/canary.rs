//! L-2, protocol 42: the real program, with everything it can log turned on, never writes a
//! secret down: not on its outputs, not in its database.

use std::io::{Read, Write};

use reqwest::{Client, Method, RequestBuilder, StatusCode, redirect};
use serde_json::{Value, json};

use crate::support::{FORM, cookie_of, process::Process};

const PASSWORD: &str = "canary lantern walnut orbit";
const WRONG: &str = "canary-wrong-password-4711";
const TYPED_AS_EMAIL: &str = "canary-password-in-the-email-field";
const WRONG_SECRET: &str = "pcs_CanaryWrongSecretCanaryWrongSecretCanaryWro_000000";
const NEW_PASSWORD: &str = "canary violet harbor mosaic";

struct Driven {
    client: Client,
    url: String,
}

impl Driven {
    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url))
    }
}

/// Sends bytes as they are, and reads what comes until the server closes.
fn raw(process: &Process, bytes: &[u8]) -> String {
    let mut stream = std::net::TcpStream::connect(process.address).unwrap();
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

struct Canaries {
    set_up: String,
    all: Vec<(&'static str, String)>,
}

async fn set_up_and_sign_in(process: &Process, driven: &Driven) -> (Canaries, String) {
    let output = process.output();
    let set_up = output.split("/setup/").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    let wrong = driven.request(Method::POST, "/setup/canary-wrong-token");
    wrong.form(&[("email", "x@y.z"), ("name", "x"), ("password", PASSWORD)]).send().await.unwrap();
    let path = format!("/setup/{set_up}");
    let short = [("email", "maria@acme.example"), ("name", ""), ("password", "canary-short")];
    driven.request(Method::POST, &path).form(&short).send().await.unwrap();
    let good = [("email", "maria@acme.example"), ("name", "Maria"), ("password", PASSWORD)];
    let made = driven.request(Method::POST, &path).form(&good).send().await.unwrap();
    assert_eq!(made.status(), StatusCode::SEE_OTHER);
    for (email, password) in
        [("maria@acme.example", WRONG), (TYPED_AS_EMAIL, WRONG), ("canary-address@acme.example", WRONG)]
    {
        driven
            .request(Method::POST, "/sign-in")
            .form(&[("email", email), ("password", password)])
            .send()
            .await
            .unwrap();
        let body = json!({ "email": email, "password": password });
        driven.request(Method::POST, "/api/v1/session").json(&body).send().await.unwrap();
    }
    let form = [("email", "maria@acme.example"), ("password", PASSWORD)];
    let signed = driven.request(Method::POST, "/sign-in").form(&form).send().await.unwrap();
    assert_eq!(signed.status(), StatusCode::SEE_OTHER);
    let cookie = cookie_of(&signed).unwrap();
    let master = std::fs::read_to_string(process.data("master.key")).unwrap();
    let master = master.lines().find(|l| !l.starts_with('#')).unwrap().to_owned();
    let all = vec![
        ("password", PASSWORD.to_owned()),
        ("password in a form", PASSWORD.replace(' ', "+")),
        ("new password", NEW_PASSWORD.to_owned()),
        ("refused password", "canary-short".to_owned()),
        ("wrong password", WRONG.to_owned()),
        ("password as e-mail", TYPED_AS_EMAIL.to_owned()),
        ("wrong secret", WRONG_SECRET.to_owned()),
        ("wrong set-up token", "canary-wrong-token".to_owned()),
        ("session", cookie.split_once('=').unwrap().1.to_owned()),
        ("master key", master),
        ("anything else", "canary".to_owned()),
    ];
    (Canaries { set_up, all }, cookie)
}

async fn use_tokens(driven: &Driven, made: &Value) -> String {
    let (id, secret) = (made["client_id"].as_str().unwrap(), made["client_secret"].as_str().unwrap());
    let grant = [("grant_type", "client_credentials")];
    let token = driven.request(Method::POST, "/oauth/token").basic_auth(id, Some(secret)).form(&grant);
    let token: Value = token.send().await.unwrap().json().await.unwrap();
    let token = token["access_token"].as_str().unwrap().to_owned();
    for endpoint in ["introspect", "revoke", "token"] {
        let path = format!("/oauth/{endpoint}");
        let form = [("token", token.as_str()), ("client_id", id), ("client_secret", secret)];
        driven.request(Method::POST, &path).form(&form).send().await.unwrap();
        let wrong = driven.request(Method::POST, &path).basic_auth(id, Some(WRONG_SECRET)).form(&grant);
        assert_eq!(wrong.send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
        // The secret where the id belongs, in the query, in the body of a GET, in a JSON body.
        driven.request(Method::POST, &path).basic_auth(secret, Some(id)).form(&grant).send().await.unwrap();
        let query = format!("{path}?client_id={id}&client_secret={secret}&token={token}&access_token={token}");
        for method in [Method::GET, Method::POST] {
            driven.request(method, &query).form(&grant).send().await.unwrap();
        }
        driven.request(Method::POST, &path).json(&json!({ "client_secret": secret })).send().await.unwrap();
    }
    for path in ["/api/v1/me", "/api/v1/users", "/api/v1/audit", "/account", "/nothing"] {
        driven.request(Method::GET, path).bearer_auth(&token).send().await.unwrap();
        driven.request(Method::GET, &format!("{path}?access_token={token}")).send().await.unwrap();
        driven.request(Method::GET, &format!("{path}/{secret}")).send().await.unwrap();
        let mut cut = token.clone();
        cut.pop();
        driven.request(Method::GET, path).bearer_auth(cut).send().await.unwrap();
    }
    token
}

/// Binds keys, right and wrong, and uses one: private keys, assertions and proofs are canaries.
async fn use_keys(driven: &Driven, cookie: &str, made: &Value) -> Vec<(&'static str, String)> {
    use crate::client_keys::{GRANT, Key, assert_at};
    let (id, secret) = (made["client_id"].as_str().unwrap(), made["client_secret"].as_str().unwrap());
    let key = Key::p256(1);
    let mut private = key.members();
    private["d"] = json!("CanaryPrivateCanaryPrivateCanaryPrivateCana");
    let pem = "-----BEGIN PRIVATE KEY-----\nCanaryPrivate\n-----END PRIVATE KEY-----";
    for text in [private.to_string(), pem.to_owned(), format!("CanaryPrivate{pem}")] {
        let form = [("client_id", id), ("key", text.as_str()), ("password", WRONG)];
        let request = driven.request(Method::POST, "/account/credentials/key").header("cookie", cookie);
        assert_eq!(request.form(&form).send().await.unwrap().status(), StatusCode::UNPROCESSABLE_ENTITY);
        let request = driven.request(Method::POST, "/oauth/bind-key").basic_auth(id, Some(secret));
        let form = [("jwk", text.as_str()), ("proof", "CanaryPrivate")];
        assert_eq!(request.form(&form).send().await.unwrap().status(), StatusCode::BAD_REQUEST);
    }
    let now = portcullis::clock::Clock::system().now().as_second();
    let assertion = |jti: &str| {
        let claims = json!({ "iss": id, "sub": id, "aud": driven.url, "exp": now + 60, "jti": jti });
        key.sign(&json!({ "alg": "ES256" }), &claims)
    };
    let (proof, assertion) = (assertion("CanaryJti-1"), assertion("CanaryJti-2"));
    let request = driven.request(Method::POST, "/oauth/bind-key").basic_auth(id, Some(secret));
    let form = [("jwk", key.jwk()), ("proof", proof.clone())];
    assert_eq!(request.form(&form).send().await.unwrap().status(), StatusCode::OK);
    let header = json!({ "alg": "ES256", "typ": "dpop+jwt", "jwk": key.members() });
    let claims =
        json!({ "htm": "POST", "htu": format!("{}/oauth/token", driven.url), "iat": now, "jti": "CanaryJti-3" });
    let dpop = key.sign(&header, &claims);
    for header in [dpop.as_str(), "CanaryProof"] {
        let request = driven.request(Method::POST, "/oauth/token").basic_auth(id, Some(secret));
        request.header("DPoP", header).form(&[GRANT]).send().await.unwrap();
        let request = driven.request(Method::GET, "/api/v1/me").header("DPoP", header);
        request.header("authorization", "DPoP CanaryToken").send().await.unwrap();
    }
    for endpoint in ["token", "token", "introspect", "revoke"] {
        assert_at(&driven.url, endpoint, &assertion, &[GRANT, ("token", "x")]).await;
        assert_at(&driven.url, endpoint, "CanaryAssertion", &[GRANT]).await;
    }
    let signature = |jws: &str| jws.rsplit('.').next().unwrap().to_owned();
    vec![
        ("proof to bind with", signature(&proof)),
        ("assertion", signature(&assertion)),
        ("DPoP proof", signature(&dpop)),
        ("private key", "CanaryPrivate".to_owned()),
        ("id of an assertion or a proof", "CanaryJti".to_owned()),
        ("what is none", "CanaryProof".to_owned()),
        ("what is no assertion", "CanaryAssertion".to_owned()),
        ("what is no token", "CanaryToken".to_owned()),
    ]
}

async fn send_nonsense(process: &Process, driven: &Driven, secret: &str, cookie: &str) {
    for body in [
        format!("\"{WRONG}\""),
        format!("{{\"email\":1,\"password\":\"{WRONG}\"}}"),
        format!("{{\"email\":\"a@b\",\"password\":[\"{WRONG}\"]}}"),
        format!("{{\"email\":\"a@b\",\"password\":\"{WRONG}\",\"{WRONG}\":1}}"),
        format!("{{\"password\":\"{WRONG}"),
    ] {
        let request = driven.request(Method::POST, "/api/v1/session").header("content-type", "application/json");
        assert!(request.body(body).send().await.unwrap().status().is_client_error());
    }
    for body in [format!("password={WRONG}&password={WRONG}"), format!("email=a%40b&password={WRONG}%ff%00")] {
        for path in ["/sign-in", "/setup/canary-wrong-token", "/oauth/token"] {
            driven
                .request(Method::POST, path)
                .header("content-type", FORM)
                .body(body.clone())
                .send()
                .await
                .unwrap();
        }
    }
    for line in [
        format!("Authorization: Basic {WRONG_SECRET}\u{1}"),
        format!("Authorization: Basic %%%{secret}"),
        format!("Authorization: Bearer\t{secret}"),
        format!("Authorization: Bearer {secret}\r\nAuthorization: Bearer {secret}"),
        format!("Cookie: {cookie}; {cookie}"),
        format!("Cookie: {cookie}\u{0}"),
        secret.to_owned(),
        format!("X-{secret} {secret}: x"),
        format!("Content-Length: {secret}"),
        format!("User-Agent: x\r\nHost: {secret}"),
    ] {
        for target in ["GET /api/v1/me", "POST /oauth/token", "GET /account"] {
            let head = format!("{target} HTTP/1.1\r\nHost: x\r\n{line}\r\n\r\n");
            raw(process, head.as_bytes());
        }
    }
    raw(process, format!("{secret}\r\n\r\n").as_bytes());
    raw(process, format!("GET /{secret} {secret}/1.1\r\n\r\n").as_bytes());
    raw(
        process,
        format!("POST /oauth/token HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\n{secret}").as_bytes(),
    );
    raw(process, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\ncanary-in-a-frame-that-is-none");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l2_no_secret_is_in_the_log_or_the_database_whatever_is_sent() {
    let mut process = Process::new(&["log=trace", "log_format=json"]);
    process.start();
    let client = Client::builder().redirect(redirect::Policy::none()).user_agent("driver/1").build().unwrap();
    let driven = Driven { client, url: process.url() };
    let (mut canaries, cookie) = set_up_and_sign_in(&process, &driven).await;
    let as_maria = |method, path: &str| driven.request(method, path).header("cookie", &cookie);
    let made = as_maria(Method::POST, "/api/v1/users/me/credential/generate").send().await.unwrap();
    assert_eq!(made.status(), StatusCode::CREATED);
    let made: Value = made.json().await.unwrap();
    let token = use_tokens(&driven, &made).await;
    let secret = made["client_secret"].as_str().unwrap().to_owned();
    send_nonsense(&process, &driven, &secret, &cookie).await;
    canaries.all.extend(use_keys(&driven, &cookie, &made).await);
    as_maria(Method::POST, "/api/v1/users/me/credential/revoke").send().await.unwrap();
    let page = as_maria(Method::POST, "/account/credentials/generate").form(&[("password", WRONG)]).send().await;
    let page = page.unwrap().text().await.unwrap();
    let second = page.find("pcs_").map(|at| page[at..].split('<').next().unwrap().to_owned()).unwrap();
    for (present, new) in [(PASSWORD, "canary-short"), (WRONG, NEW_PASSWORD), (PASSWORD, NEW_PASSWORD)] {
        let form = [("present_password", present), ("new_password", new)];
        as_maria(Method::POST, "/account/password").form(&form).send().await.unwrap();
    }
    canaries.all.extend([("secret", secret), ("second secret", second)]);
    let signature = token.rsplit('.').next().unwrap().to_owned();
    canaries.all.extend([("token", token), ("signature of the token", signature)]);
    assert_eq!(process.terminate(), Some(0));

    let (output, errors) = (process.output(), process.errors());
    assert!(errors.lines().count() > 50, "everything was logged: {errors}");
    let line = errors.lines().find(|l| l.contains(&canaries.set_up));
    assert!(line.is_none(), "L-2: the set-up token is in the log: {}", line.unwrap_or_default());
    assert_eq!(output.matches(&canaries.set_up).count(), 1, "the set-up link is told once, on standard output");
    let mut at_rest = std::fs::read(process.data("portcullis.db")).unwrap();
    at_rest.extend(std::fs::read(process.data("portcullis.db-wal")).unwrap_or_default());
    let at_rest = String::from_utf8_lossy(&at_rest);
    assert!(at_rest.contains(made["client_id"].as_str().unwrap()), "the search finds what is there");
    assert!(!at_rest.contains(&canaries.set_up));
    for (what, canary) in &canaries.all {
        let line = output.lines().find(|l| l.contains(canary.as_str()));
        assert!(line.is_none(), "L-2: {what} is in the log: {}", line.unwrap_or_default());
        assert!(!at_rest.contains(canary.as_str()), "L-2: {what} is in the database");
    }
    for line in errors.lines() {
        assert!(serde_json::from_str::<Value>(line).is_ok(), "protocol 42: one record, one line of JSON: {line}");
    }
}
