//! Whether a call came to the right place, from the right one, and under the right name: base URLs, proxies, models.

use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::gateway::assert_refused;
use crate::support::demo::{Demo, wait_until};
use crate::support::http::{Ask, Connection, Reply};
use crate::support::port::Port;

const MODEL: &str = "gpt-5-mini";

fn evidence(demo: &Demo, key: &str, reply: &Reply) -> Vec<(String, String, String)> {
    let why = demo.own(key, &format!("/v1/requests/{}/why", reply.head.request_id()));
    let rung = why["ladder"].as_array().unwrap().iter().find(|rung| rung["rung"] == 8).unwrap();
    let text = |found: &Value, name: &str| found[name].as_str().unwrap().to_owned();
    let steps = rung["evidence"].as_array().unwrap().iter();
    steps.map(|found| (text(found, "check"), text(found, "finding"), text(found, "text"))).collect()
}

fn finding<'e>(steps: &'e [(String, String, String)], check: &str) -> (&'e str, &'e str) {
    let (_, finding, text) =
        steps.iter().find(|(known, ..)| known == check).unwrap_or_else(|| panic!("{check}: {steps:?}"));
    (finding, text)
}

/// S36, F5: a typing error, a client that rewrites the name, and a base URL without /v1 are three verdicts, each with
/// its evidence.
#[test]
fn s36_a_typo_a_rewritten_name_and_a_wrong_base_url_are_told_apart() {
    let demo = Demo::start();
    let key = demo.key("healthy");
    let not_found = ("model_not_found", 404, "model", "caller", false);
    let typo = demo.chat(&key, "gpt-5-mimi", "Hello");
    let body = assert_refused(&demo, &typo, not_found);
    assert!(body["error"]["message"].as_str().unwrap().contains(MODEL), "{body:#}");
    let steps = evidence(&demo, &key, &typo);
    let names: Vec<_> = steps.iter().map(|(check, ..)| &**check).collect();
    assert_eq!(names, ["listed", "group", "balance", "channel", "rewritten", "base_url"]);
    assert_eq!(finding(&steps, "listed").0, "fail");
    assert!(finding(&steps, "listed").1.contains(MODEL), "{steps:?}");
    assert_eq!(finding(&steps, "rewritten").0, "looked");
    for passed in ["group", "balance", "channel", "base_url"] {
        assert_eq!(finding(&steps, passed).0, "pass", "{steps:?}");
    }
    for rewritten in ["openai/gpt-5-mini", "gpt-5-mini:free", "gpt-5-mini-2025-08-07", "GPT-5 Mini"] {
        let reply = demo.ask(&Ask::chat(&key, rewritten, "Hello").header("user-agent", "litellm/1.80"));
        let body = assert_refused(&demo, &reply, not_found);
        assert!(body["error"]["message"].as_str().unwrap().contains("names: gpt-5-mini"), "{body:#}");
        let steps = evidence(&demo, &key, &reply);
        let (found, text) = finding(&steps, "rewritten");
        assert!(
            found == "fail" && text.contains("litellm/1.80") && text.contains("gpt-5-mini with"),
            "{text}"
        );
    }
    let wrong = ("wrong_base_url", 404, "request", "caller", false);
    for path in ["/chat/completions", "/v1/v1/chat/completions", "/console/chat/completions"] {
        let reply = demo.ask(&Ask::chat(&key, MODEL, "Hello").at(path));
        let body = assert_refused(&demo, &reply, wrong);
        let base = format!("http://{}/v1", demo.address());
        let hint = body["error"]["hint"].as_str().unwrap();
        assert!(hint.contains(&format!("base_url=\"{base}\"")) && hint.contains("baseURL"), "{hint}");
    }
    // In a group without the model, the group is what fails.
    let reply = demo.chat(&demo.key("group_without_model"), MODEL, "Hello");
    assert_eq!(finding(&evidence(&demo, &demo.key("group_without_model"), &reply), "group").0, "fail");
}

/// A flood of bad keys does not fill the log: what comes too fast is counted, told so, and recorded as one row.
#[test]
fn a_flood_of_bad_keys_is_counted() {
    let mut demo = Demo::start();
    let mut connection = demo.connect();
    let ask = Ask::chat("sk-nobody-has-ever-made-this-key-0123456789", MODEL, "Hello");
    let replies: Vec<_> = (0..500).map(|_| connection.ask(&ask).unwrap()).collect();
    let (told, counted): (Vec<_>, Vec<_>) =
        replies.iter().partition(|reply| reply.json()["error"]["why_url"].is_string());
    assert!(told.len() >= 100 && counted.len() > 200, "{} {}", told.len(), counted.len());
    assert!(counted.iter().all(|reply| reply.json()["error"]["code"] == "unknown_key"));
    demo.chat(&demo.key("healthy"), MODEL, "Hello").ok();
    demo.stop();
    demo.restart();
    let rows = demo.admin("/api/requests?code=unknown_key&limit=1000");
    let rows = rows["data"].as_array().unwrap();
    let calls: u64 = rows.iter().map(|row| row["calls"].as_u64().unwrap()).sum();
    assert_eq!(calls, 500);
    assert_eq!(rows.len(), told.len() + 1);
}

