//! `/api/requests`: the request log, receipts and explanations, for operators.

use serde_json::{Value, json};

use crate::books::{self, ChargeState, encoding, lookup::StoredCall};
use crate::catalogue::Code;
use crate::directory::AccountRole;
use crate::directory::FieldError;
use crate::explain::why::{Audience, Case};
use crate::explain::{attempts, receipt, time_text, units_text, why};
use crate::gateway::facts::Outcome;
use crate::id::{KeyId, RequestId};
use crate::store::{Row, Value as Sql};

use super::access::{self, Access};
use super::problem::Problem;
use super::route::{Call, PAGE, Param, Reply, Route};
use super::shape::{COUNT, Field, Kind, Need, Shape, field};

static REQUEST: Shape = Shape {
    name: "Request",
    fields: &[
        field!("id", Kind::Text, Required, "Public id, req_…"),
        field!("at", Kind::Time, Required, "Ledger time of the decision"),
        field!("account", Kind::Text, Nullable, "null: the key was not known"),
        field!("project", Kind::Text, Nullable, "What the key belonged to then"),
        field!("member", Kind::Text, Nullable, "Whose key it was then"),
        field!("key", Kind::Text, Nullable, "null: the key was not known"),
        field!("endpoint", Kind::Text, Nullable, "Path below the version"),
        field!("request_type", Kind::Text, Nullable, "chat, models, …"),
        field!("model", Kind::Text, Nullable, "As it was asked for"),
        field!("stream", Kind::Bool, Nullable, "Answer as a stream of events"),
        field!(
            "calls",
            COUNT,
            Required,
            "Calls that the row stands for: more than 1 of a flood of like refusals"
        ),
        field!("status", COUNT, Required, "Status of the answer; 0 while it runs"),
        field!("code", Kind::Text, Nullable, "Why it was refused or failed"),
        field!("ending", Kind::Text, Nullable, "How it ended"),
        field!("charge_state", Kind::Text, Required, "none, held, settled, released or refunded"),
        field!("charge", Kind::Money, Required, "Charged"),
        field!("refunded", Kind::Money, Required, "Given back after the charge"),
        field!("net", Kind::Money, Required, "What is left of the charge"),
        field!("tokens", Kind::Map(&COUNT), Required, "Tokens of each class"),
        field!(
            "units",
            Kind::Map(&Kind::Money),
            Required,
            "What is not counted in tokens: image, second, million_characters, search"
        ),
        field!("usage_source", Kind::Text, Nullable, "upstream, counted, estimated or none"),
        field!("first_byte_us", COUNT, Nullable, "Microseconds from its arrival"),
        field!("latency_us", COUNT, Nullable, "Microseconds from its arrival"),
        field!("channel", Kind::Text, Nullable, "Where it was sent to last"),
        field!(
            "attempts",
            Kind::List(&Kind::Any),
            Required,
            "Channels that it was sent to, as on its receipt"
        ),
        field!("upstream_status", COUNT, Nullable, "Status of the upstream"),
        field!("upstream_request_id", Kind::Text, Nullable, "The upstream's own id"),
        field!("upstream_error", Kind::Text, Nullable, "The upstream's own words"),
        field!("client_address", Kind::Text, Nullable, "Where it came from"),
        field!("sdk", Kind::Text, Nullable, "What the client calls itself"),
        field!("retry_count", COUNT, Required, "The client's own count of its retries"),
        field!(
            "duplicate_of",
            Kind::Text,
            Nullable,
            "The first call with the same content a minute before it"
        ),
        field!("replay_of", Kind::Text, Nullable, "The call whose kept answer it was given again"),
        field!("browser_origin", Kind::Text, Nullable, "The page that it came from, if a browser sent it"),
        field!("balance_checked", Kind::Bool, Required, "Whether anybody looked at money"),
    ],
};

