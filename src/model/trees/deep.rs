//! Trees with many leaves: walks, several rows at a time.
//!
//! The top of such a tree is an [expression](super::expression), whose leaves are where walks begin. A walk waits for
//! memory and for nothing else: children are neighbours, so that the next node is the left child plus the outcome of the
//! test, without a branch to guess, and a leaf leads to itself; so the waits of [`TOGETHER`] rows overlap. Nodes are eight
//! bytes, those below one another close together.

use super::bins::{Cells, Limit};
use super::block::ROWS;

/// Leaves of the expression at the top.
pub(super) const HEAD: usize = 64;

/// Rows that walk together.
const TOGETHER: usize = 8;

/// The greatest number of columns.
pub(super) const MAX_COLUMNS: usize = u16::MAX as usize + 1;

/// Bins that a column tells apart, but for the greatest one.
pub(super) const BINS: u32 = u16::MAX as u32;

/// A node of a deep tree.
#[derive(Clone, Copy, Debug)]
pub(super) struct DeepNode {
    /// The left child, before the right one; of a leaf, itself.
    next: u32,
    column: u16,
    /// No bin is greater than that of a leaf.
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

    /// The leaf at `at`.
    pub fn leaf(at: u32) -> Self {
        DeepNode {
            next: at,
            column: 0,
            limit: u16::MAX,
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

/// Leads every row from the node where it is to a leaf.
#[inline(always)]
pub(super) fn walk(nodes: &[DeepNode], words: &[u16], columns: usize, at: &mut [u32; ROWS]) {
    let (groups, _) = at.as_chunks_mut::<TOGETHER>();
    for (group, at) in groups.iter_mut().enumerate() {
        let first = group * TOGETHER * columns;
        loop {
            let mut moved = 0;
            for (lane, at) in at.iter_mut().enumerate() {
                let node = nodes[*at as usize];
                let bin = words[first + lane * columns + node.column as usize];
                let next = node.next + u32::from(bin > node.limit);
                moved |= next ^ *at;
                *at = next;
            }
            if moved == 0 {
                break;
            }
        }
    }
}
