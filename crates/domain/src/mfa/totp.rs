//! Codes of an authenticator app: TOTP (RFC 6238) with SHA-1, six digits and steps of 30 seconds,
//! which is what every app takes.

use jiff::Timestamp;
use totp_rs::{Algorithm, Builder, Totp};

use crate::secret::{ExposeSecret, Secret};

/// Bytes of a secret: as many as SHA-1 gives (RFC 4226 §4, R6).
pub const SECRET_BYTES: usize = 20;

/// Seconds of a step (RFC 6238 §5.2).
const STEP_SECONDS: u64 = 30;

/// Six digits as typed. Nothing is padded, shortened or rewritten: other texts are other codes
/// (protocol 38).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppCode(String);

impl AppCode {
    /// Reads six ASCII digits; white space around them is not part of a code.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        (text.len() == 6 && text.bytes().all(|b| b.is_ascii_digit())).then(|| Self(text.to_owned()))
    }
}

/// An authenticator app: the secret that it shares with the server.
pub struct AuthenticatorApp {
    secret: Secret<[u8; SECRET_BYTES]>,
}

impl AuthenticatorApp {
    /// The app with this secret.
    #[must_use]
    pub fn new(secret: [u8; SECRET_BYTES]) -> Self {
        Self { secret: Secret::new(Box::new(secret)) }
    }

    /// The app whose secret was stored; `None` when that is none.
    #[must_use]
    pub fn from_stored(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self::new)
    }

    /// The secret, to be sealed.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        self.secret.expose_secret()
    }

    fn totp(&self) -> Totp {
        Builder::new()
            .with_algorithm(Algorithm::SHA1)
            .with_digits(6)
            .with_skew(1)
            .with_step_duration(STEP_SECONDS)
            .with_secret(self.secret.expose_secret().to_vec())
            .build_noncompliant()
    }

    /// The step whose code this is, if it is one of the present step, the one before or the one
    /// after: clocks differ, and typing takes a moment (RFC 6238 §5.2). A step counts once, which
    /// the store sees to.
    #[must_use]
    pub fn step_of(&self, code: &AppCode, now: Timestamp) -> Option<i64> {
        let now = u64::try_from(now.as_second()).ok()?;
        self.totp().check(&code.0, now).and_then(|step| i64::try_from(step).ok())
    }

    /// The secret as people type it: base 32 in groups of four.
    #[must_use]
    pub fn manual_key(&self) -> String {
        let key = base32(self.secret.expose_secret());
        let groups: Vec<&str> = (0..key.len()).step_by(4).map(|at| &key[at..(at + 4).min(key.len())]).collect();
        groups.join(" ")
    }

    /// The address that an app reads from a QR code.
    #[must_use]
    pub fn address(&self, issuer: &str, account: &str) -> String {
        let (issuer, account) = (percent(issuer), percent(account));
        let secret = base32(self.secret.expose_secret());
        format!(
            "otpauth://totp/{issuer}:{account}?secret={secret}&issuer={issuer}&algorithm=SHA1&digits=6&period={STEP_SECONDS}"
        )
    }
}

/// RFC 4648 §6, without padding: what apps take.
fn base32(bytes: &[u8]) -> String {
    totp_rs::Secret::from(bytes.to_vec()).to_base32()
}

/// RFC 3986 §2.1, everything but unreserved characters.
fn percent(text: &str) -> String {
    let unreserved = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    text.bytes().map(|b| if unreserved(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app() -> AuthenticatorApp {
        AuthenticatorApp::new(*b"12345678901234567890")
    }

    fn step(code: &str, second: i64) -> Option<i64> {
        app().step_of(&AppCode::parse(code)?, Timestamp::from_second(second).unwrap())
    }

    #[test]
    fn the_vectors_of_rfc_6238_appendix_b_come_out() {
        // The last six of the eight digits that stand there, for SHA-1.
        for (second, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            assert_eq!(step(code, second), Some(second / 30), "{second}");
        }
    }

    #[test]
    fn a_code_is_good_one_step_early_and_one_step_late_and_no_further() {
        for (second, good) in [(29, true), (0, true), (30, true), (89, true), (90, false), (120, false)] {
            assert_eq!(step("287082", second), good.then_some(1), "{second}");
        }
        assert_eq!(step("287083", 59), None);
    }

    #[test]
    fn protocol38_padded_and_rewritten_codes_are_no_codes() {
        assert!(AppCode::parse(" 287082\n").is_some(), "white space around it is not part of it");
        for other in ["0287082", "87082", "287 082", "287-082", "2870820", "+28708", "٢٨٧٠٨٢", "28708２", ""]
        {
            assert!(AppCode::parse(other).is_none(), "{other}");
        }
    }

    #[test]
    fn the_manual_key_and_the_address_carry_the_same_secret() {
        assert_eq!(app().manual_key(), "GEZD GNBV GY3T QOJQ GEZD GNBV GY3T QOJQ");
        assert_eq!(
            app().address("Acme: Logistics", "maria@acme.example"),
            "otpauth://totp/Acme%3A%20Logistics:maria%40acme.example?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ\
             &issuer=Acme%3A%20Logistics&algorithm=SHA1&digits=6&period=30"
        );
        assert!(AuthenticatorApp::from_stored(&[0; 19]).is_none());
    }
}
