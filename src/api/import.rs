//! `/api/channels/import`: models, prices and channels from the lines of a file, all of them or none.

use serde_json::{Map, Value, json};

use crate::directory::{Channel, DirectoryError, FieldError, Importer, Model, Price};

use super::json::{self, JsonFault};
use super::problem::Problem;
use super::route::{Call, Reply, Route};
use super::shape::{COUNT, Field, Fields, Kind, Need, Shape, ShapeError, field};
use super::{channels, models, prices};

/// Lines of one file.
const LINES_MAX: usize = 5_000;
/// Faults that are told of one file.
const FAULTS_MAX: usize = 100;

static INPUT: Shape = Shape {
    name: "ImportInput",
    fields: &[
        field!(
            "lines",
            Kind::List(&Kind::Secret),
            Required,
            "Lines of JSON: an object with kind (model, price or channel) and the fields of the route that makes one; empty ones are passed over"
        ),
        field!("dry_run", Kind::Bool, Optional, "Check everything and keep nothing; default: false"),
    ],
};

static FAULT: Shape = Shape {
    name: "ImportFault",
    fields: &[
        field!("line", COUNT, Required, "Counted from 1"),
        field!("field", Kind::Text, Nullable, "What of it is wrong; null: all of it"),
        field!("reason", Kind::Text, Required, "Why"),
    ],
};

static IMPORTED: Shape = Shape {
    name: "Imported",
    fields: &[
        field!("applied", Kind::Bool, Required, "Whether it is in force now; false: nothing was changed"),
        field!("dry_run", Kind::Bool, Required, "Whether that was asked for"),
        field!("models", COUNT, Required, "That are good"),
        field!("prices", COUNT, Required, "That are good"),
        field!("channels", COUNT, Required, "That are good"),
        field!(
            "faults",
            Kind::List(&Kind::Object(&FAULT)),
            Required,
            "What is wrong, at most 100; none: all is good"
        ),
    ],
};

pub static ROUTES: &[Route] = &[Route::post(
    "/api/channels/import",
    "importChannels",
    "Makes models, prices and channels of the lines of a file, all of them or none",
    &INPUT,
    &IMPORTED,
    import,
)];

#[derive(Default)]
struct Tally {
    models: usize,
    prices: usize,
    channels: usize,
    faults: Vec<Value>,
}

fn import(call: &Call<'_>) -> Result<Reply, Problem> {
    let fields = call.fields();
    let lines = fields.list("lines").unwrap_or_default();
    if lines.len() > LINES_MAX {
        return Err(FieldError::new("lines", "are more than 5,000").into());
    }
    let dry_run = fields.boolean("dry_run").unwrap_or(false);
    let tally = call.app.directory.import(&call.actor(), |importer| {
        let tally = read(importer, lines);
        (tally.faults.is_empty() && !dry_run, tally)
    })?;
    Ok(Reply::ok(json!({
        "applied": tally.faults.is_empty() && !dry_run,
        "dry_run": dry_run,
        "models": tally.models,
        "prices": tally.prices,
        "channels": tally.channels,
        "faults": tally.faults,
    })))
}

fn read(importer: &mut Importer<'_, '_, '_>, lines: &[Value]) -> Tally {
    let mut tally = Tally::default();
    for (at, line) in lines.iter().enumerate() {
        let text = line.as_str().unwrap_or_default();
        let text = if at == 0 { json::unmarked(text) } else { text };
        if text.trim().is_empty() {
            continue;
        }
        if let Err((field, reason)) = row(importer, text, &mut tally) {
            tally.faults.push(json!({"line": at + 1, "field": field, "reason": reason}));
        }
        if tally.faults.len() == FAULTS_MAX {
            break;
        }
    }
    tally
}

type Fault = (Option<String>, String);

fn row(importer: &mut Importer<'_, '_, '_>, text: &str, tally: &mut Tally) -> Result<(), Fault> {
    // The place alone: a line may hold a credential.
    let broken = |column: usize| (None, format!("is no JSON object, at column {column}"));
    let mut row = match json::read(text.as_bytes()) {
        Ok(Value::Object(row)) => row,
        Ok(_) => return Err(broken(1)),
        Err(JsonFault::Broken(why)) => return Err(broken(why.column())),
        Err(JsonFault::Twice(field)) => return Err((Some(field), json::IS_TWICE.to_owned())),
    };
    let kind = row.remove("kind");
    match kind.as_ref().and_then(Value::as_str) {
        Some("model") => {
            let row = checked(&models::MODEL_INPUT, row)?;
            let edit = |model: &mut Model| models::apply(model, &Fields::new(&row));
            importer.model(&edit).map_err(told)?;
            tally.models += 1;
        }
        Some("price") => {
            let row = checked(&prices::PRICE_INPUT, row)?;
            let fields = Fields::new(&row);
            let edit = |price: &mut Price| prices::apply(price, &fields);
            importer.price(fields.text("model").unwrap_or_default(), &edit).map_err(told)?;
            tally.prices += 1;
        }
        Some("channel") => {
            let row = checked(&channels::CHANNEL_INPUT, row)?;
            let fields = Fields::new(&row);
            let missing = || FieldError::new("credential", "is missing");
            let credentials = channels::credentials(&fields).and_then(|given| given.ok_or_else(missing));
            let credentials = credentials.map_err(|why| told(why.into()))?;
            let edit = |channel: &mut Channel| channels::apply(channel, &fields);
            importer.channel(&credentials, &edit).map_err(told)?;
            tally.channels += 1;
        }
        _ => return Err((Some("kind".to_owned()), "must be model, price or channel".to_owned())),
    }
    Ok(())
}

fn checked(shape: &Shape, row: Map<String, Value>) -> Result<Map<String, Value>, Fault> {
    let row = Value::Object(row);
    shape.check(&row, false).map_err(|why| match why {
        ShapeError::Invalid(error) => (Some(error.field), error.reason),
        ShapeError::Unknown { field, near: Some(near) } => {
            (Some(field), format!("is no field; did you mean {near}?"))
        }
        ShapeError::Unknown { field, near: None } => (Some(field), "is no field".to_owned()),
    })?;
    match row {
        Value::Object(row) => Ok(row),
        _ => Err((None, "is no object".to_owned())),
    }
}

fn told(why: DirectoryError) -> Fault {
    match why {
        DirectoryError::Invalid(error) => (Some(error.field), error.reason),
        DirectoryError::NameTaken { field, name } => (Some(field.to_owned()), format!("`{name}` is taken")),
        other => (None, other.to_string()),
    }
}
