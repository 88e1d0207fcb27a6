//! One Parquet file put together from pieces: column chunks that were encoded, and others that are copied.
//!
//! The parquet crate's own file writer copies everything it is given into one buffer. Here the file is a [`Rope`]: chunks
//! of input files lie where they were fetched to, those encoded here in a buffer for each row group, and only the footer
//! and the page indexes are written at the end, by the crate. What a chunk's description says of places in the file is
//! counted again: pages, page index, bloom filter. Layout after the
//! [format](https://parquet.apache.org/docs/file-format/): magic, row groups, column indexes, offset indexes, footer.

use bytes::Bytes;
use parquet::arrow::arrow_writer::ArrowColumnWriter;
use parquet::basic::ColumnOrder;
use parquet::file::metadata::page_index::PageIndexBuilder;
use parquet::file::metadata::{
    ColumnChunkMetaData, FileMetaData, ParquetMetaDataBuilder, ParquetMetaDataWriter, RowGroupMetaData,
};
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::page_index::offset_index::OffsetIndexMetaData;
use parquet::file::properties::{WriterPropertiesPtr, WriterVersion};
use parquet::file::writer::{SerializedRowGroupWriter, TrackedWrite};
use parquet::schema::types::SchemaDescPtr;
use std::io::Write;
use std::sync::Arc;

use super::encoder::fault;
use super::form::{CREATED_BY, Form};
use super::splice::{Spliced, SplicedLeaf, sane_histogram};
use crate::error::{Error, Result};
use crate::storage::Rope;

const MAGIC: &[u8] = b"PAR1";

/// Encoded column chunks of a row group, one behind the other.
pub(super) struct EncodedColumns {
    /// Their bytes.
    bytes: Bytes,
    /// What they are, with offsets into `bytes`.
    chunks: Vec<Placed>,
}

/// A column chunk and its page index, with offsets from some beginning.
struct Placed {
    metadata: ColumnChunkMetaData,
    column_index: Option<ColumnIndexMetaData>,
    offset_index: Option<OffsetIndexMetaData>,
}

impl EncodedColumns {
    /// Closes the writers of a row group's columns, which are all columns of `schema`.
    pub fn close(
        writers: Vec<ArrowColumnWriter>,
        schema: &SchemaDescPtr,
        properties: &WriterPropertiesPtr,
    ) -> Result<EncodedColumns> {
        if writers.is_empty() {
            return Ok(EncodedColumns {
                bytes: Bytes::new(),
                chunks: Vec::new(),
            });
        }
        let size = writers
            .iter()
            .map(ArrowColumnWriter::get_estimated_total_bytes)
            .sum();
        let mut buffer = TrackedWrite::new(Vec::with_capacity(size));
        let mut closed = None;
        let take = |_: &mut TrackedWrite<Vec<u8>>, group: RowGroupMetaData, _, columns, offsets| {
            closed = Some((group, columns, offsets));
            Ok(())
        };
        let (schema, properties) = (schema.clone(), properties.clone());
        let mut group =
            SerializedRowGroupWriter::new(schema, properties, &mut buffer, 0, Some(Box::new(take)));
        for writer in writers {
            let chunk = writer.close().map_err(fault)?;
            chunk.append_to_row_group(&mut group).map_err(fault)?;
        }
        group.close().map_err(fault)?;
        let (group, columns, offsets): (RowGroupMetaData, Vec<_>, Vec<_>) =
            closed.ok_or_else(|| Error::internal("a row group was closed without a word"))?;
        let chunks = group.columns().iter().cloned().zip(columns).zip(offsets);
        Ok(EncodedColumns {
            bytes: buffer.into_inner().map_err(fault)?.into(),
            chunks: chunks
                .map(|((metadata, column_index), offset_index)| Placed {
                    metadata,
                    column_index,
                    offset_index,
                })
                .collect(),
        })
    }
}

