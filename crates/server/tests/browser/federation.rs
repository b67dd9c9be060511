//! Federated logins in a browser, through a provider that this project did not write (`oidc-provider`
//! of npm, which `dev/test` starts): set up, test, sign in, link, sign out there too, remove.

use jiff::SignedDuration;
use portcullis_domain::accounts::{Role, Status};
use serde_json::{Value, json};
use thirtyfour::Key;

use crate::{
    browser::{Browser, variable},
    support::{PASSWORD, World},
};

/// Registers a client for the two addresses that the page shows (RFC 7591).
async fn register(issuer: &str, redirect_uri: &str, signed_out_uri: &str) -> (String, String) {
    let metadata = json!({
        "redirect_uris": [redirect_uri],
        "post_logout_redirect_uris": [signed_out_uri],
        "grant_types": ["authorization_code"],
        "response_types": ["code"],
    });
    let made = reqwest::Client::new().post(format!("{issuer}/reg")).json(&metadata).send().await.unwrap();
    assert_eq!(made.status().as_u16(), 201);
    let made: Value = made.json().await.unwrap();
    let text = |name: &str| made[name].as_str().unwrap().to_owned();
    (text("client_id"), text("client_secret"))
}

/// Says who one is at the provider, and yes to everything.
async fn agree(browser: &Browser, issuer: &str, name: Option<&str>) {
    browser.until_js(&format!("return location.href.startsWith('{issuer}/interaction/')")).await;
    if let Some(name) = name {
        browser.type_in("[name=login]", name).await;
        browser.type_in("[name=password]", "any").await;
        browser.click("[type=submit]").await;
    }
    browser.until_js("return document.body.innerText.includes('Continue')").await;
    browser.click("[type=submit]").await;
}

async fn here(browser: &Browser) {
    browser.until_js(&format!("return location.href.startsWith('{}')", browser.url)).await;
    // What the pages of the provider say to the log of the browser is not ours.
    browser.log().await;
}

