//! Workers: `num_workers` threads, each with its own model, that turn blocks into scored rows and those into files.

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::Schema;
use std::any::Any;
use std::cell::RefCell;
use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use super::arriving::Arriving;
use super::contents::Filled;
use super::failures::Failures;
use super::scheduler::{EncodeTask, ScoreTask, ScoredBlock, Task};
use super::shares::{InHand, ScoredShare, Share, Work};
use super::{FinishedUnit, Shared};
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::model::{Arranging, Model, Outcome};
use crate::origin::Origin;
use crate::telemetry::metrics::{Stage, Wait};
use crate::tensor::{TensorBatch, Value};
use crate::write::splice::Spliced;

/// Starts one thread per model.
pub(super) fn spawn(shared: &Arc<Shared>, models: Vec<Box<dyn Model>>) -> Result<Vec<JoinHandle<()>>> {
    let span = tracing::Span::current();
    let mut threads = Vec::with_capacity(models.len());
    for (index, model) in models.into_iter().enumerate() {
        let (shared, span) = (shared.clone(), span.clone());
        let thread = std::thread::Builder::new()
            .name(format!("worker-{index}"))
            .spawn(move || span.in_scope(|| work(&shared, model)))
            .context(ErrorKind::Internal, "can't start a worker thread")?;
        threads.push(thread);
    }
    Ok(threads)
}

/// Takes work until there is none, or until something fails.
fn work(shared: &Shared, mut model: Box<dyn Model>) {
    loop {
        let task = {
            let _waiting = shared.metrics.waiting(Wait::WorkerIdle);
            shared.scheduler.next()
        };
        let place = RefCell::new(Origin::new());
        let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| match task {
            Task::Score(task) => score_block(shared, model.as_mut(), *task, &place).map(|()| true),
            Task::Help(share) => {
                place.replace(share.of.block.origin.clone());
                let scored = ScoredShare::new(&shared.outputs);
                score(shared, model.as_mut(), share, scored).map(|()| true)
            }
            Task::Encode(task) => encode_blocks(shared, *task).map(|()| true),
            Task::Exit => Ok(false),
        }));
        match outcome {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => return,
            Ok(Err(error)) => return shared.fail(place.borrow().at(error)),
            Err(panic) => {
                let error = Error::internal(format!("a worker panicked: {}", panic_text(&*panic)))
                    .with_hint("please report this; the unit was not committed");
                return shared.fail(place.borrow().at(error));
            }
        }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

/// Decodes a block, hands its chunk back to the scheduler, and scores the block, or what others leave of it.
fn score_block(
    shared: &Shared,
    model: &mut dyn Model,
    task: ScoreTask,
    place: &RefCell<Origin>,
) -> Result<()> {
    let slot = task.slot();
    let ScoreTask {
        order,
        mut chunk,
        block,
        ends_chunk,
        ..
    } = task;
    let started = Instant::now();
    let decoded = shared.metrics.time(Stage::Decode, || chunk.reader.next_block())?;
    let decode_secs = started.elapsed().as_secs_f64();
    let Some(rows) = decoded else {
        return Err(Error::data("a row group ended before its last row"));
    };
    if ends_chunk && chunk.reader.next_block()?.is_some() {
        return Err(rows
            .origin
            .at(Error::data("a row group goes on after its last row")));
    }
    let ends_with = ends_chunk.then(|| chunk.reader.take_spliced());
    shared.metrics.rows_read.add(rows.rows.num_rows() as u64);
    place.replace(rows.origin.clone());
    shared
        .scheduler
        .decoded(order, slot, (!ends_chunk).then_some(chunk));
    let inputs = rows.project(&shared.inputs)?;
    let mut scored = ScoredShare::new(&shared.outputs);
    scored.spend(Stage::Decode, decode_secs);
    let work = match model.arranging() {
        Some(arranging) => arrange(shared, arranging, &rows.origin, &inputs, &mut scored)?,
        None => Work::InOrder {
            files: files_of(shared, &inputs)?,
            inputs,
            batch_rows: shared.batch_rows,
        },
    };
    let share = Share::new((order, block), rows, work, ends_with);
    shared.scheduler.deal(&share.of);
    score(shared, model, share, scored)
}

/// The files that these rows name, if that is what the model takes.
fn files_of(shared: &Shared, inputs: &RecordBatch) -> Result<Option<Arriving>> {
    let contents = shared.contents.as_ref();
    contents
        .map(|contents| Arriving::new(contents, inputs, &shared.files))
        .transpose()
}

