//! The rehearsal: before a plan is pinned, the model scores some rows of the input, to find out how many at once suit it and,
//! where several engines can compute it, whether they agree.
//!
//! The best batch differs between models by three orders of magnitude, and with the machine's caches; no rule knows it.
//! Whoever plans the run measures it, and the plan pins it for all replicas, since the last bits of a prediction may
//! depend on it. Jobs that end sooner than measuring pays are not measured; nor are models whose results depend on
//! which rows share a batch, so that two runs over the same input agree.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::budget;
use super::scoring::{Bound, Scoring};
use crate::config::Job;
use crate::decode::Decoder;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::model::engine::agree;
use crate::model::{Engine, Model};
use crate::pipeline::contents::Contents;
use crate::plan::Plan;
use crate::read::sample::Sample;
use crate::read::{self, Footer};
use crate::signature::Source;
use crate::storage::Location;

/// Most rows of a batch that is not asked for.
const MOST_ROWS: usize = 32 * 1024;

/// Rows about which engines must agree.
const COMPARED_ROWS: usize = 1024;

/// Files that are fetched for a rehearsal.
const MOST_FILES: usize = 64;

/// Most bytes of the rows that are read for a rehearsal, as columns.
const SAMPLE_BYTES: usize = 32 << 20;

/// What a rehearsal may cost, of the time that the model is expected to take for the whole input.
const SHARE: f64 = 0.03;

/// It never takes longer, but for the batch in hand.
const LONGEST: Duration = Duration::from_secs(2);

/// A job whose model is expected to need less is over before it can be made faster.
const WORTHWHILE: Duration = Duration::from_secs(2);

/// A size is measured for so long, and at least so many times; its fastest batch counts, for others met disturbances.
const MEASURE: Duration = Duration::from_millis(5);
const REPEATS: usize = 3;

/// A batch that takes so long is not repeated: what disturbs it is little beside it.
const SLOW: Duration = Duration::from_millis(50);

/// Another size must be better by this share of the time to be taken.
const GAIN: f64 = 0.03;

/// What is rehearsed.
pub struct Rehearsal<'a> {
    pub job: &'a Job,
    pub scoring: &'a Scoring,
    pub input: &'a Location,
    /// With the batch size that is taken without a rehearsal.
    pub plan: &'a Plan,
    /// Footers of the first files, if they are at hand.
    pub footers: &'a [Arc<Footer>],
    /// Workers of this replica, and how many replicas there are.
    pub workers: usize,
}

/// Whether a batch size may be found by trial: it is not settled, and there is more than one batch.
pub fn is_useful(job: &Job, scoring: &Scoring, plan: &Plan) -> bool {
    let function = &scoring.function;
    let is_settled = job.inference.max_batch_rows.is_some()
        || function.fixed_batch_rows.is_some()
        || plan.window_rows.is_some()
        || !scoring.model.rows_are_independent(function)
        || function
            .inputs
            .iter()
            .any(|input| input.source == Source::RowHash);
    !is_settled && plan.rows() > budget::batch_rows(function) as u64
}

/// What a rehearsal settles, to be pinned in the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Rows of a batch.
    pub batch_rows: usize,
    /// Who computes.
    pub engine: Engine,
}

