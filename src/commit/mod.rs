//! Commit: `_SUCCESS` exists if and only if every input row is in the output exactly once.
//!
//! There is no coordinator and no rename. Replicas start late, run twice, die between any two operations and get no
//! answer to what they asked. All they share is a store with put-if-absent, and that is enough:
//!
//! - **One pinned plan.** Whoever creates the next *epoch* of the output pins, in the same object, the plan that
//!   every process of the run works from ([`claim`](mod@claim)). Old output is cleared once ([`prepare`](mod@prepare)).
//! - **Names that depend on run and unit only.** A unit's data object is created, never replaced; whoever comes
//!   second adopts what is stored. Then its *record* is created, whose name carries the facts ([`unit`](mod@unit)).
//! - **The marker by whoever sees every record.** Nobody waits for anybody; after its own last record each process
//!   lists, and at least one sees them all ([`finish`](mod@finish)).
//! - **No trust in answers.** After any create that didn't clearly succeed the key is read back, and what is stored
//!   counts. Deletions reach only what older runs wrote, and a *fence* (is there a newer epoch?) stands before them.
//!
//! On a store without put-if-absent ([class B](crate::storage::StoreClass::B)) the same parts go by weaker rules: only
//! replica 0 plans, objects are put and read back, torn ones are written again.
//!
//! These parts are state machines without I/O ([`machine`]); the functions of this page drive them on a
//! [`Store`]. A process of a run calls [`claim`](fn@claim) (or its two parts), then [`commit_unit`] for each of its units that
//! [`committed`] doesn't show, then [`finish`](fn@finish). [`verify`](fn@verify) checks a finished output from
//! outside. Steps, invariants and what no protocol can promise: `docs/commit-protocol.md`.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::{Map, Value};

use crate::config::SaveMode;
use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::storage::{Entry, Rope, Store, StoreClass};

pub mod claim;
pub mod confirm;
pub mod create;
pub mod digest;
pub mod driver;
pub mod epochs;
pub mod finish;
mod json;
pub mod layout;
pub mod machine;
pub mod notes;
pub mod prepare;
pub mod probe;
pub mod recall;
pub mod record;
mod refusal;
pub mod run_id;
mod seeded;
pub mod success;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
pub mod unit;
pub mod verify;

use driver::{Need, advance};
use machine::{Answer, Machine};

pub use layout::{MARKER, RecordName, STATE, data_key};
pub use probe::probe;
pub use record::{Checksum, OutputFile, Record};
pub use success::Success;
pub use verify::{Report, verify};

/// How many records are read at once: they are small, and the store is slow.
const RECORDS_AT_ONCE: usize = 16;

/// What a process wants with an output.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClaimRequest {
    /// The run; the same for all its replicas and restarts (see [`run_id`]).
    pub run_id: String,
    /// Digest of everything in the job that decides output bytes, the model's digest aside.
    pub config_digest: String,
    /// `sha256:<hex>` of the model.
    pub model_digest: String,
    /// The model function that runs, for the marker.
    pub function: Option<String>,
    /// What to do with what is in the output already.
    pub mode: SaveMode,
    /// In overwrite mode: supersede a run that has not finished.
    pub take_over: bool,
    /// Replica 0 plans at once; the others first look for its plan for a while.
    pub replica_index: u32,
    /// What the store can promise, as [`probe`](fn@probe) found; the plan of the run must say the same.
    pub store_class: StoreClass,
}

/// What came of a claim.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ClaimOutcome {
    /// The output is this run's.
    Claimed(Claimed),
    /// This very run has finished before, and its files are there: nothing is left to do.
    AlreadyComplete(Success),
}

/// A run's hold on an output.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Claimed {
    /// The run's place in the output's history.
    pub epoch: u64,
    /// The plan as pinned, which may be another than this process would have made. Names the run.
    pub plan: Arc<Plan>,
    /// `sha256:<hex>` of the plan as stored.
    pub plan_digest: String,
    /// The model function that runs.
    pub function: Option<String>,
    /// Whether another process, or an earlier life of this one, pinned the plan.
    pub resumed: bool,
    /// How many old objects this process removed.
    pub cleared: u64,
}

