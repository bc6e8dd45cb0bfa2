//! The simulated upstream, spoken to over its socket: its answers, its
//! failures, and that no answer leaves before its row of the bill.

use std::path::Path;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use ledger::{TokenClass, Usage};
use serde_json::{Value, json};
use tallygate::demo::upstream::{self, BillOutcome, BillRow};
use tallygate::gateway::provider::openai::usage_from_body;
use tallygate::gateway::provider::openai::{
    Delivered, EventKind, UpstreamFaultKind, classify, inspect_event,
};
use tallygate::gateway::sse::{Cut, SseReader, Verdict};
use tallygate::gateway::tokens::{Family, count_delivered, count_text};

struct Upstream {
    address: std::net::SocketAddr,
    key: String,
    dir: std::path::PathBuf,
    task: tokio::task::JoinHandle<()>,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
    /// The connection broke before the body's end.
    broken: bool,
}

impl Upstream {
    async fn start(dir: &Path) -> Self {
        let running = upstream::start("127.0.0.1:0".parse().unwrap(), dir).await.unwrap();
        let address = running.address();
        let key = upstream::key_in(dir).unwrap().expose().to_owned();
        Self { address, key, dir: dir.to_path_buf(), task: tokio::spawn(running.serve()) }
    }

    async fn send(&self, method: &str, path: &str, key: &str, body: String) -> Answer {
        let tcp = tokio::net::TcpStream::connect(self.address).await.unwrap();
        let (mut client, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(tcp)).await.unwrap();
        let driver = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "upstream")
            .header("authorization", format!("Bearer {key}"))
            .header("x-client-request-id", "req_of_the_caller")
            .body(Full::new(Bytes::from(body)))
            .unwrap();
        let (head, mut rest) = client.send_request(request).await.unwrap().into_parts();
        let mut answer =
            Answer { status: head.status, headers: head.headers, body: Vec::new(), broken: false };
        while let Some(frame) = rest.frame().await {
            match frame {
                Ok(frame) => answer.body.extend_from_slice(&frame.into_data().unwrap_or_default()),
                Err(_) => answer.broken = true,
            }
        }
        driver.abort();
        answer
    }

    async fn chat(&self, body: &Value) -> Answer {
        self.send("POST", "/v1/chat/completions", &self.key, body.to_string()).await
    }

    /// The rows as they stand on disk at this moment.
    fn rows(&self) -> Vec<BillRow> {
        let text = std::fs::read_to_string(self.dir.join("upstream-bill.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn fault(&self) -> UpstreamFaultKind {
        classify(self.status.as_u16(), &self.headers, &self.body, 0).kind
    }

    /// Kinds of the events, the text, the last usage.
    fn events(&self) -> (Vec<EventKind>, Delivered, Option<Usage>) {
        let (mut kinds, mut delivered, mut usage) = (Vec::new(), Delivered::default(), None);
        let mut reader = SseReader::new(1 << 20);
        let judge = |event: &tallygate::gateway::sse::Event<'_>| {
            let facts = inspect_event(event.data);
            kinds.push(facts.kind);
            delivered.push(event.data);
            usage = facts.usage.or(usage);
            Verdict::Forward
        };
        reader.feed(&Bytes::copy_from_slice(&self.body), judge, &mut Cut::default()).unwrap();
        (kinds, delivered, usage)
    }
}

fn ask(model: &str, text: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": text}]})
}

fn ask_stream(model: &str, text: &str, include_usage: bool) -> Value {
    let mut body = ask(model, text);
    body["stream"] = json!(true);
    if include_usage {
        body["stream_options"] = json!({"include_usage": true});
    }
    body
}

/// Tokens of a row equal a usage.
fn same(row: &BillRow, usage: &Usage) -> bool {
    let tokens = &row.tokens;
    let billed = [tokens.input, tokens.cache_read, tokens.output, tokens.reasoning, tokens.image_in];
    let classes = [
        TokenClass::Input,
        TokenClass::CacheRead,
        TokenClass::Output,
        TokenClass::Reasoning,
        TokenClass::ImageIn,
    ];
    billed == classes.map(|class| usage.get(class))
}

