//! What calls came to, compared with the request log: I5, I6 and I10, on a thread of its own.
//!
//! Ids of calls are ordered by time, and so is the log: calls that ended together are looked for by ranges of ids, each
//! read in one go.

use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, SyncSender};

use ledger::{Effect, HoldId, Nano};

use crate::books::encoding;
use crate::books::projector::ChargeState;
use crate::store::{Projections, Row, StoreError};
use crate::store_params;

use super::Finding;

/// A call that ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct EndedCall {
    pub hold: HoldId,
    pub charged: Nano,
    pub batch: u64,
    /// Its facts are gone, so that its row may be, too.
    pub purged: bool,
}

/// What was refunded of a charge by then.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refund {
    pub charge: HoldId,
    pub refunded: Nano,
    pub batch: u64,
}

/// A portion of what the journal says.
pub(super) struct Told {
    pub ended: Vec<EndedCall>,
    pub refunds: Vec<Refund>,
}

/// What came of it.
#[derive(Default)]
pub(super) struct Comparison {
    pub findings: Vec<Finding>,
    /// Calls of the journal that the log does not have, and those that the journal has twice.
    pub missing: u64,
    pub doubled: u64,
    /// A batch that was projected, and the calls that had ended in the log as of it.
    pub ended_in_log: Option<(u64, u64)>,
    /// Everything that the journal told of could be compared.
    pub complete: bool,
}

/// Calls that lie further apart are not looked for together: the rows in between are others'.
const GAP_MS: u128 = 10_000;
/// Bits of an id below its time.
const BELOW_TIME: u32 = 80;
/// Rows asked for at once.
const IDS_AT_ONCE: usize = 4_096;

/// Compares until nothing more is told. `whole`: the journal is read from its first batch on, so the whole log is counted
/// too, and the reader is told up to where.
pub(super) fn compare(
    projections: &Projections,
    shard: u32,
    whole: bool,
    told: &Receiver<Told>,
    to_reader: &SyncSender<u64>,
) -> Result<Comparison, StoreError> {
    let mut comparison = Comparison { complete: true, ..Comparison::default() };
    comparison.ended_in_log = if whole { count(projections, shard)? } else { None };
    let counted_at = comparison.ended_in_log.map_or(0, |(cursor, _)| cursor);
    // The reader may have ended already.
    let _told = to_reader.send(counted_at.max(if whole { 0 } else { projections.cursor(shard)? }));
    let mut refunds = Vec::new();
    for portion in told {
        let projected = projections.cursor(shard)?;
        comparison.complete &= portion.ended.iter().all(|call| call.batch <= projected);
        let ready = portion.ended.into_iter().filter(|call| call.batch <= projected).collect();
        comparison.calls(projections, ready)?;
        refunds.extend(portion.refunds.into_iter().filter(|refund| refund.batch <= projected));
    }
    for refund in refunds {
        comparison.refund(projections, refund)?;
    }
    Ok(comparison)
}

/// Calls that ended, as of which batch. One statement, so that both are of one moment.
fn count(projections: &Projections, shard: u32) -> Result<Option<(u64, u64)>, StoreError> {
    let sql =
        "SELECT COUNT(*), (SELECT n FROM projection_cursor WHERE shard = ?1) FROM requests WHERE state >= ?2";
    let row = projections.db().query_one(sql, store_params![shard, ChargeState::Settled as u8])?;
    row.map(|row| Ok((row.maybe(1, Row::id)?.unwrap_or(0), row.id(0)?))).transpose()
}

impl Comparison {
    fn find(&mut self, invariant: &'static str, batch: u64, what: String) {
        self.findings.push(Finding { invariant, batch, what });
    }

