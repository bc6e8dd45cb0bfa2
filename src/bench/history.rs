//! Books with a past: a journal of any length, written in one go through the real ledger, the real encoding and the real
//! store, for measurements of what reads it. Random, but the same for the same seed.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use ledger::{
    AccountId as LedgerAccountId, Calendar, ChargeRecord, Command, CounterKey, CreditSource, Effect, HoldId,
    HoldOwner, Layer, LayerHold, Ledger, LotId, LotKind, Metric, Nano, Reference, ReleaseReason, Timestamp,
    TokenClass, Usage, WindowKind,
};

use crate::books::encoding::Buffers;
use crate::books::{Books, BooksConfig, Record};
use crate::clock::SystemClock;
use crate::gateway::facts::{
    Admitted, Attempt, CallBody, CallRecord, CapReason, Checked, Client, CostBasis, CounterReading,
    Credential, Decided, Ending, Endpoint, Facts, Outcome, Readings, Repetition, UsageSource,
};
use crate::id::{AccountId, ChannelId, KeyId, PriceId, RequestId};
use crate::store::chain::{Header, Link, seal};
use crate::store::{self, JournalStore, StoreConfig};

/// 2026-01-01T00:00:00Z
const BEGIN_MS: i64 = 1_767_225_600_000;
const ACCOUNTS: u64 = 10_000;
const RECORDS_PER_BATCH_MAX: u64 = 400;
/// Nano-units that a call holds.
const HOLD: i64 = 5_000_000;

/// What was written.
#[derive(Clone, Copy, Debug, Default)]
pub struct History {
    pub effects: u64,
    pub calls: u64,
    pub batches: u64,
    /// Nano-units charged.
    pub charged: i128,
}

/// Writes books with at least so many movements of money into a new data directory, request log and all. `told` hears of
/// the movements so far.
pub fn write(dir: &Path, effects: u64, seed: u64, told: &mut dyn FnMut(u64)) -> io::Result<History> {
    write_billed(dir, effects, seed, None, told)
}

/// The same, with the bill that the upstream of these calls would send: a line for each call that it answered.
pub fn write_billed(
    dir: &Path,
    effects: u64,
    seed: u64,
    bill: Option<&Path>,
    told: &mut dyn FnMut(u64),
) -> io::Result<History> {
    std::fs::create_dir_all(dir)?;
    let config = StoreConfig::embedded(dir);
    let mut stores = store::open(&config).map_err(io::Error::other)?;
    let epoch = stores.journal.acquire(0, "history").map_err(io::Error::other)?;
    let mut writer = Writer::new(seed, epoch);
    if let Some(bill) = bill {
        let mut file = BufWriter::new(File::create(bill)?);
        writeln!(file, "request_id,cost,currency,time")?;
        writer.bill = Some(file);
    }
    while writer.history.effects < effects {
        writer.step()?;
        if writer.records.len() as u64 >= writer.full_at {
            writer.commit(&mut *stores.journal)?;
            told(writer.history.effects);
        }
    }
    writer.end_all()?;
    writer.commit(&mut *stores.journal)?;
    writer.bill.as_mut().map_or(Ok(()), Write::flush)?;
    // The request log and the checkpoint are made from the journal, as after a crash.
    let books = BooksConfig {
        shard: 0,
        node: "history".into(),
        ports: 1,
        clock: Arc::new(SystemClock),
        on_fatal: Box::new(|_| {}),
    };
    let books = Books::open(stores.journal, stores.projections, books).map_err(io::Error::other)?;
    books.close_blocking();
    Ok(writer.history)
}

/// A call whose hold is written and whose end is not.
struct Running {
    hold: HoldId,
    decided: Arc<Decided>,
}

struct Writer {
    random: u64,
    ledger: Ledger,
    calendar: Calendar,
    epoch: u64,
    last: Link,
    now_ms: i64,
    number: u64,
    records: Vec<Record>,
    full_at: u64,
    running: Vec<Running>,
    /// Some charges of the past, for refunds.
    charges: Vec<ChargeRecord>,
    buffers: Buffers,
    bill: Option<BufWriter<File>>,
    history: History,
}

impl Writer {
    fn new(seed: u64, epoch: u64) -> Self {
        Writer {
            random: seed | 1,
            ledger: Ledger::default(),
            calendar: Calendar::default(),
            epoch,
            last: Link::START,
            now_ms: BEGIN_MS,
            number: 0,
            records: Vec::new(),
            full_at: 1,
            running: Vec::new(),
            charges: Vec::new(),
            buffers: Buffers::default(),
            bill: None,
            history: History::default(),
        }
    }

