//! General Settings: turning MFA on and off, what that does to the credential (C-9) and to sessions,
//! and who may.

use jiff::SignedDuration;
use portcullis_domain::sessions::Opened;
use reqwest::{Method, StatusCode};

use super::{authenticator::Authenticator, on_both_named, tab::Tab};
use crate::support::World;

on_both_named! {
    c9_turning_on_warns_then_suspends_on_every_node_and_turning_off_resumes
    protocol30_each_change_renews_the_session_and_turning_on_ends_the_others
    recovery_codes_are_shown_once_and_new_ones_replace_them
    removing_the_last_factor_turns_mfa_off_and_removing_another_does_not
    c12_the_password_is_asked_for_in_place_after_five_minutes
    t4_a5_tokens_federated_logins_and_accounts_without_password_change_nothing
    every_change_leaves_one_record
}

const MARIA: &str = "maria@acme.example";

async fn c9_turning_on_warns_then_suspends_on_every_node_and_turning_off_resumes(world: World) {
    let other = world.another_node().await;
    let maria = world.maria().await;
    let program = maria.generate().await;
    let token = program.token().await;
    let watcher = world.watcher().await;
    let mut tab = Tab::of(&world, &maria);
    assert!(tab.get("/account").await.says(&program.client_id), "the section says what would be suspended");
    let page = tab.get("/account/mfa/app").await;
    assert!(page.says("suspends your credential") && page.says(&program.client_id));
    let phone = super::tab::Phone::scan(&page.element("key").unwrap());
    // Without agreeing nothing is done, and the code is still good.
    for agreed in ["", "pcc_00000000000000000000"] {
        let form = [("code", phone.code(&world)), ("agreed", agreed.to_owned())];
        let form: Vec<(&str, &str)> = form.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let refused = tab.post("/account/mfa/app", &form).await;
        assert_eq!(refused.status, StatusCode::CONFLICT);
        assert!(refused.says("Read what it does to your credential"));
    }
    assert!(watcher.is_active(&token).await);
    let mark = world.last_record().await;
    let form = [("code", phone.code(&world)), ("agreed", program.client_id.clone())];
    let form: Vec<(&str, &str)> = form.iter().map(|(n, v)| (*n, v.as_str())).collect();
    assert_eq!(tab.post("/account/mfa/app", &form).await.status, StatusCode::CREATED);
    for node in [&world, &other] {
        assert!(!watcher.at(node).is_active(&token).await, "C-11: the next request on every node");
        assert_eq!(program.at(node).ask().await.status(), StatusCode::UNAUTHORIZED);
    }
    assert_eq!(world.told_after(mark).await[..2], ["mfa.enable done", "credential.suspend done"]);
    assert!(tab.get("/account/credentials").await.says("Suspended while multi-factor authentication is on."));

    world.pass(SignedDuration::from_secs(30));
    let mark = world.last_record().await;
    assert_eq!(tab.post("/account/mfa/off", &[("code", &phone.code(&world))]).await.to, "/account?done=mfa-off");
    for node in [&world, &other] {
        assert!(watcher.at(node).is_active(&token).await);
        assert_eq!(program.at(node).ask().await.status(), StatusCode::OK);
    }
    assert_eq!(world.told_after(mark).await, ["mfa.disable done", "credential.resume done"]);
    let mails = world.app.store.read().await.unwrap().mails(None, 10).await.unwrap();
    let kinds: Vec<String> = mails.iter().map(|m| format!("{:?}", m.kind)).collect();
    assert!(
        kinds.iter().any(|k| k.contains("Suspended")) && kinds.iter().any(|k| k.contains("Resumed")),
        "{kinds:?}"
    );
    world.log_is_whole().await;
}

