//! How a unit is read and laid out again: chunks and blocks.
//!
//! A chunk is what becomes one row group of the output: one input row group, or several tiny ones in a row, so that
//! ten thousand files of a hundred rows do not become ten thousand row groups. A block is what is decoded at once.
//! Both are functions of the footers and the plan's batch size alone.

use parquet::file::metadata::ColumnChunkMetaData;
use std::sync::Arc;

use super::extras::{self, Extra};
use super::footer::Footer;
use super::group::null_bytes;
use super::selection::{Columns, Selection};
use crate::plan::Part;
use crate::write::splice::Origins;

/// A row group with fewer rows and fewer compressed bytes than these is tiny.
const TINY_ROWS: u64 = 16 * 1024;
const TINY_BYTES: u64 = 1 << 20;

/// Tiny row groups are joined until a chunk has so many rows or compressed bytes.
const JOINED_ROWS: u64 = 128 * 1024;
const JOINED_BYTES: u64 = 8 << 20;

/// Bytes of a block in memory: stays near a core's caches between decoding and encoding, and is many batches.
const BLOCK_BYTES: u64 = 4 << 20;

/// Most rows of a block, however narrow the rows are.
const BLOCK_ROWS: u64 = 64 * 1024;

/// Bytes of a block for a model that arranges rows itself: what it knows of them (tokens and where they stand in a text) is
/// many times as large.
const ARRANGED_BYTES: u64 = 1 << 20;

/// A row group of one of the unit's files.
#[derive(Clone)]
pub struct Piece {
    /// The file it is in.
    pub footer: Arc<Footer>,
    /// Its index in the file.
    pub row_group: usize,
}

/// What becomes one row group of the output.
#[derive(Clone)]
pub struct Chunk {
    /// The row groups, in the plan's order.
    pub pieces: Vec<Piece>,
    /// Rows of all pieces.
    pub rows: u64,
    /// Compressed bytes of all pieces, and of what is fetched about columns that are copied.
    pub bytes: u64,
    /// Of these, bytes that the output takes as they are.
    pub spliced_bytes: u64,
    /// Rows decoded at once.
    pub block_rows: usize,
    pub(super) columns: Columns,
    /// Where the file has the columns; only of a chunk of one piece.
    pub(super) origins: Option<Arc<Origins>>,
    pub(super) extras: Vec<Extra>,
}

impl Chunk {
    /// How many blocks it is decoded in.
    pub fn blocks(&self) -> usize {
        self.rows.div_ceil(self.block_rows as u64) as usize
    }
}

/// The chunks of a unit, in order. Chunks without rows are left out.
#[derive(Clone)]
pub struct Layout {
    /// At least one unless the unit has no rows.
    pub chunks: Vec<Chunk>,
}

impl Layout {
    /// Lays out the `parts` of a unit. `footers` holds the footer of each part, in the same order.
    pub(super) fn new(
        parts: &[Part],
        footers: &[Arc<Footer>],
        batch_rows: usize,
        window_rows: Option<usize>,
        selection: &Selection,
    ) -> Layout {
        let mut chunks: Vec<Chunk> = Vec::new();
        let mut can_join = false;
        for (part, footer) in parts.iter().zip(footers) {
            for row_group in part.first as usize..part.end as usize {
                let group = &footer.row_groups()[row_group];
                let (rows, bytes) = (group.num_rows() as u64, group.compressed_size() as u64);
                if rows == 0 {
                    continue;
                }
                let piece = Piece {
                    footer: footer.clone(),
                    row_group,
                };
                let is_tiny = rows < TINY_ROWS && bytes < TINY_BYTES;
                match chunks.last_mut() {
                    Some(last)
                        if can_join
                            && is_tiny
                            && last.rows + rows <= JOINED_ROWS
                            && last.bytes + bytes <= JOINED_BYTES =>
                    {
                        last.pieces.push(piece);
                        last.rows += rows;
                        last.bytes += bytes;
                    }
                    _ => chunks.push(Chunk {
                        pieces: vec![piece],
                        rows,
                        bytes,
                        spliced_bytes: 0,
                        block_rows: 1,
                        columns: Columns::default(),
                        origins: None,
                        extras: Vec::new(),
                    }),
                }
                can_join = is_tiny;
            }
        }
        select(&mut chunks, selection);
        for chunk in &mut chunks {
            let bytes = expanded_bytes(chunk);
            chunk.block_rows = match window_rows {
                Some(most) => arranged_rows(chunk.rows, bytes, most),
                None => block_rows(chunk.rows, bytes, batch_rows),
            };
        }
        Layout { chunks }
    }
}

