//! The key set of the server (RFC 7517 §5), kept fresh.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::{ArcSwap, ArcSwapOption};
use serde_json::Value;
use tokio::sync::Notify;
use url::Url;

use crate::{
    clock,
    error::Unavailable,
    fetch::{FetchError, Flight, Http},
    json,
    jwk::PublicJwk,
};

/// The most bytes and keys of a key set.
const LONGEST: usize = 256 * 1024;
const MOST_KEYS: usize = 256;

/// The least time between two fetches, whatever tokens ask for: four fetches a second.
const GAP: Duration = Duration::from_millis(250);

/// How long to wait after a fetch that failed.
const AGAIN: Duration = Duration::from_secs(1);

/// How often the set is fetched while nobody would tell that it changed.
const UNTOLD: Duration = Duration::from_secs(5);

pub(crate) type KeySet = HashMap<String, PublicJwk>;

/// The keys that are known, by their `kid`.
pub(crate) struct Keys {
    url: Url,
    http: Http,
    known: ArcSwap<KeySet>,
    flight: Flight,
    /// Told when the set has to be fetched now.
    wanted: Notify,
    /// Since when the set that is known may not be the one that is published: the feed said that it
    /// changed, or a fetch failed.
    due: ArcSwapOption<Instant>,
}

impl Keys {
    /// Fetches the key set for the first time.
    pub(crate) async fn fetch(url: Url, http: Http) -> Result<Self, FetchError> {
        let known = ArcSwap::from_pointee(get(&url, &http).await?);
        Ok(Self { url, http, known, flight: Flight::new(GAP), wanted: Notify::new(), due: ArcSwapOption::empty() })
    }

    /// The key of this id that a stranger's token names. A known one costs neither a lock nor I/O. For an
    /// unknown one the set is fetched anew, once for all who wait. `None` if it is not in that set either.
    pub(crate) async fn get(&self, kid: &str) -> Result<Option<PublicJwk>, Unavailable> {
        if let Some(key) = self.known.load().get(kid) {
            return Ok(Some(key.clone()));
        }
        let is_fetched = self.flight.after_for_strangers(clock::instant(), |_| self.replace()).await;
        self.after_fetch(kid, is_fetched)
    }

    /// The same for a document of the server itself, which does not stand in line behind strangers.
    pub(crate) async fn get_for_document(&self, kid: &str) -> Result<Option<PublicJwk>, Unavailable> {
        if let Some(key) = self.known.load().get(kid) {
            return Ok(Some(key.clone()));
        }
        let is_fetched = self.flight.after(clock::instant(), |_| self.replace()).await;
        self.after_fetch(kid, is_fetched)
    }

    fn after_fetch(&self, kid: &str, is_fetched: bool) -> Result<Option<PublicJwk>, Unavailable> {
        let key = self.known.load().get(kid).cloned();
        if key.is_some() || is_fetched { Ok(key) } else { Err(Unavailable::Keys) }
    }

    /// For how long the set that is known may not have been the one that is published.
    pub(crate) fn due_for(&self, now: Instant) -> Option<Duration> {
        self.due.load().as_deref().map(|since| now.saturating_duration_since(*since))
    }

    /// How many keys are known.
    pub(crate) fn len(&self) -> usize {
        self.known.load().len()
    }

    /// The feed said that the key set changed.
    pub(crate) fn change(&self) {
        self.fall_due(clock::instant());
        self.want();
    }

    /// The set may have changed, and has to be fetched now.
    pub(crate) fn want(&self) {
        self.wanted.notify_one();
    }

    fn fall_due(&self, since: Instant) {
        let since = Arc::new(since);
        self.due.rcu(|due| due.clone().or_else(|| Some(Arc::clone(&since))));
    }

    /// Fetches the key set when it is wanted, and at least so often; and every few seconds while the feed is
    /// not live, because then nobody says that a key was withdrawn.
    pub(crate) async fn keep_fresh(&self, every: Duration, feed_is_live: impl Fn() -> bool) {
        let (mut asked, mut wait) = (clock::instant(), every);
        loop {
            let left = wait.saturating_sub(clock::instant().saturating_duration_since(asked));
            let is_wanted = tokio::time::timeout(left.min(UNTOLD), self.wanted.notified()).await.is_ok();
            let now = clock::instant();
            let longest = if feed_is_live() { wait } else { wait.min(UNTOLD) };
            if !is_wanted && now.saturating_duration_since(asked) < longest {
                continue;
            }
            asked = now;
            if self.flight.after(now, |_| self.replace()).await {
                // What was said to have changed since is still to be fetched.
                self.due.rcu(|due| due.clone().filter(|since| **since > now));
                wait = clock::jitter(every);
            } else {
                self.fall_due(now);
                wait = clock::jitter(AGAIN);
            }
        }
    }

    /// Fetches the set and puts it in the place of the one that is known; a failure keeps that one.
    async fn replace(&self) -> bool {
        match get(&self.url, &self.http).await {
            Ok(set) => {
                self.known.store(Arc::new(set));
                true
            }
            Err(error) => {
                tracing::warn!(%error, "the key set cannot be fetched; the one that is known stays");
                false
            }
        }
    }
}

async fn get(url: &Url, http: &Http) -> Result<KeySet, FetchError> {
    let document = http.get(url, LONGEST, None).await?;
    let body = document.map(|document| document.body).unwrap_or_default();
    parse(&body).ok_or_else(|| FetchError::new(url, "it is not a key set"))
}

/// Reads a key set. A key that cannot be used here is left out, as RFC 7517 §5 asks; two of the same
/// `kid` make the set one that means two things.
fn parse(body: &[u8]) -> Option<KeySet> {
    let set = json::object(body).ok()?;
    let keys = set.get("keys").and_then(Value::as_array).filter(|keys| keys.len() <= MOST_KEYS)?;
    let mut known = KeySet::new();
    for members in keys {
        let Ok(key) = PublicJwk::from_members(members.as_object()?) else { continue };
        let Some(kid) = key.kid().map(ToOwned::to_owned) else { continue };
        if known.insert(kid, key).is_some() {
            return None;
        }
    }
    (!known.is_empty()).then_some(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = r#""kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo""#;

    fn ids(keys: &str) -> Option<Vec<String>> {
        let mut ids: Vec<_> = parse(format!(r#"{{"keys":[{keys}]}}"#).as_bytes())?.into_keys().collect();
        ids.sort();
        Some(ids)
    }

    #[test]
    fn what_can_be_used_is_taken_and_the_rest_left_out() {
        let other = r#"{"kty":"EC","crv":"P-521","kid":"c","x":"AA","y":"AA"}"#;
        let encryption = format!(r#"{{{KEY},"kid":"d","use":"enc"}}"#);
        let without_kid = format!("{{{KEY}}}");
        let good = format!(r#"{{{KEY},"kid":"a"}},{{{KEY},"kid":"b","use":"sig"}}"#);
        let all = format!("{good},{other},{encryption},{without_kid}");
        assert_eq!(ids(&all).unwrap(), ["a", "b"]);
    }

    #[test]
    fn what_is_no_key_set_or_means_two_things_is_refused() {
        let key = format!(r#"{{{KEY},"kid":"a"}}"#);
        for keys in [String::new(), "1".into(), format!("{key},{key}"), vec![key.as_str(); 257].join(",")] {
            assert_eq!(ids(&keys), None, "{keys}");
        }
        for body in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[],"keys":[]}"#] {
            assert!(parse(body.as_bytes()).is_none(), "{body}");
        }
    }
}
