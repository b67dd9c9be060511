//! The whole journey: from the set-up link to a credential that is used and revoked.

use std::process::Command;

use reqwest::StatusCode;
use serde_json::Value;
use thirtyfour::prelude::*;

use crate::{browser::Browser, server::Served, support::PASSWORD};

/// Runs the command that the page shows, as its reader would.
fn run_shown(command: &str, id: &str, secret: &str) -> Value {
    let output = Command::new("sh")
        .args(["-c", &command.replacen("curl", "curl -s", 1)])
        .env("PORTCULLIS_CLIENT_ID", id)
        .env("PORTCULLIS_CLIENT_SECRET", secret)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_the_set_up_link_to_a_revoked_credential() {
    let server = Served::start("Acme Logistics");
    let browser = Browser::open(&server.url).await;
    make_the_first_super_admin(&browser, &server).await;
    use_the_menu(&browser).await;
    let (id, secret, command) = generate(&browser).await;

    let answer = run_shown(&command, &id, &secret);
    assert_eq!(answer["expires_in"], 86_400);
    let token = answer["access_token"].as_str().unwrap();
    let me = async || {
        let client = reqwest::Client::new();
        let response = client.get(format!("{}/api/v1/me", server.url)).bearer_auth(token).send().await.unwrap();
        (response.status(), response.text().await.unwrap())
    };
    let (status, words) = me().await;
    assert_eq!(status, StatusCode::OK);
    assert!(words.contains("maria@acme.example"), "{words}");

    browser.press("I have stored it").await;
    browser.at("/account/credentials").await;
    browser.says("1 valid now").await;
    assert!(browser.text().await.contains("from 127.0.0.1 · curl/"));
    assert_eq!(browser.text_of("#client-id").await, id);
    browser.look("active").await;
    browser.go("/").await;
    browser.says(&id).await;
    browser.look("overview-active").await;
    browser.go("/account/credentials").await;
    browser.press("Recent use").await;
    browser.at("/account/credentials/use").await;
    browser.says("Valid").await;
    browser.look("recent-use").await;
    browser.press("Back to Credentials").await;

    revoke(&browser, &id).await;
    assert_eq!(me().await.0, StatusCode::UNAUTHORIZED);
    let refused = run_shown(&command, &id, &secret);
    assert_eq!(refused["error"], "invalid_client");
    assert!(refused["error_description"].as_str().unwrap().contains("revoked"), "{refused}");
    around_it(&browser).await;
    browser.close().await;
}

async fn make_the_first_super_admin(browser: &Browser, server: &Served) {
    browser.go("/").await;
    browser.at("/sign-in").await;
    browser.look("sign-in").await;

    let link = server.set_up.strip_prefix(&server.url).unwrap();
    browser.go(link).await;
    browser.says("Make the first Super Admin").await;
    browser.look("set-up").await;
    browser.js("document.querySelector('form').noValidate = true").await;
    browser.type_in("#email", "maria at acme").await;
    browser.type_in("#name", "Maria Rocha").await;
    browser.type_in("#password", "short").await;
    browser.press("Create the account").await;
    browser.find("#email-error").await;
    browser.find("#password-error").await;
    assert_eq!(browser.count("#name-error").await, 0);
    assert_eq!(browser.value_of("#email").await, "maria at acme");
    assert_eq!(browser.value_of("#name").await, "Maria Rocha");
    assert_eq!(browser.value_of("#password").await, "");
    browser.look("set-up-errors").await;

    browser.type_in("#email", "maria@acme.example").await;
    browser.type_in("#password", PASSWORD).await;
    browser.press("Create the account").await;
    browser.says("Your account is ready. Sign in with it.").await;
    browser.look("set-up-done").await;
    browser.go(link).await;
    browser.says("This link is no longer valid").await;
    browser.look("set-up-over").await;

    browser.sign_in("maria@acme.example", "not the password").await;
    browser.says("The e-mail address or the password is not right.").await;
    assert_eq!(browser.value_of("#email").await, "maria@acme.example");
    browser.look("sign-in-wrong").await;
    browser.type_in("#password", PASSWORD).await;
    browser.press("Sign in").await;
    browser.at("/account/credentials").await;
}

/// The menu at the upper right, by keyboard.
async fn use_the_menu(browser: &Browser) {
    browser.go("/").await;
    browser.says("Welcome, Maria Rocha").await;
    browser.look("overview-empty").await;
    for _ in 0..3 {
        browser.keys(Key::Tab).await;
    }
    assert_eq!(browser.focused().await, "MR Your account");
    let at = browser.js("return document.activeElement.getBoundingClientRect().right > innerWidth - 60").await;
    assert_eq!(at, true, "at the upper right");
    browser.keys(Key::Enter).await;
    assert!(browser.shows(".menu").await);
    browser.look("menu").await;
    browser.keys(Key::Tab).await;
    assert_eq!(browser.focused().await, "My Account Settings");
    browser.keys(Key::Escape).await;
    assert!(!browser.shows(".menu").await);
    assert_eq!(browser.focused().await, "MR Your account");
    browser.keys(Key::Enter).await;
    browser.keys(Key::Tab).await;
    browser.keys(Key::Enter).await;
    browser.at("/account").await;
    browser.press("Credentials").await;
    browser.at("/account/credentials").await;
}

async fn generate(browser: &Browser) -> (String, String, String) {
    browser.says("No security credentials").await;
    browser.look("empty").await;
    browser.press("Generate Credentials").await;
    browser.says("Copy the Client Secret now.").await;
    browser.look("shown").await;
    let id = browser.text_of("#client-id").await;
    let secret = browser.text_of("#client-secret").await;
    let command = browser.text_of("#request").await;

    browser
        .cdp(
            "Browser.grantPermissions",
            serde_json::json!({ "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"] }),
        )
        .await;
    browser.press("Copy Client Secret").await;
    browser.says("Copied").await;
    assert_eq!(browser.js("return navigator.clipboard.readText()").await, secret);
    browser.press("Copy Client ID").await;
    browser.until_js(&format!("return await navigator.clipboard.readText() === {id:?}")).await;

    // Where the clipboard is out of reach, the text is selected.
    browser.js("navigator.clipboard.writeText = () => Promise.reject()").await;
    browser.find("[data-copy='client-secret']").await.click().await.unwrap();
    browser.until_js(&format!("return String(getSelection()) === {secret:?}")).await;

    browser.press("Download as .env").await;
    let env = browser.downloaded("portcullis.env").await;
    let token_url = format!("{}/oauth/token", browser.url);
    let expected = format!(
        "PORTCULLIS_CLIENT_ID={id}\nPORTCULLIS_CLIENT_SECRET={secret}\nPORTCULLIS_TOKEN_URL={token_url}\n"
    );
    assert_eq!(env, expected);
    (id, secret, command)
}

