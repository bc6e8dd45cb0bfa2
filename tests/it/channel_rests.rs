//! How long channels rest, whatever their upstreams ask for, and what calls of before a change say of them (H2).

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;

use serde_json::{Value, json};

use crate::support::demo::Demo;
use crate::support::http::{Ask, Reply};

const MODEL: &str = "gpt-5-mini";
const GOOD: &str = r#"{"id":"c","object":"chat.completion","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}"#;

/// An upstream that answers each call, on a thread of its own, with what is made of the credential in it: status,
/// headers and body. Its base URL.
fn upstream(answer: impl Fn(&str) -> (u16, String, &'static str) + Clone + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let answer = answer.clone();
            std::thread::spawn(move || serve(client, &answer));
        }
    });
    url
}

/// One call; whoever closes early is the test's to notice.
fn serve(mut client: TcpStream, answer: &impl Fn(&str) -> (u16, String, &'static str)) -> Option<()> {
    let mut reader = BufReader::new(client.try_clone().ok()?);
    let (mut length, mut credential) = (0, String::new());
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            match line.trim_end().is_empty() {
                true => break,
                false => continue,
            }
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().ok()?,
            "authorization" => value.trim_start_matches("Bearer ").clone_into(&mut credential),
            _ => {}
        }
    }
    reader.read_exact(&mut vec![0; length]).ok()?;
    let (status, headers, body) = answer(&credential);
    let count = body.len();
    let head = format!("HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: {count}\r\n{headers}");
    client.write_all(format!("{head}content-type: application/json\r\n\r\n{body}").as_bytes()).ok()
}

/// A channel that comes before the demo's own. Its id.
fn channel(demo: &Demo, url: &str, more: &Value) -> String {
    let mut body = json!({
        "name": "tested", "base_url": url, "models": {MODEL: MODEL}, "priority": 10, "cost_share": "0.5",
    });
    body.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
    demo.admin_post("/api/channels", &body)["id"].as_str().unwrap().to_owned()
}

fn change(demo: &Demo, channel: &str, to: &Value) {
    let path = format!("/api/channels/{channel}");
    demo.ask(&Ask::new("PATCH", path).raw_body(to.to_string()).bearer(&demo.admin_token())).ok();
}

/// Takes the demo's own channel out, so that only that of the test serves.
fn alone(demo: &Demo) {
    let own = demo.admin("/api/channels?name=simulated%20upstream")["data"][0]["id"].clone();
    change(demo, own.as_str().unwrap(), &json!({"status": "disabled"}));
}

fn ask(key: &str) -> Ask {
    Ask::chat_with(key, MODEL, "hello", json!({"max_tokens": 100}))
}

/// What it was told, and for how long it was told to wait.
fn told(reply: &Reply) -> (String, Option<u64>) {
    let code = reply.json()["error"]["code"].as_str().unwrap_or_default().to_owned();
    (code, reply.head.header("retry-after").map(|wait| wait.parse().unwrap()))
}

/// A `Retry-After` makes a rest longer, up to an hour, and that of a 429 no shorter than a second; what the caller is told
/// is the rest.
#[test]
fn h2_callers_are_told_how_long_a_channel_rests() {
    // Status, what it asks for, what the first caller is told, and how long the rest is at the least and at the most.
    let cases = [
        (429, "7", ("upstream_rate_limited", Some(7)), 3..=7),
        (429, "86400", ("upstream_rate_limited", Some(3_600)), 3_500..=3_600),
        (402, "1", ("upstream_out_of_credit", None), 250..=300),
        (401, "1", ("upstream_auth_failed", None), 250..=300),
        (500, "0", ("upstream_error", Some(10)), 5..=10),
    ];
    let demo = Demo::start_with(&[("TALLYGATE_UPSTREAM__COOL_DOWN_FAILURES", "1")]);
    alone(&demo);
    let account = demo.account("anna", "10");
    let key = demo.key_of(&account, json!([]));
    for (status, asked, (code, wait), rests) in cases {
        let url = upstream(move |_| (status, format!("retry-after: {asked}\r\n"), "{}"));
        let id = channel(&demo, &url, &json!({"name": format!("{status} {asked}"), "credential": "sk-a"}));
        assert_eq!(told(&demo.ask(&ask(&key))), (code.to_owned(), wait), "{status} {asked}");
        let (code, wait) = told(&demo.ask(&ask(&key)));
        assert_eq!(code, "channel_cooling_down");
        assert!(rests.contains(&wait.unwrap()), "{status} {asked}: {wait:?}");
        change(&demo, &id, &json!({"status": "disabled"}));
    }
}

/// A channel that does not rest is told to be asked again in a second, and never at once.
#[test]
fn h2_nobody_is_told_to_come_back_at_once() {
    let demo = Demo::start();
    alone(&demo);
    let url = upstream(|_| (429, "retry-after: 0\r\n".to_owned(), "{}"));
    channel(&demo, &url, &json!({"credential": "sk-a", "cools_down": false}));
    let account = demo.account("anna", "10");
    let key = demo.key_of(&account, json!([]));
    for _ in 0..2 {
        assert_eq!(told(&demo.ask(&ask(&key))), ("upstream_rate_limited".to_owned(), Some(1)));
    }
}

