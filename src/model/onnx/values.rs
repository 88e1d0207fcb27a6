//! Tensors to ONNX Runtime and back.
//!
//! Numbers go in as views of the buffers that `decode` made, without a copy. What comes out is copied once, since it
//! belongs to the session. Strings and maps are converted one by one.

use half::f16;
use ort::memory::Allocator;
use ort::session::SessionInputValue;
use ort::value::{DynMapValueType, DynValue, TensorElementType, TensorRef, ValueType};

use super::graph::Kind;
use super::zipmap::Zip;
use crate::error::{Error, Result};
use crate::signature::Dim;
use crate::tensor::{DType, Maps, Tensor, TensorData, Value};

/// Calls a macro with every dtype whose elements lie in memory as ONNX Runtime's do.
macro_rules! for_each_plain {
    ($call:ident) => {
        $call! {
            (Bool, bool, Bool),
            (I8, i8, Int8), (I16, i16, Int16), (I32, i32, Int32), (I64, i64, Int64),
            (U8, u8, Uint8), (U16, u16, Uint16), (U32, u32, Uint32), (U64, u64, Uint64),
            (F16, f16, Float16), (F32, f32, Float32), (F64, f64, Float64),
        }
    };
}

macro_rules! define {
    ($(($variant:ident, $element:ty, $theirs:ident)),* $(,)?) => {
        fn plain_input<'a>(shape: Vec<i64>, data: &'a TensorData) -> ort::Result<Option<SessionInputValue<'a>>> {
            Ok(Some(match data {
                $(TensorData::$variant(values) => TensorRef::from_array_view((shape, values.as_slice()))?.into(),)*
                TensorData::String(_) | TensorData::Bytes(_) => return Ok(None),
            }))
        }

        fn plain_copy(allocator: &Allocator, shape: Vec<i64>, data: &TensorData) -> ort::Result<Option<DynValue>> {
            Ok(Some(match data {
                $(TensorData::$variant(values) => {
                    let mut copy = ort::value::Tensor::<$element>::new(allocator, shape)?;
                    copy.try_extract_tensor_mut::<$element>()?.1.copy_from_slice(values);
                    copy.into_dyn()
                })*
                TensorData::String(_) | TensorData::Bytes(_) => return Ok(None),
            }))
        }

        fn plain_output(value: &DynValue, theirs: TensorElementType) -> ort::Result<Option<TensorData>> {
            Ok(Some(match theirs {
                $(TensorElementType::$theirs => value.try_extract_tensor::<$element>()?.1.to_vec().into(),)*
                TensorElementType::String => value.try_extract_strings()?.1.into(),
                _ => return Ok(None),
            }))
        }

        fn dtype(theirs: TensorElementType) -> Option<DType> {
            Some(match theirs {
                $(TensorElementType::$theirs => DType::$variant,)*
                TensorElementType::String => DType::String,
                _ => return None,
            })
        }
    };
}
for_each_plain!(define);

/// The type that ONNX Runtime inferred for an output that declares none.
pub fn kind(inferred: &ValueType) -> Kind {
    let words = || Kind::Other(inferred.to_string());
    match inferred {
        ValueType::Tensor { ty, shape, .. } => dtype(*ty).map_or_else(words, |dtype| Kind::Tensor {
            dtype,
            shape: Some(
                shape
                    .iter()
                    .map(|&extent| usize::try_from(extent).map_or(Dim::Dynamic, Dim::Fixed))
                    .collect(),
            ),
        }),
        ValueType::Sequence(element) => match **element {
            ValueType::Map {
                key,
                value: TensorElementType::Float32,
            } => match dtype(key) {
                Some(key @ (DType::I64 | DType::String)) => Kind::Maps {
                    key,
                    value: DType::F32,
                },
                _ => words(),
            },
            _ => words(),
        },
        _ => words(),
    }
}

/// `tensor` as the value of the input `name`, which is declared with `axes` axes.
///
/// # Errors
/// `Data`, for a string that C can't hold; `Model`, when ONNX Runtime refuses the tensor.
pub fn to_input<'a>(name: &str, axes: usize, tensor: &'a Tensor) -> Result<SessionInputValue<'a>> {
    let shape = shape(axes, tensor);
    let plain = plain_input(shape.clone(), &tensor.data);
    if let Some(value) = plain.map_err(|cause| refused(name, cause))? {
        return Ok(value);
    }
    strings(name, shape, tensor).map(Into::into)
}

/// The same as a copy of its own, of numbers in memory of `allocator`.
///
/// # Errors
/// As of [`to_input`].
pub fn to_owned(allocator: &Allocator, name: &str, axes: usize, tensor: &Tensor) -> Result<DynValue> {
    let copy = plain_copy(allocator, shape(axes, tensor), &tensor.data);
    match copy.map_err(|cause| refused(name, cause))? {
        Some(copy) => Ok(copy),
        None => strings(name, shape(axes, tensor), tensor),
    }
}

fn strings(name: &str, shape: Vec<i64>, tensor: &Tensor) -> Result<DynValue> {
    let TensorData::String(texts) = &tensor.data else {
        return Err(Error::internal("every dtype is a number or a string"));
    };
    if let Some(index) = texts.iter().position(|text| text.contains('\0')) {
        let row = index / tensor.row_len().max(1);
        return Err(Error::data(format!(
            "row {row} of a batch has a NUL character in the text for the model's input {name}, which ONNX Runtime can't take"
        )));
    }
    let strings = ort::value::Tensor::from_string_array((shape, texts.as_slice()));
    Ok(strings.map_err(|cause| refused(name, cause))?.into_dyn())
}

