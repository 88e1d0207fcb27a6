//! Bins: features as small integers, one for each test a tree can ask.
//!
//! With the thresholds of a feature over all trees in rising order, `x < thresholds[k]` is `bin(x) ≤ k`, where `bin(x)`
//! counts the thresholds that `x` has reached. So a feature is compared as a float once per block of rows, and thousands
//! of nodes compare small integers (RapidScorer, Ye et al. 2018). Everything else that a split can say becomes a
//! *column* of its own, so that nodes know one test: a row goes right if its bin in a column is greater than a limit.
//!
//! - Missing values are bin 0 in one column and the greatest bin in another; a split reads the one it needs.
//! - More thresholds than an integer can count are several columns, each with the bins of its part, clamped.
//! - Sets have a column each, which is 0 for members and 1 for others.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::block::{Block, ROWS};
use super::forest::{Split, Test, ZERO};
use super::search::{Real, Thresholds};

/// A test of a bin: rows go right whose bin in this column is greater than `limit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limit {
    pub column: u32,
    pub limit: u32,
}

/// Fills the columns that a set of trees tests.
#[derive(Debug)]
pub(super) struct Binner<C> {
    features: Vec<Feature<C>>,
    sets: Vec<Set>,
    columns: usize,
}

/// A feature that is compared with thresholds.
#[derive(Debug)]
struct Feature<C> {
    feature: u32,
    zero_is_missing: bool,
    thresholds: Thresholds<C>,
    /// Columns where missing values go right, then those where they go left.
    columns: [Vec<Part>; 2],
}

/// A column that tells bins `base..` apart.
#[derive(Debug)]
struct Part {
    base: u32,
    column: u32,
}

/// A feature that is looked up in a set.
#[derive(Debug)]
struct Set {
    feature: u32,
    zero_is_missing: bool,
    missing_goes_left: bool,
    column: u32,
    members: Members,
}

#[derive(Debug)]
enum Members {
    /// A bit for each number up to the greatest.
    Bits(Vec<u64>),
    /// Where bits would take much more room than the numbers do.
    Sorted(Vec<u32>),
}

impl Members {
    fn new(sorted: &[u32]) -> Members {
        let words = sorted.last().map_or(0, |&last| last as usize / 64 + 1);
        if words > 16 + sorted.len() {
            return Members::Sorted(sorted.to_vec());
        }
        let mut bits = vec![0; words];
        for &member in sorted {
            bits[member as usize / 64] |= 1 << (member % 64);
        }
        Members::Bits(bits)
    }

    fn has(&self, value: f64) -> bool {
        if !(value > -1.0 && value < 2_147_483_648.0) {
            return false;
        }
        let value = value as u32;
        match self {
            Members::Bits(bits) => {
                let word = bits.get(value as usize / 64).copied().unwrap_or(0);
                word >> (value % 64) & 1 == 1
            }
            Members::Sorted(sorted) => sorted.binary_search(&value).is_ok(),
        }
    }
}

/// The number that `threshold` is compared as: NaN is above nothing, as -∞ is.
fn canonical(threshold: f64) -> f64 {
    if threshold.is_nan() {
        f64::NEG_INFINITY
    } else {
        threshold
    }
}

/// Collects the splits of trees, then says what becomes of each.
pub(super) struct Columns<'a> {
    /// By feature and whether zero is missing.
    thresholds: HashMap<(u32, bool), Vec<f64>>,
    /// By feature, whether zero is missing, where missing values go, and base.
    parts: HashMap<(u32, bool, bool, u32), u32>,
    sets: HashMap<(u32, bool, bool, &'a [u32]), u32>,
    count: u32,
    /// Bins that a column tells apart, but for the greatest one: also the greatest bin.
    bins: u32,
}

impl<'a> Columns<'a> {
    /// Columns of integers up to `bins`, for trees with these splits.
    pub fn new(bins: u32, splits: impl Iterator<Item = &'a Split>) -> Self {
        let mut thresholds: HashMap<(u32, bool), Vec<f64>> = HashMap::new();
        for split in splits {
            if let Test::Less(threshold) = split.test {
                let of_feature = thresholds
                    .entry((split.feature, split.zero_is_missing))
                    .or_default();
                of_feature.push(canonical(threshold));
            }
        }
        for of_feature in thresholds.values_mut() {
            of_feature.sort_unstable_by(f64::total_cmp);
            of_feature.dedup();
            of_feature.shrink_to_fit();
        }
        Columns {
            thresholds,
            parts: HashMap::new(),
            sets: HashMap::new(),
            count: 0,
            bins,
        }
    }

