//! A block that is being scored, its batches dealt to whoever has time.
//!
//! Rows may be so expensive that a block is seconds of work, and a small input is one block. So a block is not one piece of
//! work: the worker that decoded it takes batch after batch from the front of its share, and a worker that has nothing
//! more urgent to do splits off the half of what is left of the largest share, down to single batches. Thus workers end
//! within a batch of each other, without anybody knowing beforehand what a batch costs.
//!
//! A batch is some rows in their order, or what the model itself has put together of all rows of the block ([`Work`]).
//!
//! Who scores a batch decides nothing else: which rows share one is settled before, and their outputs are joined in
//! order by whoever ends last.

use arrow::array::RecordBatch;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

use super::arriving::Arriving;
use super::failures::Failures;
use crate::error::{Error, Result};
use crate::model::Arranged;
use crate::read::Block;
use crate::telemetry::metrics::Stage;
use crate::tensor::Value;
use crate::write::columns::OutputColumn;
use crate::write::splice::Spliced;

/// A decoded block whose batches are being scored.
pub(super) struct InHand {
    /// The unit's place in the pipeline's order.
    pub(super) order: usize,
    /// The block's index within the unit.
    pub(super) index: usize,
    pub(super) block: Block,
    pub(super) work: Work,
    batches: usize,
    shares: Mutex<Shares>,
}

/// What the batches of a block are.
pub(super) enum Work {
    /// So many rows in their order, which whoever takes the batch makes tensors of.
    InOrder {
        /// The columns that the model takes.
        inputs: RecordBatch,
        batch_rows: usize,
        /// The files that they name, if that is what the model takes.
        files: Option<Arriving>,
    },
    /// Rows that the model has put together.
    Arranged {
        arranged: Arranged,
        /// The rows of the block that it was given, if not all.
        given: Option<Vec<usize>>,
    },
}

impl Work {
    fn batches(&self) -> usize {
        match self {
            Work::InOrder {
                inputs, batch_rows, ..
            } => inputs.num_rows().div_ceil(*batch_rows),
            Work::Arranged { arranged, .. } => arranged.batches.len(),
        }
    }

    /// The rows of the block in the order in which their outputs are joined, those left out that failed; `None`, if that is
    /// the order of the block.
    pub(super) fn order(&self) -> Option<Vec<usize>> {
        let Work::Arranged { arranged, given } = self else {
            return None;
        };
        let places = arranged.batches.iter().flatten();
        Some(match given {
            Some(given) => places.map(|place| given[*place]).collect(),
            None => places.copied().collect(),
        })
    }
}

struct Shares {
    /// What is left to take of the shares that are being worked on, by their first batch.
    open: BTreeMap<usize, Range<usize>>,
    /// The others, by their first batch.
    scored: BTreeMap<usize, ScoredShare>,
    /// The columns that are copied, if the block is the last of its chunk.
    ends_chunk: Option<Spliced>,
}

/// Batches in a row that one worker scores; others may take some from its end.
pub(super) struct Share {
    pub(super) of: Arc<InHand>,
    first: usize,
}

/// What came of a share.
pub(super) struct ScoredShare {
    /// Of the rows that did not fail.
    pub(super) outputs: Vec<Value>,
    pub(super) failures: Failures,
    pub(super) stage_secs: Vec<(&'static str, f64)>,
}

impl InHand {
    fn lock(&self) -> MutexGuard<'_, Shares> {
        // No code that can panic runs under the lock.
        self.shares
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Whether it is more than one worker can be busy with.
    pub(super) fn can_be_split(&self) -> bool {
        self.batches > 1
    }

    /// The half of what is left to others in the share where that is most; `None`, if there is nothing like that.
    pub(super) fn split(self: &Arc<Self>) -> Option<Share> {
        let mut shares = self.lock();
        // Whoever has a share begins with its first batch.
        let to_others =
            |first: usize, left: &Range<usize>| left.len().saturating_sub(usize::from(left.start == first));
        let (&largest, left) = shares
            .open
            .iter_mut()
            .max_by_key(|(first, left)| to_others(**first, left))?;
        let half = to_others(largest, left).div_ceil(2);
        if half == 0 {
            return None;
        }
        let taken = left.end - half..left.end;
        let first = taken.start;
        left.end = first;
        shares.open.insert(first, taken);
        Some(Share {
            of: self.clone(),
            first,
        })
    }

