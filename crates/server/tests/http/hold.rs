//! On hold (H-1 to H-4), from outside.

mod restore;

use std::sync::Arc;

use jiff::SignedDuration;
use portcullis::{
    app::{App, hold::Since},
    clock::Clock,
    config::Config,
    error::Failure,
};
use portcullis_domain::{
    accounts::{Role, Status},
    audit::{By, Entry, Event, Origin},
    credentials::ClientId,
    hold::{LiftRefused, Why},
};
use portcullis_store::{AuditFilter, AuditPage, Database, MasterKeys, OpenOptions, Store};
use reqwest::{Method, StatusCode};
use sqlx::{Connection, Executor, PgConnection};

use crate::{
    changes,
    support::{PASSWORD, World, header_of, json, oauth_error, on_both},
};

on_both! {
    h1_on_hold_nothing_is_issued_active_or_told_on_any_node_and_nobody_is_signed_in
    h2_lifting_takes_what_was_stopped_and_is_done_once
    h3_what_was_stopped_on_the_old_database_is_stopped_here_before_anything_works
    h3_a_database_that_is_not_a_later_state_is_refused
    h3_an_old_primary_is_replayed_from_though_the_new_one_went_on
    h3_a_key_that_was_withdrawn_since_and_cannot_be_here_keeps_the_hold
}

/// Reads a stream up to its hello.
async fn until_hello(mut response: reqwest::Response) -> (reqwest::Response, String) {
    let mut text = String::new();
    while !text.contains("event: hello\n") || !text.ends_with("\n\n") {
        let part = tokio::time::timeout(std::time::Duration::from_secs(20), response.chunk()).await;
        text += std::str::from_utf8(&part.expect("soon").unwrap().expect("it goes on")).unwrap();
    }
    (response, text)
}

/// The last id in what was read of a stream.
fn id_of(text: &str) -> String {
    text.lines().rfind(|line| line.starts_with("id: ")).unwrap()[4..].to_owned()
}

async fn h1_on_hold_nothing_is_issued_active_or_told_on_any_node_and_nobody_is_signed_in(world: World) {
    let (maria, watcher) = (world.maria().await, world.watcher().await);
    let program = maria.generate().await;
    let token = program.token().await;
    let following = changes::ask(&watcher, None).await;
    let (following, told) = until_hello(following).await;
    let node = world.another_node().await;
    assert!(world.app.begin_hold().await.unwrap());
    assert!(!world.app.begin_hold().await.unwrap(), "it is already");

    for at in [&world, &node] {
        let (program, watcher) = (program.at(at), watcher.at(at));
        let refused = program.ask().await;
        assert_eq!(header_of(&refused, "retry-after"), "30");
        let known = oauth_error(refused, 503, "temporarily_unavailable").await;
        let stranger =
            crate::support::Program { client_id: "pcc_11111111111111111111".to_owned(), ..program.clone() };
        assert_eq!(oauth_error(stranger.ask().await, 503, "temporarily_unavailable").await, known, "protocol 9");
        let asked = watcher.oauth("introspect", &[("token", &token)]).await;
        oauth_error(asked, 503, "temporarily_unavailable").await;
        let users = program.with(&token, Method::GET, "/api/v1/users").send().await.unwrap();
        assert_eq!(users.status(), StatusCode::SERVICE_UNAVAILABLE);
        let stranger = at.stranger();
        for path in ["/oauth/status", "/health/ready", "/sign-in"] {
            let answer = stranger.request(Method::GET, path).send().await.unwrap();
            assert_eq!(
                (answer.status(), header_of(&answer, "retry-after")),
                (StatusCode::SERVICE_UNAVAILABLE, "30")
            );
        }
        assert_eq!(stranger.request(Method::GET, "/health/live").send().await.unwrap().status(), StatusCode::OK);
        assert_eq!(
            stranger.request(Method::GET, "/.well-known/jwks.json").send().await.unwrap().status(),
            StatusCode::OK
        );
        assert_eq!(changes::ask(&watcher, None).await.status(), StatusCode::SERVICE_UNAVAILABLE);
        for password in [PASSWORD, "not the password at all"] {
            let body = serde_json::json!({ "email": "maria@acme.example", "password": password });
            let answer = stranger.request(Method::POST, "/api/v1/session").json(&body).send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(json(answer).await["code"], "on_hold", "nobody learns whether it was right");
        }
    }
    let page = world.stranger().request(Method::GET, "/sign-in").send().await.unwrap().text().await.unwrap();
    assert!(page.contains("On hold") && page.contains("portcullis hold show"), "{page}");
    assert_eq!(maria.get("/account").await.status(), StatusCode::SEE_OTHER, "her session has ended");
    the_key_set_is_told_beside_questions_that_are_not_answered(&world, &watcher, &token).await;
    let end = tokio::time::timeout(std::time::Duration::from_secs(20), following.bytes()).await;
    end.expect("the stream ends").expect("in order");
    world.app.sweep().await.unwrap();
    world.app.tend_keys().await.unwrap();

    world.app.lift_hold(&Since::default()).await.unwrap();
    assert!(program.at(&node).ask().await.status().is_success());
    assert!(watcher.is_active(&token).await);
    let told = id_of(&told);
    let (_again, again) = until_hello(changes::ask(&watcher, Some(&told)).await).await;
    assert!(again.starts_with("event: reset\n"), "numbers of before mean nothing: {again}");
    let (_resumed, resumed) = until_hello(changes::ask(&watcher, Some(&id_of(&again))).await).await;
    assert!(resumed.starts_with("event: hello\n"), "{resumed}");
    world.sign_in("maria@acme.example").await;
}

