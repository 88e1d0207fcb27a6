//! Single transitions that the table and the kills don't pin down: late replicas, races, fences, losers.

use super::machine::Op;
use super::*;
use SaveMode::{Error, Overwrite};

fn creates(key: &str) -> impl Fn(&Op) -> bool {
    move |op| matches!(op, Op::Create { key: created, .. } if created == key)
}

fn deletes(key: &str) -> impl Fn(&Op) -> bool {
    move |op| matches!(op, Op::Delete { key: deleted } if deleted == key)
}

/// A run that is about to write its marker, met by nobody.
fn about_to_finish(mode: SaveMode) -> World {
    let mut world = World::new(&[2, 1], [Start::of(request(RUN, mode))]);
    if mode == Overwrite {
        world.objects = finished(OLD, &[1]).objects;
    }
    world.run_to(0, creates(MARKER));
    world
}

/// Claims the next epoch for another run, as its process would, and does no more.
fn superseding(world: &mut World, run_id: &str) {
    let request = ClaimRequest {
        take_over: true,
        ..request(run_id, Overwrite)
    };
    let before = epochs(world);
    world.processes.push(Process::new(Start::of(request)));
    let who = world.processes.len() - 1;
    world.run_to(
        who,
        |op| matches!(op, Op::Get { key } if key.ends_with("prepared")),
    );
    assert_eq!(epochs(world), before + 1);
}

// ---- claim

/// Failure matrix: 2.
#[test]
fn a_twin_adopts_the_plan_that_was_pinned_first() {
    let start = || Start::of(request(RUN, Error));
    let mut world = World::new(&[1], [start(), start()]);
    world.run_to(0, creates(&epoch_key(1)));
    world.input.push(7);
    world.run_to(1, creates(&epoch_key(1)));
    world.step(0, Fault::None).unwrap();
    world.run(1).unwrap(); // with the first one's plan, while that one lies still
    assert_eq!(world.exit(1), Some(&Exit::Complete));
    world.run(0).unwrap();
    world.check_end(RUN).unwrap();
    assert_eq!(epochs(&world), 1);
    let plan: Plan = serde_json::from_slice(&world.objects.0[&epoch_key(1)]).unwrap();
    assert_eq!(plan.units.len(), 1, "the first plan");
}

#[test]
fn a_late_replica_looks_for_the_plan_a_while_and_then_makes_one() {
    let mut world = World::new(&[1, 1], [Start::of(request(RUN, Error)).replica(1, 2)]);
    let mut pauses = 0;
    while epochs(&world) == 0 {
        pauses += u32::from(matches!(world.processes[0].ask(), Some(Ask::Pause)));
        world.step(0, Fault::None).unwrap();
    }
    assert_eq!(pauses, claim::LOOKS_FOR_PLAN);
}

/// Failure matrix: 10.
#[test]
fn a_late_replica_takes_the_plan_as_soon_as_it_is_there() {
    let start = Start::of(request(RUN, Error));
    let mut world = World::new(&[1, 1], [start.clone().replica(0, 2), start.replica(1, 2)]);
    while !matches!(world.processes[1].ask(), Some(Ask::Pause)) {
        world.step(1, Fault::None).unwrap();
    }
    world.run(0).unwrap();
    assert_eq!(world.exit(0), Some(&Exit::PartDone));
    world.input.push(9);
    world.run(1).unwrap();
    world.check_end(RUN).unwrap();
    assert_eq!(epochs(&world), 1);
}

#[test]
fn a_replica_that_sees_the_old_marker_vanish_under_its_own_run_is_not_refused() {
    let start = Start::of(request(RUN, Overwrite));
    let before = finished(OLD, &[1]);
    let mut world = meets(
        &before.objects,
        &[1, 1],
        [start.clone().replica(0, 2), start.replica(1, 2)],
    );
    world.run_to(1, |op| matches!(op, Op::Get { key } if key == MARKER));
    world.run_to(0, |op| *op == Op::list("")); // it has claimed and removed the old marker
    assert!(!has_marker(&world));
    world.run(1).unwrap();
    assert_eq!(world.exit(1), Some(&Exit::PartDone));
    world.run(0).unwrap();
    world.check_end(RUN).unwrap();
}

/// Failure matrix: 17.
#[test]
fn of_two_runs_in_error_mode_the_second_finds_the_output_taken() {
    let mut world = World::new(
        &[1],
        [Start::of(request(RUN, Error)), Start::of(request(OLD, Error))],
    );
    world.run_to(0, creates(&epoch_key(1)));
    world.run_to(1, creates(&epoch_key(1)));
    world.run(0).unwrap();
    world.run_on_damage(1);
    assert_eq!(failure(&world, 1).0, ErrorKind::NotEmpty);
    world.check_end(RUN).unwrap();
}

