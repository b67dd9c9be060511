//! What the mails say. A [`Letter`] is queued in the transaction of the act that it tells of
//! (`App::send`), so there is never one without the other; sending is the outbox's business.

use askama::Template;
use jiff::Timestamp;
use portcullis_domain::{
    accounts::User,
    audit::Origin,
    credentials::{RevocationReason, Suspension},
    mail::{MailKind, Message},
};
use portcullis_store::{Purpose, QueuedMail, Tx};

use crate::{app::App, console::view::Dates, error::Failure};

/// A second factor, as its user knows it.
#[derive(Debug, Clone, Copy)]
pub enum Factor<'a> {
    /// The authenticator app.
    App,
    /// The passkey of a name.
    Passkey(&'a str),
}

/// What became of a user's second factors.
#[derive(Debug, Clone, Copy)]
pub enum FactorsChange<'a> {
    /// MFA was turned on with the first one.
    TurnedOn(Factor<'a>),
    /// One was added beside others.
    Added(Factor<'a>),
    /// One was removed; others are left.
    Removed(Factor<'a>),
    /// The last one was removed, which turned MFA off.
    RemovedLast(Factor<'a>),
    /// MFA was turned off.
    TurnedOff,
    /// Recovery codes were made anew.
    NewCodes,
    /// A passkey signs in without the password, or not any more.
    PasskeyAlone(bool),
}

/// What became of the ways in which a credential proves itself.
#[derive(Debug, Clone)]
pub enum CredentialChange {
    /// A public key was bound (C-14).
    KeyBound {
        /// Its thumbprint.
        thumbprint: String,
        /// Whether in place of another.
        replaced: bool,
        /// Whether by a program that holds the secret, and not by the owner in the console.
        with_secret: bool,
    },
    /// The public key was removed.
    KeyRemoved {
        /// Its thumbprint.
        thumbprint: String,
    },
    /// The secret was switched off (C-15).
    SecretOff,
    /// The secret was switched on again.
    SecretOn,
}

/// A mail, as what it has to tell.
#[derive(Debug, Clone)]
pub enum Letter<'a> {
    /// The link of an invitation.
    Invitation {
        /// Who invites: a name.
        by: &'a str,
        /// The link.
        link: &'a str,
        /// Until when it is good.
        until: Timestamp,
    },
    /// The link that replaces a forgotten password.
    PasswordReset {
        /// The link.
        link: &'a str,
        /// Until when it is good.
        until: Timestamp,
        /// From where it was asked for.
        origin: &'a Origin,
    },
    /// The same asked for an account without a password.
    NoPassword {
        /// The names of the providers the account can sign in with.
        providers: &'a [String],
        /// From where it was asked for.
        origin: &'a Origin,
    },
    /// The password was replaced with a link.
    PasswordChanged {
        /// From where.
        origin: &'a Origin,
        /// When.
        at: Timestamp,
    },
    /// A credential was generated.
    CredentialGenerated {
        /// Its Client ID.
        client_id: &'a str,
        /// When it expires.
        expires: Timestamp,
        /// From where.
        origin: &'a Origin,
    },
    /// A credential was revoked.
    CredentialRevoked {
        /// Its Client ID.
        client_id: &'a str,
        /// Why.
        why: RevocationReason,
    },
    /// A credential was suspended.
    CredentialSuspended {
        /// Its Client ID.
        client_id: &'a str,
        /// Why.
        why: Suspension,
    },
    /// A credential works again.
    CredentialResumed {
        /// Its Client ID.
        client_id: &'a str,
    },
    /// A credential expires soon.
    CredentialExpires {
        /// Its Client ID.
        client_id: &'a str,
        /// When.
        at: Timestamp,
        /// In how many days.
        days: i64,
    },
    /// A credential proves itself in another way.
    CredentialChanged {
        /// Its Client ID.
        client_id: &'a str,
        /// What became of it.
        what: &'a CredentialChange,
        /// From where.
        origin: &'a Origin,
        /// When.
        at: Timestamp,
    },
    /// MFA was turned off by an administrator.
    MfaDisabled {
        /// Who did it: a name.
        by: &'a str,
    },
    /// A user has changed the own second factors.
    FactorsChanged {
        /// What became of them.
        what: FactorsChange<'a>,
        /// From where.
        origin: &'a Origin,
        /// When.
        at: Timestamp,
    },
    /// A sign-in from a network that is new for the account.
    NewDevice {
        /// From where and with what.
        origin: &'a Origin,
        /// When.
        at: Timestamp,
    },
}

/// The parts of a mail, before they are set.
struct Parts {
    kind: MailKind,
    subject: String,
    paragraphs: Vec<String>,
    /// Words and address of the one thing to do.
    action: Option<(&'static str, String)>,
    /// What to do if it was not you, or what happens if nothing is done.
    footnote: &'static str,
}

/// The HTML part.
#[derive(Template)]
#[template(path = "mail/letter.html")]
struct Html<'a> {
    organisation: &'a str,
    name: &'a str,
    parts: &'a Parts,
}

/// The text part.
#[derive(Template)]
#[template(path = "mail/letter.txt")]
struct Text<'a> {
    organisation: &'a str,
    name: &'a str,
    parts: &'a Parts,
}

const NOT_YOU: &str = "If this was not you, sign in, change your password, and sign out your other sessions under My \
                       Account Settings. Then tell a Super Admin.";
const NOT_YOU_AT_A_PROVIDER: &str = "If this was not you, sign in, and sign out your other sessions under My \
                                     Account Settings. Then tell a Super Admin.";
const NOT_YOUR_FACTOR: &str = "If this was not you, sign in, remove what you did not add, change your password, and \
                               sign out your other sessions under My Account Settings. Then tell a Super Admin, who \
                               can also turn multi-factor authentication off if you cannot sign in.";
const NOT_YOUR_CHANGE: &str = "If this was not you, revoke the credential at once, then change your password and \
                               generate another.";
const NOTHING_TO_DO: &str =
    "You are told because the credential is yours. There is nothing to do if you expected it.";

/// Where something came from, in one line, and with which program.
fn from(origin: &Origin) -> String {
    let agent = if origin.user_agent.is_empty() { "an unnamed program" } else { &origin.user_agent };
    if origin.ip.is_empty() { place(origin) } else { format!("{} ({agent})", origin.ip) }
}

/// The same of a stranger: nothing that they wrote themselves stands in a mail to somebody else.
fn place(origin: &Origin) -> String {
    if origin.ip.is_empty() { "the server's own machine".to_owned() } else { origin.ip.clone() }
}

impl std::fmt::Display for Factor<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::App => f.write_str("an authenticator app"),
            Self::Passkey(name) => write!(f, "the passkey \u{201c}{name}\u{201d}"),
        }
    }
}

