//! Reads a generateContent request. Names are understood as the API writes them and as its clients may (`inline_data`
//! for `inlineData`), which the API itself takes for the same.

use std::borrow::Cow;

use serde_json::Number;
use serde_json::value::RawValue;

use super::super::Format;
use super::super::conversation::{
    Conversation, Effort, Image, Part, Role, Sampling, Shape, Thinking, Tool, ToolCall, ToolChoice,
    ToolResult,
};
use super::super::object::{ConvertFault, LeftOut, Object, Path, kind_of, list};
use super::super::proof::{Proof, Prover};
use super::super::text::Text;
use super::schema::to_json_schema;
use super::write::NO_PROOF;

/// The conversation of a body. The model stands in the address.
pub fn read<'a>(body: &'a str, left: &mut LeftOut) -> Result<Conversation<'a>, ConvertFault> {
    let path = Path::TOP;
    let mut top = Object::parse(body, &path)?;
    let mut conversation = Conversation::new(Format::Gemini);
    top.take("model");
    if let Some(raw) = either(&mut top, "systemInstruction", "system_instruction") {
        conversation.system = instruction(raw, &path.member("systemInstruction"), left)?;
    }
    let mut calls = Calls::default();
    for (at, raw) in top.list("contents")?.unwrap_or_default().into_iter().enumerate() {
        content(&mut conversation, at, raw, &path.member("contents").index(at), &mut calls, left)?;
    }
    for (at, raw) in top.list("tools")?.unwrap_or_default().into_iter().enumerate() {
        tools(&mut conversation, raw, &path.member("tools").index(at))?;
    }
    if let Some(raw) = either(&mut top, "toolConfig", "tool_config") {
        let at = path.member("toolConfig");
        let mut config = Object::read(raw, &at)?;
        if let Some(raw) = either(&mut config, "functionCallingConfig", "function_calling_config") {
            let at = at.member("functionCallingConfig");
            conversation.tool_choice = Some(tool_choice(raw, &conversation.tools, &at)?);
        }
        config.done()?;
    }
    if let Some(raw) = either(&mut top, "generationConfig", "generation_config") {
        settings(&mut conversation, raw, &path.member("generationConfig"), left)?;
    }
    if let Some(raw) = either(&mut top, "safetySettings", "safety_settings") {
        safety(raw, &path.member("safetySettings"), left)?;
    }
    top.leave("labels", left);
    top.done()?;
    Ok(conversation)
}

/// What Gemini is to block. That it is to block nothing needs no word elsewhere.
fn safety(raw: &RawValue, path: &Path<'_>, left: &mut LeftOut) -> Result<(), ConvertFault> {
    const NOTHING: [&str; 3] = [r#""BLOCK_NONE""#, r#""OFF""#, r#""HARM_BLOCK_THRESHOLD_UNSPECIFIED""#];
    for (at, raw) in list(raw, path)?.into_iter().enumerate() {
        let at = path.index(at);
        let mut setting = Object::read(raw, &at)?;
        for name in ["category", "method"] {
            setting.take(name);
        }
        let what = "`BLOCK_NONE` or `OFF`, as no other provider can be told what to block";
        setting.only("threshold", &NOTHING, what)?;
        setting.done()?;
        left.add("safetySettings");
    }
    Ok(())
}

fn either<'a>(object: &mut Object<'a, '_>, name: &str, other: &str) -> Option<&'a RawValue> {
    let first = object.take(name);
    object.take(other).or(first)
}

/// Ids of the calls so far: clients need not give any, and then the n-th result of a function belongs to its n-th
/// call.
#[derive(Default)]
struct Calls<'a> {
    made: usize,
    waiting: Vec<(Text<'a>, Text<'a>)>,
}

impl<'a> Calls<'a> {
    fn made(&mut self, id: Option<Text<'a>>, name: &Text<'a>) -> Text<'a> {
        self.made += 1;
        let id = id.unwrap_or_else(|| Text::plain(&format!("call_{}", self.made)));
        self.waiting.push((id.clone(), name.clone()));
        id
    }

    fn answered(&mut self, id: Option<Text<'a>>, name: &Text<'a>) -> Option<Text<'a>> {
        let matches = |(known, of): &(Text<'a>, Text<'a>)| id.as_ref().map_or(of == name, |id| known == id);
        match self.waiting.iter().position(matches) {
            Some(at) => Some(self.waiting.remove(at).0),
            None => id,
        }
    }
}

