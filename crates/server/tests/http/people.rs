//! Users: inviting, activating, the role, deactivating, deleting, MFA of another (A-2, A-3, A-5,
//! A-9), and what each does to the credential (C-10).

#[path = "people/recovery.rs"]
mod recovery;

use jiff::SignedDuration;
use portcullis_domain::accounts::{Role, Status, UserId};
use reqwest::{Method, Response, StatusCode, header};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{PASSWORD, Person, Program, World, json as json_of, on_both};

on_both! {
    a2_an_invited_user_activates_once_and_signs_in
    a2_a_second_account_for_an_address_is_refused_at_the_field
    a2_a_link_says_when_it_has_expired_was_replaced_or_is_not_one
    a2_a_link_used_by_many_at_once_activates_once
    a2_an_old_link_opens_no_account_that_is_closed
    a3_every_guard_holds_for_requests_made_by_hand
    a3_no_super_admin_does_to_anybody_what_the_rules_refuse
    a3_two_super_admins_who_demote_each_other_at_once_leave_one
    c10_deactivating_suspends_and_activating_resumes_on_every_node
    c10_taking_the_role_suspends_and_giving_it_resumes
    c10_deleting_revokes_for_good_and_frees_the_address
    a5_another_super_admin_turns_mfa_off_and_never_on
    what_will_happen_is_shown_before_it_does
    the_list_is_searched_and_paged_on_the_server
    protocol35_a_hostile_name_is_text_on_the_pages_of_users
    a9_dormant_accounts_are_deactivated_but_not_the_last_super_admin
    c6_owners_are_reminded_thirty_seven_and_one_days_before
}

const ANA: &str = "ana@acme.example";
const INES: &str = "ines@acme.example";
const MARIA: &str = "maria@acme.example";

async fn invite(by: &Person, email: &str) -> (StatusCode, Value) {
    let response =
        by.request(Method::POST, "/api/v1/users").json(&json!({ "email": email })).send().await.unwrap();
    (response.status(), json_of(response).await)
}

/// The path of the link that an invitation shows.
async fn invited(world: &World, by: &Person, email: &str) -> String {
    let (status, body) = invite(by, email).await;
    assert_eq!(status, StatusCode::CREATED, "{body}");
    body["activation_link"].as_str().unwrap().strip_prefix(&world.url).unwrap().to_owned()
}

async fn activate(world: &World, link: &str, name: &str, password: &str) -> Response {
    world
        .stranger()
        .request(Method::POST, link)
        .form(&[("name", name), ("password", password)])
        .send()
        .await
        .unwrap()
}

async fn api(by: &Person, whom: impl std::fmt::Display, act: &str) -> Response {
    by.request(Method::POST, &format!("/api/v1/users/{whom}/{act}")).send().await.unwrap()
}

async fn get(world: &World, path: &str) -> (StatusCode, String) {
    let response = world.stranger().request(Method::GET, path).send().await.unwrap();
    (response.status(), response.text().await.unwrap())
}

