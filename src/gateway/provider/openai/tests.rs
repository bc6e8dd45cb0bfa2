use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use ledger::{TokenClass, Usage};

use super::{
    BodyTap, Delivered, EventKind, UpstreamFaultKind as Kind, classify, inspect_event, is_error_body,
};
use super::{retry_after, stream_fault, usage_from_body};
use crate::gateway::convert::Format;
use crate::gateway::facts::Endpoint;

fn usage(entries: &[(TokenClass, u64)]) -> Option<Usage> {
    let mut usage = Usage::default();
    entries.iter().for_each(|(class, tokens)| usage.set(*class, *tokens));
    Some(usage)
}

fn read(object: &str) -> Option<Usage> {
    usage_from_body(format!(r#"{{"id":"x","choices":[],"usage":{object}}}"#).as_bytes())
}

use TokenClass::{AudioIn, AudioOut, CacheRead, ImageIn, Input, Output, Reasoning};

#[test]
fn token_classes_of_a_usage_are_disjoint() {
    // S15: what was cached, heard or thought is in the totals and counts once.
    let seen = read(
        r#"{"prompt_tokens":2006,"completion_tokens":300,"total_tokens":2306,
            "prompt_tokens_details":{"cached_tokens":1920,"audio_tokens":10,"image_tokens":6},
            "completion_tokens_details":{"reasoning_tokens":192,"audio_tokens":8,
                "accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}"#,
    );
    let expected = [
        (Input, 70),
        (CacheRead, 1920),
        (AudioIn, 10),
        (ImageIn, 6),
        (Output, 100),
        (Reasoning, 192),
        (AudioOut, 8),
    ];
    assert_eq!(seen, usage(&expected));
    // Sound that is cached too does not make the classes exceed the total.
    let seen = read(
        r#"{"prompt_tokens":100,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":90,"audio_tokens":50}}"#,
    );
    assert_eq!(seen, usage(&[(CacheRead, 90), (AudioIn, 10), (Output, 1)]));
}

#[test]
fn usage_in_the_words_of_other_servers() {
    let deepseek = r#"{"prompt_tokens":100,"completion_tokens":9,"total_tokens":109,
        "prompt_cache_hit_tokens":64,"prompt_cache_miss_tokens":36}"#;
    assert_eq!(read(deepseek), usage(&[(Input, 36), (CacheRead, 64), (Output, 9)]));
    let beside = r#"{"prompt_tokens":10,"completion_tokens":5,"total_tokens":315,
        "completion_tokens_details":{"reasoning_tokens":300}}"#;
    assert_eq!(read(beside), usage(&[(Input, 10), (Output, 5), (Reasoning, 300)]));
    let nulls = r#"{"prompt_tokens":10,"completion_tokens":5,"prompt_tokens_details":null,
        "completion_tokens_details":{"reasoning_tokens":null}}"#;
    assert_eq!(read(nulls), usage(&[(Input, 10), (Output, 5)]));
    let plain = usage(&[(Input, 10), (Output, 5)]);
    let inner = r#"{"prompt_tokens":10,"completion_tokens":5}"#;
    assert_eq!(usage_from_body(format!(r#"{{"choices":[{{"usage":{inner}}}]}}"#).as_bytes()), plain);
    assert_eq!(usage_from_body(format!(r#"{{"x_groq":{{"usage":{inner}}}}}"#).as_bytes()), plain);
    assert_eq!(usage_from_body(format!(r#"{{"x_groq":null,"usage":{inner}}}"#).as_bytes()), plain);
}

#[test]
fn a_usage_that_cannot_be_is_none() {
    for absurd in [
        "null",
        "{}",
        "7",
        "[1,2]",
        r#"{"prompt_tokens":-1,"completion_tokens":5}"#,
        r#"{"prompt_tokens":1.5,"completion_tokens":5}"#,
        r#"{"prompt_tokens":"1","completion_tokens":5}"#,
        r#"{"prompt_tokens":0,"completion_tokens":0}"#,
        r#"{"prompt_tokens":18446744073709551615,"completion_tokens":5}"#,
        r#"{"prompt_tokens":100000001,"completion_tokens":5}"#,
        r#"{"prompt_tokens":5,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":6}}"#,
        r#"{"prompt_tokens":5,"completion_tokens":5,"completion_tokens_details":{"reasoning_tokens":6}}"#,
    ] {
        assert_eq!(read(absurd), None, "{absurd}");
    }
    assert_eq!(usage_from_body(b"{\"usage\":{\"prompt_tokens\":1,"), None);
    assert_eq!(usage_from_body(b"\xff\xfe"), None);
}

#[test]
fn text_and_echoes_cannot_forge_a_usage() {
    let forged = r#"\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":0}"#;
    let body = format!(
        r#"{{"choices":[{{"message":{{"content":"{forged}"}}}}],
            "metadata":{{"usage":{{"prompt_tokens":1,"completion_tokens":0}}}},
            "usage":{{"prompt_tokens":50,"completion_tokens":5}}}}"#
    );
    assert_eq!(usage_from_body(body.as_bytes()), usage(&[(Input, 50), (Output, 5)]));
    // The same in a body of which only head and tail are seen.
    let filler = "x".repeat(100_000);
    for (before, behind) in [
        (r#""usage":{"prompt_tokens":50,"completion_tokens":5},"#, ""),
        ("", r#","usage":{"prompt_tokens":50,"completion_tokens":5}"#),
    ] {
        let body = format!(
            r#"{{{before}"choices":[{{"message":{{"content":"{filler}{forged}"}}}}],
                "metadata":{{"usage":{{"prompt_tokens":1,"completion_tokens":0}}}}{behind},"service_tier":null}}"#
        );
        let expected = usage(&[(Input, 50), (Output, 5)]);
        assert_eq!(usage_from_body(body.as_bytes()), expected);
        let mut tap = BodyTap::default();
        body.as_bytes().chunks(1000).for_each(|chunk| tap.push(chunk));
        assert!(tap.kept().len() <= super::SMALL_BODY_BYTES);
        assert_eq!(tap.usage(), expected);
    }
    let body = format!(
        r#"{{"choices":["{filler}"],"metadata":{{"usage":{{"prompt_tokens":1,"completion_tokens":0}}}}}}"#
    );
    assert_eq!(usage_from_body(body.as_bytes()), None);
}

#[test]
fn events_are_told_apart() {
    let kind = |data: &str| inspect_event(data.as_bytes()).kind;
    let delta = r#"{"id":"c","choices":[{"index":0,"delta":{"content":"\"usage\":{\"error\":1"},"finish_reason":null}],"usage":null}"#;
    assert_eq!(kind(delta), EventKind::Delta);
    assert!(!inspect_event(delta.as_bytes()).has_finish);
    let last = r#"{"choices":[{"index":0,"delta":{},"finish_reason":null},{"index":1,"delta":{},"finish_reason" : "stop"}]}"#;
    assert!(inspect_event(last.as_bytes()).has_finish);
    assert_eq!(kind(" [DONE] "), EventKind::Done);
    assert_eq!(kind(r#"{"choices":[],"prompt_filter_results":[{}]}"#), EventKind::Other);
    assert_eq!(kind(""), EventKind::Other);
    assert_eq!(kind("{broken"), EventKind::Other);
    assert_eq!(kind(r#"{"error":{"message":"no","code":502}}"#), EventKind::Error);
    assert_eq!(kind(r#"{"error":null,"choices":[{"delta":{}}]}"#), EventKind::Delta);
    assert_eq!(kind(r#"{"choices":[{"delta":{"x":{"error":"inner"}}}]}"#), EventKind::Delta);
    assert!(is_error_body(br#"{"error":{"message":"no"}}"#) && !is_error_body(br#"{"error":null}"#));
}

#[test]
fn usage_is_read_from_any_event_and_only_its_own_event_is_usage_only() {
    // S14: a chunk that also has choices carries the usage.
    let both = inspect_event(
        br#"{"choices":[{"delta":{"content":"."},"finish_reason":"stop"}],"usage":{"prompt_tokens":7,"completion_tokens":2}}"#,
    );
    assert_eq!((both.kind, both.has_finish), (EventKind::Delta, true));
    assert_eq!(both.usage, usage(&[(Input, 7), (Output, 2)]));
    for alone in [
        r#"{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":2}}"#,
        r#"{"usage":{"prompt_tokens":7,"completion_tokens":2}}"#,
    ] {
        let alone = inspect_event(alone.as_bytes());
        assert_eq!((alone.kind, alone.usage), (EventKind::UsageOnly, both.usage));
    }
}

#[test]
fn delivered_text_is_what_the_model_made() {
    let mut delivered = Delivered::default();
    assert_eq!(
        delivered.push(br#"{"id":"content","choices":[{"delta":{"role":"assistant","content":""}}]}"#),
        0
    );
    assert!(delivered.is_empty());
    delivered.push(br#"{"model":"m","choices":[{"delta":{"content":"a\"b\u00e9\n","x":["content","no"]}}]}"#);
    delivered.push(
        br#"{"choices":[{"delta":{"content":null,"tool_calls":[{"id":"call_1","function":{"name":"f","arguments":"{\"a\":1}"}}]}}]}"#,
    );
    delivered.push(br#"{"choices":[{"delta":{"reasoning_content":"hm"}}],"usage":{"content":"no"}}"#);
    assert_eq!(delivered.choices().len(), 1);
    assert_eq!(delivered.choices()[0].text, "a\"b\u{e9}\n{\"a\":1}");
    assert_eq!(delivered.choices()[0].names, "f");
    assert_eq!(delivered.choices()[0].reasoning, "hm");
    for broken in
        [&b"\"choices\""[..], b"\"choices\":[{\"content\":\"a\\", b"\"choices\" \"content\":\"\\ud800\"", b""]
    {
        delivered.push(broken);
    }
}

/// H4: the call of a tool is its name and its arguments, in every format, whole and in pieces.
#[test]
fn h4_a_call_is_its_name_and_its_arguments_in_every_format() {
    use Endpoint::{ChatCompletions, GenerateContent, Messages, Responses};
    let heard = |format, endpoint, events: &[&str]| {
        let mut delivered = Delivered::of(format, endpoint, 1);
        for event in events {
            delivered.push(event.as_bytes());
        }
        let spoken = delivered.choices().first().map(|said| (said.names.clone(), said.text.clone()));
        spoken.unwrap_or_default()
    };
    let called = ("sum".to_owned(), r#"{"name":"a"}"#.to_owned());
    for (format, endpoint, events) in [
        (
            Format::OpenAi,
            ChatCompletions,
            vec![
                r#"{"choices":[{"message":{"tool_calls":[{"function":{"arguments":"{\"name\":\"a\"}","name":"sum"}}]}}]}"#,
            ],
        ),
        (
            Format::OpenAi,
            ChatCompletions,
            vec![
                r#"{"choices":[{"delta":{"tool_calls":[{"function":{"name":"sum","arguments":""}}]}}]}"#,
                r#"{"choices":[{"delta":{"tool_calls":[{"function":{"arguments":"{\"name\":\"a\"}"}}]}}]}"#,
            ],
        ),
        (
            Format::Anthropic,
            Messages,
            vec![r#"{"content":[{"type":"tool_use","name":"sum","input":{"name":"a"}}]}"#],
        ),
        (
            Format::Anthropic,
            Messages,
            vec![
                r#"{"type":"content_block_start","content_block":{"type":"tool_use","input":{},"name":"sum"}}"#,
                r#"{"type":"content_block_delta","delta":{"partial_json":"{\"name\":\"a\"}"}}"#,
            ],
        ),
        (
            Format::Gemini,
            GenerateContent,
            vec![
                r#"{"candidates":[{"content":{"parts":[{"functionCall":{"args":{"name":"a"},"name":"sum"}}]}}]}"#,
            ],
        ),
        (
            Format::Responses,
            Responses,
            vec![r#"{"output":[{"type":"function_call","arguments":"{\"name\":\"a\"}","name":"sum"}]}"#],
        ),
        (
            Format::Responses,
            Responses,
            vec![
                r#"{"type":"response.output_item.added","item":{"type":"function_call","name":"sum","arguments":""}}"#,
                r#"{"type":"response.function_call_arguments.delta","delta":"{\"name\":\"a\"}"}"#,
            ],
        ),
    ] {
        assert_eq!(heard(format, endpoint, &events), called, "{format:?} {events:?}");
    }
    let two = r#"{"content":[{"name":"a","input":{}},{"name":"b","input":{}}]}"#;
    assert_eq!(heard(Format::Anthropic, Messages, &[two]), ("a\nb".to_owned(), String::new()));
}

#[test]
fn of_one_choice_only_the_choices_are_read() {
    let mut delivered = Delivered::of(Format::OpenAi, Endpoint::ChatCompletions, 1);
    delivered.push(br#"{"content":"no","choices":[{"index":0,"delta":{"content":"a]\"","x":[[{}]]}}],"seen":[{"content":"no"}]}"#);
    delivered.push(
        br#"{"choices":[{"delta":{"reasoning":"hm"}},{"index":9,"delta":{"content":"b"}}],"content":"no"}"#,
    );
    delivered.push(br#"{"choices":[{"delta":{"content":"c"},"name":"#);
    let spoken = delivered.choices();
    assert_eq!((spoken.len(), &*spoken[0].text, &*spoken[0].reasoning), (1, "a]\"bc", "hm"));
}

#[test]
fn choices_whose_pieces_come_mixed_are_kept_apart() {
    let mut delivered = Delivered::default();
    for (index, text) in [(0, "hel"), (1, "wor"), (0, "lo"), (1, "ld")] {
        let event = format!(
            r#"{{"choices":[{{"delta":{{"tool_calls":[{{"index":7}}],"content":"{text}"}},"index":{index}}}]}}"#
        );
        delivered.push(event.as_bytes());
    }
    delivered.push(br#"{"choices":[{"index":99999999999,"delta":{"content":"far"}}]}"#);
    let texts: Vec<&str> = delivered.choices().iter().map(|spoken| spoken.text.as_str()).collect();
    assert_eq!((texts[0], texts[1], texts[127], texts.len()), ("hello", "world", "far", 128));
}

#[test]
fn of_a_very_long_answer_a_part_is_kept_and_the_rest_measured() {
    let mut delivered = Delivered::default();
    let long = format!(r#"{{"choices":[{{"delta":{{"content":"{}"}}}}]}}"#, "é".repeat(700_000));
    assert_eq!(delivered.push(long.as_bytes()), 1_400_000);
    assert_eq!((delivered.kept_bytes(), delivered.beyond_bytes()), (1024 * 1024, 1_400_000 - 1024 * 1024));
    // A body of which only the beginning was seen.
    let mut delivered = Delivered::default();
    assert_eq!(delivered.push(br#"{"choices":[{"message":{"content":"half"},"logprobs":{"#), 4);
}

fn fault(status: u16, body: &str) -> Kind {
    classify(status, &HeaderMap::new(), body.as_bytes(), 0).kind
}

#[test]
fn upstream_errors_are_told_apart_by_status_and_code() {
    let body = |code: &str, message: &str| {
        format!(r#"{{"error":{{"message":"{message}","type":"some_error","param":null,"code":"{code}"}}}}"#)
    };
    // S31: an upstream without credit is neither a rate limit nor a rejection.
    assert_eq!(fault(429, &body("insufficient_quota", "You exceeded your current quota")), Kind::OutOfCredit);
    assert_eq!(fault(429, r#"{"error":{"type":"insufficient_quota","code":null}}"#), Kind::OutOfCredit);
    assert_eq!(fault(402, r#"{"error":{"message":"Insufficient Balance"}}"#), Kind::OutOfCredit);
    assert_eq!(fault(400, &body("billing_hard_limit_reached", "x")), Kind::OutOfCredit);
    assert_eq!(fault(400, &body("", "Your credit balance is too low to access")), Kind::OutOfCredit);
    // Words of the request, quoted by the upstream, do not make it broke.
    assert_eq!(fault(400, &body("invalid_value", "Invalid value: 'insufficient_quota'")), Kind::Rejected);
    assert_eq!(fault(429, &body("rate_limit_exceeded", "slow down")), Kind::RateLimited);
    assert_eq!(fault(529, "overloaded"), Kind::RateLimited);
    assert_eq!(fault(401, &body("invalid_api_key", "Incorrect API key provided")), Kind::AuthFailed);
    assert_eq!(fault(403, r#"{"error":{"message":"no access"}}"#), Kind::AuthFailed);
    assert_eq!(fault(404, &body("model_not_found", "x")), Kind::ModelMissing);
    assert_eq!(fault(403, &body("model_not_found", "no access to model")), Kind::ModelMissing);
    assert_eq!(fault(404, r#"{"error":"model 'x' not found, try pulling it first"}"#), Kind::ModelMissing);
    assert_eq!(fault(404, "<h1>Not Found</h1>"), Kind::Error);
    assert_eq!(fault(400, &body("context_length_exceeded", "x")), Kind::Rejected);
    assert_eq!(fault(422, r#"{"detail":[{"loc":["body","n"]}]}"#), Kind::Rejected);
    assert_eq!(fault(408, ""), Kind::Timeout);
    assert_eq!(fault(504, ""), Kind::Timeout);
    assert_eq!(fault(500, &body("insufficient_quota", "x")), Kind::Error);
    assert_eq!(fault(503, "\u{0}"), Kind::Error);
}

/// S31: every vendor has a word of its own for an account without money.
#[test]
fn s31_an_account_without_money_is_known_by_every_vendors_word() {
    let body = |code: &str, kind: &str| {
        format!(r#"{{"error":{{"message":"您的账户已欠费","type":"{kind}","code":"{code}"}}}}"#)
    };
    for (status, body) in [
        (403, body("insufficient_user_quota", "new_api_error")),
        (403, body("pre_consume_token_quota_failed", "new_api_error")),
        (429, body("", "exceeded_current_quota_error")),
        (429, body("1113", "")),
        (400, body("Arrearage", "Arrearage")),
        (400, r#"{"code":"Arrearage","message":"Access denied.","request_id":"x"}"#.to_owned()),
        (403, body("AccountOverdueError", "Forbidden")),
    ] {
        assert_eq!(fault(status, &body), Kind::OutOfCredit, "{status} {body}");
    }
    // A number means something else elsewhere.
    assert_eq!(fault(400, &body("1113", "")), Kind::Rejected);
    for (said, kind) in [
        (body("insufficient_quota", "insufficient_quota"), Kind::OutOfCredit),
        (body("Arrearage", ""), Kind::OutOfCredit),
        (body("invalid_api_key", ""), Kind::AuthFailed),
        (body("402", ""), Kind::OutOfCredit),
        (body("", "server_error"), Kind::Error),
    ] {
        assert_eq!(stream_fault(said.as_bytes()).kind, kind, "with 200: {said}");
    }
}

/// What a caller can bring about by its request is no fault of the credential.
#[test]
fn s31_a_forbidden_request_is_no_forbidden_credential() {
    let message = |message: &str| format!(r#"{{"error":{{"code":403,"message":"{message}"}}}}"#);
    let openrouter =
        r#"{"error":{"code":403,"message":"No.","metadata":{"reasons":["violence"],"flagged_input":"x"}}}"#;
    let coded = r#"{"error":{"code":"sensitive_words_detected","message":"no"}}"#;
    assert_eq!(fault(403, openrouter), Kind::Rejected);
    assert_eq!(fault(403, coded), Kind::Rejected);
    let moderated = message("model requires moderation on AcmeAI. Your input was flagged for \\\"x\\\".");
    assert_eq!(fault(403, &moderated), Kind::Rejected);
    assert_eq!(fault(403, &message("Your account was flagged.")), Kind::AuthFailed);
    assert_eq!(
        fault(403, r#"{"error":{"message":"no","metadata":{"provider_name":"x"}}}"#),
        Kind::AuthFailed
    );
    // A firewall that does not like the words of a request answers with a page.
    assert_eq!(fault(403, "<html>forbidden</html>"), Kind::Error);
    assert_eq!(fault(401, "<html>unauthorized</html>"), Kind::AuthFailed);
}

#[test]
fn an_upstreams_words_are_kept_whatever_their_shape() {
    let read = |body: &str| classify(400, &HeaderMap::new(), body.as_bytes(), 0);
    let shaped = read(r#"{"error":{"message":"no \"such\" thing","code":1234}}"#);
    assert_eq!((&*shaped.message, shaped.code.as_deref()), ("no \"such\" thing", Some("1234")));
    assert_eq!(&*read(r#"{"error":"short"}"#).message, "short");
    assert_eq!(&*read(r#"{"message":"bare","code":"c"}"#).message, "bare");
    assert_eq!(&*read("plain text").message, "plain text");
    assert_eq!(read(&"é".repeat(9000)).message.len(), 4096);
    let said = stream_fault(br#"{"error":{"message":"busy","type":"rate_limit_error"}}"#);
    assert_eq!((said.kind, &*said.message), (Kind::RateLimited, "busy"));
    assert_eq!(stream_fault(br#"{"error":{"message":"x","code":"504"}}"#).kind, Kind::Timeout);
    assert_eq!(stream_fault(b"{}").kind, Kind::Error);
}

#[test]
fn the_wait_that_an_upstream_asks_for() {
    let ask = |name: &'static str, value: &'static str| {
        let headers =
            HeaderMap::from_iter([(http::HeaderName::from_static(name), HeaderValue::from_static(value))]);
        retry_after(&headers, 1_445_412_480 - 30)
    };
    assert_eq!(ask("retry-after", "7"), Some(Duration::from_secs(7)));
    assert_eq!(ask("retry-after-ms", "1500"), Some(Duration::from_millis(1500)));
    assert_eq!(ask("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::from_secs(30)));
    assert_eq!(ask("retry-after", "Wed, 21 Oct 2015 07:20:00 GMT"), Some(Duration::ZERO));
    assert_eq!(ask("retry-after", "99999999999"), Some(Duration::from_secs(86_400)));
    assert_eq!(ask("retry-after", "soon"), None);
    assert_eq!(retry_after(&HeaderMap::new(), 0), None);
}
