//! `/api/orders`: money that is to come in, what became of it, and sending it back.

use ledger::{Book, LotKind, Nano};
use serde_json::{Value, json};

use crate::directory::{Account, FieldError};
use crate::explain::time_text;
use crate::funding::{
    CorrectionKind, CorrectionState, CorrectionTerms, Dispute, NewCorrection, NewOrder, Order, OrderEvent,
    OrderState, Refund, RefundAsk, Search, money,
};
use crate::id::OrderId;

use super::access::Access;
use super::problem::Problem;
use super::route::{Call, PAGE, Param, Reply, Route};
use super::shape::{COUNT, Field, Kind, Need, Shape, field};

const STATE: Kind = Kind::OneOf(&[
    "created",
    "pending",
    "paid",
    "credited",
    "expired",
    "failed",
    "cancelled",
    "amount_mismatch",
    "manual_review",
    "refund_pending",
    "partially_refunded",
    "refunded",
    "disputed",
]);

macro_rules! order_fields {
    ($($more:expr),* $(,)?) => {
        &[
            field!("id", Kind::Text, Required, "Our order number, ord_…"),
            field!("account", Kind::Text, Required, "Id of the account that it credits"),
            field!("state", STATE, Required, "created, pending, paid, credited; or what came in between or after"),
            field!("provider", Kind::Text, Required, "How it is paid"),
            field!("method", Kind::Text, Nullable, "Payment method at the provider"),
            field!("amount", Kind::Money, Required, "What it credits, in the ledger currency"),
            field!("currency", Kind::Text, Required, "Ledger currency"),
            field!("pay_amount", Kind::Money, Required, "What is to be paid"),
            field!("pay_currency", Kind::Text, Required, "Currency of what is to be paid"),
            field!("rate", Kind::Multiplier, Required, "Frozen: pay_currency for one unit of the ledger currency"),
            field!("paid_amount", Kind::Money, Nullable, "What came, as the provider says"),
            field!("paid_currency", Kind::Text, Nullable, "Currency of what came"),
            field!("refunded_pay_amount", Kind::Money, Required, "What went back, in pay_currency"),
            field!("refunded_amount", Kind::Money, Required, "What went back, in the ledger currency"),
            field!("provider_reference", Kind::Text, Nullable, "The provider's number of the order"),
            field!("payment_reference", Kind::Text, Nullable, "The provider's number of the payment"),
            field!("pay_url", Kind::Text, Nullable, "Where the payer goes"),
            field!("qr", Kind::Text, Nullable, "What a QR code for the payer's telephone says"),
            field!("transfer_to", Kind::Text, Nullable, "Where a bank transfer goes"),
            field!("payer", Kind::Text, Nullable, "Who paid, as the provider names them (支付账号)"),
            field!("created_by", Kind::Text, Required, "Who made the order (登录账号)"),
            field!("reference", Kind::Text, Required, "Name under which the ledger credits it once for ever"),
            field!("created_at", Kind::Time, Required, "When it was made"),
            field!("expires_at", Kind::Time, Required, "A later payment is credited all the same"),
            field!("paid_at", Kind::Time, Nullable, "When we learnt that it was paid"),
            field!("notified_at", Kind::Time, Nullable, "When the provider first called back"),
            field!("credited_at", Kind::Time, Nullable, "When the money became spendable"),
            field!("version", COUNT, Required, "Counts its changes"),
            $($more),*
        ]
    };
}

static ORDER: Shape = Shape { name: "Order", fields: order_fields!() };

static ORDER_WITH_TIMELINE: Shape = Shape {
    name: "OrderWithTimeline",
    fields: order_fields!(
        field!("refunds", Kind::List(&Kind::Object(&REFUND)), Required, "In their order"),
        field!("disputes", Kind::List(&Kind::Object(&DISPUTE)), Required, "In their order"),
        field!("timeline", Kind::List(&Kind::Object(&EVENT)), Required, "Oldest first"),
    ),
};

