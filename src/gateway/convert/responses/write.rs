//! Writes a request, for models that work at this endpoint alone.

use super::super::Target;
use super::super::conversation::{
    Conversation, Effort, Image, Part, Role, Setting, Shape, Thinking, ToolChoice, ToolResult, Turn,
};
use super::super::json::Json;
use super::super::names;
use super::super::object::{ConvertFault, LeftOut};
use super::super::openai::USER_CHARACTERS_MAX;
use super::super::text::Text;
use super::answer::call_members;

/// The body for an upstream. Nothing of it is to be kept there.
pub fn write(
    conversation: &Conversation<'_>,
    target: &Target<'_>,
    left: &mut LeftOut,
) -> Result<Vec<u8>, ConvertFault> {
    let mut out = Vec::with_capacity(target.size_hint);
    let mut json = Json::new(&mut out);
    json.open('{').member("model").plain(target.model).member("input").open('[');
    if !conversation.system.is_empty() {
        instructions(&mut json, conversation.system.iter());
    }
    for turn in &conversation.turns {
        match turn.role {
            Role::User => user(&mut json, conversation, turn, left)?,
            Role::Assistant => assistant(&mut json, turn, left),
            Role::System => {
                let said: Vec<_> = turn.parts.iter().filter_map(as_text).collect();
                instructions(&mut json, said.into_iter());
            }
        }
    }
    json.close(']');
    tools(&mut json, conversation);
    settings(&mut json, conversation, target)?;
    let shaped = !matches!(conversation.shape, Shape::Text);
    if shaped || conversation.verbosity.is_some() {
        json.member("text").open('{');
        if let Some(verbosity) = conversation.verbosity {
            json.member("verbosity").plain(verbosity.name());
        }
        if shaped {
            shape(json.member("format"), &conversation.shape);
        }
        json.close('}');
    }
    json.member("store").flag(false);
    if target.stream {
        json.member("stream").flag(true);
    }
    if let Some(user) = &conversation.user {
        json.member("safety_identifier").text(&names::user(user, USER_CHARACTERS_MAX));
    }
    json.close('}');
    Ok(out)
}

fn instructions<'t, 'a: 't>(json: &mut Json<'_>, said: impl ExactSizeIterator<Item = &'t Text<'a>>) {
    json.open('{').member("role").plain("developer").member("content");
    texts(json, "input_text", said);
    json.close('}');
}

fn as_text<'t, 'a>(part: &'t Part<'a>) -> Option<&'t Text<'a>> {
    if let Part::Text(text) = part { Some(text) } else { None }
}

/// One text as a string, several as a list.
fn texts<'t, 'a: 't>(
    json: &mut Json<'_>,
    kind: &'static str,
    mut texts: impl ExactSizeIterator<Item = &'t Text<'a>>,
) {
    if texts.len() == 1
        && let Some(text) = texts.next()
    {
        json.text(text);
        return;
    }
    json.open('[');
    texts.for_each(|text| text_part(json, kind, text));
    json.close(']');
}

fn text_part(json: &mut Json<'_>, kind: &'static str, text: &Text<'_>) {
    json.open('{').member("type").plain(kind).member("text").text(text).close('}');
}

fn image_part(json: &mut Json<'_>, image: &Image<'_>) {
    json.open('{').member("type").plain("input_image").member("image_url");
    match image {
        Image::Url(url) => json.text(url),
        Image::Inline { media_type, data } => {
            json.texts([&Text::word("data:"), media_type, &Text::word(";base64,"), data])
        }
    };
    json.close('}');
}

/// Results of tools are items of their own, before what the user says to them.
fn user(
    json: &mut Json<'_>,
    conversation: &Conversation<'_>,
    turn: &Turn<'_>,
    left: &mut LeftOut,
) -> Result<(), ConvertFault> {
    let mut said = Vec::new();
    for part in &turn.parts {
        match part {
            Part::ToolResult(result) => tool_result(json, conversation, turn, result, left)?,
            part => said.push(part),
        }
    }
    if said.is_empty() && !turn.parts.is_empty() {
        return Ok(());
    }
    json.open('{').member("role").plain("user").member("content");
    content(json, conversation, turn, &said)?;
    json.close('}');
    Ok(())
}

fn tool_result(
    json: &mut Json<'_>,
    conversation: &Conversation<'_>,
    turn: &Turn<'_>,
    result: &ToolResult<'_>,
    left: &mut LeftOut,
) -> Result<(), ConvertFault> {
    if result.is_error {
        left.add("is_error");
    }
    json.open('{').member("type").plain("function_call_output").member("call_id").text(&result.id);
    json.member("output");
    content(json, conversation, turn, &result.content.iter().collect::<Vec<_>>())?;
    json.close('}');
    Ok(())
}

