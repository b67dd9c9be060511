//! Tokens that are bound to a key.

use portcullis_verify::{
    AccessToken, Error, ProofRefusal, Refusal, Request, Scheme, Unavailable, Verifier, WhenStale,
    dpop::{DpopError, token_hash},
    jwk::Algorithm,
};
use serde_json::json;

use crate::{
    fake::{AUDIENCE, Fake, bearer, unix},
    signing::Signing,
};

struct Client {
    key: Signing,
    token: String,
}

impl Client {
    fn new(fake: &Fake) -> Self {
        let key = Signing::new(Algorithm::Es256);
        let token = fake.token(1, &json!({"cnf": {"jkt": key.public().thumbprint()}}));
        Self { key, token }
    }

    fn proof(&self, jti: &str) -> String {
        proof(&self.key, jti, &self.token)
    }
}

fn proof(key: &Signing, jti: &str, token: &str) -> String {
    let alg = key.algorithm();
    let header = format!(r#"{{"typ":"dpop+jwt","alg":"{alg}","jwk":{}}}"#, key.public().to_json());
    let claims = json!({
        "jti": jti, "htm": "GET", "htu": format!("{AUDIENCE}/orders"), "iat": unix(), "ath": token_hash(token),
    });
    key.token(&header, &claims.to_string())
}

async fn ask(verifier: &Verifier, path: &str, token: &str, proofs: &[&str]) -> Result<AccessToken, Error> {
    let header = format!("DPoP {token}");
    verifier.verify(&Request { method: "GET", path, authorization: &[&header], dpop: proofs }).await
}

fn refused(scheme: Scheme, why: Refusal) -> Error {
    Error::Token { scheme, why }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bound_token_comes_with_a_proof_by_its_key_for_this_request_once() {
    let fake = Fake::start().await;
    let verifier = fake.verifier().await;
    let client = Client::new(&fake);
    let proof_1 = client.proof("1");
    let token = ask(&verifier, "/orders?page=2", &client.token, &[&proof_1]).await.unwrap();
    assert_eq!(token.scheme(), Scheme::Dpop);
    assert_eq!(token.key_thumbprint(), Some(client.key.public().thumbprint().as_str()));
    let again = ask(&verifier, "/orders", &client.token, &[&proof_1]).await;
    assert_eq!(again, Err(ProofRefusal::Replayed.into()));
    ask(&verifier, "/orders", &client.token, &[&client.proof("2")]).await.unwrap();

    for proofs in [vec![], vec![client.proof("3"), client.proof("4")]] {
        let proofs: Vec<&str> = proofs.iter().map(String::as_str).collect();
        let asked = ask(&verifier, "/orders", &client.token, &proofs).await;
        assert_eq!(asked, Err(ProofRefusal::NotOne.into()));
    }
    let elsewhere = ask(&verifier, "/other", &client.token, &[&client.proof("5")]).await;
    assert_eq!(elsewhere, Err(ProofRefusal::Dpop(DpopError::Url).into()));
    let other_key = Signing::new(Algorithm::EdDsa);
    let stolen = ask(&verifier, "/orders", &client.token, &[&proof(&other_key, "6", &client.token)]).await;
    assert_eq!(stolen, Err(refused(Scheme::Dpop, Refusal::OtherKey)));
    let other_token = ask(&verifier, "/orders", &client.token, &[&proof(&client.key, "7", "other")]).await;
    assert_eq!(other_token, Err(ProofRefusal::Dpop(DpopError::AccessToken).into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_comes_under_its_own_scheme() {
    let fake = Fake::start().await;
    let verifier = fake.verifier().await;
    let client = Client::new(&fake);
    let stripped = bearer(&verifier, &client.token).await;
    assert_eq!(stripped, Err(refused(Scheme::Bearer, Refusal::IsBound)));
    let unbound = fake.token(1, &json!({}));
    let proof = proof(&client.key, "1", &unbound);
    let dressed = ask(&verifier, "/orders", &unbound, &[&proof]).await;
    assert_eq!(dressed, Err(refused(Scheme::Dpop, Refusal::NotBound)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_may_require_bound_tokens() {
    let fake = Fake::start().await;
    let verifier = fake.builder_with(WhenStale::GoOnUntilExpiry).require_dpop().start().await.unwrap();
    let unbound = bearer(&verifier, &fake.token(1, &json!({}))).await.unwrap_err();
    assert_eq!(unbound, refused(Scheme::Bearer, Refusal::NotBound));
    assert!(verifier.challenge(&unbound).www_authenticate[0].starts_with("DPoP "));
    assert!(verifier.challenge(&Error::NoToken).www_authenticate.iter().all(|value| value.starts_with("DPoP ")));
    let client = Client::new(&fake);
    ask(&verifier, "/orders", &client.token, &[&client.proof("1")]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn when_no_more_proofs_can_be_remembered_new_ones_wait_and_old_ones_stay_used() {
    let fake = Fake::start().await;
    let verifier = fake.builder_with(WhenStale::GoOnUntilExpiry).remember_proofs(2).start().await.unwrap();
    let client = Client::new(&fake);
    let (first, second) = (client.proof("1"), client.proof("2"));
    ask(&verifier, "/orders", &client.token, &[&first]).await.unwrap();
    ask(&verifier, "/orders", &client.token, &[&second]).await.unwrap();
    let full = ask(&verifier, "/orders", &client.token, &[&client.proof("3")]).await.unwrap_err();
    assert_eq!(full, Unavailable::Proofs.into());
    assert_eq!(verifier.challenge(&full).status, 503);
    for used in [first, second] {
        let replayed = ask(&verifier, "/orders", &client.token, &[&used]).await;
        assert_eq!(replayed, Err(ProofRefusal::Replayed.into()));
    }
}

/// A proxy may take a part of the path away that the client and its proof know.
#[tokio::test(flavor = "multi_thread")]
async fn a_proof_names_the_path_of_the_public_url_too() {
    let fake = Fake::start().await;
    let builder = fake.builder_with(WhenStale::GoOnUntilExpiry).public_url("https://orders.acme.example/orders/");
    let verifier = builder.start().await.unwrap();
    let client = Client::new(&fake);
    let other = ask(&verifier, "/orders", &client.token, &[&client.proof("1")]).await;
    assert!(matches!(other, Err(Error::Proof(_))), "{other:?}");
    ask(&verifier, "", &client.token, &[&client.proof("2")]).await.unwrap();
}

/// A proof is used up only by a request that comes in.
#[tokio::test(flavor = "multi_thread")]
async fn a_proof_of_a_token_that_is_refused_is_not_remembered() {
    let fake = Fake::start().await;
    let verifier = fake.builder_with(WhenStale::GoOnUntilExpiry).remember_proofs(1).start().await.unwrap();
    fake.set_list(1, 2);
    let client = Client::new(&fake);
    let suspended = Err(refused(Scheme::Dpop, Refusal::Suspended));
    crate::fake::eventually("it is suspended", async || {
        let token = fake.token(1, &json!({}));
        bearer(&verifier, &token).await.is_err()
    })
    .await;
    for jti in ["1", "2", "3"] {
        assert_eq!(ask(&verifier, "/orders", &client.token, &[&client.proof(jti)]).await, suspended);
    }
}
