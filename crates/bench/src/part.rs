//! The parts of the benchmark: what the servers are asked in a turn, and what is to be reached.

use crate::contestant::Contestant;

/// One load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// Tokens signed with ES256.
    TokensEs256,
    /// Tokens signed with EdDSA, for an API that has it so.
    TokensEdDsa,
    /// Tokens while others ask to be signed in.
    TokensInFlood,
    /// Questions about tokens that nobody asked about before.
    First,
    /// Questions about tokens that were asked about.
    Again,
    /// The key set.
    KeySet,
    /// The metadata of the server.
    Metadata,
    /// The status list.
    StatusList,
    /// The stylesheet of the console.
    Stylesheet,
}

impl Part {
    /// All, in the order of a turn.
    pub const ALL: [Self; 9] = [
        Self::TokensEs256,
        Self::TokensEdDsa,
        Self::TokensInFlood,
        Self::First,
        Self::Again,
        Self::KeySet,
        Self::Metadata,
        Self::StatusList,
        Self::Stylesheet,
    ];
    /// Those of a quick run.
    pub const QUICK: [Self; 2] = [Self::TokensEs256, Self::TokensEdDsa];

    /// What the tables call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::TokensEs256 => "Tokens, ES256",
            Self::TokensEdDsa => "Tokens, EdDSA",
            Self::TokensInFlood => "Tokens in a flood of sign-ins",
            Self::First => "Introspection, first time",
            Self::Again => "Introspection, again",
            Self::KeySet => "Key set",
            Self::Metadata => "Metadata",
            Self::StatusList => "Status list",
            Self::Stylesheet => "Stylesheet",
        }
    }

    /// The document that it asks for, if it is one.
    #[must_use]
    pub fn document(self) -> Option<&'static str> {
        match self {
            Self::KeySet => Some("/.well-known/jwks.json"),
            Self::Metadata => Some("/.well-known/oauth-authorization-server"),
            Self::StatusList => Some("/oauth/status"),
            Self::Stylesheet => Some("/assets/console.css"),
            _ => None,
        }
    }

    /// What `bench-load` calls it.
    #[must_use]
    pub fn what(self) -> &'static str {
        match self {
            Self::TokensEs256 | Self::TokensEdDsa | Self::TokensInFlood => "token",
            Self::First => "first",
            Self::Again => "again",
            _ => "document",
        }
    }

    /// Whether a server takes part: the floor has no sign-ins.
    #[must_use]
    pub fn is_for(self, contestant: Contestant) -> bool {
        contestant != Contestant::Floor || self != Self::TokensInFlood
    }

    /// The part of the floor that this is compared with. Questions that are asked again are compared
    /// with verifying a signature, which is what they save.
    #[must_use]
    pub fn floor(self) -> Option<Self> {
        match self {
            Self::TokensInFlood => None,
            Self::Again => Some(Self::First),
            other => Some(other),
        }
    }

    /// What of the floor is to be reached: of its requests per second on SQLite, and of its requests
    /// per second of the server's CPU on PostgreSQL, where there is such an aim.
    #[must_use]
    pub fn aim(self, contestant: Contestant) -> Option<f64> {
        match (self, contestant) {
            (_, Contestant::Floor) | (Self::TokensInFlood, _) => None,
            (Self::TokensEs256 | Self::TokensEdDsa, Contestant::Postgres) => Some(0.60),
            (Self::TokensEs256 | Self::TokensEdDsa | Self::First, Contestant::Sqlite) => Some(0.75),
            (Self::Again, Contestant::Sqlite) => Some(3.0),
            (_, Contestant::Sqlite) => Some(0.85),
            (_, Contestant::Postgres) => None,
        }
    }
}
