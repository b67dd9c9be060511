//! Issuing access tokens.
//!
//! The hot path is batched, not cached: token requests that arrive together share one transaction
//! (one look-up for all their credentials and owners, one for the APIs that the proven ones name, one
//! insert of all that is issued, one commit), and each signs its own token while the database commits.
//! A token that is signed is not let go until its record is there. So the answer is always read from
//! the truth, after the request has come in, and every token is on record before it leaves (L-4, C-11).

use std::{
    collections::{BTreeSet, HashMap},
    panic::AssertUnwindSafe,
    pin::pin,
    sync::Arc,
};

use futures_util::FutureExt;
use jiff::Timestamp;
use portcullis_domain::{
    apis::Api,
    client_keys::Method,
    credentials::{ClientId, Standing},
    keys::Algorithm,
    tokens::{Claims, Confirmation, ends_at},
};
use portcullis_store::{NewToken, PresentedClient, Purpose, Store, StoreError, Tx, UsedProof};
use tokio::{
    sync::{Mutex, mpsc, oneshot, watch},
    time::timeout,
};
use uuid::Uuid;

use super::{ClientProof, ClientRefused, Given, PATIENCE};
use crate::{
    app::{
        App,
        digests::Digests,
        dpop::{Bound, ProofRefused},
        keys::{KeySet, Signer},
    },
    clock::Clock,
    error::Failure,
};

/// The most requests that share one transaction.
const BATCH: usize = 64;
/// The most requests that wait for a transaction; beyond that the answer is "busy".
const QUEUE: usize = 4096;
/// Transactions under way at once on a database that has many writers.
const PARALLEL: usize = 2;

/// What a token is wanted for.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// The identifier of an API (RFC 8707 §2); absent: the product's own.
    pub resource: Option<String>,
    /// The scope (RFC 6749 §3.3); absent: all that the API has.
    pub scope: Option<String>,
    /// The proof of the key that it is to be bound to (RFC 9449 §5).
    pub bound: Option<Bound>,
}

/// Why a token was not issued.
#[derive(Debug)]
pub enum NotIssued {
    /// The client was not accepted.
    Client(ClientRefused),
    /// No API has the identifier (protocol 12).
    UnknownApi,
    /// The API with this identifier has these scopes, and no others (protocol 11).
    UnknownScope {
        /// The identifier.
        identifier: String,
        /// The names of its scopes, space separated.
        scopes: String,
    },
    /// The proof of the key is not right, or was used (RFC 9449 §5).
    Proof(ProofRefused),
    /// The API with this identifier takes bound tokens only, and no proof came (T-5).
    ProofNeeded(String),
}

impl From<ClientRefused> for NotIssued {
    fn from(refused: ClientRefused) -> Self {
        Self::Client(refused)
    }
}

/// A token on record.
pub struct Issued {
    /// The token, signed.
    pub token: String,
    /// What it claims.
    pub claims: Claims,
}

/// A token that is being put on record, to be signed meanwhile.
struct Unsigned {
    jti: Uuid,
    issued_at: Timestamp,
    expires_at: Timestamp,
    client_id: ClientId,
    audience: String,
    status_index: u32,
    scope: String,
    cnf: Option<Confirmation>,
    algorithm: Algorithm,
    /// The keys that sign, as of the transaction that puts it on record.
    keys: Arc<KeySet>,
    outcome: Outcome,
}

/// How putting the tokens of one transaction on record ended; nothing before it did.
type Outcome = watch::Receiver<Option<Result<(), Failed>>>;

/// What is told to all that shared a transaction which failed. No token left the server, so repeating
/// is safe in every case.
#[derive(Debug, Clone)]
enum Failed {
    Internal(String),
    OnHold,
    Busy,
}

impl Failed {
    /// What is told, and what the operator has to see goes to the log.
    fn logged(error: &Failure, requests: usize) -> Self {
        // That it is on hold was said at the start.
        if !matches!(error, Failure::OnHold) {
            error.log();
            tracing::error!(%error, requests, "token requests were not served");
        }
        match error {
            // Of several requests nobody knows whose row it is.
            Failure::Internal(what) if requests == 1 => Self::Internal(what.clone()),
            Failure::OnHold => Self::OnHold,
            _ => Self::Busy,
        }
    }
}

impl From<Failed> for ClientRefused {
    fn from(failed: Failed) -> Self {
        Self::Failed(match failed {
            Failed::Internal(what) => Failure::Internal(what),
            Failed::OnHold => Failure::OnHold,
            Failed::Busy => Failure::Busy,
        })
    }
}

struct Request {
    proof: Arc<ClientProof>,
    wish: Wish,
    answer: oneshot::Sender<Result<Unsigned, NotIssued>>,
}

