//! A walk over everything in a model file that has nodes or tensors: the main graph, subgraphs in attributes, functions.
//!
//! It sees to it that nothing refers to another file, that every operator is one that ONNX Runtime brings along or
//! the model defines, and that nodes and nesting stay within bounds even where functions call each other.

use bytes::Bytes;
use prost::Message;
use std::collections::HashMap;

use super::proto;
use super::tensors;
use super::trees;
use super::wire::{self, Part};
use crate::error::{Error, Result};

/// Most nodes, with those of subgraphs and with every call of a local function counted as often as it is made.
pub const MAX_NODES: usize = 500_000;
/// Deepest nesting of subgraphs (bodies of `If`, `Loop`, `Scan`) and of calls of local functions.
pub const MAX_DEPTH: usize = 32;

/// Operators that ONNX Runtime brings along. Everything else is code from a library beside the model.
const BUILT_IN_DOMAINS: [&str; 5] = [
    "",
    "ai.onnx",
    "ai.onnx.ml",
    "com.microsoft",
    "com.microsoft.nchwc",
];

/// What a walk found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walked {
    /// Nodes, see [`MAX_NODES`].
    pub nodes: usize,
    /// There is a `TreeEnsemble…` somewhere.
    pub has_tree_ensemble: bool,
    /// There is a `DynamicQuantize…` somewhere.
    pub quantises_by_batch: bool,
}

/// Walks through the main `graph` and the local `functions` of a model.
///
/// # Errors
/// `Model`, for whatever the [module](self) refuses.
pub fn judge(graph: &proto::Graph, functions: &[Bytes]) -> Result<Walked> {
    let mut walk = Walk::new(functions)?;
    let main = walk.graph(graph, 0)?;
    let nodes = walk.expanded(&main, 0)?;
    too_many_nodes(nodes)?;
    Ok(Walked {
        nodes,
        has_tree_ensemble: walk.has_tree_ensemble,
        quantises_by_batch: walk.quantises_by_batch,
    })
}

/// Domain and name of a local function; overloads are judged together.
type FunctionId = (String, String);

/// What the body of a graph or function costs: its own nodes, and the local functions that it calls.
#[derive(Clone, Debug, Default)]
struct Cost {
    nodes: usize,
    calls: HashMap<FunctionId, usize>,
}

/// A walk over everything in the file that has nodes or tensors.
struct Walk {
    functions: HashMap<FunctionId, Cost>,
    /// Nodes with everything that they call, once known.
    known: HashMap<FunctionId, usize>,
    nodes: usize,
    has_tree_ensemble: bool,
    quantises_by_batch: bool,
}

impl Walk {
    fn new(functions: &[Bytes]) -> Result<Walk> {
        let mut walk = Walk {
            functions: HashMap::new(),
            known: HashMap::new(),
            nodes: 0,
            has_tree_ensemble: false,
            quantises_by_batch: false,
        };
        // Names first: functions may call each other in any order. Decoding twice keeps no copy of them.
        for bytes in functions {
            let function: proto::LocalFunction = decode(bytes, Part::Function)?;
            walk.functions
                .insert((function.domain, function.name), Cost::default());
        }
        for bytes in functions {
            let function: proto::LocalFunction = decode(bytes, Part::Function)?;
            let mut cost = Cost::default();
            walk.nodes(&function.node, 0, &mut cost)?;
            for attribute in &function.attribute_proto {
                walk.attribute(attribute, 0, &mut cost)?;
            }
            let id = (function.domain, function.name);
            let all = walk.functions.entry(id).or_default();
            all.nodes += cost.nodes;
            for (callee, times) in cost.calls {
                *all.calls.entry(callee).or_default() += times;
            }
        }
        Ok(walk)
    }

    fn graph(&mut self, graph: &proto::Graph, depth: usize) -> Result<Cost> {
        let mut cost = Cost::default();
        self.graph_into(graph, depth, &mut cost)?;
        Ok(cost)
    }

    fn graph_into(&mut self, graph: &proto::Graph, depth: usize, cost: &mut Cost) -> Result<()> {
        if depth > MAX_DEPTH {
            return Err(Error::model(format!(
                "subgraphs are nested more than {MAX_DEPTH} deep"
            )));
        }
        for bytes in &graph.initializer {
            tensors::check(&decode(bytes, Part::Tensor)?, bytes.len())?;
        }
        for bytes in &graph.sparse_initializer {
            self.sparse_tensor(bytes)?;
        }
        self.nodes(&graph.node, depth, cost)
    }

