//! Rows of a joined column as an Arrow array, for those who need its values.

use arrow::array::{
    ArrayData, ArrayRef, BooleanArray, GenericBinaryArray, GenericStringArray, OffsetSizeTrait, make_array,
};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{ArrowNativeType, DataType, TimeUnit};
use parquet::basic::{LogicalType, TimeUnit as ParquetUnit, Type as Physical};
use parquet::schema::types::ColumnDescriptor;
use std::sync::Arc;

use super::pages::{Values, of_any};
use super::values::{Arena, COLUMN_BYTES, Growing, Numbers, Texts};
use crate::error::{Error, Result};

/// Whether arrays of `data_type` can be made of the values of a column, bit by bit.
pub(super) fn is_made_of(data_type: &DataType, column: &ColumnDescriptor) -> bool {
    use DataType::*;
    match (data_type, column.physical_type()) {
        (Boolean, Physical::BOOLEAN)
        | (Int32 | UInt32 | Date32, Physical::INT32)
        | (Int64 | UInt64, Physical::INT64)
        | (Float32, Physical::FLOAT)
        | (Float64, Physical::DOUBLE)
        | (Utf8 | LargeUtf8 | Binary | LargeBinary, Physical::BYTE_ARRAY) => true,
        (Timestamp(unit, _), Physical::INT64) => match column.logical_type_ref() {
            Some(LogicalType::Timestamp(theirs)) => matches!(
                (unit, &theirs.unit),
                (TimeUnit::Millisecond, ParquetUnit::MILLIS)
                    | (TimeUnit::Microsecond, ParquetUnit::MICROS)
                    | (TimeUnit::Nanosecond, ParquetUnit::NANOS)
            ),
            _ => false,
        },
        _ => false,
    }
}

/// A joined column whose rows are given one stretch after the other.
pub(super) struct Given {
    values: Values,
    nulls: Option<NullBuffer>,
    rows: usize,
    /// Values of rows that were given.
    taken: usize,
}

impl Given {
    /// `None`: its texts become too large.
    pub fn new(values: Values, nulls: Option<NullBuffer>) -> Option<Given> {
        if let Values::Texts(texts) = &values
            && text_bytes(texts, 0..texts.len()) > COLUMN_BYTES
        {
            return None;
        }
        Some(Given {
            values,
            nulls,
            rows: 0,
            taken: 0,
        })
    }

    /// Bytes of all rows as arrays, or more.
    pub fn bytes(&self) -> usize {
        let texts = match &self.values {
            Values::Texts(texts) => text_bytes(texts, 0..texts.len()),
            _ => 0,
        };
        let rows = self.nulls.as_ref().map_or(0, NullBuffer::len);
        of_any!(&self.values, growing => growing.bytes().max(growing.len().max(rows) * 8)) + texts
    }

    /// The next `rows` rows.
    pub fn next(&mut self, data_type: &DataType, rows: usize) -> Result<ArrayRef> {
        let nulls = self.nulls.as_ref().map(|nulls| nulls.slice(self.rows, rows));
        let nulls = nulls.filter(|nulls| nulls.null_count() > 0);
        let present = rows - nulls.as_ref().map_or(0, NullBuffer::null_count);
        let (first, fault) = (self.taken, |_| {
            Error::internal("rows that were joined make no column")
        });
        self.rows += rows;
        self.taken += present;
        let places = first..first + present;
        Ok(match &self.values {
            Values::Narrow(numbers) => primitive(numbers, places, nulls, data_type, rows).map_err(fault)?,
            Values::Wide(numbers) => primitive(numbers, places, nulls, data_type, rows).map_err(fault)?,
            Values::Bits(bits) => {
                let mut values = bits.words.0[places].iter();
                let set: BooleanBuffer = match &nulls {
                    None => values.copied().collect(),
                    Some(nulls) => nulls
                        .iter()
                        .map(|is_valid| is_valid && *values.next().unwrap_or(&false))
                        .collect(),
                };
                Arc::new(BooleanArray::new(set, nulls))
            }
            Values::Texts(texts) => match data_type {
                DataType::Utf8 => {
                    let (offsets, bytes) = gathered::<i32>(texts, places, nulls.as_ref(), rows);
                    Arc::new(GenericStringArray::try_new(offsets, bytes, nulls).map_err(fault)?)
                }
                DataType::LargeUtf8 => {
                    let (offsets, bytes) = gathered::<i64>(texts, places, nulls.as_ref(), rows);
                    Arc::new(GenericStringArray::try_new(offsets, bytes, nulls).map_err(fault)?)
                }
                DataType::LargeBinary => {
                    let (offsets, bytes) = gathered::<i64>(texts, places, nulls.as_ref(), rows);
                    Arc::new(GenericBinaryArray::try_new(offsets, bytes, nulls).map_err(fault)?)
                }
                _ => {
                    let (offsets, bytes) = gathered::<i32>(texts, places, nulls.as_ref(), rows);
                    Arc::new(GenericBinaryArray::try_new(offsets, bytes, nulls).map_err(fault)?)
                }
            },
        })
    }
}

/// Bytes of some of the texts.
fn text_bytes(texts: &Growing<Texts>, places: std::ops::Range<usize>) -> usize {
    let most = places.len().saturating_mul(texts.words.longest());
    if most <= COLUMN_BYTES {
        return most;
    }
    let length = |at: usize| texts.words.get(at).len();
    match &texts.indices {
        Some(indices) => indices[places].iter().map(|at| length(*at as usize)).sum(),
        None => places.map(length).sum(),
    }
}

fn primitive<T>(
    numbers: &Growing<Numbers<T>>,
    places: std::ops::Range<usize>,
    nulls: Option<NullBuffer>,
    data_type: &DataType,
    rows: usize,
) -> std::result::Result<ArrayRef, arrow::error::ArrowError>
where
    T: ArrowNativeType,
    Numbers<T>: Arena,
{
    let words = &numbers.words.0;
    let present: Vec<T> = match &numbers.indices {
        Some(indices) => indices[places].iter().map(|at| words[*at as usize]).collect(),
        None => words[places].to_vec(),
    };
    let all = match &nulls {
        None => present,
        Some(nulls) => {
            let mut values = present.into_iter();
            nulls
                .iter()
                .map(|is_valid| match is_valid {
                    true => values.next().unwrap_or_default(),
                    false => T::default(),
                })
                .collect()
        }
    };
    let data = ArrayData::builder(data_type.clone())
        .len(rows)
        .add_buffer(Buffer::from_vec(all))
        .nulls(nulls);
    Ok(make_array(data.build()?))
}

fn gathered<O: OffsetSizeTrait>(
    texts: &Growing<Texts>,
    mut places: std::ops::Range<usize>,
    nulls: Option<&NullBuffer>,
    rows: usize,
) -> (OffsetBuffer<O>, Buffer) {
    let mut offsets = Vec::with_capacity(rows + 1);
    let mut bytes = Vec::with_capacity(text_bytes(texts, places.clone()));
    offsets.push(O::usize_as(0));
    for row in 0..rows {
        if nulls.is_none_or(|nulls| nulls.is_valid(row))
            && let Some(place) = places.next()
        {
            let word = texts
                .indices
                .as_ref()
                .map_or(place, |indices| indices[place] as usize);
            bytes.extend_from_slice(texts.words.get(word));
        }
        offsets.push(O::usize_as(bytes.len()));
    }
    let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
    (offsets, Buffer::from_vec(bytes))
}
