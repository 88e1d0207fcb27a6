//! Scaling of inputs, done here instead of in the model.
//!
//! Nets for tables mostly begin by taking a mean from each column and dividing by a scale. ONNX Runtime does each of these
//! steps in a pass of its own, a row at a time, which is slow where rows are short: of a small net it was a sixth of all
//! work. So the leading `Sub`, `Div`, `Add` and `Mul` of an input and a constant are taken out of the graph, and done to
//! the batch on its way to the session: the same operations of IEEE 754 on the same numbers in the same order, so the
//! results are equal to the last bit.
//!
//! Only the plain case is touched: a float32 input whose last axis is fixed and which goes nowhere else, constants of that
//! many elements or of one, no subgraphs, no functions of the model's own.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use std::collections::{HashMap, HashSet};

use super::graph::{Declared, Facts, Kind};
use super::proto;
use super::wire;
use super::zipmap::{MODEL_GRAPH, WiredNode, put_piece};
use crate::error::{Error, Result};
use crate::signature::Dim;
use crate::tensor::{DType, Tensor, TensorData};

const GRAPH_NODE: u32 = 1;
const GRAPH_INITIALIZER: u32 = 5;
const FLOAT: i32 = 1;

/// Before this version operators broadcast by attributes.
const FIRST_OPSET: i64 = 7;

/// Operands are repeated to this many elements, so that short rows are worked on side by side.
const RUN: usize = 512;

/// A model without the scaling of its inputs.
#[derive(Debug)]
pub struct Unscaled {
    /// The model file to give to ONNX Runtime.
    pub bytes: Bytes,
    /// What is to be done to inputs.
    pub scalers: Vec<Scaler>,
}

/// What is done to an input before the model gets it.
#[derive(Clone, Debug, PartialEq)]
pub struct Scaler {
    /// The input's name.
    pub input: String,
    steps: Vec<Step>,
    /// Elements of the last axis.
    width: usize,
}

