//! What is told to those who check tokens without asking the server: that a credential does not work
//! for now, works again, or is revoked, and that a single token was taken back (C-11, protocol 29).
//! The feed tells it as it happens, the status list as it is. Both are read from the audit log.

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::{
    audit::Event,
    credentials::{ClientId, Standing},
    tokens::LIFESPANS,
};

/// How the tokens of a credential stand, as the Token Status List draft (§7.1) counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenStatus {
    /// They are good until they end.
    Valid,
    /// The credential is revoked, for good.
    Invalid,
    /// The credential is suspended: its tokens are not good for now.
    Suspended,
}

impl TokenStatus {
    /// The value in the status list, of two bits.
    #[must_use]
    pub fn value(self) -> u8 {
        match self {
            Self::Valid => 0,
            Self::Invalid => 1,
            Self::Suspended => 2,
        }
    }

    /// The word in the feed.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Valid => "active",
            Self::Invalid => "revoked",
            Self::Suspended => "suspended",
        }
    }
}

impl From<Standing> for TokenStatus {
    /// The tokens of an expired credential have ended with it (C-6, T-1): nothing is to be told of them.
    fn from(standing: Standing) -> Self {
        match standing {
            Standing::Active | Standing::Expired(_) => Self::Valid,
            Standing::Suspended(..) => Self::Suspended,
            Standing::Revoked(..) => Self::Invalid,
        }
    }
}

/// The tokens of a credential that was revoked before this instant have all ended. Twice as long ago as
/// a token may live, for clocks that do not agree.
#[must_use]
pub fn begins_to_matter(now: Timestamp) -> Timestamp {
    now - SignedDuration::from_secs(i64::from(*LIFESPANS.end())) * 2
}

/// How the tokens of a credential stand and since when, if somebody who begins to follow has to be
/// told of it: they are not good, and some may not have ended yet.
#[must_use]
pub fn to_be_told(standing: Standing, now: Timestamp) -> Option<(TokenStatus, Timestamp)> {
    match standing {
        Standing::Revoked(at, _) if at < begins_to_matter(now) => None,
        Standing::Active | Standing::Expired(_) => None,
        Standing::Suspended(_, since) | Standing::Revoked(since, _) => Some((standing.into(), since)),
    }
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its number: that of its record in the audit log, in the order in which they were committed.
    pub seq: i64,
    /// When (UTC).
    pub at: Timestamp,
    /// What.
    pub what: Changed,
}

/// What changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// How the tokens of a credential stand.
    Credential {
        /// Its Client ID.
        client_id: ClientId,
        /// Its place in the status list.
        index: u32,
        /// How they stand from then on.
        status: TokenStatus,
    },
    /// One token was revoked by itself (RFC 7009).
    Token {
        /// Its id.
        jti: Uuid,
        /// The API it is for.
        api: Uuid,
        /// When it would have ended (UTC, whole seconds).
        ends_at: Timestamp,
    },
    /// The set of signing keys.
    Keys,
}

impl Changed {
    /// Whether the API is told of it: of single tokens only those that are for it.
    #[must_use]
    pub fn concerns(&self, of: Uuid) -> bool {
        !matches!(self, Self::Token { api, .. } if *api != of)
    }
}

/// What a record of the audit log tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tells {
    /// A credential, its subject, and how its tokens stand from then on.
    Credential(TokenStatus),
    /// A token that was revoked by itself, its subject.
    Token,
    /// The set of signing keys.
    Keys,
}

impl Tells {
    /// What a record of something done with this [`Event::code`] tells of; of most nothing.
    #[must_use]
    pub fn of(event: &str) -> Option<Self> {
        let is = |e: Event| e.code() == event;
        if is(Event::CredentialGenerated) || is(Event::CredentialResumed) {
            return Some(Self::Credential(TokenStatus::Valid));
        }
        if is(Event::CredentialSuspended) {
            return Some(Self::Credential(TokenStatus::Suspended));
        }
        if is(Event::CredentialRevoked) {
            return Some(Self::Credential(TokenStatus::Invalid));
        }
        if is(Event::TokenRevoked) {
            return Some(Self::Token);
        }
        event.starts_with("key.").then_some(Self::Keys)
    }
}

/// The status list of all credentials, two bits each, the first in the lowest bits of the first byte
/// (Token Status List draft §4.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusList(Vec<u8>);

/// The list grows by so many places at once, and always has as many free: a credential that was
/// generated since a verifier fetched it has a place in it, which says that it is valid.
const GROWS_BY: usize = 1024;
const PER_BYTE: usize = 4;

impl Default for StatusList {
    /// The list while there is no credential.
    fn default() -> Self {
        Self(vec![0; GROWS_BY / PER_BYTE])
    }
}

