//! The marker, `_SUCCESS`: its presence says that every input row is in the output exactly once.
//!
//! Its content is a function of plan and records alone (no time, no replica), so that several replicas may write it
//! and it doesn't matter who was first. It lists every data object with size, rows and checksum, so that a finished
//! output can be verified even after the state folder has been removed.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::Claimed;
use super::json::{self, MAX_PLAN_BYTES};
use super::layout::MARKER;
use super::record::OutputFile;
use crate::error::{Error, Result};
use crate::storage::{Entry, StoreClass};

/// Version of the marker's JSON form.
pub const FORMAT: u32 = 1;

/// What `_SUCCESS` says.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Success {
    /// [`FORMAT`]
    pub format: u32,
    /// The run.
    pub run_id: String,
    /// The job.
    pub job_name: String,
    /// The run's epoch.
    pub epoch: u64,
    /// Digest of the plan as stored.
    pub plan_digest: String,
    /// Digest of everything in the job that decides output bytes, the model's digest aside.
    pub config_digest: String,
    /// `sha256:<hex>` of the model.
    pub model_digest: String,
    /// The model function that ran, where the model names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// What ran.
    pub versions: Versions,
    /// What the output's store could promise.
    #[serde(default)]
    pub store_class: StoreClass,
    /// How many units the plan has.
    pub units: u32,
    /// Rows of all data objects.
    pub rows: u64,
    /// Every data object, sorted by path.
    pub files: Vec<OutputFile>,
}

/// Versions of what ran.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Versions {
    /// The worker that made the plan.
    pub worker: String,
}

/// Whose marker it is: all that can be asked of one that another version may have written.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Owner {
    /// The run.
    pub run_id: String,
    /// The run's epoch.
    pub epoch: u64,
}

impl Owner {
    /// `None` for a marker that floe didn't write.
    pub fn of(marker: &[u8]) -> Option<Owner> {
        json::peek(marker)
    }
}

impl Success {
    /// The marker of a run whose records name `files`.
    pub fn new(claimed: &Claimed, mut files: Vec<OutputFile>) -> Success {
        files.sort();
        Success {
            format: FORMAT,
            run_id: claimed.plan.run_id.clone(),
            job_name: claimed.plan.job_name.clone(),
            epoch: claimed.epoch,
            plan_digest: claimed.plan_digest.clone(),
            config_digest: claimed.plan.config_digest.clone(),
            model_digest: claimed.plan.model_digest.clone(),
            function: claimed.function.clone(),
            versions: Versions {
                worker: claimed.plan.worker_version.clone(),
            },
            store_class: claimed.plan.store_class,
            units: claimed.plan.units.len() as u32,
            rows: files.iter().map(|file| file.rows).sum(),
            files,
        }
    }

    /// Reads a marker back.
    pub fn read(body: &[u8]) -> Result<Success> {
        json::read(body, MARKER, FORMAT, MAX_PLAN_BYTES)
    }

    /// The marker's bytes: for people as well, so one key a line.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).expect("a marker has only string keys")
    }

    /// Whether `marker` is this run's, for this plan.
    pub fn is_of(marker: &[u8], claimed: &Claimed) -> bool {
        Owner::of(marker)
            .is_some_and(|owner| owner.run_id == claimed.plan.run_id && owner.epoch == claimed.epoch)
    }

    /// Fails if a listing of the output lacks one of the objects or has it in another size.
    pub fn check_sizes(&self, listing: &[Entry]) -> Result<()> {
        check_sizes(&self.files, listing)
    }
}

/// Fails if `listing` lacks one of `files` or has it in another size.
pub fn check_sizes(files: &[OutputFile], listing: &[Entry]) -> Result<()> {
    let sizes: BTreeMap<&str, u64> = listing
        .iter()
        .map(|entry| (entry.key.as_str(), entry.size))
        .collect();
    for file in files {
        let size = sizes.get(file.path.as_str()).copied();
        if size != Some(file.bytes) {
            return Err(damaged(&file.path, size, file.bytes));
        }
    }
    Ok(())
}

/// A data object that was committed is not as it was.
pub fn damaged(key: &str, size: Option<u64>, expected: u64) -> Error {
    let what = match size {
        None => "a committed data object is missing".to_string(),
        Some(size) => format!("a committed data object has {size} bytes instead of {expected}"),
    };
    Error::storage(what)
        .with("key", key)
        .with_hint("something other than this run changed the output; start a new run")
}
