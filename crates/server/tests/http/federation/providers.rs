//! Setting providers up, testing and removing them.

use jiff::SignedDuration;
use portcullis_domain::accounts::{Role, Status, UserId};
use reqwest::StatusCode;
use serde_json::json;
use uuid::Uuid;

use super::{Hostile, Visitor, hostile::CLIENT_SECRET, location, scene, set_up, typed};
use crate::support::{PASSWORD, World, on_both};

on_both! {
    a_provider_is_set_up_changed_and_removed_and_its_secret_is_never_shown
    what_was_typed_wrongly_is_said_at_the_fields
    a_test_shows_the_claims_as_text_and_does_nothing
    a_test_is_for_the_super_admin_who_began_it
    a7_removing_a_provider_ends_its_sessions_and_leaves_passwords
    a3_a_provider_stays_without_which_no_super_admin_could_sign_in
    a3_removing_a_provider_and_demoting_who_has_a_password_at_once_leave_one_who_can_sign_in
    a9_the_last_super_admin_who_can_sign_in_is_not_deactivated
}

async fn a_provider_is_set_up_changed_and_removed_and_its_secret_is_never_shown(world: World) {
    let maria = world.maria().await;
    let hostile = Hostile::start(&world.clock).await;
    let mark = world.last_record().await;
    let id = set_up(&world, &maria, &hostile, true).await;
    let path = format!("/providers/{id}");
    let (status, page) = maria.page(&format!("{path}?done=made")).await;
    assert_eq!(status, StatusCode::OK);
    assert!(page.contains("The provider answers as it should.") && page.contains(&world.app.redirect_uri(id)));
    let text = id.to_string();
    let mut form = typed(&hostile, &text);
    form.retain(|(name, _)| *name != "client_secret" && *name != "name" && *name != "issuer");
    form.extend([("name", "Acme <b>Login</b>"), ("client_secret", ""), ("makes_users", "yes")]);
    assert_eq!(location(&maria.post(&path, &form).await), format!("{path}?done=changed"));
    assert_eq!(location(&Visitor::new(&world).sign_in(&hostile, id).await), "/", "the secret was kept");
    let (_, page) = maria.page(&path).await;
    assert!(page.contains("Acme &#60;b&#62;Login") && !page.contains("<b>Login"), "{page}");
    let (_, list) = maria.page("/providers").await;
    assert!(list.contains(hostile.url()) && list.contains("Get an account: User"));
    let (_, sign_in) = Visitor::new(&world).person().page("/sign-in").await;
    assert!(sign_in.contains("Sign in with Acme &#60;b&#62;Login"));
    let mark_unchanged = world.last_record().await;
    maria.post(&path, &form).await;
    assert!(world.told_after(mark_unchanged).await.is_empty(), "nothing changed, nothing recorded");
    let done = maria.post(&format!("{path}/remove"), &[]).await;
    assert_eq!(location(&done), "/providers?done=removed");
    assert_eq!(maria.get(&path).await.status(), StatusCode::NOT_FOUND);
    let records = world.records_after(mark).await;
    let changes: Vec<&str> =
        records.iter().filter(|r| r.event == "provider.change").map(|r| &*r.details).collect();
    assert_eq!(changes.len(), 3, "{changes:?}");
    assert!(changes[1].contains("Acme ID -> Acme <b>Login</b>"), "{changes:?}");
    let everything = format!("{records:?} {page} {list}");
    assert!(!everything.contains(CLIENT_SECRET) && !everything.contains("canary"), "L-2");
}

