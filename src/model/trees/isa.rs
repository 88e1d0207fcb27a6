//! Instruction sets: which this machine has, and how the same loops are compiled for each.
//!
//! Kernels are plain loops over [`Block`](super::block::Block)s, always inlined into one function per instruction set, where the compiler
//! makes the best of it. Only look-ups that it does not find itself are written with intrinsics.

/// An instruction set that this machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstructionSet {
    /// What the program is compiled for.
    Baseline,
    /// AVX2.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 (F, BW, DQ, VL).
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl InstructionSet {
    /// Those of this machine, the best one last.
    pub fn available() -> Vec<InstructionSet> {
        let mut sets = vec![InstructionSet::Baseline];
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            sets.push(InstructionSet::Avx2);
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
            {
                sets.push(InstructionSet::Avx512);
            }
        }
        sets
    }
}

/// What kernels know of the instruction set they are compiled for.
pub(super) trait Isa {
    /// Whether AVX2 may be used.
    const AVX2: bool;
}

/// See [`InstructionSet::Baseline`].
pub(super) struct Baseline;

impl Isa for Baseline {
    const AVX2: bool = false;
}

/// AVX2 and everything above it. Only to be named in functions that are compiled for it, and that run where it is.
#[cfg(target_arch = "x86_64")]
pub(super) struct Avx2;

#[cfg(target_arch = "x86_64")]
impl Isa for Avx2 {
    const AVX2: bool = true;
}
