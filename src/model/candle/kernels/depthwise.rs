//! Convolutions of each channel alone on the CPU, as direct loops over tiles of the output whose sums stay in registers.
//!
//! Weight by weight a row of a tile meets numbers of the image that are a stride apart. So that vectors can read them, each
//! plane is copied first: with zeros around it, and with columns that are met together side by side. Sums go over the weights
//! from above to below and row by row, whatever the sizes.

use super::convolution::{Extent, Sizes};
use super::per_isa::{multiply_add, per_isa};
use super::{each, scratch};
use crate::model::isa::Isa;

/// Columns of a tile, where rows are long enough, and where they are not; rows of either.
const WIDE: usize = 16;
const NARROW: usize = 8;
const HIGH: usize = 4;

/// Writes `[images, channels, height, width]` for `x` of as many images and channels, each channel by a filter of its own of
/// `[side, side]`.
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
    assert!(sizes.from == sizes.to && sizes.of(has) == Some(gives));
    assert!(weight.len() == sizes.to * square && bias.len() == sizes.to);
    assert!(x.len() == has.images * sizes.from * from && out.len() == gives.images * sizes.to * to);
    if out.is_empty() || from == 0 {
        return;
    }
    let padded = Padded::of(sizes, gives);
    let planes = out.chunks_mut(to).zip(x.chunks(from)).enumerate();
    each(planes.collect(), |(index, (out, x))| {
        let channel = index % sizes.to;
        let weight = &weight[channel * square..][..square];
        scratch(padded.rows * padded.pitch(), |memory| {
            padded.fill(sizes, (x, has.width), memory);
            filter(
                isa,
                (weight, sizes.side),
                bias[channel],
                (memory, padded),
                (out, gives.width),
            );
        });
    });
}

/// A plane with zeros around it, as much as whole tiles see. Of each row all columns come first that are a multiple of the
/// stride, then those one behind them, and so on.
#[derive(Clone, Copy)]
pub struct Padded {
    stride: usize,
    rows: usize,
    /// Columns that are a stride apart.
    columns: usize,
}

impl Padded {
    fn of(sizes: Sizes, gives: Extent) -> Padded {
        let (side, stride) = (sizes.side, sizes.stride);
        Padded {
            stride,
            rows: (gives.height.next_multiple_of(HIGH) - 1) * stride + side,
            columns: gives.width.next_multiple_of(WIDE) + (side - 1) / stride,
        }
    }

    /// Numbers of a row.
    fn pitch(self) -> usize {
        self.stride * self.columns
    }

    fn fill(self, sizes: Sizes, (x, width): (&[f32], usize), memory: &mut [f32]) {
        let [[above, _], [left, _]] = sizes.margins;
        memory.fill(0.0);
        let inner = memory.chunks_exact_mut(self.pitch()).skip(above);
        for (to, from) in inner.zip(x.chunks_exact(width)) {
            if self.stride == 1 {
                to[left..][..width].copy_from_slice(from);
                continue;
            }
            for (phase, to) in to.chunks_exact_mut(self.columns).enumerate() {
                // The first column of the image that lies here, and where.
                let first = (phase + self.stride - left % self.stride) % self.stride;
                let to = to.iter_mut().skip((left + first) / self.stride);
                let from = from.iter().skip(first).step_by(self.stride);
                to.zip(from).for_each(|(to, from)| *to = *from);
            }
        }
    }
}

per_isa! {
    /// One plane through one filter.
    filter(weight: (&[f32], usize), bias: f32, padded: (&[f32], Padded), out: (&mut [f32], usize)) = filter_body
}

#[inline(always)]
fn filter_body<const FMA: bool>(
    weight: (&[f32], usize),
    bias: f32,
    padded: (&[f32], Padded),
    out: (&mut [f32], usize),
) {
    let (width, strides) = (out.1, padded.1.stride > 1);
    let is_wide = width.next_multiple_of(WIDE) == width.next_multiple_of(NARROW);
    match (is_wide, strides) {
        (true, false) => by_tiles::<FMA, WIDE, false>(weight, bias, padded, out),
        (false, false) => by_tiles::<FMA, NARROW, false>(weight, bias, padded, out),
        (true, true) => by_tiles::<FMA, WIDE, true>(weight, bias, padded, out),
        (false, true) => by_tiles::<FMA, NARROW, true>(weight, bias, padded, out),
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

/// Without `STRIDES` the compiler knows that the next column is the next number.
#[inline(always)]
fn by_tiles<const FMA: bool, const LANES: usize, const STRIDES: bool>(
    (weight, side): (&[f32], usize),
    bias: f32,
    (numbers, padded): (&[f32], Padded),
    (out, width): (&mut [f32], usize),
) {
    let (columns, stride) = (padded.columns, if STRIDES { padded.stride } else { 1 });
    let (pitch, apart) = (stride * columns, stride * stride * columns);
    for (tile, out) in out.chunks_mut(HIGH * width).enumerate() {
        for column in (0..width).step_by(LANES) {
            // By name and by value, so that they are registers.
            let [mut a, mut b, mut c, mut d] = [[bias; LANES]; HIGH];
            for (down, weight) in weight.chunks_exact(side).enumerate() {
                let first = &numbers[tile * HIGH * apart + down * pitch + column..];
                let (first, second) = first.split_at(apart);
                let (second, third) = second.split_at(apart);
                let (third, fourth) = third.split_at(apart);
                let mut at = 0;
                for weight in weight {
                    a = added::<FMA, LANES>(a, &first[at..], *weight);
                    b = added::<FMA, LANES>(b, &second[at..], *weight);
                    c = added::<FMA, LANES>(c, &third[at..], *weight);
                    d = added::<FMA, LANES>(d, &fourth[at..], *weight);
                    // Where the column behind this one lies.
                    at = match STRIDES {
                        true if at + columns < pitch => at + columns,
                        true => at + columns + 1 - pitch,
                        false => at + 1,
                    };
                }
            }
            let sums = [a, b, c, d];
            let count = LANES.min(width - column);
            for (out, sums) in out.chunks_exact_mut(width).zip(&sums) {
                out[column..][..count].copy_from_slice(&sums[..count]);
            }
        }
    }
}
