//! `/api/accounts/{id}/balance` and `/api/accounts/{id}/credits`: what an account has, and giving it more.
//!
//! Balances change by ledger entries alone; there is no "set balance" (S4). A reference posts once for ever.

use ledger::{Balance, Command, CreditSource, Effect, Lot, LotKind, Nano, Reference, Timestamp};
use serde_json::{Value, json};

use crate::books::BooksError;
use crate::directory::{Account, Environment, FieldError};
use crate::explain::time_text;
use crate::funding::{
    Correction, CorrectionError, CorrectionKind, CorrectionState, CorrectionTerms, NewCorrection,
};
use crate::id::{AccountId, LotId};
use crate::store_params;

use super::access::Access;
use super::problem::Problem;
use super::route::{Call, Param, Reply, Route};
use super::shape::{Field, Fields, Kind, Need, Shape, field};

pub const ENVIRONMENT: Kind = Kind::OneOf(&["live", "test"]);
const LOT_KIND: Kind = Kind::OneOf(&["granted", "purchased"]);
const PRIORITY: Kind = Kind::Integer { min: 0, max: 255 };
const REFERENCE_BYTES_MAX: usize = 200;
/// How the ledger is told of orders, codes and corrections. Under such a name their own money could not come any more (I8).
const RESERVED: [&str; 3] = ["order:", "code:", "correction:"];
const REASON_BYTES_MAX: usize = 500;

static LOT: Shape = Shape {
    name: "Lot",
    fields: &[
        field!("id", Kind::Text, Required, "Public id, lot_…"),
        field!("kind", LOT_KIND, Required, "Granted credit is spent before purchased"),
        field!("priority", PRIORITY, Required, "Lower is spent first, among lots of a kind"),
        field!("expires_at", Kind::Time, Nullable, "From then on what is left cannot be spent"),
        field!("available", Kind::Money, Required, "Not held"),
        field!("held", Kind::Money, Required, "Part of open holds"),
        field!("expired", Kind::Bool, Required, "Its end has come"),
    ],
};

pub static FAMILIES: Shape = Shape {
    name: "MovementFamilies",
    fields: &[
        field!("credits", Kind::Money, Required, "入账"),
        field!("charge_refunds", Kind::Money, Required, "退款"),
        field!("compensation", Kind::Money, Required, "补偿"),
        field!("adjustments", Kind::Money, Required, "调整; may be negative"),
        field!("charges", Kind::Money, Required, "扣费"),
        field!("expiries", Kind::Money, Required, "过期"),
        field!("order_refunds", Kind::Money, Required, "订单退款"),
        field!("chargebacks", Kind::Money, Required, "拒付"),
    ],
};

static BALANCE: Shape = Shape {
    name: "Balance",
    fields: &[
        field!("account", Kind::Text, Required, "Id of the account"),
        field!("environment", ENVIRONMENT, Required, "Live books or test books"),
        field!("currency", Kind::Text, Required, "Ledger currency"),
        field!("available", Kind::Money, Required, "Spendable now; negative while overdrawn"),
        field!("granted", Kind::Money, Required, "Part of it that was granted"),
        field!("purchased", Kind::Money, Required, "Part of it that was purchased"),
        field!("held", Kind::Money, Required, "Part of open holds"),
        field!("owed", Kind::Money, Required, "Overdraft in use, or arrears"),
        field!(
            "arrears",
            Kind::Money,
            Required,
            "欠费: the part of it beyond the declared overdraft, as after a chargeback; money that comes in pays it first"
        ),
        field!(
            "display",
            Kind::Any,
            Nullable,
            "Available, held and owed in the currency that is shown besides"
        ),
        field!("expired", Kind::Money, Required, "Expired and not yet written off"),
        field!("lots", Kind::List(&Kind::Object(&LOT)), Required, "In the order in which they are spent"),
        field!("movements", Kind::Object(&FAMILIES), Required, "Sums of all that ever moved, by family"),
    ],
};

