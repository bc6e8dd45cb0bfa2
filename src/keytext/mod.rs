//! The text of an API key: its format, and what can be wrong with it.
//!
//! For: making keys, recognising them in what a client sent, and telling exactly what was damaged
//! on the way (requirement D5), on the server and in `tallygate doctor key` alike.
//! Promises: a key of ours with one character changed, left out or added is always found; an
//! intact key passes without an allocation; foreign keys (`sk-…`) pass as they are.
//! Must never: put a key, or a part of one longer than [`mask`] shows, into a finding, a log or a
//! `Debug` output.
//!
//! Format: `tg-live-` or `tg-test-`, 40 random base62 characters, 6 base62 characters of the
//! CRC-32 (ISO-HDLC, the one of zlib) of everything before them. Base62 is `0-9A-Za-z`, most
//! significant first, padded with `0`. Example:
//! `tg-test-00000000000000000000000000000000000000002in2Dx`.

mod credential;
mod examine;
mod problem;
mod unicode;

pub use credential::{CredentialFinding, PresentedKey, credential_from};
pub use examine::{KeyFinding, examine};
pub use problem::{At, KeyProblem};

use std::fmt;

use crate::clock::Entropy;
use crate::secret::HIDDEN;

/// Whose books a key posts to (requirement D7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Environment {
    Live,
    Test,
}

impl Environment {
    pub const ALL: [Self; 2] = [Self::Live, Self::Test];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Test => "test",
        }
    }

    /// The book that its keys post to.
    pub const fn book(self) -> ledger::Book {
        match self {
            Self::Live => ledger::Book::Live,
            Self::Test => ledger::Book::Test,
        }
    }

    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Live => "tg-live-",
            Self::Test => "tg-test-",
        }
    }
}

pub const PREFIX_CHARS: usize = 8;
pub const RANDOM_CHARS: usize = 40;
pub const CHECKSUM_CHARS: usize = 6;
/// Characters, and bytes, of a whole key.
pub const KEY_CHARS: usize = PREFIX_CHARS + RANDOM_CHARS + CHECKSUM_CHARS;
const SIGNED_CHARS: usize = PREFIX_CHARS + RANDOM_CHARS;

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A key of ours, as it is handed out once.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey([u8; KEY_CHARS]);

impl ApiKey {
    /// A new key with 238 bits of randomness.
    pub fn generate(entropy: &dyn Entropy, environment: Environment) -> Self {
        let mut text = [0u8; KEY_CHARS];
        let (prefix, rest) = text.split_at_mut(PREFIX_CHARS);
        prefix.copy_from_slice(environment.prefix().as_bytes());
        let (random, _) = rest.split_at_mut(RANDOM_CHARS);
        fill_base62(entropy, random);
        Self::sealed(text)
    }

    /// Puts the checksum behind the first 48 characters.
    fn sealed(mut text: [u8; KEY_CHARS]) -> Self {
        let (signed, checksum) = text.split_at_mut(SIGNED_CHARS);
        checksum.copy_from_slice(&checksum_of(signed));
        Self(text)
    }

    /// The key itself, for the one answer that shows it and for hashing.
    pub fn expose(&self) -> &str {
        // The alphabet is ASCII.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    pub fn environment(&self) -> Environment {
        environment_of(&self.0).unwrap_or(Environment::Live)
    }

    /// How lists show it: `tg-live-Ab3…9xZ`.
    pub fn masked(&self) -> String {
        mask(self.expose())
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKey({HIDDEN})")
    }
}

/// Every character equally likely: of the 64 values of six bits, the two that no character stands
/// for are drawn again.
fn fill_base62(entropy: &dyn Entropy, random: &mut [u8]) {
    let mut places = random.iter_mut();
    let mut next = places.next();
    while next.is_some() {
        let mut drawn = [0u8; 64];
        entropy.fill(&mut drawn);
        for byte in drawn {
            if let (Some(place), Some(character)) = (next.as_deref_mut(), BASE62.get(usize::from(byte & 63)))
            {
                *place = *character;
                next = places.next();
            }
        }
    }
}

fn checksum_of(signed: &[u8]) -> [u8; CHECKSUM_CHARS] {
    let mut rest = crc32fast::hash(signed);
    let mut text = [b'0'; CHECKSUM_CHARS];
    for place in text.iter_mut().rev() {
        *place = BASE62.get((rest % 62) as usize).copied().unwrap_or(b'0');
        rest /= 62;
    }
    text
}

/// The environment that a text's prefix names.
fn environment_of(text: &[u8]) -> Option<Environment> {
    Environment::ALL.into_iter().find(|environment| text.starts_with(environment.prefix().as_bytes()))
}

/// A whole, intact key of ours; the way of nearly every request.
fn well_formed(text: &[u8]) -> Option<Environment> {
    let environment = environment_of(text)?;
    let (signed, checksum) = text.split_at_checked(SIGNED_CHARS)?;
    let intact = text.len() == KEY_CHARS
        && signed.iter().skip(PREFIX_CHARS).all(u8::is_ascii_alphanumeric)
        && checksum == checksum_of(signed);
    intact.then_some(environment)
}

/// A key as lists show it: its kind and at most three characters at either end. Short texts show
/// nothing.
pub fn mask(key: &str) -> String {
    let prefix = environment_of(key.as_bytes()).map_or("", Environment::prefix);
    let body: Vec<char> = key.chars().skip(prefix.len()).collect();
    match body.as_slice() {
        [a, b, c, middle @ .., x, y, z] if middle.len() >= 10 => format!("{prefix}{a}{b}{c}…{x}{y}{z}"),
        _ => format!("{prefix}…"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{SeededEntropy, SystemEntropy};

    #[test]
    fn the_documented_key_is_one() {
        let text = "tg-test-00000000000000000000000000000000000000002in2Dx";
        assert_eq!(well_formed(text.as_bytes()), Some(Environment::Test));
        let doc = include_str!("mod.rs").lines().take_while(|line| line.starts_with("//!"));
        assert!(doc.collect::<String>().contains(text));
    }

    #[test]
    fn a_generated_key_is_well_formed_and_hidden() {
        for environment in Environment::ALL {
            let key = ApiKey::generate(&SystemEntropy::new(), environment);
            assert_eq!(key.expose().len(), 54);
            assert_eq!(key.environment(), environment);
            assert_eq!(well_formed(key.expose().as_bytes()), Some(environment));
            assert_eq!(format!("{key:?}"), "ApiKey([hidden])");
        }
    }

    #[test]
    fn a_mask_shows_no_more_than_three_characters_at_either_end() {
        let key = ApiKey::generate(&SeededEntropy::new(b"mask"), Environment::Live);
        let (masked, text) = (key.masked(), key.expose());
        assert_eq!(masked, format!("{}…{}", &text[..11], &text[51..]));
        assert_eq!(mask("sk-proj-abcdefghijklmnop"), "sk-…nop");
        assert_eq!(mask("sk-short"), "…");
        assert_eq!(mask("tg-live-abc"), "tg-live-…");
        assert_eq!(mask(""), "…");
    }

    /// Every character of the alphabet comes up about equally often.
    #[test]
    fn the_random_part_is_even() {
        let mut drawn = vec![0u8; 62_000];
        fill_base62(&SeededEntropy::new(b"even"), &mut drawn);
        for character in BASE62 {
            let count = drawn.iter().filter(|c| *c == character).count();
            assert!((850..1_150).contains(&count), "{}: {count}", *character as char);
        }
    }
}
