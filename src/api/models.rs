//! `/api/models`: what callers can name.

use serde_json::{Value, json};

use crate::directory::{DirectoryError, Model, Versioned};

use super::access::Access;
use super::problem::Problem;
use super::resource::{self, Resource};
use super::route::{Call, PAGE, Param, Reply, Route};
use super::shape::{self, COUNT, Field, Fields, Kind, Need, Shape, field};

const STATUS: Kind = Kind::OneOf(&["active", "retired"]);

const ENDPOINTS: Kind = Kind::List(&Kind::Text);

static MODEL: Shape = Shape {
    name: "Model",
    fields: &[
        field!("id", Kind::Text, Required, "Public id, mdl_…"),
        field!("name", Kind::Text, Required, "As callers name it; never changes"),
        field!("status", STATUS, Required, "A retired model is refused as such"),
        field!("endpoints", ENDPOINTS, Required, "Paths behind /v1/ at which it works"),
        field!("output_tokens_max", COUNT, Required, "Output tokens of one choice, at the most"),
        field!("image_tokens_max", COUNT, Nullable, "Tokens of one image part, at the most; null: refused"),
        field!("audio_tokens_max", COUNT, Nullable, "Tokens of one audio part, at the most; null: refused"),
        field!("audio_seconds_max", COUNT, Nullable, "Seconds of one recording, at the most; null: refused"),
        field!("owned_by", Kind::Text, Required, "As the model list shows it"),
        field!("created_at", Kind::Time, Required, "When it was made"),
        field!("version", COUNT, Required, "Name it in a change to be told of a conflict"),
    ],
};

pub static MODEL_INPUT: Shape = Shape {
    name: "ModelInput",
    fields: &[
        field!("name", Kind::Text, Required, "As callers name it; never changes"),
        field!("status", STATUS, Optional, "Default: active"),
        field!(
            "endpoints",
            ENDPOINTS,
            Optional,
            "Paths behind /v1/ at which it works; default: chat/completions"
        ),
        field!(
            "output_tokens_max",
            COUNT,
            Optional,
            "Output tokens of one choice, at the most; default: 4096"
        ),
        field!(
            "image_tokens_max",
            COUNT,
            OptionalNullable,
            "Tokens of one image part, at the most; null: refused"
        ),
        field!(
            "audio_tokens_max",
            COUNT,
            OptionalNullable,
            "Tokens of one audio part, at the most; null: refused"
        ),
        field!(
            "audio_seconds_max",
            COUNT,
            OptionalNullable,
            "Seconds of one recording that is priced by time, at the most; null: refused"
        ),
        field!("owned_by", Kind::Text, Optional, "As the model list shows it"),
        field!("version", COUNT, Optional, "In a change: the version that was seen"),
    ],
};

pub static ROUTES: &[Route] = &[
    Route::list(
        "/api/models",
        "listModels",
        "Models in the order in which they were made",
        &MODEL,
        resource::list_named::<Model>,
    )
    .access(Access::EVERYBODY_READS)
    .query(&[Param { name: "name", about: "Only the model of this name" }, PAGE[0], PAGE[1]]),
    Route::post(
        "/api/models",
        "createModel",
        "Makes a model; it can be called once it has a price and a channel",
        &MODEL_INPUT,
        &MODEL,
        create,
    ),
    Route::get("/api/models/{id}", "getModel", "One model", &MODEL, resource::get::<Model>)
        .access(Access::EVERYBODY_READS),
    Route::patch(
        "/api/models/{id}",
        "changeModel",
        "Changes what is named of a model",
        &MODEL_INPUT,
        &MODEL,
        change,
    ),
];

impl Resource for Model {
    fn view(_call: &Call<'_>, stored: &Versioned<Self>) -> Value {
        let model = &*stored.document;
        json!({
            "id": model.id,
            "name": model.name,
            "status": model.status,
            "endpoints": model.endpoints().collect::<Vec<_>>(),
            "output_tokens_max": model.output_tokens_max,
            "image_tokens_max": model.image_tokens_max,
            "audio_tokens_max": model.audio_tokens_max,
            "audio_seconds_max": model.audio_seconds_max,
            "owned_by": model.owned_by,
            "created_at": model.created_at,
            "version": stored.version,
        })
    }
}

fn create(call: &Call<'_>) -> Result<Reply, Problem> {
    let created = call.app.directory.create_model(&call.actor(), &|model| apply(model, &call.fields()))?;
    Ok(resource::created(call, &created))
}

fn change(call: &Call<'_>) -> Result<Reply, Problem> {
    resource::change(call, &|model: &mut Model| apply(model, &call.fields()))
}

pub fn apply(model: &mut Model, fields: &Fields<'_>) -> Result<(), DirectoryError> {
    if let Some(name) = fields.text("name") {
        model.name = name.into();
    }
    if let Some(status) = fields.one_of("status")? {
        model.status = status;
    }
    if let Some(endpoints) = fields.list("endpoints") {
        model.endpoints = shape::decode("endpoints", endpoints)?;
    }
    if let Some(tokens) = fields.number("output_tokens_max")? {
        model.output_tokens_max = tokens;
    }
    if fields.has("image_tokens_max") {
        model.image_tokens_max = fields.number("image_tokens_max")?;
    }
    if fields.has("audio_tokens_max") {
        model.audio_tokens_max = fields.number("audio_tokens_max")?;
    }
    if fields.has("audio_seconds_max") {
        model.audio_seconds_max = fields.number("audio_seconds_max")?;
    }
    if let Some(owner) = fields.text("owned_by") {
        model.owned_by = owner.into();
    }
    Ok(())
}
