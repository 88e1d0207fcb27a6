//! Parameters: one value of the job file for all rows.
//!
//! `input.params.<name>` is a number, a boolean, a string or lists of those, and becomes a tensor of the dtype and
//! shape the model declares. It is made once; every batch gets a copy. Where the model declares the input per row,
//! each row gets the value.

use bytes::Bytes;
use serde_json::Value;

use super::convert::Misfit;
use super::element::{Element, with_element};
use super::rule::{Affine, Plain, Rule};
use crate::error::{Error, Result};
use crate::signature::{BoundInput, Dim, display_shape};
use crate::tensor::{DType, Tensor, TensorData};

/// An input that is fed by the job file.
#[derive(Clone, Debug)]
pub struct Param {
    value: Tensor,
    /// Whether `value` is one row, to be repeated.
    per_row: bool,
}

impl Param {
    /// Converts the value of `bound`.
    ///
    /// # Errors
    /// `Config`, naming `input.params.<name>`, when the value is of another type or shape, or out of range.
    pub fn new(bound: &BoundInput) -> Result<Param> {
        let feature = &bound.feature;
        let path = format!("input.params.{}", feature.name);
        let mut extents = Vec::with_capacity(feature.shape.len());
        let mut leaves = Vec::new();
        // A model that wants one value in a list of one gets a plain value too.
        let single = feature
            .shape
            .iter()
            .all(|dim| matches!(dim, Dim::Fixed(1) | Dim::Dynamic));
        if single && !bound.param.is_array() {
            extents = vec![1; feature.shape.len()];
            leaves.push((path.clone(), &bound.param));
        } else {
            measure(&bound.param, &feature.shape, &mut extents);
            collect(&path, &bound.param, &extents, &mut leaves).map_err(|error| {
                let shape = display_shape(&feature.shape, false);
                error.with_hint(format!("the model's input {} is of shape {shape}", feature.name))
            })?;
        }
        let affine = (feature.affine != (1.0, 0.0)).then_some(feature.affine);
        let data = with_element!(feature.dtype, T => numbers::<T>(&leaves, affine)?, strings(&leaves)?, hexadecimal(&leaves)?);
        Ok(Param {
            value: Tensor::new(extents, data)?,
            per_row: !feature.source.is_param(),
        })
    }

    /// The tensor for a batch of `rows` rows.
    pub fn tensor(&self, rows: usize) -> Result<Tensor> {
        if !self.per_row {
            return Ok(self.value.clone());
        }
        let elements = self.value.data.len() * rows;
        let mut data = self.value.data.slice(0, self.value.data.len().min(elements));
        while data.len() < elements {
            let more = data.slice(0, data.len().min(elements - data.len()));
            data.append(more)?;
        }
        let mut shape = vec![rows];
        shape.extend(&self.value.shape);
        Tensor::new(shape, data)
    }
}

/// The extents of the lists, taken from the first one of each level where the model leaves them open.
fn measure(value: &Value, shape: &[Dim], extents: &mut Vec<usize>) {
    let mut first = Some(value);
    for dim in shape {
        let items = first.and_then(Value::as_array);
        extents.push(match dim {
            Dim::Fixed(extent) => *extent,
            Dim::Dynamic => items.map_or(0, Vec::len),
        });
        first = items.and_then(|items| items.first());
    }
}

fn collect<'a>(
    path: &str,
    value: &'a Value,
    extents: &[usize],
    leaves: &mut Vec<(String, &'a Value)>,
) -> Result<()> {
    let Some((extent, inner)) = extents.split_first() else {
        leaves.push((path.to_string(), value));
        return Ok(());
    };
    let Some(items) = value.as_array() else {
        return Err(Error::config(format!(
            "{path} is {}, and must be a list",
            kind(value)
        )));
    };
    if items.len() != *extent {
        return Err(Error::config(format!(
            "{path} is a list of length {}, and must be of length {extent}",
            items.len()
        )));
    }
    for (index, item) in items.iter().enumerate() {
        collect(&format!("{path}[{index}]"), item, inner, leaves)?;
    }
    Ok(())
}

fn numbers<T: Element>(leaves: &[(String, &Value)], affine: Option<(f64, f64)>) -> Result<TensorData> {
    let mut elements: Vec<T> = Vec::with_capacity(leaves.len());
    for (path, value) in leaves {
        elements.push(number(path, value, affine)?);
    }
    Ok(T::data(elements))
}

