//! `/api/keys`: callers' keys. A key's text is in the answer to its creation and nowhere else.

use std::sync::Arc;

use ledger::Unit;
use serde_json::{Value, json};

use crate::address;
use crate::directory::documents::PreviousText;
use crate::directory::{
    AccountRole, CreatedKey, DirectoryError, Environment, FieldError, Key, KeyOrder, KeyStatus, Limit,
    Metric, Owner, Rotation, StatusNote, StatusOrigin, StatusReason, Versioned,
};
use crate::explain::simulate;
use crate::explain::usable;
use crate::explain::why::Audience;
use crate::gateway::identify;
use crate::gateway::request::Sample;
use crate::id::GroupId;
use crate::risk::{self, Finding};
use crate::secret::Secret;

use super::access::{self, Access};
use super::problem::Problem;
use super::resource::{self, Resource};
use super::route::{Call, PAGE, Param, Reply, Route};
use super::shape::{self, COUNT, Field, Fields, Kind, Need, Shape, field};
use super::{limits, own};

const ENVIRONMENT: Kind = Kind::OneOf(&["live", "test"]);
const STATUS: Kind = Kind::OneOf(&["enabled", "disabled", "pending_review", "risk_frozen", "revoked"]);
const REASON: Kind = Kind::OneOf(&[
    "high_frequency",
    "cross_region",
    "leaked_key",
    "repeated_refusals",
    "appeal_approved",
    "operator",
    "owner",
]);

static ALLOWANCE: Shape = Shape {
    name: "Allowance",
    fields: &[
        field!(
            "endpoints",
            Kind::List(&Kind::Text),
            Optional,
            "Paths behind /v1/: chat/completions; empty: all"
        ),
        field!(
            "models",
            Kind::List(&Kind::Text),
            Optional,
            "Names, or beginnings of names with * behind; empty: all"
        ),
    ],
};
const ALLOWED: Kind = Kind::List(&Kind::Object(&ALLOWANCE));

static NOTICE: Shape = Shape {
    name: "KeyNotice",
    fields: &[
        field!("code", Kind::OneOf(&["limit_zero", "limit_low"]), Required, "Stable name of the notice"),
        field!("field", Kind::Text, Required, "What it is about"),
        field!("message", Kind::Text, Required, "In words"),
    ],
};

static PREVIOUS_TEXT: Shape = Shape {
    name: "PreviousText",
    fields: &[
        field!("masked", Kind::Text, Required, "Enough to recognise one's own key"),
        field!("until", Kind::Time, Required, "From then on it is refused as revoked"),
    ],
};
const PREVIOUS: Kind = Kind::List(&Kind::Object(&PREVIOUS_TEXT));

macro_rules! key_fields {
    ($($more:expr),*) => {
        &[
            field!("id", Kind::Text, Required, "Public id, key_…: names the key without being it"),
            field!("account", Kind::Text, Required, "Id of the account that pays"),
            field!("name", Kind::Text, Required, "What people call it"),
            field!("environment", ENVIRONMENT, Required, "A test key posts to test books"),
            field!("masked", Kind::Text, Required, "Enough to recognise one's own key"),
            field!("previous", PREVIOUS, Required, "Texts before the last rotations, newest first"),
            field!("status", STATUS, Required, "As it was set; a revoked key stays revoked"),
            field!("status_note", Kind::Any, Nullable, "Who set the status, why, since when, until when"),
            field!("expires_at", Kind::Time, Nullable, "From then on it is refused as expired"),
            field!("schedule", Kind::Any, Nullable, "When it may be used"),
            field!("ip_ranges", IP_RANGES, Required, "Where it may be used from; empty: anywhere"),
            field!("group", Kind::Text, Nullable, "Id of its group"),
            field!("project", Kind::Text, Nullable, "Id of its project"),
            field!("member", Kind::Text, Nullable, "Id of the member or service account whose key it is"),
            field!("limits", limits::USES, Required, "Every limit with its use"),
            field!("tasks", Kind::Object(&limits::TASK_TERMS), Nullable, "For image and video tasks alone"),
            field!("usable_now", Kind::Money, Nullable, "The least over all layers; null where it would tell more"),
            field!("bound_by", Kind::Object(&own::BOUND_BY), Required, "The purse that binds"),
            field!("rates", limits::RATES, Required, "How fast it may be used, as it was set"),
            field!("policies", Kind::List(&Kind::Text), Required, "Ids of its policies"),
            field!("allowed", ALLOWED, Required, "Models at endpoints that it may use; empty: all of its group"),
            field!("created_at", Kind::Time, Required, "When it was made"),
            field!("version", COUNT, Required, "Name it in a change to be told of a conflict"),
            $($more),*
        ]
    };
}

