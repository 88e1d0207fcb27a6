//! The rules by which inputs meet columns, as tables.

use std::collections::BTreeMap;

use crate::model::card::{self, FunctionCard};
use crate::model::onnx::describe::{Inputs, inputs, outputs};
use crate::model::onnx::graph::{Declared, Facts, Kind};
use crate::model::onnx::trial;
use crate::signature::{Dim, OnNull, Source, describe_input};
use crate::tensor::DType;

use Dim::{Dynamic as N, Fixed};

fn tensor(name: &str, dtype: DType, shape: &[Dim]) -> Declared {
    Declared {
        name: name.into(),
        kind: Kind::Tensor {
            dtype,
            shape: Some(shape.to_vec()),
        },
    }
}

fn facts(inputs: Vec<Declared>, feature_names: Option<&str>) -> Facts {
    Facts {
        producer: String::new(),
        opsets: BTreeMap::new(),
        nodes: 1,
        has_tree_ensemble: false,
        quantises_by_batch: false,
        inputs,
        outputs: vec![
            tensor("y", DType::F32, &[N]),
            tensor("z", DType::F32, &[N, Fixed(3)]),
        ],
        feature_names: feature_names.map(String::from),
    }
}

fn function_card(text: &str) -> FunctionCard {
    let card = card::parse(format!("functions: {{predict: {text}}}").as_bytes()).unwrap();
    card.functions.unwrap().get("predict").unwrap().clone()
}

fn describe(facts: &Facts, card: Option<&str>) -> Result<Inputs, String> {
    let card = card.map(function_card);
    inputs(facts, "predict", card.as_ref()).map_err(|error| error.to_string())
}

/// Inputs as text, and the batch.
fn check(facts: Facts, card: Option<&str>, expected: &[&str], fixed_batch_rows: Option<usize>) {
    let described = describe(&facts, card).unwrap();
    let texts: Vec<_> = described.features.iter().map(describe_input).collect();
    assert_eq!(texts, expected);
    assert_eq!(described.fixed_batch_rows, fixed_batch_rows, "{expected:?}");
}

fn refused(facts: Facts, card: Option<&str>, part: &str) {
    let error = describe(&facts, card).unwrap_err();
    assert!(error.contains(part), "{error}\nwithout {part}");
}

