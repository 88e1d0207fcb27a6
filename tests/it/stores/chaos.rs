//! Replicas that share an output in a store are killed at random and started again, with and without trouble on the way
//! to the store: every row is there exactly once, in the bytes of an undisturbed run.
//!
//! `FLOE_STORES_ROUNDS=200` plays more rounds, `FLOE_STORES_SEED=17` plays others.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use super::faults::Fault;
use super::jobs::{download, floe_at, upload, verify};
use super::{Cloud, Place};
use crate::dice::Dice;
use crate::support::{LONG_ROWS, Scenario, contents_of};

const REPLICAS: usize = 3;
const UNITS: usize = 8;

/// Far more than a round ever needs on a busy machine: what takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(240);

/// A round needs about 110 requests.
const REQUESTS_BETWEEN_KILLS: usize = 40;

/// Rounds of each test when nothing is said.
const ROUNDS: u64 = 2;

fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

struct World {
    place: Place,
    scenario: Scenario,
    expected: BTreeMap<String, Vec<u8>>,
}

/// What happened in all rounds.
#[derive(Debug, Default)]
struct Tally {
    rounds: u64,
    kills: u64,
    restarts: u64,
    requests: usize,
    faults: BTreeMap<String, usize>,
}

impl World {
    fn new(cloud: Cloud) -> Option<World> {
        let place = Place::new(cloud)?;
        let scenario = Scenario::with_long_rows(UNITS);
        scenario.run(&["--run-id", "chaos"]).ok();
        let expected = contents_of(&scenario.output());
        upload(&place, "in", &scenario.input());
        Some(World {
            place,
            scenario,
            expected,
        })
    }

    fn start(&self, replica: usize, output: &str, log: &PathBuf) -> Child {
        let at = |path: &str| format!("{}/{path}", self.place.url);
        let job = super::jobs::job_file(&self.place, self.scenario.path(), "echo", &at("in"), &at(output));
        let arguments = [
            "run",
            job.to_str().unwrap(),
            "--run-id",
            "chaos",
            "--num-workers",
            "1",
        ];
        let mut command = floe_at(&self.place, &arguments);
        let log = File::options().create(true).append(true).open(log).unwrap();
        command
            .env("SNOWFLAKE_JOB_INDEX", replica.to_string())
            .env("SNOWFLAKE_JOBS_COUNT", REPLICAS.to_string())
            .stdout(Stdio::null())
            .stderr(log);
        command.spawn().unwrap()
    }

    /// Plays one round; panics when the output is not what it must be.
    fn play(&self, seed: u64, faults: bool, tally: &mut Tally) {
        let name = format!("FLOE_STORES_SEED={seed}");
        let mut dice = Dice::new(seed);
        let folder = tempfile::tempdir().unwrap();
        let output = format!("out-{seed}-{faults}");
        let logs: Vec<PathBuf> = (0..REPLICAS)
            .map(|index| folder.path().join(index.to_string()))
            .collect();
        let mut trouble = Dice::new(seed ^ 0x5eed);
        self.place.front.set_rule(move |_| match faults {
            true => Fault::drawn(&mut trouble, 15),
            false => Fault::None,
        });
        let mut crew: Vec<Child> = (0..REPLICAS)
            .map(|index| self.start(index, &output, &logs[index]))
            .collect();
        // By requests, not by the clock: a fast machine would be done before anybody was killed.
        let mut after = 0;
        for _ in 0..2 + dice.below(4) {
            after += 1 + dice.below(REQUESTS_BETWEEN_KILLS);
            self.wait_for_requests(after, &mut crew);
            let running = |child: &mut Child| child.try_wait().unwrap().is_none();
            let alive: Vec<usize> = (0..REPLICAS).filter(|&index| running(&mut crew[index])).collect();
            if alive.is_empty() {
                break;
            }
            let victim = alive[dice.below(alive.len())];
            crew[victim].kill().unwrap();
            crew[victim].wait().unwrap();
            tally.kills += 1;
            tally.restarts += 1;
            crew[victim] = self.start(victim, &output, &logs[victim]);
        }
        self.run_to_the_end(&name, crew, &output, &logs, faults, tally);
        let seen = self.place.front.seen();
        tally.requests += seen.len();
        for seen in seen.iter().filter(|seen| seen.fault != Fault::None) {
            let kind = format!("{:?}", seen.fault);
            let kind = kind.split('(').next().unwrap().to_string();
            *tally.faults.entry(kind).or_default() += 1;
        }
        self.place.front.set_rule(|_| Fault::None);
        let report = verify(&self.place, &output);
        assert_eq!(report["rows"], UNITS * LONG_ROWS, "{name}: {report}");
        let fetched = folder.path().join("fetched");
        download(&self.place, &output, &fetched);
        let found = contents_of(&fetched);
        assert!(
            found.keys().eq(self.expected.keys()),
            "{name}: {:?}",
            found.keys()
        );
        assert!(found == self.expected, "{name}: other bytes");
        tally.rounds += 1;
    }

