//! Engines: who computes a function, where there is more than one who can, and whether two of them say the same.
//!
//! ONNX graphs of trees can be run by ONNX Runtime and by [`trees`](super::trees), those of dense layers by `dense`. All
//! replicas of a run must choose alike, since the last bits may differ; so [`Loaded`](super::Loaded) lists a function's
//! engines, and whoever plans picks one.

use serde::{Deserialize, Serialize};
use std::fmt;

use crate::tensor::{Items, Lists, Maps, Tensor, TensorData, Value};

/// Who computes a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Engine {
    /// The built-in test model.
    Echo,
    /// ONNX Runtime.
    OnnxRuntime,
    /// Floe's own evaluation of trees.
    Trees,
    /// Floe's own evaluation of dense layers.
    Dense,
    /// Candle.
    Candle,
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Engine::Echo => "echo",
            Engine::OnnxRuntime => "ONNX Runtime",
            Engine::Trees => "trees",
            Engine::Dense => "dense layers",
            Engine::Candle => "Candle",
        })
    }
}

impl Engine {
    /// What it computes may differ by this much of the greater number from what another engine says, or absolutely where
    /// both are smaller than 1.
    pub fn tolerance(self) -> f64 {
        match self {
            // Sums of hundreds of products, layer upon layer, in another order; neither is nearer to the exact one.
            Engine::Dense => 1e-5,
            _ => 1e-6,
        }
    }
}

/// Where two engines do not agree.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Index of the output.
    pub output: usize,
    /// What differs, with both values.
    pub what: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "output {}: {}", self.output, self.what)
    }
}

/// Whether two engines agree about a batch: equal types, shapes, labels and keys; numbers within
/// `tolerance`, see [`Engine::tolerance`].
///
/// # Errors
/// The first difference.
pub fn agree(ours: &[Value], theirs: &[Value], tolerance: f64) -> Result<(), Difference> {
    let different = |output: usize, what: String| Difference { output, what };
    if ours.len() != theirs.len() {
        return Err(different(
            0,
            format!("{} outputs and {}", ours.len(), theirs.len()),
        ));
    }
    for (output, pair) in std::iter::zip(ours, theirs).enumerate() {
        let same = match pair {
            (Value::Tensor(ours), Value::Tensor(theirs)) => tensors(ours, theirs, tolerance),
            (Value::Maps(ours), Value::Maps(theirs)) => maps(ours, theirs, tolerance),
            (Value::Lists(ours), Value::Lists(theirs)) => lists(ours, theirs, tolerance),
            _ => Err("values of different sorts".to_string()),
        };
        same.map_err(|what| different(output, what))?;
    }
    Ok(())
}

fn tensors(ours: &Tensor, theirs: &Tensor, tolerance: f64) -> Result<(), String> {
    if ours.shape != theirs.shape {
        return Err(format!("shape {:?} and {:?}", ours.shape, theirs.shape));
    }
    data(&ours.data, &theirs.data, ours.row_len().max(1), tolerance)
}

fn maps(ours: &Maps, theirs: &Maps, tolerance: f64) -> Result<(), String> {
    if ours.offsets != theirs.offsets {
        return Err("maps of different sizes".to_string());
    }
    let width = ours.offsets.get(1).copied().unwrap_or(1).max(1);
    data(&ours.keys, &theirs.keys, width, tolerance)?;
    data(&ours.values, &theirs.values, width, tolerance)
}

fn lists(ours: &Lists, theirs: &Lists, tolerance: f64) -> Result<(), String> {
    if ours.offsets != theirs.offsets {
        return Err("lists of different lengths".to_string());
    }
    match (&ours.items, &theirs.items) {
        (Items::Tensor(ours), Items::Tensor(theirs)) => tensors(ours, theirs, tolerance),
        (Items::Records(ours), Items::Records(theirs)) if ours.len() == theirs.len() => {
            std::iter::zip(ours, theirs).try_for_each(|(ours, theirs)| data(ours, theirs, 1, tolerance))
        }
        _ => Err("lists of different things".to_string()),
    }
}

