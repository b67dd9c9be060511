//! One follower of the feed: what it has to be told first, then what happens, until it goes, its key
//! ends, the truth cannot be read, or the server stops.

use std::{fmt::Write, sync::Arc, time::Duration};

use axum::body::Bytes;
use portcullis_domain::changes::{Change, Changed, TokenStatus, begins_to_matter, to_be_told};
use portcullis_store::{PresentedKey, Tx};
use serde_json::json;
use tokio::{
    sync::{mpsc, watch},
    time::{MissedTickBehavior, interval, timeout},
};
use uuid::Uuid;

use crate::{
    app::{
        App,
        changes::{
            PAGE,
            feed::{Looks, PATIENCE, Place},
        },
    },
    error::Failure,
};

/// After so many seconds a follower is told that it is still connected, if that is so.
const KEEP_ALIVE: u32 = 2;
/// After so many seconds in which that could not be said the stream ends.
const GIVE_UP: u32 = 8;
/// How long a follower may leave unread what was sent to it.
const UNREAD: Duration = Duration::from_secs(10);

/// Where a follower begins.
enum Beginning {
    /// With all that is not good now.
    Snapshot,
    /// The same, and it forgets what it knew.
    Reset,
    /// After what it knows already.
    Resumed,
}

/// Why a stream ends.
enum Ended {
    /// The follower has gone, or does not read.
    Gone,
    /// Its key ended, or its API was removed.
    NotAllowed,
    /// The database did not answer, or the log was dropped behind it.
    Unread,
}

impl<E: Into<Failure>> From<E> for Ended {
    fn from(error: E) -> Self {
        let failure: Failure = error.into();
        tracing::debug!(%failure, "a stream of revocations ends");
        Self::Unread
    }
}

struct Follower {
    app: Arc<App>,
    key: Arc<PresentedKey>,
    looks: watch::Receiver<Looks>,
    frames: mpsc::Sender<Bytes>,
    /// The line of the log that its numbers are of.
    line: i64,
    /// The record up to which it was told all.
    at: i64,
    /// Seconds since it was told that it is still connected.
    silent_for: u32,
    succeeded: u64,
    _place: Place,
}

impl App {
    /// Begins to tell an API what changes: the parts of an event stream, one after the other, until it
    /// ends. `last_id` is the last number that it was told; `held` is let go at the end, which the
    /// other end may be slow to see.
    ///
    /// # Errors
    /// When there are too many who follow, and the database's.
    pub async fn follow(
        self: &Arc<Self>,
        key: Arc<PresentedKey>,
        last_id: Option<&str>,
        held: impl Send + 'static,
    ) -> Result<mpsc::Receiver<Bytes>, Failure> {
        let place = self.feed.enter(&self.store)?;
        // First this, then the log is read: what is recorded in between is in both, not in neither.
        let looks = self.feed.looks();
        let ends = self.store.read().await?.log_ends().await?;
        let known = last_id.map(|id| {
            number(id).filter(|(line, seq)| *line == ends.line && (ends.trimmed..=ends.head).contains(seq))
        });
        let (beginning, at) = match known {
            None => (Beginning::Snapshot, ends.head),
            Some(None) => (Beginning::Reset, ends.head),
            Some(Some((_, seq))) => (Beginning::Resumed, seq),
        };
        let (frames, stream) = mpsc::channel(1);
        let app = Arc::clone(self);
        let line = ends.line;
        let follower = Follower { app, key, looks, frames, line, at, silent_for: 0, succeeded: 0, _place: place };
        tokio::spawn(async move {
            follower.run(beginning).await;
            drop(held);
        });
        Ok(stream)
    }
}

impl Follower {
    async fn run(mut self, beginning: Beginning) {
        let (app, frames) = (Arc::clone(&self.app), self.frames.clone());
        tokio::select! {
            () = app.feed.over() => {}
            () = frames.closed() => {}
            Err(why) = self.tell(beginning) => match why {
                Ended::NotAllowed => tracing::debug!("a stream of revocations ends with its key"),
                Ended::Unread => tracing::warn!("a stream of revocations ended: the audit log could not be read"),
                Ended::Gone => {}
            },
        }
    }