    /// Returns when the store was asked `count` times in this round, or when nobody is left who could ask.
    fn wait_for_requests(&self, count: usize, crew: &mut [Child]) {
        while self.place.front.seen().len() < count
            && crew.iter_mut().any(|child| child.try_wait().unwrap().is_none())
        {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn run_to_the_end(
        &self,
        name: &str,
        mut crew: Vec<Child>,
        output: &str,
        logs: &[PathBuf],
        faults: bool,
        tally: &mut Tally,
    ) {
        let began = Instant::now();
        let mut done = [false; REPLICAS];
        while done != [true; REPLICAS] {
            for index in 0..REPLICAS {
                let Some(status) = crew[index].try_wait().unwrap().filter(|_| !done[index]) else {
                    continue;
                };
                let log = || std::fs::read_to_string(&logs[index]).unwrap();
                match status.code() {
                    Some(0) => done[index] = true,
                    // Trouble may outlast the patience of one process; its restart goes on.
                    Some(8) if faults => {
                        tally.restarts += 1;
                        crew[index] = self.start(index, output, &logs[index]);
                    }
                    _ => panic!("{name}: replica {index} ended with {status}: {}", log()),
                }
            }
            if began.elapsed() > PATIENCE {
                crew.iter_mut().for_each(|child| drop(child.kill()));
                panic!(
                    "{name}: no end in sight: {}",
                    std::fs::read_to_string(&logs[0]).unwrap()
                );
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn play_all(cloud: Cloud, faults: bool) {
    let Some(world) = World::new(cloud) else { return };
    let mut tally = Tally::default();
    let first = variable("FLOE_STORES_SEED", 1);
    for seed in first..first + variable("FLOE_STORES_ROUNDS", ROUNDS) {
        world.play(seed, faults, &mut tally);
    }
    println!(
        "{cloud:?}, {}: {tally:?}",
        if faults { "with trouble" } else { "without" }
    );
    assert!(tally.kills > 0, "nobody was killed: {tally:?}");
    assert!(
        !faults || !tally.faults.is_empty(),
        "there was no trouble: {tally:?}"
    );
}

/// Failure matrix: 1, 4, 5, 6, 7.
#[test]
fn replicas_that_are_killed_at_random_leave_one_sound_output_in_s3() {
    play_all(Cloud::S3, false);
}

/// Failure matrix: 1, 4, 5, 6, 7.
#[test]
fn replicas_that_are_killed_at_random_leave_one_sound_output_in_azure() {
    play_all(Cloud::Azure, false);
}

/// Failure matrix: 1, 4, 5, 6, 7.
#[test]
fn replicas_that_are_killed_at_random_leave_one_sound_output_in_google() {
    play_all(Cloud::Google, false);
}

/// Failure matrix: 1, 4, 5, 6, 7.
#[test]
fn replicas_that_are_killed_at_random_leave_one_sound_output_in_a_store_of_class_b() {
    play_all(Cloud::S3Unconditional, false);
}

/// Failure matrix: 46, 47, 48, 49, 51.
#[test]
fn kills_and_trouble_on_the_way_at_once_leave_one_sound_output_in_s3() {
    play_all(Cloud::S3, true);
}

/// Failure matrix: 46, 47, 48, 49, 51.
#[test]
fn kills_and_trouble_on_the_way_at_once_leave_one_sound_output_in_azure() {
    play_all(Cloud::Azure, true);
}

/// Failure matrix: 46, 47, 48, 49, 51.
#[test]
fn kills_and_trouble_on_the_way_at_once_leave_one_sound_output_in_google() {
    play_all(Cloud::Google, true);
}
