//! What a network of images ends in: scores of labels, made of one vector per image; where nobody asks for labels, that
//! vector and what it was made of.
//!
//! Families say which vector it is (the average of all pixels or the greatest ones, the first token) and what the layer
//! is called.

use candle_core::Tensor;

use super::Settings;
use super::ops::Dense;
use super::weights::Weights;
use crate::error::Result;
use crate::model::pretrained::Task;

/// The layer of the labels, where the task is to tell them.
pub struct ImageHead(Option<Dense>);

impl ImageHead {
    /// The layer `name` below `weights`, for vectors of `width` numbers.
    pub fn load(weights: &Weights, name: &str, settings: &Settings, width: usize) -> Result<ImageHead> {
        Ok(ImageHead(match settings.task() == Task::ImageClassification {
            true => Some(weights.dense(name, width, settings.labels())?),
            false => None,
        }))
    }

    /// What comes out for `x`, whose vectors per image are `pooled`.
    pub fn outputs(&self, x: Tensor, pooled: Tensor) -> candle_core::Result<Vec<(&'static str, Tensor)>> {
        Ok(match &self.0 {
            Some(layer) => vec![("logits", layer.forward(&pooled)?)],
            None => vec![("last_hidden_state", x), ("pooler_output", pooled)],
        })
    }
}
