//! What is told to those who check tokens without asking the server: that a credential does not work
//! for now, works again, or is revoked, and that a single token was taken back (C-11, protocol 29).
//! The feed tells it as it happens, the status list as it is.

use jiff::Timestamp;
use uuid::Uuid;

use crate::credentials::{ClientId, Standing};

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
        /// When it would have ended (UTC, whole seconds).
        ends_at: Timestamp,
    },
}

/// The status list of all credentials, two bits each, the first in the lowest bits of the first byte
/// (Token Status List draft §4.1).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StatusList(Vec<u8>);

/// The list grows by so many places at once, and always has as many free: a credential that was
/// generated since a verifier fetched it has a place in it, which says that it is valid.
const GROWS_BY: usize = 1024;
const PER_BYTE: usize = 4;

impl StatusList {
    /// Makes room for places up to `index`, and for some that come after it.
    pub fn make_room(&mut self, index: u32) {
        let places = (index as usize / GROWS_BY + 2) * GROWS_BY;
        if self.0.len() < places / PER_BYTE {
            self.0.resize(places / PER_BYTE, 0);
        }
    }

    /// Writes a place.
    pub fn set(&mut self, index: u32, status: TokenStatus) {
        self.make_room(index);
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

    #[test]
    fn places_stand_as_the_draft_has_them() {
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
        for (index, places) in [(0, 2048), (1023, 2048), (1024, 3072), (5000, 6144), (3, 6144)] {
            list.make_room(index);
            assert_eq!(list.bytes().len() * PER_BYTE, places, "{index}");
        }
    }
}
