//! A case that is put right: its proposal becomes corrections, with the approval that those need, and the case is closed with
//! who did it and why once they are posted.
//!
//! Promises: a case has one set of corrections at a time, whoever asks at once; what was rejected may be asked for again.
//! Must never: close a case whose corrections still wait for a second person, or do not cover what it proposes.

use std::fmt;

use super::begun::{self, Begun, Look};
use super::cases::{Case, CaseState};
use super::entry::{self, Books};
use super::store::ReconcileStore;
use crate::funding::{Correction, CorrectionError, CorrectionState};
use crate::id::ReconcileCaseId;
use crate::store::StoreError;

#[derive(Debug)]
pub enum CorrectError {
    NotFound,
    NotOpen,
    /// No correction of the books can put it right.
    NothingToPost,
    /// Its corrections wait for a second person.
    Waiting(Box<Correction>),
    Correction(CorrectionError),
}

impl fmt::Display for CorrectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CorrectError::NotFound => f.write_str("there is no such case"),
            CorrectError::NotOpen => f.write_str("the case is not open"),
            CorrectError::NothingToPost => f.write_str(
                "no correction of the books puts it right; its proposal says what else there is to do",
            ),
            CorrectError::Waiting(correction) => {
                write!(f, "its correction {} waits for a second person", correction.id)
            }
            CorrectError::Correction(why) => write!(f, "{why}"),
        }
    }
}

impl std::error::Error for CorrectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            CorrectError::Correction(why) => Some(why),
            _ => None,
        }
    }
}

impl From<CorrectionError> for CorrectError {
    fn from(why: CorrectionError) -> Self {
        CorrectError::Correction(why)
    }
}

impl From<StoreError> for CorrectError {
    fn from(why: StoreError) -> Self {
        CorrectError::Correction(why.into())
    }
}

/// Makes the corrections that an open case proposes and that were not posted of it before, and closes it if none of them waits
/// for a second person.
pub fn correct(
    store: &ReconcileStore,
    books: &Books<'_>,
    id: ReconcileCaseId,
    actor: &str,
    reason: &str,
    now_ms: i64,
) -> Result<Case, CorrectError> {
    begun::heal(store, books, id, Look::Reading, now_ms)?;
    let case = store.case(id)?.ok_or(CorrectError::NotFound)?;
    if case.state != CaseState::Open {
        return Err(CorrectError::NotOpen);
    }
    if let Some(waiting) = entry::made_of(books, &case)?.into_iter().find(|made| !is_over(made)) {
        return Err(CorrectError::Waiting(Box::new(waiting)));
    }
    let terms = entry::entries(books, &case)?.unwrap_or_default();
    if terms.is_empty() {
        return Err(CorrectError::NothingToPost);
    }
    let (actor, reason) = (actor.to_owned(), reason.to_owned());
    let begun = Begun { count: terms.len(), actor, reason, at_ms: now_ms };
    begun::make(store, books, &case, &begun, terms)?;
    settle(store, books, id, now_ms)?;
    store.case(id)?.ok_or(CorrectError::NotFound)
}

/// A case as it is now: what a crash left of its corrections is put on it, and one that is put right is closed.
pub fn look(
    store: &ReconcileStore,
    books: &Books<'_>,
    id: ReconcileCaseId,
    now_ms: i64,
) -> Result<Option<Case>, CorrectError> {
    if store.begun(id)?.is_some() {
        begun::heal(store, books, id, Look::Reading, now_ms)?;
        settle(store, books, id, now_ms)?;
    }
    Ok(store.case(id)?)
}

/// Closes open cases whose corrections were posted meanwhile, and puts right what crashes left. To be called from time to
/// time. Answers how many it closed.
pub fn settle_all(store: &ReconcileStore, books: &Books<'_>, now_ms: i64) -> Result<u32, CorrectError> {
    for id in store.all_begun()? {
        if let Err(why) = begun::heal(store, books, id, Look::Repairing, now_ms) {
            tracing::warn!(case = %id, %why, "corrections of a case that were begun cannot be made");
        }
    }
    let mut closed = 0;
    for id in store.being_corrected()? {
        closed += u32::from(settle(store, books, id, now_ms)?);
    }
    Ok(closed)
}

/// Closes a case if none of its corrections waits and what was posted leaves nothing of what it proposes, in the name of whoever
/// had the last word.
fn settle(
    store: &ReconcileStore,
    books: &Books<'_>,
    id: ReconcileCaseId,
    now_ms: i64,
) -> Result<bool, CorrectError> {
    let Some(case) = store.case(id)? else { return Ok(false) };
    let made = entry::made_of(books, &case)?;
    let posted: Vec<_> = made.iter().filter(|made| made.state == CorrectionState::Posted).collect();
    let Some(last) = posted.last().filter(|_| made.iter().all(is_over)) else { return Ok(false) };
    // One of two was rejected, or the other side says more than it did when they were asked for.
    if entry::entries(books, &case)?.is_none_or(|rest| !rest.is_empty()) {
        return Ok(false);
    }
    let by = last.decision.as_ref().map_or(&last.proposed_by, |decision| &decision.by);
    let names: Vec<_> = posted.iter().map(|made| made.id.to_string()).collect();
    let reason = format!("{} ({})", last.reason, names.join(", "));
    Ok(store.close(id, by, &reason, now_ms)?)
}

fn is_over(correction: &Correction) -> bool {
    matches!(correction.state, CorrectionState::Posted | CorrectionState::Rejected | CorrectionState::Failed)
}
