//! Channels that fail over (H2): a call goes on to the next channel while nothing of its answer has left, is charged
//! once, and every attempt is on the books.

use serde_json::{Value, json};

use crate::gateway::{Expected, assert_refused};
use crate::support::demo::{Demo, nano, wait_until};
use crate::support::http::Ask;

const MODEL: &str = "gpt-5-mini";

/// A channel to the demo's upstream, which knows the model by another name: `demo-500` always fails. Its id.
fn channel(demo: &Demo, name: &str, sent: &str, more: Value) -> String {
    let key = std::fs::read_to_string(demo.dir().join("upstream/upstream-key")).unwrap();
    let mut body = json!({
        "name": name,
        "base_url": demo.ready()["upstream"]["url"],
        "credential": key.trim(),
        "models": {MODEL: sent},
        "priority": 10,
    });
    body.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    demo.admin_post("/api/channels", &body)["id"].as_str().unwrap().to_owned()
}

/// With a cap that every model of the upstream takes.
fn ask(key: &str, text: &str, stream: bool) -> Ask {
    Ask::chat_with(key, MODEL, text, json!({"stream": stream, "max_tokens": 100}))
}

fn change(demo: &Demo, channel: &str, to: &Value) {
    let path = format!("/api/channels/{channel}");
    demo.ask(&Ask::new("PATCH", path).raw_body(to.to_string()).bearer(&demo.admin_token())).ok();
}

fn group(demo: &Demo, name: &str, multiplier: &str, fallback: &[&str]) -> String {
    let body = json!({"name": name, "multiplier": multiplier, "fallback": fallback});
    demo.admin_post("/api/groups", &body)["id"].as_str().unwrap().to_owned()
}

fn attempts(receipt: &Value) -> Vec<(bool, bool)> {
    let attempts = receipt["attempts"].as_array().unwrap().iter();
    attempts.map(|attempt| (attempt["served"] == true, attempt["failed"] == true)).collect()
}

/// A channel fails, the next one answers: the caller sees one good answer, whole or as a stream, and one charge.
#[test]
fn h2_a_call_goes_on_to_the_next_channel_before_the_first_byte() {
    let demo = Demo::start();
    let broken = channel(&demo, "broken", "demo-500", json!({}));
    let account = demo.account("anna", "10");
    let key = demo.key_of(&account, json!([]));
    for stream in [false, true] {
        let reply = demo.ask(&ask(&key, "hello", stream));
        assert!(reply.is_whole_answer(), "{reply:?}");
        let id = reply.head.request_id();
        let (row, billed) = (demo.row(id), demo.billed(&format!("{id}-2")));
        assert_eq!(row["charge"], billed["cost"], "charged once: {row:#}");
        assert_eq!(row["upstream_request_id"], billed["upstream_request_id"]);
        let [first, second] = row["attempts"].as_array().unwrap().as_slice() else { panic!("{row:#}") };
        assert_eq!((&first["channel"], &first["fault"]), (&json!(broken), &json!("upstream_error")));
        assert_eq!((&first["status"], &first["cost_basis"]), (&json!(500), &json!("nothing")));
        assert_eq!((&row["channel"], &second["served"]), (&second["channel"], &json!(true)));
        assert_ne!(second["channel"], broken);
        assert!(first["duration_us"].as_u64() <= second["started_us"].as_u64(), "{row:#}");
        // Whose call it was sees how often it was tried, and not where.
        let own = demo.own(&key, &format!("/v1/requests/{id}"));
        assert_eq!(attempts(&own), [(false, true), (true, false)]);
        assert!(own["attempts"].as_array().unwrap().iter().all(|attempt| attempt["channel"].is_null()));
    }
    let charges = nano(&demo.balance(&account)["movements"]["charges"]);
    let bill: i64 =
        demo.bill().iter().filter(|row| row["model"] == MODEL).map(|row| nano(&row["cost"])).sum();
    assert!(charges > 0 && charges <= bill, "{charges} {bill}");
}

