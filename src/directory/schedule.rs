//! When something is in effect (生效时间范围): between two moments, and within the week at certain hours.
//!
//! Pure: the moment and the zone are given. Hours are of the wall clock of the zone, so a window of 09:00 to
//! 18:00 stays that on the days when the clock is changed.

use jiff::civil::{Date, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _, Zoned};
use serde::{Deserialize, Serialize};

use super::error::FieldError;

const WEEKLY_MAX: usize = 64;
const DAYS_AHEAD: i64 = 8;
const MINUTES_OF_DAY: u16 = 24 * 60;

/// See the module. What is left out does not restrict.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    /// From this moment on it is closed for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// IANA name of the zone of the weekly hours; the account's zone unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<Box<str>>,
    /// Open within any of them; none: open all week.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub weekly: Vec<WeeklyHours>,
}

/// The same hours on several days. Hours that end at or before their beginning last into the next day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeeklyHours {
    /// Days on which the hours begin.
    pub days: Vec<Day>,
    pub from: Minute,
    /// Not within; 24:00 is the end of the day.
    pub until: Minute,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

/// Minutes from midnight, at most 1,440; written as `HH:MM`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Minute(u16);

impl Schedule {
    /// Whether it is in effect at a moment. `zone` is the account's.
    pub fn is_open(&self, at: Timestamp, zone: &TimeZone) -> bool {
        self.from.is_none_or(|from| from <= at)
            && self.until.is_none_or(|until| at < until)
            && (self.weekly.is_empty() || self.is_open_in_week(&at.to_zoned(self.zone(zone))))
    }

    /// The first moment from `at` on at which it is in effect; `None`: never again.
    pub fn next_opening(&self, at: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let start = self.from.map_or(at, |from| from.max(at));
        let begun = start.to_zoned(self.zone(zone));
        let opening = match self.weekly.is_empty() || self.is_open_in_week(&begun) {
            true => Some(start),
            false => self.next_beginning(&begun),
        };
        opening.filter(|opening| self.until.is_none_or(|until| *opening < until))
    }

    /// The hours' next beginning behind `at`. Hours begin at their time of day, at each of the two when the clock
    /// is put back; or where the clock is changed into them.
    fn next_beginning(&self, at: &Zoned) -> Option<Timestamp> {
        let zone = at.time_zone();
        // Eight days: the hours may begin a week from today, before the present time of day.
        let last = at.timestamp().checked_add((DAYS_AHEAD * 24).hours()).ok()?;
        let changes = zone.following(at.timestamp()).map(|change| change.timestamp());
        let changes = changes.take_while(|change| *change <= last);
        let days = (0..=DAYS_AHEAD).filter_map(|ahead| at.date().checked_add(ahead.days()).ok());
        let beginnings = days.flat_map(|date| self.beginnings(date, zone)).chain(changes);
        beginnings
            .filter(|moment| *moment > at.timestamp())
            .filter(|moment| self.is_open_in_week(&moment.to_zoned(zone.clone())))
            .min()
    }

    fn beginnings(&self, date: Date, zone: &TimeZone) -> impl Iterator<Item = Timestamp> {
        let today = self.weekly.iter().filter(move |hours| hours.is_on(date.weekday()));
        let zone = zone.clone();
        today.filter_map(|hours| hours.from.time()).flat_map(move |time| {
            let moment = zone.to_ambiguous_zoned(date.to_datetime(time));
            let both = [moment.clone().earlier(), moment.later()];
            both.into_iter().flatten().map(|zoned| zoned.timestamp())
        })
    }

    fn is_open_in_week(&self, at: &Zoned) -> bool {
        let minute = Minute::of(at.time());
        let (today, yesterday) = (at.weekday(), at.weekday().previous());
        self.weekly.iter().any(|hours| match hours.is_overnight() {
            false => hours.is_on(today) && hours.from <= minute && minute < hours.until,
            true => {
                (hours.is_on(today) && hours.from <= minute)
                    || (hours.is_on(yesterday) && minute < hours.until)
            }
        })
    }

    fn zone(&self, of_account: &TimeZone) -> TimeZone {
        // A zone is checked when it is saved; one that a newer database dropped falls back to the account's.
        let own = self.time_zone.as_ref().and_then(|name| TimeZone::get(name).ok());
        own.unwrap_or_else(|| of_account.clone())
    }

