//! The model: what clients send, what each step of a request does, what the database keeps.
//!
//! A request goes through the steps that the server takes for it: the locks it waits for, each look
//! at the database (which sees what is committed by then), the decision, the commit, and the answer
//! on its way. Between any two steps anything else may happen.

use jiff::{SignedDuration, Timestamp};
use portcullis_domain::{
    accounts::{Role, Standing as Owner, Status, UserId},
    credentials::{self, ClientId, Credential, Effect, RevocationReason, Standing},
    secret::KeyedDigest,
    sessions::{Actor, Opened},
    tokens::{Audience, TOKEN_LASTS_SECONDS, TokenTerms, ends_at},
};
use uuid::Uuid;

/// The instants there are: the beginning, a minute before the first credential ends, its end.
pub type Tick = u8;
pub const LAST_TICK: Tick = 2;
/// A credential, by the order in which they were generated.
pub type Number = u8;

pub const OWNER: UserId = UserId(Uuid::from_u128(1));

/// How much happens at most.
#[derive(Debug, Clone)]
pub struct Scope {
    /// The node of each request that may be under way at once.
    pub nodes: &'static [u8],
    /// How many requests are sent in all.
    pub requests: u8,
    /// How many times a node crashes.
    pub crashes: u8,
}

/// The model, and what is taken away from it.
#[derive(Debug, Clone)]
pub struct Life {
    /// How much happens.
    pub scope: Scope,
    /// SQLite: one transaction that writes at a time. Otherwise the locks of PostgreSQL alone.
    pub one_writer: bool,
    /// Acts wait for each other.
    pub act_lock: bool,
    /// What stops tokens waits for those being issued, and holds up others.
    pub tokens_lock: bool,
    /// The unique index of C-1.
    pub index: bool,
    /// Bug: the standing is read when a request arrives and not in its transaction.
    pub cached: bool,
    /// Bug: the answer is sent before the commit.
    pub told_early: bool,
    /// Which properties are looked at; when each is found, looking ends. Empty: all.
    pub only: &'static [&'static str],
}

/// What a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ask {
    Generate,
    Revoke,
    MfaOn,
    MfaOff,
    /// A token, with the secret of this credential.
    Token(Number),
}

/// What an answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Said {
    Generated(Number),
    Revoked(Number),
    Suspended,
    Resumed,
    Token(Token),
}

/// Where a request stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// There is none.
    Idle,
    /// On its way to the node.
    Sent(Ask),
    /// Bug: the node has looked at what it remembers.
    Remembered(Number, Option<Token>),
    /// An act has its transaction and the locks of its beginning.
    Begun(Ask),
    /// It has read the owner.
    KnowsOwner(Ask, Option<Tick>),
    /// It is decided, and written but for the commit.
    Decided(Said),
    /// Bug: the same, and the client knows already.
    Told(Said),
    /// In a transaction that issues tokens, with the request that leads it.
    Issuing(Number, Option<Token>, usize),
    /// Its decision is in that transaction.
    Judged(Option<Token>, usize),
    /// Bug: the same, and the client knows already.
    JudgedAndTold(Option<Token>, usize),
    /// The answer is on its way.
    Answered(Said),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kept {
    pub generated: Tick,
    pub retired: bool,
    pub revoked: Option<Tick>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token {
    pub of: Number,
    pub issued: Tick,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Event {
    Generated,
    Retired,
    Revoked,
    Suspended,
    Resumed,
}

/// What is committed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Database {
    pub credentials: Vec<Kept>,
    pub mfa: Option<Tick>,
    /// In order, each once: two of one credential and instant are alike in all that matters.
    pub tokens: Vec<Token>,
    pub records: Vec<(Event, Number)>,
}

/// What clients were told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Known {
    pub generated: Vec<Number>,
    pub revoked: Vec<Number>,
    /// That the credential is suspended, and nothing was resumed since.
    pub suspended: bool,
    pub tokens: Vec<Token>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    pub now: Tick,
    pub requests: u8,
    pub crashes: u8,
    pub stages: Vec<Stage>,
    pub acts: Option<usize>,
    pub tokens: Option<usize>,
    pub database: Database,
    pub known: Known,
    /// A token was put on record of a credential that was known not to work.
    pub issued_after: bool,
    /// The same, of one that did not work by what was committed.
    pub issued_while_stopped: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Send(usize, Ask),
    /// The next step of a request.
    Step(usize),
    /// The two token requests of these places share a transaction.
    Together(usize, usize),
    /// The answer arrives.
    Deliver(usize),
    /// A node loses everything but what is committed.
    Crash(u8),
    TimePasses,
}

