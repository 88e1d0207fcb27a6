//! Bringing bytes: footers of a unit, then one chunk at a time, on the I/O runtime.
//!
//! The footer says which byte ranges a row group needs; they are read in as few requests as make sense, with the
//! object's pinned identity. Nothing of them is looked at here: checking and decoding happen later, on a worker.

use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt};
use parquet::arrow::ProjectionMask;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::chunk::ChunkReader;
use super::footer::Footer;
use super::group::{FetchedGroup, Wanted};
use super::layout::{Chunk, Layout, Piece};
use crate::error::{Error, ErrorKind, Result};
use crate::plan::{Plan, Unit};
use crate::storage::{Listed, Location};

/// Footers read at the same time.
const PARALLEL_FOOTERS: usize = 32;

/// Reads the input of a run as its plan pins it.
pub struct Reader {
    location: Location,
    plan: Arc<Plan>,
    schema: SchemaRef,
    /// Footers that planning has read already.
    known: HashMap<String, Arc<Footer>>,
}

/// Reads the footers of all `files`, in their order, a few at a time.
pub fn read_footers<'a>(
    location: &'a Location,
    files: &'a [Listed],
) -> impl Stream<Item = Result<Footer>> + use<'a> {
    futures::stream::iter(files)
        .map(move |file| Footer::read(location, file))
        .buffered(PARALLEL_FOOTERS)
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
            location,
            plan,
            schema,
            known,
        }
    }

    /// The schema of every block.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Reads the footers of a unit and lays it out.
    ///
    /// # Errors
    /// `InputChanged` when a file is not what the plan pinned; `Data`, `Storage`.
    pub async fn open(&self, unit: &Unit) -> Result<Layout> {
        let footers: Vec<Arc<Footer>> = futures::stream::iter(unit.parts.clone())
            .map(|part| self.footer(part.file as usize))
            .buffered(PARALLEL_FOOTERS)
            .try_collect()
            .await?;
        for (part, footer) in unit.parts.iter().zip(&footers) {
            if footer.row_groups().len() < part.end as usize {
                return Err(changed(&footer.file));
            }
        }
        Ok(Layout::new(&unit.parts, &footers, self.plan.batch_rows))
    }

    async fn footer(&self, file: usize) -> Result<Arc<Footer>> {
        let file = &self.plan.inputs[file];
        // The plan may be another process's, made when the file was another one.
        if let Some(footer) = self.known.get(&file.path)
            && footer.is_of(file.size, file.etag.as_deref())
        {
            return Ok(footer.clone());
        }
        let listed = Listed {
            path: file.path.clone(),
            size: file.size,
            etag: file.etag.clone(),
            modified: file.modified.clone(),
        };
        let footer = Footer::read(&self.location, &listed).await?;
        if footer.rows() != file.rows {
            return Err(changed(&file.path));
        }
        Ok(Arc::new(footer))
    }

    /// Brings the bytes of a chunk.
    ///
    /// # Errors
    /// `InputChanged` or `Storage`.
    pub async fn fetch(&self, chunk: &Chunk) -> Result<ChunkReader> {
        let mut pieces = Vec::with_capacity(chunk.pieces.len());
        for piece in &chunk.pieces {
            pieces.push(self.fetch_piece(piece).await.map_err(|error| {
                error
                    .with("file", &piece.footer.file)
                    .with("row_group", piece.row_group)
            })?);
        }
        Ok(ChunkReader::new(pieces, self.schema.clone(), chunk.block_rows))
    }

    async fn fetch_piece(&self, piece: &Piece) -> Result<FetchedGroup> {
        let footer = piece.footer.clone();
        let wanted = Wanted::new(&footer, piece.row_group, &ProjectionMask::all());
        let bytes = self.read(&footer, &wanted.ranges).await?;
        Ok(FetchedGroup {
            footer,
            row_group: piece.row_group,
            wanted,
            bytes,
        })
    }

    async fn read(&self, footer: &Footer, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        if let Some(whole) = &footer.whole {
            let slice = |range: &Range<u64>| whole.slice(range.start as usize..range.end as usize);
            return Ok(ranges.iter().map(slice).collect());
        }
        let path: &str = &footer.file;
        let file = self
            .plan
            .inputs
            .binary_search_by(|file| file.path.as_bytes().cmp(path.as_bytes()))
            .map(|index| &self.plan.inputs[index])
            .map_err(|_| Error::internal("a chunk of a file that the plan does not name"))?;
        self.location
            .read_ranges(path, file.etag.as_deref(), ranges)
            .await
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
