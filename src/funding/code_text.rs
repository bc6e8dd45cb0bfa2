//! The text of a redemption code: its format, and what can be wrong with one.
//!
//! Promises: a code with one character changed, two neighbours exchanged, or a piece left out is told apart from a code
//! that nobody made, without looking anything up; what people do to codes when they pass them on – small letters, blanks,
//! other hyphens, O for 0, I or L for 1 – does no harm.
//! Must never: show more of a code than [`CodeText::masked`] in a fault, a log or a `Debug` output.
//!
//! Format: `TGC-` and five groups of five characters of Crockford's base 32: 18 random ones (90 bits), then the CRC-32
//! (ISO-HDLC, the one of zlib) of those 18, most significant first. Example: `TGC-00000-00000-00000-0001H-VF86K`.

use std::fmt;

use crate::clock::Entropy;
use crate::secret::HIDDEN;

const PREFIX: &[u8] = b"TGC";
const RANDOM_CHARS: usize = 18;
const CHECKSUM_CHARS: usize = 7;
const CODE_CHARS: usize = RANDOM_CHARS + CHECKSUM_CHARS;
const GROUP_CHARS: usize = 5;
/// Longer texts are not looked at.
const TEXT_BYTES_MAX: usize = 200;
const BASE32: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// A code as it is handed out once: 25 characters without prefix and hyphens.
#[derive(Clone, PartialEq, Eq)]
pub struct CodeText([u8; CODE_CHARS]);

/// Why a text is no code, without having looked it up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CodeFault {
    Length {
        found: usize,
    },
    /// A character that no code has; its place counts from 0.
    Character {
        character: char,
        position: usize,
    },
    Checksum,
}

impl CodeFault {
    /// In English and Chinese.
    pub fn words(&self) -> [String; 2] {
        match self {
            CodeFault::Length { found } => [
                format!("it has {found} characters, not {CODE_CHARS}"),
                format!("应为 {CODE_CHARS} 个字符，实际为 {found} 个"),
            ],
            CodeFault::Character { character, position } => {
                let point = format!("U+{:04X}", u32::from(*character));
                [
                    format!("no code has the character {point} at position {position}"),
                    format!("第 {position} 位的字符 {point} 不会出现在兑换码中（从 0 开始）"),
                ]
            }
            CodeFault::Checksum => [
                "its checksum does not match: at least one character is wrong".to_owned(),
                "校验和不匹配：至少有一个字符有误".to_owned(),
            ],
        }
    }
}

impl fmt::Display for CodeFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [en, _] = self.words();
        f.write_str(&en)
    }
}

impl CodeText {
    pub fn generate(entropy: &dyn Entropy) -> Self {
        let mut drawn = [0u8; RANDOM_CHARS];
        entropy.fill(&mut drawn);
        // 256 is a multiple of 32: every character is equally likely.
        Self::sealed(drawn.map(|byte| digit(u32::from(byte))))
    }

    fn sealed(random: [u8; RANDOM_CHARS]) -> Self {
        let mut text = [0u8; CODE_CHARS];
        let (head, tail) = text.split_at_mut(RANDOM_CHARS);
        head.copy_from_slice(&random);
        tail.copy_from_slice(&checksum(&random));
        CodeText(text)
    }

    /// Reads a code as people write it.
    pub fn parse(text: &str) -> Result<Self, CodeFault> {
        let mut characters = Vec::with_capacity(PREFIX.len() + CODE_CHARS);
        if text.len() > TEXT_BYTES_MAX {
            return Err(CodeFault::Length { found: text.chars().filter(|c| !is_ignored(*c)).count() });
        }
        for (position, character) in text.chars().enumerate().filter(|(_, c)| !is_ignored(*c)) {
            let known = canonical(character);
            characters.push(known.ok_or(CodeFault::Character { character, position })?);
        }
        let code = match characters.strip_prefix(PREFIX) {
            Some(rest) if characters.len() > CODE_CHARS => rest,
            _ => &characters,
        };
        let code: [u8; CODE_CHARS] = code.try_into().map_err(|_| CodeFault::Length { found: code.len() })?;
        let (random, given) = code.split_at(RANDOM_CHARS);
        if checksum(random) != given { Err(CodeFault::Checksum) } else { Ok(CodeText(code)) }
    }

    /// What is hashed.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The whole code, for the one answer that shows it.
    pub fn expose(&self) -> String {
        let mut text = String::from_utf8_lossy(PREFIX).into_owned();
        for group in self.0.chunks(GROUP_CHARS) {
            text.push('-');
            text.extend(group.iter().copied().map(char::from));
        }
        text
    }

