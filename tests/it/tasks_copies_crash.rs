//! G1: SIGKILL at random moments while results are copied, into a folder and into a bucket. Afterwards every result has its
//! copy, each is what was made, and nothing else is left in storage.
//!
//! `TORTURE_ROUNDS` says how many rounds, `TORTURE_SEED` repeats a run.

use std::time::Duration;

use serde_json::json;

use crate::support::bucket::{Bucket, SECRET};
use crate::support::demo::wait_until;
use crate::support::house::House;
use crate::support::http::Ask;
use crate::support::load::Dice;
use crate::torture::{any_seed, setting};

const MODEL: &str = "demo-video";
const ROUNDS: u64 = 5;
const RESULTS: usize = 4;
/// Of three parts.
const BYTES: usize = 20_000_000;

/// A gateway that copies, with a key that can pay for videos.
fn open(settings: &[(&'static str, String)]) -> (House, String) {
    let quick = [("tasks.poll_ms", "20"), ("tasks.lease_ms", "1000")];
    let settings = settings.iter().map(|(name, value)| (*name, value.as_str()));
    let house = House::open(&quick.into_iter().chain(settings).collect::<Vec<_>>());
    house.made("/api/models", &json!({"name": MODEL, "endpoints": ["videos"]}));
    house.made("/api/prices", &json!({"model": MODEL, "units": [{"unit": "second", "price": "0.10"}]}));
    let channel = json!({"name": "studio", "base_url": house.upstream_url, "credential": house.upstream_key(),
        "models": {MODEL: MODEL}});
    house.made("/api/channels", &channel);
    let account = house.made("/api/accounts", &json!({"name": "Copies"}));
    let credit = json!({"amount": "1000", "kind": "purchased", "reference": "r", "reason": "test"});
    house.post(&format!("/api/accounts/{account}/credits"), &credit).ok();
    let key = house.post("/api/keys", &json!({"account": account, "name": "key"})).ok();
    (house, key["key"].as_str().unwrap().to_owned())
}

/// `objects` tells what lies in storage, which is to be `per_result` for each result.
#[expect(clippy::print_stderr, reason = "whoever reads of a failed test wants to repeat it")]
fn torture(settings: &[(&'static str, String)], per_result: usize, objects: impl Fn() -> usize) {
    let rounds = setting("TORTURE_ROUNDS").unwrap_or(ROUNDS);
    let seed = setting("TORTURE_SEED").unwrap_or_else(any_seed);
    eprintln!("repeat with: TORTURE_SEED={seed} TORTURE_ROUNDS={rounds}");
    let mut dice = Dice::new(seed);
    let (mut house, key) = open(settings);
    for round in 0..rounds {
        let submit = |number: usize| {
            let prompt = format!("whale {number} of {round} #bytes={BYTES}");
            let body = json!({"model": MODEL, "prompt": prompt, "seconds": "4"});
            let made = house.ask(&Ask::post("/v1/videos", &body).bearer(&key)).ok();
            made["id"].as_str().unwrap().to_owned()
        };
        let ids: Vec<_> = (0..RESULTS).map(submit).collect();
        let stands = |house: &House, id: &str| house.get(&format!("/api/tasks/{id}"))["copies"].clone();
        wait_until("one is to be copied", || ids.iter().any(|id| !stands(&house, id).is_null()));
        for _ in 0..2 {
            std::thread::park_timeout(Duration::from_millis(dice.below(900)));
            house.crash();
        }
        wait_until("all are copied", || ids.iter().all(|id| stands(&house, id) == "kept"));
        // The gateway that has just started tries the storage out.
        wait_until("nothing else is left", || objects() == RESULTS * per_result);
        for (number, id) in ids.iter().enumerate() {
            let path = format!("/v1/videos/{id}");
            let content = house.ask(&Ask::get(format!("{path}/content")).bearer(&key));
            let words = format!("a video of whale {number} of {round} ");
            assert!(content.body.len() == BYTES && content.body.starts_with(words.as_bytes()));
            assert_eq!(house.ask(&Ask::new("DELETE", path).bearer(&key)).ok()["deleted"], true);
        }
        if round % 2 == 0 {
            house.crash();
        }
        wait_until("all are removed", || objects() == 0);
    }
}

#[test]
fn g1_a_killed_gateway_goes_on_copying_into_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().display().to_string();
    let files = || std::fs::read_dir(folder.path()).unwrap().count();
    torture(&[("copies.to", "disk".to_owned()), ("copies.dir", place)], 1, files);
}

#[test]
fn g1_a_killed_gateway_goes_on_copying_into_a_bucket() {
    let bucket = Bucket::start();
    torture(&bucket.settings(SECRET), 3, || bucket.objects().len());
}
