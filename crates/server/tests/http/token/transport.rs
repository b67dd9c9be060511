//! What carries the requests: TLS, cross-origin rules, cookies, the log.

use std::{
    io::Write,
    sync::{Arc, Mutex},
};

use portcullis_domain::accounts::Role;
use reqwest::{
    Client, Method, Response, StatusCode,
    header::{self, HeaderMap, HeaderValue},
};

use super::{GRANT, basic, in_body};
use crate::support::{
    FORM, PASSWORD, Person, Program, Stranger, World, cookie_of, header_of, json, on_both, on_sqlite,
};

on_both! {
    protocol16_no_endpoint_sets_a_cookie
}

on_sqlite! {
    protocol16_cors_is_off_by_default
}

const ENDPOINTS: [(&str, &str); 7] = [
    ("POST", "/oauth/token"),
    ("POST", "/oauth/introspect"),
    ("POST", "/oauth/revoke"),
    ("GET", "/.well-known/oauth-authorization-server"),
    ("GET", "/.well-known/openid-configuration"),
    ("GET", "/.well-known/oauth-protected-resource/api/v1"),
    ("GET", "/.well-known/jwks.json"),
];

/// A client that says, as a proxy would, how the request came.
fn through_proxy(proto: &'static str) -> Client {
    let mut headers = HeaderMap::new();
    headers.insert("x-forwarded-proto", HeaderValue::from_static(proto));
    Client::builder().redirect(reqwest::redirect::Policy::none()).default_headers(headers).build().unwrap()
}

