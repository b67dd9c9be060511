//! Without JavaScript: the same journey, without the buttons that need a script.

use crate::{
    browser::Browser,
    server::Served,
    support::{PASSWORD, Program},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_journey_works_without_a_script() {
    let server = Served::start("Acme Logistics");
    let browser = Browser::open_without_script(&server.url).await;
    browser.go(server.set_up.strip_prefix(&server.url).unwrap()).await;
    browser.type_in("#email", "maria@acme.example").await;
    browser.type_in("#name", "Maria Rocha").await;
    browser.type_in("#password", PASSWORD).await;
    browser.press("Create the account").await;
    browser.type_in("#email", "maria@acme.example").await;
    browser.type_in("#password", PASSWORD).await;
    browser.press("Sign in").await;
    browser.says("No security credentials").await;
    browser.press("Generate Credentials").await;
    browser.says("Copy the Client Secret now.").await;
    assert!(!browser.shows("[data-copy]").await && !browser.shows("[data-env]").await);
    browser.look("no-script-shown").await;
    let client_id = browser.text_of("#client-id").await;
    let client_secret = browser.text_of("#client-secret").await;
    let program = Program { client: reqwest::Client::new(), url: server.url.clone(), client_id, client_secret };
    program.token().await;

    browser.press("I have stored it").await;
    browser.says("1 valid now").await;
    browser.back().await;
    let kept = browser.js("return document.documentElement.outerHTML").await;
    assert!(!kept.as_str().unwrap().contains("pcs_"), "{kept}");
    browser.go("/account/credentials").await;
    browser.click(".avatar").await;
    assert!(browser.shows(".menu").await);
    browser.click(".avatar").await;
    browser.press("Revoke Credentials").await;
    browser.at("/account/credentials/revoke").await;
    assert!(browser.shows("#revoke").await);
    browser.look("no-script-revoke").await;
    browser.press("Cancel").await;
    browser.at("/account/credentials").await;
    assert!(!browser.shows("#revoke").await);
    browser.press("Revoke Credentials").await;
    browser.press("Remove").await;
    browser.says("Credentials revoked.").await;
    browser.go("/account").await;
    browser.type_in("#name", "Maria R. Rocha").await;
    browser.press("Save profile").await;
    browser.says("Your profile has been saved.").await;
    browser.go("/audit").await;
    browser.type_in("#actor", "maria@acme.example").await;
    browser.press("Search").await;
    browser.says("Revocation of credentials").await;
    browser.click(".avatar").await;
    browser.press("Sign out").await;
    browser.says("You have signed out.").await;
    browser.is_quiet("without a script").await;
    browser.close().await;
}
