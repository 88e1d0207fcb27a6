//! Convolutions as their weights are stored.

use candle_core::Tensor;
use candle_nn::{Conv2d, Conv2dConfig};

use super::weights::Weights;
use crate::error::{Error, Result};

/// A convolution's sizes.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub from: usize,
    pub to: usize,
    pub side: usize,
    pub stride: usize,
    pub groups: usize,
}

impl Shape {
    fn config(self, padding: usize) -> Conv2dConfig {
        Conv2dConfig {
            padding,
            stride: self.stride,
            groups: self.groups,
            ..Conv2dConfig::default()
        }
    }

    fn weight(self, weights: &Weights) -> Result<Tensor> {
        let shape = [self.to, self.from / self.groups.max(1), self.side, self.side];
        weights.tensor("weight", &shape)
    }
}

/// `weight` and `bias` below `weights`.
pub fn biased(weights: &Weights, shape: Shape, padding: usize) -> Result<Conv2d> {
    let bias = weights.tensor("bias", &[shape.to])?;
    Ok(Conv2d::new(
        shape.weight(weights)?,
        Some(bias),
        shape.config(padding),
    ))
}

/// A convolution without a bias and the batch norm behind it, as one convolution: in use the norm is a factor and a term
/// per channel.
pub fn normalised(
    convolution: &Weights,
    norm: &Weights,
    shape: Shape,
    padding: usize,
    eps: f64,
) -> Result<Conv2d> {
    let per_channel = |name| norm.tensor(name, &[shape.to]);
    let (weight, factor, term) = (
        shape.weight(convolution)?,
        per_channel("weight")?,
        per_channel("bias")?,
    );
    let (mean, variance) = (per_channel("running_mean")?, per_channel("running_var")?);
    let folded = || -> candle_core::Result<(Tensor, Tensor)> {
        let factor = (factor / (variance + eps)?.sqrt()?)?;
        let weight = weight.broadcast_mul(&factor.reshape((shape.to, 1, 1, 1))?)?;
        let bias = (term - (mean * factor)?)?;
        Ok((weight, bias))
    };
    let (weight, bias) =
        folded().map_err(|cause| Error::model("a batch norm can't be computed").with_source(cause))?;
    Ok(Conv2d::new(weight, Some(bias), shape.config(padding)))
}

/// Zeros before and behind the rows and columns of an image.
pub fn pad(x: &Tensor, [before, behind]: [usize; 2]) -> candle_core::Result<Tensor> {
    match before + behind {
        0 => Ok(x.clone()),
        _ => x.pad_with_zeros(2, before, behind)?.pad_with_zeros(3, before, behind),
    }
}
