//! The body of an answer: OpenAI's error object, extended, with the members of RFC 9457 at the top level.

use ledger::Nano;
use serde::Serialize;

use super::upstream::UpstreamObject;
use crate::catalogue::code::Code;
use crate::catalogue::refusal::LimitView;
use crate::catalogue::text::rfc3339;
use crate::id::RequestId;

#[derive(Serialize)]
pub(super) struct Body<'a> {
    pub(super) error: ErrorObject<'a>,
    #[serde(rename = "type")]
    pub(super) doc_url: &'a str,
    pub(super) title: &'static str,
    pub(super) status: u16,
    pub(super) detail: &'a str,
    pub(super) instance: Option<&'a str>,
}

#[derive(Serialize)]
pub(super) struct ErrorObject<'a> {
    pub(super) message: &'a str,
    #[serde(rename = "type")]
    pub(super) error_type: &'static str,
    pub(super) param: Option<&'a str>,
    pub(super) code: Code,
    pub(super) layer: &'a str,
    pub(super) fault: &'static str,
    pub(super) retryable: bool,
    pub(super) charged: Amount,
    pub(super) limit: Option<LimitObject<'a>>,
    /// Only where the upstream rejected the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) upstream: Option<UpstreamObject>,
    pub(super) hint: String,
    pub(super) request_id: RequestId,
    pub(super) doc_url: &'a str,
    pub(super) why_url: Option<&'a str>,
}

/// An amount as decimal text.
pub(super) struct Amount(pub(super) Nano);

impl Serialize for Amount {
    fn serialize<S: serde::Serializer>(&self, into: S) -> Result<S::Ok, S::Error> {
        into.collect_str(&self.0)
    }
}

#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum LimitObject<'a> {
    Whole {
        scope: &'a str,
        id: Option<&'a str>,
        window: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        limit: Option<Amount>,
        #[serde(skip_serializing_if = "Option::is_none")]
        used: Option<Amount>,
        #[serde(skip_serializing_if = "Option::is_none")]
        available: Option<Amount>,
        #[serde(skip_serializing_if = "Option::is_none")]
        held: Option<Amount>,
        #[serde(skip_serializing_if = "Option::is_none")]
        needed: Option<Amount>,
        #[serde(skip_serializing_if = "Option::is_none")]
        short_by: Option<Amount>,
        resets_at: Option<String>,
        origin: Option<&'a str>,
    },
    /// For callers who may not see another layer's money.
    Guarded { scope: &'a str, needed: Option<Amount>, resets_at: Option<String> },
}

impl<'a> LimitObject<'a> {
    pub(super) fn of(view: &'a LimitView, amounts_visible: bool) -> Self {
        let (scope, resets_at) = (view.scope.as_ref(), view.resets_at_ms.map(rfc3339));
        if !amounts_visible {
            return Self::Guarded { scope, needed: view.needed.map(Amount), resets_at };
        }
        Self::Whole {
            scope,
            id: view.id.as_deref(),
            window: view.window.as_deref(),
            limit: view.limit.map(Amount),
            used: view.used.map(Amount),
            available: view.available.map(Amount),
            held: view.held.map(Amount),
            needed: view.needed.map(Amount),
            short_by: view.short_by.map(Amount),
            resets_at,
            origin: view.origin.as_deref(),
        }
    }
}
