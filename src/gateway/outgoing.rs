//! What one attempt sends: made anew for each channel that a call is sent to, from the caller's request and the
//! route, because another channel may know the model by another name or take its cap in another field.
//!
//! Must never: know of the attempts before, or of money beyond the output cap that was promised.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, Method};
use smallvec::SmallVec;

use crate::directory::CapField as ChannelCapField;
use crate::id::RequestId;

use super::facts::Endpoint;
use super::request::{CapField, Edits, ModelRequest};
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
    pub request: &'a ModelRequest,
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
            path: order.request.endpoint.upstream_path(),
            headers: headers(order.request, route.headers(credential)).chain(name).collect(),
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

/// What the route sends with every call; a form goes on under the boundary that it came with.
fn headers<'a>(
    request: &'a ModelRequest,
    of_route: &'a [(HeaderName, HeaderValue)],
) -> impl Iterator<Item = (HeaderName, HeaderValue)> + use<'a> {
    let form = request.form.as_deref().and_then(|form| HeaderValue::from_str(form).ok());
    of_route.iter().map(move |(name, value)| match &form {
        Some(form) if *name == CONTENT_TYPE => (name.clone(), form.clone()),
        _ => (name.clone(), value.clone()),
    })
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
    let tells_usage = matches!(request.endpoint, Endpoint::ChatCompletions | Endpoint::Completions);
    let edits = Edits {
        upstream_model,
        output_cap: request.cap_field(field).filter(|_| !own_cap).map(|field| (field, order.output_cap)),
        include_usage: request.stream && tells_usage,
    };
    request.rewrite(order.body, &edits)
}
