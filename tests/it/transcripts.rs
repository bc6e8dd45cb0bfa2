//! F1: nothing of what is said in calls is stored unless the account turns it on; what is stored is sealed, whole, there
//! for the account alone, and gone at its end.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use tallygate::clock::{Clock, ManualClock};
use tallygate::id::{AccountId, KeyId, RequestId};
use tallygate::secret::Keyring;
use tallygate::transcripts::{Ended, Filter, Said, Transcript, TranscriptError, Transcripts, Writer};

use crate::on_both_backends;
use crate::support::app::NOW_MS;
use crate::support::backend::Backend;
use crate::support::demo::{Demo, wait_until};
use crate::support::desk::Desk;
use crate::support::http::{Ask, Reply};
use crate::support::postgres::TestDatabase;

on_both_backends!(
    f1_a_transcript_is_there_to_its_end_or_until_it_is_erased,
    f1_a_damaged_transcript_is_told_and_never_shown,
);

const MODEL: &str = "gpt-5-mini";
/// What nobody but the account may ever find.
const MARK: &str = "the-marked-words-of-this-test";
const DAY_MS: u64 = 24 * 3_600_000;

/// An account with a key, and members in each role.
struct House<'d> {
    demo: &'d Demo,
    account: String,
    key: String,
}

impl<'d> House<'d> {
    fn new(demo: &'d Demo) -> Self {
        let account = demo.account("House", "100.00");
        let key = demo.key_of(&account, json!([]));
        House { demo, account, key }
    }

    /// Id and token.
    fn member(&self, role: &str) -> (String, String) {
        let input = json!({"account": self.account, "name": role, "role": role});
        let made = self.demo.admin_post("/api/members", &input);
        let id = made["id"].as_str().unwrap().to_owned();
        let issued = self.demo.admin_post(&format!("/api/members/{id}/token"), &json!({}));
        (id, issued["token"].as_str().unwrap().to_owned())
    }

    fn set(&self, token: &str, terms: &Value) -> Reply {
        let body = json!({"transcripts": terms}).to_string();
        let ask = Ask::new("PATCH", format!("/api/accounts/{}", self.account)).raw_body(body);
        self.demo.ask(&ask.bearer(token))
    }

    fn get(&self, token: &str, path: &str) -> Reply {
        self.demo.ask(&Ask::get(path).bearer(token))
    }

    fn transcript(&self, token: &str, request: &str) -> Reply {
        self.get(token, &format!("/api/requests/{request}/transcript"))
    }

    /// The transcript of a call, once it is written.
    fn written(&self, token: &str, request: &str) -> Value {
        wait_until("the transcript is written", || self.transcript(token, request).head.status == 200);
        self.transcript(token, request).ok()
    }

    fn listed(&self, token: &str) -> Vec<String> {
        let rows = self.get(token, "/api/transcripts").ok();
        let id = |row: &Value| row["request"].as_str().unwrap().to_owned();
        rows["data"].as_array().unwrap().iter().map(id).collect()
    }
}

/// How many files below a folder hold these words.
fn files_with(dir: &Path, words: &str) -> usize {
    let mut found = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        found += match std::fs::read(&path) {
            Ok(bytes) => usize::from(bytes.windows(words.len()).any(|window| window == words.as_bytes())),
            Err(_) if path.is_dir() => files_with(&path, words),
            // A socket, or gone meanwhile.
            Err(_) => 0,
        };
    }
    found
}

#[track_caller]
fn assert_refused(reply: &Reply, (code, status): (&str, u16)) {
    let told = reply.json();
    assert_eq!((reply.head.status, &told["error"]["code"]), (status, &json!(code)), "{told:#}");
}

