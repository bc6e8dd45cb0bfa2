//! Rung 12: every spend limit between the call and the account's balance, the narrowest first.

use ledger::Nano;

use crate::catalogue::{Code, LimitView, Refusal};
use crate::directory::Metric;

use super::case::Case;
use super::purse::Measured;

pub fn check(case: &Case<'_>) -> Result<(), Refusal> {
    let Some(Ok(sizing)) = &case.sizing else { return Ok(()) };
    let is_over = |measured: &Measured<'_>| measured.left() < sizing.hold.0 || measured.left() <= 0;
    match case.limits(Metric::Spend).find(is_over) {
        Some(measured) => Err(refusal(case, &measured, sizing.hold)),
        None => Ok(()),
    }
}

pub fn figures(case: &Case<'_>) -> Vec<LimitView> {
    let needed = case.sizing.as_ref().and_then(|sizing| sizing.as_ref().ok()).map(|sizing| sizing.hold);
    case.limits(Metric::Spend).map(|measured| measured.view(needed)).collect()
}

fn refusal(case: &Case<'_>, measured: &Measured<'_>, needed: Nano) -> Refusal {
    let refused = |code| Refusal::new(code).limit(measured.view(Some(needed)));
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
