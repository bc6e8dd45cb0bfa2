//! Schemas of answers, as Anthropic takes them: objects are closed, and some constraints are unknown (its guide to
//! structured outputs, limits of JSON Schema).

use std::borrow::Cow;

use serde_json::{Map, Value};

/// Deeper schemas than this are left as they are: the parser below already bounds them.
const DEPTH_MAX: usize = 64;

/// Constraints that the provider does not keep to.
const UNKNOWN: [&str; 8] = [
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "maxItems",
];

/// What could be converted, and what was there.
type Fault = (&'static str, &'static str);

/// The same schema, where no object has members that it does not name: what keeps to that keeps to the schema.
pub fn closed(json: &str) -> Result<Cow<'_, str>, Fault> {
    let Ok(mut schema) = serde_json::from_str::<Value>(json) else { return Ok(Cow::Borrowed(json)) };
    match close(&mut schema, DEPTH_MAX)? {
        true => Ok(Cow::Owned(schema.to_string())),
        false => Ok(Cow::Borrowed(json)),
    }
}

/// Whether anything was changed.
fn close(schema: &mut Value, depth: usize) -> Result<bool, Fault> {
    let (Value::Object(members), Some(depth)) = (schema, depth.checked_sub(1)) else { return Ok(false) };
    let few = members.get("minItems").is_none_or(|items| items.as_u64().is_some_and(|items| items < 2));
    if !few || UNKNOWN.iter().any(|name| members.contains_key(*name)) {
        let what =
            "a schema without bounds of numbers, lengths and lists, as this model's provider keeps to none";
        return Err((what, "a schema with one"));
    }
    let mut changed = is_object(members) && close_object(members)?;
    if let Some(items) = members.get_mut("items") {
        changed |= close(items, depth)?;
    }
    for name in ["properties", "$defs", "definitions"] {
        if let Some(Value::Object(inner)) = members.get_mut(name) {
            for schema in inner.values_mut() {
                changed |= close(schema, depth)?;
            }
        }
    }
    for name in ["anyOf", "allOf", "oneOf", "prefixItems"] {
        if let Some(Value::Array(inner)) = members.get_mut(name) {
            for schema in inner {
                changed |= close(schema, depth)?;
            }
        }
    }
    Ok(changed)
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
            closed(schema).unwrap(),
            r#"{"type":"object","properties":{"a":{"type":"array","items":{"properties":{"b":{}},"additionalProperties":false}}},"additionalProperties":false}"#
        );
        let same = r#"{ "type": "object", "properties": {"minimum": {}}, "additionalProperties": false }"#;
        assert!(matches!(closed(same), Ok(Cow::Borrowed(text)) if text == same));
    }

    #[test]
    fn what_closing_would_change_is_a_fault() {
        for schema in [
            r#"{"type":"object"}"#,
            r#"{"type":["object","null"],"properties":{"a":{}},"additionalProperties":{"type":"string"}}"#,
            r#"{"anyOf":[{"type":"integer","minimum":1}]}"#,
            r#"{"type":"array","items":{"type":"string"},"minItems":2}"#,
        ] {
            assert!(closed(schema).is_err(), "{schema}");
        }
    }
}