    /// What `split`, one of those given to [`Columns::new`], asks of a bin.
    pub fn limit(&mut self, split: &'a Split) -> Limit {
        let next = self.count;
        let (entry, limit) = match &split.test {
            Test::Less(threshold) => {
                let threshold = canonical(*threshold);
                let of_feature = &self.thresholds[&(split.feature, split.zero_is_missing)];
                let rank = of_feature.partition_point(|other| *other < threshold) as u32;
                let base = rank / self.bins * self.bins;
                let key = (
                    split.feature,
                    split.zero_is_missing,
                    split.missing_goes_left,
                    base,
                );
                (self.parts.entry(key), rank - base)
            }
            Test::Member(members) => {
                let key = (
                    split.feature,
                    split.zero_is_missing,
                    split.missing_goes_left,
                    members.as_slice(),
                );
                let column = *self.sets.entry(key).or_insert_with(|| {
                    self.count += 1;
                    next
                });
                return Limit { column, limit: 0 };
            }
        };
        let column = match entry {
            Entry::Occupied(column) => *column.get(),
            Entry::Vacant(vacant) => {
                self.count += 1;
                *vacant.insert(next)
            }
        };
        Limit { column, limit }
    }

    /// How many columns were named.
    pub fn count(&self) -> usize {
        self.count as usize
    }

    /// What fills the columns that were named.
    pub fn binner<C: Real>(self) -> Binner<C> {
        let mut parts: Vec<_> = self.parts.into_iter().collect();
        parts.sort_unstable();
        let mut features: Vec<Feature<C>> = vec![];
        for ((feature, zero_is_missing, missing_goes_left, base), column) in parts {
            let known = features
                .last()
                .is_some_and(|last| (last.feature, last.zero_is_missing) == (feature, zero_is_missing));
            if !known {
                let sorted = &self.thresholds[&(feature, zero_is_missing)];
                features.push(Feature {
                    feature,
                    zero_is_missing,
                    thresholds: Thresholds::new(sorted.iter().map(|&value| C::nearest(value)).collect()),
                    columns: [vec![], vec![]],
                });
            }
            let last = features.last_mut().expect("one was pushed if there was none");
            last.columns[usize::from(missing_goes_left)].push(Part { base, column });
        }
        let mut sets: Vec<_> = self.sets.into_iter().collect();
        sets.sort_unstable();
        let sets = sets.into_iter().map(
            |((feature, zero_is_missing, missing_goes_left, members), column)| Set {
                feature,
                zero_is_missing,
                missing_goes_left,
                column,
                members: Members::new(members),
            },
        );
        Binner {
            features,
            sets: sets.collect(),
            columns: self.count as usize,
        }
    }
}

/// Columns that a [`Binner`] fills.
pub(super) trait Cells {
    /// The greatest bin.
    const GREATEST: u32;
    /// Takes the bins of a block of rows, `0..=GREATEST`.
    fn fill(&mut self, column: u32, bins: impl Fn(usize) -> u32);
}

impl<C: Real> Binner<C> {
    /// How many columns there are.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Bins of a block of rows; `load` gives a feature of them.
    #[inline(always)]
    pub fn fill<const AVX2: bool, T: Cells>(&self, mut load: impl FnMut(u32, &mut Block<C>), cells: &mut T) {
        let mut values = Block([C::NAN; ROWS]);
        let mut loaded = None;
        let mut reached = Block([0; ROWS]);
        let mut bins = Block([0; ROWS]);
        for feature in &self.features {
            if loaded != Some(feature.feature) {
                load(feature.feature, &mut values);
                loaded = Some(feature.feature);
            }
            C::search::<AVX2>(&feature.thresholds, &values, &mut reached);
            for (parts, missing_bin) in feature.columns.iter().zip([u32::MAX, 0]) {
                if parts.is_empty() {
                    continue;
                }
                // Apart, since most features have no such zeros; and as arithmetic, which is compiled into vectors.
                if feature.zero_is_missing {
                    for row in 0..ROWS {
                        let missing = u32::from(is_missing(values.0[row], true)).wrapping_neg();
                        bins.0[row] = (reached.0[row] & !missing) | (missing_bin & missing);
                    }
                } else {
                    for row in 0..ROWS {
                        let missing = u32::from(is_missing(values.0[row], false)).wrapping_neg();
                        bins.0[row] = (reached.0[row] & !missing) | (missing_bin & missing);
                    }
                }
                for part in parts {
                    cells.fill(part.column, |row| {
                        bins.0[row].saturating_sub(part.base).min(T::GREATEST)
                    });
                }
            }
        }
        for set in &self.sets {
            if loaded != Some(set.feature) {
                load(set.feature, &mut values);
                loaded = Some(set.feature);
            }
            cells.fill(set.column, |row| {
                let left = match is_missing(values.0[row], set.zero_is_missing) {
                    true => set.missing_goes_left,
                    false => set.members.has(values.0[row].wide()),
                };
                u32::from(!left)
            });
        }
    }
}

#[inline(always)]
fn is_missing<C: Real>(value: C, zero_is_missing: bool) -> bool {
    let value = value.wide();
    value.is_nan() || (zero_is_missing && value.abs() <= ZERO)
}
