//! Registration secrets: what an agent or framework must present to come back under its id.

use std::fmt;
use std::str::FromStr;

use crate::digest::parse_hex32;

/// 256 random bits given out once, at first registration. It does not print itself.
#[derive(Clone)]
pub struct Secret([u8; 32]);

/// A text that is not a secret. It does not repeat the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("secret is malformed; expected 64 lower-case hex digits")]
pub struct ParseSecretError;

impl Secret {
    /// A secret of these bits, which the caller drew from the operating system's randomness.
    pub const fn from_bytes(bytes: [u8; 32]) -> Secret {
        Secret(bytes)
    }

    /// The bits, to be hashed or stored with mode 0600.
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// The bits as 64 hex digits, for the wire.
    pub fn expose_hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl FromStr for Secret {
    type Err = ParseSecretError;

    fn from_str(text: &str) -> Result<Secret, ParseSecretError> {
        parse_hex32(text).map(Secret).ok_or(ParseSecretError)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// The SHA-256 of a [`Secret`]: what the registry keeps, so that reading the registry does not give anyone an identity.
#[derive(Clone, Copy, Eq)]
pub struct SecretHash(pub [u8; 32]);

impl PartialEq for SecretHash {
    /// Takes the same time wherever the difference is.
    fn eq(&self, other: &SecretHash) -> bool {
        self.0.iter().zip(&other.0).fold(0, |acc, (a, b)| acc | (a ^ b)) == 0
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_print_itself() {
        let secret = Secret::from_bytes([7; 32]);
        assert_eq!(format!("{secret:?}"), "Secret(..)");
        assert_eq!(secret.expose_hex().parse::<Secret>().unwrap().expose(), secret.expose());
    }

    #[test]
    fn one_different_bit_is_a_different_secret() {
        let mut other = [7; 32];
        other[31] ^= 1;
        assert_ne!(SecretHash([7; 32]), SecretHash(other));
        assert_eq!(SecretHash([7; 32]), SecretHash([7; 32]));
    }
}
