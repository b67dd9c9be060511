//! The use-cases. Each opens one transaction, loads what the rule needs, asks the domain, writes
//! the outcome with its audit record, and commits. The doors (console, api, oauth) call these and
//! nothing below them.

pub mod accounts;
pub mod apis;
pub mod audit;
pub mod ceremonies;
pub mod changes;
pub mod client_keys;
pub mod credentials;
pub(crate) mod digests;
pub mod dpop;
pub mod federation;
pub(crate) mod first_factor;
pub mod hold;
pub mod housekeeping;
pub mod identities;
pub mod introspection;
pub mod keys;
pub mod letters;
pub mod mfa;
pub mod outbox;
pub mod passkeys;
pub mod passwords;
pub mod providers;
pub mod reads;
pub mod recorder;
pub mod recovery;
pub mod refusals;
pub mod second_factor;
pub mod sessions;
pub mod standing;
pub mod tokens;
pub mod turns;

use std::sync::Arc;

use portcullis_domain::{
    accounts::User,
    apis::ApiRefused,
    audit::{By, Entry, Event, Origin},
    credentials::CLIENT_ID_PREFIX,
    sessions::{Actor, Session},
};
use portcullis_store::{Purpose, Store};
use uuid::Uuid;

use crate::{
    app::{
        changes::{feed::Feed, list::Lists},
        digests::Digests,
        dpop::Nonces,
        federation::Federation,
        keys::{Maker, Signer},
        outbox::Outbox,
        passkeys::Passkeys,
        passwords::Passwords,
        reads::Reads,
        recorder::Recorder,
        refusals::Refusals,
        tokens::Issuer,
    },
    assets::Documents,
    clock::Clock,
    config::Config,
    error::Failure,
};

/// Everything a use-case needs. One per process.
pub struct App {
    /// The database.
    pub store: Store,
    /// This process among those on the same database.
    pub node: Uuid,
    /// Time, randomness, ids.
    pub clock: Clock,
    /// The configuration.
    pub config: Config,
    /// Argon2id, a bounded number at a time.
    pub passwords: Passwords,
    /// What makes and checks passkeys.
    pub passkeys: Passkeys,
    /// Signs and verifies access tokens.
    pub signer: Arc<Signer>,
    /// Makes signing keys.
    pub(crate) maker: Maker,
    /// How many refusals are recorded one by one.
    pub refusals: Refusals,
    /// Writes refusals to the audit log.
    pub recorder: Recorder,
    /// Wakes who sends mails, and knows how they leave.
    pub outbox: Outbox,
    /// Puts tokens on record, many at a time.
    pub issuer: Issuer,
    /// Asks the database for many requests at once.
    pub reads: Reads,
    /// Compares the secrets of APIs.
    api_secrets: Digests,
    /// The status list as it was served last.
    pub lists: Lists,
    /// The documents of discovery as they were served last.
    pub documents: Documents,
    /// Who follows what changes.
    pub feed: Arc<Feed>,
    /// Makes nonces for DPoP proofs.
    pub nonces: Nonces,
    /// What is remembered of sign-in providers.
    pub federation: Federation,
}

/// Who is asking, from where: read from the store for this request (C-3).
#[derive(Debug, Clone)]
pub struct Caller {
    /// The user, as the store has them now.
    pub user: User,
    /// Who is acting.
    pub actor: Actor,
    /// From where.
    pub origin: Origin,
    /// By what right the request came in.
    pub via: Via,
}

/// By what right a request came in.
#[derive(Debug, Clone)]
pub enum Via {
    /// A session, by its cookie.
    Session {
        /// The digest of the cookie's value.
        digest: [u8; 32],
        /// The session.
        session: Session,
    },
    /// An access token.
    Token {
        /// The Client ID it was issued to.
        client_id: String,
        /// What it may do, space separated.
        scope: String,
    },
}

impl Caller {
    /// The caller as an audit record names it.
    #[must_use]
    pub fn by(&self) -> By {
        match &self.via {
            Via::Session { .. } => By::User(self.user.id.to_string()),
            Via::Token { client_id, .. } => By::Client(client_id.clone()),
        }
    }