static CREDIT: Shape = Shape {
    name: "Credit",
    fields: &[
        field!("account", Kind::Text, Required, "Id of the account"),
        field!("environment", ENVIRONMENT, Required, "Live books or test books"),
        field!(
            "state",
            Kind::OneOf(&["posted", "pending"]),
            Required,
            "pending: it is above a threshold and waits for a second person"
        ),
        field!("correction", Kind::Text, Nullable, "While it waits: where the second person agrees, cor_…"),
        field!("lot", Kind::Text, Required, "Id of the lot that it opens"),
        field!("kind", LOT_KIND, Required, "Granted or purchased"),
        field!("amount", Kind::Money, Required, "What was credited"),
        field!("repaid", Kind::Money, Required, "Part of it that paid what the account owed"),
        field!("priority", PRIORITY, Required, "Lower is spent first, among lots of a kind"),
        field!("expires_at", Kind::Time, Nullable, "From then on what is left cannot be spent"),
        field!("reference", Kind::Text, Required, "Posts once for ever"),
        field!("credited_at", Kind::Time, Nullable, "Ledger time; null: it waits"),
        field!("replayed", Kind::Bool, Required, "True: it was posted before, and nothing is posted now"),
    ],
};

static CREDIT_INPUT: Shape = Shape {
    name: "CreditInput",
    fields: &[
        field!("amount", Kind::Money, Required, "Above zero"),
        field!("kind", LOT_KIND, Required, "Granted credit is spent before purchased"),
        field!("environment", ENVIRONMENT, Optional, "Live books or test books; default: live"),
        field!("priority", PRIORITY, Optional, "Lower is spent first, among lots of a kind; default: 100"),
        field!("expires_at", Kind::Time, OptionalNullable, "From then on what is left cannot be spent"),
        field!(
            "reference",
            Kind::Text,
            Required,
            "Name from outside, such as transfer-2026-17; posts once for ever. Not order:, code: or correction:, which are names of the program's own"
        ),
        field!("reason", Kind::Text, Required, "Why, for the operation log"),
    ],
};

pub static ROUTES: &[Route] = &[
    Route::get("/api/accounts/{id}/balance", "getBalance", "What an account has", &BALANCE, balance)
        .access(Access::MONEY_READ)
        .query(&[Param { name: "environment", about: "live (default) or test" }]),
    Route::post(
        "/api/accounts/{id}/credits",
        "createCredit",
        "Credits an account; above a threshold it waits for a second person. The same reference with the same content answers as it did the first time",
        &CREDIT_INPUT,
        &CREDIT,
        create,
    )
    .access(Access::MONEY_MOVES),
];

/// The ledger account of a customer in one environment's books.
pub fn book(account: AccountId, environment: Environment) -> ledger::AccountId {
    ledger::AccountId(match environment {
        Environment::Live => account.live_book(),
        Environment::Test => account.test_book(),
    })
}

fn balance(call: &Call<'_>) -> Result<Reply, Problem> {
    let account = call.find::<Account>(call.path_id::<AccountId>("id")?.raw())?.document;
    let environment = match call.query_text("environment") {
        None | Some("live") => Environment::Live,
        Some("test") => Environment::Test,
        Some(_) => return Err(FieldError::new("environment", "must be one of live, test").into()),
    };
    let balance = call.app.books.balance(book(account.id, environment));
    let mut body = view(account.id, environment, call.app.currency(), &balance, call.app.books.now());
    let arrears = balance.owed.saturating_sub(account.overdraft).max(Nano::ZERO);
    body["arrears"] = arrears.to_string().into();
    let amounts = [("available", balance.available), ("held", balance.held), ("owed", balance.owed)];
    body["display"] = call.app.display.as_ref().map_or(Value::Null, |display| display.view(&amounts));
    Ok(Reply::ok(body))
}