impl Rehearsal<'_> {
    /// What to pin in the plan.
    ///
    /// # Errors
    /// Those of reading and scoring the first rows, which the run would meet as well.
    pub async fn settle(self) -> Result<Settled> {
        let engines = self.scoring.model.engines(&self.scoring.function);
        let usual = Settled {
            batch_rows: self.plan.batch_rows,
            engine: self.plan.engine,
        };
        let is_useful = is_useful(self.job, self.scoring, self.plan);
        if !is_useful && engines.len() < 2 {
            return Ok(usual);
        }
        let Bound {
            decoder,
            inputs,
            contents,
            ..
        } = self.scoring.bind(self.job, self.plan)?;
        let Some(sample) = self.sample(&inputs).await? else {
            return Ok(usual);
        };
        let Some(sample) = with_files(sample, contents.as_ref()).await? else {
            return Ok(usual);
        };
        let mut models = Vec::with_capacity(engines.len());
        for &engine in &engines {
            models.push(self.scoring.worker(1, engine).await?);
        }
        let shares = self.job.replica.count.max(1) * self.workers.max(1);
        let rows = self.plan.rows() as f64 / shares as f64;
        let (settled, model) = tokio::task::spawn_blocking(move || -> Result<_> {
            let at = choose(&decoder, &sample, &engines, &mut models)?;
            let (engine, model) = (engines[at], models.swap_remove(at));
            if !is_useful {
                return Ok((Settled { engine, ..usual }, model));
            }
            let stage = Stage {
                decoder,
                sample,
                model,
                shares,
                rows,
                clock: {
                    let began = Instant::now();
                    Box::new(move || began.elapsed())
                },
            };
            let (batch_rows, model) = stage.play(usual.batch_rows)?;
            Ok((Settled { batch_rows, engine }, model))
        })
        .await
        .context(ErrorKind::Internal, "the rehearsal was cut off")??;
        self.scoring.keep(settled.engine, model);
        Ok(settled)
    }

    /// The first rows, as many as fit [`SAMPLE_BYTES`] and [`MOST_ROWS`].
    async fn sample(&self, columns: &[usize]) -> Result<Option<Sample>> {
        let rows = (SAMPLE_BYTES / budget::row_bytes(&self.scoring.function)).clamp(1, MOST_ROWS);
        let first = self
            .footers
            .iter()
            .find(|footer| footer.rows() >= rows as u64)
            .or_else(|| self.footers.iter().max_by_key(|footer| footer.rows()));
        let Some(footer) = first.filter(|footer| footer.rows() > 0) else {
            return Ok(None);
        };
        read::sample::read(self.input, footer, &self.plan.input_schema, columns, rows).await
    }
}

/// The sample with contents for paths; fewer rows, since each is a request. Rows without a file are left to the run.
async fn with_files(sample: Sample, contents: Option<&Contents>) -> Result<Option<Sample>> {
    let Some(contents) = contents else {
        return Ok(Some(sample));
    };
    let rows = sample.rows.slice(0, sample.rows.num_rows().min(MOST_FILES));
    let filled = contents
        .fill(&rows)
        .await
        .map_err(|error| sample.origin.at(error))?;
    let origin = match &filled.kept {
        Some(kept) => sample.origin.select(kept),
        None => sample.origin.slice(0, rows.num_rows()),
    };
    let rows = filled.rows;
    Ok((rows.num_rows() > 0).then_some(Sample { rows, origin }))
}

/// The place of the first engine that says about the first rows what the last one says, which is the reference.
fn choose(
    decoder: &Decoder,
    sample: &Sample,
    engines: &[Engine],
    models: &mut [Box<dyn Model>],
) -> Result<usize> {
    let Some(((reference, rest), name)) = models.split_last_mut().zip(engines.last()) else {
        return Err(Error::internal("a function that nobody computes"));
    };
    if rest.is_empty() {
        return Ok(0);
    }
    let rows = sample.rows.num_rows().min(COMPARED_ROWS);
    let origin = sample.origin.slice(0, rows);
    let batch = decoder.decode(&sample.rows.slice(0, rows), &origin)?;
    let expected = reference.infer(&batch).map_err(|error| origin.at(error))?;
    for (place, model) in rest.iter_mut().enumerate() {
        match model
            .infer(&batch)
            .map(|values| agree(&values, &expected, engines[place].tolerance()))
        {
            Ok(Ok(())) => {
                tracing::info!(
                    "{} agrees with {name} about the first {rows} rows: it computes",
                    engines[place]
                );
                return Ok(place);
            }
            Ok(Err(difference)) => tracing::warn!(
                "{} and {name} differ about the first rows ({difference}): {name} computes",
                engines[place]
            ),
            Err(error) => {
                tracing::warn!(%error, "{} fails on the first rows: {name} computes", engines[place])
            }
        }
    }
    Ok(rest.len())
}

