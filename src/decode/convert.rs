//! How one number becomes a number of another type: the code behind the table in `docs/types.md`.
//!
//! A value is taken over when the wanted type holds it: integers by range, floats into integers only when they
//! are whole, anything into floats by rounding to the nearest. Nothing ever wraps. Each pair of types has a
//! branch-free [`Holds::cast`] for loops over columns and a full [`Holds::convert`] that says why a value
//! doesn't fit; the loops call the second only after the first has met such a value.

use half::f16;

/// Why the wanted type doesn't hold a value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Misfit<T> {
    /// It lies beyond the ends of the type; this is the nearest value the type has.
    Range(T),
    /// It has a fraction, and the type is of whole numbers.
    Fraction,
    /// It is not a number, and the type is of whole numbers.
    NotANumber,
}

/// `Self` is a type that holds values of type `S`, or some of them.
pub trait Holds<S: Copy>: Copy {
    /// The nearest value, and whether it stands for `value`; when it doesn't, the first is arbitrary.
    fn cast(value: S) -> (Self, bool);

    /// The value, or why there is none.
    fn convert(value: S) -> Result<Self, Misfit<Self>>;
}

/// Whole numbers into whole numbers: by range.
macro_rules! int_from_int {
    ($to:ty: $($from:ty)*) => {$(
        impl Holds<$from> for $to {
            #[inline(always)]
            fn cast(value: $from) -> (Self, bool) {
                (value as $to, <$to>::try_from(value).is_ok())
            }

            fn convert(value: $from) -> Result<Self, Misfit<Self>> {
                let end = if value > 0 { <$to>::MAX } else { <$to>::MIN };
                <$to>::try_from(value).map_err(|_| Misfit::Range(end))
            }
        }
    )*};
}

/// Floats into whole numbers: in range and without a fraction.
macro_rules! int_from_float {
    ($to:ty: $($from:ty)*) => {$(
        impl Holds<$from> for $to {
            #[inline(always)]
            fn cast(value: $from) -> (Self, bool) {
                // Every smaller float is exact in f64, and so are both bounds: powers of two, or zero.
                let (value, end) = (f64::from(value), <$to>::MAX as f64 + 1.0);
                let whole = value as $to;
                // The cast stops at the ends of the type, so the upper end needs a comparison of its own.
                let same = (whole as f64 == value) & (value < end);
                (whole, same)
            }

            fn convert(value: $from) -> Result<Self, Misfit<Self>> {
                let (whole, same) = Self::cast(value);
                let value = f64::from(value);
                if same {
                    Ok(whole)
                } else if value.is_nan() {
                    Err(Misfit::NotANumber)
                } else if whole as f64 == value.trunc() && value < <$to>::MAX as f64 + 1.0 {
                    Err(Misfit::Fraction)
                } else {
                    // A cast from float to integer stops at the ends.
                    Err(Misfit::Range(whole))
                }
            }
        }
    )*};
}

/// Anything into floats: the nearest; a finite number that would become infinite doesn't fit.
macro_rules! float_from {
    ($to:ident: $($from:ident)*) => {$(
        impl Holds<$from> for $to {
            #[inline(always)]
            fn cast(value: $from) -> (Self, bool) {
                let nearest = <$to as Nearest<$from>>::nearest(value);
                (nearest, nearest.is_finite() | !finite!($from, value))
            }

            fn convert(value: $from) -> Result<Self, Misfit<Self>> {
                match Self::cast(value) {
                    (nearest, true) => Ok(nearest),
                    (infinite, false) if infinite.is_sign_negative() => Err(Misfit::Range(<$to>::MIN)),
                    _ => Err(Misfit::Range(<$to>::MAX)),
                }
            }
        }
    )*};
}

macro_rules! finite {
    (f16, $value:ident) => {
        $value.is_finite()
    };
    (f32, $value:ident) => {
        $value.is_finite()
    };
    (f64, $value:ident) => {
        $value.is_finite()
    };
    ($int:ty, $value:ident) => {
        true
    };
}

