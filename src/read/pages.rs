//! The pages of one column chunk on their way to the decoder, each checked before it is opened and before it is decoded.
//!
//! The parquet crate reads and decompresses pages; it asks this reader for them one by one. Headers have been checked when
//! the row group was opened ([`super::group`]). What is left is what only the bodies tell: that they do not decompress
//! to more than they declare, that streams of lengths are as long as the page, and how much the values become in memory,
//! where a dictionary or a shared beginning makes gigabytes of a few bytes.

use arrow::datatypes::DataType;
use bytes::{Buf, Bytes};
use parquet::basic::{Compression, Encoding, Type};
use parquet::column::page::{Page, PageIterator, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::serialized_reader::SerializedPageReader;
use parquet::schema::types::ColumnDescPtr;
use std::collections::VecDeque;
use std::io::Read;
use std::sync::Arc;

use super::budget::Budget;
use super::delta::{self, bits};
use super::int96;
use super::page_header::{GZIP_EXPANSION, PageHeader};
use crate::error::{Error, Result};

/// Bodies that can't become more than this are decompressed without trying first.
const UNTRIED_BYTES: u64 = 128 << 20;

/// The beginning of an LZ4 frame, which old versions of the parquet crate wrote.
const LZ4_FRAME: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];

/// The bytes of a column chunk, where they lie in the file.
#[derive(Clone, Debug)]
pub(super) struct Fetched {
    pub at: u64,
    pub bytes: Bytes,
}

impl Length for Fetched {
    fn len(&self) -> u64 {
        self.at + self.bytes.len() as u64
    }
}

impl ChunkReader for Fetched {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        let outside = || ParquetError::EOF("a page outside of its column chunk".into());
        let from = usize::try_from(start.checked_sub(self.at).ok_or_else(outside)?).map_err(|_| outside())?;
        let rest = (from <= self.bytes.len()).then(|| self.bytes.slice(from..));
        Ok(rest.ok_or_else(outside)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        let rest = self.get_read(start)?.into_inner();
        if length > rest.len() {
            return Err(ParquetError::EOF("a page longer than its column chunk".into()));
        }
        Ok(rest.slice(..length))
    }
}

/// What the pages of a column become.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    physical: Type,
    codec: Compression,
    max_rep: i16,
    max_def: i16,
    /// Bytes of a value in memory; of a text, of where it lies.
    width: u64,
    /// Rows that are decoded at once.
    step: u64,
    /// Of the outermost field that the column belongs to.
    data_type: DataType,
}

impl Shape {
    pub fn new(column: &ColumnChunkMetaData, data_type: &DataType, step: u64) -> Shape {
        let descriptor = column.column_descr();
        Shape {
            physical: column.column_type(),
            codec: column.compression(),
            max_rep: descriptor.max_rep_level(),
            max_def: descriptor.max_def_level(),
            width: width(column),
            step,
            data_type: data_type.clone(),
        }
    }

    /// How many of a page's values can be decoded at once. One row may hold all items of a list column.
    fn at_once(&self, values: u64) -> u64 {
        if self.max_rep > 0 {
            values
        } else {
            values.min(self.step)
        }
    }
}

/// Bytes of a value in memory; of a text, of where it lies.
pub(super) fn width(column: &ColumnChunkMetaData) -> u64 {
    match column.column_type() {
        Type::BOOLEAN => 1,
        Type::INT32 | Type::FLOAT => 4,
        Type::INT64 | Type::DOUBLE => 8,
        Type::INT96 => 12,
        Type::FIXED_LEN_BYTE_ARRAY => column.column_descr().type_length().max(1) as u64,
        Type::BYTE_ARRAY => 8,
    }
}

/// Reads checked pages.
pub(super) struct CheckedPages {
    inner: SerializedPageReader<Fetched>,
    fetched: Arc<Fetched>,
    headers: VecDeque<PageHeader>,
    shape: Shape,
    column: ColumnDescPtr,
    budget: Arc<Budget>,
    /// Lengths of the texts of the dictionary.
    lengths: Vec<u32>,
    longest: u64,
}

impl CheckedPages {
    pub fn new(
        column: &ColumnChunkMetaData,
        fetched: Fetched,
        headers: Vec<PageHeader>,
        shape: Shape,
        rows: usize,
        budget: Arc<Budget>,
    ) -> ParquetResult<CheckedPages> {
        let fetched = Arc::new(fetched);
        Ok(CheckedPages {
            inner: SerializedPageReader::new(fetched.clone(), column, rows, None)?,
            fetched,
            headers: headers.into(),
            shape,
            column: column.column_descr_ptr(),
            budget,
            lengths: Vec::new(),
            longest: 0,
        })
    }

