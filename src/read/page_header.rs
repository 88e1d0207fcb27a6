//! Page headers of a fetched column chunk, read before any page is decompressed.
//!
//! The parquet crate reserves what a header declares, up to two gibibytes, and believes counts of values. Here headers
//! are read first (they are a few dozen bytes each; bodies are passed over) and held against what follows them. A header
//! that this module can't read exactly as the crate would is refused.

use parquet::basic::Compression;

use super::thrift::{Cursor, Field, Malformed, Result as Look, wire};

/// What sort of page it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Data,
    DataV2,
    Dictionary,
}

/// What a page's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PageHeader {
    pub kind: Kind,
    /// Nulls included.
    pub values: u64,
    /// As the format numbers encodings.
    pub encoding: i64,
    /// Rows that begin in the page, where the header says so.
    pub rows: Option<u64>,
    /// CRC-32 of the body as it is in the file, where the header has one.
    pub crc: Option<u32>,
    /// Where the header begins in the column chunk.
    pub start: usize,
    /// Bytes of the body, when decompressed.
    pub uncompressed: u64,
    /// Where the body begins in the column chunk.
    pub body: usize,
    /// Bytes of the body in the file.
    pub compressed: usize,
    /// Bytes of levels at the beginning of the body, which are not compressed.
    pub levels: usize,
    /// Of these, bytes of repetition levels.
    pub repetition: usize,
    /// How a page of version 1 encodes definition levels, as the format numbers encodings.
    pub level_encoding: Option<i64>,
    pub is_compressed: bool,
}

/// The pages of a column chunk, in order.
///
/// # Errors
/// The number of the page that is malformed, and what is wrong with it.
pub(super) fn read_all(chunk: &[u8], codec: Compression) -> Result<Vec<PageHeader>, (usize, Malformed)> {
    let mut pages = Vec::new();
    let (mut at, mut number) = (0, 0);
    while at < chunk.len() {
        let (header, end) = read(chunk, at, codec).map_err(|why| (number, why))?;
        // Index pages are passed over.
        pages.extend(header);
        (at, number) = (end, number + 1);
    }
    Ok(pages)
}

/// Where the page ends with which `chunk`, the beginning of a column chunk, holds as many as `values` values; `None`, if it
/// holds less, or is malformed as far as it goes.
pub(super) fn end_of_values(chunk: &[u8], codec: Compression, values: u64) -> Option<usize> {
    let (mut at, mut seen) = (0, 0u64);
    while seen < values {
        if at >= chunk.len() {
            return None;
        }
        let (header, end) = read(chunk, at, codec).ok()?;
        if let Some(header) = header.filter(|header| header.kind != Kind::Dictionary) {
            seen = seen.saturating_add(header.values);
        }
        at = end;
    }
    Some(at)
}

