//! Reading JSON so that nothing in it is overlooked: each object gives its members out by name, and what is left
//! at the end is a fault that names it.
//!
//! Must never: nest deeper than its callers do (values are taken apart one level at a time), or take a member
//! twice for one.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use smallvec::SmallVec;

use super::text::Text;

/// More members than any format knows; what has more cannot be converted.
const MEMBERS_MAX: usize = 64;

/// Why something cannot be converted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvertFault {
    /// Path of the field as the client wrote it, like `messages[2].content`.
    pub field: Box<str>,
    /// What could be converted.
    pub what: &'static str,
    /// What was there.
    pub got: Box<str>,
}

impl ConvertFault {
    pub fn new(field: impl Into<Box<str>>, what: &'static str, got: impl Into<Box<str>>) -> Self {
        Self { field: field.into(), what, got: got.into() }
    }
}

impl std::fmt::Display for ConvertFault {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "`{}`: expected {}, got {}", self.field, self.what, self.got)
    }
}

impl std::error::Error for ConvertFault {}

/// Where a value stands. Put into words only for a fault.
#[derive(Clone, Copy, Debug)]
pub struct Path<'p> {
    before: Option<&'p Path<'p>>,
    step: Step<'p>,
}

#[derive(Clone, Copy, Debug)]
enum Step<'p> {
    Top,
    Member(&'p str),
    Index(usize),
}

impl<'p> Path<'p> {
    pub const TOP: Path<'static> = Path { before: None, step: Step::Top };

    pub fn member(&'p self, name: &'p str) -> Path<'p> {
        Path { before: Some(self), step: Step::Member(name) }
    }

    pub fn index(&'p self, index: usize) -> Path<'p> {
        Path { before: Some(self), step: Step::Index(index) }
    }

    pub fn fault(&self, what: &'static str, got: impl Into<Box<str>>) -> ConvertFault {
        let mut field = String::new();
        self.write(&mut field);
        ConvertFault::new(field, what, got)
    }

    fn write(&self, into: &mut String) {
        if let Some(before) = self.before {
            before.write(into);
        }
        match self.step {
            Step::Top => {}
            Step::Member(name) => {
                if !into.is_empty() {
                    into.push('.');
                }
                into.push_str(name.get(..name.floor_char_boundary(64)).unwrap_or_default());
            }
            // Writing into a String cannot fail.
            Step::Index(index) => drop(write!(into, "[{index}]")),
        }
    }
}

/// A JSON object whose members are taken one by one.
#[derive(Debug)]
pub struct Object<'a, 'p> {
    path: &'p Path<'p>,
    members: SmallVec<[(Cow<'a, str>, &'a RawValue); 16]>,
}

impl<'a, 'p> Object<'a, 'p> {
    pub fn read(raw: &'a RawValue, path: &'p Path<'p>) -> Result<Self, ConvertFault> {
        Self::parse(raw.get(), path)
    }

    /// Reads the text of an object.
    pub fn parse(json: &'a str, path: &'p Path<'p>) -> Result<Self, ConvertFault> {
        let members = serde_json::from_str::<Members<'a>>(json)
            .map_err(|_| path.fault("an object whose members stand once", kind_of(json)))?;
        for (at, (name, _)) in members.0.iter().enumerate() {
            if members.0.iter().skip(at + 1).any(|(other, _)| other == name) {
                return Err(path.member(name).fault("a field once", "it twice"));
            }
        }
        Ok(Self { path, members: members.0 })
    }