/// S11: a retry moves from a cheap to a dear group: the hold covers the dear one, and the charge is that of the group
/// that served.
#[test]
fn s11_a_call_is_charged_at_the_multiplier_of_the_group_that_served() {
    let demo = Demo::start();
    let dear = group(&demo, "dear", "3", &[]);
    let cheap = group(&demo, "cheap", "0.5", &[&dear]);
    let broken = channel(&demo, "cheap channel", "demo-500", json!({"groups": [cheap]}));
    channel(&demo, "dear channel", MODEL, json!({"groups": [dear]}));
    // Of the demo's own channel, which serves every group, the key is to see nothing.
    let own = demo.admin("/api/channels?name=simulated%20upstream")["data"][0]["id"].clone();
    change(&demo, own.as_str().unwrap(), &json!({"status": "disabled"}));
    let account = demo.account("anna", "10");
    let key = json!({"account": account, "name": "test", "group": cheap});
    let key = demo.admin_post("/api/keys", &key)["key"].as_str().unwrap().to_owned();

    let reply = demo.ask(&ask(&key, "hello", false));
    reply.ok();
    let id = reply.head.request_id();
    let (receipt, billed) = (demo.receipt(id), demo.billed(&format!("{id}-2")));
    assert_eq!(nano(&receipt["charged"]), 3 * nano(&billed["cost"]), "{receipt:#}");
    assert_eq!(receipt["sum"]["multiplier"], "3");
    assert_eq!(attempts(&receipt), [(false, true), (true, false)]);
    assert_eq!(
        (&receipt["attempts"][0]["multiplier"], &receipt["attempts"][1]["multiplier"]),
        (&json!("0.5"), &json!("3"))
    );

    // The cheap one recovers: the same key pays half, and what was held for the dear one comes back.
    change(&demo, &broken, &json!({"models": {MODEL: MODEL}}));
    let reply = demo.ask(&ask(&key, "hello", false));
    reply.ok();
    let id = reply.head.request_id();
    let (receipt, billed) = (demo.receipt(id), demo.billed(id));
    assert_eq!(receipt["sum"]["multiplier"], "0.5");
    assert_eq!(2 * nano(&receipt["charged"]), nano(&billed["cost"]), "{receipt:#}");
    assert!(nano(&receipt["hold"]["amount"]) > nano(&receipt["charged"]) * 6, "{receipt:#}");
}

/// Once a byte of an answer has left, the call stays where it is: nobody gets two halves of two answers.
#[test]
fn h2_a_stream_that_has_begun_stays_with_its_channel() {
    let demo = Demo::start();
    channel(&demo, "cuts", "demo-cut", json!({}));
    let account = demo.account("anna", "10");
    let key = demo.key_of(&account, json!([]));
    let reply = demo.ask(&ask(&key, "hello hello hello hello", true));
    assert!(!reply.is_whole_answer());
    let row = demo.row(reply.head.request_id());
    assert_eq!(row["code"], "stream_interrupted");
    assert_eq!(attempts(&row), [(true, true)]);
    assert_eq!(row["attempts"][0]["cost_basis"], "counted", "{row:#}");
}

/// Neither one call nor an outage makes more attempts than the settings allow.
#[test]
fn h2_attempts_have_a_limit() {
    let demo = Demo::start_with(&[("TALLYGATE_UPSTREAM__ATTEMPTS_MAX", "2")]);
    for name in ["one", "two", "three"] {
        channel(&demo, name, "demo-500", json!({}));
    }
    let account = demo.account("anna", "10");
    let key = demo.key_of(&account, json!([]));
    let reply = demo.ask(&ask(&key, "hello", false));
    assert_eq!(reply.head.status, 502, "{reply:?}");
    let row = demo.row(reply.head.request_id());
    assert_eq!(attempts(&row), [(false, true), (false, true)]);
    assert_eq!((&row["charge"], &row["code"]), (&json!("0"), &json!("upstream_error")));
}

/// Retries are a share of the traffic: with none allowed, an outage of one channel is told as it is.
#[test]
fn h2_retries_are_a_share_of_the_traffic() {
    let demo = Demo::start_with(&[
        ("TALLYGATE_UPSTREAM__RETRY_SHARE_PERCENT", "10"),
        ("TALLYGATE_SERVER__WORKERS", "1"),
    ]);
    channel(&demo, "broken", "demo-500", json!({"cools_down": false}));
    let account = demo.account("anna", "10");
    let key = demo.key_of(&account, json!([]));
    let good =
        (0..40).filter(|n| demo.ask(&ask(&key, &format!("hello {n}"), false)).head.status == 200).count();
    // Ten were saved up, and each call earns a tenth of one.
    assert!((10..=14).contains(&good), "{good}");
}

