//! Files whose columns are copied: read again they hold the same rows as when every column is decoded and encoded, by
//! whichever way a reader finds them.

use arrow::array::*;
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{cast, concat_batches, take_record_batch};
use arrow::datatypes::*;
use bytes::Bytes;
use half::f16;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection, RowSelector,
};
use parquet::basic::{BrotliLevel, Compression as Codec, GzipLevel, ZstdLevel};
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use proptest::prelude::*;
use std::sync::Arc;

use super::*;
use crate::config::Compression;
use crate::write::{EncoderOptions, Form, UnitEncoder};

/// What is asked of a passage.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// Whether columns may be copied.
    pub splice: bool,
    /// Positions of the columns whose values are needed.
    pub needed: Vec<usize>,
    pub compression: Option<Compression>,
    pub batch_rows: usize,
}

impl Asked {
    pub(super) fn splicing(needed: &[usize]) -> Asked {
        Asked {
            splice: true,
            needed: needed.to_vec(),
            compression: None,
            batch_rows: 256,
        }
    }
}

/// A file that went through, with one column more that counts the rows.
#[derive(Debug)]
pub(super) struct Passed {
    pub file: Bytes,
    /// Leaves of all row groups that were copied.
    pub copied: usize,
    /// Columns of all blocks that were decoded.
    pub decoded: usize,
}

pub(super) async fn pass_through(file: &Bytes, asked: &Asked) -> Result<Option<Passed>> {
    let (plan, reader, _folder) = plan_for(asked.batch_rows, file).await?;
    let mut fields = reader.schema().fields().to_vec();
    fields.push(Arc::new(Field::new(
        format!("row {}", fields.len()),
        DataType::Int64,
        false,
    )));
    let added = fields.len() - 1;
    let form = Form::new(EncoderOptions {
        schema: Arc::new(Schema::new(fields.clone())),
        compression: asked.compression,
        partition_by: vec![],
        metadata: vec![("key".into(), "value".into())],
        splice: asked.splice,
    })?;
    let reader = reader.splicing(form.clone(), asked.needed.clone());
    let (mut copied, mut decoded, mut rows) = (0, 0, 0i64);
    let mut files = Vec::new();
    for unit in &plan.units {
        let layout = reader.open(unit).await?;
        let Some(first) = layout.chunks.first() else {
            continue;
        };
        let like = &first.pieces[0].footer.row_groups()[first.pieces[0].row_group];
        let mut encoder = UnitEncoder::new(form.clone(), Some(like));
        for chunk in &layout.chunks {
            let mut blocks = reader.fetch(chunk).await?;
            while let Some(block) = blocks.next_block()? {
                assert_eq!(block.project(&[])?.num_rows(), block.rows.num_rows());
                for needed in &asked.needed {
                    block.project(&[*needed])?;
                }
                decoded += block.columns.columns.len();
                let mut columns = block.columns.rewritten.clone();
                let kept = block.project(&columns)?;
                let count = block.rows.num_rows() as i64;
                let mut arrays = kept.columns().to_vec();
                arrays.push(Arc::new(Int64Array::from_iter_values(rows..rows + count)));
                columns.push(added);
                rows += count;
                let own: Vec<FieldRef> = columns.iter().map(|column| fields[*column].clone()).collect();
                let batch = RecordBatch::try_new(Arc::new(Schema::new(own)), arrays).unwrap();
                encoder.write(&batch, &columns, None)?;
            }
            let spliced = blocks.take_spliced();
            copied += spliced.leaves.len();
            encoder.end_chunk(spliced)?;
        }
        files.extend(encoder.finish()?);
    }
    assert!(files.len() <= 1, "test files are one unit");
    Ok(files.pop().map(|file| Passed {
        file: file.bytes.join(),
        copied,
        decoded,
    }))
}

pub(super) fn pass(file: &Bytes, asked: &Asked) -> Result<Passed> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let passed = runtime.block_on(pass_through(file, asked))?;
    Ok(passed.expect("test files have rows"))
}

pub(super) fn metadata_of(file: &Bytes) -> ArrowReaderMetadata {
    let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Optional);
    ArrowReaderMetadata::load(file, options).unwrap()
}

