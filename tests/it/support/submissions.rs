//! Load of task submissions on a demo, and the audit of what became of them: what callers were told, the rows of the
//! tasks, the request log, the ledger, and the upstream's jobs and bill, joined by the upstream's names of the tasks.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use super::demo::{Demo, nano};
use super::http::{Ask, Connection, Reply};
use super::load::Dice;

const CALLERS: u64 = 8;
/// Settings under which tasks come to their end within seconds.
pub const QUICK: [(&str, &str); 7] = [
    ("TALLYGATE_TASKS__POLL_MS", "20"),
    ("TALLYGATE_TASKS__POLL_MS_MAX", "200"),
    ("TALLYGATE_TASKS__LEASE_MS", "2000"),
    ("TALLYGATE_TASKS__UNCONFIRMED_MS", "1000"),
    ("TALLYGATE_TASKS__DEADLINE_MS", "6000"),
    // A wish that is sent again at any time is the same wish.
    ("TALLYGATE_TASKS__DUPLICATE_MS", "86400000"),
    ("TALLYGATE_SERVER__WORKERS", "2"),
];

/// What a caller wants, however often it has to say so.
#[derive(Clone)]
struct Wish {
    model: &'static str,
    prompt: String,
    /// Sent under this `Idempotency-Key`.
    name: Option<String>,
    /// Each submission is meant to be another task.
    many: bool,
    key: usize,
}

impl Told {
    fn is_one_task(&self, wish: usize) -> bool {
        !self.wishes[wish].many && !self.anew.contains(&wish)
    }

    /// What came to nothing answers nobody who asks again, unless it was asked for by its name.
    fn note_failed(&mut self, all: &[Value]) {
        let failed = all.iter().filter(|task| task["state"] != "succeeded");
        let failed: HashSet<&str> = failed.map(|task| text(task, "id")).collect();
        let wishes = self.tasks.iter().filter(|(_, id)| failed.contains(&**id)).map(|(wish, _)| *wish);
        let unnamed: Vec<usize> = wishes.filter(|wish| self.wishes[*wish].name.is_none()).collect();
        self.anew.extend(unnamed);
    }

    fn is_one_task_of(&self, prompt: &str) -> bool {
        let number = prompt.split(' ').nth(1).and_then(|number| number.parse().ok());
        self.is_one_task(number.unwrap_or_else(|| panic!("nobody wished for {prompt}")))
    }
}

impl Wish {
    fn ask(&self, keys: &[String; 2]) -> Ask {
        let body = json!({"model": self.model, "prompt": self.prompt, "seconds": "4", "size": "1280x720"});
        let ask = Ask::post("/v1/videos", &body).bearer(&keys[self.key]);
        let ask = match &self.name {
            Some(name) => ask.header("idempotency-key", name.clone()),
            None => ask,
        };
        if self.many { ask.header("x-tallygate-duplicate", "allow") } else { ask }
    }
}

#[derive(Default)]
struct Told {
    wishes: Vec<Wish>,
    /// Wishes whose submission was not answered.
    unanswered: Vec<usize>,
    /// Which task a wish was answered with.
    tasks: Vec<(usize, String)>,
    /// Whose task a caller may have deleted, or came to nothing: sent again, it is another one.
    anew: HashSet<usize>,
    /// Codes of refusals.
    refused: BTreeMap<String, usize>,
    again: usize,
}

/// Submissions over many rounds, and what their callers were told.
#[derive(Default)]
pub struct Submissions(Mutex<Told>);

impl Submissions {
    /// Load for as long as `during` takes, or until the gateway is gone.
    pub fn load(&self, demo: &mut Demo, keys: &[String; 2], dice: &mut Dice, during: impl FnOnce(&mut Demo)) {
        let (address, over) = (demo.address(), AtomicBool::new(false));
        let seeds: Vec<_> = (0..CALLERS).map(|_| dice.below(u64::MAX)).collect();
        std::thread::scope(|threads| {
            let over = &over;
            for seed in seeds {
                threads.spawn(move || self.call(address, keys, Dice::new(seed), over));
            }
            during(demo);
            over.store(true, Ordering::SeqCst);
        });
    }

