//! The main job, end to end: generate, request a token, call the API, revoke, be refused.

use reqwest::{Method, StatusCode};

use crate::support::{World, json, on_both};

on_both! {
    the_main_job_from_sign_in_to_refusal
    c11_a_revocation_on_one_node_stops_tokens_on_another
}

async fn the_main_job_from_sign_in_to_refusal(world: World) {
    let maria = world.maria().await;
    let program = maria.generate().await;
    let token = program.token().await;

    let me = json(program.with(&token, Method::GET, "/api/v1/me").send().await.unwrap()).await;
    assert_eq!(me["user"]["email"], "maria@acme.example");
    assert_eq!(me["via"], "access_token");
    assert!(program.is_active(&token).await);

    assert_eq!(maria.revoke().await.status(), StatusCode::OK);
    let refused = program.ask().await;
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(json(refused).await["error"], "invalid_client");
    let me = program.with(&token, Method::GET, "/api/v1/me").send().await.unwrap();
    assert_eq!(me.status(), StatusCode::UNAUTHORIZED);

    let tab = maria.get("/account/credentials").await.text().await.unwrap();
    assert!(tab.contains("No security credentials"), "the tab is empty again");
    let again = maria.generate().await;
    assert!(!again.is_active(&token).await, "revocation is final");
    assert!(world.app.store.verify_audit().await.unwrap().broken.is_none());
}

async fn c11_a_revocation_on_one_node_stops_tokens_on_another(world: World) {
    let other = world.another_node().await;
    let maria = world.maria().await;
    let program = maria.generate().await;
    let token = program.at(&other).token().await;
    assert!(program.at(&other).is_active(&token).await);
    assert_eq!(maria.revoke().await.status(), StatusCode::OK);
    assert_eq!(program.at(&other).ask().await.status(), StatusCode::UNAUTHORIZED);
    let me = program.at(&other).with(&token, Method::GET, "/api/v1/me").send().await.unwrap();
    assert_eq!(me.status(), StatusCode::UNAUTHORIZED);
}
