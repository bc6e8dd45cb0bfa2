//! The bodies of requests, small and large: how large one may be, and that all of them together have a bound.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tallygate::clock::{Clock, ManualClock, SystemClock};

use crate::endpoints::assert_billed;
use crate::support::backend::Backend;
use crate::support::demo::{Demo, wait_until};
use crate::support::http::{Ask, Connection, Reply};
use crate::support::port::Port;
use crate::support::station::Station;

const MIB: usize = 1 << 20;

/// A recording of so many bytes: silence in 16 bits, stereo, at 44,100 Hz.
fn recording(bytes: usize) -> Vec<u8> {
    let samples = bytes - 44;
    let mut file = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x02\0".to_vec();
    file.extend(44_100_u32.to_le_bytes());
    file.extend(176_400_u32.to_le_bytes());
    file.extend(b"\x04\0\x10\0data");
    file.extend(u32::try_from(samples).unwrap().to_le_bytes());
    file.resize(bytes, 0);
    file
}

fn transcription(key: &str, file: &[u8]) -> Ask {
    let fields = [("model", None, b"demo-transcribe".as_slice()), ("file", Some("a.wav"), file)];
    Ask::form("/v1/audio/transcriptions", &fields).bearer(key)
}

fn code(reply: &Reply) -> Value {
    reply.json()["error"]["code"].clone()
}

/// H1: files as large as OpenAI takes them pass and are metered, where JSON may have 10 MiB.
#[test]
fn h1_files_as_large_as_openai_takes_pass_and_are_metered() {
    let demo = Demo::start();
    let key = demo.key("healthy");
    let reply = demo.ask(&transcription(&key, &recording(25 * MIB)));
    assert_eq!(reply.head.status, 200, "{}", reply.text());
    let id = reply.head.request_id();
    assert_billed("25 MiB of sound", &demo.row(id), &demo.billed(id));
    // 26,214,356 bytes of 176,400 a second, at 0.0001 a second.
    let seconds =
        json!({"class": "second", "quantity": "148.608", "per_unit": "0.0001", "amount": "0.0148608"});
    assert_eq!(demo.receipt(id)["lines"][0], seconds);
    let picture = vec![b'p'; 50 * MIB];
    let edit = [
        ("model", None, b"demo-image-tokens".as_slice()),
        ("prompt", None, b"with a hat"),
        ("image", Some("a.png"), &picture),
    ];
    let reply = demo.ask(&Ask::form("/v1/images/edits", &edit).bearer(&key));
    assert_eq!(reply.head.status, 200, "{}", reply.text());
    let id = reply.head.request_id();
    assert_billed("50 MiB of a picture", &demo.row(id), &demo.billed(id));
    let video = [
        ("model", None, b"demo-video".as_slice()),
        ("prompt", None, b"a cat"),
        ("seconds", None, b"4"),
        ("input_reference", Some("cat.png"), &picture[..12 * MIB]),
    ];
    let made = demo.ask(&Ask::form("/v1/videos", &video).bearer(&key)).ok();
    assert_eq!(made["object"], "video", "{made:#}");
    let text = "x".repeat(10 * MIB);
    let reply = demo.chat(&key, "gpt-5-mini", &text);
    assert_eq!((reply.head.status, code(&reply)), (413, json!("body_too_large")));
}