/// Among channels of one priority the weights share the calls out; one of weight 0 waits until no other can.
#[test]
fn h2_weights_share_the_calls_out() {
    let demo = Demo::start();
    let names = [("heavy", 3), ("light", 1), ("spare", 0)];
    let ids = names.map(|(name, weight)| channel(&demo, name, MODEL, json!({"weight": weight})));
    let account = demo.account("anna", "10");
    let key = demo.key_of(&account, json!([]));
    let served: Vec<Value> = (0..80)
        .map(|n| {
            demo.row(demo.ask(&ask(&key, &format!("hello {n}"), false)).head.request_id())["channel"].clone()
        })
        .collect();
    let counts = ids.map(|id| served.iter().filter(|channel| **channel == id).count());
    assert_eq!((counts[0] + counts[1], counts[2]), (80, 0));
    assert!((40..=75).contains(&counts[0]), "{counts:?}");
}

fn health(demo: &Demo, name: &str) -> Value {
    let all = demo.admin("/api/channels/health");
    all["data"].as_array().unwrap().iter().find(|row| row["name"] == name).unwrap().clone()
}

/// Takes the demo's own channel out, so that only those of the test serve.
fn alone(demo: &Demo) {
    let own = demo.admin("/api/channels?name=simulated%20upstream")["data"][0]["id"].clone();
    change(demo, own.as_str().unwrap(), &json!({"status": "disabled"}));
}

/// Rung 14: while every channel that could serve rests, the call is told until when, and its Why says the same later;
/// a channel that rests is not even asked, and when its rest has ended it is tried again.
#[test]
fn h2_a_call_whose_channels_all_rest_is_told_until_when() {
    let demo = Demo::start_with(&[("TALLYGATE_UPSTREAM__COOL_DOWN_MS", "500")]);
    alone(&demo);
    let busy = channel(&demo, "busy", "demo-429", json!({}));
    let account = demo.account("anna", "10");
    let key = demo.key_of(&account, json!([]));
    let first = demo.ask(&ask(&key, "hello", false));
    assert_eq!((first.head.status, code(&first)), (503, "upstream_rate_limited".to_owned()));
    // The upstream asked for two seconds, which is more than the shortest rest.
    assert_eq!(first.head.header("retry-after"), Some("2"));
    let second = demo.ask(&ask(&key, "hello", false));
    let expected: Expected = ("channel_cooling_down", 503, "channel", "gateway", true);
    assert_refused(&demo, &second, expected);
    let wait: u64 = second.head.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=2).contains(&wait), "{wait}");
    let id = second.head.request_id();
    let row = demo.row(id);
    assert_eq!(
        (&row["attempts"], &row["balance_checked"], &row["charge"]),
        (&json!([]), &json!(true), &json!("0"))
    );
    let why = demo.admin(&format!("/api/requests/{id}/why"));
    let rung = why["ladder"].as_array().unwrap().iter().find(|rung| rung["rung"] == 14).unwrap();
    assert_eq!((&rung["state"], &rung["code"]), (&json!("fail"), &json!("channel_cooling_down")), "{rung:#}");
    assert!(rung["evidence"].to_string().contains("1 of 1 channels"), "{rung:#}");
    assert!(!why.to_string().contains(&busy), "which channel it is is nobody's in this ladder: {why:#}");
    let simulated =
        demo.ask(&Ask::post("/v1/simulate", &json!({"model": MODEL, "messages": []})).bearer(&key));
    assert_eq!(simulated.ok()["would"], "fail", "E7: the simulator knows, too");
    let shown = health(&demo, "busy");
    assert_eq!(
        (&shown["state"], &shown["troubles"][0]["reason"]),
        (&json!("cooling_down"), &json!("rate_limited"))
    );
    // The upstream recovers; when the rest has ended the channel is tried, and is healthy by that.
    change(&demo, &busy, &json!({"models": {MODEL: MODEL}}));
    wait_until("the channel is tried again", || demo.ask(&ask(&key, "hello", false)).head.status == 200);
    assert_eq!(health(&demo, "busy")["state"], "healthy");
}

