//! Adding a second factor while MFA is on: another one is given for it, in the same session, and
//! counts once. What the page showed is no proof; the act that adds looks itself.

use jiff::SignedDuration;
use portcullis_domain::{accounts::Role, sessions::Opened};
use reqwest::StatusCode;

use super::{
    authenticator::Authenticator,
    on_both_named,
    tab::{Page, Phone, STEP, Tab},
};
use crate::support::{PASSWORD, World};

on_both_named! {
    a5_adding_a_factor_while_mfa_is_on_asks_for_a_factor
    a5_mfa_turned_on_meanwhile_is_looked_at_by_the_act_that_adds
    a8_wrong_factors_before_adding_are_counted_and_locked_out
    protocol38_what_proves_one_addition_proves_no_other
    a5_what_was_proven_is_one_sessions_one_users_and_over_after_five_minutes
    a5_what_was_proven_before_mfa_was_turned_off_and_on_again_does_not_count
    protocol39_a_passkey_that_is_there_proves_the_next_one
    protocol39_a_question_takes_one_answer_and_the_proof_before_it_stays
    a_key_shown_before_or_half_an_hour_ago_is_not_confirmed
    a5_a_passkey_alone_takes_a_passkey
    the_owner_is_told_by_mail_of_each_change_and_of_nothing_else
}

const MARIA: &str = "maria@acme.example";
const APP: &str = "/account/mfa/app";
const PASSKEY: &str = "/account/mfa/passkey";
const NEEDED: &str = "mfa.change refused second_factor_needed";

/// Maria with an app, signed in, and her recovery codes.
async fn with_app(world: &World) -> (Tab, Phone, Vec<String>) {
    let person = world.maria().await;
    let mut tab = Tab::of(world, &person);
    let (phone, codes) = tab.set_up_app(world).await;
    (tab, phone, codes)
}

/// Maria with a passkey, signed in, and her recovery codes.
async fn with_passkey(world: &World) -> (Tab, Authenticator, Vec<String>) {
    let person = world.maria().await;
    let mut tab = Tab::of(world, &person);
    let mut key = Authenticator::new(world);
    let codes = tab.add_passkey(&mut key, "Laptop").await.codes();
    assert_eq!(codes.len(), 10);
    (tab, key, codes)
}

/// Sends what adds a passkey, with a question that a page has asked.
async fn send_passkey(world: &World, tab: &mut Tab, options: &str) -> Page {
    let made = Authenticator::new(world).make(options);
    tab.post(PASSKEY, &[("name", "Mine"), ("credential", &made)]).await
}

fn asks_for_a_factor(page: &Page, status: StatusCode) -> bool {
    page.status == status
        && page.says("First give a second factor that you have")
        && page.element("key").is_none()
        && page.attribute("data-passkey-new").is_none()
}

async fn passkeys(world: &World) -> usize {
    let user = world.user_of(MARIA).await.id;
    world.app.store.read().await.unwrap().factors(user).await.unwrap().passkeys
}

