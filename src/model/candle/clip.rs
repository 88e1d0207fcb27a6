//! CLIP: a tower for texts and one for images, whose vectors lie in one space. After
//! `transformers/models/clip/modeling_clip.py`.

use candle_core::Tensor;
use candle_nn::Embedding;

use super::ops::{Dense, Norm, looked_up};
use super::patches::{self, Layers, Names, Patches, Size, prepend, token};
use super::weights::Weights;
use super::{Family, Inputs, Settings};
use crate::error::Result;
use crate::model::pretrained::Pretrained;

/// The names of a layer's parts, which SigLIP uses as well.
pub const NAMES: Names = Names {
    norm_before: "layer_norm1",
    query: "self_attn.q_proj",
    key: "self_attn.k_proj",
    value: "self_attn.v_proj",
    output: "self_attn.out_proj",
    norm_after: "layer_norm2",
    up: "mlp.fc1",
    down: "mlp.fc2",
    scales: None,
};

/// The network of a `config.json` of CLIP.
pub fn open(pretrained: &Pretrained, weights: Weights) -> Result<Box<dyn Family>> {
    let settings = Settings::of(pretrained);
    let space = settings.size_or("projection_dim", 512)?;
    let (vision, text) = (
        tower(pretrained, "vision_config", "quick_gelu"),
        tower(pretrained, "text_config", "quick_gelu"),
    );
    Ok(Box::new(Clip {
        images: Images::load(
            &Settings::of(&vision),
            &weights.at("vision_model"),
            &weights,
            space,
        )?,
        texts: Texts::load(&Settings::of(&text), &weights.at("text_model"), &weights, space)?,
    }))
}

/// The settings of one tower, which lie in a mapping of their own; with the family's default of `hidden_act`.
pub fn tower(pretrained: &Pretrained, key: &str, activation: &str) -> Pretrained {
    let mut config = pretrained
        .config
        .get(key)
        .and_then(|own| own.as_object())
        .cloned()
        .unwrap_or_default();
    config.entry("hidden_act").or_insert_with(|| activation.into());
    Pretrained {
        config,
        ..pretrained.clone()
    }
}

struct Images {
    first: Tensor,
    patches: Patches,
    positions: Tensor,
    norm_before: Norm,
    layers: Layers,
    norm_after: Norm,
    projection: Dense,
}

impl Images {
    fn load(settings: &Settings, network: &Weights, all: &Weights, space: usize) -> Result<Images> {
        let size = Size::of(settings, 1e-5)?;
        let hidden = size.hidden;
        let embeddings = network.at("embeddings");
        let positions = patches::count(settings, 224, 32)? + 1;
        Ok(Images {
            first: embeddings.tensor("class_embedding", &[hidden])?,
            patches: Patches::load(&embeddings, "patch_embedding", settings, hidden, 32)?,
            positions: embeddings.tensor("position_embedding.weight", &[positions, hidden])?,
            // The library's own spelling.
            norm_before: network.norm("pre_layrnorm", hidden, size.eps)?,
            layers: Layers::load(&network.at("encoder.layers"), &size, &NAMES)?,
            norm_after: network.norm("post_layernorm", hidden, size.eps)?,
            projection: all.dense("visual_projection", hidden, space)?,
        })
    }

    fn forward(&self, inputs: &Inputs) -> candle_core::Result<Tensor> {
        let x = prepend(&[&self.first], &self.patches.forward(inputs)?)?.broadcast_add(&self.positions)?;
        let x = self.layers.forward(self.norm_before.forward(&x)?, None)?;
        self.projection.forward(&self.norm_after.forward(&token(&x, 0)?)?)
    }
}

struct Texts {
    words: Embedding,
    positions: Embedding,
    layers: Layers,
    norm: Norm,
    projection: Dense,
    /// The token whose vector stands for the text; `None`: the one with the largest id, which it was in CLIP's first models.
    end: Option<i64>,
}

impl Texts {
    fn load(settings: &Settings, network: &Weights, all: &Weights, space: usize) -> Result<Texts> {
        let mut size = Size::of(settings, 1e-5)?;
        // Defaults of this tower are not those of the other.
        size.hidden = settings.size_or("hidden_size", 512)?;
        size.heads = settings.size_or("num_attention_heads", 8)?;
        size.intermediate = settings.size_or("intermediate_size", 2048)?;
        let hidden = size.hidden;
        let embeddings = network.at("embeddings");
        let end = settings.number_or("eos_token_id", 49_407.0) as i64;
        Ok(Texts {
            words: embeddings.embedding(
                "token_embedding",
                settings.size_or("vocab_size", 49_408)?,
                hidden,
            )?,
            positions: embeddings.embedding(
                "position_embedding",
                settings.size_or("max_position_embeddings", 77)?,
                hidden,
            )?,
            layers: Layers::load(&network.at("encoder.layers"), &size, &NAMES)?,
            norm: network.norm("final_layer_norm", hidden, size.eps)?,
            projection: all.dense("text_projection", hidden, space)?,
            end: (end != 2).then_some(end),
        })
    }

    fn forward(&self, inputs: &Inputs) -> candle_core::Result<Tensor> {
        let (ids, (rows, tokens)) = inputs.ids("input_ids")?;
        let places: Vec<i64> = (0..rows).flat_map(|_| 0..tokens as i64).collect();
        let x = looked_up(&[(&self.words, ids), (&self.positions, &places)], (rows, tokens))?;
        let x = self.layers.forward(x, Some(&self.bias(inputs)?))?;
        let x = self.norm.forward(&x)?;
        let mut vectors = Vec::with_capacity(rows);
        for (row, ids) in ids.chunks(tokens.max(1)).enumerate() {
            vectors.push(x.get(row)?.narrow(0, self.place(ids), 1)?);
        }
        self.projection.forward(&Tensor::cat(&vectors, 0)?)
    }

    /// Where the token is that stands for the text.
    fn place(&self, ids: &[i64]) -> usize {
        let found = match self.end {
            Some(end) => ids.iter().position(|id| *id == end),
            None => {
                let most = ids.iter().max();
                most.and_then(|most| ids.iter().position(|id| id == most))
            }
        };
        found.unwrap_or(0)
    }

    /// No token sees those behind it, nor any that stands for no text.
    fn bias(&self, inputs: &Inputs) -> candle_core::Result<Tensor> {
        let (mask, (rows, tokens)) = inputs.ids("attention_mask")?;
        let mut bias = Vec::with_capacity(rows * tokens * tokens);
        for is_text in mask.chunks(tokens.max(1)) {
            for token in 0..tokens {
                let sees = |other: usize| other <= token && is_text[other] != 0;
                bias.extend((0..tokens).map(|other| if sees(other) { 0f32 } else { f32::MIN }));
            }
        }
        Tensor::from_vec(bias, (rows, 1, tokens, tokens), &inputs.device)?.to_dtype(inputs.dtype)
    }
}

struct Clip {
    images: Images,
    texts: Texts,
}

impl Family for Clip {
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
