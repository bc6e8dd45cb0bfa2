//! Streams as the providers' servers send them, to every format, cut at every byte.

use bytes::Bytes;
use ledger::{TokenClass, Usage};

use super::super::proof::{Proof, Prover};
use super::super::reply::{Finish, Piece, ReplyFault};
use super::super::{Converted, Format, StreamConverter, Text, anthropic, gemini, openai, responses};
use super::{FORMATS, envelope};
use crate::gateway::sse::{Cut, SseReader, Verdict};

const OPENAI: &str = concat!(
    "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"gpt-x\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\",\"refusal\":null},\"logprobs\":null,\"finish_reason\":null}],\"usage\":null}\n\n",
    "data: {\"id\":\"chatcmpl-1\",\"model\":\"gpt-x\",\"choices\":[{\"index\":0,\"delta\":{\"reasoning_content\":\"hm \"},\"finish_reason\":null}]}\n\n",
    "data: {\"id\":\"chatcmpl-1\",\"model\":\"gpt-x\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Say \\\"\"},\"finish_reason\":null}]}\n\n",
    "data: {\"id\":\"chatcmpl-1\",\"model\":\"gpt-x\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\\u7d66你\\n\"},\"finish_reason\":null}]}\n\n",
    "data: {\"id\":\"chatcmpl-1\",\"model\":\"gpt-x\",\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"call_a\",\"type\":\"function\",\"function\":{\"name\":\"one\",\"arguments\":\"\"}}]},\"finish_reason\":null}]}\n\n",
    "data: {\"id\":\"chatcmpl-1\",\"model\":\"gpt-x\",\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"{\\\"q\\\":\"}}]},\"finish_reason\":null}]}\n\n",
    "data: {\"id\":\"chatcmpl-1\",\"model\":\"gpt-x\",\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"1}\"}}]},\"finish_reason\":null}]}\n\n",
    "data: {\"id\":\"chatcmpl-1\",\"model\":\"gpt-x\",\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":1,\"id\":\"call_b\",\"type\":\"function\",\"function\":{\"name\":\"two\",\"arguments\":\"{}\"}}]},\"finish_reason\":null}]}\n\n",
    "data: {\"id\":\"chatcmpl-1\",\"model\":\"gpt-x\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n\n",
    "data: {\"id\":\"chatcmpl-1\",\"model\":\"gpt-x\",\"choices\":[],\"usage\":{\"prompt_tokens\":30,\"completion_tokens\":12,\"total_tokens\":42,\"prompt_tokens_details\":{\"cached_tokens\":10}}}\n\n",
    "data: [DONE]\n\n",
);

const ANTHROPIC: &str = concat!(
    "event: message_start\r\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"chatcmpl-1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"gpt-x\",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,\"usage\":{\"input_tokens\":20,\"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":10,\"output_tokens\":1}}}\r\n\r\n",
    "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"}}\n\n",
    "event: ping\ndata: {\"type\": \"ping\"}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"thinking_delta\",\"thinking\":\"hm \"}}\n\n",
    "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n",
    "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":1,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"text_delta\",\"text\":\"Say \\\"\"}}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"text_delta\",\"text\":\"\\u7d66你\\n\"}}\n\n",
    "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":1}\n\n",
    "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":2,\"content_block\":{\"type\":\"tool_use\",\"id\":\"call_a\",\"name\":\"one\",\"input\":{}}}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":2,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"\"}}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":2,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{\\\"q\\\":1}\"}}\n\n",
    "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":2}\n\n",
    "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":3,\"content_block\":{\"type\":\"tool_use\",\"id\":\"call_b\",\"name\":\"two\",\"input\":{}}}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":3,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{}\"}}\n\n",
    "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":3}\n\n",
    "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"tool_use\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":12}}\n\n",
    "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
);

