//! What a re-run does: each row of the table in `docs/commit-protocol.md`, in both modes.

use super::*;
use SaveMode::{Error, Overwrite};

const INPUT: &[u64] = &[2, 3];

/// What the process comes to that meets `before`, and what is stored then.
fn rerun(before: &World, request: ClaimRequest) -> World {
    let mut world = meets(&before.objects, INPUT, [Start::of(request)]);
    world.run_on_damage(0);
    world
}

fn refused(before: &World, request: ClaimRequest, kind: ErrorKind, words: &[&str]) {
    let after = rerun(before, request);
    let (actual, message) = failure(&after, 0);
    assert_eq!(actual, kind, "{message}");
    for word in words {
        assert!(message.contains(word), "{word:?} is not in: {message}");
    }
    assert_eq!(after.objects, before.objects, "a refusal changes nothing");
}

fn unfinished(run_id: &str, mode: SaveMode) -> World {
    let mut world = World::new(INPUT, [Start::of(request(run_id, mode))]);
    let second_unit = data_key("", 1, run_id);
    world.run_to(
        0,
        |op| matches!(op, machine::Op::Create { key, .. } if *key == second_unit),
    );
    world
}

fn with_files(files: &[&str]) -> World {
    let mut world = World::new(INPUT, []);
    for file in files {
        drop_in(&mut world, file, "x");
    }
    world
}

#[test]
fn an_empty_output_becomes_epoch_1() {
    for mode in [Error, Overwrite] {
        let world = rerun(&World::new(INPUT, []), request(RUN, mode));
        assert_eq!(world.exit(0), Some(&Exit::Complete));
        world.check_end(RUN).unwrap();
        assert_eq!(epochs(&world), 1);
    }
}

#[test]
fn an_unfinished_run_resumes_and_skips_what_has_a_record() {
    for mode in [Error, Overwrite] {
        let before = unfinished(RUN, mode);
        let mut world = meets(&before.objects, INPUT, [Start::of(request(RUN, mode))]);
        let mut created = Vec::new();
        while world.exit(0).is_none() {
            if let Some(Ask::Store(machine::Op::Create { key, .. })) = world.processes[0].ask() {
                created.push(key);
            }
            world.step(0, Fault::None).unwrap();
        }
        world.check_end(RUN).unwrap();
        assert_eq!(epochs(&world), 1);
        assert_eq!(
            created.len(),
            3,
            "one object, its record, the marker: {created:?}"
        );
        assert_eq!(created[0], data_key("", 1, RUN));
    }
}

/// Failure matrix: 8.
#[test]
fn a_finished_run_is_left_alone_by_its_own_late_replicas() {
    for mode in [Error, Overwrite] {
        let mut before = World::new(INPUT, [Start::of(request(RUN, mode))]);
        before.run(0).unwrap();
        let after = rerun(&before, request(RUN, mode));
        assert_eq!(after.exit(0), Some(&Exit::Complete));
        assert_eq!(after.objects, before.objects);
    }
}

#[test]
fn a_finished_run_whose_files_were_damaged_is_not_called_complete() {
    let mut before = finished(RUN, INPUT);
    before.objects.0.remove(&data_key("", 0, RUN));
    refused(
        &before,
        request(RUN, Overwrite),
        ErrorKind::Storage,
        &["missing", "part-000000"],
    );
    drop_in(&mut before, &data_key("", 0, RUN), "short");
    refused(
        &before,
        request(RUN, Overwrite),
        ErrorKind::Storage,
        &["has 5 bytes instead of"],
    );
}

/// Failure matrix: 16.
#[test]
fn foreign_files_are_protected_in_error_mode_and_cleared_in_overwrite_mode() {
    for files in [
        &["notes.txt", "a.parquet"][..],
        &["_SUCCESS"],
        &["_SUCCESS", "part-0.parquet"],
    ] {
        let before = with_files(files);
        refused(
            &before,
            request(RUN, Error),
            ErrorKind::NotEmpty,
            &["not empty", files[0]],
        );
        let after = rerun(&before, request(RUN, Overwrite));
        after.check_end(RUN).unwrap();
        assert_eq!(epochs(&after), 1);
    }
}

#[test]
fn hidden_files_that_no_reader_opens_are_nobodys_business() {
    let before = with_files(&[".DS_Store"]);
    for mode in [Error, Overwrite] {
        let after = rerun(&before, request(RUN, mode));
        after.check_end(RUN).unwrap();
        assert!(after.objects.0.contains_key(".DS_Store"));
    }
}

/// Failure matrix: 15.
#[test]
fn another_finished_run_is_protected_in_error_mode_and_replaced_in_overwrite_mode() {
    let before = finished(OLD, &[1, 1, 1]);
    refused(
        &before,
        request(RUN, Error),
        ErrorKind::NotEmpty,
        &["finished output of run old", "overwrite"],
    );
    let after = rerun(&before, request(RUN, Overwrite));
    after.check_end(RUN).unwrap();
    assert_eq!(epochs(&after), 2);
}

