//! Convolutions on the CPU: of all channels as products with the weights as they lie, of each channel alone as direct loops.
//!
//! A product's panel is a few pixels of the output: for each weight of a filter the numbers that it meets there (what is called
//! im2col), copied row by row from the image. Its rows are the filters, so that sums come out channel by channel, as images
//! lie. Never more than a few panels are there at once, and of each only as many terms as stay in the second cache.

use super::isa::{Isa, multiply_add, per_isa};
use super::tiles::{self, From, Rows};
use super::{each, scratch};

/// Sizes of a convolution of squares.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Channels of the input and the output.
    pub from: usize,
    pub to: usize,
    pub side: usize,
    pub stride: usize,
    /// Zeros around the image, on each side.
    pub padding: usize,
}

/// Channels, rows and columns of some images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    pub images: usize,
    pub height: usize,
    pub width: usize,
}

impl Sizes {
    /// What comes of images; `None` where a filter is larger than they are.
    pub fn of(&self, images: Extent) -> Option<Extent> {
        let along =
            |pixels: usize| Some((pixels + 2 * self.padding).checked_sub(self.side)? / self.stride + 1);
        Some(Extent {
            images: images.images,
            height: along(images.height)?,
            width: along(images.width)?,
        })
    }

    /// Pixels of an output row `[first, end)` whose filter meets a column of the input at `x`, of `width` columns.
    fn within(&self, x: usize, width: usize, columns: usize) -> (usize, usize) {
        let first = self.padding.saturating_sub(x).div_ceil(self.stride).min(columns);
        let end = (width + self.padding).saturating_sub(x).div_ceil(self.stride);
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
    let (side, stride, padding) = (sizes.side, sizes.stride, sizes.padding);
    for (index, to) in panel.chunks_exact_mut(width).enumerate() {
        let term = term + index;
        let (channel, down, across) = (term / (side * side), term / side % side, term % side);
        let x = &x[channel * has.height * has.width..][..has.height * has.width];
        if side == 1 && stride == 1 && padding == 0 {
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
            let y = (row * stride + down).wrapping_sub(padding);
            let (first, last) = (column.max(inside), end.min(outside));
            if y < has.height && first < last {
                let from = &x[y * has.width..][..has.width][first * stride + across - padding..];
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

/// Writes `[images, channels, height, width]` for `x` of `[images, channels, height, width]`, each channel by a filter of its own
/// of `[side, side]`; the stride is 1.
pub fn depthwise(
    isa: Isa,
    sizes: Sizes,
    weight: &[f32],
    bias: &[f32],
    (x, has): (&[f32], Extent),
    (out, gives): (&mut [f32], Extent),
) {
    let square = sizes.side * sizes.side;
    let (from, to) = (has.height * has.width, gives.height * gives.width);
    assert!(sizes.stride == 1 && sizes.from == sizes.to && sizes.of(has) == Some(gives));
    assert!(weight.len() == sizes.to * square && bias.len() == sizes.to);
    assert!(x.len() == has.images * sizes.from * from && out.len() == gives.images * sizes.to * to);
    if out.is_empty() || from == 0 {
        return;
    }
    let planes = out.chunks_mut(to).zip(x.chunks(from)).enumerate();
    each(planes.collect(), |(index, (out, x))| {
        let channel = index % sizes.to;
        let weight = &weight[channel * square..][..square];
        let stride = gives.width.next_multiple_of(WIDE) + sizes.side - 1;
        let rows = gives.height.next_multiple_of(HIGH) + sizes.side - 1;
        scratch(stride * rows, |padded| {
            pad((x, has.width), sizes.padding, (padded, stride));
            filter(
                isa,
                (weight, sizes.side),
                bias[channel],
                (padded, stride),
                (out, gives.width),
            );
        });
    });
}

/// Columns of a tile of the direct loops, where rows are long enough, and where they are not; rows of either.
const WIDE: usize = 16;
const NARROW: usize = 8;
const HIGH: usize = 4;

/// A plane with zeros around it, as much as whole tiles see.
fn pad((x, width): (&[f32], usize), padding: usize, (padded, stride): (&mut [f32], usize)) {
    padded.fill(0.0);
    let inner = padded.chunks_exact_mut(stride).skip(padding);
    for (to, from) in inner.zip(x.chunks_exact(width)) {
        to[padding..][..width].copy_from_slice(from);
    }
}

per_isa! {
    /// One plane through one filter.
    filter(weight: (&[f32], usize), bias: f32, padded: (&[f32], usize), out: (&mut [f32], usize)) = filter_body
}

#[inline(always)]
fn filter_body<const FMA: bool>(
    weight: (&[f32], usize),
    bias: f32,
    padded: (&[f32], usize),
    out: (&mut [f32], usize),
) {
    let width = out.1;
    match width.next_multiple_of(WIDE) == width.next_multiple_of(NARROW) {
        true => by_tiles::<FMA, WIDE>(weight, bias, padded, out),
        false => by_tiles::<FMA, NARROW>(weight, bias, padded, out),
    }
}

/// `sums` and as many numbers times `weight`.
#[inline(always)]
fn added<const FMA: bool, const LANES: usize>(
    mut sums: [f32; LANES],
    numbers: &[f32],
    weight: f32,
) -> [f32; LANES] {
    let numbers = &numbers[..LANES];
    for lane in 0..LANES {
        sums[lane] = multiply_add::<FMA>(numbers[lane], weight, sums[lane]);
    }
    sums
}

#[inline(always)]
fn by_tiles<const FMA: bool, const LANES: usize>(
    (weight, side): (&[f32], usize),
    bias: f32,
    (padded, stride): (&[f32], usize),
    (out, width): (&mut [f32], usize),
) {
    for (tile, out) in out.chunks_mut(HIGH * width).enumerate() {
        for column in (0..width).step_by(LANES) {
            // By name and by value, so that they are registers.
            let [mut a, mut b, mut c, mut d] = [[bias; LANES]; HIGH];
            for (down, weight) in weight.chunks_exact(side).enumerate() {
                let first = &padded[(tile * HIGH + down) * stride + column..];
                let (first, second) = first.split_at(stride);
                let (second, third) = second.split_at(stride);
                let (third, fourth) = third.split_at(stride);
                for (across, weight) in weight.iter().enumerate() {
                    a = added::<FMA, LANES>(a, &first[across..], *weight);
                    b = added::<FMA, LANES>(b, &second[across..], *weight);
                    c = added::<FMA, LANES>(c, &third[across..], *weight);
                    d = added::<FMA, LANES>(d, &fourth[across..], *weight);
                }
            }
            let sums = [a, b, c, d];
            let columns = LANES.min(width - column);
            for (out, sums) in out.chunks_exact_mut(width).zip(&sums) {
                out[column..][..columns].copy_from_slice(&sums[..columns]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Numbers between -1 and 1 that look like chance.
    fn numbers(count: usize, seed: u64) -> Vec<f32> {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    /// The plainest way; each filter sees `from / groups` channels.
    fn plain(sizes: Sizes, groups: usize, weight: &[f32], bias: &[f32], x: &[f32], has: Extent) -> Vec<f32> {
        let (gives, side, seen) = (sizes.of(has).unwrap(), sizes.side, sizes.from / groups);
        let mut out = Vec::new();
        for image in 0..has.images {
            for filter in 0..sizes.to {
                let first = filter / (sizes.to / groups) * seen;
                for pixel in 0..gives.height * gives.width {
                    let mut sum = f64::from(bias[filter]);
                    for term in 0..seen * side * side {
                        let (channel, down, across) = (term / (side * side), term / side % side, term % side);
                        let y = (pixel / gives.width * sizes.stride + down).wrapping_sub(sizes.padding);
                        let x_at = (pixel % gives.width * sizes.stride + across).wrapping_sub(sizes.padding);
                        if y < has.height && x_at < has.width {
                            let plane = image * sizes.from + first + channel;
                            let number = x[(plane * has.height + y) * has.width + x_at];
                            sum += f64::from(number) * f64::from(weight[filter * seen * side * side + term]);
                        }
                    }
                    out.push(sum as f32);
                }
            }
        }
        out
    }

    fn close(got: &[f32], expected: &[f32], tolerance: f32) -> Result<(), TestCaseError> {
        prop_assert_eq!(got.len(), expected.len());
        for (place, (got, expected)) in got.iter().zip(expected).enumerate() {
            let apart = (got - expected).abs();
            prop_assert!(apart <= tolerance, "{got} instead of {expected} at {place}");
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]

        #[test]
        fn a_convolution_is_what_it_is_by_definition(
            (images, from, to) in (1usize..3, 1usize..7, 1usize..70),
            (side, stride, padding) in (1usize..6, 1usize..4, 0usize..4),
            (more_rows, more_columns) in (0usize..14, 0usize..40),
            seed: u64,
        ) {
            let sizes = Sizes { from, to, side, stride, padding };
            let least = side.saturating_sub(2 * padding).max(1);
            let has = Extent { images, height: least + more_rows, width: least + more_columns };
            let (x, bias) = (numbers(images * from * has.height * has.width, seed), numbers(to, seed ^ 1));
            let weight = numbers(to * from * side * side, seed ^ 2);
            let expected = plain(sizes, 1, &weight, &bias, &x, has);
            for isa in Isa::available() {
                let mut out = vec![f32::NAN; expected.len()];
                convolution(isa, sizes, &weight, &bias, (&x, has), (&mut out, sizes.of(has).unwrap()));
                close(&out, &expected, 1e-4)?;
            }
        }

        #[test]
        fn a_filter_for_each_channel_is_what_it_is_by_definition(
            (images, channels) in (1usize..3, 1usize..5), (side, padding) in (1usize..8, 0usize..5),
            (more_rows, more_columns) in (0usize..14, 0usize..40), seed: u64,
        ) {
            let sizes = Sizes { from: channels, to: channels, side, stride: 1, padding };
            let least = side.saturating_sub(2 * padding).max(1);
            let has = Extent { images, height: least + more_rows, width: least + more_columns };
            let (x, bias) = (numbers(images * channels * has.height * has.width, seed), numbers(channels, seed ^ 1));
            let weight = numbers(channels * side * side, seed ^ 2);
            let expected = plain(sizes, channels, &weight, &bias, &x, has);
            for isa in Isa::available() {
                let mut out = vec![f32::NAN; expected.len()];
                depthwise(isa, sizes, &weight, &bias, (&x, has), (&mut out, sizes.of(has).unwrap()));
                close(&out, &expected, 1e-4)?;
            }
        }
    }

    /// More terms than a panel holds, more pixels and filters than are taken at once, and more threads than images.
    #[test]
    fn long_sums_are_cut_and_filters_shared() {
        let sizes = Sizes {
            from: 90,
            to: 101,
            side: 3,
            stride: 1,
            padding: 1,
        };
        let has = Extent {
            images: 1,
            height: 19,
            width: 23,
        };
        let (x, bias) = (numbers(90 * 19 * 23, 5), numbers(101, 6));
        let weight = numbers(101 * 90 * 9, 7);
        let expected = plain(sizes, 1, &weight, &bias, &x, has);
        let threads = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        for isa in Isa::available() {
            let mut out = vec![f32::NAN; expected.len()];
            threads.install(|| convolution(isa, sizes, &weight, &bias, (&x, has), (&mut out, has)));
            close(&out, &expected, 1e-3).unwrap();
        }
    }
}
