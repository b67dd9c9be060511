//! Who may ask about a token, and what is said (RFC 7662, protocol 23).

use std::sync::Arc;

use portcullis_domain::{apis::KEY_ID_PREFIX, tokens::Claims};
use portcullis_store::{PresentedClient, PresentedKey};

use crate::{
    app::{
        App,
        reads::TokenOnRecord,
        tokens::{ClientProof, ClientRefused, Given, LookedUp},
    },
    error::Failure,
};

/// Who asks about a token, proven.
#[derive(Debug)]
pub enum Asker {
    /// An API, with a key of its own.
    Api(Arc<PresentedKey>),
    /// A program, with its credential.
    Client(Arc<PresentedClient>),
}

impl Asker {
    /// Whether this one may know of a token: an API of those that are for it, a program of its own
    /// (RFC 7662 §4).
    fn may_know(&self, token: &TokenOnRecord) -> bool {
        match self {
            Self::Api(presented) => token.token.audience.api == presented.api.id,
            Self::Client(client) => token.token.credential == client.credential.id,
        }
    }
}

impl App {
    /// Accepts who asks: the form of the id says whether it is an API or a program.
    ///
    /// # Errors
    /// [`ClientRefused`]; the attempt is on record then, or counted among too many.
    pub async fn authenticate_asker(&self, proof: ClientProof) -> Result<Asker, ClientRefused> {
        if !proof.client_id.starts_with(KEY_ID_PREFIX) {
            return Ok(Asker::Client(self.authenticate_client(proof).await?));
        }
        match self.judge_key(&proof).await {
            Ok(presented) => Ok(Asker::Api(presented)),
            Err(refused) => Err(Box::pin(self.refuse_client(&proof, refused)).await),
        }
    }

    /// The one decision about a presented key.
    async fn judge_key(&self, proof: &ClientProof) -> Result<Arc<PresentedKey>, ClientRefused> {
        // APIs have secrets, and no keys of their own making.
        let Given::Secret(secret) = &proof.given else { return Err(ClientRefused::UnprovenKey) };
        if proof.is_too_long() {
            return Err(ClientRefused::Unproven);
        }
        let found = self.reads.key(&proof.client_id).await?;
        let is_over = found.as_ref().is_some_and(|p| !p.key.is_valid(self.clock.now()));
        let right = self.api_secrets.is_right(found.as_ref().map(|p| &p.key.digest), is_over, secret)?;
        let presented = found.filter(|_| right).ok_or(ClientRefused::Unproven)?;
        match presented.key.ends_at {
            Some(at) if !presented.key.is_valid(self.clock.now()) => Err(ClientRefused::KeyEnded(at)),
            _ => Ok(presented),
        }
    }

    /// What somebody may know of a token that was looked up by this request: its claims while it is active;
    /// `None` for everything else.
    ///
    /// # Errors
    /// The database's: in doubt a token is neither active nor inactive, but unanswered (I6).
    pub async fn introspect(&self, asker: &Asker, found: Option<LookedUp<'_>>) -> Result<Option<Claims>, Failure> {
        let found = self.if_active(found).await?;
        Ok(found.filter(|(_, on_record)| asker.may_know(on_record)).map(|(claims, _)| claims))
    }
}