/// Has the model say which rows of a block share a batch.
fn arrange(
    shared: &Shared,
    model: &mut dyn Arranging,
    origin: &Origin,
    inputs: &RecordBatch,
    scored: &mut ScoredShare,
) -> Result<Work> {
    let filled = match files_of(shared, inputs)? {
        Some(files) => {
            files.begin(0..inputs.num_rows(), |_| true, &shared.runtime);
            let filled = files.fill(0..inputs.num_rows(), inputs);
            filled.map_err(|error| origin.at(error))?
        }
        None => Filled::all(inputs.clone()),
    };
    let (batch, given) = convert(shared, 0, origin, filled, scored)?;
    let arranging = Instant::now();
    let arranged = shared.metrics.time(Stage::Infer, || model.arrange(batch));
    let mut arranged = arranged.map_err(|error| origin.at(error))?;
    scored.spend(Stage::Infer, arranging.elapsed().as_secs_f64());
    let failed = std::mem::take(&mut arranged.failed);
    shared.metrics.rows_failed.add(failed.len() as u64);
    scored.failures.add(0, origin, given.clone(), failed, None)?;
    Ok(Work::Arranged { arranged, given })
}

/// Makes tensors of rows from the one at `start` of the block on, and answers with those of them that are left.
fn convert(
    shared: &Shared,
    start: usize,
    origin: &Origin,
    filled: Filled,
    scored: &mut ScoredShare,
) -> Result<(TensorBatch, Option<Vec<usize>>)> {
    let failed = filled.failed.len();
    let (present, kept) = scored
        .failures
        .add(start, origin, None, filled.failed, filled.kept)?;
    let converting = Instant::now();
    let decoded = shared.metrics.time(Stage::Convert, || {
        shared.decoder.decode_rows(&filled.rows, &present)
    })?;
    scored.spend(Stage::Convert, converting.elapsed().as_secs_f64());
    let failed = failed + decoded.failed.len();
    shared.metrics.rows_failed.add(failed as u64);
    let (_, kept) = scored
        .failures
        .add(start, origin, kept, decoded.failed, decoded.kept)?;
    Ok((decoded.batch, kept))
}

/// Runs the model over a share of a block, batch by batch. Whoever ends last hands over the block.
fn score(shared: &Shared, model: &mut dyn Model, share: Share, mut scored: ScoredShare) -> Result<()> {
    let InHand { block, work, .. } = share.of.as_ref();
    if let Work::InOrder {
        files: Some(files), ..
    } = work
    {
        files.begin(share.all(), share.still_has(), &shared.runtime);
    }
    while let Some(batch) = share.next() {
        if shared.scheduler.is_aborted() {
            return Ok(());
        }
        match work {
            Work::InOrder { inputs, files, .. } => {
                let Range { start, end } = share.of.rows(batch..batch + 1);
                let rows = end - start;
                let origin = block.origin.slice(start, rows);
                let given = inputs.slice(start, rows);
                let filled = match files {
                    Some(files) => files.fill(start..end, &given).map_err(|error| origin.at(error))?,
                    None => Filled::all(given),
                };
                let (batch, kept) = convert(shared, start, &origin, filled, &mut scored)?;
                let infer = || match batch.rows {
                    0 => Ok(Outcome::default()),
                    _ => model.infer_rows(&batch),
                };
                let outcome = timed(shared, batch.rows, &mut scored, infer);
                let Outcome { values, failed } = outcome.map_err(|error| origin.at(error))?;
                shared.metrics.rows_failed.add(failed.len() as u64);
                scored.failures.add(start, &origin, kept, failed, None)?;
                scored.append(values).map_err(|error| origin.at(error))?;
            }
            Work::Arranged { arranged, .. } => {
                let Some(arranging) = model.arranging() else {
                    return Err(Error::internal(
                        "one worker's model arranges rows and another's doesn't",
                    ));
                };
                let rows = arranged.batches[batch].len();
                let infer = || arranging.infer_arranged(arranged, batch).map(Outcome::of_all);
                let outcome = timed(shared, rows, &mut scored, infer);
                // The rows of the batch lie anywhere in the block.
                let Outcome { values, .. } = outcome.map_err(|error| block.origin.at(error))?;
                scored.append(values).map_err(|error| block.origin.at(error))?;
            }
        }
        count(shared, model);
    }
    // What was counted while a block was arranged of which every row failed.
    count(shared, model);
    let of = share.of.clone();
    let finished = share.finish(scored).map_err(|error| of.block.origin.at(error))?;
    match finished {
        Some((scored, ends_chunk)) => hand_over(shared, &of, scored, ends_chunk),
        None => Ok(()),
    }
}

