//! The master keys, and what is derived from them or sealed with them.
//!
//! The ring lives in the environment or in a file, never in the database. Its first key is the
//! current one; further keys are kept so that what older keys made still opens. The id of the key
//! stands beside everything made with it. Each use has a sub-key of its own (HKDF-SHA-256), so a
//! value made for one purpose is worthless for another.

use std::collections::BTreeMap;

use aws_lc_rs::{aead, digest, hkdf};
use portcullis_domain::secret::{DigestKey, ExposeSecret, Secret};

/// Bytes of a master key.
pub const KEY_BYTES: usize = 32;

/// What a sub-key is for. The texts are part of the stored format and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Digests of Client Secrets (C-5).
    ClientSecret,
    /// The chain of the audit log (L-3).
    AuditChain,
    /// Signing keys at rest.
    SigningKey,
    /// The public parts of signing keys: nobody without a master key puts one into the key set.
    PublicKey,
    /// The link with which the first Super Admin is made.
    SetUpLink,
    /// Page cursors, so that a forged one is told.
    Cursor,
    /// Names of sign-in failure counters, so that the table does not list who was tried.
    SignInFailures,
    /// Messages in the outbox.
    Mail,
    /// Secrets of authenticator apps.
    Totp,
    /// Digests of recovery codes.
    RecoveryCode,
    /// Client secrets of sign-in providers.
    ProviderSecret,
    /// What is under way in a browser.
    Ceremony,
    /// Digests of the secrets of APIs' introspection keys.
    ApiSecret,
    /// Nonces for DPoP proofs.
    DpopNonce,
}

impl Purpose {
    fn info(self) -> &'static [u8] {
        match self {
            Self::ClientSecret => b"portcullis/1/client-secret-digest",
            Self::AuditChain => b"portcullis/1/audit-chain",
            Self::SigningKey => b"portcullis/1/seal-signing-key",
            Self::PublicKey => b"portcullis/1/seal-public-key",
            Self::SetUpLink => b"portcullis/1/set-up-link",
            Self::Cursor => b"portcullis/1/cursor",
            Self::SignInFailures => b"portcullis/1/sign-in-failures",
            Self::Mail => b"portcullis/1/seal-mail",
            Self::Totp => b"portcullis/1/seal-totp",
            Self::RecoveryCode => b"portcullis/1/recovery-code-digest",
            Self::ProviderSecret => b"portcullis/1/seal-provider-secret",
            Self::Ceremony => b"portcullis/1/seal-ceremony",
            Self::ApiSecret => b"portcullis/1/api-secret-digest",
            Self::DpopNonce => b"portcullis/1/dpop-nonce",
        }
    }
}

/// Something sealed: AES-256-GCM, nonce in front, and the id of the key that opens it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// The id of the master key.
    pub key_id: String,
    /// Nonce (12 bytes), ciphertext, tag (16 bytes).
    pub bytes: Vec<u8>,
}

/// Why master keys could not be read or used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum MasterKeyError {
    /// No key in the text.
    #[error("there is no master key in it: one line of 64 hexadecimal digits is needed")]
    None,
    /// A line that is not a key.
    #[error("line {0} is not a master key: 64 hexadecimal digits are needed (32 random bytes)")]
    Malformed(usize),
    /// The key that made something is not in the ring.
    #[error("master key {0} is needed, but it is not in the ring")]
    Unknown(String),
    /// The sealed bytes were altered, or belong elsewhere.
    #[error("a sealed value does not open with master key {0}: it was altered or moved")]
    DoesNotOpen(String),
}

/// The ring of master keys.
pub struct MasterKeys {
    current: String,
    keys: BTreeMap<String, Secret<[u8; KEY_BYTES]>>,
}

impl std::fmt::Debug for MasterKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MasterKeys({})", self.ids())
    }
}

impl MasterKeys {
    /// A ring of one key.
    #[must_use]
    pub fn one(key: [u8; KEY_BYTES]) -> Self {
        let id = key_id(&key);
        Self { current: id.clone(), keys: BTreeMap::from([(id, Secret::new(Box::new(key)))]) }
    }

