//! A network: the part of a model between pre- and post-processing, whoever computes it.
//!
//! Text and image tasks turn rows into dense tensors, call a [`Network`], and turn what comes back into columns. Candle
//! and ONNX Runtime both offer networks, so that a task is written once and gives the same answers over both.

use std::sync::Arc;

use super::pretrained::{Pretrained, Weights};
use super::{Engine, ModelFiles, OpenOptions};
use crate::error::Result;
use crate::tensor::Tensor;

/// A tensor with the name that the architecture's own code gives it, e.g. `input_ids`, `pixel_values`, `logits`.
#[derive(Clone, Debug, PartialEq)]
pub struct Named {
    /// The name.
    pub name: String,
    /// `[rows, ...]`
    pub tensor: Tensor,
}

/// The weights of a network, loaded once and shared by all workers.
pub trait Networks: Send + Sync {
    /// Who computes, with its version and device, e.g. `candle 0.11 on cpu`.
    fn describe(&self) -> String;

    /// Whether its workers take turns at a few models on GPUs.
    fn is_on_gpus(&self) -> bool {
        false
    }

    /// The inputs it takes: others are not given to it.
    fn inputs(&self) -> &[String];

    /// A network for one worker that uses `threads` cores.
    ///
    /// # Errors
    /// `Model`, when it can't be made.
    fn network(self: Arc<Self>, threads: usize) -> Result<Box<dyn Network>>;
}

/// One worker's way to run a network.
pub trait Network: Send {
    /// Runs the rows of one batch: all inputs have the same number of rows, and so have all outputs.
    ///
    /// Texts are `int64 [rows, tokens]`, padded at the end; images are `float32 [rows, channels, height, width]`.
    ///
    /// # Errors
    /// `Model`, when the backend fails.
    fn run(&mut self, inputs: Vec<Named>) -> Result<Vec<Named>>;

    /// Whether padding of texts is computed as well.
    fn pads(&self) -> bool {
        true
    }
}

/// The network of a pretrained model, and who computes it: that goes by how its weights are stored.
///
/// # Errors
/// `Model`, for an architecture without code and weights that are missing or damaged; `Config`, for a device, precision or
/// execution provider that can't be had, or when this build lacks the backend.
pub fn open(
    files: &ModelFiles,
    pretrained: &Pretrained,
    options: &OpenOptions,
) -> Result<(Arc<dyn Networks>, Engine)> {
    match &pretrained.weights {
        Weights::Safetensors(_) => Ok((safetensors(files, pretrained, options)?, Engine::Candle)),
        Weights::Onnx(path) => Ok((graph(files, path, options)?, Engine::OnnxRuntime)),
    }
}

#[cfg(feature = "candle")]
use super::candle::open as safetensors;
#[cfg(feature = "onnx")]
use super::onnx::network::open as graph;

#[cfg(not(feature = "candle"))]
fn safetensors(_: &ModelFiles, _: &Pretrained, _: &OpenOptions) -> Result<Arc<dyn Networks>> {
    Err(not_in_this_build("safetensors", "candle"))
}

#[cfg(not(feature = "onnx"))]
fn graph(_: &ModelFiles, _: &str, _: &OpenOptions) -> Result<Arc<dyn Networks>> {
    Err(not_in_this_build("an ONNX graph", "onnx"))
}

#[cfg(not(all(feature = "candle", feature = "onnx")))]
fn not_in_this_build(weights: &str, feature: &str) -> crate::error::Error {
    crate::error::Error::config(format!(
        "the model's weights are {weights}, which this build can't compute"
    ))
    .with_hint(format!("rebuild with --features {feature}"))
}
