//! Access tokens: what they claim, how long they live, and whether one is active (T-1, T-3, C-11).

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{client_keys::Method, credentials::Standing};

/// The default lifespan of a token, in seconds (T-1).
pub const TOKEN_LASTS_SECONDS: u32 = 86_400;

/// How long a token may be made to live, in seconds (T-1): from a minute to 30 days.
pub const LIFESPANS: std::ops::RangeInclusive<u32> = 60..=86_400 * 30;

/// The claims of an access token in the RFC 9068 §2.2 profile. All instants are whole seconds
/// since the epoch. Unknown and repeated claims are refused when reading: this server's own tokens
/// have none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// The issuer, byte-equal to the metadata (RFC 8414 §3.3).
    pub iss: String,
    /// The Client ID: no resource owner takes part in this grant (RFC 9068 §2.2).
    pub sub: String,
    /// The Client ID.
    pub client_id: String,
    /// The audience: the identifier of the API it is for (RFC 8707 §2).
    pub aud: String,
    /// When it was issued.
    pub iat: i64,
    /// When it ends.
    pub exp: i64,
    /// The id, under which the token is on record (L-4).
    pub jti: Uuid,
    /// The scope, space separated (RFC 6749 §3.3); empty, and then not in the token, for an API
    /// that has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub scope: String,
    /// Where it is said how it stands (Token Status List draft §6.1). Only tokens from before there
    /// was such a list lack it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<StatusClaim>,
    /// The key it is bound to (RFC 9449 §6.1, T-5); absent in a bearer token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cnf: Option<Confirmation>,
}

/// The claim `status` of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatusClaim {
    /// A place in a status list.
    pub status_list: StatusPlace,
}

/// A place in a status list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatusPlace {
    /// The place: that of the credential, for all its tokens.
    pub idx: u32,
    /// Where the list is.
    pub uri: String,
}

/// What whoever uses a token has to prove (RFC 7800).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Confirmation {
    /// The thumbprint of the key whose holder it is for (RFC 9449 §6.1).
    pub jkt: String,
}

impl Claims {
    /// The type of the token, as token responses and introspection call it (T-5).
    #[must_use]
    pub fn token_type(&self) -> &'static str {
        if self.cnf.is_some() { "DPoP" } else { "Bearer" }
    }
}

/// When a token issued at `now` ends: after the lifespan, but never after the credential
/// (T-1, C-6). `None` when not a whole second is left.
#[must_use]
pub fn ends_at(now: Timestamp, lifespan_seconds: u32, credential_expires_at: Timestamp) -> Option<Timestamp> {
    let end = (now + SignedDuration::from_secs(i64::from(lifespan_seconds))).min(credential_expires_at);
    let end = Timestamp::from_second(end.as_second()).ok()?;
    (end.as_second() > now.as_second()).then_some(end)
}

/// The API that a token is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audience {
    /// The API.
    pub api: Uuid,
    /// Its identifier.
    pub identifier: String,
    /// Whether it is still registered.
    pub is_registered: bool,
}

/// What a token on record opens, and until when: with the standing of its credential all that tells
/// whether it is active. Once a token is over, revoked or without its API it stays so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenTerms {
    /// The id.
    pub jti: Uuid,
    /// The row of the credential it was issued to.
    pub credential: Uuid,
    /// The API it is for.
    pub audience: Audience,
    /// When it ends (UTC, whole seconds).
    pub expires_at: Timestamp,
    /// When it was revoked by itself (RFC 7009), if it was.
    pub revoked_at: Option<Timestamp>,
}

/// A token as it is on record (L-4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuedToken {
    /// What it opens, and until when.
    pub terms: TokenTerms,
    /// When it was issued (UTC).
    pub issued_at: Timestamp,
    /// The address it was asked for from.
    pub ip: String,
    /// The program that asked for it, as it names itself.
    pub user_agent: String,
    /// With what the client proved itself (C-13).
    pub method: Method,
}

impl TokenTerms {
    /// Whether the token is active at `now`, given the standing of its credential (C-9 to C-11).
    #[must_use]
    pub fn is_active(&self, credential: Standing, now: Timestamp) -> bool {
        let is_left = self.revoked_at.is_none() && now < self.expires_at;
        credential == Standing::Active && self.audience.is_registered && is_left
    }
}

