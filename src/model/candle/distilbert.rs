//! DistilBERT: half of BERT's layers, no kinds of tokens. After `transformers/models/distilbert/modeling_distilbert.py`.

use candle_core::Tensor;

use super::encoder::{Activation, Embeddings, Encoder, Layer, Names, Size};
use super::heads::{Head, Hidden, Kind, Taken, TextEncoder, TextNetwork};
use super::texts::Texts;
use super::weights::Weights;
use super::{Family, Inputs, Settings};
use crate::error::Result;

const NAMES: Names = Names {
    query: "attention.q_lin",
    key: "attention.k_lin",
    value: "attention.v_lin",
    attention_output: "attention.out_lin",
    attention_norm: "sa_layer_norm",
    up: "ffn.lin1",
    down: "ffn.lin2",
    output_norm: "output_layer_norm",
};

/// The library's constant.
const EPS: f64 = 1e-12;

/// The network of a `config.json` of DistilBERT.
pub fn open(settings: &Settings, weights: Weights) -> Result<Box<dyn Family>> {
    let size = Size {
        vocabulary: settings.size("vocab_size")?,
        hidden: settings.size("dim")?,
        heads: settings.size("n_heads")?,
        layers: settings.size("n_layers")?,
        intermediate: settings.size("hidden_dim")?,
        eps: EPS,
        activation: Activation::named(settings.word_or("activation", "gelu"))?,
    };
    let network = weights.network("distilbert");
    let embeddings = network.at("embeddings");
    let table = |name, entries| embeddings.embedding(name, entries, size.hidden);
    let encoder = Encoder {
        embeddings: Embeddings {
            words: table("word_embeddings", size.vocabulary)?,
            positions: table("position_embeddings", settings.size("max_position_embeddings")?)?,
            kinds: None,
            norm: embeddings.norm("LayerNorm", size.hidden, EPS)?,
            padding: None,
        },
        layers: (0..size.layers)
            .map(|index| Layer::load(&network.at("transformer.layer").at(index), &size, &NAMES))
            .collect::<Result<_>>()?,
    };
    let words = encoder.embeddings.words.embeddings().clone();
    Ok(Box::new(TextNetwork {
        head: head(settings, &weights, &size, words)?,
        encoder: DistilBert(encoder),
    }))
}

fn head(settings: &Settings, weights: &Weights, size: &Size, words: Tensor) -> Result<Option<Head>> {
    let (hidden, labels) = (size.hidden, settings.labels());
    Ok(Some(match Kind::of(settings)? {
        Kind::None => return Ok(None),
        Kind::Sequence => Head {
            taken: Taken::First,
            hidden: Some(Hidden {
                dense: weights.dense("pre_classifier", hidden, hidden)?,
                activation: Activation::Relu,
                norm: None,
            }),
            last: weights.dense("classifier", hidden, labels)?,
            is_span: false,
        },
        Kind::Tokens => Head::of_tokens(weights, hidden, labels)?,
        Kind::Span => Head::of_spans(weights, hidden)?,
        Kind::Words => {
            let transform = Hidden {
                dense: weights.dense("vocab_transform", hidden, hidden)?,
                activation: size.activation,
                norm: Some(weights.norm("vocab_layer_norm", hidden, EPS)?),
            };
            let (weight, bias) = ("vocab_projector.weight", "vocab_projector.bias");
            Head::of_words(transform, words, weights, weight, bias)?
        }
    }))
}

struct DistilBert(Encoder);

impl TextEncoder for DistilBert {
    fn encode(&self, inputs: &Inputs) -> candle_core::Result<Tensor> {
        self.0.forward(inputs, &Texts::of(inputs)?, None)
    }
}
