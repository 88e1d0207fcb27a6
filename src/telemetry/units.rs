//! Numbers as a person reads them: `12.3 MiB`, `336,776`, `3 min 04 s`.
//!
//! Used by the progress display and the summary. Machines get plain numbers in bytes, rows and seconds instead.

use std::time::Duration;

/// Bytes with a binary unit and three significant digits: `0 B`, `1023 B`, `1.50 KiB`, `12.3 MiB`, `210 GiB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = 0;
    // 1023.5 would be printed as `1024`, so it moves up as well.
    while value >= 1023.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{} {}", three_digits(value), UNITS[unit])
}

/// A count with thousands separators: `336,776`.
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count and its noun: `1 file`, `1,200 files`.
pub fn counted(value: u64, noun: &str) -> String {
    let plural = if value == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", count(value))
}

/// Rows per second: `80,184 rows/s`, `12.5 rows/s` for slow models. Not a number or infinite: `0 rows/s`.
pub fn rows_per_second(rate: f64) -> String {
    if !rate.is_finite() || rate <= 0.0 {
        return "0 rows/s".to_string();
    }
    if rate < 99.95 {
        return format!("{} rows/s", three_digits(rate));
    }
    format!("{} rows/s", count(rate.round() as u64))
}

/// A duration with the precision that matters at its size: `0 s`, `37 ms`, `4.25 s`, `42.5 s`, `3 min 04 s`,
/// `1 h 02 min`, `2 d 03 h`.
pub fn duration(span: Duration) -> String {
    if span.is_zero() {
        return "0 s".to_string();
    }
    let seconds = span.as_secs_f64();
    if seconds < 0.9995 {
        return format!("{} ms", three_digits(seconds * 1000.0));
    }
    if seconds < 59.95 {
        return format!("{} s", three_digits(seconds));
    }
    let (major, minor, large, small) = match seconds.round() as u64 {
        whole if whole < 3_600 => (whole / 60, whole % 60, "min", "s"),
        whole if whole < 86_400 => (whole / 3_600, whole % 3_600 / 60, "h", "min"),
        whole => (whole / 86_400, whole % 86_400 / 3_600, "d", "h"),
    };
    format!("{major} {large} {minor:02} {small}")
}

/// A duration that is an estimate, in whole seconds and never too short: `1 s`, `43 s`, `3 min 04 s`.
pub fn estimate(span: Duration) -> String {
    let seconds = span.as_secs() + u64::from(span.subsec_nanos() > 0);
    if seconds < 60 {
        format!("{seconds} s")
    } else {
        duration(Duration::from_secs(seconds))
    }
}

/// A share of one as per cent: `62 %`, `3 %`; below ten with one decimal where it is not a whole number, `0.4 %`.
pub fn percent(share: f64) -> String {
    let value = share * 100.0;
    if !value.is_finite() {
        return "0 %".to_string();
    }
    let whole = value.round();
    if value >= 9.95 || (value - whole).abs() < 0.05 {
        format!("{whole:.0} %")
    } else {
        format!("{value:.1} %")
    }
}

fn three_digits(value: f64) -> String {
    if value < 9.995 {
        format!("{value:.2}")
    } else if value < 99.95 {
        format!("{value:.1}")
    } else {
        format!("{value:.0}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_a_binary_unit_and_three_digits() {
        let cases: &[(u64, &str)] = &[
            (0, "0 B"),
            (1, "1 B"),
            (1023, "1023 B"),
            (1024, "1.00 KiB"),
            (1536, "1.50 KiB"),
            (12_897_485, "12.3 MiB"),
            (1024 * 1024 - 1, "1.00 MiB"),
            (210 << 30, "210 GiB"),
            (u64::MAX, "16.0 EiB"),
        ];
        for (input, expected) in cases {
            assert_eq!(bytes(*input), *expected, "{input}");
        }
    }

    #[test]
    fn counts_are_grouped_by_three() {
        let cases: &[(u64, &str)] = &[
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (336_776, "336,776"),
            (10_000_000, "10,000,000"),
            (u64::MAX, "18,446,744,073,709,551,615"),
        ];
        for (input, expected) in cases {
            assert_eq!(count(*input), *expected);
        }
        assert_eq!(counted(1, "file"), "1 file");
        assert_eq!(counted(0, "file"), "0 files");
    }

    #[test]
    fn durations_keep_the_precision_that_matters() {
        let cases: &[(f64, &str)] = &[
            (0.0, "0 s"),
            (0.000_5, "0.50 ms"),
            (0.037, "37.0 ms"),
            (0.999_4, "999 ms"),
            (0.999_9, "1.00 s"),
            (4.25, "4.25 s"),
            (42.5, "42.5 s"),
            (59.96, "1 min 00 s"),
            (184.0, "3 min 04 s"),
            (3_720.0, "1 h 02 min"),
            (183_600.0, "2 d 03 h"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(duration(Duration::from_secs_f64(*seconds)), *expected);
        }
    }

    #[test]
    fn estimates_are_whole_seconds_rounded_up() {
        let cases: &[(u64, &str)] = &[
            (0, "0 s"),
            (20, "1 s"),
            (42_000, "42 s"),
            (59_001, "1 min 00 s"),
            (184_000, "3 min 04 s"),
        ];
        for (millis, expected) in cases {
            assert_eq!(estimate(Duration::from_millis(*millis)), *expected);
        }
    }

    #[test]
    fn rates_and_shares_of_broken_measurements_are_zero() {
        let cases: &[(f64, &str, &str)] = &[
            (f64::NAN, "0 rows/s", "0 %"),
            (f64::INFINITY, "0 rows/s", "0 %"),
            (0.0, "0 rows/s", "0 %"),
            (0.004, "0.00 rows/s", "0.4 %"),
            (0.03, "0.03 rows/s", "3 %"),
            (0.62, "0.62 rows/s", "62 %"),
            (1.0, "1.00 rows/s", "100 %"),
            (80_184.2, "80,184 rows/s", "8018420 %"),
        ];
        for (value, rate, share) in cases {
            assert_eq!(rows_per_second(*value), *rate);
            assert_eq!(percent(*value), *share);
        }
    }
}
