//! What it costs to turn a conversation of 100 KB from one format into another, and an event of a stream.
//!
//! `cargo bench --bench convert`. The goal is one millisecond for OpenAI ↔ Anthropic.
#![expect(clippy::expect_used, reason = "a measurement ends where it cannot go on")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tallygate::gateway::convert::{Converted, Envelope, Format, StreamConverter, Target, request};

const BODY_BYTES: usize = 100 * 1024;

/// A conversation with tools: prose with line breaks and quotes, calls with arguments and their results.
fn conversation() -> String {
    let tools: Vec<serde_json::Value> = (0..8)
        .map(|n| {
            let schema = serde_json::json!({"type": "object", "properties": {"path": {"type": "string", "description":
                "where to look"}, "depth": {"type": "integer"}}, "required": ["path"]});
            serde_json::json!({"type": "function", "function": {"name": format!("tool_{n}"),
                "description": "Looks for something and says what it found.", "parameters": schema}})
        })
        .collect();
    let prose =
        "He said \"look again\", and so they did.\nLine after line – 一行又一行 – nothing was there.\n"
            .repeat(8);
    let mut messages = vec![serde_json::json!({"role": "system", "content": "Be brief."})];
    let mut n = 0;
    let mut bytes = 0;
    while bytes < BODY_BYTES {
        let id = format!("call_{n}");
        n += 1;
        let turns = [
            serde_json::json!({"role": "user", "content": prose}),
            serde_json::json!({"role": "assistant", "content": "I look.", "tool_calls": [{"id": id, "type": "function",
                "function": {"name": "tool_1", "arguments": "{\"path\": \"/a/b/c\", \"depth\": 3}"}}]}),
            serde_json::json!({"role": "tool", "tool_call_id": id, "content": prose}),
            serde_json::json!({"role": "assistant", "content": prose}),
        ];
        bytes += turns.iter().map(|turn| turn.to_string().len()).sum::<usize>();
        messages.extend(turns);
    }
    serde_json::json!({"model": "m", "max_completion_tokens": 2048, "messages": messages, "tools": tools})
        .to_string()
}

fn target(format: Format) -> Target<'static> {
    Target {
        format,
        model: "m",
        stream: false,
        output_cap: None,
        newer_cap_field: true,
        size_hint: BODY_BYTES + BODY_BYTES / 8,
    }
}

fn requests(c: &mut Criterion) {
    let open_ai = conversation();
    let formats = [(Format::OpenAi, "OpenAI"), (Format::Anthropic, "Anthropic"), (Format::Gemini, "Gemini")];
    for (from, from_name) in formats {
        let body = match from {
            Format::OpenAi => open_ai.clone(),
            _ => {
                let there = request(Format::OpenAi, &open_ai, &target(from)).expect("it can be converted");
                String::from_utf8(there.body.to_vec()).expect("JSON is text")
            }
        };
        let mut group = c.benchmark_group("request of 100 KB");
        group.throughput(Throughput::Bytes(body.len() as u64));
        for (to, to_name) in formats.into_iter().filter(|(to, _)| *to != from) {
            group.bench_function(format!("{from_name} to {to_name}"), |b| {
                b.iter(|| request(from, black_box(&body), &target(to)).expect("it can be converted"));
            });
        }
        group.finish();
    }
}

fn events(c: &mut Criterion) {
    let event: &[u8] =
        br#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" and so on"}}"#;
    c.bench_function("event of a stream, Anthropic to OpenAI", |b| {
        let envelope = Envelope {
            model: "m".into(),
            id: "r".into(),
            created_s: 0,
            include_usage: false,
            echo: Box::default(),
            counted: None,
            one_call: false,
        };
        let mut converter = StreamConverter::new(Format::Anthropic, Format::OpenAi, envelope);
        let mut into = Converted::default();
        b.iter(|| {
            into.now.clear();
            converter.push(black_box(event), &mut into).expect("it is an event");
        });
    });
}

criterion_group!(benches, requests, events);
criterion_main!(benches);
