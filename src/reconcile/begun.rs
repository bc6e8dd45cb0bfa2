//! Corrections of a case that are being made: written down before the first is posted, so that a crash before they are on
//! the case is put right at the next look.
//!
//! Promises: what was posted is found by its reference and put on the case, whoever looks; what was posted in part is
//! posted to its end, as it was asked for. Must never: post what nothing was posted of: nobody was told that it was.

use serde::{Deserialize, Serialize};

use super::cases::{Case, CaseState};
use super::correct::CorrectError;
use super::entry::{self, Books};
use super::store::ReconcileStore;
use crate::funding::{Correction, CorrectionTerms, NewCorrection};
use crate::id::{CorrectionId, ReconcileCaseId};

/// Whoever makes them has done so within this time, or does so no more.
const ENDS_WITHIN_MS: i64 = 60_000;

/// Who asked for how many, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    pub count: usize,
    pub actor: String,
    pub reason: String,
    pub at_ms: i64,
}

/// Who is looking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// A reader: what is posted is put on the case.
    Reading,
    /// What is posted in part is posted to its end, too.
    Repairing,
}

/// Under which reference the corrections of a case are posted: the first behind those that it has.
pub fn reference(case: &Case, number: usize) -> String {
    format!("case:{}:{}", case.id, case.corrections.len() + number + 1)
}

/// Makes the corrections of a case, each under its reference: asked for again, it is the one that it was.
pub(super) fn make(
    store: &ReconcileStore,
    books: &Books<'_>,
    case: &Case,
    begun: &Begun,
    terms: Vec<CorrectionTerms>,
) -> Result<(), CorrectError> {
    store.begin_correcting(case.id, begun)?;
    let mut made = Vec::with_capacity(terms.len());
    for (number, terms) in terms.into_iter().enumerate() {
        let (reason, actor) = (begun.reason.clone(), begun.actor.clone());
        let new = NewCorrection { terms, reference: Some(reference(case, number)), reason, actor };
        made.push(books.corrections.propose(&new)?.0.id);
    }
    link(store, case, made)
}

fn link(store: &ReconcileStore, case: &Case, made: Vec<CorrectionId>) -> Result<(), CorrectError> {
    let corrections: Vec<_> = case.corrections.iter().copied().chain(made).collect();
    Ok(store.corrected(case.id, &corrections)?)
}

/// Puts right what a crash left of the corrections of a case.
pub(super) fn heal(
    store: &ReconcileStore,
    books: &Books<'_>,
    id: ReconcileCaseId,
    look: Look,
    now_ms: i64,
) -> Result<(), CorrectError> {
    let (Some(case), Some(begun)) = (store.case(id)?, store.begun(id)?) else { return Ok(()) };
    let posted = (0..begun.count)
        .map(|number| books.corrections.by_reference(&reference(&case, number)))
        .filter_map(Result::transpose)
        .collect::<Result<Vec<Correction>, _>>()?;
    let is_over = now_ms.saturating_sub(begun.at_ms) >= ENDS_WITHIN_MS;
    if posted.len() == begun.count || !posted.is_empty() && case.state != CaseState::Open {
        return link(store, &case, posted.iter().map(|made| made.id).collect());
    }
    if !is_over || look == Look::Reading {
        return Ok(());
    }
    if posted.is_empty() {
        return Ok(store.forget_begun(id)?);
    }
    let terms = entry::entries(books, &case)?.unwrap_or_default();
    match terms.len() == begun.count {
        true => make(store, books, &case, &begun, terms),
        false => {
            tracing::warn!(case = %id, posted = posted.len(), of = begun.count, "corrections of a case were made in part, and what is left cannot be worked out any more");
            Ok(())
        }
    }
}
