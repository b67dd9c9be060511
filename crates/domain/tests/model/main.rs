//! The life of a credential, checked in every order of events in a small scope: two nodes on one
//! database, requests that overlap, answers that are on their way, a crash at any step, and time
//! passing up to the end of the credential.
//!
//! The decisions are the domain's own functions; [`life`] has what the store does around them:
//! locks, transactions, the unique index. The last tests take one of those away each and see that
//! the checker finds what goes wrong then, so that it is known to look.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, unreachable_pub)]

mod life;
mod rules;

use life::{Life, Scope};
use rules::{I1_ISSUED, I1_REVOKED, I2, I4_TOLD};
use stateright::{Checker, Model};

/// Visits every state and sees that what must hold does in each, and that what shows that something
/// happened in them does in one.
fn holds(life: Life) {
    let checker = life.checker().threads(2).spawn_bfs().join();
    println!("{} states, at most {} steps", checker.unique_state_count(), checker.max_depth());
    checker.assert_properties();
}

/// Sees that a variant is found out, by these properties.
fn is_caught(life: Life, by: &'static [&'static str]) {
    let checker = Life { only: by, ..life }.checker().threads(2).spawn_bfs().join();
    for property in by {
        let path = checker.discovery(property).unwrap_or_else(|| panic!("not found out: {property}"));
        println!("{property}: {:?}", path.into_actions());
    }
}

#[test]
fn i1_i2_i3_i4_hold_in_every_order_on_two_nodes() {
    holds(Life::sound());
}

#[test]
fn i1_i2_i3_i4_hold_in_every_order_with_one_writer() {
    // The writer alone does it: PostgreSQL's locks are not there.
    let (scope, one_writer) = (Scope::one_node(), true);
    holds(Life { scope, one_writer, act_lock: false, tokens_lock: false, ..Life::sound() });
}

#[test]
fn i2_the_index_alone_guards_against_a_second_credential() {
    let life = Life { act_lock: false, only: &[I2], ..Life::sound() };
    life.checker().threads(2).spawn_bfs().join().assert_properties();
}

#[test]
fn without_the_lock_and_the_index_a_second_credential_is_found() {
    is_caught(Life { act_lock: false, index: false, ..Life::sound() }, &[I2]);
}

#[test]
fn with_a_remembered_standing_a_token_after_the_revocation_is_found() {
    is_caught(Life { cached: true, ..Life::sound() }, &[I1_ISSUED]);
}

#[test]
fn with_a_revocation_that_does_not_hold_tokens_a_token_after_it_is_found() {
    is_caught(Life { tokens_lock: false, ..Life::sound() }, &[I1_ISSUED]);
}

#[test]
fn with_an_answer_before_the_commit_a_false_acknowledgement_is_found() {
    is_caught(Life { told_early: true, ..Life::sound() }, &[I1_REVOKED, I4_TOLD]);
}