#[test]
fn a_plan_made_for_another_run_is_a_bug() {
    let mut claim = claim::Claim::new(request(RUN, Error));
    let mut objects = Objects::default();
    while let machine::Step::Store(op) = claim.next() {
        claim.apply(objects.perform(&op)).unwrap();
    }
    let error = claim
        .apply(Answer::Planned(Box::new(plan_of("other", Error, &[1]))))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
}

#[test]
fn a_pinned_plan_that_contradicts_itself_is_refused() {
    let mut plan = plan_of(RUN, Error, &[1, 1]);
    plan.units[1].id = 5;
    let mut world = World::new(&[1], [Start::of(request(RUN, Error))]);
    world
        .objects
        .create(&epoch_key(1), serde_json::to_vec(&plan).unwrap().into());
    world.run_on_damage(0);
    assert!(
        failure(&world, 0).1.contains("not numbered"),
        "{:?}",
        world.exit(0)
    );
}

// ---- prepare

/// Failure matrix: 3, 15.
#[test]
fn the_old_marker_goes_before_any_old_file() {
    let before = finished(OLD, &[1, 1]);
    let mut world = meets(&before.objects, &[1], [Start::of(request(RUN, Overwrite))]);
    world.run_to(0, |op| matches!(op, Op::Delete { .. }));
    assert!(
        deletes(MARKER)(&op_of(&world, 0)),
        "the first deletion is the marker's"
    );
    world.run(0).unwrap();
    world.check_end(RUN).unwrap();
}

/// Failure matrix: 11.
#[test]
fn a_late_replica_in_overwrite_mode_deletes_nothing() {
    let start = Start::of(request(RUN, Overwrite));
    let before = finished(OLD, &[1, 1]);
    let mut world = meets(
        &before.objects,
        &[1, 1],
        [start.clone().replica(0, 2), start.replica(1, 2)],
    );
    world.run(0).unwrap();
    while world.exit(1).is_none() {
        if let Some(Ask::Store(op)) = world.processes[1].ask() {
            assert!(!matches!(op, Op::Delete { .. }), "{op:?}");
        }
        world.step(1, Fault::None).unwrap();
    }
    world.check_end(RUN).unwrap();
}

#[test]
fn clearing_stops_at_the_fence_of_a_newer_run() {
    let before = finished(OLD, &[1, 1]);
    let mut world = meets(&before.objects, &[1], [Start::of(request(RUN, Overwrite))]);
    world.run_to(0, |op| *op == Op::list("")); // the marker is gone, the files are not
    superseding(&mut world, "newest");
    world.run_on_damage(0);
    assert_eq!(failure(&world, 0).0, ErrorKind::Superseded);
    assert!(
        world.objects.0.contains_key(&data_key("", 0, OLD)),
        "the newer run clears, not this one"
    );
}

#[test]
fn the_marker_is_fenced_too() {
    let before = finished(OLD, &[1]);
    let mut world = meets(&before.objects, &[1], [Start::of(request(RUN, Overwrite))]);
    world.run_to(0, |op| matches!(op, Op::Get { key } if key.ends_with("prepared")));
    superseding(&mut world, "newest");
    world.run_on_damage(0);
    assert_eq!(failure(&world, 0).0, ErrorKind::Superseded);
    assert!(has_marker(&world));
}

/// Failure matrix: 15.
#[test]
fn a_marker_that_turns_up_while_clearing_is_dealt_with_before_any_file() {
    let mut world = World::new(&[1], [Start::of(request(RUN, Overwrite))]);
    drop_in(&mut world, "old.parquet", "x");
    world.run_to(0, |op| *op == Op::list(""));
    drop_in(&mut world, MARKER, "");
    world.run_to(0, |op| matches!(op, Op::Delete { .. }));
    assert!(deletes(MARKER)(&op_of(&world, 0)));
    world.run(0).unwrap();
    world.check_end(RUN).unwrap();
}

#[test]
fn files_that_turn_up_after_the_claim_are_protected_in_error_mode() {
    for key in ["a.parquet", MARKER] {
        let mut world = World::new(&[1], [Start::of(request(RUN, Error))]);
        world.run_to(0, |op| matches!(op, Op::Create { .. }));
        world.step(0, Fault::None).unwrap();
        world.run_to(0, |op| *op == Op::list(""));
        drop_in(&mut world, key, "");
        world.run_on_damage(0);
        assert_eq!(failure(&world, 0).0, ErrorKind::NotEmpty);
        assert!(world.objects.0.contains_key(key));
    }
}

