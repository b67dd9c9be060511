//! `POST /oauth/introspect`: the truth about a token, for those who may know it.

mod mangled;

use jiff::SignedDuration;
use portcullis_domain::accounts::{Role, Status};
use reqwest::{Method, StatusCode, header};
use sqlx::{Connection, Executor, PgConnection};

use crate::support::{FORM, Program, World, header_of, json, oauth_error, on_both, on_sqlite, postgres_database};

on_sqlite! {
    protocol23_introspection_takes_post_and_forms_only
}

on_both! {
    protocol23_introspection_without_authentication_is_401
    protocol23_an_active_token_is_described_and_a_dead_one_is_exactly_inactive
    protocol23_a_suspended_credential_s_tokens_are_inactive_while_it_is
    protocol23_a_failing_store_is_503_and_no_answer
}

/// The bytes of an introspection response.
async fn said_of(program: &Program, token: &str) -> String {
    let response = program.oauth("introspect", &[("token", token)]).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(header_of(&response, "cache-control"), "no-store");
    assert_eq!(header_of(&response, "content-type"), "application/json");
    response.text().await.unwrap()
}

const DEAD: &str = r#"{"active":false}"#;

async fn protocol23_introspection_takes_post_and_forms_only(world: World) {
    let program = world.maria().await.generate().await;
    let token = program.token().await;
    for method in [Method::GET, Method::HEAD, Method::PUT, Method::DELETE] {
        let request = world.stranger().request(method, &format!("/oauth/introspect?token={token}"));
        let request = request.basic_auth(&program.client_id, Some(&program.client_secret));
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(header_of(&response, "allow"), "POST");
    }
    let post = |query: &str, media_type: &str, body: String| {
        let request = world.stranger().request(Method::POST, &format!("/oauth/introspect{query}"));
        let request = request.basic_auth(&program.client_id, Some(&program.client_secret));
        request.header(header::CONTENT_TYPE, media_type).body(body).send()
    };
    for (query, media_type, body) in [
        ("", "application/json", format!("{{\"token\":\"{token}\"}}")),
        ("", FORM, String::new()),
        ("", FORM, "token=".to_owned()),
        ("", FORM, format!("token={token}&token={token}")),
        (&*format!("?token={token}"), FORM, String::new()),
        (&*format!("?token={token}"), FORM, format!("token={token}")),
    ] {
        oauth_error(post(query, media_type, body).await.unwrap(), 400, "invalid_request").await;
    }
    let body = format!("token={token}&token_type_hint=refresh_token&resource=x");
    assert!(json(post("", FORM, body).await.unwrap()).await["active"].as_bool().unwrap(), "a hint is a hint");
}

async fn protocol23_introspection_without_authentication_is_401(world: World) {
    let program = world.maria().await.generate().await;
    let token = program.token().await;
    let body = format!("token={token}");
    let post = || world.stranger().request(Method::POST, "/oauth/introspect").header(header::CONTENT_TYPE, FORM);
    let wrong = format!("{body}&client_id={}&client_secret=x", program.client_id);
    for request in [
        post().body(body.clone()),
        post().body(wrong),
        post().basic_auth(&program.client_id, Some("wrong")).body(body.clone()),
        // A token is no way to authenticate here, and a session neither.
        post().bearer_auth(&token).body(body.clone()),
        post().header(header::COOKIE, &world.sign_in("maria@acme.example").await.cookie).body(body.clone()),
    ] {
        let said = oauth_error(request.send().await.unwrap(), 401, "invalid_client").await;
        assert!(!said.contains("active"), "{said}");
    }
}

async fn protocol23_an_active_token_is_described_and_a_dead_one_is_exactly_inactive(world: World) {
    let maria = world.maria().await;
    let program = maria.generate().await;
    let other = world.watcher().await;
    let token = program.token().await;
    let seen: serde_json::Value = serde_json::from_str(&said_of(&other, &token).await).unwrap();
    let claims = jsonwebtoken::dangerous::insecure_decode::<serde_json::Value>(&token).unwrap().claims;
    assert_eq!(seen["active"], true);
    assert_eq!(seen["token_type"], "Bearer");
    for name in ["scope", "client_id", "exp", "iat", "sub", "aud", "iss", "jti"] {
        assert_eq!(seen[name], claims[name], "{name}");
    }
    assert_eq!(seen.as_object().unwrap().len(), 10, "{seen}");

    let long = "x".repeat(20_000);
    for text in ["x", "a.b.c", "..", ".", "\u{0}", "é", &long, &program.client_secret, &program.client_id] {
        assert_eq!(said_of(&program, text).await, DEAD);
    }
    let taken_back = program.token().await;
    assert_eq!(program.oauth("revoke", &[("token", &taken_back)]).await.status(), StatusCode::OK);
    assert_eq!(said_of(&program, &taken_back).await, DEAD, "revoked by itself");
    world.pass(SignedDuration::from_secs(86_399));
    assert!(program.is_active(&token).await, "a second before its end");
    world.pass(SignedDuration::from_secs(1));
    assert_eq!(said_of(&program, &token).await, DEAD, "ended");
    let last = program.token().await;
    let maria = world.sign_in("maria@acme.example").await;
    assert_eq!(maria.revoke().await.status(), StatusCode::OK);
    assert_eq!(said_of(&other, &last).await, DEAD, "its credential is revoked");
    world.app.sweep().await.unwrap();
    assert_eq!(said_of(&other, &last).await, DEAD);
}

