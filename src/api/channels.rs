//! `/api/channels`: where calls are sent to. The provider's key goes in and never comes out.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::channel_credit::Seen;
use crate::directory::{
    Channel, ChannelStatus, CostPrice, CreditCheck, DirectoryError, FieldError, TaskApi, Versioned, decimal,
};
use crate::explain::time_text;
use crate::gateway::channel_test;
use crate::id::ChannelId;
use crate::secret::Secret;

use super::access::Access;
use super::prices::PER_MILLION;
use super::problem::Problem;
use super::resource::{self, Resource};
use super::route::{Call, PAGE, Param, Reply, Route};
use super::shape::{self, COUNT, Field, Fields, Kind, Need, Shape, field};

const PROVIDERS: Kind = Kind::OneOf(&["openai", "deepseek", "anthropic", "gemini"]);
const STATUS: Kind = Kind::OneOf(&["enabled", "disabled"]);
const ENVIRONMENT: Kind = Kind::OneOf(&["live", "test"]);
const CAP_FIELDS: Kind = Kind::OneOf(&["max_completion_tokens", "max_tokens"]);
const LIMIT: Kind = Kind::Integer { min: 1, max: 1_000_000 };
const WEIGHT: Kind = Kind::Integer { min: 0, max: 1_000_000 };
const KEPT: Kind = Kind::Integer { min: 1, max: 31_536_000 };
const TASK_STATE: Kind = Kind::OneOf(&["queued", "running", "succeeded", "failed", "cancelled"]);
const PRIORITY: Kind = Kind::Integer { min: -1_000_000, max: 1_000_000 };

static COST_PRICE: Shape = Shape {
    name: "CostPrice",
    fields: &[
        field!(
            "per_million",
            Kind::Object(&PER_MILLION),
            Required,
            "What a million tokens of each class cost the platform"
        ),
        field!("per_call", Kind::Money, Optional, "Added once per call; default: 0"),
    ],
};

const CREDIT_SOURCES: Kind =
    Kind::OneOf(&["deepseek_balance", "openrouter_credits", "billing_subscription", "json"]);

static CREDIT: Shape = Shape {
    name: "ChannelCreditCheck",
    fields: &[
        field!("source", CREDIT_SOURCES, Required, "How the upstream tells what is left of the credit there"),
        field!("path", Kind::Text, Optional, "Of json: the path behind the host that is asked by GET"),
        field!("pointer", Kind::Text, Optional, "Of json: where the amount stands in the answer (RFC 6901)"),
        field!(
            "alert_below",
            Kind::Money,
            Required,
            "Operators are told below it; in the upstream's currency"
        ),
    ],
};

static CREDIT_SEEN: Shape = Shape {
    name: "ChannelCredit",
    fields: &[
        field!("credential", COUNT, Required, "Number of the provider's key"),
        field!("remaining", Kind::Money, Nullable, "In the upstream's currency; null: never learnt"),
        field!("is_low", Kind::Bool, Required, "Below the channel's threshold"),
        field!("read_at", Kind::Time, Nullable, "When the upstream said so"),
        field!("fault", Kind::Text, Nullable, "Why the last question brought nothing"),
    ],
};

