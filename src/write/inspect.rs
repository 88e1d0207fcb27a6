//! A second look at a finished file: is it whole, and how many rows does it hold?

use bytes::Bytes;
use parquet::file::metadata::ParquetMetaDataReader;
use std::panic::AssertUnwindSafe;

use crate::error::{Error, Result};

/// Rows that the footer of a whole Parquet file declares.
///
/// # Errors
/// `Data` when `bytes` are not a whole Parquet file.
pub fn rows(bytes: &Bytes) -> Result<u64> {
    let parsed = std::panic::catch_unwind(AssertUnwindSafe(|| {
        ParquetMetaDataReader::new().parse_and_finish(bytes)
    }));
    match parsed {
        Ok(Ok(metadata)) => Ok(metadata.file_metadata().num_rows().max(0) as u64),
        Ok(Err(error)) => Err(Error::data("not a whole Parquet file").with_source(error)),
        Err(_) => Err(Error::data("not a whole Parquet file: its footer is malformed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_file_is_an_error() {
        for content in ["", "PAR1", "PAR1xxxxxxxx\x10\0\0\0PAR1"] {
            assert!(rows(&Bytes::from_static(content.as_bytes())).is_err());
        }
    }
}
