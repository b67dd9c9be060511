//! What clients saw. Each client appends every call that it made, when it is over, to a file of its own,
//! one JSON object a line. Secrets and tokens are not written down: a credential is known by its Client
//! ID, a token by its id.

use std::{
    fs::File,
    io::Write,
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::outside::Stopwatch;

/// What somebody asked a server to do to, or with, the credential of a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// The owner generates one.
    Generate,
    /// The owner revokes the one that is there.
    Revoke,
    /// A program asks for a token with this Client ID and its secret.
    Issue(String),
    /// An API asks whether a token of this Client ID is active.
    Introspect(String),
    /// A Super Admin takes the owner's role, which suspends the credential (C-10).
    TakeRole,
    /// A Super Admin gives it back, which resumes it.
    GiveRole,
    /// The owner turns MFA on, which suspends the credential (C-9).
    MfaOn,
    /// A Super Admin turns the owner's MFA off, which resumes it.
    MfaOff,
    /// The owner looks at the tab.
    Look,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A credential with this Client ID was made.
    Generated(String),
    /// The credential with this Client ID was revoked.
    Revoked(String),
    /// A token with this id was issued.
    Issued(Uuid),
    /// The token is active.
    Active,
    /// The token is not active.
    Inactive,
    /// It was done.
    Done,
    /// A rule refused, and nothing was done: the rule's word.
    Refused(String),
    /// The Client ID in the owner's place and its standing, or none.
    Looked(Option<(String, String)>),
    /// The server said that it did nothing, or was not reached.
    NotDone(String),
    /// Nobody knows: no answer came, or one that says so. It may have happened at any later moment.
    Unanswered(String),
}

/// One call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Which client made it.
    pub client: u32,
    /// Whose credential it is about.
    pub user: String,
    /// Which server was asked.
    pub node: String,
    /// What was asked for.
    pub operation: Operation,
    /// When, in microseconds since the run began.
    pub called: u64,
    /// When the answer was there, or the client gave up (the same unit).
    pub returned: u64,
    /// The answer.
    pub outcome: Outcome,
}

impl Call {
    /// Whether nobody knows what came of it.
    #[must_use]
    pub fn is_unanswered(&self) -> bool {
        matches!(self.outcome, Outcome::Unanswered(_))
    }

    /// Whether it can change what a later call is answered.
    #[must_use]
    pub fn is_act(&self) -> bool {
        !matches!(self.operation, Operation::Issue(_) | Operation::Introspect(_) | Operation::Look)
    }
}

/// What the clients of a run have in common: where their files are, the next number, the clock.
#[derive(Debug)]
pub struct Desk {
    folder: std::path::PathBuf,
    next: AtomicU32,
    clock: Stopwatch,
}

impl Desk {
    /// A desk whose files go into `folder`, which is made anew.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn new(folder: &Path) -> anyhow::Result<Self> {
        match std::fs::remove_dir_all(folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot empty {}", folder.display()));
            }
            _ => {}
        }
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Self { folder: folder.to_owned(), next: AtomicU32::new(0), clock: Stopwatch::start() })
    }

    /// Where the files are.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Microseconds since the run began.
    #[must_use]
    pub fn micros(&self) -> u64 {
        self.clock.micros()
    }

    /// A client's pen, and its file.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn pen(&self) -> anyhow::Result<Pen> {
        let client = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.join(format!("client-{client:04}.jsonl"));
        let file = File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Pen { client, file, clock: self.clock, free: 0, calls: Vec::new() })
    }
}

/// Writes down what one client does.
#[derive(Debug)]
pub struct Pen {
    client: u32,
    file: File,
    clock: Stopwatch,
    /// The first instant after its last call.
    free: u64,
    calls: Vec<Call>,
}

impl Pen {
    /// Makes a call and writes down what came of it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub async fn note(
        &mut self,
        (user, node): (&str, &str),
        operation: Operation,
        call: impl Future<Output = Outcome>,
    ) -> anyhow::Result<&Outcome> {
        // Two calls of one client never share an instant, not even where the clock is too coarse to tell.
        let called = self.clock.micros().max(self.free);
        let outcome = call.await;
        let returned = self.clock.micros().max(called);
        self.free = returned + 1;
        let (user, node) = (user.to_owned(), node.to_owned());
        let call = Call { client: self.client, user, node, operation, called, returned, outcome };
        let mut line = serde_json::to_vec(&call)?;
        line.push(b'\n');
        self.file.write_all(&line)?;
        self.calls.push(call);
        self.calls.last().map(|c| &c.outcome).context("nothing was noted")
    }

    /// The last call that was written down and not taken.
    #[must_use]
    pub fn last(&self) -> Option<&Call> {
        self.calls.last()
    }

    /// What was written down since the last time.
    pub fn take(&mut self) -> Vec<Call> {
        std::mem::take(&mut self.calls)
    }
}
