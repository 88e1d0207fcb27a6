//! Scores of a network as probabilities, and the best of them.

use crate::error::{Error, Result};

/// What makes probabilities of scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// They add up to 1.
    Softmax,
    /// Each for itself.
    Sigmoid,
    /// As they are.
    None,
}

impl Function {
    /// By its name in the Python library.
    ///
    /// # Errors
    /// `Config`, for an unknown one.
    pub fn named(name: &str) -> Result<Function> {
        match name {
            "softmax" => Ok(Function::Softmax),
            "sigmoid" => Ok(Function::Sigmoid),
            "none" => Ok(Function::None),
            other => Err(Error::config(format!(
                "input.params.function_to_apply: {other} is none of softmax, sigmoid, none"
            ))),
        }
    }

    /// Turns scores into what is asked for.
    pub fn apply(self, scores: &mut [f32]) {
        match self {
            Function::None => {}
            Function::Sigmoid => scores
                .iter_mut()
                .for_each(|score| *score = 1.0 / (1.0 + (-*score).exp())),
            Function::Softmax => {
                let greatest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                scores
                    .iter_mut()
                    .for_each(|score| *score = (*score - greatest).exp());
                let sum: f32 = scores.iter().sum();
                scores.iter_mut().for_each(|score| *score /= sum);
            }
        }
    }
}

/// The place of the greatest, the first of several.
pub fn greatest(scores: &[f32]) -> usize {
    let better = |best: usize, place: usize| if scores[place] > scores[best] { place } else { best };
    (1..scores.len()).fold(0, better)
}

/// Places from the greatest to the least, at most `most`.
pub fn ranked(scores: &[f32], most: usize) -> Vec<usize> {
    let mut places: Vec<usize> = (0..scores.len()).collect();
    let order = |a: &usize, b: &usize| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b));
    if most < places.len() && most > 0 {
        places.select_nth_unstable_by(most - 1, order);
        places.truncate(most);
    }
    places.sort_unstable_by(order);
    places.truncate(most);
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_become_probabilities() {
        let mut scores = [1000.0, 1000.0, 0.0];
        Function::Softmax.apply(&mut scores);
        assert_eq!(scores, [0.5, 0.5, 0.0]);
        let mut scores = [0.0, f32::INFINITY, f32::NEG_INFINITY];
        Function::Sigmoid.apply(&mut scores);
        assert_eq!(scores, [0.5, 1.0, 0.0]);
        let mut scores = [3.0];
        Function::None.apply(&mut scores);
        assert_eq!(scores, [3.0]);
        assert!(Function::named("tanh").is_err());
    }

    #[test]
    fn the_best_come_first_and_the_first_of_equals_wins() {
        let scores = [0.1, 0.7, 0.7, 0.3];
        assert_eq!(greatest(&scores), 1);
        assert_eq!(ranked(&scores, 3), [1, 2, 3]);
        assert_eq!(ranked(&scores, 9), [1, 2, 3, 0]);
        assert_eq!(ranked(&scores, 0), [0usize; 0]);
    }
}
