//! The real program, killed in the middle of its work (I1 to I4).

use std::collections::BTreeSet;

use reqwest::StatusCode;
use serde_json::Value;
use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};

use crate::support::{
    outside::{MARIA, PASSWORD, Person, answered},
    process::Process,
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
