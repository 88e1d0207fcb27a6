//! SigLIP: a tower for texts and one for images. After `transformers/models/siglip/modeling_siglip.py`.

use candle_core::Tensor;
use candle_nn::Embedding;

use super::clip::{NAMES, tower};
use super::encoder::padding_bias;
use super::ops::{Dense, FeedForward, Norm, looked_up, sum, weigh};
use super::patches::{self, Layers, Patches, Size, token};
use super::weights::Weights;
use super::{Family, Inputs, Settings};
use crate::error::{Error, Result};
use crate::model::pretrained::Pretrained;

/// The network of a `config.json` of SigLIP.
pub fn open(pretrained: &Pretrained, weights: Weights) -> Result<Box<dyn Family>> {
    Ok(Box::new(Siglip {
        images: Images::load(pretrained, &weights)?,
        texts: Texts::load(pretrained, &weights)?,
    }))
}

struct Images {
    patches: Patches,
    positions: Tensor,
    layers: Layers,
    norm: Norm,
    pool: Pool,
}

impl Images {
    fn load(pretrained: &Pretrained, weights: &Weights) -> Result<Images> {
        let vision = tower(pretrained, "vision_config", "gelu_pytorch_tanh");
        let settings = Settings::of(&vision);
        let size = Size::of(&settings, 1e-6)?;
        let hidden = size.hidden;
        let network = weights.at("vision_model");
        let embeddings = network.at("embeddings");
        let head = network.at("head");
        let joined = head.at("attention");
        let parts = || -> candle_core::Result<[Dense; 3]> {
            let weight = joined_tensor(&joined, "in_proj_weight", &[3 * hidden, hidden])?;
            let bias = joined_tensor(&joined, "in_proj_bias", &[3 * hidden])?;
            let part = |at: usize| -> candle_core::Result<Dense> {
                let weight = weight.narrow(0, at * hidden, hidden)?.contiguous()?;
                Dense::new(weight, Some(bias.narrow(0, at * hidden, hidden)?.contiguous()?))
            };
            Ok([part(0)?, part(1)?, part(2)?])
        };
        let [query, key, value] = parts()
            .map_err(|cause| Error::model("the head of the image tower can't be read").with_source(cause))?;
        Ok(Images {
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
                output: joined.dense("out_proj", hidden, hidden)?,
                norm: head.norm("layernorm", hidden, size.eps)?,
                feed_forward: FeedForward {
                    up: head.dense("mlp.fc1", hidden, size.intermediate)?,
                    activation: size.activation,
                    gated: false,
                    down: head.dense("mlp.fc2", size.intermediate, hidden)?,
                },
                heads: size.heads,
            },
        })
    }

    fn forward(&self, inputs: &Inputs) -> candle_core::Result<Tensor> {
        let x = self.patches.forward(inputs)?.broadcast_add(&self.positions)?;
        let x = self.norm.forward(&self.layers.forward(x, None)?)?;
        self.pool.forward(&x)
    }
}

fn joined_tensor(weights: &Weights, name: &str, shape: &[usize]) -> candle_core::Result<Tensor> {
    weights
        .tensor(name, shape)
        .map_err(|error| candle_core::Error::Msg(error.to_string()))
}

/// Attention of one learned token to all patches.
struct Pool {
    probe: Tensor,
    query: Dense,
    key: Dense,
    value: Dense,
    output: Dense,
    norm: Norm,
    feed_forward: FeedForward,
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
        let mixed = weigh(
            &query,
            &split(self.key.forward(x)?)?,
            &split(self.value.forward(x)?)?,
            None,
        )?;
        let x = self.output.forward(&mixed.squeeze(1)?)?;
        sum(self.feed_forward.forward(&self.norm.forward(&x)?)?, &x)
    }
}

struct Texts {
    words: Embedding,
    positions: Embedding,
    layers: Layers,
    norm: Norm,
    head: Dense,
}

impl Texts {
    fn load(pretrained: &Pretrained, weights: &Weights) -> Result<Texts> {
        let text = tower(pretrained, "text_config", "gelu_pytorch_tanh");
        let settings = Settings::of(&text);
        let size = Size::of(&settings, 1e-6)?;
        let hidden = size.hidden;
        let network = weights.at("text_model");
        let embeddings = network.at("embeddings");
        let table = |name, entries| embeddings.embedding(name, entries, hidden);
        Ok(Texts {
            words: table("token_embedding", settings.size_or("vocab_size", 32_000)?)?,
            positions: table(
                "position_embedding",
                settings.size_or("max_position_embeddings", 64)?,
            )?,
            layers: Layers::load(&network.at("encoder.layers"), &size, &NAMES)?,
            norm: network.norm("final_layer_norm", hidden, size.eps)?,
            head: network.dense("head", hidden, settings.size_or("projection_size", hidden)?)?,
        })
    }

    /// The last token, filling or not, stands for the text.
    fn forward(&self, inputs: &Inputs) -> candle_core::Result<Tensor> {
        let (ids, (rows, tokens)) = inputs.ids("input_ids")?;
        let places: Vec<i64> = (0..rows).flat_map(|_| 0..tokens as i64).collect();
        let x = looked_up(&[(&self.words, ids), (&self.positions, &places)], (rows, tokens))?;
        let x = self.layers.forward(x, padding_bias(inputs)?.as_ref())?;
        self.head.forward(&self.norm.forward(&token(&x, tokens - 1)?)?)
    }
}

struct Siglip {
    images: Images,
    texts: Texts,
}

impl Family for Siglip {
    fn inputs(&self) -> &'static [&'static str] {
        &["pixel_values", "input_ids", "attention_mask"]
    }

    /// One tower or the other, by what there is.
    fn forward(&self, inputs: &Inputs) -> candle_core::Result<Vec<(&'static str, Tensor)>> {
        Ok(match inputs.find("pixel_values") {
            Ok(_) => vec![("image_embeds", self.images.forward(inputs)?)],
            Err(_) => vec![("text_embeds", self.texts.forward(inputs)?)],
        })
    }
}