    /// Reads a ring: one key a line as 64 hexadecimal digits, the current one first; blank lines
    /// and lines that begin with `#` are passed over.
    ///
    /// # Errors
    /// When a line is no key, or there is none.
    pub fn parse(text: &str) -> Result<Self, MasterKeyError> {
        let mut ring: Option<Self> = None;
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let key = from_hex(line).ok_or(MasterKeyError::Malformed(at + 1))?;
            match &mut ring {
                None => ring = Some(Self::one(key)),
                Some(ring) => {
                    ring.keys.insert(key_id(&key), Secret::new(Box::new(key)));
                }
            }
        }
        ring.ok_or(MasterKeyError::None)
    }

    /// The text of a key file with this one key.
    #[must_use]
    pub fn file_text(key: &[u8; KEY_BYTES]) -> String {
        let hex: String = key.iter().map(|b| format!("{b:02x}")).collect();
        format!(
            "# Portcullis master key {}. Whoever has it and the database has every signing key:\n\
             # keep it apart from the backups of the database, and keep a copy.\n{hex}\n",
            key_id(key)
        )
    }

    /// The id of the current key.
    #[must_use]
    pub fn current_id(&self) -> &str {
        &self.current
    }

    /// Whether the ring has a key.
    #[must_use]
    pub fn has(&self, id: &str) -> bool {
        self.keys.contains_key(id)
    }

    /// The ids in the ring, for messages.
    #[must_use]
    pub fn ids(&self) -> String {
        self.keys.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
    }

    /// The current digest key for a purpose.
    ///
    /// # Panics
    /// Never: the current key is in the ring by construction.
    #[must_use]
    pub fn digest_key(&self, purpose: Purpose) -> DigestKey {
        let key = self.keys[&self.current].expose_secret();
        DigestKey::new(self.current.clone(), &sub_key(key, purpose))
    }

    /// All digest keys for a purpose by their ids, for who needs them often: deriving one costs more
    /// than using it.
    #[must_use]
    pub fn digest_keys(&self, purpose: Purpose) -> BTreeMap<String, DigestKey> {
        let derive = |(id, key): (&String, &Secret<[u8; KEY_BYTES]>)| {
            (id.clone(), DigestKey::new(id.clone(), &sub_key(key.expose_secret(), purpose)))
        };
        self.keys.iter().map(derive).collect()
    }

    /// The digest key that a stored digest names.
    ///
    /// # Errors
    /// When it is not in the ring.
    pub fn digest_key_by_id(&self, purpose: Purpose, id: &str) -> Result<DigestKey, MasterKeyError> {
        let key = self.keys.get(id).ok_or_else(|| MasterKeyError::Unknown(id.to_owned()))?;
        Ok(DigestKey::new(id, &sub_key(key.expose_secret(), purpose)))
    }

    /// Seals bytes with the current key. `context` is bound to them: opening needs the same.
    /// `nonce` must be fresh random bytes.
    ///
    /// # Panics
    /// Never: AES-256-GCM seals any plaintext that fits in memory.
    #[must_use]
    #[expect(clippy::expect_used, reason = "fails only beyond 64 GiB of plaintext")]
    pub fn seal(&self, purpose: Purpose, context: &str, plain: &[u8], nonce: [u8; 12]) -> Sealed {
        let key = cipher(&sub_key(self.keys[&self.current].expose_secret(), purpose));
        let mut bytes = plain.to_vec();
        let sealing = aead::Nonce::assume_unique_for_key(nonce);
        key.seal_in_place_append_tag(sealing, aead::Aad::from(context), &mut bytes).expect("AES-256-GCM seals");
        bytes.splice(0..0, nonce);
        Sealed { key_id: self.current.clone(), bytes }
    }

    /// Opens what [`MasterKeys::seal`] sealed.
    ///
    /// # Errors
    /// When the key is missing, or the bytes or the context are not what was sealed.
    pub fn open(
        &self,
        purpose: Purpose,
        context: &str,
        sealed: &Sealed,
    ) -> Result<Secret<Vec<u8>>, MasterKeyError> {
        let id = &sealed.key_id;
        let key = self.keys.get(id).ok_or_else(|| MasterKeyError::Unknown(id.clone()))?;
        let key = cipher(&sub_key(key.expose_secret(), purpose));
        let broken = || MasterKeyError::DoesNotOpen(id.clone());
        let (nonce, ciphertext) = sealed.bytes.split_first_chunk::<12>().ok_or_else(broken)?;
        let mut bytes = ciphertext.to_vec();
        let nonce = aead::Nonce::assume_unique_for_key(*nonce);
        let plain = key.open_in_place(nonce, aead::Aad::from(context), &mut bytes).map_err(|_| broken())?.len();
        bytes.truncate(plain);
        Ok(Secret::new(Box::new(bytes)))
    }
}

