//! Any text as a client assertion (RFC 7523): the claims that say whose it is are read before the
//! signature is checked.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_verify::jws::Jws;

fuzz_target!(|text: &str| {
    let Ok(jws) = Jws::parse(text) else { return };
    let claims = jws.unverified_claims();
    let _ = (claims.text("iss"), claims.text("sub"), claims.audiences(), claims.text("jti"));
    for name in ["exp", "iat", "nbf"] {
        if let Ok(Some(date)) = claims.date(name) {
            assert!(date >= 0);
        }
    }
    let _ = claims.check_times(1_700_000_000, 5);
});
