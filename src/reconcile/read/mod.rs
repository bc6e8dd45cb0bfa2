//! Reading files: CSV by a mapping, JSON by line, and the JSON of two upstreams' cost reports.
//!
//! Promises: what cannot be understood, or in two ways, is told with its line and the reason; amounts are exact, or rounded once to the
//! nano-unit where the format says so; the file is read once from its beginning to its end, in constant memory (the cost
//! reports, which are small, excepted).

mod amount;
mod fault;
mod json;
mod table;
#[cfg(test)]
mod tests;
mod text;
mod values;

use std::io::Read;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use ledger::Nano;

use super::format::{Format, Join, Layout};
use super::row::{Class, Row};
use crate::funding::money;

pub use amount::Notation;
pub use fault::{Fault, ReadError};
pub use text::Utf8Check;

use text::Decoded;
use values::Values;

/// A row with the line that it stands on and its values as they are.
pub struct FileRow {
    pub row: Row,
    pub line: u64,
    pub body: String,
}

/// Is told each row, and may end the reading.
pub type Each<'a> = dyn FnMut(FileRow) -> Result<(), ReadError> + 'a;

const KEY_BYTES_MAX: usize = 200;

/// Reads all rows.
pub fn rows(
    from: impl Read,
    format: &Format,
    currency: &str,
    is_utf8: bool,
    each: &mut Each<'_>,
) -> Result<(), ReadError> {
    let zone = TimeZone::get(&format.time_zone).map_err(|_| Fault::new(0, "the time zone is not known"))?;
    let reading = Reading { format, currency, zone };
    let text = Decoded::new(from, is_utf8);
    match format.layout {
        Layout::Csv => reading.table(text, each),
        Layout::JsonLines => reading.json_lines(text, each),
        Layout::OpenaiCosts | Layout::AnthropicCosts => reading.report(text, each),
    }
}

struct Reading<'a> {
    format: &'a Format,
    /// Of the books.
    currency: &'a str,
    zone: TimeZone,
}

impl Reading<'_> {
    /// The row of some values, or two where a payment's row says what was refunded of it.
    fn emit(
        &self,
        line: u64,
        values: &Values<'_>,
        body: impl Fn() -> String,
        each: &mut Each<'_>,
    ) -> Result<(), ReadError> {
        let fault = |reason: String| ReadError::File(Fault::new(line, reason));
        let class = match &self.format.columns.class {
            None => self.format.class_by_default(),
            Some(name) => match self.format.class_of(values.class) {
                Some(Some(class)) => class,
                Some(None) => return Ok(()),
                None => return Err(fault(format!("{name}: \"{}\" is not known", values.class))),
            },
        };
        let currency = self.currency_of(values.currency).map_err(&fault)?;
        let at_ms = self.time(values.time).map_err(&fault)?;
        let text = match class {
            Class::Refund if !values.refund_amount.is_empty() => values.refund_amount,
            _ => values.amount,
        };
        let amount = self.amount(text, &currency).map_err(&fault)?;
        // Files write what went back with or without a sign; a dispute's sign says which way the money went.
        let amount =
            if class == Class::Refund { Nano(amount.0.saturating_abs().saturating_neg()) } else { amount };
        let key = match self.format.join {
            Join::Day => day_of(at_ms),
            _ if values.key.is_empty() => return Err(fault("there is no number to find it by".to_owned())),
            _ if values.key.len() > KEY_BYTES_MAX => return Err(fault("the number is too long".to_owned())),
            _ => values.key.to_owned(),
        };
        let mut row = Row::new(key, class, Some(amount), &currency, at_ms);
        row.alias = values.alias.into();
        row.account = values.account.into();
        if class == Class::Payment && !values.refunded.is_empty() {
            let refunded = self.amount(values.refunded, &currency).map_err(&fault)?;
            if refunded != Nano::ZERO {
                let amount = Some(Nano(refunded.0.saturating_abs().saturating_neg()));
                each(FileRow {
                    row: Row { class: Class::Refund, amount, ..row.clone() },
                    line,
                    body: body(),
                })?;
            }
        }
        each(FileRow { row, line, body: body() })
    }

    fn currency_of(&self, told: &str) -> Result<String, String> {
        let text = match (told, self.format.currency.as_str()) {
            ("", "ledger") => self.currency.to_owned(),
            ("", fixed) => fixed.to_owned(),
            (told, _) => told.to_ascii_uppercase(),
        };
        let fine = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_uppercase());
        if fine { Ok(text) } else { Err(format!("\"{text}\" is no currency")) }
    }

    fn amount(&self, text: &str, currency: &str) -> Result<Nano, String> {
        let notation =
            self.format.notation(if self.format.minor_units { money::places(currency) } else { 0 });
        notation.read(text).map_err(|why| format!("the amount \"{text}\" {why}"))
    }

    fn time(&self, text: &str) -> Result<i64, String> {
        if let Ok(seconds) = text.parse::<i64>() {
            return seconds.checked_mul(1_000).ok_or_else(|| format!("\"{text}\" is no time"));
        }
        if let Ok(at) = text.parse::<jiff::Timestamp>() {
            return Ok(at.as_millisecond());
        }
        let civil = text.replace('/', "-");
        let civil = civil.parse::<DateTime>().or_else(|_| format!("{civil}:00").parse::<DateTime>());
        let at = civil.ok().and_then(|civil| civil.to_zoned(self.zone.clone()).ok());
        at.map(|at| at.timestamp().as_millisecond()).ok_or_else(|| format!("\"{text}\" is no time"))
    }
}

/// The day of a time in UTC, which rows of a day are called by.
pub(super) fn day_of(at_ms: i64) -> String {
    let day = jiff::Timestamp::from_millisecond(at_ms).unwrap_or_default();
    day.strftime("%Y-%m-%d").to_string()
}
