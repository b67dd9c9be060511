//! What may happen in a state, and what must hold in every one of them.

use portcullis_domain::credentials::{self, Standing};
use stateright::{Model, Property};

use crate::life::{
    Action, Ask, Event, LAST_TICK, Life, Number, OWNER, Said, Scope, Stage, State, Token, actor, instant, owner,
};

impl Scope {
    /// Two requests at once on one node and one on another, on the same database.
    pub fn two_nodes() -> Self {
        Self { nodes: &[0, 0, 1], requests: 3, crashes: 1 }
    }

    /// Three requests at once on one node.
    pub fn one_node() -> Self {
        Self { nodes: &[0, 0, 0], requests: 3, crashes: 1 }
    }
}

impl Life {
    /// Whether a request may go a step further.
    fn may_step(&self, state: &State, at: usize) -> bool {
        match state.stages[at] {
            Stage::Idle | Stage::Answered(_) => false,
            Stage::Sent(Ask::Token(_)) if self.cached => true,
            Stage::Sent(ask) => self.may_begin(state, ask),
            Stage::Remembered(number, _) => self.may_begin(state, Ask::Token(number)),
            Stage::Issuing(.., leader) | Stage::Judged(_, leader) | Stage::JudgedAndTold(_, leader) => {
                leader == at
            }
            _ => true,
        }
    }

    /// The token requests that may share a transaction with this one.
    fn mates<'a>(&'a self, state: &'a State, at: usize) -> impl Iterator<Item = usize> + 'a {
        let waits = |at: usize| matches!(state.stages[at], Stage::Sent(Ask::Token(_)));
        let may = !self.cached && waits(at) && self.may_step(state, at);
        let nodes = self.scope.nodes;
        (at + 1..nodes.len()).filter(move |mate| may && nodes[*mate] == nodes[at] && waits(*mate))
    }

    /// What clients may send now. Places of one node are alike, so the first that is free is taken.
    fn sendable(&self, state: &State, actions: &mut Vec<Action>) {
        if state.requests == 0 {
            return;
        }
        let nodes = self.scope.nodes;
        let is_free = |at: &usize| state.stages[*at] == Stage::Idle;
        let first = |at: &usize| !(0..*at).any(|other| nodes[other] == nodes[*at] && is_free(&other));
        for at in (0..nodes.len()).filter(is_free).filter(first) {
            let tokens = (0..state.database.credentials.len()).map(|n| Ask::Token(Number::try_from(n).unwrap()));
            let acts = [Ask::Generate, Ask::Revoke, Ask::MfaOn, Ask::MfaOff];
            actions.extend(acts.into_iter().chain(tokens).map(|ask| Action::Send(at, ask)));
        }
    }

    fn crash(&self, state: &mut State, node: u8) {
        state.crashes -= 1;
        for at in (0..state.stages.len()).filter(|at| self.scope.nodes[*at] == node) {
            if !matches!(state.stages[at], Stage::Sent(_)) {
                state.release(at);
                state.stages[at] = Stage::Idle;
            }
        }
    }
}

impl Model for Life {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let nobody = State {
            now: 0,
            requests: self.scope.requests,
            crashes: self.scope.crashes,
            stages: vec![Stage::Idle; self.scope.nodes.len()],
            acts: None,
            tokens: None,
            database: Default::default(),
            known: Default::default(),
            issued_after: false,
            issued_while_stopped: false,
        };
        let mut in_use = nobody.clone();
        for said in [Said::Generated(0), Said::Token(Token { of: 0, issued: 0 })] {
            in_use.database.apply(said, 0, self.index);
            in_use.learn(said);
        }
        vec![nobody, in_use]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.sendable(state, actions);
        for at in 0..state.stages.len() {
            if self.may_step(state, at) {
                actions.push(Action::Step(at));
            }
            if matches!(state.stages[at], Stage::Answered(_)) {
                actions.push(Action::Deliver(at));
            }
            actions.extend(self.mates(state, at).map(|mate| Action::Together(at, mate)));
        }
        let works = |node: &u8| {
            let mut places = state.stages.iter().zip(self.scope.nodes);
            places.any(|(stage, on)| on == node && !matches!(stage, Stage::Idle | Stage::Sent(_)))
        };
        if state.crashes > 0 {
            actions.extend([0, 1].iter().filter(|node| works(node)).map(|node| Action::Crash(*node)));
        }
        if state.now < LAST_TICK {
            actions.push(Action::TimePasses);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Send(at, ask) => {
                state.requests -= 1;
                state.stages[at] = Stage::Sent(ask);
            }
            Action::Step(at) => match state.stages[at] {
                Stage::Issuing(..) | Stage::Judged(..) | Stage::JudgedAndTold(..) => self.issue(&mut state, at),
                _ => self.step(&mut state, at),
            },
            Action::Together(at, mate) => {
                for place in [at, mate] {
                    if let Stage::Sent(Ask::Token(number)) = state.stages[place] {
                        state.stages[place] = Stage::Issuing(number, None, at);
                    }
                }
            }
            Action::Deliver(at) => {
                if let Stage::Answered(said) = state.stages[at] {
                    state.learn(said);
                    state.stages[at] = Stage::Idle;
                }
            }
            Action::Crash(node) => self.crash(&mut state, node),
            Action::TimePasses => state.now += 1,
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut all = must_hold();
        all.extend(must_happen());
        all.retain(|property| self.only.is_empty() || self.only.contains(&property.name));
        all
    }
}

