//! Binds the master key to the data that was written with it.
//!
//! Promises: a start with a lost or another master key is refused before anything is read or written
//! with it; a new key is generated only for a store that has never had one.

use super::db::Db;
use super::error::{StoreError, StoreErrorKind};
use crate::secret::{MasterKey, MasterKeyError, Secret};
use crate::store_params;
use std::path::Path;

/// Where the check value stands in `directory_meta`.
const NAME: &str = "master_key_check";

/// The installation's master key: `given` (64 hexadecimal digits from the configuration) or the file
/// in the data directory, which is made on the first start.
pub fn master_key(data_dir: &Path, given: Option<&Secret>, directory: &Db) -> Result<MasterKey, StoreError> {
    let stored = check_value(directory)?;
    let key = match given {
        Some(text) => MasterKey::from_hex(text.expose()),
        None if stored.is_some() => MasterKey::load(data_dir),
        None => MasterKey::load_or_create(data_dir),
    }
    .map_err(refused)?;
    let stored = match stored {
        Some(stored) => stored,
        None => bind(directory, &key)?,
    };
    key.check(&stored).map_err(refused)?;
    Ok(key)
}

fn check_value(directory: &Db) -> Result<Option<Vec<u8>>, StoreError> {
    let row = directory.query_one("SELECT body FROM directory_meta WHERE name = ?1", store_params![NAME])?;
    row.map(|mut row| row.take_blob(0)).transpose()
}

/// Stores the check value, unless another node was first; returns what is stored.
fn bind(directory: &Db, key: &MasterKey) -> Result<Vec<u8>, StoreError> {
    let value = key.check_value().map_err(refused)?;
    let sql = "INSERT INTO directory_meta (name, body) VALUES (?1, ?2) ON CONFLICT (name) DO NOTHING";
    directory.execute(sql, store_params![NAME, value])?;
    check_value(directory)?.ok_or_else(|| StoreError::corrupt("the master key's check value was not kept"))
}

fn refused(error: MasterKeyError) -> StoreError {
    StoreError::new(StoreErrorKind::Other, error.to_string()).caused_by(error)
}