/// What the product's own API grants to a token (T-4): reading, as the owner.
pub const SCOPES: [(&str, &str); 3] = [
    ("users:read", "Read the users of this platform"),
    ("audit:read", "Read the audit log"),
    ("apis:read", "Read the APIs that tokens are for"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::{RevocationReason, Suspension};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn t1_a_token_lives_its_lifespan_and_never_outlives_its_credential() {
        assert_eq!(ends_at(at(100), 60, at(1_000)), Some(at(160)));
        assert_eq!(ends_at(at(100), 60, at(130)), Some(at(130)));
        assert_eq!(ends_at(at(100), 60, at(100)), None);
        let half = at(100) + SignedDuration::from_millis(500);
        assert_eq!(ends_at(half, 60, at(1_000)), Some(at(160)), "whole seconds, rounded down");
    }

    #[test]
    fn a_token_from_before_there_was_a_status_list_is_still_read() {
        let place = StatusClaim { status_list: StatusPlace { idx: 3, uri: "u".to_owned() } };
        let claims = Claims {
            iss: "i".to_owned(),
            sub: "c".to_owned(),
            client_id: "c".to_owned(),
            aud: "a".to_owned(),
            iat: 1,
            exp: 2,
            jti: Uuid::nil(),
            scope: String::new(),
            status: None,
            cnf: None,
        };
        let before = serde_json::to_string(&claims).unwrap();
        assert!(!before.contains("status"));
        assert_eq!(serde_json::from_str::<Claims>(&before).unwrap(), claims);
        let now = Claims { status: Some(place), ..claims };
        let text = serde_json::to_string(&now).unwrap();
        assert!(text.ends_with(r#""status":{"status_list":{"idx":3,"uri":"u"}}}"#), "{text}");
        assert_eq!(serde_json::from_str::<Claims>(&text).unwrap(), now);
        assert!(serde_json::from_str::<Claims>(&text.replace(r#""idx":3"#, r#""idx":-3"#)).is_err());
    }

    #[test]
    fn c11_a_token_is_active_only_while_its_credential_is() {
        let token = TokenTerms {
            jti: Uuid::nil(),
            credential: Uuid::nil(),
            audience: Audience { api: Uuid::nil(), identifier: String::new(), is_registered: true },
            expires_at: at(60),
            revoked_at: None,
        };
        assert!(token.is_active(Standing::Active, at(59)));
        assert!(!token.is_active(Standing::Active, at(60)));
        let orphan =
            TokenTerms { audience: Audience { is_registered: false, ..token.audience.clone() }, ..token.clone() };
        assert!(!orphan.is_active(Standing::Active, at(59)), "its API was removed");
        for dead in [
            Standing::Suspended(Suspension::MfaOn, at(1)),
            Standing::Expired(at(1)),
            Standing::Revoked(at(1), RevocationReason::ByOwner),
        ] {
            assert!(!token.is_active(dead, at(2)), "{dead:?}");
        }
        let revoked = TokenTerms { revoked_at: Some(at(1)), ..token };
        assert!(!revoked.is_active(Standing::Active, at(2)));
    }

    /// What can happen to a token from one instant to the next.
    #[derive(Clone, Copy)]
    enum Happens {
        Nothing,
        Suspended,
        Resumed,
        Revoked,
        ApiRemoved,
    }

    /// The standing of the credential, and the token, at each of five instants.
    fn told(happens: [Happens; 4]) -> Vec<(Standing, TokenTerms)> {
        let audience = Audience { api: Uuid::nil(), identifier: String::new(), is_registered: true };
        let (jti, credential) = (Uuid::nil(), Uuid::nil());
        let token = TokenTerms { jti, credential, audience, expires_at: at(60), revoked_at: None };
        let mut all = vec![(Standing::Active, token)];
        for (what, second) in happens.into_iter().zip(1..) {
            let (mut standing, mut token) = all[all.len() - 1].clone();
            match what {
                Happens::Nothing => {}
                Happens::Suspended => standing = Standing::Suspended(Suspension::MfaOn, at(second)),
                Happens::Resumed => standing = Standing::Active,
                Happens::Revoked => token.revoked_at = token.revoked_at.or(Some(at(second))),
                Happens::ApiRemoved => token.audience.is_registered = false,
            }
            all.push((standing, token));
        }
        all
    }

    #[test]
    fn c11_a_standing_read_before_its_token_is_of_one_instant_with_it_and_after_it_may_not_be() {
        use Happens::{ApiRemoved, Nothing, Resumed, Revoked, Suspended};
        let is_active = |(standing, token): &(Standing, TokenTerms)| token.is_active(*standing, at(10));
        let (mut looked, mut of_no_instant) = (0, 0);
        let can = [Nothing, Suspended, Resumed, Revoked, ApiRemoved];
        for n in 0..can.len().pow(4) {
            let all = told([n, n / 5, n / 25, n / 125].map(|n| can[n % 5]));
            for first in 0..all.len() {
                for second in first..all.len() {
                    let between = &all[first..=second];
                    let was = |said: bool| between.iter().any(|there| is_active(there) == said);
                    let standing_first = (all[first].0, all[second].1.clone());
                    assert!(was(is_active(&standing_first)), "{standing_first:?} {between:?}");
                    let token_first = (all[second].0, all[first].1.clone());
                    of_no_instant += u32::from(!was(is_active(&token_first)));
                    looked += 1;
                }
            }
        }
        assert_eq!(looked, 625 * 15);
        assert!(of_no_instant > 0, "the order matters");
    }
}
