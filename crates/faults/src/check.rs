//! Whether the calls about one user's credential can be put in an order, each somewhere between its call
//! and its return, in which the domain would have answered all of them so: stateright's
//! `LinearizabilityTester` over [`Register`].

use std::{collections::BTreeMap, path::Path};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use stateright::semantics::{ConsistencyTester, LinearizabilityTester};

use crate::{
    history::{Call, Operation, Outcome},
    register::{Register, Start, Step},
};

/// The search goes as deep as a history is long.
const STACK: usize = 1 << 29;
/// The thread of an unanswered call: behind those of all clients, so that it is tried last.
const UNANSWERED: u64 = 1 << 32;

/// The calls about one user's credential between two moments at which nobody was under way.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Window {
    /// What was known when it began.
    pub start: Start,
    /// The calls.
    pub calls: Vec<Call>,
}

/// Why no order fits.
#[derive(Debug)]
pub struct NoOrder {
    /// The first call whose answer fits into no order of those before it.
    pub first: Call,
}

impl std::fmt::Display for NoOrder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Call { client, user, node, operation, called, returned, outcome } = &self.first;
        write!(
            f,
            "the calls about {user}'s credential fit into no order: {operation:?} by client {client} at node \
             {node} ({called} to {returned} us) was answered {outcome:?}"
        )
    }
}

impl Window {
    /// Reads a window that was kept.
    ///
    /// # Errors
    /// When there is none, or it is not one.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("{} is not a kept history", path.display()))
    }

    /// Keeps it for another look.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn keep(&self, path: &Path) -> anyhow::Result<()> {
        std::fs::write(path, serde_json::to_vec_pretty(self)?)
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Looks for an order.
    ///
    /// # Errors
    /// When the search cannot be run; that there is no order is an answer.
    pub fn check(&self) -> anyhow::Result<Option<NoOrder>> {
        let window = self.clone();
        let search = std::thread::Builder::new().name("search".to_owned()).stack_size(STACK);
        let search = search.spawn(move || window.search()).context("cannot start the search")?;
        search.join().map_err(|_| anyhow::anyhow!("the search ended in a panic"))?
    }

    fn search(&self) -> anyhow::Result<Option<NoOrder>> {
        let mut calls = self.calls.clone();
        calls.sort_by_key(|call| call.returned);
        if linearizable(&self.start, &calls)? {
            return Ok(None);
        }
        // The more is known, the fewer orders fit; so the first answer that is too many is found by halving.
        let (mut good, mut bad) = (0, calls.len());
        while bad - good > 1 {
            let middle = good.midpoint(bad);
            if linearizable(&self.start, &known_after(&calls, middle))? {
                good = middle;
            } else {
                bad = middle;
            }
        }
        let first = calls.get(bad - 1).cloned().context("a history without a call fits")?;
        Ok(Some(NoOrder { first }))
    }
}

/// What was known when the first so many calls had returned: of those that had been made by then and
/// had not returned nobody knew what would come of them.
fn known_after(calls: &[Call], returned: usize) -> Vec<Call> {
    let (over, later) = calls.split_at(returned);
    let now = over.last().map_or(0, |call| call.returned);
    let open = later
        .iter()
        .filter(|call| call.called <= now)
        .map(|call| Call { outcome: Outcome::Unanswered("not yet".to_owned()), ..call.clone() });
    over.iter().cloned().chain(open).collect()
}

fn linearizable(start: &Start, calls: &[Call]) -> anyhow::Result<bool> {
    let calls: Vec<&Call> = calls.iter().filter(|call| says_something(call)).collect();
    let calls = without_implied(&calls);
    // Times are in whole microseconds: of two events in the same one the call comes first. What was not
    // answered may have happened at any time until the end, or not at all.
    let mut events: Vec<(u64, bool, usize)> = Vec::with_capacity(2 * calls.len());
    for (at, call) in calls.iter().enumerate() {
        events.push((call.called, false, at));
        events.push((if call.is_unanswered() { u64::MAX } else { call.returned }, true, at));
    }
    events.sort_unstable();
    let mut tester = LinearizabilityTester::new(Register::new(start));
    for (_, is_return, at) in events {
        let call = calls[at];
        let thread = if call.is_unanswered() { UNANSWERED + at as u64 } else { u64::from(call.client) };
        let noted = if is_return {
            tester.on_return(thread, call.outcome.clone())
        } else {
            tester.on_invoke(thread, Step { at, operation: call.operation.clone() })
        };
        noted.map_err(|error| anyhow::anyhow!("a client made two calls at once: {error}"))?;
    }
    Ok(tester.is_consistent())
}

/// A call that changed nothing and was told nothing says nothing.
fn says_something(call: &Call) -> bool {
    match call.outcome {
        Outcome::NotDone(_) => false,
        Outcome::Unanswered(_) => call.is_act(),
        _ => true,
    }
}

/// Leaves out every look that is implied by another: one that was asked the same, was answered the same,
/// and lay within its time. Where that one fits, this one fits right beside it.
fn without_implied<'a>(calls: &[&'a Call]) -> Vec<&'a Call> {
    let mut seen: BTreeMap<String, Vec<&Call>> = BTreeMap::new();
    let mut kept = Vec::with_capacity(calls.len());
    // By return, and of those that returned at once the shortest first: what lies within comes before.
    let mut by_return: Vec<&Call> = calls.to_vec();
    by_return.sort_by_key(|call| (call.returned, std::cmp::Reverse(call.called)));
    for call in by_return {
        let Some(kind) = kind_of_look(call) else {
            kept.push(call);
            continue;
        };
        let others = seen.entry(kind).or_default();
        if !others.iter().rev().take(64).any(|other| call.called <= other.called) {
            others.push(call);
            kept.push(call);
        }
    }
    kept
}

/// What was asked and answered, if the call changes nothing.
fn kind_of_look(call: &Call) -> Option<String> {
    let answer = match &call.outcome {
        Outcome::Issued(_) => "issued",
        Outcome::Active => "active",
        Outcome::Inactive => "inactive",
        Outcome::Refused(why) => why,
        _ => return None,
    };
    match &call.operation {
        Operation::Issue(id) => Some(format!("issue {id} {answer}")),
        Operation::Introspect(id) => Some(format!("introspect {id} {answer}")),
        _ => None,
    }
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