pub static RECEIPT: Shape = Shape {
    name: "Receipt",
    fields: &[
        field!("request_id", Kind::Text, Required, "Public id, req_…"),
        field!("at", Kind::Time, Required, "Ledger time of the decision"),
        field!("state", Kind::Text, Required, "none, held, settled, released or refunded"),
        field!("currency", Kind::Text, Required, "Ledger currency"),
        field!("charged", Kind::Money, Required, "Charged"),
        field!("refunded", Kind::Money, Required, "Given back after the charge"),
        field!("net", Kind::Money, Required, "What is left of the charge"),
        field!("display", Kind::Any, Nullable, "These three in the currency that is shown besides"),
        field!("account", Kind::Text, Nullable, "Who paid"),
        field!("key", Kind::Text, Nullable, "Whose key made the call"),
        field!("environment", Kind::Text, Nullable, "live or test"),
        field!("model", Kind::Text, Nullable, "As it was asked for"),
        field!("code", Kind::Text, Nullable, "Why it was refused or failed"),
        field!("ending", Kind::Text, Nullable, "How it ended"),
        field!("policy", Kind::Text, Required, "The rule of the charge policy that applied"),
        field!("price", Kind::Any, Nullable, "id, version, effective_at: frozen at acceptance"),
        field!(
            "lines",
            Kind::List(&Kind::Any),
            Required,
            "class, tokens and per_million, or quantity and per_unit, amount"
        ),
        field!("sum", Kind::Any, Nullable, "per_call, multiplier, exact, rounded_off, cost"),
        field!("usage_source", Kind::Text, Nullable, "upstream, counted or none"),
        field!(
            "duplicate_of",
            Kind::Text,
            Nullable,
            "The first call with the same content a minute before it"
        ),
        field!("replay_of", Kind::Text, Nullable, "The call whose kept answer it was given again"),
        field!("hold", Kind::Any, Nullable, "amount, at, output_cap, output_cap_reason, lots"),
        field!(
            "settlement",
            Kind::Any,
            Nullable,
            "at, kind, reason, cost, charged, returned, overrun, loss, lots"
        ),
        field!(
            "attempts",
            Kind::List(&Kind::Any),
            Required,
            "Channels that it was sent to: number, served, failed, multiplier, started_us, duration_us; for operators channel, credential, status, upstream_request_id, fault, cost, cost_basis too"
        ),
    ],
};

pub static WHY: Shape = Shape {
    name: "Why",
    fields: &[
        field!("request_id", Kind::Text, Nullable, "null in a simulation"),
        field!("at", Kind::Time, Required, "Time of the decision"),
        field!("audience", Kind::OneOf(&["caller", "owner", "operator"]), Required, "Whose eyes it is for"),
        field!(
            "verdict",
            Kind::OneOf(&["admitted", "refused", "failed"]),
            Required,
            "failed: admitted, and then it failed"
        ),
        field!("summary", Kind::Text, Required, "The answer in one sentence"),
        field!(
            "refusal",
            Kind::Any,
            Nullable,
            "code, status, rung, layer, fault, retryable, title, message, hint, charged, next, doc_path"
        ),
        field!("balance_checked", Kind::Bool, Required, "Whether anybody looked at money"),
        field!("balance_note", Kind::Text, Nullable, "Says so where it was not"),
        field!("call", Kind::Any, Required, "What was asked, without any content"),
        field!(
            "warnings",
            Kind::List(&Kind::Text),
            Required,
            "No reason for the verdict, but to be looked at"
        ),
        field!(
            "ladder",
            Kind::List(&Kind::Any),
            Required,
            "rung, name, title, state, would, code, figures, evidence"
        ),
        field!("guide", Kind::List(&Kind::Any), Required, "The same in the order of the users' guide"),
        field!(
            "upstream",
            Kind::Any,
            Nullable,
            "channel, status, request_id, error, attempts; operators only"
        ),
        field!("config_version", COUNT, Required, "Version of the directory that decided"),
    ],
};

pub static ROUTES: &[Route] = &[
    Route::list("/api/requests", "listRequests", "The request log, newest first", &REQUEST, list)
        .access(Access::EVERYBODY_READS)
        .query(&[
            Param { name: "account", about: "Only calls of this account" },
            Param { name: "key", about: "Only calls of this key" },
            Param { name: "from", about: "Not before this time" },
            Param { name: "to", about: "Before this time" },
            Param { name: "status", about: "Only this status" },
            Param { name: "code", about: "Only this code" },
            Param {
                name: "after",
                about: "Only calls newer than this id, oldest first: for following the log",
            },
            PAGE[0],
            PAGE[1],
        ]),
    Route::get("/api/requests/{id}", "getRequest", "The receipt of a call", &RECEIPT, get)
        .access(Access::EVERYBODY_READS),
    Route::get("/api/requests/{id}/row", "getRequestRow", "One row of the request log", &REQUEST, row)
        .access(Access::EVERYBODY_READS),
    Route::get("/api/requests/{id}/why", "whyRequest", "Why a call was allowed or refused", &WHY, explain)
        .access(Access::EVERYBODY_READS)
        .query(&[Param { name: "audience", about: "caller, owner or operator; default: operator" }]),
];

/// A recorded call, or a refusal.
pub fn find(call: &Call<'_>, id: RequestId) -> Result<StoredCall, Problem> {
    let found = books::lookup::call(&call.app.books, &call.app.projections, id);
    found.map_err(|why| Problem::Internal(Box::new(why)))?.ok_or(Problem::NotFound)
}

