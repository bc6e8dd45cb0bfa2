//! Verify: reads the whole journal, keeps books of its own from it, and compares.
//!
//! Checks I1 to I10 by number: each transaction sums to zero, every link of the chain holds, the books close
//! after every batch, nothing is below zero, each call has one outcome, references post once, refunds stay
//! within their charge, and the request log and the checkpoint say the same as the journal.

use std::fmt;
use std::ops::ControlFlow;

use hashbrown::HashMap;
use ledger::{Effect, HoldId, Ledger, Nano, invariants};

use crate::store::chain::{Link, verify_link};
use crate::store::{JournalReader, Projections, StoreError};

use super::encoding;
use super::projector::{CHECKPOINT, ChargeState};

/// One thing that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// "I1" … "I10", or "format".
    pub invariant: &'static str,
    /// Batch in which it showed.
    pub batch: u64,
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in batch {}: {}", self.invariant, self.batch, self.what)
    }
}

/// What was read, and what was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub batches: u64,
    pub records: u64,
    pub effects: u64,
    pub calls: u64,
    pub open_holds: u64,
    /// Nano-units charged in all.
    pub charged: i128,
    pub findings: Vec<Finding>,
    /// More was found than is listed.
    pub cut: bool,
}

impl Report {
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }
}

/// Findings listed at most.
const FINDINGS_MAX: usize = 1_000;
/// Batches between two checks of the whole state; the cheap checks run on every effect.
const BATCHES_PER_CHECK: u64 = 4_096;

struct Verifier<'a> {
    projections: &'a Projections,
    ledger: Ledger,
    last: Link,
    report: Report,
    /// Charge of each call of the journal that the log must agree with.
    charges: HashMap<HoldId, Nano>,
}

/// Verifies everything. `progress` is told the number of batches read. Blocks on the store.
pub fn verify(
    journal: &JournalReader,
    projections: &Projections,
    shard: u32,
    progress: &mut dyn FnMut(u64),
) -> Result<Report, StoreError> {
    let mut verifier = Verifier {
        projections,
        ledger: Ledger::default(),
        last: Link::START,
        report: Report::default(),
        charges: HashMap::new(),
    };
    let cursor = projections.cursor(shard)?;
    journal.read(shard, 1, &mut |batch| {
        progress(batch.n);
        verifier.batch(&batch, cursor)?;
        Ok(ControlFlow::Continue(()))
    })?;
    verifier.finish(cursor)?;
    Ok(verifier.report)
}

impl Verifier<'_> {
    fn find(&mut self, invariant: &'static str, what: impl Into<String>) {
        if self.report.findings.len() < FINDINGS_MAX {
            self.report.findings.push(Finding { invariant, batch: self.last.n, what: what.into() });
        } else {
            self.report.cut = true;
        }
    }

    fn batch(&mut self, batch: &crate::store::Batch, cursor: u64) -> Result<(), StoreError> {
        match verify_link(&self.last, batch) {
            Ok(link) => self.last = link,
            Err(why) => {
                self.last = Link::from(batch);
                self.find("I9", why.to_string());
            }
        }
        self.report.batches += 1;
        let records = match encoding::decode_batch(&batch.effects, batch.facts.as_deref()) {
            Ok(records) => records,
            Err(why) => {
                self.find("format", why.to_string());
                return Ok(());
            }
        };
        for record in &records {
            self.report.records += 1;
            self.report.calls += u64::from(record.request.is_some());
            record.effects.iter().for_each(|effect| self.effect(effect));
            if let Some(call) = &record.call {
                let refused = call.decided.refusal.is_some();
                let money = ChargeState::of(&record.effects).0;
                let settled = matches!(money, ChargeState::Settled | ChargeState::Released);
                if refused && !record.effects.is_empty() {
                    self.find("I5", format!("{} was refused and moved money", call.decided.facts.request));
                }
                if call.outcome.is_some() != settled {
                    self.find("I5", format!("{} has no one outcome", call.decided.facts.request));
                }
            }
        }
        if batch.n.is_multiple_of(BATCHES_PER_CHECK) {
            self.check_state();
        }
        if batch.n <= cursor && self.charges.len() >= 10_000 {
            self.compare_log()?;
        }
        Ok(())
    }

    fn effect(&mut self, effect: &Effect) {
        self.report.effects += 1;
        if let Some(violation) = invariants::balanced(effect) {
            self.find(violation.invariant, violation.what);
        }
        if let Effect::Settled(settled) = effect {
            self.report.charged += i128::from(settled.charged().0);
            self.charges.insert(settled.hold, settled.charged());
        }
        if let Effect::Released(released) = effect {
            self.charges.insert(released.hold, Nano::ZERO);
        }
        let reference = match effect {
            Effect::Credited(credit) => Some(&credit.reference),
            Effect::Refunded(refund) => Some(&refund.reference),
            Effect::Withdrawn(withdrawn) => Some(&withdrawn.reference),
            _ => None,
        };
        if let Some(reference) = reference.filter(|reference| self.ledger.has_posted(reference)) {
            let what = format!("{} posted twice", reference.0);
            self.find("I8", what);
        }
        if let Some(violation) = invariants::admissible(&self.ledger, effect, None) {
            self.find(violation.invariant, violation.what);
        }
        if let Err(why) = self.ledger.apply(effect) {
            self.find("I5", why.to_string());
        }
    }

    fn check_state(&mut self) {
        for violation in invariants::check(&self.ledger) {
            self.find(violation.invariant, violation.what);
        }
    }

    /// I6: the log says of each call what the ledger says.
    fn compare_log(&mut self) -> Result<(), StoreError> {
        for (hold, charged) in std::mem::take(&mut self.charges) {
            let request = encoding::request_of(hold);
            match self.projections.request(hold.0)? {
                None => self.find("I6", format!("{request} is not in the request log")),
                Some(row) if row.charge != charged.0 => {
                    let logged = Nano(row.charge);
                    self.find("I6", format!("{request}: the log says {logged}, the ledger {charged}"));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    fn finish(&mut self, cursor: u64) -> Result<(), StoreError> {
        self.check_state();
        if cursor >= self.last.n {
            self.compare_log()?;
        }
        self.report.open_holds = self.ledger.open_holds().count() as u64;
        let Some((n, body)) = self.projections.checkpoint(CHECKPOINT)? else { return Ok(()) };
        match encoding::decode_checkpoint(&body) {
            Err(why) => self.find("format", format!("the checkpoint: {why}")),
            Ok(checkpoint) if n == self.last.n && checkpoint.state != self.ledger.state() => {
                self.find("I2", "the checkpoint is not what the journal says");
            }
            Ok(_) => {}
        }
        Ok(())
    }
}
