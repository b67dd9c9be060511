//! The floor: the least a Rust server can do for an access token.
//!
//! It takes the same request as Portcullis and gives the same answer, but keeps nothing: one client
//! is known, its secret is compared as one SHA-256 digest, one JWT is signed (ES256, or EdDSA when the
//! request names a resource), and that is all. Asked
//! about a token at `/oauth/introspect`, it verifies its one signature and says what it claims; and
//! `/bare?N` is answered with N bytes, which is the least any document can cost. No database, no audit log, no limits, no TLS. It runs on one thread, so that what it reaches is
//! what one core reaches. Portcullis cannot be faster than this; how close it comes is the figure.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    ParsedPublicKey,
};
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use clap::Parser;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue, PRAGMA};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use portcullis_bench::outside;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};
use uuid::Uuid;

/// As Portcullis has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long a token lives, in seconds.
const LASTS_SECONDS: i64 = 86_400;
/// What every token grants.
const SCOPE: &str = "users:read audit:read apis:read";
/// The longest request body that is read.
const BODY_LIMIT: usize = 16 * 1024;

/// The least that a token server can do, to measure others against.
#[derive(Debug, Parser)]
struct Args {
    /// The address to listen on.
    #[arg(long, default_value = "127.0.0.1:8081")]
    listen: SocketAddr,
    /// The one client that is known.
    #[arg(long)]
    client_id: String,
    /// Its secret.
    #[arg(long)]
    client_secret: String,
}

/// The header of the token.
#[derive(Serialize)]
struct JoseHeader<'a> {
    alg: &'a str,
    typ: &'a str,
    kid: &'a str,
}

/// The claims of the token, those of RFC 9068 that Portcullis issues.
#[derive(Serialize, Deserialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    client_id: &'a str,
    aud: &'a str,
    iat: i64,
    exp: i64,
    jti: Uuid,
    scope: &'a str,
}

/// What is said of a token (RFC 7662 §2.2).
#[derive(Serialize)]
struct Said<'a> {
    active: bool,
    token_type: &'a str,
    #[serde(flatten)]
    claims: Claims<'a>,
}

/// The answer to a granted request (RFC 6749 §5.1).
#[derive(Serialize)]
struct Granted<'a> {
    access_token: &'a str,
    token_type: &'a str,
    expires_in: i64,
    scope: &'a str,
}

/// What the server knows: the client, the digest of its secret, and the key.
struct Floor {
    client_id: String,
    secret_digest: aws_lc_rs::digest::Digest,
    issuer: String,
    kid: String,
    ec: EcdsaKeyPair,
    /// What is signed with when the request names a resource.
    ed: Ed25519KeyPair,
    public: ParsedPublicKey,
    random: SystemRandom,
}

