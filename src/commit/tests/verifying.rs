//! `verify` finds what is wrong with an output, on what is stored alone.

use super::verify::{Depth, Problem, ProblemKind, Report};
use super::*;

const INPUT: &[u64] = &[2, 0, 3];

fn report(world: &World) -> Report {
    let store = MapStore(world.objects.clone().into());
    block_on(verify(&store, Depth::Contents(&count_rows))).unwrap()
}

fn kinds(report: &Report) -> Vec<ProblemKind> {
    report.problems.iter().map(|problem| problem.kind).collect()
}

fn data() -> String {
    data_key("", 2, RUN)
}

#[test]
fn a_finished_output_is_in_order_with_and_without_its_state() {
    let mut world = finished(RUN, INPUT);
    let with = report(&world);
    assert!(with.ok && with.state, "{:?}", with.problems);
    assert_eq!((with.rows, with.files, with.run_id.as_deref()), (5, 2, Some(RUN)));
    world.objects.0.retain(|key, _| !layout::is_state(key));
    let without = report(&world);
    assert!(without.ok && !without.state, "{:?}", without.problems);
    assert_eq!((without.rows, without.bytes), (5, with.bytes));
}

/// Failure matrix: 12.
#[test]
fn each_kind_of_damage_is_found_with_and_without_the_state() {
    type Damage = fn(&mut World);
    let cases: [(Damage, &[ProblemKind]); 8] = [
        (
            |world| drop(world.objects.0.remove(&data())),
            &[ProblemKind::MissingFile],
        ),
        (
            |world| drop_in(world, &data(), "row f2#0\n"),
            &[ProblemKind::WrongSize],
        ),
        (
            |world| {
                let mut body = world.objects.0[&data()].to_vec();
                body[0] ^= 1;
                world.objects.0.insert(data(), body.into());
            },
            &[ProblemKind::WrongChecksum],
        ),
        (
            |world| drop_in(world, "stray.parquet", "x"),
            &[ProblemKind::ForeignFile],
        ),
        (
            |world| drop_in(world, "_temporary/x.parquet", "x"),
            &[ProblemKind::ForeignFile],
        ),
        (
            |world| drop_in(world, &data_key("", 2, OLD), "x"),
            &[ProblemKind::ForeignFile],
        ),
        (|world| drop_in(world, MARKER, ""), &[ProblemKind::BadMarker]),
        (
            |world| drop_in(world, MARKER, r#"{"format": 9}"#),
            &[ProblemKind::BadMarker],
        ),
    ];
    for (number, (damage, expected)) in cases.into_iter().enumerate() {
        for state in [true, false] {
            let mut world = finished(RUN, INPUT);
            if !state {
                world.objects.0.retain(|key, _| !layout::is_state(key));
            }
            damage(&mut world);
            let report = report(&world);
            assert!(!report.ok);
            assert_eq!(
                kinds(&report),
                expected,
                "case {number}, state {state}: {:?}",
                report.problems
            );
        }
    }
}

#[test]
fn a_missing_marker_says_how_far_the_run_has_come() {
    let mut world = World::new(INPUT, [Start::of(request(RUN, SaveMode::Error))]);
    assert_eq!(kinds(&report(&world)), [ProblemKind::NoMarker]);
    let last = data();
    world.run_to(
        0,
        |op| matches!(op, machine::Op::Create { key, .. } if *key == last),
    );
    let found = report(&world);
    assert_eq!(found.run_id.as_deref(), Some(RUN));
    let [Problem { kind, message, .. }] = &found.problems[..] else {
        panic!("{:?}", found.problems)
    };
    assert_eq!(*kind, ProblemKind::NoMarker);
    assert!(message.contains("2 of 3 units"), "{message}");
}

/// Writes a marker as it is, but for `change`.
fn with_marker(change: impl FnOnce(&mut Success)) -> World {
    let mut world = finished(RUN, INPUT);
    let mut marker = Success::read(&world.objects.0[MARKER]).unwrap();
    change(&mut marker);
    world.objects.0.insert(MARKER.into(), marker.to_json().into());
    world
}

#[test]
fn wrong_row_counts_are_found_in_marker_and_files() {
    let sums = report(&with_marker(|marker| marker.rows += 1));
    assert_eq!(kinds(&sums), [ProblemKind::WrongRows, ProblemKind::Plan]);

    let mut counts = with_marker(|marker| {
        marker.files[0].rows += 1;
        marker.rows += 1;
    });
    assert_eq!(
        kinds(&report(&counts)),
        [ProblemKind::Plan, ProblemKind::Record, ProblemKind::WrongRows]
    );
    counts.objects.0.retain(|key, _| !layout::is_state(key));
    assert_eq!(kinds(&report(&counts)), [ProblemKind::WrongRows]);
}

#[test]
fn an_object_that_matches_its_checksum_but_can_not_be_read_is_found() {
    let world = with_marker(|_| {});
    let store = MapStore(world.objects.into());
    let unreadable = |_: &Bytes| Err(Error::data("bad footer"));
    let report = block_on(verify(&store, Depth::Contents(&unreadable))).unwrap();
    assert_eq!(kinds(&report), [ProblemKind::WrongRows; 2]);
    assert!(report.problems[0].message.contains("bad footer"));
}

#[test]
fn by_sizes_alone_a_changed_byte_goes_unnoticed_and_a_missing_file_does_not() {
    let mut world = finished(RUN, INPUT);
    let sizes = |world: &World| {
        let store = MapStore(world.objects.clone().into());
        kinds(&block_on(verify(&store, Depth::Sizes)).unwrap())
    };
    let mut body = world.objects.0[&data()].to_vec();
    body[0] ^= 1;
    world.objects.0.insert(data(), body.into());
    assert_eq!(sizes(&world), []);
    world.objects.0.remove(&data());
    assert_eq!(sizes(&world), [ProblemKind::MissingFile]);
}

#[test]
fn a_marker_that_disagrees_with_plan_or_records_is_found() {
    for (change, expected) in [
        (
            (|marker: &mut Success| marker.plan_digest = "sha256:0".into()) as fn(&mut Success),
            ProblemKind::Plan,
        ),
        (|marker| marker.model_digest = "other".into(), ProblemKind::Plan),
        (|marker| marker.units = 1, ProblemKind::Plan),
        (|marker| marker.epoch = 7, ProblemKind::Plan),
    ] {
        let found = report(&with_marker(change));
        assert_eq!(kinds(&found), [expected], "{:?}", found.problems);
    }
    let listed_twice = report(&with_marker(|marker| marker.files.push(marker.files[0].clone())));
    assert!(kinds(&listed_twice).contains(&ProblemKind::BadMarker));

    let mut world = finished(RUN, INPUT);
    let record = keys(&world)
        .iter()
        .find(|key| key.contains("/c/000002"))
        .unwrap()
        .to_string();
    world.objects.0.remove(&record);
    let found = report(&world);
    assert!(
        kinds(&found).iter().all(|kind| *kind == ProblemKind::Record),
        "{:?}",
        found.problems
    );
}

#[test]
fn a_newer_run_that_has_claimed_the_output_is_named() {
    let mut world = finished(RUN, INPUT);
    let plan = serde_json::to_vec(&plan_of("newer", SaveMode::Overwrite, &[1])).unwrap();
    world.objects.create(&epoch_key(2), plan.into());
    assert_eq!(kinds(&report(&world)), [ProblemKind::NewerRun]);
}

#[test]
fn the_report_is_json_for_other_programs() {
    let mut world = finished(RUN, INPUT);
    world.objects.0.remove(&data());
    let json = serde_json::to_value(report(&world)).unwrap();
    assert_eq!(json["ok"], false);
    assert_eq!(json["problems"][0]["kind"], "missing_file");
    assert_eq!(json["problems"][0]["key"], data());
}
