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
        let (mut tx, keys, now) = (self.store.read().await?, self.store.keys(), self.clock.now());
        if !tx.needs_other_key(&|id| id.is_empty() || keys.has(id), now).await? {
            return Ok(());
        }
        let needs = tx.master_key_use(now).await?;
        let missing = needs.iter().filter(|n| !n.key_id.is_empty() && !keys.has(&n.key_id));
        let told = missing.map(|MasterKeyUse { kept, key_id, count }| {
            format!("master key {key_id} is needed for {count} {}, but it is not in the ring", kept.label())
        });
        match told.collect::<Vec<_>>().join("; ") {
            told if told.is_empty() => Ok(()),
            told => {
                Err(Failure::Internal(format!("{told}. Bring it back as a further line of the master key file")))
            }
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
        // Also when everything that the older key sealed was gone by itself.
        let mut act = self.store.act().await?;
        if act.claim_for_current_key().await? {
            act.commit(&[self.rewrapped("installation", 0)]).await?;
        } else {
            drop(act);
        }
        let mut tx = self.store.read().await?;
        let mut needs = tx.master_key_use(self.clock.now()).await?;
        needs.extend(tx.audit_key_use().await?);
        Ok(Rewrapped { done, needs })
    }

    /// One step, in an act with its record; how many values there were.
    async fn rewrap_step(&self, kept: Kept) -> Result<u64, Failure> {
        let mut act = self.store.act().await?;
        let count = act.rewrap(kept, STEP, &|| self.clock.random()).await?;
        if count > 0 {
            act.claim_for_current_key().await?;
            act.commit(&[self.rewrapped(kept.code(), count)]).await?;
        }
        Ok(count)
    }

    fn rewrapped(&self, what: &str, values: u64) -> Entry {
        let current = self.store.keys().current_id();
        Entry::done(self.clock.now(), By::Operator, &Origin::default(), Event::Rewrapped, current)
            .with("what", what)
            .with("values", values.to_string())
    }
}
