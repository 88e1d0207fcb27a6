//! Columns of any type, shape and values → tensors → columns: converted as promised or refused, the same however the
//! rows are cut.

use arrow::array::*;
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::*;
use floe::config::OnOutOfRange;
use floe::decode::Decoder;
use floe::error::Result;
use floe::origin::Origin;
use floe::signature::{Dim, Function, InputFeature, OnNull, OutputFeature, OutputKind, Source, bind};
use floe::tensor::{DType, Tensor, Value};
use floe::write::columns::{column_type, to_array};
use std::sync::Arc;

use super::input::Input;

const MAX_ROWS: usize = 12;

pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let feature = feature(&mut input);
    let on_null = input.choose(&[OnNull::Fail, OnNull::Nan, OnNull::Fill(1.5)]);
    let on_out_of_range = input.choose(&[OnOutOfRange::Fail, OnOutOfRange::Saturate]);
    let count = 1 + input.below(3);
    let length = 1 + input.below(MAX_ROWS);
    let columns: Vec<ArrayRef> = (0..count).map(|_| array(&mut input, length, 0)).collect();
    let field = |(index, column): (usize, &ArrayRef)| {
        Field::new(format!("c{index}"), column.data_type().clone(), true)
    };
    let schema = Arc::new(Schema::new(
        columns.iter().enumerate().map(field).collect::<Vec<_>>(),
    ));
    // Rows cut from the middle have offsets of their own.
    let start = input.below(length);
    let rows = RecordBatch::try_new(schema, columns)
        .expect("columns of one length")
        .slice(start, length - start);
    let Ok(decoder) = decoder(feature.clone(), rows.schema_ref(), on_null, on_out_of_range) else {
        return;
    };
    let Ok(tensor) = decode(&decoder, &rows) else {
        return;
    };
    assert_eq!(tensor.dtype(), feature.dtype);
    assert_eq!(tensor.rows(), rows.num_rows());
    assert_eq!(tensor.data.len(), tensor.shape.iter().product::<usize>());
    for row in 0..rows.num_rows() {
        // Alone, a row may be what settles the length of lists; then they are as long as they were.
        let alone = decode(&decoder, &rows.slice(row, 1)).expect("a row of rows that fit");
        assert_eq!(text(&alone), text(&tensor.slice_rows(row, 1)));
    }
    // Behind an axis of length 0, lists can't show how long the inner axes are.
    if !tensor.data.is_empty() {
        there_and_back(tensor);
    }
}

/// A column made of a tensor feeds the same tensor again.
fn there_and_back(tensor: Tensor) {
    let shape = vec![Dim::Dynamic; tensor.shape.len() - 1];
    let output = OutputFeature {
        name: "y".into(),
        column: "c0".into(),
        dtype: tensor.dtype(),
        shape: shape.clone(),
        kind: OutputKind::Tensor,
    };
    let field = Field::new("c0", column_type(&output), false);
    let column =
        to_array(Value::Tensor(tensor.clone()), &field).expect("a tensor fits the column planned for it");
    assert_eq!(column.len(), tensor.rows());
    let schema = Arc::new(Schema::new(vec![field]));
    let rows = RecordBatch::try_new(schema, vec![column]).expect("the planned type");
    let feature = InputFeature {
        name: "x".into(),
        dtype: tensor.dtype(),
        shape,
        source: Source::Column("c0".into()),
        on_null: None,
        affine: (1.0, 0.0),
    };
    let decoder = decoder(feature, rows.schema_ref(), OnNull::Fail, OnOutOfRange::Fail)
        .expect("a column that Floe made");
    assert_eq!(
        text(&decode(&decoder, &rows).expect("values that Floe made")),
        text(&tensor)
    );
}

/// NaN equals NaN, and zero differs from minus zero.
fn text(tensor: &Tensor) -> String {
    format!("{tensor:?}")
}

fn decoder(
    feature: InputFeature,
    schema: &Schema,
    on_null: OnNull,
    on_out_of_range: OnOutOfRange,
) -> Result<Decoder> {
    let function = Function {
        name: "f".into(),
        inputs: vec![feature],
        outputs: vec![],
        fixed_batch_rows: None,
    };
    let binding = bind(&function, schema, &Default::default())?;
    Decoder::new(&binding, schema, on_null, on_out_of_range)
}

