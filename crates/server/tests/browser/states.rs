//! Every state of the Credentials tab, and the pages that say no.

use jiff::SignedDuration;
use portcullis_domain::{
    accounts::{Role, User},
    sessions::{Opened, Session},
};

use crate::{
    browser::Browser,
    support::{PASSWORD, Person, World},
};

async fn acme() -> World {
    World::sqlite(&[("organization", "Acme Logistics")]).await
}

async fn open(world: &World, person: &Person) -> Browser {
    let browser = Browser::open(&world.url).await;
    browser.give_cookie(&person.cookie).await;
    browser
}

/// Changes what decides over a user, as an administrator would.
async fn change(world: &World, user: &User, change: impl FnOnce(&mut User)) {
    let mut user = user.clone();
    change(&mut user);
    world.change(&user, |standing| *standing = user.standing.clone()).await;
}

/// Opens a session in another way than with the password.
async fn session(world: &World, user: &User, opened: Opened, cookie: &str) -> String {
    let mut digest = [0; 32];
    digest.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, cookie.as_bytes()).as_ref());
    let now = world.clock.now();
    let session = Session {
        handle: world.clock.id(),
        user: user.id,
        opened,
        provider: None,
        opened_at: now,
        seen_at: now,
        password_at: None,
        ip: "203.0.113.9".to_owned(),
        user_agent: "test/1".to_owned(),
    };
    let mut tx = world.app.store.write().await.unwrap();
    tx.add_session(&digest, &session).await.unwrap();
    tx.commit().await.unwrap();
    format!("__Host-portcullis={cookie}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn suspended_and_expired() {
    let world = acme().await;
    let maria = world.user("maria@acme.example", Role::SuperAdmin).await;
    let person = world.sign_in("maria@acme.example").await;
    let browser = open(&world, &person).await;
    let program = person.generate().await;
    program.token().await;
    browser.go("/account/credentials").await;
    browser.says("1 valid now").await;

    world.pass(SignedDuration::from_mins(3));
    let now = world.clock.now();
    change(&world, &maria, |u| u.standing.mfa_since = Some(now)).await;
    world.pass(SignedDuration::from_mins(12));
    browser.go("/account/credentials").await;
    browser.says("Suspended while multi-factor authentication is on.").await;
    browser.says("0 valid now").await;
    browser.look("suspended-mfa").await;
    browser.go("/").await;
    browser.says("Suspended").await;
    browser.look("overview-suspended").await;
    browser.go("/account/credentials/use").await;
    browser.says("Suspended").await;
    browser.look("recent-use-suspended").await;
    browser.go("/account/credentials/revoke").await;
    assert_eq!(browser.focused().await, "Cancel");
    browser.look("suspended-revoke").await;

    change(&world, &maria, |_| {}).await;
    browser.go("/account/credentials").await;
    browser.says("1 valid now").await;

    world.pass(SignedDuration::from_hours(24 * 3650));
    let person = world.sign_in("maria@acme.example").await;
    browser.give_cookie(&person.cookie).await;
    browser.go("/account/credentials").await;
    browser.says("This credential lasted its 3650 days.").await;
    browser.look("expired").await;
    browser.go("/").await;
    browser.look("overview-expired").await;
    browser.go("/account/credentials").await;
    browser.press("Generate Credentials").await;
    browser.says("Copy the Client Secret now.").await;
    assert_ne!(browser.text_of("#client-id").await, program.client_id);
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn not_available() {
    let world = acme().await;
    let maria = world.user("maria@acme.example", Role::SuperAdmin).await;
    let browser = Browser::open(&world.url).await;
    browser.give_cookie(&session(&world, &maria, Opened::Provider, "federated").await).await;
    browser.go("/account/credentials").await;
    browser.says("Security credentials cannot be generated from a federated login.").await;
    assert_eq!(browser.count(".generate").await, 0);
    browser.look("federated").await;

    let person = world.sign_in("maria@acme.example").await;
    let now = world.clock.now();
    change(&world, &maria, |u| u.standing.mfa_since = Some(now)).await;
    browser.give_cookie(&person.cookie).await;
    browser.go("/account/credentials").await;
    browser.says("Not available while multi-factor authentication is on.").await;
    assert_eq!(browser.count(".generate").await, 0);
    browser.look("mfa").await;

    // Demoted with the tab open.
    change(&world, &maria, |_| {}).await;
    browser.go("/account/credentials").await;
    browser.says("Generate Credentials").await;
    change(&world, &maria, |u| u.standing.role.0 = Role::User).await;
    browser.press("Generate Credentials").await;
    browser.says("Not allowed").await;
    browser.look("demoted").await;
    browser.go("/account").await;
    assert_eq!(browser.text_of(".tabs").await, "General Settings");
    browser.go("/").await;
    browser.says("Welcome, Maria Rocha").await;
    assert!(!browser.text().await.contains("Audit log"));
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_password_is_asked_for_again() {
    let world = acme().await;
    let maria = world.maria().await;
    let browser = open(&world, &maria).await;
    world.pass(SignedDuration::from_mins(6));
    browser.go("/account/credentials").await;
    browser.says("Asked again because it was last given more than 5 minutes ago.").await;
    browser.look("password-again").await;
    browser.type_in("#password", "not the password").await;
    browser.press("Generate Credentials").await;
    browser.says("This is not your password.").await;
    assert_eq!(browser.value_of("#password").await, "");
    assert_eq!(browser.focused().await, "password", "ready to type it again");
    browser.look("password-again-wrong").await;
    browser.type_in("#password", PASSWORD).await;
    browser.press("Generate Credentials").await;
    browser.says("Copy the Client Secret now.").await;
    browser.press("I have stored it").await;
    browser.says("Shown once, when it was generated").await;

    // The tab was open when the five minutes passed.
    browser.press("Revoke Credentials").await;
    browser.press("Remove").await;
    browser.says("No security credentials").await;
    world.pass(SignedDuration::from_mins(6));
    browser.press("Generate Credentials").await;
    browser.says("Enter your password.").await;
    browser.look("password-needed").await;
    assert_eq!(browser.count("#client-secret").await, 0);

    // And when the session was over.
    world.pass(SignedDuration::from_mins(31));
    browser.type_in("#password", PASSWORD).await;
    browser.press("Generate Credentials").await;
    browser.says("Your session has ended").await;
    browser.look("session-ended").await;
    browser.press("Sign in").await;
    browser.at("/sign-in").await;
    browser.go("/audit").await;
    browser.at("/sign-in?next=/audit").await;
    browser.type_in("#email", "maria@acme.example").await;
    browser.type_in("#password", PASSWORD).await;
    browser.press("Sign in").await;
    browser.at("/audit").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_attempts_lock_the_sign_in() {
    let world = acme().await;
    world.user("maria@acme.example", Role::SuperAdmin).await;
    let browser = Browser::open(&world.url).await;
    for _ in 0..6 {
        browser.sign_in("maria@acme.example", "not the password").await;
        browser.find("#sign-in-error").await;
    }
    browser.says("Too many attempts. Try again in").await;
    browser.look("locked").await;
    world.pass(SignedDuration::from_mins(16));
    browser.type_in("#password", PASSWORD).await;
    browser.press("Sign in").await;
    browser.at("/account/credentials").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_user_is_not_offered_credentials() {
    let world = World::sqlite(&[]).await;
    world.maria().await;
    let ana = world.person("ana@acme.example", Role::User).await;
    let browser = Browser::open(&world.url).await;
    browser.give_cookie(&ana.cookie).await;
    browser.go("/").await;
    browser.says("What programs need to request and check access tokens.").await;
    assert!(!browser.text().await.contains("Audit log"));
    browser.look("plain-overview").await;
    browser.go("/account").await;
    assert_eq!(browser.text_of(".tabs").await, "General Settings");
    for refused in ["/account/credentials", "/account/credentials/use", "/audit"] {
        browser.go(refused).await;
        browser.says("Only a Super Admin can do this.").await;
    }
    browser.look("not-allowed").await;
    browser.close().await;
}
