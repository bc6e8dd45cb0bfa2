//! The built program as `tallygate serve`, which a test can end as a crash would, beside payment providers and an upstream
//! that live in the test and outlive it.
//!
//! When the test is over the books are verified, and no secret may be in the log or in the files.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use serde_json::{Value, json};
use tallygate::api;
use tallygate::clock::SystemClock;
use tallygate::demo::payments::Payments;
use tallygate::demo::upstream;

use super::app::ADMIN_TOKEN;
use super::demo::wait_until;
use super::desk::contract;
use super::http::{Ask, Connection, Reply};
use super::port::Port;
use super::secrets;

pub struct House {
    folder: tempfile::TempDir,
    port: Port,
    env: Vec<(String, String)>,
    gateway: Option<Child>,
    pub providers: Payments,
    _upstream: tokio::runtime::Runtime,
    pub upstream_url: String,
}

/// `payments.stripe_key` as the environment names it.
fn variable(setting: &str) -> String {
    format!("TALLYGATE_{}", setting.replace('.', "__").to_ascii_uppercase())
}

impl House {
    /// With settings beside, or instead of, the usual ones.
    pub fn open(extra: &[(&'static str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("upstream")).unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let bill = folder.path().join("upstream");
        let upstream = runtime.block_on(upstream::start("127.0.0.1:0".parse().unwrap(), &bill)).unwrap();
        let upstream_url = upstream.url();
        runtime.spawn(upstream.serve());
        let port = Port::reserve();
        let address = port.address;
        let agreed = contract(address);
        let providers =
            Payments::start("127.0.0.1:0".parse().unwrap(), agreed.clone(), Arc::new(SystemClock)).unwrap();
        let mut settings = vec![
            ("server.listen", address.to_string()),
            ("server.public_url", format!("http://{address}")),
            ("server.workers", "2".to_owned()),
            ("admin.token", ADMIN_TOKEN.to_owned()),
            ("secrets.master_key", "07".repeat(32)),
            ("payments.rates", "USD=1, CNY=7.25".to_owned()),
            ("payments.transfer", "true".to_owned()),
            ("payments.poll_ms", "100".to_owned()),
        ];
        settings.extend(agreed.settings(&providers.url()));
        settings.extend(extra.iter().map(|(name, value)| (*name, (*value).to_owned())));
        let env = settings.into_iter().map(|(name, value)| (variable(name), value)).collect();
        let mut house =
            House { folder, port, env, gateway: None, providers, _upstream: runtime, upstream_url };
        house.start();
        house
    }

    pub fn dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub fn bill_path(&self) -> PathBuf {
        self.folder.path().join("upstream/upstream-bill.jsonl")
    }

    pub fn upstream_key(&self) -> String {
        upstream::key_in(&self.folder.path().join("upstream")).unwrap().expose().to_owned()
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("gateway.log")
    }

    /// Starts the gateway on what is on disk.
    pub fn start(&mut self) {
        assert!(self.gateway.is_none(), "the gateway runs");
        let log = File::options().create(true).append(true).open(self.log_path()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tallygate"));
        command.args(["serve", "--data"]).arg(self.dir());
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        self.gateway = Some(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap());
        let address = self.port.address;
        wait_until("the gateway is ready", || {
            let asked = Connection::open(address).and_then(|mut at| at.ask(&Ask::get("/readyz")));
            asked.is_ok_and(|reply| reply.head.status == 200)
        });
    }

    /// SIGKILL: nothing is told, nothing is written any more.
    pub fn kill(&mut self) {
        let mut child = self.gateway.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub fn crash(&mut self) {
        self.kill();
        self.start();
    }

    /// Ends the gateway so long after something began, whether or not it is done, and starts it again.
    pub fn crash_during<T: Send>(
        &mut self,
        moment: Duration,
        act: impl FnOnce(&Payments, SocketAddr) -> T + Send,
    ) -> T {
        self.crash_once(|_| std::thread::park_timeout(moment), act)
    }

    /// Ends the gateway when it is told to, or when the act is over without that.
    pub fn crash_when<T: Send>(
        &mut self,
        told: &Receiver<()>,
        act: impl FnOnce(&Payments, SocketAddr) -> T + Send,
    ) -> T {
        let wait = |is_over: &dyn Fn() -> bool| {
            while told.recv_timeout(Duration::from_millis(1)) == Err(RecvTimeoutError::Timeout) && !is_over()
            {
            }
        };
        self.crash_once(wait, act)
    }

    fn crash_once<T: Send>(
        &mut self,
        wait: impl FnOnce(&dyn Fn() -> bool),
        act: impl FnOnce(&Payments, SocketAddr) -> T + Send,
    ) -> T {
        let mut child = self.gateway.take().unwrap();
        let (providers, address) = (&self.providers, self.port.address);
        let done = std::thread::scope(|threads| {
            let acting = threads.spawn(move || act(providers, address));
            wait(&|| acting.is_finished());
            child.kill().unwrap();
            child.wait().unwrap();
            acting.join().unwrap()
        });
        self.start();
        done
    }

    /// What the gateway wrote about itself.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    pub fn ask(&self, ask: &Ask) -> Reply {
        self.try_ask(ask).unwrap()
    }

    /// An error if the gateway ended before it answered.
    pub fn try_ask(&self, ask: &Ask) -> std::io::Result<Reply> {
        ask_at(self.port.address, ask)
    }

    /// As an operator; the answer must be what its route says.
    #[track_caller]
    pub fn get(&self, path: &str) -> Value {
        let answer = self.ask(&Ask::get(path).bearer(ADMIN_TOKEN)).ok();
        let bare = path.split('?').next().unwrap();
        api::check_answer("GET", bare, &answer).unwrap_or_else(|why| panic!("GET {path}: {why}"));
        answer
    }

    pub fn post(&self, path: &str, body: &Value) -> Reply {
        self.ask(&Ask::post(path, body).bearer(ADMIN_TOKEN))
    }

    /// Makes something; its id.
    #[track_caller]
    pub fn made(&self, path: &str, body: &Value) -> String {
        self.post(path, body).ok()["id"].as_str().unwrap().to_owned()
    }

    /// All of a list, page by page.
    pub fn all(&self, path: &str) -> Vec<Value> {
        let (mut rows, mut cursor) = (Vec::new(), String::new());
        loop {
            let join = if path.contains('?') { '&' } else { '?' };
            let page = self.get(&format!("{path}{join}limit=1000{cursor}"));
            rows.extend_from_slice(page["data"].as_array().unwrap());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return rows,
            }
        }
    }

    /// Access token of a new operator.
    pub fn operator(&self, name: &str) -> String {
        let id = self.made("/api/operators", &json!({"name": name, "role": "finance"}));
        let token = self.post(&format!("/api/operators/{id}/token"), &json!({})).ok();
        token["token"].as_str().unwrap().to_owned()
    }

    /// A new order; a payer of epay or Alipay has been at its page.
    #[track_caller]
    pub fn order(&self, account: &str, provider: &str, amount: &str) -> String {
        let body = json!({"account": account, "provider": provider, "amount": amount});
        let made = self.post("/api/orders", &body).ok();
        if matches!(provider, "epay" | "alipay") {
            let url = made["pay_url"].as_str().unwrap();
            let path = url.strip_prefix(&self.providers.url()).unwrap();
            ask_at(self.providers.address, &Ask::get(path)).unwrap().ok();
        }
        made["id"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    pub fn state(&self, order: &str) -> String {
        self.get(&format!("/api/orders/{order}"))["state"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    pub fn available(&self, account: &str) -> String {
        self.get(&format!("/api/accounts/{account}/balance"))["available"].as_str().unwrap().to_owned()
    }

    /// Starts a long command and waits for its report.
    pub fn long(&self, path: &str, body: &Value, watched: &str) -> Value {
        self.post(path, body).ok();
        loop {
            let standing = self.get(watched);
            if standing["state"] != "running" {
                assert_eq!(standing["state"], "done", "{standing:#}");
                return standing["report"].clone();
            }
            std::thread::yield_now();
        }
    }

    /// I1 to I10: of what is new since the last time, or of everything.
    #[track_caller]
    pub fn verified(&self, full: bool) -> Value {
        let report = self.long("/api/verify", &json!({"full": full}), "/api/verify");
        assert_eq!(report["clean"], true, "{report:#}");
        report
    }

    /// Stops the gateway for good; nobody verifies what a test did to its books.
    pub fn abandon(mut self) {
        self.kill();
    }

    #[expect(clippy::print_stderr, reason = "whoever reads of a failed test wants to see it")]
    fn show_log(&self) {
        let log = self.log();
        let tail = log.lines().count().saturating_sub(40);
        log.lines().skip(tail).for_each(|line| eprintln!("gateway: {line}"));
    }
}

pub fn ask_at(address: SocketAddr, ask: &Ask) -> std::io::Result<Reply> {
    let reply = Connection::open(address)?.ask(ask)?;
    if reply.whole { Ok(reply) } else { Err(std::io::ErrorKind::UnexpectedEof.into()) }
}

fn no_secret_in(log: &str, dir: &Path, known: &[&str]) {
    secrets::assert_none_in("the log", log.as_bytes(), known);
    secrets::assert_none_below(dir, known);
}

impl Drop for House {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show_log();
        }
        let Some(mut child) = self.gateway.take() else { return };
        if !std::thread::panicking() {
            self.gateway = Some(child);
            self.verified(true);
            child = self.gateway.take().unwrap();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        if !std::thread::panicking() {
            let key = self.upstream_key();
            no_secret_in(&self.log(), &self.dir(), &[ADMIN_TOKEN, &key]);
        }
    }
}
