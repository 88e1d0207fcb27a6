//! DINOv2. After `transformers/models/dinov2/modeling_dinov2.py`.

use candle_core::Tensor;

use super::ops::{Dense, Norm};
use super::patches::{self, Layers, Names, Patches, Size, mean_from, prepend, token};
use super::weights::Weights;
use super::{Family, Inputs, Settings};
use crate::error::{Error, Result};
use crate::model::pretrained::Task;

const NAMES: Names = Names {
    norm_before: "norm1",
    norm_after: "norm2",
    up: "mlp.fc1",
    down: "mlp.fc2",
    scales: Some(["layer_scale1.lambda1", "layer_scale2.lambda1"]),
    ..patches::VIT
};

/// The network of a `config.json` of DINOv2.
pub fn open(settings: &Settings, weights: Weights) -> Result<Box<dyn Family>> {
    if settings.flag_or("use_swiglu_ffn", false) {
        return Err(Error::model(
            "config.json says use_swiglu_ffn, which Floe has no code for in DINOv2",
        ));
    }
    let mut size = Size::of(settings, 1e-6)?;
    size.intermediate = size.hidden * settings.size_or("mlp_ratio", 4)?;
    let hidden = size.hidden;
    let network = weights.network("dinov2");
    let embeddings = network.at("embeddings");
    let positions = patches::count(settings, 224, 14)? + 1;
    Ok(Box::new(Dinov2 {
        first: embeddings.tensor("cls_token", &[1, 1, hidden])?,
        patches: Patches::load(&embeddings, "patch_embeddings.projection", settings, hidden, 14)?,
        positions: embeddings.tensor("position_embeddings", &[1, positions, hidden])?,
        layers: Layers::load(&network.at("encoder.layer"), &size, &NAMES)?,
        norm: network.norm("layernorm", hidden, size.eps)?,
        head: match settings.task() == Task::ImageClassification {
            true => Some(weights.dense("classifier", 2 * hidden, settings.labels())?),
            false => None,
        },
    }))
}

struct Dinov2 {
    first: Tensor,
    patches: Patches,
    positions: Tensor,
    layers: Layers,
    norm: Norm,
    head: Option<Dense>,
}

impl Family for Dinov2 {
    fn inputs(&self) -> &'static [&'static str] {
        &["pixel_values"]
    }

    fn forward(&self, inputs: &Inputs) -> candle_core::Result<Vec<(&'static str, Tensor)>> {
        let x = prepend(&[&self.first], &self.patches.forward(inputs)?)?.broadcast_add(&self.positions)?;
        let x = self.norm.forward(&self.layers.forward(x, None)?)?;
        let first = token(&x, 0)?;
        Ok(match &self.head {
            Some(head) => {
                let both = Tensor::cat(&[first, mean_from(&x, 1)?], 1)?;
                vec![("logits", head.forward(&both)?)]
            }
            None => vec![("last_hidden_state", x), ("pooler_output", first)],
        })
    }
}
