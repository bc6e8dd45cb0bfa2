//! `/api/audit` and `/api/keys/{id}/log`: who changed what, from what to what.

use serde_json::{Value, json};

use crate::directory::audit::{Action, AuditFilter, AuditRow, FieldChange};
use crate::directory::{FieldError, Kind as ObjectKind};
use crate::explain::time_text;

use super::access::Access;
use super::keys;
use super::problem::Problem;
use super::route::{Call, PAGE, Param, Reply, Route};
use super::shape::{COUNT, Field, Kind, Need, Shape, field};

static FIELD_CHANGE: Shape = Shape {
    name: "FieldChange",
    fields: &[
        field!("field", Kind::Text, Required, "Name of the field"),
        field!("before", Kind::Any, Nullable, "null: it was not set"),
        field!("after", Kind::Any, Nullable, "null: it is not set"),
    ],
};

const CHANGES: Kind = Kind::List(&Kind::Object(&FIELD_CHANGE));

static ROW: Shape = Shape {
    name: "AuditRow",
    fields: &[
        field!("version", COUNT, Required, "Version of the directory that the change made"),
        field!("at", Kind::Time, Required, "When it was made"),
        field!("actor", Kind::Text, Required, "Who made it"),
        field!("kind", Kind::Text, Required, "Kind of object: account, key, policy …"),
        field!("object", Kind::Text, Required, "Its public id"),
        field!(
            "action",
            Kind::OneOf(&["created", "changed", "noted"]),
            Required,
            "noted: an act that is no change of an object"
        ),
        field!("changes", CHANGES, Required, "What changed; of secrets only that they did"),
    ],
};

static KEY_ROW: Shape = Shape {
    name: "KeyLogRow",
    fields: &[
        field!("at", Kind::Time, Required, "When"),
        field!("actor", Kind::Text, Required, "Who"),
        field!("from", Kind::Text, Nullable, "Status before; null: it did not change"),
        field!("to", Kind::Text, Nullable, "Status after; null: it did not change"),
        field!("reason", Kind::Text, Nullable, "Stable code, with a status"),
        field!("text", Kind::Text, Nullable, "For people, with a status"),
        field!("changes", CHANGES, Required, "What else changed"),
    ],
};

pub static ROUTES: &[Route] = &[
    Route::list("/api/audit", "listAudit", "Every change of the directory, newest first", &ROW, list)
        .access(Access::OPERATORS_READ)
        .query(&[
            Param { name: "kind", about: "Only changes of objects of this kind" },
            Param { name: "object", about: "Only changes of the object with this id; goes with kind" },
            Param { name: "actor", about: "Only changes that this one made" },
            PAGE[0],
            PAGE[1],
        ]),
    Route::list("/api/keys/{id}/log", "keyLog", "What happened to a key, newest first", &KEY_ROW, key_log)
        .access(Access::EVERYBODY_READS),
];

fn list(call: &Call<'_>) -> Result<Reply, Problem> {
    let kind = call.query_text("kind").map(str::to_owned);
    let object = match (call.query_text("object"), &kind) {
        (None, _) => None,
        (Some(text), Some(kind)) => Some(object_id(kind, text)?),
        (Some(_), None) => return Err(FieldError::new("object", "goes with `kind`").into()),
    };
    let actor = call.query_text("actor").map(str::to_owned);
    let filter = AuditFilter { kind, object, actor, before: call.query_parsed("cursor")? };
    page(call, &filter, row_view)
}

fn key_log(call: &Call<'_>) -> Result<Reply, Problem> {
    let id = keys::found(call)?.document.id.raw();
    let kind = Some(ObjectKind::Key.as_str().to_owned());
    let filter = AuditFilter { kind, object: Some(id), actor: None, before: call.query_parsed("cursor")? };
    page(call, &filter, key_view)
}

fn page(call: &Call<'_>, filter: &AuditFilter, view: fn(&AuditRow) -> Value) -> Result<Reply, Problem> {
    let limit = call.limit()?;
    let rows = call.app.directory.audit(filter, limit)?;
    let full = rows.len() as u64 == u64::from(limit);
    let next = rows.last().filter(|_| full).map(|row| row.version.to_string());
    Ok(Reply::page(rows.iter().map(view).collect(), next))
}

fn object_id(kind: &str, text: &str) -> Result<u64, FieldError> {
    let kind = ObjectKind::parse(kind).ok_or_else(|| FieldError::new("kind", "is no kind of object"))?;
    kind.parse_id(text).ok_or_else(|| FieldError::new("object", format!("is no id of {kind}")))
}

fn row_view(row: &AuditRow) -> Value {
    let object = match ObjectKind::parse(&row.kind) {
        Some(kind) => kind.id_text(row.id),
        // Notes are kept with the account that they are about.
        None => ObjectKind::Account.id_text(row.id),
    };
    json!({
        "version": row.version,
        "at": time_text(row.at_ms),
        "actor": row.actor,
        "kind": row.kind,
        "object": object,
        "action": row.action,
        "changes": row.changes,
    })
}

fn key_view(row: &AuditRow) -> Value {
    let of = |name: &str| row.changes.iter().find(|change| change.field == name);
    let status = of("status").filter(|_| row.action == Action::Changed);
    let note = of("status_note").map_or(Value::Null, |change| change.after.clone());
    let is_other = |change: &&FieldChange| !matches!(change.field.as_str(), "status" | "status_note");
    json!({
        "at": time_text(row.at_ms),
        "actor": row.actor,
        "from": status.map(|change| &change.before),
        "to": status.map(|change| &change.after),
        "reason": note["reason"],
        "text": note["text"],
        "changes": row.changes.iter().filter(is_other).collect::<Vec<_>>(),
    })
}