/// The header at `at` (`None` for a page that holds no rows), and where the page ends.
pub(super) fn read(chunk: &[u8], at: usize, codec: Compression) -> Look<(Option<PageHeader>, usize)> {
    let mut cursor = Cursor::new(&chunk[at..]);
    let (mut kind, mut uncompressed, mut compressed) = (None, None, None);
    let (mut data, mut dictionary, mut data_v2, mut crc) = (None, None, None, None);
    let mut last = 0;
    while let Some(field) = cursor.field(&mut last)? {
        match field.id {
            1 => kind = Some(cursor.number(field, wire::I32)?),
            2 => uncompressed = Some(cursor.number(field, wire::I32)?),
            3 => compressed = Some(cursor.number(field, wire::I32)?),
            4 => crc = Some(cursor.number(field, wire::I32)?),
            5 => data = Some(numbers(&mut cursor, field, &[1, 2, 3])?),
            7 => dictionary = Some(numbers(&mut cursor, field, &[1, 2])?),
            8 => data_v2 = Some(numbers(&mut cursor, field, &[1, 4, 5, 6, 3])?),
            _ => cursor.skip(field)?,
        }
    }
    let body = at + cursor.position();
    let missing = Malformed("a number is missing or negative");
    let size = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok()).ok_or(missing);
    let (uncompressed, compressed) = (size(uncompressed)?, size(compressed)? as usize);
    if compressed > chunk.len() - body {
        return Err(Malformed("the page is longer than its column chunk"));
    }
    let end = body + compressed;
    let (kind, details) = match kind {
        Some(0) => (Kind::Data, data),
        Some(1) => return Ok((None, end)),
        Some(2) => (Kind::Dictionary, dictionary),
        Some(3) => (Kind::DataV2, data_v2),
        _ => return Err(Malformed("the page is of an unknown kind")),
    };
    let details = details.ok_or(missing)?;
    let (repetition, definition) = match kind {
        Kind::DataV2 => (size(details.numbers[3])?, size(details.numbers[2])?),
        _ => (0, 0),
    };
    let header = PageHeader {
        kind,
        values: size(details.numbers[0])?,
        encoding: details.numbers[1].ok_or(missing)?,
        rows: details.numbers[4].and_then(|rows| u64::try_from(rows).ok()),
        crc: crc.map(|crc| crc as u32),
        start: at,
        uncompressed,
        body,
        compressed,
        levels: (repetition + definition) as usize,
        repetition: repetition as usize,
        level_encoding: details.numbers[2].filter(|_| kind == Kind::Data),
        is_compressed: codec != Compression::UNCOMPRESSED && !details.is_plain,
    };
    header.check(codec)?;
    Ok((Some(header), end))
}

/// Fields of the struct for one kind of page.
struct Details {
    numbers: [Option<i64>; 5],
    /// Field 7, which only version 2 has, says that the values are not compressed.
    is_plain: bool,
}

fn numbers(cursor: &mut Cursor, field: Field, wanted: &[i16]) -> Look<Details> {
    if field.kind != wire::STRUCT {
        return Err(Malformed("a field is of another type than it should be"));
    }
    let (mut numbers, mut is_plain, mut last) = ([None; 5], false, 0);
    while let Some(field) = cursor.field(&mut last)? {
        match wanted.iter().position(|id| *id == field.id) {
            Some(index) => numbers[index] = Some(cursor.number(field, wire::I32)?),
            None if field.id == 7 => {
                is_plain = field.kind == wire::FALSE;
                cursor.skip(field)?;
            }
            None => cursor.skip(field)?,
        }
    }
    Ok(Details { numbers, is_plain })
}

impl PageHeader {
    /// Holds what the header declares against the bytes that follow it.
    fn check(&self, codec: Compression) -> Look<()> {
        if self.levels > self.compressed || self.levels as u64 > self.uncompressed {
            return Err(Malformed("its levels are longer than the page"));
        }
        if self.is_compressed && self.uncompressed > largest(codec, self.compressed as u64) {
            return Err(Malformed("it declares more bytes than its compression can make"));
        }
        Ok(())
    }

    /// Where the page ends in the column chunk.
    pub fn end(&self) -> usize {
        self.body + self.compressed
    }

    /// Bytes of the body in memory.
    pub fn open_bytes(&self) -> u64 {
        if self.is_compressed {
            self.uncompressed
        } else {
            self.compressed as u64
        }
    }
}

/// The most bytes that `codec` can make from `compressed` ones.
fn largest(codec: Compression, compressed: u64) -> u64 {
    // What a few bytes may stand for: a copy of 64 bytes takes 3 in Snappy, one of 258 takes 2 bits in deflate, lengths in
    // LZ4 go on in steps of 255 a byte, and a run of 128 KiB takes 4 bytes in Zstandard.
    let times = match codec {
        Compression::SNAPPY => 22,
        Compression::LZ4 | Compression::LZ4_RAW => 255,
        Compression::GZIP(_) => GZIP_EXPANSION,
        Compression::ZSTD(_) => 128 * 1024 / 4,
        _ => return u64::MAX,
    };
    // A few bytes more for what is smaller than one such step.
    compressed.saturating_mul(times).saturating_add(64)
}

/// The most bytes that gzip can make from one.
pub(super) const GZIP_EXPANSION: u64 = 1032;
