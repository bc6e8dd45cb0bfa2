//! A channel tried out by an operator: one tiny real call, sent as a caller's would be.
//!
//! Promises: nobody's account is charged and no hold is made; the channel's health learns nothing of it. The upstream
//! bills it to the platform like any other call. Of a model whose calls are tasks nothing is made: what is free is
//! tried, the address and the credential. Blocking: called from threads of their own.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::app::App;
use crate::catalogue::Code;
use crate::directory::Channel;
use crate::id::RequestId;

use super::attempt::{self, Failure};
use super::convert::Envelope;
use super::facts::Endpoint;
use super::identify;
use super::outgoing::{Order, Outgoing};
use super::request::{ModelRequest, Sample};
use super::route::{Route, Routes};
use super::upstream::{Answer, Collected, Settings, Tls, Upstreams};

mod free;

/// How long an operator waits for it.
const PATIENCE: Duration = Duration::from_secs(30);
/// Largest answer that is read.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// Enough for a model that thinks before it says a word.
const OUTPUT_TOKENS: u32 = 16;

/// What came of it.
#[derive(Clone, Debug)]
pub struct Tested {
    /// What the upstream answered; `None`: nothing came.
    pub status: Option<u16>,
    pub latency_ms: u64,
    /// `None`: the channel works.
    pub fault: Option<Code>,
    /// The upstream's own words, or what happened on the way to it; of a model whose calls are tasks, what was tried.
    pub text: Option<Box<str>>,
    pub upstream_request: Option<Box<str>>,
}

/// Why a channel cannot be tried.
#[derive(Clone, Debug)]
pub enum Untestable {
    /// It cannot be called at all.
    Channel(String),
    /// What this model makes would be billed, and there is nothing else to ask.
    Task,
}

impl From<String> for Untestable {
    fn from(why: String) -> Self {
        Untestable::Channel(why)
    }
}

/// Tries a channel with one of its credentials, by place.
pub fn test(app: &App, channel: &Arc<Channel>, model: &str, credential: usize) -> Result<Tested, Untestable> {
    let snapshot = app.directory.snapshot_owned();
    let known = snapshot.model(model);
    let endpoints =
        || known.into_iter().flat_map(|entry| entry.model.endpoints()).filter_map(identify::call_at);
    let endpoint = endpoints().find(|endpoint| !endpoint.is_task()).or_else(|| endpoints().next());
    let Sample { endpoint, media_type, body } =
        Sample::smallest(endpoint.unwrap_or(Endpoint::ChatCompletions), model, "ping");
    let request = ModelRequest::read(endpoint, media_type, &body).map_err(|why| why.to_string())?;
    let name = (RequestId::new(&*app.clock, &*app.entropy), 1);
    let tls = Tls::new(None).map_err(|why| format!("TLS cannot be set up: {why:?}"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|why| why.to_string())?;
    // A route of its own: the workers' are theirs.
    let route = Routes::default().get(channel, app)?;
    let format = match snapshot.model(model) {
        Some(entry) => route.speaks(endpoint, &entry.model),
        None => route.format,
    };
    let order = Order { request: &request, body: &body, output_cap: OUTPUT_TOKENS, format, name };
    if endpoint.is_task() && !free::is_known(&route) {
        return Err(Untestable::Task);
    }
    let began_ns = app.clock.mono_ns();
    let local = tokio::task::LocalSet::new();
    let mut tested = local.block_on(&runtime, async {
        let upstreams = Upstreams::new(Settings::default(), &tls);
        let asked = async {
            match endpoint.is_task() {
                true => free::ask(app, &upstreams, &route, model, credential).await,
                false => Ok(ask(app, &upstreams, &route, &order, credential).await),
            }
        };
        match timeout(PATIENCE, asked).await {
            Ok(tested) => tested,
            Err(_elapsed) => Ok(failed(None, None, Failure::timed_out())),
        }
    })?;
    tested.latency_ms = app.clock.mono_ns().saturating_sub(began_ns) / 1_000_000;
    Ok(tested)
}

async fn ask(
    app: &App,
    upstreams: &Upstreams,
    route: &Route,
    order: &Order<'_>,
    credential: usize,
) -> Tested {
    let outgoing = match Outgoing::new(order, route, credential) {
        Ok(outgoing) => outgoing,
        Err(fault) => return failed(None, None, Failure::from(fault)),
    };
    let mut answer = match upstreams.send(outgoing.call(route)).await {
        Ok(answer) => answer,
        Err(why) => return failed(None, None, Failure::from(&why)),
    };
    let (status, upstream_request) = (answer.status.as_u16(), attempt::upstream_request(&answer));
    match fault(app, route, order, &mut answer).await {
        Some(mut failure) => {
            route.hide_credential(credential, &mut failure.text);
            failed(Some(status), upstream_request, failure)
        }
        None => Tested { status: Some(status), latency_ms: 0, fault: None, text: None, upstream_request },
    }
}

/// The answer is read as that of any call: by the upstream's format, and into the caller's.
async fn fault(app: &App, route: &Route, order: &Order<'_>, answer: &mut Answer) -> Option<Failure> {
    if !answer.status.is_success() {
        return Some(attempt::read_error(answer, route.format, PATIENCE, app.clock.now_ms() / 1_000).await);
    }
    let content_type = attempt::content_type(answer);
    match answer.body.collect(ANSWER_BYTES_MAX).await {
        Err(why) => Some(Failure::from(&why)),
        Ok(Collected::Whole(body)) => {
            attempt::judge_whole(order.request.endpoint, order.format, &content_type, &body, || {
                envelope(app, order)
            })
            .err()
        }
        Ok(Collected::Begun(_)) => None,
    }
}

/// What a converted answer is wrapped in; nobody sees it.
fn envelope(app: &App, order: &Order<'_>) -> Envelope {
    Envelope {
        model: order.request.model.clone(),
        id: order.name.0.to_string().into(),
        created_s: app.clock.now_ms().div_euclid(1_000),
        include_usage: false,
        echo: Box::default(),
        counted: None,
        one_call: false,
    }
}

fn failed(status: Option<u16>, upstream_request: Option<Box<str>>, failure: Failure) -> Tested {
    Tested { status, latency_ms: 0, fault: Some(failure.code), text: Some(failure.text), upstream_request }
}