/// The same, if it is there for who calls.
pub fn found(call: &Call<'_>) -> Result<StoredCall, Problem> {
    let stored = find(call, call.path_id("id")?)?;
    let owner = stored.call.decided.facts.credential.passed().map(|credential| credential.account);
    match call.own_account() {
        Some(own) if owner != Some(own) => Err(Problem::NotFound),
        _ => Ok(stored),
    }
}

fn get(call: &Call<'_>) -> Result<Reply, Problem> {
    let case = Case::of(call.app, found(call)?)?;
    let audience = if call.own_account().is_none() { Audience::Operator } else { Audience::Owner };
    let receipt = receipt::of(&case, audience, call.app.currency(), call.language);
    Reply::of(&receipt.shown_in(call.app.display.as_ref()))
}

/// Operators see all, those who know an account's money its amounts, and everybody else what a caller sees.
fn explain(call: &Call<'_>) -> Result<Reply, Problem> {
    let case = Case::of(call.app, found(call)?)?;
    let widest = match call.member() {
        None => Audience::Operator,
        Some((_, AccountRole::Owner | AccountRole::Admin | AccountRole::Finance)) => Audience::Owner,
        Some((_, AccountRole::Developer | AccountRole::Viewer)) => Audience::Caller,
    };
    let audience = match (call.query_text("audience"), widest) {
        (None, widest) => widest,
        (Some("operator"), Audience::Operator) => Audience::Operator,
        (Some("owner"), Audience::Operator | Audience::Owner) => Audience::Owner,
        (Some("caller"), _) => Audience::Caller,
        (Some("operator" | "owner"), _) => return Err(access::forbidden("to see this much")),
        (Some(_), _) => return Err(FieldError::new("audience", "must be caller, owner or operator").into()),
    };
    Reply::of(&why::explain(&case, audience, call.language))
}

fn row(call: &Call<'_>) -> Result<Reply, Problem> {
    Ok(Reply::ok(view(call, &found(call)?)))
}

const COLUMNS: &str = "id, facts, money";

fn list(call: &Call<'_>) -> Result<Reply, Problem> {
    let filter = Filter::read(call)?;
    call.app.books.flush_blocking().map_err(crate::books::BooksError::from)?;
    let limit = call.limit()?;
    let (sql, params) = filter.statement(limit);
    let rows = call.app.projections.db().query(&sql, &params)?;
    let last = rows.last().filter(|_| rows.len() == limit as usize);
    let next =
        last.map(|row| row.bytes(0).map(|id| RequestId::from_raw(u128::from_be_bytes(id)).to_string()));
    let views: Result<Vec<_>, Problem> = rows.iter().map(|row| row_view(call, row)).collect();
    Ok(Reply::page(views?, next.transpose()?))
}

fn row_view(call: &Call<'_>, row: &Row) -> Result<Value, Problem> {
    let recorded = encoding::decode_call(row.blob(1)?).map_err(|why| Problem::Internal(Box::new(why)))?;
    let money = encoding::decode_effects(row.blob(2)?).map_err(|why| Problem::Internal(Box::new(why)))?;
    Ok(view(call, &StoredCall::new(recorded, money)))
}

