//! The rows that every benchmark works on.

use arrow::array::{ArrayRef, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use std::path::Path;
use std::sync::Arc;

/// Columns that the flights model reads.
pub const FEATURES: [&str; 12] = [
    "dep_delay",
    "distance",
    "month",
    "day",
    "hour",
    "minute",
    "temp",
    "dewp",
    "humid",
    "wind_speed",
    "precip",
    "visib",
];

/// Numbers from a fixed seed (SplitMix64, Steele et al. 2014).
pub struct Random(pub u64);

impl Random {
    /// Any number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number from 0 to 1.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// `rows` rows: an id, twelve features, four strings of few values and three doubles of many.
pub fn rows(rows: usize) -> RecordBatch {
    let mut random = Random(7);
    let mut fields = vec![Field::new("row_id", DataType::Int64, false)];
    let mut columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from_iter_values(0..rows as i64))];
    for (index, name) in FEATURES.iter().enumerate() {
        if index % 3 == 2 {
            fields.push(Field::new(*name, DataType::Int32, false));
            let values = (0..rows).map(|_| (random.next() % 60) as i32);
            columns.push(Arc::new(Int32Array::from_iter_values(values)));
        } else {
            fields.push(Field::new(*name, DataType::Float64, true));
            let values = (0..rows).map(|_| (random.next() % 2000) as f64 / 10.0 - 40.0);
            columns.push(Arc::new(Float64Array::from_iter_values(values)));
        }
    }
    for name in ["carrier", "tailnum", "origin", "dest"] {
        fields.push(Field::new(name, DataType::Utf8, true));
        let values = (0..rows).map(|_| Some(format!("{name}{}", random.next() % 300)));
        columns.push(Arc::new(StringArray::from_iter(values)));
    }
    for name in ["x", "y", "z"] {
        fields.push(Field::new(name, DataType::Float64, false));
        let values = (0..rows).map(|_| random.next() as f64 / u64::MAX as f64);
        columns.push(Arc::new(Float64Array::from_iter_values(values)));
    }
    RecordBatch::try_new(schema(fields), columns).expect("columns fit their fields")
}

fn schema(fields: Vec<Field>) -> SchemaRef {
    Arc::new(Schema::new(fields))
}

/// Writes rows as one file with row groups of `group_rows`.
pub fn write(path: &Path, rows: &RecordBatch, group_rows: usize) {
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_max_row_group_row_count(Some(group_rows))
        .build();
    let file = std::fs::File::create(path).expect("a scratch file");
    let mut writer = ArrowWriter::try_new(file, rows.schema(), Some(properties)).expect("a writer");
    writer.write(rows).expect("rows are written");
    writer.close().expect("the file is closed");
}