async fn protocol23_a_suspended_credential_s_tokens_are_inactive_while_it_is(world: World) {
    let user = world.user("maria@acme.example", Role::SuperAdmin).await;
    let program = world.sign_in("maria@acme.example").await.generate().await;
    let witness = world.watcher().await;
    let node = world.another_node().await;
    let token = program.token().await;
    for off in [0, 1, 2] {
        world
            .set_standing(user.id, |s, now| match off {
                0 => s.mfa_since = Some(now),
                1 => s.status = (Status::Inactive, now),
                _ => s.role = (Role::User, now),
            })
            .await;
        assert_eq!(said_of(&witness, &token).await, DEAD);
        assert_eq!(said_of(&witness.at(&node), &token).await, DEAD, "on every node");
        world
            .set_standing(user.id, |s, now| {
                s.mfa_since = None;
                s.status = (Status::Active, now);
                s.role = (Role::SuperAdmin, now);
            })
            .await;
        assert!(witness.at(&node).is_active(&token).await);
    }
}

/// PostgreSQL alone, where a test can hold a question in the middle. A token is revoked while its credential
/// is suspended, and the credential resumed: at no instant is the token active, and nobody may be told so
/// who read one half before and the other after.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c11_a_token_and_its_credential_are_judged_of_one_instant() {
    let url = postgres_database().await;
    let world = World::postgres_at(&url).await;
    let user = world.user("maria@acme.example", Role::SuperAdmin).await;
    let program = world.sign_in("maria@acme.example").await.generate().await;
    let witness = world.watcher().await;
    let mut beside = PgConnection::connect(&url).await.unwrap();
    for held in ["credentials", "users"] {
        let token = program.token().await;
        world.set_standing(user.id, |s, now| s.mfa_since = Some(now)).await;
        let lock = format!("BEGIN; LOCK TABLE {held} IN ACCESS EXCLUSIVE MODE");
        beside.execute(sqlx::AssertSqlSafe(lock)).await.unwrap();
        let (asker, asked) = (witness.clone(), token.clone());
        let asking = tokio::spawn(async move { asker.is_active(&asked).await });
        let waits = "SELECT COUNT(*) FROM pg_locks WHERE NOT granted AND relation = $1::regclass \
                     AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        let mut waiting = 0_i64;
        while waiting == 0 && !asking.is_finished() {
            waiting = sqlx::query_scalar(waits).bind(held).fetch_one(&mut beside).await.unwrap();
        }
        assert!(waiting > 0, "nobody asked for {held}");
        let both = "UPDATE issued_tokens SET revoked_at = issued_at; UPDATE users SET mfa_since = NULL; COMMIT";
        beside.execute(both).await.unwrap();
        assert!(!asking.await.unwrap(), "{held} was held");
        assert!(witness.is_active(&program.token().await).await, "the credential works again");
    }
}

async fn protocol23_a_failing_store_is_503_and_no_answer(world: World) {
    let program = world.maria().await.generate().await;
    let token = program.token().await;
    let unanswered = |token: String| {
        let program = program.clone();
        async move {
            let response = program.oauth("introspect", &[("token", &token)]).await;
            assert!(header_of(&response, "retry-after").parse::<u32>().unwrap() > 0);
            oauth_error(response, 503, "temporarily_unavailable").await;
        }
    };
    // The caller is known, but the token's record is out of reach.
    world.sql("ALTER TABLE issued_tokens RENAME TO out_of_reach").await;
    unanswered(token.clone()).await;
    world.sql("ALTER TABLE out_of_reach RENAME TO issued_tokens").await;
    assert!(program.is_active(&token).await);
    // Nothing is in reach.
    world.app.store.close().await;
    unanswered(token.clone()).await;
    unanswered("x".to_owned()).await;
    let me = program.with(&token, Method::GET, "/api/v1/me").send().await.unwrap();
    assert_eq!(me.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(header_of(&me, "retry-after").parse::<u32>().unwrap() > 0);
}
