//! What the clients do while something breaks: each owner with two hands, the Super Admin who suspends
//! and resumes, and programs that ask for tokens and APIs that ask about them.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use fastrand::Rng;
use tokio::{task::JoinSet, time::sleep};

use crate::{
    history::{Call, Desk, Operation, Outcome, Pen},
    outside,
    people::{Pair, Person},
};

/// How long is waited for clients to have done all that they are there for. It takes a second or two.
const BEGUN_WITHIN: Duration = Duration::from_secs(60);

/// A server as clients know it: its name and its URL.
pub type Door = (String, String);

/// What a client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The owner generates and revokes.
    Hand,
    /// A Super Admin takes and gives the role; the owner turns MFA on, the Super Admin turns it off.
    Suspender,
    /// The same without MFA: where the clocks of servers are not those of phones.
    RoleTaker,
    /// A program asks for tokens, an API asks about them.
    Program,
}

/// What clients are there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deed {
    /// Generating a credential.
    Generating,
    /// Revoking one.
    Revoking,
    /// Asking for a token and getting one.
    Issuing,
    /// Taking an owner's role.
    TakingRole,
    /// Turning MFA on.
    TurningMfaOn,
}

impl Deed {
    /// What a call did, if it did one of these.
    fn of(call: &Call) -> Option<Self> {
        match (&call.operation, &call.outcome) {
            (_, Outcome::Generated(_)) => Some(Self::Generating),
            (_, Outcome::Revoked(_)) => Some(Self::Revoking),
            (_, Outcome::Issued(_)) => Some(Self::Issuing),
            (Operation::TakeRole, Outcome::Done) => Some(Self::TakingRole),
            (Operation::MfaOn, Outcome::Done) => Some(Self::TurningMfaOn),
            _ => None,
        }
    }
}

/// What the clients of an arena did. A load that never does what it is there for would show nothing.
#[derive(Debug)]
pub struct Work {
    with_mfa: bool,
    done: Mutex<BTreeSet<Deed>>,
}

impl Work {
    /// Nothing is done yet. Without MFA it is not missed.
    #[must_use]
    pub fn new(with_mfa: bool) -> Self {
        Self { with_mfa, done: Mutex::default() }
    }

    /// Takes note of what a call did.
    fn saw(&self, call: &Call) {
        if let Some(deed) = Deed::of(call) {
            self.done.lock().unwrap_or_else(PoisonError::into_inner).insert(deed);
        }
    }

    /// What nobody did with success.
    #[must_use]
    pub fn missing(&self) -> Vec<Deed> {
        let mut all = vec![Deed::Generating, Deed::Revoking, Deed::Issuing, Deed::TakingRole];
        all.extend(self.with_mfa.then_some(Deed::TurningMfaOn));
        let done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|deed| !done.contains(deed));
        all
    }

    /// Waits until nothing is missing, or for so long that something always will be.
    pub async fn wait(&self) {
        let since = outside::instant();
        while !self.missing().is_empty() && since.elapsed() < BEGUN_WITHIN {
            sleep(Duration::from_millis(10)).await;
        }
    }
}

/// One client at work.
pub struct Worker {
    /// What it does.
    pub part: Part,
    /// Whose credential it is about.
    pub owner: Arc<Person>,
    /// The Super Admin.
    pub operator: Arc<Person>,
    /// The key of the API.
    pub key: Pair,
    /// The servers it may ask.
    pub doors: Vec<Door>,
    /// What is left to chance for it.
    pub rng: Rng,
    /// What all of them did.
    pub work: Arc<Work>,
}

/// Clients at work.
pub struct Load {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<anyhow::Result<Vec<Call>>>,
}

impl Load {
    /// Sets clients to work.
    ///
    /// # Errors
    /// When a client's file cannot be made.
    pub fn start(workers: Vec<Worker>, desk: &Desk) -> anyhow::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for worker in workers {
            let (pen, stop) = (desk.pen()?, Arc::clone(&stop));
            tasks.spawn(worker.run(pen, stop));
        }
        Ok(Self { stop, tasks })
    }

    /// Lets them finish what they are at: all their calls.
    ///
    /// # Errors
    /// When one of them could not write down what it did.
    pub async fn stop(mut self) -> anyhow::Result<Vec<Call>> {
        self.stop.store(true, Ordering::Relaxed);
        let mut calls = Vec::new();
        while let Some(ended) = self.tasks.join_next().await {
            calls.extend(ended.context("a client ended in a panic")??);
        }
        Ok(calls)
    }
}

