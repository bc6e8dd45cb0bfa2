//! Cost reports (I2): what calls cost, by whatever a report asks for, over time; gross, refunds and net apart (S45).
//!
//! A call counts on the day on which it was accepted, and a refund on the day of its charge, as in the account's budgets; a
//! statement shows both when the money moved. Reads daily sums alone, never the log.

use std::collections::BTreeMap;

use hashbrown::HashMap;
use jiff::civil::Date;
use ledger::{Measure, Nano, TokenClass, Unit};

use crate::directory::{Environment, FieldError, Snapshot};
use crate::gateway::facts::Endpoint;
use crate::id::{AccountId, GroupId, KeyId, MemberId, ProjectId};
use crate::store::{CostKey, CostRow, CostSums, Projections, StoreError};

use super::period::Period;

/// Rows of a report at the most.
pub const ROWS_MAX: usize = 50_000;
const HOUR_MS: i64 = 3_600_000;
/// Days of an account may have begun in another zone than the one it has now.
const ZONES_MS: i64 = 27 * HOUR_MS;

/// What a report tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dimension {
    Day,
    Month,
    Account,
    Project,
    Member,
    Key,
    Group,
    Model,
    RequestType,
    /// What was sold: tokens, or one of the units of a price.
    Unit,
}

impl Dimension {
    pub const ALL: [Dimension; 10] = [
        Dimension::Day,
        Dimension::Month,
        Dimension::Account,
        Dimension::Project,
        Dimension::Member,
        Dimension::Key,
        Dimension::Group,
        Dimension::Model,
        Dimension::RequestType,
        Dimension::Unit,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Dimension::Day => "day",
            Dimension::Month => "month",
            Dimension::Account => "account",
            Dimension::Project => "project",
            Dimension::Member => "member",
            Dimension::Key => "key",
            Dimension::Group => "group",
            Dimension::Model => "model",
            Dimension::RequestType => "request_type",
            Dimension::Unit => "unit",
        }
    }

    /// A list such as `day,model`.
    pub fn list(text: &str) -> Result<Vec<Self>, FieldError> {
        listed(text, &Self::ALL, Dimension::as_str)
    }

    /// What a row has in this dimension. `None`: it has none, or that is not known any more.
    fn value(self, key: &CostKey, day: Date) -> Option<String> {
        let known = |raw: u64| (raw != 0).then_some(raw);
        match self {
            Dimension::Day => Some(day.to_string()),
            Dimension::Month => Some(day.strftime("%Y-%m").to_string()),
            Dimension::Account => Some(account(key).to_string()),
            Dimension::Project => known(key.project).map(|raw| ProjectId::from_raw(raw).to_string()),
            Dimension::Member => known(key.member).map(|raw| MemberId::from_raw(raw).to_string()),
            Dimension::Key => known(key.key).map(|raw| KeyId::from_raw(raw).to_string()),
            Dimension::Group => known(key.group).map(|raw| GroupId::from_raw(raw).to_string()),
            Dimension::Model => (!key.model.is_empty()).then(|| key.model.to_string()),
            Dimension::RequestType => {
                Endpoint::from_code(key.endpoint).map(|endpoint| endpoint.request_type().to_owned())
            }
            Dimension::Unit => Measure::of_number(key.unit).map(|sold| sold.as_str().to_owned()),
        }
    }
}

/// What a report is to tell apart: some of what it can, each named once.
pub(super) fn listed<T: Copy + PartialEq>(
    text: &str,
    all: &[T],
    name_of: fn(T) -> &'static str,
) -> Result<Vec<T>, FieldError> {
    let mut found = Vec::new();
    for name in text.split(',').map(str::trim) {
        let Some(dimension) = all.iter().copied().find(|dimension| name_of(*dimension) == name) else {
            let known: Vec<_> = all.iter().map(|dimension| name_of(*dimension)).collect();
            return Err(FieldError::new("by", format!("must be some of {}", known.join(", "))));
        };
        if found.contains(&dimension) {
            return Err(FieldError::new("by", format!("names {name} twice")));
        }
        found.push(dimension);
    }
    Ok(found)
}

/// Whose calls a sum is of.
pub fn account(key: &CostKey) -> AccountId {
    AccountId::from(ledger::AccountId(key.account))
}

/// What to report.
#[derive(Clone, Debug)]
pub struct Question {
    /// `None`: all accounts.
    pub account: Option<AccountId>,
    pub environment: Environment,
    pub period: Period,
    pub by: Vec<Dimension>,
    /// Only what has these values.
    pub only: Vec<(Dimension, String)>,
}

/// Sums of one row; amounts as they are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums(CostSums);

impl Sums {
    pub fn calls(&self) -> i64 {
        self.0.calls
    }

    /// What was charged.
    pub fn gross(&self) -> Nano {
        Nano(self.0.charged)
    }

    /// What of it was given back since.
    pub fn refunds(&self) -> Nano {
        Nano(self.0.refunded)
    }

    pub fn net(&self) -> Nano {
        self.gross().saturating_sub(self.refunds())
    }

    pub fn tokens(&self, class: TokenClass) -> i64 {
        self.0.tokens.get(class as usize).copied().unwrap_or(0)
    }

