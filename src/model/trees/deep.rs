//! Trees with many leaves: walks from the root, several rows at a time.
//!
//! A walk waits for memory and for nothing else: children are neighbours, so that the next node is the left child plus the
//! outcome of the test, without a branch to guess, and the waits of [`TOGETHER`] rows overlap. Nodes are eight bytes,
//! breadth first, so that the top of a tree shares few cache lines.

use super::bins::{Cells, Limit};
use super::block::ROWS;

/// Rows that walk together.
const TOGETHER: usize = 16;

/// The column of nodes that are leaves.
const LEAF: u16 = u16::MAX;

/// The greatest number of columns.
pub(super) const MAX_COLUMNS: usize = LEAF as usize;

/// Bins that a column tells apart, but for the greatest one.
pub(super) const BINS: u32 = u16::MAX as u32;

/// A node of a deep tree.
#[derive(Clone, Copy, Debug)]
pub(super) struct DeepNode {
    /// The left child, before which the right one stands; of a leaf, its number.
    next: u32,
    column: u16,
    limit: u16,
}

impl DeepNode {
    /// A split whose children are at `left` and `left + 1`; there are at most [`MAX_COLUMNS`] columns.
    pub fn split(limit: Limit, left: u32) -> Self {
        DeepNode {
            next: left,
            column: limit.column as u16,
            limit: limit.limit as u16,
        }
    }

    /// A leaf.
    pub fn leaf(number: u32) -> Self {
        DeepNode {
            next: number,
            column: LEAF,
            limit: 0,
        }
    }
}

/// Bins of a block of rows, row by row.
pub(super) struct Words<'a> {
    /// How many columns there are.
    pub columns: usize,
    /// `ROWS` times as many.
    pub cells: &'a mut [u16],
}

impl Cells for Words<'_> {
    const GREATEST: u32 = BINS;

    #[inline(always)]
    fn fill(&mut self, column: u32, bins: impl Fn(usize) -> u32) {
        let cells = self.cells.chunks_exact_mut(self.columns);
        for (row, cells) in cells.take(ROWS).enumerate() {
            cells[column as usize] = bins(row) as u16;
        }
    }
}

/// The leaf that each row ends at, from `root` on.
#[inline(always)]
pub(super) fn walk(nodes: &[DeepNode], words: &[u16], columns: usize, ends: &mut [u32], root: u32) {
    for (group, ends) in ends.chunks_mut(TOGETHER).enumerate() {
        let first = group * TOGETHER * columns;
        let mut at = [root; TOGETHER];
        loop {
            let mut walking = false;
            for lane in 0..TOGETHER {
                let node = nodes[at[lane] as usize];
                let row = first + lane * columns;
                if node.column != LEAF {
                    let bin = words[row + node.column as usize];
                    at[lane] = node.next + u32::from(bin > node.limit);
                    walking = true;
                }
            }
            if !walking {
                break;
            }
        }
        for (end, at) in ends.iter_mut().zip(at) {
            *end = nodes[at as usize].next;
        }
    }
}
