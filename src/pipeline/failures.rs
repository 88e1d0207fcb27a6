//! Rows of a block that failed alone: they end the job, or have nulls where the others have predictions.

use arrow::array::{Array, ArrayRef, StringArray, UInt64Array, new_null_array};
use arrow::compute::take;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result, ResultExt};
use crate::origin::{Origin, RowError};
use crate::tensor::Value;
use crate::write::columns::{self, OutputColumn, ROW_ERRORS};

/// The rows of a block that failed.
pub(super) struct Failures {
    /// Whether they may.
    allowed: bool,
    /// Why, by their index in the block.
    rows: BTreeMap<usize, String>,
}

impl Failures {
    /// None yet; they may fail where there is a column to say so.
    pub(super) fn new(outputs: &[OutputColumn]) -> Failures {
        Failures {
            allowed: outputs.iter().any(|column| column.output == ROW_ERRORS),
            rows: BTreeMap::new(),
        }
    }

    /// Takes note of rows of the batch that begins at `start` of the block, at a step that was given the rows `given` of the
    /// batch and passed on those of them that are `kept`; `None` is all of them. Answers with where the rows that are passed
    /// on came from, and which of the batch they are.
    ///
    /// # Errors
    /// That of the first of them, with its place, unless they are allowed.
    pub(super) fn add(
        &mut self,
        start: usize,
        origin: &Origin,
        given: Option<Vec<usize>>,
        failed: Vec<RowError>,
        kept: Option<Vec<usize>>,
    ) -> Result<(Origin, Option<Vec<usize>>)> {
        let of_batch = |row: usize| match &given {
            Some(given) => given.get(row).copied(),
            None => Some(row),
        };
        let none = || Error::internal("a row failed that was not there");
        for RowError { row, error } in failed {
            let row = of_batch(row).ok_or_else(none)?;
            if !self.allowed {
                let way_out = "set input.on_row_error: null to go on with the other rows";
                let hint = match error.hint() {
                    Some(hint) => format!("{hint}; or {way_out}"),
                    None => way_out.to_string(),
                };
                return Err(at_row(origin, error, row).with_hint(hint));
            }
            self.rows.insert(start + row, text(&error));
        }
        let rest = match kept {
            Some(kept) => {
                let of_batch = kept.into_iter().map(of_batch);
                Some(of_batch.collect::<Option<Vec<_>>>().ok_or_else(none)?)
            }
            None => given,
        };
        let origin = match &rest {
            Some(rest) => origin.select(rest),
            None => origin.clone(),
        };
        Ok((origin, rest))
    }

    /// Takes in those of other rows of the block.
    pub(super) fn join(&mut self, others: Failures) {
        self.rows.extend(others.rows);
    }

    /// Where the values of the `rows` rows of the block stand among those that the model gave: nowhere for rows that failed,
    /// else in this `order`, or that of the rows. `None`, if each stands in its place.
    ///
    /// # Errors
    /// `Internal`, when an order names a row that is not there.
    pub(super) fn places(&self, rows: usize, order: Option<Vec<usize>>) -> Result<Option<UInt64Array>> {
        let Some(order) = order else {
            let mut next = 0..;
            let places = (0..rows).map(|row| match self.rows.contains_key(&row) {
                true => None,
                false => next.next(),
            });
            return Ok((!self.rows.is_empty()).then(|| places.collect()));
        };
        let mut places = vec![None; rows];
        for (place, row) in order.into_iter().enumerate() {
            let of_row = places.get_mut(row);
            *of_row.ok_or_else(|| Error::internal("a row was scored that is not there"))? =
                Some(place as u64);
        }
        Ok(Some(UInt64Array::from(places)))
    }

    /// The column of an output for the `rows` rows of the block; `value` has those that did not fail, at these
    /// [`places`](Self::places).
    ///
    /// # Errors
    /// `Model`, when a value is missing or of another type than planned.
    pub(super) fn array(
        &self,
        column: &OutputColumn,
        value: Option<Value>,
        rows: usize,
        places: Option<&UInt64Array>,
    ) -> Result<ArrayRef> {
        if column.output == ROW_ERRORS {
            let texts = (0..rows).map(|row| self.rows.get(&row));
            return Ok(Arc::new(StringArray::from_iter(texts)));
        }
        if self.rows.len() == rows && rows > 0 {
            return Ok(new_null_array(column.field.data_type(), rows));
        }
        let value =
            value.ok_or_else(|| Error::model(format!("the model returned no {}", column.field.name())))?;
        let array = columns::to_array(value, &column.field)?;
        let Some(places) = places else {
            return Ok(array);
        };
        if rows - places.null_count() != array.len() || places.null_count() != self.rows.len() {
            return Err(Error::model(format!(
                "the model returned {} rows of {}, and {rows} less {} are expected",
                array.len(),
                column.field.name(),
                self.rows.len()
            )));
        }
        take(&array, places, None).context(ErrorKind::Internal, "can't put a model's outputs in their places")
    }
}