    /// Refuses callers that are not Super Admins at this moment (C-3).
    ///
    /// # Errors
    /// [`Failure::NotSuperAdmin`].
    pub fn super_admin(&self) -> Result<(), Failure> {
        if self.user.standing.is_super_admin() { Ok(()) } else { Err(Failure::NotSuperAdmin) }
    }

    /// Refuses tokens: a token is not the person (T-4).
    ///
    /// # Errors
    /// [`ApiRefused::ByToken`].
    pub fn in_session(&self) -> Result<(), Failure> {
        match &self.via {
            Via::Session { .. } => Ok(()),
            Via::Token { .. } => Err(ApiRefused::ByToken.into()),
        }
    }

    /// Refuses tokens without a scope (RFC 6750 §3.1). Sessions have every scope.
    ///
    /// # Errors
    /// [`Failure::InsufficientScope`].
    pub fn scope(&self, needed: &'static str) -> Result<(), Failure> {
        match &self.via {
            Via::Token { scope, .. } if !scope.split(' ').any(|s| s == needed) => {
                Err(Failure::InsufficientScope(needed))
            }
            _ => Ok(()),
        }
    }
}

impl App {
    /// Puts the parts together: makes the installation's name, the first signing key and the
    /// product's own API if there are none, and starts the issuer.
    ///
    /// # Errors
    /// When the database or the master keys fail.
    pub async fn start(store: Store, clock: Clock, config: Config) -> Result<Arc<Self>, Failure> {
        store.claim(clock.random(), clock.now()).await.map_err(|e| Failure::Internal(e.to_string()))?;
        hold::settle(&store, &clock).await?;
        let maker = Maker::new(&store, &clock, &config);
        maker.prepare().await?;
        let reads = Reads::start(store.clone());
        let signer = Signer::load(store.clone(), reads.clone(), clock.clone(), &config.public_url);
        let signer = Arc::new(signer.await?);
        let passkeys = Passkeys::of(&config.public_url, &config.organization)?;
        let passwords =
            Passwords::new().map_err(|e| Failure::Internal(format!("no thread for passwords: {e}")))?;
        let refusals = Refusals::new(clock.clone());
        let recorder = Recorder::start(store.clone());
        let own = apis::own_api(&store, &clock, &config.public_url).await?;
        let issuer =
            Issuer::start(Arc::clone(&signer), store.clone(), clock.clone(), own, config.token_lifespan_seconds);
        let api_secrets = Digests::new(&store, &clock, Purpose::ApiSecret);
        let nonces = Nonces::new(&store);
        let outbox = Outbox::new(&config)?;
        let feed = Feed::new(&config);
        let app = Arc::new(Self {
            store,
            node: clock.id(),
            clock,
            config,
            passwords,
            passkeys,
            signer,
            maker,
            refusals,
            recorder,
            outbox,
            issuer,
            reads,
            api_secrets,
            lists: Lists::default(),
            documents: Documents::default(),
            feed,
            nonces,
            federation: Federation::new(),
        });
        app.check_master_keys().await?;
        Ok(app)
    }

    /// Whether the database answers, with credentials, and the audit log can be written on. Without
    /// that nobody could revoke, so no node should be asked for tokens either (I6).
    ///
    /// # Errors
    /// When it does not.
    pub async fn ready(&self) -> Result<(), Failure> {
        self.store.read().await?.presented_clients(&[CLIENT_ID_PREFIX]).await?;
        self.store.check_audit_head().await?;
        // It refuses acts until it has put the database on hold (H-4).
        if self.store.lacks_what_was_noted().await? { Err(Failure::OnHold) } else { Ok(()) }
    }

    /// Records a refused attempt at something the caller has no right to (L-1), up to a rate.
    ///
    /// # Errors
    /// When the record could not be written.
    pub async fn record_access_refused(
        &self,
        caller: &Caller,
        what: &str,
        why: &'static str,
    ) -> Result<(), Failure> {
        if !self.refusals.is_to_be_recorded(&caller.origin, &caller.user.id.to_string()) {
            return Ok(());
        }
        let now = self.clock.now();
        let entry = Entry::done(now, caller.by(), &caller.origin, Event::AccessRefused, what).refused(why);
        self.recorder.record(entry).await
    }

    pub(crate) fn mac(&self, purpose: Purpose, message: &[u8]) -> [u8; 32] {
        self.store.digest_key(purpose).mac(message)
    }
}
