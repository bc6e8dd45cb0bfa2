//! The auditor's calendar: a window is found by looking for the moments at which the local date turns, not
//! by asking the calendar for the start of a day.

use std::collections::HashMap;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use ledger::{Timestamp, WindowInstance, WindowKind};

/// Whole hours and half ones, north and south, changes at midnight and at the month's turn, and none.
const ZONES: [&str; 10] = [
    "UTC",
    "Asia/Shanghai",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "America/Havana",
    "Africa/Cairo",
    "America/Santiago",
    "Pacific/Auckland",
];

const HOUR_MS: i64 = 3_600_000;

pub struct Calendar {
    zones: Vec<TimeZone>,
    known: HashMap<(usize, WindowKind, Date), WindowInstance>,
}

impl Calendar {
    pub fn new() -> Self {
        let zones = ZONES.iter().map(|name| TimeZone::get(name).unwrap()).collect();
        Calendar { zones, known: HashMap::new() }
    }

    pub fn zones(&self) -> usize {
        self.zones.len()
    }

    /// The ledger's answer, after comparing it with our own.
    pub fn window(&mut self, kind: WindowKind, at: i64, zone: usize) -> WindowInstance {
        let answer = kind.instance(Timestamp(at), &self.zones[zone]);
        let own = self.own(kind, at, zone);
        assert_eq!(answer, own, "window {kind:?} of {at} in {}", ZONES[zone]);
        answer
    }

    fn own(&mut self, kind: WindowKind, at: i64, zone: usize) -> WindowInstance {
        let reach = match kind {
            WindowKind::Total => return WindowInstance::TOTAL,
            WindowKind::Day => 50 * HOUR_MS,
            WindowKind::Month => 33 * 24 * HOUR_MS,
        };
        let tz = self.zones[zone].clone();
        let date = |ms: i64| {
            let date = tz.to_datetime(jiff::Timestamp::from_millisecond(ms).unwrap()).date();
            if kind == WindowKind::Month { Date::new(date.year(), date.month(), 1).unwrap() } else { date }
        };
        let today = date(at);
        let turn = |from: i64, to: i64, turned: &dyn Fn(Date) -> bool| {
            let (mut before, mut after) = (from, to);
            while after - before > 1 {
                let middle = before + (after - before) / 2;
                if turned(date(middle)) { after = middle } else { before = middle }
            }
            Timestamp(after)
        };
        *self.known.entry((zone, kind, today)).or_insert_with(|| WindowInstance {
            start: turn(at - reach, at, &|date| date >= today),
            end: turn(at, at + reach, &|date| date > today),
        })
    }
}