fn at_row(origin: &Origin, error: Error, row: usize) -> Error {
    match error.context().iter().any(|(key, _)| *key == "row") {
        true => error,
        false => origin.at_row(error, row),
    }
}

/// What is wrong, and with which column; where the row came from is known to whoever reads the column.
fn text(error: &Error) -> String {
    let column = error.context().iter().find(|(key, _)| *key == "column");
    match column {
        Some((_, column)) => format!("{} (column {column})", error.message()),
        None => error.message().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::tensor::Tensor;
    use arrow::array::AsArray;
    use arrow::datatypes::{DataType, Field, Int64Type};

    fn column(output: usize, data_type: DataType) -> OutputColumn {
        OutputColumn {
            output,
            field: Arc::new(Field::new("c", data_type, true)),
        }
    }

    fn failed(row: usize, what: &str) -> RowError {
        RowError {
            row,
            error: Error::data(what.to_string()).with("column", "image"),
        }
    }

    #[test]
    fn nulls_stand_where_rows_failed_whoever_failed_them() {
        let columns = [column(0, DataType::Int64), column(ROW_ERRORS, DataType::Utf8)];
        let mut failures = Failures::new(&columns);
        let origin = Origin::of(&"a.parquet".into(), 0, 10, 4);
        // Row 1 could not be decoded; the model saw rows 0, 2 and 3 of the batch and failed on its second.
        let (_, kept) = failures.add(2, &origin, None, vec![], None).unwrap();
        let (rest, kept) = failures
            .add(2, &origin, kept, vec![failed(1, "null")], Some(vec![0, 2, 3]))
            .unwrap();
        assert_eq!(rest.stretches()[1].first_row, 12);
        failures
            .add(2, &origin, kept, vec![failed(1, "no image")], None)
            .unwrap();
        let value = Value::Tensor(Tensor::new(vec![4], vec![7i64, 8, 9, 10]).unwrap());
        let places = failures.places(6, None).unwrap();
        let numbers = failures.array(&columns[0], Some(value), 6, places.as_ref());
        let numbers = numbers.unwrap();
        let numbers: Vec<_> = numbers.as_primitive::<Int64Type>().iter().collect();
        assert_eq!(numbers, [Some(7), Some(8), Some(9), None, None, Some(10)]);
        let texts = failures.array(&columns[1], None, 6, None).unwrap();
        let texts: Vec<_> = texts.as_string::<i32>().iter().flatten().collect();
        assert_eq!(texts, ["null (column image)", "no image (column image)"]);
        // Fewer values than rows that did not fail are never spread over the wrong ones.
        let few = Value::Tensor(Tensor::new(vec![3], vec![7i64, 8, 9]).unwrap());
        assert!(
            failures
                .array(&columns[0], Some(few), 6, places.as_ref())
                .is_err()
        );
    }

    #[test]
    fn values_in_an_order_of_their_own_come_back_to_their_rows() {
        let column = column(0, DataType::Int64);
        let mut failures = Failures::new(std::slice::from_ref(&column));
        let values = || Some(Value::Tensor(Tensor::new(vec![3], vec![20i64, 0, 30]).unwrap()));
        let array = |failures: &Failures, order: &[usize]| {
            let places = failures.places(4, Some(order.to_vec()))?;
            let array = failures.array(&column, values(), 4, places.as_ref())?;
            Ok::<_, Error>(array.as_primitive::<Int64Type>().iter().collect::<Vec<_>>())
        };
        // A row that is not scored and did not fail is never made up for.
        assert!(array(&failures, &[2, 0, 3]).is_err());
        failures.rows.insert(1, "no text".into());
        assert_eq!(
            array(&failures, &[2, 0, 3]).unwrap(),
            [Some(0), None, Some(20), Some(30)]
        );
        for wrong in [&[2, 0][..], &[2, 0, 0], &[2, 0, 4]] {
            assert!(array(&failures, wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_block_without_a_good_row_is_all_null() {
        let columns = [column(0, DataType::Int64), column(ROW_ERRORS, DataType::Utf8)];
        let mut failures = Failures::new(&columns);
        let origin = Origin::of(&"a.parquet".into(), 0, 0, 1);
        failures
            .add(0, &origin, None, vec![failed(0, "x")], Some(vec![]))
            .unwrap();
        assert_eq!(
            failures.array(&columns[0], None, 1, None).unwrap().null_count(),
            1
        );
    }

    #[test]
    fn where_rows_may_not_fail_the_first_that_does_ends_the_job_with_its_place() {
        let mut failures = Failures::new(&[column(0, DataType::Int64)]);
        let origin = Origin::of(&"a.parquet".into(), 3, 100, 9);
        let error = failures
            .add(
                0,
                &origin,
                Some(vec![1, 4, 5]),
                vec![failed(1, "first"), failed(2, "later")],
                None,
            )
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data);
        let text = error.to_string();
        for words in [
            "first",
            "file a.parquet",
            "row group 3",
            "row 104",
            "column image",
            "on_row_error: null",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
    }
}
