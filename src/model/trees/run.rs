//! One block of rows through all trees, in their order.

use super::block::{Block, ROWS};
use super::compile::{Gives, Shape, Trees};
use super::deep;
use super::expression::{self, SLOTS, Slots};
use super::leaves::{Fold, Sum, place};

/// The columns of a block of rows, of which the first `rows` count.
#[derive(Clone, Copy)]
pub(super) struct Cells<'a> {
    pub rows: usize,
    pub bytes: &'a [Block<i8>],
    pub words: &'a [u16],
    /// How many words there are for a row.
    pub columns: usize,
}

impl<S: Sum> Trees<S> {
    /// Adds what every tree gives to the sums, one block for each target.
    #[inline(always)]
    pub fn run<const AVX2: bool>(&self, fold: Fold, cells: Cells<'_>, sums: &mut [Block<S>]) {
        let mut slots: Slots = [Block([0; ROWS]); SLOTS];
        let mut at = [0u32; ROWS];
        for tree in &self.trees {
            match tree.shape {
                Shape::Pattern { from, to } => {
                    let tests = &self.compares[from as usize..to as usize];
                    expression::pattern(tests, cells.bytes, &mut slots[0]);
                }
                Shape::Expression { from, to } => {
                    expression::evaluate(&self.steps[from as usize..to as usize], cells.bytes, &mut slots);
                }
                Shape::Walk {
                    from,
                    to,
                    first,
                    base,
                } => {
                    expression::evaluate(&self.steps[from as usize..to as usize], cells.bytes, &mut slots);
                    let starts = &self.starts[first as usize..];
                    for (at, found) in at.iter_mut().zip(&slots[0].0) {
                        *at = starts[*found as usize];
                    }
                    deep::walk(&self.nodes, cells.words, cells.columns, &mut at);
                    at.iter_mut().for_each(|at| *at -= base);
                    self.give_walked::<AVX2>(&tree.gives, fold, &at[..cells.rows], sums);
                    continue;
                }
            }
            let found = &slots[0];
            match tree.gives {
                Gives::Dense { from, to } => {
                    for add in &self.adds[from as usize..to as usize] {
                        let table = &self.weights[add.table as usize..][..add.length as usize];
                        S::give::<AVX2>(fold, found, table, &mut sums[add.target as usize]);
                    }
                }
                Gives::Sparse { first } => {
                    for (row, leaf) in found.0[..cells.rows].iter().enumerate() {
                        self.give_gifts::<AVX2>(first as usize + *leaf as usize, fold, row, sums);
                    }
                }
            }
        }
    }

    /// As above, of leaves that walks have ended at.
    #[inline(always)]
    fn give_walked<const AVX2: bool>(&self, gives: &Gives, fold: Fold, ends: &[u32], sums: &mut [Block<S>]) {
        match *gives {
            Gives::Dense { from, to } => {
                for add in &self.adds[from as usize..to as usize] {
                    let table = &self.weights[add.table as usize..][..add.length as usize];
                    let sums = &mut sums[add.target as usize].0;
                    for (row, leaf) in ends.iter().enumerate() {
                        let sum = &mut sums[place::<AVX2>(row)];
                        *sum = sum.fold(fold, table[*leaf as usize]);
                    }
                }
            }
            Gives::Sparse { first } => {
                for (row, leaf) in ends.iter().enumerate() {
                    self.give_gifts::<AVX2>(first as usize + *leaf as usize, fold, row, sums);
                }
            }
        }
    }

    #[inline(always)]
    fn give_gifts<const AVX2: bool>(&self, leaf: usize, fold: Fold, row: usize, sums: &mut [Block<S>]) {
        let gifts = self.starts[leaf] as usize..self.starts[leaf + 1] as usize;
        for &(target, weight) in &self.gifts[gifts] {
            let sum = &mut sums[target as usize].0[place::<AVX2>(row)];
            *sum = sum.fold(fold, weight);
        }
    }
}
