//! The pages about people: users, invitations, the outbox, links that arrived by mail.

use askama::Template;
use portcullis_domain::{
    accounts::{Status, User, manage::Act},
    credentials::{Effect, Standing},
    secret::{ExposeSecret, SecretText},
};

use super::{Field, Frame, Nav, Notice, When};
use crate::app::standing::Foreseen;

/// The words and the colour of a status.
#[must_use]
pub fn status_badge(status: Status) -> (&'static str, &'static str) {
    match status {
        Status::Pending => ("warn", "Pending activation"),
        Status::Active => ("ok", "Active"),
        Status::Inactive => ("off", "Inactive"),
        Status::Deleted => ("bad", "Deleted"),
    }
}

/// A user in the list.
#[derive(Debug, Clone)]
pub struct UserRow {
    /// The id.
    pub id: String,
    /// The name.
    pub name: String,
    /// The e-mail.
    pub email: String,
    /// The role's word.
    pub role: &'static str,
    /// Class and words of the status.
    pub status: (&'static str, &'static str),
    /// Whether MFA is on.
    pub mfa: bool,
    /// When the account was made.
    pub made: When,
}

/// `GET /users`.
#[derive(Debug, Clone, Template)]
#[template(path = "users.html")]
pub struct Users {
    /// The frame.
    pub frame: Frame,
    /// What is looked for in name and e-mail.
    pub search: String,
    /// The code of the status that is looked for, or empty.
    pub status: String,
    /// The users, in the order they were made.
    pub rows: Vec<UserRow>,
    /// Whether this is not the first page.
    pub later: bool,
    /// The address of the first page of the same search.
    pub first: String,
    /// The address of the next page.
    pub next: Option<String>,
}

impl Users {
    const STATUSES: [Status; 3] = [Status::Active, Status::Pending, Status::Inactive];

    fn searched(&self) -> bool {
        !self.search.is_empty() || !self.status.is_empty()
    }
}

/// What a Super Admin can do to a user: where, and with which words.
#[derive(Debug, Clone, Copy)]
pub struct ActWords {
    /// The last part of its address.
    pub path: &'static str,
    /// The button.
    pub button: &'static str,
    /// Whether something is taken away.
    pub harsh: bool,
}

/// The words of an act.
#[must_use]
pub fn act_words(act: Act) -> ActWords {
    let (path, button, harsh) = match act {
        Act::InviteAgain => ("invite-again", "Invite again", false),
        Act::Activate => ("activate", "Activate", false),
        Act::Deactivate => ("deactivate", "Deactivate", true),
        Act::Delete => ("delete", "Delete", true),
        Act::GiveSuperAdmin => ("give-super-admin", "Give Super Admin", false),
        Act::TakeSuperAdmin => ("take-super-admin", "Take Super Admin", true),
        Act::TurnMfaOff => ("turn-mfa-off", "Turn MFA off", true),
    };
    ActWords { path, button, harsh }
}

/// The credential of the user, in a sentence for somebody else: never a secret.
#[must_use]
pub fn credential_now(foreseen: &Foreseen, standing: Option<Standing>) -> String {
    let (Some(held), Some(standing)) = (&foreseen.held, standing) else {
        return "No security credentials".to_owned();
    };
    let id = held.client_id.as_str();
    match standing {
        Standing::Active => format!("{id}, active"),
        Standing::Suspended(why, _) => format!("{id}, suspended {}", why.because()),
        Standing::Expired(_) => format!("{id}, expired"),
        Standing::Revoked(..) => format!("{id}, revoked"),
    }
}

/// What an act will do to the credential, in a sentence.
#[must_use]
pub fn credential_then(foreseen: &Foreseen) -> String {
    let Some(held) = &foreseen.held else {
        return "The user has no security credentials.".to_owned();
    };
    let id = held.client_id.as_str();
    match foreseen.effect {
        None => format!("The credential {id} stays as it is."),
        Some(Effect::Suspended(why)) => format!(
            "The credential {id} is suspended {}: its programs get no tokens, and the tokens they have do not work. \
             Nothing is deleted.",
            why.because()
        ),
        Some(Effect::Resumed) => {
            format!(
                "The credential {id} works again at once: its programs get tokens, and tokens that have not ended work."
            )
        }
        Some(Effect::Revoked(_)) => {
            format!("The credential {id} is revoked at once, for good: its programs stop.")
        }
    }
}

