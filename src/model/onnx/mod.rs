//! ONNX models, run by ONNX Runtime.
//!
//! ```text
//! files ─▶ card ─▶ graph: read and judge ─▶ describe: inputs, outputs ─▶ session ─▶ trial: what really comes out
//!                                                                          └─▶ sessions of the workers
//! ```
//!
//! Everything that can be known without ONNX Runtime is [`known`] before it is loaded. The session of the trial run is not
//! thrown away: its [file](mod@file) keeps it, and the first worker gets it. Workers of a large model share it, see [`api::Shared`].

use std::collections::BTreeMap;
use std::sync::Arc;

use super::postprocess::{self, Postprocessed, Step};
use super::{Engine, Loaded, Model, ModelFiles, OpenOptions, native};
use crate::config::{Backend, Device};
use crate::error::{Error, Result};
use crate::signature::Function;

mod api;
pub mod describe;
mod file;
mod gpus;
pub mod graph;
mod in_turn;
mod known;
pub mod network;
mod proto;
pub mod providers;
pub mod runtime;
pub(in crate::model) mod scaler;
pub(in crate::model) mod session;
mod size;
mod tensors;
#[cfg(test)]
mod tests;
mod trees;
mod trial;
mod values;
mod walk;
mod wire;
pub(in crate::model) mod zipmap;

use self::file::ModelFile;
use self::in_turn::InTurn;
use self::known::{Known, KnownFunction};
use self::providers::Providers;
use self::runtime::Runtime;
use self::session::{OnnxSession, Program, SharedSession};

/// A model folder or file, opened.
pub struct OnnxModel {
    runtime: Runtime,
    providers: Providers,
    /// By the path of the model file.
    files: BTreeMap<String, ModelFile>,
    backend: Option<Backend>,
    functions: Vec<Function>,
    /// One per function.
    parts: Vec<Part>,
    digest: String,
    notes: Vec<String>,
}

struct Part {
    program: Arc<Program>,
    steps: Vec<Step>,
    /// The same without ONNX Runtime, for a graph of trees or dense layers that agrees with it.
    native: Option<Arc<native::Program>>,
}

impl OnnxModel {
    /// Opens the model in `files`.
    ///
    /// # Errors
    /// `Model`, for files that are no ONNX model or fail a check, for a card that does not fit, for a library that
    /// can't be found or loaded, and for a model that ONNX Runtime refuses.
    pub fn open(files: &ModelFiles, options: &OpenOptions) -> Result<OnnxModel> {
        let opened = OnnxModel::open_on(files, options);
        match opened {
            // Nobody asked for GPUs: where they are of no use, the model is as good without.
            Err(Unopened::OfNoUse(why)) if options.device == Device::Auto && options.gpus.count.is_none() => {
                tracing::info!(model = %files.location, "the model runs on the processor: {why}");
                let options = OpenOptions {
                    device: Device::Cpu,
                    ..options.clone()
                };
                OnnxModel::open_on(files, &options).map_err(Unopened::into_error)
            }
            opened => opened.map_err(Unopened::into_error),
        }
    }

    fn open_on(files: &ModelFiles, options: &OpenOptions) -> std::result::Result<OnnxModel, Unopened> {
        let known = Known::of(files, options)?;
        let options = OpenOptions {
            device: known.device(options),
            ..options.clone()
        };
        let (runtime, providers) = gpus::load(&options)?;
        let mut model = OnnxModel {
            providers,
            runtime,
            files: known.files,
            backend: options.backend,
            functions: Vec::with_capacity(known.functions.len()),
            parts: Vec::with_capacity(known.functions.len()),
            digest: known.digest,
            notes: Vec::new(),
        };
        for function in known.functions {
            model.add_function(function)?;
        }
        Ok(model)
    }

    fn add_function(&mut self, function: KnownFunction) -> std::result::Result<(), Unopened> {
        let KnownFunction {
            name,
            path,
            inputs,
            wanted,
        } = function;
        let file = &self.files[&path];
        let inputs = trial::settle(inputs, |inputs| {
            let program = file.program(&path, inputs, &wanted);
            let mut session = OnnxSession::new(
                file.session(&self.runtime, &self.providers, 1)?,
                Arc::clone(&program),
            )?;
            let runs = trial::can_run(&mut session, &program, inputs);
            file.put_back(session.into_session());
            Ok(runs)
        })?;
        let program = file.program(&path, &inputs, &wanted);
        let mut session = OnnxSession::new(
            file.session(&self.runtime, &self.providers, 1)?,
            Arc::clone(&program),
        )?;
        let learned = trial::run(&mut session, &program, &inputs, &wanted)?;
        let (native, note) = self.without_onnxruntime(file, &program, &inputs, &mut session)?;
        let session = session.into_session();
        let left_over = self
            .providers
            .left_over(&session)
            .map_err(|error| Unopened::OfNoUse(error.with("model", &file.label)))?;
        file.put_back(session);

        let mut steps = Vec::with_capacity(wanted.len());
        let mut outputs = Vec::with_capacity(wanted.len());
        for (wanted, output) in wanted.iter().zip(learned.outputs) {
            let (step, columns) =
                postprocess::plan(&wanted.card, output).map_err(|error| error.with("model", &file.label))?;
            steps.push(step);
            outputs.extend(columns);
        }
        let notes = inputs.notes.into_iter().chain(learned.notes);
        for note in notes.chain(left_over).chain(note) {
            if !self.notes.contains(&note) {
                self.notes.push(note);
            }
        }
        self.functions.push(Function {
            name,
            inputs: inputs.features,
            outputs,
            fixed_batch_rows: inputs.fixed_batch_rows,
        });
        self.parts.push(Part {
            program,
            steps,
            native,
        });
        Ok(())
    }

