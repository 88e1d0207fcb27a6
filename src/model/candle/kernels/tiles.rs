//! Products of a few rows and a panel of columns, whose sums stay in registers from beginning to end.
//!
//! A panel is a vector or two wide (`width`) and lies as it is read: for each of the `depth` terms of a sum the numbers of
//! all its columns. Rows are read where they lie, one number at a time, and spread over a vector.

use super::LINE;
use super::per_isa::multiply_add;
use crate::model::isa::{BASELINE_FMA, Isa};

/// Columns of a panel.
pub fn width(isa: Isa) -> usize {
    match isa {
        Isa::Baseline => 8,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => 16,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => 32,
    }
}

/// The widest panel there is.
pub const MOST_WIDTH: usize = 32;

/// Rows whose numbers lie `stride` apart.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    pub numbers: &'a [f32],
    pub stride: usize,
    pub count: usize,
}

/// Where sums begin.
#[derive(Clone, Copy)]
pub enum From<'a> {
    /// At these numbers, one per column of the panel.
    Bias(&'a [f32]),
    /// At what is there already.
    There,
}

/// The first `columns` sums of `rows` and `panel`, written to `out`, whose rows lie `stride` apart. What will be read next,
/// `ahead`, comes nearer meanwhile.
pub fn multiply(
    isa: Isa,
    rows: Rows,
    panel: &[f32],
    from: From,
    (out, stride): (&mut [f32], usize),
    columns: usize,
    ahead: &[f32],
) {
    let width = width(isa);
    let depth = panel.len() / width;
    if rows.count == 0 {
        return;
    }
    let last = rows.count - 1;
    assert!(panel.len() == depth * width && columns <= width);
    assert!(rows.numbers.len() >= last * rows.stride + depth);
    assert!(out.len() >= last * stride + columns);
    if let From::Bias(bias) = from {
        assert!(bias.len() == width);
    }
    if columns == width {
        // SAFETY: rows, panel, bias and the place for the sums were just found to be as long as they are used.
        unsafe { tiles(isa, rows, panel, from, (out.as_mut_ptr(), stride), ahead) };
        return;
    }
    // The panel has more columns than there is room for.
    let mut few = [0f32; 16 * MOST_WIDTH];
    for first in (0..rows.count).step_by(16) {
        let count = (rows.count - first).min(16);
        let some = Rows {
            numbers: &rows.numbers[first * rows.stride..],
            count,
            ..rows
        };
        let out = &mut out[first * stride..];
        if let From::There = from {
            for row in 0..count {
                few[row * width..][..columns].copy_from_slice(&out[row * stride..][..columns]);
            }
        }
        // SAFETY: as above, and `few` holds sixteen rows of the widest panel.
        unsafe { tiles(isa, some, panel, from, (few.as_mut_ptr(), width), &[]) };
        for row in 0..count {
            out[row * stride..][..columns].copy_from_slice(&few[row * width..][..columns]);
        }
    }
}

/// # Safety
/// The processor has `isa`; each of `rows` has a number for each of the panel's terms, a bias has one per column, and as many
/// numbers can be read and written at `out` for each row.
unsafe fn tiles(isa: Isa, rows: Rows, panel: &[f32], from: From, out: (*mut f32, usize), ahead: &[f32]) {
    let bias = match from {
        From::Bias(bias) => Some(bias.as_ptr()),
        From::There => None,
    };
    // SAFETY: as this function's.
    unsafe {
        match isa {
            Isa::Baseline => baseline::all(rows, panel, bias, out, ahead),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => avx2::all(rows, panel, bias, out, ahead),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => avx512::all(rows, panel, bias, out, ahead),
        }
    }
}

