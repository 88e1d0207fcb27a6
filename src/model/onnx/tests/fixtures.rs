//! Every model of `cases.json` opens, or is refused for what is wrong with it.

use serde_json::Value;

use super::{fixture, open_fixture, opened, refusal};
use crate::model::inspect;
use crate::signature::{Source, describe_input};

fn cases() -> Vec<Value> {
    let text = std::fs::read_to_string(fixture("cases.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn every_model_that_is_to_be_scored_opens_with_the_outputs_of_its_case() {
    let mut seen = 0;
    for case in cases().iter().filter(|case| case["expect"] == "ok") {
        let model = opened(case["model"].as_str().unwrap());
        let function = match case["function"].as_str() {
            Some(name) => model
                .functions()
                .iter()
                .find(|function| function.name == name)
                .unwrap(),
            None => &model.functions()[0],
        };
        let expected = case["outputs"].as_object().unwrap();
        let outputs: Vec<_> = function
            .outputs
            .iter()
            .map(|output| (output.name.as_str(), output.column.as_str()))
            .collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|(name, column)| (name.as_str(), column.as_str().unwrap()))
            .collect();
        assert_eq!(outputs, expected, "{}", case["name"]);
        let feeds = case["feeds"].as_object().unwrap();
        assert_eq!(function.inputs.len(), feeds.len(), "{}", case["name"]);
        for input in &function.inputs {
            let is_param = feeds[&input.name]["shape"] == "param";
            assert_eq!(
                is_param,
                input.source == Source::Param,
                "{} {}",
                case["name"],
                input.name
            );
            assert_eq!(
                feeds[&input.name]["dtype"],
                input.dtype.as_str(),
                "{}",
                case["name"]
            );
        }
        assert_eq!(
            function.fixed_batch_rows.map(|rows| rows as u64),
            case["batch_rows"].as_u64(),
            "{}",
            case["name"]
        );
        seen += 1;
    }
    assert!(seen >= 30, "only {seen} cases");
}

/// Failure matrix: 55.
#[test]
fn models_that_are_broken_or_unsafe_are_refused_with_the_reason() {
    for (name, part) in [
        ("truncated", "not an ONNX model, or only a part of one"),
        ("zero_bytes", "an empty file"),
        ("text_as_onnx", "a text file"),
        ("random_bytes", "not an ONNX model, or only a part of one"),
        ("no_graph", "holds no graph"),
        ("empty_graph", "has no outputs"),
        ("external_file", "keeps weights outside its own file"),
        ("external_parent", "keeps weights outside its own file"),
        ("external_roundabout", "keeps weights outside its own file"),
        ("external_absolute", "keeps weights outside its own file"),
        ("external_in_attribute", "keeps weights outside its own file"),
        ("external_in_subgraph", "keeps weights outside its own file"),
        ("custom_op", "needs a library of custom operators"),
        ("unknown_op", "doesn't accept the model"),
        ("wrong_opset", "doesn't accept the model"),
        ("wrong_ir_version", "doesn't accept the model"),
        ("cyclic_graph", "doesn't accept the model"),
        ("type_mismatch", "doesn't accept the model"),
        ("sequence_output", "which no column can hold"),
        ("fewer_rows", "rows for 2 rows of input"),
        ("more_rows", "has 4 rows for 2 rows of input"),
        ("no_rows", "is a single value for 2 rows of input"),
        (
            "names_too_few",
            "feature_names names 3 columns, and the model's input X takes 4",
        ),
        (
            "card_unknown_key",
            "functions.predict.inputs.X.on_nul: unknown key",
        ),
        (
            "card_unknown_input",
            "functions.predict.inputs.Y: the model has no such input",
        ),
        (
            "card_unknown_output",
            "functions.predict.outputs.label: the model has no such output",
        ),
        (
            "card_missing_model",
            "there is no file other.onnx beside the card",
        ),
        ("card_model_outside", "a file in the folder of the card allowed"),
        (
            "card_fill_without_value",
            "functions.predict.inputs.X.fill_value: nothing given",
        ),
        ("card_not_yaml", "floe.yaml: not a model card"),
        ("card_nan_for_integers", "int64 has no NaN"),
        (
            "two_models_no_card",
            "the folder has several models: a.onnx, b.onnx",
        ),
    ] {
        let error = refusal(&format!("refused/{name}"));
        assert!(error.contains(part), "{name}: {error}\nwithout {part}");
        assert!(
            error.contains(&format!("refused/{name}")),
            "{name}: the location is missing in {error}"
        );
        assert!(
            error.chars().count() < 1_500 && !error.contains('\n'),
            "{name}: {error}"
        );
    }
}

#[test]
fn models_that_only_their_data_make_fail_open() {
    for name in [
        "missing_column",
        "names_nowhere",
        "string_as_number",
        "null_not_allowed",
        "ragged_list",
        "output_clash",
        "param_missing",
    ] {
        open_fixture(&format!("refused/{name}")).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[test]
fn inputs_are_found_by_the_rules_of_the_docs() {
    for (name, expected) in [
        (
            "regressor_matrix",
            &["X float32[rows, 4] from columns sepal_length sepal_width petal_length petal_width"][..],
        ),
        (
            "rank1_inputs",
            &[
                "sepal_length float32[rows]",
                "petal_width float64[rows]",
                "petal_length float32[rows]",
            ],
        ),
        (
            "dynamic_axis",
            &["X float32[rows, 3] from columns petal_width sepal_length petal_length"],
        ),
        (
            "positional_matrix",
            &["X float32[rows, 4] from all numeric columns"],
        ),
        ("list_nested", &["grid float32[rows, 2, 3]"]),
        (
            "card_column_by_input",
            &[
                "a float32[rows] from column petal_width",
                "b float32[rows, 1] from column sepal_length",
            ],
        ),
    ] {
        let model = opened(&format!("scored/{name}"));
        let inputs: Vec<_> = model.functions()[0].inputs.iter().map(describe_input).collect();
        assert_eq!(inputs, expected, "{name}");
    }
}

#[test]
fn a_trial_run_corrects_what_is_declared_wrong() {
    let model = opened("scored/wrong_output_shape");
    let output = &model.functions()[0].outputs[0];
    assert_eq!(output.shape, []);
    let notes = model.notes().join("\n");
    assert!(
        notes.contains("output y is declared as [1] and returned as [rows]"),
        "{notes}"
    );
}

#[test]
fn the_flights_example_can_be_inspected() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/flights/model");
    let model = crate::model::open(super::read_files(&folder), &super::options()).unwrap();
    let text = inspect::to_text(&*model);
    assert!(text.starts_with("onnx (ONNX Runtime 1.31.1)\nsha256:"), "{text}");
    assert!(text.contains("function predict\n"), "{text}");
    assert!(text.contains("null is NaN"), "{text}");
    assert!(
        text.contains("out  variable float32[rows, 1] to column predicted_arr_delay"),
        "{text}"
    );
}
