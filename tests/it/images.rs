//! Images through the whole program: bytes in a column, files that a column names, rows that are none.

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{Float32Type, Int64Type};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use crate::onnx_bytes::{FLOAT, attribute_number, field, model, node, value};
use crate::support::{Run, Scenario, finish, floe, project, read_parquet, write_parquet};

/// The mean of an image's pixels after they were made 4 x 4; the card says what they are.
const CARD: &str = "
functions:
  brightness:
    inputs:
      pixels: {column: image, image: {rescale: 1}}
";

/// Beside an input: files that are images, one that is none, and their names.
struct Pictures {
    scenario: Scenario,
    names: Vec<&'static str>,
}

impl Pictures {
    fn new() -> Pictures {
        let scenario = Scenario::new();
        let body = [
            node(
                "ReduceMean",
                &["pixels"],
                &["brightness"],
                &[attribute_number("keepdims", 0), axes()],
            ),
            field(2, "graph"),
            field(11, value("pixels", FLOAT, &[-1, 3, 4, 4])),
            field(12, value("brightness", FLOAT, &[-1])),
        ];
        let folder = scenario.path().join("model");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("model.onnx"), model(&body.concat(), &[])).unwrap();
        std::fs::write(folder.join("floe.yaml"), CARD).unwrap();
        let images = project().join("tests/fixtures/pretrained/images");
        let names = vec![
            "rgb.png",
            "grey.jpg",
            "broken.png",
            "palette.gif",
            "lossy.webp",
            "rgb.bmp",
            "rgb.tiff",
        ];
        std::fs::create_dir(scenario.input().join("pictures")).unwrap();
        for name in &names {
            let to = scenario.input().join("pictures").join(name);
            match *name {
                "broken.png" => {
                    let whole = std::fs::read(images.join("rgb.png")).unwrap();
                    std::fs::write(to, &whole[..whole.len() / 2]).unwrap();
                }
                name => drop(std::fs::copy(images.join(name), to).unwrap()),
            }
        }
        Pictures { scenario, names }
    }

    fn input(&self) -> std::path::PathBuf {
        self.scenario.input().join("a.parquet")
    }

    fn with_bytes(&self, names: &[&str]) {
        let bytes: Vec<Vec<u8>> = names
            .iter()
            .map(|name| std::fs::read(self.scenario.input().join("pictures").join(name)).unwrap())
            .collect();
        let images: ArrayRef = Arc::new(BinaryArray::from_iter_values(bytes));
        self.write("image", images);
    }

    fn with_paths(&self, paths: Vec<Option<&str>>) {
        self.write("IMAGE", Arc::new(StringArray::from(paths)));
    }

    fn write(&self, name: &str, column: ArrayRef) {
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..column.len() as i64));
        let rows =
            RecordBatch::try_from_iter_with_nullable([("id", ids, false), (name, column, true)]).unwrap();
        write_parquet(&self.input(), &rows, 4);
    }

    fn run(&self, input: &str) -> Run {
        // A run that ended in an error would go on where it stopped.
        let _ = std::fs::remove_dir_all(self.scenario.output());
        let at = |path: &Path| path.to_str().unwrap().to_string();
        let job = format!(
            "model: {{location: {}}}\noutput: {{stage_location: {}, mode: overwrite}}\ninput:\n  stage_location: {}\n{input}",
            at(&self.scenario.path().join("model")),
            at(&self.scenario.output()),
            at(&self.scenario.input()),
        );
        let file = self.scenario.path().join("job.yaml");
        std::fs::write(&file, job).unwrap();
        let mut command: Command = floe(["run"]);
        command.arg(file);
        finish(command)
    }

    /// Id, brightness and error of each row, and the column that fed the model as it came out.
    fn rows(&self) -> Vec<(i64, Option<f32>, Option<String>)> {
        let mut rows = Vec::new();
        for file in self.scenario.contents().into_keys() {
            for batch in read_parquet(&self.scenario.output().join(file)) {
                let column = |name: &str| batch.column_by_name(name).cloned();
                let ids = column("id").unwrap();
                let values = column("brightness").unwrap();
                let errors = column("error");
                for row in 0..batch.num_rows() {
                    let value = values.as_primitive::<Float32Type>();
                    let error = errors.as_ref().map(|errors| errors.as_string::<i32>());
                    rows.push((
                        ids.as_primitive::<Int64Type>().value(row),
                        value.is_valid(row).then(|| value.value(row)),
                        error.and_then(|error| error.is_valid(row).then(|| error.value(row).to_string())),
                    ));
                }
            }
        }
        rows.sort_by_key(|row| row.0);
        rows
    }
}

fn axes() -> Vec<u8> {
    // A list of numbers is attribute type 7, in field 8.
    let numbers: Vec<u8> = [1, 2, 3]
        .iter()
        .flat_map(|axis| crate::onnx_bytes::number(8, *axis))
        .collect();
    [field(1, "axes"), numbers, crate::onnx_bytes::number(20, 7)].concat()
}

