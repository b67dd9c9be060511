//! Signing in and out, the cookie, lock-out, changing the password.

use jiff::SignedDuration;
use portcullis_domain::accounts::{Role, Status};
use reqwest::{Method, RequestBuilder, Response, StatusCode, header};
use serde_json::json;

use crate::support::{PASSWORD, Person, World, cookie_of, on_both};

on_both! {
    protocol30_the_cookie_is_bound_to_this_host_and_out_of_reach_of_scripts
    protocol30_signing_in_never_takes_the_id_that_the_browser_brought
    protocol30_signing_out_ends_the_session_on_the_server
    protocol30_a_session_ends_when_idle_and_at_its_absolute_limit
    protocol37_an_unknown_user_and_a_wrong_password_get_the_same_bytes
    a8_failures_are_counted_over_all_doors_and_spellings
    a8_a_lock_ends_by_itself_after_fifteen_minutes_at_most
    a8_guesses_sent_at_once_are_counted_too
    changing_the_password_asks_for_the_present_one_and_ends_the_other_sessions
    signing_out_the_others_leaves_this_one
    nobody_is_sent_to_another_place_after_signing_in
    two_session_cookies_are_none
    signing_in_needs_an_active_account
}

const MARIA: &str = "maria@acme.example";
const NEW: &str = "violet harbor mosaic thunder";

fn form(world: &World, email: &str, password: &str) -> RequestBuilder {
    world.stranger().request(Method::POST, "/sign-in").form(&[("email", email), ("password", password)])
}

fn api(world: &World, email: &str, password: &str) -> RequestBuilder {
    let body = json!({ "email": email, "password": password });
    world.stranger().request(Method::POST, "/api/v1/session").json(&body)
}

async fn status(request: RequestBuilder) -> StatusCode {
    request.send().await.unwrap().status()
}

fn set_cookie(response: &Response) -> String {
    response.headers()[header::SET_COOKIE].to_str().unwrap().to_owned()
}

async fn protocol30_the_cookie_is_bound_to_this_host_and_out_of_reach_of_scripts(world: World) {
    world.user(MARIA, Role::SuperAdmin).await;
    let mut ids = Vec::new();
    for request in [form(&world, MARIA, PASSWORD), api(&world, MARIA, PASSWORD), form(&world, MARIA, PASSWORD)] {
        let response = request.send().await.unwrap();
        let line = set_cookie(&response);
        let parts: Vec<&str> = line.split("; ").collect();
        assert!(parts[0].starts_with("__Host-portcullis="), "{line}");
        for part in ["HttpOnly", "Secure", "SameSite=Lax", "Path=/"] {
            assert!(parts.contains(&part), "{part}: {line}");
        }
        let lower = line.to_lowercase();
        assert!(!lower.contains("domain=") && !lower.contains("max-age") && !lower.contains("expires"), "{line}");
        assert!(parts[0].len() >= "__Host-portcullis=".len() + 43, "256 bits: {line}");
        ids.push(parts[0].to_owned());
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 3, "a new id at each sign-in");
}

async fn protocol30_signing_in_never_takes_the_id_that_the_browser_brought(world: World) {
    world.user(MARIA, Role::SuperAdmin).await;
    let planted = "__Host-portcullis=planted-by-an-attacker-planted-by-an-attacke";
    let response = form(&world, MARIA, PASSWORD).header(header::COOKIE, planted).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::SEE_OTHER);
    assert_ne!(cookie_of(&response).unwrap(), planted);
    let with = |cookie: &str| Person {
        client: world.stranger().client,
        url: world.url.clone(),
        cookie: cookie.to_owned(),
    };
    assert!(!with(planted).is_signed_in().await, "no session fixation");
    // A live session of somebody else in the same browser ends.
    let ines = world.person("ines@acme.example", Role::User).await;
    let response = form(&world, MARIA, PASSWORD).header(header::COOKIE, &ines.cookie).send().await.unwrap();
    assert!(with(&cookie_of(&response).unwrap()).is_signed_in().await);
    assert!(!ines.is_signed_in().await);
}

async fn protocol30_signing_out_ends_the_session_on_the_server(world: World) {
    let other = world.another_node().await;
    for path in ["/sign-out", "/api/v1/session/end"] {
        let maria = if path == "/sign-out" { world.maria().await } else { world.sign_in(MARIA).await };
        let response = maria.post(path, &[]).await;
        assert!(response.status().is_success() || response.status().is_redirection());
        let line = set_cookie(&response);
        assert!(line.starts_with("__Host-portcullis=;") && line.contains("Max-Age=0"), "{line}");
        assert!(line.contains("Secure") && line.contains("Path=/"), "{line}");
        assert!(!maria.is_signed_in().await && !maria.at(&other).is_signed_in().await, "{path}");
        let again = maria.post(path, &[]).await;
        assert_eq!(again.status(), StatusCode::UNAUTHORIZED);
    }
}

