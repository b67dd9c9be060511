//! Any text as a public key, JSON or PEM: what is taken reads back as the same key.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_verify::jwk::PublicJwk;

fuzz_target!(|text: &str| {
    let Ok(key) = PublicJwk::parse(text) else { return };
    let again = PublicJwk::parse(&key.to_json()).expect("what is written out is a key");
    assert!(again == key && again.thumbprint() == key.thumbprint());
    assert!(!key.verify(text.as_bytes(), b""));
});