/// A file in the making.
pub(super) struct FileAssembler {
    form: Arc<Form>,
    pieces: Vec<Bytes>,
    /// Bytes of all pieces.
    end: usize,
    groups: Vec<RowGroupMetaData>,
    /// Page indexes of each row group, leaf by leaf.
    indexes: Vec<Vec<(Option<ColumnIndexMetaData>, Option<OffsetIndexMetaData>)>>,
    /// Leaves whose bounds are in the order of their type.
    type_ordered: Vec<bool>,
    rows: u64,
    copied: u64,
}

/// A finished file.
pub(super) struct Finished {
    pub bytes: Rope,
    pub rows: u64,
    /// Bytes that were copied from the input.
    pub copied: u64,
}

impl FileAssembler {
    pub fn new(form: Arc<Form>) -> FileAssembler {
        let leaves = form.descriptor.num_columns();
        FileAssembler {
            form,
            pieces: vec![Bytes::from_static(MAGIC)],
            end: MAGIC.len(),
            groups: Vec::new(),
            indexes: Vec::new(),
            type_ordered: vec![false; leaves],
            rows: 0,
            copied: 0,
        }
    }

    /// How many row groups are finished.
    pub fn groups(&self) -> usize {
        self.groups.len()
    }

    /// Appends a row group of columns that were encoded, at positions `columns` of the schema, and others that are
    /// copied.
    pub fn push_group(
        &mut self,
        rows: usize,
        columns: &[usize],
        encoded: EncodedColumns,
        spliced: Spliced,
    ) -> Result<()> {
        let leaves = self.form.descriptor.num_columns();
        let start = self.end;
        let mut copied: Vec<Option<SplicedLeaf>> = (0..leaves).map(|_| None).collect();
        for leaf in spliced.leaves {
            let place = leaf.leaf;
            copied[place] = Some(leaf);
        }
        let mut own: Vec<Option<Placed>> = (0..leaves).map(|_| None).collect();
        let positions = columns.iter().flat_map(|column| self.form.roots[*column].clone());
        for (leaf, chunk) in positions.zip(encoded.chunks) {
            own[leaf] = Some(chunk);
        }
        let (mut chunks, mut indexes) = (Vec::with_capacity(leaves), Vec::with_capacity(leaves));
        let (mut expanded, mut filters) = (0, Vec::new());
        for (leaf, (own, copied)) in own.into_iter().zip(copied).enumerate() {
            let placed = match (own, copied) {
                (Some(chunk), None) => self.place(leaf, chunk, &encoded.bytes)?,
                (None, Some(mut chunk)) => {
                    if let Some(filter) = chunk.bloom_filter.take() {
                        filters.push((leaf, filter));
                    }
                    self.copy(chunk)?
                }
                _ => {
                    return Err(Error::internal(format!(
                        "leaf {leaf} has no values, or has them twice"
                    )));
                }
            };
            expanded += placed.metadata.uncompressed_size();
            chunks.push(placed.metadata);
            indexes.push((placed.column_index, placed.offset_index));
        }
        for (leaf, filter) in filters {
            chunks[leaf] = std::mem::replace(&mut chunks[leaf], empty(&self.form, leaf)?)
                .into_builder()
                .set_bloom_filter_offset(Some(self.end as i64))
                .set_bloom_filter_length(Some(filter.len() as i32))
                .build()
                .map_err(fault)?;
            self.append(filter);
        }
        let group = RowGroupMetaData::builder(self.form.descriptor.clone())
            .set_column_metadata(chunks)
            .set_total_byte_size(expanded)
            .set_num_rows(rows as i64)
            .set_ordinal(self.groups.len() as i32)
            .set_file_offset(start as i64)
            .build()
            .map_err(fault)?;
        self.groups.push(group);
        self.indexes.push(indexes);
        self.rows += rows as u64;
        Ok(())
    }

    fn append(&mut self, bytes: Bytes) {
        self.end += bytes.len();
        self.pieces.push(bytes);
    }

