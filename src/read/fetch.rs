//! Bringing bytes: footers of a unit, then one chunk at a time, on the I/O runtime.
//!
//! The footer says which byte ranges a row group needs; they are read in as few requests as make sense, with the
//! object's pinned identity. Nothing of them is looked at here: checking and decoding happen later, on a worker.

use arrow::datatypes::SchemaRef;
use futures::TryStreamExt;
use parquet::arrow::ProjectionMask;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::chunk::ChunkReader;
use super::extras::FetchedExtras;
use super::footer::Footer;
use super::footers::FooterReader;
use super::group::{FetchedGroup, Wanted};
use super::layout::{Chunk, Layout, Piece};
use super::selection::Selection;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::{Plan, PlannedFile, Unit};
use crate::storage::{Listed, Location};
use crate::write::Form;

/// Reads the input of a run as its plan pins it.
pub struct Reader {
    location: Location,
    plan: Arc<Plan>,
    selection: Selection,
    /// Footers that planning has read already.
    known: HashMap<String, Arc<Footer>>,
    footers: FooterReader,
}

impl Reader {
    /// A reader of `plan`'s inputs below `location`; `known` are footers read while planning.
    pub fn new(location: Location, plan: Arc<Plan>, known: Vec<Arc<Footer>>) -> Reader {
        let schema = super::chunk::plain(&plan.input_schema);
        let known = known
            .into_iter()
            .map(|footer| (footer.file.to_string(), footer))
            .collect();
        Reader {
            footers: FooterReader::new(location.clone()),
            location,
            plan,
            selection: Selection {
                schema,
                splicing: None,
            },
            known,
        }
    }

    /// The same reader; it decodes the columns `needed`, positions in the plan's schema, and leaves others as they are if
    /// files of `form` can take them so.
    pub fn splicing(mut self, form: Arc<Form>, mut needed: Vec<usize>) -> Reader {
        needed.sort_unstable();
        needed.dedup();
        self.selection.splicing = Some((form, needed));
        self
    }

    /// The plan's schema: that of every block of which all columns are decoded.
    pub fn schema(&self) -> &SchemaRef {
        &self.selection.schema
    }

    /// Reads the footers of a unit and lays it out.
    ///
    /// # Errors
    /// `InputChanged` when a file is not what the plan pinned; `Data`, `Storage`.
    pub async fn open(&self, unit: &Unit) -> Result<Layout> {
        let footers = self.footers_of(unit).await?;
        for (part, footer) in unit.parts.iter().zip(&footers) {
            if footer.row_groups().len() < part.end as usize {
                return Err(changed(&footer.file));
            }
        }
        Ok(Layout::new(
            &unit.parts,
            &footers,
            self.plan.batch_rows,
            self.plan.window_rows,
            &self.selection,
        ))
    }

    /// A footer for each part of the unit.
    async fn footers_of(&self, unit: &Unit) -> Result<Vec<Arc<Footer>>> {
        let files = unit
            .parts
            .iter()
            .map(|part| &self.plan.inputs[part.file as usize]);
        let unread = files.clone().filter(|file| self.known_footer(file).is_none());
        let listed = unread.map(|file| Listed {
            path: file.path.clone(),
            size: file.size,
            etag: file.etag.clone(),
            modified: file.modified.clone(),
        });
        let mut unread = self.footers.read(listed.collect());
        let mut footers = Vec::with_capacity(unit.parts.len());
        for file in files {
            if let Some(footer) = self.known_footer(file) {
                footers.push(footer.clone());
                continue;
            }
            let footer = unread.try_next().await?;
            let footer = footer.ok_or_else(|| Error::internal("a footer was not read"))?;
            if footer.rows() != file.rows {
                return Err(changed(&file.path));
            }
            footers.push(Arc::new(footer));
        }
        Ok(footers)
    }

    /// The footer that planning has read, if it is of this very object: the plan may be another process's, made when the
    /// file was another one.
    fn known_footer(&self, file: &PlannedFile) -> Option<&Arc<Footer>> {
        let footer = self.known.get(&file.path)?;
        footer.is_of(file.size, file.etag.as_deref()).then_some(footer)
    }

    /// Brings the bytes of a chunk.
    ///
    /// # Errors
    /// `InputChanged` or `Storage`.
    pub async fn fetch(&self, chunk: &Chunk) -> Result<ChunkReader> {
        let mut pieces = Vec::with_capacity(chunk.pieces.len());
        for piece in &chunk.pieces {
            pieces.push(self.fetch_piece(piece, chunk).await.map_err(|error| {
                error
                    .with("file", &piece.footer.file)
                    .with("row_group", piece.row_group)
            })?);
        }
        Ok(ChunkReader::new(pieces, chunk, &self.selection))
    }

    async fn fetch_piece(&self, piece: &Piece, chunk: &Chunk) -> Result<FetchedGroup> {
        let footer = piece.footer.clone();
        let wanted = Wanted::new(&footer, piece.row_group, &ProjectionMask::all());
        let extras = chunk.extras.iter().map(|extra| extra.range.clone());
        let ranges: Vec<Range<u64>> = wanted.ranges.iter().cloned().chain(extras).collect();
        let mut bytes = footer.bytes(&self.location, &ranges).await?;
        let extras = bytes.split_off(wanted.ranges.len());
        let extras = FetchedExtras(chunk.extras.iter().cloned().zip(extras).collect());
        Ok(FetchedGroup {
            footer,
            row_group: piece.row_group,
            wanted,
            bytes,
            extras,
        })
    }
}

fn changed(path: &str) -> Error {
    Error::new(
        ErrorKind::InputChanged,
        "the file holds other rows than when the plan was made",
    )
    .with("file", path)
    .with_hint("start a new run (another run_id) over the input as it is now")
}
