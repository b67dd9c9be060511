//! Users: who they are, what they may, what a good password is, and how repeated sign-in
//! failures slow down and lock.

use jiff::{SignedDuration, Timestamp, tz::TimeZoneDatabase};
use uuid::Uuid;

pub mod manage;

/// The id of a user: a UUID version 7. It can never equal a Client ID (RFC 9700 §4.15).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserId(pub Uuid);

impl std::fmt::Display for UserId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// What a user may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// **Super Admin**: manages the platform and their own credential.
    SuperAdmin,
    /// Everyone else.
    User,
}

impl Role {
    /// The word in the database and the API.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::SuperAdmin => "super_admin",
            Self::User => "user",
        }
    }

    /// The inverse of [`Role::code`].
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        [Self::SuperAdmin, Self::User].into_iter().find(|r| r.code() == code)
    }

    /// The word on the screens.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::SuperAdmin => "Super Admin",
            Self::User => "User",
        }
    }
}

/// Where an account stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Invited, not yet activated.
    Pending,
    /// May sign in.
    Active,
    /// Deactivated.
    Inactive,
    /// Deleted. The row stays so that the audit log keeps its meaning; nothing opens it again.
    Deleted,
}

impl Status {
    /// The word in the database and the API.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Pending => "pending_activation",
            Self::Active => "active",
            Self::Inactive => "inactive",
            Self::Deleted => "deleted",
        }
    }

    /// The inverse of [`Status::code`].
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        [Self::Pending, Self::Active, Self::Inactive, Self::Deleted].into_iter().find(|s| s.code() == code)
    }
}

/// The facts about a user that decide what the user and the user's credential may do.
/// They are read from the store for each decision and never remembered (C-3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The role and since when (UTC).
    pub role: (Role, Timestamp),
    /// The status and since when (UTC).
    pub status: (Status, Timestamp),
    /// Since when MFA is on, if it is (UTC).
    pub mfa_since: Option<Timestamp>,
    /// Whether there is a local password.
    pub has_password: bool,
}

impl Standing {
    /// Whether this user acts as a Super Admin at this moment (C-3).
    #[must_use]
    pub fn is_super_admin(&self) -> bool {
        self.role.0 == Role::SuperAdmin && self.status.0 == Status::Active
    }
}

/// A user.
#[derive(Debug, Clone)]
pub struct User {
    /// The id.
    pub id: UserId,
    /// The e-mail, normalised; unique among users.
    pub email: Email,
    /// The name shown to people.
    pub name: DisplayName,
    /// The language of pages: how dates are written.
    pub language: Language,
    /// The IANA time zone in which local times are shown beside UTC.
    pub time_zone: TimeZoneName,
    /// Role, status, MFA, password.
    pub standing: Standing,
    /// When the account was made (UTC).
    pub created_at: Timestamp,
}

/// Why a value that a person typed was not taken. The text is for that person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Invalid {
    /// The field's name in forms and JSON.
    pub field: &'static str,
    /// What is wrong and what to do.
    pub message: String,
}

fn invalid(field: &'static str, message: impl Into<String>) -> Invalid {
    Invalid { field, message: message.into() }
}

/// An e-mail address, trimmed and in lower case, so that every spelling is one account.
/// At most 254 characters (RFC 5321 §4.5.3.1).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Email(String);

impl Email {
    /// Reads an address as typed.
    ///
    /// # Errors
    /// When it cannot be an address.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let text = text.trim().to_lowercase();
        let well_formed = text.split_once('@').is_some_and(|(local, domain)| {
            !local.is_empty()
                && local.len() <= 64
                && !domain.is_empty()
                && !domain.contains('@')
                && !domain.starts_with('.')
                && !domain.ends_with('.')
                && !domain.contains("..")
        });
        if text.len() > 254 || !well_formed || text.chars().any(|c| c.is_whitespace() || is_hidden(c)) {
            return Err(invalid("email", "Enter an e-mail address, like name@example.com."));
        }
        Ok(Self(text))
    }

    /// The address.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Characters that print as nothing or turn text around: they have no place in a name.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// A name shown to people: 1 to 100 characters, no control or direction characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DisplayName(String);