fn decode(decoder: &Decoder, rows: &RecordBatch) -> Result<Tensor> {
    let origin = Origin::of(&Arc::from("f"), 0, 0, rows.num_rows());
    let mut batch = decoder.decode(rows, &origin)?;
    assert_eq!(batch.rows, rows.num_rows());
    Ok(batch.inputs.remove(0))
}

fn feature(input: &mut Input) -> InputFeature {
    let dtype = input.choose(DType::ALL);
    let axes = input.below(4);
    let shape = (0..axes)
        .map(|_| {
            if input.flag() {
                Dim::Dynamic
            } else {
                Dim::Fixed(input.below(5))
            }
        })
        .collect();
    let all = ["c0", "c1", "c2"].map(String::from);
    let source = match input.below(4) {
        0 | 1 => Source::Column("c0".into()),
        2 => Source::Columns(all[..1 + input.below(3)].to_vec()),
        _ => Source::NumericColumns,
    };
    let on_null = match input.below(4) {
        0 => Some(OnNull::Fill(-1.0)),
        1 => Some(OnNull::Nan),
        _ => None,
    };
    let affine = if input.below(4) == 0 {
        (f64::from_bits(input.u64()), f64::from_bits(input.u64()))
    } else {
        (1.0, 0.0)
    };
    InputFeature {
        name: "x".into(),
        dtype,
        shape,
        source,
        on_null,
        affine,
    }
}

/// A column of `length` values.
fn array(input: &mut Input, length: usize, depth: usize) -> ArrayRef {
    let kind = input.below(if depth < 3 { 34 } else { 29 });
    let nulls = nulls(input, length);
    macro_rules! numbers {
        ($type:ty) => {{
            let values = (0..length).map(|_| number(input) as <$type as ArrowPrimitiveType>::Native);
            Arc::new(PrimitiveArray::<$type>::new(
                ScalarBuffer::from_iter(values),
                nulls,
            )) as ArrayRef
        }};
    }
    macro_rules! bits {
        ($type:ty, $from:expr) => {{
            let values: Vec<_> = (0..length).map(|_| $from(number(input))).collect();
            Arc::new(PrimitiveArray::<$type>::new(ScalarBuffer::from(values), nulls)) as ArrayRef
        }};
    }
    match kind {
        0 => numbers!(Int8Type),
        1 => numbers!(Int16Type),
        2 => numbers!(Int32Type),
        3 => numbers!(Int64Type),
        4 => numbers!(UInt8Type),
        5 => numbers!(UInt16Type),
        6 => numbers!(UInt32Type),
        7 => numbers!(UInt64Type),
        8 => bits!(Float32Type, |bits: u64| f32::from_bits(bits as u32)),
        9 => bits!(Float64Type, f64::from_bits),
        10 => {
            let halves: Vec<f32> = (0..length)
                .map(|_| f32::from_bits(number(input) as u32))
                .collect();
            let wide = Float32Array::new(ScalarBuffer::from(halves), nulls);
            arrow::compute::cast(&wide, &DataType::Float16).expect("float32 to float16")
        }
        11 => numbers!(Date32Type),
        12 => numbers!(Date64Type),
        13 => numbers!(TimestampSecondType),
        14 => numbers!(TimestampMillisecondType),
        15 => numbers!(TimestampMicrosecondType),
        16 => numbers!(TimestampNanosecondType),
        17 => numbers!(Time64NanosecondType),
        18 => Arc::new(BooleanArray::new(
            (0..length).map(|_| input.flag()).collect(),
            nulls,
        )),
        19 => Arc::new(StringArray::from_iter_values((0..length).map(|_| input.text()))),
        20 => Arc::new(LargeStringArray::from_iter(
            (0..length).map(|_| input.flag().then(|| input.text())),
        )),
        21 => Arc::new(StringViewArray::from_iter(
            (0..length).map(|_| input.flag().then(|| input.text())),
        )),
        22 => Arc::new(BinaryArray::from_iter_values((0..length).map(|_| input.text()))),
        23 => Arc::new(NullArray::new(length)),
        24 => decimal::<Decimal32Type>(input, length, nulls),
        25 => decimal::<Decimal64Type>(input, length, nulls),
        26 => decimal::<Decimal128Type>(input, length, nulls),
        27 => decimal::<Decimal256Type>(input, length, nulls),
        28 => numbers!(DurationMicrosecondType),
        29 => {
            let (item, lengths) = (1 + input.below(3), lengths(input, length));
            let total = lengths.iter().sum();
            let items = array(input, total, depth + item);
            Arc::new(ListArray::new(
                list_item(&items),
                OffsetBuffer::from_lengths(lengths),
                items,
                nulls,
            ))
        }
        30 => {
            let lengths = lengths(input, length);
            let items = array(input, lengths.iter().sum(), depth + 1);
            Arc::new(LargeListArray::new(
                list_item(&items),
                OffsetBuffer::from_lengths(lengths),
                items,
                nulls,
            ))
        }
        31 => {
            let size = input.below(4);
            let items = array(input, size * length, depth + 1);
            let list =
                FixedSizeListArray::try_new_with_length(list_item(&items), size as i32, items, nulls, length);
            Arc::new(list.expect("as many items as lists of this size have"))
        }
        32 => {
            let values = array(input, 1 + length / 2, depth + 1);
            let keys = (0..length).map(|_| input.below(values.len()) as i32);
            let keys = Int32Array::new(ScalarBuffer::from_iter(keys), nulls);
            Arc::new(DictionaryArray::new(keys, values))
        }
        _ => {
            let column = array(input, length, depth + 1);
            let field = Arc::new(Field::new("s", column.data_type().clone(), true));
            Arc::new(StructArray::new(Fields::from(vec![field]), vec![column], nulls))
        }
    }
}

