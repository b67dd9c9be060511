//! The audit log: the closed set of events (L-1), and the chain that shows a removed or altered
//! record (L-3).
//!
//! The chain is keyed with a key derived from the master key, so whoever can only write to the
//! database cannot mend it. Each record's link is the HMAC of the previous link and the record.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::{closed_set::closed_set, secret::DigestKey};

closed_set! {
    /// Everything that is ever recorded. The label names the act and not its outcome: a refused one has
    /// it too.
    Event {
        /// A user signed in, or failed to.
        SignedIn => "sign_in", "Sign-in";
        /// A user signed out.
        SignedOut => "sign_out", "Sign-out";
        /// A user ended other sessions of theirs.
        SessionsEnded => "sessions.end", "Sign-out of other sessions";
        /// A user gave the password again (C-12), or failed to.
        PasswordConfirmed => "password.confirm", "Password confirmation";
        /// A user changed the password, or failed to.
        PasswordChanged => "password.change", "Password change";
        /// A user changed name, language or time zone.
        ProfileChanged => "profile.change", "Profile change";
        /// A password was changed with a link sent by mail, or such a link was asked for or refused.
        PasswordReset => "password.reset", "Password reset";
        /// An account was made.
        UserCreated => "user.create", "New user";
        /// A user was invited.
        UserInvited => "user.invite", "Invitation";
        /// An invited user set name and password, or an inactive one was made active again.
        UserActivated => "user.activate", "Activation of a user";
        /// A user was deactivated.
        UserDeactivated => "user.deactivate", "Deactivation of a user";
        /// A user was deleted (C-10).
        UserDeleted => "user.delete", "Deletion of a user";
        /// A role was given or taken.
        RoleChanged => "role.change", "Role change";
        /// Multi-factor authentication was turned on.
        MfaEnabled => "mfa.enable", "Turning MFA on";
        /// It was turned off, by the user or by an administrator, or that was refused.
        MfaDisabled => "mfa.disable", "Turning MFA off";
        /// A second factor was added or removed while MFA stays on, or how passkeys may be used.
        MfaChanged => "mfa.change", "MFA change";
        /// A second factor was given so that another may be added, or that was refused.
        FactorConfirmed => "mfa.confirm", "Second factor confirmation";
        /// Recovery codes were made anew.
        RecoveryCodesMade => "mfa.recovery_codes", "New recovery codes";
        /// A sign-in provider was set up, changed or removed.
        ProviderChanged => "provider.change", "Sign-in provider change";
        /// An identity at a provider was linked to an account, or unlinked.
        IdentityLinked => "identity.link", "Identity link";
        /// A request that needs a right the actor does not have.
        AccessRefused => "access.refuse", "Access";
        /// A credential was generated, or refused.
        CredentialGenerated => "credential.generate", "Generation of credentials";
        /// A credential was revoked, or refused.
        CredentialRevoked => "credential.revoke", "Revocation of credentials";
        /// A credential stopped working for now (C-9, C-10).
        CredentialSuspended => "credential.suspend", "Suspension of credentials";
        /// A suspended credential works again (C-9, C-10).
        CredentialResumed => "credential.resume", "Resumption of credentials";
        /// An expired credential gave its place to a new one (C-6).
        CredentialRetired => "credential.retire", "Retirement of expired credentials";
        /// A public key was bound to a credential (C-14), or refused.
        ClientKeyBound => "credential_key.bind", "Binding of a public key";
        /// The public key of a credential was removed, or that was refused (C-15).
        ClientKeyRemoved => "credential_key.remove", "Removal of a public key";
        /// The secret of a credential was switched off, or that was refused (C-15).
        SecretSwitchedOff => "credential_secret.off", "Switching a Client Secret off";
        /// It was switched on again, or that was refused.
        SecretSwitchedOn => "credential_secret.on", "Switching a Client Secret on";
        /// A token request was refused. Issued tokens have a record of their own (L-4).
        TokenRefused => "token.refuse", "Token request";
        /// A single token was revoked (RFC 7009), or refused.
        TokenRevoked => "token.revoke", "Token revocation";
        /// An API was registered.
        ApiRegistered => "api.register", "Registration of an API";
        /// An API was changed.
        ApiChanged => "api.change", "API change";
        /// An API was removed, its keys and the tokens for it with it.
        ApiRemoved => "api.remove", "Removal of an API";
        /// An introspection key of an API was made; an older one may end with it.
        ApiKeyMade => "api_key.make", "New API key";
        /// An introspection key of an API was removed.
        ApiKeyRemoved => "api_key.remove", "Removal of an API key";
        /// A signing key was made.
        KeyCreated => "key.create", "New signing key";
        /// The upcoming signing key signs from now on, and a new one is published.
        KeyRotated => "key.rotate", "Rotation of signing keys";
        /// A signing key was taken out of the key set at once.
        KeyWithdrawn => "key.withdraw", "Withdrawal of a signing key";
        /// A signing key has left the key set: its last token has ended.
        KeyRetired => "key.retire", "Retirement of a signing key";
        /// What was sealed under another master key was sealed anew under the current one.
        Rewrapped => "master_key.rewrap", "Rewrapping under the master key";
        /// The database was put on hold (H-1): it may be older than what was acknowledged.
        HoldBegun => "hold.begin", "Putting on hold";
        /// The operator lifted the hold (H-2), having said what is replayed.
        HoldLifted => "hold.lift", "Lifting the hold";
        /// Records older than the retention were dropped.
        AuditTrimmed => "audit.trim", "Dropping of old audit records";
    }
}

