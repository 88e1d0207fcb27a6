//! Resizing as Pillow does it, number for number: the same filters, widened where an image shrinks, and the same two passes of
//! fixed-point arithmetic with eight bits between them.
//!
//! Other libraries resize faster by a few tenths of a millisecond and round a pixel in ten differently. Decoding an image and
//! running a network take many times as long, and answers that equal Python's are worth more.
//!
//! Source: `src/libImaging/Resample.c` and `Geometry.c` of Pillow; the order of the passes is that of Pillow 13, as found by trial.

use super::decode::Rgb;

/// How pixels between pixels are found, under Pillow's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// The nearest pixel.
    Nearest,
    /// Six pixels wide.
    Lanczos,
    /// Straight lines.
    Bilinear,
    /// Cubic curves (a = -0.5).
    Bicubic,
    /// Averages.
    Box,
    /// As sharp as bicubic, as cheap as bilinear.
    Hamming,
}

impl Filter {
    /// The filter of Pillow's `Resampling` code.
    pub fn of_code(code: u64) -> Option<Filter> {
        [
            Filter::Nearest,
            Filter::Lanczos,
            Filter::Bilinear,
            Filter::Bicubic,
            Filter::Box,
            Filter::Hamming,
        ]
        .get(usize::try_from(code).ok()?)
        .copied()
    }

    /// Half of its width in pixels.
    fn support(self) -> f64 {
        match self {
            Filter::Nearest => 0.0,
            Filter::Box => 0.5,
            Filter::Bilinear | Filter::Hamming => 1.0,
            Filter::Bicubic => 2.0,
            Filter::Lanczos => 3.0,
        }
    }

    /// The weight of a pixel that is `x` pixels away.
    fn weight(self, x: f64) -> f64 {
        fn sinc(x: f64) -> f64 {
            let x = x * std::f64::consts::PI;
            if x == 0.0 { 1.0 } else { x.sin() / x }
        }
        match self {
            Filter::Nearest => 0.0,
            Filter::Box if x > -0.5 && x <= 0.5 => 1.0,
            Filter::Bilinear if x.abs() < 1.0 => 1.0 - x.abs(),
            Filter::Hamming if x.abs() < 1.0 => {
                let angle = x.abs() * std::f64::consts::PI;
                sinc(x) * (0.54 + 0.46 * angle.cos())
            }
            Filter::Bicubic => {
                const A: f64 = -0.5;
                match x.abs() {
                    x if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
                    x if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
                    _ => 0.0,
                }
            }
            Filter::Lanczos if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            _ => 0.0,
        }
    }
}

/// Bits behind the point: eight are the pixel's, two are for filters that overshoot.
const PRECISION: u32 = 32 - 8 - 2;

/// Where each pixel of a resized axis comes from.
struct Axis {
    /// First pixel and number of pixels.
    spans: Vec<(usize, usize)>,
    /// `width` weights for each, in fixed point.
    weights: Vec<i32>,
    width: usize,
}

