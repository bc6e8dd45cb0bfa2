//! One seed: workload, ledger and auditor side by side, with crashes in between.

use std::panic::{AssertUnwindSafe, catch_unwind};

use ledger::{
    AccountId, Command, CounterKey, Effect, HoldOwner, Ledger, LedgerError, ReleaseReason, State, Timestamp,
    WindowInstance, invariants,
};

use crate::auditor::Auditor;
use crate::calendar::Calendar;
use crate::figures::{Figures, happened};
use crate::random::Random;
use crate::workload::{Learnt, Workload};

/// Commands between two whole comparisons.
const WHOLE_EVERY: usize = 100;
/// Commands between two moments that a crash can go back to.
const BASE_EVERY: usize = 64;

/// What a seed came upon.
pub struct Failure {
    pub step: usize,
    pub what: String,
}

/// What a crash leaves on disk, and what the auditor knew at a moment before.
struct Disk {
    records: Vec<(Command, Effect)>,
    base: (usize, Auditor, Learnt),
    dump: Option<(usize, State)>,
}

struct Run<'a> {
    ledger: Ledger,
    auditor: Auditor,
    workload: Workload,
    calendar: &'a mut Calendar,
    disk: Disk,
    figures: Figures,
}

/// Runs a seed; a panic is a failure like any other.
pub fn run(seed: u64, steps: usize, calendar: &mut Calendar) -> Result<Figures, Failure> {
    let mut step = 0;
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let workload = Workload::new(seed, calendar);
        let disk = Disk { records: vec![], base: Default::default(), dump: None };
        let (ledger, auditor, figures) = Default::default();
        let mut run = Run { ledger, auditor, workload, calendar, disk, figures };
        while step < steps {
            step += 1;
            run.step(step)?;
        }
        run.auditor.compare_all(&run.ledger)?;
        Ok(run.figures)
    }));
    let outcome = outcome.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("panic: {}", text.unwrap_or_default()))
    });
    outcome.map_err(|what| Failure { step, what })
}