async fn revoke(browser: &Browser, id: &str) {
    browser.at("/account/credentials").await;
    browser.press("Revoke Credentials").await;
    assert!(browser.shows("#revoke").await);
    assert_eq!(browser.focused().await, "Cancel");
    browser.look("revoke").await;
    browser.keys(Key::Escape).await;
    assert!(!browser.shows("#revoke").await);
    assert_eq!(browser.focused().await, "Revoke Credentials", "the focus returns to where it came from");

    browser.keys(Key::Enter).await;
    assert_eq!(browser.focused().await, "Cancel");
    let mut seen = Vec::new();
    for _ in 0..5 {
        browser.keys(Key::Tab).await;
        seen.push(browser.focused().await);
        let inside = "const e = document.activeElement; return e === document.body || !!e.closest('#revoke');";
        assert_eq!(browser.js(inside).await, true, "{seen:?}");
    }
    assert!(seen.contains(&"Remove".to_owned()) && seen.contains(&"Cancel".to_owned()), "{seen:?}");
    browser.press("Cancel").await;
    assert!(!browser.shows("#revoke").await);
    browser.press("Revoke Credentials").await;
    browser.press("Remove").await;
    browser.says("Credentials revoked.").await;
    browser.says("No security credentials").await;
    assert!(browser.text().await.contains(id));
    browser.look("revoked").await;
}

/// The pages around it.
async fn around_it(browser: &Browser) {
    browser.go("/help").await;
    browser.says("What a credential is").await;
    browser.look("help").await;
    browser.go("/audit").await;
    browser.says("Revocation of credentials").await;
    browser.look("audit").await;
    browser.go("/account").await;
    browser.says("This is your only session.").await;
    browser.look("account").await;
    browser.go("/nothing/here").await;
    browser.says("Page not found").await;
    assert!(browser.text().await.contains("Acme Logistics"));
    browser.look("not-found").await;
    browser.go("/").await;
    browser.click(".avatar").await;
    browser.press("Sign out").await;
    browser.says("You have signed out.").await;
    browser.look("signed-out").await;
    browser.back().await;
    browser.says("Sign in").await;
    assert!(!browser.text().await.contains("Maria"), "nothing remains of the session");
}
