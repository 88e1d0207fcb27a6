//! Rules: what happens to each value of a column on its way into a tensor.
//!
//! Most columns need nothing but the conversion of their type ([`Plain`]); the others are scaled by the model
//! card ([`Affine`]), counted in nanoseconds ([`Nanos`]) or carry a decimal point ([`Decimals`]). Loops are
//! generic over the rule, so that each pair of types and rule is one tight loop.
//!
//! [`Decimals`]: super::decimal::Decimals

use super::convert::{Holds, Misfit};

/// Turns values of type `S` into values of type `T`.
pub trait Rule<S: Copy, T: Copy>: Copy {
    /// The value for a tensor and whether it stands for `value`; when it doesn't, the first is arbitrary.
    fn cast(&self, value: S) -> (T, bool);

    /// The value for a tensor, or why there is none.
    fn convert(&self, value: S) -> Result<T, Misfit<T>>;
}

/// The conversion of types and nothing else.
#[derive(Clone, Copy, Debug)]
pub struct Plain;

impl<S: Copy, T: Holds<S>> Rule<S, T> for Plain {
    #[inline(always)]
    fn cast(&self, value: S) -> (T, bool) {
        T::cast(value)
    }

    fn convert(&self, value: S) -> Result<T, Misfit<T>> {
        T::convert(value)
    }
}

/// `value * scale + offset`, computed in float64 and rounded once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Affine<R> {
    /// How a value becomes a float64.
    pub inner: R,
    /// Factor.
    pub scale: f64,
    /// Added after scaling.
    pub offset: f64,
}

impl<S: Copy, T: Holds<f64>, R: Rule<S, f64>> Rule<S, T> for Affine<R> {
    #[inline(always)]
    fn cast(&self, value: S) -> (T, bool) {
        let (number, _) = self.inner.cast(value);
        let scaled = number * self.scale + self.offset;
        let (result, fits) = T::cast(scaled);
        // A finite number whose scaled value is infinite has overflowed, although T holds infinity.
        (result, fits & (scaled.is_finite() | !number.is_finite()))
    }

    fn convert(&self, value: S) -> Result<T, Misfit<T>> {
        let number = match self.inner.convert(value) {
            Ok(number) | Err(Misfit::Range(number)) => number,
            Err(_) => f64::NAN,
        };
        let scaled = number * self.scale + self.offset;
        if scaled.is_infinite() && number.is_finite() {
            let (Ok(end) | Err(Misfit::Range(end))) = T::convert(f64::MAX.copysign(scaled)) else {
                return Err(Misfit::NotANumber);
            };
            return Err(Misfit::Range(end));
        }
        T::convert(scaled)
    }
}

/// A count of some unit of time, as nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Nanos {
    /// Nanoseconds in the unit.
    pub per_unit: i64,
}

impl<T: Holds<i64> + Holds<i128>> Rule<i64, T> for Nanos {
    #[inline(always)]
    fn cast(&self, value: i64) -> (T, bool) {
        let (product, wrapped) = value.overflowing_mul(self.per_unit);
        let (result, fits) = T::cast(product);
        (result, fits & !wrapped)
    }

    fn convert(&self, value: i64) -> Result<T, Misfit<T>> {
        T::convert(i128::from(value) * i128::from(self.per_unit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scaling_happens_in_float64_and_overflow_is_seen() {
        let affine = Affine {
            inner: Plain,
            scale: 1.0 / 255.0,
            offset: -0.5,
        };
        assert_eq!(
            Rule::<u8, f32>::convert(&affine, 51),
            Ok((51.0 / 255.0 - 0.5) as f32)
        );
        let steep = Affine {
            inner: Plain,
            scale: 1e300,
            offset: 0.0,
        };
        assert_eq!(
            Rule::<f64, f64>::convert(&steep, -1e300),
            Err(Misfit::Range(f64::MIN))
        );
        assert_eq!(Rule::<f64, f32>::convert(&steep, 1e-290), Ok(1e10));
        assert!(!Rule::<f64, f64>::cast(&steep, 1e300).1);
        assert!(Rule::<f64, f64>::cast(&steep, f64::INFINITY).1);
    }

    #[test]
    fn instants_beyond_the_range_of_nanoseconds_are_out_of_range() {
        let seconds = Nanos {
            per_unit: 1_000_000_000,
        };
        assert_eq!(
            Rule::<i64, i64>::convert(&seconds, 9_223_372_036),
            Ok(9_223_372_036_000_000_000)
        );
        assert_eq!(
            Rule::<i64, i64>::convert(&seconds, 9_223_372_037),
            Err(Misfit::Range(i64::MAX))
        );
        assert!(!Rule::<i64, i64>::cast(&seconds, -9_223_372_037).1);
    }
}
