//! Texts of a block as batches of like length.
//!
//! Most networks compute as many tokens for each text of a batch as its longest one has, so texts are sorted by length. A batch
//! is cut where more tokens would be computed, or rows, than is good: with padding where it is computed, without it where it is
//! not. Whoever scatters the results goes by the places that each batch names; the order of rows is never lost, because it is
//! never changed.
//!
//! This is done twice with the same code: once with the rows of a block, each of which may be several sequences (a long context,
//! a pair for each label), and once with the sequences of a batch of rows.

/// How large a batch may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most tokens that are computed at once; a longer text is a batch of its own.
    pub tokens: usize,
    /// Whether padding is computed.
    pub pads: bool,
    /// Most rows.
    pub rows: usize,
}

/// What is to be computed for a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Tokens of its longest sequence.
    pub longest: usize,
    /// Tokens of all its sequences.
    pub tokens: usize,
    /// How many sequences it is.
    pub sequences: usize,
}

/// Places of rows in batches, longest first, so that the largest batch is met at once.
pub fn cut(sizes: &[Size], limits: Limits) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by_key(|&place| {
        let Size {
            longest, sequences, ..
        } = sizes[place];
        (std::cmp::Reverse((longest, sequences)), place)
    });
    let mut batches = Vec::new();
    let mut rest = order.as_slice();
    while let Some(&first) = rest.first() {
        let longest = sizes[first].longest.max(1);
        let (mut sequences, mut tokens) = (0, 0);
        let fits = |place: &&usize| {
            let size = sizes[**place];
            sequences += size.sequences;
            tokens += size.tokens;
            let computed = match limits.pads {
                true => sequences * longest,
                false => tokens,
            };
            sequences <= limits.rows && computed <= limits.tokens
        };
        let rows = rest.iter().take_while(fits).count().max(1);
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

    fn texts(lengths: &[usize]) -> Vec<Size> {
        let size = |&longest: &usize| Size {
            longest,
            tokens: longest,
            sequences: 1,
        };
        lengths.iter().map(size).collect()
    }

    proptest! {
        #[test]
        fn every_row_is_in_one_batch_and_no_batch_is_too_large(
            sizes in proptest::collection::vec(proptest::collection::vec(1usize..600, 1..4), 0..200),
            tokens in 1usize..2000,
            rows in 1usize..50,
            pads: bool,
        ) {
            let size = |lengths: &Vec<usize>| Size {
                longest: *lengths.iter().max().unwrap(),
                tokens: lengths.iter().sum(),
                sequences: lengths.len(),
            };
            let sizes: Vec<Size> = sizes.iter().map(size).collect();
            let limits = Limits { tokens, pads, rows };
            let batches = cut(&sizes, limits);
            let mut places: Vec<usize> = batches.concat();
            places.sort_unstable();
            prop_assert_eq!(places, (0..sizes.len()).collect::<Vec<_>>());
            let longest = |batch: &Vec<usize>| batch.iter().map(|&place| sizes[place].longest).max().unwrap();
            let shortest = |batch: &Vec<usize>| batch.iter().map(|&place| sizes[place].longest).min().unwrap();
            for batch in &batches {
                let sequences = |batch: &[usize]| batch.iter().map(|&place| sizes[place].sequences).sum::<usize>();
                let computed = match pads {
                    true => sequences(batch) * longest(batch),
                    false => batch.iter().map(|&place| sizes[place].tokens).sum(),
                };
                prop_assert!(sequences(batch) <= rows && computed <= tokens || batch.len() == 1);
            }
            // The next row would have been too much for a batch.
            for pair in batches.windows(2) {
                let more = [pair[0].as_slice(), &pair[1][..1]].concat();
                let sequences: usize = more.iter().map(|&place| sizes[place].sequences).sum();
                let computed = match pads {
                    true => sequences * longest(&more),
                    false => more.iter().map(|&place| sizes[place].tokens).sum(),
                };
                prop_assert!(sequences > rows || computed > tokens);
            }
            // Rows of a batch are neighbours by length: no shorter one lies in an earlier batch.
            for pair in batches.windows(2) {
                prop_assert!(shortest(&pair[0]) >= longest(&pair[1]));
            }
        }
    }

    #[test]
    fn like_lengths_share_a_batch() {
        let limits = Limits {
            tokens: 64,
            pads: true,
            rows: 3,
        };
        let batches = cut(&texts(&[4, 30, 5, 31, 4, 100, 4]), limits);
        assert_eq!(batches, [vec![5], vec![3, 1], vec![2, 0, 4], vec![6]]);
    }

    #[test]
    fn a_row_of_many_sequences_counts_for_all_of_them() {
        let limits = Limits {
            tokens: 64,
            pads: true,
            rows: 8,
        };
        let sizes = [(10, 5), (10, 2), (10, 3), (10, 1)].map(|(longest, sequences)| Size {
            longest,
            tokens: longest * sequences,
            sequences,
        });
        assert_eq!(cut(&sizes, limits), [vec![0], vec![2, 1, 3]]);
    }

    #[test]
    fn where_no_padding_is_computed_a_batch_takes_as_many_texts_as_their_own_tokens_fill() {
        let sizes = texts(&[40, 10, 8, 6, 5, 4]);
        let limits = |pads| Limits {
            tokens: 64,
            pads,
            rows: 8,
        };
        assert_eq!(cut(&sizes, limits(true)), [vec![0], vec![1, 2, 3, 4, 5]]);
        assert_eq!(cut(&sizes, limits(false)), [vec![0, 1, 2, 3], vec![4, 5]]);
    }
}
