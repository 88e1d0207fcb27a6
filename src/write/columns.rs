//! The columns a model adds: their names and types, decided before work starts, and their values.
//!
//! [`plan`] is called once, with the outputs as seen in a trial run; its answer is pinned, so that every replica
//! writes the same schema. [`to_array`] then turns each value of the model into an array of exactly that type,
//! mostly without a copy, or says what the model gave instead. `docs/types.md` holds the table.

mod arrays;

use arrow::datatypes::*;
use std::collections::BTreeSet;
use std::sync::Arc;

pub use self::arrays::to_array;
use crate::config::OutputOptions;
use crate::error::{Error, Result};
use crate::signature::{Dim, OutputFeature, OutputKind};
use crate::tensor::DType;

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

#[cfg(test)]
mod tests;
