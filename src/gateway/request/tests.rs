use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{CapField, Edits, Endpoint, ModelRequest, RequestFault, fingerprint};

fn parse(body: &str) -> Result<ModelRequest, RequestFault> {
    ModelRequest::read(Endpoint::ChatCompletions, None, &Bytes::copy_from_slice(body.as_bytes()))
}

fn field(body: &str) -> String {
    match parse(body) {
        Err(RequestFault::InvalidParameter { field, .. }) => field.into(),
        other => panic!("{body}: {other:?}"),
    }
}

const USER: &str = r#""messages":[{"role":"user","content":"hi"}]"#;

#[test]
fn a_plain_request_says_what_a_decision_needs() {
    let body = format!(r#"{{"model":"gpt-5-mini",{USER},"stream":true,"n":3,"max_tokens":70,"seed":1}}"#);
    let request = parse(&body).unwrap();
    assert_eq!(&*request.model, "gpt-5-mini");
    assert!(request.stream && !request.include_usage_asked);
    assert_eq!(request.choices, 3);
    assert_eq!(request.output_cap, Some((CapField::MaxTokens, 70)));
    assert_eq!(request.input_tokens_bound, body.len() as u64 + 64);
    assert_eq!(request.parts, Default::default());
}

/// H1: DeepSeek knows no developer; the same words are the system's there, and nothing else of the body changes.
#[test]
fn h1_a_developers_message_is_the_systems_where_no_developer_is_known() {
    let body = |role: &str| {
        format!(
            r#"{{"model":"m","messages":[{{ "role" : {role}, "content":"\"role\":\"developer\""}},{{"role":"user","content":"developer"}},
            {{"content":"b","role":{role}}}],"max_tokens":9,"user":"developer"}}"#
        )
    };
    let edits = Edits { sole_system_role: true, ..Edits::default() };
    let asked = body("\"developer\"");
    let request = parse(&asked).unwrap();
    assert_eq!(request.rewrite(&Bytes::from(asked.clone()), &edits), body("\"system\""));
    assert_eq!(request.rewrite(&Bytes::from(asked.clone()), &Edits::default()), asked);
}

#[test]
fn of_two_caps_the_larger_binds_the_hold_and_both_are_lowered() {
    let body = format!(r#"{{"model":"m",{USER},"max_tokens":50,"max_completion_tokens":90}}"#);
    let request = parse(&body).unwrap();
    assert_eq!(request.output_cap, Some((CapField::MaxCompletionTokens, 90)));
    let edits = Edits { output_cap: Some((CapField::MaxTokens, 40)), ..Edits::default() };
    let out = request.rewrite(&Bytes::from(body), &edits);
    let out: Value = serde_json::from_slice(&out).unwrap();
    assert_eq!((&out["max_tokens"], &out["max_completion_tokens"]), (&json!(40), &json!(40)));
}

/// H1, money: an upstream that knows one name of the cap is told it by that, and nothing else of the body changes.
#[test]
fn h1_a_cap_by_another_name_is_renamed_where_that_is_not_known() {
    let sent = |body: &str, cap: u32| {
        let edits =
            Edits { output_cap: Some((CapField::MaxTokens, cap)), sole_cap_name: true, ..Edits::default() };
        let out = parse(body).unwrap().rewrite(&Bytes::copy_from_slice(body.as_bytes()), &edits);
        String::from_utf8(out.to_vec()).unwrap()
    };
    let body = |caps: &str| format!(r#"{{"model":"m",{USER}{caps}, "x":"max_completion_tokens"}}"#);
    for (caps, expected) in [
        (r#", "max_completion_tokens" : 50"#, r#", "max_tokens" : 50"#),
        (r#", "max_completion_token\u0073":50"#, r#", "max_tokens":50"#),
        (
            r#","max_tokens":null,"max_completion_tokens":50"#,
            r#","max_tokens":50,"max_completion_tokens":50"#,
        ),
        (r#","max_tokens":20,"max_completion_tokens":50"#, r#","max_tokens":20,"max_completion_tokens":50"#),
        (r#","max_completion_tokens":500"#, r#","max_tokens":90"#),
    ] {
        assert_eq!(sent(&body(caps), 90), body(expected));
    }
    let none = r#","max_completion_tokens":null"#;
    let out: Value = serde_json::from_str(&sent(&body(none), 90)).unwrap();
    assert_eq!(out["max_tokens"], 90);
}

#[test]
fn images_and_sounds_are_counted_apart_from_the_text() {
    let data = "A".repeat(10_000);
    let body = format!(
        r#"{{"model":"m","messages":[{{"role":"user","content":[
            {{"type":"text","text":"look"}},
            {{"type":"image_url","image_url":{{"url":"data:image/png;base64,{data}"}}}},
            {{"type":"image_url","image_url":{{"url":"https://example.org/a.png"}}}},
            {{"type":"input_audio","input_audio":{{"data":"{data}","format":"mp3"}}}},
            {{"type":"file","file":{{"file_id":"f"}}}},
            {{"type":"video_url","video_url":{{"url":"https://example.org/a.mp4"}}}}]}}]}}"#
    );
    let request = parse(&body).unwrap();
    let parts = request.parts;
    assert_eq!((parts.images, parts.audio, parts.files, parts.others), (2, 1, 1, 1));
    assert_eq!(parts.audio_bytes, 10_002);
    assert_eq!(request.input_tokens_bound, body.len() as u64 + 64 - parts.image_bytes);
    assert!(parts.image_bytes > 10_000);
}

