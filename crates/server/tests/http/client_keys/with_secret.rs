//! C-14: with the Client Secret the first key is bound, over HTTP, and no other.

use reqwest::{Response, StatusCode};
use serde_json::json;

use super::{Key, ask, bind, change, claims};
use crate::support::{Program, World, json as json_of, oauth_error, on_both};

on_both! {
    c14_with_the_secret_and_the_private_key_the_first_key_is_bound_and_the_owner_told
    c14_without_a_proof_of_the_private_key_nothing_is_bound
    c14_of_two_that_bind_at_once_on_two_nodes_one_succeeds
    c14_a_dead_credential_and_a_wrong_secret_bind_nothing
}

async fn send(program: &Program, jwk: &str, proof: &str) -> Response {
    program.oauth("bind-key", &[("jwk", jwk), ("proof", proof)]).await
}

async fn c14_with_the_secret_and_the_private_key_the_first_key_is_bound_and_the_owner_told(world: World) {
    let maria = world.maria().await;
    let program = maria.generate().await;
    let mark = world.last_record().await;
    let key = Key::p256(1);
    let proof = key.assertion(&world, &program.client_id);
    let done = send(&program, &key.jwk(), &proof).await;
    assert_eq!(done.status(), StatusCode::OK);
    let body = json_of(done).await;
    assert_eq!((&body["client_id"], &body["thumbprint"]), (&json!(program.client_id), &json!(key.thumbprint())));
    let said = oauth_error(ask(&world, &proof).await, 401, "invalid_client").await;
    assert!(said.contains("was used already"), "the proof is no assertion to be used again: {said}");
    assert_eq!(ask(&world, &key.assertion(&world, &program.client_id)).await.status(), StatusCode::OK);
    let record = &world.records_after(mark).await[0];
    assert_eq!((record.event.as_str(), &record.by.1), ("credential_key.bind", &program.client_id));
    let mails = world.mails().await;
    let mail = mails.iter().find(|m| m.subject.starts_with("Credentials changed")).unwrap();
    assert!(mail.text.contains("by a program that has its Client Secret"), "{}", mail.text);

    // Replacing is for the owner, even by the same key.
    for other in [&key, &Key::ed25519()] {
        let refused = send(&program, &other.jwk(), &other.assertion(&world, &program.client_id)).await;
        let said = oauth_error(refused, 400, "invalid_request").await;
        assert!(said.contains("bound to this credential already"), "{said}");
    }
    assert_eq!(world.told_after(mark).await.last().unwrap(), "credential_key.bind refused already_bound");
    // Nor is it bound again with the secret when the owner took it away.
    assert_eq!(change(&maria, &program, "key/remove", "").await.status(), StatusCode::SEE_OTHER);
    let refused = send(&program, &key.jwk(), &key.assertion(&world, &program.client_id)).await;
    let said = oauth_error(refused, 400, "invalid_request").await;
    assert!(said.contains("or was"), "{said}");
    bind(&maria, &program, &key).await;
    change(&maria, &program, "secret/off", "").await;
    let refused = send(&program, &key.jwk(), &key.assertion(&world, &program.client_id)).await;
    oauth_error(refused, 401, "invalid_client").await;
}

async fn c14_without_a_proof_of_the_private_key_nothing_is_bound(world: World) {
    let program = world.maria().await.generate().await;
    let (key, other) = (Key::p256(1), Key::p256(2));
    let id = program.client_id.as_str();
    let (good, jwk) = (key.assertion(&world, id), key.jwk());
    let mut private = key.members();
    private["d"] = json!("AAAA");
    let mut late = claims(&world, id);
    late["exp"] = json!(world.clock.now().as_second() - 60);
    for (jwk, proof) in [
        (jwk.as_str(), other.assertion(&world, id)),
        (&jwk, key.assertion(&world, "pcc_00000000000000000000")),
        (&jwk, key.sign(&json!({ "alg": "ES256" }), &late)),
        (&jwk, "nonsense".to_owned()),
        (&jwk, String::new()),
        ("", good.clone()),
        ("{}", good.clone()),
        (&key.pem(), good.clone()),
        (&private.to_string(), good.clone()),
    ] {
        oauth_error(send(&program, jwk, &proof).await, 400, "invalid_request").await;
    }
    let form = [("jwk", jwk.as_str()), ("proof", &good)];
    let with_key = super::assert_at(&world.url, "bind-key", &good, &form).await;
    oauth_error(with_key, 400, "invalid_request").await;
    assert_eq!(send(&program, &jwk, &good).await.status(), StatusCode::OK, "none of them used it up");
}

async fn c14_of_two_that_bind_at_once_on_two_nodes_one_succeeds(world: World) {
    let program = world.maria().await.generate().await;
    let node = world.another_node().await;
    let there = program.at(&node);
    let (a, b) = (Key::ed25519(), Key::ed25519());
    let (jwk_a, jwk_b) = (a.jwk(), b.jwk());
    let proofs = (a.assertion(&world, &program.client_id), b.assertion(&world, &program.client_id));
    let (one, two) = tokio::join!(send(&program, &jwk_a, &proofs.0), send(&there, &jwk_b, &proofs.1));
    let statuses = [one.status().as_u16(), two.status().as_u16()];
    assert!(statuses == [200, 400] || statuses == [400, 200], "{statuses:?}");
    let bound = if statuses[0] == 200 { &a } else { &b };
    assert_eq!(ask(&world, &bound.assertion(&world, &program.client_id)).await.status(), StatusCode::OK);
}

async fn c14_a_dead_credential_and_a_wrong_secret_bind_nothing(world: World) {
    let maria = world.maria().await;
    let program = maria.generate().await;
    let key = Key::p256(1);
    let wrong = Program { client_secret: "pcs_wrong".to_owned(), ..program.clone() };
    let refused = send(&wrong, &key.jwk(), &key.assertion(&world, &program.client_id)).await;
    oauth_error(refused, 401, "invalid_client").await;
    let user = world.user_of("maria@acme.example").await;
    world.change(&user, |s| s.mfa_since = Some(world.clock.now())).await;
    let refused = send(&program, &key.jwk(), &key.assertion(&world, &program.client_id)).await;
    let said = oauth_error(refused, 401, "invalid_client").await;
    assert!(said.contains("suspended"), "C-9: {said}");
    world.change(&user, |_| {}).await;
    bind(&maria, &program, &key).await;
    maria.revoke().await;
    let refused = send(&program, &key.jwk(), &key.assertion(&world, &program.client_id)).await;
    assert!(oauth_error(refused, 401, "invalid_client").await.contains("revoked"));
}
