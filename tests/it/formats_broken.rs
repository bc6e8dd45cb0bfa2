//! Streams of Anthropic's and Gemini's upstreams that are not what they should be, each read by a client of the same format
//! and by one of OpenAI's: no call is lost, each is charged as the policy says and has its row, and memory stays bounded.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use serde_json::{Value, json};
use tallygate::clock::{Clock, ManualClock, SystemClock};
use tallygate::gateway::tokens::{self, Family, count_text};

use crate::support::backend::Backend;
use crate::support::http::{Ask, Reply};
use crate::support::port::Port;
use crate::support::station::Station;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Provider {
    Anthropic,
    Gemini,
}

/// What a stream comes to.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Expected {
    /// Whole, and charged by the upstream's own figures: 20 in and 12 out.
    Told,
    /// Whole, and counted.
    Counted,
    /// Broken off: what came is counted, and charged.
    Cut,
}

/// One way in which a stream can be.
struct Case {
    name: &'static str,
    /// As the upstream sends it, piece by piece.
    pieces: Vec<Vec<u8>>,
    /// The text that a client has in the end, where it has one.
    text: Option<&'static str>,
    /// Of it, what is counted where the upstream's figures are none.
    counted: &'static str,
    /// Read by a client of the same format, and by another.
    expected: [Expected; 2],
}

const SAID: &str = "Hello w\u{f6}rld";

/// An event, as both formats write them.
fn event(data: &Value) -> Vec<u8> {
    format!("data: {data}\n\n").into_bytes()
}

fn raw(data: &[u8]) -> Vec<u8> {
    [b"data: ", data, b"\n\n"].concat()
}

impl Provider {
    fn start(self) -> Vec<u8> {
        match self {
            Provider::Anthropic => [
                event(&json!({"type": "message_start", "message": {"id": "msg_1", "type": "message",
                    "role": "assistant", "model": "m", "content": [], "stop_reason": null,
                    "usage": {"input_tokens": 20, "output_tokens": 1}}})),
                event(&json!({"type": "content_block_start", "index": 0,
                    "content_block": {"type": "text", "text": ""}})),
            ]
            .concat(),
            Provider::Gemini => Vec::new(),
        }
    }

    fn says(self, text: &str) -> Vec<u8> {
        match self {
            Provider::Anthropic => event(&json!({"type": "content_block_delta", "index": 0,
                "delta": {"type": "text_delta", "text": text}})),
            Provider::Gemini => event(&json!({"candidates": [{"index": 0,
                "content": {"role": "model", "parts": [{"text": text}]}}], "modelVersion": "m"})),
        }
    }

    /// The end of the text, with what is told of the tokens.
    fn ends(self, usage: Option<&str>) -> Vec<u8> {
        let usage = |name: &str| usage.map(|usage| format!(",\"{name}\":{usage}")).unwrap_or_default();
        match self {
            Provider::Anthropic => raw(format!(
                r#"{{"type":"message_delta","delta":{{"stop_reason":"end_turn"}}{}}}"#,
                usage("usage")
            )
            .as_bytes()),
            Provider::Gemini => raw(format!(
                r#"{{"candidates":[{{"index":0,"content":{{"parts":[]}},"finishReason":"STOP"}}]{}}}"#,
                usage("usageMetadata")
            )
            .as_bytes()),
        }
    }

