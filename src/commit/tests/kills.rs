//! Die at the k-th operation, for every k: restart, run to the end, and find every row once. Likewise with every
//! create in turn answered wrongly.

use super::*;

/// Outputs that a run may meet, with what it says it is.
fn beginnings() -> Vec<(&'static str, World)> {
    let overwrite = || [Start::of(request(RUN, SaveMode::Overwrite))];
    let input = &[2, 0, 1];
    let mut foreign = World::new(input, overwrite());
    drop_in(&mut foreign, "notes.txt", "x");
    drop_in(&mut foreign, "a/b.parquet", "x");
    drop_in(&mut foreign, MARKER, "");
    let mut stateless = finished(OLD, &[3, 1]);
    stateless.objects.0.retain(|key, _| !layout::is_state(key));
    vec![
        (
            "empty, mode error",
            World::new(input, [Start::of(request(RUN, SaveMode::Error))]),
        ),
        (
            "an old run",
            meets(&finished(OLD, &[1, 1]).objects, input, overwrite()),
        ),
        (
            "an old run without state",
            meets(&stateless.objects, input, overwrite()),
        ),
        ("foreign files", foreign),
    ]
}

/// Lets the process do `k` steps, then one with `fault`. `None`: it ends before.
fn faulted(beginning: &World, k: usize, fault: Fault) -> Option<World> {
    let mut world = beginning.clone();
    for _ in 0..k {
        world.step(0, Fault::None).unwrap();
        world.check().unwrap();
    }
    world.processes[0].ask()?;
    world.step(0, fault).unwrap();
    world.check().unwrap();
    Some(world)
}

/// Failure matrix: 1, 2, 3, 4, 5, 6, 7, 8.
#[test]
fn a_process_that_dies_at_any_operation_is_made_good_by_its_restart() {
    for (name, beginning) in beginnings() {
        for fault in [Fault::KillBefore, Fault::KillAfter] {
            let mut k = 0;
            while let Some(mut world) = faulted(&beginning, k, fault) {
                world.input.push(5); // a plan made after this would differ
                world.restart(0);
                world.run(0).unwrap();
                assert_eq!(world.exit(0), Some(&Exit::Complete), "{name}, {fault:?} at {k}");
                world
                    .check_end(RUN)
                    .unwrap_or_else(|why| panic!("{name}, {fault:?} at {k}: {why}"));
                k += 1;
            }
            assert!(k > 20, "{name}: only {k} operations");
        }
    }
}

/// The same, over a store of class B.
fn weaker_beginnings() -> Vec<(&'static str, World)> {
    let weaken = |(name, mut world): (&'static str, World)| {
        for process in &mut world.processes {
            *process = Process::new(process.start.clone().weaker());
        }
        (name, world)
    };
    beginnings().into_iter().map(weaken).collect()
}

/// Failure matrix: 1, 2, 3, 4, 5, 6, 7, 8.
#[test]
fn on_class_b_a_process_that_dies_at_any_operation_or_over_any_object_is_made_good_by_its_restart() {
    for (name, beginning) in weaker_beginnings() {
        for fault in [Fault::KillBefore, Fault::KillAfter, Fault::Tear] {
            let mut k = 0;
            while let Some(mut world) = faulted(&beginning, k, fault) {
                world.input.push(5); // a plan made after this would differ
                world.restart(0);
                world
                    .run(0)
                    .unwrap_or_else(|why| panic!("{name}, {fault:?} at {k}: {why}"));
                assert_eq!(world.exit(0), Some(&Exit::Complete), "{name}, {fault:?} at {k}");
                world
                    .check_end(RUN)
                    .unwrap_or_else(|why| panic!("{name}, {fault:?} at {k}: {why}"));
                k += 1;
            }
            assert!(k > 30, "{name}: only {k} operations");
        }
    }
}

/// Failure matrix: 5, 48.
#[test]
fn on_class_b_a_put_whose_answer_is_lost_or_that_stores_a_part_is_settled_by_reading_back() {
    for (name, beginning) in weaker_beginnings() {
        for fault in [Fault::LoseAnswer, Fault::FailBefore, Fault::StorePart] {
            let mut k = 0;
            while let Some(mut world) = faulted(&beginning, k, fault) {
                world.run(0).unwrap();
                assert_eq!(world.exit(0), Some(&Exit::Complete), "{name}, {fault:?} at {k}");
                world
                    .check_end(RUN)
                    .unwrap_or_else(|why| panic!("{name}, {fault:?} at {k}: {why}"));
                k += 1;
            }
        }
    }
}

/// Failure matrix: 6, 7.
#[test]
fn a_process_that_dies_twice_is_made_good_as_well() {
    for (name, beginning) in beginnings().into_iter().take(2) {
        let mut first = 0;
        while let Some(mut once) = faulted(&beginning, first, Fault::KillAfter) {
            once.restart(0);
            let mut second = 0;
            while let Some(mut twice) = faulted(&once, second, Fault::KillAfter) {
                twice.restart(0);
                twice.run(0).unwrap();
                twice
                    .check_end(RUN)
                    .unwrap_or_else(|why| panic!("{name}, killed at {first} and {second}: {why}"));
                second += 1;
            }
            first += 1;
        }
    }
}

/// Failure matrix: 48, 49.
#[test]
fn a_create_whose_answer_is_lost_or_wrong_is_settled_by_reading_back() {
    for (name, beginning) in beginnings() {
        for fault in [Fault::LoseAnswer, Fault::FailBefore, Fault::SayExists] {
            let mut k = 0;
            while let Some(mut world) = faulted(&beginning, k, fault) {
                world.run(0).unwrap();
                assert_eq!(world.exit(0), Some(&Exit::Complete), "{name}, {fault:?} at {k}");
                world
                    .check_end(RUN)
                    .unwrap_or_else(|why| panic!("{name}, {fault:?} at {k}: {why}"));
                k += 1;
            }
        }
    }
}

/// Failure matrix: 49.
#[test]
fn a_store_that_never_stores_ends_in_an_error_that_names_the_object() {
    for (name, beginning) in beginnings() {
        for fault in [Fault::FailBefore, Fault::SayExists] {
            let mut world = beginning.clone();
            for _ in 0..1000 {
                world.step(0, fault).unwrap();
            }
            let (kind, message) = failure(&world, 0);
            assert_eq!(kind, ErrorKind::Storage, "{name}: {message}");
            assert!(
                message.contains("in 5 tries") && message.contains("_floe/epochs/"),
                "{message}"
            );
        }
    }
}
