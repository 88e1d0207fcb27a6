//! A trial run: what a model really returns, learned from rows of zeros and empty strings before any data is read.
//!
//! Declared output shapes are often missing and sometimes wrong, and the columns of the output must be known before
//! the first byte is read. Two runs with different numbers of rows also show outputs that don't keep one row
//! per row. A model that can't run on zeros, or needs parameters that only the job knows, keeps what it declares;
//! every real batch is checked anyway.

use std::borrow::Cow;

use super::describe::{Inputs, Wanted, declared_output};
use super::graph::Kind;
use super::session::{OnnxSession, Program, take_all};
use crate::error::{Error, Result};
use crate::signature::{Dim, InputFeature, OutputFeature, OutputKind, Source, display_shape};
use crate::tensor::{Maps, Tensor, TensorData, Value};

/// Numbers of rows of the two runs: different, and neither likely to be an extent of the model's own.
const ROWS: [usize; 2] = [2, MOST_ROWS];
/// Most rows of a trial run, unless the model takes another number only.
pub const MOST_ROWS: usize = 3;

/// Most inputs without a declared shape that are told apart by trying.
const MAX_UNRANKED: usize = 3;

/// Tells which of the inputs without a declared shape are parameters: the ways to feed the model are tried in turn,
/// beginning with a value per row for each, and the first that runs is taken. `attempt` runs the model on zeros.
pub fn settle(inputs: Inputs, mut attempt: impl FnMut(&Inputs) -> Result<bool>) -> Result<Inputs> {
    let unranked = &inputs.unranked;
    if unranked.is_empty() {
        return Ok(inputs);
    }
    let names = |positions: &[usize]| {
        let names = positions
            .iter()
            .map(|&position| inputs.features[position].name.as_str());
        names.collect::<Vec<_>>().join(", ")
    };
    let ways = if unranked.len() <= MAX_UNRANKED {
        1 << unranked.len()
    } else {
        1
    };
    for way in 0..ways {
        let (mut rows, mut params) = (Vec::new(), Vec::new());
        for (bit, &position) in unranked.iter().enumerate() {
            let side = if way & (1 << bit) == 0 {
                &mut rows
            } else {
                &mut params
            };
            side.push(position);
        }
        let mut tried = inputs.with_parameters(&params);
        let any_row = tried.features.iter().any(|input| input.source != Source::Param);
        if any_row && attempt(&tried)? {
            for (positions, what) in [
                (rows, "a value per row"),
                (params, "one value for all rows, a parameter"),
            ] {
                if !positions.is_empty() {
                    let names = names(&positions);
                    tried.notes.push(format!(
                        "the model declares no shape for its input {names}: it runs with {what}"
                    ));
                }
            }
            return Ok(tried);
        }
    }
    let note = format!(
        "the model declares no shape for its input {}: taken as a value per row",
        names(unranked)
    );
    let mut inputs = inputs;
    inputs.notes.push(note);
    Ok(inputs)
}

/// Whether `session` runs on rows of zeros, with zeros as parameters, and keeps one row per row.
pub fn can_run(session: &mut OnnxSession, program: &Program, inputs: &Inputs) -> bool {
    rows_to_try(inputs).into_iter().all(|rows| {
        let zeros: Vec<Tensor> = inputs.features.iter().map(|input| zeros(input, rows)).collect();
        let zeros: Vec<Cow<'_, Tensor>> = zeros.iter().map(Cow::Borrowed).collect();
        let outputs = session.call(&zeros, rows);
        outputs.is_ok_and(|outputs| take_all(program, &outputs, rows).is_ok())
    })
}

/// What a trial run taught.
pub struct Learned {
    /// The outputs in the order they are wanted, before post-processing.
    pub outputs: Vec<OutputFeature>,
    /// What was inferred, and what the declarations had wrong.
    pub notes: Vec<String>,
}

