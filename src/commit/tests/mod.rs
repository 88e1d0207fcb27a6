//! The protocol under test: the table of what a re-run does, single transitions, kills at every operation, every
//! interleaving of a few processes, simulations by seed, and bugs that all of these must find.

mod api;
mod class_b;
mod interleave;
mod kills;
mod model;
mod mutants;
mod partitions;
mod rerun;
mod simulation;
mod transitions;
mod verifying;

use super::layout::{MARKER, epoch_key};
use super::testing::*;
use super::*;
use crate::error::ErrorKind;

pub const OLD: &str = "old";
pub const RUN: &str = "new";

/// A finished output of run `run_id`.
pub fn finished(run_id: &str, input: &[u64]) -> World {
    let mut world = World::new(input, [Start::of(request(run_id, SaveMode::Overwrite))]);
    world.run(0).unwrap();
    world.check_end(run_id).unwrap();
    world
}

/// `objects` as left behind by other processes, met by these.
pub fn meets(objects: &Objects, input: &[u64], starts: impl IntoIterator<Item = Start>) -> World {
    World {
        objects: objects.clone(),
        ..World::new(input, starts)
    }
}

/// How a process failed.
pub fn failure(world: &World, who: usize) -> (ErrorKind, &str) {
    match world.exit(who) {
        Some(Exit::Failed(kind, message)) => (*kind, message),
        other => panic!("no failure but {other:?}"),
    }
}

/// Puts an object there as the user or another program might.
pub fn drop_in(world: &mut World, key: &str, body: &str) {
    world.objects.0.insert(key.into(), body.to_string().into());
}

pub fn keys(world: &World) -> Vec<&str> {
    world.objects.0.keys().map(String::as_str).collect()
}

pub fn epochs(world: &World) -> usize {
    (1..100)
        .take_while(|epoch| world.objects.0.contains_key(&epoch_key(*epoch)))
        .count()
}

pub fn has_marker(world: &World) -> bool {
    world.objects.0.contains_key(MARKER)
}
