//! What a Super Admin does to somebody, walked to its end in the browsers of both; and links that
//! open nothing any more.

use portcullis::app::accounts::NewUser;

use super::*;

const PAULO: &str = "paulo@acme.example";

/// Maria in her browser on the page of Ana, and Ana in hers.
async fn maria_and_ana(world: &World, role: Role) -> (Browser, Browser, String) {
    let maria = world.maria().await;
    let new = NewUser { email: ANA.to_owned(), name: "Ana Lima".to_owned(), password: PASSWORD.into() };
    let page = format!("/users/{}", world.app.create_user(new, role).await.unwrap().id);
    let browser = open(world, &maria).await;
    browser.go(&page).await;
    (browser, open(world, &world.sign_in(ANA).await).await, page)
}

/// Somebody is invited from the console. Gives the link of the mail.
async fn invite(world: &World, browser: &Browser, email: &str) -> String {
    browser.go("/users/invite").await;
    browser.type_in("#email", email).await;
    browser.press("Send the invitation").await;
    browser.says("No mail server is set up, so nothing was sent.").await;
    world.mail_to(email, 1).await.link("/activate/")
}

async fn activate(browser: &Browser, link: &str, email: &str) {
    browser.go(link).await;
    browser.says("Activate your account").await;
    assert_eq!(browser.value_of("#email").await, email);
    browser.type_in("#name", "Ana Lima").await;
    browser.type_in("#password", PASSWORD).await;
    browser.press("Activate the account").await;
    browser.says("Your account is ready. Sign in with it.").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invited_again() {
    let world = acme().await;
    let maria = world.maria().await;
    let browser = open(&world, &maria).await;
    let first = invite(&world, &browser, ANA).await;
    browser.press("Open the user").await;
    browser.press("Invite again").await;
    browser.says("the earlier link stops working").await;
    world.pass(SignedDuration::from_mins(1));
    browser.press("Invite again").await;
    browser.says("No mail server is set up, so nothing was sent.").await;
    let second = world.mail_to(ANA, 2).await.link("/activate/");
    assert_eq!(browser.text_of("#link").await, format!("{}{second}", world.url));

    let other = Browser::open(&world.url).await;
    other.go(&first).await;
    other.says("This link was replaced by a newer one").await;
    other.look("link-replaced").await;
    activate(&other, &second, ANA).await;
    // Opened once more, by somebody who thinks that it did not work.
    other.go(&second).await;
    other.says("The account is active: sign in with it.").await;
    other.press("Sign in").await;
    other.type_in("#email", ANA).await;
    other.type_in("#password", PASSWORD).await;
    other.press("Sign in").await;
    other.says("Welcome, Ana Lima").await;
    browser.go(&format!("/users/{}", world.user_of(ANA).await.id)).await;
    browser.says("Active").await;
    assert!(!browser.text().await.contains("Invite again"), "there is nothing to invite to");
    other.close().await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_invitation_is_sent_again_by_a_super_admin_alone() {
    let world = acme().await;
    let maria = world.maria().await;
    let browser = open(&world, &maria).await;
    let late = invite(&world, &browser, PAULO).await;
    world.pass(SignedDuration::from_hours(24));
    let other = Browser::open(&world.url).await;
    other.go(&late).await;
    other.says("This link has expired. It was good for 24 hours.").await;
    other.look("link-expired-invitation").await;
    other.says("Ask a Super Admin to invite you again.").await;
    other.press("Go to the sign-in").await;
    other.at("/sign-in").await;
    browser.sign_in("maria@acme.example", PASSWORD).await;
    browser.go(&format!("/users/{}", world.user_of(PAULO).await.id)).await;
    browser.press("Invite again").await;
    browser.press("Invite again").await;
    let new = world.mail_to(PAULO, 2).await.link("/activate/");
    activate(&other, &new, PAULO).await;
    browser.close().await;
    other.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_reset_link_leads_to_another() {
    let world = acme().await;
    world.user(ANA, Role::SuperAdmin).await;
    let browser = Browser::open(&world.url).await;
    browser.go("/forgot-password").await;
    browser.type_in("#email", ANA).await;
    browser.press("Send me a link").await;
    browser.says("Look into your mailbox.").await;
    let late = world.mail_to(ANA, 1).await.link("/reset-password/");
    browser.go(&late).await;
    browser.says("Choose a new password").await;
    // It expires while its page is open.
    world.pass(SignedDuration::from_hours(1));
    browser.type_in("#password", "violet harbor mosaic thunder").await;
    browser.press("Change password").await;
    browser.says("This link has expired. It was good for 1 hour.").await;
    browser.go(&late).await;
    browser.says("This link has expired. It was good for 1 hour.").await;
    browser.look("link-expired-reset").await;
    browser.press("Ask for a new link").await;
    browser.type_in("#email", ANA).await;
    browser.press("Send me a link").await;
    browser.says("Look into your mailbox.").await;
    browser.go(&world.mail_to(ANA, 2).await.link("/reset-password/")).await;
    browser.type_in("#password", "violet harbor mosaic thunder").await;
    browser.press("Change password").await;
    browser.says("Your password has been changed. Sign in with it.").await;
    browser.sign_in(ANA, PASSWORD).await;
    browser.find("#sign-in-error").await;
    browser.sign_in(ANA, "violet harbor mosaic thunder").await;
    browser.at("/account/credentials").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn super_admin_is_taken_and_given_back() {
    let world = acme().await;
    let (browser, other, _) = maria_and_ana(&world, Role::SuperAdmin).await;
    other.go("/account/credentials").await;
    other.press("Generate Credentials").await;
    let client_id = other.text_of("#client-id").await;
    browser.reload().await;
    browser.says(&format!("{client_id}, active")).await;
    browser.press("Take Super Admin").await;
    browser.says("Take Super Admin from Ana Lima?").await;
    browser.says(&format!("The credential {client_id} is suspended while its owner is not a Super Admin")).await;
    browser.look("user-take-super-admin").await;
    browser.press("Take Super Admin").await;
    browser.says("The user is not a Super Admin any more.").await;
    browser.look("user-demoted").await;

    // The page that Ana has open offers more than she may now.
    other.press("I have stored it").await;
    other.says("Only a Super Admin can do this.").await;
    other.go("/account").await;
    assert_eq!(other.text_of(".tabs").await, "General Settings");
    assert_eq!(other.text_of(".side").await, "Overview", "no navigation of a Super Admin");
    for refused in ["/users", "/mail", "/providers", "/audit", "/account/credentials/use"] {
        other.go(refused).await;
        other.says("Only a Super Admin can do this.").await;
    }

    browser.press("Give Super Admin").await;
    browser.says(&format!("The credential {client_id} works again at once")).await;
    browser.look("user-give-super-admin").await;
    browser.press("Give Super Admin").await;
    browser.says("The user is a Super Admin now.").await;
    other.go("/account/credentials").await;
    other.says("Active").await;
    other.says(&client_id).await;
    other.close().await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deactivated_activated_and_deleted() {
    let world = acme().await;
    let (browser, other, page) = maria_and_ana(&world, Role::User).await;
    browser.press("Deactivate").await;
    browser.says("Deactivate Ana Lima?").await;
    browser.press("Deactivate").await;
    browser.says("The user has been deactivated and signed out everywhere.").await;
    other.go("/account").await;
    other.at("/sign-in?next=/account").await;
    other.sign_in(ANA, PASSWORD).await;
    other.find("#sign-in-error").await;
    other.look("sign-in-deactivated").await;

    browser.press("Activate").await;
    browser.says("The user can sign in again, as before.").await;
    browser.look("user-activate").await;
    browser.press("Activate").await;
    browser.says("The user is active again.").await;
    other.sign_in(ANA, PASSWORD).await;
    other.says("Welcome, Ana Lima").await;

    browser.press("Delete").await;
    browser.says("This cannot be undone.").await;
    browser.press("Cancel").await;
    browser.press("Delete").await;
    browser.says("Delete Ana Lima?").await;
    browser.press("Delete").await;
    browser.at("/users").await;
    assert!(!browser.text().await.contains(ANA), "gone from the list");
    other.go("/").await;
    other.at("/sign-in").await;
    other.sign_in(ANA, PASSWORD).await;
    other.find("#sign-in-error").await;
    browser.go(&page).await;
    browser.look("user-deleted").await;
    for act in ["Activate", "Invite again", "Give Super Admin", "Deactivate"] {
        assert!(!browser.text().await.contains(act), "final: no {act}");
    }
    // The address is free: who comes back is somebody new.
    let link = invite(&world, &browser, ANA).await;
    activate(&other, &link, ANA).await;
    assert_ne!(format!("/users/{}", world.user_of(ANA).await.id), page);
    other.close().await;
    browser.close().await;
}
