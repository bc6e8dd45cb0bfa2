//! The request of Anthropic's Messages: what of it a decision needs.

use memchr::memmem;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::json::{Members, is_of_films, kind, list};
use super::{CapField, Endpoint, ModelRequest, Parts, RequestFault, TOOL_TEMPLATE_TOKENS};

const KNOWN: &[&str] = &[
    "model",
    "messages",
    "system",
    "max_tokens",
    "stream",
    "tools",
    "service_tier",
    "mcp_servers",
    "container",
    "cache_control",
    "inference_geo",
    "speed",
    "context_management",
];

pub(super) fn read(text: &str) -> Result<ModelRequest, RequestFault> {
    let members = Members::read(text, KNOWN)?;
    let mut parts = Parts::default();
    let raw = members.required("messages", "a list of messages")?;
    let fault = |what, got| RequestFault::parameter("messages", what, got);
    let messages = list(raw).ok_or_else(|| fault("a list of messages", kind(raw.get())))?;
    if messages.is_empty() {
        return Err(fault("at least one message", "an empty list".into()));
    }
    for (at, raw) in messages.iter().enumerate() {
        let field = || format!("messages[{at}]");
        let wrong = || RequestFault::parameter(field(), "an object with role and content", kind(raw.get()));
        let message: Block<'_> = object(raw).ok_or_else(wrong)?;
        let content = message.content.ok_or_else(wrong)?;
        blocks(content, &mut parts).ok_or_else(wrong)?;
    }
    let cap = members.cap("max_tokens")?;
    let mut spans = members.spans();
    spans.max_tokens = members.cap_span("max_tokens", cap);
    let mut request = ModelRequest::plain(Endpoint::Messages, members.model(None)?, spans);
    request.extras.service_tier = members
        .get("service_tier")
        .is_some_and(|tier| !matches!(tier.get(), "\"auto\"" | "\"standard_only\""));
    request.unbounded = unbounded(&members, text)?;
    let tools = if members.get("tools").is_some() { TOOL_TEMPLATE_TOKENS } else { 0 };
    let bound = request.input_tokens_bound.saturating_sub(parts.image_bytes).saturating_add(tools);
    Ok(ModelRequest {
        stream: members.flag("stream")?,
        output_cap: cap.map(|cap| (CapField::MaxTokens, cap)),
        input_tokens_bound: bound,
        parts,
        ..request
    })
}

/// What is billed beside the tokens, or at another price.
fn unbounded(members: &Members<'_>, text: &str) -> Result<Option<(Box<str>, &'static str)>, RequestFault> {
    const OWN: &str = "a tool that the upstream runs by itself is billed beside the tokens";
    for field in ["mcp_servers", "container"] {
        if members.get(field).is_some_and(|value| value.get() != "[]") {
            return Ok(Some((field.into(), OWN)));
        }
    }
    // Anthropic's own words for the price that is known here; a value that is none is for the upstream to refuse.
    for (field, usual, why) in [
        ("inference_geo", "\"global\"", "inference in a region of the caller's choice has another price"),
        ("speed", "\"standard\"", "another speed has another price"),
    ] {
        if members.get(field).is_some_and(|value| value.get() != usual) {
            return Ok(Some((field.into(), why)));
        }
    }
    if let Some(at) = members.get("context_management").and_then(compaction) {
        let why = "a summary that the upstream makes on its way is billed beside the tokens of the answer";
        return Ok(Some((format!("context_management.edits[{at}].type").into(), why)));
    }
    if keeps_for_an_hour(text) {
        return Ok(Some(("cache_control.ttl".into(), "what is cached for an hour has another price")));
    }
    let Some(raw) = members.get("tools") else { return Ok(None) };
    let what = || RequestFault::parameter("tools", "a list of tools", kind(raw.get()));
    let foreign = list(raw).ok_or_else(what)?.iter().position(|tool| {
        let kind = object::<Block<'_>>(tool).and_then(|tool| tool.kind).map(RawValue::get);
        // Tools with a schema of Anthropic's own run at the client and cost their tokens alone.
        let runs_here = |kind: &str| {
            let of_client = ["\"custom\"", "\"bash_", "\"text_editor_", "\"computer_", "\"memory_"];
            of_client.iter().any(|begin| kind.starts_with(begin))
        };
        !kind.is_none_or(runs_here)
    });
    Ok(foreign.map(|at| (format!("tools[{at}].type").into(), OWN)))
}

/// The edit that lets the upstream make a summary. Those that clear make the input smaller; what cannot be read is
/// taken for one that does not.
fn compaction(management: &RawValue) -> Option<usize> {
    #[derive(Deserialize)]
    struct Management<'a> {
        #[serde(borrow, default)]
        edits: Option<&'a RawValue>,
    }
    let Some(management) = object::<Management<'_>>(management) else { return Some(0) };
    let Some(edits) = list(management.edits?) else { return Some(0) };
    edits.iter().position(|edit| {
        let kind = object::<Block<'_>>(edit).and_then(|edit| edit.kind);
        let kind = kind.and_then(|kind| serde_json::from_str::<String>(kind.get()).ok());
        !kind.is_some_and(|kind| kind.starts_with("clear_"))
    })
}