const IP_RANGES: Kind = Kind::List(&Kind::Text);

pub static KEY: Shape = Shape { name: "Key", fields: key_fields!() };

static CREATED_KEY: Shape = Shape {
    name: "CreatedKey",
    fields: key_fields!(
        field!("key", Kind::Secret, Required, "The key itself: shown this once"),
        field!(
            "notices",
            Kind::List(&Kind::Object(&NOTICE)),
            Required,
            "Limits under which no call can pass"
        )
    ),
};

static KEY_INPUT: Shape = Shape {
    name: "KeyInput",
    fields: &[
        field!("account", Kind::Text, Optional, "Id of the account that pays; members: their own"),
        field!("name", Kind::Text, Required, "What people call it"),
        field!("environment", ENVIRONMENT, Optional, "Default: live"),
        field!("group", Kind::Text, OptionalNullable, "Id of its group"),
        field!(
            "project",
            Kind::Text,
            OptionalNullable,
            "Id of its project; default: the account's own default"
        ),
        field!("member", Kind::Text, OptionalNullable, "Id of the member or service account whose key it is"),
        field!("limits", limits::INPUT, Optional, "Spend and daily calls, over all models or of one"),
        field!("rates", limits::RATES, Optional, "How fast it may be used"),
        field!(
            "tasks",
            Kind::Object(&limits::TASK_TERMS),
            OptionalNullable,
            "For image and video tasks alone; null: nothing"
        ),
        field!("allowed", ALLOWED, Optional, "Models at endpoints that it may use; empty: all of its group"),
        field!("policies", Kind::List(&Kind::Text), Optional, "Ids of its policies; replaces all"),
        field!("expires_at", Kind::Time, OptionalNullable, "From then on it is refused as expired"),
        field!("schedule", Kind::Object(&limits::SCHEDULE), OptionalNullable, "When it may be used"),
        field!("ip_ranges", IP_RANGES, Optional, "CIDR ranges that it may be used from; empty: anywhere"),
        field!("import", Kind::Secret, Optional, "Text of a key from elsewhere that is to work here as well"),
    ],
};

static KEY_CHANGE: Shape = Shape {
    name: "KeyChange",
    fields: &[
        field!("name", Kind::Text, Required, "What people call it"),
        field!("group", Kind::Text, OptionalNullable, "Id of its group"),
        field!("project", Kind::Text, OptionalNullable, "Id of its project"),
        field!("member", Kind::Text, OptionalNullable, "Id of the member or service account whose key it is"),
        field!("limits", limits::INPUT, Optional, "Replaces all limits"),
        field!("rates", limits::RATES, Optional, "Replaces all rates"),
        field!(
            "tasks",
            Kind::Object(&limits::TASK_TERMS),
            OptionalNullable,
            "For image and video tasks alone; null: nothing"
        ),
        field!("allowed", ALLOWED, Optional, "Replaces the whole list"),
        field!("policies", Kind::List(&Kind::Text), Optional, "Ids of its policies; replaces all"),
        field!("expires_at", Kind::Time, OptionalNullable, "From then on it is refused as expired"),
        field!("schedule", Kind::Object(&limits::SCHEDULE), OptionalNullable, "When it may be used"),
        field!("ip_ranges", IP_RANGES, Optional, "Replaces all of them"),
        field!("status", STATUS, Optional, "`revoked` is for ever"),
        field!("status_reason", REASON, Optional, "With a status: why; default: operator"),
        field!("status_text", Kind::Text, OptionalNullable, "With a status: why, for people"),
        field!("status_until", Kind::Time, OptionalNullable, "With a status: it ends by itself then"),
        field!("version", COUNT, Optional, "The version that was seen"),
    ],
};

