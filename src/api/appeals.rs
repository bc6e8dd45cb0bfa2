//! `/api/appeals`: for keys that the platform stopped.

use serde_json::{Value, json};

use crate::directory::{Appeal, AppealState, FieldError, Key, Owner, Versioned};
use crate::id::{AppealId, KeyId};

use super::access::Access;
use super::problem::Problem;
use super::resource::{self, Resource};
use super::route::{Call, PAGE, Param, Reply, Route};
use super::shape::{COUNT, Field, Kind, Need, Shape, field};

static APPEAL: Shape = Shape {
    name: "Appeal",
    fields: &[
        field!("id", Kind::Text, Required, "Public id, apl_…"),
        field!("account", Kind::Text, Required, "Id of the account"),
        field!("key", Kind::Text, Required, "Id of the key"),
        field!("statement", Kind::Text, Required, "What its owner says"),
        field!(
            "state",
            Kind::OneOf(&["submitted", "in_review", "approved", "rejected"]),
            Required,
            "An approval enables the key again"
        ),
        field!("decision", Kind::Any, Nullable, "reason, by, at"),
        field!("created_at", Kind::Time, Required, "When it was made"),
        field!("version", COUNT, Required, "Name it in a change to be told of a conflict"),
    ],
};

static APPEAL_INPUT: Shape = Shape {
    name: "AppealInput",
    fields: &[
        field!("key", Kind::Text, Required, "Id of a key that is frozen or under review"),
        field!("statement", Kind::Text, Required, "Why it should work again"),
    ],
};

static DECISION: Shape = Shape {
    name: "AppealDecision",
    fields: &[
        field!("state", Kind::OneOf(&["in_review", "approved", "rejected"]), Required, "The next state"),
        field!("reason", Kind::Text, Optional, "Goes with a decision, and is not empty"),
        field!("version", COUNT, Optional, "The version that was seen"),
    ],
};

pub static ROUTES: &[Route] = &[
    Route::list("/api/appeals", "listAppeals", "Appeals in the order in which they were made", &APPEAL, list)
        .query(&[Param { name: "account", about: "Only appeals of this account" }, PAGE[0], PAGE[1]])
        .access(Access::EVERYBODY_READS),
    Route::post(
        "/api/appeals",
        "createAppeal",
        "Appeals for a key that the platform stopped",
        &APPEAL_INPUT,
        &APPEAL,
        create,
    )
    .access(Access::KEY_CHANGES),
    Route::get("/api/appeals/{id}", "getAppeal", "One appeal", &APPEAL, resource::get::<Appeal>)
        .access(Access::EVERYBODY_READS),
    Route::post(
        "/api/appeals/{id}/decision",
        "decideAppeal",
        "Takes an appeal into review, or decides it; an approval enables the key again",
        &DECISION,
        &APPEAL,
        decide,
    )
    .access(Access::SUPPORT),
];

impl Resource for Appeal {
    fn view(_call: &Call<'_>, stored: &Versioned<Self>) -> Value {
        let appeal = &*stored.document;
        json!({
            "id": appeal.id,
            "account": appeal.account,
            "key": appeal.key,
            "statement": appeal.statement,
            "state": appeal.state,
            "decision": appeal.decision,
            "created_at": appeal.created_at,
            "version": stored.version,
        })
    }
}

fn list(call: &Call<'_>) -> Result<Reply, Problem> {
    let owner = call.asked_account()?.map(Owner::Account);
    resource::list_of(call, owner, call.app.directory.snapshot_owned().appeals())
}

fn create(call: &Call<'_>) -> Result<Reply, Problem> {
    let fields = call.fields();
    let key = fields.parsed::<KeyId>("key")?.ok_or_else(|| FieldError::new("key", "is missing"))?;
    super::keys::readable(call, &call.find::<Key>(key.raw())?)?;
    let statement = fields.text("statement").unwrap_or_default();
    let created = call.app.directory.create_appeal(&call.actor(), key, statement)?;
    Ok(resource::created(call, &created))
}

fn decide(call: &Call<'_>) -> Result<Reply, Problem> {
    let (id, fields) = (call.path_id::<AppealId>("id")?, call.fields());
    call.find::<Appeal>(id.raw())?;
    let state = fields.one_of::<AppealState>("state")?;
    let state = state.ok_or_else(|| FieldError::new("state", "is missing"))?;
    let directory = &call.app.directory;
    let decided = directory.decide_appeal(&call.actor(), id, call.expected, state, fields.text("reason"))?;
    call.app.risk.forget(decided.document.key);
    Ok(resource::shown(call, &decided))
}
