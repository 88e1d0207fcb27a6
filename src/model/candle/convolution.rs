//! Convolutions as their weights are stored: by Floe's own [`kernels`](super::kernels) for float32 on the CPU, where there is
//! one channel a filter or all of them, by Candle's operations elsewhere.

use candle_core::Tensor;
use candle_nn::{Conv2d, Conv2dConfig, Module};

use super::kernels::convolution::{Extent, Sizes, convolution};
use super::kernels::depthwise::depthwise;
use super::ops::{is_ours, made, numbers};
use super::weights::Weights;
use crate::error::{Error, Result};
use crate::model::isa::Isa;

pub use super::kernels::convolution::Margins;

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

/// One convolution.
pub struct Convolution(Way);

enum Way {
    /// All channels, or each with a filter of its own.
    Ours {
        sizes: Sizes,
        each: bool,
        weight: Vec<f32>,
        bias: Vec<f32>,
    },
    Candle(Conv2d),
}

impl Convolution {
    fn new(shape: Shape, padding: usize, weight: Tensor, bias: Tensor) -> candle_core::Result<Convolution> {
        let each = shape.groups == shape.from && shape.groups == shape.to;
        if !is_ours(&weight) || !(each || shape.groups == 1) {
            let theirs = Conv2d::new(weight, Some(bias), shape.config(padding));
            return Ok(Convolution(Way::Candle(theirs)));
        }
        let sizes = Sizes {
            from: shape.from,
            to: shape.to,
            side: shape.side,
            stride: shape.stride,
            margins: [[padding; 2]; 2],
        };
        Ok(Convolution(Way::Ours {
            sizes,
            each,
            weight: weight.flatten_all()?.to_vec1()?,
            bias: bias.to_vec1()?,
        }))
    }

    /// `[images, to, height, width]` of `[images, from, height, width]`.
    pub fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        self.within(x, [[0; 2]; 2])
    }

    /// The same with `margins` beyond the zeros that it puts around images itself.
    pub fn within(&self, x: &Tensor, margins: Margins) -> candle_core::Result<Tensor> {
        let [[above, below], [left, right]] = margins;
        let (mut sizes, each, weight, bias) = match &self.0 {
            Way::Ours {
                sizes,
                each,
                weight,
                bias,
            } => (*sizes, *each, weight, bias),
            Way::Candle(convolution) => {
                let x = x.pad_with_zeros(2, above, below)?;
                return convolution.forward(&x.pad_with_zeros(3, left, right)?);
            }
        };
        for (own, more) in sizes
            .margins
            .iter_mut()
            .flatten()
            .zip([above, below, left, right])
        {
            *own += more;
        }
        let (images, channels, height, width) = x.dims4()?;
        let has = Extent {
            images,
            height,
            width,
        };
        let gives = sizes.of(has).filter(|_| channels == sizes.from);
        let Some(gives) = gives else {
            candle_core::bail!("{:?} go into a convolution of {sizes:?}", x.shape());
        };
        let x = x.contiguous()?;
        let (storage, layout) = &x.storage_and_layout();
        let x = numbers(storage, layout)?;
        let mut out = vec![0.0; images * sizes.to * gives.height * gives.width];
        let work = if each { depthwise } else { convolution };
        work(Isa::best(), sizes, weight, bias, (x, has), (&mut out, gives));
        made(out, &[images, sizes.to, gives.height, gives.width])
    }
}

/// `weight` and `bias` below `weights`.
pub fn biased(weights: &Weights, shape: Shape, padding: usize) -> Result<Convolution> {
    let bias = weights.tensor("bias", &[shape.to])?;
    let made = Convolution::new(shape, padding, shape.weight(weights)?, bias);
    made.map_err(|cause| Error::model("no memory for weights").with_source(cause))
}