/// Runs `session` on rows of zeros.
///
/// # Errors
/// `Model`, when the model returns another number of rows than it was given, or what no column can hold.
pub fn run(
    session: &mut OnnxSession,
    program: &Program,
    inputs: &Inputs,
    wanted: &[Wanted],
) -> Result<Learned> {
    let mut declared: Vec<OutputFeature> = Vec::with_capacity(wanted.len());
    for output in wanted {
        declared.push(match output.declared {
            Kind::Undeclared => declared_output(&Wanted {
                declared: session.inferred(&output.name),
                ..output.clone()
            })?,
            _ => declared_output(output)?,
        });
    }
    let as_declared = |why: String| Learned {
        outputs: declared.clone(),
        notes: vec![why],
    };
    let params: Vec<&str> = inputs
        .features
        .iter()
        .filter(|input| input.source == Source::Param)
        .map(|input| input.name.as_str())
        .collect();
    if !params.is_empty() {
        return Ok(as_declared(format!(
            "the outputs are as the model declares them: it was not tried, since only the job knows {}",
            params.join(", ")
        )));
    }
    let all_rows = rows_to_try(inputs);
    let mut seen: Vec<Vec<Value>> = Vec::with_capacity(all_rows.len());
    for &rows in &all_rows {
        let zeros: Vec<Tensor> = inputs.features.iter().map(|input| zeros(input, rows)).collect();
        let zeros: Vec<Cow<'_, Tensor>> = zeros.iter().map(Cow::Borrowed).collect();
        match session.call(&zeros, rows) {
            Ok(outputs) => seen.push(take_all(program, &outputs, rows)?),
            Err(error) if is_out_of_memory(&error) => {
                return Err(error.with_hint(
                    "that was a trial on a few rows of zeros: the model takes more memory than there is",
                ));
            }
            Err(error) => {
                return Ok(as_declared(format!(
                    "the outputs are as the model declares them, since it can't run on rows of zeros: {}",
                    error.message()
                )));
            }
        }
    }
    let open_input = inputs
        .features
        .iter()
        .any(|input| input.shape.contains(&Dim::Dynamic));
    let mut notes = Vec::new();
    let mut outputs = Vec::with_capacity(wanted.len());
    for (index, (wanted, declared)) in wanted.iter().zip(declared).enumerate() {
        let values: Vec<&Value> = seen.iter().map(|values| &values[index]).collect();
        outputs.push(
            learn(wanted, declared, &values, open_input, &mut notes)
                .map_err(|error| error.with("model", &program.label))?,
        );
    }
    Ok(Learned { outputs, notes })
}

/// ONNX Runtime has no error code of its own for it.
fn is_out_of_memory(error: &Error) -> bool {
    ["Failed to allocate memory", "bad_alloc"]
        .iter()
        .any(|words| error.message().contains(words))
}

fn rows_to_try(inputs: &Inputs) -> Vec<usize> {
    inputs.fixed_batch_rows.map_or(ROWS.to_vec(), |rows| vec![rows])
}

/// `rows` rows of zeros for `input`, or a parameter of zeros; open axes get the extent 1.
fn zeros(input: &InputFeature, rows: usize) -> Tensor {
    let open_as_one = |dim: &Dim| match dim {
        Dim::Fixed(extent) => *extent,
        Dim::Dynamic => 1,
    };
    let batch = (input.source != Source::Param).then_some(rows);
    let shape: Vec<usize> = batch
        .into_iter()
        .chain(input.shape.iter().map(open_as_one))
        .collect();
    let data = TensorData::zeros(input.dtype, shape.iter().product());
    Tensor { shape, data }
}

/// The output as seen. `values` are of one output, from runs with different numbers of rows.
fn learn(
    wanted: &Wanted,
    declared: OutputFeature,
    values: &[&Value],
    open_input: bool,
    notes: &mut Vec<String>,
) -> Result<OutputFeature> {
    let mut output = declared;
    let mut seen: Option<&[usize]> = None;
    for value in values {
        match value {
            Value::Maps(Maps { keys, values, .. }) => {
                output.kind = OutputKind::Map { key: keys.dtype() };
                output.dtype = values.dtype();
                output.shape = vec![];
            }
            Value::Tensor(tensor) => {
                output.kind = OutputKind::Tensor;
                output.dtype = tensor.dtype();
                let row = &tensor.shape[1..];
                if let Some(before) = seen.filter(|before| *before != row) {
                    return Err(Error::model(format!(
                        "the shape of a row of the model's output {} depends on the number of rows: {before:?} and {row:?} \
                         for {} and {} rows",
                        wanted.name, ROWS[0], ROWS[1]
                    ))
                    .with_hint("an output must have one row per row of input; leave this one out with a model card (outputs: [...])"));
                }
                seen = Some(row);
            }
            Value::Lists(_) => return Err(Error::internal("ONNX Runtime returns no lists")),
        }
    }
    let Some(row) = seen else {
        return Ok(output);
    };
    let declares = match &wanted.declared {
        Kind::Tensor {
            shape: Some(shape), ..
        } => Some(shape),
        _ => None,
    };
    // An axis that is open in an input and in the output may follow it; else what was seen is what comes.
    let stays_open = |axis: usize| {
        open_input
            && declares.is_none_or(|shape| shape.len() != row.len() + 1 || shape[axis + 1] == Dim::Dynamic)
    };
    output.shape = row
        .iter()
        .enumerate()
        .map(|(axis, &extent)| {
            if stays_open(axis) {
                Dim::Dynamic
            } else {
                Dim::Fixed(extent)
            }
        })
        .collect();
    if let Some(shape) = declares
        && !agrees(shape, row, values[0].rows())
    {
        notes.push(format!(
            "the model's output {} is declared as {} and returned as {}: going by what it returns",
            wanted.name,
            display_shape(shape, false),
            display_shape(&output.shape, true)
        ));
    }
    Ok(output)
}

fn agrees(declared: &[Dim], row: &[usize], rows: usize) -> bool {
    let Some((first, rest)) = declared.split_first() else {
        return false;
    };
    let fits = |(dim, extent): (&Dim, &usize)| matches!(dim, Dim::Dynamic) || *dim == Dim::Fixed(*extent);
    fits((first, &rows)) && rest.len() == row.len() && rest.iter().zip(row).all(fits)
}
