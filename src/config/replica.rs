//! Which part of the job this process does.
//!
//! Flags go first, then Snowflake's variables, then Kubernetes', else there is one replica. What the platform says
//! about the number of replicas beats what the job file says: it is what was really started. Nothing is assumed
//! that could leave a part of the input undone: an index without a count, or a count without an index, is an error.

use serde::{Deserialize, Serialize};
use std::fmt;

use crate::config::faults::Faults;
use crate::config::overrides::Environment;

/// Most replicas of a job. Each reads every other's records at the end, so the limit is generous but real.
pub const MAX_REPLICAS: usize = 10_000;

/// One of `count` processes that share a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Replica {
    /// From 0 to `count - 1`.
    pub index: usize,
    /// At least 1.
    pub count: usize,
}

impl Replica {
    /// The only replica.
    pub const ONLY: Replica = Replica { index: 0, count: 1 };
}

impl fmt::Display for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.index, self.count)
    }
}

/// What this process is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Launch {
    /// Be this replica.
    Replica(Replica),
    /// Several replicas are wanted and nothing says which one this is: start all of them on this machine, each with
    /// `--replica-index`, and with this process's `--output` and `--run-id` so that none invents its own.
    Local {
        /// How many.
        count: usize,
    },
}

impl Launch {
    /// How many replicas the run has.
    pub fn count(self) -> usize {
        match self {
            Launch::Replica(replica) => replica.count,
            Launch::Local { count } => count,
        }
    }
}

/// What was said about replicas, apart from the environment. Counts have passed the job file's check.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    /// `--replica-index`
    pub index: Option<u64>,
    /// `--replicas`, else the job file's `replicas`.
    pub count: Option<usize>,
}

/// Decides what this process is to do. Mistakes go to `faults` and whatever is returned then is of no use.
pub fn launch(
    wanted: Wanted,
    environment: &Environment,
    faults: &mut Faults,
    notes: &mut Vec<String>,
) -> Launch {
    let before = faults.found().len();
    let job_index = number("SNOWFLAKE_JOB_INDEX", &environment.job_index, faults);
    let jobs_count = number("SNOWFLAKE_JOBS_COUNT", &environment.jobs_count, faults);
    let completion_index = number("JOB_COMPLETION_INDEX", &environment.completion_index, faults);
    if faults.found().len() > before {
        return Launch::Replica(Replica::ONLY);
    }

    if let Some(index) = wanted.index {
        let Some(count) = wanted.count else {
            faults.push(
                "--replica-index",
                format!("{index} given, but not of how many; give --replicas too"),
            );
            return Launch::Replica(Replica::ONLY);
        };
        return replica("--replica-index", index, count as u64, faults);
    }
    if let Some(index) = job_index {
        let count = match jobs_count {
            Some(count) => {
                note_difference(wanted.count, count, notes);
                count
            }
            None => wanted.count.unwrap_or(1) as u64,
        };
        return replica("SNOWFLAKE_JOB_INDEX", index, count, faults);
    }
    if let Some(count) = jobs_count
        && count != 1
    {
        faults.push(
            "SNOWFLAKE_JOBS_COUNT",
            format!(
                "{count} given, but SNOWFLAKE_JOB_INDEX does not say which one this is; set both or none"
            ),
        );
        return Launch::Replica(Replica::ONLY);
    }
    if let Some(index) = completion_index {
        let Some(count) = wanted.count else {
            faults.push(
                "JOB_COMPLETION_INDEX",
                format!(
                    "{index} given, but not of how many; set replicas (--replicas) to the job's completions"
                ),
            );
            return Launch::Replica(Replica::ONLY);
        };
        return replica("JOB_COMPLETION_INDEX", index, count as u64, faults);
    }
    if let Some(count) = jobs_count {
        note_difference(wanted.count, count, notes);
        return Launch::Replica(Replica::ONLY);
    }
    match wanted.count.unwrap_or(1) {
        1 => Launch::Replica(Replica::ONLY),
        count => Launch::Local { count },
    }
}

fn replica(source: &str, index: u64, count: u64, faults: &mut Faults) -> Launch {
    let count = match usize::try_from(count) {
        Ok(count @ 1..=MAX_REPLICAS) => count,
        _ => {
            faults.push(
                "SNOWFLAKE_JOBS_COUNT",
                format!("{count} given, a whole number from 1 to {MAX_REPLICAS} allowed"),
            );
            return Launch::Replica(Replica::ONLY);
        }
    };
    match usize::try_from(index) {
        Ok(index) if index < count => Launch::Replica(Replica { index, count }),
        _ => {
            let last = count - 1;
            let allowed = if last == 0 {
                "only 0 allowed with 1 replica".to_string()
            } else {
                format!("0 to {last} allowed with {count} replicas")
            };
            faults.push(source, format!("{index} given, {allowed}"));
            Launch::Replica(Replica::ONLY)
        }
    }
}

fn note_difference(wanted: Option<usize>, count: u64, notes: &mut Vec<String>) {
    if let Some(wanted) = wanted
        && wanted as u64 != count
    {
        notes.push(format!(
            "replicas: {wanted} is overruled by the platform, which started {count} (SNOWFLAKE_JOBS_COUNT)"
        ));
    }
}

