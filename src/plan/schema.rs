//! One schema for all files of the input, or the first file that does not fit and why.
//!
//! Columns are matched by name, never by position. A type may widen where nothing is lost; anything else is drift
//! and ends the job before the first batch.

use arrow::datatypes::{DataType, Field, Schema};
use std::collections::{HashMap, HashSet};

use crate::error::{Error, Result};

/// The input's schema, grown file by file.
#[derive(Clone, Debug)]
pub struct InputSchema {
    first_file: String,
    fields: Vec<Field>,
    position: HashMap<String, usize>,
}

impl InputSchema {
    /// The schema of the first file.
    ///
    /// # Errors
    /// `Data` when two columns have the same name.
    pub fn of(file: &str, schema: &Schema) -> Result<InputSchema> {
        let mut position = HashMap::new();
        for (index, field) in schema.fields().iter().enumerate() {
            if position.insert(field.name().clone(), index).is_some() {
                return Err(Error::data("two columns have the same name")
                    .with("column", field.name())
                    .with("file", file)
                    .with_hint("rename one of them where the file is written"));
            }
        }
        let plain = |field: &std::sync::Arc<Field>| {
            Field::clone(field).with_metadata(HashMap::<String, String>::new())
        };
        Ok(InputSchema {
            first_file: file.to_string(),
            fields: schema.fields().iter().map(plain).collect(),
            position,
        })
    }

    /// Checks another file against the schema, widening it where that loses nothing.
    ///
    /// # Errors
    /// `Data` naming the file, the column and the difference.
    pub fn merge(&mut self, file: &str, schema: &Schema) -> Result<()> {
        let mut seen = HashSet::new();
        for field in schema.fields() {
            let Some(&index) = self.position.get(field.name()) else {
                return Err(self.drift(file, field.name(), "has a column that the first file lacks"));
            };
            if !seen.insert(index) {
                return Err(self.drift(file, field.name(), "has two columns of the same name"));
            }
            let known = &mut self.fields[index];
            if known.data_type() != field.data_type() {
                let Some(wider) = widen(known.data_type(), field.data_type()) else {
                    let (has, knows) = (field.data_type().clone(), known.data_type().clone());
                    let what = format!("has type {has} where the first file has {knows}");
                    return Err(self.drift(file, field.name(), &what));
                };
                known.set_data_type(wider);
            }
            if field.is_nullable() {
                known.set_nullable(true);
            }
        }
        if let Some(missing) = (0..self.fields.len()).find(|index| !seen.contains(index)) {
            let name = self.fields[missing].name().clone();
            return Err(self.drift(file, &name, "lacks a column that the first file has"));
        }
        Ok(())
    }

    /// The schema that every file can be read as.
    pub fn finish(self) -> Schema {
        Schema::new(self.fields)
    }

    fn drift(&self, file: &str, column: &str, what: &str) -> Error {
        Error::data(format!("files of the input differ: this one {what}"))
            .with("file", file)
            .with("column", column)
            .with("first_file", &self.first_file)
            .with_hint("score them as separate jobs (input.file_pattern), or write them with one schema")
    }
}

/// The narrowest type that holds every value of both, where reading as it loses nothing.
fn widen(a: &DataType, b: &DataType) -> Option<DataType> {
    one_way(a, b).or_else(|| one_way(b, a))
}

