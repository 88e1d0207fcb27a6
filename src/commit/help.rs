//! Help notes: a replica that goes on with units of others says which one it takes.
//!
//! A note is only a courtesy between replicas. It decides nothing about what is committed: a lost, late or forgotten
//! note costs some double work. Which unit to take, and what to make of other replicas' notes, is
//! [`plan::help`](crate::plan::help)'s business.

use std::collections::{BTreeMap, BTreeSet};

use super::layout::{epoch_folder, help_key, parse_help_key};
use super::{Claimed, record};
use crate::error::Result;
use crate::storage::{Created, Store};

/// How far all replicas of a run have come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Units with a record.
    pub committed: BTreeSet<u32>,
    /// How many notes there are on each unit that has any.
    pub notes: BTreeMap<u32, u32>,
}

/// Finds out how far the run has come, in one listing.
pub async fn progress(store: &dyn Store, claimed: &Claimed) -> Result<Progress> {
    let listing = store.list(&epoch_folder(claimed.epoch)).await?;
    let units = claimed.plan.units.len() as u32;
    let mut notes: BTreeMap<u32, u32> = BTreeMap::new();
    for entry in &listing {
        if let Some((unit, note)) =
            parse_help_key(&entry.key, claimed.epoch).filter(|(unit, _)| *unit < units)
        {
            let count = notes.entry(unit).or_default();
            *count = (*count).max(note.saturating_add(1));
        }
    }
    let committed = record::read_names(&listing, claimed.epoch, &claimed.plan)?;
    Ok(Progress {
        committed: committed.into_keys().collect(),
        notes,
    })
}

/// Makes the `note`-th note on `unit`. False: somebody else has made it, or it isn't known who.
pub async fn announce(store: &dyn Store, claimed: &Claimed, unit: u32, note: u32, replica: usize) -> bool {
    let key = help_key(claimed.epoch, unit, note);
    let body = serde_json::json!({ "replica": replica }).to_string();
    match store.create(&key, body.into()).await {
        Ok(created) => created == Created::Yes,
        Err(error) => {
            tracing::debug!(%error, key, "a help note could not be made");
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
    fn one_listing_tells_records_from_notes() {
        let store = MapStore::default();
        let claimed = claimed(&store);
        assert_eq!(block_on(progress(&store, &claimed)).unwrap(), Progress::default());
        let files = rows_of(&claimed, 1, "row");
        block_on(commit_unit(
            &store,
            &claimed,
            1,
            files,
            Default::default(),
            &|_| Ok(0),
        ))
        .unwrap();
        assert!(block_on(announce(&store, &claimed, 2, 0, 7)));
        assert!(block_on(announce(&store, &claimed, 2, 1, 8)));
        let progress = block_on(progress(&store, &claimed)).unwrap();
        assert_eq!(progress.committed, BTreeSet::from([1]));
        assert_eq!(progress.notes, BTreeMap::from([(2, 2)]));
    }

    #[test]
    fn of_several_helpers_one_makes_the_note() {
        let store = MapStore::default();
        let claimed = claimed(&store);
        assert!(block_on(announce(&store, &claimed, 2, 0, 7)));
        assert!(!block_on(announce(&store, &claimed, 2, 0, 8)));
    }

    #[test]
    fn notes_on_units_that_the_plan_does_not_have_are_passed_over() {
        let store = MapStore::default();
        let claimed = claimed(&store);
        store.insert(&help_key(claimed.epoch, 3, 0), "{}");
        store.insert("_floe/e1/help/junk", "{}");
        assert_eq!(block_on(progress(&store, &claimed)).unwrap(), Progress::default());
    }
}
