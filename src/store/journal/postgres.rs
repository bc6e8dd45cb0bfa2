//! The journal on PostgreSQL: fenced by an epoch, ambiguous commits resolved by the batch's hash.
//!
//! One statement appends: it inserts only while the owner's row carries our epoch, and inserting the
//! same number again does nothing. So an append whose answer was lost is simply looked up.

use super::reader::JournalReader;
use super::{AppendError, Batch, JournalStore};
use crate::store::db::Db;
use crate::store::error::{Result, StoreError, StoreErrorKind};
use crate::store::postgres::{PgConn, PgPool, PgServer};
use crate::store_params;
use ::postgres::types::ToSql;
use std::time::{Duration, Instant};

/// How long a lost connection is tried again before an append is given up as unresolved.
const RESOLVE_FOR: Duration = Duration::from_secs(30);
const RESOLVE_PAUSE: Duration = Duration::from_millis(100);

const LEASE_MS: i64 = 3_000;
/// Under unbroken load an append prolongs the lease this often.
const RENEW_EVERY: Duration = Duration::from_secs(1);
/// The server's clock in milliseconds since the Unix epoch: leases are compared by it alone.
const NOW_MS: &str = "(EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::BIGINT";

const APPEND: &str = "INSERT INTO journal (shard, epoch, n, at_ms, prev_hash, hash, facts_hash, effects, facts) \
     SELECT $1::BIGINT, $2::BIGINT, $3::BIGINT, $4::BIGINT, $5::BYTEA, $6::BYTEA, $7::BYTEA, $8::BYTEA, $9::BYTEA \
     FROM books_owner WHERE shard = $1 AND epoch = $2 FOR SHARE ON CONFLICT DO NOTHING";

pub(in crate::store) struct PostgresJournal {
    server: PgServer,
    reader: JournalReader,
    conn: Option<PgConn>,
    /// When the lease was last prolonged.
    renewed: Instant,
}

/// What one attempt to append came to.
enum Attempt {
    Done,
    /// Nothing was inserted: fenced, or the number is taken (perhaps by this very batch).
    NotInserted,
    Failed(StoreError),
}

impl PostgresJournal {
    pub(in crate::store) fn open(server: PgServer) -> Result<Self> {
        let reader = JournalReader::new(Db::postgres(PgPool::new(server.clone())));
        let conn = Some(server.connect()?);
        Ok(Self { server, reader, conn, renewed: Instant::now() })
    }

    /// Runs `work` on the writing connection, opened again if it was lost.
    fn on_connection<T>(&mut self, work: impl FnOnce(&mut PgConn) -> Result<T>) -> Result<T> {
        let mut conn = match self.conn.take() {
            Some(conn) if !conn.is_closed() => conn,
            _ => self.server.connect()?,
        };
        let done = work(&mut conn);
        let lost = matches!(&done, Err(error) if error.kind() == StoreErrorKind::Unavailable);
        if !lost {
            self.conn = Some(conn);
        }
        done
    }

    fn attempt(&mut self, batch: &Batch) -> Attempt {
        let ids = [batch.shard.into(), batch.epoch.cast_signed(), batch.n.cast_signed(), batch.at_ms];
        let [shard, epoch, n, at_ms] = &ids;
        let params: [&(dyn ToSql + Sync); 9] = [
            shard,
            epoch,
            n,
            at_ms,
            &batch.prev_hash.as_slice(),
            &batch.hash.as_slice(),
            &batch.facts_hash.as_slice(),
            &batch.effects,
            &batch.facts,
        ];
        let inserted = self.on_connection(|conn| {
            let statement = conn.native(APPEND)?;
            Ok(conn.client().execute(&statement, &params)?)
        });
        match inserted {
            Ok(0) => Attempt::NotInserted,
            Ok(_) => Attempt::Done,
            Err(error) => Attempt::Failed(error),
        }
    }

