//! A pretrained model, opened: functions over one network, whatever they do with it.
//!
//! What a job asks of any model (names, digest, engines, GPUs) goes by the network, and is the same for tasks of texts, of images and
//! of both. What a task adds is how a worker of one of its functions is made.

use std::sync::Arc;

use super::network::Networks;
use super::{Engine, Loaded, Model};
use crate::error::{Error, Result};
use crate::signature::Function;

/// What makes workers of a model's functions.
pub trait Tasks: Send + Sync {
    /// A worker of the function at `place`, as in [`Loaded::worker`].
    ///
    /// # Errors
    /// `Model`, when a network can't be made.
    fn worker(&self, networks: &Arc<dyn Networks>, place: usize, threads: usize) -> Result<Box<dyn Model>>;

    /// As in [`Loaded::own_batch_rows`], of the function at `place`.
    fn own_batch_rows(&self, _place: usize) -> Option<usize> {
        None
    }
}

/// A model whose functions share a network.
pub struct Opened<T> {
    pub networks: Arc<dyn Networks>,
    pub engine: Engine,
    pub functions: Vec<Function>,
    pub digest: String,
    pub notes: Vec<String>,
    pub tasks: T,
}

impl<T> Opened<T> {
    fn place(&self, function: &Function) -> Option<usize> {
        self.functions.iter().position(|own| own.name == function.name)
    }
}

impl<T: Tasks> Loaded for Opened<T> {
    fn describe(&self) -> String {
        self.networks.describe()
    }

    fn functions(&self) -> &[Function] {
        &self.functions
    }

    fn default_function(&self) -> Option<&Function> {
        self.functions.first()
    }

    fn digest(&self) -> &str {
        &self.digest
    }

    fn notes(&self) -> &[String] {
        &self.notes
    }

    fn is_on_gpus(&self) -> bool {
        self.networks.is_on_gpus()
    }

    fn engines(&self, _function: &Function) -> Vec<Engine> {
        vec![self.engine]
    }

    fn own_batch_rows(&self, function: &Function) -> Option<usize> {
        self.tasks.own_batch_rows(self.place(function)?)
    }

    fn worker(&self, function: &Function, threads: usize) -> Result<Box<dyn Model>> {
        let place = self.place(function);
        let place =
            place.ok_or_else(|| Error::internal(format!("the model has no function {}", function.name)))?;
        self.tasks.worker(&self.networks, place, threads)
    }
}
