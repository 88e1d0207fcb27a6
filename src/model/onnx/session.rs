//! A worker's ONNX Runtime session: one of its own, or one that it shares.
//!
//! A session runs on the worker's own thread and, if given more, on threads that no other session shares; they
//! sleep when idle instead of spinning, and operators run one after another: cores are the pipeline's to give.
//! Fixed batch sizes are dealt with here: a batch is cut to pieces of that size, and the last one filled up by
//! repeating its last row, since a row of zeros may be one that the model fails on.

use bytes::Bytes;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::session::{
    HasSelectedOutputs, OutputSelector, RunOptions, Session, SessionInputValue, SessionOutputs,
};
use ort::value::DynValue;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::api::Shared;
use super::graph::Kind;
use super::providers::Providers;
use super::runtime::Runtime;
use super::scaler::Scaler;
use super::values;
use super::zipmap::Zip;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::tensor::{Tensor, TensorBatch, TensorData, Value};

/// Longest text of ONNX Runtime that an error repeats: it may quote whole shapes and names of the model.
const MAX_CAUSE_CHARS: usize = 500;

/// What sessions of one function share.
#[derive(Clone, Debug, PartialEq)]
pub struct Program {
    /// The path of the model file.
    pub file: String,
    /// Location and path of the model file, for messages.
    pub label: String,
    /// Inputs in the function's order.
    pub inputs: Vec<Slot>,
    /// The outputs wanted, in the function's order.
    pub outputs: Vec<Output>,
    /// The one batch size that the model takes, if it takes only one.
    pub fixed_batch_rows: Option<usize>,
}

/// One input of a [`Program`].
#[derive(Clone, Debug, PartialEq)]
pub struct Slot {
    /// The model's name for it.
    pub name: String,
    /// How many axes it declares, the batch included.
    pub axes: usize,
    /// It is the same for all rows.
    pub is_param: bool,
    /// What is done to it here, before the model gets it.
    pub scaler: Option<Scaler>,
}

/// One output of a [`Program`].
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// The model's name for it.
    pub name: String,
    /// It is made here, from another output.
    pub zip: Option<Zip>,
}

impl Output {
    /// What ONNX Runtime is asked for.
    pub fn asked(&self) -> &str {
        self.zip.as_ref().map_or(&self.name, |zip| &zip.tensor)
    }
}

/// Makes a session of the model `bytes` that uses `threads` cores.
///
/// # Errors
/// `Model`, when ONNX Runtime refuses the model.
pub fn commit(
    runtime: &Runtime,
    providers: &Providers,
    label: &str,
    bytes: &Bytes,
    threads: usize,
) -> Result<Session> {
    let refused = |cause: ort::Error| {
        Error::model(format!(
            "ONNX Runtime {} doesn't accept the model: {}",
            runtime.version,
            shortened(&cause)
        ))
        .with("model", label)
        .with_hint("check the model in Python: onnx.checker.check_model(onnx.load(path), full_check=True)")
    };
    let builder = builder(runtime, threads).map_err(refused)?;
    let builder = providers.apply(builder, runtime, threads);
    let mut builder = builder.map_err(|cause| match providers.are_on_gpus() {
        true => Error::config(format!(
            "model.device: cuda can't be had: ONNX Runtime's provider doesn't start: {}",
            shortened(&cause)
        ))
        .with_hint("floe inspect tells driver, devices and libraries; or set model.device to cpu"),
        false => refused(cause),
    })?;
    builder.commit_from_memory(bytes).map_err(refused)
}

fn builder(runtime: &Runtime, threads: usize) -> ort::Result<SessionBuilder> {
    let builder = Session::builder(&runtime.environment)?
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_intra_threads(threads.max(1))?
        .with_inter_threads(1)?
        .with_parallel_execution(false)?
        .with_intra_op_spinning(false)?
        .with_inter_op_spinning(false)?
        // A plan of memory is kept for every number of rows ever seen, and the last batch of each unit has its own.
        .with_memory_pattern(false)?
        // Weights stay packed (`session.disable_prepacking` is not set): without it calls with narrow layers are some
        // percent faster, but the bits of a row depend on how many rows lie beside it.
        // Bytes that look like ONNX Runtime's own format are not to be read as such: nobody checked them.
        .with_config_entry("session.load_model_format", "ONNX")?
        // Weights are made once and stay: in the arena, which grows in powers of two, they would cost up to twice.
        .with_device_allocated_initializers()?;
    Ok(builder)
}

/// A session with the function that it runs.
pub struct OnnxSession {
    session: Session,
    program: Arc<Program>,
    options: RunOptions<HasSelectedOutputs>,
}

