//! What a file holds about its column chunks outside of them: page indexes and bloom filters.
//!
//! They are fetched with the chunks that are copied, and go with them. Nothing depends on them, so what a footer says of
//! them need not be true: they are left out where they overlap or are larger than the data they are about.

use bytes::Bytes;
use parquet::file::metadata::ColumnChunkMetaData;
use std::ops::Range;

/// What lies there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    ColumnIndex,
    OffsetIndex,
    BloomFilter,
}

/// Bytes about a column chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Extra {
    pub leaf: usize,
    pub kind: Kind,
    pub range: Range<u64>,
}

/// Extras of a unit may take as much as its data, and so much more.
const SPARE_BYTES: u64 = 1 << 20;

/// What there is about the chunk of a leaf in a file of `file_bytes`.
pub(super) fn about(
    leaf: usize,
    chunk: &ColumnChunkMetaData,
    file_bytes: u64,
) -> impl Iterator<Item = Extra> {
    let column_index = (chunk.column_index_offset(), chunk.column_index_length());
    // Of flat columns it is counted from the page headers.
    let offset_index = match chunk.column_descr().max_rep_level() {
        0 => (None, None),
        _ => (chunk.offset_index_offset(), chunk.offset_index_length()),
    };
    let bloom_filter = (chunk.bloom_filter_offset(), chunk.bloom_filter_length());
    let all = [
        (Kind::ColumnIndex, column_index),
        (Kind::OffsetIndex, offset_index),
        (Kind::BloomFilter, bloom_filter),
    ];
    all.into_iter().filter_map(move |(kind, place)| {
        let (Some(offset), Some(length)) = place else {
            return None;
        };
        let (start, length) = (u64::try_from(offset).ok()?, u64::try_from(length).ok()?);
        let range = start..start.checked_add(length)?;
        (length > 0 && range.end <= file_bytes).then_some(Extra { leaf, kind, range })
    })
}

/// Whether the extras of a unit can be what its footers say: each in a place of its own, and not larger than `data_bytes`
/// of data deserve. Files are told apart by a number.
pub(super) fn are_sound(mut places: Vec<(usize, Range<u64>)>, data_bytes: u64) -> bool {
    places.sort_unstable_by_key(|(file, range)| (*file, range.start));
    let overlap = |pair: &[(usize, Range<u64>)]| pair[0].0 == pair[1].0 && pair[1].1.start < pair[0].1.end;
    let bytes: u64 = places.iter().map(|(_, range)| range.end - range.start).sum();
    bytes <= data_bytes.saturating_add(SPARE_BYTES) && !places.windows(2).any(overlap)
}

/// Fetched extras.
#[derive(Clone, Debug, Default)]
pub(super) struct FetchedExtras(pub Vec<(Extra, Bytes)>);

impl FetchedExtras {
    /// The bytes of one of them.
    pub fn get(&self, leaf: usize, kind: Kind) -> Option<&Bytes> {
        // They come in the order of the leaves.
        let first = self.0.partition_point(|(extra, _)| extra.leaf < leaf);
        let of_leaf = self.0[first..].iter().take_while(|(extra, _)| extra.leaf == leaf);
        of_leaf
            .filter(|(extra, _)| extra.kind == kind)
            .map(|(_, bytes)| bytes)
            .next()
    }
}
