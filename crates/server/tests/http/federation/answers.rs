//! Answers that prove nothing: protocol 40, one by one.

use portcullis_domain::accounts::Role;
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::{
    Visitor,
    hostile::{Change, EcKey, Hostile, Sign},
    location, scene, set_up,
};
use crate::support::{World, on_both};

on_both! {
    protocol40_an_id_token_that_is_not_right_in_every_part_is_refused
    protocol40_signatures_that_anybody_could_make_are_refused
    protocol40_a_new_key_of_the_provider_is_fetched_once
    protocol40_an_answer_counts_once
    protocol40_an_answer_counts_in_the_browser_that_began_it
    protocol40_the_answer_of_one_provider_is_not_taken_for_anothers
    rfc9207_the_issuer_in_the_answer_is_checked
    what_comes_with_an_answer_is_neither_shown_nor_followed
}

async fn refused(world: &World, hostile: &Hostile, id: uuid::Uuid, what: &str) {
    let mark = world.last_record().await;
    let mut browser = Visitor::new(world);
    let response = browser.sign_in(hostile, id).await;
    assert_eq!(location(&response), "/sign-in?problem=answer_not_valid", "{what}");
    assert!(!browser.has_session(), "{what}");
    assert_eq!(world.told_after(mark).await, ["sign_in refused answer_not_valid"], "{what}");
    world.pass(jiff::SignedDuration::from_mins(1));
}

async fn protocol40_an_id_token_that_is_not_right_in_every_part_is_refused(world: World) {
    let (_, hostile, id) = scene(&world).await;
    let put = |name: &'static str, value: Value| -> Change {
        Box::new(move |claims| drop(claims.insert(name.to_owned(), value.clone())))
    };
    let without = |name: &'static str| -> Change { Box::new(move |claims| drop(claims.remove(name))) };
    let shifted = |name: &'static str, by: i64| -> Change {
        Box::new(move |claims| {
            let at = claims["iat"].as_i64().unwrap() + by;
            claims.insert(name.to_owned(), json!(at));
        })
    };
    let cases: Vec<(&str, Change)> = vec![
        ("another issuer", put("iss", json!("https://other.example"))),
        ("an issuer with one more slash", put("iss", json!(format!("{}/", hostile.url())))),
        ("no issuer", without("iss")),
        ("another audience", put("aud", json!("other"))),
        ("one more audience without azp", put("aud", json!(["portcullis", "other"]))),
        ("another authorized party", put("azp", json!("other"))),
        ("no audience", put("aud", json!([]))),
        ("another nonce", put("nonce", json!("x"))),
        ("no nonce", without("nonce")),
        ("expired", shifted("exp", -1)),
        ("expires now", shifted("exp", 0)),
        ("no expiry", without("exp")),
        ("issued in the future", shifted("iat", 120)),
        ("issued two days ago", shifted("iat", -2 * 86_400)),
        ("no instant of issue", without("iat")),
        ("no subject", without("sub")),
        ("an empty subject", put("sub", json!(""))),
        ("a subject that is a number", put("sub", json!(7))),
        ("a subject that is endless", put("sub", json!("x".repeat(300)))),
    ];
    for (what, change) in cases {
        hostile.now(|m| m.change = change);
        refused(&world, &hostile, id, what).await;
    }
    hostile.now(|m| m.change = Box::new(|_| {}));
    assert_eq!(location(&Visitor::new(&world).sign_in(&hostile, id).await), "/", "the right one is taken");
}

async fn protocol40_signatures_that_anybody_could_make_are_refused(world: World) {
    let (_, hostile, id) = scene(&world).await;
    for (what, sign) in [
        ("alg none", Sign::NotAtAll),
        ("HS256 with the public key", Sign::HmacOfThePublicKey),
        ("HS256 with the client secret", Sign::HmacOfTheClientSecret),
        ("another key", Sign::WithAnotherKey),
        ("an unknown kid", Sign::WithUnknownKid),
    ] {
        hostile.now(|m| m.sign = sign);
        refused(&world, &hostile, id, what).await;
    }
}

