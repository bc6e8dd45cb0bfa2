//! Edits of a body by splicing: what is not edited stays byte for byte.

use bytes::{Bytes, BytesMut};
use memchr::memmem;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::json::span;
use super::responses::ENCRYPTED;
use super::{CapField, CapSpan, Endpoint, ModelRequest, OptionsSpan, Span};

/// What to change before a body goes upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Edits<'a> {
    /// The name that the channel's upstream knows the model by.
    pub upstream_model: Option<&'a str>,
    /// Cap on output tokens per choice. A cap field that is there is only ever
    /// lowered; if none is there, this field is added.
    pub output_cap: Option<(CapField, u32)>,
    /// The upstream knows the cap by that name alone, and passes over any other.
    pub sole_cap_name: bool,
    /// The upstream knows no messages of a developer, but those of the system.
    pub sole_system_role: bool,
    /// Ask for the usage event of a stream.
    pub include_usage: bool,
}

/// One replacement: the bytes of `at` make way for `with`.
struct Splice {
    at: Span,
    with: String,
}

pub(super) fn rewrite(request: &ModelRequest, body: &Bytes, edits: &Edits<'_>) -> Bytes {
    // Another body than the one that was parsed: leave it alone.
    if body.len() != request.spans.body_len {
        return body.clone();
    }
    let mut splices = plan(request, body, edits);
    if splices.is_empty() {
        return body.clone();
    }
    splices.sort_by_key(|splice| splice.at.start);
    let added: usize = splices.iter().map(|splice| splice.with.len()).sum();
    let mut out = BytesMut::with_capacity(body.len() + added);
    let mut from = 0;
    for splice in &splices {
        let Some(kept) = body.get(from..splice.at.start) else { return body.clone() };
        out.extend_from_slice(kept);
        out.extend_from_slice(splice.with.as_bytes());
        from = splice.at.end;
    }
    let Some(rest) = body.get(from..) else { return body.clone() };
    out.extend_from_slice(rest);
    out.freeze()
}

