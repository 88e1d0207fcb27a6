//! Convolutions of all channels on the CPU, as products with the weights as they lie; [`depthwise`](super::depthwise) has those
//! of each channel alone.
//!
//! A product's panel is a few pixels of the output: for each weight of a filter the numbers that it meets there (what is called
//! im2col), copied row by row from the image. Its rows are the filters, so that sums come out channel by channel, as images
//! lie. Never more than a few panels are there at once, and of each only as many terms as stay in the second cache.

use super::tiles::{self, From, Rows};
use super::{each, scratch};
use crate::model::isa::Isa;

/// Sizes of a convolution of squares.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Channels of the input and the output.
    pub from: usize,
    pub to: usize,
    pub side: usize,
    pub stride: usize,
    pub margins: Margins,
}

/// Zeros above and below an image, and before and behind its columns.
pub type Margins = [[usize; 2]; 2];

/// Rows and columns of some images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    pub images: usize,
    pub height: usize,
    pub width: usize,
}

impl Sizes {
    /// What comes of images; `None` where a filter is larger than they are.
    pub fn of(&self, images: Extent) -> Option<Extent> {
        let along = |pixels: usize, [before, behind]: [usize; 2]| {
            Some((before + pixels + behind).checked_sub(self.side)? / self.stride + 1)
        };
        let [rows, columns] = self.margins;
        Some(Extent {
            images: images.images,
            height: along(images.height, rows)?,
            width: along(images.width, columns)?,
        })
    }

    /// Pixels of an output row `[first, end)` whose filter meets a column of the input at `x`, of `width` columns.
    fn within(&self, x: usize, width: usize, columns: usize) -> (usize, usize) {
        let [_, [left, _]] = self.margins;
        let first = left.saturating_sub(x).div_ceil(self.stride).min(columns);
        let end = (width + left).saturating_sub(x).div_ceil(self.stride);
        (first, end.clamp(first, columns))
    }
}

/// Most terms of a sum at once: a panel of them takes 24 KiB, of 16 columns.
const TERMS: usize = 384;

/// Panels that are made at once, and filters that meet all of them before the next: both stay in the second cache.
const PANELS: usize = 8;
const FILTERS: usize = 48;

/// Writes `[images, to, height, width]` for `x` of `[images, from, height, width]`, `weight` of `[to, from, side, side]`.
pub fn convolution(
    isa: Isa,
    sizes: Sizes,
    weight: &[f32],
    bias: &[f32],
    (x, has): (&[f32], Extent),
    (out, gives): (&mut [f32], Extent),
) {
    let (plane, depth) = (gives.height * gives.width, sizes.from * sizes.side * sizes.side);
    let image = sizes.from * has.height * has.width;
    assert_eq!(sizes.of(has), Some(gives));
    assert!(weight.len() == sizes.to * depth && bias.len() == sizes.to);
    assert!(x.len() == has.images * image && out.len() == gives.images * sizes.to * plane);
    if out.is_empty() {
        return;
    }
    // Some filters of an image, where there are more threads than images: each makes panels of its own.
    let parts = rayon::current_num_threads().div_ceil(has.images).min(sizes.to);
    let filters = sizes.to.div_ceil(parts);
    let images = out.chunks_mut(sizes.to * plane).zip(x.chunks(image.max(1)));
    let pieces = images.flat_map(|(out, x)| {
        let parts = out.chunks_mut(filters * plane).enumerate();
        parts.map(move |(part, out)| (part * filters, x, out))
    });
    each(pieces.collect(), |(first, x, out)| {
        let count = out.len() / plane;
        for (out, bias) in out.chunks_exact_mut(plane).zip(&bias[first..]) {
            out.fill(*bias);
        }
        let weight = &weight[first * depth..][..count * depth];
        let most = PANELS * terms_of(depth) * tiles::width(isa);
        scratch(most, |panels| {
            some(isa, sizes, (weight, depth), (x, has), (out, gives), panels)
        });
    });
}

/// Terms of a panel for filters of `depth` terms: equal parts.
fn terms_of(depth: usize) -> usize {
    depth.div_ceil(depth.div_ceil(TERMS).max(1))
}

/// Adds some filters' sums to `out`, for one image.
fn some(
    isa: Isa,
    sizes: Sizes,
    (weight, depth): (&[f32], usize),
    (x, has): (&[f32], Extent),
    (out, gives): (&mut [f32], Extent),
    panels: &mut [f32],
) {
    let (width, plane) = (tiles::width(isa), gives.height * gives.width);
    let filters = weight.len() / depth;
    let most = terms_of(depth);
    for start in (0..plane).step_by(PANELS * width) {
        let count = (plane - start).div_ceil(width).min(PANELS);
        for first in (0..depth).step_by(most) {
            let size = most.min(depth - first) * width;
            let panels = &mut panels[..count * size];
            for (index, panel) in panels.chunks_exact_mut(size).enumerate() {
                let start = start + index * width;
                let columns = width.min(plane - start);
                fill(sizes, (x, has), gives, (first, start, columns), (panel, width));
            }
            for filter in (0..filters).step_by(FILTERS) {
                let rows = Rows {
                    numbers: &weight[filter * depth + first..],
                    stride: depth,
                    count: FILTERS.min(filters - filter),
                };
                for (index, panel) in panels.chunks_exact(size).enumerate() {
                    let start = start + index * width;
                    let columns = width.min(plane - start);
                    let out = &mut out[filter * plane + start..];
                    let ahead = &panels[(index + 1) * size..];
                    tiles::multiply(isa, rows, panel, From::There, (out, plane), columns, ahead);
                }
            }
        }
    }
}

/// What the terms of filters from `term` on meet at `columns` pixels of the output, the first of which is `start`.
fn fill(
    sizes: Sizes,
    (x, has): (&[f32], Extent),
    gives: Extent,
    (term, start, columns): (usize, usize, usize),
    (panel, width): (&mut [f32], usize),
) {
    let Sizes {
        side,
        stride,
        margins: [[above, _], [left, _]],
        ..
    } = sizes;
    for (index, to) in panel.chunks_exact_mut(width).enumerate() {
        let term = term + index;
        let (channel, down, across) = (term / (side * side), term / side % side, term % side);
        let x = &x[channel * has.height * has.width..][..has.height * has.width];
        if side == 1 && stride == 1 && sizes.margins == [[0; 2]; 2] {
            to[..columns].copy_from_slice(&x[start..][..columns]);
            to[columns..].fill(0.0);
            continue;
        }
        to.fill(0.0);
        let (inside, outside) = sizes.within(across, has.width, gives.width);
        let mut done = 0;
        while done < columns {
            // The rest of a row of the output.
            let (row, column) = ((start + done) / gives.width, (start + done) % gives.width);
            let end = (column + columns - done).min(gives.width);
            let y = (row * stride + down).wrapping_sub(above);
            let (first, last) = (column.max(inside), end.min(outside));
            if y < has.height && first < last {
                let from = &x[y * has.width..][..has.width][first * stride + across - left..];
                let to = &mut to[done + first - column..][..last - first];
                match stride {
                    1 => to.copy_from_slice(&from[..to.len()]),
                    _ => to
                        .iter_mut()
                        .zip(from.iter().step_by(stride))
                        .for_each(|(to, from)| *to = *from),
                }
            }
            done += end - column;
        }
    }
}
