//! The product's own API as a protected resource (RFC 6750, RFC 9728).

use portcullis_domain::accounts::Role;
use reqwest::{Method, Response, StatusCode, header};

use crate::support::{FORM, Program, World, header_of, json, on_both, on_sqlite};

on_sqlite! {
    protocol21_no_token_is_401_bearer_without_an_error_code
    protocol22_the_challenge_names_the_metadata_and_the_document_is_right
}

on_both! {
    protocol21_a_bad_token_is_invalid_token
    protocol21_a_token_that_is_too_weak_is_403_insufficient_scope
    protocol21_a_token_in_the_query_or_sent_two_ways_is_refused
    t4_a_token_acts_as_its_owner_and_never_touches_credentials
}

const METADATA: &str = "/.well-known/oauth-protected-resource/api/v1";

/// The challenge that this error makes.
fn challenge(world: &World, error: &str) -> String {
    let metadata = format!("resource_metadata=\"{}{METADATA}\"", world.url);
    if error.is_empty() { format!("Bearer {metadata}") } else { format!("Bearer {error}, {metadata}") }
}

fn is_problem(response: &Response, status: StatusCode) {
    assert_eq!(response.status(), status);
    assert_eq!(header_of(response, "content-type"), "application/problem+json");
    assert_eq!(header_of(response, "cache-control"), "no-store");
}

async fn narrow(program: &Program, scope: &str) -> String {
    let response = program.oauth("token", &[("grant_type", "client_credentials"), ("scope", scope)]).await;
    json(response).await["access_token"].as_str().unwrap().to_owned()
}

async fn protocol21_no_token_is_401_bearer_without_an_error_code(world: World) {
    let program = world.maria().await.generate().await;
    for path in ["/api/v1/me", "/api/v1/users", "/api/v1/audit", "/api/v1/users/me/credential"] {
        for authorization in [None, Some("Bearer"), Some("Basic eDp5"), Some("")] {
            let mut request = world.stranger().request(Method::GET, path);
            if let Some(value) = authorization {
                request = request.header(header::AUTHORIZATION, value);
            }
            let response = request.send().await.unwrap();
            is_problem(&response, StatusCode::UNAUTHORIZED);
            assert_eq!(header_of(&response, "www-authenticate"), challenge(&world, ""), "{authorization:?}");
        }
        // The credential itself is for the OAuth endpoints, not for the API.
        let request = world.stranger().request(Method::GET, path);
        let request = request.basic_auth(&program.client_id, Some(&program.client_secret));
        is_problem(&request.send().await.unwrap(), StatusCode::UNAUTHORIZED);
    }
}

async fn protocol21_a_bad_token_is_invalid_token(world: World) {
    let program = world.maria().await.generate().await;
    let other = world.person("joao@acme.example", Role::SuperAdmin).await;
    let gone = other.generate().await;
    let (of_gone, revoked, good) = (gone.token().await, program.token().await, program.token().await);
    assert_eq!(other.revoke().await.status(), StatusCode::OK);
    assert_eq!(program.oauth("revoke", &[("token", &revoked)]).await.status(), StatusCode::OK);
    let twice = format!("{good}, Bearer {good}");
    let secret = &program.client_secret;
    for bad in ["x", "a.b.c", "..", "=", &of_gone, &revoked, &twice, secret, &format!("{good} {good}")] {
        for path in ["/api/v1/me", "/api/v1/users", "/api/v1/session/end"] {
            let method = if path.ends_with("end") { Method::POST } else { Method::GET };
            let response = program.with(bad, method, path).send().await.unwrap();
            is_problem(&response, StatusCode::UNAUTHORIZED);
            assert_eq!(header_of(&response, "www-authenticate"), challenge(&world, "error=\"invalid_token\""));
            let body = json(response).await;
            assert_eq!(body["code"], "invalid_token");
            assert!(!body.to_string().contains(bad) || bad.len() < 4, "L-2");
        }
    }
    world.pass(jiff::SignedDuration::from_hours(24));
    let response = program.with(&good, Method::GET, "/api/v1/me").send().await.unwrap();
    assert_eq!(header_of(&response, "www-authenticate"), challenge(&world, "error=\"invalid_token\""), "ended");
}

