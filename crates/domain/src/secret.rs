//! Secrets: the type that keeps them out of sight, the form of the Client Secret, and the keyed
//! digest that is all the product ever stores of one (C-5, L-2).
//!
//! The textual formats below are public promises: leak scanners match them, so they never change.

use aws_lc_rs::{constant_time, hmac};
pub use secrecy::ExposeSecret;
use secrecy::{SecretBox, SecretString, zeroize::Zeroize};

/// A value that cannot be printed or serialised and is wiped when dropped (L-2).
/// Reading it takes [`ExposeSecret::expose_secret`], which is easy to find in a review.
pub type Secret<T> = SecretBox<T>;

/// A secret text: passwords, Client Secrets, session ids in transit.
pub type SecretText = SecretString;

/// What every Client Secret begins with.
pub const CLIENT_SECRET_PREFIX: &str = "pcs_";

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Digits that 256 bits need in base 62.
const SECRET_DIGITS: usize = 43;
/// Digits that a CRC-32 needs in base 62.
const CHECKSUM_DIGITS: usize = 6;

/// What every secret of an API's introspection key begins with.
pub const API_SECRET_PREFIX: &str = "pck_";

/// The text of a secret: the prefix, 43 base-62 digits that carry 256 random bits, `_`, and 6
/// base-62 digits of the CRC-32 (IEEE) over everything before that underscore.
fn secret_text(prefix: &str, mut entropy: [u8; 32]) -> SecretText {
    let mut text = String::with_capacity(54);
    text.push_str(prefix);
    text.push_str(&base62(&mut entropy, SECRET_DIGITS));
    entropy.zeroize();
    let checksum = checksum(&text);
    text.push('_');
    text.push_str(&checksum);
    text.into()
}

fn is_secret_text(prefix: &str, text: &str) -> bool {
    let Some((body, sum)) = text.rsplit_once('_') else { return false };
    let Some(digits) = body.strip_prefix(prefix) else { return false };
    digits.len() == SECRET_DIGITS && digits.bytes().all(|b| b.is_ascii_alphanumeric()) && sum == checksum(body)
}

macro_rules! secrets_shown_once {
    ($($(#[$doc:meta])* $name:ident, $prefix:ident, $shown:literal;)*) => {$(
        $(#[$doc])*
        pub struct $name(SecretText);

        impl $name {
            /// Makes the secret that carries exactly these 256 bits.
            #[must_use]
            pub fn new(entropy: [u8; 32]) -> Self {
                Self(secret_text($prefix, entropy))
            }

            /// The secret as its holder sees it, once.
            #[must_use]
            pub fn expose(&self) -> &str {
                self.0.expose_secret()
            }

            /// Whether a text has the form and the checksum of one. It says nothing about whether
            /// the secret was ever issued.
            #[must_use]
            pub fn is_well_formed(text: &str) -> bool {
                is_secret_text($prefix, text)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str($shown)
            }
        }
    )*};
}

secrets_shown_once! {
    /// A Client Secret: `pcs_`, 43 base-62 digits that carry 256 random bits, `_`, and 6 base-62
    /// digits of the CRC-32 (IEEE) over everything before that underscore.
    ///
    /// As a regular expression: `pcs_[0-9A-Za-z]{43}_[0-9A-Za-z]{6}`. The checksum lets a scanner
    /// tell a real secret from a look-alike without asking the server.
    ClientSecret, CLIENT_SECRET_PREFIX, "ClientSecret([REDACTED])";
    /// The secret of an API's introspection key: `pck_`, and then as a [`ClientSecret`].
    ///
    /// As a regular expression: `pck_[0-9A-Za-z]{43}_[0-9A-Za-z]{6}`.
    ApiSecret, API_SECRET_PREFIX, "ApiSecret([REDACTED])";
}

/// The first `digits` base-62 digits, most significant first, of a big-endian number.
fn base62(number: &mut [u8], digits: usize) -> String {
    let mut out = vec![b'0'; digits];
    for digit in out.iter_mut().rev() {
        let mut remainder = 0u32;
        for byte in number.iter_mut() {
            let value = (remainder << 8) | u32::from(*byte);
            *byte = (value / 62) as u8;
            remainder = value % 62;
        }
        *digit = BASE62[remainder as usize];
    }
    out.into_iter().map(char::from).collect()
}

fn checksum(text: &str) -> String {
    base62(&mut crc32fast::hash(text.as_bytes()).to_be_bytes(), CHECKSUM_DIGITS)
}

/// A key for [`KeyedDigest`]s. It is derived from the master key and never stored in the
/// database (C-5); its id stands beside every digest made with it.
#[derive(Clone)]
pub struct DigestKey {
    id: String,
    key: hmac::Key,
}

impl DigestKey {
    /// A key with the id that is stored beside its digests.
    #[must_use]
    pub fn new(id: impl Into<String>, key: &[u8; 32]) -> Self {
        Self { id: id.into(), key: hmac::Key::new(hmac::HMAC_SHA256, key) }
    }

    /// The id of the key.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// HMAC-SHA-256 of a secret under this key.
    #[must_use]
    pub fn digest(&self, secret: &[u8]) -> KeyedDigest {
        KeyedDigest { key_id: self.id.clone(), bytes: self.mac(secret) }
    }

    /// The bare HMAC-SHA-256 of a message, for chains and derived values.
    #[must_use]
    pub fn mac(&self, message: &[u8]) -> [u8; 32] {
        let tag = hmac::sign(&self.key, message);
        let mut bytes = [0; 32];
        bytes.copy_from_slice(tag.as_ref());
        bytes
    }
}

impl std::fmt::Debug for DigestKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DigestKey({})", self.id)
    }
}