async fn what_was_typed_wrongly_is_said_at_the_fields(world: World) {
    let (maria, hostile, id) = scene(&world).await;
    let other = world.clock.id().to_string();
    let with = |field: &'static str, value: &'static str| {
        let mut form = typed(&hostile, &other);
        form.retain(|(name, _)| *name != field);
        form.push((field, value));
        form
    };
    let mark = world.last_record().await;
    for (form, words) in [
        (with("name", ""), "Enter a name"),
        (with("issuer", "http://id.acme.example"), "Enter the issuer"),
        (with("scopes", "email"), "openid among them"),
        (with("domains", "@"), "Enter domains"),
        (with("client_id", ""), "Enter the client id"),
        (typed(&hostile, &other), "There is a provider with this issuer already."),
    ] {
        let refused = maria.post("/providers/new", &form).await;
        assert_eq!(refused.status(), StatusCode::UNPROCESSABLE_ENTITY, "{words}");
        let page = refused.text().await.unwrap();
        assert!(page.contains(words) && !page.contains(CLIENT_SECRET), "{words}: {page}");
        assert!(page.contains(&format!("value=\"{other}\"")), "the address to register stays the same");
    }
    let text = id.to_string();
    let mut form = typed(&hostile, &text);
    form.retain(|(name, _)| *name != "name");
    form.push(("name", " "));
    assert_eq!(maria.post(&format!("/providers/{id}"), &form).await.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert!(world.told_after(mark).await.is_empty());
}

async fn a_test_shows_the_claims_as_text_and_does_nothing(world: World) {
    let (maria, hostile, id) = scene(&world).await;
    hostile.now(|m| {
        m.claims.insert("name".to_owned(), json!("<script>alert(1)</script>"));
        m.claims.insert("groups".to_owned(), json!(["<b>a</b>", "b"]));
    });
    let mark = world.last_record().await;
    let mut browser = Visitor::of(&maria);
    let there = browser.leave(&format!("/providers/{id}/test"), &[]).await;
    let response = browser.get(hostile.approve(&there).as_str()).await;
    assert_eq!(response.status(), StatusCode::OK);
    let page = response.text().await.unwrap();
    for shown in ["&#60;script&#62;alert(1)", "[&#34;&#60;b&#62;a&#60;/b&#62;&#34;", "ana-7", "ana@acme.example"] {
        assert!(page.contains(shown), "{shown}: {page}");
    }
    assert!(!page.contains("<script>alert") && !page.contains("access-canary"));
    assert!(world.told_after(mark).await.is_empty());
    let mut tx = world.app.store.read().await.unwrap();
    assert_eq!(tx.users(None, "", None, 10).await.unwrap().len(), 1, "nothing was made");
    drop(tx);
    // Refusals come back to the page of the provider, with our words.
    hostile.now(|m| m.refuses_codes = true);
    let there = browser.leave(&format!("/providers/{id}/test"), &[]).await;
    let response = browser.get(hostile.approve(&there).as_str()).await;
    assert_eq!(location(&response), format!("/providers/{id}?problem=code_refused"));
    let (_, page) = browser.person().page(&format!("/providers/{id}?problem=code_refused")).await;
    assert!(page.contains("The test did not succeed."));
}

async fn a_test_is_for_the_super_admin_who_began_it(world: World) {
    let (maria, hostile, id) = scene(&world).await;
    let ines = world.person("ines@acme.example", Role::SuperAdmin).await;
    let mut browser = Visitor::of(&maria);
    let there = browser.leave(&format!("/providers/{id}/test"), &[]).await;
    let back = hostile.approve(&there);
    browser.cookies.extend(Visitor::of(&ines).cookies);
    let response = browser.get(back.as_str()).await;
    assert_eq!(location(&response), format!("/providers/{id}?problem=not_this_browser"));
    let mut browser = Visitor::of(&ines);
    let there = browser.leave(&format!("/providers/{id}/test"), &[]).await;
    let user = world.user_of("ines@acme.example").await;
    world.change(&user, |s| s.role = (Role::User, world.clock.now())).await;
    let response = browser.get(hostile.approve(&there).as_str()).await;
    assert_eq!(response.status(), StatusCode::FORBIDDEN, "C-3: the role is read when it is needed");
}

async fn a7_removing_a_provider_ends_its_sessions_and_leaves_passwords(world: World) {
    let (maria, hostile, id) = scene(&world).await;
    let mut federated = Visitor::new(&world);
    federated.sign_in(&hostile, id).await;
    let (_, page) = maria.page(&format!("/providers/{id}/remove")).await;
    assert!(page.contains("1 user has no other way to sign in"), "{page}");
    // A visit that is under way when the provider goes ends with it.
    let mut under_way = Visitor::new(&world);
    let there = under_way.leave(&format!("/sign-in/provider/{id}"), &[]).await;
    let back = hostile.approve(&there);
    maria.post(&format!("/providers/{id}/remove"), &[]).await;
    assert_eq!(location(&under_way.get(back.as_str()).await), "/sign-in?problem=visit_over");
    assert!(!federated.person().is_signed_in().await, "its sessions end");
    assert!(maria.is_signed_in().await);
    let form = [("email", "maria@acme.example"), ("password", PASSWORD)];
    assert_eq!(location(&Visitor::new(&world).post("/sign-in", &form).await), "/account/credentials");
    // Set up again, the same issuer is the same authority.
    let again = set_up(&world, &maria, &hostile, false).await;
    assert_eq!(location(&federated.sign_in(&hostile, again).await), "/");
}

/// A Super Admin without a password, in a browser that signed in through the provider.
async fn federated_super_admin(world: &World, hostile: &Hostile, id: Uuid) -> Visitor {
    let mut browser = Visitor::new(world);
    browser.sign_in(hostile, id).await;
    let ana = world.user_of("ana@acme.example").await;
    world.change(&ana, |s| s.role = (Role::SuperAdmin, world.clock.now())).await;
    browser
}

/// How many active Super Admins can sign in.
async fn super_admins(world: &World) -> u64 {
    let nobody = UserId(Uuid::nil());
    world.app.store.read().await.unwrap().other_super_admins(nobody).await.unwrap()
}

async fn a3_a_provider_stays_without_which_no_super_admin_could_sign_in(world: World) {
    let (maria, hostile, id) = scene(&world).await;
    let mut ana = federated_super_admin(&world, &hostile, id).await;
    let (path, button) = (format!("/providers/{id}/remove"), ">Remove</button>");
    let (_, page) = ana.person().page(&path).await;
    assert!(page.contains(button) && !page.contains("It cannot be removed now."), "Maria has a password: {page}");
    let take = format!("/api/v1/users/{}/take-super-admin", world.user_of("maria@acme.example").await.id);
    assert_eq!(ana.person().post(&take, &[]).await.status(), StatusCode::OK, "Ana can sign in");

    let (_, page) = ana.person().page(&path).await;
    assert!(
        page.contains("no active Super Admin could sign in, so it stays.") && !page.contains(button),
        "{page}"
    );
    let mark = world.last_record().await;
    assert_eq!(location(&ana.post(&path, &[]).await), path);
    assert_eq!(world.told_after(mark).await, ["provider.change refused no_super_admin_left"]);
    assert!(ana.person().is_signed_in().await);
    assert_eq!(location(&Visitor::new(&world).sign_in(&hostile, id).await), "/account/credentials");

    let give = take.replace("take-", "give-");
    assert_eq!(ana.person().post(&give, &[]).await.status(), StatusCode::OK);
    assert_eq!(location(&ana.post(&path, &[]).await), "/providers?done=removed");
    assert_eq!(super_admins(&world).await, 1);
    assert!(maria.is_signed_in().await && !ana.person().is_signed_in().await);
    world.log_is_whole().await;
}

async fn a3_removing_a_provider_and_demoting_who_has_a_password_at_once_leave_one_who_can_sign_in(world: World) {
    let (maria, hostile, id) = scene(&world).await;
    let other = world.another_node().await;
    let ana = federated_super_admin(&world, &hostile, id).await.person().at(&other);
    assert_eq!(super_admins(&world).await, 2);
    let take = format!("/api/v1/users/{}/take-super-admin", world.user_of("maria@acme.example").await.id);
    let remove = format!("/providers/{id}/remove");
    let (removed, taken) = tokio::join!(maria.post(&remove, &[]), ana.post(&take, &[]));
    let done = [removed.status() == StatusCode::SEE_OTHER, taken.status() == StatusCode::OK];
    assert_eq!(done.iter().filter(|d| **d).count(), 1, "{} {}", removed.status(), taken.status());
    assert_eq!(super_admins(&world).await, 1);
    world.log_is_whole().await;
}

async fn a9_the_last_super_admin_who_can_sign_in_is_not_deactivated(first: World) {
    let world = first.of_its_kind(&[("deactivate_after_days", "90")]).await;
    let (maria, hostile, id) = scene(&world).await;
    federated_super_admin(&world, &hostile, id).await;
    let removed = maria.post(&format!("/providers/{id}/remove"), &[]).await;
    assert_eq!(location(&removed), "/providers?done=removed");
    // Ana is a Super Admin, too, but has no way to sign in any more.
    world.pass(SignedDuration::from_hours(24 * 90));
    world.app.sweep().await.unwrap();
    let status = async |email| world.user_of(email).await.standing.status.0;
    assert_eq!(status("maria@acme.example").await, Status::Active, "A-3");
    assert_eq!(status("ana@acme.example").await, Status::Inactive);
    world.sign_in("maria@acme.example").await;
}
