//! The model check: every interleaving of a few processes, with kills, growing input, wrong answers and strangers. The
//! protocol holds in all of them; designs and stores that look reasonable and are wrong are found out.

use super::*;
use crate::commit::seeded::Bug;

const TWO_AND_A_TWIN: &[u32] = &[0, 0, 1];
const THREE: &[u32] = &[0, 1, 2];
const TWO: &[u32] = &[0, 1];
const TWINS: &[u32] = &[0, 0];

/// Two kills with a restart each, and growing input.
const KILLS_AND_GROWTH: Allowed = Allowed {
    kills: 2,
    tears: false,
    deaths: 0,
    lies: 0,
    growth: true,
    stranger: false,
};

/// Only their own steps.
pub const NOTHING: Allowed = Allowed {
    kills: 0,
    growth: false,
    ..KILLS_AND_GROWTH
};

/// Replicas with these indexes, each as `start` makes it, over the output of an old run.
pub fn over_old_output(indexes: &[u32], input: &[u64], start: impl Fn(Start) -> Start) -> World {
    let count = indexes.iter().max().unwrap() + 1;
    let starts = indexes.iter().map(|&index| {
        let begun = Start::of(request(RUN, SaveMode::Overwrite)).replica(index, count);
        start(begun.impatient())
    });
    meets(&finished(OLD, &[1]).objects, input, starts)
}

/// Two runs that are alive in one output; the newer one takes over.
pub fn rivals() -> World {
    let take_over = ClaimRequest {
        take_over: true,
        ..request(RUN, SaveMode::Overwrite)
    };
    let starts = [Start::of(request(OLD, SaveMode::Overwrite)), Start::of(take_over)];
    World {
        rivals: true,
        ..World::new(&[1], starts)
    }
}

/// Twins whose model isn't deterministic.
pub fn unlike_twins() -> World {
    let start = |word| Start::of(request(RUN, SaveMode::Error)).impatient().saying(word);
    World::new(&[1], [start("row"), start("other")])
}

/// Everybody ends well, and the run is complete.
fn complete(world: &World) -> Result<(), String> {
    for (who, process) in world.processes.iter().enumerate() {
        if let Some(Exit::Failed(..)) = process.exit() {
            return Err(format!("I2: process {who} ends with {:?}", process.exit()));
        }
    }
    world.check_end(RUN)
}

/// The same, unless a stranger's object stands in the way.
fn complete_without_stranger(world: &World) -> Result<(), String> {
    match world.objects.0.contains_key(STRANGER) {
        true => Ok(()),
        false => complete(world),
    }
}

/// The same. But one that dies between looking at the old marker and deleting it may delete the new one: the
/// documentation says that a restart then puts it back, and computes nothing.
fn complete_once_restarted(world: &World) -> Result<(), String> {
    let died = |process: &Process| process.exit() == Some(&Exit::Killed);
    if has_marker(world) || !world.processes.iter().any(died) {
        return complete(world);
    }
    let mut again = world.clone();
    let survivor = again.processes.iter().position(|process| !died(process));
    let survivor = survivor.ok_or("I2: nobody survives")?;
    again.restart(survivor);
    again.run(survivor)?;
    again
        .objects
        .0
        .remove(MARKER)
        .ok_or("I2: no marker after the restart")?;
    match again.objects == world.objects {
        true => Ok(()),
        false => Err("I2: the restart had to do more than to write the marker".into()),
    }
}

/// Nothing beyond what holds in every state.
fn anything(_: &World) -> Result<(), String> {
    Ok(())
}

