//! D5: every way in which a key is damaged is found and named, and the key is never shown.

use proptest::prelude::*;

use super::*;
use crate::catalogue::{Language, Refusal};
use crate::clock::SeededEntropy;
use crate::keytext::ApiKey;

fn key(seed: u64, environment: Environment) -> String {
    ApiKey::generate(&SeededEntropy::new(&seed.to_le_bytes()), environment).expose().to_owned()
}

fn a_key() -> String {
    key(1, Environment::Live)
}

fn problem(text: &str) -> KeyProblem {
    match examine(text.as_bytes()) {
        KeyFinding::Malformed(problem) => problem,
        other => panic!("{text:?}: {other:?}"),
    }
}

const fn at(character: char, position: usize) -> At {
    At { character, position }
}

/// S32: an invisible character at the end is named with its code point and place.
#[test]
fn invisible_characters_are_named_with_their_place() {
    for character in ['\u{200b}', '\u{feff}', '\u{2060}', '\u{200d}', '\u{ad}', '\u{202e}', '\u{0}', '\u{7f}']
    {
        let text = a_key() + &character.to_string();
        assert_eq!(problem(&text), KeyProblem::InvisibleCharacter(at(character, 54)));
        assert_eq!(
            problem(&format!("{character}{}", a_key())),
            KeyProblem::InvisibleCharacter(at(character, 0))
        );
    }
    let told = problem(&(a_key() + "\u{200b}")).describe(Language::En);
    assert_eq!(told, "there is an invisible character, U+200B ZERO WIDTH SPACE at position 54");
}

#[test]
fn blanks_newlines_quotes_and_full_width_characters_have_their_classes() {
    let key = a_key();
    let cut_open = |c: char| format!("{}{c}{}", &key[..20], &key[20..]);
    let table = [
        (format!(" {key}"), KeyProblem::SurroundingBlank(at(' ', 0))),
        (format!("{key}\t"), KeyProblem::SurroundingBlank(at('\t', 54))),
        (format!("{key}\u{a0}"), KeyProblem::SurroundingBlank(at('\u{a0}', 54))),
        (cut_open(' '), KeyProblem::InnerBlank(at(' ', 20))),
        (format!("{key}\n"), KeyProblem::Newline(at('\n', 54))),
        (format!("{key}\r\n"), KeyProblem::Newline(at('\r', 54))),
        (cut_open('\n'), KeyProblem::Newline(at('\n', 20))),
        (format!("\"{key}\""), KeyProblem::Quote(at('"', 0))),
        (format!("'{key}'"), KeyProblem::Quote(at('\'', 0))),
        (format!("\u{201c}{key}\u{201d}"), KeyProblem::Quote(at('\u{201c}', 0))),
        (format!("{key}\u{2019}"), KeyProblem::Quote(at('\u{2019}', 54))),
        (key.replace("tg-", "\u{ff54}g-"), KeyProblem::FullWidth(at('\u{ff54}', 0))),
        (format!("{key}\u{3000}"), KeyProblem::FullWidth(at('\u{3000}', 54))),
        (key.replace("tg-", "tg\u{2013}"), KeyProblem::WrongCharacter(at('\u{2013}', 2))),
        (cut_open('\u{430}'), KeyProblem::WrongCharacter(at('\u{430}', 20))),
        (cut_open('-'), KeyProblem::WrongCharacter(at('-', 20))),
        ("   ".to_owned(), KeyProblem::SurroundingBlank(at(' ', 0))),
    ];
    for (text, expected) in table {
        assert_eq!(problem(&text), expected, "{text:?}");
    }
}

#[test]
fn header_bytes_may_be_latin_1() {
    let mut raw = a_key().into_bytes();
    raw.push(0xa0);
    assert_eq!(examine(&raw), KeyFinding::Malformed(KeyProblem::SurroundingBlank(at('\u{a0}', 54))));
    let mut raw = a_key().into_bytes();
    raw.insert(3, 0xe9);
    assert_eq!(examine(&raw), KeyFinding::Malformed(KeyProblem::WrongCharacter(at('\u{e9}', 3))));
}

