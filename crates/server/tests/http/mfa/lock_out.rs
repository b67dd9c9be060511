//! Lock-out before and during the second step (A-8, protocol 37): one count over all routes.

use jiff::SignedDuration;
use reqwest::{Method, StatusCode};
use serde_json::json;

use super::{
    authenticator::Authenticator,
    on_both_named,
    tab::{Phone, STEP, Tab},
};
use crate::support::{PASSWORD, World};

on_both_named! {
    protocol37_the_right_code_after_a_thousand_wrong_guesses_is_refused
    a8_wrong_factors_are_counted_over_all_routes
    a8_wrong_factors_are_counted_over_all_nodes
    a8_the_password_given_again_buys_no_guesses
    a8_a_locked_account_is_locked_for_its_passkeys
}

const MARIA: &str = "maria@acme.example";

async fn maria(world: &World) -> (Tab, Phone, Vec<String>) {
    let person = world.maria().await;
    let mut tab = Tab::of(world, &person);
    let (phone, codes) = tab.set_up_app(world).await;
    (tab, phone, codes)
}

async fn protocol37_the_right_code_after_a_thousand_wrong_guesses_is_refused(world: World) {
    let (_, phone, codes) = maria(&world).await;
    let mut tab = Tab::new(&world);
    tab.password(MARIA).await;
    let mut locked = 0;
    for n in 0..1000 {
        let page = tab.code(&format!("{:06}", 900_000 + n)).await;
        locked += u32::from(page.status == StatusCode::TOO_MANY_REQUESTS);
        assert!(!tab.cookies.contains_key("__Host-portcullis"), "no guess signs in");
        if n < 20 {
            // Waiting each lock out only makes the next one longer.
            world.pass(SignedDuration::from_secs(8));
        }
        if !tab.cookies.contains_key(STEP) {
            tab.password(MARIA).await;
        }
        if n == 20 {
            world.pass(SignedDuration::from_mins(-1));
        }
    }
    assert!(locked > 100, "{locked}");
    let right = tab.code(&phone.code(&world)).await;
    assert!(!tab.is_signed_in().await, "{}", right.status);
    assert_eq!(tab.password(MARIA).await.status, StatusCode::TOO_MANY_REQUESTS, "nor is the password looked at");
    let body = json!({ "email": MARIA, "password": PASSWORD, "code": codes[0] });
    let api = world.stranger().request(Method::POST, "/api/v1/session").json(&body).send().await.unwrap();
    assert_eq!(api.status(), StatusCode::TOO_MANY_REQUESTS, "nor at another door");
    assert!(api.headers().contains_key("retry-after"));
    world.pass(SignedDuration::from_mins(20));
    tab.password(MARIA).await;
    tab.code(&phone.code(&world)).await;
    assert!(tab.is_signed_in().await, "the rightful user waits a quarter of an hour and no more");
}

async fn a8_wrong_factors_are_counted_over_all_routes(world: World) {
    let (mut signed_in, phone, _) = maria(&world).await;
    let mut tab = Tab::new(&world);
    tab.password(MARIA).await;
    // A right password is no failure; each route adds one.
    assert_eq!(tab.code(&phone.wrong(&world)).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(tab.code(&phone.wrong(&world)).await.status, StatusCode::UNAUTHORIZED);
    let body = json!({ "email": MARIA, "password": "wrong" });
    let api = world.stranger().request(Method::POST, "/api/v1/session").json(&body).send().await.unwrap();
    assert_eq!(api.status(), StatusCode::UNAUTHORIZED);
    let wrong = phone.wrong(&world);
    let mark = world.last_record().await;
    assert_eq!(signed_in.post("/account/mfa/off", &[("code", &wrong)]).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(world.told_after(mark).await, ["mfa.disable refused wrong_code"]);
    let again = signed_in.post("/account/mfa/recovery-codes", &[("code", &wrong)]).await;
    assert_eq!(again.status, StatusCode::UNAUTHORIZED);
    let right = phone.code(&world);
    assert_eq!(tab.code(&right).await.status, StatusCode::TOO_MANY_REQUESTS, "five are free");
    let page = signed_in.post("/account/mfa/off", &[("code", &right)]).await;
    assert_eq!(page.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(page.says("Too many attempts."), "{}", page.text);
    let password =
        signed_in.post("/account/mfa/password", &[("password", PASSWORD), ("to", "/account/mfa/off")]).await;
    assert_eq!(password.status, StatusCode::TOO_MANY_REQUESTS);
    world.pass(SignedDuration::from_secs(2));
    tab.code(&phone.code(&world)).await;
    assert!(tab.is_signed_in().await);
}

async fn a8_wrong_factors_are_counted_over_all_nodes(world: World) {
    let other = world.another_node().await;
    let (_, phone, _) = maria(&world).await;
    let guess = async |node: &World, code: &str| {
        let body = json!({ "email": MARIA, "password": PASSWORD, "code": code });
        node.stranger().request(Method::POST, "/api/v1/session").json(&body).send().await.unwrap().status()
    };
    let mut looked_at = 0;
    for n in 0..20 {
        let node = if n % 2 == 0 { &world } else { &other };
        looked_at += u32::from(guess(node, &phone.wrong(&world)).await == StatusCode::UNAUTHORIZED);
    }
    assert_eq!(looked_at, 5, "a second node gives not one guess more");
    for node in [&world, &other] {
        assert_eq!(guess(node, &phone.code(&world)).await, StatusCode::TOO_MANY_REQUESTS);
    }
}

async fn a8_the_password_given_again_buys_no_guesses(world: World) {
    let (mut tab, phone, _) = maria(&world).await;
    let mut looked_at = 0;
    for _ in 0..6 {
        for _ in 0..2 {
            let page = tab.post("/account/mfa/off", &[("code", &phone.wrong(&world))]).await;
            looked_at += u32::from(page.status == StatusCode::UNAUTHORIZED);
        }
        let form = [("password", PASSWORD), ("to", "/account/mfa/off")];
        tab.post("/account/mfa/password", &form).await;
    }
    assert_eq!(looked_at, 5, "with the password in hand there are five guesses, not more");
}

async fn a8_a_locked_account_is_locked_for_its_passkeys(world: World) {
    let (mut signed_in, phone, codes) = maria(&world).await;
    let mut key = Authenticator::new(&world);
    signed_in.begin_passkey(&codes[0]).await;
    signed_in.add_passkey(&mut key, "Laptop").await;
    let code = phone.code(&world);
    let allowed = signed_in.post("/account/mfa/passkey-alone", &[("code", &code), ("allow", "yes")]).await;
    assert_eq!(allowed.to, "/account?done=mfa-alone", "{}", allowed.text);
    let mut guesser = Tab::new(&world);
    for _ in 0..5 {
        guesser.post("/sign-in", &[("email", MARIA), ("password", "wrong")]).await;
    }
    let mut tab = Tab::new(&world);
    let page = tab.use_passkey(&mut key, "/sign-in/passkey").await;
    assert_eq!(page.status, StatusCode::TOO_MANY_REQUESTS);
    world.pass(SignedDuration::from_secs(2));
    tab.use_passkey(&mut key, "/sign-in/passkey").await;
    assert!(tab.is_signed_in().await);
}