    /// A number below `most`: xorshift, good enough to vary sizes.
    fn below(&mut self, most: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) % most.max(1)
    }

    fn step(&mut self) -> io::Result<()> {
        self.number += 1;
        self.now_ms += i64::try_from(self.below(6)).unwrap_or(0);
        match self.below(1_000) {
            0..8 => self.credit(),
            8..10 => self.refund(),
            _ => self.call(),
        }
    }

    fn execute(&mut self, command: &Command) -> io::Result<Effect> {
        self.history.effects += 1;
        self.ledger.execute(command, Timestamp(self.now_ms)).map_err(io::Error::other)
    }

    fn credit_of(&mut self, account: LedgerAccountId) -> io::Result<()> {
        let command = Command::Credit {
            account,
            lot: LotId(self.number << 8 | 1),
            kind: if self.below(4) == 0 { LotKind::Granted } else { LotKind::Purchased },
            priority: 100,
            expires_at: None,
            amount: Nano(10_000_000_000),
            source: CreditSource::Payment,
            reference: Reference::new(format!("order:{}", self.number)),
        };
        let effect = self.execute(&command)?;
        self.records.push(Record { effects: vec![effect], call: None });
        Ok(())
    }

    fn credit(&mut self) -> io::Result<()> {
        let account = LedgerAccountId(1 + self.below(ACCOUNTS));
        self.credit_of(account)
    }

    fn refund(&mut self) -> io::Result<()> {
        let Some(charge) = self.charges.pop() else { return self.credit() };
        let charged: i64 = charge.debits.iter().map(|debit| debit.amount.0).sum();
        let reference = Reference::new(format!("refund:{}", self.number));
        let amount = Nano(1.max(charged / 2));
        let effect = self.execute(&Command::Refund { charge, amount, reference })?;
        self.records.push(Record { effects: vec![effect], call: None });
        Ok(())
    }

    fn call(&mut self) -> io::Result<()> {
        let account = LedgerAccountId(1 + self.below(ACCOUNTS));
        if self.ledger.brief_balance(account, Timestamp(self.now_ms)).available.0 < HOLD {
            self.credit_of(account)?;
        }
        let hold = HoldId((u128::from(self.now_ms.unsigned_abs()) << 80) | u128::from(self.number));
        let layers = self.layers(account);
        let reserve = Command::Reserve {
            hold,
            account,
            amount: Nano(HOLD),
            overdraft: Nano::ZERO,
            layers: layers.iter().copied().collect(),
            owner: HoldOwner::Process(self.epoch),
        };
        let held = self.execute(&reserve)?;
        let decided = Arc::new(decided(hold, account, self.now_ms, &layers));
        self.history.calls += 1;
        if self.below(5) == 0 {
            let call = CallRecord { decided: Arc::clone(&decided), outcome: None };
            self.records.push(Record { effects: vec![held], call: Some(call) });
            self.running.push(Running { hold, decided });
            return Ok(());
        }
        let (ended, outcome) = self.end(hold)?;
        let call = CallRecord { decided, outcome: Some(Box::new(outcome)) };
        self.records.push(Record { effects: vec![held, ended], call: Some(call) });
        Ok(())
    }

    fn layers(&mut self, account: LedgerAccountId) -> [LayerHold; 2] {
        let [day, _, _] = self.calendar.instances(Timestamp(self.now_ms), &jiff::tz::TimeZone::UTC);
        let counter = |metric| CounterKey {
            layer: Layer::Key,
            subject: account.0 + ACCOUNTS,
            model: 0,
            metric,
            window: WindowKind::Day,
        };
        let spend = counter(Metric::Spend);
        [
            LayerHold { counter: spend, window: day, limit: Some(i64::MAX / 4), amount: HOLD },
            LayerHold { counter: counter(Metric::Calls), window: day, limit: None, amount: 1 },
        ]
    }

    fn end(&mut self, hold: HoldId) -> io::Result<(Effect, Outcome)> {
        self.number += 1;
        let (input, output) = (200 + self.below(800), 20 + self.below(300));
        let mut outcome = outcome(self.number, input, output);
        if self.below(20) == 0 {
            outcome = Outcome { ending: Ending::UpstreamFailed, status: 502, ..Outcome::gateway_fault() };
            let release = Command::Release { hold, reason: ReleaseReason::UpstreamFailed };
            return Ok((self.execute(&release)?, outcome));
        }
        if let (Some(bill), Some(attempt)) = (&mut self.bill, outcome.attempts.first()) {
            let (name, cost) =
                (attempt.upstream_request.as_deref().unwrap_or(""), attempt.cost.unwrap_or_default());
            let at = jiff::Timestamp::from_millisecond(self.now_ms).map_err(io::Error::other)?;
            writeln!(bill, "{name},{cost},USD,{at}")?;
        }
        let known = self.ledger.hold(hold).map(|hold| (hold.account, hold.layers.clone()));
        let charge = Nano(i64::try_from(input * 1_000 + output * 2_000).unwrap_or(0));
        let ended = self.execute(&Command::Settle { hold, charge })?;
        if let (Effect::Settled(settled), Some((account, layers))) = (&ended, known) {
            self.history.charged += i128::from(settled.charged().0);
            if self.charges.len() < 64 {
                self.charges.push(ChargeRecord { hold, account, debits: settled.debits.clone(), layers });
            }
        }
        Ok((ended, outcome))
    }

    /// Ends the calls whose holds were written before.
    fn end_all(&mut self) -> io::Result<()> {
        for Running { hold, decided } in std::mem::take(&mut self.running) {
            let (ended, outcome) = self.end(hold)?;
            let call = CallRecord { decided, outcome: Some(Box::new(outcome)) };
            self.records.push(Record { effects: vec![ended], call: Some(call) });
        }
        Ok(())
    }

    fn commit(&mut self, journal: &mut dyn JournalStore) -> io::Result<()> {
        let records = std::mem::take(&mut self.records);
        if !records.is_empty() {
            let (effects, facts) = self.buffers.encode(&records);
            let (epoch, at_ms) = (self.epoch, self.ledger.now().0);
            let header = Header { shard: 0, epoch, n: self.last.n + 1, at_ms, prev_hash: self.last.hash };
            let batch = seal(header, effects, facts);
            journal.append(&batch).map_err(io::Error::other)?;
            self.last = Link::from(&batch);
            self.buffers.take_back(batch);
            self.history.batches += 1;
        }
        self.full_at = 1 + self.below(RECORDS_PER_BATCH_MAX);
        self.end_all()
    }
}

