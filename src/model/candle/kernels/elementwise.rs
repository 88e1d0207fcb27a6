//! Functions of single numbers, without branches, so that they become vectors: what stands between dense layers.
//!
//! The exponential is that of Cephes (<https://www.netlib.org/cephes/>, `expf`). GELU goes by the complementary error
//! function, `erfc(y) = t p(t) exp(-y²)` with `t = 1 / (1 + 0.45 y)`, the form of Abramowitz and Stegun 7.1.26 with two more
//! terms; the polynomial was fitted so that GELU's own error is below 2e-9 before rounding.

use super::per_isa::{multiply_add, per_isa};
use crate::model::candle::encoder::Activation;

/// Beyond this the exponential of a negative number is 0.
const LEAST: f32 = -87.0;
const MOST: f32 = 88.0;

/// Adding it leaves a whole number in the last bits.
const ROUND: f32 = 12_582_912.0;

/// `exp(x)`, 0 below −87, and no more than `exp(88)`.
#[inline(always)]
pub fn exp<const FMA: bool>(x: f32) -> f32 {
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let within = x.clamp(LEAST, MOST);
    let shifted = multiply_add::<FMA>(within, std::f32::consts::LOG2_E, ROUND);
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(1f32.to_bits()));
    let whole = shifted - ROUND;
    let rest = multiply_add::<FMA>(whole, -LN_2_HIGH, within);
    let rest = multiply_add::<FMA>(whole, -LN_2_LOW, rest);
    let mut sum = 1.987_569_1e-4;
    for term in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        sum = multiply_add::<FMA>(sum, rest, term);
    }
    let result = (multiply_add::<FMA>(sum, rest * rest, rest) + 1.0) * power;
    if x < LEAST { 0.0 } else { result }
}

#[inline(always)]
fn sigmoid<const FMA: bool>(x: f32) -> f32 {
    1.0 / (1.0 + exp::<FMA>(-x))
}

#[inline(always)]
fn gelu<const FMA: bool>(x: f32) -> f32 {
    const TERMS: [f32; 7] = [
        0.091_958_95,
        -0.491_321_9,
        0.851_940_75,
        -0.370_623_35,
        0.457_317_26,
        0.201_837_4,
        0.258_890_9,
    ];
    let t = 1.0 / multiply_add::<FMA>(x.abs(), 0.45 * std::f32::consts::FRAC_1_SQRT_2, 1.0);
    let mut sum = TERMS[0];
    for term in &TERMS[1..] {
        sum = multiply_add::<FMA>(sum, t, *term);
    }
    // x times the part of the normal distribution that lies beyond |x|
    let beyond = x * 0.5 * (sum * t * exp::<FMA>(-0.5 * x * x));
    if x < 0.0 { beyond } else { x - beyond }
}

#[inline(always)]
fn gelu_tanh<const FMA: bool>(x: f32) -> f32 {
    // 0.5 (1 + tanh u) is the sigmoid of 2 u.
    const TWICE: f32 = 2.0 * 0.797_884_6;
    x * sigmoid::<FMA>(TWICE * multiply_add::<FMA>(0.044_715 * x * x, x, x))
}

/// One loop per activation; `$x` is a number and the loop's body gives what takes its place.
macro_rules! by_activation {
    ($activation:expr, |$function:ident| $loop:expr) => {
        match $activation {
            Activation::Gelu => {
                let $function = gelu::<FMA>;
                $loop
            }
            Activation::GeluTanh => {
                let $function = gelu_tanh::<FMA>;
                $loop
            }
            Activation::QuickGelu => {
                let $function = |x: f32| x * sigmoid::<FMA>(1.702 * x);
                $loop
            }
            Activation::Relu => {
                let $function = |x: f32| if x > 0.0 { x } else { 0.0 };
                $loop
            }
            Activation::Silu => {
                let $function = |x: f32| x * sigmoid::<FMA>(x);
                $loop
            }
            Activation::Tanh => {
                let $function = f32::tanh;
                $loop
            }
        }
    };
}

per_isa! {
    /// Puts what `activation` gives in the place of each number.
    activate(activation: Activation, numbers: &mut [f32]) = activate_body
}

#[inline(always)]
fn activate_body<const FMA: bool>(activation: Activation, numbers: &mut [f32]) {
    by_activation!(activation, |function| {
        for x in numbers {
            *x = function(*x);
        }
    });
}

per_isa! {
    /// The same for the first `columns` numbers of rows that lie `stride` apart.
    activate_columns(activation: Activation, rows: &mut [f32], stride: usize, columns: usize) = activate_columns_body
}