#[test]
fn bearer_twice_is_found() {
    for text in ["Bearer ", "bearer ", "BEARER\t", "Bearer: "] {
        assert_eq!(problem(&(text.to_owned() + &a_key())), KeyProblem::DoubledBearer);
    }
    assert_eq!(problem("Bearer"), KeyProblem::DoubledBearer);
    assert_eq!(examine(b"Bearer5f9a8b7c6d"), KeyFinding::Foreign);
}

#[test]
fn placeholders_and_masked_keys_are_found() {
    let placeholders = [
        "$OPENAI_API_KEY",
        "${OPENAI_API_KEY}",
        "%OPENAI_API_KEY%",
        "<your-key>",
        "YOUR_API_KEY",
        "your-api-key-here",
        "sk-your-key",
        "undefined",
        "null",
        "None",
        "sk-xxxxxxxxxxxxxxxx",
        "xxx",
        "{{api_key}}",
        "OPENAI_API_KEY",
    ];
    for text in placeholders {
        assert_eq!(problem(text), KeyProblem::Placeholder, "{text}");
    }
    for text in
        ["sk-...", "tg-live-Ab3...9xZ", "tg-live-Ab3\u{2026}9xZ", "sk-****abcd", "\u{2022}\u{2022}\u{2022}"]
    {
        assert_eq!(problem(text), KeyProblem::Masked, "{text}");
    }
    // Masked by the product itself.
    assert_eq!(problem(&crate::keytext::mask(&a_key())), KeyProblem::Masked);
}

/// S33: a truncated key says how long it is and how long it should be.
#[test]
fn truncated_and_overlong_keys_tell_their_lengths() {
    let key = a_key();
    assert_eq!(problem(&key[..53]), KeyProblem::Truncated { length: 53, expected: 54 });
    assert_eq!(problem(&key[..53]).describe(Language::En), "it is cut off: length 53, expected 54");
    assert_eq!(problem("tg-liv"), KeyProblem::Truncated { length: 6, expected: 54 });
    assert_eq!(problem(&key[5..]), KeyProblem::Truncated { length: 49, expected: 54 });
    assert_eq!(problem(&key[8..]), KeyProblem::Truncated { length: 46, expected: 54 });
    assert_eq!(problem(&(key.clone() + "x")), KeyProblem::TooLong { length: 55, expected: 54 });
    assert_eq!(problem(&(key.clone() + &key)), KeyProblem::TooLong { length: 108, expected: 54 });
    assert_eq!(problem(&format!("API_TOKEN={key}")), KeyProblem::TooLong { length: 64, expected: 54 });
    assert_eq!(problem(&"k".repeat(513)), KeyProblem::TooLong { length: 513, expected: 512 });
}

#[test]
fn a_prefix_that_is_nearly_right_is_found() {
    let key = a_key();
    let table = [
        (key.replace("tg-live-", "tg-Live-"), at('L', 3)),
        (key.replace("tg-live-", "TG-LIVE-"), at('T', 0)),
        (key.replace("tg-live-", "tg_live-"), at('_', 2)),
        (key.replace("tg-live-", "tgg-live-"), at('g', 2)),
        (key.replace("tg-live-", "g-live-"), at('g', 0)),
    ];
    for (text, place) in &table[..4] {
        assert_eq!(problem(text), KeyProblem::WrongPrefix(*place), "{text}");
    }
    // What lost its beginning is cut off, wherever the cut is.
    assert_eq!(problem(&table[4].0), KeyProblem::Truncated { length: 53, expected: 54 });
}

