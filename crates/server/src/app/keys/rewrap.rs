//! The master key is replaced: what is sealed is sealed anew under the current one, in steps, while
//! the server runs. Whoever is stopped half-way begins again where it stopped.

use std::collections::BTreeMap;

use portcullis_domain::{
    audit::{By, Entry, Event, Origin},
    keys::Kept,
};
use portcullis_store::MasterKeyUse;

use crate::{app::App, error::Failure};

/// Values sealed anew in one transaction.
const STEP: u32 = 200;

/// What was done, and what needs which master key now.
#[derive(Debug)]
pub struct Rewrapped {
    /// How many of what were sealed anew.
    pub done: BTreeMap<&'static str, u64>,
    /// What needs which key, the audit log with it.
    pub needs: Vec<MasterKeyUse>,
}

impl App {
    /// Whether the ring has every key that something which is in use needs.
    ///
    /// # Errors
    /// [`Failure::Internal`] with what is missing.
    pub(crate) async fn check_master_keys(&self) -> Result<(), Failure> {
        let needs = self.store.read().await?.master_key_use(self.clock.now()).await?;
        let keys = self.store.keys();
        match needs.iter().find(|n| !n.key_id.is_empty() && !keys.has(&n.key_id)) {
            None => Ok(()),
            Some(MasterKeyUse { kept, key_id, count }) => Err(Failure::Internal(format!(
                "master key {key_id} is needed for {count} {}, but it is not in the ring. Bring it back as a further \
                 line of the master key file; `portcullis keys rewrap` says what still needs which key",
                kept.label()
            ))),
        }
    }

    /// Seals everything that is sealed anew under the current master key, and says what needs which.
    ///
    /// # Errors
    /// The database's; what was sealed anew before stays so.
    pub async fn rewrap(&self) -> Result<Rewrapped, Failure> {
        let mut done = BTreeMap::new();
        for kept in Kept::ALL.iter().copied().filter(|k| k.is_sealed()) {
            loop {
                let count = self.rewrap_step(kept).await?;
                if count == 0 {
                    break;
                }
                *done.entry(kept.label()).or_default() += count;
            }
        }
        let mut tx = self.store.read().await?;
        let mut needs = tx.master_key_use(self.clock.now()).await?;
        needs.extend(tx.audit_key_use().await?);
        Ok(Rewrapped { done, needs })
    }

    /// One step, in an act with its record; how many values there were.
    async fn rewrap_step(&self, kept: Kept) -> Result<u64, Failure> {
        let mut act = self.store.act().await?;
        let current = self.store.keys().current_id();
        let count = act.rewrap(kept, STEP, &|| self.clock.random()).await?;
        if count > 0 {
            act.claim_for_current_key().await?;
            let entry = Entry::done(self.clock.now(), By::Operator, &Origin::default(), Event::Rewrapped, current)
                .with("what", kept.code())
                .with("values", count.to_string());
            act.commit(&[entry]).await?;
        }
        Ok(count)
    }
}
