//! Any text as the value of an `Authorization` header with HTTP Basic (RFC 7617).
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::oauth::client::parse_basic;

fuzz_target!(|text: &str| {
    if let Some((id, _)) = parse_basic(text) {
        assert!(text.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("basic")));
        assert!(id.len() <= text.len());
    }
});
