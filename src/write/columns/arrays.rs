//! What a model returned as Arrow arrays of exactly the planned types, or what is wrong with it.
//!
//! Numbers keep their buffers; lists and maps get offsets around theirs.

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, ListArray, MapArray, PrimitiveArray, StringArray, StructArray,
};
use arrow::buffer::{BooleanBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::*;
use half::f16;
use std::sync::Arc;

use super::{entries, scalar_type};
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::tensor::{Items, Lists, Maps, Tensor, TensorData, Value};

/// `value` as an array of exactly the type of `field`.
///
/// # Errors
/// `Model`, naming what came and what was planned, when the two don't fit.
pub fn to_array(value: Value, field: &Field) -> Result<ArrayRef> {
    match value {
        Value::Tensor(tensor) => tensor_to_array(tensor, field),
        Value::Maps(maps) => maps_to_array(maps, field),
        Value::Lists(lists) => lists_to_array(lists, field),
    }
}

fn lists_to_array(lists: Lists, field: &Field) -> Result<ArrayRef> {
    let DataType::List(element) = field.data_type() else {
        return Err(wrong("lists", field));
    };
    let items: ArrayRef = match (lists.items, element.data_type()) {
        (Items::Tensor(tensor), planned) => {
            // Items are laid out as rows are, but a vector of one number stays a vector.
            let is_vector = tensor.shape.len() > 1;
            if is_vector != matches!(planned, DataType::List(_)) {
                return Err(misfit(&tensor, field));
            }
            tensor_to_array(tensor, element).map_err(|error| error.with("column", field.name()))?
        }
        (Items::Records(columns), DataType::Struct(fields)) => {
            let came: Vec<_> = columns.iter().map(|column| column.dtype().as_str()).collect();
            let fits = columns.len() == fields.len()
                && std::iter::zip(&columns, fields)
                    .all(|(column, planned)| scalar_type(column.dtype()) == *planned.data_type());
            if !fits {
                return Err(wrong(&format!("records of {}", came.join(", ")), field));
            }
            let columns = columns.into_iter().map(|column| elements_to_array(column, field));
            let records = StructArray::try_new(fields.clone(), columns.collect::<Result<_>>()?, None);
            Arc::new(records.context(ErrorKind::Internal, "can't make records of a model's output")?)
        }
        (Items::Records(_), _) => return Err(wrong("records", field)),
    };
    let lengths = lists.offsets.windows(2).map(|pair| pair[1] - pair[0]);
    let offsets = OffsetBuffer::try_from_lengths(lengths).map_err(|_| too_large(field))?;
    let array = ListArray::try_new(element.clone(), offsets, items, None);
    Ok(Arc::new(array.context(
        ErrorKind::Internal,
        "can't make lists of a model's output",
    )?))
}

fn tensor_to_array(tensor: Tensor, field: &Field) -> Result<ArrayRef> {
    let axes = match (field.data_type(), tensor.shape.as_slice()) {
        (DataType::List(_), [_, axes @ ..]) => axes,
        (_, [_] | [_, 1]) => &[],
        _ => return Err(misfit(&tensor, field)),
    };
    // From the outside in: the type of each level of lists, with the lists it has and their length.
    let mut levels = Vec::with_capacity(axes.len());
    let (mut item_type, mut lists) = (field.data_type(), tensor.rows());
    for &length in axes {
        let DataType::List(item) = item_type else {
            return Err(misfit(&tensor, field));
        };
        levels.push((item.clone(), lists, length));
        item_type = item.data_type();
        lists *= length;
    }
    if *item_type != scalar_type(tensor.dtype()) {
        return Err(misfit(&tensor, field));
    }
    let mut array = elements_to_array(tensor.data, field)?;
    for (item, lists, length) in levels.into_iter().rev() {
        let offsets = OffsetBuffer::try_from_repeated_length(length, lists).map_err(|_| too_large(field))?;
        let list = ListArray::try_new(item, offsets, array, None);
        array = Arc::new(list.context(ErrorKind::Internal, "can't make lists of a model's output")?);
    }
    Ok(array)
}

fn misfit(tensor: &Tensor, field: &Field) -> Error {
    let came = format!("{} of shape {:?}", tensor.dtype().as_str(), tensor.shape);
    wrong(&came, field)
}

fn wrong(came: &str, field: &Field) -> Error {
    Error::model(format!(
        "the model returned {came}, and the planned type is {}",
        field.data_type()
    ))
    .with("column", field.name())
    .with_hint("a model must return the same type and number of axes for every batch")
}

fn too_large(field: &Field) -> Error {
    Error::model("the model's output for one batch is too large for an Arrow array: more than 2^31 - 1 elements or bytes")
        .with("column", field.name())
        .with_hint("set a smaller inference.max_batch_rows")
}

/// Elements as a flat array. Numbers keep their buffer.
fn elements_to_array(data: TensorData, field: &Field) -> Result<ArrayRef> {
    fn primitive<T: ArrowPrimitiveType>(values: Vec<T::Native>) -> ArrayRef {
        Arc::new(PrimitiveArray::<T>::new(ScalarBuffer::from(values), None))
    }
    Ok(match data {
        TensorData::Bool(values) => Arc::new(BooleanArray::from(BooleanBuffer::from(values))),
        TensorData::I8(values) => primitive::<Int8Type>(values),
        TensorData::I16(values) => primitive::<Int16Type>(values),
        TensorData::I32(values) => primitive::<Int32Type>(values),
        TensorData::I64(values) => primitive::<Int64Type>(values),
        TensorData::U8(values) => primitive::<UInt8Type>(values),
        TensorData::U16(values) => primitive::<UInt16Type>(values),
        TensorData::U32(values) => primitive::<UInt32Type>(values),
        TensorData::U64(values) => primitive::<UInt64Type>(values),
        TensorData::F16(values) => primitive::<Float32Type>(values.into_iter().map(f16::to_f32).collect()),
        TensorData::F32(values) => primitive::<Float32Type>(values),
        TensorData::F64(values) => primitive::<Float64Type>(values),
        TensorData::String(values) => {
            let bytes: usize = values.iter().map(String::len).sum();
            if i32::try_from(bytes).is_err() {
                return Err(too_large(field));
            }
            Arc::new(StringArray::from_iter_values(values))
        }
        TensorData::Bytes(values) => {
            let bytes: usize = values.iter().map(|value| value.len()).sum();
            if i32::try_from(bytes).is_err() {
                return Err(too_large(field));
            }
            Arc::new(BinaryArray::from_iter_values(values))
        }
    })
}

fn maps_to_array(maps: Maps, field: &Field) -> Result<ArrayRef> {
    let came = || {
        format!(
            "maps from {} to {}",
            maps.keys.dtype().as_str(),
            maps.values.dtype().as_str()
        )
    };
    let planned = match field.data_type() {
        DataType::Map(planned, _) => planned.clone(),
        _ => return Err(wrong(&came(), field)),
    };
    if planned != entries(scalar_type(maps.keys.dtype()), scalar_type(maps.values.dtype())) {
        return Err(wrong(&came(), field));
    }
    let lengths = maps.offsets.windows(2).map(|pair| pair[1] - pair[0]);
    let offsets = OffsetBuffer::try_from_lengths(lengths).map_err(|_| too_large(field))?;
    let DataType::Struct(fields) = planned.data_type() else {
        return Err(Error::internal("the entries of a map are a struct"));
    };
    let columns = vec![
        elements_to_array(maps.keys, field)?,
        elements_to_array(maps.values, field)?,
    ];
    let entries = StructArray::try_new(fields.clone(), columns, None);
    let entries = entries.context(ErrorKind::Internal, "can't make the entries of maps")?;
    let array = MapArray::try_new(planned, offsets, entries, None, false);
    Ok(Arc::new(array.context(
        ErrorKind::Internal,
        "can't make maps of a model's output",
    )?))
}
