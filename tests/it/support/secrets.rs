//! The search for secrets in whatever a test leaves behind: files, logs, databases.
//!
//! The text of a key or of an access token is known by its shape, so that it need not be known which ones a test made.
//! A text with a wrong checksum is nobody's key.

use std::path::Path;

use memchr::memmem;
use tallygate::funding::CodeText;
use tallygate::keytext::{self, KEY_CHARS, KeyFinding};

/// Files that hold a secret by design, readable for their owner only.
pub const KEPT: [&str; 3] = ["demo-seed", "upstream-key", "master.key"];

const KEYS: [&str; 2] = ["tg-live-", "tg-test-"];
const CODE_PREFIX: &str = "TGC-";
const CODE_CHARS: usize = 33;
const TOKENS: [&str; 2] = ["tg-operator-", "tg-member-"];
/// Shorter than any token, longer than any word.
const TOKEN_CHARS_MIN: usize = 32;

/// Nothing that a test left may hold the text of a key, a token, or one of these.
#[track_caller]
pub fn assert_none_in(place: &str, bytes: &[u8], known: &[&str]) {
    let known = known.iter().find_map(|secret| memmem::find(bytes, secret.as_bytes()));
    let found = known.or_else(|| key_in(bytes)).or_else(|| token_in(bytes)).or_else(|| code_in(bytes));
    assert_eq!(found, None, "{place} holds a secret, at this byte of {}", bytes.len());
}

#[track_caller]
pub fn assert_none_below(folder: &Path, known: &[&str]) {
    for (name, bytes) in files(folder) {
        assert_none_in(&name, &bytes, known);
    }
}

/// Every file below a folder that can be read and is not kept by design, with its bytes.
pub fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_dir() {
            found.extend(files(&path));
        } else if kind.is_file() && !KEPT.iter().any(|kept| entry.file_name() == *kept) {
            found.push((path.display().to_string(), std::fs::read(&path).unwrap()));
        }
    }
    found
}

fn key_in(bytes: &[u8]) -> Option<usize> {
    KEYS.iter().find_map(|prefix| {
        let mut places = memmem::find_iter(bytes, prefix);
        places.find(|at| {
            let text = bytes.get(*at..*at + KEY_CHARS);
            text.is_some_and(|text| matches!(keytext::examine(text), KeyFinding::WellFormed(_)))
        })
    })
}

fn code_in(bytes: &[u8]) -> Option<usize> {
    let mut places = memmem::find_iter(bytes, CODE_PREFIX);
    places.find(|at| {
        let text = bytes.get(*at..*at + CODE_CHARS).and_then(|text| std::str::from_utf8(text).ok());
        text.is_some_and(|text| CodeText::parse(text).is_ok())
    })
}

fn token_in(bytes: &[u8]) -> Option<usize> {
    TOKENS.iter().find_map(|prefix| {
        let mut places = memmem::find_iter(bytes, prefix);
        places.find(|at| {
            let rest = &bytes[*at + prefix.len()..];
            rest.iter().take_while(|byte| byte.is_ascii_alphanumeric()).count() >= TOKEN_CHARS_MIN
        })
    })
}

/// L2: the search finds what is there: a key among other bytes, a token, a text that is named; and is quiet about a mask.
#[test]
fn the_search_for_secrets_finds_them() {
    let key = keytext::ApiKey::generate(&tallygate::clock::SystemEntropy::new(), keytext::Environment::Live);
    let place = format!("\0\u{1}{}tail", key.expose());
    assert_eq!(key_in(place.as_bytes()), Some(2));
    assert_eq!(key_in(key.masked().as_bytes()), None);
    assert_eq!(key_in(place.replace("tail", "").split_at(50).0.as_bytes()), None, "a piece");
    assert_eq!(token_in(format!("a tg-operator-{}", "0a".repeat(32)).as_bytes()), Some(2));
    assert_eq!(token_in(b"tg-operator-{id}"), None);
    let code = CodeText::generate(&tallygate::clock::SystemEntropy::new());
    assert_eq!(code_in(format!("\0{}\0", code.expose()).as_bytes()), Some(1));
    assert_eq!(code_in(code.masked().as_bytes()), None);
}
