//! What costs nothing to ask of an upstream whose calls are tasks: its list of models, which tells whether the address
//! and the credential work.
//!
//! Must never: make anything that is billed.

use bytes::Bytes;
use http::Method;
use serde::Deserialize;

use crate::app::App;

use super::super::attempt::{self, Failure};
use super::super::convert::Format;
use super::super::route::Route;
use super::super::upstream::{Call, Collected, Upstreams};
use super::{ANSWER_BYTES_MAX, PATIENCE, Tested, Untestable, failed};

const LISTED: &str = "The address and the key work, and the list of models has this one. No task was made: it would be billed.";
const UNLISTED: &str = "The address and the key work; the list of models does not have this one. No task was made: it would be billed.";

/// Whether it is known what can be asked: who speaks of tasks in a way of its own may have another kind of credential,
/// and no list.
pub(super) fn is_known(route: &Route) -> bool {
    let of_open_ai = matches!(route.format, Format::OpenAi | Format::DeepSeek | Format::Responses);
    of_open_ai && route.channel.task_api.is_none()
}

/// Asks for the list. `Err`: there is none.
pub(super) async fn ask(
    app: &App,
    upstreams: &Upstreams,
    route: &Route,
    model: &str,
    credential: usize,
) -> Result<Tested, Untestable> {
    let headers = route.headers(credential);
    let call =
        Call { target: &route.target, method: Method::GET, path: "/models", headers, body: Bytes::new() };
    let mut answer = match upstreams.send(call).await {
        Ok(answer) => answer,
        Err(why) => return Ok(failed(None, None, Failure::from(&why))),
    };
    let (status, request) = (answer.status.as_u16(), attempt::upstream_request(&answer));
    if matches!(status, 404 | 405 | 501) {
        return Err(Untestable::Task);
    }
    if !answer.status.is_success() {
        let now_s = app.clock.now_ms() / 1_000;
        let mut failure = attempt::read_error(&mut answer, route.format, PATIENCE, now_s).await;
        route.hide_credential(credential, &mut failure.text);
        return Ok(failed(Some(status), request, failure));
    }
    let body = match answer.body.collect(ANSWER_BYTES_MAX).await {
        Ok(Collected::Whole(body)) => body,
        Ok(Collected::Begun(_)) => return Err(Untestable::Task),
        Err(why) => return Ok(failed(Some(status), request, Failure::from(&why))),
    };
    let Ok(list) = serde_json::from_slice::<Models>(&body) else { return Err(Untestable::Task) };
    let name = route.channel.models.get(model).map_or(model, |name| &**name);
    let text = if list.data.iter().any(|listed| listed.id == name) { LISTED } else { UNLISTED };
    let text = Some(text.into());
    Ok(Tested { status: Some(status), latency_ms: 0, fault: None, text, upstream_request: request })
}

#[derive(Deserialize)]
struct Models {
    data: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    id: String,
}