const GEMINI: &str = concat!(
    "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"hm \",\"thought\":true}],\"role\":\"model\"},\"index\":0}],\"usageMetadata\":{\"promptTokenCount\":30,\"totalTokenCount\":30},\"modelVersion\":\"gpt-x\",\"responseId\":\"chatcmpl-1\"}\r\n\r\n",
    "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"Say \\\"\"}],\"role\":\"model\"},\"index\":0}],\"usageMetadata\":{\"promptTokenCount\":30,\"candidatesTokenCount\":2,\"totalTokenCount\":32},\"modelVersion\":\"gpt-x\",\"responseId\":\"chatcmpl-1\"}\r\n\r\n",
    "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"\\u7d66你\\n\"},{\"functionCall\":{\"id\":\"call_a\",\"name\":\"one\",\"args\":{\"q\":1}}}],\"role\":\"model\"},\"index\":0}],\"modelVersion\":\"gpt-x\",\"responseId\":\"chatcmpl-1\"}\r\n\r\n",
    "data: {\"candidates\":[{\"content\":{\"parts\":[{\"functionCall\":{\"id\":\"call_b\",\"name\":\"two\",\"args\":{}}}],\"role\":\"model\"},\"finishReason\":\"STOP\",\"index\":0}],\"usageMetadata\":{\"promptTokenCount\":30,\"cachedContentTokenCount\":10,\"candidatesTokenCount\":12,\"totalTokenCount\":42},\"modelVersion\":\"gpt-x\",\"responseId\":\"chatcmpl-1\"}\r\n\r\n",
);

const RESPONSES: &str = concat!(
    "event: response.created\ndata: {\"type\":\"response.created\",\"sequence_number\":0,\"response\":{\"id\":\"chatcmpl-1\",\"object\":\"response\",\"status\":\"in_progress\",\"error\":null,\"incomplete_details\":null,\"model\":\"gpt-x\",\"output\":[],\"usage\":null}}\n\n",
    "event: response.output_item.added\ndata: {\"type\":\"response.output_item.added\",\"output_index\":0,\"item\":{\"id\":\"rs_1\",\"type\":\"reasoning\",\"summary\":[]}}\n\n",
    "event: response.reasoning_summary_part.added\ndata: {\"type\":\"response.reasoning_summary_part.added\",\"item_id\":\"rs_1\",\"output_index\":0,\"summary_index\":0,\"part\":{\"type\":\"summary_text\",\"text\":\"\"}}\n\n",
    "event: response.reasoning_summary_text.delta\ndata: {\"type\":\"response.reasoning_summary_text.delta\",\"item_id\":\"rs_1\",\"output_index\":0,\"summary_index\":0,\"delta\":\"hm \"}\n\n",
    "event: response.output_item.done\ndata: {\"type\":\"response.output_item.done\",\"output_index\":0,\"item\":{\"id\":\"rs_1\",\"type\":\"reasoning\",\"summary\":[{\"type\":\"summary_text\",\"text\":\"hm \"}]}}\n\n",
    "event: response.output_item.added\ndata: {\"type\":\"response.output_item.added\",\"output_index\":1,\"item\":{\"id\":\"msg_1\",\"type\":\"message\",\"status\":\"in_progress\",\"role\":\"assistant\",\"content\":[]}}\n\n",
    "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"item_id\":\"msg_1\",\"output_index\":1,\"content_index\":0,\"delta\":\"Say \\\"\",\"logprobs\":[]}\n\n",
    "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"item_id\":\"msg_1\",\"output_index\":1,\"content_index\":0,\"delta\":\"\\u7d66你\\n\"}\n\n",
    "event: response.output_item.added\ndata: {\"type\":\"response.output_item.added\",\"output_index\":2,\"item\":{\"id\":\"fc_1\",\"type\":\"function_call\",\"status\":\"in_progress\",\"call_id\":\"call_a\",\"name\":\"one\",\"arguments\":\"\"}}\n\n",
    "event: response.function_call_arguments.delta\ndata: {\"type\":\"response.function_call_arguments.delta\",\"item_id\":\"fc_1\",\"output_index\":2,\"delta\":\"{\\\"q\\\":1}\"}\n\n",
    "event: response.output_item.added\ndata: {\"type\":\"response.output_item.added\",\"output_index\":3,\"item\":{\"id\":\"fc_2\",\"type\":\"function_call\",\"status\":\"in_progress\",\"call_id\":\"call_b\",\"name\":\"two\",\"arguments\":\"\"}}\n\n",
    "event: response.function_call_arguments.delta\ndata: {\"type\":\"response.function_call_arguments.delta\",\"item_id\":\"fc_2\",\"output_index\":3,\"delta\":\"{}\"}\n\n",
    "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"id\":\"chatcmpl-1\",\"object\":\"response\",\"status\":\"completed\",\"error\":null,\"incomplete_details\":null,\"model\":\"gpt-x\",\"output\":[{\"type\":\"function_call\",\"call_id\":\"call_a\",\"name\":\"one\",\"arguments\":\"{}\"}],\"usage\":{\"input_tokens\":30,\"input_tokens_details\":{\"cached_tokens\":10},\"output_tokens\":12,\"output_tokens_details\":{\"reasoning_tokens\":0},\"total_tokens\":42}}}\n\n",
);

