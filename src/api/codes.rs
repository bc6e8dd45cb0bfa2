//! `/api/codes` and `/api/code-batches`: redemption codes (兑换码), made by operators and redeemed by accounts.
//!
//! The text of a code is in one answer: that which made it. It is only ever sent in a body, never in an address.

use ledger::LotKind;
use serde_json::{Value, json};

use crate::directory::{Account, FieldError};
use crate::explain::time_text;
use crate::funding::{
    CodeBatch, CodeCounts, CodeOfBatch, CodeSearch, CodeState, CodeText, CreditEnd, Disabled, NewCodeBatch,
    Redeemer,
};
use crate::id::{CodeBatchId, CodeId};

use super::access::Access;
use super::problem::Problem;
use super::route::{Call, PAGE, Param, Reply, Route};
use super::shape::{COUNT, Field, Kind, Need, Shape, field};

const STATE: Kind = Kind::OneOf(&["unused", "processing", "redeemed", "disabled", "expired"]);
const LOT_KIND: Kind = Kind::OneOf(&["granted", "purchased"]);
const PRIORITY: Kind = Kind::Integer { min: 0, max: 255 };
const PRIORITY_DEFAULT: u8 = 100;

macro_rules! batch_fields {
    ($($more:expr),* $(,)?) => {
        &[
            field!("id", Kind::Text, Required, "Public id, cbt_…"),
            field!("value", Kind::Money, Required, "What each code credits"),
            field!("currency", Kind::Text, Required, "Ledger currency"),
            field!("count", COUNT, Required, "How many codes there are"),
            field!("kind", LOT_KIND, Required, "Granted credit is spent before purchased"),
            field!("priority", PRIORITY, Required, "Lower is spent first, among lots of a kind"),
            field!("expires_at", Kind::Time, Nullable, "From then on its codes cannot be redeemed"),
            field!("credit_expires_at", Kind::Time, Nullable, "From then on the credit cannot be spent"),
            field!("credit_days", COUNT, Nullable, "The credit can be spent for so many days from its redemption on"),
            field!("per_account_max", COUNT, Nullable, "Codes of it that one account can redeem; null: any number"),
            field!("note", Kind::Text, Required, "What it is for"),
            field!("states", Kind::Map(&COUNT), Required, "How many of its codes are in each state"),
            field!("disabled_at", Kind::Time, Nullable, "When it was taken out of use"),
            field!("disabled_by", Kind::Text, Nullable, "By whom"),
            field!("disabled_reason", Kind::Text, Nullable, "Why"),
            field!("created_by", Kind::Text, Required, "Who made it"),
            field!("created_at", Kind::Time, Required, "When it was made"),
            field!("version", COUNT, Required, "Counts its changes"),
            $($more),*
        ]
    };
}

static BATCH: Shape = Shape { name: "CodeBatch", fields: batch_fields!() };

static BATCH_WITH_CODES: Shape = Shape {
    name: "CodeBatchWithCodes",
    fields: batch_fields!(field!(
        "codes",
        Kind::List(&Kind::Secret),
        Required,
        "The codes themselves: here, and never again"
    )),
};

static CODE: Shape = Shape {
    name: "RedemptionCode",
    fields: &[
        field!("id", Kind::Text, Required, "Public id, cod_…"),
        field!("batch", Kind::Text, Required, "Id of its batch"),
        field!("code", Kind::Text, Required, "Masked"),
        field!("state", STATE, Required, "Where it stands"),
        field!("value", Kind::Money, Required, "What it credits"),
        field!("currency", Kind::Text, Required, "Ledger currency"),
        field!("kind", LOT_KIND, Required, "Granted credit is spent before purchased"),
        field!("priority", PRIORITY, Required, "Lower is spent first, among lots of a kind"),
        field!("expires_at", Kind::Time, Nullable, "From then on it cannot be redeemed"),
        field!("credit_expires_at", Kind::Time, Nullable, "From then on its credit cannot be spent"),
        field!("account", Kind::Text, Nullable, "The account that redeemed it (兑换码账号)"),
        field!("redeemed_by", Kind::Text, Nullable, "Who redeemed it (登录账号)"),
        field!("marked_at", Kind::Time, Nullable, "When it was given to the account"),
        field!("redeemed_at", Kind::Time, Nullable, "When the credit became spendable"),
        field!("lot", Kind::Text, Nullable, "Id of the lot that it opened"),
        field!("reference", Kind::Text, Required, "Name under which the ledger credits it once for ever"),
        field!("disabled_at", Kind::Time, Nullable, "When it was taken out of use, alone or with its batch"),
        field!("disabled_by", Kind::Text, Nullable, "By whom"),
        field!("disabled_reason", Kind::Text, Nullable, "Why"),
        field!("version", COUNT, Required, "Counts its changes"),
    ],
};