impl DisplayName {
    /// Reads a name as typed.
    ///
    /// # Errors
    /// When it is empty, too long, or has characters that do not print.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let text = text.trim();
        if text.is_empty() {
            return Err(invalid("name", "Enter a name."));
        }
        if text.chars().count() > 100 {
            return Err(invalid("name", "Enter a name of at most 100 characters."));
        }
        if text.chars().any(is_hidden) {
            return Err(invalid("name", "Enter a name without control characters or line breaks."));
        }
        Ok(Self(text.to_owned()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// How pages write dates for a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// English, `23 November 2026, 14:02`.
    EnglishInternational,
    /// English, `November 23, 2026, 2:02 PM`.
    EnglishUnitedStates,
}

impl Language {
    /// Every language there is.
    pub const ALL: [Self; 2] = [Self::EnglishInternational, Self::EnglishUnitedStates];

    /// The BCP 47 tag.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::EnglishInternational => "en-001",
            Self::EnglishUnitedStates => "en-US",
        }
    }

    /// The name on the screens.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::EnglishInternational => "English (International)",
            Self::EnglishUnitedStates => "English (United States)",
        }
    }

    /// Reads a tag.
    ///
    /// # Errors
    /// When the console does not have that language.
    pub fn parse(code: &str) -> Result<Self, Invalid> {
        Self::ALL
            .into_iter()
            .find(|l| l.code() == code)
            .ok_or_else(|| invalid("language", "Choose one of the languages in the list: en-001, en-US."))
    }
}

/// The name of an IANA time zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeZoneName(String);

impl TimeZoneName {
    /// UTC.
    #[must_use]
    pub fn utc() -> Self {
        Self("UTC".to_owned())
    }

    /// Reads a name, in any case, against the bundled time zone database.
    ///
    /// # Errors
    /// When there is no such zone.
    pub fn parse(name: &str) -> Result<Self, Invalid> {
        let unknown = || invalid("time_zone", "Enter an IANA time zone, like Europe/Lisbon or UTC.");
        let zone = TimeZoneDatabase::bundled().get(name.trim()).map_err(|_| unknown())?;
        zone.iana_name().map(|n| Self(n.to_owned())).ok_or_else(unknown)
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The names of all zones, for a list to choose from.
    #[must_use]
    pub fn all() -> Vec<String> {
        TimeZoneDatabase::bundled().available().map(|n| n.to_string()).collect()
    }

    /// The zone.
    #[must_use]
    pub fn zone(&self) -> jiff::tz::TimeZone {
        TimeZoneDatabase::bundled().get(&self.0).unwrap_or(jiff::tz::TimeZone::UTC)
    }
}

/// The most characters a password may have: room for any passphrase, a bound for Argon2's input.
pub const PASSWORD_MAX_CHARS: usize = 256;

/// what a new password must be (NIST SP 800-63B-4 §3.1.1.2): long enough and not one that
/// guessing tries early. No composition rules, no forced rotation.
#[derive(Debug, Clone, Copy)]
pub struct PasswordPolicy {
    /// The fewest characters (15 by default).
    pub min_chars: usize,
}

impl PasswordPolicy {
    /// Judges a new password. `about` are words a guesser would try for this user: e-mail, name.
    ///
    /// # Errors
    /// With what is wrong and what to do.
    pub fn judge(&self, password: &str, about: &[&str]) -> Result<(), Invalid> {
        let length = password.chars().count();
        if length < self.min_chars {
            let message = format!(
                "Use at least {} characters ({length} now). Several words in a row are fine.",
                self.min_chars
            );
            return Err(invalid("password", message));
        }
        if length > PASSWORD_MAX_CHARS {
            return Err(invalid("password", format!("Use at most {PASSWORD_MAX_CHARS} characters.")));
        }
        let mut inputs: Vec<&str> = about.to_vec();
        inputs.extend(about.iter().flat_map(|a| a.split(|c: char| !c.is_alphanumeric())));
        inputs.push("portcullis");
        if zxcvbn::zxcvbn(password, &inputs).guesses_log10() < MIN_GUESSES_LOG10 {
            return Err(invalid(
                "password",
                "This password is among the first that guessing would try (common passwords, names, patterns). \
                 Use a longer or less predictable one.",
            ));
        }
        Ok(())
    }
}

/// A password within the first 10^10 guesses is a common one, or a pattern of common ones.
const MIN_GUESSES_LOG10: f64 = 10.0;

/// What a run of failures is counted for. Both are counted; the longer wait applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// The account from one network. A stranger locks only their own network out.
    FromNetwork,
    /// The account from anywhere, which a guesser with many networks runs into.
    FromAnywhere,
}

