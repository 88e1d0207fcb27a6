//! The inverse cosine transform of a block, as libjpeg's `jidctint.c` ("islow") computes it: 13 bits behind the point, two
//! more kept between the passes. A block may become fewer samples than it has coefficients, four or two a side, or one:
//! `jidctred.c`, which leaves out what such a picture can't show.
//!
//! Each formula stands once, over [`Lanes`]: a number for the portable path, eight of them in a register for AVX2. Both
//! give what libjpeg-turbo gives for every block that an encoder writes. Coefficients are multiplied by quantisers in 16
//! bits and samples are cut off at both ends, as its vector code does it.

/// Coefficients or quantisers of a block, row by row.
pub type Block = [i16; 64];

/// Numbers that are computed alike, side by side.
trait Lanes: Copy {
    fn splat(number: i32) -> Self;
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: i32) -> Self;
    fn shl<const BITS: i32>(self) -> Self;
    fn shr<const BITS: i32>(self) -> Self;
}

impl Lanes for i32 {
    #[inline(always)]
    fn splat(number: i32) -> i32 {
        number
    }

    #[inline(always)]
    fn add(self, other: i32) -> i32 {
        self.wrapping_add(other)
    }

    #[inline(always)]
    fn sub(self, other: i32) -> i32 {
        self.wrapping_sub(other)
    }

    #[inline(always)]
    fn mul(self, other: i32) -> i32 {
        self.wrapping_mul(other)
    }

    #[inline(always)]
    fn shl<const BITS: i32>(self) -> i32 {
        self << BITS
    }

    #[inline(always)]
    fn shr<const BITS: i32>(self) -> i32 {
        self >> BITS
    }
}

/// One dimension of the transform; `SHIFT` bits are rounded away from what comes out.
#[inline(always)]
fn transform<L: Lanes, const SHIFT: i32>(x: [L; 8]) -> [L; 8] {
    // The even part.
    let z1 = x[2].add(x[6]).mul(4433);
    let (a2, a3) = (z1.sub(x[6].mul(15137)), z1.add(x[2].mul(6270)));
    let half = L::splat(1 << (SHIFT - 1));
    let (a0, a1) = (
        x[0].add(x[4]).shl::<13>().add(half),
        x[0].sub(x[4]).shl::<13>().add(half),
    );
    let even = [a0.add(a3), a1.add(a2), a1.sub(a2), a0.sub(a3)];
    // The odd part.
    let z5 = x[7].add(x[3]).add(x[5].add(x[1])).mul(9633);
    let (z1, z2) = (x[7].add(x[1]).mul(-7373), x[5].add(x[3]).mul(-20995));
    let (z3, z4) = (
        x[7].add(x[3]).mul(-16069).add(z5),
        x[5].add(x[1]).mul(-3196).add(z5),
    );
    let odd = [
        x[1].mul(12299).add(z1).add(z4),
        x[3].mul(25172).add(z2).add(z3),
        x[5].mul(16819).add(z2).add(z4),
        x[7].mul(2446).add(z1).add(z3),
    ];
    let up = |i: usize| even[i].add(odd[i]).shr::<SHIFT>();
    let down = |i: usize| even[i].sub(odd[i]).shr::<SHIFT>();
    [up(0), up(1), up(2), up(3), down(3), down(2), down(1), down(0)]
}

/// One dimension of the transform to four samples; the fifth coefficient has no part in them.
#[inline(always)]
fn to_four<L: Lanes, const SHIFT: i32>(x: [L; 8]) -> [L; 4] {
    let half = L::splat(1 << (SHIFT - 1));
    let a0 = x[0].shl::<14>().add(half);
    let a2 = x[2].mul(15137).sub(x[6].mul(6270));
    let (outside, inside) = (a0.add(a2), a0.sub(a2));
    let (inner, outer) = (
        x[1].mul(8697).sub(x[3].mul(17799)),
        x[1].mul(20995).add(x[3].mul(7373)),
    );
    let inner = inner.add(x[5].mul(11893)).sub(x[7].mul(1730));
    let outer = outer.sub(x[5].mul(4926)).sub(x[7].mul(4176));
    [
        outside.add(outer).shr::<SHIFT>(),
        inside.add(inner).shr::<SHIFT>(),
        inside.sub(inner).shr::<SHIFT>(),
        outside.sub(outer).shr::<SHIFT>(),
    ]
}

/// One dimension of the transform to two samples: of the even coefficients only the first has a part.
#[inline(always)]
fn to_two<L: Lanes, const SHIFT: i32>(x: [L; 8]) -> [L; 2] {
    let even = x[0].shl::<15>().add(L::splat(1 << (SHIFT - 1)));
    let odd = x[1].mul(29692).sub(x[3].mul(10426));
    let odd = odd.add(x[5].mul(6967)).sub(x[7].mul(5906));
    [even.add(odd).shr::<SHIFT>(), even.sub(odd).shr::<SHIFT>()]
}

/// Bits that the first pass takes away, and the second; fewer samples take one or two more.
const FIRST: i32 = 13 - 2;
const SECOND: i32 = 13 + 2 + 3;

