//! What stands in for a null: decided once per input, before any data is read.
//!
//! The model card's policy for an input wins over the job's. A job speaks about all inputs at once, so its
//! `nan` touches floating-point inputs only and the others keep `fail`; a card that asks for NaN where there
//! is none is wrong.

use super::element::{Element, with_element};
use crate::error::{Error, Result};
use crate::signature::{InputFeature, OnNull};
use crate::tensor::DType;

/// The number that stands in for a null of `feature`, already scaled; `None` when a null ends the job.
///
/// An input of strings or bytes takes any number to mean the empty one.
///
/// # Errors
/// `Config`, when the input's type does not hold the number.
pub fn stand_in(feature: &InputFeature, job: OnNull) -> Result<Option<f64>> {
    let policy = match (feature.on_null, job) {
        (None, OnNull::Nan) if !feature.dtype.is_float() => OnNull::Fail,
        (card, job) => card.unwrap_or(job),
    };
    let number = match policy {
        OnNull::Fail => return Ok(None),
        OnNull::Nan if feature.dtype.is_float() => return Ok(Some(f64::NAN)),
        OnNull::Nan => {
            return Err(Error::config(format!(
                "on_null of the model's input {}: {} has no NaN",
                feature.name,
                feature.dtype.as_str()
            ))
            .with_hint("use fail, or fill with a fill_value"));
        }
        OnNull::Fill(_) if matches!(feature.dtype, DType::String | DType::Bytes) => return Ok(Some(0.0)),
        // A fill value is in the column's units, like every number around it.
        OnNull::Fill(value) => value * feature.affine.0 + feature.affine.1,
    };
    if holds(feature.dtype, number) {
        return Ok(Some(number));
    }
    let key = if feature.on_null.is_some() {
        "fill_value of the model card"
    } else {
        "input.fill_value"
    };
    Err(Error::config(format!(
        "{key} puts {number} in place of nulls, which the model's input {} of type {} can't hold",
        feature.name,
        feature.dtype.as_str()
    ))
    .with_hint("give a value that fits, or set on_null for this input in the model card"))
}

fn holds(dtype: DType, number: f64) -> bool {
    fn of<T: Element>(number: f64) -> bool {
        T::convert(number).is_ok()
    }
    with_element!(dtype, T => of::<T>(number), true, true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::Source;

    fn feature(dtype: DType, on_null: Option<OnNull>, affine: (f64, f64)) -> InputFeature {
        InputFeature {
            name: "x".into(),
            dtype,
            shape: vec![],
            source: Source::Column("x".into()),
            on_null,
            affine,
        }
    }

    fn check(dtype: DType, card: Option<OnNull>, job: OnNull, expected: Option<Option<f64>>) {
        let found = stand_in(&feature(dtype, card, (1.0, 0.0)), job).ok();
        assert_eq!(
            format!("{found:?}"),
            format!("{expected:?}"),
            "{dtype:?} {card:?} {job:?}"
        );
    }

    #[test]
    fn the_card_wins_over_the_job() {
        check(DType::F32, None, OnNull::Fail, Some(None));
        check(DType::F32, Some(OnNull::Fail), OnNull::Nan, Some(None));
        check(DType::F32, Some(OnNull::Fill(2.5)), OnNull::Fail, Some(Some(2.5)));
        check(DType::F32, None, OnNull::Fill(2.5), Some(Some(2.5)));
    }

    /// Failure matrix: 32.
    #[test]
    fn nan_is_for_floats_only() {
        check(DType::F16, None, OnNull::Nan, Some(Some(f64::NAN)));
        check(DType::I64, None, OnNull::Nan, Some(None));
        check(DType::String, None, OnNull::Nan, Some(None));
        check(DType::I64, Some(OnNull::Nan), OnNull::Fail, None);
        check(DType::String, Some(OnNull::Nan), OnNull::Fail, None);
    }

    /// Failure matrix: 32.
    #[test]
    fn a_fill_value_must_fit() {
        check(DType::U8, None, OnNull::Fill(255.0), Some(Some(255.0)));
        check(DType::U8, None, OnNull::Fill(256.0), None);
        check(DType::I64, None, OnNull::Fill(0.5), None);
        check(DType::Bool, None, OnNull::Fill(1.0), Some(Some(1.0)));
        check(DType::Bool, None, OnNull::Fill(2.0), None);
        check(DType::F16, None, OnNull::Fill(1e6), None);
        check(DType::String, None, OnNull::Fill(-1.0), Some(Some(0.0)));
        check(DType::Bytes, None, OnNull::Fill(-1.0), Some(Some(0.0)));
    }

    #[test]
    fn a_fill_value_is_scaled_like_the_numbers_around_it() {
        let scaled = feature(DType::F32, None, (0.5, 1.0));
        assert_eq!(stand_in(&scaled, OnNull::Fill(4.0)).unwrap(), Some(3.0));
    }
}