#[derive(Clone, Debug, PartialEq)]
struct Step {
    operation: Operation,
    /// For each element of the last axis, again and again.
    operand: Vec<f32>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Operation {
    Add,
    Subtract,
    Multiply,
    Divide,
}

impl Scaler {
    /// The tensor as the rest of the model wants it.
    ///
    /// # Errors
    /// `Internal`, for a tensor that the input was never declared for.
    pub fn apply(&self, tensor: &Tensor) -> Result<Tensor> {
        let TensorData::F32(values) = &tensor.data else {
            return Err(Error::internal("a scaler was given a tensor of another type"));
        };
        if !values.len().is_multiple_of(self.width) {
            return Err(Error::internal("a scaler was given rows of another width"));
        }
        let mut scaled = values.clone();
        for run in scaled.chunks_mut(run_length(self.width)) {
            self.steps.iter().for_each(|step| step.apply(run));
        }
        Tensor::new(tensor.shape.clone(), scaled)
    }
}

impl Step {
    fn apply(&self, values: &mut [f32]) {
        let pairs = values.iter_mut().zip(&self.operand);
        match self.operation {
            Operation::Add => pairs.for_each(|(value, operand)| *value += operand),
            Operation::Subtract => pairs.for_each(|(value, operand)| *value -= operand),
            Operation::Multiply => pairs.for_each(|(value, operand)| *value *= operand),
            Operation::Divide => pairs.for_each(|(value, operand)| *value /= operand),
        }
    }
}

/// Whole rows of about [`RUN`] elements.
fn run_length(width: usize) -> usize {
    width * RUN.div_ceil(width)
}

/// An initializer, with its floats.
#[derive(Clone, PartialEq, Message)]
struct Constant {
    #[prost(int64, repeated, packed = "false", tag = "1")]
    dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    data_type: i32,
    #[prost(float, repeated, tag = "4")]
    float_data: Vec<f32>,
    #[prost(string, tag = "8")]
    name: String,
    #[prost(bytes = "bytes", optional, tag = "9")]
    raw_data: Option<Bytes>,
    #[prost(int32, tag = "14")]
    data_location: i32,
}

impl Constant {
    /// Its elements as those of a last axis of `width`, for a tensor of `axes` axes; `None` if it is none such.
    fn spread(&self, width: usize, axes: usize) -> Option<Vec<f32>> {
        let (&last, before) = self.dims.split_last().unwrap_or((&1, &[]));
        let is_row = before.iter().all(|&extent| extent == 1) && self.dims.len() <= axes;
        if !is_row || self.data_type != FLOAT || self.data_location != 0 {
            return None;
        }
        let elements: Vec<f32> = match &self.raw_data {
            Some(raw) if self.float_data.is_empty() && raw.len().is_multiple_of(4) => {
                let each = raw.as_chunks::<4>().0.iter();
                each.map(|bytes| f32::from_le_bytes(*bytes)).collect()
            }
            None => self.float_data.clone(),
            Some(_) => return None,
        };
        if usize::try_from(last) != Ok(elements.len()) {
            return None;
        }
        match elements.as_slice() {
            [only] => Some(vec![*only; width]),
            elements => (elements.len() == width).then(|| elements.to_vec()),
        }
    }
}

/// Takes the scaling of inputs out of the model `bytes`, which has passed all checks; `None` when there is none.
pub fn unscale(bytes: &Bytes, facts: &Facts) -> Option<Unscaled> {
    // Trees are taken from the graph as it is, and scaling is nothing beside them.
    let opset = facts.opsets.get("ai.onnx").copied().unwrap_or(0);
    if facts.has_tree_ensemble || opset < FIRST_OPSET {
        return None;
    }
    let found = Wiring::read(bytes)?;
    let chains: Vec<Chain> = facts
        .inputs
        .iter()
        .filter_map(|input| found.chain(input))
        .collect();
    if chains.is_empty() {
        return None;
    }
    // What follows finds its input under the old name. ONNX Runtime takes such nodes out itself.
    let renaming = chains.iter().map(|chain| WiredNode {
        input: vec![chain.scaler.input.clone()],
        output: vec![chain.end.clone()],
        op_type: "Identity".to_string(),
        ..WiredNode::default()
    });
    // Pieces of a message add up; these nodes must come before those that need them.
    let first = proto::Graph {
        node: renaming.map(|node| node.encode_to_vec().into()).collect(),
        ..proto::Graph::default()
    };
    let mut rewritten = BytesMut::with_capacity(bytes.len() + 64 * chains.len());
    put_piece(&mut rewritten, &first.encode_to_vec());
    wire::each_field(bytes, |field| {
        if field.tag == MODEL_GRAPH {
            put_piece(&mut rewritten, &without(field.payload, &chains));
        } else {
            rewritten.put_slice(field.whole);
        }
        true
    });
    Some(Unscaled {
        bytes: rewritten.freeze(),
        scalers: chains.into_iter().map(|chain| chain.scaler).collect(),
    })
}

/// Steps that follow each other from an input on.
struct Chain {
    scaler: Scaler,
    /// The tensor that the last of them makes.
    end: String,
    /// Their outputs, by which they are known.
    nodes: Vec<String>,
    /// Constants that nobody else needs.
    constants: Vec<String>,
}

/// Nodes and constants of a graph, and who needs what.
struct Wiring {
    nodes: Vec<WiredNode>,
    constants: HashMap<String, Constant>,
    /// How often each tensor is needed, as a node's input or an output of the graph.
    needed: HashMap<String, usize>,
    /// Of a tensor that is needed: the last node that does.
    needed_by: HashMap<String, usize>,
}

impl Wiring {
    /// `None` when the graph is not plain.
    fn read(bytes: &Bytes) -> Option<Wiring> {
        let model = proto::Model::decode(bytes.clone()).ok()?;
        let graph = model.graph.filter(|_| model.functions.is_empty())?;
        let mut wiring = Wiring {
            nodes: Vec::with_capacity(graph.node.len()),
            constants: HashMap::new(),
            needed: HashMap::new(),
            needed_by: HashMap::new(),
        };
        let mut made: HashSet<String> = graph.input.iter().map(|input| input.name.clone()).collect();
        for node in &graph.node {
            let node = WiredNode::decode(node.clone()).ok()?;
            // What is made twice is for ONNX Runtime to refuse.
            if !node.output.iter().all(|output| made.insert(output.clone())) {
                return None;
            }
            for attribute in &node.attribute {
                let attribute = proto::Attribute::decode(attribute.clone()).ok()?;
                if !attribute.graph.is_empty() || !attribute.graphs.is_empty() {
                    return None;
                }
            }
            for input in &node.input {
                *wiring.needed.entry(input.clone()).or_default() += 1;
                wiring.needed_by.insert(input.clone(), wiring.nodes.len());
            }
            wiring.nodes.push(node);
        }
        for output in &graph.output {
            *wiring.needed.entry(output.name.clone()).or_default() += 1;
        }
        for tensor in &graph.initializer {
            // Weights are not looked at.
            const LARGEST_BYTES: usize = 256 << 10;
            let name = proto::Tensor::decode(tensor.clone()).ok()?.name;
            // An input of the same name could be fed.
            let may_change = graph.input.iter().any(|input| input.name == name);
            if tensor.len() > LARGEST_BYTES || may_change {
                continue;
            }
            let constant = Constant::decode(tensor.clone()).ok()?;
            if wiring.constants.insert(name, constant).is_some() {
                return None;
            }
        }
        Some(wiring)
    }

