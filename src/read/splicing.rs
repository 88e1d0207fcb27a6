//! The chunks of a fetched row group that are copied: their pages looked through, their page index made.
//!
//! Of a page that is copied the header is read and held against the bytes that follow and against the footer, and its
//! checksum is verified if it has one; its body is not opened. A column whose pages are not as the footer says, or that
//! readers treat in a special way, is decoded instead, and fails or passes as it always would.

use bytes::Bytes;
use flate2::Crc;
use parquet::basic::{Encoding, PageType};
use parquet::file::metadata::{ColumnChunkMetaData, PageEncodingStats};
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::page_index::index_reader::{decode_column_index, decode_offset_index};
use parquet::file::page_index::offset_index::{OffsetIndexMetaData, PageLocation};

use super::extras::Kind as ExtraKind;
use super::group::FetchedGroup;
use super::guard::guarded;
use super::page_header::{Kind, PageHeader};
use super::selection::Columns;
use super::thrift::{Cursor, wire};
use crate::error::{Error, Result};
use crate::write::Form;
use crate::write::splice::{Flaws, Origins, Source, Spliced, SplicedLeaf};

/// What became of the columns of a chunk.
#[derive(Debug, Default)]
pub(super) struct SortedOut {
    pub spliced: Spliced,
    /// Positions of the columns that are decoded, in order.
    pub decoded: Vec<usize>,
    /// Those of them that must be encoded again.
    pub rewritten: Vec<usize>,
}

/// Decides which of `columns` are copied. `headers` are those of all leaves.
///
/// # Errors
/// `Data`, when a page's checksum is wrong.
pub(super) fn sort_out(
    group: &FetchedGroup,
    headers: &[Vec<PageHeader>],
    columns: &Columns,
    origins: &Origins,
    form: &Form,
) -> Result<SortedOut> {
    let mut sorted = SortedOut::default();
    let mut is_copied = vec![false; origins.columns.len()];
    for &column in &columns.spliced {
        let Some(source) = &origins.columns[column] else {
            continue;
        };
        if let Some(leaves) = copy(group, headers, source, origins.flaws, form) {
            if columns.decoded.binary_search(&column).is_err() {
                for leaf in source.leaves.clone() {
                    check_sums(group, leaf, &headers[leaf])?;
                }
            }
            sorted.spliced.leaves.extend(leaves);
            is_copied[column] = true;
        }
    }
    for (column, is_copied) in is_copied.into_iter().enumerate() {
        if !is_copied {
            sorted.rewritten.push(column);
        }
        if !is_copied || columns.decoded.binary_search(&column).is_ok() {
            sorted.decoded.push(column);
        }
    }
    Ok(sorted)
}

/// All leaves of a column, or none.
fn copy(
    group: &FetchedGroup,
    headers: &[Vec<PageHeader>],
    source: &Source,
    flaws: Flaws,
    form: &Form,
) -> Option<Vec<SplicedLeaf>> {
    let leaves = source.leaves.clone().enumerate();
    leaves
        .map(|(index, leaf)| {
            copy_leaf(
                group,
                &headers[leaf],
                leaf,
                source.first_leaf + index,
                flaws,
                form,
            )
        })
        .collect()
}

