//! The pipeline: units in, finished Parquet files out.
//!
//! ```text
//!   feed (I/O runtime)            workers (num_workers threads)                      commit (I/O runtime)
//!   footers, then one chunk ──▶ scheduler ──▶ decode ▶ convert ▶ infer ──▶ encode ──▶ finished units
//!   at a time, as the gauge       oldest unit first; order restored per unit
//!   admits
//! ```
//!
//! The feed brings chunks in the plan's order and stops when the memory [`gauge`] is full. Workers pull: the
//! [`scheduler`] hands each free worker the most urgent piece of work, either the next block of the oldest chunk that
//! nobody is decoding, or the encoding of blocks that are scored and next in order; whoever has nothing else to do takes
//! [`shares`] of a block that another worker scores. So one huge row group keeps every core busy, and so do ten thousand tiny
//! files, and a few rows that are expensive; few units are open at once; and nothing but the order *within* a
//! unit is ever restored. A worker owns its model; there are no other compute threads but a pool that idle workers
//! lend to the encoder of a lone unit.
//!
//! Any error, and any panic of a worker, ends the whole pipeline with the place where it happened.

mod admission;
mod arriving;
pub mod contents;
mod failures;
mod feed;
pub mod gauge;
mod scheduler;
mod shares;
#[cfg(test)]
mod tests;
mod worker;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use std::sync::{Arc, Once, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tracing::Instrument;

use crate::decode::Decoder;
use crate::error::{Error, ErrorKind, Result};
use crate::model::Model;
use crate::plan::Unit;
use crate::read::Reader;
use crate::telemetry::metrics::Metrics;
use crate::write::columns::OutputColumn;
use crate::write::{EncodedFile, Form};
use admission::Admission;
use contents::Contents;
use gauge::{Gauge, Reservation};
use scheduler::Scheduler;

/// Units being stored at the same time: enough to hide a store's latency, few enough to bound memory.
const PARALLEL_COMMITS: usize = 4;

/// What a pipeline works with.
pub struct Pipeline {
    /// Brings the input.
    pub reader: Reader,
    /// Makes tensors of it.
    pub decoder: Decoder,
    /// The columns that the decoder takes, in its order; positions in the plan's schema.
    pub inputs: Vec<usize>,
    /// The columns of paths among them.
    pub contents: Option<Contents>,
    /// The columns the model adds.
    pub outputs: Vec<OutputColumn>,
    /// How files are written.
    pub form: Arc<Form>,
    /// Most rows handed to a model at once.
    pub batch_rows: usize,
    /// One per worker.
    pub models: Vec<Box<dyn Model>>,
    /// Bytes that may be in flight.
    pub memory_bytes: u64,
    /// How long units in hand may take after a stop.
    pub grace: Duration,
    /// Counts everything.
    pub metrics: Arc<Metrics>,
    /// When the job began, to say how long it took to the first batch.
    pub job_began: Instant,
}

/// A unit whose files are encoded and wait to be stored.
pub struct FinishedUnit {
    /// The unit.
    pub unit: Unit,
    /// Its files; none when it has no rows.
    pub files: Vec<EncodedFile>,
    /// Seconds of worker time spent on it, by stage.
    pub stage_secs: Vec<(&'static str, f64)>,
    /// Gives the memory back when it is dropped.
    _reservation: Option<Reservation>,
}

/// Where units come from, one at a time: a pipeline takes the next one when it has room for it.
#[async_trait]
pub trait UnitSource: Send + 'static {
    /// The next unit; may wait until it is clear whether there is one.
    async fn next(&mut self) -> Result<Supply>;
}

/// What a [`UnitSource`] gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Supply {
    /// A unit to do.
    Unit(Unit),
    /// There are no more; those in work are to be finished.
    NoMore,
    /// There are no more, and nobody needs those in work any longer.
    Enough,
}

#[async_trait]
impl UnitSource for std::vec::IntoIter<Unit> {
    async fn next(&mut self) -> Result<Supply> {
        Ok(Iterator::next(self).map_or(Supply::NoMore, Supply::Unit))
    }
}

/// How a pipeline ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Every unit was handed over, or is not needed any longer.
    Complete,
    /// A stop was asked for; units in hand were handed over, others were left.
    Stopped,
}

/// What workers share.
struct Shared {
    decoder: Decoder,
    outputs: Vec<OutputColumn>,
    form: Arc<Form>,
    inputs: Vec<usize>,
    contents: Option<Contents>,
    /// Admits the files that rows name.
    files: Arc<Admission>,
    /// Where files are fetched.
    runtime: tokio::runtime::Handle,
    batch_rows: usize,
    metrics: Arc<Metrics>,
    scheduler: Scheduler,
    encode_pool: OnceLock<rayon::ThreadPool>,
    job_began: Instant,
    first_batch: Once,
    finished: mpsc::Sender<FinishedUnit>,
    /// Holds one error: the first is the cause, what follows are its consequences.
    failure: mpsc::Sender<Error>,
    workers: usize,
}

impl Shared {
    /// Ends the pipeline with an error.
    fn fail(&self, error: Error) {
        let _ = self.failure.try_send(error);
        self.scheduler.abort();
    }
}