    /// What cannot be meant, with its place below `field`.
    pub fn check(&self, field: &str) -> Result<(), FieldError> {
        if let Some(zone) = &self.time_zone {
            super::checks::time_zone(&format!("{field}.time_zone"), zone)?;
        }
        if self.from.zip(self.until).is_some_and(|(from, until)| until <= from) {
            return Err(FieldError::new(format!("{field}.until"), "must be behind `from`"));
        }
        if self.weekly.len() > WEEKLY_MAX {
            return Err(FieldError::new(format!("{field}.weekly"), "are more than 64"));
        }
        self.weekly
            .iter()
            .enumerate()
            .try_for_each(|(at, hours)| hours.check(&format!("{field}.weekly[{at}]")))
    }
}

impl WeeklyHours {
    fn is_on(&self, weekday: Weekday) -> bool {
        self.days.iter().any(|day| day.weekday() == weekday)
    }

    fn is_overnight(&self) -> bool {
        self.until <= self.from
    }

    fn check(&self, field: &str) -> Result<(), FieldError> {
        if self.days.is_empty() {
            return Err(FieldError::new(format!("{field}.days"), "must name at least one day"));
        }
        super::checks::distinct(&format!("{field}.days"), &self.days)?;
        if self.from == self.until {
            let reason = "must differ from `from`; the whole day is 00:00 to 24:00";
            return Err(FieldError::new(format!("{field}.until"), reason));
        }
        match self.from.0 < MINUTES_OF_DAY {
            true => Ok(()),
            false => Err(FieldError::new(format!("{field}.from"), "must be before 24:00")),
        }
    }
}

impl Day {
    fn weekday(self) -> Weekday {
        match self {
            Day::Mon => Weekday::Monday,
            Day::Tue => Weekday::Tuesday,
            Day::Wed => Weekday::Wednesday,
            Day::Thu => Weekday::Thursday,
            Day::Fri => Weekday::Friday,
            Day::Sat => Weekday::Saturday,
            Day::Sun => Weekday::Sunday,
        }
    }
}

impl Minute {
    pub(super) fn of(time: Time) -> Self {
        Minute(u16::from(time.hour().unsigned_abs()) * 60 + u16::from(time.minute().unsigned_abs()))
    }

    /// `None` for 24:00, at which nothing begins.
    fn time(self) -> Option<Time> {
        let (hour, minute) = (i8::try_from(self.0 / 60).ok()?, i8::try_from(self.0 % 60).ok()?);
        Time::new(hour, minute, 0, 0).ok()
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let (hour, minute) = text.split_once(':')?;
        let number = |digits: &str| match digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_digit()) {
            true => digits.parse::<u16>().ok(),
            false => None,
        };
        let (hour, minute) = (number(hour)?, number(minute)?);
        (minute < 60 && hour * 60 + minute <= MINUTES_OF_DAY).then_some(Minute(hour * 60 + minute))
    }
}

impl Serialize for Minute {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:02}:{:02}", self.0 / 60, self.0 % 60))
    }
}

