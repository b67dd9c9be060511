//! What the server says of itself: metadata (RFC 8414) and keys (RFC 7517).

use std::collections::BTreeSet;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use jsonwebtoken::jwk::{Jwk, JwkSet, ThumbprintHash};
use reqwest::{Method, StatusCode, header};
use serde_json::Value;

use crate::client_keys::{Key, assert_at, bind};
use crate::support::{FORM, World, header_of, json, on_both, on_sqlite};

on_sqlite! {
    protocol25_both_well_known_forms_are_the_same_document
    protocol25_every_member_is_the_right_one
}

on_both! {
    protocol25_the_issuer_is_byte_equal_to_iss_and_the_configuration
    protocol25_the_metadata_lists_only_what_works
    protocol27_every_algorithm_that_is_listed_works_where_it_is_listed
    protocol26_the_key_set_has_public_members_only_and_unique_kids
    protocol26_the_key_set_is_cacheable_and_an_unchanged_one_costs_a_304
    protocol26_every_node_and_a_restart_serve_the_same_keys
}

const SERVER: &str = "/.well-known/oauth-authorization-server";
const KEYS: &str = "/.well-known/jwks.json";

async fn get(world: &World, path: &str) -> reqwest::Response {
    world.stranger().request(Method::GET, path).send().await.unwrap()
}

fn texts(list: &Value) -> BTreeSet<&str> {
    list.as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect()
}

async fn protocol25_both_well_known_forms_are_the_same_document(world: World) {
    let (one, two) = (get(&world, SERVER).await, get(&world, "/.well-known/openid-configuration").await);
    for response in [&one, &two] {
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(header_of(response, "content-type"), "application/json");
        assert!(header_of(response, "cache-control").contains("max-age="));
    }
    assert_eq!(one.bytes().await.unwrap(), two.bytes().await.unwrap());
    for wrong in
        ["/oauth/token/.well-known/oauth-authorization-server", "/.well-known/oauth-authorization-server/x"]
    {
        assert_eq!(get(&world, wrong).await.status(), StatusCode::NOT_FOUND, "the issuer has no path");
    }
}

async fn protocol25_every_member_is_the_right_one(world: World) {
    let metadata = json(get(&world, SERVER).await).await;
    let members: BTreeSet<&str> = metadata.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = [
        "issuer",
        "token_endpoint",
        "introspection_endpoint",
        "revocation_endpoint",
        "jwks_uri",
        "grant_types_supported",
        "response_types_supported",
        "scopes_supported",
        "token_endpoint_auth_methods_supported",
        "token_endpoint_auth_signing_alg_values_supported",
        "dpop_signing_alg_values_supported",
        "introspection_endpoint_auth_methods_supported",
        "introspection_endpoint_auth_signing_alg_values_supported",
        "introspection_signing_alg_values_supported",
        "revocation_endpoint_auth_methods_supported",
        "revocation_endpoint_auth_signing_alg_values_supported",
        "protected_resources",
    ];
    assert_eq!(members, BTreeSet::from(expected), "what is listed here is tested below");
    assert_eq!(metadata["response_types_supported"], serde_json::json!([]), "there is no authorization endpoint");
}

async fn protocol25_the_issuer_is_byte_equal_to_iss_and_the_configuration(world: World) {
    let program = world.maria().await.generate().await;
    let node = world.another_node().await;
    for place in [&world, &node] {
        let issuer = json(get(place, SERVER).await).await["issuer"].as_str().unwrap().to_owned();
        assert_eq!(issuer, place.app.config.public_url);
        assert_eq!(issuer, world.url);
        let token = program.at(place).token().await;
        let claims = jsonwebtoken::dangerous::insecure_decode::<Value>(&token).unwrap().claims;
        assert_eq!(claims["iss"], *issuer);
        let seen = json(program.at(place).oauth("introspect", &[("token", &token)]).await).await;
        assert_eq!(seen["iss"], *issuer);
        let resource = json(get(place, "/.well-known/oauth-protected-resource/api/v1").await).await;
        assert_eq!(resource["authorization_servers"], serde_json::json!([issuer]));
    }
}

