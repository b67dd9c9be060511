//! Any bytes as the body of an OAuth request (RFC 6749 §3.2).
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::oauth::form::Form;

fuzz_target!(|body: &[u8]| {
    if let Ok(form) = Form::parse(body) {
        assert!(form.get("grant_type").is_none_or(|value| !value.is_empty()), "without a value is absent");
    }
});