fn view(
    account: AccountId,
    environment: Environment,
    currency: &str,
    balance: &Balance,
    now: Timestamp,
) -> Value {
    let families = &balance.families;
    json!({
        "account": account,
        "environment": environment,
        "currency": currency,
        "available": balance.available.to_string(),
        "granted": balance.granted.to_string(),
        "purchased": balance.purchased.to_string(),
        "held": balance.held.to_string(),
        "owed": balance.owed.to_string(),
        "expired": balance.expired.to_string(),
        "lots": balance.lots.iter().map(|lot| lot_view(lot, now)).collect::<Vec<_>>(),
        "movements": {
            "credits": families.credits.to_string(),
            "charge_refunds": families.charge_refunds.to_string(),
            "compensation": families.compensation.to_string(),
            "adjustments": families.adjustments.to_string(),
            "charges": families.charges.to_string(),
            "expiries": families.expiries.to_string(),
            "order_refunds": families.order_refunds.to_string(),
            "chargebacks": families.chargebacks.to_string(),
        },
    })
}

fn lot_view(lot: &Lot, now: Timestamp) -> Value {
    json!({
        "id": LotId::from_raw(lot.id.0),
        "kind": lot.kind.as_str(),
        "priority": lot.priority,
        "expires_at": lot.expires_at.map(|at| time_text(at.0)),
        "available": lot.available.to_string(),
        "held": lot.held.to_string(),
        "expired": lot.is_expired(now),
    })
}

fn create(call: &Call<'_>) -> Result<Reply, Problem> {
    let account = call.find::<Account>(call.path_id::<AccountId>("id")?.raw())?.document.id;
    let order = Order::read(&call.fields())?;
    // Who asked and why is on record before money moves; the ledger keeps neither.
    let note = json!({"account": account, "reference": &*order.reference.0, "reason": order.reason});
    call.app.directory.note(&call.actor(), "credit_note", account.raw(), &note)?;
    let ledger_account = book(account, order.environment);
    if call.app.books.has_posted(&order.reference) {
        return again(call, account, &order);
    }
    let terms = CorrectionTerms {
        kind: CorrectionKind::Credit,
        account,
        book: ledger_account.book(),
        amount: order.amount,
        request: None,
        order: None,
        lot_kind: order.kind,
        priority: order.priority,
        expires_ms: order.expires_at.map(|end| end.0),
        arrears: false,
    };
    let reference = Some(order.reference.0.to_string());
    let new = NewCorrection { terms, reference, reason: order.reason, actor: call.actor() };
    let (correction, known) = call.app.corrections.propose(&new)?;
    match correction.state {
        CorrectionState::Posted => {
            let effect = first_posting(call, ledger_account, &order.reference)?;
            let body = credit_view(account, order.environment, &effect, known);
            Ok(if known { Reply::ok(body) } else { Reply::created(body) })
        }
        CorrectionState::Pending => {
            Ok(Reply::accepted(waiting_view(account, order.environment, &correction, known)))
        }
        state => Err(CorrectionError::Decided { correction: correction.id, state }.into()),
    }
}

/// The ledger says whether it is the same.
fn again(call: &Call<'_>, account: AccountId, order: &Order) -> Result<Reply, Problem> {
    let command = Command::Credit {
        account: book(account, order.environment),
        lot: ledger::LotId(LotId::new(&*call.app.clock, &*call.app.entropy).raw()),
        kind: order.kind,
        priority: order.priority,
        expires_at: order.expires_at,
        amount: order.amount,
        source: order.source(),
        reference: order.reference.clone(),
    };
    match call.app.books.execute_blocking(&command) {
        Err(BooksError::Refused(ledger::LedgerError::AlreadyPosted { reference })) => {
            let effect = first_posting(call, book(account, order.environment), &reference)?;
            Ok(Reply::ok(credit_view(account, order.environment, &effect, true)))
        }
        Err(error) => Err(error.into()),
        Ok(_) => Err(Problem::Internal("a reference was posted twice".into())),
    }
}

