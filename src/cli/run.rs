//! `floe run`: one replica, or all of them on this machine.

use std::sync::Arc;
use std::time::Instant;
use tracing::Instrument;

use floe::config::nesting::shown;
use floe::config::replica::Launch;
use floe::error::Result;
use floe::job::{self, Outcome};
use floe::telemetry::metrics::Metrics;
use floe::telemetry::progress::events::Event;
use floe::telemetry::summary::{Summary, peak_rss_bytes};
use floe::telemetry::{ProgressMode, Telemetry};

use super::{JobArgs, say};
use crate::{environment, launch, signals};

/// Runs the job and prints what came of it.
pub async fn run(args: JobArgs, telemetry: &Telemetry) -> Result<()> {
    let stop = signals::listen()?;
    #[cfg(feature = "fail-points")]
    if let Some(points) = environment::fail_points() {
        job::failpoint::arm(&points)?;
    }
    let resolved = args.resolve()?;
    for note in &resolved.job.notes {
        tracing::info!("{note}");
    }
    let host = environment::host();
    if let Launch::Local { count } = resolved.launch {
        return launch::run(&args, &resolved.job, count as u32, &host, telemetry, stop).await;
    }
    let started = Instant::now();
    let metrics = Arc::new(Metrics::default());
    let replica = resolved.job.replica.index as u32;
    let span = tracing::info_span!("job", job = %resolved.job.name, replica);
    let progress = span.in_scope(|| telemetry.progress(metrics.clone(), replica));
    let outcome = job::run(&resolved.job, &host, &metrics, stop)
        .instrument(span)
        .await;
    progress.finish();
    telemetry.flush();
    let outcome = outcome?;
    let summary = Summary::new(metrics.snapshot(), started.elapsed(), peak_rss_bytes());
    if telemetry.progress_mode() == ProgressMode::Json {
        let event = Event::Summary {
            replica: Some(replica),
            summary: Box::new(summary.clone()),
        };
        // A parent that is gone needs no summary.
        let _ = event.write(std::io::stdout());
    }
    print(&outcome, &summary, &resolved.job.output.location, args.json);
    Ok(())
}

/// Prints outcome and summary: for a person, or as one JSON object.
pub fn print(outcome: &Outcome, summary: &Summary, output: &str, json: bool) {
    if json {
        say::json_line(&serde_json::json!({ "outcome": outcome, "summary": summary }));
        return;
    }
    let state = if outcome.complete {
        let rows = outcome.total_rows.unwrap_or_default();
        format!("complete: {rows} rows in {}", shown(output))
    } else {
        format!(
            "replica {} of {} is done; {} units of other replicas are not yet",
            outcome.replica, outcome.replicas, outcome.units_missing
        )
    };
    say::line(state);
    println!("{}", summary.to_text().trim_end());
}
