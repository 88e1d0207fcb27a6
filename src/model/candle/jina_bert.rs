//! JinaBERT, which `jina-embeddings-v2` are: BERT with slopes of attention in place of positions (ALiBi, in both directions)
//! and gated layers. After the published architecture (<https://arxiv.org/abs/2310.19923>); the authors' code is no part of any
//! release of `transformers`, and config.json calls its `model_type` plain `bert`.

use candle_core::Tensor;
use candle_nn::Embedding;

use super::attention::Added;
use super::encoder::{Activation, Size};
use super::heads::{TextEncoder, TextNetwork};
use super::ops::{Around, Attention, FeedForward, Norm, is_ours, looked_up};
use super::texts::Texts;
use super::weights::Weights;
use super::{Family, Inputs, Settings, bert};
use crate::error::{Error, Result};

/// Where Candle's operations compute, texts of so many tokens find a table of their distances ready; a longer one has it made, heads
/// times the square of its length. The kernels need a number for each distance and head.
const READY: usize = 256;

/// Whether a `config.json` that says `bert` is of a JinaBERT.
pub fn is_meant(settings: &Settings) -> bool {
    settings.word_or("position_embedding_type", "absolute") == "alibi"
}

/// The network of a `config.json` of JinaBERT.
pub fn open(settings: &Settings, weights: Weights) -> Result<Box<dyn Family>> {
    let size = bert::size(settings)?;
    let activation = match settings.word_or("feed_forward_type", "original") {
        "geglu" => Activation::Gelu,
        "reglu" => Activation::Relu,
        other => {
            return Err(Error::model(format!(
                "config.json says feed_forward_type {other}, which Floe has no code for in JinaBERT; it has geglu and reglu"
            )));
        }
    };
    let network = weights.network("bert");
    let embeddings = network.at("embeddings");
    let layers = (0..size.layers).map(|index| {
        let here = network.at("encoder.layer").at(index);
        if here.has("attention.self.layer_norm_q.weight") {
            return Err(Error::model(
                "the weights are of a JinaBERT with norms of queries and keys, which Floe has no code for",
            )
            .with_hint(
                "export the model to ONNX (optimum-cli export onnx) and give the folder of the export",
            ));
        }
        Layer::load(&here, &size, activation)
    });
    let words = embeddings.embedding("word_embeddings", size.vocabulary, size.hidden)?;
    let slopes = slopes(size.heads);
    let like = words.embeddings();
    let ready = (!is_ours(like)).then(|| table(&slopes, READY, like));
    let encoder = JinaBert {
        ready: ready
            .transpose()
            .map_err(|cause| Error::model("distances can't be computed").with_source(cause))?,
        words,
        kinds: embeddings.embedding(
            "token_type_embeddings",
            settings.size_or("type_vocab_size", 2)?,
            size.hidden,
        )?,
        norm: embeddings.norm("LayerNorm", size.hidden, size.eps)?,
        layers: layers.collect::<Result<_>>()?,
        slopes,
    };
    let words = encoder.words.embeddings().clone();
    Ok(Box::new(TextNetwork {
        head: bert::head(settings, &weights, &network, &size, words)?,
        encoder,
    }))
}

struct Layer {
    attention: Attention,
    attention_norm: Norm,
    feed_forward: FeedForward,
    output_norm: Norm,
}

impl Layer {
    fn load(weights: &Weights, size: &Size, activation: Activation) -> Result<Layer> {
        let (hidden, wide) = (size.hidden, size.intermediate);
        let part = |name| weights.linear(name, hidden, hidden);
        let names = bert::NAMES;
        let parts = [part(names.query)?, part(names.key)?, part(names.value)?];
        let output = weights.dense(names.attention_output, hidden, hidden)?;
        Ok(Layer {
            attention: Attention::of_parts(parts, output, size.heads, size.head()?)?,
            attention_norm: weights.norm(names.attention_norm, hidden, size.eps)?,
            feed_forward: FeedForward {
                up: weights.dense("mlp.gated_layers", hidden, 2 * wide)?,
                activation,
                gated: true,
                down: weights.dense("mlp.wo", wide, hidden)?,
            },
            output_norm: weights.norm("mlp.layernorm", hidden, size.eps)?,
        })
    }
}

/// By how much a step of distance lowers the scores of each head: 2^(-8/n), 2^(-16/n), … for n heads. For other numbers than
/// powers of two, those of the next lower power, then every second one of the next higher.
fn slopes(heads: usize) -> Vec<f32> {
    let of_power =
        |power: usize| (1..=power).map(move |head| (-8.0 * head as f64 / power as f64).exp2() as f32);
    let lower = match heads.is_power_of_two() {
        true => heads,
        false => heads.next_power_of_two() / 2,
    };
    of_power(lower)
        .chain(of_power(2 * lower).step_by(2))
        .take(heads)
        .collect()
}

