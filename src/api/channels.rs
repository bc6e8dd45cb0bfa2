//! `/api/channels`: where calls are sent to. The provider's key goes in and never comes out.

mod fields;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::channel_credit::Seen;
use crate::directory::{
    Channel, ChannelStatus, CostPrice, CreditCheck, DirectoryError, FieldError, TaskApi, Versioned, decimal,
};
use crate::explain::time_text;
use crate::gateway::channel_test::{self, Untestable};
use crate::id::ChannelId;
use crate::secret::Secret;

pub use fields::CHANNEL_INPUT;
use fields::{CHANNEL, HEALTH, TEST, TESTED};

use super::access::Access;
use super::problem::Problem;
use super::resource::{self, Resource};
use super::route::{Call, PAGE, Param, Reply, Route};
use super::shape::{self, Fields};

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
        "Sends one tiny real call through a channel, for which no account is charged; for a model whose calls are tasks, asks for the list of models",
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

/// What can be done instead.
const UNTESTABLE_TASK: &str = "is made as a task, which the upstream bills, and what is free cannot be asked of this upstream: \
     test another model of the channel, or submit the shortest task with a key";

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
    let tested = tested.map_err(|why| match why {
        Untestable::Channel(why) => FieldError::new("channel", format!("cannot be called: {why}")),
        Untestable::Task => FieldError::new("model", UNTESTABLE_TASK),
    })?;
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
