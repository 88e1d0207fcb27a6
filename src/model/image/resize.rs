//! Resizing as Pillow does it, number for number: the same filters, widened where an image shrinks, and the same two passes of
//! fixed-point arithmetic with eight bits between them.
//!
//! Other libraries round a pixel in ten differently; answers that equal Python's are worth more. The sums are of whole numbers
//! whose order does not matter, so vectors of any width give the same.
//!
//! Source: `src/libImaging/Resample.c` and `Geometry.c` of Pillow; the order of the passes is that of Pillow 13, as found by trial.

use super::decode::{Pixel, Reduced, Rgb};
pub use super::filter::Filter;
use super::wide::wide;

/// Bits behind the point: eight are the pixel's, two are for filters that overshoot.
const PRECISION: u32 = 32 - 8 - 2;

/// Where each pixel of a resized axis comes from.
struct Axis {
    from: u32,
    part: (f64, f64),
    to: u32,
    filter: Filter,
    /// First pixel and number of pixels.
    spans: Vec<(usize, usize)>,
    /// `width` weights for each, in fixed point.
    weights: Vec<i32>,
    width: usize,
}

impl Axis {
    /// `to` pixels from a part of `from`.
    fn new(from: u32, part: (f64, f64), to: u32, filter: Filter) -> Axis {
        let scale = (part.1 - part.0) / f64::from(to);
        // An image that shrinks is averaged over all the pixels that fall together.
        let widened = scale.max(1.0);
        let support = filter.support() * widened;
        let width = support.ceil() as usize * 2 + 1;
        let mut axis = Axis {
            from,
            part,
            to,
            filter,
            spans: Vec::with_capacity(to as usize),
            weights: vec![0; to as usize * width],
            width,
        };
        let mut exact = vec![0f64; width];
        for (place, weights) in axis.weights.chunks_exact_mut(width).enumerate() {
            let center = part.0 + (place as f64 + 0.5) * scale;
            // Casts stop at zero.
            let first = (center - support + 0.5) as usize;
            let end = ((center + support + 0.5) as usize).min(from as usize);
            let count = end - first;
            let mut sum = 0.0;
            for (offset, weight) in exact[..count].iter_mut().enumerate() {
                *weight = filter.weight(((offset + first) as f64 - center + 0.5) * (1.0 / widened));
                sum += *weight;
            }
            for (fixed, weight) in weights.iter_mut().zip(&exact[..count]) {
                let share = if sum != 0.0 { weight / sum } else { *weight };
                let scaled = share * f64::from(1u32 << PRECISION);
                *fixed = (if share < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as i32;
            }
            axis.spans.push((first, count));
        }
        axis
    }

    /// The pixels and weights that make up a pixel.
    fn at(&self, place: usize) -> (usize, &[i32]) {
        let (first, count) = self.spans[place];
        let start = place * self.width;
        (first, &self.weights[start..start + count])
    }
}

/// Half, so that cutting off the bits behind the point rounds.
const HALF: i32 = 1 << (PRECISION - 1);

#[inline(always)]
fn to_byte(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

/// Where a worker resizes: buffers and weights are used again.
#[derive(Default)]
pub struct Resizer {
    /// The weights across and down that were used last.
    across: Option<Axis>,
    down: Option<Axis>,
    spread: Spread,
    between: Rgb,
    given: Rgb,
}

impl Resizer {
    /// `image` with other extents, none of which is zero; itself when they are its own.
    pub fn resize<'a>(&'a mut self, image: &'a Rgb, width: u32, height: u32, filter: Filter) -> &'a Rgb {
        let (across, down) = ((0.0, image.width.into()), (0.0, image.height.into()));
        self.resize_box(image, (across, down), width, height, filter)
    }

    /// What is the whole of an image that was reduced, with other extents: Pillow's `resize` with the `box` that `draft` gives.
    pub fn resize_part<'a>(
        &'a mut self,
        reduced: &'a Reduced,
        width: u32,
        height: u32,
        filter: Filter,
    ) -> &'a Rgb {
        let part = (reduced.across, reduced.down);
        self.resize_box(&reduced.image, part, width, height, filter)
    }