/// Writes the samples of a block into `out`, whose rows are `stride` apart: `side` of them a side, which is 8, 4, 2 or 1.
///
/// # Panics
/// When `out` has not `side` samples after as many strides but one.
#[inline(always)]
pub fn block(coefficients: &Block, quantisers: &Block, side: usize, out: &mut [u8], stride: usize) {
    if side == 1 {
        return flat(coefficients[0], quantisers[0], 1, out, stride);
    }
    #[cfg(target_arch = "x86_64")]
    if crate::model::isa::Isa::best().has_avx2() {
        // SAFETY: the processor has AVX2.
        return unsafe {
            match side {
                8 => avx2::block(coefficients, quantisers, out, stride),
                4 => avx2::four(coefficients, quantisers, out, stride),
                _ => avx2::two(coefficients, quantisers, out, stride),
            }
        };
    }
    portable(coefficients, quantisers, side, out, stride);
}

/// Writes a block of which only the first coefficient is not zero.
pub fn flat(coefficient: i16, quantiser: i16, side: usize, out: &mut [u8], stride: usize) {
    let sample = ((i32::from(coefficient.wrapping_mul(quantiser)) + 4) >> 3) + 128;
    let sample = sample.clamp(0, 255) as u8;
    for row in 0..side {
        out[row * stride..][..side].fill(sample);
    }
}

fn portable(coefficients: &Block, quantisers: &Block, side: usize, out: &mut [u8], stride: usize) {
    match side {
        8 => by_passes(
            coefficients,
            quantisers,
            transform::<i32, FIRST>,
            transform::<i32, SECOND>,
            (out, stride),
        ),
        4 => by_passes(
            coefficients,
            quantisers,
            to_four::<i32, { FIRST + 1 }>,
            to_four::<i32, { SECOND + 1 }>,
            (out, stride),
        ),
        _ => by_passes(
            coefficients,
            quantisers,
            to_two::<i32, { FIRST + 2 }>,
            to_two::<i32, { SECOND + 2 }>,
            (out, stride),
        ),
    }
}

