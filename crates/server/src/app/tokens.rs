//! Accepting clients; checking and revoking access tokens. They are issued in `tokens/issuing.rs`.

mod issuing;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use portcullis_domain::{
    apis::{ApiKeyId, OWN},
    audit::{By, Entry, Event, Origin},
    client_keys::Method,
    credentials::{ClientId, Standing},
    secret::{ExposeSecret, SecretText},
    sessions::Actor,
    tokens::Claims,
};
use portcullis_store::{PresentedClient, UsedProof};

use crate::{
    app::{App, Caller, Via, client_keys::SignedAssertion, dpop::Shown, keys::Claimed, reads::TokenOnRecord},
    error::Failure,
};

pub use issuing::{Issued, Issuer, NotIssued, Wish};

/// How long a transaction may take. The database keeps shorter limits itself; this one is for a
/// database that is gone without a word.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

/// A client's proof of who it is. At the introspection endpoint an API proves itself in the same way.
pub struct ClientProof {
    /// The Client ID as presented.
    pub client_id: String,
    /// What was given to prove it.
    pub given: Given,
    /// From where.
    pub origin: Origin,
}

/// What a client gives to prove who it is.
pub enum Given {
    /// The Client Secret as presented.
    Secret(SecretText),
    /// A client assertion (RFC 7523).
    Assertion(SignedAssertion),
}

impl ClientProof {
    /// Whether it is longer than any that this server made could be, however it was encoded: such
    /// a one does not take up room in the queue.
    pub(crate) fn is_too_long(&self) -> bool {
        let secret_is = matches!(&self.given, Given::Secret(secret) if secret.expose_secret().len() > 256);
        self.client_id.len() > 256 || secret_is
    }

    /// With what the client proves itself.
    fn method(&self) -> Method {
        match self.given {
            Given::Secret(_) => Method::Secret,
            Given::Assertion(_) => Method::Key,
        }
    }

    /// What of it counts once.
    fn used(&self) -> Option<UsedProof> {
        match &self.given {
            Given::Secret(_) => None,
            Given::Assertion(assertion) => Some(assertion.used()),
        }
    }
}

/// Why a client was not accepted.
#[derive(Debug)]
pub enum ClientRefused {
    /// Unknown id or wrong secret: one answer.
    Unproven,
    /// Unknown id, no key, or a signature by another key: one answer.
    UnprovenKey,
    /// The assertion is signed rightly, but was used already (only its signer is told).
    Replayed,
    /// The secret is right, but switched off (only its holder is told).
    SecretOff,
    /// The same, too often from there; the seconds until it makes sense to try again.
    TooOften(u64),
    /// The secret is right, but the credential does not work (only its holder is told why).
    Dead(Standing),
    /// The secret is right, but the key of the API ended then (only its holder is told).
    KeyEnded(Timestamp),
    /// The server could not tell.
    Failed(Failure),
}

impl<E: Into<Failure>> From<E> for ClientRefused {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// What a text claims to be, and the token on record with that id. It is of one request: how a token
/// stood before the request came says nothing (C-11).
pub struct LookedUp<'a> {
    claimed: Claimed<'a>,
    on_record: TokenOnRecord,
}

impl App {
    /// Accepts a client at the introspection and revocation endpoints.
    ///
    /// # Errors
    /// [`ClientRefused`]; the attempt is on record then, or counted among too many.
    pub async fn authenticate_client(
        &self,
        mut proof: ClientProof,
    ) -> Result<Arc<PresentedClient>, ClientRefused> {
        if proof.is_too_long() {
            return Err(Box::pin(self.refuse_client(&proof, ClientRefused::Unproven)).await);
        }
        self.check_signature(&mut proof).await?;
        match self.judge_client(&proof).await {
            Ok(client) => Ok(client),
            Err(refused) => Err(Box::pin(self.refuse_client(&proof, refused)).await),
        }
    }

    async fn judge_client(&self, proof: &ClientProof) -> Result<Arc<PresentedClient>, ClientRefused> {
        let (asked, now) = ([proof.client_id.as_str()], self.clock.now());
        // Judged before anything is written, so that strangers do not take the turns of those who write.
        let found = self.reads.client(&proof.client_id).await?;
        self.issuer.gate.judge(proof, found.as_deref(), now)?;
        let Some(used) = proof.used() else { return found.ok_or(ClientRefused::Unproven) };
        Box::pin(async {
            let mut tx = self.store.write().await?;
            let found = tx.presented_clients(&asked).await?.pop();
            self.issuer.gate.judge(proof, found.as_ref(), now)?;
            let first = !tx.use_proofs(&[used]).await?.is_empty();
            tx.commit().await?;
            found.filter(|_| first).map(Arc::new).ok_or(ClientRefused::Replayed)
        })
        .await
    }

