//! The same as Gemini's error object.

use serde::Serialize;

use super::body::{Body, ErrorObject};
use crate::catalogue::code::Code;

/// Gemini's error object: a status of Google's, and the catalogue's code as the reason of its first detail.
#[derive(Serialize)]
pub(super) struct GeminiBody<'a> {
    error: GeminiError<'a>,
}

#[derive(Serialize)]
pub(super) struct GeminiError<'a> {
    code: u16,
    message: &'a str,
    status: &'static str,
    details: Vec<GeminiDetail<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
#[expect(clippy::large_enum_variant, reason = "of one refusal there are two at the most")]
pub(super) enum GeminiDetail<'a> {
    Reason {
        #[serde(rename = "@type")]
        kind: &'static str,
        reason: Code,
        domain: &'static str,
        #[serde(flatten)]
        error: ErrorObject<'a>,
    },
    /// What `Retry-After` says, where Google's own clients look for it.
    Patience {
        #[serde(rename = "@type")]
        kind: &'static str,
        #[serde(rename = "retryDelay")]
        retry_delay: String,
    },
}

impl<'a> GeminiBody<'a> {
    /// `patience_s`: how long to wait before it is sent again.
    pub(super) fn of(body: Body<'a>, patience_s: Option<u64>) -> Self {
        let status = match body.status {
            401 => "UNAUTHENTICATED",
            402 => "FAILED_PRECONDITION",
            403 => "PERMISSION_DENIED",
            404 => "NOT_FOUND",
            409 => "ABORTED",
            429 => "RESOURCE_EXHAUSTED",
            500 | 502 => "INTERNAL",
            503 => "UNAVAILABLE",
            408 | 504 => "DEADLINE_EXCEEDED",
            _ => "INVALID_ARGUMENT",
        };
        let kind = "type.googleapis.com/google.rpc.ErrorInfo";
        let reason =
            GeminiDetail::Reason { kind, reason: body.error.code, domain: "tallygate", error: body.error };
        let patience = patience_s.map(|seconds| GeminiDetail::Patience {
            kind: "type.googleapis.com/google.rpc.RetryInfo",
            retry_delay: format!("{seconds}s"),
        });
        let details = std::iter::once(reason).chain(patience).collect();
        GeminiBody { error: GeminiError { code: body.status, message: body.detail, status, details } }
    }
}