    /// One caller: until it is over or its connection breaks.
    fn call(&self, address: SocketAddr, keys: &[String; 2], mut dice: Dice, over: &AtomicBool) {
        let Ok(mut connection) = Connection::open(address) else { return };
        while !over.load(Ordering::SeqCst) {
            let kind = dice.below(10);
            let asked = match kind {
                0 | 1 => {
                    self.look(&mut connection, keys, &mut dice, if kind == 0 { "DELETE" } else { "GET" })
                }
                2 => {
                    // Gives up before the answer.
                    let wish = self.wish(&mut dice);
                    let sent = connection.send(&self.ask(wish, keys));
                    self.0.lock().unwrap().unanswered.push(wish);
                    sent.and_then(|()| Connection::open(address)).map(|next| connection = next)
                }
                _ => {
                    let wish = self.wish(&mut dice);
                    self.submit(&mut connection, wish, keys)
                }
            };
            if asked.is_err() {
                return;
            }
        }
    }

    /// Sends again what was not answered.
    pub fn send_again(&self, demo: &Demo, keys: &[String; 2]) {
        let unanswered = std::mem::take(&mut self.0.lock().unwrap().unanswered);
        let mut connection = demo.connect();
        for wish in unanswered {
            self.submit(&mut connection, wish, keys).unwrap();
        }
    }

    fn look(
        &self,
        connection: &mut Connection,
        keys: &[String; 2],
        dice: &mut Dice,
        method: &'static str,
    ) -> std::io::Result<()> {
        let (key, id) = {
            let mut told = self.0.lock().unwrap();
            let Some(last) = told.tasks.len().checked_sub(1) else { return Ok(()) };
            // Mostly one that still runs.
            let back = usize::try_from(dice.below(20)).unwrap();
            let (wish, id) = told.tasks[last.saturating_sub(back)].clone();
            if method == "DELETE" {
                told.anew.insert(wish);
            }
            (told.wishes[wish].key, id)
        };
        let reply = connection.ask(&Ask::new(method, format!("/v1/videos/{id}")).bearer(&keys[key]))?;
        // One that was deleted is not there any more.
        assert!(matches!(reply.head.status, 200 | 404) || !reply.whole, "{:?}: {}", reply.head, reply.text());
        Ok(())
    }

    fn wish(&self, dice: &mut Dice) -> usize {
        let mut told = self.0.lock().unwrap();
        let number = told.wishes.len();
        let known = usize::try_from(dice.below(number.max(1) as u64)).unwrap();
        if number > 0 && dice.below(4) == 0 {
            told.again += 1;
            return match told.unanswered.pop() {
                Some(wish) if dice.below(2) == 0 => wish,
                Some(wish) => {
                    told.unanswered.push(wish);
                    known
                }
                None => known,
            };
        }
        let (model, words) = match dice.below(20) {
            0..3 => ("demo-video-fail", ""),
            3..5 => ("demo-video-stuck", ""),
            5 => ("demo-video", " #lost"),
            6 => ("demo-video", " #delay_ms=200"),
            7 => ("demo-video", " #polls=1"),
            _ => ("demo-video", ""),
        };
        let refused = dice.below(20) == 0;
        let prompt = if refused { String::new() } else { format!("wish {number}{words}") };
        let name = (dice.below(2) == 0).then(|| format!("name of {number}"));
        let many = !refused && name.is_none() && dice.below(6) == 0;
        told.wishes.push(Wish { model, prompt, name, many, key: usize::from(dice.below(4) == 0) });
        number
    }

    fn ask(&self, wish: usize, keys: &[String; 2]) -> Ask {
        self.0.lock().unwrap().wishes[wish].ask(keys)
    }

    fn submit(&self, connection: &mut Connection, wish: usize, keys: &[String; 2]) -> std::io::Result<()> {
        let reply = connection.ask(&self.ask(wish, keys));
        match reply {
            Ok(reply) if reply.whole => {
                self.note(wish, &reply);
                Ok(())
            }
            Ok(_) => {
                self.0.lock().unwrap().unanswered.push(wish);
                Err(std::io::ErrorKind::UnexpectedEof.into())
            }
            Err(why) => {
                self.0.lock().unwrap().unanswered.push(wish);
                Err(why)
            }
        }
    }

    fn note(&self, wish: usize, reply: &Reply) {
        let mut told = self.0.lock().unwrap();
        let body = reply.json();
        if reply.head.status == 200 {
            let id = body["id"].as_str().unwrap_or_else(|| panic!("no task: {body:#}")).to_owned();
            told.tasks.push((wish, id));
            return;
        }
        let code = body["error"]["code"].as_str().unwrap_or_else(|| panic!("no code: {body:#}")).to_owned();
        *told.refused.entry(code).or_default() += 1;
    }
}