/// Who did it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum By {
    /// A user: the id.
    User(String),
    /// A program: the Client ID it presented or acted with.
    Client(String),
    /// Somebody not signed in.
    Stranger,
    /// The operator at the command line of the machine.
    Operator,
    /// The server itself.
    Server,
}

impl By {
    /// The kind and the id, as they are stored.
    #[must_use]
    pub fn parts(&self) -> (&'static str, &str) {
        match self {
            Self::User(id) => ("user", id),
            Self::Client(id) => ("client", id),
            Self::Stranger => ("stranger", ""),
            Self::Operator => ("operator", ""),
            Self::Server => ("server", ""),
        }
    }
}

/// Whether the act was done or refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It happened, and was committed together with its record.
    Done,
    /// It was refused, for this reason (a code).
    Refused(&'static str),
}

/// Where a request came from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origin {
    /// The address of the caller, as text; empty at the command line.
    pub ip: String,
    /// What the caller's program calls itself: visible characters only, at most 200.
    pub user_agent: String,
}

impl Origin {
    /// The origin with the user agent made safe to store and show: unprintable characters
    /// replaced, cut at 200 characters.
    #[must_use]
    pub fn new(ip: String, user_agent: &str) -> Self {
        Self { ip, user_agent: printable(user_agent, 200) }
    }
}

/// A stranger's text made safe to keep: control characters replaced, cut to `max` characters.
#[must_use]
pub fn printable(text: &str, max: usize) -> String {
    text.chars().take(max).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// The most characters of an actor, an address, a user agent or a subject that are kept.
const FIELD_MAX_CHARS: usize = 256;

/// A record to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// When it happened (UTC).
    pub at: Timestamp,
    /// Who did it.
    pub by: By,
    /// From where.
    pub origin: Origin,
    /// What.
    pub event: Event,
    /// To what: a user's id, a Client ID, the identifier of an API, a key id.
    pub subject: String,
    /// Done or refused.
    pub outcome: Outcome,
    /// What changed, by name. Never a secret (L-2).
    pub details: BTreeMap<&'static str, String>,
}

impl Entry {
    /// A record of something done, without details.
    #[must_use]
    pub fn done(at: Timestamp, by: By, origin: &Origin, event: Event, subject: impl Into<String>) -> Self {
        Self {
            at,
            by,
            origin: origin.clone(),
            event,
            subject: subject.into(),
            outcome: Outcome::Done,
            details: BTreeMap::new(),
        }
    }

