//! The keys of an API: shown once, two at most, over when they are said to be.

use jiff::SignedDuration;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{ORDERS, Orders, key_of, make_key, registered, token_for};
use crate::support::{Program, World, header_of, json as json_of, oauth_error, on_both};

on_both! {
    a_key_is_shown_once_and_never_again
    an_older_key_works_for_the_overlap_and_no_longer
    a_removed_key_stops_at_once_on_every_node
    protocol09_an_unknown_key_and_a_wrong_secret_are_the_same_bytes
    l1_every_act_on_a_key_says_which_and_never_the_secret
}

async fn a_key_is_shown_once_and_never_again(world: World) {
    let maria = world.maria().await;
    let id = registered(&maria, &Orders::default()).await;
    let by_page = maria.post(&format!("/apis/{id}/keys"), &[]).await;
    assert_eq!((by_page.status(), header_of(&by_page, "cache-control")), (StatusCode::OK, "no-store"));
    let page = by_page.text().await.unwrap();
    let at = page.find("pck_").unwrap();
    let by_page = page[at..at + 54].to_owned();
    let by_api = key_of(&maria, &id, "").await;
    for secret in [&by_page, &by_api.client_secret] {
        assert!(portcullis_domain::secret::ApiSecret::is_well_formed(secret), "{secret}");
    }
    let reloaded = maria.get(&format!("/apis/{id}/keys")).await;
    assert_eq!((reloaded.status(), header_of(&reloaded, "location")), (StatusCode::SEE_OTHER, "/apis"));
    let mut everything = format!("{:?}", world.records_after(0).await);
    for path in
        ["/apis", &format!("/apis/{id}"), "/audit", "/api/v1/apis", &format!("/api/v1/apis/{id}"), "/api/v1/audit"]
    {
        everything += &maria.get(path).await.text().await.unwrap();
    }
    assert!(everything.contains(&by_api.client_id) && !everything.contains("pck_"), "protocol 33");
    let keys = world.app.store.read().await.unwrap().api_keys(id.parse().unwrap()).await.unwrap();
    assert!(!format!("{keys:?}").contains("pck_"), "at rest there is a digest");
}

async fn asks(key: &Program, token: &str) -> StatusCode {
    key.oauth("introspect", &[("token", token)]).await.status()
}

async fn an_older_key_works_for_the_overlap_and_no_longer(world: World) {
    let maria = world.maria().await;
    let program = maria.generate().await;
    let id = registered(&maria, &Orders { lifespan: 2_592_000, ..Orders::default() }).await;
    let token = token_for(&program, ORDERS).await;
    let first = key_of(&maria, &id, "").await;
    let second = key_of(&maria, &id, "hour").await;
    assert!(first.is_active(&token).await && second.is_active(&token).await);
    let third = make_key(&maria, &id, "week").await;
    assert_eq!(
        (third.status(), json_of(third).await["code"].clone()),
        (StatusCode::CONFLICT, "too_many_keys".into())
    );
    world.pass(SignedDuration::from_secs(3599));
    assert!(first.is_active(&token).await);
    world.pass(SignedDuration::from_secs(1));
    let said = oauth_error(first.oauth("introspect", &[("token", &token)]).await, 401, "invalid_client").await;
    assert!(said.contains("The key ended at 20"), "who holds the secret is told: {said}");
    let wrong = Program { client_secret: "pck_wrong".to_owned(), ..first.clone() };
    let said = oauth_error(wrong.oauth("introspect", &[("token", &token)]).await, 401, "invalid_client").await;
    assert!(!said.contains("ended"), "and nobody else: {said}");
    assert!(second.is_active(&token).await);
    // The one that ended gives its place.
    let again = async || world.sign_in("maria@acme.example").await;
    let third = key_of(&again().await, &id, "").await;
    world.pass(SignedDuration::from_hours(24) - SignedDuration::from_secs(1));
    assert!(second.is_active(&token).await && third.is_active(&token).await, "a day where nothing is said");
    let maria = again().await;
    let at_once = key_of(&maria, &id, "at_once").await;
    for stopped in [&first, &second, &third] {
        assert_eq!(asks(stopped, &token).await, StatusCode::UNAUTHORIZED);
    }
    assert!(at_once.is_active(&token).await);
    assert_eq!(make_key(&maria, &id, "a_year").await.status(), StatusCode::UNPROCESSABLE_ENTITY);
}

