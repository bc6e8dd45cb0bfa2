//! Writes a chat request.

use super::super::conversation::{
    Conversation, Effort, Image, Part, Role, Setting, Shape, Thinking, ToolCall, ToolChoice, ToolResult, Turn,
};
use super::super::json::Json;
use super::super::names;
use super::super::object::{ConvertFault, LeftOut};
use super::super::text::Text;
use super::super::{Format, Target};

/// The longest name of a user that OpenAI takes, in characters.
pub(in super::super) const USER_CHARACTERS_MAX: usize = 64;

/// The body for an upstream that speaks OpenAI's format, or DeepSeek's.
pub fn write(
    conversation: &Conversation<'_>,
    target: &Target<'_>,
    left: &mut LeftOut,
) -> Result<Vec<u8>, ConvertFault> {
    let deep_seek = target.format == Format::DeepSeek;
    let mut out = Vec::with_capacity(target.size_hint);
    let mut json = Json::new(&mut out);
    json.open('{').member("model").plain(target.model).member("messages").open('[');
    if !conversation.system.is_empty() {
        instructions(&mut json, &conversation.system);
    }
    for turn in &conversation.turns {
        match turn.role {
            Role::User => user(&mut json, conversation, turn, deep_seek, left)?,
            Role::Assistant => assistant(&mut json, turn, deep_seek, left),
            Role::System => {
                let said: Vec<Text<'_>> = turn.parts.iter().filter_map(as_text).cloned().collect();
                instructions(&mut json, &said);
            }
        }
    }
    json.close(']');
    tools(&mut json, conversation);
    shape(&mut json, conversation, deep_seek)?;
    settings(&mut json, conversation, target, left)?;
    if target.stream {
        json.member("stream").flag(true);
        json.member("stream_options").open('{').member("include_usage").flag(true).close('}');
    }
    if conversation.user.is_some() && deep_seek {
        left.add("user");
    } else if let Some(user) = &conversation.user {
        json.member("user").text(&names::user(user, USER_CHARACTERS_MAX));
    }
    json.close('}');
    Ok(out)
}

fn instructions(json: &mut Json<'_>, said: &[Text<'_>]) {
    json.open('{').member("role").plain("system");
    texts(json.member("content"), said);
    json.close('}');
}

/// One text as a string, several as a list; none is an empty string, as an empty list is not taken.
fn texts(json: &mut Json<'_>, texts: &[Text<'_>]) {
    match texts {
        [] => drop(json.plain("")),
        [text] => drop(json.text(text)),
        texts => {
            json.open('[');
            texts.iter().for_each(|text| text_part(json, text));
            json.close(']');
        }
    }
}

fn text_part(json: &mut Json<'_>, text: &Text<'_>) {
    json.open('{').member("type").plain("text").member("text").text(text).close('}');
}

/// Results of tools are messages of their own, before what the user says to them.
fn user(
    json: &mut Json<'_>,
    conversation: &Conversation<'_>,
    turn: &Turn<'_>,
    deep_seek: bool,
    left: &mut LeftOut,
) -> Result<(), ConvertFault> {
    let (mut shown, mut said) = (Vec::new(), Vec::new());
    for part in &turn.parts {
        let Part::ToolResult(result) = part else {
            said.push(part);
            continue;
        };
        if result.is_error {
            left.add("is_error");
        }
        tool_result(json, result);
        if result.content.iter().any(is_picture) {
            shown.push(result);
        }
    }
    if said.is_empty() && shown.is_empty() && !turn.parts.is_empty() {
        return Ok(());
    }
    let titles: Vec<Part<'_>> = shown.iter().map(|result| Part::Text(title(result))).collect();
    let pictures = shown.iter().zip(&titles).flat_map(|(result, title)| {
        std::iter::once(title).chain(result.content.iter().filter(|part| is_picture(part)))
    });
    let said: Vec<&Part<'_>> = pictures.chain(said).collect();
    json.open('{').member("role").plain("user").member("content");
    match said.as_slice() {
        [] => {
            json.plain("").close('}');
            return Ok(());
        }
        [Part::Text(text)] => {
            json.text(text).close('}');
            return Ok(());
        }
        _ => {}
    }
    json.open('[');
    for part in said {
        match part {
            Part::Text(text) => text_part(json, text),
            Part::Image(_) if deep_seek => {
                let what = "texts, as this model sees no pictures";
                return Err(conversation.part_fault(turn, part, what, "an image"));
            }
            Part::Image(image) => image_part(json, image),
            Part::Sound { media_type, data } if !deep_seek => {
                let Some(format) = sound_format(media_type) else {
                    let what = "a recording in WAV or MP3, as this model's provider takes no other";
                    return Err(conversation.part_fault(turn, part, what, "another kind"));
                };
                json.open('{').member("type").plain("input_audio").member("input_audio").open('{');
                json.member("data").text(data).member("format").plain(format).close('}').close('}');
            }
            _ => {
                let what = "texts, images and results of tools";
                return Err(conversation.part_fault(turn, part, what, "another part"));
            }
        }
    }
    json.close(']').close('}');
    Ok(())
}

