//! An authenticator in software: ES256, WebAuthn level 3 §6, with every part of an answer in reach
//! of a test that wants it wrong.
#![allow(clippy::disallowed_methods, reason = "an authenticator has randomness of its own")]

use aws_lc_rs::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use ciborium::Value as Cbor;
use serde_json::{Value, json};

use crate::{
    mfa::tab::{Page, Tab},
    support::World,
};

pub struct Authenticator {
    key: EcdsaKeyPair,
    pub credential_id: Vec<u8>,
    pub user: Vec<u8>,
    pub counter: u32,
    /// The origin that the browser around it says.
    pub origin: String,
    /// Whether it asked for a fingerprint.
    pub verifies: bool,
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    digest(&SHA256, bytes).as_ref().to_vec()
}

impl Authenticator {
    pub fn new(world: &World) -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let credential_id = sha256(key.public_key().as_ref());
        let origin = world.app.config.public_url.clone();
        Self { key, credential_id, user: Vec::new(), counter: 0, origin, verifies: true }
    }

    fn client_data(&self, kind: &str, challenge: &Value) -> Vec<u8> {
        let data = json!({
            "type": kind, "challenge": challenge, "origin": self.origin, "crossOrigin": false,
        });
        data.to_string().into_bytes()
    }

    fn data(&self, rp: &str, flags: u8) -> Vec<u8> {
        let mut data = sha256(rp.as_bytes());
        data.push(flags | 1 | if self.verifies { 4 } else { 0 });
        data.extend_from_slice(&self.counter.to_be_bytes());
        data
    }

    /// Makes a passkey, as `navigator.credentials.create` does.
    pub fn make(&mut self, options: &str) -> String {
        let options: Value = serde_json::from_str(options).unwrap();
        let asked = &options["publicKey"];
        assert_eq!(asked["authenticatorSelection"]["residentKey"], "required");
        assert_eq!(asked["authenticatorSelection"]["userVerification"], "required");
        self.user = BASE64URL.decode(asked["user"]["id"].as_str().unwrap()).unwrap();
        let mut data = self.data(asked["rp"]["id"].as_str().unwrap(), 0x40);
        data.extend_from_slice(&[0; 16]);
        data.extend_from_slice(&u16::try_from(self.credential_id.len()).unwrap().to_be_bytes());
        data.extend_from_slice(&self.credential_id);
        let point = self.key.public_key().as_ref();
        let public = Cbor::Map(vec![
            (1.into(), 2.into()),
            (3.into(), (-7).into()),
            ((-1).into(), 1.into()),
            ((-2).into(), Cbor::Bytes(point[1..33].to_vec())),
            ((-3).into(), Cbor::Bytes(point[33..65].to_vec())),
        ]);
        ciborium::into_writer(&public, &mut data).unwrap();
        let mut attestation = Vec::new();
        let object = Cbor::Map(vec![
            ("fmt".into(), "none".into()),
            ("attStmt".into(), Cbor::Map(Vec::new())),
            ("authData".into(), Cbor::Bytes(data)),
        ]);
        ciborium::into_writer(&object, &mut attestation).unwrap();
        let id = BASE64URL.encode(&self.credential_id);
        let client = self.client_data("webauthn.create", &asked["challenge"]);
        json!({
            "id": id, "rawId": id, "type": "public-key", "extensions": {},
            "response": {
                "attestationObject": BASE64URL.encode(attestation), "clientDataJSON": BASE64URL.encode(client),
            },
        })
        .to_string()
    }

    /// Signs a challenge, as `navigator.credentials.get` does.
    pub fn answer(&mut self, options: &str) -> String {
        let options: Value = serde_json::from_str(options).unwrap();
        let asked = &options["publicKey"];
        assert_eq!(asked["userVerification"], "required");
        self.counter += 1;
        let data = self.data(asked["rpId"].as_str().unwrap(), 0);
        let client = self.client_data("webauthn.get", &asked["challenge"]);
        let signed = [data.clone(), sha256(&client)].concat();
        let signature = self.key.sign(&SystemRandom::new(), &signed).unwrap();
        let id = BASE64URL.encode(&self.credential_id);
        json!({
            "id": id, "rawId": id, "type": "public-key", "extensions": {},
            "response": {
                "authenticatorData": BASE64URL.encode(data), "clientDataJSON": BASE64URL.encode(client),
                "signature": BASE64URL.encode(signature), "userHandle": BASE64URL.encode(&self.user),
            },
        })
        .to_string()
    }
}

impl Tab {
    /// Gives a code, so that another passkey may be added.
    pub async fn begin_passkey(&mut self, code: &str) {
        let page = self.post("/account/mfa/passkey/begin", &[("code", code)]).await;
        assert_eq!(page.to, "/account/mfa/passkey", "{}", page.text);
    }

    /// Adds a passkey to the account that is signed in.
    pub async fn add_passkey(&mut self, authenticator: &mut Authenticator, name: &str) -> Page {
        let page = self.get("/account/mfa/passkey").await;
        let options = page.attribute("data-passkey-new").unwrap_or_else(|| panic!("{}", page.text));
        let agreed = page.attribute("name=\"agreed\" value").unwrap_or_default();
        let credential = authenticator.make(&options);
        let form = [("name", name), ("credential", &credential), ("agreed", &agreed)];
        self.post("/account/mfa/passkey", &form).await
    }

    /// Answers the question of a page, and sends the form there.
    pub async fn use_passkey(&mut self, authenticator: &mut Authenticator, path: &str) -> Page {
        self.use_passkey_of(authenticator, path, path).await
    }

    /// Answers the question of a page, and sends the form to another address.
    pub async fn use_passkey_of(&mut self, authenticator: &mut Authenticator, path: &str, action: &str) -> Page {
        let page = self.get(path).await;
        let options = page.attribute("data-passkey-ask").unwrap_or_else(|| panic!("{path}: {}", page.text));
        let credential = authenticator.answer(&options);
        self.post(action, &[("credential", &credential)]).await
    }
}
