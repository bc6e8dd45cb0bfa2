//! A refusal as an answer: status, headers and body.
//!
//! The body is OpenAI's error object, extended, with the members of RFC 9457 at the top level, so
//! that the official SDKs, problem-details clients and people all read the same answer.

mod anthropic;
mod body;
mod gemini;
mod response;
mod upstream;

use bytes::Bytes;
use http::StatusCode;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::code::{Code, Phrase};
use super::language::Language;
use super::refusal::Refusal;
use super::text::{fill, seconds};
use crate::id::RequestId;

use anthropic::AnthropicBody;
use body::{Amount, Body, ErrorObject, LimitObject};
use gemini::GeminiBody;
use response::ResponseErrorEvent;
use upstream::{UpstreamObject, in_dialect};

/// The wire format that the caller speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shape {
    #[default]
    OpenAi,
    Anthropic,
    Gemini,
}

/// What an answer needs to know besides the refusal.
#[derive(Clone, Copy, Debug)]
pub struct RenderContext<'a> {
    pub request_id: RequestId,
    pub language: Language,
    /// Where pages are served, such as `https://ai.example.org`; a slash at its end does not matter.
    pub public_url: &'a str,
    /// Whether this caller may see amounts of other layers than its own key
    /// (`callers_see_account_money`).
    pub money_visible: bool,
    /// Whether this call is recorded by itself. Refusals of a flood are counted together and have
    /// no Why of their own.
    pub has_why: bool,
    pub shape: Shape,
}

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// The whole answer to a call that is refused before its answer has begun.
pub fn render(refusal: &Refusal, context: &RenderContext<'_>) -> (StatusCode, HeaderMap, Bytes) {
    let code = refusal.code;
    let status = StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CONTENT_LANGUAGE, HeaderValue::from_static(context.language.as_str()));
    if let Ok(id) = HeaderValue::from_bytes(&context.request_id.text()) {
        headers.insert(X_REQUEST_ID, id);
    }
    if !code.retryable() {
        headers.insert(X_SHOULD_RETRY, HeaderValue::from_static("false"));
    }
    if let Some(ms) = refusal.patience_ms() {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds(ms)));
    }
    if status == StatusCode::UNAUTHORIZED {
        // RFC 9110, 15.5.2: a 401 names its scheme.
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Some(methods) = allowed_methods(refusal) {
        headers.insert(header::ALLOW, methods);
    }
    (status, headers, Bytes::from(body(refusal, context)))
}

/// The end of a stream that had begun: one server-sent event of the type `error`.
pub fn render_sse_event(refusal: &Refusal, context: &RenderContext<'_>) -> Bytes {
    // Gemini's clients read data alone.
    let before: &[u8] = if context.shape == Shape::Gemini { b"data: " } else { b"event: error\ndata: " };
    event(before, &body(refusal, context))
}

/// The same in a stream of OpenAI's responses, whose events are numbered.
pub fn render_response_error(refusal: &Refusal, context: &RenderContext<'_>, sequence: u64) -> Bytes {
    let write = |body: Body<'_>| serde_json::to_vec(&ResponseErrorEvent::of(body, sequence));
    event(b"event: error\ndata: ", &with_body(refusal, context, write))
}

fn event(before: &[u8], data: &[u8]) -> Bytes {
    Bytes::from([before, data, b"\n\n"].concat())
}

/// RFC 9110, 15.5.6: a 405 lists the methods that the address takes.
fn allowed_methods(refusal: &Refusal) -> Option<HeaderValue> {
    if refusal.code != Code::MethodNotAllowed {
        return None;
    }
    HeaderValue::from_str(&fill("{allowed}", refusal, Language::En)).ok()
}

/// What the caller reads, in words: the message, the amounts if it may see them, and, before the
/// balance was looked at, that it was not (requirement C7).
pub(super) fn message(refusal: &Refusal, language: Language, numbers: bool) -> String {
    let gap = match language {
        Language::En => " ",
        Language::Zh => "",
    };
    let mut text = fill(refusal.code.message_template(language), refusal, language);
    if numbers && let Some(template) = refusal.code.numbers_template(language) {
        text.push_str(gap);
        text.push_str(&fill(template, refusal, language));
    }
    if refusal.code.before_balance() {
        // Chinese needs no gap behind its own full stop, but one behind anything else.
        text.push_str(if text.ends_with('。') { gap } else { " " });
        text.push_str(Phrase::BalanceNotChecked.get(language));
    }
    text
}

