//! How many workers, how many threads each, how many rows a batch: small pure functions.

use super::Host;
use crate::config::Job;
use crate::signature::{Dim, Function, OutputKind};
use crate::tensor::DType;

/// Bytes of input tensors that make a good batch: enough to spread the cost of a call, few enough to stay in cache.
/// Measured on tables, 1,024 to 4,096 rows of a dozen features are best, and four times as many cost a third.
const BATCH_BYTES: usize = 256 * 1024;

/// Most rows of a batch that is neither asked for nor found by trial.
const MOST_BATCH_ROWS: usize = 4096;

/// An input is scored in at least so many batches, if it has so many rows.
const BATCHES: u64 = 64;

/// What a value of bytes is taken for: an image becomes a tensor of half a megabyte, and networks' maps between layers several.
/// Two images cost no more each than eight (EfficientNet over ONNX Runtime, one core), and trying larger batches costs less.
const BYTES_OF_BYTES: usize = 128 * 1024;

/// Most rows that a model arranges in batches at once: of so many, those of a batch are alike (see BENCHMARKS.md).
const MOST_WINDOW_ROWS: usize = 4096;

/// Bytes of a block's outputs that are worth it: all of them are in memory before the first of them is encoded.
const WINDOW_BYTES: usize = 64 << 20;

/// What an axis of unknown extent is taken for.
const UNKNOWN_EXTENT: usize = 64;

/// The worker pool of one replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerPool {
    /// Worker threads, each with a model of its own.
    pub workers: usize,
    /// Cores each worker's model may use.
    pub threads_per_worker: usize,
    /// Bytes the process may use.
    pub memory_bytes: u64,
}

impl WorkerPool {
    /// The pool for a job on a host.
    ///
    /// By default one single-threaded worker per core: measured, that beats one model on all cores by 1.3 to 3 times and
    /// the 2·vCPU+1 workers of Snowflake's own server by whatever they cost in memory and switching. With fewer
    /// workers than cores, each model gets its share of the cores, so cores are neither idle nor oversubscribed.
    ///
    /// On GPUs (`on_gpus`) `num_workers` are the models that workers take turns at, and there is a worker per core: while
    /// one waits for a GPU, the others read, decode and encode.
    pub fn of(job: &Job, host: &Host, on_gpus: bool) -> WorkerPool {
        let asked = job.resources.cpus.map_or(host.cpus, |cpus| cpus.ceil() as usize);
        let cpus = asked.clamp(1, host.cpus.max(1));
        let workers = match on_gpus {
            true => cpus,
            false => job.inference.num_workers.unwrap_or(cpus).max(1),
        };
        let memory = job.resources.memory_bytes.unwrap_or(host.memory_bytes);
        WorkerPool {
            workers,
            threads_per_worker: (cpus / workers).max(1),
            memory_bytes: memory.min(host.memory_bytes),
        }
    }
}

/// Rows of a batch for an input of `rows_of_input` rows, when the job does not say and nothing is tried: a power of two, by the
/// width of the model's inputs, and small enough that a small input is work for many workers too. What a row costs is
/// not known yet; calling a model so often costs little in any case.
pub fn batch_rows_for(function: &Function, rows_of_input: u64) -> usize {
    let share = (rows_of_input / BATCHES).clamp(1, MOST_BATCH_ROWS as u64);
    match function.fixed_batch_rows {
        Some(rows) => rows,
        None => batch_rows(function).min(1 << share.ilog2()),
    }
}

/// Rows of a batch by the width of the model's inputs alone: a power of two.
pub fn batch_rows(function: &Function) -> usize {
    if let Some(rows) = function.fixed_batch_rows {
        return rows;
    }
    let fitting = (BATCH_BYTES / row_bytes(function)).clamp(1, MOST_BATCH_ROWS);
    // The largest power of two that is not above it.
    1 << fitting.ilog2()
}

