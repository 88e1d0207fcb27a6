//! The async driver: carries out what a machine asks for, on a real store and a real clock.
//!
//! It owns everything the machines must not have: I/O, time and the jitter of pauses. What it can't do itself
//! (building a plan, counting the rows of a Parquet object) it hands to its caller.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use bytes::Bytes;

use super::machine::{Answer, Creation, Machine, Op, Step};
use crate::error::Result;
use crate::storage::{Created, Store};

/// First pause; each later one is twice as long.
const SHORTEST: Duration = Duration::from_millis(200);
/// No pause is longer. With [`LOOKS_FOR_PLAN`](super::claim::LOOKS_FOR_PLAN) pauses a late replica waits about ten
/// seconds for the plan.
const LONGEST: Duration = Duration::from_millis(2500);

/// What a machine needs that only the caller can give, or its result.
#[derive(Debug)]
pub enum Need<T> {
    /// See [`Step::BuildPlan`].
    Plan,
    /// See [`Step::CountRows`].
    Rows {
        /// The object.
        key: String,
        /// Its bytes.
        body: Bytes,
    },
    /// The machine's result.
    Done(T),
}

/// Drives `machine` until it needs its caller. Errors are the machine's own, and the store's where an operation
/// other than a create failed.
pub async fn advance<M: Machine>(machine: &mut M, store: &dyn Store) -> Result<Need<M::Output>> {
    let mut foreseen: Option<(Op, Answer)> = None;
    loop {
        let answer = match machine.next() {
            Step::Store(op) => match (foreseen.take(), machine.foresee()) {
                (Some((asked, answer)), _) if asked == op => answer,
                (_, None) => perform(store, op).await?,
                (_, Some(later)) => {
                    let (answer, early) =
                        futures::future::join(perform(store, op), perform(store, later.clone())).await;
                    // Whatever else came of it, it is asked for again.
                    foreseen = match early {
                        Ok(early @ Answer::Got(Some(_))) => Some((later, early)),
                        _ => None,
                    };
                    answer?
                }
            },
            Step::Pause { attempt } => {
                let pause = jittered(pause(attempt));
                tracing::debug!(attempt, seconds = pause.as_secs_f64(), "waiting");
                tokio::time::sleep(pause).await;
                Answer::Waited
            }
            Step::BuildPlan => return Ok(Need::Plan),
            Step::CountRows { key, body } => return Ok(Need::Rows { key, body }),
            Step::Done(output) => return Ok(Need::Done(output)),
        };
        machine.apply(answer)?;
    }
}

/// Carries out one operation.
pub async fn perform(store: &dyn Store, op: Op) -> Result<Answer> {
    match op {
        Op::List { prefix } => {
            let listing = store.list(&prefix).await?;
            tracing::debug!(prefix, objects = listing.len(), "list");
            Ok(Answer::Listed(listing))
        }
        Op::Get { key } => {
            let body = store.get(&key).await?;
            tracing::debug!(key, bytes = body.as_ref().map(Bytes::len), "get");
            Ok(Answer::Got(body))
        }
        Op::Head { key } => {
            let size = store.head(&key).await?;
            tracing::debug!(key, size, "head");
            Ok(Answer::Size(size))
        }
        Op::Create { key, body } => {
            let bytes = body.len();
            let creation = match store.create(&key, body).await {
                Ok(Created::Yes) => Creation::Yes,
                Ok(Created::Exists) => Creation::Exists,
                Err(error) => Creation::Unknown(error.to_string()),
            };
            tracing::debug!(key, bytes, answer = ?creation, "create");
            Ok(Answer::Created(creation))
        }
        Op::Put { key, body } => {
            let bytes = body.len();
            let creation = match store.put(&key, body).await {
                Ok(()) => Creation::Yes,
                Err(error) => Creation::Unknown(error.to_string()),
            };
            tracing::debug!(key, bytes, answer = ?creation, "put");
            Ok(Answer::Created(creation))
        }
        Op::Delete { key } => {
            store.delete(&key).await?;
            tracing::debug!(key, "delete");
            Ok(Answer::Deleted)
        }
    }
}

