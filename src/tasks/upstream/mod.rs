//! How upstreams speak of tasks: what they are asked, and what their answers say. No I/O.
//!
//! Videos are made by OpenAI's video API. Its image API has no tasks: it answers with the pictures, so that the gateway
//! waits for them in the caller's place. Whatever else an upstream speaks, its channel's document says how.
//! An answer that cannot be understood says nothing about the task: it is asked about again.

mod mapped;
mod openai;
mod pictures;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use ledger::Nano;

use super::results::Made;
use super::task::{Failure, Task, TaskKind};
use super::used::Used;
use crate::catalogue::Code;
use crate::directory::task_api::TaskMapping;
use crate::directory::{Channel, TaskApi};
use crate::gateway::facts::UsageSource;
use crate::gateway::provider::openai::{UpstreamFault, UpstreamFaultKind, classify, of_code};
use crate::gateway::request::{ModelRequest, TaskWish};
use crate::secret::Secret;

/// A task as it is submitted. The prompt lives here alone.
#[derive(Clone, Debug)]
pub struct Submission {
    pub request: ModelRequest,
    pub wish: TaskWish,
    /// As it came, with what it was declared as.
    pub body: Bytes,
    pub media_type: Option<Box<str>>,
}

/// What an upstream is asked, below its base URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub method: Method,
    pub path: String,
    /// `None`: no body.
    pub content_type: Option<Box<str>>,
    /// Beside those of every question.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub body: Bytes,
}

/// A field that the channel's upstream has no place for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    pub field: Box<str>,
}

impl Unfit {
    fn new(field: &str) -> Self {
        Unfit { field: field.into() }
    }
}

impl Question {
    fn bare(method: Method, path: String) -> Self {
        Question { method, path, content_type: None, headers: Vec::new(), body: Bytes::new() }
    }
}

/// What an upstream says of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    Queued,
    Running {
        progress: u32,
    },
    Made(Product),
    Failed(Failure),
    Cancelled,
    /// It knows no such task.
    Unknown,
    /// Nothing can be told: it is down, refuses our credential, or its words are not understood.
    Unclear(Box<str>),
}

/// What an upstream has produced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Product {
    /// `None`: as much as was asked for.
    pub used: Option<Used>,
    pub expires_ms: Option<i64>,
    /// What is to be kept of it; empty: the upstream keeps it.
    pub made: Vec<Made>,
    /// What the upstream bills for it, where it tells that.
    pub cost: Option<Nano>,
}

impl Product {
    /// So much of its unit, as the upstream told it.
    fn of(task: &Task, counted: Option<u64>, expires_ms: Option<i64>) -> Self {
        let used = counted.map(|counted| {
            let usage = task.usage_of(counted);
            Used { usage, source: UsageSource::Upstream }
        });
        Product { used, expires_ms, ..Product::default() }
    }
}

/// What came of a submission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It has the task, under this name.
    Yes { id: Box<str>, news: News },
    /// It has made it at once.
    Made(Vec<Made>),
    /// It has not, for certain.
    No(UpstreamFault),
    /// It may have.
    Unclear(UpstreamFaultKind, Box<str>),
}

impl Taken {
    fn odd(what: &str) -> Self {
        Taken::Unclear(UpstreamFaultKind::Error, what.into())
    }
}

/// Whether the upstream has a task whose name was not learnt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Names that can be ours; the first that is nobody else's is.
    These(Vec<Box<str>>),
    /// It never came.
    Nothing,
    Unclear,
}

/// Longest name of a task at an upstream, in bytes.
const ID_BYTES_MAX: usize = 256;
/// An upstream's words about a failure are kept up to this size.
const TEXT_BYTES_MAX: usize = 500;

/// The language of an upstream.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speech<'a> {
    /// OpenAI's video API.
    Videos,
    /// OpenAI's image API.
    Pictures,
    /// As the channel's document says.
    Mapped(&'a TaskMapping),
}

impl<'a> Speech<'a> {
    /// What the upstream of a channel speaks about tasks of this kind.
    pub fn of(kind: TaskKind, channel: &'a Channel) -> Self {
        let api = channel.task_api.as_deref();
        match kind {
            TaskKind::Video => api.and_then(|api| api.video.as_ref()).map_or(Speech::Videos, Speech::Mapped),
            TaskKind::Image => {
                api.and_then(|api| api.image.as_ref()).map_or(Speech::Pictures, Speech::Mapped)
            }
        }
    }

    /// Whether the answer to a submission is the result itself, so that the upstream knows of no task.
    pub fn answers_with_results(self) -> bool {
        self == Speech::Pictures
    }

    /// Whether a task can be found again there whose name was not learnt.
    pub fn finds(self) -> bool {
        self == Speech::Videos
    }

    pub fn submit(self, task: &Task, submission: &Submission) -> Result<Question, Unfit> {
        match self {
            Speech::Videos => Ok(openai::submit(task, submission)),
            Speech::Pictures => Ok(pictures::submit(task, submission)),
            Speech::Mapped(mapping) => mapped::submit(mapping, task, submission),
        }
    }

