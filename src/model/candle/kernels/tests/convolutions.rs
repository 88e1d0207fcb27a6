//! Convolutions against their definition.

use super::super::convolution::{Extent, Margins, Sizes, convolution};
use super::super::depthwise::depthwise;
use super::close;
use crate::model::isa::{Isa, numbers};
use proptest::prelude::*;

/// The plainest way; each filter sees `from / groups` channels.
fn plain(sizes: Sizes, groups: usize, weight: &[f32], bias: &[f32], x: &[f32], has: Extent) -> Vec<f32> {
    let (gives, side, seen) = (sizes.of(has).unwrap(), sizes.side, sizes.from / groups);
    let [[above, _], [left, _]] = sizes.margins;
    let mut out = Vec::new();
    for image in 0..has.images {
        for filter in 0..sizes.to {
            let first = filter / (sizes.to / groups) * seen;
            for pixel in 0..gives.height * gives.width {
                let mut sum = f64::from(bias[filter]);
                for term in 0..seen * side * side {
                    let (channel, down, across) = (term / (side * side), term / side % side, term % side);
                    let y = (pixel / gives.width * sizes.stride + down).wrapping_sub(above);
                    let x_at = (pixel % gives.width * sizes.stride + across).wrapping_sub(left);
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

fn margins() -> impl Strategy<Value = Margins> {
    [[0usize..5, 0..5], [0..5, 0..5]]
}

/// Images that are at least as large as the filter, with their margins.
fn extent(sizes: Sizes, images: usize, more_rows: usize, more_columns: usize) -> Extent {
    let [height, width] = sizes.margins.map(|[before, behind]| {
        let least = sizes.side.saturating_sub(before + behind);
        least.max(1)
    });
    Extent {
        images,
        height: height + more_rows,
        width: width + more_columns,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_convolution_is_what_it_is_by_definition(
        (images, from, to) in (1usize..3, 1usize..7, 1usize..70),
        (side, stride, margins) in (1usize..6, 1usize..4, margins()),
        (more_rows, more_columns) in (0usize..14, 0usize..40),
        seed: u64,
    ) {
        let sizes = Sizes { from, to, side, stride, margins };
        let has = extent(sizes, images, more_rows, more_columns);
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
        (images, channels) in (1usize..3, 1usize..5),
        (side, stride, margins) in (1usize..8, 1usize..4, margins()),
        (more_rows, more_columns) in (0usize..14, 0usize..40),
        seed: u64,
    ) {
        let sizes = Sizes { from: channels, to: channels, side, stride, margins };
        let has = extent(sizes, images, more_rows, more_columns);
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
        margins: [[1; 2]; 2],
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
