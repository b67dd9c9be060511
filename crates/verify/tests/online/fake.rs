//! A server that speaks as a Portcullis server does, and misbehaves when told to.
#![allow(clippy::disallowed_methods, reason = "what is measured here is real time")]

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant, SystemTime},
};

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use bytes::Bytes;
use futures_util::stream;
use miniz_oxide::deflate::compress_to_vec_zlib;
use portcullis_verify::{AccessToken, Builder, Error, Request, Verifier, WhenStale, jwk::Algorithm};
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::signing::Signing;

pub(crate) const AUDIENCE: &str = "https://orders.acme.example";
pub(crate) const API_KEY: (&str, &str) = ("pca_1", "a secret: with+signs");

/// How an answer is made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    Well,
    /// 503.
    Down,
    /// No answer at all.
    Silent,
    /// A body without an end.
    Endless,
}

type Opening = Box<dyn Fn(Option<&str>) -> String + Send>;

pub(crate) struct Inside {
    pub(crate) keys: Vec<(String, Signing)>,
    /// The key that signs.
    pub(crate) signs: usize,
    /// What the metadata say otherwise.
    pub(crate) metadata: Value,
    pub(crate) list: Vec<u8>,
    /// What the list's header and claims say otherwise.
    pub(crate) list_typ: String,
    pub(crate) list_claims: Value,
    pub(crate) list_signs: usize,
    pub(crate) metadata_mood: Mood,
    pub(crate) keys_mood: Mood,
    pub(crate) list_mood: Mood,
    pub(crate) feed_mood: Mood,
    /// What a follower is told first, from its Last-Event-ID.
    pub(crate) opening: Opening,
    followers: Vec<UnboundedSender<Bytes>>,
    /// What was asked for.
    pub(crate) keys_asked: u32,
    pub(crate) list_asked: u32,
    pub(crate) list_confirmed: u32,
    pub(crate) last_ids: Vec<Option<String>>,
}

#[derive(Clone)]
pub(crate) struct Fake {
    pub(crate) issuer: String,
    inside: Arc<Mutex<Inside>>,
}

impl Fake {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let inside = Inside {
            keys: vec![("k0".into(), Signing::new(Algorithm::Es256))],
            signs: 0,
            metadata: json!({}),
            list: vec![0; 256],
            list_typ: "statuslist+jwt".into(),
            list_claims: json!({}),
            list_signs: 0,
            metadata_mood: Mood::Well,
            keys_mood: Mood::Well,
            list_mood: Mood::Well,
            feed_mood: Mood::Well,
            opening: Box::new(|_| hello(1)),
            followers: vec![],
            keys_asked: 0,
            list_asked: 0,
            list_confirmed: 0,
            last_ids: vec![],
        };
        let fake = Self { issuer, inside: Arc::new(Mutex::new(inside)) };
        let routes = Router::new()
            .route("/.well-known/oauth-authorization-server", get(metadata))
            .route("/.well-known/jwks.json", get(keys))
            .route("/oauth/status", get(list))
            .route("/oauth/revocations", get(feed))
            .with_state(fake.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        fake
    }

    pub(crate) fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap()
    }

    pub(crate) fn builder_with(&self, when_stale: WhenStale) -> Builder {
        Verifier::builder(&self.issuer, AUDIENCE).when_stale(when_stale).poll_every(Duration::from_millis(20))
    }

    /// A verifier that has only the list.
    pub(crate) async fn verifier(&self) -> Verifier {
        self.builder_with(WhenStale::GoOnUntilExpiry).start().await.unwrap()
    }

    /// A verifier that follows the feed, once it is live.
    pub(crate) async fn follower(&self, when_stale: WhenStale) -> Verifier {
        let builder = self.builder_with(when_stale).api_key(API_KEY.0, API_KEY.1.to_owned().into());
        let verifier = builder.start().await.unwrap();
        eventually("the feed is live", async || verifier.freshness().feed_is_live).await;
        verifier
    }

    /// Says something to all who follow.
    pub(crate) fn say(&self, events: &str) {
        let events = Bytes::from(events.to_owned());
        self.inside().followers.retain(|follower| follower.send(events.clone()).is_ok());
    }

    /// Ends the streams of all who follow, and lets nobody follow.
    pub(crate) fn cut_feed(&self) {
        let mut inside = self.inside();
        inside.feed_mood = Mood::Down;
        inside.followers.clear();
    }

    /// The whole server is gone, or back.
    pub(crate) fn set_all(&self, mood: Mood) {
        self.cut_feed();
        let mut inside = self.inside();
        inside.keys_mood = mood;
        inside.list_mood = mood;
        inside.feed_mood = mood;
    }

    /// Sets the value of a credential on the list.
    pub(crate) fn set_list(&self, idx: usize, value: u8) {
        let byte = &mut self.inside().list[idx / 4];
        let shift = (idx % 4) * 2;
        *byte = *byte & !(0b11 << shift) | value << shift;
    }

    /// A token for credential `idx`; `other` replaces claims.
    pub(crate) fn token(&self, idx: usize, other: &Value) -> String {
        let inside = self.inside();
        let (kid, key) = &inside.keys[inside.signs];
        self.sign(kid, key, idx, other)
    }

    pub(crate) fn sign(&self, kid: &str, key: &Signing, idx: usize, other: &Value) -> String {
        let now = unix();
        let mut claims = json!({
            "iss": self.issuer, "sub": "pc_1", "client_id": "pc_1", "aud": AUDIENCE,
            "iat": now, "exp": now + 600, "jti": format!("j{idx}"), "scope": "orders:read",
            "status": {"status_list": {"idx": idx, "uri": format!("{}/oauth/status", self.issuer)}},
        });
        merge(&mut claims, other);
        let header = json!({"alg": key.algorithm().name(), "typ": "at+jwt", "kid": kid});
        key.token(&header.to_string(), &claims.to_string())
    }
}