#[expect(clippy::expect_used, reason = "the key length is a constant that fits")]
fn cipher(key: &[u8; KEY_BYTES]) -> aead::LessSafeKey {
    aead::LessSafeKey::new(aead::UnboundKey::new(&aead::AES_256_GCM, key).expect("32 bytes"))
}

#[expect(clippy::expect_used, reason = "the output length is a constant that fits")]
fn sub_key(master: &[u8; KEY_BYTES], purpose: Purpose) -> [u8; KEY_BYTES] {
    let extracted = hkdf::Salt::new(hkdf::HKDF_SHA256, b"portcullis").extract(master);
    let mut out = [0; KEY_BYTES];
    extracted
        .expand(&[purpose.info()], hkdf::HKDF_SHA256)
        .and_then(|okm| okm.fill(&mut out))
        .expect("one block of HKDF-SHA-256");
    out
}

/// The public name of a master key: 12 hexadecimal digits of a digest of it.
fn key_id(key: &[u8; KEY_BYTES]) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(b"portcullis/1/master-key-id");
    context.update(key);
    context.finish().as_ref()[..6].iter().map(|b| format!("{b:02x}")).collect()
}

fn from_hex(text: &str) -> Option<[u8; KEY_BYTES]> {
    if text.len() != 2 * KEY_BYTES || !text.is_ascii() {
        return None;
    }
    let mut key = [0; KEY_BYTES];
    for (at, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_value_opens_only_with_its_key_purpose_and_context() {
        let ring = MasterKeys::one([1; 32]);
        let sealed = ring.seal(Purpose::SigningKey, "kid-1", b"private", [9; 12]);
        let opened = ring.open(Purpose::SigningKey, "kid-1", &sealed).unwrap();
        assert_eq!(opened.expose_secret().as_slice(), b"private");
        assert!(!sealed.bytes.windows(7).any(|w| w == b"private"));
        assert!(ring.open(Purpose::SigningKey, "kid-2", &sealed).is_err());
        assert!(ring.open(Purpose::Cursor, "kid-1", &sealed).is_err());
        assert!(MasterKeys::one([2; 32]).open(Purpose::SigningKey, "kid-1", &sealed).is_err());
        let mut altered = sealed;
        altered.bytes[15] ^= 1;
        assert!(ring.open(Purpose::SigningKey, "kid-1", &altered).is_err());
    }

    #[test]
    fn a_ring_opens_what_its_older_keys_sealed() {
        let (old, new) = (MasterKeys::file_text(&[1; 32]), MasterKeys::file_text(&[2; 32]));
        let sealed = MasterKeys::parse(&old).unwrap().seal(Purpose::SigningKey, "k", b"x", [0; 12]);
        let ring = MasterKeys::parse(&format!("{new}\n{old}")).unwrap();
        assert_eq!(ring.open(Purpose::SigningKey, "k", &sealed).unwrap().expose_secret().as_slice(), b"x");
        assert_ne!(ring.current_id(), sealed.key_id);
    }

    #[test]
    fn a_bad_key_file_is_refused_by_its_line() {
        assert_eq!(MasterKeys::parse("# only\n\n").unwrap_err(), MasterKeyError::None);
        assert_eq!(MasterKeys::parse("# a\nnothex").unwrap_err(), MasterKeyError::Malformed(2));
        assert!(!format!("{:?}", MasterKeys::one([1; 32])).contains("0101"));
    }
}