    fn calls(&mut self, projections: &Projections, mut calls: Vec<EndedCall>) -> Result<(), StoreError> {
        calls.sort_unstable_by_key(|call| (call.hold, call.batch));
        for pair in calls.windows(2) {
            if let [one, other] = pair
                && one.hold == other.hold
            {
                self.doubled += 1;
                let request = encoding::request_of(one.hold);
                self.find("I5", other.batch, format!("{request} has two outcomes"));
            }
        }
        // The log has a call's last outcome.
        calls.reverse();
        calls.dedup_by_key(|call| call.hold);
        calls.reverse();
        let mut rest = calls.as_slice();
        while let Some(first) = rest.first() {
            let near = |pair: &[EndedCall]| matches!(pair, [one, other] if other.hold.0 >> BELOW_TIME <= (one.hold.0 >> BELOW_TIME) + GAP_MS);
            let together = 1 + rest.windows(2).take(IDS_AT_ONCE).take_while(|pair| near(pair)).count();
            let (range, others) = rest.split_at(together.min(rest.len()));
            self.range(projections, first.hold, range)?;
            rest = others;
        }
        Ok(())
    }

    /// Calls and rows side by side, both in the order of their ids.
    fn range(
        &mut self,
        projections: &Projections,
        first: HoldId,
        calls: &[EndedCall],
    ) -> Result<(), StoreError> {
        let last = calls.last().map_or(first, |call| call.hold);
        let sql = "SELECT id, charge FROM requests WHERE id >= ?1 AND id <= ?2 ORDER BY id";
        let mut waiting = calls.iter().peekable();
        let mut differing = Vec::new();
        let params = store_params![first.0.to_be_bytes(), last.0.to_be_bytes()];
        projections.db().query_each(sql, params, |row| {
            let id = HoldId(u128::from_be_bytes(row.bytes(0)?));
            while let Some(call) = waiting.next_if(|call| call.hold < id) {
                self.missing(call);
            }
            if let Some(call) = waiting.next_if(|call| call.hold == id)
                && row.int(1)? != call.charged.0
            {
                differing.push(*call);
            }
            Ok(ControlFlow::Continue(()))
        })?;
        waiting.for_each(|call| self.missing(call));
        for call in differing {
            self.differing(projections, &call)?;
        }
        Ok(())
    }

    fn missing(&mut self, call: &EndedCall) {
        if !call.purged {
            self.missing += 1;
            let request = encoding::request_of(call.hold);
            self.find("I6", call.batch, format!("{request} is not in the request log"));
        }
    }

    /// A charge in the log that is another one: refunds may be taken off it, but nothing else.
    fn differing(&mut self, projections: &Projections, call: &EndedCall) -> Result<(), StoreError> {
        let Some(row) = projections.request(call.hold.0)? else { return Ok(()) };
        let effects = encoding::decode_effects(&row.money).unwrap_or_default();
        let (_, by_effects) = ChargeState::of(&effects);
        if charged_by(&effects) == Some(call.charged) && by_effects.0 == row.charge {
            return Ok(());
        }
        let (request, logged, charged) = (encoding::request_of(call.hold), Nano(row.charge), call.charged);
        self.find("I6", call.batch, format!("{request}: the log says {logged}, the ledger {charged}"));
        Ok(())
    }

    fn refund(&mut self, projections: &Projections, refund: Refund) -> Result<(), StoreError> {
        let (request, refunded) = (encoding::request_of(refund.charge), refund.refunded);
        let row = projections.request(refund.charge.0)?;
        let charged = row.map(|row| {
            let effects = encoding::decode_effects(&row.money).unwrap_or_default();
            charged_by(&effects).unwrap_or(Nano::ZERO)
        });
        match charged {
            Some(charged) if refunded > charged => {
                self.find(
                    "I10",
                    refund.batch,
                    format!("{refunded} of {request} is refunded, {charged} was charged"),
                );
            }
            None => self.find(
                "I10",
                refund.batch,
                format!("{refunded} of {request} is refunded, which nobody knows"),
            ),
            Some(_) => {}
        }
        Ok(())
    }
}

fn charged_by(effects: &[Effect]) -> Option<Nano> {
    effects.iter().find_map(|effect| match effect {
        Effect::Settled(settled) => Some(settled.charged()),
        _ => None,
    })
}
