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
use super::joined::{self, Joined, Joining};
use super::layout::Chunk;
use super::limits::BLOCK_BYTES;
use super::selection::{Columns, Selection};
use super::splicing::sort_out;
use crate::error::{Error, Result};
use crate::origin::{Origin, Stretch};
use crate::write::Form;
use crate::write::splice::{Origins, Spliced};

/// Rows decoded at once, with their whereabouts: of the input's columns those that somebody needs.
#[derive(Clone, Debug)]
pub struct Block {
    /// The rows.
    pub rows: RecordBatch,
    /// What their columns are.
    pub columns: Arc<Decoded>,
    /// Where they came from.
    pub origin: Origin,
}

/// The columns of a chunk that are decoded; positions in the plan's schema, in order.
#[derive(Debug, PartialEq, Eq)]
pub struct Decoded {
    /// All of them.
    pub columns: Vec<usize>,
    /// Those that are not copied, so that they must be encoded again.
    pub rewritten: Vec<usize>,
}

impl Block {
    /// The rows with only the columns at the positions `columns` of the plan's schema, in this order.
    ///
    /// # Errors
    /// `Internal`, when one of them was not decoded.
    pub fn project(&self, columns: &[usize]) -> Result<RecordBatch> {
        if columns == self.columns.columns {
            return Ok(self.rows.clone());
        }
        let place = |column: &usize| self.columns.columns.binary_search(column);
        let places: std::result::Result<Vec<usize>, usize> = columns.iter().map(place).collect();
        let places = places.map_err(|_| Error::internal("a column is needed that was not decoded"))?;
        let projected = self.rows.project(&places);
        projected.map_err(|error| Error::internal("columns can't be taken from a block").with_source(error))
    }

    /// The rows from the one at `first`, if there are any.
    fn from(self, first: usize) -> Option<Block> {
        match self.rows.num_rows() - first {
            0 => None,
            _ if first == 0 => Some(self),
            rows => Some(Block {
                rows: self.rows.slice(first, rows),
                columns: self.columns,
                origin: self.origin.slice(first, rows),
            }),
        }
    }
}

/// The row group that is being decoded, or a run of small ones.
struct Current {
    group: OpenGroup,
    /// The rows that footers promised.
    origin: Origin,
    /// How many.
    rows: usize,
    /// Rows decoded so far.
    decoded: usize,
    /// Of them, rows that were as they should be.
    given: usize,
    /// The row groups of a run: after an error they are decoded one by one, which says which of them it was.
    run: Vec<FetchedGroup>,
}

/// Decodes a fetched chunk block by block. Every block but the last has exactly as many rows as `block_rows` says.
pub struct ChunkReader {
    pieces: VecDeque<FetchedGroup>,
    current: Option<Box<Current>>,
    /// Whether small row groups may be decoded together.
    runs: bool,
    /// How their columns may be joined, until the first block is read.
    joining: Option<Box<Joining>>,
    /// The columns that were.
    joined: Option<Box<WithJoined>>,
    /// The columns of a row group that are decoded.
    mask: ProjectionMask,
    /// Rows that a run gave before it failed: they come again.
    skip: usize,
    /// Rows decoded beyond the last block.
    pending: Option<Block>,
    /// Of the columns that are decoded.
    schema: SchemaRef,
    block_rows: usize,
    decoded: Arc<Decoded>,
    /// What may be copied, until the row group is opened.
    splicing: Option<Box<Splicing>>,
    spliced: Spliced,
}

/// What is known of a chunk whose columns may be copied.
struct Splicing {
    columns: Columns,
    origins: Arc<Origins>,
    form: Arc<Form>,
    /// The plan's schema.
    schema: SchemaRef,
}

/// Columns that were joined, and where their rows came from.
struct WithJoined {
    columns: Joined,
    origin: Origin,
    /// Rows that were given.
    given: usize,
}

impl ChunkReader {
    pub(super) fn new(pieces: Vec<FetchedGroup>, chunk: &Chunk, selection: &Selection) -> Self {
        let all: Vec<usize> = (0..selection.schema.fields().len()).collect();
        let splicing = match (&chunk.origins, &selection.splicing) {
            (Some(origins), Some((form, _))) => Some(Box::new(Splicing {
                columns: chunk.columns.clone(),
                origins: origins.clone(),
                form: form.clone(),
                schema: selection.schema.clone(),
            })),
            _ => None,
        };
        ChunkReader {
            runs: pieces.len() > 1,
            joining: joining(&pieces, selection),
            joined: None,
            mask: ProjectionMask::all(),
            skip: 0,
            pieces: pieces.into(),
            current: None,
            pending: None,
            schema: selection.schema.clone(),
            block_rows: chunk.block_rows,
            decoded: Arc::new(Decoded {
                columns: all.clone(),
                rewritten: all,
            }),
            splicing,
            spliced: Spliced::default(),
        }
    }

