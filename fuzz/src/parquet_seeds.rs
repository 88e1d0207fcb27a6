//! Small Parquet files that together use every encoding, codec and sort of column.

use arrow::array::*;
use arrow::datatypes::*;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding};
use parquet::data_type::{Int96, Int96Type};
use parquet::file::properties::{WriterProperties, WriterVersion};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use std::sync::Arc;

const ROWS: usize = 40;

/// The files.
pub fn all() -> Vec<Vec<u8>> {
    let mut files = vec![timestamps_of_old()];
    for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
        for codec in [Compression::UNCOMPRESSED, Compression::SNAPPY] {
            for dictionary in [true, false] {
                let builder = WriterProperties::builder()
                    .set_writer_version(version)
                    .set_compression(codec)
                    .set_dictionary_enabled(dictionary)
                    .set_data_page_row_count_limit(16)
                    .set_write_batch_size(8);
                files.push(write(&scalars(), builder.build()));
            }
        }
    }
    let nested = WriterProperties::builder()
        .set_max_row_group_row_count(Some(ROWS / 2))
        .build();
    files.push(write(&nested_columns(), nested));
    for (column, encoding) in [
        ("number", Encoding::DELTA_BINARY_PACKED),
        ("text", Encoding::DELTA_LENGTH_BYTE_ARRAY),
        ("text", Encoding::DELTA_BYTE_ARRAY),
        ("real", Encoding::BYTE_STREAM_SPLIT),
        ("flag", Encoding::RLE),
    ] {
        let builder = WriterProperties::builder()
            .set_dictionary_enabled(false)
            .set_column_encoding(column.into(), encoding)
            .build();
        let rows = scalars();
        let index = rows.schema().index_of(column).expect("a column of the seeds");
        files.push(write(&rows.project(&[index]).expect("one column"), builder));
    }
    files.push(write(&scalars().slice(0, 0), Default::default()));
    files
}

fn write(rows: &RecordBatch, properties: WriterProperties) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer =
        ArrowWriter::try_new(&mut bytes, rows.schema(), Some(properties)).expect("a schema that Parquet has");
    writer.write(rows).expect("memory");
    writer.close().expect("memory");
    bytes
}

fn rows(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)))
        .expect("columns of one length")
}

fn scalars() -> RecordBatch {
    let texts = (0..ROWS).map(|row| (row % 7 != 0).then(|| format!("text {}", row % 5)));
    let decimals = Decimal128Array::from_iter_values((0..ROWS as i128).map(|row| row * 12_345 - 9));
    rows(vec![
        (
            "number",
            Arc::new(Int64Array::from_iter(
                (0..ROWS as i64).map(|row| (row % 3 != 0).then_some(row / 4)),
            )),
        ),
        ("small", Arc::new(Int32Array::from_iter_values(0..ROWS as i32))),
        (
            "real",
            Arc::new(Float64Array::from_iter_values(
                (0..ROWS).map(|row| row as f64 / 3.0),
            )),
        ),
        (
            "flag",
            Arc::new(BooleanArray::from_iter((0..ROWS).map(|row| Some(row % 5 < 2)))),
        ),
        ("text", Arc::new(StringArray::from_iter(texts))),
        (
            "bytes",
            Arc::new(BinaryArray::from_iter_values(
                (0..ROWS).map(|row| vec![row as u8; row % 6]),
            )),
        ),
        (
            "at",
            Arc::new(TimestampMicrosecondArray::from_iter_values(
                (0..ROWS as i64).map(|row| row << 30),
            )),
        ),
        ("day", Arc::new(Date32Array::from_iter_values(0..ROWS as i32))),
        (
            "amount",
            Arc::new(
                decimals
                    .with_precision_and_scale(20, 3)
                    .expect("a legal precision"),
            ),
        ),
    ])
}

fn nested_columns() -> RecordBatch {
    let lists = ListArray::from_iter_primitive::<Int32Type, _, _>(
        (0..ROWS)
            .map(|row| (row % 6 != 5).then(|| (0..row as i32 % 4).map(|item| (item != 2).then_some(item)))),
    );
    let numbers: ArrayRef = Arc::new(Int32Array::from_iter(
        (0..ROWS as i32).map(|row| (row % 2 == 0).then_some(row)),
    ));
    let inner = StructArray::from(vec![(Arc::new(Field::new("n", DataType::Int32, true)), numbers)]);
    let mut maps = MapBuilder::new(None, StringBuilder::new(), Int64Builder::new());
    for row in 0..ROWS {
        for entry in 0..row % 3 {
            maps.keys().append_value(format!("k{entry}"));
            maps.values().append_value(row as i64);
        }
        maps.append(row % 9 != 8).expect("as many keys as values");
    }
    rows(vec![
        ("lists", Arc::new(lists)),
        ("inner", Arc::new(inner)),
        ("maps", Arc::new(maps.finish())),
    ])
}

/// `INT96` and repeated columns without a list around them, which Arrow's writer never makes.
fn timestamps_of_old() -> Vec<u8> {
    let schema = parse_message_type("message m { required int96 at; }").expect("a schema");
    let mut bytes = Vec::new();
    let mut writer =
        SerializedFileWriter::new(&mut bytes, Arc::new(schema), Default::default()).expect("memory");
    let mut group = writer.next_row_group().expect("memory");
    let mut column = group.next_column().expect("memory").expect("one column");
    let instant = |day: u32| {
        let mut value = Int96::new();
        value.set_data(day * 1000, 0, 2_440_588 + day);
        value
    };
    let values: Vec<Int96> = (0..ROWS as u32).map(instant).collect();
    column
        .typed::<Int96Type>()
        .write_batch(&values, None, None)
        .expect("memory");
    column.close().expect("memory");
    group.close().expect("memory");
    writer.close().expect("memory");
    bytes
}
