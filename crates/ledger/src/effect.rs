//! What happened: immutable, self-contained, enough to rebuild the books and to print a receipt.

use smallvec::SmallVec;

use crate::command::{CreditSource, HoldOwner, ReleaseReason, Withdrawal};
use crate::counters::CounterKey;
use crate::ids::{AccountId, HoldId, LotId, Reference, Timestamp};
use crate::lots::{Lot, LotKind};
use crate::money::Nano;
use crate::window::WindowInstance;

/// A part of a lot. It says all that is needed to open the lot again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Debit {
    pub lot: LotId,
    pub kind: LotKind,
    pub priority: u8,
    pub expires_at: Option<Timestamp>,
    pub amount: Nano,
}

impl Debit {
    pub(crate) fn of(lot: &Lot, amount: Nano) -> Self {
        Debit { lot: lot.id, kind: lot.kind, priority: lot.priority, expires_at: lot.expires_at, amount }
    }
}

pub type Debits = SmallVec<[Debit; 2]>;

/// The sum of some debits.
pub fn total(debits: &[Debit]) -> Nano {
    debits.iter().fold(Nano::ZERO, |sum, debit| sum.saturating_add(debit.amount))
}

/// A layer in which a hold counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldLayer {
    pub counter: CounterKey,
    pub window: WindowInstance,
    pub limit: Option<i64>,
    pub amount: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credited {
    pub account: AccountId,
    pub at: Timestamp,
    pub lot: LotId,
    pub kind: LotKind,
    pub priority: u8,
    pub expires_at: Option<Timestamp>,
    pub amount: Nano,
    /// The part that paid what the account owed; the lot holds the rest.
    pub repaid: Nano,
    pub source: CreditSource,
    pub reference: Reference,
    /// Fingerprint of the content that the reference stands for.
    pub content: u128,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    pub hold: HoldId,
    pub account: AccountId,
    pub at: Timestamp,
    pub amount: Nano,
    pub overdraft: Nano,
    pub owner: HoldOwner,
    pub debits: Debits,
    pub layers: SmallVec<[HeldLayer; 6]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    pub hold: HoldId,
    pub account: AccountId,
    pub at: Timestamp,
    /// What the call cost.
    pub cost: Nano,
    /// Charged out of the hold.
    pub debits: Debits,
    /// Given back out of the hold.
    pub returned: Debits,
    /// Charged beyond the hold, as far as every layer and the balance had money.
    pub overrun: Debits,
    /// Cost that nobody had money for: the platform's.
    pub loss: Nano,
}

impl Settled {
    /// Charged in all.
    pub fn charged(&self) -> Nano {
        total(&self.debits).saturating_add(total(&self.overrun))
    }

    /// What was held.
    pub fn held(&self) -> Nano {
        total(&self.debits).saturating_add(total(&self.returned))
    }

    pub fn loss(&self) -> Nano {
        self.loss
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Released {
    pub hold: HoldId,
    pub account: AccountId,
    pub at: Timestamp,
    pub reason: ReleaseReason,
    pub returned: Debits,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expired {
    pub account: AccountId,
    pub at: Timestamp,
    pub debit: Debit,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refunded {
    pub hold: HoldId,
    pub account: AccountId,
    pub at: Timestamp,
    /// Into which lots; what an expired one had paid comes back as a lot of its own, with an end to come.
    pub credits: Debits,
    /// The window instances of the charge, in which that much less counts as used.
    pub layers: SmallVec<[HeldLayer; 6]>,
    pub reference: Reference,
    pub content: u128,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Withdrawn {
    pub account: AccountId,
    pub at: Timestamp,
    pub kind: Withdrawal,
    pub debits: Debits,
    pub reference: Reference,
    pub content: u128,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CostAccrued {
    pub account: AccountId,
    pub hold: HoldId,
    pub at: Timestamp,
    pub amount: Nano,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    Credited(Credited),
    Held(Held),
    Settled(Settled),
    Released(Released),
    Expired(Expired),
    Refunded(Refunded),
    Withdrawn(Withdrawn),
    CostAccrued(CostAccrued),
}

impl Effect {
    pub fn at(&self) -> Timestamp {
        match self {
            Effect::Credited(effect) => effect.at,
            Effect::Held(effect) => effect.at,
            Effect::Settled(effect) => effect.at,
            Effect::Released(effect) => effect.at,
            Effect::Expired(effect) => effect.at,
            Effect::Refunded(effect) => effect.at,
            Effect::Withdrawn(effect) => effect.at,
            Effect::CostAccrued(effect) => effect.at,
        }
    }

    pub fn account(&self) -> AccountId {
        match self {
            Effect::Credited(effect) => effect.account,
            Effect::Held(effect) => effect.account,
            Effect::Settled(effect) => effect.account,
            Effect::Released(effect) => effect.account,
            Effect::Expired(effect) => effect.account,
            Effect::Refunded(effect) => effect.account,
            Effect::Withdrawn(effect) => effect.account,
            Effect::CostAccrued(effect) => effect.account,
        }
    }

    /// The call or task that it belongs to.
    pub fn hold(&self) -> Option<HoldId> {
        match self {
            Effect::Held(effect) => Some(effect.hold),
            Effect::Settled(effect) => Some(effect.hold),
            Effect::Released(effect) => Some(effect.hold),
            Effect::Refunded(effect) => Some(effect.hold),
            Effect::CostAccrued(effect) => Some(effect.hold),
            Effect::Credited(_) | Effect::Expired(_) | Effect::Withdrawn(_) => None,
        }
    }
}
