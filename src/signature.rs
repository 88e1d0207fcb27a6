//! What a model takes and gives, and how that meets the columns of the input.
//!
//! A backend describes each function of a model as a [`Function`]: named inputs and outputs with dtype, shape
//! per row and, for inputs, where the values come from. [`bind`] matches a function against an Arrow schema
//! before the first byte of data is read, and answers with the columns to read or with both lists side by side.
//!
//! Columns are matched by name, exactly first, then ignoring case; never by position.

use arrow::datatypes::{DataType, Field, Schema};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

use crate::error::{Error, Result};
use crate::tensor::DType;

/// Extent of one axis of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dim {
    /// Known before any data is seen.
    Fixed(usize),
    /// Known only from the data.
    Dynamic,
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dim::Fixed(extent) => write!(f, "{extent}"),
            Dim::Dynamic => f.write_str("?"),
        }
    }
}

/// What to do with a null in a column that feeds a model input.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub enum OnNull {
    /// End the job, naming file, row group, row and column.
    #[default]
    Fail,
    /// Not-a-number; only for floating-point inputs.
    Nan,
    /// This value.
    Fill(f64),
}

/// Where the values of a model input come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// One column. Its rows have the input's shape per row: a scalar, or a list for `[rows, k, ...]`.
    Column(String),
    /// One scalar column per element of the row, in this order: `[rows, columns]`.
    Columns(Vec<String>),
    /// Nothing names the columns: all numeric columns of the input, if they are as many as the row is wide.
    NumericColumns,
    /// One value for all rows, from `input.params` under the input's own name.
    Param,
    /// The same, or this value when the job gives none. Never null.
    Optional(serde_json::Value),
    /// A 64-bit hash of the whole row, every column included (the echo model).
    RowHash,
}

impl Source {
    /// Whether it is one value for all rows by the model's nature.
    pub fn is_param(&self) -> bool {
        matches!(self, Source::Param | Source::Optional(_))
    }
}

/// One input of a function.
#[derive(Clone, Debug, PartialEq)]
pub struct InputFeature {
    /// The model's own name for it.
    pub name: String,
    /// Element type the model wants.
    pub dtype: DType,
    /// Shape of one row, that is without the batch axis; for a parameter the whole shape.
    pub shape: Vec<Dim>,
    /// Where the values come from.
    pub source: Source,
    /// The model card's policy for nulls; `None` leaves it to the job.
    pub on_null: Option<OnNull>,
    /// Each number is multiplied by `scale`, then `offset` is added; `(1, 0)` when the card says nothing.
    pub affine: (f64, f64),
}

/// What sort of values an output has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputKind {
    /// Tensor of `[rows, ...]`.
    Tensor,
    /// One map per row from keys of `key` to numbers (ONNX `ZipMap`).
    Map {
        /// int64 or string
        key: DType,
    },
    /// One list per row, of any length, of tensors of the output's shape.
    List,
    /// One list per row, of any length, of records.
    Records {
        /// Name and element type of each field.
        fields: &'static [(&'static str, DType)],
    },
}

/// One output of a function.
#[derive(Clone, Debug, PartialEq)]
pub struct OutputFeature {
    /// The model's own name for it.
    pub name: String,
    /// Name of the output column.
    pub column: String,
    /// Element type (of the map's values for [`OutputKind::Map`]).
    pub dtype: DType,
    /// Shape of one row (of one item for [`OutputKind::List`]) as declared or, better, as seen in a trial run.
    pub shape: Vec<Dim>,
    /// Tensor, maps or lists.
    pub kind: OutputKind,
}

/// One function (method) of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Function {
    /// As the user calls it, e.g. `predict`.
    pub name: String,
    /// Inputs, in the model's order.
    pub inputs: Vec<InputFeature>,
    /// Outputs that become columns, in the model's order.
    pub outputs: Vec<OutputFeature>,
    /// The one batch size the model accepts, if it accepts only one.
    pub fixed_batch_rows: Option<usize>,
}

impl Function {
    /// The same function, fed by other columns: `columns` names them by the names that it would look for itself.
    ///
    /// # Errors
    /// `Config`, for a name that no column goes by here.
    pub fn fed_by(mut self, columns: &BTreeMap<String, String>) -> Result<Function> {
        let unchanged = self.clone();
        for (name, column) in columns {
            let mut is_known = false;
            for (input, before) in self.inputs.iter_mut().zip(&unchanged.inputs) {
                let folded = name.to_lowercase();
                let is_meant = |known: &String| known.to_lowercase() == folded;
                match (&mut input.source, &before.source) {
                    (Source::Column(fed), Source::Column(known))
                        if is_meant(known) || is_meant(&before.name) =>
                    {
                        fed.clone_from(column);
                        is_known = true;
                    }
                    (Source::Columns(fed), Source::Columns(known)) => {
                        for (fed, _) in fed.iter_mut().zip(known).filter(|(_, known)| is_meant(known)) {
                            fed.clone_from(column);
                            is_known = true;
                        }
                    }
                    _ => {}
                }
            }
            if !is_known {
                return Err(unchanged.takes_no(name));
            }
        }
        Ok(self)
    }

