//! Passkeys (protocol 39): origin, challenge, user verification, counter; one that was removed does
//! nothing; and a passkey alone.

use portcullis_domain::accounts::{Role, Status};
use reqwest::StatusCode;

use super::{authenticator::Authenticator, on_both_named, tab::Tab};
use crate::support::World;

on_both_named! {
    a5_a_passkey_is_a_second_factor_and_a_removed_one_is_none
    protocol39_an_answer_to_another_question_or_from_another_place_is_none
    protocol39_a_passkey_is_not_made_from_another_place_or_for_another_question
    protocol39_a_counter_that_went_back_is_refused_and_on_record
    protocol39_a_passkey_of_another_user_is_none
    a5_a_passkey_alone_signs_in_where_it_is_allowed
    a_passkey_alone_is_refused_in_the_same_words_for_every_reason
}

const MARIA: &str = "maria@acme.example";
const SECOND: &str = "/sign-in/second-factor";
const ALONE: &str = "/sign-in/passkey";

/// Maria with a passkey, signed in, and her recovery codes.
async fn maria(world: &World) -> (Tab, Authenticator, Vec<String>) {
    let person = world.maria().await;
    let mut tab = Tab::of(world, &person);
    let mut key = Authenticator::new(world);
    let made = tab.add_passkey(&mut key, "Laptop").await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    (tab, key, made.codes())
}

/// A tab between the factors.
async fn halfway(world: &World) -> Tab {
    let mut tab = Tab::new(world);
    assert_eq!(tab.password(MARIA).await.to, SECOND);
    tab
}

async fn a5_a_passkey_is_a_second_factor_and_a_removed_one_is_none(world: World) {
    let (mut settings, mut key, codes) = maria(&world).await;
    assert!(settings.get("/account").await.says("Laptop"));
    assert!(settings.get("/account").await.says("Not used yet"));
    let mut tab = halfway(&world).await;
    tab.use_passkey(&mut key, SECOND).await;
    assert!(tab.is_signed_in().await);
    assert!(settings.get("/account").await.says("Last used"));
    world.pass(jiff::SignedDuration::from_secs(1));
    let mut second = Authenticator::new(&world);
    settings.begin_passkey(&codes[1]).await;
    assert_eq!(settings.add_passkey(&mut second, "Key").await.to, "/account?done=mfa-passkey");
    let text = settings.get("/account").await.text;
    let (_, rest) = text.split_once("/account/mfa/passkeys/").unwrap();
    let remove = format!("/account/mfa/passkeys/{}", rest.split_once('"').unwrap().0);
    assert_eq!(settings.post(&remove, &[("code", &codes[0])]).await.to, "/account?done=mfa-removed");
    let mut tab = halfway(&world).await;
    assert_eq!(tab.use_passkey(&mut key, SECOND).await.status, StatusCode::UNAUTHORIZED, "it was removed");
    tab.use_passkey(&mut second, SECOND).await;
    assert!(tab.is_signed_in().await, "the other one stayed");
}

async fn protocol39_an_answer_to_another_question_or_from_another_place_is_none(world: World) {
    let (_, mut key, _) = maria(&world).await;
    let origin = key.origin.clone();
    let mut tab = halfway(&world).await;
    let mark = world.last_record().await;
    for wrong in ["https://localhost", "http://evil.example", "http://localhost.evil.example"] {
        key.origin = wrong.to_owned();
        assert_eq!(tab.use_passkey(&mut key, SECOND).await.status, StatusCode::UNAUTHORIZED, "{wrong}");
    }
    key.origin = origin;
    key.verifies = false;
    assert_eq!(tab.use_passkey(&mut key, SECOND).await.status, StatusCode::UNAUTHORIZED, "no user verification");
    key.verifies = true;
    assert_eq!(world.told_after(mark).await, ["sign_in refused wrong_passkey"; 4]);
    world.pass(jiff::SignedDuration::from_mins(20));

    let mut tab = halfway(&world).await;
    let old = tab.get(SECOND).await.attribute("data-passkey-ask").unwrap();
    let new = tab.get(SECOND).await.attribute("data-passkey-ask").unwrap();
    let late = key.answer(&old);
    assert_eq!(
        tab.post(SECOND, &[("credential", &late)]).await.status,
        StatusCode::UNAUTHORIZED,
        "another question"
    );
    world.pass(jiff::SignedDuration::from_secs(2));
    let good = key.answer(&new);
    let spent = tab.post(SECOND, &[("credential", &good)]).await;
    assert_eq!(spent.status, StatusCode::UNAUTHORIZED, "each question takes one answer");
    world.pass(jiff::SignedDuration::from_secs(10));
    let mut other = halfway(&world).await;
    let options = other.get(SECOND).await.attribute("data-passkey-ask").unwrap();
    let answer = key.answer(&options);
    let mut elsewhere = halfway(&world).await;
    elsewhere.get(SECOND).await;
    world.pass(jiff::SignedDuration::from_secs(60));
    let stolen = elsewhere.post(SECOND, &[("credential", &answer)]).await;
    assert_eq!(stolen.status, StatusCode::UNAUTHORIZED, "the question of another browser");
    world.pass(jiff::SignedDuration::from_secs(60));
    other.post(SECOND, &[("credential", &answer)]).await;
    assert!(other.is_signed_in().await, "for its own it is right");
}

