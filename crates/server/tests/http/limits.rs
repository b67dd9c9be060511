//! Protocol 43: what is too large, too deep, too slow or no HTTP at all is answered early and
//! clearly, and the server works on.

mod book;
mod http2;
mod memory;
pub(crate) mod waiting;

use std::time::Duration;

use portcullis_domain::{accounts::Role, audit::Origin};
use reqwest::{Method, StatusCode, header};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

use crate::support::{FORM, PASSWORD, World, client_from, json, on_both};

on_both! {
    protocol43_a_body_over_64_kib_is_refused_at_every_door
    protocol43_nul_and_bad_utf8_in_every_field_is_a_clear_refusal
    protocol43_deep_and_broken_json_is_a_clear_refusal
}

const MARIA: &str = "maria@acme.example";

/// Sends bytes and reads until the server closes the connection.
async fn raw(world: &World, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// Waits for what a deadline brings about. `seconds` is what the settings of the test make of it and what a
/// busy machine adds, and less than the defaults make of it: a setting that is not looked at fails.
pub(crate) async fn within<T>(seconds: u64, what: &str, waiting: impl Future<Output = T>) -> T {
    let came = timeout(Duration::from_secs(seconds), waiting).await;
    came.unwrap_or_else(|_| panic!("not within {seconds} s: {what}"))
}

/// As [`raw`], where the server closes at a deadline of 1 s and not at one of 10 s.
async fn closed_in_time(world: &World, bytes: &[u8]) -> String {
    within(8, &format!("it is closed: {}", bytes.escape_ascii()), raw(world, bytes)).await
}

fn status_of(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0)
}

async fn assert_still_works(world: &World) {
    let answer = world.stranger().request(Method::GET, "/health/ready").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
}

async fn protocol43_a_body_over_64_kib_is_refused_at_every_door(world: World) {
    let maria = world.maria().await;
    for path in ["/sign-in", "/account/profile", "/account/credentials/revoke", "/oauth/token", "/oauth/revoke"] {
        let body = format!("email=a&grant_type=client_credentials&client_id={}", "x".repeat(64 * 1024));
        let request = maria.request(Method::POST, path).header(header::CONTENT_TYPE, FORM);
        let answer = request.body(body).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE, "{path}");
        assert!(!answer.text().await.unwrap().is_empty(), "{path} says what is wrong");
    }
    let large = serde_json::json!({ "email": MARIA, "password": "x".repeat(64 * 1024) });
    let answer = world.stranger().request(Method::POST, "/api/v1/session").json(&large).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
    // Without a length the same is found out while reading.
    let chunk = format!("{:x}\r\n{}\r\n", 16 * 1024, "x".repeat(16 * 1024));
    for (path, kind) in [("/sign-in", FORM), ("/api/v1/session", "application/json"), ("/oauth/token", FORM)] {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: {kind}\r\n\
             Transfer-Encoding: chunked\r\n\r\n"
        );
        let answer = raw(&world, format!("{head}{}0\r\n\r\n", chunk.repeat(5)).as_bytes()).await;
        assert_eq!(status_of(&answer), 413, "{path}: {answer}");
    }
    let fits = format!("email={MARIA}&password={}", "x".repeat(60 * 1024));
    let request = world.stranger().request(Method::POST, "/sign-in").header(header::CONTENT_TYPE, FORM);
    assert_eq!(request.body(fits).send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    assert_still_works(&world).await;
}

