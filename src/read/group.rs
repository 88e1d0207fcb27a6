//! A row group whose bytes have been fetched: checked as a whole, then opened for decoding.
//!
//! Fetching happens on the I/O runtime; all that follows happens on the worker that decodes.

use arrow::datatypes::{DataType, Field};
use arrow::error::ArrowError;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, RowGroups};
use parquet::arrow::parquet_to_arrow_field_levels;
use parquet::column::page::PageIterator;
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use super::budget::Budget;
use super::extras::FetchedExtras;
use super::footer::Footer;
use super::guard::guarded;
use super::limits::{OPEN_PAGE_BYTES, OPEN_PAGE_EXPANSION, beyond};
use super::page_header::{self, Kind, PageHeader};
use super::pages::{CheckedPages, Chunks, Fetched, Shape};
use super::thrift::Malformed;
use crate::error::{Error, Result};
use crate::origin::Origin;

/// What can't be done when the parquet crate fails.
pub(super) const CAN_NOT_DECODE: &str = "can't decode the row group";

/// Row groups whose pages become more than these are decoded one by one.
const RUN_BYTES: u64 = 64 << 20;

/// The columns of a row group that are to be read, and where they lie in the file.
pub(super) struct Wanted {
    leaves: Vec<usize>,
    /// One per leaf.
    pub ranges: Vec<Range<u64>>,
}

impl Wanted {
    /// The columns that `mask` lets through.
    pub fn new(footer: &Footer, row_group: usize, mask: &ProjectionMask) -> Wanted {
        let columns = footer.row_groups()[row_group].columns();
        let leaves: Vec<usize> = (0..columns.len())
            .filter(|leaf| mask.leaf_included(*leaf))
            .collect();
        let range = |leaf: &usize| {
            // Footers with negative ones are refused.
            let (start, length) = columns[*leaf].byte_range();
            start..start + length
        };
        Wanted {
            ranges: leaves.iter().map(range).collect(),
            leaves,
        }
    }

    /// The columns' places in the file.
    pub fn leaves(&self) -> &[usize] {
        &self.leaves
    }
}

/// A fetched row group. Errors name its column; whoever calls knows file and row group.
pub(super) struct FetchedGroup {
    pub footer: Arc<Footer>,
    pub row_group: usize,
    pub wanted: Wanted,
    /// The bytes of `wanted.ranges`.
    pub bytes: Vec<bytes::Bytes>,
    /// What is known about chunks that may be copied.
    pub extras: FetchedExtras,
}

/// A row group that is being decoded.
pub(super) struct OpenGroup {
    reader: ParquetRecordBatchReader,
    budget: Arc<Budget>,
}

impl OpenGroup {
    /// The next rows.
    ///
    /// # Errors
    /// `Data`, when pages are corrupt or become more than the limits allow.
    pub fn next(&mut self) -> Result<Option<arrow::array::RecordBatch>> {
        self.budget.refill();
        guarded(CAN_NOT_DECODE, || self.reader.next().transpose().map_err(plainly))
            .map_err(|error| self.budget.refusal().unwrap_or(error))
    }
}

/// The crate's error as it was before it went through Arrow's.
fn plainly(error: ArrowError) -> ParquetError {
    match error {
        ArrowError::ParquetError(text) => {
            let own = text.trim_start_matches("Parquet argument error: ");
            ParquetError::General(own.trim_start_matches("Parquet error: ").to_string())
        }
        other => other.into(),
    }
}

impl FetchedGroup {
    /// Opens the columns that `mask` lets through to be decoded `step` rows at a time. `headers` are those of all columns
    /// that were fetched.
    ///
    /// # Errors
    /// `Data`, naming the limit that the pages are beyond.
    pub fn open(
        &self,
        headers: Vec<Vec<PageHeader>>,
        mask: ProjectionMask,
        step: usize,
    ) -> Result<OpenGroup> {
        open_all(vec![(self, self.choose(headers, &mask)?)], mask, step)
    }

    /// Opens the columns that `mask` lets through of row groups that lie one behind the other in the output, to be decoded by one set of readers:
    /// to make those anew for every hundred rows costs more than the rows. `None` when they are not of one form, or when
    /// only decoding one after the other can tell which row is whose.
    ///
    /// # Errors
    /// Any; whoever opens them one by one gets to know which of them it was.
    pub fn open_run(run: &[FetchedGroup], mask: &ProjectionMask, step: usize) -> Result<Option<OpenGroup>> {
        let mut chosen = Vec::with_capacity(run.len());
        let mut open_bytes = 0u64;
        for piece in run {
            let headers = piece.headers()?;
            if !piece.follows(&run[0]) || !piece.has_a_value_per_row(&headers) {
                return Ok(None);
            }
            open_bytes += headers.iter().flatten().map(PageHeader::open_bytes).sum::<u64>();
            chosen.push((piece, piece.choose(headers, mask)?));
        }
        if open_bytes > RUN_BYTES {
            return Ok(None);
        }
        open_all(chosen, mask.clone(), step).map(Some)
    }