/// Puts tokens on record, many at a time.
pub struct Issuer {
    queue: mpsc::Sender<Request>,
    pub(super) gate: Arc<Gate>,
}

/// Decides about presented clients.
pub(super) struct Gate {
    signer: Arc<Signer>,
    store: Store,
    clock: Clock,
    digests: Digests,
    /// The product's own API: nobody changes it while the server runs.
    own: Api,
    /// How long tokens for it live, in seconds.
    own_lifespan: u32,
}

/// A client that is proven, and the API it names.
type Proven<'a> = (&'a PresentedClient, &'a Api);

impl Gate {
    /// The one decision about a presented client.
    pub(super) fn judge<'a>(
        &self,
        proof: &ClientProof,
        found: Option<&'a PresentedClient>,
        now: Timestamp,
    ) -> Result<&'a PresentedClient, ClientRefused> {
        let standing = found.map(|c| c.credential.standing(&c.owner, now));
        #[cfg(feature = "seeded-bugs")]
        let standing = standing.zip(found).map(|(s, c)| crate::seeded::cached(&c.credential, s, now));
        let (right, wrong) = match &proof.given {
            Given::Secret(secret) => {
                let is_over = matches!(standing, Some(Standing::Revoked(..) | Standing::Expired(_)));
                let right = self.digests.is_right(found.map(|c| &c.credential.digest), is_over, secret)?;
                (right, ClientRefused::Unproven)
            }
            Given::Assertion(assertion) => {
                (found.is_some_and(|c| assertion.is_of(&c.credential)), ClientRefused::UnprovenKey)
            }
        };
        match (found.filter(|_| right), standing) {
            // C-15: what is switched off is told to its holder.
            (Some(client), Some(Standing::Active))
                if proof.method() == Method::Secret && client.credential.secret_off_at.is_some() =>
            {
                Err(ClientRefused::SecretOff)
            }
            (Some(client), Some(Standing::Active)) => Ok(client),
            (Some(_), Some(standing)) => Err(ClientRefused::Dead(standing)),
            _ => Err(wrong),
        }
    }
}

impl Issuer {
    /// Starts the task that gathers requests.
    #[must_use]
    pub fn start(signer: Arc<Signer>, store: Store, clock: Clock, own: Api, own_lifespan: u32) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let parallel = if store.has_many_writers() { PARALLEL } else { 1 };
        let digests = Digests::new(&store, &clock, Purpose::ClientSecret);
        let gate = Arc::new(Gate { signer, store, clock, digests, own, own_lifespan });
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..parallel {
            tokio::spawn(Arc::clone(&gate).work(Arc::clone(&waiting)));
        }
        Self { queue, gate }
    }
}

type Answers = Vec<Result<Unsigned, NotIssued>>;

/// The requests of a batch, each with its answer, that are not told yet.
type Untold = (Vec<Request>, Answers);

/// What was decided about the requests of a batch, and has not happened yet.
struct Decided {
    answers: Answers,
    /// What is to be put on record, if anything is.
    pending: Option<(Tx, Vec<NewToken>)>,
}

impl Gate {
    /// Serves one batch after the other, until nobody can ask any more.
    async fn work(self: Arc<Self>, waiting: Arc<Mutex<mpsc::Receiver<Request>>>) {
        loop {
            // Its turn first, the requests after: while a commit is under way they gather.
            let mut batch = Vec::with_capacity(BATCH);
            if waiting.lock().await.recv_many(&mut batch, BATCH).await == 0 {
                return;
            }
            // A panic is the end of its batch alone, which is told that the server is busy.
            if AssertUnwindSafe(self.issue(batch)).catch_unwind().await.is_err() {
                tracing::error!("issuing tokens panicked");
            }
        }
    }

    /// Serves a batch in time. Whoever is not told anything, since it took too long, is told that the
    /// server is busy.
    async fn issue(&self, batch: Vec<Request>) {
        // What cannot be read for one, a damaged row, is not to keep the others from an answer.
        for request in self.serve_in_time(batch).await {
            // Who has gone meanwhile is not worth the time of those who wait.
            if !request.answer.is_closed() {
                self.serve_in_time(vec![request]).await;
            }
        }
    }

    async fn serve_in_time(&self, batch: Vec<Request>) -> Vec<Request> {
        let requests = batch.len();
        // Pinned where it is: it is large, and to be moved about costs as much as it does.
        timeout(PATIENCE, pin!(self.serve(batch))).await.unwrap_or_else(|_| {
            Failed::logged(&StoreError::timed_out().into(), requests);
            Vec::new()
        })
    }

