//! Columns whose rows are lists of records: words with scores, entities, answers.

use super::labels::offsets;
use crate::error::Result;
use crate::tensor::{Items, Lists, TensorData, Value};

/// The records of all rows, field by field.
pub struct Records<'a, T> {
    offsets: Vec<usize>,
    all: Vec<&'a T>,
}

impl<'a, T> Records<'a, T> {
    /// Those of `rows`, a list for each.
    pub fn of(rows: &'a [Vec<T>]) -> Records<'a, T> {
        Records {
            offsets: offsets(rows.iter().map(Vec::len)),
            all: rows.iter().flatten().collect(),
        }
    }

    /// A field of texts.
    pub fn texts(&self, field: impl Fn(&T) -> &String) -> TensorData {
        self.all
            .iter()
            .map(|one| field(one).clone())
            .collect::<Vec<_>>()
            .into()
    }

    /// A field of numbers.
    pub fn numbers(&self, field: impl Fn(&T) -> f64) -> TensorData {
        self.all.iter().map(|one| field(one)).collect::<Vec<_>>().into()
    }

    /// A field of counts and ids.
    pub fn counts(&self, field: impl Fn(&T) -> usize) -> TensorData {
        self.all
            .iter()
            .map(|one| field(one) as i64)
            .collect::<Vec<_>>()
            .into()
    }

    /// The column of these fields.
    ///
    /// # Errors
    /// None that records could have.
    pub fn column(self, fields: Vec<TensorData>) -> Result<Value> {
        Ok(Value::Lists(Lists::new(self.offsets, Items::Records(fields))?))
    }
}
