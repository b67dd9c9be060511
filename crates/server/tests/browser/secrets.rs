//! A Client Secret is on one page, once, and nowhere afterwards (C-5, protocol 32).

use serde_json::Value;

use crate::{
    browser::Browser,
    support::{Program, World},
};

/// All the places of a page in which a browser keeps text.
const EVERYWHERE: &str = "
    const all = [location.href, document.documentElement.outerHTML, JSON.stringify(history.state), document.title,
        window.name, String(getSelection())];
    for (const input of document.querySelectorAll('input, textarea')) all.push(input.value);
    for (const entry of performance.getEntries()) all.push(entry.name);
    for (const entry of navigation?.entries() ?? []) all.push(entry.url, JSON.stringify(entry.getState()));
    for (const store of ['localStorage', 'sessionStorage'])
        try { all.push(JSON.stringify(window[store])); } catch { }
    try { all.push(document.cookie); } catch { }
    return all.join('\\n');";

pub async fn is_nowhere(browser: &Browser, secret: &str) {
    let all = browser.js(EVERYWHERE).await;
    let all = all.as_str().unwrap();
    assert!(all.len() > 200, "{all}");
    assert!(!all.contains(secret), "{all}");
    assert!(!all.contains("pcs_") && !all.contains("pck_"), "{all}");
}

/// How many credentials were generated, by the audit log.
async fn generated(browser: &Browser) -> usize {
    let before = browser.new_tab().await;
    browser.go("/help").await;
    let script = "return fetch('/api/v1/audit?event=credential.generate&outcome=done').then((r) => r.json())";
    let found = browser.js(script).await;
    browser.switch(&before).await;
    found["records"].as_array().unwrap_or_else(|| panic!("{found}")).len()
}

async fn signed_in() -> (World, Browser) {
    let world = World::sqlite(&[("organization", "Acme Logistics")]).await;
    let maria = world.maria().await;
    let browser = Browser::open(&world.url).await;
    browser.give_cookie(&maria.cookie).await;
    browser.go("/account/credentials").await;
    (world, browser)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_secret_is_gone_when_the_page_is_left() {
    let (_world, browser) = signed_in().await;
    browser.press("Generate Credentials").await;
    let secret = browser.text_of("#client-secret").await;
    assert!(secret.starts_with("pcs_"));
    let elsewhere =
        browser.js("return [location.href, JSON.stringify(history.state), document.title].join()").await;
    assert!(!elsewhere.as_str().unwrap().contains(&secret));
    for store in ["localStorage", "sessionStorage"] {
        assert_eq!(browser.js(&format!("return {store}.length")).await, 0);
    }

    // Its own address, in another tab.
    let address = browser.place().await;
    let first = browser.new_tab().await;
    browser.go(&address).await;
    browser.says("Shown once, when it was generated").await;
    is_nowhere(&browser, &secret).await;
    browser.go("/account/credentials").await;
    browser.says("Shown once, when it was generated").await;
    is_nowhere(&browser, &secret).await;
    browser.switch(&first).await;
    assert_eq!(browser.text_of("#client-secret").await, secret, "the first tab still shows it");

    // The back and forward buttons.
    browser.back().await;
    browser.at("/account/credentials").await;
    browser.says("Shown once, when it was generated").await;
    is_nowhere(&browser, &secret).await;
    browser.forward().await;
    is_nowhere(&browser, &secret).await;
    browser.go("/").await;
    browser.go("/account").await;
    browser.back().await;
    browser.back().await;
    is_nowhere(&browser, &secret).await;
    assert_eq!(generated(&browser).await, 1);
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaving_by_the_button_and_coming_back_shows_nothing() {
    let (_world, browser) = signed_in().await;
    browser.press("Generate Credentials").await;
    let secret = browser.text_of("#client-secret").await;
    browser.press("I have stored it").await;
    browser.says("Shown once, when it was generated").await;
    is_nowhere(&browser, &secret).await;
    browser.back().await;
    is_nowhere(&browser, &secret).await;
    browser.forward().await;
    browser.says("Shown once, when it was generated").await;
    is_nowhere(&browser, &secret).await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reloading_the_page_neither_shows_nor_generates_anything() {
    let (_world, browser) = signed_in().await;
    browser.press("Generate Credentials").await;
    let id = browser.text_of("#client-id").await;
    let secret = browser.text_of("#client-secret").await;
    browser.reload().await;
    browser.says("You already have an active credential.").await;
    assert_eq!(browser.text_of("#client-id").await, id);
    is_nowhere(&browser, &secret).await;
    assert_eq!(generated(&browser).await, 1);
    browser.look("already-active").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_tabs_one_generates_and_the_other_is_told() {
    let (_world, browser) = signed_in().await;
    browser.says("No security credentials").await;
    let first = browser.new_tab().await;
    browser.go("/account/credentials").await;
    browser.press("Generate Credentials").await;
    let secret = browser.text_of("#client-secret").await;
    let id = browser.text_of("#client-id").await;
    browser.switch(&first).await;
    browser.press("Generate Credentials").await;
    browser.says("You already have an active credential. Nothing was generated.").await;
    assert_eq!(browser.text_of("#client-id").await, id);
    is_nowhere(&browser, &secret).await;
    assert_eq!(generated(&browser).await, 1);

    // Both show the confirmation; the second to remove is told that it is done.
    browser.go("/account/credentials").await;
    browser.press("Revoke Credentials").await;
    let second = browser.new_tab().await;
    browser.go("/account/credentials/revoke").await;
    browser.press("Remove").await;
    browser.says("Credentials revoked.").await;
    browser.switch(&second).await;
    browser.press("Remove").await;
    browser.says("The credential you wanted to revoke had been revoked already.").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_double_click_generates_one_credential_and_shows_its_secret() {
    let (world, browser) = signed_in().await;
    // However fast the second click is.
    let click = "const button = document.querySelector('.generate button');
        for (const ms of [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12]) setTimeout(() => button.click(), ms);";
    browser.js(click).await;
    browser.says("Copy the Client Secret now.").await;
    let client_id = browser.text_of("#client-id").await;
    let client_secret = browser.text_of("#client-secret").await;
    assert_eq!(generated(&browser).await, 1);
    let client = world.stranger().client;
    let program = Program { client, url: world.url.clone(), client_id, client_secret };
    assert!(!program.token().await.is_empty());
    let refused = browser.js("return fetch('/api/v1/audit?outcome=refused').then((r) => r.json())").await;
    assert_eq!(refused["records"], Value::Array(Vec::new()), "the second click sent nothing");

    browser.press("I have stored it").await;
    browser.press("Revoke Credentials").await;
    browser.double_click("#revoke button").await;
    browser.says("Credentials revoked.").await;
    browser.double_click(".generate button").await;
    browser.says("Copy the Client Secret now.").await;
    assert_eq!(generated(&browser).await, 2);
    browser.close().await;
}
