//! Schemas: Gemini's own kind is OpenAPI's, whose types are in capitals and whose values may be `nullable`; all
//! others speak JSON Schema.

use serde_json::{Map, Value};

/// Deeper schemas than this are left as they are: the parser below already bounds them.
const DEPTH_MAX: usize = 64;

/// The same schema as JSON Schema.
pub fn to_json_schema(json: &str) -> Option<String> {
    let mut schema: Value = serde_json::from_str(json).ok()?;
    convert(&mut schema, DEPTH_MAX);
    Some(schema.to_string())
}

fn convert(schema: &mut Value, depth: usize) {
    let (Value::Object(members), Some(depth)) = (schema, depth.checked_sub(1)) else { return };
    if let Some(Value::String(kind)) = members.get_mut("type") {
        kind.make_ascii_lowercase();
    }
    if members.remove("nullable") == Some(Value::Bool(true))
        && let Some(kind) = members.get_mut("type")
    {
        *kind = Value::Array(vec![kind.take(), "null".into()]);
    }
    members.remove("propertyOrdering");
    // Whole numbers of 64 bits are texts in Google's JSON.
    for name in ["minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"] {
        if let Some(bound) = members.get_mut(name)
            && let Some(number) = bound.as_str().and_then(|text| text.parse::<u64>().ok())
        {
            *bound = number.into();
        }
    }
    for name in ["items", "additionalProperties"] {
        if let Some(inner) = members.get_mut(name) {
            convert(inner, depth);
        }
    }
    for name in ["properties", "$defs"] {
        if let Some(Value::Object(inner)) = members.get_mut(name) {
            each(inner, depth);
        }
    }
    for name in ["anyOf", "prefixItems"] {
        if let Some(Value::Array(inner)) = members.get_mut(name) {
            inner.iter_mut().for_each(|schema| convert(schema, depth));
        }
    }
}

fn each(schemas: &mut Map<String, Value>, depth: usize) {
    schemas.values_mut().for_each(|schema| convert(schema, depth));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capitals_and_nullable_become_json_schema() {
        let schema = r#"{"type":"OBJECT","properties":{"type":{"type":"STRING","nullable":true},
            "list":{"type":"ARRAY","minItems":"1","items":{"type":"INTEGER"}}},"propertyOrdering":["list"],"required":["type"]}"#;
        assert_eq!(
            to_json_schema(schema).unwrap(),
            r#"{"type":"object","properties":{"type":{"type":["string","null"]},"list":{"type":"array","minItems":1,"items":{"type":"integer"}}},"required":["type"]}"#
        );
    }
}
