//! The decoder as a whole: every pair of column type and dtype against a naive conversion of single cells.

use arrow::array::*;
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::cast;
use arrow::datatypes::*;
use half::f16;
use proptest::prelude::*;
use std::sync::Arc;

use super::Decoder;
use crate::config::OnOutOfRange::{self, Fail, Saturate};
use crate::error::{Error, ErrorKind, Result};
use crate::origin::Origin;
use crate::signature::{Binding, BoundInput, Dim, InputFeature, OnNull, Source, accepts};
use crate::tensor::{DType, Tensor, TensorData};

fn feature(dtype: DType, shape: &[Dim]) -> InputFeature {
    InputFeature {
        name: "x".into(),
        dtype,
        shape: shape.to_vec(),
        source: Source::Column("c".into()),
        on_null: None,
        affine: (1.0, 0.0),
    }
}

fn batch(columns: &[ArrayRef]) -> RecordBatch {
    let names = (0..columns.len()).map(|index| format!("c{index}"));
    RecordBatch::try_from_iter_with_nullable(
        names
            .zip(columns.iter().cloned())
            .map(|(name, column)| (name, column, true)),
    )
    .unwrap()
}

fn origin(rows: usize) -> Origin {
    Origin::of(&"a.parquet".into(), 3, 100, rows)
}

fn decoder(
    feature: InputFeature,
    batch: &RecordBatch,
    on_null: OnNull,
    range: OnOutOfRange,
) -> Result<Decoder> {
    let columns = (0..batch.num_columns()).collect();
    let inputs = vec![BoundInput {
        feature,
        columns,
        param: serde_json::Value::Null,
    }];
    Decoder::new(
        &Binding {
            inputs,
            notes: vec![],
        },
        &batch.schema(),
        on_null,
        range,
    )
}

fn decode(
    feature: InputFeature,
    columns: &[ArrayRef],
    on_null: OnNull,
    range: OnOutOfRange,
) -> Result<Tensor> {
    let batch = batch(columns);
    let tensors = decoder(feature, &batch, on_null, range)?.decode(&batch, &origin(batch.num_rows()))?;
    assert_eq!(tensors.rows, batch.num_rows());
    Ok(tensors.inputs.into_iter().next().unwrap())
}

/// Elements as text, so that NaN equals NaN and -0 differs from 0.
fn texts(data: &TensorData) -> Vec<String> {
    macro_rules! texts {
        ($($variant:ident)*) => {
            match data { $(TensorData::$variant(values) => values.iter().map(|value| format!("{value:?}")).collect()),* }
        };
    }
    texts!(Bool I8 I16 I32 I64 U8 U16 U32 U64 F16 F32 F64 String)
}

// --- The naive conversion ------------------------------------------------------------------------------------

/// A cell by its meaning.
enum Cell {
    Null,
    Whole(i128),
    Float(f64),
    /// `unscaled / 10^scale`
    Decimal(i128, i8),
    Text(String),
}

