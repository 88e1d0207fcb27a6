//! The two loops of a dense layer, for each instruction set. Plain ones are exact everywhere and fast where the base set
//! has fused multiply-add, as on aarch64; with AVX-512 those of AVX2 are run.

use crate::model::isa::Isa;

/// Numbers that are worked on side by side.
pub const LANES: usize = 16;

pub type Lanes = [f32; LANES];

/// Rows that share a reading of the weights.
const TILE_ROWS: usize = 6;

/// Zero for what is below; what is no number stays none.
pub fn rectified(value: f32) -> f32 {
    if value < 0.0 { 0.0 } else { value }
}

/// [`LANES`] units side by side.
pub struct Panel<'a> {
    /// Of each input.
    pub weights: &'a [Lanes],
    pub bias: &'a Lanes,
    pub is_rectified: bool,
}

impl Panel<'_> {
    /// Takes `count` rows that lie `stride` apart, and writes [`LANES`] numbers for each, `apart` from the last row's.
    pub fn apply(
        &self,
        isa: Isa,
        rows: &[f32],
        stride: usize,
        count: usize,
        results: &mut [f32],
        apart: usize,
    ) {
        let inputs = self.weights.len();
        let Some(last) = count.checked_sub(1) else { return };
        assert!(rows.len() >= last * stride + inputs && results.len() >= last * apart + LANES);
        match isa {
            Isa::Baseline => {
                for row in 0..count {
                    let sums = self.sums(&rows[row * stride..][..inputs]);
                    results[row * apart..][..LANES].copy_from_slice(&sums);
                }
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 | Isa::Avx512 => {
                let whole = count - count % TILE_ROWS;
                for row in (0..whole).step_by(TILE_ROWS) {
                    // SAFETY: the processor has the instructions, or there would be no such value; all rows lie within.
                    unsafe {
                        self.tile::<TILE_ROWS>(
                            &rows[row * stride..],
                            stride,
                            &mut results[row * apart..],
                            apart,
                        )
                    }
                }
                for row in whole..count {
                    // SAFETY: as above.
                    unsafe {
                        self.tile::<1>(&rows[row * stride..], stride, &mut results[row * apart..], apart)
                    }
                }
            }
        }
    }

    fn sums(&self, row: &[f32]) -> Lanes {
        let mut sums = *self.bias;
        for (value, weights) in std::iter::zip(row, self.weights) {
            for (sum, weight) in std::iter::zip(&mut sums, weights) {
                *sum = value.mul_add(*weight, *sum);
            }
        }
        match self.is_rectified {
            true => sums.map(rectified),
            false => sums,
        }
    }

    /// # Safety
    /// The processor has AVX2 and FMA; `ROWS` rows lie in `rows` and `results`.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn tile<const ROWS: usize>(&self, rows: &[f32], stride: usize, results: &mut [f32], apart: usize) {
        use std::arch::x86_64::*;
        let (rows, results) = (rows.as_ptr(), results.as_mut_ptr());
        // SAFETY: by the caller's promise about rows; lanes are sixteen floats, read and written without alignment.
        unsafe {
            let bias = self.bias.as_ptr();
            let bias = [_mm256_loadu_ps(bias), _mm256_loadu_ps(bias.add(8))];
            let mut sums = [bias; ROWS];
            for (input, weights) in self.weights.iter().enumerate() {
                let weights = weights.as_ptr();
                let weights = [_mm256_loadu_ps(weights), _mm256_loadu_ps(weights.add(8))];
                for (row, sums) in sums.iter_mut().enumerate() {
                    let value = _mm256_set1_ps(*rows.add(row * stride + input));
                    sums[0] = _mm256_fmadd_ps(value, weights[0], sums[0]);
                    sums[1] = _mm256_fmadd_ps(value, weights[1], sums[1]);
                }
            }
            for (row, mut sums) in sums.into_iter().enumerate() {
                if self.is_rectified {
                    // In this order what is no number stays none.
                    sums = sums.map(|sum| _mm256_max_ps(_mm256_setzero_ps(), sum));
                }
                let result = results.add(row * apart);
                _mm256_storeu_ps(result, sums[0]);
                _mm256_storeu_ps(result.add(8), sums[1]);
            }
        }
    }
}

/// The sum of products of a row and the weights of a unit: lane by lane, then the lanes halved until one is left.
pub fn dot(isa: Isa, row: &[f32], weights: &[Lanes]) -> f32 {
    assert!(row.len() <= weights.len() * LANES);
    let mut sums = match isa {
        Isa::Baseline => dot_lanes(row, weights),
        // SAFETY: the processor has the instructions, or there would be no such value.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 | Isa::Avx512 => unsafe { dot_lanes_avx2(row, weights) },
    };
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            sums[lane] += sums[lane + half];
        }
        half /= 2;
    }
    sums[0]
}

/// The end of a row with zeros behind it: with weights of zero they change nothing.
fn padded(tail: &[f32]) -> Lanes {
    let mut lanes = [0.0; LANES];
    lanes[..tail.len()].copy_from_slice(tail);
    lanes
}

fn dot_lanes(row: &[f32], weights: &[Lanes]) -> Lanes {
    let (whole, tail) = row.as_chunks::<LANES>();
    let tail = (!tail.is_empty()).then(|| padded(tail));
    let mut sums = [0.0f32; LANES];
    for (values, weights) in whole.iter().chain(&tail).zip(weights) {
        for lane in 0..LANES {
            sums[lane] = values[lane].mul_add(weights[lane], sums[lane]);
        }
    }
    sums
}

/// # Safety
/// The processor has AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn dot_lanes_avx2(row: &[f32], weights: &[Lanes]) -> Lanes {
    use std::arch::x86_64::*;
    let (whole, tail) = row.as_chunks::<LANES>();
    let tail = (!tail.is_empty()).then(|| padded(tail));
    let mut sums = [_mm256_setzero_ps(); 2];
    for (values, weights) in whole.iter().chain(&tail).zip(weights) {
        for (half, sum) in sums.iter_mut().enumerate() {
            // SAFETY: eight of sixteen floats each, read without alignment.
            let (value, weight) = unsafe {
                (
                    _mm256_loadu_ps(values.as_ptr().add(8 * half)),
                    _mm256_loadu_ps(weights.as_ptr().add(8 * half)),
                )
            };
            *sum = _mm256_fmadd_ps(value, weight, *sum);
        }
    }
    let mut lanes = [0.0; LANES];
    // SAFETY: sixteen floats, written without alignment.
    unsafe {
        _mm256_storeu_ps(lanes.as_mut_ptr(), sums[0]);
        _mm256_storeu_ps(lanes.as_mut_ptr().add(8), sums[1]);
    }
    lanes
}
