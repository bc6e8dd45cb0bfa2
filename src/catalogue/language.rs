//! The two languages, and which of them a caller reads.

use serde::{Deserialize, Serialize};

/// A language that texts exist in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    #[default]
    En,
    Zh,
}

impl Language {
    pub const ALL: [Self; 2] = [Self::En, Self::Zh];

    /// Its tag, as in `Content-Language` and in addresses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::Zh => "zh",
        }
    }

    /// The language that an `Accept-Language` value prefers (RFC 9110, 12.5.4): the one of the
    /// highest weight, the earlier of equals; any `zh-…` is Chinese; English if neither is named.
    /// What cannot be read is skipped.
    pub fn from_accept(header: &str) -> Self {
        let (mut best, mut best_weight) = (Self::En, 0);
        let mut excluded = [false; 2];
        for range in header.split(',').take(RANGES_MAX) {
            let mut parts = range.split(';');
            let tag = parts.next().unwrap_or_default().trim();
            let Some(weight) = parts.find_map(weight).unwrap_or(Some(WEIGHT_MAX)) else { continue };
            let language = match tag.split('-').next() {
                Some("*") => match excluded {
                    [true, false] => Self::Zh,
                    _ => Self::En,
                },
                Some(primary) if primary.eq_ignore_ascii_case("zh") => Self::Zh,
                Some(primary) if primary.eq_ignore_ascii_case("en") => Self::En,
                _ => continue,
            };
            if weight == 0 && tag != "*" {
                let [en, zh] = &mut excluded;
                *(if language == Self::Zh { zh } else { en }) = true;
            }
            if weight > best_weight {
                (best, best_weight) = (language, weight);
            }
        }
        best
    }
}

/// Ranges looked at; browsers send fewer than ten.
const RANGES_MAX: usize = 32;
/// A weight of 1, in thousandths.
const WEIGHT_MAX: u16 = 1_000;

/// `q=0.8` in thousandths. Outer `None`: another parameter; inner `None`: a weight that is none.
fn weight(parameter: &str) -> Option<Option<u16>> {
    let (name, value) = parameter.split_once('=')?;
    if !name.trim().eq_ignore_ascii_case("q") {
        return None;
    }
    Some(thousandths(value.trim()))
}

fn thousandths(value: &str) -> Option<u16> {
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    if !matches!(whole, "0" | "1") || fraction.len() > 3 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let weight: u16 = format!("{whole}{fraction:0<3}").parse().ok()?;
    (weight <= WEIGHT_MAX).then_some(weight)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_preferred_language_is_found() {
        use Language::{En, Zh};
        let table = [
            ("", En),
            ("zh", Zh),
            ("zh-CN,zh;q=0.9,en;q=0.8", Zh),
            ("ZH-Hant-TW", Zh),
            ("en-US,en;q=0.9,zh;q=0.8", En),
            ("en;q=0.5, zh;q=0.8", Zh),
            ("zh;q=0.5, en;q=0.5", Zh),
            ("en;q=0.5, zh;q=0.5", En),
            ("fr, de;q=0.9, zh;q=0.1", Zh),
            ("fr, de", En),
            ("*", En),
            ("en;q=0, *", Zh),
            ("zh;q=0", En),
            ("zh;q=0, *;q=0.5", En),
            ("zh;q=1.5, en;q=0.2", En),
            ("zh;q=nonsense", En),
            ("zh;q=0.001", Zh),
            ("zh;level=1;q=0.9, en;q=0.8", Zh),
            (",,;;=, zh ;q= 0.3", Zh),
        ];
        for (header, expected) in table {
            assert_eq!(Language::from_accept(header), expected, "{header:?}");
        }
    }

    proptest! {
        #[test]
        fn no_header_panics(header in "\\PC{0,60}|([a-z*]{1,3}(-[A-Z]{2})?(;q=[01]?\\.?[0-9]{0,4})?,?){0,5}") {
            Language::from_accept(&header);
        }

        #[test]
        fn a_higher_weight_wins_wherever_it_stands(low in 1u16..999, zh_first: bool) {
            let (zh, en) = (format!("zh-CN;q=0.{:03}", low + 1), format!("en;q=0.{low:03}"));
            let header = if zh_first { format!("{zh},{en}") } else { format!("{en},{zh}") };
            prop_assume!(low < 998);
            prop_assert_eq!(Language::from_accept(&header), Language::Zh);
        }
    }
}
