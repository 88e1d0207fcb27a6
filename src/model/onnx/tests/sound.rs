//! A sound model made byte by byte, and ways to make it less sound.

use bytes::Bytes;
use prost::Message;

use crate::error::ErrorKind;
use crate::model::onnx::graph::read;
use crate::model::onnx::proto::*;

pub fn tensor_type(elem_type: i32, dims: &[i64]) -> Type {
    let dim = |&extent: &i64| Dimension {
        dim_value: (extent >= 0).then_some(extent),
        dim_param: (extent < 0).then(|| "n".to_string()),
    };
    let shape = Some(Shape {
        dim: dims.iter().map(dim).collect(),
    });
    Type {
        tensor: Some(TensorType { elem_type, shape }),
        ..Type::default()
    }
}

pub fn value(name: &str, value_type: Type) -> ValueInfo {
    ValueInfo {
        name: name.into(),
        value_type: Some(value_type),
    }
}

pub fn node(domain: &str, op_type: &str, attributes: &[Attribute]) -> Bytes {
    let node = Node {
        domain: domain.into(),
        op_type: op_type.into(),
        attribute: attributes.iter().map(encoded).collect(),
        ..Node::default()
    };
    encoded(&node)
}

pub fn encoded(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}

/// `x float32[n, 4]` to `y float32[n]` through one `Relu`.
pub fn sound() -> Model {
    Model {
        ir_version: 8,
        producer_name: "test".into(),
        graph: Some(Graph {
            node: vec![node("", "Relu", &[])],
            input: vec![value("x", tensor_type(1, &[-1, 4]))],
            output: vec![value("y", tensor_type(1, &[-1]))],
            ..Graph::default()
        }),
        opset_import: vec![OperatorSet {
            domain: String::new(),
            version: 17,
        }],
        ..Model::default()
    }
}

pub fn with_graph(change: impl FnOnce(&mut Graph)) -> Model {
    let mut model = sound();
    change(model.graph.as_mut().unwrap());
    model
}

pub fn with_tensor(tensor: Tensor) -> Model {
    with_graph(|graph| graph.initializer.push(encoded(&tensor)))
}

pub fn with_attribute(attribute: Attribute) -> Model {
    with_graph(|graph| graph.node.push(node("", "Constant", &[attribute])))
}

pub fn tensor(dims: &[i64], data_type: i32, raw: Option<usize>) -> Tensor {
    Tensor {
        name: "W".into(),
        dims: dims.to_vec(),
        data_type,
        raw_data: raw.map(|length| vec![0; length].into()),
        ..Tensor::default()
    }
}

pub fn external() -> Tensor {
    let location = Entry {
        key: "location".into(),
        value: "../secret".into(),
    };
    Tensor {
        data_location: 1,
        external_data: vec![location],
        ..tensor(&[1], 1, None)
    }
}

pub fn refused(model: &Model) -> String {
    refused_bytes(encoded(model))
}

pub fn refused_bytes(bytes: Bytes) -> String {
    let error = read(&bytes).expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Model);
    error.to_string()
}