fn search(name: &str, world: World, allowed: Allowed, end: End, wanted: &[&'static str]) -> Searched {
    let searched = Space::new(world, allowed, end).search(wanted);
    show(format_args!("model check {name}: {searched}"));
    searched
}

fn holds(name: &str, world: World, allowed: Allowed, end: End) {
    let searched = search(name, world, allowed, end, &[]);
    assert!(
        searched.broken.is_empty(),
        "{name}: {searched}\n{}",
        searched.path
    );
    assert!(searched.completes, "{name}: no interleaving completes the run");
    assert!(searched.states > 1000, "{name}: the checker is blind");
}

fn breaks(name: &str, world: World, allowed: Allowed, end: End, wanted: &[&'static str]) {
    let searched = search(name, world, allowed, end, wanted);
    for invariant in wanted {
        assert!(
            searched.broken.contains_key(invariant),
            "{name}: {invariant} was not found broken"
        );
    }
}

// ---- what must hold

/// Failure matrix: 9, 10.
#[test]
fn a1_two_replicas_and_a_twin_hold_the_invariants() {
    let world = over_old_output(TWO_AND_A_TWIN, &[1, 1], |start| start);
    holds("A1, two replicas and a twin", world, KILLS_AND_GROWTH, complete);
}

/// Failure matrix: 11.
#[test]
fn a2_three_replicas_hold_the_invariants() {
    let world = over_old_output(THREE, &[1, 1, 1], |start| start);
    holds("A2, three replicas", world, KILLS_AND_GROWTH, complete);
}

/// Failure matrix: 14.
#[test]
fn replicas_that_help_complete_the_run_although_one_dies_or_never_starts() {
    let world = over_old_output(TWO, &[1, 1], Start::helping);
    let allowed = Allowed {
        kills: 1,
        deaths: 1,
        ..NOTHING
    };
    holds(
        "helping replicas, of which one is lost",
        world.clone(),
        allowed,
        complete_once_restarted,
    );
    breaks("the same, strictly", world, allowed, complete, &["I2"]);
}

/// Failure matrix: 48, 49.
#[test]
fn wrong_answers_to_creates_are_settled_by_reading_back() {
    let allowed = Allowed {
        kills: 1,
        lies: 2,
        ..NOTHING
    };
    holds(
        "two wrong answers, unlike twins",
        unlike_twins(),
        allowed,
        complete,
    );
}

#[test]
fn a_strangers_object_is_not_deleted_once_the_output_is_clear() {
    let world = over_old_output(TWO, &[1, 1], |start| start);
    let allowed = Allowed {
        kills: 1,
        stranger: true,
        ..NOTHING
    };
    holds("a stranger's object", world, allowed, complete_without_stranger);
}

/// Failure matrix: 17.
#[test]
fn rivals_never_leave_a_marker_without_its_files() {
    let allowed = Allowed { kills: 1, ..NOTHING };
    holds("C, two live runs", rivals(), allowed, anything);
}

// ---- what must be found

/// Failure matrix: 12.
#[test]
fn the_hole_that_rivals_leave_is_the_one_that_is_documented() {
    let strict = World {
        rivals: false,
        ..rivals()
    };
    breaks("C, strictly", strict, NOTHING, anything, &["I1", "I3"]);
}

#[test]
fn n1_own_listings_and_a_marker_by_the_first_replica_are_found_broken() {
    let mut world = over_old_output(TWO, &[1, 1], |start| start.design(Design::OwnListingFirstMarks));
    world.bugs = &[Bug::MarkerTooEarly];
    breaks("N1", world, KILLS_AND_GROWTH, complete, &["I4", "I1"]);
}

#[test]
fn n2_own_listings_and_a_marker_by_whoever_sees_all_of_its_own_are_found_broken() {
    let world = over_old_output(TWO, &[1, 1], |start| start.design(Design::OwnListing));
    breaks("N2", world, KILLS_AND_GROWTH, complete, &["I4", "I2"]);
}

#[test]
fn n3_wiping_at_each_start_is_found_broken() {
    let mut world = over_old_output(TWO, &[1, 1], |start| start);
    world.bugs = &[Bug::WipeUnprepared, Bug::WipeOwn];
    breaks("N3", world, KILLS_AND_GROWTH, complete, &["I6", "I5", "I2"]);
}

#[test]
fn a4_data_names_of_attempts_are_found_broken() {
    let mut world = over_old_output(TWINS, &[1], |start| start.design(Design::AttemptNames));
    for (attempt, process) in world.processes.iter_mut().enumerate() {
        process.attempt = attempt as u32;
    }
    breaks("A4", world, KILLS_AND_GROWTH, complete, &["I3", "I2"]);
}

#[test]
fn b_a_store_without_put_if_absent_that_is_taken_for_one_with_it_is_found_broken() {
    let mut world = over_old_output(TWO, &[1, 1], |start| start);
    world.create = Create::Overwrites;
    breaks("B", world, KILLS_AND_GROWTH, complete, &["I0", "I4"]);
}

// ---- class B

/// Kills that may cut short what is being stored.
const KILLS_AND_TEARS: Allowed = Allowed {
    kills: 2,
    tears: true,
    ..NOTHING
};

/// Failure matrix: 1, 2, 3, 5, 6, 7, 8.
#[test]
fn b2_on_class_b_replicas_without_a_twin_hold_the_invariants() {
    let world = over_old_output(TWO, &[1, 1], Start::weaker);
    holds("B2, class B, two replicas", world, KILLS_AND_GROWTH, complete);
}

/// Failure matrix: 5.
#[test]
fn b5_kills_that_leave_torn_objects_hold_the_invariants_without_a_twin() {
    let world = over_old_output(TWO, &[1, 1], Start::weaker);
    let allowed = Allowed {
        growth: true,
        ..KILLS_AND_TEARS
    };
    holds("B5, the same with torn objects", world, allowed, complete);
}

#[test]
fn on_class_b_lost_answers_and_parts_that_are_stored_as_a_whole_are_settled_by_reading_back() {
    let world = over_old_output(TWO, &[1, 1], Start::weaker);
    let allowed = Allowed {
        kills: 1,
        lies: 2,
        ..NOTHING
    };
    holds("class B, two wrong answers", world, allowed, complete);
}

#[test]
fn b1_plans_by_anyone_are_found_broken_on_class_b() {
    let mut world = over_old_output(TWO, &[1, 1], Start::weaker);
    world.bugs = &[Bug::AnyonePlans];
    breaks(
        "B1, class B, anyone plans",
        world,
        KILLS_AND_GROWTH,
        complete,
        &["I0", "I4"],
    );
}

/// Found as soon as a record of the other plan shows; but a twin that was paused over its plan for the whole run replaces
/// the plan that the marker names.
///
/// Failure matrix: 9.
#[test]
fn b3_a_twin_of_the_first_replica_is_found_to_pin_a_second_plan_on_class_b() {
    let world = over_old_output(TWINS, &[1], Start::weaker);
    breaks(
        "B3, class B, twins of replica 0",
        world,
        KILLS_AND_GROWTH,
        complete,
        &["I0", "I4", "I1"],
    );
}

/// Failure matrix: 9.
#[test]
fn b6_a_twin_that_is_killed_over_a_committed_object_is_found_to_tear_it_on_class_b() {
    let world = over_old_output(&[0, 1, 1], &[1, 1], Start::weaker);
    let allowed = Allowed {
        kills: 1,
        ..KILLS_AND_TEARS
    };
    breaks(
        "B6, class B, a twin that tears",
        world,
        allowed,
        complete,
        &["I5", "I1"],
    );
}