fn cell(column: &dyn Array, row: usize) -> Cell {
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
enum Naive {
    Fits(String),
    /// The nearest value that fits.
    Range(String),
    /// Never, whatever the policy.
    Unfit,
    Null,
}

fn naive(cell: &Cell, dtype: DType) -> Naive {
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
                Cell::Null | Cell::Text(_) => return Naive::Null,
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
                Cell::Null | Cell::Text(_) => return Naive::Null,
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

// --- Columns of every type -----------------------------------------------------------------------------------

const TYPES: usize = 32;

/// A column of the `which`th type whose values are made from `seeds`; `None` is null.
fn column(which: usize, seeds: &[Option<i64>]) -> ArrayRef {
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
        31 => Arc::new(NullArray::new(seeds.len())),
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
fn seed() -> impl Strategy<Value = Option<i64>> {
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

fn row_of(error: &Error) -> usize {
    let row = error
        .context()
        .iter()
        .find(|(key, _)| *key == "row")
        .expect("a row is named");
    row.1.parse::<usize>().unwrap() - 100
}

/// What a column must become under a policy, or the first row that must fail.
fn expected(
    column: &dyn Array,
    dtype: DType,
    fill: Option<&str>,
    range: OnOutOfRange,
) -> Result<Vec<String>, usize> {
    let cells: Vec<_> = (0..column.len())
        .map(|row| naive(&cell(column, row), dtype))
        .collect();
    // Nulls are looked for before values are converted.
    if fill.is_none()
        && let Some(row) = cells.iter().position(|cell| *cell == Naive::Null)
    {
        return Err(row);
    }
    let mut texts = Vec::new();
    for (row, cell) in cells.into_iter().enumerate() {
        texts.push(match cell {
            Naive::Fits(text) => text,
            Naive::Range(nearest) if range == Saturate => nearest,
            Naive::Range(_) | Naive::Unfit => return Err(row),
            Naive::Null => fill.unwrap_or_default().to_string(),
        });
    }
    Ok(texts)
}

fn zero(dtype: DType) -> String {
    texts(&TensorData::zeros(dtype, 1)).remove(0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Each case goes through all pairs of types, plain and dictionary, sliced at both ends.
    #[test]
    fn every_pair_of_types_agrees_with_the_naive_conversion(
        seeds in prop::collection::vec(seed(), 0..24), skip in 0usize..10, drop in 0usize..10,
    ) {
        for which in 0..2 * TYPES {
            let whole = column(which, &seeds);
            let skip = skip.min(whole.len());
            let sliced = whole.slice(skip, (whole.len() - skip).saturating_sub(drop));
            for &dtype in DType::ALL {
                if !accepts(dtype, sliced.data_type()) {
                    let error = decode(feature(dtype, &[]), &[sliced.clone()], OnNull::Fail, Fail).unwrap_err();
                    prop_assert_eq!(error.kind(), ErrorKind::Data);
                    continue;
                }
                for (on_null, fill) in [(OnNull::Fail, None), (OnNull::Fill(0.0), Some(zero(dtype)))] {
                    for range in [Fail, Saturate] {
                        let found = decode(feature(dtype, &[]), &[sliced.clone()], on_null, range);
                        match expected(&sliced, dtype, fill.as_deref(), range) {
                            Ok(expected) => {
                                let found = found.unwrap();
                                prop_assert_eq!(&found.shape, &[sliced.len()]);
                                prop_assert_eq!(texts(&found.data), expected, "{} -> {:?}", sliced.data_type(), dtype);
                            }
                            Err(row) => {
                                let error = found.expect_err("a value that can't be had");
                                prop_assert_eq!(error.kind(), ErrorKind::Data);
                                prop_assert_eq!(row_of(&error), row, "{}", error);
                            }
                        }
                    }
                }
            }
        }
    }

    /// Columns of several types side by side, and each row alone as in the batch.
    #[test]
    fn a_matrix_holds_each_column_in_its_place_and_each_row_as_if_alone(
        columns in prop::collection::vec((0..TYPES, prop::collection::vec(seed(), 70)), 1..6), rows in 0usize..70,
    ) {
        let columns: Vec<_> = columns.iter().map(|(which, seeds)| column(*which, seeds).slice(70 - rows, rows)).collect();
        for dtype in [DType::F32, DType::I64, DType::String] {
            let fitting: Vec<_> = columns.iter().filter(|column| accepts(dtype, column.data_type())).cloned().collect();
            if fitting.is_empty() {
                continue;
            }
            let fill = zero(dtype);
            let all: Result<Vec<_>, _> = fitting.iter().map(|column| expected(column, dtype, Some(&fill), Saturate)).collect();
            let mut matrix = feature(dtype, &[Dim::Fixed(fitting.len())]);
            matrix.source = Source::Columns(vec![]);
            let batch = batch(&fitting);
            let decoder = decoder(matrix, &batch, OnNull::Fill(0.0), Saturate).unwrap();
            let found = decoder.decode(&batch, &origin(rows));
            prop_assert_eq!(found.is_ok(), all.is_ok());
            let (Ok(found), Ok(all)) = (found, all) else { continue };
            let found = &found.inputs[0];
            prop_assert_eq!(&found.shape, &[rows, fitting.len()]);
            let row_major: Vec<_> = (0..rows).flat_map(|row| all.iter().map(move |column| column[row].clone())).collect();
            prop_assert_eq!(texts(&found.data), row_major);
            for row in 0..rows {
                let alone = decoder.decode(&batch.slice(row, 1), &origin(1)).unwrap();
                prop_assert_eq!(texts(&alone.inputs[0].data), texts(&found.slice_rows(row, 1).data));
            }
        }
    }
}

// --- Single behaviours ---------------------------------------------------------------------------------------

#[test]
fn a_null_is_named_with_column_file_row_group_and_row() {
    let numbers: ArrayRef = Arc::new(Float64Array::from(vec![Some(1.0), None]));
    let error = decode(feature(DType::F32, &[]), &[numbers], OnNull::Fail, Fail).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a null value in a column that feeds the model's input x (column c0, file a.parquet, row group 3, row 101); \
         set input.on_null to nan or to a fill value, or on_null for this input in the model card"
    );
}

#[test]
fn a_value_out_of_range_is_named_with_what_it_is_and_what_helps() {
    let cases: [(ArrayRef, DType, &str); 4] = [
        (
            Arc::new(Int64Array::from(vec![3_000_000_000])),
            DType::I32,
            "3000000000 is out of the range of int32",
        ),
        (
            Arc::new(Float64Array::from(vec![1.5])),
            DType::I32,
            "1.5 is no whole number",
        ),
        (
            Arc::new(Float64Array::from(vec![f64::NAN])),
            DType::I32,
            "NaN has no equal in int32",
        ),
        (
            Arc::new(
                Decimal128Array::from(vec![12345])
                    .with_precision_and_scale(10, 2)
                    .unwrap(),
            ),
            DType::I64,
            "123.45 is no whole number",
        ),
    ];
    for (column, dtype, message) in cases {
        let error = decode(feature(dtype, &[]), &[column], OnNull::Fail, Fail).unwrap_err();
        assert!(error.to_string().starts_with(message), "{error}");
        assert!(
            error
                .to_string()
                .contains("(column c0, file a.parquet, row group 3, row 100)"),
            "{error}"
        );
        assert!(error.hint().is_some());
    }
}

#[test]
fn saturation_is_for_ranges_only() {
    let fraction: ArrayRef = Arc::new(Float64Array::from(vec![0.5]));
    assert!(decode(feature(DType::I8, &[]), &[fraction], OnNull::Fail, Saturate).is_err());
    let nan: ArrayRef = Arc::new(Float32Array::from(vec![f32::NAN]));
    assert!(decode(feature(DType::U8, &[]), &[nan], OnNull::Fail, Saturate).is_err());
}

#[test]
fn nulls_become_nan_or_a_fill_value() {
    let column: ArrayRef = Arc::new(Int32Array::from(vec![None, Some(2)]));
    let nan = decode(feature(DType::F16, &[]), &[column.clone()], OnNull::Nan, Fail).unwrap();
    assert_eq!(texts(&nan.data), ["NaN", "2.0"]);
    let filled = decode(
        feature(DType::I64, &[]),
        &[column.clone()],
        OnNull::Fill(-7.0),
        Fail,
    )
    .unwrap();
    assert_eq!(filled.data, vec![-7i64, 2].into());
    // A job that fills with NaN means floats; elsewhere a null still fails.
    assert!(decode(feature(DType::I64, &[]), &[column], OnNull::Nan, Fail).is_err());
    let text: ArrayRef = Arc::new(StringArray::from(vec![None, Some("a")]));
    let filled = decode(feature(DType::String, &[]), &[text], OnNull::Fill(0.0), Fail).unwrap();
    assert_eq!(texts(&filled.data), [r#""""#, r#""a""#]);
}

#[test]
fn a_wide_and_long_matrix_is_written_across_blocks() {
    const ROWS: usize = 5000;
    let columns: Vec<ArrayRef> = (0..40)
        .map(|at| {
            Arc::new(Int32Array::from_iter_values(
                (0..ROWS).map(|row| (row * 40 + at) as i32),
            )) as ArrayRef
        })
        .collect();
    let found = decode(
        feature(DType::F64, &[Dim::Fixed(40)]),
        &columns,
        OnNull::Fail,
        Fail,
    )
    .unwrap();
    assert_eq!(
        found.data,
        (0..ROWS * 40)
            .map(|index| index as f64)
            .collect::<Vec<_>>()
            .into()
    );
    // A misfit in the last block names its own row.
    let mut columns = columns;
    let mut values = vec![0i64; ROWS];
    values[4321] = i64::MAX;
    columns[39] = Arc::new(Int64Array::from(values));
    let error = decode(
        feature(DType::I32, &[Dim::Fixed(40)]),
        &columns,
        OnNull::Fail,
        Fail,
    )
    .unwrap_err();
    assert_eq!(row_of(&error), 4321);
    assert!(error.to_string().contains("column c39"), "{error}");
}

#[test]
fn a_scale_of_the_model_card_applies_to_values_and_fill() {
    let mut scaled = feature(DType::F32, &[]);
    scaled.affine = (0.5, 1.0);
    scaled.on_null = Some(OnNull::Fill(4.0));
    for column in [
        Arc::new(UInt8Array::from(vec![Some(0), Some(255), None])) as ArrayRef,
        Arc::new(
            Decimal128Array::from(vec![Some(0), Some(25500), None])
                .with_precision_and_scale(9, 2)
                .unwrap(),
        ),
    ] {
        let found = decode(scaled.clone(), &[column], OnNull::Fail, Fail).unwrap();
        assert_eq!(found.data, vec![1f32, 128.5, 3.0].into());
    }
    scaled.dtype = DType::I32;
    let column: ArrayRef = Arc::new(Int32Array::from(vec![1]));
    assert_eq!(
        decode(scaled, &[column], OnNull::Fail, Fail).unwrap_err().kind(),
        ErrorKind::Config
    );
}

#[test]
fn scalars_suit_shapes_of_as_many_elements() {
    let columns = |count: usize| vec![Arc::new(Int32Array::from(vec![1, 2])) as ArrayRef; count];
    let shape_of = |count: usize, shape: &[Dim]| {
        decode(feature(DType::F32, shape), &columns(count), OnNull::Fail, Fail).map(|tensor| tensor.shape)
    };
    use Dim::{Dynamic, Fixed};
    assert_eq!(shape_of(1, &[]).unwrap(), [2]);
    assert_eq!(shape_of(1, &[Fixed(1)]).unwrap(), [2, 1]);
    assert_eq!(shape_of(1, &[Dynamic, Dynamic]).unwrap(), [2, 1, 1]);
    assert_eq!(shape_of(3, &[Dynamic]).unwrap(), [2, 3]);
    assert_eq!(shape_of(6, &[Dynamic, Fixed(3)]).unwrap(), [2, 2, 3]);
    assert_eq!(shape_of(6, &[Fixed(2), Fixed(3)]).unwrap(), [2, 2, 3]);
    for (count, shape) in [
        (2, &[][..]),
        (3, &[Fixed(4)]),
        (4, &[Dynamic, Fixed(3)]),
        (6, &[Dynamic, Dynamic]),
    ] {
        let error = shape_of(count, shape).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Model, "{error}");
        assert!(
            error
                .hint()
                .unwrap()
                .contains("the model's input x is of shape [rows"),
            "{error}"
        );
    }
}

fn list_of(items: ArrayRef, lengths: &[usize]) -> ArrayRef {
    let field = Arc::new(Field::new_list_field(items.data_type().clone(), true));
    Arc::new(ListArray::new(
        field,
        OffsetBuffer::from_lengths(lengths.iter().copied()),
        items,
        None,
    ))
}

#[test]
fn nested_lists_become_axes_whatever_their_items_are() {
    let plain: ArrayRef = Arc::new(Int16Array::from_iter_values(0..18));
    let dictionary = cast(
        &plain,
        &DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Int16)),
    )
    .unwrap();
    for items in [plain, dictionary] {
        let nested = list_of(list_of(items.clone(), &[3; 6]), &[2; 3]);
        for shape in [[Dim::Fixed(2), Dim::Fixed(3)], [Dim::Dynamic; 2]] {
            let found = decode(
                feature(DType::F32, &shape),
                &[nested.slice(1, 2)],
                OnNull::Fail,
                Fail,
            )
            .unwrap();
            assert_eq!(
                found,
                Tensor::new(vec![2, 2, 3], (6..18).map(|item| item as f32).collect::<Vec<_>>()).unwrap()
            );
        }
        let flat = list_of(items, &[6; 3]);
        let found = decode(
            feature(DType::I64, &[Dim::Fixed(2), Dim::Fixed(3)]),
            &[flat],
            OnNull::Fail,
            Fail,
        )
        .unwrap();
        assert_eq!(
            found,
            Tensor::new(vec![3, 2, 3], (0..18).collect::<Vec<i64>>()).unwrap()
        );
    }
}

#[test]
fn lists_of_strings_become_an_axis() {
    let items: ArrayRef = Arc::new(StringArray::from(vec!["a", "b", "c", "d"]));
    let found = decode(
        feature(DType::String, &[Dim::Dynamic]),
        &[list_of(items, &[2, 2])],
        OnNull::Fail,
        Fail,
    )
    .unwrap();
    assert_eq!(
        (found.shape.as_slice(), texts(&found.data).concat()),
        (&[2, 2][..], r#""a""b""c""d""#.to_string())
    );
}

#[test]
fn faults_in_lists_name_the_row_of_the_table() {
    let pairs = |items: Vec<Option<i64>>| {
        let lengths = vec![2; items.len() / 2];
        list_of(Arc::new(Int64Array::from(items)), &lengths)
    };
    let two = [Dim::Fixed(2)];
    let null_item = pairs(vec![Some(1), Some(2), Some(3), Some(4), Some(5), None]);
    let error = decode(
        feature(DType::I32, &two),
        &[null_item.clone()],
        OnNull::Fail,
        Fail,
    )
    .unwrap_err();
    assert_eq!(row_of(&error), 2, "{error}");
    let filled = decode(feature(DType::I32, &two), &[null_item], OnNull::Fill(9.0), Fail).unwrap();
    assert_eq!(filled.data, vec![1i32, 2, 3, 4, 5, 9].into());
    let large = pairs(vec![Some(1), Some(2), Some(i64::MAX), Some(4)]);
    assert_eq!(
        row_of(&decode(feature(DType::I32, &two), &[large], OnNull::Fail, Fail).unwrap_err()),
        1
    );
    let ragged = list_of(Arc::new(Int64Array::from(vec![1, 2, 3])), &[1, 2]);
    let error = decode(
        feature(DType::I32, &[Dim::Dynamic]),
        &[ragged],
        OnNull::Fail,
        Fail,
    )
    .unwrap_err();
    assert_eq!(row_of(&error), 1);
    assert!(
        error.to_string().contains("length 2 after one of length 1"),
        "{error}"
    );
    // The second list of the second row, one level down.
    let nested = list_of(
        list_of(Arc::new(Int64Array::from(vec![0; 7])), &[2, 2, 2, 1]),
        &[2, 2],
    );
    let error = decode(
        feature(DType::I32, &[Dim::Fixed(2); 2]),
        &[nested],
        OnNull::Fail,
        Fail,
    )
    .unwrap_err();
    assert_eq!(row_of(&error), 1);
}

#[test]
fn lists_that_cannot_suit_the_shape_are_refused_before_any_data() {
    let fixed: ArrayRef = Arc::new(FixedSizeListArray::from_iter_primitive::<Int32Type, _, _>(
        std::iter::empty::<Option<Vec<Option<i32>>>>(),
        4,
    ));
    let cases: [(&[Dim], &str); 4] = [
        (&[], "has 1 levels of lists, and a row of the input has 0 axes"),
        (&[Dim::Fixed(3)], "lists are of length 4 where the model takes 3"),
        (
            &[Dim::Fixed(3), Dim::Fixed(2)],
            "lists are of length 4 where the model takes 6",
        ),
        (
            &[Dim::Dynamic, Dim::Fixed(2)],
            "has 1 levels of lists, and a row of the input has 2 axes",
        ),
    ];
    for (shape, message) in cases {
        let error = decode(feature(DType::I32, shape), &[fixed.clone()], OnNull::Fail, Fail).unwrap_err();
        assert!(error.message().contains(message), "{error}");
    }
    let scalar: ArrayRef = Arc::new(Int32Array::from(Vec::<i32>::new()));
    assert!(
        decode(
            feature(DType::I32, &[Dim::Dynamic]),
            &[scalar, fixed],
            OnNull::Fail,
            Fail
        )
        .is_err()
    );
}
