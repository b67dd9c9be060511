//! What is begun in one browser and finished in it by a later request. The secret that names it is
//! in a cookie of that browser (or in the `state` that goes to a provider and comes back); what is
//! to be remembered is sealed in the database, on every node the same, and taken once.

use jiff::{SignedDuration, Timestamp};
use portcullis_domain::{
    accounts::UserId,
    secret::{ExposeSecret, SecretText},
};
use portcullis_store::{Ceremony, Purpose, Sealed, Tx};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    app::{App, sessions::secret_digest},
    error::Failure,
};

/// The kinds. A row of one kind never serves as another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A sign-in whose first factor was right and whose second is to come.
    SecondFactor,
    /// A second factor that is being added in a session.
    FactorAdding,
    /// A sign-in with a passkey alone.
    PasskeySignIn,
    /// A passkey asked for in a session, before second factors are changed.
    PasskeyStepUp,
    /// A visit to a sign-in provider.
    ProviderVisit,
}

impl Kind {
    /// The word in the database.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::SecondFactor => "second_factor",
            Self::FactorAdding => "factor_adding",
            Self::PasskeySignIn => "passkey_sign_in",
            Self::PasskeyStepUp => "passkey_step_up",
            Self::ProviderVisit => "provider_visit",
        }
    }

    /// How long there is to finish it.
    #[must_use]
    pub fn lasts(self) -> SignedDuration {
        match self {
            Self::SecondFactor | Self::FactorAdding | Self::PasskeySignIn | Self::PasskeyStepUp => {
                SignedDuration::from_mins(5)
            }
            Self::ProviderVisit => SignedDuration::from_mins(10),
        }
    }
}

impl App {
    /// Begins a ceremony and gives the secret that names it.
    ///
    /// # Errors
    /// The database's.
    pub(crate) async fn begin(
        &self,
        tx: &mut Tx,
        kind: Kind,
        user: Option<UserId>,
        state: &impl Serialize,
    ) -> Result<SecretText, Failure> {
        let (secret, digest) = self.new_secret();
        self.begin_under(tx, kind, &digest, user, state).await?;
        Ok(secret)
    }

    /// The same under a digest that the caller has made.
    ///
    /// # Errors
    /// The database's.
    pub(crate) async fn begin_under(
        &self,
        tx: &mut Tx,
        kind: Kind,
        digest: &[u8; 32],
        user: Option<UserId>,
        state: &impl Serialize,
    ) -> Result<(), Failure> {
        let state = self.sealed(kind, state)?;
        let now = self.clock.now();
        let ceremony =
            Ceremony { kind: kind.code().to_owned(), user, state, begun_at: now, expires_at: now + kind.lasts() };
        Ok(tx.begin_ceremony(digest, &ceremony).await?)
    }

    fn sealed(&self, kind: Kind, state: &impl Serialize) -> Result<Sealed, Failure> {
        let plain = serde_json::to_vec(state).map_err(|e| Failure::Internal(format!("{}: {e}", kind.code())))?;
        Ok(self.store.keys().seal(Purpose::Ceremony, kind.code(), &plain, self.clock.random()))
    }

    /// Remembers another state of a ceremony that goes on. `false` when it is over.
    ///
    /// # Errors
    /// The database's.
    pub(crate) async fn keep(
        &self,
        tx: &mut Tx,
        kind: Kind,
        secret: &str,
        state: &impl Serialize,
    ) -> Result<bool, Failure> {
        let state = self.sealed(kind, state)?;
        Ok(tx.keep_ceremony(&secret_digest(secret), kind.code(), &state).await?)
    }

    /// Looks at a ceremony without taking it.
    ///
    /// # Errors
    /// The database's.
    pub(crate) async fn under_way<T: DeserializeOwned>(
        &self,
        tx: &mut Tx,
        kind: Kind,
        secret: &str,
    ) -> Result<Option<(Option<UserId>, T)>, Failure> {
        let found = tx.ceremony(&secret_digest(secret), kind.code(), self.clock.now()).await?;
        found.map(|c| self.opened(kind, &c)).transpose()
    }

    /// Looks at a ceremony in order to [`App::keep`] another state of it: until this transaction ends
    /// nobody else changes or takes it.
    ///
    /// # Errors
    /// The database's.
    pub(crate) async fn held<T: DeserializeOwned>(
        &self,
        tx: &mut Tx,
        kind: Kind,
        secret: &str,
    ) -> Result<Option<(Option<UserId>, T)>, Failure> {
        let found = tx.hold_ceremony(&secret_digest(secret), kind.code(), self.clock.now()).await?;
        found.map(|c| self.opened(kind, &c)).transpose()
    }

    /// Takes a ceremony: of two at once one gets it, and none that is over.
    ///
    /// # Errors
    /// The database's.
    pub(crate) async fn take<T: DeserializeOwned>(
        &self,
        tx: &mut Tx,
        kind: Kind,
        secret: &str,
    ) -> Result<Option<(Option<UserId>, T)>, Failure> {
        let taken = tx.take_ceremony(&secret_digest(secret), kind.code(), self.clock.now()).await?;
        taken.map(|c| self.opened(kind, &c)).transpose()
    }

    fn opened<T: DeserializeOwned>(
        &self,
        kind: Kind,
        ceremony: &Ceremony,
    ) -> Result<(Option<UserId>, T), Failure> {
        let plain = self.store.keys().open(Purpose::Ceremony, kind.code(), &ceremony.state)?;
        let state = serde_json::from_slice(plain.expose_secret())
            .map_err(|e| Failure::Internal(format!("{}: {e}", kind.code())))?;
        Ok((ceremony.user, state))
    }
}

/// An instant as it is kept in a ceremony: microseconds, UTC.
pub(crate) fn kept(at: Option<Timestamp>) -> Option<i64> {
    at.map(Timestamp::as_microsecond)
}

/// The inverse of [`kept`].
pub(crate) fn instant(micros: Option<i64>) -> Option<Timestamp> {
    micros.and_then(|m| Timestamp::from_microsecond(m).ok())
}
