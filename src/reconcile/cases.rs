//! A difference as a case: what both sides say, what is likely to be the cause, and what would put it right.

use ledger::Nano;
use serde_json::{Value, json};

use super::compare::{Difference, Kind};
use super::row::{Class, Row};
use crate::books::ChargeState;
use crate::explain::time_text;
use crate::id::{CorrectionId, ReconcileCaseId};
use crate::tasks::{TaskMoney, TaskState};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaseState {
    Open,
    /// Somebody closed it, with a reason.
    Closed,
    /// Both sides agree now.
    Gone,
}

impl CaseState {
    pub const ALL: [CaseState; 3] = [CaseState::Open, CaseState::Closed, CaseState::Gone];

    pub fn as_str(self) -> &'static str {
        match self {
            CaseState::Open => "open",
            CaseState::Closed => "closed",
            CaseState::Gone => "gone",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    pub id: ReconcileCaseId,
    /// `books`, `payments:<provider>` or `upstream:<scope>`.
    pub source: String,
    pub kind: Kind,
    /// What it is about: the class and the key of its rows.
    pub subject: String,
    pub state: CaseState,
    pub ours: Option<Value>,
    pub theirs: Option<Value>,
    pub cause: String,
    /// What would put it right. It is never done by itself.
    pub proposal: Option<Value>,
    /// Corrections that were made of it.
    pub corrections: Vec<CorrectionId>,
    pub opened_ms: i64,
    pub seen_run: u64,
    pub closed_ms: Option<i64>,
    pub closed_by: Option<String>,
    pub reason: Option<String>,
}

/// Where a difference was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Books,
    Payments,
    Upstream,
}

impl Place {
    pub fn of(source: &str) -> Self {
        match source.split(':').next() {
            Some("payments") => Place::Payments,
            Some("upstream") => Place::Upstream,
            _ => Place::Books,
        }
    }
}

/// A row as a case shows it.
pub fn view(row: &Row) -> Value {
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    json!({
        "name": &*row.name,
        "key": &*row.key,
        "class": row.class.as_str(),
        "amount": row.amount.map(|amount| amount.to_string()),
        "currency": &*row.currency,
        "at": time_text(row.at_ms),
        "account": text(&row.account),
        "request": text(&row.alias),
        "charged": row.charged.is_positive().then(|| row.charged.to_string()),
        "basis": text(&row.basis),
    })
}

/// What a case is about.
pub fn subject(difference: &Difference) -> String {
    let row = difference.row();
    let (class, key) = row.map_or(("", ""), |row| (row.class.as_str(), &*row.key));
    format!("{class}:{key}")
}

/// The likely cause.
pub fn cause(place: Place, difference: &Difference) -> &'static str {
    let class = difference.row().map(|row| row.class);
    let ours_has_it = difference.ours.is_some();
    let estimated =
        difference.ours.as_ref().is_some_and(|row| matches!(&*row.basis, "estimated" | "counted"));
    match (place, difference.kind) {
        (Place::Payments, Kind::RowMissing) if ours_has_it => {
            "Our books have it and the statement does not: the statement ends too early, or what we were told of never happened there"
        }
        (Place::Payments, Kind::RowMissing) if class == Some(Class::Payment) => {
            "The payer paid and no order of ours is paid: its callback was lost, or the order is another installation's"
        }
        (Place::Payments, Kind::RowMissing) => "It was done at the provider by hand, and nobody told us",
        (Place::Payments, Kind::RowDoubled) => "The payer paid twice, or the file holds the row twice",
        (Place::Payments, Kind::AmountDiffers) => "Another amount was paid or sent than the order says",
        (Place::Payments, Kind::CurrencyDiffers) => "It was settled in another currency than it was paid in",
        (Place::Payments, Kind::RefundWithoutCharge) => {
            "Money was sent back of a payment that neither side knows"
        }
        (Place::Upstream, Kind::NeverAdmitted) => {
            "The upstream had a call that the journal does not have: the gateway died before it was written, or somebody else uses the credential"
        }
        (Place::Upstream, Kind::ChargedWithoutAnswer) => {
            "The customer was charged for an answer that the upstream does not bill"
        }
        (Place::Upstream, Kind::AmountDiffers) if estimated => {
            "The cost was estimated, because no usage came: the answer was cut or timed out"
        }
        (Place::Upstream, Kind::AmountDiffers) => "The channel's cost is not what the upstream's price is",
        (Place::Upstream, Kind::RowMissing) => {
            "The upstream has not billed it yet, or does not bill what failed"
        }
        (Place::Upstream, Kind::RowDoubled) => "The upstream billed one call twice",
        (Place::Books, Kind::RowMissing) if ours_has_it => {
            "An order says that it was posted, and the ledger has not posted it"
        }
        (Place::Books, Kind::RowMissing) => "The ledger has posted it, and no order or log row says so",
        (Place::Books, Kind::AccountDiffers) => "The ledger posted it to another account than the order's",
        (Place::Books, Kind::ChargedWithoutAnswer) => {
            "The log says that nothing came of the call, and it was charged"
        }
        (Place::Books, Kind::RefundWithoutCharge) => "A refund names a charge that is not in the log",
        (Place::Books, Kind::TaskNotCharged) if is_held(difference) => {
            "The task has succeeded and the poller has not told the ledger: it does not run, or cannot write"
        }
        (Place::Books, Kind::TaskNotCharged) => {
            "The hold was given back, and the task's row says that it succeeded: one of them is older, as after a restored backup, or was changed beneath the program"
        }
        (Place::Books, Kind::FailedTaskCharged) => {
            "The task was charged, and its row says that nothing came of it: one of them is older, as after a restored backup, or was changed beneath the program"
        }
        (Place::Books, Kind::TaskWithoutHold) => {
            "The row waits for money that the ledger does not hold: the journal is older than the row, or the hold was ended beneath it"
        }
        (Place::Books, Kind::HoldWithoutTask) => {
            "The task's row is gone: the gateway died between hold and row, or the rows come from an older backup"
        }
        (Place::Books, Kind::Late) if class == Some(Class::Cost) => {
            "The task has ended long ago and its row and the ledger have not come together: the poller does not run, or cannot write"
        }
        (_, Kind::SignDiffers) => "One side counts as coming in what the other counts as going out",
        (_, Kind::Late) => "Both sides have it, at times far apart: a clock, a time zone, or a late booking",
        (_, Kind::ChainCut) => "The journal or the audit log was changed beneath the program",
        (_, Kind::RowDoubled) => "It stands there twice",
        (_, Kind::AmountDiffers) => "The two sides say different amounts",
        (_, Kind::CurrencyDiffers) => "The two sides say different currencies",
        (_, Kind::AccountDiffers) => "The two sides name different accounts",
        (_, Kind::BooksBroken) => "An invariant of the books does not hold",
        (
            _,
            Kind::TaskNotCharged | Kind::FailedTaskCharged | Kind::TaskWithoutHold | Kind::HoldWithoutTask,
        )
        | (Place::Books | Place::Payments, Kind::NeverAdmitted)
        | (Place::Payments, Kind::ChargedWithoutAnswer)
        | (Place::Upstream, Kind::RefundWithoutCharge) => "One side does not have it",
    }
}