/// What the provider calls a recording of this kind, if it takes it.
fn sound_format(media_type: &Text<'_>) -> Option<&'static str> {
    let kind = media_type.unescaped().to_ascii_lowercase();
    match kind.split(';').next().unwrap_or_default().trim_end() {
        "audio/wav" | "audio/x-wav" | "audio/wave" | "audio/vnd.wave" => Some("wav"),
        "audio/mp3" | "audio/mpeg" => Some("mp3"),
        _ => None,
    }
}

fn is_picture(part: &Part<'_>) -> bool {
    matches!(part, Part::Image(_))
}

/// What stands before the pictures of a result.
fn title<'a>(result: &ToolResult<'_>) -> Text<'a> {
    Text::plain(&format!("[pictures in the result of {}]", result.id.unescaped()))
}

/// A message with the texts of a result. Its pictures come with what the user says next, as the format has no other place
/// for them.
fn tool_result(json: &mut Json<'_>, result: &ToolResult<'_>) {
    let mut said: Vec<Text<'_>> = result.content.iter().filter_map(as_text).cloned().collect();
    if result.content.iter().any(is_picture) {
        said.push(Text::word("[its pictures are in the next message]"));
    }
    json.open('{').member("role").plain("tool").member("tool_call_id").text(&result.id);
    texts(json.member("content"), &said);
    json.close('}');
}

pub(super) fn image_part(json: &mut Json<'_>, image: &Image<'_>) {
    json.open('{').member("type").plain("image_url").member("image_url").open('{').member("url");
    match image {
        Image::Url(url) => json.text(url),
        Image::Inline { media_type, data } => {
            json.texts([&Text::word("data:"), media_type, &Text::word(";base64,"), data])
        }
    };
    json.close('}').close('}');
}

fn assistant(json: &mut Json<'_>, turn: &Turn<'_>, deep_seek: bool, left: &mut LeftOut) {
    json.open('{').member("role").plain("assistant");
    let said: Vec<Text<'_>> = turn.parts.iter().filter_map(as_text).cloned().collect();
    let calls = turn.parts.iter().any(|part| matches!(part, Part::ToolCall(_)));
    match said.is_empty() {
        true if calls => {
            json.member("content").raw("null");
        }
        true => {
            json.member("content").plain("");
        }
        false => texts(json.member("content"), &said),
    }
    let thoughts = || turn.parts.iter().filter_map(as_thought);
    if thoughts().next().is_some() {
        if deep_seek {
            json.member("reasoning_content").texts(thoughts());
        } else {
            // OpenAI's own models keep their thoughts to themselves and take none back.
            left.add("reasoning");
        }
    }
    if turn.parts.iter().any(|part| matches!(part, Part::Redacted(_))) {
        left.add("redacted_thinking");
    }
    if calls {
        json.member("tool_calls").open('[');
        for part in &turn.parts {
            if let Part::ToolCall(call) = part {
                tool_call(json, None, call, &Text::plain(&call.arguments), None);
                // It is Gemini's alone.
                if call.signature.is_some() {
                    left.add("thought_signature");
                }
            }
        }
        json.close(']');
    }
    json.close('}');
}

fn as_text<'t, 'a>(part: &'t Part<'a>) -> Option<&'t Text<'a>> {
    if let Part::Text(text) = part { Some(text) } else { None }
}

pub(super) fn as_thought<'t, 'a>(part: &'t Part<'a>) -> Option<&'t Text<'a>> {
    if let Part::Thinking { text, .. } = part { Some(text) } else { None }
}

/// A call; in a stream with its number. `proof`: Gemini's, of the thought behind it.
pub(super) fn tool_call(
    json: &mut Json<'_>,
    index: Option<u32>,
    call: &ToolCall<'_>,
    arguments: &Text<'_>,
    proof: Option<&Text<'_>>,
) {
    json.open('{');
    if let Some(index) = index {
        json.member("index").whole(index.into());
    }
    json.member("id").text(&call.id).member("type").plain("function");
    json.member("function").open('{').member("name").text(&call.name);
    json.member("arguments").text(arguments).close('}');
    if let Some(proof) = proof {
        json.member("extra_content").open('{').member("google").open('{');
        json.member("thought_signature").text(proof).close('}').close('}');
    }
    json.close('}');
}