/// Sets the provider up in the console, as a Super Admin does, and gives the place of its page.
async fn set_up(browser: &Browser, issuer: &str) -> String {
    browser.go("/providers").await;
    browser.says("Everybody signs in with a Portcullis password.").await;
    browser.look("providers-empty").await;
    browser.press("Set up a provider").await;
    browser.says("Register these addresses at the provider").await;
    browser.look("provider-new").await;
    let redirect_uri = browser.text_of("#redirect-uri").await;
    let (client_id, secret) = register(issuer, &redirect_uri, &browser.text_of("#signed-out-uri").await).await;
    browser.js("for (const f of document.forms) f.noValidate = true").await;
    browser.type_in("#name", "Acme ID").await;
    browser.type_in("#issuer", "http://id.acme.example").await;
    browser.type_in("#client_id", &client_id).await;
    browser.type_in("#client_secret", &secret).await;
    browser.click("[name=makes_users]").await;
    browser.press("Set up").await;
    browser.find("#issuer-error").await;
    assert_eq!(browser.value_of("#client_secret").await, "", "a secret is not sent back");
    assert_eq!(browser.text_of("#redirect-uri").await, redirect_uri, "what was registered is still right");
    browser.look("provider-errors").await;
    browser.type_in("#issuer", issuer).await;
    browser.type_in("#client_secret", &secret).await;
    browser.press("Set up").await;
    browser.says("The provider answers as it should.").await;
    browser.look("provider-saved").await;
    let page = browser.js("return document.documentElement.outerHTML").await;
    assert!(!page.as_str().unwrap().contains(&secret), "never shown again");
    browser.place().await.split('?').next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_life_of_a_provider() {
    let issuer = variable("PORTCULLIS_TEST_OIDC");
    // ID tokens of a real provider are of now.
    let named = [("public_url", "http://localhost:{port}"), ("organization", "Acme Logistics")];
    let world = World::sqlite_of_now(&named).await;
    let maria = world.maria().await;
    let browser = Browser::open(&world.app.config.public_url).await;
    browser.give_cookie(&maria.cookie).await;
    let place = set_up(&browser, &issuer).await;

    browser.press("Test").await;
    agree(&browser, &issuer, Some("maria.at.id")).await;
    here(&browser).await;
    browser.says("Nobody was signed in and nothing was made.").await;
    browser.says("maria.at.id@id.example").await;
    browser.says("maria.at.id <i>of</i> Acme").await;
    browser.look("provider-test").await;

    somebody_new(&world, &issuer).await;
    link_and_sign_out(&browser, &issuer).await;

    browser.sign_in("maria@acme.example", PASSWORD).await;
    browser.at("/account/credentials").await;
    unlink(&world, &browser, &issuer).await;
    browser.go("/providers").await;
    browser.look("providers").await;
    browser.press("Acme ID").await;
    browser.press("Remove provider").await;
    browser.says("2 users have no other way to sign in").await;
    browser.look("provider-remove").await;
    browser.press("Remove").await;
    browser.says("The provider is removed.").await;
    browser.go(&place).await;
    browser.says("Page not found").await;
    browser.close().await;
}

/// Paulo has no account: he gets one, sees what it has not, and is told so as a Super Admin too.
async fn somebody_new(world: &World, issuer: &str) {
    let browser = Browser::open(&world.app.config.public_url).await;
    browser.go("/sign-in").await;
    browser.says("Sign in with a passkey").await;
    browser.says("Forgot your password?").await;
    browser.look("sign-in-all").await;
    browser.press("Sign in with Acme ID").await;
    agree(&browser, issuer, Some("paulo")).await;
    here(&browser).await;
    browser.says("Welcome, paulo <i>of</i> Acme").await;
    browser.go("/account").await;
    browser.says("Your account has no Portcullis password").await;
    browser.look("account-federated").await;
    let paulo = world.user_of("paulo@id.example").await;
    assert_eq!((paulo.standing.role.0, paulo.standing.status.0), (Role::User, Status::Active));
    world.change(&paulo, |s| s.role = (Role::SuperAdmin, world.clock.now())).await;
    browser.go("/account/credentials").await;
    browser.says("You signed in with Acme ID.").await;
    browser.says("Security credentials cannot be generated from a federated login.").await;
    assert_eq!(browser.count(".generate").await, 0);
    browser.look("credentials-federated-only").await;
    forgotten(world, &browser).await;
    browser.close().await;
}

/// There is no password to replace: the page says what it says to everybody, and the mail where to go.
async fn forgotten(world: &World, browser: &Browser) {
    let before = world.subjects_to("paulo@id.example").await.len();
    browser.click(".avatar").await;
    browser.press("Sign out").await;
    browser.says("At Acme ID you are still signed in.").await;
    browser.go("/sign-in").await;
    browser.press("Forgot your password?").await;
    browser.type_in("#email", "paulo@id.example").await;
    browser.press("Send me a link").await;
    browser.says("Look into your mailbox.").await;
    let mail = world.mail_to("paulo@id.example", before + 1).await;
    assert_eq!(mail.subject, "Your account has no password here");
    assert!(mail.text.contains("You sign in with Acme ID."), "{}", mail.text);
    browser.go(&mail.link("/sign-in")).await;
    browser.press("Sign in with Acme ID").await;
    here(browser).await;
    browser.at("/account/credentials").await;
}

/// Maria unlinks her identity, which says nothing of her any more: at the provider she is somebody new.
async fn unlink(world: &World, browser: &Browser, issuer: &str) {
    browser.go("/account").await;
    browser.press("Unlink Acme ID").await;
    browser.says("Sessions that you opened with it end.").await;
    browser.look("identity-unlink").await;
    browser.press("Cancel").await;
    browser.at("/account").await;
    browser.press("Unlink Acme ID").await;
    browser.press("Unlink").await;
    browser.says("The identity is unlinked.").await;
    browser.look("account-unlinked").await;
    browser.click(".avatar").await;
    browser.press("Sign out").await;
    browser.says("You have signed out.").await;
    browser.press("Sign in with Acme ID").await;
    agree(browser, issuer, Some("maria.at.id")).await;
    here(browser).await;
    browser.says("Welcome, maria.at.id <i>of</i> Acme").await;
    let new = world.user_of("maria.at.id@id.example").await;
    assert_eq!(new.standing.role.0, Role::User, "not what Maria is");
    browser.click(".avatar").await;
    browser.press("Sign out").await;
    browser.says("At Acme ID you are still signed in.").await;
    browser.sign_in("maria@acme.example", PASSWORD).await;
    browser.at("/account/credentials").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_asks_for_the_password_after_five_minutes() {
    let world = World::sqlite(&[("organization", "Acme Logistics")]).await;
    let maria = world.maria().await;
    let browser = Browser::open(&world.url).await;
    browser.give_cookie(&maria.cookie).await;
    browser.go("/providers/new").await;
    browser.type_in("#name", "Acme ID").await;
    // Nobody listens there; nobody gets that far.
    browser.type_in("#issuer", "http://127.0.0.1:9").await;
    browser.type_in("#client_id", "portcullis").await;
    browser.type_in("#client_secret", "not asked for").await;
    browser.press("Set up").await;
    browser.says("Saved, but nobody can sign in through it yet.").await;
    world.pass(SignedDuration::from_mins(6));
    browser.go("/account").await;
    browser.press("Link Acme ID").await;
    browser.says("Asked unless you gave it in the last 5 minutes.").await;
    assert_eq!(browser.focused().await, "password");
    browser.look("identity-link").await;
    browser.keys("not her password").await;
    browser.keys(Key::Enter).await;
    browser.says("This is not your password.").await;
    browser.look("identity-link-wrong").await;
    browser.press("Cancel").await;
    browser.at("/account").await;
    browser.close().await;
}

/// Maria links her identity, signs in with it, and signs out here and there.
async fn link_and_sign_out(browser: &Browser, issuer: &str) {
    browser.go("/account").await;
    browser.says("Link an identity at a provider").await;
    browser.look("account-links-empty").await;
    browser.press("Link Acme ID").await;
    here(browser).await;
    browser.says("The identity is linked.").await;
    browser.says("maria.at.id@id.example").await;
    browser.look("account-linked").await;
    browser.click(".avatar").await;
    browser.press("Sign out").await;
    browser.says("You have signed out.").await;

    browser.press("Sign in with Acme ID").await;
    here(browser).await;
    browser.at("/account/credentials").await;
    browser.says("Sign in with your Portcullis password to generate them.").await;
    browser.look("credentials-federated").await;
    browser.click(".avatar").await;
    browser.press("Sign out").await;
    browser.says("At Acme ID you are still signed in.").await;
    browser.look("signed-out-federated").await;
    browser.press("Sign out at Acme ID too").await;
    browser.until_js(&format!("return location.href.startsWith('{issuer}/session/end')")).await;
    browser.click("[name=logout]").await;
    here(browser).await;
    browser.says("You have signed out here and at your provider.").await;
    browser.press("Sign in with Acme ID").await;
    browser.until_js(&format!("return location.href.startsWith('{issuer}/interaction/')")).await;
    browser.find("[name=login]").await;
    browser.log().await;
    browser.go("/sign-in?problem=declined_by_provider").await;
    browser.says("The provider did not sign you in").await;
    browser.look("sign-in-problem").await;
}