/// `Some(to)` when every value of `from` is a value of `to`.
fn one_way(from: &DataType, to: &DataType) -> Option<DataType> {
    use DataType as D;
    let fits = match (from, to) {
        (D::Null, _) => true,
        (D::Int8, D::Int16 | D::Int32 | D::Int64)
        | (D::Int16, D::Int32 | D::Int64)
        | (D::Int32, D::Int64)
        | (D::UInt8, D::UInt16 | D::UInt32 | D::UInt64 | D::Int16 | D::Int32 | D::Int64)
        | (D::UInt16, D::UInt32 | D::UInt64 | D::Int32 | D::Int64)
        | (D::UInt32, D::UInt64 | D::Int64)
        | (D::Float16, D::Float32 | D::Float64)
        | (D::Float32, D::Float64)
        | (D::Int8 | D::Int16 | D::Int32, D::Float64)
        | (D::Utf8 | D::Utf8View, D::LargeUtf8)
        | (D::Utf8View, D::Utf8)
        | (D::Binary | D::BinaryView, D::LargeBinary)
        | (D::BinaryView, D::Binary) => true,
        (D::Dictionary(_, value), to) => **value == *to,
        (D::Decimal128(p, s), D::Decimal128(wider, scale)) => s == scale && p <= wider,
        (D::Timestamp(unit, zone), D::Timestamp(finer, other)) => unit <= finer && zone == other,
        (D::List(item), D::LargeList(other)) => item.data_type() == other.data_type(),
        _ => false,
    };
    fits.then(|| to.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::TimeUnit;

    fn schema(columns: &[(&str, DataType)]) -> Schema {
        let field = |(name, data_type): &(&str, DataType)| Field::new(*name, data_type.clone(), false);
        Schema::new(columns.iter().map(field).collect::<Vec<_>>())
    }

    fn merged(first: &[(&str, DataType)], second: &[(&str, DataType)]) -> Result<Schema> {
        let mut input = InputSchema::of("a.parquet", &schema(first))?;
        input.merge("b.parquet", &schema(second))?;
        Ok(input.finish())
    }

    /// Failure matrix: 28.
    #[test]
    fn columns_may_come_in_another_order() {
        let (x, y) = (("x", DataType::Int32), ("y", DataType::Utf8));
        let schema = merged(&[x.clone(), y.clone()], &[y, x]).unwrap();
        assert_eq!(schema.field(0).name(), "x");
    }

    /// Failure matrix: 27.
    #[test]
    fn types_widen_only_where_nothing_is_lost() {
        use DataType as D;
        let dictionary = D::Dictionary(Box::new(D::Int32), Box::new(D::Utf8));
        let micros = D::Timestamp(TimeUnit::Microsecond, None);
        let nanos = D::Timestamp(TimeUnit::Nanosecond, None);
        let cases = [
            (D::Int32, D::Int64, Some(D::Int64)),
            (D::Int64, D::Int8, Some(D::Int64)),
            (D::Utf8, D::LargeUtf8, Some(D::LargeUtf8)),
            (dictionary, D::Utf8, Some(D::Utf8)),
            (D::Float32, D::Float64, Some(D::Float64)),
            (D::Null, D::Date32, Some(D::Date32)),
            (micros, nanos.clone(), Some(nanos)),
            (
                D::Decimal128(10, 2),
                D::Decimal128(12, 2),
                Some(D::Decimal128(12, 2)),
            ),
            (D::Decimal128(10, 2), D::Decimal128(12, 3), None),
            (D::Int64, D::Float64, None),
            (D::UInt64, D::Int64, None),
            (D::Utf8, D::Int64, None),
        ];
        for (a, b, expected) in cases {
            let got = merged(&[("x", a.clone())], &[("x", b.clone())]);
            let got = got.ok().map(|schema| schema.field(0).data_type().clone());
            assert_eq!(got, expected, "{a} with {b}");
        }
    }

    /// Failure matrix: 26, 28.
    #[test]
    fn drift_names_file_column_and_difference() {
        let one = [("x", DataType::Int32)];
        let two = [("x", DataType::Int32), ("y", DataType::Utf8)];
        let cases = [
            (
                merged(&one, &two),
                "has a column that the first file lacks (file b.parquet, column y",
            ),
            (
                merged(&two, &one),
                "lacks a column that the first file has (file b.parquet, column y",
            ),
            (
                merged(&one, &[("x", DataType::Utf8)]),
                "has type Utf8 where the first file has Int32 (file b.parquet, column x",
            ),
        ];
        for (result, expected) in cases {
            let text = result.unwrap_err().to_string();
            assert!(text.contains(expected), "{text}");
        }
    }

    /// Failure matrix: 29.
    #[test]
    fn duplicate_names_are_refused() {
        let error = InputSchema::of("a", &schema(&[("x", DataType::Int8), ("x", DataType::Int8)]));
        assert!(error.unwrap_err().to_string().contains("same name"));
    }
}
