//! Federated logins (A-6, A-7, C-4; protocol 40), with a provider that does what a test tells it.

mod answers;
mod deleted;
mod faults;
mod hostile;
mod links;
mod providers;
mod visitor;

use std::sync::Arc;

pub use hostile::Hostile;
use portcullis_domain::accounts::{Role, Status};
use reqwest::StatusCode;
use serde_json::json;
use tokio::sync::Semaphore;
pub use visitor::{Visitor, link, location, scene, set_up, typed};

use crate::support::{PASSWORD, World, on_both};

on_both! {
    a6_somebody_new_gets_an_account_and_is_the_same_user_the_next_time
    a6_parallel_first_sign_ins_make_one_user
    a6_an_email_never_links_whatever_the_provider_says_of_it
    a6_who_does_not_own_an_address_is_not_told_that_it_has_an_account
    a6_a_disabled_account_stays_disabled_and_a_deleted_one_deleted
    a6_only_what_the_provider_may_make_is_made
    a6_a_provider_that_goes_while_it_is_asked_signs_in_and_links_nobody
    a5_who_has_mfa_here_is_asked_for_it_too
    c4_a_federated_session_sees_why_it_cannot_generate
    signing_out_offers_to_sign_out_at_the_provider_too
}

async fn users(world: &World) -> usize {
    let mut tx = world.app.store.read().await.unwrap();
    tx.users(None, "", None, 100).await.unwrap().len()
}

async fn a6_somebody_new_gets_an_account_and_is_the_same_user_the_next_time(world: World) {
    let (_, hostile, id) = scene(&world).await;
    let mark = world.last_record().await;
    let mut browser = Visitor::new(&world);
    let there = browser.leave(&format!("/sign-in/provider/{id}"), &[("next", "/help")]).await;
    let back = hostile.approve(&there);
    let response = browser.get(back.as_str()).await;
    assert_eq!(location(&response), "/help");
    assert_eq!(world.told_after(mark).await, ["user.create done", "identity.link done", "sign_in done"]);
    assert!(browser.person().is_signed_in().await);
    assert!(!browser.cookies.contains_key("__Host-portcullis-step"), "nothing is under way any more");
    let ana = world.user_of("ana@acme.example").await;
    assert_eq!(
        (ana.name.as_str(), ana.standing.role.0, ana.standing.status.0),
        ("Ana", Role::User, Status::Active)
    );
    assert!(!ana.standing.has_password, "A-7");
    let record = world.records_after(mark).await.pop().unwrap();
    assert!(record.details.contains("\"opened_with\":\"provider\""), "{}", record.details);
    let all = format!("{:?}", world.records_after(0).await);
    for secret in ["canary", "ana-7"] {
        assert!(!all.contains(secret), "L-2: {secret}");
    }

    // Another e-mail at the provider is the same user: the subject says who it is.
    hostile.now(|m| drop(m.claims.insert("email".to_owned(), json!("ana.new@acme.example"))));
    let mut again = Visitor::new(&world);
    let response = again.sign_in(&hostile, id).await;
    assert_eq!(location(&response), "/");
    assert_eq!(users(&world).await, 2);
    let (_, page) = again.person().page("/account").await;
    assert!(page.contains("You sign in through a provider.") && page.contains("ana.new@acme.example"));
    assert!(!page.contains("Change password") && page.contains("ana@acme.example"), "A-7");
    // There is no password to sign in with.
    let form = [("email", "ana@acme.example"), ("password", PASSWORD)];
    let refused = Visitor::new(&world).post("/sign-in", &form).await;
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    world.log_is_whole().await;
}

async fn a6_parallel_first_sign_ins_make_one_user(world: World) {
    let (_, hostile, id) = scene(&world).await;
    let other = world.another_node().await;
    let mut all = tokio::task::JoinSet::new();
    for n in 0..6 {
        let mut browser = Visitor::new(if n % 2 == 0 { &world } else { &other });
        let hostile = hostile.clone();
        all.spawn(async move { location(&browser.sign_in(&hostile, id).await) });
    }
    assert_eq!(all.join_all().await, ["/"; 6]);
    assert_eq!(users(&world).await, 2);
}