pub fn instant(tick: Tick) -> Timestamp {
    let start = Timestamp::from_second(1_795_000_000).unwrap();
    let end = start + credentials::CREDENTIAL_LASTS;
    [start, end - SignedDuration::from_mins(1), end][usize::from(tick)]
}

pub fn owner(mfa: Option<Tick>) -> Owner {
    let ever = Timestamp::UNIX_EPOCH;
    Owner {
        role: (Role::SuperAdmin, ever),
        status: (Status::Active, ever),
        mfa_since: mfa.map(instant),
        has_password: true,
    }
}

/// The owner, who has just given the password.
pub fn actor(now: Tick) -> Actor {
    Actor::Session { user: OWNER, opened: Opened::Password, password_at: Some(instant(now)) }
}

impl Kept {
    pub fn credential(self, number: Number) -> Credential {
        let generated_at = instant(self.generated);
        Credential {
            id: Uuid::from_u128(u128::from(number)),
            owner: OWNER,
            client_id: ClientId::new([number; 20]),
            digest: KeyedDigest { key_id: String::new(), bytes: [number; 32] },
            generated_at,
            expires_at: generated_at + credentials::CREDENTIAL_LASTS,
            retired_at: self.retired.then_some(generated_at),
            revoked: self.revoked.map(|at| (instant(at), RevocationReason::ByOwner)),
            key: None,
            secret_off_at: None,
            had_key: false,
        }
    }

    /// In the terms of the index `c1_one_active_credential`.
    pub fn has_the_place(self) -> bool {
        !self.retired && self.revoked.is_none()
    }
}

impl Database {
    pub fn standing(&self, number: Number, now: Tick) -> Standing {
        self.credentials[usize::from(number)].credential(number).standing(&owner(self.mfa), instant(now))
    }

    /// The credential in the owner's place.
    pub fn held(&self) -> Option<(Number, Credential)> {
        let at = self.credentials.iter().rposition(|kept| kept.has_the_place())?;
        let number = Number::try_from(at).unwrap();
        Some((number, self.credentials[at].credential(number)))
    }

    /// The token that this credential gets now, if it gets one.
    fn judge(&self, number: Number, now: Tick) -> Option<Token> {
        let credential = self.credentials[usize::from(number)].credential(number);
        let works = credential.standing(&owner(self.mfa), instant(now)) == Standing::Active;
        let end = ends_at(instant(now), TOKEN_LASTS_SECONDS, credential.expires_at);
        (works && end.is_some()).then_some(Token { of: number, issued: now })
    }

    pub fn on_record(&self, token: Token) -> TokenTerms {
        let credential = self.credentials[usize::from(token.of)].credential(token.of);
        let issued_at = instant(token.issued);
        TokenTerms {
            jti: Uuid::nil(),
            credential: credential.id,
            audience: Audience { api: Uuid::nil(), identifier: String::new(), is_registered: true },
            expires_at: ends_at(issued_at, TOKEN_LASTS_SECONDS, credential.expires_at).unwrap(),
            revoked_at: None,
        }
    }

    pub fn is_active(&self, token: Token, now: Tick) -> bool {
        self.on_record(token).is_active(self.standing(token.of, now), instant(now))
    }

    fn record(&mut self, event: Event, number: Number) {
        self.records.push((event, number));
        self.records.sort_unstable();
    }

    pub fn count(&self, event: Event, number: Number) -> usize {
        self.records.iter().filter(|record| **record == (event, number)).count()
    }

