//! The built program as its users run it: `tallygate demo` in a folder and on ports of its own.
//!
//! Whatever a test looked at: when it is over, every hold must have ended, the demo must stop cleanly, `verify` must
//! find nothing, and no secret may be in its log or its files. Processes are ended by their ids, and only those that were started here.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tallygate::app::App;
use tallygate::clock::{SystemClock, SystemEntropy};
use tallygate::config::{Config, Sources};

use super::http::{Ask, Connection, Reply};
use super::secrets;

/// Anything that a test waits for comes within this time, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(10);

pub struct Demo {
    folder: tempfile::TempDir,
    env: Vec<(String, String)>,
    database: Option<String>,
    ready: Value,
    gateway: Option<Child>,
}

impl Demo {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// With settings from the environment.
    pub fn start_with(env: &[(&str, &str)]) -> Self {
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self::begin(env, None)
    }

    /// On PostgreSQL.
    pub fn start_on(database: &str) -> Self {
        Self::begin(Vec::new(), Some(database.to_owned()))
    }

    fn begin(env: Vec<(String, String)>, database: Option<String>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut demo = Demo { folder, env, database, ready: Value::Null, gateway: None };
        demo.launch(|mut command| {
            command.arg("--fresh");
            command
        });
        demo
    }

    /// Starts the demo again on what is there.
    pub fn restart(&mut self) {
        self.launch(|command| command);
    }

    /// The same, with a command that the caller has the last word on.
    pub fn launch(&mut self, make: impl FnOnce(Command) -> Command) {
        assert!(self.gateway.is_none(), "the gateway runs");
        let mut command = self.command(&["demo", "--listen", "127.0.0.1:0", "--ready-json"]);
        if let Some(url) = &self.database {
            command.args(["--database", url]);
        }
        let log = File::options().create(true).append(true).open(self.log_path()).unwrap();
        let mut command = make(command);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().unwrap_or_else(|why| panic!("{command:?}: {why}"));
        let out = child.stdout.take().unwrap();
        self.gateway = Some(child);
        let (send, line) = mpsc::channel();
        std::thread::spawn(move || {
            let mut out = BufReader::new(out);
            let mut line = String::new();
            let _read = out.read_line(&mut line);
            let _sent = send.send(line);
            // A table or a second line would be a fault; nobody must block on writing it.
            let _rest = out.read_to_end(&mut Vec::new());
        });
        let line = line.recv_timeout(PATIENCE).unwrap_or_default();
        self.ready =
            serde_json::from_str(&line).unwrap_or_else(|_| panic!("not ready: {line:?}\n{}", self.log()));
    }

