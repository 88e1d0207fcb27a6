//! Small trees as expressions over bytes: no branches, no loop over depth, 32 or 64 rows an instruction.
//!
//! Each row of a block gets the number of the leaf it reaches. A node is `if bin > limit { right } else { left }`, with
//! the leaf numbers that its subtrees have found for every row, so a tree of n leaves costs n - 1 compares and as many
//! blends for a vector of rows. QuickScorer's bit vectors (Lucchese et al. 2015) cost at least as much for each node, a
//! search for the lowest bit besides, and more planes where there are more than eight leaves; a byte has room for 256.
//!
//! Trees of up to three tests are simpler yet: the outcomes of their tests are bits of a number, which stands for a leaf.

use super::bins::{Cells, Limit};
use super::block::{Block, ROWS};

/// Leaves that an expression can tell apart.
pub(super) const MAX_LEAVES: usize = 256;

/// Tests of a tree that is evaluated by [`compile`](super::compile)'s patterns.
pub(super) const MAX_PATTERN: usize = 3;

/// The greatest number of intermediate results: the heavier child goes first, so each level halves the leaves.
pub(super) const SLOTS: usize = 9;

/// Bins of a block of rows, less 128: signed bytes are what processors compare.
pub(super) struct Bytes<'a>(pub &'a mut [Block<i8>]);

impl Cells for Bytes<'_> {
    const GREATEST: u32 = 255;

    #[inline(always)]
    fn fill(&mut self, column: u32, bins: impl Fn(usize) -> u32) {
        let cells = &mut self.0[column as usize].0;
        for (row, cell) in cells.iter_mut().enumerate() {
            *cell = (bins(row) as u8 ^ 0x80) as i8;
        }
    }
}

/// A test of a byte: rows go right where the column is greater than the limit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Compare {
    column: u32,
    limit: i8,
}

impl From<Limit> for Compare {
    fn from(limit: Limit) -> Self {
        Compare {
            column: limit.column,
            limit: (limit.limit as u8 ^ 0x80) as i8,
        }
    }
}

/// A step of an expression: what becomes of `slot` by the test.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub compare: Compare,
    pub does: Does,
    pub slot: u8,
    /// A leaf, or the slot of the second child.
    pub other: u8,
}

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Does {
    /// Both children are leaves: `other` on the left, `other + 1` on the right.
    Leaves,
    /// Both children are like that, with leaves `other..other + 4`: two steps follow, whose compares are theirs.
    FourLeaves,
    /// The left child is in the slot, the right one is the leaf `other`.
    RightLeaf,
    /// The right child is in the slot, the left one is the leaf `other`.
    LeftLeaf,
    /// The left child is in the slot, the right one in slot `other`.
    RightSlot,
    /// The right child is in the slot, the left one in slot `other`.
    LeftSlot,
}

/// Intermediate results; the first one becomes the tree's.
pub(super) type Slots = [Block<u8>; SLOTS];

/// Where each row of a block ends, by an expression: into the first slot.
#[inline(always)]
pub(super) fn evaluate(steps: &[Step], cells: &[Block<i8>], slots: &mut Slots) {
    let mut steps = steps.iter();
    while let Some(step) = steps.next() {
        let bins = &cells[step.compare.column as usize];
        let limit = step.compare.limit;
        let (first, rest) = slots.split_at_mut(step.slot as usize + 1);
        let slot = &mut first[step.slot as usize];
        let other = || &rest[(step.other - step.slot - 1) as usize];
        match step.does {
            Does::Leaves => {
                for (slot, bin) in slot.0.iter_mut().zip(&bins.0) {
                    *slot = step.other.wrapping_add(u8::from(*bin > limit));
                }
            }
            Does::FourLeaves => {
                let (Some(on_left), Some(on_right)) = (steps.next(), steps.next()) else {
                    unreachable!("two steps follow");
                };
                let left = &cells[on_left.compare.column as usize];
                let right = &cells[on_right.compare.column as usize];
                for row in 0..ROWS {
                    let to_the_right = u8::from(bins.0[row] > limit).wrapping_neg();
                    let left = u8::from(left.0[row] > on_left.compare.limit);
                    let right = 2 + u8::from(right.0[row] > on_right.compare.limit);
                    let leaf = (left & !to_the_right) | (right & to_the_right);
                    slot.0[row] = step.other.wrapping_add(leaf);
                }
            }
            Does::RightLeaf => choose(bins, limit, slot, |_, slot| (slot, step.other)),
            Does::LeftLeaf => choose(bins, limit, slot, |_, slot| (step.other, slot)),
            Does::RightSlot => {
                let other = other();
                choose(bins, limit, slot, |row, slot| (slot, other.0[row]));
            }
            Does::LeftSlot => {
                let other = other();
                choose(bins, limit, slot, |row, slot| (other.0[row], slot));
            }
        }
    }
}

/// Puts into the slot of each row what is found on its left or on its right.
#[inline(always)]
fn choose(bins: &Block<i8>, limit: i8, slot: &mut Block<u8>, children: impl Fn(usize, u8) -> (u8, u8)) {
    for (row, (slot, bin)) in slot.0.iter_mut().zip(&bins.0).enumerate() {
        let (left, right) = children(row, *slot);
        // As arithmetic: a condition is compiled into jumps.
        let to_the_right = u8::from(*bin > limit).wrapping_neg();
        *slot = (left & !to_the_right) | (right & to_the_right);
    }
}

/// The outcomes of up to three tests as the bits of a number.
#[inline(always)]
pub(super) fn pattern(tests: &[Compare], cells: &[Block<i8>], found: &mut Block<u8>) {
    let column = |test: &Compare| &cells[test.column as usize].0;
    let found = &mut found.0;
    match tests {
        [] => found.fill(0),
        [a] => {
            let x = column(a);
            for row in 0..ROWS {
                found[row] = u8::from(x[row] > a.limit);
            }
        }
        [a, b] => {
            let (x, y) = (column(a), column(b));
            for row in 0..ROWS {
                found[row] = u8::from(x[row] > a.limit) | u8::from(y[row] > b.limit) << 1;
            }
        }
        [a, b, c, ..] => {
            let (x, y, z) = (column(a), column(b), column(c));
            for row in 0..ROWS {
                let low = u8::from(x[row] > a.limit) | u8::from(y[row] > b.limit) << 1;
                found[row] = low | u8::from(z[row] > c.limit) << 2;
            }
        }
    }
}
