//! Reading the journal: by pages, so that no long snapshot holds up a checkpoint (embedded) or a
//! vacuum (PostgreSQL), and memory stays constant whatever the length of the journal.

use super::{BATCH_COLUMNS, Batch};
use crate::store::chain::Link;
use crate::store::db::Db;
use crate::store::error::Result;
use crate::store::value::{Row, Value};
use crate::store_params;
use std::ops::ControlFlow;

/// A page ends after so many batches or bytes, whichever comes first.
const PAGE_BATCHES: u32 = 256;
const PAGE_BYTES_MAX: usize = 1 << 20;

/// Reads batches on connections of its own. Cheap to clone.
#[derive(Clone)]
pub struct JournalReader {
    db: Db,
}

impl JournalReader {
    pub(in crate::store) fn new(db: Db) -> Self {
        Self { db }
    }

    /// The last batch of the shard, if any.
    pub fn last(&self, shard: u32) -> Result<Option<Link>> {
        let sql = "SELECT n, hash, epoch FROM journal WHERE shard = ?1 ORDER BY n DESC LIMIT 1";
        self.db
            .query(sql, store_params![shard])?
            .first()
            .map(|row| Ok(Link { n: row.id(0)?, hash: row.bytes(1)?, epoch: row.id(2)? }))
            .transpose()
    }

    /// Calls `each` with every batch from `from_n` on, in order, until it breaks or the end. Returns
    /// the last number given out. Batches appended meanwhile are included. `each` may take its time:
    /// no statement is open while it runs.
    pub fn read(
        &self,
        shard: u32,
        from_n: u64,
        each: &mut dyn FnMut(Batch) -> Result<ControlFlow<()>>,
    ) -> Result<Option<u64>> {
        let mut next = from_n;
        let mut given = None;
        loop {
            let page = self.page(shard, next)?;
            if page.is_empty() {
                return Ok(given);
            }
            for batch in page {
                given = Some(batch.n);
                next = batch.n.saturating_add(1);
                if each(batch)?.is_break() {
                    return Ok(given);
                }
            }
        }
    }

    /// The next batches from `from_n` on: at least one if there is any.
    fn page(&self, shard: u32, from_n: u64) -> Result<Vec<Batch>> {
        let sql = format!(
            "SELECT {BATCH_COLUMNS} FROM journal WHERE shard = ?1 AND n >= ?2 ORDER BY n LIMIT {PAGE_BATCHES}"
        );
        let mut page = Vec::new();
        let mut bytes = 0;
        self.db.query_each(&sql, store_params![shard, from_n], |row| {
            let batch = batch_from_row(row)?;
            bytes += batch.effects.len() + batch.facts.as_ref().map_or(0, Vec::len);
            page.push(batch);
            Ok(if bytes >= PAGE_BYTES_MAX { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        Ok(page)
    }
}

fn batch_from_row(mut row: Row) -> Result<Batch> {
    Ok(Batch {
        shard: row.u32(0)?,
        epoch: row.id(1)?,
        n: row.id(2)?,
        at_ms: row.int(3)?,
        prev_hash: row.bytes(4)?,
        hash: row.bytes(5)?,
        facts_hash: row.bytes(6)?,
        effects: row.take_blob(7)?,
        facts: match row.value(8)? {
            Value::Null => None,
            _ => Some(row.take_blob(8)?),
        },
    })
}
