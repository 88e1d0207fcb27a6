//! Can this location do put-if-absent? Everything rests on it, so it is tried before any work.

use bytes::Bytes;

use super::layout::probe_key;
use crate::error::{Error, Result};
use crate::storage::{Created, Store};

const WHICH_CAN: &str = "choose an output on a store that can: a local disk or NFS folder on a file system with hard \
                         links; a mounted stage volume can't";

/// How often a try that was not answered is repeated. A process that fails while this one starts may take the output's
/// folder away under it, since it leaves none behind that it did not find.
const TRIES: u32 = 8;

/// Creates one object twice under a name made from `token` (random, so that no two processes share it) and removes it
/// again: the first must win and the second must be told so. An error says what the location does instead.
pub async fn probe(store: &dyn Store, token: &str) -> Result<()> {
    let mut attempt = 1;
    loop {
        // A name of its own: of an earlier try it is not known what was stored.
        let key = probe_key(&format!("{token}-{attempt}"));
        let verdict = try_twice(store, &key).await;
        let removed = store.delete(&key).await;
        match verdict {
            Ok(true) => {
                return removed
                    .map_err(|error| error.with_hint("the output must allow objects to be removed"));
            }
            Ok(false) => {
                return Err(
                    Error::storage("the output location lets two writers create the same object")
                        .with("key", key)
                        .with_hint(WHICH_CAN),
                );
            }
            Err(error) if attempt == TRIES => return Err(error.with("probe", key)),
            Err(error) => tracing::debug!(key, attempt, "probing the output again: {error}"),
        }
        attempt += 1;
    }
}

/// Whether the store did what it must. An error says that it didn't answer.
async fn try_twice(store: &dyn Store, key: &str) -> Result<bool> {
    let first = create(store, key, b"first").await?;
    let second = create(store, key, b"second").await?;
    let stored = store.get(key).await?;
    Ok((first, second) == (Created::Yes, Created::Exists) && stored.as_deref() == Some(b"first"))
}

async fn create(store: &dyn Store, key: &str, body: &'static [u8]) -> Result<Created> {
    let created = store.create(key, Bytes::from_static(body)).await;
    created.map_err(|error| {
        if error.hint().is_some() {
            // No room, no permission: the store knows what to do about it.
            return error;
        }
        Error::storage("the output location can't create an object only if its name is free")
            .with_source(error)
            .with_hint(WHICH_CAN)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commit::testing::MapStore;
    use crate::storage::Entry;
    use async_trait::async_trait;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// Stores an object and says that it could not, so many times.
    struct Unsteady(MapStore, AtomicU32);

    #[async_trait]
    impl Store for Unsteady {
        async fn list(&self, prefix: &str) -> Result<Vec<Entry>> {
            self.0.list(prefix).await
        }
        async fn get(&self, key: &str) -> Result<Option<Bytes>> {
            self.0.get(key).await
        }
        async fn head(&self, key: &str) -> Result<Option<u64>> {
            self.0.head(key).await
        }
        async fn create(&self, key: &str, body: Bytes) -> Result<Created> {
            let created = self.0.create(key, body).await;
            let left = self.1.load(Ordering::Relaxed);
            self.1.store(left.saturating_sub(1), Ordering::Relaxed);
            if left > 0 {
                Err(Error::storage("the folder is gone"))
            } else {
                created
            }
        }
        async fn put(&self, key: &str, body: Bytes) -> Result<()> {
            self.0.put(key, body).await
        }
        async fn delete(&self, key: &str) -> Result<()> {
            self.0.delete(key).await
        }
    }

    #[tokio::test]
    async fn a_try_that_was_not_answered_is_repeated_under_another_name() {
        for (failures, passes) in [(1, true), (TRIES - 1, true), (TRIES, false)] {
            let store = Unsteady(MapStore::default(), AtomicU32::new(failures));
            let verdict = probe(&store, "t").await;
            assert_eq!(verdict.is_ok(), passes, "{failures}: {verdict:?}");
            assert!(
                store.0.0.lock().unwrap().0.is_empty(),
                "the probe is removed again"
            );
        }
    }
}
