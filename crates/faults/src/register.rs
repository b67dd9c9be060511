//! What one user's credential may do: the rules of the domain, asked one call after the other.
//!
//! Nothing is decided here. Generating, revoking, the acts of a Super Admin and the standing are the
//! functions of `portcullis-domain`; this file keeps the credential and its owner's facts between two
//! calls, and compares what the domain says with what a client was answered.

use std::{
    collections::{BTreeSet, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use jiff::Timestamp;
use portcullis_domain::{
    accounts::{Role, Standing as OwnerStanding, Status, UserId, manage},
    credentials::{self, ClientId, Credential, RevocationReason, Standing},
    mfa,
    secret::DigestKey,
    sessions::{Actor, Opened},
};
use serde::{Deserialize, Serialize};
use stateright::semantics::SequentialSpec;
use uuid::Uuid;

use crate::history::{Operation, Outcome};

/// The user, and the Super Admin who manages them.
const OWNER: UserId = UserId(Uuid::from_u128(1));
const OPERATOR: UserId = UserId(Uuid::from_u128(2));
/// The instant of every act here: what follows from the passing of time is not looked at.
const NOW: Timestamp = Timestamp::UNIX_EPOCH;

/// What is known of a user when a history begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// The Client ID of the active credential, if there is one. The owner is a Super Admin without MFA.
    pub held: Option<String>,
    /// Whether a refusal counts as an answer that fits at any time. So it is where the clocks of nodes
    /// differ: what is refused too much is safe (I6), what is granted too much is not (I1).
    pub refusals_fit: bool,
}

/// A call of a history by its place in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The place.
    pub at: usize,
    /// What was asked for.
    pub operation: Operation,
}

/// What states are told apart by: what is held, whether the owner has MFA, and is a Super Admin.
type Facts = (Option<String>, bool, bool);

/// The states that are possible, and which calls were put in order.
type Reached = (BTreeSet<Facts>, BTreeSet<usize>);

/// A user's credential and what decides about it, in one state.
#[derive(Debug, Clone)]
struct State {
    owner: OwnerStanding,
    held: Option<Credential>,
    /// Nobody was told the Client ID of what is held: the call that made it was not answered.
    unknown: bool,
    refusals_fit: bool,
}

/// All the states that a user's credential can be in after the calls that were put in order: a call that
/// was not answered may have happened or not.
#[derive(Debug, Clone)]
pub struct Register {
    states: Vec<State>,
    done: BTreeSet<usize>,
    /// What the search has been at already: from there it need not go on twice (Lowe, "Testing for
    /// linearizability"). The clones of one search share it.
    reached: Arc<Mutex<HashSet<Reached>>>,
}

fn super_admin() -> OwnerStanding {
    OwnerStanding {
        role: (Role::SuperAdmin, NOW),
        status: (Status::Active, NOW),
        mfa_since: None,
        has_password: true,
    }
}

fn session(user: UserId) -> Actor {
    Actor::Session { user, opened: Opened::Password, password_at: Some(NOW) }
}

/// A credential as the store would give it. A text that is no Client ID stands for one that is nobody's.
fn credential(client_id: Option<&str>) -> Credential {
    Credential {
        id: Uuid::nil(),
        owner: OWNER,
        client_id: client_id.and_then(ClientId::parse).unwrap_or_else(|| ClientId::new([0; 20])),
        digest: DigestKey::new("", &[0; 32]).digest(b""),
        generated_at: NOW,
        expires_at: NOW + credentials::CREDENTIAL_LASTS,
        retired_at: None,
        revoked: None,
        key: None,
        secret_off_at: None,
        had_key: false,
    }
}

impl State {
    /// As a history begins.
    fn new(start: &Start) -> Self {
        Self {
            owner: super_admin(),
            held: start.held.as_deref().map(|id| credential(Some(id))),
            unknown: false,
            refusals_fit: start.refusals_fit,
        }
    }

    /// Whether this Client ID is that of what is held; who was told one was not told of an unknown one.
    fn holds(&self, client_id: &str) -> bool {
        !self.unknown && self.held.as_ref().is_some_and(|c| c.client_id.as_str() == client_id)
    }

    /// Where the credential with this Client ID stands: what is not held any more was revoked.
    fn standing(&self, client_id: &str) -> Standing {
        match &self.held {
            Some(held) if self.holds(client_id) => held.standing(&self.owner, NOW),
            _ => Standing::Revoked(NOW, RevocationReason::ByOwner),
        }
    }

