//! The bytes of a chunk → blocks of rows, decoded on a worker thread.

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::{CastOptions, cast_with_options, concat_batches};
use arrow::datatypes::{Schema, SchemaRef};
use parquet::arrow::ProjectionMask;
use std::collections::VecDeque;
use std::sync::Arc;

use super::budget::too_large;
use super::decimals;
use super::group::{FetchedGroup, OpenGroup};
use super::limits::BLOCK_BYTES;
use crate::error::{Error, Result};
use crate::origin::{Origin, Stretch};

/// Rows decoded at once, in the input's schema, with their whereabouts.
#[derive(Clone, Debug)]
pub struct Block {
    /// The rows.
    pub rows: RecordBatch,
    /// Where they came from.
    pub origin: Origin,
}

/// The row group that is being decoded.
struct Current {
    group: OpenGroup,
    file: Arc<str>,
    row_group: usize,
    /// Rows the footer promised.
    rows: usize,
    /// Rows decoded so far.
    decoded: usize,
}

/// Decodes a fetched chunk block by block. Every block but the last has exactly `block_rows` rows.
pub struct ChunkReader {
    pieces: VecDeque<FetchedGroup>,
    current: Option<Box<Current>>,
    /// Rows decoded beyond the last block.
    pending: Option<Block>,
    schema: SchemaRef,
    block_rows: usize,
}

impl ChunkReader {
    pub(super) fn new(pieces: Vec<FetchedGroup>, schema: SchemaRef, block_rows: usize) -> Self {
        ChunkReader {
            pieces: pieces.into(),
            current: None,
            pending: None,
            schema,
            block_rows,
        }
    }

    /// The next block, or `None` at the end of the chunk.
    ///
    /// # Errors
    /// `Data`, naming file and row group, when pages are corrupt or hold other rows than the footer says.
    pub fn next_block(&mut self) -> Result<Option<Block>> {
        let mut parts: Vec<Block> = self.pending.take().into_iter().collect();
        let mut rows: usize = parts.iter().map(|part| part.rows.num_rows()).sum();
        let mut bytes = 0;
        while rows < self.block_rows {
            let Some(part) = self.next_part()? else { break };
            rows += part.rows.num_rows();
            bytes += part.rows.get_array_memory_size() as u64;
            // Each row group has a budget of its own; many small ones are joined.
            if !parts.is_empty() && bytes > BLOCK_BYTES {
                return Err(part.origin.at(too_large(bytes, BLOCK_BYTES)));
            }
            parts.push(part);
        }
        if parts.is_empty() {
            return Ok(None);
        }
        let mut block = join(parts, &self.schema)?;
        if rows > self.block_rows {
            let beyond = rows - self.block_rows;
            self.pending = Some(Block {
                rows: block.rows.slice(self.block_rows, beyond),
                origin: block.origin.slice(self.block_rows, beyond),
            });
            block = Block {
                rows: block.rows.slice(0, self.block_rows),
                origin: block.origin.slice(0, self.block_rows),
            };
        }
        Ok(Some(block))
    }

    /// The next rows of the current row group, in the input's schema.
    fn next_part(&mut self) -> Result<Option<Block>> {
        loop {
            let Some(current) = &mut self.current else {
                let Some(piece) = self.pieces.pop_front() else {
                    return Ok(None);
                };
                self.current = Some(Box::new(Current::open(piece, self.block_rows)?));
                continue;
            };
            match current.next(&self.schema) {
                Ok(Some(part)) => return Ok(Some(part)),
                Ok(None) => self.current = None,
                Err(error) => {
                    let error = error
                        .with("file", &current.file)
                        .with("row_group", current.row_group);
                    return Err(error.with("rows", format!("from {}", current.decoded)));
                }
            }
        }
    }
}

impl Current {
    fn open(piece: FetchedGroup, block_rows: usize) -> Result<Current> {
        let (file, row_group) = (piece.footer.file.clone(), piece.row_group);
        let rows = piece.footer.row_groups()[row_group].num_rows() as usize;
        // Room is made for so many rows; there may be fewer in all.
        let group = piece.open(ProjectionMask::all(), block_rows.min(rows.max(1)));
        Ok(Current {
            group: group.map_err(|error| error.with("file", &file).with("row_group", row_group))?,
            file,
            row_group,
            rows,
            decoded: 0,
        })
    }

