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
    details: [GeminiDetail<'a>; 1],
}

#[derive(Serialize)]
pub(super) struct GeminiDetail<'a> {
    #[serde(rename = "@type")]
    kind: &'static str,
    reason: Code,
    domain: &'static str,
    #[serde(flatten)]
    error: ErrorObject<'a>,
}

impl<'a> GeminiBody<'a> {
    pub(super) fn of(body: Body<'a>) -> Self {
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
        let detail = GeminiDetail { kind, reason: body.error.code, domain: "tallygate", error: body.error };
        GeminiBody {
            error: GeminiError { code: body.status, message: body.detail, status, details: [detail] },
        }
    }
}
