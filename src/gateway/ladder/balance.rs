//! Rung 13: the account's own money.

use crate::catalogue::{Code, LimitView, Refusal};

use super::case::Case;

pub fn check(case: &Case<'_>) -> Result<(), Refusal> {
    let usable = case.usable_balance();
    let is_enough = match case.hold() {
        Some(hold) => hold <= usable && (usable.0 > 0 || hold.0 == 0),
        // Behind a rung that refused, the hold may not be known; an empty balance pays for no call that costs.
        None => usable.0 > 0,
    };
    if is_enough {
        return Ok(());
    }
    let code = if usable.0 <= 0 { Code::BalanceExhausted } else { Code::BalanceInsufficient };
    Err(Refusal::new(code).limit(view(case)))
}

pub fn figures(case: &Case<'_>) -> Vec<LimitView> {
    vec![view(case)]
}

fn view(case: &Case<'_>) -> LimitView {
    let (usable, needed) = (case.usable_balance(), case.hold());
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
