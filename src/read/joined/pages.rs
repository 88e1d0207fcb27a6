//! The pages of flat columns of small row groups, appended to a growing column.
//!
//! What is read here is what nearly all writers write for flat columns: plain values and dictionaries, levels in runs, a few
//! codecs. All declared sizes are held against what is there, as for any page. Everything else, and everything that is not
//! as it should be, is refused without a word: the column is decoded by the parquet crate then, which passes it or says what
//! is wrong and where.

use arrow::array::BooleanBufferBuilder;
use arrow::buffer::{BooleanBuffer, NullBuffer};
use flate2::Crc;
use parquet::basic::{Compression, Type as Physical};

use super::super::group::FetchedGroup;
use super::super::page_header::{self, Kind, PageHeader};
use super::hybrid::{Stretch, Stretches, unpack};
use super::values::{Arena, Bits, COLUMN_BYTES, Growing, Numbers, Texts};

/// Encodings, as the format numbers them.
const PLAIN: i64 = 0;
const PLAIN_DICTIONARY: i64 = 2;
const RLE: i64 = 3;
const RLE_DICTIONARY: i64 = 8;

/// A column of row groups that are joined.
pub(super) struct Column {
    pub physical: Physical,
    /// Whether there are definition levels.
    pub is_optional: bool,
    pub rows: usize,
    pub values: Values,
    validity: Option<BooleanBufferBuilder>,
}

/// Its values, nulls left out.
pub(super) enum Values {
    Narrow(Growing<Numbers<u32>>),
    Wide(Growing<Numbers<u64>>),
    Bits(Growing<Bits>),
    Texts(Growing<Texts>),
}

/// Does the same for values of any type.
macro_rules! of_any {
    ($values:expr, $growing:ident => $what:expr) => {
        match $values {
            $crate::read::joined::pages::Values::Narrow($growing) => $what,
            $crate::read::joined::pages::Values::Wide($growing) => $what,
            $crate::read::joined::pages::Values::Bits($growing) => $what,
            $crate::read::joined::pages::Values::Texts($growing) => $what,
        }
    };
}
pub(super) use of_any;

impl Column {
    /// `None`: values of this type are not joined.
    pub fn new(physical: Physical, is_optional: bool) -> Option<Column> {
        let values = match physical {
            Physical::INT32 | Physical::FLOAT => Values::Narrow(Growing::new()),
            Physical::INT64 | Physical::DOUBLE => Values::Wide(Growing::new()),
            Physical::BOOLEAN => Values::Bits(Growing::new()),
            Physical::BYTE_ARRAY => Values::Texts(Growing::new()),
            Physical::INT96 | Physical::FIXED_LEN_BYTE_ARRAY => return None,
        };
        Some(Column {
            physical,
            is_optional,
            rows: 0,
            values,
            validity: None,
        })
    }

    /// Appends the rows of a row group's leaf.
    pub fn append(&mut self, group: &FetchedGroup, leaf: usize, opener: &mut Opener) -> Option<()> {
        let row_group = &group.footer.row_groups()[group.row_group];
        let metadata = row_group.column(leaf);
        let rows = usize::try_from(row_group.num_rows()).ok()?;
        if metadata.file_path().is_some() || metadata.num_values() != row_group.num_rows() {
            return None;
        }
        let (chunk, codec) = (&group.bytes[leaf], metadata.compression());
        let (mut at, mut left) = (0, rows);
        of_any!(&mut self.values, values => values.begin());
        while at < chunk.len() {
            let (header, end) = page_header::read(chunk, at, codec).ok()?;
            at = end;
            let Some(header) = header else { continue };
            let page = Page {
                count: usize::try_from(header.values).ok()?,
                bytes: &chunk[header.body..end],
                header,
                codec,
            };
            page.check_sum()?;
            if page.header.kind == Kind::Dictionary {
                self.dictionary(&page, opener)?;
                continue;
            }
            left = left.checked_sub(page.count)?;
            self.data(&page, opener)?;
        }
        of_any!(&mut self.values, values => values.end())?;
        (left == 0).then_some(())
    }

    fn dictionary(&mut self, page: &Page, opener: &mut Opener) -> Option<()> {
        if !matches!(page.header.encoding, PLAIN | PLAIN_DICTIONARY) || self.physical == Physical::BOOLEAN {
            return None;
        }
        let body = opener.open(page, page.bytes, page.header.uncompressed)?;
        of_any!(&mut self.values, values => values.dictionary(body, page.count))
    }

