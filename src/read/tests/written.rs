//! Files of columns of every kind, under any settings of the crate's writer.

use arrow::array::*;
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::*;
use bytes::Bytes;
use half::f16;
use parquet::arrow::ArrowWriter;
use parquet::basic::{BrotliLevel, Compression as Codec, GzipLevel, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use proptest::prelude::*;
use std::sync::Arc;

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
pub struct Written {
    pub columns: Vec<(usize, u64)>,
    pub groups: Vec<usize>,
    pub codec: usize,
    pub version_2: bool,
    pub dictionary: bool,
    pub statistics: usize,
    pub bloom_filters: bool,
    pub page_rows: usize,
}

pub fn codec(number: usize) -> Codec {
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

pub fn write(written: &Written) -> Bytes {
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

pub fn any_file() -> impl Strategy<Value = Written> {
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

impl Written {
    /// Whether a column of a kind is joined.
    pub fn joins(&self, kind: usize, is_needed: bool) -> bool {
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
