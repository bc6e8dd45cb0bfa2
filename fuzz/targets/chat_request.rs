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

    let named = request.output_cap.map_or((CapField::MaxTokens, 7), |(field, cap)| (field, cap.min(7)));
    let Value::Object(before) = before else { panic!("not an object") };
    for (is_plain, cap) in [(false, named), (true, (CapField::MaxTokens, 7))] {
        let edits = Edits {
            upstream_model: Some("other \"name\""),
            output_cap: Some(cap),
            sole_cap_name: is_plain,
            sole_system_role: is_plain,
            include_usage: request.stream,
        };
        let after = request.rewrite(&body, &edits);
        let Ok(Value::Object(after)) = serde_json::from_slice(&after) else {
            panic!("an edit broke the JSON")
        };
        assert_eq!(after.get("model").and_then(Value::as_str), edits.upstream_model);
        if request.stream {
            let include_usage = after.get("stream_options").and_then(|options| options.get("include_usage"));
            assert_eq!(include_usage, Some(&Value::Bool(true)));
        }
        if is_plain {
            // Whatever the caller called it, its upstream is told a cap by the name that it knows.
            assert!(after.get("max_tokens").and_then(Value::as_u64).is_some_and(|cap| cap <= 7));
        }
        // Nothing but the edited fields differs.
        for (name, value) in &before {
            if !["model", "max_tokens", "max_completion_tokens", "stream_options"].contains(&name.as_str()) {
                match (is_plain && name == "messages", after.get(name)) {
                    (true, Some(after)) => assert!(is_alike(value, after)),
                    (_, after) => assert_eq!(after, Some(value)),
                }
            }
        }
    }
});

/// Whether messages are the same, but for some of a developer that are the system's now.
fn is_alike(before: &Value, after: &Value) -> bool {
    let (Some(before), Some(after)) = (before.as_array(), after.as_array()) else { return before == after };
    let is_renamed = |before: &Value, after: &Value| {
        let mut renamed = before.clone();
        renamed["role"] == "developer" && {
            renamed["role"] = "system".into();
            renamed == *after
        }
    };
    before.len() == after.len()
        && before.iter().zip(after).all(|(one, other)| one == other || is_renamed(one, other))
}
