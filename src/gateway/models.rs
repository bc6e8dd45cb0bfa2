//! The list of models that a key can call, in OpenAI's shape.

use bytes::Bytes;
use serde::Serialize;

use crate::catalogue::Refusal;
use crate::directory::{ModelEntry, ModelStatus, Snapshot};

use super::facts::Facts;
use super::ladder::{Caller, model_not_found, permits};

#[derive(Serialize)]
struct Model<'a> {
    id: &'a str,
    object: &'static str,
    /// Seconds since the Unix epoch.
    created: i64,
    owned_by: &'a str,
}

#[derive(Serialize)]
struct List<'a> {
    object: &'static str,
    data: Vec<Model<'a>>,
}

/// All models, or the one that is named.
pub fn answer(
    snapshot: &Snapshot,
    caller: Caller<'_>,
    facts: &Facts,
    name: Option<&str>,
) -> Result<Bytes, Refusal> {
    let can_call = |entry: &&ModelEntry| is_callable(snapshot, entry, caller, facts);
    let json = match name {
        Some(name) => {
            let entry =
                snapshot.model(name).filter(can_call).ok_or_else(|| model_not_found(snapshot, name))?;
            serde_json::to_vec(&shape(entry))
        }
        None => {
            let mut data: Vec<_> = snapshot.models().filter(can_call).map(shape).collect();
            data.sort_unstable_by_key(|model| model.id);
            serde_json::to_vec(&List { object: "list", data })
        }
    };
    // Plain strings and numbers always serialise.
    Ok(json.map(Bytes::from).unwrap_or_default())
}

/// Active, priced, on the lists of the group and of the key, permitted by its policies, and served by a channel that the key may use.
fn is_callable(snapshot: &Snapshot, entry: &ModelEntry, caller: Caller<'_>, facts: &Facts) -> bool {
    entry.model.status == ModelStatus::Active
        && caller.group.is_none_or(|group| group.contains(&entry.model.name))
        && entry.price_at(facts.at_ms).is_some()
        && entry.model.endpoints().any(|endpoint| {
            let name = &entry.model.name;
            caller.key.allows(endpoint, name) && permits(snapshot, caller, facts, name, endpoint)
        })
        && !caller.candidates(snapshot, entry).is_empty()
}

fn shape(entry: &ModelEntry) -> Model<'_> {
    Model {
        id: &entry.model.name,
        object: "model",
        created: entry.model.created_at.as_second(),
        owned_by: &entry.model.owned_by,
    }
}
