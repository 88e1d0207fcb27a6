//! Scaling that was taken out of a graph gives what it gave inside, to the last bit.

use prost::Message;
use std::sync::Arc;

use super::made::{Graph, constant, node};
use super::options;
use crate::model::onnx::graph;
use crate::model::onnx::proto;
use crate::model::onnx::providers::Providers;
use crate::model::onnx::runtime;
use crate::model::onnx::scaler::unscale;
use crate::model::onnx::session::{self, OnnxSession, Output, Program, Slot};
use crate::model::onnx::zipmap::WiredNode;
use crate::model::{Model, OpenOptions, open};
use crate::tensor::{Tensor, TensorBatch, Value};

fn graph_of(nodes: Vec<WiredNode>) -> Graph {
    let constants = vec![
        constant("mean", &[3], &[0.1, -7.3, 2013.0]),
        constant("scale", &[1, 3], &[3.7, 0.0, 1e-3]),
        constant("half", &[], &[0.3]),
        constant("wide", &[2, 3], &[1.0; 6]),
    ];
    Graph::new(3, nodes, constants)
}

/// How many inputs are unscaled, and how many nodes are gone for that.
fn steps(made: &Graph) -> Vec<usize> {
    let bytes = made.bytes();
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
        graph_of(scaling(&[node("Relu", &["d"], "y")])),
        graph_of(scaling(&[node("Identity", &["d"], "y")])),
        graph_of(vec![
            node("Sub", &["x", "mean"], "a"),
            node("Div", &["a", "scale"], "b"),
            node("Mul", &["b", "b"], "y"),
        ]),
        graph_of(vec![node("Mul", &["x", "half"], "y")]),
    ];
    for graph in graphs {
        let bytes = graph.bytes();
        assert_eq!(steps(&graph)[0], 1);
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
        let model = open(graph.files(), &OpenOptions { ..options() }).unwrap();
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
    let graph = graph_of(scaling(&[node("Relu", &["d"], "y")]));
    assert_eq!(steps(&graph), [1, 4]);
    let bytes = graph.bytes();
    let facts = graph::read(&bytes).unwrap();
    let after = unscale(&bytes, &facts).unwrap().bytes;
    let left = proto::Model::decode(after).unwrap().graph.unwrap().initializer;
    let left = left
        .into_iter()
        .map(|tensor| proto::Tensor::decode(tensor).unwrap().name);
    // What nobody ever needed stays.
    assert_eq!(left.collect::<Vec<_>>(), ["wide"]);
    let shared = graph_of(scaling(&[
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
        assert!(steps(&graph_of(nodes)).is_empty(), "{shown}");
    }
    let graph = || graph_of(vec![first(), relu("a")]);
    assert_eq!(steps(&graph()), [1, 1]);
    let changed = |change: fn(&mut Graph)| {
        let mut graph = graph();
        change(&mut graph);
        steps(&graph)
    };
    assert!(changed(|graph| graph.width = None).is_empty());
    assert!(changed(|graph| graph.opset = 6).is_empty());
    // Fed instead of the constant.
    assert!(changed(|graph| graph.inputs.push("mean")).is_empty());
    assert!(changed(|graph| graph.outputs.push("x")).is_empty());
    // The step's own result is asked for: it is made under its name, and nothing after it is touched.
    assert_eq!(changed(|graph| graph.outputs.push("a")), [1, 1]);
}