pub(super) fn all_rows(file: &Bytes) -> RecordBatch {
    let builder = ParquetRecordBatchReaderBuilder::try_new(file.clone()).unwrap();
    let schema = builder.schema().clone();
    let batches: Vec<_> = builder
        .build()
        .unwrap()
        .collect::<std::result::Result<_, _>>()
        .unwrap();
    concat_batches(&schema, &batches).unwrap()
}

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

/// A value of a property test: nulls in some rows, few or many distinct values.
fn column(kind: usize, rows: usize, seed: u64) -> (DataType, ArrayRef) {
    let pick = |row: usize| {
        let mixed = (row as u64 + 1)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left((seed % 63) as u32)
            ^ seed;
        // Few distinct values for even seeds, runs of them for some.
        let mixed = if seed.is_multiple_of(5) {
            (row / 100) as u64
        } else {
            mixed
        };
        if seed.is_multiple_of(2) { mixed % 11 } else { mixed }
    };
    let is_valid = |row: usize| match seed % 3 {
        0 => true,
        1 => pick(row) % 4 != 0,
        _ => (row / 64).is_multiple_of(2),
    };
    let some = |row: usize| is_valid(row).then(|| pick(row));
    let text = |value: u64| format!("text {value} {}", "é".repeat((value % 40) as usize));
    let all = 0..rows;
    let array: ArrayRef = match kind {
        0 => Arc::new(Int32Array::from_iter(all.map(|row| some(row).map(|v| v as i32)))),
        1 => Arc::new(Int64Array::from_iter(all.map(|row| some(row).map(|v| v as i64)))),
        2 => Arc::new(UInt8Array::from_iter(all.map(|row| some(row).map(|v| v as u8)))),
        3 => Arc::new(UInt32Array::from_iter(all.map(|row| some(row).map(|v| v as u32)))),
        4 => Arc::new(UInt64Array::from_iter(all.map(some))),
        5 => Arc::new(Int16Array::from_iter(all.map(|row| some(row).map(|v| v as i16)))),
        6 => Arc::new(Float32Array::from_iter(
            all.map(|row| some(row).map(|v| f32::from_bits(v as u32))),
        )),
        7 => Arc::new(Float64Array::from_iter(all.map(|row| {
            some(row).map(|v| match v % 7 {
                0 => f64::NAN,
                1 => -0.0,
                2 => 0.0,
                _ => v as f64 / 3.0 - 1e6,
            })
        }))),
        8 => Arc::new(Float16Array::from_iter(
            all.map(|row| some(row).map(|v| f16::from_f64(v as f64 % 1e3))),
        )),
        9 => Arc::new(BooleanArray::from_iter(
            all.map(|row| some(row).map(|v| v % 2 == 0)),
        )),
        10 => Arc::new(StringArray::from_iter(all.map(|row| some(row).map(text)))),
        11 => Arc::new(LargeStringArray::from_iter(all.map(|row| some(row).map(text)))),
        12 => Arc::new(StringViewArray::from_iter(all.map(|row| some(row).map(text)))),
        13 => {
            Arc::new(BinaryArray::from_iter(all.map(|row| {
                some(row).map(|v| v.to_be_bytes()[(v % 8) as usize..].to_vec())
            })))
        }
        14 => Arc::new(Date32Array::from_iter(
            all.map(|row| some(row).map(|v| (v % 100_000) as i32 - 50_000)),
        )),
        15 => Arc::new(
            TimestampMicrosecondArray::from_iter(all.map(|row| some(row).map(|v| v as i64 >> 8)))
                .with_timezone("UTC"),
        ),
        16 => Arc::new(TimestampNanosecondArray::from_iter(
            all.map(|row| some(row).map(|v| v as i64)),
        )),
        17 => Arc::new(TimestampSecondArray::from_iter(
            all.map(|row| some(row).map(|v| v as i64 >> 30)),
        )),
        18 => Arc::new(
            Decimal128Array::from_iter(
                all.map(|row| some(row).map(|v| (v % 1_000_000_000) as i128 - 500_000_000)),
            )
            .with_precision_and_scale(9, 2)
            .unwrap(),
        ),
        19 => Arc::new(
            Decimal128Array::from_iter(all.map(|row| some(row).map(|v| i128::from(v) * 7 - (1 << 60))))
                .with_precision_and_scale(30, 5)
                .unwrap(),
        ),
        20 => {
            let values = all.map(|row| some(row).map(|v| v.to_le_bytes()));
            Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(values, 8).unwrap())
        }
        21 => {
            let texts = all.map(|row| some(row).map(|v| format!("key {}", v % 20)));
            let texts: Vec<Option<String>> = texts.collect();
            Arc::new(DictionaryArray::<Int32Type>::from_iter(
                texts.iter().map(Option::as_deref),
            ))
        }
        22 => Arc::new(Time64MicrosecondArray::from_iter(
            all.map(|row| some(row).map(|v| (v % 86_400_000_000) as i64)),
        )),
        23 => Arc::new(IntervalYearMonthArray::from_iter(
            all.map(|row| some(row).map(|v| (v % 1000) as i32)),
        )),
        24..=26 => {
            let lengths: Vec<usize> = all
                .clone()
                .map(|row| {
                    if is_valid(row) {
                        (pick(row) % 4) as usize
                    } else {
                        0
                    }
                })
                .collect();
            let count: usize = lengths.iter().sum();
            let (data_type, items) = column([0, 10, 7][kind - 24], count, seed / 3);
            let field = Arc::new(Field::new(["item", "element", "x"][kind - 24], data_type, true));
            let nulls = NullBuffer::from_iter(all.map(is_valid));
            Arc::new(ListArray::new(
                field,
                OffsetBuffer::from_lengths(lengths),
                items,
                Some(nulls),
            ))
        }
        27 => {
            let (first, numbers) = column(1, rows, seed / 2);
            let (second, lists) = column(25, rows, seed / 7);
            let fields = Fields::from(vec![Field::new("n", first, true), Field::new("l", second, true)]);
            let nulls = NullBuffer::from_iter(all.map(is_valid));
            Arc::new(StructArray::new(fields, vec![numbers, lists], Some(nulls)))
        }
        28 => {
            let lengths: Vec<usize> = all
                .clone()
                .map(|row| {
                    if is_valid(row) {
                        (pick(row) % 3) as usize
                    } else {
                        0
                    }
                })
                .collect();
            let count: usize = lengths.iter().sum();
            let keys: ArrayRef = Arc::new(StringArray::from_iter_values(
                (0..count).map(|at| format!("k{}", at % 5)),
            ));
            let (data_type, values) = column(0, count, seed / 3);
            let fields = Fields::from(vec![
                Field::new("key", DataType::Utf8, false),
                Field::new("value", data_type, true),
            ]);
            let entries = StructArray::new(fields.clone(), vec![keys, values], None);
            let field = Arc::new(Field::new("key_value", DataType::Struct(fields), false));
            let nulls = NullBuffer::from_iter(all.map(is_valid));
            Arc::new(MapArray::new(
                field,
                OffsetBuffer::from_lengths(lengths),
                entries,
                Some(nulls),
                false,
            ))
        }
        _ => Arc::new(NullArray::new(rows)),
    };
    (array.data_type().clone(), array)
}

