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

/// The windows of some zones as they were last worked out. A day has but one of each kind, and to work one out takes
/// several look-ups of the zone's rules.
#[derive(Debug, Default)]
pub struct Calendar {
    known: Vec<Page>,
    oldest: usize,
}

#[derive(Debug)]
struct Page {
    zone: TimeZone,
    instances: [WindowInstance; WindowKind::ALL.len()],
}

/// Zones that are remembered.
const PAGES_MAX: usize = 16;

impl Calendar {
    /// The instance of each kind that `at` lies in, in the order of [`WindowKind::ALL`].
    pub fn instances(&mut self, at: Timestamp, zone: &TimeZone) -> [WindowInstance; WindowKind::ALL.len()] {
        let is_same = |page: &&mut Page| page.zone.iana_name() == zone.iana_name();
        let page = self.known.iter_mut().find(is_same);
        if let Some(page) = &page
            && page.instances.iter().all(|instance| instance.contains(at))
        {
            return page.instances;
        }
        let instances = WindowKind::ALL.map(|kind| kind.instance(at, zone));
        if zone.iana_name().is_none() {
            return instances;
        }
        match page {
            Some(page) => page.instances = instances,
            None => self.remember(Page { zone: zone.clone(), instances }),
        }
        instances
    }

    fn remember(&mut self, page: Page) {
        if self.known.len() < PAGES_MAX {
            self.known.push(page);
        } else if let Some(place) = self.known.get_mut(self.oldest) {
            *place = page;
            self.oldest = (self.oldest + 1) % PAGES_MAX;
        }
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

    /// Days and months are cut from one line, so whatever moment of a day is asked first, the answer is the same.
    #[test]
    fn a_calendar_says_what_would_be_worked_out_anew() {
        use proptest::prelude::*;
        let names =
            ["UTC", "Asia/Shanghai", "Europe/Berlin", "America/St_Johns", "America/Sao_Paulo", "Asia/Tehran"];
        let zones = names.map(|name| TimeZone::get(name).unwrap());
        // From 2005 to 2030, and some moments of one day beside each.
        let moments =
            (1_104_537_600_000_i64..1_893_456_000_000, proptest::collection::vec(0_i64..90_000_000, 1..8));
        let moments = proptest::collection::vec((moments, 0..names.len()), 1..40);
        proptest!(|(moments in moments)| {
            let mut calendar = Calendar::default();
            for ((day, later), zone) in moments {
                for moment in later.into_iter().map(|later| Timestamp(day + later)) {
                    let zone = &zones[zone];
                    let anew = WindowKind::ALL.map(|kind| kind.instance(moment, zone));
                    prop_assert_eq!(calendar.instances(moment, zone), anew);
                }
            }
        });
    }

    #[test]
    fn a_calendar_keeps_to_its_room() {
        let mut calendar = Calendar::default();
        for round in 0..2 {
            for zone in jiff::tz::db().available().take(3 * PAGES_MAX) {
                let zone = TimeZone::get(zone.as_str()).unwrap();
                let moment = Timestamp(1_795_334_400_000 + round * 86_400_000);
                assert_eq!(calendar.instances(moment, &zone)[0], WindowKind::Day.instance(moment, &zone));
            }
        }
        assert!(calendar.known.len() <= PAGES_MAX);
    }

    #[test]
    fn a_time_off_the_calendar_does_not_panic() {
        assert_eq!(WindowKind::Day.instance(Timestamp(i64::MAX), &TimeZone::UTC), WindowInstance::TOTAL);
    }
}
