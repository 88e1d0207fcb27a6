//! The one place where a forest is evaluated.

use std::sync::Arc;

use super::forest::{Forest, Width};
use crate::error::Result;

/// A forest, ready to run; shared by workers.
#[derive(Debug)]
pub struct Compiled {
    forest: Arc<Forest>,
}

/// Features of rows, row by row.
#[derive(Clone, Copy, Debug)]
pub enum Features<'a> {
    /// 32 bits.
    F32(&'a [f32]),
    /// 64 bits.
    F64(&'a [f64]),
}

/// Where sums go, row by row, in the type that the forest sums in.
#[derive(Debug)]
pub enum Sums<'a> {
    /// 32 bits.
    F32(&'a mut [f32]),
    /// 64 bits.
    F64(&'a mut [f64]),
}

/// What one worker needs to run it.
#[derive(Debug, Default)]
pub struct Scratch {
    row: Vec<f64>,
}

impl Compiled {
    /// Makes `forest` ready.
    ///
    /// # Errors
    /// `Model`, for a forest that can't be run.
    pub fn new(forest: &Forest) -> Result<Compiled> {
        Ok(Compiled {
            forest: Arc::new(forest.clone()),
        })
    }

    /// Computes the sums of rows; `out` has as many places as there are rows times targets.
    pub fn score(&self, features: Features<'_>, rows: usize, scratch: &mut Scratch, mut out: Sums<'_>) {
        let (width, targets) = (self.forest.features, self.forest.targets);
        for row in 0..rows {
            let range = row * width..(row + 1) * width;
            scratch.row.clear();
            match features {
                Features::F32(values) => scratch.row.extend(values[range].iter().map(|&value| f64::from(value))),
                Features::F64(values) => scratch.row.extend(&values[range]),
            }
            if self.forest.compared_in == Width::F32 {
                scratch.row.iter_mut().for_each(|value| *value = f64::from(*value as f32));
            }
            let sums = self.forest.score_row(&scratch.row);
            for (target, sum) in sums.into_iter().enumerate() {
                match &mut out {
                    Sums::F32(sums) => sums[row * targets + target] = sum as f32,
                    Sums::F64(sums) => sums[row * targets + target] = sum,
                }
            }
        }
    }
}