/// Credentials that are all refused do not use up the attempts: one other is tried, and then the next channel.
#[test]
fn h2_refused_credentials_leave_room_for_another_channel() {
    let demo = Demo::start_with(&[("TALLYGATE_UPSTREAM__ATTEMPTS_MAX", "2")]);
    let url = upstream(|_| (401, String::new(), "{}"));
    let dead = channel(&demo, &url, &json!({"credentials": ["sk-a", "sk-b", "sk-c"]}));
    let account = demo.account("anna", "10");
    let key = demo.key_of(&account, json!([]));
    let tries = |times: usize| {
        let reply = demo.ask(&ask(&key));
        reply.ok();
        let row = demo.row(reply.head.request_id());
        let attempts = row["attempts"].as_array().unwrap().clone();
        assert_eq!(attempts.iter().filter(|attempt| attempt["channel"] == dead).count(), times, "{row:#}");
        assert_eq!(attempts.len(), times + 1, "{row:#}");
    };
    tries(2);
    // The third credential is found by the next call, and then the channel rests.
    tries(1);
    tries(0);
}

/// Whatever an upstream quotes: a credential is in no row, no test and no answer.
#[test]
fn h2_an_upstream_that_quotes_its_credential_shows_it_to_nobody() {
    const QUOTE: &str = r#"{"error":{"message":"Incorrect API key provided: sk-very-secret (400)"}}"#;
    let demo = Demo::start();
    alone(&demo);
    let account = demo.account("anna", "10");
    let key = demo.key_of(&account, json!([]));
    for status in [400, 401, 500] {
        let url = upstream(move |_| (status, String::new(), QUOTE));
        let more = json!({"name": format!("quotes {status}"), "credential": "sk-very-secret"});
        let id = channel(&demo, &url, &more);
        let reply = demo.ask(&ask(&key));
        let row = demo.row(reply.head.request_id());
        let tested = demo.admin_post(&format!("/api/channels/{id}/test"), &json!({}));
        for told in [reply.text(), row.to_string(), tested.to_string()] {
            assert!(!told.contains("sk-very-secret"), "{status}: {told}");
        }
        assert!(row["upstream_error"].as_str().unwrap().contains("provided: [hidden] (400)"), "{row:#}");
        change(&demo, &id, &json!({"status": "disabled"}));
    }
}

/// One account of several has reached its limit: the others serve, in the same call and in those that follow.
#[test]
fn h2_a_credential_at_its_limit_leaves_the_others_to_serve() {
    let demo = Demo::start();
    alone(&demo);
    let url = upstream(|credential| match credential {
        "sk-b" => (200, String::new(), GOOD),
        _ => (429, "retry-after: 60\r\n".to_owned(), "{}"),
    });
    let id = channel(&demo, &url, &json!({"credentials": ["sk-a", "sk-b"]}));
    let account = demo.account("anna", "10");
    let key = demo.key_of(&account, json!([]));
    let mut tried = Vec::new();
    for _ in 0..4 {
        let reply = demo.ask(&ask(&key));
        reply.ok();
        tried.push(demo.row(reply.head.request_id())["attempts"].as_array().unwrap().len());
    }
    assert_eq!(tried.iter().sum::<usize>(), 5, "it was found out once: {tried:?}");
    let health = demo.admin("/api/channels/health");
    let own = health["data"].as_array().unwrap().iter().find(|row| row["channel"] == id).unwrap();
    let trouble = &own["troubles"][0];
    assert_eq!(
        (&trouble["model"], &trouble["credential"], &trouble["reason"]),
        (&json!(MODEL), &json!(1), &json!("rate_limited"))
    );
    // All of them: the channel rests, and says until when.
    change(&demo, &id, &json!({"credentials": ["sk-a", "sk-c"]}));
    assert_eq!(told(&demo.ask(&ask(&key))), ("upstream_rate_limited".to_owned(), Some(60)));
    assert_eq!(told(&demo.ask(&ask(&key))).0, "channel_cooling_down");
}

/// A call that was under way with the old credential is refused after the new one was put in: the new one goes on.
#[test]
fn h2_a_late_refusal_is_of_the_old_credential() {
    let demo = Demo::start();
    alone(&demo);
    let (arrived, arrivals) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let released = std::sync::Arc::new(std::sync::Mutex::new(released));
    let url = upstream(move |credential| {
        if credential == "sk-new" {
            return (200, String::new(), GOOD);
        }
        let _heard = arrived.send(());
        let _released = released.lock().unwrap().recv();
        (401, String::new(), "{}")
    });
    let id = channel(&demo, &url, &json!({"credential": "sk-old"}));
    let account = demo.account("anna", "10");
    let key = demo.key_of(&account, json!([]));
    let mut slow = demo.connect();
    slow.send(&ask(&key)).unwrap();
    arrivals.recv().unwrap();
    change(&demo, &id, &json!({"credential": "sk-new"}));
    demo.ask(&ask(&key)).ok();
    release.send(()).unwrap();
    // Another credential of the same channel may do better, and does not: there is one.
    assert_eq!(told(&slow.reply().unwrap()).0, "upstream_auth_failed");
    demo.ask(&ask(&key)).ok();
}
