//! Why a request is refused, and how to say so (RFC 6750 §3, RFC 9449 §7.1, RFC 9728 §5.1).

use crate::{dpop::DpopError, jws::JwsError, knowledge::NotGood};

/// How a token was presented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// `Authorization: Bearer` (RFC 6750 §2.1).
    Bearer,
    /// `Authorization: DPoP` (RFC 9449 §7.1).
    Dpop,
}

/// What is wrong with a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is malformed, its signature does not fit, or its time has not come or is over.
    #[error("{0}")]
    Jws(#[from] JwsError),
    /// Its `typ` is not `at+jwt`: it is another kind of token.
    #[error("it is not an access token")]
    Type,
    /// Another server issued it.
    #[error("it is from another issuer")]
    Issuer,
    /// It is for another API.
    #[error("it is for another audience")]
    Audience,
    /// Its key is not in the key set, or is no longer.
    #[error("it is signed by a key that is not published")]
    UnknownKey,
    /// It is bound in a way that is not understood.
    #[error("it is bound to something that cannot be checked")]
    Binding,
    /// It, or its credential, was revoked. This is final.
    #[error("it was revoked")]
    Revoked,
    /// Its credential is suspended, and may be good again.
    #[error("its credential is suspended")]
    Suspended,
    /// Its credential is not on the status list.
    #[error("its credential is not on the status list")]
    NotListed,
    /// It is bound to a key (`cnf.jkt`), and was presented as Bearer.
    #[error("it is bound to a key and has to be presented with DPoP")]
    IsBound,
    /// It is bound to no key, and was presented with DPoP, or DPoP is required.
    #[error("it is not bound to a key")]
    NotBound,
    /// It is bound to another key than the proof's.
    #[error("it is bound to another key")]
    OtherKey,
}

/// What is wrong with a proof of possession.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofRefusal {
    /// There is not exactly one `DPoP` header.
    #[error("exactly one DPoP header is needed")]
    NotOne,
    /// It does not fit the request.
    #[error("{0}")]
    Dpop(#[from] DpopError),
    /// It was used already.
    #[error("the DPoP proof was used already")]
    Replayed,
}

/// Why nothing can be said of a token now. The token may be good: try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// The key set could not be fetched, and the key is not in the one that is known.
    #[error("the keys cannot be fetched now")]
    Keys,
    /// What is known of revocations is older than you allow.
    #[error("what is known of revocations is too old")]
    Stale,
    /// The status list could not be fetched, and the credential is not in the one that is known.
    #[error("the status list cannot be fetched now")]
    List,
    /// As many used proofs are remembered as may be.
    #[error("too many DPoP proofs within the window")]
    Proofs,
}

/// Why a request is refused. No text of the request is in it, so it may be logged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is no access token.
    #[error("no access token")]
    NoToken,
    /// The request is not well-formed, e.g. has a token in two places.
    #[error("{0}")]
    Request(&'static str),
    /// The token is refused.
    #[error("the token is refused: {why}")]
    Token {
        /// How it was presented.
        scheme: Scheme,
        /// Why.
        why: Refusal,
    },
    /// The proof of possession is refused.
    #[error("{0}")]
    Proof(#[from] ProofRefusal),
    /// The token is good, but does not hold the scope that is needed.
    #[error("the scope {required} is needed")]
    Scope {
        /// How it was presented.
        scheme: Scheme,
        /// The scope that is needed, space separated.
        required: String,
    },
    /// Nothing can be said now.
    #[error("{0}")]
    Unavailable(#[from] Unavailable),
}

impl Error {
    pub(crate) fn from_judgement(scheme: Scheme, why: NotGood) -> Self {
        let why = match why {
            NotGood::Revoked => Refusal::Revoked,
            NotGood::Suspended => Refusal::Suspended,
            NotGood::OutOfList => Refusal::NotListed,
            NotGood::Stale => return Unavailable::Stale.into(),
        };
        Self::Token { scheme, why }
    }
}

/// What to answer to a request that is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// The status: 400, 401, 403 or 503.
    pub status: u16,
    /// The values of `WWW-Authenticate`, a header each. None with 503.
    pub www_authenticate: Vec<String>,
    /// The value of `Retry-After`, in seconds. With 503 only.
    pub retry_after: Option<u32>,
}

/// What the challenges of an API have in common.
#[derive(Debug, Clone, Default)]
pub(crate) struct Challenges {
    /// DPoP is required, so there is no Bearer challenge.
    pub(crate) dpop_only: bool,
    /// Where the metadata of the API are (RFC 9728 §5.1), checked to need no escaping.
    pub(crate) resource_metadata: Option<String>,
}

impl Challenges {
    /// What to answer for an error.
    pub(crate) fn of(&self, error: &Error) -> Challenge {
        let one = |status, scheme, code: &str, scope: Option<&str>| {
            let description = error.to_string();
            let mut parameters = vec![("error", code), ("error_description", description.as_str())];
            parameters.extend(scope.map(|scope| ("scope", scope)));
            Challenge { status, www_authenticate: vec![self.header(scheme, &parameters)], retry_after: None }
        };
        match error {
            Error::NoToken => {
                let bearer = (!self.dpop_only).then(|| self.header(Scheme::Bearer, &[]));
                let headers = bearer.into_iter().chain([self.header(Scheme::Dpop, &[])]).collect();
                Challenge { status: 401, www_authenticate: headers, retry_after: None }
            }
            Error::Request(_) => one(400, self.own_scheme(), "invalid_request", None),
            Error::Token { why: Refusal::IsBound | Refusal::NotBound, scheme } => {
                // What would have been right: a bound token with DPoP, another one as Bearer.
                let right = match scheme {
                    Scheme::Bearer => Scheme::Dpop,
                    Scheme::Dpop => self.own_scheme(),
                };
                one(401, right, "invalid_token", None)
            }
            Error::Token { scheme, .. } => one(401, *scheme, "invalid_token", None),
            Error::Proof(_) => one(401, Scheme::Dpop, "invalid_dpop_proof", None),
            Error::Scope { scheme, required } => one(403, *scheme, "insufficient_scope", Some(required)),
            Error::Unavailable(_) => Challenge { status: 503, www_authenticate: vec![], retry_after: Some(1) },
        }
    }

    fn own_scheme(&self) -> Scheme {
        if self.dpop_only { Scheme::Dpop } else { Scheme::Bearer }
    }

    fn header(&self, scheme: Scheme, parameters: &[(&str, &str)]) -> String {
        let algorithms = (scheme == Scheme::Dpop).then_some(("algs", "ES256 EdDSA RS256"));
        let metadata = self.resource_metadata.as_deref().map(|url| ("resource_metadata", url));
        let all: Vec<String> = algorithms
            .into_iter()
            .chain(parameters.iter().copied())
            .chain(metadata)
            .map(|(name, value)| format!("{name}=\"{value}\""))
            .collect();
        let scheme = match scheme {
            Scheme::Bearer => "Bearer",
            Scheme::Dpop => "DPoP",
        };
        format!("{scheme} {}", all.join(", ")).trim_end().to_owned()
    }
}

/// Whether a text may stand between quotes in a challenge (RFC 6750 §3: no quote, no backslash).
pub(crate) fn is_quotable(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, 0x20..=0x7e) && b != b'"' && b != b'\\')
}

#[cfg(test)]
#[path = "error_tests.rs"]
mod tests;
