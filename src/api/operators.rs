//! `/api/operators`: those who run the gateway; and the access tokens of operators and members.

use serde_json::{Value, json};

use crate::directory::{
    CreatedToken, DirectoryError, FieldError, Member, Operator, OperatorRole, Token, Versioned,
};
use crate::id::{MemberId, OperatorId};

use super::access::Access;
use super::problem::Problem;
use super::resource::{self, Resource};
use super::route::{Call, Reply, Route};
use super::shape::{COUNT, Field, Fields, Kind, Need, Shape, field};

const ROLE: Kind = Kind::OneOf(&["superadmin", "finance", "support", "auditor"]);

static OPERATOR: Shape = Shape {
    name: "Operator",
    fields: &[
        field!("id", Kind::Text, Required, "Public id, opr_…"),
        field!("name", Kind::Text, Required, "What people call them"),
        field!("email", Kind::Text, Nullable, "Their address; unique"),
        field!("role", ROLE, Required, "What they may do; see docs/roles.md"),
        field!("token", Kind::Any, Nullable, "issued_at, expires_at of their access token; null: none"),
        field!("created_at", Kind::Time, Required, "When it was made"),
        field!("version", COUNT, Required, "Name it in a change to be told of a conflict"),
    ],
};

static OPERATOR_INPUT: Shape = Shape {
    name: "OperatorInput",
    fields: &[
        field!("name", Kind::Text, Required, "What people call them"),
        field!("email", Kind::Text, OptionalNullable, "Their address; unique"),
        field!("role", ROLE, Required, "What they may do"),
        field!("token", Kind::Any, OptionalNullable, "In a change, null takes the access token away"),
        field!("version", COUNT, Optional, "In a change: the version that was seen"),
    ],
};

static TOKEN_INPUT: Shape = Shape {
    name: "TokenInput",
    fields: &[field!(
        "expires_at",
        Kind::Time,
        OptionalNullable,
        "From then on it is refused; default: never"
    )],
};

static TOKEN: Shape = Shape {
    name: "CreatedToken",
    fields: &[
        field!("token", Kind::Secret, Required, "The token itself: shown this once"),
        field!("issued_at", Kind::Time, Required, "Now; the one before works no more"),
        field!("expires_at", Kind::Time, Nullable, "From then on it is refused"),
    ],
};

pub static ROUTES: &[Route] = &[
    Route::list(
        "/api/operators",
        "listOperators",
        "Those who run the gateway",
        &OPERATOR,
        resource::list::<Operator>,
    )
    .access(Access::OPERATORS_READ),
    Route::post("/api/operators", "createOperator", "Adds an operator", &OPERATOR_INPUT, &OPERATOR, create),
    Route::get("/api/operators/{id}", "getOperator", "One operator", &OPERATOR, resource::get::<Operator>)
        .access(Access::OPERATORS_READ),
    Route::patch(
        "/api/operators/{id}",
        "changeOperator",
        "Changes what is named of an operator",
        &OPERATOR_INPUT,
        &OPERATOR,
        change,
    ),
    Route::post(
        "/api/operators/{id}/token",
        "issueOperatorToken",
        "Gives an operator a new access token",
        &TOKEN_INPUT,
        &TOKEN,
        operator_token,
    ),
    Route::post(
        "/api/members/{id}/token",
        "issueMemberToken",
        "Gives a member a new access token",
        &TOKEN_INPUT,
        &TOKEN,
        member_token,
    )
    .access(Access::ACCOUNT_CHANGES),
];

pub fn token_view(token: Option<&Token>) -> Value {
    token.map_or(Value::Null, |token| json!({"issued_at": token.issued_at, "expires_at": token.expires_at}))
}

/// A token is never set by hand; null takes it away.
pub fn token_field(fields: &Fields<'_>, token: &mut Option<Token>) -> Result<(), FieldError> {
    match fields.value("token") {
        None => Ok(()),
        Some(Value::Null) => {
            *token = None;
            Ok(())
        }
        Some(_) => Err(FieldError::new("token", "can only be null: tokens are issued, not set")),
    }
}

impl Resource for Operator {
    fn view(_call: &Call<'_>, stored: &Versioned<Self>) -> Value {
        let operator = &*stored.document;
        json!({
            "id": operator.id,
            "name": operator.name,
            "email": operator.email,
            "role": operator.role,
            "token": token_view(operator.token.as_ref()),
            "created_at": operator.created_at,
            "version": stored.version,
        })
    }
}

fn create(call: &Call<'_>) -> Result<Reply, Problem> {
    let fields = call.fields();
    let role = fields.one_of::<OperatorRole>("role")?.ok_or_else(|| FieldError::new("role", "is missing"))?;
    let edit = |operator: &mut Operator| apply(operator, &fields);
    let created = call.app.directory.create_operator(&call.actor(), role, &edit)?;
    Ok(resource::created(call, &created))
}

fn change(call: &Call<'_>) -> Result<Reply, Problem> {
    resource::change(call, &|operator: &mut Operator| apply(operator, &call.fields()))
}

fn apply(operator: &mut Operator, fields: &Fields<'_>) -> Result<(), DirectoryError> {
    if let Some(name) = fields.text("name") {
        operator.name = name.into();
    }
    if let Some(email) = fields.nullable_text("email") {
        operator.email = email.map(Into::into);
    }
    if let Some(role) = fields.one_of("role")? {
        operator.role = role;
    }
    Ok(token_field(fields, &mut operator.token)?)
}

fn operator_token(call: &Call<'_>) -> Result<Reply, Problem> {
    let id = call.path_id::<OperatorId>("id")?;
    call.find::<Operator>(id.raw())?;
    let expires_at = call.fields().parsed("expires_at")?;
    issued(call.app.directory.issue_operator_token(&call.actor(), id, expires_at)?)
}

fn member_token(call: &Call<'_>) -> Result<Reply, Problem> {
    let id = call.path_id::<MemberId>("id")?;
    let member = call.find::<Member>(id.raw())?.document;
    call.may_manage(member.role)?;
    let expires_at = call.fields().parsed("expires_at")?;
    issued(call.app.directory.issue_member_token(&call.actor(), id, expires_at)?)
}

fn issued(created: CreatedToken) -> Result<Reply, Problem> {
    Ok(Reply::created(json!({
        "token": created.text.expose(),
        "issued_at": created.token.issued_at,
        "expires_at": created.token.expires_at,
    })))
}
