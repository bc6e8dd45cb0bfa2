//! Windows of limits: a day, a month, all time. An instance is worked out once, when a call is held, in the
//! account's own time zone; what happens to the call later touches that instance, never "the current one".

use jiff::ToSpan;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::ids::Timestamp;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum WindowKind {
    Day = 1,
    Month = 2,
    Total = 3,
}

/// From `start` (inclusive) to `end` (exclusive).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WindowInstance {
    pub start: Timestamp,
    pub end: Timestamp,
}

impl WindowInstance {
    pub const TOTAL: WindowInstance = WindowInstance { start: Timestamp(i64::MIN), end: Timestamp(i64::MAX) };

    pub fn contains(&self, at: Timestamp) -> bool {
        self.start <= at && at < self.end
    }
}

impl WindowKind {
    pub const ALL: [WindowKind; 3] = [WindowKind::Day, WindowKind::Month, WindowKind::Total];

    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == code)
    }

    /// The instance that `at` lies in. A day is as long as the zone makes it: 23 or 25 hours where the
    /// clock changes. A time beyond what the calendar knows lies in the total window.
    pub fn instance(self, at: Timestamp, zone: &TimeZone) -> WindowInstance {
        self.calendar_instance(at, zone).unwrap_or(WindowInstance::TOTAL)
    }

    fn calendar_instance(self, at: Timestamp, zone: &TimeZone) -> Option<WindowInstance> {
        let today = jiff::Timestamp::from_millisecond(at.0).ok()?.to_zoned(zone.clone()).date();
        let (first, step) = match self {
            WindowKind::Day => (today, 1.day()),
            WindowKind::Month => (today.first_of_month(), 1.month()),
            WindowKind::Total => return None,
        };
        let next = first.checked_add(step).ok()?;
        let (start, end) = (begin(first, zone)?, begin(next, zone)?);
        if at < end {
            return Some(WindowInstance { start, end });
        }
        // Where the clock goes back over midnight, a date can come twice. The day that began stays begun.
        Some(WindowInstance { start: end, end: begin(next.checked_add(step).ok()?, zone)? })
    }
}

/// The first moment of a date.
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

    fn window(kind: WindowKind, when: &str, zone: &str) -> (Timestamp, Timestamp) {
        let instance = kind.instance(at(when), &TimeZone::get(zone).unwrap());
        assert!(instance.contains(at(when)));
        (instance.start, instance.end)
    }

    #[test]
    fn a_day_begins_at_the_accounts_midnight() {
        let expected = (at("2026-11-21T16:00:00Z"), at("2026-11-22T16:00:00Z"));
        assert_eq!(window(WindowKind::Day, "2026-11-22T08:00:00Z", "Asia/Shanghai"), expected);
        assert_eq!(window(WindowKind::Day, "2026-11-21T16:00:00Z", "Asia/Shanghai"), expected);
    }

    #[test]
    fn a_day_has_23_or_25_hours_where_the_clock_changes() {
        let hours = |(start, end): (Timestamp, Timestamp)| (end.0 - start.0) / 3_600_000;
        assert_eq!(hours(window(WindowKind::Day, "2026-03-29T12:00:00Z", "Europe/Berlin")), 23);
        assert_eq!(hours(window(WindowKind::Day, "2026-10-25T12:00:00Z", "Europe/Berlin")), 25);
    }

    #[test]
    fn a_month_ends_where_the_next_begins() {
        let expected = (at("2028-02-01T00:00:00Z"), at("2028-03-01T00:00:00Z"));
        assert_eq!(window(WindowKind::Month, "2028-02-29T23:59:59Z", "UTC"), expected);
        assert_eq!(window(WindowKind::Month, "2026-12-31T12:00:00Z", "UTC").1, at("2027-01-01T00:00:00Z"));
    }

    #[test]
    fn a_day_that_began_stays_begun_where_the_clock_goes_back_over_midnight() {
        // On 2010-11-07 at 00:01 the clocks of St. John's went back to 23:01 of the day before.
        let (start, end) = (at("2010-11-07T02:30:00Z"), at("2010-11-08T03:30:00Z"));
        assert_eq!(window(WindowKind::Day, "2010-11-07T02:45:00Z", "America/St_Johns"), (start, end));
        assert_eq!(window(WindowKind::Day, "2010-11-07T12:00:00Z", "America/St_Johns"), (start, end));
        assert_eq!(window(WindowKind::Day, "2010-11-07T02:29:59Z", "America/St_Johns").1, start);
    }

    #[test]
    fn a_time_off_the_calendar_does_not_panic() {
        assert_eq!(WindowKind::Day.instance(Timestamp(i64::MAX), &TimeZone::UTC), WindowInstance::TOTAL);
    }
}
