//! What the decoder is compared with: columns of every type, and a conversion of one cell after the other.

use arrow::array::*;
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::*;
use half::f16;
use proptest::prelude::*;
use std::sync::Arc;

use crate::tensor::DType;

/// A cell by its meaning.
pub enum Cell {
    Null,
    Whole(i128),
    Float(f64),
    /// `unscaled / 10^scale`
    Decimal(i128, i8),
    Text(String),
    Binary(Vec<u8>),
}

pub fn cell(column: &dyn Array, row: usize) -> Cell {
    if column.logical_nulls().is_some_and(|nulls| nulls.is_null(row)) {
        return Cell::Null;
    }
    let one = column.slice(row, 1);
    macro_rules! native {
        ($type:ty) => {
            one.as_primitive::<$type>().value(0)
        };
    }
    match column.data_type() {
        DataType::Boolean => Cell::Whole(one.as_boolean().value(0).into()),
        DataType::Float16 => Cell::Float(native!(Float16Type).into()),
        DataType::Float32 => Cell::Float(native!(Float32Type).into()),
        DataType::Float64 => Cell::Float(native!(Float64Type)),
        DataType::Decimal32(_, scale) => Cell::Decimal(native!(Decimal32Type).into(), *scale),
        DataType::Decimal64(_, scale) => Cell::Decimal(native!(Decimal64Type).into(), *scale),
        DataType::Decimal128(_, scale) => Cell::Decimal(native!(Decimal128Type), *scale),
        DataType::Decimal256(_, scale) => Cell::Decimal(native!(Decimal256Type).to_i128().unwrap(), *scale),
        DataType::UInt64 => Cell::Whole(native!(UInt64Type).into()),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            let text = cast(&one, &DataType::Utf8).unwrap();
            Cell::Text(text.as_string::<i32>().value(0).to_string())
        }
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            let bytes = cast(&one, &DataType::Binary).unwrap();
            Cell::Binary(bytes.as_binary::<i32>().value(0).to_vec())
        }
        DataType::Timestamp(unit, _) => {
            let per_unit = match unit {
                TimeUnit::Second => 1_000_000_000,
                TimeUnit::Millisecond => 1_000_000,
                TimeUnit::Microsecond => 1_000,
                TimeUnit::Nanosecond => 1,
            };
            let count = cast(&one, &DataType::Int64).unwrap();
            Cell::Whole(i128::from(count.as_primitive::<Int64Type>().value(0)) * per_unit)
        }
        DataType::Dictionary(_, value) => cell(&cast(&one, value).unwrap(), 0),
        _ => Cell::Whole(
            cast(&one, &DataType::Int64)
                .unwrap()
                .as_primitive::<Int64Type>()
                .value(0)
                .into(),
        ),
    }
}

#[derive(Debug, PartialEq)]
pub enum Naive {
    Fits(String),
    /// The nearest value that fits.
    Range(String),
    /// Never, whatever the policy.
    Unfit,
    Null,
}

