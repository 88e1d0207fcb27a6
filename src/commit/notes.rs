//! Notes: what replicas tell each other beside the records.
//!
//! A replica that goes on with units of others says which one it takes, so that little is done twice. A replica that
//! was started before says which of its own units it takes, so that a unit which kills every process that takes it is
//! found out. Notes decide nothing about what is committed: one that is lost, late or left behind by the dead costs
//! double work or a pause. What to make of them is [`plan::help`](crate::plan::help)'s business.

use std::collections::BTreeMap;
use std::time::Duration;

use super::layout::{Note, RecordName, epoch_folder};
use super::record::Record;
use super::{Claimed, whole_records};
use crate::error::Result;
use crate::storage::{Created, Store};

/// How far all replicas of a run have come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Units with a record, and its name.
    pub committed: BTreeMap<u32, RecordName>,
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
    progress.committed = whole_records(store, claimed, &listing).await?;
    Ok(progress)
}

/// The key in a record's stats of how long the unit was in the hands of whoever committed it, in seconds.
pub const TOOK_SECS: &str = "took_secs";

/// How long a unit was in the hands of whoever committed it; `None` if its record doesn't tell.
pub async fn took(store: &dyn Store, claimed: &Claimed, name: RecordName) -> Option<Duration> {
    let body = store.get(&name.key(claimed.epoch)).await.ok()??;
    let record = Record::read(&body, name, claimed.epoch).ok()?;
    let secs = record.stats.get(TOOK_SECS)?.as_f64()?;
    Duration::try_from_secs_f64(secs).ok()
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

    /// Commits unit 1.
    fn commit(store: &MapStore, claimed: &Claimed, stats: serde_json::Value) {
        let files = rows_of(claimed, 1, "", "row");
        let stats = stats.as_object().unwrap().clone();
        block_on(commit_unit(store, claimed, 1, files, stats, &|_| Ok(0))).unwrap();
    }

    #[test]
    fn one_listing_tells_records_and_all_kinds_of_notes() {
        let store = MapStore::default();
        let claimed = claimed(&store);
        assert_eq!(block_on(progress(&store, &claimed)).unwrap(), Progress::default());
        commit(&store, &claimed, serde_json::json!({ "took_secs": 2.5 }));
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
        let found = block_on(progress(&store, &claimed)).unwrap();
        assert_eq!(found.committed.keys().collect::<Vec<_>>(), [&1]);
        assert_eq!(found.helped, [(2, 2)].into());
        assert_eq!(found.tried, [(0, 1)].into());
        assert_eq!(found.starts, [(5, 2)].into());
    }

    #[test]
    fn a_record_tells_how_long_its_unit_took_or_nothing() {
        for (stats, expected) in [
            (
                serde_json::json!({ "took_secs": 2.5 }),
                Some(Duration::from_millis(2500)),
            ),
            (serde_json::json!({ "took_secs": -1.0 }), None),
            (serde_json::json!({ "took_secs": "long" }), None),
            (serde_json::json!({}), None),
        ] {
            let store = MapStore::default();
            let claimed = claimed(&store);
            commit(&store, &claimed, stats);
            let name = block_on(progress(&store, &claimed)).unwrap().committed[&1];
            assert_eq!(block_on(took(&store, &claimed, name)), expected);
        }
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
