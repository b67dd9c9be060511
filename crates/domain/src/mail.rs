//! The mails that are sent: a closed set, so that the outbox, its page and the book name the same.

use crate::{audit::printable, closed_set::closed_set};

closed_set! {
    /// What a mail is about.
    MailKind {
        /// The link with which an invited user activates the account.
        Invitation => "invitation", "Invitation";
        /// The link with which a forgotten password is replaced.
        PasswordReset => "password_reset", "Password reset";
        /// The same asked for an account that has no password here.
        NoPassword => "no_password", "Sign-in without a password";
        /// The password was changed with such a link.
        PasswordChanged => "password_changed", "Password changed";
        /// A credential was generated.
        CredentialGenerated => "credential_generated", "Credentials generated";
        /// A credential was revoked.
        CredentialRevoked => "credential_revoked", "Credentials revoked";
        /// A credential was suspended (C-9, C-10).
        CredentialSuspended => "credential_suspended", "Credentials suspended";
        /// A credential works again (C-9, C-10).
        CredentialResumed => "credential_resumed", "Credentials resumed";
        /// A credential expires in 30, 7 or 1 days (C-6).
        CredentialExpires => "credential_expires", "Credentials expire soon";
        /// A key was bound or removed, or the secret was switched off or on (C-14, C-15).
        CredentialChanged => "credential_changed", "Credentials changed";
        /// MFA was turned off by an administrator.
        MfaDisabled => "mfa_disabled", "MFA turned off";
        /// A user's second factors were changed by that user.
        FactorsChanged => "factors_changed", "Second factors changed";
        /// A sign-in from a network that the account was not known from.
        NewDevice => "new_device", "New device sign-in";
    }
}

/// A message, ready to be sent. It may hold a link that opens something, so it is sealed at rest.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// What it is about.
    pub kind: MailKind,
    /// One address, never more (protocol 41).
    pub to: crate::accounts::Email,
    /// The subject, one line.
    pub subject: String,
    /// The text part.
    pub text: String,
    /// The HTML part.
    pub html: String,
}

impl Message {
    /// A message whose subject is one printable line.
    #[must_use]
    pub fn new(kind: MailKind, to: crate::accounts::Email, subject: &str, text: String, html: String) -> Self {
        Self { kind, to, subject: printable(subject, 200), text, html }
    }
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Message({:?})", self.kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mail_has_a_code_of_its_own_and_shows_nothing_of_itself() {
        for kind in MailKind::ALL {
            assert_eq!(MailKind::from_code(kind.code()), Some(*kind));
        }
        let to = crate::accounts::Email::parse("maria@acme.example").unwrap();
        let mail =
            Message::new(MailKind::Invitation, to, "a\r\nBcc: x@y.z", "secret-link".into(), "secret-link".into());
        assert!(!mail.subject.contains(['\r', '\n']), "protocol 42");
        assert!(!format!("{mail:?}").contains("secret"), "L-2");
    }
}
