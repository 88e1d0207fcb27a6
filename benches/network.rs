//! A small network like those that score tables: 12 inputs, standardised, two hidden layers of 64, one output.
//!
//! Written field by field (numbers are those of `onnx.proto`), so that no file has to be kept beside the benchmarks.

use bytes::Bytes;
use std::collections::BTreeMap;

use floe::model::ModelFiles;

/// The model as files in memory.
pub fn files() -> ModelFiles {
    let graph = [
        node("Sub", &["x", "mean"], "centred"),
        node("Div", &["centred", "scale"], "standard"),
        node("Gemm", &["standard", "w0", "b0"], "h0"),
        node("Relu", &["h0"], "r0"),
        node("Gemm", &["r0", "w1", "b1"], "h1"),
        node("Relu", &["h1"], "r1"),
        node("Gemm", &["r1", "w2", "b2"], "y"),
        weights("mean", &[12]),
        weights("scale", &[12]),
        weights("w0", &[12, 64]),
        weights("b0", &[64]),
        weights("w1", &[64, 64]),
        weights("b1", &[64]),
        weights("w2", &[64, 1]),
        weights("b2", &[1]),
        field(2, "graph"),
        value(11, "x", 12),
        value(12, "y", 1),
    ];
    let model = [number(1, 8), field(7, graph.concat()), field(8, number(2, 17))].concat();
    ModelFiles {
        location: "network".into(),
        files: BTreeMap::from([("model.onnx".to_string(), Bytes::from(model))]),
    }
}

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

/// Numbers below 128 take one byte.
fn number(number: u8, value: u8) -> Vec<u8> {
    vec![number << 3, value]
}

fn weights(name: &str, dims: &[u8]) -> Vec<u8> {
    let count: usize = dims.iter().map(|&dim| usize::from(dim)).product();
    let value = |index: usize| ((index * 37 % 61) as f32 + 1.0) / 200.0;
    let data: Vec<u8> = (0..count).flat_map(|index| value(index).to_le_bytes()).collect();
    let shape: Vec<u8> = dims.iter().flat_map(|&dim| number(1, dim)).collect();
    field(5, [shape, number(2, 1), field(8, name), field(9, data)].concat())
}

fn node(operator: &str, inputs: &[&str], output: &str) -> Vec<u8> {
    let inputs: Vec<u8> = inputs.iter().flat_map(|name| field(1, name)).collect();
    field(1, [inputs, field(2, output), field(4, operator)].concat())
}

fn value(place: u8, name: &str, width: u8) -> Vec<u8> {
    let dims = [field(1, field(2, "n")), field(1, number(1, width))].concat();
    let tensor = [number(1, 1), field(2, dims)].concat();
    field(place, [field(1, name), field(2, field(1, tensor))].concat())
}