fn by_passes<const SIDE: usize>(
    coefficients: &Block,
    quantisers: &Block,
    first: impl Fn([i32; 8]) -> [i32; SIDE],
    second: impl Fn([i32; 8]) -> [i32; SIDE],
    (out, stride): (&mut [u8], usize),
) {
    let mut numbers = [[0i32; 8]; SIDE];
    for column in 0..8 {
        let at = |row: usize| {
            let place = row * 8 + column;
            i32::from(coefficients[place].wrapping_mul(quantisers[place]))
        };
        for (numbers, given) in numbers.iter_mut().zip(first(std::array::from_fn(at))) {
            numbers[column] = given;
        }
    }
    for (row, numbers) in numbers.into_iter().enumerate() {
        let samples = second(numbers).map(|number| (number + 128).clamp(0, 255) as u8);
        out[row * stride..][..SIDE].copy_from_slice(&samples);
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::{Block, FIRST, Lanes, SECOND, to_four, to_two, transform};
    use std::arch::x86_64::*;

    // SAFETY of all of it: only `block` reaches these, and it is compiled with AVX2; nothing touches memory.
    impl Lanes for __m256i {
        #[inline(always)]
        fn splat(number: i32) -> __m256i {
            unsafe { _mm256_set1_epi32(number) }
        }

        #[inline(always)]
        fn add(self, other: __m256i) -> __m256i {
            unsafe { _mm256_add_epi32(self, other) }
        }

        #[inline(always)]
        fn sub(self, other: __m256i) -> __m256i {
            unsafe { _mm256_sub_epi32(self, other) }
        }

        #[inline(always)]
        fn mul(self, other: i32) -> __m256i {
            unsafe { _mm256_mullo_epi32(self, _mm256_set1_epi32(other)) }
        }

        #[inline(always)]
        fn shl<const BITS: i32>(self) -> __m256i {
            unsafe { _mm256_slli_epi32::<BITS>(self) }
        }

        #[inline(always)]
        fn shr<const BITS: i32>(self) -> __m256i {
            unsafe { _mm256_srai_epi32::<BITS>(self) }
        }
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn transpose(x: [__m256i; 8]) -> [__m256i; 8] {
        let pair = |i: usize| {
            (
                _mm256_unpacklo_epi32(x[i], x[i + 1]),
                _mm256_unpackhi_epi32(x[i], x[i + 1]),
            )
        };
        let four = |low: (__m256i, __m256i), high: (__m256i, __m256i)| {
            [
                _mm256_unpacklo_epi64(low.0, high.0),
                _mm256_unpackhi_epi64(low.0, high.0),
                _mm256_unpacklo_epi64(low.1, high.1),
                _mm256_unpackhi_epi64(low.1, high.1),
            ]
        };
        let (top, bottom) = (four(pair(0), pair(2)), four(pair(4), pair(6)));
        let left = |i: usize| _mm256_permute2x128_si256::<0x20>(top[i], bottom[i]);
        let right = |i: usize| _mm256_permute2x128_si256::<0x31>(top[i], bottom[i]);
        [
            left(0),
            left(1),
            left(2),
            left(3),
            right(0),
            right(1),
            right(2),
            right(3),
        ]
    }

    /// The rows of a block, with their quantisers.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn rows(coefficients: &Block, quantisers: &Block) -> [__m256i; 8] {
        let (coefficients, _) = coefficients.as_chunks::<8>();
        let (quantisers, _) = quantisers.as_chunks::<8>();
        let row = |i: usize| {
            // SAFETY: eight numbers are 16 bytes, and these loads need no alignment.
            let (a, b) = unsafe {
                (
                    _mm_loadu_si128(coefficients[i].as_ptr().cast()),
                    _mm_loadu_si128(quantisers[i].as_ptr().cast()),
                )
            };
            _mm256_cvtepi16_epi32(_mm_mullo_epi16(a, b))
        };
        [row(0), row(1), row(2), row(3), row(4), row(5), row(6), row(7)]
    }

    /// Four samples a side.
    #[target_feature(enable = "avx2")]
    pub fn four(coefficients: &Block, quantisers: &Block, out: &mut [u8], stride: usize) {
        let [a, b, c, d] = to_four::<__m256i, { FIRST + 1 }>(rows(coefficients, quantisers));
        let columns = transpose([a, b, c, d, a, b, c, d]);
        let [a, b, c, d] = to_four::<__m256i, { SECOND + 1 }>(columns).map(|x| _mm256_castsi256_si128(x));
        let middle = _mm_set1_epi16(128);
        let first = _mm_adds_epi16(_mm_packs_epi32(a, b), middle);
        let second = _mm_adds_epi16(_mm_packs_epi32(c, d), middle);
        let order = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        let bytes = _mm_shuffle_epi8(_mm_packus_epi16(first, second), order);
        let mut samples = [[0u8; 4]; 4];
        // SAFETY: four rows of four are 16 bytes, and this store needs no alignment.
        unsafe { _mm_storeu_si128(samples.as_mut_ptr().cast(), bytes) };
        for (row, samples) in samples.iter().enumerate() {
            out[row * stride..][..4].copy_from_slice(samples);
        }
    }

    /// Two samples a side.
    #[target_feature(enable = "avx2")]
    pub fn two(coefficients: &Block, quantisers: &Block, out: &mut [u8], stride: usize) {
        let numbers = to_two::<__m256i, { FIRST + 2 }>(rows(coefficients, quantisers));
        for (row, numbers) in numbers.into_iter().enumerate() {
            let mut columns = [0i32; 8];
            // SAFETY: eight numbers are 32 bytes, and this store needs no alignment.
            unsafe { _mm256_storeu_si256(columns.as_mut_ptr().cast(), numbers) };
            let samples = to_two::<i32, { SECOND + 2 }>(columns);
            let samples = samples.map(|number| (number + 128).clamp(0, 255) as u8);
            out[row * stride..][..2].copy_from_slice(&samples);
        }
    }

    /// Eight samples a side.
    #[target_feature(enable = "avx2")]
    pub fn block(coefficients: &Block, quantisers: &Block, out: &mut [u8], stride: usize) {
        let rows = rows(coefficients, quantisers);
        let columns = transpose(transform::<__m256i, FIRST>(rows));
        let rows = transpose(transform::<__m256i, SECOND>(columns));
        let middle = _mm256_set1_epi16(128);
        let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        for half in 0..2 {
            let rows = &rows[half * 4..half * 4 + 4];
            let first = _mm256_adds_epi16(_mm256_packs_epi32(rows[0], rows[1]), middle);
            let second = _mm256_adds_epi16(_mm256_packs_epi32(rows[2], rows[3]), middle);
            let bytes = _mm256_permutevar8x32_epi32(_mm256_packus_epi16(first, second), order);
            let mut samples = [[0u8; 8]; 4];
            // SAFETY: four rows of eight are 32 bytes, and this store needs no alignment.
            unsafe { _mm256_storeu_si256(samples.as_mut_ptr().cast(), bytes) };
            for (row, samples) in samples.iter().enumerate() {
                out[(half * 4 + row) * stride..][..8].copy_from_slice(samples);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// What runs here gives what runs anywhere.
        #[test]
        fn every_instruction_set_gives_the_same_samples(
            values in prop::collection::vec((0usize..64, -1024i16..1024), 0..64),
            quantisers in prop::collection::vec(1i16..256, 64),
        ) {
            let quantisers: Block = quantisers.try_into().unwrap();
            let mut coefficients = [0; 64];
            for (place, value) in values {
                coefficients[place] = value / quantisers[place];
            }
            for side in [8, 4, 2, 1] {
                let mut coefficients = coefficients;
                let (mut one, mut other) = ([0; 72], [0; 72]);
                block(&coefficients, &quantisers, side, &mut one, 9);
                if side > 1 {
                    portable(&coefficients, &quantisers, side, &mut other, 9);
                    prop_assert_eq!(one, other);
                }
                coefficients[1..].fill(0);
                block(&coefficients, &quantisers, side, &mut one, 9);
                flat(coefficients[0], quantisers[0], side, &mut other, 9);
                prop_assert_eq!(one, other);
            }
        }
    }
}
