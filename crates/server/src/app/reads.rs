//! What many requests ask the database at the same time, asked once for all of them.
//!
//! It is the reading half of the hot path ([`super::tokens`] is the writing one): introspection,
//! discovery and the status list read a few rows each. Questions gather while those before them are
//! being answered, and are never answered with what was read before they came (C-11): nothing is kept
//! from one turn to the next but the connection.

use std::{
    collections::{BTreeSet, HashMap},
    panic::AssertUnwindSafe,
    pin::pin,
    sync::Arc,
};

use futures_util::FutureExt;
use portcullis_domain::tokens::TokenTerms;
use portcullis_store::{PresentedClient, PresentedKey, Store, StoreError, Tx};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use crate::{app::tokens::PATIENCE, error::Failure};

/// The most questions that are answered together.
const TOGETHER: usize = 64;
/// The most questions that wait; beyond that the answer is "busy".
const QUEUE: usize = 4096;

/// Asks the database. Cheap to clone.
#[derive(Clone)]
pub struct Reads(mpsc::Sender<Question>);

/// Of what version things are, at one instant after the question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    /// Which line the audit log is of: a database that was on hold goes on in another.
    pub line: i64,
    /// The number of the last audit record.
    pub log: i64,
    /// The version of the key set, read after it.
    pub key_set: i64,
}

/// A token on record and the credential it was issued to with the facts of its owner: all that tells
/// whether it is active. What they say of that together is true of one instant after the question; what
/// each says need not be of the same.
#[derive(Debug, Clone)]
pub struct TokenOnRecord {
    /// The token.
    pub token: Arc<TokenTerms>,
    /// The credential and its owner.
    pub client: Arc<PresentedClient>,
}

type Answer<T> = oneshot::Sender<Result<T, Failure>>;

enum Question {
    Client(String, Answer<Option<Arc<PresentedClient>>>),
    Key(String, Answer<Option<Arc<PresentedKey>>>),
    /// By its id, and the Client ID that it claims.
    Token(Uuid, String, Answer<Option<TokenOnRecord>>),
    Versions(Answer<Option<Versions>>),
    KeySet(Answer<Option<i64>>),
}

/// What was read for the questions of one turn; shared by all who asked for the same.
#[derive(Default)]
struct Found {
    clients: HashMap<String, Arc<PresentedClient>>,
    keys: HashMap<String, Arc<PresentedKey>>,
    tokens: HashMap<Uuid, Arc<TokenTerms>>,
    versions: Option<Versions>,
    key_set: Option<i64>,
    /// Whether all but the version of the key set was refused: the database is on hold (H-1).
    is_on_hold: bool,
}

impl Found {
    /// One statement for each kind of row that the questions are about.
    async fn read(tx: &mut Tx, questions: &[Question]) -> Result<Self, StoreError> {
        let (mut clients, mut keys, mut tokens) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let (mut versions, mut key_set) = (false, false);
        for question in questions {
            match question {
                Question::Client(id, _) => drop(clients.insert(id.as_str())),
                Question::Key(id, _) => drop(keys.insert(id.as_str())),
                Question::Token(jti, id, _) => {
                    clients.insert(id.as_str());
                    tokens.insert(*jti);
                }
                Question::Versions(_) => versions = true,
                Question::KeySet(_) => key_set = true,
            }
        }
        let mut found = Self::default();
        let asked = (Vec::from_iter(clients), Vec::from_iter(keys), Vec::from_iter(tokens));
        match found.read_standing(tx, asked, versions).await {
            // Verifiers are told the key set all the same.
            Err(StoreError::OnHold) => found = Self { is_on_hold: true, ..Self::default() },
            read => read?,
        }
        if key_set {
            found.key_set = Some(tx.key_set_version().await?);
        }
        Ok(found)
    }

    /// What is not told on hold. The clients before the tokens, so that what they say together is true of
    /// one instant ([`Tx::tokens_on_record`]).
    async fn read_standing(
        &mut self,
        tx: &mut Tx,
        (clients, keys, tokens): (Vec<&str>, Vec<&str>, Vec<Uuid>),
        versions: bool,
    ) -> Result<(), StoreError> {
        for client in tx.presented_clients(&clients).await? {
            self.clients.insert(client.credential.client_id.as_str().to_owned(), Arc::new(client));
        }
        for key in tx.presented_keys(&keys).await? {
            self.keys.insert(key.key.id.as_str().to_owned(), Arc::new(key));
        }
        for token in tx.tokens_on_record(&tokens).await? {
            self.tokens.insert(token.jti, Arc::new(token));
        }
        if versions {
            let ends = tx.log_ends().await?;
            let key_set = tx.key_set_version().await?;
            self.versions = Some(Versions { line: ends.line, log: ends.head, key_set });
        }
        Ok(())
    }

    /// A token, if it was issued to the client with this id.
    fn token(&self, jti: Uuid, client_id: &str) -> Option<TokenOnRecord> {
        let (token, client) = (self.tokens.get(&jti)?, self.clients.get(client_id)?);
        let is_its = token.credential == client.credential.id;
        is_its.then(|| TokenOnRecord { token: Arc::clone(token), client: Arc::clone(client) })
    }

    /// What was read, unless it is not told.
    fn standing(&self) -> Result<&Self, &Failure> {
        if self.is_on_hold { Err(&Failure::OnHold) } else { Ok(self) }
    }
}