impl Claimed {
    /// What the store can promise, as all processes of the run found.
    pub fn store_class(&self) -> StoreClass {
        self.plan.store_class
    }

    /// The run's records in a listing of its record folder; see [`record::read_names`].
    pub(crate) fn records(&self, listing: &[Entry]) -> Result<BTreeMap<u32, RecordName>> {
        record::read_names(listing, self.epoch, &self.plan, &self.plan_digest)
    }
}

/// A data object about to be stored.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NewFile {
    /// Made by [`data_key`].
    pub path: String,
    /// The object.
    pub body: Rope,
    /// Rows in it.
    pub rows: u64,
    /// The [`Checksum`] of the body.
    pub checksum: Checksum,
}

impl NewFile {
    /// What a record says about it.
    fn facts(&self) -> OutputFile {
        OutputFile {
            path: self.path.clone(),
            bytes: self.body.len() as u64,
            rows: self.rows,
            checksum: self.checksum,
        }
    }
}

/// What came of committing a unit. In every case the unit is committed, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CommitOutcome {
    /// This attempt's objects were stored.
    Committed,
    /// Objects of another attempt (a twin, or an earlier life of this process) were there first and count.
    LostRace {
        /// Whether their bytes equal this attempt's. If not, the model isn't deterministic.
        same_bytes: bool,
    },
}

/// What came of finishing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Finished {
    /// `_SUCCESS` is stored, by this process or another.
    Complete(Success),
    /// Other processes have not committed these units yet. The last of them will finish the run.
    Incomplete {
        /// Units without a record.
        missing: Vec<u32>,
    },
    /// On a store of class B: objects of these units are committed, and missing or cut short. They can be mended by
    /// committing the units once more; what to do then is to finish again.
    Damaged {
        /// The units.
        units: Vec<u32>,
    },
}

/// Claims the output for a run and makes room in it: [`pin`], then [`prepare`](fn@prepare).
pub async fn claim<F>(
    store: &dyn Store,
    request: ClaimRequest,
    build_plan: impl FnOnce() -> F,
) -> Result<ClaimOutcome>
where
    F: Future<Output = Result<Plan>>,
{
    match pin(store, request, build_plan).await? {
        ClaimOutcome::Claimed(claimed) => prepare(store, claimed).await,
        complete => Ok(complete),
    }
}

/// Claims the output for a run: resumes, or pins the plan that `build_plan` makes if the mode allows it.
/// `build_plan` is called at most once, and only if no process of the run has pinned a plan yet.
///
/// Errors: [`NotEmpty`](crate::error::ErrorKind::NotEmpty) and
/// [`Superseded`](crate::error::ErrorKind::Superseded) before anything is changed, `Config` if the run was started
/// with another job or model, `Storage`, and those of `build_plan`.
pub async fn pin<F>(
    store: &dyn Store,
    request: ClaimRequest,
    build_plan: impl FnOnce() -> F,
) -> Result<ClaimOutcome>
where
    F: Future<Output = Result<Plan>>,
{
    let mut build_plan = Some(build_plan);
    let mut machine = claim::Claim::new(request);
    loop {
        match advance(&mut machine, store).await? {
            Need::Plan => {
                let build = build_plan.take().ok_or_else(|| unexpected("a second plan"))?;
                machine.apply(Answer::Planned(Box::new(build().await?)))?;
            }
            Need::Rows { .. } => return Err(unexpected("a row count")),
            Need::Done(outcome) => return Ok(outcome),
        }
    }
}