async fn protocol30_each_change_renews_the_session_and_turning_on_ends_the_others(world: World) {
    let maria = world.maria().await;
    let elsewhere = world.sign_in(MARIA).await;
    let mut tab = Tab::of(&world, &maria);
    let mut ids = vec![tab.session().unwrap().clone()];
    let (phone, codes) = tab.set_up_app(&world).await;
    ids.push(tab.session().unwrap().clone());
    assert!(!elsewhere.is_signed_in().await, "it was opened without a second factor");
    let mut key = Authenticator::new(&world);
    tab.begin_passkey(&codes[0]).await;
    ids.push(tab.session().unwrap().clone());
    assert_eq!(tab.add_passkey(&mut key, "Laptop").await.to, "/account?done=mfa-passkey");
    ids.push(tab.session().unwrap().clone());
    let made = tab.post("/account/mfa/recovery-codes", &[("code", &phone.code(&world))]).await;
    assert_eq!(made.status, StatusCode::CREATED);
    ids.push(tab.session().unwrap().clone());
    tab.use_passkey(&mut key, "/account/mfa/off").await;
    ids.push(tab.session().unwrap().clone());
    let mut old = tab.copied();
    for id in &ids[..5] {
        old.cookies.insert(super::tab::SESSION.to_owned(), id.clone());
        assert!(!old.is_signed_in().await, "an old id is dead");
    }
    assert!(tab.is_signed_in().await);
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 6);
}

async fn recovery_codes_are_shown_once_and_new_ones_replace_them(world: World) {
    let maria = world.maria().await;
    let mut tab = Tab::of(&world, &maria);
    let (phone, codes) = tab.set_up_app(&world).await;
    for path in ["/account", "/account/mfa/app", "/account/mfa/recovery-codes"] {
        let page = tab.get(path).await;
        assert!(codes.iter().all(|c| !page.says(c)), "{path}");
    }
    assert!(tab.get("/account").await.says("10 of 10 left"));
    let made = tab.post("/account/mfa/recovery-codes", &[("code", &codes[0])]).await;
    assert_eq!((made.status, made.stored), (StatusCode::CREATED, false), "no-store");
    let new = made.codes();
    assert!(new.len() == 10 && new.iter().all(|c| !codes.contains(c)));
    let mut other = Tab::new(&world);
    other.password(MARIA).await;
    assert_eq!(other.code(&codes[1]).await.status, StatusCode::UNAUTHORIZED, "the old ones are over");
    assert_eq!(other.code(&new[1]).await.status, StatusCode::SEE_OTHER);
    let again = tab.post("/account/mfa/recovery-codes", &[("code", &new[1])]).await;
    assert_eq!(again.status, StatusCode::UNAUTHORIZED, "sent again it makes none");
    assert_eq!(tab.post("/account/mfa/recovery-codes", &[]).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(
        tab.post("/account/mfa/recovery-codes", &[("code", &phone.code(&world))]).await.status,
        StatusCode::CREATED
    );
}

async fn removing_the_last_factor_turns_mfa_off_and_removing_another_does_not(world: World) {
    let maria = world.maria().await;
    let mut tab = Tab::of(&world, &maria);
    let (phone, codes) = tab.set_up_app(&world).await;
    let mut key = Authenticator::new(&world);
    tab.begin_passkey(&codes[2]).await;
    tab.add_passkey(&mut key, "Laptop").await;
    let mark = world.last_record().await;
    let removed = tab.post("/account/mfa/app/remove", &[("code", &phone.code(&world))]).await;
    assert_eq!(removed.to, "/account?done=mfa-removed");
    assert_eq!(world.told_after(mark).await, ["mfa.change done"]);
    let account = tab.get("/account").await;
    let remove = account.attribute("class=\"act\" href").unwrap();
    assert!(remove.starts_with("/account/mfa/app"), "an app can be set up again: {remove}");
    let (_, rest) = account.text.split_once("/account/mfa/passkeys/").unwrap();
    let remove = format!("/account/mfa/passkeys/{}", rest.split_once('"').unwrap().0);
    assert!(tab.get(&remove).await.says("It is your only second factor"));
    let nobodys = "/account/mfa/passkeys/00000000-0000-0000-0000-000000000000/remove";
    let mark = world.last_record().await;
    for gone in [nobodys, "/account/mfa/app/remove"] {
        assert_eq!(tab.post(gone, &[("code", &codes[0])]).await.to, "/account?done=mfa-gone");
    }
    let told = world.told_after(mark).await;
    assert_eq!(told, ["mfa.disable refused factor_gone", "mfa.change refused factor_gone"]);
    let mark = world.last_record().await;
    // Nothing was done with it before, so it is good still.
    let removed = tab.post(&remove, &[("code", &codes[0])]).await;
    assert_eq!(removed.to, "/account?done=mfa-off");
    assert_eq!(world.told_after(mark).await, ["mfa.disable done"]);
    let user = world.user_of(MARIA).await;
    assert!(user.standing.mfa_since.is_none());
    let left = world.app.store.read().await.unwrap().recovery_codes_left(user.id).await.unwrap();
    assert_eq!(left, 0, "nothing is left for next time");
    assert_eq!(Tab::new(&world).password(MARIA).await.to, "/account/credentials", "the password is enough again");
}

async fn c12_the_password_is_asked_for_in_place_after_five_minutes(world: World) {
    let maria = world.maria().await;
    let mut tab = Tab::of(&world, &maria);
    world.pass(SignedDuration::from_mins(5));
    for path in ["/account/mfa/app", "/account/mfa/passkey"] {
        assert!(tab.get(path).await.says("Enter your password"), "{path}");
    }
    let mark = world.last_record().await;
    let refused = tab.post("/account/mfa/app", &[("code", "123456")]).await;
    assert!(refused.says("Enter your password"));
    assert_eq!(world.told_after(mark).await, ["mfa.enable refused password_needed"]);
    let wrong = tab.post("/account/mfa/password", &[("password", "wrong"), ("to", "/account/mfa/app")]).await;
    assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);
    assert!(wrong.says("This is not your password."));
    let before = tab.session().unwrap().clone();
    let form = [("password", crate::support::PASSWORD), ("to", "/account/mfa/app")];
    assert_eq!(tab.post("/account/mfa/password", &form).await.to, "/account/mfa/app");
    assert_ne!(tab.session().unwrap(), &before, "protocol 30");
    tab.set_up_app(&world).await;
    let form = [("password", crate::support::PASSWORD), ("to", "https://evil.example/account/mfa/")];
    assert_eq!(tab.post("/account/mfa/password", &form).await.to, "/account", "and nowhere else");
}

