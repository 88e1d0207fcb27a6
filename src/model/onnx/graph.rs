//! An ONNX file is read and judged here before ONNX Runtime sees it.
//!
//! A model file is untrusted input, and the native library behind `ort` was not written to resist one: this
//! module refuses what must never reach it (weights in other files, operators of libraries that Floe never loads,
//! sizes that the file does not back with bytes, bombs of nested or recursive functions) with errors that say
//! what to do, and reads what describes the model: inputs, outputs, metadata.
//!
//! Nothing is allocated from a declared size, recursion is bounded, and arbitrary bytes give an error, never a
//! panic. What cannot be judged here (does it type-check, do the shapes fit) is left to ONNX Runtime.

use bytes::Bytes;
use prost::Message;
use std::collections::{BTreeMap, HashMap, HashSet};

use super::proto;
use super::tensors;
use super::wire::{self, Part};
use crate::error::{Error, Result};
use crate::model::foreign;
use crate::signature::Dim;
use crate::tensor::DType;

/// Largest file: protobuf itself allows no larger message.
pub const MAX_FILE_BYTES: usize = (2 << 30) - 1;
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

/// What a model file says about itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// The program that wrote it, e.g. `skl2onnx 1.19.1`; may be empty.
    pub producer: String,
    /// Operator set versions by domain; the default domain is `ai.onnx`.
    pub opsets: BTreeMap<String, i64>,
    /// Nodes, see [`MAX_NODES`].
    pub nodes: usize,
    /// It has trees whose sums ONNX Runtime rounds differently for another number of threads.
    pub has_tree_ensemble: bool,
    /// It quantises by the range of a whole batch, so a row's result depends on the rows beside it.
    pub quantises_by_batch: bool,
    /// Inputs that must be fed: those without an initializer, in the model's order.
    pub inputs: Vec<Declared>,
    /// Outputs in the model's order.
    pub outputs: Vec<Declared>,
    /// The metadata key `feature_names`, as it is.
    pub feature_names: Option<String>,
}

/// An input or output as the file declares it.
#[derive(Clone, Debug, PartialEq)]
pub struct Declared {
    /// The model's own name for it.
    pub name: String,
    /// Its type.
    pub kind: Kind,
}

/// The declared type of an input or output.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// A tensor; no shape at all means that even the number of axes is open.
    Tensor {
        /// Element type.
        dtype: DType,
        /// All axes, the batch included.
        shape: Option<Vec<Dim>>,
    },
    /// One map per row (`ZipMap`).
    Maps {
        /// int64 or string
        key: DType,
        /// float32
        value: DType,
    },
    /// A type that no column can hold, in words.
    Other(String),
    /// Nothing is declared; ONNX Runtime infers it.
    Undeclared,
}

/// Reads and judges the model file `bytes`.
///
/// # Errors
/// `Model`, for whatever the [module](self) refuses.
pub fn read(bytes: &Bytes) -> Result<Facts> {
    if bytes.len() > MAX_FILE_BYTES {
        return Err(Error::model(format!(
            "the file has {} bytes, and an ONNX model can have at most {MAX_FILE_BYTES}",
            bytes.len()
        )));
    }
    if let Some(format) = foreign::by_bytes(bytes) {
        return Err(foreign::refused(format, "the file"));
    }
    wire::check(bytes, Part::Model)?;
    let model = proto::Model::decode(bytes.clone()).map_err(|cause| {
        Error::model("not an ONNX model, or only a part of one")
            .with_source(cause)
            .with_hint("compare its size with the original's, or export it again")
    })?;
    let opsets = opsets(&model)?;
    let Some(graph) = &model.graph else {
        return Err(Error::model("the model holds no graph").with_hint("export it again"));
    };
    if model.ir_version < 1 || opsets.is_empty() {
        return Err(
            Error::model("not an ONNX model, or only a part of one: it names no version")
                .with_hint("compare its size with the original's, or export it again"),
        );
    }
    if !model.training_info.is_empty() {
        return Err(Error::model("the model holds training information").with_hint("export it for inference"));
    }

    let mut walk = Walk::new(&model.functions)?;
    let main = walk.graph(graph, 0)?;
    let nodes = walk.expanded(&main, 0)?;
    too_many_nodes(nodes)?;

    let inputs = fed_inputs(graph)?;
    let outputs = declared(&graph.output);
    if inputs.is_empty() || outputs.is_empty() {
        let missing = if outputs.is_empty() { "outputs" } else { "inputs" };
        return Err(Error::model(format!("the model has no {missing}"))
            .with_hint("Floe feeds a model rows and keeps what it returns for each"));
    }
    let feature_names = model
        .metadata_props
        .iter()
        .find(|entry| entry.key == "feature_names");
    let producer = format!("{} {}", model.producer_name, model.producer_version);
    Ok(Facts {
        producer: producer.trim().to_string(),
        opsets,
        nodes,
        has_tree_ensemble: walk.has_tree_ensemble,
        quantises_by_batch: walk.quantises_by_batch,
        inputs,
        outputs,
        feature_names: feature_names.map(|entry| entry.value.clone()),
    })
}

