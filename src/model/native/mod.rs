//! ONNX graphs that are trees, or dense layers, and little else: run here instead of by ONNX Runtime.
//!
//! ```text
//! file ─▶ proto: nodes, constants ─▶ cover: is every step known? ─▶ program: steps ─▶ worker
//!                                      ├─▶ ensemble: a node's trees as a forest, and what becomes of their sums
//!                                      └─▶ layers: nodes that follow each other as a dense network
//! ```
//!
//! A graph is covered whole or not at all; what is not covered is said in words and left to ONNX Runtime. The rules are
//! ONNX Runtime's own (`core/providers/cpu/ml/tree_ensemble_*.h`) where the standard leaves room, and [`trial`] makes
//! rows on which the two are compared before this is used.

pub(in crate::model) mod cover;
mod ensemble;
mod finish;
mod layers;
mod program;
mod proto;
mod steps;
mod table;
pub(in crate::model) mod trial;

pub(in crate::model) use cover::cover;
pub(in crate::model) use program::{NativeWorker, Program};

/// Why a graph is not covered, in words.
pub type Uncovered = String;