fn recorded(format: Format) -> &'static str {
    match format {
        Format::OpenAi | Format::DeepSeek => OPENAI,
        Format::Anthropic => ANTHROPIC,
        Format::Gemini => GEMINI,
        Format::Responses => RESPONSES,
    }
}

/// Sends chunks through the event reader and the converter, as the gateway does.
pub(super) fn convert(from: Format, to: Format, chunks: &[&[u8]]) -> (Vec<u8>, Vec<u8>) {
    let mut converter = StreamConverter::new(from, to, envelope());
    let (mut into, mut reader, mut cut) = (Converted::default(), SseReader::new(1 << 20), Cut::default());
    for chunk in chunks {
        let judge = |event: &crate::gateway::sse::Event<'_>| {
            converter.push(event.data, &mut into).unwrap();
            Verdict::Drop
        };
        reader.feed(&Bytes::copy_from_slice(chunk), judge, &mut cut).unwrap();
    }
    converter.finish(None, &mut into).unwrap();
    (into.now, into.last)
}

/// What a stream says, pieces put together.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Heard {
    head: String,
    pub(super) said: String,
    finish: Option<Finish<'static>>,
    usage: Option<Usage>,
    ended: bool,
}

impl Heard {
    fn hear(&mut self, piece: &Piece<'_>) {
        let last =
            self.said.rsplit('|').next().unwrap_or_default().split(':').next().unwrap_or_default().to_owned();
        let mut go_on = |kind: &str, text: &str| {
            if last != kind {
                self.said.push_str(&format!("|{kind}:"));
            }
            self.said.push_str(text);
        };
        match piece {
            Piece::Start { id, model } => self.head = format!("{id:?} {model:?}"),
            Piece::Text { text, .. } => go_on("text", text.escaped()),
            Piece::Thinking { text, .. } => go_on("thought", text.escaped()),
            Piece::ToolStart { tool, id, name, .. } => {
                self.said.push_str(&format!("|tool {tool} {id:?} {name:?}:"))
            }
            Piece::ToolArguments { json, .. } => self.said.push_str(json.escaped()),
            Piece::Image { image, .. } => self.said.push_str(&format!("|{image:?}")),
            Piece::Signature { .. } | Piece::Redacted { .. } => {}
            Piece::Finish { finish, .. } => self.finish = Some(finish.clone().into_owned()),
            Piece::Usage(usage) => self.usage = Some(*usage),
            Piece::End => self.ended = true,
        }
    }
}

pub(super) fn hear(format: Format, stream: &[u8]) -> Heard {
    let mut heard = Heard::default();
    let (mut reader, mut cut) = (SseReader::new(1 << 20), Cut::default());
    let (mut open_ai, mut anthropic) = (openai::Reader::default(), anthropic::Reader::default());
    let (mut gemini, mut responses) = (gemini::Reader::default(), responses::Reader::default());
    let judge = |event: &crate::gateway::sse::Event<'_>| {
        let mut tell = |piece: Piece<'_>| -> Result<(), ReplyFault> {
            heard.hear(&piece);
            Ok(())
        };
        match format {
            Format::OpenAi | Format::DeepSeek => open_ai.read(event.data, &mut tell),
            Format::Anthropic => anthropic.read(event.data, &mut tell),
            Format::Gemini => gemini.read(event.data, &mut tell),
            Format::Responses => responses.read(event.data, &mut tell),
        }
        .unwrap();
        Verdict::Forward
    };
    reader.feed(&Bytes::copy_from_slice(stream), judge, &mut cut).unwrap();
    // Gemini's streams just end.
    heard.ended |= format == Format::Gemini;
    heard
}