    pub fn taken(self, task: &Task, status: u16, headers: &HeaderMap, body: &[u8], now_ms: i64) -> Taken {
        if !is_success(status) {
            let fault = classify(status, headers, body, now_ms / 1_000);
            return match is_definite(status, body) {
                true => Taken::No(fault),
                false => Taken::Unclear(fault.kind, format!("status {status}").into()),
            };
        }
        let Ok(json) = serde_json::from_slice(body) else { return Taken::odd("the answer is no JSON") };
        match self {
            Speech::Pictures => pictures::made(&json),
            Speech::Mapped(mapping) => mapped::taken(mapping, task, &json, now_ms),
            Speech::Videos => match openai::id(&json).filter(|id| is_name(id)) {
                Some(id) => Taken::Yes { id: id.into(), news: openai::news(task, &json) },
                None => Taken::odd("the answer names no task"),
            },
        }
    }

    /// `None`: its upstream knows of no task.
    pub fn ask(self, task: &Task, upstream_id: &str) -> Option<Question> {
        match self {
            Speech::Videos => Some(Question::bare(Method::GET, format!("/videos/{upstream_id}"))),
            Speech::Pictures => None,
            Speech::Mapped(mapping) => Some(mapped::ask(mapping, task, upstream_id)),
        }
    }

    pub fn news(self, task: &Task, status: u16, body: &[u8], now_ms: i64) -> News {
        match status {
            404 | 410 => return News::Unknown,
            status if !is_success(status) => return News::Unclear(format!("status {status}").into()),
            _ => {}
        }
        match (self, serde_json::from_slice(body)) {
            (_, Err(_)) => News::Unclear("the answer is no JSON".into()),
            (Speech::Mapped(mapping), Ok(json)) => mapped::news(mapping, task, &json, now_ms),
            (_, Ok(json)) => openai::news(task, &json),
        }
    }

    /// `None`: nothing there can be cancelled.
    pub fn cancel(self, task: &Task, upstream_id: &str) -> Option<Question> {
        match self {
            Speech::Videos => Some(Question::bare(Method::DELETE, format!("/videos/{upstream_id}"))),
            Speech::Pictures => None,
            Speech::Mapped(mapping) => mapped::cancel(mapping, task, upstream_id),
        }
    }

    /// Which tasks it has had of late; `None`: it cannot be asked.
    pub fn look_up(self) -> Option<Question> {
        let path = || "/videos?limit=100&order=desc".to_owned();
        self.finds().then(|| Question::bare(Method::GET, path()))
    }

    pub fn found(self, task: &Task, status: u16, body: &[u8]) -> Found {
        let Some(json) = is_success(status).then(|| serde_json::from_slice(body).ok()).flatten() else {
            return Found::Unclear;
        };
        match openai::found(task, &json) {
            Found::These(ids) => Found::These(ids.into_iter().filter(|id| is_name(id)).collect()),
            other => other,
        }
    }

    /// Where the result itself is, if it is asked for with the channel's credential.
    pub fn content(self, upstream_id: &str, variant: Option<&str>) -> Option<String> {
        let variant = variant.map(|variant| format!("?variant={variant}")).unwrap_or_default();
        (self == Speech::Videos).then(|| format!("/videos/{upstream_id}/content{variant}"))
    }
}

/// The header that a channel's credential goes in where it is asked about tasks. The error is for operators.
pub fn credential_header(
    channel: &Channel,
    credential: &Secret,
) -> Result<(HeaderName, HeaderValue), String> {
    let api = channel.task_api.as_deref();
    let named = api.and_then(|api: &TaskApi| api.credential_header.as_deref());
    let name = named.map_or(Ok(AUTHORIZATION), |name| HeaderName::from_bytes(name.as_bytes()));
    let name = name.map_err(|_| "the credential's header is none".to_owned())?;
    let unsaid = if name == AUTHORIZATION { "Bearer " } else { "" };
    let prefix = api.and_then(|api| api.credential_prefix.as_deref()).unwrap_or(unsaid);
    let value = HeaderValue::from_str(&format!("{prefix}{}", credential.expose()));
    let mut value = value.map_err(|_| "the credential is no header value".to_owned())?;
    value.set_sensitive(true);
    Ok((name, value))
}

/// Whether an answer to a question about a task says that the credential is of no use. That a task is another account's,
/// which many say with 403, is no fault of it.
pub fn refusal_of_credential(status: u16, body: &[u8]) -> Option<Code> {
    if is_success(status) {
        return None;
    }
    let fault = classify(status, &HeaderMap::new(), body, 0);
    let is_named = || fault.code.as_deref().and_then(of_code) == Some(UpstreamFaultKind::AuthFailed);
    match fault.kind {
        UpstreamFaultKind::OutOfCredit => Some(Code::UpstreamOutOfCredit),
        UpstreamFaultKind::AuthFailed if status == 401 || is_named() => Some(Code::UpstreamAuthFailed),
        _ => None,
    }
}

