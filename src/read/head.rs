//! The first rows of a folder, for a person who wants to see what is in it.

use arrow::array::RecordBatch;
use parquet::arrow::ProjectionMask;
use std::sync::Arc;

use super::beginning::Beginnings;
use super::footer::Footer;
use super::group::{FetchedGroup, Wanted};
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
        let footer = Arc::new(Footer::read(location, file).await?);
        for row_group in 0..footer.row_groups().len() {
            if missing == 0 {
                return Ok(batches);
            }
            let mask = project(&footer, columns)?;
            let in_group = |error: Error| error.with("file", &file.path).with("row_group", row_group);
            let wanted = Wanted::new(&footer, row_group, &mask);
            let read = first_rows(location, &footer, row_group, mask, wanted, missing);
            for batch in read.await.map_err(in_group)? {
                missing -= batch.num_rows();
                batches.push(batch);
            }
        }
    }
    Ok(batches)
}

/// The first rows of a row group, `rows` of them if there are so many. Errors name no place.
pub(super) async fn first_rows(
    location: &Location,
    footer: &Arc<Footer>,
    row_group: usize,
    mask: ProjectionMask,
    wanted: Wanted,
    rows: usize,
) -> Result<Vec<RecordBatch>> {
    let bytes = Beginnings::new(footer, row_group, &wanted, rows)
        .fetch(location)
        .await?;
    let group = FetchedGroup {
        footer: footer.clone(),
        row_group,
        wanted,
        bytes,
        extras: Default::default(),
    };
    let headers = group.headers()?;
    let there = footer.row_groups()[row_group].num_rows() as usize;
    let mut group = group.open(headers, mask, rows.clamp(1, there.max(1)))?;
    let (mut missing, mut batches) = (rows, Vec::new());
    while missing > 0
        && let Some(batch) = group.next()?
    {
        let kept = batch.slice(0, batch.num_rows().min(missing));
        missing -= kept.num_rows();
        batches.push(kept);
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
