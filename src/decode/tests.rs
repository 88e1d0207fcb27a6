//! The decoder as a whole: every pair of column type and dtype against a naive conversion of single cells.

use arrow::array::*;
use arrow::buffer::OffsetBuffer;
use arrow::compute::cast;
use arrow::datatypes::*;
use proptest::prelude::*;
use std::sync::Arc;

mod naive;
mod table;

use self::naive::{Naive, TYPES, cell, column, naive, seed};
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
    texts!(Bool I8 I16 I32 I64 U8 U16 U32 U64 F16 F32 F64 String Bytes)
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
    /// Failure matrix: 35.
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
                    let error = decode(feature(dtype, &[]), std::slice::from_ref(&sliced), OnNull::Fail, Fail).unwrap_err();
                    prop_assert_eq!(error.kind(), ErrorKind::Data);
                    continue;
                }
                for (on_null, fill) in [(OnNull::Fail, None), (OnNull::Fill(0.0), Some(zero(dtype)))] {
                    for range in [Fail, Saturate] {
                        let found = decode(feature(dtype, &[]), std::slice::from_ref(&sliced), on_null, range);
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

/// Failure matrix: 32, 58.
#[test]
fn a_null_is_named_with_column_file_row_group_and_row() {
    let numbers: ArrayRef = Arc::new(Float64Array::from(vec![Some(1.0), None]));
    let error = decode(feature(DType::F32, &[]), &[numbers], OnNull::Fail, Fail).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a null value in a column that feeds the model's input x (column c0, file a.parquet, row group 3, row 101); \
         set input.on_null: nan, or fill with a fill_value, or on_null for this input in the model card"
    );
}

/// Failure matrix: 35.
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

/// Failure matrix: 32.
#[test]
fn nulls_become_nan_or_a_fill_value() {
    let column: ArrayRef = Arc::new(Int32Array::from(vec![None, Some(2)]));
    let nan = decode(
        feature(DType::F16, &[]),
        std::slice::from_ref(&column),
        OnNull::Nan,
        Fail,
    )
    .unwrap();
    assert_eq!(texts(&nan.data), ["NaN", "2.0"]);
    let filled = decode(
        feature(DType::I64, &[]),
        std::slice::from_ref(&column),
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
        std::slice::from_ref(&null_item),
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
        let error = decode(
            feature(DType::I32, shape),
            std::slice::from_ref(&fixed),
            OnNull::Fail,
            Fail,
        )
        .unwrap_err();
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
