//! Models: what turns input tensors into output values.
//!
//! [`open`] looks at the files of a model location and answers with a [`Loaded`] model: its functions with
//! their inputs and outputs, its digest, and a way to make one [`Model`] per worker. A backend knows nothing of
//! Parquet, stores or columns; it gets tensors in the order of its function's inputs and gives values in the
//! order of its outputs.
//!
//! A model file is untrusted input: it is checked (`onnx::graph`) before any native library sees it.

use bytes::Bytes;
use std::collections::BTreeMap;

use crate::config::{Backend, Device};
use crate::error::Result;
use crate::signature::Function;
use crate::tensor::{TensorBatch, Value};

pub mod card;
pub mod echo;
#[cfg(feature = "onnx")]
pub mod onnx;

/// The files of a model location, read once.
#[derive(Clone, Debug, Default)]
pub struct ModelFiles {
    /// As the user wrote it, for messages.
    pub location: String,
    /// Contents by path relative to the location; for a single file its own name.
    pub files: BTreeMap<String, Bytes>,
}

/// A loaded model. Cheap to ask, expensive to run: call [`Loaded::worker`] once per worker.
pub trait Loaded: Send + Sync {
    /// Backend and version, e.g. `onnx (ONNX Runtime 1.31.1)`.
    fn describe(&self) -> String;

    /// All functions, in the order of the model card.
    fn functions(&self) -> &[Function];

    /// Identity of everything that decides the outputs (weights, graph, card): `sha256:<hex>`.
    fn digest(&self) -> &str;

    /// Facts worth logging: what was inferred rather than declared.
    fn notes(&self) -> &[String];

    /// A model of `function` for one worker that uses `threads` cores.
    fn worker(&self, function: &Function, threads: usize) -> Result<Box<dyn Model>>;
}

/// One worker's own copy of a model function.
pub trait Model: Send {
    /// Runs one batch: one value per output of the function, each with `batch.rows` rows.
    ///
    /// # Errors
    /// `Model`, when the backend fails or returns another number of rows.
    fn infer(&mut self, batch: &TensorBatch) -> Result<Vec<Value>>;
}

/// How a model is to be opened.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// `None`: by what the location holds.
    pub backend: Option<Backend>,
    /// Where to run.
    pub device: Device,
    /// Where ONNX Runtime may be found, best first (see `onnx::runtime`).
    pub onnxruntime_paths: Vec<std::path::PathBuf>,
}