impl Worker {
    async fn run(mut self, mut pen: Pen, stop: Arc<AtomicBool>) -> anyhow::Result<Vec<Call>> {
        while !stop.load(Ordering::Relaxed) {
            let (name, url) = self.rng.choice(&self.doors).cloned().context("no server to ask")?;
            let owner = Arc::clone(&self.owner);
            let what = (&*owner.email, &*name);
            let outcome = match self.part {
                Part::Hand => self.hand(&mut pen, what, &url).await?,
                Part::Suspender | Part::RoleTaker => self.suspend(&mut pen, what, &url).await?,
                Part::Program => self.program(&mut pen, what, &url).await?,
            };
            if let Some(call) = pen.last() {
                self.work.saw(call);
            }
            match outcome {
                Some(Outcome::NotDone(why)) if why == "not_signed_in" => {
                    let who = if self.part == Part::Hand { &self.owner } else { &self.operator };
                    who.sign_in(&url, None).await;
                }
                Some(Outcome::Refused(why)) if why == "password_needed" => {
                    self.owner.sign_in(&url, None).await;
                }
                Some(Outcome::NotDone(_) | Outcome::Unanswered(_)) => sleep(Duration::from_millis(20)).await,
                _ => {}
            }
            let pause = if self.part == Part::Program { 12_000 } else { 30_000 };
            sleep(Duration::from_micros(self.rng.u64(..pause))).await;
        }
        Ok(pen.take())
    }

    async fn hand(&mut self, pen: &mut Pen, what: (&str, &str), url: &str) -> anyhow::Result<Option<Outcome>> {
        let owner = &self.owner;
        let outcome = if self.rng.bool() {
            pen.note(what, Operation::Generate, owner.generate(url)).await?
        } else {
            pen.note(what, Operation::Revoke, owner.revoke(url)).await?
        };
        Ok(Some(outcome.clone()))
    }

    async fn suspend(&mut self, pen: &mut Pen, what: (&str, &str), url: &str) -> anyhow::Result<Option<Outcome>> {
        let (owner, operator) = (&*self.owner, &self.operator);
        sleep(Duration::from_micros(self.rng.u64(..60_000))).await;
        let with_mfa = self.part == Part::Suspender;
        // It is one in eight, and often refused: until somebody did it, it is one in two.
        let is_missing = with_mfa && self.work.missing().contains(&Deed::TurningMfaOn);
        let roll = if is_missing && self.rng.bool() { 5 } else { self.rng.u8(..if with_mfa { 8 } else { 5 }) };
        let outcome = match roll {
            0 | 1 => pen.note(what, Operation::TakeRole, operator.manage(url, owner, "take-super-admin")).await?,
            2..=4 => pen.note(what, Operation::GiveRole, operator.manage(url, owner, "give-super-admin")).await?,
            5 => {
                let second = outside::now().as_second();
                pen.note(what, Operation::MfaOn, async { owner.mfa_on(url, second).await.0 }).await?
            }
            _ => pen.note(what, Operation::MfaOff, operator.manage(url, owner, "turn-mfa-off")).await?,
        };
        // That the owner's session is over is the owner's to mend.
        let theirs = roll == 5 && matches!(outcome, Outcome::NotDone(_));
        Ok((!theirs).then(|| outcome.clone()))
    }

    async fn program(&mut self, pen: &mut Pen, what: (&str, &str), url: &str) -> anyhow::Result<Option<Outcome>> {
        let owner = &self.owner;
        let token = if self.rng.bool() { owner.a_token(&mut self.rng) } else { None };
        if let Some(token) = token {
            let asked = Operation::Introspect(token.client_id.clone());
            return Ok(Some(pen.note(what, asked, owner.introspect(url, &self.key, &token)).await?.clone()));
        }
        let Some(pair) = owner.a_pair(&mut self.rng) else { return Ok(None) };
        let asked = Operation::Issue(pair.id.clone());
        Ok(Some(pen.note(what, asked, owner.issue(url, &pair)).await?.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(operation: Operation, outcome: Outcome) -> Call {
        let (user, node) = (String::new(), String::new());
        Call { client: 1, user, node, operation, called: 0, returned: 1, outcome }
    }

    #[test]
    fn what_nobody_did_with_success_is_missing() {
        let refused = || Outcome::Refused("refused".to_owned());
        let (all, without_mfa) = (Work::new(true), Work::new(false));
        for work in [&all, &without_mfa] {
            work.saw(&call(Operation::Generate, Outcome::Generated("a".to_owned())));
            work.saw(&call(Operation::Revoke, Outcome::Revoked("a".to_owned())));
            work.saw(&call(Operation::TakeRole, Outcome::Done));
            work.saw(&call(Operation::MfaOn, refused()));
            work.saw(&call(Operation::Issue("a".to_owned()), refused()));
        }
        assert_eq!(all.missing(), [Deed::Issuing, Deed::TurningMfaOn]);
        assert_eq!(without_mfa.missing(), [Deed::Issuing]);
        all.saw(&call(Operation::Issue("a".to_owned()), Outcome::Issued(uuid::Uuid::nil())));
        all.saw(&call(Operation::MfaOn, Outcome::Done));
        assert!(all.missing().is_empty());
    }
}
