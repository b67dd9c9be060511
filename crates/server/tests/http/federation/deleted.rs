//! Whoever was deleted or deactivated here, and what a provider's word is worth for them.

use portcullis_domain::accounts::{Role, Status, User};
use reqwest::{Method, StatusCode};
use serde_json::json;

use super::{Hostile, Visitor, location, scene, set_up, users};
use crate::support::{PASSWORD, Person, World, json as json_of, on_both};

on_both! {
    a6_who_was_deleted_is_not_let_in_anew
    a6_who_was_invited_anew_links_the_identity_and_is_the_new_user
    a6_who_was_deactivated_stays_so_and_keeps_the_identity
    a6_of_two_who_link_the_identity_of_who_was_deleted_one_gets_it
}

const ANA: &str = "ana@acme.example";

async fn act(by: &Person, user: &User, act: &str) {
    let response = by.post(&format!("/api/v1/users/{}/{act}", user.id), &[]).await;
    assert_eq!(response.status(), StatusCode::OK, "{act}");
}

/// Ana, whom the provider made, and who was deleted then.
async fn ana_deleted(world: &World, maria: &Person, hostile: &Hostile, id: uuid::Uuid) -> User {
    assert_eq!(location(&Visitor::new(world).sign_in(hostile, id).await), "/");
    let ana = world.user_of(ANA).await;
    act(maria, &ana, "delete").await;
    ana
}

async fn is_refused(world: &World, hostile: &Hostile, id: uuid::Uuid, code: &str) {
    let mark = world.last_record().await;
    let count = users(world).await;
    let mut browser = Visitor::new(world);
    assert_eq!(location(&browser.sign_in(hostile, id).await), format!("/sign-in?problem={code}"));
    assert!(!browser.has_session());
    assert_eq!(world.told_after(mark).await, [format!("sign_in refused {code}")]);
    assert_eq!(users(world).await, count, "no account is made");
}

/// Presses **Link** and says yes at the provider.
async fn link(browser: &mut Visitor, hostile: &Hostile, id: uuid::Uuid) -> String {
    let there = browser.leave("/account/identities", &[("link", &id.to_string())]).await;
    let back = hostile.approve(&there);
    location(&browser.get(back.as_str()).await)
}

async fn a6_who_was_deleted_is_not_let_in_anew(world: World) {
    let (maria, hostile, id) = scene(&world).await;
    let mut before = Visitor::new(&world);
    before.sign_in(&hostile, id).await;
    let ana = world.user_of(ANA).await;
    act(&maria, &ana, "delete").await;
    assert!(!before.person().is_signed_in().await);
    is_refused(&world, &hostile, id, "account_deleted").await;
    let record = world.records_after(0).await.pop().unwrap();
    assert_eq!(record.subject, ana.id.to_string(), "who tried is on record");
    // Another address there is the same person.
    hostile.now(|m| drop(m.claims.insert("email".to_owned(), json!("ana.new@acme.example"))));
    is_refused(&world, &hostile, id, "account_deleted").await;
    let (_, page) = maria.page(&format!("/providers/{id}/remove")).await;
    assert!(page.contains("No user has an identity at it.") && page.contains("Nobody loses"), "{page}");
    // Neither is the provider another one after it was set up again.
    maria.post(&format!("/providers/{id}/remove"), &[]).await;
    let again = set_up(&world, &maria, &hostile, true).await;
    is_refused(&world, &hostile, again, "account_deleted").await;
    let page = Visitor::new(&world).get("/sign-in?problem=account_deleted").await.text().await.unwrap();
    assert!(page.contains("The account of this identity was deleted. Ask a Super Admin to invite you;"), "{page}");
    let shown = world.app.store.read().await.unwrap().identities_shown(ana.id).await.unwrap();
    assert!(shown.is_empty());
    world.log_is_whole().await;
}

async fn a6_who_was_invited_anew_links_the_identity_and_is_the_new_user(world: World) {
    let (maria, hostile, id) = scene(&world).await;
    let old = ana_deleted(&world, &maria, &hostile, id).await;
    let invited =
        maria.request(Method::POST, "/api/v1/users").json(&json!({ "email": ANA })).send().await.unwrap();
    assert_eq!(invited.status(), StatusCode::CREATED);
    let link_sent = json_of(invited).await["activation_link"].as_str().unwrap().to_owned();
    is_refused(&world, &hostile, id, "account_deleted").await;
    let form = [("name", "Ana Lima"), ("password", PASSWORD)];
    let path = link_sent.strip_prefix(&world.url).unwrap();
    let done = world.stranger().request(Method::POST, path).form(&form).send().await.unwrap();
    assert_eq!(done.status(), StatusCode::SEE_OTHER);
    is_refused(&world, &hostile, id, "account_deleted").await;

    let mut browser = Visitor::of(&world.sign_in(ANA).await);
    let mark = world.last_record().await;
    assert_eq!(link(&mut browser, &hostile, id).await, "/account?done=linked");
    assert_eq!(world.told_after(mark).await, ["identity.link done"]);
    let record = world.records_after(mark).await.pop().unwrap();
    assert!(record.details.contains(&format!("\"of_deleted_user\":\"{}\"", old.id)), "{}", record.details);
    let mark = world.last_record().await;
    let mut elsewhere = Visitor::new(&world);
    assert_eq!(location(&elsewhere.sign_in(&hostile, id).await), "/");
    let new = world.user_of(ANA).await;
    assert_ne!(new.id, old.id);
    assert_eq!(world.records_after(mark).await.pop().unwrap().subject, new.id.to_string());
    assert_eq!(link(&mut Visitor::of(&maria), &hostile, id).await, "/account?problem=linked_elsewhere");
    let mut tx = world.app.store.read().await.unwrap();
    let was = tx.user(old.id).await.unwrap().unwrap();
    assert_eq!(was.standing.status.0, Status::Deleted, "nothing opens that account again");
    drop(tx);
    world.log_is_whole().await;
}

async fn a6_who_was_deactivated_stays_so_and_keeps_the_identity(world: World) {
    let (maria, hostile, id) = scene(&world).await;
    Visitor::new(&world).sign_in(&hostile, id).await;
    let ana = world.user_of(ANA).await;
    act(&maria, &ana, "deactivate").await;
    is_refused(&world, &hostile, id, "not_active").await;
    hostile.now(|m| drop(m.claims.insert("email".to_owned(), json!("ana.new@acme.example"))));
    is_refused(&world, &hostile, id, "not_active").await;
    assert_eq!(link(&mut Visitor::of(&maria), &hostile, id).await, "/account?problem=linked_elsewhere");
    assert_eq!(world.user_of(ANA).await.standing.status.0, Status::Inactive);
    act(&maria, &ana, "activate").await;
    assert_eq!(location(&Visitor::new(&world).sign_in(&hostile, id).await), "/");
}

async fn a6_of_two_who_link_the_identity_of_who_was_deleted_one_gets_it(world: World) {
    let (maria, hostile, id) = scene(&world).await;
    let other = world.another_node().await;
    ana_deleted(&world, &maria, &hostile, id).await;
    let paulo = world.person("paulo@acme.example", Role::User).await.at(&other);
    let (mut one, mut two) = (Visitor::of(&maria), Visitor::of(&paulo));
    let outcomes = tokio::join!(link(&mut one, &hostile, id), link(&mut two, &hostile, id));
    let mut outcomes = [outcomes.0, outcomes.1];
    outcomes.sort();
    assert_eq!(outcomes, ["/account?done=linked", "/account?problem=linked_elsewhere"]);
}
