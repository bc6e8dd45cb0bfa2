//! `/api/organizations`: the tree above the accounts, with its switches and budgets.

use serde_json::{Value, json};

use crate::directory::{DirectoryError, Environment, Organization, Switches, Versioned};
use crate::explain::usable;
use crate::gateway::ladder::Purse;

use super::access::Access;
use super::limits;
use super::problem::Problem;
use super::resource::{self, Resource};
use super::route::{Call, PAGE, Param, Reply, Route};
use super::shape::{self, COUNT, Field, Fields, Kind, Need, Shape, field};

const SWITCH: Kind = Kind::OneOf(&["on", "view_only", "suspended"]);

pub static SWITCHES: Shape = Shape {
    name: "Switches",
    fields: &[
        field!("api_service", SWITCH, OptionalNullable, "Every call; null: as the kind of account has it"),
        field!("model_calls", SWITCH, OptionalNullable, "Model calls; null: as the kind of account has it"),
    ],
};

static ORGANIZATION: Shape = Shape {
    name: "Organization",
    fields: &[
        field!("id", Kind::Text, Required, "Public id, org_…"),
        field!("name", Kind::Text, Required, "What people call it; unique"),
        field!("parent", Kind::Text, Nullable, "Id of the organization above; null: it is a root"),
        field!("switches", Kind::Object(&SWITCHES), Required, "They tighten those of what stands below"),
        field!("limits", limits::USES, Required, "Budgets over all accounts below, with their use"),
        field!("policies", Kind::List(&Kind::Text), Required, "Ids of the policies of its keys"),
        field!("time_zone", Kind::Text, Required, "IANA zone in which the budgets' days and months begin"),
        field!("created_at", Kind::Time, Required, "When it was made"),
        field!("version", COUNT, Required, "Name it in a change to be told of a conflict"),
    ],
};

static ORGANIZATION_INPUT: Shape = Shape {
    name: "OrganizationInput",
    fields: &[
        field!("name", Kind::Text, Required, "What people call it; unique"),
        field!("parent", Kind::Text, OptionalNullable, "Id of the organization above; default: none"),
        field!("switches", Kind::Object(&SWITCHES), Optional, "Replaces both"),
        field!("limits", limits::INPUT, Optional, "Replaces all limits"),
        field!(
            "policies",
            Kind::List(&Kind::Text),
            Optional,
            "Ids of the policies of its keys; replaces all"
        ),
        field!("time_zone", Kind::Text, Optional, "IANA zone of the budgets; default: the installation's"),
        field!("version", COUNT, Optional, "In a change: the version that was seen"),
    ],
};

pub static ROUTES: &[Route] = &[
    Route::list(
        "/api/organizations",
        "listOrganizations",
        "Organizations in the order in which they were made",
        &ORGANIZATION,
        resource::list_named::<Organization>,
    )
    .access(Access::OPERATORS_READ)
    .query(&[Param { name: "name", about: "Only the organization of this name" }, PAGE[0], PAGE[1]]),
    Route::post(
        "/api/organizations",
        "createOrganization",
        "Makes an organization",
        &ORGANIZATION_INPUT,
        &ORGANIZATION,
        create,
    ),
    Route::get(
        "/api/organizations/{id}",
        "getOrganization",
        "One organization",
        &ORGANIZATION,
        resource::get::<Organization>,
    )
    .access(Access::OPERATORS_READ),
    Route::patch(
        "/api/organizations/{id}",
        "changeOrganization",
        "Changes what is named of an organization; in force with the next call of every account below",
        &ORGANIZATION_INPUT,
        &ORGANIZATION,
        change,
    ),
];

impl Resource for Organization {
    fn view(call: &Call<'_>, stored: &Versioned<Self>) -> Value {
        let organization = &*stored.document;
        let snapshot = call.app.directory.snapshot();
        let purse = snapshot
            .organization(organization.id)
            .map(|entry| Purse::of_organization(entry, Environment::Live));
        let limits = purse.map(|purse| usable::limits_of(call.app, &snapshot, &purse)).unwrap_or_default();
        json!({
            "id": organization.id,
            "name": organization.name,
            "parent": organization.parent,
            "switches": switches_view(organization.switches),
            "limits": limits::views(&limits),
            "policies": organization.policies,
            "time_zone": organization.time_zone,
            "created_at": organization.created_at,
            "version": stored.version,
        })
    }
}

pub fn switches_view(switches: Switches) -> Value {
    json!({"api_service": switches.api_service, "model_calls": switches.model_calls})
}

fn create(call: &Call<'_>) -> Result<Reply, Problem> {
    let created = call.app.directory.create_organization(&call.actor(), &|organization| {
        organization.time_zone = call.app.config.ledger.time_zone.as_str().into();
        apply(organization, &call.fields())
    })?;
    Ok(resource::created(call, &created))
}

fn change(call: &Call<'_>) -> Result<Reply, Problem> {
    resource::change(call, &|organization: &mut Organization| apply(organization, &call.fields()))
}

fn apply(organization: &mut Organization, fields: &Fields<'_>) -> Result<(), DirectoryError> {
    if let Some(name) = fields.text("name") {
        organization.name = name.into();
    }
    if let Some(parent) = fields.nullable_parsed("parent")? {
        organization.parent = parent;
    }
    if let Some(switches) = fields.one_of("switches")? {
        organization.switches = switches;
    }
    if let Some(policies) = fields.list("policies") {
        organization.policies = shape::decode("policies", policies)?;
    }
    if let Some(limits) = fields.list("limits") {
        organization.limits = limits::read(limits)?;
    }
    if let Some(zone) = fields.text("time_zone") {
        organization.time_zone = zone.into();
    }
    Ok(())
}