/// Sent and answered, byte for byte: whole answers and streams, of every format, forms, refusals and tasks; nothing before
/// it was turned on, nothing after it was turned off, and nothing that could be found in the files.
#[test]
fn f1_what_is_said_is_kept_only_where_the_account_turned_it_on() {
    let demo = Demo::start();
    let house = House::new(&demo);
    let (_, owner) = house.member("owner");
    let other = House::new(&demo);
    let before = demo.chat(&house.key, MODEL, MARK);
    assert!(before.ok()["choices"].is_array());
    assert_eq!(demo.admin(&format!("/api/accounts/{}", house.account))["transcripts"], Value::Null);
    house.set(&owner, &json!({"kept_days": 7})).ok();

    let messages = json!([{"role": "user", "content": MARK}]);
    let anthropic = json!({"model": "claude-sonnet-4-5", "max_tokens": 50, "messages": messages});
    let gemini = json!({"contents": [{"role": "user", "parts": [{"text": MARK}]}]});
    let wave = crate::endpoints::wave();
    let form = [("model", None, &b"demo-transcribe"[..]), ("file", Some("a.wav"), &wave)];
    let asks = [
        Ask::chat(&house.key, MODEL, MARK),
        Ask::chat_with(&house.key, MODEL, MARK, json!({"stream": true})),
        Ask::post("/v1/messages", &anthropic).bearer(&house.key),
        Ask::post("/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse", &gemini)
            .bearer(&house.key),
        Ask::form("/v1/audio/transcriptions", &form).bearer(&house.key),
        Ask::chat_with(&house.key, MODEL, MARK, json!({"max_tokens": 0})),
        Ask::chat(&house.key, "no-such-model", MARK),
        Ask::post("/v1/videos", &json!({"model": "demo-video", "prompt": MARK})).bearer(&house.key),
        Ask::chat(&house.key, MODEL, MARK).header("idempotency-key", "one"),
    ];
    let mut kept = Vec::new();
    for ask in &asks {
        let reply = demo.ask(ask);
        let request = reply.head.request_id().to_owned();
        let shown = house.written(&owner, &request);
        let (asked, answered) = (&shown["asked"], &shown["answered"]);
        assert_eq!((&shown["request"], &shown["ended"]), (&json!(request), &json!("whole")), "{shown:#}");
        assert_eq!(shown["status"], reply.head.status);
        let sent = ask.bytes();
        let body = sent.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
        assert_eq!(asked["bytes"], sent.len() - body);
        match asked["text"].as_str() {
            Some(text) => assert_eq!(text.as_bytes(), &sent[body..]),
            None => assert!(asked["media_type"].as_str().unwrap().starts_with("multipart/"), "{asked:#}"),
        }
        assert_eq!(answered["media_type"].as_str(), reply.head.header("content-type"));
        assert_eq!(answered["bytes"], reply.body.len());
        assert_eq!(answered["text"].as_str(), Some(&*reply.text()));
        assert_eq!((&asked["is_whole"], &answered["is_whole"]), (&json!(true), &json!(true)));
        kept.push(request);
    }
    // Given again: no other call.
    let again = demo.ask(asks.last().unwrap());
    assert_eq!(again.head.header("x-tallygate-replay-of"), Some(&**kept.last().unwrap()));
    demo.chat(&other.key, MODEL, MARK).ok();
    kept.reverse();
    assert_eq!(house.listed(&owner), kept);
    assert_refused(&house.transcript(&owner, before.head.request_id()), ("not_found", 404));
    assert_eq!(files_with(&demo.dir(), MARK), 0, "the words are in no file");

    // An operator ends it, and what is kept stays the account's until it erases it.
    house.set(&demo.admin_token(), &Value::Null).ok();
    demo.chat(&house.key, MODEL, MARK).ok();
    assert_eq!(house.listed(&owner), kept);
    let erase = |path: &str| demo.ask(&Ask::new("DELETE", path).bearer(&owner)).ok()["erased"].clone();
    assert_eq!(erase(&format!("/api/requests/{}/transcript", kept[0])), 1);
    assert_refused(&house.transcript(&owner, &kept[0]), ("not_found", 404));
    assert_eq!(erase(&format!("/api/requests/{}/transcript", kept[0])), 0);
    assert_eq!(erase("/api/transcripts"), kept.len() - 1);
    assert_eq!(house.listed(&owner), Vec::<String>::new());
}