/// `GET /users/{user}`.
#[derive(Debug, Clone, Template)]
#[template(path = "user.html")]
pub struct UserPage {
    /// The frame.
    pub frame: Frame,
    /// What just happened.
    pub notice: Option<Notice>,
    /// The user.
    pub user: User,
    /// Whether it is who looks.
    pub is_self: bool,
    /// Class and words of the status.
    pub status: (&'static str, &'static str),
    /// Since when.
    pub status_since: When,
    /// Since when the role.
    pub role_since: When,
    /// Since when MFA is on.
    pub mfa_since: Option<When>,
    /// When the user last signed in.
    pub signed_in: Option<When>,
    /// When the account was made.
    pub made: When,
    /// The identities: the provider (or the issuer) and the e-mail there.
    pub identities: Vec<(String, String)>,
    /// The credential, from [`credential_now`].
    pub credential: String,
    /// What can be done now.
    pub acts: Vec<ActWords>,
}

/// `GET /users/{user}/{act}`: what will happen, before it does.
#[derive(Debug, Clone, Template)]
#[template(path = "user_act.html")]
pub struct UserAct {
    /// The frame.
    pub frame: Frame,
    /// The user's id.
    pub id: String,
    /// The question.
    pub question: String,
    /// What happens.
    pub what: String,
    /// What happens to the credential, from [`credential_then`].
    pub credential: String,
    /// The words of the act.
    pub words: ActWords,
}

/// `GET /users/invite`.
#[derive(Debug, Clone, Template)]
#[template(path = "user_invite.html")]
pub struct Invite {
    /// The frame.
    pub frame: Frame,
    /// The e-mail.
    pub email: Field,
}

/// The answer to an invitation while there is no mail server: the link, this once.
#[derive(Clone, Template)]
#[template(path = "user_invited.html")]
pub struct InvitedPage {
    /// The frame.
    pub frame: Frame,
    /// The user's id.
    pub id: String,
    /// The e-mail.
    pub email: String,
    /// The link.
    pub link: SecretText,
    /// The folder that the mail is in.
    pub folder: String,
}

/// A mail in the outbox.
#[derive(Debug, Clone)]
pub struct MailRow {
    /// The id.
    pub id: String,
    /// To whom.
    pub to: String,
    /// What it is about.
    pub kind: &'static str,
    /// When it was queued.
    pub queued: When,
    /// Class and words of how it stands.
    pub state: (&'static str, &'static str),
    /// When it was sent, or is tried next.
    pub at: Option<When>,
    /// How often it was tried.
    pub tries: u32,
    /// Why the last try failed, or empty.
    pub problem: String,
    /// Whether it can be tried again.
    pub again: bool,
}

/// `GET /mail`.
#[derive(Debug, Clone, Template)]
#[template(path = "mail.html")]
pub struct MailPage {
    /// The frame.
    pub frame: Frame,
    /// What just happened.
    pub notice: Option<Notice>,
    /// The folder mails are put into, while there is no mail server.
    pub folder: Option<String>,
    /// The mails, the latest first.
    pub rows: Vec<MailRow>,
    /// Whether this is not the first page.
    pub later: bool,
    /// The address of the page of older ones.
    pub older: Option<String>,
}

/// `GET /activate/{token}`.
#[derive(Debug, Clone, Template)]
#[template(path = "activate.html")]
pub struct Activate {
    /// The organisation's name; may be empty.
    pub organisation: String,
    /// The token of the link.
    pub token: String,
    /// The e-mail of the account.
    pub email: String,
    /// The name.
    pub name: Field,
    /// What is wrong with the password (which is never sent back).
    pub password_error: Option<String>,
    /// The fewest characters of a password.
    pub min_chars: usize,
}

/// `GET /forgot-password`.
#[derive(Debug, Clone, Template)]
#[template(path = "forgot_password.html")]
pub struct ForgotPassword {
    /// The organisation's name; may be empty.
    pub organisation: String,
    /// The e-mail.
    pub email: Field,
    /// Whether it was asked for just now.
    pub asked: bool,
}

/// `GET /reset-password/{token}`.
#[derive(Debug, Clone, Template)]
#[template(path = "reset_password.html")]
pub struct ResetPassword {
    /// The organisation's name; may be empty.
    pub organisation: String,
    /// The token of the link.
    pub token: String,
    /// The e-mail of the account.
    pub email: String,
    /// What is wrong with the password (which is never sent back).
    pub password_error: Option<String>,
    /// The fewest characters of a password.
    pub min_chars: usize,
}
