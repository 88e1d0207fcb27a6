//! Replicas are killed while they write to a stage that then publishes what they had written, and started again.

use std::process::Child;

use super::jobs::{is_sound, output};
use super::stage::{Rules, Stage};
use super::until;
use crate::dice::Dice;
use crate::support::{Scenario, floe, start};
use std::time::Duration;

const REPLICAS: usize = 2;
const KILLS: usize = 5;
/// With one more, a unit that happened to be in hand each time would be held to be what kills its process.
const KILLS_OF_ONE: usize = 3;

fn replica(stage: &Stage, index: usize) -> Child {
    let mut command = floe([
        "run",
        "--model",
        "echo",
        "--run-id",
        "r",
        "--num-workers",
        "1",
        "--input",
    ]);
    command
        .arg(stage.path("in"))
        .arg("--output")
        .arg(stage.path("jobs/out"))
        .env("SNOWFLAKE_JOB_INDEX", index.to_string())
        .env("SNOWFLAKE_JOBS_COUNT", REPLICAS.to_string());
    start(command)
}

/// Failure matrix: 4, 5, 6, 7.
#[test]
fn replicas_killed_while_they_write_leave_the_output_of_an_undisturbed_run_after_their_restart() {
    let undisturbed = Scenario::with_long_rows(12);
    undisturbed.run(&["--run-id", "r"]).ok();
    let expected = undisturbed.contents();
    let (mut torn, mut torn_data, mut met) = (0, 0, 0);
    for seed in 0..8 {
        let rules = Rules {
            publishes_torn: true,
            write_takes: Duration::from_millis(2),
            ..Rules::default()
        };
        let Some(stage) = Stage::mount(rules) else {
            return;
        };
        stage.put_folder("in", &undisturbed.input());
        let mut dice = Dice::new(seed);
        let mut replicas: Vec<Child> = (0..REPLICAS).map(|index| replica(&stage, index)).collect();
        let mut kills = [0; REPLICAS];
        for _ in 0..KILLS {
            let picked = dice.below(REPLICAS);
            let victim = if kills[picked] < KILLS_OF_ONE {
                picked
            } else {
                1 - picked
            };
            kills[victim] += 1;
            let only_data = dice.below(2) == 0;
            until("somebody writes, or is done", || {
                let writes = stage
                    .in_hand()
                    .keys()
                    .any(|key| !only_data || key.contains("part-"));
                writes || replicas[victim].try_wait().unwrap().is_some()
            });
            std::thread::sleep(dice.millis(8));
            met += usize::from(replicas[victim].try_wait().unwrap().is_none());
            replicas[victim].kill().unwrap();
            // The next may not start before this one's end: of an index, one process lives at a time.
            replicas[victim].wait().unwrap();
            replicas[victim] = replica(&stage, victim);
        }
        for (index, replica) in replicas.iter_mut().enumerate() {
            let status = replica.wait().unwrap();
            assert!(
                status.success(),
                "seed {seed}: replica {index} ended with {status}"
            );
        }
        let published = stage.torn();
        torn += published.len();
        torn_data += published.iter().filter(|key| key.contains("part-")).count();
        assert_eq!(
            output(&stage),
            expected,
            "seed {seed}; published torn: {published:?}"
        );
        is_sound(&stage);
        let refused = stage.refused();
        assert_eq!(
            refused.keys().collect::<Vec<_>>(),
            ["hard link"],
            "seed {seed}: {refused:?}"
        );
    }
    eprintln!("{met} kills of running replicas, {torn} objects published torn, {torn_data} of them data");
    assert!(
        met >= 20 && torn >= 10 && torn_data >= 5,
        "{met} {torn} {torn_data}: not much of a test"
    );
}
