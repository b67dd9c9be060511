//! Any text as a DPoP proof and as the URL of the request. A proof brings its key, so the fuzzer may make
//! a good one; what holds is that it does not panic and that what is remembered has a bound.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_verify::dpop::{self, Expect, MAX_JTI};

fuzz_target!(|input: (&str, &str)| {
    let (proof, url) = input;
    let expect =
        Expect { method: "GET", url, access_token: Some("a.b.c"), nonce: None, now: 1_700_000_000, window: 60 };
    if let Ok(proof) = dpop::check(proof, &expect) {
        assert!(proof.jti.len() <= MAX_JTI && proof.jkt.len() == 43);
    }
});