/// What would put it right, for somebody to decide. The actions are listed in docs/reconcile.md; some are corrections of
/// the books, which [`super::entry`] works out.
pub fn proposal(place: Place, difference: &Difference) -> Value {
    let Some(row) = difference.row() else { return json!({"action": "look_at_books"}) };
    match place {
        Place::Payments => of_payments(difference, row),
        Place::Upstream => of_upstream(difference, row),
        Place::Books => of_books(difference, row),
    }
}

fn amount(row: Option<&Row>) -> Nano {
    row.and_then(|row| row.amount).unwrap_or_default()
}

/// What they have more than we have.
fn more(difference: &Difference) -> Nano {
    Nano(amount(difference.theirs.as_ref()).0.saturating_sub(amount(difference.ours.as_ref()).0))
}

fn size(amount: Nano) -> Nano {
    Nano(amount.0.saturating_abs())
}

fn of_payments(difference: &Difference, row: &Row) -> Value {
    let order = difference.ours.as_ref().map_or(&row.key, |ours| &ours.name);
    let of_order = |action: &str, amount: Nano| json!({"action": action, "order": &**order, "amount": amount.to_string(), "currency": &*row.currency});
    let theirs = difference.theirs.is_some();
    match (difference.kind, row.class) {
        (Kind::RowMissing, Class::Payment) if theirs => of_order("complete_order", size(amount(Some(row)))),
        // A dispute that was won comes back.
        (Kind::RowMissing | Kind::RefundWithoutCharge, _) if theirs => {
            of_order("take_back", amount(Some(row)))
        }
        (Kind::RowDoubled, Class::Payment) if theirs => {
            of_order("refund_at_provider", size(amount(Some(row))))
        }
        (Kind::RowDoubled, _) if theirs => of_order("take_back", amount(Some(row))),
        (Kind::AmountDiffers, _) => of_order("adjust_order", more(difference)),
        (Kind::SignDiffers, _) => of_order("ask_for_new_file", size(amount(Some(row)))),
        (Kind::CurrencyDiffers, _) => of_order("use_other_mapping", size(amount(Some(row)))),
        (Kind::Late, _) => of_order("look_at_clocks", size(amount(Some(row)))),
        _ => of_order("look_at_provider", size(amount(Some(row)))),
    }
}