pub fn naive(cell: &Cell, dtype: DType) -> Naive {
    macro_rules! int {
        ($type:ty) => {{
            let (whole, fraction) = match cell {
                Cell::Whole(whole) => (*whole, false),
                Cell::Float(float) if float.is_nan() => return Naive::Unfit,
                Cell::Float(float) => (float.trunc() as i128, float.is_finite() && float.fract() != 0.0),
                Cell::Decimal(unscaled, scale) if *scale < 0 => {
                    (unscaled * 10i128.pow(scale.unsigned_abs().into()), false)
                }
                Cell::Decimal(unscaled, scale) => {
                    let power = 10i128.pow(scale.unsigned_abs().into());
                    (unscaled / power, unscaled % power != 0)
                }
                Cell::Null | Cell::Text(_) | Cell::Binary(_) => return Naive::Null,
            };
            let (least, most) = (i128::from(<$type>::MIN), i128::from(<$type>::MAX));
            if whole < least {
                Naive::Range(format!("{:?}", <$type>::MIN))
            } else if whole > most {
                Naive::Range(format!("{:?}", <$type>::MAX))
            } else if fraction {
                Naive::Unfit
            } else {
                Naive::Fits(whole.to_string())
            }
        }};
    }
    macro_rules! float {
        ($type:ty) => {{
            let (nearest, finite): ($type, bool) = match cell {
                Cell::Whole(whole) => (whole.to_string().parse().unwrap(), true),
                Cell::Float(float) => (*float as $type, float.is_finite()),
                Cell::Decimal(unscaled, scale) => (
                    format!("{unscaled}e{}", -i32::from(*scale)).parse().unwrap(),
                    true,
                ),
                Cell::Null | Cell::Text(_) | Cell::Binary(_) => return Naive::Null,
            };
            if finite && nearest.is_infinite() {
                Naive::Range(format!("{:?}", <$type>::MAX.copysign(nearest)))
            } else {
                Naive::Fits(format!("{nearest:?}"))
            }
        }};
    }
    match dtype {
        DType::I8 => int!(i8),
        DType::I16 => int!(i16),
        DType::I32 => int!(i32),
        DType::I64 => int!(i64),
        DType::U8 => int!(u8),
        DType::U16 => int!(u16),
        DType::U32 => int!(u32),
        DType::U64 => int!(u64),
        DType::F32 => float!(f32),
        DType::F64 => float!(f64),
        DType::F16 => match naive(cell, DType::F64) {
            Naive::Fits(text) => nearest_f16(text.parse().unwrap()),
            other => other,
        },
        DType::Bool => match cell {
            Cell::Whole(bit) => Naive::Fits((*bit == 1).to_string()),
            _ => Naive::Null,
        },
        DType::String => match cell {
            Cell::Text(text) => Naive::Fits(format!("{text:?}")),
            _ => Naive::Null,
        },
        DType::Bytes => match cell {
            Cell::Binary(bytes) => Naive::Fits(format!("{:?}", bytes::Bytes::copy_from_slice(bytes))),
            _ => Naive::Null,
        },
    }
}

/// By searching all of them.
fn nearest_f16(value: f64) -> Naive {
    let text = |nearest: f16| {
        format!(
            "{:?}",
            if value.is_sign_negative() {
                -nearest
            } else {
                nearest
            }
        )
    };
    if !value.is_finite() {
        return Naive::Fits(text(if value.is_nan() { f16::NAN } else { f16::INFINITY }));
    }
    let magnitude = value.abs();
    let gap = |bits: u16| (f64::from(f16::from_bits(bits)) - magnitude).abs();
    let (mut low, mut high) = (0, f16::MAX.to_bits());
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if f64::from(f16::from_bits(middle)) <= magnitude {
            low = middle
        } else {
            high = middle - 1
        }
    }
    if low == f16::MAX.to_bits() && magnitude >= 65520.0 {
        return Naive::Range(text(f16::MAX));
    }
    let above = low + 1;
    let up = low < f16::MAX.to_bits() && (gap(above), above & 1) < (gap(low), low & 1);
    Naive::Fits(text(f16::from_bits(if up { above } else { low })))
}

pub const TYPES: usize = 36;

