//! What stands around a gateway: a server with TLS, an API that is registered, its backend.

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{Json, Router, extract::State, http::HeaderMap};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use portcullis_domain::accounts::Role;
use reqwest::{Certificate, Client, Method, StatusCode, redirect};
use serde_json::{Value, json};

use crate::support::{PASSWORD, Person, Program, World, cookie_of, json as json_of};

/// The API behind the gateway.
pub const ORDERS: &str = "https://orders.acme.example";

pub struct House {
    pub world: Option<World>,
    /// The issuer.
    pub url: String,
    pub port: u16,
    pub maria: Person,
    pub program: Program,
    /// The API, with its key.
    pub orders: Program,
    pub backend: Backend,
    /// The certificate that the server is trusted by.
    pub trusted: PathBuf,
    _folder: tempfile::TempDir,
}

impl House {
    pub async fn build() -> Self {
        let folder = tempfile::Builder::new().permissions(mode(0o755)).tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let file = |name: &str, text: String| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let trusted = file("certificate.pem", made.cert.pem());
        let key = file("key.pem", made.signing_key.serialize_pem());
        let settings = [
            ("tls_certificate", trusted.to_str().unwrap()),
            ("tls_key", key.to_str().unwrap()),
            ("public_url", "https://localhost:{port}"),
        ];
        let world = World::sqlite_of_now(&settings).await;
        let port = world.address.port();
        let url = format!("https://localhost:{port}");
        let root = Certificate::from_pem(made.cert.pem().as_bytes()).unwrap();
        let client = Client::builder().tls_certs_only([root]).redirect(redirect::Policy::none());
        let client = client.resolve("localhost", world.address).build().unwrap();

        let maria = signed_in(&world, &client, &url).await;
        let post = async |path: &str, body: Value| {
            let made = maria.request(Method::POST, path).json(&body).send().await.unwrap();
            assert_eq!(made.status(), StatusCode::CREATED, "{path}");
            json_of(made).await
        };
        let with = |made: &Value, id: &str, secret: &str| Program {
            client: client.clone(),
            url: url.clone(),
            client_id: made[id].as_str().unwrap().to_owned(),
            client_secret: made[secret].as_str().unwrap().to_owned(),
        };
        let made = post("/api/v1/users/me/credential/generate", json!({})).await;
        let program = with(&made, "client_id", "client_secret");
        let scopes = json!([{ "name": "orders:read", "description": "Read orders" },
                            { "name": "orders:write", "description": "Place orders" }]);
        let api = json!({ "name": "Orders", "identifier": ORDERS, "scopes": scopes, "lifespan_seconds": 3600 });
        let api = post("/api/v1/apis", api).await;
        let keys = format!("/api/v1/apis/{}/keys", api["id"].as_str().unwrap());
        let orders = with(&post(&keys, json!({ "older_key": "" })).await, "id", "secret");
        let backend = Backend::start().await;
        Self { world: Some(world), url, port, maria, program, orders, backend, trusted, _folder: folder }
    }

    /// A token for the API, with this scope (all, if empty).
    pub async fn token(&self, scope: &str) -> String {
        self.token_for(ORDERS, scope).await
    }

    pub async fn token_for(&self, resource: &str, scope: &str) -> String {
        let form = [("grant_type", "client_credentials"), ("resource", resource), ("scope", scope)];
        let answer = self.program.oauth("token", &form).await;
        assert_eq!(answer.status(), StatusCode::OK);
        json_of(answer).await["access_token"].as_str().unwrap().to_owned()
    }

    /// Binds a new key to the credential, as `portcullis credential bind-key` does, and gives the
    /// private one as PEM.
    pub async fn bind_key(&self) -> String {
        let pair = rcgen::KeyPair::generate().unwrap();
        let point = pair.public_key_raw();
        let jwk = json!({ "kty": "EC", "crv": "P-256",
                          "x": BASE64URL.encode(&point[1..33]), "y": BASE64URL.encode(&point[33..]) });
        let now =
            std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let id = &self.program.client_id;
        let claims = json!({ "iss": id, "sub": id, "aud": self.url, "iat": now, "exp": now + 60, "jti": "bind" });
        let key = EncodingKey::from_ec_der(pair.serialized_der());
        let proof = jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims, &key).unwrap();
        let bound = self.program.oauth("bind-key", &[("jwk", &jwk.to_string()), ("proof", &proof)]).await;
        assert_eq!(bound.status(), StatusCode::OK);
        pair.serialize_pem()
    }

    pub fn world(&self) -> &World {
        self.world.as_ref().expect("it still stands")
    }
}

pub fn mode(bits: u32) -> fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(bits)
}

async fn signed_in(world: &World, client: &Client, url: &str) -> Person {
    world.user("maria@acme.example", Role::SuperAdmin).await;
    let body = json!({ "email": "maria@acme.example", "password": PASSWORD });
    let opened = client.post(format!("{url}/api/v1/session")).json(&body).send().await.unwrap();
    assert_eq!(opened.status(), StatusCode::CREATED);
    Person { cookie: cookie_of(&opened).unwrap(), client: client.clone(), url: url.to_owned() }
}

/// An API that knows nothing of tokens: it answers with the headers that came, and counts.
pub struct Backend {
    pub port: u16,
    hits: Arc<AtomicUsize>,
}

impl Backend {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let hits = Arc::new(AtomicUsize::new(0));
        let router = Router::new().fallback(seen).with_state(Arc::clone(&hits));
        tokio::spawn(async { axum::serve(listener, router).await });
        Self { port, hits }
    }

    /// How many requests have come so far.
    pub fn hits(&self) -> usize {
        self.hits.load(Ordering::SeqCst)
    }
}

/// Each header that came, with all its values, and the body.
async fn seen(State(hits): State<Arc<AtomicUsize>>, headers: HeaderMap, body: String) -> Json<Value> {
    hits.fetch_add(1, Ordering::SeqCst);
    let mut all = serde_json::Map::new();
    for (name, value) in &headers {
        let list = all.entry(name.as_str()).or_insert_with(|| json!([]));
        list.as_array_mut().unwrap().push(String::from_utf8_lossy(value.as_bytes()).into());
    }
    Json(json!({ "headers": all, "body": body }))
}
