//! When columns are not copied, and what of a file does not go with those that are.

use arrow::array::*;
use arrow::datatypes::{DataType, Int32Type};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::basic::ColumnOrder;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::properties::WriterProperties;
use std::sync::Arc;

use super::maker::*;
use super::passage::{Asked, Passed, all_rows, metadata_of, pass};
use crate::config::Compression;
use crate::error::ErrorKind;

const WRITER: &str = "parquet-mr version 1.12.3 (build x)";

fn numbers(rows: i64) -> Vec<u8> {
    (0..rows as i32).flat_map(i32::to_le_bytes).collect()
}

fn metadata(passed: &Passed) -> ParquetMetaData {
    metadata_of(&passed.file).metadata().as_ref().clone()
}

/// A data page with a checksum, wrong or right.
fn summed_page(rows: i64, difference: u32) -> Vec<u8> {
    let body = numbers(rows);
    let mut crc = flate2::Crc::new();
    crc.update(&body);
    let sum = crc.sum() ^ difference;
    let (length, data) = (
        body.len() as i64,
        Struct::new().i32(1, rows).i32(2, 0).i32(3, 3).i32(4, 3),
    );
    let header = Struct::new().i32(1, 0).i32(2, length).i32(3, length);
    page(header.i32(4, i64::from(sum as i32)).sub(5, data), &body)
}

/// Failure matrix: 22.
#[test]
fn a_page_that_nobody_decodes_must_match_its_checksum_all_the_same() {
    let file = |difference| file_by(WRITER, &[column("n", INT32, 10, summed_page(10, difference))], 10);
    let passed = pass(&file(0), &Asked::splicing(&[])).unwrap();
    assert_eq!((passed.copied, passed.decoded), (1, 0));
    for needed in [&[][..], &[0]] {
        let error = pass(&file(1), &Asked::splicing(needed)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data);
        let text = error.to_string();
        assert!(
            text.contains("checksum") && text.contains("file x.parquet"),
            "{text}"
        );
    }
}

#[test]
fn no_column_need_be_decoded_and_rows_are_counted_all_the_same() {
    let columns = [
        column("a", INT32, 1000, data_page(1000, 0, &numbers(1000))),
        column(
            "b",
            INT32,
            1000,
            [data_page(400, 0, &numbers(400)), data_page(600, 0, &numbers(600))].concat(),
        ),
    ];
    let passed = pass(&file_by(WRITER, &columns, 1000), &Asked::splicing(&[])).unwrap();
    assert_eq!((passed.copied, passed.decoded), (2, 0));
    let rows = all_rows(&passed.file);
    assert_eq!((rows.num_rows(), rows.num_columns()), (1000, 3));
    let counted: &Int64Array = rows.column(2).as_primitive();
    assert!(counted.values().iter().copied().eq(0..1000));
    // The pages are told apart in the index that the input did not have.
    let metadata = metadata(&passed);
    let pages = metadata.page_index().unwrap().page_locations(0, 1).unwrap();
    let firsts: Vec<i64> = pages.iter().map(|page| page.first_row_index).collect();
    assert_eq!(firsts, [0, 400]);
}

#[test]
fn pages_that_are_not_as_the_footer_says_are_decoded_and_fail_as_ever() {
    let too_few = column("n", INT32, 10, data_page(9, 0, &numbers(9)));
    let dictionary_last = column(
        "n",
        INT32,
        10,
        [data_page(10, 0, &numbers(10)), dictionary_page(1, &numbers(1))].concat(),
    );
    let unknown_encoding = column("n", INT32, 10, data_page(10, 77, &numbers(10)));
    for (what, column) in [("too few", too_few), ("unknown encoding", unknown_encoding)] {
        let error = pass(&file_by(WRITER, &[column], 10), &Asked::splicing(&[])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data, "{what}: {error}");
    }
    let passed = pass(&file_by(WRITER, &[dictionary_last], 10), &Asked::splicing(&[])).unwrap();
    assert_eq!((passed.copied, passed.decoded), (0, 1));
    let header = column("n", INT32, 10, vec![0x15; 3]);
    let error = pass(&file_by(WRITER, &[header], 10), &Asked::splicing(&[])).unwrap_err();
    assert!(
        error.to_string().contains("can't read page 0 of the column"),
        "{error}"
    );
}

/// Bodies are not opened: what is in them is whoever reads it next's to find.
#[test]
fn a_body_that_nobody_reads_is_copied_as_it_is() {
    let garbage = column("t", BYTE_ARRAY, 3, data_page(3, 0, &[0xff; 20]));
    let file = file_by(
        WRITER,
        &[column("n", INT32, 3, data_page(3, 0, &numbers(3))), garbage],
        3,
    );
    let passed = pass(&file, &Asked::splicing(&[0])).unwrap();
    assert_eq!(passed.copied, 2);
    assert!(pass(&file, &Asked::splicing(&[1])).is_err());
}

