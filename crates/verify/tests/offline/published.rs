//! The examples of the RFCs.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use portcullis_verify::{
    dpop::{self, DpopError, Expect},
    jwk::{JwkError, PublicJwk},
    jws::{Jws, JwsError},
};

const A_PAYLOAD: &str =
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";

fn joes(token: &str, key: &str) {
    let claims = Jws::parse(token).unwrap().verify(&PublicJwk::parse(key).unwrap()).unwrap();
    assert_eq!(claims.text("iss").unwrap(), "joe");
    assert_eq!(claims.date("exp").unwrap(), Some(1_300_819_380));
    claims.check_times(1_300_819_379, 0).unwrap();
    assert_eq!(claims.check_times(1_300_819_380, 0), Err(JwsError::Expired));
}

#[test]
fn rfc7515_a2_rs256_verifies() {
    let token = format!(
        "eyJhbGciOiJSUzI1NiJ9.{A_PAYLOAD}.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"
    );
    joes(
        &token,
        r#"{"kty":"RSA","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ","e":"AQAB"}"#,
    );
}

#[test]
fn rfc7515_a3_es256_verifies() {
    let token = format!(
        "eyJhbGciOiJFUzI1NiJ9.{A_PAYLOAD}.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
    );
    joes(
        &token,
        r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#,
    );
}

/// What of appendix A is refused on purpose, whatever the key: a shared secret, another curve, no
/// signature, the two JSON serialisations.
#[test]
fn rfc7515_a1_a4_a5_a6_a7_are_refused() {
    let a1 = format!(
        "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{A_PAYLOAD}.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    );
    assert_eq!(Jws::parse(&a1).err(), Some(JwsError::Algorithm), "A.1 HS256");
    let secret = r#"{"kty":"oct","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"}"#;
    assert_eq!(PublicJwk::parse(secret), Err(JwkError::Symmetric), "the key of A.1");
    let a4 = "eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZA.AdwMgeerwtHoh-l192l60hp9wAHZFVJbLfD_UxMi70cwnZOYaRI1bKPWROc-mZZqwqT2SI-KGDKB34XO0aw_7XdtAG8GaSwFKdCAPZgoXD2YBJZCPEX3xKpRwcdOO8KpEHwJjyqOgzDO7iKvU8vcnwNrmxYbSW9ERBXukOXolLzeO_Jn";
    assert_eq!(Jws::parse(a4).err(), Some(JwsError::Malformed("payload")), "A.4 ES512: the payload is no object");
    let a4 = format!("eyJhbGciOiJFUzUxMiJ9.{A_PAYLOAD}.AdwM");
    assert_eq!(Jws::parse(&a4).err(), Some(JwsError::Algorithm), "ES512");
    let a5 = format!("eyJhbGciOiJub25lIn0.{A_PAYLOAD}.");
    assert_eq!(Jws::parse(&a5).err(), Some(JwsError::Algorithm), "A.5 none");
    let a6 = format!(
        r#"{{"payload":"{A_PAYLOAD}","signatures":[{{"protected":"eyJhbGciOiJFUzI1NiJ9","header":{{"kid":"e.f"}},"signature":"DtEh."}}]}}"#
    );
    assert!(matches!(Jws::parse(&a6), Err(JwsError::Malformed(_))), "A.6 and A.7 JSON serialisation");
}

#[test]
fn rfc7638_3_1_the_thumbprint_of_an_rsa_key() {
    let key = PublicJwk::parse(r#"{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw","e":"AQAB","alg":"RS256","kid":"2011-04-29"}"#).unwrap();
    assert_eq!(key.thumbprint(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    assert_eq!(key.kid(), Some("2011-04-29"));
}

#[test]
fn rfc8037_a_ed25519() {
    let private = r#"{"kty":"OKP","crv":"Ed25519","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
    assert_eq!(PublicJwk::parse(private), Err(JwkError::Private), "A.1");
    let key = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
    let key = PublicJwk::parse(key).expect("A.2");
    assert_eq!(key.thumbprint(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k", "A.3");
    // A.4 and A.5: the payload is a text, so it is a signature, but not a token.
    let signed = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
    let signature = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    assert!(key.verify(signed.as_bytes(), &BASE64URL.decode(signature).unwrap()), "A.5");
    assert_eq!(Jws::parse(&format!("{signed}.{signature}")).err(), Some(JwsError::Malformed("payload")));
    // A.6 is key agreement.
    let x25519 = r#"{"kty":"OKP","crv":"X25519","x":"3p7bfXt9wbTTW2HC7OQ1Nz-DQ8hbeGdNrfx-FG-IK08"}"#;
    assert!(matches!(PublicJwk::parse(x25519), Err(JwkError::Unsupported(_))), "A.6");
}

const DPOP_HEADER: &str = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19";
const DPOP_TOKEN: &str = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU";

#[test]
fn rfc9449_5_the_proof_of_a_token_request() {
    let proof = format!(
        "{DPOP_HEADER}.eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwiaWF0IjoxNTYyMjYyNjE2fQ.2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg"
    );
    let expect = Expect {
        method: "POST",
        url: "https://server.example.com/token",
        access_token: None,
        nonce: None,
        now: 1_562_262_616,
        window: 60,
    };
    let checked = dpop::check(&proof, &expect).unwrap();
    assert_eq!(checked.jti, "-BwC3ESc6acc2lTc");
    assert_eq!(checked.iat, 1_562_262_616);
    assert_eq!(checked.nonce, None);
    assert_eq!(checked.jkt, "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I", "the jkt of §6.1");
    let late = Expect { now: expect.now + 61, ..expect };
    assert_eq!(dpop::check(&proof, &late), Err(DpopError::Time));
    let token = Expect { access_token: Some(DPOP_TOKEN), ..expect };
    assert_eq!(dpop::check(&proof, &token), Err(DpopError::AccessToken), "it has no ath");
}

#[test]
fn rfc9449_7_1_the_proof_of_a_request_to_a_resource() {
    let proof = format!(
        "{DPOP_HEADER}.eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIjoiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9wcm90ZWN0ZWRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8ycjJaM0RaNTNFc05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9.2oW9RP35yRqzhrtNP86L-Ey71EOptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA"
    );
    let expect = Expect {
        method: "GET",
        url: "https://resource.example.org/protectedresource?a=b",
        access_token: Some(DPOP_TOKEN),
        nonce: None,
        now: 1_562_262_618,
        window: 60,
    };
    assert_eq!(dpop::check(&proof, &expect).unwrap().jti, "e1j3V_bKic8-LAEB");
    let other = Expect { access_token: Some("Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxV"), ..expect };
    assert_eq!(dpop::check(&proof, &other), Err(DpopError::AccessToken));
    let nonce = Expect { nonce: Some("eyJ7S_zG.eyJH0-Z.HX4w-7v"), ..expect };
    assert_eq!(dpop::check(&proof, &nonce), Err(DpopError::Nonce));
}