fn expected() -> Heard {
    let mut usage = Usage::default();
    usage.set(TokenClass::Input, 20);
    usage.set(TokenClass::CacheRead, 10);
    usage.set(TokenClass::Output, 12);
    Heard {
        head: r#"Some("chatcmpl-1") Some("gpt-x")"#.to_owned(),
        said: "|thought:hm |text:Say \\\"\\u7d66你\\n|tool 0 \"call_a\" \"one\":{\\\"q\\\":1}|tool 1 \"call_b\" \"two\":{}"
            .to_owned(),
        finish: Some(Finish::ToolCalls),
        usage: Some(usage),
        ended: true,
    }
}

#[test]
fn every_stream_says_the_same_in_every_format() {
    for from in FORMATS {
        assert_eq!(hear(from, recorded(from).as_bytes()), expected(), "{from:?}");
        for to in FORMATS {
            let (mut now, last) = convert(from, to, &[recorded(from).as_bytes()]);
            let before = hear(to, &now);
            assert_eq!(before.finish, None, "{from:?} to {to:?}: the end must be kept apart");
            now.extend_from_slice(&last);
            assert_eq!(hear(to, &now), expected(), "{from:?} to {to:?}: {}", String::from_utf8_lossy(&now));
        }
    }
}

#[test]
fn a_stream_cut_at_any_byte_becomes_the_same() {
    for from in FORMATS {
        let stream = recorded(from).as_bytes();
        for to in FORMATS {
            let whole = convert(from, to, &[stream]);
            for at in 0..=stream.len() {
                let (before, behind) = stream.split_at(at);
                assert_eq!(convert(from, to, &[before, behind]), whole, "{from:?} to {to:?} at {at}");
            }
            let bytes: Vec<&[u8]> = stream.chunks(1).collect();
            assert_eq!(convert(from, to, &bytes), whole, "{from:?} to {to:?}, byte by byte");
        }
    }
}

