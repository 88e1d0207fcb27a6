//! What the leaves give: weights looked up by leaf number and added to sums, tree after tree.
//!
//! A sum belongs to one row and one target and takes its leaves in the order of the trees, so that it is rounded as
//! [`Forest::score_row`](super::forest::Forest::score_row) rounds it; vectors go over rows. Tables of up to 64 weights in f32 are looked up
//! in registers.

use super::block::Block;
use super::forest::Aggregate;

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
    /// Adds to the sum of each row the weight of the leaf that it has found.
    fn give<const AVX2: bool>(fold: Fold, found: &Block<u8>, table: &[Self], sums: &mut Block<Self>);

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
    fn give<const AVX2: bool>(fold: Fold, found: &Block<u8>, table: &[f32], sums: &mut Block<f32>) {
        #[cfg(target_arch = "x86_64")]
        if AVX2 {
            // SAFETY: `AVX2` is only true in what is compiled for processors that have it.
            unsafe {
                match fold {
                    Fold::Add => x86::give_f32::<0>(found, table, sums),
                    Fold::Least => x86::give_f32::<1>(found, table, sums),
                    Fold::Greatest => x86::give_f32::<2>(found, table, sums),
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
    fn give<const AVX2: bool>(fold: Fold, found: &Block<u8>, table: &[f64], sums: &mut Block<f64>) {
        #[cfg(target_arch = "x86_64")]
        if AVX2 {
            // SAFETY: `AVX2` is only true in what is compiled for processors that have it.
            unsafe {
                match fold {
                    Fold::Add => x86::give_f64::<0>(found, table, sums),
                    Fold::Least => x86::give_f64::<1>(found, table, sums),
                    Fold::Greatest => x86::give_f64::<2>(found, table, sums),
                }
            }
            return;
        }
        give_plainly(fold, found, table, sums);
    }
}

/// Where a block of sums keeps a row.
#[inline(always)]
pub(super) fn place<const AVX2: bool>(row: usize) -> usize {
    match AVX2 {
        // Vectors of 32 leaf numbers in bytes become four of eight in lanes by shifts: of every fourth row.
        true => (row & !31) | (row & 3) << 3 | (row >> 2 & 7),
        false => row,
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
    use super::Block;
    use std::arch::x86_64::*;

    /// Adds (0) weights to sums, or takes the least (1) or the greatest (2).
    #[target_feature(enable = "avx2")]
    #[inline]
    pub fn give_f32<const FOLD: u8>(found: &Block<u8>, table: &[f32], sums: &mut Block<f32>) {
        match table.len() {
            8 => of_f32::<FOLD, 8>(found, table, sums),
            16 => of_f32::<FOLD, 16>(found, table, sums),
            32 => of_f32::<FOLD, 32>(found, table, sums),
            64 => of_f32::<FOLD, 64>(found, table, sums),
            _ => of_f32::<FOLD, 256>(found, table, sums),
        }
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn of_f32<const FOLD: u8, const LENGTH: usize>(found: &Block<u8>, table: &[f32], sums: &mut Block<f32>) {
        let table: &[f32; LENGTH] = table.try_into().expect("the length was matched");
        for (four, sums) in found
            .0
            .as_chunks::<32>()
            .0
            .iter()
            .zip(sums.0.as_chunks_mut::<32>().0)
        {
            for (at, sums) in every_fourth(four).into_iter().zip(sums.as_chunks_mut::<8>().0) {
                let weights = look_up(table, at);
                // SAFETY: eight sums are there. Minimum and maximum are the second operand unless the first one is less
                // (greater), as `Sum::fold` has it.
                unsafe {
                    let old = _mm256_loadu_ps(sums.as_ptr());
                    let new = match FOLD {
                        0 => _mm256_add_ps(old, weights),
                        1 => _mm256_min_ps(weights, old),
                        _ => _mm256_max_ps(weights, old),
                    };
                    _mm256_storeu_ps(sums.as_mut_ptr(), new);
                }
            }
        }
    }

    /// As [`give_f32`].
    #[target_feature(enable = "avx2")]
    #[inline]
    pub fn give_f64<const FOLD: u8>(found: &Block<u8>, table: &[f64], sums: &mut Block<f64>) {
        match table.len() {
            8 => of_f64::<FOLD, 8>(found, table, sums),
            16 => of_f64::<FOLD, 16>(found, table, sums),
            32 => of_f64::<FOLD, 32>(found, table, sums),
            64 => of_f64::<FOLD, 64>(found, table, sums),
            _ => of_f64::<FOLD, 256>(found, table, sums),
        }
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn of_f64<const FOLD: u8, const LENGTH: usize>(found: &Block<u8>, table: &[f64], sums: &mut Block<f64>) {
        let table: &[f64; LENGTH] = table.try_into().expect("the length was matched");
        // Up to 16 weights are looked up as halves, which registers have room for.
        let mut low = [0f32; LENGTH];
        let mut high = [0f32; LENGTH];
        for (weight, (low, high)) in table.iter().zip(low.iter_mut().zip(&mut high)) {
            let bits = weight.to_bits();
            (*low, *high) = (f32::from_bits(bits as u32), f32::from_bits((bits >> 32) as u32));
        }
        for (four, sums) in found
            .0
            .as_chunks::<32>()
            .0
            .iter()
            .zip(sums.0.as_chunks_mut::<32>().0)
        {
            for (at, sums) in every_fourth(four).into_iter().zip(sums.as_chunks_mut::<8>().0) {
                let weights = if LENGTH > 16 {
                    let at = _mm256_and_si256(at, _mm256_set1_epi32(LENGTH as i32 - 1));
                    // SAFETY: the table has LENGTH weights, a power of two.
                    unsafe {
                        [
                            _mm256_i32gather_pd::<8>(table.as_ptr(), _mm256_castsi256_si128(at)),
                            _mm256_i32gather_pd::<8>(table.as_ptr(), _mm256_extracti128_si256::<1>(at)),
                        ]
                    }
                } else {
                    // Lanes 0 1 4 5 2 3 6 7, so that halves are joined in the order of lanes.
                    let at = _mm256_permute4x64_epi64::<0b11_01_10_00>(at);
                    let (low, high) = (look_up(&low, at), look_up(&high, at));
                    [_mm256_unpacklo_ps(low, high), _mm256_unpackhi_ps(low, high)]
                        .map(|pairs| _mm256_castps_pd(pairs))
                };
                for (weights, sums) in weights.into_iter().zip(sums.as_chunks_mut::<4>().0) {
                    // SAFETY: four sums are there. As for f32.
                    unsafe {
                        let old = _mm256_loadu_pd(sums.as_ptr());
                        let new = match FOLD {
                            0 => _mm256_add_pd(old, weights),
                            1 => _mm256_min_pd(weights, old),
                            _ => _mm256_max_pd(weights, old),
                        };
                        _mm256_storeu_pd(sums.as_mut_ptr(), new);
                    }
                }
            }
        }
    }

    /// Bytes of which four make a lane, each as the lowest of lanes of its own.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn every_fourth(bytes: &[u8; 32]) -> [__m256i; 4] {
        // SAFETY: there are 32 bytes.
        let four = unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) };
        [
            four,
            _mm256_srli_epi32::<8>(four),
            _mm256_srli_epi32::<16>(four),
            _mm256_srli_epi32::<24>(four),
        ]
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
}