/// Makes room for the run that holds the output, unless that has been done. Nothing may be stored in the output before.
///
/// Errors: [`NotEmpty`](crate::error::ErrorKind::NotEmpty), [`Superseded`](crate::error::ErrorKind::Superseded), `Storage`.
pub async fn prepare(store: &dyn Store, claimed: Claimed) -> Result<ClaimOutcome> {
    match advance(&mut prepare::Prepare::new(claimed), store).await? {
        Need::Done(ClaimOutcome::Claimed(claimed)) => {
            tracing::info!(
                epoch = claimed.epoch,
                units = claimed.plan.units.len(),
                rows = claimed.plan.rows(),
                resumed = claimed.resumed,
                cleared = claimed.cleared,
                "output claimed"
            );
            Ok(ClaimOutcome::Claimed(claimed))
        }
        Need::Done(complete) => Ok(complete),
        Need::Plan | Need::Rows { .. } => Err(unexpected("a plan or a row count")),
    }
}

/// The units that have been committed so far, by this process or any other.
pub async fn committed(store: &dyn Store, claimed: &Claimed) -> Result<BTreeMap<u32, RecordName>> {
    let listing = store.list(&layout::records_folder(claimed.epoch)).await?;
    whole_records(store, claimed, &listing).await
}

/// The records in a listing. On class B the writer of one may have been killed over its body, which makes it none where
/// the body is needed; elsewhere the name says it all, and is there or isn't.
async fn whole_records(
    store: &dyn Store,
    claimed: &Claimed,
    listing: &[Entry],
) -> Result<BTreeMap<u32, RecordName>> {
    let mut records = claimed.records(listing)?;
    if claimed.store_class() == StoreClass::A {
        return Ok(records);
    }
    let needed = |name: &&RecordName| record::files_of_name(name, &claimed.plan.run_id).is_none();
    let needed: Vec<RecordName> = records.values().filter(needed).copied().collect();
    let mut bodies = stream::iter(needed)
        .map(|name| async move { Ok::<_, Error>((name, store.get(&name.key(claimed.epoch)).await?)) })
        .buffer_unordered(RECORDS_AT_ONCE);
    while let Some((name, body)) = bodies.try_next().await? {
        if body.is_none_or(|body| Record::read(&body, name, claimed.epoch).is_err()) {
            records.remove(&name.unit);
        }
    }
    drop(bodies);
    Ok(records)
}

/// Commits `unit`, whose output is `files` (none if it has no rows). `stats` are kept in the record for people.
///
/// `check_stored` returns the rows of an object that another attempt stored, or an error if it can't be read; it is
/// called only if that object's bytes differ from this attempt's.
pub async fn commit_unit(
    store: &dyn Store,
    claimed: &Claimed,
    unit: u32,
    files: Vec<NewFile>,
    stats: Map<String, Value>,
    check_stored: &(dyn Fn(&Bytes) -> Result<u64> + Send + Sync),
) -> Result<CommitOutcome> {
    let mut machine = unit::CommitUnit::new(claimed.clone(), unit, files, stats)?;
    let outcome = loop {
        match advance(&mut machine, store).await? {
            Need::Rows { key, body } => {
                let rows = check_stored(&body).map_err(|error| error.with("key", key).with("unit", unit))?;
                machine.apply(Answer::Rows(rows))?;
            }
            Need::Plan => return Err(unexpected("a plan")),
            Need::Done(outcome) => break outcome,
        }
    };
    match outcome {
        CommitOutcome::LostRace { same_bytes: false } => tracing::warn!(
            unit,
            kind = "nondeterministic_model",
            "another attempt stored other bytes for this unit first; they count"
        ),
        CommitOutcome::LostRace { same_bytes: true } => {
            tracing::info!(unit, "another attempt stored this unit first");
        }
        CommitOutcome::Committed => tracing::debug!(unit, "unit committed"),
    }
    Ok(outcome)
}

/// Writes `_SUCCESS` if every unit of the plan is committed and the output holds nothing else. To be called after
/// this process's last [`commit_unit`].
pub async fn finish(store: &dyn Store, claimed: &Claimed) -> Result<Finished> {
    match advance(&mut finish::Finish::new(claimed.clone()), store).await? {
        Need::Done(finished) => Ok(finished),
        Need::Plan | Need::Rows { .. } => Err(unexpected("a plan or a row count")),
    }
}

fn unexpected(what: &str) -> Error {
    Error::internal(format!("the commit protocol asked for {what} out of turn"))
}
