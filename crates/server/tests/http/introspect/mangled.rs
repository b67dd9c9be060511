//! Protocol 20: texts that look like tokens. Each is refused at introspection and at the API.
//!
//! Many of them carry a right signature: they are made with a signing key that the test put into
//! the store, so that only what is odd about them can be the reason.

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
        KeyPair,
    },
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use jiff::SignedDuration;
use jsonwebtoken::{Algorithm as JwtAlgorithm, EncodingKey, Header};
use portcullis_domain::{
    accounts::Role,
    keys::{Algorithm, Life, PublicKey, SigningKey},
};
use portcullis_store::{Purpose, StoredKey};
use reqwest::{Method, StatusCode};
use serde_json::Value;

use super::DEAD;
use crate::support::{Program, World, header_of, on_both};

on_both! {
    protocol20_alg_none_and_hmac_with_the_public_key_are_refused
    protocol20_a_header_that_is_not_exactly_ours_is_refused_even_with_a_right_signature
    protocol20_a_token_that_names_another_client_is_refused_even_with_a_right_signature
    protocol20_claims_that_are_not_exactly_ours_are_refused_even_with_a_right_signature
    protocol20_a_signature_by_another_key_or_in_another_form_is_refused
    protocol20_every_proper_prefix_and_any_addition_is_refused
}

/// A node whose active key the test holds too, and a good token of it.
struct Forge {
    node: World,
    program: Program,
    other: Program,
    document: Vec<u8>,
    kid: String,
    header: String,
    claims: String,
}

fn make_document() -> Vec<u8> {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    pair.to_pkcs8v1().unwrap().as_ref().to_vec()
}

fn pair(document: &[u8], algorithm: &'static EcdsaSigningAlgorithm) -> EcdsaKeyPair {
    EcdsaKeyPair::from_pkcs8(algorithm, document).unwrap()
}

fn public(document: &[u8]) -> String {
    let pair = pair(document, &ECDSA_P256_SHA256_FIXED_SIGNING);
    let point = pair.public_key().as_ref();
    PublicKey::Ec { x: BASE64URL.encode(&point[1..33]), y: BASE64URL.encode(&point[33..65]) }.canonical()
}

#[expect(clippy::disallowed_methods, reason = "nonces of signatures are the library's business")]
fn signature(document: &[u8], algorithm: &'static EcdsaSigningAlgorithm, message: &str) -> String {
    let signed = pair(document, algorithm).sign(&SystemRandom::new(), message.as_bytes()).unwrap();
    BASE64URL.encode(signed.as_ref())
}

impl Forge {
    async fn new(world: &World) -> Self {
        let program = world.maria().await.generate().await;
        let other = world.person("joao@acme.example", Role::SuperAdmin).await.generate().await;
        world.pass(SignedDuration::from_secs(1));
        let (document, kid) = (make_document(), "the-forge".to_owned());
        let keys = world.app.store.keys();
        let sealed = Some(keys.seal(Purpose::SigningKey, &kid, &document, [9; 12]));
        let public = Some(keys.seal(Purpose::PublicKey, &kid, public(&document).as_bytes(), [9; 12]));
        world.sql("DELETE FROM signing_keys").await;
        let mut tx = world.app.store.write().await.unwrap();
        let life = Life::new(world.clock.now(), Some(world.clock.now()));
        let key = SigningKey { kid: kid.clone(), algorithm: Algorithm::Es256, life, longest_seconds: 60 };
        tx.add_signing_key(&StoredKey { key, public, sealed }).await.unwrap();
        tx.commit().await.unwrap();
        let node = world.another_node().await;
        let program = program.at(&node);
        let token = program.token().await;
        let part = |n| String::from_utf8(BASE64URL.decode(token.split('.').nth(n).unwrap()).unwrap()).unwrap();
        let (header, claims) = (part(0), part(1));
        assert!(header.contains(&kid), "the node signs with the key that is active");
        let forge = Self { other: other.at(&node), node, program, document, kid, header, claims };
        forge.is_good(&forge.sign(&forge.header, &forge.claims)).await;
        forge
    }

    /// A text with a right signature.
    fn sign(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", BASE64URL.encode(header), BASE64URL.encode(claims));
        let signature = signature(&self.document, &ECDSA_P256_SHA256_FIXED_SIGNING, &message);
        format!("{message}.{signature}")
    }

