//! Multi-factor authentication in a browser: an authenticator app, passkeys with the browser's own
//! virtual authenticator, recovery codes, and what all of it does to the Credentials tab.

use jiff::SignedDuration;
use serde_json::json;

use crate::{
    browser::Browser,
    support::{PASSWORD, World},
    tab::Phone,
};

mod changes;

const MARIA: &str = "maria@acme.example";
const NAMED: [(&str, &str); 2] = [("public_url", "http://localhost:{port}"), ("organization", "Acme Logistics")];

/// Maria, signed in, in a browser that reaches the server by its name.
async fn maria() -> (World, Browser) {
    let world = World::sqlite(&NAMED).await;
    let maria = world.maria().await;
    let browser = Browser::open(&world.app.config.public_url).await;
    browser.give_cookie(&maria.cookie).await;
    (world, browser)
}

impl Browser {
    async fn virtual_authenticator(&self) {
        self.cdp("WebAuthn.enable", json!({})).await;
        let options = json!({
            "protocol": "ctap2", "transport": "internal", "hasResidentKey": true, "hasUserVerification": true,
            "isUserVerified": true, "automaticPresenceSimulation": true,
        });
        self.cdp("WebAuthn.addVirtualAuthenticator", json!({ "options": options })).await;
    }

    /// Another device in place of the one that was there.
    async fn another_authenticator(&self) {
        self.cdp("WebAuthn.disable", json!({})).await;
        self.virtual_authenticator().await;
    }

    /// Sets an app up from General Settings and gives the phone.
    async fn set_up_app(&self, world: &World, button: &str) -> Phone {
        self.press("Set up an authenticator app").await;
        self.at("/account/mfa/app").await;
        let phone = Phone::scan(&self.text_of("#key").await);
        self.type_in("#code", &phone.code(world)).await;
        self.press(button).await;
        self.says("Store these recovery codes now.").await;
        phone
    }