/// Whatever is asked in the same turn of reading.
async fn the_key_set_is_told_beside_questions_that_are_not_answered(
    world: &World,
    watcher: &crate::support::Program,
    token: &str,
) {
    let asked = (0..20).map(|_| {
        let (stranger, watcher, token) = (world.stranger(), watcher.clone(), token.to_owned());
        tokio::spawn(async move {
            let key_set = stranger.request(Method::GET, "/.well-known/jwks.json").send();
            let introspected = [("token", token.as_str())];
            let (key_set, refused) = tokio::join!(key_set, watcher.oauth("introspect", &introspected));
            (key_set.unwrap().status(), refused.status())
        })
    });
    for answers in asked.collect::<Vec<_>>() {
        assert_eq!(answers.await.unwrap(), (StatusCode::OK, StatusCode::SERVICE_UNAVAILABLE));
    }
}

async fn h2_lifting_takes_what_was_stopped_and_is_done_once(world: World) {
    let maria = world.maria().await;
    let joao = world.person("joao@acme.example", Role::SuperAdmin).await;
    let (revoked, kept) = (maria.generate().await, joao.generate().await);
    let token = revoked.token().await;
    let watcher = world.watcher().await;
    world.app.begin_hold().await.unwrap();
    let id = |text: &str| ClientId::parse(text).unwrap();
    let unknown = id("pcc_11111111111111111111");
    let since = Since { revoked: vec![id(&revoked.client_id), unknown.clone()], ..Since::default() };
    let node = world.another_node().await;
    let (one, other) = tokio::join!(world.app.lift_hold(&since), node.app.lift_hold(&since));
    let (lifted, refused) = if one.is_ok() { (one, other) } else { (other, one) };
    let lifted = lifted.unwrap();
    assert!(matches!(refused, Err(Failure::Lift(LiftRefused::NotOnHold))), "{refused:?}");
    assert_eq!((lifted.acts.len(), lifted.not_held), (1, vec![unknown]));

    let told = oauth_error(revoked.ask().await, 401, "invalid_client").await;
    assert!(told.contains("revoked by the operator"), "{told}");
    assert!(!watcher.is_active(&token).await);
    assert!(kept.ask().await.status().is_success());
    let mut tx = world.app.store.read().await.unwrap();
    let filter = AuditFilter { event: Event::HoldLifted.code().to_owned(), ..AuditFilter::default() };
    let records = tx.audit_page(&filter, AuditPage::Before(i64::MAX), 10).await.unwrap().records;
    assert_eq!((records.len(), records[0].by.0.as_str()), (1, "operator"));
    drop(tx);

    world.app.begin_hold().await.unwrap();
    let lifted = world.app.lift_hold(&Since { all: true, ..Since::default() }).await.unwrap();
    assert_eq!(lifted.acts.len(), 1, "what is revoked already is not revoked again");
    oauth_error(kept.ask().await, 401, "invalid_client").await;
}

