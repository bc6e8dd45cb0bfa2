//! `/`: where to point a client to, and a form that leads to the explanation of a call.

use askama::Template;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};

use crate::api::Site;
use crate::id::RequestId;

use super::{Frame, Notice, parameter};

#[derive(Template)]
#[template(path = "home.html")]
struct Home {
    frame: Frame,
    base_url: String,
}

pub fn home(site: &Site, request: &Request) -> Response {
    let frame = Frame::new(site, request);
    let page = Home { frame: frame.clone(), base_url: format!("{}/v1", site.public_url) };
    frame.answer(StatusCode::OK, &page)
}

/// Leads from the form's `?id=` to the page of the call. Blanks around an id come from copying.
pub fn look_up(site: &Site, request: &Request) -> Response {
    let frame = Frame::new(site, request);
    let typed = parameter(request, "id").unwrap_or_default().replace("%20", "").replace('+', "");
    match typed.parse::<RequestId>() {
        Ok(id) => Redirect::to(&format!("/why/{id}?lang={}", frame.tag())).into_response(),
        Err(_) => Notice::not_found(frame, "This is not a request id.", "这不是请求编号。"),
    }
}
