//! Instants and spans as people read them: exact in UTC, with the relative time beside (C-13).

use askama::{Template, filters::HtmlSafe};
use jiff::{Timestamp, tz::TimeZone};
use portcullis_domain::accounts::{Language, TimeZoneName};

/// How one reader reads dates at one instant. Made once for a page.
#[derive(Debug, Clone)]
pub struct Dates {
    now: Timestamp,
    language: Language,
    /// The reader's zone and its name; `None` when it is UTC.
    zone: Option<(TimeZone, String)>,
}

impl Dates {
    /// For a reader with this language and time zone, at `now`.
    #[must_use]
    pub fn new(now: Timestamp, language: Language, zone: &TimeZoneName) -> Self {
        let utc = ["UTC", "UCT", "Zulu", "Universal"];
        let name = zone.as_str().strip_prefix("Etc/").unwrap_or(zone.as_str());
        let zone = (!utc.contains(&name)).then(|| (zone.zone(), zone.as_str().to_owned()));
        Self { now, language, zone }
    }

    /// An instant, to the minute.
    #[must_use]
    pub fn when(&self, at: Timestamp) -> When {
        self.made(at, false)
    }

    /// An instant, to the second, as logs need it.
    #[must_use]
    pub fn to_the_second(&self, at: Timestamp) -> When {
        self.made(at, true)
    }

    fn made(&self, at: Timestamp, seconds: bool) -> When {
        let (day, time) = match (self.language, seconds) {
            (Language::EnglishInternational, false) => ("%-d %B %Y", "%H:%M"),
            (Language::EnglishInternational, true) => ("%-d %B %Y", "%H:%M:%S"),
            (Language::EnglishUnitedStates, false) => ("%B %-d, %Y", "%-I:%M %p"),
            (Language::EnglishUnitedStates, true) => ("%B %-d, %Y", "%-I:%M:%S %p"),
        };
        let utc = at.to_zoned(TimeZone::UTC);
        let local = self.zone.as_ref().map(|(zone, name)| {
            let there = at.to_zoned(zone.clone());
            let written = there.strftime(time).to_string();
            if there.date() == utc.date() {
                format!("{written} {name}")
            } else {
                format!("{}, {written} {name}", there.strftime(day))
            }
        });
        When {
            exact: Exact {
                iso: utc.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
                text: format!("{}, {} UTC", utc.strftime(day), utc.strftime(time)),
            },
            relative: relative(at, self.now),
            local,
        }
    }
}

/// An exact instant alone, for the middle of a sentence.
#[derive(Debug, Clone, PartialEq, Eq, Template)]
#[template(path = "exact.html")]
pub struct Exact {
    /// RFC 3339, whole seconds, UTC.
    pub iso: String,
    /// As people read it.
    pub text: String,
}

impl HtmlSafe for Exact {}

/// An instant: exact in UTC, how far from now, and the time on the reader's clock.
#[derive(Debug, Clone, PartialEq, Eq, Template)]
#[template(path = "when.html")]
pub struct When {
    /// The exact instant in UTC.
    pub exact: Exact,
    /// `12 minutes ago`, `in 3650 days`.
    pub relative: String,
    /// `15:02 Europe/Lisbon`, with the date where it is another one than in UTC; `None` when the
    /// reader's zone is UTC.
    pub local: Option<String>,
}

impl HtmlSafe for When {}

impl When {
    /// One instant for one reader. For several, make [`Dates`] once.
    #[must_use]
    pub fn new(at: Timestamp, now: Timestamp, language: Language, zone: &TimeZoneName) -> Self {
        Dates::new(now, language, zone).when(at)
    }
}

/// The distance from now, rounded to the nearest whole unit: seconds below a minute, minutes
/// below an hour, hours below two days, then days.
fn relative(at: Timestamp, now: Timestamp) -> String {
    let distance = at.as_second() - now.as_second();
    let seconds = distance.unsigned_abs();
    let rounded = |unit: u64| (seconds + unit / 2) / unit;
    let (n, unit) = if seconds < 60 {
        (seconds, "second")
    } else if rounded(60) < 60 {
        (rounded(60), "minute")
    } else if rounded(3600) < 48 {
        (rounded(3600), "hour")
    } else {
        (rounded(86_400), "day")
    };
    let plural = if n == 1 { "" } else { "s" };
    if distance > 0 { format!("in {n} {unit}{plural}") } else { format!("{n} {unit}{plural} ago") }
}

