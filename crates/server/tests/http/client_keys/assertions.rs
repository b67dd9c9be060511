//! Protocol 27: `private_key_jwt` (RFC 7523 and its revision), every refusal by its name.

use jiff::SignedDuration;
use portcullis_domain::client_keys::ASSERTION_TYPE;
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::{GRANT, Key, ask, assert_at, bind, claims};
use crate::support::{Program, World, json as json_of, oauth_error, on_both, on_sqlite};

on_sqlite! {
    protocol27_the_claims_are_exactly_so
    protocol27_the_header_names_nothing_but_the_algorithm
    protocol27_together_with_another_method_is_invalid_request
}

on_both! {
    protocol27_an_assertion_works_at_every_endpoint_and_once
    protocol27_of_many_at_once_on_two_nodes_exactly_one_is_taken
    protocol27_a_use_that_is_not_on_record_is_none
    protocol27_an_id_counts_only_after_the_signature_was_checked
    protocol09_an_unknown_client_no_key_and_a_wrong_signature_are_the_same_bytes
    protocol18_a_stranger_s_assertions_never_refuse_the_rightful_client
    an_assertion_that_was_used_is_forgotten_only_after_it_has_ended
}

async fn with_key(world: &World) -> (Program, Key) {
    let maria = world.maria().await;
    let program = maria.generate().await;
    let key = Key::p256(1);
    bind(&maria, &program, &key).await;
    (program, key)
}

async fn protocol27_an_assertion_works_at_every_endpoint_and_once(world: World) {
    let (program, key) = with_key(&world).await;
    let node = world.another_node().await;
    let assertion = key.assertion(&world, &program.client_id);
    let got = ask(&world, &assertion).await;
    assert_eq!(got.status(), StatusCode::OK);
    let token = json_of(got).await["access_token"].as_str().unwrap().to_owned();
    let mark = world.last_record().await;
    for url in [&world.url, &node.url] {
        for (endpoint, more) in [
            ("token", vec![GRANT]),
            ("introspect", vec![("token", token.as_str())]),
            ("revoke", vec![("token", &token)]),
        ] {
            let said = oauth_error(assert_at(url, endpoint, &assertion, &more).await, 401, "invalid_client").await;
            assert!(said.contains("was used already"), "{endpoint}: {said}");
        }
    }
    assert_eq!(world.told_after(mark).await, vec!["token.refuse refused assertion_replayed"; 6]);
    let fresh = key.assertion(&world, &program.client_id);
    let seen = assert_at(&node.url, "introspect", &fresh, &[("token", &token)]).await;
    assert_eq!(json_of(seen).await["active"], true);
    oauth_error(assert_at(&world.url, "introspect", &fresh, &[("token", &token)]).await, 401, "invalid_client")
        .await;
    let more = [("token", token.as_str()), ("client_id", program.client_id.as_str())];
    let gone = assert_at(&world.url, "revoke", &key.assertion(&world, &program.client_id), &more).await;
    assert_eq!(gone.status(), StatusCode::OK, "the Client ID may be sent besides");
    assert!(!program.is_active(&token).await);
}

async fn protocol27_of_many_at_once_on_two_nodes_exactly_one_is_taken(world: World) {
    let (program, key) = with_key(&world).await;
    let node = world.another_node().await;
    for _ in 0..3 {
        let assertion = key.assertion(&world, &program.client_id);
        let tasks: Vec<_> = (0..40)
            .map(|n| {
                let (url, assertion) = ([&world.url, &node.url][n % 2].clone(), assertion.clone());
                tokio::spawn(async move { assert_at(&url, "token", &assertion, &[GRANT]).await.status() })
            })
            .collect();
        let mut taken = 0;
        for task in tasks {
            let status = task.await.unwrap();
            assert!(matches!(status.as_u16(), 200 | 401 | 429), "{status}");
            taken += usize::from(status == StatusCode::OK);
        }
        assert_eq!(taken, 1);
    }
}

/// Of many that share a transaction which fails nobody is told that another one was taken.
async fn protocol27_a_use_that_is_not_on_record_is_none(world: World) {
    let (program, key) = with_key(&world).await;
    let assertion = key.assertion(&world, &program.client_id);
    world.sql("ALTER TABLE issued_tokens RENAME TO out_of_reach").await;
    let asked: Vec<_> = (0..20)
        .map(|_| {
            let (url, assertion) = (world.url.clone(), assertion.clone());
            tokio::spawn(async move { assert_at(&url, "token", &assertion, &[GRANT]).await.status() })
        })
        .collect();
    for status in asked {
        assert_eq!(status.await.unwrap(), StatusCode::SERVICE_UNAVAILABLE);
    }
    world.sql("ALTER TABLE out_of_reach RENAME TO issued_tokens").await;
    assert_eq!(ask(&world, &assertion).await.status(), StatusCode::OK);
    oauth_error(ask(&world, &assertion).await, 401, "invalid_client").await;
}

