//! What a model takes and gives, and how that meets the columns of the input.
//!
//! A backend describes each function of a model as a [`Function`]: named inputs and outputs with dtype, shape
//! per row and, for inputs, where the values come from. [`bind`](fn@bind) matches a function against an Arrow schema before
//! the first byte of data is read.

use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

use crate::error::{Error, Result};
use crate::tensor::DType;

mod bind;

pub use self::bind::{Binding, BoundInput, accepts, bind, find_column};

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

    /// With one input, `x`.
    pub(super) fn function(source: Source, shape: &[Dim]) -> Function {
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
}
