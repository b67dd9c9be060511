//! Public keys in place of the Client Secret: bound, replaced, removed (C-14 to C-16).

mod assertions;
mod with_secret;

use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    rand::SystemRandom,
    rsa,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
        RsaPublicKeyComponents,
    },
};
use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD as BASE64URL},
};
use jiff::SignedDuration;
use portcullis_domain::{
    accounts::Role,
    credentials::{RevocationReason, Standing},
    sessions::Opened,
};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

use crate::support::{PASSWORD, Person, Program, World, header_of, json as json_of, oauth_error, on_both};

on_both! {
    c14_the_owner_binds_replaces_and_removes_a_key_and_is_told
    c14_a_private_key_is_refused_by_its_name_and_not_shown_again
    c14_what_is_not_a_key_that_signs_is_refused_at_the_field
    c14_a_federated_login_a_suspended_credential_and_another_s_are_refused
    c14_an_old_password_is_asked_for_again_and_the_key_is_kept
    c14_a_page_of_another_credential_changes_nothing
    c15_with_the_secret_off_the_key_alone_gets_tokens_and_stays
    c16_the_key_goes_with_the_credential
    c11_a_key_that_is_replaced_stops_on_every_node_while_requests_come
    c14_of_a_race_each_change_is_whole
}

pub const KEY: &str = "/account/credentials/key";

/// A key pair of a program.
pub enum Key {
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(RsaKeyPair),
}

impl Key {
    pub fn p256(_: u8) -> Self {
        Self::P256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    pub fn ed25519() -> Self {
        Self::Ed25519(Ed25519KeyPair::generate().unwrap())
    }

    pub fn rsa() -> Self {
        Self::Rsa(RsaKeyPair::generate(rsa::KeySize::Rsa2048).unwrap())
    }

    pub fn algorithm(&self) -> &'static str {
        match self {
            Self::P256(_) => "ES256",
            Self::Ed25519(_) => "EdDSA",
            Self::Rsa(_) => "RS256",
        }
    }

    /// The public key as a JWK.
    pub fn members(&self) -> Value {
        let enc = |bytes: &[u8]| BASE64URL.encode(bytes);
        match self {
            Self::P256(pair) => {
                let point = pair.public_key().as_ref();
                json!({ "kty": "EC", "crv": "P-256", "x": enc(&point[1..33]), "y": enc(&point[33..]) })
            }
            Self::Ed25519(pair) => json!({ "kty": "OKP", "crv": "Ed25519", "x": enc(pair.public_key().as_ref()) }),
            Self::Rsa(pair) => {
                let parts = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public_key());
                json!({ "kty": "RSA", "n": enc(&parts.n), "e": enc(&parts.e) })
            }
        }
    }

    pub fn jwk(&self) -> String {
        self.members().to_string()
    }

    pub fn pem(&self) -> String {
        let der: PublicKeyX509Der<'_> = match self {
            Self::P256(pair) => pair.public_key().as_der().unwrap(),
            Self::Ed25519(pair) => pair.public_key().as_der().unwrap(),
            Self::Rsa(pair) => pair.public_key().as_der().unwrap(),
        };
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", BASE64_STANDARD.encode(der.as_ref()))
    }

    pub fn thumbprint(&self) -> String {
        portcullis_verify::jwk::PublicJwk::from_json(&self.jwk()).unwrap().thumbprint()
    }

    /// A token in compact serialisation, signed.
    #[expect(clippy::disallowed_methods, reason = "nonces of signatures are the library's business")]
    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        let signed = format!("{}.{}", BASE64URL.encode(header.to_string()), BASE64URL.encode(claims.to_string()));
        let signature = match self {
            Self::P256(pair) => pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap().as_ref().to_vec(),
            Self::Ed25519(pair) => pair.sign(signed.as_bytes()).as_ref().to_vec(),
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature).unwrap();
                signature
            }
        };
        format!("{signed}.{}", BASE64URL.encode(signature))
    }

    /// A good assertion of a client.
    pub fn assertion(&self, world: &World, client_id: &str) -> String {
        self.sign(&json!({ "alg": self.algorithm() }), &claims(world, client_id))
    }
}

