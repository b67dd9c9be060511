//! The audit log: filters, pages, and nothing found.

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::{browser::Browser, support::World};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filters_and_pages() {
    let world = World::sqlite(&[("organization", "Acme Logistics")]).await;
    let maria = world.maria().await;
    let program = maria.generate().await;
    let wrong = world.stranger();
    let body = json!({ "email": "nobody@acme.example", "password": "not the password" });
    wrong.request(Method::POST, "/api/v1/session").json(&body).send().await.unwrap();
    let token = program.token().await;
    for _ in 0..55 {
        let refused =
            program.with(&token, Method::POST, "/api/v1/users/me/credential/generate").send().await.unwrap();
        assert_ne!(refused.status(), StatusCode::CREATED);
    }
    let browser = Browser::open(&world.url).await;
    browser.give_cookie(&maria.cookie).await;
    browser.go("/audit").await;
    assert_eq!(browser.count(".audit tbody tr").await, 50);
    assert!(!browser.text().await.contains("Newer"));
    browser.look("audit-page").await;
    browser.press("Older").await;
    browser.says("Newer").await;
    assert!(browser.count(".audit tbody tr").await < 50);
    browser.press("Newer").await;
    browser.says("Older").await;

    browser.click("#event option[value='sign_in']").await;
    browser.click("#outcome option[value='refused']").await;
    browser.press("Search").await;
    browser.says("Clear").await;
    assert_eq!(browser.count(".audit tbody tr").await, 1);
    assert_eq!(browser.value_of("#event").await, "sign_in");
    browser.look("audit-filtered").await;
    browser.type_in("#subject", "somebody else").await;
    browser.press("Search").await;
    browser.says("No record matches. Clear a field and search again.").await;
    assert_eq!(browser.value_of("#subject").await, "somebody else");
    browser.look("audit-nothing").await;
    browser.press("Clear").await;
    browser.says("Older").await;
    browser.go("/audit?from=tomorrow").await;
    browser.says("Enter a day like 2026-11-23.").await;
    // That a date field cannot show it is the browser's own remark.
    browser.log().await;
    browser.look("audit-wrong-day").await;
    browser.close().await;
}
