//! A difference as a case: what both sides say, what is likely to be the cause, and what would put it right.

use ledger::Nano;
use serde_json::{Value, json};

use super::compare::{Difference, Kind};
use super::row::{Class, Row};
use crate::explain::time_text;
use crate::id::ReconcileCaseId;

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
    /// An entry that would put it right. It is never posted by itself.
    pub proposal: Option<Value>,
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
        (_, Kind::SignDiffers) => "One side counts as coming in what the other counts as going out",
        (_, Kind::Late) => "Both sides have it, at times far apart: a clock, a time zone, or a late booking",
        (_, Kind::ChainCut) => "The journal or the audit log was changed beneath the program",
        (_, Kind::RowDoubled) => "It stands there twice",
        (_, Kind::AmountDiffers) => "The two sides say different amounts",
        (_, Kind::CurrencyDiffers) => "The two sides say different currencies",
        (_, Kind::AccountDiffers) => "The two sides name different accounts",
        (_, Kind::BooksBroken) => "An invariant of the books does not hold",
        (Place::Books | Place::Payments, Kind::NeverAdmitted)
        | (Place::Payments, Kind::ChargedWithoutAnswer)
        | (Place::Upstream, Kind::RefundWithoutCharge) => "One side does not have it",
    }
}

/// What would put it right, for somebody to decide.
pub fn proposal(place: Place, difference: &Difference) -> Option<Value> {
    let (ours, theirs) = (difference.ours.as_ref(), difference.theirs.as_ref());
    let amount = |row: Option<&Row>| row.and_then(|row| row.amount).unwrap_or_default();
    let more = Nano(amount(theirs).0.saturating_sub(amount(ours).0));
    let row = difference.row()?;
    let order = ours.map_or(&*row.key, |row| &*row.name);
    let plus = |amount: Nano| Nano(amount.0.saturating_abs()).to_string();
    Some(match (place, difference.kind, row.class) {
        (Place::Payments, Kind::RowMissing, Class::Payment) if theirs.is_some() => {
            json!({"action": "complete_order", "order": order, "amount": plus(amount(theirs)), "currency": &*row.currency})
        }
        (Place::Payments, Kind::RowMissing | Kind::RefundWithoutCharge, Class::Refund)
            if theirs.is_some() =>
        {
            json!({"action": "order_refund", "order": order, "amount": plus(amount(theirs)), "currency": &*row.currency})
        }
        (Place::Payments, Kind::RowMissing | Kind::RefundWithoutCharge, Class::Dispute)
            if theirs.is_some() =>
        {
            json!({"action": "chargeback", "order": order, "amount": plus(amount(theirs)), "currency": &*row.currency})
        }
        (Place::Payments, Kind::RowDoubled, Class::Payment) if theirs.is_some() => {
            json!({"action": "refund_at_provider", "order": order, "amount": plus(amount(theirs)), "currency": &*row.currency})
        }
        (Place::Payments, Kind::AmountDiffers | Kind::SignDiffers, _) => {
            json!({"action": "adjustment", "order": order, "amount": more.to_string(), "currency": &*row.currency})
        }
        (Place::Upstream, Kind::NeverAdmitted, _) => {
            json!({"action": "accrue_upstream_cost", "amount": plus(amount(theirs)), "currency": &*row.currency})
        }
        (Place::Upstream, Kind::AmountDiffers | Kind::SignDiffers, _) => {
            json!({"action": "accrue_upstream_cost", "request": &*row.alias, "amount": more.to_string(), "currency": &*row.currency})
        }
        (_, Kind::ChargedWithoutAnswer, _) => {
            let request = if row.alias.is_empty() { &row.name } else { &row.alias };
            json!({"action": "refund_charge", "request": &**request, "amount": row.charged.to_string()})
        }
        (Place::Books, Kind::RowMissing, Class::Payment) if ours.is_some() => {
            json!({"action": "credit", "order": order, "amount": plus(amount(ours)), "reference": &*row.key})
        }
        (
            Place::Books,
            Kind::AmountDiffers | Kind::SignDiffers,
            Class::Payment | Class::Refund | Class::Dispute,
        ) => {
            let owed = Nano(more.0.saturating_neg());
            json!({"action": "adjustment", "account": &*row.account, "amount": owed.to_string()})
        }
        _ => return None,
    })
}