/// A span in the largest unit that holds it exactly, at most hours: `24 hours`, `90 minutes`.
#[must_use]
pub fn lasts(seconds: u32) -> String {
    let (n, unit) = match seconds {
        s if s >= 3600 && s % 3600 == 0 => (s / 3600, "hour"),
        s if s >= 60 && s % 60 == 0 => (s / 60, "minute"),
        s => (s, "second"),
    };
    format!("{n} {unit}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn when(instant: &str, now: &str, language: Language, zone: &str) -> When {
        When::new(at(instant), at(now), language, &TimeZoneName::parse(zone).unwrap())
    }

    #[test]
    fn c13_an_instant_is_exact_in_utc_with_the_relative_time_beside() {
        let made = when("2026-11-23T14:02:31.5Z", "2026-11-23T14:14:40Z", Language::EnglishInternational, "UTC");
        assert_eq!(
            made.to_string(),
            "<time datetime=\"2026-11-23T14:02:31Z\">23 November 2026, 14:02 UTC</time> \
             <span class=\"mut\"><span class=\"dot\">· </span>12 minutes ago</span>"
        );
    }

    #[test]
    fn c13_the_united_states_write_it_their_way() {
        let text = |instant| when(instant, instant, Language::EnglishUnitedStates, "UTC").exact.text;
        assert_eq!(text("2026-11-23T14:02:00Z"), "November 23, 2026, 2:02 PM UTC");
        assert_eq!(text("2026-01-03T00:05:00Z"), "January 3, 2026, 12:05 AM UTC");
    }

    #[test]
    fn c13_the_reader_s_own_clock_stands_beside_unless_it_is_utc() {
        let local = |instant, language, zone| when(instant, instant, language, zone).local;
        let world = Language::EnglishInternational;
        let states = Language::EnglishUnitedStates;
        let summer = "2026-07-01T14:02:00Z";
        assert_eq!(local(summer, world, "Europe/Lisbon").as_deref(), Some("15:02 Europe/Lisbon"));
        assert_eq!(local(summer, states, "Europe/Lisbon").as_deref(), Some("3:02 PM Europe/Lisbon"));
        let late = "2026-12-31T22:30:00Z";
        assert_eq!(local(late, world, "Asia/Tokyo").as_deref(), Some("1 January 2027, 07:30 Asia/Tokyo"));
        assert_eq!(local(late, states, "Asia/Tokyo").as_deref(), Some("January 1, 2027, 7:30 AM Asia/Tokyo"));
        for utc in ["UTC", "Etc/UTC", "Zulu"] {
            assert_eq!(local(summer, world, utc), None, "{utc}");
        }
    }

    #[test]
    fn c13_relative_time_is_a_number_and_a_unit() {
        let now = Timestamp::from_second(2_000_000_000).unwrap();
        let told = |seconds: i64| relative(Timestamp::from_second(2_000_000_000 + seconds).unwrap(), now);
        for (seconds, text) in [
            (0, "0 seconds ago"),
            (1, "in 1 second"),
            (-1, "1 second ago"),
            (-59, "59 seconds ago"),
            (-60, "1 minute ago"),
            (-89, "1 minute ago"),
            (-90, "2 minutes ago"),
            (-3_569, "59 minutes ago"),
            (-3_570, "1 hour ago"),
            (-3_600 * 47, "47 hours ago"),
            (-3_600 * 48 + 1_800, "2 days ago"),
            (86_400, "in 24 hours"),
            (3_650 * 86_400 - 720, "in 3650 days"),
            (3_650 * 86_400, "in 3650 days"),
        ] {
            assert_eq!(told(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn logs_show_seconds() {
        let dates = Dates::new(at("2026-11-23T14:03:00Z"), Language::EnglishInternational, &TimeZoneName::utc());
        assert_eq!(dates.to_the_second(at("2026-11-23T14:02:07Z")).exact.text, "23 November 2026, 14:02:07 UTC");
    }

    #[test]
    fn a_span_is_told_in_a_unit_that_holds_it_exactly() {
        for (seconds, text) in
            [(86_400, "24 hours"), (3_600, "1 hour"), (5_400, "90 minutes"), (61, "61 seconds"), (1, "1 second")]
        {
            assert_eq!(lasts(seconds), text);
        }
    }
}
