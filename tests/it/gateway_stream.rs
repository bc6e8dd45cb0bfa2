//! Streams over real sockets: what is held back, what happens when either side leaves, and what it costs.

use std::io;

use serde_json::{Value, json};

use crate::support::demo::{Demo, nano, wait_until};
use crate::support::http::Ask;

const MODEL: &str = "gpt-5-mini";

fn has_usage(event: &str) -> bool {
    serde_json::from_str::<Value>(event).is_ok_and(|event| event["usage"].is_object())
}

fn finish(event: &str) -> Option<String> {
    let event: Value = serde_json::from_str(event).ok()?;
    event["choices"][0]["finish_reason"].as_str().map(str::to_owned)
}

/// H3: the usage event is there exactly if it was asked for, and the call is charged by it either way.
#[test]
fn a_stream_has_a_usage_event_exactly_if_it_was_asked_for() {
    let demo = Demo::start();
    let key = demo.key("healthy");
    let cases = [
        (json!({"stream": true}), 0),
        (json!({"stream": true, "stream_options": {"include_usage": false}}), 0),
        (json!({"stream": true, "stream_options": {"include_usage": true}}), 1),
    ];
    for (more, usages) in cases {
        let reply = demo.ask(&Ask::chat_with(&key, MODEL, "Hello there", more.clone()));
        assert!(reply.is_whole_answer(), "{}", reply.text());
        let events = reply.events();
        assert_eq!(events.iter().filter(|event| has_usage(event)).count(), usages, "{more}: {events:#?}");
        assert_eq!(events.iter().filter(|event| finish(event).is_some()).count(), 1, "{more}");
        assert_eq!(events.iter().filter(|event| *event == "[DONE]").count(), 1, "{more}");
        let text: String = events
            .iter()
            .filter_map(|event| serde_json::from_str::<Value>(event).ok())
            .filter_map(|event| event["choices"][0]["delta"]["content"].as_str().map(str::to_owned))
            .collect();
        assert_eq!(text, "echo: Hello there");
        let (row, billed) = (demo.row(reply.head.request_id()), demo.billed(reply.head.request_id()));
        assert_eq!((&row["usage_source"], &row["charge"]), (&json!("upstream"), &billed["cost"]));
    }
}

/// The promise: no byte before the hold, no end before the settlement. Seen from outside: at the first event
/// the call is in the log and held; when the finish reason comes it is settled.
#[test]
fn the_finish_of_a_stream_waits_for_its_settlement() {
    let demo = Demo::start();
    let mut connection = demo.connect();
    connection
        .send(&Ask::chat_with(&demo.key("healthy"), "demo-slow", "Hello", json!({"stream": true})))
        .unwrap();
    let head = connection.head().unwrap();
    connection.event().unwrap().unwrap();
    let row = demo.row(head.request_id());
    assert_eq!((&row["charge_state"], &row["status"]), (&json!("held"), &json!(0)), "{row:#}");
    let receipt = demo.receipt(head.request_id());
    assert!(receipt["policy"].as_str().unwrap().contains("running"), "{receipt:#}");
    let mut events = 1;
    let last = loop {
        let event = connection.event().unwrap().unwrap();
        events += 1;
        if finish(&event).is_some() {
            break event;
        }
        assert_ne!(event, "[DONE]");
    };
    assert_eq!(finish(&last).as_deref(), Some("stop"));
    let row = demo.row(head.request_id());
    assert_eq!((&row["charge_state"], &row["ending"]), (&json!("settled"), &json!("complete")), "{row:#}");
    assert_eq!(row["charge"], demo.billed(head.request_id())["cost"]);
    assert!(events > 20, "{events}");
    assert_eq!(connection.event().unwrap().as_deref(), Some("[DONE]"));
    assert_eq!(connection.event().unwrap(), None);
}

/// S2: a conversation of streamed turns, each closed in another way. What left the account is what the log says, what its
/// statement says and what the upstream bills, once.
#[test]
fn s2_a_conversation_is_debited_once_however_its_streams_are_closed() {
    let demo = Demo::start();
    let account = demo.account("Talker", "1");
    let key = demo.key_of(&account, json!([]));
    let mut turns = vec![json!({"role": "user", "content": "Hello"})];
    let mut requests = Vec::new();
    // All of it, up to the finish reason, in the middle, after the head alone.
    for events in [usize::MAX, 22, 5, 0] {
        let mut connection = demo.connect();
        let more = json!({"stream": true, "messages": turns});
        connection.send(&Ask::chat_with(&key, "demo-slow", "Hello", more)).unwrap();
        requests.push(connection.head().unwrap().request_id().to_owned());
        for _ in 0..events {
            if connection.event().unwrap().is_none() {
                break;
            }
        }
        drop(connection);
        turns.push(json!({"role": "assistant", "content": "a word"}));
        turns.push(json!({"role": "user", "content": "and then?"}));
    }
    demo.nothing_stays_held();
    let (mut logged, mut billed) = (0, 0);
    for request in &requests {
        let row = demo.row(request);
        assert_eq!(row["charge_state"], "settled", "{row:#}");
        logged += nano(&row["charge"]);
        billed += nano(&demo.billed(request)["cost"]);
    }
    let balance = demo.balance(&account);
    assert!(logged > 0);
    assert_eq!(
        [1_000_000_000 - nano(&balance["available"]), nano(&balance["movements"]["charges"])],
        [logged; 2]
    );
    assert_eq!(billed, logged);
    assert_eq!(demo.bill().iter().filter(|row| row["model"] == "demo-slow").count(), requests.len());
}

