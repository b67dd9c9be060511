//! The limits of HTTP/2, against peers that write their frames by hand: a library would not let them.
//! Each of these ends because the server closes the connection.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::timeout,
};

use super::{assert_still_works, within};
use crate::support::World;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GO_AWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
/// `GET / http` of the static table, and an authority: a whole request.
const REQUEST: &[u8] = b"\x82\x86\x84\x41\x01x";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header that is not in a table.
fn field(name: &str, value: &str) -> Vec<u8> {
    let length = |text: &str| match text.len() {
        small @ ..127 => vec![u8::try_from(small).unwrap()],
        more => {
            vec![127, 128 | u8::try_from((more - 127) % 128).unwrap(), u8::try_from((more - 127) / 128).unwrap()]
        }
    };
    [&[0x10][..], &length(name), name.as_bytes(), &length(value), value.as_bytes()].concat()
}

/// A connection that has said hello.
async fn connect(world: &World) -> (OwnedReadHalf, OwnedWriteHalf) {
    let (reader, mut writer) = TcpStream::connect(world.address).await.unwrap().into_split();
    writer.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await.unwrap();
    (reader, writer)
}

/// Sends the same again and again until the server has had enough.
async fn keep_sending(mut writer: OwnedWriteHalf, mut next: impl FnMut() -> Vec<u8>) {
    while writer.write_all(&next()).await.is_ok() {
        tokio::task::yield_now().await;
    }
}

/// What the next frame of this kind that the server sends says.
async fn next_of(kind: u8, reader: &mut OwnedReadHalf) -> Vec<u8> {
    loop {
        let mut head = [0; 9];
        reader.read_exact(&mut head).await.unwrap();
        let length = usize::try_from(u32::from_be_bytes([0, head[0], head[1], head[2]])).unwrap();
        let mut payload = vec![0; length];
        reader.read_exact(&mut payload).await.unwrap();
        if head[3] == kind {
            return payload;
        }
    }
}

/// What the server sent until it closed, as kind and payload of each frame.
async fn all_frames(mut reader: OwnedReadHalf) -> Vec<(u8, Vec<u8>)> {
    let mut bytes = Vec::new();
    let _ = reader.read_to_end(&mut bytes).await;
    let (mut rest, mut frames) = (&bytes[..], Vec::new());
    while let Some((head, after)) = rest.split_at_checked(9) {
        let length = usize::try_from(u32::from_be_bytes([0, head[0], head[1], head[2]])).unwrap();
        let Some((payload, after)) = after.split_at_checked(length) else { break };
        frames.push((head[3], payload.to_vec()));
        rest = after;
    }
    frames
}

/// The error code of the last words.
fn last_words(frames: &[(u8, Vec<u8>)]) -> Option<u32> {
    let (_, payload) = frames.iter().rfind(|(kind, _)| *kind == GO_AWAY)?;
    Some(number(&payload[4..8]))
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes.try_into().unwrap())
}

