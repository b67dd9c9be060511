//! T-5, protocol 28: tokens that are bound to a key (RFC 9449), every refusal by its name.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use jiff::SignedDuration;
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::{
    apis::{ORDERS, Orders, key_of, registered},
    client_keys::{GRANT, Key, bind, claims as assertion_claims},
    support::{Program, World, header_of, json as json_of, oauth_error, on_both, on_sqlite},
};

on_sqlite! {
    protocol28_every_claim_of_a_proof_is_checked
    protocol28_every_claim_of_a_proof_with_a_token_is_checked
    protocol28_the_challenges_are_those_of_the_rfc
    t5_an_api_is_set_to_require_dpop_in_the_console_and_in_the_api
}

on_both! {
    t5_a_proof_with_a_nonce_binds_the_token
    protocol28_a_nonce_is_taken_by_every_node_and_rotates
    protocol28_a_proof_is_used_once_on_all_nodes
    protocol28_a_bound_token_is_refused_as_bearer_and_with_another_key
    t5_an_api_that_requires_dpop_gets_bound_tokens_alone
    protocol27_asking_for_a_nonce_uses_up_no_assertion
}

/// The claims of a proof for the token endpoint.
fn claims(world: &World, nonce: &str) -> Value {
    json!({
        "jti": world.clock.id(), "htm": "POST", "htu": format!("{}/oauth/token", world.app.config.public_url),
        "iat": world.clock.now().as_second(), "nonce": nonce,
    })
}

fn proof_of(key: &Key, claims: &Value) -> String {
    key.sign(&json!({ "alg": key.algorithm(), "typ": "dpop+jwt", "jwk": key.members() }), claims)
}

/// A token request with these proofs.
async fn ask(program: &Program, proofs: &[&str], more: &[(&str, &str)]) -> Response {
    let mut form = vec![GRANT];
    form.extend_from_slice(more);
    let request = program.client.post(format!("{}/oauth/token", program.url));
    let mut request = request.basic_auth(&program.client_id, Some(&program.client_secret)).form(&form);
    for proof in proofs {
        request = request.header("DPoP", *proof);
    }
    request.send().await.unwrap()
}

/// A nonce, as the server gives one to who has none.
async fn nonce(world: &World, program: &Program) -> String {
    let mut claims = claims(world, "");
    claims.as_object_mut().unwrap().remove("nonce");
    let asked = ask(program, &[&proof_of(&Key::ed25519(), &claims)], &[]).await;
    let nonce = header_of(&asked, "dpop-nonce").to_owned();
    oauth_error(asked, 400, "use_dpop_nonce").await;
    nonce
}

/// A token that is bound to a key.
async fn bound(world: &World, program: &Program, key: &Key, more: &[(&str, &str)]) -> String {
    let nonce = nonce(world, program).await;
    let response = ask(program, &[&proof_of(key, &claims(world, &nonce))], more).await;
    assert_eq!(response.status(), StatusCode::OK);
    let body = json_of(response).await;
    assert_eq!(body["token_type"], "DPoP");
    body["access_token"].as_str().unwrap().to_owned()
}

/// The claims of a proof that comes with a token.
fn with_token(world: &World, token: &str, method: &str, path: &str) -> Value {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes());
    json!({
        "jti": world.clock.id(), "htm": method, "htu": format!("{}{path}", world.app.config.public_url),
        "iat": world.clock.now().as_second(), "ath": BASE64URL.encode(hash.as_ref()),
    })
}

async fn use_at(world: &World, scheme: &str, token: &str, proofs: &[&str], path: &str) -> Response {
    let request = world.stranger().request(Method::GET, path);
    let mut request = request.header("authorization", format!("{scheme} {token}"));
    for proof in proofs {
        request = request.header("DPoP", *proof);
    }
    request.send().await.unwrap()
}

fn challenges(response: &Response) -> Vec<String> {
    let all = response.headers().get_all("www-authenticate").iter();
    all.map(|v| v.to_str().unwrap().split(", resource_metadata").next().unwrap().to_owned()).collect()
}

