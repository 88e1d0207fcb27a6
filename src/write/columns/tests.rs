use arrow::array::{Array, ArrayRef, ListArray, PrimitiveArray};
use half::f16;
use std::collections::BTreeMap;

use super::*;
use crate::config::SaveMode;
use crate::error::ErrorKind;
use crate::tensor::{Items, Lists, Maps, Tensor, TensorData, Value};

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
    let table: Vec<Vec<&str>> = include_str!("../../../docs/types.md")
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
