//! Rung 8: the model exists, may be used, and has a price.

use crate::catalogue::{Code, Refusal};
use crate::directory::{Model, ModelEntry, ModelStatus};
use crate::gateway::convert::Format;
use crate::gateway::facts::Endpoint;

use super::case::{Caller, Case};
use super::evidence::Evidence;
use super::model_search;

pub fn check(case: &Case<'_>) -> Result<(), Refusal> {
    let Some(call) = case.call else { return Ok(()) };
    let Some(entry) = case.model else {
        return Err(model_search::not_found(case.snapshot, &call.model));
    };
    if entry.model.status == ModelStatus::Retired {
        return Err(Refusal::new(Code::ModelRetired).field("model").param("model", &*call.model));
    }
    if let Some(caller) = case.caller {
        reachable(case, entry, caller)?;
    }
    match case.price {
        Some(_) => Ok(()),
        None => Err(Refusal::new(Code::ModelUnpriced).field("model").param("model", &*call.model)),
    }
}

/// The key's group, then its own list, then what the model can do.
fn reachable(case: &Case<'_>, entry: &ModelEntry, caller: Caller<'_>) -> Result<(), Refusal> {
    let Some(endpoint) = case.facts.address.passed().map(|endpoint| endpoint.called()) else {
        return Ok(());
    };
    let (key, name) = (caller.key, &entry.model.name);
    let group = caller.group;
    let listed = group.is_none_or(|group| group.contains(name));
    let out_of_reach = case.candidates.is_none_or(|candidates| candidates.is_empty());
    if !listed || (out_of_reach && entry.is_served(key.environment)) {
        return Err(Refusal::new(Code::ModelNotInGroup)
            .field("model")
            .param("model", &**name)
            .param("group", group.map_or("–", |group| &group.name)));
    }
    if !key.allows(endpoint.path(), name) {
        return Err(Refusal::new(Code::ModelNotAllowedForKey)
            .field("model")
            .param("model", &**name)
            .param("key", key.id.to_string()));
    }
    if !entry.model.works_at(endpoint.path()) {
        return Err(Refusal::new(Code::EndpointNotSupportedByModel)
            .field("model")
            .param("model", &**name)
            .param("endpoint", address(endpoint))
            .param("supported", addresses(&entry.model)));
    }
    Ok(())
}

/// Where a model can be called, by conversion, too.
fn addresses(model: &Model) -> Vec<String> {
    let calls = Endpoint::ALL.into_iter().filter(|endpoint| !endpoint.is_count());
    calls.filter(|endpoint| model.works_at(endpoint.path())).map(address).collect()
}

fn address(endpoint: Endpoint) -> String {
    match endpoint.format() {
        Some(Format::Gemini) => format!("/v1beta/models/…:{}", endpoint.path()),
        _ => format!("/v1/{}", endpoint.path()),
    }
}

/// Where the model could not be found or reached: the steps of the search.
pub fn evidence(case: &Case<'_>) -> Vec<Evidence> {
    match check(case) {
        Ok(()) => Vec::new(),
        Err(_) => model_search::evidence(case),
    }
}