static CORRECTED_ORDER: Shape = Shape {
    name: "CorrectedOrder",
    fields: order_fields!(field!(
        "correction",
        Kind::Text,
        Required,
        "Where the refund or the completion was asked for, cor_…; above a threshold it waits there for a second person"
    )),
};

static REFUND: Shape = Shape {
    name: "OrderRefund",
    fields: &[
        field!("n", COUNT, Required, "Counts from 1 in its order"),
        field!("state", Kind::OneOf(&["asked", "withdrawn", "done", "failed"]), Required, "How far it is"),
        field!("pay_amount", Kind::Money, Required, "What goes back to who paid"),
        field!("amount", Kind::Money, Required, "What it takes from the account"),
        field!("reason", Kind::Text, Required, "Why"),
        field!("actor", Kind::Text, Required, "Who asked for it"),
        field!("provider_reference", Kind::Text, Nullable, "The provider's number of it"),
        field!("asked_at", Kind::Time, Required, "When it was asked for"),
        field!("done_at", Kind::Time, Nullable, "When it ended"),
    ],
};

static DISPUTE: Shape = Shape {
    name: "OrderDispute",
    fields: &[
        field!("number", Kind::Text, Required, "The provider's number of it"),
        field!("stage", Kind::OneOf(&["inquiry", "open", "lost", "won"]), Required, "How far it is"),
        field!("pay_amount", Kind::Money, Required, "What the payer's bank wants back"),
        field!("amount", Kind::Money, Required, "What it took from the account"),
        field!("returned_amount", Kind::Money, Required, "What the account got back of it"),
        field!("opened_at", Kind::Time, Required, "When we learnt of it"),
    ],
};

static EVENT: Shape = Shape {
    name: "OrderEvent",
    fields: &[
        field!("id", Kind::Text, Required, "Public id, evt_…"),
        field!("order", Kind::Text, Nullable, "null: it names no order"),
        field!("provider", Kind::Text, Required, "Whose it is"),
        field!("at", Kind::Time, Required, "When it came"),
        field!("kind", Kind::Text, Required, "created, callback, query, credited, refund …"),
        field!("name", Kind::Text, Nullable, "What the provider calls it"),
        field!("verdict", Kind::Text, Nullable, "Of a callback: valid, or why it was refused"),
        field!("effect", Kind::Text, Required, "What it changed"),
        field!("detail", Kind::Text, Nullable, "More about it"),
        field!("actor", Kind::Text, Required, "Who did it"),
        field!(
            "headers",
            Kind::List(&Kind::Text),
            Nullable,
            "Of a callback, those that matter; for operators"
        ),
        field!("body", Kind::Text, Nullable, "As it came; for operators"),
        field!("body_hex", Kind::Text, Nullable, "The same where it is no text"),
    ],
};

static ORDER_INPUT: Shape = Shape {
    name: "OrderInput",
    fields: &[
        field!("account", Kind::Text, Optional, "Default, for members: their own"),
        field!("amount", Kind::Money, Required, "What it credits, in the ledger currency"),
        field!(
            "provider",
            Kind::Text,
            Required,
            "stripe, epay, alipay, wechat or transfer, as far as set up"
        ),
        field!(
            "pay_currency",
            Kind::Text,
            Optional,
            "Default: the provider's own, or the first that has a rate"
        ),
        field!("method", Kind::Text, Optional, "Payment method at the provider, such as card or alipay"),
    ],
};

static REASON: Shape = Shape {
    name: "OrderReason",
    fields: &[field!("reason", Kind::Text, Required, "Why, and how that is known; stays on the timeline")],
};

static NOTHING: Shape = Shape { name: "Nothing", fields: &[] };

static REFUND_INPUT: Shape = Shape {
    name: "OrderRefundInput",
    fields: &[
        field!("pay_amount", Kind::Money, Optional, "Of what was paid; default: all that is left"),
        field!("reason", Kind::Text, Required, "Why; stays on the timeline"),
        field!("arrears", Kind::Bool, Optional, "What the account lacks is owed, instead of a refusal"),
    ],
};