fn of_upstream(difference: &Difference, row: &Row) -> Value {
    let request = if row.alias.is_empty() { &row.name } else { &row.alias };
    let of_call = |action: &str, amount: Nano| json!({"action": action, "request": &**request, "amount": amount.to_string(), "currency": &*row.currency});
    match difference.kind {
        Kind::ChargedWithoutAnswer => of_call("refund_charge", row.charged),
        Kind::NeverAdmitted => of_call("bear_cost", size(amount(Some(row)))),
        Kind::AmountDiffers | Kind::SignDiffers => of_call("bear_cost", more(difference)),
        Kind::RowDoubled => of_call("claim_at_upstream", size(amount(Some(row)))),
        Kind::CurrencyDiffers => of_call("use_other_mapping", size(amount(Some(row)))),
        Kind::Late => of_call("look_at_clocks", size(amount(Some(row)))),
        _ => of_call("wait_for_bill", size(amount(Some(row)))),
    }
}

/// Whether the ledger still holds what a task is to be charged.
fn is_held(difference: &Difference) -> bool {
    difference.theirs.as_ref().is_some_and(|row| &*row.basis == ChargeState::Held.as_str())
}

/// Ours is what the row of a task says, theirs what the ledger did with its hold.
fn of_tasks(difference: &Difference, row: &Row) -> Value {
    let (ours, theirs) = (difference.ours.as_ref(), difference.theirs.as_ref());
    let of_call = |action: &str, amount: Nano| json!({"action": action, "request": &*row.key, "amount": amount.to_string()});
    let charge = |owed: Nano| json!({"action": "adjust_account", "account": &*row.account, "amount": Nano(owed.0.saturating_neg()).to_string(), "reference": &*row.key});
    let succeeded = ours.is_some_and(|row| row.basis.starts_with(TaskState::Succeeded.as_str()));
    let runs = ours.is_some_and(|row| row.basis.ends_with(TaskMoney::Held.as_str()));
    match difference.kind {
        Kind::TaskNotCharged | Kind::HoldWithoutTask | Kind::Late if is_held(difference) => {
            let action = if ours.is_some() { "wait_for_poller" } else { "start_again" };
            of_call(action, amount(theirs))
        }
        Kind::TaskNotCharged => charge(amount(ours)),
        Kind::TaskWithoutHold if succeeded => charge(amount(ours)),
        Kind::TaskWithoutHold if runs => of_call("bear_cost", amount(ours)),
        Kind::FailedTaskCharged | Kind::HoldWithoutTask => of_call("refund_charge", amount(theirs)),
        Kind::AmountDiffers if more(difference).is_positive() => of_call("refund_charge", more(difference)),
        Kind::AmountDiffers => charge(Nano(more(difference).0.saturating_neg())),
        Kind::Late => of_call("wait_for_poller", amount(theirs)),
        _ => json!({"action": "look_at_books", "reference": &*row.key}),
    }
}

/// Ours is what the order says, theirs what the ledger has posted.
fn of_books(difference: &Difference, row: &Row) -> Value {
    if row.class == Class::Cost && difference.kind != Kind::ChargedWithoutAnswer {
        return of_tasks(difference, row);
    }
    let (ours, theirs) = (difference.ours.as_ref(), difference.theirs.as_ref());
    let of_account = |account: &str, amount: Nano| json!({"action": "adjust_account", "account": account, "amount": amount.to_string(), "reference": &*row.key});
    match (difference.kind, ours, theirs) {
        (Kind::ChargedWithoutAnswer, ..) => {
            json!({"action": "refund_charge", "request": &*row.name, "amount": row.charged.to_string()})
        }
        (Kind::AccountDiffers, Some(ours), Some(theirs)) => {
            let amount = amount(Some(theirs)).to_string();
            json!({"action": "move_between_accounts", "from": &*theirs.account, "to": &*ours.account, "amount": amount, "reference": &*row.key})
        }
        (
            Kind::RowMissing
            | Kind::AmountDiffers
            | Kind::SignDiffers
            | Kind::RowDoubled
            | Kind::RefundWithoutCharge,
            ..,
        ) => of_account(&row.account, Nano(more(difference).0.saturating_neg())),
        (Kind::Late, ..) => json!({"action": "look_at_clocks", "reference": &*row.key}),
        _ => json!({"action": "look_at_books", "reference": &*row.key}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every difference that can be has a cause and something to do, and both are in the published table.
    #[test]
    fn b7_every_difference_has_a_cause_and_a_proposal() {
        let table = include_str!("../../docs/reconcile.md");
        let row =
            |class| Some(Row { account: "acc_1".into(), ..Row::new("k", class, Some(Nano(5)), "USD", 0) });
        for place in [Place::Books, Place::Payments, Place::Upstream] {
            for kind in Kind::ALL {
                assert!(table.contains(&format!("| `{}` |", kind.as_str())), "{}", kind.as_str());
                for class in Class::ALL {
                    for (ours, theirs) in
                        [(row(class), None), (None, row(class)), (row(class), row(class)), (None, None)]
                    {
                        let difference = Difference { kind, ours, theirs };
                        assert!(!cause(place, &difference).is_empty());
                        let proposal = proposal(place, &difference);
                        let action = proposal["action"].as_str().unwrap();
                        assert!(table.contains(&format!("| `{action}` |")), "{action} is not in the table");
                    }
                }
            }
        }
    }
}
