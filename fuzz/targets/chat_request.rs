//! The chat request: any body that a client can send.

#![no_main]
#![expect(clippy::panic, reason = "a panic is how a fuzz target reports")]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use tallygate::gateway::facts::Endpoint;
use tallygate::gateway::request::{CapField, Edits, ModelRequest};

fuzz_target!(|data: &[u8]| {
    let body = Bytes::copy_from_slice(data);
    let Ok(request) = ModelRequest::read(Endpoint::ChatCompletions, None, &body) else { return };
    // What is understood is JSON to others, too (but for depth, which they bound).
    let Ok(before) = serde_json::from_slice::<Value>(data) else { return };
    assert_eq!(before.get("model").and_then(Value::as_str), Some(&*request.model));
    assert!((1..=128).contains(&request.choices));

    let unchanged = request.rewrite(&body, &Edits::default());
    assert_eq!(unchanged, body);

    let cap = request.output_cap.map_or((CapField::MaxTokens, 7), |(field, cap)| (field, cap.min(7)));
    let edits = Edits {
        upstream_model: Some("other \"name\""),
        output_cap: Some(cap),
        include_usage: request.stream,
    };
    let after = request.rewrite(&body, &edits);
    let Ok(after) = serde_json::from_slice::<Value>(&after) else { panic!("an edit broke the JSON") };
    assert_eq!(after.get("model").and_then(Value::as_str), edits.upstream_model);
    if request.stream {
        assert_eq!(after.pointer("/stream_options/include_usage"), Some(&Value::Bool(true)));
    }
    // Nothing but the edited fields differs.
    let (Value::Object(before), Value::Object(after)) = (before, after) else { panic!("not an object") };
    for (name, value) in &before {
        if !["model", "max_tokens", "max_completion_tokens", "stream_options"].contains(&name.as_str()) {
            assert_eq!(after.get(name), Some(value));
        }
    }
});