async fn protocol21_a_token_that_is_too_weak_is_403_insufficient_scope(world: World) {
    let program = world.maria().await.generate().await;
    for (has, may, needs, may_not) in [
        ("users:read", "/api/v1/users", "audit:read", "/api/v1/audit"),
        ("audit:read", "/api/v1/audit", "users:read", "/api/v1/users"),
    ] {
        let token = narrow(&program, has).await;
        assert_eq!(program.with(&token, Method::GET, may).send().await.unwrap().status(), StatusCode::OK);
        let response = program.with(&token, Method::GET, may_not).send().await.unwrap();
        is_problem(&response, StatusCode::FORBIDDEN);
        let wanted = challenge(&world, &format!("error=\"insufficient_scope\", scope=\"{needs}\""));
        assert_eq!(header_of(&response, "www-authenticate"), wanted);
        assert_eq!(json(response).await["code"], "insufficient_scope");
        let both = program.token().await;
        assert_eq!(program.with(&both, Method::GET, may_not).send().await.unwrap().status(), StatusCode::OK);
    }
}

async fn protocol21_a_token_in_the_query_or_sent_two_ways_is_refused(world: World) {
    let maria = world.maria().await;
    let program = maria.generate().await;
    let token = program.token().await;
    let stranger = world.stranger();
    let get = |path: &str| stranger.request(Method::GET, path);
    let in_query = format!("/api/v1/me?access_token={token}");
    let bearer = format!("Bearer {token}");
    for request in [
        get(&in_query),
        get(&in_query.replace("access_token", "access%5Ftoken")),
        get("/api/v1/me?access_token="),
        get(&in_query).bearer_auth(&token),
        get(&in_query).header(header::COOKIE, &maria.cookie),
        get("/api/v1/me").header(header::AUTHORIZATION, &bearer).header(header::AUTHORIZATION, &bearer),
        get("/api/v1/me").header(header::AUTHORIZATION, &bearer).header(header::AUTHORIZATION, "Basic eDp5"),
        get("/api/v1/me").bearer_auth(&token).header(header::COOKIE, &maria.cookie),
    ] {
        let response = request.send().await.unwrap();
        is_problem(&response, StatusCode::BAD_REQUEST);
        assert_eq!(header_of(&response, "www-authenticate"), challenge(&world, "error=\"invalid_request\""));
        assert!(!response.text().await.unwrap().contains(&token));
    }
    // A token in a form is not looked at.
    let request = stranger.request(Method::POST, "/api/v1/session/end").header(header::CONTENT_TYPE, FORM);
    let response = request.body(format!("access_token={token}")).send().await.unwrap();
    is_problem(&response, StatusCode::UNAUTHORIZED);
    assert_eq!(header_of(&response, "www-authenticate"), challenge(&world, ""));
    // The scheme has no case.
    let lower = get("/api/v1/me").header(header::AUTHORIZATION, format!("bEARER {token}"));
    assert_eq!(lower.send().await.unwrap().status(), StatusCode::OK);
}

async fn protocol22_the_challenge_names_the_metadata_and_the_document_is_right(world: World) {
    let response = world.stranger().request(Method::GET, "/api/v1/me").send().await.unwrap();
    let named = header_of(&response, "www-authenticate");
    let named = named.split_once("resource_metadata=\"").unwrap().1.split('"').next().unwrap().to_owned();
    assert_eq!(named, format!("{}{METADATA}", world.url));
    let response = reqwest::get(&named).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(header_of(&response, "content-type"), "application/json");
    let document = json(response).await;
    let resource = document["resource"].as_str().unwrap();
    // RFC 9728 §3.3: the well-known name stands between the host and the path of the resource.
    assert_eq!(named, resource.replace("/api/v1", METADATA));
    assert_eq!(document["authorization_servers"], serde_json::json!([world.url]));
    assert_eq!(document["bearer_methods_supported"], serde_json::json!(["header"]));
    assert_eq!(document["scopes_supported"], serde_json::json!(["users:read", "audit:read", "apis:read"]));
    let program = world.maria().await.generate().await;
    let claims =
        jsonwebtoken::dangerous::insecure_decode::<serde_json::Value>(&program.token().await).unwrap().claims;
    assert_eq!(claims["aud"], resource, "a token for it is for it");
}

async fn t4_a_token_acts_as_its_owner_and_never_touches_credentials(world: World) {
    let program = world.maria().await.generate().await;
    let token = program.token().await;
    let me = json(program.with(&token, Method::GET, "/api/v1/me").send().await.unwrap()).await;
    assert_eq!(me["user"]["email"], "maria@acme.example");
    assert_eq!(me["client_id"], program.client_id);
    for act in ["generate", "revoke"] {
        let path = format!("/api/v1/users/me/credential/{act}");
        let response = program.with(&token, Method::POST, &path).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::FORBIDDEN, "{act}");
        assert_eq!(json(response).await["code"], "not_with_a_token");
    }
    for page in ["/account/credentials", "/account", "/audit", "/"] {
        let response = program.with(&token, Method::GET, page).send().await.unwrap();
        assert!(!response.status().is_success(), "the console takes no token: {page}");
    }
    assert!(program.is_active(&token).await);
}