    async fn tell(&mut self, beginning: Beginning) -> Result<(), Ended> {
        match beginning {
            Beginning::Snapshot => self.tell_snapshot().await?,
            Beginning::Reset => {
                self.send("event: reset\ndata: {}\n\n".to_owned()).await?;
                self.tell_snapshot().await?;
            }
            Beginning::Resumed => {}
        }
        // After a snapshot, too: what was recorded while it was read comes in its order, before the hello.
        self.tell_from_log().await?;
        let hello = event("hello", Some((self.line, self.at)), &json!({ "at": self.app.clock.now().as_second() }));
        self.send(hello).await?;
        let mut seconds = interval(Duration::from_secs(1));
        seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                changed = self.looks.changed() => {
                    changed.map_err(|_| Ended::Gone)?;
                    self.tell_recent().await?;
                }
                _ = seconds.tick() => self.second_passed().await?,
            }
        }
    }

    /// All that is not good now. What is recorded while it is read is told again afterwards.
    async fn tell_snapshot(&mut self) -> Result<(), Ended> {
        let app = Arc::clone(&self.app);
        let _turn = app.feed.snapshots.acquire().await.map_err(|_| Ended::Gone)?;
        let now = self.app.clock.now();
        let (mut after, mut is_last) = (0, false);
        while !is_last {
            let clients = self.read().await?.credentials_after(after, begins_to_matter(now), PAGE).await?;
            is_last = clients.len() < PAGE as usize;
            after = clients.last().map_or(after, |client| client.status_index);
            let told = clients.iter().filter_map(|client| {
                let standing = client.credential.standing(&client.owner, now);
                let (status, since) = to_be_told(standing, now)?;
                let client_id = client.credential.client_id.as_str();
                Some(credential_event(None, client_id, client.status_index, status, since.as_second()))
            });
            self.send(told.collect()).await?;
        }
        let mut after = Uuid::nil();
        loop {
            let tokens = self.read().await?.revoked_tokens(self.key.api.id, now, after, PAGE).await?;
            let Some(last) = tokens.last() else { return Ok(()) };
            after = last.jti;
            let events =
                tokens.iter().map(|t| token_event(None, t.jti, t.ends_at.as_second(), t.revoked_at.as_second()));
            self.send(events.collect()).await?;
        }
    }

    /// What was recorded after what it knows, from the log.
    async fn tell_from_log(&mut self) -> Result<(), Ended> {
        loop {
            let page = self.read().await?.changes_after(self.line, self.at, PAGE).await?.ok_or(Ended::Unread)?;
            self.send(self.events(page.changes.iter())).await?;
            self.at = page.until;
            if page.is_last {
                return Ok(());
            }
        }
    }

    /// The same from memory, if it is there.
    async fn tell_recent(&mut self) -> Result<(), Ended> {
        let Some((changes, head)) = self.app.feed.recent_after(self.line, self.at) else {
            return self.tell_from_log().await;
        };
        self.send(self.events(changes.iter().map(Arc::as_ref))).await?;
        self.at = head;
        Ok(())
    }

    fn events<'a>(&self, changes: impl Iterator<Item = &'a Change>) -> String {
        changes
            .filter(|change| change.what.concerns(self.key.api.id))
            .map(|change| change_event(self.line, change))
            .collect()
    }

    /// Says that it is still connected, when it is time and the truth was read: the log by who looks,
    /// the key here.
    async fn second_passed(&mut self) -> Result<(), Ended> {
        self.silent_for += 1;
        let Looks { succeeded, head, line } = *self.looks.borrow();
        let is_looked = std::mem::replace(&mut self.succeeded, succeeded) != succeeded;
        if is_looked && self.silent_for > 1 && (line != self.line || head < self.at) {
            // The log is another one, or shorter than what was told from it: that of a copy.
            return Err(Ended::Unread);
        }
        if is_looked && self.silent_for >= KEEP_ALIVE {
            match timeout(PATIENCE, self.is_allowed()).await {
                Ok(Ok(true)) => {
                    self.send(": \n\n".to_owned()).await?;
                    self.silent_for = 0;
                }
                Ok(Ok(false)) => return Err(Ended::NotAllowed),
                Ok(Err(failure)) => tracing::debug!(%failure, "the key of a follower could not be read"),
                Err(_) => tracing::debug!("the key of a follower could not be read in time"),
            }
        }
        if self.silent_for >= GIVE_UP { Err(Ended::Unread) } else { Ok(()) }
    }

    /// Whether its key is still a key of its API.
    async fn is_allowed(&self) -> Result<bool, Failure> {
        let found = self.read().await?.presented_key(self.key.key.id.as_str()).await?;
        let now = self.app.clock.now();
        Ok(found.is_some_and(|p| p.api.id == self.key.api.id && p.key.is_valid(now)))
    }

    async fn read(&self) -> Result<Tx, Failure> {
        Ok(self.app.store.read().await?)
    }

    /// Sends a part of the stream. Who leaves it unread for too long is let go: it may come again, and
    /// goes on where it was.
    async fn send(&self, part: String) -> Result<(), Ended> {
        if part.is_empty() {
            return Ok(());
        }
        match timeout(UNREAD, self.frames.send(part.into())).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Ended::Gone),
        }
    }
}

/// A number of the log and its line, as followers send them back.
fn number(id: &str) -> Option<(i64, i64)> {
    match id.split_once('-') {
        Some((seq, line)) => Some((i64::from_str_radix(line, 16).ok()?, seq.parse().ok()?)),
        None => Some((0, id.parse().ok()?)),
    }
}

/// An event of the stream. Its id is the number of the record, and the line once a hold was lifted.
fn event(name: &str, id: Option<(i64, i64)>, data: &serde_json::Value) -> String {
    let mut text = format!("event: {name}\n");
    // Writing to a String does not fail.
    let _ = match id {
        Some((0, seq)) => writeln!(text, "id: {seq}"),
        Some((line, seq)) => writeln!(text, "id: {seq}-{line:x}"),
        None => Ok(()),
    };
    let _ = write!(text, "data: {data}\n\n");
    text
}

fn change_event(line: i64, change: &Change) -> String {
    let (id, at) = (Some((line, change.seq)), change.at.as_second());
    match &change.what {
        Changed::Credential { client_id, index, status } => {
            credential_event(id, client_id.as_str(), *index, *status, at)
        }
        Changed::Token { jti, ends_at, .. } => token_event(id, *jti, ends_at.as_second(), at),
        Changed::Keys => event("keys", id, &json!({ "at": at })),
    }
}

fn credential_event(id: Option<(i64, i64)>, client_id: &str, index: u32, status: TokenStatus, at: i64) -> String {
    event("credential", id, &json!({ "client_id": client_id, "idx": index, "state": status.code(), "at": at }))
}

fn token_event(id: Option<(i64, i64)>, jti: Uuid, exp: i64, at: i64) -> String {
    event("token", id, &json!({ "jti": jti, "exp": exp, "at": at }))
}
