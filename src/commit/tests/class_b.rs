//! Single transitions of the weaker protocol: what class B adds to the rules, one rule a test.

use super::machine::{Machine, Op, Step};
use super::*;
use SaveMode::{Error, Overwrite};

fn start(mode: SaveMode) -> Start {
    Start::of(request(RUN, mode)).weaker()
}

fn one(mode: SaveMode) -> World {
    World::new(&[2], [start(mode)])
}

fn puts(key: &str) -> impl Fn(&Op) -> bool {
    move |op| matches!(op, Op::Put { key: stored, .. } if stored == key)
}

fn object() -> String {
    data_key("", 0, RUN)
}

fn record_of(world: &World) -> String {
    let is_record = |key: &&str| key.starts_with("_floe/e1/c/");
    keys(world)
        .into_iter()
        .find(is_record)
        .expect("a record")
        .to_string()
}

fn tear(world: &mut World, key: &str) {
    let body = world.objects.0[key].clone();
    world.objects.0.insert(key.into(), part_of(&body));
}

// ---- who plans

/// Failure matrix: 14.
#[test]
fn a_replica_waits_for_the_first_ones_plan_and_then_says_what_is_missing() {
    let mut world = World::new(&[1, 1], [start(Error).replica(1, 2)]);
    let mut pauses = 0;
    while world.exit(0).is_none() {
        pauses += u32::from(matches!(world.processes[0].ask(), Some(Ask::Pause)));
        world.step(0, Fault::None).unwrap();
    }
    let (kind, message) = failure(&world, 0);
    assert_eq!(kind, ErrorKind::Storage, "its container may be started again");
    assert!(message.contains("replica 0 has not pinned a plan"), "{message}");
    assert_eq!(pauses, claim::LOOKS_FOR_FIRST_REPLICA);
    assert!(world.objects.0.is_empty());
}

/// Failure matrix: 1, 2.
#[test]
fn an_epoch_that_was_cut_short_pins_nothing_and_the_first_replica_writes_it_again() {
    let mut world = World::new(&[1, 1], [start(Error).replica(0, 2), start(Error).replica(1, 2)]);
    world.run_to(0, puts(&epoch_key(1)));
    world.step(0, Fault::Tear).unwrap();
    assert_eq!(epochs(&world), 1);
    for _ in 0..20 {
        world.step(1, Fault::None).unwrap();
        assert!(world.exit(1).is_none(), "the other replica waits");
    }
    world.input.push(1);
    world.restart(0);
    world.run(0).unwrap();
    world.run(1).unwrap();
    world.restart(0);
    world.run(0).unwrap();
    world.check_end(RUN).unwrap();
    assert_eq!(world.view().plan(1).unwrap().units.len(), 3, "the second plan");
}

#[test]
fn an_epoch_that_a_newer_run_has_begun_to_write_supersedes_by_its_name() {
    let mut world = one(Overwrite);
    world.run_to(0, |op| matches!(op, Op::Put { key, .. } if *key == object()));
    drop_in(&mut world, &epoch_key(2), "{\"run_id");
    world.restart(0);
    world.run_on_damage(0);
    assert_eq!(failure(&world, 0).0, ErrorKind::Superseded);
}

/// Failure matrix: 50.
#[test]
fn an_epoch_that_the_listing_does_not_show_yet_is_found_by_its_name() {
    let mut world = one(Error);
    world.run_to(0, puts(&object()));
    let pinned = world.objects.0[&epoch_key(1)].clone();
    let mut claim = claim::Claim::new(start(Error).request);
    let claimed = loop {
        let answer = match claim.next() {
            Step::Store(Op::List { .. }) => Answer::Listed(Vec::new()),
            Step::Store(op @ Op::Put { .. }) => panic!("the epoch is replaced: {op:?}"),
            Step::Store(op) => world.objects.perform(&op),
            Step::BuildPlan => Answer::Planned(Box::new(plan_for(&start(Error).request, &[7, 7]))),
            Step::Done(ClaimOutcome::Claimed(claimed)) => break claimed,
            other => panic!("{other:?}"),
        };
        claim.apply(answer).unwrap();
    };
    assert_eq!(claimed.plan_digest, digest::sha256(&pinned));
    assert!(claimed.resumed);
}