// ---- unit

/// Failure matrix: 12.
#[test]
fn a_unit_of_a_superseded_run_is_not_stored() {
    let mut world = World::new(&[1], [Start::of(request(RUN, Overwrite))]);
    world.run_to(0, |op| matches!(op, Op::Head { .. }));
    superseding(&mut world, "newest");
    world.run_on_damage(0);
    let (kind, message) = failure(&world, 0);
    assert_eq!(kind, ErrorKind::Superseded);
    assert!(message.contains("epoch 2"), "{message}");
    assert!(!world.objects.0.contains_key(&data_key("", 0, RUN)));
}

/// Failure matrix: 12.
#[test]
fn a_unit_whose_create_failed_looks_at_the_fence_before_it_tries_again() {
    let mut world = World::new(&[1], [Start::of(request(RUN, Overwrite))]);
    world.run_to(0, creates(&data_key("", 0, RUN)));
    world.step(0, Fault::FailBefore).unwrap();
    superseding(&mut world, "newest");
    world.run_on_damage(0);
    assert_eq!(failure(&world, 0).0, ErrorKind::Superseded);
    assert!(!world.objects.0.contains_key(&data_key("", 0, RUN)));
}

/// Commits unit 0 of a fresh claim by hand, with `meanwhile` called once its data create comes up.
fn commit_by_hand(
    files: impl Fn(&Claimed) -> Vec<NewFile>,
    fault: Option<machine::Creation>,
    meanwhile: impl FnOnce(&mut Objects, &Claimed),
) -> (Result<CommitOutcome>, Objects, Claimed) {
    let mut world = World::new(&[2], [Start::of(request(RUN, Error))]);
    world.run_to(0, |op| matches!(op, Op::Head { .. }));
    let claimed = world.processes[0].claimed().unwrap().clone();
    let mut machine = unit::CommitUnit::new(claimed.clone(), 0, files(&claimed), Map::new()).unwrap();
    let (mut meanwhile, mut fault) = (Some(meanwhile), fault);
    let outcome = loop {
        let answer = match machine.next() {
            machine::Step::Store(op) => {
                if matches!(op, Op::Create { .. })
                    && let Some(meanwhile) = meanwhile.take()
                {
                    meanwhile(&mut world.objects, &claimed);
                }
                let answer = world.objects.perform(&op);
                match (&op, fault.take()) {
                    (Op::Create { .. }, Some(lie)) => Answer::Created(lie),
                    (_, lie) => {
                        fault = lie;
                        answer
                    }
                }
            }
            machine::Step::CountRows { body, .. } => match count_rows(&body) {
                Ok(rows) => Answer::Rows(rows),
                Err(error) => break Err(error),
            },
            machine::Step::Pause { .. } => Answer::Waited,
            machine::Step::BuildPlan => unreachable!(),
            machine::Step::Done(outcome) => break Ok(outcome),
        };
        if let Err(error) = machine.apply(answer) {
            break Err(error);
        }
    };
    (outcome, world.objects, claimed)
}

fn ours(claimed: &Claimed) -> Vec<NewFile> {
    rows_of(claimed, 0, "", "row")
}

fn only_record(objects: &Objects, claimed: &Claimed) -> RecordName {
    let listing = objects.list(&layout::records_folder(claimed.epoch));
    let names = claimed.records(&listing).unwrap();
    names[&0]
}

/// Failure matrix: 9, 67.
#[test]
fn whose_bytes_were_first_decides_what_the_record_says() {
    let stored_by_twin = |word: &'static str| {
        move |objects: &mut Objects, claimed: &Claimed| {
            for file in rows_of(claimed, 0, "", word) {
                objects.create(&file.path, file.body.join());
            }
        }
    };
    let (outcome, objects, claimed) = commit_by_hand(ours, None, |_, _| {});
    assert_eq!(outcome.unwrap(), CommitOutcome::Committed);
    let committed = only_record(&objects, &claimed);

    let (outcome, objects, claimed) = commit_by_hand(ours, None, stored_by_twin("row"));
    assert_eq!(outcome.unwrap(), CommitOutcome::LostRace { same_bytes: true });
    assert_eq!(only_record(&objects, &claimed), committed);

    let (outcome, objects, claimed) = commit_by_hand(ours, None, stored_by_twin("other"));
    assert_eq!(outcome.unwrap(), CommitOutcome::LostRace { same_bytes: false });
    let stored = &objects.0[&data_key("", 0, RUN)];
    assert_eq!(
        only_record(&objects, &claimed).seal,
        layout::Seal::Object(Checksum::of(stored))
    );
    assert_ne!(only_record(&objects, &claimed), committed);
}

