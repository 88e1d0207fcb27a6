//! Holds the decoder to the table in `docs/types.md`.

use arrow::array::*;
use arrow::datatypes::{DataType, i256};
use half::f16;
use std::sync::Arc;

use super::naive::{Cell, cell};
use super::{decode, feature};
use crate::config::OnOutOfRange;
use crate::signature::{OnNull, accepts};
use crate::tensor::{DType, TensorData};

/// Columns of the types behind a name of the table, with the values that are hardest to hold.
fn extremes(name: &str) -> Vec<ArrayRef> {
    macro_rules! of {
        ($array:ty, $native:ty) => {
            vec![Arc::new(<$array>::from(vec![
                <$native>::MIN,
                <$native>::MAX,
            ]))]
        };
    }
    match name {
        "bool" => vec![Arc::new(BooleanArray::from(vec![false, true]))],
        "int8" => of!(Int8Array, i8),
        "int16" => of!(Int16Array, i16),
        "int32" => of!(Int32Array, i32),
        "int64" => of!(Int64Array, i64),
        "uint8" => of!(UInt8Array, u8),
        "uint16" => of!(UInt16Array, u16),
        "uint32" => of!(UInt32Array, u32),
        "uint64" => of!(UInt64Array, u64),
        "float16" => vec![Arc::new(Float16Array::from(vec![f16::MAX, f16::MIN_POSITIVE]))],
        "float32" => vec![Arc::new(Float32Array::from(vec![f32::MAX, f32::MIN_POSITIVE]))],
        "float64" => vec![Arc::new(Float64Array::from(vec![f64::MAX, f64::MIN_POSITIVE]))],
        "decimal" => vec![
            Arc::new(
                Decimal32Array::from(vec![999_999_999])
                    .with_precision_and_scale(9, 2)
                    .unwrap(),
            ),
            Arc::new(
                Decimal64Array::from(vec![999_999_999_999])
                    .with_precision_and_scale(18, 2)
                    .unwrap(),
            ),
            Arc::new(
                Decimal128Array::from(vec![i128::MAX / 4])
                    .with_precision_and_scale(38, 2)
                    .unwrap(),
            ),
            Arc::new(
                Decimal256Array::from(vec![i256::from_i128(i128::MAX)])
                    .with_precision_and_scale(76, -6)
                    .unwrap(),
            ),
        ],
        "date32" => of!(Date32Array, i32),
        "date64" => of!(Date64Array, i64),
        "timestamp" => vec![
            Arc::new(TimestampSecondArray::from(vec![i64::MAX])),
            Arc::new(TimestampMillisecondArray::from(vec![i64::MIN])),
            Arc::new(TimestampMicrosecondArray::from(vec![i64::MAX]).with_timezone("UTC")),
            Arc::new(TimestampNanosecondArray::from(vec![i64::MAX])),
        ],
        "string" => vec![
            Arc::new(StringArray::from(vec!["", "é"])),
            Arc::new(LargeStringArray::from(vec!["", "é"])),
            Arc::new(StringViewArray::from(vec!["", "é"])),
        ],
        "binary" => vec![
            Arc::new(BinaryArray::from(vec![&b""[..], b"\xff"])),
            Arc::new(LargeBinaryArray::from(vec![&b""[..], b"\xff"])),
            Arc::new(BinaryViewArray::from(vec![&b""[..], b"\xff"])),
            Arc::new(FixedSizeBinaryArray::try_from_iter([b"\0\xff"].into_iter()).unwrap()),
        ],
        "null" => vec![Arc::new(NullArray::new(1))],
        other => panic!("the table has a column type {other} that the test doesn't know"),
    }
}

/// The sign that the decoder earns for a pair of types.
fn sign(columns: &[ArrayRef], dtype: DType) -> &'static str {
    let accepted = columns
        .iter()
        .filter(|column| accepts(dtype, column.data_type()))
        .count();
    if accepted == 0 {
        return "";
    }
    assert_eq!(accepted, columns.len(), "all types of one name are treated alike");
    let mut sign = "=";
    for column in columns {
        match decode(
            feature(dtype, &[]),
            std::slice::from_ref(column),
            OnNull::Fill(0.0),
            OnOutOfRange::Fail,
        ) {
            Err(_) => return "?",
            Ok(tensor) if !(0..column.len()).all(|row| is_exact(column, &tensor.data, row)) => sign = "≈",
            Ok(_) => {}
        }
    }
    sign
}

fn is_exact(column: &ArrayRef, data: &TensorData, row: usize) -> bool {
    let element = match data {
        TensorData::F16(values) => f64::from(values[row]),
        TensorData::F32(values) => values[row].into(),
        TensorData::F64(values) => values[row],
        // An integer, boolean, string or binary is the value itself or it isn't there.
        _ => return true,
    };
    match cell(column, row) {
        Cell::Whole(whole) => element as i128 == whole,
        Cell::Float(float) => element == float,
        Cell::Decimal(..) => false,
        Cell::Null | Cell::Text(_) | Cell::Binary(_) => true,
    }
}

/// Failure matrix: 31.
#[test]
fn the_table_of_the_documentation_is_what_the_decoder_does() {
    let table: Vec<Vec<&str>> = include_str!("../../../docs/types.md")
        .lines()
        .skip_while(|line| !line.starts_with("| column "))
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let dtypes: Vec<_> = DType::ALL.iter().map(|dtype| dtype.as_str()).collect();
    assert_eq!(table[0][1..], dtypes);
    assert_eq!(table.len(), 2 + 19, "a row per column type");
    for row in &table[2..] {
        let columns = extremes(row[0]);
        for (&written, &dtype) in row[1..].iter().zip(DType::ALL) {
            assert_eq!(sign(&columns, dtype), written, "{} -> {}", row[0], dtype.as_str());
        }
    }
}

/// Failure matrix: 31.
#[test]
fn types_that_the_documentation_leaves_out_feed_nothing() {
    use arrow::datatypes::{Field, Fields, IntervalUnit, TimeUnit};
    let types = [
        DataType::Time32(TimeUnit::Second),
        DataType::Time64(TimeUnit::Nanosecond),
        DataType::Duration(TimeUnit::Second),
        DataType::Interval(IntervalUnit::DayTime),
        DataType::Struct(Fields::from(vec![Field::new("a", DataType::Int32, true)])),
    ];
    for data_type in types {
        for &dtype in DType::ALL {
            assert!(!accepts(dtype, &data_type), "{data_type} -> {dtype:?}");
        }
    }
}