    /// Decides about a batch, puts on record what is issued, and gives the requests that are to be
    /// served again, each alone.
    async fn serve(&self, batch: Vec<Request>) -> Vec<Request> {
        let requests = batch.len();
        let (done, outcome) = watch::channel(None);
        let (answers, pending) = match self.decide(&batch, &outcome).await {
            Ok(Decided { answers, pending }) => (answers, pending),
            Err(error) => return refused(batch, &error),
        };
        let (mut untold, mut held) = (Some((batch, answers)), Vec::new());
        // They are signed while this is put on record, and none is let go before. What a proof was used
        // for stands only when its use is on record, so such a refusal waits, too.
        let mut tell = |untold: &mut Option<Untold>| {
            let (batch, answers) = untold.take().unwrap_or_default();
            for (request, answer) in batch.into_iter().zip(answers) {
                if answer.is_err() && once(&request).next().is_some() {
                    held.push((request, answer));
                } else {
                    // Nobody may be waiting any more; the token goes on record all the same.
                    let _ = request.answer.send(answer);
                }
            }
        };
        let recorded = match pending {
            Some((tx, tokens)) => tx.record_and_commit(&tokens, || tell(&mut untold)).await.map_err(Failure::from),
            None => {
                tell(&mut untold);
                Ok(())
            }
        };
        if let (Err(error), Some((batch, _))) = (&recorded, untold) {
            return refused(batch, error);
        }
        let recorded = recorded.map_err(|error| Failed::logged(&error, requests));
        for (request, answer) in held {
            let answer = recorded.clone().map_err(|failed| ClientRefused::from(failed).into()).and(answer);
            let _ = request.answer.send(answer);
        }
        done.send_replace(Some(recorded));
        Vec::new()
    }

    /// Looks all clients up and decides, in the transaction that is to put on record what is issued.
    ///
    /// The client comes first (RFC 6749 §4.4.2): only for one that is proven and active is looked
    /// which APIs there are. So a stranger learns nothing of them, and an unknown id and a wrong
    /// secret stay the same work whatever they ask for (protocol 9).
    async fn decide(&self, batch: &[Request], outcome: &Outcome) -> Result<Decided, Failure> {
        // Once each, however many requests a client has among them.
        let asked: BTreeSet<&str> = batch.iter().map(|r| r.proof.client_id.as_str()).collect();
        let (mut tx, found) = self.store.issue_to(&asked.into_iter().collect::<Vec<_>>()).await?;
        let found: HashMap<&str, &PresentedClient> =
            found.iter().map(|c| (c.credential.client_id.as_str(), c)).collect();
        let now = self.clock.now();
        let judged: Vec<_> = batch
            .iter()
            .map(|r| self.judge(&r.proof, found.get(r.proof.client_id.as_str()).copied(), now))
            .collect();
        let proven = batch.iter().zip(&judged).filter(|(_, judged)| judged.is_ok());
        let named: BTreeSet<&str> = proven.filter_map(|(r, _)| self.other_api(&r.wish)).collect();
        let apis = tx.apis_named(&named.into_iter().collect::<Vec<_>>()).await?;
        // Who is refused needs no keys, and is not to wait longer for being unknown (protocol 9).
        let keys = match judged.iter().flatten().next() {
            Some(client) => self.signer.at(&mut tx, client.key_set).await?,
            None => self.signer.loaded(),
        };
        let apis: HashMap<&str, &Api> = apis.iter().map(|a| (a.settings.identifier.as_str(), a)).collect();
        // Only what the proven signed is remembered. Of several requests at once the first has it.
        let proven = batch.iter().zip(&judged).filter(|(_, judged)| judged.is_ok());
        let used: Vec<UsedProof> = proven.flat_map(|(r, _)| once(r)).collect();
        let mut unused = tx.use_proofs(&used).await?;
        let mut tokens = Vec::with_capacity(batch.len());
        let answers = batch
            .iter()
            .zip(judged)
            .map(|(request, judged)| {
                let client = judged?;
                for (proof, replayed) in [
                    (request.proof.used(), NotIssued::Client(ClientRefused::Replayed)),
                    (request.wish.bound.as_ref().map(|b| b.used), NotIssued::Proof(ProofRefused::Replayed)),
                ] {
                    if proof.is_some_and(|used| !unused.remove(&used.digest)) {
                        return Err(replayed);
                    }
                }
                let api = match self.other_api(&request.wish) {
                    None => &self.own,
                    Some(identifier) => apis.get(identifier).copied().ok_or(NotIssued::UnknownApi)?,
                };
                let (token, unsigned) = self.issued(request, (client, api), (&keys, outcome), now)?;
                tokens.push(token);
                Ok(unsigned)
            })
            .collect();
        let any = !tokens.is_empty() || !used.is_empty();
        Ok(Decided { answers, pending: any.then_some((tx, tokens)) })
    }

