//! A joined column as a column chunk of the output: a dictionary page, data pages of version 1, bounds and places of them.
//!
//! Headers are in [Thrift's compact protocol](https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift).

use arrow::buffer::NullBuffer;
use bytes::Bytes;
use parquet::basic::{BoundaryOrder, Compression, Encoding, EncodingMask, PageType, Type as Physical};
use parquet::file::metadata::{ColumnChunkMetaData, ColumnIndexBuilder, PageEncodingStats};
use parquet::file::page_index::offset_index::{OffsetIndexMetaData, PageLocation};
use parquet::schema::types::ColumnDescPtr;

use super::super::thrift::wire;
use super::bounds::{self, Order};
use super::hybrid::{self, write_varint};
use super::pages::{Column, of_any};
use super::values::Arena;
use crate::write::splice::{SplicedLeaf, Summary};

/// Rows of a page, as the crate's writer has them.
const PAGE_ROWS: usize = 20_000;

/// Bytes of a page's values, about.
const PAGE_BYTES: usize = 1 << 20;

/// Compresses pages.
pub(super) struct Packer {
    codec: Compression,
    snappy: snap::raw::Encoder,
    zstd: Option<zstd::bulk::Compressor<'static>>,
    packed: Vec<u8>,
}

impl Packer {
    /// `None`: it can't be written here.
    pub fn new(codec: Compression) -> Option<Packer> {
        let zstd = match codec {
            Compression::ZSTD(level) => Some(zstd::bulk::Compressor::new(level.compression_level()).ok()?),
            Compression::UNCOMPRESSED | Compression::SNAPPY => None,
            _ => return None,
        };
        Some(Packer {
            codec,
            snappy: snap::raw::Encoder::new(),
            zstd,
            packed: Vec::new(),
        })
    }

    /// What it packs with.
    pub fn codec(&self) -> Compression {
        self.codec
    }

    fn pack<'a>(&'a mut self, body: &'a [u8]) -> Option<&'a [u8]> {
        let room = match self.codec {
            Compression::SNAPPY => snap::raw::max_compress_len(body.len()),
            Compression::ZSTD(_) => zstd::zstd_safe::compress_bound(body.len()),
            _ => return Some(body),
        };
        if self.packed.len() < room {
            self.packed.resize(room, 0);
        }
        let packed = &mut self.packed[..];
        let made = match &mut self.zstd {
            Some(zstd) => zstd.compress_to_buffer(body, packed).ok()?,
            None => self.snappy.compress(body, packed).ok()?,
        };
        Some(&self.packed[..made])
    }
}

/// The column as the chunk of leaf `leaf` of the output.
pub(super) fn encode(
    column: &Column,
    nulls: Option<&NullBuffer>,
    descriptor: &ColumnDescPtr,
    leaf: usize,
    packer: &mut Packer,
) -> Option<SplicedLeaf> {
    let order = Order::of(descriptor);
    let (words, word_bytes, indices) = of_any!(&column.values, growing => {
        (growing.words.len(), growing.words.bytes(), growing.indices.as_deref())
    });
    // Without values there is nothing to have a dictionary of.
    let indices = indices.filter(|_| words > 0);
    let mut pages = Pages {
        packer,
        out: Vec::new(),
        expanded: 0,
    };
    let mut body = Vec::new();
    if indices.is_some() {
        of_any!(&column.values, growing => growing.words.write(0..words, &mut body));
        pages.dictionary(&body, words)?;
    }
    let data_offset = pages.out.len();
    let row_bytes = match indices {
        Some(_) => 4,
        None => (word_bytes / column.rows.max(1)).max(1),
    };
    let page_rows = PAGE_ROWS.min(PAGE_BYTES / row_bytes).max(1);
    let width = hybrid::width_for(words.saturating_sub(1) as u32);
    let (mut first, mut taken) = (0, 0);
    let mut locations = Vec::new();
    let mut index = ColumnIndexBuilder::new(column.physical);
    index.set_boundary_order(BoundaryOrder::UNORDERED);
    let mut has_index = order != Order::None;
    while first < column.rows {
        let rows = page_rows.min(column.rows - first);
        let nulls = nulls.map(|nulls| nulls.slice(first, rows));
        let absent = nulls.as_ref().map_or(0, NullBuffer::null_count);
        let values = taken..taken + rows - absent;
        body.clear();
        if column.is_optional {
            write_levels(nulls.as_ref(), rows, &mut body);
        }
        let (encoding, bounds) = match indices {
            Some(indices) => {
                let indices = &indices[values.clone()];
                body.push(width);
                hybrid::write(indices, width, &mut body);
                let places = indices.iter().map(|at| *at as usize);
                (RLE_DICTIONARY, bounds::of(&column.values, order, places))
            }
            None => {
                of_any!(&column.values, growing => growing.words.write(values.clone(), &mut body));
                (PLAIN, bounds::of(&column.values, order, values.clone()))
            }
        };
        let start = pages.out.len();
        pages.data(&body, rows, encoding)?;
        locations.push(PageLocation {
            offset: start as i64,
            compressed_page_size: (pages.out.len() - start) as i32,
            first_row_index: first as i64,
        });
        has_index &= bounds.are_known || values.is_empty();
        let is_float = matches!(column.physical, Physical::FLOAT | Physical::DOUBLE);
        index.append(
            values.is_empty(),
            bounds.least,
            bounds.greatest,
            absent as i64,
            is_float.then_some(bounds.nans as i64),
        );
        first += rows;
        taken = values.end;
    }
    let nulls = nulls.map_or(0, NullBuffer::null_count) as u64;
    let bounds = bounds::of(&column.values, order, 0..words);
    let bounds = bounds::Bounds {
        nans: nans(column, order, indices, &bounds),
        ..bounds
    };
    let statistics = bounds::statistics(column.physical, &bounds, nulls);
    let (data_encoding, mut encodings) = match indices {
        Some(_) => (
            Encoding::RLE_DICTIONARY,
            vec![page_encoding(PageType::DICTIONARY_PAGE, Encoding::PLAIN, 1)],
        ),
        None => (Encoding::PLAIN, Vec::new()),
    };
    encodings.push(page_encoding(
        PageType::DATA_PAGE,
        data_encoding,
        locations.len() as i32,
    ));
    let mask = [Encoding::RLE, Encoding::PLAIN, data_encoding];
    let source = ColumnChunkMetaData::builder(descriptor.clone())
        .set_compression_codec(pages.packer.codec().into())
        .set_encodings_mask(EncodingMask::new_from_encodings(mask.iter()))
        .set_total_compressed_size(pages.out.len() as i64)
        .set_total_uncompressed_size(pages.expanded as i64)
        .set_num_values(column.rows as i64)
        .build()
        .ok()?;
    Some(SplicedLeaf {
        leaf,
        source,
        summary: Summary {
            statistics: Some(statistics),
            keeps_bounds: true,
            is_type_ordered: false,
        },
        bytes: Bytes::from(pages.out),
        is_copy: false,
        has_dictionary: indices.is_some(),
        data_offset,
        encodings,
        column_index: match has_index {
            true => Some(index.build().ok()?),
            false => None,
        },
        offset_index: Some(OffsetIndexMetaData {
            page_locations: locations,
            unencoded_byte_array_data_bytes: None,
        }),
        bloom_filter: None,
    })
}