/// No operator turns it on or reads anything; of the members owners and admins read all, developers what their own keys
/// said, and nobody else.
#[test]
fn f1_a_transcript_is_its_accounts_alone() {
    let database = TestDatabase::new();
    let demo = Demo::start_on(database.url().expose());
    let house = House::new(&demo);
    let (owner, admin) = (house.member("owner").1, house.member("admin").1);
    let (developer_id, developer) = house.member("developer");
    assert_refused(&house.set(&demo.admin_token(), &json!({"kept_days": 7})), ("role_forbidden", 403));
    assert_refused(&house.set(&developer, &json!({"kept_days": 7})), ("role_forbidden", 403));
    for days in [0, 31, 400] {
        let refused = house.set(&owner, &json!({"kept_days": days}));
        assert_refused(&refused, ("invalid_value", 400));
        assert!(refused.text().contains("transcripts.kept_days"), "{}", refused.text());
    }
    let input = json!({"name": "x", "transcripts": {"kept_days": 1}});
    let made = demo.ask(&Ask::post("/api/accounts", &input).bearer(&demo.admin_token()));
    assert_refused(&made, ("role_forbidden", 403));
    house.set(&admin, &json!({"kept_days": 7})).ok();

    let input = json!({"account": house.account, "name": "own", "member": developer_id});
    let own_key = demo.admin_post("/api/keys", &input)["key"].as_str().unwrap().to_owned();
    let of_house = demo.chat(&house.key, MODEL, MARK).head.request_id().to_owned();
    let of_developer = demo.chat(&own_key, MODEL, MARK).head.request_id().to_owned();
    for token in [&owner, &admin] {
        house.written(token, &of_house);
        house.written(token, &of_developer);
        assert_eq!(house.listed(token), [of_developer.clone(), of_house.clone()]);
    }
    house.written(&developer, &of_developer);
    assert_eq!(house.listed(&developer), std::slice::from_ref(&of_developer));
    assert_refused(&house.transcript(&developer, &of_house), ("not_found", 404));
    for role in ["finance", "viewer"] {
        let (_, token) = house.member(role);
        assert_refused(&house.transcript(&token, &of_house), ("role_forbidden", 403));
        assert_refused(&house.get(&token, "/api/transcripts"), ("role_forbidden", 403));
    }
    assert_refused(&house.transcript(&demo.admin_token(), &of_house), ("role_forbidden", 403));
    let (_, stranger) = House::new(&demo).member("owner");
    assert_refused(&house.transcript(&stranger, &of_house), ("not_found", 404));
    let erase = |token: &str| {
        demo.ask(&Ask::new("DELETE", format!("/api/requests/{of_house}/transcript")).bearer(token))
    };
    assert_refused(&erase(&stranger), ("not_found", 404));
    assert_refused(&erase(&developer), ("role_forbidden", 403));
    // An operator who must erase can, unread.
    let path = format!("/api/transcripts?account={}", house.account);
    assert_eq!(demo.ask(&Ask::new("DELETE", path).bearer(&demo.admin_token())).ok()["erased"], 2);
    assert_refused(&house.transcript(&owner, &of_house), ("not_found", 404));
}

/// H4: a caller that leaves is missed as before; what it was told until then is kept, and how its answer ended. So is
/// what broke off, and the beginning of what is too long.
#[test]
fn f1_a_transcript_says_how_the_answer_ended() {
    let demo = Demo::start();
    let house = House::new(&demo);
    let (_, owner) = house.member("owner");
    house.set(&owner, &json!({"kept_days": 1})).ok();

    let mut caller = demo.connect();
    caller.send(&Ask::chat_with(&house.key, "demo-slow", MARK, json!({"stream": true}))).unwrap();
    let head = caller.head().unwrap();
    let first = caller.piece().unwrap().unwrap();
    drop(caller);
    let left = house.written(&owner, head.request_id());
    assert_eq!(left["ended"], "left", "{left:#}");
    let text = left["answered"]["text"].as_str().unwrap();
    assert!(text.as_bytes().starts_with(&first) && !text.contains("[DONE]"), "{text}");
    wait_until("the call is settled", || demo.row(head.request_id())["charge_state"] == "settled");
    assert_eq!(demo.row(head.request_id())["ending"], "caller_gone_drained");

    let cut = demo.ask(&Ask::chat_with(&house.key, "demo-cut", MARK, json!({"stream": true})));
    let shown = house.written(&owner, cut.head.request_id());
    assert_eq!((&shown["ended"], &shown["answered"]["text"]), (&json!("cut_off"), &json!(cut.text())));

    let long = "给".repeat(600_000);
    let asked = Ask::chat(&house.key, MODEL, &long);
    let shown = house.written(&owner, demo.ask(&asked).head.request_id());
    let (text, bytes) = (shown["asked"]["text"].as_str().unwrap(), shown["asked"]["bytes"].as_u64().unwrap());
    assert_eq!(shown["asked"]["is_whole"], false);
    assert!(bytes > 1_800_000 && (1_048_573..=1_048_576).contains(&text.len()), "{bytes}, {}", text.len());
    assert!(asked.bytes().windows(text.len()).any(|window| window == text.as_bytes()));
    assert_eq!(shown["answered"]["is_whole"], true);
}

/// The installation has the last word: it keeps none, or none for longer.
#[test]
fn f1_an_installation_that_keeps_no_transcripts_says_so() {
    let settings = vec![("retention.transcripts_days_max", "0".to_owned())];
    let desk = Desk::open_with(Backend::embedded(), settings);
    let account = desk.account("Ann");
    let input = json!({"account": account, "name": "Ann", "role": "owner"});
    let member = desk.post("/api/members", input).ok()["id"].as_str().unwrap().to_owned();
    let issued = desk.post(&format!("/api/members/{member}/token"), json!({})).ok();
    let body = json!({"transcripts": {"kept_days": 1}}).to_string();
    let ask = Ask::new("PATCH", format!("/api/accounts/{account}")).raw_body(body);
    let refused = desk.ask(&ask.bearer(issued["token"].as_str().unwrap()));
    assert_refused(&refused, ("invalid_value", 400));
    assert!(refused.text().contains("are not kept by this installation"), "{}", refused.text());
}

