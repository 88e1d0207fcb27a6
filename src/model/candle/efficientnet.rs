//! EfficientNet: blocks that widen, look at each channel by itself, weigh channels by what is in the whole image, and narrow
//! again. After `transformers/models/efficientnet/modeling_efficientnet.py`.

use candle_core::Tensor;

use super::convolution::{Convolution, Margins, Shape, normalised};
use super::encoder::Activation;
use super::image_head::ImageHead;
use super::ops::Dense;
use super::weights::Weights;
use super::{Family, Inputs, Settings};
use crate::error::{Error, Result};

/// Channels of the first and the last convolution, before `width_coefficient`.
const FIRST: usize = 32;
const LAST: usize = 1280;

/// The network of a `config.json` of EfficientNet.
pub fn open(settings: &Settings, weights: Weights) -> Result<Box<dyn Family>> {
    let activation = Activation::named(settings.word_or("hidden_act", "swish"))?;
    let pooling = match settings.word_or("pooling_type", "mean") {
        "mean" => Pooling::Mean,
        "max" => Pooling::Max,
        other => {
            return Err(Error::model(format!(
                "config.json says pooling_type {other}, which EfficientNet has not"
            )));
        }
    };
    let network = weights.network("efficientnet");
    let scale = Scale::of(settings)?;
    let first = scale.width(FIRST);
    let stem = Shape {
        from: settings.size_or("num_channels", 3)?,
        to: first,
        side: 3,
        stride: 2,
        groups: 1,
    };
    let embeddings = network.at("embeddings");
    let encoder = network.at("encoder");
    let mut blocks = Vec::new();
    let mut last = first;
    for stage in stages(settings)? {
        let (mut from, to) = (scale.width(stage.from), scale.width(stage.to));
        for repeat in 0..scale.depth(stage.repeats) {
            let here = encoder.at("blocks").at(blocks.len());
            let is_first = repeat == 0;
            let size = BlockSize {
                from,
                to,
                side: stage.side,
                stride: if is_first { stage.stride } else { 1 },
                expansion: stage.expansion,
                is_even: settings.lists("depthwise_padding", blocks.len()),
                adds: !is_first,
            };
            blocks.push(Block::load(&here, settings, size)?);
            from = to;
        }
        last = to;
    }
    let wide = scale.width(LAST);
    let top = Shape {
        from: last,
        to: wide,
        side: 1,
        stride: 1,
        groups: 1,
    };
    let eps = eps(settings);
    Ok(Box::new(EfficientNet {
        stem: normalised(
            &embeddings.at("convolution"),
            &embeddings.at("batchnorm"),
            stem,
            0,
            eps,
        )?,
        blocks,
        top: normalised(&encoder.at("top_conv"), &encoder.at("top_bn"), top, 0, eps)?,
        activation,
        pooling,
        head: ImageHead::load(&weights, "classifier", settings, wide)?,
    }))
}

fn eps(settings: &Settings) -> f64 {
    settings.number_or("batch_norm_eps", 1e-3)
}

/// How much wider and deeper than the smallest one a network is.
struct Scale {
    width: f64,
    depth: f64,
    divisor: usize,
}

impl Scale {
    fn of(settings: &Settings) -> Result<Scale> {
        Ok(Scale {
            width: settings.number_or("width_coefficient", 2.0),
            depth: settings.number_or("depth_coefficient", 3.1),
            divisor: settings.size_or("depth_divisor", 8)?.max(1),
        })
    }

    fn width(&self, channels: usize) -> usize {
        divisible(channels as f64 * self.width, self.divisor, self.divisor)
    }

    fn depth(&self, repeats: usize) -> usize {
        (self.depth * repeats as f64).ceil() as usize
    }
}

/// The multiple of `divisor` that is nearest to a number of channels, at least `least`, and no more than a tenth below it.
pub fn divisible(channels: f64, divisor: usize, least: usize) -> usize {
    let nearest = (channels + divisor as f64 / 2.0) as usize / divisor * divisor;
    let nearest = nearest.max(least);
    match (nearest as f64) < 0.9 * channels {
        true => nearest + divisor,
        false => nearest,
    }
}

/// Blocks of one sort, as `config.json` has them: before scaling.
struct Stage {
    from: usize,
    to: usize,
    side: usize,
    stride: usize,
    expansion: usize,
    repeats: usize,
}

fn stages(settings: &Settings) -> Result<Vec<Stage>> {
    let list = |name| settings.sizes(name);
    let (from, to) = (list("in_channels")?, list("out_channels")?);
    let (sides, strides) = (list("kernel_sizes")?, list("strides")?);
    let (expansions, repeats) = (list("expand_ratios")?, list("num_block_repeats")?);
    let all = [&from, &to, &sides, &strides, &expansions, &repeats];
    if all.iter().any(|list| list.len() != from.len()) {
        return Err(Error::model(
            "config.json gives lists of different lengths for the blocks of an EfficientNet",
        ));
    }
    let stage = |at: usize| Stage {
        from: from[at],
        to: to[at],
        side: sides[at],
        stride: strides[at],
        expansion: expansions[at],
        repeats: repeats[at],
    };
    Ok((0..from.len()).map(stage).collect())
}