/// One byte more than may be is refused, whether the length is told before or not; a form is no way round JSON's limit.
#[test]
fn a_body_may_be_as_long_as_its_limit_and_no_longer() {
    let limits = [
        ("TALLYGATE_LIMITS__UPLOAD_BYTES_MAX", "100000"),
        ("TALLYGATE_LIMITS__REQUEST_BODY_BYTES_MAX", "20000"),
    ];
    let demo = Demo::start_with(&limits);
    let key = demo.key("healthy");
    let around = transcription(&key, &[]).bytes();
    let head = around.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    let around = around.len() - head;
    let exact = transcription(&key, &recording(100_000 - around));
    assert_eq!(demo.ask(&exact).head.status, 200);
    let longer = transcription(&key, &recording(100_001 - around));
    let refused = |reply: &Reply, limit: &str| {
        assert_eq!((reply.head.status, code(reply)), (413, json!("body_too_large")), "{}", reply.text());
        let message = reply.json()["error"]["message"].as_str().unwrap().replace(',', "");
        assert!(message.contains(limit), "{message}");
        assert_eq!(demo.row(reply.head.request_id())["code"], "body_too_large");
    };
    refused(&demo.ask(&longer), "100000");
    // The same in chunks, whose sum nobody tells before.
    let bytes = longer.bytes();
    let start = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    let told = String::from_utf8_lossy(&bytes[..start]).into_owned();
    let told: String =
        told.split_inclusive("\r\n").filter(|line| !line.starts_with("content-length")).collect();
    let head = told.replacen("\r\n\r\n", "\r\ntransfer-encoding: chunked\r\n\r\n", 1);
    let mut connection = demo.connect();
    connection.send_raw(head.as_bytes()).unwrap();
    for piece in bytes[start..].chunks(9_999) {
        let chunk = [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat();
        // It may be refused before it has ended.
        let _sent = connection.send_raw(&chunk);
    }
    refused(&connection.reply().unwrap(), "100000");
    refused(&demo.chat(&key, "gpt-5-mini", &"x".repeat(20_000)), "20000");
    let form = [("model", None, b"gpt-5-mini".as_slice()), ("prompt", None, &[b'x'; 30_000])];
    let reply = demo.ask(&Ask::form("/v1/chat/completions", &form).bearer(&key));
    assert_eq!(code(&reply), "unsupported_media_type");
}

/// What a process has of the machine's memory, in KiB; `line`: `VmRSS` now, `VmHWM` at its highest.
fn memory_kib(pid: &Value, line: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let found = status.lines().find_map(|known| known.strip_prefix(line)?.strip_prefix(':'));
    found.unwrap().trim().trim_end_matches(" kB").parse().unwrap()
}

/// 200 uploads of 4 MiB come slowly and at once: memory grows by the budget and not by 800 MiB, whoever has no room is
/// told when to come again, small calls go on, and whoever was let in is served.
#[test]
fn uploads_at_once_stay_within_the_budget() {
    const UPLOADS: usize = 200;
    let limits = [
        ("TALLYGATE_LIMITS__UPLOAD_BYTES_MAX", "5242880"),
        ("TALLYGATE_LIMITS__REQUEST_BODY_BYTES_MAX", "1048576"),
        ("TALLYGATE_LIMITS__REQUEST_BODIES_BYTES_MAX", "16777216"),
    ];
    let demo = Demo::start_with(&limits);
    let key = demo.key("healthy");
    assert_eq!(demo.chat(&key, "gpt-5-mini", "Hi").head.status, 200);
    let before = memory_kib(&demo.ready()["pid"], "VmRSS");
    let upload = transcription(&key, &recording(4 * MIB)).bytes();
    let answered = AtomicUsize::new(0);
    let one = || -> Reply {
        let mut connection = Connection::open(demo.address()).unwrap();
        let (most, last) = upload.split_at(upload.len() - 1);
        let sent = most.chunks(64 << 10).try_for_each(|piece| connection.send_raw(piece));
        if sent.is_ok() && answered.load(Ordering::SeqCst) < UPLOADS - 3 {
            // Let in, or thrown away: whoever holds room gives it back only when the others have been told.
            let _told = connection
                .wait_for_answer(Duration::from_secs(20), || answered.load(Ordering::SeqCst) >= UPLOADS - 3);
        }
        let _sent = connection.send_raw(last);
        let reply = connection.reply().unwrap();
        answered.fetch_add(1, Ordering::SeqCst);
        reply
    };
    let (replies, small) = std::thread::scope(|scope| {
        let uploads: Vec<_> = (0..UPLOADS).map(|_| scope.spawn(one)).collect();
        let small = demo.chat(&key, "gpt-5-mini", "Hi");
        (uploads.into_iter().map(|upload| upload.join().unwrap()).collect::<Vec<_>>(), small)
    });
    assert_eq!(small.head.status, 200, "{}", small.text());
    let (served, refused): (Vec<_>, Vec<_>) = replies.iter().partition(|reply| reply.head.status == 200);
    assert_eq!((served.len(), refused.len()), (3, UPLOADS - 3));
    for reply in &refused {
        assert_eq!((reply.head.status, code(reply)), (503, json!("gateway_overloaded")), "{}", reply.text());
        assert_eq!(reply.head.header("retry-after"), Some("1"));
    }
    // They are in the log, as many of them one by one as of any flood.
    let logged = refused.iter().filter(|reply| reply.json()["error"]["why_url"].is_string());
    let rows: Vec<Value> = logged.map(|reply| demo.row(reply.head.request_id())).collect();
    assert!(!rows.is_empty() && rows.iter().all(|row| row["code"] == "gateway_overloaded"), "{rows:#?}");
    let why = demo.own(&key, &format!("/v1/requests/{}/why", rows[0]["id"].as_str().unwrap()));
    let why = &why["refusal"];
    assert_eq!((&why["code"], &why["status"]), (&json!("gateway_overloaded"), &json!(503)), "{why:#}");
    let grown = memory_kib(&demo.ready()["pid"], "VmHWM").saturating_sub(before);
    assert!(grown < 64 << 10, "memory grew by {grown} KiB");
    // All of the budget is there again.
    for _ in 0..3 {
        assert_eq!(demo.ask(&transcription(&key, &recording(4 * MIB))).head.status, 200);
    }
}

/// However a request ends whose body was being read or used – its caller leaves, it comes too slowly, it is refused – its
/// part of the budget is given back.
#[test]
fn the_budget_is_whole_again_after_whatever_happens_to_a_call() {
    let clock = Arc::new(ManualClock::new(SystemClock.now_ms()));
    let settings = vec![
        ("limits.body_timeout_ms", "300".to_owned()),
        ("limits.upload_bytes_max", (2 * MIB).to_string()),
        ("limits.request_body_bytes_max", (2 * MIB).to_string()),
        ("limits.request_bodies_bytes_max", (8 * MIB).to_string()),
    ];
    let station = Station::start(Backend::embedded(), clock, Port::reserve(), settings);
    station.post("/api/models", json!({"name": "m"})).ok();
    let account = station.post("/api/accounts", json!({"name": "Ann"})).ok()["id"].clone();
    let key = station.post("/api/keys", json!({"account": account, "name": "key"})).ok();
    let key = key["key"].as_str().unwrap();
    let taken = || station.app().bodies.taken();
    let text = "x".repeat(MIB);
    let bytes = Ask::chat(key, "m", &text).bytes();
    let half = &bytes[..bytes.len() / 2];
    // Its caller leaves.
    let mut connection = station.connect();
    connection.send_raw(half).unwrap();
    wait_until("its room is taken", || taken() > MIB as u64);
    drop(connection);
    wait_until("it is given back", || taken() == 0);
    // It comes too slowly.
    let mut connection = station.connect();
    connection.send_raw(half).unwrap();
    assert_eq!(code(&connection.reply().unwrap()), "request_timeout");
    assert_eq!(taken(), 0);
    // It is refused: before its body, by it, and behind it.
    for (ask, expected) in [
        (Ask::chat("tg-live-unknown", "m", &text), "malformed_key"),
        (Ask::new("POST", "/v1/chat/completions").bearer(key).raw_body("[".repeat(MIB)), "invalid_json"),
        (Ask::chat(key, "m", &text), "model_unpriced"),
    ] {
        assert_eq!(code(&station.ask(&ask)), expected);
        wait_until("its room is given back", || taken() == 0);
    }
    // The management interface counts, too.
    let mut connection = station.connect();
    let ask =
        Ask::post("/v1/simulate", &json!({"model": "m", "messages": [], "more": text})).bearer(key).bytes();
    connection.send_raw(&ask[..ask.len() / 2]).unwrap();
    wait_until("its room is taken", || taken() > 0);
    assert_eq!(code(&connection.reply().unwrap()), "request_timeout");
    assert_eq!(taken(), 0);
}
