//! Pages of the console that no other suite looks at.

use portcullis_domain::accounts::Role;
use reqwest::{Method, StatusCode, header};

use crate::support::{World, json, on_both};

on_both! {
    a1_general_settings_saves_the_profile_and_says_what_is_wrong
    the_overview_and_help_name_the_addresses
    a_reload_of_the_answer_to_a_form_leads_to_its_page
}

async fn a1_general_settings_saves_the_profile_and_says_what_is_wrong(world: World) {
    let maria = world.maria().await;
    let form = [("name", "Maria da Rocha"), ("language", "en-US"), ("time_zone", "europe/lisbon")];
    let saved = maria.post("/account/profile", &form).await;
    assert_eq!(saved.headers()[header::LOCATION], "/account?done=profile");
    let (_, page) = maria.page("/account?done=profile").await;
    assert!(page.contains("Your profile has been saved.") && page.contains("value=\"Maria da Rocha\""));
    assert!(page.contains("value=\"Europe/Lisbon\""), "the zone by its own name");
    let me = json(maria.get("/api/v1/me").await).await;
    assert_eq!((&me["user"]["language"], &me["user"]["time_zone"]), (&"en-US".into(), &"Europe/Lisbon".into()));
    let mark = world.last_record().await;
    let form = [("name", " "), ("language", "tlh"), ("time_zone", "Mars/Olympus")];
    let wrong = maria.post("/account/profile", &form).await;
    assert_eq!(wrong.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let page = wrong.text().await.unwrap();
    for part in
        ["Enter a name.", "Choose one of the languages", "Enter an IANA time zone", "value=\"Mars/Olympus\""]
    {
        assert!(page.contains(part), "{part}");
    }
    assert!(world.told_after(mark).await.is_empty());
    let form = [("name", "Maria da Rocha"), ("language", "en-US"), ("time_zone", "Europe/Lisbon")];
    maria.post("/account/profile", &form).await;
    assert!(world.told_after(mark).await.is_empty(), "nothing changed, nothing is recorded");
}

async fn the_overview_and_help_name_the_addresses(world: World) {
    let maria = world.maria().await;
    for path in ["/", "/help"] {
        let (status, page) = maria.page(path).await;
        assert_eq!(status, StatusCode::OK);
        assert!(page.contains(&format!("{}/oauth/token", world.url)), "{path}");
        assert!(page.contains("My Account Settings"), "A-1: the menu is on {path}");
    }
    let program = maria.generate().await;
    assert!(maria.page("/").await.1.contains(&program.client_id));
    let paulo = world.person("paulo@acme.example", Role::User).await;
    let (_, page) = paulo.page("/").await;
    assert!(!page.contains("/account/credentials") && !page.contains("/audit"), "C-3");
    let signed_in = maria.get("/sign-in").await;
    assert_eq!(
        (signed_in.status(), &signed_in.headers()[header::LOCATION]),
        (StatusCode::SEE_OTHER, &"/".parse().unwrap())
    );
}

async fn a_reload_of_the_answer_to_a_form_leads_to_its_page(world: World) {
    let maria = world.maria().await;
    for (path, to) in [
        ("/account/credentials/generate", "/account/credentials"),
        ("/account/profile", "/account"),
        ("/account/password", "/account"),
        ("/account/sessions/end-others", "/account"),
        ("/sign-out", "/"),
    ] {
        let answer = maria.get(path).await;
        assert_eq!(answer.status(), StatusCode::SEE_OTHER, "{path}");
        assert_eq!(answer.headers()[header::LOCATION], to, "{path}");
    }
    for path in ["/account?ended=x&done=sessions", "/audit?older=1&older=2"] {
        let answer = maria.request(Method::GET, path).send().await.unwrap();
        assert!(answer.status().is_client_error(), "{path}: {}", answer.status());
    }
}
