//! G1: copies of what tasks made, in a folder: kept when its upstream has forgotten it, and never given out changed.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::json;
use tallygate::clock::Clock;
use tallygate::demo::upstream::studio_task_api;
use tallygate::secret::{MasterKey, Secret, sealed_by};
use tallygate::tasks::{Carrier, CopyState};

use crate::on_both_backends;
use crate::support::app::ADMIN_TOKEN;
use crate::support::backend::Backend;
use crate::support::demo::wait_until;
use crate::support::http::{Ask, Reply};
use crate::support::studio::Studio;

on_both_backends!(
    g1_a_video_outlives_its_upstream_as_a_copy,
    g1_pictures_and_foreign_results_are_copied,
    g1_a_copy_that_was_changed_is_never_given_out_as_a_whole,
    g1_a_copy_that_fails_is_tried_again_and_then_given_up,
    g1_operators_are_told_of_copies_that_are_given_up,
    g1_a_task_that_is_deleted_takes_its_copies_along,
    g1_what_a_crash_left_is_taken_up_and_nothing_is_left_over,
    g1_of_several_who_copy_each_result_one_does,
    g1_a_copy_is_read_when_the_master_key_has_turned,
    g1_a_result_is_followed_where_its_upstream_leads_and_nowhere_else,
);

const MINUTE_MS: u64 = 60_000;
/// Nobody listens there.
const NOWHERE: &str = "http://127.0.0.1:9/v1";
const DAY_MS: u64 = 86_400_000;

/// A folder for copies, beside the gateway's.
pub struct Copied {
    pub studio: Studio,
    pub folder: tempfile::TempDir,
}

