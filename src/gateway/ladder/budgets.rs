//! Rung 12: every spend limit between the call and the account's balance, the narrowest first.

use crate::catalogue::{Code, LimitView, Refusal};
use crate::directory::documents::{Limit, Origin, Window};
use crate::gateway::facts::CounterReading;

use super::case::Case;

pub fn check(case: &Case<'_>) -> Result<(), Refusal> {
    let Some(Ok(sizing)) = &case.sizing else { return Ok(()) };
    let over = |(reading, limit): &(&CounterReading, Limit)| {
        let left = limit.value.0.saturating_sub(reading.used).saturating_sub(reading.held);
        left < sizing.hold.0 || left <= 0
    };
    match case.limits().find(over) {
        Some((reading, limit)) => Err(refuse(case, reading, limit, sizing.hold)),
        None => Ok(()),
    }
}

pub fn figures(case: &Case<'_>) -> Vec<LimitView> {
    let needed = case.sizing.as_ref().and_then(|sizing| sizing.as_ref().ok()).map(|sizing| sizing.hold);
    case.limits().map(|(reading, limit)| view(case, reading, limit, needed)).collect()
}

fn refuse(case: &Case<'_>, reading: &CounterReading, limit: Limit, needed: ledger::Nano) -> Refusal {
    Refusal::new(Code::KeyBudgetExhausted).limit(view(case, reading, limit, Some(needed)))
}

fn view(case: &Case<'_>, reading: &CounterReading, limit: Limit, needed: Option<ledger::Nano>) -> LimitView {
    LimitView {
        scope: "key".into(),
        id: case.caller.map(|caller| caller.key.id.to_string()),
        window: Some(window_name(limit.window).into()),
        limit: Some(limit.value),
        used: Some(ledger::Nano(reading.used)),
        held: Some(ledger::Nano(reading.held)),
        needed,
        resets_at_ms: (limit.window != Window::Total).then_some(reading.window.end.0),
        origin: Some(origin_name(limit.origin).into()),
        ..LimitView::default()
    }
}

pub fn window_name(window: Window) -> &'static str {
    match window {
        Window::Day => "day",
        Window::Month => "month",
        Window::Total => "total",
    }
}

pub fn origin_name(origin: Origin) -> &'static str {
    match origin {
        Origin::Default => "default",
        Origin::Owner => "owner",
        Origin::Operator => "operator",
        Origin::Organization => "organization",
    }
}