    fn next_checked(&mut self) -> ParquetResult<Option<Page>> {
        let Some(header) = self.headers.pop_front() else {
            return Ok(None);
        };
        let checked = self.try_out(&header);
        self.pass(checked)?;
        let Some(page) = self.inner.get_next_page()? else {
            return Ok(None);
        };
        let checked = self.look_into(&page);
        self.pass(checked)?;
        Ok(Some(page))
    }

    /// The crate's errors are texts; ours goes around it.
    fn pass(&self, checked: Result<()>) -> ParquetResult<()> {
        checked.map_err(|error| {
            let text = error.message().to_string();
            self.budget
                .refuse(error.with("column", self.column.path().string()));
            ParquetError::General(text)
        })
    }

    /// Decompresses into nothing what could become much more than it declares.
    fn try_out(&self, header: &PageHeader) -> Result<()> {
        if !header.is_compressed {
            return Ok(());
        }
        let page = &self.fetched.bytes[header.body..header.body + header.compressed];
        let body = &page[header.levels..];
        let declared = header.uncompressed - header.levels as u64;
        let is_small = |times: u64| body.len() as u64 * times <= UNTRIED_BYTES;
        let made = match self.shape.codec {
            Compression::BROTLI(_) => measure(brotli::Decompressor::new(body, 4096), declared),
            Compression::GZIP(_) if !is_small(GZIP_EXPANSION) => {
                measure(flate2::read::MultiGzDecoder::new(body), declared)
            }
            Compression::LZ4 if body.starts_with(&LZ4_FRAME) && !is_small(255) => {
                return Err(Error::data(format!(
                    "a page of {} bytes is one LZ4 frame, which could become anything",
                    body.len()
                ))
                .with_hint("write the file again with LZ4_RAW, Snappy or Zstandard"));
            }
            _ => return Ok(()),
        };
        if made > declared {
            return Err(corrupt(format!(
                "a page becomes more than the {declared} bytes that it declares"
            )));
        }
        Ok(())
    }

    fn look_into(&mut self, page: &Page) -> Result<()> {
        let malformed = || corrupt("a page's values are malformed".to_string());
        match page {
            Page::DictionaryPage { buf, num_values, .. } => {
                if self.shape.physical == Type::BYTE_ARRAY {
                    self.lengths = text_lengths(buf, *num_values).ok_or_else(malformed)?;
                    self.longest = self.lengths.iter().copied().max().unwrap_or(0).into();
                }
                self.check_instants(buf)
            }
            Page::DataPage {
                num_values, encoding, ..
            }
            | Page::DataPageV2 {
                num_values, encoding, ..
            } => {
                let values = u64::from(*num_values);
                let body = self.values_of(page).ok_or_else(malformed)?;
                let texts = self.text_bytes(*encoding, body, values).ok_or_else(malformed)?;
                if *encoding == Encoding::PLAIN {
                    self.check_instants(body)?;
                }
                let at_once = self.shape.at_once(values);
                self.budget
                    .spend(at_once.saturating_mul(self.shape.width).saturating_add(texts))
            }
        }
    }

    fn check_instants(&self, values: &[u8]) -> Result<()> {
        if self.shape.physical != Type::INT96 {
            return Ok(());
        }
        int96::check_reach(values, &self.shape.data_type)
    }

    /// Where the values of a data page begin, behind the levels.
    fn values_of<'p>(&self, page: &'p Page) -> Option<&'p [u8]> {
        match page {
            Page::DataPageV2 {
                buf,
                def_levels_byte_len,
                rep_levels_byte_len,
                ..
            } => buf.get(*def_levels_byte_len as usize + *rep_levels_byte_len as usize..),
            Page::DataPage {
                buf,
                num_values,
                def_level_encoding,
                rep_level_encoding,
                ..
            } => {
                let mut rest = &buf[..];
                for (max, encoding) in [
                    (self.shape.max_rep, *rep_level_encoding),
                    (self.shape.max_def, *def_level_encoding),
                ] {
                    if max > 0 {
                        rest = rest.get(levels_bytes(rest, max, encoding, *num_values)?..)?;
                    }
                }
                Some(rest)
            }
            Page::DictionaryPage { .. } => None,
        }
    }

    /// Bytes of the texts that can be decoded from a page at once, beyond those that lie in the page as they are.
    fn text_bytes(&self, encoding: Encoding, body: &[u8], values: u64) -> Option<u64> {
        #[allow(deprecated)] // what old files say for RLE_DICTIONARY
        match encoding {
            Encoding::DELTA_LENGTH_BYTE_ARRAY => (delta::count(body)? <= values).then_some(0),
            Encoding::DELTA_BYTE_ARRAY => {
                let prefixes = delta::read(body, values)?;
                let suffixes = delta::read(&body[prefixes.end..], values)?;
                prefixes.sum.checked_add(suffixes.sum)
            }
            Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY if self.longest > 0 => {
                let most = self.shape.at_once(values).saturating_mul(self.longest);
                if self.budget.has_plenty(most) {
                    return Some(most);
                }
                Some(most.min(indexed_bytes(body, values, &self.lengths)?))
            }
            _ => Some(0),
        }
    }
}

