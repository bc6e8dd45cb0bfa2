//! The request of Gemini's generateContent: what of it a decision needs. The model stands in the address.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::json::{Members, cap, is_of_films, kind, list, model_name, number, span};
use super::{
    CHOICES_MAX, CapField, CapSpan, Endpoint, ModelRequest, OptionsSpan, PartList, PartPlace, Parts,
    RequestFault, Spans, TOOL_TEMPLATE_TOKENS,
};

const KNOWN: &[&str] = &[
    "contents",
    "generationConfig",
    "generation_config",
    "tools",
    "cachedContent",
    "cached_content",
    "systemInstruction",
    "system_instruction",
    "serviceTier",
    "service_tier",
];

pub(super) fn read(endpoint: Endpoint, model: &str, text: &str) -> Result<ModelRequest, RequestFault> {
    let members = Members::read(text, KNOWN)?;
    let mut parts = Parts::default();
    let raw = members.required("contents", "a list of contents")?;
    let wrong = |at: usize, raw: &RawValue| {
        RequestFault::parameter(format!("contents[{at}]"), "an object with parts", kind(raw.get()))
    };
    let contents = list_or_one(raw)
        .ok_or_else(|| RequestFault::parameter("contents", "a list of contents", kind(raw.get())))?;
    if contents.is_empty() {
        return Err(RequestFault::parameter("contents", "at least one content", "an empty list"));
    }
    for (at, raw) in contents.iter().enumerate() {
        let content: Content<'_> = object(raw).ok_or_else(|| wrong(at, raw))?;
        count_parts(&content, &mut parts, |part| PartPlace::new(PartList::Contents, at, part))
            .ok_or_else(|| wrong(at, raw))?;
    }
    for field in ["systemInstruction", "system_instruction"] {
        let Some(raw) = members.get(field) else { continue };
        let wrong = || RequestFault::parameter(field, "an object with parts", kind(raw.get()));
        let content: Content<'_> = object(raw).ok_or_else(wrong)?;
        count_parts(&content, &mut parts, |part| PartPlace::new(PartList::SystemInstruction, 0, part))
            .ok_or_else(wrong)?;
    }
    let mut spans = members.spans();
    let config = config(&members, text, &mut spans)?;
    let mut request = ModelRequest::plain(endpoint, model_name(model.into())?, spans);
    request.unbounded = unbounded(&members)?;
    let tools = if members.get("tools").is_some() { TOOL_TEMPLATE_TOKENS } else { 0 };
    let bound = request.input_tokens_bound.saturating_sub(parts.image_bytes).saturating_add(tools);
    Ok(ModelRequest {
        stream: endpoint == Endpoint::StreamGenerateContent,
        output_cap: config.cap.map(|cap| (CapField::OfGemini, cap)),
        choices: config.choices,
        input_tokens_bound: bound,
        parts,
        ..request
    })
}

struct Config {
    cap: Option<u32>,
    choices: u32,
}

#[derive(Deserialize)]
struct WireConfig<'a> {
    #[serde(borrow, default, alias = "max_output_tokens", rename = "maxOutputTokens")]
    cap: Option<&'a RawValue>,
    #[serde(borrow, default, alias = "candidate_count", rename = "candidateCount")]
    choices: Option<&'a RawValue>,
}

/// The settings, and where a cap goes into them.
fn config(members: &Members<'_>, text: &str, spans: &mut Spans) -> Result<Config, RequestFault> {
    let field = "generationConfig";
    let raw = match (members.get(field), members.get("generation_config")) {
        (Some(_), Some(_)) => {
            return Err(RequestFault::parameter(field, "the field once", "the field twice"));
        }
        (camel, snake) => camel.or(snake),
    };
    let Some(raw) = raw else { return Ok(Config { cap: None, choices: 1 }) };
    let wrong = || RequestFault::parameter(field, "an object, each member once", kind(raw.get()));
    let wire: WireConfig<'_> = object(raw).ok_or_else(wrong)?;
    let cap = cap("generationConfig.maxOutputTokens", wire.cap)?;
    let place = wire.cap.and_then(|cap| span(text, cap.get()));
    spans.max_output_tokens = place.map(|at| CapSpan { at, value: cap });
    let open = span(text, raw.get()).map_or(0, |at| at.start + 1);
    let empty = raw.get().get(1..).is_some_and(|rest| rest.trim_start().starts_with('}'));
    spans.config = OptionsSpan::Object { open, empty };
    let what = "a whole number from 1 to 128";
    let choices = number("generationConfig.candidateCount", wire.choices, 1, CHOICES_MAX, what)?;
    Ok(Config { cap, choices: choices.unwrap_or(1) })
}