    /// The columns that are not decoded to be encoded again but copied: known once a block has been read.
    pub fn take_spliced(&mut self) -> Spliced {
        std::mem::take(&mut self.spliced)
    }

    /// The next block, or `None` at the end of the chunk.
    ///
    /// # Errors
    /// `Data`, naming file and row group, when pages are corrupt or hold other rows than the footer says.
    pub fn next_block(&mut self) -> Result<Option<Block>> {
        if let Some(joining) = self.joining.take() {
            self.join(&joining)?;
        }
        let Some(mut joined) = self.joined.take() else {
            return self.next_decoded();
        };
        let block = self.next_joined(&mut joined);
        self.joined = Some(joined);
        block
    }

    /// Joins what can be joined of the columns, before any of them is decoded.
    fn join(&mut self, joining: &Joining) -> Result<()> {
        let Some(mut columns) = joining.join(self.pieces.make_contiguous()) else {
            return Ok(());
        };
        self.spliced = std::mem::take(&mut columns.spliced);
        let roots = columns
            .rest
            .iter()
            .filter_map(|column| joining.origins.roots[*column]);
        if let Some(first) = self.pieces.front() {
            self.mask = ProjectionMask::roots(first.footer.metadata().parquet_schema(), roots);
        }
        let origin = origin_of(&self.pieces);
        self.schema = joined::project(&joining.schema, &columns.rest)?;
        self.decoded = Arc::new(Decoded {
            columns: columns.rest.clone(),
            rewritten: columns.rest.clone(),
        });
        if columns.rest.is_empty() {
            self.pieces.clear();
        }
        self.joined = Some(Box::new(WithJoined {
            columns,
            origin,
            given: 0,
        }));
        Ok(())
    }

    fn next_joined(&mut self, joined: &mut WithJoined) -> Result<Option<Block>> {
        let others = match joined.columns.rest.is_empty() {
            true => None,
            false => match self.next_decoded()? {
                None => return Ok(None),
                others => others,
            },
        };
        let rows = match &others {
            Some(others) => others.rows.num_rows(),
            None => self.block_rows.min(joined.origin.rows() - joined.given),
        };
        if rows == 0 {
            return Ok(None);
        }
        let origin = joined.origin.slice(joined.given, rows);
        joined.given += rows;
        let rows = joined
            .columns
            .block(rows, others.as_ref().map(|others| &others.rows));
        Ok(Some(Block {
            rows: rows.map_err(|error| in_row_group(error, &origin))?,
            columns: joined.columns.decoded.clone(),
            origin,
        }))
    }

    fn next_decoded(&mut self) -> Result<Option<Block>> {
        let mut parts: Vec<Block> = self.pending.take().into_iter().collect();
        let mut rows: usize = parts.iter().map(|part| part.rows.num_rows()).sum();
        let mut bytes = 0;
        let wanted = self.block_rows;
        while rows < wanted {
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
        if rows > wanted {
            let beyond = rows - wanted;
            self.pending = Some(Block {
                rows: block.rows.slice(wanted, beyond),
                columns: block.columns.clone(),
                origin: block.origin.slice(wanted, beyond),
            });
            block = Block {
                rows: block.rows.slice(0, wanted),
                columns: block.columns,
                origin: block.origin.slice(0, wanted),
            };
        }
        Ok(Some(block))
    }

    /// The next rows of the current row group, in the input's schema.
    fn next_part(&mut self) -> Result<Option<Block>> {
        loop {
            let Some(current) = &mut self.current else {
                if self.pieces.is_empty() {
                    return Ok(None);
                }
                self.open()?;
                continue;
            };
            match current.next(&self.schema, &self.decoded) {
                Ok(Some(part)) => {
                    current.given += part.rows.num_rows();
                    let again = self.skip.min(part.rows.num_rows());
                    self.skip -= again;
                    if let Some(part) = part.from(again) {
                        return Ok(Some(part));
                    }
                }
                Ok(None) => self.current = None,
                Err(_) if !current.run.is_empty() => self.give_up_run(),
                Err(error) => {
                    let error = in_row_group(error, &current.origin);
                    return Err(error.with("rows", format!("from {}", current.decoded)));
                }
            }
        }
    }
}

impl ChunkReader {
    /// Opens the next row group; all that are left, if they can be decoded together.
    fn open(&mut self) -> Result<()> {
        if self.runs && self.open_run() {
            return Ok(());
        }
        self.runs = false;
        let Some(piece) = self.pieces.pop_front() else {
            return Ok(());
        };
        let origin = piece.origin();
        // Room is made for so many rows; there may be fewer in all.
        let step = self.step(origin.rows());
        let group = self.open_group(piece, step);
        let group = group.map_err(|error| in_row_group(error, &origin))?;
        self.current = Some(Box::new(Current::new(group, origin, Vec::new())));
        Ok(())
    }

