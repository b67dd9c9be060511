//! The pages **APIs**.

use reqwest::StatusCode;

use super::{ORDERS, Orders, key_of, registered};
use crate::support::{World, header_of, on_both};

on_both! {
    an_api_is_registered_changed_and_removed_by_the_pages
    what_was_typed_wrongly_is_said_at_the_fields_and_kept
    hostile_names_and_descriptions_are_text
    a_third_key_is_refused_in_words
    a_form_for_a_key_that_is_sent_again_makes_none
}

async fn an_api_is_registered_changed_and_removed_by_the_pages(world: World) {
    let maria = world.maria().await;
    let (_, list) = maria.page("/apis").await;
    assert!(list.contains("Portcullis API") && list.contains("/api/v1"), "{list}");
    let form = Orders::default().form();
    let form: Vec<(&str, &str)> = form.iter().map(|(n, v)| (*n, v.as_str())).collect();
    let made = maria.post("/apis/new", &form).await;
    assert_eq!(made.status(), StatusCode::SEE_OTHER);
    let there = header_of(&made, "location").to_owned();
    let path = there.strip_suffix("?done=registered").unwrap();
    let (_, page) = maria.page(&there).await;
    assert!(page.contains("The API is registered.") && page.contains("orders:read Read orders\norders:write"));
    assert!(page.contains("readonly") && page.contains("No keys"), "{page}");
    let changed = maria.post(path, &[("name", "Other"), ("scopes", ""), ("lifespan", "120")]).await;
    assert_eq!(header_of(&changed, "location"), format!("{path}?done=changed"));
    let (_, list) = maria.page("/apis").await;
    assert!(list.contains("Other") && list.contains(ORDERS) && list.contains("2 minutes"), "{list}");
    let (_, sure) = maria.page(&format!("{path}/remove")).await;
    assert!(sure.contains("Every token for it is inactive at once") && sure.contains("It has no keys."), "{sure}");
    let gone = maria.post(&format!("{path}/remove"), &[]).await;
    assert_eq!(header_of(&gone, "location"), "/apis?done=removed");
    assert_eq!(maria.get(path).await.status(), StatusCode::NOT_FOUND);
    let (_, list) = maria.page("/apis?done=removed").await;
    assert!(list.contains("No token for it is active any more.") && !list.contains(ORDERS));
}

async fn what_was_typed_wrongly_is_said_at_the_fields_and_kept(world: World) {
    let maria = world.maria().await;
    let id = registered(&maria, &Orders::default()).await;
    let mark = world.last_record().await;
    let typed = [("name", "Shop"), ("identifier", "shop"), ("scopes", "shop:read"), ("lifespan", "1")];
    let refused = maria.post("/apis/new", &typed).await;
    assert_eq!(refused.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let page = refused.text().await.unwrap();
    for words in [
        "Enter an absolute URI",
        "Enter behind the name of scope 1",
        "Enter whole seconds",
        "value=\"Shop\"",
        "value=\"shop\"",
        ">\nshop:read</textarea>",
        "value=\"1\"",
    ] {
        assert!(page.contains(words), "{words}: {page}");
    }
    let refused = maria.post(&format!("/apis/{id}"), &[("name", ""), ("scopes", "x y"), ("lifespan", "60")]).await;
    assert_eq!(refused.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let page = refused.text().await.unwrap();
    assert!(
        page.contains("Enter a name") && page.contains(">\nx y</textarea>") && page.contains(ORDERS),
        "{page}"
    );
    assert!(world.told_after(mark).await.is_empty());
}

async fn hostile_names_and_descriptions_are_text(world: World) {
    let maria = world.maria().await;
    let hostile = Orders {
        name: "<script>alert(1)</script>",
        identifier: "https://a.example/?x=1&y='",
        scopes: &[("a", "</textarea><script>alert(2)</script>")],
        ..Orders::default()
    };
    let id = registered(&maria, &hostile).await;
    let key = key_of(&maria, &id, "").await.client_id;
    for path in [
        "/apis",
        &format!("/apis/{id}"),
        &format!("/apis/{id}/remove"),
        &format!("/apis/{id}/keys/{key}/remove"),
        "/audit",
        "/api/v1/apis",
    ] {
        let page = maria.page(path).await.1;
        assert!(page.contains("alert(1)"), "{path}");
        if path != "/api/v1/apis" {
            assert!(!page.contains("<script>alert") && !page.contains("</textarea><"), "{path}: {page}");
        }
    }
    let shown = maria.post(&format!("/apis/{id}/keys"), &[("older_key", "at_once")]).await.text().await.unwrap();
    assert!(shown.contains("pck_") && !shown.contains("<script>alert"));
}

async fn a_third_key_is_refused_in_words(world: World) {
    let maria = world.maria().await;
    let id = registered(&maria, &Orders::default()).await;
    key_of(&maria, &id, "").await;
    let (_, page) = maria.page(&format!("/apis/{id}")).await;
    assert!(page.contains("Replace the key") && page.contains("Goes on working for 24 hours"));
    let second = maria.post(&format!("/apis/{id}/keys"), &[("older_key", "day")]).await.text().await.unwrap();
    assert!(second.contains("The older key ends"));
    let third = maria.post(&format!("/apis/{id}/keys"), &[("older_key", "day")]).await;
    let there = header_of(&third, "location").to_owned();
    assert_eq!(there, format!("/apis/{id}?problem=too_many_keys"));
    let (_, page) = maria.page(&there).await;
    assert!(page.contains("This API has two valid keys already."), "{page}");
}

async fn a_form_for_a_key_that_is_sent_again_makes_none(world: World) {
    let maria = world.maria().await;
    let id = registered(&maria, &Orders::default()).await;
    let path = format!("/apis/{id}/keys");
    let seen = [("seen", ""), ("older_key", "at_once")];
    assert!(maria.post(&path, &seen).await.text().await.unwrap().contains("pck_"));
    let mark = world.last_record().await;
    let again = maria.post(&path, &seen).await;
    let there = header_of(&again, "location").to_owned();
    assert_eq!(there, format!("/apis/{id}?problem=conflict"));
    let (_, page) = maria.page(&there).await;
    assert!(page.contains("No key was made.") && !page.contains("pck_"), "{page}");
    assert!(world.told_after(mark).await.is_empty(), "and the key that is there goes on working");
    let at = page.find("name=\"seen\" value=\"").unwrap() + 19;
    let seen = page[at..].split('"').next().unwrap();
    let replaced = maria.post(&path, &[("seen", seen), ("older_key", "at_once")]).await;
    assert!(replaced.text().await.unwrap().contains("pck_"));
}
