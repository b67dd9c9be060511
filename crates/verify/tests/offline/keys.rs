//! Which texts are taken as a public key, and what is said of the others.

use portcullis_verify::jwk::{Algorithm, JwkError, MAX_KEY, PublicJwk};

use crate::signing::{Signing, pem};

const P256: &str = r#""kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0""#;

fn with(extra: &str) -> Result<PublicJwk, JwkError> {
    PublicJwk::parse(&format!("{{{P256}{extra}}}"))
}

#[test]
fn a_key_of_each_kind_verifies_what_it_signed_and_nothing_else() {
    let keys = Algorithm::ALL.map(Signing::new);
    for (at, signing) in keys.iter().enumerate() {
        let signature = signing.sign(b"message");
        let key = PublicJwk::parse(&signing.public().to_json()).unwrap();
        assert_eq!(key, signing.public(), "JWK and PEM are the same key");
        assert_eq!(key.algorithm(), signing.algorithm());
        assert!(key.verify(b"message", &signature));
        assert!(!key.verify(b"messagf", &signature));
        assert!(!key.verify(b"message", &[]));
        for (other_at, other) in keys.iter().enumerate() {
            assert_eq!(other.public().verify(b"message", &signature), at == other_at);
        }
    }
}

#[test]
fn a_private_key_is_called_one() {
    for member in ["d", "p", "q", "dp", "dq", "qi", "oth"] {
        assert_eq!(with(&format!(r#","{member}":"AA""#)), Err(JwkError::Private), "{member}");
    }
    for label in
        ["PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "OPENSSH PRIVATE KEY"]
    {
        assert_eq!(PublicJwk::parse(&pem(label, b"anything")), Err(JwkError::Private), "{label}");
    }
    let both = Signing::new(Algorithm::EdDsa).pem() + &pem("PRIVATE KEY", b"anything");
    assert_eq!(PublicJwk::parse(&both), Err(JwkError::Private), "also after a public one");
}

#[test]
fn a_shared_secret_is_called_one() {
    assert_eq!(PublicJwk::parse(r#"{"kty":"oct","k":"AAAA"}"#), Err(JwkError::Symmetric));
    assert_eq!(with(r#","k":"AAAA""#), Err(JwkError::Symmetric));
}

#[test]
fn what_a_key_is_for_has_to_be_verifying_with_its_algorithm() {
    for extra in [
        "",
        r#","use":"sig""#,
        r#","key_ops":["verify"]"#,
        r#","alg":"ES256""#,
        r#","kid":"k","use":"sig","alg":"ES256","key_ops":["verify"],"x5t":"AAAA","unknown":[1]"#,
    ] {
        assert!(with(extra).is_ok(), "{extra}");
    }
    for extra in [
        r#","use":"enc""#,
        r#","use":["sig"]"#,
        r#","key_ops":["sign"]"#,
        r#","key_ops":[]"#,
        r#","key_ops":"verify""#,
        r#","alg":"ES384""#,
        r#","alg":"HS256""#,
        r#","alg":"none""#,
        r#","alg":null"#,
    ] {
        assert!(matches!(with(extra), Err(JwkError::OtherUse(_))), "{extra}");
    }
}

#[test]
fn what_is_not_well_formed_is_refused() {
    let x = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
    for text in [
        String::new(),
        "{}".into(),
        "[]".into(),
        format!(r#"{{{P256},"kty":"EC"}}"#),
        format!(r#"{{{P256},"kid":1}}"#),
        format!(r#"{{{P256},"kid":"{}"}}"#, "k".repeat(257)),
        format!(r#"{{"keys":[{{{P256}}}]}}"#),
        format!(r#"{{"kty":"EC","crv":"P-256","x":"{x}"}}"#),
        format!(r#"{{"kty":"EC","crv":"P-256","x":"{x}","y":"{x}"}}"#),
        format!(r#"{{"kty":"EC","crv":"P-256","x":"{x}=","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}}"#),
        // The last character has bits that are not used: another spelling of the same key.
        r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEV","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#.into(),
        r#"{"kty":"OKP","crv":"Ed25519","x":"AAAA"}"#.into(),
        format!("{{{P256},\"a\":\"{}\"}}", "a".repeat(MAX_KEY)),
        "-----BEGIN PUBLIC KEY-----\n".into(),
        "-----BEGIN PUBLIC KEY-----\n!\n-----END PUBLIC KEY-----\n".into(),
    ] {
        assert!(matches!(PublicJwk::parse(&text), Err(JwkError::Malformed(_))), "{text}");
    }
}

#[test]
fn a_pem_holds_one_public_key_in_its_one_encoding() {
    for algorithm in Algorithm::ALL {
        let text = Signing::new(algorithm).pem();
        assert!(PublicJwk::parse(&format!("\n  {}\r\n", text.replace('\n', "\r\n"))).is_ok(), "white space");
        assert!(PublicJwk::parse(&format!("{text}{text}")).is_err(), "two keys");
        assert!(PublicJwk::parse(&format!("{text}x")).is_err(), "something after it");
        assert!(PublicJwk::parse(&text.replace("PUBLIC KEY", "RSA PUBLIC KEY")).is_err(), "another label");
        assert!(PublicJwk::parse(&text.replace("PUBLIC KEY", "CERTIFICATE")).is_err(), "a certificate");
        let body: String = text.lines().filter(|line| !line.starts_with('-')).collect();
        let der = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, body).unwrap();
        assert!(PublicJwk::parse(&pem("PUBLIC KEY", &der)).is_ok());
        assert!(PublicJwk::parse(&pem("PUBLIC KEY", &[der.as_slice(), &[0]].concat())).is_err(), "a byte more");
        assert!(PublicJwk::parse(&pem("PUBLIC KEY", &der[..der.len() - 1])).is_err(), "a byte less");
    }
}

#[test]
fn rsa_keys_have_2048_to_4096_bits_and_a_sane_exponent() {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
    let rsa = |n: &[u8], e: &[u8]| {
        let [n, e] = [n, e].map(|bytes| BASE64URL.encode(bytes));
        PublicJwk::parse(&format!(r#"{{"kty":"RSA","n":"{n}","e":"{e}"}}"#))
    };
    let n = |bytes: usize| {
        let mut n = vec![0xff; bytes];
        n[bytes - 1] = 0x0d;
        n
    };
    const E: [u8; 3] = [1, 0, 1];
    assert!(rsa(&n(256), &E).is_ok());
    assert!(rsa(&n(512), &E).is_ok());
    assert!(rsa(&n(256), &[0xff, 0xff, 0xff, 0xff]).is_ok());
    let mut short = n(256);
    short[0] = 0x7f;
    for (modulus, exponent, why) in [
        (n(128), E.as_slice(), "1024 bits"),
        (short, &E, "2047 bits"),
        (n(513), &E, "4104 bits"),
        (n(256), &[3], "e = 3"),
        (n(256), &[1, 0, 2], "an even e"),
        (n(256), &[1, 0, 0, 0, 1], "a huge e"),
    ] {
        assert!(matches!(rsa(&modulus, exponent), Err(JwkError::Unsupported(_))), "{why}");
    }
    let mut even = n(256);
    even[255] = 0x0c;
    for (modulus, exponent, why) in [
        (even, E.as_slice(), "n is even"),
        ([&[0], n(256).as_slice()].concat(), &E, "a leading zero in n"),
        (n(256), &[0, 1, 0, 1], "a leading zero in e"),
        (n(256), &[], "no e"),
        (vec![], &E, "no n"),
    ] {
        assert!(matches!(rsa(&modulus, exponent), Err(JwkError::Malformed(_))), "{why}");
    }
}

/// With such a key one signature fits every message.
#[test]
fn ed25519_points_of_small_order_and_other_spellings_of_a_point_are_refused() {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
    let ed25519 = |x: &[u8; 32]| {
        PublicJwk::parse(&format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{}"}}"#, BASE64URL.encode(x)))
    };
    let mut one = [0; 32];
    one[0] = 1;
    let mut one_signed = one;
    one_signed[31] = 0x80;
    for x in [[0; 32], one, one_signed] {
        assert!(matches!(ed25519(&x), Err(JwkError::Unsupported(_))), "{x:?}");
    }
    let mut p_plus_one = [0xff; 32];
    (p_plus_one[0], p_plus_one[31]) = (0xee, 0x7f);
    assert!(matches!(ed25519(&p_plus_one), Err(JwkError::Malformed(_))), "y = p + 1");
}

#[test]
fn nothing_of_the_text_is_in_an_error() {
    let secret = "c2VjcmV0";
    for text in [
        format!(r#"{{{P256},"d":"{secret}"}}"#),
        format!(r#"{{"kty":"{secret}"}}"#),
        format!(r#"{{"kty":"EC","crv":"P-256","x":"{secret}","y":"{secret}"}}"#),
        pem("PRIVATE KEY", secret.as_bytes()),
        secret.to_owned(),
    ] {
        let error = PublicJwk::parse(&text).unwrap_err();
        assert!(!format!("{error} {error:?}").contains(secret));
    }
}