#[test]
fn without_a_card_shapes_and_names_decide() {
    let f = DType::F32;
    let x = |shape: &[Dim]| vec![tensor("x", f, shape)];
    let two = |a: &[Dim], b: &[Dim]| vec![tensor("a", f, a), tensor("b", f, b)];
    let names = Some("[\"p\", \"q\"]");
    for (inputs, names, expected, batch) in [
        // one matrix for all columns
        (
            x(&[N, Fixed(2)]),
            names,
            vec!["x float32[rows, 2] from columns p q"],
            None,
        ),
        (
            x(&[N, N]),
            names,
            vec!["x float32[rows, 2] from columns p q"],
            None,
        ),
        (
            x(&[N, Fixed(2)]),
            None,
            vec!["x float32[rows, 2] from all numeric columns"],
            None,
        ),
        (
            x(&[N, N]),
            None,
            vec!["x float32[rows, ?] from all numeric columns"],
            None,
        ),
        // one input per column
        (
            two(&[N], &[N, Fixed(1)]),
            None,
            vec!["a float32[rows]", "b float32[rows, 1]"],
            None,
        ),
        (
            two(&[N], &[N, Fixed(1)]),
            names,
            vec!["a float32[rows]", "b float32[rows, 1]"],
            None,
        ),
        // a single input for a single column: its name, else the only numeric column
        (
            x(&[N, Fixed(1)]),
            None,
            vec!["x float32[rows, 1] from all numeric columns"],
            None,
        ),
        (
            x(&[N]),
            None,
            vec!["x float32[rows] from all numeric columns"],
            None,
        ),
        (
            x(&[N, Fixed(1)]),
            Some("[\"p\"]"),
            vec!["x float32[rows, 1] from columns p"],
            None,
        ),
        (
            x(&[N]),
            Some("[\"p\"]"),
            vec!["x float32[rows] from columns p"],
            None,
        ),
        // a matrix beside single columns takes the names
        (
            two(&[N, Fixed(2)], &[N]),
            names,
            vec!["a float32[rows, 2] from columns p q", "b float32[rows]"],
            None,
        ),
        // two matrices: list columns of their own names, see bind
        (
            two(&[N, Fixed(2)], &[N, Fixed(2)]),
            names,
            vec![
                "a float32[rows, 2] from all numeric columns",
                "b float32[rows, 2] from all numeric columns",
            ],
            None,
        ),
        // nested lists
        (x(&[N, Fixed(3), N]), None, vec!["x float32[rows, 3, ?]"], None),
        // strings are not taken by count
        (
            vec![tensor("s", DType::String, &[N, Fixed(2)])],
            None,
            vec!["s string[rows, 2]"],
            None,
        ),
        (
            vec![tensor("s", DType::String, &[N, Fixed(2)])],
            names,
            vec!["s string[rows, 2] from columns p q"],
            None,
        ),
        (
            vec![tensor("s", DType::String, &[N])],
            None,
            vec!["s string[rows]"],
            None,
        ),
        // parameters
        (
            two(&[N, Fixed(2)], &[]),
            names,
            vec![
                "a float32[rows, 2] from columns p q",
                "b float32[] from input.params",
            ],
            None,
        ),
        (
            two(&[N, Fixed(2)], &[Fixed(1)]),
            names,
            vec![
                "a float32[rows, 2] from columns p q",
                "b float32[1] from input.params",
            ],
            None,
        ),
        (
            two(&[N, Fixed(2)], &[Fixed(2), N, Fixed(128)]),
            names,
            vec![
                "a float32[rows, 2] from columns p q",
                "b float32[2, ?, 128] from input.params",
            ],
            None,
        ),
        // fixed batches
        (
            x(&[Fixed(3), Fixed(2)]),
            names,
            vec!["x float32[rows, 2] from columns p q"],
            Some(3),
        ),
        (
            x(&[Fixed(1), Fixed(2)]),
            names,
            vec!["x float32[rows, 2] from columns p q"],
            Some(1),
        ),
        (
            two(&[Fixed(5)], &[Fixed(5), Fixed(1)]),
            None,
            vec!["a float32[rows]", "b float32[rows, 1]"],
            Some(5),
        ),
    ] {
        check(facts(inputs, names), None, &expected, batch);
    }
}

#[test]
fn a_card_decides_what_it_names_and_leaves_the_rest() {
    let f = DType::F32;
    let mixed = || {
        facts(
            vec![
                tensor("a", f, &[N, Fixed(2)]),
                tensor("b", f, &[N]),
                tensor("k", f, &[]),
            ],
            None,
        )
    };
    let card =
        "{inputs: {a: {columns: [v, u], on_null: fill, fill_value: 2}, b: {column: c, scale: 2, offset: 1}}}";
    check(
        mixed(),
        Some(card),
        &[
            "a float32[rows, 2] from columns v u",
            "b float32[rows] from column c",
            "k float32[] from input.params",
        ],
        None,
    );
    let described = describe(&mixed(), Some(card)).unwrap();
    assert_eq!(described.features[0].on_null, Some(OnNull::Fill(2.0)));
    assert_eq!(described.features[1].affine, (2.0, 1.0));
    check(
        facts(vec![tensor("a", f, &[N, N])], None),
        Some("{inputs: {a: {columns: [u, v, w]}}}"),
        &["a float32[rows, 3] from columns u v w"],
        None,
    );
    // A policy alone leaves the columns to the rules.
    let described = describe(
        &facts(vec![tensor("a", f, &[N, Fixed(2)])], None),
        Some("{inputs: {a: {on_null: nan}}}"),
    )
    .unwrap();
    assert_eq!(described.features[0].source, Source::NumericColumns);
    // The card says which inputs are rows, so the batch may be fixed in one and the other be a parameter.
    check(
        facts(
            vec![tensor("a", f, &[Fixed(1), Fixed(2)]), tensor("w", f, &[Fixed(3)])],
            None,
        ),
        Some("{inputs: {a: {columns: [u, v]}}}"),
        &[
            "a float32[rows, 2] from columns u v",
            "w float32[3] from input.params",
        ],
        Some(1),
    );
    check(
        facts(
            vec![
                tensor("a", f, &[N, Fixed(2)]),
                tensor("w", f, &[Fixed(1), Fixed(3)]),
            ],
            None,
        ),
        Some("{inputs: {w: {column: weights}}}"),
        &[
            "a float32[rows, 2] from all numeric columns",
            "w float32[rows, 3] from column weights",
        ],
        Some(1),
    );
}

