//! One worker's model of texts: rows become sequences once, are arranged, and are scored batch by batch.
//!
//! What one worker has read any other can score: the tokens travel with the arrangement ([`Arranging`]). A row that its task can do
//! nothing with (no mask to fill, no labels) fails alone when it is read.

use std::sync::Arc;

use super::Job;
use super::run::{Rows, Runner, Sequence};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Arranged, Arranging, Counts, Model, Outcome};
use crate::origin::RowError;
use crate::tensor::{TensorBatch, Value};

/// One worker's model of texts.
pub(super) struct TextWorker {
    part: Arc<dyn Job>,
    runner: Runner,
    cut: u64,
}

/// Rows of a block as the network reads them.
struct Reading {
    batch: TensorBatch,
    /// Of each row; nothing for those that failed.
    sequences: Vec<Vec<Sequence>>,
}

impl TextWorker {
    pub(super) fn new(part: Arc<dyn Job>, runner: Runner) -> TextWorker {
        TextWorker { part, runner, cut: 0 }
    }

    /// Reads all rows; the places of those that can be scored, and what is wrong with the others.
    fn read(&mut self, batch: TensorBatch) -> Result<(Reading, Vec<usize>, Vec<RowError>)> {
        let mut sequences = Vec::with_capacity(batch.rows);
        let (mut kept, mut failed) = (Vec::with_capacity(batch.rows), Vec::new());
        for row in 0..batch.rows {
            sequences.push(match self.part.read(&batch, row, &mut self.cut) {
                Ok(read) => {
                    kept.push(row);
                    read
                }
                Err(error) if error.kind() == ErrorKind::Data => {
                    failed.push(RowError { row, error });
                    Vec::new()
                }
                Err(error) => return Err(error),
            });
        }
        Ok((Reading { batch, sequences }, kept, failed))
    }

    fn score(&mut self, reading: &Reading, rows: &[usize]) -> Result<Vec<Value>> {
        let rows = Rows {
            batch: &reading.batch,
            rows,
            sequences: &reading.sequences,
        };
        self.part.infer(&rows, &mut self.runner)
    }
}

impl Model for TextWorker {
    fn infer(&mut self, batch: &TensorBatch) -> Result<Vec<Value>> {
        self.infer_rows(batch)?.all()
    }

    fn infer_rows(&mut self, batch: &TensorBatch) -> Result<Outcome> {
        let (reading, kept, failed) = self.read(batch.clone())?;
        let values = match kept.is_empty() {
            true => Vec::new(),
            false => self.score(&reading, &kept)?,
        };
        Ok(Outcome { values, failed })
    }

    fn arranging(&mut self) -> Option<&mut dyn Arranging> {
        Some(self)
    }

    fn take_counts(&mut self) -> Counts {
        Counts {
            texts_cut: std::mem::take(&mut self.cut),
            tokens: std::mem::take(&mut self.runner.tokens),
            tokens_computed: std::mem::take(&mut self.runner.computed),
        }
    }
}

impl Arranging for TextWorker {
    fn arrange(&mut self, rows: TensorBatch) -> Result<Arranged> {
        let (reading, kept, failed) = self.read(rows)?;
        Ok(Arranged {
            batches: self.runner.arrange(&reading.sequences, &kept),
            failed,
            state: Box::new(reading),
        })
    }

    fn infer_arranged(&mut self, arranged: &Arranged, batch: usize) -> Result<Vec<Value>> {
        let reading = arranged.state.downcast_ref::<Reading>();
        let reading = reading.ok_or_else(|| Error::internal("rows that no model of texts arranged"))?;
        self.score(reading, &arranged.batches[batch])
    }

    fn limit_rows(&mut self, rows: usize) {
        self.runner.limit_rows(rows);
    }
}
