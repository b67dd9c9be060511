//! Comparing presented secrets with the keyed digests that are stored of them (C-5): of credentials, and
//! of the keys of APIs.

use std::collections::BTreeMap;

use portcullis_domain::secret::{DigestKey, ExposeSecret, KeyedDigest, SecretText};
use portcullis_store::{MasterKeyError, Purpose, Store};

use crate::{clock::Clock, error::Failure};

/// Compares presented secrets with digests made for one purpose.
pub(crate) struct Digests {
    keys: BTreeMap<String, DigestKey>,
    /// What a secret is compared with when there is nothing else, and the key for that.
    nobody: (DigestKey, KeyedDigest),
}

impl Digests {
    pub(crate) fn new(store: &Store, clock: &Clock, purpose: Purpose) -> Self {
        let current = store.digest_key(purpose);
        let nobody = (current.clone(), current.digest(&clock.random::<32>()));
        Self { keys: store.keys().digest_keys(purpose), nobody }
    }

    /// Whether a presented secret is the one that was stored. Without one the same work is done, so
    /// that an unknown id takes as long as a wrong secret (protocol 9). Of one that `is_over` the master
    /// key may be gone; then nothing can prove it.
    pub(crate) fn is_right(
        &self,
        stored: Option<&KeyedDigest>,
        is_over: bool,
        secret: &SecretText,
    ) -> Result<bool, Failure> {
        let kept = stored.and_then(|stored| Some((self.keys.get(&stored.key_id)?, stored)));
        if let (Some(missing), None, false) = (stored, kept, is_over) {
            return Err(MasterKeyError::Unknown(missing.key_id.clone()).into());
        }
        let (key, digest) = kept.unwrap_or((&self.nobody.0, &self.nobody.1));
        let right = digest.matches(key, secret.expose_secret().as_bytes());
        Ok(right && kept.is_some())
    }
}
