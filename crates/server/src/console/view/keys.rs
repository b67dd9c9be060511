//! The signing keys.

use askama::Template;
use portcullis_domain::keys::State;

use super::{Exact, Field, Frame, Nav, Notice, When};

/// A signing key in the list.
#[derive(Debug, Clone)]
pub struct SigningKeyRow {
    /// The key id.
    pub kid: String,
    /// Where it is in its life.
    pub state: State,
    /// In the key set since then.
    pub published: When,
    /// Signs, or signed, from then.
    pub from: Option<When>,
    /// Signed until then.
    pub until: Option<When>,
    /// When it leaves, or left, the key set.
    pub leaves: Option<When>,
}

impl SigningKeyRow {
    fn badge(&self) -> &'static str {
        match self.state {
            State::Active => "ok",
            State::Upcoming | State::Retired => "off",
            State::Retiring => "warn",
            State::Withdrawn => "bad",
        }
    }

    fn is_published(&self) -> bool {
        !matches!(self.state, State::Retired | State::Withdrawn)
    }
}

/// The keys of one algorithm, the latest first.
#[derive(Debug, Clone)]
pub struct SigningKeyGroup {
    /// The code of the algorithm.
    pub code: &'static str,
    /// Its label.
    pub label: &'static str,
    /// The names of the APIs whose tokens they sign.
    pub apis: String,
    /// The keys.
    pub rows: Vec<SigningKeyRow>,
}

/// `GET /signing-keys`.
#[derive(Debug, Clone, Template)]
#[template(path = "keys/list.html")]
pub struct SigningKeys {
    /// The frame.
    pub frame: Frame,
    /// What just happened.
    pub notice: Option<Notice>,
    /// The algorithms in use.
    pub groups: Vec<SigningKeyGroup>,
    /// How long a key signs, from [`super::lasts`]; absent when only somebody rotates.
    pub rotation: Option<String>,
    /// Where the key set is.
    pub key_set_url: String,
}

/// `GET /signing-keys/rotate/{algorithm}`.
#[derive(Debug, Clone, Template)]
#[template(path = "keys/rotate.html")]
pub struct RotateKeys {
    /// The frame.
    pub frame: Frame,
    /// The code of the algorithm.
    pub code: &'static str,
    /// The key that signs now.
    pub active: String,
    /// The key that signs then.
    pub upcoming: String,
    /// How long the tokens last that the old key signed, from [`super::lasts`].
    pub lasts: String,
    /// From when on verifiers hold the upcoming key, when that is still to come.
    pub ready: Option<Exact>,
}

/// `GET /signing-keys/{kid}/withdraw`, and the answer to a reason that is none.
#[derive(Debug, Clone, Template)]
#[template(path = "keys/withdraw.html")]
pub struct WithdrawKey {
    /// The frame.
    pub frame: Frame,
    /// The key id.
    pub kid: String,
    /// Where it is in its life.
    pub state: State,
    /// Why.
    pub reason: Field,
    /// How long verifiers may keep the key set, in seconds.
    pub cached_seconds: i64,
}
