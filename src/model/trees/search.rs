//! How many thresholds a number has reached: the one place where features are compared.
//!
//! Thresholds lie in the order of a binary search tree, level by level, so that a search is a walk without branches:
//! `at = 2 · at + (threshold(at) ≤ x)`. The first levels fit into vector registers, where a permutation looks up eight
//! nodes at once; further ones are gathered. NaN reaches nothing.

use super::block::{Block, ROWS};

/// A floating-point type that features are compared in.
pub(super) trait Real: Copy + PartialOrd + Send + Sync + 'static {
    /// Reaches nothing and is never reached.
    const NAN: Self;
    /// Of type f64, exactly.
    fn wide(self) -> f64;
    /// The nearest number of this type.
    fn nearest(value: f64) -> Self;
    /// Counts, for each value, the thresholds that are less or equal.
    fn search<const AVX2: bool>(
        thresholds: &Thresholds<Self>,
        values: &Block<Self>,
        reached: &mut Block<u32>,
    );
}

/// Distinct thresholds of a feature, rising.
#[derive(Debug)]
pub(super) struct Thresholds<C> {
    /// 2^levels - 1 numbers, rising; what is missing at the end is NaN.
    sorted: Vec<C>,
    levels: u32,
    /// The same numbers in f32, rounded, by levels: level `l` begins at `start(l)`. Empty if two of them are equal in f32.
    tree: Vec<f32>,
}

impl<C: Real> Thresholds<C> {
    /// Of distinct, rising numbers that aren't NaN.
    pub fn new(mut sorted: Vec<C>) -> Self {
        let levels = usize::BITS - sorted.len().leading_zeros();
        let narrow: Vec<f32> = sorted.iter().map(|value| value.wide() as f32).collect();
        sorted.resize((1 << levels) - 1, C::NAN);
        let mut tree = vec![];
        if narrow.windows(2).all(|pair| pair[0] < pair[1]) {
            for level in 0..levels {
                debug_assert_eq!(tree.len(), start(level));
                let step = 1usize << (levels - level);
                for at in 0..(1usize << level).max(8) {
                    let rank = at * step + step / 2 - 1;
                    tree.push(narrow.get(rank).copied().unwrap_or(f32::NAN));
                }
            }
        }
        Thresholds { sorted, levels, tree }
    }

    /// For any machine.
    #[inline(always)]
    fn search_plainly(&self, values: &Block<C>, reached: &mut Block<u32>) {
        if self.levels <= 3 {
            reached.0.fill(0);
            for &threshold in &self.sorted {
                for (count, value) in reached.0.iter_mut().zip(&values.0) {
                    *count += u32::from(threshold <= *value);
                }
            }
            return;
        }
        for (count, value) in reached.0.iter_mut().zip(&values.0) {
            let mut from = 0;
            let mut half = 1 << (self.levels - 1);
            while half > 0 {
                from += usize::from(self.sorted[from + half - 1] <= *value) * half;
                half /= 2;
            }
            *count = from as u32;
        }
    }
}

/// Where a level begins in [`Thresholds::tree`]: each has room for eight at least.
const fn start(level: u32) -> usize {
    if level < 3 {
        8 * level as usize
    } else {
        16 + (1 << level)
    }
}

impl Real for f32 {
    const NAN: f32 = f32::NAN;

    fn wide(self) -> f64 {
        self.into()
    }

    fn nearest(value: f64) -> f32 {
        value as f32
    }

    #[inline(always)]
    fn search<const AVX2: bool>(thresholds: &Thresholds<f32>, values: &Block<f32>, reached: &mut Block<u32>) {
        #[cfg(target_arch = "x86_64")]
        if AVX2 && thresholds.levels > 0 {
            // SAFETY: `AVX2` is only true in what is compiled for processors that have it.
            unsafe { x86::search(&thresholds.tree, thresholds.levels, values, reached) };
            return;
        }
        thresholds.search_plainly(values, reached);
    }
}

impl Real for f64 {
    const NAN: f64 = f64::NAN;

    fn wide(self) -> f64 {
        self
    }

    fn nearest(value: f64) -> f64 {
        value
    }

    /// Rounding to f32 keeps the order (though not strictly), so that a search in f32 is at most one threshold too far:
    /// one that is equal to the value in f32 but greater in f64.
    #[inline(always)]
    fn search<const AVX2: bool>(thresholds: &Thresholds<f64>, values: &Block<f64>, reached: &mut Block<u32>) {
        #[cfg(target_arch = "x86_64")]
        if AVX2 && !thresholds.tree.is_empty() {
            let mut narrow = Block([0f32; ROWS]);
            for (narrow, value) in narrow.0.iter_mut().zip(&values.0) {
                *narrow = *value as f32;
            }
            // SAFETY: `AVX2` is only true in what is compiled for processors that have it.
            unsafe { x86::search(&thresholds.tree, thresholds.levels, &narrow, reached) };
            for (count, value) in reached.0.iter_mut().zip(&values.0) {
                let last = count.saturating_sub(1);
                *count -= u32::from(*count > 0 && *value < thresholds.sorted[last as usize]);
            }
            return;
        }
        thresholds.search_plainly(values, reached);
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Block, ROWS, start};
    use std::arch::x86_64::*;

    /// Levels beyond this one are gathered.
    const PERMUTED: u32 = 6;

    /// Counts thresholds by a tree of [`super::Thresholds`].
    #[target_feature(enable = "avx2")]
    #[inline]
    pub fn search(tree: &[f32], levels: u32, values: &Block<f32>, reached: &mut Block<u32>) {
        assert!(levels > 0 && levels < 32 && tree.len() >= start(levels - 1) + (1 << (levels - 1)).max(8));
        for row in (0..ROWS).step_by(8) {
            // SAFETY: eight rows from `row` on lie in both blocks. A level has room for 2^level nodes, eight at least, and
            // `at` is below 2^level: it begins with 0 and becomes 2 · at or 2 · at + 1 with each level.
            unsafe {
                let value = _mm256_loadu_ps(values.0.as_ptr().add(row));
                let mut at = _mm256_setzero_si256();
                for level in 0..levels {
                    let nodes = tree.as_ptr().add(start(level));
                    let threshold = match level {
                        0..=3 => eight(nodes, at),
                        4 => sixteen(nodes, at),
                        5 if PERMUTED > 5 => {
                            let high = _mm256_castsi256_ps(_mm256_slli_epi32::<27>(at));
                            _mm256_blendv_ps(sixteen(nodes, at), sixteen(nodes.add(16), at), high)
                        }
                        _ => _mm256_i32gather_ps::<4>(nodes, at),
                    };
                    let is_reached = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_LE_OQ>(threshold, value));
                    at = _mm256_sub_epi32(_mm256_add_epi32(at, at), is_reached);
                }
                _mm256_storeu_si256(reached.0.as_mut_ptr().add(row).cast(), at);
            }
        }
    }

    /// Of eight numbers those at the low three bits of `at`.
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn eight(nodes: *const f32, at: __m256i) -> __m256 {
        // SAFETY: the caller has eight numbers there.
        unsafe { _mm256_permutevar8x32_ps(_mm256_loadu_ps(nodes), at) }
    }

    /// Of sixteen numbers those at the low four bits of `at`.
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn sixteen(nodes: *const f32, at: __m256i) -> __m256 {
        let high = _mm256_castsi256_ps(_mm256_slli_epi32::<28>(at));
        // SAFETY: the caller has sixteen numbers there.
        unsafe { _mm256_blendv_ps(eight(nodes, at), eight(nodes.add(8), at), high) }
    }
}
