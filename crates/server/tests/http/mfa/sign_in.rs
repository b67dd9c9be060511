//! The second step: asked after the password, right once, over after five minutes or five errors.

use jiff::SignedDuration;
use portcullis_domain::{
    accounts::{Role, Status},
    federation::Identity,
};
use reqwest::{Method, StatusCode};
use serde_json::json;
use uuid::Uuid;

use super::{
    on_both_named,
    tab::{Page, Phone, SESSION, STEP, Tab},
};
use crate::{
    federation::{Hostile, link, set_up},
    support::{PASSWORD, World},
};

on_both_named! {
    a5_the_second_factor_is_asked_after_the_password_and_opens_a_session_of_a_new_id
    the_cookie_between_the_factors_opens_nothing
    protocol38_a_code_of_the_app_counts_once
    protocol38_of_twenty_parallel_uses_of_a_code_exactly_one_signs_in
    protocol38_a_recovery_code_counts_once_and_who_has_few_left_is_told
    protocol38_padded_codes_are_not_other_codes
    a_step_is_over_after_five_minutes_or_five_wrong_codes
    a_step_is_taken_once_and_never_by_another_browser_or_for_another_kind
    a_new_password_deactivation_and_mfa_turned_off_end_a_step
    a_federated_login_stays_one_after_the_second_factor
    a_first_factor_that_is_over_opens_nothing_with_the_second
    the_api_signs_in_with_password_and_code_in_one_request
}

const MARIA: &str = "maria@acme.example";

/// Maria with an authenticator app, signed in.
async fn maria(world: &World) -> (Tab, Phone, Vec<String>) {
    let person = world.maria().await;
    let mut tab = Tab::of(world, &person);
    let (phone, codes) = tab.set_up_app(world).await;
    (tab, phone, codes)
}

fn goes_on(page: &Page) -> bool {
    page.status == StatusCode::SEE_OTHER && !page.to.starts_with("/sign-in")
}

async fn a5_the_second_factor_is_asked_after_the_password_and_opens_a_session_of_a_new_id(world: World) {
    let (_, phone, _) = maria(&world).await;
    let mut tab = Tab::new(&world);
    tab.cookies.insert(SESSION.to_owned(), "planted-by-an-attacker".to_owned());
    let page = tab.post("/sign-in", &[("email", MARIA), ("password", PASSWORD), ("next", "/audit")]).await;
    assert_eq!((page.status, page.to.as_str()), (StatusCode::SEE_OTHER, "/sign-in/second-factor?next=/audit"));
    assert_eq!(tab.session().map(String::as_str), Some("planted-by-an-attacker"), "no session yet");
    let page = tab.get(&page.to).await;
    assert!(page.says("Code of your authenticator app") && page.says("Use a recovery code"), "{}", page.text);
    assert!(!page.stored);
    let mark = world.last_record().await;
    let wrong = tab.post("/sign-in/second-factor", &[("code", &phone.wrong(&world)), ("next", "/audit")]).await;
    assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);
    assert!(wrong.says("used already") && wrong.says("value=\"/audit\""));
    let done = tab.post("/sign-in/second-factor", &[("code", &phone.code(&world)), ("next", "/audit")]).await;
    assert_eq!((done.status, done.to.as_str()), (StatusCode::SEE_OTHER, "/audit"));
    assert!(!tab.cookies.contains_key(STEP), "the cookie of the step is gone");
    assert_ne!(tab.session().unwrap(), "planted-by-an-attacker", "protocol 30");
    assert!(tab.is_signed_in().await);
    assert_eq!(world.told_after(mark).await, ["sign_in refused wrong_code", "sign_in done"]);
    let records = world.records_after(mark).await;
    assert!(records[1].details.contains("password_and_mfa"), "{}", records[1].details);
    assert!(records[1].details.contains("authenticator_app"), "{}", records[1].details);
    world.log_is_whole().await;
}

async fn the_cookie_between_the_factors_opens_nothing(world: World) {
    maria(&world).await;
    let mut tab = Tab::new(&world);
    tab.password(MARIA).await;
    let step = tab.cookies[STEP].clone();
    tab.cookies.insert(SESSION.to_owned(), step);
    for path in ["/", "/account", "/account/credentials", "/account/mfa/app", "/audit"] {
        let page = tab.get(path).await;
        assert!(page.to.starts_with("/sign-in"), "{path}: {} {}", page.status, page.to);
    }
    let api = tab.get("/api/v1/me").await;
    assert_eq!(api.status, StatusCode::UNAUTHORIZED);
    let mut nobody = Tab::new(&world);
    let page = nobody.get("/sign-in/second-factor").await;
    assert_eq!(page.to, "/sign-in?done=again", "nor is there a second step without a first");
    assert_eq!(nobody.code("123456").await.to, "/sign-in?done=again");
}

