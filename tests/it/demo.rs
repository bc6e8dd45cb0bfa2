//! The demo itself: its ready line, its restarts, its stop, on both databases; and that no secret leaves it.

use std::collections::HashSet;

use serde_json::json;

use crate::support::demo::Demo;
use crate::support::http::Ask;
use crate::support::postgres::TestDatabase;
use crate::support::secrets::{KEPT, files};

const MODEL: &str = "gpt-5-mini";

/// The contract's ready line.
#[test]
fn the_ready_line_is_as_the_contract_says() {
    let demo = Demo::start();
    let ready = demo.ready();
    let members: HashSet<_> = ready.as_object().unwrap().keys().map(String::as_str).collect();
    let contract = ["base_url", "console_url", "pid", "admin", "users", "keys", "upstream"];
    assert_eq!(members, HashSet::from(contract));
    assert_eq!(ready["base_url"], format!("http://{}/v1", demo.address()));
    assert_eq!(ready["upstream"]["pid"].as_u64(), demo.upstream_pid().map(u64::from));
    for (name, key) in ready["keys"].as_object().unwrap() {
        let kind = if name == "test_env" { "tg-test-" } else { "tg-live-" };
        assert!(key.as_str().unwrap().starts_with(kind), "{name}");
    }
    let bill_url = ready["upstream"]["bill_url"].as_str().unwrap().strip_prefix("http://").unwrap();
    let (address, path) = bill_url.split_once('/').unwrap();
    let mut upstream = crate::support::http::Connection::open(address.parse().unwrap()).unwrap();
    let bill = upstream.ask(&Ask::get(format!("/{path}"))).unwrap();
    assert_eq!(bill.text().lines().count(), demo.bill().len());
}

/// The upstream outlives a gateway that is killed, and is found again with its bill; `--fresh` empties a
/// demo's folder and refuses any other.
#[test]
fn a_demo_restarted_on_its_folder_finds_its_upstream_and_its_keys() {
    let mut demo = Demo::start();
    let (keys, upstream) = (demo.ready()["keys"].clone(), demo.ready()["upstream"].clone());
    let billed = demo.bill();
    demo.kill();
    demo.restart();
    assert_eq!((&demo.ready()["keys"], &demo.ready()["upstream"]), (&keys, &upstream));
    assert_eq!(demo.bill(), billed);
    demo.stop();
    demo.launch(|mut command| {
        command.arg("--fresh");
        command
    });
    assert_ne!(demo.ready()["keys"], keys);

    let other = tempfile::tempdir().unwrap();
    let kept = other.path().join("letter.txt");
    std::fs::write(&kept, "dear reader").unwrap();
    let mut refused = std::process::Command::new(env!("CARGO_BIN_EXE_tallygate"));
    refused.args(["demo", "--fresh", "--listen", "127.0.0.1:0", "--data"]).arg(other.path());
    assert_eq!(refused.output().unwrap().status.code(), Some(3));
    assert_eq!(std::fs::read_to_string(kept).unwrap(), "dear reader");
}