async fn a2_an_invited_user_activates_once_and_signs_in(world: World) {
    let maria = world.maria().await;
    let mark = world.last_record().await;
    let link = invited(&world, &maria, " Ana@ACME.example ").await;
    let mail = world.mail_to(ANA, 1).await;
    assert_eq!(mail.link("/activate/"), link);
    assert!(mail.text.contains("until 19 November 2026, 11:06 UTC"), "24 hours: {}", mail.text);
    let ana = world.user_of(ANA).await;
    assert_eq!((ana.standing.role.0, ana.standing.status.0), (Role::User, Status::Pending));
    let (status, page) = get(&world, &link).await;
    assert_eq!(status, StatusCode::OK);
    assert!(page.contains("Activate your account") && page.contains(ANA));
    get(&world, &link).await;
    let wrong = activate(&world, &link, " ", "short").await;
    assert_eq!(wrong.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let page = wrong.text().await.unwrap();
    assert!(page.contains("Enter a name.") && page.contains("Use at least 15 characters"), "{page}");
    let wrong = activate(&world, &link, "Ana Lima", "passwordpassword").await.text().await.unwrap();
    assert!(wrong.contains("value=\"Ana Lima\"") && !wrong.contains("passwordpassword"), "A-4: {wrong}");
    let done = activate(&world, &link, "Ana Lima", PASSWORD).await;
    assert_eq!(
        (done.status(), &done.headers()["location"]),
        (StatusCode::SEE_OTHER, &"/sign-in?done=activated".parse().unwrap())
    );
    assert!(!done.headers().contains_key(header::SET_COOKIE), "it signs nobody in");
    assert!(get(&world, "/sign-in?done=activated").await.1.contains("Your account is ready."));
    assert_eq!(world.told_after(mark).await, ["user.invite done", "user.activate done"]);
    let ana = world.sign_in(ANA).await;
    assert!(ana.page("/").await.1.contains("Welcome, Ana Lima"));
    assert_eq!(ana.get("/users").await.status(), StatusCode::FORBIDDEN);
    let (status, page) = get(&world, &link).await;
    assert_eq!(status, StatusCode::GONE);
    assert!(page.contains("This link was used already") && page.contains("href=\"/sign-in\""), "{page}");
    assert_eq!(activate(&world, &link, "Eve", PASSWORD).await.status(), StatusCode::GONE);
    assert_eq!(world.user_of(ANA).await.name.as_str(), "Ana Lima");
    world.log_is_whole().await;
}

async fn a2_a_second_account_for_an_address_is_refused_at_the_field(world: World) {
    let maria = world.maria().await;
    let link = invited(&world, &maria, ANA).await;
    for taken in [ANA, "ANA@acme.example", MARIA] {
        let (status, body) = invite(&maria, taken).await;
        assert_eq!((status, &body["errors"][0]["field"]), (StatusCode::UNPROCESSABLE_ENTITY, &"email".into()));
        let page = maria.post("/users/invite", &[("email", taken)]).await;
        assert_eq!(page.status(), StatusCode::UNPROCESSABLE_ENTITY);
        let page = page.text().await.unwrap();
        assert!(page.contains("There is an account with this e-mail address already.") && page.contains(taken));
    }
    let page = maria.post("/users/invite", &[("email", "nobody")]).await.text().await.unwrap();
    assert!(page.contains("Enter an e-mail address") && page.contains("value=\"nobody\""), "{page}");
    assert_eq!(world.mails().await.len(), 1);
    // Deleting frees the address; the link of the deleted account opens nothing.
    let id = world.user_of(ANA).await.id;
    assert_eq!(api(&maria, id, "delete").await.status(), StatusCode::OK);
    let newer = invited(&world, &maria, ANA).await;
    assert_eq!(activate(&world, &link, "Eve", PASSWORD).await.status(), StatusCode::NOT_FOUND);
    assert_eq!(activate(&world, &newer, "Ana", PASSWORD).await.status(), StatusCode::SEE_OTHER);
}

async fn a2_a_link_says_when_it_has_expired_was_replaced_or_is_not_one(world: World) {
    let maria = world.maria().await;
    let first = invited(&world, &maria, ANA).await;
    let id = world.user_of(ANA).await.id;
    world.pass(SignedDuration::from_mins(1));
    let again = json_of(api(&maria, id, "invite-again").await).await;
    let second = again["activation_link"].as_str().unwrap().strip_prefix(&world.url).unwrap().to_owned();
    let (status, page) = get(&world, &first).await;
    assert_eq!(status, StatusCode::GONE);
    assert!(
        page.contains("This link was replaced") && page.contains("ask a Super Admin to invite you again"),
        "{page}"
    );
    assert_eq!(activate(&world, &first, "Ana", PASSWORD).await.status(), StatusCode::GONE);
    world.pass(SignedDuration::from_hours(24) - SignedDuration::from_secs(1));
    assert_eq!(get(&world, &second).await.0, StatusCode::OK);
    world.pass(SignedDuration::from_secs(1));
    let (status, page) = get(&world, &second).await;
    assert_eq!(status, StatusCode::GONE);
    assert!(
        page.contains("Ask a Super Admin to invite you again.") && !page.contains("/forgot-password"),
        "{page}"
    );
    assert_eq!(activate(&world, &second, "Ana", PASSWORD).await.status(), StatusCode::GONE);
    for unknown in
        ["/activate/not-a-token", "/reset-password/not-a-token", &second.replace("activate", "reset-password")]
    {
        let (status, page) = get(&world, unknown).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "a link of one kind never serves as another: {unknown}");
        assert!(page.contains("This link is not valid") && !page.contains(ANA), "{page}");
    }
    assert_eq!(world.user_of(ANA).await.standing.status.0, Status::Pending);
}

