//! A whole job in this process: plan, pipeline, commit. The shape of the input varies, the rows do not.

use criterion::{BatchSize, Criterion, Throughput};
use std::sync::Arc;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use floe::config::overrides::{Environment, Overrides};
use floe::config::resolve::resolve;
use floe::job;
use floe::telemetry::metrics::Metrics;

use crate::stages::host;
use crate::table;

const ROWS: usize = 262_144;

/// The flights model over 262,144 rows: in one row group, in sixteen, in 256 files.
pub fn end_to_end(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let host = host();
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/flights/model");
    let mut group = criterion.benchmark_group("end_to_end");
    group
        .throughput(Throughput::Elements(ROWS as u64))
        .sample_size(10);
    for (name, files, group_rows) in [
        ("one_row_group", 1, ROWS),
        ("sixteen_row_groups", 1, ROWS / 16),
        ("256_files", 256, ROWS),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let input = folder.path().join("in");
        std::fs::create_dir(&input).expect("an input folder");
        let rows = table::rows(ROWS);
        for file in 0..files {
            let part = rows.slice(file * ROWS / files, ROWS / files);
            table::write(&input.join(format!("{file:04}.parquet")), &part, group_rows);
        }
        group.bench_function(name, |bencher| {
            let output = || tempfile::tempdir_in(folder.path()).expect("an output folder");
            bencher.iter_batched(
                output,
                |output| {
                    let flags = Overrides {
                        model: Some(model.to_string()),
                        input: input.to_str().map(str::to_string),
                        output: output.path().join("out").to_str().map(str::to_string),
                        ..Default::default()
                    };
                    let resolved = resolve(None, &flags, &Environment::default()).expect("a job");
                    let (_stop, stopped) = watch::channel(false);
                    let metrics = Arc::new(Metrics::default());
                    let outcome = runtime.block_on(job::run(&resolved.job, &host, &metrics, stopped));
                    assert_eq!(outcome.expect("the job runs").total_rows, Some(ROWS as u64));
                    output
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}
