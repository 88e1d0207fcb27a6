//! Parameters of a task: one value for all rows, with the default of the Python library.
//!
//! `None` of the library has no number: it is 0 for counts and the empty text for words.

use serde_json::Value;

use super::CALL;
use crate::error::{Error, Result};
use crate::signature::{Dim, InputFeature, Source};
use crate::tensor::{DType, Tensor, TensorData};

/// An optional parameter.
pub fn param(name: &str, dtype: DType, otherwise: impl Into<Value>) -> InputFeature {
    InputFeature {
        name: name.into(),
        dtype,
        shape: vec![],
        source: Source::Optional(otherwise.into()),
        on_null: None,
        affine: (1.0, 0.0),
    }
}

/// An optional parameter that is a list of texts; none by default.
pub fn words(name: &str) -> InputFeature {
    InputFeature {
        shape: vec![Dim::Dynamic],
        ..param(name, DType::String, Vec::<String>::new())
    }
}

/// Its default as a tensor.
pub fn of_default(input: &InputFeature, otherwise: &Value) -> Result<Tensor> {
    let is_list = matches!(input.shape.as_slice(), [Dim::Dynamic]);
    if is_list && otherwise.as_array().is_some_and(Vec::is_empty) {
        return Tensor::new(vec![0], Vec::<String>::new());
    }
    let shape = if is_list { vec![1] } else { vec![] };
    let wrong = || Error::internal(format!("the default of {} is of another type", input.name));
    match input.dtype {
        DType::I64 => Tensor::new(shape, vec![otherwise.as_i64().ok_or_else(wrong)?]),
        DType::F64 => Tensor::new(shape, vec![otherwise.as_f64().ok_or_else(wrong)?]),
        DType::Bool => Tensor::new(shape, vec![otherwise.as_bool().ok_or_else(wrong)?]),
        DType::String => Tensor::new(shape, vec![otherwise.as_str().ok_or_else(wrong)?.to_string()]),
        _ => Err(wrong()),
    }
}

/// A word.
pub fn word(tensor: &Tensor) -> Result<&str> {
    let values = match &tensor.data {
        TensorData::String(values) => Some(values),
        _ => None,
    };
    first(tensor, values).map(String::as_str)
}

/// A switch.
pub fn flag(tensor: &Tensor) -> Result<bool> {
    let values = match &tensor.data {
        TensorData::Bool(values) => Some(values),
        _ => None,
    };
    first(tensor, values).copied()
}

fn first<'a, T>(tensor: &'a Tensor, values: Option<&'a Vec<T>>) -> Result<&'a T> {
    values.and_then(|values| values.first()).ok_or_else(|| {
        Error::internal(format!(
            "a parameter came as {} {:?}",
            tensor.dtype().as_str(),
            tensor.shape
        ))
    })
}

/// A count that must be there; `name` is that of the parameter.
///
/// # Errors
/// `Config`, for 0 or less.
pub fn at_least_one(tensor: &Tensor, name: &str) -> Result<usize> {
    count(tensor)?.ok_or_else(|| Error::config(format!("input.params.{name} must be 1 or more")))
}

/// The `top_k` of a function whose columns hold one of the best of a row, a `label` say: 1.
///
/// # Errors
/// `Config`, for more and for less; `column` is that of the function for more.
pub fn only_one(tensor: &Tensor, what: &str, column: &str) -> Result<usize> {
    match at_least_one(tensor, "top_k")? {
        1 => Ok(1),
        more => Err(Error::config(format!(
            "input.params.top_k: {CALL} gives one {what} a row, and {more} are wanted"
        ))
        .with_hint(format!(
            "call the function top_k, whose column {column} is a list; a model of the registry has it under its own name if it \
             was logged with top_k"
        ))),
    }
}

/// A count; `None` for 0 or less.
pub fn count(tensor: &Tensor) -> Result<Option<usize>> {
    let values = match &tensor.data {
        TensorData::I64(values) => Some(values),
        _ => None,
    };
    let value = *first(tensor, values)?;
    Ok(usize::try_from(value).ok().filter(|count| *count > 0))
}