    fn takes_no(&self, name: &str) -> Error {
        let columns = self.inputs.iter().flat_map(|input| match &input.source {
            Source::Column(column) => std::slice::from_ref(column),
            Source::Columns(columns) => columns,
            _ => &[],
        });
        let columns: Vec<&str> = columns.map(String::as_str).collect();
        let takes = match columns.as_slice() {
            [] => "no column by name".to_string(),
            columns => columns.join(", "),
        };
        Error::config(format!(
            "input.columns.{name}: the function {} takes no such column; it takes {takes}",
            self.name
        ))
    }
}

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

/// `name dtype[shape] from columns`, for messages and `floe inspect`.
pub fn describe_input(feature: &InputFeature) -> String {
    let from = match &feature.source {
        Source::Column(name) if *name == feature.name => String::new(),
        Source::Column(name) => format!(" from column {name}"),
        Source::Columns(names) => format!(" from columns {}", names.join(" ")),
        Source::NumericColumns => " from all numeric columns".to_string(),
        Source::Param => " from input.params".to_string(),
        Source::Optional(otherwise) => format!(" from input.params, by default {otherwise}"),
        Source::RowHash => " from a hash of the row".to_string(),
    };
    let axes = display_shape(&feature.shape, !feature.source.is_param());
    format!("{} {}{axes}{from}", feature.name, feature.dtype.as_str())
}

/// `[rows, 3, ?]`
pub fn display_shape(shape: &[Dim], with_rows: bool) -> String {
    let rows = with_rows.then(|| "rows".to_string());
    let axes: Vec<String> = rows.into_iter().chain(shape.iter().map(Dim::to_string)).collect();
    format!("[{}]", axes.join(", "))
}

impl Serialize for Dim {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Dim::Fixed(extent) => serializer.serialize_u64(*extent as u64),
            Dim::Dynamic => serializer.serialize_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(columns: &[(&str, DataType)]) -> Schema {
        let fields = columns
            .iter()
            .map(|(name, data_type)| Field::new(*name, data_type.clone(), true));
        Schema::new(fields.collect::<Vec<_>>())
    }

    fn function(source: Source, shape: &[Dim]) -> Function {
        Function {
            name: "predict".into(),
            inputs: vec![InputFeature {
                name: "x".into(),
                dtype: DType::F32,
                shape: shape.to_vec(),
                source,
                on_null: None,
                affine: (1.0, 0.0),
            }],
            outputs: vec![],
            fixed_batch_rows: None,
        }
    }

    #[test]
    fn columns_of_other_names_feed_a_function_when_the_job_says_so() {
        let named = |names: &[(&str, &str)]| -> BTreeMap<String, String> {
            let pairs = names.iter();
            pairs
                .map(|(name, column)| (name.to_string(), column.to_string()))
                .collect()
        };
        let one = function(Source::Column("sentence".into()), &[]);
        for name in ["sentence", "SENTENCE", "x"] {
            let fed = one.clone().fed_by(&named(&[(name, "review")])).unwrap();
            assert_eq!(fed.inputs[0].source, Source::Column("review".into()), "{name}");
        }
        // Two columns may change places.
        let several = function(Source::Columns(vec!["a".into(), "b".into()]), &[Dim::Fixed(2)]);
        let fed = several.fed_by(&named(&[("a", "b"), ("B", "a")])).unwrap();
        assert_eq!(
            fed.inputs[0].source,
            Source::Columns(vec!["b".into(), "a".into()])
        );
        let error = one.fed_by(&named(&[("text", "review")])).unwrap_err();
        assert_eq!(error.kind(), crate::error::ErrorKind::Config);
        assert_eq!(
            error.to_string(),
            "input.columns.text: the function predict takes no such column; it takes sentence"
        );
        let hashed = function(Source::RowHash, &[]);
        let error = hashed.fed_by(&named(&[("text", "review")])).unwrap_err();
        assert!(
            error.to_string().ends_with("it takes no column by name"),
            "{error}"
        );
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
