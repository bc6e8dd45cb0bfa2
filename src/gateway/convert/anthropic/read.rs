//! Reads a Messages request.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::super::Format;
use super::super::conversation::{
    Conversation, Effort, Image, Marks, Part, Role, Sampling, Shape, Thinking, Tool, ToolCall, ToolChoice,
    ToolResult,
};
use super::super::object::{ConvertFault, LeftOut, Object, Path, kind_of, list};
use super::super::proof::{Proof, Prover, split_id};
use super::super::text::Text;

/// The conversation of a body. Model and stream are the caller's to know.
pub fn read<'a>(body: &'a str, left: &mut LeftOut) -> Result<Conversation<'a>, ConvertFault> {
    let path = Path::TOP;
    let mut top = Object::parse(body, &path)?;
    let mut conversation = Conversation::new(Format::Anthropic);
    for name in ["model", "stream"] {
        top.take(name);
    }
    if let Some(raw) = top.take("system") {
        conversation.system = texts(raw, &path.member("system"), left)?;
    }
    for (at, raw) in top.list("messages")?.unwrap_or_default().into_iter().enumerate() {
        message(&mut conversation, at, raw, &path.member("messages").index(at), left)?;
    }
    for (at, raw) in top.list("tools")?.unwrap_or_default().into_iter().enumerate() {
        conversation.tools.push(tool(raw, &path.member("tools").index(at), left)?);
    }
    if let Some(raw) = top.take("tool_choice") {
        tool_choice(&mut conversation, raw, &path.member("tool_choice"))?;
    }
    thinking(&mut conversation, &mut top, &path, left)?;
    if let Some(raw) = top.take("context_management") {
        context_management(raw, &path.member("context_management"), left)?;
    }
    conversation.output_cap = top.whole("max_tokens")?;
    conversation.sampling = sampling(&mut top, &path)?;
    if let Some(raw) = top.take("metadata") {
        let at = path.member("metadata");
        let mut metadata = Object::read(raw, &at)?;
        conversation.user = metadata.text("user_id")?;
        metadata.done()?;
    }
    // Other providers find what they can cache by themselves.
    top.leave("cache_control", left);
    top.only("service_tier", &["\"auto\"", "\"standard_only\""], "`auto` or `standard_only`")?;
    top.only("inference_geo", &["\"global\""], "`global`")?;
    top.only("speed", &["\"standard\""], "`standard`")?;
    top.done()?;
    Ok(conversation)
}

fn sampling<'a>(top: &mut Object<'a, '_>, path: &Path<'_>) -> Result<Sampling<'a>, ConvertFault> {
    let mut stop = Vec::new();
    for (at, raw) in top.list("stop_sequences")?.unwrap_or_default().into_iter().enumerate() {
        let wrong = || path.member("stop_sequences").index(at).fault("a string", kind_of(raw.get()));
        stop.push(Text::of(raw).ok_or_else(wrong)?);
    }
    Ok(Sampling {
        temperature: top.number("temperature")?,
        top_p: top.number("top_p")?,
        top_k: top.number("top_k")?,
        stop,
        ..Sampling::default()
    })
}

/// A text, or a list of blocks of text.
fn texts<'a>(raw: &'a RawValue, path: &Path<'_>, left: &mut LeftOut) -> Result<Vec<Text<'a>>, ConvertFault> {
    let text = |(at, part): (usize, Part<'a>)| match part {
        Part::Text(text) => Ok(text),
        _ => Err(path.index(at).member("type").fault("`text`", "another type")),
    };
    blocks(raw, path, left)?.into_iter().enumerate().map(text).collect()
}

fn blocks<'a>(raw: &'a RawValue, path: &Path<'_>, left: &mut LeftOut) -> Result<Vec<Part<'a>>, ConvertFault> {
    if let Some(text) = Text::of(raw) {
        return Ok(if text.is_empty() { Vec::new() } else { vec![Part::Text(text)] });
    }
    let block = |(at, raw)| block(raw, &path.index(at), left);
    list(raw, path)?.into_iter().enumerate().map(block).collect()
}

