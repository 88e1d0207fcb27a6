//! `ZipMap`, done here instead of in the model.
//!
//! Classifiers exported from scikit-learn, LightGBM and XGBoost usually end in a `ZipMap`: it turns the probabilities
//! `[rows, classes]` into one map per row. ONNX Runtime builds a tree of nodes for each row, and reading it back takes
//! several calls per row: about 4 µs, where the model itself takes 0.1. So the node is taken out of the graph, the model
//! returns its tensor, and the maps are made from that, equal to the last bit.
//!
//! Only the plain case is touched: the map goes nowhere but to an output, and the graph has no subgraphs. Any other
//! `ZipMap` is left to ONNX Runtime.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};

use super::graph::{Facts, Kind};
use super::proto;
use super::wire;
use crate::tensor::{DType, Maps};

pub(super) const MODEL_GRAPH: u32 = 7;
const GRAPH_NODE: u32 = 1;
const GRAPH_OUTPUT: u32 = 12;
const FLOAT: i32 = 1;

/// A model without its `ZipMap` nodes.
#[derive(Clone, Debug, PartialEq)]
pub struct Unzipped {
    /// The model file to give to ONNX Runtime.
    pub bytes: Bytes,
    /// The outputs that are maps no longer.
    pub outputs: Vec<Zip>,
}

/// What a `ZipMap` does.
#[derive(Clone, Debug, PartialEq)]
pub struct Zip {
    /// The output that held maps.
    pub output: String,
    /// The tensor that it was made from, now an output itself: float32 `[rows, classes]`.
    pub tensor: String,
    /// Labels in the order of the maps: sorted.
    labels: Labels,
    /// For each label its place in a row of the tensor.
    places: Vec<usize>,
}

#[derive(Clone, Debug, PartialEq)]
enum Labels {
    Integers(Vec<i64>),
    Texts(Vec<String>),
}

impl Zip {
    /// How many classes there are.
    pub fn width(&self) -> usize {
        self.places.len()
    }

    /// One map per row of `scores`, `[rows, classes]`.
    pub fn maps(&self, scores: &[f32]) -> Maps {
        let rows = scores.len() / self.width();
        let mut values = Vec::with_capacity(scores.len());
        for row in scores.chunks_exact(self.width()) {
            values.extend(self.places.iter().map(|&place| row[place]));
        }
        Maps {
            offsets: (0..=rows).map(|row| row * self.width()).collect(),
            keys: match &self.labels {
                Labels::Integers(labels) => labels.repeat(rows).into(),
                Labels::Texts(labels) => {
                    let keys: Vec<String> =
                        labels.iter().cycle().take(rows * labels.len()).cloned().collect();
                    keys.into()
                }
            },
            values: values.into(),
        }
    }
}

/// A node with its connections; read only where graphs are rewritten.
#[derive(Clone, PartialEq, Message)]
pub(super) struct WiredNode {
    #[prost(string, repeated, tag = "1")]
    pub input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub output: Vec<String>,
    #[prost(string, tag = "4")]
    pub op_type: String,
    #[prost(bytes = "bytes", repeated, tag = "5")]
    pub attribute: Vec<Bytes>,
    #[prost(string, tag = "7")]
    pub domain: String,
}

/// An attribute that holds labels.
#[derive(Clone, PartialEq, Message)]
struct LabelAttribute {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(int64, repeated, packed = "false", tag = "8")]
    ints: Vec<i64>,
    #[prost(string, repeated, tag = "9")]
    strings: Vec<String>,
}

/// Takes the `ZipMap` nodes out of the model `bytes`, which has passed all checks; `None` when there is none to take out.
pub fn unzip(bytes: &Bytes, facts: &Facts) -> Option<Unzipped> {
    let maps = facts
        .outputs
        .iter()
        .filter(|output| matches!(output.kind, Kind::Maps { .. }));
    if maps.count() == 0 {
        return None;
    }
    let zips = find(bytes, facts)?;
    if zips.is_empty() {
        return None;
    }
    let mut rewritten = BytesMut::with_capacity(bytes.len());
    wire::each_field(bytes, |field| {
        if field.tag == MODEL_GRAPH {
            put_piece(&mut rewritten, &without(field.payload, &zips));
        } else {
            rewritten.put_slice(field.whole);
        }
        true
    });
    // Pieces of a message add up, so the new outputs need not be put among the old ones.
    let known = |tensor: &str| facts.outputs.iter().any(|output| output.name == tensor);
    let mut added: Vec<proto::ValueInfo> = Vec::new();
    for zip in &zips {
        if !known(&zip.tensor) && !added.iter().any(|output| output.name == zip.tensor) {
            added.push(float_tensor(&zip.tensor));
        }
    }
    let added = proto::Graph {
        output: added,
        ..proto::Graph::default()
    };
    put_piece(&mut rewritten, &added.encode_to_vec());
    Some(Unzipped {
        bytes: rewritten.freeze(),
        outputs: zips,
    })
}

