//! The columns a model adds: their names and types, decided before work starts, and their values.
//!
//! [`plan`] is called once, with the outputs as seen in a trial run; its answer is pinned, so that every replica
//! writes the same schema. [`to_array`] then turns each value of the model into an array of exactly that type,
//! mostly without a copy, or says what the model gave instead. `docs/types.md` holds the table.

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, ListArray, MapArray, PrimitiveArray, StringArray, StructArray,
};
use arrow::buffer::{BooleanBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::*;
use half::f16;
use std::collections::BTreeSet;
use std::sync::Arc;

use crate::config::OutputOptions;
use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::signature::{Dim, OutputFeature, OutputKind};
use crate::tensor::{DType, Items, Lists, Maps, Tensor, TensorData, Value};

/// A column of the output that a model adds.
#[derive(Clone, Debug, PartialEq)]
pub struct OutputColumn {
    /// Position of the model's output, or [`ROW_ERRORS`].
    pub output: usize,
    /// Name and type of the column; nullable only where rows may fail alone.
    pub field: FieldRef,
}

/// The columns for a model's `outputs`, in the model's order, named as the job wants them.
///
/// # Errors
/// `Config`, when the job names an output that isn't there, or when two columns have names that are equal or
/// differ in case only: many readers, Snowflake among them, don't tell those apart.
pub fn plan(outputs: &[OutputFeature], options: &OutputOptions, input: &Schema) -> Result<Vec<OutputColumn>> {
    let kept: Vec<usize> = match &options.columns {
        None => (0..outputs.len()).collect(),
        Some(names) => {
            let positions = names.iter().map(|name| find(outputs, name, "output.columns"));
            positions.collect::<Result<BTreeSet<_>>>()?.into_iter().collect()
        }
    };
    let mut new_names = vec![None; outputs.len()];
    for (old, new) in &options.rename {
        let position = find(outputs, old, "output.rename")?;
        if !kept.contains(&position) {
            return Err(Error::config(format!(
                "output.rename.{old}: output.columns leaves this column out"
            )));
        }
        if let Some(other) = new_names[position].replace(new) {
            return Err(Error::config(format!(
                "output.rename gives the column {} two names: {other} and {new}",
                outputs[position].column
            )));
        }
    }
    let mut columns: Vec<OutputColumn> = Vec::with_capacity(kept.len());
    for position in kept {
        let output = &outputs[position];
        let name = match new_names[position] {
            Some(name) => name.clone(),
            None => format!("{}{}", options.prefix, output.column),
        };
        if name.is_empty() {
            return Err(Error::config(format!(
                "the model's output {} gets an empty column name",
                output.name
            ))
            .with_hint("set output.rename or output.prefix"));
        }
        check_clash(&name, output, input, outputs, &columns)?;
        columns.push(OutputColumn {
            output: position,
            field: Arc::new(Field::new(name, column_type(output), false)),
        });
    }
    Ok(columns)
}

/// Position that stands for no output of the model: why a row has none.
pub const ROW_ERRORS: usize = usize::MAX;

/// The same columns for a job whose rows may fail alone: all nullable, and one more that says why.
///
/// # Errors
/// `Config`, when a column of the input or the model already has its name.
pub fn with_row_errors(
    columns: Vec<OutputColumn>,
    options: &OutputOptions,
    input: &Schema,
) -> Result<Vec<OutputColumn>> {
    let name = format!("{}error", options.prefix);
    let names = input.fields().iter().map(|field| field.name());
    let mut names = names.chain(columns.iter().map(|column| column.field.name()));
    if let Some(other) = names.find(|other| other.to_lowercase() == name.to_lowercase()) {
        return Err(Error::config(format!(
            "input.on_row_error: null adds the column {name}, which clashes with the column {other}"
        ))
        .with_hint("set output.prefix; names that differ in case only clash too"));
    }
    let nullable = columns.into_iter().map(|column| OutputColumn {
        field: Arc::new(column.field.as_ref().clone().with_nullable(true)),
        ..column
    });
    let errors = OutputColumn {
        output: ROW_ERRORS,
        field: Arc::new(Field::new(name, DataType::Utf8, true)),
    };
    Ok(nullable.chain([errors]).collect())
}

fn find(outputs: &[OutputFeature], name: &str, key: &str) -> Result<usize> {
    let named = |same: &dyn Fn(&str) -> bool| outputs.iter().position(|output| same(&output.column));
    let folded = name.to_lowercase();
    named(&|column| column == name)
        .or_else(|| named(&|column| column.to_lowercase() == folded))
        .ok_or_else(|| {
            let known: Vec<_> = outputs.iter().map(|output| output.column.as_str()).collect();
            Error::config(format!(
                "{key} names {name}, which the model doesn't give; it gives {}",
                known.join(", ")
            ))
        })
}

fn check_clash(
    name: &str,
    output: &OutputFeature,
    input: &Schema,
    outputs: &[OutputFeature],
    columns: &[OutputColumn],
) -> Result<()> {
    let folded = name.to_lowercase();
    let same = |other: &&str| other.to_lowercase() == folded;
    let of_input = input
        .fields()
        .iter()
        .map(|field| field.name().as_str())
        .find(same);
    let of_output = columns.iter().find(|column| same(&column.field.name().as_str()));
    let clash = match (of_input, of_output) {
        (Some(other), _) => format!("the input column {other}"),
        (None, Some(other)) => {
            format!(
                "the column {} of its output {}",
                other.field.name(),
                outputs[other.output].name
            )
        }
        (None, None) => return Ok(()),
    };
    let example = format!(
        "output.rename: {{{}: {}_predicted}}",
        output.column, output.column
    );
    Err(Error::config(format!(
        "the model's output {} would become the column {name}, which clashes with {clash}",
        output.name
    ))
    .with_hint(format!(
        "set {example} or output.prefix: predicted_; names that differ in case only clash too"
    )))
}

/// The Arrow type of the column for `output`.
pub fn column_type(output: &OutputFeature) -> DataType {
    let nested = |axes: &[Dim]| {
        axes.iter()
            .fold(scalar_type(output.dtype), |item, _| DataType::List(element(item)))
    };
    match output.kind {
        OutputKind::Tensor => match output.shape.as_slice() {
            [] | [Dim::Fixed(1)] => scalar_type(output.dtype),
            axes => nested(axes),
        },
        OutputKind::List => DataType::List(element(nested(&output.shape))),
        OutputKind::Records { fields } => {
            let fields = fields
                .iter()
                .map(|(name, dtype)| Field::new(*name, scalar_type(*dtype), false));
            DataType::List(element(DataType::Struct(fields.collect())))
        }
        OutputKind::Map { key } => DataType::Map(entries(scalar_type(key), scalar_type(output.dtype)), false),
    }
}

/// Parquet has no float16 that all readers know, so that is written as float32.
fn scalar_type(dtype: DType) -> DataType {
    match dtype {
        DType::Bool => DataType::Boolean,
        DType::I8 => DataType::Int8,
        DType::I16 => DataType::Int16,
        DType::I32 => DataType::Int32,
        DType::I64 => DataType::Int64,
        DType::U8 => DataType::UInt8,
        DType::U16 => DataType::UInt16,
        DType::U32 => DataType::UInt32,
        DType::U64 => DataType::UInt64,
        DType::F16 | DType::F32 => DataType::Float32,
        DType::F64 => DataType::Float64,
        DType::String => DataType::Utf8,
        DType::Bytes => DataType::Binary,
    }
}

// The names of inner fields are those of the Parquet specification.

fn element(item: DataType) -> FieldRef {
    Arc::new(Field::new("element", item, false))
}

fn entries(key: DataType, value: DataType) -> FieldRef {
    let fields = vec![Field::new("key", key, false), Field::new("value", value, false)];
    Arc::new(Field::new("key_value", DataType::Struct(fields.into()), false))
}

/// `value` as an array of exactly the type of `field`.
///
/// # Errors
/// `Model`, naming what came and what was planned, when the two don't fit.
pub fn to_array(value: Value, field: &Field) -> Result<ArrayRef> {
    match value {
        Value::Tensor(tensor) => tensor_to_array(tensor, field),
        Value::Maps(maps) => maps_to_array(maps, field),
        Value::Lists(lists) => lists_to_array(lists, field),
    }
}

fn lists_to_array(lists: Lists, field: &Field) -> Result<ArrayRef> {
    let DataType::List(element) = field.data_type() else {
        return Err(wrong("lists", field));
    };
    let items: ArrayRef = match (lists.items, element.data_type()) {
        (Items::Tensor(tensor), planned) => {
            // Items are laid out as rows are, but a vector of one number stays a vector.
            let is_vector = tensor.shape.len() > 1;
            if is_vector != matches!(planned, DataType::List(_)) {
                return Err(misfit(&tensor, field));
            }
            tensor_to_array(tensor, element).map_err(|error| error.with("column", field.name()))?
        }
        (Items::Records(columns), DataType::Struct(fields)) => {
            let came: Vec<_> = columns.iter().map(|column| column.dtype().as_str()).collect();
            let fits = columns.len() == fields.len()
                && std::iter::zip(&columns, fields)
                    .all(|(column, planned)| scalar_type(column.dtype()) == *planned.data_type());
            if !fits {
                return Err(wrong(&format!("records of {}", came.join(", ")), field));
            }
            let columns = columns.into_iter().map(|column| elements_to_array(column, field));
            let records = StructArray::try_new(fields.clone(), columns.collect::<Result<_>>()?, None);
            Arc::new(records.context(ErrorKind::Internal, "can't make records of a model's output")?)
        }
        (Items::Records(_), _) => return Err(wrong("records", field)),
    };
    let lengths = lists.offsets.windows(2).map(|pair| pair[1] - pair[0]);
    let offsets = OffsetBuffer::try_from_lengths(lengths).map_err(|_| too_large(field))?;
    let array = ListArray::try_new(element.clone(), offsets, items, None);
    Ok(Arc::new(array.context(
        ErrorKind::Internal,
        "can't make lists of a model's output",
    )?))
}

fn tensor_to_array(tensor: Tensor, field: &Field) -> Result<ArrayRef> {
    let axes = match (field.data_type(), tensor.shape.as_slice()) {
        (DataType::List(_), [_, axes @ ..]) => axes,
        (_, [_] | [_, 1]) => &[],
        _ => return Err(misfit(&tensor, field)),
    };
    // From the outside in: the type of each level of lists, with the lists it has and their length.
    let mut levels = Vec::with_capacity(axes.len());
    let (mut item_type, mut lists) = (field.data_type(), tensor.rows());
    for &length in axes {
        let DataType::List(item) = item_type else {
            return Err(misfit(&tensor, field));
        };
        levels.push((item.clone(), lists, length));
        item_type = item.data_type();
        lists *= length;
    }
    if *item_type != scalar_type(tensor.dtype()) {
        return Err(misfit(&tensor, field));
    }
    let mut array = elements_to_array(tensor.data, field)?;
    for (item, lists, length) in levels.into_iter().rev() {
        let offsets = OffsetBuffer::try_from_repeated_length(length, lists).map_err(|_| too_large(field))?;
        let list = ListArray::try_new(item, offsets, array, None);
        array = Arc::new(list.context(ErrorKind::Internal, "can't make lists of a model's output")?);
    }
    Ok(array)
}

fn misfit(tensor: &Tensor, field: &Field) -> Error {
    let came = format!("{} of shape {:?}", tensor.dtype().as_str(), tensor.shape);
    wrong(&came, field)
}

fn wrong(came: &str, field: &Field) -> Error {
    Error::model(format!(
        "the model returned {came}, and the planned type is {}",
        field.data_type()
    ))
    .with("column", field.name())
    .with_hint("a model must return the same type and number of axes for every batch")
}

fn too_large(field: &Field) -> Error {
    Error::model("the model's output for one batch is too large for an Arrow array: more than 2^31 - 1 elements or bytes")
        .with("column", field.name())
        .with_hint("set a smaller inference.max_batch_rows")
}

/// Elements as a flat array. Numbers keep their buffer.
fn elements_to_array(data: TensorData, field: &Field) -> Result<ArrayRef> {
    fn primitive<T: ArrowPrimitiveType>(values: Vec<T::Native>) -> ArrayRef {
        Arc::new(PrimitiveArray::<T>::new(ScalarBuffer::from(values), None))
    }
    Ok(match data {
        TensorData::Bool(values) => Arc::new(BooleanArray::from(BooleanBuffer::from(values))),
        TensorData::I8(values) => primitive::<Int8Type>(values),
        TensorData::I16(values) => primitive::<Int16Type>(values),
        TensorData::I32(values) => primitive::<Int32Type>(values),
        TensorData::I64(values) => primitive::<Int64Type>(values),
        TensorData::U8(values) => primitive::<UInt8Type>(values),
        TensorData::U16(values) => primitive::<UInt16Type>(values),
        TensorData::U32(values) => primitive::<UInt32Type>(values),
        TensorData::U64(values) => primitive::<UInt64Type>(values),
        TensorData::F16(values) => primitive::<Float32Type>(values.into_iter().map(f16::to_f32).collect()),
        TensorData::F32(values) => primitive::<Float32Type>(values),
        TensorData::F64(values) => primitive::<Float64Type>(values),
        TensorData::String(values) => {
            let bytes: usize = values.iter().map(String::len).sum();
            if i32::try_from(bytes).is_err() {
                return Err(too_large(field));
            }
            Arc::new(StringArray::from_iter_values(values))
        }
        TensorData::Bytes(values) => {
            let bytes: usize = values.iter().map(|value| value.len()).sum();
            if i32::try_from(bytes).is_err() {
                return Err(too_large(field));
            }
            Arc::new(BinaryArray::from_iter_values(values))
        }
    })
}

fn maps_to_array(maps: Maps, field: &Field) -> Result<ArrayRef> {
    let came = || {
        format!(
            "maps from {} to {}",
            maps.keys.dtype().as_str(),
            maps.values.dtype().as_str()
        )
    };
    let planned = match field.data_type() {
        DataType::Map(planned, _) => planned.clone(),
        _ => return Err(wrong(&came(), field)),
    };
    if planned != entries(scalar_type(maps.keys.dtype()), scalar_type(maps.values.dtype())) {
        return Err(wrong(&came(), field));
    }
    let lengths = maps.offsets.windows(2).map(|pair| pair[1] - pair[0]);
    let offsets = OffsetBuffer::try_from_lengths(lengths).map_err(|_| too_large(field))?;
    let DataType::Struct(fields) = planned.data_type() else {
        return Err(Error::internal("the entries of a map are a struct"));
    };
    let columns = vec![
        elements_to_array(maps.keys, field)?,
        elements_to_array(maps.values, field)?,
    ];
    let entries = StructArray::try_new(fields.clone(), columns, None);
    let entries = entries.context(ErrorKind::Internal, "can't make the entries of maps")?;
    let array = MapArray::try_new(planned, offsets, entries, None, false);
    Ok(Arc::new(array.context(
        ErrorKind::Internal,
        "can't make maps of a model's output",
    )?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SaveMode;
    use arrow::array::Array;
    use std::collections::BTreeMap;

    fn output(column: &str, dtype: DType, shape: &[Dim]) -> OutputFeature {
        OutputFeature {
            name: format!("{column}_of_model"),
            column: column.into(),
            dtype,
            shape: shape.to_vec(),
            kind: OutputKind::Tensor,
        }
    }

    fn map(key: DType, dtype: DType) -> OutputFeature {
        OutputFeature {
            kind: OutputKind::Map { key },
            ..output("m", dtype, &[])
        }
    }

    fn options(columns: Option<&[&str]>, rename: &[(&str, &str)], prefix: &str) -> OutputOptions {
        OutputOptions {
            location: "out".into(),
            mode: SaveMode::Error,
            partition_by: vec![],
            compression: None,
            columns: columns.map(|names| names.iter().map(|name| name.to_string()).collect()),
            rename: rename
                .iter()
                .map(|(old, new)| (old.to_string(), new.to_string()))
                .collect::<BTreeMap<_, _>>(),
            prefix: prefix.into(),
            take_over: false,
        }
    }

    fn names(options: OutputOptions) -> Result<Vec<(usize, String)>> {
        let outputs = [
            output("label", DType::I64, &[]),
            output("score", DType::F32, &[]),
            output("Id", DType::F32, &[]),
        ];
        let input = Schema::new(vec![
            Field::new("id", DataType::Int64, true),
            Field::new("Label", DataType::Int64, true),
        ]);
        let columns = plan(&outputs, &options, &input)?;
        Ok(columns
            .into_iter()
            .map(|column| (column.output, column.field.name().clone()))
            .collect())
    }

    #[test]
    fn columns_are_kept_renamed_and_prefixed_in_the_models_order() {
        let plain = |found: Result<Vec<(usize, String)>>| {
            found
                .unwrap()
                .into_iter()
                .map(|(output, name)| format!("{output}:{name}"))
                .collect::<Vec<_>>()
        };
        assert_eq!(plain(names(options(Some(&["score"]), &[], ""))), ["1:score"]);
        assert_eq!(
            plain(names(options(Some(&["SCORE", "label"]), &[], "p_"))),
            ["0:p_label", "1:p_score"]
        );
        let renamed = options(None, &[("label", "class"), ("id", "x")], "p_");
        assert_eq!(plain(names(renamed)), ["0:class", "1:p_score", "2:x"]);
        assert_eq!(plain(names(options(Some(&[]), &[], ""))), [""; 0]);
    }

    /// Failure matrix: 30.
    #[test]
    fn names_that_clash_or_are_unknown_are_refused_with_a_way_out() {
        let cases = [
            (
                options(None, &[], ""),
                "label, which clashes with the input column Label; set output.rename: {label: label_predicted}",
            ),
            (
                options(Some(&["Id"]), &[], ""),
                "clashes with the input column id",
            ),
            (
                options(Some(&["label", "score"]), &[("label", "Score")], ""),
                "clashes with the column Score of its output label_of_model",
            ),
            (
                options(Some(&["lable"]), &[], ""),
                "output.columns names lable, which the model doesn't give; it gives label, score, Id",
            ),
            (options(None, &[("lable", "x")], ""), "output.rename names lable"),
            (
                options(Some(&["score"]), &[("label", "x")], ""),
                "output.rename.label: output.columns leaves this column out",
            ),
            (
                options(None, &[("label", "x"), ("LABEL", "y")], ""),
                "two names: y and x",
            ),
            (
                options(None, &[("label", "")], ""),
                "label_of_model gets an empty column name",
            ),
        ];
        for (options, message) in cases {
            let error = names(options).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains(message), "{error}");
        }
    }

    #[test]
    fn the_table_of_the_documentation_is_what_becomes_of_outputs() {
        let table: Vec<Vec<&str>> = include_str!("../../docs/types.md")
            .lines()
            .skip_while(|line| !line.starts_with("| output "))
            .take_while(|line| line.starts_with('|'))
            .map(|line| {
                line.trim_matches('|')
                    .split('|')
                    .map(|cell| cell.trim().trim_matches('`'))
                    .collect()
            })
            .collect();
        let written: Vec<_> = table[2..].iter().map(|row| (row[0], row[1])).collect();
        let types = DType::ALL
            .iter()
            .map(|dtype| (dtype.as_str(), scalar_type(*dtype).to_string()));
        let types: Vec<_> = types.collect();
        assert_eq!(
            written,
            types
                .iter()
                .map(|(dtype, text)| (*dtype, text.as_str()))
                .collect::<Vec<_>>()
        );
    }

    fn array(value: Value, output: &OutputFeature) -> Result<ArrayRef> {
        let field = Field::new(&output.column, column_type(output), false);
        let array = to_array(value, &field)?;
        assert_eq!(array.data_type(), field.data_type());
        Ok(array)
    }

    fn printed(array: &ArrayRef) -> Vec<String> {
        (0..array.len())
            .map(|row| arrow::util::display::array_value_to_string(array, row).unwrap())
            .collect()
    }

    fn tensor(shape: &[usize], data: impl Into<TensorData>) -> Value {
        Value::Tensor(Tensor::new(shape.to_vec(), data).unwrap())
    }

    #[test]
    fn tensors_become_scalars_and_lists() {
        let scalar = output("s", DType::F32, &[Dim::Fixed(1)]);
        assert_eq!(
            printed(&array(tensor(&[2], vec![1.5f32, 2.0]), &scalar).unwrap()),
            ["1.5", "2.0"]
        );
        assert_eq!(
            printed(&array(tensor(&[2, 1], vec![1.5f32, 2.0]), &scalar).unwrap()),
            ["1.5", "2.0"]
        );
        let half = output("h", DType::F16, &[]);
        assert_eq!(
            printed(&array(tensor(&[1], vec![f16::from_f32(0.5)]), &half).unwrap()),
            ["0.5"]
        );
        let text = output("t", DType::String, &[Dim::Fixed(2)]);
        let texts: Vec<String> = ["a", "", "é", "d"].map(String::from).to_vec();
        assert_eq!(
            printed(&array(tensor(&[2, 2], texts), &text).unwrap()),
            ["[a, ]", "[é, d]"]
        );
        let flags = output("b", DType::Bool, &[Dim::Dynamic]);
        assert_eq!(
            printed(&array(tensor(&[1, 2], vec![true, false]), &flags).unwrap()),
            ["[true, false]"]
        );
        let cube = output("c", DType::I8, &[Dim::Fixed(2), Dim::Fixed(3)]);
        let value = tensor(&[2, 2, 3], (0..12).collect::<Vec<i8>>());
        assert_eq!(
            printed(&array(value, &cube).unwrap()),
            ["[[0, 1, 2], [3, 4, 5]]", "[[6, 7, 8], [9, 10, 11]]"]
        );
    }

    #[test]
    fn empty_axes_and_empty_batches_are_arrays_too() {
        let open = output("o", DType::I64, &[Dim::Dynamic, Dim::Fixed(4)]);
        assert_eq!(
            printed(&array(tensor(&[2, 0, 4], Vec::<i64>::new()), &open).unwrap()),
            ["[]", "[]"]
        );
        assert_eq!(
            array(tensor(&[0, 3, 4], Vec::<i64>::new()), &open).unwrap().len(),
            0
        );
        let empty = Maps {
            offsets: vec![0],
            keys: Vec::<i64>::new().into(),
            values: Vec::<f32>::new().into(),
        };
        assert_eq!(
            array(Value::Maps(empty), &map(DType::I64, DType::F32))
                .unwrap()
                .len(),
            0
        );
    }

    #[test]
    fn numbers_are_not_copied() {
        let values = vec![1.0f64, 2.0];
        let at = values.as_ptr();
        let array = array(
            tensor(&[1, 2], values),
            &output("v", DType::F64, &[Dim::Fixed(2)]),
        )
        .unwrap();
        let list = array.as_any().downcast_ref::<ListArray>().unwrap();
        let items: &PrimitiveArray<Float64Type> = list.values().as_any().downcast_ref().unwrap();
        assert_eq!(items.values().as_ptr(), at);
    }

    #[test]
    fn maps_become_map_columns() {
        let maps = |value: TensorData| {
            let keys = vec!["cat".to_string(), "dog".to_string(), "cat".to_string()].into();
            Value::Maps(Maps {
                offsets: vec![0, 2, 2, 3],
                keys,
                values: value,
            })
        };
        let found = array(
            maps(vec![0.25f32, 0.75, 1.0].into()),
            &map(DType::String, DType::F32),
        )
        .unwrap();
        assert_eq!(printed(&found), ["{cat: 0.25, dog: 0.75}", "{}", "{cat: 1.0}"]);
        let error = array(
            maps(vec![0.25f64, 0.75, 1.0].into()),
            &map(DType::String, DType::F32),
        )
        .unwrap_err();
        assert!(
            error
                .message()
                .starts_with("the model returned maps from string to float64, and the planned type is Map("),
            "{error}"
        );
    }

    const ENTITIES: OutputKind = OutputKind::Records {
        fields: &[("word", DType::String), ("score", DType::F64)],
    };

    fn entities(offsets: Vec<usize>, words: &[&str]) -> Value {
        let scores: Vec<f64> = (0..words.len()).map(|index| index as f64 / 4.0).collect();
        let words: Vec<String> = words.iter().map(|word| word.to_string()).collect();
        let items = Items::Records(vec![words.into(), scores.into()]);
        Value::Lists(Lists::new(offsets, items).unwrap())
    }

    #[test]
    fn lists_of_any_length_become_list_columns() {
        let records = OutputFeature {
            kind: ENTITIES,
            ..output("e", DType::F64, &[])
        };
        assert_eq!(
            printed(&array(entities(vec![0, 2, 2, 3], &["a", "b", "c"]), &records).unwrap()),
            [
                "[{word: a, score: 0.0}, {word: b, score: 0.25}]",
                "[]",
                "[{word: c, score: 0.5}]"
            ]
        );
        assert_eq!(array(entities(vec![0], &[]), &records).unwrap().len(), 0);

        let list = |shape: &[Dim]| OutputFeature {
            kind: OutputKind::List,
            ..output("v", DType::F32, shape)
        };
        let of = |offsets: Vec<usize>, shape: &[usize], numbers: Vec<f32>| {
            let items = Items::Tensor(Tensor::new(shape.to_vec(), numbers).unwrap());
            Value::Lists(Lists::new(offsets, items).unwrap())
        };
        let vectors = of(vec![0, 1, 1, 3], &[3, 2], vec![1., 2., 3., 4., 5., 6.]);
        assert_eq!(
            printed(&array(vectors, &list(&[Dim::Fixed(2)])).unwrap()),
            ["[[1.0, 2.0]]", "[]", "[[3.0, 4.0], [5.0, 6.0]]"]
        );
        let narrow = of(vec![0, 2], &[2, 1], vec![1., 2.]);
        assert_eq!(
            printed(&array(narrow, &list(&[Dim::Fixed(1)])).unwrap()),
            ["[[1.0], [2.0]]"]
        );
        let numbers = of(vec![0, 2, 2], &[2], vec![1., 2.]);
        assert_eq!(
            printed(&array(numbers, &list(&[])).unwrap()),
            ["[1.0, 2.0]", "[]"]
        );
    }

    proptest::proptest! {
        #[test]
        fn every_item_of_a_list_is_where_its_row_is(lengths in proptest::collection::vec(0usize..4, 0..20)) {
            let mut offsets = vec![0];
            for length in &lengths {
                offsets.push(offsets[offsets.len() - 1] + length);
            }
            let words: Vec<String> = (0..offsets[lengths.len()]).map(|item| item.to_string()).collect();
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let records = OutputFeature { kind: ENTITIES, ..output("e", DType::F64, &[]) };
            let found = printed(&array(entities(offsets.clone(), &words), &records).unwrap());
            for (row, text) in found.iter().enumerate() {
                let each: Vec<String> = (offsets[row]..offsets[row + 1])
                    .map(|item| format!("{{word: {item}, score: {:?}}}", item as f64 / 4.0))
                    .collect();
                proptest::prop_assert_eq!(text, &format!("[{}]", each.join(", ")));
            }
        }
    }

    #[test]
    fn lists_that_do_not_fit_the_planned_type_are_named_beside_it() {
        let records = OutputFeature {
            kind: ENTITIES,
            ..output("e", DType::F64, &[])
        };
        let numbers = |shape: &[usize]| {
            let items = Tensor::new(shape.to_vec(), vec![1f32; 2]).unwrap();
            Value::Lists(Lists::new(vec![0, shape[0]], Items::Tensor(items)).unwrap())
        };
        let list = OutputFeature {
            kind: OutputKind::List,
            ..output("v", DType::F32, &[])
        };
        for (value, output, message) in [
            (
                numbers(&[2]),
                &records,
                "float32 of shape [2], and the planned type is",
            ),
            (
                numbers(&[1, 2]),
                &list,
                "float32 of shape [1, 2], and the planned type is List(",
            ),
            (
                entities(vec![0, 1], &["a"]),
                &list,
                "records, and the planned type is",
            ),
            (tensor(&[1], vec![1f32]), &records, "float32 of shape [1], and"),
        ] {
            let error = array(value, output).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Model);
            assert!(error.to_string().contains(message), "{error}");
        }
    }

    #[test]
    fn what_does_not_fit_the_planned_type_is_named_beside_it() {
        let cases = [
            (
                tensor(&[2], vec![1i64, 2]),
                output("x", DType::F32, &[]),
                "int64 of shape [2], and the planned type is Float32",
            ),
            (
                tensor(&[1, 2], vec![1f32, 2.]),
                output("x", DType::F32, &[]),
                "float32 of shape [1, 2], and the planned type is Float32",
            ),
            (
                tensor(&[2], vec![1f32, 2.]),
                output("x", DType::F32, &[Dim::Fixed(2)]),
                "shape [2], and the planned type is List(",
            ),
            (
                tensor(&[1, 1, 2], vec![1f32, 2.]),
                output("x", DType::F32, &[Dim::Dynamic]),
                "shape [1, 1, 2]",
            ),
            (
                tensor(&[1], vec![1f32]),
                map(DType::I64, DType::F32),
                "shape [1], and the planned type is Map(",
            ),
        ];
        for (value, output, message) in cases {
            let error = array(value, &output).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Model);
            assert!(error.to_string().contains(message), "{error}");
        }
    }
}
