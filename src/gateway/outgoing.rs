//! What one attempt sends: made anew for each channel that a call is sent to, from the caller's request and the
//! route, because another channel may know the model by another name, take its cap in another field or speak another
//! format.
//!
//! Must never: know of the attempts before, or of money beyond the output cap that was promised.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, Method};
use smallvec::SmallVec;

use crate::directory::CapField as ChannelCapField;
use crate::id::RequestId;

use super::convert::{self, ConvertFault, Format, LeftOut};
use super::facts::Endpoint;
use super::request::{CapField, Edits, ModelRequest};
use super::route::Route;
use super::upstream::Call;

/// The name that a caller gives its call, as OpenAI's API has it.
const CALLER_REQUEST: HeaderName = HeaderName::from_static("x-client-request-id");

/// See the module.
pub struct Outgoing {
    path: Cow<'static, str>,
    headers: SmallVec<[(HeaderName, HeaderValue); 4]>,
    body: Bytes,
    /// What the upstream's format has no place for, and needs none.
    pub left_out: LeftOut,
    /// Of calls of tools that are made at once, the caller is to be told the first.
    pub one_call: bool,
}

/// What a caller asked for, and what was promised for it.
#[derive(Clone, Copy)]
pub struct Order<'a> {
    pub request: &'a ModelRequest,
    pub body: &'a Bytes,
    /// Output tokens of one choice, at the most.
    pub output_cap: u32,
    /// What the upstream is asked in.
    pub format: Format,
    /// Our name of the call, and which attempt it is, from 1.
    pub name: (RequestId, usize),
}

impl Outgoing {
    /// The fault is of a request that the route's format cannot express.
    pub fn new(order: &Order<'_>, route: &Route, credential: usize) -> Result<Self, ConvertFault> {
        let name = caller_request(order.name.0, order.name.1);
        let (body, mut left_out, one_call) = match conversion(order.request.endpoint, order.format)? {
            None => (body(order, route), LeftOut::default(), false),
            Some(from) => converted(order, route, from)?,
        };
        let experiments = order.request.experiments.as_deref();
        let experiments = experiments.and_then(|wishes| wishes.sent(order.format, &mut left_out));
        Ok(Outgoing {
            path: path(order, route),
            headers: headers(order.request, route.headers(credential))
                .chain(name)
                .chain(experiments)
                .collect(),
            body,
            left_out,
            one_call,
        })
    }

    pub fn call<'a>(&'a self, route: &'a Route) -> Call<'a> {
        Call {
            target: &route.target,
            method: Method::POST,
            path: &self.path,
            headers: &self.headers,
            body: self.body.clone(),
        }
    }
}

/// The format that must be converted from, if the upstream speaks another than the caller.
pub fn conversion(endpoint: Endpoint, upstream: Format) -> Result<Option<Format>, ConvertFault> {
    let of_open_ai = matches!(upstream, Format::OpenAi | Format::DeepSeek);
    match endpoint.format() {
        Some(Format::OpenAi | Format::DeepSeek) if of_open_ai => Ok(None),
        Some(own) if own == upstream => Ok(None),
        Some(own) => Ok(Some(own)),
        None if of_open_ai => Ok(None),
        None => Err(ConvertFault::new("model", "a model whose provider has this endpoint", "another model")),
    }
}

/// What the upstream calls the model.
pub fn model<'a>(request: &'a ModelRequest, route: &'a Route) -> &'a str {
    route.channel.models.get(&request.model).map_or(&request.model, |name| name)
}

