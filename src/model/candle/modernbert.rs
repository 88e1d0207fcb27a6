//! ModernBERT: norms before each part, rotary positions, gated layers, and most layers see near tokens only. After
//! `transformers/models/modernbert/modeling_modernbert.py`.

use candle_core::{D, Tensor};
use candle_nn::{Embedding, Linear};

use super::encoder::Activation;
use super::heads::{Head, Hidden, Kind, Taken, TextEncoder, TextNetwork, words_layer};
use super::ops::{Around, Attention, FeedForward, Norm, Rotation, looked_up};
use super::texts::Texts;
use super::weights::Weights;
use super::{Family, Inputs, Settings};
use crate::error::{Error, Result};

/// The network of a `config.json` of ModernBERT.
pub fn open(settings: &Settings, weights: Weights) -> Result<Box<dyn Family>> {
    let (hidden, heads) = (
        settings.size("hidden_size")?,
        settings.size("num_attention_heads")?,
    );
    let intermediate = settings.size("intermediate_size")?;
    if !hidden.is_multiple_of(2 * heads) {
        return Err(Error::model(format!(
            "config.json: {hidden} numbers a token can't be shared by {heads} heads in pairs"
        )));
    }
    let eps = settings.number_or("norm_eps", 1e-5);
    let network = weights.network("model");
    let global_theta = settings.number_or("global_rope_theta", 160_000.0);
    let local_theta = settings.number_or("local_rope_theta", global_theta);
    let activation = Activation::named(settings.word_or("hidden_activation", "gelu"))?;
    let every = settings.size_or("global_attn_every_n_layers", 3)?.max(1);
    let layer = |index: usize| -> Result<Layer> {
        let here = network.at("layers").at(index);
        let is_global = index.is_multiple_of(every);
        Ok(Layer {
            // The first layer's input is normalised already.
            attention_norm: match index {
                0 => None,
                _ => Some(here.norm("attn_norm", hidden, eps)?),
            },
            attention: Attention::of_parts(
                thirds(&here.linear("attn.Wqkv", hidden, 3 * hidden)?)?,
                here.dense("attn.Wo", hidden, hidden)?,
                heads,
                hidden / heads,
            )?,
            inner_norm: here.norm("mlp_norm", hidden, eps)?,
            feed_forward: FeedForward {
                up: here.dense("mlp.Wi", hidden, 2 * intermediate)?,
                activation,
                gated: true,
                down: here.dense("mlp.Wo", intermediate, hidden)?,
            },
            theta: if is_global { global_theta } else { local_theta },
            is_global,
        })
    };
    let vocabulary = settings.size("vocab_size")?;
    let encoder = ModernBert {
        words: network.embedding("embeddings.tok_embeddings", vocabulary, hidden)?,
        norm: network.norm("embeddings.norm", hidden, eps)?,
        layers: (0..settings.size("num_hidden_layers")?)
            .map(layer)
            .collect::<Result<_>>()?,
        last_norm: network.norm("final_norm", hidden, eps)?,
        heads,
        reach: settings.size_or("local_attention", 128)? / 2,
    };
    let words = encoder.words.embeddings().clone();
    Ok(Box::new(TextNetwork {
        head: head(settings, &weights, hidden, eps, words)?,
        encoder,
    }))
}

/// Query, key and value of a layer that computes them together.
pub fn thirds(joined: &Linear) -> Result<[Linear; 3]> {
    let third = |place: usize| -> candle_core::Result<Linear> {
        let part = |tensor: &Tensor| {
            let size = tensor.dim(0)? / 3;
            tensor.narrow(0, place * size, size)
        };
        Ok(Linear::new(
            part(joined.weight())?,
            joined.bias().map(part).transpose()?,
        ))
    };
    let thirds = || Ok([third(0)?, third(1)?, third(2)?]);
    thirds().map_err(|cause: candle_core::Error| {
        Error::model("weights of attention can't be parted").with_source(cause)
    })
}

