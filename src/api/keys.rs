//! `/api/keys`: callers' keys. A key's text is in the answer to its creation and nowhere else.

mod change;
mod fields;

use ledger::Unit;
use serde_json::{Value, json};

use crate::directory::documents::PreviousText;
use crate::directory::{
    AccountRole, CreatedKey, Environment, FieldError, Key, KeyOrder, Limit, Metric, Owner, Rotation,
    StatusReason, Versioned,
};
use crate::explain::simulate;
use crate::explain::usable;
use crate::explain::why::Audience;
use crate::gateway::identify;
use crate::gateway::request::Sample;
use crate::risk::{self, Finding};
use crate::secret::Secret;

use change::{apply, member_may};
pub use fields::KEY;
use fields::{
    CREATED_KEY, DAY_S, KEY_CHANGE, KEY_INPUT, LEAKED, LEAKED_INPUT, LEAKED_MAX, ROTATE_INPUT, SIMULATE_INPUT,
};

use super::access::Access;
use super::problem::Problem;
use super::resource::{self, Resource};
use super::route::{Call, PAGE, Param, Reply, Route};
use super::{limits, own};

pub static ROUTES: &[Route] = &[
    Route::list("/api/keys", "listKeys", "Keys in the order in which they were made", &KEY, list)
        .access(Access::EVERYBODY_READS)
        .query(&[Param { name: "account", about: "Only keys of this account" }, PAGE[0], PAGE[1]]),
    Route::post(
        "/api/keys",
        "createKey",
        "Makes a key. Its text is in this answer and nowhere else",
        &KEY_INPUT,
        &CREATED_KEY,
        create,
    )
    .access(Access::KEY_CHANGES),
    Route::get("/api/keys/{id}", "getKey", "One key with the use of its limits", &KEY, get)
        .access(Access::EVERYBODY_READS),
    Route::post(
        "/api/keys/leaked",
        "reportLeakedKeys",
        "Freezes those of these texts that are keys here: they were found where they do not belong",
        &LEAKED_INPUT,
        &LEAKED,
        leaked,
    )
    .access(Access::SUPPORT),
    Route::post(
        "/api/keys/{id}/rotate",
        "rotateKey",
        "Gives a key a new text, which is in this answer and nowhere else; the old ones work on to the end of their overlaps",
        &ROTATE_INPUT,
        &CREATED_KEY,
        rotate,
    )
    .access(Access::KEY_CHANGES),
    Route::post(
        "/api/keys/{id}/simulate",
        "simulateKey",
        "Whether a chat call of this key would be allowed now; no call, no charge, no trace",
        &SIMULATE_INPUT,
        &own::SIMULATION,
        simulate,
    )
    .reads()
    .access(Access::EVERYBODY_READS),
    Route::patch(
        "/api/keys/{id}",
        "changeKey",
        "Changes what is named of a key, its status among it",
        &KEY_CHANGE,
        &KEY,
        change,
    )
    .access(Access::KEY_CHANGES),
];

impl Resource for Key {
    fn view(call: &Call<'_>, stored: &Versioned<Self>) -> Value {
        let key = &*stored.document;
        let usable = usable::of(call.app, key);
        let shown = match call.member() {
            None => true,
            Some((_, AccountRole::Owner | AccountRole::Admin | AccountRole::Finance)) => true,
            Some((_, AccountRole::Developer | AccountRole::Viewer)) => own::shows_money(call, key),
        };
        json!({
            "id": key.id,
            "account": key.account,
            "name": key.name,
            "environment": key.environment,
            "masked": key.masked,
            "previous": key.replaced().map(previous_view).collect::<Vec<_>>(),
            "status": key.status,
            "status_note": key.status_note,
            "expires_at": key.expires_at,
            "schedule": key.schedule,
            "ip_ranges": key.ip_ranges,
            "group": key.group,
            "project": key.project,
            "member": key.member,
            "limits": limits::views_for_caller(&usable.limits, shown),
            "usable_now": own::usable_now(&usable, shown),
            "bound_by": own::bound_by(&usable),
            "rates": key.rates,
            "tasks": limits::task_terms_view(key.tasks.as_deref()),
            "policies": key.policies,
            "allowed": key.allowed,
            "created_at": key.created_at,
            "version": stored.version,
        })
    }
}

fn previous_view(text: &PreviousText) -> Value {
    json!({"masked": text.masked, "until": text.until})
}

fn list(call: &Call<'_>) -> Result<Reply, Problem> {
    let (owner, snapshot) = (call.asked_account()?.map(Owner::Account), call.app.directory.snapshot_owned());
    resource::list_of(call, owner, snapshot.keys().filter(|key| is_there(call, key)))
}

/// Developers have their own keys alone.
pub fn is_there(call: &Call<'_>, key: &Key) -> bool {
    match call.member() {
        Some((member, AccountRole::Developer)) => key.member == Some(member),
        _ => true,
    }
}

/// A key that is there for who calls.
pub fn found(call: &Call<'_>) -> Result<Versioned<Key>, Problem> {
    let stored = resource::found::<Key>(call)?;
    readable(call, &stored)?;
    Ok(stored)
}

pub fn readable(call: &Call<'_>, stored: &Versioned<Key>) -> Result<(), Problem> {
    if is_there(call, &stored.document) { Ok(()) } else { Err(Problem::NotFound) }
}

fn create(call: &Call<'_>) -> Result<Reply, Problem> {
    let fields = call.fields();
    let account = call.account_of_new()?;
    let environment = fields.one_of("environment")?.unwrap_or(Environment::Live);
    let import = fields.text("import").map(Secret::new);
    let edit = |key: &mut Key| apply(call, key, &fields);
    let created =
        call.app.directory.create_key(&call.actor(), KeyOrder { account, environment }, import, &edit)?;
    Ok(Reply::created(with_text(call, &created)).at(created.key.version))
}