/// Rounds to the nearest value of a floating-point type, ties to even.
trait Nearest<S> {
    fn nearest(value: S) -> Self;
}

macro_rules! nearest {
    ($to:ty: $($from:ty)*, $value:ident => $nearest:expr) => {$(
        impl Nearest<$from> for $to {
            #[inline(always)]
            fn nearest($value: $from) -> Self {
                $nearest
            }
        }
    )*};
}

nearest!(f64: i8 i16 i32 i64 u8 u16 u32 u64 i128 f32 f64, value => value as f64);
nearest!(f32: i8 i16 i32 i64 u8 u16 u32 u64 i128 f32 f64, value => value as f32);
nearest!(f64: f16, value => value.to_f64());
nearest!(f32: f16, value => value.to_f32());
nearest!(f16: f16, value => value);
nearest!(f16: f32, value => f16::from_f32(value));
// Whole numbers that float16 can hold are exact in float32, so nothing is rounded twice.
nearest!(f16: i8 i16 i32 i64 u8 u16 u32 u64 i128, value => f16::from_f32(value as f32));
nearest!(f16: f64, value => f16::from_f32(round_to_odd(value)));

/// `value` in float32, rounded so that rounding again to float16 gives what rounding once would give.
///
/// `f16::from_f64` does the two roundings one after the other where the processor has an instruction for the
/// second, and is then off by one in ties.
#[inline(always)]
fn round_to_odd(value: f64) -> f32 {
    let nearest = value as f32;
    if f64::from(nearest) == value || value.is_nan() {
        return nearest;
    }
    let away_from_zero = f64::from(nearest).abs() > value.abs();
    let truncated = nearest.to_bits() - u32::from(away_from_zero);
    f32::from_bits(truncated | 1)
}

macro_rules! for_ints {
    ($($to:ty)*) => {$(
        int_from_int!($to: i8 i16 i32 i64 u8 u16 u32 u64 i128);
        int_from_float!($to: f16 f32 f64);
    )*};
}
for_ints!(i8 i16 i32 i64 u8 u16 u32 u64);
float_from!(f16: i8 i16 i32 i64 u8 u16 u32 u64 i128 f16 f32 f64);
float_from!(f32: i8 i16 i32 i64 u8 u16 u32 u64 i128 f16 f32 f64);
float_from!(f64: i8 i16 i32 i64 u8 u16 u32 u64 i128 f16 f32 f64);

/// Booleans come as 0 and 1: from boolean columns (`u8`), a fill value (`f64`) or the job file (`i128`).
macro_rules! bool_from_int {
    ($($from:ty)*) => {$(
        impl Holds<$from> for bool {
            #[inline(always)]
            fn cast(value: $from) -> (Self, bool) {
                (value != 0, value == 0 || value == 1)
            }

            fn convert(value: $from) -> Result<Self, Misfit<Self>> {
                Holds::<f64>::convert(value as f64)
            }
        }
    )*};
}
bool_from_int!(u8 i128);

impl Holds<f64> for bool {
    #[inline(always)]
    fn cast(value: f64) -> (Self, bool) {
        (value == 1.0, (value == 0.0) | (value == 1.0))
    }

