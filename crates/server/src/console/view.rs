//! What the console shows, as values: every page is a struct that is filled by a handler and
//! rendered by a template that is checked when the server is compiled.
//!
//! Nothing here reads a clock, a database or a request. Text from people is escaped by the
//! templates; the only types that count as safe HTML are the ones in this module that escape
//! for themselves ([`Notice`], [`When`], [`Exact`]).

use askama::{Template, filters::HtmlSafe};
use portcullis_domain::{
    accounts::{Language, User},
    sessions::Opened,
};

mod apis;
mod audit;
mod credentials;
mod federation;
mod mfa;
mod people;
mod when;

pub use apis::{ApiForm, ApiKeyRemove, ApiKeyRow, ApiKeyShown, ApiRemove, ApiRow, Apis};
pub use audit::{AuditFilter, AuditPage, AuditRow, who_label};
pub use credentials::{
    AccountCredentials, BoundKey, CredentialChange, CredentialState, CredentialSummary, CredentialUse, Generate,
    Held, LastUsed, TokenState, UseRow, suspended_when, suspended_why,
};
pub use federation::{
    ClaimRow, GoingTo, IdentityChange, IdentityRow, Links, ProviderForm, ProviderRemove, ProviderRow,
    ProviderTest, Providers, SignedOut,
};
pub use mfa::{
    MfaApp, MfaChange, MfaCodes, MfaOn, MfaPasskey, MfaPassword, MfaSection, PasskeyRow, PasskeySignIn,
    SecondFactor,
};
pub use people::{
    ActWords, Activate, ForgotPassword, Invite, InvitedPage, MailPage, MailRow, ResetPassword, UserAct, UserPage,
    UserRow, Users, act_words, credential_now, credential_then, status_badge,
};
pub use when::{Dates, Exact, When, lasts};

/// Which entry of the navigation is the present page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nav {
    /// `/`.
    Overview,
    /// `/account…`, in the menu of the account.
    Account,
    /// `/users…`.
    Users,
    /// `/mail`.
    Mail,
    /// `/audit`.
    Audit,
    /// `/providers…`.
    Providers,
    /// `/apis…`.
    Apis,
    /// `/help`, in the menu of the account.
    Help,
    /// None of them.
    Other,
}

/// Which tab of My Account Settings is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tab {
    /// **General Settings**.
    General,
    /// **Credentials**.
    Credentials,
}

/// What every page of a signed-in user shows around its content.
#[derive(Debug, Clone)]
pub struct Frame {
    /// The page title, before "· Portcullis".
    pub title: String,
    /// The user's name.
    pub user_name: String,
    /// The user's e-mail.
    pub user_email: String,
    /// The role's word on the screens.
    pub role_label: &'static str,
    /// Whether the user acts as a Super Admin at this moment (C-3).
    pub is_super_admin: bool,
    /// The organisation's name from the configuration; may be empty.
    pub organisation: String,
    /// The language of the page.
    pub language: Language,
    /// Where in the navigation the page stands.
    pub nav: Nav,
}

impl Frame {
    /// The frame of a page for this user.
    #[must_use]
    pub fn new(user: &User, organisation: &str, nav: Nav, title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            user_name: user.name.as_str().to_owned(),
            user_email: user.email.as_str().to_owned(),
            role_label: user.standing.role.0.label(),
            is_super_admin: user.standing.is_super_admin(),
            organisation: organisation.to_owned(),
            language: user.language,
            nav,
        }
    }

    /// The first letters of the first and the last word of the name.
    #[must_use]
    pub fn initials(&self) -> String {
        let mut words = self.user_name.split_whitespace().filter_map(|w| w.chars().find(|c| c.is_alphanumeric()));
        let first = words.next();
        first.into_iter().chain(words.next_back()).flat_map(char::to_uppercase).collect()
    }
}

