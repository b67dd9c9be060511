//! The real program, killed in the middle of its work (I1 to I4).

use std::{collections::BTreeSet, process::Child, time::Duration};

use portcullis_store::Database;
use reqwest::StatusCode;
use serde_json::Value;
use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::io::AsyncWriteExt;

use crate::{
    limits::waiting::Held,
    support::{
        outside::{MARIA, PASSWORD, Person, answered},
        process::{Process, terminate},
    },
};

/// What was acknowledged before the kill.
#[derive(Default, Debug)]
struct Known {
    generated: Vec<(String, String)>,
    revoked: BTreeSet<String>,
    /// The act that was not answered, if there was one.
    open: Option<&'static str>,
}

/// Generates and revokes in turn until the server is gone.
async fn work(maria: Person) -> Known {
    let mut known = Known::default();
    loop {
        let Some((status, made)) = answered(maria.act("generate").await).await else {
            known.open = Some("generate");
            return known;
        };
        assert_eq!(status, StatusCode::CREATED, "{made}");
        let text = |name: &str| made[name].as_str().unwrap().to_owned();
        let (id, secret) = (text("client_id"), text("client_secret"));
        known.generated.push((id.clone(), secret.clone()));
        if answered(maria.ask(&id, &secret).await).await.is_none() {
            return known;
        }
        let Some((status, gone)) = answered(maria.act("revoke").await).await else {
            known.open = Some("revoke");
            return known;
        };
        assert_eq!(status, StatusCode::OK, "{gone}");
        known.revoked.insert(gone["client_id"].as_str().unwrap().to_owned());
    }
}