fn instruction<'a>(
    raw: &'a RawValue,
    path: &Path<'_>,
    left: &mut LeftOut,
) -> Result<Vec<Text<'a>>, ConvertFault> {
    if let Some(text) = Text::of(raw) {
        return Ok(vec![text]);
    }
    let mut object = Object::read(raw, path)?;
    object.take("role");
    let parts = parts(&mut object, path, &mut Calls::default(), left)?;
    object.done()?;
    let text = |part| match part {
        Part::Text(text) => Ok(text),
        _ => Err(path.member("parts").fault("texts", "another part")),
    };
    parts.into_iter().map(text).collect()
}

fn content<'a>(
    conversation: &mut Conversation<'a>,
    at: usize,
    raw: &'a RawValue,
    path: &Path<'_>,
    calls: &mut Calls<'a>,
    left: &mut LeftOut,
) -> Result<(), ConvertFault> {
    let mut object = Object::read(raw, path)?;
    let role = match object.text("role")? {
        Some(role) if role.is("model") => Role::Assistant,
        None => Role::User,
        Some(role) if role.is("user") || role.is("function") => Role::User,
        Some(_) => return Err(path.member("role").fault("`user` or `model`", "another role")),
    };
    let mut parts = parts(&mut object, path, calls, left)?;
    if role == Role::Assistant && parts.iter().any(|part| matches!(part, Part::Sound { .. })) {
        return Err(path.member("parts").fault("no recording of the model's", "one"));
    }
    // Results come before what is said to them, in every format.
    parts.sort_by_key(|part| !matches!(part, Part::ToolResult(_)) && role == Role::User);
    conversation.say(role, at, parts);
    object.done()
}

fn parts<'a>(
    object: &mut Object<'a, '_>,
    path: &Path<'_>,
    calls: &mut Calls<'a>,
    left: &mut LeftOut,
) -> Result<Vec<Part<'a>>, ConvertFault> {
    let path = path.member("parts");
    let Some(raw) = object.take("parts") else { return Ok(Vec::new()) };
    let part = |(at, raw)| part(raw, &path.index(at), calls, left);
    list(raw, &path)?.into_iter().enumerate().map(part).collect()
}

fn part<'a>(
    raw: &'a RawValue,
    path: &Path<'_>,
    calls: &mut Calls<'a>,
    left: &mut LeftOut,
) -> Result<Part<'a>, ConvertFault> {
    let mut object = Object::read(raw, path)?;
    let camel = object.text("thoughtSignature")?;
    let signature = object.text("thought_signature")?.or(camel);
    let thought = object.flag("thought")?.unwrap_or(false);
    let part = if let Some(text) = object.text("text")? {
        match (thought, signature) {
            (true, signature) => {
                let signature = signature.map(|proof| Proof::read(Prover::Gemini, proof).0);
                Part::Thinking { text, signature }
            }
            (false, signature) => {
                if signature.is_some() {
                    left.add("thoughtSignature");
                }
                Part::Text(text)
            }
        }
    } else if let Some(raw) = either(&mut object, "inlineData", "inline_data") {
        data(raw, &path.member("inlineData"))?
    } else if let Some(raw) = either(&mut object, "fileData", "file_data") {
        Part::Image(file(raw, &path.member("fileData"))?)
    } else if let Some(raw) = either(&mut object, "functionCall", "function_call") {
        Part::ToolCall(function_call(raw, &path.member("functionCall"), calls, signature)?)
    } else if let Some(raw) = either(&mut object, "functionResponse", "function_response") {
        Part::ToolResult(function_response(raw, &path.member("functionResponse"), calls)?)
    } else {
        object.done()?;
        return Err(path.fault("a text, an image, a function call or its response", "nothing"));
    };
    object.done()?;
    Ok(part)
}

fn mime_type<'a>(object: &mut Object<'a, '_>) -> Result<Option<Text<'a>>, ConvertFault> {
    let camel = object.text("mimeType")?;
    Ok(object.text("mime_type")?.or(camel))
}