async fn protocol27_an_id_counts_only_after_the_signature_was_checked(world: World) {
    let (program, key) = with_key(&world).await;
    let claims = claims(&world, &program.client_id);
    let header = json!({ "alg": "ES256" });
    // A stranger who knows the id cannot use it up.
    let forged = Key::p256(2).sign(&header, &claims);
    oauth_error(ask(&world, &forged).await, 401, "invalid_client").await;
    assert_eq!(ask(&world, &key.sign(&header, &claims)).await.status(), StatusCode::OK);
    // Nor can another client with the same id.
    let joao = world.person("joao@acme.example", portcullis_domain::accounts::Role::SuperAdmin).await;
    let (other, others) = (joao.generate().await, Key::ed25519());
    bind(&joao, &other, &others).await;
    let mut same = claims;
    (same["iss"], same["sub"]) = (json!(other.client_id), json!(other.client_id));
    assert_eq!(ask(&world, &others.sign(&json!({ "alg": "EdDSA" }), &same)).await.status(), StatusCode::OK);
    // What is refused for another reason is used up all the same: it was signed and sent.
    let assertion = key.assertion(&world, &program.client_id);
    let refused = assert_at(&world.url, "token", &assertion, &[GRANT, ("scope", "nonsense")]).await;
    oauth_error(refused, 400, "invalid_scope").await;
    oauth_error(ask(&world, &assertion).await, 401, "invalid_client").await;
}

