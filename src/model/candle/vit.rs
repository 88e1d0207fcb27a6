//! ViT, and DeiT with its second token. After `transformers/models/{vit,deit}/modeling_*.py`.

use candle_core::Tensor;

use super::ops::{Dense, Norm};
use super::patches::{self, Layers, Patches, Size, VIT, prepend, token};
use super::weights::Weights;
use super::{Family, Inputs, Settings};
use crate::error::Result;
use crate::model::pretrained::Task;

/// The network of a `config.json` of ViT or DeiT.
pub fn open(settings: &Settings, weights: Weights, name: &str) -> Result<Box<dyn Family>> {
    let size = Size::of(settings, 1e-12)?;
    let hidden = size.hidden;
    let network = weights.network(name);
    let embeddings = network.at("embeddings");
    let one = |name| embeddings.tensor(name, &[1, 1, hidden]);
    let mut before = vec![one("cls_token")?];
    if name == "deit" {
        before.push(one("distillation_token")?);
    }
    let positions = patches::count(settings, 224, 16)? + before.len();
    let labels = settings.labels();
    let classify = settings.task() == Task::ImageClassification;
    let head = |name| -> Result<Option<Dense>> {
        Ok(match classify && weights.at(name).has("weight") {
            true => Some(weights.dense(name, hidden, labels)?),
            false => None,
        })
    };
    let heads = match (head("cls_classifier")?, head("distillation_classifier")?) {
        (Some(first), Some(second)) => vec![first, second],
        _ if classify => vec![weights.dense("classifier", hidden, labels)?],
        _ => vec![],
    };
    let pooler = match !classify && network.has("pooler.dense.weight") {
        true => Some(network.dense("pooler.dense", hidden, hidden)?),
        false => None,
    };
    Ok(Box::new(Vit {
        before,
        patches: Patches::load(&embeddings, "patch_embeddings.projection", settings, hidden, 16)?,
        positions: embeddings.tensor("position_embeddings", &[1, positions, hidden])?,
        layers: Layers::load(&network.at("encoder.layer"), &size, &VIT)?,
        norm: network.norm("layernorm", hidden, size.eps)?,
        pooler,
        heads,
    }))
}

struct Vit {
    /// The tokens before the patches.
    before: Vec<Tensor>,
    patches: Patches,
    positions: Tensor,
    layers: Layers,
    norm: Norm,
    pooler: Option<Dense>,
    /// One for each of the first tokens; their average counts. None for features.
    heads: Vec<Dense>,
}

impl Family for Vit {
    fn inputs(&self) -> &'static [&'static str] {
        &["pixel_values"]
    }

    fn forward(&self, inputs: &Inputs) -> candle_core::Result<Vec<(&'static str, Tensor)>> {
        let before: Vec<&Tensor> = self.before.iter().collect();
        let x = prepend(&before, &self.patches.forward(inputs)?)?.broadcast_add(&self.positions)?;
        let x = self.norm.forward(&self.layers.forward(x, None)?)?;
        if let Some((first, others)) = self.heads.split_first() {
            let mut logits = first.forward(&token(&x, 0)?)?;
            for (place, head) in others.iter().enumerate() {
                logits = ((logits + head.forward(&token(&x, place + 1)?)?)? / 2.0)?;
            }
            return Ok(vec![("logits", logits)]);
        }
        let mut outputs = Vec::with_capacity(2);
        if let Some(pooler) = &self.pooler {
            outputs.push(("pooler_output", pooler.forward(&token(&x, 0)?)?.tanh()?));
        }
        outputs.push(("last_hidden_state", x));
        Ok(outputs)
    }
}
