//! A forgotten password: the same answer for every account, the right mail to each, and what the
//! link does.

use jiff::SignedDuration;
use portcullis_domain::accounts::{Role, Status};
use reqwest::{Method, Response, StatusCode, header};

use crate::support::{FORM, PASSWORD, World, on_both};

on_both! {
    protocol37_whoever_asks_gets_the_same_answer
    a7_each_kind_of_account_gets_the_mail_it_needs
    a2_asking_for_a_password_renews_no_invitation
    one_address_and_nothing_else_is_taken
    nobody_s_mailbox_is_flooded
    a_new_password_ends_every_session_and_tells_the_user
    a8_a_reset_ends_the_count_of_failures_but_not_with_mfa
    a_password_that_was_changed_takes_the_link_with_it
    what_a_stranger_writes_is_in_no_mail
}

const MARIA: &str = "maria@acme.example";
const NEW: &str = "violet harbor mosaic thunder";

/// Asks, a second after whatever was before: mails stand in the order of their instants.
async fn ask(world: &World, email: &str) -> Response {
    world.pass(SignedDuration::from_secs(1));
    world.stranger().request(Method::POST, "/forgot-password").form(&[("email", email)]).send().await.unwrap()
}

/// Waits for the record of what was done after the answer.
async fn recorded(world: &World, mark: i64) -> Vec<String> {
    for _ in 0..200 {
        let told = world.told_after(mark).await;
        if !told.is_empty() {
            return told;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    panic!("nothing was recorded");
}

async fn people(world: &World) {
    for (email, status) in [
        (MARIA, Status::Active),
        ("pending@acme.example", Status::Pending),
        ("inactive@acme.example", Status::Inactive),
        ("deleted@acme.example", Status::Deleted),
        ("federated@acme.example", Status::Active),
    ] {
        // The first account is a Super Admin's.
        let role = if email == MARIA { Role::SuperAdmin } else { Role::User };
        let user = world.user(email, role).await;
        world.change(&user, |s| s.status.0 = status).await;
    }
    world.sql("UPDATE users SET password_hash = NULL WHERE email IN ('pending@acme.example', 'federated@acme.example')").await;
    let bytes = world.user_of("federated@acme.example").await.id.0.simple().to_string();
    let postgres = matches!(world.database, portcullis_store::Database::Postgres(_));
    let uuid = if postgres { format!("'{bytes}'::uuid") } else { format!("x'{bytes}'") };
    let no = if postgres { "FALSE" } else { "0" };
    world.sql(&format!("INSERT INTO providers (id, name, issuer, client_id, scopes, domains, makes_users, role, made_at) VALUES ({uuid}, 'Acme ID', 'https://id.acme.example', 'c', 'openid', '', {no}, 'user', 0)")).await;
    world.sql(&format!("INSERT INTO identities (issuer, subject, user_id, email, linked_at) VALUES ('https://id.acme.example', 's', {uuid}, '', 0)")).await;
}

async fn protocol37_whoever_asks_gets_the_same_answer(world: World) {
    people(&world).await;
    let mut answers = Vec::new();
    for email in [
        MARIA,
        "pending@acme.example",
        "inactive@acme.example",
        "deleted@acme.example",
        "federated@acme.example",
        "never@acme.example",
    ] {
        let mark = world.last_record().await;
        let response = ask(&world, email).await;
        let headers: Vec<String> = response
            .headers()
            .iter()
            .filter(|(n, _)| *n != header::DATE)
            .map(|(n, v)| format!("{n}: {}", v.to_str().unwrap()))
            .collect();
        answers.push((response.status(), headers, response.text().await.unwrap()));
        recorded(&world, mark).await;
    }
    assert_eq!(answers[0].0, StatusCode::SEE_OTHER);
    assert!(answers.iter().all(|a| *a == answers[0]), "{answers:?}");
    let page = world.stranger().request(Method::GET, "/forgot-password?done=asked").send().await.unwrap();
    assert!(page.text().await.unwrap().contains("If there is an account with this address"));
    // The database is asked before, whatever the account.
    world.sql("ALTER TABLE audit_head RENAME TO elsewhere").await;
    for email in [MARIA, "never@acme.example"] {
        assert_eq!(ask(&world, email).await.status(), StatusCode::SERVICE_UNAVAILABLE);
    }
}

async fn a7_each_kind_of_account_gets_the_mail_it_needs(world: World) {
    people(&world).await;
    for (email, told, subject) in [
        (MARIA, "password.reset done", Some("Choose a new password")),
        ("pending@acme.example", "password.reset refused not_active", None),
        ("inactive@acme.example", "password.reset refused not_active", None),
        ("federated@acme.example", "password.reset done", Some("Your account has no password here")),
        ("never@acme.example", "password.reset refused unknown_account", None),
    ] {
        let mark = world.last_record().await;
        ask(&world, &email.to_uppercase()).await;
        assert_eq!(recorded(&world, mark).await, [told], "{email}");
        let record = world.records_after(mark).await.pop().unwrap();
        assert!(!format!("{record:?}").contains("never@"), "what was typed may be a password");
        assert_eq!(world.subjects_to(email).await.pop().as_deref(), subject, "{email}");
    }
    let federated = world.mail_to("federated@acme.example", 1).await;
    assert!(federated.text.contains("You sign in with Acme ID.") && !federated.text.contains("/reset-password/"));
}

async fn a2_asking_for_a_password_renews_no_invitation(world: World) {
    let maria = world.maria().await;
    let response = maria.post("/users/invite", &[("email", "ana@acme.example")]).await;
    assert!(response.status().is_success() || response.status().is_redirection());
    let link = world.mail_to("ana@acme.example", 1).await.link("/activate/");
    world.pass(SignedDuration::from_hours(23));
    for hours in [0, 1] {
        world.pass(SignedDuration::from_hours(hours));
        let mark = world.last_record().await;
        ask(&world, "ana@acme.example").await;
        assert_eq!(recorded(&world, mark).await, ["password.reset refused not_active"]);
        assert_eq!(world.subjects_to("ana@acme.example").await.len(), 1, "a stranger may be asking");
    }
    let form = [("name", "Eve"), ("password", PASSWORD)];
    let late = world.stranger().request(Method::POST, &link).form(&form).send().await.unwrap();
    assert_eq!(late.status(), StatusCode::GONE, "24 hours");
    assert_eq!(world.user_of("ana@acme.example").await.standing.status.0, Status::Pending);
}

async fn one_address_and_nothing_else_is_taken(world: World) {
    world.user(MARIA, Role::SuperAdmin).await;
    let mark = world.last_record().await;
    for body in [
        "email=maria%40acme.example&email=eve%40evil.example",
        "email[]=maria%40acme.example&email[]=eve%40evil.example",
        "email=maria%40acme.example%2Ceve%40evil.example",
        "email=maria%40acme.example%0D%0ABcc%3A%20eve%40evil.example",
        "email=maria%40acme.example%00eve%40evil.example",
        "email=maria%40acme.example%20eve%40evil.example",
        "",
    ] {
        let request =
            world.stranger().request(Method::POST, "/forgot-password").header(header::CONTENT_TYPE, FORM);
        let answer = request.body(body).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY, "protocol 41: {body}");
    }
    let page = ask(&world, "not an address").await.text().await.unwrap();
    assert!(page.contains("Enter an e-mail address") && page.contains("value=\"not an address\""), "{page}");
    assert!(world.told_after(mark).await.is_empty() && world.mails().await.is_empty());
}

async fn nobody_s_mailbox_is_flooded(world: World) {
    world.user(MARIA, Role::SuperAdmin).await;
    for n in 0..5 {
        let mark = world.last_record().await;
        assert_eq!(ask(&world, MARIA).await.status(), StatusCode::SEE_OTHER);
        let told = recorded(&world, mark).await;
        assert_eq!(told, [if n < 3 { "password.reset done" } else { "password.reset refused too_many" }]);
    }
    assert_eq!(world.subjects_to(MARIA).await.len(), 3);
    world.pass(SignedDuration::from_mins(61));
    let mark = world.last_record().await;
    ask(&world, MARIA).await;
    assert_eq!(recorded(&world, mark).await, ["password.reset done"]);
    // One network asks for many accounts.
    let mut answers = Vec::new();
    for n in 0..40 {
        answers.push(ask(&world, &format!("u{n}@acme.example")).await.status());
    }
    assert_eq!(answers[10], StatusCode::SEE_OTHER);
    assert_eq!(answers[39], StatusCode::TOO_MANY_REQUESTS, "{answers:?}");
}

async fn a_new_password_ends_every_session_and_tells_the_user(world: World) {
    let maria = world.maria().await;
    let other = world.another_node().await;
    ask(&world, MARIA).await;
    let older = world.mail_to(MARIA, 1).await.link("/reset-password/");
    world.pass(SignedDuration::from_secs(1));
    ask(&world, MARIA).await;
    let link = world.mail_to(MARIA, 2).await.link("/reset-password/");
    let post = |link: &str, password: &str| {
        world.stranger().request(Method::POST, link).form(&[("password", password)]).send()
    };
    assert_eq!(post(&older, NEW).await.unwrap().status(), StatusCode::GONE, "a newer one took its place");
    let weak = post(&link, "passwordpassword").await.unwrap();
    assert_eq!(weak.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let page = weak.text().await.unwrap();
    assert!(page.contains("among the first that guessing would try") && !page.contains("passwordpassword"));
    assert!(maria.is_signed_in().await, "asking changes nothing");
    let mark = world.last_record().await;
    world.pass(SignedDuration::from_secs(1));
    let done = post(&link, NEW).await.unwrap();
    assert_eq!(done.headers()["location"], "/sign-in?done=password");
    assert!(!done.headers().contains_key(header::SET_COOKIE));
    assert_eq!(world.told_after(mark).await, ["password.reset done"]);
    assert!(!maria.is_signed_in().await && !maria.at(&other).is_signed_in().await);
    let used = post(&link, PASSWORD).await.unwrap();
    assert_eq!(used.status(), StatusCode::GONE);
    assert_eq!(world.told_after(mark).await[1..], ["password.reset refused link_used"]);
    let unknown = post("/reset-password/not-a-token", PASSWORD).await.unwrap();
    assert_eq!(unknown.status(), StatusCode::NOT_FOUND);
    assert_eq!(world.told_after(mark).await[2..], ["password.reset refused link_unknown"]);
    assert!(used.text().await.unwrap().contains("This link was used already"));
    let sign_in = |password: &str| {
        world.stranger().request(Method::POST, "/sign-in").form(&[("email", MARIA), ("password", password)]).send()
    };
    assert_eq!(sign_in(PASSWORD).await.unwrap().status(), StatusCode::UNAUTHORIZED);
    assert_eq!(sign_in(NEW).await.unwrap().status(), StatusCode::SEE_OTHER);
    assert_eq!(world.subjects_to(MARIA).await.pop().unwrap(), "Your password was changed");
    world.pass(SignedDuration::from_hours(1));
    ask(&world, MARIA).await;
    let late = world.mail_to(MARIA, 4).await.link("/reset-password/");
    world.pass(SignedDuration::from_hours(1));
    let page = post(&late, NEW).await.unwrap();
    assert_eq!(page.status(), StatusCode::GONE);
    assert!(page.text().await.unwrap().contains("This link has expired"));
}

async fn a8_a_reset_ends_the_count_of_failures_but_not_with_mfa(world: World) {
    world.maria().await;
    let user = world.user_of(MARIA).await;
    for mfa in [false, true] {
        world.change(&user, |s| s.mfa_since = mfa.then(|| world.clock.now())).await;
        let sign_in = |password: &str| {
            world
                .stranger()
                .request(Method::POST, "/sign-in")
                .form(&[("email", MARIA), ("password", password)])
                .send()
        };
        for _ in 0..9 {
            world.pass(SignedDuration::from_mins(5));
            sign_in("wrong horse battery").await.unwrap();
        }
        assert_eq!(sign_in(NEW).await.unwrap().status(), StatusCode::TOO_MANY_REQUESTS);
        let count = world.mails().await.iter().filter(|m| m.to == MARIA).count();
        ask(&world, MARIA).await;
        let link = world.mail_to(MARIA, count + 1).await.link("/reset-password/");
        assert_eq!(sign_in(NEW).await.unwrap().status(), StatusCode::TOO_MANY_REQUESTS, "asking forgets nothing");
        let request = world.stranger().request(Method::POST, &link).form(&[("password", NEW)]);
        assert_eq!(request.send().await.unwrap().status(), StatusCode::SEE_OTHER);
        let answer = sign_in(NEW).await.unwrap();
        if mfa {
            assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS, "the mailbox is one factor of two");
            assert!(world.user_of(MARIA).await.standing.mfa_since.is_some(), "MFA stays on");
            world.pass(SignedDuration::from_mins(16));
            let answer = sign_in(NEW).await.unwrap();
            assert_eq!(answer.headers()["location"], "/sign-in/second-factor", "and is asked for");
        } else {
            assert_eq!(answer.headers()["location"], "/account/credentials");
        }
    }
}

async fn a_password_that_was_changed_takes_the_link_with_it(world: World) {
    let maria = world.maria().await;
    ask(&world, MARIA).await;
    let link = world.mail_to(MARIA, 1).await.link("/reset-password/");
    let form = [("present_password", PASSWORD), ("new_password", NEW)];
    assert_eq!(maria.post("/account/password", &form).await.headers()["location"], "/account?done=password");
    let request = world.stranger().request(Method::POST, &link).form(&[("password", PASSWORD)]);
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::GONE);
    assert!(answer.text().await.unwrap().contains("or the password was changed since"));
}

async fn what_a_stranger_writes_is_in_no_mail(world: World) {
    people(&world).await;
    for email in [MARIA, "federated@acme.example"] {
        world.pass(SignedDuration::from_secs(1));
        let request = world.stranger().request(Method::POST, "/forgot-password").form(&[("email", email)]);
        let agent = "Your account is blocked: call 555 0100 now";
        request.header(header::USER_AGENT, agent).send().await.unwrap();
        let mail = world.mail_to(email, 1).await;
        assert!(mail.text.contains("127.0.0.1"), "{}", mail.text);
        assert!(!mail.text.contains("555") && !mail.html.contains("555"), "{}", mail.text);
    }
}
