//! Floe: batch inference over Parquet, as one replica of a job runs it.
//!
//! Data flows through the modules in this order:
//!
//! ```text
//! config ─▶ plan ─▶ pipeline: read ▶ decode ▶ model ▶ write ─▶ commit
//! ```
//!
//! A [`config`] is what the user asked for. A [`plan`] cuts the input into units and pins that for all replicas. The
//! [`pipeline`] brings a replica's units ([`read`]), turns columns into tensors ([`decode`]), runs the [`model`] and
//! encodes the result ([`write`](mod@write)). [`commit`] stores each unit exactly once and writes `_SUCCESS` when all are there.
//! [`job::run`] ties them together and is the function to read first.
//!
//! Layers, who may import whom, and why things are as they are: `ARCHITECTURE.md`.

#![deny(unsafe_op_in_unsafe_fn)]
#![warn(missing_docs)]
// The pages are for those who work on Floe, and show private items: `make lint` builds them so.
#![allow(rustdoc::private_intra_doc_links)]

pub mod error;
pub mod origin;
pub mod redact;
pub mod signature;
pub mod tensor;

pub mod config;
pub mod plan;

pub mod decode;
pub mod model;
pub mod read;
pub mod write;

pub mod commit;
pub mod job;
pub mod pipeline;

pub mod storage;
pub mod telemetry;
