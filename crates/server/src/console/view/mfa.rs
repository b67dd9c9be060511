//! Second factors: the section of General Settings, the pages that change them, and the second
//! step of a sign-in.

use askama::Template;
use portcullis_domain::mfa::{MfaRefused, recovery};

use super::{Field, Frame, Nav, Notice, Tab, When};

/// A passkey in the list of a user's passkeys.
#[derive(Debug, Clone)]
pub struct PasskeyRow {
    /// The id, for its address.
    pub id: String,
    /// What its user calls it.
    pub name: String,
    /// When it was added.
    pub added: When,
    /// When it was last used.
    pub used: Option<When>,
}

/// MFA that is on.
#[derive(Debug, Clone)]
pub struct MfaOn {
    /// Since when.
    pub since: When,
    /// When the authenticator app was set up, if there is one.
    pub app: Option<When>,
    /// The passkeys.
    pub passkeys: Vec<PasskeyRow>,
    /// How many recovery codes are left.
    pub codes_left: u32,
    /// Whether a passkey signs in without the password.
    pub passkey_alone: bool,
}

impl MfaOn {
    /// Whether it is time to make new recovery codes.
    #[must_use]
    pub fn few_codes(&self) -> bool {
        self.codes_left <= recovery::FEW
    }
}

/// The section **Multi-factor authentication** of General Settings.
#[derive(Debug, Clone)]
pub struct MfaSection {
    /// MFA, if it is on.
    pub on: Option<MfaOn>,
    /// Why it cannot be changed in this session, if it cannot.
    pub refused: Option<MfaRefused>,
    /// The Client ID of the credential that turning on suspends (C-9).
    pub suspends: Option<String>,
    /// The address of the server when passkeys are not possible at it.
    pub no_passkeys_at: Option<String>,
}

/// The password, asked for in place of a page that needs it.
#[derive(Debug, Clone, Template)]
#[template(path = "mfa/password.html")]
pub struct MfaPassword {
    /// The frame.
    pub frame: Frame,
    /// The tab: [`Tab::General`].
    pub tab: Tab,
    /// What just happened.
    pub notice: Option<Notice>,
    /// The page that comes after it.
    pub to: String,
    /// What is wrong with the password that was given.
    pub error: Option<String>,
}

/// Setting up an authenticator app.
#[derive(Clone, Template)]
#[template(path = "mfa/app.html")]
pub struct MfaApp {
    /// The frame.
    pub frame: Frame,
    /// The tab: [`Tab::General`].
    pub tab: Tab,
    /// What just happened.
    pub notice: Option<Notice>,
    /// The QR code: an SVG element made by the library, of nothing but numbers.
    pub qr: String,
    /// The secret, to be typed.
    pub key: String,
    /// What is wrong with the code.
    pub code_error: Option<String>,
    /// Whether this turns MFA on.
    pub turns_on: bool,
    /// The Client ID of the credential that it suspends.
    pub suspends: Option<String>,
}

/// Adding a passkey.
#[derive(Debug, Clone, Template)]
#[template(path = "mfa/passkey.html")]
pub struct MfaPasskey {
    /// The frame.
    pub frame: Frame,
    /// The tab: [`Tab::General`].
    pub tab: Tab,
    /// What just happened.
    pub notice: Option<Notice>,
    /// The question for the browser, as JSON.
    pub options: String,
    /// The name.
    pub name: Field,
    /// Whether this turns MFA on.
    pub turns_on: bool,
    /// The Client ID of the credential that it suspends.
    pub suspends: Option<String>,
}

/// A change that asks for a second factor.
#[derive(Debug, Clone, Template)]
#[template(path = "mfa/change.html")]
pub struct MfaChange {
    /// The frame.
    pub frame: Frame,
    /// The tab: [`Tab::General`].
    pub tab: Tab,
    /// What just happened.
    pub notice: Option<Notice>,
    /// The address of the form.
    pub action: String,
    /// The heading.
    pub title: &'static str,
    /// What it does.
    pub text: String,
    /// The word on the button.
    pub button: &'static str,
    /// Whether something is taken away.
    pub removes: bool,
    /// A field that says which way, where there are two.
    pub allow: Option<&'static str>,
    /// Whether there is an authenticator app.
    pub app: bool,
    /// The question for a passkey, if there is one.
    pub passkey: Option<String>,
    /// What is wrong with the second factor.
    pub error: Option<String>,
}

/// Recovery codes, on the one page that ever shows them.
#[derive(Clone, Template)]
#[template(path = "mfa/codes.html")]
pub struct MfaCodes {
    /// The frame.
    pub frame: Frame,
    /// The tab: [`Tab::General`].
    pub tab: Tab,
    /// What just happened.
    pub notice: Option<Notice>,
    /// The codes.
    pub codes: Vec<String>,
}

/// `GET /sign-in/second-factor`.
#[derive(Debug, Clone, Template)]
#[template(path = "second_factor.html")]
pub struct SecondFactor {
    /// The organisation's name; may be empty.
    pub organisation: String,
    /// Whether there is an authenticator app.
    pub app: bool,
    /// Whether the field is for a recovery code.
    pub recovery: bool,
    /// The question for a passkey, if there is one.
    pub passkey: Option<String>,
    /// Why it was refused.
    pub error: Option<String>,
    /// Where to go after signing in (a path of this server).
    pub next: Option<String>,
}

impl SecondFactor {
    /// The same page with another field.
    fn other(&self) -> String {
        let with = if self.recovery { "" } else { "with=recovery" };
        let next = self.next.as_ref().map_or_else(String::new, |n| format!("next={n}"));
        let query = [with, &next].into_iter().filter(|p| !p.is_empty()).collect::<Vec<_>>().join("&");
        format!("/sign-in/second-factor?{query}")
    }
}

/// `GET /sign-in/passkey`.
#[derive(Debug, Clone, Template)]
#[template(path = "passkey_sign_in.html")]
pub struct PasskeySignIn {
    /// The organisation's name; may be empty.
    pub organisation: String,
    /// The question for a passkey.
    pub options: String,
    /// Why it was refused.
    pub error: Option<String>,
    /// Where to go after signing in (a path of this server).
    pub next: Option<String>,
}
