//! What a kill at half-way costs: the units that were in work, and no others.

use std::process::Stdio;
use std::time::{Duration, Instant};

use floe::pipeline::gauge::units_in_work;
use floe::telemetry::progress::events::Event;

use crate::support::{LONG_ROWS, Run, Scenario, signal};

const UNITS: usize = 60;
const WORKERS: usize = 1;
/// As `floe::pipeline` has it.
const STORED_AT_ONCE: usize = 4;
/// Units that may be in work at once: in the pipeline, finished and waiting for one slot a worker, and being stored.
const IN_WORK: usize = 2 + WORKERS + STORED_AT_ONCE;

/// Failure matrix: 4.
#[test]
fn the_only_replica_killed_at_half_way_redoes_no_more_than_the_units_it_had_in_work() {
    assert_eq!(units_in_work(WORKERS), 2, "IN_WORK counts on it");
    let scenario = Scenario::with_long_rows(UNITS);
    let command = |more: &[&str]| {
        let mut command = scenario.command(&["--run-id", "r", "--num-workers", "1"]);
        command.args(more).stderr(Stdio::piped());
        command
    };
    // From half-way on nothing is recorded any more, so that everything behind it fills up with units in work.
    let held: Vec<String> = (1..=STORED_AT_ONCE)
        .map(|place| format!("before:create:record#{}=delay=1000000", UNITS / 2 + place))
        .collect();
    let first = command(&["--progress", "json"])
        .env("FLOE_FAIL_POINT", held.join(","))
        .spawn()
        .unwrap();
    let started = Instant::now();
    while scenario.contents().len() < UNITS / 2 + STORED_AT_ONCE {
        assert!(
            started.elapsed() < Duration::from_secs(120),
            "no half-way in sight"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    // Time for the rest to fill up, and for the progress to be told. Less only means that less is lost.
    std::thread::sleep(Duration::from_millis(800));
    signal(&first, libc::SIGKILL);
    let first = Run::from(first.wait_with_output().unwrap());
    let committed = scenario.records();
    let told = first.stdout.lines().filter_map(|line| match Event::parse(line)? {
        Event::Progress { position, .. } => Some(position.rows_done as usize),
        Event::Summary { .. } => None,
    });
    let begun = told.max().unwrap();

    let restarted = Instant::now();
    let second = command(&["--json"]).output().unwrap();
    let recovery = restarted.elapsed();
    let metrics = Run::from(second).ok().json()["summary"]["metrics"].clone();
    let number = |name: &str| metrics[name].as_u64().unwrap() as usize;

    let lost = begun.saturating_sub(committed * LONG_ROWS).div_ceil(LONG_ROWS);
    let (redone, done) = (
        number("rows_inferred"),
        number("units_committed") + number("lost_races"),
    );
    println!(
        "killed with {committed} of {UNITS} units committed and {begun} of {} rows scored: {lost} units were lost; the \
         restart scored {redone} rows in {done} units, in {} ms",
        UNITS * LONG_ROWS,
        recovery.as_millis()
    );
    assert_eq!(number("units_skipped"), committed);
    assert_eq!(
        redone,
        (UNITS - committed) * LONG_ROWS,
        "nothing that had a record is scored again"
    );
    assert_eq!(done, UNITS - committed);
    assert_eq!(committed, UNITS / 2);
    assert!(lost > 0, "nothing was in work");
    assert!(
        lost <= IN_WORK,
        "{lost} units were lost, of {IN_WORK} in work at most"
    );
    assert_eq!(scenario.rows().len(), UNITS * LONG_ROWS);
}
