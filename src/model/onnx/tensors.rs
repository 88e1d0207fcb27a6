//! Tensors in an ONNX file: their data must be in the file, and as much of it as their shape says.

use super::proto;
use crate::error::{Error, Result};
use crate::tensor::DType;

/// Most axes; ONNX Runtime's own kernels stop far below.
const MAX_AXES: usize = 64;
/// Most elements of a sparse tensor written out: ONNX Runtime makes sparse weights dense when it loads them.
const MAX_DENSE_ELEMENTS: u64 = 1 << 28;

/// Floe's type for ONNX's number of an element type, if there is one.
pub fn dtype(number: i32) -> Option<DType> {
    Some(match number {
        1 => DType::F32,
        2 => DType::U8,
        3 => DType::I8,
        4 => DType::U16,
        5 => DType::I16,
        6 => DType::I32,
        7 => DType::I64,
        8 => DType::String,
        9 => DType::Bool,
        10 => DType::F16,
        11 => DType::F64,
        12 => DType::U32,
        13 => DType::U64,
        _ => return None,
    })
}

/// The name of an element type, also of those that Floe can't feed or keep.
pub fn type_name(number: i32) -> String {
    if let Some(dtype) = dtype(number) {
        return dtype.as_str().to_string();
    }
    let name = match number {
        0 => "undeclared type",
        14 => "complex64",
        15 => "complex128",
        16 => "bfloat16",
        17..=20 => "float8",
        21 => "uint4",
        22 => "int4",
        23 => "float4",
        24 => "float8",
        25 => "uint2",
        26 => "int2",
        _ => return format!("element type {number}"),
    };
    name.to_string()
}

/// Checks one tensor whose message takes `encoded_bytes` in the file.
///
/// # Errors
/// `Model`, when its data is in another file, or its shape promises more or less than the file holds.
pub fn check(tensor: &proto::Tensor, encoded_bytes: usize) -> Result<()> {
    let name = if tensor.name.is_empty() {
        "a constant".to_string()
    } else {
        format!("the tensor {}", tensor.name)
    };
    if !tensor.external_data.is_empty() || tensor.data_location != 0 {
        let location = tensor.external_data.iter().find(|entry| entry.key == "location");
        let place = location.map_or("another file", |entry| &entry.value);
        return Err(Error::model(format!(
            "the model keeps weights outside its own file: {name} is in {place}"
        ))
        .with_hint("save it as one file, in Python: onnx.save(onnx.load('model.onnx'), 'single.onnx')"));
    }
    let elements = elements(&tensor.dims)?;
    let Some(bits) = element_bits(tensor.data_type) else {
        return Err(Error::model(format!(
            "{name} in the model is of {}",
            type_name(tensor.data_type)
        )));
    };
    if let Some(raw) = &tensor.raw_data {
        let needed = elements.saturating_mul(bits).div_ceil(8);
        if tensor.data_type == STRING || needed != raw.len() as u64 {
            return Err(Error::model(format!(
                "the model is damaged: {name} of shape {:?} and type {} has {} bytes of data",
                tensor.dims,
                type_name(tensor.data_type),
                raw.len()
            )));
        }
        return Ok(());
    }
    // The data is in a list of numbers of one of six types, which is not decoded here: each element takes at least
    // so many bits of the message. ONNX Runtime compares the exact counts.
    let least_bits = match tensor.data_type {
        1 => 32,
        11 | 14 => 64,
        15 => 128,
        STRING => 16,
        21..=23 => 4,
        25 | 26 => 2,
        _ => 8,
    };
    if elements.saturating_mul(least_bits).div_ceil(8) > encoded_bytes as u64 {
        return Err(Error::model(format!(
            "the model is damaged: {name} of shape {:?} has only {encoded_bytes} bytes",
            tensor.dims
        )));
    }
    Ok(())
}

/// Checks the shape of a sparse tensor.
///
/// # Errors
/// `Model`, when it would be too large written out.
pub fn check_dense(dims: &[i64]) -> Result<()> {
    let elements = elements(dims)?;
    if elements > MAX_DENSE_ELEMENTS {
        return Err(Error::model(format!(
            "the model has a sparse tensor of shape {dims:?}, which would have more than {MAX_DENSE_ELEMENTS} elements"
        )));
    }
    Ok(())
}

const STRING: i32 = 8;

fn elements(dims: &[i64]) -> Result<u64> {
    if dims.len() > MAX_AXES {
        return Err(Error::model(format!(
            "the model has a tensor of {} axes",
            dims.len()
        )));
    }
    let mut elements: u64 = 1;
    for &dim in dims {
        let Ok(extent) = u64::try_from(dim) else {
            return Err(Error::model(format!("the model has a tensor of shape {dims:?}")));
        };
        elements = elements.saturating_mul(extent);
    }
    Ok(elements)
}

fn element_bits(data_type: i32) -> Option<u64> {
    if let Some(dtype) = dtype(data_type) {
        return Some(8 * dtype.byte_width() as u64);
    }
    Some(match data_type {
        14 => 64,
        15 => 128,
        16 => 16,
        17..=20 | 24 => 8,
        21..=23 => 4,
        25 | 26 => 2,
        _ => return None,
    })
}
