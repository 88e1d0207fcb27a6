//! One stage at a time, on one thread.

use criterion::measurement::WallTime;
use criterion::{BatchSize, BenchmarkGroup, Criterion, Throughput};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::runtime::Runtime;

use floe::config::{ModelOptions, OnOutOfRange};
use floe::decode::Decoder;
use floe::job::{Host, open_model};
use floe::model::{Loaded, OpenOptions};
use floe::origin::Origin;
use floe::plan::{self, Part, Plan, PlannedFile, Unit};
use floe::read::{Footer, Reader};
use floe::signature::{Function, OnNull, bind};
use floe::storage::{Location, Storage};
use floe::tensor::{Tensor, TensorBatch};
use floe::write::splice::Spliced;
use floe::write::{EncoderOptions, Form, UnitEncoder};

use crate::{network, table};

const ROWS: usize = 131_072;

/// ONNX Runtime where `scripts/fetch-onnxruntime` puts it.
pub fn host() -> Host {
    let cache = floe::model::onnx::runtime::cache_dir(|name| std::env::var_os(name));
    Host {
        cpus: std::thread::available_parallelism().map_or(1, |count| count.get()),
        memory_bytes: 4 << 30,
        onnxruntime_paths: floe::model::onnx::runtime::default_candidates(None, cache.as_deref(), None),
        variables: Default::default(),
    }
}

fn model(runtime: &Runtime) -> (Arc<dyn Loaded>, Function) {
    let location = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/flights/model");
    let location = location.to_str().expect("a UTF-8 path").to_string();
    let model = runtime
        .block_on(open_model(
            &ModelOptions::at(location),
            Default::default(),
            &host(),
            &Storage::local(),
        ))
        .expect("the flights model");
    let function = model.functions()[0].clone();
    (model, function)
}

/// A file of [`ROWS`] rows in one row group, and a reader of it.
fn reader(folder: &Path, runtime: &Runtime) -> (Reader, Unit) {
    let path: PathBuf = folder.join("rows.parquet");
    let rows = table::rows(ROWS);
    table::write(&path, &rows, ROWS);
    let location = Location::local(folder.to_str().expect("a UTF-8 path")).expect("a folder");
    let listed = runtime.block_on(location.list()).expect("a listing").remove(0);
    let footer = runtime
        .block_on(Footer::read(&location, &listed))
        .expect("a footer");
    let unit = Unit {
        id: 0,
        parts: vec![Part {
            file: 0,
            first: 0,
            end: 1,
        }],
        rows: ROWS as u64,
        bytes: listed.size,
    };
    let plan = Plan {
        format: plan::FORMAT,
        run_id: "bench".into(),
        job_name: "bench".into(),
        mode: Default::default(),
        store_class: Default::default(),
        config_digest: String::new(),
        model_digest: String::new(),
        worker_version: String::new(),
        engine: floe::model::Engine::Echo,
        on_gpus: false,
        batch_rows: 4096,
        window_rows: None,
        input_schema: rows.schema().as_ref().clone(),
        outputs: vec![],
        inputs: vec![PlannedFile {
            path: listed.path,
            size: listed.size,
            etag: listed.etag,
            modified: listed.modified,
            rows: ROWS as u64,
        }],
        units: vec![unit.clone()],
    };
    (
        Reader::new(location, Arc::new(plan), vec![Arc::new(footer)]),
        unit,
    )
}

/// Parquet pages → Arrow, all twenty columns.
pub fn read(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let folder = tempfile::tempdir().expect("a folder");
    let (reader, unit) = reader(folder.path(), &runtime);
    let layout = runtime.block_on(reader.open(&unit)).expect("a layout");
    let mut group = criterion.benchmark_group("read");
    group.throughput(Throughput::Elements(ROWS as u64));
    group.bench_function("fetch_and_decode_20_columns", |bencher| {
        bencher.iter(|| {
            let mut chunk = runtime
                .block_on(reader.fetch(&layout.chunks[0]))
                .expect("a chunk");
            let mut rows = 0;
            while let Some(block) = chunk.next_block().expect("a block") {
                rows += block.rows.num_rows();
            }
            assert_eq!(rows, ROWS);
        });
    });
    group.finish();
}

