//! Commands that look and do not touch: plan, check, inspect, verify, schema.

use floe::commit::{self, verify::Depth};
use floe::config::ModelOptions;
use floe::config::nesting::shown;
use floe::config::replica::Launch;
use floe::config::schema::job_schema;
use floe::error::{Error, ErrorKind, Result};
use floe::job;
use floe::model::{card, device, inspect};
use floe::storage::OutputStore;
use floe::telemetry::units;
use floe::write;

use super::{InspectArgs, JobArgs, SchemaArgs, VerifyArgs};
use super::{say, storage};
use crate::environment;

/// `floe plan`
pub async fn plan(args: JobArgs) -> Result<()> {
    let resolved = args.resolve()?;
    let replicas = match resolved.launch {
        Launch::Local { count } => count,
        Launch::Replica(replica) => replica.count,
    };
    let report = job::plan(&resolved.job, &environment::host(), replicas).await?;
    if args.json {
        return say::json(&report);
    }
    say::line(format_args!(
        "{} files, {} rows, {} in {} units for {replicas} replicas",
        report.files,
        units::count(report.rows),
        units::bytes(report.bytes),
        report.units
    ));
    for share in &report.replicas {
        println!();
        say::line(format_args!(
            "replica {}: {} units, {} rows, {}",
            share.replica,
            share.units.len(),
            units::count(share.rows),
            units::bytes(share.bytes)
        ));
        for unit in &share.units {
            say::line(format_args!(
                "  unit {:06}  {:>12} rows  {:>10}  {}",
                unit.unit,
                units::count(unit.rows),
                units::bytes(unit.bytes),
                shorten(&unit.reads)
            ));
        }
    }
    Ok(())
}

fn shorten(reads: &[String]) -> String {
    match reads {
        [first, _, .., last] => format!("{first} … {last} ({} files)", reads.len()),
        few => few.join(", "),
    }
}

/// `floe check`
pub async fn check(args: JobArgs) -> Result<()> {
    #[cfg(feature = "fail-points")]
    if let Some(points) = environment::fail_points() {
        job::failpoint::arm(&points)?;
    }
    let resolved = args.resolve()?;
    let report = job::check(&resolved.job, &environment::host()).await?;
    if args.json {
        return say::json(&report);
    }
    say::line("the job can run");
    say::line(format_args!(
        "model    {} function {}",
        report.model, report.function
    ));
    say::line(format_args!(
        "input    {} files, {} rows, {} columns, {} units",
        report.files,
        units::count(report.rows),
        report.input_columns,
        report.units
    ));
    say::line(format_args!("output   adds {}", report.output_columns.join(", ")));
    say::line(format_args!(
        "workers  {} with {} threads each, {} {} rows a batch",
        report.workers,
        report.threads_per_worker,
        if report.batch_rows_may_change {
            "by default"
        } else {
            "at most"
        },
        report.batch_rows
    ));
    for note in &report.notes {
        say::line(format_args!("note     {note}"));
    }
    Ok(())
}

/// `floe inspect`
pub async fn inspect(args: InspectArgs) -> Result<()> {
    let host = environment::host();
    let storage = storage(args.stages)?;
    let model = job::open_model(
        &ModelOptions::at(&args.model),
        device::Request::default(),
        &host,
        &storage,
    )
    .await?;
    let devices = device::report(&host.onnxruntime_paths);
    if args.json {
        let mut document = inspect::to_json(&*model);
        document["devices"] = devices.into();
        return say::json(&document);
    }
    println!("{}\n", inspect::to_text(&*model).trim_end());
    for line in devices {
        println!("device: {line}");
    }
    Ok(())
}

/// `floe verify`
pub async fn verify(args: VerifyArgs) -> Result<()> {
    let store = OutputStore::new(storage(args.stages)?.open(&args.output).await?);
    let depth = if args.shallow {
        Depth::Sizes
    } else {
        Depth::Contents(&write::inspect::rows)
    };
    let report = commit::verify(&store, depth).await?;
    if args.json {
        say::json(&report)?;
    } else if report.ok {
        say::line(format_args!(
            "{}: {} rows in {} files, as recorded",
            shown(&args.output),
            units::count(report.rows),
            report.files
        ));
    } else {
        for problem in &report.problems {
            say::line(format_args!("{}: {}", problem.key, problem.message));
        }
    }
    if report.ok {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Data,
        format!(
            "the output is not what its records say: {} problems",
            report.problems.len()
        ),
    )
    .with("location", &args.output)
    .with_hint("do not use it; run the job again, in overwrite mode or to another output"))
}

/// `floe schema`
pub fn schema(args: &SchemaArgs) -> Result<()> {
    let schema = match args.of.as_str() {
        "model-card" => card::card_schema(),
        _ => job_schema(),
    };
    say::json(&schema)
}
