//! What a verifier knows, shared by those who ask and those who keep it fresh.

use std::{
    sync::{Mutex, PoisonError, RwLock},
    time::{Duration, Instant},
};

use tokio::sync::Notify;
use url::Url;

use crate::{
    clock,
    error::{Challenges, Error, Scheme, Unavailable},
    fetch::{Flight, Http},
    keys::Keys,
    knowledge::{Knowledge, List, NotGood, WhenStale, keep_revoked},
    list,
    replay::Replay,
    token::{AccessToken, Policy},
};

/// The least time between two fetches of the list.
const GAP: Duration = Duration::from_millis(100);

/// What the caller chose.
pub(crate) struct Choices {
    pub(crate) when_stale: WhenStale,
    pub(crate) poll_every: Duration,
    pub(crate) refresh_keys_every: Duration,
    pub(crate) requires_dpop: bool,
    /// How old a proof may be, in seconds.
    pub(crate) dpop_window: i64,
    /// The URL under which clients know the API, without a slash at the end.
    pub(crate) public_url: Option<String>,
    pub(crate) challenges: Challenges,
}

pub(crate) struct State {
    pub(crate) policy: Policy,
    pub(crate) choices: Choices,
    pub(crate) http: Http,
    pub(crate) keys: Keys,
    pub(crate) replay: Mutex<Replay>,
    status_url: Url,
    knowledge: RwLock<Knowledge>,
    /// The tag of the list that is known, and when its signature ends.
    tag: Mutex<Option<(String, i64)>>,
    list_flight: Flight,
    feed_lost: Notify,
    /// Told at each hello of the feed.
    pub(crate) hello: Notify,
}

impl State {
    pub(crate) fn new(
        policy: Policy,
        choices: Choices,
        http: Http,
        keys: Keys,
        status_url: Url,
        capacity: usize,
    ) -> Self {
        Self {
            list_flight: Flight::new(GAP.min(choices.poll_every)),
            policy,
            choices,
            http,
            keys,
            replay: Mutex::new(Replay::new(capacity)),
            status_url,
            knowledge: RwLock::default(),
            tag: Mutex::default(),
            feed_lost: Notify::new(),
            hello: Notify::new(),
        }
    }

    /// Whether the feed is live.
    pub(crate) fn feed_is_live(&self) -> bool {
        self.known(|knowledge| knowledge.is_live(clock::instant()))
    }

    /// Changes what is known; the lock is held for as long as a map takes.
    pub(crate) fn know<T>(&self, change: impl FnOnce(&mut Knowledge) -> T) -> T {
        change(&mut self.knowledge.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Looks at what is known.
    pub(crate) fn known<T>(&self, look: impl FnOnce(&Knowledge) -> T) -> T {
        look(&self.knowledge.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The feed ended: the list is asked for at once.
    pub(crate) fn lose_feed(&self) {
        self.know(Knowledge::lose_feed);
        self.feed_lost.notify_one();
    }

    /// Whether a token is good, as far as revocation goes. Asks the server only for a credential that is
    /// newer than the list.
    pub(crate) async fn judge(&self, token: &AccessToken, scheme: Scheme) -> Result<(), Error> {
        let asked = clock::instant();
        if let WhenStale::RefuseAfter(longest) = self.choices.when_stale
            && self.keys.due_for(asked).is_some_and(|due| due > longest)
        {
            return Err(Unavailable::Keys.into());
        }
        let judge = || {
            let now = clock::instant();
            self.known(|knowledge| knowledge.judge(token.idx, token.id(), self.choices.when_stale, now))
        };
        match judge() {
            Ok(()) => Ok(()),
            Err(NotGood::OutOfList) => {
                if self.list_flight.after_for_strangers(asked, |began| self.replace_list(began)).await {
                    judge().map_err(|why| Error::from_judgement(scheme, why))
                } else {
                    Err(Unavailable::List.into())
                }
            }
            Err(why) => Err(Error::from_judgement(scheme, why)),
        }
    }

    /// Asks for the list for ever, while the feed is not live.
    pub(crate) async fn poll_list(&self) {
        loop {
            if self.feed_is_live() {
                // Also from time to time, should the feed fall silent without an end.
                let _ = tokio::time::timeout(Duration::from_secs(1), self.feed_lost.notified()).await;
                continue;
            }
            self.refresh_list().await;
            let _ = tokio::time::timeout(self.choices.poll_every, self.feed_lost.notified()).await;
        }
    }

    /// Asks for the list now; says whether it came.
    pub(crate) async fn refresh_list(&self) -> bool {
        self.list_flight.after(clock::instant(), |began| self.replace_list(began)).await
    }

    async fn replace_list(&self, began: Instant) -> bool {
        match self.fetch_list(began).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(error, "the status list cannot be had");
                false
            }
        }
    }

    async fn fetch_list(&self, began: Instant) -> Result<(), String> {
        // Once the signature of what is known has ended, it has to come signed anew.
        let tag = self.tag.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let tag = tag.filter(|(_, expires_at)| *expires_at > clock::unix()).map(|(tag, _)| tag);
        let document = self.http.get(&self.status_url, list::LONGEST, tag.as_deref()).await;
        let Some(document) = document.map_err(|error| error.to_string())? else {
            let confirmed = self.known(|knowledge| knowledge.list().cloned());
            let confirmed = confirmed.ok_or("it was not known")?;
            self.know(|knowledge| knowledge.take_list(List { began, ..confirmed }));
            return Ok(());
        };
        let text = String::from_utf8(document.body).map_err(|_| "it is not a token")?;
        let read = self.read_list(&text).await?;
        let before = self.known(|knowledge| knowledge.list().map(|list| list.values.clone()));
        let values = match before {
            Some(before) => keep_revoked(&before, read.values),
            None => read.values,
        };
        self.know(|knowledge| knowledge.take_list(List { values: values.into(), began }));
        *self.tag.lock().unwrap_or_else(PoisonError::into_inner) =
            document.etag.map(|etag| (etag, read.expires_at));
        Ok(())
    }

    async fn read_list(&self, text: &str) -> Result<list::Read, String> {
        let jws = list::parse(text).map_err(|error| error.to_string())?;
        let kid = jws.kid().ok_or("it names no key")?;
        let key = self.keys.get_for_document(kid).await.map_err(|error| error.to_string())?;
        let claims = jws.verify(&key.ok_or("its key is not published")?).map_err(|error| error.to_string())?;
        let Policy { issuer, status_uri, leeway, .. } = &self.policy;
        list::check(&claims, issuer, status_uri, clock::unix(), *leeway).map_err(|error| error.to_string())
    }
}