fn waiting_view(
    account: AccountId,
    environment: Environment,
    correction: &Correction,
    replayed: bool,
) -> Value {
    let terms = &correction.terms;
    json!({
        "account": account,
        "environment": environment,
        "state": "pending",
        "correction": correction.id,
        "lot": correction.lot,
        "kind": terms.lot_kind.as_str(),
        "amount": terms.amount.to_string(),
        "repaid": "0",
        "priority": terms.priority,
        "expires_at": terms.expires_ms.map(time_text),
        "reference": correction.reference,
        "credited_at": Value::Null,
        "replayed": replayed,
    })
}

/// What a reference posted when it posted.
fn first_posting(
    call: &Call<'_>,
    account: ledger::AccountId,
    reference: &Reference,
) -> Result<Effect, Problem> {
    call.app.books.flush_blocking().map_err(BooksError::from)?;
    let sql = "SELECT body FROM movements WHERE account = ?1 AND reference = ?2";
    let row = call.app.projections.db().query_one(sql, store_params![account.0, &*reference.0])?;
    let row = row.ok_or_else(|| Problem::Internal("a posted reference has no movement".into()))?;
    let effects = crate::books::encoding::decode_effects(row.blob(0)?)
        .map_err(|why| Problem::Internal(Box::new(why)))?;
    effects.into_iter().next().ok_or_else(|| Problem::Internal("a movement without an effect".into()))
}

fn credit_view(account: AccountId, environment: Environment, effect: &Effect, replayed: bool) -> Value {
    let Effect::Credited(credited) = effect else { return Value::Null };
    json!({
        "account": account,
        "environment": environment,
        "state": "posted",
        "correction": Value::Null,
        "lot": LotId::from_raw(credited.lot.0),
        "kind": credited.kind.as_str(),
        "amount": credited.amount.to_string(),
        "repaid": credited.repaid.to_string(),
        "priority": credited.priority,
        "expires_at": credited.expires_at.map(|at| time_text(at.0)),
        "reference": &*credited.reference.0,
        "credited_at": time_text(credited.at.0),
        "replayed": replayed,
    })
}

/// A credit as it was asked for.
struct Order {
    amount: Nano,
    kind: LotKind,
    environment: Environment,
    priority: u8,
    expires_at: Option<Timestamp>,
    reference: Reference,
    reason: String,
}

impl Order {
    fn read(fields: &Fields<'_>) -> Result<Self, FieldError> {
        let amount = fields.money("amount")?.unwrap_or_default();
        if !amount.is_positive() {
            return Err(FieldError::new("amount", "must be above zero"));
        }
        let reference = fields.text("reference").unwrap_or_default();
        if reference.trim().is_empty() || reference.len() > REFERENCE_BYTES_MAX {
            return Err(FieldError::new("reference", "must have from 1 to 200 bytes"));
        }
        if RESERVED.iter().any(|own| reference.starts_with(own)) {
            return Err(FieldError::new(
                "reference",
                "must not begin with order:, code: or correction:, which name orders, codes and corrections",
            ));
        }
        let reason = fields.text("reason").unwrap_or_default();
        if reason.trim().is_empty() || reason.len() > REASON_BYTES_MAX {
            return Err(FieldError::new("reason", "must have from 1 to 500 bytes"));
        }
        let end = fields.parsed::<jiff::Timestamp>("expires_at")?;
        Ok(Order {
            amount,
            kind: if fields.text("kind") == Some("granted") { LotKind::Granted } else { LotKind::Purchased },
            environment: fields.one_of("environment")?.unwrap_or(Environment::Live),
            priority: fields.number("priority")?.unwrap_or(100),
            expires_at: end.map(|end| Timestamp(end.as_millisecond())),
            reference: Reference::new(reference),
            reason: reason.to_owned(),
        })
    }

    fn source(&self) -> CreditSource {
        match self.kind {
            LotKind::Granted | LotKind::Overdraft => CreditSource::Promotion,
            LotKind::Purchased => CreditSource::Payment,
        }
    }
}
