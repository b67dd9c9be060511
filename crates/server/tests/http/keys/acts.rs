//! What is done to signing keys, and what time does.

use jiff::SignedDuration;
use portcullis_domain::accounts::Role;
use reqwest::{Method, StatusCode};
use serde_json::json;

use super::{in_state, key_set, kid, kids, listed, publish_ahead, rotate, withdraw};
use crate::{
    apis::{ORDERS, Orders, key_of, registered, token_for},
    support::{World, json as json_of, on_both},
};

on_both! {
    protocol26_an_early_rotation_is_refused_and_says_from_when
    protocol26_an_old_key_stays_until_its_last_token_has_ended_plus_skew
    protocol26_an_old_key_stays_as_long_as_the_longest_lifespan_there_was
    protocol26_the_schedule_rotates_once_whichever_node_is_first
    c11_withdrawing_the_active_key_stops_its_tokens_on_every_node
    an_upcoming_and_a_retiring_key_are_withdrawn_too
    a_key_is_withdrawn_once_and_with_a_reason
    t4_a_token_reads_the_keys_and_does_nothing_to_them
    an_algorithm_that_no_api_uses_has_nothing_to_rotate
    a_change_of_the_algorithm_is_for_tokens_from_then_on
    a_withdrawn_key_signs_no_introspection_response
}

async fn protocol26_an_early_rotation_is_refused_and_says_from_when(world: World) {
    let maria = world.maria().await;
    let before = listed(&maria).await;
    let mark = world.last_record().await;
    let refused = rotate(&maria, "ES256", false).await;
    assert_eq!(refused.status(), StatusCode::CONFLICT);
    let problem = json_of(refused).await;
    assert_eq!(problem["code"], "too_early");
    let from = (world.clock.now() + publish_ahead(&world)).to_string();
    assert!(problem["detail"].as_str().unwrap().contains(&from), "{problem}");
    assert_eq!(listed(&maria).await, before);
    assert!(world.told_after(mark).await.is_empty());
    assert_eq!(rotate(&maria, "ES256", true).await.status(), StatusCode::OK, "when it must be");
    assert_eq!(in_state(&maria, "active").await, before.iter().find(|(s, _)| s == "upcoming").unwrap().1);
    assert_eq!(world.told_after(mark).await, ["key.rotate done"]);
}

async fn protocol26_an_old_key_stays_until_its_last_token_has_ended_plus_skew(world: World) {
    let maria = world.maria().await;
    let program = maria.generate().await;
    world.pass(publish_ahead(&world));
    let maria = world.sign_in("maria@acme.example").await;
    let last = program.token().await;
    let old = kid(&last);
    assert_eq!(rotate(&maria, "ES256", false).await.status(), StatusCode::OK);
    assert!(program.is_active(&last).await);
    world.pass(SignedDuration::from_secs(86_400 + 59));
    assert!(kids(&world).await.contains(&old), "the last second of the skew");
    world.pass(SignedDuration::from_secs(1));
    assert!(!kids(&world).await.contains(&old));
    let maria = world.sign_in("maria@acme.example").await;
    assert_eq!(in_state(&maria, "retired").await, old);
    let mark = world.last_record().await;
    for _ in 0..2 {
        world.app.tend_keys().await.unwrap();
    }
    assert_eq!(world.told_after(mark).await, ["key.retire done"], "once");
    world.pass(SignedDuration::from_hours(91 * 24));
    world.app.sweep().await.unwrap();
    let maria = world.sign_in("maria@acme.example").await;
    assert!(!listed(&maria).await.iter().any(|(_, kid)| *kid == old), "the audit log has the rest");
    world.log_is_whole().await;
}

async fn protocol26_an_old_key_stays_as_long_as_the_longest_lifespan_there_was(world: World) {
    let maria = world.maria().await;
    let id = registered(&maria, &Orders { lifespan: 2_592_000, ..Orders::default() }).await;
    let old = in_state(&maria, "active").await;
    let shorter = json!({ "name": "Orders", "scopes": [], "lifespan_seconds": 60, "requires_dpop": false, "algorithm": "ES256" });
    let path = format!("/api/v1/apis/{id}");
    let changed = maria.request(Method::POST, &path).json(&shorter).send().await.unwrap();
    assert_eq!(changed.status(), StatusCode::OK);
    assert_eq!(rotate(&maria, "ES256", true).await.status(), StatusCode::OK);
    world.pass(SignedDuration::from_secs(2_592_000 + 59));
    assert!(kids(&world).await.contains(&old), "tokens from before the change may be there");
    world.pass(SignedDuration::from_secs(1));
    assert!(!kids(&world).await.contains(&old));
}