/// A convolution without a bias and the batch norm behind it, as one convolution: in use the norm is a factor and a term
/// per channel.
pub fn normalised(
    convolution: &Weights,
    norm: &Weights,
    shape: Shape,
    padding: usize,
    eps: f64,
) -> Result<Convolution> {
    let per_channel = |name| norm.tensor(name, &[shape.to]);
    let (weight, factor, term) = (
        shape.weight(convolution)?,
        per_channel("weight")?,
        per_channel("bias")?,
    );
    let (mean, variance) = (per_channel("running_mean")?, per_channel("running_var")?);
    let folded = || -> candle_core::Result<Convolution> {
        let factor = (factor / (variance + eps)?.sqrt()?)?;
        let weight = weight.broadcast_mul(&factor.reshape((shape.to, 1, 1, 1))?)?;
        let bias = (term - (mean * factor)?)?;
        Convolution::new(shape, padding, weight, bias)
    };
    folded().map_err(|cause| Error::model("a batch norm can't be computed").with_source(cause))
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    /// The convolutions of ResNet and ConvNeXT, with numbers of the size that networks have.
    #[test]
    fn our_convolutions_give_what_those_of_candle_give() {
        let shapes = [
            (3, 64, 7, 2, 1, 3, 40),
            (64, 32, 1, 1, 1, 0, 14),
            (64, 48, 1, 2, 1, 0, 14),
            (64, 64, 3, 1, 1, 1, 14),
            (64, 96, 3, 2, 1, 1, 15),
            (3, 96, 4, 4, 1, 0, 40),
            (96, 64, 2, 2, 1, 0, 14),
            (24, 24, 7, 1, 24, 3, 14),
            (24, 24, 7, 1, 24, 3, 7),
            (24, 48, 3, 1, 4, 1, 9),
        ];
        for (from, to, side, stride, groups, padding, pixels) in shapes {
            let shape = Shape {
                from,
                to,
                side,
                stride,
                groups,
            };
            let seen = from / groups;
            let spread = 1.0 / ((seen * side * side) as f32).sqrt();
            let random = |shape: &[usize], spread| Tensor::randn(0f32, spread, shape, &Device::Cpu).unwrap();
            let weight = random(&[to, seen, side, side], spread);
            let (bias, x) = (random(&[to], 1.0), random(&[2, from, pixels, pixels], 1.0));
            let theirs = Conv2d::new(weight.clone(), Some(bias.clone()), shape.config(padding));
            let ours = Convolution::new(shape, padding, weight, bias).unwrap();
            assert_eq!(matches!(ours.0, Way::Ours { .. }), groups == 1 || groups == from);
            let (ours, theirs) = (ours.forward(&x).unwrap(), theirs.forward(&x).unwrap());
            assert_eq!(ours.dims(), theirs.dims());
            let apart = (ours - theirs).unwrap().abs().unwrap().flatten_all().unwrap();
            let apart = apart.max(0).unwrap().to_scalar::<f32>().unwrap();
            assert!(apart < 1e-5, "{shape:?}: {apart}");
        }
    }

    #[test]
    fn margins_are_zeros_around_the_image() {
        for (groups, side, stride, padding, margins) in [
            (3, 3, 1, 1, [[0, 0], [0, 0]]),
            (3, 3, 2, 0, [[0, 1], [0, 1]]),
            (3, 5, 2, 0, [[1, 2], [2, 2]]),
            (3, 7, 1, 3, [[1, 0], [0, 2]]),
            (3, 3, 3, 0, [[0, 0], [0, 0]]),
            (1, 3, 2, 1, [[0, 1], [0, 1]]),
        ] {
            let shape = Shape {
                from: 3,
                to: 3,
                side,
                stride,
                groups,
            };
            let random = |shape: &[usize]| Tensor::randn(0f32, 0.3, shape, &Device::Cpu).unwrap();
            let (weight, bias) = (random(&[3, 3 / groups, side, side]), random(&[3]));
            let x = random(&[2, 3, 9, 8]);
            let theirs = Conv2d::new(weight.clone(), Some(bias.clone()), shape.config(padding));
            let [[above, below], [left, right]] = margins;
            let padded = x.pad_with_zeros(2, above, below).unwrap();
            let theirs = theirs
                .forward(&padded.pad_with_zeros(3, left, right).unwrap())
                .unwrap();
            let ours = Convolution::new(shape, padding, weight, bias).unwrap();
            let ours = ours.within(&x, margins).unwrap();
            assert_eq!(ours.dims(), theirs.dims());
            let apart = (ours - theirs).unwrap().abs().unwrap().flatten_all().unwrap();
            let apart = apart.max(0).unwrap().to_scalar::<f32>().unwrap();
            assert!(apart < 1e-5, "{shape:?}: {apart}");
        }
    }
}
