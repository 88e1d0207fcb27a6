//! An exported graph as a [`Network`]: tensors in and out by the names that the export gave them.
//!
//! The graph is judged like any ONNX file, then run by sessions that are made like any other: one per worker, or one that
//! all share where the weights are large.

use std::sync::Arc;

use super::file::ModelFile;
use super::gpus;
use super::graph::Kind;
use super::in_turn::InTurn;
use super::providers::Providers;
use super::runtime::Runtime;
use super::session::{OnnxSession, Output, Program, SharedSession, Slot};
use crate::error::{Error, Result};
use crate::model::folder::label;
use crate::model::network::{Named, Network, Networks};
use crate::model::{Model, ModelFiles, OpenOptions};
use crate::tensor::{TensorBatch, Value};

/// What sessions that several workers run are known by.
const FUNCTION: &str = "network";

struct OnnxNetworks {
    runtime: Runtime,
    providers: Providers,
    file: ModelFile,
    inputs: Vec<String>,
    program: Arc<Program>,
}

/// The graph at `path` among `files`.
///
/// # Errors
/// `Model`, for a file that is no ONNX model, fails a check or is refused by ONNX Runtime, and for a graph that gives other
/// things than tensors; `Config`, for an execution provider that can't be had.
pub fn open(files: &ModelFiles, path: &str, options: &OpenOptions) -> Result<Arc<dyn Networks>> {
    let label = label(&files.location, path);
    let bytes = files
        .files
        .get(path)
        .ok_or_else(|| Error::model("the graph is missing").with("model", &label))?;
    let file = ModelFile::new(label, bytes)?;
    let slot = |declared: &super::graph::Declared| match &declared.kind {
        Kind::Tensor {
            shape: Some(shape), ..
        } => Ok(Slot {
            name: declared.name.clone(),
            axes: shape.len(),
            is_param: false,
            scaler: file.scaler_of(&declared.name),
        }),
        _ => Err(Error::model(format!(
            "the graph's input {} is no tensor with a number of axes",
            declared.name
        ))
        .with("model", &file.label)),
    };
    let program = Program {
        file: path.to_string(),
        label: file.label.clone(),
        inputs: file.facts.inputs.iter().map(slot).collect::<Result<_>>()?,
        outputs: file
            .facts
            .outputs
            .iter()
            .map(|declared| Output {
                name: declared.name.clone(),
                zip: None,
            })
            .collect(),
        fixed_batch_rows: None,
    };
    let (runtime, providers) = gpus::load(options)?;
    Ok(Arc::new(OnnxNetworks {
        providers,
        runtime,
        file,
        inputs: program.inputs.iter().map(|slot| slot.name.clone()).collect(),
        program: Arc::new(program),
    }))
}

impl Networks for OnnxNetworks {
    fn describe(&self) -> String {
        format!(
            "onnx (ONNX Runtime {}{})",
            self.runtime.version,
            self.providers.describe()
        )
    }

    fn is_on_gpus(&self) -> bool {
        self.providers.are_on_gpus()
    }

    fn inputs(&self) -> &[String] {
        &self.inputs
    }

    fn network(self: Arc<Self>, threads: usize) -> Result<Box<dyn Network>> {
        let program = Arc::clone(&self.program);
        let session: Box<dyn Model> = match self.file.is_shared(&self.providers, threads) {
            _ if self.providers.are_on_gpus() => {
                let turns = self
                    .file
                    .turns(&self.runtime, &self.providers, FUNCTION, &program)?;
                Box::new(InTurn::new(turns, program))
            }
            true => {
                let shared = self.file.shared(&self.runtime, FUNCTION, &program)?;
                Box::new(SharedSession::new(shared, program))
            }
            false => {
                let session = self.file.session(&self.runtime, &self.providers, threads)?;
                Box::new(OnnxSession::new(session, program)?)
            }
        };
        Ok(Box::new(OnnxNetwork {
            session,
            program: Arc::clone(&self.program),
        }))
    }
}

struct OnnxNetwork {
    session: Box<dyn Model>,
    program: Arc<Program>,
}

impl Network for OnnxNetwork {
    fn run(&mut self, inputs: Vec<Named>) -> Result<Vec<Named>> {
        let program = &self.program;
        let rows = inputs.first().map_or(0, |input| input.tensor.rows());
        let mut given: Vec<Option<Named>> = inputs.into_iter().map(Some).collect();
        let mut take = |slot: &Slot| {
            let named =
                |input: &&mut Option<Named>| input.as_ref().is_some_and(|input| input.name == slot.name);
            let found = given.iter_mut().find(named).and_then(Option::take);
            found
                .map(|input| input.tensor)
                .ok_or_else(|| Error::internal(format!("the graph's input {} was not given", slot.name)))
        };
        let inputs = program.inputs.iter().map(&mut take).collect::<Result<_>>()?;
        let values = self.session.infer(&TensorBatch { rows, inputs })?;
        std::iter::zip(&program.outputs, values)
            .map(|(output, value)| match value {
                Value::Tensor(tensor) => Ok(Named {
                    name: output.name.clone(),
                    tensor,
                }),
                _ => Err(
                    Error::model(format!("the graph's output {} is no tensor", output.name))
                        .with("model", &program.label),
                ),
            })
            .collect()
    }
}