/// What an audit counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub wishes: usize,
    pub again: usize,
    pub refused: BTreeMap<String, usize>,
    /// Tasks by state, and by failure.
    pub tasks: BTreeMap<String, usize>,
    pub billed: usize,
    /// Jobs of the upstream whose task ended before their name was learnt: nobody asked about them.
    pub nameless: usize,
    /// On the upstream's bill or among its jobs, and unknown to the journal.
    pub never_admitted: usize,
    /// Holds of calls that never became a task.
    pub without_task: usize,
}

/// Every task, the oldest first.
pub fn tasks(demo: &Demo) -> Vec<Value> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = demo.admin(&format!("/api/tasks?limit=1000{cursor}"));
        all.extend_from_slice(page["data"].as_array().unwrap());
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    all.reverse();
    all
}

/// Every job that the upstream has.
pub fn jobs(demo: &Demo) -> Vec<Value> {
    let upstream = demo.ready()["upstream"]["url"].as_str().unwrap();
    let host = upstream.strip_prefix("http://").and_then(|url| url.strip_suffix("/v1")).unwrap();
    let key = std::fs::read_to_string(demo.dir().join("upstream/upstream-key")).unwrap();
    let ask = Ask::get("/v1/videos?limit=100000").bearer(key.trim());
    let list = Connection::open(host.parse().unwrap()).unwrap().ask(&ask).unwrap().ok();
    list["data"].as_array().unwrap().clone()
}

fn text<'a>(row: &'a Value, field: &str) -> &'a str {
    row[field].as_str().unwrap_or_else(|| panic!("no {field}: {row:#}"))
}

/// Holds everything against each other, once every task has ended.
#[track_caller]
pub fn audit(demo: &Demo, submissions: &Submissions, account: &str) -> Counts {
    let mut told = submissions.0.lock().unwrap();
    let rows = demo.rows_after(&format!("req_{}", "0".repeat(26)));
    let log: HashMap<&str, &Value> = rows.iter().map(|row| (text(row, "id"), row)).collect();
    assert_eq!(log.len(), rows.len(), "a call has two rows");
    let all = tasks(demo);
    let mut counts = Counts {
        wishes: told.wishes.len(),
        again: told.again,
        refused: told.refused.clone(),
        ..Counts::default()
    };
    of_tasks(&all, &log, &mut counts);
    told.note_failed(&all);
    let jobs = jobs(demo);
    of_bill(&demo.bill(), &told, &jobs, &all, &log, &mut counts);
    of_callers(&told, &all);
    of_jobs(&told, &jobs, &all, &mut counts);
    of_ledger(demo, account, &rows, &all, &mut counts);
    for task in all.iter().rev().take(200) {
        let charged = demo.admin(&format!("/api/tasks/{}/charged", text(task, "id")));
        let expected = if task["money"] == "settled" { "charged" } else { "not_charged" };
        assert_eq!(charged["verdict"], expected, "{charged:#}");
    }
    counts
}

/// One end of each task, one outcome of its money, and the log says the same.
fn of_tasks(all: &[Value], log: &HashMap<&str, &Value>, counts: &mut Counts) {
    for task in all {
        let (state, money) = (text(task, "state"), text(task, "money"));
        let outcome = if state == "succeeded" { "settled" } else { "released" };
        assert!(matches!(state, "succeeded" | "failed" | "cancelled" | "expired"), "no end: {task:#}");
        assert_eq!(money, outcome, "{task:#}");
        let row = log.get(text(task, "request_id")).unwrap_or_else(|| panic!("not in the log: {task:#}"));
        assert_eq!(
            (&row["charge_state"], &row["charge"]),
            (&task["money"], &task["charged"]),
            "{row:#}\n{task:#}"
        );
        assert_eq!(state == "succeeded", nano(&task["charged"]) > 0, "{task:#}");
        let failure = task["failure"]["code"].as_str().map(|code| format!(" ({code})")).unwrap_or_default();
        *counts.tasks.entry(format!("{state}{failure}")).or_default() += 1;
    }
}