static RESOLUTION: Shape = Shape {
    name: "OrderRefundResolution",
    fields: &[
        field!("sent", Kind::Bool, Required, "Whether the provider has sent it"),
        field!("reason", Kind::Text, Required, "How that is known; stays on the timeline"),
    ],
};

pub static ROUTES: &[Route] = &[
    Route::list("/api/orders", "listOrders", "Orders, the newest first", &ORDER, list)
        .access(Access::MONEY_READ)
        .query(&[
            Param { name: "account", about: "Only orders of this account" },
            Param { name: "state", about: "Only orders in this state" },
            Param { name: "provider", about: "Only orders of this provider" },
            Param { name: "reference", about: "Our number of an order, or one of the provider's" },
            Param { name: "payer", about: "Who paid, as the provider names them" },
            Param { name: "since", about: "Made at or after this time" },
            Param { name: "until", about: "Made before this time" },
            PAGE[0],
            PAGE[1],
        ]),
    Route::post(
        "/api/orders",
        "createOrder",
        "Makes an order and its payment at the provider",
        &ORDER_INPUT,
        &ORDER,
        create,
    )
    .access(Access::ORDERS),
    Route::list(
        "/api/callbacks",
        "listCallbacks",
        "Callbacks that name no order, the newest first",
        &EVENT,
        strays,
    )
    .access(Access::OPERATORS_READ),
    Route::get(
        "/api/orders/{id}",
        "getOrder",
        "One order with all that happened to it",
        &ORDER_WITH_TIMELINE,
        get,
    )
    .access(Access::MONEY_READ),
    Route::post(
        "/api/orders/{id}/complete",
        "completeOrder",
        "Credits an order without its provider's word; above a threshold it waits for a second person",
        &REASON,
        &CORRECTED_ORDER,
        complete,
    )
    .access(Access::MONEY_MOVES),
    Route::post(
        "/api/orders/{id}/cancel",
        "cancelOrder",
        "No payment is expected any more; one that comes all the same is credited. Where money has come already, operators alone",
        &NOTHING,
        &ORDER,
        cancel,
    )
    .access(Access::ORDERS),
    Route::post(
        "/api/orders/{id}/refund",
        "refundOrder",
        "Takes money of an order from the account and sends it back to who paid; above a threshold it waits for a second person",
        &REFUND_INPUT,
        &CORRECTED_ORDER,
        refund,
    )
    .access(Access::MONEY_MOVES),
    Route::post(
        "/api/orders/{id}/refund/resolve",
        "resolveRefund",
        "Says what became of a refund about which the provider's answer was lost",
        &RESOLUTION,
        &ORDER,
        resolve,
    )
    .access(Access::MONEY_MOVES),
];

fn view(call: &Call<'_>, order: &Order) -> Value {
    let settings = call.app.funding.settings();
    let is_transfer = &*order.provider == "transfer" && order.state.is_open();
    json!({
        "id": order.id,
        "account": order.account,
        "state": order.state.as_str(),
        "provider": order.provider,
        "method": order.method,
        "amount": order.credit.to_string(),
        "currency": settings.currency,
        "pay_amount": money::text(order.pay, &order.pay_currency),
        "pay_currency": order.pay_currency,
        "rate": crate::directory::decimal::multiplier_text(order.rate_ppm),
        "paid_amount": order.paid.as_ref().map(|(amount, currency)| money::text(*amount, currency)),
        "paid_currency": order.paid.as_ref().map(|(_, currency)| currency),
        "refunded_pay_amount": money::text(order.refunded_pay, &order.pay_currency),
        "refunded_amount": order.refunded.to_string(),
        "provider_reference": order.provider_ref,
        "payment_reference": order.payment_ref,
        "pay_url": order.pay_url,
        "qr": order.qr,
        "transfer_to": settings.transfer_to.as_deref().filter(|_| is_transfer),
        "payer": order.payer,
        "created_by": order.created_by,
        "reference": order.reference().0,
        "created_at": time_text(order.created_ms),
        "expires_at": time_text(order.expires_ms),
        "paid_at": order.paid_ms.map(time_text),
        "notified_at": order.notified_ms.map(time_text),
        "credited_at": order.credited_ms.map(time_text),
        "version": order.version,
    })
}