fn decided(hold: HoldId, account: LedgerAccountId, now_ms: i64, layers: &[LayerHold]) -> Decided {
    let reading = |layer: &LayerHold| CounterReading {
        counter: layer.counter,
        window: layer.window,
        used: 123_456_789,
        held: 5_000_000,
    };
    Decided {
        facts: Facts {
            request: RequestId::from_raw(hold.0),
            at_ms: now_ms,
            config_version: 42,
            address: Checked::Passed(Endpoint::ChatCompletions),
            credential: Checked::Passed(Credential {
                key: KeyId::from_raw(account.0 + ACCOUNTS),
                account: AccountId::from_raw(account.0),
                project: None,
                member: None,
            }),
            body: Checked::Passed(CallBody {
                model: "gpt-5-mini".into(),
                stream: false,
                body_bytes: 1_234,
                input_tokens_bound: 800,
                image_parts: 0,
                audio_parts: 0,
                output_cap: Some(1_024),
                choices: 1,
                units: None,
            }),
            client: Client {
                address: Some([127, 0, 0, 1].into()),
                sdk: "OpenAI/Python 2.8.0".into(),
                retry_count: 0,
                browser_origin: None,
                confirmed_cost: None,
            },
            repetition: Repetition::default(),
        },
        readings: Some(Readings {
            channels: Vec::new(),
            available: Nano(9_000_000_000),
            held: Nano(HOLD),
            counters: layers.iter().map(reading).collect(),
            rate: None,
        }),
        refusal: None,
        admitted: Some(Admitted {
            price: PriceId::from_raw(4),
            multiplier_ppm: 1_000_000,
            channel: ChannelId::from_raw(5),
            hold: Nano(HOLD),
            output_cap: 1_024,
            cap_reason: CapReason::Caller,
        }),
        calls: 1,
    }
}

fn outcome(number: u64, input: u64, output: u64) -> Outcome {
    let mut usage = Usage::default();
    usage.set(TokenClass::Input, input);
    usage.set(TokenClass::Output, output);
    let attempt = Attempt {
        channel: Some(ChannelId::from_raw(5)),
        credential: 1,
        multiplier_ppm: 1_000_000,
        started_us: 40,
        duration_us: 630_000,
        status: Some(200),
        upstream_request: Some(format!("req_up_{number:012x}").into()),
        fault: None,
        cost: Some(Nano(i64::try_from(input * 800 + output * 1_600).unwrap_or(0))),
        cost_basis: CostBasis::Upstream,
    };
    Outcome {
        status: 200,
        ending: Ending::Complete,
        usage,
        usage_source: UsageSource::Upstream,
        attempts: smallvec::smallvec![attempt],
        first_byte_us: Some(210_000),
        latency_us: 640_000,
        ..Outcome::gateway_fault()
    }
}