#[test]
fn what_readers_hold_against_a_writer_is_decoded() {
    const DELTA_BYTES: i64 = 7;
    let suffixes = [lengths(5, 0), lengths(5, 2), b"ababababab".to_vec()].concat();
    let delta = || column("t", BYTE_ARRAY, 5, data_page(5, DELTA_BYTES, &suffixes));
    let of = |created_by: &str, column: Column| {
        pass(&file_by(created_by, &[column], 5), &Asked::splicing(&[]))
            .unwrap()
            .copied
    };
    assert_eq!(of("parquet-mr version 1.7.0 (build y)", delta()), 0);
    assert_eq!(of("parquet-mr version 1.8.1 (build y)", delta()), 1);
    assert_eq!(of("", delta()), 0);
    let v2 = || {
        let body = snap_block(&numbers(5));
        let data = Struct::new()
            .i32(1, 5)
            .i32(2, 0)
            .i32(3, 5)
            .i32(4, 0)
            .i32(5, 0)
            .i32(6, 0);
        let header = Struct::new()
            .i32(1, 3)
            .i32(2, 20)
            .i32(3, body.len() as i64)
            .sub(8, data);
        Column {
            codec: SNAPPY,
            ..column("n", INT32, 5, page(header, &body))
        }
    };
    assert_eq!(of("parquet-cpp version 1.5.1-SNAPSHOT", v2()), 0);
    assert_eq!(of("parquet-cpp-arrow version 9.0.0", v2()), 1);
}

/// Literals only.
fn snap_block(bytes: &[u8]) -> Vec<u8> {
    let mut block = Vec::new();
    varint(bytes.len() as u64, &mut block);
    block.push(((bytes.len() - 1) << 2) as u8);
    block.extend(bytes);
    block
}

fn table() -> RecordBatch {
    let rows = 2000;
    RecordBatch::try_from_iter([
        (
            "f",
            Arc::new(Float64Array::from_iter_values(
                (0..rows).map(|row| f64::from(row) - 7.5),
            )) as ArrayRef,
        ),
        (
            "t",
            Arc::new(StringArray::from_iter_values(
                (0..rows).map(|row| format!("t{row:05}")),
            )),
        ),
        (
            "l",
            Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(
                (0..rows).map(|row| Some((0..row % 4).map(Some).collect::<Vec<_>>())),
            )),
        ),
    ])
    .unwrap()
}

fn written(properties: WriterProperties) -> Vec<u8> {
    let mut file = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut file, table().schema(), Some(properties)).unwrap();
    writer.write(&table()).unwrap();
    writer.close().unwrap();
    file
}

fn pages() -> WriterProperties {
    WriterProperties::builder()
        .set_data_page_row_count_limit(300)
        .set_write_batch_size(100)
        .set_bloom_filter_enabled(true)
        .build()
}

/// What the footer declares of the order of each of its three leaves; see `declare_orders` for the form.
fn with_orders(mut file: Vec<u8>, orders: [u8; 3]) -> Bytes {
    let end = file.len() - 9;
    for (leaf, order) in orders.into_iter().enumerate() {
        file[end - 9 + leaf * 3] = order;
    }
    file.into()
}

#[test]
fn indexes_filters_and_statistics_go_with_the_columns() {
    let file: Bytes = written(pages()).into();
    let passed = pass(&file, &Asked::splicing(&[])).unwrap();
    assert_eq!(passed.copied, 3);
    let (before, after) = (metadata_of(&file).metadata().as_ref().clone(), metadata(&passed));
    let (old, new) = (before.page_index().unwrap(), after.page_index().unwrap());
    for leaf in 0..3 {
        let (was, is) = (before.row_group(0).column(leaf), after.row_group(0).column(leaf));
        assert_eq!(was.statistics(), is.statistics());
        assert_eq!(old.column_index(0, leaf), new.column_index(0, leaf));
        assert!(new.column_index(0, leaf).unwrap().num_pages() > 5);
        let moved = is.data_page_offset() - was.data_page_offset();
        let shifted: Vec<_> = old
            .page_locations(0, leaf)
            .unwrap()
            .iter()
            .map(|page| page.offset + moved)
            .collect();
        let found: Vec<_> = new
            .page_locations(0, leaf)
            .unwrap()
            .iter()
            .map(|page| page.offset)
            .collect();
        assert_eq!(shifted, found);
        assert_eq!(was.bloom_filter_length(), is.bloom_filter_length());
        let filter = |file: &Bytes, column: &parquet::file::metadata::ColumnChunkMetaData| {
            let start = column.bloom_filter_offset().unwrap() as usize;
            file.slice(start..start + column.bloom_filter_length().unwrap() as usize)
        };
        assert_eq!(filter(&file, was), filter(&passed.file, is));
        assert_eq!(was.definition_level_histogram(), is.definition_level_histogram());
        assert_eq!(was.repetition_level_histogram(), is.repetition_level_histogram());
        assert_eq!(
            was.unencoded_byte_array_data_bytes(),
            is.unencoded_byte_array_data_bytes()
        );
        assert_eq!(was.num_values(), is.num_values());
        assert_eq!(was.uncompressed_size(), is.uncompressed_size());
        assert!(is.encodings().eq(was.encodings()));
    }
    // The crate's own order of floats, on both sides.
    let order = |metadata: &ParquetMetaData, leaf| metadata.file_metadata().column_order(leaf);
    assert_eq!(order(&after, 0), ColumnOrder::IEEE_754_TOTAL_ORDER);
    assert_eq!(order(&before, 0), order(&after, 0));
}