/// Most rows of a block for a model that arranges them in batches itself: a power of two, by the width of the outputs alone.
pub fn window_rows(function: &Function) -> usize {
    let outputs = function.outputs.iter();
    let bytes = outputs.map(|output| {
        let width = output.shape.iter().map(extent).product::<usize>() * output.dtype.byte_width();
        match output.kind {
            OutputKind::Tensor => width,
            _ => width * UNKNOWN_EXTENT,
        }
    });
    let fitting = WINDOW_BYTES / bytes.sum::<usize>().max(1);
    1 << fitting.clamp(1, MOST_WINDOW_ROWS).ilog2()
}

/// Bytes of a row's tensors, at least 1.
pub fn row_bytes(function: &Function) -> usize {
    let inputs = function.inputs.iter().filter(|input| !input.source.is_param());
    let width = |dtype: DType| match dtype {
        DType::Bytes => BYTES_OF_BYTES,
        other => other.byte_width(),
    };
    let bytes = inputs.map(|input| input.shape.iter().map(extent).product::<usize>() * width(input.dtype));
    bytes.sum::<usize>().max(1)
}

fn extent(dim: &Dim) -> usize {
    match dim {
        Dim::Fixed(extent) => *extent,
        Dim::Dynamic => UNKNOWN_EXTENT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::{InputFeature, OutputFeature, Source};

    fn function(shape: &[Dim], fixed: Option<usize>) -> Function {
        Function {
            name: "f".into(),
            inputs: vec![InputFeature {
                name: "x".into(),
                dtype: DType::F32,
                shape: shape.to_vec(),
                source: Source::NumericColumns,
                on_null: None,
                affine: (1.0, 0.0),
            }],
            outputs: vec![],
            fixed_batch_rows: fixed,
        }
    }

    #[test]
    fn windows_are_large_unless_the_outputs_are() {
        let of = |shape: &[Dim], kind: OutputKind| {
            let output = OutputFeature {
                name: "o".into(),
                column: "o".into(),
                dtype: DType::F64,
                shape: shape.to_vec(),
                kind,
            };
            window_rows(&Function {
                outputs: vec![output],
                ..function(&[], None)
            })
        };
        assert_eq!(of(&[], OutputKind::Tensor), 4096);
        assert_eq!(of(&[Dim::Fixed(1024)], OutputKind::Tensor), 4096);
        // A vector for each token.
        assert_eq!(of(&[Dim::Fixed(384)], OutputKind::List), 256);
        assert_eq!(of(&[Dim::Fixed(1 << 30)], OutputKind::List), 1);
    }

    #[test]
    fn a_small_input_is_many_batches() {
        let images = function(&[Dim::Fixed(3), Dim::Fixed(64)], None);
        let cases = [(0, 1), (63, 1), (700, 8), (1000, 8), (100_000, 256)];
        for (rows, expected) in cases {
            assert_eq!(batch_rows_for(&images, rows), expected, "{rows} rows");
        }
        assert_eq!(batch_rows_for(&function(&[], Some(3)), 1000), 3);
    }

    #[test]
    fn encoded_images_are_two_at_a_time() {
        let mut images = function(&[], None);
        images.inputs[0].dtype = DType::Bytes;
        assert_eq!(batch_rows(&images), 2);
    }

    #[test]
    fn a_batch_is_sized_by_the_width_of_a_row() {
        let cases = [
            (vec![Dim::Fixed(12)], None, 4096),
            (vec![Dim::Fixed(600)], None, 64),
            (vec![Dim::Fixed(3), Dim::Fixed(224), Dim::Fixed(224)], None, 1),
            (vec![Dim::Dynamic], None, 1024),
            (vec![], None, 4096),
            (vec![Dim::Fixed(4)], Some(3), 3),
        ];
        for (shape, fixed, expected) in cases {
            assert_eq!(batch_rows(&function(&shape, fixed)), expected, "{shape:?}");
        }
    }
}
