//! Key pairs of the three algorithms: making them, opening them, signing and verifying.

use aws_lc_rs::{
    encoding::AsDer,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
        ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, RsaPublicKeyComponents,
    },
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use portcullis_domain::{
    keys::{Algorithm, PublicKey},
    secret::Secret,
};
use serde_json::Value;

use crate::error::Failure;

pub(super) fn refused(what: &str) -> Failure {
    Failure::Internal(format!("signing key: {what}"))
}

/// A key pair that signs.
pub(super) enum Pair {
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
    Rsa(RsaKeyPair),
}

/// The library signs with its own source of nonces; they never leave it.
#[expect(clippy::disallowed_methods, reason = "nonces of signatures are the library's business")]
fn system_random() -> SystemRandom {
    SystemRandom::new()
}

/// Makes a key pair: the PKCS#8 document, and the public key.
///
/// # Errors
/// [`Failure::Internal`] when the library refuses.
pub(super) fn make(algorithm: Algorithm, rsa_bits: u32) -> Result<(Secret<Vec<u8>>, PublicKey), Failure> {
    let cannot = |_| refused("cannot be made");
    let document = match algorithm {
        Algorithm::Es256 => {
            let random = system_random();
            let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).map_err(cannot)?;
            made.as_ref().to_vec()
        }
        Algorithm::EdDsa => Ed25519KeyPair::generate_pkcs8(&system_random()).map_err(cannot)?.as_ref().to_vec(),
        Algorithm::Rs256 => {
            let size = if rsa_bits == 3072 { KeySize::Rsa3072 } else { KeySize::Rsa2048 };
            let pair = RsaKeyPair::generate(size).map_err(cannot)?;
            pair.as_der().map_err(cannot)?.as_ref().to_vec()
        }
    };
    let public = Pair::open(algorithm, &document)?.public();
    Ok((Secret::new(Box::new(document)), public))
}

impl Pair {
    /// Reads a PKCS#8 document.
    pub(super) fn open(algorithm: Algorithm, document: &[u8]) -> Result<Self, Failure> {
        let pair = match algorithm {
            Algorithm::Es256 => EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document).map(Self::Ec),
            Algorithm::EdDsa => Ed25519KeyPair::from_pkcs8(document).map(Self::Ed),
            Algorithm::Rs256 => RsaKeyPair::from_pkcs8(document).map(Self::Rsa),
        };
        pair.map_err(|_| refused("is not one of its algorithm"))
    }

    /// The public key.
    pub(super) fn public(&self) -> PublicKey {
        let text = |bytes: &[u8]| BASE64URL.encode(bytes);
        match self {
            Self::Ec(pair) => {
                // The uncompressed point (SEC 1 §2.3.3): 0x04, x, y.
                let point = pair.public_key().as_ref();
                PublicKey::Ec { x: text(&point[1..33]), y: text(&point[33..65]) }
            }
            Self::Ed(pair) => PublicKey::Okp { x: text(pair.public_key().as_ref()) },
            Self::Rsa(pair) => {
                let public = pair.public_key();
                PublicKey::Rsa {
                    n: text(public.modulus().big_endian_without_leading_zero()),
                    e: text(public.exponent().big_endian_without_leading_zero()),
                }
            }
        }
    }

    /// The signature over a message (RFC 7518 §3.3, §3.4, RFC 8037 §3.1).
    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Failure> {
        let cannot = |_| refused("does not sign");
        match self {
            Self::Ec(pair) => Ok(pair.sign(&system_random(), message).map_err(cannot)?.as_ref().to_vec()),
            Self::Ed(pair) => Ok(pair.sign(message).as_ref().to_vec()),
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &system_random(), message, &mut signature).map_err(cannot)?;
                Ok(signature)
            }
        }
    }
}

/// Reads a canonical JWK: the key to verify with, and the member of the key set (RFC 7517 §4).
pub(super) fn published(
    algorithm: Algorithm,
    kid: &str,
    jwk: &[u8],
) -> Result<(ParsedPublicKey, String), Failure> {
    let broken = || refused("its public part cannot be read");
    let mut jwk: Value = serde_json::from_slice(jwk).map_err(|_| broken())?;
    let bytes = |name: &str| {
        let text = jwk[name].as_str().ok_or_else(broken)?;
        BASE64URL.decode(text).map_err(|_| broken())
    };
    let key = match algorithm {
        Algorithm::Es256 => {
            let point = [&[4][..], &bytes("x")?, &bytes("y")?].concat();
            ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
        }
        Algorithm::EdDsa => ParsedPublicKey::new(&ED25519, bytes("x")?),
        Algorithm::Rs256 => RsaPublicKeyComponents { n: bytes("n")?, e: bytes("e")? }
            .to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256),
    };
    let key = key.map_err(|_| broken())?;
    for (name, value) in [("kid", kid), ("use", "sig"), ("alg", algorithm.code())] {
        jwk[name] = value.into();
    }
    Ok((key, jwk.to_string()))
}
