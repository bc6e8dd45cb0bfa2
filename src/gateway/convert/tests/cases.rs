//! What single fields become, and how those that cannot be converted are refused.

use super::super::{Format, Rewritten, Target, request};

pub(super) fn convert(from: Format, to: Format, body: &str) -> Result<Rewritten, super::super::ConvertFault> {
    let target = Target {
        format: to,
        model: "m",
        stream: false,
        output_cap: Some(4096),
        newer_cap_field: true,
        size_hint: 0,
    };
    request(from, body, &target)
}

pub(super) fn refused(from: Format, to: Format, body: &str) -> String {
    convert(from, to, body).expect_err(body).field.to_string()
}

pub(super) fn became(from: Format, to: Format, body: &str) -> serde_json::Value {
    serde_json::from_slice(&convert(from, to, body).unwrap().body).unwrap()
}

pub(super) const ASK: &str = r#""messages":[{"role":"user","content":"hi"}]"#;

#[test]
fn what_a_provider_does_not_have_is_refused_by_its_name() {
    let (openai, anthropic, gemini) = (Format::OpenAi, Format::Anthropic, Format::Gemini);
    for (to, more, field) in [
        (anthropic, r#""seed":1"#, "seed"),
        (anthropic, r#""n":2"#, "n"),
        (anthropic, r#""frequency_penalty":0.5"#, "frequency_penalty"),
        (anthropic, r#""temperature":1.5"#, "temperature"),
        (anthropic, r#""logprobs":true"#, "logprobs"),
        (anthropic, r#""logit_bias":{"5":1}"#, "logit_bias"),
        (anthropic, r#""response_format":{"type":"json_object"}"#, "response_format"),
        (anthropic, r#""web_search_options":{"a":1}"#, "web_search_options"),
        (anthropic, r#""store":true"#, "store"),
        (anthropic, r#""brand_new":"x""#, "brand_new"),
        (anthropic, r#""tools":[{"type":"custom","custom":{}}]"#, "tools[0].type"),
        (gemini, r#""logprobs":true"#, "logprobs"),
        (Format::DeepSeek, r#""seed":1"#, "seed"),
    ] {
        assert_eq!(refused(openai, to, &format!("{{{ASK},{more}}}")), field);
    }
    for (more, field) in [
        (r#""top_k":5"#, "top_k"),
        (r#""tools":[{"type":"web_search_20250305","name":"web_search"}]"#, "tools[0].type"),
        (r#""mcp_servers":[{"url":"x"}]"#, "mcp_servers"),
        (r#""container":"c""#, "container"),
    ] {
        assert_eq!(refused(anthropic, openai, &format!("{{{ASK},{more}}}")), field);
    }
    let contents = r#""contents":[{"parts":[{"text":"hi"}]}]"#;
    for (more, field) in [
        (r#""generationConfig":{"topK":5}"#, "generationConfig.topK"),
        (r#""cachedContent":"c""#, "cachedContent"),
        (r#""tools":[{"googleSearch":{"a":1}}]"#, "tools[0].googleSearch"),
        (r#""generationConfig":{"responseModalities":["AUDIO"]}"#, "generationConfig.responseModalities"),
    ] {
        assert_eq!(refused(gemini, openai, &format!("{{{contents},{more}}}")), field);
    }
}

#[test]
fn what_cannot_be_said_in_a_message_is_refused_with_its_place() {
    let (openai, anthropic, gemini) = (Format::OpenAi, Format::Anthropic, Format::Gemini);
    let sound = r#"{"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"input_audio","input_audio":{}}]}]}"#;
    assert_eq!(refused(openai, anthropic, sound), "messages[0].content[1].input_audio.format");
    let film = r#"{"messages":[{"role":"user","content":[{"type":"video_url","video_url":{"url":"u"}}]}]}"#;
    assert_eq!(refused(openai, anthropic, film), "messages[0].content[0].type");
    let pdf = r#"{"messages":[{"role":"user","content":[{"type":"document","source":{}}]}]}"#;
    assert_eq!(refused(anthropic, openai, pdf), "messages[0].content[0].type");
    let picture =
        r#"{"messages":[{"role":"user","content":[{"type":"image","source":{"type":"url","url":"u"}}]}]}"#;
    assert_eq!(refused(anthropic, Format::DeepSeek, picture), "messages[0]");
    let lost = r#"{"messages":[{"role":"tool","tool_call_id":"a","content":"x"}]}"#;
    assert_eq!(refused(openai, gemini, lost), "messages[0]");
    // Messages that become one turn keep their own places.
    let merged = r#"{"messages":[{"role":"assistant","tool_calls":[{"id":"a","type":"function","function":{"name":"n","arguments":"{}"}}]},
        {"role":"tool","tool_call_id":"a","content":"x"},{"role":"tool","tool_call_id":"b","content":"y"},{"role":"user","content":"z"}]}"#;
    assert_eq!(refused(openai, gemini, merged), "messages[2]");
    let seen = r#"{"messages":[{"role":"user","content":"a"},{"role":"user","content":[{"type":"tool_result","tool_use_id":"a",
        "content":[{"type":"text","text":"t"},{"type":"image","source":{"type":"url","url":"u"}}]}]}]}"#;
    assert_eq!(refused(anthropic, Format::DeepSeek, seen), "messages[1]");
    let twice = r#"{"messages":[],"messages":[]}"#;
    assert_eq!(refused(openai, gemini, twice), "messages");
}

/// LangChain for Node names the tool in its result as well, which its call has done.
#[test]
fn the_name_of_a_tool_in_its_result_changes_nothing() {
    let body = |named: &str| {
        let call = r#"{"id":"x","type":"function","function":{"name":"n","arguments":"{}"}}"#;
        format!(
            r#"{{"messages":[{{"role":"user","content":"a"}},{{"role":"assistant","tool_calls":[{call}]}},
            {{"role":"tool",{named}"tool_call_id":"x","content":"r"}}]}}"#
        )
    };
    for to in [Format::Anthropic, Format::Gemini, Format::Responses] {
        let there = convert(Format::OpenAi, to, &body(r#""name":"n","#)).unwrap();
        let bare = convert(Format::OpenAi, to, &body("")).unwrap();
        assert_eq!((there.body, there.left_out.names()), (bare.body, &[][..]));
    }
    assert_eq!(refused(Format::OpenAi, Format::Gemini, &body(r#""name":7,"#)), "messages[2].name");
}

#[test]
fn hints_are_left_out_and_named() {
    let body = r#"{"system":[{"type":"text","text":"s","cache_control":{"type":"ephemeral"}}],
        "messages":[{"role":"user","content":"a"},
        {"role":"assistant","content":[{"type":"thinking","thinking":"t","signature":"s"},{"type":"text","text":"b"}]},
        {"role":"user","content":"c"}]}"#;
    let there = convert(Format::Anthropic, Format::OpenAi, body).unwrap();
    assert_eq!(there.left_out.names(), ["cache_control", "reasoning"]);
    assert!(!String::from_utf8_lossy(&there.body).contains("\"t\""));
    // DeepSeek takes its thoughts back.
    let there = became(Format::Anthropic, Format::DeepSeek, body);
    assert_eq!(there["messages"][2]["reasoning_content"], "t");
}

#[test]
fn thoughts_keep_their_proof_by_way_of_openai_clients() {
    let body = r#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b","annotations":[],"audio":null,
        "reasoning_content":"t","reasoning_details":[{"type":"reasoning.text","text":"t","signature":"s"},
        {"type":"reasoning.encrypted","data":"d"}],
        "tool_calls":[{"id":"x","type":"function","function":{"name":"n","arguments":""},
        "extra_content":{"google":{"thought_signature":"g"}}}]},{"role":"tool","tool_call_id":"x","content":"{\"k\":1}"}]}"#;
    let there = became(Format::OpenAi, Format::Anthropic, body);
    assert_eq!(
        there["messages"][1]["content"],
        serde_json::json!([{"type": "thinking", "thinking": "t", "signature": "s"},
            {"type": "redacted_thinking", "data": "d"}, {"type": "text", "text": "b"},
            {"type": "tool_use", "id": "x", "name": "n", "input": {}}])
    );
    let there = became(Format::OpenAi, Format::Gemini, body);
    assert_eq!(there["contents"][1]["parts"][2]["thoughtSignature"], "g");
    assert_eq!(there["contents"][2]["parts"][0]["functionResponse"]["response"], serde_json::json!({"k": 1}));
}

#[test]
fn responses_are_understood_as_their_clients_write_them() {
    let body = r#"{"model":"m","instructions":"be brief","input":[{"type":"message","role":"developer","content":"s"},
        {"role":"user","content":[{"type":"input_text","text":"see"},{"type":"input_image","detail":"auto","image_url":"data:image/png;base64,AAAA"}]},
        {"id":"rs_1","type":"reasoning","summary":[{"type":"summary_text","text":"hm"}],"encrypted_content":"proof"},
        {"id":"msg_1","type":"message","role":"assistant","status":"completed","content":[{"type":"output_text","text":"so","annotations":[],"logprobs":[]}]},
        {"id":"fc_1","type":"function_call","status":"completed","call_id":"c1","name":"f","arguments":"{\"a\":1}"},
        {"type":"function_call_output","call_id":"c1","output":"rain"}],
        "tools":[{"type":"function","name":"f","description":null,"parameters":{"type":"object"},"strict":true}],
        "tool_choice":{"type":"function","name":"f"},"text":{"format":{"type":"json_schema","name":"n","schema":{"type":"object","properties":{"a":{}}},"strict":true}},
        "reasoning":{"effort":"low","summary":"auto"},"max_output_tokens":9000,"metadata":{"k":"v"},"store":false,
        "include":["reasoning.encrypted_content"],"stream":false}"#;
    let there = convert(Format::Responses, Format::Anthropic, body).unwrap();
    // A model that must call a tool does not think.
    assert_eq!(there.left_out.names(), ["detail", "reasoning", "strict", "reasoning.effort"]);
    let there: serde_json::Value = serde_json::from_slice(&there.body).unwrap();
    assert_eq!(there["system"][0]["text"], "be brief");
    assert_eq!(there["messages"][0]["content"][1]["source"]["data"], "AAAA");
    let said = &there["messages"][1]["content"];
    assert_eq!((&said[0]["text"], &said[1]["input"]), (&"so".into(), &serde_json::json!({"a": 1})));
    assert_eq!(there["messages"][2]["content"][0]["tool_use_id"], "c1");
    assert_eq!(there["tool_choice"]["name"], "f");
    assert_eq!((&there["max_tokens"], there.get("thinking")), (&9000.into(), None));
}

#[test]
fn what_a_response_keeps_elsewhere_is_refused_by_its_name() {
    for (more, field) in [
        (r#""previous_response_id":"resp_1""#, "previous_response_id"),
        (r#""conversation":"conv_1""#, "conversation"),
        (r#""prompt":{"id":"p"}"#, "prompt"),
        (r#""store":true"#, "store"),
        (r#""background":true"#, "background"),
        (r#""truncation":"auto""#, "truncation"),
        (r#""include":["message.output_text.logprobs"]"#, "include[0]"),
        (r#""tools":[{"type":"web_search"}]"#, "tools[0].type"),
        (r#""tool_choice":{"type":"web_search"}"#, "tool_choice.type"),
        (r#""text":{"verbosity":"mute"}"#, "text.verbosity"),
        (r#""reasoning":{"effort":"utmost"}"#, "reasoning.effort"),
        (r#""brand_new":1"#, "brand_new"),
    ] {
        for to in [Format::OpenAi, Format::Anthropic, Format::Gemini, Format::DeepSeek] {
            assert_eq!(refused(Format::Responses, to, &format!(r#"{{"input":"hi",{more}}}"#)), field);
        }
    }
    for (item, field) in [
        (r#"{"type":"item_reference","id":"msg_1"}"#, "input[0].type"),
        (r#"{"type":"web_search_call","id":"ws_1"}"#, "input[0].type"),
        (r#"{"role":"user","content":[{"type":"input_file","file_id":"f"}]}"#, "input[0].content[0].type"),
        (
            r#"{"role":"user","content":[{"type":"input_image","file_id":"f"}]}"#,
            "input[0].content[0].image_url",
        ),
    ] {
        assert_eq!(refused(Format::Responses, Format::Gemini, &format!(r#"{{"input":[{item}]}}"#)), field);
    }
    let stop = r#"{"messages":[{"role":"user","content":"hi"}],"max_tokens":9,"stop_sequences":["x"]}"#;
    assert_eq!(refused(Format::Anthropic, Format::Responses, stop), "stop_sequences");
}

#[test]
fn thinking_fits_under_the_cap_or_is_refused() {
    let ask = |cap| format!(r#"{{{ASK},"reasoning_effort":"high","max_completion_tokens":{cap}}}"#);
    let there = became(Format::OpenAi, Format::Anthropic, &ask(32_000));
    assert_eq!(there["thinking"], serde_json::json!({"type": "enabled", "budget_tokens": 24_576}));
    let there = became(Format::OpenAi, Format::Anthropic, &ask(8_000));
    assert_eq!(there["thinking"]["budget_tokens"], 4_000);
    assert_eq!(refused(Format::OpenAi, Format::Anthropic, &ask(1_000)), "reasoning_effort");
}

#[test]
fn gemini_requests_are_understood_as_their_clients_write_them() {
    let body = r#"{"system_instruction":{"parts":[{"text":"s"}]},"contents":[{"parts":[{"text":"hi"},
        {"inline_data":{"mime_type":"image/png","data":"AAAA"}}]},
        {"role":"model","parts":[{"functionCall":{"name":"f","args":{"a":1}}},{"functionCall":{"name":"f","args":{"a":2}}}]},
        {"role":"user","parts":[{"functionResponse":{"name":"f","response":{"output":"one"}}},
        {"functionResponse":{"name":"f","response":{"error":"two"}}}]}],
        "tools":[{"functionDeclarations":[{"name":"f","parameters":{"type":"OBJECT","properties":{"a":{"type":"INTEGER"}}}}]}],
        "generationConfig":{"maxOutputTokens":50,"responseMimeType":"application/json","responseSchema":{"type":"STRING"},
        "thinkingConfig":{"thinkingBudget":-1,"includeThoughts":true}}}"#;
    let there = convert(Format::Gemini, Format::OpenAi, body).unwrap();
    assert_eq!(there.left_out.names(), ["is_error"]);
    let there: serde_json::Value = serde_json::from_slice(&there.body).unwrap();
    assert_eq!(there["messages"][0], serde_json::json!({"role": "system", "content": "s"}));
    assert_eq!(there["messages"][1]["content"][1]["image_url"]["url"], "data:image/png;base64,AAAA");
    let calls = &there["messages"][2]["tool_calls"];
    assert_eq!((&calls[0]["id"], &calls[1]["id"]), (&"call_1".into(), &"call_2".into()));
    assert_eq!(calls[1]["function"]["arguments"], r#"{"a":2}"#);
    assert_eq!(there["messages"][3]["tool_call_id"], "call_1");
    assert_eq!(
        there["messages"][4],
        serde_json::json!({"role": "tool", "tool_call_id": "call_2", "content": "two"})
    );
    assert_eq!(there["tools"][0]["function"]["parameters"]["properties"]["a"]["type"], "integer");
    assert_eq!(there["response_format"]["json_schema"]["schema"]["type"], "string");
    assert_eq!(there["max_completion_tokens"], 50);
}
