//! What the database keeps of the master key: by what it is recognised, the hash keys, and a turn that is under way.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::hex;
use crate::secret::{HashKeys, Link, MasterKeyError, MasterKeyId, sealed_by};
use crate::store::{Db, Result, Row, StoreError, Tx};
use crate::store_params;

/// Names in `directory_meta`.
const CHECK: &str = "master_key_check";
const HASH_KEYS: &str = "hash_keys";
const TURN: &str = "master_key_turn";

/// A turn from one master key to the next. Each is here sealed by the other alone.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TurnRow {
    next_id: String,
    previous_id: String,
    next: String,
    previous: String,
    pub begun_ms: i64,
    /// When everything was sealed with the next one.
    pub resealed_ms: Option<i64>,
}

impl TurnRow {
    pub fn new(previous: MasterKeyId, next: MasterKeyId, link: &Link, begun_ms: i64) -> Self {
        TurnRow {
            next_id: hex::encode(&next),
            previous_id: hex::encode(&previous),
            next: hex::encode(&link.next),
            previous: hex::encode(&link.previous),
            begun_ms,
            resealed_ms: None,
        }
    }

    pub fn next_id(&self) -> std::result::Result<MasterKeyId, MasterKeyError> {
        hex::decode(&self.next_id).ok_or(MasterKeyError::Damaged)
    }

    pub fn previous_id(&self) -> std::result::Result<MasterKeyId, MasterKeyError> {
        hex::decode(&self.previous_id).ok_or(MasterKeyError::Damaged)
    }

    pub fn link(&self) -> std::result::Result<Link, MasterKeyError> {
        let bytes = |text| hex::decode_vec(text).ok_or(MasterKeyError::Damaged);
        Ok(Link { next: bytes(&self.next)?, previous: bytes(&self.previous)? })
    }
}

/// See the module.
pub struct Kept {
    pub check: Option<Vec<u8>>,
    pub hash_keys: Option<HashKeys>,
    pub turn: Option<TurnRow>,
}

/// Something that was sealed with the master key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedThing {
    /// `channel` or `notice_endpoint`.
    pub kind: String,
    pub name: String,
}

impl fmt::Display for SealedThing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind.as_str() {
            "channel" => write!(f, "the credentials of channel \"{}\"", self.name),
            _ => write!(f, "the secret of webhook \"{}\"", self.name),
        }
    }
}

/// What of an object matters here.
#[derive(Deserialize)]
struct Object {
    name: String,
    #[serde(default)]
    credential: Option<String>,
    #[serde(default)]
    credentials: Vec<String>,
    #[serde(default)]
    secret: Option<String>,
}

pub struct Stored<'d> {
    db: &'d Db,
}

impl<'d> Stored<'d> {
    pub fn new(db: &'d Db) -> Self {
        Stored { db }
    }

    pub fn read(&self) -> Result<Kept> {
        let turn = self.value(TURN)?.map(|body| serde_json::from_slice(&body)).transpose();
        let hash_keys = self.value(HASH_KEYS)?;
        let is_damaged = |what: &str| StoreError::corrupt(format!("{what} cannot be read"));
        Ok(Kept {
            check: self.value(CHECK)?,
            hash_keys: match hash_keys {
                Some(bytes) => Some(
                    HashKeys::from_bytes(&bytes)
                        .ok_or_else(|| is_damaged("what API keys are hashed under"))?,
                ),
                None => None,
            },
            turn: turn.map_err(|why| is_damaged("the turn of the master key").caused_by(why))?,
        })
    }

    /// Whether anything was ever written here.
    pub fn has_data(&self) -> Result<bool> {
        Ok(self.db.query_one("SELECT version FROM directory_log LIMIT 1", store_params![])?.is_some())
    }

    pub fn keep_check(&self, value: &[u8]) -> Result<()> {
        self.insert(CHECK, value)
    }

    pub fn keep_hash_keys(&self, keys: &HashKeys) -> Result<()> {
        self.insert(HASH_KEYS, &keys.to_bytes())
    }

