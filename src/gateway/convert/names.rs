//! Names that providers bound or spell in one way: of users, of calls, of kinds of pictures.

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

/// The id of a call where letters, digits, `_` and `-` alone are taken. Any other becomes one of its own.
pub fn call_id<'t, 'a>(id: &'t Text<'a>) -> Cow<'t, Text<'a>> {
    let fits = |of: char| of.is_ascii_alphanumeric() || of == '_' || of == '-';
    if !id.is_empty() && id.escaped().chars().all(fits) {
        return Cow::Borrowed(id);
    }
    let said = id.unescaped();
    let mut out: String = said.chars().take(32).map(|of| if fits(of) { of } else { '_' }).collect();
    out.push('_');
    out.extend(hash(&said).chars().take(16));
    Cow::Owned(Text::of_escaped(out))
}

/// The kind of a picture as registries spell it, without what some clients say behind it.
pub fn picture_type<'t, 'a>(media_type: &'t Text<'a>) -> Cow<'t, Text<'a>> {
    let said = media_type.escaped();
    let kind = said.split(';').next().unwrap_or_default().trim();
    match kind {
        "image/jpg" | "image/pjpeg" => Cow::Owned(Text::word("image/jpeg")),
        kind if kind.len() == said.len() && !kind.bytes().any(|byte| byte.is_ascii_uppercase()) => {
            Cow::Borrowed(media_type)
        }
        kind => {
            let lower = Text::of_escaped(kind.to_ascii_lowercase());
            Cow::Owned(if lower.is("image/jpg") { Text::word("image/jpeg") } else { lower })
        }
    }
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