fn decimal<T: DecimalType>(input: &mut Input, length: usize, nulls: Option<NullBuffer>) -> ArrayRef
where
    T::Native: From<i32>,
{
    let precision = 1 + input.below(T::MAX_PRECISION as usize) as u8;
    let scale = (input.below(2 * precision as usize + 1) as i8).wrapping_sub(precision as i8);
    let values = (0..length).map(|_| T::Native::from(number(input) as i32));
    let array = PrimitiveArray::<T>::new(ScalarBuffer::from_iter(values), nulls);
    let scale = scale.clamp(-T::MAX_SCALE, precision as i8);
    match array.with_precision_and_scale(precision, scale) {
        Ok(array) => Arc::new(array),
        Err(_) => Arc::new(NullArray::new(length)),
    }
}

fn list_item(items: &ArrayRef) -> FieldRef {
    Arc::new(Field::new("item", items.data_type().clone(), true))
}

/// Lists that are mostly equally long, as tensors need them.
fn lengths(input: &mut Input, count: usize) -> Vec<usize> {
    let (usual, odd) = (input.below(4), input.below(8) == 7);
    (0..count)
        .map(|_| if odd { input.below(4) } else { usual })
        .collect()
}

fn nulls(input: &mut Input, length: usize) -> Option<NullBuffer> {
    (input.below(3) == 2).then(|| (0..length).map(|_| input.below(4) != 0).collect())
}

/// Small ones mostly, else any 64 bits.
fn number(input: &mut Input) -> u64 {
    match input.byte() {
        255 => input.u64(),
        254 => [0f64, -0.0, 0.5, f64::NAN, f64::INFINITY, 1e300, -1.0, 65504.0][input.below(8)].to_bits(),
        253 => u64::from(
            input
                .choose(&[0f32, -0.0, 0.5, f32::NAN, f32::INFINITY, 1e30, -1.0, 65504.0])
                .to_bits(),
        ),
        small => small as i8 as i64 as u64,
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    // Every dtype from every sort of column, by the order in which decisions are taken.
    let mut seeds = Vec::new();
    for kind in 0..34u8 {
        for dtype in 0..DType::ALL.len() as u8 {
            let axes = u8::from((29..=31).contains(&kind));
            let mut seed = vec![dtype, axes];
            if axes == 1 {
                seed.extend([1]); // a dynamic extent
            }
            seed.extend([0, 3, 1, 0, 0, 0, 5, kind, 2]); // from c0, no policy, no scale, fail, one column of 6 rows
            seed.extend((1..120u8).map(|index| index.wrapping_mul(kind | 1)));
            seeds.push(seed);
        }
    }
    seeds
}