fn refund_view(order: &Order, refund: &Refund) -> Value {
    json!({
        "n": refund.n,
        "state": refund.state.as_str(),
        "pay_amount": money::text(refund.pay, &order.pay_currency),
        "amount": refund.credit.to_string(),
        "reason": refund.reason,
        "actor": refund.actor,
        "provider_reference": refund.provider_ref,
        "asked_at": time_text(refund.at_ms),
        "done_at": refund.done_ms.map(time_text),
    })
}

fn dispute_view(order: &Order, dispute: &Dispute) -> Value {
    json!({
        "number": dispute.number,
        "stage": dispute.stage.as_str(),
        "pay_amount": money::text(dispute.pay, &order.pay_currency),
        "amount": dispute.credit.to_string(),
        "returned_amount": dispute.returned.to_string(),
        "opened_at": time_text(dispute.at_ms),
    })
}

/// A callback's own words name the payer and are for operators.
fn event_view(call: &Call<'_>, event: &OrderEvent) -> Value {
    let is_operator = call.own_account().is_none();
    let body = event.body.as_deref().filter(|_| is_operator);
    let text = body.and_then(|body| std::str::from_utf8(body).ok());
    let headers = event.headers.as_deref().filter(|_| is_operator);
    json!({
        "id": event.id,
        "order": event.order,
        "provider": event.provider,
        "at": time_text(event.at_ms),
        "kind": event.kind,
        "name": event.name,
        "verdict": event.verdict,
        "effect": event.effect,
        "detail": event.detail,
        "actor": event.actor,
        "headers": headers.map(|headers| headers.lines().collect::<Vec<_>>()),
        "body": text,
        "body_hex": body.filter(|_| text.is_none()).map(crate::hex::encode),
    })
}

/// An order that is another account's is not there for a member.
fn find(call: &Call<'_>) -> Result<Order, Problem> {
    let order = call.app.funding.order(call.path_id::<OrderId>("id")?)?;
    match call.own_account() {
        Some(own) if own != order.account => Err(Problem::NotFound),
        _ => Ok(order),
    }
}

fn list(call: &Call<'_>) -> Result<Reply, Problem> {
    let time = |name: &str| {
        let time = call.query_parsed::<jiff::Timestamp>(name)?;
        Ok::<_, FieldError>(time.map(jiff::Timestamp::as_millisecond))
    };
    let state = call.query_text("state").map(|state| {
        OrderState::parse(state).ok_or_else(|| FieldError::new("state", "is not a state of an order"))
    });
    let limit = call.limit()?;
    let search = Search {
        account: call.asked_account()?,
        state: state.transpose()?,
        provider: call.query_text("provider").map(str::to_owned),
        reference: call.query_text("reference").map(str::to_owned),
        payer: call.query_text("payer").map(str::to_owned),
        since_ms: time("since")?,
        until_ms: time("until")?,
        before: call.query_parsed::<OrderId>("cursor")?,
        limit,
    };
    let orders = call.app.funding.search(&search)?;
    let next = orders.last().filter(|_| orders.len() == limit as usize).map(|order| order.id.to_string());
    Ok(Reply::page(orders.iter().map(|order| view(call, order)).collect(), next))
}

fn strays(call: &Call<'_>) -> Result<Reply, Problem> {
    let limit = call.limit()?;
    let events = call.app.funding.strays(call.query_parsed::<u64>("cursor")?, limit)?;
    let next =
        events.last().filter(|_| events.len() == limit as usize).map(|event| event.id.raw().to_string());
    Ok(Reply::page(events.iter().map(|event| event_view(call, event)).collect(), next))
}

