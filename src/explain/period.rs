//! Periods as people name them: a year, a month, a day, or from one day to another, in the zone of an account.

use jiff::ToSpan as _;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use ledger::Timestamp;

use crate::books::statement::Span;
use crate::directory::FieldError;

/// A period with its beginning and its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Period {
    /// `2026`, `2026-11`, `2026-11-25` or `2026-11-01..2026-11-25`.
    pub name: String,
    pub first: Date,
    /// The last day, which belongs to it.
    pub last: Date,
    pub span: Span,
}

/// Days of the longest period: ten years.
const DAYS_MAX: i32 = 3_660;

impl Period {
    /// The month that a moment falls into.
    pub fn month_of(at: Timestamp, zone: &TimeZone) -> Option<Self> {
        let today = jiff::Timestamp::from_millisecond(at.0).ok()?.to_zoned(zone.clone()).date();
        Self::between(today.first_of_month(), today.last_of_month(), zone)
            .map(|period| Period { name: today.strftime("%Y-%m").to_string(), ..period })
    }

    /// The month before the one that a moment falls into.
    pub fn month_before(at: Timestamp, zone: &TimeZone) -> Option<Self> {
        let this = Self::month_of(at, zone)?;
        Self::month_of(Timestamp(this.span.from.0 - 1), zone)
    }

    /// As it is named in a query: `period`, or the days `from` and `to`; else the month that `now` falls into.
    pub fn asked(
        period: Option<&str>,
        from: Option<&str>,
        to: Option<&str>,
        now: Timestamp,
        zone: &TimeZone,
    ) -> Result<Self, FieldError> {
        match (period, from, to) {
            (None, None, None) => {
                Self::month_of(now, zone).ok_or_else(|| FieldError::new("period", "is missing"))
            }
            (Some(period), None, None) => Self::named(period, zone),
            (Some(_), ..) => Err(FieldError::new("period", "cannot stand beside from and to")),
            (None, Some(from), Some(to)) => {
                let (first, last) = (day("from", from)?, day("to", to)?);
                if last < first {
                    return Err(FieldError::new("to", "must not be before from"));
                }
                Self::between(first, last, zone).ok_or_else(|| FieldError::new("to", "is too far from from"))
            }
            (None, None, Some(_)) => Err(FieldError::new("from", "is missing beside to")),
            (None, Some(_), None) => Err(FieldError::new("to", "is missing beside from")),
        }
    }

    fn named(name: &str, zone: &TimeZone) -> Result<Self, FieldError> {
        let wrong = || FieldError::new("period", "must be a year, a month or a day, such as 2026-11");
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
        let first = match name.len() {
            4 => format!("{name}-01-01"),
            7 => format!("{name}-01"),
            10 => name.to_owned(),
            _ => return Err(wrong()),
        };
        let first: Date = first.parse().ok().filter(|_| digits(name)).ok_or_else(wrong)?;
        let last = match name.len() {
            4 => first.last_of_year(),
            7 => first.last_of_month(),
            _ => first,
        };
        let period = Self::between(first, last, zone).ok_or_else(wrong)?;
        Ok(Period { name: name.to_owned(), ..period })
    }

    fn between(first: Date, last: Date, zone: &TimeZone) -> Option<Self> {
        if last.since(first).ok()?.get_days() > DAYS_MAX {
            return None;
        }
        let span = Span { from: begin(first, zone)?, to: begin(last.checked_add(1.day()).ok()?, zone)? };
        Some(Period { name: format!("{first}..{last}"), first, last, span })
    }
}

fn day(field: &'static str, text: &str) -> Result<Date, FieldError> {
    let day = text.parse().ok().filter(|_| text.len() == 10);
    day.ok_or_else(|| FieldError::new(field, "must be a day, such as 2026-11-25"))
}

/// When a day begins: as the ledger begins those of its budgets.
fn begin(date: Date, zone: &TimeZone) -> Option<Timestamp> {
    let start = date.to_zoned(zone.clone()).ok()?.start_of_day().ok()?;
    Some(Timestamp(start.timestamp().as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
    }

    fn named(name: &str, zone: &str) -> Result<Period, FieldError> {
        let zone = TimeZone::get(zone).unwrap();
        Period::asked(Some(name), None, None, at("2026-11-25T17:00:00Z"), &zone)
    }

    #[test]
    fn b6_periods_begin_and_end_in_the_zone_of_the_account() {
        let month = named("2026-11", "Asia/Shanghai").unwrap();
        assert_eq!(
            (month.span.from, month.span.to),
            (at("2026-10-31T16:00:00Z"), at("2026-11-30T16:00:00Z"))
        );
        let day = named("2026-10-25", "Europe/Berlin").unwrap();
        assert_eq!((day.span.to.0 - day.span.from.0) / 3_600_000, 25);
        let year = named("2026", "Asia/Kathmandu").unwrap();
        assert_eq!(
            (year.span.from, year.first.to_string()),
            (at("2025-12-31T18:15:00Z"), "2026-01-01".into())
        );
        let before = Period::month_before(at("2026-01-31T20:00:00Z"), &TimeZone::UTC).unwrap();
        assert_eq!((before.name.as_str(), before.last.to_string()), ("2025-12", "2025-12-31".into()));
    }

    #[test]
    fn days_from_and_to_belong_to_the_period() {
        let zone = TimeZone::UTC;
        let now = at("2026-11-25T17:00:00Z");
        let days = |from, to| Period::asked(None, from, to, now, &zone);
        let three = days(Some("2026-11-01"), Some("2026-11-03")).unwrap();
        assert_eq!((three.span.to.0 - three.span.from.0) / 86_400_000, 3);
        assert_eq!(three.name, "2026-11-01..2026-11-03");
        assert_eq!(days(None, None).unwrap().name, "2026-11");
        for (from, to, field) in [
            (Some("2026-11-03"), Some("2026-11-01"), "to"),
            (Some("2026-11-03"), None, "to"),
            (None, Some("2026-11-03"), "from"),
            (Some("yesterday"), Some("2026-11-01"), "from"),
            (Some("1900-01-01"), Some("2026-11-01"), "to"),
        ] {
            assert_eq!(&*days(from, to).unwrap_err().field, field);
        }
        for name in ["2026-13", "26-11", "", "november", "2026-W47", "2026-11-31", "+026-11"] {
            assert_eq!(&*named(name, "UTC").unwrap_err().field, "period", "{name}");
        }
    }
}