/// Failure matrix: 54.
#[test]
fn contradictions_between_model_metadata_and_card_are_refused() {
    let matrix = |names| facts(vec![tensor("a", DType::F32, &[N, Fixed(2)])], names);
    refused(
        matrix(Some("[\"p\"]")),
        None,
        "the metadata key feature_names names 1 columns, and the model's input a takes 2",
    );
    refused(
        matrix(Some("p,q")),
        None,
        "feature_names of the model is not a JSON array",
    );
    refused(
        matrix(None),
        Some("{inputs: {a: {columns: [p]}}}"),
        "inputs.a.columns names 1 columns, and the model's input a takes 2",
    );
    refused(
        matrix(None),
        Some("{inputs: {b: {column: p}}}"),
        "functions.predict.inputs.b: the model has no such input; its inputs are a",
    );
    let nested = facts(vec![tensor("a", DType::F32, &[N, Fixed(2), Fixed(2)])], None);
    refused(nested, Some("{inputs: {a: {columns: [p, q]}}}"), "has 2 axes");
    let integers = || facts(vec![tensor("a", DType::I64, &[N])], None);
    refused(
        integers(),
        Some("{inputs: {a: {on_null: nan}}}"),
        "int64 has no NaN",
    );
    let strings = || facts(vec![tensor("a", DType::String, &[N])], None);
    refused(
        strings(),
        Some("{inputs: {a: {scale: 2}}}"),
        "inputs.a.scale: given for an input of string",
    );
    let scalar = facts(
        vec![tensor("x", DType::F32, &[N]), tensor("k", DType::F32, &[])],
        None,
    );
    refused(
        scalar,
        Some("{inputs: {k: {column: c}}}"),
        "one value for all rows",
    );
}

#[test]
fn inputs_that_nothing_can_feed_are_refused() {
    let other = |kind| {
        vec![
            tensor("a", DType::F32, &[N]),
            Declared {
                name: "b".into(),
                kind,
            },
        ]
    };
    refused(
        facts(other(Kind::Other("tensor of bfloat16".into())), None),
        None,
        "input b is a tensor of bfloat16",
    );
    refused(
        facts(
            other(Kind::Maps {
                key: DType::I64,
                value: DType::F32,
            }),
            None,
        ),
        None,
        "input b is a sequence of map",
    );
    refused(
        facts(vec![tensor("k", DType::F32, &[])], None),
        None,
        "no input of the model has a batch axis",
    );
    let disagree = vec![
        tensor("a", DType::F32, &[Fixed(2), Fixed(4)]),
        tensor("b", DType::F32, &[Fixed(3)]),
    ];
    refused(
        facts(disagree, None),
        None,
        "different lengths, so the batch can't be told: a[2, 4], b[3]",
    );
}

fn unranked(name: &str) -> Declared {
    Declared {
        name: name.into(),
        kind: Kind::Tensor {
            dtype: DType::F32,
            shape: None,
        },
    }
}

