//! Writes refusals to the audit log, those that come together in one act, away from what is
//! going well: a stranger's failures never make the rightful wait (protocol 18).

use portcullis_domain::audit::Entry;
use portcullis_store::{Store, StoreError};
use tokio::sync::{mpsc, oneshot};

use crate::{app::tokens::PATIENCE, error::Failure};

/// The most records of one act.
const TOGETHER: usize = 256;
/// The most that wait to be written; beyond that the answer is "busy".
const QUEUE: usize = 2048;

/// Takes records of refusals.
pub struct Recorder(mpsc::Sender<(Entry, oneshot::Sender<bool>)>);

impl Recorder {
    /// Starts the task that writes. It ends when the recorder is dropped.
    #[must_use]
    pub fn start(store: Store) -> Self {
        let (queue, mut waiting) = mpsc::channel::<(Entry, oneshot::Sender<bool>)>(QUEUE);
        tokio::spawn(async move {
            let mut batch = Vec::with_capacity(TOGETHER);
            while waiting.recv_many(&mut batch, TOGETHER).await > 0 {
                let (entries, answers): (Vec<_>, Vec<_>) = batch.drain(..).unzip();
                let writing = async { store.act().await?.commit(&entries).await };
                let written = tokio::time::timeout(PATIENCE, writing).await;
                let written = written.unwrap_or_else(|_| Err(StoreError::timed_out()));
                if let Err(error) = &written {
                    tracing::error!(%error, records = entries.len(), "refusals could not be recorded");
                }
                for answer in answers {
                    // Whoever was refused may be gone; the record stands.
                    let _ = answer.send(written.is_ok());
                }
            }
        });
        Self(queue)
    }

    /// Writes a record; when this returns it is there.
    ///
    /// # Errors
    /// [`Failure::Busy`] when it could not be written: then the caller is not told more either.
    pub async fn record(&self, entry: Entry) -> Result<(), Failure> {
        let (answer, answered) = oneshot::channel();
        self.0.try_send((entry, answer)).map_err(|_| Failure::Busy)?;
        if answered.await.unwrap_or(false) { Ok(()) } else { Err(Failure::Busy) }
    }
}