impl<'de> Deserialize<'de> for Minute {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        let read = Minute::parse(&text);
        read.ok_or_else(|| serde::de::Error::custom(format!("`{text}` is no time from 00:00 to 24:00")))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schedule(value: serde_json::Value) -> Schedule {
        serde_json::from_value(value).unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn d8_office_hours_open_and_close_in_their_own_zone() {
        let hours = schedule(json!({"time_zone": "Asia/Shanghai", "weekly":
            [{"days": ["mon", "tue", "wed", "thu", "fri"], "from": "09:00", "until": "18:00"}]}));
        // Friday, 2026-11-27: 08:59, 09:00, 17:59 and 18:00 in Shanghai.
        let moments = [
            ("2026-11-27T00:59:00Z", false),
            ("2026-11-27T01:00:00Z", true),
            ("2026-11-27T09:59:59Z", true),
            ("2026-11-27T10:00:00Z", false),
        ];
        for (moment, open) in moments {
            assert_eq!(hours.is_open(at(moment), &TimeZone::UTC), open, "{moment}");
        }
        let next = hours.next_opening(at("2026-11-27T10:00:00Z"), &TimeZone::UTC);
        assert_eq!(next, Some(at("2026-11-30T01:00:00Z")), "over the week-end");
        let open = at("2026-11-27T02:00:00Z");
        assert_eq!(hours.next_opening(open, &TimeZone::UTC), Some(open), "it is open already");
    }

    #[test]
    fn hours_over_midnight_belong_to_the_day_on_which_they_begin() {
        let night = schedule(json!({"weekly": [{"days": ["sat"], "from": "22:00", "until": "06:00"}]}));
        let moments = [
            ("2026-11-28T21:59:00Z", false),
            ("2026-11-28T22:00:00Z", true),
            ("2026-11-29T05:59:00Z", true),
            ("2026-11-29T06:00:00Z", false),
            ("2026-11-29T22:00:00Z", false),
        ];
        for (moment, open) in moments {
            assert_eq!(night.is_open(at(moment), &TimeZone::UTC), open, "{moment}");
        }
    }

    #[test]
    fn hours_keep_to_the_wall_clock_when_it_is_changed() {
        let hours = schedule(json!({"time_zone": "Europe/Berlin", "weekly":
            [{"days": ["sat", "sun", "mon"], "from": "02:30", "until": "04:00"}]}));
        // 2026-03-29: the clock jumps from 02:00 to 03:00, so 02:30 is not there.
        let next = hours.next_opening(at("2026-03-28T12:00:00Z"), &TimeZone::UTC);
        assert_eq!(next, Some(at("2026-03-29T01:00:00Z")), "where the clock goes on");
        assert!(hours.is_open(at("2026-03-29T01:30:00Z"), &TimeZone::UTC));
        assert!(!hours.is_open(at("2026-03-29T02:00:00Z"), &TimeZone::UTC), "04:00 there");
    }

    #[test]
    fn the_two_ends_bound_the_week() {
        let bounded = schedule(json!({"from": "2026-12-01T00:00:00Z", "until": "2026-12-02T00:00:00Z",
            "weekly": [{"days": ["wed"], "from": "00:00", "until": "24:00"}]}));
        let before = at("2026-11-25T12:00:00Z");
        assert!(!bounded.is_open(before, &TimeZone::UTC), "a Wednesday, but too early");
        assert_eq!(bounded.next_opening(before, &TimeZone::UTC), None, "the next Wednesday is too late");
        let from = schedule(json!({"from": "2026-12-01T00:00:00Z"}));
        assert_eq!(from.next_opening(before, &TimeZone::UTC), from.from);
    }

    #[test]
    fn whatever_opens_next_is_open_then_and_closed_until_then() {
        use proptest::prelude::*;
        let minute = (0u16..24 * 60).prop_map(|m| format!("{:02}:{:02}", m / 60, m % 60));
        let days = proptest::sample::subsequence(vec!["mon", "tue", "wed", "thu", "fri", "sat", "sun"], 1..7);
        let hours = (days, minute.clone(), minute);
        let input = (proptest::collection::vec(hours, 1..3), 0i64..400 * 24 * 60);
        proptest!(|((weekly, minutes) in input)| {
            let weekly: Vec<_> = weekly.into_iter().filter(|(_, from, until)| from != until)
                .map(|(days, from, until)| json!({"days": days, "from": from, "until": until})).collect();
            let hours = schedule(json!({"time_zone": "America/New_York", "weekly": weekly}));
            let now = at("2026-01-01T00:00:00Z") + minutes.minutes();
            let next = hours.next_opening(now, &TimeZone::UTC).unwrap();
            prop_assert!(hours.is_open(next, &TimeZone::UTC));
            let mut moment = now;
            while moment < next {
                prop_assert!(!hours.is_open(moment, &TimeZone::UTC), "open at {moment}, before {next}");
                moment += 13.minutes();
            }
        });
    }

    #[test]
    fn s25_what_no_schedule_can_mean_is_named_with_its_place() {
        let cases = [
            (json!({"time_zone": "Mars/Olympus"}), "schedule.time_zone"),
            (json!({"from": "2026-12-02T00:00:00Z", "until": "2026-12-01T00:00:00Z"}), "schedule.until"),
            (json!({"weekly": [{"days": [], "from": "09:00", "until": "18:00"}]}), "schedule.weekly[0].days"),
            (
                json!({"weekly": [{"days": ["mon"], "from": "09:00", "until": "09:00"}]}),
                "schedule.weekly[0].until",
            ),
            (
                json!({"weekly": [{"days": ["mon"], "from": "24:00", "until": "09:00"}]}),
                "schedule.weekly[0].from",
            ),
        ];
        for (value, field) in cases {
            assert_eq!(schedule(value).check("schedule").unwrap_err().field, field);
        }
        for text in ["9:00", "24:01", "12:60", "noon"] {
            assert_eq!(Minute::parse(text), None, "{text}");
        }
    }
}
