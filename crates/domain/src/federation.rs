//! Federated logins: what a sign-in provider may be, who an identity at one is, and what its word
//! leads to.
//!
//! An identity is `(issuer, subject)`. An e-mail address that a provider tells is shown, and given
//! to a new account; it never says who somebody is.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    accounts::{DisplayName, Email, Invalid, Role, Standing, Status, User, UserId},
    sessions::{Actor, Opened},
};

/// The most characters of the name of a provider.
const NAME_MAX_CHARS: usize = 60;
/// The most characters of an issuer, a client id, the scopes or the domains of a provider.
const TEXT_MAX_CHARS: usize = 500;
/// The most characters of a subject (OpenID Connect Core 1.0 §2).
const SUBJECT_MAX_CHARS: usize = 255;

/// What a provider is set up with. Its client secret is elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The name on the button, 1 to 60 characters.
    pub name: String,
    /// The issuer, exactly as the provider writes it.
    pub issuer: String,
    /// The client id that the provider gave us.
    pub client_id: String,
    /// The scopes that are asked for, `openid` among them.
    pub scopes: Vec<String>,
    /// E-mail domains of users who get an account, in lower case; empty: any.
    pub domains: Vec<String>,
    /// Whether somebody unknown gets an account.
    pub makes_users: bool,
    /// The role of such an account.
    pub role: Role,
}

/// What somebody typed to set up a provider.
#[derive(Debug, Clone, Default)]
pub struct Typed {
    /// The name.
    pub name: String,
    /// The issuer.
    pub issuer: String,
    /// The client id.
    pub client_id: String,
    /// The scopes, separated by spaces or commas.
    pub scopes: String,
    /// The domains, separated by spaces or commas.
    pub domains: String,
    /// Whether somebody unknown gets an account.
    pub makes_users: bool,
    /// The code of a role; empty for a plain user.
    pub role: String,
}

pub(crate) fn invalid(field: &'static str, message: impl Into<String>) -> Invalid {
    Invalid { field, message: message.into() }
}

pub(crate) fn one_line(field: &'static str, text: &str, max: usize, what: &str) -> Result<String, Invalid> {
    let text = text.trim();
    let count = text.chars().count();
    if count == 0 || count > max || text.chars().any(char::is_control) {
        return Err(invalid(field, format!("Enter {what}, on one line of at most {max} characters.")));
    }
    Ok(text.to_owned())
}

fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for word in text.split(|c: char| c.is_whitespace() || c == ',').filter(|w| !w.is_empty()) {
        if !words.iter().any(|w| w == word) {
            words.push(word.to_owned());
        }
    }
    words
}

