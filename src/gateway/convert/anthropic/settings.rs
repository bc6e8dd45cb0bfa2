//! Tools and settings of a Messages request.

use std::borrow::Cow;

use serde_json::{Map, Number, Value};

use super::super::conversation::{
    Conversation, Part, Role, Sampling, Setting, Shape, Thinking, ToolChoice, Turn,
};
use super::super::json::Json;
use super::super::object::{ConvertFault, LeftOut, Object, Path};
use super::schema::closed;
use super::write::{CacheMarks, Place, is_written};

/// The least that a model can be told to think (Anthropic's API reference, `budget_tokens`).
const BUDGET_MIN: u32 = 1_024;

/// The least `top_p` of a model that thinks (Anthropic's guide to extended thinking, compatibility).
const THINKING_TOP_P_MIN: f64 = 0.95;

const TAKES_NOTHING: &str = r#"{"type":"object","properties":{}}"#;

/// A schema of what a tool takes, which the provider wants to be called an object.
fn typed(schema: &str) -> Cow<'_, str> {
    let path = Path::TOP;
    let is_typed = |mut schema: Object<'_, '_>| schema.take("type").is_some();
    if Object::parse(schema, &path).is_ok_and(is_typed) {
        return Cow::Borrowed(schema);
    }
    match serde_json::from_str::<Map<String, Value>>(schema) {
        Ok(members) if members.is_empty() => Cow::Borrowed(TAKES_NOTHING),
        Ok(mut members) if members.get("type").is_none_or(Value::is_null) => {
            members.insert("type".into(), "object".into());
            Cow::Owned(Value::Object(members).to_string())
        }
        _ => Cow::Borrowed(schema),
    }
}

/// The most tools of a request that a model can be held to (Anthropic's guide to structured outputs).
const STRICT_TOOLS_MAX: usize = 20;

/// Whether the model can be held to the schemas of tools: they are closed, have no bounds, and are few.
fn can_be_strict(conversation: &Conversation<'_>) -> bool {
    let strict = || conversation.tools.iter().filter(|tool| tool.strict == Some(true));
    let is_closed =
        |schema: &str| closed(schema).is_ok_and(|closed| matches!(closed.schema, Cow::Borrowed(_)));
    strict().count() <= STRICT_TOOLS_MAX
        && strict().all(|tool| tool.parameters.as_deref().is_none_or(is_closed))
}

