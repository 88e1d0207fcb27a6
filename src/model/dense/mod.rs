//! Dense networks: layers of weights and a bias, small enough that all of a network stays in a core's caches.
//!
//! The nets that score tables have a dozen columns and a few layers of some dozen units. A library for large matrices
//! spends as much on each of its calls as on their arithmetic, and goes through memory between two layers. Here a block of
//! rows goes through all layers before the next one is looked at, so that what lies between layers never leaves the
//! nearest cache.
//!
//! Each sum is made in one order, input by input with one rounding a step (`fusedMultiplyAdd` of IEEE 754), whatever the
//! processor and wherever a row stands: a row's result is the same bits alone and in any batch, and on every machine.

mod kernels;

use self::kernels::{LANES, Lanes};
use super::isa::Isa;

/// Rows that go through all layers together.
const BLOCK_ROWS: usize = 48;

/// Most weights of one layer: twice the second cache of a small core; larger ones are for libraries.
pub const MOST_WEIGHTS: usize = 1 << 16;

/// Layers of up to so many units are computed a unit at a time, along the inputs.
const FEW_UNITS: usize = 3;

/// A layer as it is written down.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// Numbers that a row has before it.
    pub inputs: usize,
    /// Numbers that a row has behind it.
    pub units: usize,
    /// `[inputs, units]`, row by row.
    pub weights: Vec<f32>,
    /// `[units]`
    pub bias: Vec<f32>,
    /// Sums below zero become zero.
    pub is_rectified: bool,
}

/// A network, ready to run.
#[derive(Debug)]
pub struct Dense {
    layers: Vec<Packed>,
    isa: Isa,
}

/// A layer as kernels read it.
#[derive(Debug)]
struct Packed {
    inputs: usize,
    units: usize,
    weights: Weights,
    bias: Vec<Lanes>,
    is_rectified: bool,
}

#[derive(Debug)]
enum Weights {
    /// Units side by side, [`LANES`] at a time: of each such panel the weights of every input in turn.
    Panels(Vec<Lanes>),
    /// Of each unit the weights of its inputs, [`LANES`] at a time, with zeros behind the last.
    Units(Vec<Lanes>),
}

/// Room for what lies between layers.
#[derive(Debug, Default)]
pub struct Scratch {
    before: Vec<f32>,
    behind: Vec<f32>,
}

impl Dense {
    /// The network of `layers`, each of which takes what the one before it gives. `None`, if they don't fit together.
    pub fn new(layers: &[Layer]) -> Option<Dense> {
        Dense::with(layers, Isa::best())
    }

    fn with(layers: &[Layer], isa: Isa) -> Option<Dense> {
        let fit = layers.windows(2).all(|pair| pair[0].units == pair[1].inputs);
        let packed: Option<Vec<Packed>> = layers.iter().map(Packed::of).collect();
        let layers = packed.filter(|layers| fit && !layers.is_empty())?;
        Some(Dense { layers, isa })
    }

    /// Numbers of a row that goes in.
    pub fn inputs(&self) -> usize {
        self.layers[0].inputs
    }

    /// Numbers of a row that comes out.
    pub fn units(&self) -> usize {
        self.layers[self.layers.len() - 1].units
    }

    /// What comes out for `rows`, each of [`Dense::inputs`] numbers.
    ///
    /// # Panics
    /// If they are no whole rows.
    pub fn run(&self, rows: &[f32], scratch: &mut Scratch) -> Vec<f32> {
        let (width, units) = (self.inputs(), self.units());
        assert!(rows.len().is_multiple_of(width), "whole rows of {width}");
        let count = rows.len() / width;
        let room = BLOCK_ROWS * self.layers.iter().map(Packed::stride).max().unwrap_or(0);
        scratch.before.resize(room, 0.0);
        scratch.behind.resize(room, 0.0);
        let mut results = Vec::with_capacity(count * units);
        for block in rows.chunks(BLOCK_ROWS * width) {
            let count = block.len() / width;
            let (mut taken, mut stride) = (block, width);
            for layer in &self.layers {
                layer.apply(self.isa, taken, stride, count, &mut scratch.behind);
                std::mem::swap(&mut scratch.before, &mut scratch.behind);
                (taken, stride) = (&scratch.before, layer.stride());
            }
            for row in taken.chunks_exact(stride).take(count) {
                results.extend_from_slice(&row[..units]);
            }
        }
        results
    }
}

