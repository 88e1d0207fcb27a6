//! Units × N → which replica does which unit.
//!
//! Longest processing time first (Graham 1969): heaviest unit first, each to the least-loaded replica; at most 4/3 of
//! the best possible makespan. Computed, never stored, so that a restart with another N just computes it again.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::Unit;

/// The ids of the units of each of `replicas` replicas, each list in the order the units should be done: heaviest
/// first, so that the last unit to finish is a light one.
pub fn assign(units: &[Unit], replicas: usize) -> Vec<Vec<u32>> {
    let mut heaviest_first: Vec<&Unit> = units.iter().collect();
    heaviest_first.sort_by_key(|unit| (Reverse(weight(unit)), unit.id));
    let mut loads: BinaryHeap<Reverse<(u64, usize)>> =
        (0..replicas).map(|index| Reverse((0, index))).collect();
    let mut shares = vec![Vec::new(); replicas];
    for unit in heaviest_first {
        let Some(Reverse((load, index))) = loads.pop() else {
            break;
        };
        shares[index].push(unit.id);
        loads.push(Reverse((load + weight(unit), index)));
    }
    shares
}

/// What a unit costs. Bytes stand for decoding and writing, rows for the model; neither is known better beforehand.
pub fn weight(unit: &Unit) -> u64 {
    const BYTES_PER_ROW: u64 = 32;
    unit.bytes + unit.rows * BYTES_PER_ROW + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn units(weights: &[u64]) -> Vec<Unit> {
        let unit = |(id, &bytes): (usize, &u64)| Unit {
            id: id as u32,
            parts: vec![],
            rows: 0,
            bytes,
        };
        weights.iter().enumerate().map(unit).collect()
    }

    #[test]
    fn heavy_units_are_shared_out_first() {
        let shares = assign(&units(&[1, 5, 3, 3, 2]), 2);
        assert_eq!(shares, [vec![1, 4], vec![2, 3, 0]]);
    }

    #[test]
    fn more_replicas_than_units_leaves_some_with_nothing() {
        assert_eq!(assign(&units(&[1]), 3), [vec![0], vec![], vec![]]);
    }

    proptest! {
        /// Failure matrix: 13.
        #[test]
        fn every_unit_has_exactly_one_replica(weights in proptest::collection::vec(0u64..1000, 0..60), n in 1usize..20) {
            let mut all: Vec<u32> = assign(&units(&weights), n).concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..weights.len() as u32).collect::<Vec<_>>());
        }

        #[test]
        fn no_replica_has_more_than_four_thirds_of_the_best_share(
            weights in proptest::collection::vec(1u64..1000, 1..60), n in 1usize..8
        ) {
            let units = units(&weights);
            let load = |share: &Vec<u32>| share.iter().map(|&id| weight(&units[id as usize])).sum::<u64>();
            let makespan = assign(&units, n).iter().map(load).max().unwrap_or(0);
            // No schedule beats the mean load, the heaviest unit, or two of the n+1 heaviest on one replica.
            let mut sorted: Vec<u64> = units.iter().map(weight).collect();
            sorted.sort_unstable_by_key(|&w| Reverse(w));
            let mean = sorted.iter().sum::<u64>().div_ceil(n as u64);
            let pair = if sorted.len() > n { sorted[n - 1] + sorted[n] } else { 0 };
            let bound = mean.max(sorted[0]).max(pair);
            // Graham's bound against this lower bound of the optimum, with its last job's share.
            prop_assert!(makespan <= bound + sorted.get(n).copied().unwrap_or(0));
        }
    }
}
