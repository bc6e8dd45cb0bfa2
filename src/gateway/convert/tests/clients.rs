//! What clients that people use send with every request, or after an answer of their tools: none of it is a reason to refuse
//! what the provider can do, by the same words or by others.

use serde_json::json;

use super::super::{Format, StreamConverter, answer, stream::Converted};
use super::cases::{ASK, became, convert, refused};
use super::envelope;

const SHOWN: &str = r#"{"max_tokens":9,"messages":[{"role":"user","content":"look"},
    {"role":"assistant","content":[{"type":"tool_use","id":"a","name":"n","input":{}},{"type":"tool_use","id":"b","name":"n","input":{}}]},
    {"role":"user","content":[
    {"type":"tool_result","tool_use_id":"a","content":[{"type":"text","text":"one"},{"type":"image","source":{"type":"base64","media_type":"image/png","data":"AAAA"}}]},
    {"type":"tool_result","tool_use_id":"b","content":[{"type":"image","source":{"type":"url","url":"https://a.example/b.png"}}]},
    {"type":"text","text":"so?"}]}]}"#;

/// H1: Claude Code reads a picture by a tool, and goes on with whatever model.
#[test]
fn h1_a_picture_that_a_tool_gave_back_reaches_every_model_that_sees() {
    let there = became(Format::Anthropic, Format::OpenAi, SHOWN);
    let note = "[its pictures are in the next message]";
    assert_eq!(
        there["messages"].as_array().unwrap()[2..],
        [
            json!({"role": "tool", "tool_call_id": "a",
                "content": [{"type": "text", "text": "one"}, {"type": "text", "text": note}]}),
            json!({"role": "tool", "tool_call_id": "b", "content": note}),
            json!({"role": "user", "content": [
                {"type": "text", "text": "[pictures in the result of a]"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                {"type": "text", "text": "[pictures in the result of b]"},
                {"type": "image_url", "image_url": {"url": "https://a.example/b.png"}},
                {"type": "text", "text": "so?"}]}),
        ]
    );
    let there = became(Format::Anthropic, Format::Gemini, SHOWN);
    let result = |id: &str, said: &str| json!({"functionResponse": {"id": id, "name": "n", "response": {"output": said}}});
    let picture = json!({"inlineData": {"mimeType": "image/png", "data": "AAAA"}});
    let by_address = json!({"fileData": {"mimeType": "image/png", "fileUri": "https://a.example/b.png"}});
    assert_eq!(
        there["contents"][2]["parts"],
        json!([result("a", "one"), picture, result("b", ""), by_address, {"text": "so?"}])
    );
    let there = became(Format::Anthropic, Format::Responses, SHOWN);
    assert_eq!(there["input"][3]["output"][1]["image_url"], "data:image/png;base64,AAAA");
    // DeepSeek sees nothing.
    assert_eq!(refused(Format::Anthropic, Format::DeepSeek, SHOWN), "messages[2]");
}

/// H1: so does what Gemini's own clients send of a function's pictures, within its response or behind it.
#[test]
fn h1_a_picture_of_geminis_functions_reaches_the_others() {
    let ask = |response: &str| {
        format!(
            r#"{{"contents":[{{"role":"user","parts":[{{"text":"look"}}]}},
            {{"role":"model","parts":[{{"functionCall":{{"id":"a","name":"n","args":{{}}}}}}]}},
            {{"role":"user","parts":[{{"functionResponse":{{"id":"a","name":"n","response":{{"output":"one"}}{response}}}]}}]}}"#
        )
    };
    let within = ask(r#","parts":[{"inlineData":{"mimeType":"image/png","data":"AAAA"}}]}"#);
    let there = became(Format::Gemini, Format::Anthropic, &within);
    let image =
        json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}});
    let result = &there["messages"][2]["content"][0];
    assert_eq!(result["content"], json!([{"type": "text", "text": "one"}, image]));
    let behind = ask(r#"}},{"inlineData":{"mimeType":"image/png","data":"AAAA"}"#);
    let there = became(Format::Gemini, Format::Anthropic, &behind);
    assert_eq!(there["messages"][2]["content"][1], image);
    let sound = ask(r#","parts":[{"inlineData":{"mimeType":"audio/wav","data":"AAAA"}}]}"#);
    let field = "contents[2].parts[0].functionResponse.parts[0].inlineData.mimeType";
    assert_eq!(refused(Format::Gemini, Format::Anthropic, &sound), field);
}

/// H1: a result that says nothing is one, in words that OpenAI takes.
#[test]
fn h1_an_empty_result_is_an_empty_text() {
    let ask = r#"{"max_tokens":9,"messages":[{"role":"user","content":"a"},
        {"role":"assistant","content":[{"type":"tool_use","id":"a","name":"n","input":{}}]},
        {"role":"user","content":[{"type":"tool_result","tool_use_id":"a","content":""}]}]}"#;
    for to in [Format::OpenAi, Format::DeepSeek] {
        assert_eq!(became(Format::Anthropic, to, ask)["messages"][2]["content"], "");
    }
    assert_eq!(became(Format::Anthropic, Format::Responses, ask)["input"][2]["output"], "");
    let empty = r#"{"max_tokens":9,"messages":[{"role":"user","content":""}]}"#;
    assert_eq!(became(Format::Anthropic, Format::OpenAi, empty)["messages"][0]["content"], "");
}

