//! What `floe inspect` shows of a model: functions, inputs, outputs, types, shapes, and what was inferred.

use serde_json::{Value, json};
use std::fmt::Write;

use super::Loaded;
use crate::signature::{
    Function, InputFeature, OnNull, OutputFeature, OutputKind, Source, describe_input, display_shape,
};
use crate::telemetry::text::on_one_line;
use crate::tensor::DType;

/// The model as a JSON document. An open extent is `null`; shapes are those of one row.
pub fn to_json(model: &dyn Loaded) -> Value {
    json!({
        "backend": model.describe(),
        "digest": model.digest(),
        "functions": model.functions().iter().map(function).collect::<Vec<_>>(),
        "found": model.found().iter().map(|(key, value)| json!({ "what": key, "is": value })).collect::<Vec<_>>(),
        "notes": model.notes(),
        "execution_providers": model.providers(),
    })
}

fn function(function: &Function) -> Value {
    json!({
        "name": function.name,
        "inputs": function.inputs.iter().map(input).collect::<Vec<_>>(),
        "outputs": function.outputs.iter().map(output).collect::<Vec<_>>(),
        "fixed_batch_rows": function.fixed_batch_rows,
    })
}

fn input(input: &InputFeature) -> Value {
    let from = match &input.source {
        Source::Column(name) => json!({ "column": name }),
        Source::Columns(names) => json!({ "columns": names }),
        Source::NumericColumns => json!("numeric_columns"),
        Source::Param => json!("param"),
        Source::Optional(otherwise) => json!({ "param": { "default": otherwise } }),
        Source::RowHash => json!("row_hash"),
    };
    let mut document = json!({
        "name": input.name,
        "dtype": input.dtype.as_str(),
        "shape": input.shape,
        "from": from,
    });
    if let Some(policy) = input.on_null {
        document["on_null"] = match policy {
            OnNull::Fail => json!("fail"),
            OnNull::Nan => json!("nan"),
            OnNull::Fill(value) => json!({ "fill": value }),
        };
    }
    if input.affine != (1.0, 0.0) {
        document["scale"] = json!(input.affine.0);
        document["offset"] = json!(input.affine.1);
    }
    document
}

fn output(output: &OutputFeature) -> Value {
    let mut document = json!({
        "name": output.name,
        "column": output.column,
        "dtype": output.dtype.as_str(),
        "shape": output.shape,
    });
    match output.kind {
        OutputKind::Tensor => {}
        OutputKind::Map { key } => document["map_key"] = json!(key.as_str()),
        OutputKind::List => document["list"] = json!(true),
        OutputKind::Records { fields } => {
            let named = |(name, dtype): &(&str, DType)| json!({ "name": name, "dtype": dtype.as_str() });
            document["list"] = json!(true);
            document["fields"] = fields.iter().map(named).collect();
        }
    }
    document
}

/// The model as text for a terminal, with a line break at the end. Names are the model's own, and kept on their line.
pub fn to_text(model: &dyn Loaded) -> String {
    let mut text = format!("{}\n{}\n", model.describe(), model.digest());
    for (index, (key, value)) in model.found().iter().enumerate() {
        let gap = if index == 0 { "\n" } else { "" };
        // Writing to a String can't fail.
        let _ = writeln!(text, "{gap}{key}: {}", on_one_line(value));
    }
    for function in model.functions() {
        let rows = match function.fixed_batch_rows {
            Some(1) => " (one row at a time)".to_string(),
            Some(rows) => format!(" (exactly {rows} rows at a time)"),
            None => String::new(),
        };
        let _ = writeln!(text, "\nfunction {}{rows}", on_one_line(&function.name));
        for input in &function.inputs {
            let _ = writeln!(
                text,
                "  in   {}{}",
                on_one_line(&describe_input(input)),
                treatment(input)
            );
        }
        for output in &function.outputs {
            let _ = writeln!(text, "  out  {}", on_one_line(&describe_output(output)));
        }
    }
    for (index, provider) in model.providers().iter().enumerate() {
        let gap = if index == 0 { "\n" } else { "" };
        let _ = writeln!(text, "{gap}execution provider: {}", on_one_line(provider));
    }
    for (index, note) in model.notes().iter().enumerate() {
        let gap = if index == 0 { "\n" } else { "" };
        let _ = writeln!(text, "{gap}note: {}", on_one_line(note));
    }
    text
}

fn treatment(input: &InputFeature) -> String {
    let mut text = String::new();
    match input.on_null {
        None => {}
        Some(OnNull::Fail) => text.push_str(", a null fails"),
        Some(OnNull::Nan) => text.push_str(", null is NaN"),
        Some(OnNull::Fill(value)) => text.push_str(&format!(", null is {value}")),
    }
    if input.affine != (1.0, 0.0) {
        text.push_str(&format!(", times {} plus {}", input.affine.0, input.affine.1));
    }
    text
}

