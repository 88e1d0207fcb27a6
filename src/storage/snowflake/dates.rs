//! Times as text, in the two forms that Snowflake and the clouds use: seconds since 1970 and back to nothing else.
//!
//! Only differences between two times of one server decide anything here, so no clock of this machine is asked.

use std::time::Duration;

/// `Sat, 21 Nov 2026 10:00:00 GMT`, as in HTTP headers and listings.
pub(super) fn http_date(text: &str) -> Option<Duration> {
    const MONTHS: [&str; 12] = [
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
    ];
    let (_, rest) = text.split_once(", ")?;
    let mut words = rest.split_ascii_whitespace();
    let day = words.next()?.parse().ok()?;
    let name = words.next()?.to_ascii_lowercase();
    let month = 1 + MONTHS.iter().position(|month| *month == name)? as u32;
    let year = words.next()?.parse().ok()?;
    let time = time_of_day(words.next()?)?;
    match words.next() {
        Some("GMT" | "UTC") | None => since_1970(year, month, day, time),
        Some(_) => None,
    }
}

/// `2026-11-21T10:00:00Z`, also without the seconds or the whole time, as in a shared access signature.
pub(super) fn iso_date(text: &str) -> Option<Duration> {
    let (date, time) = text.split_once('T').unwrap_or((text, "00:00Z"));
    let mut parts = date.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    let time = time_of_day(time.strip_suffix('Z')?)?;
    if parts.next().is_some() {
        return None;
    }
    since_1970(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?, time)
}

/// `10:00`, `10:00:00` or `10:00:00.123` in seconds.
fn time_of_day(text: &str) -> Option<u64> {
    let mut parts = text.split(':');
    let hours: u64 = parts.next()?.parse().ok()?;
    let minutes: u64 = parts.next()?.parse().ok()?;
    let seconds: u64 = match parts.next() {
        Some(seconds) => seconds.split('.').next()?.parse().ok()?,
        None => 0,
    };
    let is_time = parts.next().is_none() && hours < 24 && minutes < 60 && seconds <= 60;
    is_time.then_some(hours * 3600 + minutes * 60 + seconds)
}

/// Days by the proleptic Gregorian calendar, counted in years that begin in March.
fn since_1970(year: u64, month: u32, day: u64, seconds: u64) -> Option<Duration> {
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let (year, month) = match month {
        1 | 2 => (year - 1, u64::from(month) + 9),
        _ => (year, u64::from(month) - 3),
    };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1;
    const DAYS_TO_1970: u64 = 719_468;
    Some(Duration::from_secs(
        days.checked_sub(DAYS_TO_1970)? * 86_400 + seconds,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_both_forms_and_nonsense_is_not() {
        let seconds = |time: Option<Duration>| time.map(|time| time.as_secs());
        for (text, expected) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Fri, 7 Jun 2019 17:47:29 GMT", Some(1_559_929_649)),
            ("Thu, 29 Feb 2024 23:59:59 GMT", Some(1_709_251_199)),
            ("Sat, 21 Nov 2026 10:00:00 UTC", Some(1_795_255_200)),
            ("Sat, 21 Nov 2026 10:00:00 CET", None),
            ("Sat, 21 Foo 2026 10:00:00 GMT", None),
            ("nonsense", None),
        ] {
            assert_eq!(seconds(http_date(text)), expected, "{text}");
        }
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2024-02-29T23:59:59Z", Some(1_709_251_199)),
            ("2026-11-21T10:00Z", Some(1_795_255_200)),
            ("2026-11-21T10:00:00.5Z", Some(1_795_255_200)),
            ("2026-11-21", Some(1_795_219_200)),
            ("2026-11-21T10:00:00", None),
            ("2026-13-21", None),
            ("2026-11-21T25:00Z", None),
        ] {
            assert_eq!(seconds(iso_date(text)), expected, "{text}");
        }
    }
}
