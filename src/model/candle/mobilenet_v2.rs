//! MobileNetV2: blocks that widen, look at each channel by itself, and narrow again. After
//! `transformers/models/mobilenet_v2/modeling_mobilenet_v2.py`.

use candle_core::Tensor;

use super::convolution::{Convolution, Shape, normalised};
use super::efficientnet::divisible;
use super::image_head::ImageHead;
use super::weights::Weights;
use super::{Family, Inputs, Settings};
use crate::error::{Error, Result};

/// Channels behind the stem and behind each block, before `depth_multiplier`.
const CHANNELS: [usize; 17] = [
    16, 24, 24, 32, 32, 32, 64, 64, 64, 64, 96, 96, 96, 160, 160, 160, 320,
];
/// The stride of each block.
const STRIDES: [usize; 16] = [2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1];
/// Channels of the first and the last convolution, likewise.
const FIRST: usize = 32;
const LAST: usize = 1280;

/// The network of a `config.json` of MobileNetV2.
pub fn open(settings: &Settings, weights: Weights) -> Result<Box<dyn Family>> {
    let odd = |name: &str, value: &dyn std::fmt::Display| {
        Err(Error::model(format!(
            "config.json says {name} {value}, which Floe has no code for in MobileNetV2"
        )))
    };
    let activation = settings.word_or("hidden_act", "relu6");
    if activation != "relu6" {
        return odd("hidden_act", &activation);
    }
    let stride = settings.size_or("output_stride", 32)?;
    if stride != 32 {
        return odd("output_stride", &stride);
    }
    let network = weights.network("mobilenet_v2");
    let sizes = Sizes {
        multiplier: settings.number_or("depth_multiplier", 1.0),
        divisor: settings.size_or("depth_divisible_by", 8)?.max(1),
        least: settings.size_or("min_depth", 8)?,
        eps: settings.number_or("layer_norm_eps", 1e-3),
        later: settings.flag_or("tf_padding", true),
    };
    let unit = |weights: &Weights, name: &str, shape: Shape, clipped: bool| {
        Unit::load(&weights.at(name), shape, clipped, &sizes)
    };
    let channels: Vec<usize> = CHANNELS.iter().map(|channels| sizes.width(*channels)).collect();
    let first = sizes.width(FIRST);
    let stem = network.at("conv_stem");
    let of_image = Shape {
        stride: 2,
        ..whole(settings.size_or("num_channels", 3)?, first, 3)
    };
    let mut steps = vec![unit(&stem, "first_conv", of_image, true)?];
    if !settings.flag_or("first_layer_is_expansion", true) {
        steps.push(unit(&stem, "expand_1x1", whole(first, first, 1), true)?);
    }
    steps.push(unit(&stem, "conv_3x3", each(first, 1), true)?);
    steps.push(unit(&stem, "reduce_1x1", whole(first, channels[0], 1), false)?);
    let mut blocks = vec![Block { steps, adds: false }];
    let expansion = settings.number_or("expand_ratio", 6.0);
    for (index, &stride) in STRIDES.iter().enumerate() {
        let here = network.at("layer").at(index);
        let (from, to) = (channels[index], channels[index + 1]);
        let wide = (from as f64 * expansion).round_ties_even();
        let wide = divisible(wide, sizes.divisor, sizes.least);
        blocks.push(Block {
            steps: vec![
                unit(&here, "expand_1x1", whole(from, wide, 1), true)?,
                unit(&here, "conv_3x3", each(wide, stride), true)?,
                unit(&here, "reduce_1x1", whole(wide, to, 1), false)?,
            ],
            adds: stride == 1 && from == to,
        });
    }
    let last = match settings.flag_or("finegrained_output", true) && sizes.multiplier < 1.0 {
        true => LAST,
        false => sizes.width(LAST),
    };
    let end = whole(channels[CHANNELS.len() - 1], last, 1);
    blocks.push(Block {
        steps: vec![unit(&network, "conv_1x1", end, true)?],
        adds: false,
    });
    Ok(Box::new(MobileNetV2 {
        blocks,
        head: ImageHead::load(&weights, "classifier", settings, last)?,
    }))
}

struct Sizes {
    multiplier: f64,
    divisor: usize,
    least: usize,
    eps: f64,
    /// Whether zeros come behind an image rather than before it, as TensorFlow has them.
    later: bool,
}

impl Sizes {
    fn width(&self, channels: usize) -> usize {
        let channels = (channels as f64 * self.multiplier).round_ties_even();
        divisible(channels, self.divisor, self.least)
    }
}

fn whole(from: usize, to: usize, side: usize) -> Shape {
    Shape {
        from,
        to,
        side,
        stride: 1,
        groups: 1,
    }
}

fn each(channels: usize, stride: usize) -> Shape {
    Shape {
        stride,
        groups: channels,
        ..whole(channels, channels, 3)
    }
}

/// A convolution with its norm, and the limits of what comes out.
struct Unit {
    convolution: Convolution,
    shape: Shape,
    later: bool,
    clipped: bool,
}

impl Unit {
    fn load(weights: &Weights, shape: Shape, clipped: bool, sizes: &Sizes) -> Result<Unit> {
        let padding = if sizes.later { 0 } else { shape.side / 2 };
        let (convolution, norm) = (weights.at("convolution"), weights.at("normalization"));
        Ok(Unit {
            convolution: normalised(&convolution, &norm, shape, padding, sizes.eps)?,
            shape,
            later: sizes.later,
            clipped,
        })
    }

    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let (_, _, height, width) = x.dims4()?;
        let margins = match self.later {
            true => [self.margins(height), self.margins(width)],
            false => [[0, 0]; 2],
        };
        let y = self.convolution.within(x, margins)?;
        match self.clipped {
            true => y.clamp(0f32, 6f32),
            false => Ok(y),
        }
    }

    /// Zeros before and behind so many pixels, so that a stride leaves out none.
    fn margins(&self, pixels: usize) -> [usize; 2] {
        let Shape { side, stride, .. } = self.shape;
        let beyond = match pixels % stride {
            0 => side.saturating_sub(stride),
            rest => side.saturating_sub(rest),
        };
        [beyond / 2, beyond - beyond / 2]
    }
}

struct Block {
    steps: Vec<Unit>,
    /// Whether what came in is added to what goes out.
    adds: bool,
}

impl Block {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let y = self
            .steps
            .iter()
            .try_fold(x.clone(), |y, step| step.forward(&y))?;
        match self.adds {
            true => y + x,
            false => Ok(y),
        }
    }
}

struct MobileNetV2 {
    blocks: Vec<Block>,
    head: ImageHead,
}

impl Family for MobileNetV2 {
    fn inputs(&self) -> &'static [&'static str] {
        &["pixel_values"]
    }

    fn forward(&self, inputs: &Inputs) -> candle_core::Result<Vec<(&'static str, Tensor)>> {
        let x = inputs.numbers("pixel_values")?;
        let x = self.blocks.iter().try_fold(x, |x, block| block.forward(&x))?;
        let pooled = x.flatten_from(2)?.mean(2)?;
        self.head.outputs(x, pooled)
    }
}