/// Failure matrix: 69.
#[test]
fn a_plan_for_another_class_is_refused_before_anything_is_written() {
    for (first, second) in [
        (start(Error), start(Error).stronger()),
        (start(Error).stronger(), start(Error)),
    ] {
        let mut world = World::new(&[1, 1], [first.replica(0, 2), second.replica(1, 2)]);
        world.run(0).unwrap();
        let before = world.objects.clone();
        world.run(1).unwrap();
        let (kind, message) = failure(&world, 1);
        assert_eq!(kind, ErrorKind::Config);
        assert!(
            message.contains("class A") && message.contains("class B"),
            "{message}"
        );
        assert_eq!(world.objects, before);
    }
}

// ---- units

/// Failure matrix: 5.
#[test]
fn a_torn_object_of_a_killed_attempt_is_replaced_and_a_whole_one_is_left_alone() {
    let mut world = one(Error);
    world.run_to(0, puts(&object()));
    let mut torn = world.clone();
    torn.step(0, Fault::Tear).unwrap();
    torn.restart(0);
    torn.run_to(0, puts(&object())); // it is put once more
    torn.run(0).unwrap();
    torn.check_end(RUN).unwrap();

    world.step(0, Fault::KillAfter).unwrap();
    world.restart(0);
    while world.exit(0).is_none() {
        let asks = world.processes[0].ask();
        assert!(!matches!(asks, Some(Ask::Store(op)) if puts(&object())(&op)));
        world.step(0, Fault::None).unwrap();
    }
    world.check_end(RUN).unwrap();
}

/// Failure matrix: 5, 48.
#[test]
fn no_record_is_written_before_the_object_was_read_back_whole() {
    let mut world = one(Error);
    world.run_to(0, puts(&object()));
    world.step(0, Fault::StorePart).unwrap(); // and says that it stored all
    world.run_to(0, puts(&object()));
    assert!(keys(&world).iter().all(|key| !key.starts_with("_floe/e1/c/")));
    world.run(0).unwrap();
    world.check_end(RUN).unwrap();
}

#[test]
fn nothing_is_stored_under_a_newer_run_or_beside_ones_own_marker() {
    let mut world = one(Error);
    world.run_to(0, |op| matches!(op, Op::Head { .. }));
    let mut superseded = world.clone();
    drop_in(&mut superseded, &epoch_key(2), "{");
    superseded.run_on_damage(0);
    assert_eq!(failure(&superseded, 0).0, ErrorKind::Superseded);
    assert!(!superseded.objects.0.contains_key(&object()));

    // A twin has finished the run meanwhile.
    let mut twin = World {
        processes: vec![Process::new(start(Error))],
        ..world.clone()
    };
    twin.run(0).unwrap();
    world.objects = twin.objects.clone();
    world.run(0).unwrap();
    assert_eq!(world.exit(0), Some(&Exit::Complete));
    assert_eq!(world.objects, twin.objects);
}

#[test]
fn what_a_record_of_another_attempt_vouches_for_is_not_replaced() {
    let mut world = World::new(&[2], [start(Error), start(Error).saying("other")]);
    world.run_to(1, |op| *op == Op::get(object()));
    world.run_to(0, puts(MARKER));
    let stored = world.objects.0[&object()].clone();
    world.run(1).unwrap(); // finds other bytes and their record
    assert_eq!(world.objects.0[&object()], stored);
    world.run(0).unwrap();
    world.check_end(RUN).unwrap();
}

