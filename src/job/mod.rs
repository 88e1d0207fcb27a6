//! A job, as one replica runs it: plan → pipeline → commit. [`run`] is the function to read first.
//!
//! Everything that can be checked is checked before the output is touched: locations ([`places`]), the model and its
//! match with the input ([`scoring`]), the input itself ([`survey`]). Then the run is claimed, which pins the plan;
//! the replica's share of the units goes through the pipeline; each finished unit is committed; and whoever sees that
//! all units of the plan are committed writes `_SUCCESS`.

mod budget;
mod check;
mod digest;
mod ending;
#[cfg(feature = "fail-points")]
pub mod failpoint;
mod opening;
mod places;
mod queue;
mod rehearsal;
mod scoring;
mod survey;

use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, watch};

pub use check::{CheckReport, PlanReport, check, plan};
pub use places::Places;
pub use scoring::open_model;
pub use survey::Survey;

use crate::commit::notes;
use crate::commit::recall::{self, Recall, Seen};
use crate::commit::{self, Checksum, ClaimOutcome, Claimed, CommitOutcome, NewFile};
use crate::config::Job;
use crate::error::{Error, ErrorKind, Result};
use crate::pipeline::{Ended, FinishedUnit, Pipeline, gauge};
use crate::plan::{Plan, Unit};
use crate::read::{Footer, Reader};
#[cfg(not(feature = "fail-points"))]
use crate::storage::OutputStore;
use crate::storage::{Storage, StoreClass, Variables};
use crate::telemetry::metrics::{Metrics, Stage};
use crate::write;
#[cfg(feature = "fail-points")]
use failpoint::OutputStore;
use opening::{EarlySurvey, Room, Worked};
use queue::{Primed, UnitQueue};
use rehearsal::Rehearsal;
use scoring::Scoring;

/// What the machine gives a job.
#[derive(Clone, Debug)]
pub struct Host {
    /// Cores this process may use: the cgroup's quota, not the machine's.
    pub cpus: usize,
    /// Bytes this process may use.
    pub memory_bytes: u64,
    /// Where ONNX Runtime may be found, best first.
    pub onnxruntime_paths: Vec<PathBuf>,
    /// What the environment says about stores.
    pub variables: Variables,
}

impl Host {
    /// The stores that a job can reach from here.
    ///
    /// # Errors
    /// `Config` when the job sets an option that no store knows.
    pub fn storage(&self, job: &Job) -> Result<Storage> {
        Storage::new(job.storage.clone(), self.variables.clone())
    }
}

/// What one replica's run came to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// The run.
    pub run_id: String,
    /// The run's position in the history of the output.
    pub epoch: u64,
    /// Index of this replica.
    pub replica: usize,
    /// Number of replicas.
    pub replicas: usize,
    /// Units this replica was responsible for, and their rows.
    pub units: usize,
    /// Rows of those units.
    pub rows: u64,
    /// Units of other replicas that this one took when its own were done.
    pub units_helped: usize,
    /// Whether `_SUCCESS` is in place.
    pub complete: bool,
    /// Units of the plan that nobody has committed yet.
    pub units_missing: usize,
    /// Rows of the whole output, once it is complete.
    pub total_rows: Option<u64>,
}

/// Runs one replica's part of the job. `stop` asks it to end early; what was committed stays.
///
/// # Errors
/// Every [`ErrorKind`]; an error before the claim leaves the output as it was.
pub async fn run(
    job: &Job,
    host: &Host,
    metrics: &Arc<Metrics>,
    stop: watch::Receiver<bool>,
) -> Result<Outcome> {
    // Replica 0 plans at once, if nobody has.
    let mut replica = Replica::open(job, host, metrics, job.replica.index == 0).await?;
    let (claimed, footers) = match replica.claim().await? {
        (ClaimOutcome::Claimed(claimed), footers) => (claimed, footers),
        (ClaimOutcome::AlreadyComplete(success), _) => return Ok(replica.already_complete(&success)),
    };
    replica.scoring = replica
        .scoring
        .placed_by(&claimed.plan, job, host, &host.storage(job)?)
        .await?;
    let queue = replica.queue(&claimed).await?;
    let (board, share) = (queue.board(), Share::of(&queue));
    let room = Room::new(claimed.resumed);
    let score = |stop| replica.score(&claimed, footers, queue, &room, stop);
    let worked = room.make_during(&replica.store, &claimed, stop.clone(), score);
    let ended = match worked.await? {
        Worked::Done(ended) => ended,
        Worked::Needless(success) => return Ok(replica.already_complete(&success)),
    };
    if ended == Ended::Stopped && !share.is_committed(&replica.store, &claimed).await? {
        return Err(stopped("stopped before all units of this replica were done"));
    }
    let finished = replica.finish(&claimed, stop).await?;
    replica.outcome(&claimed, &share, board.helped(), finished)
}