/// What stands in the request for something that is not in it, or is billed beside its tokens.
fn unbounded(members: &Members<'_>) -> Result<Option<(Box<str>, &'static str)>, RequestFault> {
    if members.get("cachedContent").or(members.get("cached_content")).is_some() {
        let why = "what the upstream has kept counts as input again, and nobody here knows how much it is";
        return Ok(Some(("cachedContent".into(), why)));
    }
    for field in ["serviceTier", "service_tier"] {
        let is_usual = |tier: &str| {
            let tier = tier.trim_matches('"');
            ["standard", "unspecified", "service_tier_unspecified"]
                .iter()
                .any(|usual| tier.eq_ignore_ascii_case(usual))
        };
        if members.get(field).is_some_and(|tier| !is_usual(tier.get())) {
            return Ok(Some((field.into(), "other service tiers have other prices")));
        }
    }
    let Some(raw) = members.get("tools") else { return Ok(None) };
    let what = || RequestFault::parameter("tools", "a list of tools", kind(raw.get()));
    let foreign = list_or_one(raw).ok_or_else(what)?.iter().position(|tool| {
        let members: Option<serde_json::Map<String, serde_json::Value>> =
            serde_json::from_str(tool.get()).ok();
        let own = |name: &String| matches!(name.as_str(), "functionDeclarations" | "function_declarations");
        !members.is_some_and(|members| members.keys().all(own))
    });
    let why = "a tool that the upstream runs by itself is billed beside the tokens";
    Ok(foreign.map(|at| (format!("tools[{at}]").into(), why)))
}

#[derive(Deserialize)]
struct Content<'a> {
    #[serde(borrow, default)]
    parts: Option<&'a RawValue>,
}

/// Google's servers take a list's only element for the list.
fn list_or_one(raw: &RawValue) -> Option<Vec<&RawValue>> {
    if raw.get().starts_with('{') { Some(vec![raw]) } else { list(raw) }
}

/// Counts the parts of a content; nothing if one is none.
fn count_parts(content: &Content<'_>, parts: &mut Parts, place: impl Fn(usize) -> PartPlace) -> Option<()> {
    let Some(raw) = content.parts else { return Some(()) };
    for (at, part) in list_or_one(raw)?.into_iter().enumerate() {
        object::<Part<'_>>(part)?.count(parts);
        parts.note_place(|| place(at));
    }
    Some(())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Part<'a> {
    #[serde(borrow, default)]
    text: Option<&'a RawValue>,
    #[serde(borrow, default, alias = "inline_data")]
    inline_data: Option<&'a RawValue>,
    #[serde(borrow, default, alias = "file_data")]
    file_data: Option<&'a RawValue>,
    #[serde(borrow, default, alias = "function_call")]
    function_call: Option<&'a RawValue>,
    #[serde(borrow, default, alias = "function_response")]
    function_response: Option<&'a RawValue>,
    #[serde(borrow, default, alias = "executable_code")]
    executable_code: Option<&'a RawValue>,
    #[serde(borrow, default, alias = "code_execution_result")]
    code_execution_result: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Data<'a> {
    #[serde(borrow, default, rename = "mimeType", alias = "mime_type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "fileUri", alias = "file_uri")]
    address: Option<&'a RawValue>,
}

/// A derived struct would also read a list by position.
fn object<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Option<T> {
    raw.get().starts_with('{').then(|| serde_json::from_str(raw.get()).ok()).flatten()
}

impl Part<'_> {
    fn count(&self, parts: &mut Parts) {
        let read = |raw: &'_ RawValue| object::<Data<'_>>(raw).map(|data| (data.mime(), data.may_be_film()));
        let count = if let Some(data) = self.inline_data {
            let (kind, _) = read(data).unwrap_or_default();
            let bytes = data.get().len() as u64;
            match kind {
                Mime::Image => {
                    parts.image_bytes = parts.image_bytes.saturating_add(bytes);
                    &mut parts.images
                }
                Mime::Audio => {
                    parts.audio_bytes = parts.audio_bytes.saturating_add(bytes);
                    &mut parts.audio
                }
                Mime::Other => &mut parts.files,
            }
        } else if let Some(file) = self.file_data {
            // What is said to be nothing, or lies where films are, may be hours of one.
            match read(file).unwrap_or_default() {
                (Mime::Image, false) => &mut parts.images,
                _ => &mut parts.files,
            }
        } else if let Some(response) = self.function_response {
            // What a tool gave back may have pictures and files beside its words, and those no more in them.
            let inner = object::<Content<'_>>(response).and_then(|response| response.parts);
            for part in inner.and_then(list_or_one).into_iter().flatten() {
                match object::<Part<'_>>(part) {
                    Some(part) if part.function_response.is_none() => part.count(parts),
                    _ => parts.others = parts.others.saturating_add(1),
                }
            }
            return;
        } else if self.is_text() {
            return;
        } else {
            &mut parts.others
        };
        *count = count.saturating_add(1);
    }
}

impl Part<'_> {
    /// Words alone, which their bytes bound: those of a program that ran and of what it printed, too.
    fn is_text(&self) -> bool {
        let code = self.executable_code.or(self.code_execution_result);
        self.text.or(self.function_call).or(code).is_some()
    }
}

/// What data is said to be.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Mime {
    Image,
    Audio,
    #[default]
    Other,
}

