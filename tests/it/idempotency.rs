//! Rung 11 and F2, F3: an Idempotency-Key is executed once and answered again; the same content without one is flagged.

use serde_json::{Value, json};
use tallygate::clock::{Clock, ManualClock};
use tallygate::id::{KeyId, RequestId};
use tallygate::idempotency::{Begun, Head, Idempotency, Known, Wish};
use tallygate::secret::Keyring;

use std::sync::Arc;

use crate::gateway::assert_refused;
use crate::support::backend::Backend;
use crate::support::demo::{Demo, wait_until};
use crate::support::http::{Ask, Reply};

const MODEL: &str = "gpt-5-mini";
const NAME: &str = "idempotency-key";

fn ask(key: &str, name: &str, text: &str) -> Ask {
    Ask::chat(key, MODEL, text).header(NAME, name)
}

fn streamed(key: &str, name: &str, model: &str) -> Ask {
    Ask::chat_with(key, model, "Hello", json!({"stream": true})).header(NAME, name)
}

fn replay_of(reply: &Reply) -> Option<&str> {
    reply.head.header("x-tallygate-replay-of")
}

/// F3: the same key and body get the kept answer, charged once; another body is an error that names the first; other keys
/// of the API, and calls without a name, are not concerned.
#[test]
fn f3_the_same_request_is_executed_once_and_answered_again() {
    let mut demo = Demo::start();
    let key = demo.key("healthy");
    let first = demo.ask(&ask(&key, "one", "Hello"));
    assert!(first.ok()["usage"]["total_tokens"].as_u64().unwrap() > 0);
    let billed = demo.bill().len();
    for _ in 0..2 {
        let again = demo.ask(&ask(&key, "one", "Hello"));
        assert_eq!((again.head.status, &again.body), (200, &first.body));
        assert_eq!(replay_of(&again), Some(first.head.request_id()));
        assert_eq!(again.head.header("x-tallygate-cost"), Some("0"));
        assert_ne!(again.head.request_id(), first.head.request_id());
        let row = demo.row(again.head.request_id());
        assert_eq!((&row["status"], &row["charge"]), (&json!(200), &json!("0")));
        assert_eq!(row["replay_of"], first.head.request_id());
    }
    let reused = demo.ask(&ask(&key, "one", "Bye"));
    let body = assert_refused(&demo, &reused, ("idempotency_key_reused", 422, "request", "caller", false));
    assert!(body["error"]["message"].as_str().unwrap().contains(first.head.request_id()), "{body:#}");
    // Kept over a restart.
    demo.kill();
    demo.restart();
    assert_eq!(demo.ask(&ask(&key, "one", "Hello")).body, first.body);
    assert_eq!(demo.bill().len(), billed);
    let other = demo.ask(&ask(&key, "two", "Hello"));
    assert_eq!((replay_of(&other), demo.bill().len()), (None, billed + 1));
    let account = demo.account("Another", "1.00");
    let foreign = demo.ask(&ask(&demo.key_of(&account, json!([])), "one", "Bye"));
    assert_eq!((foreign.head.status, replay_of(&foreign)), (200, None));
    assert!(!demo.log().contains("without the books"), "{}", demo.log());
    let refused = |ask: Ask, reason: &str| {
        let reply = demo.ask(&ask);
        let body = assert_refused(&demo, &reply, ("invalid_parameter", 400, "request", "caller", false));
        assert!(body["error"]["message"].as_str().unwrap().contains(reason), "{body:#}");
    };
    refused(ask(&key, &"x".repeat(256), "Hello"), "expected 1 to 255 bytes, got 256");
    refused(ask(&key, "", "Hello"), "expected 1 to 255 bytes, got 0");
    refused(ask(&key, "three", "Hello").header(NAME, "four"), "several different ones");
    // The same name twice is one name.
    assert!(replay_of(&demo.ask(&ask(&key, "two", "Hello").header(NAME, "two"))).is_some());
}