async fn t5_a_proof_with_a_nonce_binds_the_token(world: World) {
    let program = world.maria().await.generate().await;
    for key in [Key::p256(1), Key::ed25519(), Key::rsa()] {
        let token = bound(&world, &program, &key, &[]).await;
        let inside: Value = jsonwebtoken::dangerous::insecure_decode(&token).unwrap().claims;
        assert_eq!(inside["cnf"], json!({ "jkt": key.thumbprint() }));
        let seen = json_of(program.oauth("introspect", &[("token", &token)]).await).await;
        assert_eq!((&seen["token_type"], &seen["cnf"]["jkt"]), (&json!("DPoP"), &json!(key.thumbprint())), "§6.2");
        let proof = proof_of(&key, &with_token(&world, &token, "GET", "/api/v1/me"));
        let me = use_at(&world, "DPoP", &token, &[&proof], "/api/v1/me").await;
        assert_eq!(me.status(), StatusCode::OK);
        let proof = proof_of(&key, &with_token(&world, &token, "GET", "/api/v1/users"));
        let users = use_at(&world, "dpop", &token, &[&proof], "/api/v1/users?limit=1").await;
        assert_eq!(users.status(), StatusCode::OK, "the query does not matter, nor the case of the scheme");
    }
    let plain = program.ask().await;
    assert_eq!(header_of(&plain, "dpop-nonce"), "", "who does not use it is not bothered");
    let body = json_of(plain).await;
    assert_eq!(body["token_type"], "Bearer");
    let token = body["access_token"].as_str().unwrap().to_owned();
    let inside: Value = jsonwebtoken::dangerous::insecure_decode(&token).unwrap().claims;
    assert_eq!(inside.get("cnf"), None);
    let seen = json_of(program.oauth("introspect", &[("token", &token)]).await).await;
    assert_eq!((&seen["token_type"], seen.get("cnf")), (&json!("Bearer"), None));
}

async fn protocol28_a_nonce_is_taken_by_every_node_and_rotates(world: World) {
    let program = world.maria().await.generate().await;
    let node = world.another_node().await;
    let key = Key::ed25519();
    let first = nonce(&world, &program).await;
    let good = ask(&program.at(&node), &[&proof_of(&key, &claims(&world, &first))], &[]).await;
    assert_eq!((good.status(), header_of(&good, "dpop-nonce")), (StatusCode::OK, first.as_str()));
    world.pass(SignedDuration::from_secs(120));
    let good = ask(&program, &[&proof_of(&key, &claims(&world, &first))], &[]).await;
    let second = header_of(&good, "dpop-nonce").to_owned();
    assert_eq!(good.status(), StatusCode::OK);
    assert_ne!(first, second, "§8.2: the next one comes with the answer");
    world.pass(SignedDuration::from_secs(120));
    for old in [first.as_str(), "", "made-up", &second[1..]] {
        let refused = ask(&program, &[&proof_of(&key, &claims(&world, old))], &[]).await;
        assert!(!header_of(&refused, "dpop-nonce").is_empty());
        oauth_error(refused, 400, "use_dpop_nonce").await;
    }
    let good = ask(&program, &[&proof_of(&key, &claims(&world, &second))], &[]).await;
    assert_eq!(good.status(), StatusCode::OK);
}

async fn protocol28_a_proof_is_used_once_on_all_nodes(world: World) {
    let program = world.maria().await.generate().await;
    let node = world.another_node().await;
    let key = Key::ed25519();
    let nonce = nonce(&world, &program).await;
    let proof = proof_of(&key, &claims(&world, &nonce));
    let tasks: Vec<_> = (0..20)
        .map(|n| {
            let (program, proof) = (program.at([&world, &node][n % 2]), proof.clone());
            tokio::spawn(async move { ask(&program, &[&proof], &[]).await.status().as_u16() })
        })
        .collect();
    let mut statuses = Vec::new();
    for task in tasks {
        statuses.push(task.await.unwrap());
    }
    statuses.sort_unstable();
    assert_eq!((statuses[0], statuses[1], statuses[19]), (200, 400, 400));
    let said = oauth_error(ask(&program, &[&proof], &[]).await, 400, "invalid_dpop_proof").await;
    assert!(said.contains("was used already"), "{said}");
    // A stranger's are not remembered: only who is proven uses one up.
    let fresh = proof_of(&key, &claims(&world, &nonce));
    let wrong = Program { client_secret: "pcs_wrong".to_owned(), ..program.clone() };
    oauth_error(ask(&wrong, &[&fresh], &[]).await, 401, "invalid_client").await;
    let token = json_of(ask(&program, &[&fresh], &[]).await).await["access_token"].as_str().unwrap().to_owned();
    let proof = proof_of(&key, &with_token(&world, &token, "GET", "/api/v1/me"));
    assert_eq!(use_at(&world, "DPoP", &token, &[&proof], "/api/v1/me").await.status(), StatusCode::OK);
    for place in [&world, &node] {
        let again = use_at(place, "DPoP", &token, &[&proof], "/api/v1/me").await;
        assert_eq!(again.status(), StatusCode::UNAUTHORIZED);
        assert!(challenges(&again)[0].starts_with("DPoP error=\"invalid_dpop_proof\""));
    }
}