fn code(reply: &crate::support::http::Reply) -> String {
    reply.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
}

/// A channel that fails several times in a row rests, and its calls go to the next one at once.
#[test]
fn h2_a_channel_that_fails_in_a_row_is_left_alone() {
    let demo = Demo::start();
    let broken = channel(&demo, "broken", "demo-500", json!({}));
    let account = demo.account("anna", "10");
    let key = demo.key_of(&account, json!([]));
    let tried: Vec<usize> = (0..5)
        .map(|n| {
            let reply = demo.ask(&ask(&key, &format!("hello {n}"), n % 2 == 0));
            assert!(reply.is_whole_answer());
            attempts(&demo.row(reply.head.request_id())).len()
        })
        .collect();
    assert_eq!(tried, [2, 2, 2, 1, 1]);
    let shown = health(&demo, "broken");
    assert_eq!((&shown["channel"], &shown["failed"]), (&json!(broken), &json!(3)), "{shown:#}");
    assert_eq!(shown["last_failure"], "upstream_error");
}

/// S31: the caller is told of an upstream's trouble and nothing of the platform's account there; operators see the
/// channel, and are told once.
#[test]
fn s31_an_upstream_out_of_credit_is_the_operators_alone() {
    let demo = Demo::start();
    alone(&demo);
    let poor = channel(&demo, "poor", "demo-no-credit", json!({}));
    let account = demo.account("anna", "10");
    let key = demo.key_of(&account, json!([]));
    let reply = demo.ask(&ask(&key, "hello", false));
    assert_eq!((reply.head.status, code(&reply)), (502, "upstream_out_of_credit".to_owned()));
    let row = demo.row(reply.head.request_id());
    let words = row["upstream_error"].as_str().unwrap();
    assert!(words.contains("current quota") && !reply.text().contains("current quota"), "{row:#}");
    assert_eq!((&row["channel"], &row["charge"]), (&json!(poor), &json!("0")));
    let own = demo.own(&key, &format!("/v1/requests/{}/why", reply.head.request_id()));
    assert!(!own.to_string().contains("current quota") && !own.to_string().contains(&poor), "{own:#}");
    assert_eq!(code(&demo.ask(&ask(&key, "hello", false))), "channel_cooling_down");
    let told = || demo.admin("/api/notices?event=channel_cooling_down")["data"].clone();
    wait_until("it is told", || !told().as_array().unwrap().is_empty());
    let told = told();
    assert_eq!(told.as_array().unwrap().len(), 1);
    assert_eq!((&told[0]["subject"], &told[0]["facts"]["reason"]), (&json!(poor), &json!("out_of_credit")));
}

/// One credential of two is refused: the call goes on with the other one, at the same channel.
#[test]
fn h2_a_refused_credential_makes_way_for_the_next_one() {
    let demo = Demo::start();
    alone(&demo);
    let good = std::fs::read_to_string(demo.dir().join("upstream/upstream-key")).unwrap();
    let body = json!({
        "name": "two", "base_url": demo.ready()["upstream"]["url"], "models": {MODEL: MODEL},
        "credentials": ["sk-that-nobody-knows", good.trim()],
    });
    let two = demo.admin_post("/api/channels", &body);
    assert_eq!(two["provider_keys"], 2);
    let account = demo.account("anna", "10");
    let key = demo.key_of(&account, json!([]));
    let mut used = Vec::new();
    for n in 0..4 {
        let reply = demo.ask(&ask(&key, &format!("hello {n}"), false));
        reply.ok();
        let row = demo.row(reply.head.request_id());
        let attempts = row["attempts"].as_array().unwrap().clone();
        assert!(attempts.iter().all(|attempt| attempt["channel"] == two["id"]));
        used.push(attempts.iter().map(|attempt| attempt["credential"].as_u64().unwrap()).collect::<Vec<_>>());
    }
    let refused = used.iter().filter(|used| used.contains(&1)).count();
    assert_eq!(refused, 1, "the one that was refused rests: {used:?}");
    assert!(used.contains(&vec![1, 2]), "{used:?}");
}

