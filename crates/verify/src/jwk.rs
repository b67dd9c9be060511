//! Public keys, as a JWK (RFC 7517, 7518 §6, 8037) or as a PEM `PUBLIC KEY` (RFC 7468 §13).
//!
//! Three kinds, and each verifies with one algorithm only, whatever a token says: EC P-256 with
//! ES256, Ed25519 with EdDSA, RSA of 2048 to 4096 bits with RS256.

use std::{fmt, sync::Arc};

use aws_lc_rs::{
    digest,
    encoding::{AsDer, PublicKeyX509Der},
    signature::{
        ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
    },
};
use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD as BASE64URL},
};
use serde_json::{Map, Value};

use crate::json;

/// The longest text that is looked at as a key, in bytes.
pub const MAX_KEY: usize = 8192;

/// The longest `kid` that is taken, in bytes.
const MAX_KID: usize = 256;

/// The public exponents that are taken: odd ones from 65537, of at most four bytes. Smaller ones are
/// legal and have made other mistakes exploitable (NIST SP 800-56B 6.2 asks for the same floor).
const EXPONENTS: std::ops::RangeInclusive<u32> = 65_537..=u32::MAX;

/// The size of an RSA modulus, in bits.
const MODULUS_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;

/// What comes before the point in a `SubjectPublicKeyInfo` of a P-256 key, not compressed (RFC 5480).
const P256_SPKI: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48,
    0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// What comes before the key in a `SubjectPublicKeyInfo` of an Ed25519 key (RFC 8410).
const ED25519_SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// The y coordinates of the Ed25519 points of small order, for which one signature fits any message.
const SMALL_ORDER: [[u8; 32]; 5] = [
    [0; 32],
    {
        let mut one = [0; 32];
        one[0] = 1;
        one
    },
    {
        let mut minus_one = [0xff; 32];
        minus_one[0] = 0xec;
        minus_one[31] = 0x7f;
        minus_one
    },
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5,
        0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a,
        0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ],
];

