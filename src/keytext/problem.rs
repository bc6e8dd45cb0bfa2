//! What is wrong with a key text, and how it is told.

use crate::catalogue::{Code, Language, Phrase, Refusal, Value, fill_with};

use super::unicode;

/// One character and its place: characters from 0, in the text behind "Bearer ".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At {
    pub character: char,
    pub position: usize,
}

/// Why a text cannot be a key. It never holds more of the key than one wrong character.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyProblem {
    /// A blank before or behind the key.
    SurroundingBlank(At),
    InnerBlank(At),
    Newline(At),
    /// Zero-width characters, marks of direction, soft hyphens, controls.
    InvisibleCharacter(At),
    FullWidth(At),
    /// Straight or curly.
    Quote(At),
    /// A character that no key has, such as a dash that only looks like a hyphen.
    WrongCharacter(At),
    /// One character of `tg-live-` or `tg-test-` is changed, missing or too much.
    WrongPrefix(At),
    DoubledBearer,
    /// `$OPENAI_API_KEY`, `YOUR_API_KEY`, `sk-xxxx` …
    Placeholder,
    /// A key as lists show it: `tg-live-Ab3…9xZ`.
    Masked,
    /// Lengths in characters.
    Truncated {
        length: usize,
        expected: usize,
    },
    TooLong {
        length: usize,
        expected: usize,
    },
    /// Right in form, but at least one character was changed.
    Checksum,
    /// The Authorization header does not begin with `Bearer `.
    WrongScheme,
    /// Several headers carry different keys.
    Several {
        headers: Vec<&'static str>,
    },
}

impl KeyProblem {
    /// The stable name of its class.
    pub const fn class(&self) -> &'static str {
        match self {
            Self::SurroundingBlank(_) => "surrounding_blank",
            Self::InnerBlank(_) => "inner_blank",
            Self::Newline(_) => "newline",
            Self::InvisibleCharacter(_) => "invisible_character",
            Self::FullWidth(_) => "full_width",
            Self::Quote(_) => "quote",
            Self::WrongCharacter(_) => "wrong_character",
            Self::WrongPrefix(_) => "wrong_prefix",
            Self::DoubledBearer => "doubled_bearer",
            Self::Placeholder => "placeholder",
            Self::Masked => "masked",
            Self::Truncated { .. } => "truncated",
            Self::TooLong { .. } => "too_long",
            Self::Checksum => "checksum",
            Self::WrongScheme => "wrong_scheme",
            Self::Several { .. } => "several",
        }
    }

    /// The character to blame, if it is one.
    pub const fn at(&self) -> Option<At> {
        match self {
            Self::SurroundingBlank(at)
            | Self::InnerBlank(at)
            | Self::Newline(at)
            | Self::InvisibleCharacter(at)
            | Self::FullWidth(at)
            | Self::Quote(at)
            | Self::WrongCharacter(at)
            | Self::WrongPrefix(at) => Some(*at),
            _ => None,
        }
    }

    const fn phrase(&self) -> Phrase {
        match self {
            Self::SurroundingBlank(_) => Phrase::KeySurroundingBlank,
            Self::InnerBlank(_) => Phrase::KeyInnerBlank,
            Self::Newline(_) => Phrase::KeyNewline,
            Self::InvisibleCharacter(_) => Phrase::KeyInvisibleCharacter,
            Self::FullWidth(_) => Phrase::KeyFullWidth,
            Self::Quote(_) => Phrase::KeyQuote,
            Self::WrongCharacter(_) => Phrase::KeyWrongCharacter,
            Self::WrongPrefix(_) => Phrase::KeyWrongPrefix,
            Self::DoubledBearer => Phrase::KeyDoubledBearer,
            Self::Placeholder => Phrase::KeyPlaceholder,
            Self::Masked => Phrase::KeyMasked,
            Self::Truncated { .. } => Phrase::KeyTruncated,
            Self::TooLong { .. } => Phrase::KeyTooLong,
            Self::Checksum => Phrase::KeyChecksum,
            Self::WrongScheme => Phrase::KeyWrongScheme,
            Self::Several { .. } => Phrase::KeySeveral,
        }
    }

    /// In words, without a full stop.
    pub fn describe(&self, language: Language) -> String {
        fill_with(self.phrase().get(language), |name, out| match (name, self, self.at()) {
            ("character", _, Some(at)) => out.push_str(&unicode::describe(at.character)),
            ("position", _, Some(at)) => out.push_str(&at.position.to_string()),
            ("length", Self::Truncated { length, .. } | Self::TooLong { length, .. }, _) => {
                out.push_str(&length.to_string());
            }
            ("expected", Self::Truncated { expected, .. } | Self::TooLong { expected, .. }, _) => {
                out.push_str(&expected.to_string());
            }
            ("headers", Self::Several { headers }, _) => {
                out.push_str(&headers.join(Phrase::Separator.get(language)));
            }
            _ => {}
        })
    }
}

impl From<&KeyProblem> for Refusal {
    fn from(problem: &KeyProblem) -> Self {
        let (en, zh) = (problem.describe(Language::En).into(), problem.describe(Language::Zh).into());
        Self::new(Code::MalformedKey).param("class", problem.class()).param("problem", Value::Both { en, zh })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Vec<KeyProblem> {
        let at = At { character: '\u{200b}', position: 54 };
        vec![
            KeyProblem::SurroundingBlank(at),
            KeyProblem::InnerBlank(at),
            KeyProblem::Newline(at),
            KeyProblem::InvisibleCharacter(at),
            KeyProblem::FullWidth(at),
            KeyProblem::Quote(at),
            KeyProblem::WrongCharacter(at),
            KeyProblem::WrongPrefix(at),
            KeyProblem::DoubledBearer,
            KeyProblem::Placeholder,
            KeyProblem::Masked,
            KeyProblem::Truncated { length: 20, expected: 54 },
            KeyProblem::TooLong { length: 60, expected: 54 },
            KeyProblem::Checksum,
            KeyProblem::WrongScheme,
            KeyProblem::Several { headers: vec!["authorization", "x-api-key"] },
        ]
    }

    #[test]
    fn every_problem_is_told_whole_in_both_languages() {
        for problem in samples() {
            assert_eq!(problem.phrase().as_str(), format!("key_{}", problem.class()));
            for language in Language::ALL {
                let text = problem.describe(language);
                assert!(!text.is_empty() && !text.contains("  "), "{text}");
                let figures = match &problem {
                    KeyProblem::Truncated { .. } => vec!["20", "54"],
                    KeyProblem::TooLong { .. } => vec!["60", "54"],
                    KeyProblem::Several { .. } => vec!["authorization", "x-api-key"],
                    other if other.at().is_some() => vec!["U+200B ZERO WIDTH SPACE", "54"],
                    _ => vec![],
                };
                assert!(figures.iter().all(|figure| text.contains(figure)), "{text}");
            }
        }
    }
}
