//! The ladder again, step by step, for the Why, the doctor and the simulator: the same checks on the same
//! facts, with the verdict of every rung instead of the first failure alone.

use crate::catalogue::{Code, LimitView};
use crate::directory::Snapshot;
use crate::gateway::facts::{Facts, Readings};

use super::case::{Case, HoldPolicy};
use super::evidence::Evidence;
use super::{BEFORE_BODY, RUNGS};

/// One rung as it went.
#[derive(Clone, Debug)]
pub struct Step {
    pub rung: u8,
    pub name: &'static str,
    pub state: StepState,
    /// The code that the rung refused with, or would have refused with.
    pub code: Option<Code>,
    /// What was compared, with the numbers of the time.
    pub figures: Vec<LimitView>,
    /// What else was looked at.
    pub evidence: Vec<Evidence>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepState {
    Pass,
    Fail,
    /// An earlier rung refused. What this one would have said, if enough was known to tell.
    NotReached {
        would: Option<Would>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Would {
    Pass,
    Fail,
}

/// Explains a decision. `readings` is `None` if the books were not looked at; `refused` is the code that
/// was answered: it wins over what the checks say today.
pub fn explain(
    snapshot: &Snapshot,
    facts: &Facts,
    readings: Option<&Readings>,
    policy: &HoldPolicy,
    refused: Option<Code>,
) -> Vec<Step> {
    let nothing = Readings::default();
    let case = Case::new(snapshot, facts, readings.unwrap_or(&nothing), policy);
    let refused_at = refused.map(|code| (code.rung(), code));
    RUNGS
        .iter()
        .map(|rung| {
            let found = (rung.check)(&case).err().map(|refusal| refusal.code);
            let (state, code) = match refused_at {
                Some((at, code)) if rung.number == at => (StepState::Fail, Some(code)),
                Some((at, _)) if rung.number > at => {
                    let known = case.caller.is_some() && (readings.is_some() || rung.number <= BEFORE_BODY);
                    let would = if found.is_some() { Would::Fail } else { Would::Pass };
                    (StepState::NotReached { would: known.then_some(would) }, found.filter(|_| known))
                }
                _ => (StepState::Pass, None),
            };
            let figures = if readings.is_some() { (rung.figures)(&case) } else { Vec::new() };
            let evidence = (rung.evidence)(&case);
            Step { rung: rung.number, name: rung.name, state, code, figures, evidence }
        })
        .collect()
}
