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
use std::collections::{BTreeMap, HashSet};

use super::proto;
use super::tensors;
use super::walk::{self, decode};
use super::wire::{self, Part};
use crate::error::{Error, Result};
use crate::model::foreign;
use crate::signature::Dim;
use crate::tensor::DType;

/// Largest file: protobuf itself allows no larger message.
pub const MAX_FILE_BYTES: usize = (2 << 30) - 1;

/// What a model file says about itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// The program that wrote it, e.g. `skl2onnx 1.19.1`; may be empty.
    pub producer: String,
    /// Operator set versions by domain; the default domain is `ai.onnx`.
    pub opsets: BTreeMap<String, i64>,
    /// Nodes, see [`MAX_NODES`](walk::MAX_NODES).
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

    let walked = walk::judge(graph, &model.functions)?;

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
        nodes: walked.nodes,
        has_tree_ensemble: walked.has_tree_ensemble,
        quantises_by_batch: walked.quantises_by_batch,
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