/// Failure matrix: 6.
#[test]
fn a_torn_record_is_written_again_by_whoever_does_its_unit() {
    let mut world = one(Error);
    world.run_to(0, puts(MARKER));
    let record = record_of(&world);
    let claimed = world.processes[0].claimed().unwrap().clone();
    tear(&mut world, &record);
    let mut machine =
        unit::CommitUnit::new(claimed.clone(), 0, rows_of(&claimed, 0, "", "row"), Map::new()).unwrap();
    while let Step::Store(op) = machine.next() {
        let answer = world.objects.perform(&op);
        machine.apply(answer).unwrap();
    }
    assert!(matches!(machine.next(), Step::Done(_)));
    let name = RecordName::parse(&record, 1).unwrap();
    Record::read(&world.objects.0[&record], name, 1).unwrap();
}

// ---- finishing

/// Failure matrix: 9.
#[test]
fn units_that_were_committed_under_two_plans_end_the_run_without_a_marker() {
    // Two twins of the first replica look, see no plan, and put one each.
    let mut world = World::new(&[1], [start(Error), start(Error)]);
    world.run_to(0, puts(&epoch_key(1)));
    world.input.push(1);
    world.run_to(1, puts(&epoch_key(1)));
    world.run_to(0, puts(MARKER)); // by its own plan, of which all is done
    world.step(1, Fault::None).unwrap_err(); // the plan is replaced
    world.restart(0); // had it written its marker, the other would have seen it
    world.run_on_damage(0);
    world.run_on_damage(1);
    for who in [0, 1] {
        let (kind, message) = failure(&world, who);
        assert_eq!(kind, ErrorKind::Storage);
        assert!(message.contains("another plan"), "{message}");
    }
    assert!(!has_marker(&world));
}

/// A write of a dead process that is still on its way is a twin's.
///
/// Failure matrix: 9.
#[test]
fn a_plan_that_arrives_after_its_process_died_is_found_out_by_what_was_committed() {
    let mut world = one(Error);
    world.run_to(0, puts(&epoch_key(1)));
    let late = match world.processes[0].ask() {
        Some(Ask::Store(op)) => op,
        other => panic!("{other:?}"),
    };
    world.step(0, Fault::KillBefore).unwrap();
    world.input.push(1);
    world.restart(0);
    world.run_to(0, puts(&data_key("", 1, RUN))); // one of two units is committed
    world.objects.perform(&late);
    world.restart(0);
    world.run_on_damage(0);
    let (kind, message) = failure(&world, 0);
    assert_eq!(kind, ErrorKind::Storage);
    assert!(message.contains("another plan"), "{message}");
    assert!(!has_marker(&world));
}

/// Failure matrix: 9.
#[test]
fn a_committed_object_that_is_missing_or_torn_is_computed_again_in_place() {
    for damage in [None, Some("x")] {
        let mut world = World::new(&[2, 1], [start(Error)]);
        world.run_to(0, puts(MARKER));
        let (sound, key) = (world.objects.clone(), data_key("", 1, RUN));
        world.objects.0.remove(&key);
        if let Some(body) = damage {
            drop_in(&mut world, &key, body);
        }
        world.restart(0);
        world.run_on_damage(0);
        assert_eq!(world.exit(0), Some(&Exit::Complete));
        world.check_end(RUN).unwrap();
        world.objects.0.remove(MARKER);
        assert_eq!(world.objects, sound, "no record was touched");
    }
}

/// Failure matrix: 9, 67.
#[test]
fn a_committed_object_that_can_not_be_computed_again_ends_the_run_in_an_error() {
    let mut world = one(Error);
    world.run_to(0, puts(MARKER));
    drop_in(&mut world, &object(), "x");
    world.processes[0].start = world.processes[0].start.clone().saying("other");
    world.restart(0);
    world.run_on_damage(0);
    let (kind, message) = failure(&world, 0);
    assert_eq!(kind, ErrorKind::Storage);
    assert!(message.contains("mended"), "{message}");
    assert!(!has_marker(&world));
}

/// Failure matrix: 8.
#[test]
fn a_torn_marker_is_no_marker_and_is_written_again() {
    for mode in [Error, Overwrite] {
        let mut world = one(mode);
        world.run_to(0, puts(MARKER));
        world.step(0, Fault::Tear).unwrap();
        assert!(has_marker(&world));
        world.restart(0);
        world.run(0).unwrap();
        assert_eq!(world.exit(0), Some(&Exit::Complete));
        world.check_end(RUN).unwrap();
    }
}

