//! Rows are worked on in blocks, so that a test is read once for many of them and everything stays in the first cache.

/// Rows of a block.
pub(super) const ROWS: usize = 512;

/// A number for each row of a block.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(super) struct Block<T>(pub [T; ROWS]);
