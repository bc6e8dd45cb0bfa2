//! Puts answers together: heads of good answers, and refusals in the caller's language.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use ledger::Nano;

use crate::catalogue::{self, Language, Refusal, RenderContext, Shape};
use crate::id::RequestId;

use super::answer::AnswerBody;
use super::convert::responses::SoFar;
use super::convert::{Envelope, Format, LeftOut};
use super::facts::{Admitted, CapReason, Endpoint, RateReading};

pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub const X_COST: HeaderName = HeaderName::from_static("x-tallygate-cost");
const X_LEFT_OUT: HeaderName = HeaderName::from_static("x-tallygate-left-out");
pub const X_MAX_TOKENS: HeaderName = HeaderName::from_static("x-tallygate-max-tokens");

/// How one caller is answered.
#[derive(Clone, Copy, Debug)]
pub struct Addressee<'a> {
    pub request: RequestId,
    pub language: Language,
    pub public_url: &'a str,
    /// The account lets its callers see its amounts.
    pub sees_account_money: bool,
    /// Whether the call is in the log, so that it has a Why.
    pub logged: bool,
    /// The caller's wire format.
    pub shape: Shape,
}

impl<'a> Addressee<'a> {
    fn context(&self, refusal: &Refusal) -> RenderContext<'a> {
        // The limits of its own key are a caller's to see.
        let own = refusal.limit.as_ref().is_some_and(|limit| limit.scope == "key");
        RenderContext {
            request_id: self.request,
            language: self.language,
            public_url: self.public_url,
            money_visible: own || self.sees_account_money,
            has_why: self.logged,
            shape: self.shape,
        }
    }

    pub fn refusal(&self, refusal: &Refusal) -> Response<AnswerBody> {
        let (status, headers, body) = catalogue::render(refusal, &self.context(refusal));
        response(status, headers, AnswerBody::whole(body))
    }

    /// A refusal inside a stream of OpenAI's responses: an error, and the response as it failed.
    pub fn response_refusal(&self, refusal: &Refusal, so_far: &SoFar, envelope: &Envelope) -> Bytes {
        let context = self.context(refusal);
        let sequence = so_far.sequence;
        let error = catalogue::render_response_error(refusal, &context, sequence);
        // The clients of the format look here for the code of a request that was wrong.
        let theirs = refusal.upstream.as_ref().and_then(|said| said.code.as_deref());
        let code = theirs.unwrap_or(refusal.code.as_str());
        let message = refusal.message(self.language, context.money_visible);
        let failed = so_far.failed(envelope, sequence.saturating_add(1), code, &message);
        Bytes::from([&*error, &failed].concat())
    }

    /// A refusal inside a stream that has begun.
    pub fn sse_refusal(&self, refusal: &Refusal) -> Bytes {
        catalogue::render_sse_event(refusal, &self.context(refusal))
    }
}

/// How errors look at an endpoint.
pub fn shape(endpoint: Endpoint) -> Shape {
    match endpoint.format() {
        Some(Format::Anthropic) => Shape::Anthropic,
        Some(Format::Gemini) => Shape::Gemini,
        _ => Shape::OpenAi,
    }
}

/// Names the fields that the upstream's format had no place for.
pub fn add_left_out(headers: &mut HeaderMap, left_out: &LeftOut) {
    let names = left_out.names();
    if !names.is_empty()
        && let Ok(names) = HeaderValue::try_from(names.join(", "))
    {
        headers.insert(X_LEFT_OUT, names);
    }
}

pub fn language(headers: &HeaderMap) -> Language {
    let accepted = headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
    accepted.map(Language::from_accept).unwrap_or_default()
}

/// The head of a good answer.
pub fn head(
    request: RequestId,
    content_type: HeaderValue,
    admitted: &Admitted,
    cost: Option<Nano>,
) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(6);
    headers.insert(header::CONTENT_TYPE, content_type);
    if let Ok(id) = HeaderValue::from_bytes(&request.text()) {
        headers.insert(X_REQUEST_ID, id);
    }
    if let Some(cost) = cost.and_then(|cost| HeaderValue::try_from(cost.to_string()).ok()) {
        headers.insert(X_COST, cost);
    }
    if matches!(admitted.cap_reason, CapReason::Money | CapReason::Rate | CapReason::Lowered) {
        headers.insert(X_MAX_TOKENS, HeaderValue::from(admitted.output_cap));
    }
    headers
}

/// What is left of the key's rates behind this call, in OpenAI's headers. `tokens` are those that an admitted call
/// can come to; `None`: it was refused.
pub fn add_rates(headers: &mut HeaderMap, rate: Option<&RateReading>, tokens: Option<u64>) {
    let Some(rate) = rate else { return };
    let mut put = |name, value| headers.insert(HeaderName::from_static(name), value);
    if let Some(limit) = rate.limits.requests_per_second {
        let used = rate.requests_used() + u64::from(tokens.is_some());
        put("x-ratelimit-limit-requests", limit.into());
        put("x-ratelimit-remaining-requests", limit.saturating_sub(used).into());
        put("x-ratelimit-reset-requests", milliseconds(used.saturating_mul(1_000).div_ceil(limit.max(1))));
    }
    if let Some(limit) = rate.limits.tokens_per_minute {
        let used = rate.tokens.saturating_add(tokens.unwrap_or(0));
        put("x-ratelimit-limit-tokens", limit.into());
        put("x-ratelimit-remaining-tokens", limit.saturating_sub(used).into());
        put("x-ratelimit-reset-tokens", milliseconds(used.saturating_mul(60_000).div_ceil(limit.max(1))));
    }
}

/// Until all of it is there again: `250ms`.
fn milliseconds(ms: u64) -> HeaderValue {
    HeaderValue::try_from(format!("{ms}ms")).unwrap_or(HeaderValue::from_static("0ms"))
}

pub fn response(status: StatusCode, headers: HeaderMap, body: AnswerBody) -> Response<AnswerBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}
