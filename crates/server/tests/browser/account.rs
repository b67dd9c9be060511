//! My Account Settings, General Settings; and text from people that looks like markup.

use jiff::SignedDuration;
use portcullis_domain::accounts::Role;

use crate::{
    browser::Browser,
    support::{PASSWORD, World},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn profile_password_and_sessions() {
    let world = World::sqlite(&[]).await;
    let maria = world.maria().await;
    let browser = Browser::open(&world.url).await;
    browser.give_cookie(&maria.cookie).await;
    browser.go("/account").await;
    browser.js("for (const f of document.forms) f.noValidate = true").await;
    browser.type_in("#name", "").await;
    browser.type_in("#time_zone", "Europe/Atlantis").await;
    browser.press("Save profile").await;
    browser.find("#name-error").await;
    browser.find("#time_zone-error").await;
    assert_eq!(browser.value_of("#time_zone").await, "Europe/Atlantis", "what was typed stays");
    browser.look("account-profile-errors").await;
    browser.type_in("#name", "Maria Rocha").await;
    browser.type_in("#time_zone", "America/Los_Angeles").await;
    browser.click("#language option[value='en-US']").await;
    browser.press("Save profile").await;
    browser.says("Your profile has been saved.").await;
    assert_eq!(browser.value_of("#language").await, "en-US");
    // 18 November 2026, 11:06:40 UTC is in the small hours there.
    let opened = browser.text_of(".sessions td[data-label='Opened']").await;
    assert!(opened.contains("November 18, 2026") && opened.contains("UTC"), "{opened}");
    assert!(opened.contains("3:06"), "the local time beside it: {opened}");
    browser.look("account-profile-saved").await;

    browser.type_in("#present_password", "not the password").await;
    browser.type_in("#new_password", "harbour violet ladder comet").await;
    browser.press("Change password").await;
    browser.says("This is not your present password.").await;
    browser.type_in("#present_password", PASSWORD).await;
    browser.type_in("#new_password", "short").await;
    browser.press("Change password").await;
    browser.find("#new_password-error").await;
    assert_eq!(browser.value_of("#present_password").await, "");
    browser.look("account-password-errors").await;
    browser.type_in("#present_password", PASSWORD).await;
    browser.type_in("#new_password", "harbour violet ladder comet").await;
    browser.press("Change password").await;
    browser.says("Your password has been changed. All your other sessions have been signed out.").await;

    let other = Browser::open(&world.url).await;
    other.sign_in("maria@acme.example", "harbour violet ladder comet").await;
    other.at("/account/credentials").await;
    world.pass(SignedDuration::from_mins(2));
    browser.go("/account").await;
    assert_eq!(browser.count(".sessions tbody tr").await, 2);
    browser.look("account-sessions").await;
    browser.press("Sign out the others").await;
    browser.says("1 other session has been signed out.").await;
    browser.says("This is your only session.").await;
    other.go("/account").await;
    other.at("/sign-in?next=/account").await;
    other.close().await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_looks_like_markup_is_text() {
    const NAME: &str = "<img src=x onerror=alert(1)>\"'><script>alert(2)</script>";
    let world = World::sqlite(&[("organization", "<b onclick=alert(3)>Acme</b>")]).await;
    let maria = world.maria().await;
    let browser = Browser::open(&world.url).await;
    browser.give_cookie(&maria.cookie).await;
    browser.go("/account").await;
    browser.type_in("#name", NAME).await;
    browser.press("Save profile").await;
    browser.says("Your profile has been saved.").await;
    assert_eq!(browser.value_of("#name").await, NAME);
    for page in ["/", "/account", "/account/credentials", "/audit", "/help"] {
        browser.go(page).await;
        browser.click(".avatar").await;
        assert_eq!(browser.text_of(".who b").await, NAME, "{page}");
        assert_eq!(browser.count("img, main b[onclick], .org b, .who script").await, 0, "{page}");
        browser.is_quiet(page).await;
    }
    browser.go("/").await;
    browser.says(&format!("Welcome, {NAME}")).await;
    browser.click(".avatar").await;
    browser.look("hostile-name").await;
    browser.go("/audit").await;
    browser.says(&format!("Maria Rocha -> {NAME}")).await;
    browser.look("hostile-audit").await;
    browser.go("/audit?actor=%22%3E%3Cimg+src%3Dx+onerror%3Dalert(4)%3E").await;
    assert_eq!(browser.value_of("#actor").await, "\"><img src=x onerror=alert(4)>");
    browser.is_quiet("audit filter").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_name_and_address_fit_everywhere() {
    let world = World::sqlite(&[("organization", &"Acme Logistics and Freight Forwarding ".repeat(3))]).await;
    let email = format!("{}@{}.example", "maria".repeat(12), "acme".repeat(15));
    let maria = world.person(&email, Role::SuperAdmin).await;
    let browser = Browser::open(&world.url).await;
    browser.give_cookie(&maria.cookie).await;
    browser.go("/account").await;
    browser.type_in("#name", &"Wolfeschlegelsteinhausen".repeat(4)).await;
    browser.press("Save profile").await;
    browser.says("Your profile has been saved.").await;
    browser.go("/").await;
    browser.click(".avatar").await;
    browser.look("long-name").await;
    browser.go("/audit").await;
    browser.look("long-audit").await;
    browser.give_cookie("__Host-portcullis=over").await;
    browser.go("/sign-in").await;
    browser.look("long-organization").await;
    browser.close().await;
}