    /// Places a chunk that was encoded.
    fn place(&mut self, leaf: usize, chunk: Placed, bytes: &Bytes) -> Result<Placed> {
        let metadata = chunk.metadata;
        let first = metadata
            .dictionary_page_offset()
            .unwrap_or(metadata.data_page_offset());
        let moved = |offset: i64| offset - first + self.end as i64;
        let mut builder = ColumnChunkMetaData::builder(self.form.descriptor.column(leaf))
            .set_compression_codec(metadata.compression_codec())
            .set_encodings_mask(*metadata.encodings_mask())
            .set_total_compressed_size(metadata.compressed_size())
            .set_total_uncompressed_size(metadata.uncompressed_size())
            .set_num_values(metadata.num_values())
            .set_data_page_offset(moved(metadata.data_page_offset()))
            .set_dictionary_page_offset(metadata.dictionary_page_offset().map(moved))
            .set_unencoded_byte_array_data_bytes(metadata.unencoded_byte_array_data_bytes())
            .set_repetition_level_histogram(metadata.repetition_level_histogram().cloned())
            .set_definition_level_histogram(metadata.definition_level_histogram().cloned());
        if let Some(statistics) = metadata.statistics() {
            builder = builder.set_statistics(statistics.clone());
        }
        if let Some(encodings) = metadata.page_encoding_stats() {
            builder = builder.set_page_encoding_stats(encodings.clone());
        }
        let offset_index = chunk.offset_index.map(|index| shifted(index, moved(0)));
        let length = metadata.compressed_size() as usize;
        self.append(bytes.slice(first as usize..first as usize + length));
        Ok(Placed {
            metadata: builder.build().map_err(fault)?,
            column_index: chunk.column_index,
            offset_index,
        })
    }

    /// Places a chunk of the input.
    fn copy(&mut self, chunk: SplicedLeaf) -> Result<Placed> {
        let (source, start) = (&chunk.source, self.end as i64);
        let descriptor = self.form.descriptor.column(chunk.leaf);
        let values = source.num_values();
        let mut builder = ColumnChunkMetaData::builder(descriptor.clone())
            .set_compression_codec(source.compression_codec())
            .set_encodings_mask(*source.encodings_mask())
            .set_total_compressed_size(chunk.bytes.len() as i64)
            .set_total_uncompressed_size(source.uncompressed_size())
            .set_num_values(values)
            .set_data_page_offset(start + chunk.data_offset as i64)
            .set_dictionary_page_offset(chunk.has_dictionary.then_some(start))
            .set_unencoded_byte_array_data_bytes(source.unencoded_byte_array_data_bytes())
            .set_repetition_level_histogram(sane_histogram(
                source.repetition_level_histogram(),
                descriptor.max_rep_level(),
                values,
            ))
            .set_definition_level_histogram(sane_histogram(
                source.definition_level_histogram(),
                descriptor.max_def_level(),
                values,
            ))
            .set_page_encoding_stats(chunk.encodings);
        if let Some(statistics) = chunk.summary.statistics {
            builder = builder.set_statistics(statistics);
        }
        self.type_ordered[chunk.leaf] |= chunk.summary.is_type_ordered;
        let metadata = builder.build().map_err(fault)?;
        if chunk.is_copy {
            self.copied += chunk.bytes.len() as u64;
        }
        self.append(chunk.bytes);
        Ok(Placed {
            metadata,
            column_index: chunk.column_index,
            offset_index: chunk.offset_index.map(|index| shifted(index, start)),
        })
    }