const KINDS: usize = 30;

#[derive(Clone, Debug)]
struct Written {
    columns: Vec<(usize, u64)>,
    groups: Vec<usize>,
    codec: usize,
    version_2: bool,
    dictionary: bool,
    statistics: usize,
    bloom_filters: bool,
    page_rows: usize,
}

fn codec(number: usize) -> Codec {
    [
        Codec::UNCOMPRESSED,
        Codec::SNAPPY,
        Codec::GZIP(GzipLevel::default()),
        Codec::ZSTD(ZstdLevel::default()),
        Codec::BROTLI(BrotliLevel::default()),
        Codec::LZ4_RAW,
        Codec::LZ4,
    ][number]
}

fn write(written: &Written) -> Bytes {
    let properties = WriterProperties::builder()
        .set_compression(codec(written.codec))
        .set_writer_version(match written.version_2 {
            true => WriterVersion::PARQUET_2_0,
            false => WriterVersion::PARQUET_1_0,
        })
        .set_dictionary_enabled(written.dictionary)
        .set_statistics_enabled(
            [
                EnabledStatistics::None,
                EnabledStatistics::Chunk,
                EnabledStatistics::Page,
            ][written.statistics],
        )
        .set_bloom_filter_enabled(written.bloom_filters)
        .set_data_page_row_count_limit(written.page_rows)
        .set_write_batch_size(written.page_rows.min(64))
        .set_max_row_group_row_count(None)
        .build();
    let batch = |rows: usize, shift: u64| {
        let columns = written.columns.iter().enumerate().map(|(index, (kind, seed))| {
            let (_, array) = column(*kind, rows, seed.wrapping_add(shift * 6));
            (format!("c{index}"), array, true)
        });
        RecordBatch::try_from_iter_with_nullable(columns).unwrap()
    };
    let mut file = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut file, batch(1, 0).schema(), Some(properties)).unwrap();
    for (index, rows) in written.groups.iter().enumerate() {
        writer.write(&batch(*rows, index as u64)).unwrap();
        writer.flush().unwrap();
    }
    writer.close().unwrap();
    file.into()
}

