//! What is sent: the scenarios, and the request that they all send.
//!
//! Promises: the same bytes to every peer, but for host and key. The body has 500 bytes, as a
//! short question with a system prompt has.

use super::load::{Answer, Pace, Plan};
use crate::clock::SeededEntropy;
use crate::keytext::{ApiKey, Environment};
use std::net::SocketAddr;
use std::time::Duration;

/// Bytes of every request body.
pub const BODY_BYTES: usize = 500;

#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    pub name: &'static str,
    pub title: &'static str,
    pub pace: Pace,
    pub model: &'static str,
    pub answer: Answer,
    /// A run takes at least so long.
    pub time_min: Duration,
}

/// The upstream answers at once: all that is measured is the proxy.
const AT_ONCE: &str = "bench";
/// The upstream thinks for 50 ms first.
const AFTER_50_MS: &str = "bench-50ms";
/// The same, and a stream has a chunk every 100 ms from then on: it is open for 2 s.
const TICKING: &str = "bench-ticking";
/// A stream has its first chunk at once, and nothing for 8 s.
const IDLE: &str = "bench-idle";

/// Streams that are all open before the first of them goes on.
pub const IDLE_STREAMS: Scenario = Scenario {
    name: "idle_streams",
    title: "5,000 streams that are open and wait, opened at 2,000 a second",
    pace: Pace::Open { per_second: 2_000 },
    model: IDLE,
    answer: Answer::Stream,
    time_min: Duration::ZERO,
};
/// How long they are opened for, once.
pub const IDLE_STREAMS_TIME: Duration = Duration::from_millis(2_500);

/// When an upstream writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timing {
    /// Before the answer, or the first chunk of a stream.
    pub first: Duration,
    /// Before the second chunk.
    pub second: Duration,
    /// Before each other chunk.
    pub each: Duration,
}

impl Timing {
    /// Of a model; at once, if it is none of these.
    pub fn of(model: &[u8]) -> Self {
        let ms = |first, second, each| {
            let [first, second, each] = [first, second, each].map(Duration::from_millis);
            Timing { first, second, each }
        };
        match std::str::from_utf8(model) {
            Ok(AFTER_50_MS) => ms(50, 0, 0),
            Ok(TICKING) => ms(50, 100, 100),
            Ok(IDLE) => ms(0, 8_000, 0),
            _ => Timing::default(),
        }
    }
}

pub const SCENARIOS: [Scenario; 7] = [
    Scenario {
        name: "whole",
        title: "whole answer, upstream at once, 32 connections",
        pace: Pace::Closed { connections: 32 },
        model: AT_ONCE,
        answer: Answer::Whole,
        time_min: Duration::ZERO,
    },
    Scenario {
        name: "stream",
        title: "streamed answer of 20 chunks, upstream at once, 32 connections",
        pace: Pace::Closed { connections: 32 },
        model: AT_ONCE,
        answer: Answer::Stream,
        time_min: Duration::ZERO,
    },
    Scenario {
        name: "saturated",
        title: "whole answer, upstream at once, 128 connections",
        pace: Pace::Closed { connections: 128 },
        model: AT_ONCE,
        answer: Answer::Whole,
        time_min: Duration::ZERO,
    },
    Scenario {
        name: "whole_50ms",
        title: "whole answer, upstream takes 50 ms, 50 calls/s",
        pace: Pace::Open { per_second: 50 },
        model: AFTER_50_MS,
        answer: Answer::Whole,
        time_min: Duration::ZERO,
    },
    Scenario {
        name: "stream_50ms",
        title: "streamed answer, first token after 50 ms, 50 calls/s",
        pace: Pace::Open { per_second: 50 },
        model: AFTER_50_MS,
        answer: Answer::Stream,
        time_min: Duration::ZERO,
    },
    Scenario {
        name: "streams_200",
        title: "streamed answer, first token after 50 ms, then one each 100 ms, 100 calls/s: 200 streams open",
        pace: Pace::Open { per_second: 100 },
        model: TICKING,
        answer: Answer::Stream,
        // Streams of 2 s, and a while in which as many are open as there will be.
        time_min: Duration::from_secs(5),
    },
    Scenario {
        name: "unknown_key",
        title: "refused: a key that nobody has, 32 connections",
        pace: Pace::Closed { connections: 32 },
        model: AT_ONCE,
        answer: Answer::Refusal { status: 401, code: "unknown_key" },
        time_min: Duration::ZERO,
    },
];

/// Models that a gateway must know to serve the scenarios.
pub const MODELS: [&str; 4] = [AT_ONCE, AFTER_50_MS, TICKING, IDLE];

impl Scenario {
    pub fn plan(&self, host: SocketAddr, key: &str, time: Duration) -> Plan {
        let (stream, unknown) = (self.answer == Answer::Stream, unknown_key());
        let key = if self.is_refused() { unknown.as_str() } else { key };
        Plan {
            pace: self.pace,
            time: time.max(self.time_min),
            request: request(host, key, self.model, stream),
            answer: self.answer,
        }
    }

    /// Whether it is for those alone who know one key from another.
    pub fn is_refused(&self) -> bool {
        matches!(self.answer, Answer::Refusal { .. })
    }
}

/// Well formed, and in no directory.
fn unknown_key() -> String {
    let entropy = SeededEntropy::new(b"a key that nobody has");
    ApiKey::generate(&entropy, Environment::Live).expose().to_owned()
}

fn request(host: SocketAddr, key: &str, model: &str, stream: bool) -> Vec<u8> {
    let body = body(model, stream);
    let length = body.len();
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\n\
         host: {host}\r\n\
         authorization: Bearer {key}\r\n\
         content-type: application/json\r\n\
         accept: application/json\r\n\
         accept-encoding: identity\r\n\
         user-agent: tallygate-bench\r\n\
         content-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

fn body(model: &str, stream: bool) -> String {
    const QUESTION: &str = "My balance is fine, but the call fails. Which limit refused it, what was used of it, \
        when does it reset, and was anything charged for the refusal? Please answer in one sentence. ";
    let stream = if stream { r#","stream":true"# } else { "" };
    let start = format!(
        r#"{{"model":"{model}","messages":[{{"role":"system","content":"You are the accountant of this project."}},{{"role":"user","content":""#
    );
    let end = format!(r#""}}],"temperature":0.7,"max_tokens":256{stream}}}"#);
    let room = BODY_BYTES.saturating_sub(start.len() + end.len());
    let question: String = QUESTION.chars().cycle().take(room).collect();
    start + &question + &end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_sends_500_bytes_of_json() {
        for scenario in SCENARIOS {
            let stream = scenario.answer == Answer::Stream;
            let body = body(scenario.model, stream);
            assert_eq!(body.len(), BODY_BYTES, "{}", scenario.name);
            let json: serde_json::Value = serde_json::from_str(&body).expect("JSON");
            assert_eq!(json["model"], scenario.model);
            assert_eq!(json["stream"].as_bool().unwrap_or(false), stream);
            assert!(MODELS.contains(&scenario.model));
        }
    }
}
