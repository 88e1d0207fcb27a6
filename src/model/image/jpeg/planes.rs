//! What is known of each component while scans are read: its extents, its samples or coefficients.
//!
//! A sequential file's blocks become samples at once; those of a progressive file are collected first. In a picture that is
//! reduced each component has a scale of its own: one that was sampled more coarsely than others need not shrink as much, or
//! not at all, and needs no growing then (libjpeg's `jdmaster.c`).

use super::Fault;
use super::idct::{self, Block};
use super::segments::Frame;

/// One component.
#[derive(Default)]
pub struct Plane {
    /// Sampling factors across and down.
    pub factors: (usize, usize),
    /// Samples a side that each block becomes.
    pub side: usize,
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
    /// Samples a side that a block of the largest component becomes: 8, or fewer in a picture that is reduced.
    pub side: usize,
}

impl Grid {
    pub fn of(frame: &Frame, side: usize) -> Grid {
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
            side,
        }
    }

    /// Width and height of the picture.
    pub fn extents(&self, frame: &Frame) -> (u32, u32) {
        let reduced = |pixels: u32| (u64::from(pixels) * self.side as u64).div_ceil(8) as u32;
        (reduced(frame.width), reduced(frame.height))
    }

    /// Blocks of a component in whole units.
    fn blocks(&self, factors: (usize, usize)) -> (usize, usize) {
        (self.units.0 * factors.0, self.units.1 * factors.1)
    }

    /// Samples a side that a block of a component becomes: twice as many, and again, as long as they are no more than those of
    /// the largest component, across and down.
    fn side_of(&self, factors: (usize, usize)) -> usize {
        let mut side = self.side;
        let twice = |largest: usize, factor: usize, side: usize| {
            (largest * self.side).is_multiple_of(factor * side * 2)
        };
        while side < 8 && twice(self.largest.0, factors.0, side) && twice(self.largest.1, factors.1, side) {
            side *= 2;
        }
        side
    }

    /// Bytes that decoding takes, the picture itself among them.
    pub fn bytes(&self, frame: &Frame) -> u64 {
        let samples = |component: &super::segments::Declared| {
            let (across, down) = self.blocks(component.factors);
            let side = self.side_of(component.factors) as u64;
            let coefficients = if frame.progressive { 128 } else { 0 };
            across as u64 * down as u64 * (side * side + coefficients)
        };
        let (width, height) = self.extents(frame);
        let pixels = u64::from(width) * u64::from(height);
        frame.components.iter().map(samples).sum::<u64>() + pixels * 4
    }
}

impl Plane {
    /// Makes room for another picture's component in what was one before.
    pub fn prepare(&mut self, frame: &Frame, grid: &Grid, factors: (usize, usize)) {
        self.factors = factors;
        self.side = grid.side_of(factors);
        // Of a block's eight samples a side, of so many components of this size in the largest.
        let part = |whole: u32, factor: usize, largest: usize, side: usize| {
            (whole as usize * factor * side).div_ceil(largest * 8)
        };
        let (across, down) = ((factors.0, grid.largest.0), (factors.1, grid.largest.1));
        self.width = part(frame.width, across.0, across.1, self.side);
        self.height = part(frame.height, down.0, down.1, self.side);
        self.blocks = (
            part(frame.width, across.0, across.1, 1),
            part(frame.height, down.0, down.1, 1),
        );
        let blocks = grid.blocks(factors);
        (self.stride, self.rows) = (blocks.0 * self.side, blocks.1 * self.side);
        self.quantisers = None;
        self.missing = [None; 10];
        // Every sample is written before it is read: scans that leave some out are refused.
        self.samples.resize(self.stride * self.rows, 0);
        self.coefficients.clear();
        if frame.progressive {
            self.coefficients.resize(blocks.0 * blocks.1, [0; 64]);
        }
    }

    /// Blocks in a row: whole units of interleaved scans.
    #[inline(always)]
    pub fn across(&self) -> usize {
        self.stride / self.side
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
        let (across, side) = (self.across(), self.side);
        for row in 0..self.blocks.1 {
            for column in 0..self.blocks.0 {
                let to = &mut self.samples[(row * self.stride + column) * side..];
                idct::block(
                    &self.coefficients[row * across + column],
                    &quantisers,
                    side,
                    to,
                    self.stride,
                );
            }
        }
        Ok(())
    }
}
