//! Names and kept answers as rows. Blocking.

use crate::id::RequestId;
use crate::store::{Db, Result, Row};
use crate::store_params;

use super::Wish;

/// A row that stands under a name.
pub(super) struct Kept {
    pub request: RequestId,
    pub fingerprint: [u8; 32],
    pub begun_ms: i64,
    /// `None` while the request runs.
    pub head: Option<String>,
    pub body: Option<Vec<u8>>,
}

/// A name as it is stored, by which rows are walked through.
#[derive(Clone, Debug, Default)]
pub struct Place {
    api_key: u64,
    name: Vec<u8>,
}

/// An answer that is kept.
pub(super) struct Sealed {
    pub place: Place,
    pub request: RequestId,
    pub body: Vec<u8>,
}

/// Of up to 1 MiB each.
const SEALED_AT_A_TIME: i64 = 16;

pub(super) struct AnswerStore {
    db: Db,
}

impl AnswerStore {
    pub fn new(db: Db) -> Self {
        AnswerStore { db }
    }

    /// Takes a free name; else says what stands under it. An expired row gives way.
    pub fn insert(
        &self,
        wish: &Wish,
        request: RequestId,
        now_ms: i64,
        expires_ms: i64,
    ) -> Result<Option<Kept>> {
        self.db.transaction(|tx| {
            tx.execute(
                "DELETE FROM idempotency_answers WHERE api_key = ?1 AND name = ?2 AND expires_ms <= ?3",
                store_params![wish.key.raw(), wish.name.to_vec(), now_ms],
            )?;
            let taken = tx.execute(
                "INSERT INTO idempotency_answers (api_key, name, fingerprint, request, begun_ms, expires_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING",
                store_params![
                    wish.key.raw(),
                    wish.name.to_vec(),
                    wish.fingerprint.to_vec(),
                    bytes(request),
                    now_ms,
                    expires_ms
                ],
            )?;
            if taken == 1 {
                return Ok(None);
            }
            let row = tx.query_one(
                "SELECT request, fingerprint, begun_ms, head, body FROM idempotency_answers
                 WHERE api_key = ?1 AND name = ?2",
                store_params![wish.key.raw(), wish.name.to_vec()],
            )?;
            row.as_ref().map(kept).transpose()
        })
    }

    /// Gives the name of a request that is lost to another. False: somebody else has it by now.
    pub fn take_over(
        &self,
        wish: &Wish,
        lost: RequestId,
        request: RequestId,
        now_ms: i64,
        expires_ms: i64,
    ) -> Result<bool> {
        let done = self.db.execute(
            "UPDATE idempotency_answers SET request = ?4, begun_ms = ?5, expires_ms = ?6
             WHERE api_key = ?1 AND name = ?2 AND request = ?3 AND head IS NULL",
            store_params![
                wish.key.raw(),
                wish.name.to_vec(),
                bytes(lost),
                bytes(request),
                now_ms,
                expires_ms
            ],
        )?;
        Ok(done == 1)
    }

    pub fn keep(&self, wish: &Wish, request: RequestId, head: &str, body: Option<&[u8]>) -> Result<()> {
        self.db.execute(
            "UPDATE idempotency_answers SET head = ?4, body = ?5
             WHERE api_key = ?1 AND name = ?2 AND request = ?3",
            store_params![wish.key.raw(), wish.name.to_vec(), bytes(request), head, body.map(<[u8]>::to_vec)],
        )?;
        Ok(())
    }

    /// Nobody works on the request any more, and it has no answer: it began before all time.
    pub fn leave(&self, wish: &Wish, request: RequestId) -> Result<()> {
        self.db.execute(
            "UPDATE idempotency_answers SET begun_ms = 0 WHERE api_key = ?1 AND name = ?2 AND request = ?3",
            store_params![wish.key.raw(), wish.name.to_vec(), bytes(request)],
        )?;
        Ok(())
    }

    pub fn remove(&self, wish: &Wish, request: RequestId) -> Result<()> {
        self.db.execute(
            "DELETE FROM idempotency_answers WHERE api_key = ?1 AND name = ?2 AND request = ?3",
            store_params![wish.key.raw(), wish.name.to_vec(), bytes(request)],
        )?;
        Ok(())
    }

    pub fn sealed_after(&self, after: &Place) -> Result<Vec<Sealed>> {
        let rows = self.db.query(
            "SELECT api_key, name, request, body FROM idempotency_answers
             WHERE (api_key, name) > (?1, ?2) AND body IS NOT NULL ORDER BY api_key, name LIMIT ?3",
            store_params![after.api_key, after.name.clone(), SEALED_AT_A_TIME],
        )?;
        let sealed = |row: &Row| {
            Ok(Sealed {
                place: Place { api_key: row.id(0)?, name: row.blob(1)?.to_vec() },
                request: RequestId::from_raw(u128::from_be_bytes(row.bytes(2)?)),
                body: row.blob(3)?.to_vec(),
            })
        };
        rows.iter().map(sealed).collect()
    }

    /// The same answer, sealed anew; unless the name has gone to another request.
    pub fn replace_body(&self, sealed: &Sealed, body: Vec<u8>) -> Result<()> {
        self.db.execute(
            "UPDATE idempotency_answers SET body = ?4 WHERE api_key = ?1 AND name = ?2 AND request = ?3",
            store_params![sealed.place.api_key, sealed.place.name.clone(), bytes(sealed.request), body],
        )?;
        Ok(())
    }

    pub fn count_sealed(&self) -> Result<u64> {
        let sql = "SELECT COUNT(*) FROM idempotency_answers WHERE body IS NOT NULL";
        self.db.query_one(sql, store_params![])?.map_or(Ok(0), |row| row.id(0))
    }

    pub fn remove_expired(&self, now_ms: i64) -> Result<()> {
        self.db
            .execute("DELETE FROM idempotency_answers WHERE expires_ms <= ?1", store_params![now_ms])
            .map(drop)
    }
}

fn bytes(request: RequestId) -> Vec<u8> {
    request.raw().to_be_bytes().to_vec()
}

fn kept(row: &Row) -> Result<Kept> {
    Ok(Kept {
        request: RequestId::from_raw(u128::from_be_bytes(row.bytes(0)?)),
        fingerprint: row.bytes(1)?,
        begun_ms: row.int(2)?,
        head: row.maybe(3, Row::text)?.map(str::to_owned),
        body: row.maybe(4, Row::blob)?.map(<[u8]>::to_vec),
    })
}