pub(crate) fn unix() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs().try_into().unwrap()
}

fn merge(into: &mut Value, other: &Value) {
    for (name, value) in other.as_object().unwrap() {
        into[name] = value.clone();
    }
}

pub(crate) fn hello(id: u32) -> String {
    format!("event: hello\nid: {id}\ndata: {{\"at\":{}}}\n\n", unix())
}

pub(crate) fn credential(id: Option<u32>, idx: usize, state: &str) -> String {
    let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
    format!(
        "event: credential\n{id}data: {{\"client_id\":\"pc_1\",\"idx\":{idx},\"state\":\"{state}\",\"at\":1}}\n\n"
    )
}

/// Checks a token as Bearer.
pub(crate) async fn bearer(verifier: &Verifier, token: &str) -> Result<AccessToken, Error> {
    let header = format!("Bearer {token}");
    verifier.verify(&Request { method: "GET", path: "/orders", authorization: &[&header], dpop: &[] }).await
}

/// Waits until something is so, for as long as a loaded machine may take.
pub(crate) async fn eventually(what: &str, is: impl AsyncFn() -> bool) {
    let begun = Instant::now();
    while !is().await {
        assert!(begun.elapsed() < Duration::from_secs(20), "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn in_mood(mood: Mood, well: impl FnOnce() -> Response) -> Response {
    match mood {
        Mood::Well => well(),
        Mood::Down => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Mood::Silent => std::future::pending().await,
        Mood::Endless => {
            let piece = Bytes::from(vec![b' '; 64 * 1024]);
            Body::from_stream(stream::repeat_with(move || Ok::<_, Infallible>(piece.clone()))).into_response()
        }
    }
}

async fn metadata(State(fake): State<Fake>) -> Response {
    let mood = fake.inside().metadata_mood;
    let other = fake.inside().metadata.clone();
    in_mood(mood, || {
        let issuer = &fake.issuer;
        let mut metadata = json!({
            "issuer": issuer,
            "jwks_uri": format!("{issuer}/.well-known/jwks.json"),
            "status_list_endpoint": format!("{issuer}/oauth/status"),
            "revocations_endpoint": format!("{issuer}/oauth/revocations"),
        });
        merge(&mut metadata, &other);
        metadata.to_string().into_response()
    })
    .await
}

async fn keys(State(fake): State<Fake>) -> Response {
    fake.inside().keys_asked += 1;
    let mood = fake.inside().keys_mood;
    in_mood(mood, || {
        let keys: Vec<Value> = fake.inside().keys.iter().map(|(kid, key)| published(kid, key)).collect();
        json!({"keys": keys}).to_string().into_response()
    })
    .await
}

fn published(kid: &str, key: &Signing) -> Value {
    let mut members: Value = serde_json::from_str(&key.public().to_json()).unwrap();
    merge(&mut members, &json!({"kid": kid, "use": "sig", "alg": key.algorithm().name()}));
    members
}

async fn list(State(fake): State<Fake>, headers: HeaderMap) -> Response {
    fake.inside().list_asked += 1;
    let mood = fake.inside().list_mood;
    in_mood(mood, || {
        let mut inside = fake.inside();
        let lst = BASE64URL.encode(compress_to_vec_zlib(&inside.list, 6));
        let etag = format!("\"{lst:.40}{}\"", inside.list.iter().map(|byte| u64::from(*byte)).sum::<u64>());
        if headers.get(header::IF_NONE_MATCH).is_some_and(|tag| tag == etag.as_str()) {
            inside.list_confirmed += 1;
            return StatusCode::NOT_MODIFIED.into_response();
        }
        let now = unix();
        let mut claims = json!({
            "iss": fake.issuer, "sub": format!("{}/oauth/status", fake.issuer), "iat": now, "exp": now + 300,
            "ttl": 1, "status_list": {"bits": 2, "lst": lst},
        });
        merge(&mut claims, &inside.list_claims);
        let (kid, _) = &inside.keys[inside.signs];
        let (_, key) = &inside.keys[inside.list_signs];
        let header = json!({"alg": key.algorithm().name(), "typ": inside.list_typ, "kid": kid});
        ([(header::ETAG, etag)], key.token(&header.to_string(), &claims.to_string())).into_response()
    })
    .await
}

async fn feed(State(fake): State<Fake>, headers: HeaderMap) -> Response {
    // The two parts are form-encoded (RFC 6749 §2.3.1).
    let expected = base64::prelude::BASE64_STANDARD.encode("pca_1:a+secret%3A+with%2Bsigns");
    if headers.get(header::AUTHORIZATION).is_none_or(|value| *value != format!("Basic {expected}")) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let mood = fake.inside().feed_mood;
    in_mood(mood, || {
        let mut inside = fake.inside();
        let last_id = headers.get("last-event-id").map(|id| id.to_str().unwrap().to_owned());
        let (follower, said) = unbounded_channel();
        let opening = (inside.opening)(last_id.as_deref());
        follower.send(Bytes::from(opening)).unwrap();
        inside.last_ids.push(last_id);
        inside.followers.push(follower);
        let next = async |mut said: UnboundedReceiver<Bytes>| {
            said.recv().await.map(|piece| (Ok::<_, Infallible>(piece), said))
        };
        let body = Body::from_stream(stream::unfold(said, next));
        ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response()
    })
    .await
}