async fn protocol30_a_session_ends_when_idle_and_at_its_absolute_limit(world: World) {
    let maria = world.maria().await;
    world.pass(SignedDuration::from_secs(30 * 60 - 1));
    assert!(maria.is_signed_in().await, "used within the idle limit");
    world.pass(SignedDuration::from_mins(30));
    assert!(!maria.is_signed_in().await, "30 idle minutes");
    world.pass(SignedDuration::from_mins(-1));
    let maria = world.sign_in(MARIA).await;
    for _ in 0..28 {
        world.pass(SignedDuration::from_mins(25));
        assert!(maria.is_signed_in().await);
    }
    world.pass(SignedDuration::from_mins(20) - SignedDuration::from_secs(1));
    assert!(maria.is_signed_in().await, "11:59:59");
    world.pass(SignedDuration::from_secs(1));
    assert!(!maria.is_signed_in().await, "12 hours, however busy");
    world.app.sweep().await.unwrap();
    let user = world.user_of(MARIA).await;
    let kept = world.app.store.read().await.unwrap().sessions_of(user.id).await.unwrap();
    assert!(kept.is_empty(), "{kept:?}");
}

async fn bytes(request: RequestBuilder) -> (StatusCode, Vec<String>, String) {
    let response = request.send().await.unwrap();
    let headers = response.headers().iter().filter(|(n, _)| *n != header::DATE);
    let headers = headers.map(|(n, v)| format!("{n}: {}", v.to_str().unwrap())).collect();
    (response.status(), headers, response.text().await.unwrap())
}