/// What to list, as SQL of the portable subset.
struct Filter {
    conditions: Vec<(&'static str, Sql)>,
    forward: bool,
}

impl Filter {
    fn read(call: &Call<'_>) -> Result<Self, Problem> {
        let mut conditions: Vec<(&'static str, Sql)> = Vec::new();
        if let Some(account) = call.asked_account()? {
            conditions.push(("account =", account.raw().into()));
        }
        if let Some(key) = call.query_parsed::<KeyId>("key")? {
            conditions.push(("key =", key.raw().into()));
        }
        if let Some(from) = call.query_parsed::<jiff::Timestamp>("from")? {
            conditions.push(("at_ms >=", from.as_millisecond().into()));
        }
        if let Some(to) = call.query_parsed::<jiff::Timestamp>("to")? {
            conditions.push(("at_ms <", to.as_millisecond().into()));
        }
        if let Some(status) = call.query_parsed::<u16>("status")? {
            conditions.push(("status =", status.into()));
        }
        if let Some(code) = call.query_parsed::<Code>("code")? {
            conditions.push(("code =", code.number().into()));
        }
        let bytes = |id: RequestId| Sql::from(id.raw().to_be_bytes());
        if let Some(cursor) = call.query_parsed::<RequestId>("cursor")? {
            conditions.push(("id <", bytes(cursor)));
        }
        let after = call.query_parsed::<RequestId>("after")?;
        if let Some(after) = after {
            conditions.push(("id >", bytes(after)));
        }
        Ok(Filter { conditions, forward: after.is_some() })
    }

    /// Ids are in the order of time.
    fn statement(&self, limit: u32) -> (String, Vec<Sql>) {
        let mut sql = format!("SELECT {COLUMNS} FROM requests");
        for (at, (condition, _)) in self.conditions.iter().enumerate() {
            let word = if at == 0 { "WHERE" } else { "AND" };
            sql.push_str(&format!(" {word} {condition} ?{}", at + 1));
        }
        let order = if self.forward { "ASC" } else { "DESC" };
        sql.push_str(&format!(" ORDER BY id {order} LIMIT ?{}", self.conditions.len() + 1));
        let mut params: Vec<_> = self.conditions.iter().map(|(_, value)| value.clone()).collect();
        params.push(limit.into());
        (sql, params)
    }
}

fn view(call: &Call<'_>, stored: &StoredCall) -> Value {
    let (decided, outcome) = (&*stored.call.decided, stored.call.outcome.as_deref());
    // Where calls are sent to, and what was said there, is the operator's (S31).
    let shown = call.own_account().is_none();
    let upstream = outcome.filter(|_| shown);
    let served = upstream.and_then(Outcome::served);
    let channel = served.and_then(|attempt| attempt.channel);
    let channel = channel.or(decided.admitted.map(|admitted| admitted.channel));
    let audience = if shown { Audience::Operator } else { Audience::Owner };
    let facts = &decided.facts;
    let refunded = call.app.books.refunded(facts.request.into());
    let (credential, body) = (facts.credential.passed(), facts.body.passed());
    let endpoint = facts.address.passed();
    let refused = decided.refusal.as_ref().map(|refusal| refusal.code);
    let code = refused.or_else(|| outcome.and_then(|outcome| outcome.code));
    let used = |class: ledger::TokenClass| {
        let tokens = outcome?.usage.get(class);
        (tokens > 0).then(|| (class.as_str().to_owned(), Value::from(tokens)))
    };
    let tokens: serde_json::Map<_, _> = ledger::TokenClass::ALL.into_iter().filter_map(used).collect();
    json!({
        "id": facts.request,
        "at": time_text(facts.at_ms),
        "account": credential.map(|credential| credential.account),
        "project": credential.and_then(|credential| credential.project),
        "member": credential.and_then(|credential| credential.member),
        "key": credential.map(|credential| credential.key),
        "endpoint": endpoint.map(|endpoint| endpoint.path()),
        "request_type": endpoint.map(|endpoint| endpoint.request_type()),
        "model": body.map(|body| &body.model),
        "stream": body.map(|body| body.stream),
        "calls": decided.calls,
        "status": stored.call.status(),
        "code": code,
        "ending": outcome.map(|outcome| outcome.ending.as_str()),
        "charge_state": if refunded.is_positive() { ChargeState::Refunded } else { stored.state }.as_str(),
        "charge": stored.charge.to_string(),
        "refunded": refunded.to_string(),
        "net": stored.charge.saturating_sub(refunded).to_string(),
        "tokens": tokens,
        "units": outcome.map(|outcome| units(&outcome.usage)).unwrap_or_default(),
        "usage_source": outcome.map(|outcome| outcome.usage_source.as_str()),
        "first_byte_us": outcome.and_then(|outcome| outcome.first_byte_us),
        "latency_us": outcome.map(|outcome| outcome.latency_us),
        "channel": channel.filter(|_| shown),
        "attempts": outcome.map(|outcome| attempts::of(outcome, audience)).unwrap_or_default(),
        "upstream_status": served.and_then(|attempt| attempt.status),
        "upstream_request_id": served.and_then(|attempt| attempt.upstream_request.as_deref()),
        "upstream_error": upstream.and_then(|outcome| outcome.upstream_error.as_deref()),
        "client_address": facts.client.address.map(|address| address.to_string()),
        "sdk": Some(&*facts.client.sdk).filter(|sdk| !sdk.is_empty()),
        "retry_count": facts.client.retry_count,
        "duplicate_of": facts.repetition.duplicate_of,
        "replay_of": facts.repetition.replay_of,
        "browser_origin": facts.client.browser_origin,
        "balance_checked": decided.readings.is_some(),
    })
}

/// What was used beside tokens, each as its price is for.
fn units(usage: &ledger::Usage) -> serde_json::Map<String, Value> {
    let used = ledger::Unit::ALL.into_iter().filter(|unit| usage.units(*unit) > 0);
    used.map(|unit| (unit.as_str().to_owned(), units_text(unit, usage.units(unit)).into())).collect()
}
