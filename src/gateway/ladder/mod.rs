//! The ladder: one ordered list of checks that every call passes, and the one pure function that decides.
//!
//! Promises: [`decide`] reads only what it is given – no clock, no I/O, no lock – so the same code decides
//! a call, explains it later and answers a simulation. The first rung that fails refuses; the order of
//! [`RUNGS`] is the contract. A rung must never look at how another one decided.

mod account_switch;
mod balance;
mod budgets;
mod candidates;
mod case;
mod channel;
mod counts;
mod duplicates;
mod evidence;
mod explain;
mod key_state;
mod model;
mod model_search;
mod permission;
mod project;
mod purse;
mod rate;
mod request;
mod scope;
mod sizing;
mod units;

use crate::catalogue::{LimitView, Refusal};
use crate::directory::Snapshot;
use crate::plant::planted;

use super::facts::{Facts, Readings};

pub use budgets::task_cost_cap;
pub use candidates::{Candidate, Candidates};
pub use case::{Caller, Case, HoldPolicy, seed};
pub use evidence::{Evidence, Finding};
pub use explain::{Step, StepState, Would, explain};
pub use key_state::status as key_status;
pub use model_search::not_found as model_not_found;
pub use permission::permits;
pub use purse::{Layer, Layers, OfCall, Purse, Purses, purses};
pub use scope::Scope;
pub use sizing::Sizing;

/// One check of the ladder.
pub struct Rung {
    /// Number in the published table.
    pub number: u8,
    pub name: &'static str,
    check: fn(&Case<'_>) -> Result<(), Refusal>,
    /// The numbers that the check compared, for the Why.
    figures: fn(&Case<'_>) -> Vec<LimitView>,
    /// What else the check looked at, for the Why.
    evidence: fn(&Case<'_>) -> Vec<Evidence>,
}

impl Rung {
    const fn new(number: u8, name: &'static str, check: fn(&Case<'_>) -> Result<(), Refusal>) -> Self {
        Rung { number, name, check, figures: |_| Vec::new(), evidence: |_| Vec::new() }
    }

    const fn figures(self, figures: fn(&Case<'_>) -> Vec<LimitView>) -> Self {
        Rung { figures, ..self }
    }

    const fn evidence(self, evidence: fn(&Case<'_>) -> Vec<Evidence>) -> Self {
        Rung { evidence, ..self }
    }
}

/// The rungs in the order in which they are evaluated.
pub const RUNGS: &[Rung] = &[
    Rung::new(1, "address", request::address),
    Rung::new(2, "credential", request::credential),
    Rung::new(3, "key_state", key_state::check),
    Rung::new(4, "account_switch", account_switch::check),
    Rung::new(5, "project", project::check),
    Rung::new(6, "request", request::body),
    Rung::new(7, "permission", permission::check).evidence(permission::evidence),
    Rung::new(8, "model", model::check).evidence(model::evidence),
    Rung::new(RATE, "rate", rate::check).figures(rate::figures),
    Rung::new(10, "counts", counts::check).figures(counts::figures),
    Rung::new(11, "duplicates", duplicates::check),
    Rung::new(12, "budgets", budgets::check).figures(budgets::figures),
    Rung::new(13, "balance", balance::check).figures(balance::figures),
    Rung::new(14, "channel", channel::check).evidence(channel::evidence),
];

/// The last rung that needs neither the body nor the books.
const BEFORE_BODY: u8 = 5;

/// The last rung that a fault of the request itself can refuse at.
const REQUEST: u8 = 6;

/// A refusal consumes nothing but rate: whatever passes this rung does.
pub const RATE: u8 = 9;

/// What the ladder says of a call.
#[derive(Debug)]
pub enum Verdict<'a> {
    Admit(Admission<'a>),
    Refuse(Box<Refusal>),
}

/// What an admitted call goes on with.
#[derive(Debug)]
pub struct Admission<'a> {
    pub sizing: Sizing,
    pub price: &'a std::sync::Arc<crate::directory::Price>,
    /// Of the dearest group that may serve the call.
    pub multiplier_ppm: u64,
    /// Where it is sent to first.
    pub first: Candidate<'a>,
}

/// Decides a call from everything that is known of it.
pub fn decide<'a>(
    snapshot: &'a Snapshot,
    facts: &'a Facts,
    readings: &'a Readings,
    policy: &HoldPolicy,
) -> Verdict<'a> {
    let case = Case::new(snapshot, facts, readings, policy);
    for rung in RUNGS {
        if let Err(refusal) = (way(rung).check)(&case) {
            return Verdict::Refuse(Box::new(refusal));
        }
    }
    match (case.sizing, case.price, case.chosen) {
        (Some(Ok(sizing)), Some(price), Some(first)) => {
            Verdict::Admit(Admission { sizing, price, multiplier_ppm: case.multiplier_ppm, first })
        }
        // Every rung passed, so each of the three is there; a call without one of them is never admitted.
        _ => Verdict::Refuse(Box::new(Refusal::new(crate::catalogue::Code::NoChannel))),
    }
}

/// The rung that is asked in the place of this one: itself.
fn way(rung: &Rung) -> &Rung {
    let other = match rung.number {
        12 if planted!(SwappedRungs) => 13,
        13 if planted!(SwappedRungs) => 12,
        _ => return rung,
    };
    RUNGS.iter().find(|rung| rung.number == other).unwrap_or(rung)
}

/// The rungs that can be decided before the body is read, so that nobody without a key can send one.
pub fn decide_before_body(snapshot: &Snapshot, facts: &Facts) -> Result<(), Refusal> {
    decide_up_to(BEFORE_BODY, snapshot, facts)
}

/// The rungs up to the request's own faults, which need no books. Whether a call fits the key's tokens per minute is a
/// question of the same rung, so nothing behind it is decided without them.
pub fn decide_before_books(snapshot: &Snapshot, facts: &Facts) -> Result<(), Refusal> {
    decide_up_to(REQUEST, snapshot, facts)
}

/// The rungs that a call passes which costs nothing and counts for nothing but rate: a kept answer that is given again,
/// or a count of tokens.
pub fn decide_free(snapshot: &Snapshot, facts: &Facts, readings: &Readings) -> Result<(), Refusal> {
    decide_with(RATE, snapshot, facts, readings)
}

fn decide_up_to(last: u8, snapshot: &Snapshot, facts: &Facts) -> Result<(), Refusal> {
    decide_with(last, snapshot, facts, &Readings::default())
}

fn decide_with(last: u8, snapshot: &Snapshot, facts: &Facts, readings: &Readings) -> Result<(), Refusal> {
    let case = Case::new(snapshot, facts, readings, &HoldPolicy::NONE);
    RUNGS.iter().take_while(|rung| rung.number <= last).try_for_each(|rung| (rung.check)(&case))
}