    async fn sign_out(&self) {
        self.click(".avatar").await;
        self.press("Sign out").await;
        self.says("You have signed out.").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authenticator_app_and_recovery_codes() {
    let (world, browser) = maria().await;
    browser.go("/account/credentials").await;
    browser.press("Generate Credentials").await;
    let client_id = browser.text_of("#client-id").await;
    browser.go("/account").await;
    browser.says("Turning it on suspends your credential.").await;
    browser.look("mfa-off").await;
    browser.press("Set up an authenticator app").await;
    browser.says(&client_id).await;
    assert!(browser.shows(".qr svg").await);
    browser.look("mfa-app").await;
    browser.type_in("#code", "000000").await;
    browser.press("Turn on and suspend the credential").await;
    browser.says("This is not the code that the app shows now.").await;
    browser.look("mfa-app-wrong").await;
    let phone = Phone::scan(&browser.text_of("#key").await);
    browser.type_in("#code", &phone.code(&world)).await;
    browser.press("Turn on and suspend the credential").await;
    browser.says("Store these recovery codes now.").await;
    browser.look("mfa-codes").await;
    let codes: Vec<String> = browser.text_of("#codes").await.lines().map(str::to_owned).collect();
    assert_eq!(codes.len(), 10);
    browser.press("Download").await;
    let file = browser.downloaded("portcullis-recovery-codes.txt").await;
    assert!(codes.iter().all(|c| file.contains(c)));

    browser.press("I have stored them").await;
    browser.says("10 of 10 left").await;
    browser.look("mfa-on").await;
    browser.back().await;
    browser.until_js("return document.readyState === 'complete'").await;
    let kept = browser.js("return document.documentElement.outerHTML").await.to_string();
    assert!(!kept.contains(&codes[0]), "not there after Back");
    browser.go("/account/credentials").await;
    browser.says("Suspended while multi-factor authentication is on.").await;

    world.pass(SignedDuration::from_secs(30));
    signing_in(&world, &browser, &phone, &codes).await;
    turning_off(&world, &browser, &phone).await;
    browser.go("/account/credentials").await;
    browser.says("Active").await;
    browser.says(&client_id).await;
    browser.close().await;
}

/// With a code of the app, and with a recovery code.
async fn signing_in(world: &World, browser: &Browser, phone: &Phone, codes: &[String]) {
    browser.sign_out().await;
    browser.sign_in(MARIA, PASSWORD).await;
    browser.at("/sign-in/second-factor").await;
    browser.look("second-factor").await;
    browser.type_in("#code", "000000").await;
    browser.press("Sign in").await;
    browser.says("This is not right, or it was used already.").await;
    browser.look("second-factor-wrong").await;
    browser.type_in("#code", &phone.code(world)).await;
    browser.press("Sign in").await;
    browser.at("/account/credentials").await;

    browser.sign_out().await;
    browser.sign_in(MARIA, PASSWORD).await;
    browser.press("Use a recovery code").await;
    browser.look("second-factor-recovery").await;
    browser.type_in("#code", &codes[0].to_uppercase()).await;
    browser.press("Sign in").await;
    browser.at("/account/credentials").await;
    browser.go("/account").await;
    browser.says("9 of 10 left").await;
}

async fn turning_off(world: &World, browser: &Browser, phone: &Phone) {
    world.pass(SignedDuration::from_mins(6));
    browser.press("Turn off").await;
    browser.says("Asked unless you gave it in the last 5 minutes.").await;
    browser.look("mfa-password").await;
    browser.type_in("#password", PASSWORD).await;
    browser.press("Continue").await;
    browser.says("Turn multi-factor authentication off?").await;
    browser.look("mfa-turn-off").await;
    browser.type_in("#code", &phone.code(world)).await;
    browser.press("Turn off").await;
    browser.says("Multi-factor authentication is off.").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passkeys_as_a_second_factor_and_alone() {
    let (world, browser) = maria().await;
    browser.virtual_authenticator().await;
    browser.go("/account").await;
    browser.press("Add a passkey").await;
    browser.at("/account/mfa/passkey").await;
    browser.look("mfa-passkey").await;
    browser.find("[data-passkey-new]:not([hidden])").await;
    browser.type_in("#name", "Laptop").await;
    browser.keys(thirtyfour::Key::Enter).await;
    browser.says("Store these recovery codes now.").await;
    browser.press("I have stored them").await;
    browser.says("Laptop").await;
    browser.look("mfa-on-passkey").await;
    browser.press("Add a passkey").await;
    browser.says("First give a second factor that you have").await;
    browser.press("Continue with a passkey").await;
    browser.type_in("#name", "The same again").await;
    browser.press("Add the passkey").await;
    browser.says("has a passkey for this account already").await;

    browser.go("/account").await;
    browser.sign_out().await;
    browser.sign_in(MARIA, PASSWORD).await;
    browser.at("/sign-in/second-factor").await;
    browser.look("second-factor-passkey").await;
    browser.press("Use a passkey").await;
    browser.at("/account/credentials").await;

    browser.go("/account/mfa/passkey-alone").await;
    browser.look("mfa-passkey-alone").await;
    browser.press("Allow with a passkey").await;
    browser.says("How passkeys sign in has been changed.").await;
    browser.sign_out().await;
    browser.look("sign-in-with-passkeys").await;
    browser.press("Sign in with a passkey").await;
    browser.at("/sign-in/passkey").await;
    browser.look("sign-in-passkey").await;
    browser.press("Use a passkey").await;
    browser.at("/account/credentials").await;
    browser.says("Not available while multi-factor authentication is on.").await;

    browser.go("/account/mfa/off").await;
    browser.type_in("#password", PASSWORD).await;
    browser.press("Continue").await;
    browser.press("Turn off with a passkey").await;
    browser.says("Multi-factor authentication is off.").await;
    browser.sign_out().await;
    browser.press("Sign in with a passkey").await;
    browser.press("Use a passkey").await;
    browser.says("This passkey does not sign you in.").await;
    browser.look("sign-in-passkey-refused").await;
    assert!(world.user_of(MARIA).await.standing.mfa_since.is_none());
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_works_without_a_script_and_passkeys_say_that_they_do_not() {
    let world = World::sqlite(&NAMED).await;
    let maria = world.maria().await;
    let browser = Browser::open_without_script(&world.app.config.public_url).await;
    browser.give_cookie(&maria.cookie).await;
    browser.go("/account").await;
    let phone = browser.set_up_app(&world, "Turn on").await;
    let codes: Vec<String> = browser.text_of("#codes").await.lines().map(str::to_owned).collect();
    browser.go("/account/mfa/passkey").await;
    browser.type_in("#code", &codes[0]).await;
    browser.press("Continue").await;
    browser.says("Passkeys need JavaScript.").await;
    world.pass(SignedDuration::from_secs(30));
    browser.sign_out().await;
    browser.sign_in(MARIA, PASSWORD).await;
    browser.type_in("#code", &phone.code(&world)).await;
    browser.press("Sign in").await;
    browser.at("/account/credentials").await;
    browser.close().await;
}
