//! What a token says, how long it lives, and that it is on record before anybody has it.

use jiff::SignedDuration;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header, jwk::JwkSet};
use portcullis_domain::{accounts::Role, credentials::CREDENTIAL_LASTS};
use reqwest::{Method, StatusCode};
use serde_json::Value;
use uuid::Uuid;

use crate::support::{Program, World, header_of, json, oauth_error, on_both, start_instant};

on_both! {
    protocol17_a_token_never_outlives_its_credential
    protocol19_a_token_verifies_offline_and_says_what_rfc_9068_wants
    protocol19_subject_and_client_id_are_no_user_s_id_and_cannot_be_chosen
    l4_each_token_is_on_record_before_it_is_handed_out
    l4_a_request_that_is_answered_503_leaves_no_usable_token
    a_damaged_row_keeps_nobody_else_from_an_answer
    a_restart_neither_ends_nor_revives_tokens
}

/// The header and the claims of a token, verified with the served keys and nothing else.
async fn offline(world: &World, token: &str) -> (jsonwebtoken::Header, Value) {
    let served = world.stranger().request(Method::GET, "/.well-known/jwks.json").send().await.unwrap();
    let keys: JwkSet = served.json().await.unwrap();
    let header = decode_header(token).unwrap();
    let key = keys.find(header.kid.as_deref().unwrap()).unwrap();
    let mut validation = Validation::new(Algorithm::ES256);
    // The clock of the test is not the machine's: the caller looks at exp.
    validation.validate_exp = false;
    validation.set_audience(&[format!("{}/api/v1", world.url)]);
    validation.set_issuer(&[&world.url]);
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    let claims = decode::<Value>(token, &DecodingKey::from_jwk(key).unwrap(), &validation).unwrap().claims;
    (header, claims)
}

async fn protocol17_a_token_never_outlives_its_credential(world: World) {
    let program = world.maria().await.generate().await;
    world.pass(CREDENTIAL_LASTS - SignedDuration::from_secs(90));
    let body = json(program.ask().await).await;
    assert_eq!(body["expires_in"], 90);
    let token = body["access_token"].as_str().unwrap().to_owned();
    let (_, claims) = offline(&world, &token).await;
    assert_eq!(claims["exp"], (start_instant() + CREDENTIAL_LASTS).as_second());
    let other = world.watcher().await;
    world.pass(SignedDuration::from_secs(89));
    assert!(other.is_active(&token).await);
    assert_eq!(json(program.ask().await).await["expires_in"], 1);
    // Half a second before the end: instants are whole seconds, and the end is the credential's.
    world.pass(SignedDuration::from_millis(500));
    let (_, claims) = offline(&world, &program.token().await).await;
    assert_eq!(claims["exp"], (start_instant() + CREDENTIAL_LASTS).as_second());
    world.pass(SignedDuration::from_millis(500));
    assert!(!other.is_active(&token).await);
    oauth_error(program.ask().await, 401, "invalid_client").await;
}

async fn protocol19_a_token_verifies_offline_and_says_what_rfc_9068_wants(world: World) {
    let program = world.maria().await.generate().await;
    let token = program.token().await;
    let (header, claims) = offline(&world, &token).await;
    assert_eq!(header.typ.as_deref(), Some("at+jwt"));
    assert_eq!(header.alg, Algorithm::ES256);
    assert_eq!(claims["iss"], world.url);
    assert_eq!(claims["aud"], format!("{}/api/v1", world.url));
    assert_eq!(claims["iat"], start_instant().as_second());
    assert_eq!(claims["exp"], start_instant().as_second() + 86_400);
    assert_eq!(claims["sub"], program.client_id);
    assert_eq!(claims["client_id"], program.client_id);
    assert_eq!(claims["scope"], "users:read audit:read apis:read");
    let jti: Uuid = claims["jti"].as_str().unwrap().parse().unwrap();
    assert_eq!(jti.get_version_num(), 7);
    let mut members: Vec<_> = claims.as_object().unwrap().keys().map(String::as_str).collect();
    members.sort_unstable();
    let expected = ["aud", "client_id", "exp", "iat", "iss", "jti", "scope", "status", "sub"];
    assert_eq!(members, expected, "and nothing personal");
    let (_, next) = offline(&world, &program.token().await).await;
    assert_ne!(next["jti"], claims["jti"], "each token has an id of its own");
}

async fn protocol19_subject_and_client_id_are_no_user_s_id_and_cannot_be_chosen(world: World) {
    let user = world.user("maria@acme.example", Role::SuperAdmin).await;
    let maria = world.sign_in("maria@acme.example").await;
    let program = maria.generate().await;
    let wishes = [
        ("grant_type", "client_credentials"),
        ("sub", &*user.id.to_string()),
        ("subject", "admin"),
        ("aud", "https://elsewhere.example"),
    ];
    let body = json(program.oauth("token", &wishes).await).await;
    let (_, claims) = offline(&world, body["access_token"].as_str().unwrap()).await;
    for name in ["sub", "client_id"] {
        let value = claims[name].as_str().unwrap();
        assert_eq!(value, program.client_id);
        assert!(value.starts_with("pcc_") && value.parse::<Uuid>().is_err(), "never the form of a user's id");
    }
    assert!(!claims.to_string().contains(&user.id.to_string()));
    assert_eq!(maria.revoke().await.status(), StatusCode::OK);
    let wish = serde_json::json!({ "client_id": program.client_id, "client_secret": "chosen" });
    let made =
        maria.request(Method::POST, "/api/v1/users/me/credential/generate").json(&wish).send().await.unwrap();
    if made.status().is_success() {
        assert_ne!(json(made).await["client_id"], program.client_id);
    }
}

