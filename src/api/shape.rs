//! The shape of every JSON object that the management API takes or gives, as data.
//!
//! One table serves three ends: a request body is checked against it (an unknown field is refused by name,
//! S25), `/openapi.json` is written from it, and tests hold answers against it. Money is a decimal string,
//! never a JSON number.

use serde_json::{Map, Value};

use crate::directory::{FieldError, decimal};

/// An object with its fields.
#[derive(Debug)]
pub struct Shape {
    /// Name of the schema in `/openapi.json`.
    pub name: &'static str,
    pub fields: &'static [Field],
}

#[derive(Debug)]
pub struct Field {
    pub name: &'static str,
    pub kind: Kind,
    pub need: Need,
    /// What it is, for the reader of the description.
    pub about: &'static str,
}

/// Whether a field must be there, and whether it may be null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// There and not null. In a change (PATCH) it may be left out.
    Required,
    /// There, perhaps null.
    Nullable,
    /// May be left out.
    Optional,
    /// May be left out or null.
    OptionalNullable,
}

#[derive(Debug)]
pub enum Kind {
    Text,
    /// A text that is never shown again.
    Secret,
    /// Decimal string, up to nine places, of the ledger currency.
    Money,
    /// Decimal string with up to six places, not negative.
    Multiplier,
    Integer {
        min: i64,
        max: i64,
    },
    Bool,
    /// RFC 3339, UTC.
    Time,
    OneOf(&'static [&'static str]),
    List(&'static Kind),
    /// An object with any keys and one kind of values.
    Map(&'static Kind),
    Object(&'static Shape),
    /// Anything; described by `about`.
    Any,
}

/// One row of a shape's table.
macro_rules! field {
    ($name:literal, $kind:expr, $need:ident, $about:literal) => {
        Field { name: $name, kind: $kind, need: Need::$need, about: $about }
    };
}
pub(super) use field;

pub const COUNT: Kind = Kind::Integer { min: 0, max: i64::MAX };

/// What is wrong with a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShapeError {
    /// A field that the shape does not have.
    Unknown {
        field: String,
        near: Option<&'static str>,
    },
    Invalid(FieldError),
}

impl Shape {
    /// Checks an object. `partial`: required fields may be left out, as in a change.
    pub fn check(&self, value: &Value, partial: bool) -> Result<(), ShapeError> {
        self.check_at(value, "", partial)
    }

    fn check_at(&self, value: &Value, path: &str, partial: bool) -> Result<(), ShapeError> {
        let Value::Object(values) = value else { return Err(invalid(path, "must be an object")) };
        for name in values.keys() {
            if !self.fields.iter().any(|field| field.name == name) {
                return Err(ShapeError::Unknown { field: join(path, name), near: self.near(name) });
            }
        }
        self.fields.iter().try_for_each(|field| field.check(values.get(field.name), path, partial))
    }

    /// The field that was probably meant.
    fn near(&self, name: &str) -> Option<&'static str> {
        let distance = |field: &Field| strsim::damerau_levenshtein(field.name, name);
        let nearest = self.fields.iter().min_by_key(|field| distance(field))?;
        (distance(nearest) <= 2).then_some(nearest.name)
    }
}

impl Field {
    fn check(&self, value: Option<&Value>, path: &str, partial: bool) -> Result<(), ShapeError> {
        let path = join(path, self.name);
        match value {
            None if partial || matches!(self.need, Need::Optional | Need::OptionalNullable) => Ok(()),
            None => Err(invalid(&path, "is missing")),
            Some(Value::Null) if matches!(self.need, Need::Nullable | Need::OptionalNullable) => Ok(()),
            Some(Value::Null) => Err(invalid(&path, "must not be null")),
            Some(value) => self.kind.check(value, &path),
        }
    }
}

