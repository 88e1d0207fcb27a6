//! Units with several objects: the record's name seals the list of objects in its body.

use super::*;
use std::collections::BTreeSet;

/// Rows of a unit by partition: `(folder, rows)`.
type Parts = &'static [(&'static str, u64)];

fn run_partitioned(units: &[Parts]) -> (MapStore, Claimed) {
    let store = MapStore::default();
    let rows: Vec<u64> = units
        .iter()
        .map(|parts| parts.iter().map(|part| part.1).sum())
        .collect();
    let claimed = block_on(async {
        let plan = plan_of(RUN, SaveMode::Error, &rows);
        match claim(&store, request(RUN, SaveMode::Error), async || Ok(plan))
            .await
            .unwrap()
        {
            ClaimOutcome::Claimed(claimed) => claimed,
            other => panic!("{other:?}"),
        }
    });
    for (unit, parts) in units.iter().enumerate() {
        commit_parts(&store, &claimed, unit as u32, parts).unwrap();
    }
    (store, claimed)
}

fn commit_parts(store: &MapStore, claimed: &Claimed, unit: u32, parts: Parts) -> Result<CommitOutcome> {
    let files = parts
        .iter()
        .map(|(folder, rows)| {
            let text = format!("{folder} {unit}\n").repeat(*rows as usize);
            new_file(data_key(folder, unit, RUN), text, *rows)
        })
        .collect();
    block_on(commit_unit(store, claimed, unit, files, Map::new(), &count_rows))
}

const UNITS: &[Parts] = &[&[("a=2", 1), ("a=1", 2)], &[("a=1", 1)], &[]];

#[test]
fn every_object_of_every_partition_is_in_the_marker() {
    let (store, claimed) = run_partitioned(UNITS);
    let Finished::Complete(success) = block_on(finish(&store, &claimed)).unwrap() else {
        panic!("not complete");
    };
    let paths: Vec<&str> = success.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            &data_key("a=1", 0, RUN),
            &data_key("a=1", 1, RUN),
            &data_key("a=2", 0, RUN)
        ]
    );
    assert_eq!(success.rows, 4);
    let report = block_on(verify(&store, verify::Depth::Contents(&count_rows))).unwrap();
    assert!(report.ok, "{:?}", report.problems);
}

#[test]
fn a_unit_that_is_committed_again_says_the_same() {
    let (store, claimed) = run_partitioned(UNITS);
    let before = store.0.lock().unwrap().clone();
    for (unit, parts) in UNITS.iter().enumerate() {
        let outcome = commit_parts(&store, &claimed, unit as u32, parts).unwrap();
        let expected = if parts.is_empty() {
            CommitOutcome::Committed
        } else {
            CommitOutcome::LostRace { same_bytes: true }
        };
        assert_eq!(outcome, expected);
    }
    assert_eq!(*store.0.lock().unwrap(), before);
}

/// Failure matrix: 67.
#[test]
fn partitions_that_differ_between_attempts_are_found_before_the_marker() {
    let (store, claimed) = run_partitioned(UNITS);
    commit_parts(&store, &claimed, 1, &[("a=2", 1)]).unwrap();
    let error = block_on(finish(&store, &claimed)).unwrap_err();
    assert!(error.to_string().contains("two commit records"), "{error}");
    assert!(block_on(committed(&store, &claimed)).is_err());
}

#[test]
fn a_list_of_objects_that_was_changed_is_not_believed() {
    let (store, claimed) = run_partitioned(UNITS);
    let name = block_on(committed(&store, &claimed)).unwrap()[&0];
    let key = name.key(claimed.epoch);
    let text = String::from_utf8(store.0.lock().unwrap().0[&key].to_vec()).unwrap();
    let seen: BTreeSet<bool> = ["a=1/", "\"rows\":2", "\"bytes\":6", "\"unit\":0", "xxh3:"]
        .into_iter()
        .map(|part| {
            assert!(text.contains(part), "{part} is not in {text}");
            let changed = match part {
                "xxh3:" => text.replacen("xxh3:", "xxh3:0", 1),
                "a=1/" => text.replacen(part, "a=9/", 1),
                _ => text.replacen(part, &part.replace(|c: char| c.is_ascii_digit(), "7"), 1),
            };
            store.insert(&key, changed);
            block_on(finish(&store, &claimed)).is_err()
        })
        .collect();
    assert_eq!(seen, BTreeSet::from([true]));
    store.insert(&key, text);
    assert!(block_on(finish(&store, &claimed)).is_ok());
}
