//! Writes a Messages request.

use super::super::Target;
use super::super::conversation::{
    Conversation, Image, Part, Role, Setting, Shape, Thinking, ToolCall, ToolChoice, Turn, as_object,
};
use super::super::json::Json;
use super::super::names;
use super::super::object::{ConvertFault, LeftOut};
use super::super::text::Text;

/// The least that a model can be told to think (Anthropic's API reference, `budget_tokens`).
const BUDGET_MIN: u32 = 1_024;

/// The longest name of a user (`metadata.user_id`, there), in characters.
const USER_CHARACTERS_MAX: usize = 256;

/// The body for an upstream that speaks Anthropic's format.
pub fn write(
    conversation: &Conversation<'_>,
    target: &Target<'_>,
    left: &mut LeftOut,
) -> Result<Vec<u8>, ConvertFault> {
    let mut out = Vec::with_capacity(target.size_hint);
    let mut json = Json::new(&mut out);
    json.open('{').member("model").plain(target.model);
    let Some(cap) = conversation.output_cap.or(target.output_cap) else {
        let what = "a cap on the answer, as this model's provider needs one";
        return Err(conversation.setting_fault(Setting::OutputCap, what, "nothing"));
    };
    json.member("max_tokens").whole(cap.into());
    match conversation.system.as_slice() {
        [] => {}
        [text] => {
            json.member("system").text(text);
        }
        texts => {
            json.member("system").open('[');
            for text in texts {
                text_block(&mut json, text);
            }
            json.close(']');
        }
    }
    json.member("messages").open('[');
    for turn in &conversation.turns {
        message(&mut json, conversation, turn, left)?;
    }
    json.close(']');
    tools(&mut json, conversation);
    settings(&mut json, conversation, cap)?;
    conversation.leave_verbosity(left);
    if target.stream {
        json.member("stream").flag(true);
    }
    if let Some(user) = &conversation.user {
        let user = names::user(user, USER_CHARACTERS_MAX);
        json.member("metadata").open('{').member("user_id").text(&user).close('}');
    }
    json.close('}');
    Ok(out)
}

fn text_block(json: &mut Json<'_>, text: &Text<'_>) {
    json.open('{').member("type").plain("text").member("text").text(text).close('}');
}

fn message(
    json: &mut Json<'_>,
    conversation: &Conversation<'_>,
    turn: &Turn<'_>,
    left: &mut LeftOut,
) -> Result<(), ConvertFault> {
    let role = if turn.role == Role::User { "user" } else { "assistant" };
    json.open('{').member("role").plain(role).member("content");
    if let [Part::Text(text)] = turn.parts.as_slice() {
        json.text(text).close('}');
        return Ok(());
    }
    json.open('[');
    for part in &turn.parts {
        block(json, conversation, turn, part, left)?;
    }
    json.close(']').close('}');
    Ok(())
}

fn block(
    json: &mut Json<'_>,
    conversation: &Conversation<'_>,
    turn: &Turn<'_>,
    part: &Part<'_>,
    left: &mut LeftOut,
) -> Result<(), ConvertFault> {
    match part {
        Part::Text(text) => text_block(json, text),
        Part::Image(image) => image_block(json, image),
        Part::Thinking { text, signature: Some(signature) } => {
            json.open('{').member("type").plain("thinking").member("thinking").text(text);
            json.member("signature").text(signature).close('}');
        }
        // It takes no thoughts back but its own.
        Part::Thinking { signature: None, .. } => left.add("reasoning"),
        Part::Redacted(data) => {
            json.open('{').member("type").plain("redacted_thinking").member("data").text(data).close('}');
        }
        Part::ToolCall(call) => {
            let Some(arguments) = as_object(&call.arguments) else {
                let what = "arguments of a tool call that are a JSON object, as this model's provider takes no others";
                return Err(conversation.part_fault(turn, part, what, "another text"));
            };
            tool_use(json, call, arguments);
        }
        Part::ToolResult(result) => {
            json.open('{').member("type").plain("tool_result").member("tool_use_id").text(&result.id);
            match result.content.as_slice() {
                [] => {}
                [Part::Text(text)] => {
                    json.member("content").text(text);
                }
                parts => {
                    json.member("content").open('[');
                    for part in parts {
                        block(json, conversation, turn, part, left)?;
                    }
                    json.close(']');
                }
            }
            if result.is_error {
                json.member("is_error").flag(true);
            }
            json.close('}');
        }
    }
    Ok(())
}

fn tool_use(json: &mut Json<'_>, call: &ToolCall<'_>, arguments: &str) {
    json.open('{').member("type").plain("tool_use").member("id").text(&call.id);
    json.member("name").text(&call.name).member("input").raw(arguments).close('}');
}

