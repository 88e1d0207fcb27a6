//! What becomes of the sums of trees: transformed scores, and the classes that votes are for.
//!
//! ONNX Runtime's rules, which say more than the standard (`write_scores`, `TreeAggregatorClassifier`): two classes are
//! scored in six ways, by who gets votes, whether any is negative, and how many base values there are.

use super::ensemble::{Classes, Labels, Transform};
use crate::tensor::TensorData;

/// The sums of rows of `width`, transformed, as 32-bit numbers.
pub fn transformed(sums: impl Iterator<Item = f64>, width: usize, transform: Transform) -> Vec<f32> {
    let mut scores: Vec<f32> = sums.map(|sum| sum as f32).collect();
    scores
        .chunks_exact_mut(width)
        .for_each(|row| transform.apply(row));
    scores
}

impl Transform {
    fn apply(self, row: &mut [f32]) {
        match self {
            Transform::None => {}
            Transform::Logistic => row.iter_mut().for_each(|value| *value = logistic(*value)),
            Transform::Softmax => {
                let most = row.iter().copied().fold(-f32::MAX, f32::max);
                let mut sum = 0f32;
                for value in row.iter_mut() {
                    *value = (*value - most).exp();
                    sum += *value;
                }
                row.iter_mut().for_each(|value| *value /= sum);
            }
            Transform::SoftmaxZero => {
                let most = row.iter().copied().fold(-f32::MAX, f32::max);
                let factor = (-most).exp();
                let mut sum = 0f32;
                for value in row.iter_mut() {
                    if value.abs() > 0.000_000_1 {
                        *value = (*value - most).exp();
                        sum += *value;
                    } else {
                        *value *= factor;
                    }
                }
                row.iter_mut().for_each(|value| *value /= sum);
            }
        }
    }
}

fn logistic(value: f32) -> f32 {
    let v = 1.0 / (1.0 + (-value.abs()).exp());
    if value < 0.0 { 1.0 - v } else { v }
}

impl Classes {
    /// Labels, and scores `[rows, classes]`, from the sums of rows.
    pub fn finish(&self, sums: &[f64], is_f32: bool) -> (TensorData, Vec<f32>) {
        let classes = self.labels.len();
        let rows = sums.len() / classes;
        let mut places = Vec::with_capacity(rows);
        let mut scores = Vec::with_capacity(sums.len());
        let round = |value: f64| if is_f32 { f64::from(value as f32) } else { value };
        for row in sums.chunks_exact(classes) {
            let place = match classes > 2 {
                true => self.several(row, round, &mut scores),
                false => self.two(row, round, &mut scores),
            };
            places.push(place);
        }
        let labels = match &self.labels {
            // Where both classes get votes, ONNX Runtime gives the place, not the label.
            Labels::Integers(_) if classes == 2 && !self.is_binary => places
                .into_iter()
                .map(|place| place as i64)
                .collect::<Vec<_>>()
                .into(),
            Labels::Integers(labels) => places
                .into_iter()
                .map(|place| labels[place])
                .collect::<Vec<_>>()
                .into(),
            Labels::Texts(labels) => {
                let texts: Vec<String> = places.into_iter().map(|place| labels[place].clone()).collect();
                texts.into()
            }
        };
        (labels, scores)
    }

    fn several(&self, row: &[f64], round: impl Fn(f64) -> f64, scores: &mut Vec<f32>) -> usize {
        let mut best: Option<(usize, f64)> = None;
        let start = scores.len();
        for (class, &sum) in row.iter().enumerate() {
            let base = self.base.get(class).copied();
            let score = base.map_or(sum, |base| round(sum + base));
            if (self.voted[class] || base.is_some()) && best.is_none_or(|(_, most)| score > most) {
                best = Some((class, score));
            }
            scores.push(score as f32);
        }
        self.transform.apply(&mut scores[start..]);
        best.map_or(0, |(class, _)| class)
    }

    /// ONNX Runtime's rules for two classes.
    fn two(&self, row: &[f64], round: impl Fn(f64) -> f64, scores: &mut Vec<f32>) -> usize {
        let (mut first, mut second) = (row[0], Some(row[1]));
        let has_second = self.voted[1];
        match self.base.as_slice() {
            [base, other] => {
                if has_second {
                    second = Some(round(other + first));
                    first = -second.unwrap_or_default();
                } else {
                    second = Some(round(row[1] + other));
                    first = round(first + base);
                }
            }
            [base] => {
                first = round(first + base);
                second = second.filter(|_| has_second);
            }
            _ => second = second.filter(|_| has_second),
        }
        let weight = match (has_second, second) {
            (true, Some(second)) => second,
            _ => first,
        };
        let is_second = match self.is_binary && self.all_positive {
            true => weight > 0.5,
            false => weight > 0.0,
        };
        match second {
            Some(second) => {
                let mut both = [first as f32, second as f32];
                self.transform.apply(&mut both);
                scores.extend(both);
            }
            None if self.transform == Transform::Logistic => {
                let first = first as f32;
                scores.extend([logistic(-first), logistic(first)]);
            }
            None if self.is_binary && self.all_positive => {
                let first = first as f32;
                scores.extend([1.0 - first, first]);
            }
            None => scores.extend([-first as f32, first as f32]),
        }
        usize::from(is_second)
    }
}
