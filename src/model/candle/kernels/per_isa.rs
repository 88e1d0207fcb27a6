//! How one loop is compiled for each instruction set.
//!
//! A kernel's body is always inlined into one function per set. `FMA` tells it whether a product and a sum are one instruction:
//! where they aren't, asking for one would be a call of a function. Only the tiles of products are written with intrinsics.

/// `per_isa! { name(arguments) = body }` makes `name(isa, arguments)` of `body::<FMA>(arguments)`, which must be
/// `#[inline(always)]`.
macro_rules! per_isa {
    ($(#[$meta:meta])* $name:ident($($argument:ident: $type:ty),* $(,)?) = $body:ident) => {
        $(#[$meta])*
        pub fn $name(isa: $crate::model::isa::Isa, $($argument: $type),*) {
            use $crate::model::isa::{BASELINE_FMA, Isa};
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
