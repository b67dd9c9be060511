//! Signing keys: published before they sign, taking over from each other, withdrawn (protocol 26).

mod acts;
mod pages;
mod races;
mod rewrap;

use jiff::SignedDuration;
use jsonwebtoken::{Algorithm as Jwt, DecodingKey, Validation, decode, decode_header, jwk::JwkSet};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::{
    apis::{Orders, token_for},
    support::{Person, World, header_of, json as json_of, on_both},
};

on_both! {
    protocol26_a_new_key_is_published_before_it_signs
    protocol26_the_key_set_is_cached_for_less_time_than_a_key_is_published_ahead
    protocol26_every_algorithm_signs_and_has_its_keys_from_the_first_api_on
    protocol26_a_key_from_before_goes_on_signing
    every_node_starts_with_the_same_keys
    nobody_puts_a_key_into_the_key_set_past_the_server
}

/// The key set of a server, each key id with its algorithm.
pub async fn key_set(at: &World) -> Vec<(String, String)> {
    let response = at.stranger().request(Method::GET, "/.well-known/jwks.json").send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let text = |key: &Value, name: &str| key[name].as_str().unwrap().to_owned();
    let keys = json_of(response).await["keys"].as_array().unwrap().clone();
    keys.iter().map(|k| (text(k, "kid"), text(k, "alg"))).collect()
}

/// The key ids of a server.
pub async fn kids(at: &World) -> Vec<String> {
    key_set(at).await.into_iter().map(|(kid, _)| kid).collect()
}

/// The key id of a token.
pub fn kid(token: &str) -> String {
    decode_header(token).unwrap().kid.unwrap()
}

/// The keys as the API lists them: state and key id, the latest first.
pub async fn listed(maria: &Person) -> Vec<(String, String)> {
    let keys = json_of(maria.get("/api/v1/keys").await).await["keys"].as_array().unwrap().clone();
    let text = |key: &Value, name: &str| key[name].as_str().unwrap().to_owned();
    keys.iter().map(|k| (text(k, "state"), text(k, "kid"))).collect()
}

/// The key in a state.
pub async fn in_state(maria: &Person, state: &str) -> String {
    let found = listed(maria).await.into_iter().find(|(s, _)| s == state);
    found.unwrap_or_else(|| panic!("none is {state}")).1
}

pub async fn rotate(maria: &Person, algorithm: &str, at_once: bool) -> Response {
    let body = json!({ "algorithm": algorithm, "at_once": at_once });
    maria.request(Method::POST, "/api/v1/keys/rotate").json(&body).send().await.unwrap()
}

pub async fn withdraw(maria: &Person, kid: &str) -> Response {
    let body = json!({ "reason": "Found in a backup" });
    maria.request(Method::POST, &format!("/api/v1/keys/{kid}/withdraw")).json(&body).send().await.unwrap()
}

/// As long as a key is to be published before it signs.
pub fn publish_ahead(world: &World) -> SignedDuration {
    world.app.config.keys.publish_ahead
}

async fn protocol26_a_new_key_is_published_before_it_signs(world: World) {
    let maria = world.maria().await;
    let program = maria.generate().await;
    let (active, upcoming) = (in_state(&maria, "active").await, in_state(&maria, "upcoming").await);
    assert_eq!(kid(&program.token().await), active);
    assert!(kids(&world).await.contains(&upcoming), "it is published and does not sign yet");
    world.pass(publish_ahead(&world));
    let maria = world.sign_in("maria@acme.example").await;
    let done = rotate(&maria, "ES256", false).await;
    assert_eq!(done.status(), StatusCode::OK);
    assert_eq!(kid(&program.token().await), upcoming);
    let set = kids(&world).await;
    let next = in_state(&maria, "upcoming").await;
    assert!([&active, &upcoming, &next].iter().all(|k| set.contains(*k)) && set.len() == 3, "{set:?}");
}

async fn protocol26_the_key_set_is_cached_for_less_time_than_a_key_is_published_ahead(world: World) {
    let response = world.stranger().request(Method::GET, "/.well-known/jwks.json").send().await.unwrap();
    assert_eq!(header_of(&response, "cache-control"), "public, max-age=300");
    assert!(SignedDuration::from_secs(300) < publish_ahead(&world));
}

