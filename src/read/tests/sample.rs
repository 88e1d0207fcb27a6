//! Rows for a trial.

use arrow::array::{ArrayRef, AsArray, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use parquet::arrow::ArrowWriter;
use std::sync::Arc;

use crate::read::{Footer, sample};
use crate::storage::Location;

#[tokio::test]
async fn a_sample_holds_the_first_rows_of_the_wanted_columns_in_the_plans_types() {
    let folder = tempfile::tempdir().unwrap();
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values(
        (0..50).map(|row| format!("text {row}")),
    ));
    let numbers: ArrayRef = Arc::new(Int32Array::from_iter_values(0..50));
    let rows = RecordBatch::try_from_iter([("text", texts), ("number", numbers)]).unwrap();
    let file = std::fs::File::create(folder.path().join("x.parquet")).unwrap();
    let mut writer = ArrowWriter::try_new(file, rows.schema(), None).unwrap();
    writer.write(&rows).unwrap();
    writer.close().unwrap();
    let location = Location::local(folder.path().to_str().unwrap()).unwrap();
    let listed = location.list().await.unwrap().remove(0);
    let mut footer = Footer::read(&location, &listed).await.unwrap();
    let planned = Schema::new(vec![
        Field::new("number", DataType::Int64, false),
        Field::new("text", DataType::Utf8, false),
    ]);
    for is_held in [true, false] {
        if !is_held {
            footer.release_bytes();
        }
        let footer = Arc::new(footer.clone());
        for (asked, expected) in [(7, 7), (50, 50), (5000, 50)] {
            let block = sample::read(&location, &footer, &planned, &[0], asked)
                .await
                .unwrap()
                .unwrap();
            let numbers = block.rows.column(0).as_primitive::<Int64Type>();
            assert!(numbers.values().iter().copied().eq(0..expected));
            assert_eq!(block.rows.num_columns(), 1);
            assert_eq!(block.origin.stretches()[0].file.as_ref(), "x.parquet");
        }
    }
}