async fn protocol28_a_bound_token_is_refused_as_bearer_and_with_another_key(world: World) {
    let program = world.maria().await.generate().await;
    let (key, thief) = (Key::p256(1), Key::p256(2));
    let token = bound(&world, &program, &key, &[]).await;
    let as_bearer = use_at(&world, "Bearer", &token, &[], "/api/v1/me").await;
    assert_eq!(as_bearer.status(), StatusCode::UNAUTHORIZED, "§7.1");
    assert_eq!(challenges(&as_bearer), ["Bearer error=\"invalid_token\"", "DPoP algs=\"ES256 EdDSA RS256\""]);
    let proof = proof_of(&key, &with_token(&world, &token, "GET", "/api/v1/me"));
    let as_bearer = use_at(&world, "Bearer", &token, &[&proof], "/api/v1/me").await;
    assert_eq!(as_bearer.status(), StatusCode::UNAUTHORIZED, "even with a proof beside it");
    let stolen = proof_of(&thief, &with_token(&world, &token, "GET", "/api/v1/me"));
    let refused = use_at(&world, "DPoP", &token, &[&stolen], "/api/v1/me").await;
    assert_eq!(
        (refused.status(), json_of(refused).await["code"].clone()),
        (StatusCode::UNAUTHORIZED, "invalid_dpop_proof".into())
    );
    // A bearer token does not become bound by being sent so.
    let plain = program.token().await;
    let proof = proof_of(&key, &with_token(&world, &plain, "GET", "/api/v1/me"));
    let refused = use_at(&world, "DPoP", &plain, &[&proof], "/api/v1/me").await;
    assert_eq!(challenges(&refused)[0], "DPoP error=\"invalid_token\", algs=\"ES256 EdDSA RS256\"");
    // A revoked one stays revoked.
    program.oauth("revoke", &[("token", &token)]).await;
    let proof = proof_of(&key, &with_token(&world, &token, "GET", "/api/v1/me"));
    assert_eq!(use_at(&world, "DPoP", &token, &[&proof], "/api/v1/me").await.status(), StatusCode::UNAUTHORIZED);
}

