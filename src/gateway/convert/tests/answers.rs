//! Whole answers there and back, and their tokens.

use std::borrow::Cow;

use ledger::{TokenClass, Usage};
use proptest::prelude::*;
use proptest::sample::select;

use super::super::conversation::{Part, ToolCall};
use super::super::proof::Proof;
use super::super::reply::{Choice, Finish, Reply};
use super::super::{Format, Text, answer, read_reply, write_reply};
use super::{envelope, native, pairs};

fn text() -> impl Strategy<Value = Text<'static>> {
    ".{1,40}".prop_map(|text| Text::plain(&text))
}

pub(super) fn reply(from: Format, to: Format) -> impl Strategy<Value = Reply<'static>> {
    let anthropic = from == Format::Anthropic || to == Format::Anthropic;
    let open_ai = from == Format::OpenAi || to == Format::OpenAi;
    let call = ("[a-z0-9_]{1,9}", "[a-z_]{1,9}", text()).prop_map(|(id, name, text)| {
        let arguments = Cow::Owned(format!("{{\"q\":\"{}\"}}", text.escaped()));
        ToolCall { id: Text::plain(&id), name: Text::plain(&name), arguments, signature: None }
    });
    let usage = prop::collection::vec(1u64..10_000, 4);
    (
        prop::option::of((text(), text())),
        text(),
        prop::collection::vec(call, 0..3),
        select(vec![Finish::Stop, Finish::Length, Finish::Filtered]),
        usage,
    )
        .prop_map(move |(thought, said, calls, finish, tokens)| {
            let mut parts = Vec::new();
            if let Some((text, signature)) = thought {
                parts.push(Part::Thinking {
                    text,
                    signature: (!open_ai).then_some(Proof { of: native(from), text: signature }),
                });
            }
            parts.push(Part::Text(said));
            let finish = if calls.is_empty() { finish } else { Finish::ToolCalls };
            parts.extend(calls.into_iter().map(Part::ToolCall));
            let mut usage = Usage::default();
            usage.set(TokenClass::Input, tokens[0]);
            usage.set(TokenClass::CacheRead, tokens[1]);
            usage.set(TokenClass::Output, tokens[2]);
            if !anthropic {
                usage.set(TokenClass::Reasoning, tokens[3]);
            }
            Reply {
                id: Some(Text::word("answer_1")),
                model: Some(Text::word("model-x")),
                choices: vec![Choice { index: 0, parts, finish }],
                usage: Some(usage),
            }
        })
}

fn facts(reply: &Reply<'_>) -> String {
    format!("{:?} {:?} {:?} {:?}", reply.id, reply.model, reply.choices, reply.usage)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn an_answer_survives_there_and_back(
        (from, to, said) in select(pairs().collect::<Vec<_>>())
            .prop_flat_map(|(from, to)| reply(from, to).prop_map(move |said| (from, to, said)))
    ) {
        let body = write_reply(from, &said, &envelope()).unwrap();
        let first = facts(&read_reply(from, std::str::from_utf8(&body).unwrap()).unwrap());
        prop_assert_eq!(&first, &facts(&said), "the format itself loses something");
        let there = answer(from, to, &body, &envelope()).unwrap();
        let back = answer(to, from, &there, &envelope()).unwrap();
        let again = facts(&read_reply(from, std::str::from_utf8(&back).unwrap()).unwrap());
        prop_assert_eq!(again, first);
    }

    /// Classes that a format does not know join their like: no token is lost and none counts twice.
    #[test]
    fn s15_tokens_in_and_out_stay_the_same(
        (from, to) in select(pairs().collect::<Vec<_>>()),
        tokens in prop::collection::vec(1u64..10_000, TokenClass::COUNT),
    ) {
        let mut usage = Usage::default();
        for (class, tokens) in TokenClass::ALL.into_iter().zip(&tokens) {
            usage.set(class, *tokens);
        }
        let said = Reply {
            choices: vec![Choice { index: 0, parts: vec![Part::Text(Text::word("hi"))], finish: Finish::Stop }],
            usage: Some(usage),
            ..Reply::default()
        };
        let body = write_reply(from, &said, &envelope()).unwrap();
        let there = answer(from, to, &body, &envelope()).unwrap();
        let read = read_reply(to, std::str::from_utf8(&there).unwrap()).unwrap().usage.unwrap();
        for side in [TokenClass::Input, TokenClass::Output] {
            let sum = |usage: &Usage| -> u64 {
                TokenClass::ALL.into_iter().filter(|class| class.parent() == side).map(|class| usage.get(class)).sum()
            };
            prop_assert_eq!(sum(&read), sum(&usage));
        }
        prop_assert_eq!(read.get(TokenClass::CacheRead), usage.get(TokenClass::CacheRead));
    }
}