static CHANNEL: Shape = Shape {
    name: "Channel",
    fields: &[
        field!("id", Kind::Text, Required, "Public id, chn_…"),
        field!("name", Kind::Text, Required, "What people call it; unique"),
        field!("provider", PROVIDERS, Required, "Whose wire format it speaks"),
        field!("base_url", Kind::Text, Required, "Up to and including the version segment"),
        field!(
            "models",
            Kind::Map(&Kind::Text),
            Required,
            "Model as callers name it → as this upstream names it"
        ),
        field!(
            "groups",
            Kind::List(&Kind::Text),
            Required,
            "Ids of groups that may use it; empty: every group"
        ),
        field!("environments", Kind::List(&ENVIRONMENT), Required, "Keys that may use it"),
        field!("priority", PRIORITY, Required, "Higher is tried first"),
        field!("weight", WEIGHT, Required, "Its share of the calls among channels of the same priority"),
        field!("status", STATUS, Required, "A disabled channel gets no new calls"),
        field!("output_cap_field", CAP_FIELDS, Required, "Field through which it takes its output cap"),
        field!("provider_keys", COUNT, Required, "How many of the provider's keys it has"),
        field!("cools_down", Kind::Bool, Required, "Whether it rests after failures"),
        field!("proxy", Kind::Text, Nullable, "HTTP proxy through which it is reached; null: none"),
        field!("concurrency", COUNT, Nullable, "Calls at a time of one process; null: no limit"),
        field!("requests_per_minute", COUNT, Nullable, "Calls in a minute of one process; null: no limit"),
        field!(
            "cost_share",
            Kind::Multiplier,
            Nullable,
            "What it bills, as a share of the models' prices; null: not known"
        ),
        field!(
            "cost_prices",
            Kind::Map(&Kind::Object(&COST_PRICE)),
            Required,
            "What it bills for single models"
        ),
        field!("credit", Kind::Object(&CREDIT), Nullable, "How its credit is watched; null: it is not"),
        field!(
            "task_api",
            Kind::Object(&TASK_API),
            Nullable,
            "How it speaks of tasks; null: as OpenAI's APIs do"
        ),
        field!("created_at", Kind::Time, Required, "When it was made"),
        field!("version", COUNT, Required, "Name it in a change to be told of a conflict"),
    ],
};

const METHOD: Kind = Kind::OneOf(&["GET", "POST", "PUT", "DELETE"]);

static ASKED: Shape = Shape {
    name: "TaskQuestion",
    fields: &[
        field!("method", METHOD, Optional, "Default: POST; of a poll without a body GET"),
        field!("path", Kind::Text, Required, "Below base_url; {id}: the upstream's name of the task"),
        field!("headers", Kind::Map(&Kind::Text), Optional, "Beside those of every question"),
        field!("body", Kind::Any, Optional, "A template: an object of JSON"),
    ],
};

static MAPPING: Shape = Shape {
    name: "TaskMapping",
    fields: &[
        field!("submit", Kind::Object(&ASKED), Required, "How a task is submitted"),
        field!(
            "id",
            Kind::Text,
            Required,
            "Place of the upstream's name of it: a JSON pointer, as those below"
        ),
        field!("poll", Kind::Object(&ASKED), Required, "How it is asked about"),
        field!("cancel", Kind::Object(&ASKED), Optional, "How it is cancelled; default: it cannot be"),
        field!("state", Kind::Text, Required, "Place of where it stands"),
        field!("states", Kind::Map(&TASK_STATE), Required, "The upstream's words for that"),
        field!("progress", Kind::Text, Optional, "Place of the percent that are done"),
        field!(
            "results",
            Kind::List(&Kind::Text),
            Required,
            "Places of the addresses of what was made; * stands for every element of a list"
        ),
        field!("expires_at", Kind::Text, Optional, "Place of when they are no longer there"),
        field!("kept_seconds", KEPT, Optional, "For how long they are, where nothing tells; default: 3600"),
        field!("failure_code", Kind::Text, Optional, "Place of a word for why it failed"),
        field!("failure_message", Kind::Text, Optional, "Place of the reason in words"),
        field!("used", Kind::Text, Optional, "Place of how many seconds, or pictures, were made"),
        field!("cost", Kind::Text, Optional, "Place of what the upstream bills, in the ledger currency"),
    ],
};

static TASK_API: Shape = Shape {
    name: "TaskApi",
    fields: &[
        field!("credential_header", Kind::Text, Optional, "Where the key goes; default: authorization"),
        field!(
            "credential_prefix",
            Kind::Text,
            Optional,
            "What stands before it; default: Bearer in authorization, else nothing"
        ),
        field!("video", Kind::Object(&MAPPING), Optional, "How it makes videos; default: as OpenAI does"),
        field!("image", Kind::Object(&MAPPING), Optional, "How it makes pictures; default: as OpenAI does"),
    ],
};

static HEALTH: Shape = Shape {
    name: "ChannelHealth",
    fields: &[field!("data", Kind::List(&Kind::Object(&CHANNEL_HEALTH)), Required, "Every channel, by name")],
};