async fn protocol28_every_claim_of_a_proof_is_checked(world: World) {
    let program = world.maria().await.generate().await;
    let key = Key::p256(1);
    let nonce = nonce(&world, &program).await;
    let now = world.clock.now().as_second();
    for (name, value) in [
        ("htm", json!("GET")),
        ("htm", json!("post")),
        ("htu", json!(format!("{}/oauth/introspect", world.url))),
        ("htu", json!("https://other.example/oauth/token")),
        ("iat", json!(now - 121)),
        ("iat", json!(now + 11)),
        ("iat", json!(now.to_string())),
        ("iat", Value::Null),
        ("jti", json!("")),
        ("jti", json!("x".repeat(300))),
        ("jti", Value::Null),
        ("nonce", json!(7)),
    ] {
        let mut claims = claims(&world, &nonce);
        claims[name] = value.clone();
        let refused = ask(&program, &[&proof_of(&key, &claims)], &[]).await;
        assert!(!header_of(&refused, "dpop-nonce").is_empty());
        let said = oauth_error(refused, 400, "invalid_dpop_proof").await;
        assert!(said.starts_with("DPoP proof: "), "{name} {value}: {said}");
    }
    let good = claims(&world, &nonce);
    let mut private = key.members();
    private["d"] = json!("AAAA");
    for header in [
        json!({ "alg": "ES256", "typ": "JWT", "jwk": key.members() }),
        json!({ "alg": "ES256", "jwk": key.members() }),
        json!({ "alg": "ES256", "typ": "dpop+jwt" }),
        json!({ "alg": "ES256", "typ": "dpop+jwt", "jwk": private }),
        json!({ "alg": "ES256", "typ": "dpop+jwt", "jwk": Key::p256(3).members() }),
        json!({ "alg": "none", "typ": "dpop+jwt", "jwk": key.members() }),
        json!({ "alg": "RS256", "typ": "dpop+jwt", "jwk": key.members() }),
    ] {
        oauth_error(ask(&program, &[&key.sign(&header, &good)], &[]).await, 400, "invalid_dpop_proof").await;
    }
    let whole = proof_of(&key, &good);
    for proofs in
        [&[""][..], &["x"], &[&whole, &whole], &[&whole[..whole.len() - 1]], &[&format!("{whole}, {whole}")]]
    {
        oauth_error(ask(&program, proofs, &[]).await, 400, "invalid_dpop_proof").await;
    }
    assert_eq!(ask(&program, &[&whole], &[]).await.status(), StatusCode::OK, "none of them used it up");
}

async fn protocol28_every_claim_of_a_proof_with_a_token_is_checked(world: World) {
    let program = world.maria().await.generate().await;
    let key = Key::p256(1);
    let now = world.clock.now().as_second();
    let token = bound(&world, &program, &key, &[]).await;
    for (name, value) in [
        ("ath", Value::Null),
        ("ath", json!("x")),
        ("htm", json!("POST")),
        ("htu", json!(format!("{}/api/v1/users", world.url))),
        ("iat", json!(now - 121)),
    ] {
        let mut claims = with_token(&world, &token, "GET", "/api/v1/me");
        claims[name] = value.clone();
        let refused = use_at(&world, "DPoP", &token, &[&proof_of(&key, &claims)], "/api/v1/me").await;
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED, "{name} {value}");
        assert!(challenges(&refused)[0].starts_with("DPoP error=\"invalid_dpop_proof\""), "{name} {value}");
    }
}

async fn protocol28_the_challenges_are_those_of_the_rfc(world: World) {
    let program = world.maria().await.generate().await;
    let algs = "algs=\"ES256 EdDSA RS256\"";
    let nobody = world.stranger().request(Method::GET, "/api/v1/me").send().await.unwrap();
    let both: Vec<_> = nobody.headers().get_all("www-authenticate").iter().map(|v| v.to_str().unwrap()).collect();
    assert!(
        both[0].starts_with("Bearer resource_metadata=") && both[1].starts_with(&format!("DPoP {algs}, ")),
        "{both:?}"
    );
    let without = use_at(&world, "DPoP", &program.token().await, &[], "/api/v1/me").await;
    assert_eq!(challenges(&without)[0], format!("DPoP error=\"invalid_dpop_proof\", {algs}"));
    let key = Key::p256(1);
    let narrow = bound(&world, &program, &key, &[("scope", "users:read")]).await;
    let proof = proof_of(&key, &with_token(&world, &narrow, "GET", "/api/v1/audit"));
    let weak = use_at(&world, "DPoP", &narrow, &[&proof], "/api/v1/audit").await;
    assert_eq!(weak.status(), StatusCode::FORBIDDEN);
    assert_eq!(challenges(&weak), [format!("DPoP error=\"insufficient_scope\", scope=\"audit:read\", {algs}")]);
    let metadata = json_of(
        world.stranger().request(Method::GET, "/.well-known/oauth-authorization-server").send().await.unwrap(),
    )
    .await;
    assert_eq!(metadata["dpop_signing_alg_values_supported"], json!(["ES256", "EdDSA", "RS256"]));
    let resource = "/.well-known/oauth-protected-resource/api/v1";
    let resource = json_of(world.stranger().request(Method::GET, resource).send().await.unwrap()).await;
    assert_eq!(resource["dpop_bound_access_tokens_required"], false);
}