static BATCH_INPUT: Shape = Shape {
    name: "CodeBatchInput",
    fields: &[
        field!("value", Kind::Money, Required, "What each code credits, above zero"),
        field!("count", Kind::Integer { min: 1, max: 10_000 }, Required, "How many codes"),
        field!("kind", LOT_KIND, Optional, "Default: granted; purchased for codes that are sold"),
        field!("priority", PRIORITY, Optional, "Lower is spent first, among lots of a kind; default: 100"),
        field!("expires_at", Kind::Time, OptionalNullable, "From then on the codes cannot be redeemed"),
        field!(
            "credit_expires_at",
            Kind::Time,
            OptionalNullable,
            "From then on the credit cannot be spent; needs expires_at, and is after it"
        ),
        field!(
            "credit_days",
            Kind::Integer { min: 1, max: 36_500 },
            OptionalNullable,
            "Instead of credit_expires_at: days from the redemption on"
        ),
        field!(
            "per_account_max",
            Kind::Integer { min: 1, max: 10_000 },
            OptionalNullable,
            "Codes of it that one account can redeem"
        ),
        field!("note", Kind::Text, Optional, "What it is for"),
    ],
};

static REASON: Shape =
    Shape { name: "CodeReason", fields: &[field!("reason", Kind::Text, Required, "Why; stays with it")] };

static REDEEM_INPUT: Shape = Shape {
    name: "CodeRedeemInput",
    fields: &[
        field!("code", Kind::Secret, Required, "The code; small letters, blanks and hyphens do not matter"),
        field!("account", Kind::Text, Optional, "Default, for members: their own"),
    ],
};

static FIND_INPUT: Shape =
    Shape { name: "CodeFindInput", fields: &[field!("code", Kind::Secret, Required, "The code")] };

pub static ROUTES: &[Route] = &[
    Route::list(
        "/api/code-batches",
        "listCodeBatches",
        "Batches of codes, the newest first",
        &BATCH,
        batches,
    )
    .access(Access::OPERATORS_READ),
    Route::post(
        "/api/code-batches",
        "createCodeBatch",
        "Makes codes. Their texts are in this answer, and nowhere ever after",
        &BATCH_INPUT,
        &BATCH_WITH_CODES,
        create,
    )
    .access(Access::MONEY_MOVES),
    Route::get("/api/code-batches/{id}", "getCodeBatch", "One batch of codes", &BATCH, batch)
        .access(Access::OPERATORS_READ),
    Route::post(
        "/api/code-batches/{id}/disable",
        "disableCodeBatch",
        "What is not redeemed of a batch cannot be redeemed any more",
        &REASON,
        &BATCH,
        disable_batch,
    )
    .access(Access::MONEY_MOVES),
    Route::list(
        "/api/codes",
        "listCodes",
        "Codes, the newest first; members see those of their account",
        &CODE,
        list,
    )
    .access(Access::MONEY_READ)
    .query(&[
        Param { name: "batch", about: "Only codes of this batch" },
        Param { name: "account", about: "Only codes that this account redeemed" },
        Param { name: "state", about: "Only codes in this state" },
        PAGE[0],
        PAGE[1],
    ]),
    Route::post(
        "/api/codes/redeem",
        "redeemCode",
        "Gives the credit of a code to an account",
        &REDEEM_INPUT,
        &CODE,
        redeem,
    )
    .access(Access::ORDERS),
    Route::post(
        "/api/codes/find",
        "findCode",
        "The code that a text is, for support",
        &FIND_INPUT,
        &CODE,
        find,
    )
    .reads()
    .access(Access::OPERATORS_READ),
    Route::get("/api/codes/{id}", "getCode", "One code", &CODE, get).access(Access::MONEY_READ),
    Route::post(
        "/api/codes/{id}/disable",
        "disableCode",
        "A code cannot be redeemed any more",
        &REASON,
        &CODE,
        disable,
    )
    .access(Access::MONEY_MOVES),
];

