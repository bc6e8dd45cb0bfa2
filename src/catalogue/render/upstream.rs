//! What an upstream said of a request that it rejected, where the callers' own libraries look for it.

use std::borrow::Cow;

use serde::Serialize;

use super::Shape;
use crate::catalogue::refusal::{Refusal, UpstreamSaid};
use crate::catalogue::text::clean;

/// Characters of an upstream's code, and of the name of a field of its own, that are shown at most.
const NAME_CHARS_MAX: usize = 120;

/// The upstream's own code and field, beside the catalogue's.
#[derive(Serialize)]
pub(super) struct UpstreamObject {
    code: Option<String>,
    param: Option<String>,
}

impl UpstreamObject {
    /// Nothing, where the upstream gave neither.
    pub(super) fn of(said: &UpstreamSaid) -> Option<Self> {
        let shown = |text: &Option<Box<str>>| text.as_deref().map(|text| clean(text, NAME_CHARS_MAX));
        let (code, param) = (shown(&said.code), shown(&said.param));
        (code.is_some() || param.is_some()).then_some(UpstreamObject { code, param })
    }
}

/// A refusal whose text says in the caller's dialect that the conversation is too long: clients that shorten it by
/// themselves look for these words.
pub(super) fn in_dialect(refusal: &Refusal, shape: Shape) -> Cow<'_, Refusal> {
    let words = match shape {
        Shape::OpenAi => "context_length_exceeded (the maximum context length)",
        Shape::Anthropic => "prompt is too long",
        Shape::Gemini => "The input token count exceeds the maximum number of tokens allowed",
    };
    let known = match shape {
        Shape::OpenAi => "context_length_exceeded",
        Shape::Anthropic => words,
        Shape::Gemini => "exceeds the maximum number of tokens",
    };
    match (&refusal.upstream, &refusal.upstream_text) {
        (Some(said), Some(text)) if said.is_too_long && !text.contains(known) => {
            Cow::Owned(refusal.clone().upstream_text(format!("{words}: {text}")))
        }
        _ => Cow::Borrowed(refusal),
    }
}