async fn t5_an_api_that_requires_dpop_gets_bound_tokens_alone(world: World) {
    let maria = world.maria().await;
    let program = maria.generate().await;
    let id = registered(&maria, &Orders { requires_dpop: true, ..Orders::default() }).await;
    let orders = key_of(&maria, &id, "").await;
    let plain = ask(&program, &[], &[("resource", ORDERS)]).await;
    let nonce = header_of(&plain, "dpop-nonce").to_owned();
    let said = oauth_error(plain, 400, "invalid_dpop_proof").await;
    assert!(said.contains(ORDERS) && said.contains("DPoP proof"), "{said}");
    let key = Key::p256(1);
    let proof = proof_of(&key, &claims(&world, &nonce));
    let got = ask(&program, &[&proof], &[("resource", ORDERS)]).await;
    assert_eq!(got.status(), StatusCode::OK, "the refusal brought the nonce");
    let token = json_of(got).await["access_token"].as_str().unwrap().to_owned();
    let seen = json_of(orders.oauth("introspect", &[("token", &token)]).await).await;
    assert_eq!((&seen["active"], &seen["cnf"]["jkt"]), (&json!(true), &json!(key.thumbprint())));
    assert_eq!(ask(&program, &[], &[]).await.status(), StatusCode::OK, "another API takes what it took");
}

async fn t5_an_api_is_set_to_require_dpop_in_the_console_and_in_the_api(world: World) {
    let maria = world.maria().await;
    let program = maria.generate().await;
    let id = registered(&maria, &Orders::default()).await;
    let page = format!("/apis/{id}");
    assert!(!maria.page(&page).await.1.contains(" checked"));
    let mark = world.last_record().await;
    let strict = Orders { requires_dpop: true, ..Orders::default() };
    let form: Vec<(&str, String)> = strict.form();
    let form: Vec<(&str, &str)> = form.iter().map(|(n, v)| (*n, v.as_str())).collect();
    assert_eq!(maria.post(&page, &form).await.status(), StatusCode::SEE_OTHER);
    assert!(maria.page(&page).await.1.contains(" checked"));
    let view = json_of(maria.get(&format!("/api/v1/apis/{id}")).await).await;
    assert_eq!(view["requires_dpop"], true);
    let details: Value = serde_json::from_str(&world.records_after(mark).await[0].details).unwrap();
    assert_eq!(details["requires_dpop"], "false -> true");
    oauth_error(ask(&program, &[], &[("resource", ORDERS)]).await, 400, "invalid_dpop_proof").await;
    let forgot = json!({ "name": "Orders", "scopes": [], "lifespan_seconds": 60 });
    let forgot = maria.request(Method::POST, &format!("/api/v1/apis/{id}")).json(&forgot).send().await.unwrap();
    assert!(forgot.status().is_client_error(), "it is never switched off by being left out");
}

async fn protocol27_asking_for_a_nonce_uses_up_no_assertion(world: World) {
    let maria = world.maria().await;
    let program = maria.generate().await;
    let (key, dpop) = (Key::p256(1), Key::ed25519());
    bind(&maria, &program, &key).await;
    let assertion = key.sign(&json!({ "alg": "ES256" }), &assertion_claims(&world, &program.client_id));
    let form = [
        GRANT,
        ("client_assertion", &assertion),
        ("client_assertion_type", portcullis_domain::client_keys::ASSERTION_TYPE),
    ];
    let send = async |proof: String| {
        let request = program.client.post(format!("{}/oauth/token", world.url)).header("DPoP", proof);
        request.form(&form).send().await.unwrap()
    };
    let asked = send(proof_of(&dpop, &claims(&world, ""))).await;
    let nonce = header_of(&asked, "dpop-nonce").to_owned();
    oauth_error(asked, 400, "use_dpop_nonce").await;
    let got = send(proof_of(&dpop, &claims(&world, &nonce))).await;
    assert_eq!(got.status(), StatusCode::OK);
    oauth_error(send(proof_of(&dpop, &claims(&world, &nonce))).await, 401, "invalid_client").await;
}
