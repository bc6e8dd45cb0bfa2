//! The directory in its store: reading documents, current or as they were, and writing versions.
//!
//! `directory_log` keeps every version for ever; `directory_current` is its newest row for each object;
//! `directory_names` holds what must be unique.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::id::{AccountId, KeyId, PolicyId};
use crate::store::{Db, Row, StoreError, Tx};
use crate::store_params;

use super::audit;
use super::error::{DirectoryError, Kind};
use super::loading;
use super::rules::{Document, UniqueName};
use super::snapshot::{Change, Object, Snapshot};

/// Kinds that a snapshot always shows whole.
const ROOT_KINDS_SQL: &str = "kind IN ('model', 'price', 'channel', 'group', 'organization')";

/// A document as it is kept, with the directory version that it is from.
#[derive(Clone, Debug, PartialEq)]
pub struct Versioned<D> {
    pub version: u64,
    pub document: Arc<D>,
}

impl<D: Document> Versioned<D> {
    pub(super) fn change(&self) -> Change {
        Change { version: self.version, object: Arc::clone(&self.document).into_object() }
    }
}

/// Objects of which a snapshot shows only those that are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectId {
    Account(AccountId),
    Key(KeyId),
}

pub(super) fn decode<D: DeserializeOwned>(
    kind: Kind,
    version: u64,
    body: &[u8],
) -> Result<Arc<D>, DirectoryError> {
    serde_json::from_slice(body).map(Arc::new).map_err(|source| DirectoryError::Corrupt {
        kind,
        version,
        source,
    })
}

pub(super) fn object(kind: Kind, version: u64, body: &[u8]) -> Result<Object, DirectoryError> {
    Ok(match kind {
        Kind::Account => Object::Account(decode(kind, version, body)?),
        Kind::Key => Object::Key(decode(kind, version, body)?),
        Kind::Model => Object::Model(decode(kind, version, body)?),
        Kind::Price => Object::Price(decode(kind, version, body)?),
        Kind::Channel => Object::Channel(decode(kind, version, body)?),
        Kind::Group => Object::Group(decode(kind, version, body)?),
        Kind::Organization => Object::Organization(decode(kind, version, body)?),
        Kind::Project => Object::Project(decode(kind, version, body)?),
        Kind::Member => Object::Member(decode(kind, version, body)?),
        Kind::Policy => Object::Policy(decode(kind, version, body)?),
        Kind::Operator => Object::Operator(decode(kind, version, body)?),
        Kind::Appeal => Object::Appeal(decode(kind, version, body)?),
        Kind::NoticeEndpoint => Object::NoticeEndpoint(decode(kind, version, body)?),
        Kind::Announcement => Object::Announcement(decode(kind, version, body)?),
    })
}

/// Every object as it is now. The rows come as they lie – to find a million in the order of an index costs PostgreSQL
/// more than all the rest –, so prices are put in behind their models at the end.
pub(super) fn load(db: &Db) -> Result<Snapshot, DirectoryError> {
    let (mut snapshot, mut prices) = (Snapshot::default(), Vec::new());
    let sql = "SELECT version, kind, body FROM directory_current";
    loading::read_many(db, sql, store_params![], |mut changes| {
        prices.extend(changes.extract_if(.., |change| matches!(change.object, Object::Price(_))));
        snapshot.apply(changes);
    })?;
    prices.sort_unstable_by_key(|change| change.version);
    snapshot.apply(prices);
    Ok(catch_up(db, &snapshot)?.unwrap_or(snapshot))
}

/// What `known` becomes with all that was written since; `None`: nothing was.
pub(super) fn catch_up(db: &Db, known: &Snapshot) -> Result<Option<Snapshot>, DirectoryError> {
    let sql = "SELECT version, kind, body FROM directory_log WHERE version > ?1 ORDER BY version";
    let mut next: Option<Snapshot> = None;
    loading::read(db, sql, store_params![known.version()], |changes| {
        next.get_or_insert_with(|| known.clone()).apply(changes);
    })?;
    Ok(next)
}