    /// Records a refusal before it is told, unless there were too many from there to record each.
    /// Only failures are ever slowed down (protocol 18).
    pub(crate) async fn refuse_client(&self, proof: &ClientProof, refused: ClientRefused) -> ClientRefused {
        let (reason, by) = match &refused {
            ClientRefused::Unproven | ClientRefused::UnprovenKey => ("not_proven", By::Stranger),
            ClientRefused::Replayed => ("assertion_replayed", By::Client(proof.client_id.clone())),
            ClientRefused::SecretOff => ("secret_off", By::Client(proof.client_id.clone())),
            ClientRefused::Dead(standing) => (standing.code(), By::Client(proof.client_id.clone())),
            ClientRefused::KeyEnded(_) => ("key_ended", By::Client(proof.client_id.clone())),
            ClientRefused::TooOften(_) | ClientRefused::Failed(_) => return refused,
        };
        let recorded = match by {
            By::Client(_) => self.refusals.of_proven_is_to_be_recorded(&proof.client_id),
            _ => self.refusals.is_to_be_recorded(&proof.origin, &proof.client_id),
        };
        if !recorded {
            return if by == By::Stranger { ClientRefused::TooOften(60) } else { refused };
        }
        // What is neither a Client ID nor the id of a key may be a secret in the wrong place: it is
        // not written down.
        let id = proof.client_id.as_str();
        let is_id = ClientId::parse(id).is_some() || ApiKeyId::parse(id).is_some();
        let subject = if is_id { id } else { "malformed Client ID" };
        let entry = Entry::done(self.clock.now(), by, &proof.origin, Event::TokenRefused, subject).refused(reason);
        match self.recorder.record(entry).await {
            Ok(()) => refused,
            Err(failure) => ClientRefused::Failed(failure),
        }
    }

    /// Looks for the token that a text claims to be. Nothing is known of the text by that: whoever wrote
    /// it chose the id.
    ///
    /// # Errors
    /// The database's.
    pub async fn look_up<'a>(&self, text: &'a str) -> Result<Option<LookedUp<'a>>, Failure> {
        let Some(claimed) = self.signer.claimed(text) else { return Ok(None) };
        let claims = claimed.claims();
        // Anybody may have written it: what cannot be a Client ID is not worth a question.
        if ClientId::parse(&claims.client_id).is_none() {
            return Ok(None);
        }
        let on_record = self.reads.token(claims.jti, &claims.client_id).await?;
        Ok(on_record.map(|on_record| LookedUp { claimed, on_record }))
    }

    /// The claims and the record of a token that is active now; `None` for every other text.
    ///
    /// # Errors
    /// The database's: in doubt a token is neither active nor inactive, but unanswered (I6).
    pub async fn active_token(&self, text: &str) -> Result<Option<(Claims, TokenOnRecord)>, Failure> {
        self.if_active(self.look_up(text).await?).await
    }

    /// [`App::active_token`] of what was looked up by the request already.
    ///
    /// # Errors
    /// As [`App::active_token`].
    pub(crate) async fn if_active(
        &self,
        found: Option<LookedUp<'_>>,
    ) -> Result<Option<(Claims, TokenOnRecord)>, Failure> {
        let Some(LookedUp { claimed, on_record }) = found else { return Ok(None) };
        let text = claimed.text();
        let Some((claims, key_set)) = self.signer.verify(claimed).await? else { return Ok(None) };
        // The key may have been withdrawn meanwhile, on any node.
        let latest = on_record.client.key_set;
        if latest > key_set {
            let looking = async {
                let mut tx = self.store.read().await?;
                self.signer.still_verifies(&mut tx, text, latest).await
            };
            if !Box::pin(looking).await? {
                return Ok(None);
            }
        }
        let now = self.clock.now();
        let client = &on_record.client;
        let standing = client.credential.standing(&client.owner, now);
        let same_api = on_record.token.audience.identifier == claims.aud;
        let active = same_api && on_record.token.is_active(standing, now);
        Ok(active.then_some((claims, on_record)))
    }

    /// Who a token acts as (T-4). `shown` is the proof that came with it under the scheme `DPoP`; a
    /// bound token is good with one alone, and no other with any (T-5).
    ///
    /// # Errors
    /// [`Failure::InvalidToken`] for a token that is not active or is for another API,
    /// [`Failure::InvalidProof`], or the database's.
    pub async fn identify_token(
        &self,
        token: &str,
        shown: Option<&Shown<'_>>,
        origin: Origin,
    ) -> Result<Caller, Failure> {
        let (claims, on_record) = self.active_token(token).await?.ok_or(Failure::InvalidToken)?;
        // RFC 9068 §4: its audience is this API, or it means nothing here.
        if on_record.token.audience.api != OWN {
            return Err(Failure::InvalidToken);
        }
        match (&claims.cnf, shown) {
            (None, None) => {}
            (Some(cnf), Some(shown)) => self.use_proof_with_token(shown, token, &cnf.jkt).await?,
            _ => return Err(Failure::InvalidToken),
        }
        let owner = on_record.client.credential.owner;
        let user = self.store.read().await?.user(owner).await?.ok_or(Failure::InvalidToken)?;
        let via = Via::Token { client_id: claims.client_id, scope: claims.scope };
        Ok(Caller { user, actor: Actor::Token { owner }, origin, via })
    }

    /// Revokes one token for the client it was issued to (RFC 7009 §2.1). `false` when it is
    /// another client's; a token that is unknown or over is as good as revoked (§2.2).
    ///
    /// # Errors
    /// The database's: never a false success.
    pub async fn revoke_token(
        &self,
        client: &PresentedClient,
        token: &str,
        origin: &Origin,
    ) -> Result<bool, Failure> {
        let Some(claimed) = self.signer.claimed(token) else { return Ok(true) };
        let Some((claims, _)) = self.signer.verify(claimed).await? else { return Ok(true) };
        let mut act = self.store.act().await?;
        let Some(on_record) = act.token_on_record(claims.jti).await? else { return Ok(true) };
        let client_id = client.credential.client_id.as_str().to_owned();
        let now = self.clock.now();
        let by = By::Client(client_id);
        let entry = Entry::done(now, by, origin, Event::TokenRevoked, claims.jti.to_string());
        if on_record.credential != client.credential.id {
            act.commit(&[entry.refused("another_client_s")]).await?;
            return Ok(false);
        }
        if act.revoke_token(claims.jti, client.credential.id, now).await? {
            act.commit(&[entry]).await?;
        }
        Ok(true)
    }
}