    /// Writes an act with its records, or refuses all of it by a constraint.
    pub fn apply(&mut self, said: Said, now: Tick, index: bool) -> bool {
        let before = owner(self.mfa);
        let held = self.held();
        match said {
            Said::Generated(_) => {
                let number = Number::try_from(self.credentials.len()).unwrap();
                let over = held.filter(|(_, c)| matches!(c.standing(&before, instant(now)), Standing::Expired(_)));
                let mut after = self.clone();
                if let Some((old, _)) = over {
                    after.credentials[usize::from(old)].retired = true;
                    after.record(Event::Retired, old);
                }
                if index && after.credentials.iter().any(|kept| kept.has_the_place()) {
                    return false;
                }
                after.credentials.push(Kept { generated: now, retired: false, revoked: None });
                after.record(Event::Generated, number);
                *self = after;
            }
            Said::Revoked(number) => {
                let kept = &mut self.credentials[usize::from(number)];
                if kept.revoked.is_some() {
                    return false;
                }
                kept.revoked = Some(now);
                self.record(Event::Revoked, number);
            }
            Said::Suspended | Said::Resumed => {
                self.mfa = (said == Said::Suspended).then_some(now);
                let effect = held.and_then(|(n, c)| Some((n, c.effect(&before, &owner(self.mfa), instant(now))?)));
                match effect {
                    Some((number, Effect::Suspended(_))) => self.record(Event::Suspended, number),
                    Some((number, Effect::Resumed)) => self.record(Event::Resumed, number),
                    _ => {}
                }
            }
            Said::Token(token) => {
                if let Err(at) = self.tokens.binary_search(&token) {
                    self.tokens.insert(at, token);
                }
            }
        }
        true
    }
}

impl State {
    /// Whether a transaction that issues tokens is under way.
    pub fn issues(&self) -> bool {
        self.stages.iter().any(|s| matches!(s, Stage::Issuing(..) | Stage::Judged(..) | Stage::JudgedAndTold(..)))
    }

    /// Whether any transaction that writes is.
    pub fn writes(&self) -> bool {
        let acts =
            |s: &Stage| matches!(s, Stage::Begun(_) | Stage::KnowsOwner(..) | Stage::Decided(_) | Stage::Told(_));
        self.issues() || self.stages.iter().any(acts)
    }

    /// The places that are in the transaction that this one leads.
    fn led_by(&self, leader: usize) -> Vec<usize> {
        let led = |s: &Stage| matches!(s, Stage::Issuing(_, _, l) | Stage::Judged(_, l) | Stage::JudgedAndTold(_, l) if *l == leader);
        (0..self.stages.len()).filter(|at| led(&self.stages[*at])).collect()
    }

    pub fn release(&mut self, at: usize) {
        self.acts = self.acts.filter(|holder| *holder != at);
        self.tokens = self.tokens.filter(|holder| *holder != at);
    }

    /// A client learns what an answer says.
    pub fn learn(&mut self, said: Said) {
        let known = &mut self.known;
        let mut add = |list: fn(&mut Known) -> &mut Vec<Number>, number| {
            let list = list(known);
            if let Err(at) = list.binary_search(&number) {
                list.insert(at, number);
            }
        };
        match said {
            Said::Generated(number) => add(|k| &mut k.generated, number),
            Said::Revoked(number) => add(|k| &mut k.revoked, number),
            Said::Suspended => known.suspended = true,
            Said::Resumed => known.suspended = false,
            Said::Token(token) => {
                if let Err(at) = known.tokens.binary_search(&token) {
                    known.tokens.insert(at, token);
                }
            }
        }
    }

    /// The commit of one thing.
    fn commit(&mut self, said: Said, index: bool) -> bool {
        if let Said::Token(token) = said {
            let standing = self.database.standing(token.of, token.issued);
            let known = &self.known;
            self.issued_after |= known.suspended || known.revoked.contains(&token.of);
            // What ended by time meanwhile was not stopped: its tokens end no later.
            self.issued_while_stopped |= matches!(standing, Standing::Revoked(..) | Standing::Suspended(..));
        }
        if !self.database.apply(said, self.now, index) {
            return false;
        }
        if said == Said::Resumed {
            // Whoever is told of the suspension later is told of the past.
            self.known.suspended = false;
            for stage in &mut self.stages {
                if *stage == Stage::Answered(Said::Suspended) {
                    *stage = Stage::Idle;
                }
            }
        }
        true
    }
}