fn data(ours: &TensorData, theirs: &TensorData, width: usize, tolerance: f64) -> Result<(), String> {
    let at =
        |place: usize, ours: String, theirs: String| format!("row {}: {ours} and {theirs}", place / width);
    match (ours, theirs) {
        (TensorData::F32(ours), TensorData::F32(theirs)) => {
            match std::iter::zip(ours, theirs)
                .position(|(a, b)| !close(f64::from(*a), f64::from(*b), tolerance))
            {
                Some(place) => Err(at(place, ours[place].to_string(), theirs[place].to_string())),
                None => Ok(()),
            }
        }
        (TensorData::F64(ours), TensorData::F64(theirs)) => {
            match std::iter::zip(ours, theirs).position(|(a, b)| !close(*a, *b, tolerance)) {
                Some(place) => Err(at(place, ours[place].to_string(), theirs[place].to_string())),
                None => Ok(()),
            }
        }
        (TensorData::I64(ours), TensorData::I64(theirs)) => {
            match std::iter::zip(ours, theirs).position(|(a, b)| a != b) {
                Some(place) => Err(at(place, ours[place].to_string(), theirs[place].to_string())),
                None => Ok(()),
            }
        }
        (ours, theirs) if ours == theirs => Ok(()),
        (ours, theirs) if ours.dtype() != theirs.dtype() => Err(format!(
            "{} and {}",
            ours.dtype().as_str(),
            theirs.dtype().as_str()
        )),
        _ => Err("values that are no numbers differ".to_string()),
    }
}

fn close(a: f64, b: f64, tolerance: f64) -> bool {
    let scale = a.abs().max(b.abs()).max(1.0);
    a == b || (a.is_nan() && b.is_nan()) || (scale.is_finite() && (a - b).abs() <= tolerance * scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(shape: Vec<usize>, data: impl Into<TensorData>) -> Vec<Value> {
        vec![Value::Tensor(Tensor::new(shape, data).unwrap())]
    }

    #[test]
    fn equal_within_the_tolerance_agrees_and_anything_else_is_named() {
        let ours = tensor(vec![2, 2], vec![1.0f32, f32::NAN, f32::INFINITY, 1e9]);
        let close = tensor(
            vec![2, 2],
            vec![1.000_000_1f32, f32::NAN, f32::INFINITY, 1.000_000_1e9],
        );
        agree(&ours, &close, 1e-6).unwrap();
        for (theirs, words) in [
            (
                tensor(vec![2, 2], vec![1.0f32, f32::NAN, f32::INFINITY, 1.001e9]),
                "row 1: 1000000000 and 1001000000",
            ),
            (
                tensor(vec![2, 2], vec![1.0f32, 0.0, f32::INFINITY, 1e9]),
                "row 0: NaN and 0",
            ),
            (
                tensor(vec![2, 2], vec![1.0f32, f32::NAN, f32::MAX, 1e9]),
                "row 1: inf and",
            ),
            (
                tensor(vec![4], vec![1.0f32, f32::NAN, f32::INFINITY, 1e9]),
                "shape [2, 2] and [4]",
            ),
            (tensor(vec![2, 2], vec![1.0f64; 4]), "float32 and float64"),
            (vec![], "1 outputs and 0"),
        ] {
            let difference = agree(&ours, &theirs, 1e-6).unwrap_err();
            assert!(difference.to_string().contains(words), "{difference}");
        }
        let labels = |labels: &[i64]| tensor(vec![2], labels.to_vec());
        agree(&labels(&[1, 2]), &labels(&[1, 2]), 1e-6).unwrap();
        assert!(agree(&labels(&[1, 2]), &labels(&[1, 3]), 1e-6).is_err());
        let texts = |text: &str| tensor(vec![1], vec![text.to_string()]);
        agree(&texts("a"), &texts("a"), 1e-6).unwrap();
        assert!(agree(&texts("a"), &texts("b"), 1e-6).is_err());
    }
}
