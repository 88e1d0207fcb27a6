//! What a file may ask of the reader: every limit in one place.
//!
//! A Parquet file of a hundred bytes can declare any size, and encodings make gigabytes from kilobytes, so sizes are held
//! against these limits before anything is allocated by them. They are far above what writers make and low enough that
//! a hostile file ends in an error instead of an exhausted machine. `docs/types.md` lists them for users; a test compares.

use std::fmt::Display;

use crate::error::Error;

/// Bytes of a footer. Its decoded form takes several times as many.
pub(super) const FOOTER_BYTES: u64 = 256 << 20;

/// Columns, counted as Parquet does: leaves of nested ones.
pub(super) const COLUMNS: usize = 50_000;

/// Levels of a schema; a list takes two or three of them.
pub(super) const SCHEMA_DEPTH: usize = 64;

/// Columns times row groups: what a footer describes one by one.
pub(super) const COLUMN_CHUNKS: usize = 2_000_000;

/// Rows of one row group.
pub(super) const GROUP_ROWS: u64 = 1 << 30;

/// Bytes of one value of a type of fixed length: nulls take as much.
pub(super) const FIXED_BYTES: u64 = 16 << 20;

/// Uncompressed bytes of the pages of a row group that are open at once, the largest of each column and its dictionary…
pub(super) const OPEN_PAGE_BYTES: u64 = 512 << 20;

/// …unless they are no more than this many times what the row group takes in the file.
pub(super) const OPEN_PAGE_EXPANSION: u64 = 32;

/// Decoded bytes of the rows of a block, unless the pages of its row group hold half as many.
pub(super) const BLOCK_BYTES: u64 = 512 << 20;

/// `what` is `found`, and the limit `name` is lower.
pub(super) fn beyond(what: &str, found: impl Display, name: &str, limit: impl Display) -> Error {
    Error::data(format!("{what} {found}, and the limit {name} is {limit}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_lists_the_limits_as_they_are() {
        let page = include_str!("../../docs/types.md");
        let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
        let grouped = |number: u64| {
            let digits = number.to_string();
            let groups: Vec<_> = digits
                .as_bytes()
                .rchunks(3)
                .rev()
                .map(String::from_utf8_lossy)
                .collect();
            groups.join(",")
        };
        for (name, value) in [
            ("footer", mib(FOOTER_BYTES)),
            ("columns", grouped(COLUMNS as u64)),
            ("schema depth", grouped(SCHEMA_DEPTH as u64)),
            ("column chunks", grouped(COLUMN_CHUNKS as u64)),
            ("rows of a row group", grouped(GROUP_ROWS)),
            ("fixed length", mib(FIXED_BYTES)),
            (
                "open pages",
                format!("{}, or {OPEN_PAGE_EXPANSION} times", mib(OPEN_PAGE_BYTES)),
            ),
            ("decoded bytes of a block", mib(BLOCK_BYTES)),
        ] {
            let row = format!("| {name} | {value}");
            assert!(page.contains(&row), "no {row:?} in docs/types.md");
        }
    }
}
