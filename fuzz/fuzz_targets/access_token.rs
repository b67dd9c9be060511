//! Any text as an access token: read without a panic, and never verified by a key that did not sign it.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use portcullis_verify::{jwk::PublicJwk, jws::Jws};

static KEY: LazyLock<PublicJwk> = LazyLock::new(|| {
    PublicJwk::parse(r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#)
        .expect("the key of RFC 8037 A.2")
});

fuzz_target!(|text: &str| {
    let Ok(jws) = Jws::parse(text) else { return };
    let _ = (jws.is_typ("at+jwt"), jws.kid());
    assert!(jws.verify(&KEY).is_err());
});