impl Floor {
    /// Prepares a server with a fresh key.
    fn new(args: &Args) -> anyhow::Result<Self> {
        let ec = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).context("no key")?;
        let ed = Ed25519KeyPair::generate().context("no key")?;
        let public = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, ec.public_key().as_ref());
        Ok(Self {
            client_id: args.client_id.clone(),
            secret_digest: digest(&SHA256, args.client_secret.as_bytes()),
            issuer: format!("http://{}", args.listen),
            kid: outside::id(outside::now()).to_string(),
            ec,
            ed,
            public: public.context("no public key")?,
            random: outside::random_source(),
        })
    }

    /// Whether this is the known client with its secret.
    fn knows(&self, id: &str, secret: &str) -> bool {
        let presented = digest(&SHA256, secret.as_bytes());
        let same =
            aws_lc_rs::constant_time::verify_slices_are_equal(presented.as_ref(), self.secret_digest.as_ref());
        same.is_ok() && id == self.client_id
    }

    /// Signs one token, issued at `now`, with EdDSA or with ES256.
    fn token(&self, now: Timestamp, ed: bool) -> anyhow::Result<String> {
        let iat = now.as_second();
        let alg = if ed { "EdDSA" } else { "ES256" };
        let header = JoseHeader { alg, typ: "at+jwt", kid: &self.kid };
        let claims = Claims {
            iss: &self.issuer,
            sub: &self.client_id,
            client_id: &self.client_id,
            aud: &self.issuer,
            iat,
            exp: iat + LASTS_SECONDS,
            jti: outside::id(now),
            scope: SCOPE,
        };
        let mut token = String::with_capacity(768);
        BASE64_URL_SAFE_NO_PAD.encode_string(serde_json::to_vec(&header)?, &mut token);
        token.push('.');
        BASE64_URL_SAFE_NO_PAD.encode_string(serde_json::to_vec(&claims)?, &mut token);
        let signature = match ed {
            true => self.ed.sign(token.as_bytes()),
            false => self.ec.sign(&self.random, token.as_bytes()).context("signing failed")?,
        };
        token.push('.');
        BASE64_URL_SAFE_NO_PAD.encode_string(signature.as_ref(), &mut token);
        Ok(token)
    }

    /// Answers a token request of these headers and this body.
    fn grant(&self, headers: &HeaderMap, body: &[u8]) -> anyhow::Result<Response<Full<Bytes>>> {
        let form = Form::read(body);
        if form.grant_type.as_deref() != Some("client_credentials") {
            return Ok(refused(StatusCode::BAD_REQUEST, "unsupported_grant_type"));
        }
        let presented = basic(headers).or_else(|| form.client_id.zip(form.client_secret));
        if !presented.is_some_and(|(id, secret)| self.knows(&id, &secret)) {
            return Ok(refused(StatusCode::UNAUTHORIZED, "invalid_client"));
        }
        let token = self.token(outside::now(), form.resource.is_some())?;
        let granted =
            Granted { access_token: &token, token_type: "Bearer", expires_in: LASTS_SECONDS, scope: SCOPE };
        Ok(json(StatusCode::OK, serde_json::to_vec(&granted)?))
    }

    /// Answers what a token claims, if it is one of its own.
    fn introspect(&self, headers: &HeaderMap, body: &[u8]) -> anyhow::Result<Response<Full<Bytes>>> {
        if !basic(headers).is_some_and(|(id, secret)| self.knows(&id, &secret)) {
            return Ok(refused(StatusCode::UNAUTHORIZED, "invalid_client"));
        }
        let token = form_urlencoded::parse(body).find(|(name, _)| name == "token").context("no token")?.1;
        let (signed, signature) = token.rsplit_once('.').context("no signature")?;
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature)?;
        self.public.verify_sig(signed.as_bytes(), &signature).context("another signature")?;
        let claims = signed.split_once('.').context("no claims")?.1;
        let claims = BASE64_URL_SAFE_NO_PAD.decode(claims)?;
        let claims: Claims<'_> = serde_json::from_slice(&claims)?;
        let said = Said { active: true, token_type: "Bearer", claims };
        Ok(json(StatusCode::OK, serde_json::to_vec(&said)?))
    }

    /// Answers any request.
    async fn answer<B>(&self, request: Request<B>) -> Response<Full<Bytes>>
    where
        B: hyper::body::Body,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        match (request.method(), request.uri().path()) {
            (&Method::POST, "/oauth/token" | "/oauth/introspect") => {}
            (&Method::GET, "/bare") => {
                let length = request.uri().query().and_then(|q| q.parse().ok()).unwrap_or(0);
                return json(StatusCode::OK, vec![b'x'; BODY_LIMIT.min(length)]);
            }
            (&Method::GET, "/health/ready") => return json(StatusCode::OK, b"{}".to_vec()),
            _ => return refused(StatusCode::NOT_FOUND, "not_found"),
        }
        let (head, body) = request.into_parts();
        let Ok(body) = Limited::new(body, BODY_LIMIT).collect().await else {
            return refused(StatusCode::BAD_REQUEST, "invalid_request");
        };
        let body = body.to_bytes();
        let asked = head.uri.path() == "/oauth/introspect";
        let answer = if asked { self.introspect(&head.headers, &body) } else { self.grant(&head.headers, &body) };
        answer.unwrap_or_else(|_| refused(StatusCode::INTERNAL_SERVER_ERROR, "server_error"))
    }
}

/// The fields of the request's form that matter.
#[derive(Default)]
struct Form {
    grant_type: Option<String>,
    client_id: Option<String>,
    client_secret: Option<String>,
    resource: Option<String>,
}

