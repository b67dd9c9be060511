//! The set-up link: the first Super Admin, made in the browser.

use portcullis_domain::{
    accounts::{Role, Status},
    secret::ExposeSecret,
};
use reqwest::{Method, Response, StatusCode, header};

use crate::support::{PASSWORD, World, client_from, on_both};

on_both! {
    the_link_makes_one_super_admin_and_is_over
    a3_twenty_at_once_make_exactly_one_super_admin
    a_wrong_link_is_not_found_and_tells_nothing
    set_up_is_over_when_the_operator_makes_an_account
    what_is_wrong_is_said_at_the_fields_and_what_was_typed_is_kept
    protocol35_a_hostile_name_is_text_on_every_page
}

const MARIA: &str = "maria@acme.example";

async fn link(world: &World) -> String {
    let token = world.app.set_up_token().await.unwrap().expect("set-up is not over");
    format!("/setup/{}", token.expose_secret())
}

async fn set_up(world: &World, link: &str, email: &str, name: &str, password: &str) -> Response {
    let form = [("email", email), ("name", name), ("password", password)];
    world.stranger().request(Method::POST, link).form(&form).send().await.unwrap()
}

async fn get(world: &World, path: &str) -> (StatusCode, String) {
    let response = world.stranger().request(Method::GET, path).send().await.unwrap();
    (response.status(), response.text().await.unwrap())
}

async fn the_link_makes_one_super_admin_and_is_over(world: World) {
    let link = link(&world).await;
    let (status, page) = get(&world, &link).await;
    assert_eq!(status, StatusCode::OK);
    assert!(page.contains("Make the first Super Admin") && page.contains("At least 15 characters"));
    let made = set_up(&world, &link, " Maria@ACME.example ", " Maria Rocha ", PASSWORD).await;
    assert_eq!(made.status(), StatusCode::SEE_OTHER);
    assert_eq!(made.headers()[header::LOCATION], "/sign-in?done=set-up");
    assert!(!made.headers().contains_key(header::SET_COOKIE), "the password is asked for at the sign-in");
    let (_, page) = get(&world, "/sign-in?done=set-up").await;
    assert!(page.contains("Your account is ready."));
    let user = world.user_of(MARIA).await;
    assert_eq!((user.standing.role.0, user.standing.status.0), (Role::SuperAdmin, Status::Active));
    assert_eq!(user.name.as_str(), "Maria Rocha");
    assert_eq!(world.sign_in(MARIA).await.get("/account/credentials").await.status(), StatusCode::OK);

    let (status, page) = get(&world, &link).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(page.contains("This link is no longer valid") && page.contains("href=\"/sign-in\""));
    let again = set_up(&world, &link, "eve@acme.example", "Eve", PASSWORD).await;
    assert_eq!(again.status(), StatusCode::NOT_FOUND);
    assert!(world.app.set_up_token().await.unwrap().is_none());
    let other = world.another_node().await;
    assert_eq!(get(&other, &link).await.0, StatusCode::NOT_FOUND, "on every node");
}

async fn a3_twenty_at_once_make_exactly_one_super_admin(world: World) {
    let other = world.another_node().await;
    let link = link(&world).await;
    let request = |i| {
        let at = if i % 2 == 0 { &world } else { &other };
        let email = format!("first{i}@acme.example");
        let form = [("email", email.as_str()), ("name", "First"), ("password", PASSWORD)];
        // Each from a network of its own: of one network only eight may wait for a password's hash.
        client_from(&format!("127.0.{i}.2")).post(format!("{}{link}", at.url)).form(&form)
    };
    // All are made before the first is sent: a client takes longer to be made than to ask.
    let requests: Vec<_> = (0..20).map(request).collect();
    let mut all = tokio::task::JoinSet::new();
    for request in requests {
        all.spawn(async move { request.send().await.unwrap().status() });
    }
    let answers = all.join_all().await;
    assert_eq!(answers.iter().filter(|s| **s == StatusCode::SEE_OTHER).count(), 1, "{answers:?}");
    assert_eq!(answers.iter().filter(|s| **s == StatusCode::NOT_FOUND).count(), 19, "{answers:?}");
    let users = world.app.store.read().await.unwrap().users(None, "", None, 100).await.unwrap();
    assert_eq!(users.len(), 1);
    let made = world.told_after(0).await;
    assert_eq!(made.iter().filter(|t| t.starts_with("user.create")).count(), 1, "{made:?}");
}

