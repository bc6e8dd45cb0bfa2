//! What the routes of every stored document share: it is found, listed and changed in one way, and shown at the
//! version that it has.

use std::sync::Arc;

use serde_json::Value;

use crate::directory::{Document, Edit, Owner, Versioned};

use super::problem::Problem;
use super::route::{Call, Reply};

/// A document of the directory with routes of its own.
pub trait Resource: Document {
    /// The document as this caller may see it.
    fn view(call: &Call<'_>, stored: &Versioned<Self>) -> Value;
}

/// The id in the path. What is no id of this kind cannot be found.
pub fn id<D: Document>(call: &Call<'_>) -> Result<u64, Problem> {
    D::KIND.parse_id(call.path_text("id")).ok_or(Problem::NotFound)
}

/// The document that the path names, if it is there for the caller.
pub fn found<D: Document>(call: &Call<'_>) -> Result<Versioned<D>, Problem> {
    call.find(id::<D>(call)?)
}

/// Handler: the document that the path names.
pub fn get<D: Resource>(call: &Call<'_>) -> Result<Reply, Problem> {
    Ok(shown(call, &found::<D>(call)?))
}

/// Changes the document that the path names.
pub fn change<D: Resource>(call: &Call<'_>, edit: Edit<'_, D>) -> Result<Reply, Problem> {
    Ok(shown(call, &call.edit(id::<D>(call)?, edit)?))
}

pub fn shown<D: Resource>(call: &Call<'_>, stored: &Versioned<D>) -> Reply {
    Reply::ok(D::view(call, stored)).at(stored.version)
}

pub fn created<D: Resource>(call: &Call<'_>, stored: &Versioned<D>) -> Reply {
    Reply::created(D::view(call, stored)).at(stored.version)
}

/// Handler: one page of all of them.
pub fn list<D: Resource>(call: &Call<'_>) -> Result<Reply, Problem> {
    let (after, limit) = (call.query_parsed::<u64>("cursor")?.unwrap_or(0), call.limit()?);
    let rows = call.app.directory.page::<D>(after, limit)?;
    let full = rows.len() as u64 == u64::from(limit);
    let next = rows.last().filter(|_| full).map(|row| row.document.raw_id().to_string());
    Ok(Reply::page(rows.iter().map(|row| D::view(call, row)).collect(), next))
}

/// Handler: the one of a name, if the query has one; else a page of all of them. For kinds whose names are
/// unique.
pub fn list_named<D: Resource>(call: &Call<'_>) -> Result<Reply, Problem> {
    match call.query_text("name") {
        Some(name) => by_name::<D>(call, D::KIND.as_str(), name),
        None => list::<D>(call),
    }
}

/// The one of a name in its space, as a page of one or none.
pub fn by_name<D: Resource>(call: &Call<'_>, space: &str, name: &str) -> Result<Reply, Problem> {
    let named = call.app.directory.find_by_name::<D>(space, name)?;
    let found = named.filter(|stored| call.is_there(&*stored.document));
    Ok(Reply::page(found.iter().map(|stored| D::view(call, stored)).collect(), None))
}

/// One page of `documents` whose owner it is, in the order of their ids; without an owner, of all of them.
pub fn list_of<'s, D: Resource>(
    call: &Call<'_>,
    owner: Option<Owner>,
    documents: impl Iterator<Item = &'s Arc<D>>,
) -> Result<Reply, Problem> {
    match owner {
        Some(owner) => page_of(call, documents.filter(|document| document.owner() == owner)),
        None => list::<D>(call),
    }
}

/// One page of `documents`, in the order of their ids.
pub fn page_of<'s, D: Resource>(
    call: &Call<'_>,
    documents: impl Iterator<Item = &'s Arc<D>>,
) -> Result<Reply, Problem> {
    let (after, limit) = (call.query_parsed::<u64>("cursor")?.unwrap_or(0), call.limit()? as usize);
    let mut ids: Vec<u64> = documents.map(|document| document.raw_id()).filter(|id| *id > after).collect();
    ids.sort_unstable();
    let next = ids.get(limit.saturating_sub(1)).filter(|_| ids.len() > limit).map(u64::to_string);
    let rows = ids.into_iter().take(limit).map(|id| Ok(D::view(call, &call.find::<D>(id)?)));
    Ok(Reply::page(rows.collect::<Result<_, Problem>>()?, next))
}