    /// The same, refused for a reason.
    #[must_use]
    pub fn refused(mut self, reason: &'static str) -> Self {
        self.outcome = Outcome::Refused(reason);
        self
    }

    /// The same with one more detail.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.details.insert(name, value.into());
        self
    }
}

/// A record as it is stored: what is chained is exactly this text and these numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its number, from 1, without gaps.
    pub seq: i64,
    /// Microseconds since the epoch, UTC.
    pub at: i64,
    /// The kind of actor and its id, as [`By::parts`] gives them.
    pub by: (String, String),
    /// The address.
    pub ip: String,
    /// The user agent.
    pub user_agent: String,
    /// [`Event::code`].
    pub event: String,
    /// The subject.
    pub subject: String,
    /// `done` or `refused`.
    pub outcome: String,
    /// Why it was refused, or empty.
    pub reason: String,
    /// The details as a JSON object.
    pub details: String,
}

impl Record {
    /// The stored form of an entry. Whatever a stranger sent loses its control characters here
    /// (in the details JSON escapes those below the space), so that any database takes it and no reader is misled.
    #[must_use]
    pub fn new(seq: i64, entry: &Entry) -> Self {
        let (kind, id) = entry.by.parts();
        let (outcome, reason) = match entry.outcome {
            Outcome::Done => ("done", ""),
            Outcome::Refused(reason) => ("refused", reason),
        };
        Self {
            seq,
            at: entry.at.as_microsecond(),
            by: (kind.to_owned(), printable(id, FIELD_MAX_CHARS)),
            ip: printable(&entry.origin.ip, FIELD_MAX_CHARS),
            user_agent: printable(&entry.origin.user_agent, FIELD_MAX_CHARS),
            event: entry.event.code().to_owned(),
            subject: printable(&entry.subject, FIELD_MAX_CHARS),
            outcome: outcome.to_owned(),
            reason: reason.to_owned(),
            details: serde_json::to_string(&entry.details).unwrap_or_default(),
        }
    }

    /// L-3: the link of this record, given the link before it. Every field goes in behind its
    /// length, so no two records share an encoding.
    #[must_use]
    pub fn link(&self, key: &DigestKey, previous: &[u8; 32]) -> [u8; 32] {
        let mut message = Vec::with_capacity(512);
        message.extend_from_slice(previous);
        message.extend_from_slice(&self.seq.to_be_bytes());
        message.extend_from_slice(&self.at.to_be_bytes());
        for field in [
            &self.by.0,
            &self.by.1,
            &self.ip,
            &self.user_agent,
            &self.event,
            &self.subject,
            &self.outcome,
            &self.reason,
            &self.details,
        ] {
            message.extend_from_slice(&(field.len() as u64).to_be_bytes());
            message.extend_from_slice(field.as_bytes());
        }
        key.mac(&message)
    }
}

/// Where the chain stands: the number and the link of its last record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The number of the last record; 0 when there is none.
    pub seq: i64,
    /// Its link; zeros when there is none.
    pub link: [u8; 32],
}

impl Head {
    /// The head of an empty log.
    pub const EMPTY: Self = Self { seq: 0, link: [0; 32] };
}

impl Head {
    /// L-3: seals the head and the place up to which records were dropped by age, so that whoever
    /// can only write to the database cannot cut records off at either end and set these to fit.
    #[must_use]
    pub fn seal(&self, key: &DigestKey, trimmed: &Self) -> [u8; 32] {
        let mut message = b"head".to_vec();
        for head in [self, trimmed] {
            message.extend_from_slice(&head.seq.to_be_bytes());
            message.extend_from_slice(&head.link);
        }
        key.mac(&message)
    }
}

