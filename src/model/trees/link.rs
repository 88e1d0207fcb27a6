//! From the sums of a forest to what its model is asked for: probabilities, counts, labels.
//!
//! Each function is computed as the library that trained the model computes it, in its type and its order of operations:
//! XGBoost's in 32 bits (`src/common/math.h`, `src/objective`), LightGBM's in 64 (`src/objective/*_objective.hpp`).

use crate::tensor::TensorData;

/// What is done to the sums of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Link {
    /// Nothing.
    Identity,
    /// 1 / (1 + exp(-slope · x))
    Sigmoid {
        /// LightGBM's parameter `sigmoid`; 1 elsewhere.
        slope: f64,
    },
    /// Positive numbers that sum to 1.
    Softmax,
    /// exp(x)
    Exp,
    /// 1 above zero, else 0.
    Hinge,
    /// x² with the sign of x: undoes LightGBM's `reg_sqrt`.
    SignedSquare,
    /// ln(1 + exp(x))
    Softplus,
}

/// A type that sums come in.
pub trait Number: Copy + Into<f64> + PartialOrd + 'static
where
    TensorData: From<Vec<Self>>,
{
    /// Applies `link` to the sums of one row.
    fn link(link: Link, row: &mut [Self]);

    /// Divides by a count.
    fn divided(self, by: f64) -> Self;

    /// 1 - self
    fn complement(self) -> Self;

    /// A small whole number.
    fn whole(number: usize) -> Self;
}

fn each<T: Copy>(row: &mut [T], f: impl Fn(T) -> T) {
    for value in row {
        *value = f(*value);
    }
}

impl Number for f32 {
    fn link(link: Link, row: &mut [f32]) {
        match link {
            Link::Identity => {}
            Link::Sigmoid { .. } => each(row, sigmoid_f32),
            Link::Exp => each(row, f32::exp),
            Link::Hinge => each(row, |x| f32::from(u8::from(x > 0.0))),
            Link::SignedSquare => each(row, |x| x * x.abs()),
            Link::Softplus => each(row, |x| x.exp().ln_1p()),
            Link::Softmax => {
                let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let mut sum = 0.0f64;
                for value in row.iter_mut() {
                    *value = (*value - most).exp();
                    sum += f64::from(*value);
                }
                let sum = sum as f32;
                each(row, |x| x / sum);
            }
        }
    }

    fn divided(self, by: f64) -> f32 {
        self / by as f32
    }

    fn complement(self) -> f32 {
        1.0 - self
    }

    fn whole(number: usize) -> f32 {
        number as f32
    }
}

impl Number for f64 {
    fn link(link: Link, row: &mut [f64]) {
        match link {
            Link::Identity => {}
            Link::Sigmoid { slope } => each(row, |x| 1.0 / (1.0 + (-slope * x).exp())),
            Link::Exp => each(row, f64::exp),
            Link::Hinge => each(row, |x| f64::from(u8::from(x > 0.0))),
            Link::SignedSquare => each(row, |x| x * x.abs()),
            Link::Softplus => each(row, |x| x.exp().ln_1p()),
            Link::Softmax => {
                let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                each(row, |x| (x - most).exp());
                let sum: f64 = row.iter().sum();
                each(row, |x| x / sum);
            }
        }
    }

    fn divided(self, by: f64) -> f64 {
        self / by
    }

    fn complement(self) -> f64 {
        1.0 - self
    }

    fn whole(number: usize) -> f64 {
        number as f64
    }
}

/// XGBoost's: the exponent is kept below where it overflows.
fn sigmoid_f32(x: f32) -> f32 {
    let exponent = (-x).min(88.7);
    1.0 / (exponent.exp() + 1.0 + 1e-16)
}

/// The place of the greatest number, the first of several; NaN is passed over.
pub fn greatest<T: Copy + PartialOrd>(row: &[T]) -> usize {
    let mut best = 0;
    for (place, value) in row.iter().enumerate() {
        let best_is_nan = row[best].partial_cmp(&row[best]).is_none();
        if *value > row[best] || best_is_nan {
            best = place;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_function_gives_what_its_formula_says() {
        for (link, row, expected) in [
            (Link::Identity, vec![0.5, -2.0], vec![0.5, -2.0]),
            (
                Link::Sigmoid { slope: 1.0 },
                vec![0.0, 1.0, -200.0],
                vec![0.5, 0.731_058_58, 0.0],
            ),
            (Link::Exp, vec![0.0, 1.0], vec![1.0, std::f64::consts::E]),
            (Link::Hinge, vec![0.0, 0.25, -1.0], vec![0.0, 1.0, 0.0]),
            (Link::SignedSquare, vec![3.0, -3.0], vec![9.0, -9.0]),
            (Link::Softplus, vec![0.0], vec![std::f64::consts::LN_2]),
            (
                Link::Softmax,
                vec![1.0, 2.0, 3.0],
                vec![0.090_030_57, 0.244_728_47, 0.665_240_96],
            ),
            (Link::Softmax, vec![1000.0, 1000.0], vec![0.5, 0.5]),
        ] {
            let mut wide: Vec<f64> = row.clone();
            let mut narrow: Vec<f32> = row.iter().map(|&x| x as f32).collect();
            f64::link(link, &mut wide);
            f32::link(link, &mut narrow);
            for place in 0..expected.len() {
                let (wide, narrow) = (wide[place], f64::from(narrow[place]));
                assert!((wide - expected[place]).abs() < 1e-6, "{link:?}: {wide}");
                assert!((narrow - expected[place]).abs() < 1e-6, "{link:?}: {narrow}");
            }
        }
        let mut row = [1.0];
        f64::link(Link::Sigmoid { slope: 2.0 }, &mut row);
        assert!((row[0] - 0.880_797_077_977_882_3).abs() < 1e-15);
    }

    #[test]
    fn the_greatest_is_the_first_of_equals_and_never_nan() {
        assert_eq!(greatest(&[1.0, 3.0, 3.0]), 1);
        assert_eq!(greatest(&[f64::NAN, -1.0, 2.0]), 2);
        assert_eq!(greatest(&[0.0f32]), 0);
    }
}
