//! Sums of what calls cost: one row for each day and each set of names that a report can ask for, so that a year is a
//! few thousand rows whatever the number of calls.

use std::sync::LazyLock;

use ledger::{TokenClass, Unit};

use super::Projections;
use super::sums::{Kind, SumRow, SumTable};
use crate::store::error::{Result, StoreError};
use crate::store::value::{Row, Value};
use crate::store_params;

/// Whose calls, and of what kind. Ids that are 0 are none.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CostKey {
    pub account: u64,
    /// Beginning of the day, in milliseconds since the Unix epoch.
    pub day_ms: i64,
    pub key: u64,
    pub project: u64,
    pub member: u64,
    pub group: u64,
    /// As it was asked for; empty where that is not known any more.
    pub model: Box<str>,
    /// Number of the endpoint; 0 where that is not known any more.
    pub endpoint: u8,
    /// Number of the [`ledger::Measure`] that was sold; 0: nothing was used, or that is not known any more.
    pub unit: u8,
}

/// Sums; amounts in nano-units of the ledger currency.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CostSums {
    /// Calls that came to an end, charged or not.
    pub calls: i64,
    pub charged: i64,
    pub refunds: i64,
    pub refunded: i64,
    pub tokens: [i64; TokenClass::COUNT],
    /// By [`Unit`], as they are counted.
    pub units: [i64; Unit::COUNT],
}

impl CostSums {
    pub fn add(&mut self, other: &CostSums) {
        let add = |sum: &mut i64, more: i64| *sum = sum.saturating_add(more);
        add(&mut self.calls, other.calls);
        add(&mut self.charged, other.charged);
        add(&mut self.refunds, other.refunds);
        add(&mut self.refunded, other.refunded);
        self.tokens.iter_mut().zip(other.tokens).for_each(|(sum, more)| add(sum, more));
        self.units.iter_mut().zip(other.units).for_each(|(sum, more)| add(sum, more));
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CostRow {
    pub key: CostKey,
    pub sums: CostSums,
}

static TABLE: LazyLock<SumTable> = LazyLock::new(|| {
    let names = [
        ("account", Kind::Int),
        ("day_ms", Kind::Int),
        ("id", Kind::Bytes),
        ("key", Kind::Int),
        ("project", Kind::Int),
        ("member", Kind::Int),
        ("group_id", Kind::Int),
        ("model", Kind::Text),
        ("endpoint", Kind::Int),
        ("unit", Kind::Int),
    ];
    // A class of tokens is a column of the same name; units are counted in these.
    let units = Unit::ALL.into_iter().map(|unit| match unit {
        Unit::Image => "images",
        Unit::Second => "milliseconds",
        Unit::Character => "characters",
        Unit::Search => "searches",
    });
    let classes = TokenClass::ALL.into_iter().map(TokenClass::as_str);
    let sums: Vec<_> =
        ["calls", "charged", "refunds", "refunded"].into_iter().chain(classes).chain(units).collect();
    SumTable::new("costs", "account, day_ms, id", &names, &sums)
});

/// Adds one row, on the embedded store.
pub(super) static ADD_ONE: LazyLock<String> = LazyLock::new(|| TABLE.add_one.clone());

impl CostKey {
    fn fingerprint(&self) -> [u8; 16] {
        let mut bytes = Vec::with_capacity(40 + self.model.len());
        for id in [self.key, self.project, self.member, self.group] {
            bytes.extend_from_slice(&id.to_be_bytes());
        }
        bytes.extend_from_slice(&[self.endpoint, self.unit]);
        bytes.extend_from_slice(self.model.as_bytes());
        ledger::fnv1a(&bytes).to_be_bytes()
    }
}

impl SumRow for CostRow {
    fn table() -> &'static SumTable {
        &TABLE
    }

    fn values(&self) -> Vec<Value> {
        self.values()
    }
}

impl CostRow {
    /// All columns, in their order.
    pub(super) fn values(&self) -> Vec<Value> {
        let (key, sums) = (&self.key, &self.sums);
        let mut values = store_params![
            key.account,
            key.day_ms,
            key.fingerprint(),
            key.key,
            key.project,
            key.member,
            key.group,
            &*key.model,
            key.endpoint,
            key.unit,
            sums.calls,
            sums.charged,
            sums.refunds,
            sums.refunded,
        ]
        .to_vec();
        values.extend(sums.tokens.map(Value::from));
        values.extend(sums.units.map(Value::from));
        values
    }
}

impl Projections {
    /// Calls `each` for every sum of an account, or of all, of the days that begin from `from_ms` on and before `to_ms`.
    pub fn costs(
        &self,
        account: Option<u64>,
        from_ms: i64,
        to_ms: i64,
        mut each: impl FnMut(CostRow),
    ) -> Result<()> {
        let mut sql = format!("SELECT {} FROM costs WHERE day_ms >= ?1 AND day_ms < ?2", TABLE.read);
        let mut params = store_params![from_ms, to_ms].to_vec();
        if let Some(account) = account {
            sql.push_str(" AND account = ?3");
            params.push(account.into());
        }
        self.db().query_each(&sql, &params, |mut row| {
            each(read(&mut row)?);
            Ok(std::ops::ControlFlow::Continue(()))
        })
    }
}

fn read(row: &mut Row) -> Result<CostRow> {
    let small = |column: usize| {
        let number = row.int(column)?;
        u8::try_from(number)
            .map_err(|_| StoreError::corrupt(format!("a sum is named by the number {number}")))
    };
    let (endpoint, unit) = (small(7)?, small(8)?);
    let mut sums = CostSums {
        calls: row.int(9)?,
        charged: row.int(10)?,
        refunds: row.int(11)?,
        refunded: row.int(12)?,
        ..CostSums::default()
    };
    for (at, slot) in sums.tokens.iter_mut().chain(&mut sums.units).enumerate() {
        *slot = row.int(13 + at)?;
    }
    let key = CostKey {
        account: row.id(0)?,
        day_ms: row.int(1)?,
        key: row.id(2)?,
        project: row.id(3)?,
        member: row.id(4)?,
        group: row.id(5)?,
        model: row.take_text(6)?.into(),
        endpoint,
        unit,
    };
    Ok(CostRow { key, sums })
}
