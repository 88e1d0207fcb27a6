//! The part of the ONNX format that Floe reads, as protobuf messages.
//!
//! Only what the checks in [`graph`](super::graph) and the description of a model need: whatever is not
//! named here is skipped, so weights are never copied. Messages that come in numbers (nodes, tensors, attributes)
//! are left undecoded as [`Bytes`], views into the file, and are decoded one at a time by whoever walks them: this
//! bounds both memory and recursion, whatever the file claims.
//!
//! Field numbers are those of `onnx.proto`, IR version 3 and later.

use bytes::Bytes;
use prost::Message;

/// `ModelProto`
#[derive(Clone, PartialEq, Message)]
pub struct Model {
    #[prost(int64, tag = "1")]
    pub ir_version: i64,
    #[prost(string, tag = "2")]
    pub producer_name: String,
    #[prost(string, tag = "3")]
    pub producer_version: String,
    // A message, not bytes: a file may give it in pieces, and readers must join them.
    #[prost(message, optional, tag = "7")]
    pub graph: Option<Graph>,
    #[prost(message, repeated, tag = "8")]
    pub opset_import: Vec<OperatorSet>,
    #[prost(message, repeated, tag = "14")]
    pub metadata_props: Vec<Entry>,
    /// `TrainingInfoProto`, each with graphs of its own.
    #[prost(bytes = "bytes", repeated, tag = "20")]
    pub training_info: Vec<Bytes>,
    /// [`LocalFunction`]
    #[prost(bytes = "bytes", repeated, tag = "25")]
    pub functions: Vec<Bytes>,
}

/// `OperatorSetIdProto`
#[derive(Clone, PartialEq, Message)]
pub struct OperatorSet {
    #[prost(string, tag = "1")]
    pub domain: String,
    #[prost(int64, tag = "2")]
    pub version: i64,
}

/// `StringStringEntryProto`
#[derive(Clone, PartialEq, Message)]
pub struct Entry {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(string, tag = "2")]
    pub value: String,
}

/// `GraphProto`
#[derive(Clone, PartialEq, Message)]
pub struct Graph {
    /// [`Node`]
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub node: Vec<Bytes>,
    /// [`Tensor`]
    #[prost(bytes = "bytes", repeated, tag = "5")]
    pub initializer: Vec<Bytes>,
    #[prost(message, repeated, tag = "11")]
    pub input: Vec<ValueInfo>,
    #[prost(message, repeated, tag = "12")]
    pub output: Vec<ValueInfo>,
    /// [`SparseTensor`]
    #[prost(bytes = "bytes", repeated, tag = "15")]
    pub sparse_initializer: Vec<Bytes>,
}

/// `NodeProto`
#[derive(Clone, PartialEq, Message)]
pub struct Node {
    #[prost(string, tag = "3")]
    pub name: String,
    #[prost(string, tag = "4")]
    pub op_type: String,
    /// [`Attribute`]
    #[prost(bytes = "bytes", repeated, tag = "5")]
    pub attribute: Vec<Bytes>,
    #[prost(string, tag = "7")]
    pub domain: String,
    #[prost(string, tag = "8")]
    pub overload: String,
}

/// `AttributeProto`. `tensor`, `graph` and `sparse_tensor` may occur once; here they are lists so that a second
/// one is seen.
#[derive(Clone, PartialEq, Message)]
pub struct Attribute {
    #[prost(string, tag = "1")]
    pub name: String,
    /// [`Tensor`]
    #[prost(bytes = "bytes", repeated, tag = "5")]
    pub tensor: Vec<Bytes>,
    /// [`Graph`]
    #[prost(bytes = "bytes", repeated, tag = "6")]
    pub graph: Vec<Bytes>,
    /// [`Tensor`]
    #[prost(bytes = "bytes", repeated, tag = "10")]
    pub tensors: Vec<Bytes>,
    /// [`Graph`]
    #[prost(bytes = "bytes", repeated, tag = "11")]
    pub graphs: Vec<Bytes>,
    /// [`SparseTensor`]
    #[prost(bytes = "bytes", repeated, tag = "22")]
    pub sparse_tensor: Vec<Bytes>,
    /// [`SparseTensor`]
    #[prost(bytes = "bytes", repeated, tag = "23")]
    pub sparse_tensors: Vec<Bytes>,
}

