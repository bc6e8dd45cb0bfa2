//! `/api/corrections`: refunds of charges, compensation and adjustments, with the second person that large ones need.

use ledger::{Book, LotKind, Nano};
use serde_json::{Value, json};

use crate::directory::{Account, Environment, FieldError};
use crate::explain::time_text;
use crate::funding::{
    Correction, CorrectionKind, CorrectionSearch, CorrectionState, CorrectionTerms, NewCorrection,
};
use crate::id::{AccountId, CorrectionId, OrderId, RequestId, TaskId};

use super::access::Access;
use super::problem::Problem;
use super::route::{Call, PAGE, Param, Reply, Route};
use super::shape::{COUNT, Field, Kind, Need, Shape, field};

/// What is asked for here; credits and refunds of orders have routes of their own.
const ASKED_KIND: Kind = Kind::OneOf(&["refund", "compensation", "adjustment"]);
const KIND: Kind =
    Kind::OneOf(&["refund", "compensation", "adjustment", "credit", "order_refund", "order_completion"]);
const STATE: Kind = Kind::OneOf(&["pending", "approved", "posted", "rejected", "failed"]);
const ENVIRONMENT: Kind = Kind::OneOf(&["live", "test"]);
const LOT_KIND: Kind = Kind::OneOf(&["granted", "purchased"]);
const PRIORITY: Kind = Kind::Integer { min: 0, max: 255 };
const PRIORITY_DEFAULT: u8 = 100;

static CORRECTION: Shape = Shape {
    name: "Correction",
    fields: &[
        field!("id", Kind::Text, Required, "Public id, cor_…"),
        field!("kind", KIND, Required, "退款, 补偿, 调整, 入账, 订单退款 or 订单补单"),
        field!(
            "state",
            STATE,
            Required,
            "pending: it waits for a second person; posted: it is in the ledger"
        ),
        field!("account", Kind::Text, Required, "Id of the account"),
        field!("environment", ENVIRONMENT, Required, "Live books or test books"),
        field!("amount", Kind::Money, Required, "Negative for an adjustment that takes"),
        field!("currency", Kind::Text, Required, "Ledger currency"),
        field!("request", Kind::Text, Nullable, "The call whose charge is refunded, or that it is for"),
        field!("order", Kind::Text, Nullable, "The order that is refunded"),
        field!(
            "pay_amount",
            Kind::Money,
            Nullable,
            "Of such a refund: what goes back, in the currency that was paid"
        ),
        field!("lot_kind", LOT_KIND, Required, "Of the lot that a compensation or an adjustment opens"),
        field!("priority", PRIORITY, Required, "Of that lot: lower is spent first, among lots of a kind"),
        field!("expires_at", Kind::Time, Nullable, "Of that lot: from then on what is left cannot be spent"),
        field!("lot", Kind::Text, Nullable, "Id of that lot; a refund goes back to the lots that paid"),
        field!("arrears", Kind::Bool, Required, "What the account lacks is owed"),
        field!("reference", Kind::Text, Required, "Stands for this correction for ever"),
        field!(
            "ledger_reference",
            Kind::Text,
            Required,
            "Name under which the ledger posts it once for ever"
        ),
        field!("reason", Kind::Text, Required, "Why"),
        field!("needs_approval", Kind::Bool, Required, "Too much for one person alone"),
        field!("proposed_by", Kind::Text, Required, "Who asked for it"),
        field!("proposed_at", Kind::Time, Required, "When"),
        field!("decided_by", Kind::Text, Nullable, "Who agreed, or did not"),
        field!("decided_at", Kind::Time, Nullable, "When"),
        field!("decision_reason", Kind::Text, Nullable, "Why"),
        field!("posted_at", Kind::Time, Nullable, "When the ledger posted it"),
        field!("problem", Kind::Text, Nullable, "Why the ledger refused it"),
        field!("replayed", Kind::Bool, Required, "True: its reference was there before, and nothing is new"),
        field!("version", COUNT, Required, "Counts its changes"),
    ],
};

static INPUT: Shape = Shape {
    name: "CorrectionInput",
    fields: &[
        field!("kind", ASKED_KIND, Required, "refund of a charge, compensation, or adjustment"),
        field!("request", Kind::Text, Optional, "The call; a refund needs it, or its task"),
        field!("task", Kind::Text, Optional, "Instead of the call: the task that it submitted"),
        field!("account", Kind::Text, Optional, "Not needed for a refund"),
        field!("environment", ENVIRONMENT, Optional, "Default: live; of a refund, that of the call"),
        field!(
            "amount",
            Kind::Money,
            Optional,
            "Above zero; negative for an adjustment that takes; default, of a refund: all that is left of the charge"
        ),
        field!(
            "lot_kind",
            LOT_KIND,
            Optional,
            "Default: granted for compensation, purchased for adjustments"
        ),
        field!("priority", PRIORITY, Optional, "Lower is spent first, among lots of a kind; default: 100"),
        field!("expires_at", Kind::Time, OptionalNullable, "From then on what is left cannot be spent"),
        field!("arrears", Kind::Bool, Optional, "What the account lacks is owed, instead of a refusal"),
        field!(
            "reference",
            Kind::Text,
            Optional,
            "Own name of it; asked for again, it is the same correction"
        ),
        field!("reason", Kind::Text, Required, "Why; stays with it"),
    ],
};