/// What is wrong with a chain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// A number is missing.
    #[error("record {missing} is missing (the next one found is {found})")]
    Missing {
        /// The number that should have come.
        missing: i64,
        /// The one that came.
        found: i64,
    },
    /// A record is not what it was when it was written.
    #[error("record {0} was altered, or a record before it was replaced")]
    Altered(i64),
    /// A record stands outside the chain.
    #[error("record {0} is not part of the chain: it was put beside the log")]
    Stray(i64),
    /// A record, or the head, names a key that is not there to check it with.
    #[error(
        "record {seq} names master key {key:?}, which is not given: bring that key, or the record was altered"
    )]
    UnknownKey {
        /// The record, or the last one, if it is the head.
        seq: i64,
        /// The id of the key.
        key: String,
    },
    /// The head of the log is not what was written.
    #[error("the head of the log was altered")]
    Head,
    /// The log ends before its head.
    #[error("the log ends at record {last}, but its head says {head}: records were removed at the end")]
    Truncated {
        /// The last record found.
        last: i64,
        /// The last record there was.
        head: i64,
    },
}

/// L-3: follows the chain one record on.
///
/// # Errors
/// When the record does not continue it.
pub fn follow(key: &DigestKey, head: Head, record: &Record, stored_link: &[u8]) -> Result<Head, Broken> {
    if record.seq != head.seq + 1 {
        return Err(Broken::Missing { missing: head.seq + 1, found: record.seq });
    }
    let link = record.link(key, &head.link);
    if link.as_slice() != stored_link {
        return Err(Broken::Altered(record.seq));
    }
    Ok(Head { seq: record.seq, link })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(key: &DigestKey, n: i64) -> Vec<(Record, [u8; 32])> {
        let mut head = Head::EMPTY;
        (1..=n)
            .map(|seq| {
                let at = Timestamp::from_second(seq).unwrap();
                let entry = Entry::done(at, By::Stranger, &Origin::default(), Event::SignedIn, "x")
                    .with("name", "a\r\n{\"b\":1}");
                let record = Record::new(seq, &entry);
                head = Head { seq, link: record.link(key, &head.link) };
                (record, head.link)
            })
            .collect()
    }

    fn verify(key: &DigestKey, records: &[(Record, [u8; 32])]) -> Result<Head, Broken> {
        records.iter().try_fold(Head::EMPTY, |head, (record, link)| follow(key, head, record, link))
    }

    #[test]
    fn l3_a_removed_or_altered_record_is_found() {
        let key = DigestKey::new("k", &[3; 32]);
        let good = chain(&key, 5);
        assert_eq!(verify(&key, &good).unwrap().seq, 5);

        let mut removed = good.clone();
        removed.remove(2);
        assert_eq!(verify(&key, &removed), Err(Broken::Missing { missing: 3, found: 4 }));

        let mut altered = good.clone();
        altered[2].0.subject = "y".to_owned();
        assert_eq!(verify(&key, &altered), Err(Broken::Altered(3)));

        let forger = DigestKey::new("k", &[4; 32]);
        assert_eq!(verify(&key, &chain(&forger, 5)), Err(Broken::Altered(1)), "the key is needed to forge");
    }

    #[test]
    fn l3_moving_text_between_fields_is_an_alteration() {
        let key = DigestKey::new("k", &[3; 32]);
        let mut record = chain(&key, 1).remove(0).0;
        let before = record.link(&key, &[0; 32]);
        record.ip = "x".to_owned();
        record.subject = String::new();
        assert_ne!(before, record.link(&key, &[0; 32]));
    }

    #[test]
    fn protocol42_control_characters_of_a_stranger_never_reach_a_record() {
        let origin = Origin::new("::1".to_owned(), "curl\r\nInjected: yes\u{0}");
        assert!(!origin.user_agent.contains(char::is_control), "{origin:?}");
        assert_eq!(Origin::new(String::new(), &"x".repeat(1000)).user_agent.len(), 200);
    }

    #[test]
    fn every_event_has_a_code_of_its_own() {
        for event in Event::ALL {
            assert_eq!(Event::from_code(event.code()), Some(*event));
        }
    }
}
