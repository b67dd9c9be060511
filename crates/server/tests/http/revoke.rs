//! `POST /oauth/revoke`: a program takes back its own tokens.

use jiff::SignedDuration;
use portcullis_domain::accounts::Role;
use reqwest::{Method, StatusCode, header};

use crate::support::{FORM, World, header_of, oauth_error, on_both, on_sqlite};

on_sqlite! {
    protocol24_revocation_takes_post_and_forms_only
}

on_both! {
    protocol24_a_revoked_token_is_over_on_every_node_and_revoking_again_is_200
    protocol24_an_unknown_or_ended_token_is_200
    protocol24_another_client_s_token_is_refused_and_stays_good
    protocol24_revocation_without_authentication_changes_nothing
    protocol24_a_failing_store_is_503_and_never_200
}

async fn protocol24_revocation_takes_post_and_forms_only(world: World) {
    let program = world.maria().await.generate().await;
    let token = program.token().await;
    for method in [Method::GET, Method::HEAD, Method::PUT, Method::DELETE] {
        let request = world.stranger().request(method, &format!("/oauth/revoke?token={token}"));
        let request = request.basic_auth(&program.client_id, Some(&program.client_secret));
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(header_of(&response, "allow"), "POST");
    }
    for (query, media_type, body) in [
        ("", "application/json", format!("{{\"token\":\"{token}\"}}")),
        ("", FORM, String::new()),
        ("", FORM, "token=".to_owned()),
        ("", FORM, format!("token={token}&token={token}")),
        (&*format!("?token={token}"), FORM, String::new()),
    ] {
        let request = world.stranger().request(Method::POST, &format!("/oauth/revoke{query}"));
        let request = request.basic_auth(&program.client_id, Some(&program.client_secret));
        let response = request.header(header::CONTENT_TYPE, media_type).body(body).send().await.unwrap();
        oauth_error(response, 400, "invalid_request").await;
    }
    assert!(program.is_active(&token).await);
}

async fn protocol24_a_revoked_token_is_over_on_every_node_and_revoking_again_is_200(world: World) {
    let node = world.another_node().await;
    let program = world.maria().await.generate().await;
    let (token, kept) = (program.token().await, program.token().await);
    for n in 0..3 {
        let form = [("token", &*token), ("token_type_hint", ["access_token", "refresh_token", "x"][n])];
        let response = program.oauth("revoke", &form).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(header_of(&response, "cache-control"), "no-store");
        assert_eq!(response.text().await.unwrap(), "{}", "for clients that read every answer as JSON");
        for place in [&world, &node] {
            let program = program.at(place);
            assert!(!program.is_active(&token).await);
            let me = program.with(&token, Method::GET, "/api/v1/me").send().await.unwrap();
            assert_eq!(me.status(), StatusCode::UNAUTHORIZED);
            assert!(program.is_active(&kept).await, "only the one");
        }
    }
    let entries =
        world.sign_in("maria@acme.example").await.get("/api/v1/audit?limit=200").await.text().await.unwrap();
    assert_eq!(entries.matches("\"token.revoke\"").count(), 1, "L-1: one act, one record: {entries}");
}

async fn protocol24_an_unknown_or_ended_token_is_200(world: World) {
    let program = world.maria().await.generate().await;
    let token = program.token().await;
    let elsewhere = World::sqlite(&[]).await;
    let foreign = elsewhere.maria().await.generate().await.token().await;
    world.pass(SignedDuration::from_hours(24));
    for text in [&token, &foreign, "x", "a.b.c", "\u{0}", &program.client_secret] {
        assert_eq!(program.oauth("revoke", &[("token", text)]).await.status(), StatusCode::OK, "{text}");
    }
}

async fn protocol24_another_client_s_token_is_refused_and_stays_good(world: World) {
    let program = world.maria().await.generate().await;
    let joao = world.person("joao@acme.example", Role::SuperAdmin).await;
    let other = joao.generate().await;
    let token = program.token().await;
    for _ in 0..2 {
        let refused = other.oauth("revoke", &[("token", &token)]).await;
        oauth_error(refused, 400, "unauthorized_client").await;
        assert!(program.is_active(&token).await);
        let me = program.with(&token, Method::GET, "/api/v1/me").send().await.unwrap();
        assert_eq!(me.status(), StatusCode::OK);
    }
    let entries = joao.get("/api/v1/audit?limit=200").await.text().await.unwrap();
    assert!(entries.contains("another_client_s"), "the attempt is on record: {entries}");
    assert!(!entries.contains(&token), "L-2");
    // The same owner's next credential is another client too.
    assert_eq!(joao.revoke().await.status(), StatusCode::OK);
    let next = joao.generate().await;
    let refused = next.oauth("revoke", &[("token", &token)]).await;
    oauth_error(refused, 400, "unauthorized_client").await;
}

async fn protocol24_revocation_without_authentication_changes_nothing(world: World) {
    let program = world.maria().await.generate().await;
    let token = program.token().await;
    let post = || world.stranger().request(Method::POST, "/oauth/revoke").header(header::CONTENT_TYPE, FORM);
    let body = format!("token={token}");
    for request in [
        post().body(body.clone()),
        post().body(format!("{body}&client_id={}", program.client_id)),
        post().basic_auth(&program.client_id, Some("wrong")).body(body.clone()),
        post().bearer_auth(&token).body(body.clone()),
    ] {
        oauth_error(request.send().await.unwrap(), 401, "invalid_client").await;
    }
    assert!(program.is_active(&token).await);
}

async fn protocol24_a_failing_store_is_503_and_never_200(world: World) {
    let program = world.maria().await.generate().await;
    let token = program.token().await;
    let unanswered = || async {
        let response = program.oauth("revoke", &[("token", &token)]).await;
        assert!(header_of(&response, "retry-after").parse::<u32>().unwrap() > 0);
        oauth_error(response, 503, "temporarily_unavailable").await;
    };
    // The client is known, but the token's record is out of reach; then the audit
    // log, without which nothing may be done.
    for (away, back) in [
        ("ALTER TABLE issued_tokens RENAME TO out_of_reach", "ALTER TABLE out_of_reach RENAME TO issued_tokens"),
        ("ALTER TABLE audit_head RENAME TO out_of_reach", "ALTER TABLE out_of_reach RENAME TO audit_head"),
    ] {
        world.sql(away).await;
        unanswered().await;
        world.sql(back).await;
        assert!(program.is_active(&token).await, "{away}");
    }
    let node = world.another_node().await;
    world.app.store.close().await;
    unanswered().await;
    assert!(program.at(&node).is_active(&token).await);
    assert_eq!(program.at(&node).oauth("revoke", &[("token", &token)]).await.status(), StatusCode::OK);
    assert!(!program.at(&node).is_active(&token).await);
}
