//! Linking and unlinking: only from a local session, with the password just given.

use jiff::SignedDuration;
use portcullis_domain::accounts::Role;
use reqwest::StatusCode;
use serde_json::json;

use super::{Visitor, location, scene};
use crate::support::{PASSWORD, World, on_both};

on_both! {
    a6_a_local_session_links_and_unlinks_and_the_identity_signs_in
    a6_a_link_asks_for_the_password_and_is_bound_to_its_session
    a6_a_federated_session_links_nothing
    a6_an_identity_of_another_account_is_not_taken
}

async fn key_in(browser: &Visitor) -> String {
    let (_, page) = browser.person().page("/account").await;
    let (_, rest) = page.split_once("name=\"unlink\" value=\"").unwrap();
    rest.split('"').next().unwrap().to_owned()
}

async fn a6_a_local_session_links_and_unlinks_and_the_identity_signs_in(world: World) {
    let (maria, hostile, id) = scene(&world).await;
    hostile.now(|m| drop(m.claims.insert("email".to_owned(), json!("maria@acme.example"))));
    let mut browser = Visitor::of(&maria);
    let mark = world.last_record().await;
    let there = browser.leave("/account/identities", &[("link", &id.to_string())]).await;
    let back = hostile.approve(&there);
    assert_eq!(location(&browser.get(back.as_str()).await), "/account?done=linked");
    assert_eq!(world.told_after(mark).await, ["identity.link done"]);
    assert!(browser.person().is_signed_in().await, "the session is the same");

    let mut elsewhere = Visitor::new(&world);
    assert_eq!(location(&elsewhere.sign_in(&hostile, id).await), "/account/credentials");
    let (_, page) = elsewhere.person().page("/account/credentials").await;
    assert!(page.contains("Sign in with your Portcullis password to generate them."), "C-4");

    let key = key_in(&browser).await;
    let mark = world.last_record().await;
    let done = browser.post("/account/identities", &[("unlink", &key)]).await;
    assert_eq!(location(&done), "/account?done=unlinked");
    assert_eq!(world.told_after(mark).await, ["identity.link done"]);
    assert!(!elsewhere.person().is_signed_in().await, "what it opened is closed");
    assert!(browser.person().is_signed_in().await);
    let again = browser.post("/account/identities", &[("unlink", &key)]).await;
    assert_eq!(location(&again), "/account?problem=not_linked");
    assert_eq!(location(&elsewhere.sign_in(&hostile, id).await), "/sign-in?problem=email_taken");
}

async fn a6_a_link_asks_for_the_password_and_is_bound_to_its_session(world: World) {
    let (maria, hostile, id) = scene(&world).await;
    let link = id.to_string();
    world.pass(SignedDuration::from_mins(5));
    let mut browser = Visitor::of(&maria);
    let mark = world.last_record().await;
    let asked = browser.post("/account/identities", &[("link", &link)]).await;
    assert_eq!(asked.status(), StatusCode::FORBIDDEN);
    assert!(asked.text().await.unwrap().contains("Enter your password."));
    assert_eq!(world.told_after(mark).await, ["identity.link refused password_needed"]);
    let wrong = browser.post("/account/identities", &[("link", &link), ("password", "wrong")]).await;
    assert_eq!(wrong.status(), StatusCode::UNAUTHORIZED);
    let before = browser.person();
    let there = browser.leave("/account/identities", &[("link", &link), ("password", PASSWORD)]).await;
    assert!(!before.is_signed_in().await, "protocol 30: the old id is dead");
    // The answer in a session of somebody else, or of nobody, links nothing.
    let paulo = world.person("paulo@acme.example", Role::User).await;
    let mut other = browser.clone();
    other.cookies.extend(Visitor::of(&paulo).cookies);
    let back = hostile.approve(&there);
    assert_eq!(location(&other.get(back.as_str()).await), "/account?problem=not_this_browser");
    let there = browser.leave("/account/identities", &[("link", &link)]).await;
    let back = hostile.approve(&there);
    browser.post("/sign-out", &[]).await;
    assert_eq!(location(&browser.get(back.as_str()).await), "/account?problem=not_this_browser");
    for email in ["maria@acme.example", "paulo@acme.example"] {
        let user = world.user_of(email).await;
        assert!(world.app.store.read().await.unwrap().identities_of(user.id).await.unwrap().is_empty());
    }
}

async fn a6_a_federated_session_links_nothing(world: World) {
    let (_, hostile, id) = scene(&world).await;
    let mut browser = Visitor::new(&world);
    browser.sign_in(&hostile, id).await;
    let (_, page) = browser.person().page("/account").await;
    assert!(
        page.contains("Linked identities") && !page.contains("name=\"unlink\"") && !page.contains("name=\"link\"")
    );
    let user = world.user_of("ana@acme.example").await;
    let linked = world.app.store.read().await.unwrap().identities_of(user.id).await.unwrap();
    let key = portcullis::app::identities::key_of(&linked[0]);
    for form in [[("link", id.to_string())], [("unlink", key)]] {
        let mark = world.last_record().await;
        let form = [(form[0].0, form[0].1.as_str())];
        let refused = browser.post("/account/identities", &form).await;
        assert_eq!(location(&refused), "/account?problem=not_a_local_session");
        assert_eq!(world.told_after(mark).await, ["identity.link refused not_a_local_session"]);
    }
    assert!(browser.person().is_signed_in().await);
}

async fn a6_an_identity_of_another_account_is_not_taken(world: World) {
    let (maria, hostile, id) = scene(&world).await;
    Visitor::new(&world).sign_in(&hostile, id).await;
    let mut browser = Visitor::of(&maria);
    for _ in 0..2 {
        let mark = world.last_record().await;
        let there = browser.leave("/account/identities", &[("link", &id.to_string())]).await;
        let back = hostile.approve(&there);
        assert_eq!(location(&browser.get(back.as_str()).await), "/account?problem=linked_elsewhere");
        assert_eq!(world.told_after(mark).await, ["identity.link refused linked_elsewhere"]);
    }
    let (_, page) = browser.person().page("/account?problem=linked_elsewhere").await;
    assert!(page.contains("This identity is linked to another account already."));
}
