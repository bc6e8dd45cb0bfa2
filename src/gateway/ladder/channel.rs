//! Rung 14: somewhere to send the call to.

use crate::catalogue::{Code, Refusal};

use super::case::Case;

pub fn check(case: &Case<'_>) -> Result<(), Refusal> {
    match (case.call, case.chosen) {
        (Some(call), None) => Err(Refusal::new(Code::NoChannel).param("model", &*call.model)),
        _ => Ok(()),
    }
}