#[test]
fn bounds_of_floats_stay_in_the_order_that_their_file_declares() {
    const TYPE: u8 = 0x1c;
    let file = with_orders(written(pages()), [TYPE; 3]);
    let passed = pass(&file, &Asked::splicing(&[])).unwrap();
    let after = metadata(&passed);
    let orders: Vec<bool> = (0..4)
        .map(|leaf| {
            matches!(
                after.file_metadata().column_order(leaf),
                ColumnOrder::TYPE_DEFINED_ORDER(_)
            )
        })
        .collect();
    assert_eq!(orders, [true; 4]);
    assert!(
        after
            .row_group(0)
            .column(0)
            .statistics()
            .unwrap()
            .min_bytes_opt()
            .is_some()
    );
    assert!(after.page_index().unwrap().column_index(0, 0).is_some());
    assert_eq!(all_rows(&passed.file).columns()[..3], *all_rows(&file).columns());
}

#[test]
fn bounds_in_an_unknown_order_are_left_behind() {
    const FUTURE: u8 = 0x4c;
    let passed = pass(&with_orders(written(pages()), [FUTURE; 3]), &Asked::splicing(&[])).unwrap();
    assert_eq!(passed.copied, 3);
    let after = metadata(&passed);
    for leaf in 0..3 {
        let statistics = after.row_group(0).column(leaf).statistics().unwrap();
        assert_eq!(statistics.min_bytes_opt(), None);
        assert_eq!(statistics.null_count_opt(), Some(if leaf == 2 { 500 } else { 0 }));
        let index = after.page_index().unwrap();
        assert!(index.column_index(0, leaf).is_none());
        assert!(index.offset_index(0, leaf).is_some());
    }
}

#[test]
fn another_codec_is_made_by_encoding_again() {
    let file: Bytes = written(pages()).into();
    let with = |compression| {
        let asked = Asked {
            compression: Some(compression),
            ..Asked::splicing(&[])
        };
        pass(&file, &asked).unwrap()
    };
    assert_eq!(with(Compression::None).copied, 3);
    let zstd = with(Compression::Zstd);
    assert_eq!(zstd.copied, 0);
    assert_eq!(all_rows(&zstd.file).columns()[..3], *all_rows(&file).columns());
}

#[test]
fn columns_that_mean_something_else_in_the_output_are_encoded_again() {
    // An instant of 12 bytes becomes one of 8.
    let instants = column(
        "i",
        INT96,
        2,
        data_page(
            2,
            0,
            &[[0u8; 8].to_vec(), 2_440_588u32.to_le_bytes().to_vec()]
                .concat()
                .repeat(2),
        ),
    );
    let file = file_by(
        WRITER,
        &[instants, column("n", INT32, 2, data_page(2, 0, &numbers(2)))],
        2,
    );
    let passed = pass(&file, &Asked::splicing(&[])).unwrap();
    assert_eq!((passed.copied, passed.decoded), (1, 1));
    assert_eq!(all_rows(&passed.file).num_rows(), 2);
}

/// A list without a group of its own has the levels of one with it.
#[test]
fn an_old_list_is_copied_when_its_levels_mean_the_same() {
    let repeated = Column {
        repetition: REPEATED,
        ..column(
            "l",
            INT32,
            2,
            data_page(
                2,
                0,
                &[levels(&[(1, 0), (1, 1)]), levels(&[(2, 1)]), numbers(2)].concat(),
            ),
        )
    };
    let file = file_by(WRITER, &[repeated], 1);
    let passed = pass(&file, &Asked::splicing(&[])).unwrap();
    assert_eq!((passed.copied, passed.decoded), (1, 0));
    let rows = all_rows(&passed.file);
    assert!(matches!(rows.column(0).data_type(), DataType::List(_)));
    let plain = Asked {
        splice: false,
        ..Asked::splicing(&[])
    };
    assert_eq!(rows, all_rows(&pass(&file, &plain).unwrap().file));
    assert_eq!(
        *rows.column(0).as_list::<i32>().value(0),
        Int32Array::from(vec![0, 1]) as Int32Array
    );
}
