//! Footers: what a Parquet file says of itself, checked before anything is believed.
//!
//! Layout after the [format](https://parquet.apache.org/docs/file-format/): the file ends with the footer, its length
//! as a 4-byte little-endian integer, and the magic `PAR1` (or `PARE` when the footer is encrypted).

use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use parquet::file::metadata::{
    ColumnChunkMetaData, ParquetMetaData, ParquetMetaDataOptions, ParquetMetaDataReader,
    ParquetStatisticsPolicy, RowGroupMetaData,
};
use parquet::schema::types::SchemaDescriptor;
use std::ops::Range;
use std::sync::Arc;

use super::form::{Form, Forms};
use super::guard::guarded;
use super::limits::{FOOTER_BYTES, GROUP_ROWS, beyond};
use super::outline::{self, encrypted};
use crate::error::{Error, ErrorKind, Result};
use crate::plan::units::RowGroupShape;
use crate::storage::{Listed, Location};

/// Read from the end of a file at once: holds the footer of all but very wide files.
const TAIL_BYTES: u64 = 64 * 1024;

/// Files up to this size are read whole when their footer is: one request instead of two.
pub(super) const SMALL_FILE_BYTES: u64 = 1024 * 1024;

/// Length and magic after the footer.
const SUFFIX_BYTES: u64 = 8;

/// A checked footer.
#[derive(Clone)]
pub struct Footer {
    /// Path of the file, relative to the input location.
    pub file: Arc<str>,
    metadata: Metadata,
    size: u64,
    etag: Option<String>,
    /// The whole file, if it is small enough to have come along.
    pub(super) whole: Option<Bytes>,
}

/// What a footer says, decoded.
#[derive(Clone)]
pub(super) struct Metadata {
    file: Arc<ParquetMetaData>,
    form: Arc<Form>,
}

impl Metadata {
    /// As Parquet has it.
    pub fn metadata(&self) -> &Arc<ParquetMetaData> {
        &self.file
    }

    /// Whether both are known to have one schema: both of what is said in the footers is the same.
    pub fn is_of_the_form_of(&self, other: &Metadata) -> bool {
        Arc::ptr_eq(&self.form, &other.form)
    }

    /// The file's columns in Parquet's types.
    pub fn parquet_schema(&self) -> &SchemaDescriptor {
        self.file.file_metadata().schema_descr()
    }
}

/// How much of a footer is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Detail {
    /// All that reading the file may need; a small file itself comes along.
    Whole,
    /// All that reading the file may need.
    All,
    /// Rows and sizes: what planning needs.
    Sizes,
}

impl Footer {
    /// Reads and checks the footer of one file.
    ///
    /// # Errors
    /// `Data` when the file is not Parquet, is encrypted, or contradicts itself; `InputChanged`, `Storage`.
    pub async fn read(location: &Location, listed: &Listed) -> Result<Footer> {
        Footer::read_in(location, listed, &Forms::default(), Detail::Whole).await
    }

    /// Reads and checks the footer of one file of many, whose schemas are likely to be those in `forms`.
    pub(super) async fn read_in(
        location: &Location,
        listed: &Listed,
        forms: &Forms,
        detail: Detail,
    ) -> Result<Footer> {
        let in_file = |error: Error| error.with("file", &listed.path);
        if listed.size < SUFFIX_BYTES + 4 {
            return Err(in_file(
                Error::data(format!("not a Parquet file: it has only {} bytes", listed.size))
                    .with_hint("remove it from the input, or write it again"),
            ));
        }
        let tail_bytes = match detail {
            Detail::Whole if listed.size <= SMALL_FILE_BYTES => listed.size,
            _ => TAIL_BYTES,
        };
        let tail = read_tail(location, listed, tail_bytes).await?;
        let footer_bytes = footer_length(&tail, listed.size).map_err(in_file)?;
        let needed = footer_bytes + SUFFIX_BYTES;
        let tail = if needed > tail.len() as u64 {
            read_tail(location, listed, needed).await?
        } else {
            tail
        };
        let end = tail.len() - SUFFIX_BYTES as usize;
        let footer = tail.slice(end - footer_bytes as usize..end);
        let is_whole = tail.len() as u64 == listed.size;
        let whole = (detail == Detail::Whole && is_whole).then_some(tail);
        let metadata = parse(&footer, listed.size, forms, detail).map_err(in_file)?;
        Ok(Footer {
            file: listed.path.as_str().into(),
            metadata,
            size: listed.size,
            etag: listed.etag.clone(),
            whole,
        })
    }

    /// Bytes of the file that came along with the footer.
    pub fn held_bytes(&self) -> usize {
        self.whole.as_ref().map_or(0, Bytes::len)
    }

    /// About what the footer takes in memory without those.
    pub fn decoded_bytes(&self) -> usize {
        self.metadata.file.memory_size()
    }