async fn protocol26_the_schedule_rotates_once_whichever_node_is_first(world: World) {
    let node = world.another_node().await;
    let maria = world.maria().await;
    let program = maria.generate().await;
    let (active, upcoming) = (in_state(&maria, "active").await, in_state(&maria, "upcoming").await);
    let mark = world.last_record().await;
    world.pass(SignedDuration::from_secs(7_776_000 - 1));
    world.app.tend_keys().await.unwrap();
    assert!(world.told_after(mark).await.is_empty(), "not a second too early");
    world.pass(SignedDuration::from_secs(1));
    let (here, there) = tokio::join!(world.app.tend_keys(), node.app.tend_keys());
    here.unwrap();
    there.unwrap();
    node.app.tend_keys().await.unwrap();
    assert_eq!(world.told_after(mark).await, ["key.rotate done"]);
    for at in [&world, &node] {
        assert_eq!(kid(&program.at(at).token().await), upcoming);
    }
    assert!(kids(&node).await.contains(&active));
}

async fn c11_withdrawing_the_active_key_stops_its_tokens_on_every_node(world: World) {
    let node = world.another_node().await;
    let maria = world.maria().await;
    let program = maria.generate().await;
    let token = program.token().await;
    assert!(program.at(&node).is_active(&token).await, "the other node holds the key");
    let (active, upcoming) = (in_state(&maria, "active").await, in_state(&maria, "upcoming").await);
    let mark = world.last_record().await;
    assert_eq!(withdraw(&maria, &active).await.status(), StatusCode::OK);
    for at in [&node, &world] {
        assert!(!program.at(at).is_active(&token).await, "with the next request");
        let me = program.at(at).with(&token, Method::GET, "/api/v1/me").send().await.unwrap();
        assert_eq!(me.status(), StatusCode::UNAUTHORIZED);
        assert!(!kids(at).await.contains(&active));
        let next = program.at(at).token().await;
        assert_eq!(kid(&next), upcoming, "it was published all along");
        assert!(program.is_active(&next).await);
    }
    assert_eq!(kids(&node).await.len(), 2);
    let records = world.records_after(mark).await;
    assert_eq!(records.len(), 1, "one record of the act");
    assert_eq!((records[0].event.as_str(), records[0].subject.as_str()), ("key.withdraw", active.as_str()));
    assert!(records[0].details.contains("Found in a backup") && records[0].details.contains(&upcoming));
    let revoked = program.oauth("revoke", &[("token", &token)]).await;
    assert_eq!(revoked.status(), StatusCode::OK, "as good as revoked");
}

async fn an_upcoming_and_a_retiring_key_are_withdrawn_too(world: World) {
    let node = world.another_node().await;
    let maria = world.maria().await;
    let program = maria.generate().await;
    let upcoming = in_state(&maria, "upcoming").await;
    assert_eq!(withdraw(&maria, &upcoming).await.status(), StatusCode::OK);
    let next = in_state(&maria, "upcoming").await;
    assert!(next != upcoming && !kids(&node).await.contains(&upcoming) && kids(&node).await.contains(&next));
    let token = program.token().await;
    assert_eq!(rotate(&maria, "ES256", true).await.status(), StatusCode::OK);
    let mark = world.last_record().await;
    let old = in_state(&maria, "retiring").await;
    assert_eq!(kid(&token), old);
    assert_eq!(withdraw(&maria, &old).await.status(), StatusCode::OK);
    assert!(!program.at(&node).is_active(&token).await);
    assert_eq!(kids(&node).await.len(), 2, "no other is made for it");
    assert_eq!(world.told_after(mark).await, ["key.withdraw done"]);
}