async fn protocol38_a_code_of_the_app_counts_once(world: World) {
    let (_, phone, _) = maria(&world).await;
    let code = phone.code(&world);
    let (mut first, mut second) = (Tab::new(&world), Tab::new(&world));
    first.password(MARIA).await;
    second.password(MARIA).await;
    assert!(goes_on(&first.code(&code).await));
    let mark = world.last_record().await;
    let again = second.code(&code).await;
    assert_eq!(again.status, StatusCode::UNAUTHORIZED);
    assert_eq!(world.told_after(mark).await, ["sign_in refused code_used_already"]);
    world.pass(SignedDuration::from_secs(30));
    assert_eq!(second.code(&code).await.status, StatusCode::UNAUTHORIZED, "nor while its time runs out");
    assert!(goes_on(&second.code(&phone.code(&world)).await), "the next one does");
}

async fn protocol38_of_twenty_parallel_uses_of_a_code_exactly_one_signs_in(world: World) {
    let (_, phone, codes) = maria(&world).await;
    for code in [phone.code(&world), codes[0].clone()] {
        let mut tabs = Vec::new();
        for _ in 0..20u8 {
            let mut tab = Tab::new(&world);
            assert_eq!(tab.password(MARIA).await.to, "/sign-in/second-factor");
            tabs.push(tab);
        }
        let mut tasks = Vec::new();
        for mut tab in tabs {
            let code = code.clone();
            tasks.push(tokio::spawn(async move { goes_on(&tab.code(&code).await) }));
        }
        let mut right = 0;
        for task in tasks {
            right += u32::from(task.await.unwrap());
        }
        assert_eq!(right, 1, "{code}");
        world.pass(SignedDuration::from_mins(20));
    }
}

async fn protocol38_a_recovery_code_counts_once_and_who_has_few_left_is_told(world: World) {
    let (_, _, codes) = maria(&world).await;
    let mark = world.last_record().await;
    for (n, code) in codes.iter().take(7).enumerate() {
        let mut tab = Tab::new(&world);
        tab.password(MARIA).await;
        let page = tab.get("/sign-in/second-factor?with=recovery").await;
        assert!(page.says("Recovery code") && page.says("Use the authenticator app"));
        let typed = if n == 0 { code.to_uppercase().replace('-', " ") } else { code.clone() };
        let done = tab.code(&typed).await;
        assert!(goes_on(&done), "{n}: {}", done.status);
        assert_eq!(done.to == "/account", n == 6, "{n}: {}", done.to);
        if n == 6 {
            assert!(tab.get("/account").await.says("You have 3 recovery codes left."));
        }
    }
    let records = world.records_after(mark).await;
    assert!(records[0].details.contains("\"recovery_codes_left\":\"9\""), "{}", records[0].details);
    let mut tab = Tab::new(&world);
    tab.password(MARIA).await;
    assert_eq!(tab.code(&codes[0]).await.status, StatusCode::UNAUTHORIZED, "used already");
    assert!(goes_on(&tab.code(&codes[9]).await));
}

async fn protocol38_padded_codes_are_not_other_codes(world: World) {
    let (_, phone, codes) = maria(&world).await;
    let code = phone.code(&world);
    let others =
        [format!("0{code}"), code[1..].to_owned(), format!("{code}0"), format!("{} {}", &code[..3], &code[3..])];
    let mut tab = Tab::new(&world);
    tab.password(MARIA).await;
    for other in &others {
        assert_eq!(tab.code(other).await.status, StatusCode::UNAUTHORIZED, "{other}");
    }
    world.pass(SignedDuration::from_mins(20));
    tab.password(MARIA).await;
    for other in [format!("{}0", codes[0]), codes[0][1..].to_owned()] {
        assert_eq!(tab.code(&other).await.status, StatusCode::UNAUTHORIZED, "{other}");
        world.pass(SignedDuration::from_mins(1));
    }
    assert!(
        goes_on(&tab.code(&format!(" {}\n", phone.code(&world))).await),
        "white space around is no part of it"
    );
}

