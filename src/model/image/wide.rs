//! One loop, two sets of instructions: what `wide!` wraps is compiled for every processor of the architecture and once more
//! for x86-64 with AVX2, and the processor at hand decides which copy runs.
//!
//! The source is the same, and whole numbers give the same on both, so there is no second path to keep right. Other
//! architectures have their vectors in the base set.

macro_rules! wide {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $given:ty)? $body:block) => {
        $(#[$meta])*
        $vis fn $name($($arg: $type),*) $(-> $given)? {
            #[inline(always)]
            fn portable($($arg: $type),*) $(-> $given)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
                fn avx2($($arg: $type),*) $(-> $given)? {
                    portable($($arg),*)
                }
                if $crate::model::isa::Isa::best().has_avx2() {
                    // SAFETY: the processor has all of these.
                    return unsafe { avx2($($arg),*) };
                }
            }
            portable($($arg),*)
        }
    };
}

pub(in crate::model::image) use wide;
