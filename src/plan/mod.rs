//! The plan: which objects a run reads, cut into units, pinned once for all replicas.
//!
//! Planning is pure: a listing with footers goes in, a [`Plan`] comes out, and [`assign`] says which replica does
//! which unit. There is no clock, no randomness and no store here. Units depend on the input and the job only, never
//! on the number of replicas, threads or memory, so that a restart with another number finds the same units.

use arrow_schema::{Field, Schema};
use serde::{Deserialize, Serialize};

use crate::config::SaveMode;
use crate::model::Engine;
use crate::storage::{Listed, StoreClass};

pub mod assign;
pub mod help;
pub mod list;
pub mod schema;
pub mod units;

/// Version of the plan's JSON form. A worker that meets another one stops before it writes anything.
pub const FORMAT: u32 = 1;

/// What a run does, pinned by put-if-absent; every replica and every restart works from the same one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// [`FORMAT`]
    pub format: u32,
    /// The run that owns the plan.
    pub run_id: String,
    /// The job's name.
    pub job_name: String,
    /// What the run does with what is in the output already.
    pub mode: SaveMode,
    /// What the output's store can promise, as whoever planned found out; every replica must find the same.
    #[serde(default)]
    pub store_class: StoreClass,
    /// Digest of everything in the job that decides output bytes, the model's digest aside.
    pub config_digest: String,
    /// `sha256:<hex>` of the model.
    pub model_digest: String,
    /// Version of the worker that made the plan.
    pub worker_version: String,
    /// Most rows handed to the model at once. Pinned because the last bits of a prediction may depend on it.
    pub batch_rows: usize,
    /// Most rows of a block for a model that arranges them in batches of `batch_rows` itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_rows: Option<usize>,
    /// Who computes the model, where several can: pinned for the same reason.
    pub engine: Engine,
    /// Whether it is computed on GPUs, which round otherwise than processors.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub on_gpus: bool,
    /// The input's Arrow schema: what every file was checked against.
    pub input_schema: Schema,
    /// The columns the model adds, in order.
    pub outputs: Vec<Field>,
    /// Input objects, sorted by path.
    pub inputs: Vec<PlannedFile>,
    /// Units, sorted by their first file and row group; a unit's id is its position.
    pub units: Vec<Unit>,
}

/// An input object and its identity when the plan was made.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedFile {
    /// Path relative to the input location.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// The store's entity tag, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// Last modification, RFC 3339.
    pub modified: String,
    /// Rows, from the footer.
    pub rows: u64,
}

/// The smallest piece that is committed: a file, a run of row groups of a big file, or several tiny files.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unit {
    /// Position in the plan.
    pub id: u32,
    /// What it reads, in order.
    pub parts: Vec<Part>,
    /// Rows of all parts.
    pub rows: u64,
    /// Compressed bytes of all parts: the unit's weight when units are shared out.
    pub bytes: u64,
}

/// Row groups `[first, end)` of one input file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Index into the plan's `inputs`.
    pub file: u32,
    /// First row group.
    pub first: u32,
    /// One past the last row group.
    pub end: u32,
}

impl PlannedFile {
    /// A listed file of so many rows.
    pub fn new(listed: Listed, rows: u64) -> PlannedFile {
        PlannedFile {
            path: listed.path,
            size: listed.size,
            etag: listed.etag,
            modified: listed.modified,
            rows,
        }
    }
}

impl Plan {
    /// Rows of all units.
    pub fn rows(&self) -> u64 {
        self.units.iter().map(|unit| unit.rows).sum()
    }

    /// Compressed bytes of all units.
    pub fn bytes(&self) -> u64 {
        self.units.iter().map(|unit| unit.bytes).sum()
    }

    /// Compressed bytes of the largest unit.
    pub fn largest_unit_bytes(&self) -> u64 {
        self.units.iter().map(|unit| unit.bytes).max().unwrap_or(0)
    }
}
