//! The input, looked at once: listing, every footer, one schema.

use arrow::datatypes::Schema;
use futures::StreamExt;
use std::sync::Arc;

use super::Places;
use crate::config::Job;
use crate::error::{Error, Result};
use crate::plan::list::{self, Selection};
use crate::plan::schema::InputSchema;
use crate::plan::units::{self, RowGroupShape};
use crate::plan::{Part, PlannedFile, Unit};
use crate::read::{Footer, FooterReader};
use crate::storage::Listed;

/// Footers are kept for reading while they are few; beyond that they are cheaper to read again than to hold.
const KEPT_FOOTERS: usize = 256;

/// So many bytes of them are kept, decoded, and of small files that came along with them.
const KEPT_BYTES: usize = 2 << 20;

/// What the input holds.
pub struct Survey {
    /// Input objects, sorted by path.
    pub files: Vec<PlannedFile>,
    /// The schema that every file can be read as.
    pub schema: Schema,
    /// The units.
    pub units: Vec<Unit>,
    /// Row groups of each file.
    row_groups: Vec<u32>,
    /// Footers worth holding for the replica that made the plan.
    pub footers: Vec<Arc<Footer>>,
}

impl Survey {
    /// Lists the input, reads every footer and cuts the units.
    ///
    /// # Errors
    /// `Data` when there is nothing to read, when a file is not Parquet, or when files differ in schema.
    pub async fn of(job: &Job, places: &Places) -> Result<Survey> {
        let listed = places.input.list().await?;
        let is_file = places.input.is_object().await?;
        let pattern = (!is_file).then_some(job.input.file_pattern.as_str());
        let Selection {
            files,
            hidden,
            unmatched,
            own_output,
        } = list::select(listed, pattern, places.output_in_input.as_deref())
            .map_err(|error| error.with("location", places.input.display()))?;
        tracing::debug!(files = files.len(), hidden, unmatched, own_output, "input listed");
        let mut known = Footers::default();
        let mut footers =
            FooterReader::new(places.input.clone()).read_some(files.clone(), KEPT_FOOTERS, KEPT_BYTES as u64);
        while let Some(footer) = footers.next().await {
            known.add(footer?)?;
        }
        drop(footers);
        known.into_survey(files)
    }

    /// Whether a part of a unit is a whole file.
    pub fn reads_whole(&self, part: &Part) -> bool {
        part.first == 0 && part.end == self.row_groups[part.file as usize]
    }
}

/// What is learned from footer after footer.
#[derive(Default)]
struct Footers {
    schema: Option<InputSchema>,
    shapes: Vec<Vec<RowGroupShape>>,
    kept: Vec<Arc<Footer>>,
    kept_bytes: usize,
}

impl Footers {
    fn add(&mut self, footer: Footer) -> Result<()> {
        match &mut self.schema {
            Some(schema) => schema.merge(&footer.file, footer.schema())?,
            None => self.schema = Some(InputSchema::of(&footer.file, footer.schema())?),
        }
        self.shapes.push(footer.shapes());
        self.keep(footer);
        Ok(())
    }

    /// Keeps a footer, and the small file that came along with it, as far as there is room; the first one in any case.
    fn keep(&mut self, mut footer: Footer) {
        if self.kept_bytes + footer.decoded_bytes() + footer.held_bytes() > KEPT_BYTES {
            footer.release_bytes();
        }
        let bytes = footer.decoded_bytes() + footer.held_bytes();
        let has_room = self.kept_bytes + bytes <= KEPT_BYTES && self.kept.len() < KEPT_FOOTERS;
        if has_room || self.kept.is_empty() {
            self.kept_bytes += bytes;
            self.kept.push(Arc::new(footer));
        }
    }

    fn into_survey(self, files: Vec<Listed>) -> Result<Survey> {
        let schema = self
            .schema
            .ok_or_else(|| Error::internal("a selection without files"))?;
        let planned = files
            .into_iter()
            .zip(&self.shapes)
            .map(|(file, shapes)| PlannedFile::new(file, shapes.iter().map(|shape| shape.rows).sum()));
        Ok(Survey {
            files: planned.collect(),
            schema: schema.finish(),
            units: units::cut(&self.shapes),
            row_groups: self.shapes.iter().map(|shapes| shapes.len() as u32).collect(),
            footers: self.kept,
        })
    }
}