impl Question {
    /// Gives the answer. Whoever asked may be gone.
    fn answer(self, found: Result<&Found, &Failure>) {
        fn give<T>(answer: Answer<Option<T>>, found: Result<Option<T>, &Failure>) {
            let _ = answer.send(found.map_err(|failure| match failure {
                Failure::Internal(what) => Failure::Internal(what.clone()),
                Failure::OnHold => Failure::OnHold,
                _ => Failure::Busy,
            }));
        }
        let standing = found.and_then(Found::standing);
        match self {
            Self::Client(id, answer) => give(answer, standing.map(|f| f.clients.get(&id).cloned())),
            Self::Key(id, answer) => give(answer, standing.map(|f| f.keys.get(&id).cloned())),
            Self::Token(jti, id, answer) => give(answer, standing.map(|f| f.token(jti, &id))),
            Self::Versions(answer) => give(answer, standing.map(|f| f.versions)),
            Self::KeySet(answer) => give(answer, found.map(|f| f.key_set)),
        }
    }
}

impl Reads {
    /// Starts the task that asks. It ends when the database is closed, or nobody can ask any more.
    #[must_use]
    pub fn start(store: Store) -> Self {
        let (queue, mut waiting) = mpsc::channel::<Question>(QUEUE);
        tokio::spawn(async move {
            let mut kept = None;
            let mut questions = Vec::with_capacity(TOGETHER);
            loop {
                // Who closes the database waits for the connection.
                let asked = tokio::select! {
                    biased;
                    () = store.closing() => return,
                    asked = waiting.recv_many(&mut questions, TOGETHER) => asked,
                };
                if asked == 0 {
                    return;
                }
                let read = read_in_time(&store, &mut kept, &questions).await;
                // What cannot be read for one, a damaged row, is not to keep the others from an answer.
                let alone = questions.len() > 1 && matches!(read, Err(Failure::Internal(_)));
                for question in questions.drain(..) {
                    if alone {
                        let read = read_in_time(&store, &mut kept, std::slice::from_ref(&question)).await;
                        question.answer(read.as_ref());
                    } else {
                        question.answer(read.as_ref());
                    }
                }
            }
        });
        Self(queue)
    }

    async fn ask<T>(&self, question: impl FnOnce(Answer<T>) -> Question) -> Result<T, Failure> {
        let (answer, answered) = oneshot::channel();
        self.0.try_send(question(answer)).map_err(|_| Failure::Busy)?;
        answered.await.map_err(|_| Failure::Busy)?
    }

    /// The credential with this Client ID and the facts of its owner.
    ///
    /// # Errors
    /// The database's, or [`Failure::Busy`]; as all of these.
    pub async fn client(&self, id: &str) -> Result<Option<Arc<PresentedClient>>, Failure> {
        self.ask(|answer| Question::Client(id.to_owned(), answer)).await
    }

    /// The key of an API with this id, and the API.
    ///
    /// # Errors
    /// As [`Reads::client`].
    pub async fn key(&self, id: &str) -> Result<Option<Arc<PresentedKey>>, Failure> {
        self.ask(|answer| Question::Key(id.to_owned(), answer)).await
    }

    /// A token on record that was issued to the client with this id, with all that tells whether it is
    /// active.
    ///
    /// # Errors
    /// As [`Reads::client`].
    pub async fn token(&self, jti: Uuid, client_id: &str) -> Result<Option<TokenOnRecord>, Failure> {
        self.ask(|answer| Question::Token(jti, client_id.to_owned(), answer)).await
    }

    /// Which version of the key set is the latest. Told on hold, too: it is how tokens verify.
    ///
    /// # Errors
    /// As [`Reads::client`].
    pub async fn key_set(&self) -> Result<i64, Failure> {
        self.ask(Question::KeySet).await?.ok_or(Failure::Busy)
    }

    /// Which version of the key set is the latest, and how long the audit log is.
    ///
    /// # Errors
    /// As [`Reads::client`].
    pub async fn versions(&self) -> Result<Versions, Failure> {
        self.ask(Question::Versions).await?.ok_or(Failure::Busy)
    }
}

/// [`read`], or the failure of it, which is logged.
async fn read_in_time(store: &Store, kept: &mut Option<Tx>, questions: &[Question]) -> Result<Found, Failure> {
    let read = {
        // Pinned where it is, and not moved about.
        let reading = pin!(read(store, kept, questions));
        match tokio::time::timeout(PATIENCE, AssertUnwindSafe(reading).catch_unwind()).await {
            Ok(Ok(read)) => read.map_err(Failure::from),
            // The next questions are answered all the same.
            Ok(Err(_)) => Err(Failure::Internal("reading panicked".to_owned())),
            Err(_) => Err(StoreError::timed_out().into()),
        }
    };
    if let Err(failure) = &read {
        *kept = None;
        failure.log();
    }
    read
}

/// Reads on the connection that was kept, or on another one: the one before may be gone, and reading
/// twice does no harm.
async fn read(store: &Store, kept: &mut Option<Tx>, questions: &[Question]) -> Result<Found, StoreError> {
    if let Some(mut tx) = kept.take()
        && let Ok(found) = Found::read(&mut tx, questions).await
    {
        *kept = Some(tx);
        return Ok(found);
    }
    let mut tx = store.read().await?;
    let found = Found::read(&mut tx, questions).await?;
    *kept = Some(tx);
    Ok(found)
}