fn opsets(model: &proto::Model) -> Result<BTreeMap<String, i64>> {
    let mut opsets = BTreeMap::new();
    for import in &model.opset_import {
        let domain = if import.domain.is_empty() {
            "ai.onnx"
        } else {
            &import.domain
        };
        if import.version < 1 {
            return Err(Error::model(format!(
                "the model asks for version {} of the operator set {domain}",
                import.version
            )));
        }
        let before = opsets.insert(domain.to_string(), import.version);
        if before.is_some_and(|version| version != import.version) {
            return Err(Error::model(format!(
                "the model asks for two versions of the operator set {domain}"
            )));
        }
    }
    Ok(opsets)
}

/// Graph inputs that no initializer gives a value to (before IR version 4 every weight is listed as an input).
fn fed_inputs(graph: &proto::Graph) -> Result<Vec<Declared>> {
    let mut given = HashSet::new();
    for tensor in &graph.initializer {
        given.insert(decode::<proto::Tensor>(tensor, Part::Tensor)?.name);
    }
    for sparse in &graph.sparse_initializer {
        for tensor in &decode::<proto::SparseTensor>(sparse, Part::SparseTensor)?.values {
            given.insert(decode::<proto::Tensor>(tensor, Part::Tensor)?.name);
        }
    }
    let mut inputs = declared(&graph.input);
    inputs.retain(|input| !given.contains(&input.name));
    Ok(inputs)
}

fn declared(values: &[proto::ValueInfo]) -> Vec<Declared> {
    let one = |value: &proto::ValueInfo| Declared {
        name: value.name.clone(),
        kind: value.value_type.as_ref().map_or(Kind::Undeclared, kind),
    };
    values.iter().map(one).collect()
}

fn kind(declared: &proto::Type) -> Kind {
    if let Some(tensor) = &declared.tensor {
        return match (tensor.elem_type, tensors::dtype(tensor.elem_type)) {
            (_, Some(dtype)) => Kind::Tensor {
                dtype,
                shape: tensor
                    .shape
                    .as_ref()
                    .map(|shape| shape.dim.iter().map(axis).collect()),
            },
            (0, None) => Kind::Undeclared,
            (other, None) => Kind::Other(format!("tensor of {}", tensors::type_name(other))),
        };
    }
    if let Some(sequence) = &declared.sequence {
        let element = sequence.elem_type.as_deref();
        if let Some(map) = element.and_then(|element| element.map.as_deref()) {
            let value = map.value_type.as_deref().and_then(|value| value.tensor.as_ref());
            let value = value.and_then(|value| tensors::dtype(value.elem_type));
            let key = tensors::dtype(map.key_type);
            if let (Some(key @ (DType::I64 | DType::String)), Some(value @ DType::F32)) = (key, value) {
                return Kind::Maps { key, value };
            }
        }
    }
    match in_words(declared, 0) {
        Some(words) => Kind::Other(words),
        None => Kind::Undeclared,
    }
}

fn axis(dim: &proto::Dimension) -> Dim {
    match dim.dim_value.map(usize::try_from) {
        // Some exporters write 0 for an axis that is open.
        Some(Ok(extent)) if extent > 0 => Dim::Fixed(extent),
        _ => Dim::Dynamic,
    }
}

/// A type as `sequence of map from int64 to tensor of float32`; `None` when nothing is declared.
fn in_words(declared: &proto::Type, depth: usize) -> Option<String> {
    if depth > 4 {
        return Some("more".to_string());
    }
    let inner = |element: Option<&proto::Type>| {
        element
            .and_then(|element| in_words(element, depth + 1))
            .unwrap_or_else(|| "something".to_string())
    };
    if let Some(tensor) = &declared.tensor {
        Some(format!("tensor of {}", tensors::type_name(tensor.elem_type)))
    } else if let Some(sequence) = &declared.sequence {
        Some(format!("sequence of {}", inner(sequence.elem_type.as_deref())))
    } else if let Some(map) = &declared.map {
        let key = tensors::type_name(map.key_type);
        Some(format!("map from {key} to {}", inner(map.value_type.as_deref())))
    } else if let Some(optional) = &declared.optional {
        Some(format!("optional {}", inner(optional.elem_type.as_deref())))
    } else {
        declared
            .sparse_tensor
            .as_ref()
            .map(|sparse| format!("sparse tensor of {}", tensors::type_name(sparse.elem_type)))
    }
}

fn decode<M: Message + Default>(bytes: &Bytes, part: Part) -> Result<M> {
    wire::check(bytes, part)?;
    M::decode(bytes.clone()).map_err(|cause| {
        Error::model(format!("the model is damaged: a {part} in it can't be read"))
            .with_source(cause)
            .with_hint("compare its size with the original's, or export it again")
    })
}

fn too_many_nodes(nodes: usize) -> Result<()> {
    if nodes > MAX_NODES {
        return Err(Error::model(format!("the model has more than {MAX_NODES} nodes")));
    }
    Ok(())
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
            self.has_tree_ensemble |= node.op_type.starts_with("TreeEnsemble");
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