    /// Whoever reads next holds both keys. False: a turn is under way already.
    pub fn begin_turn(&self, turn: &TurnRow, check: &[u8]) -> Result<bool> {
        let body = turn_body(turn)?;
        self.db.transaction(|tx| {
            let sql = "INSERT INTO directory_meta (name, body) VALUES (?1, ?2) ON CONFLICT (name) DO NOTHING";
            if tx.execute(sql, store_params![TURN, body.clone()])? == 0 {
                return Ok(false);
            }
            put_check(tx, check)?;
            Ok(true)
        })
    }

    pub fn keep_turn(&self, turn: &TurnRow) -> Result<()> {
        let sql = "UPDATE directory_meta SET body = ?2 WHERE name = ?1";
        self.db.execute(sql, store_params![TURN, turn_body(turn)?]).map(drop)
    }

    /// The key before is in the database no more.
    pub fn end_turn(&self) -> Result<()> {
        self.db.execute("DELETE FROM directory_meta WHERE name = ?1", store_params![TURN]).map(drop)
    }

    /// The data belongs to another master key from now on.
    pub fn rebind(&self, check: &[u8]) -> Result<()> {
        self.db.transaction(|tx| {
            tx.execute("DELETE FROM directory_meta WHERE name = ?1", store_params![TURN])?;
            put_check(tx, check)
        })
    }

    /// Every object with something sealed.
    pub fn sealed(&self) -> Result<Vec<SealedThing>> {
        let thing = |(kind, object): (String, Object)| SealedThing { kind, name: object.name };
        Ok(self.objects()?.into_iter().map(thing).collect())
    }

    /// Whether there is anything sealed, and nothing of it by this master key.
    pub fn is_sealed_by_others(&self, own: MasterKeyId) -> Result<bool> {
        let ids: Vec<_> = self.objects()?.iter().filter_map(|(_, object)| object.sealed_by()).collect();
        Ok(!ids.is_empty() && !ids.contains(&own))
    }

    fn objects(&self) -> Result<Vec<(String, Object)>> {
        let sql = "SELECT kind, body FROM directory_current
             WHERE kind IN ('channel', 'notice_endpoint') ORDER BY kind, id";
        let object = |row: &Row| {
            let kind = row.text(0)?.to_owned();
            let object = serde_json::from_slice::<Object>(row.blob(1)?);
            Ok((kind, object.map_err(|why| StoreError::corrupt("a document cannot be read").caused_by(why))?))
        };
        let all: Result<Vec<_>> = self.db.query(sql, store_params![])?.iter().map(object).collect();
        Ok(all?.into_iter().filter(|(_, object)| object.first().is_some()).collect())
    }

    fn value(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let sql = "SELECT body FROM directory_meta WHERE name = ?1";
        self.db.query_one(sql, store_params![name])?.map(|mut row| row.take_blob(0)).transpose()
    }

    /// Unless another node was first.
    fn insert(&self, name: &str, body: &[u8]) -> Result<()> {
        let sql = "INSERT INTO directory_meta (name, body) VALUES (?1, ?2) ON CONFLICT (name) DO NOTHING";
        self.db.execute(sql, store_params![name, body.to_vec()]).map(drop)
    }
}

impl Object {
    fn first(&self) -> Option<&String> {
        self.credentials.first().or(self.credential.as_ref()).or(self.secret.as_ref())
    }

    fn sealed_by(&self) -> Option<MasterKeyId> {
        sealed_by(&hex::decode_vec(self.first()?)?)
    }
}

fn put_check(tx: &mut Tx<'_>, check: &[u8]) -> Result<()> {
    let sql = "INSERT INTO directory_meta (name, body) VALUES (?1, ?2)
         ON CONFLICT (name) DO UPDATE SET body = excluded.body";
    tx.execute(sql, store_params![CHECK, check.to_vec()]).map(drop)
}

fn turn_body(turn: &TurnRow) -> Result<Vec<u8>> {
    serde_json::to_vec(turn).map_err(|why| StoreError::other("a turn cannot be written").caused_by(why))
}