static LEAKED_INPUT: Shape = Shape {
    name: "LeakReport",
    fields: &[
        field!("keys", Kind::List(&Kind::Secret), Required, "Texts, at most 100; they are not kept"),
        field!("source", Kind::Text, Required, "Where they were found, for the evidence"),
    ],
};

static LEAKED_KEY: Shape = Shape {
    name: "LeakedKey",
    fields: &[
        field!("masked", Kind::Text, Required, "Enough to recognise the text"),
        field!("key", Kind::Text, Nullable, "Id of the key; null: it is none of ours"),
        field!("frozen", Kind::Bool, Required, "False: it was not enabled, or is none of ours"),
    ],
};
static LEAKED: Shape = Shape {
    name: "LeakedKeys",
    fields: &[field!("data", Kind::List(&Kind::Object(&LEAKED_KEY)), Required, "In the order of the texts")],
};
const LEAKED_MAX: usize = 100;

static ROTATE_INPUT: Shape = Shape {
    name: "KeyRotation",
    fields: &[
        field!("overlap_seconds", OVERLAP, Optional, "How long the present text works on; default: a day"),
        field!(
            "end_older",
            Kind::Bool,
            Optional,
            "Texts of earlier rotations end now; default: they end as promised"
        ),
        field!("version", COUNT, Optional, "The version that was seen"),
    ],
};
const DAY_S: u32 = 86_400;
const OVERLAP: Kind = Kind::Integer { min: 0, max: 30 * DAY_S as i64 };

static SIMULATE_INPUT: Shape = Shape {
    name: "KeySimulation",
    fields: &[
        field!(
            "endpoint",
            Kind::Text,
            Optional,
            "Path behind /v1/ that is called; default: chat/completions"
        ),
        field!("model", Kind::Text, Required, "As a caller would name it"),
        field!("text", Kind::Text, Optional, "What would be asked; its length counts. Default: Hello"),
        field!(
            "max_tokens",
            Kind::Integer { min: 1, max: u32::MAX as i64 },
            Optional,
            "As a caller would cap it"
        ),
        field!(
            "seconds",
            Kind::Integer { min: 1, max: 3_600 },
            Optional,
            "How long a video would be; default: as of a call that does not say it"
        ),
        field!(
            "size",
            Kind::Text,
            Optional,
            "Of a video or a picture, such as 1280x720; default: as of a call that does not say it"
        ),
        field!("quality", Kind::Text, Optional, "Of a picture"),
        field!("address", Kind::Text, Optional, "Where the call would come from"),
    ],
};

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

fn apply(call: &Call<'_>, key: &mut Key, fields: &Fields<'_>) -> Result<(), DirectoryError> {
    if let Some(name) = fields.text("name") {
        key.name = name.into();
    }
    if let Some(group) = fields.nullable_parsed("group")? {
        may_regroup(call, key, group)?;
        key.group = group;
    }
    if let Some(project) = fields.nullable_parsed("project")? {
        let account =
            call.app.directory.snapshot().account(key.account).map(|entry| Arc::clone(&entry.account));
        key.project = project.or_else(|| account?.default_project);
    }
    if let Some(member) = fields.nullable_parsed("member")? {
        key.member = member;
    }
    if let Some((member, AccountRole::Developer)) = call.member() {
        key.member = Some(member);
    }
    if let Some(limits) = fields.list("limits") {
        limits::replace(call, &mut key.limits, limits)?;
    }
    if let Some(rates) = fields.list("rates") {
        limits::replace_rates(call, &mut key.rates, rates)?;
    }
    if fields.has("tasks") {
        key.tasks = fields.one_of::<Option<_>>("tasks")?.flatten();
    }
    if let Some(policies) = fields.list("policies") {
        key.policies = shape::decode("policies", policies)?;
    }
    if let Some(allowed) = fields.list("allowed") {
        key.allowed = shape::decode("allowed", allowed)?;
    }
    if let Some(end) = fields.nullable_parsed("expires_at")? {
        key.expires_at = end;
    }
    if fields.has("schedule") {
        key.schedule = fields.one_of::<Option<_>>("schedule")?.flatten();
    }
    if let Some(ranges) = fields.list("ip_ranges") {
        key.ip_ranges = shape::decode("ip_ranges", ranges)?;
        for (at, range) in key.ip_ranges.iter_mut().enumerate() {
            let fold = address::folded(*range);
            *range = fold.map_err(|why| FieldError::new(format!("ip_ranges[{at}]"), why))?;
        }
    }
    status(call, key, fields)
}