#[tokio::test]
async fn an_answer_echoes_and_its_row_is_on_disk_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let upstream = Upstream::start(dir.path()).await;
    let answer = upstream.chat(&ask("gpt-5-mini", "hello there")).await;
    let rows = upstream.rows();
    assert_eq!(answer.status, StatusCode::OK);
    let body = answer.json();
    assert_eq!(body["choices"][0]["message"]["content"], "echo: hello there");
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].upstream_request_id, answer.headers["x-request-id"].to_str().unwrap());
    assert_eq!(rows[0].answer_id, body["id"].as_str().unwrap());
    assert_eq!(rows[0].gateway_request_id.as_deref(), Some("req_of_the_caller"));
    assert!(same(&rows[0], &usage_from_body(&answer.body).unwrap()));
    // $0.25 in and $2 out per million tokens, thought included.
    let tokens = rows[0].tokens;
    let exact = i128::from(tokens.input) * 250 + i128::from(tokens.output + tokens.reasoning) * 2000;
    assert_eq!(i128::from(rows[0].cost_nano), exact);
    assert_eq!(ledger::Nano::parse_decimal(&rows[0].cost).unwrap().0, rows[0].cost_nano);
}

#[tokio::test]
async fn a_stream_says_its_usage_only_when_asked() {
    let dir = tempfile::tempdir().unwrap();
    let upstream = Upstream::start(dir.path()).await;
    let asked = upstream.chat(&ask_stream("gpt-5-mini", "the quick brown fox", true)).await;
    let (kinds, delivered, usage) = asked.events();
    assert_eq!(delivered.choices()[0].text, "echo: the quick brown fox");
    assert_eq!(kinds.last(), Some(&EventKind::Done));
    assert_eq!(kinds[kinds.len() - 2], EventKind::UsageOnly);
    assert!(same(&upstream.rows()[0], &usage.unwrap()));
    let silent = upstream.chat(&ask_stream("gpt-5-mini", "the quick brown fox", false)).await;
    let (kinds, _, usage) = silent.events();
    assert!(usage.is_none() && !kinds.contains(&EventKind::UsageOnly));
    assert_eq!(upstream.rows().len(), 2);
}

#[tokio::test]
async fn s14_a_usage_beside_choices_and_deepseeks_words_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let upstream = Upstream::start(dir.path()).await;
    let long = "one two three four ".repeat(400);
    for cached in [false, true] {
        let answer = upstream.chat(&ask_stream("deepseek-chat", &long, true)).await;
        let (kinds, _, usage) = answer.events();
        assert!(!kinds.contains(&EventKind::UsageOnly));
        let usage = usage.unwrap();
        assert_eq!(usage.get(TokenClass::CacheRead) > 1000, cached);
        assert!(same(upstream.rows().last().unwrap(), &usage));
    }
}

#[tokio::test]
async fn what_was_delivered_without_a_usage_counts_the_same_on_both_sides() {
    let dir = tempfile::tempdir().unwrap();
    let upstream = Upstream::start(dir.path()).await;
    let text = "给你 the quick brown fox, twice, and then some more of it";
    let silent = upstream.chat(&ask_stream("demo-no-usage", text, true)).await;
    let (_, delivered, usage) = silent.events();
    assert!(usage.is_none());
    let counted = count_delivered(Family::O200k, &delivered).get(TokenClass::Output);
    assert_eq!(upstream.rows()[0].tokens.output, counted);
    assert!(usage_from_body(&upstream.chat(&ask("demo-no-usage", text)).await.body).is_none());
    // Several answers whose pieces come mixed.
    let mut several = ask_stream("demo-no-usage", text, false);
    several["n"] = json!(3);
    let (_, delivered, _) = upstream.chat(&several).await.events();
    let counted = count_delivered(Family::O200k, &delivered).get(TokenClass::Output);
    assert_eq!(upstream.rows()[2].tokens.output, counted);

    let cut = upstream.chat(&ask_stream("demo-cut", text, true)).await;
    let (kinds, delivered, _) = cut.events();
    assert!(cut.broken && !kinds.contains(&EventKind::Done));
    assert!(!delivered.choices()[0].text.is_empty() && delivered.choices()[0].text.len() < text.len());
    let row = upstream.rows().pop().unwrap();
    assert_eq!(row.outcome, BillOutcome::Cut);
    assert_eq!(row.tokens.output, count_text(Family::O200k, &delivered.choices()[0].text));
    // Half of a whole body is no answer and has no row.
    let rows = upstream.rows().len();
    assert!(upstream.chat(&ask("demo-cut", text)).await.broken);
    assert_eq!(upstream.rows().len(), rows);
}