fn plan(request: &ModelRequest, body: &[u8], edits: &Edits<'_>) -> Vec<Splice> {
    let spans = &request.spans;
    let mut splices = Vec::new();
    // All new members go to one place: right behind the opening brace. A
    // parsed body has members, so a comma always follows.
    let mut members = String::new();
    plan_model(request, edits.upstream_model.unwrap_or(&request.model), &mut splices, &mut members);
    if let Some((field, cap)) = edits.output_cap {
        plan_cap(request, field, cap, &mut splices, &mut members);
        if edits.sole_cap_name && field == CapField::MaxTokens {
            plan_cap_name(request, body, cap, &mut splices);
        }
    }
    if edits.sole_system_role && request.endpoint == Endpoint::ChatCompletions {
        plan_roles(body, &mut splices);
    }
    if edits.include_usage && !request.include_usage_asked {
        match &spans.stream_options {
            OptionsSpan::Absent => members.push_str(r#""stream_options":{"include_usage":true},"#),
            OptionsSpan::Null(at) => {
                splices.push(Splice { at: at.clone(), with: r#"{"include_usage":true}"#.into() });
            }
            OptionsSpan::Object { open, empty } => {
                let comma = if *empty { "" } else { "," };
                splices.push(Splice { at: *open..*open, with: format!(r#""include_usage":true{comma}"#) });
            }
            OptionsSpan::Value(at) => splices.push(Splice { at: at.clone(), with: "true".into() }),
        }
    }
    match &spans.store_unsaid {
        None => {}
        Some(absent) if absent.is_empty() => members.push_str(r#""store":false,"#),
        Some(null) => splices.push(Splice { at: null.clone(), with: "false".into() }),
    }
    let model = edits.upstream_model.unwrap_or(&request.model);
    if spans.store_unsaid.is_some() && (spans.says_reasoning || thinks(model)) {
        plan_encrypted(&spans.include, &mut splices, &mut members);
    }
    if !members.is_empty() {
        splices.push(Splice { at: spans.open..spans.open, with: members });
    }
    splices
}

/// Whether OpenAI knows a model by this name that thinks, whatever its request says; others refuse to tell thoughts.
fn thinks(model: &str) -> bool {
    let is_of = |family: &str| model.starts_with(family);
    ["o1", "o3", "o4", "gpt-5"].into_iter().any(is_of) && !model.contains("-chat")
}

/// Asks for thoughts in a form that can be sent again.
fn plan_encrypted(include: &OptionsSpan, splices: &mut Vec<Splice>, members: &mut String) {
    match include {
        OptionsSpan::Absent => members.push_str(&format!(r#""include":[{ENCRYPTED}],"#)),
        OptionsSpan::Null(at) => splices.push(Splice { at: at.clone(), with: format!("[{ENCRYPTED}]") }),
        OptionsSpan::Object { open, empty } => {
            let comma = if *empty { "" } else { "," };
            splices.push(Splice { at: *open..*open, with: format!("{ENCRYPTED}{comma}") });
        }
        OptionsSpan::Value(_) => {}
    }
}

/// Names the model as the upstream knows it.
fn plan_model(request: &ModelRequest, name: &str, splices: &mut Vec<Splice>, members: &mut String) {
    let spans = &request.spans;
    if name == &*request.model && !spans.model_unsaid {
        return;
    }
    let written =
        if request.form.is_some() { Some(name.to_owned()) } else { serde_json::to_string(name).ok() };
    match written {
        Some(name) if spans.model.is_empty() => {
            members.push_str("\"model\":");
            members.push_str(&name);
            members.push(',');
        }
        Some(with) => splices.push(Splice { at: spans.model.clone(), with }),
        None => {}
    }
}

/// Lowers every cap that is there; adds one where none is.
fn plan_cap(
    request: &ModelRequest,
    field: CapField,
    cap: u32,
    splices: &mut Vec<Splice>,
    members: &mut String,
) {
    let spans = &request.spans;
    let standing = [&spans.max_tokens, &spans.max_completion_tokens, &spans.max_output_tokens];
    let valued = |place: &&Option<CapSpan>| place.as_ref().is_some_and(|place| place.value.is_some());
    if standing.iter().any(valued) {
        let over = standing.into_iter().flatten().filter(|place| place.value.is_some_and(|own| own > cap));
        splices.extend(over.map(|place| Splice { at: place.at.clone(), with: cap.to_string() }));
        return;
    }
    // No cap of the client's: a `null` of that name makes way, else it is new.
    let null = match field {
        CapField::MaxTokens => &spans.max_tokens,
        CapField::MaxCompletionTokens => &spans.max_completion_tokens,
        CapField::MaxOutputTokens | CapField::OfGemini => &spans.max_output_tokens,
    };
    match null {
        Some(place) => splices.push(Splice { at: place.at.clone(), with: cap.to_string() }),
        None if field == CapField::OfGemini => plan_setting(&spans.config, cap, splices, members),
        None => {
            members.push('"');
            members.push_str(field.name());
            members.push_str("\":");
            members.push_str(&cap.to_string());
            members.push(',');
        }
    }
}

/// Gives a cap that has only its newer name the older one.
fn plan_cap_name(request: &ModelRequest, body: &[u8], cap: u32, splices: &mut Vec<Splice>) {
    let spans = &request.spans;
    let Some(CapSpan { at, value: Some(own) }) = &spans.max_completion_tokens else { return };
    match &spans.max_tokens {
        Some(CapSpan { value: Some(_), .. }) => {}
        Some(null) => splices.push(Splice { at: null.at.clone(), with: cap.min(*own).to_string() }),
        None => {
            let name = name_before(body, at.start);
            splices.extend(name.map(|at| Splice { at, with: "\"max_tokens\"".into() }));
        }
    }
}

/// What a developer says, the system says. Nothing is read again of a text that has no such word.
fn plan_roles(body: &[u8], splices: &mut Vec<Splice>) {
    #[derive(Deserialize)]
    struct Top<'a> {
        #[serde(borrow)]
        messages: Vec<&'a RawValue>,
    }
    #[derive(Deserialize)]
    struct Message<'a> {
        #[serde(borrow)]
        role: &'a RawValue,
    }
    const DEVELOPER: &str = "\"developer\"";
    if memmem::find(body, DEVELOPER.as_bytes()).is_none() {
        return;
    }
    let Ok(text) = std::str::from_utf8(body) else { return };
    let Ok(Top { messages }) = serde_json::from_str(text) else { return };
    for message in messages {
        if let Ok(Message { role }) = serde_json::from_str(message.get())
            && role.get() == DEVELOPER
            && let Some(at) = span(text, role.get())
        {
            splices.push(Splice { at, with: "\"system\"".into() });
        }
    }
}

/// Where the name of a member lies, with its quotes, whose value begins here. The name of a cap has no quote in it,
/// escaped or not.
fn name_before(body: &[u8], value: usize) -> Option<Span> {
    let before = body.get(..value)?.trim_ascii_end().strip_suffix(b":")?.trim_ascii_end();
    let end = before.len();
    let start = before.strip_suffix(b"\"")?.iter().rposition(|byte| *byte == b'"')?;
    Some(start..end)
}

/// Adds a cap to Gemini's settings.
fn plan_setting(config: &OptionsSpan, cap: u32, splices: &mut Vec<Splice>, members: &mut String) {
    match config {
        OptionsSpan::Object { open, empty } => {
            let comma = if *empty { "" } else { "," };
            let with = format!("\"maxOutputTokens\":{cap}{comma}");
            splices.push(Splice { at: *open..*open, with });
        }
        _ => members.push_str(&format!("\"generationConfig\":{{\"maxOutputTokens\":{cap}}},")),
    }
}
