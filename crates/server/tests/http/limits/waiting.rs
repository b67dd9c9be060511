//! How much waits, and for how long: queues, locks, places, and what strangers begin.
#![allow(clippy::disallowed_methods, reason = "how long somebody waits takes a clock")]

use std::{
    net::SocketAddr,
    pin::pin,
    time::{Duration, Instant},
};

use portcullis_domain::{accounts::Role, audit::Origin};
use portcullis_store::Database;
use reqwest::{Method, Response, StatusCode, header};
use sqlx::{Connection, Executor, PgConnection, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{assert_still_works, raw, status_of, within};
use crate::{
    federation::{Hostile, typed},
    mfa::{authenticator::Authenticator, tab::Tab},
    support::{FORM, Program, World, client_from, header_of, oauth_error, on_both},
};

on_both! {
    protocol43_nobody_waits_for_the_database_for_ever
}

/// Keeps everybody else from writing, as a stuck program beside the server would.
pub(crate) enum Held {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl Held {
    pub(crate) async fn on(database: &Database) -> Self {
        match database {
            Database::Sqlite(path) => {
                let options = SqliteConnectOptions::new().filename(path);
                let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
                connection.execute("BEGIN IMMEDIATE").await.unwrap();
                Self::Sqlite(connection)
            }
            Database::Postgres(url) => {
                let mut connection = PgConnection::connect(url).await.unwrap();
                connection.execute("BEGIN").await.unwrap();
                // The locks of the acts and of the tokens.
                for lock in [0x5043_4c01_i64, 0x5043_4c02] {
                    let ask = sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(lock);
                    ask.execute(&mut connection).await.unwrap();
                }
                Self::Postgres(connection)
            }
        }
    }

    pub(crate) async fn release(mut self) {
        match &mut self {
            Self::Sqlite(connection) => connection.execute("ROLLBACK").await.map(drop).unwrap(),
            Self::Postgres(connection) => connection.execute("ROLLBACK").await.map(drop).unwrap(),
        }
    }
}

/// Waits for an answer that says to come again, which comes when the wait of 5 s is over (on PostgreSQL, which
/// ends it itself, a little sooner): not before it, and not a second time as late.
async fn put_off(asking: impl Future<Output = Response>) {
    let since = Instant::now();
    let answer = asking.await;
    let waited = since.elapsed();
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_ne!(header_of(&answer, "retry-after"), "");
    assert!((Duration::from_secs(3)..Duration::from_secs(9)).contains(&waited), "{waited:?}");
}

async fn protocol43_nobody_waits_for_the_database_for_ever(world: World) {
    let maria = world.maria().await;
    let paulo = world.person("paulo@acme.example", Role::SuperAdmin).await;
    let program = maria.generate().await;
    let held = Held::on(&world.database).await;
    // Nobody lets go meanwhile: each answer comes because the server gives up. The token is asked for alone:
    // behind an act that waits it would have to wait for that as well.
    put_off(program.ask()).await;
    // The second act waits for the turn of the first.
    let generate = async {
        let request = paulo.request(Method::POST, "/api/v1/users/me/credential/generate");
        request.send().await.unwrap()
    };
    tokio::join!(put_off(maria.revoke()), put_off(generate));
    held.release().await;
    assert_eq!(program.ask().await.status(), StatusCode::OK, "nothing was revoked");
    assert_eq!(maria.revoke().await.status(), StatusCode::OK);
    assert_still_works(&world).await;
}

/// Sends `count` requests at once over HTTP/2, each made from its number. Does `meanwhile` when all have been
/// sent, and gives their statuses and what that gave.
async fn at_once<T>(
    world: &World,
    count: usize,
    request: impl Fn(usize) -> (axum::http::Request<()>, &'static str),
    meanwhile: impl Future<Output = T>,
) -> (Vec<u16>, T) {
    let mut answers = JoinSet::new();
    let mut client = None;
    for n in 0..count {
        if n % 64 == 0 {
            let stream = TcpStream::connect(world.address).await.unwrap();
            let (handle, connection) = h2::client::handshake(stream).await.unwrap();
            tokio::spawn(connection);
            client = Some(handle);
        }
        let mut handle = client.take().unwrap().ready().await.unwrap();
        let (request, body) = request(n);
        let (answer, mut sending) = handle.send_request(request, false).unwrap();
        sending.send_data(bytes::Bytes::from_static(body.as_bytes()), true).unwrap();
        answers.spawn(async move { answer.await.unwrap().status().as_u16() });
        client = Some(handle);
    }
    let done = meanwhile.await;
    (answers.join_all().await, done)
}

fn post(world: &World, path: &str, user: &str, word: &str) -> axum::http::request::Builder {
    let pair = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, format!("{user}:{word}"));
    axum::http::Request::post(format!("{}{path}", world.url))
        .header("content-type", FORM)
        .header("authorization", format!("Basic {pair}"))
}

/// Lets go of the database, which is held `since` then, when a look at something else of the server has been
/// answered again and again: what was sent before has come in by then. Gives how many transactions may have
/// been given up meanwhile, with all that shared them: one after the other, each after 5 s, and the one that
/// waited at the end.
async fn soon(world: &World, held: Held, since: Instant) -> usize {
    for _ in 0..20 {
        let answer = world.stranger().request(Method::GET, "/health/live").send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        sleep(Duration::from_millis(50)).await;
    }
    held.release().await;
    usize::try_from(since.elapsed().as_secs() / 5 + 1).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn protocol43_4096_token_requests_wait_and_more_are_told_to_come_again() {
    let world = World::sqlite(&[("request_timeout_seconds", "120")]).await;
    let program = world.maria().await.generate().await;
    let (since, held) = (Instant::now(), Held::on(&world.database).await);
    let count = 4096 + 64 + 256;
    let ask = |_| {
        let request = post(&world, "/oauth/token", &program.client_id, &program.client_secret);
        (request.body(()).unwrap(), "grant_type=client_credentials")
    };
    let (statuses, given_up) = at_once(&world, count, ask, soon(&world, held, since)).await;
    let busy = statuses.iter().filter(|status| **status == 503).count();
    let issued = statuses.iter().filter(|status| **status == 200).count();
    assert_eq!(busy + issued, count, "{statuses:?}");
    assert!(busy >= 256, "what is beyond the queue: {busy}");
    assert!(issued > 0 && issued + 64 * given_up >= 4096, "who waited got a token: {issued}, {given_up}");
    assert_still_works(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn protocol43_2048_refusals_wait_to_be_recorded_and_more_are_told_to_come_again() {
    let world = World::sqlite(&[("request_timeout_seconds", "120"), ("trusted_proxies", "127.0.0.0/8")]).await;
    let (since, held) = (Instant::now(), Held::on(&world.database).await);
    // 256 are being written; each comes from an address of its own, or it would be 429.
    let count = 2048 + 256 + 256;
    let ask = |n: usize| {
        let request = post(&world, "/oauth/introspect", "nobody", "wrong");
        let address = format!("203.0.{}.{}", n / 256, n % 256);
        (request.header("x-forwarded-for", address).body(()).unwrap(), "token=x")
    };
    let (statuses, given_up) = at_once(&world, count, ask, soon(&world, held, since)).await;
    let busy = statuses.iter().filter(|status| **status == 503).count();
    let refused = statuses.iter().filter(|status| **status == 401).count();
    assert_eq!(busy + refused, count, "{statuses:?}");
    assert!(busy >= 256, "what is beyond the queue: {busy}");
    assert!(refused > 0 && refused + 256 * given_up >= 2048, "who waited got the answer: {refused}, {given_up}");
    assert_still_works(&world).await;
}

/// A connection that comes from this address.
pub(super) async fn connect_from(world: &World, ip: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(ip.parse().unwrap(), 0)).unwrap();
    socket.connect(world.address).await.unwrap()
}

/// Asks on a connection that stays open, and gives the status when the answer is there.
async fn ask_on(stream: &mut TcpStream) -> u16 {
    stream.write_all(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer: Vec<u8> = Vec::new();
    // It has no body.
    while !answer.ends_with(b"\r\n\r\n") {
        assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "the server closed it");
    }
    status_of(&String::from_utf8_lossy(&answer))
}

#[tokio::test]
async fn protocol43_while_all_places_are_taken_the_next_connection_waits_until_one_is_free() {
    let world = World::sqlite(&[("max_connections", "4"), ("header_timeout_seconds", "120")]).await;
    let mut held = Vec::new();
    for ip in ["127.0.8.1", "127.0.8.1", "127.0.8.2", "127.0.8.2"] {
        let mut stream = connect_from(&world, ip).await;
        assert_eq!(ask_on(&mut stream).await, 200);
        held.push(stream);
    }
    let mut next = connect_from(&world, "127.0.8.3").await;
    let mut waiting = pin!(ask_on(&mut next));
    assert!(timeout(Duration::from_secs(1), &mut waiting).await.is_err(), "it has no place");
    assert_eq!(ask_on(&mut held[0]).await, 200, "who has one is served");
    drop(held.pop());
    assert_eq!(within(20, "a place is free again", waiting).await, 200);
}

#[tokio::test]
async fn protocol43_one_address_gets_half_of_the_connections() {
    let world = World::sqlite(&[("max_connections", "8"), ("header_timeout_seconds", "120")]).await;
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(connect_from(&world, "127.0.7.1").await);
    }
    for _ in 0..20 {
        // The server takes them in order, and closes them.
        let mut more = connect_from(&world, "127.0.7.1").await;
        let _ = more.write_all(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let mut nothing = Vec::new();
        let _ = within(20, "it is closed at once", more.read_to_end(&mut nothing)).await;
        assert!(nothing.is_empty());
    }
    assert_still_works(&world).await;
    held.pop();
    let (client, ready) = (client_from("127.0.7.1"), format!("{}/health/ready", world.url));
    let again = async {
        while client.get(&ready).send().await.is_err() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    within(20, "its place comes back", again).await;
}

#[tokio::test]
async fn protocol43_a_body_that_nobody_wants_is_not_read_for_ever() {
    let world = World::sqlite(&[("request_timeout_seconds", "2"), ("header_timeout_seconds", "1")]).await;
    for path in ["/nothing", "/health/live", "/oauth/token"] {
        let (mut reader, mut writer) = TcpStream::connect(world.address).await.unwrap().into_split();
        let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
        writer.write_all(head.as_bytes()).await.unwrap();
        let reading = tokio::spawn(async move {
            let mut answer = Vec::new();
            let _ = reader.read_to_end(&mut answer).await;
            String::from_utf8_lossy(&answer).into_owned()
        });
        let chunk = format!("{:x}\r\n{}\r\n", 4096, "x".repeat(4096));
        // It ends because the server closes: at the latest, after four seconds, since nothing else is asked for
        // on this connection. By default that would be fifty.
        let sending = async { while writer.write_all(chunk.as_bytes()).await.is_ok() {} };
        within(15, "it is closed", sending).await;
        let answer = reading.await.unwrap();
        // The answer may be lost when the connection is reset.
        assert!(answer.is_empty() || (400..500).contains(&status_of(&answer)), "{path}: {answer}");
    }
    assert_still_works(&world).await;
}

#[tokio::test]
async fn protocol43_more_than_64_parameters_are_refused() {
    let world = World::sqlite(&[]).await;
    let program = world.maria().await.generate().await;
    let body = |count: usize| {
        let more = (1..count).map(|n| format!("&p{n}=")).collect::<String>();
        format!("grant_type=client_credentials{more}")
    };
    let ask = |body: String| {
        world.stranger().token(&body).basic_auth(&program.client_id, Some(&program.client_secret)).send()
    };
    assert_eq!(ask(body(64)).await.unwrap().status(), StatusCode::OK);
    let said = oauth_error(ask(body(65)).await.unwrap(), 400, "invalid_request").await;
    assert!(said.contains("too many parameters"), "{said}");
}

#[tokio::test]
async fn protocol43_the_longest_url_is_a_page_that_is_not_there_and_a_longer_one_is_refused() {
    let world = World::sqlite(&[]).await;
    let ask = |length: usize| {
        let head = format!("GET /{} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "x".repeat(length));
        let world = &world;
        async move { status_of(&raw(world, head.as_bytes()).await) }
    };
    assert_eq!(ask(60 * 1024).await, 404);
    assert!([414, 431].contains(&ask(66 * 1024).await));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn protocol18_120_failures_of_one_address_are_answered_in_a_minute_and_20_of_one_client() {
    let world = World::sqlite(&[]).await;
    let program = world.maria().await.generate().await;
    let made_up = |n: usize| {
        let (client_id, client_secret) = (format!("pcc_{n:020}"), "wrong".to_owned());
        Program { client_id, client_secret, ..program.clone() }
    };
    let refused = async |client: &Program, status: u16| {
        let answer = client.ask().await;
        assert_eq!(header_of(&answer, "retry-after"), if status == 429 { "60" } else { "" });
        oauth_error(answer, status, "invalid_client").await;
    };
    for n in 1..=120 {
        refused(&made_up(n), 401).await;
    }
    refused(&made_up(121), 429).await;
    assert_eq!(program.ask().await.status(), StatusCode::OK, "what is right is never counted");
    let elsewhere = Program { client: client_from("127.0.7.3"), ..made_up(1) };
    for _ in 0..20 {
        refused(&elsewhere, 401).await;
    }
    refused(&elsewhere, 429).await;
    world.pass(jiff::SignedDuration::from_secs(3));
    refused(&elsewhere, 401).await;
    refused(&elsewhere, 429).await;
    world.pass(jiff::SignedDuration::from_secs(57));
    refused(&made_up(121), 401).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn protocol43_a_stranger_begins_sixty_things_and_then_one_a_second() {
    let world = World::sqlite(&[("public_url", "http://localhost:{port}")]).await;
    let ask = || async {
        let request = world.stranger().request(Method::GET, "/sign-in/passkey");
        request.header(header::HOST, format!("localhost:{}", world.address.port())).send().await.unwrap().status()
    };
    for _ in 0..60 {
        assert_eq!(ask().await, StatusCode::OK);
    }
    assert_eq!(ask().await, StatusCode::TOO_MANY_REQUESTS);
    world.pass(jiff::SignedDuration::from_secs(1));
    assert_eq!((ask().await, ask().await), (StatusCode::OK, StatusCode::TOO_MANY_REQUESTS));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn protocol43_the_21st_provider_and_the_21st_passkey_are_refused() {
    let world = World::sqlite(&[("public_url", "http://localhost:{port}")]).await;
    let maria = world.maria().await;
    let hostile = Hostile::start(&world.clock).await;
    for n in 0..21 {
        let id = world.clock.id().to_string();
        let issuer = format!("{}/{n}", hostile.url());
        let mut form = typed(&hostile, &id);
        form.iter_mut().filter(|(name, _)| *name == "issuer").for_each(|(_, value)| *value = &issuer);
        let answer = maria.post("/providers/new", &form).await;
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        if n < 20 {
            assert_eq!(status, StatusCode::SEE_OTHER, "{text}");
        } else {
            assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
            assert!(text.contains("There are 20 providers already"), "{text}");
        }
    }
    let mut tab = Tab::of(&world, &maria);
    let mut key = Authenticator::new(&world);
    tab.add_passkey(&mut key, "Laptop").await;
    let user = world.user_of("maria@acme.example").await.id.0.simple().to_string();
    // Nineteen more like it, beside the server.
    for n in 1..20 {
        world
            .sql(&format!(
                "INSERT INTO passkeys (id, user_id, credential_id, name, passkey, made_at) \
             SELECT randomblob(16), user_id, randomblob(32), name || {n}, passkey, made_at FROM passkeys \
             WHERE user_id = x'{user}' LIMIT 1"
            ))
            .await;
    }
    let page = tab.get("/account/mfa/passkey").await;
    assert_eq!(page.to, "/account?done=mfa-many", "{}", page.text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn protocol43_of_many_wishes_for_a_password_at_once_64_are_answered() {
    let world = World::sqlite(&[("trusted_proxies", "127.0.0.0/8"), ("request_timeout_seconds", "120")]).await;
    let (since, held) = (Instant::now(), Held::on(&world.database).await);
    let count = 64 + 32;
    let ask = |n: usize| {
        let request = axum::http::Request::post(format!("{}/forgot-password", world.url));
        let request = request.header("content-type", FORM).header("x-forwarded-for", format!("203.0.113.{n}"));
        (request.body(()).unwrap(), "email=maria%40acme.example")
    };
    let (statuses, _) = at_once(&world, count, ask, soon(&world, held, since)).await;
    let taken = statuses.iter().filter(|status| **status == 303).count();
    let busy = statuses.iter().filter(|status| **status == 503).count();
    assert_eq!(taken + busy, count, "{statuses:?}");
    assert!(taken >= 64 && busy > 0, "{taken} were taken");
    assert_still_works(&world).await;
}

/// Somebody at each of so many addresses begins something.
fn begun_from_20_000(world: &World, address: impl Fn(usize) -> String) {
    for n in 0..20_000 {
        assert!(world.app.refusals.may_begin(&Origin::new(address(n), "")), "{n}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn protocol43_made_up_addresses_share_what_one_has() {
    let world =
        World::sqlite(&[("public_url", "http://localhost:{port}"), ("trusted_proxies", "127.0.0.0/8")]).await;
    let from = |n: usize| {
        let request = world.stranger().request(Method::GET, "/sign-in/passkey");
        request.header("x-forwarded-for", format!("2001:db8:{:x}:{:x}::1", n >> 16, n & 0xffff)).send()
    };
    begun_from_20_000(&world, |n| format!("10.{}.{}.{}", n >> 16, (n >> 8) & 255, n & 255));
    for n in 0..60 {
        assert_eq!(from(n).await.unwrap().status(), StatusCode::OK);
    }
    assert_eq!(from(60).await.unwrap().status(), StatusCode::TOO_MANY_REQUESTS);
    world.pass(jiff::SignedDuration::from_mins(2));
    for n in 61..150 {
        assert_eq!(from(n).await.unwrap().status(), StatusCode::OK, "there is room again");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn protocol43_beyond_40_000_addresses_all_others_share_what_one_has() {
    let world =
        World::sqlite(&[("public_url", "http://localhost:{port}"), ("trusted_proxies", "127.0.0.0/8")]).await;
    let from = async |address: String| {
        let request = world.stranger().request(Method::GET, "/sign-in/passkey");
        request.header("x-forwarded-for", address).send().await.unwrap().status()
    };
    begun_from_20_000(&world, |n| format!("10.{}.{}.{}", n >> 16, (n >> 8) & 255, n & 255));
    // Each of these is of a /32 of its own.
    begun_from_20_000(&world, |n| format!("2001:{n:x}::1"));
    for n in 0..60 {
        assert_eq!(from(format!("2002:{n:x}::1")).await, StatusCode::OK);
    }
    assert_eq!(from("2003::1".to_owned()).await, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(from("198.51.100.7".to_owned()).await, StatusCode::TOO_MANY_REQUESTS);
    world.pass(jiff::SignedDuration::from_mins(2));
    assert_eq!(from("2003::1".to_owned()).await, StatusCode::OK, "there is room again");
}
