//! How large the tensors are that a model asks for.
//!
//! The shapes of inputs are a claim of the file, and the trial run allocates by them: a model that declares a row of a
//! terabyte must be refused in words, not end the process.

use super::trial;
use crate::error::{Error, Result};
use crate::signature::{Dim, InputFeature, Source, display_shape};

/// Most bytes of all inputs of the smallest call: a trial run, or a batch of the model's own fixed size.
const MAX_CALL_BYTES: u64 = 1 << 30;

/// Checks what the smallest call of a model takes; axes that are left open count as one.
///
/// # Errors
/// `Model`, when it is more than the limit, which the message names along with the input.
pub fn check(inputs: &[InputFeature], fixed_batch_rows: Option<usize>) -> Result<()> {
    let batch = fixed_batch_rows.unwrap_or(trial::MOST_ROWS);
    let mut total: u64 = 0;
    for input in inputs {
        let (rows, is_row) = match input.source {
            Source::Param => (1, false),
            _ => (batch, true),
        };
        let bytes = input
            .shape
            .iter()
            .map(|dim| match dim {
                Dim::Fixed(extent) => *extent as u64,
                Dim::Dynamic => 1,
            })
            .fold(input.dtype.byte_width() as u64, u64::saturating_mul)
            .saturating_mul(rows as u64);
        total = total.saturating_add(bytes);
        if total > MAX_CALL_BYTES {
            return Err(Error::model(format!(
                "the model's input {} {}{} takes {bytes} bytes in a call of {batch} rows, and all inputs together may take {MAX_CALL_BYTES}",
                input.name,
                input.dtype.as_str(),
                display_shape(&input.shape, is_row),
            ))
            .with_hint("export the model with smaller inputs, or with open axes"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::DType;

    fn input(dtype: DType, shape: &[usize], source: Source) -> InputFeature {
        InputFeature {
            name: "X".into(),
            dtype,
            shape: shape.iter().map(|&extent| Dim::Fixed(extent)).collect(),
            source,
            on_null: None,
            affine: (1.0, 0.0),
        }
    }

    /// Failure matrix: 53.
    #[test]
    fn inputs_that_no_machine_could_hold_are_refused_with_the_limit() {
        let column = || Source::Column("x".into());
        for (inputs, fixed, words) in [
            (
                vec![input(DType::F32, &[1 << 40], column())],
                None,
                "X float32[rows, 1099511627776] takes",
            ),
            (
                vec![input(DType::F32, &[1 << 40, 1 << 40], column())],
                None,
                "takes 18446744073709551615 bytes",
            ),
            (
                vec![input(DType::F64, &[], column())],
                Some(1 << 40),
                "in a call of 1099511627776 rows",
            ),
            (
                vec![input(DType::I8, &[1 << 31], Source::Param)],
                None,
                "X int8[2147483648] takes",
            ),
            (
                vec![input(DType::U8, &[100 << 20], column()); 4],
                None,
                "takes 314572800 bytes in a call of 3 rows",
            ),
        ] {
            let error = check(&inputs, fixed).unwrap_err().to_string();
            assert!(error.contains(words), "{error}\nwithout {words}");
            assert!(error.contains("may take 1073741824"), "{error}");
        }
        let images = vec![input(DType::F32, &[3, 4096, 4096], column())];
        check(&images, None).unwrap();
        check(&[input(DType::F32, &[3, 224, 224], column())], Some(1024)).unwrap();
    }
}
