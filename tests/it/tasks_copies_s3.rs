//! G1: copies of what tasks made, in a bucket of storage that verifies every signature.

use crate::on_both_backends;
use crate::support::backend::Backend;
use crate::support::bucket::{Bucket, SECRET};
use crate::support::http::Ask;
use crate::support::studio::Studio;
use crate::tasks_copies::{content, copies, copy, poll, refused};

on_both_backends!(
    g1_copies_go_to_a_bucket_and_are_read_from_it,
    g1_a_bucket_that_refuses_is_missing_or_down_is_tried_again,
    g1_a_copy_that_cannot_be_read_from_its_bucket_says_so,
);

/// What `doctor config` says of the storage: whether it works, and why.
fn doctor(settings: &[(&'static str, String)]) -> (bool, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tallygate.toml");
    let lines = settings.iter().map(|(name, value)| format!("{name} = {value:?}\n"));
    std::fs::write(&file, lines.collect::<String>()).unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tallygate"));
    let ran = command.arg("--config").arg(&file).args(["--json", "doctor", "config"]).output().unwrap();
    let found: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(ran.status.code(), Some(i32::from(found["works"] != true)), "{found:#}");
    assert!(!found.to_string().contains(SECRET), "{found:#}");
    (found["copies"]["works"] == true, found["copies"]["text"].as_str().unwrap_or_default().to_owned())
}

/// L3: an operator sees before the first result is lost whether copies can be kept.
#[test]
fn l3_the_doctor_tries_out_the_storage_for_copies() {
    let mut bucket = Bucket::without_bucket();
    let tried = |bucket: &Bucket, secret: &str, said: &str| {
        let (works, text) = doctor(&bucket.settings(secret));
        assert!(!works && text.contains(said), "{text}");
    };
    tried(&bucket, SECRET, "the storage was not reached");
    bucket.run(&[]);
    tried(
        &bucket,
        "not-the-secret",
        "no object can be put (the storage answered with 403 SignatureDoesNotMatch)",
    );
    tried(&bucket, SECRET, "no object can be put (the storage answered with 404 NoSuchBucket)");
    bucket.stop();
    bucket.run_with_bucket();
    let fine = (true, "an object was put into the bucket, read and deleted".to_owned());
    assert_eq!(
        (doctor(&bucket.settings(SECRET)), bucket.objects().len()),
        (fine, 0),
        "nothing is left behind"
    );
    // A folder is looked at, and not made.
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("copies");
    let of_folder =
        || doctor(&[("copies.to", "disk".to_owned()), ("copies.dir", place.display().to_string())]);
    assert!(of_folder().0 && !place.exists());
    std::fs::create_dir(&place).unwrap();
    assert!(of_folder().1.ends_with("can be written to"), "{}", of_folder().1);
    std::fs::remove_dir(&place).unwrap();
    std::fs::write(&place, "no folder").unwrap();
    assert!(!of_folder().0 && of_folder().1.contains("cannot be used"), "{}", of_folder().1);
    assert_eq!(doctor(&[("log.level", "info".to_owned())]), (false, String::new()), "no copies are kept");
}

const MINUTE_MS: u64 = 60_000;
const DAY_MS: u64 = 86_400_000;
/// Of a result that has three parts.
const LARGE: usize = 20_000_000;

fn open(backend: Backend, settings: &[(&'static str, String)]) -> Studio {
    let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    Studio::open_with(backend, "10", &settings)
}

fn made(studio: &Studio, prompt: &str) -> String {
    let id = studio.submit("demo-video", prompt, 4);
    poll(studio, &id);
    id
}

fn g1_copies_go_to_a_bucket_and_are_read_from_it(backend: Backend) {
    let bucket = Bucket::start();
    let studio = open(backend, &bucket.settings(SECRET));
    let [large, small] = [&format!("a whale #bytes={LARGE}"), "a cat"].map(|prompt| made(&studio, prompt));
    let whole = content(&studio, &large);
    assert_eq!((copy(&studio), bucket.objects().len()), (2, 4));
    assert_eq!(copies(&studio, &large), ["kept", ""]);
    for object in bucket.objects() {
        assert!(object.to_string_lossy().contains("/results/gateway/copies/task_"), "{object:?}");
        let sealed = std::fs::read(&object).unwrap();
        assert!(sealed.len() <= 8 << 20 && !sealed.windows(9).any(|words| words == b"a video o"));
    }
    studio.clock.advance_ms(2 * DAY_MS);
    let fetched = content(&studio, &large);
    assert_eq!((fetched.head.status, fetched.whole), (200, true));
    assert!(fetched.body == whole.body, "as it was made");
    assert_eq!(fetched.head.header("content-length"), Some(LARGE.to_string().as_str()));
    assert_eq!(fetched.head.header("content-type"), Some("video/mp4"));
    assert_eq!(content(&studio, &small).text(), "a video of a cat");
    // Deleted, and expired.
    let path = format!("/v1/videos/{large}");
    assert_eq!(studio.ask(&Ask::new("DELETE", path).bearer(&studio.key)).ok()["deleted"], true);
    assert_eq!((copy(&studio), bucket.objects().len()), (1, 1));
    studio.clock.advance_ms(30 * DAY_MS);
    assert_eq!((copy(&studio), bucket.objects().len()), (1, 0));
    assert_eq!(studio.app().tasks.copies().store.counts().unwrap(), []);
}

fn g1_a_bucket_that_refuses_is_missing_or_down_is_tried_again(backend: Backend) {
    let mut bucket = Bucket::without_bucket();
    let mut studio = open(backend, &bucket.settings("not-the-secret"));
    let id = made(&studio, "a cat");
    let tried = |studio: &Studio, said: &str| {
        studio.clock.advance_ms(15 * MINUTE_MS);
        assert_eq!(copy(studio), 1, "{said}");
        let [state, reason] = copies(studio, &id);
        assert!(state == "pending" && reason.starts_with(said), "{state}: {reason}");
        assert!(!reason.contains("not-the-secret") && content(studio, &id).whole);
    };
    tried(&studio, "the storage was not reached: ");
    bucket.run(&[]);
    tried(&studio, "the storage answered with 403 SignatureDoesNotMatch");
    studio.restart_with(bucket.settings(SECRET));
    tried(&studio, "the storage answered with 404 NoSuchBucket");
    bucket.stop();
    bucket.run_with_bucket();
    bucket.fail(true);
    tried(&studio, "the storage answered with 503 SlowDown");
    bucket.fail(false);
    studio.clock.advance_ms(15 * MINUTE_MS);
    assert_eq!((copy(&studio), copies(&studio, &id)[0].as_str()), (1, "kept"));
    assert_eq!(bucket.objects().len(), 1);
    // What is to be removed while it is down is removed later.
    bucket.stop();
    let path = format!("/v1/videos/{id}");
    assert_eq!(studio.ask(&Ask::new("DELETE", path).bearer(&studio.key)).ok()["deleted"], true);
    assert_eq!((copy(&studio), bucket.objects().len()), (1, 1));
    bucket.run(&[]);
    studio.clock.advance_ms(15 * MINUTE_MS);
    assert_eq!((copy(&studio), bucket.objects().len()), (1, 0));
}

fn g1_a_copy_that_cannot_be_read_from_its_bucket_says_so(backend: Backend) {
    let mut bucket = Bucket::start();
    let studio = open(backend, &bucket.settings(SECRET));
    let id = made(&studio, &format!("a whale #bytes={LARGE}"));
    copy(&studio);
    // While the upstream has it, it comes from there.
    bucket.stop();
    assert!(content(&studio, &id).whole);
    bucket.run(&[]);
    // A part in the midst is gone: the answer breaks off, and it is copied again.
    std::fs::remove_file(&bucket.objects()[1]).unwrap();
    let reply = content(&studio, &id);
    assert_eq!((reply.head.status, reply.whole), (200, false));
    assert_eq!(copies(&studio, &id)[0], "pending");
    assert_eq!((copy(&studio), bucket.objects().len()), (1, 3));
    assert!(content(&studio, &id).whole);
    // Nobody else has it any more.
    studio.clock.advance_ms(2 * DAY_MS);
    bucket.stop();
    refused(&content(&studio, &id), 503, "task_result_unavailable");
    bucket.run(&[]);
    bucket.fail(true);
    refused(&content(&studio, &id), 503, "task_result_unavailable");
    bucket.fail(false);
    assert_eq!(content(&studio, &id).body.len(), LARGE);
    for object in bucket.objects() {
        std::fs::remove_file(object).unwrap();
    }
    refused(&content(&studio, &id), 410, "task_result_gone");
}