impl Run<'_> {
    fn step(&mut self, step: usize) -> Result<(), String> {
        if self.workload.random.per_mille(3) {
            self.crash()?;
        }
        if self.workload.random.per_mille(3) {
            self.disk.dump = Some((self.disk.records.len(), self.ledger.state()));
        }
        let command = self.workload.command(&self.ledger, self.calendar)?;
        self.execute(&command)?;
        if step.is_multiple_of(WHOLE_EVERY) {
            self.auditor.compare_all(&self.ledger)?;
        }
        Ok(())
    }

    fn execute(&mut self, command: &Command) -> Result<(), String> {
        let clock = Timestamp(self.workload.clock);
        let told = |what: String| format!("{what}\n  command: {command:?}\n  at {clock:?}");
        let foretold = self.auditor.foretell(command, clock);
        let (account, counters) = self.touched(command);
        let actual = self.ledger.plan(command, clock);
        self.auditor.agrees(&foretold, &actual).map_err(told)?;
        happened(&actual, |what| self.figures.count(what));
        match actual {
            Err(_) => {}
            Ok(effect) => {
                let charged = match command {
                    Command::Refund { charge, .. } => Some(ledger::total(&charge.debits)),
                    _ => None,
                };
                let broken = invariants::balanced(&effect);
                let broken = broken.or_else(|| invariants::admissible(&self.ledger, &effect, charged));
                if let Some(violation) = broken {
                    return Err(told(format!("invariant {violation}")));
                }
                self.make_true(command, effect).map_err(told)?;
            }
        }
        self.auditor.compare_step(&self.ledger, account, &counters, clock).map_err(told)
    }

    fn make_true(&mut self, command: &Command, effect: Effect) -> Result<(), String> {
        self.ledger.apply(&effect).map_err(|why| format!("a planned effect does not fit: {why}"))?;
        self.auditor.commit(command, &effect);
        self.workload.learnt.learn(command, &effect);
        // A record that is replayed twice must be noticed, and change nothing: the comparison follows.
        let once = !matches!(effect, Effect::CostAccrued(_)) && self.workload.random.percent(5);
        if once && !matches!(self.ledger.apply(&effect), Err(LedgerError::ForeignEffect { .. })) {
            return Err(format!("an effect was made true twice: {effect:?}"));
        }
        self.disk.records.push((command.clone(), effect));
        if self.disk.records.len().is_multiple_of(BASE_EVERY) && self.workload.random.percent(50) {
            let (auditor, learnt) = (self.auditor.clone(), self.workload.learnt.clone());
            self.disk.base = (self.disk.records.len(), auditor, learnt);
        }
        Ok(())
    }

    /// What a command can change.
    fn touched(&self, command: &Command) -> (Option<AccountId>, Vec<(CounterKey, WindowInstance)>) {
        match command {
            Command::Reserve { account, layers, .. } => {
                (Some(*account), layers.iter().map(|layer| (layer.counter, layer.window)).collect())
            }
            Command::Settle { hold, .. } | Command::Release { hold, .. } => {
                match self.auditor.holds.get(hold) {
                    Some(held) => {
                        let layers = held.layers.iter().map(|layer| (layer.counter, layer.window));
                        (Some(held.account), layers.collect())
                    }
                    None => (None, vec![]),
                }
            }
            Command::Refund { charge, .. } => {
                let layers = charge.layers.iter().map(|layer| (layer.counter, layer.window));
                (Some(charge.account), layers.collect())
            }
            Command::Credit { account, .. }
            | Command::Expire { account, .. }
            | Command::Withdraw { account, .. }
            | Command::AccrueUpstreamCost { account, .. } => (Some(*account), vec![]),
        }
    }

    /// The process dies. A prefix of what it did is on disk; the books are rebuilt from it in two ways, the
    /// auditor goes back to the same moment, and the holds of the dead process are released.
    fn crash(&mut self) -> Result<(), String> {
        self.figures.count("crash");
        let random = &mut self.workload.random;
        let all = self.disk.records.len();
        let (base, _, _) = &self.disk.base;
        let durable = match random.below(10) {
            0 => random.between(0, all as i64) as usize,
            1..5 => all,
            _ => random.between(*base as i64, all as i64) as usize,
        };
        self.disk.records.truncate(durable);
        if self.disk.dump.as_ref().is_some_and(|(taken, _)| *taken > durable) {
            self.disk.dump = None;
        }
        if self.disk.base.0 > durable {
            self.disk.base = Default::default();
        }
        let rebuilt = self.rebuild()?;
        let (begin, mut auditor, mut learnt) = self.disk.base.clone();
        for (command, effect) in self.disk.records.iter().skip(begin) {
            auditor.commit(command, effect);
            learnt.learn(command, effect);
        }
        (self.ledger, self.auditor, self.workload.learnt) = (rebuilt, auditor, learnt);
        self.auditor.compare_all(&self.ledger)?;
        self.workload.epoch += 1;
        // A crash can also swallow the releases of an earlier one: no process lives now.
        let of_process = |held: &&ledger::Held| matches!(held.owner, HoldOwner::Process(_));
        let orphans: Vec<_> = self.auditor.holds.values().filter(of_process).map(|held| held.hold).collect();
        for hold in orphans {
            self.execute(&Command::Release { hold, reason: ReleaseReason::ProcessDied })?;
        }
        // I3: only tasks survive their process.
        if let Some(hold) = self.ledger.open_holds().find(|hold| !matches!(hold.owner, HoldOwner::Task(_))) {
            return Err(format!("I3: {:?} has no living owner", hold.id));
        }
        Ok(())
    }

    /// The records in batches, as a journal may write them: the end of a call beside its beginning, if both
    /// are in one batch.
    fn merged(&self) -> Vec<Vec<&Effect>> {
        let mut random = Random::new(self.disk.records.len() as u64);
        let mut batches = Vec::new();
        let mut rest = self.disk.records.as_slice();
        while !rest.is_empty() {
            let (batch, after) = rest.split_at(rest.len().min(1 + random.below(40)));
            rest = after;
            let mut effects: Vec<&Effect> = Vec::new();
            for (_, effect) in batch {
                let is_end = matches!(effect, Effect::Settled(_) | Effect::Released(_));
                let begins = |other: &&Effect| {
                    is_end && matches!(other, Effect::Held(held) if Some(held.hold) == effect.hold())
                };
                match effects.iter().position(begins) {
                    Some(begin) => effects.insert(begin + 1, effect),
                    None => effects.push(effect),
                }
            }
            batches.push(effects);
        }
        batches
    }

    /// From the first record, from the records as a journal merges them, and from the last dump and what
    /// follows it: the same books.
    fn rebuild(&self) -> Result<Ledger, String> {
        let replay = |mut ledger: Ledger, from: usize| {
            for (_, effect) in self.disk.records.iter().skip(from) {
                ledger.apply(effect).map_err(|why| format!("replay: {why}: {effect:?}"))?;
            }
            Ok::<_, String>(ledger)
        };
        let from_first = replay(Ledger::default(), 0)?;
        let mut merged = Ledger::default();
        for batch in self.merged() {
            for effect in batch {
                merged.apply(effect).map_err(|why| format!("replay of merged records: {why}: {effect:?}"))?;
            }
            if let Some(violation) = invariants::check(&merged).first() {
                return Err(format!("after a batch: {violation}"));
            }
        }
        if remembered(&merged) != remembered(&from_first) {
            return Err("merged records lead to different books".to_owned());
        }
        let Some((taken, state)) = &self.disk.dump else { return Ok(from_first) };
        let dumped = Ledger::from_state(state.clone());
        if dumped.state() != *state {
            return Err("a dump does not come back as it was".to_owned());
        }
        let from_dump = replay(dumped, *taken)?;
        if from_first.state() != from_dump.state() {
            return Err("replay and dump lead to different books".to_owned());
        }
        Ok(from_dump)
    }
}

/// A dump without the windows that may be forgotten: when that happens depends on the order of the records.
fn remembered(ledger: &Ledger) -> State {
    let mut state = ledger.state();
    let now = state.now.0;
    state.counters.retain(|counter| counter.window.end.0.saturating_add(3_600_000) > now);
    state
}

/// What went wrong and how to see it again.
pub fn told(seed: u64, failure: &Failure) -> String {
    format!(
        "seed {seed}, command {}: {}\nrepeat with: LEDGER_SEED={seed} cargo nextest run -p ledger simulation",
        failure.step, failure.what
    )
}