/// A picture or a recording.
fn data<'a>(raw: &'a RawValue, path: &Path<'_>) -> Result<Part<'a>, ConvertFault> {
    let mut object = Object::read(raw, path)?;
    match mime_type(&mut object)?.filter(|kind| kind.escaped().starts_with("audio/")) {
        None => inline(raw, path).map(Part::Image),
        Some(media_type) => {
            let data = object.need_text("data")?;
            object.take("displayName");
            object.done()?;
            Ok(Part::Sound { media_type, data })
        }
    }
}

const IMAGES_ALONE: &str = "an image, as nothing else can be converted for this model's provider";

fn inline<'a>(raw: &'a RawValue, path: &Path<'_>) -> Result<Image<'a>, ConvertFault> {
    let mut object = Object::read(raw, path)?;
    let media_type = mime_type(&mut object)?.filter(|kind| kind.escaped().starts_with("image/"));
    let media_type = media_type.ok_or_else(|| path.member("mimeType").fault(IMAGES_ALONE, "another type"))?;
    let data = object.need_text("data")?;
    object.take("displayName");
    object.done()?;
    Ok(Image::Inline { media_type, data })
}

fn file<'a>(raw: &'a RawValue, path: &Path<'_>) -> Result<Image<'a>, ConvertFault> {
    let mut object = Object::read(raw, path)?;
    if mime_type(&mut object)?.is_some_and(|kind| !kind.escaped().starts_with("image/")) {
        return Err(path.member("mimeType").fault(IMAGES_ALONE, "another type"));
    }
    let camel = object.text("fileUri")?;
    let url = object.text("file_uri")?.or(camel);
    let url = url.ok_or_else(|| path.member("fileUri").fault("an address", "nothing"))?;
    object.take("displayName");
    object.done()?;
    Ok(Image::Url(url))
}

fn function_call<'a>(
    raw: &'a RawValue,
    path: &Path<'_>,
    calls: &mut Calls<'a>,
    signature: Option<Text<'a>>,
) -> Result<ToolCall<'a>, ConvertFault> {
    let mut object = Object::read(raw, path)?;
    let name = object.need_text("name")?;
    let id = object.text("id")?;
    let id = calls.made(id, &name);
    let signature = signature.filter(|proof| !proof.is(NO_PROOF));
    let arguments = object.take("args").map_or(Cow::Borrowed("{}"), |args| Cow::Borrowed(args.get()));
    object.done()?;
    Ok(ToolCall { id, name, arguments, signature })
}

/// By convention the response is `{"output": …}` or `{"error": …}`; any other object is its own text.
fn function_response<'a>(
    raw: &'a RawValue,
    path: &Path<'_>,
    calls: &mut Calls<'a>,
) -> Result<ToolResult<'a>, ConvertFault> {
    let mut object = Object::read(raw, path)?;
    let name = object.need_text("name")?;
    let id = object.text("id")?;
    let what = "a response to a function call before it";
    let id = calls.answered(id, &name).ok_or_else(|| path.member("name").fault(what, "no such call"))?;
    let raw = object.need("response", "an object")?;
    let shown = pictures(&mut object, path)?;
    object.done()?;
    let at = path.member("response");
    let mut response = Object::read(raw, &at)?;
    let said = match (response.take("output"), response.take("error")) {
        (Some(raw), None) => Text::of(raw).map(|text| (text, false)),
        (None, Some(raw)) => Text::of(raw).map(|text| (text, true)),
        _ => None,
    };
    let (text, is_error) = match said {
        Some(said) if response.done().is_ok() => said,
        _ => (Text::plain(raw.get()), false),
    };
    let content = std::iter::once(Part::Text(text)).chain(shown).collect();
    Ok(ToolResult { id, content, is_error })
}

/// What a function gave back beside its words.
fn pictures<'a>(response: &mut Object<'a, '_>, path: &Path<'_>) -> Result<Vec<Part<'a>>, ConvertFault> {
    let path = path.member("parts");
    let mut shown = Vec::new();
    for (at, raw) in response.list("parts")?.unwrap_or_default().into_iter().enumerate() {
        let at = path.index(at);
        let mut part = Object::read(raw, &at)?;
        let image = if let Some(raw) = either(&mut part, "inlineData", "inline_data") {
            inline(raw, &at.member("inlineData"))?
        } else {
            let raw = either(&mut part, "fileData", "file_data");
            file(raw.ok_or_else(|| at.fault("an image", "nothing"))?, &at.member("fileData"))?
        };
        part.done()?;
        shown.push(Part::Image(image));
    }
    Ok(shown)
}