async fn protocol39_a_passkey_is_not_made_from_another_place_or_for_another_question(world: World) {
    let person = world.maria().await;
    let mut tab = Tab::of(&world, &person);
    let mut key = Authenticator::new(&world);
    let origin = key.origin.clone();
    let mark = world.last_record().await;
    key.origin = "http://evil.example".to_owned();
    assert_eq!(tab.add_passkey(&mut key, "x").await.status, StatusCode::UNAUTHORIZED);
    key.origin = origin;
    key.verifies = false;
    assert_eq!(tab.add_passkey(&mut key, "x").await.status, StatusCode::UNAUTHORIZED);
    key.verifies = true;
    assert_eq!(world.told_after(mark).await, ["mfa.change refused wrong_passkey"; 2]);
    let page = tab.get("/account/mfa/passkey").await;
    let made = key.make(&page.attribute("data-passkey-new").unwrap());
    let named = tab.post("/account/mfa/passkey", &[("name", " "), ("credential", &made)]).await;
    assert_eq!(named.status, StatusCode::UNPROCESSABLE_ENTITY, "a name is needed");
    let replayed = tab.post("/account/mfa/passkey", &[("name", "x"), ("credential", &made)]).await;
    assert_eq!(replayed.status, StatusCode::UNAUTHORIZED, "there was a new question");
    // A question that another user's browser was asked.
    let ana = world.person("ana@acme.example", Role::User).await;
    let mut hers = Tab::of(&world, &ana);
    let options = hers.get("/account/mfa/passkey").await.attribute("data-passkey-new").unwrap();
    let made = key.make(&options);
    let step = hers.cookies[super::tab::STEP].clone();
    tab.cookies.insert(super::tab::STEP.to_owned(), step);
    let form = [("name", "x"), ("credential", made.as_str())];
    assert_eq!(tab.post("/account/mfa/passkey", &form).await.status, StatusCode::UNAUTHORIZED);
    assert!(world.user_of(MARIA).await.standing.mfa_since.is_none());
    assert_eq!(hers.add_passkey(&mut key, "x").await.status, StatusCode::CREATED);
    let again = tab.add_passkey(&mut key, "x").await;
    assert_eq!(again.status, StatusCode::UNAUTHORIZED, "one passkey is one user's");
}

async fn protocol39_a_counter_that_went_back_is_refused_and_on_record(world: World) {
    let (_, mut key, _) = maria(&world).await;
    key.counter = 10;
    let mut tab = halfway(&world).await;
    tab.use_passkey(&mut key, SECOND).await;
    assert!(tab.is_signed_in().await);
    let mut tab = halfway(&world).await;
    let mark = world.last_record().await;
    for counter in [5, 10] {
        key.counter = counter;
        assert_eq!(tab.use_passkey(&mut key, SECOND).await.status, StatusCode::UNAUTHORIZED, "{counter}");
    }
    assert_eq!(world.told_after(mark).await, ["sign_in refused passkey_counter_went_back"; 2]);
    key.counter = 11;
    tab.use_passkey(&mut key, SECOND).await;
    assert!(tab.is_signed_in().await);
}

async fn protocol39_a_passkey_of_another_user_is_none(world: World) {
    let (_, _, _) = maria(&world).await;
    let ana = world.person("ana@acme.example", Role::User).await;
    let mut hers = Authenticator::new(&world);
    Tab::of(&world, &ana).add_passkey(&mut hers, "Hers").await;
    let mut tab = halfway(&world).await;
    assert_eq!(tab.use_passkey(&mut hers, SECOND).await.status, StatusCode::UNAUTHORIZED);
    hers.user = world.user_of(MARIA).await.id.0.as_bytes().to_vec();
    assert_eq!(
        tab.use_passkey(&mut hers, SECOND).await.status,
        StatusCode::UNAUTHORIZED,
        "whoever it says it is of"
    );
    let mut alone = Tab::new(&world);
    assert_eq!(alone.use_passkey(&mut hers, ALONE).await.status, StatusCode::UNAUTHORIZED);
    assert!(!alone.is_signed_in().await && !tab.is_signed_in().await);
}

