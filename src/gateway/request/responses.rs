//! The responses request: its input is a text or a list of items, and what is kept at the upstream from earlier
//! calls can be part of it.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::json::{Members, is_of_films, kind, list, span};
use super::{
    CapField, Endpoint, ModelRequest, OptionsSpan, PartList, PartPlace, Parts, RequestFault, Span,
    TOOL_TEMPLATE_TOKENS,
};

const KNOWN: &[&str] = &[
    "model",
    "input",
    "stream",
    "max_output_tokens",
    "tools",
    "previous_response_id",
    "conversation",
    "prompt",
    "background",
    "service_tier",
    "store",
    "include",
    "reasoning",
];

pub(super) fn read(text: &str) -> Result<ModelRequest, RequestFault> {
    let members = Members::read(text, KNOWN)?;
    let Input { parts, kept } = input(&members)?;
    let cap = members.cap("max_output_tokens")?;
    let mut spans = members.spans();
    spans.max_output_tokens = members.cap_span("max_output_tokens", cap);
    spans.store_unsaid = store_unsaid(&members)?;
    spans.include = include(&members, text)?;
    spans.says_reasoning = members.get("reasoning").is_some();
    let mut request = ModelRequest::plain(Endpoint::Responses, members.model(None)?, spans);
    request.extras.service_tier = members.has_other_tier();
    request.unbounded = match kept {
        Some(at) => Some((format!("input[{at}]").into(), KEPT_ITEM)),
        None => unbounded(&members)?,
    };
    let tools = if members.get("tools").is_some() { TOOL_TEMPLATE_TOKENS } else { 0 };
    let bound = request.input_tokens_bound.saturating_sub(parts.image_bytes).saturating_add(tools);
    Ok(ModelRequest {
        stream: members.flag("stream")?,
        output_cap: cap.map(|cap| (CapField::MaxOutputTokens, cap)),
        input_tokens_bound: bound,
        parts,
        ..request
    })
}

/// Nothing may be kept under the platform's account at the upstream, where other callers could come upon it; OpenAI keeps
/// what does not say so.
fn store_unsaid(members: &Members<'_>) -> Result<Option<Span>, RequestFault> {
    if members.flag("store")? {
        return Err(RequestFault::parameter("store", "false, as nothing is kept between calls", "true"));
    }
    Ok(members.get("store").is_none().then(|| members.place("store").unwrap_or_default()))
}

/// What is not kept must come with the answer, to be sent again: a thought that is neither is an item that nobody finds.
pub(super) const ENCRYPTED: &str = r#""reasoning.encrypted_content""#;

/// Where that would be asked for; a value: it is.
fn include(members: &Members<'_>, text: &str) -> Result<OptionsSpan, RequestFault> {
    let Some(raw) = members.get("include") else {
        return Ok(members.place("include").map_or(OptionsSpan::Absent, OptionsSpan::Null));
    };
    let wrong = || RequestFault::parameter("include", "a list of names", kind(raw.get()));
    let names = list(raw).ok_or_else(wrong)?;
    let place = span(text, raw.get()).unwrap_or_default();
    Ok(match names.iter().any(|name| name.get() == ENCRYPTED) {
        true => OptionsSpan::Value(place),
        false => OptionsSpan::Object { open: place.start + 1, empty: names.is_empty() },
    })
}

/// What stands in the request for something that is not in it, or is billed beside its tokens.
fn unbounded(members: &Members<'_>) -> Result<Option<(Box<str>, &'static str)>, RequestFault> {
    const KEPT: &str =
        "what the upstream has kept counts as input again, and nobody here knows how much it is";
    let kept = ["previous_response_id", "conversation", "prompt"];
    if let Some(field) = kept.into_iter().find(|field| members.get(field).is_some()) {
        return Ok(Some((field.into(), KEPT)));
    }
    if members.flag("background")? {
        return Ok(Some(("background".into(), "what is answered later could not be settled now")));
    }
    let Some(raw) = members.get("tools") else { return Ok(None) };
    let what = || RequestFault::parameter("tools", "a list of tools", kind(raw.get()));
    let tools = list(raw).ok_or_else(what)?;
    let own = |tool: &&RawValue| {
        let item: Option<Item<'_>> = object(tool);
        item.is_some_and(|item| item.runs_at_client())
    };
    let foreign = tools.iter().position(|tool| !own(tool));
    Ok(foreign.map(|at| {
        (format!("tools[{at}]").into(), "a tool that the upstream runs by itself is billed beside the tokens")
    }))
}

const KEPT_ITEM: &str = "an item by its id is one that was kept, and nothing is kept between calls: send `store: false`, \
                         and the items themselves";

/// What an input has that is not text.
#[derive(Default)]
struct Input {
    parts: Parts,
    /// The first item that stands for one that was kept.
    kept: Option<usize>,
}