async fn a_wrong_link_is_not_found_and_tells_nothing(world: World) {
    let link = link(&world).await;
    let cut = link[..link.len() - 1].to_owned();
    let other = World::sqlite(&[]).await;
    let (_, wrong) = get(&world, "/setup/x").await;
    assert!(wrong.contains("This set-up link is not valid."));
    let elsewhere = self::link(&other).await;
    assert_ne!(elsewhere, link, "each installation has its own");
    for path in [&cut, &format!("{link}A"), &elsewhere, &link.to_uppercase(), "/setup/%00", "/setup/%ff"] {
        let (status, page) = get(&world, path).await;
        assert!(status.is_client_error(), "{path}: {status}");
        assert!(!page.contains("Create the account"), "{path}");
        let refused = set_up(&world, path, MARIA, "Maria", PASSWORD).await;
        assert!(refused.status().is_client_error(), "{path}: {}", refused.status());
    }
    assert_eq!(get(&world, &link).await.0, StatusCode::OK, "the right one still works");
    assert!(world.told_after(0).await.iter().all(|t| !t.starts_with("user.create")));
}

async fn set_up_is_over_when_the_operator_makes_an_account(world: World) {
    let link = link(&world).await;
    world.user("pedro@acme.example", Role::SuperAdmin).await;
    assert_eq!(get(&world, &link).await.0, StatusCode::NOT_FOUND);
    assert_eq!(set_up(&world, &link, MARIA, "Maria", PASSWORD).await.status(), StatusCode::NOT_FOUND);
}

async fn what_is_wrong_is_said_at_the_fields_and_what_was_typed_is_kept(world: World) {
    let link = link(&world).await;
    let long = "x".repeat(300);
    for (email, name, password, message) in [
        ("maria", "Maria", PASSWORD, "Enter an e-mail address, like name@example.com."),
        (&*long, "Maria", PASSWORD, "Enter an e-mail address"),
        ("m\0@acme.example", "Maria", PASSWORD, "Enter an e-mail address"),
        (MARIA, "", PASSWORD, "Enter a name."),
        (MARIA, &*long, PASSWORD, "Enter a name of at most 100 characters."),
        (MARIA, "a\u{202e}b", PASSWORD, "without control characters"),
        (MARIA, "Maria", "short", "Use at least 15 characters (5 now)."),
        (MARIA, "Maria", "passwordpassword", "among the first that guessing would try"),
        (MARIA, "Maria", "maria@acme.example", "among the first that guessing would try"),
        (MARIA, "Maria", &*long, "Use at most 256 characters."),
    ] {
        let refused = set_up(&world, &link, email, name, password).await;
        assert_eq!(refused.status(), StatusCode::UNPROCESSABLE_ENTITY, "{message}");
        let page = refused.text().await.unwrap();
        assert!(page.contains(message), "A-4: {message}: {page}");
        assert!(page.contains("aria-invalid=\"true\""), "{message}");
        for typed in [email, name].into_iter().filter(|t| t.chars().all(|c| c.is_ascii_graphic())) {
            assert!(page.contains(&format!("value=\"{typed}\"")), "what was typed is kept: {typed}");
        }
        assert!(password == email || password == long || !page.contains(&format!("\"{password}\"")));
    }
    let all = set_up(&world, &link, "x", "", "y").await.text().await.unwrap();
    assert_eq!(all.matches("aria-invalid=\"true\"").count(), 3, "all of it at once");
    let answer = world.stranger().request(Method::POST, &link).form(&[("email", MARIA)]).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert!(answer.text().await.unwrap().contains("The form could not be read"));
    assert_eq!(set_up(&world, &link, MARIA, "Maria", PASSWORD).await.status(), StatusCode::SEE_OTHER);
}

async fn protocol35_a_hostile_name_is_text_on_every_page(world: World) {
    let link = link(&world).await;
    let name = "\"><script>alert('x')</script>{{7*7}}";
    let email = "\"><img/src=x>@acme.example";
    let wrong = set_up(&world, &link, email, name, "short").await;
    assert_eq!(wrong.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let page = wrong.text().await.unwrap();
    assert!(!page.contains("<script>alert") && !page.contains("<img/src"), "{page}");
    assert_eq!(set_up(&world, &link, email, name, PASSWORD).await.status(), StatusCode::SEE_OTHER);
    let hostile = world.sign_in(email).await;
    let shown = hostile.post("/account/credentials/generate", &[]).await.text().await.unwrap();
    assert!(!shown.contains("<script>alert") && !shown.contains("<img/src"));
    for route in portcullis::routes::all().into_iter().filter(|r| r.method == Method::GET) {
        let path = route.path.replace("{user}", "me").replace("{token}", "x").replace("{name}", "console.css");
        let response = hostile.get(&path).await;
        let kind = response.headers().get(header::CONTENT_TYPE).map(|v| v.to_str().unwrap().to_owned());
        let page = response.text().await.unwrap();
        if kind.is_some_and(|k| k.starts_with("text/html")) {
            assert!(!page.contains("<script>alert") && !page.contains("<img/src"), "{path}: {page}");
        }
    }
}