async fn protocol40_a_new_key_of_the_provider_is_fetched_once(world: World) {
    let (_, hostile, id) = scene(&world).await;
    Visitor::new(&world).sign_in(&hostile, id).await;
    let keys = |h: &Hostile| h.asked().iter().filter(|p| *p == "keys").count();
    let before = keys(&hostile);
    hostile.now(|m| m.key = EcKey::new("key-2"));
    assert_eq!(location(&Visitor::new(&world).sign_in(&hostile, id).await), "/", "a rotated key");
    assert_eq!(keys(&hostile), before + 1);
    hostile.now(|m| m.sign = Sign::WithUnknownKid);
    refused(&world, &hostile, id, "a kid that is nowhere").await;
    assert_eq!(keys(&hostile), before + 2, "asked once, and not in a circle");
}

async fn protocol40_an_answer_counts_once(world: World) {
    let (_, hostile, id) = scene(&world).await;
    let mut browser = Visitor::new(&world);
    let there = browser.leave(&format!("/sign-in/provider/{id}"), &[]).await;
    let back = hostile.approve(&there);
    let mut copy = browser.clone();
    assert_eq!(location(&browser.get(back.as_str()).await), "/");
    let tokens = hostile.asked().iter().filter(|p| *p == "token").count();
    assert_eq!(location(&copy.get(back.as_str()).await), "/sign-in?problem=visit_over", "replayed");
    assert!(!copy.has_session());
    assert_eq!(hostile.asked().iter().filter(|p| *p == "token").count(), tokens, "the code is not sent again");
    // Ten minutes, and it is over.
    let mut slow = Visitor::new(&world);
    let there = slow.leave(&format!("/sign-in/provider/{id}"), &[]).await;
    let back = hostile.approve(&there);
    world.pass(jiff::SignedDuration::from_mins(10));
    assert_eq!(location(&slow.get(back.as_str()).await), "/sign-in?problem=visit_over");
    // Of many at once one gets it.
    let mut browser = Visitor::new(&world);
    let there = browser.leave(&format!("/sign-in/provider/{id}"), &[]).await;
    let back = hostile.approve(&there);
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..5 {
        let (mut browser, back) = (browser.clone(), back.clone());
        all.spawn(async move { location(&browser.get(back.as_str()).await) });
    }
    let mut answers = all.join_all().await;
    answers.sort();
    assert_eq!(answers[0], "/");
    assert!(answers[1..].iter().all(|a| a == "/sign-in?problem=visit_over"), "{answers:?}");
}

async fn protocol40_an_answer_counts_in_the_browser_that_began_it(world: World) {
    let (_, hostile, id) = scene(&world).await;
    for planted in [None, Some("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")] {
        let mut attacker = Visitor::new(&world);
        let there = attacker.leave(&format!("/sign-in/provider/{id}"), &[]).await;
        let back = hostile.approve(&there);
        let mut victim = Visitor::new(&world);
        if let Some(cookie) = planted {
            victim.cookies.insert("__Host-portcullis-step".to_owned(), cookie.to_owned());
        }
        let mark = world.last_record().await;
        assert_eq!(location(&victim.get(back.as_str()).await), "/sign-in?problem=not_this_browser");
        assert!(!victim.has_session(), "no login CSRF");
        assert_eq!(world.told_after(mark).await, ["sign_in refused not_this_browser"]);
        assert_eq!(location(&attacker.get(back.as_str()).await), "/sign-in?problem=visit_over", "and it is burnt");
    }
}

async fn protocol40_the_answer_of_one_provider_is_not_taken_for_anothers(world: World) {
    let (maria, hostile, id) = scene(&world).await;
    let honest = Hostile::start(&world.clock).await;
    let other = set_up(&world, &maria, &honest, true).await;
    let mut browser = Visitor::new(&world);
    let there = browser.leave(&format!("/sign-in/provider/{other}"), &[]).await;
    let back = honest.approve(&there).as_str().replace(&other.to_string(), &id.to_string());
    assert_eq!(location(&browser.get(&back).await), "/sign-in?problem=not_this_browser", "mix-up");
    assert!(!hostile.asked().contains(&"token".to_owned()), "the code went nowhere");
    assert!(!browser.has_session());
}