/// Models, prices, channels and groups, and the objects named, as they were at `version`.
pub(super) fn as_of(db: &Db, version: u64, objects: &[ObjectId]) -> Result<Snapshot, DirectoryError> {
    let mut snapshot = Snapshot::default();
    let roots = format!(
        "SELECT version, kind, body FROM directory_log WHERE {ROOT_KINDS_SQL} AND version <= ?1 ORDER BY version"
    );
    loading::read(db, &roots, store_params![version], |changes| snapshot.apply(changes))?;
    let named = objects.iter().map(|object| match object {
        ObjectId::Account(id) => (Kind::Account, id.raw()),
        ObjectId::Key(id) => (Kind::Key, id.raw()),
    });
    one_as_of(db, &mut snapshot, version, named)?;
    // Which project and member a key had is known from the key as it was.
    let keys: Vec<_> = snapshot.keys().cloned().collect();
    let projects = keys.iter().filter_map(|key| key.project).map(|id| (Kind::Project, id.raw()));
    let members = keys.iter().filter_map(|key| key.member).map(|id| (Kind::Member, id.raw()));
    one_as_of(db, &mut snapshot, version, projects.chain(members))?;
    let policies = attached_policies(&snapshot).into_iter().map(|id| (Kind::Policy, id.raw()));
    one_as_of(db, &mut snapshot, version, policies)?;
    Ok(snapshot)
}

/// Every policy that anything of a small snapshot names.
fn attached_policies(snapshot: &Snapshot) -> BTreeSet<PolicyId> {
    let accounts = snapshot.accounts().flat_map(|account| account.policies.iter().map(|given| given.policy));
    let nodes = snapshot.organizations().flat_map(|entry| entry.organization.policies.iter().copied());
    let projects = snapshot.projects().flat_map(|project| project.policies.iter().copied());
    let members = snapshot.members().flat_map(|member| member.policies.iter().copied());
    let keys = snapshot.keys().flat_map(|key| key.policies.iter().copied());
    accounts.chain(nodes).chain(projects).chain(members).chain(keys).collect()
}

fn one_as_of(
    db: &Db,
    snapshot: &mut Snapshot,
    version: u64,
    objects: impl Iterator<Item = (Kind, u64)>,
) -> Result<(), DirectoryError> {
    for (kind, id) in objects {
        let sql = "SELECT version, kind, body FROM directory_log
             WHERE kind = ?1 AND id = ?2 AND version <= ?3 ORDER BY version DESC LIMIT 1";
        let params = store_params![kind.as_str(), id, version];
        loading::read(db, sql, params, |changes| snapshot.apply(changes))?;
    }
    Ok(())
}

/// The newest version of one document.
pub(super) fn current<D: Document>(db: &Db, id: u64) -> Result<Option<Versioned<D>>, DirectoryError> {
    let row = db.query_one(CURRENT_SQL, store_params![D::KIND.as_str(), id])?;
    row.as_ref().map(versioned).transpose()
}

const CURRENT_SQL: &str = "SELECT version, body FROM directory_current WHERE kind = ?1 AND id = ?2";

/// Columns: version, body.
fn versioned<D: Document>(row: &Row) -> Result<Versioned<D>, DirectoryError> {
    let version = row.id(0)?;
    Ok(Versioned { version, document: decode(D::KIND, version, row.blob(1)?)? })
}

/// Documents of one kind in the order of their ids, `limit` of them after the id `after`.
pub(super) fn page<D: Document>(
    db: &Db,
    after: u64,
    limit: u32,
) -> Result<Vec<Versioned<D>>, DirectoryError> {
    let sql = "SELECT version, body FROM directory_current WHERE kind = ?1 AND id > ?2 ORDER BY id LIMIT ?3";
    db.query(sql, store_params![D::KIND.as_str(), after, limit])?.iter().map(versioned).collect()
}

/// One row of an object's history: its version, who wrote it and when.
#[derive(Clone, Debug)]
pub struct Revision {
    pub version: u64,
    pub actor: String,
    pub at_ms: i64,
}

/// Who changed an object and when, newest first.
pub(super) fn history(db: &Db, kind: Kind, id: u64, limit: u32) -> Result<Vec<Revision>, DirectoryError> {
    let sql = "SELECT version, actor, at_ms FROM directory_log
         WHERE kind = ?1 AND id = ?2 ORDER BY version DESC LIMIT ?3";
    let rows = db.query(sql, store_params![kind.as_str(), id, limit])?;
    let revision =
        |row: &Row| Ok(Revision { version: row.id(0)?, actor: row.text(1)?.to_owned(), at_ms: row.int(2)? });
    rows.iter().map(revision).collect()
}

/// One writing transaction of the directory. Versions are given in the order of the writes.
pub(super) struct Writer<'t, 'c> {
    tx: &'t mut Tx<'c>,
    actor: &'t str,
    at_ms: i64,
    last: u64,
    /// Hash of the newest row of the log; empty before the first that has one.
    last_hash: Vec<u8>,
}