/// Failure matrix: 48.
#[test]
fn a_lost_answer_to_ones_own_create_is_no_lost_race() {
    let lost = machine::Creation::Unknown("reset".into());
    let (outcome, ..) = commit_by_hand(ours, Some(lost), |_, _| {});
    assert_eq!(outcome.unwrap(), CommitOutcome::Committed);
}

/// Failure matrix: 6.
#[test]
fn what_an_earlier_attempt_stored_must_hold_the_units_rows() {
    for (stored, words) in [
        ("row f0#0\n", "1 rows where this one has 2"),
        ("garbage", "not the output"),
    ] {
        let (outcome, objects, claimed) = commit_by_hand(ours, None, |objects, claimed| {
            objects.create(&data_key("", 0, &claimed.plan.run_id), Bytes::from(stored));
        });
        let error = outcome.unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        assert!(
            objects.list(&layout::records_folder(claimed.epoch)).is_empty(),
            "no record of it"
        );
    }
}

/// Failure matrix: 25.
#[test]
fn a_unit_with_other_rows_or_other_names_than_its_own_is_a_bug() {
    let mut world = World::new(&[2], [Start::of(request(RUN, Error))]);
    world.run_to(0, |op| matches!(op, Op::Head { .. }));
    let claimed = world.processes[0].claimed().unwrap();
    let file = |folder: &str, unit, run, rows| new_file(data_key(folder, unit, run), "x", rows);
    for (unit, files, words) in [
        (0, vec![], "0 rows were computed for a unit of 2"),
        (0, vec![file("", 0, RUN, 1)], "1 rows"),
        (0, vec![file("", 1, RUN, 2)], "not a name"),
        (0, vec![file("", 0, OLD, 2)], "not a name"),
        (0, vec![new_file("x.parquet".into(), "x", 2)], "not a name"),
        (
            0,
            vec![file("a=1", 0, RUN, 1), file("a=1", 0, RUN, 1)],
            "used twice",
        ),
        (1, vec![], "not in the plan"),
    ] {
        let error = unit::CommitUnit::new(claimed.clone(), unit, files, Map::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal);
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[test]
fn a_record_is_read_back_only_if_it_agrees_with_its_name() {
    let (_, objects, claimed) = commit_by_hand(ours, None, |_, _| {});
    let name = only_record(&objects, &claimed);
    let body = &objects.0[&name.key(1)];
    let record = Record::read(body, name, 1).unwrap();
    assert_eq!((record.unit, record.rows, record.files.len()), (0, 2, 1));
    let lied = Record {
        rows: 3,
        ..record.clone()
    };
    assert!(Record::read(&lied.to_json(), name, 1).is_err());
    let moved = Record { epoch: 2, ..record };
    assert!(Record::read(&moved.to_json(), name, 1).is_err());
}

// ---- finish

/// Failure matrix: 14.
#[test]
fn whoever_does_not_see_every_record_leaves_the_marker_to_others() {
    let start = Start::of(request(RUN, Error));
    let mut world = World::new(&[1, 1, 1], [start.clone().replica(0, 3), start.replica(1, 3)]);
    world.run(0).unwrap();
    assert_eq!(world.exit(0), Some(&Exit::PartDone));
    world.run(1).unwrap();
    assert_eq!(world.exit(1), Some(&Exit::PartDone));
    assert!(!has_marker(&world));
}

#[test]
fn a_committed_object_that_is_gone_or_cut_short_stops_the_marker() {
    for (body, words) in [(None, "is missing"), (Some("x"), "has 1 bytes instead of")] {
        let mut world = about_to_finish(Error);
        let key = data_key("", 1, RUN);
        world.objects.0.remove(&key);
        if let Some(body) = body {
            drop_in(&mut world, &key, body);
        }
        world.restart(0);
        world.run_on_damage(0);
        let (kind, message) = failure(&world, 0);
        assert_eq!(kind, ErrorKind::Storage);
        assert!(message.contains(words) && message.contains(&key), "{message}");
        assert!(!has_marker(&world));
    }
}

#[test]
fn strangers_among_the_results_stop_the_marker_until_they_are_removed() {
    for mode in [Error, Overwrite] {
        for key in ["a.parquet", "_x/b.parquet", "notes.txt", &data_key("sub", 0, RUN)] {
            let mut world = about_to_finish(mode);
            drop_in(&mut world, key, "x");
            world.restart(0);
            world.run_on_damage(0);
            let (kind, message) = failure(&world, 0);
            assert_eq!(kind, ErrorKind::NotEmpty);
            assert!(
                message.contains(key) && message.contains("same run_id"),
                "{message}"
            );
            world.objects.0.remove(key).expect("a stranger is not deleted");
            world.restart(0);
            world.run(0).unwrap();
            world.check_end(RUN).unwrap();
        }
    }
}

/// Failure matrix: 12.
#[test]
fn a_file_that_an_older_run_stored_too_late_is_removed_in_overwrite_mode() {
    let mut world = about_to_finish(Overwrite);
    drop_in(&mut world, &data_key("", 9, OLD), "x");
    world.restart(0);
    world.run_on_damage(0);
    assert_eq!(world.exit(0), Some(&Exit::Complete));
    world.check_end(RUN).unwrap();
}

#[test]
fn a_marker_that_an_older_run_stored_too_late_is_replaced_in_overwrite_mode() {
    let old = finished(OLD, &[1]).objects.0[MARKER].clone();
    let mut world = about_to_finish(Overwrite);
    world.objects.0.insert(MARKER.into(), old.clone());
    world.run_on_damage(0);
    assert_eq!(world.exit(0), Some(&Exit::Complete));
    world.check_end(RUN).unwrap();

    let mut world = about_to_finish(Error);
    world.objects.0.insert(MARKER.into(), old.clone());
    world.run_on_damage(0);
    assert_eq!(failure(&world, 0).0, ErrorKind::NotEmpty);
    assert_eq!(world.objects.0[MARKER], old);
}

#[test]
fn a_run_that_was_superseded_before_the_marker_writes_none() {
    let mut world = World::new(&[1], [Start::of(request(RUN, Overwrite))]);
    world.run_to(0, |op| *op == Op::list(layout::records_folder(1)));
    world.step(0, Fault::None).unwrap(); // none yet
    world.run_to(0, |op| *op == Op::list(layout::records_folder(1)));
    superseding(&mut world, "newest");
    while world.exit(0).is_none() {
        assert!(!matches!(world.processes[0].ask(), Some(Ask::Store(op)) if creates(MARKER)(&op)));
        world.step(0, Fault::None).unwrap();
    }
    assert_eq!(failure(&world, 0).0, ErrorKind::Superseded);
}

#[test]
fn a_replica_whose_part_is_done_under_a_newer_run_does_not_exit_as_if_it_were() {
    let mut world = World::new(&[1, 1], [Start::of(request(RUN, Overwrite)).replica(0, 2)]);
    world.run_to(0, creates(&data_key("", 0, RUN)));
    superseding(&mut world, "newest");
    world.run_on_damage(0);
    assert_eq!(failure(&world, 0).0, ErrorKind::Superseded);
}

/// Failure matrix: 17.
#[test]
fn a_run_that_was_superseded_while_it_wrote_the_marker_takes_it_back() {
    let mut world = about_to_finish(Overwrite);
    superseding(&mut world, "newest");
    world.run_to(0, deletes(MARKER));
    assert!(has_marker(&world));
    world.run_on_damage(0);
    assert_eq!(failure(&world, 0).0, ErrorKind::Superseded);
    assert!(!has_marker(&world));
}

#[test]
fn a_superseded_run_leaves_the_newer_runs_marker_alone() {
    let mut world = about_to_finish(Overwrite);
    superseding(&mut world, "newest");
    world.run_on_damage(1);
    assert_eq!(world.exit(1), Some(&Exit::Complete));
    world.run_on_damage(0);
    assert_eq!(failure(&world, 0).0, ErrorKind::Superseded);
    world.check_end("newest").unwrap();
}

#[test]
fn a_marker_that_vanished_is_written_again() {
    let mut world = about_to_finish(Error);
    world.step(0, Fault::None).unwrap();
    world.objects.0.remove(MARKER).unwrap();
    world.run(0).unwrap();
    assert_eq!(world.exit(0), Some(&Exit::Complete));
    world.check_end(RUN).unwrap();
}

#[test]
fn state_that_is_removed_under_a_running_process_is_said_to_be_gone() {
    let mut world = about_to_finish(Error);
    world.step(0, Fault::None).unwrap();
    world.objects.0.retain(|key, _| !layout::is_state(key));
    world.run_on_damage(0);
    assert!(failure(&world, 0).1.contains("_floe/"), "{:?}", world.exit(0));
}

fn op_of(world: &World, who: usize) -> Op {
    match world.processes[who].ask() {
        Some(Ask::Store(op)) => op,
        _ => panic!("no operation"),
    }
}
