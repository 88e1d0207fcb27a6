//! What a process saw of the output when it started, to be seen once more.
//!
//! Naming the run and claiming the output begin with the same questions: which epochs are there, whose is the newest, is
//! there a marker? On a store each answer takes a while, and other things have to be found out at the start as well. So
//! [`look`] asks them once, while the rest goes on, and [`Recall`] gives the answers again, in the order in which they were
//! got: the machine that gets them does what it would have done had it started then and been slow since, which the protocol
//! allows for anyway. Where it asks anything else, the store answers from there on.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use super::epochs::read_epochs;
use super::layout::{EPOCHS, MARKER, epoch_key};
use crate::config::SaveMode;
use crate::error::Result;
use crate::storage::{Created, Entry, Rope, Store};

/// Answers of the store, the first one first.
#[derive(Clone, Debug, Default)]
pub struct Seen(VecDeque<Answered>);

#[derive(Clone, Debug)]
enum Answered {
    List(String, Vec<Entry>),
    Get(String, Option<Bytes>),
}

/// Looks at the output as [`Claim`](super::claim::Claim) does at first.
///
/// # Errors
/// `Storage`, and `Data` for a state that no process of Floe leaves.
pub async fn look(store: &dyn Store, mode: SaveMode) -> Result<Seen> {
    let mut seen = VecDeque::new();
    let listing = store.list(EPOCHS).await?;
    let newest = read_epochs(&listing)?.pop();
    seen.push_back(Answered::List(EPOCHS.into(), listing));
    if let Some(newest) = newest {
        let key = epoch_key(newest);
        let body = store.get(&key).await?;
        seen.push_back(Answered::Get(key, body));
    }
    let marker = store.get(MARKER).await?;
    let is_free = newest.is_none() && marker.is_none();
    seen.push_back(Answered::Get(MARKER.into(), marker));
    if is_free && mode == SaveMode::Error {
        seen.push_back(Answered::List(String::new(), store.list("").await?));
    }
    Ok(Seen(seen))
}

/// A store whose first answers are those that were [seen](Seen), as long as the same is asked.
pub struct Recall<'a> {
    store: &'a dyn Store,
    seen: Mutex<VecDeque<Answered>>,
}

impl<'a> Recall<'a> {
    /// Recalls `seen`, then asks `store`.
    pub fn new(store: &'a dyn Store, seen: Seen) -> Recall<'a> {
        Recall {
            store,
            seen: Mutex::new(seen.0),
        }
    }

    /// The next answer, if it is one to what is asked; else none is recalled any more.
    fn recall(&self, is_asked: impl FnOnce(&Answered) -> bool) -> Option<Answered> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let next = seen.pop_front().filter(is_asked);
        if next.is_none() {
            seen.clear();
        }
        next
    }

    fn forget(&self) {
        self.recall(|_| false);
    }
}

#[async_trait]
impl Store for Recall<'_> {
    async fn list(&self, prefix: &str) -> Result<Vec<Entry>> {
        match self.recall(|next| matches!(next, Answered::List(asked, _) if asked == prefix)) {
            Some(Answered::List(_, listing)) => Ok(listing),
            _ => self.store.list(prefix).await,
        }
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        match self.recall(|next| matches!(next, Answered::Get(asked, _) if asked == key)) {
            Some(Answered::Get(_, body)) => Ok(body),
            _ => self.store.get(key).await,
        }
    }

    async fn head(&self, key: &str) -> Result<Option<u64>> {
        self.forget();
        self.store.head(key).await
    }

    async fn create(&self, key: &str, body: Rope) -> Result<Created> {
        self.forget();
        self.store.create(key, body).await
    }

    async fn put(&self, key: &str, body: Rope) -> Result<()> {
        self.forget();
        self.store.put(key, body).await
    }

    async fn delete(&self, key: &str) -> Result<()> {
        self.forget();
        self.store.delete(key).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commit::testing::{MapStore, block_on, plan_of, request};
    use crate::commit::{ClaimOutcome, claim};

    fn claim_with(store: &MapStore, seen: Seen, run: &str, mode: SaveMode) -> Result<ClaimOutcome> {
        let recall = Recall::new(store, seen);
        let plan = plan_of(run, mode, &[1]);
        block_on(claim(&recall, request(run, mode), || async { Ok(plan) }))
    }

    #[test]
    fn answers_come_once_in_their_order_and_none_after_another_question() {
        let store = MapStore::default();
        let seen = block_on(look(&store, SaveMode::Error)).unwrap();
        store.insert(MARKER, "later".to_string());
        let marker = |recall: &Recall<'_>| block_on(recall.get(MARKER)).unwrap().is_some();
        let epochs = |recall: &Recall<'_>| block_on(recall.list(EPOCHS)).unwrap().len();

        let recall = Recall::new(&store, seen.clone());
        assert_eq!((epochs(&recall), marker(&recall)), (0, false));
        assert!(block_on(recall.list("")).unwrap().is_empty());
        assert!(marker(&recall), "all has been recalled");

        let recall = Recall::new(&store, seen.clone());
        assert!(marker(&recall), "asked out of turn");
        assert_eq!(block_on(recall.list("")).unwrap().len(), 1);

        let recall = Recall::new(&store, seen);
        epochs(&recall);
        block_on(recall.head("x")).unwrap();
        assert!(marker(&recall), "something else was asked in between");
    }

    #[test]
    fn what_came_since_is_found_all_the_same() {
        // Another run took the output after the look: the create does not succeed, and the listing tells why.
        let store = MapStore::default();
        let seen = block_on(look(&store, SaveMode::Error)).unwrap();
        claim_with(&store, Seen::default(), "other", SaveMode::Error).unwrap();
        let error = claim_with(&store, seen, "run", SaveMode::Error).unwrap_err();
        assert_eq!(error.kind(), crate::error::ErrorKind::NotEmpty, "{error}");

        // A replica of the same run did: its plan is taken.
        let store = MapStore::default();
        let seen = block_on(look(&store, SaveMode::Error)).unwrap();
        claim_with(&store, Seen::default(), "run", SaveMode::Error).unwrap();
        match claim_with(&store, seen, "run", SaveMode::Error).unwrap() {
            ClaimOutcome::Claimed(claimed) => assert!(claimed.resumed && claimed.epoch == 1),
            other => panic!("{other:?}"),
        }
    }
}