/// Whether a refusal is the upstream's own word that it has not taken the task. A gateway between us that gave up says
/// nothing about what is behind it, and neither does a server that broke down while it was at it.
fn is_definite(status: u16, body: &[u8]) -> bool {
    match status {
        408 | 499 => false,
        400..=499 => true,
        500 | 503 | 529 => {
            serde_json::from_slice::<serde_json::Value>(body).is_ok_and(|said| said.is_object())
        }
        _ => false,
    }
}

fn is_success(status: u16) -> bool {
    (200..300).contains(&status)
}

/// It goes into paths, so it is plain.
fn is_name(id: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':');
    !id.is_empty()
        && id.len() <= ID_BYTES_MAX
        && id.bytes().all(plain)
        && !id.bytes().all(|byte| byte == b'.')
}

/// Words of an upstream about its account with the platform, in any case; what a caller asked for may be quoted with them,
/// and then it is not shown either.
const OF_ACCOUNT: [&str; 10] =
    ["quota", "balance", "billing", "recharge", "top up", "api key", "api_key", " sk-", "欠费", "余额"];

/// A failure as its upstream tells it; what is between the platform and the upstream alone is told to no caller in the
/// upstream's words: it would be taken for the caller's own balance, and may have parts of a credential in it.
fn failed(code: &str, text: &str) -> Failure {
    const TEXT: &str =
        "The upstream could not make it. Neither the account's balance nor its limits are the reason.";
    let is_of_account = |told: &str| {
        let told = told.to_lowercase();
        OF_ACCOUNT.iter().any(|words| told.contains(words))
    };
    let ours = match of_code(code) {
        Some(UpstreamFaultKind::OutOfCredit) => Code::UpstreamOutOfCredit,
        Some(UpstreamFaultKind::AuthFailed) => Code::UpstreamAuthFailed,
        Some(UpstreamFaultKind::RateLimited) => Code::UpstreamRateLimited,
        Some(_) => Code::UpstreamError,
        None if is_of_account(text) || is_of_account(code) => Code::UpstreamError,
        None => return Failure::new(cut(code), cut(text)),
    };
    Failure::new(ours.as_str(), TEXT)
}

fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(TEXT_BYTES_MAX)).unwrap_or_default()
}

/// Seconds as upstreams write them, `"4"`, `4` or `4.5`, in milliseconds.
fn milliseconds(seconds: &serde_json::Value) -> Option<u64> {
    let text = match seconds {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Number(number) => number.to_string(),
        _ => return None,
    };
    // A nano-unit's nine places are more than a millisecond's three; what is finer counts as a whole one.
    let nano = ledger::Nano::parse_decimal(&text).ok().filter(|nano| nano.0 >= 0)?;
    u64::try_from(nano.0).ok().map(|nano| nano.div_ceil(1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h2_a_credential_is_refused_where_its_upstream_says_so_and_not_where_a_task_is_anothers() {
        use Code::{UpstreamAuthFailed, UpstreamOutOfCredit};
        for (status, body, expected) in [
            (200, "{}", None),
            (401, "{}", Some(UpstreamAuthFailed)),
            (402, "", Some(UpstreamOutOfCredit)),
            (403, r#"{"error": {"message": "This task belongs to another user."}}"#, None),
            (403, r#"{"error": {"code": "invalid_api_key"}}"#, Some(UpstreamAuthFailed)),
            (403, r#"{"code": "Arrearage", "message": "Access denied."}"#, Some(UpstreamOutOfCredit)),
            (404, r#"{"error": {"message": "no such video"}}"#, None),
            (429, "{}", None),
            (500, "{}", None),
        ] {
            assert_eq!(refusal_of_credential(status, body.as_bytes()), expected, "{status} {body}");
        }
    }

    #[test]
    fn c2_what_is_between_platform_and_upstream_is_told_to_no_caller() {
        for (code, text, expected) in [
            (
                "insufficient_quota",
                "You exceeded your current quota (key sk-SECRET)",
                "upstream_out_of_credit",
            ),
            ("InsufficientBalance", "recharge at acme.example", "upstream_out_of_credit"),
            ("Arrearage", "Access denied", "upstream_out_of_credit"),
            ("invalid_api_key", "Incorrect API key provided: sk-SECRET", "upstream_auth_failed"),
            ("E7", "\u{60a8}\u{7684}\u{8d26}\u{6237}\u{5df2}\u{6b20}\u{8d39}", "upstream_error"),
            ("E7", "Please top up your Balance.", "upstream_error"),
        ] {
            let failure = failed(code, text);
            assert_eq!(&*failure.code, expected, "{code}: {text}");
            assert!(failure.text.starts_with("The upstream could not make it."), "{}", failure.text);
        }
        let of_content = failed("moderation_blocked", "The prompt of the task was refused.");
        assert_eq!(of_content, Failure::new("moderation_blocked", "The prompt of the task was refused."));
    }
}