    /// Writes page indexes and footer.
    pub fn finish(mut self) -> Result<Finished> {
        let leaves = self.form.descriptor.num_columns();
        let version = WriterVersion::PARQUET_1_0.as_num();
        let file = FileMetaData::new(
            version,
            self.rows as i64,
            Some(CREATED_BY.to_string()),
            Some(self.form.metadata.clone()),
            self.form.descriptor.clone(),
            None,
        );
        let mut page_index = PageIndexBuilder::new(self.groups.len(), leaves);
        for (group, indexes) in self.indexes.into_iter().enumerate() {
            for (leaf, (column, offset)) in indexes.into_iter().enumerate() {
                if let Some(column) = column {
                    page_index.put_column_index(column, group, leaf);
                }
                if let Some(offset) = offset {
                    page_index.put_offset_index(offset, group, leaf);
                }
            }
        }
        let metadata = ParquetMetaDataBuilder::new(file)
            .set_row_groups(self.groups)
            .set_page_index(Some(Arc::new(page_index.build())))
            .build();
        let mut tail = Tail {
            skip: self.end,
            bytes: Vec::new(),
        };
        let mut tracked = TrackedWrite::new(&mut tail);
        count_on(&mut tracked, self.end)?;
        ParquetMetaDataWriter::new_with_tracked(tracked, &metadata)
            .with_preserve_page_index_locations(false)
            .finish()
            .map_err(fault)?;
        declare_orders(&mut tail.bytes, &self.form, &self.type_ordered)?;
        self.pieces.push(tail.bytes.into());
        Ok(Finished {
            bytes: Rope::new(self.pieces),
            rows: self.rows,
            copied: self.copied,
        })
    }
}

fn empty(form: &Form, leaf: usize) -> Result<ColumnChunkMetaData> {
    ColumnChunkMetaData::builder(form.descriptor.column(leaf))
        .build()
        .map_err(fault)
}

fn shifted(mut index: OffsetIndexMetaData, by: i64) -> OffsetIndexMetaData {
    for page in &mut index.page_locations {
        page.offset += by;
    }
    index
}

/// Takes what comes after the first `skip` bytes.
struct Tail {
    skip: usize,
    bytes: Vec<u8>,
}

impl Write for Tail {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let skipped = self.skip.min(bytes.len());
        self.skip -= skipped;
        self.bytes.extend_from_slice(&bytes[skipped..]);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Lets the crate's writer believe that it has written so many bytes: it counts its offsets by them.
fn count_on(writer: &mut TrackedWrite<&mut Tail>, bytes: usize) -> Result<()> {
    static NOTHING: [u8; 64 * 1024] = [0; 64 * 1024];
    let mut left = bytes;
    while left > 0 {
        let count = left.min(NOTHING.len());
        writer
            .write_all(&NOTHING[..count])
            .map_err(|error| Error::internal("can't count bytes").with_source(error))?;
        left -= count;
    }
    Ok(())
}

/// Declares that the bounds of `leaves` are in the order that their type defines.
///
/// The crate declares the total order of IEEE 754 for all floating-point columns. Bounds that were copied may leave out
/// NaN and not tell zeros apart, as the type's own order lets them; those of the crate are valid in that order, too. The
/// orders are the last field of the footer, a list of unions: `2: {}` is the one, `1: {}` the other.
fn declare_orders(tail: &mut [u8], form: &Form, leaves: &[bool]) -> Result<()> {
    const TOTAL: [u8; 3] = [0x2c, 0, 0];
    const TYPE_DEFINED: [u8; 3] = [0x1c, 0, 0];
    const END_OF_STRUCT: usize = 1;
    const LENGTH_AND_MAGIC: usize = 8;
    if !leaves.contains(&true) {
        return Ok(());
    }
    let changed = || Error::internal("the orders of columns are not where the footer had them");
    let end = tail
        .len()
        .checked_sub(LENGTH_AND_MAGIC + END_OF_STRUCT)
        .ok_or_else(changed)?;
    let start = end.checked_sub(leaves.len() * TOTAL.len()).ok_or_else(changed)?;
    for (leaf, order) in tail[start..end].chunks_exact_mut(TOTAL.len()).enumerate() {
        let column = form.descriptor.column(leaf);
        let natural = ColumnOrder::column_order_for_type(
            column.logical_type_ref(),
            column.converted_type(),
            column.physical_type(),
        );
        let expected = match natural {
            ColumnOrder::IEEE_754_TOTAL_ORDER => TOTAL,
            _ => TYPE_DEFINED,
        };
        if order != expected {
            return Err(changed());
        }
        if leaves[leaf] {
            order.copy_from_slice(&TYPE_DEFINED);
        }
    }
    Ok(())
}