async fn a6_an_email_never_links_whatever_the_provider_says_of_it(world: World) {
    let (maria, hostile, id) = scene(&world).await;
    for (verified, problem) in
        [(json!(true), "email_taken"), (json!("true"), "email_taken"), (json!(false), "email_not_verified")]
    {
        hostile.now(|m| {
            m.claims.insert("email".to_owned(), json!("MARIA@acme.example"));
            m.claims.insert("email_verified".to_owned(), verified);
        });
        let mark = world.last_record().await;
        let mut browser = Visitor::new(&world);
        let response = browser.sign_in(&hostile, id).await;
        assert_eq!(location(&response), format!("/sign-in?problem={problem}"));
        assert!(!browser.has_session());
        assert_eq!(world.told_after(mark).await, [format!("sign_in refused {problem}")]);
    }
    let page = Visitor::new(&world).get("/sign-in?problem=email_taken").await.text().await.unwrap();
    assert!(page.contains("Sign in to it with your password, then link this identity"), "{page}");
    let user = world.user_of("maria@acme.example").await;
    assert!(world.app.store.read().await.unwrap().identities_of(user.id).await.unwrap().is_empty());
    assert!(maria.is_signed_in().await);
}

async fn a6_who_does_not_own_an_address_is_not_told_that_it_has_an_account(world: World) {
    let (maria, hostile, id) = scene(&world).await;
    let text = id.to_string();
    for (makes_users, domains, verified, problem) in [
        (true, "", false, "email_not_verified"),
        (true, "other.example", true, "domain_not_allowed"),
        (true, "other.example", false, "email_not_verified"),
        (false, "", true, "identity_not_linked"),
        (false, "", false, "identity_not_linked"),
    ] {
        let mut form = typed(&hostile, &text);
        form.retain(|(name, _)| *name != "domains");
        form.push(("domains", domains));
        if makes_users {
            form.push(("makes_users", "yes"));
        }
        maria.post(&format!("/providers/{id}"), &form).await;
        for email in ["maria@acme.example", "never@acme.example"] {
            hostile.now(|m| {
                m.claims.insert("email".to_owned(), json!(email));
                m.claims.insert("email_verified".to_owned(), json!(verified));
            });
            let response = Visitor::new(&world).sign_in(&hostile, id).await;
            assert_eq!(location(&response), format!("/sign-in?problem={problem}"), "{email}");
        }
    }
    assert_eq!(users(&world).await, 1);
}

async fn a6_a_disabled_account_stays_disabled_and_a_deleted_one_deleted(world: World) {
    let (_, hostile, id) = scene(&world).await;
    Visitor::new(&world).sign_in(&hostile, id).await;
    let ana = world.user_of("ana@acme.example").await;
    for (status, problem) in
        [(Status::Inactive, "not_active"), (Status::Pending, "not_active"), (Status::Deleted, "account_deleted")]
    {
        world.change(&ana, |s| s.status = (status, world.clock.now())).await;
        let mark = world.last_record().await;
        let mut browser = Visitor::new(&world);
        let response = browser.sign_in(&hostile, id).await;
        assert_eq!(location(&response), format!("/sign-in?problem={problem}"));
        assert!(!browser.has_session());
        assert_eq!(world.told_after(mark).await, [format!("sign_in refused {problem}")]);
        let mut tx = world.app.store.read().await.unwrap();
        assert_eq!(tx.user(ana.id).await.unwrap().unwrap().standing.status.0, status, "it stays so");
    }
}

