//! `/api/groups`: which channels a key may reach, at which multiple of the price.
//!
//! A member sees the groups that were granted to its account, and those that its keys are in.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::directory::{DirectoryError, Environment, FieldError, Group, Versioned, decimal};
use crate::explain::usable;
use crate::gateway::ladder::Purse;
use crate::id::GroupId;

use super::access::Access;
use super::keys;
use super::limits;
use super::problem::Problem;
use super::resource::{self, Resource};
use super::route::{Call, PAGE, Param, Reply, Route};
use super::shape::{self, COUNT, Field, Fields, Kind, Need, Shape, field};

static GROUP: Shape = Shape {
    name: "Group",
    fields: &[
        field!("id", Kind::Text, Required, "Public id, grp_…"),
        field!("name", Kind::Text, Required, "What people call it; unique"),
        field!("multiplier", Kind::Multiplier, Required, "Every price is multiplied by it"),
        field!(
            "models",
            Kind::List(&Kind::Text),
            Required,
            "Its models, * at the end for any rest; empty: all"
        ),
        field!(
            "fallback",
            Kind::List(&Kind::Text),
            Required,
            "Ids of groups that serve where none of its own channels can"
        ),
        field!("limits", limits::USES, Required, "Quotas over all keys of the group, with their use"),
        field!("created_at", Kind::Time, Required, "When it was made"),
        field!("version", COUNT, Required, "Name it in a change to be told of a conflict"),
    ],
};

static GROUP_INPUT: Shape = Shape {
    name: "GroupInput",
    fields: &[
        field!("name", Kind::Text, Required, "What people call it; unique"),
        field!("multiplier", Kind::Multiplier, Optional, "Every price is multiplied by it; default: 1"),
        field!(
            "models",
            Kind::List(&Kind::Text),
            Optional,
            "Its models, * at the end for any rest; empty: all"
        ),
        field!(
            "fallback",
            Kind::List(&Kind::Text),
            Optional,
            "Ids of groups whose channels serve where none of its own can, in this order; a call is charged at the multiplier of the group that served it"
        ),
        field!("limits", limits::INPUT, Optional, "Replaces all limits"),
        field!("version", COUNT, Optional, "In a change: the version that was seen"),
    ],
};

pub static ROUTES: &[Route] = &[
    Route::list("/api/groups", "listGroups", "Groups in the order in which they were made", &GROUP, list)
        .access(Access::EVERYBODY_READS)
        .query(&[Param { name: "name", about: "Only the group of this name" }, PAGE[0], PAGE[1]]),
    Route::post("/api/groups", "createGroup", "Makes a group", &GROUP_INPUT, &GROUP, create),
    Route::get("/api/groups/{id}", "getGroup", "One group", &GROUP, get).access(Access::EVERYBODY_READS),
    Route::patch(
        "/api/groups/{id}",
        "changeGroup",
        "Changes what is named of a group; calls admitted before keep their multiplier",
        &GROUP_INPUT,
        &GROUP,
        change,
    ),
];

impl Resource for Group {
    fn view(call: &Call<'_>, stored: &Versioned<Self>) -> Value {
        let group = &*stored.document;
        let snapshot = call.app.directory.snapshot();
        let limits = usable::limits_of(call.app, &snapshot, &Purse::of_group(group, Environment::Live));
        json!({
            "id": group.id,
            "name": group.name,
            "multiplier": decimal::multiplier_text(group.multiplier_ppm),
            "models": group.models,
            "fallback": group.fallback,
            "limits": limits::views_for_caller(&limits, call.own_account().is_none()),
            "created_at": group.created_at,
            "version": stored.version,
        })
    }
}

/// Groups that are there for the member who calls; `None`: all of them.
fn shown(call: &Call<'_>) -> Option<HashSet<GroupId>> {
    let account = call.own_account()?;
    let snapshot = call.app.directory.snapshot();
    let own = snapshot.keys().filter(|key| key.account == account && keys::is_there(call, key));
    let mut shown: HashSet<_> = own.filter_map(|key| key.group).collect();
    shown.extend(snapshot.account(account).iter().flat_map(|entry| &entry.account.groups));
    Some(shown)
}

fn list(call: &Call<'_>) -> Result<Reply, Problem> {
    let Some(shown) = shown(call) else { return resource::list_named::<Group>(call) };
    let (snapshot, name) = (call.app.directory.snapshot_owned(), call.query_text("name"));
    let is_meant =
        |group: &&Arc<Group>| shown.contains(&group.id) && name.is_none_or(|name| *group.name == *name);
    resource::page_of(call, snapshot.groups().filter(is_meant))
}

fn get(call: &Call<'_>) -> Result<Reply, Problem> {
    let stored = resource::found::<Group>(call)?;
    match shown(call).is_none_or(|shown| shown.contains(&stored.document.id)) {
        true => Ok(resource::shown(call, &stored)),
        false => Err(Problem::NotFound),
    }
}

fn create(call: &Call<'_>) -> Result<Reply, Problem> {
    let created = call.app.directory.create_group(&call.actor(), &|group| apply(group, &call.fields()))?;
    Ok(resource::created(call, &created))
}

fn change(call: &Call<'_>) -> Result<Reply, Problem> {
    resource::change(call, &|group: &mut Group| apply(group, &call.fields()))
}

fn apply(group: &mut Group, fields: &Fields<'_>) -> Result<(), DirectoryError> {
    if let Some(name) = fields.text("name") {
        group.name = name.into();
    }
    if let Some(models) = fields.list("models") {
        group.models = shape::decode("models", models)?;
    }
    if let Some(fallback) = fields.list("fallback") {
        group.fallback = shape::decode("fallback", fallback)?;
    }
    if let Some(limits) = fields.list("limits") {
        group.limits = limits::read(limits)?;
    }
    if let Some(text) = fields.text("multiplier") {
        let ppm = decimal::parse_multiplier(text);
        group.multiplier_ppm = ppm.ok_or_else(|| FieldError::new("multiplier", "is not a multiplier"))?;
    }
    Ok(())
}
