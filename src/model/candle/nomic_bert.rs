//! NomicBERT, which `nomic-embed-text` are: BERT with rotary positions, gated layers and no biases. After
//! `transformers/models/nomic_bert/modeling_nomic_bert.py` (5.23); names of weights are those of the published checkpoints, which
//! that library writes as well, and a `config.json` may have its keys or those of the checkpoints' own code.

use candle_core::Tensor;
use candle_nn::{Embedding, Linear};

use super::encoder::Activation;
use super::heads::{Kind, TextEncoder, TextNetwork};
use super::modernbert::thirds;
use super::ops::{Around, Attention, Dense, FeedForward, Norm, Rotation, looked_up};
use super::texts::Texts;
use super::weights::Weights;
use super::{Family, Inputs, Settings, settings};
use crate::error::{Error, Result};

/// The network of a `config.json` of NomicBERT.
pub fn open(settings: &Settings, weights: Weights) -> Result<Box<dyn Family>> {
    check(settings)?;
    let size = |own: &str, other: &str| match settings.has(own) {
        true => settings.size(own),
        false => settings.size(other),
    };
    let (hidden, heads) = (
        size("n_embd", "hidden_size")?,
        size("n_head", "num_attention_heads")?,
    );
    let head = settings::head(hidden, heads)?;
    if !head.is_multiple_of(2) {
        return Err(Error::model(format!(
            "config.json: {head} numbers of a head can't be turned in pairs"
        )));
    }
    // In this code's keys there is always one; its default is that of GPT-2.
    let wide = match settings.has("n_embd") {
        true => settings.size_or("n_inner", 4 * hidden)?,
        false => settings.size("intermediate_size")?,
    };
    let eps = settings.number_or("layer_norm_epsilon", settings.number_or("layer_norm_eps", 1e-12));
    let network = weights.network("nomic_bert");
    let layer = |index: usize| {
        let here = network.at("encoder.layers").at(index);
        Ok(Layer {
            attention: Attention::of_parts(
                thirds(&here.linear("attn.Wqkv", hidden, 3 * hidden)?)?,
                here.dense("attn.out_proj", hidden, hidden)?,
                heads,
                head,
            )?,
            attention_norm: here.norm("norm1", hidden, eps)?,
            feed_forward: FeedForward {
                up: joined(
                    &here.linear("mlp.fc12", hidden, wide)?,
                    &here.linear("mlp.fc11", hidden, wide)?,
                )?,
                activation: Activation::Silu,
                gated: true,
                down: here.dense("mlp.fc2", wide, hidden)?,
            },
            output_norm: here.norm("norm2", hidden, eps)?,
        })
    };
    let embeddings = network.at("embeddings");
    let vocabulary = settings.size("vocab_size")?;
    let kinds = settings.size_or("type_vocab_size", 2)?;
    Ok(Box::new(TextNetwork {
        head: None,
        encoder: NomicBert {
            words: embeddings.embedding("word_embeddings", vocabulary, hidden)?,
            kinds: match kinds {
                0 => None,
                kinds => Some(embeddings.embedding("token_type_embeddings", kinds, hidden)?),
            },
            norm: network.norm("emb_ln", hidden, eps)?,
            layers: (0..size("n_layer", "num_hidden_layers")?)
                .map(layer)
                .collect::<Result<_>>()?,
            theta: theta(settings)?,
            head,
        },
    }))
}

