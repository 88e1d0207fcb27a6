//! What is known of each component while scans are read: its extents, its samples or coefficients.
//!
//! A sequential file's blocks become samples at once; those of a progressive file are collected first.

use super::Fault;
use super::idct::{self, Block};
use super::segments::Frame;

/// One component.
#[derive(Default)]
pub struct Plane {
    /// Sampling factors across and down.
    pub factors: (usize, usize),
    /// Samples across and down that belong to the image.
    pub width: usize,
    pub height: usize,
    /// Blocks across and down that hold them.
    pub blocks: (usize, usize),
    /// Samples in a row: whole units of interleaved scans.
    pub stride: usize,
    /// Rows of samples, of whole units as well.
    pub rows: usize,
    /// The table in force when the first scan of the component began.
    pub quantisers: Option<Block>,
    pub samples: Vec<u8>,
    /// Of a progressive file.
    pub coefficients: Vec<Block>,
    /// By coefficient, in the order of the file: how many low bits are still to come; `None` when nothing came.
    pub missing: Missing,
}

/// See [`Plane::missing`].
pub type Missing = [Option<u8>; 10];

/// Units of an interleaved scan across and down, and the largest sampling factors.
#[derive(Clone, Copy, Default)]
pub struct Grid {
    pub units: (usize, usize),
    pub largest: (usize, usize),
}

impl Grid {
    pub fn of(frame: &Frame) -> Grid {
        let factors = |of: fn((usize, usize)) -> usize| {
            frame
                .components
                .iter()
                .map(|component| of(component.factors))
                .max()
                .unwrap_or(1)
        };
        let largest = (factors(|(across, _)| across), factors(|(_, down)| down));
        Grid {
            units: (
                (frame.width as usize).div_ceil(8 * largest.0),
                (frame.height as usize).div_ceil(8 * largest.1),
            ),
            largest,
        }
    }

    /// Samples of a component in whole units.
    fn extents(&self, factors: (usize, usize)) -> (usize, usize) {
        (self.units.0 * factors.0 * 8, self.units.1 * factors.1 * 8)
    }

    /// Bytes that decoding takes beside the picture itself.
    pub fn bytes(&self, frame: &Frame) -> u64 {
        let sample = if frame.progressive { 3 } else { 1 };
        let samples = |component: &super::segments::Declared| {
            let (width, height) = self.extents(component.factors);
            width as u64 * height as u64
        };
        frame.components.iter().map(samples).sum::<u64>() * sample
    }
}

impl Plane {
    /// Makes room for another picture's component in what was one before.
    pub fn prepare(&mut self, frame: &Frame, grid: &Grid, factors: (usize, usize)) {
        let part = |whole: u32, factor: usize, largest: usize| (whole as usize * factor).div_ceil(largest);
        self.factors = factors;
        self.width = part(frame.width, factors.0, grid.largest.0);
        self.height = part(frame.height, factors.1, grid.largest.1);
        self.blocks = (self.width.div_ceil(8), self.height.div_ceil(8));
        (self.stride, self.rows) = grid.extents(factors);
        self.quantisers = None;
        self.missing = [None; 10];
        // Every sample is written before it is read: scans that leave some out are refused.
        self.samples.resize(self.stride * self.rows, 0);
        self.coefficients.clear();
        if frame.progressive {
            self.coefficients.resize(self.stride * self.rows / 64, [0; 64]);
        }
    }

    /// Makes samples of the coefficients of a progressive file.
    pub fn finish(&mut self) -> Result<(), Fault> {
        let quantisers = self.quantisers.ok_or(Fault::Damaged("a scan is missing"))?;
        if self.coefficients.is_empty() {
            return Ok(());
        }
        // libjpeg smooths what is known only roughly; pictures that are half loaded are none to give answers for.
        let rough = |missing: &Option<u8>| missing.is_some_and(|bits| bits > 0);
        if self.missing[0].is_none() || self.missing.iter().any(rough) || self.missing[1..].contains(&None) {
            return Err(Fault::Damaged(
                "the last scans of a progressive image are missing",
            ));
        }
        let across = self.stride / 8;
        for row in 0..self.blocks.1 {
            for column in 0..self.blocks.0 {
                let to = &mut self.samples[row * 8 * self.stride + column * 8..];
                idct::block(
                    &self.coefficients[row * across + column],
                    &quantisers,
                    to,
                    self.stride,
                );
            }
        }
        Ok(())
    }
}