/// Whether an address of a provider may be used: `https`, or plain `http` on this machine alone.
#[must_use]
pub fn is_safe_address(address: &str) -> bool {
    let plain = !address.chars().any(|c| c.is_whitespace() || c.is_control() || c == '\\');
    let host = |rest: &str| -> String { rest.split(['/', '?', '#']).next().unwrap_or_default().to_lowercase() };
    if let Some(rest) = address.strip_prefix("https://") {
        return plain && !host(rest).is_empty() && !host(rest).contains('@');
    }
    let Some(rest) = address.strip_prefix("http://") else { return false };
    let host = host(rest);
    let (name, port) = match host.strip_prefix("[::1]") {
        Some(port) => ("[::1]", port),
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let port = port.strip_prefix(':').unwrap_or(port);
    plain && ["localhost", "127.0.0.1", "[::1]"].contains(&name) && port.bytes().all(|b| b.is_ascii_digit())
}

fn issuer(text: &str) -> Result<String, Invalid> {
    let text = text.trim();
    if text.len() > TEXT_MAX_CHARS || !is_safe_address(text) || text.contains(['?', '#']) {
        let message = "Enter the issuer as the provider writes it: an https:// address without ? and #. Plain http:// \
                       is taken for a provider on this machine only.";
        return Err(invalid("issuer", message));
    }
    Ok(text.to_owned())
}

fn scopes(text: &str) -> Result<Vec<String>, Invalid> {
    let scopes = words(text);
    // The characters of RFC 6749 §3.3.
    let plain = |s: &String| s.chars().all(|c| matches!(c, '!' | '#'..='[' | ']'..='~'));
    if text.len() > TEXT_MAX_CHARS || !scopes.iter().any(|s| s == "openid") || !scopes.iter().all(plain) {
        return Err(invalid("scopes", "Enter scopes separated by spaces, openid among them, like: openid email."));
    }
    Ok(scopes)
}

fn domains(text: &str) -> Result<Vec<String>, Invalid> {
    let domains = words(&text.to_lowercase());
    let is_domain = |d: &String| Email::parse(&format!("a@{d}")).is_ok() && d.contains('.');
    if text.len() > TEXT_MAX_CHARS || !domains.iter().all(is_domain) {
        return Err(invalid("domains", "Enter domains separated by spaces, like: acme.example."));
    }
    Ok(domains)
}

impl Settings {
    /// Reads what was typed.
    ///
    /// # Errors
    /// With every field that is wrong.
    pub fn parse(typed: &Typed) -> Result<Self, Vec<Invalid>> {
        let name = one_line("name", &typed.name, NAME_MAX_CHARS, "a name");
        let issuer = issuer(&typed.issuer);
        let client_id = one_line("client_id", &typed.client_id, TEXT_MAX_CHARS, "the client id");
        let scopes = scopes(&typed.scopes);
        let domains = domains(&typed.domains);
        let role = match typed.role.as_str() {
            "" => Ok(Role::User),
            code => Role::from_code(code).ok_or_else(|| invalid("role", "Choose one of the roles.")),
        };
        match (name, issuer, client_id, scopes, domains, role) {
            (Ok(name), Ok(issuer), Ok(client_id), Ok(scopes), Ok(domains), Ok(role)) => {
                Ok(Self { name, issuer, client_id, scopes, domains, makes_users: typed.makes_users, role })
            }
            (name, issuer, client_id, scopes, domains, role) => {
                let wrong = [name.err(), issuer.err(), client_id.err(), scopes.err(), domains.err(), role.err()];
                Err(wrong.into_iter().flatten().collect())
            }
        }
    }
}

/// A sign-in provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    /// The id: in the addresses that belong to it.
    pub id: Uuid,
    /// What it is set up with.
    pub settings: Settings,
    /// Whether there is a client secret.
    pub has_secret: bool,
    /// When it was set up (UTC).
    pub made_at: Timestamp,
}

/// Who somebody is at a provider.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// The issuer.
    pub issuer: String,
    /// The subject: never reassigned within the issuer (OpenID Connect Core 1.0 §2).
    pub subject: String,
}

impl Identity {
    /// An identity; `None` when the subject is not one.
    #[must_use]
    pub fn new(issuer: &str, subject: &str) -> Option<Self> {
        let count = subject.chars().count();
        let fits = (1..=SUBJECT_MAX_CHARS).contains(&count) && !subject.chars().any(char::is_control);
        fits.then(|| Self { issuer: issuer.to_owned(), subject: subject.to_owned() })
    }
}

/// An identity as it is linked to a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkedIdentity {
    /// Who at which issuer.
    pub identity: Identity,
    /// Whose it is here.
    pub user: UserId,
    /// The e-mail that the provider last told, to be shown; may be empty.
    pub email: String,
    /// When it was linked (UTC).
    pub linked_at: Timestamp,
    /// When it was last signed in with (UTC).
    pub signed_in_at: Option<Timestamp>,
}

/// What a provider told of somebody, proven to come from it.
#[derive(Debug, Clone)]
pub struct Told {
    /// Who it is.
    pub identity: Identity,
    /// An e-mail address, if it told a readable one.
    pub email: Option<Email>,
    /// Whether it says that it verified that address.
    pub email_verified: bool,
    /// A name, if it told a readable one.
    pub name: Option<DisplayName>,
}

impl Told {
    /// The e-mail, to be shown: it decides nothing. Empty when none was told.
    #[must_use]
    pub fn email_shown(&self) -> &str {
        self.email.as_ref().map_or("", |e| e.as_str())
    }
}

/// What a right answer of a provider leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// This user goes on signing in. Whether the account is active is asked next, as for everybody.
    Known(UserId),
    /// A new account, active, without a password here.
    Make {
        /// Its e-mail.
        email: Email,
        /// Its name.
        name: DisplayName,
        /// Its role.
        role: Role,
    },
}

macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident => $code:literal, $text:literal;)*) => {
        /// Why somebody did not get in, or nowhere, through a provider. Each text is for that
        /// person; none holds a word of the provider's.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
        pub enum FederationRefused { $($(#[$doc])* #[error($text)] $name),* }

        impl FederationRefused {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The word in addresses and in the audit log.
            #[must_use]
            pub fn code(self) -> &'static str {
                match self { $(Self::$name => $code),* }
            }
        }
    };
}

refusals! {
    /// Nothing is under way under this state, or not any more.
    VisitOver => "visit_over", "This sign-in was over: it takes 10 minutes at most, and its answer counts once. Begin again.";
    /// The answer came to another browser than the one that asked, or for another provider.
    NotThisBrowser => "not_this_browser", "The answer did not belong to a sign-in that was begun in this browser. Begin again, here.";
    /// The provider answered with an error, or the person said no there.
    Declined => "declined_by_provider", "The provider did not sign you in: you or it ended the sign-in there. Try again, or sign in with your password.";
    /// It could not be reached in time.
    Unreachable => "provider_unreachable", "The provider does not answer. Try again later, or sign in with your password if you have one.";
    /// Too many sign-ins through it are under way.
    Busy => "provider_busy", "Too many sign-ins through this provider are under way. Try again in a minute, or sign in with your password if you have one.";
    /// Its documents are not what they must be.
    BadDocuments => "provider_misconfigured", "The provider's own description is not right, so nobody can sign in through it. Ask a Super Admin to test the provider.";
    /// It did not take our client id, secret or code.
    CodeRefused => "code_refused", "The provider did not confirm this sign-in. Begin again; if it stays so, ask a Super Admin to test the provider.";
    /// Its answer does not prove anything.
    BadAnswer => "answer_not_valid", "The provider's answer could not be verified, so nobody was signed in. Begin again; if it stays so, ask a Super Admin to test the provider.";
    /// Nobody here has this identity, and the provider makes no accounts.
    Unknown => "identity_not_linked", "No account here is linked to this identity. If you have an account, sign in with your password, then link the identity under My Account Settings. If not, ask a Super Admin to invite you.";
    /// An account has this e-mail already, and an e-mail proves nothing.
    EmailTaken => "email_taken", "There is an account with your e-mail address already. Sign in to it with your password, then link this identity under My Account Settings.";
    /// A new account needs an e-mail.
    NoEmail => "no_email", "The provider did not tell an e-mail address, and a new account needs one. Ask a Super Admin to test the provider.";
    /// And one that the provider verified.
    EmailNotVerified => "email_not_verified", "The provider says that your e-mail address is not verified. Verify it there, then try again.";
    /// And one of these domains.
    DomainNotAllowed => "domain_not_allowed", "Your e-mail address is not of a domain that gets accounts here. Ask a Super Admin to invite you.";
    /// The identity belongs to an account that was deleted: nothing opens that again.
    Deleted => "account_deleted", "The account of this identity was deleted. Ask a Super Admin to invite you; then sign in with the password you choose, and link this identity under My Account Settings.";
    /// The account is not active: no provider activates it.
    NotActive => "not_active", "This account is not active. Ask a Super Admin to activate it.";
    /// Linking and unlinking are for the owner in a local session.
    NotLocal => "not_a_local_session", "Identities are linked and unlinked only by somebody who signed in with the Portcullis password. Sign in with it first.";
    /// And need a recent password.
    PasswordNeeded => "password_needed", "Enter your password to link or unlink an identity. It is asked for unless you gave it in the last 5 minutes.";
    /// The identity belongs to another account.
    LinkedElsewhere => "linked_elsewhere", "This identity is linked to another account already. Unlink it there first.";
    /// It is linked to this account.
    LinkedAlready => "linked_already", "This identity is linked to your account already.";
    /// It is the only way in.
    LastWayIn => "last_way_in", "This is the only way to sign in to this account, so it stays linked.";
    /// It is not linked.
    NotLinked => "not_linked", "This identity is not linked to your account any more.";
    /// Without the provider every Super Admin would be locked out.
    NoSuperAdminLeft => "no_super_admin_left", "Without this provider no active Super Admin could sign in, so it stays. Invite somebody, who chooses a Portcullis password, and make them a Super Admin first.";
}

impl FederationRefused {
    /// The inverse of [`FederationRefused::code`].
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|r| r.code() == code)
    }
}