/// A column of the `which`th type whose values are made from `seeds`; `None` is null.
pub fn column(which: usize, seeds: &[Option<i64>]) -> ArrayRef {
    macro_rules! primitive {
        ($type:ty, $value:expr) => {{
            let value: fn(i64) -> <$type as ArrowPrimitiveType>::Native = $value;
            // What lies under a null must not matter: a value that never fits.
            let values: Vec<_> = seeds
                .iter()
                .map(|seed| value(seed.unwrap_or(i64::MIN + 1)))
                .collect();
            let nulls = NullBuffer::from_iter(seeds.iter().map(Option::is_some));
            PrimitiveArray::<$type>::new(values.into(), Some(nulls))
        }};
    }
    let text = || {
        seeds.iter().map(|seed| {
            seed.map(|seed| {
                if seed == 0 {
                    String::new()
                } else {
                    format!("é{seed}")
                }
            })
        })
    };
    match which {
        0 => Arc::new(primitive!(Int8Type, |seed| seed as i8)),
        1 => Arc::new(primitive!(Int16Type, |seed| seed as i16)),
        2 => Arc::new(primitive!(Int32Type, |seed| seed as i32)),
        3 => Arc::new(primitive!(Int64Type, |seed| seed)),
        4 => Arc::new(primitive!(UInt8Type, |seed| seed as u8)),
        5 => Arc::new(primitive!(UInt16Type, |seed| seed as u16)),
        6 => Arc::new(primitive!(UInt32Type, |seed| seed as u32)),
        7 => Arc::new(primitive!(UInt64Type, |seed| seed as u64)),
        8 => Arc::new(primitive!(Float16Type, |seed| f16::from_bits(seed as u16))),
        9 => Arc::new(primitive!(Float16Type, |seed| f16::from_f32(seed as f32))),
        10 => Arc::new(primitive!(Float32Type, |seed| f32::from_bits(seed as u32))),
        11 => Arc::new(primitive!(Float32Type, |seed| seed as f32)),
        12 => Arc::new(primitive!(Float64Type, |seed| f64::from_bits(seed as u64))),
        13 => Arc::new(primitive!(Float64Type, |seed| seed as f64)),
        14 => Arc::new(primitive!(Float64Type, |seed| (seed % 1_000_000) as f64 / 8.0)),
        15 => Arc::new(primitive!(Date32Type, |seed| seed as i32)),
        16 => Arc::new(primitive!(Date64Type, |seed| seed)),
        17 => Arc::new(primitive!(TimestampSecondType, |seed| seed >> 20)),
        18 => {
            Arc::new(primitive!(TimestampMillisecondType, |seed| seed >> 10).with_timezone("Europe/Berlin"))
        }
        19 => Arc::new(primitive!(TimestampMicrosecondType, |seed| seed).with_timezone("+02:00")),
        20 => Arc::new(primitive!(TimestampNanosecondType, |seed| seed)),
        21 => Arc::new(
            primitive!(Decimal32Type, |seed| (seed % 1_000_000_000) as i32)
                .with_precision_and_scale(9, 3)
                .unwrap(),
        ),
        22 => Arc::new(
            primitive!(Decimal64Type, |seed| seed % 1_000_000_000_000_000_000)
                .with_precision_and_scale(18, 2)
                .unwrap(),
        ),
        23 => Arc::new(
            primitive!(Decimal128Type, |seed| i128::from(seed) * 1_000_003)
                .with_precision_and_scale(38, 7)
                .unwrap(),
        ),
        24 => Arc::new(
            primitive!(Decimal128Type, |seed| i128::from(seed))
                .with_precision_and_scale(38, 0)
                .unwrap(),
        ),
        25 => Arc::new(
            primitive!(Decimal128Type, |seed| i128::from(seed))
                .with_precision_and_scale(38, -3)
                .unwrap(),
        ),
        26 => Arc::new(
            primitive!(Decimal256Type, |seed| i256::from_i128(i128::from(seed) << 50))
                .with_precision_and_scale(76, 9)
                .unwrap(),
        ),
        27 => Arc::new(BooleanArray::from_iter(
            seeds.iter().map(|seed| seed.map(|seed| seed & 1 == 1)),
        )),
        28 => Arc::new(StringArray::from_iter(text())),
        29 => Arc::new(LargeStringArray::from_iter(text())),
        30 => Arc::new(StringViewArray::from_iter(text())),
        31 => Arc::new(BinaryArray::from_iter(text())),
        32 => Arc::new(LargeBinaryArray::from_iter(text())),
        33 => Arc::new(BinaryViewArray::from_iter(text())),
        34 => {
            let values = seeds.iter().map(|seed| seed.map(i64::to_le_bytes));
            Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(values, 8).unwrap())
        }
        35 => Arc::new(NullArray::new(seeds.len())),
        dictionary => {
            let values = column(dictionary - TYPES, seeds);
            if matches!(values.data_type(), DataType::Null) {
                return values;
            }
            // Every value twice, in another order; a null key; a null value.
            let keys =
                (0..seeds.len()).map(|row| (row % 7 != 6).then_some((row * 5 % seeds.len().max(1)) as i32));
            Arc::new(DictionaryArray::new(Int32Array::from_iter(keys), values))
        }
    }
}

/// Seeds that meet the ends of types more often than chance would.
pub fn seed() -> impl Strategy<Value = Option<i64>> {
    let ends = [7u32, 8, 15, 16, 31, 32, 53, 62].map(|bit| 1i64 << bit);
    prop_oneof![
        1 => Just(None),
        2 => any::<i64>().prop_map(Some),
        3 => (-300i64..300).prop_map(Some),
        2 => (0..ends.len(), -2i64..=2, any::<bool>()).prop_map(move |(end, more, negative)| {
            let value = ends[end] + more;
            Some(if negative { -value } else { value })
        }),
        1 => prop_oneof![Just(i64::MIN), Just(i64::MAX)].prop_map(Some),
        1 => any::<f64>().prop_map(|float| Some(float.to_bits() as i64)),
        1 => any::<f32>().prop_map(|float| Some(i64::from(float.to_bits()))),
    ]
}