static CHANNEL_HEALTH: Shape = Shape {
    name: "ChannelHealthRow",
    fields: &[
        field!("channel", Kind::Text, Required, "Its id"),
        field!("name", Kind::Text, Required, "Its name"),
        field!(
            "state",
            Kind::OneOf(&["healthy", "failing", "cooling_down", "disabled"]),
            Required,
            "failing: some calls fail, none of its models or credentials rests"
        ),
        field!("running", COUNT, Required, "Calls that have a place of it; counted where it has a limit"),
        field!("answered", COUNT, Required, "Calls since the process started"),
        field!("failed", COUNT, Required, "Failed attempts since the process started"),
        field!("last_failure_at", Kind::Time, Nullable, "When the last attempt failed"),
        field!("last_failure", Kind::Text, Nullable, "Its code"),
        field!(
            "troubles",
            Kind::List(&Kind::Any),
            Required,
            "model or credential (its number), failures in a row, reason and until if it rests"
        ),
        field!(
            "credit",
            Kind::List(&Kind::Object(&CREDIT_SEEN)),
            Required,
            "What is left of the platform's credit there, where the upstream tells it"
        ),
    ],
};

static TEST: Shape = Shape {
    name: "ChannelTest",
    fields: &[
        field!(
            "model",
            Kind::Text,
            Optional,
            "One that the channel serves, as callers name it; default: the first"
        ),
        field!("credential", LIMIT, Optional, "Number of the provider's key to use; default: 1"),
    ],
};

static TESTED: Shape = Shape {
    name: "ChannelTested",
    fields: &[
        field!("channel", Kind::Text, Required, "Its id"),
        field!("model", Kind::Text, Required, "As callers name it"),
        field!("credential", COUNT, Required, "Number of the provider's key that was used"),
        field!("works", Kind::Bool, Required, "Whether a good answer came"),
        field!("status", COUNT, Nullable, "What the upstream answered; null: nothing came"),
        field!("latency_ms", COUNT, Required, "Until the answer was there"),
        field!("code", Kind::Text, Nullable, "What is wrong, as callers would be told"),
        field!("text", Kind::Text, Nullable, "The upstream's own words, or what happened on the way"),
        field!("upstream_request_id", Kind::Text, Nullable, "The upstream's own id of the call"),
    ],
};

pub static CHANNEL_INPUT: Shape = Shape {
    name: "ChannelInput",
    fields: &[
        field!("name", Kind::Text, Required, "What people call it; unique"),
        field!("provider", PROVIDERS, Optional, "Whose wire format it speaks; default: openai"),
        field!(
            "base_url",
            Kind::Text,
            Required,
            "Up to and including the version segment, without a slash at the end"
        ),
        field!("credential", Kind::Secret, Optional, "The provider's key; sealed and never shown again"),
        field!(
            "credentials",
            Kind::List(&Kind::Secret),
            Optional,
            "Several keys of the provider, in the place of one: calls take turns with those that work"
        ),
        field!(
            "models",
            Kind::Map(&Kind::Text),
            Required,
            "Model as callers name it → as this upstream names it"
        ),
        field!(
            "groups",
            Kind::List(&Kind::Text),
            Optional,
            "Ids of groups that may use it; empty: every group"
        ),
        field!("environments", Kind::List(&ENVIRONMENT), Optional, "Keys that may use it; default: live"),
        field!("priority", PRIORITY, Optional, "Higher is tried first; default: 0"),
        field!(
            "weight",
            WEIGHT,
            Optional,
            "Its share of the calls among channels of the same priority; 0: only where no other of them can; default: 1"
        ),
        field!("status", STATUS, Optional, "Default: enabled"),
        field!("output_cap_field", CAP_FIELDS, Optional, "Default: max_completion_tokens"),
        field!(
            "cools_down",
            Kind::Bool,
            Optional,
            "Whether it rests after failures; one that does not is tried whatever happened; default: true"
        ),
        field!(
            "proxy",
            Kind::Text,
            OptionalNullable,
            "HTTP proxy (CONNECT) through which it is reached: http://host:port; null: none"
        ),
        field!("concurrency", LIMIT, OptionalNullable, "Calls at a time of one process; null: no limit"),
        field!(
            "requests_per_minute",
            LIMIT,
            OptionalNullable,
            "Calls in a minute of one process; null: no limit"
        ),
        field!(
            "cost_share",
            Kind::Multiplier,
            OptionalNullable,
            "What it bills, as a share of the models' prices (before any group's multiplier); null: not known"
        ),
        field!(
            "cost_prices",
            Kind::Map(&Kind::Object(&COST_PRICE)),
            Optional,
            "What it bills for single models, where that is no share of their price; replaces all"
        ),
        field!(
            "credit",
            Kind::Object(&CREDIT),
            OptionalNullable,
            "How the upstream tells what is left of the platform's credit there, and when that is too little; null: it is \
             not asked"
        ),
        field!(
            "task_api",
            Kind::Object(&TASK_API),
            OptionalNullable,
            "How it speaks of tasks, where that is in no known way; null: as OpenAI's APIs do"
        ),
        field!("version", COUNT, Optional, "In a change: the version that was seen"),
    ],
};

