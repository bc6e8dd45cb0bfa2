//! What happened in a run, counted: a simulation in which something never happens proves nothing about it.

use std::collections::BTreeMap;

use ledger::{Effect, LedgerError, LotId};

/// How often each thing happened, to show that a run was not idle.
#[derive(Clone, Debug, Default)]
pub struct Figures(pub BTreeMap<&'static str, usize>);

impl Figures {
    /// All that must have happened to somebody in some hundred seeds.
    pub const EXPECTED: [&'static str; 31] = [
        "credited",
        "credited: debt repaid",
        "held",
        "held: overdraft",
        "settled",
        "settled: rest returned",
        "settled: overrun",
        "settled: loss",
        "released",
        "expired",
        "refunded",
        "refunded: debt repaid",
        "refunded: new lot",
        "withdrawn",
        "withdrawn: arrears",
        "cost accrued",
        "crash",
        "layer exhausted",
        "balance insufficient",
        "hold exists",
        "unknown hold",
        "unknown lot",
        "lot exists",
        "already posted",
        "reference reused",
        "bad amount",
        "not expired",
        "nothing left",
        "refund exceeds charge",
        "too large",
        "malformed",
    ];

    pub fn count(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }

    pub fn add(&mut self, other: &Figures) {
        other.0.iter().for_each(|(what, times)| *self.0.entry(what).or_default() += times);
    }
}

/// What an outcome was.
pub fn kind(outcome: &Result<Effect, LedgerError>) -> &'static str {
    match outcome {
        Ok(Effect::Credited(_)) => "credited",
        Ok(Effect::Held(_)) => "held",
        Ok(Effect::Settled(_)) => "settled",
        Ok(Effect::Released(_)) => "released",
        Ok(Effect::Expired(_)) => "expired",
        Ok(Effect::Refunded(_)) => "refunded",
        Ok(Effect::Withdrawn(_)) => "withdrawn",
        Ok(Effect::CostAccrued(_)) => "cost accrued",
        Err(why) => refusal(why),
    }
}

/// Names what an outcome was, and what was special about it.
pub fn happened(outcome: &Result<Effect, LedgerError>, mut count: impl FnMut(&'static str)) {
    count(kind(outcome));
    let owes = |debits: &[ledger::Debit]| debits.iter().any(|debit| debit.lot == LotId(0));
    let mut also = |is: bool, what: &'static str| {
        if is {
            count(what)
        }
    };
    match outcome {
        Ok(Effect::Credited(credit)) => also(credit.repaid.0 > 0, "credited: debt repaid"),
        Ok(Effect::Held(held)) => also(owes(&held.debits), "held: overdraft"),
        Ok(Effect::Settled(settled)) => {
            also(!settled.returned.is_empty(), "settled: rest returned");
            also(!settled.overrun.is_empty(), "settled: overrun");
            also(settled.loss.0 > 0, "settled: loss");
        }
        Ok(Effect::Refunded(refunded)) => {
            also(owes(&refunded.credits), "refunded: debt repaid");
            // The workload's own lots have small numbers.
            also(refunded.credits.iter().any(|credit| credit.lot.0 > 1 << 32), "refunded: new lot");
        }
        Ok(Effect::Withdrawn(withdrawn)) => also(owes(&withdrawn.debits), "withdrawn: arrears"),
        _ => {}
    }
}

fn refusal(why: &LedgerError) -> &'static str {
    match why {
        LedgerError::LayerExhausted { .. } => "layer exhausted",
        LedgerError::BalanceInsufficient { .. } => "balance insufficient",
        LedgerError::HoldExists { .. } => "hold exists",
        LedgerError::UnknownHold { .. } => "unknown hold",
        LedgerError::UnknownLot { .. } => "unknown lot",
        LedgerError::LotExists { .. } => "lot exists",
        LedgerError::AlreadyPosted { .. } => "already posted",
        LedgerError::ReferenceReused { .. } => "reference reused",
        LedgerError::BadAmount { .. } => "bad amount",
        LedgerError::NotExpired { .. } => "not expired",
        LedgerError::NothingLeft { .. } => "nothing left",
        LedgerError::RefundExceedsCharge { .. } => "refund exceeds charge",
        LedgerError::TooLarge => "too large",
        LedgerError::Malformed { .. } => "malformed",
        LedgerError::ForeignEffect { .. } => "foreign effect",
    }
}