fn leaked(call: &Call<'_>) -> Result<Reply, Problem> {
    let fields = call.fields();
    let texts: Vec<&str> = fields.list("keys").unwrap_or_default().iter().filter_map(Value::as_str).collect();
    if texts.is_empty() || texts.len() > LEAKED_MAX {
        return Err(FieldError::new("keys", "must be from 1 to 100 texts").into());
    }
    let source = fields.text("source").unwrap_or_default();
    let now = jiff::Timestamp::from_millisecond(call.app.clock.now_ms()).unwrap_or(jiff::Timestamp::MAX);
    let row = |text: &str| {
        let known = call.app.directory.match_key(text.as_bytes(), call.app.clock.now_ms());
        let frozen = known.as_ref().filter(|found| !found.is_replaced).map(|found| {
            let evidence = json!({"source": source, "reported_by": call.actor()});
            let finding = Finding { key: found.key.id, reason: StatusReason::LeakedKey, evidence };
            risk::freeze(&call.app.directory, &finding, now)
        });
        Ok(json!({
            "masked": crate::keytext::mask(text),
            "key": known.map(|found| found.key.id),
            "frozen": frozen.transpose()?.flatten().is_some(),
        }))
    };
    let rows: Result<Vec<_>, Problem> = texts.into_iter().map(row).collect();
    Ok(Reply::ok(json!({"data": rows?})))
}

fn rotate(call: &Call<'_>) -> Result<Reply, Problem> {
    let id = found(call)?.document.id;
    let fields = call.fields();
    let rotation = Rotation {
        overlap_s: fields.number("overlap_seconds")?.unwrap_or(DAY_S),
        end_older: fields.boolean("end_older").unwrap_or(false),
    };
    let rotated = call.app.directory.rotate_key(&call.actor(), id, call.expected, rotation)?;
    Ok(Reply::ok(with_text(call, &rotated)).at(rotated.key.version))
}

fn with_text(call: &Call<'_>, created: &CreatedKey) -> Value {
    let mut body = Key::view(call, &created.key);
    if let Value::Object(body) = &mut body {
        body.insert("key".into(), created.text.expose().into());
        body.insert("notices".into(), notices(call, &created.key.document));
    }
    body
}

fn get(call: &Call<'_>) -> Result<Reply, Problem> {
    let stored = found(call)?;
    Ok(resource::shown(call, &stored))
}

/// What has a size.
const MADE: [Unit; 2] = [Unit::Second, Unit::Image];

/// The smallest body that a call can have at the endpoint, unless more is said.
fn simulate(call: &Call<'_>) -> Result<Reply, Problem> {
    let fields = call.fields();
    let key = found(call)?.document;
    let path = fields.text("endpoint").unwrap_or("chat/completions");
    let endpoint = identify::call_at(path)
        .filter(|endpoint| !endpoint.is_count())
        .ok_or_else(|| FieldError::new("endpoint", format!("no call is taken at `{path}`")))?;
    let (model, text) = (fields.text("model").unwrap_or_default(), fields.text("text").unwrap_or("Hello"));
    for (field, units) in [("seconds", &[Unit::Second][..]), ("size", &MADE), ("quality", &[Unit::Image])] {
        let is_made = !endpoint.takes_form() && endpoint.unit().is_some_and(|unit| units.contains(&unit));
        if fields.has(field) && !is_made {
            return Err(FieldError::new(field, format!("is nothing that a call at `{path}` says")).into());
        }
    }
    let asked = Sample::smallest(endpoint, model, text)
        .capped(fields.integer("max_tokens"))
        .with("seconds", fields.integer("seconds").map(|seconds| seconds.to_string()))
        .with("size", fields.text("size"))
        .with("quality", fields.text("quality"));
    let address = fields.parsed("address")?;
    Reply::of(&simulate::call(call.app, &key, &asked, address, Audience::Operator, call.language))
}

fn change(call: &Call<'_>) -> Result<Reply, Problem> {
    let (id, fields) = (found(call)?.document.id.raw(), call.fields());
    member_may(call, &fields)?;
    let edit = |key: &mut Key| apply(call, key, &fields);
    Ok(resource::shown(call, &call.edit(id, &edit)?))
}

/// Says of each limit that lets no call pass that it does (C6).
fn notices(call: &Call<'_>, key: &Key) -> Value {
    let cheapest = usable::cheapest_call(call.app, key);
    let notice = |(at, limit): (usize, &Limit)| {
        let field = format!("limits[{at}].value");
        if limit.value.0 == 0 {
            return Some(json!({
                "code": "limit_zero",
                "field": field,
                "message": call.words(
                    "The limit is 0: every call of this key that it is for will be refused.",
                    "该限额为 0：此 Key 受其限制的所有调用都会被拒绝。",
                ),
            }));
        }
        let is_low = |cost: ledger::Nano| limit.metric == Metric::Spend && !limit.tasks && limit.value < cost;
        let (cost, model) = cheapest.as_ref().filter(|(cost, _)| is_low(*cost))?;
        let message = match call.language {
            crate::catalogue::Language::Zh => {
                format!("限额 {} 低于最便宜的模型（{model}）一次最小调用的冻结金额 {cost}。", limit.value)
            }
            crate::catalogue::Language::En => {
                format!(
                    "The limit {} is less than what the smallest call of the cheapest model ({model}) holds: {cost}.",
                    limit.value
                )
            }
        };
        Some(json!({"code": "limit_low", "field": field, "message": message}))
    };
    Value::Array(key.limits.iter().enumerate().filter_map(notice).collect())
}