async fn a2_a_link_used_by_many_at_once_activates_once(world: World) {
    let maria = world.maria().await;
    let other = world.another_node().await;
    let link = invited(&world, &maria, ANA).await;
    let mark = world.last_record().await;
    let mut all = tokio::task::JoinSet::new();
    for n in 0..6 {
        let node = if n % 2 == 0 { &world } else { &other };
        let form = [("name", format!("Ana {n}")), ("password", PASSWORD.to_owned())];
        let request = node.stranger().request(Method::POST, &link).form(&form);
        all.spawn(async move { request.send().await.unwrap().status() });
    }
    let answers = all.join_all().await;
    assert_eq!(answers.iter().filter(|s| **s == StatusCode::SEE_OTHER).count(), 1, "{answers:?}");
    let told = world.told_after(mark).await;
    assert_eq!(told.iter().filter(|t| *t == "user.activate done").count(), 1, "{told:?}");
    assert!(told.iter().all(|t| t.starts_with("user.activate")), "{told:?}");
}

async fn a2_an_old_link_opens_no_account_that_is_closed(world: World) {
    let maria = world.maria().await;
    world.user(ANA, Role::User).await;
    let ana = world.user_of(ANA).await;
    world.stranger().request(Method::POST, "/forgot-password").form(&[("email", ANA)]).send().await.unwrap();
    let reset = world.mail_to(ANA, 1).await.link("/reset-password/");
    assert_eq!(get(&world, &reset).await.0, StatusCode::OK);
    // Closed past the pages: then the link is there, and how the account stands decides.
    world.change(&ana, |s| s.status.0 = Status::Inactive).await;
    assert_eq!(get(&world, &reset).await.0, StatusCode::NOT_FOUND);
    world.change(&ana, |s| s.status.0 = Status::Active).await;
    assert_eq!(get(&world, &reset).await.0, StatusCode::OK);
    for act in ["deactivate", "activate"] {
        assert_eq!(api(&maria, ana.id, act).await.status(), StatusCode::OK);
        assert_eq!(get(&world, &reset).await.0, StatusCode::NOT_FOUND, "{act}: gone with the deactivation");
    }
    let form = [("password", "violet harbor mosaic thunder")];
    let used = world.stranger().request(Method::POST, &reset).form(&form).send().await.unwrap();
    assert_eq!(used.status(), StatusCode::NOT_FOUND);
    world.sign_in(ANA).await;
}

const ACTS: [(&str, &str); 7] = [
    ("invite-again", "user.invite"),
    ("activate", "user.activate"),
    ("deactivate", "user.deactivate"),
    ("delete", "user.delete"),
    ("give-super-admin", "role.change"),
    ("take-super-admin", "role.change"),
    ("turn-mfa-off", "mfa.disable"),
];

