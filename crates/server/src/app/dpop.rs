//! DPoP (RFC 9449): nonces, and the proofs that bind tokens to keys (T-5, protocol 28).
//!
//! A nonce is an HMAC of the time, cut into windows, under a key made of the master key. So every
//! node gives the same ones and takes each other's, and none is stored.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use jiff::{SignedDuration, Timestamp};
use portcullis_domain::secret::DigestKey;
use portcullis_store::{Purpose, Store, UsedProof};
use portcullis_verify::dpop::{self, DpopError, Expect};

use crate::{
    app::{App, client_keys::used},
    error::Failure,
};

/// How long a nonce is the newest, in seconds. It is taken for as long again.
const NONCE_WINDOW: i64 = 120;

/// How old a proof may be, in seconds.
const PROOF_WINDOW: i64 = 120;

/// How much longer its id is remembered, for nodes whose clocks differ.
const REMEMBERED: SignedDuration = SignedDuration::from_secs(PROOF_WINDOW + 60);

/// The algorithms of proofs, as challenges list them (RFC 9449 §7.1).
pub const ALGORITHMS: &str = "ES256 EdDSA RS256";

/// Makes nonces and knows them again.
pub struct Nonces {
    /// The newest first. The others are of older master keys, with which a node that has not been
    /// started anew yet makes its own.
    keys: Vec<DigestKey>,
}

impl Nonces {
    /// Under the master keys of this store.
    #[must_use]
    pub fn new(store: &Store) -> Self {
        let current = store.digest_key(Purpose::DpopNonce);
        let others = store.keys().digest_keys(Purpose::DpopNonce).into_iter();
        let others = others.filter(|(id, _)| id != store.keys().current_id()).map(|(_, key)| key);
        Self { keys: std::iter::once(current).chain(others).collect() }
    }

    /// The nonce of now.
    #[must_use]
    pub fn newest(&self, now: Timestamp) -> String {
        self.keys.first().map(|key| of_window(key, window(now))).unwrap_or_default()
    }

    /// Whether this is the nonce of now, the one before, or, since clocks differ, the next one.
    fn is_taken(&self, nonce: &str, now: Timestamp) -> bool {
        let now = window(now);
        self.keys.iter().any(|key| (now - 1..=now + 1).any(|window| of_window(key, window) == nonce))
    }
}

fn window(at: Timestamp) -> i64 {
    at.as_second().div_euclid(NONCE_WINDOW)
}

fn of_window(key: &DigestKey, window: i64) -> String {
    BASE64URL.encode(&key.mac(&window.to_be_bytes())[..16])
}

/// A proof that was seen to be right for its request.
#[derive(Debug, Clone)]
pub struct Bound {
    /// The thumbprint of the key.
    pub jkt: String,
    /// What is remembered of it, so that it counts once.
    pub used: UsedProof,
}

/// Why a proof was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofRefused {
    /// There is more than one, or one that cannot be read.
    #[error("Send one DPoP header with one proof.")]
    Header,
    /// It is not right for this request.
    #[error("{0}. Make a new proof for each request.")]
    Wrong(DpopError),
    /// It needs a nonce of this server (§8).
    #[error("The DPoP proof has to hold the nonce of the DPoP-Nonce header of this answer.")]
    NonceNeeded,
    /// Its id was used (§11.1).
    #[error("The DPoP proof was used already. Make a new one, with a jti of its own, for each request.")]
    Replayed,
    /// The token is bound to another key.
    #[error("The DPoP proof is not made with the key that the token is bound to.")]
    OtherKey,
}

impl App {
    /// Checks the proof that came with a token request: it holds a nonce of this server.
    ///
    /// # Errors
    /// [`ProofRefused`].
    pub fn check_proof_of_request(&self, proof: &str, url: &str) -> Result<Bound, ProofRefused> {
        let (bound, nonce) = self.check_proof(proof, "POST", url, None)?;
        if !nonce.is_some_and(|nonce| self.nonces.is_taken(&nonce, self.clock.now())) {
            return Err(ProofRefused::NonceNeeded);
        }
        Ok(bound)
    }

    fn check_proof(
        &self,
        proof: &str,
        method: &str,
        url: &str,
        access_token: Option<&str>,
    ) -> Result<(Bound, Option<String>), ProofRefused> {
        let now = self.clock.now();
        let expect = Expect { method, url, access_token, nonce: None, now: now.as_second(), window: PROOF_WINDOW };
        let proof = dpop::check(proof, &expect).map_err(ProofRefused::Wrong)?;
        let made = Timestamp::from_second(proof.iat).unwrap_or(now);
        let used = used("dpop proof", &proof.jkt, &proof.jti, made + REMEMBERED);
        Ok((Bound { jkt: proof.jkt, used }, proof.nonce))
    }

    /// Checks the proof that came with a token to the product's own API, and writes down that it was
    /// used (§7, §11.1). `jkt` is what the token is bound to.
    ///
    /// # Errors
    /// [`Failure::InvalidProof`], or the database's.
    pub(crate) async fn use_proof_with_token(
        &self,
        shown: &Shown<'_>,
        token: &str,
        jkt: &str,
    ) -> Result<(), Failure> {
        let url = format!("{}{}", self.config.public_url, shown.path);
        let (bound, _) = self.check_proof(shown.proof, shown.method, &url, Some(token))?;
        if bound.jkt != jkt {
            return Err(ProofRefused::OtherKey.into());
        }
        let mut tx = self.store.write().await?;
        let first = !tx.use_proofs(&[bound.used]).await?.is_empty();
        tx.commit().await?;
        if first { Ok(()) } else { Err(ProofRefused::Replayed.into()) }
    }
}

/// A proof as it was sent with a request.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a> {
    /// The value of the DPoP header.
    pub proof: &'a str,
    /// The method of the request.
    pub method: &'a str,
    /// Its path.
    pub path: &'a str,
}

/// The one proof of a request, if there is any (§4.3).
///
/// # Errors
/// [`ProofRefused::Header`].
pub fn header(headers: &axum::http::HeaderMap) -> Result<Option<&str>, ProofRefused> {
    let mut given = headers.get_all("dpop").iter();
    match (given.next(), given.next()) {
        (None, _) => Ok(None),
        (Some(proof), None) => proof.to_str().map(Some).map_err(|_| ProofRefused::Header),
        (Some(_), Some(_)) => Err(ProofRefused::Header),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocol28_a_nonce_is_taken_for_its_window_and_the_next_and_by_other_nodes_alone() {
        let nonces = |n: u8| Nonces { keys: vec![DigestKey::new("k", &[n; 32])] };
        let at = |second| Timestamp::from_second(second).unwrap();
        let (one, other) = (nonces(1), nonces(2));
        let nonce = one.newest(at(12_000));
        assert_eq!(nonce, one.newest(at(12_119)), "the same for its window");
        assert_ne!(nonce, one.newest(at(12_120)));
        for second in [11_880, 12_000, 12_119, 12_239] {
            assert!(nonces(1).is_taken(&nonce, at(second)), "another node too, at {second}");
        }
        for second in [11_879, 12_240] {
            assert!(!one.is_taken(&nonce, at(second)), "{second}");
        }
        assert!(!other.is_taken(&nonce, at(12_000)), "another installation's");
        let both = Nonces { keys: vec![DigestKey::new("k", &[2; 32]), DigestKey::new("o", &[1; 32])] };
        assert!(both.is_taken(&nonce, at(12_000)), "while the master key changes");
        assert!(!one.is_taken("", at(12_000)));
    }
}
