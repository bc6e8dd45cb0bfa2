//! Margins: what calls were charged beside what upstreams bill for all of their attempts, by channel, model and day.
//!
//! Promises: failed and retried attempts are told apart from those that served a call; a cost that nobody knows is
//! counted beside the sums and never taken for zero: what was charged for calls that it belongs to is no part of a margin.
//! A call counts on the day in UTC on which it arrived, as it does in upstreams' bills, and a refund on the day of its
//! charge. Reads daily sums alone, never the log. Must never: be shown to anybody but operators.

use std::collections::BTreeMap;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use ledger::{Book, Nano};

use crate::directory::FieldError;
use crate::id::ChannelId;
use crate::store::{MarginKey, MarginSums, Projections};

use super::costs::{ROWS_MAX, ReportError, listed};
use super::period::Period;

/// What a report tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dimension {
    Day,
    Month,
    Channel,
    Model,
}

impl Dimension {
    pub const ALL: [Dimension; 4] = [Dimension::Day, Dimension::Month, Dimension::Channel, Dimension::Model];

    pub fn as_str(self) -> &'static str {
        match self {
            Dimension::Day => "day",
            Dimension::Month => "month",
            Dimension::Channel => "channel",
            Dimension::Model => "model",
        }
    }

    /// A list such as `channel,model`.
    pub fn list(text: &str) -> Result<Vec<Self>, FieldError> {
        listed(text, &Self::ALL, Dimension::as_str)
    }

    /// What a row has in this dimension. `None`: that is not known any more.
    fn value(self, key: &MarginKey, day: Date) -> Option<String> {
        match self {
            Dimension::Day => Some(day.to_string()),
            Dimension::Month => Some(day.strftime("%Y-%m").to_string()),
            Dimension::Channel => (key.channel != 0).then(|| ChannelId::from_raw(key.channel).to_string()),
            Dimension::Model => (!key.model.is_empty()).then(|| key.model.to_string()),
        }
    }
}

/// What to report.
#[derive(Clone, Debug)]
pub struct Question {
    pub book: Book,
    /// Of days in UTC.
    pub period: Period,
    pub by: Vec<Dimension>,
    /// Only what has these values.
    pub only: Vec<(Dimension, String)>,
}

/// Sums of one row; amounts as they are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Margin(MarginSums);

impl Margin {
    pub fn sums(&self) -> &MarginSums {
        &self.0
    }

    /// What calls that were served here were charged, less what of it was given back.
    pub fn net(&self) -> Nano {
        Nano(self.0.charged).saturating_sub(Nano(self.0.refunded))
    }

    /// What upstreams bill, as far as it is known.
    pub fn cost(&self) -> Nano {
        Nano(self.0.served_cost).saturating_add(Nano(self.0.failed_cost))
    }

    /// What is left: of calls of which it is known what served them costs, less that and the cost of what failed.
    pub fn margin(&self) -> Nano {
        self.net().saturating_sub(Nano(self.0.unknown_net)).saturating_sub(self.cost())
    }
}

/// A row's values are in the order of the question's dimensions; rows are in the order of their values.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub rows: BTreeMap<Vec<Option<String>>, Margin>,
    pub total: Margin,
}

/// Blocks on the store.
pub fn report(projections: &Projections, question: &Question) -> Result<Report, ReportError> {
    let span = question.period.span;
    let mut report = Report::default();
    let mut too_long = false;
    projections
        .margins(question.book, span.from.0, span.to.0, |row| {
            let Some(day) = day(&row.key) else { return };
            let is_wanted = |(dimension, wanted): &(Dimension, String)| {
                dimension.value(&row.key, day).as_ref() == Some(wanted)
            };
            if !question.only.iter().all(is_wanted) {
                return;
            }
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

fn day(key: &MarginKey) -> Option<Date> {
    Some(jiff::Timestamp::from_millisecond(key.day_ms).ok()?.to_zoned(TimeZone::UTC).date())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h2_what_nobody_knows_the_cost_of_is_no_part_of_a_margin() {
        let sums = MarginSums {
            charged: 10,
            refunded: 1,
            served_cost: 4,
            failed_cost: 2,
            unknown_served: 1,
            unknown_net: 3,
            ..MarginSums::default()
        };
        let margin = Margin(sums);
        assert_eq!((margin.net(), margin.cost(), margin.margin()), (Nano(9), Nano(6), Nano(0)));
    }
}
