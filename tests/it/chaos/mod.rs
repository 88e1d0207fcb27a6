//! Real processes under kills, stops, twins and lost answers: whatever happens to them, `_SUCCESS` comes, and then every
//! row is in the output exactly once, in the very bytes of an undisturbed run.
//!
//! `FLOE_CHAOS_ROUNDS=2000` plays more rounds, `FLOE_CHAOS_SEED=17` plays others; a failing round names its seed, and
//! `FLOE_CHAOS_SEED=<that> FLOE_CHAOS_ROUNDS=1` plays it again, as far as the machine's timing allows.

mod halfway;
mod poison;
mod round;
mod stops;
mod tally;
mod world;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use floe::commit::layout;
use floe::storage::{Location, OutputStore, StoreClass};

use crate::dice::Dice;
use round::{Spec, play};
use tally::Tally;
use world::World;

/// Rounds that are played at the same time: the processes wait more than they compute.
const AT_ONCE: usize = 2;

fn variable(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name} is {text:?}, not a number")),
        Err(_) => default,
    }
}

/// Plays `count` rounds and sums up what happened.
fn play_all(world: &World, count: u64, spec: impl Fn(u64) -> Spec + Sync) -> Tally {
    let (next, total) = (AtomicU64::new(0), Mutex::new(Tally::default()));
    let (next, total, spec) = (&next, &total, &spec);
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(move || {
                let _guard = EndOnPanic { next, count };
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    let tally = play(world, spec(number));
                    let mut total = total.lock().unwrap();
                    total.add(tally);
                    if total.rounds % 100 == 0 {
                        println!("{} rounds played, {} kills", total.rounds, total.kills);
                    }
                }
            });
        }
    });
    let total = total.lock().unwrap().clone();
    println!("{total:#?}");
    assert_eq!(total.rounds, count);
    total
}

/// After a failed round no other is begun.
struct EndOnPanic<'a> {
    next: &'a AtomicU64,
    count: u64,
}

impl Drop for EndOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.next.store(self.count, Ordering::Relaxed);
        }
    }
}

/// Kills every replica's first process at the point, whichever of them gets there.
fn killed_at(point: &str) -> Spec {
    let so_that_it_is_passed = match point.split_once(':') {
        // Nobody reads back an object of data whose storing was answered clearly.
        Some((_, "get:data")) => "after:create:data#1=lose,",
        // Nobody looks how others get on who has no time to wait for them.
        Some((_, "list:progress")) => "before:create:data=delay=150,",
        _ => "",
    };
    Spec {
        name: point.to_string(),
        // Only records of partitioned units are read.
        partitioned: point.ends_with("get:record"),
        overwrite: point.contains("delete:"),
        armed: Some(format!("{so_that_it_is_passed}{point}#1=kill")),
        dice: None,
    }
}

/// Failure matrix: 1, 2, 3, 4, 5, 6, 7, 8.
#[test]
fn processes_killed_before_or_after_any_step_of_the_protocol_leave_nothing_that_a_restart_does_not_mend() {
    let world = World::new();
    let points = floe::job::failpoint::names();
    let total = play_all(&world, points.len() as u64, |number| {
        killed_at(&points[number as usize])
    });
    let missed: Vec<_> = points
        .iter()
        .filter(|point| !total.points.contains_key(*point))
        .collect();
    assert!(missed.is_empty(), "no process came past {missed:?}");
}

/// Failure matrix: 1, 9.
#[test]
fn killed_stopped_doubled_and_misled_processes_lose_no_row_and_double_none() {
    let world = World::new();
    let (rounds, first_seed) = (variable("FLOE_CHAOS_ROUNDS", 50), variable("FLOE_CHAOS_SEED", 1));
    println!("{rounds} rounds from FLOE_CHAOS_SEED={first_seed}");
    let total = play_all(&world, rounds, |number| {
        let seed = first_seed + number;
        let mut dice = Dice::new(seed);
        Spec {
            name: format!("FLOE_CHAOS_SEED={seed}"),
            partitioned: dice.chance(1, 3),
            overwrite: dice.chance(1, 3),
            armed: None,
            dice: Some(dice),
        }
    });
    // Otherwise the rounds prove little.
    if rounds >= 50 {
        assert!(total.kills >= rounds && total.restarts >= rounds / 2, "{total:?}");
        assert!(
            total.lost_races > 0 && total.stops > 0 && total.terms > 0,
            "{total:?}"
        );
    }
}

#[test]
fn a_process_that_starts_while_another_sweeps_up_behind_its_run_is_not_disturbed() {
    let folder = tempfile::tempdir().unwrap();
    let store = OutputStore::new(Location::local(folder.path().to_str().unwrap()).unwrap());
    let is_done = AtomicBool::new(false);
    let verdict = thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                store
                    .sweep_leftovers(|key| layout::is_of_run(key, "run"))
                    .unwrap();
            }
        });
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut probes =
            (0..200).map(|number| runtime.block_on(floe::commit::probe(&store, &number.to_string())));
        let verdict = probes.find(Result::is_err).unwrap_or(Ok(StoreClass::A));
        is_done.store(true, Ordering::Relaxed);
        verdict
    });
    assert_eq!(verdict.unwrap(), StoreClass::A);
}