async fn a_removed_key_stops_at_once_on_every_node(world: World) {
    let node = world.another_node().await;
    let maria = world.maria().await;
    let token = maria.generate().await.token().await;
    let id = registered(&maria, &Orders::default()).await;
    let other = registered(&maria, &Orders { identifier: "urn:x", ..Orders::default() }).await;
    let (one, two) = (key_of(&maria, &id, "").await, key_of(&maria, &id, "").await);
    let remove = async |api: &str, key: &str| {
        let path = format!("/api/v1/apis/{api}/keys/{key}/remove");
        maria.request(Method::POST, &path).send().await.unwrap().status()
    };
    for (api, key) in
        [(&other, &one.client_id), (&id, &"pca_00000000000000000000".to_owned()), (&id, &"x".to_owned())]
    {
        assert_eq!(remove(api, key).await, StatusCode::NOT_FOUND);
    }
    assert_eq!(asks(&one, &token).await, StatusCode::OK);
    assert_eq!(remove(&id, &one.client_id).await, StatusCode::NO_CONTENT);
    assert_eq!(remove(&id, &one.client_id).await, StatusCode::NOT_FOUND);
    for place in [&world, &node] {
        assert_eq!(asks(&one.at(place), &token).await, StatusCode::UNAUTHORIZED);
        assert_eq!(asks(&two.at(place), &token).await, StatusCode::OK);
    }
}

async fn protocol09_an_unknown_key_and_a_wrong_secret_are_the_same_bytes(world: World) {
    let maria = world.maria().await;
    let id = registered(&maria, &Orders::default()).await;
    let key = key_of(&maria, &id, "").await;
    let mut answers = Vec::new();
    for (id, secret) in [
        (&*key.client_id, "pck_wrong"),
        ("pca_zzzzzzzzzzzzzzzzzzzz", &*key.client_secret),
        ("pca_00000000000000000000", ""),
        ("pca_", "x"),
        ("pca_\u{0}", "x"),
        (&*key.client_id, &*"x".repeat(300)),
        ("pcc_00000000000000000001", &*key.client_secret),
    ] {
        let stranger = Program { client_id: id.to_owned(), client_secret: secret.to_owned(), ..key.clone() };
        let answer = stranger.oauth("introspect", &[("token", "x")]).await;
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{id}");
        answers.push(answer.text().await.unwrap());
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
    let told = world.records_after(0).await;
    let refused: Vec<&str> = told.iter().filter(|r| r.event == "token.refuse").map(|r| &*r.subject).collect();
    assert_eq!(refused.len(), 7);
    assert!(refused.contains(&&*key.client_id) && refused.contains(&"malformed Client ID"), "{refused:?}");
}

async fn l1_every_act_on_a_key_says_which_and_never_the_secret(world: World) {
    let maria = world.maria().await;
    let id = registered(&maria, &Orders::default()).await;
    let mark = world.last_record().await;
    let (one, two) = (key_of(&maria, &id, "").await, key_of(&maria, &id, "day").await);
    let path = format!("/api/v1/apis/{id}/keys/{}/remove", two.client_id);
    maria.request(Method::POST, &path).send().await.unwrap();
    maria.request(Method::POST, &format!("/api/v1/apis/{id}/remove")).send().await.unwrap();
    let records = world.records_after(mark).await;
    let events: Vec<&str> = records.iter().map(|r| r.event.as_str()).collect();
    assert_eq!(events, ["api_key.make", "api_key.make", "api_key.remove", "api.remove"]);
    assert!(records.iter().all(|r| r.subject == ORDERS));
    let details: Vec<Value> = records.iter().map(|r| serde_json::from_str(&r.details).unwrap()).collect();
    assert_eq!(details[0], json!({ "key": one.client_id }));
    assert_eq!((&details[1]["key"], &details[1]["older_key"]), (&json!(two.client_id), &json!(one.client_id)));
    assert_eq!(details[2]["key"], *two.client_id);
    assert_eq!(details[3]["keys"], *one.client_id);
    world.log_is_whole().await;
}