/// Every charge is a row of the bill under the upstream's name of its task, and every row is a charge.
fn of_bill(
    bill: &[Value],
    told: &Told,
    jobs: &[Value],
    all: &[Value],
    log: &HashMap<&str, &Value>,
    counts: &mut Counts,
) {
    let prompts: HashMap<&str, &str> =
        jobs.iter().map(|job| (text(job, "id"), text(job, "prompt"))).collect();
    let mut charged: HashMap<&str, &Value> = HashMap::new();
    for task in all.iter().filter(|task| task["money"] == "settled") {
        let before = charged.insert(text(task, "upstream_id"), task);
        assert!(before.is_none(), "one job was charged twice: {task:#}\n{before:#?}");
    }
    for billed in bill.iter().filter(|billed| text(billed, "model").starts_with("demo-video")) {
        counts.billed += 1;
        let request = billed["gateway_request_id"].as_str().unwrap_or_default();
        if !log.contains_key(request) {
            counts.never_admitted += 1;
            continue;
        }
        let job = text(billed, "upstream_request_id");
        let task = charged.remove(job);
        let task = task.unwrap_or_else(|| panic!("billed and not charged: {billed:#}\n{:#}", log[request]));
        // Of tasks that are alike and whose names were lost, each gets the name of one of them.
        let alike = prompts.get(job).is_none_or(|prompt| !told.is_one_task_of(prompt));
        assert!(alike || text(task, "request_id") == request, "{task:#}\n{billed:#}");
        assert_eq!(nano(&task["charged"]), billed["cost_nano"].as_i64().unwrap(), "{task:#}\n{billed:#}");
    }
    assert!(charged.is_empty(), "charged and not billed: {charged:#?}");
}

/// Whatever a caller was told of is there, and one wish is one task. Of one that no upstream took, by which whoever came at
/// the same time may have been answered, the wish may be made anew.
fn of_callers(told: &Told, all: &[Value]) {
    let known: HashMap<&str, &Value> = all.iter().map(|task| (text(task, "id"), task)).collect();
    let mut first: HashMap<usize, &str> = HashMap::new();
    for (wish, id) in &told.tasks {
        let task =
            known.get(&**id).unwrap_or_else(|| panic!("a caller was told of {id}, which is not there"));
        if task["state"] == "failed" && task["submitted_at"].is_null() {
            continue;
        }
        let one = first.entry(*wish).or_insert(id);
        assert!(one == id || !told.is_one_task(*wish), "one wish, two tasks: {:#}\n{task:#}", known[one]);
    }
}

/// The upstream was asked once for each wish, whatever its caller did.
fn of_jobs(told: &Told, jobs: &[Value], all: &[Value], counts: &mut Counts) {
    let named: HashSet<&str> = all.iter().filter_map(|task| task["upstream_id"].as_str()).collect();
    let mut of_wish: HashMap<&str, usize> = HashMap::new();
    for job in jobs {
        let prompt = text(job, "prompt");
        let jobs = of_wish.entry(prompt).or_default();
        *jobs += 1;
        assert!(*jobs == 1 || !told.is_one_task_of(prompt), "one wish, and {jobs} jobs: {job:#}");
        counts.nameless += usize::from(!named.contains(text(job, "id")));
    }
    let unnamed = all.iter().filter(|task| task["upstream_id"].is_null()).count();
    assert!(counts.nameless <= unnamed, "{} jobs without a task, {unnamed} tasks", counts.nameless);
}

/// Nothing is held, and what was charged is what the tasks were charged; a hold without a task was given back.
fn of_ledger(demo: &Demo, account: &str, rows: &[Value], all: &[Value], counts: &mut Counts) {
    for book in ["live", "test"] {
        let balance = demo.admin(&format!("/api/accounts/{account}/balance?environment={book}"));
        let own = all.iter().filter(|task| task["account"] == account && task["environment"] == book);
        let charged: i64 = own.map(|task| nano(&task["charged"])).sum();
        assert_eq!(nano(&balance["movements"]["charges"]), charged, "{book}: {balance:#}");
        assert_eq!(balance["held"], "0", "{book}: {balance:#}");
    }
    let of_task: HashSet<&str> = all.iter().map(|task| text(task, "request_id")).collect();
    for row in rows.iter().filter(|row| row["endpoint"] == "videos" && row["charge_state"] != "none") {
        if !of_task.contains(text(row, "id")) {
            assert_eq!(
                (&row["charge_state"], &row["ending"]),
                (&json!("released"), &json!("process_died")),
                "{row:#}"
            );
            counts.without_task += 1;
        }
    }
}
