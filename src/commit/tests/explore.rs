//! Every interleaving of a few processes, breadth first: small, but complete.

use super::*;
use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};

/// Visits every state that can be reached with at most `kills` kills (each followed by a restart) and, if `grows`,
/// one growth of the input at any moment; checks the invariants in all of them, and the end in those where nobody
/// moves any more.
fn explore(world: World, kills: u32, grows: bool) -> usize {
    let hasher = RandomState::new();
    let first = (world, kills, grows);
    let mut seen = HashSet::from([hasher.hash_one(&first)]);
    let mut queue = VecDeque::from([first]);
    let mut ends = 0;
    while let Some((world, kills, may_grow)) = queue.pop_front() {
        let mut next = Vec::new();
        for who in 0..world.processes.len() {
            if world.exit(who).is_some() {
                continue;
            }
            let mut stepped = world.clone();
            stepped.step(who, Fault::None).unwrap();
            stepped.check().unwrap();
            if kills > 0 {
                let mut killed = world.clone();
                killed.restart(who);
                next.push((killed, kills - 1, may_grow));
            }
            next.push((stepped, kills, may_grow));
        }
        if next.is_empty() {
            ends += 1;
            world.check_end(RUN).unwrap();
            continue;
        }
        if may_grow {
            let mut grown = world;
            grown.input.push(1);
            next.push((grown, kills, false));
        }
        queue.extend(
            next.into_iter()
                .filter(|state| seen.insert(hasher.hash_one(state))),
        );
    }
    assert!(ends > 0, "nothing ever ends");
    seen.len()
}

/// Failure matrix: 11.
#[test]
fn two_replicas_over_an_old_output_hold_the_invariants_in_every_state() {
    let start = |index| Start::of(request(RUN, SaveMode::Overwrite)).replica(index, 2);
    let world = meets(&finished(OLD, &[1]).objects, &[1, 1], [start(0), start(1)]);
    let states = explore(world, 1, false);
    println!("{states} states");
    assert!(states > 1000, "only {states} states: the explorer is blind");
}

/// Failure matrix: 9.
#[test]
fn twins_of_one_index_hold_the_invariants_in_every_state() {
    let start = || Start::of(request(RUN, SaveMode::Error));
    let world = World::new(&[1], [start(), start()]);
    let states = explore(world, 1, true);
    println!("{states} states");
    assert!(states > 1000, "only {states} states: the explorer is blind");
}