impl Kind {
    fn check(&self, value: &Value, path: &str) -> Result<(), ShapeError> {
        match self {
            Kind::Any => Ok(()),
            Kind::Bool => value.as_bool().map(drop).ok_or_else(|| invalid(path, "must be true or false")),
            Kind::Integer { min, max } => match value.as_i64() {
                Some(number) if (*min..=*max).contains(&number) => Ok(()),
                Some(_) => Err(invalid(path, &format!("must be from {min} to {max}"))),
                None => Err(invalid(path, "must be a whole number")),
            },
            Kind::List(kind) => {
                let values = value.as_array().ok_or_else(|| invalid(path, "must be a list"))?;
                let mut numbered = values.iter().enumerate();
                numbered.try_for_each(|(at, value)| kind.check(value, &format!("{path}[{at}]")))
            }
            Kind::Map(kind) => {
                let values = value.as_object().ok_or_else(|| invalid(path, "must be an object"))?;
                values.iter().try_for_each(|(name, value)| kind.check(value, &join(path, name)))
            }
            Kind::Object(shape) => shape.check_at(value, path, false),
            Kind::Text | Kind::Secret | Kind::Money | Kind::Multiplier | Kind::Time | Kind::OneOf(_) => {
                let text = value.as_str().ok_or_else(|| invalid(path, self.text_wanted()))?;
                self.check_text(text, path)
            }
        }
    }

    fn text_wanted(&self) -> &'static str {
        match self {
            Kind::Money | Kind::Multiplier => "must be a decimal number as a string, such as \"5.00\"",
            Kind::Time => "must be a time as a string, such as \"2026-01-31T00:00:00Z\"",
            _ => "must be a string",
        }
    }

    fn check_text(&self, text: &str, path: &str) -> Result<(), ShapeError> {
        match self {
            Kind::Money => match ledger::Nano::parse_decimal(text) {
                Ok(_) => Ok(()),
                Err(why) => Err(invalid(path, &why.to_string())),
            },
            Kind::Multiplier if decimal::parse_multiplier(text).is_none() => {
                Err(invalid(path, "must be a decimal number, not negative, with at most six places"))
            }
            Kind::Time if text.parse::<jiff::Timestamp>().is_err() => {
                Err(invalid(path, "is not a time of the form 2026-01-31T00:00:00Z"))
            }
            Kind::OneOf(names) if !names.contains(&text) => {
                Err(invalid(path, &format!("must be one of {}", names.join(", "))))
            }
            _ => Ok(()),
        }
    }
}

fn invalid(path: &str, reason: &str) -> ShapeError {
    let field = if path.is_empty() { "body" } else { path };
    ShapeError::Invalid(FieldError::new(field, reason))
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// A checked body. Each getter tells apart a field that was left out (`None`) and one that is null
/// (`Some(None)`, where the shape allows it).
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a> {
    values: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    pub fn new(values: &'a Map<String, Value>) -> Self {
        Fields { values }
    }

    pub fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    pub fn value(&self, name: &str) -> Option<&'a Value> {
        self.values.get(name)
    }

    pub fn text(&self, name: &str) -> Option<&'a str> {
        self.values.get(name)?.as_str()
    }

    pub fn nullable_text(&self, name: &str) -> Option<Option<&'a str>> {
        self.values.get(name).map(Value::as_str)
    }

    pub fn boolean(&self, name: &str) -> Option<bool> {
        self.values.get(name)?.as_bool()
    }

    pub fn nullable_boolean(&self, name: &str) -> Option<Option<bool>> {
        self.values.get(name).map(Value::as_bool)
    }

    pub fn list(&self, name: &str) -> Option<&'a [Value]> {
        self.values.get(name)?.as_array().map(Vec::as_slice)
    }

    pub fn object(&self, name: &str) -> Option<&'a Map<String, Value>> {
        self.values.get(name)?.as_object()
    }

    pub fn integer(&self, name: &str) -> Option<i64> {
        self.values.get(name)?.as_i64()
    }

    /// An integer that must fit `T`.
    pub fn number<T: TryFrom<i64>>(&self, name: &str) -> Result<Option<T>, FieldError> {
        let convert = |number| T::try_from(number).map_err(|_| FieldError::new(name, "is out of range"));
        self.integer(name).map(convert).transpose()
    }

    /// Anything that is written as a text: an id, an amount, a time.
    pub fn parsed<T>(&self, name: &str) -> Result<Option<T>, FieldError>
    where
        T: std::str::FromStr,
        T::Err: std::fmt::Display,
    {
        self.text(name).map(|text| parse(name, text)).transpose()
    }

    /// The same where null may stand for none.
    pub fn nullable_parsed<T>(&self, name: &str) -> Result<Option<Option<T>>, FieldError>
    where
        T: std::str::FromStr,
        T::Err: std::fmt::Display,
    {
        self.nullable_text(name).map(|text| text.map(|text| parse(name, text)).transpose()).transpose()
    }

    pub fn money(&self, name: &str) -> Result<Option<ledger::Nano>, FieldError> {
        let read =
            |text| ledger::Nano::parse_decimal(text).map_err(|why| FieldError::new(name, why.to_string()));
        self.text(name).map(read).transpose()
    }

    /// One of an enum's names, as serde knows them.
    pub fn one_of<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<Option<T>, FieldError> {
        self.values.get(name).map(|value| named(name, value)).transpose()
    }
}

