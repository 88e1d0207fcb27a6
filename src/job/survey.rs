//! The input, looked at once: listing, every footer, one schema.

use arrow::datatypes::Schema;
use std::sync::Arc;

use super::Places;
use crate::config::Job;
use crate::error::{Error, Result};
use crate::plan::list::{self, Selection};
use crate::plan::schema::InputSchema;
use crate::plan::{Part, PlannedFile, Unit, units};
use crate::read::Footer;
use crate::read::fetch::read_footers;

/// Footers are kept for reading while they are few; beyond that they are cheaper to read again than to hold.
const KEPT_FOOTERS: usize = 512;

/// What the input holds.
pub struct Survey {
    /// Input objects, sorted by path.
    pub files: Vec<PlannedFile>,
    /// The schema that every file can be read as.
    pub schema: Schema,
    /// The units.
    pub units: Vec<Unit>,
    footers: Vec<Arc<Footer>>,
}

impl Survey {
    /// Lists the input, reads every footer and cuts the units.
    ///
    /// # Errors
    /// `Data` when there is nothing to read, when a file is not Parquet, or when files differ in schema.
    pub async fn of(job: &Job, places: &Places) -> Result<Survey> {
        let listed = places.input.list().await?;
        let is_file = places.input.local_path().is_some_and(|path| path.is_file());
        let pattern = (!is_file).then_some(job.input.file_pattern.as_str());
        let Selection {
            files,
            hidden,
            unmatched,
            own_output,
        } = list::select(listed, pattern, places.output_in_input.as_deref())
            .map_err(|error| error.with("location", places.input.display()))?;
        tracing::debug!(files = files.len(), hidden, unmatched, own_output, "input listed");
        let footers = read_footers(&places.input, &files).await?;
        let schema = unify(&footers)?;
        let shapes: Vec<_> = footers.iter().map(|footer| footer.shapes()).collect();
        let files = files
            .into_iter()
            .zip(&footers)
            .map(|(file, footer)| PlannedFile {
                path: file.path,
                size: file.size,
                etag: file.etag,
                modified: file.modified,
                rows: footer.rows(),
            })
            .collect();
        Ok(Survey {
            files,
            schema,
            units: units::cut(&shapes),
            footers,
        })
    }

    /// Whether a part of a unit is a whole file.
    pub fn reads_whole(&self, part: &Part) -> bool {
        let row_groups = self.footers[part.file as usize].row_groups().len();
        part.first == 0 && part.end as usize == row_groups
    }

    /// The footers worth holding for the replica that made the plan.
    pub fn footers_to_keep(&self) -> Vec<Arc<Footer>> {
        if self.footers.len() > KEPT_FOOTERS {
            return Vec::new();
        }
        self.footers.clone()
    }
}

fn unify(footers: &[Arc<Footer>]) -> Result<Schema> {
    let (first, rest) = footers
        .split_first()
        .ok_or_else(|| Error::internal("a selection without files"))?;
    let mut schema = InputSchema::of(&first.file, first.schema())?;
    for footer in rest {
        schema.merge(&footer.file, footer.schema())?;
    }
    Ok(schema.finish())
}
