//! Notes: what replicas tell each other beside the records.
//!
//! A replica that goes on with units of others says which one it takes, so that little is done twice. A replica that
//! was started before says which of its own units it takes, so that a unit which kills every process that takes it is
//! found out. Notes decide nothing about what is committed: one that is lost, late or left behind by the dead costs
//! double work or a pause. What to make of them is [`plan::help`](crate::plan::help)'s business.

use std::collections::{BTreeMap, BTreeSet};

use super::layout::{Note, epoch_folder};
use super::{Claimed, whole_records};
use crate::error::Result;
use crate::storage::{Created, Store};

/// How far all replicas of a run have come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Units with a record.
    pub committed: BTreeSet<u32>,
    /// How often each unit was taken by somebody else than its owner.
    pub helped: BTreeMap<u32, u32>,
    /// How often each unit was taken by an owner that had been started before.
    pub tried: BTreeMap<u32, u32>,
    /// How often each replica was started.
    pub starts: BTreeMap<u32, u32>,
}

/// Finds out how far the run has come, in one listing.
pub async fn progress(store: &dyn Store, claimed: &Claimed) -> Result<Progress> {
    let listing = store.list(&epoch_folder(claimed.epoch)).await?;
    let units = claimed.plan.units.len() as u32;
    let mut progress = Progress::default();
    for entry in &listing {
        match Note::parse(&entry.key, claimed.epoch) {
            Some((Note::Help { unit }, _)) if unit < units => *progress.helped.entry(unit).or_default() += 1,
            Some((Note::Try { unit, .. }, _)) if unit < units => {
                *progress.tried.entry(unit).or_default() += 1
            }
            Some((Note::Start { replica }, _)) => *progress.starts.entry(replica).or_default() += 1,
            _ => {}
        }
    }
    let committed = whole_records(store, claimed, &listing).await?;
    progress.committed = committed.into_keys().collect();
    Ok(progress)
}

/// Makes the `nth` such note. False: somebody else has made it, or it isn't known who.
pub async fn make(store: &dyn Store, claimed: &Claimed, note: Note, nth: u32, replica: usize) -> bool {
    let key = note.key(nth, claimed.epoch);
    let body = serde_json::json!({ "replica": replica }).to_string();
    match store.create(&key, body.into()).await {
        Ok(created) => created == Created::Yes,
        Err(error) => {
            tracing::debug!(%error, key, "a note could not be made");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commit::testing::{MapStore, block_on, plan_of, request, rows_of};
    use crate::commit::{ClaimOutcome, claim, commit_unit};
    use crate::config::SaveMode;

    fn claimed(store: &MapStore) -> Claimed {
        let plan = plan_of("run", SaveMode::Error, &[1, 2, 3]);
        let outcome = block_on(claim(store, request("run", SaveMode::Error), || async {
            Ok(plan)
        }));
        match outcome.unwrap() {
            ClaimOutcome::Claimed(claimed) => claimed,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_listing_tells_records_and_all_kinds_of_notes() {
        let store = MapStore::default();
        let claimed = claimed(&store);
        assert_eq!(block_on(progress(&store, &claimed)).unwrap(), Progress::default());
        let files = rows_of(&claimed, 1, "", "row");
        block_on(commit_unit(
            &store,
            &claimed,
            1,
            files,
            Default::default(),
            &|_| Ok(0),
        ))
        .unwrap();
        let notes = [
            (Note::Help { unit: 2 }, 0),
            (Note::Help { unit: 2 }, 1),
            (Note::Try { unit: 0, replica: 5 }, 0),
            (Note::Start { replica: 5 }, 0),
            (Note::Start { replica: 5 }, 1),
        ];
        for (note, nth) in notes {
            assert!(block_on(make(&store, &claimed, note, nth, 5)));
        }
        let expected = Progress {
            committed: [1].into(),
            helped: [(2, 2)].into(),
            tried: [(0, 1)].into(),
            starts: [(5, 2)].into(),
        };
        assert_eq!(block_on(progress(&store, &claimed)).unwrap(), expected);
    }

    #[test]
    fn of_several_helpers_one_makes_the_note() {
        let store = MapStore::default();
        let claimed = claimed(&store);
        assert!(block_on(make(&store, &claimed, Note::Help { unit: 2 }, 0, 7)));
        assert!(!block_on(make(&store, &claimed, Note::Help { unit: 2 }, 0, 8)));
    }

    #[test]
    fn notes_on_units_that_the_plan_does_not_have_are_passed_over() {
        let store = MapStore::default();
        let claimed = claimed(&store);
        store.insert(&Note::Help { unit: 3 }.key(0, claimed.epoch), "{}");
        store.insert("_floe/e1/notes/junk", "{}");
        assert_eq!(block_on(progress(&store, &claimed)).unwrap(), Progress::default());
    }
}
