//! SIGTERM and Ctrl-C: what is in hand is finished or dropped, and a restart completes the job.

use crate::support::{Scenario, finish, floe, signal, start, table, write_parquet};
use std::time::{Duration, Instant};

fn input() -> Scenario {
    let scenario = Scenario::new();
    for file in 0..40 {
        let path = scenario.input().join(format!("part-{file:02}.parquet"));
        write_parquet(&path, &table(file * 60_000, 60_000), 20_000);
    }
    scenario
}

fn stop_midway(scenario: &Scenario, number: i32) -> Option<i32> {
    let mut child =
        start(scenario.command(&["--run-id", "r", "--num-workers", "1", "--max-batch-rows", "500"]));
    let started = Instant::now();
    while scenario.records() < 2 {
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "no unit was committed within a minute"
        );
        assert!(
            child.try_wait().unwrap().is_none(),
            "the run ended before it could be stopped"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
    signal(&child, number);
    let code = child.wait().unwrap().code();
    assert!(started.elapsed() < Duration::from_secs(90));
    code
}

/// Failure matrix: 59.
#[test]
fn a_stopped_run_says_so_keeps_what_it_committed_and_is_completed_by_the_next() {
    for (number, code) in [(libc::SIGTERM, 143), (libc::SIGINT, 130)] {
        let scenario = input();
        assert_eq!(stop_midway(&scenario, number), Some(code));
        assert!(scenario.marker().is_none());
        let before = scenario.records();
        assert!((2..40).contains(&before), "{before} records");
        let again = scenario
            .run(&["--run-id", "r", "--max-batch-rows", "500", "--json"])
            .ok()
            .json();
        assert_eq!(again["summary"]["metrics"]["units_skipped"], before);
        assert_eq!(scenario.rows().len(), 40 * 60_000);
        finish(floe(["verify".as_ref(), scenario.output().as_os_str()])).ok();
    }
}