fn image_block(json: &mut Json<'_>, image: &Image<'_>) {
    json.open('{').member("type").plain("image").member("source").open('{').member("type");
    match image {
        Image::Inline { media_type, data } => {
            json.plain("base64").member("media_type").text(media_type).member("data").text(data)
        }
        Image::Url(url) => json.plain("url").member("url").text(url),
    };
    json.close('}').close('}');
}

fn tools(json: &mut Json<'_>, conversation: &Conversation<'_>) {
    if conversation.tools.is_empty() {
        return;
    }
    json.member("tools").open('[');
    for tool in &conversation.tools {
        json.open('{').member("name").text(&tool.name);
        if let Some(description) = &tool.description {
            json.member("description").text(description);
        }
        // A schema is needed there; without one the tool takes nothing.
        let schema = tool.parameters.as_deref().unwrap_or(r#"{"type":"object","properties":{}}"#);
        json.member("input_schema").raw(schema);
        if let Some(strict) = tool.strict {
            json.member("strict").flag(strict);
        }
        json.close('}');
    }
    json.close(']');
    let choice = conversation.tool_choice.as_ref();
    if choice.is_none() && conversation.parallel_tools.is_none() {
        return;
    }
    json.member("tool_choice").open('{').member("type");
    match choice {
        None | Some(ToolChoice::Auto) => json.plain("auto"),
        Some(ToolChoice::None) => json.plain("none"),
        Some(ToolChoice::Any) => json.plain("any"),
        Some(ToolChoice::Named(name)) => json.plain("tool").member("name").text(name),
    };
    if let Some(parallel) = conversation.parallel_tools
        && choice != Some(&ToolChoice::None)
    {
        json.member("disable_parallel_tool_use").flag(!parallel);
    }
    json.close('}');
}

fn settings(json: &mut Json<'_>, conversation: &Conversation<'_>, cap: u32) -> Result<(), ConvertFault> {
    let sampling = &conversation.sampling;
    conversation.refuse_choices()?;
    conversation.refuse_number(Setting::Seed, sampling.seed.as_ref())?;
    conversation.refuse_number(Setting::FrequencyPenalty, sampling.frequency_penalty.as_ref())?;
    conversation.refuse_number(Setting::PresencePenalty, sampling.presence_penalty.as_ref())?;
    if let Some(number) = sampling.temperature.as_ref().filter(|number| number.as_f64() > Some(1.0)) {
        let what = "a number up to 1, as the provider of this model takes no more";
        return Err(conversation.setting_fault(Setting::Temperature, what, number.to_string()));
    }
    let numbers =
        [("temperature", &sampling.temperature), ("top_p", &sampling.top_p), ("top_k", &sampling.top_k)];
    for (name, number) in numbers {
        if let Some(number) = number {
            json.member(name).raw(&number.to_string());
        }
    }
    if !sampling.stop.is_empty() {
        json.member("stop_sequences").open('[');
        for text in &sampling.stop {
            json.text(text);
        }
        json.close(']');
    }
    if let Some(thinking) = conversation.thinking {
        self::thinking(json, conversation, thinking, cap)?;
    }
    match &conversation.shape {
        Shape::Text => {}
        Shape::Json => {
            let what = "text or a JSON schema, as this model's provider has no JSON without one";
            return Err(conversation.setting_fault(Setting::Shape, what, "JSON without a schema"));
        }
        Shape::Schema { schema, .. } => {
            json.member("output_config").open('{').member("format").open('{').member("type");
            json.plain("json_schema").member("schema").raw(schema).close('}').close('}');
        }
    }
    Ok(())
}

/// The budget must leave room for the answer.
fn thinking(
    json: &mut Json<'_>,
    conversation: &Conversation<'_>,
    thinking: Thinking,
    cap: u32,
) -> Result<(), ConvertFault> {
    let budget = match thinking {
        Thinking::Off => return Ok(()),
        Thinking::Budget(tokens) => tokens,
        // A wish of no number: as much as leaves half of the cap.
        Thinking::Effort(effort) if effort.budget() < cap => effort.budget(),
        Thinking::Effort(_) | Thinking::Free => (cap / 2).max(BUDGET_MIN),
    };
    if budget >= cap || budget < BUDGET_MIN {
        let what = "thinking of 1024 tokens or more and fewer than the cap on the answer, as this model's provider \
                    takes no other";
        return Err(conversation.setting_fault(Setting::Thinking, what, format!("{budget} of {cap}")));
    }
    json.member("thinking").open('{').member("type").plain("enabled");
    json.member("budget_tokens").whole(budget.into()).close('}');
    Ok(())
}
