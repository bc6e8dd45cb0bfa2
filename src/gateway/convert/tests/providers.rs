//! What a provider is known to refuse is not sent to it: it is put in the provider's own way, or refused by name.

use serde_json::json;

use super::super::Format;
use super::cases::{ASK, became, convert, refused};

#[test]
fn texts_of_nothing_are_not_sent() {
    let ask = r#"{"messages":[{"role":"system","content":" "},{"role":"user","content":[{"type":"text","text":""},
        {"type":"text","text":" \n"},{"type":"text","text":"hi"}]},{"role":"assistant","content":""},
        {"role":"user","content":[]},{"role":"user","content":"so"}]}"#;
    let there = became(Format::OpenAi, Format::Anthropic, ask);
    assert!(there.get("system").is_none());
    let said = json!([{"role": "user", "content": [{"type": "text", "text": "hi"}]}, {"role": "user", "content": "so"}]);
    assert_eq!(there["messages"], said);
    let there = became(Format::OpenAi, Format::Gemini, ask);
    let said = json!([{"role": "user", "parts": [{"text": " \n"}, {"text": "hi"}]}, {"role": "user", "parts": [{"text": "so"}]}]);
    assert_eq!(there["contents"], said);
}

#[test]
fn a_conversation_in_which_nobody_says_anything_is_refused() {
    for to in [Format::Anthropic, Format::Gemini] {
        let alone = r#"{"messages":[{"role":"system","content":"be brief"}]}"#;
        assert_eq!(refused(Format::OpenAi, to, alone), "messages");
        assert_eq!(refused(Format::OpenAi, to, r#"{"messages":[{"role":"user","content":""}]}"#), "messages");
        assert_eq!(refused(Format::Responses, to, r#"{"instructions":"be brief","input":[]}"#), "input");
    }
    assert_eq!(refused(Format::Gemini, Format::Anthropic, r#"{"contents":[{"parts":[]}]}"#), "contents");
}

#[test]
fn pictures_are_named_as_registries_do() {
    let ask = |kind: &str| {
        format!(
            r#"{{"messages":[{{"role":"user","content":[{{"type":"image_url","image_url":{{"url":"data:{kind};base64,AAAA"}}}}]}}]}}"#
        )
    };
    for kind in ["image/jpg", "image/JPEG", "image/jpeg;charset=utf-8", "image/JPG"] {
        let there = became(Format::OpenAi, Format::Anthropic, &ask(kind));
        assert_eq!(there["messages"][0]["content"][0]["source"]["media_type"], "image/jpeg", "{kind}");
        let there = became(Format::OpenAi, Format::Gemini, &ask(kind));
        assert_eq!(there["contents"][0]["parts"][0]["inlineData"]["mimeType"], "image/jpeg", "{kind}");
    }
    assert_eq!(refused(Format::OpenAi, Format::Anthropic, &ask("image/bmp")), "messages[0]");
}

#[test]
fn ids_of_calls_are_put_in_the_letters_that_anthropic_takes() {
    let ask = r#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","tool_calls":[
        {"id":"call_1|fc_2","type":"function","function":{"name":"n","arguments":"{}"}},
        {"id":"call_1:fc_2","type":"function","function":{"name":"n","arguments":"{}"}}]},
        {"role":"tool","tool_call_id":"call_1:fc_2","content":"x"},{"role":"tool","tool_call_id":"call_1|fc_2","content":"y"}]}"#;
    let there = became(Format::OpenAi, Format::Anthropic, ask);
    let (calls, results) = (&there["messages"][1]["content"], &there["messages"][2]["content"]);
    assert_eq!((&calls[0]["id"], &calls[1]["id"]), (&results[1]["tool_use_id"], &results[0]["tool_use_id"]));
    assert_ne!(calls[0]["id"], calls[1]["id"]);
    let fits = |of: char| of.is_ascii_alphanumeric() || of == '_' || of == '-';
    assert!(calls[0]["id"].as_str().unwrap().chars().all(fits));
}

#[test]
fn schemas_reach_anthropic_as_it_takes_them() {
    let shaped = |schema: &str| {
        format!(
            r#"{{{ASK},"response_format":{{"type":"json_schema","json_schema":{{"name":"n","schema":{schema}}}}}}}"#
        )
    };
    let there = became(
        Format::OpenAi,
        Format::Anthropic,
        &shaped(r#"{"type":"object","properties":{"a":{"type":"string"}}}"#),
    );
    assert_eq!(there["output_config"]["format"]["schema"]["additionalProperties"], false);
    for schema in
        [r#"{"type":"object"}"#, r#"{"type":"object","properties":{"a":{}},"additionalProperties":true}"#]
    {
        assert_eq!(refused(Format::OpenAi, Format::Anthropic, &shaped(schema)), "response_format");
    }
    let gemini = r#"{"contents":[{"parts":[{"text":"a"}]}],"generationConfig":{"responseMimeType":"application/json",
        "responseSchema":{"type":"OBJECT","properties":{"a":{"type":"ARRAY","minItems":"1","items":{"type":"STRING"}}}}}}"#;
    let there = became(Format::Gemini, Format::Anthropic, gemini);
    let schema = &there["output_config"]["format"]["schema"];
    assert_eq!(
        (&schema["additionalProperties"], &schema["properties"]["a"]["minItems"]),
        (&json!(false), &json!(1))
    );
    for parameters in ["{}", r#"{"properties":{}}"#] {
        let ask = format!(
            r#"{{{ASK},"tools":[{{"type":"function","function":{{"name":"n","parameters":{parameters}}}}}]}}"#
        );
        let there = became(Format::OpenAi, Format::Anthropic, &ask);
        assert_eq!(there["tools"][0]["input_schema"], json!({"type": "object", "properties": {}}));
    }
}

/// Where a client did not send the thoughts of its calls back, the next step of them is made without one.
#[test]
fn a_model_of_anthropic_thinks_only_where_it_may() {
    let step = |details: &str| {
        format!(
            r#"{{"messages":[{{"role":"user","content":"a"}},{{"role":"assistant",{details}"tool_calls":[{{"id":"x","type":"function",
            "function":{{"name":"n","arguments":"{{}}"}}}}]}},{{"role":"tool","tool_call_id":"x","content":"r"}}],
            "reasoning_effort":"low"}}"#
        )
    };
    let there = convert(Format::OpenAi, Format::Anthropic, &step("")).unwrap();
    assert_eq!(there.left_out.names(), ["reasoning_effort"]);
    assert!(became(Format::OpenAi, Format::Anthropic, &step("")).get("thinking").is_none());
    let kept = step(r#""reasoning_details":[{"type":"reasoning.text","text":"t","signature":"s"}],"#);
    assert_eq!(became(Format::OpenAi, Format::Anthropic, &kept)["thinking"]["budget_tokens"], 1024);
    let forced = format!(
        r#"{{{ASK},"reasoning_effort":"low","tools":[{{"type":"function","function":{{"name":"n"}}}}],"tool_choice":"required"}}"#
    );
    let there = became(Format::OpenAi, Format::Anthropic, &forced);
    assert_eq!((there.get("thinking"), &there["tool_choice"]["type"]), (None, &json!("any")));
    // What was said and done before the last question does not matter.
    let before = step("").replace(
        r#""content":"r"}]"#,
        r#""content":"r"},{"role":"assistant","content":"b"},{"role":"user","content":"c"}]"#,
    );
    assert!(became(Format::OpenAi, Format::Anthropic, &before).get("thinking").is_some());
    // Nor does a model think that is to go on with its own words.
    let own = r#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}],"reasoning_effort":"low"}"#;
    assert!(became(Format::OpenAi, Format::Anthropic, own).get("thinking").is_none());
}

