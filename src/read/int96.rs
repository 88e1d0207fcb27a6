//! `INT96` timestamps, which Spark writes by default: a day and the nanoseconds within it.
//!
//! As nanoseconds since 1970, which is how Arrow reads them, they reach from 1677 to 2262, and Arrow lets what lies outside
//! wrap to a wrong instant without a word. Spark itself counts in microseconds, so in a file of Spark's microseconds lose
//! nothing and reach as far as Spark does; dates like 9999-12-31, which stand for "never", come out right. In others, an
//! instant that nanoseconds can't hold is an error.

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::basic::Type;
use std::sync::Arc;

use crate::error::{Error, Result};

/// The key that Spark leaves in the footers of its files.
pub(super) const SPARK: &str = "org.apache.spark.version";

/// The same metadata, with the `INT96` columns of a file of Spark's read as microseconds.
///
/// # Errors
/// The crate's own, when it can't read a column so.
pub(super) fn in_microseconds(metadata: ArrowReaderMetadata) -> parquet::errors::Result<ArrowReaderMetadata> {
    let file = metadata.metadata();
    let pairs = file.file_metadata().key_value_metadata();
    let is_sparks = pairs.is_some_and(|pairs| pairs.iter().any(|pair| pair.key == SPARK));
    if !is_sparks {
        return Ok(metadata);
    }
    let descriptor = file.file_metadata().schema_descr();
    let mut fields: Vec<Arc<Field>> = metadata.schema().fields().iter().cloned().collect();
    let mut has_any = false;
    for (leaf, column) in descriptor.columns().iter().enumerate() {
        let field = &mut fields[descriptor.get_column_root_idx(leaf)];
        if column.physical_type() == Type::INT96
            && let DataType::Timestamp(TimeUnit::Nanosecond, zone) = field.data_type()
        {
            let micros = DataType::Timestamp(TimeUnit::Microsecond, zone.clone());
            *field = Arc::new(field.as_ref().clone().with_data_type(micros));
            has_any = true;
        }
    }
    if !has_any {
        return Ok(metadata);
    }
    let schema = Schema::new_with_metadata(fields, metadata.schema().metadata().clone());
    ArrowReaderMetadata::try_new(
        file.clone(),
        ArrowReaderOptions::new().with_schema(Arc::new(schema)),
    )
}

/// Bytes of a value: nanoseconds within the day, then the Julian day.
const VALUE_BYTES: usize = 12;

/// Julian day of 1970-01-01.
const EPOCH_DAY: i128 = 2_440_588;

const DAY_NANOS: i128 = 86_400_000_000_000;

/// Checks that a column of type `data_type` can hold the `values` of a page.
///
/// # Errors
/// `Data`, with the first day that it can't.
pub(super) fn check_reach(values: &[u8], data_type: &DataType) -> Result<()> {
    // What is beyond even microseconds wraps in Spark as it does in Arrow, so that both come to the same instant.
    if matches!(data_type, DataType::Timestamp(TimeUnit::Microsecond, _)) {
        return Ok(());
    }
    for value in values.chunks_exact(VALUE_BYTES) {
        let (nanos, day) = value.split_at(8);
        let nanos = i64::from_le_bytes(nanos.try_into().expect("split at eight bytes"));
        let day = i32::from_le_bytes(day.try_into().expect("four bytes are left"));
        let instant = (i128::from(day) - EPOCH_DAY) * DAY_NANOS + i128::from(nanos);
        if i64::try_from(instant).is_err() {
            return Err(Error::data(format!(
                "an INT96 timestamp of Julian day {day} is out of range: nanoseconds since 1970 can't hold it"
            ))
            .with_hint("write the column as TIMESTAMP_MICROS, which reaches further"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Array, TimestampMicrosecondArray, TimestampNanosecondArray};
    use bytes::Bytes;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use parquet::data_type::{Int96, Int96Type};
    use parquet::file::metadata::{KeyValue, ParquetMetaDataReader};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    const EPOCH_DAY: u32 = super::EPOCH_DAY as u32;

    /// A file with one `INT96` column: 1970-01-02 00:00:00.000001 and 9999-12-31 00:00.
    fn file(written_by: &str) -> Bytes {
        let schema = Arc::new(parse_message_type("message m { required int96 at; }").unwrap());
        let pair = KeyValue::new(written_by.to_string(), "3.4.3".to_string());
        let properties = WriterProperties::builder()
            .set_key_value_metadata(Some(vec![pair]))
            .build();
        let mut bytes = Vec::new();
        let mut writer = SerializedFileWriter::new(&mut bytes, schema, Arc::new(properties)).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let instant = |day: u32, nanos: u32| {
            let mut value = Int96::new();
            value.set_data(nanos, 0, day);
            value
        };
        let values = [instant(EPOCH_DAY + 1, 1000), instant(EPOCH_DAY + 2_932_896, 0)];
        column
            .typed::<Int96Type>()
            .write_batch(&values, None, None)
            .unwrap();
        column.close().unwrap();
        group.close().unwrap();
        writer.close().unwrap();
        bytes.into()
    }

    fn read(bytes: &Bytes) -> arrow::array::ArrayRef {
        let metadata = ParquetMetaDataReader::new().parse_and_finish(bytes).unwrap();
        let metadata = ArrowReaderMetadata::try_new(Arc::new(metadata), ArrowReaderOptions::new()).unwrap();
        let metadata = in_microseconds(metadata).unwrap();
        let mut reader = ParquetRecordBatchReaderBuilder::new_with_metadata(bytes.clone(), metadata)
            .build()
            .unwrap();
        reader.next().unwrap().unwrap().column(0).clone()
    }

    /// Failure matrix: 31.
    #[test]
    fn sparks_far_dates_come_out_right() {
        const DAY_MICROS: i64 = 86_400_000_000;
        let column = read(&file(SPARK));
        let column: &TimestampMicrosecondArray = column.as_any().downcast_ref().unwrap();
        assert_eq!(column.values(), &[DAY_MICROS + 1, 2_932_896 * DAY_MICROS]);
    }

    #[test]
    fn others_keep_their_nanoseconds() {
        let column = read(&file("writer"));
        let column: &TimestampNanosecondArray = column.as_any().downcast_ref().unwrap();
        assert_eq!(column.value(0), 86_400_000_001_000);
    }
}
