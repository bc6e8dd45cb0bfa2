//! Bodies and lines that say one thing twice: refused with its place, whatever would have counted (H2, S25).

use serde_json::{Value, json};

use crate::support::demo::Demo;
use crate::support::http::Ask;

/// What a management request with this body is told: status, code and the field.
fn refused(demo: &Demo, path: &str, body: &str) -> (u16, String, String) {
    let reply = demo.ask(&Ask::new("POST", path).raw_body(body).bearer(&demo.admin_token()));
    let error = reply.json()["error"].clone();
    let text = |name: &str| error[name].as_str().unwrap_or_default().to_owned();
    (reply.head.status, text("code"), text("param"))
}

/// What is said twice in a body is refused at any depth, and nothing is made of it.
#[test]
fn s25_what_a_body_says_twice_is_refused_by_its_place() {
    let demo = Demo::start();
    demo.admin_post("/api/models", &json!({"name": "priced"}));
    let price = r#""per_million": {"input": "1", "output": "2"}"#;
    let cases = [
        ("/api/prices", format!(r#"{{"model": "priced", "model": "gpt-5-mini", {price}}}"#), "model"),
        (
            "/api/prices",
            r#"{"model": "priced", "per_million": {"input": "1", "output": "2", "input": "100"}}"#.to_owned(),
            "per_million.input",
        ),
        (
            "/api/policies/lint",
            r#"{"document": {"statements": [{"effect": "allow", "effect": "deny"}]}}"#.to_owned(),
            "document.statements[0].effect",
        ),
        ("/api/accounts", r#"{"name": "a", "n\u0061me": "b"}"#.to_owned(), "name"),
    ];
    for (path, body, field) in cases {
        let expected = (400, "invalid_value".to_owned(), field.to_owned());
        assert_eq!(refused(&demo, path, &body), expected, "{body}");
    }
    assert_eq!(demo.admin("/api/prices?model=priced")["data"], json!([]));
    let (status, code, _) = refused(&demo, "/api/accounts", "{");
    assert_eq!((status, code.as_str()), (400, "invalid_json"));
}

/// The same of the lines of a file, also where a key is put in from the environment; a mark before the first line is none
/// of it.
#[test]
fn h2_a_line_that_says_one_thing_twice_is_a_fault_and_a_mark_is_none() {
    let demo = Demo::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("channels.jsonl");
    let import = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let mut command = demo.command(&["--json", "channels", "import"]);
        let done = command.arg(&file).env("IMPORTED_KEY", "sk-imported").output().unwrap();
        (done.status.code(), serde_json::from_slice::<Value>(&done.stdout).unwrap_or_default())
    };
    let channel = r#"{"kind": "channel", "name": "imported", "base_url": "http://127.0.0.1:9/v1", "credential_env": "IMPORTED_KEY", "models": {"imported": "a"}}"#;
    let twice = channel.replace(r#"{"imported": "a"}"#, r#"{"imported": "a", "imported": "b"}"#);
    let model = r#"{"kind": "model", "name": "imported"}"#;
    let price = r#"{"kind": "price", "model": "imported", "per_million": {"input": "1", "input": "100", "output": "2"}}"#;

    let (exit, told) = import(&[model, price, &twice].join("\n"));
    assert_eq!((exit, &told["applied"]), (Some(1), &json!(false)), "{told:#}");
    let faults: Vec<_> = told["faults"].as_array().unwrap().iter().map(|fault| &fault["field"]).collect();
    assert_eq!(faults, ["per_million.input", "models.imported"], "{told:#}");
    assert_eq!(told["faults"][0]["reason"], "is there twice");

    let good = format!("\u{feff}{channel}\n{}\n", model.replace("imported", "other"));
    let (exit, told) = import(&format!("\u{feff}{model}\n{channel}\n"));
    assert_eq!((exit, &told["applied"]), (Some(0), &json!(true)), "{told:#}");
    // Over the API as well, and with a key to put in on the marked line itself.
    let (_, told) = import(&good.replace(r#""name": "imported""#, r#""name": "second""#));
    assert_eq!(told["applied"], json!(true), "{told:#}");
    let lines = [format!("\u{feff}{}", model.replace("imported", "third")), format!("\u{feff}{model}")];
    let told = demo.admin_post("/api/channels/import", &json!({"lines": lines}));
    assert_eq!(told["faults"].as_array().unwrap().len(), 1, "a mark within a file is none: {told:#}");
    assert_eq!(told["faults"][0]["line"], 2);
}
