//! What the machine may refuse: room, writing, large files, descriptors, memory, a sane clock. Each ends in the right exit
//! code and an error that names the object and the remedy, never in `_SUCCESS`; and once the fault is lifted, the same
//! command completes the job.

mod clock;
mod disk;
mod limits;

use crate::support::{LONG_ROWS, Scenario, finish, floe};

const UNITS: usize = 8;
const ROWS: usize = UNITS * LONG_ROWS;

/// Units of six hundred kilobytes.
fn input() -> Scenario {
    Scenario::with_long_rows(UNITS)
}

/// After a fault: no marker, and the same command, now undisturbed, completes with every row once.
#[track_caller]
fn completes_undisturbed(scenario: &Scenario) {
    assert!(scenario.marker().is_none(), "_SUCCESS in spite of a fault");
    scenario.run(&["--run-id", "r"]).ok();
    assert_eq!(scenario.rows().len(), ROWS);
    finish(floe(["verify".as_ref(), scenario.output().as_os_str()])).ok();
}
