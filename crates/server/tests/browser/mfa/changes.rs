//! Factors that are taken away again, one by one and all at once; and the second step of a sign-in
//! with the keyboard alone.

use portcullis::app::accounts::NewUser;
use portcullis_domain::accounts::Role;
use thirtyfour::Key;

use super::*;

const ANA: &str = "ana@acme.example";

/// Adds a passkey beside what is there, which `code` proves.
async fn add_passkey(browser: &Browser, code: &str, name: &str) {
    browser.press("Add a passkey").await;
    browser.at("/account/mfa/passkey").await;
    browser.says("First give a second factor that you have").await;
    browser.type_in("#code", code).await;
    browser.keys(Key::Enter).await;
    browser.find("[data-passkey-new]:not([hidden])").await;
    browser.type_in("#name", name).await;
    // As the button does.
    browser.keys(Key::Enter).await;
    browser.says("The passkey has been added.").await;
    browser.says(name).await;
}

async fn codes_of(browser: &Browser) -> Vec<String> {
    browser.text_of("#codes").await.lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn factors_go_one_by_one() {
    let (world, browser) = maria().await;
    browser.virtual_authenticator().await;
    browser.go("/account").await;
    let phone = browser.set_up_app(&world, "Turn on").await;
    let first_codes = codes_of(&browser).await;
    browser.press("I have stored them").await;
    world.pass(SignedDuration::from_secs(30));

    // A passkey goes, the app stays.
    add_passkey(&browser, &first_codes[1], "Laptop").await;
    browser.press("Remove Laptop").await;
    browser.says("Laptop does not sign you in any more.").await;
    browser.look("mfa-remove-passkey").await;
    browser.type_in("#code", &phone.code(&world)).await;
    browser.press("Remove").await;
    browser.says("It has been removed.").await;
    assert_eq!(browser.text_of("#mfa .badge").await, "On");
    assert!(!browser.text_of("#mfa").await.contains("Laptop"));
    browser.sign_out().await;
    browser.sign_in(MARIA, PASSWORD).await;
    browser.at("/sign-in/second-factor").await;
    assert_eq!(browser.count("[data-passkey-ask]").await, 0, "there is no passkey to use");
    world.pass(SignedDuration::from_secs(30));
    browser.type_in("#code", &phone.code(&world)).await;
    browser.press("Sign in").await;
    browser.at("/account/credentials").await;
    browser.says("Not available while multi-factor authentication is on.").await;
    browser.look("credentials-mfa").await;

    // The app goes, a passkey stays.
    browser.go("/account").await;
    add_passkey(&browser, &first_codes[2], "Key ring").await;
    browser.look("mfa-on-both").await;
    world.pass(SignedDuration::from_secs(30));
    browser.press("Remove the authenticator app").await;
    browser.says("Its codes do not sign you in any more. Your passkeys stay.").await;
    browser.look("mfa-remove-app").await;
    browser.type_in("#code", &phone.code(&world)).await;
    browser.press("Remove").await;
    browser.says("It has been removed.").await;
    assert_eq!(browser.text_of("#mfa .badge").await, "On");
    browser.sign_out().await;
    browser.sign_in(MARIA, PASSWORD).await;
    browser.press("Use a passkey").await;
    browser.at("/account/credentials").await;

    new_codes(&browser, &first_codes).await;
    the_last_one(&world, &browser).await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_factor_is_added_with_one_that_is_there() {
    let (world, browser) = maria().await;
    browser.virtual_authenticator().await;
    browser.go("/account").await;
    browser.press("Add a passkey").await;
    browser.type_in("#name", "Laptop").await;
    browser.keys(Key::Enter).await;
    browser.says("Store these recovery codes now.").await;
    let codes = codes_of(&browser).await;
    browser.press("I have stored them").await;

    // With the passkey that is there, and with the keyboard alone.
    browser.press("Set up an authenticator app").await;
    browser.says("First give a second factor that you have").await;
    assert_eq!(browser.count(".qr").await, 0, "nothing to scan yet");
    browser.look("mfa-add-app").await;
    browser.find("[data-passkey-ask]:not([hidden])").await;
    browser.until_js("document.querySelector('[data-passkey-ask]').focus(); return true").await;
    browser.keys(Key::Enter).await;
    browser.says("Add the app").await;
    browser.look("mfa-app-beside").await;
    let phone = Phone::scan(&browser.text_of("#key").await);
    browser.type_in("#code", "000000").await;
    browser.keys(Key::Enter).await;
    browser.says("This is not the code that the app shows now.").await;
    browser.type_in("#code", &phone.code(&world)).await;
    browser.keys(Key::Enter).await;
    browser.says("The authenticator app has been set up.").await;

    // A second passkey, on another device, with a code.
    browser.another_authenticator().await;
    browser.press("Add a passkey").await;
    browser.look("mfa-add-passkey").await;
    browser.type_in("#code", "abcd-efgh-jkmn").await;
    browser.press("Continue").await;
    browser.says("This is not right, or it was used already.").await;
    browser.look("mfa-add-passkey-wrong").await;
    browser.type_in("#code", &codes[0]).await;
    browser.press("Continue").await;
    browser.find("[data-passkey-new]:not([hidden])").await;
    browser.look("mfa-passkey-beside").await;
    world.pass(SignedDuration::from_mins(4));
    browser.type_in("#name", "Key ring").await;
    browser.keys(Key::Enter).await;
    browser.says("The passkey has been added.").await;
    browser.says("Key ring").await;

    // Who takes too long gives one again.
    browser.press("Remove Key ring").await;
    browser.type_in("#code", &codes[1]).await;
    browser.press("Remove").await;
    browser.press("Add a passkey").await;
    browser.type_in("#code", &codes[2]).await;
    browser.press("Continue").await;
    browser.find("[data-passkey-new]:not([hidden])").await;
    world.pass(SignedDuration::from_mins(5));
    browser.type_in("#name", "Too late").await;
    browser.keys(Key::Enter).await;
    browser.type_in("#password", PASSWORD).await;
    browser.press("Continue").await;
    browser.says("First give a second factor that you have").await;
    assert!(!browser.text().await.contains("Too late"));
    browser.close().await;
}

/// Shown once; those from before do not work any more.
async fn new_codes(browser: &Browser, before: &[String]) {
    browser.go("/account").await;
    browser.says("8 of 10 left").await;
    browser.press("Make new ones (recovery codes)").await;
    browser.says("Make new recovery codes?").await;
    browser.look("mfa-new-codes").await;
    browser.press("Make new codes with a passkey").await;
    browser.says("The recovery codes you had do not work any more.").await;
    browser.look("mfa-codes-new").await;
    let codes = codes_of(browser).await;
    assert_eq!(codes.len(), 10);
    assert!(codes.iter().all(|c| !before.contains(c)), "all new");
    browser.press("I have stored them").await;
    browser.says("10 of 10 left").await;
    browser.back().await;
    browser.until_js("return document.readyState === 'complete'").await;
    let kept = browser.js("return document.documentElement.outerHTML").await.to_string();
    assert!(codes.iter().all(|c| !kept.contains(c)), "not there after Back");

    browser.go("/account").await;
    browser.sign_out().await;
    browser.sign_in(MARIA, PASSWORD).await;
    browser.at("/sign-in/second-factor").await;
    browser.type_in("#code", &before[0]).await;
    browser.press("Sign in").await;
    browser.says("This is not right, or it was used already.").await;
    browser.type_in("#code", &codes[0]).await;
    browser.press("Sign in").await;
    browser.at("/account/credentials").await;
    browser.go("/account").await;
    browser.says("9 of 10 left").await;
}

/// Removing the only factor turns MFA off, and says so before.
async fn the_last_one(world: &World, browser: &Browser) {
    browser.press("Remove Key ring").await;
    browser.says("It is your only second factor, so this turns multi-factor authentication off").await;
    browser.look("mfa-remove-last").await;
    browser.press("Remove with a passkey").await;
    browser.says("Multi-factor authentication is off.").await;
    assert!(world.user_of(MARIA).await.standing.mfa_since.is_none());
    browser.sign_out().await;
    browser.sign_in(MARIA, PASSWORD).await;
    browser.at("/account/credentials").await;
}

/// Signs in as somebody does who has no pointer: what is typed goes where the focus is.
async fn by_keyboard(browser: &Browser, email: &str, code: &str) {
    browser.go("/sign-in").await;
    assert_eq!(browser.focused().await, "email");
    browser.keys(email).await;
    browser.keys(Key::Tab).await;
    assert_eq!(browser.focused().await, "password");
    browser.keys(PASSWORD).await;
    browser.keys(Key::Enter).await;
    browser.at("/sign-in/second-factor").await;
    browser.until_js("return document.activeElement.id === 'code'").await;
    browser.keys(code).await;
    browser.keys(Key::Enter).await;
    browser.at("/account/credentials").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_super_admin_turns_it_off() {
    let (world, browser) = maria().await;
    let new = NewUser { email: ANA.to_owned(), name: "Ana Lima".to_owned(), password: PASSWORD.into() };
    let page = format!("/users/{}", world.app.create_user(new, Role::SuperAdmin).await.unwrap().id);
    let other = Browser::open(&browser.url).await;
    other.give_cookie(&world.sign_in(ANA).await.cookie).await;
    other.go("/account/credentials").await;
    other.press("Generate Credentials").await;
    let client_id = other.text_of("#client-id").await;
    other.go("/account").await;
    let phone = other.set_up_app(&world, "Turn on and suspend the credential").await;
    other.go("/account/credentials").await;
    other.says("Suspended while multi-factor authentication is on.").await;
    other.look("credentials-mfa-suspended").await;
    other.sign_out().await;
    world.pass(SignedDuration::from_secs(30));
    by_keyboard(&other, ANA, &phone.code(&world)).await;

    browser.go(&page).await;
    browser.says(&format!("{client_id}, suspended while its owner has multi-factor authentication on")).await;
    browser.press("Turn MFA off").await;
    browser.says("Turn MFA off for Ana Lima?").await;
    browser.says(&format!("The credential {client_id} works again at once")).await;
    browser.look("user-turn-mfa-off-for").await;
    browser.press("Turn MFA off").await;
    browser.says("MFA has been turned off. The user is told by mail.").await;
    assert!(!browser.text().await.contains("Turn MFA off"), "it is off");
    let told = world.subjects_to(ANA).await;
    assert!(told.contains(&"Multi-factor authentication was turned off".to_owned()), "{told:?}");

    other.sign_out().await;
    other.sign_in(ANA, PASSWORD).await;
    other.at("/account/credentials").await;
    other.says("Active").await;
    other.says(&client_id).await;
    other.close().await;
    browser.close().await;
}
