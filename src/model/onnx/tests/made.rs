//! Graphs made node by node.

use bytes::Bytes;
use prost::Message;
use std::collections::BTreeMap;

use crate::model::ModelFiles;
use crate::model::onnx::proto;
use crate::model::onnx::zipmap::WiredNode;

pub fn node(op_type: &str, inputs: &[&str], output: &str) -> WiredNode {
    WiredNode {
        input: inputs.iter().map(|input| input.to_string()).collect(),
        output: vec![output.to_string()],
        op_type: op_type.to_string(),
        ..WiredNode::default()
    }
}

pub fn constant(name: &str, dims: &[i64], values: &[f32]) -> proto::Tensor {
    proto::Tensor {
        dims: dims.to_vec(),
        data_type: 1,
        name: name.to_string(),
        raw_data: Some(
            values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect::<Vec<u8>>()
                .into(),
        ),
        ..proto::Tensor::default()
    }
}

fn value(name: &str, elem_type: i32, width: Option<i64>) -> proto::ValueInfo {
    let dim = |dim_value| proto::Dimension {
        dim_value,
        dim_param: None,
    };
    proto::ValueInfo {
        name: name.to_string(),
        value_type: Some(proto::Type {
            tensor: Some(proto::TensorType {
                elem_type,
                shape: Some(proto::Shape {
                    dim: vec![dim(None), dim(width)],
                }),
            }),
            ..proto::Type::default()
        }),
    }
}

/// `x` float32 `[rows, width]` → nodes → `y`.
pub struct Graph {
    pub width: Option<i64>,
    pub nodes: Vec<WiredNode>,
    pub constants: Vec<proto::Tensor>,
    pub opset: i64,
    pub outputs: Vec<&'static str>,
    pub inputs: Vec<&'static str>,
}

impl Graph {
    pub fn new(width: i64, nodes: Vec<WiredNode>, constants: Vec<proto::Tensor>) -> Graph {
        Graph {
            width: Some(width),
            nodes,
            constants,
            opset: 17,
            outputs: vec!["y"],
            inputs: vec!["x"],
        }
    }

    pub fn bytes(&self) -> Bytes {
        let inputs = self.inputs.iter().map(|name| value(name, 1, self.width));
        let graph = proto::Graph {
            node: self
                .nodes
                .iter()
                .map(|node| node.encode_to_vec().into())
                .collect(),
            initializer: self
                .constants
                .iter()
                .map(|tensor| tensor.encode_to_vec().into())
                .collect(),
            input: inputs.collect(),
            output: self.outputs.iter().map(|name| value(name, 1, None)).collect(),
            ..proto::Graph::default()
        };
        let model = proto::Model {
            ir_version: 8,
            producer_name: "test".into(),
            graph: Some(graph),
            opset_import: vec![proto::OperatorSet {
                domain: String::new(),
                version: self.opset,
            }],
            ..proto::Model::default()
        };
        let mut bytes = model.encode_to_vec();
        // ONNX Runtime wants a graph to have a name, and pieces of a message add up.
        bytes.extend([0x3a, 3, 0x12, 1, b'g']);
        bytes.into()
    }

    /// A location that holds nothing else.
    pub fn files(&self) -> ModelFiles {
        ModelFiles {
            location: "made".into(),
            files: BTreeMap::from([("model.onnx".to_string(), self.bytes())]),
        }
    }
}
