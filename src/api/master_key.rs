//! `/api/master-key`: what everything secret is sealed with. The key itself goes in at the most, and never comes out.

use serde_json::{Value, json};

use crate::explain::time_text;
use crate::secret::Secret;

use super::access::Access;
use super::problem::Problem;
use super::route::{Call, Reply, Route};
use super::shape::{COUNT, Field, Kind, Need, Shape, field};
use super::upkeep::{RUN_STATE, job_view};

static MASTER_KEY: Shape = Shape {
    name: "MasterKey",
    fields: &[
        field!("id", Kind::Text, Required, "Tells keys apart, and says nothing about the key"),
        field!("source", Kind::OneOf(&["configuration", "file"]), Required, "Where it comes from at a start"),
        field!("turn", Kind::Object(&TURN), Nullable, "A turn to this key that has not ended; null: none"),
        field!(
            "sealed",
            Kind::Object(&SEALED),
            Required,
            "How many objects, and kept answers, are sealed with a master key"
        ),
        field!(
            "unreadable",
            Kind::List(&Kind::Object(&UNREADABLE)),
            Required,
            "What no master key at hand opens: to be entered anew"
        ),
    ],
};

static TURN: Shape = Shape {
    name: "MasterKeyTurn",
    fields: &[
        field!("begun_at", Kind::Time, Required, "When it began"),
        field!("resealed_at", Kind::Time, Nullable, "When everything was sealed anew; null: not yet"),
        field!(
            "can_be_finished",
            Kind::Bool,
            Required,
            "Everything is sealed anew, and the process that answers was given the new key"
        ),
    ],
};

static SEALED: Shape = Shape {
    name: "MasterKeySealed",
    fields: &[
        field!("objects", COUNT, Required, "Channels and webhooks"),
        field!("answers", COUNT, Required, "Answers kept under an Idempotency-Key"),
    ],
};

static UNREADABLE: Shape = Shape {
    name: "MasterKeyUnreadable",
    fields: &[
        field!("kind", Kind::Text, Required, "channel or notice_endpoint"),
        field!("id", Kind::Text, Required, "Its id"),
        field!("name", Kind::Text, Required, "Its name"),
    ],
};

static INPUT: Shape = Shape {
    name: "MasterKeyRotation",
    fields: &[field!(
        "key",
        Kind::Secret,
        Optional,
        "64 hexadecimal digits; needed where the configuration names the key. Default: one is made and kept in the file"
    )],
};

static RESEALED: Shape = Shape {
    name: "MasterKeyResealed",
    fields: &[
        field!(
            "sealed_anew",
            COUNT,
            Required,
            "Objects, kept answers, results of tasks and keys of their copies"
        ),
        field!("old_key_forgotten", Kind::Bool, Required, "False: it is still needed by somebody"),
    ],
};

static RUN: Shape = Shape {
    name: "MasterKeyRun",
    fields: &[
        field!("run", COUNT, Required, "Number of the run since the start of the server; 0: there was none"),
        field!("state", RUN_STATE, Required, "Where it stands"),
        field!("phase", Kind::Text, Nullable, "What is being sealed anew"),
        field!("done", COUNT, Required, "How far it is …"),
        field!("total", COUNT, Required, "… of how much; 0: not known"),
        field!("report", Kind::Object(&RESEALED), Nullable, "Once it has ended"),
        field!("error", Kind::Text, Nullable, "Why it could not be done"),
    ],
};

static NOTHING: Shape = Shape { name: "MasterKeyNothing", fields: &[] };

pub static ROUTES: &[Route] = &[
    Route::get(
        "/api/master-key",
        "getMasterKey",
        "What is sealed, and with which master key",
        &MASTER_KEY,
        show,
    )
    .access(Access::OPERATORS_READ),
    Route::get(
        "/api/master-key/rotation",
        "getMasterKeyRotation",
        "How far sealing anew is, or what the last run ended with",
        &RUN,
        standing,
    )
    .access(Access::OPERATORS_READ),
    Route::post(
        "/api/master-key/rotation",
        "rotateMasterKey",
        "Turns to a new master key and seals everything anew; goes on with a turn that is under way",
        &INPUT,
        &RUN,
        rotate,
    ),
    Route::post(
        "/api/master-key/rotation/stop",
        "stopMasterKeyRotation",
        "Ends sealing anew for now; the next run goes on",
        &NOTHING,
        &RUN,
        stop,
    ),
    Route::post(
        "/api/master-key/rotation/finish",
        "finishMasterKeyRotation",
        "Forgets the old master key: for several nodes on one database, and for keys of the configuration",
        &NOTHING,
        &MASTER_KEY,
        finish,
    ),
];

fn show(call: &Call<'_>) -> Result<Reply, Problem> {
    let keys = &call.app.master_keys;
    let turn = keys.turn()?.map(|turn| {
        json!({
            "begun_at": time_text(turn.begun_ms),
            "resealed_at": turn.resealed_ms.map(time_text),
            "can_be_finished": turn.resealed_ms.is_some() && keys.is_given_current(),
        })
    });
    let answers = call.app.idempotency.kept().map_err(|why| Problem::Internal(Box::new(why)))?;
    let unreadable = call.app.directory.unreadable().into_iter();
    let unreadable: Vec<Value> = unreadable
        .map(|(object, name)| json!({"kind": object.kind().as_str(), "id": object.id_text(), "name": name}))
        .collect();
    Ok(Reply::ok(json!({
        "id": keys.id(),
        "source": keys.source.as_str(),
        "turn": turn,
        "sealed": {"objects": call.app.directory.snapshot().sealed().count(), "answers": answers},
        "unreadable": unreadable,
    })))
}

fn standing(call: &Call<'_>) -> Result<Reply, Problem> {
    Ok(Reply::ok(job_view(&call.app.master_keys.resealing)))
}

fn rotate(call: &Call<'_>) -> Result<Reply, Problem> {
    let (keys, actor) = (&call.app.master_keys, call.actor());
    let key = call.fields().text("key").map(Secret::new);
    keys.begin(key.as_ref(), &actor)?;
    keys.start_resealing(&actor)?;
    standing(call)
}

fn stop(call: &Call<'_>) -> Result<Reply, Problem> {
    call.app.master_keys.resealing.stop();
    standing(call)
}

fn finish(call: &Call<'_>) -> Result<Reply, Problem> {
    call.app.master_keys.finish(&call.actor())?;
    show(call)
}
