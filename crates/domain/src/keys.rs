//! Signing keys: which algorithm, and the key id that verifiers see.

use aws_lc_rs::digest;
use jiff::Timestamp;

/// A signature algorithm of access tokens (RFC 7518 §3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// ECDSA on P-256 with SHA-256.
    Es256,
}

impl Algorithm {
    /// The `alg` value.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
        }
    }

    /// The inverse of [`Algorithm::code`].
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        (code == "ES256").then_some(Self::Es256)
    }
}

/// A signing key as it is stored: the private part only sealed by the master key.
#[derive(Debug, Clone)]
pub struct SigningKey {
    /// The key id: the RFC 7638 thumbprint of the public key.
    pub kid: String,
    /// What it signs with.
    pub algorithm: Algorithm,
    /// When it was made (UTC).
    pub created_at: Timestamp,
    /// The sealed PKCS#8 document.
    pub sealed: Vec<u8>,
    /// The id of the master key that sealed it.
    pub sealed_by: String,
}

/// The members of a P-256 public key as base64url text (RFC 7518 §6.2.1), from which everything
/// public about the key follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EcPublicKey {
    /// The x coordinate.
    pub x: String,
    /// The y coordinate.
    pub y: String,
}

impl EcPublicKey {
    /// SHA-256 over the canonical JWK (RFC 7638 §3), to be encoded as base64url by the caller.
    #[must_use]
    pub fn thumbprint(&self) -> [u8; 32] {
        let canonical = format!(r#"{{"crv":"P-256","kty":"EC","x":"{}","y":"{}"}}"#, self.x, self.y);
        let mut out = [0; 32];
        out.copy_from_slice(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
        out
    }
}
