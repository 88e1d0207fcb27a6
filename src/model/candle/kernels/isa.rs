//! Instruction sets: which this processor has, and how one loop is compiled for each.
//!
//! A kernel is a plain loop, always inlined into one function per instruction set (`per_isa!`), where the compiler makes
//! vectors of it. `FMA` tells it whether a product and a sum are one instruction: where they aren't, asking for one would
//! be a call of a function. Only the tiles of products are written with intrinsics.

use std::sync::OnceLock;

/// An instruction set that this processor has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// What the program is compiled for.
    Baseline,
    /// AVX2 and FMA.
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
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
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
    pub fn best() -> Isa {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| Isa::available().last().copied().unwrap_or(Isa::Baseline))
    }
}

/// `per_isa! { name(arguments) = body }` makes `name(isa, arguments)` of `body::<FMA>(arguments)`, which must be
/// `#[inline(always)]`.
macro_rules! per_isa {
    ($(#[$meta:meta])* $name:ident($($argument:ident: $type:ty),* $(,)?) = $body:ident) => {
        $(#[$meta])*
        pub fn $name(isa: $crate::model::candle::kernels::isa::Isa, $($argument: $type),*) {
            use $crate::model::candle::kernels::isa::{BASELINE_FMA, Isa};
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2($($argument: $type),*) {
                $body::<true>($($argument),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            fn avx512($($argument: $type),*) {
                $body::<true>($($argument),*)
            }
            match isa {
                Isa::Baseline => $body::<BASELINE_FMA>($($argument),*),
                // SAFETY: `Isa::available` gives these only where the processor has them.
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 => unsafe { avx2($($argument),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512 => unsafe { avx512($($argument),*) },
            }
        }
    };
}
pub(super) use per_isa;

/// `a * b + c`
#[inline(always)]
pub fn multiply_add<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}
