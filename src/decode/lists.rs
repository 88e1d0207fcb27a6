//! List columns: from `[rows]` of lists to one flat array and the extents of its axes.
//!
//! A tensor is dense, so all lists of one level must have the same length: the one the model declares, else the
//! first one of the batch. A null list becomes a list of nulls, whose stand-in then fills it; that needs a
//! declared length, so that a row doesn't depend on the rows beside it.

use arrow::array::{Array, ArrayRef, AsArray, OffsetSizeTrait, UInt64Array};
use arrow::buffer::NullBuffer;
use arrow::compute::take;
use arrow::datatypes::DataType;

use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::signature::Dim;

/// Levels of lists in a type: 0 for a scalar.
pub fn depth(data_type: &DataType) -> usize {
    match data_type {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            1 + depth(item.data_type())
        }
        DataType::Dictionary(_, value) => depth(value),
        _ => 0,
    }
}

/// A column without its dictionary, if it has one.
pub fn plain(column: &ArrayRef) -> Result<ArrayRef> {
    let DataType::Dictionary(..) = column.data_type() else {
        return Ok(column.clone());
    };
    let dictionary = column.as_any_dictionary();
    let values = take(dictionary.values(), dictionary.keys(), None)
        .context(ErrorKind::Internal, "can't look up the values of a dictionary")?;
    plain(&values)
}

/// The scalars of a list column: `rows * product(extents)` of them, row-major.
#[derive(Debug)]
pub struct Flat {
    /// Scalars; no list, no dictionary.
    pub leaf: ArrayRef,
    /// One extent per level of lists.
    pub extents: Vec<usize>,
}

/// A row whose lists keep the column from becoming a tensor.
#[derive(Debug)]
pub struct Ragged {
    /// Row of the column.
    pub row: usize,
    /// What is wrong with it.
    pub fault: ListFault,
}

/// What is wrong with a list.
#[derive(Debug)]
pub enum ListFault {
    /// It is null.
    Null,
    /// It is of another length than it should be.
    Length(Error),
}

/// Unpacks as many levels of lists as there are `dims`.
///
/// `fill_nulls`: null lists become lists of nulls; else they are an error. The outer error is one of the
/// column as a whole.
pub fn flatten(column: &ArrayRef, dims: &[Dim], fill_nulls: bool) -> Result<Result<Flat, Ragged>> {
    let mut flat = Flat {
        leaf: plain(column)?,
        extents: Vec::with_capacity(dims.len()),
    };
    let mut lists_per_row = 1;
    for &dim in dims {
        let level = match Level::of(&flat.leaf)?.check(dim, fill_nulls) {
            Ok(level) => level,
            Err((index, fault)) => {
                return Ok(Err(Ragged {
                    row: index / lists_per_row,
                    fault,
                }));
            }
        };
        let (items, extent) = (level.items()?, level.extent);
        flat.leaf = plain(&items)?;
        flat.extents.push(extent);
        lists_per_row *= extent.max(1);
    }
    Ok(Ok(flat))
}

/// One level of lists, whatever their encoding.
struct Level<'a> {
    items: &'a ArrayRef,
    /// Start of each list in `items`, and the end of the last.
    starts: Vec<usize>,
    nulls: Option<&'a NullBuffer>,
    fixed: Option<usize>,
}

impl<'a> Level<'a> {
    fn of(column: &'a ArrayRef) -> Result<Level<'a>> {
        fn starts<O: OffsetSizeTrait>(offsets: &[O]) -> Vec<usize> {
            offsets.iter().map(|offset| offset.as_usize()).collect()
        }
        let nulls = column.nulls().filter(|nulls| nulls.null_count() > 0);
        Ok(match column.data_type() {
            DataType::List(_) => {
                let lists = column.as_list::<i32>();
                Level {
                    items: lists.values(),
                    starts: starts(lists.value_offsets()),
                    nulls,
                    fixed: None,
                }
            }
            DataType::LargeList(_) => {
                let lists = column.as_list::<i64>();
                Level {
                    items: lists.values(),
                    starts: starts(lists.value_offsets()),
                    nulls,
                    fixed: None,
                }
            }
            DataType::FixedSizeList(..) => {
                let lists = column.as_fixed_size_list();
                let length = lists.value_length() as usize;
                let starts = (0..=lists.len()).map(|row| row * length).collect();
                Level {
                    items: lists.values(),
                    starts,
                    nulls,
                    fixed: Some(length),
                }
            }
            other => return Err(Error::internal(format!("{other} is no list"))),
        })
    }

    /// The common length of all lists, or the first list that breaks it.
    fn check(self, dim: Dim, fill_nulls: bool) -> Result<Checked<'a>, (usize, ListFault)> {
        let declared = match dim {
            Dim::Fixed(extent) => Some(extent),
            Dim::Dynamic => self.fixed,
        };
        let mut extent = declared;
        for (row, list) in self.starts.windows(2).enumerate() {
            if self.nulls.is_some_and(|nulls| nulls.is_null(row)) {
                match declared {
                    Some(_) if fill_nulls => continue,
                    None if fill_nulls => return Err((row, ListFault::Length(no_length()))),
                    _ => return Err((row, ListFault::Null)),
                }
            }
            let length = list[1] - list[0];
            let expected = *extent.get_or_insert(length);
            if length != expected {
                let error = wrong_length(length, expected, declared.is_some());
                return Err((row, ListFault::Length(error)));
            }
        }
        Ok(Checked {
            level: self,
            extent: extent.unwrap_or(0),
        })
    }
}

