//! The encoder that BERT and its descendants share: embeddings, then layers of attention and two dense ones, each with
//! its sum normalised after it.
//!
//! Families differ in names, in how positions are counted and in a bias on attention, nothing else. Queries, keys and
//! values are one matrix here, and the scale of attention is in the query's weights already.

use candle_core::{D, Tensor};
use candle_nn::{Embedding, LayerNorm, Linear, Module};

use super::Inputs;
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
        if self.heads == 0 || !self.hidden.is_multiple_of(self.heads) {
            return Err(Error::model(format!(
                "config.json: {} numbers a token can't be shared by {} heads",
                self.hidden, self.heads
            )));
        }
        Ok(self.hidden / self.heads)
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

    pub fn apply(self, x: &Tensor) -> candle_core::Result<Tensor> {
        match self {
            Activation::Gelu => x.gelu_erf(),
            Activation::GeluTanh => x.gelu(),
            Activation::QuickGelu => x * candle_nn::ops::sigmoid(&(x * 1.702)?)?,
            Activation::Relu => x.relu(),
            Activation::Silu => x.silu(),
            Activation::Tanh => x.tanh(),
        }
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
    pub norm: LayerNorm,
    /// Positions are counted from the token after this one, which stands for no text; else from 0.
    pub padding: Option<i64>,
}

impl Embeddings {
    pub fn forward(&self, inputs: &Inputs) -> candle_core::Result<Tensor> {
        let words = self.words.forward(&inputs.id_tensor("input_ids")?)?;
        let (ids, (rows, tokens)) = inputs.ids("input_ids")?;
        let kinds = match &self.kinds {
            Some(kinds) => Some(kinds.forward(&inputs.id_tensor("token_type_ids")?)?),
            None => None,
        };
        let words = match kinds {
            Some(kinds) => (words + kinds)?,
            None => words,
        };
        let sum = match self.padding {
            None => {
                let places = inputs.whole_numbers(0..tokens as i64, (1, tokens))?;
                words.broadcast_add(&self.positions.forward(&places)?)?
            }
            Some(padding) => {
                let places = ids
                    .chunks(tokens.max(1))
                    .flat_map(|row| counted_from(row, padding));
                let places = inputs.whole_numbers(places, (rows, tokens))?;
                (words + self.positions.forward(&places)?)?
            }
        };
        self.norm.forward(&sum)
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
    query_key_value: Linear,
    attention_output: Linear,
    attention_norm: LayerNorm,
    up: Linear,
    activation: Activation,
    down: Linear,
    output_norm: LayerNorm,
    heads: usize,
}

impl Layer {
    pub fn load(weights: &Weights, size: &Size, names: &Names) -> Result<Layer> {
        let hidden = size.hidden;
        let scale = 1.0 / (size.head()? as f64).sqrt();
        let linear = |name| weights.linear(name, hidden, hidden);
        Ok(Layer {
            query_key_value: fused(
                [linear(names.query)?, linear(names.key)?, linear(names.value)?],
                scale,
            )?,
            attention_output: linear(names.attention_output)?,
            attention_norm: weights.norm(names.attention_norm, hidden, size.eps)?,
            up: weights.linear(names.up, hidden, size.intermediate)?,
            activation: size.activation,
            down: weights.linear(names.down, size.intermediate, hidden)?,
            output_norm: weights.norm(names.output_norm, hidden, size.eps)?,
            heads: size.heads,
        })
    }

    /// `bias` is added to the weights of attention before the softmax.
    pub fn forward(&self, x: &Tensor, bias: Option<&Tensor>) -> candle_core::Result<Tensor> {
        let attended = attend(&self.query_key_value.forward(x)?, self.heads, bias)?;
        let attended = self.attention_output.forward(&attended)?;
        let x = self.attention_norm.forward(&(attended + x)?)?;
        let inner = self.activation.apply(&self.up.forward(&x)?)?;
        self.output_norm.forward(&(self.down.forward(&inner)? + x)?)
    }
}

/// Query, key and value as one dense layer; the query scaled.
fn fused([query, key, value]: [Linear; 3], scale: f64) -> Result<Linear> {
    let fuse = || -> candle_core::Result<Linear> {
        let weight = Tensor::cat(&[&(query.weight() * scale)?, key.weight(), value.weight()], 0)?;
        let bias = match (query.bias(), key.bias(), value.bias()) {
            (Some(query), Some(key), Some(value)) => Some(Tensor::cat(&[&(query * scale)?, key, value], 0)?),
            _ => None,
        };
        Ok(Linear::new(weight, bias))
    };
    fuse().map_err(|cause| Error::model("weights of attention don't fit together").with_source(cause))
}

/// Attention of `[rows, tokens, 3 * hidden]`: queries, already scaled, keys and values side by side.
pub fn attend(joined: &Tensor, heads: usize, bias: Option<&Tensor>) -> candle_core::Result<Tensor> {
    let (rows, tokens, width) = joined.dims3()?;
    let head = width / 3 / heads;
    let joined = joined
        .reshape((rows, tokens, 3, heads, head))?
        .permute((2, 0, 3, 1, 4))?
        .contiguous()?;
    let (query, key, value) = (joined.get(0)?, joined.get(1)?, joined.get(2)?);
    weigh(&query, &key, &value, bias)
}

/// Attention of queries, already scaled, keys and values of `[rows, heads, tokens, head]`: `[rows, tokens, hidden]`.
pub fn weigh(
    query: &Tensor,
    key: &Tensor,
    value: &Tensor,
    bias: Option<&Tensor>,
) -> candle_core::Result<Tensor> {
    let scores = query.matmul(&key.t()?)?;
    let scores = match bias {
        Some(bias) => scores.broadcast_add(bias)?,
        None => scores,
    };
    let weights = candle_nn::ops::softmax_last_dim(&scores)?;
    weights
        .matmul(value)?
        .transpose(1, 2)?
        .contiguous()?
        .flatten_from(D::Minus2)
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
    pub fn forward(&self, inputs: &Inputs, bias: Option<&Tensor>) -> candle_core::Result<Tensor> {
        let mut x = self.embeddings.forward(inputs)?;
        for layer in &self.layers {
            x = layer.forward(&x, bias)?;
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