fn input(members: &Members<'_>) -> Result<Input, RequestFault> {
    const WHAT: &str = "a string or a list of items";
    let raw = members.required("input", WHAT)?;
    let Input { mut parts, mut kept } = Input::default();
    if raw.get().starts_with('"') {
        return Ok(Input { parts, kept });
    }
    let items = list(raw).ok_or_else(|| RequestFault::parameter("input", WHAT, kind(raw.get())))?;
    for (at, raw) in items.iter().enumerate() {
        let fault = || {
            RequestFault::parameter(format!("input[{at}]"), "an object, each member once", kind(raw.get()))
        };
        let item: Item<'_> = object(raw).ok_or_else(fault)?;
        if item.is_kept() {
            kept = kept.or(Some(at));
        } else if !item.is_text_alone() {
            parts.others = parts.others.saturating_add(1);
            parts.note_place(|| PartPlace::new(PartList::Input, at, 0));
        }
        let members = [
            ("content", PartList::InputContent, item.content),
            ("output", PartList::InputOutput, item.output),
        ];
        for (field, list, content) in members {
            let Some(content) = content.filter(|_| !item.is_of_shell()) else { continue };
            contents(content, &mut parts, |part| PartPlace::new(list, at, part))
                .map_err(|part| fault_of_part(&format!("input[{at}].{field}"), content, part))?;
        }
    }
    Ok(Input { parts, kept })
}

fn fault_of_part(field: &str, content: &RawValue, part: Option<usize>) -> RequestFault {
    match part {
        Some(part) => RequestFault::parameter(
            format!("{field}[{part}]"),
            "an object, each member once",
            "another kind of value",
        ),
        None => RequestFault::parameter(field, "a string or a list of parts", kind(content.get())),
    }
}

/// Counts the parts of a content; the error is the place of one that is none.
fn contents(
    content: &RawValue,
    parts: &mut Parts,
    place: impl Fn(usize) -> PartPlace,
) -> Result<(), Option<usize>> {
    if content.get().starts_with(['"', 'n']) {
        return Ok(());
    }
    for (at, raw) in list(content).ok_or(None)?.iter().enumerate() {
        let part: Item<'_> = object(raw).ok_or(Some(at))?;
        part.count(parts);
        parts.note_place(|| place(at));
    }
    Ok(())
}

/// An item, a part of one, or a tool.
#[derive(Deserialize)]
struct Item<'a> {
    #[serde(borrow, rename = "type", default)]
    kind: Option<&'a RawValue>,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    output: Option<&'a RawValue>,
    #[serde(borrow, default)]
    image_url: Option<&'a RawValue>,
    #[serde(borrow, default)]
    input_audio: Option<&'a RawValue>,
    #[serde(borrow, default)]
    role: Option<&'a RawValue>,
    /// Of a tool: where it runs.
    #[serde(borrow, default)]
    environment: Option<&'a RawValue>,
}

/// A derived struct would also read a list by position.
fn object<'a>(raw: &'a RawValue) -> Option<Item<'a>> {
    raw.get().starts_with('{').then(|| serde_json::from_str(raw.get()).ok()).flatten()
}

impl Item<'_> {
    fn kind(&self) -> &str {
        self.kind.map_or("", |kind| kind.get().trim_matches('"'))
    }

    /// Whether the item is what it says, and stands for nothing that is kept elsewhere.
    fn is_text_alone(&self) -> bool {
        matches!(
            self.kind(),
            "" | "message"
                | "reasoning"
                | "function_call"
                | "function_call_output"
                | "custom_tool_call"
                | "custom_tool_call_output"
        ) || self.is_of_shell()
    }

    /// What a program at the client was told to do, and what it said: text, of a shape of its own.
    fn is_of_shell(&self) -> bool {
        matches!(
            self.kind(),
            "local_shell_call"
                | "local_shell_call_output"
                | "shell_call"
                | "shell_call_output"
                | "apply_patch_call"
                | "apply_patch_call_output"
        )
    }

    /// An item by its id alone; its type may be left unsaid.
    fn is_kept(&self) -> bool {
        let is_bare = self.role.is_none() && self.content.is_none();
        self.kind() == "item_reference" || (matches!(self.kind(), "" | "null") && is_bare)
    }

    /// A tool that costs no more than its tokens: it runs at the client.
    fn runs_at_client(&self) -> bool {
        let is_local = |place: &RawValue| object(place).is_some_and(|place| place.kind() == "local");
        match self.kind() {
            "function" | "custom" | "local_shell" | "apply_patch" => true,
            "shell" => self.environment.is_some_and(is_local),
            _ => false,
        }
    }

    fn count(&self, parts: &mut Parts) {
        let count = match self.kind() {
            "input_text" | "output_text" | "text" | "refusal" | "summary_text" | "reasoning_text" => return,
            "input_image" => {
                let url = self.image_url.map_or("", RawValue::get);
                if url.starts_with("\"data:") {
                    parts.image_bytes = parts.image_bytes.saturating_add(url.len() as u64);
                }
                if is_of_films(url) { &mut parts.files } else { &mut parts.images }
            }
            "input_audio" => {
                let data = self.input_audio.map_or(0, |sound| sound.get().len());
                parts.audio_bytes = parts.audio_bytes.saturating_add(data as u64);
                &mut parts.audio
            }
            "input_file" => &mut parts.files,
            _ => &mut parts.others,
        };
        *count = count.saturating_add(1);
    }
}