#[derive(Clone, Copy)]
struct BlockSize {
    from: usize,
    to: usize,
    side: usize,
    stride: usize,
    expansion: usize,
    /// Whether a stride has as many zeros before the image as behind it.
    is_even: bool,
    /// Whether what came in is added to what goes out.
    adds: bool,
}

struct Block {
    wider: Option<Convolution>,
    margins: Margins,
    each: Convolution,
    squeeze: Dense,
    excite: Dense,
    narrower: Convolution,
    adds: bool,
}

impl Block {
    fn load(weights: &Weights, settings: &Settings, size: BlockSize) -> Result<Block> {
        let eps = eps(settings);
        let wide = size.from * size.expansion;
        let whole = |from, to| Shape {
            from,
            to,
            side: 1,
            stride: 1,
            groups: 1,
        };
        let each = Shape {
            from: wide,
            to: wide,
            side: size.side,
            stride: size.stride,
            groups: wide,
        };
        let half = size.side / 2;
        let (margins, padding) = match (size.stride, size.is_even) {
            (1, _) => ([0, 0], half),
            (_, true) => ([half, half], 0),
            (_, false) => ([half.saturating_sub(1), half], 0),
        };
        let narrow = settings.number_or("squeeze_expansion_ratio", 0.25) * size.from as f64;
        let narrow = (narrow as usize).max(1);
        let pair = |part: &str, convolution: &str, norm: &str, shape, padding| {
            let here = weights.at(part);
            normalised(&here.at(convolution), &here.at(norm), shape, padding, eps)
        };
        Ok(Block {
            wider: match size.expansion {
                1 => None,
                _ => Some(pair(
                    "expansion",
                    "expand_conv",
                    "expand_bn",
                    whole(size.from, wide),
                    0,
                )?),
            },
            margins: [margins; 2],
            each: pair(
                "depthwise_conv",
                "depthwise_conv",
                "depthwise_norm",
                each,
                padding,
            )?,
            squeeze: weights.pointwise("squeeze_excite.reduce", wide, narrow)?,
            excite: weights.pointwise("squeeze_excite.expand", narrow, wide)?,
            narrower: pair(
                "projection",
                "project_conv",
                "project_bn",
                whole(wide, size.to),
                0,
            )?,
            adds: size.adds,
        })
    }

    fn forward(&self, x: &Tensor, activation: Activation) -> candle_core::Result<Tensor> {
        let wide = match &self.wider {
            Some(wider) => activation.apply(&wider.forward(x)?)?,
            None => x.clone(),
        };
        let seen = activation.apply(&self.each.within(&wide, self.margins)?)?;
        let (rows, channels, _, _) = seen.dims4()?;
        let weights = self.squeeze.forward(&seen.flatten_from(2)?.mean(2)?)?;
        let weights = self.excite.forward(&activation.apply(&weights)?)?;
        let weights = candle_nn::ops::sigmoid(&weights)?.reshape((rows, channels, 1, 1))?;
        let y = self.narrower.forward(&seen.broadcast_mul(&weights)?)?;
        match self.adds {
            true => y + x,
            false => Ok(y),
        }
    }
}

#[derive(Clone, Copy)]
enum Pooling {
    Mean,
    Max,
}

struct EfficientNet {
    stem: Convolution,
    blocks: Vec<Block>,
    top: Convolution,
    activation: Activation,
    pooling: Pooling,
    head: ImageHead,
}

impl Family for EfficientNet {
    fn inputs(&self) -> &'static [&'static str] {
        &["pixel_values"]
    }

    fn forward(&self, inputs: &Inputs) -> candle_core::Result<Vec<(&'static str, Tensor)>> {
        let pixels = inputs.numbers("pixel_values")?;
        let x = self.activation.apply(&self.stem.within(&pixels, [[0, 1]; 2])?)?;
        let mut blocks = self.blocks.iter();
        let x = blocks.try_fold(x, |x, block| block.forward(&x, self.activation))?;
        let x = self.activation.apply(&self.top.forward(&x)?)?;
        let pixels = x.flatten_from(2)?;
        let pooled = match self.pooling {
            Pooling::Mean => pixels.mean(2)?,
            Pooling::Max => pixels.max(2)?,
        };
        self.head.outputs(x, pooled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_rounded_as_the_published_networks_have_them() {
        // EfficientNet-B0, B2 and B7; the last rounds up since rounding down would lose too much.
        for (width, channels, expected) in [(1.0, 32, 32), (1.1, 32, 32), (1.1, 1280, 1408), (2.0, 24, 48)] {
            let scale = Scale {
                width,
                depth: 1.0,
                divisor: 8,
            };
            assert_eq!(scale.width(channels), expected, "{width} {channels}");
        }
        assert_eq!(divisible(11.2, 8, 8), 16);
    }
}