fn stopped(what: &str) -> Error {
    Error::new(ErrorKind::Interrupted, what)
        .with_hint("start the same run again: it goes on from its records")
}

/// The run that the replicas of this job would belong to; for a launcher that starts them all.
///
/// # Errors
/// As [`run`], up to the claim.
pub async fn run_id(job: &Job, host: &Host, metrics: &Arc<Metrics>) -> Result<String> {
    // The launcher alone settles the id, however many processes then use it.
    let replica = Replica::open(job, host, metrics, false).await?;
    replica.settle_run_id(1).await
}

/// One replica at work: the job with everything that was opened and checked for it.
struct Replica<'a> {
    job: &'a Job,
    metrics: &'a Arc<Metrics>,
    places: Places,
    store: OutputStore,
    store_class: StoreClass,
    scoring: Scoring,
    /// What the output held at the start.
    seen: Seen,
    survey: EarlySurvey,
    began: Instant,
    _as_found: AsFound,
}

impl<'a> Replica<'a> {
    /// Opens locations and model; tries whether the output can do what the protocol needs, before anything costs time.
    /// All that only has to be waited for is asked for at once; of several things that are wrong the output's comes first.
    /// `plans`: whether the input will be wanted, as far as can be known.
    async fn open(
        job: &'a Job,
        host: &'a Host,
        metrics: &'a Arc<Metrics>,
        plans: bool,
    ) -> Result<Replica<'a>> {
        let began = Instant::now();
        let storage = host.storage(job)?;
        let places = Places::open(job, &storage).await?;
        let store = OutputStore::new(places.output.clone());
        let survey = EarlySurvey::begin(job, &places, plans);
        let (probed, scoring, seen) = tokio::join!(
            probe(&store),
            Scoring::open(job, host, &storage),
            recall::look(&store, job.output.mode)
        );
        let (store_class, as_found) = probed?;
        let store = store.with_class(store_class);
        match store_class {
            StoreClass::A => tracing::debug!(%store_class, "{}", store_class.meaning()),
            StoreClass::B => tracing::info!(%store_class, "{}", store_class.meaning()),
        }
        Ok(Replica {
            job,
            metrics,
            places,
            store,
            store_class,
            scoring: scoring?,
            seen: seen?,
            survey,
            began,
            _as_found: as_found,
        })
    }

    /// The id given by the launcher, or one derived so that a restart finds its own run again. `deriving` processes
    /// derive it on their own.
    async fn settle_run_id(&self, deriving: usize) -> Result<String> {
        let (job, output) = (self.job, self.store.location());
        let absolute = output.local_path().map(|path| path.display().to_string());
        let known = commit::run_id::Known {
            given: job.run_id.as_deref(),
            platform_job: job.platform_job.as_deref(),
            job_name: job.name_given.then_some(job.name.as_str()),
            output: absolute.as_deref().unwrap_or(output.display()),
            config_digest: &self.scoring.config_digest,
            model_digest: self.scoring.model.digest(),
            mode: job.output.mode,
            replicas: deriving as u32,
        };
        let derived = commit::run_id::derive(&known)?;
        let fresh = uuid::Uuid::new_v4().simple().to_string();
        let store = Recall::new(&self.store, self.seen.clone());
        commit::run_id::settle(&store, derived, job.output.mode, &fresh[..8]).await
    }

    /// Claims the output; plans the input if no replica of the run has. Footers read on the way are worth keeping. Room is
    /// made in the output, except for a run that this process has just begun: there it can wait.
    async fn claim(&self) -> Result<(ClaimOutcome, Vec<Arc<Footer>>)> {
        let job = self.job;
        let run_id = self.settle_run_id(job.replica.count).await?;
        let request = commit::ClaimRequest {
            run_id: run_id.clone(),
            config_digest: self.scoring.config_digest.clone(),
            model_digest: self.scoring.model.digest().to_string(),
            function: Some(self.scoring.function.name.clone()),
            mode: job.output.mode,
            take_over: job.output.take_over,
            replica_index: job.replica.index as u32,
            store_class: self.store_class,
        };
        let footers = Mutex::new(Vec::new());
        let store = Recall::new(&self.store, self.seen.clone());
        let outcome = commit::pin(&store, request, || async {
            let survey = self.survey.finish(job, &self.places).await?;
            let kept = survey.footers.clone();
            *footers.lock().await = kept.clone();
            let mut plan = self.scoring.plan(job, &run_id, self.store_class, survey)?;
            let settled = self.rehearsal(&plan, &kept).settle().await?;
            (plan.batch_rows, plan.engine) = (settled.batch_rows, settled.engine);
            Ok(plan)
        });
        let outcome = outcome.await;
        self.survey.give_up();
        let outcome = match outcome? {
            ClaimOutcome::Claimed(claimed) if claimed.resumed => {
                commit::prepare(&self.store, claimed).await?
            }
            outcome => outcome,
        };
        Ok((outcome, footers.into_inner()))
    }

    fn rehearsal<'b>(&'b self, plan: &'b Plan, footers: &'b [Arc<Footer>]) -> Rehearsal<'b> {
        Rehearsal {
            job: self.job,
            scoring: &self.scoring,
            input: &self.places.input,
            plan,
            footers,
            workers: self.scoring.pool.workers,
        }
    }

    /// The units of this replica, those that are not committed yet first; then, if it helps, those of others.
    async fn queue(&self, claimed: &Claimed) -> Result<UnitQueue> {
        let (plan, replica) = (&claimed.plan, self.job.replica);
        let queue = UnitQueue::new(
            self.store.clone(),
            claimed.clone(),
            replica,
            // One more waits for its turn.
            gauge::units_in_work(self.scoring.pool.workers) + 1,
            self.job.inference.help,
            self.metrics.clone(),
        )
        .await?;
        let own = queue.own();
        let done = || own.iter().filter(|(_, committed)| *committed);
        self.metrics.units_total.set(own.len() as u64);
        self.metrics.rows_total.set(rows_of(own.iter()));
        self.metrics.units_skipped.set(done().count() as u64);
        self.metrics.rows_skipped.set(rows_of(done()));
        tracing::info!(
            run_id = %plan.run_id,
            epoch = claimed.epoch,
            replicas = replica.count,
            files = plan.inputs.len(),
            rows = plan.rows(),
            units = own.len(),
            units_committed_before = done().count(),
            resumed = claimed.resumed,
            "starting this replica's units"
        );
        Ok(queue)
    }

    /// Scores and commits the units of the queue.
    async fn score(
        &self,
        claimed: &Claimed,
        footers: Vec<Arc<Footer>>,
        queue: UnitQueue,
        room: &Room,
        mut stop: watch::Receiver<bool>,
    ) -> Result<Ended> {
        // A replica that finds nothing to do has no use for workers and their models.
        let board = queue.board();
        let mut queue = Primed::new(queue);
        tokio::select! {
            first = queue.prime() => if !first? { return Ok(Ended::Complete) },
            true = asked_to_stop(&mut stop) => return Ok(Ended::Stopped),
        }
        let pipeline = self.pipeline(claimed, footers).await?;
        pipeline
            .run(queue, stop, async |unit| {
                let id = unit.unit.id;
                room.wait().await?;
                self.commit_unit(claimed, unit, Some(board.held(id))).await?;
                board.committed(id);
                Ok(())
            })
            .await
    }

    /// What takes units through reading, scoring and encoding, with models of its own.
    async fn pipeline(&self, claimed: &Claimed, footers: Vec<Arc<Footer>>) -> Result<Pipeline> {
        let plan: &Arc<Plan> = &claimed.plan;
        let bound = self.scoring.bind(self.job, plan)?;
        let pool = self.scoring.pool;
        let on_disk = self.places.input.is_on_disk() && self.places.output.is_on_disk();
        let models = self
            .scoring
            .workers(pool.workers, pool.threads_per_worker, plan)
            .await?;
        Ok(Pipeline {
            reader: Reader::new(self.places.input.clone(), plan.clone(), footers)
                .splicing(bound.form.clone(), bound.inputs.clone()),
            decoder: bound.decoder,
            outputs: bound.outputs,
            inputs: bound.inputs,
            contents: bound.contents,
            form: bound.form,
            batch_rows: plan.batch_rows,
            models,
            memory_bytes: gauge::limit(
                pool.memory_bytes,
                pool.workers,
                plan.largest_unit_bytes(),
                on_disk,
            ),
            grace: Duration::from_secs_f64(self.job.inference.grace_secs),
            metrics: self.metrics.clone(),
            job_began: self.began,
        })
    }

    /// Stores a finished unit and its record. `took`: how long this replica had it in hand.
    async fn commit_unit(
        &self,
        claimed: &Claimed,
        finished: FinishedUnit,
        took: Option<Duration>,
    ) -> Result<()> {
        let _timer = self.metrics.timer(Stage::Commit);
        let unit = &finished.unit;
        let in_unit = |error: Error| error.with("unit", unit.id);
        let rows: u64 = finished.files.iter().map(|file| file.rows).sum();
        if rows != unit.rows {
            return Err(in_unit(Error::internal(format!(
                "{rows} rows came out where {} went in",
                unit.rows
            ))));
        }
        let files: Vec<NewFile> = finished
            .files
            .iter()
            .map(|file| NewFile {
                path: commit::data_key(&file.folder, unit.id, &claimed.plan.run_id),
                body: file.bytes.clone(),
                rows: file.rows,
                checksum: Checksum::of_rope(&file.bytes),
            })
            .collect();
        let mut stats = serde_json::Map::new();
        stats.insert("replica".into(), self.job.replica.index.into());
        if let Some(took) = took {
            stats.insert(notes::TOOK_SECS.into(), took.as_secs_f64().into());
        }
        for (stage, secs) in &finished.stage_secs {
            stats.insert(format!("{stage}_secs"), (*secs).into());
        }
        let outcome = commit::commit_unit(&self.store, claimed, unit.id, files, stats, &write::inspect::rows)
            .await
            .map_err(in_unit)?;
        if matches!(outcome, CommitOutcome::LostRace { .. }) {
            self.metrics.lost_races.add(1);
        } else {
            self.metrics.units_committed.add(1);
        }
        for file in &finished.files {
            self.metrics.files_written.add(1);
            self.metrics.bytes_written.add(file.bytes.len() as u64);
            self.metrics.bytes_copied.add(file.copied);
        }
        Ok(())
    }
}