    fn data(&mut self, page: &Page, opener: &mut Opener) -> Option<()> {
        let Page { header, count, .. } = page;
        let count = *count;
        let (present, body) = if header.kind == Kind::DataV2 {
            if header.repetition > 0 {
                return None;
            }
            let (levels, values) = page.bytes.split_at_checked(header.levels)?;
            let declared = header.uncompressed.checked_sub(header.levels as u64)?;
            let body = opener.open(page, values, declared)?;
            match self.is_optional {
                true => (self.levels(levels, count)?, body),
                false => (count, body),
            }
        } else {
            let body = opener.open(page, page.bytes, header.uncompressed)?;
            if self.is_optional {
                if header.level_encoding != Some(RLE) {
                    return None;
                }
                let (length, rest) = body.split_first_chunk::<4>()?;
                let (levels, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
                (self.levels(levels, count)?, rest)
            } else {
                (count, body)
            }
        };
        self.rows += count;
        match (header.encoding, &mut self.values) {
            (RLE, Values::Bits(bits)) => bits.runs(body, present),
            (PLAIN, values) => of_any!(values, values => values.plain(body, present)),
            (PLAIN_DICTIONARY | RLE_DICTIONARY, values) => {
                of_any!(values, values => values.indexed(body, present))
            }
            _ => None,
        }
    }

    /// Takes note of which of the next `count` rows have values; says how many.
    fn levels(&mut self, levels: &[u8], count: usize) -> Option<usize> {
        let mut stretches = Stretches::new(levels, 1, count)?;
        let (mut present, mut seen) = (0, 0);
        while !stretches.is_done() {
            match stretches.next()? {
                Stretch::Run { value, count } => {
                    let is_valid = match value {
                        0 => false,
                        1 => true,
                        _ => return None,
                    };
                    present += if is_valid { count } else { 0 };
                    if !is_valid || self.validity.is_some() {
                        self.validity(seen).append_n(count, is_valid);
                    }
                    seen += count;
                }
                Stretch::Packed { bytes, count } => {
                    let validity = self.validity(seen);
                    unpack(bytes, 1, count, |level| {
                        validity.append(level == 1);
                        present += level as usize;
                    });
                    seen += count;
                }
            }
        }
        Some(present)
    }

    /// Which rows have values, made when it is first told that some have none. `seen` are rows of the page before those.
    fn validity(&mut self, seen: usize) -> &mut BooleanBufferBuilder {
        let before = self.rows + seen;
        self.validity.get_or_insert_with(|| {
            let mut validity = BooleanBufferBuilder::new(before + 1024);
            validity.append_n(before, true);
            validity
        })
    }

    /// Which rows have values; `None`: all have.
    pub fn take_nulls(&mut self) -> Option<NullBuffer> {
        let valid: BooleanBuffer = self.validity.take()?.finish();
        Some(NullBuffer::new(valid)).filter(|nulls| nulls.null_count() > 0)
    }
}

impl Growing<Bits> {
    /// Appends truth values that are kept in runs behind their length in bytes.
    fn runs(&mut self, body: &[u8], count: usize) -> Option<()> {
        self.spell_out()?;
        if count == 0 {
            return Some(());
        }
        let (length, rest) = body.split_first_chunk::<4>()?;
        let (runs, _) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        if self.words.bytes() + count > COLUMN_BYTES {
            return None;
        }
        let mut stretches = Stretches::new(runs, 1, count)?;
        while !stretches.is_done() {
            match stretches.next()? {
                Stretch::Run { value: 2.., .. } => return None,
                Stretch::Run { value, count } => {
                    let end = self.words.len() + count;
                    self.words.0.resize(end, value == 1);
                }
                Stretch::Packed { bytes, count } => {
                    unpack(bytes, 1, count, |bit| self.words.0.push(bit == 1));
                }
            }
        }
        Some(())
    }
}

/// A page as it lies in its chunk.
struct Page<'a> {
    header: PageHeader,
    /// Its values; of a page of data nulls as well.
    count: usize,
    /// What follows the header.
    bytes: &'a [u8],
    /// Of the chunk.
    codec: Compression,
}

impl Page<'_> {
    /// `None`: its checksum is another one.
    fn check_sum(&self) -> Option<()> {
        let Some(expected) = self.header.crc else {
            return Some(());
        };
        let mut crc = Crc::new();
        crc.update(self.bytes);
        (crc.sum() == expected).then_some(())
    }
}

/// Decompresses pages into memory that is used again.
pub(super) struct Opener {
    body: Vec<u8>,
    snappy: snap::raw::Decoder,
    zstd: Option<zstd::bulk::Decompressor<'static>>,
}

impl Opener {
    pub fn new() -> Opener {
        Opener {
            body: Vec::new(),
            snappy: snap::raw::Decoder::new(),
            zstd: None,
        }
    }

    /// What `bytes` of a page become, exactly as many as are `declared`.
    fn open<'a>(&'a mut self, page: &Page, bytes: &'a [u8], declared: u64) -> Option<&'a [u8]> {
        let declared = usize::try_from(declared).ok()?;
        if !page.header.is_compressed {
            return (bytes.len() == declared).then_some(bytes);
        }
        if declared > COLUMN_BYTES {
            return None;
        }
        if bytes.is_empty() && declared == 0 {
            return Some(bytes);
        }
        if self.body.len() < declared {
            self.body.resize(declared, 0);
        }
        let body = &mut self.body[..declared];
        let made = match page.codec {
            Compression::SNAPPY => match snap::raw::decompress_len(bytes) {
                Ok(length) if length == declared => self.snappy.decompress(bytes, body).ok()?,
                _ => return None,
            },
            Compression::ZSTD(_) => {
                let zstd = match &mut self.zstd {
                    Some(zstd) => zstd,
                    none => none.insert(zstd::bulk::Decompressor::new().ok()?),
                };
                zstd.decompress_to_buffer(bytes, body).ok()?
            }
            _ => return None,
        };
        (made == declared).then_some(&*body)
    }
}