/// until when a sign-in is refused after `failures` in a row, the last at `last`.
/// Five (from anywhere: fifty) are free; then 1 s, doubling to 15 minutes.
/// A run that ended a day ago is forgotten.
#[must_use]
pub fn locked_until(counted: Counted, failures: u32, last: Timestamp, now: Timestamp) -> Option<Timestamp> {
    let free = match counted {
        Counted::FromNetwork => 5,
        Counted::FromAnywhere => 50,
    };
    if failures < free || now > last + RUN_IS_FORGOTTEN {
        return None;
    }
    let wait = 1i64 << (failures - free).min(20);
    // A clock that was stepped back must not make the lock longer.
    let until = last.min(now) + SignedDuration::from_secs(wait).min(LONGEST_LOCK);
    (now < until).then_some(until)
}

/// A run of failures whose last is older than this no longer counts.
pub const RUN_IS_FORGOTTEN: SignedDuration = SignedDuration::from_hours(24);

/// The longest a sign-in stays locked after the last failure.
pub const LONGEST_LOCK: SignedDuration = SignedDuration::from_mins(15);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a8_every_spelling_of_an_address_is_one_account() {
        assert_eq!(Email::parse(" Maria@ACME.example ").unwrap(), Email::parse("maria@acme.example").unwrap());
        for bad in ["", "maria", "@x", "maria@", "a b@c", "a@b@c", "a@.b", "a@b..c", "a\u{200b}@b.c", "a@b\r\nc"] {
            assert!(Email::parse(bad).is_err(), "{bad:?}");
        }
        assert!(Email::parse(&format!("a@{}", "x".repeat(300))).is_err());
    }

    #[test]
    fn a_name_is_one_visible_line() {
        assert!(DisplayName::parse("<script>alert(1)</script>").is_ok(), "hostile text is text");
        for bad in ["", "  ", "a\nb", "a\u{202e}b", &"x".repeat(101)] {
            assert!(DisplayName::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_time_zone_is_one_of_the_database() {
        assert_eq!(TimeZoneName::parse("europe/lisbon").unwrap().as_str(), "Europe/Lisbon");
        assert!(TimeZoneName::parse("Mars/Olympus").is_err());
        assert!(TimeZoneName::all().len() > 300);
    }

    #[test]
    fn a4_a_password_is_long_and_not_common_and_nothing_else_is_asked() {
        let policy = PasswordPolicy { min_chars: 15 };
        let judge = |p: &str| policy.judge(p, &["maria.rocha@acme.example", "Maria Rocha"]);
        assert!(judge("tide lantern walnut orbit").is_ok());
        assert!(judge("nopqZ-1837-vowel").is_ok());
        assert!(judge(&"correct horse battery staple ".repeat(8)).is_ok(), "long is allowed");
        for bad in [
            "short",
            "passwordpassword",
            "123456789012345678",
            "aaaaaaaaaaaaaaaaaaaa",
            "qwertyuiopasdfghjkl",
            "mariarochamariarocha",
            "portcullisportcullis",
            "Password12345678",
        ] {
            assert!(judge(bad).is_err(), "{bad}");
        }
        assert!(judge(&"tide lantern walnut orbit ".repeat(20)).is_err(), "bounded");
    }

    #[test]
    fn a8_failures_slow_down_then_lock_for_at_most_fifteen_minutes() {
        let last = Timestamp::from_second(1_000_000).unwrap();
        let wait = |counted, failures| {
            locked_until(counted, failures, last, last).map_or(0, |until| until.duration_since(last).as_secs())
        };
        let waits: Vec<i64> = (4..9).map(|n| wait(Counted::FromNetwork, n)).collect();
        assert_eq!(waits, [0, 1, 2, 4, 8]);
        assert_eq!(wait(Counted::FromNetwork, 1000), 900);
        assert_eq!(wait(Counted::FromAnywhere, 49), 0, "one stranger does not lock everybody out");
        assert_eq!(wait(Counted::FromAnywhere, u32::MAX), 900);
        let after = last + SignedDuration::from_secs(900);
        assert_eq!(locked_until(Counted::FromNetwork, 1000, last, after), None);
    }
}
