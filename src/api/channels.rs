//! `/api/channels`: where calls are sent to. The provider's key goes in and never comes out.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::directory::{Channel, DirectoryError, FieldError, Versioned};
use crate::id::ChannelId;
use crate::secret::Secret;

use super::access::Access;
use super::problem::Problem;
use super::resource::{self, Resource};
use super::route::{Call, PAGE, Param, Reply, Route};
use super::shape::{self, COUNT, Field, Fields, Kind, Need, Shape, field};

const PROVIDERS: Kind = Kind::OneOf(&["openai"]);
const STATUS: Kind = Kind::OneOf(&["enabled", "disabled"]);
const ENVIRONMENT: Kind = Kind::OneOf(&["live", "test"]);
const CAP_FIELDS: Kind = Kind::OneOf(&["max_completion_tokens", "max_tokens"]);
const WEIGHT: Kind = Kind::Integer { min: 0, max: 1_000_000 };
const PRIORITY: Kind = Kind::Integer { min: -1_000_000, max: 1_000_000 };

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
        field!("created_at", Kind::Time, Required, "When it was made"),
        field!("version", COUNT, Required, "Name it in a change to be told of a conflict"),
    ],
};

static CHANNEL_INPUT: Shape = Shape {
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
        field!("credential", Kind::Secret, Required, "The provider's key; sealed and never shown again"),
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
    Route::get("/api/channels/{id}", "getChannel", "One channel", &CHANNEL, resource::get::<Channel>)
        .access(Access::OPERATORS_READ),
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
            "created_at": channel.created_at,
            "version": stored.version,
        })
    }
}

fn credential(fields: &Fields<'_>) -> Option<Secret> {
    fields.text("credential").map(Secret::new)
}

fn create(call: &Call<'_>) -> Result<Reply, Problem> {
    let fields = call.fields();
    let credential = credential(&fields).ok_or_else(|| FieldError::new("credential", "is missing"))?;
    let edit = |channel: &mut Channel| apply(channel, &fields);
    let created = call.app.directory.create_channel(&call.actor(), &credential, &edit)?;
    Ok(resource::created(call, &created))
}

fn change(call: &Call<'_>) -> Result<Reply, Problem> {
    let (id, fields) = (call.path_id::<ChannelId>("id")?, call.fields());
    let edit = |channel: &mut Channel| apply(channel, &fields);
    let credential = credential(&fields);
    let stored =
        call.app.directory.edit_channel(&call.actor(), id, call.expected, credential.as_ref(), &edit)?;
    Ok(resource::shown(call, &stored))
}

fn apply(channel: &mut Channel, fields: &Fields<'_>) -> Result<(), DirectoryError> {
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