const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const ENHANCE_YOUR_CALM: u32 = 11;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn protocol43_streams_that_are_opened_and_reset_end_the_connection() {
    let world = World::sqlite(&[]).await;
    let (reader, writer) = connect(&world).await;
    let frames = tokio::spawn(all_frames(reader));
    let mut stream = 1;
    keep_sending(writer, || {
        let burst = (0..100).flat_map(|_| {
            stream += 2;
            [frame(HEADERS, 5, stream, REQUEST), frame(RESET, 0, stream, &[0, 0, 0, 8])].concat()
        });
        burst.collect()
    })
    .await;
    assert_eq!(last_words(&frames.await.unwrap()), Some(ENHANCE_YOUR_CALM));
    assert_still_works(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn protocol43_a_hundred_errors_are_answered_with_a_reset_and_the_next_one_ends_the_connection() {
    let world = World::sqlite(&[]).await;
    let (mut reader, mut writer) = connect(&world).await;
    // A content-length of 1, and no body.
    let wrong = [REQUEST, b"\x0f\x0d\x01\x31"].concat();
    for stream in (1..200).step_by(2) {
        writer.write_all(&frame(HEADERS, 5, stream, &wrong)).await.unwrap();
        assert_eq!(number(&next_of(RESET, &mut reader).await), PROTOCOL_ERROR, "{stream}");
    }
    writer.write_all(&frame(HEADERS, 5, 201, REQUEST)).await.unwrap();
    assert!(!next_of(HEADERS, &mut reader).await.is_empty(), "a right one is answered");
    writer.write_all(&frame(HEADERS, 5, 203, &wrong)).await.unwrap();
    assert_eq!(last_words(&all_frames(reader).await), Some(ENHANCE_YOUR_CALM));
    assert_still_works(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn protocol43_256_kib_of_bodies_that_nobody_reads_are_taken_in_and_more_ends_the_connection() {
    let world = World::sqlite(&[]).await;
    // Whose session it is is looked up before a body is read, and waits for one of these.
    let mut held = Vec::new();
    while let Ok(tx) = timeout(Duration::from_millis(500), world.app.store.read()).await {
        held.push(tx.unwrap());
    }
    let (mut reader, mut writer) = connect(&world).await;
    let more = number(&next_of(WINDOW_UPDATE, &mut reader).await);
    assert_eq!(65_535 + more, 256 * 1024, "the server says how much it takes");
    let (path, cookie) = (field(":path", "/api/v1/session/end"), field("cookie", "__Host-portcullis=x"));
    let head = [&b"\x83\x86\x41\x01x"[..], &path, &cookie].concat();
    let half = "x".repeat(16 * 1024).into_bytes();
    for stream in (1..16).step_by(2) {
        let body = [frame(DATA, 0, stream, &half), frame(DATA, 1, stream, &half)].concat();
        writer.write_all(&[frame(HEADERS, 4, stream, &head), body].concat()).await.unwrap();
    }
    // When this is answered all of it was taken in.
    writer.write_all(&frame(PING, 0, 0, &[7; 8])).await.unwrap();
    while next_of(PING, &mut reader).await != [7_u8; 8] {}
    let beyond = [frame(HEADERS, 4, 17, &head), frame(DATA, 1, 17, b"x")].concat();
    writer.write_all(&beyond).await.unwrap();
    assert_eq!(last_words(&all_frames(reader).await), Some(FLOW_CONTROL_ERROR));
    drop(held);
    assert_still_works(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn protocol43_headers_that_never_end_end_the_connection() {
    let world = World::sqlite(&[]).await;
    let (reader, mut writer) = connect(&world).await;
    let frames = tokio::spawn(all_frames(reader));
    writer.write_all(&frame(HEADERS, 1, 1, REQUEST)).await.unwrap();
    // A header of its own in each, never indexed, and no END_HEADERS.
    let more = frame(CONTINUATION, 0, 1, &[&b"\x10\x01a\x7f\x81\x01"[..], &[b'x'; 256]].concat());
    keep_sending(writer, || more.repeat(20)).await;
    assert!(last_words(&frames.await.unwrap()).is_some_and(|code| code != 0));
    assert_still_works(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn protocol43_pings_and_settings_without_requests_do_not_keep_a_connection() {
    let world = World::sqlite(&[("request_timeout_seconds", "1"), ("header_timeout_seconds", "1")]).await;
    for flood in [frame(PING, 0, 0, &[7; 8]), frame(SETTINGS, 0, 0, &[])] {
        // Whether it reads the answers or not.
        let (reader, writer) = connect(&world).await;
        let frames = tokio::spawn(all_frames(reader));
        within(8, "it is closed", keep_sending(writer, || flood.repeat(100))).await;
        drop(frames.await.unwrap());
        let (_unread, writer) = connect(&world).await;
        within(8, "it is closed", keep_sending(writer, || flood.repeat(100))).await;
    }
    assert_still_works(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn protocol43_an_http2_client_that_answers_no_ping_is_closed() {
    // An answer that goes on keeps the connection from being idle, so it is the ping that ends it.
    let world = World::sqlite(&[("request_timeout_seconds", "1"), ("header_timeout_seconds", "1")]).await;
    let key = world.watcher().await;
    let (reader, mut writer) = connect(&world).await;
    let pair = format!("{}:{}", key.client_id, key.client_secret);
    let basic = format!("Basic {}", base64::Engine::encode(&base64::prelude::BASE64_STANDARD, pair));
    let path = field(":path", "/oauth/revocations");
    let head = [&b"\x82\x86\x41\x01x"[..], &path, &field("authorization", &basic)].concat();
    writer.write_all(&frame(HEADERS, 5, 1, &head)).await.unwrap();
    let frames = within(8, "it is closed", all_frames(reader)).await;
    assert!(frames.iter().any(|(kind, _)| *kind == DATA), "the feed was there: {frames:?}");
    assert!(frames.iter().any(|(kind, _)| *kind == PING), "and the question: {frames:?}");
    assert_still_works(&world).await;
    drop(writer);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn protocol43_http2_announces_its_limits_and_more_requests_wait() {
    let world = World::sqlite(&[]).await;
    let stream = TcpStream::connect(world.address).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = |value: &str| {
        let request = axum::http::Request::get(format!("{}/health/live", world.url)).header("x-large", value);
        request.body(()).unwrap()
    };
    let mut client = client.ready().await.unwrap();
    let large = client.send_request(request(&"x".repeat(31 * 1024)), true).unwrap().0.await.unwrap();
    assert_eq!(large.status(), 200);
    let mut client = client.ready().await.unwrap();
    let refused = match client.send_request(request(&"x".repeat(33 * 1024)), true) {
        Ok((answer, _)) => answer.await.map_or(431, |answer| answer.status().as_u16()),
        // It does not even send what the server announced not to take.
        Err(_) => 431,
    };
    assert_eq!(refused, 431);
    let mut client = client.ready().await.unwrap();
    let mut answers = Vec::new();
    for _ in 0..200 {
        client = client.ready().await.unwrap();
        answers.push(client.send_request(request("x"), true).unwrap().0);
    }
    assert_eq!(client.current_max_send_streams(), 64);
    for answer in answers {
        assert_eq!(answer.await.unwrap().status(), 200);
    }
    assert_still_works(&world).await;
}