    /// The rows that the footer promises.
    pub fn origin(&self) -> Origin {
        let rows = self.footer.row_groups()[self.row_group].num_rows() as usize;
        Origin::of(&self.footer.file, self.row_group, 0, rows)
    }

    /// Whether both are known to have one schema.
    pub fn follows(&self, other: &FetchedGroup) -> bool {
        self.footer.metadata().is_of_the_form_of(other.footer.metadata())
    }

    /// Whether the pages of each column hold as many values as there are rows, so that nothing of one row group can be
    /// taken for the next one's.
    fn has_a_value_per_row(&self, headers: &[Vec<PageHeader>]) -> bool {
        let group = &self.footer.row_groups()[self.row_group];
        self.wanted.leaves.iter().zip(headers).all(|(leaf, pages)| {
            let data = pages.iter().filter(|page| page.kind != Kind::Dictionary);
            let values = data.fold(0u64, |sum, page| sum.saturating_add(page.values));
            let is_flat = group.column(*leaf).column_descr().max_rep_level() == 0;
            is_flat && values == group.num_rows() as u64
        })
    }

    /// The columns that `mask` lets through, with their pages.
    fn choose(&self, headers: Vec<Vec<PageHeader>>, mask: &ProjectionMask) -> Result<Vec<Fetching>> {
        let fetched = self
            .wanted
            .leaves
            .iter()
            .zip(&self.wanted.ranges)
            .zip(&self.bytes);
        let chosen: Vec<Fetching> = fetched
            .zip(headers)
            .filter(|(((leaf, _), _), _)| mask.leaf_included(**leaf))
            .map(|(((leaf, range), bytes), headers)| Fetching {
                leaf: *leaf,
                fetched: Fetched {
                    at: range.start,
                    bytes: bytes.clone(),
                },
                headers,
            })
            .collect();
        let open_bytes: u64 = chosen.iter().map(|column| open_bytes(&column.headers)).sum();
        let file_bytes: u64 = chosen
            .iter()
            .map(|column| column.fetched.bytes.len() as u64)
            .sum();
        if open_bytes > OPEN_PAGE_BYTES && open_bytes / OPEN_PAGE_EXPANSION > file_bytes {
            return Err(beyond(
                "pages of the row group that are open at once declare",
                format!("{open_bytes} bytes for {file_bytes} bytes of the file"),
                "open pages",
                format!("{OPEN_PAGE_BYTES} bytes, or {OPEN_PAGE_EXPANSION} times what is in the file"),
            )
            .with_hint("write the file with smaller pages"));
        }
        Ok(chosen)
    }

    /// The pages' headers, checked, of each column that was fetched.
    ///
    /// # Errors
    /// `Data`, naming the column whose pages are malformed.
    pub fn headers(&self) -> Result<Vec<Vec<PageHeader>>> {
        let group = &self.footer.row_groups()[self.row_group];
        let mut all = Vec::with_capacity(self.bytes.len());
        for (leaf, bytes) in self.wanted.leaves.iter().zip(&self.bytes) {
            let column = group.column(*leaf);
            let headers = page_header::read_all(bytes, column.compression());
            all.push(headers.map_err(|(page, Malformed(why))| {
                Error::data(format!("can't read page {page} of the column: {why}"))
                    .with("column", column.column_path().string())
                    .with_hint("the file is corrupt: write it again")
            })?);
        }
        Ok(all)
    }

    /// Appends the pages of the columns to those of row groups before this one.
    fn pages(
        &self,
        chosen: Vec<Fetching>,
        step: usize,
        budget: &Arc<Budget>,
        pages: &mut [Chunks],
    ) -> ParquetResult<()> {
        let group = &self.footer.row_groups()[self.row_group];
        for Fetching {
            leaf,
            fetched,
            headers,
        } in chosen
        {
            let column = group.column(leaf);
            let root = self.footer.metadata().parquet_schema().get_column_root_idx(leaf);
            let field = self.footer.schema().field(root);
            let shape = Shape::new(column, field.data_type(), step as u64);
            let rows = group.num_rows() as usize;
            let checked = CheckedPages::new(column, fetched, headers, shape, rows, budget.clone())?;
            pages[leaf].0.push_back(checked);
        }
        Ok(())
    }
}