impl Axis {
    fn new(from: u32, to: u32, filter: Filter) -> Axis {
        let scale = f64::from(from) / f64::from(to);
        // An image that shrinks is averaged over all the pixels that fall together.
        let widened = scale.max(1.0);
        let support = filter.support() * widened;
        let width = support.ceil() as usize * 2 + 1;
        let mut axis = Axis {
            spans: Vec::with_capacity(to as usize),
            weights: vec![0; to as usize * width],
            width,
        };
        let mut exact = vec![0f64; width];
        for (place, weights) in axis.weights.chunks_exact_mut(width).enumerate() {
            let center = (place as f64 + 0.5) * scale;
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

fn to_byte(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

/// `image` with other extents, none of which is zero; as it is when they are its own.
pub fn resize(image: Rgb, width: u32, height: u32, filter: Filter) -> Rgb {
    if (image.width, image.height) == (width, height) {
        return image;
    }
    if filter == Filter::Nearest {
        return nearest(&image, width, height);
    }
    // The pass that throws more away goes first, since the other one has less to do then; with eight bits between the passes
    // that shows in the pixels. Older versions of Pillow always narrow the rows first.
    let lost = |from: u32, to: u32| i64::from(from) - i64::from(to);
    let rows_first = image.height > height && lost(image.height, height) > 2 * lost(image.width, width);
    match rows_first {
        true => horizontally(vertically(image, height, filter), width, filter),
        false => vertically(horizontally(image, width, filter), height, filter),
    }
}

fn horizontally(image: Rgb, width: u32, filter: Filter) -> Rgb {
    if image.width == width {
        return image;
    }
    let axis = Axis::new(image.width, width, filter);
    let (from, to) = (image.width as usize * 3, width as usize * 3);
    let mut pixels = vec![0u8; to * image.height as usize];
    for (row, out) in image.pixels.chunks_exact(from).zip(pixels.chunks_exact_mut(to)) {
        let (row, _) = row.as_chunks::<3>();
        let (out, _) = out.as_chunks_mut::<3>();
        for (place, out) in out.iter_mut().enumerate() {
            let (first, weights) = axis.at(place);
            let mut sums = [HALF; 3];
            for (pixel, weight) in row[first..first + weights.len()].iter().zip(weights) {
                for (sum, byte) in sums.iter_mut().zip(pixel) {
                    *sum = sum.wrapping_add(i32::from(*byte) * weight);
                }
            }
            *out = sums.map(to_byte);
        }
    }
    Rgb {
        width,
        pixels,
        ..image
    }
}

fn vertically(image: Rgb, height: u32, filter: Filter) -> Rgb {
    if image.height == height {
        return image;
    }
    let axis = Axis::new(image.height, height, filter);
    let length = image.width as usize * 3;
    let mut pixels = vec![0u8; length * height as usize];
    let mut sums = vec![HALF; length];
    for (place, out) in pixels.chunks_exact_mut(length).enumerate() {
        let (first, weights) = axis.at(place);
        sums.fill(HALF);
        // Row by row, so that the inner loop is over neighbours.
        for (row, weight) in image.pixels[first * length..].chunks_exact(length).zip(weights) {
            for (sum, byte) in sums.iter_mut().zip(row) {
                *sum = sum.wrapping_add(i32::from(*byte) * weight);
            }
        }
        for (out, sum) in out.iter_mut().zip(&sums) {
            *out = to_byte(*sum);
        }
    }
    Rgb {
        height,
        pixels,
        ..image
    }
}

fn nearest(image: &Rgb, width: u32, height: u32) -> Rgb {
    // Added up as Pillow does it, so that rounding falls alike.
    let places = |from: u32, to: u32| {
        let step = f64::from(from) / f64::from(to);
        let mut at = step * 0.5;
        let mut places = Vec::with_capacity(to as usize);
        for _ in 0..to {
            places.push((at as usize).min(from as usize - 1));
            at += step;
        }
        places
    };
    let columns = places(image.width, width);
    let (from, _) = image.pixels.as_chunks::<3>();
    let mut pixels = Vec::with_capacity(width as usize * height as usize * 3);
    for row in places(image.height, height) {
        let row = &from[row * image.width as usize..][..image.width as usize];
        columns
            .iter()
            .for_each(|column| pixels.extend_from_slice(&row[*column]));
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

    const FILTERS: [Filter; 6] = [
        Filter::Nearest,
        Filter::Lanczos,
        Filter::Bilinear,
        Filter::Bicubic,
        Filter::Box,
        Filter::Hamming,
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Weights sum to one wherever a pixel lies, so that a plain colour stays what it is.
        #[test]
        fn a_plain_image_stays_plain_at_every_size(
            from in (1u32..70, 1u32..70), to in (1u32..70, 1u32..70), color: [u8; 3], which in 0usize..6,
        ) {
            let image = Rgb { width: from.0, height: from.1, pixels: color.repeat((from.0 * from.1) as usize) };
            let resized = resize(image, to.0, to.1, FILTERS[which]);
            prop_assert_eq!((resized.width, resized.height), to);
            prop_assert_eq!(resized.pixels, color.repeat((to.0 * to.1) as usize));
        }
    }

    #[test]
    fn codes_are_those_of_pillow() {
        let of = |code| Filter::of_code(code);
        assert_eq!(
            [of(0), of(1), of(2), of(3), of(4), of(5), of(6)],
            [
                Some(Filter::Nearest),
                Some(Filter::Lanczos),
                Some(Filter::Bilinear),
                Some(Filter::Bicubic),
                Some(Filter::Box),
                Some(Filter::Hamming),
                None
            ]
        );
    }
}