impl Refusal {
    /// The message as answers, pages and logs show it; `amounts` says whether its reader may see them.
    pub fn message(&self, language: Language, amounts: bool) -> String {
        message(self, language, amounts)
    }

    /// What to do, in one sentence.
    pub fn hint(&self, language: Language) -> String {
        fill(self.code.hint_template(language), self, language)
    }
}

fn body(refusal: &Refusal, context: &RenderContext<'_>) -> Vec<u8> {
    with_body(refusal, context, |body| match context.shape {
        Shape::OpenAi => serde_json::to_vec(&body),
        Shape::Anthropic => serde_json::to_vec(&AnthropicBody::of(body)),
        Shape::Gemini => serde_json::to_vec(&GeminiBody::of(body, refusal.patience_ms().map(seconds))),
    })
}

fn with_body(
    refusal: &Refusal,
    context: &RenderContext<'_>,
    write: impl FnOnce(Body<'_>) -> serde_json::Result<Vec<u8>>,
) -> Vec<u8> {
    let refusal = &*in_dialect(refusal, context.shape);
    let (code, language) = (refusal.code, context.language);
    let root = context.public_url.trim_end_matches('/');
    let doc_url = format!("{root}/errors/{code}");
    let recorded = context.has_why && code.rung_name() != "management";
    let why_url = recorded.then(|| format!("{root}/why/{}", context.request_id));
    // A key's own limits belong to whoever holds the key.
    let amounts_visible = context.money_visible || refusal.layer() == "key";
    let message = message(refusal, language, amounts_visible);
    let body = Body {
        error: ErrorObject {
            message: &message,
            error_type: code.error_type(),
            param: refusal.field.as_deref(),
            code,
            layer: refusal.layer(),
            fault: code.fault().as_str(),
            retryable: code.retryable(),
            charged: Amount(refusal.charged),
            limit: refusal.limit.as_ref().map(|view| LimitObject::of(view, amounts_visible)),
            upstream: refusal.upstream.as_deref().and_then(UpstreamObject::of),
            hint: fill(code.hint_template(language), refusal, language),
            request_id: context.request_id,
            doc_url: &doc_url,
            why_url: why_url.as_deref(),
        },
        doc_url: &doc_url,
        title: code.title(language),
        status: code.status(),
        detail: &message,
        instance: why_url.as_deref(),
    };
    // Strings, numbers and flags always serialise.
    write(body).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::{LimitView, UpstreamSaid, Value};
    use ledger::Nano;
    use serde_json::{Value as Json, json};
    use std::collections::BTreeSet;

    const CONTEXT: RenderContext<'_> = RenderContext {
        request_id: RequestId::from_raw(7),
        language: Language::En,
        public_url: "https://ai.example.org/",
        money_visible: true,
        has_why: true,
        shape: Shape::OpenAi,
    };

    fn parsed(refusal: &Refusal, context: &RenderContext<'_>) -> (StatusCode, HeaderMap, Json) {
        let (status, headers, body) = render(refusal, context);
        (status, headers, serde_json::from_slice(&body).unwrap())
    }

    fn balance(code: Code) -> Refusal {
        Refusal::new(code).limit(LimitView {
            scope: "account".into(),
            id: Some("acc_0000000000001".into()),
            available: Some(Nano(10_000_000)),
            held: Some(Nano(2_000_000)),
            needed: Some(Nano(12_500_000)),
            short_by: Some(Nano(2_500_000)),
            ..LimitView::default()
        })
    }

    fn key_budget() -> Refusal {
        Refusal::new(Code::KeyBudgetExhausted).limit(LimitView {
            scope: "key".into(),
            id: Some("key_0000000000001".into()),
            window: Some("month".into()),
            limit: Some(Nano(5_000_000_000)),
            used: Some(Nano(5_000_000_000)),
            held: Some(Nano(0)),
            needed: Some(Nano(2_100_000)),
            resets_at_ms: Some(1_800_000_000_000),
            origin: Some("owner".into()),
            ..LimitView::default()
        })
    }

    /// A refusal of this code with every parameter that its texts name.
    fn filled(code: Code) -> Refusal {
        let mut refusal =
            Refusal::new(code).retry_after_ms(1_500).upstream_text("their words").field("model");
        let templates = [code.message_template(Language::En), code.hint_template(Language::En)];
        let numbers = code.numbers_template(Language::En).unwrap_or_default();
        for name in templates.iter().chain([&numbers]).flat_map(|text| names(text)) {
            refusal.params.push((name.into(), Value::from("something")));
        }
        refusal
    }

    fn names(template: &str) -> Vec<String> {
        let mut names: Vec<_> =
            template.split('{').skip(1).map(|rest| rest.split('}').next().unwrap()).collect();
        names.dedup();
        names.into_iter().map(str::to_owned).collect()
    }

    /// C2, C3, C4: every code gives its one status, whole texts in both languages, and says whose
    /// fault it is and whether a retry can help.
    #[test]
    fn every_code_renders_whole_in_both_languages() {
        for code in Code::ALL {
            for language in Language::ALL {
                let context = RenderContext { language, ..CONTEXT };
                let (status, headers, body) = parsed(&filled(code), &context);
                assert_eq!(status.as_u16(), code.status(), "{code}");
                assert_eq!(body["status"], code.status(), "{code}");
                assert_eq!(body["error"]["code"], code.as_str());
                assert_eq!(body["error"]["charged"], "0");
                assert_eq!(headers[header::CONTENT_LANGUAGE], language.as_str());
                for text in
                    [&body["error"]["message"], &body["error"]["hint"], &body["title"], &body["detail"]]
                {
                    let text = text.as_str().unwrap();
                    assert!(
                        !text.is_empty() && !text.contains(['{', '}', '–']),
                        "{code} {language:?}: {text}"
                    );
                    let chinese = text.chars().any(|c| ('\u{4e00}'..='\u{9fff}').contains(&c));
                    assert_eq!(chinese, language == Language::Zh, "{code}: {text}");
                }
                let should_retry = headers.get("x-should-retry").map(|value| value.to_str().unwrap());
                assert_eq!(should_retry, (!code.retryable()).then_some("false"), "{code}");
                assert_eq!(headers.contains_key("www-authenticate"), code.status() == 401);
            }
        }
    }

    /// The contract's example, member by member.
    #[test]
    fn the_body_is_the_contracts() {
        let (status, headers, body) = parsed(&key_budget(), &CONTEXT);
        let (doc, why) = (
            "https://ai.example.org/errors/key_budget_exhausted",
            "https://ai.example.org/why/req_00000000000000000000000007",
        );
        let message = "The monthly spend limit of this key does not cover this call; the account balance is not \
            the reason. Limit 5, used 5, held 0, this call needs up to 0.0021; resets: 2027-01-15T08:00:00Z.";
        let expected = json!({
            "error": {
                "message": message, "type": "insufficient_funds", "param": null, "code": "key_budget_exhausted",
                "layer": "key", "fault": "account", "retryable": false, "charged": "0",
                "limit": {"scope": "key", "id": "key_0000000000001", "window": "month", "limit": "5", "used": "5",
                    "held": "0", "needed": "0.0021", "resets_at": "2027-01-15T08:00:00Z", "origin": "owner"},
                "hint": body["error"]["hint"], "request_id": "req_00000000000000000000000007",
                "doc_url": doc, "why_url": why
            },
            "type": doc, "title": "Key limit used up", "status": 402, "detail": message, "instance": why
        });
        assert_eq!(body, expected);
        assert_eq!(status, StatusCode::PAYMENT_REQUIRED);
        assert_eq!(headers["content-type"], "application/json");
        assert_eq!(headers["x-request-id"], "req_00000000000000000000000007");
        assert_eq!(headers["x-should-retry"], "false");
        assert!(!headers.contains_key("retry-after"));
    }

    /// S30: the answer shows available, held, needed, short by, and whose account.
    #[test]
    fn a_balance_that_is_too_small_shows_all_its_figures() {
        let (_, _, body) = parsed(&balance(Code::BalanceInsufficient), &CONTEXT);
        let message = body["error"]["message"].as_str().unwrap();
        for figure in ["acc_0000000000001", "0.01,", "0.002,", "0.0125,", "0.0025."] {
            assert!(message.contains(figure), "{figure}: {message}");
        }
        let limit = &body["error"]["limit"];
        assert_eq!(limit["available"], "0.01");
        assert_eq!(limit["short_by"], "0.0025");
        assert_eq!(limit["id"], "acc_0000000000001");
    }

    #[test]
    fn amounts_of_other_layers_are_hidden_from_callers_without_rights() {
        let context = RenderContext { money_visible: false, ..CONTEXT };
        for code in [Code::BalanceExhausted, Code::BalanceInsufficient] {
            let (_, _, body) = parsed(&balance(code), &context);
            let limit = json!({"scope": "account", "needed": "0.0125", "resets_at": null});
            assert_eq!(body["error"]["limit"], limit);
            let text = body.to_string();
            assert!(!text.contains("acc_") && !text.contains("0.0025") && !text.contains("0.01\""), "{text}");
        }
        // The key's own limit is the caller's own business.
        let (_, _, body) = parsed(&key_budget(), &context);
        assert_eq!(body["error"]["limit"]["used"], "5");
    }

    /// C7: whatever is refused before the purse is opened says so, and nothing behind it does.
    #[test]
    fn refusals_before_the_balance_say_that_it_was_not_checked() {
        for code in Code::ALL {
            let (_, _, body) = parsed(&filled(code), &CONTEXT);
            let says = body["error"]["message"].as_str().unwrap().contains("The balance was not checked.");
            assert_eq!(says, (1..=11).contains(&code.rung()), "{code}");
        }
    }

    #[test]
    fn a_flood_and_a_management_call_have_no_why() {
        let flood = RenderContext { has_why: false, ..CONTEXT };
        let answers = [parsed(&key_budget(), &flood), parsed(&Refusal::new(Code::EditConflict), &CONTEXT)];
        for (_, _, body) in answers {
            assert_eq!(body["error"]["why_url"], Json::Null);
            assert_eq!(body["instance"], Json::Null);
        }
    }

    #[test]
    fn patience_is_told_in_whole_seconds_rounded_up() {
        let wait = |refusal: Refusal| {
            let (_, headers, _) = render(&refusal, &CONTEXT);
            headers.get("retry-after").map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(
            wait(Refusal::new(Code::UpstreamRateLimited).retry_after_ms(20_001)).as_deref(),
            Some("21")
        );
        assert_eq!(wait(Refusal::new(Code::BooksUnavailable)).as_deref(), Some("1"));
        assert_eq!(wait(Refusal::new(Code::UpstreamError)), None);
        assert_eq!(wait(Refusal::new(Code::NoChannel)), None);
        // Google's own clients look for it in the body.
        let context = RenderContext { shape: Shape::Gemini, ..CONTEXT };
        let details = |refusal| parsed(&refusal, &context).2["error"]["details"].clone();
        assert_eq!(
            details(Refusal::new(Code::UpstreamRateLimited).retry_after_ms(20_001))[1],
            json!({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "21s"})
        );
        assert_eq!(details(Refusal::new(Code::UpstreamError)).as_array().unwrap().len(), 1);
    }

    #[test]
    fn a_refused_method_lists_the_right_ones() {
        let refusal = Refusal::new(Code::MethodNotAllowed).param("allowed", "POST");
        assert_eq!(render(&refusal, &CONTEXT).1["allow"], "POST");
    }

    /// S31: the words of an upstream reach the caller of a faulty request only.
    #[test]
    fn an_upstreams_words_are_shown_by_one_code_alone() {
        let shown: BTreeSet<Code> = Code::ALL
            .into_iter()
            .filter(|code| {
                let (_, _, body) = render(&filled(*code), &CONTEXT);
                String::from_utf8(body.to_vec()).unwrap().contains("their words")
            })
            .collect();
        assert_eq!(shown, BTreeSet::from([Code::UpstreamRejected]));
    }

    /// The upstream's code and field stand beside the catalogue's, and a conversation that is too long is told in the
    /// words that each format's clients look for.
    #[test]
    fn what_an_upstream_says_of_a_rejected_request_reaches_its_caller() {
        let said = |is_too_long| UpstreamSaid {
            code: Some("invalid\u{202e}_value".into()),
            param: Some("messages[1].content".into()),
            is_too_long,
        };
        let rejected = |text: &str, is_too_long| {
            Refusal::new(Code::UpstreamRejected)
                .upstream_text(text)
                .upstream(Some(Box::new(said(is_too_long))))
        };
        let (_, _, body) = parsed(&rejected("wrong", false), &CONTEXT);
        let theirs = json!({"code": "invalid\u{fffd}_value", "param": "messages[1].content"});
        assert_eq!(
            (&body["error"]["upstream"], &body["error"]["code"]),
            (&theirs, &json!("upstream_rejected"))
        );
        assert_eq!(body["error"]["param"], Json::Null);
        for (shape, words) in [
            (Shape::OpenAi, "context_length_exceeded (the maximum context length): wrong"),
            (Shape::Anthropic, "prompt is too long: wrong"),
            (Shape::Gemini, "The input token count exceeds the maximum number of tokens allowed: wrong"),
        ] {
            let context = RenderContext { shape, ..CONTEXT };
            let (_, _, body) = parsed(&rejected("wrong", true), &context);
            assert!(body["error"]["message"].as_str().unwrap().ends_with(words), "{body:#}");
            let (_, _, body) = parsed(&rejected("wrong", false), &context);
            assert!(body["error"]["message"].as_str().unwrap().ends_with(": wrong"), "{body:#}");
        }
        let own = rejected("prompt is too long: 9 tokens > 8 maximum", true);
        let (_, _, body) = parsed(&own, &RenderContext { shape: Shape::Anthropic, ..CONTEXT });
        assert_eq!(body["error"]["message"].as_str().unwrap().matches("too long").count(), 1);
    }

    #[test]
    fn a_streamed_response_tells_its_error_by_a_numbered_event() {
        let refusal = Refusal::new(Code::StreamInterrupted).charged(Nano(1_500_000));
        let event = render_response_error(&refusal, &CONTEXT, 7);
        let text = std::str::from_utf8(&event).unwrap();
        let data = text.strip_prefix("event: error\ndata: ").unwrap().strip_suffix("\n\n").unwrap();
        let body: Json = serde_json::from_str(data).unwrap();
        assert_eq!((&body["type"], &body["sequence_number"]), (&json!("error"), &json!(7)));
        assert_eq!([&body["code"], &body["error"]["code"]], ["stream_interrupted"; 2]);
        assert_eq!((&body["message"], &body["param"]), (&body["error"]["message"], &Json::Null));
        assert_eq!(body["error"]["charged"], "0.0015");
    }

    #[test]
    fn a_stream_that_has_begun_ends_with_one_event() {
        let refusal =
            Refusal::new(Code::StreamInterrupted).upstream_text("line\nbreak").charged(Nano(1_500_000));
        let event = render_sse_event(&refusal, &CONTEXT);
        let text = std::str::from_utf8(&event).unwrap();
        let data = text.strip_prefix("event: error\ndata: ").unwrap().strip_suffix("\n\n").unwrap();
        assert!(!data.contains('\n'));
        let body: Json = serde_json::from_str(data).unwrap();
        assert_eq!(body["error"]["code"], "stream_interrupted");
        assert_eq!(body["error"]["charged"], "0.0015");
    }

    #[test]
    fn quotes_and_controls_of_a_caller_stay_inside_the_json() {
        let refusal = Refusal::new(Code::ModelNotFound)
            .param("model", "x\"}]\u{0} \u{1F600}\\")
            .param("near_misses", Vec::new());
        let (_, _, body) = parsed(&refusal, &CONTEXT);
        assert!(body["error"]["message"].as_str().unwrap().contains("x\"}]\u{fffd} \u{1F600}\\"));
    }
}
