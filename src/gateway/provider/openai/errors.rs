//! What an upstream's error means for a call.
//!
//! The upstream's own words stay in the fault for the operator; the caller
//! sees only the kind, but of a request that was rejected. Codes are believed before words, and words only where a
//! request cannot put them: an upstream quotes parts of the request in its
//! messages, and a caller must not be able to make a channel look broke.

use std::time::Duration;

use http::HeaderMap;
use serde::Deserialize;
use serde_json::value::RawValue;

/// Longest message kept, in bytes.
const MESSAGE_BYTES_MAX: usize = 4096;
/// Of an error body, this much is read, in bytes.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// Longest wait believed from an upstream.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 3600);

/// The kinds of upstream faults, one for each code of the ladder's last rung.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamFaultKind {
    /// It found fault with the request itself.
    Rejected,
    /// It failed, or answered what nobody can use.
    Error,
    /// It did not answer in time, or says so of its own upstream.
    Timeout,
    /// It refuses more requests for now.
    RateLimited,
    /// The platform's account there has no money left.
    OutOfCredit,
    /// It does not know the platform's credential, or forbids its use.
    AuthFailed,
    /// It does not have the model that the channel names.
    ModelMissing,
}

/// An upstream's error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamFault {
    pub kind: UpstreamFaultKind,
    /// The HTTP status, or that which an error in a stream stands for.
    pub status: u16,
    /// The upstream's own code, if it gave one.
    pub code: Option<Box<str>>,
    /// The field of the request that it blames.
    pub param: Option<Box<str>>,
    /// Its words, verbatim but for their length. For operators only.
    pub message: Box<str>,
    /// How long it asks to wait.
    pub retry_after: Option<Duration>,
}

/// Reads an error answer. `now_unix_s` is needed for a `Retry-After` that is a
/// date.
pub fn classify(status: u16, headers: &HeaderMap, body: &[u8], now_unix_s: i64) -> UpstreamFault {
    let said = Said::read(body);
    UpstreamFault {
        kind: kind(status, &said),
        status,
        retry_after: retry_after(headers, now_unix_s),
        code: said.code,
        param: said.param,
        message: said.message,
    }
}

/// Reads the error event of a stream that began with 200.
pub(super) fn of_stream(data: &[u8]) -> UpstreamFault {
    let said = Said::read(data);
    let code = said.code.as_deref().unwrap_or_default();
    let status = match code.parse::<u16>() {
        Ok(status) if (400..600).contains(&status) => status,
        _ if said.is_coded(&BROKE) => 402,
        _ if said.is_coded(&UNKNOWN) => 401,
        _ if code.starts_with("rate_limit") || said.kind.starts_with("rate_limit") => 429,
        _ if REJECTED.contains(&code) || &*said.kind == "invalid_request_error" => 400,
        _ => 502,
    };
    UpstreamFault {
        kind: kind(status, &said),
        status,
        code: said.code,
        param: said.param,
        message: said.message,
        retry_after: None,
    }
}

/// What upstreams call an account without money: OpenAI, DeepSeek and their like, new-api and its like
/// (`insufficient_user_quota`), Moonshot (`exceeded_current_quota_error`), DashScope (`Arrearage`), Ark
/// (`AccountOverdueError`).
const BROKE: [&str; 11] = [
    "insufficient_quota",
    "billing_hard_limit_reached",
    "billing_not_active",
    "insufficient_balance",
    "insufficient_funds",
    "balance_exhausted",
    "insufficient_user_quota",
    "pre_consume_token_quota_failed",
    "exceeded_current_quota_error",
    "arrearage",
    "account_overdue_error",
];
/// What Zhipu calls it, among its refusals for a rate. Elsewhere a number may mean anything.
const BROKE_AT_RATE: [&str; 1] = ["1113"];
/// A credential that is not known.
const UNKNOWN: [&str; 2] = ["invalid_api_key", "account_deactivated"];
/// What a 403 is called that is about what the request says.
const FLAGGED: [&str; 6] = [
    "content_policy_violation",
    "content_filter",
    "moderation_blocked",
    "sensitive_words_detected",
    "prompt_blocked",
    "data_inspection_failed",
];

