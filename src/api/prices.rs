//! `/api/prices`: versions of what models cost. A version never changes; a new price is a new version.

use ledger::TokenClass;
use serde_json::{Map, Value, json};

use crate::directory::{DirectoryError, FieldError, Model, Price};
use crate::id::{ModelId, PriceId};

use super::access::Access;
use super::problem::Problem;
use super::route::{Call, Param, Reply, Route};
use super::shape::{self, COUNT, Field, Fields, Kind, Need, Shape, field};

pub static PER_MILLION: Shape = Shape {
    name: "PricePerMillion",
    fields: &[
        field!(
            "input",
            Kind::Money,
            Optional,
            "Input tokens that no other class counts; required beside any other class"
        ),
        field!(
            "cache_read",
            Kind::Money,
            Optional,
            "Input read from the upstream's cache; default: as input"
        ),
        field!(
            "cache_write",
            Kind::Money,
            Optional,
            "Input written to the upstream's cache; default: as input"
        ),
        field!(
            "output",
            Kind::Money,
            Optional,
            "Output tokens that no other class counts; required beside any other class"
        ),
        field!("reasoning", Kind::Money, Optional, "Output that the caller does not see; default: as output"),
        field!("audio_in", Kind::Money, Optional, "Default: as input"),
        field!("audio_out", Kind::Money, Optional, "Default: as output"),
        field!("image_in", Kind::Money, Optional, "Default: as input"),
    ],
};

const UNIT: Kind = Kind::OneOf(&["image", "second", "million_characters", "search"]);

static UNIT_PRICE: Shape = Shape {
    name: "UnitPrice",
    fields: &[
        field!("unit", UNIT, Required, "What the price is for one of"),
        field!(
            "size",
            Kind::Text,
            OptionalNullable,
            "Only for this size, such as 1024x1024; default: for every one"
        ),
        field!(
            "quality",
            Kind::Text,
            OptionalNullable,
            "Only for this quality, such as hd; default: for every one"
        ),
        field!("price", Kind::Money, Required, "Of one unit"),
    ],
};

const UNIT_PRICES: Kind = Kind::List(&Kind::Object(&UNIT_PRICE));

static PRICE: Shape = Shape {
    name: "Price",
    fields: &[
        field!("id", Kind::Text, Required, "Public id, prc_…"),
        field!("model", Kind::Text, Required, "Id of the model"),
        field!("model_name", Kind::Text, Required, "Name of the model"),
        field!("price_version", COUNT, Required, "Counts from 1 for each model"),
        field!("effective_at", Kind::Time, Required, "Calls accepted from then on cost this"),
        field!(
            "per_million",
            Kind::Object(&PER_MILLION),
            Required,
            "Price of a million tokens of each class; empty where tokens are not sold"
        ),
        field!(
            "units",
            UNIT_PRICES,
            Required,
            "Prices of what is not sold by tokens; the most exact row applies"
        ),
        field!("per_call", Kind::Money, Required, "Added once per call"),
        field!("in_force", Kind::Bool, Required, "Whether a call accepted now costs this"),
        field!("created_at", Kind::Time, Required, "When it was made"),
    ],
};

pub static PRICE_INPUT: Shape = Shape {
    name: "PriceInput",
    fields: &[
        field!("model", Kind::Text, Required, "Id or name of the model"),
        field!("effective_at", Kind::Time, Optional, "Not in the past; default: now"),
        field!(
            "per_million",
            Kind::Object(&PER_MILLION),
            Optional,
            "Price of a million tokens of each class; required unless something else has a price"
        ),
        field!(
            "units",
            UNIT_PRICES,
            Optional,
            "Prices of what is not sold by tokens; the most exact row applies"
        ),
        field!("per_call", Kind::Money, Optional, "Added once per call; default: 0"),
    ],
};

