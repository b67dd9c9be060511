//! A provider that does what a test tells it, wrong things above all.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use axum::{
    Form, Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
    routing::{get, post},
};
use base64::{Engine, prelude::*};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use portcullis::clock::Clock;
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;

pub const CLIENT_SECRET: &str = "client-secret-canary-7f3a";

/// How an ID token is signed.
#[derive(Clone, Copy, PartialEq)]
pub enum Sign {
    Rightly,
    WithAnotherKey,
    WithUnknownKid,
    NotAtAll,
    HmacOfThePublicKey,
    HmacOfTheClientSecret,
}

/// What is wrong with the documents.
#[derive(Clone, Copy, PartialEq)]
pub enum Documents {
    Right,
    OfAnotherIssuer,
    HugeKeys,
    RedirectLoop,
    Hang,
    NotJson,
    PlainHttpElsewhere,
}

/// Something done to the claims of an ID token.
pub type Change = Box<dyn Fn(&mut Map<String, Value>) + Send>;

/// What the provider does. `change` has the last word on the claims of an ID token.
pub struct Manners {
    pub documents: Documents,
    pub sign: Sign,
    pub claims: Map<String, Value>,
    pub change: Change,
    pub refuses_codes: bool,
    /// Where the token endpoint waits, if it does.
    pub gate: Option<Arc<Semaphore>>,
    pub says_iss: bool,
    pub userinfo: Option<Value>,
    pub key: EcKey,
}

pub struct EcKey {
    der: Vec<u8>,
    public: Vec<u8>,
    kid: String,
}

impl EcKey {
    pub fn new(kid: &str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let der = pair.to_pkcs8v1().unwrap();
        Self { der: der.as_ref().to_vec(), public: pair.public_key().as_ref().to_vec(), kid: kid.to_owned() }
    }

    fn jwk(&self) -> Value {
        let part = |range: std::ops::Range<usize>| BASE64_URL_SAFE_NO_PAD.encode(&self.public[range]);
        json!({ "kty": "EC", "crv": "P-256", "x": part(1..33), "y": part(33..65), "kid": self.kid, "use": "sig",
                "alg": "ES256" })
    }
}

struct Inner {
    url: String,
    clock: Clock,
    manners: Mutex<Manners>,
    /// Of each code: nonce, PKCE challenge, redirect URI, client id.
    codes: Mutex<HashMap<String, [String; 4]>>,
    asked: Mutex<Vec<String>>,
}

#[derive(Clone)]
pub struct Hostile(Arc<Inner>);

impl Hostile {
    /// A provider with good manners, on a port of its own.
    pub async fn start(clock: &Clock) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let claims = json!({ "sub": "ana-7", "email": "ana@acme.example", "email_verified": true, "name": "Ana" });
        let manners = Manners {
            documents: Documents::Right,
            sign: Sign::Rightly,
            claims: claims.as_object().unwrap().clone(),
            change: Box::new(|_| {}),
            refuses_codes: false,
            gate: None,
            says_iss: false,
            userinfo: None,
            key: EcKey::new("key-1"),
        };
        let hostile = Self(Arc::new(Inner {
            url,
            clock: clock.clone(),
            manners: Mutex::new(manners),
            codes: Mutex::default(),
            asked: Mutex::default(),
        }));
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/keys", get(keys))
            .route("/loop", get(async || Redirect::temporary("/loop")))
            .route("/token", post(token))
            .route("/userinfo", get(userinfo))
            .with_state(hostile.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        hostile
    }

    pub fn url(&self) -> &str {
        &self.0.url
    }

    /// Changes the manners.
    pub fn now(&self, change: impl FnOnce(&mut Manners)) {
        change(&mut self.0.manners.lock().unwrap());
    }

    /// What was asked so far, by path.
    pub fn asked(&self) -> Vec<String> {
        self.0.asked.lock().unwrap().clone()
    }

    fn note(&self, path: &str) {
        self.0.asked.lock().unwrap().push(path.to_owned());
    }

    /// What the authorization endpoint would do when the person says yes: the address of the
    /// callback, with a code and the `state` that came.
    pub fn approve(&self, authorization_url: &str) -> url::Url {
        let asked = url::Url::parse(authorization_url).unwrap();
        assert!(authorization_url.starts_with(&format!("{}/authorize?", self.0.url)), "{authorization_url}");
        let get = |name: &str| {
            let mut all = asked.query_pairs().filter(|(n, _)| n == name).map(|(_, v)| v.into_owned());
            let first = all.next().unwrap_or_else(|| panic!("no {name} in {authorization_url}"));
            assert!(all.next().is_none(), "{name} twice");
            first
        };
        assert_eq!((get("response_type").as_str(), get("code_challenge_method").as_str()), ("code", "S256"));
        assert!(get("scope").split(' ').any(|s| s == "openid"));
        assert!(get("state").len() >= 43 && get("nonce").len() >= 43, "256 bits");
        let code = format!("code-canary-{}", self.0.clock.id());
        let kept = [get("nonce"), get("code_challenge"), get("redirect_uri"), get("client_id")];
        let mut back = url::Url::parse(&kept[2]).unwrap();
        self.0.codes.lock().unwrap().insert(code.clone(), kept);
        back.query_pairs_mut().append_pair("code", &code).append_pair("state", &get("state"));
        back
    }