    fn resize_box<'a>(
        &'a mut self,
        image: &'a Rgb,
        part: ((f64, f64), (f64, f64)),
        width: u32,
        height: u32,
        filter: Filter,
    ) -> &'a Rgb {
        let is_needed = |has: u32, part, wants: u32| has != wants || part != (0.0, f64::from(has));
        let (across, down) = (
            is_needed(image.width, part.0, width),
            is_needed(image.height, part.1, height),
        );
        if !across && !down {
            return image;
        }
        if filter == Filter::Nearest {
            self.given = nearest(image, part, width, height);
            return &self.given;
        }
        if across {
            let axis = renewed(&mut self.across, (image.width, part.0), width, filter);
            self.spread.set(axis);
        }
        if down {
            renewed(&mut self.down, (image.height, part.1), height, filter);
        }
        // The pass that throws more away goes first, since the other one has less to do then; with eight bits between the
        // passes that shows in the pixels. Older versions of Pillow always narrow the rows first.
        let lost = |from: u32, to: u32| i64::from(from) - i64::from(to);
        let rows_first = image.height > height && lost(image.height, height) > 2 * lost(image.width, width);
        let passes = [(across, !rows_first), (down, rows_first)];
        let (one, other) = match passes.map(|(needed, first)| needed.then_some(first)) {
            [Some(_), None] => (true, None),
            [None, _] => (false, None),
            [Some(first), Some(_)] => (first, Some(!first)),
        };
        let first = if other.is_some() {
            &mut self.between
        } else {
            &mut self.given
        };
        let axes = (&self.spread, &self.down);
        pass(one, axes, image, first);
        if let Some(other) = other {
            pass(other, axes, &self.between, &mut self.given);
        }
        &self.given
    }
}

/// The axis that is wanted: the last one, or a new one in its place.
fn renewed(axis: &mut Option<Axis>, (from, part): (u32, (f64, f64)), to: u32, filter: Filter) -> &Axis {
    let same = |axis: &Axis| (axis.from, axis.part, axis.to, axis.filter) == (from, part, to, filter);
    let last = axis.take().filter(same);
    axis.insert(last.unwrap_or_else(|| Axis::new(from, part, to, filter)))
}

/// One pass, across or down.
fn pass(is_across: bool, axes: (&Spread, &Option<Axis>), image: &Rgb, out: &mut Rgb) {
    match axes {
        (spread, _) if is_across => across(image, spread, out),
        (_, Some(axis)) => down(image, axis, out),
        _ => {}
    }
}

/// An axis as the pass across takes it: the same number of pairs of pixels everywhere, filled up with weights of zero, and
/// each weight once for every byte of a pixel.
#[derive(Default)]
struct Spread {
    pairs: usize,
    firsts: Vec<usize>,
    /// `pairs` for each pixel.
    weights: Vec<[i32; 8]>,
}

impl Spread {
    fn set(&mut self, axis: &Axis) {
        let most = axis.spans.iter().map(|(_, count)| *count).max().unwrap_or(0);
        self.pairs = most.div_ceil(2).max(1);
        self.firsts.clear();
        self.weights.clear();
        for place in 0..axis.spans.len() {
            let (first, weights) = axis.at(place);
            // Zeros before the weights rather than pixels beyond the end of the row.
            let start = first.min((axis.from as usize).saturating_sub(self.pairs * 2));
            self.firsts.push(start);
            let weight = |tap: usize| match (start + tap).checked_sub(first) {
                Some(tap) => weights.get(tap).copied().unwrap_or(0),
                None => 0,
            };
            for pair in 0..self.pairs {
                let (one, other) = (weight(pair * 2), weight(pair * 2 + 1));
                self.weights
                    .push([one, one, one, one, other, other, other, other]);
            }
        }
    }
}

wide! {
    fn across(image: &Rgb, spread: &Spread, out: &mut Rgb) {
        let (from, to) = (image.width as usize, spread.firsts.len());
        (out.width, out.height) = (to as u32, image.height);
        out.pixels.resize(to * image.height as usize, [0; 4]);
        // The last row has no pixel behind it, which a pair may need, if only to multiply it by zero.
        let start = image.pixels.len() - from;
        let mut last = Vec::with_capacity(from + 1);
        last.extend_from_slice(&image.pixels[start..]);
        last.push([0; 4]);
        for (row, out) in out.pixels.chunks_exact_mut(to).enumerate() {
            let row = image.pixels[row * from..].get(..from + 1).unwrap_or(&last);
            // Loops of a known length are unrolled; filters that are wider have more to do in each.
            match spread.pairs {
                1 => across_row::<1>(row, spread, out),
                2 => across_row::<2>(row, spread, out),
                3 => across_row::<3>(row, spread, out),
                4 => across_row::<4>(row, spread, out),
                5 => across_row::<5>(row, spread, out),
                6 => across_row::<6>(row, spread, out),
                _ => across_row::<0>(row, spread, out),
            }
        }
    }
}