    /// Rows of a row group that are decoded at once: those of the largest block, for which room is made.
    fn step(&self, rows: usize) -> usize {
        self.block_rows.min(rows.max(1))
    }

    /// Decodes the row groups of a run again, one by one, from the first row that has not been given.
    pub(super) fn give_up_run(&mut self) {
        self.runs = false;
        if let Some(current) = self.current.take() {
            self.skip = current.given;
            self.pieces = current.run.into();
        }
    }

    #[cfg(test)]
    pub(super) fn set_block_rows(&mut self, rows: usize) {
        self.block_rows = rows;
    }

    #[cfg(test)]
    pub(super) fn is_in_a_run(&self) -> bool {
        self.current
            .as_ref()
            .is_some_and(|current| !current.run.is_empty())
    }

    fn open_run(&mut self) -> bool {
        let origin = origin_of(&self.pieces);
        let step = self.step(origin.rows());
        let Ok(Some(group)) = FetchedGroup::open_run(self.pieces.make_contiguous(), &self.mask, step) else {
            return false;
        };
        let run = std::mem::take(&mut self.pieces).into();
        self.current = Some(Box::new(Current::new(group, origin, run)));
        true
    }

    fn open_group(&mut self, piece: FetchedGroup, step: usize) -> Result<OpenGroup> {
        let headers = piece.headers()?;
        let Some(splicing) = self.splicing.take() else {
            return piece.open(headers, self.mask.clone(), step);
        };
        let Splicing {
            columns,
            origins,
            form,
            schema,
        } = *splicing;
        let sorted = sort_out(&piece, &headers, &columns, &origins, &form)?;
        let roots = sorted.decoded.iter().filter_map(|column| origins.roots[*column]);
        let mask = ProjectionMask::roots(piece.footer.metadata().parquet_schema(), roots);
        self.schema = joined::project(&schema, &sorted.decoded)?;
        self.spliced = sorted.spliced;
        self.decoded = Arc::new(Decoded {
            columns: sorted.decoded,
            rewritten: sorted.rewritten,
        });
        piece.open(headers, mask, step)
    }
}

impl Current {
    fn new(group: OpenGroup, origin: Origin, run: Vec<FetchedGroup>) -> Current {
        Current {
            group,
            rows: origin.rows(),
            origin,
            decoded: 0,
            given: 0,
            run,
        }
    }

    fn next(&mut self, schema: &SchemaRef, columns: &Arc<Decoded>) -> Result<Option<Block>> {
        let Some(rows) = self.group.next()? else {
            return match self.decoded == self.rows {
                true => Ok(None),
                false => Err(row_count(self.decoded, self.rows)),
            };
        };
        if self.decoded + rows.num_rows() > self.rows {
            return Err(row_count(self.decoded + rows.num_rows(), self.rows));
        }
        let origin = self.origin.slice(self.decoded, rows.num_rows());
        self.decoded += rows.num_rows();
        for (field, column) in rows.schema_ref().fields().iter().zip(rows.columns()) {
            decimals::check(column, field.name(), &origin)?;
        }
        Ok(Some(Block {
            rows: conform(rows, schema)?,
            columns: columns.clone(),
            origin,
        }))
    }
}

/// How the columns of several row groups may be joined, if anything is known of where the output has them.
fn joining(pieces: &[FetchedGroup], selection: &Selection) -> Option<Box<Joining>> {
    let [first, _, ..] = pieces else { return None };
    let (form, needed) = selection.splicing.as_ref()?;
    Some(Box::new(Joining {
        schema: selection.schema.clone(),
        form: form.clone(),
        needed: needed.clone(),
        origins: selection.origins(&first.footer)?,
    }))
}

/// Where the rows of all the row groups came from.
fn origin_of(pieces: &VecDeque<FetchedGroup>) -> Origin {
    let mut origin = Origin::new();
    for piece in pieces {
        for stretch in piece.origin().stretches() {
            origin.push(stretch.clone());
        }
    }
    origin
}

/// Names the row group that `origin` begins with.
fn in_row_group(error: Error, origin: &Origin) -> Error {
    match origin.stretches().first() {
        Some(first) => error.with("file", &first.file).with("row_group", first.row_group),
        None => error,
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
    let columns = parts[0].columns.clone();
    let mut origin = Origin::new();
    for part in &parts {
        for stretch in part.origin.stretches() {
            origin.push(Stretch::clone(stretch));
        }
    }
    let rows = concat_batches(schema, parts.iter().map(|part| &part.rows))
        .map_err(|error| origin.at(Error::data("can't join rows of small row groups").with_source(error)))?;
    Ok(Block {
        rows,
        columns,
        origin,
    })
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