/// Has the model score a batch of so many rows.
fn timed(
    shared: &Shared,
    rows: usize,
    scored: &mut ScoredShare,
    infer: impl FnOnce() -> Result<Outcome>,
) -> Result<Outcome> {
    let inferring = Instant::now();
    let outcome = shared.metrics.time(Stage::Infer, infer)?;
    scored.spend(Stage::Infer, inferring.elapsed().as_secs_f64());
    shared.first_batch.call_once(|| {
        let after_secs = shared.job_began.elapsed().as_secs_f64();
        tracing::info!(after_secs, rows, "first batch scored");
    });
    shared.metrics.batches_inferred.add(1);
    let inferred = rows - outcome.failed.len();
    shared.metrics.rows_inferred.add(inferred as u64);
    Ok(outcome)
}

fn count(shared: &Shared, model: &mut dyn Model) {
    let counts = model.take_counts();
    shared.metrics.texts_cut.add(counts.texts_cut);
    shared.metrics.tokens.add(counts.tokens);
    shared.metrics.tokens_computed.add(counts.tokens_computed);
}

/// Hands over a block of which all batches are scored.
fn hand_over(shared: &Shared, of: &InHand, scored: ScoredShare, ends_chunk: Option<Spliced>) -> Result<()> {
    let ScoredShare {
        outputs,
        failures,
        mut stage_secs,
    } = scored;
    let converting = Instant::now();
    let (rows, columns) = shared
        .metrics
        .time(Stage::Convert, || append(shared, of, outputs, &failures))?;
    stage_secs.push((Stage::Convert.as_str(), converting.elapsed().as_secs_f64()));
    let scored = ScoredBlock {
        rows,
        columns,
        ends_chunk,
    };
    shared.scheduler.scored(of.order, of.index, scored, &stage_secs);
    Ok(())
}

/// The model's outputs as columns behind those that are encoded again, and the positions of all of them in the output's
/// schema.
fn append(
    shared: &Shared,
    of: &InHand,
    outputs: Vec<Value>,
    failures: &Failures,
) -> Result<(RecordBatch, Vec<usize>)> {
    let block = &of.block;
    let places = failures.places(block.rows.num_rows(), of.work.order())?;
    let mut outputs: Vec<Option<Value>> = outputs.into_iter().map(Some).collect();
    let schema = shared.form.schema();
    let first = schema.fields().len() - shared.outputs.len();
    let mut columns = block.columns.rewritten.clone();
    let rows = block.project(&columns)?;
    let mut fields = Vec::with_capacity(columns.len() + shared.outputs.len());
    fields.extend(columns.iter().map(|column| schema.fields()[*column].clone()));
    let mut arrays = rows.columns().to_vec();
    for (index, column) in shared.outputs.iter().enumerate() {
        columns.push(first + index);
        fields.push(schema.fields()[first + index].clone());
        let value = outputs.get_mut(column.output).and_then(Option::take);
        arrays.push(failures.array(column, value, block.rows.num_rows(), places.as_ref())?);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(block.rows.num_rows()));
    let scored = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)
        .map_err(|error| Error::model("the model's outputs do not fit the rows").with_source(error))?;
    Ok((scored, columns))
}

/// Encodes blocks; hands the unit over when they were its last.
fn encode_blocks(shared: &Shared, task: EncodeTask) -> Result<()> {
    let EncodeTask {
        order,
        mut encoder,
        blocks,
        others_are_idle,
    } = task;
    let pool = if others_are_idle {
        Some(encode_pool(shared)?)
    } else {
        None
    };
    let started = Instant::now();
    let count = blocks.len();
    shared.metrics.time(Stage::Encode, || -> Result<()> {
        for block in blocks {
            encoder.write(&block.rows, &block.columns, pool)?;
            if let Some(spliced) = block.ends_chunk {
                encoder.end_chunk(spliced)?;
            }
            shared.metrics.rows_written.add(block.rows.num_rows() as u64);
        }
        Ok(())
    })?;
    let spent = [(Stage::Encode.as_str(), started.elapsed().as_secs_f64())];
    let Some(unit) = shared.scheduler.encoded(order, encoder, count, &spent) else {
        return Ok(());
    };
    let files = shared.metrics.time(Stage::Encode, || unit.encoder.finish())?;
    let finished = FinishedUnit {
        unit: unit.unit,
        files,
        stage_secs: unit.stage_secs,
        _reservation: Some(unit.output),
    };
    let _waiting = shared.metrics.waiting(Wait::Commit);
    // Nobody takes units any more only when the pipeline has ended already.
    let _ = shared.finished.blocking_send(finished);
    Ok(())
}

/// Threads for the columns of a lone unit, started when idle workers first could help.
fn encode_pool(shared: &Shared) -> Result<&rayon::ThreadPool> {
    if let Some(pool) = shared.encode_pool.get() {
        return Ok(pool);
    }
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(shared.workers)
        .thread_name(|index| format!("encode-{index}"))
        .build()
        .context(ErrorKind::Internal, "can't start threads for encoding")?;
    Ok(shared.encode_pool.get_or_init(|| pool))
}