async fn protocol43_nul_and_bad_utf8_in_every_field_is_a_clear_refusal(world: World) {
    let maria = world.maria().await;
    let fields = [
        ("/sign-in", &["email", "password", "next"][..]),
        ("/account/profile", &["name", "language", "time_zone"]),
        ("/account/password", &["present_password", "new_password"]),
        ("/account/credentials/revoke", &["client_id"]),
        ("/oauth/token", &["grant_type", "client_id", "client_secret", "scope", "resource"]),
        ("/oauth/introspect", &["client_id", "client_secret", "token"]),
        ("/oauth/revoke", &["client_id", "client_secret", "token"]),
    ];
    for (path, names) in fields {
        for hostile in names.iter() {
            for bytes in ["%00", "a%00b", "%ff%fe", "%ed%a0%80", "%", "%f0%28%8c%28"] {
                let pairs = names.iter().map(|n| match n {
                    n if n == hostile => format!("{n}={bytes}"),
                    &"grant_type" => "grant_type=client_credentials".to_owned(),
                    n => format!("{n}=x@y.z"),
                });
                let body = pairs.collect::<Vec<_>>().join("&");
                let request = maria.request(Method::POST, path).header(header::CONTENT_TYPE, FORM);
                let answer = request.body(body.clone()).send().await.unwrap();
                assert!(answer.status().is_client_error(), "{path} {body}: {}", answer.status());
            }
        }
    }
    for path in [
        "/api/v1/users?search=%00",
        "/api/v1/users?search=%ff",
        "/api/v1/audit?actor=%00&subject=%00",
        "/audit?actor=%00&subject=a%00&event=",
        "/account/credentials?revoked=%00",
        "/sign-in?next=%00&done=%00",
    ] {
        let answer = maria.get(path).await;
        assert!(!answer.status().is_server_error(), "{path}: {}", answer.status());
    }
    for path in ["/api/v1/users/%00", "/api/v1/users/%ff/credential", "/assets/%00", "/%00", "/audit?event=%00"] {
        let answer = maria.get(path).await;
        assert!(answer.status().is_client_error(), "{path}: {}", answer.status());
    }
    for line in
        [&b"User-Agent: \xff\xfe"[..], b"Cookie: \xff", b"Authorization: Basic \xff", b"X-Forwarded-For: \xff"]
    {
        let mut bytes = b"POST /oauth/token HTTP/1.1\r\nHost: x\r\nConnection: close\r\n".to_vec();
        bytes.extend_from_slice(line);
        bytes.extend_from_slice(
            b"\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 29\r\n\r\n",
        );
        bytes.extend_from_slice(b"grant_type=client_credentials");
        let answer = raw(&world, &bytes).await;
        assert!((400..500).contains(&status_of(&answer)), "{answer}");
    }
    let basic = world.stranger().token("grant_type=client_credentials").basic_auth("a\0b", Some("\0"));
    assert_eq!(basic.send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    assert_eq!(maria.get("/audit").await.status(), StatusCode::OK, "the log can still be read");
    world.log_is_whole().await;
}

async fn protocol43_deep_and_broken_json_is_a_clear_refusal(world: World) {
    let deep = format!("{}1{}", "[".repeat(30_000), "]".repeat(30_000));
    let objects = format!("{}1{}", "{\"email\":".repeat(6000), "}".repeat(6000));
    for body in [
        deep,
        objects,
        "{".to_owned(),
        "null".to_owned(),
        "[]".to_owned(),
        "{\"email\":\"a@b.c\",\"email\":\"a@b.c\",\"password\":\"x\"}".to_owned(),
        "{\"email\":\"a@b.c\",\"password\":\"x\",\"admin\":true}".to_owned(),
        "{\"email\":[\"a@b.c\",\"d@e.f\"],\"password\":\"x\"}".to_owned(),
        "{\"email\":\"\\ud800\",\"password\":\"x\"}".to_owned(),
        String::new(),
    ] {
        let request = world.stranger().request(Method::POST, "/api/v1/session");
        let request = request.header(header::CONTENT_TYPE, "application/json").body(body.clone());
        let answer = request.send().await.unwrap();
        assert!(answer.status().is_client_error(), "{body:.60}: {}", answer.status());
        assert_eq!(answer.headers()[header::CONTENT_TYPE], "application/problem+json", "{body:.60}");
        assert!(answer.text().await.unwrap().contains("OpenAPI document describes it"), "{body:.60}");
    }
    let nul = serde_json::json!({ "email": "a\0@b.c", "password": "x\0" });
    let answer = world.stranger().request(Method::POST, "/api/v1/session").json(&nul).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert_still_works(&world).await;
}

#[tokio::test]
async fn protocol43_too_many_or_too_large_headers_are_431_and_early() {
    let world = World::sqlite(&[]).await;
    let large = format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(100 * 1024));
    assert_eq!(status_of(&raw(&world, large.as_bytes()).await), 431);
    for (others, expected) in [(98, 200), (99, 431), (200, 431)] {
        let others = "X-A: 1\r\n".repeat(others);
        let many = format!("GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{others}\r\n");
        assert_eq!(status_of(&raw(&world, many.as_bytes()).await), expected, "with the two: {}", others.len() / 8);
    }
    let endless = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(100 * 1024));
    let answer = raw(&world, endless.as_bytes()).await;
    assert!([414, 431].contains(&status_of(&answer)), "{answer}");
    for nonsense in
        [&b"\0\0\0\0\r\n\r\n"[..], b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET /\xff HTTP/1.1\r\n\r\n"]
    {
        let answer = raw(&world, nonsense).await;
        assert!(answer.is_empty() || status_of(&answer) == 400, "{answer}");
    }
    let smuggled = "POST /sign-in HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n\
                    0\r\n\r\nGET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let answer = raw(&world, smuggled.as_bytes()).await;
    assert!(!answer.contains("HTTP/1.1 200"), "no second request is read out of a body: {answer}");
    for lengths in
        ["Content-Length: 1\r\nContent-Length: 2", "Content-Length: -1", "Content-Length: 99999999999999999999"]
    {
        let answer =
            raw(&world, format!("POST /sign-in HTTP/1.1\r\nHost: x\r\n{lengths}\r\n\r\n").as_bytes()).await;
        assert!(answer.is_empty() || [400, 413].contains(&status_of(&answer)), "{lengths}: {answer}");
    }
    let old = raw(&world, b"GET /health/live HTTP/1.0\r\n\r\n").await;
    assert!(old.starts_with("HTTP/1.0 200") || old.starts_with("HTTP/1.1 200"), "HTTP/1.0 is served: {old}");
    assert_still_works(&world).await;
}