async fn a5_a_passkey_alone_signs_in_where_it_is_allowed(world: World) {
    let (mut settings, mut key, codes) = maria(&world).await;
    assert!(Tab::new(&world).get("/sign-in").await.says("Sign in with a passkey"));
    let page = settings.get("/account/mfa/passkey-alone").await;
    assert!(page.says("Sign in with a passkey alone?"));
    let form = [("code", codes[0].as_str()), ("allow", "yes")];
    assert_eq!(settings.post("/account/mfa/passkey-alone", &form).await.to, "/account?done=mfa-alone");
    let mut tab = Tab::new(&world);
    tab.cookies.insert(super::tab::SESSION.to_owned(), "planted".to_owned());
    let mark = world.last_record().await;
    let done = tab.use_passkey(&mut key, ALONE).await;
    assert_eq!((done.status, done.to.as_str()), (StatusCode::SEE_OTHER, "/account/credentials"));
    assert!(tab.is_signed_in().await && tab.session().unwrap() != "planted");
    assert_eq!(world.told_after(mark).await, ["sign_in done"]);
    assert!(world.records_after(mark).await[0].details.contains("\"opened_with\":\"passkey\""));
    assert!(tab.get("/account/mfa/app").await.says("Enter your password"), "no password was given in it");

    let mut tab = Tab::new(&world);
    let options = tab.get(ALONE).await.attribute("data-passkey-ask").unwrap();
    let answer = key.answer(&options);
    let mut copy = tab.copied();
    tab.post(ALONE, &[("credential", &answer)]).await;
    assert!(tab.is_signed_in().await);
    let replayed = copy.post(ALONE, &[("credential", &answer)]).await;
    assert_eq!(replayed.status, StatusCode::UNAUTHORIZED, "a question is taken once");
    assert!(!copy.is_signed_in().await);
    let form = [("code", codes[1].as_str()), ("allow", "no")];
    settings.post("/account/mfa/passkey-alone", &form).await;
    assert_eq!(Tab::new(&world).use_passkey(&mut key, ALONE).await.status, StatusCode::UNAUTHORIZED);
}

async fn a_passkey_alone_is_refused_in_the_same_words_for_every_reason(world: World) {
    let (mut settings, mut key, codes) = maria(&world).await;
    let words = "This passkey does not sign you in.";
    let refused = |page: &super::tab::Page| page.status == StatusCode::UNAUTHORIZED && page.says(words);
    let mark = world.last_record().await;
    assert!(refused(&Tab::new(&world).use_passkey(&mut key, ALONE).await), "not allowed");
    let mut unknown = Authenticator::new(&world);
    unknown.user = key.user.clone();
    assert!(refused(&Tab::new(&world).use_passkey(&mut unknown, ALONE).await), "unknown");
    key.verifies = false;
    assert!(refused(&Tab::new(&world).use_passkey(&mut key, ALONE).await), "no user verification");
    key.verifies = true;
    assert_eq!(
        world.told_after(mark).await,
        ["sign_in refused passkey_not_alone", "sign_in refused wrong_passkey", "sign_in refused wrong_passkey"]
    );
    settings.post("/account/mfa/passkey-alone", &[("code", &codes[0]), ("allow", "yes")]).await;
    let user = world.user_of(MARIA).await;
    world.change(&user, |s| s.status = (Status::Inactive, world.clock.now())).await;
    let mut tab = Tab::new(&world);
    assert_eq!(
        tab.use_passkey(&mut key, ALONE).await.status,
        StatusCode::FORBIDDEN,
        "told only after the right one"
    );
    assert!(!tab.is_signed_in().await);
}

#[tokio::test]
async fn at_an_address_of_digits_the_console_says_why_there_are_no_passkeys() {
    let world = World::sqlite(&[]).await;
    let person = world.maria().await;
    let mut tab = Tab::of(&world, &person);
    let account = tab.get("/account").await;
    assert!(account.says("Passkeys are not possible at http://127.0.0.1") && account.says("public_url"));
    assert!(!account.says("/account/mfa/passkey\""));
    assert_eq!(tab.get("/account/mfa/passkey").await.status, StatusCode::NOT_FOUND);
    let mut stranger = Tab::new(&world);
    assert!(!stranger.get("/sign-in").await.says("/sign-in/passkey"));
    assert_eq!(stranger.get("/sign-in/passkey").await.status, StatusCode::NOT_FOUND);
    assert_eq!(stranger.post("/sign-in/passkey", &[("credential", "{}")]).await.status, StatusCode::NOT_FOUND);
}