async fn a_step_is_over_after_five_minutes_or_five_wrong_codes(world: World) {
    let (_, phone, _) = maria(&world).await;
    let mut tab = Tab::new(&world);
    tab.password(MARIA).await;
    world.pass(SignedDuration::from_mins(5));
    assert_eq!(tab.code(&phone.code(&world)).await.to, "/sign-in?done=again");
    assert!(!tab.cookies.contains_key(STEP));
    assert!(tab.get("/sign-in?done=again").await.says("This took too long"));
    tab.password(MARIA).await;
    let mut stale = tab.copied();
    for n in 1..5 {
        assert_eq!(tab.code(&phone.wrong(&world)).await.status, StatusCode::UNAUTHORIZED, "{n}");
        world.pass(SignedDuration::from_secs(40));
    }
    assert_eq!(tab.code(&phone.wrong(&world)).await.to, "/sign-in?done=again", "the fifth ends it");
    world.pass(SignedDuration::from_secs(60));
    let late = stale.code(&phone.code(&world)).await;
    assert_eq!(late.to, "/sign-in?done=again", "for every tab");
}

async fn a_step_is_taken_once_and_never_by_another_browser_or_for_another_kind(world: World) {
    let (_, phone, codes) = maria(&world).await;
    let mut tab = Tab::new(&world);
    tab.password(MARIA).await;
    let mut copy = tab.copied();
    assert!(goes_on(&tab.code(&phone.code(&world)).await));
    let replayed = copy.code(&codes[0]).await;
    assert_eq!(replayed.to, "/sign-in?done=again", "a step that was taken is over");
    let mut other = Tab::new(&world);
    other.cookies.insert(STEP.to_owned(), "A".repeat(43));
    assert_eq!(other.code(&codes[0]).await.to, "/sign-in?done=again");
    let mut passkey = Tab::new(&world);
    assert_eq!(passkey.get("/sign-in/passkey").await.status, StatusCode::OK);
    assert!(passkey.cookies.contains_key(STEP));
    assert_eq!(passkey.code(&codes[0]).await.to, "/sign-in?done=again", "of another kind");
    let mut wrong_way = Tab::new(&world);
    wrong_way.password(MARIA).await;
    let page = wrong_way.post("/sign-in/passkey", &[("credential", "{}")]).await;
    assert_eq!(page.status, StatusCode::UNAUTHORIZED, "nor the other way round");
    assert!(!wrong_way.is_signed_in().await);
}

async fn a_new_password_deactivation_and_mfa_turned_off_end_a_step(world: World) {
    let (mut signed_in, phone, codes) = maria(&world).await;
    let mut tab = Tab::new(&world);
    tab.password(MARIA).await;
    let new = "violet harbor mosaic thunder";
    let form = [("present_password", PASSWORD), ("new_password", new)];
    assert_eq!(signed_in.post("/account/password", &form).await.to, "/account?done=password");
    assert_eq!(tab.code(&phone.code(&world)).await.to, "/sign-in?done=again", "the password was another");

    let user = world.user_of(MARIA).await;
    let begun = async |tab: &mut Tab| tab.post("/sign-in", &[("email", MARIA), ("password", new)]).await;
    begun(&mut tab).await;
    world.change(&user, |s| s.status = (Status::Inactive, world.clock.now())).await;
    let page = tab.code(&codes[0]).await;
    assert_eq!(page.status, StatusCode::FORBIDDEN, "{}", page.text);
    world.change(&user, |_| {}).await;
    assert_eq!(tab.code(&codes[0]).await.to, "/sign-in?done=again", "active again, but begun before");

    begun(&mut tab).await;
    world.change(&user, |s| s.mfa_since = None).await;
    let mark = world.last_record().await;
    assert_eq!(tab.code(&codes[0]).await.to, "/sign-in?done=again");
    assert_eq!(world.told_after(mark).await, ["sign_in refused mfa_off"]);
    assert!(!tab.is_signed_in().await);
}

/// Maria with MFA and an identity at a provider.
async fn linked(world: &World) -> (Tab, Phone, Hostile, Uuid, Identity) {
    let person = world.maria().await;
    let hostile = Hostile::start(&world.clock).await;
    let provider = set_up(world, &person, &hostile, false).await;
    let identity = link(world, &hostile, world.user_of(MARIA).await.id).await;
    let mut tab = Tab::of(world, &person);
    let (phone, _) = tab.set_up_app(world).await;
    (tab, phone, hostile, provider, identity)
}