/// The shape of `tensor` for an input of `axes` axes: `[rows]` and `[rows, 1]` are the same numbers.
fn shape(axes: usize, tensor: &Tensor) -> Vec<i64> {
    let mut shape: Vec<i64> = tensor.shape.iter().map(|&extent| extent as i64).collect();
    if axes == 2 && shape.len() == 1 {
        shape.push(1);
    } else if axes == 1 && matches!(shape[..], [_, 1]) {
        shape.pop();
    }
    shape
}

fn refused(name: &str, cause: ort::Error) -> Error {
    Error::model(format!(
        "ONNX Runtime doesn't take the tensor for the input {name}"
    ))
    .with_source(cause)
}

/// The output `name` of a batch of `rows` rows.
///
/// # Errors
/// `Model`, when it has another number of rows, or holds what no column can hold.
pub fn from_output(name: &str, value: &DynValue, rows: usize) -> Result<Value> {
    let unreadable = |cause: ort::Error| {
        Error::model(format!("the model's output {name} can't be read")).with_source(cause)
    };
    match value.dtype() {
        ValueType::Tensor { ty, shape, .. } => {
            let shape: Vec<usize> = shape
                .iter()
                .map(|&extent| usize::try_from(extent).unwrap_or(0))
                .collect();
            match shape.first() {
                Some(&returned) => check_rows(name, returned, rows)?,
                None => return Err(no_rows(name, rows)),
            }
            let data = plain_output(value, *ty).map_err(unreadable)?;
            let data = data.ok_or_else(|| unkeepable(name, &format!("tensor of {ty}")))?;
            Ok(Value::Tensor(Tensor::new(shape, data)?))
        }
        ValueType::Sequence(element) => match **element {
            ValueType::Map {
                key,
                value: TensorElementType::Float32,
            } => {
                let maps = maps(value, key).map_err(unreadable)?;
                let maps = maps.ok_or_else(|| unkeepable(name, &value.dtype().to_string()))?;
                check_rows(name, maps.rows(), rows)?;
                Ok(Value::Maps(maps))
            }
            _ => Err(unkeepable(name, &value.dtype().to_string())),
        },
        other => Err(unkeepable(name, &other.to_string())),
    }
}

/// The maps that `zip` makes of the tensor `value`.
///
/// # Errors
/// `Model`, when the tensor has another number of rows, or of classes.
pub fn from_scores(zip: &Zip, value: &DynValue, rows: usize) -> Result<Value> {
    let scores = value.try_extract_tensor::<f32>().map_err(|cause| {
        Error::model(format!("the model's output {} can't be read", zip.output)).with_source(cause)
    });
    let (shape, scores) = scores?;
    match shape[..] {
        [returned, width] if width == zip.width() as i64 => {
            check_rows(&zip.output, usize::try_from(returned).unwrap_or(0), rows)?;
            Ok(Value::Maps(zip.maps(scores)))
        }
        // As ONNX Runtime's own ZipMap: without a batch axis it is one row.
        [width] if width == zip.width() as i64 => {
            check_rows(&zip.output, 1, rows)?;
            Ok(Value::Maps(zip.maps(scores)))
        }
        _ => Err(Error::model(format!(
            "the model's output {} has {} labels for scores of shape {:?}",
            zip.output,
            zip.width(),
            &shape[..]
        ))),
    }
}

fn maps(value: &DynValue, key: TensorElementType) -> ort::Result<Option<Maps>> {
    Ok(match key {
        TensorElementType::Int64 => Some(sorted_maps::<i64>(value)?),
        TensorElementType::String => Some(sorted_maps::<String>(value)?),
        _ => None,
    })
}

fn sorted_maps<K>(value: &DynValue) -> ort::Result<Maps>
where
    K: ort::value::IntoTensorElementType + Clone + std::hash::Hash + Ord,
    TensorData: From<Vec<K>>,
{
    let rows = value.try_extract_sequence::<DynMapValueType>()?;
    let mut offsets = Vec::with_capacity(rows.len() + 1);
    offsets.push(0);
    let (mut keys, mut values) = (Vec::new(), Vec::new());
    for row in rows {
        let mut entries = row.try_extract_key_values::<K, f32>()?;
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        for (key, value) in entries {
            keys.push(key);
            values.push(value);
        }
        offsets.push(keys.len());
    }
    Ok(Maps {
        offsets,
        keys: keys.into(),
        values: values.into(),
    })
}

fn check_rows(name: &str, returned: usize, rows: usize) -> Result<()> {
    if returned == rows {
        return Ok(());
    }
    Err(Error::model(format!("the model's output {name} has {returned} rows for {rows} rows of input")).with_hint(
        "every output needs one row per row of input, in their order; a model card can leave an output out (outputs: [...])",
    ))
}

fn no_rows(name: &str, rows: usize) -> Error {
    Error::model(format!("the model's output {name} is a single value for {rows} rows of input")).with_hint(
        "every output needs one row per row of input, in their order; a model card can leave an output out (outputs: [...])",
    )
}

fn unkeepable(name: &str, what: &str) -> Error {
    Error::model(format!(
        "the model's output {name} is a {what}, which no column can hold"
    ))
    .with_hint("leave it out with a model card (outputs: [...]), or cast it in the model")
}