async fn protocol37_an_unknown_user_and_a_wrong_password_get_the_same_bytes(world: World) {
    world.user(MARIA, Role::SuperAdmin).await;
    let inactive = world.user("pedro@acme.example", Role::User).await;
    world.change(&inactive, |s| s.status = (Status::Inactive, world.clock.now())).await;
    for ask in [form, api] {
        let wrong = bytes(ask(&world, MARIA, "wrong horse battery")).await;
        assert_eq!(wrong.0, StatusCode::UNAUTHORIZED);
        for email in ["never@acme.example", "pedro@acme.example"] {
            let other = bytes(ask(&world, email, "wrong horse battery")).await;
            let body = other.2.replace(email, MARIA);
            let length = |h: &[String]| h.iter().filter(|l| !l.starts_with("content-length")).cloned().collect();
            let (a, b): (Vec<String>, Vec<String>) = (length(&wrong.1), length(&other.1));
            assert_eq!((wrong.0, a, &wrong.2), (other.0, b, &body), "{email}");
            assert!(!other.2.contains("wrong horse"), "the password is not sent back");
        }
    }
    // The lock of an account that does not exist looks the same as well.
    for email in [MARIA, "never@acme.example"] {
        for _ in 0..4 {
            api(&world, email, "wrong horse battery").send().await.unwrap();
        }
    }
    let locked = bytes(api(&world, MARIA, "wrong horse battery")).await;
    assert_eq!(locked.0, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(locked, bytes(api(&world, "never@acme.example", "wrong horse battery")).await);
}

async fn a8_failures_are_counted_over_all_doors_and_spellings(world: World) {
    world.user(MARIA, Role::SuperAdmin).await;
    let other = world.another_node().await;
    assert_eq!(status(form(&world, "MARIA@acme.example", "1")).await, StatusCode::UNAUTHORIZED);
    assert_eq!(status(api(&world, " maria@ACME.example ", "2")).await, StatusCode::UNAUTHORIZED);
    assert_eq!(status(form(&other, "maria@acme.EXAMPLE", "3")).await, StatusCode::UNAUTHORIZED);
    assert_eq!(status(api(&other, MARIA, "4")).await, StatusCode::UNAUTHORIZED);
    assert_eq!(status(form(&world, MARIA, "5")).await, StatusCode::UNAUTHORIZED);
    let mark = world.last_record().await;
    for ask in [form, api] {
        for node in [&world, &other] {
            let locked = ask(node, "Maria@Acme.Example", PASSWORD).send().await.unwrap();
            assert_eq!(locked.status(), StatusCode::TOO_MANY_REQUESTS, "the right one is refused too");
            let wait: i64 = locked.headers()[header::RETRY_AFTER].to_str().unwrap().parse().unwrap();
            assert!((1..=900).contains(&wait), "{wait}");
            assert!(!locked.headers().contains_key(header::SET_COOKIE));
        }
    }
    assert_eq!(world.told_after(mark).await, ["sign_in refused locked"; 4]);
}

async fn a8_a_lock_ends_by_itself_after_fifteen_minutes_at_most(world: World) {
    world.user(MARIA, Role::SuperAdmin).await;
    for _ in 0..25 {
        assert_eq!(status(api(&world, MARIA, "wrong")).await, StatusCode::UNAUTHORIZED);
        world.pass(SignedDuration::from_mins(15));
    }
    assert_eq!(status(api(&world, MARIA, "wrong")).await, StatusCode::UNAUTHORIZED);
    world.pass(SignedDuration::from_secs(15 * 60 - 1));
    assert_eq!(status(api(&world, MARIA, PASSWORD)).await, StatusCode::TOO_MANY_REQUESTS);
    world.pass(SignedDuration::from_secs(1));
    assert_eq!(status(api(&world, MARIA, PASSWORD)).await, StatusCode::CREATED);
    assert_eq!(status(api(&world, MARIA, "wrong")).await, StatusCode::UNAUTHORIZED, "the run is forgotten");
    assert_eq!(status(api(&world, MARIA, PASSWORD)).await, StatusCode::CREATED);
}

async fn a8_guesses_sent_at_once_are_counted_too(world: World) {
    world.user(MARIA, Role::SuperAdmin).await;
    let mut all = tokio::task::JoinSet::new();
    for i in 0..40 {
        let request = if i % 2 == 0 { form(&world, MARIA, "wrong") } else { api(&world, MARIA, "wrong") };
        all.spawn(async move { request.send().await.unwrap().status() });
    }
    let answers = all.join_all().await;
    let judged = answers.iter().filter(|s| **s == StatusCode::UNAUTHORIZED).count();
    assert!((5..=10).contains(&judged), "A-8: {judged} guesses of 40 were judged: {answers:?}");
    assert_eq!(status(api(&world, MARIA, PASSWORD)).await, StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn a8_a_stranger_elsewhere_does_not_lock_the_rightful_user_out() {
    let world = World::sqlite(&[("trusted_proxies", "127.0.0.0/8")]).await;
    world.user(MARIA, Role::SuperAdmin).await;
    let from = |ip: &str, password: &str| api(&world, MARIA, password).header("x-forwarded-for", ip);
    for i in 0..30 {
        status(from(&format!("203.0.113.{i}"), "wrong")).await;
    }
    assert_eq!(status(from("203.0.113.99", PASSWORD)).await, StatusCode::TOO_MANY_REQUESTS, "their network");
    assert_eq!(status(from("198.51.100.1", PASSWORD)).await, StatusCode::CREATED, "hers");
    assert_eq!(status(from("2001:db8:1::1", PASSWORD)).await, StatusCode::CREATED);
    let maria = world.sign_in(MARIA).await;
    let (_, page) = maria.page("/account").await;
    assert!(page.contains("198.51.100.1") && page.contains("2001:db8:1::1"));
    // A guesser with many networks runs into the count of all of them, and never for longer than
    // a quarter of an hour.
    for i in 0..60 {
        status(from(&format!("10.{i}.0.1"), "wrong")).await;
    }
    assert_eq!(status(from("192.0.2.1", PASSWORD)).await, StatusCode::TOO_MANY_REQUESTS, "a network not known");
    assert_eq!(status(from("198.51.100.1", PASSWORD)).await, StatusCode::CREATED, "hers is known");
    for i in 0..60 {
        status(from(&format!("10.{i}.0.1"), "wrong")).await;
    }
    assert_eq!(status(from("192.0.2.1", PASSWORD)).await, StatusCode::TOO_MANY_REQUESTS);
    world.pass(SignedDuration::from_mins(15));
    assert_eq!(status(from("192.0.2.1", PASSWORD)).await, StatusCode::CREATED);
}

async fn change(person: &Person, present: &str, new: &str) -> Response {
    person.post("/account/password", &[("present_password", present), ("new_password", new)]).await
}

async fn changing_the_password_asks_for_the_present_one_and_ends_the_other_sessions(world: World) {
    let maria = world.maria().await;
    let elsewhere = world.sign_in(MARIA).await;
    for (new, message) in [
        ("too short", "Use at least 15 characters"),
        ("passwordpassword", "among the first that guessing would try"),
        ("maria@acme.example", "among the first that guessing would try"),
        (&"long ".repeat(60), "Use at most 256 characters"),
    ] {
        let refused = change(&maria, PASSWORD, new).await;
        assert_eq!(refused.status(), StatusCode::UNPROCESSABLE_ENTITY, "A-4: {new}");
        let page = refused.text().await.unwrap();
        assert!(page.contains(message), "A-4: {new}");
        assert!(!page.contains(PASSWORD) && (new.contains('@') || !page.contains(new)), "nothing is sent back");
    }
    let mark = world.last_record().await;
    let wrong = change(&maria, "wrong horse battery", NEW).await;
    assert_eq!(wrong.status(), StatusCode::UNAUTHORIZED);
    assert!(wrong.text().await.unwrap().contains("This is not your present password."));
    assert_eq!(world.told_after(mark).await, ["password.change refused wrong_password"]);
    assert!(elsewhere.is_signed_in().await);

    let done = change(&maria, PASSWORD, NEW).await;
    assert_eq!(done.status(), StatusCode::SEE_OTHER);
    let cookie = cookie_of(&done).unwrap();
    assert!(!maria.is_signed_in().await, "protocol 30: the old id is dead");
    assert!(!elsewhere.is_signed_in().await, "and so are the other sessions");
    let renewed = Person { cookie, ..maria };
    let (status_, page) = renewed.page("/account?done=password").await;
    assert_eq!(status_, StatusCode::OK);
    assert!(page.contains("Your password has been changed.") && page.contains("This is your only session."));
    assert_eq!(status(api(&world, MARIA, PASSWORD)).await, StatusCode::UNAUTHORIZED);
    assert_eq!(status(api(&world, MARIA, NEW)).await, StatusCode::CREATED);
    // Wrong ones here count towards the same lock.
    for _ in 0..5 {
        change(&renewed, "wrong horse battery", PASSWORD).await;
    }
    let locked = change(&renewed, NEW, PASSWORD).await;
    assert_eq!(locked.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(locked.headers().contains_key(header::RETRY_AFTER));
    assert_eq!(status(api(&world, MARIA, NEW)).await, StatusCode::TOO_MANY_REQUESTS, "A-8: all routes");
}

async fn signing_out_the_others_leaves_this_one(world: World) {
    let maria = world.maria().await;
    let (a, b) = (world.sign_in(MARIA).await, world.sign_in(MARIA).await);
    let ines = world.person("ines@acme.example", Role::User).await;
    let done = maria.post("/account/sessions/end-others", &[]).await;
    assert_eq!(done.headers()["location"], "/account?done=sessions&ended=2");
    assert!(maria.is_signed_in().await && ines.is_signed_in().await);
    assert!(!a.is_signed_in().await && !b.is_signed_in().await);
    let mark = world.last_record().await;
    maria.post("/account/sessions/end-others", &[]).await;
    assert!(world.told_after(mark).await.is_empty(), "nothing was done, nothing is recorded");
}

async fn nobody_is_sent_to_another_place_after_signing_in(world: World) {
    world.user(MARIA, Role::SuperAdmin).await;
    for (next, to) in [
        ("/audit", "/audit"),
        ("//evil.example", "/account/credentials"),
        ("https://evil.example", "/account/credentials"),
        ("/\\evil.example", "/account/credentials"),
        ("/%2f/evil.example", "/account/credentials"),
        ("/\r\nLocation: https://evil.example", "/account/credentials"),
        ("javascript:alert(1)", "/account/credentials"),
    ] {
        let form = [("email", MARIA), ("password", PASSWORD), ("next", next)];
        let response = world.stranger().request(Method::POST, "/sign-in").form(&form).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::SEE_OTHER);
        assert_eq!(response.headers()[header::LOCATION], to, "{next:?}");
    }
    let page = world.stranger().request(Method::GET, "/sign-in?next=//evil.example").send().await.unwrap();
    assert!(!page.text().await.unwrap().contains("evil.example"));
    let asked = world.stranger().request(Method::GET, "/audit").send().await.unwrap();
    assert_eq!(asked.headers()[header::LOCATION], "/sign-in?next=/audit");
}

async fn two_session_cookies_are_none(world: World) {
    let maria = world.maria().await;
    let twice = format!("{}; __Host-portcullis=other", maria.cookie);
    let twice = Person { cookie: twice, client: maria.client.clone(), url: maria.url.clone() };
    assert!(!twice.is_signed_in().await);
    assert!(maria.is_signed_in().await);
}

async fn signing_in_needs_an_active_account(world: World) {
    let user = world.user(MARIA, Role::SuperAdmin).await;
    for state in [Status::Inactive, Status::Pending] {
        world.change(&user, |s| s.status = (state, world.clock.now())).await;
        let mark = world.last_record().await;
        for ask in [form, api] {
            let refused = ask(&world, MARIA, PASSWORD).send().await.unwrap();
            assert_eq!(refused.status(), StatusCode::FORBIDDEN);
            assert!(!refused.headers().contains_key(header::SET_COOKIE));
            assert!(refused.text().await.unwrap().contains("This account is not active."));
        }
        assert_eq!(world.told_after(mark).await, ["sign_in refused not_active"; 2]);
    }
}
