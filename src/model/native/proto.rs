//! What a graph of trees is read from: nodes with their connections and attributes, and constants.
//!
//! The file has passed the checks of [`graph`](crate::model::onnx::graph): lengths and nesting are sound. Field numbers are
//! those of `onnx.proto`.

use bytes::Bytes;
use prost::Message;

use super::Uncovered;
use crate::tensor::{DType, Tensor, TensorData};

#[derive(Clone, PartialEq, Message)]
pub struct Model {
    #[prost(message, optional, tag = "7")]
    pub graph: Option<Graph>,
    #[prost(bytes = "bytes", repeated, tag = "25")]
    pub functions: Vec<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Graph {
    #[prost(message, repeated, tag = "1")]
    pub node: Vec<Node>,
    #[prost(message, repeated, tag = "5")]
    pub initializer: Vec<TensorProto>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Node {
    #[prost(string, repeated, tag = "1")]
    pub input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub output: Vec<String>,
    #[prost(string, tag = "3")]
    pub name: String,
    #[prost(string, tag = "4")]
    pub op_type: String,
    #[prost(message, repeated, tag = "5")]
    pub attribute: Vec<Attribute>,
    #[prost(string, tag = "7")]
    pub domain: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct Attribute {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(float, tag = "2")]
    pub f: f32,
    #[prost(int64, tag = "3")]
    pub i: i64,
    #[prost(bytes = "bytes", tag = "4")]
    pub s: Bytes,
    #[prost(message, optional, tag = "5")]
    pub t: Option<TensorProto>,
    #[prost(float, repeated, tag = "7")]
    pub floats: Vec<f32>,
    #[prost(int64, repeated, tag = "8")]
    pub ints: Vec<i64>,
    #[prost(bytes = "bytes", repeated, tag = "9")]
    pub strings: Vec<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
pub struct TensorProto {
    #[prost(int64, repeated, tag = "1")]
    pub dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    pub data_type: i32,
    #[prost(float, repeated, tag = "4")]
    pub float_data: Vec<f32>,
    #[prost(int32, repeated, tag = "5")]
    pub int32_data: Vec<i32>,
    #[prost(bytes = "bytes", repeated, tag = "6")]
    pub string_data: Vec<Bytes>,
    #[prost(int64, repeated, tag = "7")]
    pub int64_data: Vec<i64>,
    #[prost(string, tag = "8")]
    pub name: String,
    #[prost(bytes = "bytes", optional, tag = "9")]
    pub raw_data: Option<Bytes>,
    #[prost(double, repeated, tag = "10")]
    pub double_data: Vec<f64>,
}

impl Node {
    /// The attribute `name`.
    pub fn attribute(&self, name: &str) -> Option<&Attribute> {
        self.attribute.iter().find(|attribute| attribute.name == name)
    }

    /// A list of whole numbers; empty if it is not there.
    pub fn ints(&self, name: &str) -> &[i64] {
        self.attribute(name).map_or(&[], |attribute| &attribute.ints)
    }

    /// A list of numbers; empty if it is not there.
    pub fn floats(&self, name: &str) -> &[f32] {
        self.attribute(name).map_or(&[], |attribute| &attribute.floats)
    }

    /// A list of texts; empty if it is not there.
    pub fn texts(&self, name: &str) -> Vec<String> {
        let strings = self
            .attribute(name)
            .map_or(&[][..], |attribute| &attribute.strings);
        strings
            .iter()
            .map(|text| String::from_utf8_lossy(text).into_owned())
            .collect()
    }

    /// A text.
    pub fn text(&self, name: &str) -> Option<String> {
        self.attribute(name)
            .map(|attribute| String::from_utf8_lossy(&attribute.s).into_owned())
    }

    /// A whole number.
    pub fn int(&self, name: &str) -> Option<i64> {
        self.attribute(name).map(|attribute| attribute.i)
    }

    /// What to call it in a message.
    pub fn shown(&self) -> String {
        match self.name.is_empty() || self.name == self.op_type {
            true => self.op_type.clone(),
            false => format!("{} ({})", self.op_type, self.name),
        }
    }
}

/// The dtype of an ONNX number of a type, as far as steps know it.
pub fn dtype(code: i64) -> Option<DType> {
    Some(match code {
        1 => DType::F32,
        6 => DType::I32,
        7 => DType::I64,
        8 => DType::String,
        11 => DType::F64,
        _ => return None,
    })
}

impl TensorProto {
    /// The tensor, if it is one of numbers or texts that steps know.
    pub fn tensor(&self) -> Result<Tensor, Uncovered> {
        fn raw<const N: usize, T>(raw: &Bytes, from: fn([u8; N]) -> T) -> Vec<T> {
            raw.as_chunks::<N>().0.iter().copied().map(from).collect()
        }
        let data: TensorData = match (dtype(i64::from(self.data_type)), &self.raw_data) {
            (Some(DType::F32), Some(bytes)) => raw(bytes, f32::from_le_bytes).into(),
            (Some(DType::F32), None) => self.float_data.clone().into(),
            (Some(DType::F64), Some(bytes)) => raw(bytes, f64::from_le_bytes).into(),
            (Some(DType::F64), None) => self.double_data.clone().into(),
            (Some(DType::I64), Some(bytes)) => raw(bytes, i64::from_le_bytes).into(),
            (Some(DType::I64), None) => self.int64_data.clone().into(),
            (Some(DType::I32), Some(bytes)) => raw(bytes, i32::from_le_bytes).into(),
            (Some(DType::I32), None) => self.int32_data.clone().into(),
            (Some(DType::String), _) => {
                let texts = self.string_data.iter();
                let texts: Vec<String> = texts
                    .map(|text| String::from_utf8_lossy(text).into_owned())
                    .collect();
                texts.into()
            }
            _ => return Err(format!("the constant {} is of an unusual type", self.name)),
        };
        let shape: Vec<usize> = self.dims.iter().map(|&extent| extent.max(0) as usize).collect();
        let count = shape
            .iter()
            .try_fold(1usize, |count, &extent| count.checked_mul(extent));
        if count != Some(data.len()) {
            return Err(format!(
                "the constant {} has another size than it says",
                self.name
            ));
        }
        Ok(Tensor { shape, data })
    }
}