/// A model, rows to score, and a clock.
struct Stage {
    decoder: Decoder,
    sample: Sample,
    model: Box<dyn Model>,
    /// Workers of all replicas.
    shares: usize,
    /// Rows that each of them will have to score.
    rows: f64,
    /// The time since some moment.
    clock: Clock,
}

type Clock = Box<dyn Fn() -> Duration + Send>;

impl Stage {
    fn play(mut self, usual: usize) -> Result<(usize, Box<dyn Model>)> {
        let began = (self.clock)();
        let most = self.sample.rows.num_rows();
        let start = usual.min(1 << most.ilog2());
        let Some(first) = self.secs_per_row(start)? else {
            return Ok((usual, self.model));
        };
        let expected = self.rows * first;
        if expected < WORTHWHILE.as_secs_f64() {
            return Ok((usual, self.model));
        }
        let limit = LONGEST.min(Duration::from_secs_f64(expected * SHARE));
        let mut failed = None;
        let share = (self.shares > 1).then_some(self.rows);
        let mut quickest = first;
        let found = search(start, first * waiting(start, share), most, |rows| {
            let batch = Duration::from_secs_f64(rows as f64 * quickest);
            if (self.clock)() + cost_of_measuring(batch) > began + limit {
                return None;
            }
            let secs = self.secs_per_row(rows).unwrap_or_else(|error| {
                failed = Some(error);
                None
            })?;
            quickest = quickest.min(secs);
            Some(secs * waiting(rows, share))
        });
        // Larger batches than the usual one may be too much for the model; the run will not meet them.
        if let Some(error) = failed {
            tracing::debug!(%error, "a batch size that was tried does not work");
        }
        let tried: Vec<String> = found
            .tried
            .iter()
            .map(|(rows, secs)| format!("{rows}: {:.0}", waiting(*rows, share) / secs))
            .collect();
        tracing::info!(
            batch_rows = found.rows,
            millis = ((self.clock)() - began).as_millis() as u64,
            "batches of {} rows suit the model best (rows/s by size: {})",
            found.rows,
            tried.join(", ")
        );
        Ok((found.rows, self.model))
    }

    /// What a row costs in batches of `rows`.
    fn secs_per_row(&mut self, rows: usize) -> Result<Option<f64>> {
        let total = self.sample.rows.num_rows();
        if rows > total {
            return Ok(None);
        }
        // The first batch of a size makes room for it.
        self.score(0, rows)?;
        let (began, mut best, mut runs, mut at) = ((self.clock)(), f64::INFINITY, 0, 0);
        while runs < REPEATS || (self.clock)() < began + MEASURE {
            at = if at + 2 * rows > total { 0 } else { at + rows };
            let batch = (self.clock)();
            self.score(at, rows)?;
            best = best.min(((self.clock)() - batch).as_secs_f64() / rows as f64);
            runs += 1;
            if (self.clock)() > began + SLOW {
                break;
            }
        }
        Ok(Some(best))
    }

    fn score(&mut self, start: usize, rows: usize) -> Result<()> {
        let origin = self.sample.origin.slice(start, rows);
        let decoded = self
            .decoder
            .decode_rows(&self.sample.rows.slice(start, rows), &origin)?;
        // A row that fails ends the run, or doesn't, when its turn comes.
        let outcome = self.model.infer_rows(&decoded.batch);
        std::hint::black_box(outcome.map_err(|error| origin.at(error))?);
        Ok(())
    }
}

/// What it costs to measure a size whose batch takes so long: one that makes room, one that counts, and repetitions.
fn cost_of_measuring(batch: Duration) -> Duration {
    2 * batch + SLOW.min((REPEATS as u32 - 1) * batch)
}

/// How much longer a row takes because workers of several, which have `share` rows each, don't end together: on average they
/// wait for half a batch.
fn waiting(batch_rows: usize, share: Option<f64>) -> f64 {
    share.map_or(1.0, |share| 1.0 + batch_rows as f64 / (2.0 * share.max(1.0)))
}