/// Says what becomes of the columns of each chunk.
fn select(chunks: &mut [Chunk], selection: &Selection) {
    let mut known: Option<(Arc<Footer>, Option<Arc<Origins>>)> = None;
    let (mut places, mut bytes, mut file) = (Vec::new(), 0, 0);
    for chunk in chunks.iter_mut() {
        bytes += chunk.bytes;
        let [piece] = chunk.pieces.as_slice() else {
            chunk.columns = selection.decode_all();
            continue;
        };
        if !known
            .as_ref()
            .is_some_and(|(footer, _)| Arc::ptr_eq(footer, &piece.footer))
        {
            known = Some((piece.footer.clone(), selection.origins(&piece.footer)));
            file += 1;
        }
        let Some(origins) = known.as_ref().and_then(|(_, origins)| origins.clone()) else {
            chunk.columns = selection.decode_all();
            continue;
        };
        chunk.columns = selection.columns(&piece.footer, piece.row_group, &origins);
        let columns = piece.footer.row_groups()[piece.row_group].columns();
        for column in &chunk.columns.spliced {
            for leaf in origins.columns[*column]
                .iter()
                .flat_map(|source| source.leaves.clone())
            {
                chunk.spliced_bytes += columns[leaf].compressed_size().max(0) as u64;
                chunk
                    .extras
                    .extend(extras::about(leaf, &columns[leaf], piece.footer.size()));
            }
        }
        chunk.extras.sort_by_key(|extra| extra.leaf);
        places.extend(chunk.extras.iter().map(|extra| (file, extra.range.clone())));
        chunk.origins = Some(origins);
    }
    let are_sound = extras::are_sound(places, bytes);
    for chunk in chunks {
        if !are_sound {
            chunk.extras.clear();
        }
        let more: u64 = chunk
            .extras
            .iter()
            .map(|extra| extra.range.end - extra.range.start)
            .sum();
        chunk.bytes += more;
        chunk.spliced_bytes += more;
    }
}

/// What the chunk's decoded columns take in memory as Arrow columns.
fn expanded_bytes(chunk: &Chunk) -> u64 {
    let piece_bytes = |piece: &Piece| {
        let group = &piece.footer.row_groups()[piece.row_group];
        let fields = piece.footer.schema().fields();
        let schema = piece.footer.metadata().parquet_schema();
        let mut is_decoded = vec![chunk.origins.is_none(); fields.len()];
        if let Some(origins) = &chunk.origins {
            let roots = chunk
                .columns
                .decoded
                .iter()
                .filter_map(|column| origins.roots[*column]);
            roots.for_each(|root| is_decoded[root] = true);
        }
        let decoded_fields = fields
            .iter()
            .zip(&is_decoded)
            .filter(|(_, is_decoded)| **is_decoded);
        let nulls = null_bytes(decoded_fields.map(|(field, _)| field));
        let leaves = group.columns().iter().enumerate();
        let values: u64 = leaves
            .filter(|(leaf, _)| is_decoded[schema.get_column_root_idx(*leaf)])
            .map(|(_, column)| column_bytes(column))
            .sum();
        values.max(nulls.saturating_mul(group.num_rows() as u64))
    };
    chunk.pieces.iter().map(piece_bytes).sum()
}

/// A value is as wide in memory as its type, however well dictionaries and run lengths pack it in the file.
fn column_bytes(column: &ColumnChunkMetaData) -> u64 {
    let values = column.num_values().max(0) as u64;
    let in_file = column.uncompressed_size().max(0) as u64;
    let texts = column.unencoded_byte_array_data_bytes().unwrap_or(0).max(0) as u64;
    in_file
        .max(texts)
        .max(values.saturating_mul(super::pages::width(column)))
}

/// Rows of a block: whole batches, as many as fit [`BLOCK_BYTES`] and [`BLOCK_ROWS`], at least one batch.
fn block_rows(rows: u64, bytes: u64, batch_rows: usize) -> usize {
    let row_bytes = bytes.div_ceil(rows.max(1)).max(1);
    let fitting = (BLOCK_BYTES / row_bytes).clamp(1, BLOCK_ROWS) as usize;
    let batches = (fitting / batch_rows).max(1);
    batches * batch_rows
}

/// Rows of a block for a model that arranges at most `most` of them: as many as fit [`ARRANGED_BYTES`].
fn arranged_rows(rows: u64, bytes: u64, most: usize) -> usize {
    let row_bytes = bytes.div_ceil(rows.max(1)).max(1);
    (ARRANGED_BYTES / row_bytes).clamp(1, most.max(1) as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_that_is_arranged_is_bounded_by_the_plan_and_by_its_bytes() {
        let cases = [
            (1_500, 225_000, 4096, 4096),    // short texts: what the plan says
            (10_000, 20_480_000, 4096, 512), // a page each
            (10, 1_000_000_000, 4096, 1),    // books
            (0, 0, 128, 128),
        ];
        for (rows, bytes, most, expected) in cases {
            assert_eq!(
                arranged_rows(rows, bytes, most),
                expected,
                "{rows} rows of {bytes} bytes"
            );
        }
    }

    #[test]
    fn a_block_is_whole_batches() {
        // rows, uncompressed bytes, batch rows, expected block rows
        let cases = [
            (1_000_000, 40_000_000, 4096, 16 * 4096), // narrow rows: the most rows
            (1_000, 1_000_000_000, 1, 4),             // a megabyte a row
            (1_000, 1_000_000_000, 8, 8),             // a batch is never split
            (1_000, 100_000, 1000, 41_000),
            (0, 0, 16, 64 * 1024),
        ];
        for (rows, bytes, batch_rows, expected) in cases {
            assert_eq!(
                block_rows(rows, bytes, batch_rows),
                expected,
                "{rows} rows of {bytes} bytes"
            );
        }
    }
}
