//! Names that providers bound: who asks.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::text::Text;

/// The client's name for its user. What is longer than the provider takes becomes the hash of it: still the same for the
/// same user, and in 64 characters.
pub fn user<'t, 'a>(user: &'t Text<'a>, characters_max: usize) -> Cow<'t, Text<'a>> {
    let said = user.unescaped();
    if said.chars().nth(characters_max).is_none() {
        return Cow::Borrowed(user);
    }
    Cow::Owned(Text::of_escaped(hash(&said)))
}

/// SHA-256 in hexadecimal digits.
fn hash(text: &str) -> String {
    let mut out = String::with_capacity(64);
    for byte in ring::digest::digest(&ring::digest::SHA256, text.as_bytes()).as_ref() {
        // Writing into a String cannot fail.
        let _written = write!(out, "{byte:02x}");
    }
    out
}