async fn program_through_proxy(world: &World) -> Program {
    world.user("maria@acme.example", Role::SuperAdmin).await;
    let client = through_proxy("https");
    let stranger = Stranger { client: client.clone(), url: world.url.clone() };
    let body = serde_json::json!({ "email": "maria@acme.example", "password": PASSWORD });
    let response = stranger.request(Method::POST, "/api/v1/session").json(&body).send().await.unwrap();
    let maria = Person { cookie: cookie_of(&response).unwrap(), client: client.clone(), url: world.url.clone() };
    Program { client, ..maria.generate().await }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn protocol15_where_tls_is_required_plain_http_is_refused_and_never_redirected() {
    let settings = [("public_url", "https://id.acme.example"), ("trusted_proxies", "127.0.0.0/8")];
    let world = World::sqlite(&settings).await;
    let program = program_through_proxy(&world).await;
    let by_https = program.ask().await;
    assert_eq!(by_https.status(), StatusCode::OK);
    assert!(header_of(&by_https, "strict-transport-security").starts_with("max-age="));
    let token = json(by_https).await["access_token"].as_str().unwrap().to_owned();

    for client in [Client::new(), through_proxy("http"), through_proxy("https, http"), through_proxy("")] {
        let plain = Program { client, ..program.clone() };
        for (method, path) in ENDPOINTS.iter().chain(&[("GET", "/api/v1/me")]) {
            let request = plain.client.request(method.parse().unwrap(), format!("{}{path}", world.url));
            let request = if *path == "/api/v1/me" {
                request.bearer_auth(&token)
            } else {
                request.basic_auth(&program.client_id, Some(&program.client_secret))
            };
            let body = format!("{GRANT}&token={token}");
            let response = request.header(header::CONTENT_TYPE, FORM).body(body).send().await.unwrap();
            assert_eq!(response.status(), StatusCode::FORBIDDEN, "{path}");
            assert_eq!(header_of(&response, "location"), "");
            assert_eq!(header_of(&response, "cache-control"), "no-store");
            assert_eq!(json(response).await["code"], "https_required");
        }
    }
    assert!(program.is_active(&token).await, "the revocation that came in clear did nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn protocol15_a_stranger_cannot_claim_that_plain_http_was_tls() {
    let settings = [("public_url", "https://id.acme.example"), ("trusted_proxies", "10.0.0.0/8")];
    let world = World::sqlite(&settings).await;
    let stranger = Stranger { client: through_proxy("https"), url: world.url.clone() };
    let response = stranger.token(GRANT).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    assert_eq!(json(response).await["code"], "https_required");
}

/// One good answer of every endpoint, with an Origin header as a browser would send it.
async fn answers(world: &World, program: &Program, origin: &str) -> Vec<Response> {
    let token = program.token().await;
    let mut answers = Vec::new();
    for (method, path) in ENDPOINTS {
        let request = program.client.request(method.parse().unwrap(), format!("{}{path}", world.url));
        let request = request.basic_auth(&program.client_id, Some(&program.client_secret));
        let request = request.header(header::ORIGIN, origin).header(header::CONTENT_TYPE, FORM);
        let response = request.body(format!("{GRANT}&token={token}")).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        answers.push(response);
    }
    answers
}

async fn preflight(world: &World, origin: &str) -> Response {
    let request = world.stranger().request(Method::OPTIONS, "/oauth/token");
    let request = request.header(header::ORIGIN, origin).header("access-control-request-method", "POST");
    request.header("access-control-request-headers", "authorization").send().await.unwrap()
}

fn allows_no_origin(response: &Response) -> bool {
    ["access-control-allow-origin", "access-control-allow-credentials"]
        .iter()
        .all(|h| header_of(response, h).is_empty())
}

async fn protocol16_no_endpoint_sets_a_cookie(world: World) {
    let program = world.maria().await.generate().await;
    for response in answers(&world, &program, "https://app.example").await {
        assert_eq!(header_of(&response, "set-cookie"), "", "{}", response.url());
    }
    let refused = world.stranger().token(GRANT).send().await.unwrap();
    assert_eq!(header_of(&refused, "set-cookie"), "");
}

async fn protocol16_cors_is_off_by_default(world: World) {
    let program = world.maria().await.generate().await;
    for origin in ["https://app.example", "null", &world.url] {
        for response in answers(&world, &program, origin).await {
            assert!(allows_no_origin(&response), "{}", response.url());
        }
        let response = preflight(&world, origin).await;
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert!(allows_no_origin(&response));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn protocol16_cors_is_for_the_configured_origins_only_and_without_cookies() {
    let world = World::sqlite(&[("cors_origins", "https://app.example,http://localhost:5173")]).await;
    let program = world.maria().await.generate().await;
    for origin in ["https://app.example", "http://localhost:5173"] {
        for response in answers(&world, &program, origin).await {
            assert_eq!(header_of(&response, "access-control-allow-origin"), origin, "{}", response.url());
            assert_eq!(header_of(&response, "access-control-allow-credentials"), "");
            let vary = response.headers().get_all("vary").iter().map(|line| line.to_str().unwrap());
            assert!(vary.collect::<Vec<_>>().join(",").to_lowercase().contains("origin"));
        }
        let response = preflight(&world, origin).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(header_of(&response, "access-control-allow-origin"), origin);
        assert_eq!(header_of(&response, "access-control-allow-credentials"), "");
    }
    for origin in [
        "https://app.example.evil.example",
        "http://app.example",
        "https://app.example:8443",
        "https://evil.example",
        "null",
    ] {
        for response in answers(&world, &program, origin).await {
            assert!(allows_no_origin(&response), "{origin} {}", response.url());
        }
        assert!(allows_no_origin(&preflight(&world, origin).await), "{origin}");
    }
}

/// What the log gets, in memory.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// On one thread, so that the subscriber of this thread hears the whole server. It does not listen
/// to the test's own HTTP client, which would log the URL that it sends.
#[tokio::test(flavor = "current_thread")]
async fn protocol05_a_secret_in_the_query_string_is_not_logged_at_any_level() {
    let log = Log::default();
    // With a second subscriber about, no other test's thread can decide alone what is listened to.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter("off,portcullis=trace,portcullis_store=trace,tower_http=trace,axum=trace")
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .finish();
    let listening = tracing::subscriber::set_default(subscriber);
    let world = World::sqlite(&[]).await;
    let program = world.maria().await.generate().await;
    for path in ["token", "introspect", "revoke"] {
        let url = format!("/oauth/{path}?{}", in_body(&program));
        let request = world.stranger().request(Method::POST, &url).header(header::CONTENT_TYPE, FORM);
        assert_eq!(request.body(GRANT).send().await.unwrap().status(), StatusCode::BAD_REQUEST);
    }
    let right = basic(&program.client_id, &program.client_secret);
    let token = program.token().await;
    drop(listening);
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("/oauth/token"), "the log was listened to: {log}");
    for secret in [&program.client_secret, &right["Basic ".len()..].to_owned(), &token] {
        assert!(!log.contains(secret.as_str()), "{log}");
    }
    let audit =
        world.sign_in("maria@acme.example").await.get("/api/v1/audit?limit=200").await.text().await.unwrap();
    assert!(audit.contains("credential.generate"), "the audit log was looked at");
    assert!(!audit.contains(&program.client_secret));
}