    /// The identifier that is to be looked up.
    fn other_api<'a>(&self, wish: &'a Wish) -> Option<&'a str> {
        wish.resource.as_deref().filter(|resource| *resource != self.own.settings.identifier)
    }

    /// The token that a proven client gets.
    fn issued(
        &self,
        request: &Request,
        (client, api): Proven<'_>,
        (keys, outcome): (&Arc<KeySet>, &Outcome),
        now: Timestamp,
    ) -> Result<(NewToken, Unsigned), NotIssued> {
        let identifier = &api.settings.identifier;
        let bound = request.wish.bound.as_ref();
        if !api.takes(bound.is_some()) {
            return Err(NotIssued::ProofNeeded(identifier.clone()));
        }
        let scope = api
            .grant(request.wish.scope.as_deref())
            .map_err(|_| NotIssued::UnknownScope { identifier: identifier.clone(), scopes: api.scope_names() })?;
        let credential = &client.credential;
        let expires_at = ends_at(now, api.lifespan(self.own_lifespan), credential.expires_at)
            .ok_or(ClientRefused::Dead(Standing::Expired(credential.expires_at)))?;
        let jti = self.clock.id();
        let token = NewToken {
            jti,
            credential: credential.id,
            api: api.id,
            issued_at: now,
            expires_at,
            ip: request.proof.origin.ip.clone(),
            user_agent: request.proof.origin.user_agent.clone(),
            method: request.proof.method(),
        };
        let (client_id, audience) = (credential.client_id.clone(), identifier.clone());
        let status_index = client.status_index;
        let cnf = bound.map(|bound| Confirmation { jkt: bound.jkt.clone() });
        let (algorithm, keys) = (api.settings.algorithm, Arc::clone(keys));
        let unsigned = Unsigned {
            jti,
            issued_at: now,
            expires_at,
            client_id,
            audience,
            status_index,
            scope,
            cnf,
            algorithm,
            keys,
            outcome: outcome.clone(),
        };
        Ok((token, unsigned))
    }
}

/// Tells all of a batch that the database failed; or gives them back, where it was a row of one of them.
fn refused(batch: Vec<Request>, error: &Failure) -> Vec<Request> {
    if matches!(error, Failure::Internal(_)) && batch.len() > 1 {
        return batch;
    }
    let failed = Failed::logged(error, batch.len());
    for request in batch {
        let _ = request.answer.send(Err(ClientRefused::from(failed.clone()).into()));
    }
    Vec::new()
}

/// What of a request counts once.
fn once(request: &Request) -> impl Iterator<Item = UsedProof> {
    request.proof.used().into_iter().chain(request.wish.bound.as_ref().map(|bound| bound.used))
}

impl App {
    /// Issues a token to a client (T-2): it is on record when this returns.
    ///
    /// # Errors
    /// [`NotIssued`]; a refused client is on record then, or counted among too many.
    pub async fn issue_token(&self, mut proof: ClientProof, wish: Wish) -> Result<Issued, NotIssued> {
        if proof.is_too_long() {
            return Err(Box::pin(self.refuse_client(&proof, ClientRefused::Unproven)).await.into());
        }
        self.check_signature(&mut proof).await.map_err(ClientRefused::Failed)?;
        let busy = || ClientRefused::Failed(Failure::Busy);
        let proof = Arc::new(proof);
        let (answer, answered) = oneshot::channel();
        let request = Request { proof: Arc::clone(&proof), wish, answer };
        self.issuer.queue.try_send(request).map_err(|_| busy())?;
        match answered.await.map_err(|_| busy())? {
            // Boxed, so that who is right does not carry room for it.
            Err(NotIssued::Client(refused)) => Err(Box::pin(self.refuse_client(&proof, refused)).await.into()),
            Err(refused) => Err(refused),
            Ok(mut unsigned) => {
                let issued = self.sign_token(&mut unsigned);
                let recorded = unsigned.outcome.wait_for(Option::is_some).await.map_err(|_| busy())?;
                let recorded = recorded.clone().unwrap_or(Err(Failed::Busy));
                recorded.map_err(ClientRefused::from)?;
                Ok(issued?)
            }
        }
    }

    /// Signs a token with all that it claims.
    fn sign_token(&self, unsigned: &mut Unsigned) -> Result<Issued, ClientRefused> {
        let client_id = unsigned.client_id.as_str();
        let claims = Claims {
            iss: self.signer.issuer().to_owned(),
            sub: client_id.to_owned(),
            client_id: client_id.to_owned(),
            aud: std::mem::take(&mut unsigned.audience),
            iat: unsigned.issued_at.as_second(),
            exp: unsigned.expires_at.as_second(),
            jti: unsigned.jti,
            scope: std::mem::take(&mut unsigned.scope),
            status: Some(self.status_claim(unsigned.status_index)),
            cnf: unsigned.cnf.take(),
        };
        let token = unsigned.keys.sign(unsigned.algorithm, &claims)?;
        Ok(Issued { token, claims })
    }
}