/// The pause before another look: doubling, bounded.
fn pause(attempt: u32) -> Duration {
    SHORTEST.saturating_mul(1 << attempt.min(16)).min(LONGEST)
}

/// Up to a quarter longer or shorter, so that replicas which started together don't stay in step.
fn jittered(pause: Duration) -> Duration {
    let random = RandomState::new().hash_one(0u8) as f64 / u64::MAX as f64;
    pause.mul_f64(0.75 + random / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commit::claim::Claim;
    use crate::commit::claim::LOOKS_FOR_PLAN;
    use crate::commit::layout::{EPOCHS, epoch_key};
    use crate::commit::machine::MAX_TRIES;
    use crate::commit::testing::{MapStore, block_on, plan_of, request};
    use crate::config::SaveMode;

    fn total(pauses: u32) -> f64 {
        (0..pauses).map(|attempt| pause(attempt).as_secs_f64()).sum()
    }

    #[test]
    fn a_late_replica_waits_about_ten_seconds_and_a_broken_store_fails_sooner() {
        assert!(
            (9.0..11.5).contains(&total(LOOKS_FOR_PLAN)),
            "{}",
            total(LOOKS_FOR_PLAN)
        );
        assert!(
            (2.0..4.0).contains(&total(MAX_TRIES - 1)),
            "{}",
            total(MAX_TRIES - 1)
        );
        assert_eq!(pause(u32::MAX), LONGEST);
    }

    /// A claim that has created its epoch and is about to list the epochs.
    fn created(store: &MapStore) -> Claim {
        let mut claim = Claim::new(request("run", SaveMode::Error));
        let need = block_on(advance(&mut claim, store)).unwrap();
        assert!(matches!(need, Need::Plan), "{need:?}");
        let plan = plan_of("run", SaveMode::Error, &[1]);
        claim.apply(Answer::Planned(Box::new(plan))).unwrap();
        let Step::Store(create @ Op::Create { .. }) = claim.next() else {
            panic!("{:?}", claim.next())
        };
        assert_eq!(claim.foresee(), None);
        claim.apply(block_on(perform(store, create)).unwrap()).unwrap();
        assert_eq!(claim.next(), Step::Store(Op::list(EPOCHS)));
        assert_eq!(claim.foresee(), Some(Op::get(epoch_key(1))));
        claim
    }

    #[test]
    fn what_is_foreseen_is_not_asked_for_again_unless_it_was_not_there() {
        let store = MapStore::default();
        let mut claim = created(&store);
        assert!(matches!(block_on(advance(&mut claim, &store)), Ok(Need::Done(_))));

        // A newer epoch of the same run: what was foreseen is not what is needed.
        let store = MapStore::default();
        let mut claim = created(&store);
        let plan = block_on(perform(&store, Op::get(epoch_key(1)))).unwrap();
        let Answer::Got(Some(plan)) = plan else {
            panic!("{plan:?}")
        };
        store.insert(&epoch_key(2), plan);
        let Ok(Need::Done(crate::commit::ClaimOutcome::Claimed(claimed))) =
            block_on(advance(&mut claim, &store))
        else {
            panic!("not claimed")
        };
        assert_eq!((claimed.epoch, claimed.resumed), (2, true));
    }

    #[test]
    fn jitter_stays_within_a_quarter_and_varies() {
        let draws: Vec<f64> = (0..64)
            .map(|_| jittered(Duration::from_secs(4)).as_secs_f64())
            .collect();
        assert!(draws.iter().all(|seconds| (3.0..=5.0).contains(seconds)));
        assert!(draws.iter().any(|seconds| *seconds != draws[0]));
    }
}