    /// Rows of batches in their order, by their index in the block.
    pub(super) fn rows(&self, batches: Range<usize>) -> Range<usize> {
        let batch_rows = match &self.work {
            Work::InOrder { batch_rows, .. } => *batch_rows,
            // Only of use together.
            Work::Arranged { .. } => return 0..self.block.rows.num_rows(),
        };
        let end = |batch: usize| (batch * batch_rows).min(self.block.rows.num_rows());
        end(batches.start)..end(batches.end)
    }
}

impl Share {
    /// All of a block.
    pub(super) fn new(
        (order, index): (usize, usize),
        block: Block,
        work: Work,
        ends_chunk: Option<Spliced>,
    ) -> Share {
        let batches = work.batches();
        let shares = Shares {
            open: BTreeMap::from([(0, 0..batches)]),
            scored: BTreeMap::new(),
            ends_chunk,
        };
        let of = Arc::new(InHand {
            order,
            index,
            block,
            work,
            batches,
            shares: Mutex::new(shares),
        });
        Share { of, first: 0 }
    }

    /// The next batch; `None` when the share is through.
    pub(super) fn next(&self) -> Option<usize> {
        self.of.lock().open.get_mut(&self.first)?.next()
    }

    /// The rows of a share that has not been begun, by their index in the block; others may take some from its end.
    pub(super) fn all(&self) -> Range<usize> {
        self.of.rows(self.first..end(&self.of, self.first))
    }

    /// Says, by its place among [`all`](Self::all) rows, whether a row is still this share's.
    pub(super) fn still_has(&self) -> impl Fn(usize) -> bool + Send + Sync + 'static {
        let (of, first) = (Arc::downgrade(&self.of), self.first);
        let start = self.of.rows(first..first).start;
        // Whoever asks doesn't keep a block that all workers have left.
        move |row| {
            of.upgrade()
                .is_some_and(|of| start + row < of.rows(first..end(&of, first)).end)
        }
    }

    /// The share is through. Answers, if it was the last of its block, with what came of the whole block, and
    /// with what ends its chunk.
    ///
    /// # Errors
    /// `Internal`, when outputs of different batches do not fit together.
    pub(super) fn finish(self, scored: ScoredShare) -> Result<Option<(ScoredShare, Option<Spliced>)>> {
        let (all, ends_chunk) = {
            let mut shares = self.of.lock();
            shares.open.remove(&self.first);
            shares.scored.insert(self.first, scored);
            if !shares.open.is_empty() {
                return Ok(None);
            }
            (std::mem::take(&mut shares.scored), shares.ends_chunk.take())
        };
        let mut all = all.into_values();
        let mut whole = all
            .next()
            .ok_or_else(|| Error::internal("a block without a share"))?;
        for share in all {
            whole.join(share)?;
        }
        Ok(Some((whole, ends_chunk)))
    }
}

/// One past the last batch of the share that begins with the batch `first`; 0 when it is through.
fn end(of: &InHand, first: usize) -> usize {
    of.lock().open.get(&first).map_or(0, |left| left.end)
}

impl ScoredShare {
    /// Nothing yet.
    pub(super) fn new(outputs: &[OutputColumn]) -> ScoredShare {
        ScoredShare {
            outputs: Vec::new(),
            failures: Failures::new(outputs),
            stage_secs: Vec::new(),
        }
    }

    /// Adds time of a worker.
    pub(super) fn spend(&mut self, stage: Stage, secs: f64) {
        match self
            .stage_secs
            .iter_mut()
            .find(|(known, _)| *known == stage.as_str())
        {
            Some((_, total)) => *total += secs,
            None => self.stage_secs.push((stage.as_str(), secs)),
        }
    }