/// The `ZipMap` nodes that can be taken out; `None` when the graph is not plain, or can't be read.
fn find(bytes: &Bytes, facts: &Facts) -> Option<Vec<Zip>> {
    let graph = proto::Model::decode(bytes.clone()).ok()?.graph?;
    let mut zips: Vec<Zip> = Vec::new();
    let mut consumed: Vec<String> = Vec::new();
    for node in &graph.node {
        let node = WiredNode::decode(node.clone()).ok()?;
        if is_zipmap(&node) {
            zips.extend(zip(&node, facts));
        } else {
            for attribute in &node.attribute {
                let attribute = proto::Attribute::decode(attribute.clone()).ok()?;
                if !attribute.graph.is_empty() || !attribute.graphs.is_empty() {
                    return None;
                }
            }
        }
        consumed.extend(node.input);
    }
    zips.retain(|zip| !consumed.contains(&zip.output));
    Some(zips)
}

fn is_zipmap(node: &WiredNode) -> bool {
    node.op_type == "ZipMap" && node.domain == "ai.onnx.ml"
}

/// What the node does, if it is of the plain kind and its output is one of the model's.
fn zip(node: &WiredNode, facts: &Facts) -> Option<Zip> {
    let ([tensor], [output]) = (node.input.as_slice(), node.output.as_slice()) else {
        return None;
    };
    let declared = facts.outputs.iter().find(|known| known.name == *output)?;
    let Kind::Maps { key, .. } = declared.kind else {
        return None;
    };
    let (mut ints, mut strings) = (Vec::new(), Vec::new());
    for attribute in &node.attribute {
        let attribute = LabelAttribute::decode(attribute.clone()).ok()?;
        match attribute.name.as_str() {
            "classlabels_int64s" => ints = attribute.ints,
            "classlabels_strings" => strings = attribute.strings,
            _ => {}
        }
    }
    let (labels, places) = match (key, ints.is_empty(), strings.is_empty()) {
        (DType::I64, false, true) => {
            let (labels, places) = sorted(ints)?;
            (Labels::Integers(labels), places)
        }
        (DType::String, true, false) => {
            let (labels, places) = sorted(strings)?;
            (Labels::Texts(labels), places)
        }
        _ => return None,
    };
    Some(Zip {
        output: output.clone(),
        tensor: tensor.clone(),
        labels,
        places,
    })
}

/// Labels sorted, each with its place before; `None` when one occurs twice: a map would keep only one of them.
fn sorted<T: Ord>(labels: Vec<T>) -> Option<(Vec<T>, Vec<usize>)> {
    let mut placed: Vec<(T, usize)> = labels
        .into_iter()
        .enumerate()
        .map(|(place, label)| (label, place))
        .collect();
    placed.sort();
    if placed.windows(2).any(|pair| pair[0].0 == pair[1].0) {
        return None;
    }
    Some(placed.into_iter().unzip())
}

/// A piece of a graph without the nodes and outputs of `zips`.
fn without(graph: &[u8], zips: &[Zip]) -> Vec<u8> {
    let gone = |output: &str| zips.iter().any(|zip| zip.output == output);
    let mut kept = Vec::with_capacity(graph.len());
    wire::each_field(graph, |field| {
        let drop = match field.tag {
            GRAPH_NODE => WiredNode::decode(field.payload)
                .is_ok_and(|node| is_zipmap(&node) && node.output.iter().any(|output| gone(output))),
            GRAPH_OUTPUT => proto::ValueInfo::decode(field.payload).is_ok_and(|output| gone(&output.name)),
            _ => false,
        };
        if !drop {
            kept.put_slice(field.whole);
        }
        true
    });
    kept
}

/// Appends a piece of the main graph to a model.
pub(super) fn put_piece(model: &mut BytesMut, graph: &[u8]) {
    encode_key(MODEL_GRAPH, WireType::LengthDelimited, model);
    encode_varint(graph.len() as u64, model);
    model.put_slice(graph);
}

