//! Rows in equal rows out, in order, with their predictions and `_SUCCESS`.

use crate::support::{Scenario, check_with, read_parquet, table, write_parquet};
use arrow::array::{Array, Int64Array};

/// Failure matrix: 38.
#[test]
fn every_row_comes_out_once_with_its_columns_and_a_marker_that_says_so() {
    let scenario = Scenario::with_files(&[5000, 17, 0, 12_345], 1000);
    scenario.run(&[]).ok();
    let rows = scenario.rows();
    assert_eq!(rows.len(), 17_362);
    assert!(rows.keys().copied().eq(0..17_362));
    let marker = scenario.marker().unwrap();
    assert_eq!(marker["rows"], 17_362);
    let listed: Vec<_> = marker["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| file["path"].as_str().unwrap())
        .collect();
    let mut there: Vec<_> = scenario.files();
    there.retain(|file| file.ends_with(".parquet"));
    assert_eq!(listed, there);
    let report = check_with(
        "check_passthrough.py",
        &[
            "--input".as_ref(),
            scenario.input().as_os_str(),
            "--output".as_ref(),
            scenario.output().as_os_str(),
            "--key".as_ref(),
            "id".as_ref(),
        ],
    );
    assert_eq!(report["rows"], 17_362);
}

#[test]
fn no_parquet_but_the_output_lies_under_the_output_and_state_is_json() {
    let scenario = Scenario::with_files(&[100, 100], 1000);
    scenario.run(&[]).ok();
    for file in scenario.files() {
        let is_state = file.starts_with("_floe/") && !file.contains("parquet");
        assert!(
            is_state || file == "_SUCCESS" || file.starts_with("part-"),
            "{file}"
        );
        if is_state {
            let bytes = std::fs::read(scenario.output().join(&file)).unwrap();
            serde_json::from_slice::<serde_json::Value>(&bytes).unwrap();
        }
    }
}

#[test]
fn rows_keep_their_order_within_a_file() {
    let scenario = Scenario::with_files(&[50_000], 9000);
    scenario
        .run(&["--num-workers", "4", "--max-batch-rows", "100"])
        .ok();
    for file in scenario.contents().into_keys() {
        let mut last = -1;
        for batch in read_parquet(&scenario.output().join(file)) {
            let ids: &Int64Array = batch.column(0).as_any().downcast_ref().unwrap();
            for &id in ids.values() {
                assert!(id > last);
                last = id;
            }
        }
    }
}

#[test]
fn bytes_do_not_depend_on_workers_or_replicas() {
    let baseline = Scenario::with_files(&[30_000, 500, 20_000], 7000);
    baseline.run(&["--num-workers", "1", "--run-id", "same"]).ok();
    for arguments in [&["--num-workers", "5"][..], &["--replicas", "3"]] {
        let scenario = Scenario::with_files(&[30_000, 500, 20_000], 7000);
        scenario.run(&[&["--run-id", "same"], arguments].concat()).ok();
        assert_eq!(scenario.contents(), baseline.contents(), "{arguments:?}");
    }
}

#[test]
fn the_batch_size_changes_nothing_but_the_batches() {
    let small = Scenario::with_files(&[3000], 1000);
    small.run(&["--max-batch-rows", "1"]).ok();
    let large = Scenario::with_files(&[3000], 1000);
    large.run(&["--max-batch-rows", "100000"]).ok();
    assert_eq!(small.rows(), large.rows());
}

/// Failure matrix: 65.
#[test]
fn partitions_are_folders_and_hold_their_rows() {
    let scenario = Scenario::with_files(&[2000, 300], 500);
    scenario.run(&["--partition-by", "name"]).ok();
    let rows = scenario.rows();
    assert_eq!(rows.len(), 2300);
    let folders: std::collections::BTreeSet<_> = scenario
        .contents()
        .keys()
        .map(|file| file.split('/').next().unwrap().to_string())
        .collect();
    assert!(folders.contains("name=__HIVE_DEFAULT_PARTITION__"), "{folders:?}");
    assert!(
        folders.contains("name=name 1") || folders.contains("name=name%201"),
        "{folders:?}"
    );
    assert_eq!(folders.len(), 98);
    crate::support::finish(crate::support::floe([
        "verify".as_ref(),
        scenario.output().as_os_str(),
    ]))
    .ok();
}

/// Failure matrix: 41.
#[test]
fn ten_thousand_tiny_row_groups_do_not_become_as_many() {
    let scenario = Scenario::new();
    for index in 0..300 {
        let path = scenario.input().join(format!("tiny-{index:04}.parquet"));
        write_parquet(&path, &table(index * 20, 20), 20);
    }
    scenario.run(&[]).ok();
    assert_eq!(scenario.rows().len(), 6000);
    let files = scenario.contents().len();
    assert!(files <= 3, "{files} files");
}

/// Failure matrix: 8.
#[test]
fn running_a_finished_job_again_changes_nothing_and_overwrite_does_it_again() {
    let scenario = Scenario::with_files(&[1000], 1000);
    scenario.run(&[]).ok();
    let before = scenario.contents();
    scenario.run(&[]).ok();
    assert_eq!(scenario.contents(), before);
    scenario.run(&["--mode", "overwrite"]).ok();
    let once: Vec<_> = scenario.contents().into_keys().collect();
    scenario.run(&["--mode", "overwrite"]).ok();
    let twice: Vec<_> = scenario.contents().into_keys().collect();
    assert_ne!(once, twice, "an overwriting run is a new run");
    assert_eq!(scenario.rows().len(), 1000);
}

#[test]
fn compression_is_the_inputs_unless_told_otherwise() {
    use parquet::basic::Compression as Codec;
    use parquet::file::reader::{FileReader, SerializedFileReader};
    let codec_of = |scenario: &Scenario| {
        let file = scenario.contents().into_values().next().unwrap();
        let reader = SerializedFileReader::new(bytes::Bytes::from(file)).unwrap();
        reader.metadata().row_group(0).column(0).compression()
    };
    let kept = Scenario::with_files(&[1000], 1000);
    kept.run(&[]).ok();
    assert_eq!(codec_of(&kept), Codec::SNAPPY);
    let asked = Scenario::with_files(&[1000], 1000);
    asked.run(&["--compression", "zstd"]).ok();
    assert!(matches!(codec_of(&asked), Codec::ZSTD(_)));
}

/// Failure matrix: 70.
#[test]
fn an_output_inside_the_input_is_not_read_as_input() {
    let scenario = Scenario::with_files(&[1000], 1000);
    let output = scenario.input().join("scored");
    for _ in 0..2 {
        scenario
            .run(&["--output", output.to_str().unwrap(), "--mode", "overwrite"])
            .ok();
        assert_eq!(crate::support::rows_of(&output).len(), 1000);
    }
}