fn block<'a>(raw: &'a RawValue, path: &Path<'_>, left: &mut LeftOut) -> Result<Part<'a>, ConvertFault> {
    let mut object = Object::read(raw, path)?;
    let kind = object.need_text("type")?;
    object.leave("cache_control", left);
    let part = match &*kind.unescaped() {
        "text" => {
            object.leave("citations", left);
            Part::Text(object.need_text("text")?)
        }
        "image" => {
            let source = object.need("source", "an object")?;
            Part::Image(image(source, &path.member("source"))?)
        }
        "thinking" => {
            let text = object.need_text("thinking")?;
            // An answer of another provider had none to give.
            let signature = object.text("signature")?.filter(|signature| !signature.is_empty());
            Part::Thinking { text, signature: signature.map(|proof| Proof::read(Prover::Anthropic, proof).0) }
        }
        "redacted_thinking" => Part::Redacted(Proof::read(Prover::Anthropic, object.need_text("data")?).0),
        "tool_use" => {
            // Who called: the model itself, as no other caller can be converted.
            object.take("caller");
            let (id, signature) = split_id(object.need_text("id")?);
            let name = object.need_text("name")?;
            let input = object.need("input", "an object")?;
            Part::ToolCall(ToolCall { id, name, arguments: Cow::Borrowed(input.get()), signature })
        }
        "tool_result" => {
            let (id, _) = split_id(object.need_text("tool_use_id")?);
            let content = match object.take("content") {
                Some(raw) => blocks(raw, &path.member("content"), left)?,
                None => Vec::new(),
            };
            Part::ToolResult(ToolResult { id, content, is_error: object.flag("is_error")?.unwrap_or(false) })
        }
        _ => {
            let what = "`text`, `image`, `tool_use`, `tool_result` or `thinking`, as nothing else can be converted \
                        for this model's provider";
            return Err(path.member("type").fault(what, "another type"));
        }
    };
    object.done()?;
    Ok(part)
}

fn image<'a>(raw: &'a RawValue, path: &Path<'_>) -> Result<Image<'a>, ConvertFault> {
    let mut source = Object::read(raw, path)?;
    let kind = source.need_text("type")?;
    let image = if kind.is("base64") {
        Image::Inline { media_type: source.need_text("media_type")?, data: source.need_text("data")? }
    } else if kind.is("url") {
        Image::Url(source.need_text("url")?)
    } else {
        return Err(path.member("type").fault("`base64` or `url`", "another type"));
    };
    source.done()?;
    Ok(image)
}

fn message<'a>(
    conversation: &mut Conversation<'a>,
    at: usize,
    raw: &'a RawValue,
    path: &Path<'_>,
    left: &mut LeftOut,
) -> Result<(), ConvertFault> {
    let mut object = Object::read(raw, path)?;
    let role = object.need_text("role")?;
    if role.is("system") {
        let content = object.need("content", "a text or a list of blocks")?;
        let said = texts(content, &path.member("content"), left)?;
        conversation.instruct(at, said.into_iter().map(Part::Text).collect(), Marks::new());
        return object.done();
    }
    let role = match () {
        () if role.is("user") => Role::User,
        () if role.is("assistant") => Role::Assistant,
        () => return Err(path.member("role").fault("`user`, `assistant` or `system`", "another role")),
    };
    let content = object.need("content", "a text or a list of blocks")?;
    let mut parts = blocks(content, &path.member("content"), left)?;
    // Results come before what is said to them, in every format.
    parts.sort_by_key(|part| !matches!(part, Part::ToolResult(_)) && role == Role::User);
    conversation.say(role, at, parts);
    object.done()
}