impl<'t, 'c> Writer<'t, 'c> {
    pub(super) fn begin(tx: &'t mut Tx<'c>, actor: &'t str, at_ms: i64) -> Result<Self, DirectoryError> {
        let sql = "SELECT version, hash FROM directory_log ORDER BY version DESC LIMIT 1";
        let row = tx.query_one(sql, store_params![])?;
        let last = row.as_ref().map_or(Ok(0), |row| row.id(0))?;
        let last_hash = row.map_or(Ok(None), |row| Ok(row.maybe(1, Row::blob)?.map(<[u8]>::to_vec)));
        let last_hash = last_hash.map_err(|why: StoreError| DirectoryError::Store(why))?.unwrap_or_default();
        Ok(Writer { tx, actor, at_ms, last, last_hash })
    }

    /// The document as this transaction sees it.
    pub(super) fn current<D: Document>(&mut self, id: u64) -> Result<Option<Versioned<D>>, DirectoryError> {
        let row = self.tx.query_one(CURRENT_SQL, store_params![D::KIND.as_str(), id])?;
        row.as_ref().map(versioned).transpose()
    }

    /// The same, for an editor who saw the version `expected`.
    pub(super) fn expect<D: Document>(
        &mut self,
        id: u64,
        expected: Option<u64>,
    ) -> Result<Versioned<D>, DirectoryError> {
        let found = self.current::<D>(id)?;
        let found =
            found.ok_or_else(|| DirectoryError::NotFound { kind: D::KIND, id: D::KIND.id_text(id) })?;
        match expected.filter(|expected| *expected != found.version) {
            Some(expected) => {
                Err(DirectoryError::EditConflict { kind: D::KIND, expected, current: found.version })
            }
            None => Ok(found),
        }
    }

    /// Writes a document's next version.
    pub(super) fn put<D: Document>(
        &mut self,
        before: Option<&D>,
        document: Arc<D>,
    ) -> Result<Versioned<D>, DirectoryError> {
        let (kind, id) = (D::KIND, document.raw_id());
        self.claim(id, &before.map(D::unique_names).unwrap_or_default(), &document.unique_names())?;
        let version = self.last + 1;
        let body = serde_json::to_vec(&*document).map_err(|source| DirectoryError::Corrupt {
            kind,
            version,
            source,
        })?;
        self.log(version, kind.as_str(), id, &body)?;
        self.tx.execute(
            "INSERT INTO directory_current (kind, id, version, body) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (kind, id) DO UPDATE SET version = excluded.version, body = excluded.body",
            store_params![kind.as_str(), id, version, body],
        )?;
        self.last = version;
        Ok(Versioned { version, document })
    }

    /// Writes a row that is no object of the directory, such as an operator's reason for a credit.
    pub(super) fn note(&mut self, kind: &str, id: u64, body: &[u8]) -> Result<(), DirectoryError> {
        let version = self.last + 1;
        self.log(version, kind, id, body)?;
        self.last = version;
        Ok(())
    }

    fn log(&mut self, version: u64, kind: &str, id: u64, body: &[u8]) -> Result<(), DirectoryError> {
        let hash = audit::link(&self.last_hash, version, kind, id, body, self.actor, self.at_ms);
        self.tx.execute(
            "INSERT INTO directory_log (version, kind, id, body, actor, at_ms, hash)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            store_params![version, kind, id, body, self.actor, self.at_ms, hash.to_vec()],
        )?;
        self.last_hash = hash.to_vec();
        Ok(())
    }

    /// Gives up the names that the object had and takes those that it has now.
    fn claim(&mut self, id: u64, before: &[UniqueName], now: &[UniqueName]) -> Result<(), DirectoryError> {
        for left in before.iter().filter(|name| !now.contains(name)) {
            self.tx.execute(
                "DELETE FROM directory_names WHERE kind = ?1 AND name = ?2",
                store_params![left.space, &left.name],
            )?;
        }
        for new in now.iter().filter(|name| !before.contains(name)) {
            let done = self.tx.execute(
                "INSERT INTO directory_names (kind, name, id) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
                store_params![new.space, &new.name, id],
            )?;
            if done == 0 {
                return Err(DirectoryError::NameTaken { field: new.field, name: new.name.clone() });
            }
        }
        Ok(())
    }
}

/// The object that has this name in its space.
pub(super) fn by_name<D: Document>(
    db: &Db,
    space: &str,
    name: &str,
) -> Result<Option<Versioned<D>>, DirectoryError> {
    let sql = "SELECT id FROM directory_names WHERE kind = ?1 AND name = ?2";
    match db.query_one(sql, store_params![space, name])? {
        Some(row) => current(db, row.id(0)?),
        None => Ok(None),
    }
}
