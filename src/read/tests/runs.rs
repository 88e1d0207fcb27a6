//! Small row groups that become one are decoded by one set of readers: the same rows come of it, and errors name the same
//! places, as when they are decoded one by one.

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Float64Array, Int32Array, LargeStringArray, ListArray, StringArray,
};
use arrow::compute::concat_batches;
use arrow::datatypes::Int32Type;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::{WriterProperties, WriterVersion};
use proptest::prelude::*;

use super::maker::*;
use super::passage::{Asked, pass};
use super::*;
use crate::read::ChunkReader;

/// Rows of all sorts, with nulls; dictionaries of neighbours differ.
fn rows(first: i64, count: i64) -> RecordBatch {
    let all = || first..first + count;
    let columns: Vec<(&str, ArrayRef, bool)> = vec![
        (
            "n",
            Arc::new(Int32Array::from_iter(
                all().map(|i| (i % 7 != 0).then_some(i as i32)),
            )),
            true,
        ),
        (
            "d",
            Arc::new(Date32Array::from_iter_values(all().map(|i| i as i32 / 3))),
            false,
        ),
        (
            "x",
            Arc::new(Float64Array::from_iter(
                all().map(|i| (i % 5 != 1).then_some(i as f64 / 8.0)),
            )),
            true,
        ),
        (
            "b",
            Arc::new(BooleanArray::from_iter(
                all().map(|i| (i % 4 != 0).then_some(i % 3 == 0)),
            )),
            true,
        ),
        (
            "t",
            Arc::new(StringArray::from_iter(
                all().map(|i| (i % 6 != 0).then(|| format!("t{}", i / 40))),
            )),
            true,
        ),
        (
            "l",
            Arc::new(LargeStringArray::from_iter_values(
                all().map(|i| format!("long {i}")),
            )),
            false,
        ),
        (
            "never",
            Arc::new(Int32Array::from_iter(all().map(|_| None::<i32>))),
            true,
        ),
    ];
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

fn written(groups: &[RecordBatch], properties: WriterProperties) -> Bytes {
    let mut file = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut file, groups[0].schema(), Some(properties)).unwrap();
    for group in groups {
        writer.write(group).unwrap();
        writer.flush().unwrap();
    }
    writer.close().unwrap();
    file.into()
}

/// The file's first chunk.
async fn first_chunk(batch_rows: usize, file: &Bytes) -> ChunkReader {
    let (plan, reader, _folder) = plan_for(batch_rows, file).await.unwrap();
    let layout = reader.open(&plan.units[0]).await.unwrap();
    reader.fetch(&layout.chunks[0]).await.unwrap()
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_run_holds_the_rows_of_its_row_groups_in_order(
        sizes in proptest::collection::vec(1i64..400, 2..12),
        batch_rows in 1usize..300,
        version in prop_oneof![Just(WriterVersion::PARQUET_1_0), Just(WriterVersion::PARQUET_2_0)],
        dictionary: bool,
        compressed: bool,
        page_rows in 1usize..500,
        given_up_after in 0usize..3,
    ) {
        let mut first = 0;
        let mut groups = Vec::new();
        for count in sizes {
            groups.push(rows(first, count));
            first += count;
        }
        let codec = if compressed { Compression::SNAPPY } else { Compression::UNCOMPRESSED };
        let properties = WriterProperties::builder()
            .set_writer_version(version)
            .set_dictionary_enabled(dictionary)
            .set_compression(codec)
            .set_data_page_row_count_limit(page_rows)
            .set_write_batch_size(page_rows)
            .build();
        let mut chunk = block_on(first_chunk(batch_rows, &written(&groups, properties)));
        // Blocks of this size would hold everything.
        chunk.set_block_rows(batch_rows);
        let mut blocks = Vec::new();
        let mut places = 0;
        while let Some(block) = chunk.next_block().unwrap() {
            places += block.origin.rows();
            if blocks.len() < given_up_after {
                prop_assert!(chunk.is_in_a_run() || places as i64 == first);
            }
            blocks.push(block.rows);
            if blocks.len() == given_up_after {
                chunk.give_up_run();
            }
        }
        let expected = concat_batches(&groups[0].schema(), &groups).unwrap();
        prop_assert_eq!(concat_batches(&blocks[0].schema(), &blocks).unwrap(), expected);
        prop_assert!(blocks[..blocks.len() - 1].iter().all(|block| block.num_rows() == batch_rows));
        prop_assert_eq!(places as i64, first);
    }
}

#[test]
fn lists_are_decoded_one_row_group_after_the_other() {
    let group = |first: i32| {
        let lists = (first..first + 20).map(|i| Some((0..i % 4).map(Some).collect::<Vec<_>>()));
        let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(lists));
        RecordBatch::try_from_iter([("l", lists)]).unwrap()
    };
    let groups = [group(0), group(20), group(40)];
    let mut chunk = block_on(first_chunk(50, &written(&groups, WriterProperties::default())));
    let block = chunk.next_block().unwrap().unwrap();
    assert!(!chunk.is_in_a_run());
    assert_eq!(
        block.rows.column(0),
        concat_batches(&groups[0].schema(), &groups).unwrap().column(0)
    );
}

fn ints(values: std::ops::Range<i32>) -> Vec<u8> {
    values.flat_map(i32::to_le_bytes).collect()
}

/// Failure matrix: 25.
#[test]
fn a_value_too_many_here_and_one_too_few_there_are_not_made_good_by_each_other() {
    let column = |values: i32| {
        vec![column(
            "n",
            INT32,
            values.into(),
            data_page(values.into(), 0, &ints(0..values)),
        )]
    };
    assert_eq!(rows_of(&file_of_groups(&[&column(5), &column(5)], 5, 10)), 10);
    is_refused(
        &file_of_groups(&[&column(5), &column(4), &column(6)], 5, 15),
        &["holds 4 rows", "footer says 5", "row group 1"],
    );
}

/// Failure matrix: 25.
#[test]
fn the_damaged_row_group_of_a_run_is_the_one_that_is_named() {
    // Ten values are promised by the header, and the body has room for nine.
    let whole = [column("n", INT32, 10, data_page(10, 0, &ints(0..10)))];
    let short = [column("n", INT32, 10, data_page(10, 0, &ints(0..9)))];
    is_refused(
        &file_of_groups(&[&whole, &whole, &short, &whole], 10, 40),
        &["can't decode the row group", "row group 2", "rows from 0"],
    );
}

#[test]
fn the_damaged_row_group_among_joined_ones_is_the_one_that_is_named() {
    let whole = [column("n", INT32, 10, data_page(10, 0, &ints(0..10)))];
    let short = [column("n", INT32, 10, data_page(10, 0, &ints(0..9)))];
    let joined = |groups: &[&[Column]]| {
        let rows = 10 * groups.len() as i64;
        pass(&file_of_groups(groups, 10, rows), &Asked::splicing(&[]))
    };
    assert_eq!(joined(&[&whole, &whole, &whole]).unwrap().copied, 1);
    let error = joined(&[&whole, &whole, &short, &whole]).unwrap_err().to_string();
    for words in ["can't decode the row group", "row group 2"] {
        assert!(error.contains(words), "{error}");
    }
}