fn number<T: Element>(path: &str, value: &Value, affine: Option<(f64, f64)>) -> Result<T> {
    let wrong_type = || {
        let wanted = if T::DTYPE == DType::Bool {
            "true or false"
        } else {
            "a number"
        };
        Error::config(format!(
            "{path} is {}, and must be {wanted} ({})",
            kind(value),
            T::DTYPE.as_str()
        ))
    };
    let converted = match value {
        Value::Bool(bit) if T::DTYPE == DType::Bool => T::convert(f64::from(u8::from(*bit))),
        Value::Number(number) if T::DTYPE != DType::Bool => match affine {
            None => match number.as_i128() {
                Some(whole) => T::convert(whole),
                None => T::convert(number.as_f64().unwrap_or(f64::NAN)),
            },
            Some((scale, offset)) => {
                let affine = Affine {
                    inner: Plain,
                    scale,
                    offset,
                };
                affine.convert(number.as_f64().unwrap_or(f64::NAN))
            }
        },
        _ => return Err(wrong_type()),
    };
    converted.map_err(|misfit| {
        let dtype = T::DTYPE.as_str();
        Error::config(match misfit {
            Misfit::Range(_) => format!("{path} is {value}, which is out of the range of {dtype}"),
            Misfit::Fraction | Misfit::NotANumber => {
                format!("{path} is {value}, and must be a whole number ({dtype})")
            }
        })
    })
}

fn strings(leaves: &[(String, &Value)]) -> Result<TensorData> {
    let mut texts = Vec::with_capacity(leaves.len());
    for (path, value) in leaves {
        let text = value
            .as_str()
            .ok_or_else(|| Error::config(format!("{path} is {}, and must be a string", kind(value))))?;
        texts.push(text.to_string());
    }
    Ok(texts.into())
}

