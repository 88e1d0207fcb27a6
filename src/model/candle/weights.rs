//! Safetensors: tensors of one file or several shards, made once each, by their names.
//!
//! Names differ by who saved a model: with the name of the network before them (`bert.encoder…`) or without,
//! `LayerNorm.gamma` for `LayerNorm.weight`. [`Weights`] finds them by either.

use candle_core::safetensors::SliceSafetensors;
use candle_core::{DType, Device, Tensor};
use candle_nn::{Embedding, Linear};
use std::collections::BTreeMap;
use std::rc::Rc;

use super::ops::{Dense, Norm};
use crate::error::{Error, Result};
use crate::model::ModelFiles;
use crate::model::pretrained::{self, Pretrained};

/// The files of the weights, opened.
pub struct Checkpoint<'a> {
    shards: Vec<SliceSafetensors<'a>>,
    /// The shard of each tensor.
    places: BTreeMap<String, usize>,
}

impl<'a> Checkpoint<'a> {
    /// Opens the weights of `pretrained`.
    ///
    /// # Errors
    /// `Model`, for files that are missing, damaged or name a tensor twice.
    pub fn open(files: &'a ModelFiles, pretrained: &Pretrained) -> Result<Checkpoint<'a>> {
        let pretrained::Weights::Safetensors(paths) = &pretrained.weights else {
            return Err(Error::internal("Candle reads safetensors only"));
        };
        let mut checkpoint = Checkpoint {
            shards: Vec::with_capacity(paths.len()),
            places: BTreeMap::new(),
        };
        for path in paths {
            let bytes = files
                .files
                .get(path)
                .ok_or_else(|| Error::model("weights are missing").with("file", path))?;
            let shard = SliceSafetensors::new(bytes).map_err(|cause| {
                Error::model("the file is no safetensors, or damaged")
                    .with_source(cause)
                    .with("file", path)
            })?;
            for (name, _) in shard.tensors() {
                if checkpoint
                    .places
                    .insert(name.clone(), checkpoint.shards.len())
                    .is_some()
                {
                    return Err(
                        Error::model(format!("the tensor {name} is in two shards")).with("file", path)
                    );
                }
            }
            checkpoint.shards.push(shard);
        }
        Ok(checkpoint)
    }

    /// Its tensors as `dtype` on `device`.
    pub fn weights(&self, dtype: DType, device: &Device) -> Weights<'_> {
        Weights {
            checkpoint: self,
            device: device.clone(),
            dtype,
            path: Rc::from(""),
        }
    }
}

/// Tensors below a prefix of names.
#[derive(Clone)]
pub struct Weights<'a> {
    checkpoint: &'a Checkpoint<'a>,
    device: Device,
    dtype: DType,
    /// Empty, or ending in a dot.
    path: Rc<str>,
}

impl<'a> Weights<'a> {
    /// Those whose names go on with `part` and a dot.
    pub fn at(&self, part: impl std::fmt::Display) -> Weights<'a> {
        Weights {
            path: format!("{}{part}.", self.path).into(),
            ..self.clone()
        }
    }

    /// Those of the network: below `name` if that is how they were saved, else right here.
    pub fn network(&self, name: &str) -> Weights<'a> {
        let below = format!("{}{name}.", self.path);
        let mut names = self.checkpoint.places.range(below.clone()..);
        match names.next() {
            Some((first, _)) if first.starts_with(&below) => self.at(name),
            _ => self.clone(),
        }
    }

    /// Whether there is a tensor `name`.
    pub fn has(&self, name: &str) -> bool {
        self.checkpoint
            .places
            .contains_key(&format!("{}{name}", self.path))
    }

    /// The tensor `name`, which must have this shape.
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let path = format!("{}{name}", self.path);
        let Some(&shard) = self.checkpoint.places.get(&path) else {
            return Err(Error::model(format!("the weights have no tensor {path}"))
                .with_hint("config.json and the weights must be of the same model"));
        };
        let tensor = self.checkpoint.shards[shard]
            .load(&path, &self.device)
            .and_then(|tensor| tensor.to_dtype(self.dtype))
            .map_err(|cause| Error::model(format!("the tensor {path} can't be read")).with_source(cause))?;
        if tensor.dims() != shape {
            return Err(Error::model(format!(
                "the tensor {path} is of shape {:?}, and config.json makes it {shape:?}",
                tensor.dims()
            )));
        }
        Ok(tensor)
    }

    /// A dense layer: `name.weight` of shape `[outputs, inputs]` and, where there is one, `name.bias`.
    pub fn dense(&self, name: &str, inputs: usize, outputs: usize) -> Result<Dense> {
        let linear = self.linear(name, inputs, outputs)?;
        Dense::new(linear.weight().clone(), linear.bias().cloned()).map_err(no_memory)
    }

    /// A dense layer that was saved as a convolution of single pixels.
    pub fn pointwise(&self, name: &str, inputs: usize, outputs: usize) -> Result<Dense> {
        let here = self.at(name);
        let weight = here.tensor("weight", &[outputs, inputs, 1, 1])?;
        let bias = match here.has("bias") {
            true => Some(here.tensor("bias", &[outputs])?),
            false => None,
        };
        let flat = weight.reshape((outputs, inputs));
        flat.and_then(|weight| Dense::new(weight, bias))
            .map_err(no_memory)
    }

    /// Its weights alone, for those who change them first.
    pub fn linear(&self, name: &str, inputs: usize, outputs: usize) -> Result<Linear> {
        let here = self.at(name);
        let bias = match here.has("bias") {
            true => Some(here.tensor("bias", &[outputs])?),
            false => None,
        };
        Ok(Linear::new(here.tensor("weight", &[outputs, inputs])?, bias))
    }

    /// `name.weight` and `name.bias`, or their older names; without a bias where there is none.
    pub fn norm(&self, name: &str, size: usize, eps: f64) -> Result<Norm> {
        let here = self.at(name);
        let old = here.has("gamma");
        let weight = here.tensor(if old { "gamma" } else { "weight" }, &[size])?;
        let bias = if old { "beta" } else { "bias" };
        // A bias of zeros changes nothing and lets Candle take its fast way.
        let bias = match here.has(bias) {
            true => here.tensor(bias, &[size])?,
            false => weight.zeros_like().map_err(no_memory)?,
        };
        Norm::new(weight, bias, eps).map_err(no_memory)
    }

    /// `name.weight` of shape `[entries, size]`.
    pub fn embedding(&self, name: &str, entries: usize, size: usize) -> Result<Embedding> {
        Ok(Embedding::new(
            self.at(name).tensor("weight", &[entries, size])?,
            size,
        ))
    }
}

fn no_memory(cause: candle_core::Error) -> Error {
    Error::model("no memory for weights").with_source(cause)
}