async fn protocol27_every_algorithm_that_is_listed_works_where_it_is_listed(world: World) {
    let maria = world.maria().await;
    let program = maria.generate().await;
    let token = program.token().await;
    let metadata = json(get(&world, SERVER).await).await;
    for key in [Key::p256(1), Key::ed25519(), Key::rsa()] {
        bind(&maria, &program, &key).await;
        for (endpoint, path) in [("token", "token"), ("introspection", "introspect"), ("revocation", "revoke")] {
            let listed = texts(&metadata[format!("{endpoint}_endpoint_auth_signing_alg_values_supported")]);
            assert!(listed.len() == 3 && listed.contains(key.algorithm()), "{endpoint}: {listed:?}");
            let more = [("grant_type", "client_credentials"), ("token", token.as_str())];
            let assertion = key.assertion(&world, &program.client_id);
            let response = assert_at(&world.url, path, &assertion, &more).await;
            assert_eq!(response.status(), StatusCode::OK, "{endpoint} {}", key.algorithm());
        }
    }
}

async fn protocol25_the_metadata_lists_only_what_works(world: World) {
    let program = world.maria().await.generate().await;
    let metadata = json(get(&world, SERVER).await).await;
    let address = |name: &str| metadata[name].as_str().unwrap().to_owned();
    let client = reqwest::Client::new();
    assert_eq!(client.get(address("jwks_uri")).send().await.unwrap().status(), StatusCode::OK);

    let api = world.watcher().await;
    let mut token = String::new();
    for grant in texts(&metadata["grant_types_supported"]) {
        for scope in texts(&metadata["scopes_supported"]) {
            let request = client.post(address("token_endpoint"));
            let request = request.basic_auth(&program.client_id, Some(&program.client_secret));
            let response = request.form(&[("grant_type", grant), ("scope", scope)]).send().await.unwrap();
            assert_eq!(response.status(), StatusCode::OK, "{grant} {scope}");
            let body = json(response).await;
            assert_eq!(body["scope"], scope);
            token = body["access_token"].as_str().unwrap().to_owned();
        }
    }
    for endpoint in ["token", "introspection", "revocation"] {
        let methods = texts(&metadata[format!("{endpoint}_endpoint_auth_methods_supported")]);
        assert_eq!(
            methods,
            BTreeSet::from(["client_secret_basic", "client_secret_post", "private_key_jwt"]),
            "{endpoint}"
        );
        for method in methods.into_iter().filter(|m| *m != "private_key_jwt") {
            let form = format!("grant_type=client_credentials&token={token}");
            for who in [&program, &api] {
                let (id, secret) = (&who.client_id, &who.client_secret);
                let request = client.post(address(&format!("{endpoint}_endpoint")));
                let request = request.header(header::CONTENT_TYPE, FORM);
                let request = if method == "client_secret_basic" {
                    request.basic_auth(id, Some(secret)).body(form.clone())
                } else {
                    request.body(format!("{form}&client_id={id}&client_secret={secret}"))
                };
                // An API asks about tokens; it has none, and takes none back.
                let takes = who.client_id == program.client_id || endpoint == "introspection";
                let expected = if takes { StatusCode::OK } else { StatusCode::UNAUTHORIZED };
                assert_eq!(request.send().await.unwrap().status(), expected, "{endpoint} by {method}: {id}");
            }
        }
    }
    let algorithms = texts(&metadata["introspection_signing_alg_values_supported"]);
    let request = client.post(address("introspection_endpoint")).form(&[("token", &token)]);
    let request = request.header(header::ACCEPT, "application/token-introspection+jwt");
    let signed = request.basic_auth(&api.client_id, Some(&api.client_secret)).send().await.unwrap();
    let signed = jsonwebtoken::decode_header(signed.text().await.unwrap()).unwrap();
    assert!(algorithms.contains(format!("{:?}", signed.alg).as_str()), "{algorithms:?}");
    for resource in texts(&metadata["protected_resources"]) {
        let token = program.token().await;
        let me = client.get(format!("{resource}/me")).bearer_auth(token).send().await.unwrap();
        assert_eq!(me.status(), StatusCode::OK, "{resource}");
        let form = [("grant_type", "client_credentials"), ("resource", resource)];
        assert_eq!(program.oauth("token", &form).await.status(), StatusCode::OK);
    }
}

