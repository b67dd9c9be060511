//! Signed introspection responses (RFC 9701).

use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header, jwk::JwkSet};
use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};

use super::{ORDERS, Orders, claims, key_of, registered, token_for};
use crate::support::{Program, World, header_of, json as json_of, on_both};

on_both! {
    an_api_gets_the_answer_signed_for_it_when_it_asks_so
    a_signed_answer_is_no_token
}

const SIGNED: &str = "application/token-introspection+jwt";

async fn ask(asker: &Program, token: &str, accept: &str) -> reqwest::Response {
    let request = asker.client.post(format!("{}/oauth/introspect", asker.url)).header(header::ACCEPT, accept);
    let request = request.basic_auth(&asker.client_id, Some(&asker.client_secret)).form(&[("token", token)]);
    request.send().await.unwrap()
}

async fn an_api_gets_the_answer_signed_for_it_when_it_asks_so(world: World) {
    let maria = world.maria().await;
    let program = maria.generate().await;
    let id = registered(&maria, &Orders::default()).await;
    let orders = key_of(&maria, &id, "").await;
    let token = token_for(&program, ORDERS).await;
    let plain: Value = json_of(ask(&orders, &token, "*/*").await).await;
    let keys = world.stranger().request(Method::GET, "/.well-known/jwks.json").send().await.unwrap();
    let keys: JwkSet = keys.json().await.unwrap();
    let dead = program.token().await;
    for (about, expected) in [(&token, plain), (&dead, json!({ "active": false }))] {
        let response = ask(&orders, about, SIGNED).await;
        assert_eq!((response.status(), header_of(&response, "content-type")), (StatusCode::OK, SIGNED));
        assert_eq!(header_of(&response, "cache-control"), "no-store");
        let signed = response.text().await.unwrap();
        let head = decode_header(&signed).unwrap();
        assert_eq!((head.typ.as_deref(), head.alg), (Some("token-introspection+jwt"), Algorithm::ES256));
        let key = keys.find(&head.kid.unwrap()).unwrap();
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_audience(&[ORDERS]);
        validation.set_issuer(&[&world.url]);
        validation.set_required_spec_claims(&["iss", "aud"]);
        let said = decode::<Value>(&signed, &DecodingKey::from_jwk(key).unwrap(), &validation).unwrap().claims;
        let now = world.clock.now().as_second();
        assert_eq!(said, json!({ "iss": world.url, "aud": ORDERS, "iat": now, "token_introspection": expected }));
    }
    // A program is nobody's audience.
    let response = ask(&program, &token, SIGNED).await;
    assert_eq!(header_of(&response, "content-type"), "application/json");
    assert_eq!(json_of(response).await["active"], true);
}

async fn a_signed_answer_is_no_token(world: World) {
    let maria = world.maria().await;
    let program = maria.generate().await;
    let own = world.watcher().await;
    let token = program.token().await;
    let signed = ask(&own, &token, SIGNED).await.text().await.unwrap();
    assert_eq!(claims(&signed)["aud"], claims(&token)["aud"]);
    assert!(!own.is_active(&signed).await);
    let me = program.with(&signed, Method::GET, "/api/v1/me").send().await.unwrap();
    assert_eq!(me.status(), StatusCode::UNAUTHORIZED);
}
