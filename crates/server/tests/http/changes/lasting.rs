//! How long a stream lasts: as long as its key, its API, the truth and the server, and no limit of
//! requests cuts it.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::SignedDuration;
use reqwest::{Method, StatusCode};
use tokio::{net::TcpStream, time::timeout};

use super::{SOON, ask, follow, manage, owner};
use crate::{
    apis::{Orders, key_of, registered},
    support::{Program, World, header_of, oauth_error, on_both, on_sqlite},
};

on_sqlite! {
    followers_have_places_and_no_more
    streams_end_when_the_server_stops
}

on_both! {
    c11_a_stream_ends_with_its_key_and_with_its_api
    c11_what_cannot_be_read_is_not_told_and_the_stream_ends
    c11_a_change_on_any_node_is_told_within_100_ms
}

async fn c11_a_stream_ends_with_its_key_and_with_its_api(world: World) {
    let node = world.another_node().await;
    let maria = world.maria().await;
    let begun = async |key: &Program| {
        let mut feed = follow(key, None).await;
        feed.until_hello().await;
        feed
    };
    let orders = registered(&maria, &Orders::default()).await;
    let first = key_of(&maria, &orders, "").await;
    let of_first = begun(&first.at(&node)).await;
    let second = key_of(&maria, &orders, "hour").await;
    let mut of_second = begun(&second).await;
    world.pass(SignedDuration::from_hours(1));
    of_first.ends(Duration::from_secs(6)).await;
    of_second.kept_alive().await;
    let maria = world.sign_in("maria@acme.example").await;
    let path = format!("/api/v1/apis/{orders}/keys/{}/remove", second.client_id);
    assert!(maria.request(Method::POST, &path).send().await.unwrap().status().is_success());
    of_second.ends(Duration::from_secs(6)).await;
    let third = key_of(&maria, &orders, "").await;
    let of_third = begun(&third.at(&node)).await;
    let path = format!("/api/v1/apis/{orders}/remove");
    assert!(maria.request(Method::POST, &path).send().await.unwrap().status().is_success());
    of_third.ends(Duration::from_secs(6)).await;
    oauth_error(ask(&third, None).await, 401, "invalid_client").await;
}

async fn c11_what_cannot_be_read_is_not_told_and_the_stream_ends(world: World) {
    let node = world.another_node().await;
    let maria = owner(&world, "maria@acme.example").await;
    let key = world.watcher().await;
    let mut feed = follow(&key, None).await;
    let (_, id) = feed.until_hello().await;
    feed.kept_alive().await;
    // The key can still be read; what happened can not.
    world.sql("ALTER TABLE audit_head RENAME TO out_of_reach").await;
    assert_eq!(feed.ends(Duration::from_secs(12)).await, 0, "nothing says that all is well");
    let refused = ask(&key, Some(&id.to_string())).await;
    assert!(header_of(&refused, "retry-after").parse::<u32>().unwrap() > 0);
    oauth_error(refused, 503, "temporarily_unavailable").await;
    world.sql("ALTER TABLE out_of_reach RENAME TO audit_head").await;
    let mut feed = follow(&key, Some(id)).await;
    assert_eq!(feed.until_hello().await, (Vec::new(), id));
    // The key can not be read either.
    world.app.store.close().await;
    assert_eq!(feed.ends(Duration::from_secs(12)).await, 0);
    oauth_error(ask(&key, None).await, 503, "temporarily_unavailable").await;
    assert_eq!(maria.person.at(&node).revoke().await.status(), StatusCode::OK);
    let (told, _) = follow(&key.at(&node), Some(id)).await.until_hello().await;
    assert_eq!(told[0].data["state"], "revoked", "the other node tells what happened meanwhile");
}