/// What each distance to either side adds to attention, `[heads, 2 * tokens - 1]`.
fn by_distance(slopes: &[f32], tokens: usize) -> Vec<f32> {
    let most = tokens.saturating_sub(1);
    let line = |slope: &f32| {
        let slope = *slope;
        (0..2 * most + 1).map(move |place| -slope * place.abs_diff(most) as f32)
    };
    slopes.iter().flat_map(line).collect()
}

/// What distances add to attention, `[1, heads, tokens, tokens]`.
fn table(slopes: &[f32], tokens: usize, like: &Tensor) -> candle_core::Result<Tensor> {
    let mut bias = Vec::with_capacity(slopes.len() * tokens * tokens);
    for slope in slopes {
        for asking in 0..tokens {
            bias.extend((0..tokens).map(|asked| -slope * asking.abs_diff(asked) as f32));
        }
    }
    Tensor::from_vec(bias, (1, slopes.len(), tokens, tokens), like.device())?.to_dtype(like.dtype())
}

struct JinaBert {
    words: Embedding,
    kinds: Embedding,
    norm: Norm,
    layers: Vec<Layer>,
    slopes: Vec<f32>,
    /// What distances of up to [`READY`] tokens add, where the kernels don't compute.
    ready: Option<Tensor>,
}

impl JinaBert {
    /// Padding and distances as a tensor, for texts with padding.
    fn table(&self, texts: &Texts) -> candle_core::Result<Option<Tensor>> {
        let tokens = texts.longest();
        let distances = match &self.ready {
            Some(ready) if tokens <= READY => ready.narrow(2, 0, tokens)?.narrow(3, 0, tokens)?,
            _ => table(&self.slopes, tokens, self.words.embeddings())?,
        };
        texts.bias(Some(&distances))
    }
}

impl TextEncoder for JinaBert {
    fn encode(&self, inputs: &Inputs) -> candle_core::Result<Tensor> {
        let texts = Texts::of(inputs)?;
        let ids = texts.kept(inputs.ids("input_ids")?.0);
        let kinds = texts.kept(inputs.ids("token_type_ids")?.0);
        let x = looked_up(&[(&self.words, &ids), (&self.kinds, &kinds)], texts.extents())?;
        let mut x = self.norm.forward(&texts.laid_out(x)?)?;
        let (table, line) = match texts {
            Texts::Ragged { .. } => (None, by_distance(&self.slopes, texts.longest())),
            Texts::Padded { .. } => (self.table(&texts)?, Vec::new()),
        };
        let bias = table.as_ref().map_or(Added::ByDistance(&line), Added::Tensor);
        for layer in &self.layers {
            let after = |norm| Around {
                before: None,
                after: Some(norm),
            };
            let around = after(&layer.attention_norm);
            x = layer.attention.step_with(x, &texts, Some(bias), None, around)?;
            x = layer.feed_forward.step(x, after(&layer.output_norm))?;
        }
        Ok(x)
    }

    fn inputs(&self) -> &'static [&'static str] {
        &["input_ids", "attention_mask", "token_type_ids"]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_fall_by_the_slope_with_each_step_to_either_side() {
        let like = Tensor::zeros(1, candle_core::DType::F32, &candle_core::Device::Cpu).unwrap();
        let bias = table(&[0.5, 0.25], 3, &like).unwrap();
        let numbers = bias.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(numbers[..9], [0.0, -0.5, -1.0, -0.5, 0.0, -0.5, -1.0, -0.5, 0.0]);
        assert_eq!(numbers[9..12], [0.0, -0.25, -0.5]);
    }

    #[test]
    fn a_line_of_distances_has_every_row_of_the_table() {
        let like = Tensor::zeros(1, candle_core::DType::F32, &candle_core::Device::Cpu).unwrap();
        let slopes = slopes(6);
        for tokens in [1, 2, 9] {
            let table = table(&slopes, tokens, &like).unwrap().squeeze(0).unwrap();
            let line = by_distance(&slopes, tokens);
            for (table, line) in table
                .to_vec3::<f32>()
                .unwrap()
                .iter()
                .zip(line.chunks(2 * tokens - 1))
            {
                for (asking, row) in table.iter().enumerate() {
                    assert_eq!(row, &line[tokens - 1 - asking..][..tokens]);
                }
            }
        }
    }

    #[test]
    fn slopes_are_those_of_the_paper_and_of_its_rule_for_other_numbers_of_heads() {
        let close = |ours: &[f32], theirs: &[f32]| {
            assert_eq!(ours.len(), theirs.len());
            let pairs = std::iter::zip(ours, theirs);
            assert!(pairs.into_iter().all(|(a, b)| (a - b).abs() < 1e-7), "{ours:?}");
        };
        close(&slopes(2), &[0.0625, 0.00390625]);
        close(
            &slopes(8),
            &[0.5, 0.25, 0.125, 0.0625, 0.03125, 0.015625, 0.0078125, 0.00390625],
        );
        // Four of four heads, then the first and third of eight.
        close(&slopes(6), &[0.25, 0.0625, 0.015625, 0.00390625, 0.5, 0.125]);
    }
}
