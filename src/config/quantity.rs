//! Amounts with units: cores, bytes, GPUs.
//!
//! The forms are those that service specifications accept, and nothing is guessed: memory needs its unit, and
//! what another tool reads differently (`512m`) is refused with the forms that are meant the same everywhere.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// An amount as the user wrote it: a number, or text with a unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Quantity {
    /// `2`, `1.5`
    Number(f64),
    /// `"500m"`, `"8GiB"`
    Text(String),
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Quantity::Number(number) => write!(f, "{number}"),
            Quantity::Text(text) => f.write_str(text),
        }
    }
}

/// What is allowed for cores.
pub const CORES: &str = "cores up to 4096 such as 2, 1.5 or \"500m\"";

/// What is allowed for memory.
pub const MEMORY: &str = "a number with its unit such as \"8GiB\", \"512Mi\" or \"1.5GB\"";

/// What is allowed for GPUs.
pub const GPUS: &str = "a whole number from 0 to 64";

/// Most cores of one container that make sense.
const MAX_CORES: f64 = 4096.0;

/// Most memory of one container that makes sense: 1 PiB, far inside what an `f64` counts exactly.
const MAX_BYTES: f64 = (1_u64 << 50) as f64;

/// Most GPUs of one container that make sense.
const MAX_GPUS: f64 = 64.0;

/// Least memory that is taken for bytes when there is no unit: 8 is a forgotten unit, 8589934592 is not.
const LEAST_BARE_BYTES: f64 = (1_u64 << 20) as f64;

/// Units of memory, upper case. Decimal and binary forms are told apart by the `i`.
const MEMORY_UNITS: &[(&str, u64)] = &[
    ("B", 1),
    ("K", 1_000),
    ("KB", 1_000),
    ("KI", 1 << 10),
    ("KIB", 1 << 10),
    ("M", 1_000_000),
    ("MB", 1_000_000),
    ("MI", 1 << 20),
    ("MIB", 1 << 20),
    ("G", 1_000_000_000),
    ("GB", 1_000_000_000),
    ("GI", 1 << 30),
    ("GIB", 1 << 30),
    ("T", 1_000_000_000_000),
    ("TB", 1_000_000_000_000),
    ("TI", 1 << 40),
    ("TIB", 1 << 40),
];

/// Cores: `2`, `1.5`, `"500m"` (thousandths).
///
/// # Errors
/// What is allowed, for the caller to say beside what was given.
pub fn cores(quantity: &Quantity) -> Result<f64, String> {
    let text = quantity.to_string();
    let (digits, divisor) = match text.trim().strip_suffix('m') {
        Some(thousandths) => (thousandths, 1000.0),
        None => (text.trim(), 1.0),
    };
    let cores = decimal(digits).map(|number| number / divisor);
    match cores {
        Some(cores) if cores > 0.0 && cores <= MAX_CORES => Ok(cores),
        _ => Err(format!("{CORES} allowed")),
    }
}

/// Bytes: `"8GiB"`, `"512Mi"`, `"1.5GB"`, or a bare number of bytes from 1 MiB on; the unit's case does not matter.
///
/// # Errors
/// What is allowed, for the caller to say beside what was given.
pub fn bytes(quantity: &Quantity) -> Result<u64, String> {
    let text = quantity.to_string();
    let text = text.trim();
    let digits_end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(digits_end);
    let unit = unit.trim();
    if unit == "m" {
        // Kubernetes reads 512m as half a byte, Docker as 512 MiB.
        return Err(format!(
            "{MEMORY} allowed; say {digits}MB or {digits}MiB, since m means different things to different tools"
        ));
    }
    let unit = unit.to_uppercase();
    let number = decimal(digits).filter(|number| *number > 0.0);
    let scale = match (unit.as_str(), number) {
        ("", Some(bare)) if bare >= LEAST_BARE_BYTES => Some(1),
        (unit, _) => MEMORY_UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .map(|(_, scale)| *scale),
    };
    let (Some(scale), Some(number)) = (scale, number) else {
        return Err(format!("{MEMORY} allowed"));
    };
    let bytes = (number * scale as f64).round();
    if (1.0..=MAX_BYTES).contains(&bytes) {
        Ok(bytes as u64)
    } else {
        Err(format!("{MEMORY}, up to 1024TiB, allowed"))
    }
}