    /// The program on this demo's data.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tallygate"));
        command.args(args).arg("--data").arg(self.dir());
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    pub fn dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("gateway.log")
    }

    /// What the gateway wrote about itself.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    pub fn ready(&self) -> &Value {
        &self.ready
    }

    /// The text of a key of the demo.
    #[track_caller]
    pub fn key(&self, name: &str) -> String {
        self.ready["keys"][name].as_str().unwrap_or_else(|| panic!("no key {name}")).to_owned()
    }

    pub fn admin_token(&self) -> String {
        self.ready["admin"]["token"].as_str().unwrap().to_owned()
    }

    pub fn address(&self) -> SocketAddr {
        let url = self.ready["base_url"].as_str().unwrap();
        url.strip_prefix("http://").and_then(|url| url.strip_suffix("/v1")).unwrap().parse().unwrap()
    }

    pub fn connect(&self) -> Connection {
        Connection::open(self.address()).unwrap()
    }

    #[track_caller]
    pub fn ask(&self, ask: &Ask) -> Reply {
        self.connect().ask(ask).unwrap()
    }

    pub fn chat(&self, key: &str, model: &str, text: &str) -> Reply {
        self.ask(&Ask::chat(key, model, text))
    }

    /// As an operator.
    pub fn admin(&self, path: &str) -> Value {
        self.ask(&Ask::get(path).bearer(&self.admin_token())).ok()
    }

    pub fn admin_post(&self, path: &str, body: &Value) -> Value {
        self.ask(&Ask::post(path, body).bearer(&self.admin_token())).ok()
    }

    /// As a caller with this key.
    pub fn own(&self, key: &str, path: &str) -> Value {
        self.ask(&Ask::get(path).bearer(key)).ok()
    }

    /// An account with so much purchased money; its id.
    pub fn account(&self, name: &str, amount: &str) -> String {
        let account = self.admin_post("/api/accounts", &json!({"name": name}));
        let id = account["id"].as_str().unwrap().to_owned();
        self.credit(&id, "purchased", amount);
        id
    }

    pub fn credit(&self, account: &str, kind: &str, amount: &str) {
        let reference = format!("test:{account}:{kind}:{amount}");
        let body = json!({"amount": amount, "kind": kind, "reference": reference, "reason": "test"});
        self.admin_post(&format!("/api/accounts/{account}/credits"), &body);
    }

    /// A live key of an account; its text.
    pub fn key_of(&self, account: &str, limits: Value) -> String {
        let key =
            self.admin_post("/api/keys", &json!({"account": account, "name": "test", "limits": limits}));
        key["key"].as_str().unwrap().to_owned()
    }

    pub fn balance(&self, account: &str) -> Value {
        self.admin(&format!("/api/accounts/{account}/balance"))
    }

    /// The row of the log.
    #[track_caller]
    pub fn row(&self, request: &str) -> Value {
        self.admin(&format!("/api/requests/{request}/row"))
    }

    pub fn receipt(&self, request: &str) -> Value {
        self.admin(&format!("/api/requests/{request}"))
    }

    /// Every row of the log after this id, oldest first.
    pub fn rows_after(&self, after: &str) -> Vec<Value> {
        let mut rows: Vec<Value> = Vec::new();
        let mut last = after.to_owned();
        loop {
            let page = self.admin(&format!("/api/requests?after={last}&limit=1000"));
            let page = page["data"].as_array().unwrap();
            let Some(newest) = page.last() else { return rows };
            last = newest["id"].as_str().unwrap().to_owned();
            rows.extend_from_slice(page);
        }
    }

    /// The upstream's bill so far.
    pub fn bill(&self) -> Vec<Value> {
        let text =
            std::fs::read_to_string(self.dir().join("upstream/upstream-bill.jsonl")).unwrap_or_default();
        // What is being written just now is no row yet.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The row of the bill for a call of ours.
    #[track_caller]
    pub fn billed(&self, request: &str) -> Value {
        let rows = self.bill();
        let row = rows.into_iter().find(|row| row["gateway_request_id"] == request);
        row.unwrap_or_else(|| panic!("the upstream never billed {request}"))
    }

    /// Money in open holds, of all accounts and both books, in the order in which they are listed.
    pub fn held(&self) -> Vec<String> {
        let accounts = self.admin("/api/accounts?limit=1000");
        let ids = accounts["data"].as_array().unwrap().iter().map(|account| account["id"].as_str().unwrap());
        let books = ids.flat_map(|id| {
            ["live", "test"].map(|book| format!("/api/accounts/{id}/balance?environment={book}"))
        });
        books.map(|path| self.admin(&path)["held"].as_str().unwrap().to_owned()).collect()
    }

    /// Every hold ends.
    #[track_caller]
    pub fn nothing_stays_held(&self) {
        wait_until("every hold has ended", || self.held().iter().all(|held| held == "0"));
    }

    fn pid(&self) -> u32 {
        self.ready["pid"].as_u64().and_then(|pid| pid.try_into().ok()).unwrap()
    }

    /// Ends the gateway at once, as a crash would. The upstream lives on.
    pub fn kill(&mut self) {
        let Some(mut child) = self.gateway.take() else { return };
        // The program itself where another one started it; else the child.
        if self.ready["pid"].is_u64() && self.pid() != child.id() {
            signal(self.pid(), libc::SIGKILL);
        } else {
            child.kill().unwrap();
        }
        child.wait().unwrap();
    }

    /// Ends the gateway as a crash would, works on its data, and starts it again.
    pub fn while_down<T>(&mut self, work: impl FnOnce(&App) -> T) -> T {
        self.kill();
        let flags = vec![("store.data_dir", self.dir().display().to_string())];
        let config = Config::load(&Sources { flags, ..Sources::default() }).unwrap();
        let (clock, entropy) = (Arc::new(SystemClock), Arc::new(SystemEntropy::new()));
        let app = App::open(config, clock, entropy, 1, Box::new(|error| panic!("{error}"))).unwrap();
        let done = work(&app);
        app.books.close_blocking();
        drop(app);
        self.restart();
        done
    }

    /// Starts the gateway again and ends it at once after this time, ready or not.
    pub fn start_and_kill(&mut self, after: Duration) {
        assert!(self.gateway.is_none(), "the gateway runs");
        let mut command = self.command(&["demo", "--listen", "127.0.0.1:0", "--ready-json"]);
        let log = File::options().create(true).append(true).open(self.log_path()).unwrap();
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        std::thread::park_timeout(after);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Asks the demo to stop, and waits until it has.
    #[track_caller]
    pub fn stop(&mut self) {
        signal(self.pid(), libc::SIGTERM);
        let child = self.gateway.as_mut().unwrap();
        wait_until("the demo has stopped", || child.try_wait().unwrap().is_some());
        let status = self.gateway.take().unwrap().wait().unwrap();
        assert!(status.success(), "{status}\n{}", self.log());
        assert_eq!(self.upstream_pid(), None, "a clean stop of the demo stops both");
    }

    /// The upstream of this folder, if it runs.
    pub fn upstream_pid(&self) -> Option<u32> {
        let known = std::fs::read_to_string(self.dir().join("upstream.json")).ok()?;
        let pid = serde_json::from_str::<Value>(&known).ok()?["pid"].as_u64()?.try_into().ok()?;
        runs_in(pid, &self.dir()).then_some(pid)
    }

    #[expect(clippy::print_stderr, reason = "whoever reads of a failed test wants to see it")]
    fn show_log(&self) {
        let log = self.log();
        let tail = log.lines().count().saturating_sub(30);
        log.lines().skip(tail).for_each(|line| eprintln!("gateway: {line}"));
    }

    fn end_upstream(&self) {
        if let Some(pid) = self.upstream_pid() {
            signal(pid, libc::SIGTERM);
            wait_until("the upstream has stopped", || self.upstream_pid().is_none());
        }
    }

    /// `tallygate verify` on the data, by itself or through the running gateway.
    #[track_caller]
    pub fn verify(&self) -> Value {
        let mut command = self.command(&["--json", "verify", "--full"]);
        if let Some(url) = &self.database {
            command.env("TALLYGATE_STORE__DATABASE_URL", url);
        }
        let done = command.output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        assert!(done.status.success(), "verify: {}\n{out}\n{err}", done.status);
        let report: Value = serde_json::from_str(&out).unwrap();
        assert_eq!((&report["clean"], &report["findings"]), (&json!(true), &json!([])), "{report:#}");
        report
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show_log();
            self.kill();
            if let Some(pid) = self.upstream_pid() {
                signal(pid, libc::SIGKILL);
            }
            return;
        }
        if self.gateway.is_some() {
            self.nothing_stays_held();
            self.stop();
        }
        self.end_upstream();
        assert_eq!(self.verify()["open_holds"], 0);
        let upstream_key =
            std::fs::read_to_string(self.dir().join("upstream/upstream-key")).unwrap_or_default();
        let known = [self.admin_token(), upstream_key.trim().to_owned()];
        let known: Vec<&str> = known.iter().map(String::as_str).filter(|text| !text.is_empty()).collect();
        secrets::assert_none_in("the log", self.log().as_bytes(), &known);
        secrets::assert_none_below(&self.dir(), &known);
    }
}

/// Polls until it is so; fails the test if it never is.
#[track_caller]
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < until, "waited in vain until {what}");
        std::thread::park_timeout(POLL);
    }
}

/// A process that works in this folder, and not another one that got its number.
fn runs_in(pid: u32, dir: &Path) -> bool {
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let dir = dir.as_os_str().as_encoded_bytes();
    command.windows(dir.len()).any(|part| part == dir)
}

fn signal(pid: u32, signal: i32) {
    let pid = libc::pid_t::try_from(pid).unwrap();
    #[expect(unsafe_code, reason = "std signals its own children only, and only with SIGKILL")]
    // SAFETY: kill takes two numbers and touches no memory of ours.
    let _sent = unsafe { libc::kill(pid, signal) };
}

/// A decimal amount in nano-units.
#[track_caller]
pub fn nano(amount: &Value) -> i64 {
    let text = amount.as_str().unwrap_or_else(|| panic!("no amount: {amount}"));
    ledger::Nano::parse_decimal(text).unwrap_or_else(|why| panic!("{text}: {why:?}")).0
}