#[test]
fn an_input_without_a_shape_is_a_value_per_row_until_it_is_tried() {
    let beside = |other: &[Dim]| facts(vec![unranked("a"), tensor("b", DType::F32, other)], None);
    let described = describe(&beside(&[N]), None).unwrap();
    assert_eq!(describe_input(&described.features[0]), "a float32[rows]");
    assert_eq!(described.unranked, [0]);
    let as_param = described.with_parameters(&[0]);
    assert_eq!(
        describe_input(&as_param.features[0]),
        "a float32[] from input.params"
    );
    // It says nothing about the batch, and a card settles it.
    assert_eq!(
        describe(&beside(&[Fixed(3)]), None).unwrap().fixed_batch_rows,
        Some(3)
    );
    let card = describe(&beside(&[N]), Some("{inputs: {a: {columns: [u, v]}}}")).unwrap();
    assert_eq!(
        describe_input(&card.features[0]),
        "a float32[rows, 2] from columns u v"
    );
    assert!(card.unranked.is_empty());
    // Alone, with names, it is a matrix.
    check(
        facts(vec![unranked("x")], Some("[\"p\", \"q\"]")),
        None,
        &["x float32[rows, 2] from columns p q"],
        None,
    );
}

#[test]
fn ways_to_feed_inputs_without_a_shape_are_tried_rows_first() {
    let model = facts(
        vec![unranked("a"), unranked("b"), tensor("x", DType::F32, &[N])],
        None,
    );
    let settle = |works: &dyn Fn(&[String]) -> bool| {
        let mut tried = 0;
        let settled = trial::settle(describe(&model, None).unwrap(), |inputs| {
            tried += 1;
            Ok(works(
                &inputs.features.iter().map(describe_input).collect::<Vec<_>>(),
            ))
        })
        .unwrap();
        let sources: Vec<_> = settled
            .features
            .iter()
            .map(|input| input.source.clone())
            .collect();
        let params = sources.iter().filter(|source| **source == Source::Param).count();
        (tried, params, settled.notes.join("; "))
    };
    let (tried, params, notes) = settle(&|_| true);
    assert_eq!((tried, params), (1, 0));
    assert_eq!(
        notes,
        "the model declares no shape for its input a, b: it runs with a value per row"
    );
    let (tried, params, notes) =
        settle(&|inputs| inputs[1].contains("input.params") && !inputs[0].contains("input.params"));
    assert_eq!((tried, params), (3, 1));
    assert!(
        notes.ends_with("input b: it runs with one value for all rows, a parameter"),
        "{notes}"
    );
    let (tried, params, notes) = settle(&|_| false);
    assert_eq!((tried, params), (4, 0));
    assert!(notes.ends_with("input a, b: taken as a value per row"), "{notes}");
}

#[test]
fn the_card_chooses_outputs_and_their_order() {
    let model = facts(vec![tensor("x", DType::F32, &[N])], None);
    let names = |card: Option<&str>| {
        let card = card.map(function_card);
        let wanted = outputs(&model, "predict", card.as_ref()).map_err(|error| error.to_string())?;
        Ok::<_, String>(wanted.into_iter().map(|output| output.name).collect::<Vec<_>>())
    };
    assert_eq!(names(None).unwrap(), ["y", "z"]);
    assert_eq!(names(Some("{outputs: [z, y]}")).unwrap(), ["z", "y"]);
    assert_eq!(names(Some("{outputs: {z: {name: scores}}}")).unwrap(), ["z"]);
    let error = names(Some("{outputs: [yy]}")).unwrap_err();
    assert!(
        error.contains("functions.predict.outputs.yy: the model has no such output; its outputs are y, z"),
        "{error}"
    );
    assert!(error.contains("the nearest is y"), "{error}");
}

#[test]
fn an_output_that_no_column_can_hold_is_refused_only_if_it_is_wanted() {
    let mut model = facts(vec![tensor("x", DType::F32, &[N])], None);
    model.outputs[1].kind = Kind::Other("sequence of tensor of float32".into());
    let error = outputs(&model, "predict", None).unwrap_err().to_string();
    assert!(
        error.contains("output z is a sequence of tensor of float32, which no column can hold"),
        "{error}"
    );
    let card = function_card("{outputs: [y]}");
    assert_eq!(outputs(&model, "predict", Some(&card)).unwrap().len(), 1);
}