fn tool<'a>(raw: &'a RawValue, path: &Path<'_>, left: &mut LeftOut) -> Result<Tool<'a>, ConvertFault> {
    let mut object = Object::read(raw, path)?;
    object.leave("cache_control", left);
    let what = "a tool of the client's own, as this model's provider has no tools of that name";
    object.only("type", &["\"custom\""], what)?;
    let tool = Tool {
        name: object.need_text("name")?,
        description: object.text("description")?,
        parameters: object.take("input_schema").map(|schema| Cow::Borrowed(schema.get())),
        strict: object.flag("strict")?,
        cached: false,
    };
    for name in ["eager_input_streaming", "input_examples"] {
        object.leave(name, left);
    }
    object.only(
        "defer_loading",
        &["false"],
        "false, as this model's provider looks for no tools by itself",
    )?;
    object.only("allowed_callers", &[r#"["direct"]"#], "`direct` alone, as the model itself calls")?;
    object.done()?;
    Ok(tool)
}

fn tool_choice<'a>(
    conversation: &mut Conversation<'a>,
    raw: &'a RawValue,
    path: &Path<'_>,
) -> Result<(), ConvertFault> {
    let mut object = Object::read(raw, path)?;
    let kind = object.need_text("type")?;
    conversation.parallel_tools = object.flag("disable_parallel_tool_use")?.map(|disabled| !disabled);
    conversation.tool_choice = Some(match &*kind.unescaped() {
        "auto" => ToolChoice::Auto,
        "any" => ToolChoice::Any,
        "none" => ToolChoice::None,
        "tool" => ToolChoice::Named(object.need_text("name")?),
        _ => return Err(path.member("type").fault("`auto`, `any`, `none` or `tool`", "another type")),
    });
    object.done()
}

fn thinking<'a>(
    conversation: &mut Conversation<'a>,
    top: &mut Object<'a, '_>,
    path: &Path<'_>,
    left: &mut LeftOut,
) -> Result<(), ConvertFault> {
    let mut disabled = false;
    if let Some(raw) = top.take("thinking") {
        let at = path.member("thinking");
        let mut object = Object::read(raw, &at)?;
        let kind = object.need_text("type")?;
        let budget = object.whole("budget_tokens")?;
        object.take("display");
        conversation.thinking = match (&*kind.unescaped(), budget) {
            ("enabled", Some(tokens)) => Some(Thinking::Budget(tokens)),
            ("enabled", None) => return Err(at.member("budget_tokens").fault("a whole number", "nothing")),
            ("adaptive", _) => Some(Thinking::Free),
            // Not to think is the default there, and not a wish.
            ("disabled", _) => {
                disabled = true;
                None
            }
            _ => return Err(at.member("type").fault("`enabled`, `adaptive` or `disabled`", "another type")),
        };
        object.done()?;
    }
    // The older name of the same format.
    if let Some(raw) = top.take("output_format") {
        conversation.shape = shape(raw, &path.member("output_format"))?;
    }
    let Some(raw) = top.take("output_config") else { return Ok(()) };
    let at = path.member("output_config");
    let mut config = Object::read(raw, &at)?;
    if let Some(raw) = config.take("format") {
        conversation.shape = shape(raw, &at.member("format"))?;
    }
    if let Some(text) = config.text("effort")? {
        let effort = match Effort::read(&text) {
            // Few models of others know more.
            Some(Effort::XHigh) => Effort::High,
            None if text.is("max") => Effort::High,
            Some(effort) => effort,
            None => {
                let what = "`low`, `medium`, `high`, `xhigh` or `max`";
                return Err(at.member("effort").fault(what, "another effort"));
            }
        };
        match disabled {
            // What is left of it is no wish that others know.
            true => left.add("output_config.effort"),
            false => conversation.thinking = Some(Thinking::Effort(effort)),
        }
    }
    config.done()
}

/// What the provider is to clear of a conversation by itself: thoughts may go or stay, as others take few of them back.
fn context_management(raw: &RawValue, path: &Path<'_>, left: &mut LeftOut) -> Result<(), ConvertFault> {
    let mut object = Object::read(raw, path)?;
    let edits = path.member("edits");
    for (at, raw) in object.list("edits")?.unwrap_or_default().into_iter().enumerate() {
        let at = edits.index(at);
        let mut edit = Object::read(raw, &at)?;
        if !edit.need_text("type")?.is("clear_thinking_20251015") {
            let what = "`clear_thinking_20251015`, as this model's provider clears nothing of a conversation by itself";
            return Err(at.member("type").fault(what, "another type"));
        }
        edit.take("keep");
        edit.done()?;
        left.add("context_management");
    }
    object.done()
}

fn shape<'a>(raw: &'a RawValue, path: &Path<'_>) -> Result<Shape<'a>, ConvertFault> {
    let mut object = Object::read(raw, path)?;
    if !object.need_text("type")?.is("json_schema") {
        return Err(path.member("type").fault("`json_schema`", "another type"));
    }
    let schema = Cow::Borrowed(object.need("schema", "a JSON schema")?.get());
    object.done()?;
    // Its answers keep to the schema, always.
    Ok(Shape::Schema { name: None, schema, strict: Some(true) })
}
