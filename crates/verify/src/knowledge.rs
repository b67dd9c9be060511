//! What is known of revocations, and what follows from it for a token. Pure: instants are passed in.
//!
//! Two sources tell: the feed, and the status list. While the feed is live it rules. While it is not,
//! the list rules over credentials, if it was asked for after the last event of the feed; if it was
//! asked for earlier, what either calls not good is not good. Revocation is final.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

/// The feed is live only if something came within this time: the server sends a line every 2 s.
pub(crate) const SILENCE: Duration = Duration::from_secs(6);

/// What to do with tokens while neither the feed nor the status list can be had. There is no default:
/// either your API stops when it cannot ask, or it takes tokens that may have been revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenStale {
    /// Refuse every token (503) when what is known is older than this. Whatever happens to the network, a
    /// revocation is then acted on after this time, or after 6 seconds if that is more: for so long a
    /// feed that falls silent counts as live. The same goes for keys that cannot be fetched anew.
    ///
    /// The status list counts as knowledge, and it is about credentials. While it answers and the feed
    /// does not, or without an API's key, nothing is refused for being too old, and the revocation of a
    /// single token is not known here: such a token works until the feed is back, or until it expires.
    RefuseAfter(Duration),
    /// Go on with what was known last, until tokens expire. Your API outlives the Portcullis server,
    /// and a token that is revoked meanwhile works until it expires.
    GoOnUntilExpiry,
}

/// A credential that is not good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Suspended,
    Revoked,
}

/// What the feed says, one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    /// Everything that is not good follows: what was known before is not to be relied on.
    Reset,
    /// A credential changed; `None` is active.
    Credential { idx: u64, standing: Option<Standing> },
    /// One token was revoked by itself; when it expires, in seconds since the epoch.
    Token { jti: String, exp: i64 },
    /// From here on everything up to now is known.
    Hello,
    /// Anything else.
    Other,
}

/// A status list: two bits a credential, four credentials a byte, from the lowest bits up.
#[derive(Debug, Clone)]
pub(crate) struct List {
    pub(crate) values: Arc<[u8]>,
    /// When the request began that it, or its confirmation, is the answer to.
    pub(crate) began: Instant,
}

impl List {
    /// The value of a credential; `None` beyond the end.
    fn get(&self, idx: u64) -> Option<u8> {
        let byte = self.values.get(usize::try_from(idx / 4).ok()?)?;
        Some(byte >> ((idx % 4) * 2) & 0b11)
    }
}

/// Why a token is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotGood {
    Revoked,
    Suspended,
    /// Its credential is beyond the end of the list.
    OutOfList,
    /// What is known is too old.
    Stale,
}

#[derive(Debug, Clone, Default)]
struct Tales {
    credentials: HashMap<u64, Standing>,
    tokens: HashMap<String, i64>,
    /// When there are so many tokens, those that have long expired are forgotten.
    prune_at: usize,
}

impl Tales {
    fn take(&mut self, told: &Told, unix: i64) {
        match told {
            Told::Credential { idx, standing } => match standing {
                Some(standing) => {
                    let known = self.credentials.entry(*idx).or_insert(*standing);
                    if *known != Standing::Revoked {
                        *known = *standing;
                    }
                }
                None => {
                    if self.credentials.get(idx) == Some(&Standing::Suspended) {
                        self.credentials.remove(idx);
                    }
                }
            },
            Told::Token { jti, exp } => {
                if self.tokens.len() >= self.prune_at {
                    self.prune(unix);
                }
                self.tokens.insert(jti.clone(), *exp);
            }
            Told::Reset | Told::Hello | Told::Other => {}
        }
    }

    /// Forgets tokens that have long expired; next when there are twice as many, so that it costs little.
    fn prune(&mut self, unix: i64) {
        self.tokens.retain(|_, exp| *exp >= unix - LEEWAY);
        self.prune_at = MANY.max(self.tokens.len() * 2);
    }
}

/// What is known.
#[derive(Debug, Default)]
pub(crate) struct Knowledge {
    tales: Tales,
    /// What the feed has told since it began anew; it takes the place of `tales` at the hello.
    anew: Option<Tales>,
    is_live: bool,
    /// When the feed was last heard while it was live.
    heard: Option<Instant>,
    last_event: Option<Instant>,
    list: Option<List>,
}

