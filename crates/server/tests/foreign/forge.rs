//! Tokens that the server would never issue.

use aws_lc_rs::hmac;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use portcullis_domain::secret::ExposeSecret;
use portcullis_store::{Database, Purpose, Sealed};
use serde_json::{Value, json};
use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};

use crate::house::House;

pub fn claims(token: &str) -> Value {
    jsonwebtoken::dangerous::insecure_decode(token).unwrap().claims
}

/// The claims of a token under an id that is on no record, with some of them replaced; a null
/// takes one away.
pub fn changed(token: &str, changes: Value) -> Value {
    let mut claims = claims(token);
    claims["jti"] = "01a212f1-0000-7000-8000-000000000000".into();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => claims.as_object_mut().unwrap().remove(name),
            value => claims.as_object_mut().unwrap().insert(name.clone(), value.clone()),
        };
    }
    claims
}

/// Claims signed with the key of the server that signed `good`, under a header of this type.
pub async fn signed(house: &House, good: &str, typ: &str, claims: &Value) -> String {
    let kid = jsonwebtoken::decode_header(good).unwrap().kid.unwrap();
    let Database::Sqlite(path) = &house.world().database else { panic!("a House stands on SQLite") };
    let options = SqliteConnectOptions::new().filename(path).read_only(true);
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
    let found = sqlx::query_as("SELECT sealed, sealed_by FROM signing_keys WHERE kid = $1").bind(&kid);
    let (bytes, key_id): (Vec<u8>, String) = found.fetch_one(&mut connection).await.unwrap();
    let keys = house.world().app.store.keys();
    let document = keys.open(Purpose::SigningKey, &kid, &Sealed { key_id, bytes }).unwrap();
    let header = Header { typ: Some(typ.to_owned()), kid: Some(kid), ..Header::new(Algorithm::ES256) };
    jsonwebtoken::encode(&header, claims, &EncodingKey::from_ec_der(document.expose_secret())).unwrap()
}

/// The same claims under a header of our own with a signature of our own.
pub fn resigned(token: &str, header: &Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let claims = token.split('.').nth(1).unwrap();
    let message = format!("{}.{claims}", BASE64URL.encode(header.to_string()));
    let signature = BASE64URL.encode(sign(message.as_bytes()));
    format!("{message}.{signature}")
}

/// HS256 with what everybody knows of the public key: as PEM, as JWK, as its point.
pub async fn with_the_public_key(house: &House, token: &str) -> Vec<String> {
    let jwks = house.maria.client.get(format!("{}/.well-known/jwks.json", house.url));
    let jwks = jwks.send().await.unwrap().json::<Value>().await.unwrap();
    let kid = jsonwebtoken::decode_header(token).unwrap().kid.unwrap();
    let jwk = jwks["keys"].as_array().unwrap().iter().find(|jwk| jwk["kid"] == *kid).unwrap().clone();
    let part = |name: &str| BASE64URL.decode(jwk[name].as_str().unwrap()).unwrap();
    let point = [&[4][..], &part("x"), &part("y")].concat();
    let start = b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00";
    let spki = base64::prelude::BASE64_STANDARD.encode([&start[..], &point].concat());
    let (one, two) = spki.split_at(64);
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{one}\n{two}\n-----END PUBLIC KEY-----\n");
    let header = json!({ "alg": "HS256", "typ": "at+jwt", "kid": jwk["kid"] });
    let secrets = [pem.into_bytes(), jwk.to_string().into_bytes(), point];
    let sign = |secret: Vec<u8>| {
        resigned(token, &header, |message| {
            hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), message).as_ref().to_vec()
        })
    };
    secrets.into_iter().map(sign).collect()
}