fn any_file() -> impl Strategy<Value = Written> {
    (
        proptest::collection::vec((0..KINDS, any::<u64>()), 1..7),
        // Small row groups beside each other are joined; a large one stays alone.
        prop_oneof![
            (1usize..3000).prop_map(|rows| vec![rows]),
            proptest::collection::vec(1usize..800, 2..4),
            // So many values that dictionaries are judged.
            proptest::collection::vec(1usize..30, 2..60),
            proptest::collection::vec(600usize..1000, 12..16),
            (16_384usize..17_000, 1usize..500).prop_map(|(large, small)| vec![large, small]),
        ],
        0usize..7,
        any::<bool>(),
        any::<bool>(),
        0usize..3,
        any::<bool>(),
        prop_oneof![Just(20_000usize), 20..700usize],
    )
        .prop_map(
            |(columns, groups, codec, version_2, dictionary, statistics, bloom_filters, page_rows)| Written {
                columns,
                groups,
                codec,
                version_2,
                dictionary,
                statistics,
                bloom_filters,
                page_rows,
            },
        )
}

/// Bounds and counts of the footer hold for the values.
fn check_statistics(metadata: &ParquetMetaData, rows: &RecordBatch) {
    for (leaf, descriptor) in metadata
        .file_metadata()
        .schema_descr()
        .columns()
        .iter()
        .enumerate()
    {
        let root = metadata.file_metadata().schema_descr().get_column_root_idx(leaf);
        if descriptor.path().parts().len() > 1 || rows.column(root).data_type() == &DataType::Null {
            continue;
        }
        let nulls: Vec<_> = metadata
            .row_groups()
            .iter()
            .map(|group| {
                group
                    .column(leaf)
                    .statistics()
                    .and_then(|statistics| statistics.null_count_opt())
            })
            .collect();
        if nulls.iter().all(Option::is_some) {
            let sum: u64 = nulls.into_iter().flatten().sum();
            assert_eq!(
                sum,
                rows.column(root).null_count() as u64,
                "{}",
                descriptor.path()
            );
        }
    }
}

