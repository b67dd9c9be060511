//! What must hold when the database goes away under the server (PostgreSQL): its connections are
//! cut while tokens are issued and credentials are generated and revoked, also between COMMIT and its
//! answer; it is killed and comes back; it is gone without a word.
#![allow(clippy::disallowed_methods, reason = "how long a request waits at most is what is promised")]

use std::{
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use reqwest::{Method, RequestBuilder, Response, StatusCode};
use sqlx::{Connection, PgConnection};

use crate::{
    proxy::{ACT, Moment, Proxy, TOKENS},
    support::{PASSWORD, Person, Program, World, header_of, json, postgres_database},
};

/// What is promised (the book, Limits), and what a busy machine may add.
const PROMISED: Duration = Duration::from_secs(5);
const ALLOWANCE: Duration = Duration::from_secs(2);

/// Ends every connection to the database but the one that asks for it.
const CUT: &str = "DO $$ BEGIN PERFORM pg_terminate_backend(pid) FROM pg_stat_activity \
                   WHERE datname = current_database() AND pid <> pg_backend_pid(); END $$";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_i4_i6_connections_cut_under_load_lose_nothing_and_nobody_is_lied_to() {
    let world = World::postgres(&[]).await;
    let maria = world.maria().await;
    let done = Arc::new(AtomicBool::new(false));
    let program = maria.generate().await;
    let load: Vec<_> = (0..4)
        .map(|_| {
            let (program, done) = (program.clone(), Arc::clone(&done));
            tokio::spawn(async move {
                let mut good = Vec::new();
                while !done.load(Ordering::Relaxed) {
                    let response = program.ask().await;
                    match response.status() {
                        StatusCode::OK => good.push(json(response).await["access_token"].clone()),
                        StatusCode::SERVICE_UNAVAILABLE => {
                            assert!(response.headers().contains_key("retry-after"), "I6");
                        }
                        other => panic!("I6: neither a token nor try again: {other}"),
                    }
                }
                good
            })
        })
        .collect();
    for _ in 0..10 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        world.sql(CUT).await;
    }
    done.store(true, Ordering::Relaxed);
    let mut tokens = Vec::new();
    for task in load {
        tokens.extend(task.await.unwrap());
    }
    assert!(!tokens.is_empty());
    // The pool recovers by itself, and what was issued is on record and active.
    let mut last = program.ask().await.status();
    for _ in 0..10 {
        if last != StatusCode::OK {
            last = program.ask().await.status();
        }
    }
    assert_eq!(last, StatusCode::OK);
    for token in tokens.iter().rev().take(20) {
        assert!(program.is_active(token.as_str().unwrap()).await, "L-4");
    }
    // A revocation is acknowledged or not, and if it is, it holds through the next cut.
    let mut revoked = maria.revoke().await.status();
    for _ in 0..10 {
        if revoked == StatusCode::SERVICE_UNAVAILABLE {
            revoked = maria.revoke().await.status();
        }
    }
    assert!([StatusCode::OK, StatusCode::NOT_FOUND].contains(&revoked), "{revoked}");
    world.sql(CUT).await;
    let mut refused = program.ask().await.status();
    for _ in 0..10 {
        if refused == StatusCode::SERVICE_UNAVAILABLE {
            refused = program.ask().await.status();
        }
    }
    assert_eq!(refused, StatusCode::UNAUTHORIZED, "I1");
    let state = world.app.store.verify_audit().await;
    assert!(state.is_ok_and(|s| s.broken.is_none()), "I4: the chain is whole");
}

/// One request of each kind, on each way into the database.
fn one_of_each(world: &World, maria: &Person, program: &Program) -> Vec<(&'static str, RequestBuilder)> {
    let form = |endpoint: &str, form: &[(&str, &str)]| {
        let request = program.client.post(format!("{}/oauth/{endpoint}", world.url));
        request.basic_auth(&program.client_id, Some(&program.client_secret)).form(form)
    };
    let body = serde_json::json!({ "email": "maria@acme.example", "password": PASSWORD });
    vec![
        ("token", form("token", &[("grant_type", "client_credentials")])),
        ("introspect", form("introspect", &[("token", "x.y.z")])),
        ("ready", program.client.get(format!("{}/health/ready", world.url))),
        ("tab", maria.request(Method::GET, "/api/v1/users/me/credential")),
        ("revoke", maria.request(Method::POST, "/api/v1/users/me/credential/revoke")),
        ("sign in", program.client.post(format!("{}/api/v1/session", world.url)).json(&body)),
    ]
}

fn is_put_off(response: &Response) -> bool {
    response.status() == StatusCode::SERVICE_UNAVAILABLE && !header_of(response, "retry-after").is_empty()
}

