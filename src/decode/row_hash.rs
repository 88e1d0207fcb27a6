//! A 64-bit hash per row over all its columns: what the echo model returns, and what tests compare.
//!
//! Rows hash alike when they hold the same values of the same logical types in the same columns, however the
//! rows were cut into batches and whether strings came plain, large, as views or from a dictionary. A null, an
//! empty string and a zero differ, and so do equal values in other columns.

use arrow::array::{ArrayRef, RecordBatch};
use arrow::row::{RowConverter, SortField};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use xxhash_rust::xxh3::xxh3_64;

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
        let field = SortField::new(column.data_type().clone());
        if RowConverter::supports_fields(std::slice::from_ref(&field)) {
            fields.push(field);
            encoded.push(column.clone());
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
    for (position, column) in written {
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
            bytes.extend_from_slice(&(*position as u32).to_le_bytes());
            bytes.push(column.is_valid(row).into());
            bytes.extend_from_slice(&(text.len() as u64).to_le_bytes());
            bytes.extend_from_slice(text.as_bytes());
        }
        hashes.push(xxh3_64(&bytes) as i64);
    }
    Ok(())
}