    /// A usage with such a number of output tokens.
    fn usage(self, output: &str) -> String {
        match self {
            Provider::Anthropic => format!(r#"{{"output_tokens":{output}}}"#),
            Provider::Gemini => format!(r#"{{"promptTokenCount":20,"candidatesTokenCount":{output}}}"#),
        }
    }

    fn stops(self) -> Vec<u8> {
        match self {
            Provider::Anthropic => event(&json!({"type": "message_stop"})),
            Provider::Gemini => Vec::new(),
        }
    }

    /// A stream with something between its two words and with a usage of its own at the end.
    fn stream(self, between: &[u8], usage: Option<&str>) -> Vec<u8> {
        let (hello, world) = SAID.split_at(6);
        let parts = [
            self.start(),
            self.says(hello),
            between.to_vec(),
            self.says(world),
            self.ends(usage),
            self.stops(),
        ];
        parts.concat()
    }

    fn broken(self) -> Vec<u8> {
        raw(match self {
            Provider::Anthropic => br#"{"type":"content_block_delta","index":0,"delta":{"type":"text_del"#,
            Provider::Gemini => br#"{"candidates":[{"content":{"parts":[{"te"#,
        })
    }

    fn fails(self) -> Vec<u8> {
        event(&match self {
            Provider::Anthropic => {
                json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}})
            }
            Provider::Gemini => {
                json!({"error": {"code": 503, "message": "Overloaded", "status": "UNAVAILABLE"}})
            }
        })
    }

    fn cases(self) -> Vec<Case> {
        use Expected::{Counted, Cut, Told};
        let good = self.usage("12");
        let (hello, _) = SAID.split_at(6);
        let case = |name, stream: Vec<u8>, text, counted, expected| Case {
            name,
            pieces: vec![stream],
            text,
            counted,
            expected,
        };
        let whole = self.stream(b"", Some(&good));
        let in_bytes = whole.iter().map(|byte| vec![*byte]).collect();
        let mut not_utf8 = self.says("?");
        let at = not_utf8.iter().position(|byte| *byte == b'?').unwrap();
        not_utf8[at] = 0xff;
        let twice: Vec<u8> = String::from_utf8(whole.clone())
            .unwrap()
            .split_inclusive("\n\n")
            .flat_map(|event| [event, event])
            .collect::<String>()
            .into_bytes();
        let without_end = [self.start(), self.says(hello)].concat();
        let mut cases = vec![
            case("as it should be", whole, Some(SAID), "", [Told, Told]),
            Case {
                name: "letters in two pieces",
                pieces: in_bytes,
                text: Some(SAID),
                counted: "",
                expected: [Told, Told],
            },
            // A client of the same format is given the bytes as they came; what cannot be converted breaks off.
            case("broken JSON", self.stream(&self.broken(), Some(&good)), None, hello, [Told, Cut]),
            case("no UTF-8", self.stream(&not_utf8, Some(&good)), None, hello, [Told, Cut]),
            case(
                "an unknown event",
                self.stream(&event(&json!({"type": "news", "news": [1, {"deep": null}]})), Some(&good)),
                Some(SAID),
                "",
                [Told, Told],
            ),
            case("no JSON object", self.stream(&raw(b"[1,2]"), Some(&good)), None, hello, [Told, Cut]),
            case("an end in the middle", without_end.clone(), None, hello, [Cut, Cut]),
            case("an error", [without_end.clone(), self.fails()].concat(), None, hello, [Cut, Cut]),
            case("every event twice", twice, None, "", [Told, Told]),
            case("no usage", self.stream(b"", None), Some(SAID), SAID, [Counted, Counted]),
            case("usage: null", self.stream(b"", Some("null")), Some(SAID), SAID, [Counted, Counted]),
        ];
        for (name, usage) in [
            ("a negative usage", self.usage("-5")),
            ("a huge usage", self.usage("18446744073709551615")),
            ("a usage beyond numbers", self.usage("1e300")),
            ("a usage that nobody can have", self.usage("9000000000")),
            ("a usage that is a text", self.usage("\"12\"")),
            ("a usage that is a list", "[20,12]".to_owned()),
        ] {
            cases.push(case(name, self.stream(b"", Some(&usage)), Some(SAID), SAID, [Counted, Counted]));
        }
        if self == Provider::Anthropic {
            let parts = [self.start(), self.says(SAID), self.ends(Some(&good))];
            cases.push(case("no message_stop", parts.concat(), Some(SAID), "", [Told, Told]));
        }
        cases
    }

    fn model(self) -> &'static str {
        match self {
            Provider::Anthropic => "of-anthropic",
            Provider::Gemini => "of-gemini",
        }
    }

    /// A question that its upstream answers with the case of this number; `own`: in its own format.
    fn ask(self, key: &str, case: usize, own: bool) -> Ask {
        let text = format!("case {case};");
        match (own, self) {
            (true, Provider::Anthropic) => {
                let body = json!({"model": self.model(), "max_tokens": 200, "stream": true,
                    "messages": [{"role": "user", "content": text}]});
                Ask::post("/v1/messages", &body).header("x-api-key", key)
            }
            (true, Provider::Gemini) => {
                let body = json!({"contents": [{"role": "user", "parts": [{"text": text}]}],
                    "generationConfig": {"maxOutputTokens": 200}});
                let path = format!("/v1beta/models/{}:streamGenerateContent?alt=sse", self.model());
                Ask::post(path, &body).header("x-goog-api-key", key)
            }
            (false, _) => {
                Ask::chat_with(key, self.model(), &text, json!({"stream": true, "max_tokens": 200}))
            }
        }
    }

    /// The text that a client was given.
    fn heard(self, reply: &Reply, own: bool) -> String {
        let events = reply.events();
        let events = events.iter().filter_map(|event| serde_json::from_str::<Value>(event).ok());
        let texts = events.filter_map(|event| {
            let text = match (own, self) {
                (true, Provider::Anthropic) => &event["delta"]["text"],
                (true, Provider::Gemini) => &event["candidates"][0]["content"]["parts"][0]["text"],
                (false, _) => &event["choices"][0]["delta"]["content"],
            };
            text.as_str().map(str::to_owned)
        });
        texts.collect()
    }
}