fn batch_view(call: &Call<'_>, batch: &CodeBatch, counts: &CodeCounts) -> Value {
    let (credit_expires_ms, credit_days) = match batch.credit_end {
        CreditEnd::Never => (None, None),
        CreditEnd::At(end_ms) => (Some(end_ms), None),
        CreditEnd::Days(days) => (None, Some(days)),
    };
    let states = CodeState::ALL.iter().zip(counts).map(|(state, count)| (state.as_str(), *count));
    let disabled = batch.disabled.as_ref();
    json!({
        "id": batch.id,
        "value": batch.value.to_string(),
        "currency": call.app.currency(),
        "count": batch.count,
        "kind": batch.kind.as_str(),
        "priority": batch.priority,
        "expires_at": batch.expires_ms.map(time_text),
        "credit_expires_at": credit_expires_ms.map(time_text),
        "credit_days": credit_days,
        "per_account_max": batch.per_account_max,
        "note": batch.note,
        "states": states.collect::<std::collections::BTreeMap<_, _>>(),
        "disabled_at": disabled.map(|disabled| time_text(disabled.at_ms)),
        "disabled_by": disabled.map(|disabled| &disabled.by),
        "disabled_reason": disabled.map(|disabled| &disabled.reason),
        "created_by": batch.created_by,
        "created_at": time_text(batch.created_ms),
        "version": batch.version,
    })
}

fn view(call: &Call<'_>, found: &CodeOfBatch) -> Value {
    let (code, batch) = found;
    let state = call.app.codes.state(found);
    let fixed_end = match batch.credit_end {
        CreditEnd::At(end_ms) => Some(end_ms),
        CreditEnd::Never | CreditEnd::Days(_) => None,
    };
    let by_batch = batch.disabled.as_ref().filter(|_| state == CodeState::Disabled);
    let disabled: Option<&Disabled> = code.disabled.as_ref().or(by_batch);
    json!({
        "id": code.id,
        "batch": code.batch,
        "code": code.masked,
        "state": state.as_str(),
        "value": batch.value.to_string(),
        "currency": call.app.currency(),
        "kind": batch.kind.as_str(),
        "priority": batch.priority,
        "expires_at": batch.expires_ms.map(time_text),
        "credit_expires_at": code.credit_expires_ms.or(fixed_end).map(time_text),
        "account": code.account,
        "redeemed_by": code.redeemed_by,
        "marked_at": code.marked_ms.map(time_text),
        "redeemed_at": code.redeemed_ms.map(time_text),
        "lot": code.lot,
        "reference": code.reference().0,
        "disabled_at": disabled.map(|disabled| time_text(disabled.at_ms)),
        "disabled_by": disabled.map(|disabled| &disabled.by),
        "disabled_reason": disabled.map(|disabled| &disabled.reason),
        "version": code.version,
    })
}

fn counted(call: &Call<'_>, batch: &CodeBatch) -> Result<Value, Problem> {
    Ok(batch_view(call, batch, &call.app.codes.counts(batch)?))
}

fn batches(call: &Call<'_>) -> Result<Reply, Problem> {
    let limit = call.limit()?;
    let batches = call.app.codes.batches(call.query_parsed::<CodeBatchId>("cursor")?, limit)?;
    let next = batches.last().filter(|_| batches.len() == limit as usize).map(|batch| batch.id.to_string());
    let rows: Result<Vec<_>, _> = batches.iter().map(|batch| counted(call, batch)).collect();
    Ok(Reply::page(rows?, next))
}

fn create(call: &Call<'_>) -> Result<Reply, Problem> {
    let new = new_batch(call)?;
    let (batch, texts) = call.app.codes.create(&new)?;
    // No text leaves before it is on record who made it.
    let body = json!({
        "batch": batch.id, "action": "create", "value": batch.value.to_string(), "count": batch.count,
        "kind": batch.kind.as_str(), "note": batch.note,
    });
    call.app.directory.note(&call.actor(), "code_note", batch.id.raw(), &body)?;
    let mut made = counted(call, &batch)?;
    made["codes"] = texts.iter().map(CodeText::expose).collect();
    Ok(Reply::created(made))
}

