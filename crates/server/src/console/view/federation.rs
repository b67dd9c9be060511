//! Sign-in providers: their pages, the way to them and back, the identities at them.

use askama::Template;
use portcullis_domain::accounts::Role;

use super::{Field, Frame, Nav, Notice, Tab, When};

/// The answer to a form that leads to a provider.
#[derive(Debug, Clone, Template)]
#[template(path = "federation/going.html")]
pub struct GoingTo {
    /// The organisation's name; may be empty.
    pub organisation: String,
    /// The provider's name.
    pub name: String,
    /// The address there.
    pub url: String,
}

/// `GET /sign-in/provider/{provider}/sign-out`: after signing out of a federated login.
#[derive(Debug, Clone, Template)]
#[template(path = "federation/over.html")]
pub struct SignedOut {
    /// The organisation's name; may be empty.
    pub organisation: String,
    /// The provider's name.
    pub name: String,
    /// Where to sign out there, if the provider has that.
    pub url: Option<String>,
}

/// A provider in the list.
#[derive(Debug, Clone)]
pub struct ProviderRow {
    /// The id.
    pub id: String,
    /// The name.
    pub name: String,
    /// The issuer.
    pub issuer: String,
    /// The role of new users, if accounts are made.
    pub makes: Option<&'static str>,
    /// How many users have an identity at it.
    pub users: u64,
}

/// `GET /providers`.
#[derive(Debug, Clone, Template)]
#[template(path = "federation/providers.html")]
pub struct Providers {
    /// The frame.
    pub frame: Frame,
    /// What just happened.
    pub notice: Option<Notice>,
    /// The providers, by name.
    pub rows: Vec<ProviderRow>,
}

/// `GET /providers/new`, `GET /providers/{provider}`, and the answers to what was typed wrongly.
#[derive(Debug, Clone, Template)]
#[template(path = "federation/provider.html")]
pub struct ProviderForm {
    /// The frame.
    pub frame: Frame,
    /// What just happened.
    pub notice: Option<Notice>,
    /// The id.
    pub id: String,
    /// The name as it is saved; `None` for one that is to be set up.
    pub present: Option<String>,
    /// The name.
    pub name: Field,
    /// The issuer.
    pub issuer: Field,
    /// The client id.
    pub client_id: Field,
    /// What is wrong with the client secret (which is never sent back).
    pub secret_error: Option<String>,
    /// Whether there is one already.
    pub has_secret: bool,
    /// The scopes.
    pub scopes: Field,
    /// The domains.
    pub domains: Field,
    /// Whether accounts are made for new users.
    pub makes_users: bool,
    /// The code of their role.
    pub role: Field,
    /// The address to register at the provider.
    pub redirect_uri: String,
    /// The address to register there for signing out.
    pub signed_out_uri: String,
}

/// `GET /providers/{provider}/remove`.
#[derive(Debug, Clone, Template)]
#[template(path = "federation/remove.html")]
pub struct ProviderRemove {
    /// The frame.
    pub frame: Frame,
    /// The id.
    pub id: String,
    /// The name.
    pub name: String,
    /// How many users have an identity at it.
    pub users: u64,
    /// How many of them could not sign in any more.
    pub stranded: u64,
    /// Why it cannot be removed now.
    pub refused: Option<Notice>,
}

/// Something that a provider told.
#[derive(Debug, Clone)]
pub struct ClaimRow {
    /// The claim's name.
    pub name: String,
    /// Its value.
    pub value: String,
    /// Where it stood.
    pub source: &'static str,
}

/// The end of a test.
#[derive(Debug, Clone, Template)]
#[template(path = "federation/test.html")]
pub struct ProviderTest {
    /// The frame.
    pub frame: Frame,
    /// The provider's id.
    pub id: String,
    /// The provider's name.
    pub name: String,
    /// What it told.
    pub rows: Vec<ClaimRow>,
}

/// An identity in the list of a user's.
#[derive(Debug, Clone)]
pub struct IdentityRow {
    /// Names it in the form.
    pub key: String,
    /// The provider's name, or the issuer where there is no provider any more.
    pub provider: String,
    /// The e-mail that the provider told; may be empty.
    pub email: String,
    /// When it was linked.
    pub linked: When,
    /// When it was last signed in with.
    pub signed_in: Option<When>,
}

/// The section **Linked identities** of General Settings.
#[derive(Debug, Clone)]
pub struct Links {
    /// The identities.
    pub identities: Vec<IdentityRow>,
    /// The providers without one: id and name.
    pub providers: Vec<(String, String)>,
    /// Whether this session may link and unlink at all.
    pub local: bool,
    /// Whether the password is asked for again.
    pub password_needed: bool,
}

impl Links {
    /// Whether there is anything to show.
    #[must_use]
    pub fn is_there(&self) -> bool {
        !self.identities.is_empty() || !self.providers.is_empty()
    }
}

/// `GET /account/identities`: what will happen to an identity, and the password where it is needed.
#[derive(Debug, Clone, Template)]
#[template(path = "federation/identity.html")]
pub struct IdentityChange {
    /// The frame.
    pub frame: Frame,
    /// The tab: [`Tab::General`].
    pub tab: Tab,
    /// What just happened.
    pub notice: Option<Notice>,
    /// Whether an identity is unlinked, not linked.
    pub unlinks: bool,
    /// What the form names: the key of the identity, or the id of the provider.
    pub value: String,
    /// The provider's name, or the issuer where there is no provider any more.
    pub provider: String,
    /// The e-mail of the identity; may be empty.
    pub email: String,
    /// Whether the password is asked for again.
    pub password_needed: bool,
    /// What is wrong with the password that was given.
    pub password_error: Option<String>,
}

impl IdentityChange {
    fn title(&self) -> String {
        if self.unlinks { format!("Unlink {}?", self.provider) } else { format!("Link {}", self.provider) }
    }
}