fn copy_leaf(
    group: &FetchedGroup,
    headers: &[PageHeader],
    leaf: usize,
    place: usize,
    flaws: Flaws,
    form: &Form,
) -> Option<SplicedLeaf> {
    let metadata = group.footer.row_groups()[group.row_group].column(leaf);
    let rows = group.footer.row_groups()[group.row_group].num_rows() as u64;
    let bytes = group.bytes[leaf].clone();
    if metadata.file_path().is_some() {
        return None;
    }
    let (has_dictionary, data) = in_order(headers, bytes.len())?;
    let is_flat = metadata.column_descr().max_rep_level() == 0;
    let values = data
        .iter()
        .try_fold(0u64, |sum, page| sum.checked_add(page.values))?;
    if values != metadata.num_values().max(0) as u64 || values < rows || (is_flat && values != rows) {
        return None;
    }
    let is_compressed = metadata.compression() != parquet::basic::Compression::UNCOMPRESSED;
    if flaws.v2_pages_lie && is_compressed && data.iter().any(|page| page.kind == Kind::DataV2) {
        return None;
    }
    let encodings = count_encodings(headers)?;
    let is_delta = |stats: &PageEncodingStats| stats.encoding == Encoding::DELTA_BYTE_ARRAY;
    if flaws.delta_strings_run_on && encodings.iter().any(is_delta) {
        return None;
    }
    let order = group
        .footer
        .metadata()
        .metadata()
        .file_metadata()
        .column_order(leaf);
    let summary = form.summary(place, metadata, order, flaws);
    let offset_index = if is_flat {
        Some(locate(data, |page| page.values))
    } else {
        locate_rows(data, rows).or_else(|| offset_index(group, leaf, metadata, data, rows))
    };
    let column_index = if summary.keeps_bounds && offset_index.is_some() {
        column_index(group, leaf, metadata, data.len())
    } else {
        None
    };
    Some(SplicedLeaf {
        leaf: place,
        source: metadata.clone(),
        summary,
        has_dictionary,
        data_offset: data[0].start,
        encodings,
        column_index,
        offset_index,
        bloom_filter: group
            .extras
            .get(leaf, ExtraKind::BloomFilter)
            .filter(|filter| is_bloom_filter(filter))
            .cloned(),
        bytes,
        is_copy: true,
    })
}

/// Whether there is a dictionary, and the data pages: one behind the other, from the first byte to the last.
fn in_order(headers: &[PageHeader], bytes: usize) -> Option<(bool, &[PageHeader])> {
    let mut at = 0;
    for page in headers {
        if page.start != at {
            return None;
        }
        at = page.end();
    }
    let has_dictionary = headers.first()?.kind == Kind::Dictionary;
    let data = &headers[usize::from(has_dictionary)..];
    let is_whole = at == bytes && !data.is_empty() && data.iter().all(|page| page.kind != Kind::Dictionary);
    is_whole.then_some((has_dictionary, data))
}

/// Pages of each kind and encoding; `None`, when an encoding is unknown.
fn count_encodings(headers: &[PageHeader]) -> Option<Vec<PageEncodingStats>> {
    let mut counted: Vec<PageEncodingStats> = Vec::new();
    for page in headers {
        let page_type = match page.kind {
            Kind::Data => PageType::DATA_PAGE,
            Kind::DataV2 => PageType::DATA_PAGE_V2,
            Kind::Dictionary => PageType::DICTIONARY_PAGE,
        };
        let encoding = encoding(page.encoding)?;
        let same =
            |stats: &&mut PageEncodingStats| stats.page_type == page_type && stats.encoding == encoding;
        match counted.iter_mut().find(same) {
            Some(stats) => stats.count += 1,
            None => counted.push(PageEncodingStats {
                page_type,
                encoding,
                count: 1,
            }),
        }
    }
    Some(counted)
}

#[allow(deprecated)] // what old files say for RLE_DICTIONARY
fn encoding(number: i64) -> Option<Encoding> {
    Some(match number {
        0 => Encoding::PLAIN,
        2 => Encoding::PLAIN_DICTIONARY,
        3 => Encoding::RLE,
        5 => Encoding::DELTA_BINARY_PACKED,
        6 => Encoding::DELTA_LENGTH_BYTE_ARRAY,
        7 => Encoding::DELTA_BYTE_ARRAY,
        8 => Encoding::RLE_DICTIONARY,
        9 => Encoding::BYTE_STREAM_SPLIT,
        _ => return None,
    })
}

/// An offset index of pages that hold so many rows each.
fn locate(data: &[PageHeader], rows: impl Fn(&PageHeader) -> u64) -> OffsetIndexMetaData {
    let mut first_row_index = 0;
    let page_locations = data.iter().map(|page| {
        let location = PageLocation {
            offset: page.start as i64,
            compressed_page_size: (page.end() - page.start) as i32,
            first_row_index,
        };
        first_row_index += rows(page) as i64;
        location
    });
    OffsetIndexMetaData {
        page_locations: page_locations.collect(),
        unencoded_byte_array_data_bytes: None,
    }
}