    /// Appends, and when the answer is lost, asks again until it is known what became of the batch.
    fn append_resolved(&mut self, batch: &Batch) -> Result<(), AppendError> {
        let deadline = Instant::now() + RESOLVE_FOR;
        loop {
            let failed = match self.attempt(batch) {
                Attempt::Done => return Ok(()),
                Attempt::NotInserted => match self.is_stored(batch) {
                    Ok(true) => return Ok(()),
                    Ok(false) => return Err(AppendError::Fenced),
                    Err(error) => error,
                },
                Attempt::Failed(error) => error,
            };
            // The server answered that it refuses: nothing was stored. Else the answer is lost, and
            // the next attempt finds the batch by its number and hash.
            if failed.kind() != StoreErrorKind::Unavailable {
                return Err(AppendError::Definite(failed));
            }
            if Instant::now() >= deadline {
                return Err(AppendError::Unresolved(failed));
            }
            std::thread::sleep(RESOLVE_PAUSE);
        }
    }

    /// Is this very batch in the journal?
    fn is_stored(&mut self, batch: &Batch) -> Result<bool> {
        let sql = "SELECT hash FROM journal WHERE shard = ?1 AND n = ?2";
        self.on_connection(|conn| {
            let mut stored = false;
            conn.query_each(sql, store_params![batch.shard, batch.n], &mut |row| {
                stored = row.blob(0)? == batch.hash;
                Ok(std::ops::ControlFlow::Break(()))
            })?;
            Ok(stored)
        })
    }
}

impl JournalStore for PostgresJournal {
    fn acquire(&mut self, shard: u32, node: &str) -> Result<u64> {
        let create = "INSERT INTO books_owner (shard, epoch, node, until_ms) VALUES (?1, 0, '', 0) \
             ON CONFLICT DO NOTHING";
        let take = format!(
            "UPDATE books_owner SET node = ?2, epoch = epoch + 1, until_ms = {NOW_MS} + {LEASE_MS} \
             WHERE shard = ?1 AND (until_ms < {NOW_MS} OR node = ?2) RETURNING epoch"
        );
        let mut taken = None;
        self.on_connection(|conn| {
            conn.execute(create, store_params![shard])?;
            conn.query_each(&take, store_params![shard, node], &mut |row| {
                taken = Some(row.id(0)?);
                Ok(std::ops::ControlFlow::Break(()))
            })
        })?;
        taken.ok_or_else(|| StoreError::new(StoreErrorKind::Taken, "the books are owned by another node"))
    }

    fn renew(&mut self, shard: u32, epoch: u64) -> Result<()> {
        let sql = format!(
            "UPDATE books_owner SET until_ms = {NOW_MS} + {LEASE_MS} WHERE shard = ?1 AND epoch = ?2"
        );
        let renewed = self.on_connection(|conn| conn.execute(&sql, store_params![shard, epoch]))?;
        match renewed {
            0 => Err(StoreError::new(StoreErrorKind::Fenced, "the books were taken over by another node")),
            _ => {
                self.renewed = Instant::now();
                Ok(())
            }
        }
    }

    fn release(&mut self, shard: u32, epoch: u64) -> Result<()> {
        let sql = "UPDATE books_owner SET until_ms = 0 WHERE shard = ?1 AND epoch = ?2";
        self.on_connection(|conn| conn.execute(sql, store_params![shard, epoch])).map(drop)
    }

    fn append(&mut self, batch: &Batch) -> Result<(), AppendError> {
        self.append_resolved(batch)?;
        if self.renewed.elapsed() >= RENEW_EVERY {
            // The batch is stored, whatever comes of this; a lost lease shows at the next append.
            if let Err(error) = self.renew(batch.shard, batch.epoch) {
                tracing::warn!(%error, "journal: the lease could not be prolonged");
            }
        }
        Ok(())
    }

    fn maintain(&mut self) -> Result<()> {
        Ok(())
    }

    fn purge_facts(&mut self, shard: u32, before_n: u64, limit: u32) -> Result<u64> {
        self.on_connection(|conn| conn.execute(super::PURGE, store_params![shard, before_n, limit]))
    }

    fn reader(&self) -> JournalReader {
        self.reader.clone()
    }
}
