//! Reads a request.

use serde_json::value::RawValue;

use super::super::Format;
use super::super::conversation::{
    Conversation, Marks, Part, Role, Sampling, Shape, Thinking, Tool, ToolCall, ToolChoice, ToolResult,
};
use super::super::object::{ConvertFault, LeftOut, Object, Path, kind_of, list};
use super::super::openai::{effort, function, google_signature, image_of, sound, verbosity};
use super::super::text::Text;
use super::answer::thought;

/// The conversation of a body. Model, stream and its options are the caller's to know; metadata goes back as it came.
pub fn read<'a>(body: &'a str, left: &mut LeftOut) -> Result<Conversation<'a>, ConvertFault> {
    let path = Path::TOP;
    let mut top = Object::parse(body, &path)?;
    let mut conversation = Conversation::new(Format::Responses);
    for name in ["model", "stream", "stream_options", "metadata"] {
        top.take(name);
    }
    conversation.system.extend(top.text("instructions")?.filter(|text| !text.is_empty()));
    if let Some(raw) = top.take("input") {
        input(&mut conversation, raw, &path.member("input"), left)?;
    }
    for (at, raw) in top.list("tools")?.unwrap_or_default().into_iter().enumerate() {
        conversation.tools.push(tool(raw, &path.member("tools").index(at))?);
    }
    if let Some(raw) = top.take("tool_choice") {
        conversation.tool_choice = Some(tool_choice(raw, &path.member("tool_choice"))?);
    }
    conversation.parallel_tools = top.flag("parallel_tool_calls")?;
    if let Some(raw) = top.take("text") {
        text_settings(&mut conversation, raw, &path.member("text"))?;
    }
    if let Some(raw) = top.take("reasoning") {
        conversation.thinking = thinking(raw, &path.member("reasoning"))?;
    }
    conversation.output_cap = top.whole("max_output_tokens")?;
    conversation.sampling = Sampling {
        temperature: top.number("temperature")?,
        top_p: top.number("top_p")?,
        ..Sampling::default()
    };
    let user = top.text("user")?;
    conversation.user = top.text("safety_identifier")?.or(user);
    // The most calls are those of tools that the provider runs by itself, and none of them is converted.
    for name in ["prompt_cache_key", "prompt_cache_retention", "client_metadata", "max_tool_calls"] {
        top.leave(name, left);
    }
    if let Some(raw) = top.take("include") {
        include(raw, &path.member("include"))?;
    }
    nothing_else(top)?;
    Ok(conversation)
}

/// What may stand there because it says nothing; whatever else is left cannot be converted.
fn nothing_else(mut top: Object<'_, '_>) -> Result<(), ConvertFault> {
    top.only("store", &["false"], "false, as the provider of this model stores nothing")?;
    top.only("background", &["false"], "false, as an answer is given at once")?;
    top.only("truncation", &["\"disabled\""], "`disabled`, as no other provider shortens a conversation")?;
    top.only("top_logprobs", &["0"], "0, as the provider of this model tells no probabilities")?;
    top.only("service_tier", &["\"auto\"", "\"default\""], "`auto` or `default`")?;
    top.done()
}

/// Only what an answer has in it anyway: proofs of thoughts.
fn include(raw: &RawValue, path: &Path<'_>) -> Result<(), ConvertFault> {
    for (at, raw) in list(raw, path)?.into_iter().enumerate() {
        if raw.get() != "\"reasoning.encrypted_content\"" {
            let what = "`reasoning.encrypted_content`, as the provider of this model tells nothing else";
            return Err(path.index(at).fault(what, "another wish"));
        }
    }
    Ok(())
}

fn input<'a>(
    conversation: &mut Conversation<'a>,
    raw: &'a RawValue,
    path: &Path<'_>,
    left: &mut LeftOut,
) -> Result<(), ConvertFault> {
    if let Some(text) = Text::of(raw) {
        conversation.say(Role::User, 0, [Part::Text(text)]);
        return Ok(());
    }
    for (at, raw) in list(raw, path)?.into_iter().enumerate() {
        item(conversation, at, raw, &path.index(at), left)?;
    }
    Ok(())
}

