//! Mixed load on a demo, and the audit after it: what clients got, the upstream's bill, the request log and
//! the ledger, joined by the upstream's request ids.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::demo::{Demo, nano};
use super::http::{Ask, Connection, Reply};

const CONNECTIONS: u64 = 16;

/// Numbers that a seed repeats (SplitMix64).
#[derive(Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Dice(seed)
    }

    /// From 0, below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}

/// A chat call as its client saw it.
pub struct Seen {
    pub request: String,
    /// The upstream's id inside of the answer.
    answer: Option<String>,
    cost: Option<String>,
    pub whole: bool,
}

impl Seen {
    fn new(reply: &Reply) -> Self {
        Seen {
            request: reply.head.request_id().to_owned(),
            answer: reply.answer_id(),
            cost: reply.head.header("x-tallygate-cost").map(str::to_owned),
            whole: reply.is_whole_answer(),
        }
    }
}

/// Load on 16 connections for as long as `during` takes, or until the gateway is gone. `during` can see how
/// many whole answers there were by now.
pub fn load(demo: &mut Demo, dice: &mut Dice, during: impl FnOnce(&mut Demo, &AtomicUsize)) -> Vec<Seen> {
    let (address, keys) = (demo.address(), [demo.key("healthy"), demo.key("test_env")]);
    let (over, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let seeds: Vec<_> = (0..CONNECTIONS).map(|_| dice.below(u64::MAX)).collect();
    std::thread::scope(|threads| {
        let (over, answered, keys) = (&over, &answered, &keys);
        let callers: Vec<_> = seeds
            .into_iter()
            .map(|seed| threads.spawn(move || call(address, keys, Dice(seed), over, answered)))
            .collect();
        during(demo, answered);
        over.store(true, Ordering::SeqCst);
        callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect()
    })
}

/// One client: calls until it is over or its connection breaks.
fn call(
    address: SocketAddr,
    keys: &[String; 2],
    mut dice: Dice,
    over: &AtomicBool,
    answered: &AtomicUsize,
) -> Vec<Seen> {
    let mut seen = Vec::new();
    let Ok(mut connection) = Connection::open(address) else { return seen };
    while !over.load(Ordering::SeqCst) {
        let key = &keys[usize::from(dice.below(4) == 0)];
        let kind = dice.below(20);
        if kind == 0 {
            let Ok(_) = connection.ask(&Ask::get("/v1/models").bearer(key)) else { break };
            continue;
        }
        let stream = kind >= 12;
        let ask = Ask::chat_with(key, model(&mut dice, stream), &text(&mut dice), json!({"stream": stream}));
        if kind == 1 || kind == 19 {
            // Leaves in the middle, or before anything came.
            let Ok(()) = connection.send(&ask) else { break };
            if kind == 19 {
                let Ok(_) = connection.head().and_then(|_| connection.event()) else { break };
            }
            let Ok(next) = Connection::open(address) else { break };
            connection = next;
            continue;
        }
        let Ok(reply) = connection.ask(&ask) else { break };
        assert_eq!(reply.head.status == 200, reply.answer_id().is_some() || !reply.whole, "{}", reply.text());
        seen.push(Seen::new(&reply));
        answered.fetch_add(usize::from(reply.is_whole_answer()), Ordering::SeqCst);
        if !reply.whole {
            break;
        }
    }
    seen
}

fn model(dice: &mut Dice, stream: bool) -> &'static str {
    match dice.below(10) {
        0 if stream => "demo-slow",
        0..4 => "deepseek-chat",
        _ => "gpt-5-mini",
    }
}

fn text(dice: &mut Dice) -> String {
    let mut text = format!("call {} #tokens={}", dice.below(1 << 40), 1 + dice.below(80));
    match dice.below(16) {
        // Long enough to be cached by the upstream, so that another token class comes in.
        0 => text.insert_str(0, &"one two three four ".repeat(300)),
        1..4 => text.push_str(&format!(" #delay_ms={}", dice.below(40))),
        _ => {}
    }
    text
}

/// What is kept of a row of the log or of the bill.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Charge {
    tokens: Value,
    nano: i64,
}

#[derive(Debug)]
struct LogRow {
    upstream: Option<String>,
    state: String,
    ending: String,
    charge: Charge,
}

#[derive(Debug)]
struct BillRow {
    ours: String,
    answer: String,
    cost: Charge,
}

/// Everything that was audited so far.
pub struct Audit {
    /// Our id → row of the log.
    log: HashMap<String, LogRow>,
    /// The upstream's id → row of the bill.
    bill: HashMap<String, BillRow>,
    /// Our ids of the calls that a client got whole.
    whole: HashMap<String, Option<String>>,
    last: String,
    bill_rows: usize,
    /// Charged in the live and in the test book of the demo's account.
    charged: [i64; 2],
}

/// What an audit counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub whole: usize,
    pub settled: usize,
    /// On the bill, and admitted by us, but the process died before its settlement: free for the customer.
    pub died: usize,
    /// On the bill and unknown to our journal: the platform's cost.
    pub never_admitted: usize,
}

impl Default for Audit {
    fn default() -> Self {
        Audit {
            log: HashMap::new(),
            bill: HashMap::new(),
            whole: HashMap::new(),
            last: format!("req_{}", "0".repeat(26)),
            bill_rows: 0,
            charged: [0; 2],
        }
    }
}

