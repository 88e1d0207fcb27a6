//! Graphs of dense layers are computed here, and give what ONNX Runtime gives.

use prost::Message;

use super::made::{Graph, constant, node};
use super::options;
use crate::config::Backend;
use crate::model::engine::agree;
use crate::model::onnx::proto;
use crate::model::onnx::zipmap::WiredNode;
use crate::model::{Engine, OpenOptions, open};
use crate::tensor::{Tensor, TensorBatch};

/// `AttributeProto` of a whole number.
#[derive(Clone, PartialEq, Message)]
struct Whole {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(int64, tag = "3")]
    i: i64,
    #[prost(int32, tag = "20")]
    r#type: i32,
}

fn with_whole(mut node: WiredNode, name: &str, i: i64) -> WiredNode {
    let attribute = Whole {
        name: name.to_string(),
        i,
        r#type: 2,
    };
    node.attribute.push(attribute.encode_to_vec().into());
    node
}

/// `AttributeProto` of a number.
#[derive(Clone, PartialEq, Message)]
struct Float {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(float, tag = "2")]
    f: f32,
    #[prost(int32, tag = "20")]
    r#type: i32,
}

fn float(name: &str, f: f32) -> Float {
    Float {
        name: name.to_string(),
        f,
        r#type: 1,
    }
}

fn numbers(name: &str, dims: &[i64]) -> proto::Tensor {
    let count: i64 = dims.iter().product();
    let values = (0..count).map(|at| ((at * 37 + name.len() as i64) % 61 - 30) as f32 / 40.0);
    constant(name, dims, &values.collect::<Vec<f32>>())
}

/// Twelve columns, a scaler, three layers written in different ways.
fn constants() -> Vec<proto::Tensor> {
    vec![
        numbers("mean", &[12]),
        constant("scale", &[12], &[1.7; 12]),
        numbers("A", &[12, 40]),
        numbers("a", &[40]),
        numbers("B", &[17, 40]),
        numbers("b", &[1, 17]),
        numbers("C", &[17, 2]),
        numbers("row", &[1, 40]),
        numbers("rows", &[3, 40]),
    ]
}

fn layers(end: &[WiredNode]) -> Vec<WiredNode> {
    let mut nodes = vec![
        node("Sub", &["x", "mean"], "centred"),
        node("Div", &["centred", "scale"], "scaled"),
        node("MatMul", &["scaled", "A"], "one"),
        node("Add", &["a", "one"], "one.biased"),
        node("Relu", &["one.biased"], "one.rectified"),
        with_whole(node("Gemm", &["one.rectified", "B", "b"], "two"), "transB", 1),
        node("Relu", &["two"], "two.rectified"),
        node("MatMul", &["two.rectified", "C"], "three"),
    ];
    nodes.extend_from_slice(end);
    nodes
}

/// A network that is computed here.
pub fn dense() -> Graph {
    Graph::new(12, layers(&[node("Identity", &["three"], "y")]), constants())
}

fn engines(graph: &Graph) -> (Vec<Engine>, Vec<String>) {
    let model = open(graph.files(), &options()).unwrap();
    (model.engines(&model.functions()[0]), model.notes().to_vec())
}

#[test]
fn layers_however_they_are_written_are_computed_here_and_agree_with_onnxruntime() {
    for end in [
        vec![node("Identity", &["three"], "y")],
        vec![node("Softmax", &["three"], "y")],
        vec![node("Sigmoid", &["three"], "y")],
        vec![node("Add", &["three", "three"], "y")],
    ] {
        let graph = Graph::new(12, layers(&end), constants());
        let model = open(graph.files(), &options()).unwrap();
        let function = &model.functions()[0];
        assert_eq!(
            model.engines(function),
            [Engine::Dense, Engine::OnnxRuntime],
            "{end:?}"
        );
        let said = model.notes().join("\n");
        assert!(
            said.contains("the model is dense layers, which Floe runs itself"),
            "{said}"
        );
        for rows in [1, 5, 48, 49, 1000] {
            let values = (0..rows * 12).map(|at| (at as f32 * 0.713).sin() * 3.0);
            let batch = TensorBatch {
                rows,
                inputs: vec![Tensor::new(vec![rows, 12], values.collect::<Vec<f32>>()).unwrap()],
            };
            let [ours, theirs] = [Engine::Dense, Engine::OnnxRuntime].map(|engine| {
                let mut worker = model.worker_on(function, 1, engine).unwrap();
                worker.infer(&batch).unwrap()
            });
            agree(&ours, &theirs, Engine::Dense.tolerance()).unwrap();
        }
    }
}

#[test]
fn who_asks_for_onnxruntime_gets_it_and_layers_are_no_trees() {
    let graph = dense();
    let with = |backend| {
        let backend = Some(backend);
        open(graph.files(), &OpenOptions { backend, ..options() })
    };
    let model = with(Backend::Onnx).unwrap();
    assert_eq!(model.engines(&model.functions()[0]), [Engine::OnnxRuntime]);
    let error = with(Backend::Trees).err().unwrap().to_string();
    assert!(
        error.contains("model.backend: trees can't run this model: it has no trees"),
        "{error}"
    );
}

#[test]
fn what_is_no_plain_layer_is_left_to_onnxruntime_without_a_word() {
    let product = || node("MatMul", &["x", "A"], "one");
    let mut scaled = node("Gemm", &["x", "A"], "one");
    scaled.attribute.push(float("alpha", 0.5).encode_to_vec().into());
    for nodes in [
        vec![product(), node("Tanh", &["one"], "y")],
        vec![scaled, node("Relu", &["one"], "y")],
        vec![
            node("MatMul", &["x", "A"], "one"),
            node("Mul", &["one", "one"], "two"),
            node("Erf", &["two"], "y"),
        ],
        // No product at all.
        vec![node("Relu", &["x"], "y")],
    ] {
        let shown = format!("{nodes:?}");
        let (engines, notes) = engines(&Graph::new(12, nodes, constants()));
        assert_eq!(engines, [Engine::OnnxRuntime], "{shown}");
        assert!(notes.iter().all(|note| !note.contains("layers")), "{notes:?}");
    }
}

#[test]
fn what_lies_between_layers_may_be_needed_elsewhere() {
    let nodes = vec![
        node("MatMul", &["x", "A"], "one"),
        node("Sigmoid", &["one"], "two"),
        node("Add", &["one", "two"], "y"),
    ];
    let (found, _) = engines(&Graph::new(12, nodes, constants()));
    assert_eq!(found, [Engine::Dense, Engine::OnnxRuntime]);
    // A constant of a row is a bias, one of rows is not.
    let add = |constant: &str| {
        vec![
            node("MatMul", &["x", "A"], "one"),
            node("Add", &["one", constant], "y"),
        ]
    };
    let (found, _) = engines(&Graph::new(12, add("row"), constants()));
    assert_eq!(found, [Engine::Dense, Engine::OnnxRuntime]);
}