async fn a6_only_what_the_provider_may_make_is_made(world: World) {
    let (maria, hostile, id) = scene(&world).await;
    hostile.now(|m| m.userinfo = Some(json!({ "sub": "ana-7" })));
    let path = format!("/providers/{id}");
    let text = id.to_string();
    let form = |makes: bool, domains: &'static str| {
        let mut form = typed(&hostile, &text);
        form.retain(|(name, _)| *name != "domains");
        form.push(("domains", domains));
        if makes {
            form.push(("makes_users", "yes"));
        }
        form
    };
    let outcome = async |form: Vec<(&str, &str)>| {
        assert_eq!(location(&maria.post(&path, &form).await), format!("{path}?done=changed"));
        location(&Visitor::new(&world).sign_in(&hostile, id).await)
    };
    assert_eq!(outcome(form(false, "")).await, "/sign-in?problem=identity_not_linked");
    assert_eq!(outcome(form(true, "other.example")).await, "/sign-in?problem=domain_not_allowed");
    hostile.now(|m| drop(m.claims.insert("email_verified".to_owned(), json!(false))));
    assert_eq!(outcome(form(true, "acme.example")).await, "/sign-in?problem=email_not_verified");
    hostile.now(|m| drop(m.claims.remove("email")));
    assert_eq!(outcome(form(true, "")).await, "/sign-in?problem=no_email");
    assert_eq!(users(&world).await, 1);
    // An address that only the userinfo endpoint tells is one; of another subject it is none.
    hostile.now(|m| m.userinfo = Some(json!({ "sub": "x", "email": "ana@acme.example", "email_verified": true })));
    assert_eq!(outcome(form(true, "")).await, "/sign-in?problem=no_email");
    hostile.now(|m| {
        m.userinfo = Some(json!({ "sub": "ana-7", "email": "ana@acme.example", "email_verified": true }))
    });
    assert_eq!(outcome(form(true, "")).await, "/");
    assert_eq!(world.user_of("ana@acme.example").await.standing.role.0, Role::User);
    // A Super Admin is made only where that was chosen.
    hostile.now(|m| {
        m.claims.insert("sub".to_owned(), json!("paulo-8"));
        m.claims.insert("email".to_owned(), json!("paulo@acme.example"));
        m.claims.insert("email_verified".to_owned(), json!(true));
    });
    let mut chosen = form(true, "acme.example");
    chosen.retain(|(name, _)| *name != "role");
    chosen.push(("role", "super_admin"));
    assert_eq!(outcome(chosen).await, "/account/credentials");
    assert_eq!(world.user_of("paulo@acme.example").await.standing.role.0, Role::SuperAdmin);
}

