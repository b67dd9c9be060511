//! Whose turn a job is: one node's at a time, another's when the holder is gone, nobody's before the
//! interval is over.

use portcullis_store::{Store, StoreError, Turn};
use uuid::Uuid;

use crate::support::{Fresh, after, at_once, id, on_both};

on_both! {
    of_many_at_once_one_gets_the_turn
    a_turn_that_ended_is_taken_over_and_lost_to_its_holder
    what_was_done_is_not_due_before_its_interval_is_over
    what_was_not_done_is_free_at_once
    what_a_wrong_clock_wrote_counts_as_nothing
}

const JOB: &str = "sweep";

/// Asked at a second, for fifteen; the interval is ten minutes.
async fn take(store: Store, holder: Uuid, at: i64) -> Result<bool, StoreError> {
    let mut tx = store.write().await?;
    let taken = tx.take_turn(turn(holder, at), after(at - 600)).await?;
    tx.commit().await.map(|()| taken)
}

fn turn(holder: Uuid, at: i64) -> Turn<'static> {
    Turn { job: JOB, holder, now: after(at), until: after(at + 15), beyond: after(at + 60) }
}

async fn is_free(fresh: &Fresh, holder: Uuid, at: i64) -> bool {
    fresh.read(async |tx| tx.is_turn_free(turn(holder, at), after(at - 600)).await.unwrap()).await
}

async fn of_many_at_once_one_gets_the_turn(fresh: Fresh) {
    let nodes = [fresh.store.clone(), fresh.another_node().await];
    let outcomes = at_once(10, |n| take(nodes[n % 2].clone(), id(), 0)).await;
    assert_eq!(outcomes.into_iter().filter(|o| *o.as_ref().unwrap()).count(), 1);
}

async fn a_turn_that_ended_is_taken_over_and_lost_to_its_holder(fresh: Fresh) {
    let (a, b) = (id(), id());
    assert!(take(fresh.store.clone(), a, 0).await.unwrap());
    assert!(fresh.write(async |tx| tx.renew_turn(turn(a, 10)).await.unwrap()).await);
    assert!(!is_free(&fresh, b, 24).await && is_free(&fresh, a, 24).await);
    assert!(!take(fresh.store.clone(), b, 24).await.unwrap(), "renewed until 25");
    assert!(is_free(&fresh, b, 25).await);
    assert!(take(fresh.store.clone(), b, 25).await.unwrap(), "the holder said nothing any more");
    assert!(!fresh.write(async |tx| tx.renew_turn(turn(a, 26)).await.unwrap()).await, "it is told");
    fresh.write(async |tx| tx.give_turn_back(turn(a, 26), true).await.unwrap()).await;
    assert!(!is_free(&fresh, a, 27).await, "and takes nothing away from the other");
    assert!(fresh.write(async |tx| tx.renew_turn(turn(b, 27)).await.unwrap()).await);
}

async fn what_was_done_is_not_due_before_its_interval_is_over(fresh: Fresh) {
    let (a, b) = (id(), id());
    assert!(is_free(&fresh, a, 0).await, "never done");
    assert!(take(fresh.store.clone(), a, 0).await.unwrap());
    fresh.write(async |tx| tx.give_turn_back(turn(a, 5), true).await.unwrap()).await;
    for holder in [a, b] {
        assert!(!is_free(&fresh, holder, 604).await);
        assert!(!take(fresh.store.clone(), holder, 604).await.unwrap(), "neither the one nor the other");
    }
    assert!(is_free(&fresh, b, 605).await);
    assert!(take(fresh.store.clone(), b, 605).await.unwrap());
}

async fn what_was_not_done_is_free_at_once(fresh: Fresh) {
    let (a, b) = (id(), id());
    assert!(take(fresh.store.clone(), a, 0).await.unwrap());
    fresh.write(async |tx| tx.give_turn_back(turn(a, 5), false).await.unwrap()).await;
    assert!(take(fresh.store.clone(), b, 5).await.unwrap());
}

async fn what_a_wrong_clock_wrote_counts_as_nothing(fresh: Fresh) {
    const DAY: i64 = 86_400;
    let (ahead, b) = (id(), id());
    assert!(take(fresh.store.clone(), ahead, DAY).await.unwrap());
    assert!(is_free(&fresh, b, 0).await && take(fresh.store.clone(), b, 0).await.unwrap(), "held until tomorrow");
    assert!(take(fresh.store.clone(), ahead, DAY).await.unwrap());
    fresh.write(async |tx| tx.give_turn_back(turn(ahead, DAY), true).await.unwrap()).await;
    assert!(is_free(&fresh, b, 0).await && take(fresh.store.clone(), b, 0).await.unwrap(), "done tomorrow");
    // A clock that is a little ahead is believed.
    fresh.write(async |tx| tx.give_turn_back(turn(b, 30), true).await.unwrap()).await;
    assert!(!is_free(&fresh, ahead, 0).await && !take(fresh.store.clone(), ahead, 0).await.unwrap());
}
