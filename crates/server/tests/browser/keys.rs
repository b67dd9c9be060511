//! **Signing keys** in a browser: looked at, rotated, withdrawn.

use crate::{browser::Browser, support::World};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_life_of_a_signing_key() {
    let world = World::sqlite(&[("organization", "Acme Logistics")]).await;
    let maria = world.maria().await;
    let program = maria.generate().await;
    let token = program.token().await;
    let browser = Browser::open(&world.url).await;
    browser.give_cookie(&maria.cookie).await;
    browser.go("/").await;
    browser.press("Signing keys").await;
    browser.says("Signs tokens for Portcullis API").await;
    browser.look("keys").await;
    browser.press("Rotate the keys of ES256").await;
    browser.says("The next key has not been published for long enough.").await;
    browser.look("keys-rotate-early").await;
    browser.press("Rotate").await;
    browser.says("Nothing was rotated.").await;
    browser.look("keys-too-early").await;
    browser.press("Rotate the keys of ES256").await;
    browser.js("document.getElementById('at_once').click()").await;
    browser.press("Rotate").await;
    browser.says("The next key signs from now on").await;
    browser.says("Retiring").await;
    browser.look("keys-rotated").await;
    assert!(program.is_active(&token).await, "the old key is still in the key set");
    let old: String = browser.text_of("tr:has(.badge.warn) code").await;
    browser.press(&format!("Withdraw {old}")).await;
    browser.says("Every token that it signed stops working").await;
    browser.look("keys-withdraw").await;
    browser.js("for (const f of document.forms) f.noValidate = true").await;
    browser.press("Withdraw").await;
    browser.find("#reason-error").await;
    browser.look("keys-withdraw-error").await;
    browser.type_in("#reason", "Found in a backup").await;
    browser.press("Withdraw").await;
    browser.says("The key is out of the key set.").await;
    browser.look("keys-withdrawn").await;
    assert!(!program.is_active(&token).await);
}
