//! What holds of any text, and of every token with one thing changed.

use std::sync::LazyLock;

use portcullis_verify::{
    dpop::{self, Expect},
    jwk::{Algorithm, PublicJwk},
    jws::{Jws, JwsError},
};
use proptest::{prelude::*, sample::select};

use crate::signing::Signing;

static KEYS: LazyLock<[Signing; 3]> = LazyLock::new(|| Algorithm::ALL.map(Signing::new));

const CLAIMS: &str = r#"{"iss":"https://id.acme.example","sub":"pc_1","exp":1700000000}"#;

fn token(key: &Signing) -> String {
    key.token(&format!(r#"{{"alg":"{}","typ":"at+jwt","kid":"k"}}"#, key.algorithm()), CLAIMS)
}

fn verifies(token: &str, key: &PublicJwk) -> Result<(), JwsError> {
    Jws::parse(token)?.verify(key).map(|_| ())
}

#[test]
fn every_proper_prefix_and_suffix_of_a_token_is_refused() {
    for key in KEYS.iter() {
        let (token, public) = (token(key), key.public());
        verifies(&token, &public).unwrap();
        for at in 0..token.len() {
            assert!(verifies(&token[..at], &public).is_err(), "prefix {at}");
        }
        for at in 1..token.len() {
            assert!(verifies(&token[at..], &public).is_err(), "suffix {at}");
        }
    }
}

#[test]
fn every_change_of_one_byte_is_refused() {
    for key in KEYS.iter() {
        let (token, public) = (token(key), key.public());
        for at in 0..token.len() {
            for byte in [b'A', b'B', b'z', b'0', b'-', b'_', b'.', b'=', b' ', b'\n', 0] {
                let mut bytes = token.clone().into_bytes();
                if bytes[at] == byte {
                    continue;
                }
                bytes[at] = byte;
                let changed = String::from_utf8(bytes).unwrap();
                assert!(verifies(&changed, &public).is_err(), "byte {at} to {byte}");
            }
        }
    }
}

fn expect() -> Expect<'static> {
    Expect { method: "GET", url: "https://api.acme.example/", access_token: None, nonce: None, now: 0, window: 60 }
}

proptest! {
    #[test]
    fn no_text_makes_a_reader_panic(text in ".{0,400}") {
        let _ = PublicJwk::parse(&text);
        prop_assert!(Jws::parse(&text).is_err());
        prop_assert!(dpop::check(&text, &expect()).is_err());
        let expect = Expect { url: &text, ..expect() };
        prop_assert!(dpop::check(&text, &expect).is_err());
    }

    #[test]
    fn no_header_and_no_claims_make_a_reader_panic(header in "[{}\":,a-z0-9\\[\\]]{0,60}", claims in "\\PC{0,60}") {
        let token = KEYS[1].token(&header, &claims);
        let _ = Jws::parse(&token);
        let _ = dpop::check(&token, &expect());
    }

    #[test]
    fn any_change_of_one_character_is_refused(
        which in 0_usize..3, at in any::<prop::sample::Index>(), to in any::<char>(),
    ) {
        let token = token(&KEYS[which]);
        let mut characters: Vec<char> = token.chars().collect();
        let at = at.index(characters.len());
        prop_assume!(characters[at] != to);
        characters[at] = to;
        let changed: String = characters.into_iter().collect();
        prop_assert!(verifies(&changed, &KEYS[which].public()).is_err());
    }

    #[test]
    fn pieces_of_good_tokens_put_together_are_refused(pieces in prop::collection::vec((0_usize..3, 0_usize..3), 3)) {
        let tokens = [token(&KEYS[0]), token(&KEYS[1]), token(&KEYS[2])];
        let part = |(which, part): (usize, usize)| tokens[which].split('.').nth(part).unwrap();
        let mixed = [part(pieces[0]), part(pieces[1]), part(pieces[2])].join(".");
        for key in KEYS.iter() {
            prop_assert!(tokens.contains(&mixed) || verifies(&mixed, &key.public()).is_err());
        }
    }

    #[test]
    fn members_of_any_type_make_no_reader_of_keys_panic(
        kty in select(vec!["EC", "OKP", "RSA", "oct", "x"]),
        crv in select(vec!["P-256", "Ed25519", "P-384"]),
        x in "[A-Za-z0-9_-]{0,50}", y in "[A-Za-z0-9_=-]{0,50}",
    ) {
        let text = format!(r#"{{"kty":"{kty}","crv":"{crv}","x":"{x}","y":"{y}","n":"{x}","e":"{y}"}}"#);
        if let Ok(key) = PublicJwk::parse(&text) {
            prop_assert_eq!(PublicJwk::parse(&key.to_json()), Ok(key));
        }
    }
}
