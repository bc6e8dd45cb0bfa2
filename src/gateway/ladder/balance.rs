//! Rung 13: the account's own money.

use crate::catalogue::{Code, LimitView, Refusal};

use super::case::Case;

pub fn check(case: &Case<'_>) -> Result<(), Refusal> {
    let Some(Ok(sizing)) = &case.sizing else { return Ok(()) };
    let usable = case.usable_balance();
    if sizing.hold <= usable && (usable.0 > 0 || sizing.hold.0 == 0) {
        return Ok(());
    }
    let code = if usable.0 <= 0 { Code::BalanceExhausted } else { Code::BalanceInsufficient };
    let view = view(case, Some(sizing.hold));
    Err(Refusal::new(code).limit(view))
}

pub fn figures(case: &Case<'_>) -> Vec<LimitView> {
    let needed = case.sizing.as_ref().and_then(|sizing| sizing.as_ref().ok()).map(|sizing| sizing.hold);
    vec![view(case, needed)]
}

fn view(case: &Case<'_>, needed: Option<ledger::Nano>) -> LimitView {
    let usable = case.usable_balance();
    LimitView {
        scope: "account".into(),
        id: case.caller.map(|caller| caller.account.account.id.to_string()),
        available: Some(usable),
        held: Some(case.readings.held),
        needed,
        short_by: needed.filter(|needed| *needed > usable).map(|needed| needed.saturating_sub(usable)),
        ..LimitView::default()
    }
}