/// Resizes a row, with `PAIRS` pairs of pixels for each, or with as many as there are if it is 0.
#[inline(always)]
fn across_row<const PAIRS: usize>(row: &[Pixel], spread: &Spread, out: &mut [Pixel]) {
    let pairs = if PAIRS > 0 { PAIRS } else { spread.pairs };
    let weights = spread.weights.chunks_exact(pairs);
    for ((out, first), weights) in out.iter_mut().zip(&spread.firsts).zip(weights) {
        let (pixels, _) = row[*first..*first + pairs * 2].as_chunks::<2>();
        let mut sums = [0i32; 8];
        for (pixels, weights) in pixels.iter().zip(weights) {
            let bytes = pixels.as_flattened();
            for lane in 0..8 {
                sums[lane] = sums[lane].wrapping_add(i32::from(bytes[lane]).wrapping_mul(weights[lane]));
            }
        }
        for (lane, byte) in out.iter_mut().enumerate() {
            *byte = to_byte(sums[lane].wrapping_add(sums[lane + 4]).wrapping_add(HALF));
        }
    }
}

/// Bytes of a row that are summed up side by side.
const SIDE_BY_SIDE: usize = 32;

wide! {
    fn down(image: &Rgb, axis: &Axis, out: &mut Rgb) {
        let length = image.width as usize * 4;
        (out.width, out.height) = (image.width, axis.to);
        out.pixels.resize(image.width as usize * axis.to as usize, [0; 4]);
        let bytes = image.pixels.as_flattened();
        for (place, out) in out.pixels.as_flattened_mut().chunks_exact_mut(length).enumerate() {
            let (first, weights) = axis.at(place);
            let bytes = &bytes[first * length..];
            let (chunks, rest) = out.as_chunks_mut::<SIDE_BY_SIDE>();
            let done = chunks.len() * SIDE_BY_SIDE;
            for (index, chunk) in chunks.iter_mut().enumerate() {
                let mut sums = [HALF; SIDE_BY_SIDE];
                for (row, weight) in weights.iter().enumerate() {
                    let bytes = &bytes[row * length + index * SIDE_BY_SIDE..][..SIDE_BY_SIDE];
                    for (sum, byte) in sums.iter_mut().zip(bytes) {
                        *sum = sum.wrapping_add(i32::from(*byte).wrapping_mul(*weight));
                    }
                }
                for (byte, sum) in chunk.iter_mut().zip(sums) {
                    *byte = to_byte(sum);
                }
            }
            for (index, out) in rest.iter_mut().enumerate() {
                let rows = bytes[done + index..].iter().step_by(length).zip(weights);
                *out = to_byte(rows.fold(HALF, |sum, (byte, weight)| {
                    sum.wrapping_add(i32::from(*byte).wrapping_mul(*weight))
                }));
            }
        }
    }
}

fn nearest(image: &Rgb, part: ((f64, f64), (f64, f64)), width: u32, height: u32) -> Rgb {
    // Added up as Pillow does it, so that rounding falls alike.
    let places = |from: u32, part: (f64, f64), to: u32| {
        let step = (part.1 - part.0) / f64::from(to);
        let mut at = part.0 + step * 0.5;
        let mut places = Vec::with_capacity(to as usize);
        for _ in 0..to {
            places.push((at as usize).min(from as usize - 1));
            at += step;
        }
        places
    };
    let columns = places(image.width, part.0, width);
    let mut pixels = Vec::with_capacity(width as usize * height as usize);
    for row in places(image.height, part.1, height) {
        let row = &image.pixels[row * image.width as usize..][..image.width as usize];
        pixels.extend(columns.iter().map(|column| row[*column]));
    }
    Rgb {
        width,
        height,
        pixels,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Weights sum to one wherever a pixel lies, so that a plain colour stays what it is.
        #[test]
        fn a_plain_image_stays_plain_at_every_size(
            from in (1u32..70, 1u32..70), to in (1u32..70, 1u32..70), color: [u8; 3], which in 0usize..6,
        ) {
            let pixel = [color[0], color[1], color[2], 0];
            let image = Rgb { width: from.0, height: from.1, pixels: vec![pixel; (from.0 * from.1) as usize] };
            let mut resizer = Resizer::default();
            let resized = resizer.resize(&image, to.0, to.1, Filter::ALL[which]);
            prop_assert_eq!((resized.width, resized.height), to);
            prop_assert_eq!(&resized.pixels, &vec![pixel; (to.0 * to.1) as usize]);
        }
    }
}