impl Data<'_> {
    fn mime(&self) -> Mime {
        match self.kind.map_or("", RawValue::get) {
            kind if kind.starts_with("\"image/") => Mime::Image,
            kind if kind.starts_with("\"audio/") => Mime::Audio,
            _ => Mime::Other,
        }
    }

    fn may_be_film(&self) -> bool {
        self.address.is_some_and(|address| is_of_films(address.get()))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::Edits;
    use super::*;

    fn parse(body: &str) -> Result<ModelRequest, RequestFault> {
        read(Endpoint::GenerateContent, "gemini-x", body)
    }

    #[test]
    fn a_cap_goes_where_the_format_has_it() {
        let cap = |body: &str| {
            let edits = Edits { output_cap: Some((CapField::OfGemini, 50)), ..Edits::default() };
            let out = parse(body).unwrap().rewrite(&Bytes::copy_from_slice(body.as_bytes()), &edits);
            let json: serde_json::Value = serde_json::from_slice(&out).unwrap();
            json["generationConfig"]["maxOutputTokens"].clone()
        };
        assert_eq!(cap(r#"{"contents":[{"parts":[{"text":"a"}]}]}"#), 50);
        assert_eq!(cap(r#"{"contents":[{"parts":[]}],"generationConfig":{ }}"#), 50);
        assert_eq!(cap(r#"{"contents":[{"parts":[]}],"generationConfig":{"topK":1}}"#), 50);
        assert_eq!(cap(r#"{"contents":[{"parts":[]}],"generationConfig":{"maxOutputTokens":7}}"#), 7);
        assert_eq!(cap(r#"{"contents":[{"parts":[]}],"generationConfig":{"maxOutputTokens":70}}"#), 50);
    }

    /// Google bills a film by its seconds, and takes one by its address alone.
    #[test]
    fn h1_a_film_by_its_address_is_no_picture() {
        for (part, images, files) in [
            (r#"{"fileData":{"fileUri":"https://www.youtube.com/watch?v=x"}}"#, 0, 1),
            (r#"{"fileData":{"fileUri":"https://youtu.be/x","mimeType":"image/png"}}"#, 0, 1),
            (
                r#"{"file_data":{"file_uri":"HTTPS:\/\/m.YouTube.com\/shorts\/x","mime_type":"image/png"}}"#,
                0,
                1,
            ),
            (r#"{"fileData":{"fileUri":"https://a.example/p"}}"#, 0, 1),
            (r#"{"fileData":{"fileUri":"gs://a/b","mimeType":"video/mp4"}}"#, 0, 1),
            (r#"{"fileData":{"fileUri":"https://a.example/youtube.com.png","mimeType":"image/png"}}"#, 1, 0),
            (r#"{"inlineData":{"data":"AAAA"}}"#, 0, 1),
            (
                r#"{"functionResponse":{"name":"f","response":{},"parts":[{"fileData":{"fileUri":"https://youtu.be/x"}},{"inlineData":{"mimeType":"image/png","data":"A"}}]}}"#,
                1,
                1,
            ),
        ] {
            let parts = parse(&format!(r#"{{"contents":[{{"parts":[{part}]}}]}}"#)).unwrap().parts;
            assert_eq!((parts.images, parts.files), (images, files), "{part}");
        }
        let system = r#"{"contents":[{"parts":[]}],"system_instruction":{"parts":[{"fileData":{"fileUri":"https://youtu.be/x"}}]}}"#;
        assert_eq!(parse(system).unwrap().parts.files, 1);
    }

    #[test]
    fn h1_another_tier_of_service_is_named() {
        let of = |tier: &str| {
            let body = format!(r#"{{"contents":[{{"parts":[]}}],"serviceTier":"{tier}"}}"#);
            parse(&body).unwrap().unbounded.map(|(field, _)| field)
        };
        assert_eq!((of("standard"), of("SERVICE_TIER_UNSPECIFIED")), (None, None));
        assert_eq!(of("priority").as_deref(), Some("serviceTier"));
    }

    #[test]
    fn parts_are_counted_and_what_has_no_bound_is_named() {
        let request = parse(
            r#"{"contents":[{"parts":[{"text":"a"},{"inline_data":{"mime_type":"image/png","data":"AAAA"}},
            {"fileData":{"fileUri":"x","mimeType":"application/pdf"}},{"inlineData":{"mimeType":"audio/wav","data":"A"}},
            {"functionCall":{"name":"f"}},{"videoMetadata":{}}]}],"tools":[{"functionDeclarations":[]},{"googleSearch":{}}]}"#,
        )
        .unwrap();
        let parts = request.parts;
        assert_eq!((parts.images, parts.files, parts.audio, parts.others), (1, 1, 1, 1));
        assert_eq!(&*request.unbounded.unwrap().0, "tools[1]");
        assert!(parse(r#"{"contents":[]}"#).is_err());
        assert!(
            parse(r#"{"contents":[{"parts":[]}],"generationConfig":{},"generation_config":{}}"#).is_err()
        );
    }
}
