//! ResNet. After `transformers/models/resnet/modeling_resnet.py`.

use candle_core::Tensor;

use super::convolution::{self, Convolution, Shape};
use super::encoder::Activation;
use super::image_head::ImageHead;
use super::weights::Weights;
use super::{Family, Inputs, Settings};
use crate::error::{Error, Result};

/// PyTorch's own, which the configuration does not say.
const EPS: f64 = 1e-5;

/// The network of a `config.json` of ResNet.
pub fn open(settings: &Settings, weights: Weights) -> Result<Box<dyn Family>> {
    let network = weights.network("resnet");
    let (widths, depths) = (settings.sizes("hidden_sizes")?, settings.sizes("depths")?);
    if widths.len() != depths.len() || widths.is_empty() {
        return Err(Error::model(
            "config.json gives as many depths as hidden_sizes in no way",
        ));
    }
    let kind = match settings.word_or("layer_type", "bottleneck") {
        "basic" => Kind::Basic,
        "bottleneck" => Kind::Bottleneck {
            early: settings.flag_or("downsample_in_bottleneck", false),
        },
        other => {
            return Err(Error::model(format!(
                "config.json says layer_type {other}, which ResNet has not"
            )));
        }
    };
    let activation = Activation::named(settings.word_or("hidden_act", "relu"))?;
    if activation != Activation::Relu {
        return Err(Error::model(
            "config.json gives a ResNet another hidden_act than relu",
        ));
    }
    let first = settings.size_or("embedding_size", 64)?;
    let stem = Shape {
        from: settings.size_or("num_channels", 3)?,
        to: first,
        side: 7,
        stride: 2,
        groups: 1,
    };
    let stem = unit(&network.at("embedder.embedder"), stem)?;
    let mut layers = Vec::new();
    let mut from = first;
    for (stage, (&to, &depth)) in widths.iter().zip(&depths).enumerate() {
        let halves = stage > 0 || settings.flag_or("downsample_in_first_stage", false);
        for index in 0..depth {
            let stride = if halves && index == 0 { 2 } else { 1 };
            let here = network.at(format!("encoder.stages.{stage}.layers.{index}"));
            layers.push(Layer::load(&here, from, to, stride, kind)?);
            from = to;
        }
    }
    Ok(Box::new(Resnet {
        stem,
        layers,
        head: ImageHead::load(&weights, "classifier.1", settings, from)?,
    }))
}

fn unit(weights: &Weights, shape: Shape) -> Result<Convolution> {
    convolution::normalised(
        &weights.at("convolution"),
        &weights.at("normalization"),
        shape,
        // As many pixels as before, the stride aside.
        shape.side / 2,
        EPS,
    )
}

#[derive(Clone, Copy)]
enum Kind {
    /// Two convolutions of 3 x 3.
    Basic,
    /// A narrow one of 3 x 3 between two of 1 x 1; the first of them may do the stride.
    Bottleneck { early: bool },
}

struct Layer {
    steps: Vec<Convolution>,
    shortcut: Option<Convolution>,
}

impl Layer {
    fn load(weights: &Weights, from: usize, to: usize, stride: usize, kind: Kind) -> Result<Layer> {
        let step = |index: usize, from, to, side, stride| {
            let shape = Shape {
                from,
                to,
                side,
                stride,
                groups: 1,
            };
            unit(&weights.at("layer").at(index), shape)
        };
        let steps = match kind {
            Kind::Basic => vec![step(0, from, to, 3, stride)?, step(1, to, to, 3, 1)?],
            Kind::Bottleneck { early } => {
                let narrow = to / 4;
                let (first, second) = if early { (stride, 1) } else { (1, stride) };
                vec![
                    step(0, from, narrow, 1, first)?,
                    step(1, narrow, narrow, 3, second)?,
                    step(2, narrow, to, 1, 1)?,
                ]
            }
        };
        let shape = Shape {
            from,
            to,
            side: 1,
            stride,
            groups: 1,
        };
        Ok(Layer {
            steps,
            shortcut: match from != to || stride != 1 {
                true => Some(unit(&weights.at("shortcut"), shape)?),
                false => None,
            },
        })
    }

    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let mut y = x.clone();
        for (index, step) in self.steps.iter().enumerate() {
            y = step.forward(&y)?;
            if index + 1 < self.steps.len() {
                y = y.relu()?;
            }
        }
        let x = match &self.shortcut {
            Some(shortcut) => shortcut.forward(x)?,
            None => x.clone(),
        };
        (y + x)?.relu()
    }
}

struct Resnet {
    stem: Convolution,
    layers: Vec<Layer>,
    head: ImageHead,
}

impl Family for Resnet {
    fn inputs(&self) -> &'static [&'static str] {
        &["pixel_values"]
    }

    fn forward(&self, inputs: &Inputs) -> candle_core::Result<Vec<(&'static str, Tensor)>> {
        let x = self.stem.forward(&inputs.numbers("pixel_values")?)?.relu()?;
        // Nothing is below zero after the stem, so zeros around it never win.
        let padded = x.pad_with_zeros(2, 1, 1)?.pad_with_zeros(3, 1, 1)?;
        let x = padded.max_pool2d_with_stride(3, 2)?;
        let x = self.layers.iter().try_fold(x, |x, layer| layer.forward(&x))?;
        let pooled = x.flatten_from(2)?.mean(2)?;
        self.head.outputs(x, pooled)
    }
}
