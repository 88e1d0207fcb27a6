//! What the leaves give: weights looked up by leaf number and added to sums, tree after tree.
//!
//! A sum belongs to one row and one target and takes its leaves in the order of the trees, so that it is rounded as
//! [`Forest::score_row`](super::forest::Forest::score_row) rounds it; vectors go over rows. Tables of up to 64 weights in f32 are looked up
//! in registers.

use super::block::{Block, ROWS};
use super::forest::Aggregate;
use super::isa::Isa;

/// How a leaf gets into a sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fold {
    Add,
    Least,
    Greatest,
}

impl From<Aggregate> for Fold {
    fn from(aggregate: Aggregate) -> Self {
        match aggregate {
            Aggregate::BaseFirst | Aggregate::BaseLast | Aggregate::Average => Fold::Add,
            Aggregate::Min => Fold::Least,
            Aggregate::Max => Fold::Greatest,
        }
    }
}

/// A floating-point type that leaves are summed in.
pub(super) trait Sum: Copy + PartialOrd + Send + Sync + 'static {
    /// As f64, exactly.
    fn wide(self) -> f64;
    /// Rounded to this type.
    fn nearest(value: f64) -> Self;
    /// `self + other`, rounded.
    fn plus(self, other: Self) -> Self;
    /// Where a block of sums keeps a row.
    fn place<I: Isa>(row: usize) -> usize;
    /// Adds to the sum of each row the weight of the leaf that it has found.
    fn give<I: Isa>(fold: Fold, found: &Block<u8>, table: &[Self], sums: &mut Block<Self>);

    /// The sum with one more leaf.
    #[inline(always)]
    fn fold(self, fold: Fold, weight: Self) -> Self {
        match fold {
            Fold::Add => self.plus(weight),
            Fold::Least if weight < self => weight,
            Fold::Greatest if weight > self => weight,
            _ => self,
        }
    }

    /// A weight that leaves every sum as it is.
    fn neutral(fold: Fold) -> Self {
        Self::nearest(match fold {
            Fold::Add => -0.0,
            Fold::Least => f64::INFINITY,
            Fold::Greatest => f64::NEG_INFINITY,
        })
    }
}

impl Sum for f32 {
    fn wide(self) -> f64 {
        self.into()
    }

    fn nearest(value: f64) -> f32 {
        value as f32
    }

    #[inline(always)]
    fn plus(self, other: f32) -> f32 {
        self + other
    }

    #[inline(always)]
    fn place<I: Isa>(row: usize) -> usize {
        match I::AVX2 {
            // Vectors of 32 leaf numbers in bytes become four of eight in lanes by shifts: of every fourth row.
            true => (row & !31) | (row & 3) << 3 | (row >> 2 & 7),
            false => row,
        }
    }

    #[inline(always)]
    fn give<I: Isa>(fold: Fold, found: &Block<u8>, table: &[f32], sums: &mut Block<f32>) {
        #[cfg(target_arch = "x86_64")]
        if I::AVX2 {
            // SAFETY: `I::AVX2` says that this processor has AVX2.
            unsafe {
                match fold {
                    Fold::Add => x86::give::<0>(found, table, sums),
                    Fold::Least => x86::give::<1>(found, table, sums),
                    Fold::Greatest => x86::give::<2>(found, table, sums),
                }
            }
            return;
        }
        give_plainly(fold, found, table, sums);
    }
}

impl Sum for f64 {
    fn wide(self) -> f64 {
        self
    }

    fn nearest(value: f64) -> f64 {
        value
    }

    #[inline(always)]
    fn plus(self, other: f64) -> f64 {
        self + other
    }

    #[inline(always)]
    fn place<I: Isa>(row: usize) -> usize {
        row
    }

    #[inline(always)]
    fn give<I: Isa>(fold: Fold, found: &Block<u8>, table: &[f64], sums: &mut Block<f64>) {
        give_plainly(fold, found, table, sums);
    }
}

/// Lengths of tables, so that a look-up needs no check.
pub(super) fn table_length(leaves: usize) -> usize {
    match leaves {
        0..=64 => leaves.next_power_of_two().max(8),
        _ => 256,
    }
}

