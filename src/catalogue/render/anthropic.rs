//! The same as Anthropic's error object.

use serde::Serialize;

use super::body::{Body, ErrorObject};
use crate::id::RequestId;

/// Anthropic's error object, extended in the same way. Its `type` at the top is its own, so that RFC 9457's is left
/// out.
#[derive(Serialize)]
pub(super) struct AnthropicBody<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    error: ErrorObject<'a>,
    request_id: RequestId,
    title: &'static str,
    status: u16,
    detail: &'a str,
    instance: Option<&'a str>,
}

impl<'a> AnthropicBody<'a> {
    pub(super) fn of(body: Body<'a>) -> Self {
        let Body { error, title, status, detail, instance, .. } = body;
        // Anthropic's API reference, "Errors".
        let error_type = match status {
            401 => "authentication_error",
            402 => "billing_error",
            403 => "permission_error",
            404 => "not_found_error",
            413 => "request_too_large",
            429 => "rate_limit_error",
            503 => "overloaded_error",
            504 => "timeout_error",
            500.. => "api_error",
            _ => "invalid_request_error",
        };
        let request_id = error.request_id;
        let error = ErrorObject { error_type, ..error };
        AnthropicBody { kind: "error", error, request_id, title, status, detail, instance }
    }
}
