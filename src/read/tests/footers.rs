//! Footers that declare too much, contradict themselves, or describe encrypted columns.

use super::maker::*;
use super::*;
use arrow::array::{ArrayRef, FixedSizeBinaryArray, Float32Array, ListArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Schema};
use futures::TryStreamExt;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::arrow::{ArrowWriter, encode_arrow_schema};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

use crate::read::FooterReader;
use crate::storage::Listed;

fn numbers(rows: i64) -> Column {
    let body: Vec<u8> = (0..rows as i32).flat_map(i32::to_le_bytes).collect();
    column("n", INT32, rows, data_page(rows, 0, &body))
}

fn footer(schema: Vec<Vec<u8>>, groups: Vec<Vec<u8>>) -> Bytes {
    let footer = Struct::new()
        .i32(1, 1)
        .list(2, 12, schema)
        .i64(3, 0)
        .list(4, 12, groups);
    finish(b"PAR1".to_vec(), footer.end())
}

#[test]
fn a_file_made_by_hand_is_fine() {
    assert_eq!(rows_of(&file(&[numbers(10)], 10)), 10);
    assert_eq!(rows_of(&file(&[numbers(0)], 0)), 0);
}

#[tokio::test]
async fn a_footer_beyond_the_limit_is_not_even_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.parquet");
    let holes = std::fs::File::create(&path).unwrap();
    holes.set_len(400 << 20).unwrap();
    let tail = [&(300u32 << 20).to_le_bytes()[..], b"PAR1"].concat();
    std::os::unix::fs::FileExt::write_all_at(&holes, &tail, (400 << 20) - 8).unwrap();
    let location = Location::local(folder.path().to_str().unwrap()).unwrap();
    let listed = location.list().await.unwrap().remove(0);
    let Err(error) = Footer::read(&location, &listed).await else {
        panic!("300 MiB of footer")
    };
    let expected = "the footer has 314572800 bytes, and the limit footer is 268435456 (file x.parquet)";
    assert!(error.to_string().starts_with(expected), "{error}");
}

/// Failure matrix: 42.
#[test]
fn a_hundred_thousand_columns_are_too_many() {
    let mut schema = vec![element("root", REQUIRED, None, None, 100_000).end()];
    schema.extend((0..100_000).map(|_| element("c", REQUIRED, Some(INT32), None, 0).end()));
    is_refused(
        &footer(schema, vec![]),
        &["more columns than 50000", "limit columns"],
    );
}

/// Failure matrix: 42.
#[test]
fn a_deep_schema_is_refused_however_deep() {
    for depth in [70, 1_000_000] {
        let mut schema: Vec<_> = (0..depth)
            .map(|_| element("g", OPTIONAL, None, None, 1).end())
            .collect();
        schema.push(element("leaf", OPTIONAL, Some(INT32), None, 0).end());
        is_refused(
            &footer(schema, vec![]),
            &["nested deeper than 64", "limit schema depth"],
        );
    }
}

/// Failure matrix: 42.
#[test]
fn columns_times_row_groups_are_limited() {
    let schema = vec![
        element("root", REQUIRED, None, None, 1).end(),
        element("n", REQUIRED, Some(INT32), None, 0).end(),
    ];
    let empty_chunks = vec![vec![0]; 21_000];
    let group = Struct::new().list(1, 12, empty_chunks).end();
    is_refused(
        &footer(schema, vec![group; 100]),
        &[
            "columns times row groups are 2100000",
            "limit column chunks is 2000000",
        ],
    );
}

/// Failure matrix: 42.
#[test]
fn row_counts_are_held_against_limit_and_sum() {
    is_refused(
        &file(&[numbers(1)], (1 << 30) + 1),
        &[
            "the row group has 1073741825",
            "limit rows of a row group",
            "row group 0",
        ],
    );
    is_refused(&file(&[numbers(1)], i64::MAX), &["limit rows of a row group"]);
    is_refused(&file(&[numbers(1)], -1), &["negative number of rows"]);
    is_refused(
        &file_of(&[numbers(3)], 3, 4),
        &["declares 4 rows, its row groups hold 3"],
    );
}

/// Failure matrix: 24.
#[test]
fn columns_lie_inside_the_file_and_apart() {
    let beyond = Column {
        compressed: Some(1 << 40),
        ..numbers(3)
    };
    is_refused(
        &file(&[beyond], 3),
        &["points past the end of the file", "column n"],
    );
    let far = Column {
        offset: Some(i64::MAX),
        ..numbers(3)
    };
    is_refused(&file(&[far], 3), &["points past the end of the file"]);
    let negative = Column {
        offset: Some(-4),
        ..numbers(3)
    };
    is_refused(&file(&[negative], 3), &["negative size or offset"]);
    let negative = Column {
        uncompressed: -1,
        ..numbers(3)
    };
    is_refused(&file(&[negative], 3), &["negative size or offset"]);
    // A thousand columns that are all the same bytes.
    let mut columns = vec![numbers(3)];
    let length = columns[0].chunk.len() as i64;
    columns.extend((0..1000).map(|index| Column {
        name: format!("c{index}"),
        offset: Some(4),
        compressed: Some(length),
        chunk: vec![],
        ..numbers(3)
    }));
    is_refused(&file(&columns, 3), &["gives two columns the same bytes"]);
}