/// A copy of the database of a world that has stopped, as dump and restore make it, with an app on it.
async fn copied(world: &World) -> (Arc<App>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let keys = Arc::new(MasterKeys::one([7; 32]));
    let (store, database) = match &world.database {
        Database::Sqlite(_) => {
            let file = folder.path().join("portcullis.db");
            world.app.store.copy_into(&file).await.unwrap();
            (Store::open_copy(&file, keys).await.unwrap(), Database::Sqlite(file))
        }
        Database::Postgres(url) => {
            world.app.store.close().await;
            let name = url.rsplit('/').next().unwrap();
            let (copy, server) = (format!("{name}_copy"), std::env::var("PORTCULLIS_TEST_POSTGRES").unwrap());
            let mut connection = PgConnection::connect(&server).await.unwrap();
            let sql = format!("DROP DATABASE IF EXISTS {copy}");
            connection.execute(sqlx::AssertSqlSafe(sql)).await.unwrap();
            let sql = format!("CREATE DATABASE {copy} TEMPLATE {name}");
            connection.execute(sqlx::AssertSqlSafe(sql)).await.unwrap();
            let database = Database::Postgres(url.replace(name, &copy));
            (Store::open(&database, keys, &OpenOptions::default()).await.unwrap(), database)
        }
    };
    let config = Config { database, ..world.app.config.clone() };
    let clock = Clock::set(world.clock.now() + SignedDuration::from_hours(1), 4711);
    (App::start(store, clock, config).await.unwrap(), folder)
}

/// The old database, to replay from.
async fn later(world: &World) -> Option<Store> {
    let options = OpenOptions { only_look: true, ..OpenOptions::default() };
    Some(Store::open(&world.database, Arc::new(MasterKeys::one([7; 32])), &options).await.unwrap())
}

async fn h3_what_was_stopped_on_the_old_database_is_stopped_here_before_anything_works(world: World) {
    let maria = world.maria().await;
    let mut ids = Vec::new();
    let mut programs = vec![maria.generate().await];
    for name in ["out", "gone", "less", "mfa", "same"] {
        let person = world.person(&format!("{name}@acme.example"), Role::SuperAdmin).await;
        programs.push(person.generate().await);
        ids.push(world.app.store.read().await.unwrap().users(None, name, None, 1).await.unwrap()[0].id);
    }
    let single = programs[5].token().await;
    let (copy, _folder) = copied(&world).await;
    assert_eq!(copy.hold().await.unwrap().unwrap().why, Why::Elsewhere, "H-4");

    let world = world.another_node().await;
    let maria = world.sign_in("maria@acme.example").await;
    assert_eq!(maria.revoke().await.status(), StatusCode::OK);
    world.set_standing(ids[0], |s, at| s.status = (Status::Inactive, at)).await;
    world.set_standing(ids[1], |s, at| s.status = (Status::Deleted, at)).await;
    world.set_standing(ids[2], |s, at| s.role = (Role::User, at)).await;
    world.set_standing(ids[3], |s, at| s.mfa_since = Some(at)).await;
    let same = programs[5].at(&world);
    assert_eq!(same.oauth("revoke", &[("token", &single)]).await.status(), StatusCode::OK);
    world.sql("UPDATE users SET password_hash = '$argon2id$later' WHERE email = 'same@acme.example'").await;
    let active = copy.signing_keys(portcullis::app::keys::Doer::Operator).await.unwrap();
    let active = active.iter().find(|k| k.life.active_at.is_some()).unwrap().kid.clone();
    world.app.withdraw_key(portcullis::app::keys::Doer::Operator, &active, "it leaked").await.unwrap();

    let lifted = copy.lift_hold(&Since { later: later(&world).await, ..Since::default() }).await.unwrap();
    let of = |event: Event| lifted.acts.iter().filter(|e| e.event == event).count();
    for (event, expected) in [
        (Event::CredentialRevoked, 2),
        (Event::CredentialSuspended, 3),
        (Event::UserDeactivated, 1),
        (Event::UserDeleted, 1),
        (Event::RoleChanged, 1),
        (Event::MfaEnabled, 1),
        (Event::PasswordChanged, 1),
        (Event::TokenRevoked, 1),
        (Event::KeyWithdrawn, 1),
    ] {
        assert_eq!(of(event), expected, "{event:?} in {:?}", lifted.acts);
    }
    let mut tx = copy.store.read().await.unwrap();
    let now = copy.clock.now();
    let clients: Vec<&str> = programs.iter().map(|p| p.client_id.as_str()).collect();
    let found = tx.presented_clients(&clients).await.unwrap();
    let standing = |id: &str| {
        let client = found.iter().find(|c| c.credential.client_id.as_str() == id).unwrap();
        client.credential.standing(&client.owner, now).code()
    };
    let standings: Vec<&str> = clients.iter().map(|id| standing(id)).collect();
    assert_eq!(standings, ["revoked", "suspended", "revoked", "suspended", "suspended", "active"]);
    assert_eq!(tx.password_hash(ids[4]).await.unwrap().as_deref(), Some("$argon2id$later"));
    assert!(
        tx.signing_keys().await.unwrap().iter().any(|k| k.key.kid == active && k.key.life.withdrawn_at.is_some())
    );
    drop(tx);
    assert_eq!(copy.store.verify_audit().await.unwrap().broken, None);
}