pub static ROUTES: &[Route] = &[
    Route::list(
        "/api/channels",
        "listChannels",
        "Channels in the order in which they were made",
        &CHANNEL,
        resource::list_named::<Channel>,
    )
    .access(Access::OPERATORS_READ)
    .query(&[Param { name: "name", about: "Only the channel of this name" }, PAGE[0], PAGE[1]]),
    Route::post("/api/channels", "createChannel", "Makes a channel", &CHANNEL_INPUT, &CHANNEL, create),
    Route::get(
        "/api/channels/health",
        "listChannelHealth",
        "How each channel does in the process that answers: what it learnt from the calls made through it",
        &HEALTH,
        health,
    )
    .access(Access::OPERATORS_READ),
    Route::get("/api/channels/{id}", "getChannel", "One channel", &CHANNEL, resource::get::<Channel>)
        .access(Access::OPERATORS_READ),
    Route::post(
        "/api/channels/{id}/test",
        "testChannel",
        "Sends one tiny real call through a channel; no account is charged for it",
        &TEST,
        &TESTED,
        test,
    ),
    Route::patch(
        "/api/channels/{id}",
        "changeChannel",
        "Changes what is named of a channel; calls on their way stay where they are",
        &CHANNEL_INPUT,
        &CHANNEL,
        change,
    ),
];

impl Resource for Channel {
    fn view(_call: &Call<'_>, stored: &Versioned<Self>) -> Value {
        let channel = &*stored.document;
        json!({
            "id": channel.id,
            "name": channel.name,
            "provider": channel.provider,
            "base_url": channel.base_url,
            "models": channel.models,
            "groups": channel.groups,
            "environments": channel.environments,
            "priority": channel.priority,
            "weight": channel.weight,
            "status": channel.status,
            "output_cap_field": channel.output_cap_field,
            "provider_keys": channel.credentials.len(),
            "cools_down": channel.cools_down,
            "proxy": channel.proxy,
            "concurrency": channel.concurrency,
            "requests_per_minute": channel.requests_per_minute,
            "cost_share": channel.cost_share_ppm.map(decimal::multiplier_text),
            "cost_prices": channel.cost_prices,
            "credit": channel.credit,
            "task_api": channel.task_api,
            "created_at": channel.created_at,
            "version": stored.version,
        })
    }
}

fn test(call: &Call<'_>) -> Result<Reply, Problem> {
    let channel = resource::found::<Channel>(call)?.document;
    let fields = call.fields();
    let served = || channel.models.keys().next().map_or("", |model| &**model);
    let model = fields.text("model").unwrap_or_else(served);
    if !channel.models.contains_key(model) {
        return Err(FieldError::new("model", "is not served by this channel").into());
    }
    let number = fields.number::<usize>("credential")?.unwrap_or(1);
    if number > channel.credentials.len() {
        return Err(FieldError::new("credential", "the channel has no key of this number").into());
    }
    let tested = channel_test::test(call.app, &channel, model, number - 1);
    let tested = tested.map_err(|why| FieldError::new("channel", format!("cannot be called: {why}")))?;
    Ok(Reply::ok(json!({
        "channel": channel.id,
        "model": model,
        "credential": number,
        "works": tested.fault.is_none(),
        "status": tested.status,
        "latency_ms": tested.latency_ms,
        "code": tested.fault,
        "text": tested.text,
        "upstream_request_id": tested.upstream_request,
    })))
}

