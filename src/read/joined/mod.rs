//! Many small row groups that become one: their flat columns are joined page by page.
//!
//! A row group of a hundred rows costs more to open than to read: a reader for each column chunk, arrays for each, and a
//! writer that finds out once more which values repeat. So what nearly all writers write is read here directly
//! ([`pages`]): values go to one growing column ([`values`]), whose dictionary is made of those of the row groups, and that
//! column becomes a chunk of the output as it is ([`chunk`]). Those who need its values get arrays of it ([`array`](mod@array)).
//!
//! A column that can't be read so is decoded and encoded as ever; what the rows hold is the same either way. The choice is a
//! function of footers and pages, so the bytes of a unit are too.

mod array;
mod bounds;
mod chunk;
mod hybrid;
mod pages;
mod values;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use std::sync::Arc;

use self::array::{Given, is_made_of};
use self::chunk::{Packer, encode};
use self::pages::{Column, Opener, Values};
use self::values::COLUMN_BYTES;
use super::chunk::Decoded;
use super::group::FetchedGroup;
use crate::error::{Error, Result};
use crate::write::Form;
use crate::write::splice::{Origins, Source, Spliced, SplicedLeaf};

/// Bytes that joined columns of a chunk may take, as chunks of the output and as arrays.
const JOINED_BYTES: usize = 4 * COLUMN_BYTES;

/// What is to be known before row groups are joined.
pub(super) struct Joining {
    /// The plan's schema.
    pub schema: SchemaRef,
    pub form: Arc<Form>,
    /// Columns whose values somebody needs.
    pub needed: Vec<usize>,
    /// Where all the row groups have their columns.
    pub origins: Arc<Origins>,
}

/// The columns of a chunk that were joined.
pub(super) struct Joined {
    /// As chunks of the output.
    pub spliced: Spliced,
    /// Columns that must be decoded otherwise.
    pub rest: Vec<usize>,
    /// All that somebody needs, and the rest.
    pub decoded: Arc<Decoded>,
    schema: SchemaRef,
    /// Columns that were joined and are needed, with their positions.
    given: Vec<(usize, DataType, Given)>,
}

impl Joining {
    /// Joins the columns of row groups that lie one behind the other; `None`: they are not of one form, or no column can be
    /// joined.
    pub fn join(&self, pieces: &[FetchedGroup]) -> Option<Joined> {
        let first = pieces.first()?;
        if !pieces.iter().all(|piece| piece.follows(first)) {
            return None;
        }
        let (mut opener, mut packer) = (Opener::new(), None);
        let (mut spliced, mut given) = (Spliced::default(), Vec::new());
        let (mut rest, mut decoded) = (Vec::new(), Vec::new());
        let mut bytes = 0;
        for (position, source) in self.origins.columns.iter().enumerate() {
            let joined = source
                .as_ref()
                .filter(|_| bytes <= JOINED_BYTES)
                .and_then(|source| self.join_column(pieces, position, source, &mut opener, &mut packer));
            let is_needed = self.needed.binary_search(&position).is_ok();
            match joined {
                Some((leaf, column)) => {
                    bytes += leaf.bytes.len();
                    spliced.leaves.push(leaf);
                    if let Some(column) = column {
                        bytes += column.bytes();
                        given.push((position, self.schema.field(position).data_type().clone(), column));
                    }
                }
                None => rest.push(position),
            }
            if is_needed || rest.last() == Some(&position) {
                decoded.push(position);
            }
        }
        if spliced.leaves.is_empty() {
            return None;
        }
        Some(Joined {
            spliced,
            schema: Arc::new(self.schema.project(&decoded).ok()?),
            decoded: Arc::new(Decoded {
                columns: decoded,
                rewritten: rest.clone(),
            }),
            rest,
            given,
        })
    }

    /// The column as a chunk of the output, and its values if somebody needs them.
    fn join_column(
        &self,
        pieces: &[FetchedGroup],
        position: usize,
        source: &Source,
        opener: &mut Opener,
        packer: &mut Option<Packer>,
    ) -> Option<(SplicedLeaf, Option<Given>)> {
        let leaf = source.leaves.start;
        let metadata = pieces[0].footer.row_groups()[pieces[0].row_group].column(leaf);
        let descriptor = metadata.column_descr_ptr();
        let data_type = self.schema.field(position).data_type();
        let is_flat = source.leaves.len() == 1
            && descriptor.path().parts().len() == 1
            && descriptor.max_rep_level() == 0
            && descriptor.max_def_level() <= 1;
        let is_needed = self.needed.binary_search(&position).is_ok();
        // Decimals are looked at when they are decoded.
        if !is_flat || data_type.is_decimal() || (is_needed && !is_made_of(data_type, &descriptor)) {
            return None;
        }
        let codec = self.form.codec_for(metadata);
        if packer.as_ref().is_none_or(|packer| packer.codec() != codec) {
            *packer = Some(Packer::new(codec)?);
        }
        let mut column = Column::new(descriptor.physical_type(), descriptor.max_def_level() == 1)?;
        for piece in pieces {
            column.append(piece, leaf, opener)?;
        }
        if let Values::Texts(texts) = &column.values
            && is_text(data_type)
            && !texts.words.are_utf8()
        {
            return None;
        }
        let nulls = column.take_nulls();
        let chunk = encode(
            &column,
            nulls.as_ref(),
            &descriptor,
            source.first_leaf,
            packer.as_mut()?,
        )?;
        let given = match is_needed {
            true => Some(Given::new(column.values, nulls)?),
            false => None,
        };
        Some((chunk, given))
    }
}

fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, values) => is_text(values),
        other => matches!(other, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View),
    }
}

impl Joined {
    /// The next `rows` rows of the columns that somebody needs; `others` are those of [`rest`](Self::rest).
    pub fn block(&mut self, rows: usize, others: Option<&RecordBatch>) -> Result<RecordBatch> {
        let mut others = others.map(RecordBatch::columns).unwrap_or_default().iter();
        let mut given = self.given.iter_mut().peekable();
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.decoded.columns.len());
        for position in &self.decoded.columns {
            match given.next_if(|(at, ..)| at == position) {
                Some((_, data_type, column)) => columns.push(column.next(data_type, rows)?),
                None => columns.extend(others.next().cloned()),
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)
            .map_err(|error| Error::data("the file's rows do not fit the plan's schema").with_source(error))
    }
}

/// The columns at `positions` of a schema.
pub(super) fn project(schema: &Schema, positions: &[usize]) -> Result<SchemaRef> {
    let projected = schema.project(positions);
    let projected =
        projected.map_err(|error| Error::internal("columns that the plan lacks").with_source(error))?;
    Ok(Arc::new(projected))
}
