//! Notices that are old enough are forgotten, with their delivery logs.
//!
//! Promises: what is not sent to its end yet stays, and so does a notice that stands for something told once for as long as it
//! lasts – that a balance is low, that a budget without an end is used –, or it would be told again.

use serde_json::Value as Json;

use super::event::Event;
use super::{Notices, stored};
use crate::store::{Db, Result, Row};
use crate::store_params;

const AT_ONCE: u32 = 500;

/// A notice as far as it matters here.
struct Old {
    id: u64,
    at_ms: i64,
    event: String,
    subject: String,
    facts: String,
}

impl Notices {
    /// Forgets the notices of before a moment. Answers how many.
    pub fn forget_before(&self, moment_ms: i64) -> Result<u64> {
        let (mut forgotten, mut after) = (0, 0);
        loop {
            let page = page(&self.db, after)?;
            for old in &page {
                if old.at_ms >= moment_ms {
                    return Ok(forgotten);
                }
                if !self.is_needed(old)? {
                    forget(&self.db, old.id)?;
                    forgotten += 1;
                }
            }
            let Some(last) = page.last() else { return Ok(forgotten) };
            after = last.id;
        }
    }

    fn is_needed(&self, old: &Old) -> Result<bool> {
        if is_under_way(&self.db, old.id)? {
            return Ok(true);
        }
        if old.event == Event::LowBalance.as_str() {
            let newest = stored::last_told(&self.db, Event::LowBalance, &old.subject)?;
            return Ok(newest == Some(old.at_ms));
        }
        if old.event == Event::BudgetAlert.as_str() {
            let facts: Json = serde_json::from_str(&old.facts).unwrap_or(Json::Null);
            return Ok(facts["window"] == "total");
        }
        Ok(false)
    }
}

/// From the oldest on: ids are in the order of time.
fn page(db: &Db, after: u64) -> Result<Vec<Old>> {
    let sql = format!(
        "SELECT id, at_ms, event, subject, facts FROM notices WHERE id > ?1 ORDER BY id LIMIT {AT_ONCE}"
    );
    let read = |row: &Row| {
        Ok(Old {
            id: row.id(0)?,
            at_ms: row.int(1)?,
            event: row.text(2)?.to_owned(),
            subject: row.text(3)?.to_owned(),
            facts: row.text(4)?.to_owned(),
        })
    };
    db.query(&sql, store_params![after])?.iter().map(read).collect()
}

fn is_under_way(db: &Db, notice: u64) -> Result<bool> {
    let sql = "SELECT 1 FROM notice_deliveries WHERE notice = ?1 AND next_at IS NOT NULL LIMIT 1";
    Ok(db.query_one(sql, store_params![notice])?.is_some())
}

fn forget(db: &Db, notice: u64) -> Result<()> {
    db.transaction(|tx| {
        tx.execute("DELETE FROM notice_deliveries WHERE notice = ?1", store_params![notice])?;
        tx.execute("DELETE FROM notices WHERE id = ?1", store_params![notice]).map(drop)
    })
}