fn create(call: &Call<'_>) -> Result<Reply, Problem> {
    let fields = call.fields();
    let account = call.account_of_new()?;
    call.find::<Account>(account.raw())?;
    let text = |name| fields.text(name).map(str::to_owned);
    let new = NewOrder {
        account,
        credit: fields.money("amount")?.unwrap_or_default(),
        provider: text("provider").unwrap_or_default(),
        currency: text("pay_currency"),
        method: text("method"),
        actor: call.actor(),
    };
    let order = call.app.funding.create(&new)?;
    Ok(Reply::created(view(call, &order)))
}

fn get(call: &Call<'_>) -> Result<Reply, Problem> {
    let order = find(call)?;
    let funding = &call.app.funding;
    let mut body = view(call, &order);
    let refunds = funding.refunds(order.id)?;
    body["refunds"] = refunds.iter().map(|refund| refund_view(&order, refund)).collect();
    let disputes = funding.disputes(order.id)?;
    body["disputes"] = disputes.iter().map(|dispute| dispute_view(&order, dispute)).collect();
    body["timeline"] = funding.timeline(order.id)?.iter().map(|event| event_view(call, event)).collect();
    Ok(Reply::ok(body))
}

fn reason<'a>(call: &'a Call<'_>) -> &'a str {
    call.body.get("reason").and_then(Value::as_str).unwrap_or_default()
}

/// Money moves on somebody's word: it is in the audit log, too.
fn note(call: &Call<'_>, order: &Order, action: &str) -> Result<(), Problem> {
    let body = json!({"order": order.id, "account": order.account, "action": action, "reason": reason(call)});
    Ok(call.app.directory.note(&call.actor(), "order_note", order.account.raw(), &body)?)
}

fn complete(call: &Call<'_>) -> Result<Reply, Problem> {
    let order = find(call)?;
    note(call, &order, "complete")?;
    call.app.funding.completable(&order, reason(call))?;
    correct(call, &order, CorrectionKind::OrderCompletion, (order.pay, order.credit), false)
}

fn cancel(call: &Call<'_>) -> Result<Reply, Problem> {
    let order = find(call)?;
    let by_member = call.own_account().is_some();
    let order = call.app.funding.cancel(order.id, &call.actor(), by_member)?;
    Ok(Reply::ok(view(call, &order)))
}

fn refund(call: &Call<'_>) -> Result<Reply, Problem> {
    let (order, fields) = (find(call)?, call.fields());
    let arrears = fields.boolean("arrears").unwrap_or(false);
    let ask = RefundAsk {
        amount: fields.money("pay_amount")?,
        reason: reason(call).to_owned(),
        arrears,
        actor: call.actor(),
        correction: None,
    };
    note(call, &order, "refund")?;
    let moves = call.app.funding.refundable(order.id, &ask)?;
    correct(call, &order, CorrectionKind::OrderRefund, moves, arrears)
}

/// Moves money of an order on somebody's word. Answers the order as it is then, with the correction that did it, or waits
/// for a second person.
fn correct(
    call: &Call<'_>,
    order: &Order,
    kind: CorrectionKind,
    (pay, credit): (Nano, Nano),
    arrears: bool,
) -> Result<Reply, Problem> {
    let terms = CorrectionTerms {
        kind,
        account: order.account,
        book: Book::Live,
        amount: credit,
        request: None,
        order: Some((order.id, pay)),
        lot_kind: LotKind::Purchased,
        priority: 0,
        expires_ms: None,
        arrears,
    };
    let new = NewCorrection { terms, reference: None, reason: reason(call).to_owned(), actor: call.actor() };
    let (correction, _) = call.app.corrections.propose(&new)?;
    let mut body = view(call, &call.app.funding.order(order.id)?);
    body["correction"] = json!(correction.id);
    Ok(if correction.state == CorrectionState::Pending { Reply::accepted(body) } else { Reply::ok(body) })
}

fn resolve(call: &Call<'_>) -> Result<Reply, Problem> {
    let order = find(call)?;
    note(call, &order, "resolve_refund")?;
    let sent = call.fields().boolean("sent").unwrap_or(false);
    let order = call.app.funding.resolve_refund(order.id, sent, &call.actor(), reason(call))?;
    Ok(Reply::ok(view(call, &order)))
}
