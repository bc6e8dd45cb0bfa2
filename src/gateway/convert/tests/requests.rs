//! Requests there and back.

use std::borrow::Cow;

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::Number;

use super::super::conversation::{
    Conversation, Effort, Image, Part, Role, Sampling, Shape, Thinking, Tool, ToolCall, ToolChoice,
    ToolResult, Turn, Verbosity,
};
use super::super::proof::Proof;
use super::super::{Format, LeftOut, Target, Text, read, request, write};
use super::{native, pairs};

fn target(format: Format) -> Target<'static> {
    Target { format, model: "m", stream: false, output_cap: None, newer_cap_field: false, size_hint: 1024 }
}

/// What two formats can both say.
#[derive(Clone, Copy, Debug)]
struct Both {
    open_ai: bool,
    anthropic: bool,
    gemini: bool,
    responses: bool,
    /// Both are this.
    same: Option<Format>,
}

impl Both {
    fn of(from: Format, to: Format) -> Self {
        let has = |format| from == format || to == format;
        Both {
            open_ai: has(Format::OpenAi),
            anthropic: has(Format::Anthropic),
            gemini: has(Format::Gemini),
            responses: has(Format::Responses),
            same: (from == to).then_some(from),
        }
    }
}

fn text() -> impl Strategy<Value = Text<'static>> {
    let odd = select(vec!["{\"temp\": 20}", "say \"hi\"\n\\", "給你 🦊", " ", "{\"output\":\"x\"}", "null"]);
    prop_oneof![".{1,40}".prop_map(|text| Text::plain(&text)), odd.prop_map(Text::plain)]
}

fn name() -> impl Strategy<Value = Text<'static>> {
    "[a-z_]{1,12}".prop_map(|name| Text::plain(&name))
}

fn image() -> impl Strategy<Value = Image<'static>> {
    let inline = ("image/(png|jpeg|webp)", "[A-Za-z0-9+/]{4,40}").prop_map(|(media_type, data)| {
        Image::Inline { media_type: Text::plain(&media_type), data: Text::plain(&data) }
    });
    prop_oneof![
        inline,
        "https://[a-z]{1,9}\\.example/[a-z0-9?=&%]{0,20}".prop_map(|url| Image::Url(Text::plain(&url)))
    ]
}

fn arguments() -> impl Strategy<Value = Cow<'static, str>> {
    let known =
        select(vec!["{}", r#"{"a":1,"b":["x",null,{"c":"\"quoted\" \n"}]}"#, r#"{ "spaced" : true }"#]);
    prop_oneof![
        known.prop_map(Cow::Borrowed),
        text().prop_map(|text| Cow::Owned(format!("{{\"q\":\"{}\"}}", text.escaped())))
    ]
}

fn said() -> impl Strategy<Value = Vec<Part<'static>>> {
    let part = prop_oneof![3 => text().prop_map(Part::Text), 1 => image().prop_map(Part::Image)];
    prop::collection::vec(part, 1..4)
}

/// What an assistant says, and what its user answers.
fn exchange(both: Both) -> impl Strategy<Value = Vec<(Role, Vec<Part<'static>>)>> {
    let of = both.same.map(native);
    let thoughts = (text(), text()).prop_map(move |(text, proof)| Part::Thinking {
        text,
        signature: of.map(|of| Proof { of, text: proof }),
    });
    // Each provider believes its own thoughts alone.
    let most = if both.open_ai || both.responses || of.is_none() { 0 } else { 2 };
    let results = if both.gemini { 2 } else { 4 };
    (
        prop::collection::vec(thoughts, 0..=most),
        prop::collection::vec(text().prop_map(Part::Text), 0..3),
        prop::collection::vec(
            (name(), arguments(), prop::collection::vec(text(), 1..results), any::<bool>()),
            0..4,
        ),
        said(),
    )
        .prop_map(move |(thoughts, texts, calls, said)| {
            let mut assistant = thoughts;
            assistant.extend(texts);
            let mut user = Vec::new();
            for (name, arguments, result, is_error) in calls {
                // The ids are put right when the exchanges are joined.
                assistant.push(Part::ToolCall(ToolCall {
                    id: Text::word(""),
                    name,
                    arguments,
                    signature: None,
                }));
                let content = result.into_iter().map(Part::Text).collect();
                let is_error = is_error && !both.open_ai && !both.responses;
                user.push(Part::ToolResult(ToolResult { id: Text::word(""), content, is_error }));
            }
            if assistant.is_empty() {
                assistant.push(Part::Text(Text::word("yes")));
            }
            user.extend(said);
            vec![(Role::Assistant, assistant), (Role::User, user)]
        })
}