    /// Lets go of the bytes that came along; they will be read again.
    pub fn release_bytes(&mut self) {
        self.whole = None;
    }

    /// Bytes of the file: those that came along, or read from the store.
    pub(super) async fn bytes(&self, location: &Location, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        if let Some(whole) = &self.whole {
            let slice = |range: &Range<u64>| whole.slice(range.start as usize..range.end as usize);
            return Ok(ranges.iter().map(slice).collect());
        }
        location
            .read_ranges(&self.file, self.etag.as_deref(), ranges)
            .await
    }

    /// Whether it was read from the very object that has this size and entity tag.
    pub fn is_of(&self, size: u64, etag: Option<&str>) -> bool {
        self.size == size && self.etag.as_deref() == etag
    }

    /// Bytes of the file.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// The file's schema in Arrow types.
    pub fn schema(&self) -> &SchemaRef {
        self.metadata.form.schema()
    }

    /// Rows of all row groups.
    pub fn rows(&self) -> u64 {
        self.row_groups()
            .iter()
            .map(|group| group.num_rows() as u64)
            .sum()
    }

    /// The row groups as Parquet describes them.
    pub fn row_groups(&self) -> &[RowGroupMetaData] {
        self.metadata.file.row_groups()
    }

    /// The row groups as planning needs them.
    pub fn shapes(&self) -> Vec<RowGroupShape> {
        let shape = |group: &RowGroupMetaData| RowGroupShape {
            rows: group.num_rows() as u64,
            bytes: group.compressed_size() as u64,
        };
        self.row_groups().iter().map(shape).collect()
    }

    pub(super) fn metadata(&self) -> &Metadata {
        &self.metadata
    }
}

async fn read_tail(location: &Location, listed: &Listed, bytes: u64) -> Result<Bytes> {
    let range = listed.size.saturating_sub(bytes)..listed.size;
    let mut buffers = location
        .read_ranges(&listed.path, listed.etag.as_deref(), &[range])
        .await?;
    Ok(buffers.remove(0))
}

fn footer_length(tail: &[u8], file_bytes: u64) -> Result<u64> {
    let suffix = &tail[tail.len() - SUFFIX_BYTES as usize..];
    match &suffix[4..] {
        b"PAR1" => {}
        b"PARE" => return Err(encrypted("the Parquet file is")),
        _ => return Err(not_parquet(tail, file_bytes)),
    }
    let length = u32::from_le_bytes([suffix[0], suffix[1], suffix[2], suffix[3]]) as u64;
    if length + SUFFIX_BYTES + 4 > file_bytes {
        return Err(Error::data(format!(
            "the Parquet file is cut short or corrupt: it declares a footer of {length} bytes and has {file_bytes} bytes in all"
        ))
        .with_hint("write the file again"));
    }
    if length > FOOTER_BYTES {
        return Err(beyond(
            "the footer has",
            format!("{length} bytes"),
            "footer",
            FOOTER_BYTES,
        ));
    }
    Ok(length)
}

fn not_parquet(tail: &[u8], file_bytes: u64) -> Error {
    // With the whole file at hand its beginning says more than its end.
    let (place, sample) = if tail.len() as u64 == file_bytes {
        ("starts", &tail[..tail.len().min(8)])
    } else {
        ("ends", &tail[tail.len() - 8..])
    };
    if place == "starts" && sample.starts_with(b"PAR1") {
        return Error::data("the Parquet file is cut short: its footer is missing")
            .with_hint("write the file again");
    }
    Error::data(format!("not a Parquet file: it {place} with {}", hex(sample)))
        .with_hint("remove it from the input, or narrow input.file_pattern")
}

fn hex(bytes: &[u8]) -> String {
    let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let printable = bytes.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ');
    match std::str::from_utf8(bytes) {
        Ok(text) if printable => format!("{text:?} ({})", digits.join(" ")),
        _ => digits.join(" "),
    }
}

fn parse(footer: &[u8], file_bytes: u64, forms: &Forms, detail: Detail) -> Result<Metadata> {
    let schema = outline::check(footer)?;
    let known = schema.as_ref().and_then(|schema| forms.find(schema));
    let metadata = guarded("can't read the footer of the Parquet file", || {
        let mut options = ParquetMetaDataOptions::new();
        if let Some(form) = &known {
            options.set_schema(form.descriptor().clone());
        }
        if detail == Detail::Sizes {
            options.set_column_stats_policy(ParquetStatisticsPolicy::SkipAll);
            options.set_encoding_stats_policy(ParquetStatisticsPolicy::SkipAll);
            options.set_size_stats_policy(ParquetStatisticsPolicy::SkipAll);
        }
        let file = ParquetMetaDataReader::decode_metadata_with_options(footer, Some(&options))?;
        let form = match known {
            Some(form) => form,
            None => Arc::new(Form::of(file.file_metadata(), schema.as_ref())?),
        };
        Ok(Metadata {
            file: Arc::new(file),
            form,
        })
    })?;
    check(&metadata, file_bytes)?;
    // Only a form that was found to be fine is worth remembering.
    forms.remember(&metadata.form);
    Ok(metadata)
}

