//! The master key of an installation: bound to its data at the first start, turned to a new one while calls go on, and
//! given up when it is lost.
//!
//! Promises: a start with a lost or another master key is refused before anything is read or written with it, and the
//! refusal says what works all the same and what must be entered anew; a new key is made only for a store that has never
//! had one, or on demand. A turn (轮换) that was interrupted at any place goes on at the next start, with the old key or
//! with the new one. API keys, tokens and redemption codes do not depend on it (`secret::Keyring`).
//! Must never: write a master key into the database but sealed by another one.

mod kept;
mod lost;
mod turn;

use std::fmt;
use std::path::{Path, PathBuf};

use crate::secret::{HashKeys, Keyring, MASTER_KEY_FILE, MasterKey, MasterKeyError, Secret};
use crate::store::{Db, StoreError};

use kept::{Kept, Stored};
pub use kept::{SealedThing, TurnRow};
pub use lost::{Renounced, renounce};
pub use turn::{MasterKeys, Parts, TurnError};

/// Where the master key of a process comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Configuration,
    /// `master.key` in this data directory.
    File(PathBuf),
}

impl Source {
    pub fn of(data_dir: &Path, given: Option<&Secret>) -> Self {
        match given {
            Some(_) => Source::Configuration,
            None => Source::File(data_dir.to_owned()),
        }
    }

    pub fn as_str(&self) -> &'static str {
        match self {
            Source::Configuration => "configuration",
            Source::File(_) => "file",
        }
    }
}

/// Why the master key cannot be used.
#[derive(Debug)]
pub enum OpenError {
    Store(StoreError),
    Key(MasterKeyError),
    /// The data was sealed with another master key, or the key's file is gone.
    Refused(Box<Refused>),
}

#[derive(Debug)]
pub struct Refused {
    pub why: MasterKeyError,
    pub sealed: Vec<SealedThing>,
    /// Whether what API keys are hashed under is kept apart; data of earlier versions has it from the master key.
    pub hash_keys_kept: bool,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Store(why) => write!(f, "{why}"),
            OpenError::Key(why) => write!(f, "{why}"),
            OpenError::Refused(refused) => write!(f, "{refused}"),
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.why {
            MasterKeyError::Lost { path } => {
                write!(f, "the master key file {path} is gone, and there is data that was sealed with it")?;
            }
            _ => f.write_str("the master key is not the one that this data was sealed with")?,
        }
        f.write_str("; nothing was changed.\n  Works without it: accounts, balances, the books, prices")?;
        match self.hash_keys_kept {
            true => f.write_str(", API keys, access tokens and redemption codes.\n")?,
            false => f.write_str(
                ".\n  This data is from a version that hashed API keys, access tokens and redemption codes with it: \
                 without it, they must be issued anew.\n",
            )?,
        }
        f.write_str("  Cannot be read without it: ")?;
        for thing in &self.sealed {
            write!(f, "{thing}, ")?;
        }
        f.write_str(
            "the answers kept under an Idempotency-Key.\n  Put the right key back. If it is lost for good, \
             `tallygate channels renounce-master-key` begins with a new one, and what cannot be read must be entered \
             anew",
        )
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            OpenError::Store(why) => Some(why),
            OpenError::Key(why) => Some(why),
            OpenError::Refused(refused) => Some(&refused.why),
        }
    }
}

impl From<StoreError> for OpenError {
    fn from(why: StoreError) -> Self {
        OpenError::Store(why)
    }
}

impl From<MasterKeyError> for OpenError {
    fn from(why: MasterKeyError) -> Self {
        OpenError::Key(why)
    }
}

/// The keys of the installation, by its master key: `given` (64 hexadecimal digits of the configuration) or the file in
/// the data directory, which is made on the first start.
pub fn open(data_dir: &Path, given: Option<&Secret>, db: &Db) -> Result<Keyring, OpenError> {
    let store = Stored::new(db);
    let kept = store.read()?;
    let own = match given {
        Some(text) => MasterKey::from_hex(text.expose()),
        None if kept.check.is_none() && !store.has_data()? => MasterKey::load_or_create(data_dir),
        None => MasterKey::load(data_dir),
    };
    let own = match own {
        Err(why @ MasterKeyError::Lost { .. }) => return Err(refused(&store, why, &kept)?),
        own => own?,
    };
    if let Some(turn) = &kept.turn {
        let hash_keys = kept.hash_keys.clone().ok_or_else(no_hash_keys)?;
        let link = turn.link()?;
        if own.id() == turn.previous_id()? {
            let next = link.next_for(&own)?;
            if given.is_none() {
                next.keep(data_dir)?;
            }
            return Ok(Keyring::new(next, Some(own), hash_keys));
        }
        if own.id() == turn.next_id()? {
            let previous = link.previous_for(&own)?;
            return Ok(Keyring::new(own, Some(previous), hash_keys));
        }
        return Err(refused(&store, MasterKeyError::Wrong, &kept)?);
    }
    bind(&store, own, kept)
}

/// The key belongs to the data: it is the one that this was bound to, or the data has not been bound yet and nothing in it
/// was sealed with another one.
fn bind(store: &Stored<'_>, own: MasterKey, mut kept: Kept) -> Result<Keyring, OpenError> {
    if kept.check.is_none() {
        if store.is_sealed_by_others(own.id())? {
            return Err(refused(store, MasterKeyError::Wrong, &kept)?);
        }
        store.keep_check(&own.check_value()?)?;
        kept = store.read()?;
    }
    if !own.made(kept.check.as_deref().unwrap_or_default())? {
        return Err(refused(store, MasterKeyError::Wrong, &kept)?);
    }
    if kept.hash_keys.is_none() {
        store.keep_hash_keys(&HashKeys::derived(&own)?)?;
        kept = store.read()?;
    }
    Ok(Keyring::new(own, None, kept.hash_keys.ok_or_else(no_hash_keys)?))
}

fn no_hash_keys() -> StoreError {
    StoreError::corrupt("the hash keys were not kept")
}

fn refused(store: &Stored<'_>, why: MasterKeyError, kept: &Kept) -> Result<OpenError, StoreError> {
    let (sealed, hash_keys_kept) = (store.sealed()?, kept.hash_keys.is_some());
    Ok(OpenError::Refused(Box::new(Refused { why, sealed, hash_keys_kept })))
}

/// The file of a data directory.
pub fn file(data_dir: &Path) -> PathBuf {
    data_dir.join(MASTER_KEY_FILE)
}
