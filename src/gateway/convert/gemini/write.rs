//! Writes a generateContent request.

use super::super::Target;
use super::super::conversation::{
    Conversation, Image, Part, Role, Shape, Thinking, ToolCall, ToolChoice, ToolResult, Turn, as_object,
};
use super::super::json::Json;
use super::super::names;
use super::super::object::{ConvertFault, LeftOut};
use super::super::proof::{Proof, Prover};
use super::super::text::Text;

/// What stands for the proof of a call that another model made, or whose client did not keep it (Google's guide to thought
/// signatures).
pub(super) const NO_PROOF: &str = "skip_thought_signature_validator";

/// Models before the third generation want no proof of a call.
fn needs_proofs(model: &str) -> bool {
    !["gemini-1", "gemini-2"].iter().any(|before| model.contains(before))
}

fn is_own(proof: &Proof<'_>) -> bool {
    proof.of == Prover::Gemini
}

/// The body for an upstream that speaks Gemini's format.
pub fn write(
    conversation: &Conversation<'_>,
    target: &Target<'_>,
    left: &mut LeftOut,
) -> Result<Vec<u8>, ConvertFault> {
    let mut out = Vec::with_capacity(target.size_hint);
    let mut json = Json::new(&mut out);
    json.open('{').member("contents").open('[');
    let mut said = false;
    for turn in &conversation.turns {
        let role = match turn.role {
            Role::User => "user",
            Role::Assistant => "model",
            // They stand before all turns.
            Role::System => continue,
        };
        for part in &turn.parts {
            match part {
                Part::Redacted(_) => left.add("redacted_thinking"),
                Part::Thinking { signature: Some(proof), .. } if !is_own(proof) => {
                    left.add(conversation.proof_name());
                }
                _ => {}
            }
        }
        if !turn.parts.iter().any(is_written) {
            continue;
        }
        said = true;
        json.open('{').member("role").plain(role).member("parts").open('[');
        let mut instead = needs_proofs(target.model).then_some(Text::word(NO_PROOF));
        for part in turn.parts.iter().filter(|part| is_written(part)) {
            self::part(&mut json, conversation, turn, part, instead.as_ref())?;
            // Calls that are made at once have one proof, at the first of them.
            instead = instead.filter(|_| !matches!(part, Part::ToolCall(_)));
        }
        json.close(']').close('}');
    }
    json.close(']');
    if !said {
        let what = "a message that says something, as this model's provider answers no instructions alone";
        return Err(ConvertFault::new(conversation.turns_name(), what, "nothing"));
    }
    if conversation.system.iter().any(|text| !text.is_empty()) {
        json.member("systemInstruction").open('{').member("parts").open('[');
        for text in conversation.system.iter().filter(|text| !text.is_empty()) {
            json.open('{').member("text").text(text).close('}');
        }
        json.close(']').close('}');
    }
    tools(&mut json, conversation, left)?;
    json.member("generationConfig").open('{');
    settings(&mut json, conversation, target);
    json.close('}').close('}');
    conversation.leave_verbosity(left);
    if conversation.user.is_some() {
        left.add("user");
    }
    Ok(out)
}

/// The provider takes no empty part, and cannot read what another one has encrypted.
fn is_written(part: &Part<'_>) -> bool {
    match part {
        Part::Text(text) => !text.is_empty(),
        Part::Thinking { text, signature } => !text.is_empty() || signature.as_ref().is_some_and(is_own),
        Part::Redacted(_) => false,
        Part::Image(_) | Part::Sound { .. } | Part::ToolCall(_) | Part::ToolResult(_) => true,
    }
}

fn part(
    json: &mut Json<'_>,
    conversation: &Conversation<'_>,
    turn: &Turn<'_>,
    part: &Part<'_>,
    instead: Option<&Text<'_>>,
) -> Result<(), ConvertFault> {
    match part {
        Part::Text(text) => {
            json.open('{').member("text").text(text).close('}');
        }
        Part::Image(image) => self::image(json, image),
        Part::Sound { media_type, data } => {
            json.open('{').member("inlineData").open('{').member("mimeType").text(media_type);
            json.member("data").text(data).close('}').close('}');
        }
        Part::Thinking { text, signature } => {
            json.open('{').member("text").text(text).member("thought").flag(true);
            if let Some(proof) = signature.as_ref().filter(|proof| is_own(proof)) {
                json.member("thoughtSignature").text(&proof.text);
            }
            json.close('}');
        }
        Part::Redacted(_) => {}
        Part::ToolCall(call) => {
            let Some(arguments) = as_object(&call.arguments) else {
                let what = "arguments of a tool call that are a JSON object, as this model's provider takes no others";
                return Err(conversation.part_fault(turn, part, what, "another text"));
            };
            function_call(json, call, arguments, call.signature.as_ref().or(instead));
        }
        Part::ToolResult(result) => function_response(json, conversation, turn, part, result)?,
    }
    Ok(())
}

fn image(json: &mut Json<'_>, image: &Image<'_>) {
    match image {
        Image::Inline { media_type, data } => {
            json.open('{').member("inlineData").open('{').member("mimeType");
            json.text(&names::picture_type(media_type)).member("data").text(data).close('}').close('}');
        }
        Image::Url(url) => {
            json.open('{').member("fileData").open('{').member("mimeType").plain(media_type(url));
            json.member("fileUri").text(url).close('}').close('}');
        }
    }
}

pub(super) fn function_call(
    json: &mut Json<'_>,
    call: &ToolCall<'_>,
    arguments: &str,
    proof: Option<&Text<'_>>,
) {
    json.open('{').member("functionCall").open('{').member("id").text(&call.id);
    json.member("name").text(&call.name).member("args").raw(arguments).close('}');
    if let Some(proof) = proof {
        json.member("thoughtSignature").text(proof);
    }
    json.close('}');
}