/// The units that are assigned to one replica.
struct Share {
    units: Vec<u32>,
    rows: u64,
}

impl Share {
    fn of(queue: &UnitQueue) -> Share {
        let own = queue.own();
        Share {
            rows: rows_of(own.iter()),
            units: own.iter().map(|(unit, _)| unit.id).collect(),
        }
    }

    async fn is_committed(&self, store: &OutputStore, claimed: &Claimed) -> Result<bool> {
        let committed = commit::committed(store, claimed).await?;
        Ok(self.units.iter().all(|unit| committed.contains_key(unit)))
    }
}

fn rows_of<'a>(units: impl Iterator<Item = &'a (Unit, bool)>) -> u64 {
    units.map(|(unit, _)| unit.rows).sum()
}

/// Waits for a stop, for ever if nobody will ask for one any more.
async fn asked_to_stop(stop: &mut watch::Receiver<bool>) -> bool {
    match stop.wait_for(|stop| *stop).await {
        Ok(_) => true,
        Err(_) => std::future::pending().await,
    }
}

/// Finds out what the output's store can do, under a name no other process uses.
async fn probe(store: &OutputStore) -> Result<(StoreClass, AsFound)> {
    let as_found = AsFound((!store.folder_exists()).then(|| store.clone()));
    let token = uuid::Uuid::new_v4().simple().to_string();
    Ok((commit::probe(store, &token).await?, as_found))
}

/// Takes back, when it is dropped, the folders that a probe made and nobody has used: a job that fails before the claim
/// leaves the output as it was. Not sooner, since others may be starting in the same folders.
struct AsFound(Option<OutputStore>);

impl Drop for AsFound {
    fn drop(&mut self) {
        if let Some(store) = &self.0 {
            store.remove_empty_folders(&commit::layout::probe_key(""));
        }
    }
}
