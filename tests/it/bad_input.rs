//! What a user sees for bad input: the text, the exit code, and an output that was not touched.

use crate::support::{Run, Scenario, project, schema, table, write_parquet};
use arrow::array::{ArrayRef, Int32Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use std::sync::Arc;

/// Runs the flights model over the scenario's input.
fn score(scenario: &Scenario, arguments: &[&str]) -> Run {
    let model = project().join("examples/flights/model");
    scenario.run(&[&["--model", model.to_str().unwrap()], arguments].concat())
}

#[track_caller]
fn untouched(scenario: &Scenario) {
    assert_eq!(scenario.files(), Vec::<String>::new());
}

/// Failure matrix: 54.
#[test]
fn a_missing_column_is_named_with_both_lists() {
    let scenario = Scenario::with_files(&[10], 10);
    score(&scenario, &[]).fails(
        6,
        &[
            "no such column",
            "dep_delay",
            "wants: features",
            "the input has: id Int64",
        ],
    );
    untouched(&scenario);
}

/// Failure matrix: 19.
#[test]
fn a_truncated_file_is_named() {
    let scenario = Scenario::with_files(&[1000, 1000], 100);
    let path = scenario.input().join("part-0001.parquet");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    scenario
        .run(&[])
        .fails(6, &["cut short", "part-0001.parquet", "write the file again"]);
    untouched(&scenario);
}

/// Failure matrix: 20.
#[test]
fn a_text_file_named_parquet_is_shown_as_what_it_is() {
    let scenario = Scenario::with_files(&[10], 10);
    std::fs::write(scenario.input().join("notes.parquet"), "id,name\n1,a\n").unwrap();
    scenario
        .run(&[])
        .fails(6, &["not a Parquet file", "notes.parquet", "69 64 2c 6e"]);
    untouched(&scenario);
}

/// Failure matrix: 23.
#[test]
fn a_corrupt_page_is_an_error_with_its_row_group() {
    let scenario = Scenario::with_files(&[50_000], 10_000);
    let path = scenario.input().join("part-0000.parquet");
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    for byte in &mut bytes[middle..middle + 400] {
        *byte = !*byte;
    }
    std::fs::write(&path, bytes).unwrap();
    scenario.run(&[]).fails(6, &["part-0000.parquet", "row group"]);
    assert!(scenario.marker().is_none());
    assert!(scenario.contents().is_empty());
}

/// Failure matrix: 39.
#[test]
fn an_empty_folder_says_what_was_looked_for() {
    let scenario = Scenario::new();
    std::fs::write(scenario.input().join("data.csv"), "1,2").unwrap();
    scenario
        .run(&[])
        .fails(6, &["no files to read", "1 that do not match", "**/*.parquet"]);
    untouched(&scenario);
}

#[test]
fn a_folder_that_is_not_there_is_a_mistake_in_the_job() {
    let scenario = Scenario::new();
    scenario
        .run(&["--input", "/no/such/folder"])
        .fails(2, &["no such folder", "/no/such/folder"]);
}

/// Failure matrix: 26.
#[test]
fn files_that_differ_in_schema_are_found_before_anything_is_read() {
    let scenario = Scenario::with_files(&[10], 10);
    let other = Arc::new(Schema::new(vec![Field::new("id", DataType::Int32, false)]));
    let rows = RecordBatch::try_new(other, vec![Arc::new(Int32Array::from(vec![1])) as ArrayRef]).unwrap();
    write_parquet(&scenario.input().join("z.parquet"), &rows, 10);
    scenario.run(&[]).fails(
        6,
        &["files of the input differ", "z.parquet", "lacks a column", "name"],
    );
    untouched(&scenario);
}

/// Failure matrix: 27.
#[test]
fn integers_of_another_width_are_widened() {
    let scenario = Scenario::with_files(&[10], 10);
    let narrow = Arc::new(Schema::new(vec![
        schema().field(2).clone(),
        Field::new("id", DataType::Int32, false),
        schema().field(1).clone(),
    ]));
    let rows = table(10, 5);
    let ids: ArrayRef = Arc::new(Int32Array::from_iter_values(10..15));
    let columns = vec![rows.column(2).clone(), ids, rows.column(1).clone()];
    write_parquet(
        &scenario.input().join("z.parquet"),
        &RecordBatch::try_new(narrow, columns).unwrap(),
        10,
    );
    scenario.run(&[]).ok();
    assert!(scenario.rows().keys().copied().eq(0..15));
}

/// Failure matrix: 16.
#[test]
fn an_output_that_is_not_empty_is_protected() {
    let scenario = Scenario::with_files(&[10], 10);
    std::fs::create_dir(scenario.output()).unwrap();
    std::fs::write(scenario.output().join("precious.txt"), "keep me").unwrap();
    scenario.run(&[]).fails(3, &["precious.txt", "overwrite"]);
    assert_eq!(scenario.files(), ["precious.txt"]);
}

/// Failure matrix: 45.
#[test]
fn an_output_that_cannot_be_written_is_found_before_the_model_is_loaded() {
    let scenario = Scenario::with_files(&[10], 10);
    let file = scenario.path().join("a-file");
    std::fs::write(&file, "").unwrap();
    let output = file.join("below");
    scenario
        .run(&["--output", output.to_str().unwrap(), "--model", "/no/such/model"])
        .fails(8, &["a-file"]);
}

/// Failure matrix: 70.
#[test]
fn an_output_that_holds_the_input_or_the_model_is_refused() {
    let scenario = Scenario::with_files(&[10], 10);
    let folder = scenario.path().to_str().unwrap();
    scenario
        .run(&["--output", folder, "--mode", "overwrite"])
        .fails(2, &["output contains the input"]);
    let input = scenario.input();
    scenario
        .run(&["--output", input.to_str().unwrap(), "--mode", "overwrite"])
        .fails(2, &["input"]);
    assert!(input.join("part-0000.parquet").exists());
}

/// Failure matrix: 54.
#[test]
fn a_wrong_function_name_lists_those_that_exist() {
    let scenario = Scenario::with_files(&[10], 10);
    score(&scenario, &["--function-name", "classify"]).fails(2, &["classify", "it has: predict"]);
    untouched(&scenario);
}

/// Failure matrix: 53.
#[test]
fn a_model_that_is_none_is_refused_before_the_output_is_touched() {
    let scenario = Scenario::with_files(&[10], 10);
    let model = scenario.path().join("model.onnx");
    std::fs::write(&model, "not a model").unwrap();
    scenario
        .run(&["--model", model.to_str().unwrap()])
        .fails(7, &["model.onnx"]);
    untouched(&scenario);
}

#[test]
fn a_misspelt_key_names_the_nearest_one() {
    let scenario = Scenario::with_files(&[10], 10);
    let job = scenario.path().join("job.yaml");
    std::fs::write(&job, "inference: {max_batch_row: 100}\n").unwrap();
    scenario
        .run(&[job.to_str().unwrap()])
        .fails(2, &["inference.max_batch_row", "max_batch_rows"]);
}
