//! Rows for a trial.

use arrow::array::{ArrayRef, AsArray, Int32Array, Int64Array, ListArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, Schema};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
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

/// One row group: numbers of several megabytes, texts behind a dictionary that is larger than what is asked for at first, lists.
fn large() -> (RecordBatch, Vec<u8>) {
    let total = 400_000i64;
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(
        (0..total).map(|row| row.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64 as i64)),
    ));
    let texts: ArrayRef =
        Arc::new(StringArray::from_iter_values((0..total).map(|row| {
            format!("a text of a dictionary that is large {}", row % 50_000)
        })));
    let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(
        (0..total as i32).map(|row| Some((0..row % 3).map(move |item| Some(row + item)))),
    ));
    let rows =
        RecordBatch::try_from_iter([("numbers", numbers), ("texts", texts), ("lists", lists)]).unwrap();
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(None)
        .set_column_dictionary_enabled("numbers".into(), false)
        .set_dictionary_page_size_limit(8 << 20)
        .build();
    let mut file = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut file, rows.schema(), Some(properties)).unwrap();
    writer.write(&rows).unwrap();
    writer.close().unwrap();
    (rows, file)
}

#[tokio::test]
async fn no_more_of_a_large_row_group_is_read_than_its_first_rows_take() {
    let (rows, mut file) = large();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.parquet");
    std::fs::write(&path, &file).unwrap();
    let location = Location::local(folder.path().to_str().unwrap()).unwrap();
    let listed = location.list().await.unwrap().remove(0);
    let footer = Footer::read(&location, &listed).await.unwrap();
    // Whoever reads the second half of the numbers finds no page there.
    let (start, length) = footer.row_groups()[0].column(0).byte_range();
    assert!(length > 3 << 20, "{length}");
    let (half, end) = (start + length / 2, start + length);
    file[half as usize..end as usize].fill(0xff);
    std::fs::write(&path, &file).unwrap();
    let listed = location.list().await.unwrap().remove(0);
    let mut footer = Footer::read(&location, &listed).await.unwrap();
    footer.release_bytes();
    let footer = Arc::new(footer);
    let read = async |columns: &[usize], asked: usize| {
        let read = sample::read(&location, &footer, &rows.schema(), columns, asked).await;
        read.map(|sample| sample.unwrap().rows)
    };
    for (columns, asked) in [(vec![0], 1), (vec![0, 1, 2], 3000), (vec![2], 400_000)] {
        let expected = rows.slice(0, asked).project(&columns).unwrap();
        assert_eq!(
            read(&columns, asked).await.unwrap(),
            expected,
            "{asked} of {columns:?}"
        );
    }
    assert!(read(&[0], 400_000).await.is_err());
}