/// `probabilities float32[rows, 3] to column p`
fn describe_output(output: &OutputFeature) -> String {
    let sort = match output.kind {
        OutputKind::Tensor => format!("{}{}", output.dtype.as_str(), display_shape(&output.shape, true)),
        OutputKind::Map { key } => {
            format!("map from {} to {}", key.as_str(), output.dtype.as_str())
        }
        OutputKind::List => format!(
            "list of {}{}",
            output.dtype.as_str(),
            display_shape(&output.shape, false)
        ),
        OutputKind::Records { fields } => {
            let each: Vec<String> = fields
                .iter()
                .map(|(name, dtype)| format!("{name} {}", dtype.as_str()))
                .collect();
            format!("list of records ({})", each.join(", "))
        }
    };
    if output.column == output.name {
        format!("{} {sort}", output.name)
    } else {
        format!("{} {sort} to column {}", output.name, output.column)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Result;
    use crate::model::echo::Echo;
    use crate::model::{Engine, Model};
    use crate::signature::Dim;
    use crate::tensor::DType;

    struct Fixed {
        functions: Vec<Function>,
        notes: Vec<String>,
    }

    impl Loaded for Fixed {
        fn describe(&self) -> String {
            "onnx (ONNX Runtime 1.31.1)".into()
        }
        fn functions(&self) -> &[Function] {
            &self.functions
        }
        fn digest(&self) -> &str {
            "sha256:00"
        }
        fn notes(&self) -> &[String] {
            &self.notes
        }
        fn providers(&self) -> Vec<String> {
            vec!["openvino is not fetched".into()]
        }
        fn engines(&self, _: &Function) -> Vec<Engine> {
            unreachable!("inspecting runs nothing")
        }
        fn worker(&self, _: &Function, _: usize) -> Result<Box<dyn Model>> {
            unreachable!("inspecting runs nothing")
        }
    }

    fn model() -> Fixed {
        let function = Function {
            name: "predict".into(),
            inputs: vec![InputFeature {
                name: "x".into(),
                dtype: DType::F32,
                shape: vec![Dim::Fixed(2)],
                source: Source::Columns(vec!["a".into(), "b".into()]),
                on_null: Some(OnNull::Fill(-1.0)),
                affine: (0.5, 1.0),
            }],
            outputs: vec![
                OutputFeature {
                    name: "label".into(),
                    column: "species".into(),
                    dtype: DType::String,
                    shape: vec![],
                    kind: OutputKind::Tensor,
                },
                OutputFeature {
                    name: "scores".into(),
                    column: "scores".into(),
                    dtype: DType::F32,
                    shape: vec![],
                    kind: OutputKind::Map { key: DType::I64 },
                },
            ],
            fixed_batch_rows: Some(3),
        };
        Fixed {
            functions: vec![function],
            notes: vec!["first".into(), "second".into()],
        }
    }

    #[test]
    fn the_text_shows_everything_once() {
        let expected = "\
onnx (ONNX Runtime 1.31.1)
sha256:00

function predict (exactly 3 rows at a time)
  in   x float32[rows, 2] from columns a b, null is -1, times 0.5 plus 1
  out  label string[rows] to column species
  out  scores map from int64 to float32

execution provider: openvino is not fetched

note: first
note: second
";
        assert_eq!(to_text(&model()), expected);
    }

    #[test]
    fn the_json_has_the_same_facts_under_names() {
        let document = to_json(&model());
        let function = &document["functions"][0];
        assert_eq!(function["fixed_batch_rows"], 3);
        let input = json!({
            "name": "x", "dtype": "float32", "shape": [2], "from": {"columns": ["a", "b"]},
            "on_null": {"fill": -1.0}, "scale": 0.5, "offset": 1.0,
        });
        assert_eq!(function["inputs"][0], input);
        let output = json!({"name": "scores", "column": "scores", "dtype": "float32", "shape": [], "map_key": "int64"});
        assert_eq!(function["outputs"][1], output);
        assert_eq!(document["notes"], json!(["first", "second"]));
        assert_eq!(
            document["execution_providers"],
            json!(["openvino is not fetched"])
        );
    }

    #[test]
    fn echo_can_be_inspected_too() {
        let text = to_text(&Echo::new());
        assert!(
            text.contains("in   row int64[rows] from a hash of the row"),
            "{text}"
        );
        assert!(text.contains("out  row_hash int64[rows]"), "{text}");
    }
}
