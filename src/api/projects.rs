//! `/api/projects`: what a part of an account's keys may spend together.

use serde_json::{Value, json};

use crate::directory::{DirectoryError, Environment, Owner, Project, Versioned};
use crate::explain::usable;
use crate::gateway::ladder::Purse;

use super::access::Access;
use super::limits;
use super::problem::Problem;
use super::resource::{self, Resource};
use super::route::{Call, PAGE, Param, Reply, Route};
use super::shape::{self, COUNT, Field, Fields, Kind, Need, Shape, field};

const STATUS: Kind = Kind::OneOf(&["running", "paused", "archived"]);

static PROJECT: Shape = Shape {
    name: "Project",
    fields: &[
        field!("id", Kind::Text, Required, "Public id, prj_…"),
        field!("account", Kind::Text, Required, "Id of the account that pays"),
        field!("name", Kind::Text, Required, "What people call it; unique in its account"),
        field!("status", STATUS, Required, "Keys of a project that does not run are refused"),
        field!("arrears", Kind::Money, Required, "What it owes; its keys are refused until that is 0"),
        field!("limits", limits::USES, Required, "Budgets over all of its keys, with their use"),
        field!("policies", Kind::List(&Kind::Text), Required, "Ids of the policies of its keys"),
        field!("created_at", Kind::Time, Required, "When it was made"),
        field!("version", COUNT, Required, "Name it in a change to be told of a conflict"),
    ],
};

static PROJECT_INPUT: Shape = Shape {
    name: "ProjectInput",
    fields: &[
        field!("account", Kind::Text, Optional, "Id of the account that pays"),
        field!("name", Kind::Text, Required, "What people call it; unique in its account"),
        field!("limits", limits::INPUT, Optional, "Budgets over all of its keys"),
        field!(
            "policies",
            Kind::List(&Kind::Text),
            Optional,
            "Ids of the policies of its keys; replaces all"
        ),
    ],
};

static PROJECT_CHANGE: Shape = Shape {
    name: "ProjectChange",
    fields: &[
        field!("name", Kind::Text, Required, "What people call it; unique in its account"),
        field!("status", STATUS, Optional, "Keys of a project that does not run are refused"),
        field!("arrears", Kind::Money, Optional, "What it owes; its keys are refused until that is 0"),
        field!("limits", limits::INPUT, Optional, "Replaces all limits"),
        field!(
            "policies",
            Kind::List(&Kind::Text),
            Optional,
            "Ids of the policies of its keys; replaces all"
        ),
        field!("version", COUNT, Optional, "The version that was seen"),
    ],
};

pub static ROUTES: &[Route] = &[
    Route::list(
        "/api/projects",
        "listProjects",
        "Projects in the order in which they were made",
        &PROJECT,
        list,
    )
    .access(Access::EVERYBODY_READS)
    .query(&[Param { name: "account", about: "Only projects of this account" }, PAGE[0], PAGE[1]]),
    Route::post("/api/projects", "createProject", "Makes a project", &PROJECT_INPUT, &PROJECT, create)
        .access(Access::ACCOUNT_CHANGES),
    Route::get(
        "/api/projects/{id}",
        "getProject",
        "One project with the use of its limits",
        &PROJECT,
        resource::get::<Project>,
    )
    .access(Access::EVERYBODY_READS),
    Route::patch(
        "/api/projects/{id}",
        "changeProject",
        "Changes what is named of a project; other projects are not affected",
        &PROJECT_CHANGE,
        &PROJECT,
        change,
    )
    .access(Access::ACCOUNT_CHANGES),
];

impl Resource for Project {
    fn view(call: &Call<'_>, stored: &Versioned<Self>) -> Value {
        let project = &*stored.document;
        let snapshot = call.app.directory.snapshot();
        let purse = snapshot
            .account(project.account)
            .map(|account| Purse::of_project(project, &account.zone, Environment::Live));
        let limits = purse.map(|purse| usable::limits_of(call.app, &snapshot, &purse)).unwrap_or_default();
        json!({
            "id": project.id,
            "account": project.account,
            "name": project.name,
            "status": project.status,
            "arrears": project.arrears.to_string(),
            "limits": limits::views(&limits),
            "policies": project.policies,
            "created_at": project.created_at,
            "version": stored.version,
        })
    }
}

fn list(call: &Call<'_>) -> Result<Reply, Problem> {
    let owner = call.asked_account()?.map(Owner::Account);
    resource::list_of(call, owner, call.app.directory.snapshot_owned().projects())
}

fn create(call: &Call<'_>) -> Result<Reply, Problem> {
    let account = call.account_of_new()?;
    let edit = |project: &mut Project| apply(call, project, &call.fields());
    let created = call.app.directory.create_project(&call.actor(), account, &edit)?;
    Ok(resource::created(call, &created))
}

fn change(call: &Call<'_>) -> Result<Reply, Problem> {
    call.operators_only(&["arrears"])?;
    resource::change(call, &|project: &mut Project| apply(call, project, &call.fields()))
}

fn apply(call: &Call<'_>, project: &mut Project, fields: &Fields<'_>) -> Result<(), DirectoryError> {
    if let Some(name) = fields.text("name") {
        project.name = name.into();
    }
    if let Some(status) = fields.one_of("status")? {
        project.status = status;
    }
    if let Some(arrears) = fields.money("arrears")? {
        project.arrears = arrears;
    }
    if let Some(policies) = fields.list("policies") {
        project.policies = shape::decode("policies", policies)?;
    }
    if let Some(limits) = fields.list("limits") {
        limits::replace(call, &mut project.limits, limits)?;
    }
    Ok(())
}