async fn a_key_is_withdrawn_once_and_with_a_reason(world: World) {
    let maria = world.maria().await;
    let active = in_state(&maria, "active").await;
    for reason in ["", " ", "a\nb", &"x".repeat(201)] {
        let path = format!("/api/v1/keys/{active}/withdraw");
        let sent = maria.request(Method::POST, &path).json(&json!({ "reason": reason })).send().await.unwrap();
        assert_eq!(sent.status(), StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(json_of(sent).await["errors"][0]["field"], "reason");
    }
    assert_eq!(withdraw(&maria, "no-such-key").await.status(), StatusCode::NOT_FOUND);
    assert_eq!(withdraw(&maria, &active).await.status(), StatusCode::OK);
    let again = withdraw(&maria, &active).await;
    assert_eq!(again.status(), StatusCode::CONFLICT);
    assert_eq!(json_of(again).await["code"], "key_over");
}

async fn t4_a_token_reads_the_keys_and_does_nothing_to_them(world: World) {
    let maria = world.maria().await;
    let program = maria.generate().await;
    let token = program.token().await;
    let read = program.with(&token, Method::GET, "/api/v1/keys").send().await.unwrap();
    assert_eq!(read.status(), StatusCode::OK);
    let text = read.text().await.unwrap();
    assert!(
        text.contains("\"state\":\"active\"") && !text.contains("\"d\"") && !text.contains("sealed"),
        "{text}"
    );
    let narrow = program.oauth("token", &[("grant_type", "client_credentials"), ("scope", "users:read")]).await;
    let narrow = json_of(narrow).await["access_token"].as_str().unwrap().to_owned();
    let refused = program.with(&narrow, Method::GET, "/api/v1/keys").send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    let ana = world.person("ana@acme.example", Role::User).await;
    let before = listed(&maria).await;
    let path = format!("/api/v1/keys/{}/withdraw", before[0].1);
    for (path, body) in [
        ("/api/v1/keys/rotate", json!({ "algorithm": "ES256", "at_once": true })),
        (path.as_str(), json!({ "reason": "x" })),
    ] {
        let sent = program.with(&token, Method::POST, path).json(&body).send().await.unwrap();
        assert_eq!(sent.status(), StatusCode::FORBIDDEN);
        let sent = ana.request(Method::POST, path).json(&body).send().await.unwrap();
        assert_eq!(sent.status(), StatusCode::FORBIDDEN);
    }
    assert_eq!(listed(&maria).await, before);
}

async fn an_algorithm_that_no_api_uses_has_nothing_to_rotate(world: World) {
    let maria = world.maria().await;
    let refused = rotate(&maria, "RS256", true).await;
    assert_eq!(refused.status(), StatusCode::CONFLICT);
    assert_eq!(json_of(refused).await["code"], "algorithm_not_in_use");
    let unknown = rotate(&maria, "none", true).await;
    assert_eq!(unknown.status(), StatusCode::UNPROCESSABLE_ENTITY);
}

async fn a_change_of_the_algorithm_is_for_tokens_from_then_on(world: World) {
    let node = world.another_node().await;
    let maria = world.maria().await;
    let program = maria.generate().await;
    let id = registered(&maria, &Orders::default()).await;
    let before = token_for(&program.at(&node), ORDERS).await;
    let path = format!("/api/v1/apis/{id}");
    let change = json!({ "name": "Orders", "scopes": [], "lifespan_seconds": 3600, "requires_dpop": false, "algorithm": "EdDSA" });
    assert_eq!(maria.request(Method::POST, &path).json(&change).send().await.unwrap().status(), StatusCode::OK);
    let after = token_for(&program.at(&node), ORDERS).await;
    let algorithm = async |kid: String| key_set(&node).await.into_iter().find(|(k, _)| *k == kid).unwrap().1;
    assert_eq!((algorithm(kid(&before)).await, algorithm(kid(&after)).await), ("ES256".into(), "EdDSA".into()));
    for token in [&before, &after] {
        assert!(program.is_active(token).await);
    }
    // Nothing is changed by leaving it out.
    let less = json!({ "name": "Orders", "scopes": [], "lifespan_seconds": 60, "requires_dpop": false });
    let less = maria.request(Method::POST, &path).json(&less).send().await.unwrap();
    assert_eq!(less.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let mut wrong = change;
    wrong["algorithm"] = "HS256".into();
    let wrong = maria.request(Method::POST, &path).json(&wrong).send().await.unwrap();
    assert_eq!(json_of(wrong).await["errors"][0]["field"], "algorithm");
}

async fn a_withdrawn_key_signs_no_introspection_response(world: World) {
    let node = world.another_node().await;
    let maria = world.maria().await;
    let id = registered(&maria, &Orders::default()).await;
    let orders = key_of(&maria, &id, "").await.at(&node);
    let said = async || {
        let request = orders.client.post(format!("{}/oauth/introspect", orders.url));
        let request = request.basic_auth(&orders.client_id, Some(&orders.client_secret)).form(&[("token", "x")]);
        let accept = "application/token-introspection+jwt";
        request.header("accept", accept).send().await.unwrap().text().await.unwrap()
    };
    let before = kid(&said().await);
    assert_eq!(withdraw(&maria, &before).await.status(), StatusCode::OK);
    assert_ne!(kid(&said().await), before);
}
