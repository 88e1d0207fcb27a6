//! Texts of a block as batches of like length.
//!
//! A network computes as many tokens for each text of a batch as its longest one has, so texts are sorted by length and
//! cut where a batch would hold too many tokens or rows. Whoever scatters the results goes by the places that each batch
//! names; the order of rows is never lost, because it is never changed.

/// How large a batch may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most tokens, padding included; a longer text is a batch of its own.
    pub tokens: usize,
    /// Most rows.
    pub rows: usize,
}

/// Places of texts in batches, longest first, so that the largest batch is met at once. `lengths` are in tokens.
pub fn cut(lengths: &[usize], limits: Limits) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&place| (std::cmp::Reverse(lengths[place]), place));
    let mut batches = Vec::new();
    let mut rest = order.as_slice();
    while let Some(&longest) = rest.first() {
        let fitting = limits.tokens / lengths[longest].max(1);
        let rows = fitting.clamp(1, limits.rows.max(1)).min(rest.len());
        let (batch, others) = rest.split_at(rows);
        batches.push(batch.to_vec());
        rest = others;
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_text_is_in_one_batch_and_no_batch_is_too_large(
            lengths in proptest::collection::vec(1usize..600, 0..200), tokens in 1usize..2000, rows in 1usize..50,
        ) {
            let limits = Limits { tokens, rows };
            let batches = cut(&lengths, limits);
            let mut places: Vec<usize> = batches.concat();
            places.sort_unstable();
            prop_assert_eq!(places, (0..lengths.len()).collect::<Vec<_>>());
            for batch in &batches {
                let longest = batch.iter().map(|&place| lengths[place]).max().unwrap();
                prop_assert!(batch.len() <= rows);
                prop_assert!(batch.len() * longest <= tokens || batch.len() == 1);
            }
            // Texts of a batch are neighbours by length: no shorter one lies in an earlier batch.
            let shortest = |batch: &Vec<usize>| batch.iter().map(|&place| lengths[place]).min().unwrap();
            let longest = |batch: &Vec<usize>| batch.iter().map(|&place| lengths[place]).max().unwrap();
            for pair in batches.windows(2) {
                prop_assert!(shortest(&pair[0]) >= longest(&pair[1]));
            }
        }
    }

    #[test]
    fn like_lengths_share_a_batch() {
        let limits = Limits { tokens: 64, rows: 3 };
        let batches = cut(&[4, 30, 5, 31, 4, 100, 4], limits);
        assert_eq!(batches, [vec![5], vec![3, 1], vec![2, 0, 4], vec![6]]);
    }
}