    fn chain(&self, input: &Declared) -> Option<Chain> {
        let Kind::Tensor {
            dtype: DType::F32,
            shape: Some(shape),
        } = &input.kind
        else {
            return None;
        };
        let (Some(&Dim::Fixed(width)), 2..) = (shape.last(), shape.len()) else {
            return None;
        };
        let mut chain = Chain {
            scaler: Scaler {
                input: input.name.clone(),
                steps: Vec::new(),
                width,
            },
            end: input.name.clone(),
            nodes: Vec::new(),
            constants: Vec::new(),
        };
        while let Some((step, constant, output)) = self.step(&chain.end, width, shape.len()) {
            chain.scaler.steps.push(step);
            chain.constants.push(constant.to_string());
            chain.nodes.push(output.to_string());
            chain.end = output.to_string();
        }
        let used = chain.constants.clone();
        let uses = |name: &String| used.iter().filter(|used| *used == name).count();
        chain
            .constants
            .retain(|name| self.needed.get(name) == Some(&uses(name)));
        (!chain.nodes.is_empty()).then_some(chain)
    }

    /// The only thing that is done to `tensor`, if that is a step; with its constant and what it makes.
    fn step(&self, tensor: &str, width: usize, axes: usize) -> Option<(Step, &str, &str)> {
        if self.needed.get(tensor) != Some(&1) {
            return None;
        }
        let node = &self.nodes[*self.needed_by.get(tensor)?];
        let ([first, second], [output]) = (node.input.as_slice(), node.output.as_slice()) else {
            return None;
        };
        if !matches!(node.domain.as_str(), "" | "ai.onnx") || !node.attribute.is_empty() {
            return None;
        }
        let is_first = first == tensor;
        let operation = match node.op_type.as_str() {
            "Add" => Operation::Add,
            "Mul" => Operation::Multiply,
            "Sub" if is_first => Operation::Subtract,
            "Div" if is_first => Operation::Divide,
            _ => return None,
        };
        let constant = if is_first { second } else { first };
        let operand = self.constants.get(constant)?.spread(width, axes)?;
        let operand = operand.repeat(run_length(width) / width);
        Some((Step { operation, operand }, constant, output))
    }
}

/// A piece of a graph without the nodes and constants of `chains`.
fn without(graph: &[u8], chains: &[Chain]) -> Vec<u8> {
    let is_step = |node: &WiredNode| {
        let mut made = chains.iter().flat_map(|chain| &chain.nodes);
        made.any(|output| node.output.first() == Some(output))
    };
    let is_done = |name: &String| chains.iter().any(|chain| chain.constants.contains(name));
    let mut kept = Vec::with_capacity(graph.len());
    wire::each_field(graph, |field| {
        let drop = match field.tag {
            GRAPH_NODE => WiredNode::decode(field.payload).is_ok_and(|node| is_step(&node)),
            GRAPH_INITIALIZER => {
                proto::Tensor::decode(field.payload).is_ok_and(|tensor| is_done(&tensor.name))
            }
            _ => false,
        };
        if !drop {
            kept.put_slice(field.whole);
        }
        true
    });
    kept
}
