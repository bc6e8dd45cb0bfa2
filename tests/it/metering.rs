//! Metering against the simulated upstream's own bill, over all routes at once: with callers that leave, streams that
//! break, and upstreams that fail. Every row of the bill is a row of the log, token by token and to the nano, and what
//! was not billed was not charged.
//!
//! A short run in the suite; `make metering` makes 10,000 calls (`METERING_CALLS`, `METERING_SEED`).

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::endpoints::{assert_billed, calls};
use crate::support::demo::{Demo, nano};
use crate::support::http::{Ask, Connection};

const WORKERS: u64 = 4;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// A small generator, so that a run can be repeated by its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.0 >> 33) % limit as u64).unwrap()
    }
}

/// A tool as the requests at this address have it.
fn tool_of(path: &str) -> Value {
    let schema = json!({"type": "object", "properties": {"echo": {"type": "string"}}});
    match path {
        "messages" => json!({"name": "weather_of", "input_schema": schema}),
        "responses" => {
            json!({"type": "function", "name": "weather_of", "parameters": schema, "strict": false})
        }
        _ => json!({"type": "function", "function": {"name": "weather_of", "parameters": schema}}),
    }
}

/// One call of the mix; a caller may leave after its first events.
fn call(connection: &mut Connection, demo: &Demo, key: &str, random: &mut Random) {
    let has_tools = random.below(2) == 0;
    let tool = if has_tools { "#tool " } else { "" };
    let text = format!("{tool}call {} one two three four five six", random.below(1_000_000));
    let stream = |path: &str, model: &str, field: &str| {
        let said = if field == "messages" { json!([{"role": "user", "content": text}]) } else { json!(text) };
        let mut body = json!({"model": model, "stream": true});
        body[field] = said;
        if path == "messages" {
            body["max_tokens"] = json!(500);
        }
        if has_tools && field != "prompt" {
            body["tools"] = json!([tool_of(path)]);
        }
        Ask::post(format!("/v1/{path}"), &body).bearer(key)
    };
    // Messages are converted on their way to a chat.
    let formats = [
        ("chat/completions", "messages"),
        ("completions", "prompt"),
        ("responses", "input"),
        ("messages", "messages"),
    ];
    let (path, field) = formats[random.below(formats.len())];
    let (ask, leaves_after) = match random.below(10) {
        0 => (stream(path, "demo-slow", field), Some(random.below(6))),
        1 => (stream(path, "demo-cut", field), None),
        2 => (stream(path, "gpt-5-mini", field), Some(random.below(6))),
        3 => (stream(path, "demo-no-usage", field), None),
        4 => (
            Ask::chat(key, ["demo-500", "demo-429", "demo-cut", "demo-no-credit"][random.below(4)], &text),
            None,
        ),
        _ => {
            let mut mix = calls(key);
            (mix.swap_remove(random.below(mix.len())).2, None)
        }
    };
    let reply = match leaves_after {
        Some(events) => {
            let begun = connection.send(&ask).and_then(|()| connection.head());
            for _ in 0..events {
                let _event = begun.as_ref().ok().and_then(|_| connection.event().ok());
            }
            None
        }
        None => connection.ask(&ask).ok(),
    };
    // A connection on which something is left to be read is of no more use.
    if reply.is_none_or(|reply| !reply.whole) {
        *connection = demo.connect();
    }
}

/// H4: the metering of every route is the upstream's bill, row by row.
#[test]
fn h4_the_log_is_the_upstreams_bill_row_by_row() {
    let (count, seed) = (setting("METERING_CALLS", 160), setting("METERING_SEED", 1));
    let demo = Demo::start();
    let key = demo.key("healthy");
    let before = demo.bill().len();
    std::thread::scope(|scope| {
        for worker in 0..WORKERS {
            let (demo, key) = (&demo, &key);
            scope.spawn(move || {
                let mut random = Random(seed.wrapping_mul(1_000) + worker);
                let mut connection = demo.connect();
                for _ in 0..count / WORKERS {
                    call(&mut connection, demo, key, &mut random);
                }
            });
        }
    });
    demo.nothing_stays_held();
    let bill: Vec<Value> = demo.bill().into_iter().skip(before).collect();
    let rows = demo.rows_after("req_00000000000000000000000000");
    let mut by_upstream: HashMap<String, Value> = HashMap::new();
    for row in rows {
        if let Some(id) = row["upstream_request_id"].as_str() {
            by_upstream.insert(id.to_owned(), row);
        }
    }
    assert!(bill.len() as u64 > count / 2, "{} of {count} calls were billed (seed {seed})", bill.len());
    let mut billed = 0;
    for row in &bill {
        let id = row["upstream_request_id"].as_str().unwrap();
        let of_log = by_upstream.remove(id);
        let of_log = of_log.unwrap_or_else(|| panic!("seed {seed}: the log has no call for {row:#}"));
        assert_billed(of_log["endpoint"].as_str().unwrap(), &of_log, row);
        billed += nano(&row["cost"]);
    }
    // What is left of the log are calls from before, and calls that were billed by nobody.
    let known: Vec<String> = demo
        .bill()
        .iter()
        .take(before)
        .map(|row| row["upstream_request_id"].as_str().unwrap().to_owned())
        .collect();
    for (id, row) in by_upstream.iter().filter(|(id, _)| !known.contains(id)) {
        assert_eq!(row["charge"], "0", "seed {seed}: nobody billed {id}: {row:#}");
    }
    assert!(billed > 0);
    report(count, bill.len(), billed);
}

#[expect(clippy::print_stderr, reason = "whoever runs ten thousand calls wants the figures")]
fn report(calls: u64, rows: usize, billed: i64) {
    eprintln!(
        "{calls} calls, {rows} rows of the bill, {} in all: each equals its row of the log",
        ledger::Nano(billed)
    );
}
