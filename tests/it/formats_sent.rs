//! What is sent to a provider, and what is bounded before it is held: whatever an upstream can bill beyond the hold is
//! refused by its name and place, and nothing is charged.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc;

use serde_json::{Value, json};

use crate::support::demo::{Demo, nano};
use crate::support::http::Ask;
use crate::support::scripted::answering;

const KEY: &str = "healthy";

/// A call in the format of a path, with these members beside what it must have.
fn ask(demo: &Demo, path: &str, more: Value) -> Ask {
    let mut body = match path {
        "/v1/messages" => json!({"model": "claude-sonnet-4-5", "max_tokens": 50,
            "messages": [{"role": "user", "content": "hi"}]}),
        "/v1/responses" => json!({"model": "gpt-5-mini", "input": "hi"}),
        "/v1/chat/completions" => {
            json!({"model": "gpt-5-mini", "messages": [{"role": "user", "content": "hi"}]})
        }
        _ => json!({"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}),
    };
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Ask::post(path, &body).bearer(&demo.key(KEY))
}

const GEMINI: &str = "/v1beta/models/gemini-2.5-flash:generateContent";

/// The call is refused for this field, and nothing is charged.
#[track_caller]
fn refused(demo: &Demo, path: &str, more: Value, field: &str) -> Value {
    let reply = demo.ask(&ask(demo, path, more));
    assert_eq!(reply.head.status, 400, "{}", reply.text());
    let error = reply.json()["error"].clone();
    let (code, param) = match path {
        GEMINI => (&error["details"][0]["reason"], &error["details"][0]["param"]),
        _ => (&error["code"], &error["param"]),
    };
    assert_eq!((code, param), (&json!("invalid_parameter"), &json!(field)), "{error:#}");
    assert_eq!(demo.row(reply.head.request_id())["charge"], "0");
    error
}

/// H1, money: a film is billed by its seconds, wherever it stands and whatever it is said to be; no hold of a picture
/// covers it.
#[test]
fn h1_a_film_is_never_held_as_a_picture() {
    let demo = Demo::start();
    let film = "https://www.youtube.com/watch?v=x";
    let bare = json!({"contents": [{"parts": [{"fileData": {"fileUri": film}}]}]});
    refused(&demo, GEMINI, bare, "contents[0].parts[0]");
    let image = json!({"type": "image_url", "image_url": {"url": film}});
    let asked = json!({"model": "gemini-2.5-flash", "messages": [{"role": "user", "content": [image]}]});
    refused(&demo, "/v1/chat/completions", asked, "messages[0].content[0]");
    let image = json!({"type": "image", "source": {"type": "url", "url": film}});
    let asked = json!({"model": "gemini-2.5-flash", "messages": [{"role": "user", "content": [image]}]});
    refused(&demo, "/v1/messages", asked, "messages[0].content[0]");
    let image = json!({"type": "input_image", "image_url": film});
    let asked = json!({"model": "gemini-2.5-flash", "input": [{"role": "user", "content": [image]}]});
    refused(&demo, "/v1/responses", asked, "input[0].content[0]");
    demo.nothing_stays_held();
}

/// H1, money: what goes to Gemini as a picture by its address says that it is one.
#[test]
fn h1_a_picture_by_its_address_is_said_to_be_one() {
    let demo = Demo::start();
    let content = json!({"role": "model", "parts": [{"text": "hi"}]});
    let (address, requests) =
        upstream(&json!({"candidates": [{"content": content, "finishReason": "STOP", "index": 0}],
        "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 1, "totalTokenCount": 10}}));
    channel(&demo, "gemini", "gemini-2.5-flash", address);
    for (url, expected) in [
        ("https://a.example/p.PNG?size=1", "image/png"),
        ("https://a.example/watch", "image/jpeg"),
        ("https://a.example/p.mp4", "image/jpeg"),
    ] {
        let image = json!({"type": "image_url", "image_url": {"url": url}});
        let asked = json!({"model": "gemini-2.5-flash", "messages": [{"role": "user", "content": [image]}]});
        demo.ask(&ask(&demo, "/v1/chat/completions", asked)).ok();
        let data = requests.recv().unwrap().1["contents"][0]["parts"][0]["fileData"].clone();
        assert_eq!((&data["mimeType"], &data["fileUri"]), (&json!(expected), &json!(url)));
    }
    demo.nothing_stays_held();
}

/// H1, money: what has another price at Anthropic, or is billed beside the answer, is refused by its name; its words for
/// the usual pass.
#[test]
fn h1_other_prices_of_anthropic_are_refused_by_name() {
    let demo = Demo::start();
    let path = "/v1/messages";
    refused(&demo, path, json!({"inference_geo": "us"}), "inference_geo");
    refused(&demo, path, json!({"speed": "fast"}), "speed");
    let compact = json!({"context_management": {"edits": [{"type": "compact_20260112"}]}});
    refused(&demo, path, compact, "context_management.edits[0].type");
    let usual = json!({"inference_geo": "global", "speed": "standard",
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}});
    demo.ask(&ask(&demo, path, usual)).ok();
    refused(&demo, GEMINI, json!({"serviceTier": "priority"}), "serviceTier");
    demo.nothing_stays_held();
}

/// The log's tokens and its charge are the upstream's bill.
#[track_caller]
fn billed(demo: &Demo, id: &str) -> Value {
    let (row, billed) = (demo.row(id), demo.billed(id));
    assert_eq!(row["charge_state"], "settled", "{row:#}");
    assert_eq!(json!(nano(&row["charge"])), billed["cost_nano"], "{row:#} {billed:#}");
    assert!(nano(&row["charge"]) <= nano(&demo.receipt(id)["hold"]["amount"]), "{row:#}");
    row
}

/// H1, money: DeepSeek passes over `max_completion_tokens`. It is told the cap by the name that it knows, so that the
/// answer is no longer than what is held for it.
#[test]
fn h1_h4_a_cap_counts_whatever_its_caller_named_it() {
    let demo = Demo::start();
    let key = demo.key(KEY);
    for stream in [false, true] {
        let more = json!({"max_completion_tokens": 20, "stream": stream});
        let reply = demo.ask(&Ask::chat_with(&key, "deepseek-chat", "#tokens=900", more));
        assert_eq!(reply.head.status, 200, "{}", reply.text());
        let row = billed(&demo, reply.head.request_id());
        assert_eq!(row["tokens"]["output"], 20, "{row:#}");
    }
    demo.nothing_stays_held();
}

/// H1, H4: a cap above what the model can give is lowered to that, in every format, and the answer says so.
#[test]
fn h1_h4_a_cap_above_the_models_is_lowered_and_told() {
    let demo = Demo::start();
    let key = demo.key(KEY);
    let user = json!([{"role": "user", "content": "hi"}]);
    for (path, mut body) in [
        ("/v1/chat/completions", json!({"max_tokens": 32_000, "messages": user})),
        ("/v1/chat/completions", json!({"max_completion_tokens": 32_000, "messages": user})),
        ("/v1/messages", json!({"max_tokens": 32_000, "messages": user})),
        ("/v1/responses", json!({"max_output_tokens": 32_000, "input": "hi"})),
        (
            "/v1beta/models/deepseek-chat:generateContent",
            json!({"generationConfig": {"maxOutputTokens": 32_000}, "contents": [{"parts": [{"text": "hi"}]}]}),
        ),
    ] {
        if !path.contains("models") {
            body["model"] = json!("deepseek-chat");
        }
        let reply = demo.ask(&Ask::post(path, &body).bearer(&key));
        assert_eq!(reply.head.status, 200, "{path}: {}", reply.text());
        assert_eq!(reply.head.header("x-tallygate-max-tokens"), Some("8192"), "{path}");
        let row = billed(&demo, reply.head.request_id());
        let receipt = demo.receipt(reply.head.request_id());
        let hold = &receipt["hold"];
        assert_eq!(
            (&hold["output_cap"], &hold["output_cap_reason"]),
            (&json!(8192), &json!("lowered")),
            "{row:#}"
        );
    }
    let reply = demo.ask(&Ask::chat_with(&key, "deepseek-chat", "hi", json!({"max_tokens": 8192})));
    assert_eq!(reply.head.header("x-tallygate-max-tokens"), None);
    demo.nothing_stays_held();
}

/// An upstream that gives every call this answer. Its address, and what it was sent: head and body.
fn upstream(answer: &Value) -> (SocketAddr, mpsc::Receiver<(String, Value)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, (seen, requests)) = (listener.local_addr().unwrap(), mpsc::channel());
    let body = answer.to_string();
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n";
    let answer = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let (mut read, mut piece) = (Vec::new(), [0; 4096]);
            let request = loop {
                let got = stream.read(&mut piece).unwrap_or(0);
                read.extend_from_slice(&piece[..got]);
                let text = String::from_utf8_lossy(&read);
                if let Some((head, body)) = text.split_once("\r\n\r\n")
                    && let Ok(body) = serde_json::from_str(body)
                {
                    break Some((head.to_ascii_lowercase(), body));
                }
                if got == 0 {
                    break None;
                }
            };
            // A caller that goes away early is the test's to notice.
            let _written = stream.write_all(answer.as_bytes());
            if let Some(request) = request {
                let _heard = seen.send(request);
            }
        }
    });
    (address, requests)
}