#[test]
fn signatures_and_what_none_can_read_reach_those_that_know_them() {
    let stream = concat!(
        "data: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"model\":\"c\",\"usage\":{\"input_tokens\":1,\"output_tokens\":1}}}\n\n",
        "data: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"thinking\",\"thinking\":\"\"}}\n\n",
        "data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"thinking_delta\",\"thinking\":\"so\"}}\n\n",
        "data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"signature_delta\",\"signature\":\"c2ln\"}}\n\n",
        "data: {\"type\":\"content_block_start\",\"index\":1,\"content_block\":{\"type\":\"redacted_thinking\",\"data\":\"eHg=\"}}\n\n",
    );
    let out = |to| String::from_utf8(convert(Format::Anthropic, to, &[stream.as_bytes()]).0).unwrap();
    let detail = r#""reasoning_details":[{"type":"reasoning.text","text":"so","signature":"c2ln","format":"anthropic-claude-v1","index":0}]"#;
    assert!(out(Format::OpenAi).contains(detail));
    let detail = r#"{"type":"reasoning.encrypted","data":"eHg=","format":"anthropic-claude-v1","index":1}"#;
    assert!(out(Format::OpenAi).contains(detail));
    let proof = |text, signs| {
        let proof = Proof { of: Prover::Anthropic, text: Text::word(text) };
        proof.written(Prover::OpenAi, signs).escaped().to_owned()
    };
    let thought = format!(r#"{{"text":"","thought":true,"thoughtSignature":"{}"}}"#, proof("c2ln", true));
    assert!(out(Format::Gemini).contains(&thought));
    // A response tells the proof when its item is done, and all of it once more at the end.
    let (signed, encrypted) = (proof("c2ln", true), proof("eHg=", false));
    let done =
        format!(r#""summary":[{{"type":"summary_text","text":"so"}}],"encrypted_content":"{signed}"}}"#);
    assert_eq!(out(Format::Responses).matches(&done).count(), 1);
    assert!(out(Format::Responses).contains(&format!(r#""summary":[],"encrypted_content":"{encrypted}"}}"#)));
    let same = out(Format::Anthropic);
    assert!(same.contains(r#"{"type":"signature_delta","signature":"c2ln"}"#));
    assert!(same.contains(r#"{"type":"redacted_thinking","data":"eHg="}"#));
}

#[test]
fn an_event_that_is_not_what_its_format_says_is_a_fault() {
    for from in FORMATS {
        let mut converter = StreamConverter::new(from, Format::OpenAi, envelope());
        for data in ["", "{", "[]", "{\"choices\":5,\"type\":1,\"candidates\":5}", "\u{1}"] {
            assert!(converter.push(data.as_bytes(), &mut Converted::default()).is_err(), "{from:?} {data:?}");
        }
    }
    let nameless =
        r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{}"}}]}}]}"#;
    let mut converter = StreamConverter::new(Format::OpenAi, Format::Anthropic, envelope());
    assert!(converter.push(nameless.as_bytes(), &mut Converted::default()).is_err());
}

/// Nothing that Gemini answers is dropped in silence: a picture goes where the format has a place for it, and is named where
/// it has none; an answer that the model failed to make is a fault.
#[test]
fn pictures_and_failed_calls_of_gemini_are_told() {
    use super::super::{answer, read_reply};
    let picture = serde_json::json!({"inlineData": {"mimeType": "image/png", "data": "iVBORw0K"}});
    let body = |parts: serde_json::Value, reason: &str| {
        serde_json::json!({"responseId": "g", "modelVersion": "m", "candidates": [{"index": 0,
            "content": {"role": "model", "parts": parts}, "finishReason": reason}]})
        .to_string()
    };
    let of_two = body(serde_json::json!([{"text": "Look: "}, picture]), "STOP");
    for to in FORMATS {
        let whole = answer(Format::Gemini, to, of_two.as_bytes(), &envelope()).unwrap();
        let stream = format!("data: {of_two}\n\n");
        let (now, _) = convert(Format::Gemini, to, &[stream.as_bytes()]);
        for at in 0..=stream.len() {
            let (before, behind) = stream.as_bytes().split_at(at);
            assert_eq!(convert(Format::Gemini, to, &[before, behind]).0, now, "{to:?} at {at}");
        }
        for told in [std::str::from_utf8(&whole).unwrap(), std::str::from_utf8(&now).unwrap()] {
            let place = match to {
                Format::OpenAi => {
                    r#""images":[{"type":"image_url","image_url":{"url":"data:image/png;base64,iVBORw0K"}}]"#
                }
                Format::Gemini => r#"{"inlineData":{"mimeType":"image/png","data":"iVBORw0K"}}"#,
                _ => "[The model answered with data (image/png) that this format has no place for.]",
            };
            assert!(told.contains(place), "{to:?}: {told}");
            assert!(told.contains("Look: "), "{to:?}: {told}");
        }
        // What a client of a chat has been told is read in the same way.
        if to == Format::OpenAi {
            let there = answer(to, Format::Gemini, &whole, &envelope()).unwrap();
            let parts = |body: &[u8]| {
                let reply = read_reply(Format::Gemini, std::str::from_utf8(body).unwrap()).unwrap();
                format!("{:?}", reply.choices)
            };
            assert_eq!(parts(&there), parts(of_two.as_bytes()));
        }
        for reason in ["MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL"] {
            let failed = body(serde_json::json!([]), reason);
            assert!(answer(Format::Gemini, to, failed.as_bytes(), &envelope()).is_err(), "{to:?} {reason}");
            let mut converter = StreamConverter::new(Format::Gemini, to, envelope());
            assert!(converter.push(failed.as_bytes(), &mut Converted::default()).is_err(), "{to:?} {reason}");
        }
    }
    let sound = body(serde_json::json!([{"inlineData": {"mimeType": "audio/wav", "data": "AA=="}}]), "STOP");
    let sound = sound.replace("audio/wav", r"audio\/wav");
    let told = answer(Format::Gemini, Format::OpenAi, sound.as_bytes(), &envelope()).unwrap();
    assert!(std::str::from_utf8(&told).unwrap().contains("data (audio/wav) that this format"));
}
