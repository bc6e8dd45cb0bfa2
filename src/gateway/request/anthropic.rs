//! The request of Anthropic's Messages: what of it a decision needs.

use memchr::memmem;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::json::{Members, is_of_films, kind, list};
use super::{
    CapField, Endpoint, ModelRequest, PartList, PartPlace, Parts, RequestFault, TOOL_TEMPLATE_TOKENS,
};

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
    let raw = members.required("messages", "a list of messages")?;
    let fault = |what, got| RequestFault::parameter("messages", what, got);
    let messages = list(raw).ok_or_else(|| fault("a list of messages", kind(raw.get())))?;
    if messages.is_empty() {
        return Err(fault("at least one message", "an empty list".into()));
    }
    let mut walk = Walk::default();
    for (at, raw) in messages.iter().enumerate() {
        let field = || format!("messages[{at}]");
        let wrong = || RequestFault::parameter(field(), "an object with role and content", kind(raw.get()));
        let message: Block<'_> = object(raw).ok_or_else(wrong)?;
        let content = message.content.ok_or_else(wrong)?;
        walk.content(at, content).ok_or_else(wrong)?;
    }
    let cap = members.cap("max_tokens")?;
    let mut spans = members.spans();
    spans.max_tokens = members.cap_span("max_tokens", cap);
    let mut request = ModelRequest::plain(Endpoint::Messages, members.model(None)?, spans);
    request.extras.service_tier = members
        .get("service_tier")
        .is_some_and(|tier| !matches!(tier.get(), "\"auto\"" | "\"standard_only\""));
    let (parts, dear_cache) = (walk.parts, walk.dear_cache);
    request.unbounded = unbounded(&members, text, dear_cache)?;
    let tools = if members.get("tools").is_some() { TOOL_TEMPLATE_TOKENS } else { 0 };
    let bound = request.input_tokens_bound.saturating_sub(parts.image_bytes).saturating_add(tools);
    let bound = bound.saturating_add(walk.cited_bytes.saturating_mul(CITED_TOKENS_PER_BYTE));
    Ok(ModelRequest {
        stream: members.flag("stream")?,
        output_cap: cap.map(|cap| (CapField::MaxTokens, cap)),
        input_tokens_bound: bound,
        parts,
        ..request
    })
}