fn health(call: &Call<'_>) -> Result<Reply, Problem> {
    let snapshot = call.app.directory.snapshot_owned();
    let mut channels: Vec<_> = snapshot.channels().collect();
    channels.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    let rows: Vec<_> = channels.into_iter().map(|channel| health_row(call, channel)).collect();
    Ok(Reply::ok(json!({"data": rows})))
}

fn health_row(call: &Call<'_>, channel: &Arc<Channel>) -> Value {
    let (now_ns, now_ms) = (call.app.clock.mono_ns(), call.app.clock.now_ms());
    let view = call.app.channels.of(channel).view(now_ns);
    let after = |left_ns: u64| time_text(now_ms.saturating_add(milliseconds(left_ns)));
    let troubles = view.troubles.iter().map(|trouble| {
        json!({
            "model": trouble.model,
            "credential": trouble.credential,
            "failures": trouble.failures,
            "reason": trouble.rest.map(|rest| rest.reason),
            "until": trouble.rest.map(|rest| after(rest.left_ns)),
        })
    });
    let state = match channel.status {
        ChannelStatus::Disabled => "disabled",
        ChannelStatus::Enabled if view.troubles.is_empty() => "healthy",
        ChannelStatus::Enabled if view.troubles.iter().all(|trouble| trouble.rest.is_none()) => "failing",
        ChannelStatus::Enabled => "cooling_down",
    };
    let failed_at = |(ago_ns, _)| time_text(now_ms.saturating_sub(milliseconds(ago_ns)));
    json!({
        "channel": channel.id,
        "name": channel.name,
        "state": state,
        "running": view.running,
        "answered": view.answered,
        "failed": view.failed,
        "last_failure_at": view.last_failure.map(failed_at),
        "last_failure": view.last_failure.map(|(_, code)| code),
        "troubles": troubles.collect::<Vec<_>>(),
        "credit": credit_rows(call, channel),
    })
}

fn credit_rows(call: &Call<'_>, channel: &Channel) -> Vec<Value> {
    let threshold = channel.credit.as_ref().map(|check| check.alert_below);
    let row = |seen: Seen| {
        json!({
            "credential": seen.credential,
            "remaining": seen.remaining.map(|left| left.to_string()),
            "is_low": seen.remaining.zip(threshold).is_some_and(|(left, threshold)| left < threshold),
            "read_at": seen.read_ms.map(time_text),
            "fault": seen.fault,
        })
    };
    call.app.credit.of(channel).into_iter().map(row).collect()
}

fn milliseconds(ns: u64) -> i64 {
    i64::try_from(ns / 1_000_000).unwrap_or(i64::MAX)
}

pub fn credentials(fields: &Fields<'_>) -> Result<Option<Vec<Secret>>, FieldError> {
    match (fields.text("credential"), fields.list("credentials")) {
        (None, None) => Ok(None),
        (Some(one), None) => Ok(Some(vec![Secret::new(one)])),
        (None, Some(several)) => {
            Ok(Some(several.iter().map(|text| Secret::new(text.as_str().unwrap_or_default())).collect()))
        }
        (Some(_), Some(_)) => {
            Err(FieldError::new("credentials", "cannot be given beside credential: name all of them here"))
        }
    }
}

fn create(call: &Call<'_>) -> Result<Reply, Problem> {
    let fields = call.fields();
    let credentials = credentials(&fields)?.ok_or_else(|| FieldError::new("credential", "is missing"))?;
    let edit = |channel: &mut Channel| apply(channel, &fields);
    let created = call.app.directory.create_channel(&call.actor(), &credentials, &edit)?;
    Ok(resource::created(call, &created))
}