/// Bounds of footer and page index hold for the values of some types; says how many were looked at.
fn check_bounds(metadata: &ParquetMetaData, rows: &RecordBatch) -> usize {
    let (mut first, mut looked_at) = (0, 0);
    let page_index = metadata.page_index();
    for (group, chunk) in metadata.row_groups().iter().enumerate() {
        for (index, column) in rows.columns().iter().enumerate() {
            let schema = metadata.file_metadata().schema_descr();
            let Some(leaf) = (0..schema.num_columns()).find(|at| schema.get_column_root_idx(*at) == index)
            else {
                continue;
            };
            // Levels of nested columns count other nulls.
            if schema.column(leaf).path().parts().len() > 1 || column.data_type() == &DataType::Null {
                continue;
            }
            let values = column.slice(first, chunk.num_rows() as usize);
            let within = |bounds: [Option<&[u8]>; 2], values: &ArrayRef| {
                let [Some(least), Some(greatest)] = bounds else {
                    return 0;
                };
                match values.data_type() {
                    DataType::Int64 => {
                        let bound = |bytes: &[u8]| i64::from_le_bytes(bytes.try_into().unwrap());
                        let values = values.as_primitive::<Int64Type>();
                        assert!(
                            values
                                .iter()
                                .flatten()
                                .all(|value| bound(least) <= value && value <= bound(greatest))
                        );
                    }
                    DataType::UInt32 => {
                        let bound = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap());
                        let values = values.as_primitive::<UInt32Type>();
                        assert!(
                            values
                                .iter()
                                .flatten()
                                .all(|value| bound(least) <= value && value <= bound(greatest))
                        );
                    }
                    DataType::Float64 => {
                        let bound = |bytes: &[u8]| f64::from_le_bytes(bytes.try_into().unwrap());
                        let (least, greatest) = (bound(least), bound(greatest));
                        assert!(!least.is_nan() && !greatest.is_nan());
                        let values = values.as_primitive::<Float64Type>();
                        let mut numbers = values.iter().flatten().filter(|value| !value.is_nan());
                        // The type's own order takes zeros for equal.
                        assert!(numbers.all(|value| least <= value && value <= greatest));
                    }
                    DataType::Utf8 => {
                        let values = values.as_string::<i32>();
                        let mut texts = values.iter().flatten().map(str::as_bytes);
                        // A bound that was cut off is still one.
                        assert!(texts.all(|text| least <= text && text <= greatest));
                    }
                    _ => return 0,
                }
                1
            };
            if let Some(statistics) = chunk.column(leaf).statistics() {
                looked_at += within([statistics.min_bytes_opt(), statistics.max_bytes_opt()], &values);
            }
            let Some(index) = page_index.and_then(|index| index.column_index(group, leaf)) else {
                continue;
            };
            let Some(places) = page_index.and_then(|index| index.offset_index(group, leaf)) else {
                continue;
            };
            let starts: Vec<usize> = places
                .page_locations
                .iter()
                .map(|page| page.first_row_index as usize)
                .collect();
            for (page, start) in starts.iter().enumerate() {
                let end = starts.get(page + 1).copied().unwrap_or(values.len());
                let of_page = values.slice(*start, end - start);
                assert_eq!(index.is_null_page(page), of_page.null_count() == of_page.len());
                if let Some(nulls) = index.null_counts() {
                    assert_eq!(nulls[page], of_page.null_count() as i64);
                }
            }
        }
        first += chunk.num_rows() as usize;
    }
    looked_at
}

/// Every value is in its row group's bloom filter.
fn check_bloom_filters(file: &Bytes, metadata: &ArrowReaderMetadata, rows: &RecordBatch) -> usize {
    let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file.clone(), metadata.clone());
    let (mut first, mut filters) = (0, 0);
    for (group, chunk) in metadata.metadata().row_groups().iter().enumerate() {
        for (index, field) in rows.schema().fields().iter().enumerate() {
            let leaf = metadata.metadata().file_metadata().schema_descr();
            let Some(leaf) = (0..leaf.num_columns()).find(|at| leaf.get_column_root_idx(*at) == index) else {
                continue;
            };
            let Some(filter) = reader.get_row_group_column_bloom_filter(group, leaf).unwrap() else {
                continue;
            };
            filters += 1;
            let values = rows.column(index).slice(first, chunk.num_rows() as usize);
            match field.data_type() {
                DataType::Int64 => {
                    let values = values.as_primitive::<Int64Type>();
                    assert!(values.iter().flatten().all(|value| filter.check(&value)));
                }
                DataType::Utf8 => {
                    let values = values.as_string::<i32>();
                    assert!(values.iter().flatten().all(|value| filter.check(value)));
                }
                _ => {}
            }
        }
        first += chunk.num_rows() as usize;
    }
    filters
}

impl Written {
    /// Whether a column of a kind is joined.
    fn joins(&self, kind: usize, is_needed: bool) -> bool {
        let is_simple = match kind {
            0 | 1 | 3 | 4 | 6 | 7 | 9 | 10 | 11 | 13 | 14 | 15 | 16 => true,
            2 | 5 | 12 | 17 | 21 | 22 | 29 => !is_needed,
            _ => false,
        };
        // With neither dictionaries nor version 1 the crate writes deltas.
        let is_plain = self.dictionary || !self.version_2 || matches!(kind, 6 | 7 | 9);
        is_simple
            && is_plain
            && matches!(
                codec(self.codec),
                Codec::UNCOMPRESSED | Codec::SNAPPY | Codec::ZSTD(_)
            )
    }
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