static DECISION: Shape = Shape {
    name: "CorrectionDecision",
    fields: &[
        field!("state", Kind::OneOf(&["approved", "rejected"]), Required, "Approved: by another person"),
        field!("reason", Kind::Text, Required, "Why; stays with it"),
    ],
};

pub static ROUTES: &[Route] = &[
    Route::list("/api/corrections", "listCorrections", "Corrections, the newest first", &CORRECTION, list)
        .access(Access::MONEY_READ)
        .query(&[
            Param { name: "account", about: "Only corrections of this account" },
            Param { name: "kind", about: "Only corrections of this kind" },
            Param { name: "state", about: "Only corrections in this state" },
            Param { name: "request", about: "Only corrections about this call" },
            Param { name: "order", about: "Only corrections about this order" },
            Param { name: "task", about: "Only corrections about the call that submitted this task" },
            PAGE[0],
            PAGE[1],
        ]),
    Route::post(
        "/api/corrections",
        "createCorrection",
        "Refunds a charge, compensates or adjusts; above a threshold it waits for a second person",
        &INPUT,
        &CORRECTION,
        create,
    )
    .access(Access::MONEY_MOVES),
    Route::get("/api/corrections/{id}", "getCorrection", "One correction", &CORRECTION, get)
        .access(Access::MONEY_READ),
    Route::post(
        "/api/corrections/{id}/decision",
        "decideCorrection",
        "Agrees to a correction as another person than who asked for it, or ends it",
        &DECISION,
        &CORRECTION,
        decide,
    )
    .access(Access::MONEY_MOVES),
];

fn environment_of(book: Book) -> Environment {
    if book == Book::Test { Environment::Test } else { Environment::Live }
}

fn view(call: &Call<'_>, correction: &Correction, replayed: bool) -> Value {
    let (terms, decision) = (&correction.terms, correction.decision.as_ref());
    let goes_back = matches!(terms.kind, CorrectionKind::Refund | CorrectionKind::OrderRefund);
    // Of an order's credit, the order knows the lot.
    let opens = !goes_back && terms.kind != CorrectionKind::OrderCompletion && terms.amount.is_positive();
    json!({
        "id": correction.id,
        "kind": terms.kind.as_str(),
        "state": correction.state.as_str(),
        "account": terms.account,
        "environment": environment_of(terms.book),
        "amount": terms.amount.to_string(),
        "currency": call.app.currency(),
        "request": terms.request,
        "order": terms.order.map(|(order, _)| order),
        "pay_amount": terms.order.map(|(_, pay)| pay.to_string()),
        "lot_kind": terms.lot_kind.as_str(),
        "priority": terms.priority,
        "expires_at": terms.expires_ms.map(time_text),
        "lot": opens.then_some(correction.lot),
        "arrears": terms.arrears,
        "reference": correction.reference,
        "ledger_reference": correction.posting().0,
        "reason": correction.reason,
        "needs_approval": correction.needs_approval,
        "proposed_by": correction.proposed_by,
        "proposed_at": time_text(correction.proposed_ms),
        "decided_by": decision.map(|decision| &decision.by),
        "decided_at": decision.map(|decision| time_text(decision.at_ms)),
        "decision_reason": decision.map(|decision| &decision.reason),
        "posted_at": correction.posted_ms.map(time_text),
        "problem": correction.problem,
        "replayed": replayed,
        "version": correction.version,
    })
}

fn list(call: &Call<'_>) -> Result<Reply, Problem> {
    let kind = call.query_text("kind").map(|kind| {
        CorrectionKind::parse(kind).ok_or_else(|| FieldError::new("kind", "is not a kind of correction"))
    });
    let state = call.query_text("state").map(|state| {
        CorrectionState::parse(state)
            .ok_or_else(|| FieldError::new("state", "is not a state of a correction"))
    });
    let limit = call.limit()?;
    let search = CorrectionSearch {
        account: call.asked_account()?,
        kind: kind.transpose()?,
        state: state.transpose()?,
        request: match call.query_parsed::<TaskId>("task")? {
            Some(task) => Some(call.app.tasks.get(task)?.request),
            None => call.query_parsed::<RequestId>("request")?,
        },
        order: call.query_parsed::<OrderId>("order")?,
        before: call.query_parsed::<CorrectionId>("cursor")?,
        limit,
    };
    let found = call.app.corrections.search(&search)?;
    let next = found.last().filter(|_| found.len() == limit as usize).map(|last| last.id.to_string());
    Ok(Reply::page(found.iter().map(|correction| view(call, correction, false)).collect(), next))
}