async fn h3_a_database_that_is_not_a_later_state_is_refused(world: World) {
    world.maria().await;
    let (copy, _folder) = copied(&world).await;
    let stranger = World::sqlite(&[]).await;
    let refused = copy.lift_hold(&Since { later: later(&stranger).await, ..Since::default() }).await;
    assert!(matches!(refused, Err(Failure::Lift(LiftRefused::NotLater))), "{refused:?}");
    assert!(copy.hold().await.unwrap().is_some());
}

async fn h3_an_old_primary_is_replayed_from_though_the_new_one_went_on(world: World) {
    let maria = world.maria().await;
    let program = maria.generate().await;
    let (copy, _folder) = copied(&world).await;
    // The copy goes on, as a node does that lost nothing, and is put on hold only then.
    copy.lift_hold(&Since::default()).await.unwrap();
    assert!(copy.begin_hold().await.unwrap());
    let refused = copy.lift_hold(&Since { later: later(&world).await, ..Since::default() }).await;
    assert!(matches!(refused, Err(Failure::Lift(LiftRefused::NotLater))), "it has nothing more: {refused:?}");

    let world = world.another_node().await;
    let maria = world.sign_in("maria@acme.example").await;
    assert_eq!(maria.revoke().await.status(), StatusCode::OK);
    let lifted = copy.lift_hold(&Since { later: later(&world).await, ..Since::default() }).await.unwrap();
    let revoked = lifted.acts.iter().filter(|entry| entry.event == Event::CredentialRevoked);
    assert_eq!(revoked.map(|entry| entry.subject.as_str()).collect::<Vec<_>>(), [program.client_id.as_str()]);
}

async fn h3_a_key_that_was_withdrawn_since_and_cannot_be_here_keeps_the_hold(world: World) {
    let operator = portcullis::app::keys::Doer::Operator;
    let (copy, _folder) = copied(&world).await;
    let world = world.another_node().await;
    let keys = copy.signing_keys(operator).await.unwrap();
    let kid = |signs: bool| keys.iter().find(|k| k.life.active_at.is_some() == signs).unwrap().kid.clone();
    let (active, upcoming) = (kid(true), kid(false));
    world.app.withdraw_key(operator, &active, "it leaked").await.unwrap();
    // Here the one that would sign next is gone.
    let now = copy.clock.now();
    let mut act = copy.store.act_on_hold().await.unwrap();
    act.withdraw_key(&upcoming, now).await.unwrap();
    let gone = Entry::done(now, By::Operator, &Origin::default(), Event::KeyWithdrawn, upcoming.as_str());
    act.commit(&[gone]).await.unwrap();

    let refused = copy.lift_hold(&Since { later: later(&world).await, ..Since::default() }).await;
    assert!(matches!(&refused, Err(Failure::Lift(LiftRefused::KeyStays(kid))) if *kid == active), "{refused:?}");
    assert!(copy.hold().await.unwrap().is_some());
}
