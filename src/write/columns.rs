//! temporary
use crate::config::*;
use crate::error::*;
use crate::signature::*;
use crate::tensor::{TensorData, Value};
use arrow::array::*;
use arrow::datatypes::*;
use std::sync::Arc;
/// t
pub fn plan(o: &[OutputFeature], _: &OutputOptions, _: &Schema) -> Result<Vec<Field>> {
    Ok(o.iter().map(|f| Field::new(&f.column, match f.dtype { crate::tensor::DType::F32 => DataType::Float32, _ => DataType::Int64 }, true)).collect())
}
/// t
pub fn to_array(v: Value, _: &FieldRef) -> Result<ArrayRef> {
    let Value::Tensor(t) = v else { todo!() };
    Ok(match t.data { TensorData::F32(v) => Arc::new(Float32Array::from(v)), TensorData::I64(v) => Arc::new(Int64Array::from(v)), _ => todo!() })
}