/// Failure matrix: 21.
#[test]
fn encrypted_columns_are_called_encrypted_and_named() {
    let secret = Column {
        name: "secret".into(),
        is_encrypted: true,
        ..numbers(3)
    };
    is_refused(
        &file(&[numbers(3), secret], 3),
        &[
            "columns of the Parquet file are encrypted",
            "column secret",
            "without encryption",
        ],
    );
}

#[test]
fn a_value_of_a_gigabyte_is_refused_though_all_are_null() {
    let nulls = data_page(3, 0, &levels(&[(3, 0)]));
    let huge = Column {
        repetition: OPTIONAL,
        length: Some(1 << 30),
        ..column("huge", FIXED, 3, nulls)
    };
    is_refused(
        &file(&[huge], 3),
        &[
            "fixed length takes 1073741824 bytes",
            "limit fixed length",
            "column huge",
        ],
    );
}

/// The Arrow schema in a file's metadata may call a list one of fixed length, which takes its room even where it is null.
#[test]
fn a_hint_at_lists_of_two_billion_items_is_refused() {
    let item = std::sync::Arc::new(Field::new("item", DataType::Float32, true));
    let values = Float32Array::from(vec![1.0]);
    let offsets = OffsetBuffer::from_lengths([1, 0]);
    let nulls = Some(vec![true, false].into());
    let lists: ArrayRef = Arc::new(ListArray::new(item.clone(), offsets, Arc::new(values), nulls));
    let rows = RecordBatch::try_from_iter_with_nullable([("lists", lists, true)]).unwrap();
    let hint = Schema::new(vec![Field::new(
        "lists",
        DataType::FixedSizeList(item, i32::MAX),
        true,
    )]);
    is_refused(
        &with_hint(&rows, &hint),
        &["fixed length takes 8589934588 bytes", "column lists"],
    );
}

fn with_hint(rows: &RecordBatch, hint: &Schema) -> Bytes {
    let hint = KeyValue::new("ARROW:schema".to_string(), encode_arrow_schema(hint));
    let properties = WriterProperties::builder()
        .set_key_value_metadata(Some(vec![hint]))
        .build();
    let options = ArrowWriterOptions::new()
        .with_properties(properties)
        .with_skip_arrow_metadata(true);
    let mut file = Vec::new();
    let mut writer = ArrowWriter::try_new_with_options(&mut file, rows.schema(), options).unwrap();
    writer.write(rows).unwrap();
    writer.close().unwrap();
    file.into()
}

#[test]
fn a_hint_that_does_not_fit_the_columns_is_an_error_or_ignored() {
    let bytes: ArrayRef = Arc::new(FixedSizeBinaryArray::try_from_iter([[1u8, 2], [3, 4]].iter()).unwrap());
    let rows = RecordBatch::try_from_iter_with_nullable([("b", bytes, true)]).unwrap();
    let hint = Schema::new(vec![Field::new("b", DataType::FixedSizeBinary(1 << 30), true)]);
    // The crate believes the file's own type where the two differ.
    assert_eq!(rows_of(&with_hint(&rows, &hint)), 2);
}

#[test]
fn a_footer_full_of_empty_lists_does_not_hang() {
    // 100,000 lists, each of 2^31 - 1 booleans that take no bytes with a careless reader.
    let endless = [0x91, 0xff, 0xff, 0xff, 0xff, 0x07].map(|byte| if byte == 0x91 { 0xf1 } else { byte });
    let footer = Struct::new().list(10, 9, vec![endless.to_vec(); 100_000]).end();
    is_refused(
        &finish(b"PAR1".to_vec(), footer),
        &["a list is longer than what follows"],
    );
}