/// What is billed beside the tokens, or at another price.
fn unbounded(
    members: &Members<'_>,
    text: &str,
    dear_cache: Option<Box<str>>,
) -> Result<Option<(Box<str>, &'static str)>, RequestFault> {
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
    let tools = match members.get("tools") {
        Some(raw) => {
            list(raw).ok_or_else(|| RequestFault::parameter("tools", "a list of tools", kind(raw.get())))?
        }
        None => Vec::new(),
    };
    if let Some(field) = dear_cache.or_else(|| dear_beside_messages(members, text, &tools)) {
        return Ok(Some((field, "what is cached for an hour has another price")));
    }
    let foreign = tools.iter().position(|tool| {
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

/// A cache that does not live for the five minutes of the usual price.
fn is_dear(cache: &RawValue) -> bool {
    #[derive(Deserialize)]
    struct Cache<'a> {
        #[serde(borrow, default)]
        ttl: Option<&'a RawValue>,
    }
    let ttl = object::<Cache<'_>>(cache).and_then(|cache| cache.ttl);
    ttl.is_some_and(|ttl| !matches!(ttl.get(), "\"5m\"" | "null"))
}

/// What is to be kept for longer than usual, but for messages. Nothing is read again of a text that has no such member.
fn dear_beside_messages(members: &Members<'_>, text: &str, tools: &[&RawValue]) -> Option<Box<str>> {
    let has = |bytes: &[u8]| memmem::find(text.as_bytes(), bytes).is_some();
    if !has(b"ttl") && !has(b"\\u") {
        return None;
    }
    if members.get("cache_control").is_some_and(is_dear) {
        return Some("cache_control.ttl".into());
    }
    let system = members.get("system").and_then(list).unwrap_or_default();
    [("system", &*system), ("tools", tools)].into_iter().find_map(|(name, elements)| {
        let is_dear = |raw: &&RawValue| object::<Block<'_>>(raw).is_some_and(|block| block.is_dear());
        let at = elements.iter().position(is_dear)?;
        Some(format!("{name}[{at}].cache_control.ttl").into())
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
    #[serde(borrow, default)]
    cache_control: Option<&'a RawValue>,
    #[serde(borrow, default)]
    citations: Option<&'a RawValue>,
}

/// Where an image is, or a document.
#[derive(Deserialize)]
struct Source<'a> {
    #[serde(borrow, rename = "type", default)]
    kind: Option<&'a RawValue>,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    url: Option<&'a RawValue>,
}

/// A derived struct would also read a list by position.
fn object<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Option<T> {
    raw.get().starts_with('{').then(|| serde_json::from_str(raw.get()).ok()).flatten()
}

/// What may be cited is cut into sentences, and each gets marks of its own around it: more tokens than it has bytes.
const CITED_TOKENS_PER_BYTE: u64 = 8;

/// What the messages have that is more than their text.
#[derive(Default)]
struct Walk {
    parts: Parts,
    /// Of texts that may be cited.
    cited_bytes: u64,
    /// Where a block is to be cached at another price.
    dear_cache: Option<Box<str>>,
}

impl Walk {
    /// Counts what is no text. A result of a tool may have blocks in it, and those none.
    fn content(&mut self, message: usize, content: &RawValue) -> Option<()> {
        if content.get().starts_with('"') {
            return Some(());
        }
        for (at, raw) in list(content)?.into_iter().enumerate() {
            let block: Block<'_> = object(raw)?;
            self.block(&block, raw, || format!("messages[{message}].content[{at}]"));
            if let ("tool_result", Some(inner)) = (block.kind(), block.content)
                && inner.get().starts_with('[')
            {
                for (inside, raw) in list(inner)?.into_iter().enumerate() {
                    let place = || format!("messages[{message}].content[{at}].content[{inside}]");
                    self.block(&object(raw)?, raw, place);
                }
            }
            self.parts.note_place(|| PartPlace::new(PartList::Messages, message, at));
        }
        Some(())
    }

    fn block(&mut self, block: &Block<'_>, raw: &RawValue, place: impl Fn() -> String) {
        if block.is_dear() && self.dear_cache.is_none() {
            self.dear_cache = Some(format!("{}.cache_control.ttl", place()).into());
        }
        if block.citations.is_some() && block.kind() != "text" {
            self.cited_bytes = self.cited_bytes.saturating_add(raw.get().len() as u64);
        }
        count(block, &mut self.parts);
    }
}

impl Block<'_> {
    fn kind(&self) -> &str {
        self.kind.map_or("", RawValue::get).trim_matches('"')
    }

    fn is_dear(&self) -> bool {
        self.cache_control.is_some_and(is_dear)
    }

    /// A document whose text is in the request, or a result of a search, which is one.
    fn is_text(&self) -> bool {
        let of_texts = |content: &RawValue| {
            let is_text =
                |raw: &RawValue| object::<Block<'_>>(raw).is_some_and(|block| block.kind() == "text");
            content.get().starts_with('"')
                || list(content).is_some_and(|blocks| blocks.into_iter().all(is_text))
        };
        if self.kind() == "search_result" {
            return self.content.is_some_and(of_texts);
        }
        let source: Option<Source<'_>> = self.source.and_then(object);
        source.is_some_and(|source| match source.kind.map_or("", RawValue::get) {
            "\"text\"" => true,
            "\"content\"" => source.content.is_some_and(of_texts),
            _ => false,
        })
    }
}

fn count(block: &Block<'_>, parts: &mut Parts) {
    let count = match block.kind() {
        "text" | "thinking" | "redacted_thinking" | "tool_use" | "tool_result" => return,
        "document" | "search_result" if block.is_text() => return,
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
                "system[0].cache_control.ttl",
            ),
            (r#","cache_control":{"type":"ephemeral","ttl":"1\u0068"}"#, "cache_control.ttl"),
            (r#","tools":[{"name":"a","cache_control":{"tt\u006c":"1h"}}]"#, "tools[0].cache_control.ttl"),
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
        let quoted = body(
            r#","system":"\"ttl\":\"1h\"","metadata":{"ttl":"1h"},"tools":[{"type":"bash_20250124","name":"bash"}]"#,
        );
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
        assert_eq!(request.parts.unbounded_at.unwrap().to_string(), "messages[0].content[2]");
    }

    /// Text is bounded by its bytes wherever it stands; what may be cited gets marks around each sentence.
    #[test]
    fn h1_documents_of_text_are_text_and_others_have_a_place() {
        let of = |block: &str| {
            read(&format!(
                r#"{{"model":"c","messages":[{{"role":"user","content":"hi"}},{{"role":"user","content":[{{"type":"text","text":"a"}},{block}]}}]}}"#
            ))
            .unwrap()
        };
        let text = r#"{"type":"document","source":{"type":"text","media_type":"text/plain","data":"a. b."}}"#;
        let cited = text.replace(r#""source""#, r#""citations":{"enabled":true},"source""#);
        assert_eq!((of(text).parts, of(&cited).parts), (Parts::default(), Parts::default()));
        let more = of(&cited).input_tokens_bound - of(text).input_tokens_bound;
        assert!(more > 8 * cited.len() as u64, "{more}");
        let found =
            r#"{"type":"search_result","source":"x","title":"y","content":[{"type":"text","text":"z"}]}"#;
        assert_eq!(of(found).parts, Parts::default());
        for block in [
            r#"{"type":"document","source":{"type":"base64","media_type":"application/pdf","data":"AA"}}"#,
            r#"{"type":"document","source":{"type":"content","content":[{"type":"image","source":{}}]}}"#,
            r#"{"type":"search_result","content":[{"type":"image"}]}"#,
            r#"{"type":"tool_result","tool_use_id":"x","content":[{"type":"tool_reference","tool_name":"t"}]}"#,
        ] {
            let place = of(block).parts.unbounded_at.unwrap().to_string();
            assert_eq!(place, "messages[1].content[1]", "{block}");
        }
    }

    /// Only where a cache is asked for is its time looked at.
    #[test]
    fn h1_a_time_to_live_is_a_caches_alone() {
        let of = |block: &str| {
            let body = format!(r#"{{"model":"c","messages":[{{"role":"assistant","content":[{block}]}}]}}"#);
            read(&body).unwrap().unbounded.map(|(field, _)| field)
        };
        let call = r#"{"type":"tool_use","id":"t","name":"n","input":{"key":"a","ttl":"1h","cache_control":{"ttl":"1h"}}}"#;
        assert_eq!(of(call), None);
        let cached = call.replacen(r#""id""#, r#""cache_control":{"type":"ephemeral","ttl":"1h"},"id""#, 1);
        assert_eq!(of(&cached).as_deref(), Some("messages[0].content[0].cache_control.ttl"));
        let inside = format!(r#"{{"type":"tool_result","content":[{cached}]}}"#);
        assert_eq!(of(&inside).as_deref(), Some("messages[0].content[0].content[0].cache_control.ttl"));
        assert_eq!(of(&cached.replace(r#""ephemeral","ttl":"1h""#, r#""ephemeral","ttl":"5m""#)), None);
    }
}