/// Anthropic takes no blanks alone.
fn say_something(part: &mut Part<'static>) {
    match part {
        Part::Text(text) if text.unescaped().trim().is_empty() => *text = Text::word("so"),
        Part::ToolResult(result) => result.content.iter_mut().for_each(say_something),
        _ => {}
    }
}

/// Whether a model of Anthropic's would think at this: not within its calls, and not with all settings.
fn may_think(turns: &[Turn<'_>], sampling: &Sampling<'_>, forced: bool) -> bool {
    let within =
        turns.last().is_some_and(|turn| turn.parts.iter().any(|part| matches!(part, Part::ToolResult(_))));
    let least = |number: &Option<serde_json::Number>, least| {
        number.as_ref().is_none_or(|number| number.as_f64() >= Some(least))
    };
    !within
        && !forced
        && least(&sampling.temperature, 1.0)
        && least(&sampling.top_p, 0.95)
        && sampling.top_k.is_none()
}

fn turns(both: Both) -> impl Strategy<Value = Vec<Turn<'static>>> {
    (said(), prop::collection::vec(exchange(both), 0..4)).prop_map(move |(first, exchanges)| {
        let all = std::iter::once((Role::User, first)).chain(exchanges.into_iter().flatten());
        let (mut called, mut answered) = (0, 0);
        let mut number = |part: &mut Part<'static>| match part {
            Part::ToolCall(call) => {
                called += 1;
                call.id = Text::plain(&format!("call_{called}"));
            }
            Part::ToolResult(result) => {
                answered += 1;
                result.id = Text::plain(&format!("call_{answered}"));
            }
            _ => {}
        };
        all.map(|(role, mut parts)| {
            parts.iter_mut().for_each(&mut number);
            if both.anthropic {
                parts.iter_mut().for_each(say_something);
            }
            Turn::new(role, parts)
        })
        .collect()
    })
}

const SCHEMA: &str =
    r#"{"type":"object","properties":{"a":{"type":"string"}},"required":["a"],"additionalProperties":false}"#;

fn tools(both: Both) -> impl Strategy<Value = Vec<Tool<'static>>> {
    let strict = if both.gemini { select(vec![None]) } else { select(vec![None, Some(true), Some(false)]) };
    let tool = (name(), prop::option::of(text()), strict).prop_map(|(name, description, strict)| Tool {
        name,
        description,
        parameters: Some(Cow::Borrowed(SCHEMA)),
        strict,
        cached: false,
    });
    prop::collection::vec(tool, 0..4)
}

fn number(values: &'static [&'static str]) -> impl Strategy<Value = Option<serde_json::Number>> {
    prop::option::of(select(values).prop_map(|text| serde_json::from_str(text).unwrap()))
}

fn sampling(both: Both) -> impl Strategy<Value = Sampling<'static>> {
    let some = move |on: bool, strategy: &'static [&'static str]| {
        number(strategy).prop_map(move |value| value.filter(|_| on))
    };
    (
        number(&["0", "0.7", "1", "1.0"]),
        number(&["0.1", "0.95"]),
        some(!both.open_ai && !both.responses, &["1", "41"]),
        some(!both.anthropic && !both.responses, &["0.5", "-1.5"]),
        some(!both.anthropic && !both.responses, &["2", "0.25"]),
        some(!both.anthropic && !both.responses, &["42"]),
        // Anthropic stops at no blanks.
        prop::collection::vec(
            text().prop_filter("blanks", |text| !text.unescaped().trim().is_empty()),
            if both.responses { 0..1 } else { 0..3 },
        ),
        prop::option::of(2u32..8)
            .prop_map(move |choices| choices.filter(|_| !both.anthropic && !both.responses)),
    )
        .prop_map(
            move |(temperature, top_p, top_k, frequency_penalty, presence_penalty, seed, stop, choices)| {
                // Beside a `top_p` it says nothing, and Anthropic takes one of the two.
                let is_unsaid =
                    |number: &Number| both.anthropic && top_p.is_some() && number.as_f64() == Some(1.0);
                Sampling {
                    temperature: temperature.filter(|number| !is_unsaid(number)),
                    top_p,
                    top_k,
                    frequency_penalty,
                    presence_penalty,
                    seed,
                    stop,
                    choices,
                }
            },
        )
}

fn shape(from: Format, both: Both) -> impl Strategy<Value = Shape<'static>> {
    (0..3).prop_map(move |kind| match kind {
        1 if !both.anthropic => Shape::Json,
        2 => Shape::Schema {
            name: matches!(from, Format::OpenAi | Format::Responses).then_some(Text::word("answer")),
            schema: Cow::Borrowed(SCHEMA),
            strict: (from == Format::Anthropic || !both.gemini).then_some(true),
        },
        _ => Shape::Text,
    })
}

