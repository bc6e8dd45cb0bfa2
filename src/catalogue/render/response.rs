//! The event that OpenAI's streams of responses tell an error by.

use serde::Serialize;

use super::body::{Body, ErrorObject};
use crate::catalogue::code::Code;

/// The members of OpenAI's event, and the error object as everywhere else. Its `type` is its own, so that RFC 9457's is left
/// out.
#[derive(Serialize)]
pub(super) struct ResponseErrorEvent<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    sequence_number: u64,
    code: Code,
    message: &'a str,
    param: Option<&'a str>,
    error: ErrorObject<'a>,
    title: &'static str,
    status: u16,
    detail: &'a str,
    instance: Option<&'a str>,
}

impl<'a> ResponseErrorEvent<'a> {
    pub(super) fn of(body: Body<'a>, sequence_number: u64) -> Self {
        let Body { error, title, status, detail, instance, .. } = body;
        let (code, message, param) = (error.code, error.message, error.param);
        let kind = "error";
        ResponseErrorEvent {
            kind,
            sequence_number,
            code,
            message,
            param,
            error,
            title,
            status,
            detail,
            instance,
        }
    }
}