/// The response needs the function's name, which the call had.
fn function_response(
    json: &mut Json<'_>,
    conversation: &Conversation<'_>,
    turn: &Turn<'_>,
    part: &Part<'_>,
    result: &ToolResult<'_>,
) -> Result<(), ConvertFault> {
    let calls = conversation.turns.iter().rev().flat_map(|turn| &turn.parts);
    let name = calls.into_iter().find_map(|part| match part {
        Part::ToolCall(call) if call.id == result.id => Some(&call.name),
        _ => None,
    });
    let Some(name) = name else {
        let what = "the result of a call that was made before";
        return Err(conversation.part_fault(turn, part, what, "no such call"));
    };
    let texts: Vec<&Text<'_>> = result.content.iter().filter_map(as_text).collect();
    json.open('{').member("functionResponse").open('{').member("id").text(&result.id);
    json.member("name").text(name).member("response");
    let own = match texts.as_slice() {
        [text] if !result.is_error => Some(text.unescaped()),
        _ => None,
    };
    match own.as_deref().and_then(as_object).filter(|object| !is_conventional(object)) {
        Some(object) => json.raw(object),
        None => {
            json.open('{').member(if result.is_error { "error" } else { "output" });
            json.texts(texts).close('}')
        }
    };
    json.close('}').close('}');
    // Pictures stand behind the response, as Google's own client writes them: models before the third generation have no
    // place for them within.
    for part in &result.content {
        if let Part::Image(image) = part {
            self::image(json, image);
        }
    }
    Ok(())
}

fn as_text<'t, 'a>(part: &'t Part<'a>) -> Option<&'t Text<'a>> {
    if let Part::Text(text) = part { Some(text) } else { None }
}

/// An object that would be read as the text inside of it.
fn is_conventional(object: &str) -> bool {
    let members: Option<serde_json::Map<String, serde_json::Value>> = serde_json::from_str(object).ok();
    members.is_some_and(|members| members.contains_key("output") || members.contains_key("error"))
}

fn tools(
    json: &mut Json<'_>,
    conversation: &Conversation<'_>,
    left: &mut LeftOut,
) -> Result<(), ConvertFault> {
    if conversation.tools.is_empty() {
        return Ok(());
    }
    json.member("tools").open('[').open('{').member("functionDeclarations").open('[');
    for tool in &conversation.tools {
        json.open('{').member("name").text(&tool.name);
        if let Some(description) = &tool.description {
            json.member("description").text(description);
        }
        if let Some(parameters) = &tool.parameters {
            json.member("parametersJsonSchema").raw(parameters);
        }
        if tool.strict == Some(true) {
            left.add("strict");
        }
        json.close('}');
    }
    json.close(']').close('}').close(']');
    let Some(choice) = &conversation.tool_choice else { return Ok(()) };
    json.member("toolConfig").open('{').member("functionCallingConfig").open('{').member("mode");
    match choice {
        ToolChoice::Auto => json.plain("AUTO"),
        ToolChoice::None => json.plain("NONE"),
        ToolChoice::Any => json.plain("ANY"),
        ToolChoice::Named(name) => {
            json.plain("ANY").member("allowedFunctionNames").open('[').text(name).close(']')
        }
    };
    json.close('}').close('}');
    Ok(())
}

fn settings(json: &mut Json<'_>, conversation: &Conversation<'_>, target: &Target<'_>) {
    let sampling = &conversation.sampling;
    let numbers = [
        ("temperature", &sampling.temperature),
        ("topP", &sampling.top_p),
        ("topK", &sampling.top_k),
        ("frequencyPenalty", &sampling.frequency_penalty),
        ("presencePenalty", &sampling.presence_penalty),
        ("seed", &sampling.seed),
    ];
    for (name, number) in numbers {
        if let Some(number) = number {
            json.member(name).raw(&number.to_string());
        }
    }
    if let Some(choices) = sampling.choices {
        json.member("candidateCount").whole(choices.into());
    }
    if !sampling.stop.is_empty() {
        json.member("stopSequences").open('[');
        for text in &sampling.stop {
            json.text(text);
        }
        json.close(']');
    }
    if let Some(cap) = conversation.output_cap.or(target.output_cap) {
        json.member("maxOutputTokens").whole(cap.into());
    }
    match &conversation.shape {
        Shape::Text => {}
        Shape::Json => {
            json.member("responseMimeType").plain("application/json");
        }
        Shape::Schema { schema, .. } => {
            json.member("responseMimeType").plain("application/json");
            json.member("responseJsonSchema").raw(schema);
        }
    }
    if let Some(thinking) = conversation.thinking {
        json.member("thinkingConfig").open('{').member("thinkingBudget");
        match thinking {
            Thinking::Off => json.whole(0),
            Thinking::Free => json.raw("-1"),
            Thinking::Budget(tokens) => json.whole(tokens.into()),
            Thinking::Effort(effort) => json.whole(effort.budget().into()),
        };
        json.member("includeThoughts").flag(thinking != Thinking::Off).close('}');
    }
}

/// What a picture by its address is, as far as that tells. It is always said to be one: what is said to be nothing may
/// be taken for a film, which costs as many times more.
fn media_type(url: &Text<'_>) -> &'static str {
    let url = url.unescaped();
    let path = url.split(['?', '#']).next().unwrap_or_default();
    match path.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase()).as_deref() {
        Some("png") => "image/png",
        Some("webp") => "image/webp",
        Some("gif") => "image/gif",
        Some("heic") => "image/heic",
        Some("heif") => "image/heif",
        _ => "image/jpeg",
    }
}