/// A cache whose time to live is an hour. Inside of a text the quotes would be escaped.
fn keeps_for_an_hour(text: &str) -> bool {
    memmem::find_iter(text.as_bytes(), b"\"ttl\"").any(|at| {
        let behind = text.get(at + 5..).unwrap_or_default().trim_start();
        behind.strip_prefix(':').is_some_and(|value| value.trim_start().starts_with("\"1h\""))
    })
}

#[derive(Deserialize)]
struct Block<'a> {
    #[serde(borrow, rename = "type", default)]
    kind: Option<&'a RawValue>,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    source: Option<&'a RawValue>,
}

/// Where an image is.
#[derive(Deserialize)]
struct Source<'a> {
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    url: Option<&'a RawValue>,
}

/// A derived struct would also read a list by position.
fn object<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Option<T> {
    raw.get().starts_with('{').then(|| serde_json::from_str(raw.get()).ok()).flatten()
}

/// Counts what is no text. A result of a tool may have blocks in it, and those none.
fn blocks(content: &RawValue, parts: &mut Parts) -> Option<()> {
    if content.get().starts_with('"') {
        return Some(());
    }
    for raw in list(content)? {
        let block: Block<'_> = object(raw)?;
        match (block.kind.map_or("", RawValue::get).trim_matches('"'), block.content) {
            ("tool_result", Some(inner)) if inner.get().starts_with('[') => {
                for raw in list(inner)? {
                    let block: Block<'_> = object(raw)?;
                    count(&block, parts);
                }
            }
            _ => count(&block, parts),
        }
    }
    Some(())
}

fn count(block: &Block<'_>, parts: &mut Parts) {
    let count = match block.kind.map_or("", RawValue::get).trim_matches('"') {
        "text" | "thinking" | "redacted_thinking" | "tool_use" | "tool_result" => return,
        "image" => {
            let source: Option<Source<'_>> = block.source.and_then(object);
            let (data, url) = source.map_or((0, ""), |source| {
                (source.data.map_or(0, |data| data.get().len()), source.url.map_or("", RawValue::get))
            });
            parts.image_bytes = parts.image_bytes.saturating_add(data as u64);
            if is_of_films(url) { &mut parts.files } else { &mut parts.images }
        }
        "document" => &mut parts.files,
        _ => &mut parts.others,
    };
    *count = count.saturating_add(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_bounded_or_says_what_is_not() {
        let body = |more: &str| {
            format!(r#"{{"model":"c","max_tokens":9,"messages":[{{"role":"user","content":"hi"}}]{more}}}"#)
        };
        let request = read(&body(r#","stream":true"#)).unwrap();
        assert_eq!((&*request.model, request.stream, request.own_cap()), ("c", true, Some(9)));
        for (more, field) in [
            (r#","tools":[{"name":"a","input_schema":{}},{"type":"web_search_20250305"}]"#, "tools[1].type"),
            (r#","mcp_servers":[{}]"#, "mcp_servers"),
            (
                r#","system":[{"type":"text","text":"s","cache_control":{"type":"ephemeral","ttl": "1h"}}]"#,
                "cache_control.ttl",
            ),
        ] {
            assert_eq!(&*read(&body(more)).unwrap().unbounded.unwrap().0, field);
        }
        for (more, field) in [
            (r#","inference_geo":"us""#, "inference_geo"),
            (r#","speed":"fast""#, "speed"),
            (r#","speed":"f\u0061st""#, "speed"),
            (
                r#","context_management":{"edits":[{"type":"clear_tool_uses_20250919"},{"type":"compact_20260112"}]}"#,
                "context_management.edits[1].type",
            ),
            (
                r#","context_management":{"edits":[{"type":"c\u006fmpact_20260112"}]}"#,
                "context_management.edits[0].type",
            ),
        ] {
            assert_eq!(&*read(&body(more)).unwrap().unbounded.unwrap().0, field);
        }
        let usual = r#","inference_geo":"global","speed":"standard","context_management":{"edits":[{"type":"clear_thinking_20251015","keep":"all"}]}"#;
        assert_eq!(read(&body(usual)).unwrap().unbounded, None);
        let quoted = body(r#","system":"\"ttl\":\"1h\"","tools":[{"type":"bash_20250124","name":"bash"}]"#);
        assert_eq!(read(&quoted).unwrap().unbounded, None);
        assert!(read(r#"{"model":"c","messages":[]}"#).is_err());
        assert!(read(r#"{"model":"c","messages":[{"role":"user"}]}"#).is_err());
    }

    #[test]
    fn parts_are_counted_also_in_results() {
        let data = "A".repeat(4_000);
        let image = format!(
            r#"{{"type":"image","source":{{"type":"base64","media_type":"image/png","data":"{data}"}}}}"#
        );
        let body = format!(
            r#"{{"model":"c","messages":[{{"role":"user","content":[{image},{{"type":"tool_result","tool_use_id":"x","content":[{image}]}},{{"type":"document","source":{{}}}}]}}]}}"#
        );
        let request = read(&body).unwrap();
        assert_eq!((request.parts.images, request.parts.files, request.parts.others), (2, 1, 0));
        assert!(request.input_tokens_bound < 1_000, "{}", request.input_tokens_bound);
    }
}