/// `TensorProto`
#[derive(Clone, PartialEq, Message)]
pub struct Tensor {
    #[prost(int64, repeated, packed = "false", tag = "1")]
    pub dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    pub data_type: i32,
    #[prost(string, tag = "8")]
    pub name: String,
    /// A view into the file.
    #[prost(bytes = "bytes", optional, tag = "9")]
    pub raw_data: Option<Bytes>,
    #[prost(message, repeated, tag = "13")]
    pub external_data: Vec<Entry>,
    /// 0: in the message; anything else: elsewhere.
    #[prost(int32, tag = "14")]
    pub data_location: i32,
}

/// `SparseTensorProto`
#[derive(Clone, PartialEq, Message)]
pub struct SparseTensor {
    /// [`Tensor`]
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub values: Vec<Bytes>,
    /// [`Tensor`]
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub indices: Vec<Bytes>,
    #[prost(int64, repeated, packed = "false", tag = "3")]
    pub dims: Vec<i64>,
}

/// `FunctionProto`
#[derive(Clone, PartialEq, Message)]
pub struct LocalFunction {
    #[prost(string, tag = "1")]
    pub name: String,
    /// [`Node`]
    #[prost(bytes = "bytes", repeated, tag = "7")]
    pub node: Vec<Bytes>,
    #[prost(string, tag = "10")]
    pub domain: String,
    /// [`Attribute`]: defaults of the function's attributes.
    #[prost(bytes = "bytes", repeated, tag = "11")]
    pub attribute_proto: Vec<Bytes>,
    #[prost(string, tag = "13")]
    pub overload: String,
}

/// `ValueInfoProto`
#[derive(Clone, PartialEq, Message)]
pub struct ValueInfo {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub value_type: Option<Type>,
}

/// `TypeProto`: one of its fields is set.
#[derive(Clone, PartialEq, Message)]
pub struct Type {
    #[prost(message, optional, tag = "1")]
    pub tensor: Option<TensorType>,
    #[prost(message, optional, boxed, tag = "4")]
    pub sequence: Option<Box<ElementOf>>,
    #[prost(message, optional, boxed, tag = "5")]
    pub map: Option<Box<MapType>>,
    #[prost(message, optional, tag = "8")]
    pub sparse_tensor: Option<TensorType>,
    #[prost(message, optional, boxed, tag = "9")]
    pub optional: Option<Box<ElementOf>>,
}

/// `TypeProto.Tensor`
#[derive(Clone, PartialEq, Message)]
pub struct TensorType {
    #[prost(int32, tag = "1")]
    pub elem_type: i32,
    #[prost(message, optional, tag = "2")]
    pub shape: Option<Shape>,
}

/// `TypeProto.Sequence` and `TypeProto.Optional`
#[derive(Clone, PartialEq, Message)]
pub struct ElementOf {
    #[prost(message, optional, boxed, tag = "1")]
    pub elem_type: Option<Box<Type>>,
}

/// `TypeProto.Map`
#[derive(Clone, PartialEq, Message)]
pub struct MapType {
    #[prost(int32, tag = "1")]
    pub key_type: i32,
    #[prost(message, optional, boxed, tag = "2")]
    pub value_type: Option<Box<Type>>,
}

/// `TensorShapeProto`
#[derive(Clone, PartialEq, Message)]
pub struct Shape {
    #[prost(message, repeated, tag = "1")]
    pub dim: Vec<Dimension>,
}

/// `TensorShapeProto.Dimension`
#[derive(Clone, PartialEq, Message)]
pub struct Dimension {
    #[prost(int64, optional, tag = "1")]
    pub dim_value: Option<i64>,
    #[prost(string, optional, tag = "2")]
    pub dim_param: Option<String>,
}
