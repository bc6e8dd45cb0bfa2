//! Counting tokens before a request is sent, as Anthropic's and Google's clients ask for it: it costs nothing, whoever counts.

use serde_json::{Value, json};

use crate::support::demo::Demo;
use crate::support::http::{Ask, Reply};

const MODELS: [&str; 4] = ["claude-sonnet-4-5", "gemini-2.5-flash", "gpt-5-mini", "deepseek-chat"];

/// What is asked, with a system's prompt and a tool.
fn messages(model: &str, text: &str) -> Value {
    json!({"model": model, "system": "Be brief.", "messages": [{"role": "user", "content": text}],
        "tools": [{"name": "weather", "input_schema": {"type": "object"}}]})
}

fn contents(text: &str) -> Value {
    json!({"systemInstruction": {"parts": [{"text": "Be brief."}]},
        "contents": [{"role": "user", "parts": [{"text": text}]}],
        "tools": [{"functionDeclarations": [{"name": "weather"}]}]})
}

fn of_anthropic(key: &str, body: &Value) -> Ask {
    Ask::post("/v1/messages/count_tokens", body).header("x-api-key", key)
}

fn of_gemini(key: &str, model: &str, body: &Value) -> Ask {
    Ask::post(format!("/v1beta/models/{model}:countTokens"), body).header("x-goog-api-key", key)
}

/// Who counted.
fn counted_by(reply: &Reply) -> &str {
    reply.head.header("x-tallygate-count").unwrap_or_default()
}

/// H1: a count is what the call itself is told afterwards, and is in the log for nothing; where no upstream of the client's
/// format has the model it is estimated, and says so.
#[test]
fn h1_a_count_is_what_the_call_is_told_and_costs_nothing() {
    let demo = Demo::start();
    let key = demo.key("healthy");
    let bill = demo.bill().len();
    for model in MODELS {
        let text = "How many tokens are there in these words, \u{7d66}\u{4f60}?";
        let whole = json!({"generateContentRequest": {"model": format!("models/{model}"),
            "contents": contents(text)["contents"], "systemInstruction": contents(text)["systemInstruction"],
            "tools": contents(text)["tools"]}});
        for (of, own, field, ask) in [
            ("Anthropic", "claude-sonnet-4-5", "input_tokens", of_anthropic(&key, &messages(model, text))),
            ("Gemini", "gemini-2.5-flash", "totalTokens", of_gemini(&key, model, &contents(text))),
            ("Gemini, a whole request", "gemini-2.5-flash", "totalTokens", of_gemini(&key, model, &whole)),
        ] {
            let what = format!("{model}, a client of {of}");
            let reply = demo.ask(&ask);
            let count = reply.ok()[field].as_u64().unwrap_or_else(|| panic!("{what}: {}", reply.text()));
            assert!(count > 10, "{what}: {count}");
            assert_eq!(counted_by(&reply), if model == own { "upstream" } else { "estimated" }, "{what}");
            assert_eq!(reply.head.header("x-tallygate-cost"), Some("0"), "{what}");
            let row = demo.row(reply.head.request_id());
            assert_eq!(
                (&row["status"], &row["request_type"], &row["charge_state"], &row["charge"]),
                (&json!(200), &json!("count"), &json!("none"), &json!("0")),
                "{what}: {row:#}"
            );
            let attempts = row["attempts"].as_array().map_or(0, Vec::len);
            assert_eq!(attempts, usize::from(model == own), "{what}: {row:#}");
        }
        // The call itself.
        let mut call = messages(model, text);
        call["max_tokens"] = json!(50);
        let used =
            demo.ask(&Ask::post("/v1/messages", &call).header("x-api-key", &*key)).ok()["usage"].clone();
        let used = ["input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"]
            .map(|class| used[class].as_u64().unwrap_or(0));
        let count = demo.ask(&of_anthropic(&key, &messages(model, text))).ok()["input_tokens"].as_u64();
        if model == "claude-sonnet-4-5" {
            assert_eq!(count, Some(used.iter().sum()), "{model}");
        }
    }
    assert_eq!(demo.bill().len(), bill + MODELS.len(), "only the calls were billed");
}

