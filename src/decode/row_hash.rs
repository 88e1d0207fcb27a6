//! A 64-bit hash per row over all its columns: what the echo model returns, and what tests compare.
//!
//! Rows hash alike when they hold the same values of the same logical types in the same columns, however the
//! rows were cut into batches and whether strings came plain, large, as views or from a dictionary. A null, an
//! empty string and a zero differ, and so do equal values in other columns.

use arrow::array::{ArrayRef, RecordBatch};
use arrow::row::{RowConverter, SortField};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use xxhash_rust::xxh3::xxh3_64;

use super::lists::plain;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::signature::BoundInput;
use crate::tensor::{DType, Tensor};

/// An input that is fed by the hash of the row.
#[derive(Clone, Debug)]
pub struct RowHash {
    columns: Vec<usize>,
}

impl RowHash {
    /// Prepares the input `bound`, which must be int64.
    pub fn new(bound: &BoundInput) -> Result<RowHash> {
        if bound.feature.dtype != DType::I64 {
            return Err(Error::internal(format!(
                "a row hash is int64, and the input {} is {}",
                bound.feature.name,
                bound.feature.dtype.as_str()
            )));
        }
        Ok(RowHash {
            columns: bound.columns.clone(),
        })
    }

    /// `[rows]` int64: XXH3-64 of each row.
    pub fn decode(&self, batch: &RecordBatch) -> Result<Tensor> {
        let mut hashes = Vec::with_capacity(batch.num_rows());
        // Encoded rows of a wide table are large: a few at a time keep to the cache and the memory budget.
        const ROWS_AT_ONCE: usize = 512;
        for start in (0..batch.num_rows()).step_by(ROWS_AT_ONCE) {
            let rows = ROWS_AT_ONCE.min(batch.num_rows() - start);
            let columns = self
                .columns
                .iter()
                .map(|&index| batch.column(index).slice(start, rows));
            hash_rows(&columns.collect::<Vec<_>>(), rows, &mut hashes)?;
        }
        Tensor::new(vec![batch.num_rows()], hashes)
    }
}

