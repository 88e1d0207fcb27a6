//! BERT. After `transformers/models/bert/modeling_bert.py`.

use candle_core::Tensor;

use super::encoder::{Activation, Embeddings, Encoder, Layer, Names, Size};
use super::heads::{Head, Hidden, Kind, Taken, TextEncoder, TextNetwork};
use super::texts::Texts;
use super::weights::Weights;
use super::{Family, Inputs, Settings};
use crate::error::{Error, Result};

/// The names that RoBERTa uses as well.
pub const NAMES: Names = Names {
    query: "attention.self.query",
    key: "attention.self.key",
    value: "attention.self.value",
    attention_output: "attention.output.dense",
    attention_norm: "attention.output.LayerNorm",
    up: "intermediate.dense",
    down: "output.dense",
    output_norm: "output.LayerNorm",
};

/// The network of a `config.json` of BERT.
pub fn open(settings: &Settings, weights: Weights) -> Result<Box<dyn Family>> {
    let position = settings.word_or("position_embedding_type", "absolute");
    if position != "absolute" {
        return Err(Error::model(format!(
            "config.json says position_embedding_type {position}, which Floe has no code for in BERT"
        )));
    }
    let size = size(settings)?;
    let network = weights.network("bert");
    let encoder = encoder(settings, &network, &size, None)?;
    let words = encoder.embeddings.words.embeddings().clone();
    Ok(Box::new(TextNetwork {
        head: head(settings, &weights, &network, &size, words)?,
        encoder: Bert(encoder),
    }))
}

/// Sizes by BERT's names for them.
pub fn size(settings: &Settings) -> Result<Size> {
    Ok(Size {
        vocabulary: settings.size("vocab_size")?,
        hidden: settings.size("hidden_size")?,
        heads: settings.size("num_attention_heads")?,
        layers: settings.size("num_hidden_layers")?,
        intermediate: settings.size("intermediate_size")?,
        eps: settings.number_or("layer_norm_eps", 1e-12),
        activation: Activation::named(settings.word_or("hidden_act", "gelu"))?,
    })
}

/// Embeddings and layers by BERT's names for them.
pub fn encoder(settings: &Settings, network: &Weights, size: &Size, padding: Option<i64>) -> Result<Encoder> {
    let embeddings = network.at("embeddings");
    let table = |name, entries| embeddings.embedding(name, entries, size.hidden);
    let layer = |index| {
        let weights = network.at("encoder.layer").at(index);
        Layer::load(&weights, size, &NAMES)
    };
    Ok(Encoder {
        embeddings: Embeddings {
            words: table("word_embeddings", size.vocabulary)?,
            positions: table("position_embeddings", settings.size("max_position_embeddings")?)?,
            kinds: Some(table(
                "token_type_embeddings",
                settings.size_or("type_vocab_size", 2)?,
            )?),
            norm: embeddings.norm("LayerNorm", size.hidden, size.eps)?,
            padding,
        },
        layers: (0..size.layers).map(layer).collect::<Result<_>>()?,
    })
}

/// The head, by BERT's names for its parts.
pub fn head(
    settings: &Settings,
    weights: &Weights,
    network: &Weights,
    size: &Size,
    words: Tensor,
) -> Result<Option<Head>> {
    let hidden = size.hidden;
    let dense = |weights: &Weights, name, activation| -> Result<Hidden> {
        Ok(Hidden {
            dense: weights.dense(name, hidden, hidden)?,
            activation,
            norm: None,
        })
    };
    Ok(Some(match Kind::of(settings)? {
        Kind::None => return Ok(None),
        Kind::Sequence => Head {
            taken: Taken::First,
            hidden: Some(dense(network, "pooler.dense", Activation::Tanh)?),
            last: weights.dense("classifier", hidden, settings.labels())?,
            is_span: false,
        },
        Kind::Tokens => Head::of_tokens(weights, hidden, settings.labels())?,
        Kind::Span => Head::of_spans(weights, hidden)?,
        Kind::Words => {
            let here = weights.at("cls.predictions");
            let transform = here.at("transform");
            let transform = Hidden {
                norm: Some(transform.norm("LayerNorm", hidden, size.eps)?),
                ..dense(&transform, "dense", size.activation)?
            };
            Head::of_words(transform, words, &here, "decoder.weight", "bias")?
        }
    }))
}

struct Bert(Encoder);

impl TextEncoder for Bert {
    fn encode(&self, inputs: &Inputs) -> candle_core::Result<Tensor> {
        self.0.forward(inputs, &Texts::of(inputs)?, None)
    }

    fn inputs(&self) -> &'static [&'static str] {
        &["input_ids", "attention_mask", "token_type_ids"]
    }
}
