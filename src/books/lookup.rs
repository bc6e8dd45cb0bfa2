//! Reading one call: what is projected, and what is not yet.

use std::fmt;

use ledger::Effect;

use crate::gateway::facts::CallRecord;
use crate::id::RequestId;
use crate::store::{Projections, RequestRow, StoreError};

use super::encoding::{self, DecodeError};
use super::{Books, projector::ChargeState};

/// A call with its money.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredCall {
    pub call: CallRecord,
    pub state: ChargeState,
    pub charge: ledger::Nano,
    /// Hold and settlement or release.
    pub money: Vec<Effect>,
}

#[derive(Debug)]
pub enum LookupError {
    Store(StoreError),
    Decode(DecodeError),
}

impl fmt::Display for LookupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LookupError::Store(why) => write!(f, "the request log cannot be read: {why}"),
            LookupError::Decode(why) => write!(f, "a row of the request log cannot be understood: {why}"),
        }
    }
}

impl std::error::Error for LookupError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            LookupError::Store(why) => Some(why),
            LookupError::Decode(why) => Some(why),
        }
    }
}

impl StoredCall {
    pub fn new(call: CallRecord, money: Vec<Effect>) -> Self {
        let (state, charge) = ChargeState::of(&money);
        StoredCall { call, state, charge, money }
    }

    /// From a row of the request log.
    pub fn from_row(row: &RequestRow) -> Result<Self, LookupError> {
        let call = encoding::decode_call(&row.facts).map_err(LookupError::Decode)?;
        let money = encoding::decode_effects(&row.money).map_err(LookupError::Decode)?;
        Ok(StoredCall::new(call, money))
    }
}

/// A call as it stands now: a receipt asked for right after its answer is there. Blocks on the store.
pub fn call(
    books: &Books,
    projections: &Projections,
    id: RequestId,
) -> Result<Option<StoredCall>, LookupError> {
    // The tail first: what leaves it meanwhile is in the projections by then.
    let tail = books.find_call(id);
    let row = projections.request(id.raw()).map_err(LookupError::Store)?;
    let row = row.map(|row| StoredCall::from_row(&row)).transpose()?;
    Ok(match (tail, row) {
        (None, row) => row,
        (Some((call, money)), None) => Some(StoredCall::new(call, money)),
        (Some((call, newer)), Some(row)) => {
            let mut money = row.money;
            money.extend(newer.into_iter().filter(|effect| !is_known(effect, &row.call)));
            money.dedup();
            Some(StoredCall::new(if call.outcome.is_some() { call } else { row.call }, money))
        }
    })
}

/// Whether a projected row already contains an effect of the tail.
fn is_known(effect: &Effect, row: &CallRecord) -> bool {
    match effect {
        Effect::Held(_) => true,
        Effect::Settled(_) | Effect::Released(_) => row.outcome.is_some(),
        _ => false,
    }
}
