//! Scaling that was taken out of a graph gives what it gave inside, to the last bit.

use bytes::Bytes;
use prost::Message;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::options;
use crate::model::onnx::graph;
use crate::model::onnx::proto;
use crate::model::onnx::providers::Providers;
use crate::model::onnx::runtime;
use crate::model::onnx::scaler::unscale;
use crate::model::onnx::session::{self, OnnxSession, Output, Program, Slot};
use crate::model::onnx::zipmap::WiredNode;
use crate::model::{Model, ModelFiles, OpenOptions, open};
use crate::tensor::{Tensor, TensorBatch, Value};

fn node(op_type: &str, inputs: &[&str], output: &str) -> WiredNode {
    WiredNode {
        input: inputs.iter().map(|input| input.to_string()).collect(),
        output: vec![output.to_string()],
        op_type: op_type.to_string(),
        ..WiredNode::default()
    }
}

fn constant(name: &str, dims: &[i64], values: &[f32]) -> proto::Tensor {
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
struct Graph {
    width: Option<i64>,
    nodes: Vec<WiredNode>,
    constants: Vec<proto::Tensor>,
    opset: i64,
    outputs: Vec<&'static str>,
    inputs: Vec<&'static str>,
}

impl Graph {
    fn new(nodes: Vec<WiredNode>) -> Graph {
        Graph {
            width: Some(3),
            nodes,
            constants: vec![
                constant("mean", &[3], &[0.1, -7.3, 2013.0]),
                constant("scale", &[1, 3], &[3.7, 0.0, 1e-3]),
                constant("half", &[], &[0.3]),
                constant("wide", &[2, 3], &[1.0; 6]),
            ],
            opset: 17,
            outputs: vec!["y"],
            inputs: vec!["x"],
        }
    }

    fn bytes(&self) -> Bytes {
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

    fn steps(&self) -> Vec<usize> {
        let bytes = self.bytes();
        let facts = graph::read(&bytes).unwrap();
        let Some(unscaled) = unscale(&bytes, &facts) else {
            return Vec::new();
        };
        let after = graph::read(&unscaled.bytes).unwrap();
        assert_eq!((&after.inputs, &after.outputs), (&facts.inputs, &facts.outputs));
        let gone = facts.nodes + unscaled.scalers.len() - after.nodes;
        assert!(gone >= unscaled.scalers.len());
        vec![unscaled.scalers.len(), gone]
    }
}

fn scaling(more: &[WiredNode]) -> Vec<WiredNode> {
    let mut nodes = vec![
        node("Sub", &["x", "mean"], "a"),
        node("Div", &["a", "scale"], "b"),
        node("Mul", &["half", "b"], "c"),
        node("Add", &["c", "mean"], "d"),
    ];
    nodes.extend_from_slice(more);
    nodes
}

fn rows(count: usize) -> Tensor {
    let odd = [f32::NAN, f32::INFINITY, -0.0, 1e-42, f32::MAX, 2013.0, -7.3, 0.1];
    let values = (0..count * 3).map(|index| match index % 5 {
        0 => odd[index / 5 % odd.len()],
        _ => (index as f32 * 0.713).sin() * 1e3,
    });
    Tensor::new(vec![count, 3], values.collect::<Vec<f32>>()).unwrap()
}

fn bits(values: &[Value]) -> Vec<u32> {
    let [Value::Tensor(tensor)] = values else {
        panic!("one tensor is expected");
    };
    let crate::tensor::TensorData::F32(values) = &tensor.data else {
        panic!("floats are expected");
    };
    // Which of its many forms a NaN takes is nobody's business.
    let plain = |value: &f32| if value.is_nan() { f32::NAN } else { *value };
    values.iter().map(|value| plain(value).to_bits()).collect()
}

#[test]
fn scaling_here_gives_the_bits_of_scaling_there() {
    let runtime = runtime::load(&options().onnxruntime_paths).unwrap();
    let graphs = [
        Graph::new(scaling(&[node("Relu", &["d"], "y")])),
        Graph::new(scaling(&[node("Identity", &["d"], "y")])),
        Graph::new(vec![
            node("Sub", &["x", "mean"], "a"),
            node("Div", &["a", "scale"], "b"),
            node("Mul", &["b", "b"], "y"),
        ]),
        Graph::new(vec![node("Mul", &["x", "half"], "y")]),
    ];
    for graph in graphs {
        let bytes = graph.bytes();
        assert_eq!(graph.steps()[0], 1);
        let program = Program {
            file: "model.onnx".into(),
            label: "model".into(),
            inputs: vec![Slot {
                name: "x".into(),
                axes: 2,
                is_param: false,
                scaler: None,
            }],
            outputs: vec![Output {
                name: "y".into(),
                zip: None,
            }],
            fixed_batch_rows: None,
        };
        let session = session::commit(&runtime, &Providers::default(), "model", &bytes, 1).unwrap();
        let mut theirs = OnnxSession::new(session, Arc::new(program)).unwrap();
        let files = ModelFiles {
            location: "model".into(),
            files: BTreeMap::from([("model.onnx".to_string(), bytes)]),
        };
        let model = open(files, &OpenOptions { ..options() }).unwrap();
        let mut ours = model.worker(&model.functions()[0], 1).unwrap();
        for count in [1, 7, 171, 1000] {
            let batch = TensorBatch {
                rows: count,
                inputs: vec![rows(count)],
            };
            let (ours, theirs) = (ours.infer(&batch).unwrap(), theirs.infer(&batch).unwrap());
            assert_eq!(bits(&ours), bits(&theirs), "{count} rows");
        }
    }
}

#[test]
fn all_leading_steps_go_and_their_constants_with_them() {
    let graph = Graph::new(scaling(&[node("Relu", &["d"], "y")]));
    assert_eq!(graph.steps(), [1, 4]);
    let bytes = graph.bytes();
    let facts = graph::read(&bytes).unwrap();
    let after = unscale(&bytes, &facts).unwrap().bytes;
    let left = proto::Model::decode(after).unwrap().graph.unwrap().initializer;
    let left = left
        .into_iter()
        .map(|tensor| proto::Tensor::decode(tensor).unwrap().name);
    // What nobody ever needed stays.
    assert_eq!(left.collect::<Vec<_>>(), ["wide"]);
    let shared = Graph::new(scaling(&[
        node("Relu", &["d"], "e"),
        node("Mul", &["e", "mean"], "y"),
    ]));
    let bytes = shared.bytes();
    let facts = graph::read(&bytes).unwrap();
    let after = unscale(&bytes, &facts).unwrap().bytes;
    let left = proto::Model::decode(after).unwrap().graph.unwrap().initializer;
    assert_eq!(left.len(), 2, "the mean is needed once more");
}

#[test]
fn a_graph_that_is_not_plain_stays_as_it_is() {
    let relu = |from: &str| node("Relu", &[from], "y");
    let first = || node("Sub", &["x", "mean"], "a");
    let mut with_attribute = first();
    let axis = proto::Attribute {
        name: "axis".into(),
        ..proto::Attribute::default()
    };
    with_attribute.attribute.push(axis.encode_to_vec().into());
    let mut foreign = first();
    foreign.domain = "com.microsoft".into();
    for nodes in [
        vec![relu("x")],
        // The input goes elsewhere, too.
        vec![first(), node("Add", &["a", "x"], "y")],
        // The constant is what something is taken from, or is no constant, or of other rows.
        vec![node("Sub", &["mean", "x"], "a"), relu("a")],
        vec![node("Div", &["half", "x"], "a"), relu("a")],
        vec![node("Mul", &["x", "x"], "a"), relu("a")],
        vec![node("Sub", &["x", "wide"], "a"), relu("a")],
        vec![node("Pow", &["x", "half"], "a"), relu("a")],
        vec![with_attribute, relu("a")],
        vec![foreign, relu("a")],
        // Made twice.
        vec![first(), first(), relu("a")],
    ] {
        let shown = format!("{nodes:?}");
        assert!(Graph::new(nodes).steps().is_empty(), "{shown}");
    }
    let graph = || Graph::new(vec![first(), relu("a")]);
    assert_eq!(graph().steps(), [1, 1]);
    let changed = |change: fn(&mut Graph)| {
        let mut graph = graph();
        change(&mut graph);
        graph.steps()
    };
    assert!(changed(|graph| graph.width = None).is_empty());
    assert!(changed(|graph| graph.opset = 6).is_empty());
    // Fed instead of the constant.
    assert!(changed(|graph| graph.inputs.push("mean")).is_empty());
    assert!(changed(|graph| graph.outputs.push("x")).is_empty());
    // The step's own result is asked for: it is made under its name, and nothing after it is touched.
    assert_eq!(changed(|graph| graph.outputs.push("a")), [1, 1]);
}
