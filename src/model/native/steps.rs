//! What happens to tensors before and after the trees, one row like the next: the few operators that converters of
//! scikit-learn, XGBoost and LightGBM write around them.

use super::Uncovered;
use crate::tensor::{DType, Tensor, TensorData};

/// A step that takes tensors of rows and gives one.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// The same values.
    Identity,
    /// Another type.
    Cast(DType),
    /// (x - offset) · scale, in 32 bits; a list has one number per column, or one for all.
    Scaler {
        /// Subtracted.
        offset: Vec<f32>,
        /// Multiplied by.
        scale: Vec<f32>,
    },
    /// Two operands, of which one may be a constant.
    Binary(Binary, Option<Constant>),
    /// A function of each number.
    Unary(Unary),
    /// Side by side.
    Concat,
    /// `[rows, columns]`, or `[rows]` where there are none to name.
    Reshape(Option<usize>),
    /// Numbers of a row divided by what they come to.
    Normalizer(Norm),
    /// exp(x - max) / sum along a row.
    Softmax,
}

/// An operator of two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binary {
    /// +
    Add,
    /// -
    Sub,
    /// ·
    Mul,
    /// /
    Div,
}

/// The constant operand.
#[derive(Clone, Debug, PartialEq)]
pub struct Constant {
    /// One number per column, or one for all.
    pub values: Vec<f64>,
    /// It is the first operand.
    pub is_first: bool,
}

/// A function of one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unary {
    /// exp(x)
    Exp,
    /// 1 / (1 + exp(-x))
    Sigmoid,
    /// -x
    Neg,
    /// √x
    Sqrt,
}

/// What a row comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Norm {
    /// Its greatest number.
    Max,
    /// The sum of the absolute values.
    L1,
    /// The root of the sum of squares.
    L2,
}

impl Norm {
    fn apply(self, row: &mut [f32]) {
        let total = match self {
            Norm::Max => row.iter().copied().fold(f32::NEG_INFINITY, f32::max),
            Norm::L1 => row.iter().fold(0.0, |sum, value| sum + value.abs()),
            Norm::L2 => row.iter().fold(0.0, |sum, value| sum + value * value),
        };
        if total == 0.0 {
            return;
        }
        for value in row {
            *value = match self {
                Norm::Max | Norm::L1 => *value / total,
                // In this order, and with the sign put back.
                Norm::L2 if *value < 0.0 => -(*value * *value / total).sqrt(),
                Norm::L2 => (*value * *value / total).sqrt(),
            };
        }
    }
}

/// A type of numbers that steps compute in.
trait Real: Copy + Into<f64> {
    fn of(value: f64) -> Self;
}

impl Real for f32 {
    fn of(value: f64) -> f32 {
        value as f32
    }
}

impl Real for f64 {
    fn of(value: f64) -> f64 {
        value
    }
}

impl Step {
    /// Applies it.
    ///
    /// # Errors
    /// In words, for tensors that the step is not for.
    pub fn apply(&self, mut inputs: Vec<Tensor>, rows: usize) -> Result<Tensor, Uncovered> {
        if let Step::Concat = self {
            return concat(inputs, rows);
        }
        let Some(first) = (!inputs.is_empty()).then(|| inputs.remove(0)) else {
            return Err("a step without an input".to_string());
        };
        let width = first.row_len().max(1);
        match self {
            Step::Identity => Ok(first),
            Step::Concat => unreachable!("returned above"),
            Step::Cast(dtype) => cast(first, *dtype),
            Step::Scaler { offset, scale } => {
                let Tensor {
                    shape,
                    data: TensorData::F32(mut values),
                } = cast(first, DType::F32)?
                else {
                    return Err("a Scaler of no numbers".to_string());
                };
                let at =
                    |list: &[f32], column: usize| list.get(if list.len() == 1 { 0 } else { column }).copied();
                for row in values.chunks_exact_mut(width) {
                    for (column, value) in row.iter_mut().enumerate() {
                        let (Some(offset), Some(scale)) = (at(offset, column), at(scale, column)) else {
                            return Err("a Scaler of another width".to_string());
                        };
                        *value = (*value - offset) * scale;
                    }
                }
                Ok(Tensor {
                    shape,
                    data: values.into(),
                })
            }
            Step::Unary(unary) => map(first, |row| {
                for value in row {
                    *value = match unary {
                        Unary::Exp => value.exp(),
                        Unary::Sigmoid => 1.0 / (1.0 + (-*value).exp()),
                        Unary::Neg => -*value,
                        Unary::Sqrt => value.sqrt(),
                    };
                }
            }),
            Step::Binary(operator, Some(constant)) => {
                if constant.values.len() != 1 && constant.values.len() != width {
                    return Err("a constant of another width".to_string());
                }
                map(first, |row| {
                    for (column, value) in row.iter_mut().enumerate() {
                        let other = constant.values[if constant.values.len() == 1 { 0 } else { column }];
                        let (a, b) = if constant.is_first {
                            (other, *value)
                        } else {
                            (*value, other)
                        };
                        *value = operator.apply(a, b);
                    }
                })
            }
            Step::Binary(operator, None) => inputs
                .into_iter()
                .try_fold(first, |sum, next| binary(*operator, sum, next)),
            Step::Reshape(columns) => {
                let length = first.data.len();
                let shape = match columns {
                    None => vec![rows],
                    Some(columns) => vec![rows, *columns],
                };
                match shape.iter().product::<usize>() == length {
                    true => Ok(Tensor {
                        shape,
                        data: first.data,
                    }),
                    false => Err(format!("{length} values can't take the shape {shape:?}")),
                }
            }
            Step::Normalizer(norm) => {
                let Tensor {
                    shape,
                    data: TensorData::F32(mut values),
                } = cast(first, DType::F32)?
                else {
                    return Err("a Normalizer of no numbers".to_string());
                };
                values.chunks_exact_mut(width).for_each(|row| norm.apply(row));
                Ok(Tensor {
                    shape,
                    data: values.into(),
                })
            }
            Step::Softmax => map(first, |row| {
                let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                row.iter_mut().for_each(|value| *value = (*value - most).exp());
                let sum: f64 = row.iter().sum();
                row.iter_mut().for_each(|value| *value /= sum);
            }),
        }
    }
}

