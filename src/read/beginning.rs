//! The beginnings of column chunks: as much of each as the first rows of a row group take.
//!
//! A trial of a model needs a few thousand rows, and a row group may be gigabytes. How far the rows' pages reach is only known
//! when they have been read, so a share of the chunk is asked for that should do, and more of those columns where it
//! didn't. Columns of lists are read to their end, since no header says where a row begins.

use bytes::Bytes;
use std::ops::Range;

use super::footer::Footer;
use super::group::Wanted;
use super::page_header;
use crate::error::Result;
use crate::storage::Location;

/// Room for a dictionary and for the page in which the last row lies, as most writers cut them.
const SPARE_BYTES: u64 = 1 << 20;

/// A column of which too little was read is read again, so many times as far.
const FURTHER: u64 = 4;

/// The columns of a row group, of which the first rows are wanted.
pub(super) struct Beginnings<'a> {
    footer: &'a Footer,
    row_group: usize,
    wanted: &'a Wanted,
    rows: u64,
}

impl<'a> Beginnings<'a> {
    /// The first `rows` rows of the columns.
    pub fn new(footer: &'a Footer, row_group: usize, wanted: &'a Wanted, rows: usize) -> Beginnings<'a> {
        Beginnings {
            footer,
            row_group,
            wanted,
            rows: rows as u64,
        }
    }

    /// How much is likely to be read.
    pub fn bytes(&self) -> u64 {
        let ranges = (0..self.wanted.ranges.len()).map(|column| self.guess(column));
        ranges.map(|range| range.end - range.start).sum()
    }

    /// The bytes of each column up to the end of a page: at least those that its first rows take.
    ///
    /// # Errors
    /// `InputChanged` or `Storage`.
    pub async fn fetch(&self, location: &Location) -> Result<Vec<Bytes>> {
        let mut ranges: Vec<Range<u64>> = (0..self.wanted.ranges.len()).map(|i| self.guess(i)).collect();
        let mut fetched = self.footer.bytes(location, &ranges).await?;
        loop {
            let mut short = Vec::new();
            for (column, bytes) in fetched.iter_mut().enumerate() {
                let all = &self.wanted.ranges[column];
                if ranges[column].end == all.end {
                    continue;
                }
                let codec = self.column(column).compression();
                match page_header::end_of_values(bytes, codec, self.rows) {
                    Some(end) => bytes.truncate(end),
                    None => short.push(column),
                }
            }
            if short.is_empty() {
                return Ok(fetched);
            }
            for &column in &short {
                let Range { start, end } = ranges[column];
                let further = start + (end - start).saturating_mul(FURTHER);
                ranges[column].end = further.min(self.wanted.ranges[column].end);
            }
            let again: Vec<Range<u64>> = short.iter().map(|column| ranges[*column].clone()).collect();
            let longer = self.footer.bytes(location, &again).await?;
            for (column, bytes) in short.into_iter().zip(longer) {
                fetched[column] = bytes;
            }
        }
    }

    fn column(&self, column: usize) -> &parquet::file::metadata::ColumnChunkMetaData {
        self.footer.row_groups()[self.row_group].column(self.wanted.leaves()[column])
    }

    fn guess(&self, column: usize) -> Range<u64> {
        let all = self.wanted.ranges[column].clone();
        let length = all.end - all.start;
        let there = self.footer.row_groups()[self.row_group].num_rows().max(1) as u64;
        let share = u128::from(length) * u128::from(self.rows) / u128::from(there);
        let guess = share + u128::from(SPARE_BYTES);
        let is_flat = self.column(column).column_descr().max_rep_level() == 0;
        match is_flat && guess < u128::from(length) {
            true => all.start..all.start + guess as u64,
            false => all,
        }
    }
}