#[tokio::test]
async fn protocol43_slow_heads_and_slow_bodies_are_closed_at_their_deadline() {
    let world = World::sqlite(&[("header_timeout_seconds", "1"), ("request_timeout_seconds", "1")]).await;
    // Nothing at all, half a head, and a body that never comes: each read ends because the server
    // ends it.
    for nothing in [&b""[..], b"PRI * HT"] {
        assert_eq!(status_of(&closed_in_time(&world, nothing).await), 0);
    }
    for half in [&b"GET / HT"[..], b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "] {
        assert!([0, 408].contains(&status_of(&closed_in_time(&world, half).await)));
    }
    // A later head has as long, with the idle time before it.
    for later in ["", "GET / HT"] {
        let first = format!("GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n{later}");
        let answer = closed_in_time(&world, first.as_bytes()).await;
        assert_eq!(status_of(&answer), 200, "{answer}");
    }
    for (path, kind) in [("/sign-in", FORM), ("/api/v1/session", "application/json"), ("/oauth/token", FORM)] {
        let head =
            format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: 100\r\n\r\nhalf");
        let answer = closed_in_time(&world, head.as_bytes()).await;
        assert_eq!(status_of(&answer), 408, "{path}: {answer}");
        let form = match path {
            "/sign-in" => "<!doctype html>",
            "/oauth/token" => "{\"error\":\"invalid_request\"",
            _ => "{\"type\":\"about:blank\"",
        };
        assert!(answer.contains(form), "in the form of its door: {path}: {answer}");
    }
    assert_still_works(&world).await;
}