#[test]
fn bad_input_names_the_field() {
    assert_eq!(field("{}"), "messages");
    assert_eq!(field(&format!("{{{USER}}}")), "model");
    assert_eq!(field(r#"{"model":"m"}"#), "messages");
    assert_eq!(field(r#"{"model":"m","messages":[]}"#), "messages");
    assert_eq!(field(r#"{"model":"m","messages":"hi"}"#), "messages");
    assert_eq!(field(r#"{"model":"m","messages":{"role":"user"}}"#), "messages");
    assert_eq!(field(r#"{"model":"m","messages":[1]}"#), "messages[0]");
    assert_eq!(field(r#"{"model":"m","messages":[{"content":"a"}]}"#), "messages[0].role");
    assert_eq!(field(r#"{"model":"m","messages":[{"role":7,"content":"a"}]}"#), "messages[0].role");
    assert_eq!(field(r#"{"model":"m","messages":[{"role":"user","content":7}]}"#), "messages[0].content");
    assert_eq!(
        field(
            r#"{"model":"m","messages":[{"role":"user"},{"role":"user","content":[{"type":"text"},"x"]}]}"#
        ),
        "messages[1].content[1]"
    );
    for (name, bad) in [
        ("max_tokens", "-1"),
        ("max_tokens", "0"),
        ("max_tokens", "1.5"),
        ("max_tokens", "1e3"),
        ("max_tokens", "\"7\""),
        ("max_tokens", "99999999999999999999999999"),
        ("max_completion_tokens", "true"),
        ("n", "0"),
        ("n", "129"),
        ("stream", "\"true\""),
        ("stream_options", "[true]"),
        ("stream_options", "1"),
    ] {
        assert_eq!(field(&format!(r#"{{"model":"m",{USER},"{name}":{bad}}}"#)), name);
    }
    let asked = format!(r#"{{"model":"m",{USER},"stream_options":{{"include_usage":1}}}}"#);
    assert_eq!(field(&asked), "stream_options.include_usage");
    assert_eq!(field(&format!(r#"{{"model":5,{USER}}}"#)), "model");
    assert_eq!(field(&format!(r#"{{"model":"",{USER}}}"#)), "model");
    assert_eq!(field(&format!(r#"{{"model":"{}",{USER}}}"#, "é".repeat(257))), "model");
    assert!(parse(&format!(r#"{{"model":"{}",{USER}}}"#, "é".repeat(256))).is_ok());
}

#[test]
fn a_field_that_stands_twice_is_refused_even_when_written_differently() {
    assert_eq!(field(&format!(r#"{{"model":"cheap",{USER},"mod\u0065l":"dear"}}"#)), "model");
    assert_eq!(field(&format!(r#"{{"model":"m",{USER},{USER}}}"#)), "messages");
    assert_eq!(field(&format!(r#"{{"model":"m","max_tokens":1,{USER},"max_tokens":2}}"#)), "max_tokens");
    let body =
        format!(r#"{{"model":"m",{USER},"stream_options":{{"include_usage":true,"include_usage":false}}}}"#);
    assert_eq!(field(&body), "stream_options.include_usage");
    let body = r#"{"model":"m","messages":[{"role":"user","content":"a","content":"b"}]}"#;
    assert_eq!(field(body), "messages[0].content");
}

#[test]
fn broken_text_names_the_place_and_never_shows_the_prompt() {
    let Err(RequestFault::InvalidJson { offset, line, column, .. }) =
        parse("{\"model\":\"m\",\n \"messages\": [{\"role\" \"secret-prompt\"}]}")
    else {
        panic!("accepted")
    };
    assert_eq!((line, column), (2, 23));
    assert_eq!(offset, 12 + 1 + 23);
    let Err(RequestFault::InvalidJson { what, .. }) = parse("\u{feff}{}") else { panic!("accepted") };
    assert!(what.contains("U+FEFF"), "{what}");
    let Err(RequestFault::InvalidJson { what, .. }) = parse("[1]") else { panic!("accepted") };
    assert_eq!(&*what, "expected a JSON object, got a list");
    assert!(matches!(parse(""), Err(RequestFault::InvalidJson { .. })));
    assert!(matches!(parse(&format!(r#"{{"model":"m",{USER}}} x"#)), Err(RequestFault::InvalidJson { .. })));
    let broken = Bytes::from_static(b"{\"model\":\"m\xff\"}");
    assert_eq!(
        ModelRequest::read(Endpoint::ChatCompletions, None, &broken),
        Err(RequestFault::InvalidUtf8 { offset: 11 })
    );
    for body in
        [r#"{"model":"m","messages":"secret-prompt"}"#, r#"{"model":"m","messages":["secret-prompt"]}"#]
    {
        assert!(!parse(body).unwrap_err().to_string().contains("secret"));
    }
}

#[test]
fn a_depth_bomb_is_contained() {
    let bomb = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    // In a field that nobody looks at, nesting is skipped without a stack.
    let body = format!(r#"{{"model":"m",{USER},"metadata":{}}}"#, bomb(1_000_000));
    assert!(parse(&body).is_ok());
    for field in ["messages", "stream_options", "model"] {
        assert!(parse(&format!(r#"{{"{field}":{},"x":1}}"#, bomb(1_000_000))).is_err());
    }
    let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":{}}}]}}"#, bomb(1_000_000));
    assert!(parse(&body).is_err());
    assert!(parse(&"[".repeat(1_000_000)).is_err());
    assert!(parse(&"{\"a\":".repeat(1_000_000)).is_err());
}

#[test]
fn nothing_to_edit_gives_the_same_bytes_without_a_copy() {
    let body = Bytes::from(format!(r#" {{ "model" : "m", {USER}, "max_tokens": 9 }} "#));
    let request = ModelRequest::read(Endpoint::ChatCompletions, None, &body).unwrap();
    let edits =
        Edits { upstream_model: Some("m"), output_cap: Some((CapField::MaxTokens, 9)), ..Edits::default() };
    let out = request.rewrite(&body, &edits);
    assert_eq!(out.as_ptr(), body.as_ptr());
    assert_eq!(out, body);
}

#[test]
fn a_model_name_is_escaped_into_the_body() {
    let body = Bytes::from(format!(r#"{{"model":"m",{USER}}}"#));
    let name = "a\"b\\c\n";
    let edits = Edits { upstream_model: Some(name), ..Edits::default() };
    let out = ModelRequest::read(Endpoint::ChatCompletions, None, &body).unwrap().rewrite(&body, &edits);
    assert_eq!(&*ModelRequest::read(Endpoint::ChatCompletions, None, &out).unwrap().model, name);
}

#[test]
fn another_body_than_the_parsed_one_is_left_alone() {
    let body = Bytes::from(format!(r#"{{"model":"model-with-a-long-name",{USER}}}"#));
    let request = ModelRequest::read(Endpoint::ChatCompletions, None, &body).unwrap();
    let edits = Edits {
        upstream_model: Some("x"),
        output_cap: Some((CapField::MaxTokens, 1)),
        include_usage: true,
        ..Edits::default()
    };
    assert_eq!(request.rewrite(&Bytes::from_static(b"{}"), &edits), "{}");
}

#[test]
fn equal_bodies_have_equal_fingerprints() {
    assert_eq!(fingerprint(b"abc"), 0xba78_16bf_8f01_cfea_4141_40de_5dae_2223);
    assert_ne!(fingerprint(b"abc"), fingerprint(b"abd"));
}

/// A chat request with unknown fields, members in any order and blanks
/// between the tokens.
fn chat() -> impl Strategy<Value = (String, Value)> {
    let options = prop_oneof![
        Just(None),
        Just(Some(json!(null))),
        Just(Some(json!({}))),
        Just(Some(json!({"x": 1}))),
        Just(Some(json!({"include_usage": null, "y": [1, {"include_usage": 3}]}))),
        any::<bool>().prop_map(|asked| Some(json!({"a": {}, "include_usage": asked}))),
    ];
    let cap =
        || prop_oneof![Just(None), Just(Some(Value::Null)), (1u32..500).prop_map(|cap| Some(json!(cap)))];
    (
        ("\\PC{1,20}", "\\PC{0,40}", options, cap(), cap(), any::<Option<bool>>()),
        any::<bool>(),
        Just(vec![
            "model",
            "messages",
            "stream_options",
            "max_tokens",
            "max_completion_tokens",
            "stream",
            "zz",
        ])
        .prop_shuffle(),
    )
        .prop_map(|((model, text, options, older, newer, stream), pretty, order)| {
            let mut all = Map::new();
            all.insert("model".into(), json!(model));
            all.insert("messages".into(), json!([{"role": "user", "content": text}]));
            all.insert("zz".into(), json!({"model": "inner", "max_tokens": -1.5, "n": [[[]]], "t": text}));
            let rest = [
                ("stream_options", options),
                ("max_tokens", older),
                ("max_completion_tokens", newer),
                ("stream", stream.map(Value::Bool)),
            ];
            all.extend(rest.into_iter().filter_map(|(name, value)| Some((name.to_string(), value?))));
            let members: Vec<String> = order
                .iter()
                .filter_map(|name| {
                    let value = all.get(*name)?;
                    let text = if pretty {
                        serde_json::to_string_pretty(value)
                    } else {
                        serde_json::to_string(value)
                    };
                    Some(format!("\"{name}\" :\t{}", text.unwrap()))
                })
                .collect();
            (format!("\n {{ {} }}", members.join(" , ")), Value::Object(all))
        })
}

/// The same edits made on a JSON tree.
fn edited(mut value: Value, edits: &Edits<'_>) -> Value {
    let object = value.as_object_mut().unwrap();
    if let Some(name) = edits.upstream_model {
        object.insert("model".into(), json!(name));
    }
    if let Some((field, cap)) = edits.output_cap {
        let mut standing = false;
        for name in ["max_tokens", "max_completion_tokens"] {
            if let Some(own) = object.get(name).and_then(Value::as_u64) {
                standing = true;
                object.insert(name.into(), json!(own.min(u64::from(cap))));
            }
        }
        if !standing {
            object.insert(field.name().into(), json!(cap));
        }
    }
    if edits.include_usage {
        match object.get_mut("stream_options") {
            Some(Value::Object(options)) => drop(options.insert("include_usage".into(), json!(true))),
            _ => drop(object.insert("stream_options".into(), json!({"include_usage": true}))),
        }
    }
    value
}

proptest! {
    #[test]
    fn a_rewritten_body_equals_the_edited_tree(
        (text, value) in chat(),
        name in proptest::option::of("\\PC{1,12}"),
        cap in proptest::option::of(1u32..400),
        newer: bool,
        include_usage: bool,
    ) {
        let body = Bytes::from(text);
        let request = ModelRequest::read(Endpoint::ChatCompletions, None, &body).unwrap();
        prop_assert_eq!(json!(&*request.model), value["model"].clone());
        let field = if newer { CapField::MaxCompletionTokens } else { CapField::MaxTokens };
        let edits = Edits { upstream_model: name.as_deref(), output_cap: cap.map(|cap| (field, cap)), include_usage, ..Edits::default() };
        let out = request.rewrite(&body, &edits);
        let tree: Value = serde_json::from_slice(&out).unwrap();
        // Unknown fields stay byte for byte.
        let at = text_of(&body, "\"zz\"");
        prop_assert!(std::str::from_utf8(&out).unwrap().contains(at));
        prop_assert_eq!(tree, edited(value, &edits));
        // What was rewritten is a request again, with the edits in it.
        let again = ModelRequest::read(Endpoint::ChatCompletions, None, &out).unwrap();
        prop_assert!(!include_usage || again.include_usage_asked);
        if let (Some(cap), Some((_, got))) = (cap, again.output_cap) {
            prop_assert!(got <= cap);
        }
    }

    #[test]
    fn damaged_bodies_never_panic(
        (text, _) in chat(),
        cuts in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..3), 1..6),
    ) {
        let mut bytes = text.into_bytes();
        for (at, byte, how) in cuts {
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => bytes.truncate(at + 1),
            }
        }
        let body = Bytes::from(bytes);
        let edits = Edits { upstream_model: Some("u"), output_cap: Some((CapField::MaxTokens, 5)), include_usage: true, ..Edits::default() };
        match ModelRequest::read(Endpoint::ChatCompletions, None, &body) {
            Ok(request) => prop_assert!(serde_json::from_slice::<serde::de::IgnoredAny>(&request.rewrite(&body, &edits)).is_ok()),
            Err(fault) => prop_assert!(!fault.to_string().is_empty()),
        }
    }
}

/// The member that starts with `name`, to the end of its object.
fn text_of<'a>(body: &'a Bytes, name: &str) -> &'a str {
    let text = std::str::from_utf8(body).unwrap();
    let from = text.find(name).unwrap();
    let rest = &text[from..];
    let value = rest.find('{').unwrap();
    let mut values = serde_json::Deserializer::from_str(&rest[value..]).into_iter::<serde::de::IgnoredAny>();
    values.next().unwrap().unwrap();
    &rest[..value + values.byte_offset()]
}

const EVERY: [Endpoint; 10] = [
    Endpoint::ChatCompletions,
    Endpoint::Completions,
    Endpoint::Responses,
    Endpoint::Embeddings,
    Endpoint::ImageGenerations,
    Endpoint::ImageEdits,
    Endpoint::Speech,
    Endpoint::Transcriptions,
    Endpoint::Moderations,
    Endpoint::Rerank,
];
const FORM: &str = "multipart/form-data; boundary=b";

fn read(endpoint: Endpoint, body: &str) -> Result<ModelRequest, RequestFault> {
    ModelRequest::read(endpoint, Some(FORM), &Bytes::copy_from_slice(body.as_bytes()))
}

#[test]
fn every_format_says_what_can_be_billed() {
    let several = r#"{"model":"m","prompt":["a","b",[1,2]],"n":2,"best_of":5,"max_tokens":9}"#;
    let request = read(Endpoint::Completions, several).unwrap();
    assert_eq!((request.choices, request.own_cap()), (15, Some(9)));
    let request = read(Endpoint::Completions, r#"{"model":"m","prompt":[1,2,3]}"#).unwrap();
    assert_eq!((request.choices, request.output_cap, request.own_cap()), (1, None, Some(16)));
    let image = "A".repeat(9_000);
    let body = format!(
        r#"{{"model":"m","input":[{{"role":"user","content":[{{"type":"input_text","text":"a"}},
        {{"type":"input_image","image_url":"data:image/png;base64,{image}"}}]}}],"max_output_tokens":7}}"#
    );
    let request = read(Endpoint::Responses, &body).unwrap();
    assert_eq!((request.parts.images, request.output_cap), (1, Some((CapField::MaxOutputTokens, 7))));
    assert!(request.input_tokens_bound < 400, "{}", request.input_tokens_bound);
    let units = |endpoint, body: &str| *read(endpoint, body).unwrap().units.unwrap();
    let drawn =
        units(Endpoint::ImageGenerations, r#"{"model":"m","prompt":"a","n":3,"size":"auto","quality":"hd"}"#);
    assert_eq!((drawn.images, drawn.size, drawn.quality.as_deref()), (3, None, Some("hd")));
    let spoken = units(Endpoint::Speech, r#"{"model":"m","input":"\u4e16\u754c!"}"#);
    assert_eq!(spoken.characters, 3);
    let long = format!(r#"{{"model":"m","query":"q","documents":["{}","a"]}}"#, "x".repeat(60_000));
    assert_eq!(units(Endpoint::Rerank, &long).searches, 2);
}

/// H1: no conversation is kept at the upstream, whatever the request says or leaves unsaid.
#[test]
fn h1_a_response_is_never_kept() {
    for (body, sent) in [
        (r#"{"model":"m","input":"a"}"#, r#"{"store":false,"model":"m","input":"a"}"#),
        (r#"{"model":"m","store": null,"input":"a"}"#, r#"{"model":"m","store": false,"input":"a"}"#),
        (r#"{"model":"m","store":false,"input":"a"}"#, r#"{"model":"m","store":false,"input":"a"}"#),
    ] {
        let request = read(Endpoint::Responses, body).unwrap();
        assert_eq!(request.rewrite(&Bytes::from(body), &Edits::default()), sent);
    }
    assert!(read(Endpoint::Responses, r#"{"model":"m","store":true,"input":"a"}"#).is_err());
}

/// H1: what is not kept comes with the answer, where its model thinks and its caller did not say how to keep it.
#[test]
fn h1_thoughts_that_are_not_kept_are_asked_for() {
    const ADDED: &str = r#""include":["reasoning.encrypted_content"],"#;
    for (body, sent) in [
        (r#"{"model":"gpt-5-mini","input":"a"}"#, format!(r#"{{"store":false,{ADDED}"model":"gpt-5-mini","input":"a"}}"#)),
        (
            r#"{"model":"m","reasoning":{"effort":"low"},"include":["x"],"input":"a"}"#,
            r#"{"store":false,"model":"m","reasoning":{"effort":"low"},"include":["reasoning.encrypted_content","x"],"input":"a"}"#.into(),
        ),
        (
            r#"{"model":"o3","include":null,"store":null,"input":"a"}"#,
            r#"{"model":"o3","include":["reasoning.encrypted_content"],"store":false,"input":"a"}"#.into(),
        ),
        (
            r#"{"model":"o3","include":[ ],"store":null,"input":"a"}"#,
            r#"{"model":"o3","include":["reasoning.encrypted_content" ],"store":false,"input":"a"}"#.into(),
        ),
        (
            r#"{"model":"o3","include":["reasoning.encrypted_content"],"input":"a"}"#,
            r#"{"store":false,"model":"o3","include":["reasoning.encrypted_content"],"input":"a"}"#.into(),
        ),
        // Who says it itself knows what it needs, and a model that does not think refuses to tell thoughts.
        (r#"{"model":"o3","store":false,"input":"a"}"#, r#"{"model":"o3","store":false,"input":"a"}"#.into()),
        (r#"{"model":"gpt-5-chat-latest","input":"a"}"#, r#"{"store":false,"model":"gpt-5-chat-latest","input":"a"}"#.into()),
    ] {
        let request = read(Endpoint::Responses, body).unwrap();
        assert_eq!(request.rewrite(&Bytes::from(body), &Edits::default()), sent);
    }
}

/// H1: an item by its id is named, and so is a part that nothing bounds; what runs at the client is text.
#[test]
fn h1_what_a_response_has_elsewhere_has_a_place() {
    let of = |input: &str, tools: &str| {
        read(Endpoint::Responses, &format!(r#"{{"model":"m","input":[{input}],"tools":[{tools}]}}"#)).unwrap()
    };
    let message = r#"{"role":"user","content":"a"}"#;
    for kept in
        [r#"{"type":"item_reference","id":"msg_1"}"#, r#"{"id":"rs_1"}"#, r#"{"type":null,"id":"rs_1"}"#]
    {
        let (field, why) = of(&format!("{message},{kept}"), "").unbounded.unwrap();
        assert_eq!(&*field, "input[1]");
        assert!(why.contains("store: false"), "{why}");
    }
    let at = |input: &str| of(input, "").parts.unbounded_at.map(|place| place.to_string());
    assert_eq!(at(&format!(r#"{message},{{"type":"computer_call"}}"#)).as_deref(), Some("input[1]"));
    let file =
        r#"{"role":"user","content":[{"type":"input_text","text":"a"},{"type":"input_file","file_id":"f"}]}"#;
    assert_eq!(at(&format!("{message},{file}")).as_deref(), Some("input[1].content[1]"));
    let shell = r#"{"type":"local_shell_call","action":{}},{"type":"shell_call_output","output":[{"stdout":"a"}]},{"type":"apply_patch_call_output","output":"a"}"#;
    assert_eq!(at(shell), None);
    let at_client =
        r#"{"type":"local_shell"},{"type":"apply_patch"},{"type":"shell","environment":{"type":"local"}}"#;
    assert_eq!(of(message, at_client).unbounded, None);
    for tool in [
        r#"{"type":"web_search","external_web_access":false}"#,
        r#"{"type":"shell","environment":{"type":"container_auto"}}"#,
        r#"{"type":"shell"}"#,
    ] {
        let unbounded = of(message, &format!(r#"{at_client},{tool}"#)).unbounded;
        assert_eq!(&*unbounded.unwrap().0, "tools[3]");
    }
}

#[test]
fn a_model_is_renamed_in_every_format_and_nothing_else_changes() {
    let edits = Edits { upstream_model: Some("up\"stream"), ..Edits::default() };
    for (endpoint, body) in [
        (Endpoint::Completions, r#"{"prompt":"a","model":"m","x":[1, 2]}"#),
        (Endpoint::Responses, r#"{ "model" : "m", "store":false, "input":"a"}"#),
        (Endpoint::Embeddings, r#"{"input":[[1]],"model":"m"}"#),
        (Endpoint::ImageGenerations, r#"{"model":"m","prompt":"a"}"#),
        (Endpoint::Speech, r#"{"model":"m","input":"a"}"#),
        (Endpoint::Rerank, r#"{"model":"m","query":"a","documents":["a"]}"#),
    ] {
        let request = read(endpoint, body).unwrap();
        let out = request.rewrite(&Bytes::from(body), &edits);
        assert_eq!(out, body.replace("\"m\"", "\"up\\\"stream\""), "{endpoint:?}");
        assert_eq!(request.rewrite(&Bytes::from(body), &Edits::default()), body);
    }
    let unsaid = r#"{"input":"a"}"#;
    let request = read(Endpoint::Moderations, unsaid).unwrap();
    let out: Value =
        serde_json::from_slice(&request.rewrite(&Bytes::from(unsaid), &Edits::default())).unwrap();
    assert_eq!(out, json!({"model": "omni-moderation-latest", "input": "a"}));
    let form = "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nm\r\n--b\r\n\
                Content-Disposition: form-data; name=\"image\"; filename=\"m\"\r\n\r\nm\r\n--b--\r\n";
    let request = read(Endpoint::ImageEdits, form).unwrap();
    let edits = Edits { upstream_model: Some("upstream"), ..Edits::default() };
    let out = request.rewrite(&Bytes::from(form), &edits);
    assert_eq!(out, form.replacen("\r\nm\r\n", "\r\nupstream\r\n", 1));
}

proptest! {
    /// Whatever comes is a request or a fault, never more.
    #[test]
    fn no_body_panics_at_any_endpoint(
        body in prop_oneof![
            any::<Vec<u8>>(),
            "[\\[\\]{}:,\"a-z0-9\\\\ ]{0,80}".prop_map(String::into_bytes),
            r#"\{"model":"m","(input|prompt|query|documents)":[\[\]{}",a-z0-9:]{0,40}\}"#.prop_map(String::into_bytes),
            "(--b|\r\n|: |name=|\"model\"|Content-Disposition|form-data;|[a-z ]){0,40}".prop_map(String::into_bytes),
        ],
    ) {
        let body = Bytes::from(body);
        for endpoint in EVERY {
            if let Ok(request) = ModelRequest::read(endpoint, Some(FORM), &body) {
                let edits = Edits { upstream_model: Some("other"), ..Edits::default() };
                let after = ModelRequest::read(endpoint, Some(FORM), &request.rewrite(&body, &edits));
                prop_assert_eq!(after.map(|after| after.model), Ok("other".into()));
            }
        }
    }
}
