//! Windows of limits: a day, a month, all time. An instance is worked out once, when a call is held, in the
//! account's own time zone; what happens to the call later touches that instance, never "the current one".

use jiff::tz::TimeZone;
use jiff::{ToSpan, Zoned};

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
        let instance = || {
            let local = jiff::Timestamp::from_millisecond(at.0).ok()?.to_zoned(zone.clone());
            let (start, end) = match self {
                WindowKind::Day => (local.start_of_day().ok()?, local.tomorrow().ok()?.start_of_day().ok()?),
                WindowKind::Month => month(&local)?,
                WindowKind::Total => return Some(WindowInstance::TOTAL),
            };
            let ms = |zoned: Zoned| Timestamp(zoned.timestamp().as_millisecond());
            Some(WindowInstance { start: ms(start), end: ms(end) })
        };
        instance().unwrap_or(WindowInstance::TOTAL)
    }
}

fn month(local: &Zoned) -> Option<(Zoned, Zoned)> {
    let first = local.first_of_month().ok()?.start_of_day().ok()?;
    let next = first.date().checked_add(1.month()).ok()?.to_zoned(first.time_zone().clone()).ok()?;
    Some((first, next.start_of_day().ok()?))
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
    fn a_time_off_the_calendar_does_not_panic() {
        assert_eq!(WindowKind::Day.instance(Timestamp(i64::MAX), &TimeZone::UTC), WindowInstance::TOTAL);
    }
}