#[tokio::test]
async fn protocol43_who_does_not_read_the_answers_loses_the_place() {
    let world = World::sqlite(&[("max_connections", "1"), ("request_timeout_seconds", "1")]).await;
    let mut greedy = TcpStream::connect(world.address).await.unwrap();
    let ask = b"GET /assets/console.css HTTP/1.1\r\nHost: x\r\n\r\n".repeat(2000);
    // The rest may not be taken any more; then the place is free already.
    let _ = timeout(Duration::from_millis(500), greedy.write_all(&ask)).await;
    // It is the only one, and by default it would be kept for thirty seconds.
    within(15, "the place comes back", assert_still_works(&world)).await;
    drop(greedy);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn protocol43_an_http2_client_that_reads_nothing_loses_the_place() {
    let world = World::sqlite(&[("request_timeout_seconds", "1"), ("header_timeout_seconds", "1")]).await;
    let stream = TcpStream::connect(world.address).await.unwrap();
    // No byte of a body may be sent to it.
    let (mut client, connection) =
        h2::client::Builder::new().initial_window_size(0).handshake::<_, bytes::Bytes>(stream).await.unwrap();
    let mut pings = None;
    let closed = {
        let mut connection = connection;
        pings.replace(connection.ping_pong().unwrap());
        tokio::spawn(connection)
    };
    let mut unread = Vec::new();
    for _ in 0..50 {
        client = client.ready().await.unwrap();
        let request = axum::http::Request::get(format!("{}/assets/console.css", world.url)).body(()).unwrap();
        let (answer, _) = client.send_request(request, true).unwrap();
        unread.push(answer.await.unwrap());
    }
    assert_eq!(unread[0].status(), 200);
    // It answers and sends pings for as long as there is somebody to hear them.
    let mut pings = pings.unwrap();
    let pinging = async {
        while pings.ping(h2::Ping::opaque()).await.is_ok() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    // Whether it is used is looked at every two seconds. By default that would be every forty.
    within(15, "the connection is closed", pinging).await;
    let _ = closed.await.unwrap();
    assert_still_works(&world).await;
}

#[tokio::test]
async fn protocol43_idle_connections_do_not_stop_others() {
    // More of them than there are places: the places come back at the deadline. Half of them come from
    // one address and half from another, or the first could not take them all.
    let world = World::sqlite(&[("max_connections", "50"), ("header_timeout_seconds", "1")]).await;
    let mut idle = Vec::new();
    for i in 0..300 {
        let mut stream = waiting::connect_from(&world, ["127.0.7.1", "127.0.7.2"][i % 2]).await;
        if i % 3 == 0 {
            // Who has too many is closed at once, and may see it here.
            let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ").await;
        }
        idle.push(stream);
    }
    // They are accepted in order, at least fifty in each second. By default that would be in each ten.
    within(20, "the places come back", assert_still_works(&world)).await;
    let maria = world.maria().await;
    let program = maria.generate().await;
    for _ in 0..10 {
        assert_eq!(program.ask().await.status(), StatusCode::OK);
    }
    assert_eq!(maria.get("/").await.status(), StatusCode::OK);
    drop(idle);
    assert_still_works(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_sign_ins_is_told_to_wait_and_leaves_tokens_alone() {
    let world = World::sqlite(&[("request_timeout_seconds", "120")]).await;
    let maria = world.maria().await;
    world.user("paulo@acme.example", Role::User).await;
    let program = maria.generate().await;
    // One for each two cores. While they are taken no check ends, so it is certain how many wait.
    let here = Origin::new("127.0.0.1".to_owned(), "");
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let mut turns = Vec::new();
    for _ in 0..(cores / 2).max(1) {
        let turn = within(20, "there is a turn", world.app.passwords.turn(&here)).await;
        turns.push(turn.unwrap());
    }
    let more = timeout(Duration::from_millis(300), world.app.passwords.turn(&here)).await;
    assert!(more.is_err(), "no more at once");
    let (mut flood, stranger) = (tokio::task::JoinSet::new(), world.stranger());
    for i in 0..200 {
        let body = serde_json::json!({ "email": format!("user{i}@acme.example"), "password": PASSWORD });
        let request = stranger.request(Method::POST, "/api/v1/session").json(&body);
        flood.spawn(async move {
            let answer = request.send().await.unwrap();
            (answer.status(), answer.headers().contains_key(header::RETRY_AFTER))
        });
    }
    let told = async {
        for _ in 0..192 {
            let busy = (StatusCode::SERVICE_UNAVAILABLE, true);
            assert_eq!(flood.join_next().await.unwrap().unwrap(), busy, "503 says when to come back");
        }
    };
    within(60, "all but eight are told to come again", told).await;
    for _ in 0..20 {
        assert_eq!(program.ask().await.status(), StatusCode::OK);
        assert_eq!(maria.get("/").await.status(), StatusCode::OK);
    }
    // Somebody elsewhere signs in meanwhile: one network does not take all the places.
    let elsewhere = client_from("127.0.1.2").post(format!("{}/api/v1/session", world.url));
    let body = serde_json::json!({ "email": "paulo@acme.example", "password": PASSWORD });
    let (elsewhere, ()) = tokio::join!(elsewhere.json(&body).send(), async {
        sleep(Duration::from_millis(300)).await;
        drop(turns);
    });
    assert_eq!(elsewhere.unwrap().status(), StatusCode::CREATED);
    let waited = flood.join_all().await;
    assert_eq!(waited, [(StatusCode::UNAUTHORIZED, false); 8], "who waited is answered");
    assert_eq!(world.sign_in("paulo@acme.example").await.get("/").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn protocol43_of_all_networks_together_64_wait_for_a_password_check_and_more_are_told_to_come_again() {
    let world = World::sqlite(&[]).await;
    let place = |n: usize| world.app.passwords.place(&Origin::new(format!("203.0.{n}.7"), "")).ok();
    let places: Vec<_> = (0..256).map_while(place).collect();
    assert_eq!(places.len(), 64);
    let sign_in = async || {
        let body = serde_json::json!({ "email": MARIA, "password": PASSWORD });
        world.stranger().request(Method::POST, "/api/v1/session").json(&body).send().await.unwrap()
    };
    let busy = sign_in().await;
    assert_eq!(busy.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(busy.headers().contains_key(header::RETRY_AFTER));
    drop(places);
    assert_eq!(sign_in().await.status(), StatusCode::UNAUTHORIZED);
}

/// In a flood that is what most are told, so it costs next to nothing.
#[tokio::test]
async fn who_has_no_place_for_a_password_check_is_told_so_without_the_database() {
    let world = World::sqlite(&[]).await;
    let code = async || {
        let body = serde_json::json!({ "email": MARIA, "password": PASSWORD });
        let answer = world.stranger().request(Method::POST, "/api/v1/session").json(&body).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        json(answer).await["code"].clone()
    };
    let origin = Origin::new("127.0.0.1".to_owned(), "");
    let places: Vec<_> = std::iter::from_fn(|| world.app.passwords.place(&origin).ok()).collect();
    assert_eq!(places.len(), 8);
    world.app.store.close().await;
    assert_eq!(code().await, "busy");
    drop(places);
    assert_eq!(code().await, "unavailable");
}

/// L-2, protocol 34: whatever a handler panics with stays in the server, and the answer has the headers
/// of every answer.
#[tokio::test]
async fn protocol42_a_panic_is_answered_and_tells_nothing() {
    use tower::ServiceExt;
    let world = World::sqlite(&[]).await;
    async fn panics() -> StatusCode {
        panic!("pcs_secret")
    }
    let router = axum::Router::new().route("/panics", axum::routing::get(panics));
    let around = portcullis::around::Around::new(std::sync::Arc::clone(&world.app), router, Default::default());
    for path in ["/panics", "/elsewhere"] {
        let request = axum::http::Request::get(path).body(axum::body::Body::empty()).unwrap();
        let response = around.clone().oneshot(request).await.unwrap();
        let expected = if path == "/panics" { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::NOT_FOUND };
        assert_eq!(response.status(), expected);
        for name in ["content-security-policy", "x-content-type-options", "referrer-policy", "cache-control"] {
            assert!(response.headers().contains_key(name), "{path}: {name}");
        }
        let body = axum::body::to_bytes(response.into_body(), 64 * 1024).await.unwrap();
        assert!(!String::from_utf8_lossy(&body).contains("pcs_secret"));
    }
    assert_still_works(&world).await;
}
