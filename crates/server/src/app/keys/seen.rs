//! Tokens whose signature was found right, by their digest.
//!
//! That a key signed a text stays true for ever, so it need not be found out again: it takes longer than
//! all the rest of an introspection. Whether the key still counts and how the token stands is not kept:
//! that is read for each request (C-11).

use std::sync::{Mutex, PoisonError};

use hashlink::LruCache;
use portcullis_domain::tokens::Claims;

/// How many are kept, the most recently asked for. Each takes about 1 KiB.
const KEPT: usize = 8192;

/// SHA-256 of a token. What is not the same text has another one.
pub(super) type Digest = [u8; 32];

pub(super) fn digest(token: &str) -> Digest {
    let mut digest = [0; 32];
    digest.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes()).as_ref());
    digest
}

/// The tokens, and for each its claims and the id of the key that signed it.
pub(super) struct Seen(Mutex<LruCache<Digest, (Claims, String)>>);

impl Default for Seen {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(KEPT)))
    }
}

impl Seen {
    /// The claims of a token that was seen, and the id of its key.
    pub(super) fn find(&self, digest: &Digest) -> Option<(Claims, String)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(digest).cloned()
    }

    /// Keeps a token whose signature is right.
    pub(super) fn keep(&self, digest: Digest, claims: &Claims, kid: &str) {
        let kept = (claims.clone(), kid.to_owned());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(digest, kept);
    }
}
