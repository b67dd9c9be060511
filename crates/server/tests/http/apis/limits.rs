//! How many APIs there may be, and how many scopes of one.

use portcullis_domain::apis::{Api, Settings};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Orders, registered, remove};
use crate::support::{World, json as json_of, on_both};

on_both! {
    protocol43_the_201st_api_is_refused_until_one_is_removed
    protocol43_the_51st_scope_of_an_api_is_refused
}

async fn protocol43_the_201st_api_is_refused_until_one_is_removed(world: World) {
    let maria = world.maria().await;
    let id = registered(&maria, &Orders::default()).await;
    // With the two that are there these make 199. They are put beside the server's own way of making them.
    let mut tx = world.app.store.write().await.unwrap();
    let like = tx.api(id.parse().unwrap()).await.unwrap().unwrap();
    for n in 3..200 {
        let settings = Settings { identifier: format!("urn:{n}"), ..like.settings.clone() };
        tx.add_api(&Api { id: world.clock.id(), settings, made_at: like.made_at }).await.unwrap();
    }
    tx.commit().await.unwrap();
    let more = |identifier| Orders { identifier, ..Orders::default() };
    registered(&maria, &more("urn:200")).await;
    let mark = world.last_record().await;
    let by_api = maria.request(Method::POST, "/api/v1/apis").json(&more("urn:201").json()).send().await.unwrap();
    assert_eq!(by_api.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let said = json_of(by_api).await["errors"][0]["detail"].clone();
    assert_eq!(said, "There are 200 APIs already. Remove one first.");
    let form = more("urn:201").form();
    let form: Vec<(&str, &str)> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let by_page = maria.post("/apis/new", &form).await;
    assert_eq!(by_page.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert!(by_page.text().await.unwrap().contains("There are 200 APIs already."));
    assert!(world.told_after(mark).await.is_empty());
    assert_eq!(remove(&maria, &id).await.status(), StatusCode::NO_CONTENT);
    registered(&maria, &more("urn:201")).await;
}

async fn protocol43_the_51st_scope_of_an_api_is_refused(world: World) {
    let maria = world.maria().await;
    let scopes = |count: usize| {
        let scope = |n: usize| json!({ "name": format!("s{n}"), "description": "x" });
        (0..count).map(scope).collect::<Vec<_>>()
    };
    let new = |count: usize| json!({ "name": "Many", "identifier": "urn:many", "scopes": scopes(count) });
    let post = async |path: &str, body: &Value| {
        let answer = maria.request(Method::POST, path).json(body).send().await.unwrap();
        (answer.status(), json_of(answer).await)
    };
    let said = "Enter at most 50 scopes.";
    let (status, refused) = post("/api/v1/apis", &new(51)).await;
    assert_eq!((status, &refused["errors"][0]["detail"]), (StatusCode::UNPROCESSABLE_ENTITY, &said.into()));
    let (status, made) = post("/api/v1/apis", &new(50)).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let path = format!("/api/v1/apis/{}", made["id"].as_str().unwrap());
    let change = |count: usize| {
        json!({
            "name": "Many", "scopes": scopes(count), "lifespan_seconds": 60, "requires_dpop": false,
            "algorithm": "ES256",
        })
    };
    let (status, refused) = post(&path, &change(51)).await;
    assert_eq!((status, &refused["errors"][0]["detail"]), (StatusCode::UNPROCESSABLE_ENTITY, &said.into()));
    assert_eq!(post(&path, &change(50)).await.0, StatusCode::OK);
}
