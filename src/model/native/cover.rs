//! Whether a graph is trees or layers and steps that are known, and its program if it is.

use bytes::Bytes;
use prost::Message;
use std::collections::{HashMap, HashSet};

use super::Uncovered;
use super::ensemble;
use super::layers::{self, Needs};
use super::program::{Call, Does, Output, Program, Trees};
use super::proto::{self, Model, Node};
use super::steps::{Binary, Constant, Norm, Step, Unary};
use crate::model::dense::Dense;
use crate::model::onnx::session;
use crate::model::trees::Evaluator;
use crate::signature::{InputFeature, Source};
use crate::tensor::{DType, Tensor, TensorData};

/// Largest file: its lists take several times as much memory while they are read.
const MOST_BYTES: usize = 512 << 20;
/// Most nodes that lead to the outputs: trees and layers come with a handful.
const MOST_NODES: usize = 256;

/// The program of the function that `asked` describes, in the model `bytes`.
///
/// # Errors
/// The first thing that is not covered.
pub(in crate::model) fn cover(
    bytes: &Bytes,
    asked: &session::Program,
    inputs: &[InputFeature],
) -> Result<Program, Uncovered> {
    if asked.fixed_batch_rows.is_some() {
        return Err("a fixed number of rows".to_string());
    }
    if inputs.iter().any(|input| input.source == Source::Param) {
        return Err("parameters".to_string());
    }
    if bytes.len() > MOST_BYTES {
        return Err(format!("a file of more than {MOST_BYTES} bytes"));
    }
    let model = Model::decode(bytes.clone()).map_err(|_| "a file that can't be read".to_string())?;
    if !model.functions.is_empty() {
        return Err("functions of the model's own".to_string());
    }
    let graph = model.graph.unwrap_or_default();
    let wanted: Vec<&str> = asked.outputs.iter().map(session::Output::asked).collect();
    let nodes = needed(&graph.node, &wanted)?;
    let mut builder = Builder::default();
    for (slot, input) in std::iter::zip(&asked.inputs, inputs) {
        builder.types.insert(builder.slots.len(), input.dtype);
        builder.slots.insert(slot.name.clone(), builder.slots.len());
    }
    for tensor in &graph.initializer {
        builder.constants.insert(tensor.name.clone(), tensor);
    }
    for node in &nodes {
        builder.add_constant(node)?;
    }
    let needs = Needs::of(&nodes, &wanted);
    // Layers stand where the first of their nodes stood.
    let mut done: Vec<&Node> = Vec::new();
    for node in &nodes {
        if done.iter().any(|other| std::ptr::eq(*other, *node)) {
            continue;
        }
        let added = match layers::chain(node, &needs, &builder.constants) {
            Ok(Some(chain)) => {
                done.extend(&chain.nodes);
                builder.add_layers(chain)
            }
            Ok(None) => builder.add(node),
            Err(why) => Err(why),
        };
        added.map_err(|why| format!("{}: {why}", node.shown()))?;
    }
    if builder
        .calls
        .iter()
        .all(|call| matches!(call.does, Does::Step(_)))
    {
        return Err("neither trees nor dense layers".to_string());
    }
    let mut outputs = Vec::with_capacity(wanted.len());
    for (name, output) in std::iter::zip(wanted, &asked.outputs) {
        let slot = builder.slots.get(name).copied();
        outputs.push(Output {
            slot: slot.ok_or_else(|| format!("the output {name}"))?,
            zip: output.zip.clone(),
        });
    }
    Ok(Program {
        inputs: asked.inputs.iter().map(|slot| slot.axes).collect(),
        scalers: asked.inputs.iter().map(|slot| slot.scaler.clone()).collect(),
        calls: builder.calls,
        slots: builder.slots.len(),
        outputs,
    })
}

/// The nodes that lead to the outputs, in the order of the file.
fn needed<'a>(nodes: &'a [Node], outputs: &[&str]) -> Result<Vec<&'a Node>, Uncovered> {
    let mut wanted: HashSet<&str> = outputs.iter().copied().collect();
    let mut chosen = Vec::new();
    // A node stands behind those that it takes from.
    for node in nodes.iter().rev() {
        if node.output.iter().any(|output| wanted.contains(output.as_str())) {
            wanted.extend(node.input.iter().map(String::as_str));
            chosen.push(node);
        }
        if chosen.len() > MOST_NODES {
            return Err(format!("more than {MOST_NODES} nodes"));
        }
    }
    chosen.reverse();
    Ok(chosen)
}

#[derive(Default)]
struct Builder<'a> {
    slots: HashMap<String, usize>,
    /// What is known of the types of values.
    types: HashMap<usize, DType>,
    constants: HashMap<String, &'a proto::TensorProto>,
    calls: Vec<Call>,
}

