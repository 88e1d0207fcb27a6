//! Hostile files: each says or holds something that must end in an error, before memory is made for it. And files of all
//! sorts whose columns are copied.

mod bomb_files;
mod bombs;
mod claims;
mod footers;
mod maker;
mod pages;
mod passage;
mod runs;
mod sample;
mod splicing;
mod splicing_edges;
mod written;

use arrow::array::RecordBatch;
use bytes::Bytes;
use std::sync::Arc;

use super::{Footer, Reader};
use crate::error::{ErrorKind, Result};
use crate::plan::schema::InputSchema;
use crate::plan::{FORMAT, Plan, PlannedFile, units};
use crate::storage::Location;

/// A plan to read a file in batches of `batch_rows`, and a reader. The folder holds the file.
async fn plan_for(batch_rows: usize, file: &Bytes) -> Result<(Arc<Plan>, Reader, tempfile::TempDir)> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("x.parquet"), file).unwrap();
    let location = Location::local(folder.path().to_str().unwrap())?;
    let listed = location.list().await?.remove(0);
    let footer = Footer::read(&location, &listed).await?;
    let plan = Arc::new(Plan {
        format: FORMAT,
        run_id: "run".into(),
        job_name: "job".into(),
        mode: Default::default(),
        store_class: Default::default(),
        config_digest: String::new(),
        model_digest: String::new(),
        worker_version: String::new(),
        engine: crate::model::Engine::Echo,
        on_gpus: false,
        batch_rows,
        window_rows: None,
        input_schema: InputSchema::of("x.parquet", footer.schema())?.finish(),
        outputs: vec![],
        units: units::cut(&[footer.shapes()]),
        inputs: vec![PlannedFile::new(listed, footer.rows())],
    });
    let reader = Reader::new(location, plan.clone(), vec![Arc::new(footer)]);
    Ok((plan, reader, folder))
}

/// Reads a whole file as a worker does, in batches of `batch_rows`.
async fn read_in(batch_rows: usize, file: &Bytes) -> Result<Vec<RecordBatch>> {
    let (plan, reader, _folder) = plan_for(batch_rows, file).await?;
    let mut blocks = Vec::new();
    for unit in &plan.units {
        for chunk in reader.open(unit).await?.chunks {
            let mut chunk = reader.fetch(&chunk).await?;
            while let Some(block) = chunk.next_block()? {
                blocks.push(block.rows);
            }
        }
    }
    Ok(blocks)
}

async fn read(file: &Bytes) -> Result<Vec<RecordBatch>> {
    read_in(256, file).await
}

/// Fails the test unless the file ends in an error of the data that names the file and says all of `words`.
#[track_caller]
fn is_refused(file: &Bytes, words: &[&str]) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let error = match runtime.block_on(read(file)) {
        Ok(blocks) => panic!("{words:?}: passed with {} blocks", blocks.len()),
        Err(error) => error,
    };
    assert_eq!(error.kind(), ErrorKind::Data, "{error}");
    let text = error.to_string();
    for word in words.iter().chain(&["file x.parquet"]) {
        assert!(text.contains(word), "no {word:?} in: {text}");
    }
}

/// The rows of a file that is fine.
#[track_caller]
fn rows_of(file: &Bytes) -> usize {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let blocks = runtime.block_on(read(file)).unwrap();
    blocks.iter().map(RecordBatch::num_rows).sum()
}
