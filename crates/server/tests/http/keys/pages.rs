//! The page of the signing keys.

use portcullis_domain::accounts::Role;
use reqwest::StatusCode;

use super::{in_state, kids, listed, publish_ahead};
use crate::support::{World, header_of, on_both};

on_both! {
    the_list_says_of_each_key_where_it_is_and_what_it_signs
    a_rotation_is_confirmed_and_a_form_sent_again_rotates_nothing
    an_early_rotation_says_from_when_and_takes_a_second_word
    a_withdrawal_asks_why_and_says_what_stops
    c3_only_super_admins_see_the_keys
}

async fn the_list_says_of_each_key_where_it_is_and_what_it_signs(world: World) {
    let maria = world.maria().await;
    let (status, page) = maria.page("/signing-keys").await;
    assert_eq!(status, StatusCode::OK);
    for (_, kid) in listed(&maria).await {
        assert!(page.contains(&kid));
    }
    for words in ["Active", "Upcoming", "Signs tokens for Portcullis API", "By itself after 90 days", "jwks.json"]
    {
        assert!(page.contains(words), "{words}: {page}");
    }
    assert!(!page.contains("EdDSA"), "no API uses it");
    assert!(maria.page("/").await.1.contains("href=\"/signing-keys\""));
}

async fn a_rotation_is_confirmed_and_a_form_sent_again_rotates_nothing(world: World) {
    let maria = world.maria().await;
    world.pass(publish_ahead(&world));
    let maria = crate::support::Person { cookie: world.sign_in("maria@acme.example").await.cookie, ..maria };
    let (active, upcoming) = (in_state(&maria, "active").await, in_state(&maria, "upcoming").await);
    let (_, page) = maria.page("/signing-keys/rotate/ES256").await;
    assert!(page.contains(&format!("<code>{upcoming}</code> signs every token")), "{page}");
    assert!(page.contains("after at most 24 hours") && !page.contains("at_once"), "{page}");
    let seen = [("seen", active.as_str())];
    let done = maria.post("/signing-keys/rotate/ES256", &seen).await;
    assert_eq!(
        (done.status(), header_of(&done, "location")),
        (StatusCode::SEE_OTHER, "/signing-keys?done=rotated")
    );
    assert_eq!(in_state(&maria, "active").await, upcoming);
    world.pass(publish_ahead(&world));
    let maria = crate::support::Person { cookie: world.sign_in("maria@acme.example").await.cookie, ..maria };
    let mark = world.last_record().await;
    let again = maria.post("/signing-keys/rotate/ES256", &seen).await;
    let there = header_of(&again, "location").to_owned();
    assert_eq!(there, "/signing-keys?problem=conflict");
    assert!(maria.page(&there).await.1.contains("Nothing was rotated."));
    assert!(world.told_after(mark).await.is_empty());
    assert_eq!(maria.get("/signing-keys/rotate/RS256").await.status(), StatusCode::NOT_FOUND);
    assert_eq!(maria.get("/signing-keys/rotate/none").await.status(), StatusCode::NOT_FOUND);
}

async fn an_early_rotation_says_from_when_and_takes_a_second_word(world: World) {
    let maria = world.maria().await;
    let active = in_state(&maria, "active").await;
    let (_, page) = maria.page("/signing-keys/rotate/ES256").await;
    assert!(page.contains("has not been published for long enough") && page.contains("at_once"), "{page}");
    let refused = maria.post("/signing-keys/rotate/ES256", &[("seen", &active)]).await;
    let there = header_of(&refused, "location").to_owned();
    assert_eq!(there, "/signing-keys?problem=too_early");
    assert!(maria.page(&there).await.1.contains("Nothing was rotated."));
    assert_eq!(in_state(&maria, "active").await, active);
    maria.post("/signing-keys/rotate/ES256", &[("seen", &active), ("at_once", "yes")]).await;
    assert_ne!(in_state(&maria, "active").await, active);
}

async fn a_withdrawal_asks_why_and_says_what_stops(world: World) {
    let maria = world.maria().await;
    let active = in_state(&maria, "active").await;
    let path = format!("/signing-keys/{active}/withdraw");
    let (_, page) = maria.page(&path).await;
    assert!(page.contains("Every token that it signed stops working") && page.contains("300 seconds at most"));
    let long = "x".repeat(201);
    let wrong = maria.post(&path, &[("reason", &long)]).await;
    assert_eq!(wrong.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let page = wrong.text().await.unwrap();
    assert!(page.contains(&long) && page.contains("Enter why"), "what was typed is kept: {page}");
    let done = maria.post(&path, &[("reason", "<b>Lost</b>")]).await;
    let there = header_of(&done, "location").to_owned();
    assert_eq!(there, "/signing-keys?done=withdrawn");
    let (_, page) = maria.page(&there).await;
    assert!(page.contains("Withdrawn") && !kids(&world).await.contains(&active), "{page}");
    let again = maria.post(&path, &[("reason", "again")]).await;
    assert_eq!(header_of(&again, "location"), "/signing-keys?problem=key_over");
    assert_eq!(maria.get(&path).await.status(), StatusCode::CONFLICT);
    let upcoming = in_state(&maria, "upcoming").await;
    let (_, page) = maria.page(&format!("/signing-keys/{upcoming}/withdraw")).await;
    assert!(page.contains("so no token stops"), "{page}");
}

async fn c3_only_super_admins_see_the_keys(world: World) {
    world.maria().await;
    let ana = world.person("ana@acme.example", Role::User).await;
    for path in ["/signing-keys", "/signing-keys/rotate/ES256", "/api/v1/keys"] {
        assert_eq!(ana.get(path).await.status(), StatusCode::FORBIDDEN);
    }
    assert!(!ana.page("/").await.1.contains("signing-keys"));
}
