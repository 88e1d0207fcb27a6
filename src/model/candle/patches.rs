//! What transformers of images share: patches as tokens, and layers that normalise before each step.
//!
//! ```text
//!   x ─▶ x + scale · attention(norm x) ─▶ x + scale · mlp(norm x)
//! ```
//!
//! ViT, DeiT, BEiT, DINOv2, CLIP and SigLIP differ in names, in the tokens that stand before the patches, and in scales.

use candle_core::Tensor;

use super::encoder::Activation;
use super::ops::{Attention, Dense, FeedForward, Norm, sum};
use super::weights::Weights;
use super::{Inputs, Settings};
use crate::error::{Error, Result};

/// Sizes and constants.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub hidden: usize,
    pub heads: usize,
    pub layers: usize,
    pub intermediate: usize,
    pub eps: f64,
    pub activation: Activation,
}

impl Size {
    /// By the names that most configurations use.
    pub fn of(settings: &Settings, eps: f64) -> Result<Size> {
        let hidden = settings.size_or("hidden_size", 768)?;
        let size = Size {
            hidden,
            heads: settings.size_or("num_attention_heads", 12)?,
            layers: settings.size_or("num_hidden_layers", 12)?,
            intermediate: settings.size_or("intermediate_size", 4 * hidden)?,
            eps: settings.number_or("layer_norm_eps", eps),
            activation: Activation::named(settings.word_or("hidden_act", "gelu"))?,
        };
        super::settings::head(hidden, size.heads)?;
        Ok(size)
    }
}

/// The names of a layer's parts.
pub struct Names {
    pub norm_before: &'static str,
    pub query: &'static str,
    pub key: &'static str,
    pub value: &'static str,
    pub output: &'static str,
    pub norm_after: &'static str,
    pub up: &'static str,
    pub down: &'static str,
    /// Numbers that each sum is multiplied by, where a model has them.
    pub scales: Option<[&'static str; 2]>,
}

/// The names that ViT and DeiT use.
pub const VIT: Names = Names {
    norm_before: "layernorm_before",
    query: "attention.attention.query",
    key: "attention.attention.key",
    value: "attention.attention.value",
    output: "attention.output.dense",
    norm_after: "layernorm_after",
    up: "intermediate.dense",
    down: "output.dense",
    scales: None,
};

/// One layer.
pub struct Layer {
    norm_before: Norm,
    attention: Attention,
    norm_after: Norm,
    feed_forward: FeedForward,
}

impl Layer {
    /// The layer whose weights these are.
    pub fn load(weights: &Weights, size: &Size, names: &Names) -> Result<Layer> {
        let (hidden, wide) = (size.hidden, size.intermediate);
        let part = |name| weights.linear(name, hidden, hidden);
        let parts = [part(names.query)?, part(names.key)?, part(names.value)?];
        let scales = match names.scales {
            // Models trained without them have none.
            Some([first, second]) if weights.has(first) => [Some(first), Some(second)],
            _ => [None, None],
        };
        let scaled = |name, inputs, scale| scaled(weights, name, inputs, hidden, scale);
        let output = scaled(names.output, hidden, scales[0])?;
        Ok(Layer {
            norm_before: weights.norm(names.norm_before, hidden, size.eps)?,
            attention: Attention::of_parts(parts, output, size.heads, hidden / size.heads)?,
            norm_after: weights.norm(names.norm_after, hidden, size.eps)?,
            feed_forward: FeedForward {
                up: weights.dense(names.up, hidden, wide)?,
                activation: size.activation,
                gated: false,
                down: scaled(names.down, wide, scales[1])?,
            },
        })
    }

