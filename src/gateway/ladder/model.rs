//! Rung 8: the model exists, may be used, and has a price.

use crate::catalogue::{Code, Refusal};
use crate::directory::{ModelStatus, Snapshot};

use super::case::Case;

/// Near misses shown at most, and how many letters they may differ in.
const NEAR_MISSES_MAX: usize = 3;
const DISTANCE_MAX: usize = 4;

pub fn check(case: &Case<'_>) -> Result<(), Refusal> {
    let Some(call) = case.call else { return Ok(()) };
    let Some(entry) = case.model else {
        return Err(not_found(case.snapshot, &call.model));
    };
    if entry.model.status == ModelStatus::Retired {
        return Err(Refusal::new(Code::ModelRetired).field("model").param("model", &*call.model));
    }
    match case.price {
        Some(_) => Ok(()),
        None => Err(Refusal::new(Code::ModelUnpriced).field("model").param("model", &*call.model)),
    }
}

/// Names the models that come nearest.
pub fn not_found(snapshot: &Snapshot, asked: &str) -> Refusal {
    Refusal::new(Code::ModelNotFound)
        .field("model")
        .param("model", asked)
        .param("near_misses", near_misses(snapshot, asked))
}

/// Names of models that differ from `asked` in a few letters or in case, nearest first.
pub fn near_misses(snapshot: &Snapshot, asked: &str) -> Vec<String> {
    let asked = asked.to_lowercase();
    let mut near: Vec<(usize, &str)> = snapshot
        .models()
        .filter(|entry| entry.model.status == ModelStatus::Active)
        .map(|entry| {
            (strsim::damerau_levenshtein(&asked, &entry.model.name.to_lowercase()), &*entry.model.name)
        })
        .filter(|(distance, _)| *distance <= DISTANCE_MAX)
        .collect();
    near.sort_unstable();
    near.into_iter().take(NEAR_MISSES_MAX).map(|(_, name)| name.to_owned()).collect()
}