    /// How lists show it: `TGC-7K3…X9Z`.
    pub fn masked(&self) -> String {
        let text = self.expose();
        let (head, tail) = (text.get(..7).unwrap_or_default(), text.get(text.len() - 3..));
        format!("{head}…{}", tail.unwrap_or_default())
    }
}

impl fmt::Debug for CodeText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CodeText({HIDDEN})")
    }
}

fn digit(value: u32) -> u8 {
    // Five bits are always an index into 32 characters.
    BASE32.get((value & 31) as usize).copied().unwrap_or(b'0')
}

fn checksum(random: &[u8]) -> [u8; CHECKSUM_CHARS] {
    let mut rest = crc32fast::hash(random);
    let mut text = [b'0'; CHECKSUM_CHARS];
    for place in text.iter_mut().rev() {
        *place = digit(rest);
        rest >>= 5;
    }
    text
}

/// Blanks, hyphens and characters that nobody sees.
fn is_ignored(character: char) -> bool {
    character.is_whitespace()
        || matches!(character, '-' | '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{ff0d}')
        || matches!(character, '\u{200b}'..='\u{200d}' | '\u{2060}' | '\u{feff}')
}

/// The character of the alphabet that is meant. Full-width ones are meant as their narrow twins.
fn canonical(character: char) -> Option<u8> {
    let narrow = match character {
        '\u{ff10}'..='\u{ff5a}' => char::from_u32(u32::from(character) - 0xfee0)?,
        other => other,
    };
    match u8::try_from(narrow).ok()?.to_ascii_uppercase() {
        b'O' => Some(b'0'),
        b'I' | b'L' => Some(b'1'),
        upper => BASE32.contains(&upper).then_some(upper),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{SeededEntropy, SystemEntropy};

    #[test]
    fn the_documented_code_is_one() {
        let text = "TGC-00000-00000-00000-0001H-VF86K";
        let code = CodeText::sealed([b'0'; RANDOM_CHARS]);
        assert_eq!(code.expose(), text);
        let doc = include_str!("code_text.rs").lines().take_while(|line| line.starts_with("//!"));
        assert!(doc.collect::<String>().contains(text));
    }

    #[test]
    fn what_people_do_to_codes_does_no_harm() {
        let code = CodeText::generate(&SeededEntropy::new(b"codes"));
        let text = code.expose();
        let bare = text.replace('-', "").split_off(3);
        let wide: String = bare.chars().filter_map(|c| char::from_u32(u32::from(c) + 0xfee0)).collect();
        for written in [
            text.clone(),
            format!("  {}\n", text.to_lowercase()),
            bare.clone(),
            text.replace('-', " – "),
            text.replace('0', "o").replace('1', "l"),
            format!("\u{feff}{text}\u{200b}"),
            wide,
        ] {
            assert_eq!(CodeText::parse(&written).as_ref(), Ok(&code), "{written}");
        }
    }

    /// A typo is told from an unknown code without a look-up: each single change, and each exchange of neighbours.
    #[test]
    fn b2_every_small_slip_is_found() {
        for _ in 0..20 {
            let code = CodeText::generate(&SystemEntropy::new());
            for place in 0..CODE_CHARS {
                for other in BASE32.iter().filter(|other| **other != code.0[place]) {
                    let mut wrong = code.0;
                    wrong[place] = *other;
                    let fault = CodeText::parse(std::str::from_utf8(&wrong).unwrap());
                    assert_eq!(fault, Err(CodeFault::Checksum));
                }
                let mut wrong = code.0;
                if place > 0 && wrong[place] != wrong[place - 1] {
                    wrong.swap(place, place - 1);
                    let fault = CodeText::parse(std::str::from_utf8(&wrong).unwrap());
                    assert_eq!(fault, Err(CodeFault::Checksum), "{place}");
                }
                let mut short = code.0.to_vec();
                short.remove(place);
                let fault = CodeText::parse(std::str::from_utf8(&short).unwrap());
                assert_eq!(fault, Err(CodeFault::Length { found: CODE_CHARS - 1 }));
            }
        }
        let fault = CodeText::parse("TGC-00000-0000u-");
        assert_eq!(fault, Err(CodeFault::Character { character: 'u', position: 14 }));
        assert_eq!(CodeText::parse(""), Err(CodeFault::Length { found: 0 }));
        assert_eq!(CodeText::parse(&"0".repeat(300)), Err(CodeFault::Length { found: 300 }));
    }

    #[test]
    fn a_code_is_hidden_but_for_its_ends() {
        let code = CodeText::generate(&SeededEntropy::new(b"mask"));
        let text = code.expose();
        assert_eq!(code.masked(), format!("{}…{}", &text[..7], &text[text.len() - 3..]));
        assert_eq!(format!("{code:?}"), "CodeText([hidden])");
    }
}