    /// The function run by Floe itself, if it is one of trees or of dense layers and gives what ONNX Runtime gives; and what
    /// to say of it.
    fn without_onnxruntime(
        &self,
        file: &ModelFile,
        program: &Arc<Program>,
        inputs: &describe::Inputs,
        session: &mut OnnxSession,
    ) -> Result<(Option<Arc<native::Program>>, Option<String>)> {
        let is_wanted = self.backend == Some(Backend::Trees);
        let has_trees = file.facts.has_tree_ensemble;
        // Who names execution providers has chosen ONNX Runtime.
        let is_possible =
            self.backend.is_none() && self.providers.is_empty() && (has_trees || file.may_be_dense());
        if !is_wanted && !is_possible {
            return Ok((None, None));
        }
        let found = native::cover(&file.bytes, program, &inputs.features).and_then(|covered| {
            match is_wanted && covered.engine() != Engine::Trees {
                true => Err("it has no trees".to_string()),
                false => Ok(covered),
            }
        });
        if !is_wanted && !has_trees && found.is_err() {
            // Like most models.
            return Ok((None, None));
        }
        let what = if has_trees { "trees" } else { "dense layers" };
        let found = found
            .and_then(|covered| native::trial::held_against(covered, &inputs.features, &file.label, session));
        match found {
            Ok(covered) => Ok((
                Some(Arc::new(covered)),
                Some(format!(
                    "the model is {what}, which Floe runs itself: on {} trial rows it agrees with ONNX Runtime",
                    native::trial::ROWS
                )),
            )),
            Err(why) if is_wanted => Err(Error::model(format!(
                "model.backend: trees can't run this model: {why}"
            ))
            .with("model", &file.label)
            .with_hint("leave model.backend out, or set it to onnx")),
            Err(why) => Ok((
                None,
                Some(format!("the model's {what} are run by ONNX Runtime: {why}")),
            )),
        }
    }
    fn part(&self, function: &Function) -> Option<&Part> {
        let known = self
            .functions
            .iter()
            .position(|known| known.name == function.name)?;
        self.parts.get(known)
    }
}

/// Why a model could not be opened.
enum Unopened {
    /// A provider has nothing to do in it.
    OfNoUse(Error),
    Failed(Error),
}

impl Unopened {
    fn into_error(self) -> Error {
        match self {
            Unopened::OfNoUse(error) | Unopened::Failed(error) => error,
        }
    }
}

impl From<Error> for Unopened {
    fn from(error: Error) -> Unopened {
        Unopened::Failed(error)
    }
}

impl Loaded for OnnxModel {
    fn describe(&self) -> String {
        format!(
            "onnx (ONNX Runtime {}{})",
            self.runtime.version,
            self.providers.describe()
        )
    }

    fn providers(&self) -> Vec<String> {
        providers::report(&self.runtime)
    }

    fn functions(&self) -> &[Function] {
        &self.functions
    }

    fn digest(&self) -> &str {
        &self.digest
    }

    fn notes(&self) -> &[String] {
        &self.notes
    }

    fn is_on_gpus(&self) -> bool {
        self.providers.are_on_gpus()
    }

    fn rows_are_independent(&self, function: &Function) -> bool {
        self.part(function)
            .is_none_or(|part| !self.files[&part.program.file].facts.quantises_by_batch)
    }

    fn engines(&self, function: &Function) -> Vec<Engine> {
        match self.part(function) {
            Some(Part { native: Some(_), .. }) if self.backend == Some(Backend::Trees) => vec![Engine::Trees],
            Some(Part {
                native: Some(native), ..
            }) => vec![native.engine(), Engine::OnnxRuntime],
            _ => vec![Engine::OnnxRuntime],
        }
    }

    fn worker(&self, function: &Function, threads: usize) -> Result<Box<dyn Model>> {
        self.worker_on(function, threads, self.engines(function)[0])
    }

    fn worker_on(&self, function: &Function, threads: usize, engine: Engine) -> Result<Box<dyn Model>> {
        let Some(Part {
            program,
            steps,
            native,
        }) = self.part(function)
        else {
            return Err(Error::internal(format!(
                "the model has no function {}",
                function.name
            )));
        };
        let file = &self.files[&program.file];
        // The bytes of a unit must not depend on the machine: trees are summed in an order that follows the threads.
        let threads = if file.facts.has_tree_ensemble { 1 } else { threads };
        let inner: Box<dyn Model> = match (engine, native) {
            (engine, Some(native)) if engine == native.engine() => {
                Box::new(native::NativeWorker::new(Arc::clone(native), file.label.clone()))
            }
            (Engine::OnnxRuntime, _) if self.providers.are_on_gpus() => {
                let turns = file.turns(&self.runtime, &self.providers, &function.name, program)?;
                Box::new(InTurn::new(turns, Arc::clone(program)))
            }
            (Engine::OnnxRuntime, _) if file.is_shared(&self.providers, threads) => {
                let shared = file.shared(&self.runtime, &function.name, program)?;
                Box::new(SharedSession::new(shared, Arc::clone(program)))
            }
            (Engine::OnnxRuntime, _) => {
                let session = file.session(&self.runtime, &self.providers, threads)?;
                Box::new(OnnxSession::new(session, Arc::clone(program))?)
            }
            _ => {
                return Err(Error::internal(format!(
                    "the function {} is not for {engine}",
                    function.name
                )));
            }
        };
        if steps.iter().all(Step::is_nothing) {
            return Ok(inner);
        }
        Ok(Box::new(Postprocessed {
            inner,
            steps: steps.clone(),
        }))
    }
}