/// A signature algorithm (RFC 7518 §3.1, RFC 8037 §3.1). There are no others: neither `none` nor
/// those with a shared secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// ECDSA with P-256 and SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Es256, Self::EdDsa, Self::Rs256];

    /// The name in a header's `alg`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
            Self::Rs256 => "RS256",
        }
    }

    /// The algorithm of exactly this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a text is not taken as a public key. The text itself is never in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JwkError {
    /// It holds a private key: it must not have been sent at all, and has to be replaced.
    #[error("this is a private key; only the public one is needed")]
    Private,
    /// It holds a shared secret.
    #[error("this is a shared secret, not a public key")]
    Symmetric,
    /// It is neither a JWK nor a PEM `PUBLIC KEY`, or a member is missing or not well-formed.
    #[error("not a public key: {0}")]
    Malformed(&'static str),
    /// It is a key of a kind or size that is not taken.
    #[error("a key that is not taken: {0}")]
    Unsupported(&'static str),
    /// Its `use`, `key_ops` or `alg` says that it does not verify signatures in this way.
    #[error("the key is meant for something else: {0}")]
    OtherUse(&'static str),
}

/// The members that make the key, as they are encoded.
#[derive(Clone, PartialEq, Eq)]
enum Material {
    P256 { x: [u8; 32], y: [u8; 32] },
    Ed25519 { x: [u8; 32] },
    Rsa { n: Vec<u8>, e: Vec<u8> },
}

/// A public key. Cheap to clone. Two are equal when the keys are, whatever their `kid`.
#[derive(Clone)]
pub struct PublicJwk {
    material: Material,
    kid: Option<String>,
    parsed: Arc<ParsedPublicKey>,
}

impl PublicJwk {
    /// Reads a JWK or a PEM, whichever the text is.
    ///
    /// # Errors
    /// As [`JwkError`] says.
    pub fn parse(text: &str) -> Result<Self, JwkError> {
        if text.trim_start().starts_with('{') { Self::from_json(text) } else { Self::from_pem(text) }
    }

    /// Reads a JWK (RFC 7517 §4). Members that are not known are ignored; none may come twice.
    ///
    /// # Errors
    /// As [`JwkError`] says.
    pub fn from_json(text: &str) -> Result<Self, JwkError> {
        if text.len() > MAX_KEY {
            return Err(JwkError::Malformed("too long"));
        }
        let members = json::object(text.as_bytes())
            .map_err(|_| JwkError::Malformed("not one JSON object in which each name comes once"))?;
        Self::from_members(&members)
    }

    /// Takes the members of a JWK that are already read.
    ///
    /// # Errors
    /// As [`JwkError`] says.
    pub fn from_members(members: &Map<String, Value>) -> Result<Self, JwkError> {
        let kty = text(members, "kty")?;
        if kty == "oct" || members.contains_key("k") {
            return Err(JwkError::Symmetric);
        }
        if ["d", "p", "q", "dp", "dq", "qi", "oth"].iter().any(|name| members.contains_key(*name)) {
            return Err(JwkError::Private);
        }
        let material = match kty {
            "EC" => match text(members, "crv")? {
                "P-256" => Material::P256 { x: octets(members, "x")?, y: octets(members, "y")? },
                _ => return Err(JwkError::Unsupported("of the curves, P-256 is")),
            },
            "OKP" => match text(members, "crv")? {
                "Ed25519" => Material::Ed25519 { x: octets(members, "x")? },
                _ => return Err(JwkError::Unsupported("of the curves, Ed25519 is")),
            },
            "RSA" => Material::Rsa { n: bytes(members, "n")?, e: bytes(members, "e")? },
            _ => return Err(JwkError::Unsupported("kty has to be EC, OKP or RSA")),
        };
        let kid = match members.get("kid") {
            None => None,
            Some(Value::String(kid)) if kid.len() <= MAX_KID => Some(kid.clone()),
            Some(_) => return Err(JwkError::Malformed("kid")),
        };
        let key = Self::new(material, kid)?;
        key.check_use(members)?;
        Ok(key)
    }

    /// Reads a PEM `PUBLIC KEY`: a `SubjectPublicKeyInfo` in the one encoding that DER has, with
    /// nothing but white space around it.
    ///
    /// # Errors
    /// As [`JwkError`] says.
    pub fn from_pem(text: &str) -> Result<Self, JwkError> {
        if text.contains("PRIVATE KEY-----") {
            return Err(JwkError::Private);
        }
        if text.len() > MAX_KEY {
            return Err(JwkError::Malformed("too long"));
        }
        if text.contains("-----BEGIN CERTIFICATE-----") {
            return Err(JwkError::Unsupported("a certificate; give the public key in it"));
        }
        let inside = text
            .trim()
            .strip_prefix("-----BEGIN PUBLIC KEY-----")
            .and_then(|rest| rest.strip_suffix("-----END PUBLIC KEY-----"))
            .ok_or(JwkError::Malformed("neither a JWK nor a PEM with BEGIN PUBLIC KEY"))?;
        let encoded: String = inside.chars().filter(|c| !c.is_ascii_whitespace()).collect();
        let der = BASE64_STANDARD.decode(encoded).map_err(|_| JwkError::Malformed("base64"))?;
        Self::from_spki(&der)
    }

    fn from_spki(der: &[u8]) -> Result<Self, JwkError> {
        let material = if let Some([0x04, point @ ..]) = der.strip_prefix(&P256_SPKI)
            && let Some((x, y)) = point.split_at_checked(32)
            && let (Ok(x), Ok(y)) = (x.try_into(), y.try_into())
        {
            Material::P256 { x, y }
        } else if let Some(x) = der.strip_prefix(&ED25519_SPKI)
            && let Ok(x) = x.try_into()
        {
            Material::Ed25519 { x }
        } else {
            rsa_from_spki(der)?
        };
        Self::new(material, None)
    }

    /// Checks the key and gets it ready to verify with.
    fn new(material: Material, kid: Option<String>) -> Result<Self, JwkError> {
        let parsed = match &material {
            Material::P256 { x, y } => {
                let point = [&[0x04], x.as_slice(), y].concat();
                ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
                    .map_err(|_| JwkError::Malformed("not a point on the curve"))
            }
            Material::Ed25519 { x } => {
                check_ed25519(x)?;
                ParsedPublicKey::new(&ED25519, x).map_err(|_| JwkError::Malformed("not a point on the curve"))
            }
            Material::Rsa { n, e } => {
                check_rsa(n, e)?;
                RsaPublicKeyComponents { n, e }
                    .to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256)
                    .map_err(|_| JwkError::Malformed("n and e make no RSA key"))
            }
        }?;
        Ok(Self { material, kid, parsed: Arc::new(parsed) })
    }

    /// What the members say that the key is for (RFC 7517 §4.2 to §4.4).
    fn check_use(&self, members: &Map<String, Value>) -> Result<(), JwkError> {
        if members.get("use").is_some_and(|of| of != "sig") {
            return Err(JwkError::OtherUse("use is not sig"));
        }
        let verifies = |ops: &Value| ops.as_array().is_some_and(|ops| ops.iter().any(|op| op == "verify"));
        if members.get("key_ops").is_some_and(|ops| !verifies(ops)) {
            return Err(JwkError::OtherUse("verify is not in key_ops"));
        }
        if members.get("alg").is_some_and(|alg| alg != self.algorithm().name()) {
            return Err(JwkError::OtherUse("alg is not the one of this kind of key"));
        }
        Ok(())
    }

    /// The algorithm, the only one, that the key verifies with.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        match self.material {
            Material::P256 { .. } => Algorithm::Es256,
            Material::Ed25519 { .. } => Algorithm::EdDsa,
            Material::Rsa { .. } => Algorithm::Rs256,
        }
    }

    /// The `kid` that came with it, if one did.
    #[must_use]
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The key as a JWK in its one canonical form: the required members only, in the order of their
    /// names, without white space (RFC 7638 §3.3).
    #[must_use]
    pub fn to_json(&self) -> String {
        let enc = |bytes: &[u8]| BASE64URL.encode(bytes);
        match &self.material {
            Material::P256 { x, y } => {
                format!(r#"{{"crv":"P-256","kty":"EC","x":"{}","y":"{}"}}"#, enc(x), enc(y))
            }
            Material::Ed25519 { x } => format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, enc(x)),
            Material::Rsa { n, e } => format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, enc(e), enc(n)),
        }
    }

    /// The thumbprint of the key: SHA-256 over the canonical form, in base64url (RFC 7638 §3).
    #[must_use]
    pub fn thumbprint(&self) -> String {
        BASE64URL.encode(digest::digest(&digest::SHA256, self.to_json().as_bytes()))
    }

    /// Whether `signature` is one of `message` by this key. An ES256 signature is r and s, 32 bytes
    /// each (RFC 7518 §3.4).
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        self.parsed.verify_sig(message, signature).is_ok()
    }
}

