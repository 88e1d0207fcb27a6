//! Values that are no ordinary numbers or texts: NaN, infinities, bytes that are no UTF-8.

use arrow::array::{Array, ArrayRef, AsArray, Float32Array, RecordBatch, StringArray};
use arrow::datatypes::Float32Type;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use std::sync::Arc;

use crate::onnx_bytes::{graph, model, node};
use crate::support::{Scenario, finish, floe, read_parquet, write_parquet};

/// Failure matrix: 33, 34.
#[test]
fn nan_and_infinities_go_into_the_model_and_come_out_as_they_are() {
    let values = [
        f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        -0.0,
        f32::MIN_POSITIVE / 2.0,
        0.0,
    ];
    let names = ["sepal_length", "sepal_width", "petal_length", "petal_width"];
    let column = || Arc::new(Float32Array::from(values.to_vec())) as ArrayRef;
    let rows = RecordBatch::try_from_iter(names.map(|name| (name, column()))).unwrap();
    // x / x is NaN for all that are not ordinary; x itself passes through.
    let quotient = model(&graph(&[node("Div", &["X", "X"], &["y"], &[])]), &[]);
    let same = model(&graph(&[node("Identity", &["X"], &["y"], &[])]), &[]);
    let expected: [fn(f32) -> f32; 2] = [|x| x / x, |x| x];
    for (bytes, expected) in [quotient, same].iter().zip(expected) {
        let scenario = Scenario::new();
        write_parquet(&scenario.input().join("a.parquet"), &rows, 10);
        let path = scenario.path().join("model.onnx");
        std::fs::write(&path, bytes).unwrap();
        let mut command = floe(["run", "--model", path.to_str().unwrap()]);
        command
            .arg("--input")
            .arg(scenario.input())
            .arg("--output")
            .arg(scenario.output());
        finish(command).ok();
        let file = scenario.contents().into_keys().next().unwrap();
        let written = read_parquet(&scenario.output().join(file)).remove(0);
        let passed = written.column_by_name("petal_width").unwrap();
        let passed = passed.as_primitive::<Float32Type>().values().iter();
        // NaN is equal to itself here: it is bits that must stay.
        assert!(passed.map(|value| value.to_bits()).eq(values.map(f32::to_bits)));
        let scores = written.column_by_name("y").unwrap().as_list::<i32>();
        assert_eq!((scores.len(), scores.null_count()), (values.len(), 0));
        for (row, value) in values.iter().enumerate() {
            let score = scores.value(row).as_primitive::<Float32Type>().value(0);
            let expected = expected(*value);
            let is_same = score == expected && score.is_sign_negative() == expected.is_sign_negative();
            assert!(
                is_same || score.is_nan() && expected.is_nan(),
                "{value}: {score}, not {expected}"
            );
        }
    }
}

/// Failure matrix: 37.
#[test]
fn bytes_that_are_no_utf_8_are_an_error_and_never_replaced() {
    let scenario = Scenario::new();
    let path = scenario.input().join("a.parquet");
    let text: ArrayRef = Arc::new(StringArray::from(vec!["first", "MARKMARK", "last"]));
    let rows = RecordBatch::try_from_iter([("text", text)]).unwrap();
    let properties = WriterProperties::builder()
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::None)
        .build();
    let mut writer = ArrowWriter::try_new(
        std::fs::File::create(&path).unwrap(),
        rows.schema(),
        Some(properties),
    )
    .unwrap();
    writer.write(&rows).unwrap();
    writer.close().unwrap();
    scenario.run(&[]).ok();
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(8).position(|window| window == b"MARKMARK").unwrap();
    // A lone continuation byte, and a sequence that is cut off.
    for broken in [b'\x80', b'\xf0'] {
        bytes[at] = broken;
        std::fs::write(&path, &bytes).unwrap();
        let output = scenario.path().join(format!("out-{broken}"));
        let run = scenario.run(&["--output", output.to_str().unwrap()]);
        run.fails(6, &["a.parquet", "row group 0", "UTF"]);
        assert!(!output.join("_SUCCESS").exists());
    }
}