/// Reads an enum or another small value by its stored form.
pub fn named<T: serde::de::DeserializeOwned>(field: &str, value: &Value) -> Result<T, FieldError> {
    T::deserialize(value).map_err(|why| FieldError::new(field, why.to_string()))
}

/// Reads a list of such values; a fault is named with its place.
pub fn decode<T: serde::de::DeserializeOwned>(field: &str, values: &[Value]) -> Result<Vec<T>, FieldError> {
    values.iter().enumerate().map(|(at, value)| named(&format!("{field}[{at}]"), value)).collect()
}

/// Reads an id, a time or another value that has one text form.
pub fn parse<T>(field: &str, text: &str) -> Result<T, FieldError>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|why: T::Err| FieldError::new(field, why.to_string()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    static LIMIT: Shape = Shape {
        name: "Limit",
        fields: &[Field { name: "value", kind: Kind::Money, need: Need::Nullable, about: "" }],
    };
    static SHAPE: Shape = Shape {
        name: "Thing",
        fields: &[
            Field { name: "name", kind: Kind::Text, need: Need::Required, about: "" },
            Field {
                name: "limits",
                kind: Kind::List(&Kind::Object(&LIMIT)),
                need: Need::Optional,
                about: "",
            },
            Field {
                name: "count",
                kind: Kind::Integer { min: 1, max: 9 },
                need: Need::OptionalNullable,
                about: "",
            },
        ],
    };

    fn fault(value: Value) -> (String, String) {
        match SHAPE.check(&value, false) {
            Ok(()) => panic!("{value} passed"),
            Err(ShapeError::Unknown { field, near }) => (field, format!("unknown, near {near:?}")),
            Err(ShapeError::Invalid(error)) => (error.field, error.reason),
        }
    }

    #[test]
    fn s25_every_fault_is_named_with_its_path() {
        let cases = [
            (json!({"name": "a", "limit": []}), "limit", "unknown, near Some(\"limits\")"),
            (json!({"name": "a", "xyz": 1}), "xyz", "unknown, near None"),
            (
                json!({"name": "a", "limits": [{"value": "1"}, {"valeu": "1"}]}),
                "limits[1].valeu",
                "unknown, near Some(\"value\")",
            ),
            (
                json!({"name": "a", "limits": [{"value": 5}]}),
                "limits[0].value",
                "must be a decimal number as a string, such as \"5.00\"",
            ),
            (json!({"name": "a", "limits": {}}), "limits", "must be a list"),
            (json!({"name": "a", "count": 10}), "count", "must be from 1 to 9"),
            (json!({"name": "a", "count": 1.5}), "count", "must be a whole number"),
            (json!({"name": null}), "name", "must not be null"),
            (json!({}), "name", "is missing"),
            (json!([]), "body", "must be an object"),
        ];
        for (value, field, reason) in cases {
            assert_eq!(fault(value), (field.to_owned(), reason.to_owned()));
        }
    }

    #[test]
    fn a_change_may_leave_out_what_is_required() {
        assert_eq!(SHAPE.check(&json!({"count": null}), true), Ok(()));
        assert_eq!(SHAPE.check(&json!({"name": "a", "limits": [{"value": null}]}), false), Ok(()));
    }
}