/// What holds in every state.
fn must_hold() -> Vec<Property<Life>> {
    vec![
        Property::always(I1_REVOKED, |_, s: &State| s.known.revoked.iter().all(|n| s.is_stopped(*n))),
        Property::always(I1_SUSPENDED, |_, s: &State| !s.known.suspended || s.numbers().all(|n| s.is_stopped(n))),
        Property::always(I1_ISSUED, |_, s: &State| !s.issued_after),
        Property::always("C-11 no token of one that is stopped is put on record", |_, s: &State| {
            !s.issued_while_stopped
        }),
        Property::always(I2, |_, s: &State| {
            s.numbers().filter(|n| s.kept(*n).has_the_place()).count() <= 1
                && s.numbers().filter(|n| s.is_alive(*n)).count() <= 1
        }),
        Property::always("I3 what is alive can be revoked by its owner", |_, s: &State| {
            s.numbers().filter(|n| s.is_alive(*n)).all(|n| s.may_be_revoked(n))
        }),
        Property::always("I4 as many records as acts", |_, s: &State| s.numbers().all(|n| s.is_on_record(n))),
        Property::always(I4_TOLD, |_, s: &State| {
            s.known.generated.iter().all(|n| usize::from(*n) < s.database.credentials.len())
                && s.known.tokens.iter().all(|token| s.database.tokens.contains(token))
        }),
        Property::always("T-1 no token outlives its credential", |_, s: &State| {
            s.database.tokens.iter().all(|t| s.ends_in_time(*t))
        }),
    ]
}

/// What is true in some state, so that the rest is not true of nothing.
fn must_happen() -> Vec<Property<Life>> {
    vec![
        Property::sometimes("a token is active and in its client's hands", |_, s: &State| {
            s.known.tokens.iter().any(|t| s.database.is_active(*t, s.now))
        }),
        Property::sometimes("a token goes on after its credential was suspended and resumed", |_, s: &State| {
            let resumed = |t: &&Token| s.database.count(Event::Resumed, t.of) > 0;
            s.database.tokens.iter().filter(resumed).any(|t| s.database.is_active(*t, s.now))
        }),
        Property::sometimes("a credential ends and another takes its place", |_, s: &State| {
            s.database.count(Event::Retired, 0) == 1 && s.database.credentials.len() == 2
        }),
        Property::sometimes("another is generated after a revocation", |_, s: &State| {
            s.known.revoked.contains(&0) && s.known.generated.contains(&1)
        }),
        Property::sometimes("a crash leaves a credential that nobody was told of", |m: &Life, s: &State| {
            let quiet = s.stages.iter().all(|stage| *stage == Stage::Idle);
            quiet && s.crashes < m.scope.crashes && s.known.generated.is_empty() && s.is_held()
        }),
        Property::sometimes("two requests share a transaction", |_, s: &State| {
            s.stages.iter().enumerate().any(|(at, stage)| matches!(stage, Stage::Judged(_, l) if l != &at))
        }),
        Property::sometimes("a token is on its way when its revocation is told", |_, s: &State| {
            s.stages
                .iter()
                .any(|stage| matches!(stage, Stage::Answered(Said::Token(t)) if s.known.revoked.contains(&t.of)))
        }),
    ]
}

pub const I1_REVOKED: &str = "I1 what was told to be revoked does not work, nor its tokens";
pub const I1_SUSPENDED: &str = "I1 what was told to be suspended does not work, nor its tokens";
pub const I1_ISSUED: &str = "I1 no token is put on record after its end was told";
pub const I2: &str = "I2 never two active credentials";
pub const I4_TOLD: &str = "I4 what was told is in the database";

impl State {
    fn numbers(&self) -> impl Iterator<Item = Number> {
        0..Number::try_from(self.database.credentials.len()).unwrap()
    }

    fn kept(&self, number: Number) -> crate::life::Kept {
        self.database.credentials[usize::from(number)]
    }

    fn is_held(&self) -> bool {
        self.database.held().is_some()
    }

    fn is_alive(&self, number: Number) -> bool {
        matches!(self.database.standing(number, self.now), Standing::Active | Standing::Suspended(..))
    }

    fn is_stopped(&self, number: Number) -> bool {
        let tokens = self.database.tokens.iter().filter(|t| t.of == number);
        self.database.standing(number, self.now) != Standing::Active
            && tokens.into_iter().all(|t| !self.database.is_active(*t, self.now))
    }

    fn may_be_revoked(&self, number: Number) -> bool {
        let Some((held, credential)) = self.database.held() else { return false };
        let owner = owner(self.database.mfa);
        held == number && credentials::revoke(&actor(self.now), &owner, OWNER, Some(&credential)).is_ok()
    }

    /// One record of each act, and none of what was not done: the log tells where it stands.
    fn is_on_record(&self, number: Number) -> bool {
        let (kept, count) = (self.kept(number), |event| self.database.count(event, number));
        let suspended = count(Event::Suspended).wrapping_sub(count(Event::Resumed));
        let stands = match self.database.standing(number, self.now) {
            Standing::Active => suspended == 0,
            Standing::Suspended(..) => suspended == 1,
            Standing::Expired(_) | Standing::Revoked(..) => suspended <= 1,
        };
        count(Event::Generated) == 1
            && count(Event::Revoked) == usize::from(kept.revoked.is_some())
            && count(Event::Retired) == usize::from(kept.retired)
            && stands
    }

    fn ends_in_time(&self, token: Token) -> bool {
        let credential = self.kept(token.of).credential(token.of);
        let on_record = self.database.on_record(token);
        on_record.expires_at <= credential.expires_at && instant(token.issued) < on_record.expires_at
    }
}