#[test]
fn keys_of_other_products_pass_as_they_are() {
    let keys = [
        "sk-proj-4fK2mNq8Rt6Yv1Zx3Wc5Bd7Fg9Hj0Lp",
        "sk-ant-api03-Zk3_yT9-wQ2Lm8",
        "AIzaSyD4f8Kq2mNq8Rt6Yv1Zx3Wc5Bd7Fg9Hj",
        "xai-0aB1cD2eF3gH",
        "eyJhbGciOi.eyJzdWIi0.4f8Kq2mNq8",
        "tg-prod-0123456789",
        "abc123",
    ];
    for text in keys {
        assert_eq!(examine(text.as_bytes()), KeyFinding::Foreign, "{text}");
    }
    assert_eq!(examine(b""), KeyFinding::Empty);
}

/// S32: the refusal never shows the key.
#[test]
fn no_finding_shows_the_key() {
    let key = a_key();
    let damaged = [
        format!("{key}\u{200b}"),
        key[..50].to_owned(),
        format!("\"{key}\""),
        key.replace("tg-live-", "tg-Live-"),
        format!("Bearer {key}"),
        format!("{key}extra"),
    ];
    for text in damaged {
        let refusal = Refusal::from(&problem(&text));
        let shown = format!("{refusal:?} {:?}", problem(&text));
        let windows = key.as_bytes()[8..].windows(4);
        for part in windows.map(|part| std::str::from_utf8(part).unwrap()) {
            assert!(!shown.contains(part), "{shown}");
        }
    }
}

fn environments() -> impl Strategy<Value = Environment> {
    prop_oneof![Just(Environment::Live), Just(Environment::Test)]
}

proptest! {
    #[test]
    fn every_key_is_recognised(seed: u64, environment in environments()) {
        let text = key(seed, environment);
        prop_assert_eq!(examine(text.as_bytes()), KeyFinding::WellFormed(environment));
    }

    /// A cyclic redundancy check of 32 bits finds every error burst of up to 32 bits, so this
    /// holds for every key, not only for those tried.
    #[test]
    fn one_changed_character_is_always_found(
        seed: u64, environment in environments(), place in 0usize..54, byte in 0x20u8..0x7f,
    ) {
        let mut text = key(seed, environment).into_bytes();
        prop_assume!(text[place] != byte);
        text[place] = byte;
        prop_assert!(matches!(examine(&text), KeyFinding::Malformed(_)), "{}", String::from_utf8_lossy(&text));
    }

    #[test]
    fn two_neighbours_swapped_are_always_found(seed: u64, environment in environments(), place in 8usize..53) {
        let mut text = key(seed, environment).into_bytes();
        prop_assume!(text[place] != text[place + 1]);
        text.swap(place, place + 1);
        prop_assert_eq!(examine(&text), KeyFinding::Malformed(KeyProblem::Checksum));
    }

    #[test]
    fn one_missing_character_is_always_found(seed: u64, environment in environments(), place in 0usize..54) {
        let mut text = key(seed, environment);
        text.remove(place);
        prop_assert!(matches!(examine(text.as_bytes()), KeyFinding::Malformed(_)), "{}", text);
    }

    #[test]
    fn every_truncation_is_found(seed: u64, environment in environments(), length in 1usize..54, from_front: bool) {
        let text = key(seed, environment);
        // From the front, a few last characters alone could be anybody's key.
        let rest = if from_front { &text[54 - length.max(46)..] } else { &text[..length] };
        prop_assert_eq!(
            examine(rest.as_bytes()),
            KeyFinding::Malformed(KeyProblem::Truncated { length: rest.len(), expected: 54 })
        );
    }

    #[test]
    fn one_added_character_is_always_found(
        seed: u64, environment in environments(), place in 0usize..=54, added: char,
    ) {
        let mut text = key(seed, environment);
        text.insert(place, added);
        prop_assert!(matches!(examine(text.as_bytes()), KeyFinding::Malformed(_)), "{:?}", text);
    }

    #[test]
    fn no_bytes_panic_and_no_place_is_outside(raw in proptest::collection::vec(any::<u8>(), 0..80)) {
        if let KeyFinding::Malformed(problem) = examine(&raw) {
            let chars = raw.len();
            prop_assert!(problem.at().is_none_or(|at| at.position < chars));
            problem.describe(Language::Zh);
        }
    }
}
