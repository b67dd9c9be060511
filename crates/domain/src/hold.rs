//! On hold: a database that may be older than what was acknowledged on it. It lets nothing happen until
//! the operator has said what was stopped since, so that a restore cannot bring a revoked credential
//! back to life (H-1 to H-4).

use jiff::Timestamp;

use crate::{
    accounts::{Role, Standing, Status},
    audit::Head,
    closed_set::closed_set,
};

closed_set! {
    /// Why a database is on hold.
    Why {
        /// It is a backup: every backup is on hold from the beginning.
        Backup => "backup", "it is a backup";
        /// It is not in the place where it was used last: somebody put it here.
        Elsewhere => "elsewhere", "it was copied here from another place";
        /// Its audit log lacks records that were acknowledged here.
        Older => "older", "its audit log lacks records that were acknowledged";
        /// The operator said so.
        Operator => "operator", "the operator put it on hold";
    }
}

/// That a database is on hold (H-1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hold {
    /// Since when (UTC).
    pub since: Timestamp,
    /// Why.
    pub why: Why,
    /// The number of the last audit record before it.
    pub after: i64,
}

/// Why a hold was not lifted. The text is for the operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LiftRefused {
    /// There is nothing to lift.
    #[error("The database is not on hold. Nothing was changed.")]
    NotOnHold,
    /// What is to be replayed is of something else.
    #[error(
        "The database to replay from is not a later state of this one: it is of another installation, or has \
         nothing that this one lacks. Name the credentials that were revoked since instead. \
         Nothing was changed."
    )]
    NotLater,
    /// A signing key that was withdrawn since cannot be withdrawn here: no other one could sign.
    #[error(
        "Signing key {0} was withdrawn since, and here no other one of its algorithm is there to sign in its place. \
         Nothing was changed. Try again: each command makes the keys that APIs need. If no API uses the algorithm, \
         name the credentials that were revoked since instead, let an API use it, and run `portcullis keys withdraw`."
    )]
    KeyStays(String),
}

impl LiftRefused {
    /// The word for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotOnHold => "not_on_hold",
            Self::NotLater => "not_a_later_state",
            Self::KeyStays(_) => "key_stays",
        }
    }
}

/// What was noted of a database outside of it, when something was last acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Noted {
    /// The place of the database.
    pub place: String,
    /// Which line its audit log was of: lifting a hold begins another.
    pub line: i64,
    /// The last record of its audit log.
    pub head: Head,
}

impl Noted {
    /// Whether it is of the same log, and beyond.
    #[must_use]
    pub fn is_later_than(&self, other: &Self) -> bool {
        self.place == other.place && self.line == other.line && self.head.seq > other.head.seq
    }
}

/// What the log of a database says about a record that was noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// The record is there, and the same; or it was dropped by age.
    Same,
    /// It is not there, but was of the line before this one, and the operator has said what was stopped
    /// in that one when the hold was lifted.
    Answered,
    /// It is another one, or the log ends before it.
    Missing,
}

/// H-4: whether a database has to be put on hold. `known` is the place that the database says it is in,
/// `here` the one that it is found in, as far as that can be told; `noted` what was noted in this place
/// last, with what the log says about it.
///
/// A database that says nothing of its place is a new one, or from before places were noted.
#[must_use]
pub fn judge(known: Option<&str>, here: Option<&str>, noted: Option<(&Noted, Found)>) -> Option<Why> {
    let place = known.or(here);
    let lacks = noted.is_some_and(|(noted, found)| found == Found::Missing && place == Some(&noted.place));
    match known {
        _ if lacks => Some(Why::Older),
        Some(known) if here != Some(known) => Some(Why::Elsewhere),
        _ => None,
    }
}

/// H-3: the facts of a user after what was stopped later is replayed. What stops is replayed: a role
/// that was taken, a deactivation, a deletion. What gave more is not; it can be given again. MFA is as it
/// was last, like the factors that belong to it: those that were removed may be in other hands.
#[must_use]
pub fn replayed(restored: &Standing, later: &Standing) -> Standing {
    let was_stopped = match (restored.status.0, later.status.0) {
        (Status::Deleted, _) => false,
        (_, Status::Deleted) => true,
        (before, Status::Inactive) => before != Status::Inactive,
        _ => false,
    };
    let lost_role = restored.role.0 == Role::SuperAdmin && later.role.0 != Role::SuperAdmin;
    Standing {
        role: if lost_role { later.role } else { restored.role },
        status: if was_stopped { later.status } else { restored.status },
        mfa_since: later.mfa_since,
        has_password: restored.has_password,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn noted(place: &str) -> Noted {
        Noted { place: place.to_owned(), line: 0, head: Head { seq: 7, link: [1; 32] } }
    }

    #[test]
    fn h4_a_database_in_its_place_with_all_that_was_noted_works() {
        assert_eq!(judge(Some("a"), Some("a"), Some((&noted("a"), Found::Same))), None);
        assert_eq!(judge(None, None, None), None, "a new one");
        assert_eq!(judge(None, Some("a"), Some((&noted("a"), Found::Same))), None, "killed at its first start");
        assert_eq!(judge(Some("a"), Some("a"), None), None, "a node that is new on a server's database");
    }

    #[test]
    fn h4_an_older_database_and_one_from_elsewhere_are_put_on_hold() {
        assert_eq!(judge(Some("a"), Some("a"), Some((&noted("a"), Found::Missing))), Some(Why::Older));
        assert_eq!(judge(None, Some("a"), Some((&noted("a"), Found::Missing))), Some(Why::Older));
        let other = judge(None, Some("b"), Some((&noted("a"), Found::Missing)));
        assert_eq!(other, None, "a new one, where another was used before");
        assert_eq!(judge(Some("a"), Some("b"), None), Some(Why::Elsewhere));
        assert_eq!(judge(Some("a"), None, None), Some(Why::Elsewhere), "nothing was noted beside it");
        assert_eq!(
            judge(Some("a"), Some("b"), Some((&noted("b"), Found::Missing))),
            Some(Why::Elsewhere),
            "what was noted is of another database"
        );
    }

    #[test]
    fn h3_what_stops_is_replayed_and_what_gives_is_not() {
        let standing = |role, status, mfa: Option<i64>| Standing {
            role: (role, at(1)),
            status: (status, at(1)),
            mfa_since: mfa.map(at),
            has_password: true,
        };
        let admin = standing(Role::SuperAdmin, Status::Active, None);
        let later = |role, status, mfa: Option<i64>| Standing {
            role: (role, at(5)),
            status: (status, at(5)),
            ..standing(role, status, mfa)
        };
        let gone = replayed(&admin, &later(Role::User, Status::Deleted, Some(5)));
        assert_eq!(
            (gone.role.0, gone.status, gone.mfa_since),
            (Role::User, (Status::Deleted, at(5)), Some(at(5)))
        );
        let out = replayed(&admin, &later(Role::SuperAdmin, Status::Inactive, None));
        assert_eq!((out.role, out.status), (admin.role, (Status::Inactive, at(5))));

        let user = standing(Role::User, Status::Inactive, Some(1));
        let same = replayed(&user, &later(Role::SuperAdmin, Status::Active, Some(1)));
        assert_eq!(same, user, "nothing is given");
        assert_eq!(
            replayed(&user, &later(Role::User, Status::Inactive, None)).mfa_since,
            None,
            "turned off later"
        );
        let deleted = standing(Role::User, Status::Deleted, None);
        assert_eq!(replayed(&deleted, &later(Role::User, Status::Inactive, None)), deleted);
    }
}