/// An offset index of a repeated column whose page headers count rows.
fn locate_rows(data: &[PageHeader], rows: u64) -> Option<OffsetIndexMetaData> {
    let sum = data.iter().try_fold(0u64, |sum, page| {
        sum.checked_add(page.rows.filter(|_| page.kind == Kind::DataV2)?)
    });
    (sum == Some(rows)).then(|| locate(data, |page| page.rows.unwrap_or(0)))
}

/// The file's own offset index of a repeated column, if it agrees with the pages.
fn offset_index(
    group: &FetchedGroup,
    leaf: usize,
    metadata: &ColumnChunkMetaData,
    data: &[PageHeader],
    rows: u64,
) -> Option<OffsetIndexMetaData> {
    let bytes = group.extras.get(leaf, ExtraKind::OffsetIndex)?;
    let mut index = guarded("can't read an offset index", || decode_offset_index(bytes)).ok()?;
    let start = metadata.byte_range().0 as i64;
    for page in &mut index.page_locations {
        page.offset = page.offset.checked_sub(start)?;
    }
    let pages = &index.page_locations;
    let agrees = |(location, page): (&PageLocation, &PageHeader)| {
        location.offset == page.start as i64
            && location.compressed_page_size as usize == page.end() - page.start
    };
    let rises = pages.is_sorted_by_key(|page| page.first_row_index)
        && pages.first()?.first_row_index == 0
        && (pages.last()?.first_row_index as u64) < rows;
    let sizes = index.unencoded_byte_array_data_bytes.as_ref();
    let is_sound = pages.len() == data.len()
        && rises
        && pages.iter().zip(data).all(agrees)
        && sizes.is_none_or(|sizes| sizes.len() == data.len() && sizes.iter().all(|size| *size >= 0));
    is_sound.then_some(index)
}

/// The file's column index, if it can be read and is about so many pages.
fn column_index(
    group: &FetchedGroup,
    leaf: usize,
    metadata: &ColumnChunkMetaData,
    pages: usize,
) -> Option<ColumnIndexMetaData> {
    let bytes = group.extras.get(leaf, ExtraKind::ColumnIndex)?;
    let decode = || decode_column_index(bytes, metadata.column_type());
    let index = guarded("can't read a column index", decode).ok()?;
    let has_counts = |counts: Option<&Vec<i64>>| counts.is_none_or(|counts| counts.len() == pages);
    let is_sound = index.num_pages() == pages as u64
        && has_counts(index.null_counts())
        && has_counts(index.nan_counts());
    is_sound.then_some(index)
}

/// Whether it is a header and as many bytes of filter as that says.
fn is_bloom_filter(filter: &Bytes) -> bool {
    let mut cursor = Cursor::new(filter);
    let (mut bytes, mut last) = (None, 0);
    loop {
        match cursor.field(&mut last) {
            Ok(Some(field)) if field.id == 1 => match cursor.number(field, wire::I32) {
                Ok(number) => bytes = usize::try_from(number).ok(),
                Err(_) => return false,
            },
            Ok(Some(field)) => {
                if cursor.skip(field).is_err() {
                    return false;
                }
            }
            Ok(None) => break,
            Err(_) => return false,
        }
    }
    bytes.is_some_and(|bytes| cursor.position() + bytes == filter.len())
}

/// Verifies the checksums of pages that nobody opens.
fn check_sums(group: &FetchedGroup, leaf: usize, headers: &[PageHeader]) -> Result<()> {
    for (number, page) in headers.iter().enumerate() {
        let Some(expected) = page.crc else { continue };
        let mut crc = Crc::new();
        crc.update(&group.bytes[leaf][page.body..page.end()]);
        if crc.sum() != expected {
            let column = group.footer.row_groups()[group.row_group].column(leaf);
            return Err(
                Error::data(format!("page {number} of the column does not match its checksum"))
                    .with("column", column.column_path().string())
                    .with_hint("the file is corrupt: write it again"),
            );
        }
    }
    Ok(())
}
