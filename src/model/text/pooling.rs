//! Vectors of tokens become one vector per text, as sentence-transformers do it.

use crate::model::pretrained::Pooling;

/// Least sum of weights that is divided by: the library's constant.
const LEAST: f32 = 1e-9;

/// Pools the first `length` tokens of `tokens`, vectors of `width` numbers each, by each of `ways`, side by side. Tokens
/// before `from` (a prompt's) don't count, save for the first token by itself.
pub fn pool(
    tokens: &[f32],
    width: usize,
    from: usize,
    length: usize,
    ways: &[Pooling],
    pooled: &mut Vec<f32>,
) {
    let vector = |token: usize| &tokens[token * width..(token + 1) * width];
    // A text of nothing but its prompt has no tokens of its own.
    let from = from.min(length);
    for way in ways {
        let start = pooled.len();
        pooled.resize(start + width, 0.0);
        let sum = &mut pooled[start..];
        match way {
            Pooling::Cls => sum.copy_from_slice(vector(0)),
            Pooling::LastToken => sum.copy_from_slice(vector(length.saturating_sub(1))),
            Pooling::Max => {
                sum.fill(if from < length {
                    f32::NEG_INFINITY
                } else {
                    -LEAST.recip()
                });
                for token in from..length {
                    for (best, number) in std::iter::zip(&mut *sum, vector(token)) {
                        *best = best.max(*number);
                    }
                }
            }
            Pooling::Mean | Pooling::MeanSqrtLength | Pooling::WeightedMean => {
                let mut weights = 0.0;
                for token in from..length {
                    let weight = match way {
                        Pooling::WeightedMean => (token + 1) as f32,
                        _ => 1.0,
                    };
                    weights += weight;
                    for (total, number) in std::iter::zip(&mut *sum, vector(token)) {
                        *total += weight * number;
                    }
                }
                let divisor = match way {
                    Pooling::MeanSqrtLength => weights.max(LEAST).sqrt(),
                    _ => weights.max(LEAST),
                };
                sum.iter_mut().for_each(|total| *total /= divisor);
            }
        }
    }
}

/// Scales a vector to length 1, as `torch.nn.functional.normalize` does.
pub fn normalize(vector: &mut [f32]) {
    let length = vector
        .iter()
        .map(|number| number * number)
        .sum::<f32>()
        .sqrt()
        .max(1e-12);
    vector.iter_mut().for_each(|number| *number /= length);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pooled(from: usize, length: usize, ways: &[Pooling]) -> Vec<f32> {
        // The last token is padding and must not be seen.
        let tokens = [1.0, -2.0, 3.0, 0.0, 5.0, 8.0, 99.0, 99.0];
        let mut found = Vec::new();
        pool(&tokens, 2, from, length, ways, &mut found);
        found
    }

    #[test]
    fn each_way_counts_the_tokens_of_the_text_alone() {
        assert_eq!(pooled(0, 3, &[Pooling::Mean]), [3.0, 2.0]);
        assert_eq!(pooled(0, 3, &[Pooling::Cls]), [1.0, -2.0]);
        assert_eq!(pooled(0, 3, &[Pooling::LastToken]), [5.0, 8.0]);
        assert_eq!(pooled(0, 2, &[Pooling::Max]), [3.0, 0.0]);
        let root = 3f32.sqrt();
        assert_eq!(pooled(0, 3, &[Pooling::MeanSqrtLength]), [9.0 / root, 6.0 / root]);
        assert_eq!(pooled(0, 3, &[Pooling::WeightedMean]), [22.0 / 6.0, 22.0 / 6.0]);
        assert_eq!(
            pooled(0, 3, &[Pooling::Cls, Pooling::Mean]),
            [1.0, -2.0, 3.0, 2.0]
        );
    }

    #[test]
    fn a_prompts_tokens_can_be_left_out() {
        assert_eq!(pooled(1, 3, &[Pooling::Mean]), [4.0, 4.0]);
        assert_eq!(pooled(1, 3, &[Pooling::Cls]), [1.0, -2.0]);
        assert_eq!(pooled(3, 3, &[Pooling::Mean]), [0.0, 0.0]);
    }

    #[test]
    fn a_vector_is_scaled_to_length_one_and_nothing_stays_nothing() {
        let mut vector = [3.0, 4.0];
        normalize(&mut vector);
        assert_eq!(vector, [0.6, 0.8]);
        let mut nothing = [0.0, 0.0];
        normalize(&mut nothing);
        assert_eq!(nothing, [0.0, 0.0]);
    }
}