/// The rungs up to rate refuse a count as they refuse the call; those about money and counts of calls do not.
#[test]
fn a_count_passes_the_rungs_up_to_rate_and_none_about_money() {
    let demo = Demo::start();
    let ask = |name: &str| of_anthropic(&demo.key(name), &messages("claude-sonnet-4-5", "hello"));
    for name in ["empty_balance", "low_balance", "key_budget_spent", "daily_zero", "daily_spent"] {
        let reply = demo.ask(&ask(name));
        assert_eq!(reply.head.status, 200, "{name}: {}", reply.text());
    }
    for (name, status, code) in [
        ("revoked", 401, "key_revoked"),
        ("disabled", 403, "key_disabled"),
        ("account_suspended", 403, "account_suspended"),
        ("project_paused", 403, "project_paused"),
        ("no_permission", 403, "permission_denied_implicit"),
        ("group_without_model", 403, "model_not_in_group"),
    ] {
        let reply = demo.ask(&ask(name));
        let body = reply.json();
        assert_eq!((reply.head.status, &body["error"]["code"]), (status, &json!(code)), "{name}: {body:#}");
        assert_eq!(body["type"], "error", "in the client's own shape: {body:#}");
        assert_eq!(demo.row(reply.head.request_id())["code"], code);
    }
    // One call a second: the second count of it is too many, and so is a call.
    let one = demo.key("qps_one");
    let count = of_gemini(&one, "gemini-2.5-flash", &contents("hello"));
    let statuses: Vec<u16> = (0..4).map(|_| demo.ask(&count).head.status).collect();
    assert!(statuses.contains(&429), "{statuses:?}");
    let missing = demo.ask(&of_anthropic(&demo.key("healthy"), &messages("claude-sonet-4-5", "hello")));
    assert_eq!((missing.head.status, &missing.json()["error"]["code"]), (404, &json!("model_not_found")));
    let wrong = demo.ask(&of_anthropic(&demo.key("healthy"), &json!({"model": "claude-sonnet-4-5"})));
    assert_eq!(wrong.json()["error"]["code"], "invalid_parameter");
    let get = demo.ask(&Ask::get("/v1/messages/count_tokens").bearer(&one));
    assert_eq!(get.json()["error"]["code"], "method_not_allowed");
}

/// A key that may call messages alone may count them; one that may not, may not.
#[test]
fn who_may_make_a_call_may_count_it() {
    let demo = Demo::start();
    let account = demo.account("Counting", "1");
    let key = |path: &str| {
        let body = json!({"account": account, "name": path, "allowed": [{"endpoints": [path]}]});
        demo.admin_post("/api/keys", &body)["key"].as_str().unwrap().to_owned()
    };
    let code = |key: &str| {
        let reply = demo.ask(&of_anthropic(key, &messages("claude-sonnet-4-5", "hello")));
        if reply.head.status == 200 { Value::Null } else { reply.json()["error"]["code"].clone() }
    };
    assert_eq!(code(&key("messages")), Value::Null);
    assert_eq!(code(&key("chat/completions")), "model_not_allowed_for_key");
}

/// A fault of the upstream is no fault of the count: it is estimated then. A request that the upstream finds wrong is refused.
#[test]
fn an_upstream_that_cannot_count_is_estimated_for() {
    let demo = Demo::start();
    let key = demo.key("healthy");
    for status in [401, 404, 429, 500, 529] {
        let ask = of_anthropic(&key, &messages("claude-sonnet-4-5", &format!("hello #status={status}")));
        let reply = demo.ask(&ask);
        assert!(reply.ok()["input_tokens"].as_u64() > Some(5), "{}", reply.text());
        assert_eq!(counted_by(&reply), "estimated", "{status}");
        let row = demo.row(reply.head.request_id());
        assert!(row["upstream_error"].is_string(), "{row:#}");
    }
    // Its channel goes on as if nothing had been.
    let reply = demo.ask(&of_anthropic(&key, &messages("claude-sonnet-4-5", "hello")));
    assert_eq!((reply.head.status, counted_by(&reply)), (200, "upstream"));
    let reply = demo.ask(&of_gemini(&key, "gemini-2.5-flash", &contents("hello #status=400")));
    let body = reply.json();
    assert_eq!(
        (reply.head.status, &body["error"]["details"][0]["reason"]),
        (400, &json!("upstream_rejected"))
    );
    let row = demo.row(reply.head.request_id());
    assert_eq!((&row["code"], &row["status"]), (&json!("upstream_rejected"), &json!(400)), "{row:#}");
}
