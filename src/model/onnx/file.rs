//! A model file and the sessions that are made of it.
//!
//! What ONNX Runtime is given is the file without what is computed here: `ZipMap` nodes and scaling in front of inputs. The
//! session of the trial run is kept until a worker takes it; workers of a large model share one, those on GPUs take turns.

use bytes::Bytes;
use ort::session::Session;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::api::Shared;
use super::describe;
use super::graph::{self, Facts};
use super::in_turn::{self, Taken};
use super::providers::Providers;
use super::runtime::Runtime;
use super::scaler::{self, Scaler};
use super::session::{self, Output, Program, SharedSession, Slot};
use super::zipmap::{self, Unzipped, Zip};
use crate::error::Result;
use crate::model::device::turns::Turns;
use crate::model::isa::Isa;
use crate::signature::{InputFeature, Source};

/// From this size of the file on, workers share a session.
pub const SHARED_FROM_BYTES: usize = 4 << 20;

/// Larger files are not looked at for dense layers that are computed here.
const DENSE_UP_TO_BYTES: usize = 4 << 20;

/// A model file.
pub struct ModelFile {
    /// Location and path, for messages.
    pub label: String,
    /// What ONNX Runtime is given: the file, or the file without its `ZipMap` nodes and without the scaling of inputs.
    pub bytes: Bytes,
    zips: Vec<Zip>,
    scalers: Vec<Scaler>,
    pub facts: Facts,
    /// The single-threaded session of the trial run, until a worker takes it.
    spare: Mutex<Option<Session>>,
    /// By the function's name: the session that all its workers run.
    pub shared: Mutex<BTreeMap<String, Arc<Shared>>>,
    /// By the function's name: the sessions on GPUs that all its workers take turns at.
    turns: Mutex<BTreeMap<String, Arc<Turns<Taken>>>>,
}

impl ModelFile {
    pub fn new(label: String, bytes: &Bytes) -> Result<ModelFile> {
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
    pub fn may_be_dense(&self) -> bool {
        self.bytes.len() <= DENSE_UP_TO_BYTES && Isa::best().has_fma()
    }

    /// The function at `path` that takes `inputs` and gives what is `wanted`.
    pub fn program(
        &self,
        path: &str,
        inputs: &describe::Inputs,
        wanted: &[describe::Wanted],
    ) -> Arc<Program> {
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
    pub fn scaler_of(&self, input: &str) -> Option<Scaler> {
        self.scalers.iter().find(|scaler| scaler.input == input).cloned()
    }

    fn output(&self, name: &str) -> Output {
        Output {
            name: name.to_string(),
            zip: self.zips.iter().find(|zip| zip.output == name).cloned(),
        }
    }

    pub fn session(&self, runtime: &Runtime, providers: &Providers, threads: usize) -> Result<Session> {
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
    pub fn is_shared(&self, providers: &Providers, threads: usize) -> bool {
        threads <= 1 && providers.is_empty() && self.bytes.len() >= SHARED_FROM_BYTES
    }

    /// The one session of `function`. Whoever comes first makes it; the others wait.
    pub fn shared(&self, runtime: &Runtime, function: &str, program: &Program) -> Result<Arc<Shared>> {
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
    pub fn turns(
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

    pub fn put_back(&self, session: Session) {
        *self.spare.lock().unwrap_or_else(PoisonError::into_inner) = Some(session);
    }
}

fn is_param(input: &InputFeature) -> bool {
    input.source == Source::Param
}
