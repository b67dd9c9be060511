//! Sessions of people, and the one type that says who is acting.
//!
//! How a session was opened is remembered on it because two rules ask: a federated login never
//! generates a credential (C-4), and generating wants a recently given password (C-12).
//! What is *not* remembered is the role: it is read from the user at each request (C-3).

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::accounts::UserId;

/// How long a given password counts as recent (C-12).
pub const PASSWORD_FRESH: SignedDuration = SignedDuration::from_mins(5);

/// How a session was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opened {
    /// With the local password.
    Password,
    /// With the local password and a second factor.
    PasswordAndMfa,
    /// With a passkey alone, which counts as MFA.
    Passkey,
    /// Through an external identity provider: a federated login, with a second factor of
    /// ours or without.
    Provider,
}

impl Opened {
    /// The word in the database and the API.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::PasswordAndMfa => "password_and_mfa",
            Self::Passkey => "passkey",
            Self::Provider => "provider",
        }
    }

    /// The inverse of [`Opened::code`].
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        [Self::Password, Self::PasswordAndMfa, Self::Passkey, Self::Provider]
            .into_iter()
            .find(|o| o.code() == code)
    }
}

/// How long sessions live.
#[derive(Debug, Clone, Copy)]
pub struct SessionLimits {
    /// A session that was not used for this long is over.
    pub idle: SignedDuration,
    /// A session older than this is over, used or not.
    pub absolute: SignedDuration,
}

/// A session of a user. Its 256-bit id is in the browser's cookie only; the store has a digest.
#[derive(Debug, Clone)]
pub struct Session {
    /// Names the session towards its user and in the audit log; opens nothing.
    pub handle: Uuid,
    /// Whose it is.
    pub user: UserId,
    /// How it was opened.
    pub opened: Opened,
    /// Through which provider, for a federated login.
    pub provider: Option<Uuid>,
    /// When it was opened (UTC).
    pub opened_at: Timestamp,
    /// When it was last used (UTC, to the minute).
    pub seen_at: Timestamp,
    /// When the password was last given in it (UTC).
    pub password_at: Option<Timestamp>,
    /// The address it was last used from.
    pub ip: String,
    /// The program it was opened with, as the program names itself.
    pub user_agent: String,
}

impl Session {
    /// Whether the session is still good.
    #[must_use]
    pub fn is_live(&self, limits: &SessionLimits, now: Timestamp) -> bool {
        now < self.ends_at(limits)
    }

    /// When it ends if it is not used again.
    #[must_use]
    pub fn ends_at(&self, limits: &SessionLimits) -> Timestamp {
        (self.seen_at + limits.idle).min(self.opened_at + limits.absolute)
    }

    /// The session as an actor.
    #[must_use]
    pub fn actor(&self) -> Actor {
        Actor::Session { user: self.user, opened: self.opened, password_at: self.password_at }
    }
}

/// Who is acting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor {
    /// A person in a session.
    Session {
        /// Whose session.
        user: UserId,
        /// How it was opened (C-4).
        opened: Opened,
        /// When the password was last given (C-12).
        password_at: Option<Timestamp>,
    },
    /// A program with an access token, acting as the credential's owner (T-4).
    Token {
        /// The owner of the credential.
        owner: UserId,
    },
}

impl Actor {
    /// The user whose rights apply.
    #[must_use]
    pub fn user(&self) -> UserId {
        match *self {
            Self::Session { user, .. } => user,
            Self::Token { owner } => owner,
        }
    }

    /// C-12: whether the password was given in the last five minutes. An instant in the future
    /// (a clock stepped back) does not count.
    #[must_use]
    pub fn password_is_fresh(&self, now: Timestamp) -> bool {
        match *self {
            Self::Session { password_at: Some(at), .. } => at <= now && now < at + PASSWORD_FRESH,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(opened_at: Timestamp) -> Session {
        Session {
            handle: Uuid::nil(),
            user: UserId(Uuid::nil()),
            opened: Opened::Password,
            provider: None,
            opened_at,
            seen_at: opened_at,
            password_at: Some(opened_at),
            ip: String::new(),
            user_agent: String::new(),
        }
    }

    #[test]
    fn a_session_ends_when_idle_and_ends_for_good_at_its_absolute_limit() {
        let start = Timestamp::from_second(1_000_000).unwrap();
        let limits =
            SessionLimits { idle: SignedDuration::from_mins(30), absolute: SignedDuration::from_hours(12) };
        let mut s = session(start);
        assert!(s.is_live(&limits, start + SignedDuration::from_mins(29)));
        assert!(!s.is_live(&limits, start + SignedDuration::from_mins(30)));
        s.seen_at = start + SignedDuration::from_hours(12) - SignedDuration::from_secs(1);
        assert!(s.is_live(&limits, s.seen_at));
        assert!(!s.is_live(&limits, start + SignedDuration::from_hours(12)));
    }

    #[test]
    fn c12_a_password_is_fresh_for_five_minutes_and_never_from_the_future() {
        let at = Timestamp::from_second(1_000_000).unwrap();
        let actor = session(at).actor();
        assert!(actor.password_is_fresh(at + SignedDuration::from_secs(299)));
        assert!(!actor.password_is_fresh(at + SignedDuration::from_secs(300)));
        assert!(!actor.password_is_fresh(at - SignedDuration::from_secs(1)));
        assert!(!Actor::Token { owner: UserId(Uuid::nil()) }.password_is_fresh(at));
    }
}
