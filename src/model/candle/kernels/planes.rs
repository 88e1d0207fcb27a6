//! Depthwise convolutions with a stride, or with more zeros on one side of an image than on the other: a plane at a time, row
//! by row. [`convolution`](super::convolution) has a faster way for all others.

use super::each;
use super::isa::{Isa, multiply_add, per_isa};

/// The sizes of one channel's plane, of the square filter that goes over it, and of what comes out; pairs are rows and
/// columns.
#[derive(Clone, Copy, Debug)]
pub struct Plane {
    pub extent: [usize; 2],
    pub side: usize,
    pub stride: usize,
    /// Rows above and columns before the plane, which are zero, as is everything behind it.
    pub before: [usize; 2],
    pub out: [usize; 2],
}

/// Planes of `x` with the weights and the bias of their channels; there are as many of `out`.
pub fn planes(isa: Isa, plane: Plane, x: &[f32], weights: &[f32], biases: &[f32], out: &mut [f32]) {
    let size = |[height, width]: [usize; 2]| (height * width).max(1);
    let filter_size = plane.side * plane.side;
    let planes = x
        .chunks_exact(size(plane.extent))
        .zip(out.chunks_exact_mut(size(plane.out)));
    each(planes.enumerate().collect(), |(place, (x, out))| {
        let channel = place % biases.len();
        out.fill(biases[channel]);
        filter(
            isa,
            plane,
            x,
            &weights[channel * filter_size..][..filter_size],
            out,
        );
    });
}

per_isa! {
    /// Adds what a filter makes of a plane.
    filter(plane: Plane, x: &[f32], weights: &[f32], out: &mut [f32]) = filter_body
}

#[inline(always)]
fn filter_body<const FMA: bool>(plane: Plane, x: &[f32], weights: &[f32], out: &mut [f32]) {
    let Plane {
        extent: [height, width],
        side,
        stride,
        before: [above, left],
        out: [_, columns],
    } = plane;
    for (row, sums) in out.chunks_exact_mut(columns.max(1)).enumerate() {
        for (down, weights) in weights.chunks_exact(side).enumerate() {
            let source = (row * stride + down).checked_sub(above).filter(|y| *y < height);
            let Some(y) = source else { continue };
            let source = &x[y * width..][..width];
            for (across, &weight) in weights.iter().enumerate() {
                let first = left.saturating_sub(across).div_ceil(stride);
                let end = (width + left)
                    .saturating_sub(across)
                    .div_ceil(stride)
                    .min(columns);
                if first >= end {
                    continue;
                }
                let source = &source[first * stride + across - left..];
                let sums = &mut sums[first..end];
                if stride == 1 {
                    for (sum, x) in std::iter::zip(sums, source) {
                        *sum = multiply_add::<FMA>(*x, weight, *sum);
                    }
                } else {
                    for (sum, x) in std::iter::zip(sums, source.iter().step_by(stride)) {
                        *sum = multiply_add::<FMA>(*x, weight, *sum);
                    }
                }
            }
        }
    }
}