    /// Takes a member. `null` is as good as nothing.
    pub fn take(&mut self, name: &str) -> Option<&'a RawValue> {
        let at = self.members.iter().position(|(known, _)| known == name)?;
        let (_, value) = self.members.swap_remove(at);
        (value.get() != "null").then_some(value)
    }

    pub fn need(&mut self, name: &str, what: &'static str) -> Result<&'a RawValue, ConvertFault> {
        self.take(name).ok_or_else(|| self.path.member(name).fault(what, "nothing"))
    }

    pub fn text(&mut self, name: &str) -> Result<Option<Text<'a>>, ConvertFault> {
        let Some(raw) = self.take(name) else { return Ok(None) };
        let text = Text::of(raw);
        text.map(Some).ok_or_else(|| self.path.member(name).fault("a string", kind_of(raw.get())))
    }

    pub fn need_text(&mut self, name: &str) -> Result<Text<'a>, ConvertFault> {
        self.text(name)?.ok_or_else(|| self.path.member(name).fault("a string", "nothing"))
    }

    pub fn flag(&mut self, name: &str) -> Result<Option<bool>, ConvertFault> {
        match self.take(name).map(RawValue::get) {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(other) => Err(self.path.member(name).fault("true or false", kind_of(other))),
        }
    }

    pub fn number(&mut self, name: &str) -> Result<Option<serde_json::Number>, ConvertFault> {
        let Some(raw) = self.take(name) else { return Ok(None) };
        let number = serde_json::from_str::<serde_json::Number>(raw.get());
        number.map(Some).map_err(|_| self.path.member(name).fault("a number", kind_of(raw.get())))
    }

    pub fn whole(&mut self, name: &str) -> Result<Option<u32>, ConvertFault> {
        let Some(raw) = self.take(name) else { return Ok(None) };
        let number = serde_json::from_str::<u32>(raw.get());
        number.map(Some).map_err(|_| self.path.member(name).fault("a whole number", kind_of(raw.get())))
    }

    pub fn list(&mut self, name: &str) -> Result<Option<Vec<&'a RawValue>>, ConvertFault> {
        let Some(raw) = self.take(name) else { return Ok(None) };
        list(raw, &self.path.member(name)).map(Some)
    }

    /// A member that changes nothing of what is asked for: it may be left out, by name.
    pub fn leave(&mut self, name: &'static str, left: &mut LeftOut) {
        if self.take(name).is_some_and(|value| !is_nothing(value.get())) {
            left.add(name);
        }
    }

    /// A member that means nothing if it is this, and cannot be converted else.
    pub fn only(&mut self, name: &str, harmless: &[&str], what: &'static str) -> Result<(), ConvertFault> {
        match self.take(name).map(RawValue::get) {
            Some(value) if !harmless.contains(&value) && !is_nothing(value) => {
                Err(self.path.member(name).fault(what, kind_of(value)))
            }
            _ => Ok(()),
        }
    }

    /// Whatever has not been taken cannot be converted.
    pub fn done(self) -> Result<(), ConvertFault> {
        match self.members.iter().find(|(_, value)| !is_nothing(value.get())) {
            Some((name, value)) => Err(self.path.member(name).fault(
                "nothing, as it cannot be converted for the provider of this model",
                kind_of(value.get()),
            )),
            None => Ok(()),
        }
    }
}

/// The values of a list.
pub fn list<'a>(raw: &'a RawValue, path: &Path<'_>) -> Result<Vec<&'a RawValue>, ConvertFault> {
    serde_json::from_str(raw.get()).map_err(|_| path.fault("a list", kind_of(raw.get())))
}

/// Members that say nothing: clients send back what an answer had in it.
fn is_nothing(json: &str) -> bool {
    matches!(json, "null" | "[]" | "{}")
}

/// What a value is, for a fault, without its content.
pub fn kind_of(json: &str) -> &'static str {
    match json.as_bytes().first() {
        Some(b'"') => "a string",
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        Some(b't' | b'f') => "true or false",
        Some(b'n') => "null",
        Some(_) => "a number",
        None => "nothing",
    }
}

/// Names of fields that were left out because they change nothing of what is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftOut(SmallVec<[&'static str; 4]>);

impl LeftOut {
    pub fn add(&mut self, name: &'static str) {
        if !self.0.contains(&name) {
            self.0.push(name);
        }
    }

    pub fn names(&self) -> &[&'static str] {
        &self.0
    }
}

struct Members<'a>(SmallVec<[(Cow<'a, str>, &'a RawValue); 16]>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_map(MembersVisitor).map(Self)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = SmallVec<[(Cow<'de, str>, &'de RawValue); 16]>;

    fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = SmallVec::new();
        while let Some((Name(name), value)) = map.next_entry::<Name<'de>, &'de RawValue>()? {
            if members.len() == MEMBERS_MAX {
                return Err(serde::de::Error::custom("too many members"));
            }
            members.push((name, value));
        }
        Ok(members)
    }
}

/// A member's name, borrowed wherever nothing in it is escaped.
struct Name<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Name<'a> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct NameVisitor;
        impl<'de> Visitor<'de> for NameVisitor {
            type Value = Cow<'de, str>;
            fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                out.write_str("a name")
            }
            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
                Ok(Cow::Borrowed(name))
            }
            fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
                Ok(Cow::Owned(name.to_owned()))
            }
        }
        json.deserialize_str(NameVisitor).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_taken_is_named_with_its_path() {
        let top = Path::TOP;
        let messages = top.member("messages");
        let third = messages.index(2);
        let mut object =
            Object::parse(r#"{"r\u006fle":"user","odd":1,"gone":null,"none":[]}"#, &third).unwrap();
        assert!(object.need_text("role").unwrap().is("user"));
        let fault = object.done().unwrap_err();
        assert_eq!((&*fault.field, &*fault.got), ("messages[2].odd", "a number"));
    }

    #[test]
    fn a_member_stands_once_and_a_depth_bomb_is_no_danger() {
        let twice = Object::parse(r#"{"a":1,"\u0061":2}"#, &Path::TOP).unwrap_err();
        assert_eq!(&*twice.field, "a");
        let deep = format!(r#"{{"a":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        let mut object = Object::parse(&deep, &Path::TOP).unwrap();
        assert_eq!(object.text("a").unwrap_err().got.as_ref(), "a list");
    }
}