/// How many values are NaN: of words each may stand for many.
fn nans(column: &Column, order: Order, indices: Option<&[u32]>, of_words: &bounds::Bounds) -> u64 {
    match indices {
        Some(indices) if order == Order::Floats && of_words.nans > 0 => {
            let places = indices.iter().map(|at| *at as usize);
            bounds::of(&column.values, order, places).nans
        }
        _ => of_words.nans,
    }
}

fn page_encoding(page_type: PageType, encoding: Encoding, count: i32) -> PageEncodingStats {
    PageEncodingStats {
        page_type,
        encoding,
        count,
    }
}

/// Which rows have values: runs behind their length.
fn write_levels(nulls: Option<&NullBuffer>, rows: usize, body: &mut Vec<u8>) {
    let start = body.len();
    body.extend_from_slice(&[0; 4]);
    match nulls.filter(|nulls| nulls.null_count() > 0) {
        None => hybrid::write_run(1, rows, 1, body),
        Some(nulls) => {
            let levels: Vec<u32> = nulls.iter().map(u32::from).collect();
            hybrid::write(&levels, 1, body);
        }
    }
    let length = (body.len() - start - 4) as u32;
    body[start..start + 4].copy_from_slice(&length.to_le_bytes());
}

const PLAIN: i32 = 0;
const RLE: i32 = 3;
const RLE_DICTIONARY: i32 = 8;

/// Pages one behind the other.
struct Pages<'a> {
    packer: &'a mut Packer,
    out: Vec<u8>,
    /// Bytes before compression, headers among them.
    expanded: usize,
}

impl Pages<'_> {
    fn dictionary(&mut self, body: &[u8], words: usize) -> Option<()> {
        // PageHeader.dictionary_page_header: values, encoding.
        self.page(body, 2, 7, &[words as i32, PLAIN])
    }

    fn data(&mut self, body: &[u8], rows: usize, encoding: i32) -> Option<()> {
        // PageHeader.data_page_header: values, encoding, encodings of definition and repetition levels.
        self.page(body, 0, 5, &[rows as i32, encoding, RLE, RLE])
    }

    fn page(&mut self, body: &[u8], kind: i32, details: u8, numbers: &[i32]) -> Option<()> {
        let packed = self.packer.pack(body)?;
        let start = self.out.len();
        let sizes = [
            kind,
            i32::try_from(body.len()).ok()?,
            i32::try_from(packed.len()).ok()?,
        ];
        sizes
            .into_iter()
            .for_each(|number| write_number(number, &mut self.out));
        // From field 3 to the struct.
        self.out.push((details - 3) << 4 | wire::STRUCT);
        numbers
            .iter()
            .for_each(|number| write_number(*number, &mut self.out));
        self.out.extend_from_slice(&[0, 0]);
        self.expanded += self.out.len() - start + body.len();
        self.out.extend_from_slice(packed);
        Some(())
    }
}

/// The field behind the last one.
fn write_number(number: i32, out: &mut Vec<u8>) {
    out.push(1 << 4 | wire::I32);
    write_varint(u64::from(((number << 1) ^ (number >> 31)) as u32), out);
}
