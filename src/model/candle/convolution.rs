//! Convolutions as their weights are stored.

use candle_core::{Module, Tensor};
use candle_nn::{Conv2d, Conv2dConfig};

use super::kernels::isa::Isa;
use super::kernels::planes::{Plane, depthwise};
use super::ops::{is_ours, made, with_numbers};
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

/// Zeros above and below an image, and before and behind its columns.
pub type Margins = [[usize; 2]; 2];

/// A convolution over an image with `margins`. One that looks at each channel by itself goes plane by plane; Candle would take
/// it for as many convolutions as there are channels.
pub fn convolve(convolution: &Conv2d, x: &Tensor, margins: Margins) -> candle_core::Result<Tensor> {
    let Conv2dConfig {
        padding,
        stride,
        groups,
        ..
    } = *convolution.config();
    let (weight, bias) = (convolution.weight(), convolution.bias());
    let (rows, channels, height, width) = x.dims4()?;
    let (outputs, inputs, side, _) = weight.dims4()?;
    let [[above, below], [left, right]] = margins;
    if let Some(bias) = bias
        && is_ours(x)
        && (groups, outputs, inputs) == (channels, channels, 1)
    {
        let long = |pixels: usize, more: usize| (pixels + more + 2 * padding).checked_sub(side);
        let (Some(down), Some(across)) = (long(height, above + below), long(width, left + right)) else {
            candle_core::bail!("a filter of {side} for {height} x {width} pixels");
        };
        let plane = Plane {
            extent: [height, width],
            side,
            stride,
            before: [above + padding, left + padding],
            out: [down / stride + 1, across / stride + 1],
        };
        let mut out = vec![0.0; rows * channels * plane.out[0] * plane.out[1]];
        with_numbers!(x, weight, bias => depthwise(Isa::best(), plane, x, weight, bias, &mut out));
        return made(out, &[rows, channels, plane.out[0], plane.out[1]]);
    }
    let padded = match margins {
        [[0, 0], [0, 0]] => x.clone(),
        _ => x
            .pad_with_zeros(2, above, below)?
            .pad_with_zeros(3, left, right)?,
    };
    convolution.forward(&padded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn channels_by_themselves_give_what_candle_gives() {
        let numbers =
            |count: usize, step: f32| -> Vec<f32> { (0..count).map(|at| (at as f32 * step).sin()).collect() };
        for (height, width, side, stride, padding, margins) in [
            (5, 7, 3, 1, 1, [[0, 0], [0, 0]]),
            (8, 6, 3, 2, 0, [[0, 1], [0, 1]]),
            (9, 9, 5, 2, 0, [[1, 2], [2, 2]]),
            (7, 7, 7, 1, 3, [[0, 0], [0, 0]]),
            (2, 3, 5, 1, 2, [[0, 0], [0, 0]]),
            (3, 3, 3, 3, 0, [[0, 0], [0, 0]]),
        ] {
            let (rows, channels) = (2, 3);
            let tensor = |count, step, shape: &[usize]| {
                Tensor::from_vec(numbers(count, step), shape, &Device::Cpu).unwrap()
            };
            let x = tensor(
                rows * channels * height * width,
                0.7,
                &[rows, channels, height, width],
            );
            let weight = tensor(channels * side * side, 1.3, &[channels, 1, side, side]);
            let bias = tensor(channels, 2.1, &[channels]);
            let config = Conv2dConfig {
                padding,
                stride,
                groups: channels,
                ..Conv2dConfig::default()
            };
            let convolution = Conv2d::new(weight, Some(bias), config);
            let ours = convolve(&convolution, &x, margins).unwrap();
            let [[above, below], [left, right]] = margins;
            let padded = x.pad_with_zeros(2, above, below).unwrap();
            let padded = padded.pad_with_zeros(3, left, right).unwrap();
            let theirs = convolution.forward(&padded).unwrap();
            assert_eq!(ours.dims(), theirs.dims());
            let flat = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let plane = Plane {
                extent: [height, width],
                side,
                stride,
                before: [above + padding, left + padding],
                out: [theirs.dim(2).unwrap(), theirs.dim(3).unwrap()],
            };
            let (weight, bias) = (flat(convolution.weight()), flat(convolution.bias().unwrap()));
            for isa in Isa::available() {
                let mut out = vec![0.0; theirs.elem_count()];
                depthwise(isa, plane, &flat(&x), &weight, &bias, &mut out);
                let pairs = std::iter::zip(&out, flat(&theirs));
                assert!(pairs.into_iter().all(|(a, b)| (a - b).abs() < 1e-5), "{isa:?}");
            }
            for (ours, theirs) in std::iter::zip(flat(&ours), flat(&theirs)) {
                assert!(
                    (ours - theirs).abs() < 1e-5,
                    "{height} x {width}, {side}: {ours} {theirs}"
                );
            }
        }
    }
}