fn content(
    json: &mut Json<'_>,
    conversation: &Conversation<'_>,
    turn: &Turn<'_>,
    parts: &[&Part<'_>],
) -> Result<(), ConvertFault> {
    match parts {
        [] => {
            json.plain("");
            return Ok(());
        }
        [Part::Text(text)] => {
            json.text(text);
            return Ok(());
        }
        _ => {}
    }
    json.open('[');
    for part in parts {
        match part {
            Part::Text(text) => text_part(json, "input_text", text),
            Part::Image(image) => image_part(json, image),
            _ => {
                let what = "texts, images and results of tools";
                return Err(conversation.part_fault(turn, part, what, "another part"));
            }
        }
    }
    json.close(']');
    Ok(())
}

/// Texts that stand together are one message.
fn assistant(json: &mut Json<'_>, turn: &Turn<'_>, left: &mut LeftOut) {
    let mut parts = turn.parts.as_slice();
    while let Some((part, rest)) = parts.split_first() {
        parts = rest;
        match part {
            Part::Text(_) => {
                let is_text = |part: &&Part<'_>| matches!(part, Part::Text(_));
                let more = rest.iter().take_while(is_text).count();
                let said = std::iter::once(part).chain(rest.get(..more).unwrap_or_default());
                let said: Vec<_> = said.filter_map(as_text).collect();
                json.open('{').member("role").plain("assistant").member("content");
                texts(json, "output_text", said.into_iter());
                json.close('}');
                parts = rest.get(more..).unwrap_or_default();
            }
            // The upstream was not asked for proofs, so that none of them is its own.
            Part::Thinking { .. } => left.add("reasoning"),
            Part::Redacted(_) => left.add("redacted_thinking"),
            Part::ToolCall(call) => {
                json.open('{').member("type").plain("function_call");
                call_members(json, call, &Text::plain(&call.arguments));
                json.close('}');
                if call.signature.is_some() {
                    left.add("thought_signature");
                }
            }
            Part::Image(_) | Part::Sound { .. } | Part::ToolResult(_) => {}
        }
    }
}

fn tools(json: &mut Json<'_>, conversation: &Conversation<'_>) {
    if conversation.tools.is_empty() {
        return;
    }
    json.member("tools").open('[');
    for tool in &conversation.tools {
        json.open('{').member("type").plain("function").member("name").text(&tool.name);
        if let Some(description) = &tool.description {
            json.member("description").text(description);
        }
        json.member("parameters").raw(tool.parameters.as_deref().unwrap_or("null"));
        // Unsaid, it would be strict here.
        json.member("strict").raw(tool.strict.map_or("null", |strict| if strict { "true" } else { "false" }));
        json.close('}');
    }
    json.close(']');
    match &conversation.tool_choice {
        None => {}
        Some(ToolChoice::Auto) => drop(json.member("tool_choice").plain("auto")),
        Some(ToolChoice::None) => drop(json.member("tool_choice").plain("none")),
        Some(ToolChoice::Any) => drop(json.member("tool_choice").plain("required")),
        Some(ToolChoice::Named(name)) => {
            json.member("tool_choice").open('{').member("type").plain("function");
            json.member("name").text(name).close('}');
        }
    }
    if let Some(parallel) = conversation.parallel_tools {
        json.member("parallel_tool_calls").flag(parallel);
    }
}

fn shape(json: &mut Json<'_>, shape: &Shape<'_>) {
    json.open('{');
    match shape {
        Shape::Text => drop(json.member("type").plain("text")),
        Shape::Json => drop(json.member("type").plain("json_object")),
        Shape::Schema { name, schema, strict } => {
            json.member("type").plain("json_schema").member("name");
            json.text(name.as_ref().unwrap_or(&Text::word("answer"))).member("schema").raw(schema);
            if let Some(strict) = strict {
                json.member("strict").flag(*strict);
            }
        }
    }
    json.close('}');
}

fn settings(
    json: &mut Json<'_>,
    conversation: &Conversation<'_>,
    target: &Target<'_>,
) -> Result<(), ConvertFault> {
    let sampling = &conversation.sampling;
    for (setting, number) in [
        (Setting::TopK, &sampling.top_k),
        (Setting::FrequencyPenalty, &sampling.frequency_penalty),
        (Setting::PresencePenalty, &sampling.presence_penalty),
        (Setting::Seed, &sampling.seed),
    ] {
        conversation.refuse_number(setting, number.as_ref())?;
    }
    conversation.refuse_choices()?;
    if !sampling.stop.is_empty() {
        let what = "none, as the endpoint of this model has no such setting";
        return Err(conversation.setting_fault(Setting::Stop, what, "texts to stop at"));
    }
    for (name, number) in [("temperature", &sampling.temperature), ("top_p", &sampling.top_p)] {
        if let Some(number) = number {
            json.member(name).raw(&number.to_string());
        }
    }
    if let Some(cap) = conversation.output_cap.or(target.output_cap) {
        json.member("max_output_tokens").whole(cap.into());
    }
    let effort = match conversation.thinking {
        None | Some(Thinking::Free) => return Ok(()),
        Some(Thinking::Off) => "none",
        Some(Thinking::Effort(effort)) => effort.name(),
        Some(Thinking::Budget(tokens)) => Effort::of_budget(tokens).name(),
    };
    json.member("reasoning").open('{').member("effort").plain(effort).close('}');
    Ok(())
}