/// The claims of a good assertion, with an id of its own.
pub fn claims(world: &World, client_id: &str) -> Value {
    let now = world.clock.now().as_second();
    let issuer = &world.app.config.public_url;
    json!({ "iss": client_id, "sub": client_id, "aud": issuer, "exp": now + 60, "jti": world.clock.id() })
}

/// Does one of the acts of the tab.
pub async fn change(person: &Person, program: &Program, act: &str, key: &str) -> Response {
    let form = [("client_id", program.client_id.as_str()), ("key", key)];
    person.post(&format!("/account/credentials/{act}"), &form).await
}

/// Binds a key, which must be taken.
pub async fn bind(person: &Person, program: &Program, key: &Key) {
    let done = change(person, program, "key", &key.jwk()).await;
    assert_eq!(
        (done.status(), header_of(&done, "location")),
        (StatusCode::SEE_OTHER, "/account/credentials?done=key-bound")
    );
}

/// Sends an assertion to an endpoint, with these parameters besides.
pub async fn assert_at(url: &str, endpoint: &str, assertion: &str, more: &[(&str, &str)]) -> Response {
    let kind = portcullis_domain::client_keys::ASSERTION_TYPE;
    let mut form = vec![("client_assertion", assertion), ("client_assertion_type", kind)];
    form.extend_from_slice(more);
    reqwest::Client::new().post(format!("{url}/oauth/{endpoint}")).form(&form).send().await.unwrap()
}

pub const GRANT: (&str, &str) = ("grant_type", "client_credentials");

/// A token request with an assertion.
pub async fn ask(world: &World, assertion: &str) -> Response {
    assert_at(&world.url, "token", assertion, &[GRANT]).await
}

async fn gets_a_token(world: &World, program: &Program, key: &Key) -> bool {
    ask(world, &key.assertion(world, &program.client_id)).await.status() == StatusCode::OK
}

async fn c14_the_owner_binds_replaces_and_removes_a_key_and_is_told(world: World) {
    let maria = world.maria().await;
    let program = maria.generate().await;
    let mark = world.last_record().await;
    assert!(maria.page("/account/credentials").await.1.contains("Bind a public key"));
    for key in [Key::p256(1), Key::ed25519(), Key::rsa()] {
        world.pass(SignedDuration::from_secs(1));
        let text = if key.algorithm() == "RS256" { key.pem() } else { key.jwk() };
        let done = change(&maria, &program, "key", &text).await;
        assert_eq!(done.status(), StatusCode::SEE_OTHER);
        let (_, page) = maria.page("/account/credentials?done=key-bound").await;
        assert!(page.contains(&key.thumbprint()) && page.contains("The public key is bound."), "{page}");
        assert!(page.contains(key.algorithm()));
        assert!(gets_a_token(&world, &program, &key).await, "{}", key.algorithm());
        let (_, page) = maria.page("/account/credentials").await;
        assert!(page.contains("with the private key"), "C-13: by which method it was used");
    }
    world.pass(SignedDuration::from_secs(1));
    assert_eq!(program.ask().await.status(), StatusCode::OK, "the secret goes on working");
    assert!(maria.page("/account/credentials/use").await.1.contains("with the Client Secret"));
    let view = json_of(maria.get("/api/v1/users/me/credential").await).await;
    assert_eq!((&view["secret_works"], &view["last_used_method"]), (&true.into(), &"client_secret".into()));
    let last = view["key"]["thumbprint"].as_str().unwrap().to_owned();
    let done = change(&maria, &program, "key/remove", "").await;
    assert_eq!(header_of(&done, "location"), "/account/credentials?done=key-removed");
    assert!(maria.page("/account/credentials?done=key-removed").await.1.contains("The public key is removed."));
    let view = json_of(maria.get("/api/v1/users/me/credential").await).await;
    assert_eq!(view.get("key"), None);

    let records = world.records_after(mark).await;
    let told: Vec<_> = records.iter().map(|r| (r.event.as_str(), r.subject.as_str())).collect();
    let id = program.client_id.as_str();
    assert_eq!(told[..2], [("credential_key.bind", id), ("credential_key.bind", id)]);
    assert_eq!(told[3], ("credential_key.remove", id));
    let details: Value = serde_json::from_str(&records[2].details).unwrap();
    assert!(details["replaced"].is_string() && details["thumbprint"] == *last, "{details}");
    let mails = world.mails().await;
    let mails: Vec<_> = mails.iter().filter(|m| m.subject == format!("Credentials changed: {id}")).collect();
    assert_eq!(mails.len(), 4);
    assert!(mails[0].text.contains("was bound to the credential") && mails[0].text.contains("in the console"));
    assert!(mails[1].text.contains("does not work any more") && mails[3].text.contains("was removed"));
    assert!(
        mails.iter().all(|m| m.text.contains("revoke the credential at once")),
        "what to do if it was not you"
    );
}