impl Copied {
    fn open(backend: Backend, more: &[(&'static str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("copies").display().to_string();
        let settings = [("copies.to", "disk"), ("copies.dir", place.as_str())];
        let settings: Vec<_> = settings.iter().chain(more).copied().collect();
        Copied { studio: Studio::open_with(backend, "10", &settings), folder }
    }

    fn files(&self) -> Vec<PathBuf> {
        files_in(&self.folder.path().join("copies"))
    }

    /// A video that is made.
    fn made(&self, prompt: &str) -> String {
        let id = self.studio.submit("demo-video", prompt, 4);
        poll(&self.studio, &id);
        id
    }
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

pub fn poll(studio: &Studio, id: &str) {
    for _ in 0..2 {
        studio.poll_after(60_000);
    }
    assert_eq!(studio.told(id)[..2], ["succeeded", "settled"]);
}

/// How many copies were looked at.
pub fn copy(studio: &Studio) -> usize {
    studio.app().tasks.copy_due(&Carrier::new().unwrap()).unwrap()
}

pub fn content(studio: &Studio, id: &str) -> Reply {
    studio.ask(&Ask::get(format!("/v1/videos/{id}/content")).bearer(&studio.key))
}

#[track_caller]
pub fn refused(reply: &Reply, status: u16, code: &str) {
    assert_eq!((reply.head.status, &reply.json()["error"]["code"]), (status, &json!(code)));
}

/// State and reason.
pub fn copies(studio: &Studio, id: &str) -> [String; 2] {
    let task = studio.task(id);
    ["copies", "copy_failure"].map(|field| task[field].as_str().unwrap_or_default().to_owned())
}

/// Its channel leads there from now on.
fn upstream_at(studio: &Studio, url: &str) {
    let channel = format!("/api/channels/{}", studio.channel);
    let version = studio.get(&channel)["version"].clone();
    studio.patch(&channel, &json!({"version": version, "base_url": url})).ok();
}

fn expiry(studio: &Studio, id: &str) -> jiff::Timestamp {
    studio.task(id)["result_expires_at"].as_str().unwrap().parse().unwrap()
}

fn g1_a_video_outlives_its_upstream_as_a_copy(backend: Backend) {
    let mut copied = Copied::open(backend, &[("copies.kept_days", "30")]);
    let id = copied.made("a cat #bytes=200000");
    // It is settled and can be fetched; the copy comes behind.
    assert_eq!(copies(&copied.studio, &id), ["pending", ""]);
    let (before, first) = (expiry(&copied.studio, &id), content(&copied.studio, &id));
    assert_eq!((first.body.len(), copied.files().len()), (200_000, 0));
    assert_eq!((copy(&copied.studio), copies(&copied.studio, &id)), (1, ["kept", ""].map(String::from)));
    assert_eq!(copy(&copied.studio), 0, "once is enough");
    // Sealed, for nobody else to read.
    let [file] = &copied.files()[..] else { panic!("{:?}", copied.files()) };
    let sealed = std::fs::read(file).unwrap();
    assert!(sealed.len() > 200_000 && !sealed.windows(20).any(|words| words == b"a video of a cat #by"));
    assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    let folder = std::fs::metadata(file.parent().unwrap()).unwrap();
    assert_eq!(folder.permissions().mode() & 0o777, 0o700);
    assert_eq!(file.file_name().unwrap().to_str().unwrap().split('-').next(), Some(id.as_str()));
    // What the task tells is the copy's end.
    let days = expiry(&copied.studio, &id).duration_since(before).as_hours() / 24;
    assert!((28..=30).contains(&days), "{days}");
    let own = copied.studio.own(&format!("/v1/videos/{id}"));
    assert_eq!(own["expires_at"], json!(expiry(&copied.studio, &id).as_second()));
    // The upstream's time is over, and its channel gone.
    copied.studio.clock.advance_ms(2 * DAY_MS);
    copied.studio.restart_without_channel();
    let fetched = content(&copied.studio, &id);
    assert_eq!((fetched.head.status, fetched.whole, &fetched.body), (200, true, &first.body));
    assert_eq!(fetched.head.header("content-type"), Some("video/mp4"));
    assert_eq!(fetched.head.header("content-length"), Some("200000"));
    // Where its storage is not set any more, it is there, and cannot be read.
    let place = copied.folder.path().join("copies").display().to_string();
    copied.studio.restart_with(Vec::new());
    let reply = content(&copied.studio, &id);
    refused(&reply, 503, "task_result_unavailable");
    assert_eq!(copies(&copied.studio, &id)[0], "kept");
    copied.studio.restart_with(vec![("copies.dir", place)]);
    assert!(content(&copied.studio, &id).whole, "no new copies are made, and those that are there are read");
    // Until its own time is over.
    copied.studio.clock.advance_ms(29 * DAY_MS);
    refused(&content(&copied.studio, &id), 410, "task_result_gone");
    assert_eq!((copy(&copied.studio), copied.files().len()), (1, 0));
    assert_eq!(copies(&copied.studio, &id), ["removed", ""]);
}

fn g1_pictures_and_foreign_results_are_copied(backend: Backend) {
    let copied = Copied::open(backend, &[]);
    let studio = &copied.studio;
    let id = studio.ask(&studio.image("demo-image", "a cat", 2)).ok()["id"].as_str().unwrap().to_owned();
    studio.drawn(&id);
    let name = "demo-studio-video";
    studio.post("/api/models", json!({"name": name, "endpoints": ["videos"]})).ok();
    let price = json!({"model": name, "units": [{"unit": "second", "price": "0.10"}]});
    studio.post("/api/prices", price).ok();
    let more = json!({"base_url": studio.upstream_url().replace("/v1", "/studio"),
        "task_api": studio_task_api()});
    studio.channel_before("demo-studio-video", more);
    let foreign = studio.submit("demo-studio-video", "a dog", 4);
    poll(studio, &foreign);
    assert_eq!((copy(studio), copied.files().len()), (3, 3));
    assert_eq!(copies(studio, &id)[0], "kept");
    studio.clock.advance_ms(2 * DAY_MS);
    studio.poll_after(MINUTE_MS.cast_signed());
    for number in 0..2 {
        let path = format!("/v1/images/{id}/content?index={number}");
        let picture = studio.ask(&Ask::get(path).bearer(&studio.key));
        assert_eq!((picture.head.status, picture.text()), (200, "echo: a cat".to_owned()));
        assert_eq!(picture.head.header("content-type"), Some("image/png"));
    }
    let none = studio.ask(&Ask::get(format!("/v1/images/{id}/content?index=2")).bearer(&studio.key));
    assert_eq!(none.head.status, 410);
    assert_eq!(content(studio, &foreign).text(), "file 1 of a dog");
    // What a video shows besides is not copied.
    let preview = format!("/v1/videos/{foreign}/content?variant=thumbnail");
    refused(&studio.ask(&Ask::get(preview).bearer(&studio.key)), 410, "task_result_gone");
}

fn g1_a_copy_that_was_changed_is_never_given_out_as_a_whole(backend: Backend) {
    let copied = Copied::open(backend, &[]);
    let id = copied.made("a cat #bytes=600000");
    copy(&copied.studio);
    let whole = content(&copied.studio, &id);
    let change = |change: &dyn Fn(&mut Vec<u8>)| {
        let file = copied.files().pop().unwrap();
        let mut bytes = std::fs::read(&file).unwrap();
        change(&mut bytes);
        std::fs::write(&file, &bytes).unwrap();
    };
    // Where it is seen before anything is answered, the upstream has it still; and it is copied again.
    let damages: [fn(&mut Vec<u8>); 3] =
        [|bytes| bytes[100] ^= 1, |bytes| bytes.truncate(300_000), |bytes| bytes.push(0)];
    for damage in damages {
        change(&damage);
        let reply = content(&copied.studio, &id);
        assert_eq!((reply.head.status, reply.whole, &reply.body), (200, true, &whole.body));
        assert_eq!(copies(&copied.studio, &id), ["pending", "the copy is not what was written"]);
        assert_eq!((copy(&copied.studio), copied.files().len()), (1, 1));
        assert_eq!(copies(&copied.studio, &id), ["kept", ""]);
    }
    // In the midst of it: it breaks off.
    change(&|bytes| bytes[500_000] ^= 1);
    let reply = content(&copied.studio, &id);
    assert_eq!((reply.head.status, reply.whole), (200, false));
    assert_eq!(copies(&copied.studio, &id)[0], "pending");
    copy(&copied.studio);
    assert!(content(&copied.studio, &id).whole);
    // One that is gone when the upstream has forgotten the result is gone for good.
    std::fs::remove_file(copied.files().pop().unwrap()).unwrap();
    copied.studio.clock.advance_ms(2 * DAY_MS);
    refused(&content(&copied.studio, &id), 410, "task_result_gone");
    upstream_at(&copied.studio, NOWHERE);
    copy(&copied.studio);
    assert_eq!(copies(&copied.studio, &id)[0], "failed");
}

fn g1_a_copy_that_fails_is_tried_again_and_then_given_up(backend: Backend) {
    let copied = Copied::open(backend, &[("copies.bytes_max", "10000")]);
    let studio = &copied.studio;
    let large = copied.made("a whale #bytes=10001");
    assert_eq!((copy(studio), copies(studio, &large)[0].as_str()), (1, "failed"));
    assert_eq!(copies(studio, &large)[1], "it is larger than 10000 bytes");
    assert_eq!(content(studio, &large).body.len(), 10_001, "its upstream has it");
    // The upstream cannot be reached for a while, then it can.
    let [late, never] = ["a cat", "a dog"].map(|prompt| copied.made(prompt));
    let at = |url: &str| upstream_at(studio, url);
    at(NOWHERE);
    assert_eq!((copy(studio), copy(studio)), (2, 0), "not at once again");
    let [state, reason] = copies(studio, &late);
    assert!(state == "pending" && reason.starts_with("the upstream was not reached"), "{state}: {reason}");
    studio.clock.advance_ms(MINUTE_MS);
    assert_eq!(copy(studio), 2);
    let deleted = studio.ask(&Ask::new("DELETE", format!("/v1/videos/{never}")).bearer(&studio.key));
    assert_eq!(deleted.head.status, 200);
    at(studio.upstream_url());
    studio.clock.advance_ms(10 * MINUTE_MS);
    copy(studio);
    assert_eq!((copies(studio, &late), copied.files().len()), (["kept", ""].map(String::from), 1));
    // A folder that cannot be written to is no reason to forget the result.
    let place = copied.folder.path().join("copies");
    let kept = copied.folder.path().join("away");
    let stuck = copied.made("a hen");
    std::fs::rename(&place, &kept).unwrap();
    copy(studio);
    assert_eq!(copies(studio, &stuck)[0], "pending");
    std::fs::rename(&kept, &place).unwrap();
    studio.clock.advance_ms(MINUTE_MS);
    copy(studio);
    assert_eq!(copies(studio, &stuck)[0], "kept");
    // The upstream's time is over before it could be copied.
    let gone = copied.made("a cow");
    at(NOWHERE);
    copy(studio);
    studio.clock.advance_ms(DAY_MS);
    copy(studio);
    assert_eq!(copies(studio, &gone)[0], "failed");
    refused(&content(studio, &gone), 410, "task_result_gone");
}

/// Once an hour at the most, and also after a restart.
fn g1_operators_are_told_of_copies_that_are_given_up(backend: Backend) {
    let mut copied = Copied::open(backend, &[("copies.bytes_max", "10000")]);
    let told = |copied: &Copied| {
        let notices = copied.studio.get("/api/notices?category=tasks")["data"].as_array().unwrap().clone();
        assert!(notices.iter().all(|notice| notice["event"] == "result_copy_failed"), "{notices:?}");
        notices
    };
    let large = |copied: &Copied, what: &str| {
        let id = copied.made(&format!("{what} #bytes=10001"));
        copy(&copied.studio);
        assert_eq!(copies(&copied.studio, &id)[0], "failed");
        id
    };
    let first = large(&copied, "a whale");
    let [notice] = &told(&copied)[..] else { panic!("{:?}", told(&copied)) };
    assert_eq!((&notice["account"], &notice["subject"]), (&json!(null), &json!(first)), "{notice:#}");
    let facts = json!({"number": 1, "storage": "disk", "reason": "it is larger than 10000 bytes"});
    assert_eq!(notice["facts"], facts, "{notice:#}");
    large(&copied, "a shark");
    copied.studio.restart();
    large(&copied, "a squid");
    assert_eq!(told(&copied).len(), 1);
    let failed = copied.studio.get("/api/tasks?copies=failed");
    assert_eq!(failed["data"].as_array().unwrap().len(), 3);
    copied.studio.clock.advance_ms(60 * MINUTE_MS);
    let last = large(&copied, "a ray");
    assert_eq!((told(&copied).len(), &told(&copied)[0]["subject"]), (2, &json!(last)));
    let odd = copied.studio.ask(&Ask::get("/api/tasks?copies=lost").bearer(ADMIN_TOKEN));
    assert_eq!((odd.head.status, &odd.json()["error"]["param"]), (400, &json!("copies")));
}

fn g1_a_task_that_is_deleted_takes_its_copies_along(backend: Backend) {
    let copied = Copied::open(backend, &[]);
    let studio = &copied.studio;
    let [kept, pending] = ["a cat", "a dog"].map(|prompt| copied.made(prompt));
    studio.app().tasks.copy_due(&Carrier::new().unwrap()).unwrap();
    let late = copied.made("a cow");
    for id in [&kept, &pending, &late] {
        let path = format!("/v1/videos/{id}");
        assert_eq!(studio.ask(&Ask::new("DELETE", path).bearer(&studio.key)).ok()["deleted"], true);
        assert_eq!(content(studio, id).head.status, 404);
    }
    // A folder that is not there cannot be cleared; it is tried again.
    let [place, away] = ["copies", "away"].map(|name| copied.folder.path().join(name));
    std::fs::rename(&place, &away).unwrap();
    copy(studio);
    assert_eq!(files_in(&away).len(), 2);
    std::fs::rename(&away, &place).unwrap();
    studio.clock.advance_ms(20 * MINUTE_MS);
    copy(studio);
    assert_eq!(copied.files().len(), 0);
    for id in [&kept, &pending, &late] {
        assert_eq!(copies(studio, id)[0], "removed");
    }
    assert_eq!(studio.app().tasks.copies().store.counts().unwrap(), []);
}

/// Rows as a process leaves them that dies between two steps, and what lies in the folder then.
fn g1_what_a_crash_left_is_taken_up_and_nothing_is_left_over(backend: Backend) {
    let mut copied = Copied::open(backend, &[("tasks.lease_ms", "60000")]);
    let ids = ["begun", "half", "whole", "deleted"].map(|what| copied.made(what));
    let place = copied.folder.path().join("copies");
    let names: Vec<_> = ids.iter().map(|id| format!("{id}-0-3")).collect();
    let leased_ms = copied.studio.clock.now_ms() + 60_000;
    copied.studio.restart_after(|backend| {
        let stores = backend.open();
        for id in &ids {
            let id: tallygate::id::TaskId = id.parse().unwrap();
            let sql = "UPDATE task_copies SET object = 3, parts = 1, data_key = ?2, version = 4, due_ms = ?3 \
                 WHERE task = ?1";
            let params = tallygate::store_params![id.raw(), vec![1u8], leased_ms];
            assert_eq!(stores.tasks.execute(sql, params).unwrap(), 1);
        }
        std::fs::write(place.join(format!(".{}.part", names[1])), "half of it").unwrap();
        std::fs::write(place.join(&names[2]), "all of it").unwrap();
        std::fs::write(place.join(format!(".{}.part", names[3])), "half of it").unwrap();
    });
    let studio = &copied.studio;
    let path = format!("/v1/videos/{}", ids[3]);
    assert_eq!(studio.ask(&Ask::new("DELETE", path).bearer(&studio.key)).ok()["deleted"], true);
    assert_eq!(copy(studio), 0, "somebody may be at them");
    studio.clock.advance_ms(2 * MINUTE_MS);
    assert_eq!((copy(studio), copied.files().len()), (4, 3));
    for (id, what) in ids.iter().zip(["begun", "half", "whole"]) {
        assert_eq!(copies(studio, id), ["kept", ""]);
        assert_eq!(content(studio, id).text(), format!("a video of {what}"));
    }
    assert!(copied.files().iter().all(|file| !names.iter().any(|name| file.ends_with(name))));
}

fn g1_of_several_who_copy_each_result_one_does(backend: Backend) {
    let copied = Copied::open(backend, &[]);
    let ids: Vec<_> =
        (0..12).map(|number| copied.studio.submit("demo-video", &format!("cat {number}"), 1)).collect();
    for _ in 0..2 {
        copied.studio.poll_after(60_000);
    }
    let done: usize = std::thread::scope(|threads| {
        let copiers: Vec<_> = (0..4).map(|_| threads.spawn(|| copy(&copied.studio))).collect();
        copiers.into_iter().map(|copier| copier.join().unwrap()).sum()
    });
    assert_eq!((done, copied.files().len()), (12, 12));
    let counts = copied.studio.app().tasks.copies().store.counts().unwrap();
    assert_eq!(counts, [(CopyState::Kept, 12)]);
    for (number, id) in ids.iter().enumerate() {
        assert_eq!(content(&copied.studio, id).text(), format!("a video of cat {number}"));
    }
}

/// Its own key is small, and sealed anew; what lies in the folder stays as it is.
fn g1_a_copy_is_read_when_the_master_key_has_turned(backend: Backend) {
    let mut copied = Copied::open(backend, &[]);
    let id = copied.made("a cat");
    copy(&copied.studio);
    let sealed = std::fs::read(copied.files().pop().unwrap()).unwrap();
    let keys = &copied.studio.app().master_keys;
    keys.begin(Some(&Secret::new("08".repeat(32))), "test").unwrap();
    keys.start_resealing("test").unwrap();
    wait_until("everything is sealed anew", || !keys.resealing.standing().running);
    copied.studio.restart_after(|backend| {
        let row = backend.open().tasks.query_one("SELECT data_key FROM task_copies", &[]).unwrap();
        let by = sealed_by(row.unwrap().blob(0).unwrap());
        assert_eq!(by, Some(MasterKey::from_hex(&"08".repeat(32)).unwrap().id()));
    });
    assert_eq!(content(&copied.studio, &id).text(), "a video of a cat");
    assert_eq!(std::fs::read(copied.files().pop().unwrap()).unwrap(), sealed);
}

fn g1_a_result_is_followed_where_its_upstream_leads_and_nowhere_else(backend: Backend) {
    let copied = Copied::open(backend, &[]);
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    elsewhere.set_nonblocking(true).unwrap();
    let port = elsewhere.local_addr().unwrap().port();
    let [near, circle, away] =
        ["#moved", "#circle", &format!("#away={port}")].map(|words| copied.made(&format!("a cat {words}")));
    assert_eq!(content(&copied.studio, &near).text(), "a video of a cat #moved");
    for led in [&circle, &away] {
        refused(&content(&copied.studio, led), 502, "upstream_error");
    }
    // Whoever copies it is led the same way.
    assert_eq!(copy(&copied.studio), 3);
    assert_eq!(copies(&copied.studio, &near), ["kept", ""]);
    let said = "its answer leads on, and it ";
    for (led, why) in
        [(&circle, "does so too often"), (&away, "is in clear text, and not the upstream's own")]
    {
        let reason = format!("the upstream was not reached: {said}{why}");
        assert_eq!(copies(&copied.studio, led), ["pending", &reason]);
    }
    assert_eq!(elsewhere.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "nobody came");
}