fn path(order: &Order<'_>, route: &Route) -> Cow<'static, str> {
    let request = order.request;
    match order.format {
        Format::OpenAi | Format::DeepSeek if request.endpoint.format().is_some() => {
            Endpoint::ChatCompletions.upstream_path().into()
        }
        Format::OpenAi | Format::DeepSeek => request.endpoint.upstream_path().into(),
        Format::Responses => Endpoint::Responses.upstream_path().into(),
        Format::Anthropic if request.endpoint.is_count() => request.endpoint.upstream_path().into(),
        Format::Anthropic => Endpoint::Messages.upstream_path().into(),
        Format::Gemini => {
            let method = match request.endpoint.is_count() {
                true => "countTokens",
                false if request.stream => "streamGenerateContent?alt=sse",
                false => "generateContent",
            };
            let name: String = form_urlencoded::byte_serialize(model(request, route).as_bytes()).collect();
            format!("/models/{name}:{method}").into()
        }
    }
}

/// The call's own id, so that an upstream can tell it in its log; later attempts carry their number, so that each
/// row of an upstream's bill belongs to one.
pub fn caller_request(request: RequestId, attempt: usize) -> Option<(HeaderName, HeaderValue)> {
    let name = match attempt {
        0 | 1 => HeaderValue::from_bytes(&request.text()).ok(),
        later => HeaderValue::try_from(format!("{request}-{later}")).ok(),
    };
    name.map(|name| (CALLER_REQUEST, name))
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

/// Where a call went at its upstream and what it said there, as far as counting reads it: made once more for the rare
/// upstream that tells no usage, so that no call carries two bodies. What could not be sent is as the caller had it.
pub fn sent(request: &ModelRequest, body: &Bytes, format: Format, model: &str) -> (Endpoint, Bytes) {
    let as_it_came = || (request.endpoint, body.clone());
    let Ok(Some(from)) = conversion(request.endpoint, format) else { return as_it_came() };
    let target = convert::Target {
        format,
        model,
        stream: request.stream,
        // No cap is counted, but some formats cannot be written without one.
        output_cap: Some(1),
        newer_cap_field: false,
        size_hint: body.len(),
    };
    let there = std::str::from_utf8(body).ok().and_then(|text| convert::request(from, text, &target).ok());
    let endpoint = match format {
        Format::OpenAi | Format::DeepSeek => Endpoint::ChatCompletions,
        Format::Responses => Endpoint::Responses,
        Format::Anthropic => Endpoint::Messages,
        Format::Gemini => Endpoint::GenerateContent,
    };
    there.map_or_else(as_it_came, |there| (endpoint, there.body))
}

/// The body as the upstream is to get it; the same bytes wherever nothing must change.
fn body(order: &Order<'_>, route: &Route) -> Bytes {
    let (request, channel) = (order.request, &route.channel);
    let upstream_model = channel.models.get(&request.model).map(|name| &**name);
    let (field, sole_cap_name) = match knows_newer_cap(order, route) {
        true => (CapField::MaxCompletionTokens, false),
        false => (CapField::MaxTokens, true),
    };
    // A cap of the caller's goes as it came, but where the model cannot give so much, or its upstream knows another name.
    let must_change = request.output_cap.is_none_or(|(named, own)| {
        own > order.output_cap || (sole_cap_name && named == CapField::MaxCompletionTokens)
    });
    let tells_usage = matches!(request.endpoint, Endpoint::ChatCompletions | Endpoint::Completions);
    let edits = Edits {
        // Gemini's stands in the address.
        upstream_model: upstream_model.filter(|_| request.endpoint.format() != Some(Format::Gemini)),
        output_cap: request.cap_field(field).filter(|_| must_change).map(|field| (field, order.output_cap)),
        sole_cap_name,
        sole_system_role: sole_cap_name,
        include_usage: request.stream && tells_usage,
    };
    request.rewrite(order.body, &edits)
}

/// Whether the cap of a chat goes by OpenAI's newer name; DeepSeek passes over that, and would answer uncapped.
fn knows_newer_cap(order: &Order<'_>, route: &Route) -> bool {
    order.format != Format::DeepSeek && route.channel.output_cap_field == ChannelCapField::MaxCompletionTokens
}

/// The body in the upstream's format, what is left out of it, and whether its answer has one call at the most.
fn converted(order: &Order<'_>, route: &Route, from: Format) -> Result<(Bytes, LeftOut, bool), ConvertFault> {
    let target = convert::Target {
        format: order.format,
        model: model(order.request, route),
        stream: order.request.stream,
        output_cap: Some(order.output_cap),
        newer_cap_field: knows_newer_cap(order, route),
        size_hint: order.body.len() + order.body.len() / 8,
    };
    // It was read as text before.
    let text = std::str::from_utf8(order.body)
        .map_err(|_| ConvertFault::new("body", "text in UTF-8", "other bytes"))?;
    let mut left_out = LeftOut::default();
    let mut conversation = convert::read(from, text, &mut left_out)?;
    conversation.output_cap = conversation.output_cap.map(|own| own.min(order.output_cap));
    let body = convert::write(&mut conversation, &target, &mut left_out)?;
    Ok((body.into(), left_out, convert::wants_one_call(&conversation, order.format)))
}
