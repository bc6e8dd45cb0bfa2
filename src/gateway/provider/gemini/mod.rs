//! Gemini's generateContent format: what an answer says about its tokens, its end and its faults.
//!
//! Must never: panic on an upstream's bytes, or return a usage whose classes count a token twice.

mod usage;

use ledger::Usage;
use serde::Deserialize;
use serde_json::value::RawValue;

pub use usage::UsageMetadata;

use super::openai::{EventFacts, EventKind, UpstreamFault, UpstreamFaultKind, classify};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    #[serde(borrow, default)]
    candidates: Vec<Candidate<'a>>,
    #[serde(borrow, default)]
    prompt_feedback: Option<&'a RawValue>,
    #[serde(default, deserialize_with = "crate::gateway::provider::readable")]
    usage_metadata: Option<UsageMetadata>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Candidate<'a> {
    #[serde(borrow, default)]
    finish_reason: Option<&'a RawValue>,
}

/// Looks at the data of an event. The stream has no end of its own: it is whole once a candidate has its reason.
pub fn inspect(data: &[u8]) -> EventFacts {
    let mut facts = EventFacts { kind: EventKind::Other, has_finish: false, usage: None };
    let Ok(event) = serde_json::from_slice::<Event<'_>>(data) else { return facts };
    if event.error.is_some() {
        facts.kind = EventKind::Error;
        return facts;
    }
    let blocked = event.candidates.is_empty() && event.prompt_feedback.is_some();
    facts.has_finish = blocked || event.candidates.iter().any(|candidate| candidate.finish_reason.is_some());
    if blocked || !event.candidates.is_empty() {
        facts.kind = EventKind::Delta;
    }
    facts.usage = event.usage_metadata.and_then(|usage| usage.usage());
    facts
}

/// The usage of a whole answer.
pub fn usage_from_body(body: &[u8]) -> Option<Usage> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Top {
        usage_metadata: UsageMetadata,
    }
    serde_json::from_slice::<Top>(body).ok()?.usage_metadata.usage()
}

/// Where Gemini's words mean something else than OpenAI's. They open the message, where no request is quoted.
pub fn of_kind(fault: UpstreamFault) -> UpstreamFault {
    use UpstreamFaultKind::*;
    let opens = |words: &str| fault.message.starts_with(words);
    let kind = match (fault.status, fault.kind) {
        // Its words for a rate, too: RESOURCE_EXHAUSTED.
        (429, OutOfCredit) if opens("You exceeded your current quota") => RateLimited,
        (400, _) if opens("API key not valid") || opens("API key expired") => AuthFailed,
        (403, _) if opens("This API method requires billing") || opens("Billing account") => OutOfCredit,
        (_, kind) => kind,
    };
    UpstreamFault { kind, ..fault }
}

/// The fault of an error event, which has the status in it.
pub fn stream_fault(data: &[u8]) -> UpstreamFault {
    #[derive(Deserialize)]
    struct Failed {
        error: Coded,
    }
    #[derive(Deserialize)]
    struct Coded {
        code: u16,
    }
    let status = serde_json::from_slice::<Failed>(data).map_or(500, |failed| failed.error.code);
    of_kind(classify(status, &http::HeaderMap::new(), data, 0))
}

#[cfg(test)]
mod tests {
    use ledger::TokenClass;

    use super::*;

    #[test]
    fn events_tell_pieces_ends_and_running_totals() {
        let piece = inspect(br#"{"candidates":[{"content":{"parts":[{"text":"finishReason"}]}}],"usageMetadata":{"promptTokenCount":3}}"#);
        assert_eq!((piece.kind, piece.has_finish), (EventKind::Delta, false));
        assert_eq!(piece.usage.unwrap().get(TokenClass::Input), 3);
        assert!(inspect(br#"{"candidates":[{"finishReason":"STOP"}]}"#).has_finish);
        assert!(inspect(br#"{"promptFeedback":{"blockReason":"SAFETY"}}"#).has_finish);
        assert_eq!(inspect(br#"{"error":{"code":503}}"#).kind, EventKind::Error);
        assert_eq!(inspect(b"[").kind, EventKind::Other);
    }

    #[test]
    fn s31_faults_are_told_apart() {
        use UpstreamFaultKind::*;
        for (code, status, message, expected) in [
            (429, "RESOURCE_EXHAUSTED", "You exceeded your current quota, please wait.", RateLimited),
            (400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", AuthFailed),
            (403, "PERMISSION_DENIED", "no", AuthFailed),
            (403, "PERMISSION_DENIED", "This API method requires billing to be enabled.", OutOfCredit),
            (404, "NOT_FOUND", "models/x is not found for API version v1beta", ModelMissing),
            (400, "INVALID_ARGUMENT", "contents is required", Rejected),
            (503, "UNAVAILABLE", "The model is overloaded.", Error),
            (504, "DEADLINE_EXCEEDED", "late", Timeout),
        ] {
            let body = format!(r#"{{"error":{{"code":{code},"message":"{message}","status":"{status}"}}}}"#);
            assert_eq!(stream_fault(body.as_bytes()).kind, expected, "{message}");
        }
    }
}
