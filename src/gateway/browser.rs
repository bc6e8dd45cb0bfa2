//! Clients that are pages in a browser: what a browser asks before it sends a page's call, and what it must read on the
//! answer before it gives that to the page (the Fetch standard, CORS protocol).
//!
//! Promises: a page may call what a program may call, with a key in its own hands, as it may at the providers themselves;
//! that a live key is used there is told to its owner elsewhere. No cookie comes along with such a call.
//! Must never: open the management interface or a page of the console, which know their users by a cookie.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};

use super::answer::AnswerBody;
use super::respond;
use crate::id::RequestId;

/// What is taken at the addresses that pages may call.
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, DELETE");
/// How long a browser need not ask again, in seconds: the most that any takes.
const ASKED_FOR_S: HeaderValue = HeaderValue::from_static("7200");
const ANY: HeaderValue = HeaderValue::from_static("*");

/// Where keys alone open anything.
fn is_open(path: &str) -> bool {
    ["/v1/", "/api/v1/", "/v1beta/"].into_iter().any(|base| path.starts_with(base)) || path == "/user/balance"
}

/// Whether a page has sent it, to where pages may call.
pub fn is_from_page(path: &str, headers: &HeaderMap) -> bool {
    headers.contains_key(header::ORIGIN) && is_open(path)
}

/// The answer to a browser that asks whether a page may send a call; `None`: it is no such question.
pub fn preflight(
    method: &Method,
    path: &str,
    headers: &HeaderMap,
    request: RequestId,
) -> Option<Response<AnswerBody>> {
    let asks = *method == Method::OPTIONS && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    if !asks || !is_from_page(path, headers) {
        return None;
    }
    let mut head = HeaderMap::with_capacity(7);
    if let Ok(id) = HeaderValue::from_bytes(&request.text()) {
        head.insert(respond::X_REQUEST_ID, id);
    }
    head.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    // By name: `*` does not stand for `Authorization`. Every SDK has names of its own.
    if let Some(names) = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        head.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
    }
    head.insert(header::ACCESS_CONTROL_MAX_AGE, ASKED_FOR_S);
    head.insert(header::VARY, HeaderValue::from_static("access-control-request-headers"));
    open(&mut head);
    Some(respond::response(StatusCode::NO_CONTENT, head, AnswerBody::whole(Bytes::new())))
}

/// Lets a page read an answer: what came of its call, and what that cost.
pub fn open(head: &mut HeaderMap) {
    const NAMES: [HeaderName; 2] =
        [header::ACCESS_CONTROL_ALLOW_ORIGIN, header::ACCESS_CONTROL_EXPOSE_HEADERS];
    NAMES.into_iter().for_each(|name| drop(head.insert(name, ANY)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d6_pages_may_call_where_a_key_opens_and_nowhere_else() {
        for path in
            ["/v1/chat/completions", "/api/v1/models", "/v1beta/models/m:generateContent", "/user/balance"]
        {
            assert!(is_open(path), "{path}");
        }
        for path in ["/api/keys", "/api/v1", "/", "/keys", "/v1x/models", "/metrics", "/user/balance/x"] {
            assert!(!is_open(path), "{path}");
        }
    }
}