fn item<'a>(
    conversation: &mut Conversation<'a>,
    at: usize,
    raw: &'a RawValue,
    path: &Path<'_>,
    left: &mut LeftOut,
) -> Result<(), ConvertFault> {
    let mut object = Object::read(raw, path)?;
    let kind = object.text("type")?.unwrap_or(Text::word("message"));
    // An answer's items have them when they are sent back.
    for name in ["id", "status"] {
        object.take(name);
    }
    if kind.is("message") {
        message(conversation, at, &mut object, path, left)?;
    } else if kind.is("function_call") {
        let call = function_call(&mut object, path)?;
        conversation.say(Role::Assistant, at, [Part::ToolCall(call)]);
    } else if kind.is("function_call_output") {
        let id = object.need_text("call_id")?;
        let content = content(&mut object, "output", path, left)?;
        no_sound(&content, &path.member("output"))?;
        conversation.say(Role::User, at, [Part::ToolResult(ToolResult { id, content, is_error: false })]);
    } else if kind.is("reasoning") {
        let thought = reasoning(&mut object, path)?;
        conversation.say(Role::Assistant, at, thought);
    } else {
        let what = "`message`, `function_call`, `function_call_output` or `reasoning`, as nothing else can be converted for this model's provider";
        return Err(path.member("type").fault(what, "another type"));
    }
    object.done()
}

fn message<'a>(
    conversation: &mut Conversation<'a>,
    at: usize,
    object: &mut Object<'a, '_>,
    path: &Path<'_>,
    left: &mut LeftOut,
) -> Result<(), ConvertFault> {
    let role = object.need_text("role")?;
    object.take("phase");
    let parts = content(object, "content", path, left)?;
    if role.is("user") {
        conversation.say(Role::User, at, parts);
    } else if role.is("assistant") {
        no_sound(&parts, &path.member("content"))?;
        conversation.say(Role::Assistant, at, parts);
    } else if role.is("system") || role.is("developer") {
        if parts.iter().any(|part| !matches!(part, Part::Text(_))) {
            return Err(path.member("content").fault("text", "something else"));
        }
        conversation.instruct(at, parts, Marks::new());
    } else {
        return Err(path.member("role").fault("user, assistant, system or developer", "another role"));
    }
    Ok(())
}

/// What stands in the words of anybody but the user.
fn no_sound(parts: &[Part<'_>], path: &Path<'_>) -> Result<(), ConvertFault> {
    match parts.iter().any(|part| matches!(part, Part::Sound { .. })) {
        true => Err(path.fault("texts and images", "a recording")),
        false => Ok(()),
    }
}

/// A text, or a list of texts, images and recordings.
fn content<'a>(
    object: &mut Object<'a, '_>,
    name: &'static str,
    path: &Path<'_>,
    left: &mut LeftOut,
) -> Result<Vec<Part<'a>>, ConvertFault> {
    let Some(raw) = object.take(name) else { return Ok(Vec::new()) };
    if let Some(text) = Text::of(raw) {
        return Ok(if text.is_empty() { Vec::new() } else { vec![Part::Text(text)] });
    }
    let path = path.member(name);
    let part = |(at, raw)| content_part(raw, &path.index(at), left);
    list(raw, &path)?.into_iter().enumerate().map(part).collect()
}

fn content_part<'a>(
    raw: &'a RawValue,
    path: &Path<'_>,
    left: &mut LeftOut,
) -> Result<Part<'a>, ConvertFault> {
    let mut object = Object::read(raw, path)?;
    let kind = object.need_text("type")?;
    let part = if kind.is("input_text") || kind.is("output_text") || kind.is("text") {
        for name in ["annotations", "logprobs"] {
            object.leave(name, left);
        }
        Part::Text(object.need_text("text")?)
    } else if kind.is("refusal") {
        Part::Text(object.need_text("refusal")?)
    } else if kind.is("input_image") {
        object.leave("detail", left);
        let url = object.need_text("image_url")?;
        Part::Image(image_of(url, &path.member("image_url"))?)
    } else if kind.is("input_audio") {
        sound(object.need("input_audio", "an object")?, &path.member("input_audio"))?
    } else {
        let what = "a text, `input_image` or `input_audio`, as nothing else can be converted for this model's provider";
        return Err(path.member("type").fault(what, "another type"));
    };
    object.done()?;
    Ok(part)
}