fn tools<'a>(
    conversation: &mut Conversation<'a>,
    raw: &'a RawValue,
    path: &Path<'_>,
) -> Result<(), ConvertFault> {
    let mut object = Object::read(raw, path)?;
    let at = path.member("functionDeclarations");
    if let Some(raw) = either(&mut object, "functionDeclarations", "function_declarations") {
        for (index, raw) in list(raw, &at)?.into_iter().enumerate() {
            conversation.tools.push(declaration(raw, &at.index(index))?);
        }
    }
    object.done()
}

fn declaration<'a>(raw: &'a RawValue, path: &Path<'_>) -> Result<Tool<'a>, ConvertFault> {
    let mut object = Object::read(raw, path)?;
    let name = object.need_text("name")?;
    let description = object.text("description")?;
    let own = object.take("parameters");
    let parameters = match either(&mut object, "parametersJsonSchema", "parameters_json_schema") {
        Some(schema) => Some(Cow::Borrowed(schema.get())),
        None => own.map(|schema| json_schema(schema, &path.member("parameters"))).transpose()?,
    };
    object.done()?;
    Ok(Tool { name, description, parameters, strict: None, cached: false })
}

fn json_schema<'a>(raw: &'a RawValue, path: &Path<'_>) -> Result<Cow<'a, str>, ConvertFault> {
    let schema = to_json_schema(raw.get()).map(Cow::Owned);
    schema.ok_or_else(|| path.fault("a schema", kind_of(raw.get())))
}

fn tool_choice<'a>(
    raw: &'a RawValue,
    tools: &[Tool<'a>],
    path: &Path<'_>,
) -> Result<ToolChoice<'a>, ConvertFault> {
    let mut object = Object::read(raw, path)?;
    let mode = object.text("mode")?.unwrap_or(Text::word("AUTO"));
    let allowed = either(&mut object, "allowedFunctionNames", "allowed_function_names");
    object.done()?;
    let at = path.member("allowedFunctionNames");
    let names = allowed.map(|raw| list(raw, &at)).transpose()?.unwrap_or_default();
    let one = "one function, as this model's provider can be told one or all";
    match (&*mode.unescaped(), names.as_slice()) {
        ("AUTO" | "MODE_UNSPECIFIED", []) => Ok(ToolChoice::Auto),
        ("NONE", []) => Ok(ToolChoice::None),
        ("ANY", []) => Ok(ToolChoice::Any),
        ("ANY", [name]) => Text::of(name).map(ToolChoice::Named).ok_or_else(|| at.fault(one, "no name")),
        // Some clients name every function that there is.
        ("ANY", names) if tools.iter().all(|tool| is_named(tool, names)) => Ok(ToolChoice::Any),
        ("ANY", _) => Err(at.fault(one, "several")),
        (_, [_, ..]) => Err(at.fault("nothing but with the mode ANY", "names")),
        _ => Err(path.member("mode").fault("AUTO, ANY or NONE", "another mode")),
    }
}

fn is_named(tool: &Tool<'_>, names: &[&RawValue]) -> bool {
    names.iter().any(|name| Text::of(name).is_some_and(|name| name == tool.name))
}