/// Writes `schemas[i]` with `rows[i]` rows of nulls to `i.parquet`; answers with the listing in that order.
async fn many(folder: &std::path::Path, files: &[(Arc<Schema>, usize)]) -> (Location, Vec<Listed>) {
    for (index, (schema, rows)) in files.iter().enumerate() {
        let columns: Vec<ArrayRef> = schema
            .fields()
            .iter()
            .map(|field| arrow::array::new_null_array(field.data_type(), *rows))
            .collect();
        let batch = RecordBatch::try_new(schema.clone(), columns).unwrap();
        let file = std::fs::File::create(folder.join(format!("{index:04}.parquet"))).unwrap();
        let mut writer = ArrowWriter::try_new(file, schema.clone(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
    }
    let location = Location::local(folder.to_str().unwrap()).unwrap();
    let mut listed = location.list().await.unwrap();
    listed.sort_by(|a, b| a.path.cmp(&b.path));
    (location, listed)
}

fn schema_of(columns: &[(&str, DataType)]) -> Arc<Schema> {
    let field = |(name, kind): &(&str, DataType)| Field::new(*name, kind.clone(), true);
    Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
}

/// Failure matrix: 27, 28.
#[tokio::test]
async fn files_of_several_schemas_each_keep_their_own_however_many_are_read_at_once() {
    let schemas = [
        schema_of(&[("a", DataType::Int32), ("b", DataType::Utf8)]),
        // The same in Parquet's types; another one in Arrow's.
        schema_of(&[("a", DataType::Int32), ("b", DataType::LargeUtf8)]),
        schema_of(&[("b", DataType::Utf8), ("a", DataType::Int32)]),
        schema_of(&[("a", DataType::Int64), ("b", DataType::Utf8)]),
        schema_of(&[("a", DataType::Int32)]),
        schema_of(&[("a", DataType::Date32)]),
    ];
    let files: Vec<_> = (0..200)
        .map(|i| (schemas[i * 7 % schemas.len()].clone(), i % 5))
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let (location, listed) = many(folder.path(), &files).await;
    let footers: Vec<Footer> = FooterReader::new(location.clone())
        .read_some(listed.clone(), 100, u64::MAX)
        .try_collect()
        .await
        .unwrap();
    assert_eq!(footers.len(), files.len());
    for ((footer, listed), (schema, rows)) in footers.iter().zip(&listed).zip(&files) {
        assert_eq!(*footer.file, *listed.path);
        assert_eq!(footer.schema(), schema, "{}", footer.file);
        assert_eq!(footer.rows(), *rows as u64);
        let alone = Footer::read(&location, listed).await.unwrap();
        assert_eq!(alone.schema(), footer.schema());
        assert_eq!(alone.shapes(), footer.shapes());
    }
}

#[tokio::test]
async fn of_files_of_one_schema_it_is_decoded_once_and_the_first_ones_keep_their_statistics() {
    let schema = schema_of(&[("a", DataType::Int32), ("b", DataType::Utf8)]);
    let folder = tempfile::tempdir().unwrap();
    let (location, listed) = many(folder.path(), &vec![(schema, 3); 40]).await;
    let footers: Vec<Footer> = FooterReader::new(location)
        .read_some(listed, 35, u64::MAX)
        .try_collect()
        .await
        .unwrap();
    // Threads that begin together may each decode it once.
    let mut schemas: Vec<_> = footers
        .iter()
        .map(|footer| Arc::as_ptr(footer.schema()))
        .collect();
    schemas.sort_unstable();
    schemas.dedup();
    assert!(schemas.len() <= 4, "{}", schemas.len());
    let has_statistics = |footer: &Footer| footer.row_groups()[0].column(0).statistics().is_some();
    assert_eq!(footers.iter().filter(|footer| has_statistics(footer)).count(), 35);
}

#[tokio::test]
async fn small_files_come_along_until_there_are_so_many_bytes_of_them() {
    let schema = schema_of(&[("a", DataType::Int32)]);
    let folder = tempfile::tempdir().unwrap();
    let (location, listed) = many(folder.path(), &vec![(schema, 3); 40]).await;
    let room = listed[..5].iter().map(|file| file.size).sum::<u64>();
    let footers: Vec<Footer> = FooterReader::new(location)
        .read_some(listed.clone(), 35, room)
        .try_collect()
        .await
        .unwrap();
    for (index, (footer, file)) in footers.iter().zip(&listed).enumerate() {
        let expected = if index < 5 { file.size as usize } else { 0 };
        assert_eq!(footer.held_bytes(), expected, "{index}");
        assert_eq!(footer.rows(), 3);
    }
}

/// Failure matrix: 19.
#[tokio::test]
async fn the_first_damaged_file_in_order_is_the_one_that_is_named() {
    let schema = schema_of(&[("a", DataType::Int32)]);
    let folder = tempfile::tempdir().unwrap();
    let (location, _) = many(folder.path(), &vec![(schema, 1); 100]).await;
    for damaged in ["0070", "0041", "0099"] {
        std::fs::write(
            folder.path().join(format!("{damaged}.parquet")),
            "no Parquet at all",
        )
        .unwrap();
    }
    let mut listed = location.list().await.unwrap();
    listed.sort_by(|a, b| a.path.cmp(&b.path));
    let read: Result<Vec<Footer>> = FooterReader::new(location).read(listed).try_collect().await;
    let Err(error) = read else {
        panic!("damaged files were read")
    };
    assert_eq!(error.kind(), ErrorKind::Data);
    assert!(error.to_string().contains("0041.parquet"), "{error}");
}
