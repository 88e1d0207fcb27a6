//! Several processes of one run, interleaved at random with kills and wrong answers; a failing case shrinks to a
//! short schedule.

use super::*;
use proptest::prelude::*;

/// One move: who, and what happens to it.
fn moves() -> impl Strategy<Value = (usize, Fault)> {
    let fault = prop_oneof![
        20 => Just(Fault::None),
        1 => Just(Fault::KillBefore),
        1 => Just(Fault::KillAfter),
        1 => Just(Fault::LoseAnswer),
        1 => Just(Fault::FailBefore),
        1 => Just(Fault::SayExists),
    ];
    (0..4usize, fault)
}

/// Plays the schedule, then restarts whoever died and runs everybody to the end, one after the other.
fn play(mut world: World, schedule: &[(usize, Fault)], grow_at: usize) -> Result<World, String> {
    let count = world.processes.len();
    for (index, (who, fault)) in schedule.iter().enumerate() {
        if index == grow_at {
            world.input.push(1);
        }
        let who = who % count;
        world.step(who, *fault)?;
        world.check()?;
        if world.exit(who) == Some(&Exit::Killed) {
            world.restart(who);
        }
    }
    for who in 0..count {
        world.run(who)?;
        // The store may have failed more often in a row than a process puts up with: its container starts again.
        if matches!(world.exit(who), Some(Exit::Failed(ErrorKind::Storage, _))) {
            world.restart(who);
            world.run(who)?;
        }
    }
    Ok(world)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Failure matrix: 9, 67.
    #[test]
    fn replicas_and_twins_store_every_row_once_whatever_happens(
        schedule in proptest::collection::vec(moves(), 0..200),
        grow_at in 0..200usize,
        old in any::<bool>(),
        words in proptest::collection::vec(prop_oneof![Just("row"), Just("other")], 4),
        twins in any::<bool>(),
    ) {
        let indexes: &[u32] = if twins { &[0, 1, 0, 1] } else { &[0, 1, 2] };
        let replicas = if twins { 2 } else { 3 };
        let mode = if old { SaveMode::Overwrite } else { SaveMode::Error };
        let starts = indexes.iter().zip(&words).map(|(&index, word)| {
            let start = Start::of(request(RUN, mode)).replica(index, replicas);
            Start { word: word.to_string(), ..start }
        });
        let mut world = World::new(&[2, 1, 0, 3], starts);
        if old {
            world.objects = finished(OLD, &[1, 2]).objects;
        }
        let world = play(world, &schedule, grow_at).map_err(TestCaseError::fail)?;
        for who in 0..world.processes.len() {
            prop_assert!(matches!(world.exit(who), Some(Exit::Complete | Exit::PartDone)), "{:?}", world.exit(who));
        }
        world.check_end(RUN).map_err(TestCaseError::fail)?;
    }

    /// The newer run may find leftovers of the older one's processes, never the other way round: at rest the marker
    /// vouches only for files that are there. (An old file beside it is the hole that the documentation names.)
    /// Failure matrix: 17.
    #[test]
    fn two_live_runs_in_one_output_never_leave_a_marker_without_its_files(
        schedule in proptest::collection::vec(moves(), 0..250),
    ) {
        let take_over = ClaimRequest { take_over: true, ..request(RUN, SaveMode::Overwrite) };
        let starts = [Start::of(request(OLD, SaveMode::Overwrite)), Start::of(take_over)];
        let mut world = World::new(&[1, 2], starts);
        world.rivals = true;
        let world = play(world, &schedule, usize::MAX).map_err(TestCaseError::fail)?;
        world.check().map_err(TestCaseError::fail)?;
    }
}