    fn next(&mut self, schema: &SchemaRef) -> Result<Option<Block>> {
        let Some(rows) = self.group.next()? else {
            return match self.decoded == self.rows {
                true => Ok(None),
                false => Err(row_count(self.decoded, self.rows)),
            };
        };
        let origin = Origin::of(&self.file, self.row_group, self.decoded, rows.num_rows());
        if self.decoded + rows.num_rows() > self.rows {
            return Err(row_count(self.decoded + rows.num_rows(), self.rows));
        }
        self.decoded += rows.num_rows();
        for (field, column) in rows.schema_ref().fields().iter().zip(rows.columns()) {
            decimals::check(column, field.name(), &origin)?;
        }
        let rows = conform(rows, schema)?;
        Ok(Some(Block { rows, origin }))
    }
}

fn row_count(decoded: usize, promised: usize) -> Error {
    Error::data(format!(
        "the row group holds {decoded} rows or more where the footer says {promised}"
    ))
    .with_hint("the file is corrupt: write it again")
}

fn join(mut parts: Vec<Block>, schema: &SchemaRef) -> Result<Block> {
    if parts.len() == 1 {
        return Ok(parts.remove(0));
    }
    let mut origin = Origin::new();
    for part in &parts {
        for stretch in part.origin.stretches() {
            origin.push(Stretch::clone(stretch));
        }
    }
    let rows = concat_batches(schema, parts.iter().map(|part| &part.rows))
        .map_err(|error| origin.at(Error::data("can't join rows of small row groups").with_source(error)))?;
    Ok(Block { rows, origin })
}

/// The same rows with the columns of `schema`: found by name, widened where the plan says so.
pub(super) fn conform(rows: RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    if rows.schema_ref().fields() == schema.fields() {
        return rows
            .with_schema(schema.clone())
            .map_err(|error| Error::internal("equal schemas differ").with_source(error));
    }
    let strict = CastOptions {
        safe: false,
        ..Default::default()
    };
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let column = rows
            .column_by_name(field.name())
            .ok_or_else(|| Error::data("the file lacks the column").with("column", field.name()))?;
        let conformed = if column.data_type() == field.data_type() {
            column.clone()
        } else if column.null_count() == column.len() {
            new_null_array(field.data_type(), column.len())
        } else {
            cast_with_options(column, field.data_type(), &strict).map_err(|error| {
                Error::data(format!(
                    "can't read {} as {}",
                    column.data_type(),
                    field.data_type()
                ))
                .with("column", field.name())
                .with_source(error)
            })?
        };
        columns.push(conformed);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options)
        .map_err(|error| Error::data("the file's rows do not fit the plan's schema").with_source(error))
}

/// A schema without the metadata of the file it came from.
pub fn plain(schema: &Schema) -> SchemaRef {
    Arc::new(Schema::new(schema.fields().clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Array, Int32Array, Int64Array, StringArray};
    use arrow::datatypes::{DataType, Field};

    /// Failure matrix: 27, 28.
    #[test]
    fn rows_are_conformed_by_name_and_widened() {
        let file = Arc::new(Schema::new(vec![
            Field::new("b", DataType::Utf8, true),
            Field::new("a", DataType::Int32, false),
        ]));
        let rows = RecordBatch::try_new(
            file,
            vec![
                Arc::new(StringArray::from(vec!["x", "y"])),
                Arc::new(Int32Array::from(vec![1, 2])),
            ],
        )
        .unwrap();
        let wanted = Arc::new(Schema::new(vec![
            Field::new("a", DataType::Int64, true),
            Field::new("b", DataType::Utf8, true),
        ]));
        let conformed = conform(rows, &wanted).unwrap();
        let a: &Int64Array = conformed.column(0).as_any().downcast_ref().unwrap();
        assert_eq!(a.values(), &[1, 2]);
        assert_eq!(conformed.schema(), wanted);
    }
}
