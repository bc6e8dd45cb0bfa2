//! JSON from people: read like any other, but that an object which says something twice is a fault, and is told by its
//! place. Which of the two would count is no question to be answered by whoever reads it.
//!
//! Must never: nest deeper than the parser's own bound.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// What some software begins a file of text with.
const BYTE_ORDER_MARK: char = '\u{feff}';

#[derive(Debug)]
pub enum JsonFault {
    Broken(serde_json::Error),
    /// The member that an object has a second time, such as `per_million.input`.
    Twice(String),
}

impl fmt::Display for JsonFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JsonFault::Broken(why) => why.fmt(f),
            JsonFault::Twice(field) => write!(f, "{field} {IS_TWICE}"),
        }
    }
}

impl std::error::Error for JsonFault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            JsonFault::Broken(why) => Some(why),
            JsonFault::Twice(_) => None,
        }
    }
}

/// What is wrong with a member that an object has a second time.
pub const IS_TWICE: &str = "is there twice";

/// Reads the whole text as one value.
pub fn read(text: &[u8]) -> Result<Value, JsonFault> {
    let twice = Cell::new(None);
    let mut parser = serde_json::Deserializer::from_slice(text);
    let read = Part { place: None, twice: &twice }.deserialize(&mut parser);
    let read = read.and_then(|value| parser.end().map(|()| value));
    read.map_err(|why| twice.take().map_or(JsonFault::Broken(why), JsonFault::Twice))
}

/// A text without the mark that some software puts before it.
pub fn unmarked(text: &str) -> &str {
    text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text)
}

/// Where a value stands.
struct Place<'a> {
    outer: Option<&'a Place<'a>>,
    step: Step<'a>,
}

enum Step<'a> {
    Member(&'a str),
    Item(usize),
}

impl Place<'_> {
    fn push_to(&self, out: &mut String) {
        if let Some(outer) = self.outer {
            outer.push_to(out);
        }
        match self.step {
            Step::Member(name) if out.is_empty() => out.push_str(name),
            Step::Member(name) => out.extend([".", name]),
            Step::Item(at) => out.push_str(&format!("[{at}]")),
        }
    }
}

/// A value that is to be read.
#[derive(Clone, Copy)]
struct Part<'a> {
    place: Option<&'a Place<'a>>,
    /// Told beside the parser's error, which has room for a text alone.
    twice: &'a Cell<Option<String>>,
}

impl Part<'_> {
    fn within<'b>(&'b self, step: Step<'b>) -> Place<'b> {
        Place { outer: self.place, step }
    }
}

impl<'de> DeserializeSeed<'de> for Part<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Part<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        loop {
            let place = self.within(Step::Item(list.len()));
            let item = Part { place: Some(&place), twice: self.twice };
            match items.next_element_seed(item)? {
                Some(value) => list.push(value),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let place = self.within(Step::Member(&name));
            if object.contains_key(&name) {
                let mut field = String::new();
                place.push_to(&mut field);
                self.twice.set(Some(field));
                return Err(A::Error::custom(IS_TWICE));
            }
            let value = members.next_value_seed(Part { place: Some(&place), twice: self.twice })?;
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_read_as_it_is() {
        let text = r#"{"z": [1, -2, 2.5, 1e300, 18446744073709551615, null, true], "a": {"b\u0041": "\ud83d\ude00"}}"#;
        assert_eq!(read(text.as_bytes()).unwrap(), serde_json::from_str::<Value>(text).unwrap());
        let order: Vec<_> = read(text.as_bytes()).unwrap().as_object().unwrap().keys().cloned().collect();
        assert_eq!(order, ["z", "a"]);
        for broken in ["", "{", "{} {}", "[1,]", "\u{feff}{}", &"[".repeat(10_000)] {
            assert!(matches!(read(broken.as_bytes()), Err(JsonFault::Broken(_))), "{broken:.20}");
        }
        assert_eq!(unmarked("\u{feff}{}"), "{}");
    }

    #[test]
    fn what_stands_twice_is_told_by_its_place() {
        let cases = [
            (r#"{"a": 1, "a": 1}"#, "a"),
            (r#"{"a": 1, "\u0061": null}"#, "a"),
            (r#"{"p": {"input": "1", "output": "2", "input": "3"}}"#, "p.input"),
            (r#"{"l": [{}, {"x": {"y": 1, "y": 2}}]}"#, "l[1].x.y"),
            (r#"[{"y": 1, "y": 2}"#, "[0].y"),
        ];
        for (text, field) in cases {
            let Err(JsonFault::Twice(told)) = read(text.as_bytes()) else { panic!("{text}") };
            assert_eq!(told, field);
        }
        assert!(read(br#"{"a": {"b": 1}, "b": [{"b": 1}, {"b": 1}]}"#).is_ok());
    }
}