pub fn tools(
    json: &mut Json<'_>,
    conversation: &Conversation<'_>,
    marks: &mut CacheMarks,
    left: &mut LeftOut,
) {
    if conversation.tools.is_empty() {
        return;
    }
    let can_be_strict = can_be_strict(conversation);
    if !can_be_strict {
        left.add("strict");
    }
    json.member("tools").open('[');
    for tool in &conversation.tools {
        json.open('{').member("name").text(&tool.name);
        if let Some(description) = &tool.description {
            json.member("description").text(description);
        }
        // A schema is needed there; without one the tool takes nothing.
        let schema = tool.parameters.as_deref().map_or(Cow::Borrowed(TAKES_NOTHING), typed);
        json.member("input_schema").raw(&schema);
        if let Some(strict) = tool.strict.filter(|strict| can_be_strict || !strict) {
            json.member("strict").flag(strict);
        }
        marks.mark(tool.cached, Place::Tools, json);
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

pub fn settings(
    json: &mut Json<'_>,
    conversation: &Conversation<'_>,
    cap: u32,
    left: &mut LeftOut,
) -> Result<(), ConvertFault> {
    let sampling = &conversation.sampling;
    conversation.refuse_choices()?;
    conversation.refuse_number(Setting::Seed, sampling.seed.as_ref())?;
    conversation.refuse_number(Setting::FrequencyPenalty, sampling.frequency_penalty.as_ref())?;
    conversation.refuse_number(Setting::PresencePenalty, sampling.presence_penalty.as_ref())?;
    if let Some(number) = sampling.temperature.as_ref().filter(|number| number.as_f64() > Some(1.0)) {
        let what = "a number up to 1, as the provider of this model takes no more";
        return Err(conversation.setting_fault(Setting::Temperature, what, number.to_string()));
    }
    let thinks = match conversation.thinking {
        None | Some(Thinking::Off) => None,
        // It is a most, or a wish of no number: to think nothing fits within both.
        Some(_) if cannot_think(conversation) => {
            left.add(Setting::Thinking.name(conversation.origin));
            None
        }
        thinking => thinking,
    };
    if let Some(thinking) = thinks {
        sampled_while_thinking(conversation)?;
        self::thinking(json, conversation, thinking, cap)?;
    }
    let (temperature, top_p) = one_of_two(sampling);
    let numbers = [("temperature", temperature), ("top_p", top_p), ("top_k", &sampling.top_k)];
    for (name, number) in numbers {
        if let Some(number) = number {
            json.member(name).raw(&number.to_string());
        }
    }
    if let Some(blank) = sampling.stop.iter().find(|text| text.unescaped().trim().is_empty()) {
        let what = "texts that are more than blanks, as this model's provider stops at no others";
        let got = if blank.is_empty() { "an empty text" } else { "blanks" };
        return Err(conversation.setting_fault(Setting::Stop, what, got));
    }
    if !sampling.stop.is_empty() {
        json.member("stop_sequences").open('[');
        for text in &sampling.stop {
            json.text(text);
        }
        json.close(']');
    }
    match &conversation.shape {
        Shape::Text => {}
        Shape::Json => {
            let what = "text or a JSON schema, as this model's provider has no JSON without one";
            return Err(conversation.setting_fault(Setting::Shape, what, "JSON without a schema"));
        }
        Shape::Schema { schema, .. } => {
            let schema = closed(schema);
            let schema =
                schema.map_err(|(what, got)| conversation.setting_fault(Setting::Shape, what, got))?;
            schema.told.iter().for_each(|name| left.add(name));
            json.member("output_config").open('{').member("format").open('{').member("type");
            json.plain("json_schema").member("schema").raw(&schema.schema).close('}').close('}');
        }
    }
    Ok(())
}

/// Models since the generation of 4.1 take a `temperature` or a `top_p`, and not both. Many clients send both with every
/// request: the one that changes nothing gives way.
fn one_of_two<'s>(sampling: &'s Sampling<'_>) -> (&'s Option<Number>, &'s Option<Number>) {
    const UNSAID: &Option<Number> = &None;
    let says_nothing =
        |number: &Option<Number>| number.as_ref().is_some_and(|number| number.as_f64() == Some(1.0));
    match (&sampling.temperature, &sampling.top_p) {
        (temperature @ Some(_), top_p) if says_nothing(top_p) => (temperature, UNSAID),
        (temperature, top_p @ Some(_)) if says_nothing(temperature) => (UNSAID, top_p),
        both => both,
    }
}

/// A model that must call a tool does not think; nor does one that stands in the midst of its calls, or of its own words,
/// without the thought that they began with (Anthropic's guide to extended thinking).
fn cannot_think(conversation: &Conversation<'_>) -> bool {
    let forced = matches!(conversation.tool_choice, Some(ToolChoice::Any | ToolChoice::Named(_)));
    (forced && !conversation.tools.is_empty()) || began_without_thought(&conversation.turns)
}

fn began_without_thought(turns: &[Turn<'_>]) -> bool {
    let mut began = None;
    for turn in turns.iter().rev().filter(|turn| turn.parts.iter().any(is_written)) {
        match turn.role {
            Role::Assistant => began = Some(turn),
            _ if turn.parts.iter().any(|part| matches!(part, Part::ToolResult(_))) => {}
            _ => break,
        }
    }
    let first = began.and_then(|turn| turn.parts.iter().find(|part| is_written(part)));
    first.is_some_and(|first| !matches!(first, Part::Thinking { .. } | Part::Redacted(_)))
}

fn sampled_while_thinking(conversation: &Conversation<'_>) -> Result<(), ConvertFault> {
    let sampling = &conversation.sampling;
    let other = |number: &Option<serde_json::Number>, fits: fn(f64) -> bool| {
        let number = number.as_ref().filter(|number| !number.as_f64().is_some_and(fits));
        number.map(ToString::to_string)
    };
    let faults = [
        (
            Setting::Temperature,
            "1 or nothing, as this model's provider takes no other where it thinks",
            other(&sampling.temperature, |number| number == 1.0),
        ),
        (
            Setting::TopP,
            "0.95 or more, as this model's provider takes no less where it thinks",
            other(&sampling.top_p, |number| number >= THINKING_TOP_P_MIN),
        ),
        (
            Setting::TopK,
            "nothing, as this model's provider takes none where it thinks",
            other(&sampling.top_k, |_| false),
        ),
    ];
    for (setting, what, got) in faults {
        if let Some(got) = got {
            return Err(conversation.setting_fault(setting, what, got));
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