fn function_call<'a>(object: &mut Object<'a, '_>, path: &Path<'_>) -> Result<ToolCall<'a>, ConvertFault> {
    let id = object.need_text("call_id")?;
    let name = object.need_text("name")?;
    let signature = google_signature(object, path)?;
    let arguments = function::arguments(object)?;
    Ok(ToolCall { id, name, arguments, signature })
}

/// A thought: what was told of it, and its proof, as our own answers give them.
fn reasoning<'a>(object: &mut Object<'a, '_>, path: &Path<'_>) -> Result<Vec<Part<'a>>, ConvertFault> {
    let mut told = Vec::new();
    for name in ["summary", "content"] {
        let path = path.member(name);
        for (at, raw) in object.list(name)?.unwrap_or_default().into_iter().enumerate() {
            let path = path.index(at);
            let mut part = Object::read(raw, &path)?;
            part.take("type");
            told.extend(part.text("text")?.filter(|text| !text.is_empty()));
            part.done()?;
        }
    }
    let proof = object.text("encrypted_content")?;
    let last = told.pop();
    let mut parts: Vec<_> = told.into_iter().map(|text| Part::Thinking { text, signature: None }).collect();
    parts.extend(thought(last, proof));
    Ok(parts)
}

fn tool<'a>(raw: &'a RawValue, path: &Path<'_>) -> Result<Tool<'a>, ConvertFault> {
    let mut object = Object::read(raw, path)?;
    if !object.need_text("type")?.is("function") {
        let what = "`function`, as the provider of this model runs no other tool of OpenAI's";
        return Err(path.member("type").fault(what, "another kind of tool"));
    }
    let tool = function::function(&mut object)?;
    object.done()?;
    Ok(tool)
}

fn tool_choice<'a>(raw: &'a RawValue, path: &Path<'_>) -> Result<ToolChoice<'a>, ConvertFault> {
    function::tool_choice(raw, path, |object| object.need_text("name"))
}

fn text_settings<'a>(
    conversation: &mut Conversation<'a>,
    raw: &'a RawValue,
    path: &Path<'_>,
) -> Result<(), ConvertFault> {
    let mut object = Object::read(raw, path)?;
    if let Some(text) = object.text("verbosity")? {
        conversation.verbosity = Some(verbosity(&text, &path.member("verbosity"))?);
    }
    if let Some(raw) = object.take("format") {
        conversation.shape = format(raw, &path.member("format"))?;
    }
    object.done()
}

fn format<'a>(raw: &'a RawValue, path: &Path<'_>) -> Result<Shape<'a>, ConvertFault> {
    let mut object = Object::read(raw, path)?;
    let kind = object.need_text("type")?;
    let shape = if kind.is("text") {
        Shape::Text
    } else if kind.is("json_object") {
        Shape::Json
    } else if kind.is("json_schema") {
        function::schema(&mut object)?
    } else {
        return Err(path.member("type").fault("`text`, `json_object` or `json_schema`", kind_of(raw.get())));
    };
    object.done()?;
    Ok(shape)
}

/// How much is to be thought; what is told of it is told as far as the provider tells it.
fn thinking(raw: &RawValue, path: &Path<'_>) -> Result<Option<Thinking>, ConvertFault> {
    let mut object = Object::read(raw, path)?;
    for name in ["summary", "generate_summary"] {
        object.take(name);
    }
    let thinking = match object.text("effort")? {
        None => None,
        Some(text) => Some(effort(&text, &path.member("effort"))?),
    };
    object.done()?;
    Ok(thinking)
}