impl Audit {
    /// Takes in what is new and holds all against each other. To be called when no call runs.
    #[track_caller]
    pub fn round(&mut self, demo: &Demo, seen: &[Seen]) -> Counts {
        self.read_log(demo);
        self.read_bill(demo);
        for call in seen.iter().filter(|call| call.whole) {
            self.whole_answer(call);
            self.whole.insert(call.request.clone(), call.answer.clone());
        }
        for call in seen.iter().filter(|call| call.whole).take(25) {
            let receipt = demo.receipt(&call.request);
            assert_eq!(nano(&receipt["charged"]), self.log[&call.request].charge.nano, "{receipt:#}");
            assert_eq!(receipt["settlement"]["charged"], receipt["charged"], "{receipt:#}");
        }
        self.ledger(demo);
        self.counts()
    }

    /// Calls behind this one that the bill knows and we do not charge. A stop in good order leaves none; rows of
    /// an earlier process may come late, because the upstream goes on with calls whose gateway died.
    pub fn lost_after(&self, request: &str) -> Vec<&str> {
        let later = self.bill.iter().filter(|(_, billed)| &*billed.ours > request);
        let is_charged = |upstream: &String, billed: &BillRow| {
            let row = self.log.get(&billed.ours);
            row.is_some_and(|row| row.upstream.as_ref() == Some(upstream) && row.state == "settled")
        };
        later
            .filter(|(upstream, billed)| !is_charged(upstream, billed))
            .map(|(_, billed)| &*billed.ours)
            .collect()
    }

    fn read_log(&mut self, demo: &Demo) {
        let test_key = demo.own(&demo.key("test_env"), "/v1/key")["id"].clone();
        for row in demo.rows_after(&self.last) {
            let id = row["id"].as_str().unwrap().to_owned();
            assert_ne!(row["charge_state"], "held", "no call runs: {row:#}");
            let charge = Charge { tokens: row["tokens"].clone(), nano: nano(&row["charge"]) };
            self.charged[usize::from(row["key"] == test_key)] += charge.nano;
            let text = |name: &str| row[name].as_str().map(str::to_owned);
            let log_row = LogRow {
                upstream: text("upstream_request_id"),
                state: text("charge_state").unwrap(),
                ending: text("ending").unwrap_or_default(),
                charge,
            };
            self.last.clone_from(&id);
            let before = self.log.insert(id, log_row);
            assert!(before.is_none(), "two rows for one call: {row:#}");
        }
    }

    fn read_bill(&mut self, demo: &Demo) {
        let rows = demo.bill();
        for row in &rows[self.bill_rows..] {
            let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
            let cost = Charge { tokens: row["tokens"].clone(), nano: row["cost_nano"].as_i64().unwrap() };
            let kept = BillRow { ours: text("gateway_request_id"), answer: text("answer_id"), cost };
            self.bill.insert(text("upstream_request_id"), kept);
        }
        self.bill_rows = rows.len();
    }

    /// A client has it whole: it is settled, and for what the upstream's bill says.
    #[track_caller]
    fn whole_answer(&self, call: &Seen) {
        let id = &call.request;
        let row = self.log.get(id).unwrap_or_else(|| panic!("{id} was answered and is not in the log"));
        assert_eq!((row.state.as_str(), row.ending.as_str()), ("settled", "complete"), "{id}: {row:?}");
        let billed = row.upstream.as_ref().and_then(|upstream| self.bill.get(upstream));
        let billed = billed.unwrap_or_else(|| panic!("{id} is not on the bill: {row:?}"));
        assert_eq!((&billed.ours, Some(&billed.answer)), (id, call.answer.as_ref()));
        assert_eq!(row.charge, billed.cost, "{id}");
        let told = call.cost.as_ref().map(|cost| nano(&Value::from(cost.as_str())));
        assert!(told.is_none_or(|told| told == row.charge.nano), "{id}: {told:?} {row:?}");
    }

    /// The ledger's own sums are the log's.
    #[track_caller]
    fn ledger(&self, demo: &Demo) {
        let account = demo.own(&demo.key("healthy"), "/v1/key")["account"].as_str().unwrap().to_owned();
        for (book, charged) in ["live", "test"].into_iter().zip(self.charged) {
            let balance = demo.admin(&format!("/api/accounts/{account}/balance?environment={book}"));
            assert_eq!(nano(&balance["movements"]["charges"]), charged, "{book}: {balance:#}");
            assert_eq!(balance["held"], "0", "{book}: {balance:#}");
        }
    }

    /// Every charge is on the bill with the same tokens and cost; what else is on the bill is named.
    #[track_caller]
    fn counts(&self) -> Counts {
        let mut counts = Counts { whole: self.whole.len(), ..Counts::default() };
        for (id, row) in self.log.iter().filter(|(_, row)| row.state == "settled") {
            let billed = row.upstream.as_ref().and_then(|upstream| self.bill.get(upstream));
            assert_eq!(Some(&row.charge), billed.map(|billed| &billed.cost), "{id}: {row:?}");
            counts.settled += 1;
        }
        for (upstream, billed) in &self.bill {
            match self.log.get(&billed.ours) {
                Some(row) if row.upstream.as_ref() == Some(upstream) && row.state == "settled" => continue,
                Some(row) => {
                    assert_eq!(
                        (row.state.as_str(), row.ending.as_str()),
                        ("released", "process_died"),
                        "{row:?}"
                    );
                    counts.died += 1;
                }
                None => counts.never_admitted += 1,
            }
            assert!(
                !self.whole.contains_key(&billed.ours),
                "a client has {} whole, and we do not",
                billed.ours
            );
        }
        counts
    }
}
