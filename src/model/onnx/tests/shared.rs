//! Workers that share one session of a large model.

use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::options;
use crate::error::ErrorKind;
use crate::model::onnx::OnnxModel;
use crate::model::onnx::file::SHARED_FROM_BYTES;
use crate::model::{Loaded, ModelFiles};
use crate::tensor::{Tensor, TensorBatch, Value};

fn field(number: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let mut bytes = vec![number << 3 | 2];
    let mut length = payload.len();
    while length >= 0x80 {
        bytes.push(length as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    bytes.extend(payload);
    bytes
}

fn number(number: u8, value: u16) -> Vec<u8> {
    vec![number << 3, value as u8 | 0x80, (value >> 7) as u8]
}

fn matrix(name: &str, rows: u16, columns: u16) -> Vec<u8> {
    let value = |index: usize| ((index * 37 % 61) as f32 - 30.0) / 400.0;
    let count = usize::from(rows) * usize::from(columns);
    let data: Vec<u8> = (0..count).flat_map(|index| value(index).to_le_bytes()).collect();
    let shape = [number(1, rows), number(1, columns), number(2, 1)].concat();
    field(5, [shape, field(8, name), field(9, data)].concat())
}

fn node(operator: &str, inputs: &[&str], output: &str) -> Vec<u8> {
    let inputs: Vec<u8> = inputs.iter().flat_map(|name| field(1, name)).collect();
    field(1, [inputs, field(2, output), field(4, operator)].concat())
}

fn value(place: u8, name: &str, width: u16) -> Vec<u8> {
    let dims = [field(1, field(2, "n")), field(1, number(1, width))].concat();
    let tensor = [number(1, 1), field(2, dims)].concat();
    field(place, [field(1, name), field(2, field(1, tensor))].concat())
}

/// `x[n, 4]` to `y[n, 3]` through a hidden layer of `width`².
fn network(width: u16) -> ModelFiles {
    let graph = [
        node("MatMul", &["x", "A"], "a"),
        node("Tanh", &["a"], "b"),
        node("MatMul", &["b", "B"], "c"),
        node("Tanh", &["c"], "d"),
        node("MatMul", &["d", "C"], "y"),
        matrix("A", 4, width),
        matrix("B", width, width),
        matrix("C", width, 3),
        field(2, "graph"),
        value(11, "x", 4),
        value(12, "y", 3),
    ];
    let model = [number(1, 8), field(7, graph.concat()), field(8, number(2, 17))].concat();
    ModelFiles {
        location: "made".into(),
        files: BTreeMap::from([("model.onnx".to_string(), Bytes::from(model))]),
    }
}

fn batch(rows: usize) -> TensorBatch {
    let values: Vec<f32> = (0..rows * 4).map(|index| (index % 13) as f32 - 6.0).collect();
    TensorBatch {
        rows,
        inputs: vec![Tensor::new(vec![rows, 4], values).unwrap()],
    }
}

fn open(width: u16) -> OnnxModel {
    OnnxModel::open(&network(width), &options()).unwrap()
}

/// Sessions in the hands of workers that share them, with the count of those.
fn shared(model: &OnnxModel) -> Vec<usize> {
    let shared = model.files["model.onnx"].shared.lock().unwrap();
    shared
        .values()
        .map(|session| Arc::strong_count(session) - 1)
        .collect()
}

#[test]
fn workers_of_a_large_model_share_a_session_and_get_what_each_would_get_alone() {
    let model = open(1040);
    assert!(model.files["model.onnx"].bytes.len() > SHARED_FROM_BYTES);
    let function = &model.functions()[0];
    let sizes: Vec<usize> = (0..12).map(|turn| 1 + turn * 29 % 64).collect();
    // Two threads make a session of one's own; its sums are the same.
    let mut alone = model.worker(function, 2).unwrap();
    let expected: Vec<Vec<Value>> = sizes
        .iter()
        .map(|&rows| alone.infer(&batch(rows)).unwrap())
        .collect();
    assert_eq!(shared(&model), Vec::<usize>::new());

    let workers: Vec<_> = (0..4).map(|_| model.worker(function, 1).unwrap()).collect();
    assert_eq!(shared(&model), [4]);
    std::thread::scope(|scope| {
        for (worker, mut own) in workers.into_iter().enumerate() {
            let (sizes, expected) = (&sizes, &expected);
            scope.spawn(move || {
                for turn in 0..sizes.len() {
                    let turn = (turn + worker * 3) % sizes.len();
                    let values = own.infer(&batch(sizes[turn])).unwrap();
                    assert_eq!(values, expected[turn], "worker {worker}, {} rows", sizes[turn]);
                }
            });
        }
    });
    assert_eq!(shared(&model), [0]);
}

#[test]
fn a_shared_session_tells_its_failures_as_any_other() {
    let model = open(1040);
    let mut worker = model.worker(&model.functions()[0], 1).unwrap();
    let wrong = TensorBatch {
        rows: 2,
        inputs: vec![Tensor::new(vec![2, 5], vec![0f32; 10]).unwrap()],
    };
    let error = worker.infer(&wrong).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Model);
    let text = error.to_string();
    assert!(text.contains("fails on a batch of 2 rows"), "{text}");
    assert!(text.contains("it was given x float32[2, 5]"), "{text}");
    worker.infer(&batch(2)).unwrap();
}

#[test]
fn workers_of_a_small_model_have_sessions_of_their_own() {
    let model = open(64);
    let _workers: Vec<_> = (0..3)
        .map(|_| model.worker(&model.functions()[0], 1).unwrap())
        .collect();
    assert_eq!(shared(&model), Vec::<usize>::new());
}