/// Codes by which a stream says that the request was wrong.
const REJECTED: [&str; 3] = ["context_length_exceeded", "invalid_prompt", "invalid_value"];

/// The words by which providers say that a conversation is longer than their model takes.
const TOO_LONG: [&str; 6] = [
    "maximum context length",
    "prompt is too long",
    "exceed context limit",
    "exceeds the context window",
    "exceeds the maximum number of tokens",
    "input tokens exceed",
];

impl UpstreamFault {
    /// Whether it says that the conversation is too long for the model. A request that puts such words into its own
    /// rejection misleads nobody but its own client.
    pub fn is_too_long(&self) -> bool {
        let message = self.message.to_ascii_lowercase();
        self.kind == UpstreamFaultKind::Rejected
            && (self.code.as_deref() == Some("context_length_exceeded")
                || TOO_LONG.iter().any(|words| message.contains(words)))
    }
}

/// What a code says by itself, without a status; `None`: it may be about what was asked for.
pub fn of_code(code: &str) -> Option<UpstreamFaultKind> {
    let is_any = |codes: &[&str]| codes.iter().any(|known| is_word(known, code));
    match code {
        _ if is_any(&BROKE) || is_any(&BROKE_AT_RATE) => Some(UpstreamFaultKind::OutOfCredit),
        _ if is_any(&UNKNOWN) => Some(UpstreamFaultKind::AuthFailed),
        _ if is_any(&["rate_limit_exceeded", "rate_limit_error"]) => Some(UpstreamFaultKind::RateLimited),
        _ => None,
    }
}

fn kind(status: u16, said: &Said) -> UpstreamFaultKind {
    use UpstreamFaultKind::*;
    // These words open the message, where no request is quoted.
    let opens =
        |words: &str| said.message.get(..words.len()).is_some_and(|head| head.eq_ignore_ascii_case(words));
    match status {
        402 => OutOfCredit,
        400..=499 if said.is_coded(&BROKE) => OutOfCredit,
        429 if said.is_coded(&BROKE_AT_RATE) => OutOfCredit,
        400 | 403 | 429 if opens("Your credit balance is too low") || opens("Insufficient Balance") => {
            OutOfCredit
        }
        429 if opens("You exceeded your current quota") => OutOfCredit,
        400..=499 if said.is_coded(&["model_not_found", "model_not_available"]) => ModelMissing,
        404 if said.message.to_ascii_lowercase().contains("model") => ModelMissing,
        400..=499 if said.is_coded(&UNKNOWN) => AuthFailed,
        // Whatever a caller can bring about by what it asks must not be taken for a fault of the credential.
        403 if said.is_of_content() => Rejected,
        // What stands before an upstream refuses in pages of its own, for an address or for words that it does not like.
        403 if !said.is_json => Error,
        401 | 403 | 407 => AuthFailed,
        408 | 504 | 522 | 524 => Timeout,
        429 | 529 => RateLimited,
        400 | 413 | 422 => Rejected,
        _ => Error,
    }
}

/// What the body of an error says, whatever server wrote it.
#[derive(Default)]
struct Said {
    code: Option<Box<str>>,
    param: Option<Box<str>>,
    kind: Box<str>,
    message: Box<str>,
    /// It names what it found in the request (OpenRouter's `metadata`).
    is_flagged: bool,
    is_json: bool,
}

#[derive(Deserialize, Default)]
struct Wire<'a> {
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
    #[serde(borrow, default)]
    code: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow, default)]
    param: Option<&'a RawValue>,
    /// Of an event that tells of a response that failed.
    #[serde(borrow, default)]
    response: Option<&'a RawValue>,
    #[serde(borrow, default)]
    message: Option<&'a RawValue>,
    #[serde(borrow, default)]
    detail: Option<&'a RawValue>,
    #[serde(borrow, default)]
    metadata: Option<&'a RawValue>,
}