impl Packed {
    fn of(layer: &Layer) -> Option<Packed> {
        let Layer {
            inputs,
            units,
            weights,
            bias,
            is_rectified,
        } = layer;
        let (inputs, units) = (*inputs, *units);
        let is_whole = inputs > 0 && units > 0 && bias.len() == units;
        if !is_whole || inputs.checked_mul(units) != Some(weights.len()) {
            return None;
        }
        let lanes = |at: &dyn Fn(usize) -> Option<f32>| -> Lanes {
            std::array::from_fn(|lane| at(lane).unwrap_or_default())
        };
        let weight = |input: usize, unit: usize| {
            (input < inputs && unit < units).then(|| weights[input * units + unit])
        };
        let packed = match units <= FEW_UNITS {
            true => Weights::Units(
                (0..units)
                    .flat_map(|unit| (0..inputs).step_by(LANES).map(move |input| (unit, input)))
                    .map(|(unit, input)| lanes(&|lane| weight(input + lane, unit)))
                    .collect(),
            ),
            false => Weights::Panels(
                (0..units)
                    .step_by(LANES)
                    .flat_map(|unit| (0..inputs).map(move |input| (unit, input)))
                    .map(|(unit, input)| lanes(&|lane| weight(input, unit + lane)))
                    .collect(),
            ),
        };
        let biases = (0..units).step_by(LANES);
        Some(Packed {
            inputs,
            units,
            weights: packed,
            bias: biases
                .map(|unit| lanes(&|lane| bias.get(unit + lane).copied()))
                .collect(),
            is_rectified: *is_rectified,
        })
    }

    /// From one row to the next in what it gives.
    fn stride(&self) -> usize {
        match self.weights {
            Weights::Panels(_) => self.units.next_multiple_of(LANES),
            Weights::Units(_) => self.units,
        }
    }