async fn c14_a_private_key_is_refused_by_its_name_and_not_shown_again(world: World) {
    let maria = world.maria().await;
    let program = maria.generate().await;
    let mark = world.last_record().await;
    let mut private = Key::p256(1).members();
    private["d"] = json!("CanaryPrivateCanaryPrivateCanaryPrivateCana");
    let pem = "-----BEGIN PRIVATE KEY-----\nCanaryPrivate\n-----END PRIVATE KEY-----\n";
    let ec = pem.replace("PRIVATE", "EC PRIVATE");
    for (text, words) in [
        (private.to_string(), "This is a private key."),
        (pem.to_owned(), "This is a private key."),
        (ec, "This is a private key."),
        (pem.replace("PRIVATE KEY", "CanaryPrivate"), "This is not a public key"),
        (r#"{"kty":"oct","k":"CanaryPrivate"}"#.to_owned(), "This is a shared secret."),
    ] {
        let refused = change(&maria, &program, "key", &text).await;
        assert_eq!(refused.status(), StatusCode::UNPROCESSABLE_ENTITY, "{text}");
        let page = refused.text().await.unwrap();
        assert!(page.contains(words) && page.contains("id=\"key-error\""), "{page}");
        assert!(!page.contains("CanaryPrivate"), "L-2: what was pasted is not shown again");
    }
    assert_eq!(world.told_after(mark).await, Vec::<String>::new());
}

async fn c14_what_is_not_a_key_that_signs_is_refused_at_the_field(world: World) {
    let maria = world.maria().await;
    let program = maria.generate().await;
    let mut other_use = Key::p256(1).members();
    other_use["use"] = json!("enc");
    let weak = RsaPublicKeyComponents { n: vec![0xff; 128], e: vec![1, 0, 1] };
    let weak = json!({ "kty": "RSA", "n": BASE64URL.encode(weak.n), "e": BASE64URL.encode(weak.e) });
    for text in [
        String::new(),
        "hello".to_owned(),
        json!({ "kty": "EC", "crv": "P-384", "x": "AA", "y": "AA" }).to_string(),
        json!({ "kty": "EC", "crv": "P-256", "x": "AA", "y": "AA" }).to_string(),
        json!({ "keys": [Key::p256(1).members()] }).to_string(),
        other_use.to_string(),
        weak.to_string(),
        format!("{}{}", Key::p256(1).pem(), Key::p256(1).pem()),
        "x".repeat(20_000),
    ] {
        let refused = change(&maria, &program, "key", &text).await;
        assert_eq!(refused.status(), StatusCode::UNPROCESSABLE_ENTITY, "{text}");
        assert!(refused.text().await.unwrap().contains("id=\"key-error\""), "{text}");
    }
    assert!(maria.page("/account/credentials").await.1.contains("No public key is bound"));
}

async fn c14_a_federated_login_a_suspended_credential_and_another_s_are_refused(world: World) {
    let maria = world.maria().await;
    let program = maria.generate().await;
    let user = world.user_of("maria@acme.example").await;
    let federated = world.session_opened(&user, Opened::Provider).await;
    let joao = world.person("joao@acme.example", Role::SuperAdmin).await;
    let ana = world.person("ana@acme.example", Role::User).await;
    let mark = world.last_record().await;
    let key = Key::p256(1).jwk();
    for (person, status, words) in [
        (&federated, StatusCode::FORBIDDEN, "federated login"),
        (&joao, StatusCode::CONFLICT, "You have no active credential."),
        (&ana, StatusCode::FORBIDDEN, "Only a Super Admin"),
    ] {
        let refused = change(person, &program, "key", &key).await;
        assert_eq!(refused.status(), status);
        assert!(refused.text().await.unwrap().contains(words), "{words}");
    }
    assert!(federated.page("/account/credentials").await.1.contains("from a federated login"));
    world.change(&user, |s| s.mfa_since = Some(world.clock.now())).await;
    let (status, page) = maria.page(KEY).await;
    assert!(status == StatusCode::FORBIDDEN && page.contains("Turn MFA off before changing it."), "{page}");
    assert_eq!(change(&maria, &program, "key", &key).await.status(), StatusCode::FORBIDDEN);
    let expected = ["federated_login", "not_active", "not_super_admin", "mfa_on"];
    let expected: Vec<String> = expected.iter().map(|w| format!("credential_key.bind refused {w}")).collect();
    assert_eq!(world.told_after(mark).await, expected, "L-1");
    // T-4: a token reaches none of it.
    let with_token = program.client.post(format!("{}{KEY}", world.url)).bearer_auth("x").send().await.unwrap();
    assert_eq!(with_token.status(), StatusCode::UNAUTHORIZED);
}

async fn c14_an_old_password_is_asked_for_again_and_the_key_is_kept(world: World) {
    let maria = world.maria().await;
    let program = maria.generate().await;
    world.pass(SignedDuration::from_mins(6));
    assert!(maria.page(KEY).await.1.contains("id=\"password\""));
    let key = Key::p256(1);
    let kept = "autocapitalize=\"none\"";
    let asked = change(&maria, &program, "key", &key.jwk()).await;
    assert_eq!(asked.status(), StatusCode::FORBIDDEN);
    let page = asked.text().await.unwrap();
    let x = key.members()["x"].as_str().unwrap().to_owned();
    assert!(page.contains("Enter your password.") && page.contains(&x) && page.contains(kept), "{page}");
    let jwk = key.jwk();
    let form =
        |password| [("client_id", program.client_id.as_str()), ("key", jwk.as_str()), ("password", password)];
    let wrong = maria.post(KEY, &form("not the password")).await;
    assert_eq!(wrong.status(), StatusCode::UNAUTHORIZED);
    let page = wrong.text().await.unwrap();
    assert!(page.contains("This is not your password.") && page.contains(&x), "{page}");
    let done = maria.post(KEY, &form(PASSWORD)).await;
    assert_eq!(done.status(), StatusCode::SEE_OTHER);
    assert!(done.headers().contains_key("set-cookie"), "the session goes on under a new id");
    assert!(!maria.is_signed_in().await, "and the old one is dead");
    assert!(gets_a_token(&world, &program, &key).await);
}

async fn c14_a_page_of_another_credential_changes_nothing(world: World) {
    let maria = world.maria().await;
    let first = maria.generate().await;
    maria.revoke().await;
    let second = maria.generate().await;
    let key = Key::p256(1);
    assert_eq!(change(&maria, &first, "key", &key.jwk()).await.status(), StatusCode::CONFLICT);
    assert!(!gets_a_token(&world, &second, &key).await);
}

async fn c15_with_the_secret_off_the_key_alone_gets_tokens_and_stays(world: World) {
    let maria = world.maria().await;
    let program = maria.generate().await;
    let refused = change(&maria, &program, "secret/off", "").await;
    assert_eq!(refused.status(), StatusCode::CONFLICT);
    assert!(refused.text().await.unwrap().contains("Bind one first."));
    let key = Key::p256(1);
    bind(&maria, &program, &key).await;
    let token = program.token().await;
    let done = change(&maria, &program, "secret/off", "").await;
    assert_eq!(header_of(&done, "location"), "/account/credentials?done=secret-off");
    let node = world.another_node().await;
    for place in [&world, &node] {
        let said = oauth_error(program.at(place).ask().await, 401, "invalid_client").await;
        assert!(said.contains("switched off"), "{said}");
        let asked = program.at(place).oauth("introspect", &[("token", &token)]).await;
        oauth_error(asked, 401, "invalid_client").await;
    }
    assert_eq!(world.told_after(0).await.last().unwrap(), "token.refuse refused secret_off");
    let wrong = Program { client_secret: "pcs_wrong".to_owned(), ..program.clone() };
    let said = oauth_error(wrong.ask().await, 401, "invalid_client").await;
    assert_eq!(said, "The Client ID or the Client Secret is not right.", "only its holder is told");
    assert!(gets_a_token(&world, &program, &key).await);
    assert!(world.watcher().await.is_active(&token).await, "tokens that were issued stay");
    let refused = change(&maria, &program, "key/remove", "").await;
    assert_eq!(refused.status(), StatusCode::CONFLICT);
    assert!(refused.text().await.unwrap().contains("the key is the only way in"));
    let again = Key::ed25519();
    bind(&maria, &program, &again).await;
    assert!(gets_a_token(&world, &program, &again).await && !gets_a_token(&world, &program, &key).await);
    assert!(maria.page("/account/credentials").await.1.contains("Off since"));
    change(&maria, &program, "secret/on", "").await;
    assert_eq!(program.ask().await.status(), StatusCode::OK);
    assert_eq!(change(&maria, &program, "key/remove", "").await.status(), StatusCode::SEE_OTHER);
}

async fn c16_the_key_goes_with_the_credential(world: World) {
    let maria = world.maria().await;
    let program = maria.generate().await;
    let key = Key::p256(1);
    bind(&maria, &program, &key).await;
    maria.revoke().await;
    let said = oauth_error(ask(&world, &key.assertion(&world, &program.client_id)).await, 401, "invalid_client");
    assert!(said.await.contains("was revoked by its owner"), "who has the key is told why");
    let next = maria.generate().await;
    assert!(maria.page("/account/credentials").await.1.contains("No public key is bound"));
    assert!(!gets_a_token(&world, &next, &key).await);
    let mut tx = world.app.store.read().await.unwrap();
    let gone = tx.presented_clients(&[&program.client_id]).await.unwrap().pop().unwrap();
    let standing = gone.credential.standing(&gone.owner, world.clock.now());
    assert!(matches!(standing, Standing::Revoked(_, RevocationReason::ByOwner)));
}

async fn c11_a_key_that_is_replaced_stops_on_every_node_while_requests_come(world: World) {
    let maria = world.maria().await;
    let program = maria.generate().await;
    let nodes = [&world, &world.another_node().await];
    for _ in 0..5 {
        let (old, new) = (Key::ed25519(), Key::ed25519());
        bind(&maria, &program, &old).await;
        let asking = nodes.map(|node| async {
            for _ in 0..4 {
                gets_a_token(node, &program, &old).await;
            }
        });
        tokio::join!(futures_of(asking), async {
            bind(&maria, &program, &new).await;
            for node in nodes {
                assert!(!gets_a_token(node, &program, &old).await, "C-11: after the acknowledgement");
                assert!(gets_a_token(node, &program, &new).await);
            }
        });
    }
}

async fn futures_of<F: Future<Output = ()>>([a, b]: [F; 2]) {
    tokio::join!(a, b);
}

async fn c14_of_a_race_each_change_is_whole(world: World) {
    let maria = world.maria().await;
    let program = maria.generate().await;
    let (node, key) = (world.another_node().await, Key::p256(1));
    let there = maria.at(&node);
    for _ in 0..5 {
        bind(&maria, &program, &key).await;
        // The key is removed and the secret switched off at once: one of them is refused (C-15).
        let (a, b) =
            tokio::join!(change(&maria, &program, "key/remove", ""), change(&there, &program, "secret/off", ""));
        let done = [&a, &b].iter().filter(|r| r.status() == StatusCode::SEE_OTHER).count();
        assert_eq!(done, 1, "{:?} {:?}", a.status(), b.status());
        change(&maria, &program, "secret/on", "").await;
    }
    world.log_is_whole().await;
}