fn tools(json: &mut Json<'_>, conversation: &Conversation<'_>) {
    if conversation.tools.is_empty() {
        return;
    }
    json.member("tools").open('[');
    for tool in &conversation.tools {
        json.open('{').member("type").plain("function").member("function").open('{');
        json.member("name").text(&tool.name);
        if let Some(description) = &tool.description {
            json.member("description").text(description);
        }
        if let Some(parameters) = &tool.parameters {
            json.member("parameters").raw(parameters);
        }
        if let Some(strict) = tool.strict {
            json.member("strict").flag(strict);
        }
        json.close('}').close('}');
    }
    json.close(']');
    match &conversation.tool_choice {
        None => {}
        Some(ToolChoice::Auto) => {
            json.member("tool_choice").plain("auto");
        }
        Some(ToolChoice::None) => {
            json.member("tool_choice").plain("none");
        }
        Some(ToolChoice::Any) => {
            json.member("tool_choice").plain("required");
        }
        Some(ToolChoice::Named(name)) => {
            json.member("tool_choice").open('{').member("type").plain("function");
            json.member("function").open('{').member("name").text(name).close('}').close('}');
        }
    }
    if let Some(parallel) = conversation.parallel_tools {
        json.member("parallel_tool_calls").flag(parallel);
    }
}

fn shape(json: &mut Json<'_>, conversation: &Conversation<'_>, deep_seek: bool) -> Result<(), ConvertFault> {
    match &conversation.shape {
        Shape::Text => {}
        Shape::Json => {
            json.member("response_format").open('{').member("type").plain("json_object").close('}');
        }
        Shape::Schema { .. } if deep_seek => {
            let what = "text or JSON without a schema, as this model's provider keeps to none";
            return Err(conversation.setting_fault(Setting::Shape, what, "a schema"));
        }
        Shape::Schema { name, schema, strict } => {
            json.member("response_format").open('{').member("type").plain("json_schema");
            json.member("json_schema").open('{').member("name");
            json.text(name.as_ref().unwrap_or(&Text::word("answer"))).member("schema").raw(schema);
            if let Some(strict) = strict {
                json.member("strict").flag(*strict);
            }
            json.close('}').close('}');
        }
    }
    Ok(())
}

fn settings(
    json: &mut Json<'_>,
    conversation: &Conversation<'_>,
    target: &Target<'_>,
    left: &mut LeftOut,
) -> Result<(), ConvertFault> {
    let sampling = &conversation.sampling;
    conversation.refuse_number(Setting::TopK, sampling.top_k.as_ref())?;
    let deep_seek = target.format == Format::DeepSeek;
    if deep_seek {
        conversation.refuse_number(Setting::Seed, sampling.seed.as_ref())?;
        conversation.refuse_choices()?;
        conversation.leave_verbosity(left);
    } else if let Some(verbosity) = conversation.verbosity {
        json.member("verbosity").plain(verbosity.name());
    }
    let numbers = [
        ("temperature", &sampling.temperature),
        ("top_p", &sampling.top_p),
        ("frequency_penalty", &sampling.frequency_penalty),
        ("presence_penalty", &sampling.presence_penalty),
        ("seed", &sampling.seed),
    ];
    for (name, number) in numbers {
        if let Some(number) = number {
            json.member(name).raw(&number.to_string());
        }
    }
    if let Some(choices) = sampling.choices {
        json.member("n").whole(choices.into());
    }
    if !sampling.stop.is_empty() {
        json.member("stop").open('[');
        for text in &sampling.stop {
            json.text(text);
        }
        json.close(']');
    }
    if let Some(cap) = conversation.output_cap.or(target.output_cap) {
        let newer = target.newer_cap_field && !deep_seek;
        json.member(if newer { "max_completion_tokens" } else { "max_tokens" }).whole(cap.into());
    }
    match conversation.thinking {
        None | Some(Thinking::Free) if !deep_seek => {}
        None => {}
        Some(thinking) if deep_seek => {
            let kind = if thinking == Thinking::Off { "disabled" } else { "enabled" };
            json.member("thinking").open('{').member("type").plain(kind).close('}');
        }
        Some(Thinking::Off) => {
            json.member("reasoning_effort").plain("none");
        }
        Some(Thinking::Effort(effort)) => {
            json.member("reasoning_effort").plain(effort.name());
        }
        Some(Thinking::Budget(tokens)) => {
            json.member("reasoning_effort").plain(Effort::of_budget(tokens).name());
        }
        Some(Thinking::Free) => {}
    }
    Ok(())
}
