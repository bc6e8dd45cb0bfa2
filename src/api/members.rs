//! `/api/members`: the people and the service accounts of an account.

use serde_json::{Value, json};

use crate::directory::{AccountRole, DirectoryError, Environment, Member, Owner, Versioned};
use crate::explain::usable;
use crate::gateway::ladder::Purse;

use super::access::Access;
use super::limits;
use super::operators::{token_field, token_view};
use super::problem::Problem;
use super::resource::{self, Resource};
use super::route::{Call, PAGE, Param, Reply, Route};
use super::shape::{self, COUNT, Field, Fields, Kind, Need, Shape, field};

const KIND: Kind = Kind::OneOf(&["person", "service_account"]);
const ROLE: Kind = Kind::OneOf(&["owner", "admin", "finance", "developer", "viewer"]);

static MEMBER: Shape = Shape {
    name: "Member",
    fields: &[
        field!("id", Kind::Text, Required, "Public id, mem_…"),
        field!("account", Kind::Text, Required, "Id of the account"),
        field!("name", Kind::Text, Required, "What people call it"),
        field!("kind", KIND, Required, "A service account stands for a program"),
        field!("email", Kind::Text, Nullable, "Address of a person; unique in the account"),
        field!("role", ROLE, Required, "What it may do in the account"),
        field!("limits", limits::USES, Required, "Budgets over all of its keys, with their use"),
        field!("token", Kind::Any, Nullable, "issued_at, expires_at of its access token; null: none"),
        field!("policies", Kind::List(&Kind::Text), Required, "Ids of the policies of its keys"),
        field!("created_at", Kind::Time, Required, "When it was made"),
        field!("version", COUNT, Required, "Name it in a change to be told of a conflict"),
    ],
};

static MEMBER_INPUT: Shape = Shape {
    name: "MemberInput",
    fields: &[
        field!("account", Kind::Text, Optional, "Id of the account"),
        field!("name", Kind::Text, Required, "What people call it"),
        field!("kind", KIND, Optional, "Default: person"),
        field!("email", Kind::Text, OptionalNullable, "Address of a person; unique in the account"),
        field!("role", ROLE, Optional, "Default: developer"),
        field!("limits", limits::INPUT, Optional, "Budgets over all of its keys"),
        field!(
            "policies",
            Kind::List(&Kind::Text),
            Optional,
            "Ids of the policies of its keys; replaces all"
        ),
    ],
};

static MEMBER_CHANGE: Shape = Shape {
    name: "MemberChange",
    fields: &[
        field!("name", Kind::Text, Required, "What people call it"),
        field!("email", Kind::Text, OptionalNullable, "Address of a person; unique in the account"),
        field!("role", ROLE, Optional, "What it may do in the account"),
        field!("limits", limits::INPUT, Optional, "Replaces all limits"),
        field!(
            "policies",
            Kind::List(&Kind::Text),
            Optional,
            "Ids of the policies of its keys; replaces all"
        ),
        field!("token", Kind::Any, OptionalNullable, "null takes its access token away"),
        field!("version", COUNT, Optional, "The version that was seen"),
    ],
};

pub static ROUTES: &[Route] = &[
    Route::list("/api/members", "listMembers", "Members in the order in which they were made", &MEMBER, list)
        .access(Access::EVERYBODY_READS)
        .query(&[Param { name: "account", about: "Only members of this account" }, PAGE[0], PAGE[1]]),
    Route::post(
        "/api/members",
        "createMember",
        "Makes a member or a service account",
        &MEMBER_INPUT,
        &MEMBER,
        create,
    )
    .access(Access::ACCOUNT_CHANGES),
    Route::get(
        "/api/members/{id}",
        "getMember",
        "One member with the use of its limits",
        &MEMBER,
        resource::get::<Member>,
    )
    .access(Access::EVERYBODY_READS),
    Route::patch(
        "/api/members/{id}",
        "changeMember",
        "Changes what is named of a member",
        &MEMBER_CHANGE,
        &MEMBER,
        change,
    )
    .access(Access::ACCOUNT_CHANGES),
];

impl Resource for Member {
    fn view(call: &Call<'_>, stored: &Versioned<Self>) -> Value {
        let member = &*stored.document;
        let snapshot = call.app.directory.snapshot();
        let purse = snapshot
            .account(member.account)
            .map(|account| Purse::of_member(member, &account.zone, Environment::Live));
        let limits = purse.map(|purse| usable::limits_of(call.app, &snapshot, &purse)).unwrap_or_default();
        json!({
            "id": member.id,
            "account": member.account,
            "name": member.name,
            "kind": member.kind,
            "email": member.email,
            "role": member.role,
            "limits": limits::views(&limits),
            "token": token_view(member.token.as_ref()),
            "policies": member.policies,
            "created_at": member.created_at,
            "version": stored.version,
        })
    }
}

fn list(call: &Call<'_>) -> Result<Reply, Problem> {
    let owner = call.asked_account()?.map(Owner::Account);
    resource::list_of(call, owner, call.app.directory.snapshot_owned().members())
}

fn create(call: &Call<'_>) -> Result<Reply, Problem> {
    let fields = call.fields();
    let account = call.account_of_new()?;
    call.may_manage(fields.one_of("role")?.unwrap_or(AccountRole::Developer))?;
    let edit = |member: &mut Member| {
        if let Some(kind) = fields.one_of("kind")? {
            member.kind = kind;
        }
        apply(call, member, &fields)
    };
    let created = call.app.directory.create_member(&call.actor(), account, &edit)?;
    Ok(resource::created(call, &created))
}

fn change(call: &Call<'_>) -> Result<Reply, Problem> {
    call.may_manage(resource::found::<Member>(call)?.document.role)?;
    if let Some(role) = call.fields().one_of("role")? {
        call.may_manage(role)?;
    }
    resource::change(call, &|member: &mut Member| apply(call, member, &call.fields()))
}

fn apply(call: &Call<'_>, member: &mut Member, fields: &Fields<'_>) -> Result<(), DirectoryError> {
    if let Some(name) = fields.text("name") {
        member.name = name.into();
    }
    if let Some(email) = fields.nullable_text("email") {
        member.email = email.map(Into::into);
    }
    if let Some(role) = fields.one_of("role")? {
        member.role = role;
    }
    if let Some(policies) = fields.list("policies") {
        member.policies = shape::decode("policies", policies)?;
    }
    if let Some(limits) = fields.list("limits") {
        limits::replace(call, &mut member.limits, limits)?;
    }
    if fields.has("token") {
        token_field(fields, &mut member.token)?;
    }
    Ok(())
}
