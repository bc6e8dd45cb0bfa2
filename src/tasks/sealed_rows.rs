//! Rows that belong to tasks and have something sealed with the master key, walked through when that turns.

use crate::id::TaskId;
use crate::secret::{Keyring, MasterKeyError};
use crate::store::Db;
use crate::store_params;

use super::error::TaskError;

/// Which row: its task and its number there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResultPlace {
    task: u64,
    number: u32,
}

/// A table of them; its key is `(task, number)`.
pub(super) struct SealedRows {
    pub table: &'static str,
    /// What is sealed; null: nothing.
    pub column: &'static str,
    /// Sealed anew in one go.
    pub at_a_time: u32,
    /// What the master key seals it for: this one alone.
    pub purpose: fn(TaskId, u32) -> String,
}

impl SealedRows {
    /// Seals with the newest master key what another one sealed behind a place, some of it. Returns the last place looked
    /// at and how many were sealed anew; `None`: there are no more. What no key at hand opens stays as it is.
    pub fn reseal_after(
        &self,
        db: &Db,
        keyring: &Keyring,
        after: ResultPlace,
    ) -> Result<Option<(ResultPlace, u64)>, TaskError> {
        let SealedRows { table, column, at_a_time, purpose } = self;
        let sql = format!(
            "SELECT task, number, {column} FROM {table} WHERE (task, number) > (?1, ?2) AND {column} IS NOT NULL \
             ORDER BY task, number LIMIT ?3"
        );
        // What was written meanwhile was sealed by the newest.
        let update =
            format!("UPDATE {table} SET {column} = ?3 WHERE task = ?1 AND number = ?2 AND {column} = ?4");
        let (mut last, mut resealed) = (None, 0);
        for row in &db.query(&sql, store_params![after.task, after.number, *at_a_time])? {
            let place = ResultPlace { task: row.id(0)?, number: row.u32(1)? };
            let before = row.blob(2)?;
            match keyring.reseal(&purpose(TaskId::from_raw(place.task), place.number), before) {
                Ok(None) | Err(MasterKeyError::Wrong | MasterKeyError::Damaged) => {}
                Ok(Some(anew)) => {
                    let params = store_params![place.task, place.number, anew, before.to_vec()];
                    resealed += db.execute(&update, params)?;
                }
                Err(why) => return Err(why.into()),
            }
            last = Some(place);
        }
        Ok(last.map(|last| (last, resealed)))
    }
}