#[tokio::test]
async fn failures_are_those_of_the_real_format_and_cost_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let upstream = Upstream::start(dir.path()).await;
    for (model, status, kind) in [
        ("demo-429", 429, UpstreamFaultKind::RateLimited),
        ("demo-500", 500, UpstreamFaultKind::Error),
        ("demo-no-credit", 429, UpstreamFaultKind::OutOfCredit),
        ("no-such-model", 404, UpstreamFaultKind::ModelMissing),
    ] {
        let answer = upstream.chat(&ask(model, "x")).await;
        assert_eq!((answer.status.as_u16(), answer.fault()), (status, kind), "{model}");
        assert_eq!(answer.headers.contains_key("retry-after"), model == "demo-429");
    }
    let stranger = upstream.send("GET", "/v1/models", "sk-wrong", String::new()).await;
    assert_eq!((stranger.status.as_u16(), stranger.fault()), (401, UpstreamFaultKind::AuthFailed));
    let broken = upstream.send("POST", "/v1/chat/completions", &upstream.key, "{".into()).await;
    assert_eq!((broken.status.as_u16(), broken.fault()), (400, UpstreamFaultKind::Rejected));
    let body = ask("demo-timeout", "x");
    let silent = upstream.chat(&body);
    assert!(tokio::time::timeout(std::time::Duration::from_millis(200), silent).await.is_err());
    assert!(upstream.rows().is_empty());
}

#[tokio::test]
async fn a_restart_finds_the_key_and_the_bill_and_drops_a_torn_row() {
    let dir = tempfile::tempdir().unwrap();
    let first = Upstream::start(dir.path()).await;
    first.chat(&ask("gpt-5-mini", "one")).await;
    first.task.abort();
    let file = dir.path().join("upstream-bill.jsonl");
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, [&whole[..], b"{\"n\":2,\"time\":\"20"].concat()).unwrap();
    let again = Upstream::start(dir.path()).await;
    assert_eq!(again.key, first.key);
    again.chat(&ask("gpt-5-mini", "two")).await;
    let rows = again.rows();
    assert_eq!(rows.iter().map(|row| row.n).collect::<Vec<_>>(), [1, 2]);
    let bill = again.send("GET", "/bill?since=1", "", String::new()).await;
    assert_eq!(bill.body, std::fs::read(&file).unwrap()[whole.len()..]);
    let bill = again.send("GET", "/bill.json", "", String::new()).await.json();
    assert_eq!(bill["rows"].as_array().unwrap().len(), 2);
    let total: i64 = rows.iter().map(|row| row.cost_nano).sum();
    assert_eq!(bill["total"], ledger::Nano(total).to_string());
    assert_eq!(again.send("GET", "/bill?since=soon", "", String::new()).await.status, 400);
}

#[tokio::test]
async fn wishes_tools_and_several_answers() {
    let dir = tempfile::tempdir().unwrap();
    let upstream = Upstream::start(dir.path()).await;
    let long = upstream.chat(&ask("gpt-5-mini", "#tokens=500")).await;
    assert_eq!(usage_from_body(&long.body).unwrap().get(TokenClass::Output), 500);
    let mut body = ask("gpt-5-mini", "call it #tool");
    body["tools"] = json!([{"type": "function", "function": {"name": "look_up", "parameters": {}}}]);
    let called = upstream.chat(&body).await.json();
    assert_eq!(called["choices"][0]["finish_reason"], "tool_calls");
    assert_eq!(called["choices"][0]["message"]["tool_calls"][0]["function"]["name"], "look_up");
    let mut body = ask("gpt-5-mini", "short #tokens=9");
    body["max_tokens"] = json!(5);
    body["n"] = json!(3);
    let several = upstream.chat(&body).await;
    let choices = several.json()["choices"].as_array().unwrap().clone();
    assert_eq!(choices.len(), 3);
    assert!(choices.iter().all(|choice| choice["finish_reason"] == "length"));
    let usage = usage_from_body(&several.body).unwrap();
    assert!(usage.get(TokenClass::Output) <= 15);
}