    fn convert(value: f64) -> Result<Self, Misfit<Self>> {
        match Self::cast(value) {
            (bit, true) => Ok(bit),
            _ if value.is_nan() => Err(Misfit::NotANumber),
            _ if value > 1.0 => Err(Misfit::Range(true)),
            _ if value < 0.0 => Err(Misfit::Range(false)),
            _ => Err(Misfit::Fraction),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<S: Copy, T: Holds<S> + PartialEq + std::fmt::Debug>(value: S, expected: Result<T, Misfit<T>>) {
        assert_eq!(T::convert(value), expected);
        let (cast, fits) = T::cast(value);
        assert_eq!(fits, expected.is_ok());
        if let Ok(expected) = expected {
            assert_eq!(cast, expected);
        }
    }

    /// Failure matrix: 35.
    #[test]
    fn whole_numbers_fit_by_range() {
        check::<i64, i32>(2147483647, Ok(i32::MAX));
        check::<i64, i32>(2147483648, Err(Misfit::Range(i32::MAX)));
        check::<i64, i32>(i64::MIN, Err(Misfit::Range(i32::MIN)));
        check::<i8, u64>(-1, Err(Misfit::Range(0)));
        check::<u64, i64>(u64::MAX, Err(Misfit::Range(i64::MAX)));
        check::<i128, u64>(u64::MAX.into(), Ok(u64::MAX));
    }

    #[test]
    fn floats_become_whole_numbers_only_when_they_are_whole_and_in_range() {
        check::<f64, i64>(-(2f64.powi(63)), Ok(i64::MIN));
        check::<f64, i64>(2f64.powi(63), Err(Misfit::Range(i64::MAX)));
        check::<f64, u64>(2f64.powi(64), Err(Misfit::Range(u64::MAX)));
        check::<f32, i32>(2147483648.0, Err(Misfit::Range(i32::MAX)));
        check::<f64, u8>(256.5, Err(Misfit::Range(255)));
        check::<f64, u8>(255.5, Err(Misfit::Fraction));
        check::<f64, u8>(-0.5, Err(Misfit::Fraction));
        check::<f64, u8>(-1.5, Err(Misfit::Range(0)));
        check::<f64, i32>(-0.0, Ok(0));
        check::<f64, i8>(f64::NAN, Err(Misfit::NotANumber));
        check::<f32, i8>(f32::NEG_INFINITY, Err(Misfit::Range(i8::MIN)));
        check::<f16, u8>(f16::from_f32(7.0), Ok(7));
        check::<f64, bool>(0.5, Err(Misfit::Fraction));
        check::<f64, bool>(1.0, Ok(true));
    }

    /// Failure matrix: 35.
    #[test]
    fn floats_are_rounded_to_the_nearest_and_must_stay_finite() {
        check::<f64, f32>(0.1, Ok(0.1f32));
        check::<f64, f32>(1e39, Err(Misfit::Range(f32::MAX)));
        check::<f64, f32>(-1e39, Err(Misfit::Range(f32::MIN)));
        check::<f64, f32>(f64::INFINITY, Ok(f32::INFINITY));
        check::<f64, f32>(1e-300, Ok(0.0));
        check::<i64, f32>(16777217, Ok(16777216.0));
        check::<u64, f64>(u64::MAX, Ok(18446744073709551616.0));
        check::<i32, f16>(65519, Ok(f16::MAX));
        check::<i32, f16>(65520, Err(Misfit::Range(f16::MAX)));
        check::<f32, f16>(-1e6, Err(Misfit::Range(f16::MIN)));
        assert!(<f32 as Holds<f64>>::cast(f64::NAN).0.is_nan());
        assert!(<f16 as Holds<f64>>::convert(f64::NAN).unwrap().is_nan());
    }

    #[test]
    fn float64_is_rounded_to_float16_once() {
        // Just above the middle of 1 and its successor: through float32 it would become a tie, and 1.
        let above_the_middle = 1.0 + 2f64.powi(-11) + 2f64.powi(-40);
        check::<f64, f16>(above_the_middle, Ok(f16::from_bits(f16::ONE.to_bits() + 1)));
        check::<f64, f16>(1.0 + 2f64.powi(-11), Ok(f16::ONE));
        check::<f64, f16>(65520.0 - 1e-9, Ok(f16::MAX));
        check::<f64, f16>(1e-300, Ok(f16::ZERO));
        check::<f64, f16>(f64::MAX, Err(Misfit::Range(f16::MAX)));
    }
}