/// A machine that finishes, over listings that show only what `lag` lets through, at most so many times.
fn finish_over(world: &mut World, lags: u32, shows: impl Fn(&str) -> bool) -> (Finished, u32) {
    let claimed = world.processes[0].claimed().unwrap().clone();
    let mut machine = finish::Finish::new(claimed);
    let (mut lags, mut pauses) = (lags, 0);
    loop {
        let answer = match machine.next() {
            Step::Store(op) => match (world.objects.perform(&op), lags) {
                (Answer::Listed(mut listing), 1..) => {
                    lags -= 1;
                    listing.retain(|entry| shows(&entry.key));
                    Answer::Listed(listing)
                }
                (answer, _) => answer,
            },
            Step::Pause { .. } => {
                pauses += 1;
                Answer::Waited
            }
            Step::Done(finished) => return (finished, pauses),
            other => panic!("{other:?}"),
        };
        machine.apply(answer).unwrap();
    }
}

/// Failure matrix: 50.
#[test]
fn records_and_objects_that_the_listing_does_not_show_yet_are_looked_for_with_patience() {
    let finished_after = |lags, hidden: &str| {
        let mut world = one(Error);
        world.run_to(0, puts(MARKER));
        let (finished, pauses) = finish_over(&mut world, lags, |key| !key.starts_with(hidden));
        (matches!(finished, Finished::Complete(_)), pauses)
    };
    assert_eq!(
        finished_after(3, "_floe/e1/c/"),
        (true, 3),
        "records are listed again"
    );
    assert_eq!(
        finished_after(9, "part-"),
        (true, 0),
        "objects are asked for by name"
    );
    assert_eq!(
        finished_after(99, "_floe/e1/c/"),
        (false, 4),
        "in the end others are taken to be at work"
    );
}

/// Failure matrix: 50.
#[test]
fn a_file_that_the_listing_still_shows_is_not_taken_for_somebodys() {
    let mut world = one(Error);
    world.run_to(0, puts(MARKER));
    let claimed = world.processes[0].claimed().unwrap().clone();
    let mut machine = finish::Finish::new(claimed);
    while let Step::Store(op) = machine.next() {
        let answer = match world.objects.perform(&op) {
            Answer::Listed(mut listing) if op == Op::list("") => {
                listing.push(Entry {
                    key: "z.parquet".into(),
                    size: 1,
                });
                Answer::Listed(listing)
            }
            answer => answer,
        };
        machine.apply(answer).unwrap();
    }
    assert!(matches!(machine.next(), Step::Done(Finished::Complete(_))));
}

// ---- the functions that a job calls

/// Failure matrix: 6.
#[test]
fn a_torn_record_of_a_partitioned_unit_is_none_for_those_who_ask_what_is_done() {
    block_on(async {
        let store = MapStore::default();
        let request = start(Error).request;
        let build = async || Ok(plan_for(&start(Error).request, &[1, 1]));
        let ClaimOutcome::Claimed(claimed) = claim(&store, request, build).await.unwrap() else {
            panic!("not claimed")
        };
        for (unit, folder) in [(0, "a=1"), (1, "")] {
            let files = rows_of(&claimed, unit, folder, "row");
            commit_unit(&store, &claimed, unit, files, Map::new(), &count_rows)
                .await
                .unwrap();
        }
        let done = committed(&store, &claimed).await.unwrap();
        assert_eq!(done.len(), 2);
        for name in done.values() {
            store.insert(&name.key(1), "{");
        }
        let left = committed(&store, &claimed).await.unwrap();
        assert_eq!(
            left.into_keys().collect::<Vec<_>>(),
            [1],
            "the plain unit's name says it all"
        );
        let progress = notes::progress(&store, &claimed).await.unwrap();
        assert_eq!(progress.committed.keys().collect::<Vec<_>>(), [&1]);
        assert_eq!(
            finish(&store, &claimed).await.unwrap(),
            Finished::Incomplete { missing: vec![0] }
        );
    });
}