const TWO_CALLS: &str = r#"{"responseId":"g","candidates":[{"index":0,"content":{"role":"model","parts":[
    {"functionCall":{"name":"f","args":{"n":1}}},{"functionCall":{"name":"f","args":{"n":2}}}]},"finishReason":"STOP"}]}"#;

/// H1: Codex and others ask for one call at a time with every request. Gemini cannot be told so, but its first call can be
/// told alone.
#[test]
fn h1_one_call_at_a_time_of_gemini_is_the_first() {
    use super::super::{LeftOut, read, wants_one_call};
    let tools = r#""tools":[{"type":"function","function":{"name":"f"}}]"#;
    let wants = |more: &str, to| {
        let body = format!("{{{ASK}{more}}}");
        let wish =
            read(Format::OpenAi, &body, &mut LeftOut::default()).map(|asked| wants_one_call(&asked, to));
        convert(Format::OpenAi, to, &body).unwrap();
        wish.unwrap()
    };
    let one = format!(r#",{tools},"parallel_tool_calls":false"#);
    assert!(wants(&one, Format::Gemini));
    // Others are told.
    assert!(!wants(&one, Format::Anthropic));
    for no_wish in [format!(",{tools}"), r#","parallel_tool_calls":false"#.to_owned()] {
        assert!(!wants(&no_wish, Format::Gemini));
    }
    for to in [Format::OpenAi, Format::Anthropic, Format::Responses] {
        for (one_call, calls) in [(false, 2), (true, 1)] {
            let wrapped = || super::super::Envelope { one_call, ..envelope() };
            let whole = answer(Format::Gemini, to, TWO_CALLS.as_bytes(), &wrapped()).unwrap();
            let mut converter = StreamConverter::new(Format::Gemini, to, wrapped());
            let mut out = Converted::default();
            converter.push(TWO_CALLS.replace('\n', "").as_bytes(), &mut out).unwrap();
            converter.finish(None, &mut out).unwrap();
            let streamed = String::from_utf8([out.now, out.last].concat()).unwrap();
            let whole = String::from_utf8(whole.to_vec()).unwrap();
            for told in [&whole, &streamed] {
                assert_eq!(
                    told.contains(r#""n":2"#) || told.contains(r#"\"n\":2"#),
                    calls == 2,
                    "{to:?} {told}"
                );
                assert!(told.contains(r#""n":1"#) || told.contains(r#"\"n\":1"#), "{to:?} {told}");
                assert!(["tool_calls", "tool_use", "function_call"].iter().any(|word| told.contains(word)));
            }
        }
    }
}

/// H1: Anthropic's newer models take a temperature or a `top_p`; chats send both with every request.
#[test]
fn h1_of_two_settings_the_one_that_says_nothing_is_not_sent_to_anthropic() {
    for (asked, temperature, top_p) in [
        (r#""temperature":0.5,"top_p":1"#, json!(0.5), json!(null)),
        (r#""temperature":1,"top_p":1.0"#, json!(1), json!(null)),
        (r#""temperature":1.0,"top_p":0.9"#, json!(null), json!(0.9)),
        (r#""top_p":1"#, json!(null), json!(1)),
        (r#""temperature":0"#, json!(0), json!(null)),
        // Which of the two is meant nobody can know.
        (r#""temperature":0.5,"top_p":0.9"#, json!(0.5), json!(0.9)),
    ] {
        let there = became(Format::OpenAi, Format::Anthropic, &format!("{{{ASK},{asked}}}"));
        assert_eq!((&there["temperature"], &there["top_p"]), (&temperature, &top_p), "{asked}");
    }
}

/// H1: what Gemini CLI and other clients of Gemini's tell every model.
#[test]
fn h1_what_clients_of_gemini_always_say_is_no_reason_to_refuse() {
    let contents = r#""contents":[{"role":"user","parts":[{"text":"hi"}]}]"#;
    let cli = format!(
        r#"{{{contents},"generationConfig":{{"temperature":1,"topP":0.95,"topK":64,"maxOutputTokens":9000,
        "thinkingConfig":{{"includeThoughts":true,"thinkingBudget":-1}}}}}}"#
    );
    for to in [Format::OpenAi, Format::DeepSeek, Format::Anthropic, Format::Responses] {
        let there = convert(Format::Gemini, to, &cli).unwrap();
        assert_eq!(there.left_out.names(), ["generationConfig.topK", "generationConfig.topP"]);
        let there: serde_json::Value = serde_json::from_slice(&there.body).unwrap();
        assert_eq!((there.get("top_p"), there.get("top_k")), (None, None), "{to:?}");
    }
    let own = cli.replace("64", "5");
    assert_eq!(refused(Format::Gemini, Format::OpenAi, &own), "generationConfig.topK");
    let safe = |threshold: &str| {
        format!(r#"{{{contents},"safetySettings":[{{"category":"c","threshold":"{threshold}"}}]}}"#)
    };
    for to in [Format::OpenAi, Format::Anthropic] {
        for nothing in ["BLOCK_NONE", "OFF"] {
            let there = convert(Format::Gemini, to, &safe(nothing)).unwrap();
            assert_eq!(there.left_out.names(), ["safetySettings"]);
        }
        let field = "safetySettings[0].threshold";
        assert_eq!(refused(Format::Gemini, to, &safe("BLOCK_LOW_AND_ABOVE")), field);
    }
    // LangChain names every function, where any is to be called.
    let any = |names: &str| {
        format!(
            r#"{{{contents},"tools":[{{"functionDeclarations":[{{"name":"a"}},{{"name":"b"}}]}}],
            "toolConfig":{{"functionCallingConfig":{{"mode":"ANY","allowedFunctionNames":[{names}]}}}}}}"#
        )
    };
    assert_eq!(became(Format::Gemini, Format::OpenAi, &any(r#""b","a""#))["tool_choice"], "required");
    let field = "toolConfig.functionCallingConfig.allowedFunctionNames";
    assert_eq!(refused(Format::Gemini, Format::OpenAi, &any(r#""b","c""#)), field);
}

/// H1: frameworks of agents name who speaks, and libraries send answers back as they kept them.
#[test]
fn h1_names_and_notes_of_a_message_are_left_out_by_name() {
    let body = r#"{"messages":[{"role":"system","content":"s","name":"boss"},{"role":"user","content":"a","name":"ann"},
        {"role":"assistant","content":"b","name":"bot","annotations":[{"type":"url_citation"}],"thinking_blocks":[{"type":"thinking"}],
        "provider_specific_fields":{"refusal":null},"tool_calls":[{"id":"x","type":"function","provider_specific_fields":{"a":1},
        "function":{"name":"n","arguments":"{}"}}]},{"role":"tool","tool_call_id":"x","name":"n","content":"r"}]}"#;
    for to in [Format::Anthropic, Format::Gemini, Format::Responses] {
        let there = convert(Format::OpenAi, to, body).unwrap();
        let left = ["name", "annotations", "provider_specific_fields", "thinking_blocks"];
        assert_eq!(there.left_out.names(), left);
    }
    let odd = r#"{"messages":[{"role":"user","content":"a","name":7}]}"#;
    assert_eq!(refused(Format::OpenAi, Format::Gemini, odd), "messages[0].name");
}

/// H1: how much is to be thought, in the words that other servers of OpenAI's format have for it.
#[test]
fn h1_thinking_is_asked_for_in_many_words() {
    let budget = |asked: &str| {
        let there = became(Format::OpenAi, Format::Gemini, &format!("{{{ASK},{asked}}}"));
        there["generationConfig"]["thinkingConfig"]["thinkingBudget"].clone()
    };
    for (asked, expected) in [
        (r#""reasoning":{"effort":"medium","exclude":false}"#, json!(8_192)),
        (r#""reasoning":{"max_tokens":2000}"#, json!(2_000)),
        (r#""reasoning":{"enabled":true}"#, json!(-1)),
        (r#""reasoning":{"enabled":false}"#, json!(0)),
        (r#""include_reasoning":true,"usage":{"include":true}"#, json!(null)),
        (
            r#""extra_body":{"google":{"thinking_config":{"thinking_budget":100,"include_thoughts":true}}}"#,
            json!(100),
        ),
        (r#""extra_body":{"google":{"thinkingConfig":{"thinkingLevel":"low"}}}"#, json!(1_024)),
        // What OpenAI's own field says comes first.
        (r#""reasoning_effort":"low","reasoning":{"effort":"high"}"#, json!(1_024)),
    ] {
        assert_eq!(budget(asked), expected, "{asked}");
    }
    for (asked, field) in [
        (r#""reasoning":{"effort":"much"}"#, "reasoning.effort"),
        (r#""reasoning":{"mode":"x"}"#, "reasoning.mode"),
        (r#""extra_body":{"google":{"cached_content":"x"}}"#, "extra_body.google.cached_content"),
        (r#""extra_body":{"other":1}"#, "extra_body.other"),
    ] {
        assert_eq!(refused(Format::OpenAi, Format::Gemini, &format!("{{{ASK},{asked}}}")), field);
    }
}

/// H1: a recording reaches the models that hear, by way of every client that can send one.
#[test]
fn h1_a_recording_reaches_the_models_that_hear() {
    let said = json!({"mimeType": "audio/wav", "data": "UklGRg=="});
    let chat = r#"{"messages":[{"role":"user","content":[{"type":"text","text":"what?"},
        {"type":"input_audio","input_audio":{"data":"UklGRg==","format":"wav"}}]}]}"#;
    let there = became(Format::OpenAi, Format::Gemini, chat);
    assert_eq!(there["contents"][0]["parts"][1], json!({"inlineData": said}));
    let response = r#"{"input":[{"role":"user","content":[{"type":"input_audio","input_audio":{"data":"UklGRg==","format":"wav"}}]}]}"#;
    let there = became(Format::Responses, Format::Gemini, response);
    assert_eq!(there["contents"][0]["parts"][0], json!({"inlineData": said}));
    let gemini = |kind: &str| {
        format!(
            r#"{{"contents":[{{"role":"user","parts":[{{"inlineData":{{"mimeType":"{kind}","data":"UklGRg=="}}}}]}}]}}"#
        )
    };
    for (kind, format) in [("audio/x-wav", "wav"), ("audio/mpeg", "mp3")] {
        let there = became(Format::Gemini, Format::OpenAi, &gemini(kind));
        let sound = json!({"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": format}});
        assert_eq!(there["messages"][0]["content"], json!([sound]));
    }
    assert_eq!(refused(Format::Gemini, Format::OpenAi, &gemini("audio/ogg")), "contents[0]");
    for to in [Format::Anthropic, Format::DeepSeek, Format::Responses] {
        assert_eq!(refused(Format::Gemini, to, &gemini("audio/wav")), "contents[0]");
    }
    assert_eq!(refused(Format::OpenAi, Format::Anthropic, chat), "messages[0]");
    // Of nobody but the user.
    for role in ["assistant", "system"] {
        let other = chat.replace(r#""role":"user""#, &format!(r#""role":"{role}""#));
        assert_eq!(refused(Format::OpenAi, Format::Gemini, &other), "messages[0].content");
    }
}

/// H1: a picture that Gemini painted goes on with the conversation to whatever model sees it.
#[test]
fn h1_a_picture_of_an_answer_is_shown_to_the_next_model() {
    let painted = r#"{"contents":[{"role":"user","parts":[{"text":"paint"}]},
        {"role":"model","parts":[{"text":"so:"},{"inlineData":{"mimeType":"image/png","data":"AAAA"}}]},
        {"role":"user","parts":[{"text":"bluer"}]}]}"#;
    let (here, title) = ("[the picture is in the next message]", "[pictures of the answer before]");
    let text = |said: &str| json!({"type": "text", "text": said});
    let there = became(Format::Gemini, Format::OpenAi, painted);
    let image = json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}});
    assert_eq!(there["messages"][1]["content"], json!([text("so:"), text(here)]));
    assert_eq!(there["messages"][2]["content"], json!([text(title), image, text("bluer")]));
    let there = became(Format::Gemini, Format::Anthropic, painted);
    let image =
        json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}});
    assert_eq!(there["messages"][1]["content"], json!([text("so:"), text(here)]));
    assert_eq!(there["messages"][2]["content"], json!([text(title), image, text("bluer")]));
    let there = became(Format::Gemini, Format::Responses, painted);
    assert_eq!(there["input"][2]["content"][1]["type"], "input_image");
    assert_eq!(refused(Format::Gemini, Format::DeepSeek, painted), "contents[2]");
    // Results of tools stay the first, and marks for the cache where they were.
    let chat = r#"{"messages":[{"role":"user","content":"paint"},{"role":"assistant","content":[{"type":"image_url","image_url":{"url":"https://a.example/p"}}],
        "tool_calls":[{"id":"x","type":"function","function":{"name":"n","arguments":"{}"}}]},{"role":"tool","tool_call_id":"x","content":"r"},
        {"role":"user","content":[{"type":"text","text":"so","cache_control":{"type":"ephemeral"}}]}]}"#;
    let said = became(Format::OpenAi, Format::Anthropic, chat)["messages"][2]["content"].clone();
    let kinds: Vec<_> =
        said.as_array().unwrap().iter().map(|block| block["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["tool_result", "text", "image", "text"]);
    assert_eq!(said[3]["cache_control"], json!({"type": "ephemeral"}));
    // Gemini takes its own back as they are.
    let own = r#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}]},{"role":"user","content":"b"}]}"#;
    assert!(
        became(Format::OpenAi, Format::Gemini, own)["contents"][1]["parts"][0].get("inlineData").is_some()
    );
}

/// H1: OpenAI's frameworks make every tool strict; Anthropic holds its models to few schemas, of few kinds.
#[test]
fn h1_tools_are_strict_where_the_provider_can_be_so() {
    let ask = |schema: &str, count: usize| {
        let tool =
            format!(r#"{{"type":"function","function":{{"name":"n","strict":true,"parameters":{schema}}}}}"#);
        let tools = vec![tool; count].join(",");
        convert(Format::OpenAi, Format::Anthropic, &format!("{{{ASK},\"tools\":[{tools}]}}")).unwrap()
    };
    let closed = r#"{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"],"additionalProperties":false}"#;
    let strict = |rewritten: &super::super::Rewritten| {
        let body: serde_json::Value = serde_json::from_slice(&rewritten.body).unwrap();
        (body["tools"][0]["strict"].clone(), rewritten.left_out.names().to_vec())
    };
    assert_eq!(strict(&ask(closed, 20)), (json!(true), vec![]));
    assert_eq!(strict(&ask(closed, 21)), (json!(null), vec!["strict"]));
    let bound = closed.replace(r#""integer""#, r#""integer","minimum":1"#);
    assert_eq!(strict(&ask(&bound, 1)), (json!(null), vec!["strict"]));
    let open = r#"{"type":"object","properties":{"a":{"type":"integer"}}}"#;
    assert_eq!(strict(&ask(open, 1)), (json!(null), vec!["strict"]));
}

/// H1: what Anthropic's newer clients say of tools and settings as they are anyway, instructions in the midst, and stops that
/// Anthropic does not know.
#[test]
fn h1_what_is_so_anyway_may_be_said() {
    let ask = r#"{"max_tokens":9,"inference_geo":"global","speed":"standard","messages":[{"role":"user","content":"a"},
        {"role":"system","content":"now brief"},{"role":"user","content":"b"}],
        "tools":[{"name":"n","input_schema":{"type":"object"},"defer_loading":false,"allowed_callers":["direct"],"input_examples":[{}]}]}"#;
    let there = convert(Format::Anthropic, Format::OpenAi, ask).unwrap();
    assert_eq!(there.left_out.names(), ["input_examples"]);
    let there = became(Format::Anthropic, Format::OpenAi, ask);
    assert_eq!(there["messages"][1], json!({"role": "system", "content": "now brief"}));
    for (of, instead, field) in [
        (r#""defer_loading":false"#, r#""defer_loading":true"#, "tools[0].defer_loading"),
        (r#"["direct"]"#, r#"["code_execution_20250825"]"#, "tools[0].allowed_callers"),
    ] {
        assert_eq!(refused(Format::Anthropic, Format::OpenAi, &ask.replace(of, instead)), field);
    }
    let stop = |stop: &str| format!(r#"{{{ASK},"stop":{stop}}}"#);
    assert_eq!(
        became(Format::OpenAi, Format::Anthropic, &stop(r#"["\nx"]"#))["stop_sequences"],
        json!(["\nx"])
    );
    assert_eq!(refused(Format::OpenAi, Format::Anthropic, &stop(r#""\n\n""#)), "stop");
}
