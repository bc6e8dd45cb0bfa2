//! What one attempt sends: made anew for each channel that a call is sent to, from the caller's request and the
//! route, because another channel may know the model by another name or take its cap in another field.
//!
//! Must never: know of the attempts before, or of money beyond the output cap that was promised.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};
use smallvec::SmallVec;

use crate::directory::CapField as ChannelCapField;
use crate::id::RequestId;

use super::request::{CapField, ChatRequest, Edits};
use super::route::Route;
use super::upstream::Call;

/// The name that a caller gives its call, as OpenAI's API has it.
const CALLER_REQUEST: HeaderName = HeaderName::from_static("x-client-request-id");

/// See the module.
pub struct Outgoing {
    path: &'static str,
    headers: SmallVec<[(HeaderName, HeaderValue); 4]>,
    body: Bytes,
}

/// What a caller asked for, and what was promised for it.
#[derive(Clone, Copy)]
pub struct Order<'a> {
    pub request: &'a ChatRequest,
    pub body: &'a Bytes,
    /// Output tokens of one choice, at the most.
    pub output_cap: u32,
    /// Our name of the call, and which attempt it is, from 1.
    pub name: (RequestId, usize),
}

impl Outgoing {
    pub fn new(order: &Order<'_>, route: &Route, credential: usize) -> Self {
        let name = name(order.name).map(|name| (CALLER_REQUEST, name));
        Outgoing {
            path: "/chat/completions",
            headers: route.headers(credential).iter().cloned().chain(name).collect(),
            body: body(order, route),
        }
    }

    pub fn call<'a>(&'a self, route: &'a Route) -> Call<'a> {
        Call {
            target: &route.target,
            method: Method::POST,
            path: self.path,
            headers: &self.headers,
            body: self.body.clone(),
        }
    }
}

/// The call's own id, so that an upstream can tell it in its log; later attempts carry their number, so that each
/// row of an upstream's bill belongs to one.
fn name((request, attempt): (RequestId, usize)) -> Option<HeaderValue> {
    match attempt {
        0 | 1 => HeaderValue::from_bytes(&request.text()).ok(),
        later => HeaderValue::try_from(format!("{request}-{later}")).ok(),
    }
}

/// The body as the upstream is to get it; the same bytes wherever nothing must change.
fn body(order: &Order<'_>, route: &Route) -> Bytes {
    let (request, channel) = (order.request, &route.channel);
    let upstream_model = channel.models.get(&request.model).map(|name| &**name);
    let field = match channel.output_cap_field {
        ChannelCapField::MaxCompletionTokens => CapField::MaxCompletionTokens,
        ChannelCapField::MaxTokens => CapField::MaxTokens,
    };
    let own_cap = request.output_cap.is_some();
    let edits = Edits {
        upstream_model: upstream_model.filter(|name| **name != *request.model),
        output_cap: (!own_cap).then_some((field, order.output_cap)),
        include_usage: request.stream,
    };
    request.rewrite(order.body, &edits)
}
