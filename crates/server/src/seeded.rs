//! Four defects that `crates/faults` must find (ADR 0026). They are there with the feature `seeded-bugs`
//! alone, which nothing that is shipped has, and do nothing until `PORTCULLIS_TEST_BUG` names one.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use portcullis_domain::{
    accounts::UserId,
    audit::Entry,
    credentials::{Credential, Standing},
};
use portcullis_store::{Act, StoreError};

use crate::app::App;

#[cfg(not(debug_assertions))]
compile_error!("seeded-bugs is for tests of the checker: it does not go into a release build");

/// For how long a standing is remembered.
const REMEMBERED: SignedDuration = SignedDuration::from_secs(1);
/// How long after its acknowledgement an act is committed.
const LATE: Duration = Duration::from_millis(200);

fn is(bug: &str) -> bool {
    std::env::var("PORTCULLIS_TEST_BUG").is_ok_and(|chosen| chosen == bug)
}

/// `no-lock`: what is held is looked at before the act, and by nobody then. (The harness drops the
/// index that guards C-1 besides.)
pub(crate) async fn held_before(app: &App, owner: UserId) -> Result<Option<Option<Credential>>, StoreError> {
    if !is("no-lock") {
        return Ok(None);
    }
    Ok(Some(app.store.read().await?.held_credential(owner).await?))
}

static STANDINGS: Mutex<Option<HashMap<String, (Timestamp, Standing)>>> = Mutex::new(None);

/// `cached-standing`: a standing is true for a second.
pub(crate) fn cached(credential: &Credential, standing: Standing, now: Timestamp) -> Standing {
    if !is("cached-standing") {
        return standing;
    }
    let mut standings = STANDINGS.lock().unwrap_or_else(PoisonError::into_inner);
    let id = credential.client_id.as_str().to_owned();
    let kept = standings.get_or_insert_default().entry(id).or_insert((now, standing));
    if kept.0 + REMEMBERED < now {
        *kept = (now, standing);
    }
    kept.1
}

/// `no-mark`: nothing is noted of what was acknowledged, and nothing is looked for.
pub(crate) fn notes_nothing() -> bool {
    is("no-mark")
}

/// `early-acknowledgement`: an act is committed after whoever asked was told that it is done.
pub(crate) async fn commit(act: Act, records: &[Entry]) -> Result<(), StoreError> {
    if !is("early-acknowledgement") {
        return act.commit(records).await;
    }
    let records = records.to_vec();
    tokio::spawn(async move {
        tokio::time::sleep(LATE).await;
        if let Err(error) = act.commit(&records).await {
            tracing::error!(%error, "an act that was acknowledged was not committed");
        }
    });
    Ok(())
}