fn corrupt(what: String) -> Error {
    Error::data(what).with_hint("the file is corrupt: write it again")
}

/// How many bytes come out of `decoder`, counted up to one more than `enough`. What it can't decode is the crate's to say.
fn measure(mut decoder: impl Read, enough: u64) -> u64 {
    let (mut made, mut buffer) = (0, vec![0; 64 * 1024]);
    while made <= enough {
        match decoder.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(count) => made += count as u64,
        }
    }
    made
}

/// Bytes of the levels at the beginning of `rest`.
fn levels_bytes(rest: &[u8], max: i16, encoding: Encoding, values: u32) -> Option<usize> {
    if encoding == Encoding::RLE {
        let length = u32::from_le_bytes(rest.get(..4)?.try_into().ok()?);
        return (length as usize).checked_add(4);
    }
    let width = 16 - (max as u16).leading_zeros() as usize;
    Some((values as usize * width).div_ceil(8))
}

/// Lengths of the texts of a dictionary, each a length of four bytes and so many bytes.
fn text_lengths(dictionary: &[u8], count: u32) -> Option<Vec<u32>> {
    // Each takes four bytes at least.
    if count as usize > dictionary.len() / 4 {
        return None;
    }
    let mut lengths = Vec::with_capacity(count as usize);
    let mut rest = dictionary;
    for _ in 0..count {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let length = u32::from_le_bytes(*length);
        rest = after.get(length as usize..)?;
        lengths.push(length);
    }
    Some(lengths)
}

/// Bytes of the texts that a page's indices stand for: a byte for their width, then runs and packed groups of them.
fn indexed_bytes(body: &[u8], values: u64, lengths: &[u32]) -> Option<u64> {
    let Some((&width, runs)) = body.split_first() else {
        return Some(0);
    };
    if width > 32 {
        return None;
    }
    let length = |index: u32| u64::from(lengths.get(index as usize).copied().unwrap_or(0));
    let mut reader = delta::Reader { bytes: runs, at: 0 };
    let (mut left, mut total) = (values, 0u64);
    while left > 0 && reader.at < runs.len() {
        let head = reader.varint()?;
        let count = head >> 1;
        if head & 1 == 0 {
            let packed = reader.bytes(usize::from(width).div_ceil(8))?;
            let taken = count.min(left);
            total = total.saturating_add(taken.saturating_mul(length(bits(packed, 0, width))));
            left -= taken;
        } else {
            let whole = usize::try_from(count.checked_mul(width.into())?).ok()?;
            // The last group may be cut off.
            let packed = reader.bytes(whole.min(runs.len() - reader.at))?;
            let taken = count.checked_mul(8)?.min(left);
            if width == 0 {
                total = total.saturating_add(taken.saturating_mul(length(0)));
            }
            for index in 0..taken.min(packed.len() as u64 * 8 / u64::from(width.max(1))) {
                total = total.saturating_add(length(bits(packed, index, width)));
            }
            left -= taken;
        }
        if count == 0 {
            return None;
        }
    }
    Some(total)
}

impl Iterator for CheckedPages {
    type Item = ParquetResult<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for CheckedPages {
    fn get_next_page(&mut self) -> ParquetResult<Option<Page>> {
        self.next_checked()
    }

    fn peek_next_page(&mut self) -> ParquetResult<Option<PageMetadata>> {
        self.inner.peek_next_page()
    }

    fn skip_next_page(&mut self) -> ParquetResult<()> {
        self.headers.pop_front();
        self.inner.skip_next_page()
    }
}

/// The column chunks of a column, as the crate wants them.
#[derive(Default)]
pub(super) struct Chunks(pub VecDeque<CheckedPages>);

impl Iterator for Chunks {
    type Item = ParquetResult<Box<dyn PageReader>>;

    fn next(&mut self) -> Option<Self::Item> {
        let pages = self.0.pop_front()?;
        Some(Ok(Box::new(pages)))
    }
}

impl PageIterator for Chunks {}