/// The colour, the icon and the urgency of a [`Notice`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoticeKind {
    /// Something was done.
    Done,
    /// Something to know.
    Info,
    /// Something to act on.
    Warn,
    /// Something was refused or failed.
    Bad,
}

impl NoticeKind {
    fn class(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Bad => "bad",
        }
    }

    fn role(self) -> &'static str {
        if self == Self::Bad { "alert" } else { "status" }
    }
}

/// A line above the content that says what just happened.
#[derive(Debug, Clone, Template)]
#[template(path = "notice.html")]
pub struct Notice {
    /// Its kind.
    pub kind: NoticeKind,
    /// The first words, in bold.
    pub lead: Option<String>,
    /// The sentence.
    pub text: String,
    /// Where to go from here: address and words.
    pub link: Option<(&'static str, &'static str)>,
}

impl HtmlSafe for Notice {}

impl Notice {
    /// A notice without bold words and without a link.
    #[must_use]
    pub fn new(kind: NoticeKind, text: impl Into<String>) -> Self {
        Self { kind, lead: None, text: text.into(), link: None }
    }

    /// Something was done.
    #[must_use]
    pub fn done(text: impl Into<String>) -> Self {
        Self::new(NoticeKind::Done, text)
    }

    /// Something to know.
    #[must_use]
    pub fn info(text: impl Into<String>) -> Self {
        Self::new(NoticeKind::Info, text)
    }

    /// Something to act on.
    #[must_use]
    pub fn warn(text: impl Into<String>) -> Self {
        Self::new(NoticeKind::Warn, text)
    }

    /// Something was refused or failed.
    #[must_use]
    pub fn bad(text: impl Into<String>) -> Self {
        Self::new(NoticeKind::Bad, text)
    }

    /// The same with first words in bold.
    #[must_use]
    pub fn led_by(mut self, lead: impl Into<String>) -> Self {
        self.lead = Some(lead.into());
        self
    }
}

/// A field of a form: what was typed, and what is wrong with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Field {
    /// The value, as typed.
    pub value: String,
    /// What is wrong and what to do.
    pub error: Option<String>,
}

impl Field {
    /// A field with a value and no error.
    #[must_use]
    pub fn new(value: impl Into<String>) -> Self {
        Self { value: value.into(), error: None }
    }

    /// The same with an error.
    #[must_use]
    pub fn wrong(mut self, error: impl Into<String>) -> Self {
        self.error = Some(error.into());
        self
    }
}

/// `GET /sign-in`, and the answer to a refused `POST /sign-in`.
#[derive(Debug, Clone, Default, Template)]
#[template(path = "sign_in.html")]
pub struct SignIn {
    /// The organisation's name; may be empty.
    pub organisation: String,
    /// The e-mail as typed.
    pub email: String,
    /// Why the sign-in was refused.
    pub error: Option<String>,
    /// Whether that is for what was typed.
    pub fields_wrong: bool,
    /// What just happened, such as "You have signed out."
    pub notice: Option<Notice>,
    /// Where to go after signing in (a path of this server).
    pub next: Option<String>,
    /// Whether passkeys are possible at this server's address.
    pub passkeys: bool,
    /// The sign-in providers: id and name.
    pub providers: Vec<(String, String)>,
}

/// `GET /setup/{token}`: the first Super Admin.
#[derive(Clone, Template)]
#[template(path = "setup.html")]
pub struct Setup {
    /// The organisation's name; may be empty.
    pub organisation: String,
    /// The token of the setup link.
    pub token: String,
    /// The e-mail.
    pub email: Field,
    /// The name.
    pub name: Field,
    /// What is wrong with the password (which is never sent back).
    pub password_error: Option<String>,
    /// The fewest characters of a password.
    pub min_chars: usize,
    /// What just happened.
    pub notice: Option<Notice>,
}

