//! `Idempotency-Key` as a header, and what a request is told that cannot be executed under its name.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::catalogue::{Code, Refusal};
use crate::id::RequestId;

/// The header that names a request so that it can be sent again.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Of a repetition: the request whose answer this is.
pub const X_REPLAY_OF: HeaderName = HeaderName::from_static("x-tallygate-replay-of");
/// Longest Idempotency-Key, in bytes.
const NAME_BYTES_MAX: usize = 255;
/// When to ask again for a request that still runs.
const RUNNING_RETRY_MS: u64 = 1_000;

/// The name of a request, or why it cannot be one.
pub type Name = Result<HeaderValue, Box<Refusal>>;

/// What a request is called, if it has a name.
pub fn name(headers: &HeaderMap) -> Option<Name> {
    let mut names = headers.get_all(IDEMPOTENCY_KEY).iter();
    let first = names.next()?;
    let fault = |reason: String| {
        let refusal = Refusal::new(Code::InvalidParameter).field("Idempotency-Key");
        Some(Err(Box::new(refusal.param("reason", reason))))
    };
    if names.any(|other| other != first) {
        return fault("expected one name, got several different ones".to_owned());
    }
    if first.is_empty() || first.len() > NAME_BYTES_MAX {
        return fault(format!("expected 1 to {NAME_BYTES_MAX} bytes, got {}", first.len()));
    }
    Some(Ok(first.clone()))
}

/// The first request under the name still runs.
pub fn in_progress(first: RequestId) -> Refusal {
    let running = Refusal::new(Code::IdempotencyInProgress).param("first_request", first.to_string());
    running.retry_after_ms(RUNNING_RETRY_MS)
}

/// The first request under the name had another content.
pub fn reused(first: RequestId) -> Refusal {
    Refusal::new(Code::IdempotencyKeyReused).param("first_request", first.to_string())
}