/// The same demo on PostgreSQL: chat, stream, refusal, receipt, crash and restart, verify.
#[test]
fn the_demo_runs_on_postgresql() {
    let database = TestDatabase::new();
    let mut demo = Demo::start_on(database.url().expose());
    let key = demo.key("healthy");
    let refused = demo.chat(&demo.key("key_budget_spent"), MODEL, "Hello");
    assert_eq!(
        (refused.head.status, &refused.json()["error"]["code"]),
        (402, &json!("key_budget_exhausted"))
    );
    let whole = demo.chat(&key, MODEL, "Hello");
    assert_eq!(whole.ok()["choices"][0]["message"]["content"], "echo: Hello");
    let streamed = demo.ask(&Ask::chat_with(&key, "demo-slow", "Hello", json!({"stream": true})));
    assert!(streamed.is_whole_answer(), "{}", streamed.text());
    let ids = [&whole, &streamed, &refused].map(|reply| reply.head.request_id().to_owned());
    let receipts = |demo: &Demo| ids.clone().map(|id| demo.receipt(&id));
    demo.kill();
    demo.restart();
    let first = receipts(&demo);
    let states: Vec<_> = first.iter().map(|receipt| receipt["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["settled", "settled", "none"]);
    assert_eq!(first[0]["charged"], whole.head.header("x-tallygate-cost").unwrap());
    assert_eq!(first[1]["charged"], demo.billed(&ids[1])["cost"]);
    demo.stop();
    demo.restart();
    assert_eq!(receipts(&demo), first);
    demo.verify();
    // The database goes after the demo that uses it.
    drop(demo);
    drop(database);
}

/// Shorter pieces than this cannot be told from chance.
const PIECE: usize = 20;

fn pieces(secrets: &[String]) -> HashSet<&[u8]> {
    secrets.iter().flat_map(|secret| secret.as_bytes().windows(PIECE)).collect()
}

#[track_caller]
fn assert_clean(place: &str, bytes: &[u8], secrets: &HashSet<&[u8]>) {
    let found = bytes.windows(PIECE).position(|piece| secrets.contains(piece));
    assert_eq!(found, None, "{place} holds a piece of a secret, at this byte of {}", bytes.len());
}

/// No key, no channel's credential, no admin token, whole or in pieces: not in a file of the data directory,
/// the log at its most talkative, an answer, or the printed configuration.
#[test]
fn no_secret_leaves_the_demo() {
    let mut demo = Demo::start_with(&[("RUST_LOG", "trace")]);
    let (keys, token) = (demo.ready()["keys"].clone(), demo.admin_token());
    let credential = std::fs::read_to_string(demo.dir().join("upstream/upstream-key")).unwrap();
    let mut secrets: Vec<String> =
        keys.as_object().unwrap().values().map(|key| key.as_str().unwrap().to_owned()).collect();
    secrets.extend([token.clone(), credential.trim().to_owned()]);
    let key = demo.key("healthy");
    let quoted = [
        format!("\"{key}\""),
        format!("{key}\u{200b}"),
        format!("Bearer {key}"),
        format!("{key}x"),
        key[..40].to_owned(),
    ];
    let mut asks: Vec<Ask> = quoted.iter().map(|key| Ask::chat(key, MODEL, "Hello")).collect();
    for name in keys.as_object().unwrap().keys() {
        asks.push(Ask::chat(&demo.key(name), MODEL, "Hello"));
        asks.push(Ask::get("/v1/key").bearer(&demo.key(name)));
    }
    for model in ["demo-500", "demo-429", "demo-cut", "demo-no-credit", "demo-no-usage", "nowhere"] {
        for stream in [false, true] {
            asks.push(Ask::chat_with(&key, model, "Hello", json!({"stream": stream})));
        }
    }
    asks.push(Ask::chat(&key, MODEL, "Hello").header("x-api-key", key.clone()));
    asks.push(Ask::get("/v1/models").header("x-api-key", demo.key("revoked")));
    asks.push(Ask::get("/v1/nothing").bearer(&key));
    for path in ["accounts", "keys", "channels", "requests", "models", "prices", "groups"] {
        asks.push(Ask::get(format!("/api/{path}?limit=1000")).bearer(&token));
        asks.push(Ask::get(format!("/api/{path}")).bearer(&key));
        asks.push(Ask::get(format!("/api/{path}")).bearer(&format!("{}x", &token[..token.len() - 1])));
    }
    let secrets = pieces(&secrets);
    for ask in &asks {
        let reply = demo.ask(ask);
        assert_clean(
            &format!("an answer ({})", reply.head.status),
            format!("{:?}", reply.head).as_bytes(),
            &secrets,
        );
        assert_clean(&format!("an answer ({})", reply.head.status), &reply.body, &secrets);
    }
    let mut config = demo.command(&["config", "show"]);
    config.env("TALLYGATE_ADMIN__TOKEN", &token);
    let shown = config.output().unwrap();
    assert!(shown.status.success() && String::from_utf8_lossy(&shown.stdout).contains("[admin]"));
    assert_clean("config show", &shown.stdout, &secrets);
    // Once as a crash leaves it, with what is only in the write-ahead logs; once after a clean stop.
    demo.kill();
    let left = files(&demo.dir());
    assert!(
        left.iter().any(|(name, bytes)| name.ends_with("journal.db-wal") && !bytes.is_empty()),
        "no journal"
    );
    left.iter().for_each(|(name, bytes)| assert_clean(name, bytes, &secrets));
    demo.restart();
    demo.stop();
    files(&demo.dir()).iter().for_each(|(name, bytes)| assert_clean(name, bytes, &secrets));
    assert_clean("the log", demo.log().as_bytes(), &secrets);
    // The scan does find what is there.
    let seeded = demo.ready()["keys"]["healthy"].as_str().unwrap();
    assert!(seeded.as_bytes().windows(PIECE).any(|piece| secrets.contains(piece)));
    let kept: Vec<_> = KEPT.iter().filter(|name| demo.dir().join(name).exists()).collect();
    assert!(kept.len() >= 2, "{kept:?}");
}
