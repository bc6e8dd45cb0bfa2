//! Anthropic's Messages format: what an answer says about its tokens, its end and its faults.
//!
//! Promises: a piece of a text is told by how its event begins, without a JSON parse. A usage is believed only where
//! the format puts it.
//!
//! Must never: panic on an upstream's bytes, or return a usage whose classes count a token twice.

mod usage;

use ledger::Usage;
use serde::Deserialize;
use serde_json::value::RawValue;

pub use usage::UsageSoFar;

use super::openai::{EventFacts, EventKind, UpstreamFault, UpstreamFaultKind, classify};

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, rename = "type", default)]
    kind: Option<&'a RawValue>,
    #[serde(default)]
    message: Option<Message>,
    #[serde(default, deserialize_with = "crate::gateway::provider::readable")]
    usage: Option<UsageSoFar>,
    #[serde(borrow, default)]
    delta: Option<Delta<'a>>,
}

#[derive(Deserialize)]
struct Message {
    #[serde(default, deserialize_with = "crate::gateway::provider::readable")]
    usage: UsageSoFar,
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow, default)]
    stop_reason: Option<&'a RawValue>,
}

/// How the events begin of which there are many.
const PIECES: [&[u8]; 2] = [br#"{"type":"content_block_delta""#, br#"{"type": "content_block_delta""#];

/// Looks at the data of an event. Input is told at the start, and believed with the output alone: a stream that breaks
/// off has told one token of its answer.
pub fn inspect(so_far: &mut UsageSoFar, data: &[u8]) -> EventFacts {
    let mut facts = EventFacts { kind: EventKind::Other, has_finish: false, usage: None };
    if PIECES.iter().any(|piece| data.starts_with(piece)) {
        facts.kind = EventKind::Delta;
        return facts;
    }
    let Ok(event) = serde_json::from_slice::<Event<'_>>(data) else { return facts };
    match event.kind.map_or("", RawValue::get).trim_matches('"') {
        "message_start" => so_far.tell(&event.message.map(|message| message.usage).unwrap_or_default()),
        "content_block_start" | "content_block_delta" => facts.kind = EventKind::Delta,
        "message_delta" => {
            facts.kind = EventKind::Delta;
            facts.has_finish = event.delta.is_some_and(|delta| delta.stop_reason.is_some());
            if let Some(usage) = event.usage {
                so_far.tell(&usage);
                // What was told of the output at the start is no end of it.
                facts.usage = so_far.usage().filter(|_| usage.tells_output());
            }
        }
        "message_stop" => facts.kind = EventKind::Done,
        "error" => facts.kind = EventKind::Error,
        _ => {}
    }
    facts
}

/// The usage of a whole answer.
pub fn usage_from_body(body: &[u8]) -> Option<Usage> {
    #[derive(Deserialize)]
    struct Top {
        usage: UsageSoFar,
    }
    serde_json::from_slice::<Top>(body).ok()?.usage.usage()
}

#[derive(Deserialize)]
struct Failed {
    error: Named,
}

#[derive(Deserialize)]
struct Named {
    #[serde(rename = "type")]
    kind: Box<str>,
}

/// What a fault's own name says of it, which says more than its status (Anthropic's API reference, "Errors").
pub fn of_kind(fault: UpstreamFault, body: &[u8]) -> UpstreamFault {
    use UpstreamFaultKind::*;
    let named = serde_json::from_slice::<Failed>(body).map(|failed| failed.error.kind);
    let kind = match named.as_deref() {
        Ok("overloaded_error" | "rate_limit_error") if fault.kind != OutOfCredit => RateLimited,
        Ok("authentication_error" | "permission_error") => AuthFailed,
        Ok("billing_error") => OutOfCredit,
        Ok("not_found_error") => ModelMissing,
        Ok("timeout_error") => Timeout,
        Ok("api_error") => Error,
        _ => fault.kind,
    };
    UpstreamFault { kind, code: named.ok().or(fault.code.clone()), ..fault }
}

/// The fault of an error event; its status is the one that its name stands for.
pub fn stream_fault(data: &[u8]) -> UpstreamFault {
    let named = serde_json::from_slice::<Failed>(data).map(|failed| failed.error.kind);
    let status = match named.as_deref() {
        Ok("invalid_request_error") => 400,
        Ok("authentication_error") => 401,
        Ok("billing_error") => 402,
        Ok("permission_error") => 403,
        Ok("not_found_error") => 404,
        Ok("rate_limit_error") => 429,
        Ok("overloaded_error") => 529,
        Ok("timeout_error") => 504,
        _ => 500,
    };
    of_kind(classify(status, &http::HeaderMap::new(), data, 0), data)
}

#[cfg(test)]
mod tests {
    use ledger::TokenClass;

    use super::*;

    #[test]
    fn events_tell_pieces_ends_and_the_usage_once() {
        let mut so_far = UsageSoFar::default();
        let mut see = |data: &str| inspect(&mut so_far, data.as_bytes());
        let start =
            see(r#"{"type":"message_start","message":{"usage":{"input_tokens":7,"output_tokens":1}}}"#);
        assert_eq!((start.kind, start.usage), (EventKind::Other, None));
        assert_eq!(see(r#"{"type":"ping"}"#).kind, EventKind::Other);
        let forged = r#"{"type":"content_block_delta","delta":{"text":"\"usage\":{\"input_tokens\":1}"}}"#;
        assert_eq!((see(forged).kind, see(forged).usage), (EventKind::Delta, None));
        let end =
            see(r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":9}}"#);
        let usage = end.usage.unwrap();
        assert!(end.has_finish);
        assert_eq!((usage.get(TokenClass::Input), usage.get(TokenClass::Output)), (7, 9));
        assert_eq!(see(r#"{"type":"message_stop"}"#).kind, EventKind::Done);
        assert_eq!(see(r#"{"type":"error","error":{}}"#).kind, EventKind::Error);
        assert_eq!(see("{").kind, EventKind::Other);
    }

    #[test]
    fn s31_faults_are_what_their_names_say() {
        use UpstreamFaultKind::*;
        for (status, kind, message, expected) in [
            (529, "overloaded_error", "Overloaded", RateLimited),
            (429, "rate_limit_error", "slow down", RateLimited),
            (400, "invalid_request_error", "Your credit balance is too low to access the API.", OutOfCredit),
            (402, "billing_error", "pay", OutOfCredit),
            (401, "authentication_error", "invalid x-api-key", AuthFailed),
            (403, "permission_error", "no", AuthFailed),
            (404, "not_found_error", "model: claude-x", ModelMissing),
            (500, "api_error", "broken", Error),
            (504, "timeout_error", "late", Timeout),
            (400, "invalid_request_error", "messages: wrong", Rejected),
        ] {
            let body = format!(r#"{{"type":"error","error":{{"type":"{kind}","message":"{message}"}}}}"#);
            let whole = classify(status, &http::HeaderMap::new(), body.as_bytes(), 0);
            assert_eq!(of_kind(whole, body.as_bytes()).kind, expected, "{kind}");
            assert_eq!(stream_fault(body.as_bytes()).kind, expected, "{kind} in a stream");
        }
    }
}