/// No more calls at a time than a channel may have; the rest goes to the next one.
#[test]
fn h2_a_full_channel_is_passed_over() {
    let demo = Demo::start();
    let small = channel(&demo, "small", MODEL, json!({"concurrency": 1}));
    let account = demo.account("anna", "10");
    let key = demo.key_of(&account, json!([]));
    let mut slow = demo.connect();
    slow.send(&ask(&key, "hello #delay_ms=1500", false)).unwrap();
    wait_until("it runs", || health(&demo, "small")["running"] == 1);
    let other = demo.ask(&ask(&key, "hello", false));
    other.ok();
    assert_ne!(demo.row(other.head.request_id())["channel"], small);
    let first = slow.reply().unwrap();
    first.ok();
    assert_eq!(demo.row(first.head.request_id())["channel"], small);
    assert_eq!(health(&demo, "small")["running"], 0);
    let again = demo.ask(&ask(&key, "hello", false));
    assert_eq!(demo.row(again.head.request_id())["channel"], small);
}

/// The channel is taken out of service while a call waits for it: the call ends where it is, the next goes elsewhere.
#[test]
fn h2_a_channel_that_is_taken_away_finishes_what_it_has() {
    let demo = Demo::start();
    let leaving = channel(&demo, "leaving", MODEL, json!({}));
    let account = demo.account("anna", "10");
    let key = demo.key_of(&account, json!([]));
    let mut slow = demo.connect();
    slow.send(&ask(&key, "hello #delay_ms=700", false)).unwrap();
    wait_until("it is held", || nano(&demo.balance(&account)["held"]) > 0);
    change(&demo, &leaving, &json!({"status": "disabled"}));
    let first = slow.reply().unwrap();
    first.ok();
    assert_eq!(demo.row(first.head.request_id())["channel"], leaving);
    let next = demo.ask(&ask(&key, "hello", false));
    assert_ne!(demo.row(next.head.request_id())["channel"], leaving);
}

/// The test button: one real call through a channel tells whether it works, and no account pays for it.
#[test]
fn h2_a_channel_can_be_tried_out() {
    let demo = Demo::start();
    let good = channel(&demo, "good", MODEL, json!({}));
    let poor = channel(&demo, "poor", "demo-no-credit", json!({"status": "disabled"}));
    let try_out = |id: &str| demo.admin_post(&format!("/api/channels/{id}/test"), &json!({}));
    let before = demo.admin("/api/requests?limit=1")["data"][0]["id"].clone();
    let works = try_out(&good);
    assert_eq!(
        (&works["works"], &works["status"], &works["model"]),
        (&json!(true), &json!(200), &json!(MODEL))
    );
    let row = demo.bill().pop().unwrap();
    assert_eq!(row["upstream_request_id"], works["upstream_request_id"], "it was a real call");
    let fails = try_out(&poor);
    assert_eq!((&fails["works"], &fails["code"]), (&json!(false), &json!("upstream_out_of_credit")));
    assert!(fails["text"].as_str().unwrap().contains("current quota"), "{fails:#}");
    assert_eq!(demo.admin("/api/requests?limit=1")["data"][0]["id"], before, "no call of anybody");
    assert_eq!(health(&demo, "good")["answered"], 0);
    let unknown = json!({"model": "nobody-serves-this"});
    let path = format!("/api/channels/{good}/test");
    let refused = demo.ask(&Ask::post(path, &unknown).bearer(&demo.admin_token()));
    assert_eq!((refused.head.status, code(&refused)), (400, "invalid_value".to_owned()));
    let run = |args: &[&str]| demo.command(args).output().unwrap();
    assert_eq!(run(&["--json", "channels", "test", "good"]).status.code(), Some(0));
    let failed = run(&["--json", "channels", "test", "poor"]);
    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    let table = String::from_utf8(run(&["channels", "health"]).stdout).unwrap();
    assert!(table.contains("healthy") && table.contains("simulated failures"), "{table}");
}