/// What is stored of a secret: HMAC-SHA-256 and the id of the key it was made with (C-5).
#[derive(Clone, PartialEq, Eq)]
pub struct KeyedDigest {
    /// The id of the [`DigestKey`].
    pub key_id: String,
    /// The 32 bytes of the HMAC.
    pub bytes: [u8; 32],
}

impl KeyedDigest {
    /// Whether a presented secret is the one this digest was made of, in constant time.
    /// `key` must be the key named by `key_id`; another key never matches.
    #[must_use]
    pub fn matches(&self, key: &DigestKey, presented: &[u8]) -> bool {
        constant_time::verify_slices_are_equal(&self.bytes, &key.mac(presented)).is_ok()
    }
}

impl std::fmt::Debug for KeyedDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyedDigest(by {})", self.key_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_form_of_a_client_secret_never_changes() {
        assert_eq!(ClientSecret::new([0; 32]).expose(), "pcs_0000000000000000000000000000000000000000000_1cLNBa");
        assert_eq!(
            ClientSecret::new([255; 32]).expose(),
            "pcs_yhjskwdA6OZ1AL1YmHWZWm8LLG7HjnuCA2j5rOw8Xp1_4Sy0Ju"
        );
    }

    #[test]
    fn the_form_of_the_secret_of_an_api_never_changes() {
        let secret = ApiSecret::new([0; 32]);
        assert_eq!(secret.expose(), "pck_0000000000000000000000000000000000000000000_2IFs7v");
        assert!(ApiSecret::is_well_formed(secret.expose()) && !ClientSecret::is_well_formed(secret.expose()));
        assert!(!ApiSecret::is_well_formed(ClientSecret::new([0; 32]).expose()));
        assert_eq!(format!("{secret:?}"), "ApiSecret([REDACTED])");
    }

    #[test]
    fn neither_debug_nor_a_digest_shows_the_secret() {
        let secret = ClientSecret::new([7; 32]);
        let digest = DigestKey::new("k1", &[1; 32]).digest(secret.expose().as_bytes());
        let shown = format!("{secret:?} {digest:?}");
        assert!(!shown.contains(&secret.expose()[4..20]), "{shown}");
    }

    proptest! {
        #[test]
        fn distinct_entropy_gives_distinct_well_formed_secrets(a: [u8; 32], b: [u8; 32]) {
            let (x, y) = (ClientSecret::new(a), ClientSecret::new(b));
            prop_assert!(ClientSecret::is_well_formed(x.expose()));
            prop_assert_eq!(a == b, x.expose() == y.expose());
        }

        #[test]
        fn one_changed_character_breaks_the_checksum(a: [u8; 32], at in 4usize..47, to in 0usize..62) {
            let mut text = ClientSecret::new(a).expose().as_bytes().to_vec();
            prop_assume!(text[at] != BASE62[to]);
            text[at] = BASE62[to];
            prop_assert!(!ClientSecret::is_well_formed(std::str::from_utf8(&text).unwrap()));
        }

        #[test]
        fn a_digest_matches_its_own_secret_and_key_only(a: [u8; 32], b: [u8; 32], k: [u8; 32], l: [u8; 32]) {
            let key = DigestKey::new("k", &k);
            let digest = key.digest(&a);
            prop_assert!(digest.matches(&key, &a));
            prop_assert_eq!(a == b, digest.matches(&key, &b));
            prop_assert_eq!(k == l, digest.matches(&DigestKey::new("k", &l), &a));
        }
    }
}
