//! Whether a whole body is an answer: some upstreams, and more often what stands before them, say 200 and then an error in
//! words of their own, half of a text, or nothing.
//!
//! Promises: the body is read once, without a tree. What an answer says is not judged, only that there is one.

use http::HeaderValue;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Format;
use crate::gateway::facts::Endpoint;

/// Where formats keep what was made.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Whole<'a> {
    #[serde(borrow, default)]
    choices: Option<&'a RawValue>,
    #[serde(borrow, default)]
    output: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "incomplete_details")]
    incomplete_details: Option<&'a RawValue>,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    candidates: Option<&'a RawValue>,
    #[serde(borrow, default)]
    prompt_feedback: Option<&'a RawValue>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    results: Option<&'a RawValue>,
    #[serde(borrow, default)]
    text: Option<&'a RawValue>,
}

/// Whether there is an answer to a call at this endpoint in a body of an upstream of this format.
pub fn is_answer(endpoint: Endpoint, format: Format, content_type: &HeaderValue, body: &[u8]) -> bool {
    if endpoint == Endpoint::Speech {
        return !is_text(content_type);
    }
    let Some(whole) = read(body) else {
        // A transcript may be plain text.
        return endpoint == Endpoint::Transcriptions && !is_object(body);
    };
    match format {
        Format::Anthropic => whole.content.is_some_and(is_list),
        Format::Gemini => has_some(whole.candidates) || whole.prompt_feedback.is_some(),
        // One that ended at once has nothing in it.
        Format::Responses => {
            has_some(whole.output) || (whole.output.is_some() && whole.incomplete_details.is_some())
        }
        Format::OpenAi | Format::DeepSeek => match endpoint {
            Endpoint::Embeddings | Endpoint::ImageGenerations | Endpoint::ImageEdits => has_some(whole.data),
            Endpoint::Rerank => has_some(whole.results.or(whole.data)),
            Endpoint::Moderations => has_some(whole.results),
            Endpoint::Transcriptions => whole.text.is_some(),
            _ => has_some(whole.choices),
        },
    }
}

/// Whether a body that goes on may be an answer, by how it begins.
pub fn may_be_answer(endpoint: Endpoint, content_type: &HeaderValue, begun: &[u8]) -> bool {
    match endpoint {
        Endpoint::Speech => !is_text(content_type),
        Endpoint::Transcriptions => true,
        _ => is_object(begun),
    }
}

fn read(body: &[u8]) -> Option<Whole<'_>> {
    // A derived struct would also read a list by position.
    is_object(body).then(|| serde_json::from_slice(body).ok()).flatten()
}

fn is_object(body: &[u8]) -> bool {
    body.trim_ascii_start().first() == Some(&b'{')
}

/// Sound is never declared as these; what a server calls nothing may be.
fn is_text(content_type: &HeaderValue) -> bool {
    let declared = content_type.as_bytes().trim_ascii_start();
    [&b"application/json"[..], b"text/html", b"text/plain"].iter().any(|text| declared.starts_with(text))
}

fn is_list(raw: &RawValue) -> bool {
    raw.get().starts_with('[')
}

fn has_some(raw: Option<&RawValue>) -> bool {
    let inside = raw.and_then(|raw| raw.get().strip_prefix('['));
    inside.is_some_and(|inside| !inside.trim_ascii_start().starts_with(']'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is(endpoint: Endpoint, format: Format, body: &str) -> bool {
        is_answer(endpoint, format, &HeaderValue::from_static("application/json"), body.as_bytes())
    }

    #[test]
    fn an_answer_is_where_its_format_has_it() {
        use Endpoint::*;
        for (endpoint, format, body) in [
            (ChatCompletions, Format::OpenAi, r#"{"id":"x","choices":[{"message":{"content":""}}]}"#),
            (Messages, Format::OpenAi, r#"{"choices":[{}],"detail":"x"}"#),
            (Completions, Format::DeepSeek, r#"{"choices":[{"text":"x"}]}"#),
            (Responses, Format::Responses, r#"{"output":[{"type":"message"}],"error":null}"#),
            (Responses, Format::Responses, r#"{"output":[],"incomplete_details":{"reason":"x"}}"#),
            (Messages, Format::Anthropic, r#"{"type":"message","content":[]}"#),
            (GenerateContent, Format::Gemini, r#"{"candidates":[{"finishReason":"STOP"}]}"#),
            (GenerateContent, Format::Gemini, r#"{"promptFeedback":{"blockReason":"SAFETY"}}"#),
            (Embeddings, Format::OpenAi, r#"{"data":[{"embedding":[1]}]}"#),
            (Rerank, Format::OpenAi, r#"{"results":[{"index":0}]}"#),
            (Moderations, Format::OpenAi, r#"{"results":[{"flagged":false}]}"#),
            (ImageGenerations, Format::OpenAi, r#"{"created":1,"data":[{"url":"x"}]}"#),
            (Transcriptions, Format::OpenAi, r#"{"text":""}"#),
            (Transcriptions, Format::OpenAi, "1\n00:00:00,000 --> 00:00:01,000\nHello"),
        ] {
            assert!(is(endpoint, format, body), "{endpoint:?}: {body}");
        }
    }

    #[test]
    fn what_else_comes_with_200_is_no_answer() {
        use Endpoint::*;
        let endpoints = [
            (ChatCompletions, Format::OpenAi),
            (Completions, Format::OpenAi),
            (Responses, Format::Responses),
            (Messages, Format::Anthropic),
            (GenerateContent, Format::Gemini),
            (Embeddings, Format::OpenAi),
            (Rerank, Format::OpenAi),
            (Moderations, Format::OpenAi),
            (ImageGenerations, Format::OpenAi),
            (ImageEdits, Format::OpenAi),
            (Speech, Format::OpenAi),
        ];
        for (endpoint, format) in endpoints {
            for body in [
                "",
                "{{{{not json",
                r#"{"choices":[{"message":{"content":"Hel"#,
                r#"{"code":500,"message":"internal error","success":false}"#,
                r#"{"detail":"Unauthorized"}"#,
                "[1,2,3]",
                r#"[[{"index":0}]]"#,
                r#"{"choices":[ ],"output":[],"candidates":[],"data":[],"results":[],"usage":{"prompt_tokens":9}}"#,
                "<html></html>",
            ] {
                assert!(!is(endpoint, format, body), "{endpoint:?}: {body}");
            }
        }
        assert!(!is(Transcriptions, Format::OpenAi, r#"{"code":500,"message":"internal error"}"#));
        let sound = HeaderValue::from_static("audio/mpeg");
        assert!(is_answer(Speech, Format::OpenAi, &sound, b"ID3"));
    }
}