async fn a3_every_guard_holds_for_requests_made_by_hand(world: World) {
    let maria = world.maria().await;
    let program = maria.generate().await;
    let token = program.token().await;
    let ana = world.person(ANA, Role::User).await;
    let ines = world.user(INES, Role::SuperAdmin).await;
    let before = format!("{:?}", world.user_of(INES).await);
    for (act, event) in ACTS {
        let path = format!("/api/v1/users/{}/{act}", ines.id);
        let mark = world.last_record().await;
        let by_ana = api(&ana, ines.id, act).await;
        assert_eq!(
            (by_ana.status(), &json_of(by_ana).await["code"]),
            (StatusCode::FORBIDDEN, &"not_super_admin".into())
        );
        let page = ana.post(&format!("/users/{}/{act}", ines.id), &[]).await;
        assert_eq!(page.status(), StatusCode::FORBIDDEN);
        let by_token = program.with(&token, Method::POST, &path).send().await.unwrap();
        assert_eq!(
            (by_token.status(), &json_of(by_token).await["code"]),
            (StatusCode::FORBIDDEN, &"not_with_a_token".into())
        );
        let told = |why: &str| format!("{event} refused {why}");
        let expected = [told("not_super_admin"), told("not_super_admin"), told("not_with_a_token")];
        assert_eq!(world.told_after(mark).await, expected, "{act}");
        let nobody = api(&maria, "01900000-0000-7000-8000-000000000000", act).await;
        assert_eq!(nobody.status(), StatusCode::NOT_FOUND);
    }
    let by_token = program.with(&token, Method::POST, "/api/v1/users").json(&json!({ "email": "x@acme.example" }));
    assert_eq!(json_of(by_token.send().await.unwrap()).await["code"], "not_with_a_token");
    assert_eq!(invite(&ana, "x@acme.example").await.1["code"], "not_super_admin");
    assert_eq!(format!("{:?}", world.user_of(INES).await), before, "nothing was done");
    world.log_is_whole().await;
}

async fn a3_no_super_admin_does_to_anybody_what_the_rules_refuse(world: World) {
    let maria = world.maria().await;
    world.user(ANA, Role::User).await;
    let ines = world.user(INES, Role::SuperAdmin).await;
    let me = world.user_of(MARIA).await.id;
    let before = format!("{:?}", world.user_of(INES).await);
    for (act, why) in [
        ("take-super-admin", "own_role"),
        ("deactivate", "own_access"),
        ("delete", "own_account"),
        ("turn-mfa-off", "own_mfa"),
    ] {
        for whom in ["me".to_owned(), me.to_string()] {
            let mark = world.last_record().await;
            let refused = api(&maria, &whom, act).await;
            assert_eq!((refused.status(), &json_of(refused).await["code"]), (StatusCode::FORBIDDEN, &why.into()));
            let page = maria.post(&format!("/users/{whom}/{act}"), &[]).await;
            assert_eq!(page.status(), StatusCode::FORBIDDEN);
            assert!(page.text().await.unwrap().contains("role=\"alert\""), "said on the user's page");
            assert_eq!(world.told_after(mark).await.len(), 2);
        }
    }
    for (act, why) in [
        ("invite-again", "not_pending"),
        ("activate", "not_inactive"),
        ("give-super-admin", "already_super_admin"),
        ("turn-mfa-off", "mfa_is_off"),
    ] {
        let refused = api(&maria, ines.id, act).await;
        assert_eq!((refused.status(), &json_of(refused).await["code"]), (StatusCode::CONFLICT, &why.into()));
    }
    assert_eq!(format!("{:?}", world.user_of(INES).await), before, "nothing was done");
    let gone = world.user_of(ANA).await.id;
    assert_eq!(api(&maria, gone, "delete").await.status(), StatusCode::OK);
    for (act, _) in ACTS {
        let refused = api(&maria, gone, act).await;
        assert_eq!(
            (refused.status(), &json_of(refused).await["code"]),
            (StatusCode::CONFLICT, &"deleted".into()),
            "{act}"
        );
    }
    world.log_is_whole().await;
}

/// How many active Super Admins can sign in.
async fn super_admins(world: &World) -> u64 {
    let nobody = UserId(Uuid::nil());
    world.app.store.read().await.unwrap().other_super_admins(nobody).await.unwrap()
}

async fn a3_two_super_admins_who_demote_each_other_at_once_leave_one(world: World) {
    let other = world.another_node().await;
    let maria = world.maria().await;
    let ines = world.person(INES, Role::SuperAdmin).await.at(&other);
    let (m, i) = (world.user_of(MARIA).await, world.user_of(INES).await);
    for act in ["take-super-admin", "deactivate", "delete"] {
        let (a, b) = tokio::join!(api(&maria, i.id, act), api(&ines, m.id, act));
        let done = [a.status(), b.status()].iter().filter(|s| **s == StatusCode::OK).count();
        assert_eq!(done, 1, "{act}: {} {}", a.status(), b.status());
        assert_eq!(super_admins(&world).await, 1, "{act}");
        if act == "take-super-admin" {
            for user in [&m, &i] {
                world.change(user, |s| s.role.0 = Role::SuperAdmin).await;
            }
        } else {
            break;
        }
    }
    world.log_is_whole().await;
}