async fn protocol26_every_algorithm_signs_and_has_its_keys_from_the_first_api_on(world: World) {
    let maria = world.maria().await;
    let program = maria.generate().await;
    let algorithms = async || {
        let path = "/.well-known/oauth-authorization-server";
        let response = world.stranger().request(Method::GET, path).send().await.unwrap();
        json_of(response).await["introspection_signing_alg_values_supported"].clone()
    };
    assert_eq!(algorithms().await, json!(["ES256"]), "none is made before an API selects it");
    let mut expected = 2;
    for (algorithm, jwt) in [("EdDSA", Jwt::EdDSA), ("RS256", Jwt::RS256), ("ES256", Jwt::ES256)] {
        let identifier = format!("urn:{algorithm}");
        let mut orders = Orders::default().json();
        (orders["identifier"], orders["algorithm"]) = (identifier.as_str().into(), algorithm.into());
        let mark = world.last_record().await;
        let made = maria.request(Method::POST, "/api/v1/apis").json(&orders).send().await.unwrap();
        assert_eq!(made.status(), StatusCode::CREATED);
        assert_eq!(json_of(made).await["algorithm"], algorithm);
        let new = usize::from(algorithm != "ES256") * 2;
        let told = world.told_after(mark).await;
        assert_eq!(told[0], "api.register done");
        assert_eq!(told[1..], vec!["key.create done"; new]);
        expected += new;
        assert_eq!(kids(&world).await.len(), expected, "one that signs and one that is published");
        let token = token_for(&program, &identifier).await;
        assert!(program.is_active(&token).await);
        let set = world.stranger().request(Method::GET, "/.well-known/jwks.json").send().await.unwrap();
        let set: JwkSet = set.json().await.unwrap();
        let head = decode_header(&token).unwrap();
        assert_eq!((head.alg, head.typ.as_deref()), (jwt, Some("at+jwt")));
        let key = DecodingKey::from_jwk(set.find(&head.kid.unwrap()).unwrap()).unwrap();
        let mut validation = Validation::new(jwt);
        validation.set_audience(&[&identifier]);
        validation.validate_exp = false;
        decode::<Value>(&token, &key, &validation).unwrap();
    }
    assert_eq!(algorithms().await, json!(["ES256", "EdDSA", "RS256"]));
    world.log_is_whole().await;
}

async fn protocol26_a_key_from_before_goes_on_signing(world: World) {
    let maria = world.maria().await;
    let program = maria.generate().await;
    let token = program.token().await;
    // As the migration leaves the one key that there was.
    world.sql("DELETE FROM signing_keys WHERE active_at IS NULL").await;
    world.sql("UPDATE signing_keys SET public = NULL, public_by = NULL, longest_seconds = 2592000").await;
    let node = world.another_node().await;
    assert!(program.at(&node).is_active(&token).await);
    assert_eq!(kid(&program.at(&node).token().await), kid(&token));
    assert_eq!(kids(&node).await.len(), 2, "and one that is published");
}

async fn every_node_starts_with_the_same_keys(world: World) {
    let node = world.another_node().await;
    assert_eq!(kids(&world).await, kids(&node).await);
    assert_eq!(kids(&world).await.len(), 2);
}

/// Whoever can write to the database and has no master key signs nothing that is believed.
async fn nobody_puts_a_key_into_the_key_set_past_the_server(world: World) {
    let maria = world.maria().await;
    let before = kids(&world).await;
    world
        .sql("UPDATE signing_keys SET public = (SELECT k.public FROM signing_keys k WHERE k.active_at IS NULL) WHERE active_at IS NOT NULL")
        .await;
    world.sql("UPDATE key_set SET version = version + 1").await;
    let response = world.stranger().request(Method::GET, "/.well-known/jwks.json").send().await.unwrap();
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR, "{before:?}");
    assert_eq!(maria.get("/api/v1/keys").await.status(), StatusCode::OK, "and it can be seen to");
}
