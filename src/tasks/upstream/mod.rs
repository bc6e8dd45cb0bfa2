//! How upstreams speak of tasks: what they are asked, and what their answers say. No I/O.
//!
//! They speak OpenAI's video API.
//! An answer that cannot be understood says nothing about the task: it is asked about again.

mod openai;

use bytes::Bytes;
use http::Method;

use super::task::{Failure, Task};
use crate::gateway::provider::openai::{UpstreamFault, classify};
use crate::gateway::request::{ModelRequest, VideoWish};

/// A task as it is submitted. The prompt lives here alone.
#[derive(Clone, Debug)]
pub struct Submission {
    pub request: ModelRequest,
    pub wish: VideoWish,
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
    pub body: Bytes,
}

impl Question {
    fn bare(method: Method, path: String) -> Self {
        Question { method, path, content_type: None, body: Bytes::new() }
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
    /// Milliseconds; `None`: as many as were asked for.
    pub used_ms: Option<u64>,
    pub expires_ms: Option<i64>,
}

/// What came of a submission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It has the task, under this name.
    Yes { id: Box<str>, news: News },
    /// It has not, for certain.
    No(UpstreamFault),
    /// It may have.
    Unclear(Box<str>),
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

/// The language of upstreams.
#[derive(Clone, Copy, Debug)]
pub struct Speech;

impl Speech {
    pub fn submit(self, task: &Task, submission: &Submission) -> Question {
        openai::submit(task, submission)
    }

    pub fn taken(self, status: u16, body: &[u8], now_ms: i64) -> Taken {
        if !is_success(status) {
            // A gateway between us that gave up says nothing about what is behind it.
            if matches!(status, 502 | 504) {
                return Taken::Unclear(format!("status {status}").into());
            }
            return Taken::No(classify(status, &http::HeaderMap::new(), body, now_ms / 1_000));
        }
        let Ok(json) = serde_json::from_slice(body) else {
            return Taken::Unclear("the answer is no JSON".into());
        };
        match openai::id(&json).filter(|id| is_name(id)) {
            Some(id) => Taken::Yes { id: id.into(), news: openai::news(&json) },
            None => Taken::Unclear("the answer names no task".into()),
        }
    }

    pub fn ask(self, upstream_id: &str) -> Question {
        Question::bare(Method::GET, format!("/videos/{upstream_id}"))
    }

    pub fn news(self, status: u16, body: &[u8]) -> News {
        match status {
            404 | 410 => News::Unknown,
            status if !is_success(status) => News::Unclear(format!("status {status}").into()),
            _ => match serde_json::from_slice(body) {
                Err(_) => News::Unclear("the answer is no JSON".into()),
                Ok(json) => openai::news(&json),
            },
        }
    }

    pub fn cancel(self, upstream_id: &str) -> Question {
        Question::bare(Method::DELETE, format!("/videos/{upstream_id}"))
    }

    /// Which tasks it has had of late.
    pub fn look_up(self) -> Question {
        Question::bare(Method::GET, "/videos?limit=100&order=desc".to_owned())
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
    pub fn content(self, upstream_id: &str, variant: Option<&str>) -> String {
        let variant = variant.map(|variant| format!("?variant={variant}")).unwrap_or_default();
        format!("/videos/{upstream_id}/content{variant}")
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
