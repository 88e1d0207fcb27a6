//! Decimal columns: whole numbers with a decimal point somewhere.
//!
//! Into integers a decimal goes exactly or not at all. Into floats it is rounded to the nearest once: small
//! decimals by one division of two exact floats, the others by parsing their digits.

use arrow::datatypes::i256;
use half::f16;

use super::convert::{Holds, Misfit};
use super::rule::Rule;

/// A decimal column's unscaled values are divided by `10^scale`.
#[derive(Clone, Copy, Debug)]
pub struct Decimals {
    /// Digits after the point; negative for zeros before it.
    pub scale: i8,
}

/// The unscaled value of a decimal.
pub trait Unscaled: Copy {
    /// The value, if 128 bits hold it.
    fn narrow(self) -> Option<i128>;
    /// The value.
    fn wide(self) -> i256;
}

macro_rules! unscaled {
    ($($native:ty)*) => {$(
        impl Unscaled for $native {
            #[inline(always)]
            fn narrow(self) -> Option<i128> {
                Some(self.into())
            }

            fn wide(self) -> i256 {
                i256::from_i128(self.into())
            }
        }
    )*};
}
unscaled!(i32 i64 i128);

impl Unscaled for i256 {
    #[inline(always)]
    fn narrow(self) -> Option<i128> {
        self.to_i128()
    }

    fn wide(self) -> i256 {
        self
    }
}

/// A tensor element that decimals can become.
pub trait FromDecimal: Copy {
    /// `unscaled / 10^scale`
    fn from_decimal<S: Unscaled>(unscaled: S, scale: i8) -> Result<Self, Misfit<Self>>;
}

impl<S: Unscaled, T: FromDecimal + Default> Rule<S, T> for Decimals {
    #[inline(always)]
    fn cast(&self, value: S) -> (T, bool) {
        match T::from_decimal(value, self.scale) {
            Ok(value) => (value, true),
            Err(_) => (T::default(), false),
        }
    }

    fn convert(&self, value: S) -> Result<T, Misfit<T>> {
        T::from_decimal(value, self.scale)
    }
}

macro_rules! int_from_decimal {
    ($($int:ty)*) => {$(
        impl FromDecimal for $int {
            fn from_decimal<S: Unscaled>(unscaled: S, scale: i8) -> Result<Self, Misfit<Self>> {
                let (whole, fraction) = split(unscaled, scale);
                let value = Self::convert(whole)?;
                if fraction { Err(Misfit::Fraction) } else { Ok(value) }
            }
        }
    )*};
}
int_from_decimal!(i8 i16 i32 i64 u8 u16 u32 u64);

/// The whole part, stopped at the ends of `i128`, and whether there is a fraction.
fn split<S: Unscaled>(unscaled: S, scale: i8) -> (i128, bool) {
    let digits = u32::from(scale.unsigned_abs());
    if let Some(small) = unscaled.narrow() {
        if scale < 0 {
            let whole = 10i128.checked_pow(digits).map_or_else(
                || small.signum().saturating_mul(i128::MAX),
                |power| small.saturating_mul(power),
            );
            return (whole, false);
        }
        // Divisions of 64 bits take a fraction of the time of those of 128, and nearly always do.
        if let (Ok(small), Some(power)) = (i64::try_from(small), 10i64.checked_pow(digits)) {
            return ((small / power).into(), small % power != 0);
        }
        return match 10i128.checked_pow(digits) {
            Some(power) => (small / power, small % power != 0),
            None => (0, small != 0),
        };
    }
    let large = unscaled.wide();
    let end = if large.is_negative() { i128::MIN } else { i128::MAX };
    if scale < 0 {
        return (end, false);
    }
    match i256::from_i128(10).checked_pow(digits) {
        Some(power) => {
            let whole = large.wrapping_div(power);
            (
                whole.to_i128().unwrap_or(end),
                large.wrapping_rem(power) != i256::ZERO,
            )
        }
        None => (0, true),
    }
}

impl FromDecimal for f64 {
    fn from_decimal<S: Unscaled>(unscaled: S, scale: i8) -> Result<Self, Misfit<Self>> {
        // Both operands are exact up to 2^53 and 10^22, so the one division rounds once.
        const EXACT: u64 = 1 << 53;
        if let Some(Ok(small)) = unscaled.narrow().map(i64::try_from)
            && small.unsigned_abs() <= EXACT
            && (0..=22).contains(&scale)
        {
            return Ok(small as f64 / POWERS[usize::from(scale.unsigned_abs())]);
        }
        let text = format!("{}e{}", unscaled.wide(), -i32::from(scale));
        f64::convert(text.parse().unwrap_or(f64::NAN))
    }
}

