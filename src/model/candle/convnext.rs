//! ConvNeXT. After `transformers/models/convnext/modeling_convnext.py`.

use candle_core::Tensor;

use super::convolution::{Convolution, Shape, biased};
use super::encoder::Activation;
use super::image_head::ImageHead;
use super::ops::{FeedForward, Norm};
use super::weights::Weights;
use super::{Family, Inputs, Settings};
use crate::error::{Error, Result};

/// Of all norms but the last, which the configuration does not say.
const EPS: f64 = 1e-6;

/// The network of a `config.json` of ConvNeXT.
pub fn open(settings: &Settings, weights: Weights) -> Result<Box<dyn Family>> {
    let network = weights.network("convnext");
    let (widths, depths) = (settings.sizes("hidden_sizes")?, settings.sizes("depths")?);
    if widths.len() != depths.len() || widths.is_empty() {
        return Err(Error::model(
            "config.json gives as many depths as hidden_sizes in no way",
        ));
    }
    let activation = Activation::named(settings.word_or("hidden_act", "gelu"))?;
    let side = settings.size_or("patch_size", 4)?;
    let embeddings = network.at("embeddings");
    let stem = Shape {
        from: settings.size_or("num_channels", 3)?,
        to: widths[0],
        side,
        stride: side,
        groups: 1,
    };
    let mut stages = Vec::with_capacity(widths.len());
    let mut from = widths[0];
    for (stage, (&to, &depth)) in widths.iter().zip(&depths).enumerate() {
        let here = network.at("encoder.stages").at(stage);
        let halving = Shape {
            from,
            to,
            side: 2,
            stride: 2,
            groups: 1,
        };
        let smaller = match stage {
            0 => None,
            _ => {
                let down = here.at("downsampling_layer");
                Some((down.norm("0", from, EPS)?, biased(&down.at(1), halving, 0)?))
            }
        };
        let layer = |index| Layer::load(&here.at("layers").at(index), to, activation);
        stages.push(Stage {
            smaller,
            layers: (0..depth).map(layer).collect::<Result<_>>()?,
        });
        from = to;
    }
    Ok(Box::new(Convnext {
        stem: biased(&embeddings.at("patch_embeddings"), stem, 0)?,
        stem_norm: embeddings.norm("layernorm", widths[0], EPS)?,
        stages,
        norm: network.norm("layernorm", from, settings.number_or("layer_norm_eps", 1e-12))?,
        head: ImageHead::load(&weights, "classifier", settings, from)?,
    }))
}

struct Layer {
    spatial: Convolution,
    norm: Norm,
    feed_forward: FeedForward,
    scale: Option<Tensor>,
}

impl Layer {
    fn load(weights: &Weights, width: usize, activation: Activation) -> Result<Layer> {
        let each = Shape {
            from: width,
            to: width,
            side: 7,
            stride: 1,
            groups: width,
        };
        Ok(Layer {
            spatial: biased(&weights.at("dwconv"), each, 3)?,
            norm: weights.norm("layernorm", width, EPS)?,
            feed_forward: FeedForward {
                up: weights.dense("pwconv1", width, 4 * width)?,
                activation,
                gated: false,
                down: weights.dense("pwconv2", 4 * width, width)?,
            },
            scale: match weights.has("layer_scale_parameter") {
                true => Some(weights.tensor("layer_scale_parameter", &[width])?),
                false => None,
            },
        })
    }

    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let y = self.spatial.forward(x)?.permute((0, 2, 3, 1))?.contiguous()?;
        let y = self.feed_forward.forward(&self.norm.forward(&y)?)?;
        let y = match &self.scale {
            Some(scale) => y.broadcast_mul(scale)?,
            None => y,
        };
        x + y.permute((0, 3, 1, 2))?
    }
}

struct Stage {
    /// Half the rows and columns, except in the first stage.
    smaller: Option<(Norm, Convolution)>,
    layers: Vec<Layer>,
}

struct Convnext {
    stem: Convolution,
    stem_norm: Norm,
    stages: Vec<Stage>,
    norm: Norm,
    head: ImageHead,
}

/// The channels of each pixel, normalised: `[rows, channels, height, width]`.
fn norm_pixels(norm: &Norm, x: &Tensor) -> candle_core::Result<Tensor> {
    let pixels = x.permute((0, 2, 3, 1))?.contiguous()?;
    norm.forward(&pixels)?.permute((0, 3, 1, 2))?.contiguous()
}

impl Family for Convnext {
    fn inputs(&self) -> &'static [&'static str] {
        &["pixel_values"]
    }

    fn forward(&self, inputs: &Inputs) -> candle_core::Result<Vec<(&'static str, Tensor)>> {
        let mut x = norm_pixels(
            &self.stem_norm,
            &self.stem.forward(&inputs.numbers("pixel_values")?)?,
        )?;
        for stage in &self.stages {
            if let Some((norm, convolution)) = &stage.smaller {
                x = convolution.forward(&norm_pixels(norm, &x)?)?;
            }
            x = stage.layers.iter().try_fold(x, |x, layer| layer.forward(&x))?;
        }
        let pooled = self.norm.forward(&x.flatten_from(2)?.mean(2)?)?;
        self.head.outputs(x, pooled)
    }
}
