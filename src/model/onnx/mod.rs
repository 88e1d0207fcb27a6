//! ONNX models, run by ONNX Runtime.
//!
//! ```text
//! files ─▶ card ─▶ graph: read and judge ─▶ describe: inputs, outputs ─▶ session ─▶ trial: what really comes out
//!                                                                          └─▶ sessions of the workers
//! ```
//!
//! Everything that can be known without ONNX Runtime is known before it is loaded. The session of the trial run is not
//! thrown away: the first worker gets it. Workers of a large model share it, see [`api::Shared`].

use bytes::Bytes;
use ort::session::Session;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::card::{self, Card, FunctionCard};
use super::device::turns::Turns;
use super::folder::{self, DEFAULT_FUNCTION, label, listed};
use super::isa::Isa;
use super::postprocess::{self, Postprocessed, Step};
use super::{Engine, Loaded, Model, ModelFiles, OpenOptions, foreign, native};
use crate::config::{Backend, Device};
use crate::error::{Error, Result};
use crate::signature::Function;

mod api;
pub mod describe;
mod gpus;
pub mod graph;
mod in_turn;
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

use self::api::Shared;
use self::graph::Facts;
use self::in_turn::{InTurn, Taken};
use self::providers::Providers;
use self::runtime::Runtime;
use self::scaler::Scaler;
use self::session::{OnnxSession, Output, Program, SharedSession, Slot};
use self::zipmap::{Unzipped, Zip};

/// From this size of the file on, workers share a session.
const SHARED_FROM_BYTES: usize = 4 << 20;

/// Larger files are not looked at for dense layers that are computed here.
const DENSE_UP_TO_BYTES: usize = 4 << 20;

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