fn float_tensor(name: &str) -> proto::ValueInfo {
    let tensor = proto::TensorType {
        elem_type: FLOAT,
        shape: None,
    };
    proto::ValueInfo {
        name: name.to_string(),
        value_type: Some(proto::Type {
            tensor: Some(tensor),
            ..proto::Type::default()
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::onnx::graph;

    fn node(op_type: &str, input: &str, output: &str, attributes: &[LabelAttribute]) -> Bytes {
        let node = WiredNode {
            input: vec![input.into()],
            output: vec![output.into()],
            op_type: op_type.into(),
            domain: "ai.onnx.ml".into(),
            attribute: attributes
                .iter()
                .map(|attribute| attribute.encode_to_vec().into())
                .collect(),
        };
        node.encode_to_vec().into()
    }

    fn labels(strings: &[&str]) -> LabelAttribute {
        LabelAttribute {
            name: "classlabels_strings".into(),
            strings: strings.iter().map(|label| label.to_string()).collect(),
            ints: vec![],
        }
    }

    fn map_output(name: &str) -> proto::ValueInfo {
        let map = proto::MapType {
            key_type: 8,
            value_type: float_tensor("").value_type.map(Box::new),
        };
        let element = proto::Type {
            map: Some(Box::new(map)),
            ..proto::Type::default()
        };
        let sequence = proto::ElementOf {
            elem_type: Some(Box::new(element)),
        };
        proto::ValueInfo {
            name: name.into(),
            value_type: Some(proto::Type {
                sequence: Some(Box::new(sequence)),
                ..proto::Type::default()
            }),
        }
    }

    /// `x` → Scorer → `scores` → the given nodes; outputs `maps` and those given.
    fn model(nodes: &[Bytes], more_outputs: &[&str]) -> (Bytes, Facts) {
        let mut outputs = vec![map_output("maps")];
        outputs.extend(more_outputs.iter().map(|name| float_tensor(name)));
        let graph = proto::Graph {
            node: [&[node("Scaler", "x", "scores", &[])], nodes].concat(),
            input: vec![float_tensor("x")],
            output: outputs,
            ..proto::Graph::default()
        };
        let opset = |domain: &str| proto::OperatorSet {
            domain: domain.into(),
            version: 1,
        };
        let model = proto::Model {
            ir_version: 8,
            producer_name: "test".into(),
            graph: Some(graph),
            opset_import: vec![opset(""), opset("ai.onnx.ml")],
            ..proto::Model::default()
        };
        let bytes = Bytes::from(model.encode_to_vec());
        let facts = graph::read(&bytes).unwrap();
        (bytes, facts)
    }

    #[test]
    fn the_node_goes_its_tensor_comes_and_nothing_else_changes() {
        let zipmap = node("ZipMap", "scores", "maps", &[labels(&["b", "a"])]);
        let (bytes, facts) = model(&[zipmap], &["other"]);
        let unzipped = unzip(&bytes, &facts).unwrap();
        let after = graph::read(&unzipped.bytes).unwrap();
        let names: Vec<_> = after.outputs.iter().map(|output| output.name.as_str()).collect();
        assert_eq!(names, ["other", "scores"]);
        assert_eq!(after.nodes, facts.nodes - 1);
        assert_eq!(
            (&after.producer, &after.opsets, &after.inputs),
            (&facts.producer, &facts.opsets, &facts.inputs)
        );
    }

    #[test]
    fn a_tensor_that_is_an_output_already_stays_one_output() {
        let zipmap = node("ZipMap", "scores", "maps", &[labels(&["b", "a"])]);
        let (bytes, facts) = model(&[zipmap], &["scores"]);
        let after = graph::read(&unzip(&bytes, &facts).unwrap().bytes).unwrap();
        assert_eq!(after.outputs.len(), 1);
    }

    #[test]
    fn maps_are_sorted_by_label_and_keep_their_scores() {
        let zipmap = node("ZipMap", "scores", "maps", &[labels(&["b", "c", "a"])]);
        let (bytes, facts) = model(&[zipmap], &[]);
        let zip = unzip(&bytes, &facts).unwrap().outputs.remove(0);
        let maps = zip.maps(&[0.1, 0.2, 0.7, 1.0, 0.0, 0.5]);
        assert_eq!(maps.offsets, [0, 3, 6]);
        assert_eq!(
            maps.keys,
            ["a", "b", "c", "a", "b", "c"].map(String::from).to_vec().into()
        );
        assert_eq!(maps.values, vec![0.7f32, 0.1, 0.2, 0.5, 1.0, 0.0].into());
    }

    #[test]
    fn anything_out_of_the_ordinary_is_left_alone() {
        let plain = || node("ZipMap", "scores", "maps", &[labels(&["a", "b"])]);
        let subgraph = proto::Attribute {
            graph: vec![Bytes::new()],
            ..proto::Attribute::default()
        };
        let branching = WiredNode {
            op_type: "If".into(),
            attribute: vec![subgraph.encode_to_vec().into()],
            ..WiredNode::default()
        };
        let twice = LabelAttribute {
            name: "classlabels_int64s".into(),
            ints: vec![1, 2],
            strings: vec![],
        };
        for nodes in [
            vec![node("ZipMap", "scores", "maps", &[labels(&["a", "a"])])],
            vec![node("ZipMap", "scores", "maps", &[])],
            vec![node("ZipMap", "scores", "maps", &[labels(&["a"]), twice.clone()])],
            vec![node("ZipMap", "scores", "maps", &[twice])],
            vec![node("ZipMap", "scores", "elsewhere", &[labels(&["a", "b"])])],
            vec![plain(), node("Scaler", "maps", "more", &[])],
            vec![plain(), branching.encode_to_vec().into()],
        ] {
            let (bytes, facts) = model(&nodes, &[]);
            assert_eq!(unzip(&bytes, &facts), None);
        }
    }
}