/// A transcript of a call of account 1.
pub fn transcript(n: u64, at_ms: i64) -> Transcript {
    let said = |text: String| Said {
        media_type: Some("application/json".into()),
        bytes: text.len() as u64,
        text: text.into(),
    };
    Transcript {
        request: RequestId::from_raw(u128::from(n)),
        account: AccountId::from_raw(1),
        key: KeyId::from_raw(n % 2),
        at_ms,
        expires_ms: at_ms + 3_600_000,
        status: 200,
        ended: Ended::Whole,
        asked: said(format!("asked {n}")),
        answered: said(format!("answered {n}").repeat(1_000)),
    }
}

fn f1_a_transcript_is_there_to_its_end_or_until_it_is_erased(backend: Backend) {
    let stores = backend.open();
    let clock = Arc::new(ManualClock::new(NOW_MS));
    let keyring = Arc::new(Keyring::from_hex(&"01".repeat(32)).unwrap());
    let open = || {
        let clock: Arc<dyn Clock> = clock.clone();
        Arc::new(Transcripts::new(stores.transcripts.clone(), Arc::clone(&keyring), clock, 30))
    };
    let transcripts = open();
    let writer = Writer::start(&transcripts).unwrap();
    for n in 1..=1_200 {
        transcripts.keep(transcript(n, NOW_MS), transcripts.share());
    }
    let long =
        Transcript { expires_ms: i64::MAX, account: AccountId::from_raw(2), ..transcript(5_000, NOW_MS) };
    transcripts.keep(long.clone(), transcripts.share());
    // What waits is written before the writer is gone, and what comes later is left out.
    drop(writer);
    transcripts.keep(transcript(9_999, NOW_MS), transcripts.share());
    let transcripts = open();
    let read = |n: u64| transcripts.read(RequestId::from_raw(u128::from(n))).unwrap();
    for n in [1, 600, 1_200] {
        assert_eq!(read(n), Some(transcript(n, NOW_MS)));
    }
    assert_eq!(read(9_999), None);
    let list = |keys: Option<Vec<KeyId>>, before: Option<u64>, limit| -> Vec<u128> {
        let before = before.map(|n| RequestId::from_raw(u128::from(n)));
        let filter = Filter { account: AccountId::from_raw(1), keys, before };
        transcripts.list(&filter, limit).unwrap().iter().map(|entry| entry.request.raw()).collect()
    };
    assert_eq!(list(None, None, 3), [1_200, 1_199, 1_198]);
    assert_eq!(list(None, Some(3), 100), [2, 1]);
    assert_eq!(list(Some(vec![KeyId::from_raw(1)]), Some(6), 100), [5, 3, 1]);
    assert_eq!(list(Some(vec![KeyId::from_raw(0), KeyId::from_raw(1)]), Some(3), 100), [2, 1]);
    assert_eq!(list(Some(Vec::new()), None, 100), Vec::<u128>::new());

    assert!(transcripts.erase(RequestId::from_raw(7)).unwrap());
    assert!(!transcripts.erase(RequestId::from_raw(7)).unwrap());
    assert_eq!(read(7), None);
    assert_eq!(transcripts.forget_expired().unwrap(), 0);
    clock.advance_ms(3_600_000);
    assert_eq!((read(1), list(None, None, 10).len()), (None, 0), "its end has come before it is removed");
    assert_eq!((transcripts.count().unwrap(), transcripts.forget_expired().unwrap()), (1_200, 1_199));
    clock.advance_ms(400 * DAY_MS);
    assert_eq!(read(5_000), Some(long));
    assert_eq!(transcripts.erase_all(AccountId::from_raw(2)).unwrap(), 1);
    assert_eq!(transcripts.count().unwrap(), 0);
}

fn f1_a_damaged_transcript_is_told_and_never_shown(backend: Backend) {
    let stores = backend.open();
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(NOW_MS));
    let keyring = Arc::new(Keyring::from_hex(&"01".repeat(32)).unwrap());
    let transcripts = Arc::new(Transcripts::new(stores.transcripts.clone(), keyring, clock, 30));
    let writer = Writer::start(&transcripts).unwrap();
    for n in [1, 2] {
        transcripts.keep(transcript(n, NOW_MS), transcripts.share());
    }
    drop(writer);
    // The content of another one, and the whole row under another account.
    let swap = "UPDATE transcripts SET content = (SELECT content FROM transcripts WHERE api_key = 0) WHERE api_key = 1";
    assert_eq!(stores.transcripts.execute(swap, &[]).unwrap(), 1);
    let moved = "UPDATE transcripts SET account = 3 WHERE api_key = 0";
    assert_eq!(stores.transcripts.execute(moved, &[]).unwrap(), 1);
    for n in [1, 2] {
        let read = transcripts.read(RequestId::from_raw(n));
        assert!(matches!(read, Err(TranscriptError::Damaged)), "{read:?}");
    }
}