/// what the proven answer of a provider leads to. `owner` is the user that the identity is
/// linked to, `email_taken` whether an account has the e-mail that was told. Who has an account is
/// said last of all, and only to whom the provider calls the owner of that address.
///
/// # Errors
/// [`FederationRefused`] with the rule that refuses.
pub fn sign_in(
    settings: &Settings,
    told: &Told,
    owner: Option<&User>,
    email_taken: bool,
) -> Result<Decision, FederationRefused> {
    if let Some(user) = owner {
        return match user.standing.status.0 {
            Status::Deleted => Err(FederationRefused::Deleted),
            Status::Pending | Status::Inactive => Err(FederationRefused::NotActive),
            Status::Active => Ok(Decision::Known(user.id)),
        };
    }
    if !settings.makes_users {
        return Err(FederationRefused::Unknown);
    }
    let email = told.email.as_ref().ok_or(FederationRefused::NoEmail)?;
    if !told.email_verified {
        return Err(FederationRefused::EmailNotVerified);
    }
    let domain = email.as_str().rsplit_once('@').map_or("", |(_, domain)| domain);
    if !settings.domains.is_empty() && !settings.domains.iter().any(|d| d == domain) {
        return Err(FederationRefused::DomainNotAllowed);
    }
    let name = told.name.clone().or_else(|| name_of(email)).ok_or(FederationRefused::NoEmail)?;
    if email_taken {
        return Err(FederationRefused::EmailTaken);
    }
    Ok(Decision::Make { email: email.clone(), name, role: settings.role })
}

/// The part before the @, for somebody whose provider tells no name.
fn name_of(email: &Email) -> Option<DisplayName> {
    email.as_str().split('@').next().and_then(|local| DisplayName::parse(local).ok())
}

/// whether somebody may begin to link or unlink an identity: the owner, in a session opened
/// with the local password, which was given in the last five minutes (as for C-12).
///
/// # Errors
/// [`FederationRefused::NotLocal`], [`FederationRefused::PasswordNeeded`].
pub fn may_change_links(actor: &Actor, standing: &Standing, now: Timestamp) -> Result<(), FederationRefused> {
    is_local(actor, standing)?;
    if actor.password_is_fresh(now) { Ok(()) } else { Err(FederationRefused::PasswordNeeded) }
}

/// whether a session is one that identities may be linked in.
///
/// # Errors
/// [`FederationRefused::NotLocal`].
pub fn is_local(actor: &Actor, standing: &Standing) -> Result<(), FederationRefused> {
    let local = matches!(actor, Actor::Session { opened, .. } if *opened != Opened::Provider);
    if local && standing.has_password { Ok(()) } else { Err(FederationRefused::NotLocal) }
}

/// linking. `owner` is the user that the identity belongs to already. That of a deleted user
/// signs nobody in, but is free to be linked: whoever was invited anew may have been that user.
///
/// # Errors
/// [`FederationRefused::LinkedElsewhere`], [`FederationRefused::LinkedAlready`].
pub fn link(user: UserId, owner: Option<&User>) -> Result<(), FederationRefused> {
    match owner {
        None => Ok(()),
        Some(owner) if owner.id == user => Err(FederationRefused::LinkedAlready),
        Some(owner) if owner.standing.status.0 == Status::Deleted => Ok(()),
        Some(_) => Err(FederationRefused::LinkedElsewhere),
    }
}

/// unlinking never takes the last way to sign in. `others` is how many identities there are
/// besides, at providers that are set up.
///
/// # Errors
/// [`FederationRefused::LastWayIn`].
pub fn unlink(standing: &Standing, others: usize) -> Result<(), FederationRefused> {
    if standing.has_password || others > 0 { Ok(()) } else { Err(FederationRefused::LastWayIn) }
}

/// removing a provider never locks every Super Admin out. `super_admins_left` is how many
/// active ones can sign in without it, read in the same transaction.
///
/// # Errors
/// [`FederationRefused::NoSuperAdminLeft`].
pub fn remove(super_admins_left: u64) -> Result<(), FederationRefused> {
    if super_admins_left > 0 { Ok(()) } else { Err(FederationRefused::NoSuperAdminLeft) }
}

#[cfg(test)]
#[path = "federation_tests.rs"]
mod tests;