/// A group has a price and a quota: a member moves a key only between those that operators granted to its account,
/// and none.
fn may_regroup(call: &Call<'_>, key: &Key, group: Option<GroupId>) -> Result<(), DirectoryError> {
    if call.member().is_none() || group == key.group {
        return Ok(());
    }
    let snapshot = call.app.directory.snapshot();
    let granted = snapshot.account(key.account).map_or(&[][..], |entry| &entry.account.groups);
    match [key.group, group].into_iter().flatten().find(|group| !granted.contains(group)) {
        None => Ok(()),
        Some(other) => Err(DirectoryError::Forbidden {
            action: format!("to set group: {other} was not granted to the account"),
        }),
    }
}

/// What the platform set, its owner does not lift: an appeal does.
fn member_may(call: &Call<'_>, fields: &Fields<'_>) -> Result<(), Problem> {
    let (Some(_), Some(status)) = (call.member(), fields.one_of::<KeyStatus>("status")?) else {
        return Ok(());
    };
    let key = found(call)?.document;
    let now = jiff::Timestamp::from_millisecond(call.app.clock.now_ms()).unwrap_or(jiff::Timestamp::MAX);
    let set_by = key.status_note.as_ref().map(|note| note.origin);
    let is_above = key.status_at(now) != KeyStatus::Enabled && set_by != Some(StatusOrigin::Owner);
    match status {
        KeyStatus::RiskFrozen | KeyStatus::PendingReview => Err(access::forbidden("to set this status")),
        KeyStatus::Enabled | KeyStatus::Disabled if is_above => {
            Err(access::forbidden("to lift what the platform set; an appeal can"))
        }
        _ => Ok(()),
    }
}

/// A status is set with who set it and why; without a change of status there is nothing to give reasons for.
fn status(call: &Call<'_>, key: &mut Key, fields: &Fields<'_>) -> Result<(), DirectoryError> {
    let Some(status) = fields.one_of::<KeyStatus>("status")? else {
        let orphan =
            ["status_reason", "status_text", "status_until"].into_iter().find(|name| fields.has(name));
        return orphan.map_or(Ok(()), |name| Err(FieldError::new(name, "goes with `status`").into()));
    };
    let now = jiff::Timestamp::from_millisecond(call.app.clock.now_ms());
    let until = fields.nullable_parsed("status_until")?.flatten();
    if until.is_some() && matches!(status, KeyStatus::Enabled | KeyStatus::Revoked) {
        return Err(FieldError::new("status_until", "goes with a status that can end by itself").into());
    }
    key.status = status;
    key.status_note = Some(Box::new(StatusNote {
        origin: if call.member().is_some() { StatusOrigin::Owner } else { StatusOrigin::Operator },
        reason: fields.one_of("status_reason")?.unwrap_or(match call.member() {
            Some(_) => StatusReason::Owner,
            None => StatusReason::Operator,
        }),
        since: now
            .map_err(|_| FieldError::new("status", "cannot be set: the clock is beyond the calendar"))?,
        until,
        text: fields.text("status_text").map(Into::into),
        evidence: None,
    }));
    Ok(())
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
        let is_low = |cost: ledger::Nano| limit.metric == Metric::Spend && limit.value < cost;
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