impl<'a> Builder<'a> {
    fn constant(&self, name: &str) -> Result<Option<Tensor>, Uncovered> {
        if self.slots.contains_key(name) {
            return Ok(None);
        }
        self.constants.get(name).map(|tensor| tensor.tensor()).transpose()
    }

    fn slot(&self, name: &str) -> Result<usize, Uncovered> {
        self.slots
            .get(name)
            .copied()
            .ok_or_else(|| format!("an input {name:?} that no step gives"))
    }

    fn dtype(&self, slot: usize) -> Result<DType, Uncovered> {
        self.types
            .get(&slot)
            .copied()
            .ok_or_else(|| "a value of unknown type".to_string())
    }

    fn gives(&mut self, name: &str, dtype: DType) -> Option<usize> {
        if name.is_empty() {
            return None;
        }
        let next = self.slots.len();
        let slot = *self.slots.entry(name.to_string()).or_insert(next);
        self.types.insert(slot, dtype);
        Some(slot)
    }

    fn add(&mut self, node: &'a Node) -> Result<(), Uncovered> {
        match (node.domain.as_str(), node.op_type.as_str()) {
            ("ai.onnx.ml", "TreeEnsembleRegressor" | "TreeEnsembleClassifier") => self.add_trees(node),
            ("" | "ai.onnx", "Constant") => Ok(()),
            _ => self.add_step(node),
        }
    }

    /// Takes note of a node that is one.
    fn add_constant(&mut self, node: &'a Node) -> Result<(), Uncovered> {
        if !matches!(
            (node.domain.as_str(), node.op_type.as_str()),
            ("" | "ai.onnx", "Constant")
        ) {
            return Ok(());
        }
        let value = node.attribute("value").and_then(|attribute| attribute.t.as_ref());
        let (Some(tensor), [output]) = (value, node.output.as_slice()) else {
            return Err(format!("{}: a constant of an unusual sort", node.shown()));
        };
        self.constants.insert(output.clone(), tensor);
        Ok(())
    }

    fn add_trees(&mut self, node: &Node) -> Result<(), Uncovered> {
        let [input] = node.input.as_slice() else {
            return Err("several inputs".to_string());
        };
        let takes = self.slot(input)?;
        let wide = match self.dtype(takes)? {
            DType::F64 => true,
            DType::F32 | DType::I64 | DType::I32 => false,
            other => return Err(format!("an input of {}", other.as_str())),
        };
        let ensemble = ensemble::read(node, wide)?;
        let evaluator = Evaluator::new(&ensemble.forest).map_err(|error| error.message().to_string())?;
        let labels = match &ensemble.finish {
            ensemble::Finish::Targets(_) => None,
            ensemble::Finish::Classes(classes) => Some(match classes.labels {
                ensemble::Labels::Integers(_) => DType::I64,
                ensemble::Labels::Texts(_) => DType::String,
            }),
        };
        let names = node.output.iter().map(String::as_str);
        let dtypes = labels.into_iter().chain([DType::F32]);
        let gives: Vec<Option<usize>> = names
            .zip(dtypes)
            .map(|(name, dtype)| self.gives(name, dtype))
            .collect();
        self.calls.push(Call {
            does: Does::Trees(Box::new(Trees {
                ensemble,
                evaluator,
                wide,
            })),
            takes: vec![takes],
            gives,
        });
        Ok(())
    }

    fn add_layers(&mut self, chain: layers::Chain) -> Result<(), Uncovered> {
        let takes = self.slot(chain.takes)?;
        if self.dtype(takes)? != DType::F32 {
            return Err("an input that is not float32".to_string());
        }
        let dense = Dense::new(&chain.layers).ok_or("layers that don't fit together")?;
        let gives = self.gives(chain.gives, DType::F32);
        self.calls.push(Call {
            does: Does::Dense(Box::new(dense)),
            takes: vec![takes],
            gives: vec![gives],
        });
        Ok(())
    }

    fn add_step(&mut self, node: &Node) -> Result<(), Uncovered> {
        let [output] = node.output.as_slice() else {
            return Err("several outputs".to_string());
        };
        let mut takes = Vec::new();
        let mut constants = Vec::new();
        for (place, input) in node.input.iter().enumerate() {
            match self.constant(input)? {
                Some(tensor) => constants.push((place, tensor)),
                None => takes.push(self.slot(input)?),
            }
        }
        let &[first, ..] = takes.as_slice() else {
            return Err("nothing but constants".to_string());
        };
        let from = self.dtype(first)?;
        let (step, dtype) = step(node, from, &constants)?;
        let takes_all = matches!(step, Step::Concat | Step::Binary(_, None));
        if !takes_all && takes.len() > 1 {
            return Err("several inputs".to_string());
        }
        let gives = self.gives(output, dtype);
        self.calls.push(Call {
            does: Does::Step(step),
            takes,
            gives: vec![gives],
        });
        Ok(())
    }
}