/// F3: a client that sends a form again gives it another boundary, and is answered as before; another file is another
/// content, and so is another name of it.
#[test]
fn f3_a_form_is_the_same_under_every_boundary() {
    let demo = Demo::start();
    let key = demo.key("healthy");
    let ask = |path: &str, boundary: &str, fields: &[(&str, Option<&str>, &[u8])]| {
        let mut body = Vec::new();
        for (name, file, content) in fields {
            let file = file.map(|file| format!("; filename=\"{file}\"")).unwrap_or_default();
            let head = format!("Content-Disposition: form-data; name=\"{name}\"{file}");
            body.extend(format!("--{boundary}\r\n{head}\r\n\r\n").bytes());
            body.extend_from_slice(content);
            body.extend(b"\r\n");
        }
        body.extend(format!("--{boundary}--\r\n").bytes());
        let media_type = format!("multipart/form-data; boundary={boundary}");
        demo.ask(&Ask::new("POST", path).body(body, &media_type).bearer(&key).header(NAME, path))
    };
    let wave = crate::endpoints::wave();
    let mut other_wave = wave.clone();
    *other_wave.last_mut().unwrap() = 1;
    let sound = ("/v1/audio/transcriptions", "demo-transcribe", "file", [wave, other_wave]);
    let pictures = [b"one picture".to_vec(), b"another one".to_vec()];
    let picture = ("/v1/images/edits", "demo-image-tokens", "image[]", pictures);
    for (path, model, file, [content, other]) in [sound, picture] {
        let ask = |boundary, file_name, content: &[u8]| {
            let text = |name, value: &'static str| (name, None, value.as_bytes());
            let fields =
                [text("model", model), text("prompt", "what it is"), (file, Some(file_name), content)];
            ask(path, boundary, &fields)
        };
        let first = ask("one", "a.bin", &content);
        first.ok();
        let billed = demo.bill().len();
        let again = ask("another-one", "a.bin", &content);
        assert_eq!((replay_of(&again), &again.body), (Some(first.head.request_id()), &first.body), "{path}");
        for (file_name, content) in [("a.bin", &other), ("b.bin", &content)] {
            let reused = ask("one", file_name, content);
            assert_refused(&demo, &reused, ("idempotency_key_reused", 422, "request", "caller", false));
        }
        assert_eq!(demo.bill().len(), billed, "{path}");
    }
}

/// F3, S1: a stream that was cut off says that it may be sent again, and so it may: it is executed anew, and each of the
/// two has its own charge.
#[test]
fn f3_a_stream_that_was_cut_off_is_not_kept() {
    let demo = Demo::start();
    let key = demo.key("healthy");
    let text = "one two three four five six";
    let cut =
        || demo.ask(&Ask::chat_with(&key, "demo-cut", text, json!({"stream": true})).header(NAME, "broken"));
    // More often than a channel that fails is borne with: this one never rests.
    let replies: Vec<Reply> = (0..8).map(|_| cut()).collect();
    for reply in &replies {
        assert_eq!((reply.head.status, replay_of(reply)), (200, None), "{}", reply.text());
        assert!(reply.text().contains("\"code\":\"stream_interrupted\""), "{}", reply.text());
        let row = demo.row(reply.head.request_id());
        assert_eq!((&row["code"], &row["charge_state"]), (&json!("stream_interrupted"), &json!("settled")));
    }
    demo.nothing_stays_held();
    demo.verify();
}

/// F3: while the first one runs the second is told to come again; a stream is given again whole, also if its first caller
/// left in the middle of it.
#[test]
fn f3_a_stream_is_given_again_whole() {
    let demo = Demo::start();
    let key = demo.key("healthy");
    let mut leaving = demo.connect();
    leaving.send(&streamed(&key, "slow", "demo-slow")).unwrap();
    wait_until("the call is upstream", || !demo.held().iter().all(|held| held == "0"));
    let early = demo.ask(&streamed(&key, "slow", "demo-slow"));
    assert_refused(&demo, &early, ("idempotency_in_progress", 409, "request", "caller", true));
    assert_eq!(early.head.header("retry-after"), Some("1"));
    drop(leaving);
    demo.nothing_stays_held();
    // The answer is kept behind the end of its hold.
    let mut again = demo.ask(&streamed(&key, "slow", "demo-slow"));
    wait_until("the answer is kept", || {
        let still_running = again.head.status == 409;
        if still_running {
            again = demo.ask(&streamed(&key, "slow", "demo-slow"));
        }
        !still_running
    });
    assert!(again.is_whole_answer() && replay_of(&again).is_some(), "{}", again.text());
    assert_eq!(again.head.header("content-type"), Some("text/event-stream"));
    let first = demo.receipt(replay_of(&again).unwrap());
    assert_eq!((&first["state"], &first["usage_source"]), (&json!("settled"), &json!("upstream")));
    assert_eq!(demo.receipt(again.head.request_id())["replay_of"], first["request_id"]);
}