async fn protocol26_the_key_set_has_public_members_only_and_unique_kids(world: World) {
    let response = get(&world, KEYS).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(header_of(&response, "content-type"), "application/jwk-set+json");
    let set = json(response).await;
    assert_eq!(set.as_object().unwrap().len(), 1);
    let keys = set["keys"].as_array().unwrap();
    assert!(!keys.is_empty());
    let mut kids = BTreeSet::new();
    for key in keys {
        let members: BTreeSet<&str> = key.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(members, BTreeSet::from(["kty", "crv", "x", "y", "kid", "use", "alg"]), "no d, nothing else");
        assert_eq!((&key["kty"], &key["crv"]), (&"EC".into(), &"P-256".into()));
        assert_eq!((&key["use"], &key["alg"]), (&"sig".into(), &"ES256".into()));
        for name in ["x", "y"] {
            assert_eq!(BASE64URL.decode(key[name].as_str().unwrap()).unwrap().len(), 32);
        }
        assert!(kids.insert(key["kid"].as_str().unwrap().to_owned()));
        let jwk: Jwk = serde_json::from_value(key.clone()).unwrap();
        assert_eq!(key["kid"], jwk.thumbprint(ThumbprintHash::SHA256).unwrap(), "RFC 7638");
    }
    let token = world.maria().await.generate().await.token().await;
    let kid = jsonwebtoken::decode_header(&token).unwrap().kid.unwrap();
    assert!(kids.contains(&kid), "what signs is published");
}

async fn protocol26_the_key_set_is_cacheable_and_an_unchanged_one_costs_a_304(world: World) {
    for path in [KEYS, SERVER, "/.well-known/oauth-protected-resource/api/v1"] {
        let response = get(&world, path).await;
        assert_eq!(header_of(&response, "cache-control"), "public, max-age=300");
        let etag = header_of(&response, "etag").to_owned();
        assert!(etag.starts_with('"') && etag.ends_with('"') && etag.len() > 10, "{etag}");
        let known = |tag: String| world.stranger().request(Method::GET, path).header("if-none-match", tag).send();
        for tag in [etag.clone(), format!("W/{etag}"), format!("\"other\", {etag}")] {
            let again = known(tag).await.unwrap();
            assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
            assert_eq!(header_of(&again, "etag"), etag);
            assert_eq!(header_of(&again, "cache-control"), "public, max-age=300");
            assert_eq!(again.text().await.unwrap(), "");
        }
        assert_eq!(known("\"other\"".to_owned()).await.unwrap().status(), StatusCode::OK);
        let head = world.stranger().request(Method::HEAD, path).send().await.unwrap();
        assert_eq!((head.status(), header_of(&head, "etag")), (StatusCode::OK, etag.as_str()));
        let posted = world.stranger().request(Method::POST, path).send().await.unwrap();
        assert_eq!(posted.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert!(header_of(&posted, "allow").contains("GET"));
    }
}

async fn protocol26_every_node_and_a_restart_serve_the_same_keys(world: World) {
    let keys = get(&world, KEYS).await.text().await.unwrap();
    let node = world.another_node().await;
    assert_eq!(get(&node, KEYS).await.text().await.unwrap(), keys);
    let token = world.maria().await.generate().await.token().await;
    let set: JwkSet = serde_json::from_str(&keys).unwrap();
    assert!(set.find(&jsonwebtoken::decode_header(&token).unwrap().kid.unwrap()).is_some());
    drop(world);
    let restarted = node.another_node().await;
    assert_eq!(get(&restarted, KEYS).await.text().await.unwrap(), keys);
}