/// The id of a token, read without any key.
fn jti(token: &str) -> Uuid {
    let claims = jsonwebtoken::dangerous::insecure_decode::<Value>(token).unwrap().claims;
    claims["jti"].as_str().unwrap().parse().unwrap()
}

async fn l4_each_token_is_on_record_before_it_is_handed_out(world: World) {
    let program = world.maria().await.generate().await;
    let ask = |program: Program| async move {
        let response = program.ask().await;
        assert_eq!(response.status(), StatusCode::OK);
        json(response).await["access_token"].as_str().unwrap().to_owned()
    };
    let asked: Vec<_> = (0..40).map(|_| tokio::spawn(ask(program.clone()))).collect();
    let mut seen = std::collections::BTreeSet::new();
    for token in asked {
        let id = jti(&token.await.unwrap());
        let mut tx = world.app.store.read().await.unwrap();
        let client = tx.presented_clients(&[&program.client_id]).await.unwrap().pop().unwrap();
        let used = tx.recent_tokens(client.credential.id, None, 100).await.unwrap();
        let on_record = used.into_iter().find(|token| token.terms.jti == id).unwrap();
        assert_eq!(on_record.issued_at, world.clock.now());
        assert_eq!(on_record.terms.expires_at, world.clock.now() + SignedDuration::from_hours(24));
        assert_eq!(on_record.ip, "127.0.0.1");
        assert_eq!(on_record.user_agent, "test/1");
        assert!(seen.insert(id), "no two tokens share a record");
    }
}

async fn l4_a_request_that_is_answered_503_leaves_no_usable_token(world: World) {
    let program = world.maria().await.generate().await;
    let before = program.token().await;
    let credential = {
        let mut tx = world.app.store.read().await.unwrap();
        tx.presented_clients(&[&program.client_id]).await.unwrap().pop().unwrap().credential.id
    };
    world.sql("ALTER TABLE issued_tokens RENAME TO out_of_reach").await;
    for _ in 0..5 {
        let refused = program.ask().await;
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(header_of(&refused, "retry-after").parse::<u32>().unwrap() > 0);
        let body = refused.text().await.unwrap();
        assert!(!body.contains("access_token") && !body.contains("out_of_reach"), "{body}");
    }
    world.sql("ALTER TABLE out_of_reach RENAME TO issued_tokens").await;
    let recorded = world.app.store.read().await.unwrap().recent_tokens(credential, None, 50).await.unwrap();
    assert_eq!(recorded.iter().map(|t| t.terms.jti).collect::<Vec<_>>(), [jti(&before)]);
    assert!(program.is_active(&before).await, "and what was good before is good after");
    assert_eq!(program.ask().await.status(), StatusCode::OK);
}

async fn a_damaged_row_keeps_nobody_else_from_an_answer(world: World) {
    let whole = world.maria().await.generate().await;
    let damaged = world.person("joao@acme.example", Role::SuperAdmin).await.generate().await;
    let tokens = [whole.token().await, damaged.token().await];
    let id = &damaged.client_id;
    world
        .sql(&format!(
            "UPDATE credentials SET revoked_at = 1, revoked_reason = 'no such' WHERE client_id = '{id}'"
        ))
        .await;
    let watcher = world.watcher().await;
    // At once, so that they share a transaction, or a turn of reading.
    let asked: Vec<_> = (0..40)
        .map(|n| {
            let (program, token) = if n % 2 == 0 { (&whole, &tokens[0]) } else { (&damaged, &tokens[1]) };
            let (program, watcher, token) = (program.clone(), watcher.clone(), token.clone());
            tokio::spawn(async move {
                let form = [("token", token.as_str())];
                let (issued, introspected) = tokio::join!(program.ask(), watcher.oauth("introspect", &form));
                (n % 2 == 0, issued.status(), introspected)
            })
        })
        .collect();
    for answer in asked {
        let (is_whole, issued, introspected) = answer.await.unwrap();
        let expected = if is_whole { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR };
        assert_eq!((issued, introspected.status()), (expected, expected));
        assert!(!is_whole || json(introspected).await["active"] == true);
    }
}

async fn a_restart_neither_ends_nor_revives_tokens(world: World) {
    let program = world.maria().await.generate().await;
    let (kept, dropped) = (program.token().await, program.token().await);
    assert_eq!(program.oauth("revoke", &[("token", &dropped)]).await.status(), StatusCode::OK);
    let other = world.person("joao@acme.example", Role::SuperAdmin).await;
    let gone = other.generate().await;
    let of_gone = gone.token().await;
    assert_eq!(other.revoke().await.status(), StatusCode::OK);

    let watcher = world.watcher().await;
    let restarted = world.another_node().await;
    world.app.store.close().await;
    drop(world);
    let program = program.at(&restarted);
    assert!(program.is_active(&kept).await);
    let me = program.with(&kept, Method::GET, "/api/v1/me").send().await.unwrap();
    assert_eq!(me.status(), StatusCode::OK);
    assert!(!program.is_active(&dropped).await);
    assert!(!program.is_active(&of_gone).await && !watcher.at(&restarted).is_active(&of_gone).await);
    assert!(watcher.at(&restarted).is_active(&kept).await);
    oauth_error(gone.at(&restarted).ask().await, 401, "invalid_client").await;
}