/// GPUs: a whole number.
///
/// # Errors
/// What is allowed, for the caller to say beside what was given.
pub fn gpus(quantity: &Quantity) -> Result<u32, String> {
    let number = decimal(quantity.to_string().trim());
    match number {
        Some(gpus) if gpus.fract() == 0.0 && gpus <= MAX_GPUS => Ok(gpus as u32),
        _ => Err(format!("{GPUS} allowed")),
    }
}

/// A plain decimal number: digits, at most one point, nothing else (no sign, exponent, or infinity).
fn decimal(text: &str) -> Option<f64> {
    let plain = text.chars().all(|c| c.is_ascii_digit() || c == '.');
    if !plain || !text.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(text: &str) -> Quantity {
        Quantity::Text(text.to_string())
    }

    #[test]
    fn cores_come_whole_as_fractions_and_in_thousandths() {
        for (given, expected) in [
            ("500m", 0.5),
            ("2", 2.0),
            ("1.5", 1.5),
            (" 4 ", 4.0),
            ("1m", 0.001),
        ] {
            assert_eq!(cores(&text(given)), Ok(expected), "{given}");
        }
        assert_eq!(cores(&Quantity::Number(1.5)), Ok(1.5));
        for bad in [
            "", "0", "0m", "-1", "two", "1e3", "inf", "NaN", "5000", "2 cores", "m", ".5", "1.2.3",
        ] {
            assert!(cores(&text(bad)).is_err(), "{bad}");
        }
        assert!(cores(&Quantity::Number(-1.0)).is_err());
        assert!(cores(&Quantity::Number(f64::NAN)).is_err());
    }

    #[test]
    fn memory_needs_a_unit_and_knows_decimal_from_binary() {
        for (given, expected) in [
            ("8GiB", 8_u64 << 30),
            ("512Mi", 512 << 20),
            ("1.5GB", 1_500_000_000),
            ("1.5 GB", 1_500_000_000),
            ("2g", 2_000_000_000),
            ("2gi", 2 << 30),
            ("64KiB", 64 << 10),
            ("1T", 1_000_000_000_000),
            ("100M", 100_000_000),
            ("0.001K", 1),
        ] {
            assert_eq!(bytes(&text(given)), Ok(expected), "{given}");
        }
        for bad in [
            "", "8", "GiB", "0GiB", "-1GiB", "8 gigs", "8GiBs", "1e3MB", "4096TiB", "0.0001K", "1..5GB",
        ] {
            assert!(bytes(&text(bad)).is_err(), "{bad}");
        }
        assert_eq!(bytes(&Quantity::Number(8e9)), Ok(8_000_000_000));
        assert_eq!(bytes(&text("8589934592")), Ok(8 << 30));
        assert_eq!(bytes(&text("4096B")), Ok(4096));
        assert!(bytes(&Quantity::Number(8192.0)).is_err());
        assert!(bytes(&text("512m")).unwrap_err().contains("512MiB"));
    }

    #[test]
    fn gpus_are_whole() {
        for (given, expected) in [("0", 0), ("1", 1), ("8", 8)] {
            assert_eq!(gpus(&text(given)), Ok(expected));
        }
        assert_eq!(gpus(&Quantity::Number(4.0)), Ok(4));
        for bad in ["", "1.5", "-1", "one", "65", "1 GPU"] {
            assert!(gpus(&text(bad)).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_a_quantity_panic_or_leave_its_range(given in ".{0,12}|[0-9.]{1,8}[a-zA-Z]{0,3}") {
            let quantity = text(&given);
            if let Ok(cores) = cores(&quantity) { prop_assert!(cores > 0.0 && cores <= MAX_CORES); }
            if let Ok(bytes) = bytes(&quantity) { prop_assert!((1..=1 << 50).contains(&bytes)); }
            if let Ok(gpus) = gpus(&quantity) { prop_assert!(gpus <= 64); }
        }

        #[test]
        fn whole_numbers_of_a_unit_are_exact(count in 1_u64..=1 << 20, unit in 0..MEMORY_UNITS.len()) {
            let (name, scale) = MEMORY_UNITS[unit];
            if let Ok(bytes) = bytes(&text(&format!("{count}{name}"))) {
                prop_assert_eq!(bytes, count * scale);
            } else {
                prop_assert!(count * scale > 1 << 50);
            }
        }
    }
}
