//! Transcripts as rows. Blocking.

use crate::id::{AccountId, KeyId, RequestId};
use crate::store::{Db, Result, Row, Value};
use crate::store_params;

use super::Transcript;

/// Keys that are sealed anew in one go.
const KEYS_AT_A_TIME: u32 = 128;
/// Rows that are removed in one go: others write in between.
const REMOVED_AT_A_TIME: u32 = 500;

/// That there is a transcript, without what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub request: RequestId,
    pub account: AccountId,
    pub key: KeyId,
    pub at_ms: i64,
    pub expires_ms: i64,
}

/// Which transcripts are asked for.
#[derive(Clone, Debug)]
pub struct Filter {
    pub account: AccountId,
    /// Only those of these keys; `None`: of all.
    pub keys: Option<Vec<KeyId>>,
    /// Only those of earlier calls than this one.
    pub before: Option<RequestId>,
}

/// A transcript as it is stored.
pub(super) struct Sealed {
    pub data_key: Vec<u8>,
    pub content: Vec<u8>,
}

pub(super) struct TranscriptStore {
    db: Db,
}

impl TranscriptStore {
    pub fn new(db: Db) -> Self {
        TranscriptStore { db }
    }

    pub fn insert(&self, rows: Vec<(&Transcript, Sealed)>) -> Result<()> {
        let sql = "INSERT INTO transcripts (request, account, api_key, at_ms, expires_ms, data_key, content)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING";
        self.db.transaction(|tx| {
            for (transcript, sealed) in &rows {
                let params = store_params![
                    bytes(transcript.request),
                    transcript.account.raw(),
                    transcript.key.raw(),
                    transcript.at_ms,
                    transcript.expires_ms,
                    sealed.data_key.clone(),
                    sealed.content.clone()
                ];
                tx.execute(sql, params)?;
            }
            Ok(())
        })
    }

    pub fn list(&self, filter: &Filter, now_ms: i64, limit: u32) -> Result<Vec<Entry>> {
        let mut sql = "SELECT request, account, api_key, at_ms, expires_ms FROM transcripts
             WHERE account = ?1 AND expires_ms > ?2"
            .to_owned();
        let mut params: Vec<Value> = vec![filter.account.raw().into(), now_ms.into()];
        if let Some(keys) = &filter.keys {
            // Nothing is in an empty list, which the two backends do not both know.
            if keys.is_empty() {
                return Ok(Vec::new());
            }
            let places: Vec<_> = (params.len() + 1..).map(|n| format!("?{n}")).take(keys.len()).collect();
            params.extend(keys.iter().map(|key| Value::from(key.raw())));
            sql.push_str(&format!(" AND api_key IN ({})", places.join(", ")));
        }
        if let Some(before) = filter.before {
            params.push(bytes(before).into());
            sql.push_str(&format!(" AND request < ?{}", params.len()));
        }
        sql.push_str(&format!(" ORDER BY request DESC LIMIT {limit}"));
        self.db.query(&sql, &params)?.iter().map(entry).collect()
    }

    pub fn entry(&self, request: RequestId, now_ms: i64) -> Result<Option<Entry>> {
        let sql = "SELECT request, account, api_key, at_ms, expires_ms FROM transcripts
             WHERE request = ?1 AND expires_ms > ?2";
        self.db.query_one(sql, store_params![bytes(request), now_ms])?.as_ref().map(entry).transpose()
    }

    pub fn read(&self, request: RequestId, now_ms: i64) -> Result<Option<(Entry, Sealed)>> {
        let sql = "SELECT request, account, api_key, at_ms, expires_ms, data_key, content FROM transcripts
             WHERE request = ?1 AND expires_ms > ?2";
        let Some(mut row) = self.db.query_one(sql, store_params![bytes(request), now_ms])? else {
            return Ok(None);
        };
        let sealed = Sealed { data_key: row.take_blob(5)?, content: row.take_blob(6)? };
        Ok(Some((entry(&row)?, sealed)))
    }

    pub fn erase(&self, request: RequestId) -> Result<bool> {
        let erased =
            self.db.execute("DELETE FROM transcripts WHERE request = ?1", store_params![bytes(request)])?;
        Ok(erased > 0)
    }

    /// Some of an account's. Returns how many they were; 0: there are no more.
    pub fn erase_some(&self, account: AccountId) -> Result<u64> {
        self.remove("account = ?1 ORDER BY request", account.raw().into())
    }

    /// Some of those whose end has come.
    pub fn forget_some(&self, now_ms: i64) -> Result<u64> {
        self.remove("expires_ms <= ?1 ORDER BY expires_ms", now_ms.into())
    }

    fn remove(&self, which: &str, value: Value) -> Result<u64> {
        let sql = format!(
            "DELETE FROM transcripts WHERE request IN
             (SELECT request FROM transcripts WHERE {which} LIMIT {REMOVED_AT_A_TIME})"
        );
        self.db.execute(&sql, &[value])
    }

    pub fn count(&self) -> Result<u64> {
        let row = self.db.query_one("SELECT COUNT(*) FROM transcripts", store_params![])?;
        row.map_or(Ok(0), |row| row.id(0))
    }

    /// Sealed keys behind a transcript, in the order of time.
    pub fn keys_after(&self, after: Option<RequestId>) -> Result<Vec<(RequestId, Vec<u8>)>> {
        let sql = format!(
            "SELECT request, data_key FROM transcripts WHERE request > ?1 ORDER BY request LIMIT {KEYS_AT_A_TIME}"
        );
        let after = after.map(bytes).unwrap_or_default();
        let key = |row: &Row| Ok((request(row)?, row.blob(1)?.to_vec()));
        self.db.query(&sql, store_params![after])?.iter().map(key).collect()
    }

    pub fn replace_key(&self, request: RequestId, before: &[u8], anew: Vec<u8>) -> Result<()> {
        let sql = "UPDATE transcripts SET data_key = ?3 WHERE request = ?1 AND data_key = ?2";
        self.db.execute(sql, store_params![bytes(request), before.to_vec(), anew]).map(drop)
    }
}

fn bytes(request: RequestId) -> Vec<u8> {
    request.raw().to_be_bytes().to_vec()
}

fn request(row: &Row) -> Result<RequestId> {
    Ok(RequestId::from_raw(u128::from_be_bytes(row.bytes(0)?)))
}

fn entry(row: &Row) -> Result<Entry> {
    Ok(Entry {
        request: request(row)?,
        account: AccountId::from_raw(row.id(1)?),
        key: KeyId::from_raw(row.id(2)?),
        at_ms: row.int(3)?,
        expires_ms: row.int(4)?,
    })
}