/// An upstream that answers each call with what its question names; `None`: with an event that does not end.
fn upstream(cases: Vec<Vec<Vec<u8>>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let cases = Arc::new(cases);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, cases) = (stream.unwrap(), Arc::clone(&cases));
            // Its caller may end before it does.
            std::thread::spawn(move || drop(answer(stream, &cases)));
        }
    });
    address
}

fn answer(mut stream: TcpStream, cases: &[Vec<Vec<u8>>]) -> std::io::Result<()> {
    let (mut request, mut buffer) = (Vec::new(), [0; 4_096]);
    let case = loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        request.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&request).into_owned();
        if let Some((number, _)) = text.split_once("case ").and_then(|(_, behind)| behind.split_once(';')) {
            break number.parse::<usize>().unwrap();
        }
    };
    stream.set_nodelay(true)?;
    stream.write_all(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n",
    )?;
    let send = |stream: &mut TcpStream, piece: &[u8]| {
        let chunk = [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat();
        stream.write_all(&chunk)
    };
    match cases.get(case) {
        Some(pieces) => pieces.iter().try_for_each(|piece| send(&mut stream, piece))?,
        None => {
            send(&mut stream, b"data: {\"type\":\"content_block_delta\",\"delta\":{\"text\":\"")?;
            let more = [b'x'; 64 << 10];
            for _ in 0..1_024 {
                send(&mut stream, &more)?;
            }
        }
    }
    stream.write_all(b"0\r\n\r\n")?;
    stream.flush()
}

/// A gateway with a channel of each provider, both at this upstream; and a key.
fn open(address: SocketAddr) -> (Station, String) {
    let clock = Arc::new(ManualClock::new(SystemClock.now_ms()));
    let settings = vec![("upstream.cool_down_failures", "1000".to_owned())];
    let station = Station::start(Backend::embedded(), clock, Port::reserve(), settings);
    for (provider, base) in [(Provider::Anthropic, "v1"), (Provider::Gemini, "v1beta")] {
        let model = provider.model();
        station.post("/api/models", json!({"name": model})).ok();
        let price = json!({"model": model, "per_million": {"input": "1", "output": "2"}});
        station.post("/api/prices", price).ok();
        let name = model.trim_start_matches("of-");
        let channel = json!({"name": name, "provider": name, "base_url": format!("http://{address}/{base}"),
            "credential": "secret-of-the-channel", "models": {model: model}, "environments": ["live"]});
        station.post("/api/channels", channel).ok();
    }
    let account =
        station.post("/api/accounts", json!({"name": "Ann"})).ok()["id"].as_str().unwrap().to_owned();
    let credit = json!({"amount": "10", "kind": "purchased", "reference": "r", "reason": "test"});
    station.post(&format!("/api/accounts/{account}/credits"), credit).ok();
    let key = station.post("/api/keys", json!({"account": account, "name": "key"})).ok();
    let key = key["key"].as_str().unwrap().to_owned();
    (station, key)
}

