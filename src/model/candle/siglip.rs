//! SigLIP's tower for images. After `transformers/models/siglip/modeling_siglip.py`.

use candle_core::{Module, Tensor};
use candle_nn::{LayerNorm, Linear, ops::softmax_last_dim};

use super::clip::{NAMES, tower};
use super::encoder::Activation;
use super::patches::{self, Layers, Patches, Size};
use super::weights::Weights;
use super::{Family, Inputs, Settings};
use crate::error::{Error, Result};
use crate::model::pretrained::Pretrained;

/// The network of a `config.json` of SigLIP.
pub fn open(pretrained: &Pretrained, weights: Weights) -> Result<Box<dyn Family>> {
    let vision = tower(pretrained, "vision_config", "gelu_pytorch_tanh");
    let settings = Settings::of(&vision);
    let size = Size::of(&settings, 1e-6)?;
    let hidden = size.hidden;
    let network = weights.at("vision_model");
    let embeddings = network.at("embeddings");
    let head = network.at("head");
    let joined = head.at("attention");
    let parts = || -> candle_core::Result<[Linear; 3]> {
        let weight = joined_tensor(&joined, "in_proj_weight", &[3 * hidden, hidden])?;
        let bias = joined_tensor(&joined, "in_proj_bias", &[3 * hidden])?;
        let part = |at: usize| -> candle_core::Result<Linear> {
            let weight = weight.narrow(0, at * hidden, hidden)?.contiguous()?;
            Ok(Linear::new(
                weight,
                Some(bias.narrow(0, at * hidden, hidden)?.contiguous()?),
            ))
        };
        Ok([part(0)?, part(1)?, part(2)?])
    };
    let [query, key, value] = parts()
        .map_err(|cause| Error::model("the head of the image tower can't be read").with_source(cause))?;
    Ok(Box::new(Siglip {
        patches: Patches::load(&embeddings, "patch_embedding", &settings, hidden, 16)?,
        positions: embeddings.tensor(
            "position_embedding.weight",
            &[patches::count(&settings, 224, 16)?, hidden],
        )?,
        layers: Layers::load(&network.at("encoder.layers"), &size, &NAMES)?,
        norm: network.norm("post_layernorm", hidden, size.eps)?,
        pool: Pool {
            probe: head.tensor("probe", &[1, 1, hidden])?,
            query,
            key,
            value,
            output: joined.linear("out_proj", hidden, hidden)?,
            norm: head.norm("layernorm", hidden, size.eps)?,
            up: head.linear("mlp.fc1", hidden, size.intermediate)?,
            down: head.linear("mlp.fc2", size.intermediate, hidden)?,
            activation: size.activation,
            heads: size.heads,
        },
    }))
}

fn joined_tensor(weights: &Weights, name: &str, shape: &[usize]) -> candle_core::Result<Tensor> {
    weights
        .tensor(name, shape)
        .map_err(|error| candle_core::Error::Msg(error.to_string()))
}

/// Attention of one learned token to all patches.
struct Pool {
    probe: Tensor,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    norm: LayerNorm,
    up: Linear,
    down: Linear,
    activation: Activation,
    heads: usize,
}

impl Pool {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let (rows, _, hidden) = x.dims3()?;
        let head = hidden / self.heads;
        let split = |x: Tensor| {
            let tokens = x.dim(1)?;
            x.reshape((rows, tokens, self.heads, head))?
                .transpose(1, 2)?
                .contiguous()
        };
        let probe = self.probe.expand((rows, 1, hidden))?.contiguous()?;
        let query = (split(self.query.forward(&probe)?)? * (head as f64).powf(-0.5))?;
        let scores = query.matmul(&split(self.key.forward(x)?)?.t()?)?;
        let mixed = softmax_last_dim(&scores)?.matmul(&split(self.value.forward(x)?)?)?;
        let mixed = mixed.transpose(1, 2)?.reshape((rows, hidden))?;
        let x = self.output.forward(&mixed)?;
        let wide = self
            .activation
            .apply(&self.up.forward(&self.norm.forward(&x)?)?)?;
        &x + self.down.forward(&wide)?
    }
}

struct Siglip {
    patches: Patches,
    positions: Tensor,
    layers: Layers,
    norm: LayerNorm,
    pool: Pool,
}

impl Family for Siglip {
    fn inputs(&self) -> &'static [&'static str] {
        &["pixel_values"]
    }

    fn forward(&self, inputs: &Inputs) -> candle_core::Result<Vec<(&'static str, Tensor)>> {
        let x = self.patches.forward(inputs)?.broadcast_add(&self.positions)?;
        let x = self.norm.forward(&self.layers.forward(x, None)?)?;
        Ok(vec![("image_embeds", self.pool.forward(&x)?)])
    }
}