impl Program {
    /// The model's own outputs that are asked for, each once.
    pub fn asked(&self) -> Vec<&str> {
        let mut asked: Vec<&str> = self.outputs.iter().map(Output::asked).collect();
        asked.sort_unstable();
        asked.dedup();
        asked
    }

    /// `inputs` as the rest of the model wants them.
    pub fn scaled<'a>(&self, inputs: &'a [Cow<'_, Tensor>]) -> Result<Vec<Cow<'a, Tensor>>> {
        let each = self.inputs.iter().zip(inputs);
        each.map(|(slot, tensor)| match &slot.scaler {
            Some(scaler) => scaler.apply(tensor).map(Cow::Owned),
            None => Ok(Cow::Borrowed(tensor.as_ref())),
        })
        .collect()
    }

    /// `inputs` as ONNX Runtime's values, in the order of the slots.
    fn values<'a>(&self, inputs: &'a [Cow<'_, Tensor>]) -> Result<Vec<SessionInputValue<'a>>> {
        let each = self.inputs.iter().zip(inputs);
        each.map(|(slot, tensor)| values::to_input(&slot.name, slot.axes, tensor))
            .collect()
    }

    /// What a session that fails on `inputs` says.
    pub fn failed(&self, cause: &ort::Error, inputs: &[Cow<'_, Tensor>], rows: usize) -> Error {
        Error::model(format!(
            "the model fails on a batch of {rows} rows: {}; it was given {}",
            shortened(cause),
            shapes(self, inputs)
        ))
        .with("model", &self.label)
    }
}

impl OnnxSession {
    /// `session` as a worker of `program`.
    ///
    /// # Errors
    /// `Model`, when ONNX Runtime has no memory left for a handful of options.
    pub fn new(session: Session, program: Arc<Program>) -> Result<OnnxSession> {
        let asked = program.asked().into_iter();
        let selector = asked.fold(OutputSelector::no_default(), |selector, name| selector.with(name));
        let options =
            RunOptions::new().map_err(|cause| Error::model("ONNX Runtime failed").with_source(cause))?;
        Ok(OnnxSession {
            session,
            options: options.with_outputs(selector),
            program,
        })
    }

    /// What ONNX Runtime inferred for the output `name`.
    pub fn inferred(&self, name: &str) -> Kind {
        let outputs = self.session.outputs().iter();
        let found = outputs.into_iter().find(|output| output.name() == name);
        found.map_or(Kind::Undeclared, |output| values::kind(output.dtype()))
    }

    /// The session alone.
    pub fn into_session(self) -> Session {
        self.session
    }

    /// Runs `rows` rows at once. The outputs are the session's until they are read with [`take_all`].
    ///
    /// # Errors
    /// `Model`, when the model fails on them; `Data`, when a string can't be handed over.
    pub fn call(&mut self, inputs: &[Cow<'_, Tensor>], rows: usize) -> Result<SessionOutputs<'_>> {
        let program = &self.program;
        let names = program.inputs.iter().map(|slot| Cow::from(&slot.name));
        let scaled = program.scaled(inputs)?;
        let values: Vec<(Cow<'_, str>, SessionInputValue<'_>)> =
            names.zip(program.values(&scaled)?).collect();
        self.session
            .run_with_options(values, &self.options)
            .map_err(|cause| program.failed(&cause, inputs, rows))
    }
}

/// A worker of a session that others run too.
pub struct SharedSession {
    session: Arc<Shared>,
    program: Arc<Program>,
}

impl SharedSession {
    /// Makes `session` one that workers of `program` can share.
    ///
    /// # Errors
    /// `Model`, for a name that C can't hold.
    pub fn share(session: Session, program: &Program) -> Result<Shared> {
        let inputs = program.inputs.iter().map(|slot| slot.name.as_str());
        Shared::new(session, inputs, program.asked()).map_err(|cause| {
            Error::model("an input or output of the model has a NUL character in its name")
                .with_source(cause)
                .with("model", &program.label)
        })
    }

    /// A worker of `program`, which `session` was shared for.
    pub fn new(session: Arc<Shared>, program: Arc<Program>) -> SharedSession {
        SharedSession { session, program }
    }
}

impl Model for OnnxSession {
    fn infer(&mut self, batch: &TensorBatch) -> Result<Vec<Value>> {
        let program = Arc::clone(&self.program);
        infer(&program, batch, |inputs, rows| {
            take_all(&program, &self.call(inputs, rows)?, rows)
        })
    }
}

impl Model for SharedSession {
    fn infer(&mut self, batch: &TensorBatch) -> Result<Vec<Value>> {
        let program = &self.program;
        let asked = program.asked();
        infer(program, batch, |inputs, rows| {
            let scaled = program.scaled(inputs)?;
            let outputs = self.session.run(&program.values(&scaled)?);
            let outputs = outputs.map_err(|cause| program.failed(&cause, inputs, rows))?;
            let named: BTreeMap<&str, &DynValue> = asked.iter().copied().zip(&outputs).collect();
            take(program, |name| named.get(name).copied(), rows)
        })
    }
}

/// Runs a batch through `run`, whole or in pieces of the one size that the model takes.
///
/// # Errors
/// `Internal`, for a batch of other inputs than the program's; what `run` fails with.
pub fn infer(
    program: &Program,
    batch: &TensorBatch,
    mut run: impl FnMut(&[Cow<'_, Tensor>], usize) -> Result<Vec<Value>>,
) -> Result<Vec<Value>> {
    if batch.inputs.len() != program.inputs.len() || batch.rows == 0 {
        return Err(Error::internal(format!(
            "a batch of {} rows with {} tensors reached a model of {} inputs",
            batch.rows,
            batch.inputs.len(),
            program.inputs.len()
        )));
    }
    let step = program.fixed_batch_rows.unwrap_or(batch.rows);
    if step == batch.rows {
        let whole: Vec<_> = batch.inputs.iter().map(Cow::Borrowed).collect();
        return run(&whole, batch.rows);
    }
    let mut all: Option<Vec<Value>> = None;
    for start in (0..batch.rows).step_by(step) {
        let length = step.min(batch.rows - start);
        let piece: Vec<Cow<'_, Tensor>> = std::iter::zip(&program.inputs, &batch.inputs)
            .map(|(slot, tensor)| match slot.is_param {
                true => Cow::Borrowed(tensor),
                false => Cow::Owned(filled_up(tensor.slice_rows(start, length), step)),
            })
            .collect();
        let values = run(&piece, step)?
            .into_iter()
            .map(|value| value.truncate_rows(length));
        match &mut all {
            None => all = Some(values.collect()),
            Some(all) => {
                for (value, more) in all.iter_mut().zip(values) {
                    value.append(more)?;
                }
            }
        }
    }
    Ok(all.unwrap_or_default())
}
/// Every output of `program` as a value of `rows` rows.
pub fn take_all(program: &Program, outputs: &SessionOutputs, rows: usize) -> Result<Vec<Value>> {
    take(program, |name| outputs.get(name), rows)
}

/// The same of outputs by the names that ONNX Runtime was asked for.
pub fn take<'a>(
    program: &Program,
    named: impl Fn(&str) -> Option<&'a DynValue>,
    rows: usize,
) -> Result<Vec<Value>> {
    let mut values = Vec::with_capacity(program.outputs.len());
    for output in &program.outputs {
        let name = output.asked();
        let value =
            named(name).ok_or_else(|| Error::model(format!("the model returned no output {name}")))?;
        let value = match &output.zip {
            None => values::from_output(name, value, rows),
            Some(zip) => values::from_scores(zip, value, rows),
        };
        values.push(value.map_err(|error| error.with("model", &program.label))?);
    }
    Ok(values)
}

/// `tensor` with `rows` rows, its last one repeated.
fn filled_up(mut tensor: Tensor, rows: usize) -> Tensor {
    let missing = rows - tensor.rows();
    if missing > 0 {
        let width = tensor.row_len();
        let last = (tensor.rows() - 1) * width;
        repeat_tail(&mut tensor.data, last, width, missing);
        tensor.shape[0] = rows;
    }
    tensor
}

fn repeat_tail(data: &mut TensorData, start: usize, width: usize, times: usize) {
    let last = data.slice(start, width);
    for _ in 0..times {
        data.append(last.clone())
            .expect("a slice has the dtype of what it was cut from");
    }
}

/// `X float32[2, 4], k int64[]`
fn shapes(program: &Program, inputs: &[Cow<'_, Tensor>]) -> String {
    let one = |(slot, tensor): (&Slot, &Cow<'_, Tensor>)| {
        format!("{} {}{:?}", slot.name, tensor.dtype().as_str(), tensor.shape)
    };
    program
        .inputs
        .iter()
        .zip(inputs)
        .map(one)
        .collect::<Vec<_>>()
        .join(", ")
}

/// ONNX Runtime's text on one line, and not too long.
fn shortened(cause: &ort::Error) -> String {
    let line: String = cause.message().split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MAX_CAUSE_CHARS) {
        Some((cut, _)) => format!("{}…", &line[..cut]),
        None => line,
    }
}