impl Binary {
    fn apply(self, a: f64, b: f64) -> f64 {
        match self {
            Binary::Add => a + b,
            Binary::Sub => a - b,
            Binary::Mul => a * b,
            Binary::Div => a / b,
        }
    }
}

/// A function of each row, computed in 64 bits and rounded once.
fn map(tensor: Tensor, mut f: impl FnMut(&mut [f64])) -> Result<Tensor, Uncovered> {
    fn rows<T: Real>(values: Vec<T>, width: usize, f: &mut impl FnMut(&mut [f64])) -> Vec<T> {
        let mut row = Vec::with_capacity(width);
        let mut result = Vec::with_capacity(values.len());
        for values in values.chunks_exact(width) {
            row.clear();
            row.extend(values.iter().map(|&value| value.into()));
            f(&mut row);
            result.extend(row.iter().map(|&value| T::of(value)));
        }
        result
    }
    let width = tensor.row_len().max(1);
    let data = match tensor.data {
        TensorData::F32(values) => rows(values, width, &mut f).into(),
        TensorData::F64(values) => rows(values, width, &mut f).into(),
        other => return Err(format!("arithmetic with {}", other.dtype().as_str())),
    };
    Ok(Tensor {
        shape: tensor.shape,
        data,
    })
}

fn binary(operator: Binary, a: Tensor, b: Tensor) -> Result<Tensor, Uncovered> {
    if a.shape != b.shape {
        return Err(format!("operands of shapes {:?} and {:?}", a.shape, b.shape));
    }
    let data = match (a.data, b.data) {
        (TensorData::F32(a), TensorData::F32(b)) => {
            let pairs = std::iter::zip(a, b);
            pairs
                .map(|(a, b)| operator.apply(f64::from(a), f64::from(b)) as f32)
                .collect::<Vec<f32>>()
                .into()
        }
        (TensorData::F64(a), TensorData::F64(b)) => {
            let pairs = std::iter::zip(a, b);
            pairs
                .map(|(a, b)| operator.apply(a, b))
                .collect::<Vec<f64>>()
                .into()
        }
        _ => return Err("operands of different types".to_string()),
    };
    Ok(Tensor { shape: a.shape, data })
}

/// The tensor in another type.
///
/// # Errors
/// In words, for types that steps do not know.
pub fn cast(tensor: Tensor, to: DType) -> Result<Tensor, Uncovered> {
    let from = tensor.dtype();
    let data = match (tensor.data, to) {
        (data, to) if from == to => data,
        (TensorData::F32(values), DType::F64) => values.into_iter().map(f64::from).collect::<Vec<_>>().into(),
        (TensorData::F64(values), DType::F32) => values
            .into_iter()
            .map(|value| value as f32)
            .collect::<Vec<_>>()
            .into(),
        (TensorData::I64(values), DType::F32) => values
            .into_iter()
            .map(|value| value as f32)
            .collect::<Vec<_>>()
            .into(),
        (TensorData::I64(values), DType::F64) => values
            .into_iter()
            .map(|value| value as f64)
            .collect::<Vec<_>>()
            .into(),
        (TensorData::I32(values), DType::F32) => values
            .into_iter()
            .map(|value| value as f32)
            .collect::<Vec<_>>()
            .into(),
        (TensorData::I32(values), DType::F64) => values.into_iter().map(f64::from).collect::<Vec<_>>().into(),
        (TensorData::I32(values), DType::I64) => values.into_iter().map(i64::from).collect::<Vec<_>>().into(),
        (_, to) => return Err(format!("a Cast from {} to {}", from.as_str(), to.as_str())),
    };
    Ok(Tensor {
        shape: tensor.shape,
        data,
    })
}

fn concat(inputs: Vec<Tensor>, rows: usize) -> Result<Tensor, Uncovered> {
    fn join<T: Copy>(parts: &[(&[T], usize)], rows: usize) -> Vec<T> {
        let mut joined = Vec::with_capacity(parts.iter().map(|(values, _)| values.len()).sum());
        for row in 0..rows {
            for (values, width) in parts {
                joined.extend_from_slice(&values[row * width..(row + 1) * width]);
            }
        }
        joined
    }
    let width: usize = inputs.iter().map(Tensor::row_len).sum();
    if inputs
        .iter()
        .any(|input| input.shape.len() != 2 || input.shape[0] != rows)
    {
        return Err("a Concat of others than columns".to_string());
    }
    macro_rules! join_as {
        ($($variant:ident),*) => {
            match inputs.first().map(Tensor::dtype) {
                $(Some(DType::$variant) => {
                    let mut parts = Vec::with_capacity(inputs.len());
                    for input in &inputs {
                        let TensorData::$variant(values) = &input.data else {
                            return Err("a Concat of several types".to_string());
                        };
                        parts.push((values.as_slice(), input.row_len()));
                    }
                    join(&parts, rows).into()
                })*
                _ => return Err("a Concat of others than numbers".to_string()),
            }
        };
    }
    let data: TensorData = join_as!(F32, F64, I64, I32);
    Ok(Tensor {
        shape: vec![rows, width],
        data,
    })
}
