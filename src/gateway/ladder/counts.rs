//! Rung 10: how many calls a key may make in a day.

use crate::catalogue::{Code, LimitView, Refusal, Value};
use crate::directory::{Limit, Metric, Origin};
use crate::plant::planted;

use super::case::Case;

pub fn check(case: &Case<'_>) -> Result<(), Refusal> {
    let least = if planted!(OneCallMore) { 0 } else { 1 };
    match case.limits(Metric::Calls).find(|measured| measured.left() < least) {
        None => Ok(()),
        Some(measured) => {
            let wait_ms = measured.reading.window.end.0.saturating_sub(case.facts.at_ms);
            Err(Refusal::new(Code::DailyCallsExhausted)
                .param("allowed", allowed(measured.limit))
                .limit(measured.view(Some(Metric::Calls.value(1))))
                .retry_after_ms(u64::try_from(wait_ms).unwrap_or(0)))
        }
    }
}

pub fn figures(case: &Case<'_>) -> Vec<LimitView> {
    case.limits(Metric::Calls).map(|measured| measured.view(Some(Metric::Calls.value(1)))).collect()
}

/// The number as the sentence has it: a zero that nobody chose says so.
fn allowed(limit: &Limit) -> Value {
    let calls = limit.ceiling();
    if limit.tasks {
        return (&*format!("{calls} tasks"), &*format!("任务 {calls}")).into();
    }
    match (&limit.model, limit.origin) {
        (Some(model), _) => (&*format!("{calls} {model}"), &*format!("{model} {calls}")).into(),
        (None, Origin::Default) => {
            (&*format!("{calls} (the default)"), &*format!("{calls}（默认值）")).into()
        }
        (None, _) => calls.to_string().into(),
    }
}