    fn managed(&mut self, act: manage::Act) -> Result<(), &'static str> {
        let operator = super_admin();
        let after = manage::decide(act, (&session(OPERATOR), &operator), (OWNER, &self.owner), 1, NOW);
        self.owner = after.map_err(manage::ManageRefused::code)?;
        Ok(())
    }

    /// Does an act as the domain decides it. `client_id` is the one that a new credential gets.
    fn act(&mut self, operation: &Operation, client_id: Option<&str>) -> Result<(), &'static str> {
        match operation {
            Operation::Generate => {
                credentials::generate(&session(OWNER), &self.owner, self.held.as_ref(), NOW)
                    .map_err(credentials::GenerateRefused::code)?;
                self.unknown = client_id.is_none();
                self.held = Some(credential(client_id));
                Ok(())
            }
            Operation::Revoke => {
                credentials::revoke(&session(OWNER), &self.owner, OWNER, self.held.as_ref())
                    .map_err(credentials::RevokeRefused::code)?;
                self.held = None;
                Ok(())
            }
            Operation::TakeRole => self.managed(manage::Act::TakeSuperAdmin),
            Operation::GiveRole => self.managed(manage::Act::GiveSuperAdmin),
            Operation::MfaOff => self.managed(manage::Act::TurnMfaOff),
            Operation::MfaOn => {
                mfa::add(&self.owner, None).map_err(|_| "refused")?;
                self.owner.mfa_since = Some(NOW);
                Ok(())
            }
            Operation::Issue(_) | Operation::Introspect(_) | Operation::Look => Ok(()),
        }
    }

    /// Whether this rule would have refused here. Which of its rules keeps somebody from adding a factor
    /// is a page, and how old a password is, is not followed: both fit.
    fn would_refuse(&mut self, operation: &Operation, why: &str) -> bool {
        match operation {
            Operation::MfaOn => true,
            Operation::Generate if why == "password_needed" => true,
            Operation::Issue(id) => self.standing(id).code() == why,
            Operation::Introspect(_) => false,
            Operation::Look => !self.owner.is_super_admin() && why == "not_super_admin",
            act => self.clone().act(act, None) == Err(why),
        }
    }

    fn fits(&mut self, operation: &Operation, outcome: &Outcome) -> bool {
        match (operation, outcome) {
            (Operation::Generate, Outcome::Generated(id)) => self.act(operation, Some(id)).is_ok(),
            (Operation::Revoke, Outcome::Revoked(id)) => {
                (self.unknown || self.holds(id)) && self.act(operation, None).is_ok()
            }
            (Operation::Issue(id), Outcome::Issued(_)) | (Operation::Introspect(id), Outcome::Active) => {
                matches!(self.standing(id), Standing::Active)
            }
            (Operation::Introspect(id), Outcome::Inactive) => {
                self.refusals_fit || !matches!(self.standing(id), Standing::Active)
            }
            (Operation::Look, Outcome::Looked(None)) => self.held.is_none() && self.owner.is_super_admin(),
            (Operation::Look, Outcome::Looked(Some((id, code)))) => {
                if self.unknown {
                    self.held = self.held.as_ref().map(|_| credential(Some(id)));
                    self.unknown = false;
                }
                self.owner.is_super_admin() && self.holds(id) && self.standing(id).code() == code
            }
            (Operation::TakeRole | Operation::GiveRole | Operation::MfaOn | Operation::MfaOff, Outcome::Done) => {
                self.act(operation, None).is_ok()
            }
            (_, Outcome::Refused(why)) => self.refusals_fit || self.would_refuse(operation, why),
            // What was not done changed nothing.
            (_, Outcome::NotDone(_)) => true,
            _ => false,
        }
    }

    /// What tells it from others.
    fn told_apart_by(&self) -> Facts {
        let held = self.held.as_ref().map(|c| if self.unknown { "?" } else { c.client_id.as_str() }.to_owned());
        (held, self.owner.mfa_since.is_some(), self.owner.role.0 == Role::SuperAdmin)
    }
}

impl Register {
    /// The register as a history begins.
    #[must_use]
    pub fn new(start: &Start) -> Self {
        Self { states: vec![State::new(start)], done: BTreeSet::new(), reached: Arc::default() }
    }

    /// Adds the states in which an act has happened to those in which it has not.
    fn may_have_done(&mut self, operation: &Operation) {
        let mut after = self.states.clone();
        after.retain_mut(|state| state.act(operation, None).is_ok());
        self.states.append(&mut after);
    }

    /// Leaves each state once, and gives what they are told apart by.
    fn tidy(&mut self) -> BTreeSet<Facts> {
        let mut seen = BTreeSet::new();
        self.states.retain(|state| seen.insert(state.told_apart_by()));
        seen
    }

    /// Whether the search has not been at these states with these calls in order, and is now.
    fn is_new(&self, seen: BTreeSet<Facts>) -> bool {
        self.reached.lock().unwrap_or_else(PoisonError::into_inner).insert((seen, self.done.clone()))
    }
}

impl SequentialSpec for Register {
    type Op = Step;
    type Ret = Outcome;

    /// A call that has no return. The checker gives one to every call; this is for who does not.
    fn invoke(&mut self, step: &Step) -> Outcome {
        let unanswered = Outcome::Unanswered(String::new());
        self.is_valid_step(step, &unanswered);
        unanswered
    }

    fn is_valid_step(&mut self, step: &Step, outcome: &Outcome) -> bool {
        self.done.insert(step.at);
        if let Outcome::Unanswered(_) = outcome {
            self.may_have_done(&step.operation);
        } else {
            self.states.retain_mut(|state| state.fits(&step.operation, outcome));
        }
        let seen = self.tidy();
        !seen.is_empty() && self.is_new(seen)
    }
}
