//! A notice as a signed POST.
//!
//! Promises: `tallygate-signature: t=<unix seconds>,v1=<hex>` is the HMAC-SHA256 of `<t>.<body>` under the endpoint's
//! secret; only a 2xx answer counts; an answer is waited for so long and read so far, no longer.
//! Must never: follow a redirect, or let anything of an answer but its status have an effect.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use ring::hmac;
use serde_json::json;
use tokio::time::{Instant, timeout_at};

use crate::catalogue::rfc3339;
use crate::directory::NoticeEndpoint;
use crate::gateway::upstream::{Call, ForwardError, Settings, Target, TargetError, Tls, Upstreams};
use crate::hex;
use crate::secret::Secret;

use super::stored::Notice;

/// Connecting and all of the answer included.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);
/// An answer is of no use; so much of it is read, for the receiver's sake.
const ANSWER_BYTES_MAX: usize = 1_024;

const SIGNATURE: HeaderName = HeaderName::from_static("tallygate-signature");
const EVENT: HeaderName = HeaderName::from_static("tallygate-event");
const NOTICE: HeaderName = HeaderName::from_static("tallygate-notice");

/// Why a webhook was not delivered.
#[derive(Debug)]
pub(super) enum WebhookError {
    Url(TargetError),
    /// The receiver answered with something else than 2xx.
    Status(StatusCode),
    Timeout,
    Forward(ForwardError),
    /// The request cannot be written.
    Unsendable,
}

impl fmt::Display for WebhookError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(why) => write!(f, "the URL cannot be used: {why}"),
            Self::Status(status) => write!(f, "answered with HTTP {}", status.as_u16()),
            Self::Timeout | Self::Forward(ForwardError::Timeout { .. }) => {
                write!(f, "no answer within {} seconds", TIMEOUT.as_secs())
            }
            Self::Forward(ForwardError::Connect { source }) => write!(f, "no connection: {source}"),
            Self::Forward(ForwardError::Tls { source }) => write!(f, "TLS failed: {source}"),
            Self::Forward(ForwardError::Closed { .. }) => {
                f.write_str("the connection was closed without an answer")
            }
            Self::Forward(ForwardError::Protocol(why)) => write!(f, "the answer is not usable: {why}"),
            Self::Forward(other) => write!(f, "{other}"),
            Self::Unsendable => f.write_str("the request cannot be written"),
        }
    }
}

impl std::error::Error for WebhookError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Url(why) => Some(why),
            Self::Forward(why) => Some(why),
            Self::Status(_) | Self::Timeout | Self::Unsendable => None,
        }
    }
}

/// What is posted: the same bytes at every attempt.
pub(super) fn body(notice: &Notice, endpoint: &NoticeEndpoint) -> Bytes {
    let words = notice.words(endpoint.language);
    let body = json!({
        "id": notice.id,
        "event": notice.event,
        "at": rfc3339(notice.at_ms),
        "account": notice.account,
        "subject": notice.subject,
        "facts": notice.facts,
        "language": endpoint.language,
        "title": words.title,
        "text": words.text,
    });
    Bytes::from(body.to_string())
}

/// The header's value for a body that is sent now.
pub(super) fn signature(secret: &Secret, now_s: i64, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
    let mut signed = hmac::Context::with_key(&key);
    signed.update(format!("{now_s}.").as_bytes());
    signed.update(body);
    format!("t={now_s},v1={}", hex::encode(signed.sign().as_ref()))
}

/// The URL as the delivery log shows it: what stands behind `?` is often a receiver's secret.
pub(super) fn shown(url: &str) -> &str {
    url.split_once('?').map_or(url, |(shown, _)| shown)
}

/// A client for webhooks: each attempt is a connection of its own. `public_only`: for what members named, who are not to
/// call into the house.
pub(super) fn client(tls: &Tls, public_only: bool) -> Upstreams {
    let settings = Settings {
        connect_timeout: TIMEOUT,
        write_timeout: TIMEOUT,
        header_timeout: TIMEOUT,
        idle_per_host_max: 0,
        idle_timeout: Duration::ZERO,
        http2: false,
        public_only,
    };
    Upstreams::new(settings, tls)
}

/// One attempt.
pub(super) async fn post(
    client: &Upstreams,
    url: &str,
    notice: &Notice,
    signature: &str,
    body: Bytes,
) -> Result<(), WebhookError> {
    let deadline = Instant::now() + TIMEOUT;
    let (base, path) = split(url);
    let target = Target::parse(base).map_err(WebhookError::Url)?;
    let value = |text: &str| HeaderValue::from_str(text).map_err(|_| WebhookError::Unsendable);
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::USER_AGENT, HeaderValue::from_static(concat!("tallygate/", env!("CARGO_PKG_VERSION")))),
        (SIGNATURE, value(signature)?),
        (EVENT, value(&notice.event)?),
        (NOTICE, value(&notice.id.to_string())?),
    ];
    let call = Call { target: &target, method: Method::POST, path: &path, headers: &headers, body };
    let answer = timeout_at(deadline, client.send(call)).await.map_err(|_| WebhookError::Timeout)?;
    let mut answer = answer.map_err(WebhookError::Forward)?;
    if !answer.status.is_success() {
        return Err(WebhookError::Status(answer.status));
    }
    // It is delivered already: whatever goes wrong with the rest of the answer changes nothing.
    let _rest = timeout_at(deadline, answer.body.collect(ANSWER_BYTES_MAX)).await;
    Ok(())
}

/// Origin, and path with query.
fn split(url: &str) -> (&str, String) {
    let host = url.find("://").map_or(0, |at| at + 3);
    let end = url.get(host..).and_then(|rest| rest.find(['/', '?'])).map_or(url.len(), |at| host + at);
    let (origin, path) = url.split_at_checked(end).unwrap_or((url, ""));
    match path.starts_with('/') {
        true => (origin, path.to_owned()),
        false => (origin, format!("/{path}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart_where_its_path_begins() {
        let table = [
            ("https://a.example", "https://a.example", "/"),
            ("https://a.example/", "https://a.example", "/"),
            ("https://a.example?x=/y", "https://a.example", "/?x=/y"),
            ("http://[::1]:80/h/k?x=1", "http://[::1]:80", "/h/k?x=1"),
        ];
        for (url, origin, path) in table {
            assert_eq!(split(url), (origin, path.to_owned()), "{url}");
        }
        assert_eq!(shown("https://a.example/h?token=1"), "https://a.example/h");
    }

    /// I3: computed by `printf '1795334400.{"a":1}' | openssl dgst -sha256 -hmac whsec-0123456789abcdef`.
    #[test]
    fn i3_a_signature_is_what_any_other_program_computes() {
        let secret = Secret::new("whsec-0123456789abcdef");
        assert_eq!(
            signature(&secret, 1_795_334_400, br#"{"a":1}"#),
            "t=1795334400,v1=b4fa07c476aceb9b43cca53325d704ea13e93dfd1936197564ca70ce8adefb1c"
        );
    }
}
