//! Commands that look and do not touch: plan, check, inspect, verify, schema.

use floe::commit::{self, verify::Depth};
use floe::config::Device;
use floe::config::replica::Launch;
use floe::config::schema::job_schema;
use floe::error::{Error, ErrorKind, Result};
use floe::job;
use floe::model::{card, inspect};
use floe::storage::{Location, OutputStore};
use floe::telemetry::units;
use floe::write;

use super::{InspectArgs, JobArgs, SchemaArgs, VerifyArgs};
use crate::environment;

/// `floe plan`
pub async fn plan(args: JobArgs) -> Result<()> {
    let resolved = args.resolve()?;
    let replicas = match resolved.launch {
        Launch::Local { count } => count,
        Launch::Replica(replica) => replica.count,
    };
    let report = job::plan(&resolved.job, replicas).await?;
    if args.json {
        return print_json(&report);
    }
    println!(
        "{} files, {} rows, {} in {} units for {replicas} replicas",
        report.files,
        units::count(report.rows),
        units::bytes(report.bytes),
        report.units
    );
    for share in &report.replicas {
        println!(
            "\nreplica {}: {} units, {} rows, {}",
            share.replica,
            share.units.len(),
            units::count(share.rows),
            units::bytes(share.bytes)
        );
        for unit in &share.units {
            println!(
                "  unit {:06}  {:>12} rows  {:>10}  {}",
                unit.unit,
                units::count(unit.rows),
                units::bytes(unit.bytes),
                shorten(&unit.reads)
            );
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
    let resolved = args.resolve()?;
    let report = job::check(&resolved.job, &environment::host()).await?;
    if args.json {
        return print_json(&report);
    }
    println!("the job can run");
    println!("model    {} function {}", report.model, report.function);
    println!(
        "input    {} files, {} rows, {} columns, {} units",
        report.files,
        units::count(report.rows),
        report.input_columns,
        report.units
    );
    println!("output   adds {}", report.output_columns.join(", "));
    println!(
        "workers  {} with {} threads each, at most {} rows a batch",
        report.workers, report.threads_per_worker, report.batch_rows
    );
    for note in &report.notes {
        println!("note     {note}");
    }
    Ok(())
}

/// `floe inspect`
pub async fn inspect(args: InspectArgs) -> Result<()> {
    let model = job::open_model(&args.model, None, Device::Auto, &environment::host()).await?;
    if args.json {
        return print_json(&inspect::to_json(&*model));
    }
    println!("{}", inspect::to_text(&*model).trim_end());
    Ok(())
}

/// `floe verify`
pub async fn verify(args: VerifyArgs) -> Result<()> {
    let store = OutputStore::new(Location::open(&args.output)?);
    let depth = if args.shallow {
        Depth::Sizes
    } else {
        Depth::Contents(&write::inspect::rows)
    };
    let report = commit::verify(&store, depth).await?;
    if args.json {
        print_json(&report)?;
    } else if report.ok {
        println!(
            "{}: {} rows in {} files, as recorded",
            args.output,
            units::count(report.rows),
            report.files
        );
    } else {
        for problem in &report.problems {
            println!("{}: {}", problem.key, problem.message);
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
    print_json(&schema)
}

fn print_json(value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Error::internal("can't print JSON").with_source(error))?;
    println!("{text}");
    Ok(())
}
