//! Where rows came from, so that an error can name file, row group and row.
//!
//! Rows of several small files may travel in one batch; an [`Origin`] remembers each stretch.

use std::sync::Arc;

use crate::error::Error;

/// A stretch of consecutive rows of one row group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Path of the input object, relative to the input location.
    pub file: Arc<str>,
    /// Index of the row group in the file.
    pub row_group: usize,
    /// Index of the first row within the row group.
    pub first_row: usize,
    /// How many rows.
    pub rows: usize,
}

/// What is wrong with one row while others are fine.
#[derive(Debug)]
pub struct RowError {
    /// Its index in the batch or block.
    pub row: usize,
    /// What is wrong.
    pub error: Error,
}

/// The stretches that make up a block or batch, in row order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    stretches: Vec<Stretch>,
}

impl Origin {
    /// No rows yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Rows of one stretch.
    pub fn of(file: &Arc<str>, row_group: usize, first_row: usize, rows: usize) -> Self {
        let mut origin = Self::new();
        origin.push(Stretch {
            file: file.clone(),
            row_group,
            first_row,
            rows,
        });
        origin
    }

    /// Appends a stretch, joining it to the last one where it continues it.
    pub fn push(&mut self, stretch: Stretch) {
        if let Some(last) = self.stretches.last_mut()
            && last.file == stretch.file
            && last.row_group == stretch.row_group
            && last.first_row + last.rows == stretch.first_row
        {
            last.rows += stretch.rows;
        } else if stretch.rows > 0 {
            self.stretches.push(stretch);
        }
    }

    /// The stretches, in row order.
    pub fn stretches(&self) -> &[Stretch] {
        &self.stretches
    }

    /// How many rows.
    pub fn rows(&self) -> usize {
        self.stretches.iter().map(|stretch| stretch.rows).sum()
    }

    /// The origin of rows `[start, start + rows)`.
    pub fn slice(&self, start: usize, rows: usize) -> Origin {
        let mut slice = Origin::new();
        let (mut skip, mut left) = (start, rows);
        for stretch in &self.stretches {
            if skip >= stretch.rows {
                skip -= stretch.rows;
                continue;
            }
            let taken = (stretch.rows - skip).min(left);
            slice.push(Stretch {
                first_row: stretch.first_row + skip,
                rows: taken,
                ..stretch.clone()
            });
            skip = 0;
            left -= taken;
            if left == 0 {
                break;
            }
        }
        slice
    }

    /// The origin of the rows at these indices, in this order.
    pub fn select(&self, rows: &[usize]) -> Origin {
        let mut selected = Origin::new();
        for &row in rows {
            for stretch in self.slice(row, 1).stretches {
                selected.push(stretch);
            }
        }
        selected
    }

    /// Adds file, row group and row of the row at `index` to an error.
    pub fn at_row(&self, error: Error, index: usize) -> Error {
        match self.slice(index, 1).stretches.first() {
            Some(place) => error
                .with("file", &place.file)
                .with("row_group", place.row_group)
                .with("row", place.first_row),
            None => error,
        }
    }

    /// Adds the whereabouts of all rows to an error: the first stretch, and how many more there are. An error that
    /// names its row already stays as it is.
    pub fn at(&self, error: Error) -> Error {
        if error
            .context()
            .iter()
            .any(|(key, _)| matches!(*key, "row" | "rows"))
        {
            return error;
        }
        let Some(first) = self.stretches.first() else {
            return error;
        };
        let last_row = first.first_row + first.rows.saturating_sub(1);
        let error = error
            .with("file", &first.file)
            .with("row_group", first.row_group)
            .with("rows", format!("{}-{last_row}", first.first_row));
        match self.stretches.len() - 1 {
            0 => error,
            more => error.with("and", format!("rows of {more} more row groups")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Failure matrix: 58.
    #[test]
    fn a_row_of_a_mixed_batch_is_found_in_its_own_file() {
        let (a, b): (Arc<str>, Arc<str>) = ("a.parquet".into(), "b.parquet".into());
        let mut origin = Origin::of(&a, 2, 100, 10);
        origin.push(Stretch {
            file: b.clone(),
            row_group: 0,
            first_row: 0,
            rows: 5,
        });
        let error = origin.slice(8, 4).at_row(Error::data("null"), 3);
        assert_eq!(error.to_string(), "null (file b.parquet, row group 0, row 1)");
        assert_eq!(origin.rows(), 15);
        assert_eq!(origin.slice(9, 2).stretches().len(), 2);
    }

    #[test]
    fn an_error_that_names_its_row_keeps_that_place_alone() {
        let (a, b): (Arc<str>, Arc<str>) = ("a.parquet".into(), "b.parquet".into());
        let mut origin = Origin::of(&a, 0, 0, 10);
        origin.push(Stretch {
            file: b,
            row_group: 0,
            first_row: 0,
            rows: 5,
        });
        let error = origin.at(origin.at_row(Error::data("null"), 12));
        assert_eq!(error.to_string(), "null (file b.parquet, row group 0, row 2)");
    }

    #[test]
    fn stretches_that_continue_each_other_are_joined() {
        let a: Arc<str> = "a".into();
        let mut origin = Origin::of(&a, 0, 0, 10);
        origin.push(Stretch {
            file: a,
            row_group: 0,
            first_row: 10,
            rows: 5,
        });
        assert_eq!(origin.stretches().len(), 1);
        assert_eq!(
            origin.at(Error::data("x")).to_string(),
            "x (file a, row group 0, rows 0-14)"
        );
    }
}