/// For any machine, and in the order of rows.
#[inline(always)]
fn give_plainly<S: Sum>(fold: Fold, found: &Block<u8>, table: &[S], sums: &mut Block<S>) {
    #[inline(always)]
    fn of<S: Sum, const LENGTH: usize>(fold: Fold, found: &Block<u8>, table: &[S], sums: &mut Block<S>) {
        let table: &[S; LENGTH] = table.try_into().expect("the length was matched");
        let rows = sums.0.iter_mut().zip(&found.0);
        match fold {
            Fold::Add => rows.for_each(|(sum, &leaf)| *sum = sum.plus(table[leaf as usize % LENGTH])),
            fold => rows.for_each(|(sum, &leaf)| *sum = sum.fold(fold, table[leaf as usize % LENGTH])),
        }
    }
    match table.len() {
        8 => of::<S, 8>(fold, found, table, sums),
        16 => of::<S, 16>(fold, found, table, sums),
        32 => of::<S, 32>(fold, found, table, sums),
        64 => of::<S, 64>(fold, found, table, sums),
        _ => of::<S, 256>(fold, found, table, sums),
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Block, ROWS};
    use std::arch::x86_64::*;

    /// Adds (0) weights to sums, or takes the least (1) or the greatest (2).
    #[target_feature(enable = "avx2")]
    #[inline]
    pub fn give<const FOLD: u8>(found: &Block<u8>, table: &[f32], sums: &mut Block<f32>) {
        match table.len() {
            8 => of::<FOLD, 8>(found, table, sums),
            16 => of::<FOLD, 16>(found, table, sums),
            32 => of::<FOLD, 32>(found, table, sums),
            64 => of::<FOLD, 64>(found, table, sums),
            _ => of::<FOLD, 256>(found, table, sums),
        }
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn of<const FOLD: u8, const LENGTH: usize>(found: &Block<u8>, table: &[f32], sums: &mut Block<f32>) {
        let table: &[f32; LENGTH] = table.try_into().expect("the length was matched");
        for row in (0..ROWS).step_by(32) {
            // SAFETY: 32 rows from `row` on lie in both blocks.
            unsafe {
                let four = _mm256_loadu_si256(found.0.as_ptr().add(row).cast());
                let sums = sums.0.as_mut_ptr().add(row);
                fold::<FOLD>(sums, look_up(table, four));
                fold::<FOLD>(sums.add(8), look_up(table, _mm256_srli_epi32::<8>(four)));
                fold::<FOLD>(sums.add(16), look_up(table, _mm256_srli_epi32::<16>(four)));
                fold::<FOLD>(sums.add(24), look_up(table, _mm256_srli_epi32::<24>(four)));
            }
        }
    }

    /// Weights by the low byte of each lane.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn look_up<const LENGTH: usize>(table: &[f32; LENGTH], at: __m256i) -> __m256 {
        let table = table.as_ptr();
        // SAFETY: what is read is the table's first LENGTH numbers, of which there are 8, 16, 32, 64 or 256; a byte is at
        // most 255, and permutations look at its three lowest bits.
        unsafe {
            let eight = |from: usize| _mm256_permutevar8x32_ps(_mm256_loadu_ps(table.add(from)), at);
            // Blends look at the sign bit.
            let by_8 = _mm256_castsi256_ps(_mm256_slli_epi32::<28>(at));
            let sixteen = |from: usize| _mm256_blendv_ps(eight(from), eight(from + 8), by_8);
            let by_16 = _mm256_castsi256_ps(_mm256_slli_epi32::<27>(at));
            let by_32 = _mm256_castsi256_ps(_mm256_slli_epi32::<26>(at));
            let thirty_two = |from: usize| _mm256_blendv_ps(sixteen(from), sixteen(from + 16), by_16);
            match LENGTH {
                8 => eight(0),
                16 => sixteen(0),
                32 => thirty_two(0),
                64 => _mm256_blendv_ps(thirty_two(0), thirty_two(32), by_32),
                _ => _mm256_i32gather_ps::<4>(table, _mm256_and_si256(at, _mm256_set1_epi32(255))),
            }
        }
    }

    /// `FOLD`s eight weights into eight sums.
    ///
    /// # Safety
    /// There are eight numbers at `sums`.
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn fold<const FOLD: u8>(sums: *mut f32, weights: __m256) {
        // SAFETY: the caller has eight numbers there.
        unsafe {
            let old = _mm256_loadu_ps(sums);
            // Both take the second operand unless the first one is less (greater), as `Sum::fold` does.
            let new = match FOLD {
                0 => _mm256_add_ps(old, weights),
                1 => _mm256_min_ps(weights, old),
                _ => _mm256_max_ps(weights, old),
            };
            _mm256_storeu_ps(sums, new);
        }
    }
}
