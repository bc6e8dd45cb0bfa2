//! Texts as they stand in JSON, still escaped.
//!
//! For: a text that goes from one format to another is written in the same way in both, so it is copied and
//! neither unescaped nor escaped. It has no line breaks in it, which an event of a stream could not carry.

use std::borrow::Cow;

use serde::de::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// What stands between the quotes of a JSON string.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Text<'a>(Cow<'a, str>);

impl<'a> Text<'a> {
    /// The text of a value that is a string.
    pub fn of(raw: &'a RawValue) -> Option<Self> {
        let inner = raw.get().strip_prefix('"')?.strip_suffix('"')?;
        Some(Self(Cow::Borrowed(inner)))
    }

    /// A text that is not escaped yet.
    pub fn plain(text: &str) -> Text<'static> {
        let mut quoted = serde_json::Value::from(text).to_string();
        quoted.pop();
        if !quoted.is_empty() {
            quoted.remove(0);
        }
        Text(Cow::Owned(quoted))
    }

    /// A text that is escaped already, put together from pieces that were.
    pub fn of_escaped(text: String) -> Text<'static> {
        Text(Cow::Owned(text))
    }

    /// A text of which the caller knows that nothing in it is to be escaped.
    pub const fn word(text: &'static str) -> Text<'static> {
        Text(Cow::Borrowed(text))
    }

    /// As it stands in the JSON, without its quotes.
    pub fn escaped(&self) -> &str {
        &self.0
    }

    /// As it is meant. Half of a surrogate pair, which JSON can write and text cannot hold, is replaced.
    pub fn unescaped(&self) -> Cow<'_, str> {
        if !self.0.contains('\\') {
            return Cow::Borrowed(&self.0);
        }
        match serde_json::from_str::<String>(&format!("\"{}\"", self.0)) {
            Ok(text) => Cow::Owned(text),
            Err(_) => Cow::Borrowed("\u{fffd}"),
        }
    }

    /// Whether it means this text.
    pub fn is(&self, text: &str) -> bool {
        *self.0 == *text || (self.0.contains('\\') && self.unescaped() == text)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The rest behind a beginning in which nothing is escaped.
    pub fn strip_prefix(&self, prefix: &str) -> Option<Text<'a>> {
        Some(match &self.0 {
            Cow::Borrowed(text) => Text(Cow::Borrowed(text.strip_prefix(prefix)?)),
            Cow::Owned(text) => Text(Cow::Owned(text.strip_prefix(prefix)?.to_owned())),
        })
    }

    /// The parts before and behind the first `mark`.
    pub fn split_once(&self, mark: &str) -> Option<(Text<'a>, Text<'a>)> {
        Some(match &self.0 {
            Cow::Borrowed(text) => {
                let (before, behind) = text.split_once(mark)?;
                (Text(Cow::Borrowed(before)), Text(Cow::Borrowed(behind)))
            }
            Cow::Owned(text) => {
                let (before, behind) = text.split_once(mark)?;
                (Text(Cow::Owned(before.to_owned())), Text(Cow::Owned(behind.to_owned())))
            }
        })
    }

    pub fn into_owned(self) -> Text<'static> {
        Text(Cow::Owned(self.0.into_owned()))
    }
}

impl std::fmt::Debug for Text<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "\"{}\"", self.0)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        let raw = <&'de RawValue>::deserialize(json)?;
        Text::of(raw).ok_or_else(|| serde::de::Error::custom("not a string"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_the_same_escaped_and_meant() {
        for plain in ["", "a", "say \"hi\"\n\\ \u{1} 給你 🦊"] {
            let text = Text::plain(plain);
            assert_eq!(text.unescaped(), plain);
            assert!(text.is(plain));
            assert!(!text.escaped().contains('\n'));
        }
        let raw: Box<RawValue> = serde_json::from_str(r#""\u0075ser""#).unwrap();
        assert!(Text::of(&raw).unwrap().is("user"));
        let half: Box<RawValue> = serde_json::from_str(r#""\ud800""#).unwrap();
        assert_eq!(Text::of(&half).unwrap().unescaped(), "\u{fffd}");
    }
}