async fn a_federated_login_stays_one_after_the_second_factor(world: World) {
    let (_, phone, hostile, provider, identity) = linked(&world).await;
    let mut tab = Tab::new(&world);
    assert_eq!(tab.through(&hostile, provider).await.0.to, "/sign-in/second-factor");
    assert!(tab.get("/sign-in/second-factor").await.says("Second factor"));
    let signed_in_at = async || {
        let found = world.app.store.read().await.unwrap().linked_identity(&identity).await.unwrap();
        found.unwrap().signed_in_at
    };
    assert_eq!(signed_in_at().await, None, "not yet");
    assert!(goes_on(&tab.code(&phone.code(&world)).await));
    assert_eq!(signed_in_at().await, Some(world.clock.now()));
    let account = tab.get("/account").await;
    assert!(account.says("Sign-in provider"), "the session says how it was opened");
    assert!(account.says("cannot be changed from a federated login"), "A-5");
    let mark = world.last_record().await;
    let off = tab.post("/account/mfa/off", &[("code", &phone.code(&world))]).await;
    assert_eq!(off.status, StatusCode::FORBIDDEN);
    assert_eq!(world.told_after(mark).await, ["mfa.disable refused federated_login"]);
}

async fn a_first_factor_that_is_over_opens_nothing_with_the_second(world: World) {
    let (mut signed_in, phone, hostile, provider, identity) = linked(&world).await;
    let refused = async |mut tab: Tab, why: &str| {
        let mark = world.last_record().await;
        assert_eq!(tab.code(&phone.code(&world)).await.to, "/sign-in?done=again", "{why}");
        assert!(!tab.is_signed_in().await);
        assert_eq!(world.told_after(mark).await, ["sign_in refused first_factor_over"], "{why}");
    };
    let mut tab = Tab::new(&world);
    tab.through(&hostile, provider).await;
    let key = signed_in.get("/account").await.attribute("name=\"unlink\" value").unwrap();
    let done = signed_in.post("/account/identities", &[("unlink", &key)]).await;
    assert_eq!(done.to, "/account?done=unlinked");
    refused(tab, "unlinked meanwhile").await;

    let maria = world.user_of(MARIA).await.id;
    assert_eq!(link(&world, &hostile, maria).await, identity);
    let mut tab = Tab::new(&world);
    tab.through(&hostile, provider).await;
    assert!(signed_in.post(&format!("/providers/{provider}/remove"), &[]).await.to.ends_with("done=removed"));
    refused(tab, "the provider removed meanwhile").await;

    // As if it were begun at the very moment at which the password is replaced elsewhere.
    let mut tab = Tab::new(&world);
    tab.password(MARIA).await;
    world.sql("UPDATE users SET password_hash = 'another'").await;
    refused(tab, "the password replaced meanwhile").await;
}

async fn the_api_signs_in_with_password_and_code_in_one_request(world: World) {
    let (_, phone, codes) = maria(&world).await;
    let ask = async |code: Option<&str>| {
        let mut body = json!({ "email": MARIA, "password": PASSWORD });
        if let Some(code) = code {
            body["code"] = code.into();
        }
        let sent = world.stranger().request(Method::POST, "/api/v1/session").json(&body).send().await.unwrap();
        let cookie = sent.headers().contains_key("set-cookie");
        let (status, body) = (sent.status(), sent.json::<serde_json::Value>().await.unwrap());
        assert_eq!(cookie, status == StatusCode::CREATED);
        (status.as_u16(), body["code"].as_str().unwrap_or_default().to_owned())
    };
    let word = |status, code: &str| (status, code.to_owned());
    assert_eq!(ask(None).await, word(403, "second_factor_needed"));
    assert_eq!(ask(Some(&phone.wrong(&world))).await, word(401, "wrong_code"));
    let code = phone.code(&world);
    assert_eq!(ask(Some(&code)).await, word(201, ""));
    assert_eq!(ask(Some(&code)).await, word(401, "wrong_code"), "protocol 38");
    assert_eq!(ask(Some(&codes[3])).await, word(201, ""));
    world.person("ana@acme.example", Role::User).await;
    let body = json!({ "email": "ana@acme.example", "password": PASSWORD, "code": "123456" });
    let sent = world.stranger().request(Method::POST, "/api/v1/session").json(&body).send().await.unwrap();
    assert_eq!(sent.status(), StatusCode::CREATED, "a code that nobody asked for is not looked at");
}