struct Two {
    world: World,
    other: World,
    maria: Person,
    ines: Person,
    id: String,
    program: Program,
    token: String,
    watcher: Program,
}

/// Ines, a Super Admin with a credential and a token, whom Maria manages.
async fn two(world: World) -> Two {
    let other = world.another_node().await;
    let maria = world.maria().await;
    let watcher = world.watcher().await;
    let ines = world.person(INES, Role::SuperAdmin).await;
    let program = ines.generate().await;
    let token = program.token().await;
    let id = world.user_of(INES).await.id.to_string();
    Two { world, other, maria, ines, id, program, token, watcher }
}

impl Two {
    async fn does(&self, act: &str, expected: &[&str]) {
        // Mails stand in the order of their instants.
        self.world.pass(SignedDuration::from_secs(1));
        let mark = self.world.last_record().await;
        let done = self.maria.post(&format!("/users/{}/{act}", self.id), &[]).await;
        assert_eq!(done.status(), StatusCode::SEE_OTHER, "{act}");
        assert_eq!(self.world.told_after(mark).await, expected, "{act}");
    }

    async fn works(&self) -> bool {
        let mut seen = Vec::new();
        for node in [&self.world, &self.other] {
            seen.push(self.watcher.at(node).is_active(&self.token).await);
            let me = self.program.at(node).with(&self.token, Method::GET, "/api/v1/me").send().await.unwrap();
            seen.push(me.status() == StatusCode::OK);
            seen.push(self.program.at(node).ask().await.status() == StatusCode::OK);
        }
        assert!(seen.iter().all(|s| *s == seen[0]), "C-11: {seen:?}");
        seen[0]
    }

    async fn is_in(&self) -> bool {
        let (a, b) = (self.ines.is_signed_in().await, self.ines.at(&self.other).is_signed_in().await);
        assert_eq!(a, b);
        a
    }
}

async fn c10_deactivating_suspends_and_activating_resumes_on_every_node(world: World) {
    let two = two(world).await;
    assert!(two.works().await && two.is_in().await);
    two.does("deactivate", &["user.deactivate done", "credential.suspend done"]).await;
    assert!(!two.works().await && !two.is_in().await, "out with the next request");
    assert!(two.maria.page(&format!("/users/{}", two.id)).await.1.contains("suspended"));
    two.does("activate", &["user.activate done", "credential.resume done"]).await;
    assert!(two.works().await, "suspended, not deleted");
    assert!(!two.is_in().await, "the old session stays dead");
    let subjects = two.world.subjects_to(INES).await;
    let begins = ["Credentials generated", "Credentials suspended", "Credentials work again"];
    assert!(subjects.iter().zip(begins).all(|(s, b)| s.starts_with(b)) && subjects.len() == 3, "{subjects:?}");
}

async fn c10_taking_the_role_suspends_and_giving_it_resumes(world: World) {
    let two = two(world).await;
    two.does("take-super-admin", &["role.change done", "credential.suspend done"]).await;
    assert!(!two.works().await);
    assert!(two.is_in().await, "the session stays, without the rights");
    for path in ["/users", "/account/credentials", "/audit", "/mail"] {
        assert_eq!(two.ines.at(&two.other).get(path).await.status(), StatusCode::FORBIDDEN, "{path}");
    }
    two.does("give-super-admin", &["role.change done", "credential.resume done"]).await;
    assert!(two.works().await);
    let record = two.world.records_after(0).await.into_iter().rfind(|r| r.event == "role.change").unwrap();
    assert_eq!(record.details, "{\"role\":\"user -> super_admin\"}");
}