/// A channel that is tried first.
fn channel(demo: &Demo, provider: &str, model: &str, address: SocketAddr) {
    let body = json!({"name": "the scripted one", "provider": provider, "base_url": format!("http://{address}/v1"),
        "credential": "sk-of-the-scripted-upstream", "models": {model: model}, "priority": 20, "cost_share": "1"});
    demo.admin_post("/api/channels", &body);
}

/// The value of a header of a head; empty if there is none.
fn header<'h>(head: &'h str, name: &str) -> &'h str {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap_or("")
}

/// H1: the experiments that a client of Anthropic's takes part in reach Anthropic, but for those with a price of their
/// own, which are named; nothing else of what it sends beside its body does.
#[test]
fn h1_experiments_reach_their_provider_and_nothing_else_of_the_callers_head_does() {
    let demo = Demo::start();
    let (address, requests) = upstream(&json!({"id": "msg_1", "type": "message", "role": "assistant",
        "model": "claude-sonnet-4-5", "content": [{"type": "text", "text": "hi"}], "stop_reason": "end_turn",
        "stop_sequence": null, "usage": {"input_tokens": 9, "output_tokens": 1}}));
    channel(&demo, "anthropic", "claude-sonnet-4-5", address);
    let edits =
        json!({"context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}});
    let asked = ask(&demo, "/v1/messages", edits)
        .header("anthropic-beta", "context-management-2025-06-27,context-1m-2025-08-07")
        .header("anthropic-beta", "interleaved-thinking-2025-05-14")
        .header("anthropic-version", "2024-01-01")
        .header("x-app", "of-the-caller")
        .header("cookie", "a=of-the-caller");
    let reply = demo.ask(&asked.at("/v1/messages?beta=true"));
    assert_eq!(reply.head.status, 200, "{}", reply.text());
    assert_eq!(reply.head.header("x-tallygate-left-out"), Some("anthropic-beta.context-1m"));
    let (head, body) = requests.recv().unwrap();
    let betas = "context-management-2025-06-27,interleaved-thinking-2025-05-14";
    assert_eq!(header(&head, "anthropic-beta"), betas, "{head}");
    assert_eq!(header(&head, "anthropic-version"), "2023-06-01", "{head}");
    assert!(head.starts_with("post /v1/messages http/1.1"), "{head}");
    assert!(!head.contains("of-the-caller"), "{head}");
    assert_eq!(body["context_management"]["edits"][0]["keep"], "all");
    // To a provider of another format none goes, and that is told.
    let body =
        json!({"model": "gpt-5-mini", "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}]});
    let asked = Ask::post("/v1/messages", &body).bearer(&demo.key(KEY));
    let reply = demo.ask(&asked.header("anthropic-beta", "effort-2025-11-24"));
    assert_eq!(reply.head.header("x-tallygate-left-out"), Some("anthropic-beta"), "{}", reply.text());
    demo.nothing_stays_held();
}

/// H1: what is not kept comes with the answer; an item by its id is refused by its place, with what to do.
#[test]
fn h1_a_thought_comes_with_the_answer_and_an_item_by_its_id_is_named() {
    let demo = Demo::start();
    let (address, requests) = upstream(&json!({"id": "resp_1", "object": "response", "status": "completed",
        "model": "gpt-5-mini", "output": [{"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
        "content": [{"type": "output_text", "text": "hi", "annotations": []}]}],
        "usage": {"input_tokens": 9, "output_tokens": 1, "total_tokens": 10}}));
    channel(&demo, "openai", "gpt-5-mini", address);
    let asked = ask(&demo, "/v1/responses", json!({})).header("openai-beta", "responses=experimental");
    demo.ask(&asked).ok();
    let (head, body) = requests.recv().unwrap();
    assert_eq!(header(&head, "openai-beta"), "responses=experimental", "{head}");
    assert_eq!((&body["store"], &body["include"]), (&json!(false), &json!(["reasoning.encrypted_content"])));
    let turn =
        json!({"input": [{"role": "user", "content": "hi"}, {"type": "item_reference", "id": "msg_1"}]});
    let error = refused(&demo, "/v1/responses", turn, "input[1]");
    assert!(error["message"].as_str().unwrap().contains("store: false"), "{error:#}");
    let tools = json!({"tools": [{"type": "local_shell"}, {"type": "apply_patch"}]});
    demo.ask(&ask(&demo, "/v1/responses", tools)).ok();
    assert_eq!(requests.recv().unwrap().1["tools"][1]["type"], "apply_patch");
    demo.nothing_stays_held();
}

/// H1: Gemini's clients may have their key in the address, one where a list may be, and a stream as a list. The key goes
/// nowhere: the demo looks for secrets in its log and its files when it stops.
#[test]
fn h1_h4_geminis_addresses_are_taken_as_google_takes_them() {
    let demo = Demo::start();
    let key = demo.key(KEY);
    let body =
        json!({"contents": {"role": "user", "parts": {"text": "hi"}}, "tools": {"functionDeclarations": []}});
    let at = |method: &str| format!("/v1beta/models/gemini-2.5-flash:{method}key={key}");
    let reply = demo.ask(&Ask::post(at("generateContent?"), &body));
    assert_eq!(reply.head.status, 200, "{}", reply.text());
    billed(&demo, reply.head.request_id());
    demo.ask(&Ask::get(format!("/v1beta/models?key={key}"))).ok();
    // Elsewhere no key is in an address.
    assert_eq!(demo.ask(&Ask::get(format!("/v1/models?key={key}"))).head.status, 401);
    let asked = Ask::post(at("generateContent?"), &body).header("x-goog-api-key", demo.key("revoked"));
    let error = demo.ask(&asked).json();
    assert!(error["error"]["message"].as_str().unwrap().contains("?key="), "{error:#}");

    for (model, alt) in
        [("gemini-2.5-flash", ""), ("gemini-2.5-flash", "alt=json&"), ("claude-sonnet-4-5", "")]
    {
        let body = json!({"contents": [{"role": "user", "parts": [{"text": "say hello to me"}]}]});
        let path = format!("/v1beta/models/{model}:streamGenerateContent?{alt}key={key}");
        let reply = demo.ask(&Ask::post(path, &body));
        assert_eq!(reply.head.status, 200, "{}", reply.text());
        assert_eq!(reply.head.header("content-type"), Some("application/json"));
        let list: Value = serde_json::from_str(&reply.text()).unwrap();
        let list = list.as_array().unwrap();
        let said = |event: &Value| {
            event["candidates"][0]["content"]["parts"][0]["text"].as_str().unwrap_or("").to_owned()
        };
        assert_eq!(list.iter().map(said).collect::<String>(), "echo: say hello to me", "{list:#?}");
        assert_eq!(list.last().unwrap()["candidates"][0]["finishReason"], "STOP");
        billed(&demo, reply.head.request_id());
    }
    let path = format!("/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=proto&key={key}");
    let error = demo.ask(&Ask::post(path, &body)).json();
    assert_eq!(error["error"]["details"][0]["param"], "alt", "{error:#}");
    demo.nothing_stays_held();
}

/// H1: Codex asks for one call of a tool at a time with every request. Gemini cannot be told so: the first of its calls is
/// told, whole and streamed, and all are charged.
#[test]
fn h1_codex_is_told_one_call_of_gemini_at_a_time() {
    let demo = Demo::start();
    let call = |n: u32| json!({"functionCall": {"name": "shell", "args": {"n": n}}});
    let answer = json!({"candidates": [{"content": {"role": "model", "parts": [call(1), call(2)]}, "finishReason": "STOP",
        "index": 0}], "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 20, "totalTokenCount": 29}});
    let tool = json!({"type": "function", "name": "shell", "strict": false,
        "parameters": {"type": "object", "properties": {"n": {"type": "number"}}}});
    let asked = |parallel: bool, stream: bool| {
        let body = json!({"model": "gemini-2.5-flash", "instructions": "s", "stream": stream, "store": false,
            "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}],
            "tools": [tool], "tool_choice": "auto", "parallel_tool_calls": parallel,
            "reasoning": {"effort": "medium", "summary": "auto"}, "include": ["reasoning.encrypted_content"]});
        ask(&demo, "/v1/responses", body)
    };
    let (whole, requests) = upstream(&answer);
    channel(&demo, "gemini", "gemini-2.5-flash", whole);
    for (parallel, calls) in [(false, 1), (true, 2)] {
        let reply = demo.ask(&asked(parallel, false));
        assert_eq!(reply.head.status, 200, "{}", reply.text());
        let told = reply.json()["output"].as_array().unwrap().clone();
        assert_eq!(told.iter().filter(|item| item["type"] == "function_call").count(), calls, "{told:?}");
        assert_eq!(reply.json()["usage"]["output_tokens"], 20);
        assert!(requests.recv().unwrap().1.get("toolConfig").is_some());
    }
    let streaming = answering(200, "text/event-stream", &format!("data: {answer}\n\n"));
    let body = json!({"name": "the streaming one", "provider": "gemini", "base_url": format!("http://{streaming}/v1"),
        "credential": "sk-of-the-scripted-upstream", "models": {"gemini-2.5-flash": "gemini-2.5-flash"}, "priority": 30,
        "cost_share": "1"});
    demo.admin_post("/api/channels", &body);
    for (parallel, calls) in [(false, 1), (true, 2)] {
        let told = demo.ask(&asked(parallel, true)).text();
        let done =
            told.lines().filter(|line| *line == "event: response.function_call_arguments.done").count();
        assert_eq!(done, calls, "{told}");
    }
    demo.nothing_stays_held();
}

/// H1: DeepSeek knows no developer: what one says to it the system does.
#[test]
fn h1_what_a_developer_says_reaches_deep_seek() {
    let demo = Demo::start();
    let (address, requests) =
        upstream(&json!({"id": "c", "object": "chat.completion", "created": 1, "model": "deepseek-chat",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}}));
    channel(&demo, "deepseek", "deepseek-chat", address);
    let said = json!([{"role": "developer", "content": "be brief"}, {"role": "user", "content": "hi"}]);
    demo.ask(&ask(&demo, "/v1/chat/completions", json!({"model": "deepseek-chat", "messages": said}))).ok();
    assert_eq!(requests.recv().unwrap().1["messages"][0], json!({"role": "system", "content": "be brief"}));
    demo.nothing_stays_held();
}