impl StatusList {
    /// Writes a place, and makes room for those that come after it.
    pub fn set(&mut self, index: u32, status: TokenStatus) {
        let places = (index as usize / GROWS_BY + 2) * GROWS_BY;
        if self.0.len() < places / PER_BYTE {
            self.0.resize(places / PER_BYTE, 0);
        }
        let (byte, shift) = (index as usize / PER_BYTE, (index as usize % PER_BYTE) * 2);
        self.0[byte] = self.0[byte] & !(3 << shift) | status.value() << shift;
    }

    /// The bytes, to be compressed.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::{RevocationReason, Suspension};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn protocol29_places_stand_as_the_draft_has_them() {
        // The example of two bits in §4.1: 1, 2, 0, 3, 0, 1, 0, 1, 1, 2, 3, 3 gives c9 44 f9. What has
        // the value 3 there is left out, for we have none.
        let mut list = StatusList::default();
        for (index, value) in (0..).zip([1, 2, 0, 0, 0, 1, 0, 1, 1, 2, 0, 0]) {
            let status = [TokenStatus::Valid, TokenStatus::Invalid, TokenStatus::Suspended][value];
            assert_eq!(usize::from(status.value()), value);
            list.set(index, status);
        }
        assert_eq!(list.bytes()[..4], [0xc9 & 0x3f, 0x44, 0xf9 & 0x0f, 0]);
    }

    #[test]
    fn a_place_is_written_again_and_its_neighbours_stay() {
        let mut list = StatusList::default();
        for index in 0..8 {
            list.set(index, TokenStatus::Invalid);
        }
        list.set(5, TokenStatus::Suspended);
        list.set(6, TokenStatus::Valid);
        assert_eq!(list.bytes()[..2], [0b0101_0101, 0b0100_1001]);
    }

    #[test]
    fn there_is_always_room_for_what_comes_next() {
        let mut list = StatusList::default();
        assert_eq!(list.bytes().len() * PER_BYTE, 1024);
        for (index, places) in [(0, 2048), (1023, 2048), (1024, 3072), (5000, 6144), (3, 6144)] {
            list.set(index, TokenStatus::Invalid);
            assert_eq!(list.bytes().len() * PER_BYTE, places, "{index}");
            assert!(places >= index as usize + 1 + GROWS_BY, "{index}");
        }
    }

    #[test]
    fn protocol29_suspended_and_revoked_are_different_values() {
        let suspended = Standing::Suspended(Suspension::MfaOn, at(1));
        let revoked = Standing::Revoked(at(1), RevocationReason::ByOwner);
        let values = [Standing::Active, revoked, suspended, Standing::Expired(at(1))];
        assert_eq!(values.map(|s| TokenStatus::from(s).value()), [0, 1, 2, 0]);
    }

    #[test]
    fn who_begins_to_follow_is_told_of_what_may_still_be_in_somebody_s_hands() {
        let day = 86_400;
        let revoked = Standing::Revoked(at(0), RevocationReason::ByOwner);
        assert_eq!(to_be_told(revoked, at(31 * day)), Some((TokenStatus::Invalid, at(0))));
        assert_eq!(to_be_told(revoked, at(61 * day)), None, "all its tokens have ended long since");
        let suspended = Standing::Suspended(Suspension::MfaOn, at(0));
        let told = Some((TokenStatus::Suspended, at(0)));
        assert_eq!(to_be_told(suspended, at(61 * day)), told, "it may be resumed");
        assert_eq!(to_be_told(Standing::Active, at(1)), None);
        assert_eq!(to_be_told(Standing::Expired(at(0)), at(1)), None);
    }

    #[test]
    fn c11_every_event_that_stops_or_resumes_tokens_is_told() {
        let told: Vec<_> =
            Event::ALL.iter().filter_map(|e| Tells::of(e.code()).map(|tells| (e.code(), tells))).collect();
        let credential = Tells::Credential;
        for expected in [
            ("credential.generate", credential(TokenStatus::Valid)),
            ("credential.revoke", credential(TokenStatus::Invalid)),
            ("credential.suspend", credential(TokenStatus::Suspended)),
            ("credential.resume", credential(TokenStatus::Valid)),
            ("token.revoke", Tells::Token),
            ("key.create", Tells::Keys),
        ] {
            assert!(told.contains(&expected), "{expected:?}");
        }
        let is_of_keys = |code: &str| code.starts_with("key.");
        assert_eq!(told.iter().filter(|(code, _)| !is_of_keys(code)).count(), 5, "{told:?}");
    }

    #[test]
    fn an_api_is_told_of_its_own_tokens_alone() {
        let (ours, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let token = Changed::Token { jti: Uuid::nil(), api: ours, ends_at: at(1) };
        assert!(token.concerns(ours) && !token.concerns(other));
        assert!(Changed::Keys.concerns(other));
    }
}
