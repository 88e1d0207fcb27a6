//! `floe store-check`: what a location really does, and what Floe can promise there.

use clap::Args;

use floe::error::{Error, ErrorKind, Result};
use floe::storage::conformance::{Check, Effort, Finding, Outcome, Report, Verdict, Weight};

use super::{StageArgs, say, storage};
use crate::signals;

/// Where more is said about classes and promises.
const MORE: &str = "docs/guarantees.md, store by store";

/// A location to check.
#[derive(Args)]
pub struct StoreCheckArgs {
    /// Folder or URL that may be written to; what is there already is left alone
    pub location: String,
    /// Write fewer and smaller objects
    #[arg(long)]
    pub quick: bool,
    /// Print the findings as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub stages: StageArgs,
}

/// Checks the location, removes what was written, and says what was found.
pub async fn store_check(args: StoreCheckArgs) -> Result<()> {
    let mut stop = signals::listen()?;
    let location = storage(args.stages)?.open(&args.location).await?;
    let token = uuid::Uuid::new_v4().simple().to_string();
    let effort = if args.quick { Effort::QUICK } else { Effort::FULL };
    let check = Check::new(&location, &token[..12], effort)?;
    let report = tokio::select! {
        report = check.run() => Some(report),
        _ = stop.wait_for(|stop| *stop) => None,
    };
    let left = check.clean_up().await;
    if let Some(report) = &report {
        if args.json {
            say::json(report)?;
        } else {
            print(report);
        }
    }
    match left {
        Ok(left) if left.is_empty() => {}
        Ok(left) => {
            tracing::warn!(folder = %check, objects = left.len(), "objects of the check could not be removed")
        }
        Err(error) => {
            tracing::warn!(folder = %check, "what the check has written could not be removed: {error}")
        }
    }
    match report {
        None => Err(Error::new(ErrorKind::Interrupted, "the check was stopped")),
        Some(report) if report.verdict == Verdict::None => {
            Err(Error::storage("Floe can't work at this location")
                .with("location", location.display())
                .with_hint("choose another location; what it lacks is in the table above"))
        }
        Some(_) => Ok(()),
    }
}

fn print(report: &Report) {
    let widest = report
        .findings
        .iter()
        .map(|finding| finding.says.chars().count())
        .max();
    let widest = widest.unwrap_or_default();
    for finding in &report.findings {
        let line = format!(
            "{:<4} {:<widest$} {:>7} ms  {}",
            word(finding),
            finding.says,
            finding.millis,
            finding.detail
        );
        say::line(line.trim_end());
    }
    println!();
    for promise in &report.promises {
        say::line(promise);
    }
    if !report.promises.iter().any(|promise| promise.contains(MORE)) {
        say::line(format_args!("more: {MORE}"));
    }
}

/// In capitals what stands in Floe's way.
fn word(finding: &Finding) -> &'static str {
    match (finding.outcome, finding.weight) {
        (Outcome::Holds, _) => "yes",
        (Outcome::Fails, Weight::Needed) => "NO",
        (Outcome::Fails, _) => "no",
        (Outcome::Skipped, _) => "-",
    }
}
