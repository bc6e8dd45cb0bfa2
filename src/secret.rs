//! Text that must never be shown.
//!
//! For: passwords, tokens, connection strings, upstream credentials.
//! Promises: no `Display`, no `Serialize`, and a `Debug` that says only that something is hidden,
//! so that a secret cannot reach a log, an error or a dump by accident; a comparison that takes
//! the same time wherever the texts differ. The memory is overwritten when a secret is dropped
//! (best effort: copies left behind by moves and growth are not reached).
//! Must never: be turned into text but by [`Secret::expose`], which is easy to search for.

mod keyring;
mod master;

use std::fmt;
use std::hint::black_box;

pub use self::keyring::{HashKeys, Held, Keyring, Link};
pub use self::master::{
    MASTER_KEY_BYTES, MASTER_KEY_FILE, MasterKey, MasterKeyError, MasterKeyId, sealed_by,
};
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

impl Drop for Secret {
    fn drop(&mut self) {
        wipe(&mut std::mem::take(&mut self.0).into_bytes());
    }
}

/// Overwrites in place; the compiler may not leave it out although nobody reads the bytes again.
fn wipe(bytes: &mut [u8]) {
    bytes.fill(0);
    black_box(bytes);
}

/// Secret bytes: a derived key, an opened credential.
#[derive(Clone)]
pub struct SecretBytes(Vec<u8>);

impl SecretBytes {
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes themselves, for the one call that needs them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl Drop for SecretBytes {
    fn drop(&mut self) {
        wipe(&mut self.0);
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
        assert_eq!(format!("{:?}", SecretBytes::new(*b"hunter2")), HIDDEN);
    }

    #[test]
    fn wiping_overwrites_in_place() {
        let mut bytes = [7u8; 16];
        wipe(&mut bytes);
        assert_eq!(bytes, [0; 16]);
    }
}
