//! Everything a run would check or decide, without running it: `floe check` and `floe plan`.

use serde::Serialize;

use super::scoring::Scoring;
use super::{Host, OutputStore, Places, Survey, rehearsal};
use crate::commit;
use crate::config::{Job, SaveMode};
use crate::error::{Error, ErrorKind, Result};
use crate::plan::assign;
use crate::storage::{Store, StoreClass, available_bytes};

/// What `floe check` found to be fine.
#[derive(Clone, Debug, Serialize)]
pub struct CheckReport {
    /// Backend and version.
    pub model: String,
    /// The function that would run.
    pub function: String,
    /// Input files.
    pub files: usize,
    /// Input rows.
    pub rows: u64,
    /// Units the input is cut into.
    pub units: usize,
    /// Columns of the input.
    pub input_columns: usize,
    /// `name type` of each column the model adds.
    pub output_columns: Vec<String>,
    /// Rows handed to the model at once.
    pub batch_rows: usize,
    /// Whether a run may find a better number by trial.
    pub batch_rows_may_change: bool,
    /// Workers, and threads of each.
    pub workers: usize,
    /// Threads of each worker.
    pub threads_per_worker: usize,
    /// Things worth knowing that are not errors.
    pub notes: Vec<String>,
}

/// Checks all a run would check: locations, permissions, model, input, their match, the output's state, free space.
/// The output is left as it was.
///
/// # Errors
/// Whatever a run would fail with before its first batch.
pub async fn check(job: &Job, host: &Host) -> Result<CheckReport> {
    let storage = host.storage(job)?;
    let places = Places::open(job, &storage).await?;
    let store = OutputStore::new(places.output.clone());
    let scoring = Scoring::open(job, host, &storage).await?;
    let survey = Survey::of(job, &places).await?;
    // The class makes no difference to what is checked.
    let plan = scoring.plan(job, "check", StoreClass::A, survey)?;
    scoring.bind(job, &plan)?;
    let mut notes = job.notes.clone();
    notes.extend(scoring.model.notes().iter().cloned());
    notes.extend(output_state(job, &store).await?);
    let (store_class, _as_found) = super::probe(&store).await?;
    if store_class == StoreClass::B {
        notes.push(store_class.meaning().to_string());
    }
    notes.extend(free_space(&places, plan.bytes()));
    let pool = scoring.pool;
    Ok(CheckReport {
        model: scoring.model.describe(),
        function: scoring.function.name.clone(),
        files: plan.inputs.len(),
        rows: plan.rows(),
        units: plan.units.len(),
        input_columns: plan.input_schema.fields().len(),
        output_columns: plan
            .outputs
            .iter()
            .map(|field| format!("{} {}", field.name(), field.data_type()))
            .collect(),
        batch_rows: plan.batch_rows,
        batch_rows_may_change: rehearsal::is_useful(job, &scoring, &plan),
        workers: pool.workers,
        threads_per_worker: pool.threads_per_worker,
        notes,
    })
}

/// What is in the output now, as far as it matters to the job.
async fn output_state(job: &Job, store: &OutputStore) -> Result<Option<String>> {
    let there = store.list("").await?;
    if there.is_empty() {
        return Ok(None);
    }
    let first: Vec<_> = there.iter().take(5).map(|entry| entry.key.as_str()).collect();
    let what = format!("the output holds {} objects: {}", there.len(), first.join(", "));
    let is_a_run = there
        .iter()
        .any(|entry| commit::layout::parse_epoch_key(&entry.key).is_some());
    match job.output.mode {
        SaveMode::Overwrite => Ok(Some(format!("{what}; they will be removed"))),
        SaveMode::Error if is_a_run => Ok(Some(format!(
            "{what}; a run with the same id goes on, another is refused"
        ))),
        SaveMode::Error => Err(Error::new(ErrorKind::NotEmpty, what)
            .with("location", store.location().display())
            .with_hint("choose another output, or set output.mode: overwrite")),
    }
}

fn free_space(places: &Places, needed: u64) -> Option<String> {
    let free = available_bytes(&places.output)?;
    (free < needed + needed / 4).then(|| {
        format!(
            "only {free} bytes are free at the output; the input has {needed}, and the output will have more"
        )
    })
}

/// Who would do what.
#[derive(Clone, Debug, Serialize)]
pub struct PlanReport {
    /// Input files.
    pub files: usize,
    /// Rows of all files.
    pub rows: u64,
    /// Compressed bytes of all row groups.
    pub bytes: u64,
    /// Units.
    pub units: usize,
    /// One entry per replica.
    pub replicas: Vec<ReplicaShare>,
}

/// The share of one replica.
#[derive(Clone, Debug, Serialize)]
pub struct ReplicaShare {
    /// Its index.
    pub replica: usize,
    /// Its units.
    pub units: Vec<UnitShare>,
    /// Rows of its units.
    pub rows: u64,
    /// Compressed bytes of its units.
    pub bytes: u64,
}

/// One unit, with the files it reads.
#[derive(Clone, Debug, Serialize)]
pub struct UnitShare {
    /// Its id.
    pub unit: u32,
    /// `path` or `path[first..end]` when it is a run of row groups.
    pub reads: Vec<String>,
    /// Rows.
    pub rows: u64,
    /// Compressed bytes.
    pub bytes: u64,
}

/// Plans the job for `replicas` replicas, without model or output.
///
/// # Errors
/// `Data`, `Config`, `Storage`, as a run would when it plans.
pub async fn plan(job: &Job, host: &Host, replicas: usize) -> Result<PlanReport> {
    let places = Places::open(job, &host.storage(job)?).await?;
    let survey = Survey::of(job, &places).await?;
    let units = &survey.units;
    let describe = |id: &u32| {
        let unit = &units[*id as usize];
        let reads = unit.parts.iter().map(|part| {
            let file = &survey.files[part.file as usize];
            if survey.reads_whole(part) {
                file.path.clone()
            } else {
                format!("{}[{}..{}]", file.path, part.first, part.end)
            }
        });
        UnitShare {
            unit: unit.id,
            reads: reads.collect(),
            rows: unit.rows,
            bytes: unit.bytes,
        }
    };
    let shares = assign::assign(units, replicas).into_iter().enumerate();
    let replicas = shares
        .map(|(replica, ids)| {
            let units: Vec<UnitShare> = ids.iter().map(describe).collect();
            ReplicaShare {
                replica,
                rows: units.iter().map(|unit| unit.rows).sum(),
                bytes: units.iter().map(|unit| unit.bytes).sum(),
                units,
            }
        })
        .collect();
    Ok(PlanReport {
        files: survey.files.len(),
        rows: units.iter().map(|unit| unit.rows).sum(),
        bytes: units.iter().map(|unit| unit.bytes).sum(),
        units: units.len(),
        replicas,
    })
}