    /// Takes `count` rows that lie `stride` apart, and writes as many that lie [`Packed::stride`] apart.
    fn apply(&self, isa: Isa, rows: &[f32], stride: usize, count: usize, results: &mut [f32]) {
        match &self.weights {
            Weights::Panels(weights) => {
                let panels = std::iter::zip(weights.chunks_exact(self.inputs), &self.bias);
                for (panel, (weights, bias)) in panels.enumerate() {
                    let kernel = kernels::Panel {
                        weights,
                        bias,
                        is_rectified: self.is_rectified,
                    };
                    let results = &mut results[panel * LANES..];
                    kernel.apply(isa, rows, stride, count, results, self.stride());
                }
            }
            Weights::Units(weights) => {
                let units = weights.chunks_exact(self.inputs.div_ceil(LANES));
                for (unit, weights) in units.enumerate() {
                    for row in 0..count {
                        let taken = &rows[row * stride..][..self.inputs];
                        let sum = kernels::dot(isa, taken, weights) + self.bias[0][unit];
                        results[row * self.units + unit] = match self.is_rectified {
                            true => kernels::rectified(sum),
                            false => sum,
                        };
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::isa::numbers;
    use proptest::prelude::*;

    fn layer(inputs: usize, units: usize, is_rectified: bool, seed: u64) -> Layer {
        let mut weights = numbers(inputs * units + units, seed);
        let bias = weights.split_off(inputs * units);
        Layer {
            inputs,
            units,
            weights,
            bias,
            is_rectified,
        }
    }

    /// In 64 bits, as it is defined; with what the numbers in each sum come to, which bounds its error.
    fn exact(layers: &[Layer], row: &[f32]) -> Vec<(f64, f64)> {
        let mut values: Vec<(f64, f64)> = row.iter().map(|&value| (f64::from(value), 0.0)).collect();
        for layer in layers {
            let sums = (0..layer.units).map(|unit| {
                let bias = f64::from(layer.bias[unit]);
                let terms = values.iter().enumerate().map(|(input, (value, error))| {
                    let weight = f64::from(layer.weights[input * layer.units + unit]);
                    (
                        value * weight,
                        (value * weight).abs() * 1e-5 + error * weight.abs(),
                    )
                });
                let (sum, error) = terms.fold((bias, bias.abs() * 1e-5), |(sum, error), (value, more)| {
                    (sum + value, error + more)
                });
                let sum = if layer.is_rectified { sum.max(0.0) } else { sum };
                (sum, error)
            });
            values = sums.collect();
        }
        values
    }

    proptest! {
        #[test]
        fn every_instruction_set_gives_the_same_bits_near_the_exact_sums(
            widths in proptest::collection::vec(prop_oneof![1usize..5, Just(16), Just(17), Just(64), 1usize..80], 2..5),
            rows in prop_oneof![Just(1usize), Just(BLOCK_ROWS), 1usize..110],
            seed in any::<u64>(),
        ) {
            let layers: Vec<Layer> = widths
                .windows(2)
                .enumerate()
                .map(|(place, pair)| layer(pair[0], pair[1], place + 2 < widths.len(), seed ^ place as u64))
                .collect();
            let values: Vec<f32> = layer(rows, widths[0], false, !seed).weights;
            let portable = Dense::with(&layers, Isa::Baseline).unwrap();
            let expected = portable.run(&values, &mut Scratch::default());
            prop_assert_eq!(expected.len(), rows * portable.units());
            for (row, results) in std::iter::zip(values.chunks(widths[0]), expected.chunks(portable.units())) {
                for (result, (exact, error)) in std::iter::zip(results, exact(&layers, row)) {
                    prop_assert!((f64::from(*result) - exact).abs() <= error, "{result} for {exact} ± {error}");
                }
            }
            let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            for isa in Isa::available() {
                let dense = Dense::with(&layers, isa).unwrap();
                let mut scratch = Scratch::default();
                prop_assert_eq!(bits(&dense.run(&values, &mut scratch)), bits(&expected));
                // Alone, in the room that others have used.
                let alone: Vec<f32> = values.chunks(widths[0]).flat_map(|row| dense.run(row, &mut scratch)).collect();
                prop_assert_eq!(bits(&alone), bits(&expected));
            }
        }
    }

    #[test]
    fn what_is_no_number_stays_none_and_infinity_does_not_spread() {
        for (inputs, units) in [(5, 20), (20, 2)] {
            let mut one = layer(inputs, units, true, 7);
            one.weights[0] = 1.0;
            for isa in Isa::available() {
                let dense = Dense::with(std::slice::from_ref(&one), isa).unwrap();
                let mut rows = vec![0.5; 3 * inputs];
                (rows[0], rows[inputs]) = (f32::NAN, f32::INFINITY);
                let results = dense.run(&rows, &mut Scratch::default());
                assert!(results[..units].iter().all(|value| value.is_nan()));
                assert_eq!(results[units], f32::INFINITY);
                assert!(results[units..].iter().all(|value| !value.is_nan()));
            }
        }
    }

    #[test]
    fn layers_that_do_not_fit_are_none() {
        assert!(Dense::new(&[]).is_none());
        assert!(Dense::new(&[layer(3, 4, true, 1), layer(5, 1, false, 1)]).is_none());
        let mut short = layer(3, 4, true, 1);
        short.weights.pop();
        assert!(Dense::new(&[short]).is_none());
        let dense = Dense::new(&[layer(3, 4, true, 1), layer(4, 2, false, 1)]).unwrap();
        assert_eq!((dense.inputs(), dense.units()), (3, 2));
        assert!(dense.run(&[], &mut Scratch::default()).is_empty());
    }
}
