//! The checker: what is this text, and if it should be a key, what happened to it?

use std::borrow::Cow;

use super::problem::{At, KeyProblem};
use super::unicode::{Kind, kind};
use super::{CHECKSUM_CHARS, Environment, KEY_CHARS, PREFIX_CHARS, RANDOM_CHARS};
use super::{checksum_of, environment_of, well_formed};

/// What a text is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyFinding {
    /// Nothing at all.
    Empty,
    /// A key of ours, whole and intact. Whether it exists is another question.
    WellFormed(Environment),
    /// Of another product, as far as its form tells; such keys can be imported.
    Foreign,
    Malformed(KeyProblem),
}

/// Longest text that may be a key of any product, in bytes.
const FOREIGN_BYTES_MAX: usize = 512;

/// Examines the raw bytes of a key: UTF-8, else Latin-1, as HTTP headers may carry either
/// (RFC 9110, 5.5). An intact key, of ours or foreign, costs no allocation.
pub fn examine(raw: &[u8]) -> KeyFinding {
    if let Some(environment) = well_formed(raw) {
        return KeyFinding::WellFormed(environment);
    }
    if raw.is_empty() {
        return KeyFinding::Empty;
    }
    let text = std::str::from_utf8(raw)
        .map_or_else(|_| Cow::Owned(raw.iter().map(|byte| char::from(*byte)).collect()), Cow::Borrowed);
    match find_problem(&text) {
        Some(problem) => KeyFinding::Malformed(problem),
        None => KeyFinding::Foreign,
    }
}

fn find_problem(text: &str) -> Option<KeyProblem> {
    if doubled_bearer(text) {
        return Some(KeyProblem::DoubledBearer);
    }
    if let Some(problem) = damaging_character(text) {
        return Some(problem);
    }
    if is_masked(text) {
        return Some(KeyProblem::Masked);
    }
    // From here on the text is visible ASCII without quotes.
    like_ours(text.as_bytes())
        .or_else(|| is_placeholder(text).then_some(KeyProblem::Placeholder))
        .or_else(|| too_long(text.len(), FOREIGN_BYTES_MAX))
}

fn too_long(length: usize, expected: usize) -> Option<KeyProblem> {
    (length > expected).then_some(KeyProblem::TooLong { length, expected })
}

fn doubled_bearer(text: &str) -> bool {
    let word = text.split_at_checked("bearer".len()).filter(|(word, _)| word.eq_ignore_ascii_case("bearer"));
    word.is_some_and(|(_, behind)| {
        behind.is_empty() || behind.starts_with([' ', '\t', ':', '\u{a0}', '\u{3000}'])
    })
}

/// The first character that no key of any product has.
fn damaging_character(text: &str) -> Option<KeyProblem> {
    let (position, character) = text.chars().enumerate().find(|(_, c)| kind(*c).is_some())?;
    let last = text.chars().enumerate().filter(|(_, c)| kind(*c).is_none()).last();
    let at = At { character, position };
    // Blanks around a key are another mistake than blanks inside of one.
    let inside = position > 0 && last.is_some_and(|(last, _)| position < last);
    Some(match kind(character)? {
        Kind::Blank if inside => KeyProblem::InnerBlank(at),
        Kind::Blank => KeyProblem::SurroundingBlank(at),
        Kind::Newline => KeyProblem::Newline(at),
        Kind::Invisible => KeyProblem::InvisibleCharacter(at),
        Kind::FullWidth => KeyProblem::FullWidth(at),
        Kind::Quote => KeyProblem::Quote(at),
        Kind::Mask => KeyProblem::Masked,
        Kind::Other => KeyProblem::WrongCharacter(at),
    })
}

/// What is wrong with a text that was a key of ours before something happened to it; `None` for
/// the keys of others.
fn like_ours(text: &[u8]) -> Option<KeyProblem> {
    if let Some(whole) = tail_of_ours(text) {
        return Some(whole);
    }
    if environment_of(text).is_none() {
        return wrong_prefix(text);
    }
    let wrong = text.iter().enumerate().skip(PREFIX_CHARS).find(|(_, byte)| !byte.is_ascii_alphanumeric());
    if let Some((position, byte)) = wrong {
        return Some(KeyProblem::WrongCharacter(At { character: char::from(*byte), position }));
    }
    let (length, expected) = (text.len(), KEY_CHARS);
    if length < expected {
        return Some(KeyProblem::Truncated { length, expected });
    }
    Some(too_long(length, expected).unwrap_or(KeyProblem::Checksum))
}

