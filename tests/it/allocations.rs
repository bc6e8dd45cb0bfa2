//! What the way of a call allocates, counted.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use tallygate::clock::{Clock, ManualClock, SystemClock};
use tallygate::directory::organization::DEPTH_MAX;
use tallygate::directory::{Change, Object, Organization, Snapshot};
use tallygate::gateway::ladder::{self, Verdict};
use tallygate::id::OrganizationId;

use crate::support::backend::Backend;
use crate::support::http::Ask;
use crate::support::memory;
use crate::support::port::Port;
use crate::support::station::Station;

#[path = "../../benches/case/mod.rs"]
mod case;

/// How many allocations the decision of a call makes that passes every rung.
fn of_decide(snapshot: &Snapshot) -> u64 {
    let facts = case::facts(snapshot, 1);
    let readings = case::readings(snapshot, facts.at_ms);
    let (allocations, verdict) =
        memory::allocations(|| ladder::decide(snapshot, &facts, &readings, &case::POLICY));
    assert!(matches!(verdict, Verdict::Admit(_)), "{verdict:?}");
    allocations
}

/// Puts more organizations above the one of the call, each with its limits, as many as there may be.
fn deepen(snapshot: &mut Snapshot) {
    let lowest = Arc::clone(&snapshot.organizations().next().unwrap().organization);
    let above = |n: usize| OrganizationId::from_raw(1_000 + n as u64);
    let nodes = (0..DEPTH_MAX).map(|n| Organization {
        id: if n == 0 { lowest.id } else { above(n) },
        parent: (n + 1 < DEPTH_MAX).then(|| above(n + 1)),
        ..Organization::clone(&lowest)
    });
    snapshot.apply(nodes.map(|node| Change { version: 2, object: Object::Organization(Arc::new(node)) }));
}

/// An admitted call is decided without a single allocation: also with eight limits in force over its purses, three
/// rates, and a policy of 20 statements of which only the last allow; and below the deepest tree.
#[test]
fn an_admitted_call_is_decided_without_an_allocation() {
    let mut full = case::full();
    let facts = case::facts(&full, 1);
    let limits = case::scope(&full, facts.at_ms).layers.iter().filter(|layer| layer.limit.is_some()).count();
    assert_eq!(limits, 8);
    assert_eq!((of_decide(&case::plain()), of_decide(&full)), (0, 0));
    deepen(&mut full);
    assert_eq!(full.organizations_above(full.accounts().next().unwrap().organization).count(), DEPTH_MAX);
    assert_eq!(of_decide(&full), 0);
    let (counted, _) = memory::allocations(|| full.clone());
    assert!(counted > 0, "the count is no count");
}

/// Chunks of the stream that its caller has read.
static READ: AtomicUsize = AtomicUsize::new(0);

const EVENT: &str = r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1767225600,"model":"m","choices":[{"index":0,"delta":{"content":"word "},"logprobs":null,"finish_reason":null}],"usage":null}"#;

/// An upstream that answers one call with a stream, and sends each event once its caller has the one before.
fn one_by_one(chunks: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let chunk = format!("{:x}\r\n{EVENT}\n\n\r\n", EVENT.len() + 2);
    let end = r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1767225600,"model":"m","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":9,"total_tokens":14}}"#;
    let end = format!("{end}\n\ndata: [DONE]\n\n");
    let end = format!("{:x}\r\n{end}\r\n0\r\n\r\n", end.len());
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_nodelay(true).unwrap();
        assert!(stream.read(&mut [0; 8_192]).unwrap() > 0);
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        for sent in 0..chunks {
            while READ.load(Ordering::Acquire) < sent {
                std::thread::yield_now();
            }
            stream.write_all(chunk.as_bytes()).unwrap();
        }
        stream.write_all(end.as_bytes()).unwrap();
        // Closed by the gateway, when it is stopped.
        let _closed = stream.read(&mut [0; 1]);
    });
    address
}

/// Reads until so many events have come in all.
fn read_up_to(stream: &mut TcpStream, events: usize) {
    let (mut buffer, mut read) = ([0; 4_096], READ.load(Ordering::Acquire));
    while read < events {
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "the stream ended after {read} events");
        read += memchr::memmem::find_iter(&buffer[..count], b"data: {").count();
        READ.store(read, Ordering::Release);
    }
}

/// A chunk of a stream is passed on without an allocation: over 4,000 chunks that come one by one, the whole process
/// allocates less than once for each ten – a read buffer now and then, and what it does beside.
#[test]
fn h3_a_chunk_of_a_stream_is_passed_on_without_an_allocation() {
    const BEFORE: usize = 400;
    const COUNTED: usize = 4_000;
    let upstream = one_by_one(BEFORE + COUNTED);
    let clock = Arc::new(ManualClock::new(SystemClock.now_ms()));
    let station = Station::start(Backend::embedded(), clock, Port::reserve(), Vec::new());
    station.post("/api/models", json!({"name": "m"})).ok();
    station.post("/api/prices", json!({"model": "m", "per_million": {"input": "1", "output": "2"}})).ok();
    let channel = json!({"name": "c", "base_url": format!("http://{upstream}/v1"), "credential": "secret-of-the-channel",
        "models": {"m": "m"}, "environments": ["live"]});
    station.post("/api/channels", channel).ok();
    let id = |made: serde_json::Value| made["id"].as_str().unwrap().to_owned();
    let account = id(station.post("/api/accounts", json!({"name": "Ann"})).ok());
    let credit = json!({"amount": "10", "kind": "purchased", "reference": "r", "reason": "test"});
    station.post(&format!("/api/accounts/{account}/credits"), credit).ok();
    let key = station.post("/api/keys", json!({"account": account, "name": "key"})).ok();
    let ask = Ask::chat_with(key["key"].as_str().unwrap(), "m", "hi", json!({"stream": true}));
    let mut caller = TcpStream::connect(station.address()).unwrap();
    caller.write_all(&ask.bytes()).unwrap();
    read_up_to(&mut caller, BEFORE);
    let counted = memory::allocations_of_others(|| read_up_to(&mut caller, BEFORE + COUNTED));
    assert!(counted < COUNTED as u64 / 10, "{counted} allocations for {COUNTED} chunks");
}