pub static ROUTES: &[Route] = &[
    Route::list("/api/prices", "listPrices", "Price versions, newest first for each model", &PRICE, list)
        .access(Access::EVERYBODY_READS)
        .query(&[Param { name: "model", about: "Only those of this model, by id or name" }]),
    Route::post(
        "/api/prices",
        "addPrice",
        "Adds a price version; calls accepted before keep theirs",
        &PRICE_INPUT,
        &PRICE,
        create,
    ),
    Route::get("/api/prices/{id}", "getPrice", "One price version", &PRICE, get)
        .access(Access::EVERYBODY_READS),
];

fn view(call: &Call<'_>, price: &Price) -> Value {
    let snapshot = call.app.directory.snapshot();
    let entry = snapshot.model_by_id(price.model);
    let now_ms = call.app.clock.now_ms();
    let in_force =
        entry.and_then(|entry| entry.price_at(now_ms)).is_some_and(|current| current.id == price.id);
    let classes = TokenClass::ALL.iter().zip(&price.per_million);
    let per_million: Map<String, Value> = classes
        .filter_map(|(class, price)| Some((class.as_str().to_owned(), Value::String((*price)?.to_string()))))
        .collect();
    json!({
        "id": price.id,
        "model": price.model,
        "model_name": entry.map_or("", |entry| &*entry.model.name),
        "price_version": price.version,
        "effective_at": price.effective_at,
        "per_million": per_million,
        "units": price.units,
        "per_call": price.per_call.to_string(),
        "in_force": in_force,
        "created_at": price.created_at,
    })
}

/// All of them: a price version is small and there are few.
fn list(call: &Call<'_>) -> Result<Reply, Problem> {
    let wanted = call.query_text("model").map(|text| model_of(call, text)).transpose()?;
    let snapshot = call.app.directory.snapshot();
    let mut entries: Vec<_> =
        snapshot.models().filter(|entry| wanted.is_none_or(|wanted| wanted == entry.model.id)).collect();
    entries.sort_by(|one, other| one.model.name.cmp(&other.model.name));
    let rows = entries.iter().flat_map(|entry| &entry.prices).map(|price| view(call, price)).collect();
    Ok(Reply::page(rows, None))
}

fn create(call: &Call<'_>) -> Result<Reply, Problem> {
    let fields = call.fields();
    let model = model_of(call, fields.text("model").unwrap_or_default())?;
    let created = call.app.directory.add_price(&call.actor(), model, &|price| apply(price, &fields))?;
    Ok(Reply::created(view(call, &created.document)))
}

fn get(call: &Call<'_>) -> Result<Reply, Problem> {
    let stored = call.find::<Price>(call.path_id::<PriceId>("id")?.raw())?;
    Ok(Reply::ok(view(call, &stored.document)))
}

/// A model by its id or its name.
fn model_of(call: &Call<'_>, text: &str) -> Result<ModelId, Problem> {
    if let Ok(id) = text.parse() {
        return Ok(call.find::<Model>(ModelId::raw(id))?.document.id);
    }
    let snapshot = call.app.directory.snapshot();
    let entry = snapshot.model(text);
    Ok(entry.ok_or_else(|| FieldError::new("model", format!("there is no model `{text}`")))?.model.id)
}

pub fn apply(price: &mut Price, fields: &Fields<'_>) -> Result<(), DirectoryError> {
    if let Some(at) = fields.parsed("effective_at")? {
        price.effective_at = at;
    }
    if let Some(per_call) = fields.money("per_call")? {
        price.per_call = per_call;
    }
    if let Some(table) = fields.object("per_million") {
        let classes = Fields::new(table);
        for (class, slot) in TokenClass::ALL.iter().zip(&mut price.per_million) {
            *slot = classes.money(class.as_str())?;
        }
    }
    if let Some(units) = fields.list("units") {
        price.units = shape::decode("units", units)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use ledger::Unit;

    use super::*;

    #[test]
    fn every_token_class_can_be_priced() {
        let classes: Vec<_> = TokenClass::ALL.iter().map(|class| class.as_str()).collect();
        let fields: Vec<_> = PER_MILLION.fields.iter().map(|field| field.name).collect();
        assert_eq!(classes, fields);
        let units: Vec<_> = Unit::ALL.iter().map(|unit| unit.as_str()).collect();
        assert!(matches!(UNIT, Kind::OneOf(names) if names == units));
    }
}
