//! What must hold when the database goes away under the server (PostgreSQL): its connections are
//! cut while tokens are issued and credentials are generated and revoked.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use reqwest::StatusCode;

use crate::support::{World, json};

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
