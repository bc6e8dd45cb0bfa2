//! Sums of what calls cost: one row for each day and each set of names that a report can ask for, so that a year is a
//! few thousand rows whatever the number of calls.

use std::sync::LazyLock;

use ::postgres::types::ToSql;
use ledger::TokenClass;

use super::Projections;
use crate::store::error::{Result, StoreError};
use crate::store::postgres::PgConn;
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
}

impl CostSums {
    pub fn add(&mut self, other: &CostSums) {
        let add = |sum: &mut i64, more: i64| *sum = sum.saturating_add(more);
        add(&mut self.calls, other.calls);
        add(&mut self.charged, other.charged);
        add(&mut self.refunds, other.refunds);
        add(&mut self.refunded, other.refunded);
        self.tokens.iter_mut().zip(other.tokens).for_each(|(sum, more)| add(sum, more));
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CostRow {
    pub key: CostKey,
    pub sums: CostSums,
}

const NAMES: &str = "key, project, member, group_id, model, endpoint";
/// Columns of a row: those of the key, with its fingerprint, and the sums.
const NAMES_COUNT: usize = 9;
const SUMS_COUNT: usize = 4 + TokenClass::COUNT;

/// A class of tokens is a column of the same name.
static SUMS: LazyLock<Vec<&str>> = LazyLock::new(|| {
    let classes = TokenClass::ALL.into_iter().map(TokenClass::as_str);
    ["calls", "charged", "refunds", "refunded"].into_iter().chain(classes).collect()
});

fn add_statement(source: &str) -> String {
    let sums = SUMS.iter().map(|sum| format!("{sum} = costs.{sum} + excluded.{sum}"));
    format!(
        "INSERT INTO costs (account, day_ms, id, {NAMES}, {}) {source} \
         ON CONFLICT (account, day_ms, id) DO UPDATE SET {}",
        SUMS.join(", "),
        sums.collect::<Vec<_>>().join(", ")
    )
}

/// Adds one row, on the embedded store.
pub(super) static ADD_ONE: LazyLock<String> = LazyLock::new(|| {
    let places: Vec<_> = (1..=NAMES_COUNT + SUMS_COUNT).map(|place| format!("?{place}")).collect();
    add_statement(&format!("VALUES ({})", places.join(", ")))
});

/// Adds many, each column as an array.
static ADD_ALL: LazyLock<String> = LazyLock::new(|| {
    let kind = |place: usize| match place {
        3 => "BYTEA",
        8 => "TEXT",
        _ => "BIGINT",
    };
    let places: Vec<_> =
        (1..=NAMES_COUNT + SUMS_COUNT).map(|place| format!("${place}::{}[]", kind(place))).collect();
    add_statement(&format!("SELECT * FROM unnest({})", places.join(", ")))
});

impl CostKey {
    fn fingerprint(&self) -> [u8; 16] {
        let mut bytes = Vec::with_capacity(40 + self.model.len());
        for id in [self.key, self.project, self.member, self.group] {
            bytes.extend_from_slice(&id.to_be_bytes());
        }
        bytes.push(self.endpoint);
        bytes.extend_from_slice(self.model.as_bytes());
        ledger::fnv1a(&bytes).to_be_bytes()
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
            sums.calls,
            sums.charged,
            sums.refunds,
            sums.refunded,
        ]
        .to_vec();
        values.extend(sums.tokens.map(Value::from));
        values
    }
}

/// Adds the rows to what is there, on PostgreSQL. Their keys differ.
pub(super) fn add(conn: &mut PgConn, rows: &[CostRow]) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let ids: Vec<Vec<u8>> = rows.iter().map(|row| row.key.fingerprint().to_vec()).collect();
    let models: Vec<&str> = rows.iter().map(|row| &*row.key.model).collect();
    let numbers = |get: fn(&CostRow) -> i64| rows.iter().map(get).collect::<Vec<i64>>();
    let names = [
        numbers(|row| row.key.account.cast_signed()),
        numbers(|row| row.key.day_ms),
        numbers(|row| row.key.key.cast_signed()),
        numbers(|row| row.key.project.cast_signed()),
        numbers(|row| row.key.member.cast_signed()),
        numbers(|row| row.key.group.cast_signed()),
        numbers(|row| i64::from(row.key.endpoint)),
    ];
    let mut sums = vec![
        numbers(|row| row.sums.calls),
        numbers(|row| row.sums.charged),
        numbers(|row| row.sums.refunds),
        numbers(|row| row.sums.refunded),
    ];
    let class = |class: TokenClass| {
        let tokens = |row: &CostRow| row.sums.tokens.get(class as usize).copied().unwrap_or(0);
        rows.iter().map(tokens).collect::<Vec<i64>>()
    };
    sums.extend(TokenClass::ALL.map(class));
    let [account, day, key, project, member, group, endpoint] = &names;
    let mut params: Vec<&(dyn ToSql + Sync)> =
        vec![account, day, &ids, key, project, member, group, &models, endpoint];
    params.extend(sums.iter().map(|sum| sum as &(dyn ToSql + Sync)));
    let statement = conn.native(&ADD_ALL)?;
    conn.client().execute(&statement, &params)?;
    Ok(())
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
        let mut sql = format!(
            "SELECT account, day_ms, {NAMES}, {} FROM costs WHERE day_ms >= ?1 AND day_ms < ?2",
            SUMS.join(", ")
        );
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
    let endpoint = row.int(7)?;
    let mut tokens = [0; TokenClass::COUNT];
    for (place, slot) in tokens.iter_mut().enumerate() {
        *slot = row.int(12 + place)?;
    }
    Ok(CostRow {
        key: CostKey {
            account: row.id(0)?,
            day_ms: row.int(1)?,
            key: row.id(2)?,
            project: row.id(3)?,
            member: row.id(4)?,
            group: row.id(5)?,
            model: row.take_text(6)?.into(),
            endpoint: u8::try_from(endpoint)
                .map_err(|_| StoreError::corrupt(format!("an endpoint has the number {endpoint}")))?,
        },
        sums: CostSums {
            calls: row.int(8)?,
            charged: row.int(9)?,
            refunds: row.int(10)?,
            refunded: row.int(11)?,
            tokens,
        },
    })
}