fn head(
    settings: &Settings,
    weights: &Weights,
    hidden: usize,
    eps: f64,
    words: Tensor,
) -> Result<Option<Head>> {
    let kind = Kind::of(settings)?;
    if kind == Kind::None {
        return Ok(None);
    }
    let dense = Hidden {
        dense: weights.dense("head.dense", hidden, hidden)?,
        activation: Activation::named(settings.word_or("classifier_activation", "gelu"))?,
        norm: Some(weights.norm("head.norm", hidden, eps)?),
    };
    let taken = match kind {
        Kind::Sequence if settings.word_or("classifier_pooling", "cls") == "mean" => Taken::Mean,
        Kind::Sequence => Taken::First,
        _ => Taken::All,
    };
    let last = match kind {
        Kind::Words => {
            let entries = settings.size("vocab_size")?;
            let bias = match weights.has("decoder.bias") {
                true => Some(weights.tensor("decoder.bias", &[entries])?),
                false => None,
            };
            let table = match weights.has("decoder.weight") {
                true => weights.tensor("decoder.weight", &[entries, hidden])?,
                false => words,
            };
            words_layer(table, bias)?
        }
        Kind::Span if weights.has("qa_outputs.weight") => weights.dense("qa_outputs", hidden, 2)?,
        Kind::Span => weights.dense("classifier", hidden, 2)?,
        _ => weights.dense("classifier", hidden, settings.labels())?,
    };
    Ok(Some(Head {
        taken,
        hidden: Some(dense),
        last,
        is_span: kind == Kind::Span,
    }))
}

struct Layer {
    attention_norm: Option<Norm>,
    attention: Attention,
    inner_norm: Norm,
    feed_forward: FeedForward,
    theta: f64,
    is_global: bool,
}

struct ModernBert {
    words: Embedding,
    norm: Norm,
    layers: Vec<Layer>,
    last_norm: Norm,
    heads: usize,
    /// How far a token sees in layers that see near tokens only.
    reach: usize,
}

impl ModernBert {
    /// What tokens out of reach add to attention; `None` if none is.
    fn reach_bias(&self, tokens: usize, inputs: &Inputs) -> candle_core::Result<Option<Tensor>> {
        if tokens <= self.reach + 1 {
            return Ok(None);
        }
        let bias: Vec<f32> = (0..tokens)
            .flat_map(|row| (0..tokens).map(move |column| row.abs_diff(column)))
            .map(|distance| if distance <= self.reach { 0.0 } else { f32::MIN })
            .collect();
        let bias = Tensor::from_vec(bias, (1, 1, tokens, tokens), &inputs.device)?;
        Ok(Some(bias.to_dtype(inputs.dtype)?))
    }
}

impl TextEncoder for ModernBert {
    fn encode(&self, inputs: &Inputs) -> candle_core::Result<Tensor> {
        let texts = Texts::of(inputs)?;
        let ids = texts.kept(inputs.ids("input_ids")?.0);
        let x = texts.laid_out(looked_up(&[(&self.words, &ids)], texts.extents())?)?;
        let mut x = self.norm.forward(&x)?;
        let (tokens, hidden) = (texts.longest(), x.dim(D::Minus1)?);
        let like = self.words.embeddings();
        let rotation = |theta| Rotation::new(theta, tokens, hidden / self.heads, like);
        let padding = texts.bias(None)?;
        let near = match (&padding, self.reach_bias(tokens, inputs)?) {
            // Two of the least numbers would be less than the least.
            (Some(padding), Some(reach)) => Some(padding.broadcast_minimum(&reach)?),
            (None, Some(reach)) => Some(reach),
            (padding, None) => padding.clone(),
        };
        let mut known: Vec<(f64, Rotation)> = Vec::new();
        for layer in &self.layers {
            if !known.iter().any(|(theta, _)| *theta == layer.theta) {
                known.push((layer.theta, rotation(layer.theta)?));
            }
            let turned = known.iter().find(|(theta, _)| *theta == layer.theta);
            let Some((_, rotation)) = turned else {
                candle_core::bail!("a rotation that was just made is there");
            };
            let bias = if layer.is_global { &padding } else { &near };
            let before = |norm| Around {
                before: norm,
                after: None,
            };
            let around = before(layer.attention_norm.as_ref());
            x = layer
                .attention
                .step(x, &texts, bias.as_ref(), Some(rotation), around)?;
            x = layer.feed_forward.step(x, before(Some(&layer.inner_norm)))?;
        }
        self.last_norm.forward(&x)
    }
}