/// The first token after the database is back, and how long it took.
async fn back(program: &Program) -> Duration {
    let since = Instant::now();
    while program.ask().await.status() != StatusCode::OK {
        assert!(since.elapsed() < 6 * PROMISED, "it does not come back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    since.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i6_a_database_that_is_gone_without_a_word_keeps_nobody_waiting_and_is_found_again() {
    let proxy = Proxy::before(&postgres_database().await).await;
    let world = World::postgres_at(&proxy.url).await;
    let maria = world.maria().await;
    let program = maria.generate().await;
    // Every connection of the pool is open, and in use again and again.
    let warm: Vec<_> =
        (0..16).map(|_| program.clone()).map(|p| tokio::spawn(async move { p.ask().await })).collect();
    for asked in warm {
        assert_eq!(asked.await.unwrap().status(), StatusCode::OK);
    }
    let busy = tokio::spawn({
        let program = program.clone();
        async move { while program.ask().await.status() == StatusCode::OK {} }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    proxy.swallow();
    let mut waiting = tokio::task::JoinSet::new();
    for round in 0..4 {
        for (kind, request) in one_of_each(&world, &maria, &program) {
            waiting.spawn(async move {
                tokio::time::sleep(Duration::from_millis(700 * round)).await;
                let since = Instant::now();
                let response = request.send().await.unwrap();
                assert!(is_put_off(&response), "I6: {kind}: {}", response.status());
                assert!(since.elapsed() < PROMISED + ALLOWANCE, "{kind} in round {round}: {:?}", since.elapsed());
            });
        }
    }
    while let Some(done) = waiting.join_next().await {
        done.unwrap();
    }
    busy.await.unwrap();
    proxy.let_through();
    let took = back(&program).await;
    assert!(took < PROMISED + ALLOWANCE, "found again after {took:?}");
    // All of it, not one connection.
    assert_eq!(maria.revoke().await.status(), StatusCode::OK);
    for (kind, request) in one_of_each(&world, &maria, &program) {
        assert_ne!(request.send().await.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE, "{kind}");
    }
    assert_eq!(program.ask().await.status(), StatusCode::UNAUTHORIZED, "I1");
    world.log_is_whole().await;
}

/// Makes the database one that can only be read, as a standby is, or takes that back.
async fn only_read(world: &World, url: &str, only: bool) {
    let name = url.rsplit('/').next().unwrap().split('?').next().unwrap();
    let set = if only { "SET default_transaction_read_only = on" } else { "RESET default_transaction_read_only" };
    world.sql(&format!("BEGIN READ WRITE; ALTER DATABASE {name} {set}; COMMIT")).await;
    world.sql(CUT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i6_a_node_whose_database_can_only_be_read_acknowledges_nothing_and_is_not_ready_until_it_can_be_written()
{
    let url = postgres_database().await;
    let world = World::postgres_at(&url).await;
    let maria = world.maria().await;
    let program = maria.generate().await;
    let token = program.token().await;
    only_read(&world, &url, true).await;
    for (kind, request) in one_of_each(&world, &maria, &program) {
        let reads = ["introspect", "tab"].contains(&kind);
        let response = request.send().await.unwrap();
        assert!(reads || is_put_off(&response), "I6: {kind}: {}", response.status());
    }
    only_read(&world, &url, false).await;
    back(&program).await;
    assert!(program.is_active(&token).await, "L-4");
    let ready = format!("{}/health/ready", world.url);
    assert_eq!(program.client.get(&ready).send().await.unwrap().status(), StatusCode::OK);
    assert_eq!(maria.revoke().await.status(), StatusCode::OK);
    assert_eq!(program.ask().await.status(), StatusCode::UNAUTHORIZED, "I1");
    world.log_is_whole().await;
}

/// A cluster of a test's own.
struct Cluster(tempfile::TempDir);

impl Cluster {
    fn script(&self, args: &[&str]) -> String {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dev/postgres");
        let (command, rest) = args.split_first().unwrap();
        let ran = Command::new(script).arg(command).arg(self.0.path().join("pg")).args(rest).output().unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8(ran.stdout).unwrap().trim().to_owned()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.script(&["remove"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn i1_a_database_that_is_killed_or_restarted_is_found_again_with_all_that_was_acknowledged() {
    let cluster = Cluster(tempfile::tempdir().unwrap());
    let url = cluster.script(&["start", "--no-fsync"]);
    let world = World::postgres_at(&url).await;
    let maria = world.maria().await;
    let mut last: Option<Program> = None;
    for round in 0..3 {
        let program = maria.generate().await;
        let token = program.token().await;
        let asking = tokio::spawn({
            let program = program.clone();
            async move {
                loop {
                    let response = program.ask().await;
                    if response.status() != StatusCode::OK {
                        return is_put_off(&response);
                    }
                }
            }
        });
        match round {
            0 => drop(cluster.script(&["kill"])),
            1 => drop(cluster.script(&["stop", "immediate"])),
            _ => drop(cluster.script(&["stop"])),
        }
        let since = Instant::now();
        assert!(is_put_off(&maria.revoke().await), "I6");
        assert!(since.elapsed() < PROMISED + ALLOWANCE, "{:?}", since.elapsed());
        assert!(asking.await.unwrap(), "I6");
        cluster.script(&["start"]);
        let took = back(&program).await;
        assert!(took < PROMISED + ALLOWANCE, "found again after {took:?}");
        assert!(program.is_active(&token).await, "L-4");
        if let Some(revoked) = &last {
            assert_eq!(revoked.ask().await.status(), StatusCode::UNAUTHORIZED, "I1");
        }
        assert_eq!(maria.revoke().await.status(), StatusCode::OK);
        last = Some(program);
    }
    world.log_is_whole().await;
}

async fn count(url: &str, sql: &'static str) -> i64 {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap()
}

const DONE: &str = "SELECT COUNT(*) FROM audit_records WHERE outcome = 'done' AND event LIKE 'credential.%'";

/// An answer that says that it is not known.
async fn is_unknown(response: Response) {
    assert!(is_put_off(&response), "{}", response.status());
    assert_eq!(json(response).await["code"], "outcome_unknown");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i2_i3_i4_generating_without_an_answer_to_commit_is_told_as_unknown_and_leaves_what_the_owner_sees() {
    let url = postgres_database().await;
    let proxy = Proxy::before(&url).await;
    let world = World::postgres_at(&proxy.url).await;
    let maria = world.maria().await;
    for (moment, made) in [(Moment::Before, 0), (Moment::After, 1)] {
        let done = count(&url, DONE).await;
        proxy.cut(ACT, moment);
        is_unknown(maria.request(Method::POST, "/api/v1/users/me/credential/generate").send().await.unwrap())
            .await;
        assert!(proxy.has_cut());
        assert_eq!(count(&url, DONE).await, done + made, "I4: {moment:?}");
        let seen = maria.get("/api/v1/users/me/credential").await.status();
        assert_eq!(seen == StatusCode::OK, made == 1, "I3: {seen}");
    }
    // Repeating it does no harm (I2): there is one, and it is the owner's to revoke.
    let again = maria.request(Method::POST, "/api/v1/users/me/credential/generate").send().await.unwrap();
    assert_eq!(again.status(), StatusCode::CONFLICT);
    assert_eq!(maria.revoke().await.status(), StatusCode::OK);
    world.log_is_whole().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_i4_revoking_without_an_answer_to_commit_is_told_as_unknown_and_can_be_repeated() {
    let url = postgres_database().await;
    let proxy = Proxy::before(&url).await;
    let world = World::postgres_at(&proxy.url).await;
    let maria = world.maria().await;
    let program = maria.generate().await;
    let done = count(&url, DONE).await;
    proxy.cut(ACT, Moment::Before);
    is_unknown(maria.revoke().await).await;
    assert_eq!(count(&url, DONE).await, done);
    assert_eq!(program.ask().await.status(), StatusCode::OK, "it did not happen");
    proxy.cut(ACT, Moment::After);
    is_unknown(maria.revoke().await).await;
    assert_eq!(count(&url, DONE).await, done + 1);
    assert_eq!(program.ask().await.status(), StatusCode::UNAUTHORIZED, "I1: it did");
    assert_eq!(maria.revoke().await.status(), StatusCode::NOT_FOUND, "which is told when it is repeated");
    world.log_is_whole().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l4_a_token_whose_commit_is_not_answered_never_leaves_and_may_be_asked_for_again() {
    const ISSUED: &str = "SELECT COUNT(*) FROM issued_tokens";
    let url = postgres_database().await;
    let proxy = Proxy::before(&url).await;
    let world = World::postgres_at(&proxy.url).await;
    let maria = world.maria().await;
    let program = maria.generate().await;
    for (moment, issued) in [(Moment::Before, 0), (Moment::After, 1)] {
        let before = count(&url, ISSUED).await;
        proxy.cut(TOKENS, moment);
        let response = program.ask().await;
        assert!(is_put_off(&response), "{moment:?}: {}", response.status());
        assert!(json(response).await.get("access_token").is_none());
        assert_eq!(count(&url, ISSUED).await, before + issued, "{moment:?}");
        let token = program.token().await;
        assert!(program.is_active(&token).await);
    }
}