/// A channel of every provider, of some groups and of a task API is made and changed by commands alone; what a proxy is at
/// fault for is told of the proxy.
#[test]
fn h2_channels_of_every_kind_are_set_up_by_commands() {
    let demo = Demo::start();
    let folder = tempfile::tempdir().unwrap();
    let run = |args: &str, expected: i32| {
        let mut command = demo.command(&["--json"]);
        command.args(args.split_whitespace()).env("OWN_KEY", "sk-own");
        let ran = command.output().unwrap();
        assert_eq!(ran.status.code(), Some(expected), "{args}: {}", String::from_utf8_lossy(&ran.stderr));
        serde_json::from_slice::<Value>(&ran.stdout).unwrap_or_default()
    };
    let base = "--base-url http://127.0.0.1:9/v1 --credential-env OWN_KEY --model gpt-5-mini";
    for provider in ["openai", "deepseek", "anthropic", "gemini"] {
        let made = run(&format!("channels create --name of-{provider} --provider {provider} {base}"), 0);
        assert_eq!(made["provider"], provider);
    }
    run("groups create cheap", 0);
    let dear = run("groups create dear --fallback cheap", 0);
    let cheap = run("groups show cheap", 0)["id"].clone();
    assert_eq!(dear["fallback"], json!([cheap]));
    assert_eq!(run("channels edit of-openai --group cheap", 0)["groups"], json!([cheap]));
    assert_eq!(run("channels edit of-openai --all-groups", 0)["groups"], json!([]));
    let file = folder.path().join("api.json");
    let api = json!({"video": {
        "submit": {"path": "/tasks", "body": {"text": "{prompt}", "length": "{seconds}"}}, "id": "/id",
        "poll": {"path": "/tasks/{id}"}, "state": "/state", "states": {"DONE": "succeeded", "BAD": "failed"},
        "results": ["/url"],
    }});
    let with_file = format!("channels edit of-openai --task-api {}", file.display());
    run(&with_file, 2);
    std::fs::write(&file, api.to_string()).unwrap();
    assert_eq!(run(&with_file, 0)["task_api"]["video"]["id"], "/id");
    assert_eq!(run("channels edit of-openai --task-api none", 0)["task_api"], Value::Null);
    // A variable that holds nothing is no key, and one key is not two.
    let path = "/api/channels";
    for (credentials, field) in [
        (json!(["sk-a", ""]), "credentials[1]"),
        (json!(["sk-a", "sk-a"]), "credentials[1]"),
        (json!([""]), "credential"),
    ] {
        let body = json!({"name": "empty", "base_url": "http://127.0.0.1:9/v1", "credentials": credentials,
            "models": {MODEL: MODEL}});
        let bad = demo.ask(&Ask::post(path, &body).bearer(&demo.admin_token()));
        assert_eq!((bad.head.status, &bad.json()["error"]["param"]), (400, &json!(field)));
    }
    run("channels edit of-openai --proxy http://127.0.0.1:1", 0);
    let tested = run("channels test of-openai", 1);
    assert!(tested["text"].as_str().unwrap().contains("its proxy was not reached"), "{tested:#}");
}

/// A file of models, prices and channels: all of it or nothing, with the line and the reason of each fault.
#[test]
fn h2_a_file_is_imported_whole_or_not_at_all() {
    let demo = Demo::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("channels.jsonl");
    let import = |lines: &[Value], broken: &str, more: &[&str]| {
        let text =
            lines.iter().map(ToString::to_string).chain([broken.to_owned()]).collect::<Vec<_>>().join("\n");
        std::fs::write(&file, text).unwrap();
        let mut command = demo.command(&["--json", "channels", "import"]);
        let key = std::fs::read_to_string(demo.dir().join("upstream/upstream-key")).unwrap();
        let done = command.arg(&file).args(more).env("IMPORTED_KEY", key.trim()).output().unwrap();
        (done.status.code(), serde_json::from_slice::<Value>(&done.stdout).unwrap_or_default())
    };
    let model = json!({"kind": "model", "name": "imported"});
    let price = json!({"kind": "price", "model": "imported", "per_million": {"input": "1", "output": "2"}});
    let channel = json!({
        "kind": "channel", "name": "from a file", "base_url": demo.ready()["upstream"]["url"],
        "credential_env": "IMPORTED_KEY", "models": {"imported": MODEL}, "cost_share": "0.5",
    });
    let misspelt =
        json!({"kind": "channel", "name": "x", "base_ulr": "http://a/v1", "credential": "sk-hidden"});
    let late = json!({"kind": "price", "model": "not there", "per_million": {"input": "1", "output": "2"}});
    let good = [model.clone(), price.clone(), channel.clone()];

    let (exit, told) =
        import(&[model.clone(), misspelt, late, model, price, channel], "no json sk-hidden", &[]);
    assert_eq!((exit, &told["applied"]), (Some(1), &json!(false)), "{told:#}");
    let faults: Vec<_> =
        told["faults"].as_array().unwrap().iter().map(|fault| fault["line"].clone()).collect();
    assert_eq!(faults, [2, 3, 4, 7], "{told:#}");
    assert_eq!(told["faults"][0]["field"], "base_ulr");
    assert_eq!(told["faults"][2]["reason"], "`imported` is taken");
    assert!(!told.to_string().contains("sk-hidden"), "{told:#}");
    let models = || demo.admin("/api/models?name=imported")["data"].as_array().unwrap().len();
    assert_eq!(models(), 0, "nothing was kept");

    let (exit, told) = import(&good, "", &["--dry-run"]);
    assert_eq!((exit, &told["applied"], &told["faults"]), (Some(0), &json!(false), &json!([])), "{told:#}");
    assert_eq!(models(), 0, "a dry run keeps nothing");

    let (exit, told) = import(&good, "", &[]);
    assert_eq!((exit, &told["applied"], &told["channels"]), (Some(0), &json!(true), &json!(1)), "{told:#}");
    let account = demo.account("anna", "10");
    let key = demo.key_of(&account, json!([]));
    let reply = demo.chat(&key, "imported", "hello");
    reply.ok();
    let row = demo.row(reply.head.request_id());
    // The channel costs half of what callers are charged.
    assert_eq!(nano(&row["charge"]), 2 * nano(&row["attempts"][0]["cost"]), "{row:#}");
}