/// H4, S12: a caller that leaves in the middle: the upstream is read to its usage, and charged as its bill says.
#[test]
fn h4_s12_a_caller_that_leaves_is_drained_and_charged_as_the_bill_says() {
    let demo = Demo::start();
    let mut connection = demo.connect();
    connection
        .send(&Ask::chat_with(&demo.key("healthy"), "demo-slow", "Hello", json!({"stream": true})))
        .unwrap();
    let request = connection.head().unwrap().request_id().to_owned();
    for _ in 0..3 {
        connection.event().unwrap().unwrap();
    }
    drop(connection);
    wait_until("the call is settled", || demo.row(&request)["charge_state"] == "settled");
    let (row, billed) = (demo.row(&request), demo.billed(&request));
    assert_eq!(
        (&row["ending"], &row["usage_source"]),
        (&json!("caller_gone_drained"), &json!("upstream")),
        "{row:#}"
    );
    assert_eq!((&row["tokens"], &row["charge"]), (&billed["tokens"], &billed["cost"]));
    assert_eq!(billed["outcome"], "whole");
    let receipt = demo.receipt(&request);
    assert!(receipt["policy"].as_str().unwrap().contains("caller left"), "{receipt:#}");
}

/// A caller that leaves before a whole answer is charged for it, as the upstream did the work.
#[test]
fn h4_a_caller_that_leaves_before_a_whole_answer_is_charged_for_it() {
    let demo = Demo::start();
    let billed = demo.bill().len();
    let mut connection = demo.connect();
    connection.send(&Ask::chat(&demo.key("healthy"), MODEL, "Hello #delay_ms=300")).unwrap();
    // It is with the upstream as soon as money is held.
    wait_until("the call is held", || demo.held().iter().any(|held| held != "0"));
    drop(connection);
    demo.nothing_stays_held();
    let bill = demo.bill();
    assert_eq!(bill.len(), billed + 1);
    let row = demo.row(bill.last().unwrap()["gateway_request_id"].as_str().unwrap());
    assert_eq!(
        (&row["charge_state"], &row["charge"]),
        (&json!("settled"), &bill.last().unwrap()["cost"]),
        "{row:#}"
    );
}

/// The upstream breaks off: the stream ends with an error event, input and delivered output are charged.
#[test]
fn a_stream_that_the_upstream_cuts_ends_with_an_error_event_and_its_charge() {
    let demo = Demo::start();
    let text = "one two three four five six seven eight";
    let mut connection = demo.connect();
    connection
        .send(&Ask::chat_with(&demo.key("healthy"), "demo-cut", text, json!({"stream": true})))
        .unwrap();
    let request = connection.head().unwrap().request_id().to_owned();
    let mut events = Vec::new();
    while let Some(event) = connection.event().unwrap_or(None) {
        events.push(event);
    }
    let error: Value = serde_json::from_str(events.last().unwrap()).unwrap();
    assert_eq!(
        (&error["error"]["code"], &error["error"]["request_id"]),
        (&json!("stream_interrupted"), &json!(request))
    );
    assert!(events.iter().all(|event| event != "[DONE]" && finish(event).is_none()), "{events:#?}");
    let (row, billed) = (demo.row(&request), demo.billed(&request));
    assert_eq!((&row["code"], &row["ending"]), (&json!("stream_interrupted"), &json!("upstream_cut")));
    assert_eq!(row["usage_source"], "counted");
    assert_eq!((&row["tokens"], &row["charge"]), (&billed["tokens"], &billed["cost"]), "{row:#}");
    assert_eq!(error["error"]["charged"], row["charge"]);
    assert_ne!(row["charge"], "0");
}

/// A caller that reads slowly gets all of it.
#[test]
fn a_long_answer_comes_whole_and_costs_what_the_bill_says() -> io::Result<()> {
    let demo = Demo::start();
    let key = demo.key("healthy");
    for stream in [false, true] {
        let ask = Ask::chat_with(&key, MODEL, "Much, please #tokens=20000", json!({"stream": stream}));
        let reply = demo.connect().ask(&ask)?;
        assert!(reply.is_whole_answer() && reply.body.len() > 90_000, "{}", reply.body.len());
        let (row, billed) = (demo.row(reply.head.request_id()), demo.billed(reply.head.request_id()));
        assert_eq!((&row["tokens"], &row["charge"]), (&billed["tokens"], &billed["cost"]));
    }
    Ok(())
}
