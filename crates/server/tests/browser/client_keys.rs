//! The public key of a credential in a browser: bound, replaced, removed, and the secret switched off.

use jiff::SignedDuration;
use portcullis_domain::accounts::Role;

use crate::{
    browser::Browser,
    support::{PASSWORD, World},
};

/// The public keys of RFC 7515 A.3 and RFC 8037 A.2.
const P256: &str = r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;
const ED25519: &str = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
const THUMBPRINT: &str = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k";

/// The page was open when the five minutes passed (C-12).
async fn password_is_asked_for(world: &World, browser: &Browser) {
    world.pass(SignedDuration::from_mins(6));
    browser.type_in("#key", P256).await;
    browser.press("Bind key").await;
    browser.says("Enter your password.").await;
    assert_eq!(browser.value_of("#key").await, P256, "what was typed is kept");
    browser.look("key-password").await;
    browser.type_in("#password", PASSWORD).await;
    browser.press("Bind key").await;
    browser.says("The public key is bound.").await;
}

async fn secret_is_switched_off_and_on(browser: &Browser) {
    browser.press("Switch the Client Secret off").await;
    browser.says("The key cannot be removed then").await;
    browser.look("key-secret-off-confirm").await;
    browser.press("Switch off").await;
    browser.says("The Client Secret is off.").await;
    browser.says("Off since").await;
    assert!(!browser.text().await.contains("Remove"), "the only way in is not removed");
    browser.look("key-secret-off").await;
    browser.go("/account/credentials/key/remove").await;
    browser.says("the key is the only way in").await;
    browser.look("key-only-way-in").await;
    browser.press("Replace").await;
    browser.says("The key that is bound stops at once").await;
    browser.look("key-replace").await;
    browser.type_in("#key", ED25519).await;
    browser.press("Replace key").await;
    assert_eq!(browser.text_of("#thumbprint").await, THUMBPRINT, "RFC 8037 A.3");
    browser.press("Switch the Client Secret on").await;
    browser.press("Switch on").await;
    browser.says("The Client Secret is on.").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_bound_replaced_and_removed_and_the_secret_switched_off() {
    let world = World::sqlite(&[("organization", "Acme Logistics")]).await;
    let maria = world.maria().await;
    let program = maria.generate().await;
    let browser = Browser::open(&world.url).await;
    browser.give_cookie(&maria.cookie).await;
    browser.go("/account/credentials").await;
    browser.says("No public key is bound to this credential.").await;
    browser.look("key-none").await;
    browser.press("Bind a public key").await;
    browser.says("which never leaves their machine").await;
    browser.look("key-bind").await;
    browser.type_in("#key", &P256.replace('}', ",\"d\":\"AAAA\"}")).await;
    browser.press("Bind key").await;
    browser.says("This is a private key.").await;
    assert_eq!((browser.value_of("#key").await, browser.focused().await), (String::new(), "key".to_owned()));
    browser.look("key-private").await;

    password_is_asked_for(&world, &browser).await;
    program.token().await;
    browser.go("/account/credentials").await;
    browser.says("with the Client Secret").await;
    browser.look("key-bound").await;
    secret_is_switched_off_and_on(&browser).await;

    let user = world.user_of("maria@acme.example").await;
    let now = world.clock.now();
    world.change(&user, |standing| standing.mfa_since = Some(now)).await;
    browser.go("/account/credentials").await;
    browser.says("Turn MFA off before changing it.").await;
    assert_eq!(browser.count("a[href='/account/credentials/key']").await, 0);
    browser.look("key-suspended").await;
    world.change(&user, |_| {}).await;
    browser.go("/account/credentials").await;
    browser.press("Remove").await;
    browser.says("They need the Client Secret again.").await;
    browser.look("key-remove").await;
    browser.press("Remove").await;
    browser.says("The public key is removed.").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_requires_dpop_and_a_key_is_bound_without_a_script() {
    let world = World::sqlite(&[]).await;
    let maria = world.person("maria@acme.example", Role::SuperAdmin).await;
    maria.generate().await;
    let browser = Browser::open_without_script(&world.url).await;
    browser.give_cookie(&maria.cookie).await;
    browser.go("/account/credentials/key").await;
    browser.type_in("#key", ED25519).await;
    browser.press("Bind key").await;
    browser.says(THUMBPRINT).await;
    browser.go("/apis/new").await;
    browser.type_in("#name", "Orders").await;
    browser.type_in("#identifier", "https://orders.acme.example").await;
    browser.click("input[name=requires_dpop]").await;
    browser.press("Register").await;
    browser.says("The API is registered.").await;
    assert_eq!(browser.count("input[name=requires_dpop]:checked").await, 1);
    browser.look("api-requires-dpop").await;
    browser.close().await;
}