impl FactorsChange<'_> {
    fn told(self) -> String {
        const ON: &str = "Multi-factor authentication was turned on for your account";
        const OFF: &str = "Signing in takes your password alone now.";
        match self {
            Self::TurnedOn(factor) => {
                format!("{ON}, with {factor}. Signing in takes it besides your password now.")
            }
            Self::Added(factor) => {
                format!("You can sign in with {factor} now: it was added to your second factors.")
            }
            Self::Removed(Factor::App) => {
                "The authenticator app was removed. Its codes do not sign you in any more.".to_owned()
            }
            Self::Removed(Factor::Passkey(name)) => {
                format!("The passkey \u{201c}{name}\u{201d} was removed. It does not sign you in any more.")
            }
            Self::RemovedLast(Factor::App) => format!(
                "The authenticator app was removed, your only second factor, which turned multi-factor authentication off. {OFF}"
            ),
            Self::RemovedLast(factor @ Factor::Passkey(_)) => format!(
                "Your only second factor, {factor}, was removed, which turned multi-factor authentication off. {OFF}"
            ),
            Self::TurnedOff => format!("Multi-factor authentication was turned off for your account. {OFF}"),
            Self::NewCodes => "New recovery codes were made. Those you had do not work any more.".to_owned(),
            Self::PasskeyAlone(true) => "Your passkeys sign you in without your password now.".to_owned(),
            Self::PasskeyAlone(false) => {
                "A passkey alone does not sign you in any more: your password comes first.".to_owned()
            }
        }
    }
}

impl CredentialChange {
    fn told(&self, client_id: &str) -> String {
        match self {
            Self::KeyBound { thumbprint, replaced, with_secret } => {
                let by = if *with_secret { "by a program that has its Client Secret" } else { "in the console" };
                let rest = if *replaced { " The key that was bound before does not work any more." } else { "" };
                format!(
                    "The public key {thumbprint} was bound to the credential {client_id}, {by}. Whoever has the private key gets tokens.{rest}"
                )
            }
            Self::KeyRemoved { thumbprint } => {
                format!(
                    "The public key {thumbprint} was removed from the credential {client_id}. Programs get tokens with the Client Secret alone."
                )
            }
            Self::SecretOff => {
                format!(
                    "The Client Secret of the credential {client_id} was switched off. Programs get tokens with the private key alone."
                )
            }
            Self::SecretOn => format!("The Client Secret of the credential {client_id} was switched on again."),
        }
    }
}