#[test]
fn how_words_are_chosen_is_refused_beside_thinking_where_it_does_not_fit() {
    for (more, field) in
        [(r#""temperature":0.7"#, "temperature"), (r#""top_p":0.5"#, "top_p"), (r#""top_k":5"#, "top_k")]
    {
        let ask = format!(r#"{{{ASK},"reasoning_effort":"low",{more}}}"#);
        assert_eq!(refused(Format::OpenAi, Format::Anthropic, &ask), field);
        convert(Format::OpenAi, Format::Anthropic, &format!("{{{ASK},{more}}}")).unwrap();
    }
    let fits = format!(r#"{{{ASK},"reasoning_effort":"low","temperature":1.0,"top_p":0.95}}"#);
    assert_eq!(became(Format::OpenAi, Format::Anthropic, &fits)["thinking"]["budget_tokens"], 1024);
}

#[test]
fn marks_for_the_cache_of_anthropic_are_carried_to_it_and_left_out_elsewhere() {
    let mark = r#","cache_control":{"type":"ephemeral"}"#;
    let ask = |marks: [&str; 6]| {
        let [system, first, second, tool, result, message] = marks;
        format!(
            r#"{{"messages":[{{"role":"system","content":[{{"type":"text","text":"s"{system}}}]}},
            {{"role":"user","content":[{{"type":"text","text":"a"{first}}},{{"type":"text","text":"b"{second}}}]}},
            {{"role":"assistant","tool_calls":[{{"id":"x","type":"function","function":{{"name":"n","arguments":"{{}}"}}}}]}},
            {{"role":"tool","tool_call_id":"x","content":[{{"type":"text","text":"r"{result}}}]}},{{"role":"user","content":"c"{message}}}],
            "tools":[{{"type":"function","function":{{"name":"n"}}{tool}}}]}}"#
        )
    };
    let marked = |block: &serde_json::Value| block["cache_control"] == json!({"type": "ephemeral"});
    let there = became(Format::OpenAi, Format::Anthropic, &ask([mark, "", mark, "", mark, mark]));
    let said = &there["messages"];
    assert!(marked(&there["system"][0]) && marked(&said[0]["content"][1]) && !marked(&said[0]["content"][0]));
    assert!(marked(&said[2]["content"][0]) && marked(&said[2]["content"][1]));
    // More than it takes: the first in its order of reading go.
    let body = ask([mark; 6]);
    let there = convert(Format::OpenAi, Format::Anthropic, &body).unwrap();
    assert_eq!(there.left_out.names(), ["cache_control"]);
    let there = became(Format::OpenAi, Format::Anthropic, &body);
    assert!(
        !marked(&there["tools"][0])
            && !marked(&there["system"][0])
            && marked(&there["messages"][0]["content"][0])
    );
    assert!(marked(&became(Format::OpenAi, Format::Anthropic, &ask(["", "", "", mark, "", ""]))["tools"][0]));
    for to in [Format::Gemini, Format::Responses, Format::DeepSeek] {
        assert_eq!(convert(Format::OpenAi, to, &body).unwrap().left_out.names(), ["cache_control"]);
    }
    let hour = body.replace(r#""ephemeral"}"#, r#""ephemeral","ttl":"1h"}"#);
    assert_eq!(refused(Format::OpenAi, Format::Anthropic, &hour), "messages[0].content[0].cache_control.ttl");
}

#[test]
fn instructions_in_the_midst_reach_those_that_take_them() {
    let ask = r#"{"input":[{"role":"user","content":"a"},{"role":"assistant","content":"b"},{"role":"developer","content":"c"},
        {"role":"user","content":"d"}]}"#;
    for to in [Format::DeepSeek, Format::OpenAi] {
        let there = became(Format::Responses, to, ask);
        assert_eq!(there["messages"][2], json!({"role": "system", "content": "c"}));
    }
    // Others take them first alone: there they go, as Anthropic's own server of OpenAI's format has it.
    for to in [Format::Anthropic, Format::Gemini] {
        let there = convert(Format::Responses, to, ask).unwrap();
        assert_eq!(there.left_out.names(), ["instructions.place"]);
    }
    let there = became(Format::Responses, Format::Anthropic, ask);
    assert_eq!((&there["system"], there["messages"].as_array().unwrap().len()), (&json!("c"), 3));
    let there = became(Format::Responses, Format::Gemini, ask);
    assert_eq!(there["systemInstruction"], json!({"parts": [{"text": "c"}]}));
    let chat = r#"{"messages":[{"role":"user","content":"a"},{"role":"system","content":"c"},{"role":"user","content":"d"}]}"#;
    let there = became(Format::OpenAi, Format::Responses, chat);
    assert_eq!(there["input"][1], json!({"role": "developer", "content": "c"}));
    // What was said before and behind them is one turn, and marks for the cache stay at their parts.
    let mark = r#","cache_control":{"type":"ephemeral"}"#;
    let said = |text: &str, mark: &str| format!(r#"[{{"type":"text","text":"{text}"{mark}}}]"#);
    let marked = format!(
        r#"{{"messages":[{{"role":"system","content":"s"}},{{"role":"user","content":{}}},{{"role":"system","content":{}}},{{"role":"user","content":{}}}]}}"#,
        said("a", ""),
        said("c", mark),
        said("d", mark)
    );
    let there = became(Format::OpenAi, Format::Anthropic, &marked);
    let cached = json!({"type": "ephemeral"});
    assert_eq!(
        there["system"],
        json!([{"type": "text", "text": "s"}, {"type": "text", "text": "c", "cache_control": cached}])
    );
    let turn = json!([{"type": "text", "text": "a"}, {"type": "text", "text": "d", "cache_control": cached}]);
    assert_eq!(there["messages"], json!([{"role": "user", "content": turn}]));
}
