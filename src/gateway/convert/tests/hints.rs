//! Wishes that change nothing of what is asked for: they are carried where the provider knows them, else left out by name.

use super::super::Format;
use super::cases::{ASK, became, convert, refused};

const OTHERS: [Format; 2] = [Format::Anthropic, Format::Gemini];

#[test]
fn what_is_to_be_cleared_of_thoughts_is_left_out_and_what_else_is_refused() {
    let ask = |edit: &str| {
        format!(
            r#"{{{ASK},"max_tokens":9,"context_management":{{"edits":[{{"type":"{edit}","keep":"all"}}]}}}}"#
        )
    };
    for to in [Format::OpenAi, Format::DeepSeek, Format::Gemini, Format::Responses] {
        let there = convert(Format::Anthropic, to, &ask("clear_thinking_20251015")).unwrap();
        assert_eq!(there.left_out.names(), ["context_management"]);
        let fault = refused(Format::Anthropic, to, &ask("clear_tool_uses_20250919"));
        assert_eq!(fault, "context_management.edits[0].type");
    }
}

#[test]
fn efforts_beyond_high_are_high_to_others() {
    let ask =
        |effort: &str| format!(r#"{{{ASK},"max_tokens":90000,"output_config":{{"effort":"{effort}"}}}}"#);
    for effort in ["xhigh", "max", "high"] {
        let there = became(Format::Anthropic, Format::OpenAi, &ask(effort));
        assert_eq!(there["reasoning_effort"], "high");
    }
    let ask = format!(r#"{{{ASK},"reasoning_effort":"xhigh","max_completion_tokens":90000}}"#);
    assert_eq!(became(Format::OpenAi, Format::Responses, &ask)["reasoning"]["effort"], "xhigh");
    assert_eq!(became(Format::OpenAi, Format::Anthropic, &ask)["thinking"]["budget_tokens"], 24_576);
}

#[test]
fn thinking_that_is_off_stays_off_whatever_the_effort() {
    let ask = format!(
        r#"{{{ASK},"max_tokens":9,"thinking":{{"type":"disabled"}},"output_config":{{"effort":"low"}}}}"#
    );
    let there = convert(Format::Anthropic, Format::Gemini, &ask).unwrap();
    assert_eq!(there.left_out.names(), ["output_config.effort"]);
    let there = became(Format::Anthropic, Format::Gemini, &ask);
    assert_eq!(there["generationConfig"], serde_json::json!({"maxOutputTokens": 9}));
    assert!(became(Format::Anthropic, Format::OpenAi, &ask).get("reasoning_effort").is_none());
}

#[test]
fn a_longer_name_of_a_user_than_the_provider_takes_becomes_its_hash() {
    let ask = |user: &str| format!(r#"{{{ASK},"max_tokens":9,"metadata":{{"user_id":"{user}"}}}}"#);
    let long = "user_".to_owned() + &"5".repeat(114);
    for (to, field) in [(Format::OpenAi, "user"), (Format::Responses, "safety_identifier")] {
        let short = "é".repeat(64);
        assert_eq!(became(Format::Anthropic, to, &ask(&short))[field], short.as_str());
        let there = became(Format::Anthropic, to, &ask(&long));
        assert_eq!(there, became(Format::Anthropic, to, &ask(&long)));
        let hashed = there[field].as_str().unwrap();
        assert_eq!(hashed.len(), 64);
        assert!(hashed.bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert_ne!(became(Format::Anthropic, to, &ask(&format!("{long}6")))[field], hashed);
    }
    let ask = |user: &str| format!(r#"{{{ASK},"user":"{user}"}}"#);
    let there = became(Format::OpenAi, Format::Anthropic, &ask(&long));
    assert_eq!(there["metadata"]["user_id"], long.as_str());
    let there = became(Format::OpenAi, Format::Anthropic, &ask(&"5".repeat(257)));
    assert_eq!(there["metadata"]["user_id"].as_str().unwrap().len(), 64);
}

#[test]
fn what_clients_of_openai_say_beside_the_question_is_no_reason_to_refuse_it() {
    for to in OTHERS {
        let harmless = r#""verbosity":"medium","top_logprobs":0,"presence_penalty":0"#;
        let there = convert(Format::OpenAi, to, &format!("{{{ASK},{harmless}}}")).unwrap();
        assert_eq!(there.left_out.names(), &[] as &[&str]);
        let left = r#""verbosity":"low","metadata":{"k":"v"}"#;
        let there = convert(Format::OpenAi, to, &format!("{{{ASK},{left}}}")).unwrap();
        assert_eq!(there.left_out.names(), ["metadata", "verbosity"]);
        let codex =
            r#"{"input":"hi","client_metadata":{"k":"v"},"text":{"verbosity":"low"},"max_tool_calls":3}"#;
        let there = convert(Format::Responses, to, codex).unwrap();
        assert_eq!(there.left_out.names(), ["client_metadata", "max_tool_calls", "text.verbosity"]);
        assert_eq!(refused(Format::OpenAi, to, &format!(r#"{{{ASK},"top_logprobs":2}}"#)), "top_logprobs");
    }
    let low = format!(r#"{{{ASK},"verbosity":"low"}}"#);
    assert_eq!(
        became(Format::OpenAi, Format::Responses, &low)["text"],
        serde_json::json!({"verbosity": "low"})
    );
}

#[test]
fn what_models_of_anthropic_know_is_carried_from_clients_of_openai() {
    let ask = format!(r#"{{{ASK},"top_k":5}}"#);
    assert_eq!(became(Format::OpenAi, Format::Anthropic, &ask)["top_k"], 5);
    assert_eq!(became(Format::OpenAi, Format::Gemini, &ask)["generationConfig"]["topK"], 5);
    assert_eq!(refused(Format::OpenAi, Format::Responses, &ask), "top_k");
    let ask = format!(r#"{{{ASK},"max_tokens":9000,"thinking":{{"type":"enabled","budget_tokens":2000}}}}"#);
    let there = became(Format::OpenAi, Format::Anthropic, &ask);
    assert_eq!(there["thinking"], serde_json::json!({"type": "enabled", "budget_tokens": 2000}));
}