struct ModelFile {
    /// Location and path, for messages.
    label: String,
    /// What ONNX Runtime is given: the file, or the file without its `ZipMap` nodes and without the scaling of inputs.
    bytes: Bytes,
    zips: Vec<Zip>,
    scalers: Vec<Scaler>,
    facts: Facts,
    /// The single-threaded session of the trial run, until a worker takes it.
    spare: Mutex<Option<Session>>,
    /// By the function's name: the session that all its workers run.
    shared: Mutex<BTreeMap<String, Arc<Shared>>>,
    /// By the function's name: the sessions on GPUs that all its workers take turns at.
    turns: Mutex<BTreeMap<String, Arc<Turns<Taken>>>>,
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
        // Everything that needs no library comes first: its errors must not wait for one.
        let described = Described::of(files, options)?;
        let options = OpenOptions {
            device: described.device(options),
            ..options.clone()
        };
        let (runtime, providers) = gpus::load(&options)?;
        let mut model = OnnxModel {
            providers,
            runtime,
            files: described.files,
            backend: options.backend,
            functions: Vec::with_capacity(described.functions.len()),
            parts: Vec::with_capacity(described.functions.len()),
            digest: described.digest,
            notes: Vec::new(),
        };
        for function in described.functions {
            model.add_function(function)?;
        }
        Ok(model)
    }

    fn add_function(&mut self, described: DescribedFunction) -> std::result::Result<(), Unopened> {
        let DescribedFunction {
            name,
            path,
            inputs,
            wanted,
        } = described;
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

/// What is known of a model before ONNX Runtime is loaded.
struct Described {
    /// By the path of the model file.
    files: BTreeMap<String, ModelFile>,
    functions: Vec<DescribedFunction>,
    digest: String,
}

struct DescribedFunction {
    name: String,
    path: String,
    inputs: describe::Inputs,
    wanted: Vec<describe::Wanted>,
}

impl Described {
    fn of(files: &ModelFiles, options: &OpenOptions) -> Result<Described> {
        let card = folder::read_card(files)?;
        let plan = functions_of(files, &card, options)?;
        let mut model_files = BTreeMap::new();
        let mut digested: Vec<(&str, &Bytes)> = Vec::new();
        for (_, _, path) in &plan {
            if !model_files.contains_key(path) {
                let bytes = &files.files[path];
                model_files.insert(path.clone(), ModelFile::new(label(&files.location, path), bytes)?);
                digested.push((path, bytes));
            }
        }
        if let Some(bytes) = files.files.get(card::FILE_NAME) {
            digested.push((card::FILE_NAME, bytes));
        }
        let digest = super::digest(digested);
        let mut functions = Vec::with_capacity(plan.len());
        for (name, card, path) in plan {
            let ModelFile { facts, label, .. } = &model_files[&path];
            let one = describe::inputs(facts, &name, card.as_ref())
                .and_then(|inputs| Ok((inputs, describe::outputs(facts, &name, card.as_ref())?)));
            let (inputs, wanted) = one.map_err(|error| error.with("model", label))?;
            functions.push(DescribedFunction {
                name,
                path,
                inputs,
                wanted,
            });
        }
        Ok(Described {
            files: model_files,
            functions,
            digest,
        })
    }

    /// The device that the job asks for; where it leaves that open, processors for what they are better at: trees, which
    /// only they compute, and small dense networks, which Floe computes in less than their copies to a GPU would take.
    fn device(&self, options: &OpenOptions) -> Device {
        if options.device != Device::Auto || !options.execution_providers.is_empty() {
            return options.device;
        }
        let has_trees = self.files.values().any(|file| file.facts.has_tree_ensemble);
        let is_dense = |function: &DescribedFunction| {
            let file = &self.files[&function.path];
            let program = file.program(&function.path, &function.inputs, &function.wanted);
            file.may_be_dense() && native::cover(&file.bytes, &program, &function.inputs.features).is_ok()
        };
        match has_trees || (options.backend.is_none() && self.functions.iter().all(is_dense)) {
            true => Device::Cpu,
            false => Device::Auto,
        }
    }
}

impl OnnxModel {
    fn part(&self, function: &Function) -> Option<&Part> {
        let known = self
            .functions
            .iter()
            .position(|known| known.name == function.name)?;
        self.parts.get(known)
    }
}

impl ModelFile {
    fn new(label: String, bytes: &Bytes) -> Result<ModelFile> {
        let facts = graph::read(bytes).map_err(|error| error.with("model", &label))?;
        let whole = || Unzipped {
            bytes: bytes.clone(),
            outputs: Vec::new(),
        };
        let unzipped = zipmap::unzip(bytes, &facts).unwrap_or_else(whole);
        let (bytes, scalers) = match scaler::unscale(&unzipped.bytes, &facts) {
            Some(unscaled) => (unscaled.bytes, unscaled.scalers),
            None => (unzipped.bytes, Vec::new()),
        };
        Ok(ModelFile {
            label,
            bytes,
            zips: unzipped.outputs,
            scalers,
            facts,
            spare: Mutex::new(None),
            shared: Mutex::default(),
            turns: Mutex::default(),
        })
    }

    /// Whether it is worth looking for dense layers that are computed here.
    fn may_be_dense(&self) -> bool {
        self.bytes.len() <= DENSE_UP_TO_BYTES && Isa::best().has_fma()
    }

    /// The function at `path` that takes `inputs` and gives what is `wanted`.
    fn program(&self, path: &str, inputs: &describe::Inputs, wanted: &[describe::Wanted]) -> Arc<Program> {
        let slots = inputs.features.iter().map(|input| Slot {
            name: input.name.clone(),
            axes: input.shape.len() + usize::from(!is_param(input)),
            is_param: is_param(input),
            scaler: self.scaler_of(&input.name),
        });
        Arc::new(Program {
            file: path.to_string(),
            label: self.label.clone(),
            inputs: slots.collect(),
            outputs: wanted.iter().map(|output| self.output(&output.name)).collect(),
            fixed_batch_rows: inputs.fixed_batch_rows,
        })
    }

    /// What was taken out of the graph in front of the input, if anything.
    fn scaler_of(&self, input: &str) -> Option<Scaler> {
        self.scalers.iter().find(|scaler| scaler.input == input).cloned()
    }

    fn output(&self, name: &str) -> Output {
        Output {
            name: name.to_string(),
            zip: self.zips.iter().find(|zip| zip.output == name).cloned(),
        }
    }

    fn session(&self, runtime: &Runtime, providers: &Providers, threads: usize) -> Result<Session> {
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).take();
        match spare {
            Some(session) if threads <= 1 => Ok(session),
            // A spare of another width is dropped: its weights would only take memory.
            _ => session::commit(runtime, providers, &self.label, &self.bytes, threads),
        }
    }

    /// Whether workers of one thread each share a session: for the memory of the weights, which each session would
    /// have twice (as they are, and as its kernels want them). Of a small model each has its own: nothing is saved, and
    /// short calls need not meet at the memory arena.
    fn is_shared(&self, providers: &Providers, threads: usize) -> bool {
        threads <= 1 && providers.is_empty() && self.bytes.len() >= SHARED_FROM_BYTES
    }

    /// The one session of `function`. Whoever comes first makes it; the others wait.
    fn shared(&self, runtime: &Runtime, function: &str, program: &Program) -> Result<Arc<Shared>> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(session) = shared.get(function) {
            return Ok(Arc::clone(session));
        }
        let session = self.session(runtime, &Providers::default(), 1)?;
        let session = Arc::new(SharedSession::share(session, program)?);
        shared.insert(function.to_string(), Arc::clone(&session));
        Ok(session)
    }

    /// The sessions of `function` on GPUs, made by whoever comes first.
    fn turns(
        &self,
        runtime: &Runtime,
        providers: &Providers,
        function: &str,
        program: &Arc<Program>,
    ) -> Result<Arc<Turns<Taken>>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = turns.get(function) {
            return Ok(Arc::clone(known));
        }
        // The first is that of the trial run, which is on the first GPU.
        let made = in_turn::sessions(providers, program, |one| self.session(runtime, one, 1))?;
        turns.insert(function.to_string(), Arc::clone(&made));
        Ok(made)
    }

    fn put_back(&self, session: Session) {
        *self.spare.lock().unwrap_or_else(PoisonError::into_inner) = Some(session);
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

fn is_param(input: &crate::signature::InputFeature) -> bool {
    input.source == crate::signature::Source::Param
}

/// Name, card and model file of each function.
fn functions_of(
    files: &ModelFiles,
    card: &Card,
    options: &OpenOptions,
) -> Result<Vec<(String, Option<FunctionCard>, String)>> {
    let models: Vec<&str> = onnx_files(files).collect();
    let named = folder::functions(files, card, &models, || only_model(files, options))?;
    Ok(match named {
        Some(named) => named
            .into_iter()
            .map(|function| (function.name, Some(function.card), function.path))
            .collect(),
        None => vec![(DEFAULT_FUNCTION.to_string(), None, only_model(files, options)?)],
    })
}

fn onnx_files(files: &ModelFiles) -> impl Iterator<Item = &str> {
    files
        .files
        .keys()
        .map(String::as_str)
        .filter(|path| path.to_ascii_lowercase().ends_with(".onnx"))
}

/// The location's only ONNX file.
fn only_model(files: &ModelFiles, options: &OpenOptions) -> Result<String> {
    let models: Vec<&str> = onnx_files(files).collect();
    match models.as_slice() {
        [only] => Ok(only.to_string()),
        [] => no_model(files, options),
        several => Err(folder::choose_one(several)),
    }
}

/// A location without a file named `.onnx`: a single file may still be one; else say what it is instead.
fn no_model(files: &ModelFiles, options: &OpenOptions) -> Result<String> {
    let mut paths = files.files.keys().filter(|path| *path != card::FILE_NAME);
    if let (Some(path), None) = (paths.next(), paths.next()) {
        let format = foreign::by_bytes(&files.files[path]).or_else(|| foreign::by_name(path));
        return match format {
            Some(format) => Err(foreign::refused(format, path)),
            None if options.backend == Some(Backend::Onnx) => Ok(path.clone()),
            None => Err(Error::model(format!("{path} is no model; {}", foreign::READS))
                .with_hint("if it is one, set model.backend to onnx")),
        };
    }
    for (path, bytes) in &files.files {
        if let Some(format) = foreign::by_name(path) {
            // What the bytes say is more exact, but a text file beside a model is nothing to talk about.
            let exact = foreign::by_bytes(bytes).filter(|exact| !exact.is_text());
            return Err(foreign::refused(exact.unwrap_or(format), path));
        }
        if let Some(format) = foreign::by_bytes(bytes).filter(|format| !format.is_text()) {
            return Err(foreign::refused(format, path));
        }
    }
    let all: Vec<&str> = files.files.keys().map(String::as_str).collect();
    Err(Error::model(format!(
        "there is no model here, of: {}; {}",
        listed(&all),
        foreign::READS
    )))
}
