//! The first rows of a folder, for a person who wants to see what is in it.

use arrow::array::RecordBatch;
use parquet::arrow::ProjectionMask;
use parquet::arrow::push_decoder::ParquetPushDecoderBuilder;

use super::fetch::{guarded, open_row_group};
use super::footer::Footer;
use crate::error::{Error, Result};
use crate::signature::find_column;
use crate::storage::{Listed, Location};

/// Reads the first `rows` rows of `files`, in their order; of all columns, or of `columns` by name.
///
/// # Errors
/// `Data` when a file is not Parquet; `Config` when a column does not exist.
pub async fn head(
    location: &Location,
    files: &[Listed],
    rows: usize,
    columns: Option<&[String]>,
) -> Result<Vec<RecordBatch>> {
    let mut batches = Vec::new();
    let mut missing = rows;
    for file in files {
        let footer = Footer::read(location, file).await?;
        for row_group in 0..footer.row_groups().len() {
            if missing == 0 {
                return Ok(batches);
            }
            let projection = project(&footer, columns)?;
            let builder = guarded(|| {
                let builder = ParquetPushDecoderBuilder::new_with_metadata(footer.metadata().clone());
                Ok(builder
                    .with_row_groups(vec![row_group])
                    .with_projection(projection)
                    .with_batch_size(missing)
                    .with_limit(missing))
            })?;
            let read = |ranges: Vec<_>| async move {
                location
                    .read_ranges(&file.path, file.etag.as_deref(), &ranges)
                    .await
            };
            let Some(reader) = open_row_group(builder, read).await? else {
                continue;
            };
            for batch in reader {
                let batch = batch.map_err(|error| {
                    Error::data("can't decode the row group")
                        .with_source(error)
                        .with("file", &file.path)
                        .with("row_group", row_group)
                })?;
                missing -= batch.num_rows().min(missing);
                batches.push(batch);
            }
        }
    }
    Ok(batches)
}

fn project(footer: &Footer, columns: Option<&[String]>) -> Result<ProjectionMask> {
    let Some(columns) = columns else {
        return Ok(ProjectionMask::all());
    };
    let mut roots = Vec::with_capacity(columns.len());
    for name in columns {
        let found = find_column(footer.schema(), name)?;
        let root = found.ok_or_else(|| {
            let names: Vec<_> = footer
                .schema()
                .fields()
                .iter()
                .map(|field| field.name().as_str())
                .collect();
            Error::config(format!("there is no column {name}"))
                .with_hint(format!("there are: {}", names.join(", ")))
        })?;
        roots.push(root);
    }
    Ok(ProjectionMask::roots(footer.metadata().parquet_schema(), roots))
}