async fn a6_a_provider_that_goes_while_it_is_asked_signs_in_and_links_nobody(world: World) {
    let (maria, hostile, mut id) = scene(&world).await;
    for (path, problem, told) in [
        ("/sign-in/provider/", "/sign-in?problem=visit_over", "sign_in refused visit_over"),
        ("/account/identities", "/account?problem=visit_over", "identity.link refused visit_over"),
    ] {
        let text = id.to_string();
        let mut browser = if path == "/account/identities" { Visitor::of(&maria) } else { Visitor::new(&world) };
        let there = if path == "/account/identities" {
            browser.leave(path, &[("link", &text)]).await
        } else {
            browser.leave(&format!("{path}{text}"), &[]).await
        };
        let back = hostile.approve(&there);
        let gate = Arc::new(Semaphore::new(0));
        hostile.now(|m| m.gate = Some(Arc::clone(&gate)));
        let asked = hostile.asked().len();
        let answer = tokio::spawn(async move { location(&browser.get(back.as_str()).await) });
        while !hostile.asked()[asked..].iter().any(|p| p == "token") {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let removed = maria.post(&format!("/providers/{id}/remove"), &[]).await;
        assert_eq!(location(&removed), "/providers?done=removed");
        let mark = world.last_record().await;
        gate.add_permits(1);
        assert_eq!(answer.await.unwrap(), problem);
        assert_eq!(world.told_after(mark).await, [told]);
        assert_eq!(users(&world).await, 1);
        hostile.now(|m| m.gate = None);
        id = set_up(&world, &maria, &hostile, true).await;
    }
    let maria = world.user_of("maria@acme.example").await;
    assert!(world.app.store.read().await.unwrap().identities_of(maria.id).await.unwrap().is_empty());
}

async fn a5_who_has_mfa_here_is_asked_for_it_too(world: World) {
    let (_, hostile, id) = scene(&world).await;
    Visitor::new(&world).sign_in(&hostile, id).await;
    let ana = world.user_of("ana@acme.example").await;
    world.change(&ana, |s| s.mfa_since = Some(world.clock.now())).await;
    let mark = world.last_record().await;
    let mut browser = Visitor::new(&world);
    let there = browser.leave(&format!("/sign-in/provider/{id}"), &[("next", "/help")]).await;
    let response = browser.get(hostile.approve(&there).as_str()).await;
    assert_eq!(location(&response), "/sign-in/second-factor?next=/help");
    assert!(!browser.has_session() && browser.cookies.contains_key("__Host-portcullis-step"));
    assert!(world.told_after(mark).await.is_empty(), "nobody has signed in yet");
}

async fn c4_a_federated_session_sees_why_it_cannot_generate(world: World) {
    let (_, hostile, id) = scene(&world).await;
    let mut browser = Visitor::new(&world);
    browser.sign_in(&hostile, id).await;
    let ana = world.user_of("ana@acme.example").await;
    world.change(&ana, |s| s.role = (Role::SuperAdmin, world.clock.now())).await;
    let person = browser.person();
    let (status, page) = person.page("/account/credentials").await;
    assert_eq!(status, StatusCode::OK);
    assert!(
        page.contains("You signed in with Acme ID.") && page.contains("Your account has no Portcullis password")
    );
    for path in ["/account/credentials/generate", "/api/v1/users/me/credential/generate"] {
        let mark = world.last_record().await;
        let refused = person.post(path, &[]).await;
        assert_eq!(refused.status(), StatusCode::FORBIDDEN, "{path}");
        assert_eq!(world.told_after(mark).await, ["credential.generate refused federated_login"]);
    }
}

async fn signing_out_offers_to_sign_out_at_the_provider_too(world: World) {
    let (_, hostile, id) = scene(&world).await;
    let mut browser = Visitor::new(&world);
    browser.sign_in(&hostile, id).await;
    let before = browser.person();
    let out = browser.post("/sign-out", &[]).await;
    assert_eq!(location(&out), format!("/sign-in/provider/{id}/sign-out"));
    assert!(!before.is_signed_in().await && !browser.has_session(), "ours ends at once");
    let page = browser.get(&format!("/sign-in/provider/{id}/sign-out")).await.text().await.unwrap();
    assert!(page.contains("Sign out at Acme ID too"), "{page}");
    let (_, link) = page.split_once("href=\"http").unwrap();
    let link = format!("http{}", link.split('"').next().unwrap().replace("&#38;", "&"));
    let link = url::Url::parse(&link).unwrap();
    let asked: Vec<(String, String)> = link.query_pairs().map(|(n, v)| (n.into_owned(), v.into_owned())).collect();
    assert!(link.as_str().starts_with(&format!("{}/end?", hostile.url())));
    let names: Vec<&str> = asked.iter().map(|(n, _)| n.as_str()).collect();
    assert_eq!(names, ["kept", "client_id", "post_logout_redirect_uri", "state"], "no ID token is kept");
    assert_eq!(asked[2].1, world.app.signed_out_uri(id));
    let back = browser.get(&format!("/sign-in/provider/{id}/signed-out?state=x")).await;
    assert_eq!(location(&back), "/sign-in?done=signed-out-there");
    // A provider that does not answer takes away the button and nothing else.
    let mut browser = Visitor::new(&world);
    browser.sign_in(&hostile, id).await;
    world.pass(jiff::SignedDuration::from_mins(11));
    hostile.now(|m| m.documents = hostile::Documents::NotJson);
    let out = browser.post("/sign-out", &[]).await;
    let page = browser.get(&location(&out)).await.text().await.unwrap();
    assert!(page.contains("You may still be signed in at Acme ID."), "{page}");
}
