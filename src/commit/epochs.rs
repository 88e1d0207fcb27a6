//! Epochs: an output's history of runs, read back, and the fence that is built on it.
//!
//! An epoch's name says that a run has begun to claim the output, its object which run that is and by what plan it goes.
//! The highest one owns the output; a process that sees a newer one than its own stops.

use serde::Deserialize;

use super::json::{self, MAX_PLAN_BYTES};
use super::layout::{EPOCHS, epoch_key, parse_epoch_key};
use super::machine::{Answer, Op, out_of_turn};
use super::seeded::{Bug, seeded};
use super::{ClaimRequest, Claimed, refusal};
use crate::error::{Error, Result};
use crate::plan::{self, Plan};
use crate::storage::{Entry, StoreClass};

/// The run that an epoch's object belongs to, whatever version wrote it.
pub fn epoch_owner(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct EpochOwner {
        run_id: String,
    }
    json::peek::<EpochOwner>(body).map(|owner| owner.run_id)
}

/// The epochs in a listing of [`EPOCHS`], ascending.
pub fn read_epochs(listing: &[Entry]) -> Result<Vec<u64>> {
    let mut epochs = Vec::with_capacity(listing.len());
    for entry in listing {
        if let Some(epoch) = parse_epoch_key(&entry.key) {
            json::check_size(entry.size, &entry.key, MAX_PLAN_BYTES)?;
            epochs.push(epoch);
        }
    }
    epochs.sort_unstable();
    Ok(epochs)
}

/// The fence: fails if a listing of [`EPOCHS`] shows that `claimed` is not the newest run any more.
fn check_newest(listing: &[Entry], claimed: &Claimed) -> Result<()> {
    match read_epochs(listing)?.last() {
        Some(&newest) if newest == claimed.epoch || seeded(Bug::SkipFence) => Ok(()),
        Some(&newest) if newest > claimed.epoch => {
            Err(refusal::superseded(&claimed.plan.run_id, claimed.epoch, newest))
        }
        _ => Err(refusal::state_lost(claimed.epoch)),
    }
}

/// The fence's question: is there a newer epoch? Where listings may lag it is asked by name; epochs are numbered without
/// gaps.
pub fn fence(claimed: &Claimed) -> Op {
    match claimed.store_class() {
        StoreClass::A => Op::list(EPOCHS),
        StoreClass::B => Op::head(epoch_key(claimed.epoch + 1)),
    }
}

/// Takes the answer to [`fence`]: fails if `claimed` is not the newest run any more. Returns the epochs up to its own.
pub fn fenced(answer: &Answer, claimed: &Claimed) -> Result<Vec<u64>> {
    match (answer, claimed.store_class()) {
        (Answer::Listed(listing), StoreClass::A) => {
            check_newest(listing, claimed)?;
            read_epochs(listing)
        }
        (Answer::Size(newer), StoreClass::B) if newer.is_none() || seeded(Bug::SkipFence) => {
            Ok((1..=claimed.epoch).collect())
        }
        (Answer::Size(Some(_)), StoreClass::B) => {
            let epoch = claimed.epoch;
            Err(refusal::superseded(&claimed.plan.run_id, epoch, epoch + 1))
        }
        _ => Err(out_of_turn(answer)),
    }
}

/// Reads this run's plan and checks that it is for the same job, model and class of store.
pub fn adopt(body: &[u8], key: &str, request: &ClaimRequest) -> Result<Plan> {
    let plan = read_plan(body, key)?;
    request.check(&plan.config_digest, &plan.model_digest)?;
    if plan.store_class != request.store_class {
        return Err(refusal::other_class(
            &plan.run_id,
            plan.store_class,
            request.store_class,
        ));
    }
    Ok(plan)
}

/// Reads a plan back.
pub fn read_plan(body: &[u8], key: &str) -> Result<Plan> {
    let plan: Plan = json::read(body, key, plan::FORMAT, MAX_PLAN_BYTES)?;
    let numbered = plan.units.iter().zip(0..).all(|(unit, id)| unit.id == id);
    let parts = plan.units.iter().flat_map(|unit| &unit.parts);
    let in_range = |part: &plan::Part| (part.file as usize) < plan.inputs.len() && part.first <= part.end;
    if !numbered || !parts.into_iter().all(in_range) {
        return Err(
            Error::storage("the plan's units are not numbered or name inputs it does not have")
                .with("key", key),
        );
    }
    Ok(plan)
}

impl ClaimRequest {
    /// Refuses another job or model than was pinned.
    pub(super) fn check(&self, config_digest: &str, model_digest: &str) -> Result<()> {
        for (what, pinned, ours) in [
            ("job", config_digest, &self.config_digest),
            ("model", model_digest, &self.model_digest),
        ] {
            if pinned != ours {
                return Err(refusal::mismatch(&self.run_id, what, pinned, ours));
            }
        }
        Ok(())
    }
}