fn hash_rows(columns: &[ArrayRef], rows: usize, hashes: &mut Vec<i64>) -> Result<()> {
    let mut encoded = Vec::new();
    let mut fields = Vec::new();
    let mut written = Vec::new();
    for (position, column) in columns.iter().enumerate() {
        // Dictionaries of nested values are no part of the row format, the values themselves are.
        let nested = column.data_type().is_nested();
        let column = if nested { plain(column)? } else { column.clone() };
        let field = SortField::new(column.data_type().clone());
        if RowConverter::supports_fields(std::slice::from_ref(&field)) {
            fields.push(field);
            encoded.push(column);
        } else {
            written.push((position, column));
        }
    }
    // The row format is unambiguous: no encoding of a value is the beginning of another's.
    let converter = RowConverter::new(fields).context(ErrorKind::Internal, "can't encode rows")?;
    let encoded = converter
        .convert_columns(&encoded)
        .context(ErrorKind::Internal, "can't encode rows")?;
    let options = FormatOptions::new().with_null("");
    let mut formatters = Vec::with_capacity(written.len());
    for (position, column) in &written {
        let formatter =
            ArrayFormatter::try_new(column, &options).context(ErrorKind::Internal, "can't print values")?;
        formatters.push((position, column, formatter));
    }
    let has_encoded = encoded.num_rows() == rows;
    let mut bytes = Vec::new();
    for row in 0..rows {
        let encoded = if has_encoded { encoded.row(row).data() } else { &[] };
        if formatters.is_empty() {
            hashes.push(xxh3_64(encoded) as i64);
            continue;
        }
        bytes.clear();
        bytes.extend_from_slice(encoded);
        for (position, column, formatter) in &formatters {
            let text = formatter.value(row).to_string();
            bytes.extend_from_slice(&(**position as u32).to_le_bytes());
            bytes.push(column.is_valid(row).into());
            bytes.extend_from_slice(&(text.len() as u64).to_le_bytes());
            bytes.extend_from_slice(text.as_bytes());
        }
        hashes.push(xxh3_64(&bytes) as i64);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::*;
    use arrow::compute::cast;
    use arrow::datatypes::DataType;
    use std::sync::Arc;

    fn hashes(columns: &[ArrayRef]) -> Vec<i64> {
        let mut hashes = Vec::new();
        hash_rows(columns, columns[0].len(), &mut hashes).unwrap();
        hashes
    }

    fn dictionary(values: DataType) -> DataType {
        DataType::Dictionary(Box::new(DataType::Int32), Box::new(values))
    }

    #[test]
    fn strings_hash_alike_in_every_encoding() {
        let texts: ArrayRef = Arc::new(StringArray::from(vec![
            Some("a"),
            None,
            Some(""),
            Some("long enough to leave a view"),
        ]));
        let expected = hashes(std::slice::from_ref(&texts));
        for encoding in [
            DataType::LargeUtf8,
            DataType::Utf8View,
            dictionary(DataType::Utf8),
            dictionary(DataType::LargeUtf8),
        ] {
            assert_eq!(
                hashes(&[cast(&texts, &encoding).unwrap()]),
                expected,
                "{encoding}"
            );
        }
    }

    #[test]
    fn rows_hash_alike_however_they_are_cut_into_batches() {
        const ROWS: i64 = 1300;
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..ROWS));
        let texts: ArrayRef = Arc::new(StringArray::from_iter(
            (0..ROWS).map(|row| (row % 3 > 0).then(|| row.to_string())),
        ));
        let batch = RecordBatch::try_from_iter([("n", numbers), ("t", texts)]).unwrap();
        let hash = RowHash { columns: vec![0, 1] };
        let whole = hash.decode(&batch).unwrap();
        for rows in [1, 7, 511, 513] {
            let mut joined = hash.decode(&batch.slice(0, 0)).unwrap();
            for start in (0..batch.num_rows()).step_by(rows) {
                joined
                    .append(
                        hash.decode(&batch.slice(start, rows.min(batch.num_rows() - start)))
                            .unwrap(),
                    )
                    .unwrap();
            }
            assert_eq!(joined, whole);
        }
    }

    #[test]
    fn null_empty_zero_and_other_places_differ() {
        let text = |value: Option<&str>| Arc::new(StringArray::from(vec![value])) as ArrayRef;
        let number = |value: Option<i32>| Arc::new(Int32Array::from(vec![value])) as ArrayRef;
        let rows = [
            [text(None), text(None)],
            [text(Some("")), text(None)],
            [text(None), text(Some(""))],
            [text(Some("ab")), text(Some(""))],
            [text(Some("a")), text(Some("b"))],
            [text(Some("b")), text(Some("a"))],
            [number(None), number(Some(0))],
            [number(Some(0)), number(None)],
            [number(Some(0)), number(Some(0))],
        ];
        let mut all: Vec<_> = rows.iter().flat_map(|row| hashes(row)).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), rows.len());
    }

    #[test]
    fn nested_columns_hash_by_their_values() {
        let lists: ArrayRef = Arc::new(
            ListArray::from_iter_primitive::<arrow::datatypes::Int32Type, _, _>([
                Some(vec![Some(1), None]),
                None,
                Some(vec![]),
                Some(vec![Some(1)]),
            ]),
        );
        let expected = hashes(std::slice::from_ref(&lists));
        let keys = Int32Array::from(vec![3, 2, 1, 0]);
        let reversed: ArrayRef = Arc::new(DictionaryArray::new(keys, lists.clone()));
        assert_eq!(
            hashes(&[reversed]),
            expected.iter().rev().copied().collect::<Vec<_>>()
        );
        assert_eq!(expected.iter().collect::<std::collections::HashSet<_>>().len(), 4);
    }

    #[test]
    fn types_outside_the_row_format_are_hashed_as_text() {
        let inner = ListArray::from_iter_primitive::<arrow::datatypes::Int32Type, _, _>([
            Some(vec![Some(1)]),
            None,
            Some(vec![]),
        ]);
        let items: ArrayRef = Arc::new(DictionaryArray::new(
            Int32Array::from(vec![0, 1, 2, 0]),
            Arc::new(inner),
        ));
        let field = Arc::new(arrow::datatypes::Field::new_list_field(
            items.data_type().clone(),
            true,
        ));
        let offsets = arrow::buffer::OffsetBuffer::from_lengths([1, 1, 1, 1]);
        let lists: ArrayRef = Arc::new(ListArray::new(field, offsets, items, None));
        assert!(!RowConverter::supports_fields(&[SortField::new(
            lists.data_type().clone()
        )]));
        let found = hashes(std::slice::from_ref(&lists));
        assert_eq!(found[0], found[3]);
        assert_ne!(found[0], found[1]);
        assert_ne!(found[1], found[2]);
        let first: ArrayRef = Arc::new(Int32Array::from(vec![7; 4]));
        assert_ne!(hashes(&[first.clone(), lists.clone()]), found);
        assert_ne!(hashes(&[first.clone(), lists.clone()]), hashes(&[lists, first]));
    }

    /// Outputs of the echo model must not change with the version of a library.
    #[test]
    fn the_hash_of_a_row_stays_what_it_was() {
        let row: [ArrayRef; 3] = [
            Arc::new(Int64Array::from(vec![-1])),
            Arc::new(StringArray::from(vec!["floe"])),
            Arc::new(Float64Array::from(vec![None::<f64>])),
        ];
        assert_eq!(hashes(&row), [-6841968650756058982]);
    }
}
