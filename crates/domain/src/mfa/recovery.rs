//! Recovery codes: ten, shown once, each of which stands in for a second factor one time.

use crate::credentials::CROCKFORD;

/// How many there are.
pub const HOW_MANY: usize = 10;

/// Bytes of randomness that a code is made of; the low five bits of each are used.
pub const ENTROPY_BYTES: usize = 12;

/// With so few left, the user is told to make new ones.
pub const FEW: u32 = 3;

/// A recovery code: 12 digits of Crockford's base 32 in three groups, 60 random bits. What is
/// stored of it is a keyed digest.
#[derive(Clone, PartialEq, Eq)]
pub struct RecoveryCode(String);

impl std::fmt::Debug for RecoveryCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RecoveryCode([REDACTED])")
    }
}

impl RecoveryCode {
    /// Makes the code that carries the low five bits of each of these bytes.
    #[must_use]
    pub fn new(entropy: [u8; ENTROPY_BYTES]) -> Self {
        Self(entropy.iter().map(|b| char::from(CROCKFORD[usize::from(b & 31)])).collect())
    }

    /// Reads a code as typed: in any case, with hyphens or blanks anywhere or nowhere, and with the
    /// letters that look like digits (Crockford). `None` when it cannot be one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits: String = text
            .trim()
            .chars()
            .filter(|c| !matches!(c, '-' | ' '))
            .map(|c| match c.to_ascii_lowercase() {
                'o' => '0',
                'i' | 'l' => '1',
                other => other,
            })
            .collect();
        let known = |b: u8| CROCKFORD.contains(&b);
        (digits.len() == ENTROPY_BYTES && digits.bytes().all(known)).then_some(Self(digits))
    }

    /// The code as its user sees it, once.
    #[must_use]
    pub fn shown(&self) -> String {
        [&self.0[..4], &self.0[4..8], &self.0[8..]].join("-")
    }

    /// What is digested: the code alone, however it was typed.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recovery_code_is_read_however_it_was_typed() {
        let code = RecoveryCode::new([0, 1, 2, 33, 31, 10, 11, 12, 18, 20, 24, 28]);
        assert_eq!(code.shown(), "0121-zabc-jmrw");
        for typed in ["0121-zabc-jmrw", " 0121ZABCJMRW\n", "o12I zabc jmrw", "0-1-2-l-z-a-b-c-j-m-r-w"] {
            assert_eq!(RecoveryCode::parse(typed).as_ref(), Some(&code), "{typed}");
        }
    }

    #[test]
    fn protocol38_a_longer_or_shorter_text_is_no_recovery_code() {
        for other in ["", "0121-zabc-jmr", "0121-zabc-jmrw0", "0121-zabc-jmru", "0121_zabc_jmrw", "é121zabcjmr"] {
            assert!(RecoveryCode::parse(other).is_none(), "{other}");
        }
    }

    #[test]
    fn neither_debug_nor_anything_else_prints_a_recovery_code() {
        assert_eq!(format!("{:?}", RecoveryCode::new([7; 12])), "RecoveryCode([REDACTED])");
    }
}
