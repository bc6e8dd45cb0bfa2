//! Rung 12: every spend limit between the call and the account's balance, the narrowest first.

use ledger::Nano;

use crate::catalogue::{Code, LimitView, Refusal};
use crate::directory::Metric;

use super::case::Case;
use super::purse::Measured;

pub fn check(case: &Case<'_>) -> Result<(), Refusal> {
    // Behind a rung that refused, the hold may not be known; a purse with nothing left refuses whatever it is.
    let hold = case.hold();
    let is_over =
        |measured: &Measured<'_>| measured.left() <= 0 || hold.is_some_and(|hold| measured.left() < hold.0);
    match case.limits(Metric::Spend).find(is_over) {
        Some(measured) => Err(refusal(case, &measured, hold)),
        None => Ok(()),
    }
}

pub fn figures(case: &Case<'_>) -> Vec<LimitView> {
    case.limits(Metric::Spend).map(|measured| measured.view(case.hold())).collect()
}

fn refusal(case: &Case<'_>, measured: &Measured<'_>, needed: Option<Nano>) -> Refusal {
    let refused = |code| Refusal::new(code).limit(measured.view(needed));
    if measured.limit.model.is_some() {
        return refused(Code::ModelBudgetExhausted);
    }
    match measured.reading.counter.layer {
        ledger::Layer::Member => refused(Code::MemberBudgetExhausted),
        ledger::Layer::Project => refused(Code::ProjectBudgetExhausted),
        ledger::Layer::Group => {
            let group = case.caller.and_then(|caller| caller.group);
            refused(Code::GroupQuotaExhausted).param("group", group.map_or("", |group| &*group.name))
        }
        ledger::Layer::Organization => refused(Code::OrganizationBudgetExhausted),
        ledger::Layer::Key | ledger::Layer::Model | ledger::Layer::Account => {
            refused(Code::KeyBudgetExhausted)
        }
    }
}