impl PartialEq for PublicJwk {
    fn eq(&self, other: &Self) -> bool {
        self.material == other.material
    }
}

impl Eq for PublicJwk {}

impl fmt::Debug for PublicJwk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicJwk({} {})", self.algorithm(), self.thumbprint())
    }
}

fn rsa_from_spki(der: &[u8]) -> Result<Material, JwkError> {
    const KINDS: JwkError =
        JwkError::Unsupported("a PEM has to hold a P-256 (not compressed), Ed25519 or RSA key");
    let key = aws_lc_rs::rsa::PublicKey::from_der(der).map_err(|_| KINDS)?;
    let again: PublicKeyX509Der<'_> = key.as_der().map_err(|_| KINDS)?;
    // DER has one encoding of a value; the parser would also take a bare PKCS#1 key.
    if again.as_ref() != der {
        return Err(KINDS);
    }
    let parts = RsaPublicKeyComponents::<Vec<u8>>::from(&key);
    Ok(Material::Rsa { n: parts.n, e: parts.e })
}

/// RFC 8032 §5.1.3: the encoding is canonical; and the point is not one of those with which a
/// signature could be made without a private key. (An encoding of which no point exists verifies
/// nothing: that is found when it is used.)
fn check_ed25519(x: &[u8; 32]) -> Result<(), JwkError> {
    let mut y = *x;
    y[31] &= 0x7f;
    let is_reduced = y[31] != 0x7f || y[1..31].iter().any(|byte| *byte != 0xff) || y[0] < 0xed;
    if !is_reduced {
        return Err(JwkError::Malformed("not a point on the curve"));
    }
    if SMALL_ORDER.contains(&y) {
        return Err(JwkError::Unsupported("a point of small order"));
    }
    Ok(())
}

fn check_rsa(n: &[u8], e: &[u8]) -> Result<(), JwkError> {
    // "MUST NOT include leading zeros" by RFC 7518 §6.3.1.1, so that a key has one thumbprint.
    let (Some(first @ 1..), Some(1..)) = (n.first(), e.first()) else {
        return Err(JwkError::Malformed("n and e are numbers without leading zeros"));
    };
    if !MODULUS_BITS.contains(&(n.len() * 8 - first.leading_zeros() as usize)) {
        return Err(JwkError::Unsupported("an RSA key has to have 2048 to 4096 bits"));
    }
    if n.last().is_none_or(|last| last % 2 == 0) {
        return Err(JwkError::Malformed("n is even"));
    }
    let exponent = e.iter().try_fold(0_u32, |sum, byte| Some(sum.checked_mul(256)? + u32::from(*byte)));
    match exponent {
        Some(e) if EXPONENTS.contains(&e) && e % 2 == 1 => Ok(()),
        _ => Err(JwkError::Unsupported("the RSA exponent has to be odd, from 65537 to 2^32")),
    }
}

fn text<'a>(members: &'a Map<String, Value>, name: &'static str) -> Result<&'a str, JwkError> {
    members.get(name).and_then(Value::as_str).ok_or(JwkError::Malformed(name))
}

fn bytes(members: &Map<String, Value>, name: &'static str) -> Result<Vec<u8>, JwkError> {
    BASE64URL.decode(text(members, name)?).map_err(|_| JwkError::Malformed(name))
}

fn octets(members: &Map<String, Value>, name: &'static str) -> Result<[u8; 32], JwkError> {
    bytes(members, name)?.try_into().map_err(|_| JwkError::Malformed(name))
}
