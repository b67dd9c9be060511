//! Sessions: a renewed id is dead, others' sessions are left alone. Failures: none is lost.

use jiff::SignedDuration;
use portcullis_domain::{
    accounts::UserId,
    sessions::{Opened, Session, SessionLimits},
};
use portcullis_store::{FailureCount, Store, StoreError};

use crate::support::{Fresh, after, at_once, id, now, on_both};

on_both! {
    every_field_of_a_session_comes_back
    an_id_opens_one_session
    a_step_up_goes_on_under_a_new_id_and_the_old_one_is_dead
    of_many_parallel_step_ups_exactly_one_succeeds
    using_a_session_moves_its_last_use_forwards_only
    an_ended_session_is_gone_and_ends_once
    ending_the_other_sessions_keeps_this_one_and_other_users
    a_session_that_is_over_is_dropped_and_no_other
    a8_a_hundred_parallel_failures_are_a_hundred
    a8_whoever_holds_a_count_looks_at_it_alone
    a8_a_forgotten_run_begins_at_one
    a8_runs_are_forgotten_one_by_one_and_by_age
}

fn session(user: UserId) -> Session {
    Session {
        handle: id(),
        user,
        opened: Opened::Password,
        provider: None,
        opened_at: now(),
        seen_at: now(),
        password_at: Some(now()),
        ip: "203.0.113.7".to_owned(),
        user_agent: "Firefox '\"; --".to_owned(),
    }
}

/// Adds sessions under the digests 1, 2, 3…
async fn add(fresh: &Fresh, sessions: &[Session]) {
    for (n, session) in sessions.iter().enumerate() {
        let digest = [u8::try_from(n + 1).unwrap(); 32];
        fresh.write(async |tx| tx.add_session(&digest, session).await.unwrap()).await;
    }
}

async fn found(fresh: &Fresh, digest: u8) -> Option<Session> {
    fresh.read(async |tx| tx.session(&[digest; 32]).await.unwrap()).await
}

async fn every_field_of_a_session_comes_back(fresh: Fresh) {
    let user = fresh.super_admin("a@acme.example").await.id;
    let sessions = [
        session(user),
        Session { opened: Opened::PasswordAndMfa, seen_at: after(2), ..session(user) },
        Session {
            opened: Opened::Provider,
            opened_at: "2026-11-23T14:02:03.123456Z".parse().unwrap(),
            seen_at: after(1),
            password_at: None,
            ip: String::new(),
            user_agent: "日本 \u{fffd}".to_owned(),
            ..session(user)
        },
    ];
    add(&fresh, &sessions).await;
    for (n, expected) in (1..).zip(&sessions) {
        assert_eq!(format!("{:?}", found(&fresh, n).await.unwrap()), format!("{expected:?}"));
    }
    assert!(found(&fresh, 9).await.is_none());
    let listed = fresh.read(async |tx| tx.sessions_of(user).await.unwrap()).await;
    let expected = [&sessions[1], &sessions[2], &sessions[0]];
    assert_eq!(format!("{listed:?}"), format!("{expected:?}"), "the last used first");
    assert!(fresh.read(async |tx| tx.sessions_of(UserId(id())).await.unwrap()).await.is_empty());
}

async fn an_id_opens_one_session(fresh: Fresh) {
    let user = fresh.super_admin("a@acme.example").await.id;
    add(&fresh, &[session(user)]).await;
    let mut tx = fresh.store.write().await.unwrap();
    let second = tx.add_session(&[1; 32], &session(user)).await;
    assert!(matches!(second, Err(StoreError::Conflict(_))), "{second:?}");
    drop(tx);
    let mut tx = fresh.store.write().await.unwrap();
    assert!(tx.add_session(&[2; 32], &session(UserId(id()))).await.is_err(), "a session is somebody's");
}

async fn a_step_up_goes_on_under_a_new_id_and_the_old_one_is_dead(fresh: Fresh) {
    let user = fresh.super_admin("a@acme.example").await.id;
    let before = [session(user), session(user)];
    add(&fresh, &before).await;
    assert!(fresh.write(async |tx| tx.renew_session(&[1; 32], &[7; 32], after(60)).await.unwrap()).await);
    assert!(found(&fresh, 1).await.is_none(), "the old id is dead");
    let expected = Session { password_at: Some(after(60)), ..before[0].clone() };
    assert_eq!(format!("{:?}", found(&fresh, 7).await.unwrap()), format!("{expected:?}"));
    assert_eq!(format!("{:?}", found(&fresh, 2).await.unwrap()), format!("{:?}", before[1]));
    assert!(!fresh.write(async |tx| tx.renew_session(&[1; 32], &[8; 32], after(61)).await.unwrap()).await);
    assert!(found(&fresh, 8).await.is_none());
}

