//! A unit that kills every process which takes it: after a few lives it is named, instead of being tried for ever.

use std::os::unix::process::ExitStatusExt;

use crate::support::{Run, Scenario};

/// The first life leaves no note of what it took; each of the next three does.
const LIVES: usize = 4;

/// Failure matrix: 56.
#[test]
fn a_unit_that_kills_whoever_takes_it_is_named_after_a_few_lives() {
    let scenario = Scenario::with_files(&[1000], 1000);
    let life = || {
        let mut command = scenario.command(&["--run-id", "r"]);
        command.env("FLOE_FAIL_POINT", "before:create:data=kill");
        command.output().unwrap()
    };
    for number in 1..=LIVES {
        let ended = life();
        assert_eq!(
            ended.status.signal(),
            Some(libc::SIGKILL),
            "life {number}: {:?}",
            Run::from(ended)
        );
    }
    let said = [
        "begun by at least 4 processes",
        "unit 0",
        "part-0000.parquet",
        "a new run tries again",
    ];
    Run::from(life()).fails(7, &said);
    assert!(scenario.marker().is_none());
    assert_eq!(scenario.records(), 0);
}