/// A proxy that opens tunnels, or refuses to; it tells where to.
fn proxy(opens: bool) -> (String, std::sync::mpsc::Receiver<String>) {
    use std::io::{BufRead, BufReader, Write};
    use std::net::{TcpListener, TcpStream};
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let Ok(mut client) = client else { return };
            let mut lines = BufReader::new(client.try_clone().unwrap()).lines();
            let asked = lines.next().unwrap().unwrap();
            while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
            let to = asked.split(' ').nth(1).unwrap().to_owned();
            let _heard = tell.send(asked);
            if !opens {
                let _told = client.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n");
                continue;
            }
            let mut origin = TcpStream::connect(to).unwrap();
            client.write_all(b"HTTP/1.1 200 Connection established\r\nvia: test\r\n\r\n").unwrap();
            let (mut up, mut down) = (client.try_clone().unwrap(), origin.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut up, &mut origin));
            std::thread::spawn(move || std::io::copy(&mut down, &mut client));
        }
    });
    (url, told)
}

/// A channel behind an HTTP proxy is called through a tunnel; a proxy that opens none is a fault like any other, before
/// anything was sent.
#[test]
fn h2_a_channel_can_be_reached_through_a_proxy() {
    let demo = Demo::start();
    let account = demo.account("anna", "10");
    let key = demo.key_of(&account, json!([]));
    let (shut, refused) = proxy(false);
    let (open, tunnels) = proxy(true);
    let behind = channel(&demo, "behind a proxy", MODEL, json!({"proxy": shut}));
    let reply = demo.ask(&ask(&key, "hello", false));
    reply.ok();
    assert!(refused.recv().unwrap().starts_with("CONNECT 127.0.0.1:"));
    let row = demo.row(reply.head.request_id());
    assert_eq!(attempts(&row), [(false, true), (true, false)]);
    assert_eq!((&row["attempts"][0]["channel"], &row["attempts"][0]["cost"]), (&json!(behind), &json!("0")));

    change(&demo, &behind, &json!({"proxy": open}));
    for stream in [false, true] {
        let reply = demo.ask(&ask(&key, "hello", stream));
        assert!(reply.is_whole_answer());
        assert_eq!(demo.row(reply.head.request_id())["channel"], behind);
    }
    assert!(tunnels.recv().unwrap().starts_with("CONNECT 127.0.0.1:"));
    let body = json!({"proxy": "http://user:secret@127.0.0.1:1"});
    let path = format!("/api/channels/{behind}");
    let bad = demo.ask(&Ask::new("PATCH", path).raw_body(body.to_string()).bearer(&demo.admin_token()));
    assert_eq!((bad.head.status, code(&bad)), (400, "invalid_value".to_owned()));
}