/// JSON has no bytes: the registry's client writes them as hexadecimal text.
fn hexadecimal(leaves: &[(String, &Value)]) -> Result<TensorData> {
    let mut elements = Vec::with_capacity(leaves.len());
    for (path, value) in leaves {
        let wrong = || Error::config(format!("{path} must be bytes, written as hexadecimal text"));
        let digits = value.as_str().filter(|text| text.is_ascii()).ok_or_else(wrong)?;
        let pairs = digits.as_bytes().chunks(2);
        let bytes = pairs.map(|pair| match pair {
            [high, low] => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16).map(|digit| digit as u8);
                Some(digit(high)? << 4 | digit(low)?)
            }
            _ => None,
        });
        let bytes: Vec<u8> = bytes.collect::<Option<_>>().ok_or_else(wrong)?;
        elements.push(Bytes::from(bytes));
    }
    Ok(elements.into())
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::signature::{InputFeature, Source};
    use serde_json::json;

    fn bound(dtype: DType, shape: &[Dim], param: Value) -> BoundInput {
        let feature = InputFeature {
            name: "threshold".into(),
            dtype,
            shape: shape.to_vec(),
            source: Source::Param,
            on_null: None,
            affine: (1.0, 0.0),
        };
        BoundInput {
            feature,
            columns: vec![],
            param,
        }
    }

    fn tensor(dtype: DType, shape: &[Dim], value: Value) -> Result<Tensor> {
        Param::new(&bound(dtype, shape, value))?.tensor(10)
    }

    use Dim::{Dynamic, Fixed};

    #[test]
    fn values_become_tensors_of_the_declared_type_and_shape() {
        let cases: [(DType, &[Dim], Value, Tensor); 11] = [
            (
                DType::F32,
                &[],
                json!(0.1),
                Tensor::new(vec![], vec![0.1f32]).unwrap(),
            ),
            (
                DType::F64,
                &[],
                json!(3),
                Tensor::new(vec![], vec![3f64]).unwrap(),
            ),
            (
                DType::I8,
                &[Fixed(1)],
                json!(-128),
                Tensor::new(vec![1], vec![-128i8]).unwrap(),
            ),
            (
                DType::I64,
                &[Fixed(1)],
                json!([7]),
                Tensor::new(vec![1], vec![7i64]).unwrap(),
            ),
            (
                DType::U64,
                &[Dynamic],
                json!(u64::MAX),
                Tensor::new(vec![1], vec![u64::MAX]).unwrap(),
            ),
            (
                DType::I32,
                &[],
                json!(2.0),
                Tensor::new(vec![], vec![2i32]).unwrap(),
            ),
            (
                DType::Bool,
                &[],
                json!(true),
                Tensor::new(vec![], vec![true]).unwrap(),
            ),
            (
                DType::Bytes,
                &[],
                json!("00fF"),
                Tensor::new(vec![], vec![Bytes::from_static(b"\x00\xff")]).unwrap(),
            ),
            (
                DType::String,
                &[Dynamic],
                json!(["a", ""]),
                Tensor::new(vec![2], vec!["a".to_string(), String::new()]).unwrap(),
            ),
            (
                DType::I16,
                &[Fixed(2), Dynamic],
                json!([[1, 2, 3], [4, 5, 6]]),
                Tensor::new(vec![2, 3], vec![1i16, 2, 3, 4, 5, 6]).unwrap(),
            ),
            (
                DType::F32,
                &[Dynamic],
                json!([]),
                Tensor::new(vec![0], Vec::<f32>::new()).unwrap(),
            ),
        ];
        for (dtype, shape, value, expected) in cases {
            assert_eq!(tensor(dtype, shape, value.clone()).unwrap(), expected, "{value}");
        }
    }

    #[test]
    fn wrong_values_are_named_with_their_path() {
        let cases: [(DType, &[Dim], Value, &str); 15] = [
            (
                DType::I8,
                &[],
                json!(128),
                "input.params.threshold is 128, which is out of the range of int8",
            ),
            (
                DType::U64,
                &[],
                json!(-1),
                "is -1, which is out of the range of uint64",
            ),
            (
                DType::I64,
                &[],
                json!(1e19),
                "is 1e+19, which is out of the range of int64",
            ),
            (
                DType::F32,
                &[],
                json!(1e39),
                "is 1e+39, which is out of the range of float32",
            ),
            (
                DType::I32,
                &[],
                json!(0.5),
                "is 0.5, and must be a whole number (int32)",
            ),
            (
                DType::F32,
                &[],
                json!(true),
                "is a boolean, and must be a number (float32)",
            ),
            (
                DType::F32,
                &[],
                json!("1"),
                "is a string, and must be a number (float32)",
            ),
            (
                DType::Bool,
                &[],
                json!(1),
                "is a number, and must be true or false (bool)",
            ),
            (DType::String, &[], json!(1), "is a number, and must be a string"),
            (
                DType::Bytes,
                &[],
                json!("0g"),
                "must be bytes, written as hexadecimal text",
            ),
            (
                DType::Bytes,
                &[],
                json!("012"),
                "must be bytes, written as hexadecimal text",
            ),
            (DType::F32, &[], json!([1]), "is a list, and must be a number"),
            (
                DType::F32,
                &[Fixed(2)],
                json!(1),
                "is a number, and must be a list; the model's input threshold is of shape [2]",
            ),
            (
                DType::F32,
                &[Fixed(2)],
                json!([1, 2, 3]),
                "is a list of length 3, and must be of length 2",
            ),
            (
                DType::F32,
                &[Dynamic, Dynamic],
                json!([[1], [2, 3]]),
                "input.params.threshold[1] is a list of length 2, and must be of length 1",
            ),
        ];
        for (dtype, shape, value, message) in cases {
            let error = tensor(dtype, shape, value).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains(message), "{error}");
        }
    }

    #[test]
    fn an_input_declared_per_row_gets_the_value_in_every_row() {
        let mut input = bound(DType::I32, &[Fixed(2)], json!([1, 2]));
        input.feature.source = Source::Column("c".into());
        let param = Param::new(&input).unwrap();
        assert_eq!(
            param.tensor(3).unwrap(),
            Tensor::new(vec![3, 2], vec![1, 2, 1, 2, 1, 2]).unwrap()
        );
        assert_eq!(
            param.tensor(0).unwrap(),
            Tensor::new(vec![0, 2], Vec::<i32>::new()).unwrap()
        );
    }

    #[test]
    fn a_value_is_scaled_like_the_column_it_replaces() {
        let mut input = bound(DType::F32, &[], json!(10));
        input.feature.affine = (0.5, 1.0);
        assert_eq!(
            Param::new(&input).unwrap().tensor(1).unwrap().data,
            vec![6f32].into()
        );
    }
}