fn change(call: &Call<'_>) -> Result<Reply, Problem> {
    let (id, fields) = (call.path_id::<ChannelId>("id")?, call.fields());
    let edit = |channel: &mut Channel| apply(channel, &fields);
    let credentials = credentials(&fields)?;
    let stored =
        call.app.directory.edit_channel(&call.actor(), id, call.expected, credentials.as_deref(), &edit)?;
    Ok(resource::shown(call, &stored))
}

pub fn apply(channel: &mut Channel, fields: &Fields<'_>) -> Result<(), DirectoryError> {
    if let Some(name) = fields.text("name") {
        channel.name = name.into();
    }
    if let Some(provider) = fields.one_of("provider")? {
        channel.provider = provider;
    }
    if let Some(url) = fields.text("base_url") {
        channel.base_url = url.into();
    }
    if let Some(models) = fields.object("models") {
        let sent = models
            .iter()
            .map(|(asked, sent)| (asked.as_str().into(), sent.as_str().unwrap_or_default().into()));
        channel.models = sent.collect::<BTreeMap<_, _>>();
    }
    if let Some(groups) = fields.list("groups") {
        channel.groups =
            all("groups", groups, |field, text| shape::parse(field, text.as_str().unwrap_or_default()))?;
    }
    if let Some(environments) = fields.list("environments") {
        channel.environments = all("environments", environments, shape::named)?;
    }
    if let Some(priority) = fields.number("priority")? {
        channel.priority = priority;
    }
    if let Some(weight) = fields.number("weight")? {
        channel.weight = weight;
    }
    if let Some(status) = fields.one_of("status")? {
        channel.status = status;
    }
    if let Some(field) = fields.one_of("output_cap_field")? {
        channel.output_cap_field = field;
    }
    if let Some(cools_down) = fields.boolean("cools_down") {
        channel.cools_down = cools_down;
    }
    if let Some(proxy) = fields.nullable_text("proxy") {
        channel.proxy = proxy.map(Into::into);
    }
    match fields.value("task_api") {
        None => {}
        Some(Value::Null) => channel.task_api = None,
        Some(api) => channel.task_api = Some(Box::new(shape::named::<TaskApi>("task_api", api)?)),
    }
    apply_limits(channel, fields)?;
    apply_costs(channel, fields)
}

fn apply_limits(channel: &mut Channel, fields: &Fields<'_>) -> Result<(), DirectoryError> {
    if let Some(limit) = nullable_count(fields, "concurrency")? {
        channel.concurrency = limit;
    }
    if let Some(limit) = nullable_count(fields, "requests_per_minute")? {
        channel.requests_per_minute = limit;
    }
    Ok(())
}

/// `Some(None)`: null was sent, so there is no limit.
fn nullable_count(fields: &Fields<'_>, name: &str) -> Result<Option<Option<u32>>, FieldError> {
    match fields.value(name) {
        None => Ok(None),
        Some(Value::Null) => Ok(Some(None)),
        Some(_) => Ok(Some(fields.number(name)?)),
    }
}

fn apply_costs(channel: &mut Channel, fields: &Fields<'_>) -> Result<(), DirectoryError> {
    if let Some(share) = fields.nullable_text("cost_share") {
        let read = |text: &str| {
            decimal::parse_multiplier(text)
                .ok_or_else(|| FieldError::new("cost_share", "is not a multiplier"))
        };
        channel.cost_share_ppm = share.map(read).transpose()?;
    }
    if let Some(prices) = fields.object("cost_prices") {
        let read = |(model, price): (&String, &Value)| {
            Ok((model.as_str().into(), shape::named::<CostPrice>(&format!("cost_prices.{model}"), price)?))
        };
        channel.cost_prices = prices.iter().map(read).collect::<Result<_, FieldError>>()?;
    }
    match fields.value("credit") {
        None => {}
        Some(Value::Null) => channel.credit = None,
        Some(check) => channel.credit = Some(shape::named::<CreditCheck>("credit", check)?),
    }
    Ok(())
}

/// Reads every value of a list; a fault names its place.
fn all<T>(
    field: &str,
    values: &[Value],
    read: impl Fn(&str, &Value) -> Result<T, FieldError>,
) -> Result<Vec<T>, FieldError> {
    values.iter().enumerate().map(|(at, value)| read(&format!("{field}[{at}]"), value)).collect()
}