/// Arrow → tensors: twelve mixed columns into one matrix.
pub fn decode(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let (_, function) = model(&runtime);
    let rows = table::rows(4096);
    let binding = bind(&function, &rows.schema(), &Default::default()).expect("a binding");
    let decoder =
        Decoder::new(&binding, &rows.schema(), OnNull::Fail, OnOutOfRange::Fail).expect("a decoder");
    let origin = Origin::of(&"rows.parquet".into(), 0, 0, 4096);
    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Elements(4096));
    group.bench_function("12_mixed_columns_to_a_matrix", |bencher| {
        bencher.iter(|| decoder.decode(&rows, &origin).expect("tensors"));
    });
    group.finish();
}

/// The flights model (100 trees of depth 6) and a small network, one thread; the batch size varies.
pub fn infer(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let (model, function) = model(&runtime);
    let mut worker = model.worker(&function, 1).expect("a worker's model");
    let mut group = criterion.benchmark_group("infer");
    for batch_rows in [256, 4096, 65_536] {
        let rows = table::rows(batch_rows);
        let binding = bind(&function, &rows.schema(), &Default::default()).expect("a binding");
        let decoder =
            Decoder::new(&binding, &rows.schema(), OnNull::Fail, OnOutOfRange::Fail).expect("a decoder");
        let origin = Origin::of(&"rows.parquet".into(), 0, 0, batch_rows);
        let batch = decoder.decode(&rows, &origin).expect("tensors");
        group.throughput(Throughput::Elements(batch_rows as u64));
        group.bench_function(format!("flights_trees_batch_{batch_rows}"), |bencher| {
            bencher.iter(|| worker.infer(&batch).expect("predictions"));
        });
    }
    infer_network(&mut group);
    group.finish();
}

/// A small network: what a call costs beside its arithmetic shows where batches are small.
fn infer_network(group: &mut BenchmarkGroup<'_, WallTime>) {
    let options = OpenOptions {
        onnxruntime_paths: host().onnxruntime_paths,
        ..OpenOptions::default()
    };
    let model = floe::model::open(network::files(), &options).expect("a network");
    let mut worker = model.worker(&model.functions()[0], 1).expect("a worker's model");
    for rows in [64, 256, 1024, 4096, 16_384] {
        let values: Vec<f32> = (0..rows * 12).map(|index| (index % 97) as f32 / 9.0).collect();
        let batch = TensorBatch {
            rows,
            inputs: vec![Tensor::new(vec![rows, 12], values).expect("a matrix")],
        };
        group.throughput(Throughput::Elements(rows as u64));
        group.bench_function(format!("network_batch_{rows}"), |bencher| {
            bencher.iter(|| worker.infer(&batch).expect("predictions"));
        });
    }
}

/// Arrow → Parquet, all twenty columns; on one thread, and with a pool that helps.
pub fn write(criterion: &mut Criterion) {
    let rows = table::rows(ROWS);
    let all: Vec<usize> = (0..rows.num_columns()).collect();
    let form = Form::new(EncoderOptions {
        schema: rows.schema(),
        compression: None,
        partition_by: vec![],
        metadata: vec![],
        splice: true,
    })
    .expect("a form");
    let pool = rayon::ThreadPoolBuilder::new().build().expect("a pool");
    let mut group = criterion.benchmark_group("write");
    group.throughput(Throughput::Elements(ROWS as u64));
    for (name, pool) in [
        ("encode_20_columns_alone", None),
        ("encode_20_columns_with_help", Some(&pool)),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || UnitEncoder::new(form.clone(), None),
                |mut encoder| {
                    encoder.write(&rows, &all, pool).expect("rows are encoded");
                    encoder.end_chunk(Spliced::default()).expect("a row group ends");
                    encoder.finish().expect("a file")
                },
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}