/// F3: what was refused or failed cost nothing and is not kept: sent again, it is executed.
#[test]
fn f3_a_failure_is_not_kept() {
    let demo = Demo::start();
    let key = demo.key("healthy");
    let failing = || demo.ask(&Ask::chat(&key, "demo-500", "Hello").header(NAME, "fails"));
    let (first, second) = (failing(), failing());
    assert_eq!((first.head.status, second.head.status), (502, 502));
    assert_eq!(
        (replay_of(&second), &demo.row(second.head.request_id())["code"]),
        (None, &json!("upstream_error"))
    );
    let empty = demo.key("empty_balance");
    let refused = demo.ask(&ask(&empty, "poor", "Hello"));
    assert_eq!(refused.head.status, 402);
    let key = demo.admin("/api/keys?limit=1000");
    let row = key["data"].as_array().unwrap().iter().find(|row| row["name"] == "empty_balance").unwrap();
    demo.credit(row["account"].as_str().unwrap(), "purchased", "1.00");
    assert_eq!(demo.ask(&ask(&empty, "poor", "Hello")).head.status, 200);
}

/// S17, F3: ten submissions at once under one name: one is executed and billed.
#[test]
fn s17_ten_submissions_at_once_are_billed_once() {
    let demo = Demo::start();
    let key = demo.key("healthy");
    let billed = demo.bill().len();
    let replies: Vec<Reply> = std::thread::scope(|scope| {
        let asked: Vec<_> =
            (0..10).map(|_| scope.spawn(|| demo.ask(&streamed(&key, "ten", "demo-slow")))).collect();
        asked.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    let served = replies.iter().filter(|reply| reply.head.status == 200).count();
    assert!(served >= 1 && replies.iter().all(|reply| matches!(reply.head.status, 200 | 409)));
    assert_eq!(demo.bill().len(), billed + 1);
}

/// F2: a client's own retry and a duplicate submission are two flags; a duplicate is linked to the first call, and both
/// have their charge.
#[test]
fn f2_a_retry_and_a_duplicate_are_told_apart() {
    let demo = Demo::start();
    let key = demo.key("healthy");
    let first = demo.chat(&key, MODEL, "Hello");
    let retried = demo.ask(&Ask::chat(&key, MODEL, "Once more").header("x-stainless-retry-count", "2"));
    let doubled = demo.chat(&key, MODEL, "Hello");
    let flags = |reply: &Reply| {
        let row = demo.row(reply.head.request_id());
        (row["retry_count"].clone(), row["duplicate_of"].clone(), row["charge"].clone())
    };
    let charge = flags(&first).2;
    assert_eq!(flags(&first), (json!(0), Value::Null, charge.clone()));
    assert_eq!((flags(&retried).0, flags(&retried).1), (json!(2), Value::Null));
    assert_eq!(flags(&doubled), (json!(0), json!(first.head.request_id()), charge.clone()));
    let receipt = demo.own(&key, &format!("/v1/requests/{}", doubled.head.request_id()));
    assert_eq!((&receipt["duplicate_of"], &receipt["charged"]), (&json!(first.head.request_id()), &charge));
}

struct Scene {
    idempotency: Arc<Idempotency>,
    clock: Arc<ManualClock>,
    count: std::cell::Cell<u128>,
}

impl Scene {
    fn new(backend: &Backend) -> Self {
        let clock = Arc::new(ManualClock::new(1_800_000_000_000));
        let stores = backend.open();
        let master_key = Arc::new(Keyring::from_hex(&"0b".repeat(32)).unwrap());
        let idempotency = Idempotency::new(stores.idempotency, master_key, clock.clone() as Arc<dyn Clock>);
        Scene { idempotency, clock, count: std::cell::Cell::new(1) }
    }

    fn begin(&self, known: Known) -> Begun {
        self.count.set(self.count.get() + 1);
        let wish =
            Wish::of_key(KeyId::from_raw(7), b"name", ["chat/completions", MODEL], |said| said.rest(b"{}"));
        self.idempotency.begin(wish, RequestId::from_raw(self.count.get()), |_| known).unwrap()
    }

    fn claim(&self, known: Known) -> tallygate::idempotency::Claim {
        match self.begin(known) {
            Begun::First(claim) => claim,
            other => panic!("{other:?}"),
        }
    }
}

fn head() -> Head {
    Head { status: 200, headers: vec![("content-type".into(), "application/json".into())], role: None }
}

/// A name is one request's until it ends well, fails, or is lost with its process; an answer is gone after a day.
fn a_name_belongs_to_one_request_at_a_time(backend: Backend) {
    let scene = Scene::new(&backend);
    let claim = scene.claim(Known::Nothing);
    assert!(
        matches!(scene.begin(Known::Free), Begun::Running { .. }),
        "it runs here, whatever the log says yet"
    );
    claim.give_up().unwrap();
    drop(scene.claim(Known::Nothing));
    // Lost with its process: what the books say of it decides.
    assert!(matches!(scene.begin(Known::Running), Begun::Running { .. }));
    assert!(matches!(scene.begin(Known::Charged), Begun::Answered { answer: None, .. }));
    assert!(matches!(scene.begin(Known::Nothing), Begun::Running { .. }), "it may just have begun elsewhere");
    drop(scene.claim(Known::Free));
    scene.clock.advance_ms(60_001);
    scene.claim(Known::Nothing).keep(&head(), Some(b"{\"answer\": 42}")).unwrap();
    match scene.begin(Known::Charged) {
        Begun::Answered { answer: Some(answer), .. } => {
            assert_eq!((answer.head, &*answer.body), (head(), &b"{\"answer\": 42}"[..]));
        }
        other => panic!("{other:?}"),
    }
    scene.clock.advance_ms(24 * 3_600_000);
    scene.claim(Known::Charged).keep(&head(), None).unwrap();
    assert!(matches!(scene.begin(Known::Charged), Begun::Answered { answer: None, .. }));
}

/// Two nodes on one store; what one of them does, the other never does as well.
fn f3_of_two_nodes_one_does_it(backend: Backend) {
    let clock = Arc::new(ManualClock::new(1_800_000_000_000));
    let keyring = Arc::new(Keyring::from_hex(&"0b".repeat(32)).unwrap());
    let node = || {
        let store = backend.open().idempotency;
        Idempotency::new(store, Arc::clone(&keyring), clock.clone() as Arc<dyn Clock>)
    };
    let (one, other) = (node(), node());
    let begin = |node: &Arc<Idempotency>, name: &str, request: u128| {
        let wish = Wish::of_actor("operator", name.as_bytes(), ["POST /api/keys", ""], b"{}");
        let may_run = |_| Known::Untold { may_run: true };
        node.begin(wish, RequestId::from_raw(request), may_run).unwrap()
    };
    let claimed = |name: &str, request| match begin(&one, name, request) {
        Begun::First(claim) => claim,
        taken => panic!("{taken:?}"),
    };
    let (kept, failed, free) = (claimed("kept", 1), claimed("failed", 2), claimed("free", 3));
    let head = Head { status: 201, headers: Vec::new(), role: Some("owner".to_owned()) };
    for name in ["kept", "failed", "free"] {
        assert!(matches!(begin(&other, name, 4), Begun::Running { .. }));
    }
    failed.leave_untold().unwrap();
    assert!(matches!(begin(&other, "failed", 4), Begun::Untold { first } if first.raw() == 2));
    clock.advance_ms(60_001);
    assert!(matches!(begin(&other, "kept", 4), Begun::Untold { .. }), "nobody waits for so long");
    assert!(matches!(begin(&one, "kept", 5), Begun::Running { .. }), "it is known where it runs");
    kept.keep(&head, Some(b"{}")).unwrap();
    let Begun::Answered { first, answer: Some(answer) } = begin(&other, "kept", 4) else { panic!() };
    assert_eq!((first.raw(), &answer.head, &*answer.body), (1, &head, &b"{}"[..]));
    free.give_up().unwrap();
    assert!(matches!(begin(&other, "free", 4), Begun::First(_)));
}

crate::on_both_backends!(a_name_belongs_to_one_request_at_a_time, f3_of_two_nodes_one_does_it);
