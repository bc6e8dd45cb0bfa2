//! Schemas of answers, as Anthropic takes them: objects are closed, and some constraints are unknown (its guide to
//! structured outputs, limits of JSON Schema). Those are told in the description of what they bound, as Anthropic's own SDKs
//! tell them; a client that needs them kept looks at the answer, as it would with those.

use std::borrow::Cow;

use serde_json::{Map, Value};
use smallvec::SmallVec;

/// Deeper schemas than this are left as they are: the parser below already bounds them.
const DEPTH_MAX: usize = 64;

/// Constraints that the provider does not keep to.
const UNKNOWN: [&str; 9] = [
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "maxItems",
    "minItems",
];

/// What could be converted, and what was there.
type Fault = (&'static str, &'static str);

/// A schema that the provider takes.
#[derive(Debug)]
pub struct Closed<'a> {
    pub schema: Cow<'a, str>,
    /// Names of constraints that are told, and not kept.
    pub told: SmallVec<[&'static str; 2]>,
}

/// The same schema, where no object has members that it does not name: what keeps to that keeps to the schema.
pub fn closed(json: &str) -> Result<Closed<'_>, Fault> {
    let mut told = SmallVec::new();
    let as_it_is = |told| Closed { schema: Cow::Borrowed(json), told };
    let Ok(mut schema) = serde_json::from_str::<Value>(json) else { return Ok(as_it_is(told)) };
    Ok(match close(&mut schema, DEPTH_MAX, &mut told)? {
        true => Closed { schema: Cow::Owned(schema.to_string()), told },
        false => as_it_is(told),
    })
}

/// Whether anything was changed.
fn close(schema: &mut Value, depth: usize, told: &mut SmallVec<[&'static str; 2]>) -> Result<bool, Fault> {
    let (Value::Object(members), Some(depth)) = (schema, depth.checked_sub(1)) else { return Ok(false) };
    let mut changed = tell_bounds(members, told);
    changed |= is_object(members) && close_object(members)?;
    if let Some(items) = members.get_mut("items") {
        changed |= close(items, depth, told)?;
    }
    for name in ["properties", "$defs", "definitions"] {
        if let Some(Value::Object(inner)) = members.get_mut(name) {
            for schema in inner.values_mut() {
                changed |= close(schema, depth, told)?;
            }
        }
    }
    for name in ["anyOf", "allOf", "oneOf", "prefixItems"] {
        if let Some(Value::Array(inner)) = members.get_mut(name) {
            for schema in inner {
                changed |= close(schema, depth, told)?;
            }
        }
    }
    Ok(changed)
}

/// Moves constraints into the description.
fn tell_bounds(members: &mut Map<String, Value>, told: &mut SmallVec<[&'static str; 2]>) -> bool {
    let (mut bounds, mut changed) = (Map::new(), false);
    for name in UNKNOWN {
        // Of lists that are not empty the provider knows.
        let is_known =
            name == "minItems" && members.get(name).and_then(Value::as_u64).is_some_and(|items| items < 2);
        let Some(bound) = (!is_known).then(|| members.remove(name)).flatten() else { continue };
        changed = true;
        if is_safe_range(name, &bound) {
            continue;
        }
        bounds.insert(name.into(), bound);
        if !told.contains(&name) {
            told.push(name);
        }
    }
    if !bounds.is_empty() {
        let said = Value::Object(bounds).to_string();
        let text = match members.get("description").and_then(Value::as_str) {
            Some(before) => format!("{before} {said}"),
            None => said,
        };
        members.insert("description".into(), text.into());
    }
    changed
}

/// Libraries for JavaScript bound each whole number by what the language can tell apart, which says nothing.
fn is_safe_range(name: &str, bound: &Value) -> bool {
    const SAFE: i64 = 9_007_199_254_740_991;
    match name {
        "minimum" => bound.as_i64() == Some(-SAFE),
        "maximum" => bound.as_i64() == Some(SAFE),
        _ => false,
    }
}

fn is_object(members: &Map<String, Value>) -> bool {
    match members.get("type") {
        Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == "object"),
        Some(kind) => kind == "object",
        None => members.contains_key("properties"),
    }
}

fn close_object(members: &mut Map<String, Value>) -> Result<bool, Fault> {
    let named = members.get("properties").and_then(Value::as_object).is_some_and(|named| !named.is_empty());
    match members.get("additionalProperties") {
        Some(Value::Bool(false)) => Ok(false),
        None if named => {
            members.insert("additionalProperties".into(), Value::Bool(false));
            Ok(true)
        }
        _ => {
            let what =
                "a schema whose objects name all of their members, as this model's provider takes no other";
            Err((what, "a schema of any members"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_closed_at_every_depth() {
        let schema =
            r#"{"type":"object","properties":{"a":{"type":"array","items":{"properties":{"b":{}}}}}}"#;
        assert_eq!(
            closed(schema).unwrap().schema,
            r#"{"type":"object","properties":{"a":{"type":"array","items":{"properties":{"b":{}},"additionalProperties":false}}},"additionalProperties":false}"#
        );
        let same = r#"{ "type": "object", "properties": {"minimum": {}}, "additionalProperties": false }"#;
        assert!(matches!(closed(same).unwrap().schema, Cow::Borrowed(text) if text == same));
    }

    #[test]
    fn what_closing_would_change_is_a_fault() {
        for schema in [
            r#"{"type":"object"}"#,
            r#"{"type":["object","null"],"properties":{"a":{}},"additionalProperties":{"type":"string"}}"#,
        ] {
            assert!(closed(schema).is_err(), "{schema}");
        }
    }

    #[test]
    fn bounds_are_told_where_they_cannot_be_kept() {
        let of = |schema: &str| {
            let Closed { schema, told } = closed(schema).unwrap();
            (serde_json::from_str::<Value>(&schema).unwrap(), told.to_vec())
        };
        let (schema, told) = of(r#"{"type":"integer","description":"How sure.","minimum":0,"maximum":100}"#);
        let said = r#"How sure. {"minimum":0,"maximum":100}"#;
        assert_eq!(schema, serde_json::json!({"type": "integer", "description": said}));
        assert_eq!(told, ["minimum", "maximum"]);
        let (schema, told) =
            of(r#"{"anyOf":[{"type":"array","items":{"type":"string"},"minItems":2},{"type":"null"}]}"#);
        assert_eq!(schema["anyOf"][0]["description"], r#"{"minItems":2}"#);
        assert_eq!(told, ["minItems"]);
        assert_eq!(of(r#"{"type":"array","items":{},"minItems":1}"#).0["minItems"], 1);
        // As Zod writes every whole number.
        let whole = r#"{"type":"integer","minimum":-9007199254740991,"maximum":9007199254740991}"#;
        assert_eq!(of(whole), (serde_json::json!({"type": "integer"}), vec![]));
    }
}
