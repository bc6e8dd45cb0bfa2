//! Lots: a balance is a list of credits, each with a kind, a priority and an end.

use crate::ids::{LotId, Timestamp};
use crate::money::Nano;
use crate::plant::planted;

/// Granted credit is spent before purchased credit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum LotKind {
    Granted = 1,
    Purchased = 2,
    /// Money that the account does not have but may owe; never a lot of its own, only a part of a hold.
    Overdraft = 3,
}

impl LotKind {
    pub fn from_code(code: u8) -> Option<Self> {
        [LotKind::Granted, LotKind::Purchased, LotKind::Overdraft]
            .into_iter()
            .find(|kind| *kind as u8 == code)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            LotKind::Granted => "granted",
            LotKind::Purchased => "purchased",
            LotKind::Overdraft => "overdraft",
        }
    }
}

/// The lot id under which a hold names its overdraft.
pub const OVERDRAFT: LotId = LotId(0);

/// One credit and what is left of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lot {
    pub id: LotId,
    pub kind: LotKind,
    /// Lower is spent first, among lots of a kind.
    pub priority: u8,
    /// From this moment on what is left cannot be spent.
    pub expires_at: Option<Timestamp>,
    pub available: Nano,
    /// Part of open holds.
    pub held: Nano,
}

impl Lot {
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }

    /// What can be spent of it.
    pub fn spendable(&self, now: Timestamp) -> Nano {
        if self.is_expired(now) && !planted!(ExpiredSpendable) { Nano::ZERO } else { self.available }
    }

    /// The order in which lots are spent: kind, priority, earliest end, age.
    pub(crate) fn rank(&self) -> (u8, u8, i64, LotId) {
        let kind = if planted!(PurchasedFirst) { 3 - (self.kind as u8).min(2) } else { self.kind as u8 };
        (kind, self.priority, self.expires_at.map_or(i64::MAX, |end| end.0), self.id)
    }
}
