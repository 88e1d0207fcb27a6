//! A function's inputs meet the columns of the input.
//!
//! The answer is the columns to read, or what the model wants and what the input has side by side. Columns are matched
//! by name, exactly first, then ignoring case; never by position.

use arrow::datatypes::{DataType, Field, Schema};
use std::collections::BTreeMap;

use super::{Dim, Function, InputFeature, Source, describe_input};
use crate::error::{Error, Result};
use crate::tensor::DType;

/// A model input with its columns found in a schema.
#[derive(Clone, Debug, PartialEq)]
pub struct BoundInput {
    /// The input.
    pub feature: InputFeature,
    /// Positions of its columns in the schema; empty for a parameter.
    pub columns: Vec<usize>,
    /// The parameter's value; `Null` for columns.
    pub param: serde_json::Value,
}

/// A function matched against a schema.
#[derive(Clone, Debug, PartialEq)]
pub struct Binding {
    /// One entry per input, in the function's order.
    pub inputs: Vec<BoundInput>,
    /// What a reader of the log should know, e.g. that columns were chosen by count.
    pub notes: Vec<String>,
}

impl Binding {
    /// Positions of all columns that feed the model, sorted, each once.
    pub fn columns(&self) -> Vec<usize> {
        let mut all: Vec<usize> = self
            .inputs
            .iter()
            .flat_map(|input| input.columns.iter().copied())
            .collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Counts columns from now on among those that feed the model alone: answers with these, as [`columns`](Self::columns).
    pub fn narrow(&mut self) -> Vec<usize> {
        let all = self.columns();
        for column in self.inputs.iter_mut().flat_map(|input| &mut input.columns) {
            *column = all.partition_point(|other| other < column);
        }
        all
    }
}

/// Finds the column `name`: exactly, else ignoring case. `Ok(None)` when there is none.
///
/// # Errors
/// [`ErrorKind::Data`](crate::error::ErrorKind::Data) when several columns answer to the name.
pub fn find_column(schema: &Schema, name: &str) -> Result<Option<usize>> {
    let exact = matching(schema, |column| column == name);
    let found = if exact.is_empty() {
        let folded = name.to_lowercase();
        matching(schema, |column| column.to_lowercase() == folded)
    } else {
        exact
    };
    match found.as_slice() {
        [] => Ok(None),
        [only] => Ok(Some(*only)),
        several => {
            let names: Vec<_> = several
                .iter()
                .map(|&index| schema.field(index).name().as_str())
                .collect();
            Err(Error::data(format!(
                "several input columns answer to the name: {}",
                names.join(", ")
            ))
            .with("column", name)
            .with_hint("rename all but one of them, or give the exact name in the model card"))
        }
    }
}

fn matching(schema: &Schema, wanted: impl Fn(&str) -> bool) -> Vec<usize> {
    let fields = schema.fields().iter().enumerate();
    fields
        .filter(|(_, field)| wanted(field.name()))
        .map(|(index, _)| index)
        .collect()
}

/// Matches `function` against the input's `schema` and the job's `params`.
///
/// # Errors
/// `Data` when a column is missing, ambiguous or of a type that cannot feed the input: the message lists what
/// the model wants beside what the input has. `Config` for an unknown, missing or unusable parameter.
pub fn bind(
    function: &Function,
    schema: &Schema,
    params: &BTreeMap<String, serde_json::Value>,
) -> Result<Binding> {
    let mut binding = Binding {
        inputs: Vec::with_capacity(function.inputs.len()),
        notes: Vec::new(),
    };
    for feature in &function.inputs {
        let bound = bind_input(feature, schema, params, &mut binding.notes)
            .map_err(|error| side_by_side(error, function, schema))?;
        binding.inputs.push(bound);
    }
    for name in params.keys() {
        let taken = |input: &BoundInput| !input.param.is_null() && input.feature.name == *name;
        if !binding.inputs.iter().any(taken) {
            let known: Vec<_> = function.inputs.iter().map(|input| input.name.as_str()).collect();
            return Err(Error::config(format!(
                "input.params.{name}: the model has no such parameter; its inputs are {}",
                known.join(", ")
            )));
        }
    }
    Ok(binding)
}

fn bind_input(
    feature: &InputFeature,
    schema: &Schema,
    params: &BTreeMap<String, serde_json::Value>,
    notes: &mut Vec<String>,
) -> Result<BoundInput> {
    let bound = |columns, param| BoundInput {
        feature: feature.clone(),
        columns,
        param,
    };
    // A parameter of the job overrides whatever the model's shape suggests.
    if let Some(value) = params.get(&feature.name) {
        return Ok(bound(vec![], value.clone()));
    }
    let columns = match &feature.source {
        Source::Param => {
            return Err(Error::config(format!(
                "the model's input {} is one value for all rows, and the job gives none",
                feature.name
            ))
            .with_hint(format!("set input.params.{}", feature.name)));
        }
        Source::Optional(otherwise) => return Ok(bound(vec![], otherwise.clone())),
        Source::Column(name) => {
            let column = find_column(schema, name)?.ok_or_else(|| missing(name, schema))?;
            vec![column]
        }
        Source::Columns(names) => {
            let mut columns = Vec::with_capacity(names.len());
            for name in names {
                columns.push(find_column(schema, name)?.ok_or_else(|| missing(name, schema))?);
            }
            columns
        }
        Source::NumericColumns => numeric_columns(feature, schema, notes)?,
        Source::RowHash => {
            return Ok(bound(
                (0..schema.fields().len()).collect(),
                serde_json::Value::Null,
            ));
        }
    };
    for &column in &columns {
        check_type(feature, schema.field(column))?;
    }
    Ok(bound(columns, serde_json::Value::Null))
}

fn numeric_columns(feature: &InputFeature, schema: &Schema, notes: &mut Vec<String>) -> Result<Vec<usize>> {
    // A list column of the input's own name is the clearest claim of all.
    if let Some(column) = find_column(schema, &feature.name)? {
        return Ok(vec![column]);
    }
    let numeric: Vec<usize> = (0..schema.fields().len())
        .filter(|&index| is_numeric(schema.field(index).data_type()))
        .collect();
    let names: Vec<_> = numeric
        .iter()
        .map(|&index| schema.field(index).name().as_str())
        .collect();
    let width = match feature.shape.as_slice() {
        [] => 1,
        [Dim::Fixed(width)] => *width,
        _ => 0,
    };
    if width > 0 && width == numeric.len() {
        notes.push(format!(
            "nothing names the columns of the model's input {}: taking the {width} numeric columns in their order: {}",
            feature.name,
            names.join(", ")
        ));
        return Ok(numeric);
    }
    let wanted = if width > 0 {
        format!("{width} columns")
    } else {
        "columns".to_string()
    };
    Err(Error::data(format!(
        "the model's input {} takes {wanted}, nothing names them, and the input has {} numeric columns",
        feature.name,
        numeric.len()
    ))
    .with_hint(format!(
        "name them in order, either in the model card (floe.yaml: functions.<name>.inputs.{}.columns) \
         or in the ONNX metadata key feature_names (a JSON array)",
        feature.name
    )))
}

fn missing(name: &str, schema: &Schema) -> Error {
    let nearest = schema
        .fields()
        .iter()
        .map(|field| {
            let similarity = strsim::jaro_winkler(&field.name().to_lowercase(), &name.to_lowercase());
            (similarity, field.name())
        })
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let error = Error::data("the input has no such column").with("column", name);
    match nearest {
        Some((similarity, near)) if similarity > 0.8 => error.with_hint(format!("the nearest is {near}")),
        _ => error,
    }
}

/// Whether a column of this type is a number in its own right (booleans are not).
fn is_numeric(data_type: &DataType) -> bool {
    data_type.is_numeric()
}

fn check_type(feature: &InputFeature, field: &Field) -> Result<()> {
    if accepts(feature.dtype, field.data_type()) {
        return Ok(());
    }
    Err(Error::data(format!(
        "a column of type {} can't feed the model's input {} of type {}",
        field.data_type(),
        feature.name,
        feature.dtype.as_str()
    ))
    .with("column", field.name())
    .with_hint("see the table of conversions in docs/types.md"))
}

/// Whether a column type can feed a dtype at all (values are checked when they are read).
///
/// The conversions themselves, value by value, are in `decode`; `docs/types.md` is the written table.
pub fn accepts(dtype: DType, data_type: &DataType) -> bool {
    use DataType as D;
    match data_type {
        D::List(item) | D::LargeList(item) | D::FixedSizeList(item, _) => accepts(dtype, item.data_type()),
        D::Dictionary(_, value) => accepts(dtype, value),
        D::Utf8 | D::LargeUtf8 | D::Utf8View => dtype == DType::String,
        D::Binary | D::LargeBinary | D::BinaryView | D::FixedSizeBinary(_) => dtype == DType::Bytes,
        D::Boolean => dtype == DType::Bool || dtype.is_numeric(),
        D::Null => true,
        D::Int8 | D::Int16 | D::Int32 | D::Int64 => dtype.is_numeric(),
        D::UInt8 | D::UInt16 | D::UInt32 | D::UInt64 => dtype.is_numeric(),
        D::Float16 | D::Float32 | D::Float64 => dtype.is_numeric(),
        D::Decimal32(..) | D::Decimal64(..) | D::Decimal128(..) | D::Decimal256(..) => dtype.is_numeric(),
        D::Date32 => matches!(dtype, DType::I32 | DType::I64),
        D::Date64 | D::Timestamp(..) => dtype == DType::I64,
        _ => false,
    }
}

fn side_by_side(error: Error, function: &Function, schema: &Schema) -> Error {
    let wants: Vec<_> = function.inputs.iter().map(describe_input).collect();
    let has: Vec<_> = schema
        .fields()
        .iter()
        .map(|field| format!("{} {}", field.name(), field.data_type()))
        .collect();
    let lists = format!(
        "function {} wants: {}; the input has: {}",
        function.name,
        wants.join(", "),
        shorten(has)
    );
    match error.hint() {
        Some(hint) => {
            let hint = format!("{hint}; {lists}");
            error.with_hint(hint)
        }
        None => error.with_hint(lists),
    }
}

fn shorten(mut names: Vec<String>) -> String {
    const SHOWN: usize = 40;
    let more = names.len().saturating_sub(SHOWN);
    names.truncate(SHOWN);
    let mut text = names.join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::tests::function;
    use super::*;

    fn schema(columns: &[(&str, DataType)]) -> Schema {
        let fields = columns
            .iter()
            .map(|(name, data_type)| Field::new(*name, data_type.clone(), true));
        Schema::new(fields.collect::<Vec<_>>())
    }

    #[test]
    fn exact_names_win_over_names_in_another_case() {
        let schema = schema(&[
            ("A", DataType::Int64),
            ("a", DataType::Int64),
            ("B", DataType::Int64),
        ]);
        assert_eq!(find_column(&schema, "a").unwrap(), Some(1));
        assert_eq!(find_column(&schema, "b").unwrap(), Some(2));
        assert_eq!(find_column(&schema, "c").unwrap(), None);
    }

    /// Failure matrix: 29.
    #[test]
    fn ambiguous_names_are_refused() {
        let schema = schema(&[("Ab", DataType::Int64), ("AB", DataType::Int64)]);
        let error = find_column(&schema, "ab").unwrap_err();
        assert!(error.to_string().contains("Ab, AB"), "{error}");
    }

    #[test]
    fn numeric_columns_are_taken_only_when_the_count_matches() {
        let schema = schema(&[
            ("id", DataType::Utf8),
            ("a", DataType::Float64),
            ("b", DataType::Int32),
        ]);
        let two = function(Source::NumericColumns, &[Dim::Fixed(2)]);
        let binding = bind(&two, &schema, &BTreeMap::new()).unwrap();
        assert_eq!(binding.inputs[0].columns, [1, 2]);
        assert_eq!(binding.notes.len(), 1);
        let three = function(Source::NumericColumns, &[Dim::Fixed(3)]);
        let error = bind(&three, &schema, &BTreeMap::new()).unwrap_err().to_string();
        assert!(
            error.contains("floe.yaml") && error.contains("feature_names"),
            "{error}"
        );
    }

    /// Failure matrix: 54.
    #[test]
    fn a_missing_column_is_named_with_its_nearest_and_both_lists() {
        let schema = schema(&[("dep_dealy", DataType::Float64)]);
        let one = function(Source::Columns(vec!["dep_delay".into()]), &[Dim::Fixed(1)]);
        let error = bind(&one, &schema, &BTreeMap::new()).unwrap_err().to_string();
        assert!(
            error.contains("column dep_delay") && error.contains("the nearest is dep_dealy"),
            "{error}"
        );
        assert!(error.contains("wants: x float32[rows, 1]"), "{error}");
    }

    #[test]
    fn a_param_feeds_the_input_of_its_name_and_unknown_params_are_refused() {
        let schema = schema(&[("a", DataType::Float64)]);
        let optional = function(Source::Optional(7.into()), &[]);
        let bound = |params: &BTreeMap<String, serde_json::Value>| {
            bind(&optional, &schema, params).unwrap().inputs[0].clone()
        };
        let given = BTreeMap::from([(optional.inputs[0].name.clone(), serde_json::json!(3))]);
        assert_eq!(bound(&BTreeMap::new()).param, serde_json::json!(7));
        assert_eq!(bound(&given).param, serde_json::json!(3));
        let scalar = function(Source::Param, &[]);
        let params = BTreeMap::from([("x".to_string(), serde_json::json!(0.5))]);
        assert_eq!(bind(&scalar, &schema, &params).unwrap().inputs[0].param, 0.5);
        let error = bind(&scalar, &schema, &BTreeMap::new()).unwrap_err();
        assert!(error.to_string().contains("set input.params.x"), "{error}");
        let params = BTreeMap::from([
            ("x".to_string(), serde_json::json!(0.5)),
            ("y".to_string(), serde_json::json!(1)),
        ]);
        let error = bind(&scalar, &schema, &params).unwrap_err();
        assert!(error.to_string().contains("input.params.y"), "{error}");
    }

    #[test]
    fn a_string_column_cannot_feed_a_number() {
        let schema = schema(&[("x", DataType::Utf8)]);
        let one = function(Source::Column("x".into()), &[]);
        let error = bind(&one, &schema, &BTreeMap::new()).unwrap_err().to_string();
        assert!(error.contains("type Utf8 can't feed"), "{error}");
    }
}
