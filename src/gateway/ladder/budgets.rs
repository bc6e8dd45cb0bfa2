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
        None => task_cap(case),
    }
}

pub fn figures(case: &Case<'_>) -> Vec<LimitView> {
    let limits = case.limits(Metric::Spend).map(|measured| measured.view(case.hold()));
    limits.chain(cap(case).map(|cap| cap.view(case.hold()))).collect()
}

/// What one task may cost (高成本图片视频任务), and whose setting that is.
struct TaskCap {
    cost: Nano,
    id: String,
}

impl TaskCap {
    fn view(&self, needed: Option<Nano>) -> LimitView {
        LimitView {
            scope: "task".into(),
            id: Some(self.id.clone()),
            limit: Some(self.cost),
            used: Some(Nano::ZERO),
            held: Some(Nano::ZERO),
            needed,
            origin: Some("owner".into()),
            ..LimitView::default()
        }
    }
}

/// The tighter one of the key's and the account's.
fn cap(case: &Case<'_>) -> Option<TaskCap> {
    let caller = case.caller.filter(|_| case.is_task())?;
    let (key, account) = (caller.key, &caller.account.account);
    let of_key = key.tasks.as_ref().and_then(|terms| terms.cost_cap);
    let of_account = account.tasks.as_ref().and_then(|terms| terms.cost_cap);
    let of_key = of_key.map(|cost| TaskCap { cost, id: key.id.to_string() });
    let of_account = of_account.map(|cost| TaskCap { cost, id: account.id.to_string() });
    [of_key, of_account].into_iter().flatten().min_by_key(|cap| cap.cost)
}

/// What one task may cost without being confirmed; `None`: there is no cap.
pub fn task_cost_cap(case: &Case<'_>) -> Option<Nano> {
    cap(case).map(|cap| cap.cost)
}

/// A cost beyond the cap must be confirmed by the caller of this very task.
fn task_cap(case: &Case<'_>) -> Result<(), Refusal> {
    let (Some(cap), Some(hold)) = (cap(case), case.hold()) else { return Ok(()) };
    let confirmed = case.facts.client.confirmed_cost;
    if hold <= cap.cost || confirmed.is_some_and(|confirmed| hold <= confirmed) {
        return Ok(());
    }
    Err(Refusal::new(Code::TaskCostOverCap).limit(cap.view(Some(hold))))
}

fn refusal(case: &Case<'_>, measured: &Measured<'_>, needed: Option<Nano>) -> Refusal {
    let refused = |code| Refusal::new(code).limit(measured.view(needed));
    if measured.limit.model.is_some() {
        return refused(Code::ModelBudgetExhausted);
    }
    if measured.limit.tasks {
        return refused(Code::TaskQuotaExhausted);
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
