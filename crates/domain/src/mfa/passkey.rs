//! Passkeys: what they are called, and how many there may be. What makes one good (origin,
//! challenge, user verification, counter) is WebAuthn's, and a library's.

use crate::accounts::{DisplayName, Invalid};

/// The most passkeys of a user.
pub const MOST: usize = 20;

/// The name a user gives to a passkey: 1 to 60 visible characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PasskeyName(String);

impl PasskeyName {
    /// Reads a name as typed.
    ///
    /// # Errors
    /// When it is empty, too long, or has characters that do not print.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if text.trim().chars().count() > 60 {
            return Err(Invalid { field: "name", message: "Enter a name of at most 60 characters.".to_owned() });
        }
        let name = DisplayName::parse(text)?;
        Ok(Self(name.as_str().to_owned()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_passkey_is_one_short_visible_line() {
        assert_eq!(PasskeyName::parse(" Laptop ").unwrap().as_str(), "Laptop");
        assert!(PasskeyName::parse(&"x".repeat(60)).is_ok());
        for bad in ["", "  ", "a\nb", "a\u{202e}b", &"x".repeat(61)] {
            assert!(PasskeyName::parse(bad).is_err(), "{bad:?}");
        }
    }
}