/// Failure matrix: 17.
#[test]
fn another_unfinished_run_may_be_alive_and_is_superseded_only_on_demand() {
    let before = unfinished(OLD, Overwrite);
    refused(
        &before,
        request(RUN, Error),
        ErrorKind::NotEmpty,
        &["unfinished output of run old", "run_id"],
    );
    refused(
        &before,
        request(RUN, Overwrite),
        ErrorKind::NotEmpty,
        &["old", "take_over"],
    );
    let take_over = ClaimRequest {
        take_over: true,
        ..request(RUN, Overwrite)
    };
    let after = rerun(&before, take_over);
    after.check_end(RUN).unwrap();
    assert_eq!(epochs(&after), 2);
    // Error mode protects it all the same.
    let take_over = ClaimRequest {
        take_over: true,
        ..request(RUN, Error)
    };
    refused(&before, take_over, ErrorKind::NotEmpty, &["old"]);
}

/// Failure matrix: 12.
#[test]
fn a_run_below_a_newer_one_is_superseded() {
    let first = finished(OLD, INPUT);
    let second = rerun(&first, request(RUN, Overwrite));
    for mode in [Error, Overwrite] {
        for take_over in [false, true] {
            let late = ClaimRequest {
                take_over,
                ..request(OLD, mode)
            };
            refused(
                &second,
                late,
                ErrorKind::Superseded,
                &["run old (epoch 1)", "epoch 2"],
            );
        }
    }
}

/// Failure matrix: 18.
#[test]
fn a_known_run_with_another_job_or_model_is_refused_at_every_stage() {
    let running = unfinished(RUN, Overwrite);
    let complete = finished(RUN, INPUT);
    let mut stateless = finished(RUN, INPUT);
    stateless.objects.0.retain(|key, _| !layout::is_state(key));
    for before in [running, complete, stateless] {
        let job = ClaimRequest {
            config_digest: "other".into(),
            ..request(RUN, Overwrite)
        };
        refused(&before, job, ErrorKind::Config, &["another job", "c, not other"]);
        let model = ClaimRequest {
            model_digest: "other".into(),
            ..request(RUN, Overwrite)
        };
        refused(
            &before,
            model,
            ErrorKind::Config,
            &["another model", "m, not other"],
        );
    }
}

#[test]
fn a_finished_run_is_known_by_its_marker_after_the_state_was_removed() {
    let mut before = finished(RUN, INPUT);
    before.objects.0.retain(|key, _| !layout::is_state(key));
    for mode in [Error, Overwrite] {
        let after = rerun(&before, request(RUN, mode));
        assert_eq!(after.exit(0), Some(&Exit::Complete));
        assert_eq!(after.objects, before.objects);
    }
}

#[test]
fn epoch_numbers_go_on_after_the_state_was_removed() {
    let mut before = finished(OLD, INPUT);
    before.objects.0.retain(|key, _| !layout::is_state(key));
    let mut after = rerun(&before, request(RUN, Overwrite));
    after.check_end(RUN).unwrap();
    assert!(after.objects.0.contains_key(&epoch_key(2)), "{:?}", keys(&after));
    // Also when the marker says something impossible.
    drop_in(
        &mut before,
        MARKER,
        &format!(r#"{{"run_id": "x", "epoch": {}}}"#, u64::MAX),
    );
    after = rerun(&before, request(RUN, Overwrite));
    after.check_end(RUN).unwrap();
}

#[test]
fn two_runs_whose_ids_shorten_to_the_same_tag_never_meet() {
    use std::collections::HashMap;
    let mut seen = HashMap::new();
    let (one, two) = (0..)
        .find_map(|number| {
            let id = format!("run{number}");
            seen.insert(layout::RunTag::of(&id), id.clone())
                .map(|other| (other, id))
        })
        .unwrap();
    let before = finished(&one, INPUT);
    refused(
        &before,
        request(&two, Overwrite),
        ErrorKind::Config,
        &[&one, &two, "choose another run_id"],
    );
}

/// Failure matrix: 68.
#[test]
fn state_of_another_format_or_damaged_state_is_refused() {
    let mut before = finished(OLD, INPUT);
    let key = epoch_key(1);
    drop_in(&mut before, &key, r#"{"format": 2, "run_id": "new"}"#);
    refused(
        &before,
        request(RUN, Overwrite),
        ErrorKind::Storage,
        &["format 2", &key],
    );
    drop_in(&mut before, &key, r#"{"format": 1, "#);
    refused(
        &before,
        request(RUN, Overwrite),
        ErrorKind::Storage,
        &["which run", &key],
    );
}

/// Failure matrix: 38.
#[test]
fn an_input_without_rows_still_finishes() {
    for input in [&[][..], &[0, 0]] {
        let mut world = World::new(input, [Start::of(request(RUN, Error))]);
        world.run(0).unwrap();
        world.check_end(RUN).unwrap();
        assert!(!keys(&world).iter().any(|key| key.ends_with(".parquet")));
    }
}
