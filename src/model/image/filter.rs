//! Pillow's filters: how much a pixel that is so far away counts.
//!
//! Source: `src/libImaging/Resample.c` of Pillow.

/// How pixels between pixels are found, under Pillow's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// The nearest pixel.
    Nearest,
    /// Six pixels wide.
    Lanczos,
    /// Straight lines.
    Bilinear,
    /// Cubic curves (a = -0.5).
    Bicubic,
    /// Averages.
    Box,
    /// As sharp as bicubic, as cheap as bilinear.
    Hamming,
}

impl Filter {
    /// Every filter, by Pillow's `Resampling` code.
    pub const ALL: [Filter; 6] = [
        Filter::Nearest,
        Filter::Lanczos,
        Filter::Bilinear,
        Filter::Bicubic,
        Filter::Box,
        Filter::Hamming,
    ];

    /// The filter of Pillow's `Resampling` code.
    pub fn of_code(code: u64) -> Option<Filter> {
        Filter::ALL.get(usize::try_from(code).ok()?).copied()
    }

    /// Half of its width in pixels.
    pub(super) fn support(self) -> f64 {
        match self {
            Filter::Nearest => 0.0,
            Filter::Box => 0.5,
            Filter::Bilinear | Filter::Hamming => 1.0,
            Filter::Bicubic => 2.0,
            Filter::Lanczos => 3.0,
        }
    }

    /// The weight of a pixel that is `x` pixels away.
    pub(super) fn weight(self, x: f64) -> f64 {
        fn sinc(x: f64) -> f64 {
            let x = x * std::f64::consts::PI;
            if x == 0.0 { 1.0 } else { x.sin() / x }
        }
        match self {
            Filter::Nearest => 0.0,
            Filter::Box if x > -0.5 && x <= 0.5 => 1.0,
            Filter::Bilinear if x.abs() < 1.0 => 1.0 - x.abs(),
            Filter::Hamming if x.abs() < 1.0 => {
                let angle = x.abs() * std::f64::consts::PI;
                // Pillow's constants are of single precision.
                sinc(x) * (f64::from(0.54f32) + f64::from(0.46f32) * angle.cos())
            }
            Filter::Bicubic => {
                const A: f64 = -0.5;
                match x.abs() {
                    x if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
                    x if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
                    _ => 0.0,
                }
            }
            Filter::Lanczos if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            _ => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_pillow() {
        let of = |code| Filter::of_code(code);
        assert_eq!(
            [of(0), of(1), of(2), of(3), of(4), of(5), of(6)],
            [
                Some(Filter::Nearest),
                Some(Filter::Lanczos),
                Some(Filter::Bilinear),
                Some(Filter::Bicubic),
                Some(Filter::Box),
                Some(Filter::Hamming),
                None
            ]
        );
    }
}