impl FromDecimal for f32 {
    fn from_decimal<S: Unscaled>(unscaled: S, scale: i8) -> Result<Self, Misfit<Self>> {
        let wide = f64::from_decimal(unscaled, scale).map_err(|_| Misfit::NotANumber)?;
        // Rounding the float64 again can go wrong only where it lies in the middle of two float32, or where
        // those lie wider apart than their digits say.
        let in_the_middle = wide.to_bits() & 0x1fff_ffff == 0x1000_0000;
        let subnormal = wide != 0.0 && wide.abs() < f32::MIN_POSITIVE.into();
        if in_the_middle || subnormal {
            let text = format!("{}e{}", unscaled.wide(), -i32::from(scale));
            let nearest: f32 = text.parse().unwrap_or(f32::NAN);
            if nearest.is_finite() {
                return Ok(nearest);
            }
        }
        f32::convert(wide)
    }
}

impl FromDecimal for f16 {
    fn from_decimal<S: Unscaled>(unscaled: S, scale: i8) -> Result<Self, Misfit<Self>> {
        let wide = f64::from_decimal(unscaled, scale).map_err(|_| Misfit::NotANumber)?;
        f16::convert(wide)
    }
}

const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19, 1e20, 1e21, 1e22,
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn convert<T: FromDecimal + Default>(unscaled: impl Unscaled, scale: i8) -> Result<T, Misfit<T>> {
        Decimals { scale }.convert(unscaled)
    }

    #[test]
    fn decimals_become_integers_exactly_or_not_at_all() {
        assert_eq!(convert::<i32>(12300i64, 2), Ok(123));
        assert_eq!(convert::<i32>(12301i64, 2), Err(Misfit::Fraction));
        assert_eq!(convert::<i8>(-12900i128, 2), Err(Misfit::Range(-128)));
        assert_eq!(convert::<i64>(5i32, -2), Ok(500));
        assert_eq!(convert::<i64>(1i32, -19), Err(Misfit::Range(i64::MAX)));
        assert_eq!(convert::<i64>(-1i32, -60), Err(Misfit::Range(i64::MIN)));
        assert_eq!(convert::<u8>(0i32, -60), Ok(0));
        let five_e40 = i256::from_string(&format!("5{}", "0".repeat(40))).unwrap();
        assert_eq!(convert::<u8>(five_e40, 40), Ok(5));
        assert_eq!(convert::<u8>(five_e40, 41), Err(Misfit::Fraction));
        assert_eq!(convert::<u8>(five_e40, 0), Err(Misfit::Range(255)));
        assert_eq!(convert::<u8>(five_e40.wrapping_neg(), 0), Err(Misfit::Range(0)));
        assert_eq!(convert::<i64>(1i128, 76), Err(Misfit::Fraction));
    }

    #[test]
    fn decimals_are_rounded_to_floats_once() {
        assert_eq!(convert::<f64>(1i32, 1), Ok(0.1));
        assert_eq!(convert::<f32>(1i32, 1), Ok(0.1));
        // Just above the middle of 2^24 and 2^24 + 2: nearest in float64 is the middle itself.
        assert_eq!(convert::<f32>(167772170000000000001i128, 13), Ok(16777218.0));
        let large = i256::from_i128(i128::MAX).wrapping_mul(i256::from_i128(1_000_000));
        assert_eq!(convert::<f32>(large, 0), Err(Misfit::Range(f32::MAX)));
        assert_eq!(convert::<f64>(large, 0), Ok(1.7014118346046923e44));
        assert_eq!(convert::<f16>(65520i32, 0), Err(Misfit::Range(f16::MAX)));
    }

    proptest! {
        #[test]
        fn floats_agree_with_the_parser_of_the_standard_library(unscaled: i128, small: i64, scale in -38i8..=38) {
            for unscaled in [unscaled, small.into(), i128::from(small >> 20)] {
                let text = format!("{unscaled}e{}", -i32::from(scale));
                prop_assert_eq!(convert::<f64>(unscaled, scale), Ok(text.parse().unwrap()));
                let nearest: f32 = text.parse().unwrap();
                match convert::<f32>(unscaled, scale) {
                    Ok(value) => prop_assert_eq!(value, nearest),
                    Err(_) => prop_assert!(nearest.is_infinite()),
                }
            }
        }
    }
}
