//! A master key that is lost for good: the installation goes on with another one.

use std::path::Path;

use crate::secret::{HashKeys, MasterKey, MasterKeyError, Secret};
use crate::store::Db;

use super::OpenError;
use super::kept::{SealedThing, Stored};

/// What came of giving the master key up, or would come of it.
#[derive(Clone, Debug)]
pub struct Renounced {
    /// What must be entered anew.
    pub sealed: Vec<SealedThing>,
    /// Whether API keys, access tokens and redemption codes must be issued anew, too.
    pub hashes_lost: bool,
    pub done: bool,
}

/// Binds the data to the configured master key, else to the one in the file, else to a new one. With `dry`, only tells
/// what that would cost. The error is `Wrong` where nothing is lost: the key that is there is the right one.
pub fn renounce(data_dir: &Path, given: Option<&Secret>, db: &Db, dry: bool) -> Result<Renounced, OpenError> {
    match super::open(data_dir, given, db) {
        Ok(_) => return Err(OpenError::Key(MasterKeyError::Wrong)),
        Err(OpenError::Refused(_)) => {}
        Err(other) => return Err(other),
    }
    let store = Stored::new(db);
    let kept = store.read()?;
    let renounced = Renounced { sealed: store.sealed()?, hashes_lost: kept.hash_keys.is_none(), done: !dry };
    if dry {
        return Ok(renounced);
    }
    let key = match given {
        Some(text) => MasterKey::from_hex(text.expose())?,
        None => MasterKey::load_or_create(data_dir)?,
    };
    if kept.hash_keys.is_none() {
        store.keep_hash_keys(&HashKeys::derived(&key)?)?;
    }
    store.rebind(&key.check_value()?)?;
    Ok(renounced)
}