    pub fn all_tokens(&self) -> i64 {
        self.0.tokens.iter().fold(0, |sum: i64, tokens| sum.saturating_add(*tokens))
    }

    /// As the unit is counted.
    pub fn units(&self, unit: Unit) -> i64 {
        self.0.units.get(unit as usize).copied().unwrap_or(0)
    }
}

/// See the module. A row's values are in the order of the question's dimensions; rows are in the order of their values.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub rows: BTreeMap<Vec<Option<String>>, Sums>,
    pub total: Sums,
}

#[derive(Debug)]
pub enum ReportError {
    /// There would be more rows than [`ROWS_MAX`].
    TooLong,
    Store(StoreError),
}

/// The sums of every day that the question is about. Blocks on the store.
pub fn each_day(
    projections: &Projections,
    snapshot: &Snapshot,
    question: &Question,
    mut each: impl FnMut(Date, CostRow),
) -> Result<(), StoreError> {
    let book = match question.environment {
        Environment::Live => ledger::Book::Live,
        Environment::Test => ledger::Book::Test,
    };
    let span = question.period.span;
    let (from_ms, to_ms) = (span.from.0.saturating_sub(ZONES_MS), span.to.0.saturating_add(ZONES_MS));
    let of = question.account.map(|account| account.in_book(book).0);
    let mut days = HashMap::new();
    projections.costs(of, from_ms, to_ms, |row| {
        if ledger::AccountId(row.key.account).book() != book {
            return;
        }
        let place = (row.key.account, row.key.day_ms);
        let day = *days.entry(place).or_insert_with(|| day(snapshot, &row.key));
        let Some(day) = day.filter(|day| question.period.first <= *day && *day <= question.period.last)
        else {
            return;
        };
        let is_wanted = |(dimension, wanted): &(Dimension, String)| {
            dimension.value(&row.key, day).as_ref() == Some(wanted)
        };
        if question.only.iter().all(is_wanted) {
            each(day, row);
        }
    })
}

/// The date of a day in the zone of its account; its noon, so that an hour more or less does not matter.
fn day(snapshot: &Snapshot, key: &CostKey) -> Option<Date> {
    let zone = snapshot.account(account(key)).map(|entry| entry.zone.clone());
    let noon = jiff::Timestamp::from_millisecond(key.day_ms.saturating_add(12 * HOUR_MS)).ok()?;
    Some(noon.to_zoned(zone.unwrap_or(jiff::tz::TimeZone::UTC)).date())
}

/// Blocks on the store.
pub fn report(
    projections: &Projections,
    snapshot: &Snapshot,
    question: &Question,
) -> Result<Report, ReportError> {
    let mut report = Report::default();
    let mut too_long = false;
    each_day(projections, snapshot, question, |day, row| {
        report.total.0.add(&row.sums);
        let values: Vec<_> = question.by.iter().map(|dimension| dimension.value(&row.key, day)).collect();
        if report.rows.len() >= ROWS_MAX && !report.rows.contains_key(&values) {
            too_long = true;
        } else {
            report.rows.entry(values).or_default().0.add(&row.sums);
        }
    })
    .map_err(ReportError::Store)?;
    if too_long { Err(ReportError::TooLong) } else { Ok(report) }
}

/// What a period that is not over will come to, if it goes on as it did so far: net / time gone × all of its time.
/// `None` if it is over or has not begun.
pub fn forecast(net: Nano, period: &Period, now: ledger::Timestamp) -> Option<Nano> {
    let (gone, whole) = (now.0 - period.span.from.0, period.span.to.0 - period.span.from.0);
    if gone <= 0 || gone >= whole {
        return None;
    }
    let projected = i128::from(net.0) * i128::from(whole) / i128::from(gone);
    Some(Nano(i64::try_from(projected).unwrap_or(i64::MAX)))
}

impl From<CostSums> for Sums {
    fn from(sums: CostSums) -> Self {
        Sums(sums)
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;
    use ledger::Timestamp;

    use super::*;

    #[test]
    fn i2_a_forecast_is_the_run_rate_of_the_period() {
        let now = Timestamp(1_795_334_400_000);
        let zone = TimeZone::UTC;
        let month = Period::month_of(now, &zone).unwrap();
        // 21 days and 8 hours of 30 days are over.
        assert_eq!(forecast(Nano(64_000), &month, now), Some(Nano(90_000)));
        assert_eq!(forecast(Nano(64_000), &month, month.span.to), None);
        assert_eq!(forecast(Nano(64_000), &Period::month_before(now, &zone).unwrap(), now), None);
        assert_eq!(forecast(Nano(i64::MAX), &month, now), Some(Nano(i64::MAX)));
    }

    #[test]
    fn i2_dimensions_are_named_once() {
        let named = Dimension::list("day, model").unwrap();
        assert_eq!(named, [Dimension::Day, Dimension::Model]);
        for wrong in ["", "weekday", "day,day", "day,,model"] {
            assert_eq!(&*Dimension::list(wrong).unwrap_err().field, "by", "{wrong}");
        }
    }
}