/// Refuses what the code of the checkpoints has switches for and the published ones don't use.
fn check(settings: &Settings) -> Result<()> {
    if Kind::of(settings)? != Kind::None {
        return Err(Error::model(format!(
            "{}: Floe has code for the vectors of a NomicBERT, and for none of its heads",
            settings.architecture()
        ))
        .with_hint("export the model to ONNX (optimum-cli export onnx) and give the folder of the export"));
    }
    let without = [
        ("prenorm", false),
        ("parallel_block", false),
        ("use_rms_norm", false),
        ("rotary_emb_interleaved", false),
        ("causal", false),
    ];
    let wrong = without
        .iter()
        .find(|(name, usual)| settings.flag_or(name, *usual) != *usual)
        .map(|(name, _)| *name);
    let more = ["rotary_scaling_factor", "rotary_emb_scale_base", "num_experts"]
        .into_iter()
        .find(|name| settings.number_or(name, 0.0) > 0.0);
    let is_own = settings.has("n_embd");
    let part =
        (is_own && settings.number_or("rotary_emb_fraction", 0.0) != 1.0).then_some("rotary_emb_fraction");
    let usual = if is_own { "swiglu" } else { "silu" };
    let activation = ["activation_function", "hidden_act"]
        .into_iter()
        .find(|name| settings.has(name) && settings.word_or(name, usual) != usual);
    match wrong.or(more).or(part).or(activation) {
        None => Ok(()),
        Some(name) => Err(Error::model(format!(
            "config.json gives a NomicBERT another {name} than nomic-embed-text-v1.5 has, which Floe has no code for"
        ))
        .with_hint("export the model to ONNX (optimum-cli export onnx) and give the folder of the export")),
    }
}

/// The base of the angles.
fn theta(settings: &Settings) -> Result<f64> {
    if settings.has("n_embd") {
        return Ok(settings.number_or("rotary_emb_base", 10_000.0));
    }
    let Some(rope) = settings.below("rope_parameters") else {
        return Ok(1_000.0);
    };
    let word = |name: &str| rope.get(name).and_then(serde_json::Value::as_str);
    match word("rope_type").unwrap_or("default") {
        "default" => Ok(rope
            .get("rope_theta")
            .and_then(serde_json::Value::as_f64)
            .unwrap_or(1_000.0)),
        other => Err(Error::model(format!(
            "config.json says rope_type {other}, which Floe has no code for in NomicBERT"
        ))),
    }
}

/// Two layers as one, whose outputs lie side by side.
fn joined(first: &Linear, second: &Linear) -> Result<Dense> {
    let join = || {
        let weight = Tensor::cat(&[first.weight(), second.weight()], 0)?;
        let bias = match (first.bias(), second.bias()) {
            (Some(first), Some(second)) => Some(Tensor::cat(&[first, second], 0)?),
            (None, None) => None,
            _ => candle_core::bail!("one of two halves of a layer has a bias"),
        };
        Dense::new(weight, bias)
    };
    join().map_err(|cause: candle_core::Error| {
        Error::model("weights of a gated layer don't fit together").with_source(cause)
    })
}

struct Layer {
    attention: Attention,
    attention_norm: Norm,
    feed_forward: FeedForward,
    output_norm: Norm,
}

struct NomicBert {
    words: Embedding,
    kinds: Option<Embedding>,
    norm: Norm,
    layers: Vec<Layer>,
    theta: f64,
    head: usize,
}

impl TextEncoder for NomicBert {
    fn encode(&self, inputs: &Inputs) -> candle_core::Result<Tensor> {
        let texts = Texts::of(inputs)?;
        let ids = texts.kept(inputs.ids("input_ids")?.0);
        let kinds = match &self.kinds {
            Some(kinds) => Some((kinds, texts.kept(inputs.ids("token_type_ids")?.0))),
            None => None,
        };
        let mut tables = vec![(&self.words, &ids[..])];
        tables.extend(kinds.iter().map(|(table, kinds)| (*table, &kinds[..])));
        let x = texts.laid_out(looked_up(&tables, texts.extents())?)?;
        let mut x = self.norm.forward(&x)?;
        let rotation = Rotation::new(self.theta, texts.longest(), self.head, self.words.embeddings())?;
        let bias = texts.bias(None)?;
        for layer in &self.layers {
            let after = |norm| Around {
                before: None,
                after: Some(norm),
            };
            let around = after(&layer.attention_norm);
            x = layer
                .attention
                .step(x, &texts, bias.as_ref(), Some(&rotation), around)?;
            x = layer.feed_forward.step(x, after(&layer.output_norm))?;
        }
        Ok(x)
    }

    fn inputs(&self) -> &'static [&'static str] {
        match self.kinds {
            Some(_) => &["input_ids", "attention_mask", "token_type_ids"],
            None => &["input_ids", "attention_mask"],
        }
    }
}