/// A conversation that both formats can express.
fn conversation(from: Format, to: Format) -> impl Strategy<Value = Conversation<'static>> {
    let both = Both::of(from, to);
    let thinking = select(vec![None, Some(Effort::Low), Some(Effort::Medium), Some(Effort::High)]);
    let verbosity = prop::option::of(select(vec![Verbosity::Low, Verbosity::Medium, Verbosity::High]));
    let as_effort = matches!(from, Format::OpenAi | Format::Responses);
    (
        prop::collection::vec(text().prop_filter("blanks", |text| !text.unescaped().trim().is_empty()), 0..3),
        turns(both),
        tools(both),
        (0..5, any::<bool>(), any::<bool>()),
        sampling(both),
        shape(from, both),
        (thinking, verbosity, 30_000u32..60_000, prop::option::of(name())),
    )
        .prop_map(
            move |(system, turns, tools, choice, sampling, shape, (effort, verbosity, cap, user))| {
                let mut conversation = Conversation::new(from);
                conversation.tool_choice = match (choice.0, tools.first()) {
                    (1, Some(_)) => Some(ToolChoice::Auto),
                    (2, Some(_)) => Some(ToolChoice::Any),
                    (3, Some(_)) => Some(ToolChoice::None),
                    (4, Some(tool)) => Some(ToolChoice::Named(tool.name.clone())),
                    _ => None,
                };
                let forced = matches!(&conversation.tool_choice, Some(choice) if *choice != ToolChoice::None);
                conversation.parallel_tools = (choice.1 && forced && !both.gemini).then_some(choice.2);
                let may_think = !both.anthropic
                    || may_think(
                        &turns,
                        &sampling,
                        forced && conversation.tool_choice != Some(ToolChoice::Auto),
                    );
                conversation.thinking = effort.filter(|_| may_think).map(|effort| match as_effort {
                    true => Thinking::Effort(effort),
                    false => Thinking::Budget(effort.budget()),
                });
                conversation.verbosity = verbosity.filter(|_| !both.anthropic && !both.gemini);
                conversation.output_cap = Some(cap);
                conversation.user = user.filter(|_| !both.gemini);
                Conversation { system, turns, tools, sampling, shape, ..conversation }
            },
        )
}

/// All that a conversation says, but for where it stood.
fn facts(conversation: &Conversation<'_>) -> String {
    let mut out = String::new();
    for turn in &conversation.turns {
        out.push_str(&format!("{:?} {:?}\n", turn.role, turn.parts));
    }
    let Conversation {
        system,
        tools,
        tool_choice,
        parallel_tools,
        shape,
        thinking,
        verbosity,
        sampling,
        output_cap,
        user,
        ..
    } = conversation;
    out.push_str(&format!(
        "{system:?}\n{tools:?}\n{tool_choice:?} {parallel_tools:?}\n{shape:?} {thinking:?} {verbosity:?}\n{sampling:?}\n{output_cap:?} {user:?}"
    ));
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    /// Each pair of formats, with tools, pictures and all that both can say.
    #[test]
    fn a_conversation_survives_there_and_back(
        (from, to, mut asked) in select(pairs().collect::<Vec<_>>())
            .prop_flat_map(|(from, to)| conversation(from, to).prop_map(move |asked| (from, to, asked)))
    ) {
        let mut left = LeftOut::default();
        let body = String::from_utf8(write(&mut asked, &target(from), &mut left).unwrap()).unwrap();
        let first = facts(&read(from, &body, &mut left).unwrap());
        prop_assert_eq!(&first, &facts(&asked), "the format itself loses something");
        let there = request(from, &body, &target(to)).unwrap();
        serde_json::from_slice::<serde_json::Value>(&there.body).unwrap();
        let there_text = std::str::from_utf8(&there.body).unwrap();
        let back = request(to, there_text, &target(from)).unwrap();
        prop_assert_eq!(left.names(), &[] as &[&str]);
        prop_assert_eq!(there.left_out.names(), &[] as &[&str]);
        let back_text = std::str::from_utf8(&back.body).unwrap();
        let again = read(from, back_text, &mut left).unwrap();
        prop_assert_eq!(facts(&again), first, "by way of {}", there_text);
    }

    /// Whatever the bytes, there is a body or a fault, and never a panic.
    #[test]
    fn any_text_is_converted_or_refused(body in prop_oneof![".{0,200}", "[\\{\\}\\[\\]\",:a-z0-9]{0,200}"]) {
        for (from, to) in pairs() {
            let _either = request(from, &body, &target(to));
        }
    }
}