async fn c10_deleting_revokes_for_good_and_frees_the_address(world: World) {
    let two = two(world).await;
    two.does("delete", &["user.delete done", "credential.revoke done"]).await;
    assert!(!two.works().await && !two.is_in().await);
    assert_eq!(two.maria.get(&format!("/users/{}", two.id)).await.status(), StatusCode::NOT_FOUND);
    assert!(!two.maria.page("/users").await.1.contains(INES));
    let told = two.program.ask().await;
    assert!(json_of(told).await["error_description"].as_str().unwrap().contains("its owner was deleted"));
    let last = two.world.subjects_to(INES).await.pop().unwrap();
    assert!(last.starts_with("Credentials revoked"), "{last}");
    let link = invited(&two.world, &two.maria, INES).await;
    assert_eq!(activate(&two.world, &link, "Another", PASSWORD).await.status(), StatusCode::SEE_OTHER);
    assert!(!two.works().await, "the new account is another one");
}

async fn a5_another_super_admin_turns_mfa_off_and_never_on(world: World) {
    let two = two(world).await;
    let ines = two.world.user_of(INES).await;
    two.world.change(&ines, |s| s.mfa_since = Some(two.world.clock.now())).await;
    assert!(!two.works().await, "C-9");
    two.does("turn-mfa-off", &["mfa.disable done", "credential.resume done"]).await;
    assert!(two.works().await && two.is_in().await, "it ends nothing else");
    assert!(two.world.user_of(INES).await.standing.mfa_since.is_none());
    let subjects = two.world.subjects_to(INES).await;
    let mail = two.world.mails().await.into_iter().find(|m| m.text.contains("Maria Rocha") && m.to == INES);
    assert!(mail.is_some(), "the user is told who did it: {subjects:?}");
    for on in ["turn-mfa-on", "mfa", "enable-mfa"] {
        assert_eq!(api(&two.maria, &two.id, on).await.status(), StatusCode::NOT_FOUND);
    }
}

async fn what_will_happen_is_shown_before_it_does(world: World) {
    let two = two(world).await;
    let client_id = &two.program.client_id;
    let mark = two.world.last_record().await;
    for (act, words) in [
        ("deactivate", format!("The credential {client_id} is suspended")),
        ("take-super-admin", format!("The credential {client_id} is suspended")),
        ("delete", format!("The credential {client_id} is revoked at once, for good")),
    ] {
        let (status, page) = two.maria.page(&format!("/users/{}/{act}", two.id)).await;
        assert_eq!(status, StatusCode::OK);
        assert!(page.contains(&words) && !page.contains("pcs_"), "{act}: {page}");
    }
    let (status, page) = two.maria.page(&format!("/users/{}/activate", two.id)).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(page.contains("Only an inactive user can be activated here."), "{page}");
    assert!(two.world.told_after(mark).await.is_empty(), "looking does nothing");
    two.does("deactivate", &["user.deactivate done", "credential.suspend done"]).await;
    let (_, page) = two.maria.page(&format!("/users/{}/activate", two.id)).await;
    assert!(page.contains(&format!("The credential {client_id} works again at once")), "{page}");
    let (_, page) = two.maria.page(&format!("/users/{}", two.id)).await;
    assert!(page.contains("Never") || page.contains("Last sign-in"), "{page}");
    assert!(page.contains(client_id) && !page.contains(&two.program.client_secret));
}

async fn the_list_is_searched_and_paged_on_the_server(world: World) {
    let maria = world.maria().await;
    for n in 0..60 {
        invite(&maria, &format!("guest{n:02}@acme.example")).await;
    }
    let rows = |page: &str| page.matches("<tr role=\"row\">").count() - 1;
    let (_, page) = maria.page("/users").await;
    assert_eq!(rows(&page), 50);
    let next = page.split("href=\"/users?after=").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let (_, page) = maria.page(&format!("/users?after={next}")).await;
    assert_eq!(rows(&page), 11);
    assert!(page.contains("First page") && !page.contains("Next page"));
    let (_, page) = maria.page("/users?search=GUEST0&status=pending_activation").await;
    assert_eq!(rows(&page), 10);
    let (_, page) = maria.page("/users?search=%22%3E%3Cimg+src%3Dx%3E&status=active").await;
    assert!(page.contains("No user matches.") && !page.contains("<img"), "{page}");
    let (_, page) = maria.page("/users?search=rocha").await;
    assert_eq!(rows(&page), 1);
    // A whole address is one user's, whoever else has it as a part.
    invite(&maria, "myguest07@acme.example").await;
    let (_, page) = maria.page("/users?search=guest07%40acme").await;
    assert_eq!(rows(&page), 2);
    let (_, page) = maria.page("/users?search=+Guest07%40acme.example").await;
    assert_eq!(rows(&page), 1);
    assert!(!page.contains("myguest07"), "{page}");
    let (_, page) = maria.page("/users?search=guest07%40acme.example&status=active").await;
    assert!(page.contains("No user matches."), "{page}");
    assert_eq!(maria.get("/users?after=forged").await.status(), StatusCode::UNPROCESSABLE_ENTITY);
}