    /// The header or the claims with one member set, or removed.
    fn with(text: &str, name: &str, value: &Value) -> String {
        let mut object: serde_json::Map<String, Value> = serde_json::from_str(text).unwrap();
        if value.is_null() {
            object.remove(name).unwrap();
        } else {
            object.insert(name.to_owned(), value.clone());
        }
        Value::Object(object).to_string()
    }

    async fn is_good(&self, token: &str) {
        assert!(self.program.is_active(token).await, "{token}");
        let me = self.program.with(token, Method::GET, "/api/v1/me").send().await.unwrap();
        assert_eq!(me.status(), StatusCode::OK, "{token}");
    }

    async fn is_refused(&self, token: &str, why: &str) {
        assert_eq!(super::said_of(&self.program, token).await, DEAD, "{why}: {token}");
        let me = self.program.with(token, Method::GET, "/api/v1/me").send().await.unwrap();
        assert_eq!(me.status(), StatusCode::UNAUTHORIZED, "{why}: {token}");
        assert!(header_of(&me, "www-authenticate").contains("error=\"invalid_token\""), "{why}");
    }
}

async fn protocol20_alg_none_and_hmac_with_the_public_key_are_refused(world: World) {
    let forge = Forge::new(&world).await;
    let claims = BASE64URL.encode(&forge.claims);
    for alg in ["none", "None", "NONE", "nOnE", ""] {
        for header in [
            format!(r#"{{"alg":"{alg}","typ":"at+jwt","kid":"{}"}}"#, forge.kid),
            format!(r#"{{"alg":"{alg}","typ":"at+jwt"}}"#),
            format!(r#"{{"alg":"{alg}"}}"#),
        ] {
            forge.is_refused(&format!("{}.{claims}.", BASE64URL.encode(&header)), "no signature").await;
            forge.is_refused(&forge.sign(&header, &forge.claims), "none, but signed").await;
        }
    }
    let point = pair(&forge.document, &ECDSA_P256_SHA256_FIXED_SIGNING).public_key().as_ref().to_vec();
    let jwks = forge.node.stranger().request(Method::GET, "/.well-known/jwks.json").send().await.unwrap();
    let jwks = jwks.text().await.unwrap();
    let keys: Value = serde_json::from_str(&jwks).unwrap();
    let jwk = keys["keys"].as_array().unwrap().iter().find(|k| k["kid"] == *forge.kid).unwrap().to_string();
    let claims: Value = serde_json::from_str(&forge.claims).unwrap();
    for algorithm in [JwtAlgorithm::HS256, JwtAlgorithm::HS384, JwtAlgorithm::HS512] {
        for secret in [&point[..], &point[1..], jwk.as_bytes(), jwks.as_bytes(), b""] {
            let mut header = Header::new(algorithm);
            (header.typ, header.kid) = (Some("at+jwt".to_owned()), Some(forge.kid.clone()));
            let token = jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(secret)).unwrap();
            forge.is_refused(&token, "HMAC with what is public").await;
        }
    }
    forge.is_good(&forge.sign(&forge.header, &forge.claims)).await;
}

async fn protocol20_a_header_that_is_not_exactly_ours_is_refused_even_with_a_right_signature(world: World) {
    let forge = Forge::new(&world).await;
    use serde_json::json as own;
    for (name, value) in [
        ("jku", own!("https://evil.example/jwks.json")),
        ("jwk", own!({ "kty": "EC", "crv": "P-256", "x": "AA", "y": "AA" })),
        ("x5u", own!("https://evil.example/chain.pem")),
        ("x5c", own!(["MIIB"])),
        ("x5t", own!("AA")),
        ("crit", own!(["b64"])),
        ("crit", own!([])),
        ("crit", own!(["exp"])),
        ("b64", own!(false)),
        ("zip", own!("DEF")),
        ("cty", own!("JWT")),
        ("enc", own!("A256GCM")),
        ("unknown", own!(1)),
        ("typ", own!("JWT")),
        ("typ", own!("jwt")),
        ("typ", own!("dpop+jwt")),
        ("typ", own!("logout+jwt")),
        ("typ", own!("statuslist+jwt")),
        ("typ", own!("")),
        ("typ", own!(["at+jwt"])),
        ("typ", Value::Null),
        ("alg", own!("ES384")),
        ("alg", own!("RS256")),
        ("alg", own!("es256")),
        ("alg", own!(["ES256"])),
        ("alg", Value::Null),
        ("kid", own!("unknown")),
        ("kid", own!("")),
        ("kid", own!("../../the-forge")),
        ("kid", own!(1)),
        ("kid", Value::Null),
    ] {
        let header = Forge::with(&forge.header, name, &value);
        forge.is_refused(&forge.sign(&header, &forge.claims), &header).await;
    }
    for (from, to) in [
        (r#""alg":"ES256""#, r#""alg":"ES256","alg":"ES256""#),
        (r#""alg":"ES256""#, r#""alg":"none","alg":"ES256""#),
        (r#""typ":"at+jwt""#, r#""typ":"at+jwt","typ":"at+jwt""#),
        (r#""typ":"at+jwt""#, r#""typ":"at+jwt","\u0074yp":"JWT""#),
        ("{", "[{"),
        ("}", "}{}"),
        ("}", ""),
    ] {
        let header = forge.header.replace(from, to);
        assert_ne!(header, forge.header);
        forge.is_refused(&forge.sign(&header, &forge.claims), &header).await;
    }
    let twice = forge.header.replace('}', &format!(r#","kid":"{}"}}"#, forge.kid));
    forge.is_refused(&forge.sign(&twice, &forge.claims), &twice).await;
    forge.is_good(&forge.sign(&forge.header, &forge.claims)).await;
}

/// What a token claims is asked for in the database, too, before its signature is looked at.
async fn protocol20_a_token_that_names_another_client_is_refused_even_with_a_right_signature(world: World) {
    let forge = Forge::new(&world).await;
    let claims: Value = serde_json::from_str(&forge.claims).unwrap();
    let own = claims["client_id"].as_str().unwrap();
    for named in [
        forge.other.client_id.as_str(),
        "",
        "pcc_00000000000000000000",
        "pcc_11111111111111111111",
        &format!("{own}\0"),
        &format!("{own}{}", "0".repeat(5000)),
        &own.to_uppercase(),
    ] {
        let claims = Forge::with(&forge.claims, "client_id", &Value::from(named));
        forge.is_refused(&forge.sign(&forge.header, &claims), &claims).await;
    }
}

async fn protocol20_claims_that_are_not_exactly_ours_are_refused_even_with_a_right_signature(world: World) {
    let forge = Forge::new(&world).await;
    // Without a scope it is what an API without scopes gets, and opens nothing that needs one.
    let bare = forge.sign(&forge.header, &Forge::with(&forge.claims, "scope", &Value::Null));
    for path in ["/api/v1/users", "/api/v1/audit", "/api/v1/apis"] {
        let response = forge.program.with(&bare, Method::GET, path).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::FORBIDDEN, "{path}");
    }
    use serde_json::json as own;
    let claims: Value = serde_json::from_str(&forge.claims).unwrap();
    let (url, exp) = (world.url.as_str(), claims["exp"].as_i64().unwrap());
    for (name, value) in [
        ("exp", own!(exp.to_string())),
        ("exp", own!(format!("{exp}0"))),
        ("exp", own!([exp])),
        ("exp", own!(true)),
        ("exp", Value::Null),
        ("iat", own!("0")),
        ("iat", Value::Null),
        ("aud", own!("https://elsewhere.example/api/v1")),
        ("aud", own!(url)),
        ("aud", own!(format!("{url}/api/v1/"))),
        ("aud", own!([format!("{url}/api/v1")])),
        ("aud", own!([format!("{url}/api/v1"), "https://elsewhere.example"])),
        ("aud", Value::Null),
        ("iss", own!("https://evil.example")),
        ("iss", own!(format!("{url}/"))),
        ("iss", own!(url.to_uppercase())),
        ("iss", own!(format!("{url}@evil.example"))),
        ("iss", Value::Null),
        ("jti", own!("00000000-0000-7000-8000-000000000000")),
        ("jti", own!("x")),
        ("jti", Value::Null),
        ("client_id", own!(["x"])),
        ("client_id", Value::Null),
        ("sub", Value::Null),
        ("scope", own!(["users:read"])),
        ("nbf", own!(0)),
        ("cnf", own!({ "jkt": "x", "x5t#S256": "x" })),
        ("act", own!({ "sub": "admin" })),
        ("later", own!(1)),
        ("cnf", own!({ "x5t#S256": "x" })),
        ("status", own!({ "status_list": { "idx": "3", "uri": url } })),
    ] {
        let claims = Forge::with(&forge.claims, name, &value);
        forge.is_refused(&forge.sign(&forge.header, &claims), &claims).await;
    }
    for (name, value) in claims.as_object().unwrap() {
        let twice = forge.claims.replace('}', &format!(r#","{name}":{value}}}"#));
        forge.is_refused(&forge.sign(&forge.header, &twice), &twice).await;
    }
    for text in ["", "{}", "[]", "null", "\"\"", "\u{feff}{}", "{\"exp\":1e400}"] {
        forge.is_refused(&forge.sign(&forge.header, text), text).await;
    }
    forge.is_refused(&forge.sign(&forge.header, &format!("{} {{}}", forge.claims)), "two objects").await;
    forge.is_good(&forge.sign(&forge.header, &forge.claims)).await;
    // The record decides when a token ends, not what it says of itself.
    let longer = Forge::with(&forge.claims, "exp", &own!(exp + 1_000_000));
    world.pass(SignedDuration::from_hours(24));
    forge.is_refused(&forge.sign(&forge.header, &longer), "ended").await;
}

async fn protocol20_a_signature_by_another_key_or_in_another_form_is_refused(world: World) {
    let forge = Forge::new(&world).await;
    // Signatures are random; one in fifteen has neither character that tells the alphabets apart.
    let good = loop {
        let token = forge.sign(&forge.header, &forge.claims);
        if token.rsplit_once('.').unwrap().1.contains(['-', '_']) {
            break token;
        }
    };
    let (message, right) = good.rsplit_once('.').unwrap();
    let other = make_document();
    let by_other = signature(&other, &ECDSA_P256_SHA256_FIXED_SIGNING, message);
    forge.is_refused(&format!("{message}.{by_other}"), "another key under the same kid").await;
    let der = signature(&forge.document, &ECDSA_P256_SHA256_ASN1_SIGNING, message);
    forge.is_refused(&format!("{message}.{der}"), "DER").await;
    let zeroes = BASE64URL.encode([0u8; 64]);
    forge.is_refused(&format!("{message}.{zeroes}"), "r = s = 0").await;
    forge.is_refused(&format!("{message}.{right}=="), "padded").await;
    forge
        .is_refused(&format!("{message}.{}", right.replace('-', "+").replace('_', "/")), "another alphabet")
        .await;
    let mut loose = right.to_owned();
    let last = loose.pop().unwrap();
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let next = alphabet.find(last).unwrap() + 1;
    loose.push_str(&alphabet[next..=next]);
    forge.is_refused(&format!("{message}.{loose}"), "bits behind the last byte").await;
    let elsewhere = World::sqlite(&[]).await;
    let token = elsewhere.maria().await.generate().await.token().await;
    forge.is_refused(&token, "of another installation").await;
    forge.is_good(&good).await;
}

async fn protocol20_every_proper_prefix_and_any_addition_is_refused(world: World) {
    let program = world.maria().await.generate().await;
    let token = program.token().await;
    let ask = |text: String| {
        let program = program.clone();
        async move {
            assert_eq!(super::said_of(&program, &text).await, DEAD, "{text}");
            let me = program.with(&text, Method::GET, "/api/v1/me").send().await.unwrap();
            assert_eq!(me.status(), StatusCode::UNAUTHORIZED, "{text}");
        }
    };
    for end in 1..token.len() {
        ask(token[..end].to_owned()).await;
    }
    for text in [
        format!("{token}."),
        format!("{token}x"),
        format!("{token}.{token}"),
        format!("{token}..."),
        format!(".{token}"),
        token.replacen('.', "..", 1),
        token.replacen('.', "", 1),
        token.to_lowercase(),
        token.split('.').rev().collect::<Vec<_>>().join("."),
        "x".repeat(10_000),
    ] {
        ask(text).await;
    }
    assert!(program.is_active(&token).await);
}
