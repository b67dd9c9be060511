//! Passkeys by WebAuthn: what a browser is asked, and whether what it answers is good. The rules of
//! the protocol (origin, challenge, user verification, signature, counter) are webauthn-rs's.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use portcullis_domain::accounts::User;
use portcullis_store::StoredPasskey;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use webauthn_rs::prelude::{
    CredentialID, DiscoverableAuthentication, Passkey, PasskeyRegistration, PublicKeyCredential,
    RegisterPublicKeyCredential, Url, Uuid, Webauthn, WebauthnBuilder, WebauthnError,
};

use crate::error::Failure;

/// What makes and checks passkeys, where this server's address allows them.
pub struct Passkeys {
    webauthn: Option<Webauthn>,
}

/// A question to a browser, with what has to be remembered to judge the answer.
pub struct Asked<T> {
    /// The options for `navigator.credentials`, as JSON.
    pub options: String,
    /// What is remembered.
    pub remembered: T,
}

/// What is remembered of a question for a passkey that is there.
#[derive(Clone, Serialize, Deserialize)]
pub struct Question(DiscoverableAuthentication);

/// What is remembered of a question for a new passkey.
#[derive(Clone, Serialize, Deserialize)]
pub struct Making(PasskeyRegistration);

/// A new passkey, as it is stored.
pub struct Made {
    /// What the authenticator calls it.
    pub credential_id: Vec<u8>,
    /// The public key and its counter, as JSON.
    pub passkey: String,
}

/// A browser's answer, read but not judged.
pub struct Answered(PublicKeyCredential);

impl Answered {
    /// Reads an answer; `None` when it is none.
    #[must_use]
    pub fn parse(json: &str) -> Option<Self> {
        serde_json::from_str(json).ok().map(Self)
    }

    /// Which passkey the authenticator used.
    #[must_use]
    pub fn credential_id(&self) -> &[u8] {
        self.0.raw_id.as_ref()
    }

    /// Whose the authenticator says that it is, where it says so.
    #[must_use]
    pub fn user(&self) -> Option<Uuid> {
        self.0.get_user_unique_id().and_then(|id| Uuid::from_slice(id).ok())
    }
}

/// Why an answer is not good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotGood {
    /// Another origin, challenge, key, or no user verification.
    Wrong,
    /// The counter went back: there may be a copy of the passkey.
    CounterWentBack,
}

impl NotGood {
    /// The word in the audit log.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Wrong => "wrong_passkey",
            Self::CounterWentBack => "passkey_counter_went_back",
        }
    }
}

fn internal(what: &str, error: impl std::fmt::Display) -> Failure {
    Failure::Internal(format!("{what}: {error}"))
}

impl Passkeys {
    /// For a server that people reach at `public_url`. An address of digits has none: WebAuthn binds
    /// a passkey to a name.
    ///
    /// # Errors
    /// When the library does not take the address.
    pub fn of(public_url: &str, organization: &str) -> Result<Self, Failure> {
        let url = Url::parse(public_url).map_err(|e| internal("public_url", e))?;
        let Some(host) = url.domain() else { return Ok(Self { webauthn: None }) };
        let name = if organization.is_empty() { "Portcullis" } else { organization };
        let made = WebauthnBuilder::new(host, &url).and_then(|builder| builder.rp_name(name).build());
        Ok(Self { webauthn: Some(made.map_err(|e| internal("webauthn", e))?) })
    }

    /// Whether there can be passkeys at this server's address.
    #[must_use]
    pub fn are_possible(&self) -> bool {
        self.webauthn.is_some()
    }

    fn webauthn(&self) -> Result<&Webauthn, Failure> {
        self.webauthn.as_ref().ok_or(Failure::NotFound)
    }

    /// Asks for a new passkey of a user, none of those that are there, kept by the authenticator so
    /// that it can sign in alone.
    ///
    /// # Errors
    /// [`Failure::NotFound`] where there can be none.
    pub fn ask_for_new(&self, user: &User, held: &[StoredPasskey]) -> Result<Asked<Making>, Failure> {
        let held = held.iter().map(|p| CredentialID::from(p.credential_id.clone())).collect();
        let (name, id) = (user.email.as_str(), user.id.0);
        let begun = self.webauthn()?.start_passkey_registration(id, name, user.name.as_str(), Some(held));
        let (options, state) = begun.map_err(|e| internal("webauthn", e))?;
        let mut options = serde_json::to_value(options).map_err(|e| internal("webauthn", e))?;
        let selection = &mut options["publicKey"]["authenticatorSelection"];
        selection["residentKey"] = "required".into();
        selection["requireResidentKey"] = true.into();
        Ok(Asked { options: options.to_string(), remembered: Making(state) })
    }

    /// Judges the answer to [`Passkeys::ask_for_new`].
    ///
    /// # Errors
    /// [`NotGood`] inside; the outer one is ours.
    pub fn made(&self, making: &Making, answer: &str) -> Result<Result<Made, NotGood>, Failure> {
        let Ok(answer) = serde_json::from_str::<RegisterPublicKeyCredential>(answer) else {
            return Ok(Err(NotGood::Wrong));
        };
        let Ok(passkey) = self.webauthn()?.finish_passkey_registration(&answer, &making.0) else {
            return Ok(Err(NotGood::Wrong));
        };
        let credential_id = passkey.cred_id().to_vec();
        let passkey = serde_json::to_string(&passkey).map_err(|e| internal("passkey", e))?;
        Ok(Ok(Made { credential_id, passkey }))
    }

    /// Asks for one of these passkeys; for any when there are none, which is how one signs in alone.
    ///
    /// # Errors
    /// [`Failure::NotFound`] where there can be none.
    pub fn ask_for(&self, held: &[StoredPasskey]) -> Result<Asked<Question>, Failure> {
        let begun = self.webauthn()?.start_discoverable_authentication();
        let (options, state) = begun.map_err(|e| internal("webauthn", e))?;
        let mut options = serde_json::to_value(options).map_err(|e| internal("webauthn", e))?;
        // It is a button that asks, not the e-mail field.
        if let Value::Object(all) = &mut options {
            all.remove("mediation");
        }
        let known = held.iter().map(|p| json!({ "type": "public-key", "id": BASE64URL.encode(&p.credential_id) }));
        options["publicKey"]["allowCredentials"] = known.collect();
        Ok(Asked { options: options.to_string(), remembered: Question(state) })
    }

    /// Judges an answer to [`Passkeys::ask_for`] against the passkey as it is stored, and gives what
    /// is to be stored of it from now on.
    ///
    /// # Errors
    /// [`NotGood`] inside; the outer one is ours.
    pub fn judge(
        &self,
        question: Question,
        answer: &Answered,
        stored: &StoredPasskey,
    ) -> Result<Result<String, NotGood>, Failure> {
        let mut passkey: Passkey = serde_json::from_str(&stored.passkey).map_err(|e| internal("passkey", e))?;
        match self.webauthn()?.finish_discoverable_authentication_v2(&answer.0, question.0, &passkey) {
            Ok(good) if good.user_verified() => {
                passkey.update_credential(&good);
                Ok(Ok(serde_json::to_string(&passkey).map_err(|e| internal("passkey", e))?))
            }
            Ok(_) => Ok(Err(NotGood::Wrong)),
            Err(WebauthnError::CredentialPossibleCompromise) => Ok(Err(NotGood::CounterWentBack)),
            Err(_) => Ok(Err(NotGood::Wrong)),
        }
    }
}