/// Declared sizes are checked before anybody allocates by them.
fn check(metadata: &Metadata, file_bytes: u64) -> Result<()> {
    metadata.form.check()?;
    let file = &metadata.file;
    let mut rows: i64 = 0;
    let mut extents = Vec::new();
    for (index, group) in file.row_groups().iter().enumerate() {
        if group.num_rows() < 0 {
            let error = corrupt("the footer declares a negative number of rows");
            return Err(error.with("row_group", index));
        }
        if group.num_rows() as u64 > GROUP_ROWS {
            let error = beyond(
                "the row group has",
                group.num_rows(),
                "rows of a row group",
                GROUP_ROWS,
            );
            return Err(error
                .with("row_group", index)
                .with_hint("write smaller row groups"));
        }
        rows = rows.saturating_add(group.num_rows());
        for (leaf, column) in group.columns().iter().enumerate() {
            let extent = extent(column, file_bytes).map_err(|what| {
                let column = column.column_path().string();
                corrupt(what).with("row_group", index).with("column", column)
            })?;
            extents.push((extent, index, leaf));
        }
    }
    check_overlap(file.row_groups(), extents)?;
    if rows != file.file_metadata().num_rows() {
        return Err(corrupt(&format!(
            "the footer declares {} rows, its row groups hold {rows}",
            file.file_metadata().num_rows()
        )));
    }
    Ok(())
}

/// Where a column chunk lies in the file.
fn extent(column: &ColumnChunkMetaData, file_bytes: u64) -> Result<Range<u64>, &'static str> {
    let start = column
        .dictionary_page_offset()
        .unwrap_or(column.data_page_offset());
    let (length, expanded) = (column.compressed_size(), column.uncompressed_size());
    if start < 0 || length < 0 || expanded < 0 || column.num_values() < 0 {
        return Err("the footer declares a negative size or offset");
    }
    let extent = start as u64..(start as u64).saturating_add(length as u64);
    if extent.end > file_bytes {
        return Err("the footer points past the end of the file");
    }
    Ok(extent)
}

/// Columns that share bytes would make many out of one.
fn check_overlap(groups: &[RowGroupMetaData], mut extents: Vec<(Range<u64>, usize, usize)>) -> Result<()> {
    extents.retain(|(extent, ..)| !extent.is_empty());
    extents.sort_unstable_by_key(|(extent, ..)| extent.start);
    for pair in extents.windows(2) {
        let ((first, ..), (second, group, leaf)) = (&pair[0], &pair[1]);
        if second.start < first.end {
            let column = groups[*group].column(*leaf).column_path().string();
            let error = corrupt("the footer gives two columns the same bytes of the file");
            return Err(error.with("row_group", group).with("column", column));
        }
    }
    Ok(())
}

fn corrupt(what: &str) -> Error {
    Error::new(ErrorKind::Data, what).with_hint("write the file again")
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn footer_of(content: &[u8]) -> Result<Footer> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("x.parquet"), content).unwrap();
        let location = Location::local(folder.path().to_str().unwrap()).unwrap();
        let listed = location.list().await?.remove(0);
        Footer::read(&location, &listed).await
    }

    /// Failure matrix: 19, 20, 21, 42.
    #[tokio::test]
    async fn files_that_are_not_parquet_are_named_with_their_first_bytes() {
        let cases: [(&[u8], &str); 6] = [
            (b"", "it has only 0 bytes"),
            (b"a,b,c\n1,2,3\n4,5,6\n", "it starts with 61 2c 62 2c 63 0a 31 2c"),
            (b"plain text without a newline", "\"plain te\""),
            (b"PAR1 and then it was cut off", "its footer is missing"),
            (
                b"PAR1........\xff\xff\xff\x7fPAR1",
                "declares a footer of 2147483647 bytes",
            ),
            (b"PARE........\x04\x00\x00\x00PARE", "is encrypted"),
        ];
        for (content, expected) in cases {
            let Err(error) = footer_of(content).await else {
                panic!("{content:?} was taken for Parquet")
            };
            assert_eq!(error.kind(), ErrorKind::Data);
            let text = error.to_string();
            assert!(
                text.contains(expected) && text.contains("file x.parquet"),
                "{text}"
            );
        }
    }

    /// Failure matrix: 23.
    #[tokio::test]
    async fn a_garbled_footer_is_an_error_and_not_a_panic() {
        for seed in 0u8..64 {
            let mut content = b"PAR1".to_vec();
            content.extend((0..40u8).map(|byte| byte.wrapping_mul(seed).wrapping_add(seed)));
            content.extend(40u32.to_le_bytes());
            content.extend(b"PAR1");
            assert!(footer_of(&content).await.is_err());
        }
    }
}