    /// `x` is `[rows, tokens, hidden]`; `bias` is added to the scores of attention, `[rows or 1, heads or 1, tokens, tokens]`.
    pub fn forward(&self, x: &Tensor, bias: Option<&Tensor>) -> candle_core::Result<Tensor> {
        let attended = self
            .attention
            .forward(&self.norm_before.forward(x)?, bias, None)?;
        let x = sum(attended, x)?;
        sum(self.feed_forward.forward(&self.norm_after.forward(&x)?)?, &x)
    }
}

/// A dense layer whose outputs are multiplied by the numbers of the tensor `scale`: they go into its weights.
fn scaled(
    weights: &Weights,
    name: &str,
    inputs: usize,
    outputs: usize,
    scale: Option<&str>,
) -> Result<Dense> {
    let Some(scale) = scale else {
        return weights.dense(name, inputs, outputs);
    };
    let scale = weights.tensor(scale, &[outputs])?;
    let plain = weights.linear(name, inputs, outputs)?;
    let multiplied = || {
        let weight = plain.weight().broadcast_mul(&scale.reshape((outputs, 1))?)?;
        let bias = plain.bias().map(|bias| bias * &scale).transpose()?;
        Dense::new(weight, bias)
    };
    multiplied().map_err(|cause| Error::model("weights can't be scaled").with_source(cause))
}

/// Layers one after the other.
pub struct Layers(Vec<Layer>);

impl Layers {
    /// Those below `weights`, by their number.
    pub fn load(weights: &Weights, size: &Size, names: &Names) -> Result<Layers> {
        let layer = |index| Layer::load(&weights.at(index), size, names);
        (0..size.layers).map(layer).collect::<Result<_>>().map(Layers)
    }

    /// With a bias of its own for each layer, or none.
    pub fn forward_each(&self, x: Tensor, biases: &[Tensor]) -> candle_core::Result<Tensor> {
        let mut layers = self.0.iter().enumerate();
        layers.try_fold(x, |x, (place, layer)| layer.forward(&x, biases.get(place)))
    }

    pub fn forward(&self, x: Tensor, bias: Option<&Tensor>) -> candle_core::Result<Tensor> {
        self.0.iter().try_fold(x, |x, layer| layer.forward(&x, bias))
    }
}

/// Patches of an image as tokens: a convolution whose filters don't overlap is a dense layer over each patch.
pub struct Patches {
    filters: Dense,
    side: usize,
}

impl Patches {
    /// `name.weight` of `hidden` filters of the side `patch_size`.
    pub fn load(
        weights: &Weights,
        name: &str,
        settings: &Settings,
        hidden: usize,
        patch: usize,
    ) -> Result<Patches> {
        let side = settings.size_or("patch_size", patch)?.max(1);
        let channels = settings.size_or("num_channels", 3)?;
        let here = weights.at(name);
        let bias = match here.has("bias") {
            true => Some(here.tensor("bias", &[hidden])?),
            false => None,
        };
        let weight = here.tensor("weight", &[hidden, channels, side, side])?;
        let filters = weight.flatten_from(1).and_then(|weight| Dense::new(weight, bias));
        Ok(Patches {
            filters: filters.map_err(|cause| Error::model("no memory for weights").with_source(cause))?,
            side,
        })
    }

    /// `[rows, patches, hidden]`, row by row of the image. What is left over at the right and below is not seen.
    pub fn forward(&self, inputs: &Inputs) -> candle_core::Result<Tensor> {
        let pixels = inputs.numbers("pixel_values")?;
        let (rows, channels, height, width) = pixels.dims4()?;
        let (side, down, across) = (self.side, height / self.side, width / self.side);
        let pixels = pixels.narrow(2, 0, down * side)?.narrow(3, 0, across * side)?;
        let patches = pixels
            .contiguous()?
            .reshape(&[rows, channels, down, side, across, side][..])?
            .permute(vec![0, 2, 4, 1, 3, 5])?
            .reshape((rows, down * across, channels * side * side))?;
        self.filters.forward(&patches)
    }
}

/// Puts tokens that are the same for all rows before those of `x`.
pub fn prepend(tokens: &[&Tensor], x: &Tensor) -> candle_core::Result<Tensor> {
    let (rows, _, hidden) = x.dims3()?;
    let mut all = Vec::with_capacity(tokens.len() + 1);
    for token in tokens {
        all.push(token.reshape((1, 1, hidden))?.expand((rows, 1, hidden))?);
    }
    all.push(x.clone());
    Tensor::cat(&all, 1)
}

/// The token at a place, of each row.
pub fn token(x: &Tensor, place: usize) -> candle_core::Result<Tensor> {
    x.narrow(1, place, 1)?.squeeze(1)?.contiguous()
}

/// How many patches an image of the configuration has.
pub fn count(settings: &Settings, image: usize, patch: usize) -> Result<usize> {
    let side = settings.size_or("image_size", image)? / settings.size_or("patch_size", patch)?.max(1);
    Ok(side * side)
}

/// The average over the tokens from `first` on.
pub fn mean_from(x: &Tensor, first: usize) -> candle_core::Result<Tensor> {
    let tokens = x.dim(1)?;
    x.narrow(1, first, tokens - first)?.mean(1)
}