async fn a5_adding_a_factor_while_mfa_is_on_asks_for_a_factor(world: World) {
    let (mut tab, phone, codes) = with_app(&world).await;
    let page = tab.get(PASSKEY).await;
    assert!(asks_for_a_factor(&page, StatusCode::OK), "{}", page.text);
    let mark = world.last_record().await;
    // By hand, without a factor: no question is known, and none is made up.
    for credential in ["", "{}"] {
        let page = tab.post(PASSKEY, &[("name", "Mine"), ("credential", credential)]).await;
        assert!(asks_for_a_factor(&page, StatusCode::FORBIDDEN), "{}", page.text);
    }
    assert_eq!(world.told_after(mark).await, [NEEDED; 2]);
    for nothing in [vec![], vec![("code", "")], vec![("credential", "{}")]] {
        let page = tab.post("/account/mfa/passkey/begin", &nothing).await;
        assert_eq!(page.status, StatusCode::UNAUTHORIZED);
        assert!(asks_for_a_factor(&tab.get(PASSKEY).await, StatusCode::OK));
    }
    assert_eq!(passkeys(&world).await, 0);
    let mark = world.last_record().await;
    tab.begin_passkey(&phone.code(&world)).await;
    let details = &world.records_after(mark).await[0].details;
    assert!(
        details.contains("\"second_factor\":\"authenticator_app\"") && details.contains("\"to_add\":\"passkey\"")
    );
    let added = tab.add_passkey(&mut Authenticator::new(&world), "Laptop").await;
    assert_eq!(added.to, "/account?done=mfa-passkey", "{}", added.text);
    assert_eq!(world.told_after(mark).await, ["mfa.confirm done", "mfa.change done"]);
    // An app beside a passkey likewise.
    tab.post("/account/mfa/app/remove", &[("code", &codes[0])]).await;
    assert!(asks_for_a_factor(&tab.get(APP).await, StatusCode::OK));
    let page = tab.post("/account/mfa/app/begin", &[("code", &codes[1])]).await;
    assert_eq!(page.to, APP);
    let page = tab.get(APP).await;
    assert!(page.says("Add the app"));
    let phone = Phone::scan(&page.element("key").unwrap());
    assert_eq!(tab.post(APP, &[("code", &phone.wrong(&world))]).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(tab.post(APP, &[("code", &phone.code(&world))]).await.to, "/account?done=mfa-app");
    world.log_is_whole().await;
}

async fn a5_mfa_turned_on_meanwhile_is_looked_at_by_the_act_that_adds(world: World) {
    let maria = world.maria().await;
    let mut tab = Tab::of(&world, &maria);
    let options = tab.get(PASSKEY).await.attribute("data-passkey-new").unwrap();
    let question = tab.cookies[STEP].clone();
    tab.set_up_app(&world).await;
    tab.cookies.insert(STEP.to_owned(), question);
    let mark = world.last_record().await;
    let page = send_passkey(&world, &mut tab, &options).await;
    assert!(asks_for_a_factor(&page, StatusCode::FORBIDDEN), "{}", page.text);
    assert_eq!(world.told_after(mark).await, [NEEDED]);
    assert_eq!(passkeys(&world).await, 0);

    let ana = world.person("ana@acme.example", Role::User).await;
    let mut hers = Tab::of(&world, &ana);
    let phone = Phone::scan(&hers.get(APP).await.element("key").unwrap());
    hers.add_passkey(&mut Authenticator::new(&world), "Laptop").await;
    let mark = world.last_record().await;
    let page = hers.post(APP, &[("code", &phone.code(&world))]).await;
    assert!(asks_for_a_factor(&page, StatusCode::FORBIDDEN), "{}", page.text);
    assert_eq!(world.told_after(mark).await, [NEEDED]);
}

async fn a8_wrong_factors_before_adding_are_counted_and_locked_out(world: World) {
    let (mut tab, phone, _) = with_app(&world).await;
    let begin = "/account/mfa/passkey/begin";
    for n in 0..5 {
        let wrong = phone.wrong(&world);
        let form = [("code", if n == 0 { "abcd-efgh-jkmn" } else { wrong.as_str() })];
        let mark = world.last_record().await;
        assert_eq!(tab.post(begin, &form).await.status, StatusCode::UNAUTHORIZED);
        assert_eq!(world.told_after(mark).await, ["mfa.confirm refused wrong_code"]);
    }
    let locked = tab.post(begin, &[("code", &phone.code(&world))]).await;
    assert_eq!(locked.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(asks_for_a_factor(&locked, StatusCode::TOO_MANY_REQUESTS) && locked.says("Too many attempts."));
    assert!(!tab.cookies.contains_key(STEP), "nothing was begun");
    // One count over all routes.
    let off = tab.post("/account/mfa/off", &[("code", &phone.code(&world))]).await;
    assert_eq!(off.status, StatusCode::TOO_MANY_REQUESTS);
    world.pass(SignedDuration::from_secs(2));
    tab.begin_passkey(&phone.code(&world)).await;
}

async fn protocol38_what_proves_one_addition_proves_no_other(world: World) {
    let (mut tab, phone, codes) = with_app(&world).await;
    tab.begin_passkey(&codes[0]).await;
    let begun = tab.cookies[STEP].clone();
    let again = tab.post("/account/mfa/passkey/begin", &[("code", &codes[0])]).await;
    assert_eq!(again.status, StatusCode::UNAUTHORIZED, "a recovery code counts once");
    tab.cookies.insert(STEP.to_owned(), begun.clone());
    let options = tab.get(PASSKEY).await.attribute("data-passkey-new").unwrap();
    assert_eq!(send_passkey(&world, &mut tab, &options).await.to, "/account?done=mfa-passkey");
    tab.cookies.insert(STEP.to_owned(), begun);
    let page = send_passkey(&world, &mut tab, &options).await;
    assert!(asks_for_a_factor(&page, StatusCode::FORBIDDEN), "it was taken: {}", page.text);
    assert_eq!(passkeys(&world).await, 1);

    // Two at once with one proof.
    tab.begin_passkey(&codes[1]).await;
    let options = tab.get(PASSKEY).await.attribute("data-passkey-new").unwrap();
    let mut other = tab.copied();
    let both = tokio::join!(send_passkey(&world, &mut tab, &options), send_passkey(&world, &mut other, &options));
    let added = [both.0, both.1].into_iter().filter(|page| page.to == "/account?done=mfa-passkey").count();
    assert_eq!((added, passkeys(&world).await), (1, 2));

    let mut tab = if tab.is_signed_in().await { tab } else { other };
    let code = phone.code(&world);
    tab.begin_passkey(&code).await;
    let again = tab.post("/account/mfa/passkey/begin", &[("code", &code)]).await;
    assert_eq!(again.status, StatusCode::UNAUTHORIZED, "nor does a code of the app count twice");
}

async fn a5_what_was_proven_is_one_sessions_one_users_and_over_after_five_minutes(world: World) {
    let (mut tab, _, codes) = with_app(&world).await;
    let user = world.user_of(MARIA).await;
    tab.begin_passkey(&codes[0]).await;
    let begun = tab.cookies[STEP].clone();
    let options = tab.get(PASSKEY).await.attribute("data-passkey-new").unwrap();

    let mut elsewhere = Tab::of(&world, &world.session_opened(&user, Opened::PasswordAndMfa).await);
    elsewhere.cookies.insert(STEP.to_owned(), begun.clone());
    assert!(asks_for_a_factor(&elsewhere.get(PASSKEY).await, StatusCode::OK), "of another session");
    elsewhere.cookies.insert(STEP.to_owned(), begun.clone());
    assert!(asks_for_a_factor(&send_passkey(&world, &mut elsewhere, &options).await, StatusCode::FORBIDDEN));

    let ana = world.person("ana@acme.example", Role::User).await;
    let mut hers = Tab::of(&world, &ana);
    hers.add_passkey(&mut Authenticator::new(&world), "Hers").await;
    hers.cookies.insert(STEP.to_owned(), begun.clone());
    assert!(asks_for_a_factor(&send_passkey(&world, &mut hers, &options).await, StatusCode::FORBIDDEN));

    // Of another kind: a sign-in that is between its factors, and what was begun for the other factor.
    let mut halfway = Tab::new(&world);
    halfway.password(MARIA).await;
    tab.cookies.insert(STEP.to_owned(), halfway.cookies[STEP].clone());
    assert!(asks_for_a_factor(&send_passkey(&world, &mut tab, &options).await, StatusCode::FORBIDDEN));
    tab.post("/account/mfa/app/remove", &[("code", &codes[1])]).await;
    assert_eq!(passkeys(&world).await, 0);

    let mut tab = Tab::of(&world, &world.person("paulo@acme.example", Role::User).await);
    let (_, codes) = tab.set_up_app(&world).await;
    tab.begin_passkey(&codes[0]).await;
    // Asking again does not make it last longer.
    for _ in 0..4 {
        world.pass(SignedDuration::from_secs(60));
        assert!(tab.get(PASSKEY).await.says("Add the passkey"));
    }
    let options = tab.get(PASSKEY).await.attribute("data-passkey-new").unwrap();
    let begun = tab.cookies[STEP].clone();
    world.pass(SignedDuration::from_secs(60));
    let form = [("password", PASSWORD), ("to", PASSKEY)];
    assert_eq!(tab.post("/account/mfa/password", &form).await.to, PASSKEY);
    tab.cookies.insert(STEP.to_owned(), begun);
    let page = send_passkey(&world, &mut tab, &options).await;
    assert!(asks_for_a_factor(&page, StatusCode::FORBIDDEN), "five minutes are over: {}", page.text);
}

async fn a5_what_was_proven_before_mfa_was_turned_off_and_on_again_does_not_count(world: World) {
    let (mut tab, phone, codes) = with_app(&world).await;
    tab.begin_passkey(&codes[0]).await;
    let options = tab.get(PASSKEY).await.attribute("data-passkey-new").unwrap();
    let begun = tab.cookies[STEP].clone();
    assert_eq!(tab.post("/account/mfa/off", &[("code", &phone.code(&world))]).await.to, "/account?done=mfa-off");
    tab.set_up_app(&world).await;
    tab.cookies.insert(STEP.to_owned(), begun);
    let page = send_passkey(&world, &mut tab, &options).await;
    assert!(asks_for_a_factor(&page, StatusCode::FORBIDDEN), "{}", page.text);
    assert_eq!(passkeys(&world).await, 0);
}

async fn protocol39_a_passkey_that_is_there_proves_the_next_one(world: World) {
    let (mut tab, mut key, _) = with_passkey(&world).await;
    let mut stranger = Authenticator::new(&world);
    stranger.user = key.user.clone();
    let wrong = tab.use_passkey_of(&mut stranger, PASSKEY, "/account/mfa/passkey/begin").await;
    assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);
    let right = tab.use_passkey_of(&mut key, PASSKEY, "/account/mfa/passkey/begin").await;
    assert_eq!(right.to, PASSKEY, "{}", right.text);
    let added = tab.add_passkey(&mut Authenticator::new(&world), "Key ring").await;
    assert_eq!(added.to, "/account?done=mfa-passkey");
    let right = tab.use_passkey_of(&mut key, APP, "/account/mfa/app/begin").await;
    assert_eq!(right.to, APP);
    let phone = Phone::scan(&tab.get(APP).await.element("key").unwrap());
    assert_eq!(tab.post(APP, &[("code", &phone.code(&world))]).await.to, "/account?done=mfa-app");
}

async fn protocol39_a_question_takes_one_answer_and_the_proof_before_it_stays(world: World) {
    let (mut tab, _, codes) = with_app(&world).await;
    tab.begin_passkey(&codes[0]).await;
    let mut key = Authenticator::new(&world);
    let origin = key.origin.clone();
    key.origin = "http://evil.example".to_owned();
    let options = tab.get(PASSKEY).await.attribute("data-passkey-new").unwrap();
    let question = tab.cookies[STEP].clone();
    let made = key.make(&options);
    let form = [("name", "Laptop"), ("credential", made.as_str())];
    let wrong = tab.post(PASSKEY, &form).await;
    assert!(wrong.status == StatusCode::UNAUTHORIZED && wrong.says("This passkey cannot be added."));
    assert!(wrong.attribute("data-passkey-new").is_some(), "another question");
    key.origin = origin;
    tab.cookies.insert(STEP.to_owned(), question);
    assert_eq!(send_passkey(&world, &mut tab, &options).await.status, StatusCode::UNAUTHORIZED, "to the old one");
    let unnamed = tab.post(PASSKEY, &[("name", " "), ("credential", "{}")]).await;
    assert_eq!(unnamed.status, StatusCode::UNPROCESSABLE_ENTITY);
    let added = tab.add_passkey(&mut key, "Laptop").await;
    assert_eq!(added.to, "/account?done=mfa-passkey", "{}", added.text);
}

async fn a_key_shown_before_or_half_an_hour_ago_is_not_confirmed(world: World) {
    let maria = world.maria().await;
    let mut tab = Tab::of(&world, &maria);
    let phone = Phone::scan(&tab.get(APP).await.element("key").unwrap());
    for _ in 0..2 {
        world.pass(SignedDuration::from_mins(15));
        assert!(tab.is_signed_in().await);
    }
    tab.post("/account/mfa/password", &[("password", PASSWORD), ("to", APP)]).await;
    let late = tab.post(APP, &[("code", &phone.code(&world))]).await;
    assert!(late.status == StatusCode::UNAUTHORIZED && late.says("Scan the new code."), "{}", late.text);
    let shown = late.element("key").unwrap();
    let phone = Phone::scan(&shown);
    // Whoever saw that key while MFA was off does not have the one that is confirmed later.
    let codes = tab.add_passkey(&mut Authenticator::new(&world), "Laptop").await.codes();
    assert_eq!(tab.post("/account/mfa/app/begin", &[("code", &codes[0])]).await.to, APP);
    let new = tab.get(APP).await.element("key").unwrap();
    assert_ne!(new, shown);
    assert_eq!(tab.post(APP, &[("code", &phone.code(&world))]).await.status, StatusCode::UNAUTHORIZED);
    let code = Phone::scan(&new).code(&world);
    assert_eq!(tab.post(APP, &[("code", &code)]).await.to, "/account?done=mfa-app");
}

async fn a5_a_passkey_alone_takes_a_passkey(world: World) {
    let (mut tab, phone, codes) = with_app(&world).await;
    let allow = async |tab: &mut Tab, code: &str| {
        tab.post("/account/mfa/passkey-alone", &[("code", code), ("allow", "yes")]).await.to
    };
    let mark = world.last_record().await;
    assert_eq!(allow(&mut tab, &codes[0]).await, "/account?done=mfa-no-passkey");
    assert_eq!(world.told_after(mark).await, ["mfa.change refused no_passkey"]);
    assert!(tab.get("/account?done=mfa-no-passkey").await.says("You have no passkey."));
    tab.begin_passkey(&codes[0]).await;
    tab.add_passkey(&mut Authenticator::new(&world), "Laptop").await;
    assert_eq!(allow(&mut tab, &codes[1]).await, "/account?done=mfa-alone");
    let user = world.user_of(MARIA).await.id;
    let id = world.app.store.read().await.unwrap().passkeys(user).await.unwrap()[0].id;
    let remove = format!("/account/mfa/passkeys/{id}/remove");
    assert_eq!(tab.post(&remove, &[("code", &phone.code(&world))]).await.to, "/account?done=mfa-removed");
    assert!(tab.get("/account").await.says("Not allowed: the password comes first"), "it went with the last one");
    tab.begin_passkey(&codes[2]).await;
    let mut key = Authenticator::new(&world);
    tab.add_passkey(&mut key, "Key ring").await;
    let mut alone = Tab::new(&world);
    alone.use_passkey(&mut key, "/sign-in/passkey").await;
    assert!(!alone.is_signed_in().await, "what was allowed for another passkey is not for this one");
}

async fn the_owner_is_told_by_mail_of_each_change_and_of_nothing_else(world: World) {
    let (mut tab, phone, codes) = with_app(&world).await;
    let told = async |words: &[&str], count: usize| {
        let mail = world.mail_to(MARIA, count).await;
        assert_eq!(mail.subject, "Your second factors changed");
        for words in words.iter().chain(&["from 127.0.0.1 (test/1)", "If this was not you", "/account"]) {
            assert!(mail.text.contains(words), "{words}: {}", mail.text);
        }
        assert!(codes.iter().all(|c| !mail.raw.contains(c)), "L-2");
        assert_eq!(world.mails().await.len(), count, "one for each act");
        world.pass(SignedDuration::from_secs(1));
    };
    told(&["turned on", "an authenticator app"], 1).await;
    tab.post("/account/mfa/passkey/begin", &[("code", &phone.wrong(&world))]).await;
    tab.begin_passkey(&codes[0]).await;
    told(&[], 1).await;
    tab.add_passkey(&mut Authenticator::new(&world), "Laptop").await;
    told(&["the passkey \u{201c}Laptop\u{201d}", "added"], 2).await;
    tab.post("/account/mfa/passkey-alone", &[("code", &codes[1]), ("allow", "yes")]).await;
    told(&["sign you in without your password"], 3).await;
    tab.post("/account/mfa/app/remove", &[("code", &codes[2])]).await;
    told(&["The authenticator app was removed."], 4).await;
    let new = tab.post("/account/mfa/recovery-codes", &[("code", &codes[3])]).await.codes();
    told(&["New recovery codes"], 5).await;
    tab.post("/account/mfa/off", &[("code", &new[0])]).await;
    told(&["turned off", "password alone"], 6).await;
    let codes = tab.add_passkey(&mut Authenticator::new(&world), "Key ring").await.codes();
    told(&["turned on", "Key ring"], 7).await;
    let user = world.user_of(MARIA).await.id;
    let id = world.app.store.read().await.unwrap().passkeys(user).await.unwrap()[0].id;
    tab.post(&format!("/account/mfa/passkeys/{id}/remove"), &[("code", &codes[0])]).await;
    told(&["Key ring", "turned multi-factor authentication off"], 8).await;
}