async fn of_many_parallel_step_ups_exactly_one_succeeds(fresh: Fresh) {
    async fn renew(store: Store, new: u8) -> Result<bool, StoreError> {
        let mut tx = store.write().await?;
        let done = tx.renew_session(&[1; 32], &[new; 32], after(60)).await?;
        tx.commit().await.map(|()| done)
    }
    let user = fresh.super_admin("a@acme.example").await.id;
    add(&fresh, &[session(user)]).await;
    let nodes = [fresh.store.clone(), fresh.another_node().await];
    let outcomes = at_once(10, |n| renew(nodes[n % 2].clone(), 100 + u8::try_from(n).unwrap())).await;
    let winners: Vec<usize> = (0..10).filter(|n| *outcomes[*n].as_ref().unwrap()).collect();
    assert_eq!(winners.len(), 1);
    assert!(found(&fresh, 100 + u8::try_from(winners[0]).unwrap()).await.is_some());
    assert_eq!(fresh.read(async |tx| tx.sessions_of(user).await.unwrap().len()).await, 1);
}

async fn using_a_session_moves_its_last_use_forwards_only(fresh: Fresh) {
    let user = fresh.super_admin("a@acme.example").await.id;
    add(&fresh, &[session(user), session(user)]).await;
    for (at, ip, seen, from) in
        [(60, "::1", 60, "::1"), (30, "::2", 60, "::1"), (60, "::3", 60, "::1"), (61, "::4", 61, "::4")]
    {
        fresh.write(async |tx| tx.touch_session(&[1; 32], after(at), ip).await.unwrap()).await;
        let read = found(&fresh, 1).await.unwrap();
        assert_eq!((read.seen_at, read.ip.as_str()), (after(seen), from));
        assert_eq!((read.opened_at, read.password_at), (now(), Some(now())));
    }
    assert_eq!(found(&fresh, 2).await.unwrap().seen_at, now());
    fresh.write(async |tx| tx.touch_session(&[9; 32], after(1), "::1").await.unwrap()).await;
    assert!(found(&fresh, 9).await.is_none(), "using one that is not there makes none");
}

async fn an_ended_session_is_gone_and_ends_once(fresh: Fresh) {
    let user = fresh.super_admin("a@acme.example").await.id;
    add(&fresh, &[session(user), session(user)]).await;
    assert!(fresh.write(async |tx| tx.end_session(&[1; 32]).await.unwrap()).await);
    assert!(!fresh.write(async |tx| tx.end_session(&[1; 32]).await.unwrap()).await);
    assert!(found(&fresh, 1).await.is_none());
    assert!(found(&fresh, 2).await.is_some());
}

async fn ending_the_other_sessions_keeps_this_one_and_other_users(fresh: Fresh) {
    let (maria, other) =
        (fresh.super_admin("a@acme.example").await.id, fresh.super_admin("b@acme.example").await.id);
    let sessions = [session(maria), session(maria), session(maria), session(other)];
    add(&fresh, &sessions).await;
    let keep = sessions[1].handle;
    assert_eq!(fresh.write(async |tx| tx.end_other_sessions(maria, keep).await.unwrap()).await, 2);
    for (digest, there) in [(1, false), (2, true), (3, false), (4, true)] {
        assert_eq!(found(&fresh, digest).await.is_some(), there, "{digest}");
    }
    assert_eq!(fresh.write(async |tx| tx.end_other_sessions(maria, keep).await.unwrap()).await, 0);
    let foreign = sessions[3].handle;
    assert_eq!(fresh.write(async |tx| tx.end_other_sessions(maria, foreign).await.unwrap()).await, 1);
    assert!(found(&fresh, 4).await.is_some());
}

