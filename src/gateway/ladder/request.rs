//! Rungs 1, 2 and 6: what the request itself shows. The findings were made where the bytes were read; here
//! they only take their place in the order.

use crate::catalogue::{Code, Refusal};
use crate::directory::KeyStatus;
use crate::gateway::facts::Checked;

use super::case::Case;

pub fn address(case: &Case<'_>) -> Result<(), Refusal> {
    passed(&case.facts.address)
}

pub fn credential(case: &Case<'_>) -> Result<(), Refusal> {
    passed(&case.facts.credential)?;
    match case.caller {
        Some(caller) if caller.key.status == KeyStatus::Revoked => {
            Err(Refusal::new(Code::KeyRevoked).param("key", caller.key.id.to_string()))
        }
        Some(_) => Ok(()),
        None => Err(Refusal::new(Code::UnknownKey)),
    }
}

pub fn body(case: &Case<'_>) -> Result<(), Refusal> {
    passed(&case.facts.body)?;
    // A part that cannot be bounded is a fault of the request, found once the model is known.
    match &case.sizing {
        Some(Err(refusal)) => Err(refusal.clone()),
        _ => Ok(()),
    }
}

fn passed<T>(checked: &Checked<T>) -> Result<(), Refusal> {
    match checked {
        Checked::Refused(refusal) => Err(Refusal::clone(refusal)),
        Checked::Passed(_) | Checked::NotReached => Ok(()),
    }
}
