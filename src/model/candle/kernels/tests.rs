//! Kernels against the plainest way to compute the same, on every instruction set of this processor.

use super::attention::{Bias, Text, View, attention};
use super::dense::{Packed, feed_forward, forward_unpacked};
use super::elementwise::{activate, norm, softmax};
use crate::model::candle::encoder::Activation;
use crate::model::isa::{Isa, numbers};
use proptest::prelude::*;

mod convolutions;

fn product(x: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f32> {
    let inputs = weight.len() / bias.len();
    let row = |row: &[f32], output: usize| -> f64 {
        let terms = row.iter().zip(&weight[output * inputs..][..inputs]);
        terms.map(|(x, w)| f64::from(*x) * f64::from(*w)).sum::<f64>() + f64::from(bias[output])
    };
    let rows = x.chunks_exact(inputs);
    rows.flat_map(|values| (0..bias.len()).map(move |output| row(values, output) as f32))
        .collect()
}

fn close(got: &[f32], expected: &[f32], tolerance: f32) -> Result<(), TestCaseError> {
    prop_assert_eq!(got.len(), expected.len());
    for (place, (got, expected)) in got.iter().zip(expected).enumerate() {
        prop_assert!(
            (got - expected).abs() <= tolerance * expected.abs().max(1.0),
            "{got} instead of {expected} at {place}"
        );
    }
    Ok(())
}

/// The complementary error function: its series near zero, its continued fraction far away.
fn erfc(x: f64) -> f64 {
    if x < 0.0 {
        return 2.0 - erfc(-x);
    }
    if x > 2.5 {
        let fraction = (1..200)
            .rev()
            .fold(0.0, |rest, term| 0.5 * f64::from(term) / (x + rest));
        return (-x * x).exp() / (x + fraction) / std::f64::consts::PI.sqrt();
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..80 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    1.0 - 2.0 / std::f64::consts::PI.sqrt() * sum
}

fn gelu(x: f64) -> f64 {
    0.5 * x * erfc(-x / std::f64::consts::SQRT_2)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_dense_layer_is_the_sum_of_products(rows in 1usize..220, inputs in 1usize..90, outputs in 1usize..70, seed: u64) {
        let (x, weight, bias) = (numbers(rows * inputs, seed), numbers(inputs * outputs, seed ^ 1), numbers(outputs, seed ^ 2));
        let expected = product(&x, &weight, &bias);
        for isa in Isa::available() {
            let packed = Packed::new(isa, &weight, Some(&bias), inputs, outputs);
            let mut out = vec![f32::NAN; rows * outputs];
            packed.forward(&x, &mut out);
            close(&out, &expected, 1e-4)?;
            out.fill(f32::NAN);
            forward_unpacked(isa, &x, &weight, &bias, &mut out);
            close(&out, &expected, 1e-4)?;
        }
    }

    #[test]
    fn rows_behind_a_norm_have_no_mean_and_a_deviation_of_one(rows in 1usize..5, width in 1usize..70, seed: u64, sum: bool) {
        let (x, y) = (numbers(rows * width, seed), numbers(rows * width, seed ^ 1));
        let (weight, bias) = (numbers(width, seed ^ 2), numbers(width, seed ^ 3));
        let mut expected = Vec::new();
        for at in (0..rows * width).step_by(width) {
            let value = |place: usize| f64::from(x[place]) + if sum { f64::from(y[place]) } else { 0.0 };
            let mean = (at..at + width).map(value).sum::<f64>() / width as f64;
            let square = (at..at + width).map(|place| (value(place) - mean).powi(2)).sum::<f64>() / width as f64;
            expected.extend((at..at + width).map(|place| {
                let normed = (value(place) - mean) / (square + 1e-5).sqrt();
                (normed * f64::from(weight[place - at]) + f64::from(bias[place - at])) as f32
            }));
        }
        for isa in Isa::available() {
            let mut rows = x.clone();
            norm(isa, &mut rows, sum.then_some(&y[..]), &weight, &bias, 1e-5);
            close(&rows, &expected, 2e-5)?;
        }
    }

    #[test]
    fn attention_mixes_values_by_the_softmax_of_scores(
        texts in 1usize..3, heads in 1usize..4, asking in 1usize..120, tokens in 1usize..40, head in 1usize..40,
        biased: bool, seed: u64,
    ) {
        let of = |tokens: usize, seed| numbers(texts * heads * tokens * head, seed);
        let (query, key, value) = (of(asking, seed), of(tokens, seed ^ 1), of(tokens, seed ^ 2));
        let mut bias = numbers(texts * tokens, seed ^ 3);
        bias[0] = f32::MIN;
        let mut expected = vec![0f32; texts * asking * heads * head];
        for text in 0..texts {
            for at in 0..heads {
                for ask in 0..asking {
                    let row = |numbers: &[f32], tokens: usize, token: usize| -> Vec<f64> {
                        let start = ((text * heads + at) * tokens + token) * head;
                        numbers[start..start + head].iter().map(|x| f64::from(*x)).collect()
                    };
                    let q = row(&query, asking, ask);
                    let scores: Vec<f64> = (0..tokens).map(|token| {
                        let k = row(&key, tokens, token);
                        let added = if biased { f64::from(bias[text * tokens + token]) } else { 0.0 };
                        q.iter().zip(&k).map(|(a, b)| a * b).sum::<f64>() + added
                    }).collect();
                    let most = scores.iter().copied().fold(f64::MIN, f64::max);
                    let weights: Vec<f64> = scores.iter().map(|score| (score - most).exp()).collect();
                    let all: f64 = weights.iter().sum();
                    for place in 0..head {
                        let mixed: f64 = (0..tokens).map(|token| weights[token] / all * row(&value, tokens, token)[place]).sum();
                        expected[(text * asking + ask) * heads * head + at * head + place] = mixed as f32;
                    }
                }
            }
        }
        for isa in Isa::available() {
            let view = |numbers, tokens| View { numbers, text: heads * tokens * head, head: tokens * head, token: head };
            let views = [view(&query[..], asking), view(&key[..], tokens), view(&value[..], tokens)];
            let bias = biased.then_some(Bias { numbers: &bias, start: 0, text: tokens, head: 0, token: 0 });
            let mut out = vec![f32::NAN; expected.len()];
            let texts: Vec<Text> = (0..texts).map(|place| Text { place, asking, tokens }).collect();
            attention(isa, views, bias, &texts, (heads, head), &mut out);
            close(&out, &expected, 1e-4)?;
        }
    }

    #[test]
    fn a_softmax_adds_up_to_one_and_leaves_what_lies_behind_alone(used in 1usize..70, more in 0usize..5, seed: u64) {
        let row: Vec<f32> = numbers(used + more, seed).iter().map(|x| x * 30.0).collect();
        let most = row[..used].iter().copied().fold(f32::MIN, f32::max);
        let all: f64 = row[..used].iter().map(|x| f64::from(x - most).exp()).sum();
        let mut expected: Vec<f32> = row[..used].iter().map(|x| (f64::from(x - most).exp() / all) as f32).collect();
        expected.extend(&row[used..]);
        for isa in Isa::available() {
            let mut got = row.clone();
            softmax(isa, &mut got, used + more, used);
            close(&got, &expected, 1e-6)?;
        }
    }

    #[test]
    fn layers_behind_each_other_give_what_they_give_one_by_one(rows in 1usize..200, gated: bool, seed: u64) {
        let (hidden, wide) = (24, 40);
        let half = if gated { wide / 2 } else { wide };
        let (x, up, down) = (numbers(rows * hidden, seed), numbers(hidden * wide, seed ^ 1), numbers(half * hidden, seed ^ 2));
        let (up_bias, down_bias) = (numbers(wide, seed ^ 3), numbers(hidden, seed ^ 4));
        let mut inner = Vec::new();
        for row in product(&x, &up, &up_bias).chunks(wide) {
            inner.extend((0..half).map(|at| gelu(f64::from(row[at])) as f32 * if gated { row[half + at] } else { 1.0 }));
        }
        let expected = product(&inner, &down, &down_bias);
        for isa in Isa::available() {
            let up = Packed::new(isa, &up, Some(&up_bias), hidden, wide);
            let down = Packed::new(isa, &down, Some(&down_bias), half, hidden);
            let mut out = vec![f32::NAN; rows * hidden];
            feed_forward(&x, &up, Activation::Gelu, gated, &down, &mut out);
            close(&out, &expected, 1e-4)?;
        }
    }
}

/// Sums of more terms than a panel holds at once, and a block of rows that is not full.
#[test]
fn long_sums_are_cut_and_go_on() {
    let (rows, inputs, outputs) = (101, 1000, 33);
    let (x, weight) = (numbers(rows * inputs, 5), numbers(inputs * outputs, 6));
    let expected = product(&x, &weight, &vec![0.0; outputs]);
    for isa in Isa::available() {
        let packed = Packed::new(isa, &weight, None, inputs, outputs);
        let mut out = vec![f32::NAN; rows * outputs];
        packed.forward(&x, &mut out);
        close(&out, &expected, 1e-4).unwrap();
    }
}

#[test]
fn activations_are_right_over_their_whole_range() {
    let inputs: Vec<f32> = (-12_000..=12_000).map(|step| step as f32 / 1000.0).collect();
    let extremes = [-1e30, -200.0, -88.5, 0.0, -0.0, 88.5, 200.0, 1e30];
    let inputs: Vec<f32> = inputs.into_iter().chain(extremes).collect();
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let tanh = |x: f64| {
        (0.5 * x) * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
    };
    let cases: [(Activation, &dyn Fn(f64) -> f64); 6] = [
        (Activation::Gelu, &gelu),
        (Activation::GeluTanh, &tanh),
        (Activation::QuickGelu, &|x| x * sigmoid(1.702 * x)),
        (Activation::Relu, &|x| x.max(0.0)),
        (Activation::Silu, &|x| x * sigmoid(x)),
        (Activation::Tanh, &f64::tanh),
    ];
    for (activation, expected) in cases {
        for isa in Isa::available() {
            let mut got = inputs.clone();
            activate(isa, activation, &mut got);
            for (x, got) in inputs.iter().zip(&got) {
                let expected = expected(f64::from(*x)) as f32;
                let tolerance = 3e-7 * expected.abs().max(1.0);
                assert!(
                    (got - expected).abs() <= tolerance,
                    "{activation:?} on {isa:?} of {x}: {got}, not {expected}"
                );
            }
        }
    }
}

#[test]
fn what_is_no_number_stays_none() {
    for isa in Isa::available() {
        for activation in [
            Activation::Gelu,
            Activation::GeluTanh,
            Activation::QuickGelu,
            Activation::Silu,
            Activation::Tanh,
        ] {
            let mut numbers = [f32::NAN; 3];
            activate(isa, activation, &mut numbers);
            assert!(numbers.iter().all(|x| x.is_nan()), "{activation:?} on {isa:?}");
        }
    }
}