/// A key of ours that lost its beginning, or got something before it: its end still carries the
/// checksum of the whole.
fn tail_of_ours(text: &[u8]) -> Option<KeyProblem> {
    let (before, body) = text.split_at_checked(text.len().checked_sub(RANDOM_CHARS + CHECKSUM_CHARS)?)?;
    let (random, checksum) = body.split_at_checked(RANDOM_CHARS)?;
    let fits = |environment: &Environment| {
        let mut signed = [0u8; PREFIX_CHARS + RANDOM_CHARS];
        let (prefix, rest) = signed.split_at_mut(PREFIX_CHARS);
        prefix.copy_from_slice(environment.prefix().as_bytes());
        rest.copy_from_slice(random);
        checksum == checksum_of(&signed)
    };
    let environment = Environment::ALL.into_iter().find(fits)?;
    let (length, expected, prefix) = (text.len(), KEY_CHARS, environment.prefix().as_bytes());
    Some(match before.len() {
        _ if prefix.ends_with(before) => KeyProblem::Truncated { length, expected },
        // The right number of characters or nearly so, but not the right ones.
        0..=9 => wrong_prefix(text).unwrap_or(KeyProblem::WrongPrefix(first_difference(text, prefix))),
        _ => KeyProblem::TooLong { length, expected },
    })
}

fn first_difference(text: &[u8], prefix: &[u8]) -> At {
    let position = text.iter().zip(prefix).position(|(found, wanted)| found != wanted).unwrap_or(0);
    At { character: text.get(position).map_or('\u{fffd}', |byte| char::from(*byte)), position }
}

/// One character of the prefix changed, missing or too much, its case changed, or the text ends
/// inside of it.
fn wrong_prefix(text: &[u8]) -> Option<KeyProblem> {
    for environment in Environment::ALL {
        let prefix = environment.prefix().as_bytes();
        if prefix.starts_with(text) {
            return Some(KeyProblem::Truncated { length: text.len(), expected: KEY_CHARS });
        }
        let At { position, character } = first_difference(text, prefix);
        let (here, next) = (prefix.get(position..)?, prefix.get(position + 1..)?);
        let starts = |at: usize, wanted: &[u8]| text.get(at..).is_some_and(|rest| rest.starts_with(wanted));
        let changed = starts(position + 1, next);
        let added = starts(position + 1, here);
        let missing = starts(position, next);
        let other_case = text.get(..PREFIX_CHARS).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
        if changed || added || missing || other_case {
            return Some(KeyProblem::WrongPrefix(At { character, position }));
        }
    }
    None
}

/// `tg-live-Ab3...9xZ`, `sk-***`: what lists and logs show instead of a key.
fn is_masked(text: &str) -> bool {
    ["...", "***"].iter().any(|mask| text.contains(mask))
}

/// What stands in an example where the key belongs.
fn is_placeholder(text: &str) -> bool {
    const WORDS: [&str; 12] = [
        "undefined",
        "null",
        "none",
        "nil",
        "true",
        "false",
        "key",
        "token",
        "apikey",
        "api_key",
        "api-key",
        "secret",
    ];
    /// Parts of an example's name; only looked for in texts without a digit, as random keys have.
    const PARTS: [&str; 5] = ["api_key", "api-key", "apikey", "your", "key-here"];

    let has = |part: &str| {
        text.as_bytes().windows(part.len()).any(|found| found.eq_ignore_ascii_case(part.as_bytes()))
    };
    let body = text.rsplit_once(['-', '_']).map_or(text, |(_, body)| body);
    text.starts_with(['$', '<', '{', '%', '['])
        || WORDS.iter().any(|word| text.eq_ignore_ascii_case(word))
        || (!text.bytes().any(|byte| byte.is_ascii_digit()) && PARTS.iter().any(|part| has(part)))
        || (body.len() >= 3 && body.bytes().all(|byte| matches!(byte, b'x' | b'X')))
}

#[cfg(test)]
mod tests;