/// The row says how the call ended, who counted, how much, and what that costs.
fn assert_row(what: &str, row: &Value, case: &Case, expected: Expected) {
    let (ending, source, code) = match expected {
        Expected::Told => ("complete", "upstream", Value::Null),
        Expected::Counted => ("complete", "counted", Value::Null),
        Expected::Cut => ("upstream_cut", "counted", json!("stream_interrupted")),
    };
    assert_eq!((&row["ending"], &row["usage_source"]), (&json!(ending), &json!(source)), "{what}: {row:#}");
    assert_eq!((&row["charge_state"], &row["code"]), (&json!("settled"), &code), "{what}: {row:#}");
    let tokens = |class: &str| row["tokens"][class].as_u64().unwrap_or(0);
    let output = match expected {
        Expected::Told => 12,
        Expected::Counted | Expected::Cut => count_text(Family::O200k, case.counted),
    };
    assert_eq!(tokens("output"), output, "{what}: {row:#}");
    assert!(tokens("input") > 0, "{what}: {row:#}");
    let cost = ledger::Nano(i64::try_from(tokens("input") * 1_000 + tokens("output") * 2_000).unwrap());
    assert_eq!(row["charge"], json!(cost.to_string()), "{what}: {row:#}");
}

/// H4, S13: the whole table, for both providers and both clients.
#[test]
fn h4_broken_streams_of_every_kind_are_contained_charged_and_logged() {
    let table: Vec<(Provider, Case)> = [Provider::Anthropic, Provider::Gemini]
        .into_iter()
        .flat_map(|provider| provider.cases().into_iter().map(move |case| (provider, case)))
        .collect();
    let address = upstream(table.iter().map(|(_, case)| case.pieces.clone()).collect());
    let (station, key) = open(address);
    for (number, (provider, case)) in table.iter().enumerate() {
        for (own, expected) in [true, false].into_iter().zip(case.expected) {
            let what =
                format!("{provider:?}, {}, {}", case.name, if own { "its own client" } else { "another" });
            let reply = station.ask(&provider.ask(&key, number, own));
            assert!(reply.head.status == 200 && reply.whole, "{what}: {}", reply.text());
            let row = station.get(&format!("/api/requests/{}/row", reply.head.request_id()));
            assert_row(&what, &row, case, expected);
            let told = reply.text().contains("stream_interrupted");
            assert_eq!(told, expected == Expected::Cut, "{what}: {}", reply.text());
            if let Some(text) = case.text {
                assert_eq!(provider.heard(&reply, own), text, "{what}: {}", reply.text());
            }
        }
    }
}

/// An event of 64 MiB: it is read up to its bound and no further, whoever reads it; the log says why the stream broke off.
#[test]
fn an_event_that_does_not_end_is_cut_at_its_bound() {
    let (station, key) = open(upstream(Vec::new()));
    let peak_kib = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
    };
    // What counting needs is no part of it.
    tokens::warm(Family::O200k);
    let before = peak_kib();
    for provider in [Provider::Anthropic, Provider::Gemini] {
        for own in [true, false] {
            let reply = station.ask(&provider.ask(&key, 0, own));
            assert!(reply.text().contains("stream_interrupted"), "{}", reply.text());
            assert!(reply.body.len() < 4_096, "{}", reply.body.len());
            let row = station.get(&format!("/api/requests/{}/row", reply.head.request_id()));
            assert_eq!((&row["ending"], &row["charge"]), (&json!("upstream_cut"), &json!("0")), "{row:#}");
            let said = row["upstream_error"].as_str().unwrap_or_default();
            assert!(said.contains("longer than"), "{row:#}");
        }
    }
    let grown = peak_kib().saturating_sub(before);
    assert!(grown < 32 << 10, "memory grew by {grown} KiB");
}