fn new_batch(call: &Call<'_>) -> Result<NewCodeBatch, Problem> {
    let fields = call.fields();
    let time = |name| {
        let time = fields.nullable_parsed::<jiff::Timestamp>(name)?.flatten();
        Ok::<_, FieldError>(time.map(jiff::Timestamp::as_millisecond))
    };
    let credit_end = match (time("credit_expires_at")?, fields.number("credit_days")?) {
        (Some(_), Some(_)) => {
            return Err(FieldError::new("credit_days", "cannot stand beside credit_expires_at").into());
        }
        (Some(end_ms), None) => CreditEnd::At(end_ms),
        (None, Some(days)) => CreditEnd::Days(days),
        (None, None) => CreditEnd::Never,
    };
    let is_sold = fields.text("kind") == Some("purchased");
    Ok(NewCodeBatch {
        value: fields.money("value")?.unwrap_or_default(),
        count: fields.number("count")?.unwrap_or_default(),
        kind: if is_sold { LotKind::Purchased } else { LotKind::Granted },
        priority: fields.number("priority")?.unwrap_or(PRIORITY_DEFAULT),
        expires_ms: time("expires_at")?,
        credit_end,
        per_account_max: fields.number("per_account_max")?,
        note: fields.text("note").unwrap_or_default().to_owned(),
        actor: call.actor(),
    })
}

fn batch(call: &Call<'_>) -> Result<Reply, Problem> {
    let batch = call.app.codes.batch(call.path_id("id")?)?;
    Ok(Reply::ok(counted(call, &batch)?))
}

fn reason<'a>(call: &'a Call<'_>) -> &'a str {
    call.body.get("reason").and_then(Value::as_str).unwrap_or_default()
}

fn disable_batch(call: &Call<'_>) -> Result<Reply, Problem> {
    let batch = call.app.codes.batch(call.path_id("id")?)?;
    let body = json!({"batch": batch.id, "action": "disable", "reason": reason(call)});
    call.app.directory.note(&call.actor(), "code_note", batch.id.raw(), &body)?;
    let batch = call.app.codes.disable_batch(batch.id, &call.actor(), reason(call))?;
    Ok(Reply::ok(counted(call, &batch)?))
}

fn list(call: &Call<'_>) -> Result<Reply, Problem> {
    let state = call.query_text("state").map(|state| {
        CodeState::parse(state).ok_or_else(|| FieldError::new("state", "is not a state of a code"))
    });
    let limit = call.limit()?;
    let search = CodeSearch {
        batch: call.query_parsed::<CodeBatchId>("batch")?,
        account: call.asked_account()?,
        state: state.transpose()?,
        before: call.query_parsed::<CodeId>("cursor")?,
        limit,
    };
    let codes = call.app.codes.search(&search)?;
    let next = codes.last().filter(|_| codes.len() == limit as usize).map(|(code, _)| code.id.to_string());
    Ok(Reply::page(codes.iter().map(|found| view(call, found)).collect(), next))
}

fn redeem(call: &Call<'_>) -> Result<Reply, Problem> {
    let account = call.account_of_new()?;
    call.find::<Account>(account.raw())?;
    let who = Redeemer { account, actor: call.actor(), address: call.address };
    let redeemed = call.app.codes.redeem(call.fields().text("code").unwrap_or_default(), &who)?;
    Ok(Reply::ok(view(call, &redeemed)))
}

fn find(call: &Call<'_>) -> Result<Reply, Problem> {
    let found = call.app.codes.find(call.fields().text("code").unwrap_or_default())?;
    Ok(Reply::ok(view(call, &found)))
}

/// A code that another account redeemed, or nobody yet, is not there for a member.
fn get(call: &Call<'_>) -> Result<Reply, Problem> {
    let found = call.app.codes.code(call.path_id("id")?)?;
    match call.own_account() {
        Some(own) if found.0.account != Some(own) => Err(Problem::NotFound),
        _ => Ok(Reply::ok(view(call, &found))),
    }
}

fn disable(call: &Call<'_>) -> Result<Reply, Problem> {
    let (code, _) = call.app.codes.code(call.path_id("id")?)?;
    let body = json!({"code": code.id, "batch": code.batch, "action": "disable", "reason": reason(call)});
    call.app.directory.note(&call.actor(), "code_note", code.id.raw(), &body)?;
    let disabled = call.app.codes.disable(code.id, &call.actor(), reason(call))?;
    Ok(Reply::ok(view(call, &disabled)))
}