/// The step of a node, and the type it gives; `constants` are its constant inputs with their places.
fn step(node: &Node, from: DType, constants: &[(usize, Tensor)]) -> Result<(Step, DType), Uncovered> {
    let operator = match (node.domain.as_str(), node.op_type.as_str()) {
        ("" | "ai.onnx", name) => name,
        ("ai.onnx.ml", "Scaler") => {
            let (offset, scale) = (node.floats("offset").to_vec(), node.floats("scale").to_vec());
            if offset.is_empty() || scale.is_empty() {
                return Err("no offset or no scale".to_string());
            }
            return Ok((Step::Scaler { offset, scale }, DType::F32));
        }
        ("ai.onnx.ml", "Normalizer") => {
            let norm = match node.text("norm").as_deref() {
                None | Some("MAX") => Norm::Max,
                Some("L1") => Norm::L1,
                Some("L2") => Norm::L2,
                Some(other) => return Err(format!("norm {other}")),
            };
            return Ok((Step::Normalizer(norm), DType::F32));
        }
        _ => return Err("an operator that is not known here".to_string()),
    };
    let is_columns = |axis: Option<i64>| matches!(axis, Some(1 | -1));
    let plain = |step: Step| match constants {
        [] => Ok((step, from)),
        _ => Err("constants as inputs".to_string()),
    };
    match operator {
        "Identity" => plain(Step::Identity),
        "Cast" => {
            let to = node.int("to").and_then(proto::dtype);
            let to = to.ok_or("a type that is not known here")?;
            let known = from == to
                || matches!(
                    (from, to),
                    (
                        DType::F32 | DType::F64 | DType::I64 | DType::I32,
                        DType::F32 | DType::F64
                    ) | (DType::I32, DType::I64)
                );
            match known {
                true => Ok((Step::Cast(to), to)),
                false => Err(format!("from {} to {}", from.as_str(), to.as_str())),
            }
        }
        "Concat" if is_columns(node.int("axis")) => plain(Step::Concat),
        "Exp" => plain(Step::Unary(Unary::Exp)),
        "Sigmoid" => plain(Step::Unary(Unary::Sigmoid)),
        "Neg" => plain(Step::Unary(Unary::Neg)),
        "Sqrt" => plain(Step::Unary(Unary::Sqrt)),
        "Softmax" if is_columns(node.int("axis").or(Some(-1))) => plain(Step::Softmax),
        "Sum" => plain(Step::Binary(Binary::Add, None)),
        "Add" => Ok((Step::Binary(Binary::Add, constant(constants, from)?), from)),
        "Sub" => Ok((Step::Binary(Binary::Sub, constant(constants, from)?), from)),
        "Mul" => Ok((Step::Binary(Binary::Mul, constant(constants, from)?), from)),
        "Div" => Ok((Step::Binary(Binary::Div, constant(constants, from)?), from)),
        "Reshape" => match constants {
            [
                (
                    1,
                    Tensor {
                        data: TensorData::I64(shape),
                        ..
                    },
                ),
            ] => match shape.as_slice() {
                [-1] => Ok((Step::Reshape(None), from)),
                [-1 | 0, columns] if *columns > 0 => Ok((Step::Reshape(Some(*columns as usize)), from)),
                other => Err(format!("to the shape {other:?}")),
            },
            _ => Err("to a shape that is no constant".to_string()),
        },
        "Squeeze" => {
            let axes = match constants {
                [] => node.ints("axes").to_vec(),
                [
                    (
                        1,
                        Tensor {
                            data: TensorData::I64(axes),
                            ..
                        },
                    ),
                ] => axes.clone(),
                _ => return Err("of axes that are no constant".to_string()),
            };
            match axes.as_slice() {
                [1 | -1] => Ok((Step::Reshape(None), from)),
                other => Err(format!("of the axes {other:?}")),
            }
        }
        _ => Err("an operator that is not known here".to_string()),
    }
}

fn constant(constants: &[(usize, Tensor)], dtype: DType) -> Result<Option<Constant>, Uncovered> {
    let [(place, tensor)] = constants else {
        return match constants {
            [] => Ok(None),
            _ => Err("several constants".to_string()),
        };
    };
    if tensor.shape.len() > 2 || (tensor.shape.len() == 2 && tensor.shape[0] != 1) {
        return Err("a constant with rows".to_string());
    }
    let values: Vec<f64> = match (&tensor.data, dtype) {
        (TensorData::F32(values), DType::F32) => values.iter().map(|&value| f64::from(value)).collect(),
        (TensorData::F64(values), DType::F64) => values.clone(),
        _ => return Err("a constant of another type".to_string()),
    };
    Ok(Some(Constant {
        values,
        is_first: *place == 0,
    }))
}