async fn protocol09_an_unknown_client_no_key_and_a_wrong_signature_are_the_same_bytes(world: World) {
    let (program, key) = with_key(&world).await;
    let joao = world.person("joao@acme.example", portcullis_domain::accounts::Role::SuperAdmin).await;
    let keyless = joao.generate().await;
    let mut answers = Vec::new();
    for forger in [Key::p256(2), Key::ed25519(), Key::rsa()] {
        for id in [program.client_id.as_str(), &keyless.client_id, "pcc_00000000000000000000", "x", "pca_1"] {
            let response = ask(&world, &forger.assertion(&world, id)).await;
            let challenge = response.headers()["www-authenticate"].clone();
            answers.push((challenge, oauth_error(response, 401, "invalid_client").await));
        }
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!(ask(&world, &key.assertion(&world, &program.client_id)).await.status(), StatusCode::OK);
    let told = world.told_after(0).await;
    assert!(told.contains(&"token.refuse refused not_proven".to_owned()));
}

async fn protocol18_a_stranger_s_assertions_never_refuse_the_rightful_client(world: World) {
    let (program, key) = with_key(&world).await;
    let forger = Key::ed25519();
    let mut statuses = Vec::new();
    for _ in 0..25 {
        statuses.push(ask(&world, &forger.assertion(&world, &program.client_id)).await.status().as_u16());
    }
    assert_eq!((statuses[0], statuses[24]), (401, 429));
    assert_eq!(ask(&world, &key.assertion(&world, &program.client_id)).await.status(), StatusCode::OK);
}

async fn protocol27_the_claims_are_exactly_so(world: World) {
    let (program, key) = with_key(&world).await;
    let now = world.clock.now().as_second();
    let issuer = world.app.config.public_url.clone();
    let send = async |name: &str, value: Value| {
        let mut claims = claims(&world, &program.client_id);
        claims[name] = value;
        ask(&world, &key.sign(&json!({ "alg": "ES256" }), &claims)).await
    };
    for (name, value) in [
        ("aud", json!([issuer])),
        ("exp", json!(now + 300)),
        ("exp", json!(now - 20)),
        ("nbf", json!(now)),
        ("iat", json!(now - 100_000)),
        ("jti", json!("x".repeat(256))),
    ] {
        assert_eq!(send(name, value.clone()).await.status(), StatusCode::OK, "{name} {value}");
    }
    for (name, value, words) in [
        ("aud", json!(format!("{issuer}/oauth/token")), "issuer"),
        ("aud", json!(format!("{issuer}/")), "issuer"),
        ("aud", json!([issuer, "https://other.example"]), "issuer"),
        ("aud", json!([]), "issuer"),
        ("aud", Value::Null, "aud"),
        ("iss", json!("pcc_00000000000000000000"), "both"),
        ("exp", json!(now + 331), "too long"),
        ("exp", json!(now - 31), "has ended"),
        ("exp", json!((now + 60).to_string()), "exp"),
        ("exp", Value::Null, "exp"),
        ("iat", json!(now + 60), "future"),
        ("nbf", json!(now + 60), "future"),
        ("jti", json!(""), "jti"),
        ("jti", json!("x".repeat(257)), "jti"),
        ("jti", Value::Null, "jti"),
    ] {
        let said = oauth_error(send(name, value.clone()).await, 401, "invalid_client").await;
        assert!(said.contains(words), "{name} {value}: {said}");
    }
    // A token of ours is no assertion, whoever signed it.
    let said = oauth_error(ask(&world, &program.token().await).await, 401, "invalid_client").await;
    assert!(said.contains("typ"), "{said}");
}

async fn protocol27_the_header_names_nothing_but_the_algorithm(world: World) {
    let (program, key) = with_key(&world).await;
    let send = async |header: Value| ask(&world, &key.sign(&header, &claims(&world, &program.client_id))).await;
    for good in [
        json!({ "alg": "ES256" }),
        json!({ "alg": "ES256", "typ": "JWT" }),
        json!({ "alg": "ES256", "typ": "client-authentication+jwt", "kid": "whatever" }),
    ] {
        assert_eq!(send(good.clone()).await.status(), StatusCode::OK, "{good}");
    }
    for bad in [
        json!({ "alg": "none" }),
        json!({ "alg": "HS256" }),
        json!({ "alg": "ES384" }),
        json!({ "alg": "RS256" }),
        json!({ "alg": "EdDSA" }),
        json!({}),
        json!({ "alg": "ES256", "typ": "at+jwt" }),
        json!({ "alg": "ES256", "typ": "dpop+jwt" }),
        json!({ "alg": "ES256", "jwk": key.members() }),
        json!({ "alg": "ES256", "jku": "https://evil.example/keys" }),
        json!({ "alg": "ES256", "x5u": "https://evil.example/x" }),
        json!({ "alg": "ES256", "x5c": ["AA"] }),
        json!({ "alg": "ES256", "crit": ["exp"] }),
    ] {
        oauth_error(send(bad.clone()).await, 401, "invalid_client").await;
    }
    let good = key.assertion(&world, &program.client_id);
    for cut in (0..good.len()).step_by(7) {
        let response = ask(&world, &good[..cut]).await;
        // Without any, it is as if it were not there.
        oauth_error(
            response,
            if cut == 0 { 400 } else { 401 },
            if cut == 0 { "invalid_request" } else { "invalid_client" },
        )
        .await;
    }
    assert_eq!(ask(&world, &good).await.status(), StatusCode::OK, "none of them used it up");
}

async fn protocol27_together_with_another_method_is_invalid_request(world: World) {
    let (program, key) = with_key(&world).await;
    let assertion = key.assertion(&world, &program.client_id);
    let (id, secret) = (program.client_id.as_str(), program.client_secret.as_str());
    let kind = ("client_assertion_type", ASSERTION_TYPE);
    let with = ("client_assertion", assertion.as_str());
    for form in [
        vec![GRANT, with, kind, ("client_id", id), ("client_secret", secret)],
        vec![GRANT, with, kind, ("client_secret", "x")],
        vec![GRANT, with],
        vec![GRANT, kind],
        vec![GRANT, with, ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:saml2-bearer")],
        vec![GRANT, with, kind, ("client_id", "pcc_00000000000000000000")],
    ] {
        let request = world.stranger().client.post(format!("{}/oauth/token", world.url));
        oauth_error(request.form(&form).send().await.unwrap(), 400, "invalid_request").await;
    }
    let both = program.oauth("token", &[GRANT, with, kind]).await;
    oauth_error(both, 400, "invalid_request").await;
    let in_url = world.stranger().client.post(format!("{}/oauth/token?client_assertion={assertion}", world.url));
    oauth_error(in_url.form(&[GRANT, kind]).send().await.unwrap(), 400, "invalid_request").await;
    assert_eq!(ask(&world, &assertion).await.status(), StatusCode::OK, "none of them used it up");
}

async fn an_assertion_that_was_used_is_forgotten_only_after_it_has_ended(world: World) {
    let (program, key) = with_key(&world).await;
    let assertion = key.assertion(&world, &program.client_id);
    assert_eq!(ask(&world, &assertion).await.status(), StatusCode::OK);
    world.pass(SignedDuration::from_secs(80));
    world.app.sweep().await.unwrap();
    let said = oauth_error(ask(&world, &assertion).await, 401, "invalid_client").await;
    assert!(said.contains("was used already"), "{said}");
    world.pass(SignedDuration::from_mins(10));
    world.app.sweep().await.unwrap();
    let said = oauth_error(ask(&world, &assertion).await, 401, "invalid_client").await;
    assert!(said.contains("has ended"), "{said}");
    let mut tx = world.app.store.write().await.unwrap();
    assert_eq!(tx.drop_ended_proofs(world.clock.now() + SignedDuration::from_hours(9), 9).await.unwrap(), 0);
}
