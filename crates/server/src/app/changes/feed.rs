//! The middle of the feed: while anybody follows, one task per node looks every few milliseconds
//! whether the audit log has grown, and the followers wake. A change on any node is found so.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use portcullis_domain::changes::Change;
use portcullis_store::{Store, StoreError};
use tokio::sync::{Semaphore, watch};

use crate::{app::changes::PAGE, config::Config, error::Failure};

/// How often is looked.
const EVERY: Duration = Duration::from_millis(25);
/// How long one look may take before it counts as failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);
/// How many changes are kept in memory. A follower that is further behind reads the log itself.
const KEPT: usize = 4096;

/// How many followers are told all that is not good at the same time; the others wait.
const SNAPSHOTS: usize = 2;

/// Who follows, and what there is to tell them.
pub struct Feed {
    state: Mutex<State>,
    looks: watch::Sender<Looks>,
    is_over: watch::Sender<bool>,
    /// Turns of those who are told all that is not good: it takes the database a while.
    pub(crate) snapshots: Semaphore,
    /// The most followers at once.
    places: usize,
}

#[derive(Default)]
struct State {
    followers: usize,
    is_looking: bool,
    recent: VecDeque<Arc<Change>>,
    /// The line of the log that all this is of.
    line: i64,
    /// `recent` has all changes after this record…
    from: i64,
    /// …and up to this one.
    head: i64,
}

/// What the task that looks has to say of itself.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Looks {
    /// How many looks have succeeded.
    pub(crate) succeeded: u64,
    /// The last record that the last one saw.
    pub(crate) head: i64,
    /// The line that it is of.
    pub(crate) line: i64,
}

/// A follower's place.
pub(crate) struct Place(Arc<Feed>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.state().followers -= 1;
    }
}

impl Feed {
    /// A feed that nobody follows yet. Followers take at most half of the server's connections.
    #[must_use]
    pub fn new(config: &Config) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            looks: watch::Sender::default(),
            is_over: watch::Sender::new(false),
            snapshots: Semaphore::new(SNAPSHOTS),
            places: config.limits.connections.div_ceil(2),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing is left half-way by a panic in it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends all followers and takes no others: the server stops.
    pub fn end(&self) {
        self.is_over.send_replace(true);
    }

    /// Resolves when the feed is over.
    pub(crate) async fn over(&self) {
        // The sender lives as long as this.
        let _ = self.is_over.subscribe().wait_for(|over| *over).await;
    }

    /// Takes a place for a follower, and sees that somebody looks.
    ///
    /// # Errors
    /// [`Failure::Busy`] when there is none left, or the server stops.
    pub(crate) fn enter(self: &Arc<Self>, store: &Store) -> Result<Place, Failure> {
        let mut state = self.state();
        if *self.is_over.borrow() || state.followers >= self.places {
            return Err(Failure::Busy);
        }
        state.followers += 1;
        if !state.is_looking {
            state.is_looking = true;
            tokio::spawn(Arc::clone(self).look(store.clone()));
        }
        Ok(Place(Arc::clone(self)))
    }

    /// Wakes whenever a look saw a record that the one before did not.
    pub(crate) fn looks(&self) -> watch::Receiver<Looks> {
        self.looks.subscribe()
    }

    /// The changes after a record of a line, and the last record that was looked at; `None` when they
    /// are not in memory.
    pub(crate) fn recent_after(&self, line: i64, seq: i64) -> Option<(Vec<Arc<Change>>, i64)> {
        let state = self.state();
        if state.line != line {
            return None;
        }
        if seq >= state.head {
            return Some((Vec::new(), seq));
        }
        if seq < state.from {
            return None;
        }
        let first = state.recent.partition_point(|change| change.seq <= seq);
        Some((state.recent.range(first..).cloned().collect(), state.head))
    }

    /// Looks until nobody follows any more.
    async fn look(self: Arc<Self>, store: Store) {
        let (mut at, mut is_failing) = (None, false);
        loop {
            {
                let mut state = self.state();
                if state.followers == 0 {
                    state.is_looking = false;
                    return;
                }
            }
            let looked = tokio::time::timeout(PATIENCE, self.look_once(&store, &mut at)).await;
            let failed = looked.unwrap_or_else(|_| Err(StoreError::timed_out())).err();
            if let Some(error) = failed.as_ref().filter(|_| !is_failing) {
                tracing::warn!(%error, "the feed of revocations cannot read the database");
            }
            is_failing = failed.is_some();
            tokio::time::sleep(EVERY).await;
        }
    }

    async fn look_once(&self, store: &Store, at: &mut Option<(i64, i64)>) -> Result<(), StoreError> {
        let mut tx = store.read().await?;
        loop {
            let page = match *at {
                Some((line, seq)) => tx.changes_after(line, seq, PAGE).await?.map(|page| (line, page)),
                None => None,
            };
            let Some((line, page)) = page else {
                // The beginning, or the log was dropped behind it, or it is another line: what was before
                // is in the log, or nobody can tell.
                let ends = tx.log_ends().await?;
                *at = Some((ends.line, ends.head));
                self.seen((ends.line, ends.head), None);
                return Ok(());
            };
            *at = Some((line, page.until));
            self.seen((line, page.until), Some(page.changes));
            if page.is_last {
                return Ok(());
            }
        }
    }

    /// Keeps what a look saw, and wakes the followers if it is anything new.
    fn seen(&self, (line, head): (i64, i64), changes: Option<Vec<Change>>) {
        {
            let mut state = self.state();
            (state.line, state.head) = (line, head);
            match changes {
                Some(changes) => state.recent.extend(changes.into_iter().map(Arc::new)),
                None => {
                    state.recent.clear();
                    state.from = head;
                }
            }
            while state.recent.len() > KEPT {
                if let Some(oldest) = state.recent.pop_front() {
                    state.from = oldest.seq;
                }
            }
        }
        self.looks.send_if_modified(|looks| {
            looks.succeeded += 1;
            let is_new = (looks.line, looks.head) != (line, head);
            (looks.line, looks.head) = (line, head);
            is_new
        });
    }
}
