//! The encoder that BERT and its descendants share: embeddings, then layers of attention and two dense ones, each with
//! its sum normalised after it.
//!
//! Families differ in names, in how positions are counted and in a bias on attention, nothing else. Queries, keys and
//! values are one matrix here, and the scale of attention is in the query's weights already.

use candle_core::Tensor;
use candle_nn::Embedding;

use super::Inputs;
use super::ops::{Around, Attention, FeedForward, Norm, looked_up};
use super::texts::Texts;
use super::weights::Weights;
use crate::error::{Error, Result};

/// Sizes and constants.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub vocabulary: usize,
    pub hidden: usize,
    pub heads: usize,
    pub layers: usize,
    pub intermediate: usize,
    pub eps: f64,
    pub activation: Activation,
}

impl Size {
    /// Numbers of one head.
    ///
    /// # Errors
    /// `Model`, when heads don't share the numbers of a token.
    pub fn head(&self) -> Result<usize> {
        super::settings::head(self.hidden, self.heads)
    }
}

/// What comes between dense layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    Gelu,
    GeluTanh,
    QuickGelu,
    Relu,
    Silu,
    Tanh,
}

impl Activation {
    /// By its name in `config.json`.
    ///
    /// # Errors
    /// `Model`, for an unknown one.
    pub fn named(name: &str) -> Result<Activation> {
        Ok(match name {
            "gelu" => Activation::Gelu,
            "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Activation::GeluTanh,
            "quick_gelu" => Activation::QuickGelu,
            "relu" => Activation::Relu,
            "silu" | "swish" => Activation::Silu,
            "tanh" => Activation::Tanh,
            other => {
                return Err(Error::model(format!(
                    "config.json names the activation {other}, which Floe has not"
                )));
            }
        })
    }
}

/// The names of a layer's parts.
pub struct Names {
    pub query: &'static str,
    pub key: &'static str,
    pub value: &'static str,
    pub attention_output: &'static str,
    pub attention_norm: &'static str,
    pub up: &'static str,
    pub down: &'static str,
    pub output_norm: &'static str,
}

/// Words, positions and, where there are some, kinds of tokens.
pub struct Embeddings {
    pub words: Embedding,
    pub positions: Embedding,
    pub kinds: Option<Embedding>,
    pub norm: Norm,
    /// Positions are counted from the token after this one, which stands for no text; else from 0.
    pub padding: Option<i64>,
}

impl Embeddings {
    pub fn forward(&self, inputs: &Inputs, texts: &Texts) -> candle_core::Result<Tensor> {
        let ids = texts.kept(inputs.ids("input_ids")?.0);
        let places: Vec<i64> = match self.padding {
            None => texts.ranges().flat_map(|range| 0..range.len() as i64).collect(),
            Some(padding) => texts
                .ranges()
                .flat_map(|range| counted_from(&ids[range], padding))
                .collect(),
        };
        let kinds = match &self.kinds {
            Some(kinds) => Some((kinds, texts.kept(inputs.ids("token_type_ids")?.0))),
            None => None,
        };
        let mut tables = vec![(&self.words, &ids[..])];
        tables.extend(kinds.iter().map(|(table, kinds)| (*table, &kinds[..])));
        tables.push((&self.positions, &places));
        self.norm
            .forward(&texts.laid_out(looked_up(&tables, texts.extents())?)?)
    }
}

/// Positions as RoBERTa counts them: `padding + 1`, `padding + 2`, …, and `padding` itself for padding.
fn counted_from(ids: &[i64], padding: i64) -> impl Iterator<Item = i64> {
    let mut place = padding;
    ids.iter().map(move |id| {
        if *id == padding {
            return padding;
        }
        place += 1;
        place
    })
}

/// One layer.
pub struct Layer {
    attention: Attention,
    attention_norm: Norm,
    feed_forward: FeedForward,
    output_norm: Norm,
}

impl Layer {
    pub fn load(weights: &Weights, size: &Size, names: &Names) -> Result<Layer> {
        let (hidden, wide) = (size.hidden, size.intermediate);
        let part = |name| weights.linear(name, hidden, hidden);
        let parts = [part(names.query)?, part(names.key)?, part(names.value)?];
        let output = weights.dense(names.attention_output, hidden, hidden)?;
        Ok(Layer {
            attention: Attention::of_parts(parts, output, size.heads, size.head()?)?,
            attention_norm: weights.norm(names.attention_norm, hidden, size.eps)?,
            feed_forward: FeedForward {
                up: weights.dense(names.up, hidden, wide)?,
                activation: size.activation,
                gated: false,
                down: weights.dense(names.down, wide, hidden)?,
            },
            output_norm: weights.norm(names.output_norm, hidden, size.eps)?,
        })
    }

    /// Changes `x`, which nobody else may have; `bias` is added to the scores of attention.
    pub fn forward(&self, x: Tensor, texts: &Texts, bias: Option<&Tensor>) -> candle_core::Result<Tensor> {
        let after = |norm| Around {
            before: None,
            after: Some(norm),
        };
        let x = self
            .attention
            .step(x, texts, bias, None, after(&self.attention_norm))?;
        self.feed_forward.step(x, after(&self.output_norm))
    }
}

/// What padding adds to attention: 0 where there is text, the least number where there is none; `None` without padding.
pub fn padding_bias(inputs: &Inputs) -> candle_core::Result<Option<Tensor>> {
    let (mask, (rows, tokens)) = inputs.ids("attention_mask")?;
    if mask.iter().all(|&is_text| is_text != 0) {
        return Ok(None);
    }
    let bias: Vec<f32> = mask
        .iter()
        .map(|&is_text| if is_text != 0 { 0.0 } else { f32::MIN })
        .collect();
    let bias = Tensor::from_vec(bias, (rows, 1, 1, tokens), &inputs.device)?;
    Ok(Some(bias.to_dtype(inputs.dtype)?))
}

/// Embeddings and layers.
pub struct Encoder {
    pub embeddings: Embeddings,
    pub layers: Vec<Layer>,
}

impl Encoder {
    /// The vectors of all tokens, as `texts` lie; `bias`, the same for all texts, is added to the scores of attention.
    pub fn forward(
        &self,
        inputs: &Inputs,
        texts: &Texts,
        bias: Option<&Tensor>,
    ) -> candle_core::Result<Tensor> {
        let mut x = self.embeddings.forward(inputs, texts)?;
        let bias = texts.bias(bias)?;
        for layer in &self.layers {
            x = layer.forward(x, texts, bias.as_ref())?;
        }
        Ok(x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_counted_from_the_padding_token_as_roberta_does() {
        let places: Vec<i64> = counted_from(&[0, 7, 2, 1, 1], 1).collect();
        assert_eq!(places, [2, 3, 4, 1, 1]);
    }
}