/// Asks for memory that will be read soon.
#[inline(always)]
fn fetch(numbers: &[f32]) {
    #[cfg(target_arch = "x86_64")]
    for line in numbers.chunks(LINE) {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: nothing is read; a processor of this kind always has the instruction.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = numbers;
}

/// All rows, by tiles of as many rows as registers hold, then by smaller ones.
macro_rules! all {
    ($width:expr, [$most:literal $(, $rows:literal)*]) => {
        /// # Safety
        /// As [`super::tiles`].
        pub unsafe fn all(
            rows: super::Rows,
            panel: &[f32],
            bias: Option<*const f32>,
            (out, stride): (*mut f32, usize),
            mut ahead: &[f32],
        ) {
            let depth = panel.len() / $width;
            let (a, apart) = (rows.numbers.as_ptr(), rows.stride);
            // Each tile asks for its share of what comes next.
            let tiles = rows.count.div_ceil($most).max(1);
            let share = ahead.len().div_ceil(tiles).next_multiple_of(super::LINE);
            let mut row = 0;
            all!(@tiles $most, rows, row, depth, a, apart, panel, bias, out, stride, share, ahead);
            $(all!(@tiles $rows, rows, row, depth, a, apart, panel, bias, out, stride, share, ahead);)*
        }
    };
    (@tiles $size:literal, $rows:ident, $row:ident, $depth:ident, $a:ident, $apart:ident, $panel:ident, $bias:ident, $out:ident, $stride:ident, $share:ident, $ahead:ident) => {
        while $rows.count - $row >= $size {
            let (now, later) = $ahead.split_at($share.min($ahead.len()));
            super::fetch(now);
            $ahead = later;
            // SAFETY: these rows are among `count`.
            unsafe {
                let (from, to) = ($a.add($row * $apart), $out.add($row * $stride));
                tile::<$size>($depth, (from, $apart), $panel.as_ptr(), $bias, (to, $stride));
            }
            $row += $size;
        }
    };
}

/// Tiles of two vectors' width.
#[cfg(target_arch = "x86_64")]
macro_rules! vectors {
    ($module:ident, $features:literal, $vector:ident, $lanes:literal, $load:ident, $store:ident, $spread:ident, $fma:ident, [$($rows:literal),*]) => {
        mod $module {
            use std::arch::x86_64::*;

            all!(2 * $lanes, [$($rows),*]);

            /// # Safety
            /// As [`super::tiles`], for `ROWS` rows.
            #[target_feature(enable = $features)]
            unsafe fn tile<const ROWS: usize>(
                depth: usize,
                (a, a_stride): (*const f32, usize),
                panel: *const f32,
                bias: Option<*const f32>,
                (out, stride): (*mut f32, usize),
            ) {
                // SAFETY: every place is within what the caller promises.
                unsafe {
                    let mut sums: [[$vector; 2]; ROWS] = std::array::from_fn(|row| {
                        let start = match bias {
                            Some(bias) => bias,
                            None => out.add(row * stride).cast_const(),
                        };
                        [$load(start), $load(start.add($lanes))]
                    });
                    for term in 0..depth {
                        let column = panel.add(term * 2 * $lanes);
                        let (left, right) = ($load(column), $load(column.add($lanes)));
                        for row in 0..ROWS {
                            let x = $spread(*a.add(row * a_stride + term));
                            sums[row][0] = $fma(x, left, sums[row][0]);
                            sums[row][1] = $fma(x, right, sums[row][1]);
                        }
                    }
                    for row in 0..ROWS {
                        $store(out.add(row * stride), sums[row][0]);
                        $store(out.add(row * stride + $lanes), sums[row][1]);
                    }
                }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
vectors!(
    avx2,
    "avx2,fma",
    __m256,
    8,
    _mm256_loadu_ps,
    _mm256_storeu_ps,
    _mm256_set1_ps,
    _mm256_fmadd_ps,
    [6, 4, 2, 1]
);

#[cfg(target_arch = "x86_64")]
vectors!(
    avx512,
    "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma",
    __m512,
    16,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    _mm512_set1_ps,
    _mm512_fmadd_ps,
    [12, 6, 4, 2, 1]
);

mod baseline {
    use super::{BASELINE_FMA, multiply_add};

    const WIDTH: usize = 8;

    all!(WIDTH, [6, 2, 1]);

    /// # Safety
    /// As [`super::tiles`], for `ROWS` rows.
    unsafe fn tile<const ROWS: usize>(
        depth: usize,
        (a, a_stride): (*const f32, usize),
        panel: *const f32,
        bias: Option<*const f32>,
        (out, stride): (*mut f32, usize),
    ) {
        // SAFETY: every place is within what the caller promises.
        unsafe {
            let mut sums: [[f32; WIDTH]; ROWS] = std::array::from_fn(|row| match bias {
                Some(bias) => bias.cast::<[f32; WIDTH]>().read(),
                None => out.add(row * stride).cast::<[f32; WIDTH]>().read(),
            });
            for term in 0..depth {
                let column = panel.add(term * WIDTH).cast::<[f32; WIDTH]>().read();
                for (row, sums) in sums.iter_mut().enumerate() {
                    let x = *a.add(row * a_stride + term);
                    for (sum, y) in sums.iter_mut().zip(column) {
                        *sum = multiply_add::<BASELINE_FMA>(x, y, *sum);
                    }
                }
            }
            for (row, sums) in sums.iter().enumerate() {
                out.add(row * stride).cast::<[f32; WIDTH]>().write(*sums);
            }
        }
    }
}