#[inline(always)]
fn activate_columns_body<const FMA: bool>(
    activation: Activation,
    rows: &mut [f32],
    stride: usize,
    columns: usize,
) {
    by_activation!(activation, |function| {
        for row in rows.chunks_mut(stride.max(1)) {
            let (chunks, rest) = row[..columns].as_chunks_mut::<LANES>();
            for chunk in chunks {
                for x in chunk {
                    *x = function(*x);
                }
            }
            for x in rest {
                *x = function(*x);
            }
        }
    });
}

per_isa! {
    /// The first half of a row becomes what `activation` gives for it, times the second half.
    gate(activation: Activation, row: &mut [f32]) = gate_body
}

#[inline(always)]
fn gate_body<const FMA: bool>(activation: Activation, row: &mut [f32]) {
    let (first, second) = row.split_at_mut(row.len() / 2);
    by_activation!(activation, |function| {
        for (x, factor) in std::iter::zip(first, second) {
            *x = function(*x) * *factor;
        }
    });
}

per_isa! {
    /// Turns pairs `(first[i], second[i])` by the angles whose cosines and sines these are.
    turn(first: &mut [f32], second: &mut [f32], cos: &[f32], sin: &[f32]) = turn_body
}

#[inline(always)]
fn turn_body<const FMA: bool>(first: &mut [f32], second: &mut [f32], cos: &[f32], sin: &[f32]) {
    for ((a, b), (cos, sin)) in first.iter_mut().zip(second).zip(cos.iter().zip(sin)) {
        (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
    }
}

per_isa! {
    /// The softmax of each row of `width` numbers, of which the first `used` count; the others are left alone.
    softmax(rows: &mut [f32], width: usize, used: usize) = softmax_body
}

/// As many sums go side by side as fit a vector, or two.
const LANES: usize = 16;

#[inline(always)]
fn softmax_body<const FMA: bool>(rows: &mut [f32], width: usize, used: usize) {
    for row in rows.chunks_exact_mut(width) {
        let row = &mut row[..used];
        let most = fold(row, f32::NEG_INFINITY, f32::max);
        for x in row.iter_mut() {
            *x = exp::<FMA>(*x - most);
        }
        let factor = 1.0 / fold(row, 0.0, |a, b| a + b);
        for x in row.iter_mut() {
            *x *= factor;
        }
    }
}

#[inline(always)]
fn fold(row: &[f32], start: f32, join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [start; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane = join(*lane, *x);
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane = join(*lane, *x);
    }
    lanes.into_iter().fold(start, join)
}

per_isa! {
    /// Normalises each row, after adding that of `added` to it if there is one.
    norm(rows: &mut [f32], added: Option<&[f32]>, weight: &[f32], bias: &[f32], eps: f32) = norm_body
}

#[inline(always)]
fn norm_body<const FMA: bool>(
    rows: &mut [f32],
    added: Option<&[f32]>,
    weight: &[f32],
    bias: &[f32],
    eps: f32,
) {
    let width = weight.len();
    for (index, row) in rows.chunks_exact_mut(width).enumerate() {
        if let Some(added) = added {
            for (x, y) in row.iter_mut().zip(&added[index * width..][..width]) {
                *x += y;
            }
        }
        let mean = fold(row, 0.0, |a, b| a + b) / width as f32;
        for x in row.iter_mut() {
            *x -= mean;
        }
        let squares = {
            let mut lanes = [0f32; LANES];
            let (chunks, rest) = row.as_chunks::<LANES>();
            for chunk in chunks {
                for (lane, x) in lanes.iter_mut().zip(chunk) {
                    *lane = multiply_add::<FMA>(*x, *x, *lane);
                }
            }
            lanes.iter().sum::<f32>() + rest.iter().map(|x| x * x).sum::<f32>()
        };
        let factor = 1.0 / (squares / width as f32 + eps).sqrt();
        for (x, (weight, bias)) in row.iter_mut().zip(weight.iter().zip(bias)) {
            *x = multiply_add::<FMA>(*x * factor, *weight, *bias);
        }
    }
}

per_isa! {
    /// Adds `others` to `numbers`.
    add(numbers: &mut [f32], others: &[f32]) = add_body
}

#[inline(always)]
fn add_body<const FMA: bool>(numbers: &mut [f32], others: &[f32]) {
    for (x, y) in numbers.iter_mut().zip(others) {
        *x += y;
    }
}
