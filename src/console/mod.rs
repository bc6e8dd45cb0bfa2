//! Plain pages: why a call was refused, and what every code means. English and Chinese.
//!
//! Promises: a page works without scripts and loads nothing from anywhere; its Content-Security-Policy allows
//! nothing but its own style and forms to this server. A key that is typed in travels in the body of one
//! request, is used for that answer, and is never stored, logged or put into an address.
//! Must never: hold a rule, or show a call to somebody whose key did not make it, beyond its code.

mod errors;
mod home;
mod why;

use askama::Template;
use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::api::{Site, language_of};
use crate::catalogue::Language;
use crate::clock::Entropy;

/// The pages, below the addresses that refusals link to.
pub fn router(site: Site) -> Router {
    let (start, look_up) = (site.clone(), site.clone());
    let (index, one, show, unlock) = (site.clone(), site.clone(), site.clone(), site);
    Router::new()
        .route("/", get(move |request: Request| async move { home::home(&start, &request) }))
        .route("/why", get(move |request: Request| async move { home::look_up(&look_up, &request) }))
        .route("/errors", get(move |request: Request| async move { errors::index(&index, &request) }))
        .route("/errors/{code}", get(move |request: Request| async move { errors::one(&one, &request) }))
        .route(
            "/why/{id}",
            get(move |request: Request| async move { why::show(show, request).await })
                .post(move |request: Request| async move { why::unlock(unlock, request).await }),
        )
}

/// What every page needs to know.
#[derive(Clone, Debug)]
pub struct Frame {
    pub language: Language,
    /// Of the one style element that the page may have.
    pub nonce: String,
    /// Address of the page without its query.
    pub path: String,
}

impl Frame {
    fn new(site: &Site, request: &Request) -> Self {
        let asked = request.uri().query().and_then(|query| {
            query
                .split('&')
                .find_map(|pair| pair.strip_prefix("lang="))
                .and_then(|tag| Language::ALL.into_iter().find(|language| language.as_str() == tag))
        });
        let mut nonce = [0; 16];
        Entropy::fill(&*site.app.entropy, &mut nonce);
        Frame {
            language: asked.unwrap_or_else(|| language_of(request.headers())),
            nonce: crate::hex::encode(&nonce),
            path: request.uri().path().to_owned(),
        }
    }

    /// A text in the page's language.
    pub fn w(&self, en: &'static str, zh: &'static str) -> &'static str {
        if self.language == Language::Zh { zh } else { en }
    }

    pub fn lang(&self) -> Language {
        self.language
    }

    pub fn tag(&self) -> &'static str {
        self.language.as_str()
    }

    /// The last part of the address: what the page is about.
    fn subject(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    fn answer(&self, status: StatusCode, page: &impl Template) -> Response {
        let Ok(html) = page.render() else {
            tracing::error!(path = %self.path, "a page could not be written");
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        };
        let policy = format!(
            "default-src 'none'; style-src 'nonce-{}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
            self.nonce
        );
        let mut response = (status, html).into_response();
        let headers = response.headers_mut();
        let fixed = [
            (header::CONTENT_TYPE, "text/html; charset=utf-8"),
            (header::CONTENT_LANGUAGE, self.tag()),
            (header::CACHE_CONTROL, "no-store"),
            (header::REFERRER_POLICY, "no-referrer"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (HeaderName::from_static("x-robots-tag"), "noindex"),
        ];
        for (name, value) in fixed {
            headers.insert(name, HeaderValue::from_static(value));
        }
        // The nonce is hexadecimal.
        if let Ok(policy) = HeaderValue::from_str(&policy) {
            headers.insert(header::CONTENT_SECURITY_POLICY, policy);
        }
        response
    }
}

/// A parameter of the query string that needs no decoding.
fn parameter<'r>(request: &'r Request, name: &str) -> Option<&'r str> {
    let pairs = request.uri().query()?.split('&').filter_map(|pair| pair.split_once('='));
    pairs.into_iter().find(|(known, _)| *known == name).map(|(_, value)| value)
}

/// A page that says one thing.
#[derive(Template)]
#[template(path = "notice.html")]
struct Notice {
    frame: Frame,
    title: &'static str,
    text: String,
}

impl Notice {
    fn not_found(frame: Frame, en: &'static str, zh: &'static str) -> Response {
        let text = frame.w(en, zh).to_owned();
        let title = frame.w("Not found", "未找到");
        let page = Notice { frame: frame.clone(), title, text };
        frame.answer(StatusCode::NOT_FOUND, &page)
    }
}
