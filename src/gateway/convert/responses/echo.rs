//! What of its request a response tells again.

use std::fmt::Write as _;

use serde_json::value::RawValue;

use super::super::object::{Object, Path};

/// The members that are told again, with what stands for those that were not asked for.
const TOLD: [(&str, &str); 14] = [
    ("instructions", "null"),
    ("max_output_tokens", "null"),
    ("metadata", "{}"),
    ("parallel_tool_calls", "true"),
    ("previous_response_id", "null"),
    ("reasoning", r#"{"effort":null,"summary":null}"#),
    ("safety_identifier", "null"),
    ("store", "false"),
    ("temperature", "null"),
    ("text", r#"{"format":{"type":"text"}}"#),
    ("tool_choice", r#""auto""#),
    ("tools", "[]"),
    ("top_p", "null"),
    ("truncation", r#""disabled""#),
];

/// The members of a response that its request decides, one behind the other; nothing is told of a body that is none.
pub fn echo(body: &str) -> Box<str> {
    let path = Path::TOP;
    let mut asked = Object::parse(body, &path).ok();
    let mut out = String::new();
    for (name, unsaid) in TOLD {
        let told = asked.as_mut().and_then(|asked| asked.take(name)).map_or(unsaid, RawValue::get);
        let comma = if out.is_empty() { "" } else { "," };
        // Writing into a String cannot fail. An event has no line breaks in it; in a string they are escaped.
        let _written = write!(out, "{comma}\"{name}\":{}", told.replace(['\n', '\r'], " "));
    }
    out.into()
}
