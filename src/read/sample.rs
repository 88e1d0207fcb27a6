//! The first rows of one file, in the run's schema, for a trial of the model.

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::Schema;
use parquet::arrow::ProjectionMask;
use std::sync::Arc;

use super::beginning::Beginnings;
use super::chunk::{conform, plain};
use super::footer::Footer;
use super::group::Wanted;
use super::head::first_rows;
use crate::error::{Error, Result};
use crate::origin::Origin;
use crate::storage::Location;

/// A trial is not worth more bytes than these.
const MOST_BYTES: u64 = 64 << 20;

/// Rows with their whereabouts.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The rows.
    pub rows: RecordBatch,
    /// Where they came from.
    pub origin: Origin,
}

/// Reads these `columns` of `schema`, up to `rows` rows of the file's first row group that has any. `None` when there are no rows, or when they are too large to be fetched for a trial.
///
/// # Errors
/// `Data`, `InputChanged` or `Storage`, naming the file.
pub async fn read(
    location: &Location,
    footer: &Arc<Footer>,
    schema: &Schema,
    columns: &[usize],
    rows: usize,
) -> Result<Option<Sample>> {
    let Some(row_group) = footer.row_groups().iter().position(|group| group.num_rows() > 0) else {
        return Ok(None);
    };
    let in_group = |error: Error| error.with("file", &footer.file).with("row_group", row_group);
    let wanted_schema = plain(&schema.project(columns).map_err(|error| {
        Error::internal("a column of the model that is not in the schema").with_source(error)
    })?);
    let roots = wanted_schema.fields().iter().map(|field| {
        let found = footer.schema().index_of(field.name());
        found.map_err(|_| Error::data("the file lacks the column").with("column", field.name()))
    });
    let roots: Vec<usize> = roots.collect::<Result<_>>().map_err(in_group)?;
    let mask = ProjectionMask::roots(footer.metadata().parquet_schema(), roots);
    let wanted = Wanted::new(footer, row_group, &mask);
    if Beginnings::new(footer, row_group, &wanted, rows).bytes() > MOST_BYTES {
        return Ok(None);
    }
    let parts = first_rows(location, footer, row_group, mask, wanted, rows).await;
    let parts = parts.map_err(in_group)?.into_iter();
    let parts = parts.map(|part| conform(part, &wanted_schema));
    let parts: Vec<RecordBatch> = parts.collect::<Result<_>>().map_err(in_group)?;
    let read = concat_batches(&wanted_schema, &parts)
        .map_err(|error| in_group(Error::data("can't join rows").with_source(error)))?;
    let origin = Origin::of(&footer.file, row_group, 0, read.num_rows());
    Ok((read.num_rows() > 0).then_some(Sample { rows: read, origin }))
}