impl Letter<'_> {
    #[expect(clippy::too_many_lines, reason = "one arm for each mail: the words stand together")]
    fn parts(&self, user: &User, dates: &Dates, public_url: &str, organisation: &str) -> Parts {
        let tab = || Some(("Open Credentials", format!("{public_url}/account/credentials")));
        let when = |at: Timestamp| {
            let when = dates.when(at);
            let local = when.local.map_or_else(String::new, |l| format!(" ({l})"));
            format!("{}{local}", when.exact.text)
        };
        match self {
            Self::Invitation { by, link, until } => Parts {
                kind: MailKind::Invitation,
                subject: format!("{by} invites you to {organisation}"),
                paragraphs: vec![
                    format!("{by} has made an account for you at {organisation}. Activate it by choosing a name and a password."),
                    format!("The link works once, until {}.", when(*until)),
                ],
                action: Some(("Activate the account", (*link).to_owned())),
                footnote: "If you did not expect this, ignore it: without you the account stays closed.",
            },
            Self::PasswordReset { link, until, origin } => Parts {
                kind: MailKind::PasswordReset,
                subject: "Choose a new password".to_owned(),
                paragraphs: vec![
                    format!("Somebody asked for a new password for your account, from {}.", place(origin)),
                    format!("The link works once, until {}. It does not turn off multi-factor authentication.", when(*until)),
                ],
                action: Some(("Choose a new password", (*link).to_owned())),
                footnote: "If this was not you, ignore it: your password stays as it is.",
            },
            Self::NoPassword { providers, origin } => Parts {
                kind: MailKind::NoPassword,
                subject: "Your account has no password here".to_owned(),
                paragraphs: vec![
                    format!("Somebody asked for a new password for your account, from {}.", place(origin)),
                    if providers.is_empty() {
                        "Your account signs in through a provider that is not set up any more. Ask a Super Admin for help.".to_owned()
                    } else {
                        format!("Your account has no password here, so there is none to replace. You sign in with {}.", providers.join(" or "))
                    },
                ],
                action: Some(("Go to the sign-in", format!("{public_url}/sign-in"))),
                footnote: "If this was not you, ignore it: nothing was changed.",
            },
            Self::PasswordChanged { origin, at } => Parts {
                kind: MailKind::PasswordChanged,
                subject: "Your password was changed".to_owned(),
                paragraphs: vec![
                    format!("Your password was replaced with a link sent to this address, on {}, from {}.", when(*at), from(origin)),
                    "All your sessions have been signed out.".to_owned(),
                ],
                action: Some(("Go to the sign-in", format!("{public_url}/sign-in"))),
                footnote: "If this was not you, somebody reads your mail: ask a Super Admin to deactivate the account, and secure the mailbox first.",
            },
            Self::CredentialGenerated { client_id, expires, origin } => Parts {
                kind: MailKind::CredentialGenerated,
                subject: format!("Credentials generated: {client_id}"),
                paragraphs: vec![
                    format!("The credential {client_id} was generated for you, from {}.", from(origin)),
                    format!("It expires on {}. Its Client Secret was shown once and is in no mail.", when(*expires)),
                ],
                action: tab(),
                footnote: NOT_YOU,
            },
            Self::CredentialRevoked { client_id, why } => Parts {
                kind: MailKind::CredentialRevoked,
                subject: format!("Credentials revoked: {client_id}"),
                paragraphs: vec![
                    match why {
                        RevocationReason::ByOwner => format!("You revoked the credential {client_id}."),
                        RevocationReason::OwnerDeleted => {
                            format!("The credential {client_id} was revoked because your account was deleted.")
                        }
                        RevocationReason::ByOperator => {
                            format!("The credential {client_id} was revoked by the operator of the server.")
                        }
                    },
                    "Programs that used it have stopped: no new tokens, and none of its tokens works. That is final.".to_owned(),
                ],
                action: None,
                footnote: NOTHING_TO_DO,
            },
            Self::CredentialSuspended { client_id, why } => Parts {
                kind: MailKind::CredentialSuspended,
                subject: format!("Credentials suspended: {client_id}"),
                paragraphs: vec![
                    match why {
                        Suspension::MfaOn => format!("You turned multi-factor authentication on, so the credential {client_id} does not work for now."),
                        Suspension::OwnerInactive => format!("Your account was deactivated, so the credential {client_id} does not work for now."),
                        Suspension::OwnerNotSuperAdmin => format!("You are no longer a Super Admin, so the credential {client_id} does not work for now."),
                    },
                    match why {
                        Suspension::MfaOn => "Programs get no tokens, and the tokens they have do not work. It works again when you turn multi-factor authentication off.",
                        Suspension::OwnerInactive => "Programs get no tokens, and the tokens they have do not work. It works again when a Super Admin activates your account.",
                        Suspension::OwnerNotSuperAdmin => "Programs get no tokens, and the tokens they have do not work. It works again if you are made a Super Admin again.",
                    }
                    .to_owned(),
                ],
                action: tab().filter(|_| *why == Suspension::MfaOn),
                footnote: NOTHING_TO_DO,
            },
            Self::CredentialResumed { client_id } => Parts {
                kind: MailKind::CredentialResumed,
                subject: format!("Credentials work again: {client_id}"),
                paragraphs: vec![format!(
                    "What had suspended the credential {client_id} is over. Programs get tokens again, and tokens that have not ended work again."
                )],
                action: tab(),
                footnote: "If you do not need the credential any more, revoke it.",
            },
            Self::CredentialExpires { client_id, at, days } => Parts {
                kind: MailKind::CredentialExpires,
                subject: match days {
                    1 => format!("Credentials expire within a day: {client_id}"),
                    _ => format!("Credentials expire in {days} days: {client_id}"),
                },
                paragraphs: vec![
                    format!("The credential {client_id} expires on {}. From then on programs that use it get no tokens.", when(*at)),
                    "Plan the change: revoke it, generate another, and give the new Client ID and Client Secret to your programs.".to_owned(),
                ],
                action: tab(),
                footnote: "If no program uses it any more, there is nothing to do.",
            },
            Self::CredentialChanged { client_id, what, origin, at } => Parts {
                kind: MailKind::CredentialChanged,
                subject: format!("Credentials changed: {client_id}"),
                paragraphs: vec![format!("On {}, from {}:", when(*at), from(origin)), what.told(client_id)],
                action: tab(),
                footnote: NOT_YOUR_CHANGE,
            },
            Self::MfaDisabled { by } => Parts {
                kind: MailKind::MfaDisabled,
                subject: "Multi-factor authentication was turned off".to_owned(),
                paragraphs: vec![
                    format!("{by} turned multi-factor authentication off for your account. Your authenticator app, passkeys and recovery codes for it are gone."),
                    "Signing in takes your password alone now. You can turn it on again under My Account Settings.".to_owned(),
                ],
                action: Some(("Open General Settings", format!("{public_url}/account"))),
                footnote: "If you did not ask for this, call that administrator, and change your password.",
            },
            Self::FactorsChanged { what, origin, at } => Parts {
                kind: MailKind::FactorsChanged,
                subject: "Your second factors changed".to_owned(),
                paragraphs: vec![
                    format!("On {}, from {}:", when(*at), from(origin)),
                    what.told(),
                ],
                action: Some(("Open General Settings", format!("{public_url}/account"))),
                footnote: NOT_YOUR_FACTOR,
            },
            Self::NewDevice { origin, at } => Parts {
                kind: MailKind::NewDevice,
                subject: "New sign-in to your account".to_owned(),
                paragraphs: vec![format!(
                    "Somebody signed in to your account on {}, from {}. You had not signed in from that network before, or not lately.",
                    when(*at),
                    from(origin)
                )],
                action: Some(("See your sessions", format!("{public_url}/account"))),
                footnote: if user.standing.has_password { NOT_YOU } else { NOT_YOU_AT_A_PROVIDER },
            },
        }
    }

    /// The message to a user.
    ///
    /// # Errors
    /// When the template fails, which compile-checked templates do not.
    pub fn message(
        &self,
        user: &User,
        dates: &Dates,
        public_url: &str,
        organisation: &str,
    ) -> Result<Message, Failure> {
        let organisation = if organisation.is_empty() { "Portcullis" } else { organisation };
        let (name, parts) = (user.name.as_str(), self.parts(user, dates, public_url, organisation));
        let failed = |e: askama::Error| Failure::Internal(format!("mail template: {e}"));
        let text = Text { organisation, name, parts: &parts }.render().map_err(failed)?;
        let html = Html { organisation, name, parts: &parts }.render().map_err(failed)?;
        Ok(Message::new(parts.kind, user.email.clone(), &parts.subject, text, html))
    }
}

impl App {
    /// Queues a letter to a user, in the transaction of what it tells.
    ///
    /// # Errors
    /// The database's.
    pub(crate) async fn send(&self, tx: &mut Tx, user: &User, letter: &Letter<'_>) -> Result<(), Failure> {
        let now = self.clock.now();
        let dates = Dates::new(now, user.language, &user.time_zone);
        let (url, organisation) = (&self.config.public_url, &self.config.organization);
        let message = letter.message(user, &dates, url, organisation)?;
        let id = self.clock.id();
        let plain = serde_json::to_vec(&(&message.subject, &message.text, &message.html))
            .map_err(|e| Failure::Internal(format!("mail: {e}")))?;
        let sealed = self.store.keys().seal(Purpose::Mail, &id.to_string(), &plain, self.clock.random());
        let queued = QueuedMail { id, to: message.to, kind: message.kind, message: sealed, queued_at: now };
        tx.queue_mail(&queued).await?;
        self.outbox.wake();
        Ok(())
    }
}