    /// Takes in the outputs of more rows.
    pub(super) fn append(&mut self, values: Vec<Value>) -> Result<()> {
        if self.outputs.is_empty() {
            self.outputs = values;
            return Ok(());
        }
        for (output, value) in self.outputs.iter_mut().zip(values) {
            output.append(value)?;
        }
        Ok(())
    }

    /// Takes in the share that follows.
    fn join(&mut self, next: ScoredShare) -> Result<()> {
        self.append(next.outputs)?;
        self.failures.join(next.failures);
        self.stage_secs.extend(next.stage_secs);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::Origin;
    use crate::read::chunk::Decoded;
    use crate::tensor::Tensor;
    use arrow::array::Int64Array;
    use arrow::datatypes::{DataType, Field, Schema};
    use proptest::prelude::*;

    fn block(rows: usize, batch_rows: usize) -> Share {
        let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false)]));
        let ids = Int64Array::from_iter_values(0..rows as i64);
        let rows = RecordBatch::try_new(schema, vec![Arc::new(ids)]).unwrap();
        let block = Block {
            columns: Arc::new(Decoded {
                columns: vec![0],
                rewritten: vec![0],
            }),
            origin: Origin::of(&"a.parquet".into(), 0, 0, rows.num_rows()),
            rows: rows.clone(),
        };
        let inputs = rows;
        let work = Work::InOrder {
            inputs,
            batch_rows,
            files: None,
        };
        Share::new((0, 0), block, work, None)
    }

    fn nothing() -> ScoredShare {
        ScoredShare::new(&[])
    }

    fn value(rows: &Range<usize>) -> Value {
        let rows: Vec<i64> = rows.clone().map(|row| row as i64).collect();
        Value::Tensor(Tensor::new(vec![rows.len()], rows).unwrap())
    }

    #[test]
    fn half_of_what_is_left_goes_to_others_and_the_first_batch_never_does() {
        let share = block(100, 10);
        let other = share.of.split().unwrap();
        assert_eq!((share.all(), other.all()), (0..50, 50..100));
        assert_eq!(share.next(), Some(0));
        let still_has = other.still_has();
        assert!(still_has(49) && !still_has(50));
        // Of either, four are for others.
        let third = share.of.split().unwrap();
        assert_eq!(third.all(), 80..100);
        let single = block(10, 10);
        assert!(single.of.split().is_none() && !single.of.can_be_split());
        assert_eq!((single.next(), single.next()), (Some(0), None));
    }

    proptest! {
        /// Workers that take, split and end in any order.
        #[test]
        fn every_row_is_scored_once_and_comes_back_in_order(
            rows in 1usize..200,
            batch_rows in 1usize..40,
            steps in proptest::collection::vec((0usize..5, any::<bool>()), 0..200),
        ) {
            let first = block(rows, batch_rows);
            let of = first.of.clone();
            let mut working = vec![(first, nothing())];
            let mut whole = None;
            let rest = std::iter::repeat((0, false));
            for (who, splits) in steps.into_iter().chain(rest) {
                if working.is_empty() {
                    break;
                }
                if splits {
                    working.extend(of.split().map(|share| (share, nothing())));
                    continue;
                }
                let who = who % working.len();
                let (share, scored) = &mut working[who];
                match share.next() {
                    Some(batch) => {
                        let rows = of.rows(batch..batch + 1);
                        prop_assert!(rows.len() <= batch_rows && rows.start.is_multiple_of(batch_rows));
                        scored.append(vec![value(&rows)]).unwrap();
                    }
                    None => {
                        let (share, scored) = working.swap_remove(who);
                        let finished = share.finish(scored).unwrap();
                        prop_assert!(finished.is_none() || working.is_empty());
                        whole = finished.or(whole);
                    }
                }
            }
            let (whole, _) = whole.unwrap();
            prop_assert_eq!(whole.outputs, vec![value(&(0..rows))]);
        }
    }
}