/// A correction of another account is not there for a member.
fn find(call: &Call<'_>) -> Result<Correction, Problem> {
    let correction = call.app.corrections.get(call.path_id("id")?)?;
    match call.own_account() {
        Some(own) if own != correction.terms.account => Err(Problem::NotFound),
        _ => Ok(correction),
    }
}

fn get(call: &Call<'_>) -> Result<Reply, Problem> {
    Ok(Reply::ok(view(call, &find(call)?, false)))
}

fn create(call: &Call<'_>) -> Result<Reply, Problem> {
    let (fields, terms) = (call.fields(), terms(call)?);
    call.find::<Account>(terms.account.raw())?;
    let reason = fields.text("reason").unwrap_or_default().to_owned();
    // Who asked and why is on record before money moves.
    let note = json!({
        "account": terms.account, "action": "propose", "kind": terms.kind.as_str(),
        "amount": terms.amount.to_string(), "request": terms.request, "reason": reason,
    });
    call.app.directory.note(&call.actor(), "correction_note", terms.account.raw(), &note)?;
    let reference = fields.text("reference").map(str::to_owned);
    let new = NewCorrection { terms, reference, reason, actor: call.actor() };
    let (correction, known) = call.app.corrections.propose(&new)?;
    let body = view(call, &correction, known);
    Ok(if known { Reply::ok(body) } else { Reply::created(body) })
}

fn terms(call: &Call<'_>) -> Result<CorrectionTerms, Problem> {
    let fields = call.fields();
    let kind = fields.text("kind").and_then(CorrectionKind::parse);
    let kind = kind.ok_or_else(|| FieldError::new("kind", "is missing"))?;
    let request = match (fields.parsed::<RequestId>("request")?, fields.parsed::<TaskId>("task")?) {
        (Some(_), Some(_)) => return Err(FieldError::new("task", "is named besides a request").into()),
        (None, Some(task)) => Some(call.app.tasks.get(task)?.request),
        (request, None) => request,
    };
    let refunded = match (kind, request) {
        (CorrectionKind::Refund, Some(request)) => Some(call.app.corrections.refundable(request)?),
        (CorrectionKind::Refund, None) => return Err(FieldError::new("request", "is missing").into()),
        _ => None,
    };
    let named = fields.parsed::<AccountId>("account")?;
    let account = named.or(refunded.map(|(book, _)| AccountId::from(book)));
    let environment = fields.one_of::<Environment>("environment")?;
    let book = match (refunded, environment) {
        (Some((book, _)), asked) => {
            if asked.is_some_and(|asked| asked != environment_of(book.book())) {
                return Err(FieldError::new("environment", "is not that of the call").into());
            }
            book.book()
        }
        (None, Some(Environment::Test)) => Book::Test,
        (None, _) => Book::Live,
    };
    let amount: Option<Nano> = fields.money("amount")?.or(refunded.map(|(_, left)| left));
    let granted = match fields.text("lot_kind") {
        Some(name) => name == "granted",
        None => kind == CorrectionKind::Compensation,
    };
    let end = fields.nullable_parsed::<jiff::Timestamp>("expires_at")?.flatten();
    Ok(CorrectionTerms {
        kind,
        account: account.ok_or_else(|| FieldError::new("account", "is missing"))?,
        book,
        amount: amount.ok_or_else(|| FieldError::new("amount", "is missing"))?,
        request,
        order: None,
        lot_kind: if granted { LotKind::Granted } else { LotKind::Purchased },
        priority: fields.number("priority")?.unwrap_or(PRIORITY_DEFAULT),
        expires_ms: end.map(jiff::Timestamp::as_millisecond),
        arrears: fields.boolean("arrears").unwrap_or(false),
    })
}

fn decide(call: &Call<'_>) -> Result<Reply, Problem> {
    let (correction, fields) = (find(call)?, call.fields());
    let (actor, reason) = (call.actor(), fields.text("reason").unwrap_or_default());
    let state = fields.text("state").unwrap_or_default();
    let note = json!({
        "account": correction.terms.account, "correction": correction.id, "action": state, "reason": reason,
    });
    call.app.directory.note(&actor, "correction_note", correction.terms.account.raw(), &note)?;
    let corrections = &call.app.corrections;
    let decided = match state == CorrectionState::Approved.as_str() {
        true => corrections.approve(correction.id, &actor, reason)?,
        false => corrections.reject(correction.id, &actor, reason)?,
    };
    Ok(Reply::ok(view(call, &decided, false)))
}
