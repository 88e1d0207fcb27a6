//! What a file claims of its values holds: counts and bounds of footer and page index, bloom filters.

use arrow::array::*;
use arrow::datatypes::*;
use bytes::Bytes;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ParquetRecordBatchReaderBuilder};
use parquet::file::metadata::ParquetMetaData;

/// Bounds and counts of the footer hold for the values.
pub fn check_statistics(metadata: &ParquetMetaData, rows: &RecordBatch) {
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
pub fn check_bounds(metadata: &ParquetMetaData, rows: &RecordBatch) -> usize {
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
pub fn check_bloom_filters(file: &Bytes, metadata: &ArrowReaderMetadata, rows: &RecordBatch) -> usize {
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
