//! Files whose columns are copied: read again they hold the same rows as when every column is decoded and encoded, by
//! whichever way a reader finds them.

use arrow::array::*;
use arrow::compute::{cast, concat_batches, take_record_batch};
use arrow::datatypes::DataType;
use bytes::Bytes;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ParquetRecordBatchReaderBuilder, RowSelection, RowSelector,
};
use parquet::basic::Compression as Codec;
use proptest::prelude::*;

use super::claims::{check_bloom_filters, check_bounds, check_statistics};
use super::passage::{Asked, all_rows, metadata_of, pass};
use super::written::{any_file, codec, write};

/// Equal, when floats are compared as they are written and dictionaries by what they stand for.
fn same(a: &RecordBatch, b: &RecordBatch) -> bool {
    let written = |rows: &RecordBatch| {
        let columns = rows.columns().iter().map(|column| match column.data_type() {
            DataType::Dictionary(_, value) => format!("{:?}", cast(column, value).unwrap()),
            _ => format!("{column:?}"),
        });
        columns.collect::<Vec<_>>()
    };
    a.schema() == b.schema() && written(a) == written(b)
}

/// The rows of a random selection, skipped to through the page index.
fn selected(file: &Bytes, metadata: &ArrowReaderMetadata, runs: &[usize], rows: usize) -> RecordBatch {
    let (mut left, mut skip, mut selectors) = (rows, false, Vec::new());
    for run in runs.iter().cycle() {
        let count = (*run).min(left);
        selectors.push(if skip {
            RowSelector::skip(count)
        } else {
            RowSelector::select(count)
        });
        (left, skip) = (left - count, !skip);
        if left == 0 {
            break;
        }
    }
    let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file.clone(), metadata.clone())
        .with_row_selection(RowSelection::from(selectors));
    let batches: Vec<_> = builder
        .build()
        .unwrap()
        .collect::<std::result::Result<_, _>>()
        .unwrap();
    concat_batches(metadata.schema(), &batches).unwrap()
}

fn selected_by_hand(all: &RecordBatch, runs: &[usize]) -> RecordBatch {
    let (mut at, mut skip, mut taken) = (0, false, Vec::new());
    for run in runs.iter().cycle() {
        let end = (at + run).min(all.num_rows());
        if !skip {
            taken.extend((at..end).map(|row| row as u32));
        }
        (at, skip) = (end, !skip);
        if at == all.num_rows() {
            break;
        }
    }
    take_record_batch(all, &UInt32Array::from(taken)).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn copied_and_rewritten_files_hold_the_same_rows(
        written in any_file(),
        needed in proptest::collection::vec(0usize..6, 0..3),
        batch_rows in prop_oneof![Just(1usize), 2..600usize],
        runs in proptest::collection::vec(1usize..900, 1..6),
    ) {
        let file = write(&written);
        let mut needed: Vec<usize> = needed.into_iter().filter(|column| *column < written.columns.len()).collect();
        needed.sort_unstable();
        needed.dedup();
        let asked = Asked { splice: true, needed, compression: None, batch_rows };
        let passed = pass(&file, &asked).unwrap();
        let plain = pass(&file, &Asked { splice: false, ..asked.clone() }).unwrap();
        prop_assert_eq!(plain.copied, 0);
        let rows = all_rows(&plain.file);
        prop_assert!(same(&all_rows(&passed.file), &rows), "{:?}", written);
        // Old LZ4 can't be written; of small row groups that are joined some columns are.
        let alone = written.groups.iter().any(|rows| *rows >= 16_384) || written.groups.len() == 1;
        if alone {
            prop_assert_eq!(passed.copied > 0, codec(written.codec) != Codec::LZ4, "{:?}", written);
        } else {
            let joins = |(column, (kind, _)): (usize, &(usize, u64))| written.joins(*kind, asked.needed.contains(&column));
            let count = written.columns.iter().enumerate().filter(|column| joins(*column)).count();
            prop_assert_eq!(passed.copied, count, "{:?}", written);
        }
        prop_assert!(passed.decoded <= plain.decoded);

        // Nothing but the input decides the bytes.
        prop_assert_eq!(&pass(&file, &asked).unwrap().file, &passed.file);

        let metadata = metadata_of(&passed.file);
        check_statistics(metadata.metadata(), &rows);
        check_bounds(metadata.metadata(), &rows);
        let filters = check_bloom_filters(&passed.file, &metadata, &rows);
        prop_assert!(filters == 0 || written.bloom_filters);
        if passed.copied > 0 && metadata.metadata().page_index().is_some() {
            let found = selected(&passed.file, &metadata, &runs, rows.num_rows());
            prop_assert!(same(&found, &selected_by_hand(&rows, &runs)), "{:?}", written);
        }

        // A copy of a copy.
        let second = pass(&passed.file, &asked).unwrap();
        let columns: Vec<usize> = (0..rows.num_columns()).collect();
        prop_assert!(same(&all_rows(&second.file).project(&columns).unwrap(), &rows), "{:?}", written);
    }
}
