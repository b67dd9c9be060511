//! Links sent by mail: each opens one thing, once, for a while, and the newest of its
//! kind is the only one that does.

use jiff::{SignedDuration, Timestamp};

use crate::accounts::UserId;

/// What a link opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkPurpose {
    /// The activation of an account by whom it was made for.
    Invitation,
    /// A new password in place of a forgotten one.
    PasswordReset,
}

impl LinkPurpose {
    /// The word in the database.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Invitation => "invitation",
            Self::PasswordReset => "password_reset",
        }
    }

    /// The inverse of [`LinkPurpose::code`].
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        [Self::Invitation, Self::PasswordReset].into_iter().find(|p| p.code() == code)
    }

    /// How long a link is good: 24 hours for an invitation, 1 hour for a new password.
    #[must_use]
    pub fn lasts(self) -> SignedDuration {
        match self {
            Self::Invitation => SignedDuration::from_hours(24),
            Self::PasswordReset => SignedDuration::from_hours(1),
        }
    }
}

/// A link as it is stored: its 256-bit token is in the mail only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// For whom.
    pub user: UserId,
    /// What it opens.
    pub purpose: LinkPurpose,
    /// When it was made (UTC).
    pub made_at: Timestamp,
    /// Until when it is good (UTC).
    pub expires_at: Timestamp,
    /// When it was used, if it was (UTC).
    pub used_at: Option<Timestamp>,
    /// When a newer one took its place, if one did (UTC).
    pub replaced_at: Option<Timestamp>,
}

/// Why a link opens nothing. The text is for whoever holds it; strangers, who hold none, learn
/// nothing from [`LinkRefused::Unknown`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LinkRefused {
    /// Not a link of this server, or its account is closed.
    #[error("This link is not valid. Open it exactly as it is in the mail, or ask for a new one.")]
    Unknown,
    /// It was used, for this.
    #[error("This link was used already. {}", match .0 {
        LinkPurpose::Invitation => "The account is active: sign in with it.",
        LinkPurpose::PasswordReset => "If you do not know the new password, ask for a new link.",
    })]
    Used(LinkPurpose),
    /// A newer one is there, or what it was for was done in another way.
    #[error("{}", match .0 {
        LinkPurpose::Invitation => {
            "This link was replaced by a newer one. Use the link in the latest mail, or ask a Super Admin to invite you again."
        }
        LinkPurpose::PasswordReset => {
            "This link was replaced by a newer one, or the password was changed since. Use the link in the latest mail, or ask for another."
        }
    })]
    Replaced(LinkPurpose),
    /// Its time is over.
    #[error("This link has expired. It was good for {}.", match .0 {
        LinkPurpose::Invitation => "24 hours. Ask a Super Admin to invite you again",
        LinkPurpose::PasswordReset => "1 hour. Ask for a new one",
    })]
    Expired(LinkPurpose),
}

impl LinkRefused {
    /// The word in the audit log.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Unknown => "link_unknown",
            Self::Used(_) => "link_used",
            Self::Replaced(_) => "link_replaced",
            Self::Expired(_) => "link_expired",
        }
    }
}

impl Link {
    /// A new link.
    #[must_use]
    pub fn new(user: UserId, purpose: LinkPurpose, now: Timestamp) -> Self {
        Self { user, purpose, made_at: now, expires_at: now + purpose.lasts(), used_at: None, replaced_at: None }
    }

    /// Whether it can be used at `now`.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, now: Timestamp) -> Result<(), LinkRefused> {
        if self.used_at.is_some() {
            Err(LinkRefused::Used(self.purpose))
        } else if self.replaced_at.is_some() {
            Err(LinkRefused::Replaced(self.purpose))
        } else if self.expires_at <= now {
            Err(LinkRefused::Expired(self.purpose))
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a2_a_link_is_good_for_its_time_and_then_says_why_it_is_not() {
        let at = Timestamp::from_second(1_000_000).unwrap();
        for (purpose, hours) in [(LinkPurpose::Invitation, 24), (LinkPurpose::PasswordReset, 1)] {
            assert_eq!(LinkPurpose::from_code(purpose.code()), Some(purpose));
            let link = Link::new(UserId(uuid::Uuid::nil()), purpose, at);
            let end = at + SignedDuration::from_hours(hours);
            assert_eq!(link.check(end - SignedDuration::from_micros(1)), Ok(()));
            assert_eq!(link.check(end), Err(LinkRefused::Expired(purpose)));
            let used = Link { used_at: Some(at), ..link.clone() };
            assert_eq!(used.check(at), Err(LinkRefused::Used(purpose)));
            let replaced = Link { replaced_at: Some(at), ..link };
            assert_eq!(replaced.check(at), Err(LinkRefused::Replaced(purpose)));
        }
    }

    #[test]
    fn every_refusal_says_what_to_do() {
        let purposes = [LinkPurpose::Invitation, LinkPurpose::PasswordReset];
        let each = |p| [LinkRefused::Used(p), LinkRefused::Expired(p), LinkRefused::Replaced(p)];
        for refused in purposes.into_iter().flat_map(each).chain([LinkRefused::Unknown]) {
            let text = refused.to_string().to_lowercase();
            assert!(["ask for", "ask a super admin", "sign in"].iter().any(|t| text.contains(t)), "{text}");
        }
    }
}
