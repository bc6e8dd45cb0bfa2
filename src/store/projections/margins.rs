//! Sums of what calls bring beside what they cost the platform: one row for each day in UTC, book, channel and model.
//!
//! A call is charged at the channel that served it; each attempt costs at the channel that it was made at.

use std::sync::LazyLock;

use super::Projections;
use super::sums::{Kind, SumRow, SumTable};
use crate::store::error::{Result, StoreError};
use crate::store::value::{Row, Value};
use crate::store_params;

/// Where.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MarginKey {
    /// Beginning of the day in UTC, in milliseconds since the Unix epoch: that on which the call arrived.
    pub day_ms: i64,
    /// Number of the [`ledger::Book`].
    pub book: u8,
    /// 0 where that is not known any more.
    pub channel: u64,
    /// As it was asked for; empty where that is not known any more.
    pub model: Box<str>,
}

/// Sums; amounts in nano-units of the ledger currency.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MarginSums {
    /// Calls that were served here.
    pub calls: i64,
    /// What those were charged, and what of it was given back since.
    pub charged: i64,
    pub refunded: i64,
    /// Attempts that served no call: failed, retried elsewhere, or of a call that nothing came of.
    pub failed: i64,
    /// What upstreams bill for attempts that served a call, and for those that did not.
    pub served_cost: i64,
    pub failed_cost: i64,
    /// What of both is the most that it can be.
    pub estimated_cost: i64,
    /// Attempts of which nobody knows the cost; they are no part of the costs.
    pub unknown_served: i64,
    pub unknown_failed: i64,
    /// Charged less refunded, of the calls that those served.
    pub unknown_net: i64,
}

impl MarginSums {
    pub fn add(&mut self, other: &MarginSums) {
        let mut sums = self.columns();
        sums.iter_mut().zip(other.columns()).for_each(|(sum, more)| *sum = sum.saturating_add(more));
        *self = Self::of_columns(sums);
    }

    fn columns(&self) -> [i64; SUMS.len()] {
        [
            self.calls,
            self.charged,
            self.refunded,
            self.failed,
            self.served_cost,
            self.failed_cost,
            self.estimated_cost,
            self.unknown_served,
            self.unknown_failed,
            self.unknown_net,
        ]
    }

    fn of_columns(columns: [i64; SUMS.len()]) -> Self {
        let [
            calls,
            charged,
            refunded,
            failed,
            served_cost,
            failed_cost,
            estimated_cost,
            unknown_served,
            unknown_failed,
            unknown_net,
        ] = columns;
        MarginSums {
            calls,
            charged,
            refunded,
            failed,
            served_cost,
            failed_cost,
            estimated_cost,
            unknown_served,
            unknown_failed,
            unknown_net,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarginRow {
    pub key: MarginKey,
    pub sums: MarginSums,
}

const SUMS: [&str; 10] = [
    "calls",
    "charged",
    "refunded",
    "failed",
    "served_cost",
    "failed_cost",
    "estimated_cost",
    "unknown_served",
    "unknown_failed",
    "unknown_net",
];

static TABLE: LazyLock<SumTable> = LazyLock::new(|| {
    let names = [
        ("day_ms", Kind::Int),
        ("id", Kind::Bytes),
        ("book", Kind::Int),
        ("channel", Kind::Int),
        ("model", Kind::Text),
    ];
    SumTable::new("margins", "day_ms, id", &names, &SUMS)
});

impl MarginKey {
    fn fingerprint(&self) -> [u8; 16] {
        let mut bytes = Vec::with_capacity(16 + self.model.len());
        bytes.push(self.book);
        bytes.extend_from_slice(&self.channel.to_be_bytes());
        bytes.extend_from_slice(self.model.as_bytes());
        ledger::fnv1a(&bytes).to_be_bytes()
    }
}

impl SumRow for MarginRow {
    fn table() -> &'static SumTable {
        &TABLE
    }

    fn values(&self) -> Vec<Value> {
        let key = &self.key;
        let mut values =
            store_params![key.day_ms, key.fingerprint(), key.book, key.channel, &*key.model].to_vec();
        values.extend(self.sums.columns().map(Value::from));
        values
    }
}

impl Projections {
    /// Calls `each` for every sum of a book of the days that begin from `from_ms` on and before `to_ms`.
    pub fn margins(
        &self,
        book: ledger::Book,
        from_ms: i64,
        to_ms: i64,
        mut each: impl FnMut(MarginRow),
    ) -> Result<()> {
        let sql =
            format!("SELECT {} FROM margins WHERE day_ms >= ?1 AND day_ms < ?2 AND book = ?3", TABLE.read);
        self.db().query_each(&sql, store_params![from_ms, to_ms, book as u8], |mut row| {
            each(read(&mut row)?);
            Ok(std::ops::ControlFlow::Continue(()))
        })
    }
}

fn read(row: &mut Row) -> Result<MarginRow> {
    let mut columns = [0; SUMS.len()];
    for (at, slot) in columns.iter_mut().enumerate() {
        *slot = row.int(4 + at)?;
    }
    let book = row.int(1)?;
    let key = MarginKey {
        day_ms: row.int(0)?,
        book: u8::try_from(book).map_err(|_| StoreError::corrupt(format!("there is no book {book}")))?,
        channel: row.id(2)?,
        model: row.take_text(3)?.into(),
    };
    Ok(MarginRow { key, sums: MarginSums::of_columns(columns) })
}