fn no_length() -> Error {
    Error::data("a null list, and the model leaves the length of its lists open")
        .with_hint("replace null lists in the input")
}

fn wrong_length(length: usize, expected: usize, declared: bool) -> Error {
    if declared {
        return Error::data(format!(
            "a list of length {length} where the model takes {expected}"
        ));
    }
    Error::data(format!(
        "a list of length {length} after one of length {expected} in the same batch"
    ))
    .with_hint("a model takes lists of one length: pad or cut them in the input")
}

/// A level whose lists are all of one length, null ones aside.
struct Checked<'a> {
    level: Level<'a>,
    extent: usize,
}

impl Checked<'_> {
    /// All items, null lists as lists of nulls.
    fn items(&self) -> Result<ArrayRef> {
        let starts = &self.level.starts;
        let Some(nulls) = self.level.nulls else {
            let first = starts.first().copied().unwrap_or(0);
            let count = starts.len().saturating_sub(1) * self.extent;
            return Ok(self.level.items.slice(first, count));
        };
        // What lies under a null list is arbitrary in length and content.
        let mut positions = Vec::with_capacity(nulls.len() * self.extent);
        for (row, &start) in starts.iter().take(nulls.len()).enumerate() {
            let valid = nulls.is_valid(row);
            positions.extend((start..start + self.extent).map(|item| valid.then_some(item as u64)));
        }
        take(self.level.items, &UInt64Array::from(positions), None)
            .context(ErrorKind::Internal, "can't gather the items of lists")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{FixedSizeListArray, Int32Array, LargeListArray, ListArray};
    use arrow::datatypes::Int32Type;
    use std::sync::Arc;

    type Lists<'a> = &'a [Option<&'a [Option<i32>]>];

    fn encodings(lists: Lists<'_>, fixed: Option<i32>) -> Vec<ArrayRef> {
        let rows = || lists.iter().map(|list| list.map(|items| items.to_vec()));
        let mut all: Vec<ArrayRef> = vec![
            Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(rows())),
            Arc::new(LargeListArray::from_iter_primitive::<Int32Type, _, _>(rows())),
        ];
        if let Some(length) = fixed {
            all.push(Arc::new(
                FixedSizeListArray::from_iter_primitive::<Int32Type, _, _>(rows(), length),
            ));
        }
        all
    }

    fn length_error(ragged: Ragged) -> String {
        match ragged.fault {
            ListFault::Length(error) => error.to_string(),
            ListFault::Null => panic!("not null"),
        }
    }

    #[test]
    fn lists_of_one_length_become_an_axis_in_every_encoding_and_slice() {
        let lists: Lists = &[
            Some(&[Some(1), Some(2)]),
            Some(&[Some(3), None]),
            Some(&[Some(5), Some(6)]),
        ];
        for dim in [Dim::Fixed(2), Dim::Dynamic] {
            for column in encodings(lists, Some(2)) {
                let flat = flatten(&column.slice(1, 2), &[dim], false).unwrap().unwrap();
                assert_eq!(flat.extents, [2]);
                let items: Int32Array = flat.leaf.as_primitive::<Int32Type>().clone();
                assert_eq!(items, Int32Array::from(vec![Some(3), None, Some(5), Some(6)]));
            }
        }
    }

    #[test]
    fn lists_of_other_lengths_are_named_with_both_lengths_and_the_row() {
        let lists: Lists = &[Some(&[Some(1)]), Some(&[Some(2)]), Some(&[Some(3), Some(4)])];
        for column in encodings(lists, None) {
            let ragged = flatten(&column, &[Dim::Dynamic], false).unwrap().unwrap_err();
            assert_eq!(ragged.row, 2);
            assert!(length_error(ragged).contains("length 2 after one of length 1"));
            let ragged = flatten(&column.slice(1, 2), &[Dim::Fixed(2)], false)
                .unwrap()
                .unwrap_err();
            assert_eq!(ragged.row, 0);
            assert!(length_error(ragged).contains("length 1 where the model takes 2"));
        }
    }

    #[test]
    fn a_null_list_becomes_nulls_only_where_its_length_is_declared() {
        let lists: Lists = &[None, Some(&[Some(3), Some(4)])];
        for column in encodings(lists, Some(2)) {
            let flat = flatten(&column, &[Dim::Fixed(2)], true).unwrap().unwrap();
            let items: Int32Array = flat.leaf.as_primitive::<Int32Type>().clone();
            assert_eq!(items, Int32Array::from(vec![None, None, Some(3), Some(4)]));
            assert_eq!(
                flatten(&column, &[Dim::Fixed(2)], false)
                    .unwrap()
                    .unwrap_err()
                    .row,
                0
            );
        }
        let open = &encodings(lists, None)[0];
        assert_eq!(flatten(open, &[Dim::Dynamic], true).unwrap().unwrap_err().row, 0);
    }

    #[test]
    fn no_rows_have_the_declared_extents() {
        let column = encodings(&[], None).remove(0);
        let flat = flatten(&column, &[Dim::Fixed(3)], false).unwrap().unwrap();
        assert_eq!((flat.extents, flat.leaf.len()), (vec![3], 0));
        let flat = flatten(&column, &[Dim::Dynamic], false).unwrap().unwrap();
        assert_eq!((flat.extents, flat.leaf.len()), (vec![0], 0));
    }
}