/// Opens the chosen columns of row groups of one form.
fn open_all(
    chosen: Vec<(&FetchedGroup, Vec<Fetching>)>,
    mask: ProjectionMask,
    step: usize,
) -> Result<OpenGroup> {
    let footer = chosen[0].0.footer.clone();
    let columns = chosen.iter().flat_map(|(_, columns)| columns);
    let pages = columns.flat_map(|column| &column.headers);
    let budget = Arc::new(Budget::new(pages.map(PageHeader::open_bytes).sum()));
    let descriptor = footer.metadata().parquet_schema();
    let fields = footer.schema().fields();
    let mut roots: Vec<usize> = chosen[0]
        .1
        .iter()
        .map(|column| descriptor.get_column_root_idx(column.leaf))
        .collect();
    roots.dedup();
    let nulls = null_bytes(roots.iter().map(|root| &fields[*root])).saturating_mul(step as u64);
    budget.spend(nulls)?;

    let reader = guarded(CAN_NOT_DECODE, || {
        let groups: Vec<&RowGroupMetaData> = chosen
            .iter()
            .map(|(piece, _)| &piece.footer.row_groups()[piece.row_group])
            .collect();
        let mut pages: Vec<Chunks> = groups[0].columns().iter().map(|_| Chunks::default()).collect();
        for (piece, columns) in chosen {
            piece.pages(columns, step, &budget, &mut pages)?;
        }
        let levels = parquet_to_arrow_field_levels(descriptor, mask, Some(fields))?;
        let source = Source {
            metadata: footer.metadata().metadata(),
            groups,
            pages: Mutex::new(pages),
        };
        ParquetRecordBatchReader::try_new_with_row_groups(&levels, &source, step, None)
    })?;
    Ok(OpenGroup { reader, budget })
}

/// A column that is about to be decoded.
struct Fetching {
    leaf: usize,
    fetched: Fetched,
    headers: Vec<PageHeader>,
}

/// Bytes of a column that are open at once.
fn open_bytes(pages: &[PageHeader]) -> u64 {
    let largest = |is_dictionary: bool| {
        pages
            .iter()
            .filter(|page| (page.kind == Kind::Dictionary) == is_dictionary)
            .map(PageHeader::open_bytes)
            .max()
            .unwrap_or(0)
    };
    largest(true) + largest(false)
}

/// Bytes that a row of nulls takes all the same, beyond a few of each column: types of fixed length leave room for values.
pub(super) fn null_bytes<'a>(fields: impl Iterator<Item = &'a Arc<Field>>) -> u64 {
    fields.fold(0u64, |sum, field| {
        sum.saturating_add(null_bytes_of(field.data_type()))
    })
}

fn null_bytes_of(data_type: &DataType) -> u64 {
    match data_type {
        DataType::FixedSizeBinary(length) => (*length).max(0) as u64,
        DataType::FixedSizeList(item, length) => {
            let item = match item.data_type() {
                DataType::Utf8View | DataType::BinaryView => 16,
                nested if nested.is_nested() => null_bytes_of(nested).max(4),
                DataType::FixedSizeBinary(length) => (*length).max(0) as u64,
                scalar => scalar.primitive_width().unwrap_or(8) as u64,
            };
            item.saturating_mul((*length).max(0) as u64)
        }
        DataType::Struct(fields) => null_bytes(fields.iter()),
        _ => 0,
    }
}

/// The row groups, as the crate wants them.
struct Source<'a> {
    metadata: &'a ParquetMetaData,
    groups: Vec<&'a RowGroupMetaData>,
    /// Of each column of the file; none of those that are not wanted.
    pages: Mutex<Vec<Chunks>>,
}

impl RowGroups for Source<'_> {
    fn num_rows(&self) -> usize {
        self.groups.iter().map(|group| group.num_rows() as usize).sum()
    }

    fn column_chunks(&self, leaf: usize) -> ParquetResult<Box<dyn PageIterator>> {
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        let pages = pages.get_mut(leaf).map(std::mem::take);
        let pages = pages.filter(|pages| !pages.0.is_empty());
        let pages = pages.ok_or_else(|| ParquetError::General("a column that was not fetched".into()))?;
        Ok(Box::new(pages))
    }

    fn row_groups(&self) -> Box<dyn Iterator<Item = &RowGroupMetaData> + '_> {
        Box::new(self.groups.iter().copied())
    }

    fn metadata(&self) -> &ParquetMetaData {
        self.metadata
    }
}
