//! Text that must never be shown.
//!
//! For: passwords, tokens, connection strings, upstream credentials.
//! Promises: no `Display`, no `Serialize`, and a `Debug` that says only that something is hidden,
//! so that a secret cannot reach a log, an error or a dump by accident; a comparison that takes
//! the same time wherever the texts differ.
//! Must never: be turned into text but by [`Secret::expose`], which is easy to search for.

use std::fmt;

use ring::hmac;
use serde::{Deserialize, Deserializer};

/// What stands wherever a secret would have been shown.
pub const HIDDEN: &str = "[hidden]";

/// A secret text.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself, for the one call that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `presented` is this secret, without telling by its duration where they differ:
    /// what is compared are two keyed digests.
    pub fn matches(&self, presented: &[u8]) -> bool {
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"tallygate secret comparison");
        let tag = hmac::sign(&key, presented);
        hmac::verify(&key, self.0.as_bytes(), tag.as_ref()).is_ok()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_hidden_in_debug_output_and_compares_by_content() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?} {:?}", Some(&secret)), "[hidden] Some([hidden])");
        assert!(secret.matches(b"hunter2"));
        assert!(!secret.matches(b"hunter"));
        assert!(!secret.matches(b""));
    }
}