#[test]
fn a_damaged_image_ends_the_job_by_default_and_says_where_it_is() {
    let pictures = Pictures::new();
    pictures.with_bytes(&pictures.names);
    let run = pictures.run("");
    assert_ne!(run.code, Some(0));
    for words in [
        "PNG image",
        "a.parquet",
        "row group 0",
        "row 2",
        "input.on_row_error: null",
    ] {
        assert!(run.stderr.contains(words), "{words}: {}", run.stderr);
    }
    assert!(pictures.scenario.contents().is_empty());
}

#[test]
fn a_damaged_image_is_null_with_its_error_beside_it_where_the_job_says_so() {
    let pictures = Pictures::new();
    pictures.with_bytes(&pictures.names);
    // With and without quotes, as YAML has it.
    for policy in ["null", "\"null\""] {
        pictures.run(&format!("  on_row_error: {policy}\n")).ok();
        let rows = pictures.rows();
        assert_eq!(rows.len(), pictures.names.len());
        for (id, value, error) in &rows {
            let broken = pictures.names[*id as usize] == "broken.png";
            assert_eq!(value.is_none(), broken, "{id}");
            assert_eq!(
                error.as_ref().is_some_and(|error| error.contains("PNG image")),
                broken,
                "{id}: {error:?}"
            );
        }
    }
    // A job without a bad row gives the same numbers, and columns that are never null.
    let good: Vec<&str> = pictures
        .names
        .iter()
        .copied()
        .filter(|name| *name != "broken.png")
        .collect();
    let with_errors: Vec<Option<f32>> = pictures
        .rows()
        .into_iter()
        .filter_map(|row| row.1.map(Some))
        .collect();
    pictures.with_bytes(&good);
    pictures.run("").ok();
    let without: Vec<Option<f32>> = pictures.rows().into_iter().map(|row| row.1).collect();
    assert_eq!(without, with_errors);
}

#[test]
fn files_that_a_column_names_are_scored_and_the_paths_pass_through() {
    let pictures = Pictures::new();
    let good: Vec<&str> = pictures
        .names
        .iter()
        .copied()
        .filter(|name| *name != "broken.png")
        .collect();
    pictures.with_bytes(&good);
    pictures.run("").ok();
    let expected = pictures.rows();
    let input = pictures.scenario.input();
    let absolute = |name: &str| format!("{}/pictures/{name}", input.display());
    let paths: Vec<String> = good
        .iter()
        .enumerate()
        .map(|(row, name)| match row % 3 {
            0 => format!("pictures/{name}"),
            1 => absolute(name),
            _ => format!("file://{}", absolute(name)),
        })
        .collect();
    pictures.with_paths(paths.iter().map(|path| Some(path.as_str())).collect());
    let handling = "  column_handling: {image: {input_format: full_stage_path, convert_to: raw_bytes}}\n";
    pictures.run(handling).ok();
    assert_eq!(pictures.rows(), expected);
    let mut kept = Vec::new();
    for file in pictures.scenario.contents().into_keys() {
        for batch in read_parquet(&pictures.scenario.output().join(file)) {
            let column = batch.column_by_name("IMAGE").unwrap().as_string::<i32>().clone();
            kept.extend(column.iter().map(|path| path.unwrap().to_string()));
        }
    }
    assert_eq!(kept, paths);
}

#[test]
fn a_missing_or_forbidden_file_is_an_error_of_its_row() {
    let pictures = Pictures::new();
    std::fs::copy(
        pictures.scenario.input().join("pictures/rgb.png"),
        pictures.scenario.path().join("secret.png"),
    )
    .unwrap();
    pictures.with_paths(vec![Some("pictures/rgb.png"), Some("pictures/none.png")]);
    let handling = "  column_handling: {IMAGE: {input_format: full_stage_path, convert_to: raw_bytes}}\n";
    let run = pictures.run(handling);
    assert_ne!(run.code, Some(0));
    for words in ["is not there", "a.parquet", "row 1", "column IMAGE"] {
        assert!(run.stderr.contains(words), "{words}: {}", run.stderr);
    }
    pictures.with_paths(vec![
        Some("pictures/rgb.png"),
        Some("pictures/none.png"),
        Some("../secret.png"),
        None,
        Some("pictures/broken.png"),
        Some("https://example.org/a.png"),
    ]);
    pictures.run(&format!("{handling}  on_row_error: null\n")).ok();
    let rows = pictures.rows();
    assert!(rows[0].1.is_some() && rows[0].2.is_none());
    for (row, words) in [
        (1, "is not there"),
        (2, "no file that may be read"),
        (3, "null"),
        (4, "PNG image"),
        (5, "outside of the location"),
    ] {
        let (_, value, error) = &rows[row];
        assert!(
            value.is_none() && error.as_ref().is_some_and(|error| error.contains(words)),
            "{row}: {error:?}"
        );
    }
}