impl Form {
    fn read(body: &[u8]) -> Self {
        let mut form = Self::default();
        for (name, value) in form_urlencoded::parse(body) {
            let field = match name.as_ref() {
                "grant_type" => &mut form.grant_type,
                "client_id" => &mut form.client_id,
                "client_secret" => &mut form.client_secret,
                "resource" => &mut form.resource,
                _ => continue,
            };
            *field = Some(value.into_owned());
        }
        form
    }
}

/// The client and the secret of the `Authorization: Basic` header, if there is one.
fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let encoded = headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Basic ")?;
    let plain = String::from_utf8(BASE64_STANDARD.decode(encoded).ok()?).ok()?;
    let (id, secret) = plain.split_once(':')?;
    Some((id.to_owned(), secret.to_owned()))
}

/// An answer in JSON that no cache may keep.
fn json(status: StatusCode, body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    response
}

/// A refusal (RFC 6749 §5.2).
fn refused(status: StatusCode, error: &str) -> Response<Full<Bytes>> {
    json(status, format!(r#"{{"error":"{error}"}}"#).into_bytes())
}

/// Serves one connection to its end. A connection that breaks concerns nobody but its client.
async fn serve(floor: Arc<Floor>, stream: TcpStream) {
    let service = service_fn(|request| async { Ok::<_, Infallible>(floor.answer(request).await) });
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let floor = Arc::new(Floor::new(&args)?);
    let listener =
        TcpListener::bind(args.listen).await.with_context(|| format!("cannot listen on {}", args.listen))?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(serve(Arc::clone(&floor), stream));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floor() -> Floor {
        let listen = "127.0.0.1:1".parse().unwrap();
        let (client_id, client_secret) = ("pcc_a".into(), "pcs_b".into());
        Floor::new(&Args { listen, client_id, client_secret }).unwrap()
    }

    async fn ask(floor: &Floor, basic: Option<&str>, body: &'static str) -> (StatusCode, serde_json::Value) {
        let mut request = Request::post("/oauth/token");
        if let Some(plain) = basic {
            request = request.header(AUTHORIZATION, format!("Basic {}", BASE64_STANDARD.encode(plain)));
        }
        let response = floor.answer(request.body(Full::new(Bytes::from(body))).unwrap()).await;
        assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
        assert_eq!(response.headers()[PRAGMA], "no-cache");
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn a_known_client_gets_a_token_that_verifies() {
        let floor = floor();
        for (basic, body) in [
            (Some("pcc_a:pcs_b"), "grant_type=client_credentials"),
            (None, "grant_type=client_credentials&client_id=pcc_a&client_secret=pcs_b"),
        ] {
            let (status, answer) = ask(&floor, basic, body).await;
            assert_eq!(status, StatusCode::OK);
            assert_eq!(answer["token_type"], "Bearer");
            assert_eq!(answer["expires_in"], 86_400);
            assert_eq!(answer["scope"], SCOPE);
            let token = answer["access_token"].as_str().unwrap();
            let (signed, signature) = token.rsplit_once('.').unwrap();
            floor
                .public
                .verify_sig(signed.as_bytes(), &BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap())
                .unwrap();
            let claims = signed.split_once('.').unwrap().1;
            let claims: serde_json::Value =
                serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
            assert_eq!(claims["sub"], "pcc_a");
            assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), LASTS_SECONDS);
        }
    }

    #[tokio::test]
    async fn anything_else_is_refused() {
        let floor = floor();
        let grant = "grant_type=client_credentials";
        assert_eq!(ask(&floor, Some("pcc_a:wrong"), grant).await.0, StatusCode::UNAUTHORIZED);
        assert_eq!(ask(&floor, Some("pcc_b:pcs_b"), grant).await.0, StatusCode::UNAUTHORIZED);
        assert_eq!(ask(&floor, None, grant).await.0, StatusCode::UNAUTHORIZED);
        assert_eq!(ask(&floor, Some("pcc_a:pcs_b"), "grant_type=password").await.0, StatusCode::BAD_REQUEST);
    }
}