pub(crate) async fn integrity(process: &Process) {
    let options = SqliteConnectOptions::new().filename(process.data("portcullis.db"));
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
    let found: (String,) = sqlx::query_as("PRAGMA integrity_check").fetch_one(&mut connection).await.unwrap();
    assert_eq!(found.0, "ok");
    let sql = "SELECT COUNT(*) FROM (SELECT owner_id FROM credentials WHERE revoked_at IS NULL AND retired_at IS NULL \
               GROUP BY owner_id HAVING COUNT(*) > 1)";
    let two: (i64,) = sqlx::query_as(sql).fetch_one(&mut connection).await.unwrap();
    assert_eq!(two.0, 0, "I2");
    let sql = "SELECT (SELECT COUNT(*) FROM credentials WHERE generated_at > 0) - (SELECT COUNT(*) FROM audit_records \
               WHERE event = 'credential.generate' AND outcome = 'done'), \
               (SELECT COUNT(*) FROM credentials WHERE revoked_at > 0) - (SELECT COUNT(*) FROM audit_records \
               WHERE event = 'credential.revoke' AND outcome = 'done')";
    let apart: (i64, i64) = sqlx::query_as(sql).fetch_one(&mut connection).await.unwrap();
    assert_eq!(apart, (0, 0), "I4: as many acts as records of them");
    connection.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_i3_after_kill_9_in_the_middle_everything_is_either_done_or_not() {
    let mut process = Process::new(&[]);
    process.super_admin(MARIA, PASSWORD);
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut revoked = BTreeSet::new();
    let mut secrets: Vec<(String, String)> = Vec::new();
    let mut in_the_middle = 0;
    for cycle in 0..20 {
        process.start();
        let maria = Person::sign_in(&process, MARIA).await;
        let working = tokio::spawn(work(maria));
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        // The moment of the kill is the only thing that is left to chance here.
        tokio::time::sleep(std::time::Duration::from_micros(random % 40_000)).await;
        let mut child = process.take();
        child.kill().unwrap();
        child.wait().unwrap();
        let known = working.await.unwrap();
        in_the_middle += u32::from(known.open.is_some());
        revoked.extend(known.revoked.iter().cloned());
        secrets.extend(known.generated.iter().cloned());

        process.start();
        let maria = Person::sign_in(&process, MARIA).await;
        let held = maria.held().await;
        if let Some(id) = &held {
            assert!(!revoked.contains(id), "I1: {id} came back in cycle {cycle}");
        }
        match (known.open, known.generated.last()) {
            (Some("generate"), Some((last, _))) => assert_ne!(held.as_ref(), Some(last), "cycle {cycle}"),
            (None, Some((last, _))) => assert_eq!(held.as_ref(), Some(last), "cycle {cycle}: it was acknowledged"),
            _ => {}
        }
        for (id, secret) in secrets.iter().filter(|(id, _)| revoked.contains(id)).rev().take(3) {
            let (status, _) = answered(maria.ask(id, secret).await).await.unwrap();
            assert_eq!(status, StatusCode::UNAUTHORIZED, "I1: {id} in cycle {cycle}");
        }
        if let Some(id) = held {
            let (status, gone) = answered(maria.act("revoke").await).await.unwrap();
            assert_eq!((status, gone["client_id"].as_str()), (StatusCode::OK, Some(id.as_str())), "I3");
            revoked.insert(id);
        }
        assert_eq!(maria.held().await, None);
        let mut child = process.take();
        child.kill().unwrap();
        child.wait().unwrap();
        let verified = process.run_here(&["audit", "verify"], "");
        assert_eq!(verified.code, 0, "L-3 after cycle {cycle}: {verified:?}");
    }
    integrity(&process).await;
    assert!(in_the_middle > 5, "most kills hit an act under way: {in_the_middle}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_before_sigterm_is_there_after_it() {
    let mut process = Process::new(&[]);
    process.super_admin(MARIA, PASSWORD);
    process.start();
    let maria = Person::sign_in(&process, MARIA).await;
    let (_, made) = answered(maria.act("generate").await).await.unwrap();
    let text = |name: &str| made[name].as_str().unwrap().to_owned();
    let (id, secret) = (text("client_id"), text("client_secret"));
    let mut all = tokio::task::JoinSet::new();
    let (told, mut hear) = tokio::sync::mpsc::unbounded_channel();
    for _ in 0..8 {
        let (maria, id, secret, told) = (maria.clone(), id.clone(), secret.clone(), told.clone());
        all.spawn(async move {
            let mut tokens = Vec::new();
            while let Some((status, body)) = answered(maria.ask(&id, &secret).await).await {
                assert_eq!(status, StatusCode::OK, "under way or refused to connect, never an error: {body}");
                tokens.push(body["access_token"].as_str().unwrap().to_owned());
                let _ = told.send(());
            }
            tokens
        });
    }
    for _ in 0..100 {
        hear.recv().await.unwrap();
    }
    assert_eq!(process.terminate(), Some(0), "{}", process.errors());
    let tokens = all.join_all().await.concat();
    assert!(tokens.len() >= 100);
    assert!(process.output().contains("Portcullis has stopped."));

    process.start();
    for token in &tokens {
        let request = maria.client.post(format!("{}/oauth/introspect", process.url()));
        let answer = request.basic_auth(&id, Some(&secret)).form(&[("token", token)]).send().await.unwrap();
        let answer: Value = answer.json().await.unwrap();
        assert_eq!(answer["active"], true, "L-4: issued, so on record");
    }
    assert_eq!(maria.held().await, Some(id), "the session lives on as well");
    assert_eq!(process.terminate(), Some(0));
    assert_eq!(process.run_here(&["audit", "verify"], "").code, 0);
    integrity(&process).await;
}

/// Sends SIGTERM and waits until nobody can connect any more: the server has heard it.
async fn told_to_stop(process: &mut Process) -> Child {
    let child = process.take();
    terminate(&child);
    while tokio::net::TcpStream::connect(process.address).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    child
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_are_under_way_at_sigterm_are_done_and_answered() {
    let mut process = Process::new(&[]);
    process.super_admin(MARIA, PASSWORD);
    process.super_admin("joao@acme.example", PASSWORD);
    process.start();
    let (maria, joao) =
        (Person::sign_in(&process, MARIA).await, Person::sign_in(&process, "joao@acme.example").await);
    let (id, secret) = maria.generate().await;
    let held = Held::on(&Database::Sqlite(process.data("portcullis.db"))).await;
    let asking = tokio::spawn(async move { answered(maria.ask(&id, &secret).await).await });
    let acting = tokio::spawn(async move { answered(joao.act("generate").await).await });
    // Until both wait for the writer.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut child = told_to_stop(&mut process).await;
    assert!(!asking.is_finished() && !acting.is_finished());
    held.release().await;
    let (status, token) = asking.await.unwrap().expect("it was under way");
    assert_eq!(status, StatusCode::OK, "{token}");
    let (status, made) = acting.await.unwrap().expect("it was under way");
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let ended = tokio::task::spawn_blocking(move || child.wait().unwrap()).await.unwrap();
    assert_eq!(ended.code(), Some(0), "{}", process.errors());
    process.start();
    let maria = Person::sign_in(&process, MARIA).await;
    let (id, secret) = ["client_id", "client_secret"].map(|name| made[name].as_str().unwrap()).into();
    let (status, _) = answered(maria.ask(id, secret).await).await.unwrap();
    assert_eq!(status, StatusCode::OK, "what was acknowledged is there");
    integrity(&process).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_does_not_end_is_waited_for_as_long_as_shutdown_seconds_says() {
    let mut process = Process::new(&["shutdown_seconds=1"]);
    process.super_admin(MARIA, PASSWORD);
    process.start();
    // Its body never comes. By itself it would be waited for for thirty seconds.
    let mut stream = tokio::net::TcpStream::connect(process.address).await.unwrap();
    let head = "POST /oauth/token HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n\
                Content-Length: 100\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut child = told_to_stop(&mut process).await;
    let waited = tokio::task::spawn_blocking(move || child.wait().unwrap());
    let ended = tokio::time::timeout(Duration::from_secs(12), waited).await.expect("it is cut off").unwrap();
    assert_eq!(ended.code(), Some(0), "{}", process.errors());
    assert!(process.output().contains("did not finish in time and were cut off"), "{}", process.output());
}