async fn a_session_that_is_over_is_dropped_and_no_other(fresh: Fresh) {
    let user = fresh.super_admin("a@acme.example").await.id;
    let limits = SessionLimits { idle: SignedDuration::from_mins(30), absolute: SignedDuration::from_hours(12) };
    let at = after(12 * 3600);
    let idle = at - limits.idle;
    let second = SignedDuration::from_secs(1);
    let sessions = [
        Session { opened_at: after(1), seen_at: idle + second, ..session(user) },
        Session { opened_at: after(1), seen_at: idle, ..session(user) },
        Session { opened_at: now(), seen_at: at, ..session(user) },
        Session { opened_at: at, seen_at: at, ..session(user) },
    ];
    add(&fresh, &sessions).await;
    let live: Vec<bool> = sessions.iter().map(|s| s.is_live(&limits, at)).collect();
    assert_eq!(live, [true, false, false, true]);
    assert_eq!(fresh.write(async |tx| tx.drop_dead_sessions(&limits, at, 9).await.unwrap()).await, 2);
    for (digest, live) in (1..).zip(live) {
        assert_eq!(found(&fresh, digest).await.is_some(), live, "as the domain judges: {digest}");
    }
}

async fn failures(fresh: &Fresh, counted: u8) -> Option<FailureCount> {
    fresh.read(async |tx| tx.sign_in_failures(&[counted; 32]).await.unwrap()).await
}

async fn a8_a_hundred_parallel_failures_are_a_hundred(fresh: Fresh) {
    async fn count(store: Store) -> Result<(), StoreError> {
        let mut tx = store.write().await?;
        tx.count_sign_in_failure(&[1; 32], now(), after(-86_400)).await?;
        tx.commit().await
    }
    let nodes = [fresh.store.clone(), fresh.another_node().await];
    for outcome in at_once(100, |n| count(nodes[n % 2].clone())).await {
        outcome.unwrap();
    }
    assert_eq!(failures(&fresh, 1).await, Some(FailureCount { failures: 100, last: now() }));
    assert_eq!(failures(&fresh, 2).await, None, "another name has a run of its own");
}

async fn a8_whoever_holds_a_count_looks_at_it_alone(fresh: Fresh) {
    /// Counts one more if there are fewer than five.
    async fn attempt(store: Store) -> bool {
        let mut tx = store.write().await.unwrap();
        tx.hold_sign_in_failures(&[1; 32], now()).await.unwrap();
        let so_far = tx.sign_in_failures(&[1; 32]).await.unwrap().unwrap().failures;
        if so_far < 5 {
            tx.count_sign_in_failure(&[1; 32], now(), after(-86_400)).await.unwrap();
        }
        tx.commit().await.unwrap();
        so_far < 5
    }
    let nodes = [fresh.store.clone(), fresh.another_node().await];
    let counted = at_once(40, |n| attempt(nodes[n % 2].clone())).await;
    assert_eq!(counted.iter().filter(|c| **c).count(), 5, "the first too, when there is no count yet");
    assert_eq!(failures(&fresh, 1).await, Some(FailureCount { failures: 5, last: now() }));
}

async fn a8_a_forgotten_run_begins_at_one(fresh: Fresh) {
    const DAY: i64 = 86_400;
    for (at, failures_then) in [(0, 1), (1, 2), (1 + DAY, 3), (2 + 2 * DAY, 1), (3 + 2 * DAY, 2)] {
        fresh
            .write(async |tx| tx.count_sign_in_failure(&[1; 32], after(at), after(at - DAY)).await.unwrap())
            .await;
        let expected = FailureCount { failures: failures_then, last: after(at) };
        assert_eq!(failures(&fresh, 1).await, Some(expected), "after {at} s");
    }
}

async fn a8_runs_are_forgotten_one_by_one_and_by_age(fresh: Fresh) {
    for counted in 1..=4 {
        let at = after(i64::from(counted));
        fresh.write(async |tx| tx.count_sign_in_failure(&[counted; 32], at, now()).await.unwrap()).await;
    }
    fresh.write(async |tx| tx.forget_sign_in_failures(&[4; 32]).await.unwrap()).await;
    fresh.write(async |tx| tx.forget_sign_in_failures(&[9; 32]).await.unwrap()).await;
    assert_eq!(fresh.write(async |tx| tx.drop_old_sign_in_failures(after(3), 9).await.unwrap()).await, 2);
    for (counted, there) in [(1, false), (2, false), (3, true), (4, false)] {
        assert_eq!(failures(&fresh, counted).await.is_some(), there, "{counted}");
    }
}