fn settings<'a>(
    conversation: &mut Conversation<'a>,
    raw: &'a RawValue,
    path: &Path<'_>,
    left: &mut LeftOut,
) -> Result<(), ConvertFault> {
    let mut config = Object::read(raw, path)?;
    conversation.output_cap = config.whole("maxOutputTokens")?.or(config.whole("max_output_tokens")?);
    let mut stop = Vec::new();
    for (at, raw) in list_of(&mut config, "stopSequences", "stop_sequences", path)?.into_iter().enumerate() {
        let wrong = || path.member("stopSequences").index(at).fault("a string", kind_of(raw.get()));
        stop.push(Text::of(raw).ok_or_else(wrong)?);
    }
    conversation.sampling = Sampling {
        temperature: config.number("temperature")?,
        top_p: config.number("topP")?.or(config.number("top_p")?),
        top_k: config.number("topK")?.or(config.number("top_k")?),
        frequency_penalty: config.number("frequencyPenalty")?.or(config.number("frequency_penalty")?),
        presence_penalty: config.number("presencePenalty")?.or(config.number("presence_penalty")?),
        seed: config.number("seed")?,
        stop,
        choices: config
            .whole("candidateCount")?
            .or(config.whole("candidate_count")?)
            .filter(|count| *count != 1),
    };
    leave_own_defaults(&mut conversation.sampling, left);
    if let Some(raw) = either(&mut config, "thinkingConfig", "thinking_config") {
        conversation.thinking = thinking_config(raw, &path.member("thinkingConfig"))?;
    }
    conversation.shape = shape(&mut config, path)?;
    config.only("responseModalities", &[r#"["TEXT"]"#], "text alone")?;
    config.only(
        "responseLogprobs",
        &["false"],
        "false, as the provider of this model tells no probabilities",
    )?;
    config.done()
}

/// Gemini's own clients tell its models what those do unasked, with every request: that is no wish to another model.
fn leave_own_defaults(sampling: &mut Sampling<'_>, left: &mut LeftOut) {
    const TOP_K: [f64; 2] = [64.0, 40.0];
    const TOP_P: f64 = 0.95;
    let is = |number: &Option<Number>, own: &[f64]| {
        number.as_ref().and_then(Number::as_f64).is_some_and(|number| own.contains(&number))
    };
    if !is(&sampling.top_k, &TOP_K) {
        return;
    }
    sampling.top_k = None;
    left.add("generationConfig.topK");
    if is(&sampling.top_p, &[TOP_P]) {
        sampling.top_p = None;
        left.add("generationConfig.topP");
    }
}

fn list_of<'a>(
    object: &mut Object<'a, '_>,
    name: &'static str,
    other: &'static str,
    path: &Path<'_>,
) -> Result<Vec<&'a RawValue>, ConvertFault> {
    match either(object, name, other) {
        Some(raw) => list(raw, &path.member(name)),
        None => Ok(Vec::new()),
    }
}

/// How much is to be thought, in Gemini's words.
pub fn thinking_config(raw: &RawValue, path: &Path<'_>) -> Result<Option<Thinking>, ConvertFault> {
    let mut object = Object::read(raw, path)?;
    // Whether thoughts are shown costs nothing and is no wish about them.
    for name in ["includeThoughts", "include_thoughts"] {
        object.take(name);
    }
    let level = match either(&mut object, "thinkingLevel", "thinking_level") {
        None => None,
        Some(raw) => {
            let text = Text::of(raw).map(|text| Text::plain(&text.unescaped().to_ascii_lowercase()));
            let effort = text.as_ref().and_then(Effort::read).filter(|effort| *effort != Effort::XHigh);
            let wrong =
                || path.member("thinkingLevel").fault("minimal, low, medium or high", "another level");
            Some(Thinking::Effort(effort.ok_or_else(wrong)?))
        }
    };
    let budget = match either(&mut object, "thinkingBudget", "thinking_budget").map(RawValue::get) {
        None => None,
        Some("-1") => Some(Thinking::Free),
        Some("0") => Some(Thinking::Off),
        Some(number) => {
            let tokens = number.parse::<u32>();
            let wrong = |_| path.member("thinkingBudget").fault("a whole number from -1", kind_of(number));
            Some(Thinking::Budget(tokens.map_err(wrong)?))
        }
    };
    object.done()?;
    Ok(budget.or(level))
}

fn shape<'a>(config: &mut Object<'a, '_>, path: &Path<'_>) -> Result<Shape<'a>, ConvertFault> {
    let camel = config.text("responseMimeType")?;
    let kind = config.text("response_mime_type")?.or(camel);
    let own = either(config, "responseSchema", "response_schema");
    let schema = match either(config, "responseJsonSchema", "response_json_schema") {
        Some(raw) => Some(Cow::Borrowed(raw.get())),
        None => own.map(|raw| json_schema(raw, &path.member("responseSchema"))).transpose()?,
    };
    match (kind, schema) {
        (_, Some(schema)) => Ok(Shape::Schema { name: None, schema, strict: None }),
        (None, None) => Ok(Shape::Text),
        (Some(kind), None) if kind.is("text/plain") => Ok(Shape::Text),
        (Some(kind), None) if kind.is("application/json") => Ok(Shape::Json),
        (Some(_), None) => {
            Err(path.member("responseMimeType").fault("text/plain or application/json", "another type"))
        }
    }
}
