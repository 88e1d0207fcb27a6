//! MPNet: RoBERTa's embeddings without kinds of tokens, and a bias on attention by the distance of two tokens. After
//! `transformers/models/mpnet/modeling_mpnet.py`.

use candle_core::Tensor;
use candle_nn::Embedding;
use candle_nn::Module;

use super::bert;
use super::encoder::{Activation, Embeddings, Encoder, Layer, Names};
use super::heads::{TextEncoder, TextNetwork};
use super::texts::Texts;
use super::weights::Weights;
use super::{Family, Inputs, Settings, roberta};
use crate::error::Result;

const NAMES: Names = Names {
    query: "attention.attn.q",
    key: "attention.attn.k",
    value: "attention.attn.v",
    attention_output: "attention.attn.o",
    attention_norm: "attention.LayerNorm",
    up: "intermediate.dense",
    down: "output.dense",
    output_norm: "output.LayerNorm",
};

/// The library's constant: the embedding of padding, from which positions are counted, whatever `config.json` says.
const PADDING: i64 = 1;

/// The library's constant: distances from here on are one bucket.
const FARTHEST: f32 = 128.0;

/// The network of a `config.json` of MPNet.
pub fn open(settings: &Settings, weights: Weights) -> Result<Box<dyn Family>> {
    let size = bert::size(settings)?;
    let network = weights.network("mpnet");
    let embeddings = network.at("embeddings");
    let table = |name, entries| embeddings.embedding(name, entries, size.hidden);
    let buckets = settings.size_or("relative_attention_num_buckets", 32)?;
    let encoder = Encoder {
        embeddings: Embeddings {
            words: table("word_embeddings", size.vocabulary)?,
            positions: table("position_embeddings", settings.size("max_position_embeddings")?)?,
            kinds: None,
            norm: embeddings.norm("LayerNorm", size.hidden, size.eps)?,
            padding: Some(PADDING),
        },
        layers: (0..size.layers)
            .map(|index| Layer::load(&network.at("encoder.layer").at(index), &size, &NAMES))
            .collect::<Result<_>>()?,
    };
    let words = encoder.embeddings.words.embeddings().clone();
    Ok(Box::new(TextNetwork {
        head: roberta::head(settings, &weights, &size, Activation::Gelu, words)?,
        encoder: MpNet {
            encoder,
            distances: network.embedding("encoder.relative_attention_bias", buckets, size.heads)?,
            buckets: buckets as i64,
        },
    }))
}

struct MpNet {
    encoder: Encoder,
    distances: Embedding,
    buckets: i64,
}

impl TextEncoder for MpNet {
    fn encode(&self, inputs: &Inputs) -> candle_core::Result<Tensor> {
        let texts = Texts::of(inputs)?;
        let tokens = texts.longest();
        let length = tokens as i64;
        let buckets =
            (0..length).flat_map(|query| (0..length).map(move |key| bucket(key - query, self.buckets)));
        let buckets = inputs.whole_numbers(buckets, (tokens, tokens))?;
        let bias = self
            .distances
            .forward(&buckets)?
            .permute((2, 0, 1))?
            .unsqueeze(0)?
            .contiguous()?;
        self.encoder.forward(inputs, &texts, Some(&bias))
    }
}

/// Near distances one by one, far ones on a scale of logarithms; each side has half of the buckets.
fn bucket(distance: i64, buckets: i64) -> i64 {
    let buckets = buckets / 2;
    let (side, far) = match distance > 0 {
        true => (buckets, distance),
        false => (0, -distance),
    };
    let exact = buckets / 2;
    if far < exact {
        return side + far;
    }
    let scale = (far as f32 / exact as f32).ln() / (FARTHEST / exact as f32).ln();
    let large = exact + (scale * (buckets - exact) as f32) as i64;
    side + large.min(buckets - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_fall_into_the_buckets_of_the_python_library() {
        // MPNetEncoder.relative_position_bucket(torch.tensor(distances), num_buckets=32)
        let cases = [
            (0, 0),
            (-1, 1),
            (-7, 7),
            (-8, 8),
            (-11, 8),
            (-12, 9),
            (-127, 15),
            (-500, 15),
        ];
        for (distance, expected) in cases {
            assert_eq!(bucket(distance, 32), expected, "{distance}");
            if distance != 0 {
                assert_eq!(bucket(-distance, 32), expected + 16, "{}", -distance);
            }
        }
    }
}
