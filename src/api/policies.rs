//! `/api/policies`: who may do what to what.

use serde_json::{Value, json};

use crate::directory::policy::{self, Policy, PolicyDocument};
use crate::directory::{DirectoryError, FieldError, Owner, Versioned};
use crate::id::AccountId;

use super::access::Access;
use super::problem::Problem;
use super::resource::{self, Resource};
use super::route::{Call, PAGE, Param, Reply, Route};
use super::shape::{COUNT, Field, Fields, Kind, Need, Shape, field};

static WARNING: Shape = Shape {
    name: "PolicyWarning",
    fields: &[
        field!("place", Kind::Text, Required, "Place in the document"),
        field!("message", Kind::Text, Required, "What its writer cannot have meant"),
    ],
};
const WARNINGS: Kind = Kind::List(&Kind::Object(&WARNING));

static POLICY: Shape = Shape {
    name: "Policy",
    fields: &[
        field!("id", Kind::Text, Required, "Public id, pol_…"),
        field!("account", Kind::Text, Nullable, "Id of the account whose it is; null: the operator's"),
        field!("name", Kind::Text, Required, "What people call it; unique in its account"),
        field!("document", Kind::Any, Required, "Version and Statement, as it was written"),
        field!("warnings", WARNINGS, Required, "Statements that can never match, or never matter"),
        field!("created_at", Kind::Time, Required, "When it was made"),
        field!("version", COUNT, Required, "Name it in a change to be told of a conflict"),
    ],
};

static POLICY_INPUT: Shape = Shape {
    name: "PolicyInput",
    fields: &[
        field!(
            "account",
            Kind::Text,
            OptionalNullable,
            "Id of the account whose it is; default: the operator's"
        ),
        field!("name", Kind::Text, Required, "What people call it; unique in its account"),
        field!("document", Kind::Any, Required, "Version and Statement; see docs/policies"),
    ],
};

static POLICY_CHANGE: Shape = Shape {
    name: "PolicyChange",
    fields: &[
        field!("name", Kind::Text, Required, "What people call it; unique in its account"),
        field!("document", Kind::Any, Optional, "Replaces the whole document"),
        field!("version", COUNT, Optional, "The version that was seen"),
    ],
};

static LINT_INPUT: Shape = Shape {
    name: "PolicyLintInput",
    fields: &[field!("document", Kind::Any, Required, "Version and Statement")],
};
static LINT: Shape = Shape {
    name: "PolicyLint",
    fields: &[field!("warnings", WARNINGS, Required, "Statements that can never match, or never matter")],
};

pub static ROUTES: &[Route] = &[
    Route::list(
        "/api/policies",
        "listPolicies",
        "Policies in the order in which they were made",
        &POLICY,
        list,
    )
    .access(Access::EVERYBODY_READS)
    .query(&[Param { name: "account", about: "Only policies of this account" }, PAGE[0], PAGE[1]]),
    Route::post("/api/policies", "createPolicy", "Makes a policy", &POLICY_INPUT, &POLICY, create)
        .access(Access::ACCOUNT_CHANGES),
    Route::post(
        "/api/policies/lint",
        "lintPolicy",
        "Reads a document without keeping it, and says what it says in vain",
        &LINT_INPUT,
        &LINT,
        lint,
    )
    .reads()
    .access(Access::EVERYBODY_READS),
    Route::get("/api/policies/{id}", "getPolicy", "One policy", &POLICY, resource::get::<Policy>)
        .access(Access::EVERYBODY_READS),
    Route::patch(
        "/api/policies/{id}",
        "changePolicy",
        "Changes a policy; an old Why goes on showing it as it was",
        &POLICY_CHANGE,
        &POLICY,
        change,
    )
    .access(Access::ACCOUNT_CHANGES),
];

impl Resource for Policy {
    fn view(call: &Call<'_>, stored: &Versioned<Self>) -> Value {
        let policy = &*stored.document;
        json!({
            "id": policy.id,
            "account": policy.account,
            "name": policy.name,
            "document": policy.document.source(),
            "warnings": warnings(call, &policy.document),
            "created_at": policy.created_at,
            "version": stored.version,
        })
    }
}

fn warnings(call: &Call<'_>, document: &PolicyDocument) -> Value {
    let warnings = policy::lint(document, &call.app.directory.snapshot());
    let shown = warnings
        .iter()
        .map(|warning| json!({"place": warning.place, "message": call.words(&warning.en, &warning.zh)}));
    shown.collect()
}

fn list(call: &Call<'_>) -> Result<Reply, Problem> {
    let owner = call.asked_account()?.map(Owner::Account);
    resource::list_of(call, owner, call.app.directory.snapshot_owned().policies())
}

fn document(fields: &Fields<'_>) -> Result<Option<PolicyDocument>, FieldError> {
    fields.value("document").map(|value| PolicyDocument::read("document", value)).transpose()
}

fn create(call: &Call<'_>) -> Result<Reply, Problem> {
    let fields = call.fields();
    let account = call.account_or_own(fields.parsed::<AccountId>("account")?)?;
    let document = document(&fields)?.ok_or_else(|| FieldError::new("document", "is missing"))?;
    let edit = |policy: &mut Policy| apply(policy, &fields);
    let created = call.app.directory.create_policy(&call.actor(), account, &document, &edit)?;
    Ok(resource::created(call, &created))
}

fn lint(call: &Call<'_>) -> Result<Reply, Problem> {
    let document = document(&call.fields())?.ok_or_else(|| FieldError::new("document", "is missing"))?;
    Ok(Reply::ok(json!({"warnings": warnings(call, &document)})))
}

fn change(call: &Call<'_>) -> Result<Reply, Problem> {
    resource::change(call, &|policy: &mut Policy| apply(policy, &call.fields()))
}

fn apply(policy: &mut Policy, fields: &Fields<'_>) -> Result<(), DirectoryError> {
    if let Some(name) = fields.text("name") {
        policy.name = name.into();
    }
    if let Some(document) = document(fields)? {
        policy.document = document;
    }
    Ok(())
}
