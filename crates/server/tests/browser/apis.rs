//! **APIs** in a browser: registered, given a key that is shown once, changed, removed.

use crate::{
    browser::Browser,
    secrets::is_nowhere,
    support::{Program, World, json},
};

async fn type_orders(browser: &Browser) {
    browser.type_in("#name", "Orders").await;
    browser.type_in("#identifier", "https://orders.acme.example").await;
    browser.type_in("#scopes", "orders:read Read orders\norders:write <i>Place</i> orders").await;
    browser.type_in("#lifespan", "3600").await;
}

/// Registers an API, with mistakes at first, and gives the place of its page.
async fn register(browser: &Browser) -> String {
    browser.press("APIs").await;
    browser.says("Portcullis API").await;
    browser.look("apis-own-alone").await;
    browser.press("Register an API").await;
    browser.look("api-new").await;
    browser.js("for (const f of document.forms) f.noValidate = true").await;
    browser.type_in("#identifier", "orders").await;
    browser.type_in("#scopes", "orders:read").await;
    browser.press("Register").await;
    browser.find("#identifier-error").await;
    assert_eq!(browser.value_of("#scopes").await, "orders:read", "what was typed is kept");
    browser.look("api-errors").await;
    type_orders(browser).await;
    browser.press("Register").await;
    browser.says("The API is registered.").await;
    browser.look("api-registered").await;
    browser.place().await.split('?').next().unwrap().to_owned()
}

fn program(world: &World, client_id: String, client_secret: String) -> Program {
    Program { client: world.stranger().client, url: world.url.clone(), client_id, client_secret }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_life_of_an_api() {
    let world = World::sqlite(&[("organization", "Acme Logistics")]).await;
    let maria = world.maria().await;
    let client = maria.generate().await;
    let browser = Browser::open(&world.url).await;
    browser.give_cookie(&maria.cookie).await;
    browser.go("/").await;
    let place = register(&browser).await;
    browser.press("Make a key").await;
    browser.says("Copy the secret now.").await;
    browser.look("api-key").await;
    let api = program(&world, browser.text_of("#key-id").await, browser.text_of("#key-secret").await);
    let form = [("grant_type", "client_credentials"), ("resource", "https://orders.acme.example")];
    let token = json(client.oauth("token", &form).await).await["access_token"].as_str().unwrap().to_owned();
    assert!(api.is_active(&token).await);
    browser.reload().await;
    browser.says("No key was made.").await;
    is_nowhere(&browser, &api.client_secret).await;
    browser.look("api-key-reloaded").await;
    browser.press("Replace the key").await;
    browser.says("The older key ends").await;
    let newer = program(&world, browser.text_of("#key-id").await, browser.text_of("#key-secret").await);
    assert!(api.is_active(&token).await && newer.is_active(&token).await);
    browser.press("I have stored it").await;
    browser.look("api-two-keys").await;
    browser.back().await;
    is_nowhere(&browser, &newer.client_secret).await;
    browser.go(&place).await;
    browser.press(&format!("Remove {}", api.client_id)).await;
    browser.says("The other key goes on working.").await;
    browser.look("api-key-remove").await;
    browser.press("Remove").await;
    browser.says("The key is removed.").await;
    assert!(newer.is_active(&token).await);

    browser.type_in("#lifespan", "120").await;
    browser.press("Save").await;
    browser.says("Saved.").await;
    browser.go("/apis").await;
    browser.look("apis").await;
    browser.press("Portcullis API").await;
    browser.says("It is not changed and not removed.").await;
    browser.look("api-own").await;
    browser.go(&place).await;
    browser.press("Remove API").await;
    browser.says("Every token for it is inactive at once").await;
    browser.look("api-remove").await;
    browser.press("Remove").await;
    browser.says("The API is removed.").await;
    assert!(!client.is_active(&token).await);
    browser.go("/account/credentials/use").await;
    browser.says("API removed").await;
    browser.look("credential-use-api-removed").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_is_registered_and_given_keys_without_a_script() {
    let world = World::sqlite(&[]).await;
    let maria = world.maria().await;
    let browser = Browser::open_without_script(&world.url).await;
    browser.give_cookie(&maria.cookie).await;
    browser.go("/apis/new").await;
    type_orders(&browser).await;
    browser.find("#name").await.send_keys(thirtyfour::Key::Enter + "").await.unwrap();
    browser.says("The API is registered.").await;
    browser.press("Make a key").await;
    browser.says("Copy the secret now.").await;
    assert!(!browser.shows("[data-copy]").await);
    browser.press("I have stored it").await;
    browser.press("Replace the key").await;
    browser.says("The older key ends").await;
    browser.is_quiet("without a script").await;
    browser.close().await;
}
