//! How a replica's part ends: the run is finished if every unit is committed, and what was damaged is mended.

use tokio::sync::watch;

use super::{Outcome, Replica, Share, stopped};
use crate::commit::{self, Claimed, Finished};
use crate::error::{Error, Result};
use crate::pipeline::Ended;
use crate::plan::Unit;

impl Replica<'_> {
    /// Ends the run if every unit of the plan is committed.
    pub(super) async fn finish(&self, claimed: &Claimed, stop: watch::Receiver<bool>) -> Result<Finished> {
        match commit::finish(&self.store, claimed).await? {
            Finished::Damaged { units } => {
                self.mend(claimed, &units, stop).await?;
                commit::finish(&self.store, claimed).await
            }
            finished => Ok(finished),
        }
    }

    /// What this replica's part came to.
    pub(super) fn outcome(
        &self,
        claimed: &Claimed,
        share: &Share,
        helped: usize,
        finished: Finished,
    ) -> Result<Outcome> {
        let mut outcome = Outcome {
            run_id: claimed.plan.run_id.clone(),
            epoch: claimed.epoch,
            replica: self.job.replica.index,
            replicas: self.job.replica.count,
            units: share.units.len(),
            rows: share.rows,
            units_helped: helped,
            complete: false,
            units_missing: 0,
            total_rows: None,
        };
        match finished {
            Finished::Complete(success) => {
                // Whatever killed writers of this run left half-written is of no use to anybody now.
                let run_id = &claimed.plan.run_id;
                let swept = self
                    .store
                    .sweep_leftovers(|key| commit::layout::is_of_run(key, run_id))?;
                tracing::info!(
                    rows = success.rows,
                    files = success.files.len(),
                    leftovers_removed = swept,
                    "all units are committed: _SUCCESS is in place"
                );
                outcome.complete = true;
                outcome.total_rows = Some(success.rows);
            }
            Finished::Damaged { units } => return Err(damaged(&units)),
            Finished::Incomplete { missing } => {
                tracing::info!(
                    units_missing = missing.len(),
                    "this replica's part is done; others are at work"
                );
                outcome.units_missing = missing.len();
            }
        }
        Ok(outcome)
    }

    pub(super) fn already_complete(&self, success: &commit::Success) -> Outcome {
        tracing::info!(
            run_id = %success.run_id,
            rows = success.rows,
            "this run is complete already, nothing is left to do"
        );
        Outcome {
            run_id: success.run_id.clone(),
            epoch: success.epoch,
            replica: self.job.replica.index,
            replicas: self.job.replica.count,
            units: 0,
            rows: 0,
            units_helped: 0,
            complete: true,
            units_missing: 0,
            total_rows: Some(success.rows),
        }
    }

    /// Computes units once more whose committed objects were damaged (class B), and puts them in their place.
    async fn mend(&self, claimed: &Claimed, units: &[u32], stop: watch::Receiver<bool>) -> Result<()> {
        tracing::warn!(
            units = units.len(),
            first = units.first(),
            "committed data objects are missing or cut short: computing them again"
        );
        let units: Vec<Unit> = units
            .iter()
            .map(|&id| claimed.plan.units[id as usize].clone())
            .collect();
        let pipeline = self.pipeline(claimed, Vec::new()).await?;
        let ended = pipeline
            .run(units.into_iter(), stop, async |unit| {
                self.commit_unit(claimed, unit, None).await
            })
            .await?;
        match ended {
            Ended::Complete => Ok(()),
            Ended::Stopped => Err(stopped("stopped before damaged units were computed again")),
        }
    }
}

/// Committed objects that could not be mended.
fn damaged(units: &[u32]) -> Error {
    Error::storage("committed data objects are missing or cut short, and computing them again did not mend them")
        .with("unit", units.first().copied().unwrap_or_default())
        .with_hint(
            "either the model is not deterministic, or something else changes the output; start a new run, into an \
             empty folder or in mode overwrite",
        )
}