/// A page that says one thing: errors, and links that are over.
#[derive(Debug, Clone, Template)]
#[template(path = "message.html")]
pub struct Message {
    /// The organisation's name; may be empty.
    pub organisation: String,
    /// The heading.
    pub title: String,
    /// What it means and what to do.
    pub text: String,
    /// Where to go from here: address and words.
    pub link: Option<(&'static str, &'static str)>,
}

impl Message {
    /// A message with a way back to the overview.
    #[must_use]
    pub fn new(organisation: &str, title: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            organisation: organisation.to_owned(),
            title: title.into(),
            text: text.into(),
            link: Some(("/", "Go to the overview")),
        }
    }
}

/// Where programs find the server.
#[derive(Debug, Clone)]
pub struct Addresses {
    /// The issuer.
    pub issuer: String,
    /// The token endpoint.
    pub token: String,
    /// The introspection endpoint.
    pub introspection: String,
    /// The published keys.
    pub jwks: String,
    /// The API.
    pub api: String,
}

/// `GET /`.
#[derive(Debug, Clone, Template)]
#[template(path = "overview.html")]
pub struct Overview {
    /// The frame.
    pub frame: Frame,
    /// What just happened.
    pub notice: Option<Notice>,
    /// The state of the user's credential; `None` for who is not a Super Admin (C-3).
    pub credential: Option<CredentialSummary>,
    /// Where programs find the server.
    pub addresses: Addresses,
}

/// The profile form.
#[derive(Debug, Clone)]
pub struct ProfileForm {
    /// The name.
    pub name: Field,
    /// The language: its code.
    pub language: Field,
    /// The time zone: its IANA name.
    pub time_zone: Field,
}

/// The form that changes the password.
#[derive(Debug, Clone)]
pub struct PasswordForm {
    /// What is wrong with the present password.
    pub present_error: Option<String>,
    /// What is wrong with the new one.
    pub new_error: Option<String>,
    /// The fewest characters.
    pub min_chars: usize,
}

/// A session in the list of a user's sessions.
#[derive(Debug, Clone)]
pub struct SessionRow {
    /// Whether it is the one the page was asked for in.
    pub current: bool,
    /// How it was opened, from [`opened_with`].
    pub opened_with: &'static str,
    /// When it was opened.
    pub opened: When,
    /// When it was last used.
    pub seen: When,
    /// From which address.
    pub ip: String,
    /// With which program.
    pub user_agent: String,
}

/// The words for how a session was opened.
#[must_use]
pub fn opened_with(opened: Opened) -> &'static str {
    match opened {
        Opened::Password => "Password",
        Opened::PasswordAndMfa => "Password and MFA",
        Opened::Passkey => "Passkey",
        Opened::Provider => "Sign-in provider",
    }
}

/// `GET /account`: My Account Settings, **General Settings** (A-1).
#[derive(Debug, Clone, Template)]
#[template(path = "account_general.html")]
pub struct AccountGeneral {
    /// The frame.
    pub frame: Frame,
    /// The tab: [`Tab::General`].
    pub tab: Tab,
    /// What just happened.
    pub notice: Option<Notice>,
    /// The profile form.
    pub profile: ProfileForm,
    /// The names of all time zones.
    pub time_zones: Vec<String>,
    /// Whether there is a local password to change.
    pub has_password: bool,
    /// The password form.
    pub password: PasswordForm,
    /// The second factors.
    pub mfa: MfaSection,
    /// The identities at providers.
    pub links: Links,
    /// The user's live sessions, this one first.
    pub sessions: Vec<SessionRow>,
}

impl AccountGeneral {
    fn has_other_sessions(&self) -> bool {
        self.sessions.iter().any(|s| !s.current)
    }
}

/// `GET /help`.
#[derive(Debug, Clone, Template)]
#[template(path = "help.html")]
pub struct Help {
    /// The frame.
    pub frame: Frame,
    /// The token endpoint.
    pub token_url: String,
    /// How long a token lasts, from [`lasts`].
    pub token_lasts: String,
}

#[cfg(test)]
mod tests;
