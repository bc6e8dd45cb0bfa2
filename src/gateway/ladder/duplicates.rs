//! Rung 11: a request that was sent before.

use crate::catalogue::Refusal;

use super::case::Case;

/// Who has the call's Idempotency-Key was looked up before the decision.
pub fn check(case: &Case<'_>) -> Result<(), Refusal> {
    case.facts.repetition.refused.as_deref().map_or(Ok(()), |refusal| Err(refusal.clone()))
}