async fn followers_have_places_and_no_more(_: World) {
    // All come from one address, which has half of the connections unless it is a proxy's.
    let world = World::sqlite(&[("max_connections", "20"), ("trusted_proxies", "127.0.0.1/32")]).await;
    let key = world.watcher().await;
    let mut all = Vec::new();
    for _ in 0..10 {
        let mut feed = follow(&key, None).await;
        feed.until_hello().await;
        all.push(feed);
    }
    let full = ask(&key, None).await;
    assert!(header_of(&full, "retry-after").parse::<u32>().unwrap() > 0);
    oauth_error(full, 503, "temporarily_unavailable").await;
    assert!(key.oauth("introspect", &[("token", "x")]).await.status().is_success(), "others are served");
    drop(all.pop());
    let again = async {
        while ask(&key, None).await.status() != StatusCode::OK {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(SOON, again).await.expect("who goes makes room");
    let maria = owner(&world, "maria@acme.example").await;
    assert_eq!(maria.person.revoke().await.status(), StatusCode::OK);
    for feed in &mut all {
        assert_eq!(feed.next().await.unwrap().data["state"], "active");
        assert_eq!(feed.next().await.unwrap().data["state"], "revoked");
    }
}

async fn streams_end_when_the_server_stops(world: World) {
    let key = world.watcher().await;
    let node = world.another_node().await;
    let mut feed = follow(&key.at(&node), None).await;
    feed.until_hello().await;
    let mut stays = follow(&key, None).await;
    stays.until_hello().await;
    let stream = TcpStream::connect(node.address).await.unwrap();
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    let serving = tokio::spawn(connection);
    let (answer, _) = client.send_request(over_http2(&node, &key), true).unwrap();
    let mut body = answer.await.unwrap().into_body();
    assert!(body.data().await.unwrap().unwrap().starts_with(b"event: hello"));
    let app = std::sync::Arc::clone(&node.app);
    drop(node);
    feed.ends(Duration::from_secs(2)).await;
    let rest = timeout(SOON, body.data()).await.unwrap().map(Result::unwrap);
    assert!(rest.is_none_or(|last| last.is_empty()) && body.is_end_stream(), "over HTTP/2 too, and in order");
    timeout(SOON, serving).await.unwrap().unwrap().unwrap();
    let late = app.follow(key_on_record(&app, &key).await.into(), None, ()).await;
    assert!(late.is_err(), "who is still on the way in is not kept");
    stays.kept_alive().await;
}

async fn key_on_record(app: &portcullis::app::App, key: &Program) -> portcullis_store::PresentedKey {
    app.store.read().await.unwrap().presented_key(&key.client_id).await.unwrap().unwrap()
}

/// Of what an HTTP/2 client asks for a stream with.
fn over_http2(world: &World, key: &Program) -> axum::http::Request<()> {
    let basic = BASE64_STANDARD.encode(format!("{}:{}", key.client_id, key.client_secret));
    axum::http::Request::get(format!("{}/oauth/revocations", world.url))
        .header("authorization", format!("Basic {basic}"))
        .body(())
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn protocol43_the_limits_of_requests_do_not_cut_a_stream() {
    let world = World::sqlite(&[("request_timeout_seconds", "1"), ("header_timeout_seconds", "1")]).await;
    let maria = owner(&world, "maria@acme.example").await;
    let joao = owner(&world, "joao@acme.example").await;
    let key = world.watcher().await;
    let mut feed = follow(&key, None).await;
    feed.until_hello().await;
    let stream = TcpStream::connect(world.address).await.unwrap();
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    let serving = tokio::spawn(connection);
    let (answer, _) = client.send_request(over_http2(&world, &key), true).unwrap();
    let mut body = answer.await.unwrap().into_body();
    // Twice as long as a connection may go without a new request.
    feed.kept_alive().await;
    feed.kept_alive().await;
    manage(&maria.person, &joao, "deactivate").await;
    assert_eq!(feed.next().await.unwrap().data["state"], "suspended");
    let mut text = String::new();
    let read = async {
        while !text.contains("suspended") {
            let part = body.data().await.unwrap().unwrap();
            let _ = body.flow_control().release_capacity(part.len());
            text += std::str::from_utf8(&part).unwrap();
        }
    };
    timeout(SOON, read).await.unwrap();
    assert!(text.starts_with("event: hello\nid: ") && text.contains("\n\n: \n\n"), "{text}");
    drop((client, body));
    // Nobody follows over it any more, so it goes like any other that is not used.
    timeout(SOON, serving).await.unwrap().unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn protocol43_who_follows_and_does_not_read_loses_the_place() {
    let world = World::sqlite(&[("request_timeout_seconds", "1"), ("header_timeout_seconds", "1")]).await;
    let key = world.watcher().await;
    let stream = TcpStream::connect(world.address).await.unwrap();
    // No byte of a body may be sent to it.
    let (mut client, mut connection) =
        h2::client::Builder::new().initial_window_size(0).handshake::<_, bytes::Bytes>(stream).await.unwrap();
    let mut pings = connection.ping_pong().unwrap();
    let serving = tokio::spawn(connection);
    let (answer, _) = client.send_request(over_http2(&world, &key), true).unwrap();
    let unread = answer.await.unwrap();
    assert_eq!(unread.status(), 200);
    let pinging = async {
        while pings.ping(h2::Ping::opaque()).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(40), pinging).await.expect("the server closes it");
    let _ = serving.await.unwrap();
    follow(&key, None).await.until_hello().await;
}

/// The other half is `dev/reach`, which prints the distribution.
async fn c11_a_change_on_any_node_is_told_within_100_ms(world: World) {
    const ACTS: usize = 40;
    let node = world.another_node().await;
    let maria = owner(&world, "maria@acme.example").await;
    let key = world.watcher().await;
    let mut feeds = [follow(&key, None).await, follow(&key.at(&node), None).await];
    for feed in &mut feeds {
        feed.until_hello().await;
    }
    let mut late = 0;
    for n in 0..ACTS {
        let token = maria.program.token().await;
        let by = maria.program.at(if n % 2 == 0 { &world } else { &node });
        assert_eq!(by.oauth("revoke", &[("token", &token)]).await.status(), StatusCode::OK);
        let [a, b] = &mut feeds;
        let both = async { tokio::join!(a.next_whenever(), b.next_whenever()) };
        let mut both = std::pin::pin!(both);
        let told = match timeout(Duration::from_millis(100), &mut both).await {
            Ok(told) => told,
            Err(_) => {
                late += 1;
                timeout(SOON, both).await.unwrap()
            }
        };
        let jti = super::claims(&token)["jti"].clone();
        assert_eq!((&told.0.unwrap().data["jti"], &told.1.unwrap().data["jti"]), (&jti, &jti));
    }
    // The machine of the tests has other things to do too.
    assert!(late <= ACTS / 4, "{late} of {ACTS} took longer");
}