impl Life {
    /// As the product is.
    pub fn sound() -> Self {
        Self {
            scope: Scope::two_nodes(),
            one_writer: false,
            act_lock: true,
            tokens_lock: true,
            index: true,
            cached: false,
            told_early: false,
            only: &[],
        }
    }

    /// Whether a request may take its next step, or has to wait for somebody else.
    pub fn may_begin(&self, state: &State, ask: Ask) -> bool {
        if self.one_writer && state.writes() {
            return false;
        }
        match ask {
            Ask::Token(_) => state.tokens.is_none(),
            _ if self.act_lock && state.acts.is_some() => false,
            Ask::Generate => true,
            Ask::Revoke | Ask::MfaOn | Ask::MfaOff => {
                !self.tokens_lock || (state.tokens.is_none() && !state.issues())
            }
        }
    }

    fn begin(&self, state: &mut State, at: usize, ask: Ask) -> Stage {
        match ask {
            Ask::Token(number) => Stage::Issuing(number, None, at),
            _ => {
                if self.act_lock {
                    state.acts = Some(at);
                }
                if self.tokens_lock && ask != Ask::Generate {
                    state.tokens = Some(at);
                }
                Stage::Begun(ask)
            }
        }
    }

    /// The decision of an act, by the domain, from the owner as read before and what is read now.
    fn decide(state: &State, ask: Ask, mfa: Option<Tick>) -> Option<Said> {
        let (held, now, owner) = (state.database.held(), state.now, owner(mfa));
        let credential = held.as_ref().map(|(_, credential)| credential);
        let next = Number::try_from(state.database.credentials.len()).unwrap();
        match ask {
            Ask::Generate => {
                credentials::generate(&actor(now), &owner, credential, instant(now)).ok()?;
                Some(Said::Generated(next))
            }
            Ask::Revoke => {
                credentials::revoke(&actor(now), &owner, OWNER, credential).ok()?;
                held.map(|(number, _)| Said::Revoked(number))
            }
            Ask::MfaOn => mfa.is_none().then_some(Said::Suspended),
            Ask::MfaOff => mfa.is_some().then_some(Said::Resumed),
            Ask::Token(_) => None,
        }
    }

    /// The next step of a transaction that issues tokens.
    pub fn issue(&self, state: &mut State, leader: usize) {
        for at in state.led_by(leader) {
            state.stages[at] = match state.stages[at] {
                Stage::Issuing(number, remembered, _) => {
                    let token = if self.cached { remembered } else { state.database.judge(number, state.now) };
                    Stage::Judged(token, leader)
                }
                Stage::Judged(token, _) if self.told_early => {
                    token.into_iter().for_each(|token| state.learn(Said::Token(token)));
                    Stage::JudgedAndTold(token, leader)
                }
                Stage::Judged(Some(token), _) => {
                    state.commit(Said::Token(token), self.index);
                    Stage::Answered(Said::Token(token))
                }
                Stage::JudgedAndTold(Some(token), _) => {
                    state.commit(Said::Token(token), self.index);
                    Stage::Idle
                }
                _ => Stage::Idle,
            };
        }
    }

    /// The next step of one request.
    pub fn step(&self, state: &mut State, at: usize) {
        let stage = match state.stages[at] {
            Stage::Sent(Ask::Token(number)) if self.cached => {
                Stage::Remembered(number, state.database.judge(number, state.now))
            }
            Stage::Remembered(number, token) => Stage::Issuing(number, token, at),
            Stage::Sent(ask) => self.begin(state, at, ask),
            Stage::Begun(ask) => Stage::KnowsOwner(ask, state.database.mfa),
            Stage::KnowsOwner(ask, mfa) => Self::decide(state, ask, mfa).map_or(Stage::Idle, Stage::Decided),
            Stage::Decided(said) if self.told_early => {
                state.learn(said);
                Stage::Told(said)
            }
            Stage::Decided(said) | Stage::Told(said) => {
                // Told already, or refused by a constraint, there is nothing more to say.
                let done = state.commit(said, self.index);
                if done && !self.told_early { Stage::Answered(said) } else { Stage::Idle }
            }
            other => other,
        };
        if matches!(stage, Stage::Idle | Stage::Answered(_)) {
            state.release(at);
        }
        state.stages[at] = stage;
    }
}