/// What a search found.
#[derive(Debug, PartialEq)]
struct Found {
    rows: usize,
    /// Seconds per row of each size that was measured, in this order.
    tried: Vec<(usize, f64)>,
}

/// Measures sizes in steps of four on both sides of `start`, which costs `first`, then the neighbours of the best one.
/// `measure` answers with seconds per row, or with `None` of a size for which the time left is too short. Steps wide enough to
/// see past a plateau; `start` stays unless another is better by [`GAIN`].
fn search(start: usize, first: f64, most: usize, mut measure: impl FnMut(usize) -> Option<f64>) -> Found {
    let mut tried = vec![(start, first)];
    let best = |tried: &[(usize, f64)]| {
        let better = |best: (usize, f64), &next: &(usize, f64)| if next.1 < best.1 { next } else { best };
        tried[1..].iter().fold((start, first * (1.0 - GAIN)), better).0
    };
    let mut try_all = |tried: &mut Vec<(usize, f64)>, sizes: &[usize]| {
        let sizes = sizes.iter().filter(|rows| (1..=most).contains(*rows));
        tried.extend(sizes.filter_map(|&rows| Some((rows, measure(rows)?))));
    };
    let coarse = [2, 4, 6].map(|power| [start >> power, start << power]);
    try_all(&mut tried, coarse.as_flattened());
    let coarse = best(&tried);
    try_all(&mut tried, &[coarse / 2, coarse * 2]);
    Found {
        rows: best(&tried),
        tried,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::OnOutOfRange;
    use crate::origin::Origin;
    use crate::signature::{self, Function, InputFeature, OnNull};
    use crate::tensor::{DType, TensorBatch, Value};
    use arrow::array::{Float32Array, RecordBatch};
    use arrow::datatypes::{DataType, Field, Schema};
    use proptest::prelude::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// A call costs something, a row costs something, and rows beyond the cache cost more.
    fn secs(call: f64, row: f64, cache: usize) -> impl Fn(usize) -> f64 {
        move |rows| call / rows as f64 + if rows > cache { row * 1.5 } else { row }
    }

    proptest! {
        #[test]
        fn the_search_ends_near_the_best_size(
            call in 0.0..1e-3f64, row in 1e-8..1e-4f64, cache in 0usize..18, start in 0usize..14,
        ) {
            let cost = secs(call, row, 1 << cache);
            let (start, most) = (1 << start, MOST_ROWS);
            let mut asked = Vec::new();
            let found = search(start, cost(start), most, |rows| {
                asked.push(rows);
                Some(cost(rows))
            });
            let sizes = || (0..=most.ilog2()).map(|power| 1usize << power);
            let within = sizes().filter(|rows| (start >> 7..=start << 7).contains(rows));
            let best = within.map(&cost).fold(f64::INFINITY, f64::min);
            prop_assert!(cost(found.rows) <= cost(start));
            // One step of two beside the best, at worst, on either slope.
            prop_assert!(cost(found.rows) <= best * 2.0 + 1e-12, "{} of {best}", cost(found.rows));
            prop_assert!(asked.len() <= 8);
            prop_assert!((1..=most).contains(&found.rows));
        }
    }

    #[test]
    fn the_search_goes_down_and_up_and_stays() {
        let rows = |start: usize, cost: &dyn Fn(usize) -> f64| {
            search(start, cost(start), 4096, |rows| Some(cost(rows))).rows
        };
        assert_eq!(rows(512, &secs(1e-5, 1e-4, 8)), 8);
        assert_eq!(rows(64, &secs(1e-2, 1e-5, 1 << 20)), 4096);
        assert_eq!(rows(256, &|_| 1e-5), 256);
    }

    /// A model that takes a millisecond of its own clock a call, whatever the batch, and so many rows at most.
    struct PerCall(usize, Arc<AtomicU64>);

    impl Model for PerCall {
        fn infer(&mut self, batch: &TensorBatch) -> Result<Vec<Value>> {
            if batch.rows > self.0 {
                return Err(Error::model("too many rows"));
            }
            self.1.fetch_add(1, Ordering::Relaxed);
            Ok(Vec::new())
        }
    }

    fn stage(most: usize, rows: f64) -> Stage {
        let millis = Arc::new(AtomicU64::new(0));
        let schema = Arc::new(Schema::new(vec![Field::new("x", DataType::Float32, false)]));
        let values = Float32Array::from_iter_values((0..1000).map(|row| row as f32));
        let function = Function {
            name: "f".into(),
            inputs: vec![InputFeature {
                name: "x".into(),
                dtype: DType::F32,
                shape: vec![],
                source: Source::Column("x".into()),
                on_null: None,
                affine: (1.0, 0.0),
            }],
            outputs: vec![],
            fixed_batch_rows: None,
        };
        let binding = signature::bind(&function, &schema, &Default::default()).unwrap();
        Stage {
            decoder: Decoder::new(&binding, &schema, OnNull::Fail, OnOutOfRange::Fail).unwrap(),
            sample: Sample {
                rows: RecordBatch::try_new(schema, vec![Arc::new(values)]).unwrap(),
                origin: Origin::of(&"file".into(), 0, 0, 1000),
            },
            model: Box::new(PerCall(most, millis.clone())),
            shares: 2,
            rows,
            clock: Box::new(move || Duration::from_millis(millis.load(Ordering::Relaxed))),
        }
    }

    #[test]
    fn a_model_that_costs_by_the_call_gets_the_largest_batch_of_the_sample() {
        let (rows, _) = stage(1000, 1e6).play(32).unwrap();
        assert_eq!(rows, 512);
    }

    #[test]
    fn a_batch_is_small_beside_the_share_of_a_worker() {
        let secs = |rows: usize| 1e-3 * (1.0 + 8.0 / rows as f64);
        let found = |share| {
            let cost = |rows| secs(rows) * waiting(rows, share);
            search(32, cost(32), 1024, |rows| Some(cost(rows))).rows
        };
        assert_eq!(found(None), 1024);
        assert_eq!(found(Some(1e6)), 1024);
        assert_eq!(found(Some(1000.0)), 128);
        assert!(found(Some(50.0)) <= 32);
    }

    #[test]
    fn a_short_job_is_not_measured() {
        let (rows, _) = stage(1000, 5000.0).play(32).unwrap();
        assert_eq!(rows, 32);
    }

    /// Takes 20 ms a row, whatever the batch.
    struct PerRow(Arc<AtomicU64>);

    impl Model for PerRow {
        fn infer(&mut self, batch: &TensorBatch) -> Result<Vec<Value>> {
            self.0.fetch_add(20 * batch.rows as u64, Ordering::Relaxed);
            Ok(Vec::new())
        }
    }

    #[test]
    fn a_slow_model_is_not_tried_with_sizes_that_there_is_no_time_for() {
        let millis = Arc::new(AtomicU64::new(0));
        let clock = millis.clone();
        let slow = Stage {
            model: Box::new(PerRow(millis.clone())),
            clock: Box::new(move || Duration::from_millis(clock.load(Ordering::Relaxed))),
            ..stage(1000, 300.0)
        };
        let (rows, _) = slow.play(2).unwrap();
        assert_eq!(rows, 2);
        // A share of 300 rows takes 6 s, 3 % of which are 180 ms; eight rows would take 160 ms again and again.
        let spent = millis.load(Ordering::Relaxed);
        assert!((80..=180).contains(&spent), "{spent} ms");
    }

    #[test]
    fn a_size_that_the_model_can_not_take_is_not_chosen_and_ends_nothing() {
        let (rows, _) = stage(100, 1e6).play(32).unwrap();
        assert!(rows <= 64, "{rows}");
        assert!(stage(8, 1e6).play(32).is_err());
    }

    #[test]
    fn without_time_the_start_is_kept() {
        let found = search(256, 1e-5, 4096, |_| None);
        assert_eq!(
            found,
            Found {
                rows: 256,
                tried: vec![(256, 1e-5)]
            }
        );
    }
}