    fn nodes(&mut self, nodes: &[Bytes], depth: usize, cost: &mut Cost) -> Result<()> {
        self.nodes += nodes.len();
        too_many_nodes(self.nodes)?;
        for bytes in nodes {
            let node: proto::Node = decode(bytes, Part::Node)?;
            cost.nodes += 1;
            if node.op_type.starts_with("TreeEnsemble") {
                self.has_tree_ensemble = true;
                trees::check(&node)?;
            }
            self.quantises_by_batch |= node.op_type.starts_with("DynamicQuantize");
            let id = (node.domain, node.op_type);
            if self.functions.contains_key(&id) {
                *cost.calls.entry(id).or_default() += 1;
            } else {
                check_operator(&id.0, &id.1, &node.name)?;
            }
            for attribute in &node.attribute {
                self.attribute(attribute, depth, cost)?;
            }
        }
        Ok(())
    }

    fn attribute(&mut self, bytes: &Bytes, depth: usize, cost: &mut Cost) -> Result<()> {
        let attribute: proto::Attribute = decode(bytes, Part::Attribute)?;
        if attribute.tensor.len() > 1 || attribute.graph.len() > 1 || attribute.sparse_tensor.len() > 1 {
            return Err(Error::model(format!(
                "the model is damaged: the attribute {} has two values",
                attribute.name
            )));
        }
        for tensor in attribute.tensor.iter().chain(&attribute.tensors) {
            tensors::check(&decode(tensor, Part::Tensor)?, tensor.len())?;
        }
        for sparse in attribute.sparse_tensor.iter().chain(&attribute.sparse_tensors) {
            self.sparse_tensor(sparse)?;
        }
        for graph in attribute.graph.iter().chain(&attribute.graphs) {
            self.graph_into(&decode(graph, Part::Graph)?, depth + 1, cost)?;
        }
        Ok(())
    }

    fn sparse_tensor(&self, bytes: &Bytes) -> Result<()> {
        let sparse: proto::SparseTensor = decode(bytes, Part::SparseTensor)?;
        tensors::check_dense(&sparse.dims)?;
        if sparse.values.len() > 1 || sparse.indices.len() > 1 {
            return Err(Error::model(
                "the model is damaged: a sparse tensor has two values",
            ));
        }
        for tensor in sparse.values.iter().chain(&sparse.indices) {
            tensors::check(&decode(tensor, Part::Tensor)?, tensor.len())?;
        }
        Ok(())
    }

    /// Nodes of `cost` with those of the functions that it calls, each as often as it is called.
    fn expanded(&mut self, cost: &Cost, depth: usize) -> Result<usize> {
        if depth > MAX_DEPTH {
            return Err(Error::model(format!(
                "the model's functions call each other more than {MAX_DEPTH} deep, or themselves"
            )));
        }
        let mut nodes = cost.nodes;
        for (callee, times) in &cost.calls {
            let inner = match self.known.get(callee) {
                Some(inner) => *inner,
                None => {
                    let body = self.functions.get(callee).cloned().unwrap_or_default();
                    let inner = self.expanded(&body, depth + 1)?;
                    self.known.insert(callee.clone(), inner);
                    inner
                }
            };
            nodes = nodes.saturating_add(inner.saturating_mul(*times));
        }
        Ok(nodes)
    }
}

fn check_operator(domain: &str, operator: &str, node: &str) -> Result<()> {
    if domain == "com.microsoft" && operator == "EPContext" {
        return Err(
            Error::model("the model is compiled for one kind of accelerator (operator EPContext)")
                .with_hint("give the ONNX model that it was compiled from"),
        );
    }
    if BUILT_IN_DOMAINS.contains(&domain) {
        return Ok(());
    }
    let hint = match domain {
        "ai.onnx.contrib" | "com.microsoft.extensions" => {
            "it is part of onnxruntime-extensions: export the model without its pre- or post-processing"
        }
        _ => {
            "export the model with standard operators, or with the operator defined as a function in the model"
        }
    };
    let node = if node.is_empty() {
        String::new()
    } else {
        format!(" (node {node})")
    };
    Err(Error::model(format!(
        "the operator {operator} of the domain {domain}{node} needs a library of custom operators, and Floe never loads one"
    ))
    .with_hint(hint))
}

fn too_many_nodes(nodes: usize) -> Result<()> {
    if nodes > MAX_NODES {
        return Err(Error::model(format!("the model has more than {MAX_NODES} nodes")));
    }
    Ok(())
}

/// Decodes one message of the model; `part` says which.
///
/// # Errors
/// `Model`, when it is damaged or has more fields than any real one.
pub fn decode<M: Message + Default>(bytes: &Bytes, part: Part) -> Result<M> {
    wire::check(bytes, part)?;
    M::decode(bytes.clone()).map_err(|cause| {
        Error::model(format!("the model is damaged: a {part} in it can't be read"))
            .with_source(cause)
            .with_hint("compare its size with the original's, or export it again")
    })
}