impl Knowledge {
    /// The feed begins without resuming: everything that is not good now follows.
    pub(crate) fn begin_anew(&mut self) {
        self.anew = Some(Tales::default());
    }

    /// Something came from the feed, be it only a comment.
    pub(crate) fn hear(&mut self, now: Instant) {
        if self.is_live {
            self.heard = Some(now);
        }
    }

    /// An event came. Until the hello, what was known stays known beside what follows a reset.
    pub(crate) fn take(&mut self, told: &Told, now: Instant, unix: i64) {
        self.last_event = Some(now);
        match told {
            Told::Reset => {
                self.is_live = false;
                self.begin_anew();
            }
            Told::Hello => {
                if let Some(anew) = self.anew.take() {
                    self.tales = anew;
                }
                self.tales.prune(unix);
                self.is_live = true;
                self.heard = Some(now);
            }
            _ => {
                self.tales.take(told, unix);
                if let Some(anew) = &mut self.anew {
                    anew.take(told, unix);
                }
            }
        }
    }

    /// The feed ended.
    pub(crate) fn lose_feed(&mut self) {
        self.is_live = false;
        self.anew = None;
    }

    /// A list came, or the one that is known was confirmed.
    pub(crate) fn take_list(&mut self, list: List) {
        self.list = Some(list);
    }

    /// The list that is known.
    pub(crate) fn list(&self) -> Option<&List> {
        self.list.as_ref()
    }

    /// Whether the feed is live.
    pub(crate) fn is_live(&self, now: Instant) -> bool {
        self.is_live && self.heard.is_some_and(|heard| now.saturating_duration_since(heard) < SILENCE)
    }

    /// How old what is known is. `None` when nothing is.
    pub(crate) fn age(&self, now: Instant) -> Option<Duration> {
        let latest = self.heard.max(self.list.as_ref().map(|list| list.began))?;
        Some(now.saturating_duration_since(latest))
    }

    /// Whether a token is good, as far as revocation goes.
    pub(crate) fn judge(&self, idx: u64, jti: &str, when: WhenStale, now: Instant) -> Result<(), NotGood> {
        let told = self.tales.credentials.get(&idx).copied();
        if self.tales.tokens.contains_key(jti) || told == Some(Standing::Revoked) {
            return Err(NotGood::Revoked);
        }
        let told_suspended = told == Some(Standing::Suspended);
        if self.is_live(now) {
            return if told_suspended { Err(NotGood::Suspended) } else { Ok(()) };
        }
        let Some(age) = self.age(now) else { return Err(NotGood::Stale) };
        let listed = self.list.as_ref().map(|list| list.get(idx));
        match listed {
            Some(Some(1)) => return Err(NotGood::Revoked),
            // 3 has no meaning yet (Token Status List §7.1): whatever it will mean, it is not valid.
            Some(Some(2 | 3)) => return Err(NotGood::Suspended),
            _ => {}
        }
        let list_rules = self.list.as_ref().is_some_and(|list| self.last_event.is_none_or(|at| list.began > at));
        if told_suspended && !list_rules {
            return Err(NotGood::Suspended);
        }
        if matches!(when, WhenStale::RefuseAfter(longest) if age > longest) {
            return Err(NotGood::Stale);
        }
        if listed == Some(None) { Err(NotGood::OutOfList) } else { Ok(()) }
    }
}

/// For how long after its end a token is still remembered as revoked, in seconds: more than any leeway.
const LEEWAY: i64 = 600;

/// So many revoked tokens are remembered without a look at whether they have expired.
const MANY: usize = 1024;

/// The values of a list in which what the list before called revoked stays revoked.
pub(crate) fn keep_revoked(before: &[u8], mut values: Vec<u8>) -> Vec<u8> {
    for (value, before) in values.iter_mut().zip(before) {
        for shift in [0, 2, 4, 6] {
            if before >> shift & 0b11 == 1 {
                *value = *value & !(0b11 << shift) | 1 << shift;
            }
        }
    }
    values
}

#[cfg(test)]
#[path = "knowledge_tests.rs"]
mod tests;
