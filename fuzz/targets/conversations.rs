//! Requests of every client format, on their way to every other: any body that a client can send. The first byte says
//! which way.

#![no_main]
#![expect(clippy::panic, reason = "a panic is how a fuzz target reports")]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use tallygate::gateway::convert::{self, Format, Target};
use tallygate::gateway::facts::Endpoint;
use tallygate::gateway::request::ModelRequest;

const FORMATS: [Format; 5] =
    [Format::OpenAi, Format::Anthropic, Format::Gemini, Format::Responses, Format::DeepSeek];

fuzz_target!(|data: &[u8]| {
    let Some((way, body)) = data.split_first() else { return };
    let way = usize::from(*way);
    let (Some(from), Some(to)) = (FORMATS.get(way % 4), FORMATS.get(way / 4 % 5)) else { return };
    let bytes = Bytes::copy_from_slice(body);
    let read = match from {
        Format::Anthropic => ModelRequest::read(Endpoint::Messages, None, &bytes),
        Format::Responses => ModelRequest::read(Endpoint::Responses, None, &bytes),
        Format::Gemini => ModelRequest::read_named(Endpoint::GenerateContent, "m", &bytes),
        _ => ModelRequest::read(Endpoint::ChatCompletions, None, &bytes),
    };
    if let Ok(request) = &read {
        // A token is a byte at least, so that a hold covers whatever is counted.
        assert!(request.input_tokens_bound + request.parts.image_bytes + request.parts.audio_bytes > 0);
    }
    let _count = ModelRequest::read(Endpoint::CountMessages, None, &bytes);
    if let Ok(count) = ModelRequest::read_named(Endpoint::CountContents, "m", &bytes) {
        assert!(count.counted(&bytes).len() <= bytes.len());
        let _sent = count.addressed_to("m", &bytes);
    }
    let Ok(text) = std::str::from_utf8(body) else { return };
    let target = Target {
        format: *to,
        model: "m",
        stream: way % 2 == 0,
        output_cap: Some(4096),
        newer_cap_field: true,
        size_hint: body.len(),
    };
    let Ok(there) = convert::request(*from, text, &target) else { return };
    // What is understood is JSON to others, too (but for depth, which they bound).
    if serde_json::from_str::<Value>(text).is_ok() && serde_json::from_slice::<Value>(&there.body).is_err() {
        panic!("{from:?} became no JSON of {to:?}: {}", String::from_utf8_lossy(&there.body));
    }
});
