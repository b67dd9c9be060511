//! Several nodes on one database: each job is done by one of them, another takes over when that one is
//! gone, and guesses are counted over all.

use std::{sync::Arc, time::Duration};

use jiff::SignedDuration;
use portcullis::app::turns::Job;
use portcullis_domain::accounts::Role;
use sqlx::{Connection, Executor, PgConnection};

use crate::support::{World, on_both, postgres_database, process::Process};

on_both! {
    a_job_is_done_by_one_node_for_all_and_not_again_before_its_interval_is_over
    a_job_that_failed_is_tried_again_by_whoever_comes_next
    a_holder_that_stalls_is_replaced_and_stops_and_what_was_done_was_done_once
    work_in_the_middle_of_a_transaction_when_its_turn_is_renewed_goes_on
}

const EVERY: SignedDuration = SignedDuration::from_mins(10);
const ANA: &str = "ana@acme.example";

async fn sweep(world: &World) -> bool {
    world.app.in_turn(Job::Sweep, EVERY, Box::pin(world.app.sweep())).await.unwrap()
}

async fn a_job_is_done_by_one_node_for_all_and_not_again_before_its_interval_is_over(world: World) {
    let other = world.another_node().await;
    for _ in 0..3 {
        let (a, b) = tokio::join!(sweep(&world), sweep(&other));
        assert!(a ^ b, "one of them: {a} {b}");
        assert!(!sweep(&world).await && !sweep(&other).await);
        world.pass(EVERY - SignedDuration::from_secs(1));
        assert!(!sweep(&world).await && !sweep(&other).await);
        world.pass(SignedDuration::from_secs(1));
        let other_job = other.app.in_turn(Job::Keys, EVERY, async { Ok(()) }).await.unwrap();
        assert!(other_job, "another job is another turn");
    }
}

async fn work_in_the_middle_of_a_transaction_when_its_turn_is_renewed_goes_on(world: World) {
    let app = Arc::clone(&world.app);
    let work = async move {
        // Renewed after four seconds: on SQLite that waits for this transaction.
        tokio::time::sleep(Duration::from_millis(2500)).await;
        let tx = app.store.write().await?;
        tokio::time::sleep(Duration::from_millis(2500)).await;
        Ok(tx.commit().await?)
    };
    assert!(Box::pin(world.app.in_turn(Job::Sweep, EVERY, work)).await.unwrap());
}

async fn a_job_that_failed_is_tried_again_by_whoever_comes_next(world: World) {
    let other = world.another_node().await;
    let fails = async { Err(portcullis::error::Failure::Busy) };
    assert!(world.app.in_turn(Job::Sweep, EVERY, fails).await.is_err());
    assert!(sweep(&other).await);
    assert!(!sweep(&world).await);
}

async fn a_holder_that_stalls_is_replaced_and_stops_and_what_was_done_was_done_once(world: World) {
    let other = world.another_node().await;
    world.user("maria@acme.example", Role::SuperAdmin).await;
    world.user(ANA, Role::User).await;
    let begun = Arc::new(tokio::sync::Notify::new());
    let stalled = tokio::spawn({
        let (app, begun) = (Arc::clone(&world.app), Arc::clone(&begun));
        async move {
            let work = async {
                begun.notify_one();
                std::future::pending().await
            };
            app.in_turn(Job::Sweep, EVERY, work).await.unwrap()
        }
    });
    begun.notified().await;
    assert!(!sweep(&other).await, "it is held");
    // It has not said that it is alive for so long: its next word comes too late.
    world.pass(SignedDuration::from_secs(16));
    assert!(sweep(&other).await, "taken over");
    let left = tokio::time::timeout(Duration::from_secs(60), stalled).await.unwrap().unwrap();
    assert!(!left, "the first one has heard of it and stopped");
    world.log_is_whole().await;
}

/// The real programs. The holder is killed in the middle of a sweep, which waits for a table that the test
/// has locked; the other one takes over when the lease is over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_job_of_a_node_that_was_killed_is_done_by_another() {
    let url = postgres_database().await;
    let database = format!("database_url={url}");
    let mut first = Process::new(&[&database]);
    first.super_admin("maria@acme.example", "tide lantern walnut orbit");
    let public = format!("public_url={}", first.url());
    let mut second = Process::new(&[&database, &public]);
    second.take_key_of(&first);

    let mut beside = PgConnection::connect(&url).await.unwrap();
    let mut asks = PgConnection::connect(&url).await.unwrap();
    beside.execute("BEGIN; LOCK TABLE links IN ACCESS EXCLUSIVE MODE").await.unwrap();
    first.start();
    let held = "SELECT holder FROM turns WHERE job = 'sweep' AND done_at IS NULL";
    let holder: uuid::Uuid = loop {
        match sqlx::query_scalar(held).fetch_optional(&mut asks).await.unwrap() {
            Some(holder) => break holder,
            None => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    };
    let mut child = first.take();
    child.kill().unwrap();
    child.wait().unwrap();
    beside.execute("ROLLBACK").await.unwrap();
    second.start();
    let done = "SELECT holder FROM turns WHERE job = 'sweep' AND done_at IS NOT NULL";
    let mut taken_over = None;
    for _ in 0..300 {
        taken_over = sqlx::query_scalar::<_, uuid::Uuid>(done).fetch_optional(&mut asks).await.unwrap();
        if taken_over.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(taken_over.is_some_and(|by| by != holder), "{taken_over:?}");
    assert_eq!(second.terminate(), Some(0));
}
