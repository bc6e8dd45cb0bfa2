//! A gateway on a real socket beside the simulated upstream, with video models, on either store, and a clock that the
//! test moves. Nothing polls by itself: the test says when.
//!
//! When the test is over the books are verified, and no hold is open.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use serde_json::{Value, json};
use tallygate::clock::{Clock, ManualClock, SystemClock};
use tallygate::demo::upstream;
use tallygate::id::ChannelId;

use super::backend::Backend;
use super::demo::wait_until;
use super::http::Ask;
use super::port::Port;
use super::station::Station;

pub struct Studio {
    station: Station,
    _upstream: tokio::runtime::Runtime,
    upstream_url: String,
    upstream_dir: tempfile::TempDir,
    pub account: String,
    pub key: String,
    pub channel: String,
}

const MODELS: [&str; 3] = ["demo-video", "demo-video-fail", "demo-video-stuck"];
/// Sold by the picture, and by tokens.
const IMAGE_MODELS: [&str; 2] = ["demo-image", "demo-image-tokens"];

impl Studio {
    /// With an account that has this much, a key of it, and one channel.
    pub fn open(backend: Backend, money: &str) -> Self {
        Self::open_with(backend, money, &[])
    }

    /// The same, with settings beside, or instead of, the usual ones.
    pub fn open_with(backend: Backend, money: &str, settings: &[(&'static str, &str)]) -> Self {
        let settings = settings.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        let upstream_dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let upstream = runtime.block_on(upstream::start("127.0.0.1:0".parse().unwrap(), upstream_dir.path()));
        let upstream = upstream.unwrap();
        let upstream_url = upstream.url();
        runtime.spawn(upstream.serve());
        // The simulated upstream has the system's time.
        let clock = Arc::new(ManualClock::new(SystemClock.now_ms()));
        let mut studio = Studio {
            station: Station::start(backend, clock, Port::reserve(), settings),
            _upstream: runtime,
            upstream_url,
            upstream_dir,
            account: String::new(),
            key: String::new(),
            channel: String::new(),
        };
        studio.furnish(money);
        studio
    }

    fn furnish(&mut self, money: &str) {
        for name in MODELS {
            let model = json!({"name": name, "endpoints": ["videos"]});
            self.post("/api/models", model).ok();
            let price = json!({"model": name, "units": [{"unit": "second", "price": "0.10"}]});
            self.post("/api/prices", price).ok();
        }
        let drawing = json!({"input": "5", "output": "40", "image_in": "10"});
        let pictures =
            [json!({"units": [{"unit": "image", "price": "0.04"}]}), json!({"per_million": drawing})];
        for (name, mut price) in IMAGE_MODELS.into_iter().zip(pictures) {
            let endpoints = ["images/generations", "images/edits"];
            let model = json!({"name": name, "endpoints": endpoints, "output_tokens_max": 6_240,
                "image_tokens_max": 2_000});
            self.post("/api/models", model).ok();
            price["model"] = json!(name);
            self.post("/api/prices", price).ok();
        }
        let models: serde_json::Map<_, _> =
            MODELS.iter().chain(&IMAGE_MODELS).map(|name| ((*name).to_owned(), json!(name))).collect();
        let credential = upstream::key_in(self.upstream_dir.path()).unwrap();
        let channel = json!({"name": "studio", "base_url": self.upstream_url, "credential": credential.expose(),
            "models": models, "environments": ["live", "test"], "cost_share": "1"});
        let id = |made: Value| made["id"].as_str().unwrap().to_owned();
        self.channel = id(self.post("/api/channels", channel).ok());
        self.account = id(self.post("/api/accounts", json!({"name": "Ann"})).ok());
        if money != "0" {
            let credit = json!({"amount": money, "kind": "purchased", "reference": "r", "reason": "test"});
            self.post(&format!("/api/accounts/{}/credits", self.account), credit).ok();
        }
        self.key = self.key_with(json!({})).1;
    }

    /// Another key: its id and its text.
    pub fn key_with(&self, more: Value) -> (String, String) {
        let mut body = json!({"account": self.account, "name": "key"});
        body.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
        let made = self.post("/api/keys", body).ok();
        (made["id"].as_str().unwrap().to_owned(), made["key"].as_str().unwrap().to_owned())
    }

    /// Stops the gateway and starts it without the channel's document.
    pub fn restart_without_channel(&mut self) {
        let id = self.channel.parse::<ChannelId>().unwrap().raw();
        self.station.restart_after(|backend| {
            let stores = backend.open();
            for table in ["directory_current", "directory_log"] {
                let sql = format!("DELETE FROM {table} WHERE kind = 'channel' AND id = ?1");
                assert!(stores.directory.execute(&sql, tallygate::store_params![id]).unwrap() > 0, "{table}");
            }
        });
    }

    /// As the caller.
    #[track_caller]
    pub fn own(&self, path: &str) -> Value {
        self.get_as(&self.key, path)
    }

    pub fn video(&self, model: &str, prompt: &str, seconds: u64) -> Ask {
        let body =
            json!({"model": model, "prompt": prompt, "seconds": seconds.to_string(), "size": "1280x720"});
        Ask::post("/v1/videos", &body).bearer(&self.key)
    }

    /// Submits; the task's id.
    #[track_caller]
    pub fn submit(&self, model: &str, prompt: &str, seconds: u64) -> String {
        self.ask(&self.video(model, prompt, seconds)).ok()["id"].as_str().unwrap().to_owned()
    }

    /// Another channel to the same upstream that is tried first; what it has else.
    pub fn channel_before(&self, model: &str, more: Value) -> String {
        let credential = upstream::key_in(self.upstream_dir.path()).unwrap();
        let mut channel = json!({"name": "before", "base_url": self.upstream_url, "priority": 10,
            "credential": credential.expose(), "models": {model: model}, "cost_share": "1"});
        channel.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
        self.post("/api/channels", channel).ok()["id"].as_str().unwrap().to_owned()
    }

    /// The key that the simulated upstream knows.
    pub fn upstream_key(&self) -> String {
        upstream::key_in(self.upstream_dir.path()).unwrap().expose().to_owned()
    }

    /// Of the simulated upstream.
    pub fn upstream_url(&self) -> &str {
        &self.upstream_url
    }

    /// Pictures as a task.
    pub fn image(&self, model: &str, prompt: &str, n: u64) -> Ask {
        let body = json!({"model": model, "prompt": prompt, "n": n, "size": "1024x1024"});
        Ask::post("/v1/images", &body).bearer(&self.key)
    }

    /// An image task, once it has come to its end.
    #[track_caller]
    pub fn drawn(&self, id: &str) -> Value {
        let is_over = |task: &Value| !matches!(task["money"].as_str(), Some("held"));
        wait_until("the pictures are made", || is_over(&self.task(id)));
        self.own(&format!("/v1/images/{id}"))
    }

    /// Looks at what is due, after so long.
    pub fn poll_after(&self, ms: i64) -> usize {
        self.clock.advance_ms(ms.try_into().unwrap());
        self.app().tasks.poll_due().unwrap()
    }

    #[track_caller]
    pub fn task(&self, id: &str) -> Value {
        self.get(&format!("/api/tasks/{id}"))
    }

    /// State, money and what was charged.
    #[track_caller]
    pub fn told(&self, id: &str) -> [String; 3] {
        let task = self.task(id);
        ["state", "money", "charged"].map(|field| task[field].as_str().unwrap().to_owned())
    }

    /// Available and held.
    pub fn balance(&self) -> [String; 2] {
        let balance = self.get(&format!("/api/accounts/{}/balance", self.account));
        ["available", "held"].map(|field| balance[field].as_str().unwrap().to_owned())
    }

    pub fn bill(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.upstream_dir.path().join("upstream-bill.jsonl"));
        text.unwrap_or_default().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Deref for Studio {
    type Target = Station;

    fn deref(&self) -> &Station {
        &self.station
    }
}

impl DerefMut for Studio {
    fn deref_mut(&mut self) -> &mut Station {
        &mut self.station
    }
}

impl Drop for Studio {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(self.app().books.open_holds(), 0, "a hold is open");
        }
    }
}
