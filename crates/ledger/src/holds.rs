//! Holds: money that is set aside for a call, in the lots and in every layer at once.

use smallvec::SmallVec;

use crate::command::HoldOwner;
use crate::counters::Slot;
use crate::effect::{Debits, HeldLayer};
use crate::ids::{AccountId, HoldId, Timestamp};
use crate::money::Nano;

/// An open hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    pub id: HoldId,
    pub account: AccountId,
    pub at: Timestamp,
    pub amount: Nano,
    /// How far below zero the account may go for this call.
    pub overdraft: Nano,
    pub owner: HoldOwner,
    pub debits: Debits,
    pub layers: SmallVec<[HeldLayer; 6]>,
    /// Where the layers count: no look-up when the hold ends.
    pub(crate) slots: SmallVec<[Slot; 6]>,
}