/// D8: behind a trusted proxy the caller's address is the one that the proxy tells; nobody else is believed.
#[test]
fn d8_a_trusted_proxy_tells_the_callers_address() {
    for (trusted, answer) in [("127.0.0.0/8, ::1", 200), ("10.0.0.0/8", 403)] {
        let demo = Demo::start_with(&[("TALLYGATE_SERVER__TRUSTED_PROXIES", trusted)]);
        let key = demo.key("ip_denied");
        let ask = Ask::chat(&key, MODEL, "Hello").header("x-forwarded-for", "198.51.100.1, 192.0.2.55");
        let reply = demo.ask(&ask);
        assert_eq!(reply.head.status, answer, "{}", reply.text());
        let row = demo.row(reply.head.request_id());
        assert_eq!(row["client_address"], if answer == 200 { "192.0.2.55" } else { "127.0.0.1" });
    }
}

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _exit = self.0.wait();
    }
}

/// F5: http:// to a port that speaks TLS is answered with the right base URL, and the call is in the log.
#[test]
fn f5_plain_http_at_a_tls_port_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let identity = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let file = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let cert = file("cert.pem", identity.cert.pem());
    let key = file("key.pem", identity.signing_key.serialize_pem());
    let port = Port::reserve();
    let free = port.address;
    let child = Command::new(env!("CARGO_BIN_EXE_tallygate"))
        .args(["serve", "--data"])
        .arg(folder.path().join("data"))
        .env("TALLYGATE_SERVER__LISTEN", free.to_string())
        .env("TALLYGATE_TLS__CERT_FILE", cert)
        .env("TALLYGATE_TLS__KEY_FILE", key)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _server = Server(child);
    wait_until("the server listens", || Connection::open(free).is_ok());
    let reply = Connection::open(free).unwrap().ask(&Ask::chat("sk-whatever", MODEL, "Hello")).unwrap();
    let error = &reply.json()["error"];
    assert_eq!((reply.head.status, &error["code"]), (404, &json!("wrong_base_url")));
    assert!(error["message"].as_str().unwrap().contains(&format!("https://{free}/v1")), "{error:#}");
}

fn tallygate(args: &[&str]) -> (Option<i32>, Value) {
    let out = Command::new(env!("CARGO_BIN_EXE_tallygate"))
        .args(["--json", "--lang", "en"])
        .args(args)
        .output()
        .unwrap();
    let answer = serde_json::from_slice(&out.stdout)
        .unwrap_or_else(|_| panic!("{args:?}: {}", String::from_utf8_lossy(&out.stderr)));
    (out.status.code(), answer)
}

/// The doctor finds what is wrong with a base URL, and who answers behind it.
#[test]
fn the_doctor_examines_a_base_url() {
    let demo = Demo::start();
    let right = format!("http://{}/v1", demo.address());
    let (exit, found) = tallygate(&["doctor", "base-url", &right]);
    assert_eq!((exit, &found["server"]["found"]), (Some(0), &json!("gateway")), "{found:#}");
    let (exit, found) = tallygate(&["doctor", "base-url", &format!("http://{}", demo.address())]);
    assert_eq!((exit, &found["right"]), (Some(1), &json!(right)), "{found:#}");
    assert_eq!(
        (&found["problems"][0]["name"], &found["server"]["found"]),
        (&json!("missing_version"), &json!("gateway"))
    );
    let upstream = demo.ready()["upstream"]["url"].as_str().unwrap().to_owned();
    let (exit, found) = tallygate(&["doctor", "base-url", &upstream]);
    assert_eq!((exit, &found["server"]["found"]), (Some(1), &json!("other")), "{found:#}");
    let port = Port::reserve();
    let closed = port.address;
    let (exit, found) = tallygate(&["doctor", "base-url", &format!("http://{closed}/v1")]);
    assert_eq!((exit, &found["server"]["found"]), (Some(1), &json!("nobody")), "{found:#}");
}

/// E7: the operator's simulation of a key, from any address, leaves books and counters as they were.
#[test]
fn e7_a_simulation_by_command_decides_as_a_call_would() {
    let demo = Demo::start();
    let id = |name: &str| demo.own(&demo.key(name), "/v1/key")["id"].as_str().unwrap().to_owned();
    let simulate = |key: &str, more: &[&str]| {
        let out =
            demo.command(&[&["simulate", key, "--model", MODEL, "--json"], more].concat()).output().unwrap();
        let answer: Value = serde_json::from_slice(&out.stdout)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&out.stderr)));
        (out.status.code(), answer["why"]["refusal"]["code"].clone())
    };
    // What moved, what is held, and what is counted against every limit.
    let books = || {
        let report = demo.verify();
        let moved = ["batches", "records", "effects", "calls"].map(|name| report[name].clone());
        (moved, demo.held(), demo.admin("/api/keys"), demo.admin("/api/accounts"))
    };
    let before = books();
    assert_eq!(simulate(&id("healthy"), &[]), (Some(0), Value::Null));
    assert_eq!(simulate(&id("explicit_deny"), &[]), (Some(1), json!("permission_denied_explicit")));
    assert_eq!(simulate(&id("ip_denied"), &["--address", "192.0.2.9"]), (Some(0), Value::Null));
    assert_eq!(
        simulate(&id("ip_denied"), &["--address", "198.51.100.9"]),
        (Some(1), json!("key_ip_not_allowed"))
    );
    assert_eq!(
        simulate(&id("low_balance"), &["--max-tokens", "9"]),
        (Some(1), json!("balance_insufficient"))
    );
    assert_eq!(books(), before);
}
