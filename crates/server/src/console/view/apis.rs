//! The APIs that tokens are for, and their keys.

use askama::Template;
use portcullis_domain::{
    apis::{KEYS_MAX, Overlap},
    keys::Algorithm,
    secret::ApiSecret,
};

use super::{Exact, Field, Frame, Nav, Notice, When};

/// An API in the list.
#[derive(Debug, Clone)]
pub struct ApiRow {
    /// The id.
    pub id: String,
    /// The name.
    pub name: String,
    /// The identifier.
    pub identifier: String,
    /// How many scopes it has.
    pub scopes: usize,
    /// How long its tokens last, from [`super::lasts`].
    pub lasts: String,
    /// How many of its keys are valid.
    pub keys: usize,
}

/// `GET /apis`.
#[derive(Debug, Clone, Template)]
#[template(path = "apis/list.html")]
pub struct Apis {
    /// The frame.
    pub frame: Frame,
    /// What just happened.
    pub notice: Option<Notice>,
    /// The product's own API, then the others by name.
    pub rows: Vec<ApiRow>,
}

/// A key of an API.
#[derive(Debug, Clone)]
pub struct ApiKeyRow {
    /// The id.
    pub id: String,
    /// When it was made.
    pub made: When,
    /// When it ends or ended.
    pub ends: Option<When>,
    /// Whether it works.
    pub valid: bool,
}

/// `GET /apis/new`, `GET /apis/{api}`, and the answers to what was typed wrongly.
#[derive(Debug, Clone, Template)]
#[template(path = "apis/api.html")]
pub struct ApiForm {
    /// The frame.
    pub frame: Frame,
    /// What just happened.
    pub notice: Option<Notice>,
    /// The id; empty for one that is to be registered.
    pub id: String,
    /// The name as it is saved; `None` for one that is to be registered.
    pub present: Option<String>,
    /// Whether it is the product's own, which is not changed.
    pub is_own: bool,
    /// The name.
    pub name: Field,
    /// The identifier.
    pub identifier: Field,
    /// The scopes, one a line.
    pub scopes: Field,
    /// The names and descriptions of the scopes, for the product's own.
    pub scope_rows: Vec<(String, String)>,
    /// The lifespan in seconds.
    pub lifespan: Field,
    /// Whether it takes only tokens that are bound to a key (T-5).
    pub requires_dpop: bool,
    /// The code of the algorithm; empty: the first.
    pub algorithm: Field,
    /// How long its tokens last, from [`super::lasts`].
    pub lasts: String,
    /// The keys, the first made first.
    pub keys: Vec<ApiKeyRow>,
    /// The ids of the keys, space separated.
    pub seen: String,
    /// Where to ask for tokens.
    pub token_url: String,
    /// Where to ask about tokens.
    pub introspection_url: String,
}

impl ApiForm {
    fn valid_keys(&self) -> usize {
        self.keys.iter().filter(|k| k.valid).count()
    }

    fn algorithms() -> &'static [Algorithm] {
        Algorithm::ALL
    }

    /// What may become of the keys that are there: beside as many as there may be, none is made.
    fn overlaps(&self) -> &'static [Overlap] {
        if self.valid_keys() < KEYS_MAX { Overlap::ALL } else { &[Overlap::AtOnce] }
    }
}

/// The answer to making a key: the only page that ever shows its secret.
#[derive(Debug, Template)]
#[template(path = "apis/key.html")]
pub struct ApiKeyShown {
    /// The frame.
    pub frame: Frame,
    /// The id of the API.
    pub id: String,
    /// The name of the API.
    pub name: String,
    /// The id of the key.
    pub key_id: String,
    /// The secret.
    pub secret: ApiSecret,
    /// Where to ask about tokens.
    pub introspection_url: String,
    /// When the older key ends, if there is one that goes on working.
    pub older_ends: Option<Exact>,
}

/// `GET /apis/{api}/remove`.
#[derive(Debug, Clone, Template)]
#[template(path = "apis/remove.html")]
pub struct ApiRemove {
    /// The frame.
    pub frame: Frame,
    /// The id.
    pub id: String,
    /// The name.
    pub name: String,
    /// The identifier.
    pub identifier: String,
    /// How many of its keys are valid.
    pub keys: usize,
}

/// `GET /apis/{api}/keys/{key}/remove`.
#[derive(Debug, Clone, Template)]
#[template(path = "apis/remove_key.html")]
pub struct ApiKeyRemove {
    /// The frame.
    pub frame: Frame,
    /// The id of the API.
    pub id: String,
    /// The name of the API.
    pub name: String,
    /// The id of the key.
    pub key_id: String,
    /// Whether another key of the API works.
    pub another: bool,
}