impl Pipeline {
    /// Runs the units of `source`, in this order, and hands each finished one to `sink`; several calls of `sink` run at
    /// once.
    ///
    /// When `stop` turns true, units that have begun are finished within the grace period and the rest is left.
    ///
    /// # Errors
    /// The first error of any stage or of `sink`. `Interrupted` when the grace period was not enough.
    pub async fn run<S, F>(
        self,
        source: impl UnitSource,
        stop: watch::Receiver<bool>,
        sink: S,
    ) -> Result<Ended>
    where
        S: Fn(FinishedUnit) -> F,
        F: Future<Output = Result<()>>,
    {
        let workers = self.models.len();
        // Where rows name files, these are what takes room: half of it is theirs.
        let of_files = self.contents.as_ref().map_or(0, |_| self.memory_bytes / 2);
        let gauge = Arc::new(Gauge::new(
            self.memory_bytes - of_files,
            gauge::units_in_work(workers),
            self.metrics.clone(),
        ));
        // One slot a worker: a worker that finishes a unit while the store is slow waits here, which is the
        // back-pressure from the store to the model.
        let (finished, receiver) = mpsc::channel(workers);
        let (failure, failures) = mpsc::channel(1);
        let shared = Arc::new(Shared {
            decoder: self.decoder,
            outputs: self.outputs,
            form: self.form,
            inputs: self.inputs,
            contents: self.contents,
            files: Admission::new(of_files, gauge.in_flight()),
            runtime: tokio::runtime::Handle::current(),
            batch_rows: self.batch_rows,
            metrics: self.metrics,
            // One block in each worker's hands, one being encoded, one in reserve.
            scheduler: Scheduler::new(workers + 2),
            encode_pool: OnceLock::new(),
            job_began: self.job_began,
            first_batch: Once::new(),
            finished,
            failure,
            workers,
        });
        let feed = tokio::spawn(feed::feed(shared.clone(), self.reader, source, gauge).in_current_span());
        let threads = worker::spawn(&shared, self.models)?;
        let control = Control {
            shared: Arc::downgrade(&shared),
            feed: feed.abort_handle(),
        };
        // From here on only the feed and the workers hold the senders: when they are gone, all is done.
        drop(shared);
        let ended = drain(&control, receiver, failures, stop, self.grace, sink).await;
        control.abort();
        if !matches!(&ended, Err(error) if error.kind() == ErrorKind::Interrupted) {
            let joined = tokio::task::spawn_blocking(move || {
                threads.into_iter().for_each(|thread| {
                    // A panic was caught inside and is the pipeline's error already.
                    let _ = thread.join();
                })
            });
            let _ = joined.await;
        } else {
            // The process is about to end, and they with it. See `main` for why they are not detached.
            std::mem::forget(threads);
        }
        ended
    }
}

struct Control {
    shared: std::sync::Weak<Shared>,
    feed: tokio::task::AbortHandle,
}

impl Control {
    fn stop_taking_units(&self) {
        self.feed.abort();
        if let Some(shared) = self.shared.upgrade() {
            shared.scheduler.drain();
        }
    }

    fn abort(&self) {
        self.feed.abort();
        if let Some(shared) = self.shared.upgrade() {
            shared.scheduler.abort();
        }
    }
}

/// Takes finished units until the workers are done, storing a few at a time.
async fn drain<S, F>(
    control: &Control,
    mut receiver: mpsc::Receiver<FinishedUnit>,
    mut failures: mpsc::Receiver<Error>,
    mut stop: watch::Receiver<bool>,
    grace: Duration,
    sink: S,
) -> Result<Ended>
where
    S: Fn(FinishedUnit) -> F,
    F: Future<Output = Result<()>>,
{
    let mut storing = FuturesUnordered::new();
    let mut deadline: Option<tokio::time::Instant> = None;
    let mut workers_are_done = false;
    loop {
        if workers_are_done && storing.is_empty() {
            return match deadline {
                Some(_) => Ok(Ended::Stopped),
                None => Ok(Ended::Complete),
            };
        }
        let grace_is_over = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            Some(error) = failures.recv() => return Err(error),
            Some(stored) = storing.next(), if !storing.is_empty() => stored?,
            unit = receiver.recv(), if !workers_are_done && storing.len() < PARALLEL_COMMITS => match unit {
                Some(unit) => storing.push(sink(unit)),
                None => workers_are_done = true,
            },
            () = grace_is_over => return Err(Error::new(
                ErrorKind::Interrupted,
                format!("the unit in hand took longer than the grace period of {} s", grace.as_secs_f64()),
            )
            .with_hint("nothing is lost: the same run goes on from its records when it is started again")),
            // The sender lives as long as the job; a closed channel means that nobody will ask for a stop.
            Ok(()) = stop.changed(), if deadline.is_none() => if *stop.borrow() {
                deadline = Some(tokio::time::Instant::now() + grace);
                control.stop_taking_units();
            },
            else => return Err(Error::internal("the pipeline has nothing left to wait for")),
        }
    }
}
