//! Instruction sets: which of those that loops are compiled for this processor has.
//!
//! A fast loop is plain Rust, always inlined into one function per instruction set, where the compiler makes vectors of it;
//! only what it does not find itself is written with intrinsics. Forests, dense networks, kernels of networks and images
//! choose by [`Isa::best`], and their tests run all that are [`Isa::available`].

use std::sync::OnceLock;

/// An instruction set that this processor has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// What the program is compiled for.
    Baseline,
    /// AVX2 and FMA, and the operations on bits (BMI, LZCNT, POPCNT) that came before them.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 (F, BW, DQ, VL).
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

/// Whether the program's own target has products with sums.
pub const BASELINE_FMA: bool = cfg!(any(target_arch = "aarch64", target_feature = "fma"));

impl Isa {
    /// Those of this processor, the best one last.
    pub fn available() -> Vec<Isa> {
        let mut sets = vec![Isa::Baseline];
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("lzcnt")
            && is_x86_feature_detected!("popcnt")
        {
            sets.push(Isa::Avx2);
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
            {
                sets.push(Isa::Avx512);
            }
        }
        sets
    }

    /// The best one.
    #[inline]
    pub fn best() -> Isa {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| Isa::available().last().copied().unwrap_or(Isa::Baseline))
    }

    /// Whether AVX2 may be used, and what [`Isa::Avx2`] has besides.
    #[inline(always)]
    pub fn has_avx2(self) -> bool {
        cfg!(target_arch = "x86_64") && self != Isa::Baseline
    }

    /// Whether a product and a sum are one instruction, and not a call of a function where one rounding is asked for.
    pub fn has_fma(self) -> bool {
        self != Isa::Baseline || BASELINE_FMA
    }
}

/// What kernels are tried on: numbers between -1 and 1 that look like chance (xorshift, Marsaglia 2003).
#[cfg(test)]
pub fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}