async fn t4_a5_tokens_federated_logins_and_accounts_without_password_change_nothing(world: World) {
    let maria = world.maria().await;
    let program = maria.generate().await;
    let token = program.token().await;
    for path in ["/account/mfa/app", "/account/mfa/off", "/account/mfa/passkey"] {
        let response = program.with(&token, Method::POST, path).form(&[("code", "123456")]).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "T-4: {path}");
    }
    let user = world.user_of(MARIA).await;
    let federated = world.session_opened(&user, Opened::Provider).await;
    let mut tab = Tab::of(&world, &federated);
    assert!(tab.get("/account").await.says("cannot be changed from a federated login"));
    assert_eq!(tab.get("/account/mfa/app").await.status, StatusCode::FORBIDDEN);
    let mark = world.last_record().await;
    let form = [("name", "x"), ("credential", "{}")];
    assert_eq!(tab.post("/account/mfa/passkey", &form).await.status, StatusCode::FORBIDDEN);
    assert_eq!(world.told_after(mark).await, ["mfa.enable refused federated_login"]);
    world.sql("UPDATE users SET password_hash = NULL WHERE email = 'maria@acme.example'").await;
    let mut tab = Tab::of(&world, &maria);
    assert!(tab.get("/account").await.says("Your account has no Portcullis password."));
    assert_eq!(tab.post("/account/mfa/app", &[("code", "123456")]).await.status, StatusCode::FORBIDDEN);
    assert!(world.user_of(MARIA).await.standing.mfa_since.is_none());
}

async fn every_change_leaves_one_record(world: World) {
    let maria = world.maria().await;
    let mut tab = Tab::of(&world, &maria);
    let mark = world.last_record().await;
    let (phone, codes) = tab.set_up_app(&world).await;
    tab.begin_passkey(&codes[2]).await;
    tab.add_passkey(&mut Authenticator::new(&world), "Laptop").await;
    tab.post("/account/mfa/passkey-alone", &[("code", &phone.code(&world)), ("allow", "yes")]).await;
    tab.post("/account/mfa/passkey-alone", &[("code", &codes[0]), ("allow", "no")]).await;
    tab.post("/account/mfa/recovery-codes", &[("code", &codes[1])]).await;
    world.pass(SignedDuration::from_secs(30));
    tab.post("/account/mfa/off", &[("code", &phone.code(&world))]).await;
    let told = world.told_after(mark).await;
    let expected = ["enable", "confirm", "change", "change", "change", "recovery_codes", "disable"];
    assert_eq!(told, expected.map(|e| format!("mfa.{e} done")));
    let details: String = world.records_after(mark).await.iter().map(|r| r.details.clone()).collect();
    assert!(details.contains("Laptop") && codes.iter().all(|c| !details.contains(c)), "L-2: {details}");
    world.log_is_whole().await;
}