/// What OpenRouter says of a request that a moderation did not let through.
#[derive(Deserialize, Default)]
struct Metadata<'a> {
    #[serde(borrow, default)]
    reasons: Option<&'a RawValue>,
    #[serde(borrow, default)]
    flagged_input: Option<&'a RawValue>,
}

impl Said {
    /// `{"error": {…}}`, `{"error": "…"}`, `{"message": "…"}`,
    /// `{"detail": …}`, `{"response": {"error": {…}}}`, or any text at all.
    fn read(body: &[u8]) -> Self {
        let body = body.get(..BODY_BYTES_MAX).unwrap_or(body);
        let Ok(top) = serde_json::from_slice::<Wire<'_>>(body) else {
            return Self { message: clip(&String::from_utf8_lossy(body)), ..Self::default() };
        };
        let failed = top.response.and_then(|failed| serde_json::from_str::<Wire<'_>>(failed.get()).ok());
        let top = Wire { error: top.error.or(failed.and_then(|failed| failed.error)), ..top };
        let inner = top.error.and_then(|error| serde_json::from_str::<Wire<'_>>(error.get()).ok());
        let wire = inner.unwrap_or(Wire { message: top.error.or(top.message), ..top });
        let message = wire.message.or(wire.detail).map(plain);
        Self {
            code: wire.code.map(plain).filter(|code| !code.is_empty()),
            param: wire.param.map(plain).filter(|param| !param.is_empty()),
            kind: wire.kind.map(plain).unwrap_or_default(),
            message: message.unwrap_or_else(|| clip(&String::from_utf8_lossy(body))),
            is_flagged: wire.metadata.is_some_and(is_flagged),
            is_json: true,
        }
    }

    fn is_coded(&self, codes: &[&str]) -> bool {
        let code = self.code.as_deref().unwrap_or_default();
        codes.iter().any(|known| is_word(known, code) || is_word(known, &self.kind))
    }

    /// It finds fault with what the request says. Words are enough here: they take blame from a channel.
    fn is_of_content(&self) -> bool {
        const WORDS: [&str; 5] = [
            "input was flagged",
            "prompt was flagged",
            "requires moderation",
            "content policy",
            "safety system",
        ];
        let message = self.message.to_ascii_lowercase();
        self.is_flagged || self.is_coded(&FLAGGED) || WORDS.iter().any(|words| message.contains(words))
    }
}

/// `insufficient_balance`, `InsufficientBalance` and `Insufficient.Balance` are one word.
fn is_word(known: &str, told: &str) -> bool {
    fn letters(word: &str) -> impl Iterator<Item = u8> + '_ {
        let plain = word.bytes().filter(u8::is_ascii_alphanumeric);
        plain.map(|byte| byte.to_ascii_lowercase())
    }
    letters(known).eq(letters(told))
}

fn is_flagged(metadata: &RawValue) -> bool {
    let metadata = serde_json::from_str::<Metadata<'_>>(metadata.get()).unwrap_or_default();
    metadata.reasons.or(metadata.flagged_input).is_some()
}

/// The text of a string, or the JSON of anything else (a code may be a number).
fn plain(raw: &RawValue) -> Box<str> {
    match serde_json::from_str::<String>(raw.get()) {
        Ok(text) => clip(&text),
        Err(_) => clip(raw.get()),
    }
}

fn clip(text: &str) -> Box<str> {
    text.get(..text.floor_char_boundary(MESSAGE_BYTES_MAX)).unwrap_or_default().into()
}

/// How long an answer asks to wait: `retry-after-ms`, else `retry-after` in
/// seconds or as a date (RFC 9110, 10.2.3). At most a day.
pub fn retry_after(headers: &HeaderMap, now_unix_s: i64) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    if let Some(ms) = text("retry-after-ms").and_then(|ms| ms.parse::<u64>().ok()) {
        return Some(Duration::from_millis(ms).min(RETRY_AFTER_MAX));
    }
    let value = text("retry-after")?;
    let seconds = match value.parse::<u64>() {
        Ok(seconds) => seconds,
        Err(_) => {
            let at = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(value).ok()?;
            u64::try_from(at.as_second().saturating_sub(now_unix_s)).unwrap_or(0)
        }
    };
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}