fn number(name: &str, value: &Option<String>, faults: &mut Faults) -> Option<u64> {
    let text = value.as_deref()?.trim();
    if text.is_empty() {
        return None;
    }
    match text.parse() {
        Ok(number) => Some(number),
        Err(_) => {
            faults.push(name, format!("{text:?} given, a whole number allowed"));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `(flag index, wanted count, job index, jobs count, completion index)` and what comes of it.
    type Case = (
        Option<u64>,
        Option<usize>,
        &'static str,
        &'static str,
        &'static str,
        &'static str,
    );

    fn outcome(case: &Case) -> String {
        let (index, count, job_index, jobs_count, completion_index, _) = *case;
        let environment = Environment {
            job_index: Some(job_index.into()),
            jobs_count: Some(jobs_count.into()),
            completion_index: Some(completion_index.into()),
            ..Environment::default()
        };
        let (mut faults, mut notes) = (Faults::default(), Vec::new());
        let launch = launch(Wanted { index, count }, &environment, &mut faults, &mut notes);
        let mut text = match launch {
            Launch::Replica(replica) => format!("replica {replica}"),
            Launch::Local { count } => format!("all {count} here"),
        };
        if let Some(fault) = faults.found().first() {
            text = format!("{}: {}", fault.key, fault.text);
        }
        if let Some(note) = notes.first() {
            text.push_str("; ");
            text.push_str(note);
        }
        text
    }

    #[test]
    fn flags_go_before_snowflake_before_kubernetes_before_one() {
        let cases: &[Case] = &[
            (None, None, "", "", "", "replica 0 of 1"),
            (None, Some(1), "", "", "", "replica 0 of 1"),
            (None, Some(3), "", "", "", "all 3 here"),
            (Some(1), Some(3), "", "", "", "replica 1 of 3"),
            (Some(1), Some(3), "0", "2", "4", "replica 1 of 3"),
            (None, None, "1", "2", "", "replica 1 of 2"),
            (None, None, " 1 ", "2", "7", "replica 1 of 2"),
            (None, Some(3), "1", "3", "", "replica 1 of 3"),
            (None, Some(3), "1", "", "", "replica 1 of 3"),
            (None, None, "0", "", "", "replica 0 of 1"),
            (None, Some(4), "", "", "2", "replica 2 of 4"),
            (None, None, "", "1", "", "replica 0 of 1"),
            (None, Some(4), "", "1", "2", "replica 2 of 4"),
            (
                None,
                Some(5),
                "1",
                "2",
                "",
                "replica 1 of 2; replicas: 5 is overruled by the platform, which started 2 (SNOWFLAKE_JOBS_COUNT)",
            ),
            (
                None,
                Some(5),
                "",
                "1",
                "",
                "replica 0 of 1; replicas: 5 is overruled by the platform, which started 1 (SNOWFLAKE_JOBS_COUNT)",
            ),
        ];
        for case in cases {
            assert_eq!(outcome(case), case.5, "{case:?}");
        }
    }

    #[test]
    fn half_said_and_impossible_places_are_refused() {
        let cases: &[Case] = &[
            (
                Some(3),
                Some(3),
                "",
                "",
                "",
                "--replica-index: 3 given, 0 to 2 allowed with 3 replicas",
            ),
            (
                Some(1),
                Some(1),
                "",
                "",
                "",
                "--replica-index: 1 given, only 0 allowed with 1 replica",
            ),
            (
                Some(0),
                None,
                "",
                "",
                "",
                "--replica-index: 0 given, but not of how many; give --replicas too",
            ),
            (
                None,
                None,
                "2",
                "2",
                "",
                "SNOWFLAKE_JOB_INDEX: 2 given, 0 to 1 allowed with 2 replicas",
            ),
            (
                None,
                None,
                "2",
                "",
                "",
                "SNOWFLAKE_JOB_INDEX: 2 given, only 0 allowed with 1 replica",
            ),
            (
                None,
                None,
                "-1",
                "2",
                "",
                "SNOWFLAKE_JOB_INDEX: \"-1\" given, a whole number allowed",
            ),
            (
                None,
                None,
                "0",
                "many",
                "",
                "SNOWFLAKE_JOBS_COUNT: \"many\" given, a whole number allowed",
            ),
            (
                None,
                None,
                "0",
                "0",
                "",
                "SNOWFLAKE_JOBS_COUNT: 0 given, a whole number from 1 to 10000 allowed",
            ),
            (
                None,
                None,
                "0",
                "10001",
                "",
                "SNOWFLAKE_JOBS_COUNT: 10001 given, a whole number from 1 to 10000 allowed",
            ),
            (
                None,
                None,
                "",
                "3",
                "",
                "SNOWFLAKE_JOBS_COUNT: 3 given, but SNOWFLAKE_JOB_INDEX does not say which one this is; set both or none",
            ),
            (
                None,
                None,
                "",
                "",
                "0",
                "JOB_COMPLETION_INDEX: 0 given, but not of how many; set replicas (--replicas) to the job's completions",
            ),
            (
                None,
                Some(2),
                "",
                "",
                "2",
                "JOB_COMPLETION_INDEX: 2 given, 0 to 1 allowed with 2 replicas",
            ),
            (
                Some(0),
                Some(2),
                "x",
                "",
                "",
                "SNOWFLAKE_JOB_INDEX: \"x\" given, a whole number allowed",
            ),
        ];
        for case in cases {
            assert_eq!(outcome(case), case.5, "{case:?}");
        }
    }
}