async fn rfc9207_the_issuer_in_the_answer_is_checked(world: World) {
    let (_, hostile, id) = scene(&world).await;
    let with_iss = async |iss: Option<&str>, error: bool| {
        let mut browser = Visitor::new(&world);
        let there = browser.leave(&format!("/sign-in/provider/{id}"), &[]).await;
        let mut back = hostile.approve(&there);
        if let Some(iss) = iss {
            back.query_pairs_mut().append_pair("iss", iss);
        }
        if error {
            back.query_pairs_mut().append_pair("error", "access_denied");
        }
        location(&browser.get(back.as_str()).await)
    };
    let url = hostile.url().to_owned();
    assert_eq!(with_iss(Some("https://other.example"), false).await, "/sign-in?problem=answer_not_valid");
    assert_eq!(with_iss(Some("https://other.example"), true).await, "/sign-in?problem=answer_not_valid");
    assert_eq!(with_iss(Some(&url), false).await, "/");
    world.pass(jiff::SignedDuration::from_mins(11));
    hostile.now(|m| m.says_iss = true);
    assert_eq!(with_iss(None, false).await, "/sign-in?problem=answer_not_valid", "it says that it always tells");
    assert_eq!(with_iss(Some(&url), false).await, "/");
}

async fn what_comes_with_an_answer_is_neither_shown_nor_followed(world: World) {
    let (_, hostile, id) = scene(&world).await;
    let path = format!("/sign-in/provider/{id}/callback");
    let mut browser = Visitor::new(&world);
    let there = browser.leave(&format!("/sign-in/provider/{id}"), &[]).await;
    let mut back = hostile.approve(&there);
    back.query_pairs_mut()
        .append_pair("error", "<script>alert(1)</script>")
        .append_pair("error_description", "<b>call 0900</b>")
        .append_pair("error_uri", "https://evil.example");
    let response = browser.get(back.as_str()).await;
    assert_eq!(location(&response), "/sign-in?problem=declined_by_provider");
    let page = browser.get("/sign-in?problem=declined_by_provider").await.text().await.unwrap();
    assert!(page.contains("The provider did not sign you in") && !page.contains("0900"), "{page}");
    let page = browser.get("/sign-in?problem=%3Cscript%3E").await.text().await.unwrap();
    assert!(!page.contains("role=\"alert\""), "a code that nobody has is nothing");
    // A refused code, an empty state, a huge one, one sent twice.
    hostile.now(|m| m.refuses_codes = true);
    assert_eq!(location(&Visitor::new(&world).sign_in(&hostile, id).await), "/sign-in?problem=code_refused");
    let huge = format!("{path}?state={}&code=x", "s".repeat(20_000));
    for odd in [path.clone(), format!("{path}?state=&code=x"), huge] {
        assert_eq!(location(&browser.get(&odd).await), "/sign-in?problem=visit_over");
    }
    let twice = browser.get(&format!("{path}?state=a&state=b")).await;
    assert_eq!(twice.status(), StatusCode::BAD_REQUEST);
    let nowhere = browser.get("/sign-in/provider/x/callback?state=a").await;
    assert!(nowhere.status().is_client_error());
    // And whoever is to go somewhere else afterwards goes home.
    hostile.now(|m| m.refuses_codes = false);
    let mut browser = Visitor::new(&world);
    let form = [("next", "https://evil.example")];
    let there = browser.leave(&format!("/sign-in/provider/{id}"), &form).await;
    assert_eq!(location(&browser.get(hostile.approve(&there).as_str()).await), "/");
    assert_eq!(world.user_of("ana@acme.example").await.standing.role.0, Role::User);
}