    fn id_token(&self, nonce: &str, client_id: &str) -> String {
        let now = self.0.clock.now().as_second();
        let manners = self.0.manners.lock().unwrap();
        let mut claims = manners.claims.clone();
        for (name, value) in [
            ("iss", json!(self.0.url)),
            ("aud", json!(client_id)),
            ("nonce", json!(nonce)),
            ("iat", json!(now)),
            ("exp", json!(now + 600)),
        ] {
            claims.insert(name.to_owned(), value);
        }
        (manners.change)(&mut claims);
        let part = |v: &Value| BASE64_URL_SAFE_NO_PAD.encode(v.to_string());
        let key = match manners.sign {
            Sign::Rightly => EncodingKey::from_ec_der(&manners.key.der),
            Sign::WithAnotherKey | Sign::WithUnknownKid => EncodingKey::from_ec_der(&EcKey::new("x").der),
            Sign::NotAtAll => {
                return format!("{}.{}.", part(&json!({ "alg": "none" })), part(&Value::Object(claims)));
            }
            Sign::HmacOfThePublicKey => EncodingKey::from_secret(&manners.key.public),
            Sign::HmacOfTheClientSecret => EncodingKey::from_secret(CLIENT_SECRET.as_bytes()),
        };
        let hmac = matches!(manners.sign, Sign::HmacOfThePublicKey | Sign::HmacOfTheClientSecret);
        let mut header = Header::new(if hmac { Algorithm::HS256 } else { Algorithm::ES256 });
        let unknown = manners.sign == Sign::WithUnknownKid;
        header.kid = Some(if unknown { "never-published".to_owned() } else { manners.key.kid.clone() });
        jsonwebtoken::encode(&header, &claims, &key).unwrap()
    }
}

async fn discovery(State(hostile): State<Hostile>) -> Response {
    hostile.note("discovery");
    let url = &hostile.0.url;
    let (documents, says_iss, userinfo) = {
        let manners = hostile.0.manners.lock().unwrap();
        (manners.documents, manners.says_iss, manners.userinfo.is_some())
    };
    let issuer = if documents == Documents::OfAnotherIssuer { "https://other.example" } else { url };
    let elsewhere = documents == Documents::PlainHttpElsewhere;
    match documents {
        Documents::RedirectLoop => return Redirect::temporary("/loop").into_response(),
        Documents::NotJson => return "<html>".into_response(),
        Documents::Hang => tokio::time::sleep(Duration::from_secs(600)).await,
        _ => {}
    }
    let mut metadata = json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{url}/authorize"),
        "token_endpoint": if elsewhere { "http://internal.example/token".to_owned() } else { format!("{url}/token") },
        "jwks_uri": format!("{url}/keys"),
        "end_session_endpoint": format!("{url}/end?kept=1"),
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256", "HS256", "none"],
        "authorization_response_iss_parameter_supported": says_iss,
    });
    if userinfo {
        metadata["userinfo_endpoint"] = json!(format!("{url}/userinfo"));
    }
    Json(metadata).into_response()
}

async fn keys(State(hostile): State<Hostile>) -> Response {
    hostile.note("keys");
    let manners = hostile.0.manners.lock().unwrap();
    let mut keys = json!({ "keys": [manners.key.jwk()] });
    if manners.documents == Documents::HugeKeys {
        keys["padding"] = json!("x".repeat(5 * 1024 * 1024));
    }
    Json(keys).into_response()
}

async fn token(
    State(hostile): State<Hostile>,
    headers: HeaderMap,
    Form(form): Form<HashMap<String, String>>,
) -> Response {
    hostile.note("token");
    let gate = hostile.0.manners.lock().unwrap().gate.clone();
    if let Some(gate) = gate {
        gate.acquire().await.unwrap().forget();
    }
    let refused = || (StatusCode::BAD_REQUEST, Json(json!({ "error": "invalid_grant" }))).into_response();
    if hostile.0.manners.lock().unwrap().refuses_codes {
        return refused();
    }
    let Some([nonce, challenge, redirect_uri, client_id]) = hostile.0.codes.lock().unwrap().remove(&form["code"])
    else {
        return refused();
    };
    let expected = BASE64_STANDARD.encode(format!("{client_id}:{CLIENT_SECRET}"));
    assert_eq!(headers[header::AUTHORIZATION], format!("Basic {expected}"));
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, form["code_verifier"].as_bytes());
    assert_eq!(BASE64_URL_SAFE_NO_PAD.encode(hash.as_ref()), challenge, "RFC 7636");
    assert_eq!(
        (form["redirect_uri"].as_str(), form["grant_type"].as_str()),
        (&*redirect_uri, "authorization_code")
    );
    let id_token = hostile.id_token(&nonce, &client_id);
    Json(json!({ "access_token": "access-canary", "token_type": "Bearer", "id_token": id_token })).into_response()
}

async fn userinfo(State(hostile): State<Hostile>, headers: HeaderMap) -> Response {
    hostile.note("userinfo");
    assert_eq!(headers[header::AUTHORIZATION], "Bearer access-canary");
    Json(hostile.0.manners.lock().unwrap().userinfo.clone().unwrap()).into_response()
}