async fn protocol35_a_hostile_name_is_text_on_the_pages_of_users(world: World) {
    const NAME: &str = "<img src=x onerror=alert(1)>\"'><script>alert(2)</script>";
    let maria = world.maria().await;
    let ana = world.person(ANA, Role::User).await;
    ana.post("/account/profile", &[("name", NAME), ("language", "en-001"), ("time_zone", "UTC")]).await;
    let id = world.user_of(ANA).await.id;
    for path in ["/users".to_owned(), format!("/users/{id}"), format!("/users/{id}/delete")] {
        let (status, page) = maria.page(&path).await;
        assert_eq!(status, StatusCode::OK);
        assert!(page.contains("&#60;img src=x") && !page.contains("<img") && !page.contains("<script>"), "{page}");
    }
}

async fn a9_dormant_accounts_are_deactivated_but_not_the_last_super_admin(first: World) {
    let world = first.of_its_kind(&[("deactivate_after_days", "90")]).await;
    world.maria().await;
    let ana = world.person(ANA, Role::User).await;
    let two_admins = world.person(INES, Role::SuperAdmin).await;
    let program = two_admins.generate().await;
    world.pass(SignedDuration::from_hours(24 * 89));
    program.token().await;
    let paulo = world.person("paulo@acme.example", Role::User).await;
    let mark = world.last_record().await;
    world.app.sweep().await.unwrap();
    assert!(world.told_after(mark).await.is_empty(), "89 days");
    world.pass(SignedDuration::from_hours(24));
    let paulo = {
        drop(paulo);
        world.sign_in("paulo@acme.example").await
    };
    let mark = world.last_record().await;
    world.app.sweep().await.unwrap();
    let told = world.told_after(mark).await;
    assert_eq!(told.iter().filter(|t| *t == "user.deactivate done").count(), 2, "{told:?}");
    assert_eq!(world.user_of(ANA).await.standing.status.0, Status::Inactive);
    assert!(paulo.is_signed_in().await && !ana.is_signed_in().await);
    assert_eq!(super_admins(&world).await, 1, "A-3");
    let by = world.records_after(mark).await;
    assert!(by.iter().filter(|r| r.event == "user.deactivate").all(|r| r.by.0 == "server"));
    let mark = world.last_record().await;
    world.app.sweep().await.unwrap();
    assert!(world.told_after(mark).await.is_empty(), "once");
    world.log_is_whole().await;
}

async fn c6_owners_are_reminded_thirty_seven_and_one_days_before(world: World) {
    let maria = world.maria().await;
    maria.generate().await;
    let other = world.another_node().await;
    let days = |n: i64| SignedDuration::from_hours(24 * n);
    let mut told = Vec::new();
    world.pass(days(3650 - 31));
    for passed in [0, 1, 5, 18, 1, 5, 1, 1] {
        world.pass(days(passed));
        let (a, b) = tokio::join!(world.app.sweep(), other.app.sweep());
        a.unwrap();
        b.unwrap();
        let subjects = world.subjects_to(MARIA).await;
        told.push(subjects.iter().filter(|s| s.starts_with("Credentials expire")).count());
    }
    assert_eq!(told, [0, 1, 1, 2, 2, 3, 3, 3]);
    let subjects = world.subjects_to(MARIA).await;
    assert!(subjects.last().unwrap().starts_with("Credentials expire within a day"), "{subjects:?}");
}
